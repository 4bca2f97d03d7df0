"""The study in other environments than the locked one: Google Colab's versions, and the oldest that pyproject allows.

Making them takes minutes and the network, so these tests run only where FASHION_MNIST_ENVIRONMENTS=1, as in .ci/run.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from fashion_mnist import files
from fashion_mnist.headless import colab, runner

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data.zip"
CONSTRAINTS = ROOT / "tests" / "colab-constraints.txt"
NOTEBOOKS = [path.stem for path in runner.notebooks(root=ROOT)]
TESTING = ["pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("FASHION_MNIST_ENVIRONMENTS"), reason="needs FASHION_MNIST_ENVIRONMENTS=1"),
]


def run(command, **environment):
    """Run a command of another environment, from which nothing of this one is to be seen; what it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FASHION_MNIST_ROOT")}
    command = list(map(str, command))
    done = subprocess.run(command, capture_output=True, text=True, env={**kept, **environment}, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def make(name, python, *requirements):
    """Path of the Python of an environment below build/, made anew if what it is made of has changed."""
    folder = ROOT / "build" / "environments" / name
    stamp, uv = folder / "made-of.json", [ROOT / "build" / "uv" / "bin" / "uv", "--quiet"]
    cache = {"UV_CACHE_DIR": str(ROOT / "build" / "uv-cache"), "UV_PYTHON_DOWNLOADS": "never"}
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (CONSTRAINTS, ROOT / "pyproject.toml")]
    made_of = json.dumps([python, requirements, contents])
    with files.alone(folder.parent, "makes the environments", wait=True):  # tests run in several processes
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != made_of:
            run(["make", "-s", "build/uv/.done"])
            shutil.rmtree(folder, ignore_errors=True)
            run([*uv, "venv", "--seed", "--python", python, folder], **cache)
            run([*uv, "pip", "install", "--python", folder, *requirements], **cache)
            run([*uv, "pip", "install", "--python", folder, *TESTING], **cache)
            stamp.write_text(made_of, encoding="utf-8")
    return folder / "bin" / "python"


def first_of(*versions):
    """The first of these Pythons that this machine has, pyenv's included, or the one that runs the tests."""
    for version in versions:
        found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        for command in (f"python{version}", *map(str, found)):
            with contextlib.suppress(OSError):
                if subprocess.run([command, "-c", "import ensurepip"], capture_output=True).returncode == 0:
                    return command
    return sys.executable


@pytest.fixture(scope="module")
def colab_python():
    """With the versions that Colab has, and its Python 3.12 where this machine has one."""
    return make("colab", first_of("3.12"), "--requirement", str(CONSTRAINTS))


@pytest.fixture(scope="module")
def oldest_python():
    """With the oldest versions of our direct requirements."""
    oldest = first_of("3.10", "3.11")
    return make("oldest", oldest, "--resolution", "lowest-direct", "--requirement", str(ROOT / "pyproject.toml"))


@pytest.fixture(params=["oldest", "colab"])
def python(request):
    return request.getfixturevalue(f"{request.param}_python")


CHECK = """
from pathlib import Path
from fashion_mnist import data, networks
dataset, root = data.load(), Path({root!r})
shipped = [network for network in networks.every(root, dataset.fingerprint).values() if network.has_weights]
for network in shipped:
    print(network.check(dataset.x_test[:1000]))
print(len(shipped), "networks with weights")
"""


def test_shipped_networks_answer_as_they_did(python, real_data):
    """`Network.check` fails if classes differ on more than one image in a thousand, or a probability by 0.01."""
    with_weights = list((ROOT / "models").glob("*.safetensors"))
    if not with_weights:
        pytest.skip("models/ holds no weights")
    code = CHECK.format(root=str(ROOT))
    said = run([python, "-c", code], PYTHONPATH=str(ROOT / "src"), FASHION_MNIST_DATA=str(real_data)).splitlines()
    assert said[-1] == f"{len(with_weights)} networks with weights"
    assert len(said) - 1 == len(with_weights)


def test_core_tests_pass(python):
    tests = [ROOT / "tests" / f"test_{name}.py" for name in ("models", "training")]
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider"]
    said = run([python, "-m", "pytest", *options, *tests], PYTHONPATH=str(ROOT / "src"))
    assert " passed" in said.splitlines()[-1]


@pytest.fixture
def kernel(colab_python, tmp_path, monkeypatch):
    """Name of a kernel of the environment that is like Colab's."""
    folder = tmp_path / "jupyter" / "kernels" / "colab"
    folder.mkdir(parents=True)
    command = [str(colab_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "colab", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("PYTHONPATH", "FASHION_MNIST_ROOT", "FASHION_MNIST_DATA"):
        monkeypatch.delenv(name, raising=False)
    return "colab"


def execute(name, kernel, folder, profile, data):
    """Execute a copy as if it alone had been uploaded into an empty folder; its code cells."""
    (copy,) = colab.write_colab([name], folder / "copies")
    notebook = nbformat.read(copy.path, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = f"PROFILE, SEED, DATA = {profile!r}, 0, {str(data)!r}"
    content = folder / "content"
    content.mkdir()
    client = nbclient.NotebookClient(
        notebook, kernel_name=kernel, timeout=1200, resources={"metadata": {"path": content}}
    )
    environment = ROOT / "build" / "environments" / "colab"
    with files.alone(environment.parent, "sets Colab's environment up", wait=True):
        # The set-up cell of the first copy installs what the environment lacks: no other one beside it.
        if is_first := not (environment / "set-up").exists():
            client.execute()
            (environment / "set-up").touch()
    if not is_first:
        client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name not in runner.SUMMARIES])
def test_a_copy_for_colab_runs_alone(name, kernel, tmp_path):
    cells = execute(name, kernel, tmp_path, "smoke", SAMPLE)
    assert all(cell.execution_count for cell in cells if cell.source.strip())
    assert (tmp_path / "content" / "build" / "smoke").is_dir()


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name in runner.SUMMARIES or name[:2] in ("02", "08")])
def test_a_copy_for_colab_shows_the_study_on_the_real_data(name, kernel, tmp_path, real_data):
    if name in runner.SUMMARIES and not list((ROOT / "models").glob("*.safetensors")):
        pytest.skip("models/ holds no weights")
    cells = execute(name, kernel, tmp_path, "quick", real_data)
    assert any(output.get("data", {}).get("image/png") for cell in cells for output in cell.outputs)


def test_colab_keeps_the_versions_that_it_has(kernel, colab_python, tmp_path):
    execute(NOTEBOOKS[0], kernel, tmp_path, "smoke", SAMPLE)
    frozen = run([colab_python, "-m", "pip", "freeze"]).lower().replace("-", "_").splitlines()
    wanted = CONSTRAINTS.read_text(encoding="utf-8").lower().replace("-", "_").splitlines()
    assert {line for line in wanted if "==" in line} <= set(frozen)
    assert any(line.startswith("cleanlab==") for line in frozen), "installed by the set-up cell"


@pytest.mark.parametrize("folder", ["", "notebooks"])
def test_the_tour_opens_after_pip_install_alone(folder, tmp_path):
    """The starting projects' own way: `pip install -r requirements.txt`, then Jupyter, from either folder."""
    python = make("requirements", first_of("3.12", "3.11"), "--requirement", str(ROOT / "requirements.txt"))
    notebook = (ROOT / "notebooks" / "main.ipynb").relative_to(ROOT / folder)
    command = [python, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", tmp_path, notebook]
    surroundings = {**os.environ, "FASHION_MNIST_DATA": str(SAMPLE)}
    done = subprocess.run(command, cwd=ROOT / folder, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "SAMPLE DATA" in (tmp_path / "main.ipynb").read_text(encoding="utf-8")

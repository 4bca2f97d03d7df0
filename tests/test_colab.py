"""The copies for Colab, executed where this package is not installed."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbclient
import nbformat
import pytest

from fashion_mnist import files
from fashion_mnist.headless import colab, expert, runner

ROOT = Path(__file__).parents[1]
new_code, new_markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell

USES_PACKAGE = """
import os, subprocess, sys, fashion_mnist
from fashion_mnist import data
child = subprocess.run([sys.executable, "-S", "-c", "import fashion_mnist; print(fashion_mnist.__file__)"],
                       capture_output=True, text=True).stdout.strip()
print(fashion_mnist.__file__, child, data.root(), sep="\\n")
"""


READ = {
    "models/small_seed0.json": 300,
    "models/small_seed0.safetensors": 1000,
    "models/small_seed1.safetensors": 900,
    "models/large_seed0.json": 300,
    "models/large_seed0.safetensors": 4000,
    "results/predictions/small_seed0.npz": 500,
    "results/predictions/small_seed1.npz": 400,
    "results/predictions/large_seed0.npz": 600,
    "results/arrays/01_tiny.npz": 700,
}

WEIGHTS = [f"models/{name}.safetensors" for name in ("large_seed0", "small_seed1", "small_seed0")]  # least wanted first


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with two tiny notebooks, of which main has a record that says what it read, and more than that."""
    root = tmp_path / "project"
    for name in ("01_tiny", "main"):
        parameters = new_code('PROFILE = "smoke"', id="parameters", metadata={"tags": ["parameters"]})
        used = new_code(USES_PACKAGE, id="use", execution_count=3)
        used.outputs = [nbformat.v4.new_output("stream", text="an old output\n")]
        used.source += "# shows shown.png"
        notebook = nbformat.v4.new_notebook(
            cells=[new_markdown("# Tiny", id="title"), parameters, used],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "fashion_mnist": {"seed": 0}},
        )
        files.write_text(root / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
    for name, size in {**READ, "models/unused.json": 300, "images/shown.png": 10, "images/other.png": 10}.items():
        files.write_bytes(root / name, os.urandom(size))  # does not shrink when compressed
    files.write_json(
        root / "results" / "main.json", {"reads": {**dict.fromkeys(READ, "hash"), "results/gone.json": "x"}}
    )
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(root))
    return root


@pytest.fixture
def bare_kernel(tmp_path, monkeypatch):
    """Name of a kernel that has every installed package except this one.

    An editable install is a .pth file, which -S leaves unread; PYTHONPATH then brings the other packages back.
    """
    folder = tmp_path / "jupyter" / "kernels" / "bare"
    folder.mkdir(parents=True)
    command = [sys.executable, "-S", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    packages = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    spec = {"argv": command, "display_name": "bare", "language": "python", "env": {"PYTHONPATH": packages}}
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return "bare"


def execute(path, folder, kernel, monkeypatch, before=()):
    """Run a copy as if uploaded into `folder`; the texts its code cells print."""
    monkeypatch.delenv("FASHION_MNIST_ROOT", raising=False)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[:0] = [new_code(source) for source in before]
    folder.mkdir(exist_ok=True)
    nbclient.NotebookClient(
        notebook, kernel_name=kernel, timeout=120, resources={"metadata": {"path": folder}}
    ).execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells if "outputs" in cell]


def archive_of(path):
    """The archive that a copy carries."""
    source = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == "colab-set-up")
    return zipfile.ZipFile(io.BytesIO(base64.b64decode(re.search(r'"""\n([A-Za-z0-9+/=\n]+)\n"""', source)[1])))


def test_runs_where_the_package_is_not_installed(project, bare_kernel, tmp_path, monkeypatch):
    (copy,) = colab.write_colab(["01_tiny"])
    assert copy.path == project / "build" / "colab" / "01_tiny.ipynb"
    uploaded = tmp_path / "content"
    check = "import importlib.util; print(importlib.util.find_spec('fashion_mnist'))"
    before, set_up, _, used = execute(copy.path, uploaded, bare_kernel, monkeypatch, [check])
    assert before == "None\n"
    assert "Installing" not in set_up
    here, in_child, root = used.splitlines()
    assert Path(here).is_relative_to(uploaded / "fashion_mnist_package")
    assert in_child == here  # kernels and workers started from the notebook find it too
    assert Path(root) == uploaded


def test_a_copy_carries_what_its_record_says_was_read(project, bare_kernel, tmp_path, monkeypatch):
    (copy,) = colab.write_colab(["main"])
    assert set(copy.carried) == {*READ, "results/main.json", "images/shown.png"}
    assert copy.left_out == ()
    uploaded = tmp_path / "content"
    files.write_text(uploaded / "results" / "main.json", "made here")
    execute(copy.path, uploaded, bare_kernel, monkeypatch)
    assert (uploaded / "results" / "main.json").read_text(encoding="utf-8") == "made here", "not overwritten"
    for name in READ:
        assert (uploaded / name).read_bytes() == (project / name).read_bytes()
    assert not (uploaded / "models" / "unused.json").exists()


@pytest.mark.parametrize(
    ("limit", "left_out"),
    [
        (6000, WEIGHTS[:1]),
        (4700, WEIGHTS[:2]),
        (3900, [*WEIGHTS[:2], "results/predictions/small_seed1.npz"]),
        (2800, [*WEIGHTS, "results/predictions/small_seed1.npz"]),
    ],
)
def test_what_is_wanted_least_is_left_out_first(project, monkeypatch, limit, left_out):
    """Large weights, the weights of second seeds, their predictions."""
    monkeypatch.setattr(colab, "LIMIT", limit)
    (copy,) = colab.write_colab(["main"])
    assert set(copy.left_out) == set(left_out)
    explanation = nbformat.read(copy.path, as_version=4).cells[1].source
    assert all(name in explanation for name in left_out)


@pytest.mark.parametrize("path", runner.notebooks(root=ROOT), ids=lambda path: path.stem)
def test_a_copy_has_weights_of_every_kind_of_network_whose_weights_its_notebook_reads(path):
    """Of a second seed the predictions suffice."""
    found = colab._read_by(path.stem, path.read_text(encoding="utf-8"), ROOT)
    chosen, _ = colab._choose(found)
    read, carried = (
        {re.sub(r"_seed\d+", "", name) for name in names if name.endswith(".safetensors")} for names in (found, chosen)
    )
    assert carried == read


def test_installs_what_is_missing_and_says_when_it_cannot(project, bare_kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(colab, "needed", lambda sources: {"numpy": "numpy>=1.26", "nowhere": "nowhere-to-be-found>=1"})
    (copy,) = colab.write_colab(["01_tiny"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(
        nbclient.exceptions.CellExecutionError, match="pip could not install nowhere-to-be-found>=1"
    ) as caught:
        execute(copy.path, tmp_path / "content", bare_kernel, monkeypatch)
    assert "numpy" not in str(caught.value.evalue)


def test_copy_is_clean_and_in_order(project):
    (copy,) = colab.write_colab(["01_tiny"])
    notebook = nbformat.read(copy.path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["title", "colab-explanation", "colab-set-up", "parameters", "use"]
    assert notebook.cells[3].metadata.tags == ["parameters"]
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert "fashion_mnist" not in notebook.metadata


def test_without_a_record_a_copy_carries_the_ground_floor_only(project):
    (copy,) = colab.write_colab(["01_tiny"])
    names = archive_of(copy.path).namelist()
    assert copy.carried == ()
    assert {"package/fashion_mnist/__init__.py", "package/fashion_mnist/data.py"} <= set(names)
    assert all(name.startswith("package/fashion_mnist/") and "__pycache__" not in name for name in names)
    assert not any("headless" in name for name in names)


@pytest.mark.parametrize("new_cell", [new_code, new_markdown], ids=["in code", "in words"])
def test_a_copy_that_shows_the_demo_carries_all_of_it(project, new_cell):
    path = project / "notebooks" / "01_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_cell("from fashion_mnist.headless import demo", id="demo"))
    nbformat.write(notebook, path)
    (copy,) = colab.write_colab(["01_tiny"])
    names = {name.removeprefix("package/fashion_mnist/") for name in archive_of(copy.path).namelist()}
    assert {name for name in names if name.startswith("headless/")} == {
        f"headless/{module}.py" for module in ("__init__", "demo", "expert", "measure")
    }


ANSWERS = """
from fashion_mnist.headless import demo, expert
one = expert.Expert(expert.find())
print(one.network.name, one.measured is not None, demo.__file__)
"""


def test_the_demo_of_the_tour_has_its_network_and_knows_what_is_no_garment(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(ROOT))
    (copy,) = colab.write_colab(["main"], tmp_path)
    archive_of(copy.path).extractall(tmp_path)
    surroundings = {**os.environ, "FASHION_MNIST_ROOT": str(tmp_path), "PYTHONPATH": str(tmp_path / "package")}
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS], env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name, measured, place = done.stdout.split()
    assert (name, measured) == (expert.find().name, "True") and Path(place).is_relative_to(tmp_path)


def test_a_package_is_installed_without_touching_those_that_are_there(project, bare_kernel, tmp_path, monkeypatch):
    """A wheel that wants another numpy than is installed is refused, not obeyed."""
    wheel = tmp_path / "wheels" / "nowhere_to_be_found-1-py3-none-any.whl"
    wheel.parent.mkdir()
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: nowhere-to-be-found\nVersion: 1\nRequires-Dist: numpy==1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in about.items():
            archive.writestr(f"nowhere_to_be_found-1.dist-info/{name}", content)
    monkeypatch.setattr(colab, "needed", lambda sources: {"nowhere": "nowhere-to-be-found>=1"})
    (copy,) = colab.write_colab(["01_tiny"])
    for name, value in {"NO_INDEX": "1", "CONFIG_FILE": os.devnull, "FIND_LINKS": wheel.parent.as_uri()}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="conflict") as caught:
        execute(copy.path, tmp_path / "content", bare_kernel, monkeypatch)
    assert "numpy" in str(caught.value.evalue)


def test_same_files_give_the_same_bytes(project, tmp_path):
    first = colab.write_colab(target=tmp_path / "first")
    for path in project.rglob("*"):
        os.utime(path, (1, 1))
    second = colab.write_colab(target=tmp_path / "second")
    assert [copy.path.name for copy in first] == ["01_tiny.ipynb", "main.ipynb"]
    assert [copy.path.read_bytes() for copy in first] == [copy.path.read_bytes() for copy in second]


def test_needed_are_the_requirements_that_are_imported():
    found = colab.needed(["import numpy as np\nfrom sklearn.cluster import KMeans", "    import openTSNE\nimport os"])
    assert found.keys() == {"numpy", "sklearn", "openTSNE"}
    assert found["sklearn"].startswith("scikit-learn>=")
    assert found["openTSNE"].startswith("opentsne>=")


def test_what_only_the_command_line_needs_is_not_installed(project):
    (copy,) = colab.write_colab(["01_tiny"])
    source = next(cell.source for cell in nbformat.read(copy.path, as_version=4).cells if cell.id == "colab-set-up")
    wanted = source[source.rindex("\nset_up(") :]
    assert "'tensorflow>=" in wanted and "'safetensors>=" in wanted
    assert not any(f"'{name}>=" in wanted for name in ("papermill", "nbconvert", "jupyter", "pytest"))


def test_unknown_notebook_lists_those_there_are(project):
    with pytest.raises(ValueError, match="01_tiny, main"):
        colab.write_colab(["02_missing"])

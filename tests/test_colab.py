"""The copies for Colab, executed where this package is not installed."""

import base64
import io
import json
import os
import re
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbclient
import nbformat
import pytest

from fashion_mnist import colab

new_code, new_markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell

USES_PACKAGE = """
import os, subprocess, sys, fashion_mnist
from fashion_mnist import data
child = subprocess.run([sys.executable, "-S", "-c", "import fashion_mnist; print(fashion_mnist.__file__)"],
                       capture_output=True, text=True).stdout.strip()
print(fashion_mnist.__file__, child, data.root(), sep="\\n")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with two tiny notebooks, three models and a result."""
    root = tmp_path / "project"
    for folder in ("notebooks", "models", "results", "images"):
        (root / folder).mkdir(parents=True)
    for name in ("01_tiny", "main"):
        parameters = new_code('PROFILE = "smoke"', id="parameters", metadata={"tags": ["parameters"]})
        used = new_code(USES_PACKAGE, id="use", execution_count=3)
        used.outputs = [nbformat.v4.new_output("stream", text="an old output\n")]
        notebook = nbformat.v4.new_notebook(
            cells=[new_markdown("# Tiny\n\nSee shown.png.", id="title"), parameters, used],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "fashion_mnist": {"seed": 0}},
        )
        nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
    for name, size in (("small", 10), ("middle", 20), ("large", 4000)):
        (root / "models" / f"{name}.keras").write_bytes(os.urandom(size))
        (root / "models" / f"{name}.json").write_text("{}", encoding="utf-8")
    (root / "results" / "01_tiny.json").write_text('{"headline": {}}', encoding="utf-8")
    for name in ("shown", "other"):
        (root / "images" / f"{name}.png").write_bytes(name.encode())
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


def test_tour_brings_results_and_models_but_keeps_what_is_there(project, bare_kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(colab, "MODELS_LIMIT", 1000)
    (copy,) = colab.write_colab(["main"])
    assert copy.models == ("middle", "small")
    assert copy.left_out == ("large",)
    explanation = nbformat.read(copy.path, as_version=4).cells[1].source
    assert re.search(r"1 result files.+`middle`, `small`", explanation)
    assert re.search(r"Left out.+0.001 MB.+`large`", explanation)

    uploaded = tmp_path / "content"
    (uploaded / "results").mkdir(parents=True)
    (uploaded / "results" / "01_tiny.json").write_text("made here", encoding="utf-8")
    execute(copy.path, uploaded, bare_kernel, monkeypatch)
    assert (uploaded / "results" / "01_tiny.json").read_text(encoding="utf-8") == "made here"
    assert {path.name for path in (uploaded / "models").iterdir()} == {
        "middle.keras",
        "middle.json",
        "small.keras",
        "small.json",
    }
    assert (uploaded / "models" / "small.keras").read_bytes() == (project / "models" / "small.keras").read_bytes()
    assert [path.name for path in (uploaded / "images").iterdir()] == ["shown.png"], "the figures that the tour names"


def test_a_model_that_the_notebook_names_is_brought_before_smaller_ones(project, monkeypatch):
    monkeypatch.setattr(colab, "MODELS_LIMIT", 4015)
    path = project / "notebooks" / "main.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("See shown.png.", "Loads large.keras."), encoding="utf-8")
    (copy,) = colab.write_colab(["main"])
    assert copy.models == ("large", "small")
    assert copy.left_out == ("middle",)


def test_installs_what_is_missing_and_says_when_it_cannot(project, bare_kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(colab, "_requirements", lambda: {"numpy": "numpy>=1.26", "nowhere": "nowhere-to-be-found>=1"})
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
    assert copy.size == copy.path.stat().st_size


def test_other_notebooks_carry_the_package_only(project):
    (copy,) = colab.write_colab(["01_tiny"])
    names = archive_of(copy.path).namelist()
    assert {"package/fashion_mnist/__init__.py", "package/fashion_mnist/data.py"} <= set(names)
    assert all(name.startswith("package/fashion_mnist/") and "__pycache__" not in name for name in names)


def test_same_files_give_the_same_bytes(project, tmp_path):
    first = colab.write_colab(target=tmp_path / "first")
    for path in project.rglob("*"):
        os.utime(path, (1, 1))
    second = colab.write_colab(target=tmp_path / "second")
    assert [copy.path.name for copy in first] == ["01_tiny.ipynb", "main.ipynb"]
    assert [copy.path.read_bytes() for copy in first] == [copy.path.read_bytes() for copy in second]


def test_requirements_are_those_of_the_project_by_import_name():
    requirements = colab._requirements()
    assert requirements["sklearn"].startswith("scikit-learn>=")
    assert requirements["openTSNE"].startswith("opentsne>=")
    assert {"tensorflow", "papermill"} <= requirements.keys()
    assert not {"jupyter", "pytest", "torch"} & requirements.keys()


def test_unknown_notebook_lists_those_there_are(project):
    with pytest.raises(ValueError, match="01_tiny, main"):
        colab.write_colab(["02_missing"])

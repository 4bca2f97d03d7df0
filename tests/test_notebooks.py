"""Every notebook runs at smoke, and committed outputs are those of a full run of the code they stand in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from fashion_mnist import data, study

ROOT = Path(__file__).parents[1]
NOTEBOOKS = study.notebooks(root=ROOT)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])

PARAMETERS = """\
PROFILE = "quick"  # "smoke", "quick" or "full"
SEED = 0
DATA = None  # path to the data set; None searches $FASHION_MNIST_DATA, Data/, data.zip, the official mirrors"""

# Folders that only exist on somebody's machine: home and temporary folders, mounted volumes, drives.
ABSOLUTE_PATH = re.compile(r"(?<![\w./:])(/(home|root|Users|tmp|var|mnt|media|work|content|workspace)/|[A-Z]:\\\\?\w)")


def environment(**more):
    """Our surroundings without the variables that choose data and folders."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("FASHION_MNIST_DATA", "FASHION_MNIST_ROOT")
    }
    return {**kept, **more}


def committed_files():
    folders = [ROOT / name for name in ("images", "models", "notebooks", "results")]
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}


@every_notebook
def test_runs_at_smoke_on_the_sample(path):
    """In the order of the sequence, so that `main` finds what the others made at smoke."""
    before = committed_files()
    command = [Path(sys.executable).with_name("fashion-mnist"), "run", path.stem]
    options = ["--profile", "smoke", "--data", ROOT / "data.zip", "--fresh"]
    done = subprocess.run([*command, *options], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    copy = nbformat.read(ROOT / "build" / "smoke" / "notebooks" / path.name, as_version=4)
    assert copy.metadata.fashion_mnist.kind == "sample"
    assert "SAMPLE DATA" in str(copy.cells), "the banner stands beside the numbers"
    assert committed_files() == before


def test_the_tour_runs_with_a_seed_that_no_shipped_model_has():
    """After the others ran at smoke, with seed 0."""
    command = [Path(sys.executable).with_name("fashion-mnist"), "run", "main", "--profile", "smoke", "--seed", "7"]
    done = subprocess.run(
        [*command, "--data", ROOT / "data.zip"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_papermill_runs_a_notebook_from_any_folder(tmp_path):
    command = [
        sys.executable,
        "-m",
        "papermill",
        ROOT / "notebooks" / "01_eda.ipynb",
        "out.ipynb",
        "-p",
        "PROFILE",
        "smoke",
    ]
    surroundings = environment(FASHION_MNIST_DATA=str(ROOT / "data.zip"), TF_CPP_MIN_LOG_LEVEL="3")
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Profile smoke" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"], "results go to the checkout, not here"


@every_notebook
def test_is_written_as_agreed(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters"]
    assert code[0].source == PARAMETERS
    assert f'study.start("{path.stem}", PROFILE, SEED, DATA)' in code[1].source
    generated = [cell.id for cell in notebook.cells if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", cell.id)]
    assert not generated, f"cells with a random id instead of a readable one: {generated}"
    assert all(cell.source.strip() for cell in notebook.cells), "an empty cell"


@every_notebook
def test_committed_outputs_are_those_of_this_code_on_the_official_data(path):
    notebook = nbformat.read(path, as_version=4)
    stamp = notebook.metadata.get("fashion_mnist")
    assert stamp, f"never executed; run `fashion-mnist run {path.stem} --profile full`"
    assert stamp["code"] == study.code_hash(notebook), "the code changed after the outputs were made"
    assert (stamp["profile"], stamp["seed"]) == ("full", 0)
    missing = [file for file in stamp["files"] if not (ROOT / file).is_file()]
    assert not missing, f"made by this notebook and not committed: {missing}"
    assert stamp["fingerprint"] == data.OFFICIAL_FINGERPRINT
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "cells that did not run, or not in order"


@every_notebook
def test_committed_outputs_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    assert "papermill" not in notebook.metadata
    for cell in notebook.cells:
        assert not {"papermill", "execution"} & set(cell.metadata), f"cell {cell.id} keeps traces of its execution"
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"cell {cell.id} failed: {output.get('ename')}"
            assert output.get("name") != "stderr", f"cell {cell.id} prints to standard error: {output.text}"
            texts = [output.get("text", "")]
            texts += [str(content) for kind, content in output.get("data", {}).items() if kind.startswith("text/")]
            for text in texts:
                assert not (found := ABSOLUTE_PATH.search(text)), (
                    f"cell {cell.id} shows a path: {text[found.start() :][:80]}"
                )
                assert " at 0x" not in text, f"cell {cell.id} shows the address of an object; end its last line with ;"
                assert "Path(" not in text, f"cell {cell.id} shows what a call returned; end its last line with ;"

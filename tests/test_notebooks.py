"""Every notebook runs at smoke, and committed outputs are those of a full run of the code they stand in."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from fashion_mnist import data, records, study
from fashion_mnist.headless import runner

ROOT = Path(__file__).parents[1]
NOTEBOOKS = runner.notebooks(root=ROOT)
pytestmark = pytest.mark.timeout(1800)  # the sequence takes minutes, more where other tests run beside it
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


@pytest.fixture(scope="module")
def smoke():
    """The whole sequence at smoke on the sample, once; what the checkout ships must stay untouched."""
    before = committed_files()
    command = [Path(sys.executable).with_name("fashion-mnist"), "run", "--profile", "smoke", "--fresh"]
    command += ["--data", ROOT / "data.zip"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert committed_files() == before
    return done


def test_the_sequence_runs_at_smoke_on_the_sample(smoke):
    assert smoke.returncode == 0, smoke.stderr


@every_notebook
def test_says_that_its_numbers_are_of_the_sample(path, smoke):
    copy = nbformat.read(ROOT / "build" / "smoke" / "notebooks" / path.name, as_version=4)
    assert copy.metadata.fashion_mnist.kind == "sample"
    assert "SAMPLE DATA" in str(copy.cells), "the banner stands beside the numbers"


def test_the_tour_runs_with_a_seed_that_no_shipped_network_has(smoke):
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
    copy = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert "Profile smoke" in copy and "will be the hardest class" in copy
    assert "The answer stands here" not in copy, "its place at the beginning was not filled"
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
    longest = max(code, key=lambda cell: cell.source.count("\n"))
    assert longest.source.count("\n") < 35, f"cell {longest.id} is longer than a screen"


@every_notebook
def test_committed_outputs_are_those_of_this_code_on_the_official_data(path):
    notebook = nbformat.read(path, as_version=4)
    stamp = notebook.metadata.get("fashion_mnist")
    assert stamp, f"never executed; run `fashion-mnist run {path.stem} --profile full`"
    assert stamp["code"] == runner.code_hash(notebook), "the code changed after the outputs were made"
    assert (stamp["profile"], stamp["seed"]) == ("full", 0)
    for file, digest in stamp["files"].items():
        assert (ROOT / file).is_file(), f"{file}: made by this notebook and not committed"
        assert records.digest((ROOT / file).read_bytes()) == digest, f"{file} is not the one that this notebook made"
    assert records.read(path.stem, ROOT)["run"] == stamp["run"], "the record is of another run than the outputs"
    assert stamp["fingerprint"] == data.OFFICIAL_FINGERPRINT
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "cells that did not run, or not in order"


@every_notebook
def test_a_notebook_begins_with_its_answer(path):
    if path.stem == "main":
        pytest.skip("the tour begins with everybody's")
    notebook = nbformat.read(path, as_version=4)
    setup = [cell for cell in notebook.cells if cell.cell_type == "code"][1]
    shown = [output.data["text/markdown"] for output in setup.outputs if "data" in output]
    assert shown == [study._markdown("> " + records.read(path.stem, ROOT)["summary"]).data], "run it again at full"


@every_notebook
def test_committed_outputs_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    assert not {"papermill", "widgets"} & set(notebook.metadata), "GitHub refuses a notebook with widgets"
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


def test_every_training_that_06_chooses_from_has_a_checkpoint_of_its_own():
    """Those that shared a file would drop each other's epochs where a run is killed."""
    cells = {cell.id: cell.source for cell in nbformat.read(ROOT / "notebooks/06_transfer_learning.ipynb", 4).cells}
    (named,) = re.findall(r"checkpoint = (f.*)", cells["fine-tuning"])
    known = {"product": itertools.product}
    exec("\n".join(re.findall(r"^WAYS.*", cells["choice"], re.M)), known)
    keys = ("name", "rate", "lower", "frozen")
    names = {eval(named, {"count": 5_000, **dict(zip(keys, way, strict=True))}) for way in known["WAYS"]}
    assert len(names) == len(known["WAYS"]) > 2

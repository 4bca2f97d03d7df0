"""runner.py and kernels.py: notebooks here are tiny, but kernels, papermill, files and kills are the real ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fashion_mnist import data, files
from fashion_mnist.headless import kernels, runner

PARAMETERS = """\
PROFILE = "quick"  # "smoke", "quick" or "full"
SEED = 0
DATA = None  # path to the data set; None searches $FASHION_MNIST_DATA, Data/, data.zip, the official mirrors"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and shells")


def write_idx(folder, train=120, test=40):
    """A data set of noise in the official file format; `data.load` takes it as unverified."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    return write_idx(tmp_path_factory.mktemp("noise") / "idx")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, whose sources a test may edit, for the one that runs are compared by."""
    copy = tmp_path / "src" / "fashion_mnist"
    shutil.copytree(runner.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(runner, "PACKAGE", copy)
    return copy


@pytest.fixture
def checkout(tmp_path, monkeypatch, noise, package):
    """An empty checkout with the noise for data."""
    root = (tmp_path / "checkout").resolve()
    (root / "notebooks").mkdir(parents=True)
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(root))
    monkeypatch.setenv("FASHION_MNIST_DATA", str(noise))
    return root


def write_notebook(root, name, *sources, title="A title\n\nWhat it answers.", tags=()):
    """Parameters, then these cells, the last ones tagged `tags`."""
    cells = [new_markdown_cell(f"# {title}", id="title")]
    cells.append(new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    for cell, tag in zip(reversed(cells), reversed(tags), strict=False):
        cell.metadata["tags"] = [tag]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = root / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


COUNT = """\
with open("executed.txt", "a") as file:
    print({name!r}, file=file)"""

# What `study` does, without the seconds that its imports take.
RECORD = """\
import os, sys
from pathlib import Path
from fashion_mnist import files, records
root, stage = Path(os.environ["FASHION_MNIST_ROOT"]), Path(os.environ["FASHION_MNIST_STAGE"])
files.write_text(stage / "images" / "{name}.png", "a figure")
files.write_json(stage / "results" / "{name}.json", {{
    "name": "{name}", "seed": SEED, "run": os.environ["FASHION_MNIST_RUN"], "reads": records.files_read(root),
    "modules": [name for name in sys.modules if name.startswith("fashion_mnist.")]}})"""


def executed(root):
    """Names of the notebooks that were executed since the last call."""
    log = root / "executed.txt"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# --- which notebooks, hashes -----------------------------------------------------------------------------------------


def test_numbered_notebooks_come_first_and_main_last(checkout):
    for name in ("main", "02_b", "appendix", "01_a"):
        write_notebook(checkout, name)
    (checkout / "notebooks" / ".01_a.0123456789ab.tmp.ipynb").write_text("left by a killed process")
    assert [path.stem for path in runner.notebooks()] == ["01_a", "02_b", "appendix", "main"]
    named = runner.notebooks(["main", "notebooks/02_b.ipynb", "01_a.ipynb"])
    assert [path.stem for path in named] == ["01_a", "02_b", "main"]
    with pytest.raises(ValueError, match=r"03_c.*01_a, 02_b, appendix, main"):
        runner.notebooks(["01_a", "03_c"])


def test_a_folder_without_notebooks_is_an_error(checkout):
    with pytest.raises(ValueError, match="FASHION_MNIST_ROOT"):
        runner.notebooks()


def test_the_code_hash_is_about_code_only(checkout):
    path = write_notebook(checkout, "01_a", "1 + 1")
    notebook = nbformat.read(path, as_version=4)
    before = runner.code_hash(notebook)
    notebook.cells[0].source = "# Another title"
    notebook.cells[-1].outputs = [new_output("stream", text="2")]
    assert runner.code_hash(notebook) == before
    notebook.cells[-1].source = "1 + 2"
    assert runner.code_hash(notebook) != before


def test_an_unknown_profile_names_the_choices(checkout):
    with pytest.raises(ValueError, match=r"'fast'.*smoke, quick, full"):
        runner.run(profile="fast")


def test_nothing_of_a_widget_is_kept():
    """GitHub refuses a notebook with their state, and without it a view is an empty place."""
    cells = [new_code_cell("slider", outputs=[new_output("stream", text="old")])]
    source = new_notebook(cells=cells, metadata={"widgets": {"state": 1}, "language_info": {"name": "python"}})
    view = new_output("display_data", {kernels.WIDGET: {"model_id": "1"}, "text/plain": "IntSlider()"})
    done = new_notebook(cells=[new_code_cell("slider", outputs=[view, new_output("stream", text="new")])])
    done.metadata["widgets"] = {"state": 2}
    runner.take_outputs(source, done, Path("root"), "place", Path("stage"))
    assert [output.output_type for output in source.cells[0].outputs] == ["stream"]
    assert source.cells[0].outputs[0].text == "new"
    assert set(source.metadata) == {"language_info"}


# --- a run -----------------------------------------------------------------------------------------------------------

REPORT_SELF = """\
import json, os, pathlib, sys
facts = {"parameters": [PROFILE, SEED, DATA], "python": sys.executable, "cwd": os.getcwd()}
facts["environment"] = {name: os.environ.get(name) for name in ("TF_CPP_MIN_LOG_LEVEL", "PYTHONHASHSEED")}
pathlib.Path("facts.json").write_text(json.dumps(facts))
print(pathlib.Path("facts.json").resolve(), os.environ["FASHION_MNIST_STAGE"] + "/images/axes.png")"""
STUDY = """\
import matplotlib.pyplot as plt
from fashion_mnist import study
run = study.start("01_a", PROFILE, SEED, DATA)
fig, ax = plt.subplots()
run.save_figure(fig, "axes")
run.save_result({"n": len(run.data.y_train)}, summary="There are some.")"""


def test_a_run_from_start_to_unchanged(checkout, noise, tmp_path, monkeypatch, capsys):
    """One story, because every kernel costs a second."""
    # Somebody else's kernelspec of the same name must not be taken for ours.
    wrong = tmp_path / "jupyter" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    (wrong / "kernel.json").write_text(
        json.dumps({"argv": ["no-such-python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    write_notebook(checkout, "main", COUNT.format(name="main"), title="The tour")
    first = write_notebook(checkout, "01_a", COUNT.format(name="01_a"), STUDY, REPORT_SELF)
    source = first.read_bytes()

    assert runner.run(profile="smoke", data=noise, seed=5) == 0
    captured = capsys.readouterr()
    assert executed(checkout) == ["01_a", "main"]
    assert [line.split()[:2] for line in captured.out.splitlines()] == [["01_a", "done"], ["main", "done"]]
    assert "\r" not in captured.err, "no progress line where standard error is no terminal"
    facts = read(checkout / "facts.json")
    assert facts["parameters"] == ["smoke", 5, str(noise)]
    assert Path(facts["python"]) == Path(sys.executable)
    assert Path(facts["cwd"]) == checkout
    assert facts["environment"] == {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"}

    # The copy is the notebook plus outputs: no trace of papermill, of this machine, of the time.
    out = checkout / "build" / "smoke"
    copy = out / "notebooks" / "01_a.ipynb"
    text = copy.read_text(encoding="utf-8")
    assert not re.search(r"papermill|injected|start_time", text)
    assert str(checkout) not in text and str(noise) not in text
    notebook = nbformat.read(copy, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[3].outputs)
    assert notebook.cells[4].outputs[0].text == "facts.json images/axes.png\n"
    stamp = notebook.metadata.pop("fashion_mnist")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert notebook == nbformat.reads(source.decode(), as_version=4)
    assert first.read_bytes() == source
    assert sorted(path.name for path in checkout.iterdir()) == ["build", "facts.json", "notebooks"]
    assert {"images", "notebooks", "results"} <= {path.name for path in out.iterdir()}
    assert not list((out / "staging").iterdir())

    # The stamp says what was asked, made and used.
    assert (stamp["profile"], stamp["seed"], stamp["kind"]) == ("smoke", 5, "unverified")
    assert stamp["code"] == runner.code_hash(nbformat.read(first, as_version=4))
    assert re.fullmatch("[0-9a-f]{12}", stamp["run"])
    record = read(out / "results" / "01_a.json")
    assert record["headline"] == {"n": 100} and record["run"] == stamp["run"]
    assert set(stamp["files"]) == {"images/axes.png", "results/01_a.json"}
    assert {"fashion_mnist.study", "fashion_mnist.data", "fashion_mnist.figures.style"} <= set(stamp["depends"])
    assert not {"fashion_mnist.headless.kernels", "fashion_mnist.training"} & set(stamp["depends"])

    # The same again is done already; another seed is not; --fresh executes all the same.
    assert runner.run(profile="smoke", data=noise, seed=5) == 0
    assert capsys.readouterr().out.count("unchanged") == 2
    assert runner.run(["main"], profile="smoke", data=noise, seed=6) == 0
    assert executed(checkout) == ["main"]
    assert runner.run(["main"], profile="smoke", data=noise, seed=6, fresh=True) == 0
    assert executed(checkout) == ["main"]


MEASURES = """\
from fashion_mnist import study
run = study.start("01_a", PROFILE, SEED, DATA)
for name in ("first", "second"):
    run.keep(name, lambda: {"n": [1, 2, 3]})
run.save_result({"n": 3}, summary="There are three.")"""


def test_a_notebook_that_keeps_two_measurements_is_done_after_one_run(checkout, capsys):
    write_notebook(checkout, "01_a", COUNT.format(name="01_a"), MEASURES)
    assert runner.run(profile="smoke") == 0
    assert (checkout / "build" / "measured" / "smoke" / "01_a.npz").is_file()
    capsys.readouterr()
    assert runner.run(profile="smoke") == 0
    assert executed(checkout) == ["01_a"]
    assert "unchanged" in capsys.readouterr().out


def test_only_what_depends_on_a_change_runs_again(checkout, package, capsys):
    reading = "records.read('01_a', root / 'build' / 'smoke')\n"
    imports, *rest = RECORD.format(name="02_b").partition("files.write_text")
    write_notebook(checkout, "01_a", COUNT.format(name="01_a"), RECORD.format(name="01_a"))
    write_notebook(checkout, "02_b", COUNT.format(name="02_b"), imports + reading + "".join(rest))
    write_notebook(checkout, "03_c", COUNT.format(name="03_c"), RECORD.format(name="03_c"))
    write_notebook(checkout, "main", COUNT.format(name="main"), RECORD.format(name="main"))

    def again():
        assert runner.run(profile="smoke") == 0, capsys.readouterr().err
        capsys.readouterr()
        return sorted(executed(checkout))

    assert runner.run(["01_a"], profile="smoke") == 0
    assert executed(checkout) == ["01_a"]
    assert again() == ["02_b", "03_c", "main"]
    assert again() == []
    for unused in ("explain.py", "headless/runner.py"):
        (package / unused).write_text("something else")
    assert again() == []
    write_notebook(checkout, "01_a", COUNT.format(name="01_a"), RECORD.format(name="01_a") + "  # other code")
    assert runner.run(["01_a"], profile="smoke") == 0
    assert executed(checkout) == ["01_a"]
    assert again() == ["02_b"], "it read a record that is another one now"
    (checkout / "build" / "smoke" / "results" / "bench_new.json").write_text("{}")
    assert again() == ["main"], "it shows all records, and one is new"
    (checkout / "build" / "smoke" / "images" / "03_c.png").write_text("another figure")
    assert again() == ["03_c"]
    (package / "records.py").write_text("something else")
    assert again() == ["01_a", "02_b", "03_c", "main"]


def test_a_figure_that_is_made_no_more_is_deleted(checkout):
    write_notebook(checkout, "01_a", RECORD.format(name="01_a"))
    assert runner.run(profile="smoke") == 0
    write_notebook(checkout, "01_a", RECORD.format(name="01_a").replace("01_a.png", "other.png"))
    assert runner.run(profile="smoke") == 0
    assert [path.name for path in (checkout / "build" / "smoke" / "images").iterdir()] == ["other.png"]


MEET = """\
import pathlib, time
pathlib.Path({mine!r}).touch()
end = time.monotonic() + {patience}
while not pathlib.Path({other!r}).exists() and time.monotonic() < end:
    time.sleep(0.05)
print("met" if pathlib.Path({other!r}).exists() else "alone")
time.sleep(1)
pathlib.Path({mine!r}).unlink()"""


@pytest.mark.parametrize(("profile", "patience", "expected"), [("quick", 30, "met"), ("full", 1, "alone")])
def test_two_notebooks_run_at_a_time_but_one_at_full(checkout, capsys, profile, patience, expected):
    write_notebook(checkout, "01_a", MEET.format(mine="a", other="b", patience=patience))
    write_notebook(checkout, "02_b", MEET.format(mine="b", other="a", patience=patience))
    folder = Path.cwd()
    assert runner.run(profile=profile) == 0
    assert Path.cwd() == folder
    for name in ("01_a", "02_b"):
        copy = nbformat.read(checkout / "build" / profile / "notebooks" / f"{name}.ipynb", as_version=4)
        assert copy.cells[-1].outputs[0].text == f"{expected}\n"


# --- what goes wrong in a notebook -----------------------------------------------------------------------------------

FAILURES = {
    "exception": ("print('before')\nraise RuntimeError('no luck')", r"RuntimeError.*no luck"),
    "dead kernel": ("import os\nos._exit(0)", r"kernel died"),
    "unknown magic": ("%no_such_magic 1", r"UsageError: Line magic function `%no_such_magic` not found"),
    "magic without its file": ("%run no_such_file.py", r"File .*no_such_file.py.* not found"),
    "pip": ("%pip install --no-index --quiet no-such-package-of-ours", r"non-zero exit status 1"),
    "shell": ("!exit 3", r"non-zero exit status 3"),
    "folder": ("%cd no_such_folder", r"no_such_folder"),
    "caught by a cell magic": ("%%capture\n1 / 0", r"ZeroDivisionError"),
    "early end": ("import sys\nsys.exit(0)", r"ended in this cell"),
}


@pytest.mark.parametrize(("source", "message"), FAILURES.values(), ids=FAILURES)
def test_a_failing_notebook_is_kept_and_told(checkout, capsys, source, message):
    write_notebook(checkout, "01_bad", "print('the first cell ran')", source, "print('after')")
    began = time.monotonic()
    assert runner.run(profile="smoke") == 1
    assert time.monotonic() - began < 30
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "01_bad failed: cell 'cell-1'" in captured.err
    assert all(f"    {line}" in captured.err for line in source.splitlines())
    assert re.search(message, captured.err), captured.err
    assert "\x1b" not in captured.err
    partial = checkout / "build" / "smoke" / "partial" / "01_bad.ipynb"
    assert "build/smoke/partial/01_bad.ipynb" in captured.err
    assert "the first cell ran\\n" in partial.read_text(encoding="utf-8")
    assert not (checkout / "build" / "smoke" / "notebooks").exists()


def test_of_two_cells_alike_the_one_that_failed_is_told(checkout, capsys):
    write_notebook(checkout, "01_bad", "tries = iter('a')", "next(tries)", "next(tries)")
    assert runner.run(profile="smoke") == 1
    assert "01_bad failed: cell 'cell-2'" in capsys.readouterr().err


def test_when_one_fails_the_others_are_executed_but_not_the_tour(checkout, capsys):
    write_notebook(checkout, "01_bad", RECORD.format(name="01_bad"), "1 / 0")
    write_notebook(checkout, "02_good", COUNT.format(name="02_good"))
    write_notebook(checkout, "main", COUNT.format(name="main"))
    assert runner.run(profile="smoke") == 1
    assert executed(checkout) == ["02_good"]
    captured = capsys.readouterr()
    assert captured.out.startswith("02_good")
    assert "main was not executed" in captured.err
    assert not (checkout / "build" / "smoke" / "results").exists(), "nothing of a notebook that failed is shown"


@posix
def test_a_failing_bash_cell_is_a_failure_and_what_was_made_before_stays(checkout, capsys):
    copy = checkout / "build" / "smoke" / "notebooks" / "01_a.ipynb"
    copy.parent.mkdir(parents=True)
    copy.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    before = copy.read_bytes()
    write_notebook(checkout, "01_a", "%%bash\necho words\nexit 4")
    assert runner.run(profile="smoke") == 1
    assert "exit status 4" in capsys.readouterr().err
    assert copy.read_bytes() == before


def test_a_damaged_notebook_is_named_and_the_others_are_executed(checkout, noise, capsys):
    write_notebook(checkout, "01_a", COUNT.format(name="01_a"))
    (checkout / "notebooks" / "02_b.ipynb").write_text("<<<<<<< HEAD\n{")
    assert runner.run(["01_a", "02_b"], profile="smoke", data=noise) == 1
    assert executed(checkout) == ["01_a"]
    assert "02_b.ipynb is no notebook" in capsys.readouterr().err


def test_what_papermill_wrote_beside_the_notebooks_can_be_run(checkout, capsys):
    path = write_notebook(checkout, "01_a", "print(PROFILE)")
    notebook = nbformat.read(path, as_version=4)
    injected = new_code_cell("PROFILE = 'full'", id="injected", metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(2, injected)
    nbformat.write(notebook, checkout / "notebooks" / "out.ipynb")
    assert runner.run(profile="smoke") == 0, capsys.readouterr().err
    copy = nbformat.read(checkout / "build" / "smoke" / "notebooks" / "out.ipynb", as_version=4)
    assert [cell.id for cell in copy.cells] == ["title", "parameters", "cell-0"]
    assert copy.cells[-1].outputs[0].text == "smoke\n"


def test_a_notebook_without_parameters_is_refused(checkout, capsys):
    path = write_notebook(checkout, "01_a")
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[1].metadata["tags"]
    nbformat.write(notebook, path)
    assert runner.run(profile="smoke") == 1
    assert "no cell tagged `parameters`" in capsys.readouterr().err


def test_what_cannot_be_written_is_told_with_the_notebook(checkout, capsys):
    write_notebook(checkout, "01_a", "1")
    write_notebook(checkout, "02_b", "1")
    in_the_way = checkout / "build" / "smoke" / "partial" / "02_b.ipynb"
    in_the_way.mkdir(parents=True)
    assert runner.run(profile="smoke") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("01_a                  done")
    assert re.search(r"02_b failed: .*partial/02_b.ipynb.* Notebooks that are finished are safe", captured.err)


# --- kills, and two at once ------------------------------------------------------------------------------------------

KILLED = """\
import os
from fashion_mnist.headless import runner
runner.files.write_text = lambda *arguments: os._exit(9)  # everything is in place, but for the executed copy
runner.run(["01_a"], profile="smoke", seed=1)"""


def test_a_kill_between_record_and_copy_is_noticed(checkout, capsys):
    write_notebook(checkout, "01_a", COUNT.format(name="01_a"), RECORD.format(name="01_a"))
    assert runner.run(profile="smoke", seed=0) == 0
    out = checkout / "build" / "smoke"
    copy, record = out / "notebooks" / "01_a.ipynb", out / "results" / "01_a.json"
    assert runner.record_of(copy)["seed"] == 0
    assert subprocess.run([sys.executable, "-c", KILLED], capture_output=True, check=False).returncode == 9
    assert read(record)["seed"] == 1 and runner.stamp(copy)["seed"] == 0
    with pytest.raises(ValueError, match=r"01_a.ipynb and .*01_a.json were made by different runs"):
        runner.record_of(copy)
    assert len(executed(checkout)) == 2

    (out / "results" / ".01_a.0123456789ab.tmp.json").write_text("half")
    assert list((out / "staging").iterdir()), "the kill left something"
    assert runner.run(profile="smoke", seed=0) == 0
    assert executed(checkout) == ["01_a"], "not unchanged: the record beside it is another run's"
    assert runner.record_of(copy)["seed"] == 0
    assert not list((out / "staging").iterdir())
    assert [path.name for path in (out / "results").iterdir()] == ["01_a.json"]
    assert "unchanged" not in capsys.readouterr().out


@posix
def test_the_kernel_of_a_killed_run_writes_no_more_in_the_next(checkout):
    write_notebook(checkout, "01_a", "1")
    stage, beside = (checkout / "build" / "smoke" / name / "01_a-0123456789ab" for name in ("staging", "beside"))
    asleep = [sys.executable, "-c", "import time; time.sleep(600)", "ipykernel_launcher", "-f"]
    with (
        subprocess.Popen([*asleep, stage / "a.json"]) as orphan,
        subprocess.Popen([*asleep, beside / "a.json"]) as other,
    ):
        assert runner.run(profile="smoke") == 0
        assert orphan.poll() is not None and other.poll() is None
        other.kill()


@posix
def test_one_run_at_a_time_and_ctrl_c_leaves_finished_notebooks_usable(checkout):
    write_notebook(checkout, "01_a", "1")
    sleeping = checkout / "sleeping"
    sleep = "import os, time\nopen('sleeping.tmp', 'w').write(str(os.getpid()))\nos.rename('sleeping.tmp', 'sleeping')"
    write_notebook(checkout, "02_b", f"{sleep}\ntime.sleep(600)")
    write_notebook(checkout, "03_c", COUNT.format(name="03_c") + "\nimport time\ntime.sleep(600)")
    command = [sys.executable, "-c", "from fashion_mnist.headless import runner; runner.run(profile='smoke')"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (sleeping.exists() and (checkout / "executed.txt").exists()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(files.Busy, match="Another process runs the notebooks at profile smoke; wait"):
            runner.run(["01_a"], profile="smoke")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert err.splitlines()[-1] == (
        "KeyboardInterrupt: Interrupted in 02_b and 03_c. The same command goes on from what is finished."
    )
    assert out.split() == ["01_a", "done", *out.split()[2:]]
    copies = checkout / "build" / "smoke" / "notebooks"
    assert [path.name for path in copies.iterdir()] == ["01_a.ipynb"]
    assert (checkout / "build" / "smoke" / "partial" / "02_b.ipynb").exists()
    assert not list((checkout / "build" / "smoke" / "staging").iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(int(sleeping.read_text()), 0)


# --- the full study --------------------------------------------------------------------------------------------------


def test_full_on_unverified_data_leaves_the_committed_files_alone(checkout):
    path = write_notebook(checkout, "01_a", RECORD.format(name="01_a"))
    before = path.read_bytes()
    assert runner.run(profile="full") == 0
    assert path.read_bytes() == before
    assert (checkout / "build" / "full" / "notebooks" / "01_a.ipynb").exists()
    assert (checkout / "build" / "full" / "results" / "01_a.json").exists()
    assert sorted(file.name for file in checkout.iterdir()) == ["build", "notebooks"]


EDIT_SELF = """\
path = Path("notebooks/02_edited.ipynb")
path.write_text(path.read_text().replace("A title", "Another title"))"""


def test_full_on_official_data_replaces_the_notebook(real_data, checkout, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_DATA", str(real_data))
    path = write_notebook(checkout, "01_a", RECORD.format(name="01_a"), "print(PROFILE)")
    edited = write_notebook(checkout, "02_edited", RECORD.format(name="02_edited"), EDIT_SELF)
    assert runner.run(profile="full") == 0
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["title", "parameters", "cell-0", "cell-1"]
    assert notebook.cells[-1].outputs[0].text == "full\n"
    assert notebook.metadata.fashion_mnist.fingerprint == data.OFFICIAL_FINGERPRINT
    assert runner.record_of(path)["run"] == notebook.metadata.fashion_mnist.run
    # A notebook that somebody saved meanwhile is not overwritten, and what it made stays with its outputs.
    assert "02_edited was edited while it ran" in capsys.readouterr().err
    assert "Another title" in edited.read_text()
    assert runner.record_of(checkout / "build" / "full" / "notebooks" / "02_edited.ipynb")["name"] == "02_edited"
    assert [file.name for file in (checkout / "results").iterdir()] == ["01_a.json"]
    assert runner.run(["01_a"], profile="full") == 0
    assert "unchanged" in capsys.readouterr().out


def test_a_notebook_copied_from_another_takes_nothing_of_it_away(real_data, checkout, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DATA", str(real_data))
    first = write_notebook(checkout, "02_a", RECORD.format(name="02_a"))
    assert runner.run(profile="full") == 0
    made = {path: path.read_bytes() for path in (checkout / "images").iterdir()}
    assert runner.stamp(first)["files"].keys() == {"images/02_a.png", "results/02_a.json"}
    mine = write_notebook(checkout, "10_mine", RECORD.format(name="10_mine"))
    files.write_json(mine, read(mine) | {"metadata": read(first)["metadata"]})  # as a copy has it
    assert runner.run(["10_mine"], profile="full") == 0
    assert runner.stamp(mine)["files"].keys() == {"images/10_mine.png", "results/10_mine.json"}
    assert {path: path.read_bytes() for path in made} == made
    assert runner.record_of(first)["name"] == "02_a"


def test_what_the_full_study_did_not_make_is_not_drawn_again(checkout):
    for wrong in ({"profile": "quick"}, {"profile": "full", "fresh": True}):
        with pytest.raises(ValueError, match="--redraw with --profile full, without --fresh"):
            runner.run(redraw=True, **wrong)
    write_notebook(checkout, "01_a", "1")
    with pytest.raises(ValueError, match=r"made of the official data with seed 0, not .*, 0\."):
        runner.run(profile="full", redraw=True)  # on other data it would train instead, for hours


def test_a_study_drawn_again_is_not_taken_for_a_study_made_again(real_data, checkout, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DATA", str(real_data))
    show = "import os\nprint([os.environ[f'FASHION_MNIST_{name}'][:3] for name in ('REDRAW', 'FRESH')])"
    write_notebook(checkout, "01_a", show, COUNT.format(name="01_a"))

    def told(**options):
        assert runner.run(profile="full", **options) == 0
        return nbformat.read(checkout / "notebooks" / "01_a.ipynb", as_version=4).cells[2].outputs[0].text

    assert told(redraw=True) == "['1', '']\n"
    assert told() == "['', '']\n"
    assert len(executed(checkout)) == 2
    told(redraw=True)
    assert executed(checkout) == [], "what was made anew need not be drawn again"
    assert told(fresh=True) == "['', '202']\n", "networks from before this run are trained again"


def test_only_the_cells_that_train_are_executed(real_data, checkout, capfd):
    counted = [COUNT.format(name=name) for name in ("set-up", "figure", "training")]
    for name in ("01_a", "02_b", "07_c"):
        counts = [source.replace("'training'", f"'{name}'") for source in counted]
        write_notebook(checkout, name, *counts, tags=() if name == "01_a" else ("trains",))
    with pytest.raises(ValueError, match=r"official data only.*fashion-mnist data fetch"):
        runner.train_missing()
    assert executed(checkout) == []
    write_notebook(checkout, "02_b", counted[0], "1 / 0", "print(PROFILE, 'trains')\n1 / 0", tags=("trains",))
    before = {path: path.read_bytes() for path in (checkout / "notebooks").iterdir()}
    assert runner.train_missing(data=real_data) == 1
    assert executed(checkout) == ["set-up", "07_c", "set-up"]
    captured = capfd.readouterr()
    assert captured.out.split()[:2] == ["07_c", "done"]
    assert "full trains\n" in captured.err and "02_b failed: cell 'cell-2'" in captured.err
    assert before == {path: path.read_bytes() for path in (checkout / "notebooks").iterdir()}
    assert not (checkout / "build" / "full" / "partial").exists()
    assert runner.train_missing(["07_c"], data=real_data) == 0

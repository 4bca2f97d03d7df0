"""study.py: runs, records, reports. Notebooks here are tiny, but kernels, papermill and files are the real ones."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Patch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fashion_mnist import data, models, study, training

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
def checkout(tmp_path, monkeypatch, noise):
    """An empty checkout with the noise for data."""
    root = (tmp_path / "checkout").resolve()
    (root / "notebooks").mkdir(parents=True)
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(root))
    monkeypatch.setenv("FASHION_MNIST_DATA", str(noise))
    return root


def write_notebook(root, name, *sources, title="A title\n\nWhat it answers."):
    cells = [new_markdown_cell(f"# {title}", id="title")]
    cells.append(new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = root / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def a_dataset(kind="unverified", fingerprint="0123456789abcdef"):
    images, labels = np.zeros((20, 28, 28, 1), np.uint8), np.arange(20) % 10
    return data.Dataset(images, labels, images, labels, images, labels, "arrays of a test", kind, fingerprint)


def a_study(root, kind="unverified", profile="quick"):
    banner = "SAMPLE DATA: generated images, not Fashion-MNIST" if kind == "sample" else None
    out = study.output_folder(profile, kind, root)
    return study.Study("01_test", study.PROFILES[profile], 0, a_dataset(kind), root, out, banner)


# ------------------------------------------------------------------------------------- models that are trained once


TINY = {"hidden": (8,), "dropout": 0.0}


def test_a_model_is_trained_once_and_then_loaded(checkout, capsys):
    recipe = training.Recipe(epochs=2, batch_size=32)
    first = study.start("01_test", "smoke").train("mlp", recipe, arguments=TINY)
    run = study.start("01_test", "smoke")
    capsys.readouterr()
    again = run.train("mlp", recipe, arguments=TINY)
    assert "mlp_seed0: loaded" in capsys.readouterr().out
    assert again.card == first.card
    assert again.card["epochs"] == 2 and again.card["parameters"] == 784 * 8 + 8 + 8 * 10 + 10
    for one, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(one, other)
    record = json.loads(run.save_result({"n": 1}).read_text())
    assert record["seconds"] >= again.card["seconds"], "a record says what everything takes from nothing"
    assert not list((checkout / "build" / "checkpoints").rglob("*.npz"))
    assert sorted(path.name for path in run.models.iterdir()) == ["mlp_seed0.json", "mlp_seed0.keras"]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": training.Recipe(epochs=1, batch_size=16)},
        {"arguments": {"hidden": (9,), "dropout": 0.0}},
        {"seed": 1, "name": "mlp_seed0"},
    ],
)
def test_another_recipe_network_or_seed_is_another_training(checkout, capsys, change):
    run = study.start("01_test", "smoke")
    settings = {"recipe": training.Recipe(epochs=1, batch_size=32), "arguments": TINY}
    run.train("mlp", **settings)
    capsys.readouterr()
    card = run.train("mlp", **{**settings, **change}).card
    assert "loaded" not in capsys.readouterr().out
    assert json.loads((run.models / "mlp_seed0.json").read_text()) == card


def test_seeds_are_trained_one_after_another(checkout, monkeypatch):
    run = study.start("01_test", "smoke")
    run.profile = dataclasses.replace(run.profile, seeds=2)
    trained = run.train_seeds("mlp", training.Recipe(epochs=1), name="tiny", arguments=TINY, first=3)
    assert [(one.card["name"], one.card["seed"]) for one in trained] == [("tiny_seed3", 3), ("tiny_seed4", 4)]


def test_the_models_of_the_profile_go_before_those_that_are_shipped(checkout):
    run = study.start("01_test", "smoke")
    with pytest.raises(FileNotFoundError, match="fashion-mnist run 02_baselines"):
        run.trained_models()
    (checkout / "models").mkdir()
    for name in ("shipped.keras", "shipped.json", "without_card.keras"):
        (checkout / "models" / name).write_text("{}")
    assert run.trained_models() == {"shipped": checkout / "models" / "shipped.keras"}
    run.train("mlp", training.Recipe(epochs=1), arguments=TINY)
    assert run.trained_models() == {"mlp_seed0": run.models / "mlp_seed0.keras"}
    assert study.read_card(run.trained_models()["mlp_seed0"])["parameters"] == 784 * 8 + 8 + 8 * 10 + 10


def test_a_model_answers_the_same_images_once(checkout):
    run = study.start("01_test", "smoke")
    recipe = training.Recipe(epochs=1, batch_size=32)
    for seed in (0, 1):
        run.train("mlp", recipe, seed=seed, arguments=TINY)
    one, other = (keras.saving.load_model(path, compile=False) for path in run.trained_models().values())
    images = run.data.x_test
    first = run.predict(one, images)
    np.testing.assert_array_equal(first, training.predict(one, images))

    def kept():
        return sorted((checkout / "build" / "predictions").rglob("output.pkl"))

    assert len(kept()) == 1 and run.spared == 0
    run = study.start("01_test", "smoke")
    again = keras.saving.load_model(run.models / "mlp_seed0.keras", compile=False)
    np.testing.assert_array_equal(run.predict(again, images), first)
    assert len(kept()) == 1
    assert run.spared > 0  # the record's seconds are those of a run from nothing

    # Other images, other weights, or another network with these weights is another question.
    np.testing.assert_array_equal(run.predict(again, images[:5]).argmax(axis=1), first[:5].argmax(axis=1))
    assert np.abs(run.predict(other, images) - first).max() > 1e-3
    rectified = models.build("mlp", **TINY)
    rectified.set_weights(again.get_weights())
    rectified.layers[-1].activation = keras.activations.relu
    assert np.abs(run.predict(rectified, images) - first).max() > 1e-3
    assert len(kept()) == 4

    for file in kept():
        file.write_bytes(file.read_bytes()[:50])
    np.testing.assert_array_equal(run.predict(again, images), first)


def test_a_network_of_a_notebooks_own_goes_on_from_its_checkpoint(checkout):
    run = study.start("01_test", "smoke")
    train, validation = (run.data.x_train, run.data.y_train), (run.data.x_val, run.data.y_val)
    recipe = training.Recipe(epochs=2, batch_size=32)

    def fitted(recipe):
        keras.utils.set_random_seed(0)
        model = models.build("mlp", **TINY)
        return run.fit("mine", model, train, validation, recipe), model.get_weights()

    first, weights = fitted(recipe)
    assert run.checkpoint("mine").is_file() and first.resumed_from == 0 and run.spared == 0
    again, same = fitted(recipe)
    assert again.resumed_from == 2 and run.spared == pytest.approx(first.seconds)
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_array_equal(one, other)
    # A budget that has changed since is no reason to stop the notebook.
    assert fitted(recipe.replace(epochs=3))[0].resumed_from == 0
    run.checkpoint("mine").write_bytes(b"damaged")
    assert fitted(recipe)[0].resumed_from == 0


def test_a_study_counts_with_all_its_time_however_often_it_is_resumed(checkout, capsys):
    first = study.start("01_test", "smoke").tune("cnn_grid", epochs=1, trials=1)
    run = study.start("01_test", "smoke")
    capsys.readouterr()
    again = run.tune("cnn_grid", epochs=1, trials=1)
    assert "cnn_grid: 1 configurations, 1 epochs in" in capsys.readouterr().out
    assert again.trials == first.trials and again.seconds == first.seconds
    assert json.loads(run.save_result({"n": 1}).read_text())["seconds"] >= round(first.seconds, 1)


@pytest.mark.parametrize("name", ["mlp_seed0.keras", "mlp_seed0.json"])
def test_a_damaged_model_or_card_is_made_again(checkout, capsys, name):
    run = study.start("01_test", "smoke")
    recipe = training.Recipe(epochs=1, batch_size=32)
    run.train("mlp", recipe, arguments=TINY)
    file = run.models / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    run.train("mlp", recipe, arguments=TINY)
    assert "mlp_seed0.keras or its card is damaged" in capsys.readouterr().out
    run.train("mlp", recipe, arguments=TINY)
    assert "mlp_seed0: loaded" in capsys.readouterr().out


def test_an_interrupted_training_goes_on_and_a_foreign_checkpoint_does_not_matter(checkout, capsys):
    run = study.start("01_test", "smoke")
    recipe = training.Recipe(epochs=3, batch_size=32)
    checkpoint = checkout / "build" / "checkpoints" / "smoke" / "mlp_seed0.npz"
    arrays = (run.data.x_train, run.data.y_train), (run.data.x_val, run.data.y_val)

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    keras.utils.set_random_seed(0)
    model = models.build("mlp", **TINY)
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, *arrays, recipe, seed=0, checkpoint=checkpoint, callbacks=[Interrupted()])
    before = dict(np.load(checkpoint))
    card = run.train("mlp", recipe, arguments=TINY).card
    assert card["history"]["loss"][:2] == json.loads(str(before["about"]))["history"]["loss"]
    assert card["epochs"] == 3

    np.savez(checkpoint, **before)  # of three epochs, where two are wanted
    card = run.train("mlp", recipe.replace(epochs=2), arguments=TINY).card
    assert card["epochs"] == 2


# ------------------------------------------------------------------------------------------- where a run writes


@pytest.mark.parametrize(
    ("profile", "kind", "folder"),
    [
        ("full", "official", "."),
        ("full", "unverified", "build/full"),
        ("full", "sample", "build/full"),
        ("quick", "official", "build/quick"),
        ("smoke", "official", "build/smoke"),
    ],
)
def test_only_full_on_official_data_writes_to_the_checkout(tmp_path, profile, kind, folder):
    assert study.output_folder(profile, kind, tmp_path) == tmp_path / folder
    run = a_study(tmp_path, kind, profile)
    assert run.save_result({"n": 1}).parent == tmp_path / folder / "results"
    assert run.save_figure(Figure(), "empty").parent == tmp_path / folder / "images"
    assert run.models == tmp_path / folder / "models"


def test_start_loads_the_budget_of_the_profile_and_says_what_is_used(checkout, capsys):
    run = study.start("01_test", "smoke", seed=3)
    printed = capsys.readouterr().out
    assert run.data.kind == "unverified"
    assert run.data.fingerprint in printed
    assert "Profile smoke, seed 3" in printed
    assert "build/smoke/" in printed
    assert str(checkout) not in printed
    assert run.out == checkout / "build" / "smoke"
    assert len(run.data.y_train) == 100, "fewer images than the budget: all of them"
    assert len(run.data.y_test) == 40


def test_start_cuts_the_data_down_to_the_budget(tmp_path, real_data):
    run = study.start("01_test", "smoke", data=real_data, root=tmp_path)
    sizes = [len(labels) for _, labels in run.data.splits().values()]
    assert sizes == [run.profile.train_images, run.profile.validation_images, run.profile.test_images]


def test_unknown_profile_names_the_choices(checkout):
    with pytest.raises(ValueError, match=r"'fast'.*smoke, quick, full"):
        study.start("01_test", "fast")


# ----------------------------------------------------------------------------------------------- figures, records


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    run = a_study(tmp_path)
    contents = []
    for _ in range(2):
        figure = Figure()
        figure.subplots().plot([0, 1], [1, 0])
        contents.append(run.save_figure(figure, "line").read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"\x89PNG")


def test_a_figure_of_sample_data_carries_the_banner_once(tmp_path):
    run, figure = a_study(tmp_path, kind="sample"), Figure()
    run.save_figure(figure, "a")
    run.save_figure(figure, "a")
    assert [text.get_text() for text in figure.texts] == [run.banner]


def test_the_banner_covers_no_legend(tmp_path):
    run, figure = a_study(tmp_path, kind="sample"), Figure(layout="constrained")
    figure.subplots().plot([0, 1], color="white")
    figure.legend(handles=[Patch(color="lime", label="as wide as the banner" * 3)], loc="outside lower center")
    pixels = imread(run.save_figure(figure, "a"))[..., :3]
    legend = (pixels == (0, 1, 0)).all(axis=2).any(axis=1)
    banner = (pixels[..., 0] - pixels[..., 1] > 0.4).any(axis=1)
    assert legend.any()
    assert np.flatnonzero(banner).min() > np.flatnonzero(legend).max()


@pytest.mark.parametrize("name", ["../escape", "a.png", "", "With Space"])
def test_a_figure_name_is_a_plain_name(tmp_path, name):
    with pytest.raises(ValueError, match="no name for a figure"):
        a_study(tmp_path).save_figure(Figure(), name)


def test_a_record_has_the_format_of_the_design(tmp_path):
    run = a_study(tmp_path)
    frame = pd.DataFrame({"n": np.array([1, 2]), "share": [0.5, np.nan]}, index=pd.Index(["Bag", "Coat"], name="class"))
    headline = {"test_accuracy_mean": np.float32(0.5), "images": np.int64(7)}
    path = run.save_result(headline, {"classes": frame, "counts": np.arange(3), "plain": pd.DataFrame({"a": [1]})})
    record = json.loads(path.read_text(encoding="utf-8"))
    assert list(record) == [
        *("name", "profile", "seed", "data", "created", "seconds", "machine", "versions", "git", "headline", "tables")
    ]
    assert record["name"] == "01_test"
    assert record["data"] == {"source": "arrays of a test", "kind": "unverified", "fingerprint": "0123456789abcdef"}
    assert record["headline"] == {"test_accuracy_mean": 0.5, "images": 7}
    assert record["tables"] == {
        "classes": [{"class": "Bag", "n": 1, "share": 0.5}, {"class": "Coat", "n": 2, "share": None}],
        "counts": [0, 1, 2],
        "plain": [{"a": 1}],
    }
    assert set(record["machine"]) == {"cpu", "cores", "memory", "flags"}
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["cpu"]
    assert {"python", "tensorflow", "keras", "numpy"} <= set(record["versions"])
    assert record["created"].endswith("+00:00")
    assert study.read_result("01_test", run.out) == record


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.9", [1], True, None])
def test_a_headline_holds_finite_numbers_only(tmp_path, value):
    run = a_study(tmp_path)
    with pytest.raises(ValueError, match="'accuracy'"):
        run.save_result({"accuracy": value})
    assert not list(run.results.iterdir())


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = study.write_json(tmp_path / "a.json", {"n": 1})
    for refused in ({"n": float("nan")}, {"n": "\ud800"}):  # no JSON; no UTF-8, which shows only while writing
        with pytest.raises(ValueError):
            study.write_json(path, refused)
    assert json.loads(path.read_text(encoding="utf-8")) == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_record_that_was_not_made_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="fashion-mnist run 05_missing"):
        study.read_result("05_missing", tmp_path)


def test_git_commit_is_the_one_checked_out(tmp_path):
    assert study.git_commit(tmp_path) is None
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert re.fullmatch(r"[0-9a-f]{40}", study.git_commit(tmp_path))


# ----------------------------------------------------------------------------------------- which notebooks, hashes


def test_numbered_notebooks_come_first_and_main_last(checkout):
    for name in ("main", "02_b", "appendix", "01_a"):
        write_notebook(checkout, name)
    assert [path.stem for path in study.notebooks()] == ["01_a", "02_b", "appendix", "main"]
    named = study.notebooks(["main", "notebooks/02_b.ipynb", "01_a.ipynb"])
    assert [path.stem for path in named] == ["01_a", "02_b", "main"]
    with pytest.raises(ValueError, match=r"03_c.*01_a, 02_b, appendix, main"):
        study.notebooks(["01_a", "03_c"])


def test_a_folder_without_notebooks_is_an_error(checkout):
    with pytest.raises(ValueError, match="FASHION_MNIST_ROOT"):
        study.notebooks()


def test_the_code_hash_is_about_code_only(checkout):
    path = write_notebook(checkout, "01_a", "1 + 1")
    notebook = nbformat.read(path, as_version=4)
    before = study.code_hash(notebook)
    notebook.cells[0].source = "# Another title"
    notebook.cells[-1].outputs = [new_output("stream", text="2")]
    assert study.code_hash(notebook) == before
    notebook.cells[-1].source = "1 + 2"
    assert study.code_hash(notebook) != before


# --------------------------------------------------------------------------------------------- running notebooks

REPORT_SELF = """\
import json, os, pathlib, sys
facts = {"parameters": [PROFILE, SEED, DATA], "python": sys.executable, "cwd": os.getcwd()}
facts["environment"] = {name: os.environ.get(name) for name in ("TF_CPP_MIN_LOG_LEVEL", "PYTHONHASHSEED")}
pathlib.Path("facts.json").write_text(json.dumps(facts))"""
COUNT = """\
with open("executed.txt", "a") as file:
    print({name!r}, file=file)"""
SAVE_A_RESULT = """\
import matplotlib.pyplot as plt
from fashion_mnist import study
run = study.start("01_a", PROFILE, SEED, DATA)
run.save_result({"n": len(run.data.y_train)})
fig, ax = plt.subplots()
run.save_figure(fig, "axes")"""


def executed(root):
    """Names of the notebooks that were executed since the last call."""
    log = root / "executed.txt"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def test_a_run_from_start_to_report(checkout, noise, tmp_path, monkeypatch, capsys):
    """One story, because every kernel costs a second: run, skip, change, fresh, report."""
    # Somebody else's kernelspec of the same name must not be taken for ours.
    wrong = tmp_path / "jupyter" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    (wrong / "kernel.json").write_text(
        json.dumps({"argv": ["no-such-python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    write_notebook(checkout, "main", COUNT.format(name="main"), title="The tour")
    first = write_notebook(
        checkout, "01_a", COUNT.format(name="01_a"), SAVE_A_RESULT, REPORT_SELF, title="Looking\n\nWhy."
    )
    source = first.read_bytes()

    assert study.run(profile="smoke", data=noise, seed=5) == 0
    captured = capsys.readouterr()
    assert executed(checkout) == ["01_a", "main"]
    assert [line.split()[:2] for line in captured.out.splitlines()] == [["01_a", "done"], ["main", "done"]]
    assert "\r" not in captured.err, "no progress line where standard error is no terminal"
    facts = json.loads((checkout / "facts.json").read_text())
    assert facts["parameters"] == ["smoke", 5, str(noise)]
    assert Path(facts["python"]) == Path(sys.executable)
    assert Path(facts["cwd"]) == checkout
    assert facts["environment"] == {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"}
    assert study.read_result("01_a", checkout / "build" / "smoke")["headline"] == {"n": 100}

    # The copy is the notebook plus outputs: no trace of papermill, of this machine, of the time.
    copy = checkout / "build" / "smoke" / "notebooks" / "01_a.ipynb"
    text = copy.read_text(encoding="utf-8")
    assert not re.search(r"papermill|injected|start_time", text)
    assert str(checkout) not in text
    assert str(noise) not in text
    notebook = nbformat.read(copy, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[3].outputs)
    stamp = notebook.metadata.fashion_mnist
    assert stamp.profile == "smoke"
    assert stamp.seed == 5
    assert stamp.kind == "unverified"
    assert stamp.code == study.code_hash(nbformat.read(first, as_version=4))
    del notebook.metadata["fashion_mnist"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert notebook == nbformat.reads(source.decode(), as_version=4)
    assert first.read_bytes() == source
    assert sorted(path.name for path in checkout.iterdir()) == ["build", "facts.json", "notebooks"]

    # The same again is done already; other code or another seed is not; main follows the results it shows.
    monkeypatch.setattr(study, "package_hash", lambda: stamp.package)  # others may be editing the package just now
    assert study.run(profile="smoke", data=noise, seed=5) == 0
    assert capsys.readouterr().out.count("unchanged") == 2
    write_notebook(checkout, "01_a", COUNT.format(name="01_a"), "print('other code')")
    assert study.run(profile="smoke", data=noise, seed=5) == 0
    assert executed(checkout) == ["01_a"]
    study.write_json(checkout / "build" / "smoke" / "results" / "01_a.json", {"name": "01_a", "headline": {"n": 1}})
    assert study.run(profile="smoke", data=noise, seed=5) == 0
    assert executed(checkout) == ["main"]
    assert study.run(["main"], profile="smoke", data=noise, seed=6) == 0
    assert executed(checkout) == ["main"]
    assert study.run(["main"], profile="smoke", data=noise, seed=6, fresh=True) == 0
    assert executed(checkout) == ["main"]


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
def test_a_failing_notebook_stops_the_run_and_is_kept(checkout, capsys, source, message):
    write_notebook(checkout, "01_bad", "print('the first cell ran')", source, "print('after')")
    write_notebook(checkout, "02_good", COUNT.format(name="02_good"))
    began = time.monotonic()
    assert study.run(profile="smoke") == 1
    assert time.monotonic() - began < 30
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "01_bad failed after" in captured.err
    assert "'cell-1'" in captured.err
    assert all(f"    {line}" in captured.err for line in source.splitlines())
    assert re.search(message, captured.err), captured.err
    assert "\x1b" not in captured.err
    partial = checkout / "build" / "smoke" / "partial" / "01_bad.ipynb"
    assert "build/smoke/partial/01_bad.ipynb" in captured.err
    assert "the first cell ran\\n" in partial.read_text(encoding="utf-8")
    assert not (checkout / "build" / "smoke" / "notebooks").exists()
    assert executed(checkout) == []


@posix
def test_a_failing_bash_cell_is_a_failure_and_what_was_made_before_stays(checkout, capsys):
    copy = checkout / "build" / "smoke" / "notebooks" / "01_a.ipynb"
    copy.parent.mkdir(parents=True)
    copy.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    before = copy.read_bytes()
    write_notebook(checkout, "01_a", "%%bash\necho words\nexit 4")
    assert study.run(profile="smoke") == 1
    assert "exit status 4" in capsys.readouterr().err
    assert copy.read_bytes() == before


def test_a_notebook_without_parameters_is_refused(checkout, capsys):
    path = write_notebook(checkout, "01_a")
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[1].metadata["tags"]
    nbformat.write(notebook, path)
    assert study.run(profile="smoke") == 1
    assert "no cell tagged `parameters`" in capsys.readouterr().err


@posix
def test_ctrl_c_leaves_finished_notebooks_usable(checkout):
    write_notebook(checkout, "01_a", "1")
    sleeping = checkout / "sleeping"
    sleep = "import os, time\nopen('sleeping.tmp', 'w').write(str(os.getpid()))\nos.rename('sleeping.tmp', 'sleeping')"
    write_notebook(checkout, "02_b", f"{sleep}\ntime.sleep(600)")
    command = [Path(sys.executable).with_name("fashion-mnist"), "run", "--profile", "smoke"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not sleeping.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Interrupted in 02_b" in err.splitlines()[-1]
    assert "01_a" in out
    copies = checkout / "build" / "smoke" / "notebooks"
    assert [path.name for path in copies.iterdir()] == ["01_a.ipynb"]
    assert (checkout / "build" / "smoke" / "partial" / "02_b.ipynb").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(sleeping.read_text()), 0)


def test_full_on_unverified_data_leaves_the_committed_files_alone(checkout):
    path = write_notebook(checkout, "01_a", SAVE_A_RESULT)
    before = path.read_bytes()
    assert study.run(profile="full") == 0
    assert path.read_bytes() == before
    assert (checkout / "build" / "full" / "notebooks" / "01_a.ipynb").exists()
    assert (checkout / "build" / "full" / "results" / "01_a.json").exists()
    assert sorted(file.name for file in checkout.iterdir()) == ["build", "notebooks"]


EDIT_SELF = """\
from pathlib import Path
path = Path("notebooks/02_edited.ipynb")
path.write_text(path.read_text().replace("A title", "Another title"))"""


def test_full_on_official_data_replaces_the_notebook(real_data, checkout, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_MNIST_DATA", str(real_data))
    path = write_notebook(checkout, "01_a", "print(PROFILE)")
    edited = write_notebook(checkout, "02_edited", EDIT_SELF)
    assert study.run(profile="full") == 0
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["title", "parameters", "cell-0"]
    assert notebook.cells[-1].outputs[0].text == "full\n"
    assert notebook.metadata.fashion_mnist.fingerprint == data.OFFICIAL_FINGERPRINT
    # A notebook that somebody saved meanwhile is not overwritten.
    assert "edited while it ran" in capsys.readouterr().err
    assert "Another title" in edited.read_text()
    assert (checkout / "build" / "full" / "notebooks" / "02_edited.ipynb").exists()


# --------------------------------------------------------------------------------------------------------- report

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def write_executed(root, profile, kind="unverified"):
    """Two notebooks, executed at `profile`, without a kernel."""
    opening = "# 1. Classes & <pixels>\n\nWhat the *data* hold. See [the next](02_b.ipynb).\n\n## Balance"
    outputs = [
        new_output("display_data", {"image/png": PIXEL}),
        new_output("stream", text="\x1b[31mred\x1b[0m <b>\n"),
        new_output("execute_result", {"text/html": pd.DataFrame({"a": [1]}).to_html()}, execution_count=1),
    ]
    stamp = {"profile": profile, "seed": 0, "fingerprint": "f" * 16, "kind": kind, "code": "", "seconds": 61.0}
    for name, cells in {
        "01_a": [new_markdown_cell(opening), new_code_cell("a = 1", outputs=outputs)],
        "02_b": [new_markdown_cell("# Second")],
    }.items():
        (root / "notebooks" / f"{name}.ipynb").write_text(nbformat.writes(new_notebook(cells=cells)), encoding="utf-8")
        copy = study.output_folder(profile, kind, root) / "notebooks" / f"{name}.ipynb"
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells, metadata={"fashion_mnist": stamp}), copy)


def test_the_report_is_self_contained(checkout):
    write_executed(checkout, "quick")
    a_study(checkout).save_result({"mlp_test_accuracy_mean": 0.8912, "images": 70000})
    (checkout / "build" / "quick" / "results" / "01_test.json").rename(
        checkout / "build" / "quick" / "results" / "01_a.json"
    )
    stale = checkout / "build" / "report" / "gone.html"
    stale.parent.mkdir(parents=True)
    stale.write_text("a page of a notebook that is no more")

    index = study.report()
    assert sorted(path.name for path in index.parent.iterdir()) == ["01_a.html", "02_b.html", "index.html"]
    pages = {path.stem: path.read_text(encoding="utf-8") for path in index.parent.iterdir()}
    for name, page in pages.items():
        assert not re.search(r"<script|<link|@import|url\(", page), name
        sources = re.findall(r'src="([^"]*)"', page)
        assert all(source.startswith("data:") for source in sources), name
        for target in re.findall(r'href="([^"#]+)"', page):
            assert (index.parent / target).exists(), f"{name} links to {target}"
        assert "UNVERIFIED DATA" in page
    assert "Classes &amp; &lt;pixels&gt;" in pages["01_a"]
    assert pages["01_a"].count(PIXEL) == 1
    assert '<a href="#Balance">' in pages["01_a"]
    assert "What the <em>data</em> hold" in pages["index"]
    assert '<a href="01_a.html">1. Classes &amp; <pixels></a>' in pages["index"]
    assert "89.12 %" in pages["index"]
    assert "70,000" in pages["index"]


def test_the_report_of_full_shows_committed_outputs_unless_the_build_folder_has_newer(checkout):
    write_executed(checkout, "full", kind="official")
    assert "UNVERIFIED" not in study.report("full").read_text(encoding="utf-8")
    assert "official data" in study.report().read_text(encoding="utf-8"), "nothing at quick: the committed ones"
    write_executed(checkout, "full", kind="unverified")
    assert "UNVERIFIED" in study.report("full").read_text(encoding="utf-8")


def test_a_report_of_nothing_says_what_to_do(checkout):
    write_notebook(checkout, "01_a", "1")
    with pytest.raises(ValueError, match="fashion-mnist run --profile smoke"):
        study.report("smoke")


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("cnn_seed2", {"f1": 32, "f2": 64}, "CNN 32-64-3-64"),
        ("cnn_grid_top3_seed10", {"f1": 64, "f2": 128, "kernel": 3}, "CNN 64-128-3, grid"),
        ("resnet_original_2-16_seed0", {"blocks": 2, "filters": 16}, "Mini ResNet 2-16, original recipe"),
        ("cnn_deeper_seed0", {}, "cnn_deeper"),
        ("of_my_own", {}, "of_my_own"),
    ],
)
def test_a_model_has_a_name_in_words(name, arguments, words):
    assert study.kind_of(name, {"arguments": arguments}) == words


# -------------------------------------------------------------------------------------------------- README's tables

KIND = {
    **{"kind": "Fully connected network", "seeds": 3, "reported": 0.85, "parameters": 1201546},
    **{"training_seconds": 83.2, "inference_ms": 0.021, "test_f1_macro_mean": 0.8909},
    **{"test_accuracy_mean": 0.89123, "test_accuracy_std": 0.0011},
}


def write_evaluation(checkout, *kinds):
    study.write_json(checkout / "results" / "09_final_evaluation.json", {"tables": {"kinds": kinds}})


def test_readme_tables_come_from_the_records(checkout):
    readme = checkout / "README.md"
    readme.write_text(
        "a\n<!-- results:headline -->\n<!-- /results -->\nb\n<!-- results:eda -->\nold\n<!-- /results -->\n"
    )
    write_evaluation(
        checkout,
        KIND,
        KIND | {"kind": "New", "reported": None},
        KIND | {"kind": "Once", "reported": None, "seeds": 1},
        KIND | {"kind": "Once, reported", "seeds": 1, "test_accuracy_std": None},
    )
    before = readme.read_text()
    assert study.readme(check=True) == ["headline", "eda"]
    assert readme.read_text() == before
    assert study.readme() == ["headline", "eda"]
    text = readme.read_text(encoding="utf-8")
    numbers = "89.12 ± 0.11 % | 89.09 % | {} | 1,201,546 | 1 min 23 s | 0.02 ms |"
    assert f"| Fully connected network | {numbers.format('85.00 %')}\n" in text
    assert f"| New | {numbers.format('')}\n" in text
    assert "| Once |" not in text, "a headline needs the seeds that the others have"
    assert "| Once, reported | 89.12 % |" in text, "but no reported number is left out because ours has fewer"
    assert "`results/01_eda.json` is missing" in text
    assert text.startswith("a\n<!-- results:headline -->\n|")
    assert "\nb\n" in text
    assert "old" not in text
    assert study.readme(check=True) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results:nothing -->\n<!-- /results -->", r"'nothing'.*headline, eda"),
        ("<!-- results:eda -->\n", "opens 1 tables .* closes 0"),
        ("<!-- results:headline -->\n<!-- /results -->", "'parameters'"),
    ],
)
def test_readme_markers_that_make_no_sense(checkout, text, message):
    (checkout / "README.md").write_text(text)
    write_evaluation(checkout, {key: value for key, value in KIND.items() if key != "parameters"})
    with pytest.raises(ValueError, match=message):
        study.readme()
    assert (checkout / "README.md").read_text() == text

"""Nothing wrong is ever shown, nothing is ever lost: what no other test file looks at.

Bytes of anybody's as a record, a card, weights, predictions or a model; a full disk; kills and what they leave behind.
Data files are in test_data_properties.py, bombs of them in test_formats.py, kills in test_runner.py, test_training.py
and test_tuning.py.
"""

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile

import nbformat
import numpy as np
import psutil
import pytest
from conftest import garments
from hostile import damage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from made_files import refused_cheaply, write_idx
from nbformat.v4 import new_code_cell, new_notebook

from fashion_mnist import models, tuning  # isort: skip  # first, so that TensorFlow starts silently
import keras
import safetensors.numpy

from fashion_mnist import evaluation, files, networks, records
from fashion_mnist.headless import cli, runner
from fashion_mnist.spaces import Plan, Space
from fashion_mnist.training import Recipe

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
often = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
sometimes = settings(often, max_examples=30)


def refused(read, path):
    """What `read` makes of a file, or None where it says in a sentence, and soon, that it cannot be used."""
    began = time.process_time()  # not of the clock: the machine may be busy with something else
    try:
        return read(path)
    except ValueError as error:
        assert type(error) in (records.RecordError, ValueError)
        assert str(path.stem) in str(error) and "\n" not in str(error) and len(str(error)) < 1500
        return None
    finally:
        assert time.process_time() - began < 2


# --- records and cards -----------------------------------------------------------------------------------------------

CARD = json.dumps({"architecture": "mlp", "arguments": {"hidden": [4], "dropout": 0.2}}, indent=2).encode()


@often
@given(st.randoms(use_true_random=False), st.booleans())
@example(None, True)
def test_any_bytes_are_a_record_or_refused(tmp_path, chance, noise):
    content = b"[" * 200_000 if chance is None else chance.randbytes(50) if noise else damage.damaged(CARD, chance)
    path = files.write_bytes(tmp_path / "a.json", content)
    found = refused(records.read_json, path)
    if found is not None:
        assert found == json.loads(content)


@posix_only
def test_files_that_are_too_large_for_ours_are_refused(tmp_path):
    for name, read in (("a.json", records.read_json), ("a.npz", records.read_arrays)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(4 << 30)  # takes no room on the disk
        refused_cheaply(read, tmp_path / name, f"{name} has 4,294,967,296 bytes, and .* are the most that is read")


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"metadata": []}', '{"metadata": {"fashion_mnist": 3}}', "[" * 100_000]
)
def test_a_damaged_executed_notebook_counts_as_not_executed(tmp_path, content):
    assert runner.stamp(files.write_text(tmp_path / "01_a.ipynb", content)) == {}


@pytest.mark.parametrize("card", [{}, {"data": None}, {"data": {}}])
def test_a_file_that_is_no_card_is_named(tmp_path, card):
    files.write_json(tmp_path / "models" / "a.json", card)
    with pytest.raises(records.RecordError, match=r"a\.json is no card of a network; restore it, with git, or delete"):
        networks.every(tmp_path, "0123456789abcdef")


# --- arrays and predictions ------------------------------------------------------------------------------------------

PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(10), 30)


def as_npz(arrays, write):
    buffer = io.BytesIO()
    write(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Predictions of 30 images: what is read, and the file, deflated and not."""
    path = tmp_path_factory.mktemp("kept") / "a.npz"
    records.write_predictions(path, {"test": PROBABILITIES})
    arrays = records.read_arrays(path)
    return records.read_predictions(path), arrays, [path.read_bytes(), as_npz(arrays, np.savez)]


@settings(often, max_examples=300)
@given(st.randoms(use_true_random=False), st.booleans())
def test_any_bytes_are_predictions_or_refused(tmp_path, kept, chance, deflated):
    predictions, arrays, (packed, plain) = kept
    path = files.write_bytes(tmp_path / "a.npz", damage.damaged(packed if deflated else plain, chance))
    for read, right in ((records.read_arrays, arrays), (records.read_predictions, predictions)):
        found = refused(read, path)
        if found is not None:
            assert found.keys() == right.keys()
            assert all(np.array_equal(found[name], right[name]) for name in right)


def test_an_array_that_announces_fewer_values_than_there_are_is_refused(tmp_path):
    """`np.load` reads as far as the header says and never comes to the checksum behind."""
    plain = as_npz({"test": np.zeros((5000, 10))}, np.savez)
    content = plain.replace(b"'shape': (5000, 10), ", b"'shape': (2000, 10), ")
    with np.load(io.BytesIO(content)) as loaded:
        assert loaded["test"].shape == (2000, 10)
    path = files.write_bytes(tmp_path / "a.npz", content)
    with pytest.raises(records.RecordError, match=r"a\.npz is damaged .*CRC"):
        records.read_arrays(path)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", buffer.getvalue() + b"more")
    with pytest.raises(records.RecordError, match="fewer values than there are"):
        records.read_arrays(path)


shapes = st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=11)
some_arrays = st_numpy.arrays(st.sampled_from(["f2", ">f2", "f4", "u1", "i1", "i8", "?", "U2", "c8"]), shapes)
logs = st_numpy.arrays("f2", st.tuples(st.integers(0, 3), st.just(10)))
classes = st_numpy.arrays("u1", st.integers(0, 3), elements=st.integers(0, 12))


@often
@given(st.one_of(logs, some_arrays), st.one_of(classes, some_arrays))
def test_any_arrays_are_distributions_or_refused(tmp_path, logs, classes):
    path = records.write_arrays(tmp_path / "a.npz", {"test": logs, "test_classes": classes})
    found = refused(records.read_predictions, path)
    if found is not None:
        assert found["test"].shape == (len(classes), 10)
        np.testing.assert_allclose(found["test"].sum(axis=1), 1)
        assert (found["test"].argmax(axis=1) == classes).all()


@pytest.mark.parametrize("announced", [damage.LARGEST_BOMB, 30_000_000])
def test_a_bomb_of_arrays(tmp_path, announced):
    path = files.write_bytes(tmp_path / "a.npz", damage.zip_bomb("test.npy", b"", announced))
    refused_cheaply(records.read_arrays, path, r"a\.npz is damaged")


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A tiny network: its card and weights, as bytes."""
    path = tmp_path_factory.mktemp("network") / "a.safetensors"
    keras.utils.set_random_seed(0)
    models.save(models.mlp(hidden=(4,)), path)
    return CARD, path.read_bytes()


@sometimes
@given(st.randoms(use_true_random=False), st.sampled_from(["card", "weights"]))
def test_any_bytes_are_a_network_or_refused(tmp_path, network, chance, which):
    card, weights = network
    card = damage.damaged(card, chance) if which == "card" else card
    weights = damage.damaged(weights, chance) if which == "weights" else weights
    path = files.write_bytes(tmp_path / "a.json", card)
    files.write_bytes(path.with_suffix(".safetensors"), weights)
    model = refused(models.load, path)
    if model is not None:
        stored = safetensors.numpy.load(weights)
        assert stored.keys() == {variable.path for variable in model.weights}
        for variable in model.weights:
            values = keras.ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(values, stored[variable.path].astype(np.float32))
            assert np.isfinite(values).all()


HUGE = {
    "wide": {"architecture": "mlp", "arguments": {"hidden": [3_000_000]}},
    "deep": {"architecture": "mini_resnet", "arguments": {"blocks": 10**9, "filters": 2}},
    "large kernels": {"architecture": "cnn", "arguments": {"kernel": 10**6}},
    "wider than numbers": {"architecture": "mlp", "arguments": {"hidden": [10**30]}},
    "large image": {"architecture": "resnet50v2", "arguments": {"size": 10**9}},
}


@pytest.mark.parametrize("card", HUGE.values(), ids=HUGE)
def test_a_card_that_asks_for_more_than_its_weights_is_refused_before_memory_is_taken(tmp_path, network, card):
    path = files.write_json(tmp_path / "a.json", card)
    files.write_bytes(path.with_suffix(".safetensors"), network[1])
    with pytest.raises(records.RecordError, match=r"it asks for more weights than its file has.*restore both"):
        refused_at_small_cost(models.load, path)


def refused_at_small_cost(read, path):
    """Memory of TensorFlow's is not Python's, so that of the process is looked at."""
    before, began = psutil.Process().memory_info().rss, time.process_time()
    try:
        read(path)
    finally:
        assert time.process_time() - began < 3
        assert psutil.Process().memory_info().rss - before < 200_000_000


def test_weights_that_are_no_numbers_are_refused(tmp_path, network):
    stored = safetensors.numpy.load(network[1])
    stored["logits/bias"][3] = np.nan
    path = files.write_bytes(tmp_path / "a.json", network[0])
    files.write_bytes(path.with_suffix(".safetensors"), safetensors.numpy.save(stored))
    with pytest.raises(records.RecordError, match="logits/bias holds values that are no numbers"):
        models.load(path)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Somebody's Keras model as bytes, and its answers."""
    path = tmp_path_factory.mktemp("stranger") / "a.keras"
    model = models.mlp(hidden=(4,))
    model.save(path)
    return path.read_bytes(), answers(model)


def answers(model):
    return model.predict(garments(10, 0)[0], verbose=0)


@sometimes
@given(st.randoms(use_true_random=False))
def test_any_bytes_are_somebodys_model_or_refused(tmp_path, stranger, chance):
    path = files.write_bytes(tmp_path / "a.keras", damage.damaged(stranger[0], chance))
    model = refused(evaluation.load_classifier, path)
    if model is not None:
        np.testing.assert_array_equal(answers(model), stranger[1])


def test_a_flipped_weight_of_somebodys_model_is_noticed(tmp_path, stranger):
    content = bytearray(stranger[0])
    content[content.index(b"model.weights.h5") + 4000] ^= 1
    path = files.write_bytes(tmp_path / "a.keras", content)
    with pytest.raises(ValueError, match=r"a\.keras cannot be read .*CRC.*model.weights.h5"):
        evaluation.load_classifier(path)


def test_somebodys_model_that_asks_for_more_weights_than_its_file_has_is_refused(tmp_path, stranger):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(io.BytesIO(stranger[0])) as archive, zipfile.ZipFile(path, "w") as written:
        for entry in archive.infolist():
            content = archive.read(entry)
            written.writestr(entry.filename, content.replace(b'"units": 4,', b'"units": 3000000,'))
    with pytest.raises(ValueError, match="it asks for more weights than its file has"):
        refused_at_small_cost(evaluation.load_classifier, path)


# --- a full disk, kills, and what they leave -------------------------------------------------------------------------

PARAMETERS = 'PROFILE = "quick"\nSEED = 0\nDATA = None'


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout with a little data; the kernels' temporary directory is ``temporary`` beside it."""
    root, temporary = tmp_path / "checkout", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(root))
    monkeypatch.setenv("TMPDIR", str(temporary))
    splits = {"train": garments(120, 0), "test": garments(40, 1)}
    monkeypatch.setenv("FASHION_MNIST_DATA", str(write_idx(tmp_path / "data", splits)))
    return root


def write_notebook(root, source):
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(source)]
    (root / "notebooks").mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / "01_a.ipynb")


def until(condition, seconds=120):
    """Wait for what must come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def test_a_run_on_a_full_disk_says_where_and_that_the_rest_is_safe(checkout, capsys):
    checkout.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(checkout)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        write_notebook(checkout, "print('much to be kept ' * 200_000)")
        assert runner.run(profile="smoke") == 1
        said = capsys.readouterr().err
        assert "01_a failed: " in said and "No space left on device" in said
        assert str(checkout / "build" / "smoke") in said and "Notebooks that are finished are safe." in said
        assert not (checkout / "build" / "smoke" / "notebooks").exists()
    finally:
        subprocess.run(["umount", str(checkout)], check=True)


# Leaves what a kill in the middle of writing leaves: the checkpoint of a training, and something measured.
HALF_WRITTEN = """\
import time
from pathlib import Path
from fashion_mnist import files
for kind in ("checkpoints", "measured"):
    writing = files.replacing(Path("build") / kind / "smoke" / "a.npz")
    globals()[kind] = writing
    writing.__enter__().write_text("half")
Path("sleeping").touch()
time.sleep(600 if Path("wait").exists() else 0)
for writing in (checkpoints, measured):
    writing.__exit__(None, None, None)"""


@posix_only
@pytest.mark.slow
def test_what_a_killed_run_leaves_is_gone_after_the_next(checkout, tmp_path):
    write_notebook(checkout, HALF_WRITTEN)
    (checkout / "wait").touch()
    command = [sys.executable, "-m", "fashion_mnist", "run", "--profile", "smoke"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as running:
        until(lambda: (checkout / "sleeping").exists() or running.poll() is not None)
        os.killpg(running.pid, signal.SIGKILL)
    kernels = [each for each in psutil.process_iter(["environ"]) if str(checkout) in str(each.info["environ"])]
    psutil.wait_procs(kernels, timeout=30)  # they notice by themselves
    assert running.returncode == -signal.SIGKILL
    assert list((tmp_path / "temporary").iterdir()) == [], "not even a file that says how to connect to the kernel"
    build = checkout / "build"
    assert len(list(build.rglob(".a.*.tmp.npz"))) == 2 and list((build / "smoke" / "staging").iterdir())
    (checkout / "wait").unlink()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert not list(build.rglob(".*.tmp*"))
    assert not list((build / "smoke" / "staging").iterdir()) and not list((tmp_path / "temporary").iterdir())


def complete(database):
    """How many trials of a study are complete, told from its file."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:  # there is none yet, or its tables are being made
        return 0


@posix_only
@pytest.mark.slow
def test_a_worker_killed_after_trials_are_complete_loses_none_and_doubles_none(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=1e-2, keep="last")
    space = Space("mlp", {"units": (2, 4, 6, 8)}, lambda values: Plan("mlp", {"hidden": (values["units"],)}, recipe))
    killed = []

    def kill_one():
        until(lambda: complete(tmp_path / "build" / "tuning" / "late" / "study.db"))
        workers = [each for each in psutil.Process().children() if "distributed.cli.dask_worker" in each.cmdline()]
        killed.append(random.choice(workers))
        killed[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    options = {"epochs": 2, "min_epochs": 2, "workers": 2, "precision": "float32", "name": "late"}
    tuned = tuning.tune(space, garments(256, 0), garments(100, 1), **options)
    killer.join(60)
    assert len(killed) == 1
    assert [trial.params["units"] for trial in tuned.trials] == [2, 4, 6, 8]
    assert {(trial.state, trial.epochs, len(trial.pieces), trial.error) for trial in tuned.trials} == {
        ("complete", 2, 1, None)
    }


def test_help_says_what_the_seed_promises(capsys):
    with pytest.raises(SystemExit):
        cli.main(["tune", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--deterministic the same numbers in every run" in said
    assert "without --deterministic, threads add up in any order" in said

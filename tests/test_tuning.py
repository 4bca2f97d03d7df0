"""A study takes each configuration once, keeps the better ones, and survives kills, lost workers and failing trials."""

import contextlib
import inspect
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import garments

from fashion_mnist import data, files, models, training, tuning  # isort: skip  first, so that TensorFlow starts silently
import keras
import optuna

from fashion_mnist.halving import Trial, Tuned, replay_halving
from fashion_mnist.spaces import SPACES, Float, Plan, Space
from fashion_mnist.training import Recipe
from fashion_mnist.tuning import TuningError

RECIPE = Recipe(epochs=1, batch_size=64, learning_rate=1e-2, keep="last")

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

TRAIN, VALIDATION = garments(256, 0), garments(100, 1)


def small_mlp(values):
    rate = values.get("rate", RECIPE.learning_rate)
    return Plan("mlp", {"hidden": (values["units"],)}, RECIPE.replace(learning_rate=rate))


def mlp_space(**parameters):
    return Space("mlp", parameters, small_mlp)


def tune(space, **arguments):
    return tuning.tune(space, TRAIN, VALIDATION, **{"epochs": 1, "precision": "float32", **arguments})


@pytest.fixture(autouse=True)
def own_root(tmp_path, monkeypatch):
    """Studies are below a folder of the test's."""
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))


def known(trials):
    """What must be the same of two studies: all but how long it took."""
    return [
        [t.number, t.params, t.state, t.error, t.history.get("val_loss"), t.history.get("loss"), len(t.pieces)]
        for t in trials
    ]


def test_settings_that_do_not_fit_are_refused():
    for arguments, message in (
        ({"space": "dance"}, "choose one of cnn_grid"),
        ({"space": mlp_space(units=(1, 2)), "trials": 3}, "has 2 configurations"),
        ({"space": mlp_space(units=(1, 2)), "cohort": 0}, "cohort=0 is not a positive whole number"),
        ({"space": mlp_space(units=(1, 2)), "workers": 1.5}, "workers=1.5 is not a positive whole number"),
        ({"space": mlp_space(units=(1, 2)), "min_epochs": 2}, "min_epochs=2 is more than epochs=1"),
        ({"space": mlp_space(units=(1, 2)), "factor": 1}, "factor=1"),
        ({"space": mlp_space(units=(1, 2)), "precision": "float16"}, "precision='float16'; choose one of auto"),
        ({"space": mlp_space(units=(1, 2)), "workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "one of them"),
        ({"space": mlp_space(units=(1, 2)), "name": "a/b"}, "no name for a study"),
        ({"space": Space("x", {"a": (1,)}, lambda _: Plan("vgg", {}, RECIPE))}, "no architecture 'vgg'"),
    ):
        with pytest.raises(ValueError, match=message):
            tune(**arguments)


# ------------------------------------------------------------------------------------------------ a study from within


SPACE = mlp_space(units=(2, 16), rate=(1e-4, 3e-3, 2e-2))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Six configurations, rungs at 1, 2 and 4 epochs."""
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASHION_MNIST_ROOT", str(root))
        return {"root": root, "tuned": tune(SPACE, epochs=4, factor=2, name="six")}


def test_a_grid_takes_each_configuration_exactly_once(study):
    trials = study["tuned"].trials
    assert [trial.params for trial in trials] == SPACE.configurations()
    assert [trial.number for trial in trials] == list(range(6))


def test_what_goes_on_was_better_at_its_rung(study):
    tuned = study["tuned"]
    assert tuned.rungs == (1, 2, 4)
    alive = tuned.trials
    for rung, count in ((1, 3), (2, 1)):
        alive = sorted(alive, key=lambda trial: (-trial.val_accuracy[rung - 1], trial.number))
        alive, cut = alive[:count], alive[count:]
        assert {(trial.state, trial.epochs) for trial in cut} == {("pruned", rung)}
    assert [(trial.state, trial.epochs) for trial in alive] == [("complete", 4)]
    assert alive == [tuned.best]
    assert tuned.epochs == 3 * 1 + 2 * 2 + 4
    assert [(row["epochs"], row["trials"], row["cut"]) for row in tuned.schedule()] == [(1, 6, 3), (2, 3, 2), (4, 1, 0)]


def test_a_paused_training_is_the_one_it_would_have_been(study):
    """The winner stopped at two rungs; `fit` in one go gives the same losses."""
    best = study["tuned"].best
    keras.utils.set_random_seed(0)
    model = models.build(best.plan.architecture, **best.plan.arguments)
    whole = training.fit(model, TRAIN, VALIDATION, best.plan.recipe, seed=0, precision="float32").history
    assert best.plan.recipe.epochs == 4
    for measure in ("loss", "val_loss", "learning_rate"):
        assert best.history[measure] == pytest.approx(whole[measure], rel=1e-5)
    assert len(best.pieces) == 3 and all(seconds > 0 for seconds in best.pieces)


def test_pruning_replayed_on_whole_trainings_ends_where_it_did(study):
    pruned = study["tuned"]
    whole = tune(SPACE, epochs=4, min_epochs=4)
    assert all(trial.epochs == 4 for trial in whole.trials)
    found = replay_halving(whole.trials, pruned.rungs, pruned.factor)
    assert found.params == pruned.best.params
    assert replay_halving(whole.trials, whole.rungs, 2) == whole.best


def test_early_stopping_completes_a_trial_before_its_last_rung():
    """A rate so small that the validation loss stands still: it stops after one epoch without a better one."""
    recipe = RECIPE.replace(learning_rate=1e-12, patience=1, keep="best")
    space = Space("still", {"units": (2, 4)}, lambda values: Plan("mlp", {"hidden": (values["units"],)}, recipe))
    tuned = tune(space, epochs=8, min_epochs=4, factor=2)
    for trial in tuned.trials:
        assert trial.state == "complete"
        assert trial.epochs < 4
        assert len(trial.pieces) == 1, "what has ended is not trained again at the next rung"


def test_plain_keras_is_timed_on_whole_batches():
    plan = small_mlp({"units": 4})
    rates = tuning.plain_keras_rates(plan, *TRAIN)
    assert all(100 < rate < 1e7 for rate in rates)
    with pytest.raises(ValueError, match="63 images do not fill two batches of 32"):
        tuning.plain_keras_rates(plan, TRAIN[0][:63], TRAIN[1][:63])


def test_the_storage_tells_the_same_and_the_checkpoints_are_gone(study):
    folder = study["root"] / "build" / "tuning" / "six"
    stored = optuna.load_study(study_name="six", storage=f"sqlite:///{(folder / 'study.db').as_posix()}")
    assert [trial.state.name.lower() for trial in stored.trials] == [trial.state for trial in study["tuned"].trials]
    assert stored.best_value == study["tuned"].best.accuracy
    for frozen, trial in zip(stored.trials, study["tuned"].trials, strict=True):
        assert list(frozen.intermediate_values.values()) == trial.val_accuracy
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "study.db"]


def test_a_finished_study_is_told_again_not_trained_again(study, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(study["root"]))
    again = tune(SPACE, epochs=4, factor=2, name="six", resume=True)
    assert again.trials == study["tuned"].trials
    assert again.seconds == study["tuned"].seconds


def test_a_study_read_from_its_record_is_the_study(study):
    tuned = study["tuned"]
    rows = json.loads(json.dumps(tuned.rows()))
    for row in rows:
        assert {"number", "units", "rate", "state", "error", "epochs", "accuracy"} <= set(row)
        assert len(row["seconds"]) == len(row["val_accuracy"]) == row["epochs"]
    read = Tuned.from_rows(SPACE, rows, tuned.rungs, tuned.factor, tuned.seconds)
    assert read.rows() == tuned.rows()
    assert [(trial.params, trial.plan) for trial in read.trials] == [(t.params, t.plan) for t in tuned.trials]


def test_an_existing_study_is_not_touched_by_mistake(study, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(study["root"]))
    with pytest.raises(TuningError, match=r"with 6 of 6 trials finished\. Resume it"):
        tune(SPACE, epochs=4, factor=2, name="six")
    with pytest.raises(TuningError, match=r"is another one: seed was 0 and is 1\. Give another name"):
        tune(SPACE, epochs=4, factor=2, name="six", resume=True, seed=1)
    fewer = (TRAIN[0][:200], TRAIN[1][:200])
    with pytest.raises(TuningError, match="is another one: data was"):
        tuning.tune(SPACE, fewer, VALIDATION, epochs=4, factor=2, name="six", resume=True, precision="float32")
    other = mlp_space(units=(2, 8), rate=(1e-4, 3e-3, 2e-2))
    with pytest.raises(TuningError, match="is another one: parameters was"):
        tune(other, epochs=4, factor=2, name="six", resume=True)
    monkeypatch.setattr(tuning, "VERSION", training.VERSION + 1)
    with pytest.raises(TuningError, match=f"is another one: version was {training.VERSION} and is"):
        tune(SPACE, epochs=4, factor=2, name="six", resume=True)


def test_a_study_is_run_by_one_process_at_a_time(study, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(study["root"]))
    running = files.alone(study["root"] / "build" / "tuning" / "six", "is a test")
    with running, pytest.raises(files.Busy, match="Another process runs the study 'six'"):
        tune(SPACE, epochs=4, factor=2, name="six", resume=True)


def test_equal_seeds_give_equal_searches_and_other_seeds_others(tmp_path):
    """Three trials in cohorts of two: the third follows from the results of the first two."""
    space = mlp_space(units=(2, 8, 32), rate=Float(1e-4, 1e-1, log=True))
    first, again = (tune(space, trials=3, cohort=2, name=name) for name in ("first", "again"))
    assert len({tuple(trial.params.values()) for trial in first.trials}) == 3
    assert known(again.trials) == known(first.trials)
    record = tuning._Record(f"sqlite:///{(tmp_path / 'other').as_posix()}", "other", space, 1, tmp_path)
    other = record._search([], range(2), seed=1)
    assert not {values["rate"] for values in other} & {trial.params["rate"] for trial in first.trials}


def test_a_cohort_that_was_half_chosen_is_chosen_on_as_it_would_have_been(tmp_path):
    space = mlp_space(units=(2, 8, 32), rate=Float(1e-4, 1e-1, log=True))
    chosen = {}
    for name, parts in (("whole", [4]), ("parts", [1, 3, 4])):
        record = tuning._Record(f"sqlite:///{(tmp_path / name).as_posix()}", name, space, 1, tmp_path)
        record.begin({}, False)
        drawn = record._search([], range(4), seed=5)
        for part in parts:
            record.choose(range(part), drawn, seed=5)
        chosen[name] = [trial.params for trial in record.trials()]
    assert len(chosen["whole"]) == 4
    assert chosen["parts"] == chosen["whole"] == drawn


def test_a_part_of_a_grid_is_drawn_by_the_seed():
    space = SPACES["cnn_grid"]
    few = tuning._grid_order(space, 7, seed=0)
    assert len({tuple(values.values()) for values in few}) == 7
    assert few == tuning._grid_order(space, 7, seed=0) != tuning._grid_order(space, 7, seed=1)
    assert tuning._grid_order(space, None, seed=0) == space.configurations()


def test_a_description_tells_spaces_apart():
    assert tuning.describe("cnn_grid") == json.loads(json.dumps(tuning.describe(SPACES["cnn_grid"])))
    one, other = mlp_space(units=(1, 2)), mlp_space(units=(1, 3))
    assert tuning.describe(one) != tuning.describe(other)
    slower = Space("mlp", one.parameters, lambda values: small_mlp({**values, "rate": 1e-5}))
    assert tuning.describe(one) != tuning.describe(slower), "the same parameters stand for other recipes"


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_failing_configuration_is_recorded_and_the_study_goes_on():
    tuned = tune(mlp_space(units=(0, 4), rate=(1e-2, 1e30)))
    refused, diverging = tuned.trials[:2], tuned.trials[3]
    assert {trial.state for trial in refused} == {"failed"}
    assert "hidden: 0 is not a positive whole number" in refused[0].error
    assert diverging.state == "failed" and diverging.error.startswith("TrainingError: The loss became")
    assert tuned.trials[2].state == "complete"
    assert tuned.best == tuned.trials[2]


def test_if_all_fail_the_first_error_is_named():
    space = mlp_space(units=(0, -1))
    with pytest.raises(TuningError, match=r"All 2 trials .* \{'units': 0\}: ValueError: hidden: 0 is not a positive"):
        tune(space)
    with pytest.raises(TuningError, match="with 2 of 2 trials finished"):
        tune(space)


def test_a_damaged_checkpoint_is_trained_anew(tmp_path):
    checkpoint = tmp_path / "0.npz"
    checkpoint.write_bytes(b"half of it")
    settings = {"seed": 0, "precision": "float32", "deterministic": False}
    outcome = tuning._train(TRAIN, VALIDATION, settings, small_mlp({"units": 4}), 1, checkpoint)
    assert outcome["error"] is None
    assert len(outcome["history"]["val_accuracy"]) == 1


def test_a_storage_that_cannot_be_used_is_named_without_its_password():
    with pytest.raises(TuningError, match=r"sqlite:////nowhere/study.db cannot be used: .*unable to open"):
        tune(SPACE, storage="sqlite:////nowhere/study.db")
    pytest.importorskip("psycopg")
    with pytest.raises(TuningError, match=r"postgresql://me:\*\*\*@127.0.0.1:1/x cannot be used") as raised:
        tune(SPACE, storage="postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(raised.value)


# ------------------------------------------------------------------------------------------------------ kill and resume


def outcomes(database):
    """The finished pieces of each trial in a study's file, as stored."""
    if not database.exists():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = "SELECT trial_id, value_json FROM trial_user_attributes WHERE key = 'outcome'"
            return dict(connection.execute(query))
    except sqlite3.OperationalError:  # its tables are being made
        return {}


def until(condition, seconds=300):
    """Wait for what must come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def deterministic_study(name, **options):
    """Four configurations, two of which go on: equal runs end with equal bits."""
    return tune(mlp_space(units=(4, 8, 12, 16)), epochs=2, factor=2, deterministic=True, name=name, **options)


def here(code, **options):
    """A Python process of its own that has this module's names; deterministic operations last for a process's life."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    code = f"from test_tuning import *\n{code}"
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **options)


@posix_only
def test_a_killed_study_resumes_where_it_was_and_ends_where_it_would_have(tmp_path):
    folder = tmp_path / "build" / "tuning" / "killed"
    with here("deterministic_study('killed')", stderr=subprocess.PIPE) as running:
        try:
            # Two trials are at the first rung, and the third has its first checkpoint.
            until(lambda: len(outcomes(folder / "study.db")) >= 2 or running.poll() is not None)
            until(lambda: (folder / "2.npz").exists() or running.poll() is not None)
        finally:
            running.kill()
        assert running.wait() == -signal.SIGKILL, running.stderr.read()
    before = outcomes(folder / "study.db")
    assert 2 <= len(before) < 4  # the kill takes its time too
    with pytest.raises(TuningError, match=r"with 0 of 4 trials finished. Resume it"):
        deterministic_study("killed")

    code = """studies = [deterministic_study('killed', resume=True), deterministic_study('whole')]
print(json.dumps([known(study.trials) for study in studies]))"""
    with here(code, stdout=subprocess.PIPE) as running:
        resumed, whole = json.loads(running.communicate()[0])
    assert resumed == whole
    assert sorted(trial[2] for trial in whole) == ["complete", "complete", "pruned", "pruned"]
    after = {key: json.loads(value) for key, value in outcomes(folder / "study.db").items()}
    for identifier, stored in before.items():
        assert after[identifier]["history"]["seconds"][0] == json.loads(stored)["history"]["seconds"][0]
    assert not list(folder.glob("*.npz*"))


# ------------------------------------------------------------------------------------------------------------- workers


def test_any_executor_will_do():
    space = mlp_space(units=(4, 8, 0))
    with ThreadPoolExecutor(2) as pool:
        there = tune(space, epochs=3, workers=pool, name="there")
    here = tune(space, epochs=3, name="here")
    assert [(trial.params, trial.state, trial.epochs) for trial in there.trials] == [
        (trial.params, trial.state, trial.epochs) for trial in here.trials
    ]
    assert there.best.history["val_loss"] == pytest.approx(here.best.history["val_loss"], rel=1e-5)
    assert "hidden: 0" in there.trials[2].error


def worker_processes():
    """Those that `local_workers` started here, registered or not."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has just died
            if any("dask_worker" in part for part in child.cmdline()):
                found.append(child)
    return found


def kill(process):
    with contextlib.suppress(psutil.Error):
        process.kill()


@contextlib.contextmanager
def meanwhile(act):
    """Run a function in a thread while the body runs; what it raises is raised at the end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act)
        yield
        future.result(timeout=60)


def assert_whole(tuned, configurations, kept):
    """Every configuration once, each rung trained once."""
    assert [trial.params for trial in tuned.trials] == configurations
    assert {trial.error for trial in tuned.trials} == {None}
    assert sorted(trial.epochs for trial in tuned.trials) == [1] * (len(configurations) - kept) + [3] * kept
    assert {(trial.state, trial.epochs) for trial in tuned.trials} == {("pruned", 1), ("complete", 3)}
    assert all(len(trial.pieces) == (1 if trial.epochs == 1 else 2) for trial in tuned.trials)
    assert all(len(values) == trial.epochs for trial in tuned.trials for values in trial.history.values())


@posix_only
def test_a_lost_worker_loses_no_configuration_and_doubles_none(tmp_path):
    """Two real workers; one is killed in mid-study, and trains or holds something at that moment."""
    import distributed

    space = mlp_space(units=(2, 4, 6, 8, 10, 12))
    database = tmp_path / "build" / "tuning" / "lost" / "study.db"
    with tuning.local_workers(2) as address:
        with distributed.Client(address) as client:
            client.wait_for_workers(2, timeout=60)
            workers = set(client.run(os.getpid).values())
            threads = client.run(os.getenv, "TF_NUM_INTRAOP_THREADS")
        assert len(workers) == 2 and os.getpid() not in workers
        assert set(threads.values()) == {str(max(1, (os.cpu_count() or 1) // 2))}
        killed = next(iter(workers))

        def kill_one():
            until(lambda: outcomes(database))
            os.kill(killed, signal.SIGKILL)

        with meanwhile(kill_one):
            tuned = tune(space, epochs=3, scheduler=address, name="lost")
        with distributed.Client(address) as client:
            client.wait_for_workers(2, timeout=60)
            assert killed not in client.run(os.getpid).values()
    assert_whole(tuned, space.configurations(), kept=2)
    assert not worker_processes()


@posix_only
def test_workers_killed_while_they_start_do_not_end_a_study():
    """The first three die before they have registered: at once, while Python starts, while Dask is imported."""
    space = mlp_space(units=(2, 4, 6, 8))
    seen = set()

    def kill_three():
        for delay in (0, 0.2, 0.5):
            process = until(lambda: [each for each in worker_processes() if each.pid not in seen])[0]
            seen.add(process.pid)
            time.sleep(delay)
            kill(process)

    with meanwhile(kill_three):
        tuned = tune(space, epochs=3, workers=2)
    assert len(seen) == 3
    assert_whole(tuned, space.configurations(), kept=1)


@posix_only
def test_three_random_kills_change_nothing():
    """At whatever moments they come, the study is the one without them, to the last bit."""
    draw, killed = random.Random(0), []
    space = mlp_space(units=(2, 4, 6, 8, 10, 12))

    def kill_three():
        while len(killed) < 3:
            time.sleep(draw.uniform(0.5, 6))
            if processes := worker_processes():
                killed.append(draw.choice(processes))
                kill(killed[-1])

    with tuning.local_workers(2) as address:
        options = {"epochs": 3, "scheduler": address, "deterministic": True}
        with meanwhile(kill_three):
            tuned = tune(space, name="killed", **options)
        whole = tune(space, name="whole", **options)
    assert_whole(tuned, space.configurations(), kept=2)
    assert known(tuned.trials) == known(whole.trials)


def test_initial_weights_follow_from_the_seed_whatever_other_threads_draw(tmp_path):
    """Dask's threads draw from Python's `random` when messages come, as this one does all the time."""
    settings, plan = {"seed": 0, "precision": "float32", "deterministic": False}, small_mlp({"units": 8})
    over = threading.Event()

    def losses(name):
        return tuning._train(TRAIN, VALIDATION, settings, plan, 1, tmp_path / name)["history"]["loss"]

    def draw():
        while not over.is_set():
            random.sample(range(20), 10)

    undisturbed = losses("0.npz")
    with meanwhile(draw):
        disturbed = [losses(f"{number}.npz") for number in (1, 2, 3)]
        over.set()
    assert disturbed == [pytest.approx(undisturbed, rel=1e-5)] * 3


def test_a_scheduler_without_workers_is_told(monkeypatch):
    import distributed

    monkeypatch.setattr(tuning, "PATIENCE", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(TuningError, match=f"{address} has no worker. Start some: dask worker {address}"):
            tune(SPACE, scheduler=address)


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture
def postgresql():
    """URL of a database of a server of our own."""
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (found and found[-1])
    if not initdb:
        pytest.skip("needs PostgreSQL's initdb: apt-get install postgresql")
    # The server refuses to run as root, so there it runs as nobody in particular.
    owner = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short, for the path of a socket is limited
    try:
        if owner:
            shutil.chown(folder, owner["user"], owner["group"])
        command = [initdb, "--pgdata", folder / "data", "--username", "tuner", "--auth", "trust", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **owner)
        command = [Path(initdb).resolve().with_name("postgres"), "-D", folder / "data", "-k", folder, "-h", "", "-F"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=folder, **owner) as server:
            try:
                url = f"postgresql://tuner@/postgres?host={folder}"

                def answers() -> bool:  # its socket is there before it takes connections
                    with contextlib.suppress(psycopg.OperationalError):
                        psycopg.connect(url).close()
                        return True
                    return server.poll() is not None

                until(answers, seconds=60)
                assert server.poll() is None, server.stderr.read()
                yield url
            finally:
                server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
                server.communicate(timeout=30)
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="starts Debian's PostgreSQL")
def test_a_study_in_postgresql(postgresql, tmp_path):
    space = mlp_space(units=(4, 8))
    tuned = tune(space, storage=postgresql, name="far")
    assert [trial.state for trial in tuned.trials] == ["complete", "complete"]
    assert not list((tmp_path / "build").rglob("*.db"))
    with pytest.raises(TuningError, match="with 2 of 2 trials finished"):
        tune(space, storage=postgresql, name="far")
    again = tune(space, storage=postgresql, name="far", resume=True)
    assert again.trials == tuned.trials
    stored = optuna.load_study(study_name="far", storage=postgresql.replace("postgresql:", "postgresql+psycopg:"))
    assert stored.best_value == tuned.best.accuracy


# ---------------------------------------------------------------------------------------------------------- importance


def trial(number, params, accuracies):
    return Trial(number, params, small_mlp(params), "complete", None, {"val_accuracy": accuracies}, [1.0])


def test_no_test_image_is_read():
    assert "x_test" not in inspect.getsource(tuning)
    assert data.Dataset.__dataclass_fields__["x_test"], "what they are called"

"""A study takes each configuration once, keeps the better ones, and survives kills, lost workers and failing trials."""

import inspect
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from conftest import garments

matplotlib.use("Agg")

from fashion_mnist import cli, data, models, plots, training, tuning  # isort: skip  first, so that TensorFlow starts silently
import keras
import matplotlib.pyplot as plt
import optuna

from fashion_mnist.training import Recipe
from fashion_mnist.tuning import Float, Int, Plan, Space, Trial, Tuned, TuningError

ARCHIVE = Path(__file__).parents[1] / "data.zip"
SCRIPT = Path(sys.executable).with_name("fashion-mnist")
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
    return [(t.number, t.params, t.state, t.error, t.history.get("val_loss"), t.history.get("loss")) for t in trials]


# ------------------------------------------------------------------------------------------------------------ spaces


def test_the_starting_projects_grids():
    cnn, resnet = tuning.SPACES["cnn_grid"].configurations(), tuning.SPACES["resnet_grid"].configurations()
    assert (len(cnn), len(resnet)) == (36, 12)
    assert len({tuple(values.values()) for values in cnn}) == 36
    assert {"f1": 64, "f2": 128, "kernel": 3, "dense": 32} in cnn
    assert {"blocks": 3, "filters": 64} in resnet


@pytest.mark.parametrize("name", tuning.SPACES)
def test_whatever_a_space_holds_can_be_built(name):
    space = tuning.SPACES[name]
    for values in tuning._probes(space):
        plan = space.plan(values)
        model = models.build(plan.architecture, **plan.arguments)
        assert model.output_shape == (None, 10)
        assert isinstance(plan.recipe, Recipe)


def test_the_plan_of_a_search_follows_its_values():
    values = {"normalisation": "batch", "convolutions": 2, "stages": 3, "width": 16, "dense": 64, "dropout": 0.1}
    values |= {"optimizer": "sgd", "learning_rate": 1e-3, "batch_size": 256, "augmentation": "flip and shift"}
    plan = tuning.SPACES["cnn_search"].plan(values)
    assert plan.architecture == "deep_cnn"
    assert plan.arguments == {"widths": (16, 32, 64), "dense": 64, "dropouts": (0.1,) * 4}
    assert (plan.recipe.optimizer, plan.recipe.batch_size) == ("sgd", 256)
    assert plan.recipe.learning_rate == pytest.approx(0.05)
    assert (plan.recipe.augmentation.flip, plan.recipe.augmentation.shift) == (True, 2)
    assert tuning.SPACES["cnn_search"].plan(values | {"convolutions": 1}).architecture == "regularised_cnn"
    assert tuning.SPACES["cnn_search"].plan(values | {"normalisation": "none"}).architecture == "cnn"
    adam = tuning.SPACES["cnn_search"].plan(values | {"optimizer": "adam"}).recipe
    assert (adam.optimizer, adam.learning_rate) == ("adam", 1e-3)


@pytest.mark.parametrize("values", [(), (1, 1), [1, 2], Float(1, 1), Int(3, 2), Float(0, 1, log=True)], ids=repr)
def test_a_parameter_without_sense_is_refused(values):
    with pytest.raises(ValueError, match="Parameter 'units' of space 'mlp'"):
        mlp_space(units=values)


def test_settings_that_do_not_fit_are_refused():
    for arguments, message in (
        ({"space": "dance"}, "choose one of cnn_grid"),
        ({"space": mlp_space(units=Int(1, 9)), "sampler": "grid"}, "no grid: units"),
        ({"space": mlp_space(units=(1, 2)), "trials": 3}, "has 2 configurations"),
        ({"space": mlp_space(units=(1, 2)), "min_epochs": 2}, "min_epochs=2 is more than epochs=1"),
        ({"space": mlp_space(units=(1, 2)), "factor": 1}, "factor=1"),
        ({"space": mlp_space(units=(1, 2)), "workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "one of them"),
        ({"space": mlp_space(units=(1, 2)), "name": "a/b"}, "no name for a study"),
        ({"space": Space("x", {"a": (1,)}, lambda _: Plan("vgg", {}, RECIPE))}, "networks that do not exist: vgg"),
    ):
        with pytest.raises(ValueError, match=message):
            tune(**arguments)


# ---------------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((9,), (1, 3, 9)),
        ((20,), (2, 7, 20)),
        ((20, 3), (7, 20)),
        ((8, 1, 2), (1, 2, 4, 8)),
        ((5, 5), (5,)),
        ((1,), (1,)),
    ],
)
def test_rungs(arguments, expected):
    assert tuning.rungs(*arguments) == expected


def test_a_rung_promotes_the_better_part():
    accuracies = {0: 0.3, 1: 0.9, 2: 0.5, 3: 0.7, 4: 0.1, 5: 0.6}
    assert tuning.promoted(accuracies, 2) == [1, 3, 5]
    assert tuning.promoted(accuracies, 3) == [1, 3]
    assert tuning.promoted(accuracies, 4) == [1]
    assert tuning.promoted({7: 0.2}, 3) == [7], "the last one is not lost"
    assert tuning.promoted({4: 0.5, 2: 0.5, 9: 0.5}, 3) == [2], "among equals the first"
    assert tuning.promoted({}, 3) == []


def test_earlier_cohorts_set_the_bar():
    earlier = {0: 0.8, 1: 0.7, 2: 0.1}
    assert tuning.promoted({3: 0.6, 4: 0.5, 5: 0.4}, 3, earlier) == [], "two of six go on, and both have gone"
    assert tuning.promoted({3: 0.75, 4: 0.9, 5: 0.4}, 3, earlier) == [4]


def test_halving_by_hand():
    """Eight curves, rungs at 1, 2 and 4 epochs, one failure after the first rung."""
    curves = {
        0: [0.10, 0.80, 0.90, 0.99],  # the best in the end, but slow: the price of looking early
        1: [0.50, 0.55, 0.56, 0.57],
        2: [0.40, 0.60, 0.70, 0.80],
        3: [0.20, 0.30, 0.40, 0.50],
        4: [0.60, 0.61, 0.62, 0.63],
        5: [0.30, 0.31, 0.32, 0.33],
        6: [0.55, 0.56, 0.57, 0.58],
        7: [0.05, 0.06, 0.07, 0.08],
    }
    asked = []

    def train(numbers, epochs):
        asked.append((epochs, numbers))
        return {number: curves[number][epochs - 1] for number in numbers if (number, epochs) != (1, 2)}

    reached = {}
    steps = list(tuning.halving(range(8), (1, 2, 4), 2, train, reached))
    assert asked == [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (2, [1, 2, 4, 6]), (4, [4])]
    assert steps == [(1, [1, 2, 4, 6], [0, 3, 5, 7]), (2, [4], [2, 6]), (4, [4], [])]
    assert reached[2] == {2: 0.60, 4: 0.61, 6: 0.56}


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
    found = tuning.replay_halving(whole.trials, pruned.rungs, pruned.factor)
    assert found.params == pruned.best.params
    assert tuning.replay_halving(whole.trials, whole.rungs, 2) == whole.best
    with pytest.raises(ValueError, match=r"not complete; tune with min_epochs=epochs"):
        tuning.replay_halving(pruned.trials, pruned.rungs, pruned.factor)


def test_plain_keras_is_timed_on_whole_batches():
    plan = small_mlp({"units": 4})
    rates = tuning.plain_keras_rates(plan, *TRAIN)
    assert all(100 < rate < 1e7 for rate in rates)
    with pytest.raises(ValueError, match="256 images do not fill a batch of 300"):
        tuning.plain_keras_rates(plan, *TRAIN, batch_size=300)


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


def test_a_study_is_run_by_one_process_at_a_time(study, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(study["root"]))
    running = tuning._alone_in(study["root"] / "build" / "tuning" / "six")
    with running, pytest.raises(TuningError, match="Another process runs study 'six'"):
        tune(SPACE, epochs=4, factor=2, name="six", resume=True)


def test_rows_are_a_table_that_json_holds(study):
    rows = json.loads(json.dumps(study["tuned"].rows()))
    assert len(rows) == 6
    for row in rows:
        assert {"number", "units", "rate", "state", "error", "epochs", "accuracy"} <= set(row)
        assert len(row["seconds"]) == len(row["val_accuracy"]) == row["epochs"]


def test_equal_seeds_give_equal_searches_and_other_seeds_others(tmp_path):
    """Three trials in cohorts of two: the third follows from the results of the first two."""
    space = mlp_space(units=Int(2, 32), rate=Float(1e-4, 1e-1, log=True))
    first, again = (tune(space, trials=3, cohort=2, name=name) for name in ("first", "again"))
    assert len({tuple(trial.params.values()) for trial in first.trials}) == 3
    assert known(again.trials) == known(first.trials)
    record = tuning._Record(f"sqlite:///{(tmp_path / 'other').as_posix()}", "other", space, 1)
    other = record._search([], range(2), seed=1)
    assert not {values["rate"] for values in other} & {trial.params["rate"] for trial in first.trials}


def test_a_cohort_that_was_half_chosen_is_chosen_on_as_it_would_have_been(tmp_path):
    space = mlp_space(units=Int(2, 32), rate=Float(1e-4, 1e-1, log=True))
    chosen = {}
    for name, parts in (("whole", [4]), ("parts", [1, 3, 4])):
        record = tuning._Record(f"sqlite:///{(tmp_path / name).as_posix()}", name, space, 1)
        record.begin({}, False, tmp_path)
        drawn = record._search([], range(4), seed=5)
        for part in parts:
            record.choose(range(part), drawn, seed=5)
        chosen[name] = [trial.params for trial in record.trials()]
    assert len(chosen["whole"]) == 4
    assert chosen["parts"] == chosen["whole"] == drawn


def test_a_part_of_a_grid_is_drawn_by_the_seed():
    space = tuning.SPACES["cnn_grid"]
    few = tuning._grid_order(space, 7, seed=0)
    assert len({tuple(values.values()) for values in few}) == 7
    assert few == tuning._grid_order(space, 7, seed=0) != tuning._grid_order(space, 7, seed=1)


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_failing_configuration_is_recorded_and_the_study_goes_on():
    tuned = tune(mlp_space(units=(0, 4), rate=(1e-2, 1e30)))
    refused, diverging = tuned.trials[:2], tuned.trials[3]
    assert {trial.state for trial in refused} == {"failed"}
    assert "hidden: 0 is not a positive whole number" in refused[0].error
    assert diverging.state == "failed" and diverging.error.startswith("TrainingError: The loss became")
    assert tuned.trials[2].state == "complete"
    assert tuned.best == tuned.trials[2]


def test_if_all_fail_the_command_fails_and_names_the_first_error(monkeypatch, capsys):
    monkeypatch.setitem(tuning.SPACES, "cnn_grid", mlp_space(units=(0, -1)))
    command = ["tune", "cnn_grid", "--profile", "smoke", "--data", str(ARCHIVE)]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "All 2 trials of study" in captured.err
    assert "{'units': 0}: ValueError: hidden: 0 is not a positive whole number" in captured.err
    assert cli.main(command) == 1
    assert "with 2 of 2 trials finished" in capsys.readouterr().err


def test_a_storage_that_cannot_be_used_is_named_without_its_password():
    with pytest.raises(TuningError, match=r"sqlite:////nowhere/study.db cannot be used: .*unable to open"):
        tune(SPACE, storage="sqlite:////nowhere/study.db")
    pytest.importorskip("psycopg")
    with pytest.raises(TuningError, match=r"postgresql://me:\*\*\*@127.0.0.1:1/x cannot be used") as raised:
        tune(SPACE, storage="postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(raised.value)


def outcomes(database):
    """The finished pieces of each trial in a study's file, as stored."""
    if not database.exists():
        return {}
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            query = "SELECT trial_id, value_json FROM trial_user_attributes WHERE key = 'outcome'"
            return dict(connection.execute(query))
    except sqlite3.OperationalError:  # its tables are being made
        return {}


def until(condition, seconds=120):
    """Wait for what must come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


@posix_only
def test_a_killed_command_resumes_where_it_was(tmp_path, monkeypatch, capsys):
    command = ["tune", "cnn_grid", "--profile", "smoke", "--trials", "4", "--epochs", "2", "--name", "k"]
    command += ["--data", str(ARCHIVE)]
    folder = tmp_path / "build" / "tuning" / "k"
    with subprocess.Popen([SCRIPT, *command], stderr=subprocess.PIPE, text=True) as running:
        try:
            # Two trials are done, and the third has trained one of its two epochs.
            until(lambda: len(outcomes(folder / "study.db")) >= 2 or running.poll() is not None)
            checkpoint = folder / "2.npz"
            until(lambda: checkpoint.exists() or running.poll() is not None)
        finally:
            running.kill()
        assert running.wait() == -signal.SIGKILL, running.stderr.read()
    before = outcomes(folder / "study.db")
    with np.load(checkpoint) as file:
        interrupted = json.loads(str(file["about"]))["history"]
    assert len(before) in (2, 3) and len(interrupted["loss"]) in (1, 2)  # the kill takes its time too

    assert cli.main(command) == 1
    assert f"with {len(before)} of 4 trials finished. Resume it" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split()[:4] == ["accuracy", "epochs", "seconds", "f1"]
    assert len(captured.out.splitlines()) == 1 + 4
    assert "4 trained out, 0 pruned, 0 failed; 8 epochs" in captured.err

    after = outcomes(folder / "study.db")
    assert {identifier: after[identifier] for identifier in before} == before
    trials = optuna.load_study(study_name="k", storage=f"sqlite:///{folder / 'study.db'}").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == 4
    resumed = trials[2].user_attrs["outcome"]["history"]
    done = len(interrupted["seconds"])
    assert resumed["seconds"][:done] == interrupted["seconds"], "its finished epochs were not trained again"
    assert not list(folder.glob("*.npz*"))


# ------------------------------------------------------------------------------------------------------------- workers


@posix_only
def test_a_lost_worker_loses_no_configuration_and_doubles_none(tmp_path):
    """Two real workers; one is killed in mid-study, and trains or holds something at that moment."""
    import distributed

    space = mlp_space(units=(2, 4, 6, 8, 10, 12))
    killed = []
    with tuning.local_workers(2) as cluster:
        with distributed.Client(cluster.scheduler_address) as client:
            workers = client.run(os.getpid)
            threads = client.run(os.getenv, "TF_NUM_INTRAOP_THREADS")
        assert len(set(workers.values())) == 2 and os.getpid() not in workers.values()
        assert set(threads.values()) == {str(max(1, (os.cpu_count() or 1) // 2))}

        def kill_one():
            until(lambda: outcomes(tmp_path / "build" / "tuning" / "lost" / "study.db"))
            killed.append(next(iter(workers.values())))
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        tuned = tune(space, epochs=3, scheduler=cluster.scheduler_address, name="lost")
        killer.join()
        with distributed.Client(cluster.scheduler_address) as client:
            client.wait_for_workers(2, timeout=60)
            assert killed[0] not in client.run(os.getpid).values()
    assert [trial.params for trial in tuned.trials] == space.configurations()
    assert sorted(trial.epochs for trial in tuned.trials) == [1] * 4 + [3] * 2
    assert {trial.state for trial in tuned.trials} == {"pruned", "complete"}
    assert all(len(trial.pieces) == (1 if trial.epochs == 1 else 2) for trial in tuned.trials)
    assert all(len(values) == trial.epochs for trial in tuned.trials for values in trial.history.values())


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture
def postgresql():
    """URL of a database of a server of our own."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
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
                socket = folder / ".s.PGSQL.5432"
                until(lambda: socket.exists() or server.poll() is not None, seconds=30)
                assert server.poll() is None, server.stderr.read()
                yield f"postgresql://tuner@/postgres?host={folder}"
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


# ------------------------------------------------------------------------------------------------------------- reading


def trial(number, params, accuracies, state="complete", keep="last"):
    plan = Plan("mlp", {}, RECIPE.replace(epochs=9, keep=keep))
    history = {"val_accuracy": accuracies, "val_loss": [1 - value for value in accuracies]}
    return Trial(number, params, plan, state, None, history, [1.0])


def test_the_accuracy_of_a_trial_is_that_of_the_weights_it_keeps():
    assert trial(0, {}, [0.5, 0.9, 0.8]).accuracy == 0.8
    kept = trial(0, {}, [0.5, 0.9, 0.8], keep="best")
    assert kept.accuracy == 0.9
    assert kept.accuracy_after(1) == 0.5


def test_the_best_are_among_those_trained_out():
    trials = [
        trial(0, {}, [0.5, 0.6, 0.7], "complete"),
        trial(1, {}, [0.9], "pruned"),
        trial(2, {}, [0.5, 0.8], "pruned"),
        trial(3, {}, [0.5, 0.6, 0.8], "complete"),
        Trial(4, {}, trial(0, {}, [1.0]).plan, "failed", "ValueError: no", {}, []),
    ]
    tuned = Tuned("t", mlp_space(units=(1,)), (1, 2, 3), 2, trials, 1.0)
    assert [found.number for found in tuned.top(9)] == [3, 0, 2, 1]
    assert tuned.best.number == 3


def test_the_parameter_that_decides_is_the_important_one():
    space = mlp_space(units=(1, 2, 3), rate=(0.1, 0.2, 0.3))
    accuracy = {1: 0.2, 2: 0.5, 3: 0.9}
    trials = [
        trial(number, values, [accuracy[values["units"]] + values["rate"] / 1000])
        for number, values in enumerate(space.configurations())
    ]
    found = tuning.importances(Tuned("t", space, (1,), 3, trials, 1.0))
    assert list(found) == ["units", "rate"]
    assert found["units"] > 0.95
    assert sum(found.values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="0 of 9 trials were trained for 5 epochs"):
        tuning.importances(Tuned("t", space, (1,), 3, trials, 1.0), epochs=5)


def test_nothing_is_important_where_all_trials_are_equally_good():
    space = mlp_space(units=(1, 2), rate=(0.1, 0.2))
    trials = [trial(number, values, [0.1]) for number, values in enumerate(space.configurations())]
    found = tuning.importances(Tuned("t", space, (1,), 3, trials, 1.0))
    assert found == {"units": 0.0, "rate": 0.0}
    assert plots.importance_bars(found).axes


# ------------------------------------------------------------------------------------------------------------- figures


def test_cut_curves_end_at_their_rung_and_the_others_are_named():
    curves = [[0.5], [0.4, 0.6], [0.45, 0.7, 0.8, 0.9], []]
    states = ["pruned", "pruned", "complete", "failed"]
    figure = plots.halving_curves(curves, states, (1, 2, 4), ["a", "b", "c", "d"])
    axis = figure.axes[0]
    drawn = [line for line in axis.lines if line.get_linestyle() == "-" and line.get_marker() != "x"]
    assert sorted(len(line.get_xdata()) for line in drawn) == [1, 2, 4]
    ends = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines if line.get_marker() == "x"]
    assert sorted(ends) == [(1, 0.5), (2, 0.6)]
    assert [text.get_text() for text in axis.texts] == ["3 trials", "2 trials", "1 trial"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["c", "pruned"]
    plt.close(figure)
    with pytest.raises(ValueError, match="states has 1 entries, curves has 4"):
        plots.halving_curves(curves, ["pruned"], (1,), ["a"])


def test_a_cell_is_the_mean_over_all_other_factors():
    configurations = [{"a": a, "b": b, "c": c} for a in (2, 1) for b in (10, 20) for c in (0, 1)]
    accuracies = [values["a"] / 10 + values["b"] / 100 + values["c"] / 50 for values in configurations]
    figure = plots.factor_heatmaps(configurations, accuracies, [("a", "b"), ("c", "a")])
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["21.00", "31.00", "31.00", "41.00"]  # a rising, then b
    assert [text.get_text() for text in right.texts] == ["25.00", "35.00", "27.00", "37.00"]
    assert (left.get_ylabel(), left.get_xlabel()) == ("a", "b")
    assert left.collections[0].get_clim() == right.collections[0].get_clim()
    plt.close(figure)
    with pytest.raises(ValueError, match="pairs name 'd'"):
        plots.factor_heatmaps(configurations, accuracies, [("a", "d")])


def test_the_most_important_factor_is_on_top():
    figure = plots.importance_bars({"batch_size": 0.2, "rate": 0.7, "width": 0.1})
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["rate", "batch size", "width"]
    assert [bar.get_width() for bar in axis.patches] == [0.7, 0.2, 0.1]
    assert axis.yaxis_inverted()
    plt.close(figure)


# --------------------------------------------------------------------------------------------------------- command line


def test_the_command_names_every_space(capsys):
    assert tuple(tuning.SPACES) == cli.SPACES
    with pytest.raises(SystemExit) as left:
        cli.main(["tune", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in tuning.SPACES)
    assert shown.strip().splitlines()[-1].startswith("Example: fashion-mnist tune cnn_grid")


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["cnn_grid", "--workers", "0"],
        ["cnn_grid", "--scheduler", "localhost"],
        ["cnn_grid", "--scheduler", "tcp://localhost:1", "--workers", "2"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["tune", *arguments])
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fashion-mnist tune")


def test_no_test_image_is_read():
    assert "x_test" not in inspect.getsource(tuning) + inspect.getsource(cli._tune)
    assert data.Dataset.__dataclass_fields__["x_test"], "what they are called"

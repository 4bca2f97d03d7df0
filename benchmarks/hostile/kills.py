"""Processes killed at random moments, and whether the same command then ends as it does when nobody kills it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from tqdm import tqdm

from fashion_mnist import records
from fashion_mnist.headless import runner


class Tried(NamedTuple):
    """What was lost, in sentences, and a row for each kill."""

    losses: list[str]
    rows: list[dict[str, Any]]


# --- kills of a run --------------------------------------------------------------------------------------------------


def start(command: Sequence[Any], **options: Any) -> subprocess.Popen:
    """A process with a group of its own, so that it is killed with what it started."""
    return subprocess.Popen(list(map(str, command)), start_new_session=True, **options)


def kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Runs:
    """Runs of the same notebooks at ``smoke`` in a checkout of their own."""

    def __init__(self, root: Path, notebooks: Sequence[Path], place: Path) -> None:
        self.root, self.place, self.temporary = root, place, root / "tmp"
        self.out = root / "build" / "smoke"
        self.temporary.mkdir(parents=True)
        (root / "notebooks").mkdir()
        for path in notebooks:
            shutil.copy(path, root / "notebooks")

    def start(self, seed: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "fashion_mnist", "run", "--profile", "smoke", "--seed", seed]
        environment = {
            **os.environ,
            "FASHION_MNIST_ROOT": str(self.root),
            "TMPDIR": str(self.temporary),
            "TF_DETERMINISTIC_OPS": "1",  # equal runs end with equal bits
        }
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return start([*command, "--data", self.place], env=environment, **pipes)

    def finish(self, seed: int) -> tuple[float, list[str]]:
        """Run to the end; seconds, and what went wrong."""
        began = time.perf_counter()
        with self.start(seed) as process:
            _, errors = process.communicate()
        if process.returncode:
            return time.perf_counter() - began, [f"the command ended with {process.returncode}: {errors[-2000:]}"]
        litter = [path for path in self.root.rglob(".*") if ".tmp" in path.name]
        litter += [*self.temporary.iterdir(), *(self.out / "staging").glob("*")]
        return time.perf_counter() - began, [f"{path.relative_to(self.root)} was left behind" for path in litter]

    def changes(self) -> int:
        """A number that is another one when a file has been written, moved or deleted in the folders of results."""
        inner = ("images", "models", "notebooks", "results", "results/arrays", "results/predictions")
        folders = [self.out / folder for folder in inner]
        folders += [self.root / "build" / kind / "smoke" for kind in ("checkpoints", "measured")]
        return sum(folder.stat().st_mtime_ns for folder in folders if folder.exists())

    def results(self, seed: int) -> dict[str, Any]:
        """What is there now of a seed, without what depends on the time that things took.

        Raises
        ------
        ValueError
            If a notebook and its record, or a record and the files that it lists, do not belong together.
        """
        found: dict[str, Any] = {}
        for path in runner.notebooks(root=self.root):
            copy = self.out / "notebooks" / path.name
            record, made = runner.record_of(copy), runner.stamp(copy)
            for file, digest in made["files"].items():
                if records.digest((self.out / file).read_bytes()) != digest:
                    raise ValueError(f"{file} is not the one that {path.stem} made")
            about = {key: record.get(key) for key in ("seed", "data", "headline", "tables")}
            found[path.stem] = {"files": sorted(made["files"]), "stamp": made["seed"], **without_times(about)}
            arrays = self.out / "results" / "arrays" / f"{path.stem}.npz"
            kept = records.read_arrays(arrays) if arrays.is_file() else {}
            found[arrays.name] = without_times({name: values.tolist() for name, values in kept.items()})
        for card in sorted((self.out / "models").glob(f"*_seed{seed}.json")):
            about = records.read_json(card)
            found[card.name] = without_times({key: about[key] for key in (*records.IDENTITY, "scores", "history")})
            kept = (card.with_suffix(".safetensors"), self.out / "results" / "predictions" / f"{card.stem}.npz")
            for path in filter(Path.is_file, kept):  # weights of some networks are not kept
                found[path.name] = records.digest(path.read_bytes())
        return found


def without_times(value: Any) -> Any:
    """A record without the numbers that differ from run to run because they are seconds."""
    if isinstance(value, Mapping):
        keys = [key for key in value if not any(word in key for word in ("second", "took"))]
        return {key: without_times(value[key]) for key in keys}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def kill_runs(folder: Path, notebooks: Sequence[Path], place: Path, kills: int, chance: random.Random) -> Tried:
    """Kill runs of notebooks at random moments, and have the same command finish them after every fourth kill.

    The seed alternates, so that each run finds the finished results of another one, which it must not show as its own.

    Parameters
    ----------
    folder : Path
        Empty; the checkouts are made here.
    notebooks : sequence of Path
    place : Path
        The data set.
    kills : int
    chance : random.Random
        Decides about the moments: half of them anywhere in the time that a run takes, half within 20 ms after a file
        was written.

    Returns
    -------
    Tried
    """
    expected, losses, took = {}, [], 0.0
    for seed in (0, 1):
        whole = Runs(folder / f"whole{seed}", notebooks, place)
        took, wrong = whole.finish(seed)
        losses += [f"A run that nobody killed, seed {seed}: {each}" for each in wrong]
        expected[seed] = {} if wrong else whole.results(seed)
    runs, rows, seed = Runs(folder / "killed", notebooks, place), [], 0
    runs.finish(1)
    with tqdm(desc="kills of a run", total=kills, leave=False, disable=None) as bar:
        while len(rows) < kills and not losses:
            for _ in range(min(4, kills - len(rows))):
                with runs.start(seed) as process:
                    moment = wait_for_a_moment(process, runs, took, chance)
                    if process.poll() is None:
                        kill(process)
                        rows.append({"seed": seed, **moment})
                        bar.update()
            _, wrong = runs.finish(seed)
            try:
                found = {} if wrong else runs.results(seed)
            except (OSError, ValueError, LookupError) as error:
                wrong = [str(error)]
            differing = [name for name in expected[seed] if found.get(name) != expected[seed][name]]
            wrong = wrong or [f"{name} is not what it is without kills" for name in differing]
            losses += [f"After kill {len(rows)} of a run, {rows[-1:]}: {each}" for each in wrong]
            seed = 1 - seed
    return Tried(losses, rows)


def wait_for_a_moment(process: subprocess.Popen, runs: Runs, took: float, chance: random.Random) -> dict[str, Any]:
    """Return at a random moment of a run, or when it has ended; say which moment it was."""
    began = time.perf_counter()
    if chance.random() < 0.5:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, took))
        return {"after": "a time", "seconds": round(time.perf_counter() - began, 2)}
    writes, delay = chance.randint(1, 20), chance.uniform(0, 0.02)
    for _ in range(writes):
        before = runs.changes()
        while process.poll() is None and runs.changes() == before:
            time.sleep(0.001)
    time.sleep(delay)
    return {"after": f"{writes} writes", "seconds": round(time.perf_counter() - began, 2)}


# --- kills of a training ---------------------------------------------------------------------------------------------

EPOCHS = 40
# Says so after each call of eight steps, of which an epoch has two.
TRAIN = f"""
import json, sys
from fashion_mnist import models, training
from fashion_mnist.augment import Augmentation
import keras
import numpy as np
data, checkpoint, end = sys.argv[1:]
with np.load(data) as file:
    train, validation = ((file[f"x_{{split}}"], file[f"y_{{split}}"]) for split in ("train", "validation"))
class Tell(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print(batch, flush=True)
keras.utils.set_random_seed(0)
model = models.deep_cnn((4, 6, 8), dense=16)
change = Augmentation(flip=True, shift=2, erasing=0.5)
recipe = training.RECIPES["fast"].replace(epochs={EPOCHS}, batch_size=16, keep="best", augmentation=change)
options = {{"deterministic": True, "checkpoint": checkpoint, "callbacks": [Tell()], "progress": False}}
history = training.fit(model, train, validation, recipe, **options).history
del history["seconds"]
np.savez(end, *model.get_weights(), history=json.dumps(history))
"""


def kill_trainings(folder: Path, images: np.ndarray, labels: np.ndarray, kills: int, chance: random.Random) -> Tried:
    """Kill a training with a checkpoint again and again; at its end the weights have to be the same to the bit."""
    parts = {"train": slice(0, 256), "validation": slice(256, 320)}
    arrays = {f"x_{split}": images[part] for split, part in parts.items()}
    arrays |= {f"y_{split}": labels[part] for split, part in parts.items()}
    source = records.write_arrays(folder / "data.npz", arrays)
    number, rows, losses, ends = 0, [], [], []

    def begin(name: str) -> subprocess.Popen:
        command = [sys.executable, "-c", TRAIN, source, folder / f"{name}_state.npz", folder / f"{name}.npz"]
        return start(command, stdout=subprocess.PIPE, text=True)

    with begin("whole") as whole, tqdm(desc="kills of a training", total=kills, leave=False, disable=None) as bar:
        while len(rows) < kills or not ends:
            with begin(f"killed{number}") as process:
                calls, delay = chance.randint(1, 5), chance.uniform(0, 0.1)
                if len(rows) < kills and all(process.stdout.readline() for _ in range(calls)):
                    time.sleep(delay)
                    kill(process)
                    rows.append({"training": number, "calls": calls, "delay_seconds": round(delay, 3)})
                    bar.update()
                    continue
                process.communicate()
            ends.append(folder / f"killed{number}.npz")  # to its end, as there is nothing more to kill
            number += 1
        whole.communicate()
    with np.load(folder / "whole.npz") as expected:
        for end in ends:
            try:
                with np.load(end) as found:
                    same = all(np.array_equal(found[name], expected[name]) for name in expected.files)
            except (OSError, LookupError, ValueError) as error:
                losses.append(f"The training {end.stem} left no weights: {error}")
                continue
            if not same:
                losses.append(f"The training {end.stem} ended with other weights or another history.")
    return Tried(losses, rows)


# --- kills of the workers of a study ---------------------------------------------------------------------------------


class Standing(NamedTuple):
    """How far a study is: pieces of training done, and trials that are complete."""

    pieces: int
    complete: int


def standing(database: Path) -> Standing:
    """Read from the study's file while it runs."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            outcomes = connection.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'outcome'")
            pieces = sum(len(json.loads(outcome)["pieces"]) for (outcome,) in outcomes)
            complete = connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
            return Standing(pieces, complete)
    except sqlite3.OperationalError:  # there is no file yet, or its tables are being made
        return Standing(0, 0)


def trials(database: Path, name: str) -> list[dict[str, Any]]:
    """What became of each trial, without seconds."""
    import optuna

    found = []
    for trial in optuna.load_study(study_name=name, storage=f"sqlite:///{database.as_posix()}").trials:
        outcome = trial.user_attrs.get("outcome", {})
        about = {"params": trial.params, "state": trial.state.name, "pieces": len(outcome.get("pieces", ()))}
        found.append({**about, "error": outcome.get("error"), **without_times(outcome.get("history", {}))})
    return found


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The workers of a study at this moment, those included that are only starting."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any("dask_worker" in part for part in child.cmdline()):
                    found.append(child)
    return found


def kill_workers(folder: Path, place: Path, count: int, kills: int, chance: random.Random) -> Tried:
    """Kill workers of a study of `count` trials, from its first moment to its last.

    The moments are spread over the study's progress, so that some come while workers start and some after trials are
    complete. The second cohort of trials is chosen by what the first one reached: a difference would go on.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def begin(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "fashion_mnist", "tune", "cnn_search", "--profile", "smoke", "--epochs", 3]
        command += ["--trials", count, "--workers", 2, "--deterministic", "--name", name, "--data", place]
        environment = {**os.environ, "FASHION_MNIST_ROOT": str(folder)}
        return start(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def database(name: str) -> Path:
        return folder / "build" / "tuning" / name / "study.db"

    with begin("whole") as process:
        _, errors = process.communicate()
    if process.returncode:
        return Tried([f"A study that nobody killed ended with {process.returncode}: {errors[-2000:]}"], [])
    expected, all_pieces = trials(database("whole"), "whole"), standing(database("whole")).pieces
    number, rows, losses = 0, [], []
    with tqdm(desc="kills of workers", total=kills, leave=False, disable=None) as bar:
        while len(rows) < kills and not losses:
            name = f"killed{number}"
            moments = sorted(chance.randrange(all_pieces) for _ in range(kills - len(rows)))
            with begin(name) as process:
                for moment in moments:
                    while process.poll() is None and standing(database(name)).pieces < moment:
                        time.sleep(0.02)
                    time.sleep(chance.uniform(0, 3))
                    while process.poll() is None and not workers_of(process):
                        time.sleep(0.02)
                    now, workers = standing(database(name)), workers_of(process)
                    if workers:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            chance.choice(workers).kill()
                            rows.append({"study": number, **now._asdict()})
                            bar.update()
                _, errors = process.communicate()
            if process.returncode:
                losses.append(f"The study {name} ended with {process.returncode}: {errors[-2000:]}")
            elif (found := trials(database(name), name)) != expected:
                apart = [index for index, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]]
                losses.append(f"The study {name} has {len(found)} trials instead of {len(expected)}; {apart} differ.")
            number += 1
    return Tried(losses, rows)

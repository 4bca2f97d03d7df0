"""Tuning: one function, `tune`, the spaces it searches, and the schedule by which it spends epochs on them.

`tune` trains the configurations of a `Space` by successive halving (Jamieson & Talwalkar, 2016): all are trained to the
first rung, say 1 epoch; the better third by validation accuracy goes on to 3 epochs, the better third of those to 9. A
trial is *paused* at a rung, not begun again: `training.fit` leaves a checkpoint, and what goes on goes on from there.

Rungs are synchronous: nobody is promoted before all have reached the rung. The asynchronous rule of Optuna's pruner
(Li et al., 2020) decides at once, so it promotes the first trials whatever they are, and what it promotes depends on
who finishes first. Waiting costs idle workers at the end of a rung (``benchmarks/tuning_scaling.py`` says how many),
but saves those epochs and makes the decisions follow from the trials' accuracies alone, whether one worker trained them
or a hundred, killed and resumed or not. A search asks TPE (Bergstra et al., 2011) for one cohort at a time, then halves
that cohort; a trial must be among the better of all that ever reached the rung, those of earlier cohorts included.

All trials follow the learning rate schedule of the full number of epochs: a rung is a look at a training on its way,
not a training of its own.

Everything is recorded in an Optuna storage by this process; workers only train. To resume is to run the same schedule
again: what is recorded is not trained again, so the same decisions are taken and the study goes on where it was.

No test image is read here: `tune` takes training and validation images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fashion_mnist import data, models, training  # isort: skip  first, so that TensorFlow starts silently
import keras
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from fashion_mnist.training import OPTIMIZERS, RECIPES, Augmentation, Recipe

if TYPE_CHECKING:
    import distributed

SAMPLERS = ("grid", "tpe")


class TuningError(ValueError):
    """A study that cannot begin, go on or end; the message says why and what to do."""


# --- Spaces ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Float:
    """Any number from `low` to `high`; on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Int:
    """Any whole number from `low` to `high`, both included; on a logarithmic scale if `log`."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Plan:
    """What a configuration means: an architecture of `models`, its builder's arguments, and how it is trained."""

    architecture: str
    arguments: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Space:
    """What a study chooses among.

    Attributes
    ----------
    name : str
    parameters : dict of str to tuple, Float or Int
        The choices (numbers, strings, booleans) or the range of each parameter.
    plan : callable
        Takes one value of each parameter, a dict, and gives the `Plan`. The plan's epochs are replaced by the study's.
    """

    name: str
    parameters: dict[str, tuple | Float | Int]
    plan: Callable[[dict[str, Any]], Plan]

    def __post_init__(self) -> None:
        for name, values in self.parameters.items():
            if isinstance(values, Float | Int):
                sound = values.low < values.high and (values.low > 0 or not values.log)
            else:
                sound = isinstance(values, tuple) and len(values) == len(set(values)) > 0
            if not sound:
                raise ValueError(
                    f"Parameter {name!r} of space {self.name!r} is {values!r}; give a tuple of different choices, or a "
                    "Float or Int with low < high (and low > 0 if log)."
                )

    @property
    def is_grid(self) -> bool:
        """Whether all parameters are choices, so that the configurations can be counted."""
        return all(isinstance(values, tuple) for values in self.parameters.values())

    def configurations(self) -> list[dict[str, Any]]:
        """Every combination of the choices, the last parameter changing fastest."""
        if not self.is_grid:
            ranges = [name for name, values in self.parameters.items() if not isinstance(values, tuple)]
            raise ValueError(
                f"Space {self.name!r} is no grid: {', '.join(ranges)} have a range. Use sampler='tpe', or give choices."
            )
        combinations = itertools.product(*self.parameters.values())
        return [dict(zip(self.parameters, values, strict=True)) for values in combinations]


def builder_grid(
    name: str, architecture: str, parameters: dict[str, tuple], recipe: Recipe = RECIPES["plain"]
) -> Space:
    """Space whose parameters are arguments of one builder of `models`, all trained by the same recipe."""
    return Space(name, parameters, partial(_as_arguments, architecture, recipe))


def _as_arguments(architecture: str, recipe: Recipe, values: dict[str, Any]) -> Plan:
    return Plan(architecture, dict(values), recipe)


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=True),
    "flip and shift": Augmentation(flip=True, shift=2),
    "flip, shift and erase": Augmentation(flip=True, shift=2, erasing=0.5),
}
# What the peak of SGD's learning rate is to Adam's, in our recipes.
SGD_TO_ADAM = RECIPES["fast"].learning_rate / RECIPES["plain"].learning_rate


def _search_recipe(values: dict[str, Any]) -> Recipe:
    """A rate is Adam's; SGD and Muon train with as much more as in our recipes."""
    adam = values["optimizer"] in ("adam", "muon_adam")
    return RECIPES["plain" if adam else "fast"].replace(
        optimizer=values["optimizer"],
        batch_size=values["batch_size"],
        learning_rate=values["learning_rate"] * (1 if adam else SGD_TO_ADAM),
        augmentation=AUGMENTATIONS[values["augmentation"]],
    )


def _cnn_search_plan(values: dict[str, Any]) -> Plan:
    """Widths double from stage to stage."""
    widths = tuple(values["width"] * 2**stage for stage in range(values["stages"]))
    dense, dropout = values["dense"], values["dropout"]
    if values["normalisation"] == "none":
        # The one builder without normalisation has two stages and no dropout: here `stages` and `dropout` mean nothing.
        architecture, arguments = "cnn", {"f1": widths[0], "f2": widths[1], "kernel": 3, "dense": dense}
    elif values["convolutions"] == 1:
        architecture, arguments = "regularised_cnn", {"widths": widths, "l2": 0.0, "dropout": dropout, "dense": dense}
    else:
        architecture = "deep_cnn"
        arguments = {"widths": widths, "dense": dense, "dropouts": (dropout,) * (len(widths) + 1)}
    return Plan(architecture, arguments, _search_recipe(values))


def _resnet_search_plan(values: dict[str, Any]) -> Plan:
    """Three stages of one block, trained with the optimiser of the grid."""
    return Plan(
        "mini_resnet_bn",
        {"blocks": 1, "filters": values["filters"], "stages": 3},
        _search_recipe({"optimizer": "muon_adam", **values}),
    )


SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        # The starting projects' grids.
        builder_grid("cnn_grid", "cnn", {"f1": (16, 32, 64), "f2": (32, 64, 128), "kernel": (2, 3), "dense": (32, 64)}),
        builder_grid(
            "resnet_grid", "mini_resnet", {"blocks": (2, 3, 4, 5), "filters": (16, 32, 64)}, RECIPES["muon_adam"]
        ),
        # What those grids could not reach.
        Space(
            "cnn_search",
            {
                "normalisation": ("none", "batch"),
                "convolutions": (1, 2),  # a stage
                "stages": (2, 3),
                "width": (16, 32),  # of the first stage; with 64 an epoch takes a minute
                "dense": (64, 128, 256),
                "dropout": Float(0.0, 0.4),
                "optimizer": OPTIMIZERS,
                "learning_rate": Float(5e-4, 5e-3, log=True),
                "batch_size": (64, 128, 256),
                "augmentation": tuple(AUGMENTATIONS),
            },
            _cnn_search_plan,
        ),
        Space(
            "resnet_search",
            {
                "filters": (32, 64),  # of the first stage; on AMX an epoch with 56 takes 1.5 times as long as with 64
                "learning_rate": Float(1e-3, 5e-3, log=True),
                "batch_size": (256, 512),  # Muon's steps are dear: with 128 an epoch takes 1.5 times as long
                # Without "none": a first look of one epoch prefers images as they are, whatever augmentation does in
                # the end.
                "augmentation": ("flip", "flip and shift", "flip, shift and erase"),
            },
            _resnet_search_plan,
        ),
    )
}


# --- Schedule --------------------------------------------------------------------------------------------------------


def rungs(epochs: int, min_epochs: int = 1, factor: int = 3) -> tuple[int, ...]:
    """After how many epochs a trial is judged.

    Parameters
    ----------
    epochs : int
        Of a whole training; the last rung.
    min_epochs : int
        The first rung is the lowest that is not below; `epochs` prunes nothing.
    factor : int
        What a rung is to the one before, at least 2.

    Returns
    -------
    tuple of int
        Rising; for 9 epochs (1, 3, 9).
    """
    for name, value, lowest in (("epochs", epochs, 1), ("min_epochs", min_epochs, 1), ("factor", factor, 2)):
        if not isinstance(value, int) or value < lowest:
            raise ValueError(f"{name}={value!r} is not a whole number of at least {lowest}.")
    if min_epochs > epochs:
        raise ValueError(f"min_epochs={min_epochs} is more than epochs={epochs}.")
    found, rung = [], float(epochs)
    while rung >= min_epochs:
        found.append(round(rung))
        rung /= factor
    return tuple(found[::-1])


def promoted(values: Mapping[int, float], factor: int, others: Mapping[int, float] | None = None) -> list[int]:
    """Which trials go on from a rung: the best ``1 / factor`` of all that reached it, rounded down, but at least one.

    Parameters
    ----------
    values : mapping of trial number to validation accuracy
        The trials to judge.
    factor : int
    others : mapping of trial number to validation accuracy, optional
        Trials that were judged at this rung before; they count among all, and are not judged again.

    Returns
    -------
    list of int
        Numbers, rising. Among equal values the lower number wins.
    """
    everyone = {**(others or {}), **values}
    best = sorted(everyone, key=lambda number: (-everyone[number], number))[: max(1, len(everyone) // factor)]
    return sorted(number for number in best if number in values)


def halving(
    numbers: Sequence[int],
    steps: Sequence[int],
    factor: int,
    train: Callable[[list[int], int], Mapping[int, float]],
    reached: dict[int, dict[int, float]],
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Take a cohort of trials through the rungs.

    Parameters
    ----------
    numbers : sequence of int
        The cohort.
    steps : sequence of int
        Epochs of each rung, as `rungs` gives them.
    factor : int
    train : callable
        Takes trial numbers and epochs; trains these trials to so many epochs and gives the validation accuracy of
        each. A number that is missing failed, and is out.
    reached : dict of epochs to dict of trial number to validation accuracy
        What earlier cohorts reached; this one's values are added.

    Yields
    ------
    epochs, kept, cut : int, list of int, list of int
        After each rung: which trials go on and which are pruned. At the last rung all are kept.
    """
    alive = list(numbers)
    for epochs in steps:
        values = train(alive, epochs)
        others = reached.setdefault(epochs, {})
        alive = sorted(values) if epochs == steps[-1] else promoted(values, factor, others)
        others.update(values)
        yield epochs, alive, sorted(set(values) - set(alive))
        if not alive:
            return


def replay_halving(trials: Sequence[Trial], steps: Sequence[int], factor: int) -> Trial:
    """Which trial successive halving would have ended with, told from trials that were all trained to the end.

    A pruned training is a whole one up to the cut, so this is exact, but for the noise of arithmetic that is not
    deterministic.

    Parameters
    ----------
    trials : sequence of Trial
        All trained for at least ``steps[-1]`` epochs, or stopped early.
    steps : sequence of int
        The rungs, see `rungs`.
    factor : int

    Returns
    -------
    Trial
        The best of those that reach the last rung.

    Raises
    ------
    ValueError
        If a trial is not complete; the message names it.
    """
    unfinished = [trial.number for trial in trials if trial.state != "complete"]
    if unfinished or not trials:
        raise ValueError(f"Trials {unfinished} of {len(trials)} are not complete; tune with min_epochs=epochs.")
    known = {trial.number: trial for trial in trials}

    def look(numbers: list[int], epochs: int) -> dict[int, float]:
        return {number: known[number].accuracy_after(epochs) for number in numbers}

    *_, (_, kept, _) = halving(list(known), steps, factor, look, {})
    return max((known[number] for number in kept), key=lambda trial: trial.accuracy)


def longest_first(seconds: Mapping[int, float]) -> list[int]:
    """In which order a rung's trials are trained, given what an epoch of each took so far, 0 if there was none.

    A long trial that began last would run while all other workers wait for the rung to end.
    """
    return sorted(seconds, key=lambda number: (-seconds[number], number))


# --- Records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """What became of one configuration.

    Attributes
    ----------
    number : int
        From 0, in the order in which configurations were chosen.
    params : dict of str to value
    plan : Plan
        What `params` mean, with the study's epochs in the recipe.
    state : {"complete", "pruned", "failed"}
    error : str or None
        Why it failed.
    history : dict of str to list of float
        As in `training.Fit`: ``val_accuracy``, ``seconds`` and so on, one value an epoch.
    pieces : list of float
        Wall seconds of each piece of the training, one a rung, start-up (tracing, loading the checkpoint) included.
    """

    number: int
    params: dict[str, Any]
    plan: Plan
    state: str
    error: str | None
    history: dict[str, list[float]]
    pieces: list[float]

    @property
    def name(self) -> str:
        """Its parameters in short, such as "32-64-3-64"."""
        return "-".join(str(value) for value in self.params.values())

    @property
    def epochs(self) -> int:
        """How many were trained."""
        return len(self.history.get("val_accuracy", ()))

    @property
    def val_accuracy(self) -> list[float]:
        """Validation accuracy after each epoch."""
        return self.history.get("val_accuracy", [])

    @property
    def seconds(self) -> float:
        """Wall time of all pieces."""
        return float(sum(self.pieces))

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy of the epoch whose weights `training.fit` keeps; None if there was no epoch."""
        return self.accuracy_after(self.epochs) if self.epochs else None

    def accuracy_after(self, epochs: int) -> float:
        """The same as if the training had ended after so many epochs."""
        return _kept_accuracy(self.history, epochs, self.plan.recipe.keep)


@dataclass(frozen=True)
class Tuned:
    """What a study found.

    Attributes
    ----------
    name : str
    space : Space
    rungs : tuple of int
    factor : int
    trials : list of Trial
        By number.
    seconds : float
        Wall time of the study: of all its sessions, if it was interrupted.
    """

    name: str
    space: Space
    rungs: tuple[int, ...]
    factor: int
    trials: list[Trial]
    seconds: float

    @property
    def best(self) -> Trial:
        """The trained-out trial of the highest validation accuracy."""
        return self.top(1)[0]

    @property
    def epochs(self) -> int:
        """Epochs trained in all."""
        return sum(trial.epochs for trial in self.trials)

    def top(self, count: int) -> list[Trial]:
        """The best trials, best first: those that were trained longer before those that were pruned earlier."""
        ranked = [trial for trial in self.trials if trial.state != "failed"]
        return sorted(ranked, key=lambda trial: (trial.state != "complete", -trial.epochs, -trial.accuracy))[:count]

    def rows(self) -> list[dict[str, Any]]:
        """The trials as a table: ``number``, the parameters, ``state``, ``error``, ``epochs``, ``accuracy``, and the
        lists ``val_accuracy`` and ``seconds`` (one value an epoch) and ``pieces`` (seconds, one value a rung)."""
        return [
            {
                "number": trial.number,
                **trial.params,
                "state": trial.state,
                "error": trial.error,
                "epochs": trial.epochs,
                "accuracy": trial.accuracy,
                "val_accuracy": trial.val_accuracy,
                "seconds": [round(value, 3) for value in trial.history.get("seconds", ())],
                "pieces": [round(value, 3) for value in trial.pieces],
            }
            for trial in self.trials
        ]

    def schedule(self) -> list[dict[str, int]]:
        """What pruning did, a row a rung: ``epochs``, ``factor``, how many ``trials`` reached it and were ``cut``."""
        return [
            {
                "epochs": rung,
                "factor": self.factor,
                "trials": sum(_reached(trial, rung) for trial in self.trials),
                "cut": sum(trial.state == "pruned" and trial.epochs == rung for trial in self.trials),
            }
            for rung in self.rungs
        ]


def _reached(trial: Trial, rung: int) -> bool:
    return trial.epochs >= rung or trial.state == "complete"  # early stopping completes a trial before its last rung


def importances(tuned: Tuned, epochs: int | None = None) -> dict[str, float]:
    """How much of the variation of validation accuracy each parameter explains, by fANOVA (Hutter et al., 2014).

    Parameters
    ----------
    tuned : Tuned
    epochs : int, optional
        Compare trials after so many epochs, those that were trained so long; the first rung if not given, which all
        reached.

    Returns
    -------
    dict of str to float
        Summing to one, most important first; all zero if all accuracies are the same.

    Raises
    ------
    ValueError
        If fewer than two trials can be compared.
    """
    epochs = epochs or tuned.rungs[0]
    compared = [trial for trial in tuned.trials if trial.epochs >= epochs]
    if len(compared) < 2:
        raise ValueError(
            f"{len(compared)} of {len(tuned.trials)} trials were trained for {epochs} epochs, at least two have to be."
        )
    if len({trial.accuracy_after(epochs) for trial in compared}) == 1:
        return dict.fromkeys(tuned.space.parameters, 0.0)
    distributions = _distributions(tuned.space)
    with _quiet_optuna():
        study = optuna.create_study(direction="maximize")
        for trial in compared:
            value = trial.accuracy_after(epochs)
            study.add_trial(optuna.trial.create_trial(params=trial.params, distributions=distributions, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return {
            name: float(share)
            for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
        }


class Rates(NamedTuple):
    """Images a second."""

    training: float
    evaluation: float


def plain_keras_rates(
    plan: Plan, images: np.ndarray, labels: np.ndarray, *, batch_size: int = 32, count: int = 2000
) -> Rates:
    """How fast plain Keras goes: `model.fit` and `evaluate` on arrays in float32 with Adam, as most write it.

    Parameters
    ----------
    plan : Plan
        Only its architecture and arguments count.
    images, labels
        As in `tune`.
    batch_size : int
        Of both: `fit` takes its own for the validation images, too.
    count : int
        How many images to measure on, at most; the first batch, which also traces the step, is extra.

    Returns
    -------
    Rates
        In training and in evaluation; an epoch takes the time of both.
    """
    count = min(count, len(labels)) // batch_size * batch_size
    if count == 0:
        raise ValueError(f"{len(labels)} images do not fill a batch of {batch_size}.")
    model = models.build(plan.architecture, **plan.arguments)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

    def rate(pass_over: Callable[..., Any]) -> float:
        pass_over(images[:batch_size], labels[:batch_size], batch_size=batch_size, verbose=0)
        began = time.perf_counter()
        pass_over(images[:count], labels[:count], batch_size=batch_size, verbose=0)
        return count / (time.perf_counter() - began)

    return Rates(rate(model.fit), rate(model.evaluate))


# --- A study ---------------------------------------------------------------------------------------------------------


def tune(
    space: Space | str,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    min_epochs: int = 1,
    factor: int = 3,
    trials: int | None = None,
    sampler: str | None = None,
    cohort: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    deterministic: bool = False,
    storage: str | None = None,
    name: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Tuned:
    """Train configurations of a space by successive halving and say which is best on the validation images.

    Parameters
    ----------
    space : Space or str
        Or a key of `SPACES`.
    train, validation : (images, labels)
        uint8 ``(n, 28, 28, 1)`` in 0..255 and whole numbers ``(n,)`` in 0..9.
    epochs : int
        Of a whole training; every trial's recipe has so many.
    min_epochs, factor : int
        The rungs, see `rungs`. ``min_epochs=epochs`` trains all trials to the end.
    trials : int, optional
        How many configurations. All of a grid if not given, or 36; fewer than a grid has are drawn by the seed.
    sampler : {"grid", "tpe"}, optional
        "grid" takes each configuration once, "tpe" searches; grid if not given and the space is one.
    cohort : int, optional
        How many trials are chosen, and then halved, together. All of a grid if not given, or ``factor ** 2``.
    seed : int
        Of the choice of configurations, of all initial weights and of all trainings.
    precision, deterministic
        As in `training.fit`. "auto" is resolved here, so that all workers compute alike.
    storage : str, optional
        URL of an Optuna storage, such as ``postgresql://user@host/database``; SQLite in ``build/tuning/NAME`` if not
        given.
    name : str, optional
        Of the study; checkpoints are in ``build/tuning/NAME``. The space's name and a hash of everything that decides
        about the result if not given, so that what is another study has another name.
    workers : int
        Processes on this machine, TensorFlow's threads divided among them; 1 trains in this process. A script that
        asks for more must do its work under ``if __name__ == "__main__":``, for the processes import it.
    scheduler : str, optional
        Address of a running Dask scheduler, such as ``tcp://host:8786``, whose workers have this package. They need
        neither the storage nor a shared folder. Workers may join and leave while the study runs.
    resume : bool
        Go on with the study of that name if there is one.
    progress : bool, optional
        Show a bar; by default only where a person looks at a terminal.

    Returns
    -------
    Tuned
        A trial that failed is part of it, with its error.

    Raises
    ------
    ValueError
        If a setting does not exist or does not fit another.
    TuningError
        If all trials failed; if there is a study of that name and `resume` is False, or it is one of other settings,
        data or code; if another process of this machine runs it; if the storage cannot be used.
    OSError
        If there is no scheduler at the address.

    Notes
    -----
    A kill at any moment loses at most the epochs since the last checkpoint: an epoch in this process, a rung on
    workers, whose checkpoints come with their results. A worker that is lost has its training done again by another.
    """
    space = _named_space(space)
    steps = rungs(epochs, min_epochs, factor)
    sampler = sampler or ("grid" if space.is_grid else "tpe")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r}; choose one of {', '.join(SAMPLERS)}.")
    if scheduler is not None and workers != 1:
        raise ValueError("workers= starts processes here and scheduler= uses those that are: give one of them.")
    for what, count in (("workers", workers), ("trials", trials), ("cohort", cohort)):
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"{what}={count!r} is not a positive whole number.")
    grid = _grid_order(space, trials, seed) if sampler == "grid" else None
    trials = len(grid) if grid is not None else trials or 36
    cohort = cohort or (trials if grid is not None else factor**2)
    precision = training.best_precision() if precision == "auto" else precision

    identity = _identity(
        space, train, validation, steps, factor, trials, sampler, cohort, seed, precision, deterministic
    )
    name = name or f"{space.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is no name for a study: use letters, digits, '.', '_' and '-'.")
    folder = data.root() / "build" / "tuning" / name
    folder.mkdir(parents=True, exist_ok=True)
    storage = storage or f"sqlite:///{(folder / 'study.db').as_posix()}"
    show = progress if progress is not None else sys.stderr.isatty()
    reached: dict[int, dict[int, float]] = {}

    with _quiet_optuna(), _alone_in(folder):
        record = _Record(storage, name, space, epochs)
        record.begin(identity, resume, folder)
        with _trainers(_Job(train, validation, seed, precision, deterministic), folder, workers, scheduler) as run:

            def train_to(numbers: list[int], target: int) -> dict[int, float]:
                known = record.trials()
                todo = [number for number in numbers if known[number].state == "running"]
                todo = [number for number in todo if known[number].epochs < target]
                todo = longest_first({n: known[n].seconds / max(1, known[n].epochs) for n in todo})
                with _bar(f"{len(numbers)} trials to epoch {target}", len(todo), show) as bar:
                    for number, outcome in run([(number, known[number].plan, target) for number in todo]):
                        record.write(known[number], outcome, target)
                        bar.update()
                known = record.trials()
                return {
                    number: known[number].accuracy_after(target)
                    for number in numbers
                    if _reached(known[number], target)
                }

            for start in range(0, trials, cohort):
                numbers = range(start, min(start + cohort, trials))
                record.choose(numbers, grid, seed)
                for _, _, cut in halving(numbers, steps, factor, train_to, reached):
                    record.prune(cut)
                    for number in cut:
                        _checkpoint(folder, number).unlink(missing_ok=True)
        for leftover in folder.glob("*.npz*"):
            leftover.unlink()
        tuned = Tuned(name, space, steps, factor, record.trials(), record.seconds)
    if all(trial.state == "failed" for trial in tuned.trials):
        first = tuned.trials[0]
        raise TuningError(
            f"All {len(tuned.trials)} trials of study {name!r} failed. The first, {first.params}: {first.error} "
            "Once the cause is mended, give another name and begin again."
        )
    return tuned


def _named_space(space: Space | str) -> Space:
    if isinstance(space, Space):
        return space
    if space not in SPACES:
        raise ValueError(f"There is no space {space!r}; choose one of {', '.join(SPACES)}.")
    return SPACES[space]


def _grid_order(space: Space, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """All configurations of a grid, or so many of them, drawn without replacement, in the grid's order."""
    configurations = space.configurations()
    if trials is None:
        return configurations
    if trials > len(configurations):
        raise ValueError(f"trials={trials}, but space {space.name!r} has {len(configurations)} configurations.")
    drawn = np.random.default_rng(seed).permutation(len(configurations))[:trials]
    return [configurations[index] for index in sorted(drawn)]


def _identity(
    space: Space, train, validation, steps, factor, trials, sampler, cohort, seed, precision, deterministic
) -> dict[str, Any]:
    """All that decides about a study's result, in terms of what JSON holds."""
    plans = [space.plan(values) for values in _probes(space)]
    unknown = {plan.architecture for plan in plans} - set(models.ARCHITECTURES)
    if unknown:
        raise ValueError(
            f"Space {space.name!r} plans networks that do not exist: {', '.join(sorted(unknown))}; "
            f"there are {', '.join(models.ARCHITECTURES)}."
        )
    digest = hashlib.sha256()
    for array in (*train, *validation):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array))
    identity = {
        "space": space.name,
        "parameters": {name: repr(values) for name, values in space.parameters.items()},
        "plans": hashlib.sha256(repr(plans).encode()).hexdigest()[:16],
        "code": {
            name: training.source_fingerprint(models.ARCHITECTURES[name])
            for name in sorted({plan.architecture for plan in plans})
        },
        "data": digest.hexdigest()[:16],
        "rungs": steps,
        "factor": factor,
        "sampler": sampler,
        "trials": trials,
        "cohort": cohort,
        "seed": seed,
        "precision": precision,
        "deterministic": deterministic,
    }
    return json.loads(json.dumps(identity))


def _probes(space: Space) -> Iterator[dict[str, Any]]:
    """Values that show what the plan makes of each parameter: one at a time moved over its choices or to its ends."""
    ends = {
        name: values if isinstance(values, tuple) else (values.low, values.high)
        for name, values in space.parameters.items()
    }
    first = {name: values[0] for name, values in ends.items()}
    yield first
    for name, values in ends.items():
        for value in values[1:]:
            yield {**first, name: value}


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for name, values in space.parameters.items():
        if isinstance(values, Float):
            found[name] = FloatDistribution(values.low, values.high, log=values.log)
        elif isinstance(values, Int):
            found[name] = IntDistribution(values.low, values.high, log=values.log)
        else:
            found[name] = CategoricalDistribution(values)
    return found


class _Record:
    """A study in Optuna's storage, which this process alone writes to.

    A trial is added whole, parameters and all, and what a piece of training gave is one attribute: a kill falls before
    or after a write, and what it leaves can be gone on with. Optuna's own samplers and `ask` write a parameter at a
    time, and its grid sampler may take a configuration twice where several are under way.
    """

    def __init__(self, url: str, name: str, space: Space, epochs: int) -> None:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import SQLAlchemyError

        self.name, self.space, self.epochs, self.started = name, space, epochs, time.perf_counter()
        self.distributions = _distributions(space)
        try:
            parsed = make_url(url)
            if parsed.drivername == "postgresql":  # whose default driver depends on the version of SQLAlchemy
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.storage = optuna.storages.RDBStorage(parsed.render_as_string(hide_password=False))
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise TuningError(
                f"The storage {_without_password(url)} cannot be used: {reason} Give the URL of a database that is "
                "there, such as postgresql://user@host/database (pip install 'psycopg[binary]'), or none for SQLite."
            ) from error

    def begin(self, identity: dict[str, Any], resume: bool, folder: Path) -> None:
        """Make the study, or take up the one there is."""
        self.study = optuna.create_study(
            study_name=self.name, storage=self.storage, direction="maximize", load_if_exists=True
        )
        known = self.study.user_attrs.get("identity")
        if known is None:
            for leftover in folder.glob("*.npz*"):  # of a study of this name that was deleted
                leftover.unlink()
            self.study.set_user_attr("identity", identity)
        elif different := [key for key in identity if known.get(key) != identity[key]]:
            changes = ", ".join(f"{key} was {known.get(key)!r} and is {identity[key]!r}" for key in different)
            raise TuningError(f"Study {self.name!r} is another one: {changes}. Give another name (--name).")
        elif not resume:
            over = sum(trial.state != "running" for trial in self.trials())
            raise TuningError(
                f"There is a study {self.name!r} already, with {over} of {identity['trials']} trials finished. "
                "Resume it (resume=True, --resume) or give another name (--name)."
            )
        self.seconds = self.before = self.study.user_attrs.get("seconds", 0.0)
        for trial in self.study.get_trials(deepcopy=False):
            self._finish(trial)  # a kill may have fallen between its outcome and the end of it

    def trials(self) -> list[Trial]:
        """As they are now; ``state`` is "running" for one that has not been finished."""
        return [self._trial(frozen) for frozen in self.study.get_trials(deepcopy=False)]

    def choose(self, numbers: range, grid: list[dict[str, Any]] | None, seed: int) -> None:
        """Add those trials of a cohort that are not there yet."""
        frozen = self.study.get_trials(deepcopy=False)
        if len(frozen) >= numbers.stop:
            return
        chosen = grid[numbers.start : numbers.stop] if grid else self._search(frozen[: numbers.start], numbers, seed)
        for params in chosen[len(frozen) - numbers.start :]:
            self.study.add_trial(
                optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=self.distributions)
            )

    def _search(self, earlier: list[FrozenTrial], numbers: range, seed: int) -> list[dict[str, Any]]:
        """Ask TPE for a cohort, given the cohorts before it and nothing else: the same however often it is asked."""
        state = int(np.random.SeedSequence((seed, numbers.start)).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The liar, which takes trials under way for bad ones, keeps a cohort from being one point nine times.
            sampler = optuna.samplers.TPESampler(seed=state, n_startup_trials=len(numbers), constant_liar=True)
        scratch = optuna.create_study(direction="maximize", sampler=sampler)
        scratch.add_trials(earlier)
        return [scratch.ask(self.distributions).params for _ in numbers]

    def write(self, trial: Trial, outcome: dict[str, Any], target: int) -> None:
        """Add what a piece of training gave; finish the trial if that was the last piece."""
        error, history = outcome["error"], trial.history
        if error is None:
            # What was judged stays what it was, also where a lost checkpoint had the epochs trained again.
            history = {key: trial.history.get(key, []) + new[trial.epochs :] for key, new in outcome["history"].items()}
        identifier = self._identifier(trial.number)
        for step, value in enumerate(history.get("val_accuracy", ())):
            if step >= trial.epochs:
                self.storage.set_trial_intermediate_value(identifier, step + 1, value)
        written = {
            "history": history,
            "pieces": [*trial.pieces, outcome["seconds"]],
            "error": error,
            "ended": error is None and len(history["val_accuracy"]) < target,  # by early stopping
        }
        self.storage.set_trial_user_attr(identifier, "outcome", written)
        self.seconds = self.before + time.perf_counter() - self.started
        self.study.set_user_attr("seconds", self.seconds)
        self._finish(self.storage.get_trial(identifier))

    def prune(self, numbers: list[int]) -> None:
        """Finish trials that are not promoted, unless they are finished."""
        frozen = self.study.get_trials(deepcopy=False)
        for number in numbers:
            if frozen[number].state == TrialState.RUNNING:
                self.study.tell(number, state=TrialState.PRUNED)

    def _finish(self, frozen: FrozenTrial) -> None:
        outcome = frozen.user_attrs.get("outcome")
        if frozen.state != TrialState.RUNNING or outcome is None:
            return
        trial = self._trial(frozen)
        if outcome["error"] is not None:
            self.study.tell(frozen.number, state=TrialState.FAIL)
        elif outcome["ended"] or trial.epochs >= self.epochs:
            self.study.tell(frozen.number, trial.accuracy)

    def _trial(self, frozen: FrozenTrial) -> Trial:
        params = {name: frozen.params[name] for name in self.space.parameters}
        plan = self.space.plan(params)
        plan = dataclasses.replace(plan, recipe=plan.recipe.replace(epochs=self.epochs))
        state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        outcome = frozen.user_attrs.get("outcome", {"error": None, "history": {}, "pieces": []})
        return Trial(
            frozen.number,
            params,
            plan,
            state.get(frozen.state, "running"),
            outcome["error"],
            outcome["history"],
            outcome["pieces"],
        )

    def _identifier(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(
            self.storage.get_study_id_from_name(self.name), number
        )


def _kept_accuracy(history: dict[str, list[float]], epochs: int, keep: str) -> float:
    """Validation accuracy of the weights that `training.fit` would keep if it ended after so many epochs."""
    accuracies, losses = history["val_accuracy"][:epochs], history["val_loss"][:epochs]
    if keep == "last":
        return accuracies[-1]
    return accuracies[max(range(len(losses)), key=lambda epoch: (-losses[epoch], epoch))]


# --- Training, here and elsewhere ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What all trainings of a study have in common."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    seed: int
    precision: str
    deterministic: bool


Piece = tuple[int, Plan, int]  # trial number, plan, and to which epoch


class _Pause(keras.callbacks.Callback):
    """Stop after an epoch. An exception would too, but before that epoch is in the checkpoint."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch + 1 >= self.epochs:
            self.model.stop_training = True


def _train(job: _Job, plan: Plan, target: int, checkpoint: Path) -> dict[str, Any]:
    """Train a configuration to an epoch, from its checkpoint if there is one; an error is an outcome."""
    started, error, history = time.perf_counter(), None, None
    try:
        history = _fit(job, plan, target, checkpoint).history
    except Exception as raised:
        error = _in_words(raised)
    gc.collect()  # a model and its traced functions refer to each other, and a study makes many
    return {"error": error, "history": history, "seconds": time.perf_counter() - started}


def _fit(job: _Job, plan: Plan, target: int, checkpoint: Path) -> training.Fit:
    settings = {"seed": job.seed, "precision": job.precision, "deterministic": job.deterministic, "progress": False}
    while True:
        keras.utils.set_random_seed(job.seed)
        model = models.build(plan.architecture, **plan.arguments)
        try:
            return training.fit(
                model,
                job.train,
                job.validation,
                plan.recipe,
                checkpoint=checkpoint,
                callbacks=[_Pause(target)],
                **settings,
            )
        except training.CheckpointError:  # damaged, or of other code: nothing that could be continued
            checkpoint.unlink()


def _in_words(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 1000 else f"{text[:1000]}…"


def _checkpoint(folder: Path, number: int) -> Path:
    return folder / f"{number}.npz"


@contextlib.contextmanager
def _trainers(
    job: _Job, folder: Path, workers: int, scheduler: str | None
) -> Iterator[Callable[[list[Piece]], Iterator[tuple[int, dict[str, Any]]]]]:
    """Give the function that trains pieces and yields each one's number and outcome as it is done."""
    if workers == 1 and scheduler is None:
        yield lambda pieces: (
            (number, _train(job, plan, target, _checkpoint(folder, number))) for number, plan, target in pieces
        )
        return
    import dask
    import distributed

    # A checkpoint of tens of megabytes is part of a task, and meant to be.
    quiet = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
    with quiet, contextlib.ExitStack() as stack:
        address = scheduler or stack.enter_context(local_workers(workers)).scheduler_address
        client = stack.enter_context(distributed.Client(address, timeout="10s"))
        _wait_for_worker(client, address)
        # The data are the result of a task, not scattered: what a lost worker held can be had again.
        held = client.submit(_held, job, pure=False)
        client.replicate(held)
        yield partial(_train_on, client, address, held, folder)


@contextlib.contextmanager
def local_workers(count: int) -> Iterator[distributed.LocalCluster]:
    """Dask workers on this machine, TensorFlow's threads divided among them.

    Parameters
    ----------
    count : int
        Of processes; each trains one configuration at a time.

    Yields
    ------
    distributed.LocalCluster
        Its ``scheduler_address`` is what `tune` takes.
    """
    import logging

    import distributed
    from dask.system import CPU_COUNT

    threads = str(max(1, CPU_COUNT // count))
    environment = {
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": str(max(2, int(threads))),  # with 1, the input waits for the step that waits for it
        "OMP_NUM_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with contextlib.ExitStack() as stack:
        with _interrupt_ignored():  # which the workers inherit, or else Ctrl-C ends each of them with a traceback
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,  # a training's memory is TensorFlow's, which Dask can neither spill nor free
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                env=environment,
            )
            stack.enter_context(cluster)
        yield cluster


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may say
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_for_worker(client: distributed.Client, address: str, seconds: float = 60) -> None:
    import distributed

    try:
        client.wait_for_workers(1, timeout=seconds)
    except distributed.TimeoutError:
        raise TuningError(f"{address} has no worker. Start some: dask worker {address} --nthreads 1") from None


def _train_on(
    client: distributed.Client, address: str, held: distributed.Future, folder: Path, pieces: list[Piece]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Keep each worker busy with one piece. Dask itself would queue several at a worker while another is idle."""
    import distributed

    waiting, running = list(pieces), {}
    while waiting or running:
        busy = {worker for _, worker in running.values()}
        free = [worker for worker in client.nthreads() if worker not in busy]
        for worker in free[: len(waiting)]:
            number, plan, target = waiting.pop(0)
            checkpoint = _checkpoint(folder, number)
            state = checkpoint.read_bytes() if checkpoint.exists() else None
            # A worker is named for the sake of order only; if it is lost, another one trains the piece.
            future = client.submit(
                *(_train_elsewhere, held, plan, target, state),
                pure=False,
                workers=[worker],
                allow_other_workers=True,
            )
            running[future] = number, worker
        if not running:
            _wait_for_worker(client, address)
            continue
        with contextlib.suppress(distributed.TimeoutError):  # look again for workers that joined
            distributed.wait(list(running), timeout=5, return_when="FIRST_COMPLETED")
        for future in [future for future in running if future.done()]:
            number, _ = running.pop(future)
            if future.status == "error":  # not the training's, whose errors are outcomes: Dask's, or of a worker
                yield number, {"error": _in_words(future.exception()), "history": None, "seconds": 0.0}
                continue
            outcome, state = future.result()
            if state is not None:
                unfinished = folder / f"{number}.npz.tmp"
                unfinished.write_bytes(state)
                unfinished.replace(_checkpoint(folder, number))
            yield number, outcome


def _held(job: _Job) -> _Job:
    return job


_one_at_a_time = threading.Lock()  # Keras's seeds and TensorFlow's settings belong to a process, not to a thread


def _train_elsewhere(job: _Job, plan: Plan, target: int, state: bytes | None) -> tuple[dict[str, Any], bytes | None]:
    """`_train` on a worker, which may share no folder with us: the checkpoint comes and goes with the task."""
    with _one_at_a_time, tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "state.npz"
        if state is not None:
            checkpoint.write_bytes(state)
        outcome = _train(job, plan, target, checkpoint)
        paused = outcome["error"] is None and target < plan.recipe.epochs
        return outcome, checkpoint.read_bytes() if paused else None


# --- Set-up ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Refuse to run a study twice at a time; the system gives the lock back if this process dies."""
    with (folder / ".lock").open("wb") as lock:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise TuningError(
                f"Another process runs study {folder.name!r}; wait for it, or give another name."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _bar(description: str, total: int, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(desc=description, total=total, unit="trial", leave=False, disable=not show)


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)

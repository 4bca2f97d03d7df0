"""Successive halving (Jamieson & Talwalkar, 2016): its schedule, and what a study by it finds.

All trials are trained to the first rung, say 1 epoch; the better third by validation accuracy goes on to 3 epochs, the
better third of those to 9. Rungs are synchronous: nobody is promoted before all have reached the rung. The asynchronous
rule (Li et al., 2020) promotes the first trials whatever they are. Waiting costs idle workers at the end of a rung
(``benchmarks/tuning_scaling.py`` says how many), but the decisions follow from the trials' accuracies alone, whether
one worker trained them or a hundred, killed and resumed or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashion_mnist import records, spaces
from fashion_mnist.spaces import Plan, Space

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

    `values` maps a trial's number to its validation accuracy; so does `others`, of trials that were judged at this rung
    before: they count among all, and are not judged again. The numbers rise; among equal values the lower one wins.
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
    steps, factor
        As in `halving`.

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


# --- What a study finds ----------------------------------------------------------------------------------------------


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
    state : {"complete", "pruned", "failed", "running"}
    error : str or None
        Why it failed.
    history : dict of str to list of float
        As in `training.Fit`; of a study read from a record ``val_accuracy``, ``val_loss`` and ``seconds`` only.
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

    @classmethod
    def of(cls, space: Space, epochs: int, row: Mapping[str, Any], history: dict[str, list[float]]) -> Trial:
        """A trial in a study of so many epochs, given a row as `Tuned.rows` gives it, JSON or not, and its history."""
        params = {name: _own_value(space, name, row.get(name)) for name in space.parameters}
        plan = space.plan(params)
        plan = dataclasses.replace(plan, recipe=plan.recipe.replace(epochs=epochs))
        return cls(row["number"], params, plan, row["state"], row["error"], history, list(row["pieces"]))

    @property
    def name(self) -> str:
        """Its parameters in short, such as "32-64-3-64"."""
        return "-".join(str(value) for value in self.params.values())

    @property
    def epochs(self) -> int:
        """How many were trained."""
        return len(self.val_accuracy)

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
        accuracies = self.val_accuracy[:epochs]
        if self.plan.recipe.keep == "last":
            return accuracies[-1]
        losses = self.history["val_loss"][:epochs]
        return accuracies[max(range(len(losses)), key=lambda epoch: (-losses[epoch], epoch))]

    def reached(self, rung: int) -> bool:
        """Whether it was judged at that rung; early stopping completes a trial before its last one."""
        return self.epochs >= rung or self.state == "complete"


def _own_value(space: Space, name: str, value: Any) -> Any:
    """The space's own value that became this one in JSON, which has no tuples."""
    values = space.parameters[name]
    choices = values if isinstance(values, tuple) else [value]
    known = [choice for choice in choices if records.plain(choice) == records.plain(value)]
    if not known or value is None:
        raise ValueError(f"A trial has {name}={value!r}, which space {space.name!r} lacks: it is of another space.")
    return known[0]


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

    @classmethod
    def from_rows(
        cls, space: Space | str, rows: Iterable[Mapping[str, Any]], rungs: Sequence[int], factor: int, seconds: float
    ) -> Tuned:
        """The study whose `rows` these are, JSON or not, under the space's name.

        Raises
        ------
        ValueError
            If a trial has a value that the space lacks; the message names it.
        """
        space = spaces.named(space)
        keys = ("val_accuracy", "val_loss", "seconds")
        trials = [Trial.of(space, rungs[-1], row, {key: list(row.get(key, ())) for key in keys}) for row in rows]
        return cls(space.name, space, tuple(rungs), factor, trials, seconds)

    def rows(self) -> list[dict[str, Any]]:
        """The trials as a table that JSON holds: ``number``, the parameters, ``state``, ``error``, ``epochs``,
        ``accuracy``, and the lists ``val_accuracy``, ``val_loss`` and ``seconds`` (one value an epoch) and ``pieces``
        (seconds, one value a rung)."""
        return [
            {
                "number": trial.number,
                **trial.params,
                "state": trial.state,
                "error": trial.error,
                "epochs": trial.epochs,
                "accuracy": trial.accuracy,
                "val_accuracy": trial.val_accuracy,
                "val_loss": trial.history.get("val_loss", []),
                "seconds": [round(value, 3) for value in trial.history.get("seconds", ())],
                "pieces": [round(value, 3) for value in trial.pieces],
            }
            for trial in self.trials
        ]

    def schedule(self) -> list[dict[str, int]]:
        """What pruning did, a row a rung: ``epochs``, ``factor``, how many ``trials`` reached it and were ``cut``."""
        rows = []
        for rung in self.rungs:
            reached = sum(trial.reached(rung) for trial in self.trials)
            cut = sum(trial.state == "pruned" and trial.epochs == rung for trial in self.trials)
            rows.append({"epochs": rung, "factor": self.factor, "trials": reached, "cut": cut})
        return rows

    @property
    def epochs(self) -> int:
        """Epochs trained in all."""
        return sum(trial.epochs for trial in self.trials)

    @property
    def best(self) -> Trial:
        """The trained-out trial of the highest validation accuracy."""
        return self.top(1)[0]

    def top(self, count: int) -> list[Trial]:
        """The best trials, best first: those that were trained out, then those that were pruned, the latest first."""

        def rank(trial: Trial) -> tuple[bool, int, float]:
            cut = trial.state != "complete"  # early stopping completes a trial, too, whatever its epochs
            return cut, -trial.epochs * cut, -trial.accuracy

        return sorted((trial for trial in self.trials if trial.state != "failed"), key=rank)[:count]

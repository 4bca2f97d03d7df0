"""Tuning: `tune` searches a space by successive halving, here or on any workers, and can be killed at any moment.

A training is *paused* at a rung, not begun again, and follows the learning rate schedule of the full number of epochs:
a rung is a look at a training on its way, not a training of its own. A search asks TPE (Bergstra et al., 2011) for one
cohort at a time, then halves it; a trial must be among the better of all that ever reached the rung.

This process alone writes to the study's Optuna storage; workers only train. To resume is to run the same schedule
again: what is recorded is not trained again, so the same decisions are taken and the study goes on where it was.

No test image is read here: `tune` takes training and validation images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, as_completed
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from fashion_mnist import data, files, models, records, spaces, training  # isort: skip  first, so that TensorFlow starts silently
import dask
import distributed
import keras
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from fashion_mnist.halving import Trial, Tuned, halving, longest_first, rungs
from fashion_mnist.spaces import Plan, Space
from fashion_mnist.training import VERSION

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
PATIENCE = 60  # seconds to wait for the first worker
DEATHS = 30  # of workers with one training in hand, until it counts as failed; Dask's 3 may befall an innocent one

Job = Callable[[Plan, int, Path], dict[str, Any]]  # trains a plan to an epoch with a checkpoint, and gives the outcome
Piece = tuple[int, Plan, int, Path]  # trial number, and what a job takes
Trainer = Callable[[list[Piece]], Iterator[tuple[int, dict[str, Any]]]]

optuna.logging.set_verbosity(optuna.logging.ERROR)  # it reports every trial otherwise


class TuningError(ValueError):
    """A study that cannot begin, go on or end; the message says why and what to do."""


def tune(
    space: Space | str,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    min_epochs: int = 1,
    factor: int = 3,
    trials: int | None = None,
    cohort: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    deterministic: bool = False,
    storage: str | None = None,
    name: str | None = None,
    workers: int | Executor = 1,
    scheduler: str | None = None,
    resume: bool = False,
) -> Tuned:
    """Train configurations of a space by successive halving and say which is best on the validation images.

    Parameters
    ----------
    space : Space or str
        Or a key of `spaces.SPACES`.
    train, validation : (images, labels)
        uint8 ``(n, 28, 28, 1)`` in 0..255 and whole numbers ``(n,)`` in 0..9.
    epochs : int
        Of a whole training; every trial's recipe has so many.
    min_epochs, factor : int
        The rungs, see `rungs`. ``min_epochs=epochs`` trains all trials to the end.
    trials : int, optional
        How many configurations. Of a grid, a space of choices only, all if not given; fewer are drawn by the seed.
        Another space is searched by TPE, with 36 trials if not given.
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
        about the result if not given.
    workers : int or concurrent.futures.Executor
        Processes on this machine, TensorFlow's threads divided among them; 1 trains in this process. An executor of
        yours is used as it is, and the images go along with each task.
    scheduler : str, optional
        Address of a running Dask scheduler, such as ``tcp://host:8786``, on which this package is installed, as on its
        workers. They need neither the storage nor a shared folder, and may join and leave while the study runs.
    resume : bool
        Go on with the study of that name if there is one.

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
        data or `training.VERSION`; if the storage cannot be used; if there are no workers.
    files.Busy
        If another process of this machine runs the study.
    OSError
        If there is no scheduler at the address.

    Notes
    -----
    A kill at any moment loses at most the epochs since the last checkpoint: an epoch in this process, a rung on
    workers, whose checkpoints come with their results. A worker that is lost has its training done again by another.
    """
    space, steps = spaces.named(space), rungs(epochs, min_epochs, factor)
    if scheduler is not None and workers != 1:
        raise ValueError("workers= starts processes here and scheduler= uses those that are: give one of them.")
    for what, count in (("workers", workers), ("trials", trials), ("cohort", cohort)):
        if count is not None and not isinstance(count, Executor) and (not isinstance(count, int) or count < 1):
            raise ValueError(f"{what}={count!r} is not a positive whole number.")
    grid = _grid_order(space, trials, seed) if space.is_grid else None
    trials = len(grid) if grid is not None else trials or 36
    cohort = cohort or (trials if grid is not None else factor**2)
    precision = training.resolved(precision)
    settings = {"seed": seed, "precision": precision, "deterministic": deterministic}
    sampler = "grid" if space.is_grid else "tpe"
    question = {"rungs": list(steps), "factor": factor, "sampler": sampler, "trials": trials, "cohort": cohort}
    identity = describe(space) | {"version": VERSION, "data": _fingerprint(*train, *validation)} | question | settings
    name = name or f"{space.name}-{records.digest(json.dumps(identity).encode())[:8]}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is no name for a study: use letters, digits, '.', '_' and '-'.")
    folder = data.root() / "build" / "tuning" / name
    reached: dict[int, dict[int, float]] = {}

    with files.alone(folder, f"runs the study {name!r}"):
        record = _Record(storage or f"sqlite:///{(folder / 'study.db').as_posix()}", name, space, epochs, folder)
        record.begin(identity, resume)
        with _trainers(partial(_train, train, validation, settings), workers, scheduler) as run:
            for start in range(0, trials, cohort):
                numbers = range(start, min(start + cohort, trials))
                record.choose(numbers, grid, seed)
                for _, _, cut in halving(numbers, steps, factor, partial(record.train, run), reached):
                    record.prune(cut)
        record.forget_checkpoints()
        tuned = Tuned(name, space, steps, factor, record.trials(), record.study.user_attrs["seconds"])
    if all(trial.state == "failed" for trial in tuned.trials):
        first = tuned.trials[0]
        raise TuningError(
            f"All {trials} trials of study {name!r} failed. The first, {first.params}: {first.error} "
            "Once the cause is mended, give another name and begin again."
        )
    return tuned


def describe(space: Space | str) -> dict[str, Any]:
    """What a space is, in terms of what JSON holds: its name, parameters, and a hash of what they stand for.

    Raises
    ------
    ValueError
        If there is no such space, or it plans what `models.build` does not take.
    """
    space = spaces.named(space)
    plans = [space.plan(values) for values in space.probes()]
    meant = [
        (plan.architecture, models.spelled_out(plan.architecture, plan.arguments), plan.recipe.chosen())
        for plan in plans
    ]
    parameters = {name: repr(values) for name, values in space.parameters.items()}
    return {"space": space.name, "parameters": parameters, "plans": records.digest(repr(meant).encode())}


def plain_keras_rates(plan: Plan, images: np.ndarray, labels: np.ndarray, *, count: int = 2000) -> tuple[float, float]:
    """How fast plain Keras goes: `model.fit` and `evaluate` on arrays in float32 with Adam, as most write it.

    Parameters
    ----------
    plan : Plan
        Only its architecture and arguments count.
    images, labels
        As in `tune`.
    count : int
        How many images to measure on, at most. The clock runs from the end of the first batch, which traces the step,
        to the end of the last one: what Keras does around an epoch is not counted.

    Returns
    -------
    training, evaluation : float
        Images a second; an epoch takes the time of both.
    """
    batch = 32  # Keras's own number, which `fit` takes for the validation images, too
    count = min(count, len(labels)) // batch * batch
    if count < 2 * batch:
        raise ValueError(f"{len(labels)} images do not fill two batches of {batch}.")
    model = models.build(plan.architecture, **plan.arguments)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

    def rate(pass_over: Callable[..., Any]) -> float:
        ends: list[float] = []
        clock = keras.callbacks.Callback()
        clock.on_train_batch_end = clock.on_test_batch_end = lambda batch, logs=None: ends.append(time.perf_counter())
        pass_over(images[:count], labels[:count], batch_size=batch, verbose=0, callbacks=[clock])
        return (count - batch) / (ends[-1] - ends[0])

    return rate(model.fit), rate(model.evaluate)


def _grid_order(space: Space, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """All configurations of a grid, or so many of them, drawn without replacement, in the grid's order."""
    configurations = space.configurations()
    trials = trials or len(configurations)
    if trials > len(configurations):
        raise ValueError(f"trials={trials}, but space {space.name!r} has {len(configurations)} configurations.")
    drawn = np.random.default_rng(seed).permutation(len(configurations))[:trials]
    return [configurations[index] for index in sorted(drawn)]


def _fingerprint(*arrays: np.ndarray) -> str:
    return records.digest(b"".join(repr((each.shape, each.dtype.str)).encode() + each.tobytes() for each in arrays))


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {
        name: FloatDistribution(**vars(values)) if isinstance(values, spaces.Float) else CategoricalDistribution(values)
        for name, values in space.parameters.items()
    }


class _Record:
    """A study in Optuna's storage, which this process alone writes to.

    A trial is added whole, parameters and all, and what a piece of training gave is one attribute: a kill falls before
    or after a write, and what it leaves can be gone on with. Optuna's own samplers and `ask` write a parameter at a
    time, and its grid sampler may take a configuration twice where several are under way.
    """

    def __init__(self, url: str, name: str, space: Space, epochs: int, folder: Path) -> None:
        self.name, self.space, self.epochs, self.folder, self.started = name, space, epochs, folder, time.perf_counter()
        try:
            parsed = make_url(url)
            if parsed.drivername == "postgresql":  # whose default driver depends on the version of SQLAlchemy
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.storage = optuna.storages.RDBStorage(parsed.render_as_string(hide_password=False))
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            shown = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
            raise TuningError(
                f"The storage {shown} cannot be used: {reason} Give the URL of a database that is there, such as "
                "postgresql://user@host/database (pip install 'psycopg[binary]'), or none for SQLite."
            ) from error

    def begin(self, identity: dict[str, Any], resume: bool) -> None:
        """Make the study, or take up the one there is."""
        self.study = optuna.create_study(
            study_name=self.name, storage=self.storage, direction="maximize", load_if_exists=True
        )
        known = self.study.user_attrs.get("identity")
        if known is None:
            self.forget_checkpoints()  # of a study of this name that was deleted
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
        self.before = self.study.user_attrs.get("seconds", 0.0)
        for trial in self.trials():
            self._finish(trial)  # a kill may have fallen between its outcome and the end of it

    def trials(self) -> list[Trial]:
        """As they are now; ``state`` is "running" for one that has not been finished."""
        found = []
        for frozen in self.study.get_trials(deepcopy=False):
            outcome = frozen.user_attrs.get("outcome", {"error": None, "history": {}, "pieces": []})
            row = {"number": frozen.number, **frozen.params, "state": STATES.get(frozen.state, "running"), **outcome}
            found.append(Trial.of(self.space, self.epochs, row, outcome["history"]))
        return found

    def choose(self, numbers: range, grid: list[dict[str, Any]] | None, seed: int) -> None:
        """Add those trials of a cohort that are not there yet."""
        frozen = self.study.get_trials(deepcopy=False)
        chosen = grid[numbers.start : numbers.stop] if grid else self._search(frozen[: numbers.start], numbers, seed)
        for params in chosen[max(0, len(frozen) - numbers.start) :]:
            trial = create_trial(state=TrialState.RUNNING, params=params, distributions=_distributions(self.space))
            self.study.add_trial(trial)

    def _search(self, earlier: list[FrozenTrial], numbers: range, seed: int) -> list[dict[str, Any]]:
        """Ask TPE for a cohort, given the cohorts before it and nothing else: the same however often it is asked."""
        state = int(np.random.SeedSequence((seed, numbers.start)).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The liar, which takes trials under way for bad ones, keeps a cohort from being one point nine times.
            sampler = optuna.samplers.TPESampler(seed=state, n_startup_trials=len(numbers), constant_liar=True)
        scratch = optuna.create_study(direction="maximize", sampler=sampler)
        scratch.add_trials(earlier)
        return [scratch.ask(_distributions(self.space)).params for _ in numbers]

    def train(self, run: Trainer, numbers: list[int], target: int) -> dict[int, float]:
        """Train trials to an epoch, longest first; give the validation accuracy of those that reached it."""
        known = self.trials()
        todo = [known[n] for n in numbers if known[n].state == "running" and known[n].epochs < target]
        order = longest_first({trial.number: trial.seconds / max(1, trial.epochs) for trial in todo})
        done = run([(number, known[number].plan, target, self.folder / f"{number}.npz") for number in order])
        for number, outcome in tqdm(done, f"epoch {target}", len(order), leave=False, unit="trial", disable=None):
            self.write(known[number], outcome, target)
        known = self.trials()
        return {number: known[number].accuracy_after(target) for number in numbers if known[number].reached(target)}

    def write(self, trial: Trial, outcome: dict[str, Any], target: int) -> None:
        """Add what a piece of training gave; finish the trial if that was the last piece."""
        # What was judged stays what it was, also where a lost checkpoint had the epochs trained again.
        new = {key: trial.history.get(key, []) + values[trial.epochs :] for key, values in outcome["history"].items()}
        history, pieces, error = trial.history | new, [*trial.pieces, outcome["seconds"]], outcome["error"]
        trial = dataclasses.replace(trial, history=history, pieces=pieces, error=error)
        study = self.storage.get_study_id_from_name(self.name)
        identifier = self.storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        for step, value in enumerate(trial.val_accuracy, start=1):
            self.storage.set_trial_intermediate_value(identifier, step, value)
        self.storage.set_trial_user_attr(identifier, "outcome", {"history": history, "pieces": pieces, "error": error})
        self.study.set_user_attr("seconds", self.before + time.perf_counter() - self.started)
        self._finish(trial, ended=trial.epochs < target)  # by early stopping, if there was no error

    def prune(self, numbers: list[int]) -> None:
        """Finish trials that are not promoted, unless they are finished."""
        known = self.trials()
        for number in numbers:
            if known[number].state == "running":
                self.study.tell(number, state=TrialState.PRUNED)
            (self.folder / f"{number}.npz").unlink(missing_ok=True)

    def forget_checkpoints(self) -> None:
        for leftover in self.folder.glob("*.npz*"):
            leftover.unlink()

    def _finish(self, trial: Trial, ended: bool = False) -> None:
        if trial.state == "running" and trial.error is not None:
            self.study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state == "running" and (ended or trial.epochs == self.epochs):
            self.study.tell(trial.number, trial.accuracy)


# --- Training, here and elsewhere ------------------------------------------------------------------------------------


def _train(train, validation, settings: dict[str, Any], plan: Plan, target: int, checkpoint: Path) -> dict[str, Any]:
    """Train a configuration to an epoch, from its checkpoint if there is one; an error is an outcome."""
    started, error, history = time.perf_counter(), None, {}
    try:
        try:
            history = _fit(train, validation, settings, plan, target, checkpoint)
        except training.CheckpointError:  # damaged, or of other code: nothing that could be continued
            checkpoint.unlink()
            history = _fit(train, validation, settings, plan, target, checkpoint)
    except Exception as raised:
        error = _in_words(raised)
    gc.collect()  # a model and its traced functions refer to each other, and a study makes many
    return {"error": error, "history": history, "seconds": time.perf_counter() - started}


def _fit(train, validation, settings: dict[str, Any], plan: Plan, target: int, checkpoint: Path) -> dict[str, list]:
    seed = settings["seed"]
    keras.utils.set_random_seed(seed)
    # Initial weights follow from draws of `random.randint`. Dask's threads draw from the same generator meanwhile.
    with mock.patch.object(random, "randint", random.Random(seed).randint):
        model = models.build(plan.architecture, **plan.arguments)

    def pause(epoch: int, logs: dict | None = None) -> None:  # an exception would come before the epoch's checkpoint
        model.stop_training = model.stop_training or epoch + 1 >= target

    options = {"callbacks": [keras.callbacks.LambdaCallback(on_epoch_end=pause)], "progress": False, **settings}
    return training.fit(model, train, validation, plan.recipe, checkpoint=checkpoint, **options).history


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1000]


@contextlib.contextmanager
def _trainers(job: Job, workers: int | Executor, scheduler: str | None) -> Iterator[Trainer]:
    """Give the function that trains pieces and yields each one's number and outcome as it is done."""
    if isinstance(workers, Executor):
        yield partial(_train_on, workers, job)
    elif workers == 1 and scheduler is None:
        yield lambda pieces: ((number, job(*rest)) for number, *rest in pieces)
    else:
        here = contextlib.nullcontext(scheduler) if scheduler else local_workers(workers)
        # Images and checkpoints, tens of megabytes, are part of a task, and meant to be.
        quiet = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
        with quiet, here as address, distributed.Client(address, timeout="10s") as client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except distributed.TimeoutError:
                message = f"{address} has no worker. Start some: dask worker {address} --nthreads 1"
                raise TuningError(message) from None
            # The data are the result of a task, not scattered: what a lost worker held can be had again.
            held = client.submit(_held, job, pure=False)
            client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", DEATHS))
            if (error := held.exception()) is not None:
                raise TuningError(f"{address} cannot train: {_in_words(error)} Install this package there.")
            yield partial(_train_on, client.get_executor(pure=False, retries=3), held)


def _train_on(executor: Executor, job: Job | distributed.Future, pieces: list[Piece]) -> Iterator:
    futures = {}
    for number, plan, target, checkpoint in pieces:
        state = checkpoint.read_bytes() if checkpoint.exists() else None
        futures[executor.submit(_train_elsewhere, job, plan, target, state)] = number, checkpoint
    for future in as_completed(list(futures)):
        number, checkpoint = futures.pop(future)
        try:
            outcome, state = future.result()
        except CancelledError:
            raise TuningError("The workers' scheduler has gone away. Start it, then resume the study.") from None
        except Exception as error:  # not the training's, whose errors are outcomes: of its worker, again and again
            outcome, state = {"error": _in_words(error), "history": {}, "seconds": 0.0}, None
        if state is not None:
            files.write_bytes(checkpoint, state)
        yield number, outcome


def _held(job: Job) -> Job:
    return job


_one_at_a_time = threading.Lock()  # Keras's seeds and TensorFlow's settings belong to a process, not to a thread


def _train_elsewhere(job: Job, plan: Plan, target: int, state: bytes | None) -> tuple[dict[str, Any], bytes | None]:
    """Do the job on a worker, which may share no folder with us: the checkpoint comes and goes with the task."""
    with _one_at_a_time, tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "state.npz"
        if state is not None:
            checkpoint.write_bytes(state)
        outcome = job(plan, target, checkpoint)
        paused = outcome["error"] is None and target < plan.recipe.epochs
        return outcome, checkpoint.read_bytes() if paused else None


@contextlib.contextmanager
def local_workers(count: int) -> Iterator[str]:
    """Dask workers on this machine, TensorFlow's threads divided among them; one that dies is started again.

    Parameters
    ----------
    count : int
        Of processes; each trains one configuration at a time.

    Yields
    ------
    str
        Address of their scheduler.
    """
    threads = max(1, dask.system.CPU_COUNT // count)
    environment = {
        "TF_NUM_INTRAOP_THREADS": f"{threads}",
        "TF_NUM_INTEROP_THREADS": f"{max(2, threads)}",  # with 1, the input waits for the step that waits for it
        "OMP_NUM_THREADS": f"{threads}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "DASK_LOGGING__DISTRIBUTED": "critical",
    }
    # What no worker can begin at once stays at the scheduler, for whoever is free first.
    with dask.config.set({"distributed.scheduler.worker-saturation": 1.0}):
        server = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        cluster = distributed.LocalCluster(n_workers=0, silence_logs=logging.CRITICAL, scheduler_kwargs=server)
    # Without Dask's nannies, which give up when a worker is killed before it has registered. No limit of memory: what a
    # training takes is TensorFlow's, which Dask can neither spill nor free. A session of its own, for Ctrl-C is ours.
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"]
    command += ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", "60"]
    options = {"env": os.environ | environment, "stdout": subprocess.DEVNULL, "start_new_session": True}
    processes, ended = [], threading.Event()

    def keep() -> None:
        while not ended.wait(0.2):
            processes[:] = [process for process in processes if process.poll() is None]
            processes.extend(subprocess.Popen(command, **options) for _ in range(count - len(processes)))

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield cluster.scheduler_address
    finally:
        ended.set()
        keeper.join()
        cluster.close()
        for process in processes:
            process.kill()
            process.wait()

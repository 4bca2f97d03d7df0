"""Run the notebooks headlessly, record their results, render reports.

Inside a notebook, ``start()`` gives the data of the chosen profile and the folders to write to. Outside, ``run()``
executes the sequence with papermill, ``report()`` renders what was executed to HTML and ``readme()`` rewrites README's
tables from ``results/``. The command line calls the same functions.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fashion_mnist.data import SAMPLE_BANNER, Dataset
from fashion_mnist.data import info as data_info
from fashion_mnist.data import load as load_data
from fashion_mnist.data import root as project_root

if TYPE_CHECKING:
    import keras
    import numpy as np
    from matplotlib.figure import Figure

    from fashion_mnist.training import Fit, Recipe
    from fashion_mnist.tuning import Tuned

# ---------------------------------------------------------------------------------------------------------- profiles


@dataclass(frozen=True)
class Profile:
    """Every budget of the study; ``None`` images means all there are."""

    name: str
    train_images: int | None
    validation_images: int | None
    test_images: int | None
    tsne_points: int
    seeds: int  # how many trainings a headline mean is taken over
    mlp_epochs: int
    cnn_epochs: int
    resnet_epochs: int
    deep_epochs: int
    augmented_epochs: int
    transfer_images: int | None  # of the training set
    transfer_epochs: int
    transfer_size: int  # pixels that an image is enlarged to
    tuning_images: int | None  # of the training set, in the studies
    tuning_epochs: int  # of a configuration that is not pruned
    grid_trials: int | None  # configurations of a grid; None takes all
    checked_trials: int  # trained out to see what pruning lost
    search_trials: int
    original_epochs: int  # at most, to learn when the starting projects' recipe stops early
    disturbed_images: int  # of the test set, for the robustness of a model
    folds: int  # of the cross-validation that looks for wrong labels
    explained_images: int  # how many test images the checks of explanations are averaged over


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            *(600, 200, 200),
            tsne_points=300,
            seeds=1,
            mlp_epochs=1,
            cnn_epochs=1,
            resnet_epochs=1,
            deep_epochs=1,
            augmented_epochs=1,
            transfer_images=200,
            transfer_epochs=1,
            transfer_size=32,
            tuning_images=None,
            tuning_epochs=3,
            grid_trials=3,
            checked_trials=2,
            search_trials=2,
            original_epochs=2,
            disturbed_images=100,
            folds=2,
            explained_images=20,
        ),
        Profile(
            "quick",
            *(4_000, 1_000, 1_000),
            tsne_points=6_000,
            seeds=1,
            mlp_epochs=5,
            cnn_epochs=5,
            resnet_epochs=1,
            deep_epochs=1,
            augmented_epochs=1,
            transfer_images=200,
            transfer_epochs=2,
            transfer_size=32,
            tuning_images=800,
            tuning_epochs=3,
            grid_trials=3,
            checked_trials=2,
            search_trials=2,
            original_epochs=2,
            disturbed_images=100,
            folds=2,
            explained_images=30,
        ),
        Profile(
            "full",
            *(None, None, None),
            tsne_points=70_000,
            seeds=3,
            mlp_epochs=20,
            cnn_epochs=20,
            resnet_epochs=12,
            deep_epochs=16,
            augmented_epochs=36,
            transfer_images=5_000,
            transfer_epochs=3,
            transfer_size=85,
            tuning_images=None,
            tuning_epochs=9,
            grid_trials=None,
            checked_trials=12,
            search_trials=18,
            original_epochs=50,
            disturbed_images=2_000,
            folds=5,
            explained_images=1_000,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile `name`; ValueError naming the choices if there is none."""
    if name not in PROFILES:
        raise ValueError(f"There is no profile {name!r}; choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def output_folder(profile: str, kind: str, root: Path) -> Path:
    """Where a run writes: the checkout itself for ``full`` on the official data, ``build/PROFILE`` for all else."""
    return root if profile == "full" and kind == "official" else root / "build" / profile


# ----------------------------------------------------------------------------------------------- inside a notebook


@dataclass(frozen=True)
class Trained:
    """A trained model and its card: what was trained, how, on what, and how that went."""

    model: keras.Model
    card: dict[str, Any]


@dataclass
class Study:
    """What a notebook needs to know about the run it is part of; made by `start`.

    Attributes
    ----------
    name : str
        Name of the notebook, and of its result record.
    profile : Profile
    seed : int
    data : Dataset
        Already cut down to the profile.
    root, out : Path
        The checkout, and the folder below which this run writes: the checkout for ``full`` on the official data, else
        ``build/PROFILE``.
    banner : str or None
        What must stand beside every number and figure if the images are the generated sample.
    """

    name: str
    profile: Profile
    seed: int
    data: Dataset
    root: Path
    out: Path
    banner: str | None = None
    started: float = field(default_factory=time.monotonic)
    spared: float = 0.0  # seconds that trainings took which this run only loaded

    @property
    def images(self) -> Path:
        """Folder of the figures, made on demand."""
        return _folder(self.out / "images")

    @property
    def models(self) -> Path:
        """Folder of the trained models, made on demand."""
        return _folder(self.out / "models")

    @property
    def results(self) -> Path:
        """Folder of the result records, made on demand."""
        return _folder(self.out / "results")

    def save_figure(self, fig: Figure, name: str) -> Path:
        """Write a figure to ``images/NAME.png``; the figure stays open, so the notebook shows it too.

        Parameters
        ----------
        fig : matplotlib.figure.Figure
        name : str
            File name without extension: lower case letters, digits, ``-`` and ``_``.

        Returns
        -------
        Path
            The file, at 120 dots an inch and without a date, so that the same figure gives the same bytes.
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError(f"{name!r} is no name for a figure: use lower case letters, digits, - and _ only.")
        if self.banner and not any(text.get_text() == self.banner for text in fig.texts):
            # Below all that is drawn, legends too; the file is cut to what is drawn, so it is not lost. A legend beside
            # the axes would follow the edge of what is drawn, onto the banner, unless held to the figure's own.
            for legend in fig.legends:
                legend.set_bbox_to_anchor((0, 0, 1, 1), fig.transFigure)
            bottom = min(0.0, fig.get_tightbbox().y0 / fig.get_figheight())
            fig.text(0.01, bottom - 0.01, self.banner, fontsize=7, color="#b3261e", ha="left", va="top")
        path = self.images / f"{name}.png"
        fig.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
        return path

    def train(
        self,
        architecture: str,
        recipe: Recipe,
        *,
        seed: int | None = None,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Trained:
        """Train a network of the registry on this run's training images, or load it if that was done already.

        The model is kept as ``models/NAME.keras`` and described by its card, ``models/NAME.json``. A card with the
        same architecture, recipe, seed, data and code stands for a training that need not be repeated; this is said.
        A training that was interrupted goes on from its last epoch.

        Parameters
        ----------
        architecture : str
            A key of `fashion_mnist.models.ARCHITECTURES`.
        recipe : fashion_mnist.training.Recipe
        seed : int, optional
            Of the initial weights and of the training; the run's own if not given.
        name : str, optional
            ``ARCHITECTURE_seedN`` if not given.
        arguments : mapping, optional
            Of the architecture's builder.

        Returns
        -------
        Trained
        """
        from fashion_mnist import models, training
        from fashion_mnist._backend import keras

        seed = self.seed if seed is None else seed
        arguments = dict(arguments or {})
        name = name or f"{architecture}_seed{seed}"
        path, card_path = self.models / f"{name}.keras", self.models / f"{name}.json"
        identity = {
            "architecture": architecture,
            "arguments": _plain(arguments),
            "recipe": _plain(asdict(recipe)),
            "seed": seed,
            "data": {"fingerprint": self.data.fingerprint, "images": len(self.data.y_train)},
            "code": training.source_fingerprint(models.ARCHITECTURES[architecture]),
        }
        if path.is_file() and card_path.is_file():
            try:
                card = read_card(path)
                model = keras.saving.load_model(path, compile=False) if card.items() >= identity.items() else None
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                print(f"{name}: {path.name} or its card is damaged ({error}), so it is trained again")
            else:
                if model is not None:
                    self.spared += card["seconds"]
                    print(f"{name}: loaded, trained before in {_clock(card['seconds'])}; same recipe, data and code")
                    return Trained(model, card)

        keras.utils.set_random_seed(seed)
        model = models.build(architecture, **arguments)
        train, validation = (self.data.x_train, self.data.y_train), (self.data.x_val, self.data.y_val)
        done = self.fit(name, model, train, validation, recipe, seed=seed)
        last = done.kept_epoch - 1
        card = {
            "name": name,
            **identity,
            "profile": self.profile.name,
            "parameters": model.count_params(),
            "epochs": len(done.history["loss"]),
            "kept_epoch": done.kept_epoch,
            "validation_accuracy": done.history["val_accuracy"][last],
            "seconds": round(done.seconds, 1),
            "seconds_per_epoch": round(done.seconds_per_epoch, 2),
            "precision": done.precision,
            "history": _plain(done.history),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "git": git_commit(self.root),
        }
        bare = models.build(architecture, **arguments)  # without the optimiser's state, which is twice the weights
        bare.set_weights(model.get_weights())
        unfinished = path.with_name(f".{name}.{os.getpid()}.keras")
        try:
            bare.save(unfinished)
            card_path.unlink(missing_ok=True)  # never a new model beside an old card
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        write_json(card_path, card)
        self.checkpoint(name).unlink(missing_ok=True)
        print(
            f"{name}: {card['epochs']} epochs in {_clock(done.seconds)} at {done.precision}, "
            f"validation accuracy {card['validation_accuracy']:.4f}"
        )
        return Trained(model, card)

    def checkpoint(self, name: str) -> Path:
        """Where the training of this name is kept while it goes on: ``build/checkpoints/PROFILE/NAME.npz``."""
        return _folder(self.root / "build" / "checkpoints" / self.profile.name) / f"{name}.npz"

    def fit(
        self,
        name: str,
        model: keras.Model,
        train: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        recipe: Recipe,
        *,
        seed: int | None = None,
    ) -> Fit:
        """Train any network in place; a training that was interrupted, or is done, goes on from its checkpoint.

        The checkpoint is kept afterwards, and dropped if it is damaged or of something else: there is nothing in it
        that could be continued. `train` keeps a model and its card instead.

        Parameters
        ----------
        name : str
            Of the checkpoint.
        model, train, validation, recipe
            Of `fashion_mnist.training.fit`.
        seed : int, optional
            The run's own if not given.

        Returns
        -------
        fashion_mnist.training.Fit
        """
        from fashion_mnist import training

        options = {"seed": self.seed if seed is None else seed, "checkpoint": self.checkpoint(name)}
        try:
            done = training.fit(model, train, validation, recipe, **options)
        except training.CheckpointError:
            options["checkpoint"].unlink()
            done = training.fit(model, train, validation, recipe, **options)
        self.spared += sum(done.history["seconds"][: done.resumed_from])
        return done

    def trained_models(self) -> dict[str, Path]:
        """Models that this profile has trained, or, if it has trained none, those that the checkout ships.

        Returns
        -------
        dict of str to Path
            Name to ``NAME.keras``, by name; only models with a card beside them.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        for folder in (self.out / "models", self.root / "models"):
            found = {path.stem: path for path in sorted(folder.glob("*.keras")) if path.with_suffix(".json").is_file()}
            if found:
                return found
        raise FileNotFoundError(
            f"There is no trained model in {self.out / 'models'}; train some: `fashion-mnist run 02_baselines`."
        )

    def train_seeds(
        self,
        architecture: str,
        recipe: Recipe,
        *,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        first: int | None = None,
    ) -> list[Trained]:
        """`train` with as many seeds as the profile has, one after another.

        Parameters
        ----------
        architecture, recipe, arguments
            As in `train`.
        name : str, optional
            Models are called ``NAME_seedN``; the architecture if not given.
        first : int, optional
            The lowest seed; the run's own if not given.

        Returns
        -------
        list of Trained
            By seed.
        """
        first = self.seed if first is None else first
        return [
            self.train(architecture, recipe, seed=seed, name=f"{name or architecture}_seed{seed}", arguments=arguments)
            for seed in range(first, first + self.profile.seeds)
        ]

    def predict(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        """Class probabilities, kept under ``build/predictions`` by what network, weights and images are.

        Whoever changes a figure of the evaluation need not wait for every model to answer every image again.

        Parameters
        ----------
        model : keras.Model
            Gives logits.
        images : ndarray, shape (n, 28, 28, 1), dtype uint8

        Returns
        -------
        ndarray, shape (n, 10), float32 in [0, 1]
            Rows sum to one.
        """
        import joblib

        memory = joblib.Memory(self.root / "build" / "predictions", verbose=0)
        began = time.monotonic()
        what = [model.to_json(), joblib.hash(model.get_weights()), joblib.hash(images), versions()]
        seconds, probabilities = memory.cache(_predict, ignore=["model", "images"])(what, model, images)
        self.spared += max(0.0, seconds - (time.monotonic() - began))
        return probabilities

    def tune(self, space: str, *, seed: int | None = None, **options: Any) -> Tuned:
        """Search a space on this run's training and validation images; a study that was begun goes on.

        Parameters
        ----------
        space : str
            A key of `fashion_mnist.tuning.SPACES`.
        seed : int, optional
            The run's own if not given.
        **options
            Of `fashion_mnist.tuning.tune`: ``epochs``, ``trials`` and so on.

        Returns
        -------
        fashion_mnist.tuning.Tuned
        """
        from fashion_mnist import tuning

        began = time.monotonic()
        train, validation = (self.data.x_train, self.data.y_train), (self.data.x_val, self.data.y_val)
        seed = self.seed if seed is None else seed
        tuned = tuning.tune(space, train, validation, seed=seed, resume=True, **options)
        spared = max(0.0, tuned.seconds - (time.monotonic() - began))
        self.spared += spared
        print(
            f"{space}: {len(tuned.trials)} configurations, {tuned.epochs} epochs in {_clock(tuned.seconds)}"
            + (f", {_clock(spared)} of it before" if spared > 1 else "")
        )
        return tuned

    def save_result(self, headline: Mapping[str, float], tables: Mapping[str, Any] | None = None) -> Path:
        """Write the notebook's record, ``results/NAME.json``.

        Its ``seconds`` are what everything since `start` takes from nothing: a training that was only loaded counts
        with the time that it took.

        Parameters
        ----------
        headline : mapping of str to number
            Flat; units in the name, for instance ``tsne_seconds``.
        tables : mapping of str to table, optional
            A table is a DataFrame or anything JSON holds; an index that is not just 0, 1, 2, … becomes a column.

        Returns
        -------
        Path

        Raises
        ------
        ValueError
            If a headline value is not a finite number; the message names it.
        """
        record = {
            "name": self.name,
            "profile": self.profile.name,
            "seed": self.seed,
            "data": {"source": self.data.source, "kind": self.data.kind, "fingerprint": self.data.fingerprint},
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.started + self.spared, 1),
            "machine": machine(),
            "versions": versions(),
            "git": git_commit(self.root),
            "headline": {key: _headline_number(key, value) for key, value in headline.items()},
            "tables": {key: _plain(table) for key, table in (tables or {}).items()},
        }
        return write_json(self.results / f"{self.name}.json", record)


def start(
    name: str, profile: str = "quick", seed: int = 0, data: str | Path | None = None, root: Path | None = None
) -> Study:
    """Begin a notebook: load the data, set the plotting style, print what is used and where results go.

    Parameters
    ----------
    name : str
        Name of the notebook without extension.
    profile : {"smoke", "quick", "full"}
    seed : int
        Seed of everything random in the notebook; the data split does not depend on it.
    data : path, optional
        The data set; searched as `fashion_mnist.data.load` describes if not given.
    root : Path, optional
        Folder to write below; the checkout if not given.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If there is no such profile; the message lists those there are.
    DataError
        If the data cannot be had.
    """
    budget = profile_named(profile)
    root = Path(root or project_root()).resolve()
    with warnings.catch_warnings(record=True) as warned:  # that the sample had to do: part of what is printed below
        warnings.simplefilter("always")
        everything = load_data(data)
    dataset = everything.subset(budget.train_images, budget.validation_images, budget.test_images)
    out = output_folder(profile, dataset.kind, root)
    banner = SAMPLE_BANNER.split(";")[0] if dataset.kind == "sample" else None

    from fashion_mnist import plots

    plots.use_style()
    print(dataset.describe())
    for warning in warned:
        print(f"Note: {warning.message}")
    place = "images/, models/ and results/" if out == root else f"{out.relative_to(root).as_posix()}/"
    print(f"Profile {profile}, seed {seed}. Figures, models and results go to {place}")
    return Study(name, budget, seed, dataset, root, out, banner)


def _predict(what: Sequence[Any], model: keras.Model, images: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds taken and class probabilities; ``what`` says what is asked, for the cache."""
    from fashion_mnist import training

    began = time.monotonic()
    probabilities = training.predict(model, images)
    return time.monotonic() - began, probabilities


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


# --------------------------------------------------------------------------------------------------- result records


def read_results(root: Path | None = None) -> dict[str, dict[str, Any]]:
    """All records in ``results/`` below `root` (the checkout if not given), by name."""
    folder = Path(root or project_root()) / "results"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def write_json(path: Path, obj: object) -> Path:
    """Write JSON so that a reader sees the old file or the new one, never half of one; NaN is refused."""
    return _write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_card(model: Path) -> dict[str, Any]:
    """The card of a trained model, which lies beside its ``.keras`` file."""
    return json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))


def read_result(name: str, root: Path | None = None) -> dict[str, Any]:
    """The record ``results/NAME.json``.

    Parameters
    ----------
    name : str
        Name of the notebook or benchmark.
    root : Path, optional
        The folder that holds ``results/``: the checkout if not given; pass ``run.out`` for what the running profile
        has made.

    Raises
    ------
    FileNotFoundError
        If it has not been made; the message says what makes it.
    """
    path = Path(root or project_root()) / "results" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `fashion-mnist run {name}` with its profile makes it.")
    return json.loads(path.read_text(encoding="utf-8"))


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory, and those CPU flags that decide about speed."""
    import psutil  # comes with ipykernel

    model, flags = platform.processor() or platform.machine(), ""
    if sys.platform == "linux":
        facts = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M))
        model = facts.get("model name", model)
        flags = facts.get("flags", facts.get("Features", ""))
    elif sys.platform == "darwin":
        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        model = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "flags": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split()],
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number depends on; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for package in ("tensorflow", "keras", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "openTSNE"):
        try:
            found[package.lower()] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(root: Path) -> str | None:
    """The commit checked out in `root`, or None where there is no repository or no git.

    ``-dirty`` follows it where code in ``src/`` or ``benchmarks/`` is not as committed.
    """

    def git(*arguments: str) -> str | None:
        try:
            asked = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return asked.stdout.strip() if asked.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--", "src", "benchmarks") else commit


def _headline_number(key: str, value: object) -> float | int:
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ValueError(f"Headline {key!r} is {value!r}, not a finite number; put text and lists into tables.")
    return number


def _plain(value: Any) -> Any:
    """`value` in terms of what JSON knows; a number that is not finite becomes None."""
    if hasattr(value, "reset_index"):  # a DataFrame or Series, recognised without importing pandas
        frame = value.to_frame() if value.ndim == 1 else value
        numbered = list(frame.index) == list(range(len(frame)))
        return _plain((frame if numbered else frame.reset_index()).to_dict("records"))
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


# ---------------------------------------------------------------------------------------------- running notebooks

SUMMARY = "main"  # shows what the other notebooks made, so it runs last and again whenever their results change


class NotebookFailed(Exception):
    """A notebook did not get through all its cells; the message holds the cell's source and the error."""


def notebooks(names: Sequence[str] | None = None, root: Path | None = None) -> list[Path]:
    """The notebooks in the order they run: numbered ones first, ``main`` last.

    Parameters
    ----------
    names : sequence of str, optional
        Only these: ``02_baselines``, ``02_baselines.ipynb`` or a path that ends so.
    root : Path, optional
        The checkout.

    Raises
    ------
    ValueError
        If there is no notebook at all, or none of such a name; the message lists those there are.
    """
    folder = Path(root or project_root()) / "notebooks"
    found = sorted(
        folder.glob("*.ipynb"), key=lambda path: (path.stem == SUMMARY, not path.stem[0].isdigit(), path.stem)
    )
    if not found:
        raise ValueError(
            f"There are no notebooks in {folder}; run this in a checkout, or set FASHION_MNIST_ROOT to one."
        )
    if not names:
        return found
    wanted = {Path(name).name.removesuffix(".ipynb") for name in names}
    if unknown := sorted(wanted - {path.stem for path in found}):
        known = ", ".join(path.stem for path in found)
        raise ValueError(f"There is no notebook {', '.join(unknown)}; choose from {known}.")
    return [path for path in found if path.stem in wanted]


def code_hash(notebook: Mapping[str, Any]) -> str:
    """Hash of what a notebook executes: the sources of its code cells, not its prose and not its outputs.

    Parameters
    ----------
    notebook : nbformat.NotebookNode

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    sources = [cell["source"].rstrip() for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return _hash(json.dumps(sources).encode())


def package_hash() -> str:
    """Hash of this package's own source files, 16 hexadecimal digits."""
    sources = [(path.name, path.read_text(encoding="utf-8")) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return _hash(json.dumps(sources).encode())


def run(
    names: Sequence[str] | None = None,
    profile: str = "quick",
    data: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
) -> int:
    """Execute notebooks, each in a kernel of its own, and keep the executed copies.

    A copy that was made by the same code, profile, seed and data is kept as it is unless `fresh`. At ``full`` on the
    official data the executed notebook replaces the one in ``notebooks/``; every other copy goes to
    ``build/PROFILE/notebooks/``. Finished notebooks are printed on standard output, the rest on standard error.

    Parameters
    ----------
    names : sequence of str, optional
        Which notebooks; all if not given. They run in the order of the sequence.
    profile : {"smoke", "quick", "full"}
    data : path, optional
        The data set; searched as `fashion_mnist.data.load` describes if not given.
    seed : int
    fresh : bool
        Execute also what is done already.

    Returns
    -------
    int
        0, or 1 if a notebook failed: its source cell and error are on standard error, the notebook as far as it got
        in ``build/PROFILE/partial/``.

    Raises
    ------
    ValueError
        If there is no such profile or notebook.
    DataError
        If the data cannot be had.
    KeyboardInterrupt
        On Ctrl-C; what was finished before stays finished.
    """
    import nbformat

    profile_named(profile)
    root = project_root().resolve()
    paths = notebooks(names, root)
    with warnings.catch_warnings(record=True) as caught:
        dataset = load_data(data)
    for message in [*(warning.message for warning in caught), dataset.describe()]:
        print(message, file=sys.stderr, flush=True)
    # The kernels get the place that was found: they start in another folder, and offline a search takes seconds.
    place = str(Path(data_info(data)["path"]).resolve())

    data = None if data is None else str(Path(data).expanduser().resolve())
    out = output_folder(profile, dataset.kind, root)
    width = max(len(path.stem) for path in paths)
    package = package_hash()
    for path in paths:
        before = path.read_bytes()
        source = nbformat.reads(before.decode("utf-8"), as_version=4)
        stamp = {
            "profile": profile,
            "seed": seed,
            "fingerprint": dataset.fingerprint,
            "kind": dataset.kind,
            "code": code_hash(source),
            "package": package,
        }
        if path.stem == SUMMARY:
            stamp["results"] = _hash_of_records({root, out}, but=SUMMARY)
        copy = out / "notebooks" / path.name
        made = _stamp(copy)
        if not fresh and made.items() >= stamp.items() and all((out / file).exists() for file in made.get("files", [])):
            print(f"{path.stem:<{width}}  unchanged        {_relative(copy, root)}", flush=True)
            continue

        partial = _folder(root / "build" / profile / "partial") / path.name
        began, before_files = time.monotonic(), _files(out)
        try:
            executed = _execute(
                source, path.stem, partial, {"PROFILE": profile, "SEED": seed, "DATA": data}, root, place
            )
        except NotebookFailed as failure:
            clock = _clock(time.monotonic() - began)
            print(f"{path.stem} failed after {clock}: {failure}", file=sys.stderr)
            print(f"The notebook as far as it got: {_relative(partial, root)}", file=sys.stderr, flush=True)
            return 1
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted in {path.stem}, which is in {_relative(partial, root)} as far as it got. "
                "The same command goes on from the notebooks that are finished."
            ) from None
        seconds = time.monotonic() - began

        _take_outputs(source, executed, _private_paths(root, place))
        files = [name for name, changed in _files(out).items() if before_files.get(name) != changed]
        source.metadata["fashion_mnist"] = {**stamp, "seconds": round(seconds, 1), "files": files}
        if copy == path and path.read_bytes() != before:
            # Somebody saved the notebook while it ran: their edit is worth more than these outputs.
            copy = root / "build" / profile / "notebooks" / path.name
            print(f"{path.stem} was edited while it ran, so it is left alone.", file=sys.stderr)
        _write_text(copy, nbformat.writes(source))
        partial.unlink(missing_ok=True)
        if copy == path:  # what an earlier run on other data left would hide the new outputs from `report`
            (root / "build" / profile / "notebooks" / path.name).unlink(missing_ok=True)
        print(f"{path.stem:<{width}}  done {_clock(seconds):>10}  {_relative(copy, root)}", flush=True)
    return 0


def load_ipython_extension(shell: Any) -> None:
    """Make a shell command that fails an error, also one run by ``%pip``, which only prints; loaded by `run`'s kernels.

    A person sees the message and reacts; a headless run would go on without what the command should have brought.
    """
    plain_system, plain_cd = shell.system, shell.find_line_magic("cd")

    def system(command: str) -> None:
        plain_system(command)
        if status := shell.user_ns.get("_exit_code"):
            raise subprocess.CalledProcessError(status, command)

    def cd(line: str) -> object:
        target = line.strip().strip("\"'")
        if target and not target.startswith("-") and not Path(target).expanduser().is_dir():
            raise FileNotFoundError(f"%cd: there is no folder {target!r}")
        return plain_cd(line)

    shell.system = system
    shell.register_magic_function(cd, "line", "cd")


def _execute(source: Any, name: str, partial: Path, parameters: dict[str, Any], root: Path, data: str) -> Any:
    """Execute a notebook with papermill, which saves it to `partial` after every cell.

    Raises NotebookFailed also for what papermill takes for a success: cells after ``sys.exit()`` that never ran.
    """
    import logging

    import nbformat
    import papermill
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if not any("parameters" in cell.metadata.get("tags", []) for cell in source.cells):
        raise NotebookFailed("it has no cell tagged `parameters`, so PROFILE, SEED and DATA cannot be set.")

    # A kernel's death reaches us as an exception; papermill would log it as well, asyncio after Ctrl-C.
    for logger in ("papermill", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    cells = len(source.cells) + 1  # papermill adds one with the parameters
    current = 0

    def remember(cell: Any, cell_index: int) -> None:
        nonlocal current
        current = cell_index

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as ipython_folder:
        environment = {
            "FASHION_MNIST_DATA": data,
            "FASHION_MNIST_ROOT": str(root),
            "IPYTHONDIR": ipython_folder,  # no start-up files or history of the user's
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # figures appear whatever the user's setting
            "PYTHONHASHSEED": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        # The log level keeps a note about unencrypted loopback traffic off everybody's terminal.
        options = [f"--IPKernelApp.extra_extensions={__name__}", "--IPKernelApp.log_level=ERROR"]
        kernel = get_kernel_dict(extra_arguments=options)

        class ThisInterpreter(AsyncKernelManager):
            """Starts our own Python: a kernelspec "python3" of the user's may be any other."""

            kernel_spec = KernelSpec(**{**kernel, "env": environment})

        try:
            with _progress_line(name, cells, lambda: current + 1):
                executed = papermill.execute_notebook(
                    nbformat.from_dict(source),
                    str(partial),
                    parameters=parameters,
                    kernel_name="python3",
                    language="python",
                    cwd=str(root),
                    progress_bar=False,
                    kernel_manager_class=ThisInterpreter,
                    shutdown_kernel="immediate",
                    on_cell_start=remember,
                )
        except PapermillExecutionError as error:
            as_far = nbformat.read(partial, as_version=4)
            failed = next(cell for cell in as_far.cells if cell.cell_type == "code" and cell.source == error.source)
            raise NotebookFailed(_cell_and_error(failed, "\n".join(error.traceback))) from None
        except DeadKernelError:
            as_far = nbformat.read(partial, as_version=4)
            reason = "The kernel died: out of memory, killed, or the code ended its process."
            raise NotebookFailed(_cell_and_error(as_far.cells[current], reason)) from None
        except RuntimeError as error:  # jupyter_client's, before the first cell
            raise NotebookFailed(f"the kernel did not start: {error}") from None
    for cell in executed.cells:
        if cell.cell_type == "code" and cell.source.strip() and cell.metadata.papermill["exception"] is not False:
            raise NotebookFailed(_cell_and_error(cell, "The notebook ended in this cell; those after it did not run."))
    return executed


def _cell_and_error(cell: Any, error: str) -> str:
    """How a failure is told: which cell, its source, the error without terminal colours."""
    # A magic that IPython does not know leaves no traceback, only a message on the cell's standard error.
    printed = "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stderr")
    error = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", error.strip() or printed).strip()
    source = "\n".join(f"    {line}" for line in cell.source.splitlines())
    return f"cell {cell.get('id', '?')!r}\n\n{source}\n\n{error}\n"


@contextmanager
def _progress_line(name: str, cells: int, current: Callable[[], int]) -> Iterator[None]:
    """Keep one line on the terminal up to date while the body runs; nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    began = time.monotonic()
    finished = threading.Event()

    def show() -> None:
        while not finished.wait(0.5):
            line = f"{name}  cell {current()} of {cells}  {_clock(time.monotonic() - began)}"
            print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)
        print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _take_outputs(source: Any, executed: Any, private: Mapping[str, str]) -> None:
    """Give the outputs of the executed notebook to the cells of `source`, and nothing else.

    The injected parameters, papermill's metadata and times stay behind, and the paths of this machine are cut short, so
    that two runs differ only where their results do.
    """
    ran = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    count = 0
    for cell, done in zip(source.cells, ran, strict=True):
        if cell.cell_type != "code":
            continue
        cell.outputs = done.outputs
        cell.execution_count = None
        if cell.source.strip():
            count += 1
            cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
            if output.output_type == "stream":
                output.text = _without(output.text, private)
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(content, str):
                    output.data[kind] = _without(content, private)


def _private_paths(root: Path, data: str) -> dict[str, str]:
    """Paths that say something about this machine only, and what stands for them in an output."""
    home = f"{Path.home()}{os.sep}"
    return {f"{root}{os.sep}": "", str(root): ".", data: "DATA", home: f"~{os.sep}"}


def _without(text: str, private: Mapping[str, str]) -> str:
    for path, replacement in private.items():
        text = text.replace(path, replacement)
    return re.sub(r"(<[\w.]+(?: object)?) at 0x[0-9a-fA-F]+>", r"\1>", text)  # where an object lay in memory


def _stamp(path: Path) -> dict[str, Any]:
    """What an executed notebook says about its execution; empty if it has not been executed, or is not there."""
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))["metadata"].get("fashion_mnist", {})


def _files(out: Path) -> dict[str, int]:
    """What notebooks have written below `out`, and when it last changed."""
    folders = [out / name for name in ("images", "models", "results")]
    paths = sorted(path for folder in folders for path in folder.glob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in paths}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _hash_of_records(roots: Iterable[Path], but: str) -> str:
    """Hash of the result records a summary may show: what is committed, and what this profile has made."""
    files = sorted(path for root in roots for path in (root / "results").glob("*.json") if path.stem != but)
    return _hash(json.dumps([(path.name, path.read_text(encoding="utf-8")) for path in files]).encode())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {int(rest):02d} s" if minutes else f"{rest:.1f} s"


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


# --------------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Chapter:
    """One executed notebook on its way into the report."""

    name: str
    notebook: Any
    record: dict[str, Any]

    @property
    def opening(self) -> str:
        """Source of the first Markdown cell: a title, and what the notebook answers."""
        return next((cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"), "")

    @property
    def title(self) -> str:
        heading = re.search(r"^#\s+(.+)$", self.opening, re.M)
        return heading.group(1).strip() if heading else self.name

    @property
    def summary(self) -> str:
        """The first paragraph after the title, in Markdown."""
        paragraphs = re.split(r"\n\s*\n", self.opening)
        return next((text.strip() for text in paragraphs if text.strip() and not text.lstrip().startswith("#")), "")

    @property
    def picture(self) -> str | None:
        """The first figure, as base64 PNG."""
        outputs = (out for cell in self.notebook.cells for out in cell.get("outputs", []))
        return next((out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})), None)


def report(profile: str | None = None) -> Path:
    """Render the executed notebooks to a self-contained HTML site in ``build/report``.

    Parameters
    ----------
    profile : {"smoke", "quick", "full"}, optional
        Whose notebooks: those in ``build/PROFILE/notebooks``, for ``full`` also the outputs in ``notebooks/``. If not
        given, ``quick`` where something was executed at quick, else ``full``.

    Returns
    -------
    Path
        ``index.html``; no page loads anything from elsewhere. TeX in Markdown stays as typed.

    Raises
    ------
    ValueError
        If nothing was executed at this profile.
    """
    root = project_root().resolve()
    for candidate in ("quick", "full") if profile is None else (profile_named(profile).name,):
        chapters = _chapters(candidate, root)
        if chapters:
            break
    else:
        command = f"fashion-mnist run --profile {profile or 'quick'}"
        raise ValueError(f"No notebook has been executed at profile {profile or 'quick'}; `{command}` does it.")

    folder = root / "build" / "report"
    names = [chapter.name for chapter in chapters]
    for old in folder.glob("*.html"):
        if old.stem not in names:
            old.unlink()
    for chapter in chapters:
        _write_text(folder / f"{chapter.name}.html", _linked(_page(chapter, names, root), names))
    return _write_text(folder / "index.html", _linked(_index(chapters, candidate), names))


def _chapters(profile: str, root: Path) -> list[Chapter]:
    import nbformat

    chapters = []
    for path in notebooks(root=root):
        places = [root / "build" / profile, root] if profile == "full" else [root / "build" / profile]
        for place in places:
            copy = place / "notebooks" / path.name
            if _stamp(copy).get("profile") == profile:
                result = place / "results" / f"{path.stem}.json"
                record = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
                chapters.append(Chapter(path.stem, nbformat.read(copy, as_version=4), record))
                break
    return chapters


def _page(chapter: Chapter, names: Sequence[str], root: Path) -> str:
    """One notebook as a page: contents, then its cells, figures embedded."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    # "basic" gives the cells alone; the page around nbconvert's other templates loads scripts from the network.
    exporter = HTMLExporter(
        template_name="basic", embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    heading = chapter.title
    for cell in chapter.notebook.cells:  # a figure is described by the heading it stands under
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+\s+(.+)$", cell.source, re.M) or [heading])[-1]
        cell.metadata.setdefault("alt", f"Figure: {heading}")
    body, _ = exporter.from_notebook_node(chapter.notebook, {"metadata": {"path": str(root / "notebooks")}})
    body = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", body)
    sections = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body, re.S)
    contents = "".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in sections)
    place = names.index(chapter.name)
    before = f'<a href="{names[place - 1]}.html">← {names[place - 1]}</a>' if place else ""
    after = f'<a href="{names[place + 1]}.html">{names[place + 1]} →</a>' if place + 1 < len(names) else ""
    navigation = f'<nav class="steps"><a href="index.html">All notebooks</a><span>{before} {after}</span></nav>'
    styles = HtmlFormatter().get_style_defs(".highlight")
    return _html(
        chapter.title,
        f'{navigation}{_provenance(chapter)}<nav class="contents"><ul>{contents}</ul></nav>{body}{navigation}',
        styles,
    )


def _index(chapters: Sequence[Chapter], profile: str) -> str:
    from nbconvert.filters import markdown2html

    cards = []
    for chapter in chapters:
        picture = f'<img alt="" src="data:image/png;base64,{chapter.picture}">' if chapter.picture else ""
        facts = [
            f"<div><dt>{html.escape(key.replace('_', ' '))}</dt><dd>{_readable(key, value)}</dd></div>"
            for key, value in chapter.record.get("headline", {}).items()
        ]
        numbers = f"<dl>{''.join(facts[:9])}</dl>"
        if facts[9:]:
            numbers += f"<details><summary>{len(facts) - 9} more</summary><dl>{''.join(facts[9:])}</dl></details>"
        # As a heading: on its own, "1. A title" would be a list of one.
        title = re.sub(r"<a class=.*|</?h1[^>]*>", "", markdown2html(f"# {chapter.title}").strip())
        cards.append(
            f'<article class="card"><div><h2><a href="{chapter.name}.html">{title}</a></h2>'
            f"{markdown2html(chapter.summary)}{_provenance(chapter)}{numbers}</div>{picture}</article>"
        )
    record = next((chapter.record for chapter in chapters if chapter.record), None)
    made = ""
    if record:
        where, what = record["machine"], record["versions"]
        made = (
            f"<p class=made>Measured on {html.escape(where['cpu'])}, {where['cores']} cores, {where['memory']}; Python "
            f"{what['python']}, TensorFlow {what.get('tensorflow', '–')}, Keras {what.get('keras', '–')}.</p>"
        )
    introduction = f"<h1>Fashion-MNIST study</h1><p>Executed notebooks, profile <b>{profile}</b>.</p>"
    return _html("Fashion-MNIST study", introduction + "".join(cards) + made)


def _linked(page: str, names: Sequence[str]) -> str:
    """The page with links from notebook to notebook leading to their pages."""
    for name in names:
        page = re.sub(rf'href="(?:\./)?{re.escape(name)}\.ipynb', f'href="{name}.html', page)
    return page


def _provenance(chapter: Chapter) -> str:
    """The line under a title: profile, data, time; loud where the numbers are not about the official data."""
    stamp = chapter.notebook.metadata["fashion_mnist"]
    text = {
        "official": "official data",
        "sample": SAMPLE_BANNER.split(";")[0],
        "unverified": "UNVERIFIED DATA: not the official files",
    }[stamp["kind"]]
    return (
        f'<p class="provenance {stamp["kind"]}">{text} · fingerprint {stamp["fingerprint"]} · profile '
        f"{stamp['profile']} · seed {stamp['seed']} · executed in {_clock(stamp['seconds'])}</p>"
    )


def _readable(key: str, value: float) -> str:
    if "accuracy" in key and 0 <= value <= 1:
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _html(title: str, body: str, styles: str = "") -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{styles}\n{_CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


_CSS = """
:root { --ink: #1f2328; --quiet: #656d76; --line: #d8dee4; --tint: #f6f8fa; --accent: #0b5cad; --alarm: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.6 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; }
h1, h2, h3 { line-height: 1.25; margin: 2.2em 0 .6em; }
h1 { font-size: 2rem; margin-top: .8em; } h2 { font-size: 1.4rem; } h3 { font-size: 1.1rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
img { max-width: 100%; height: auto; }
pre { margin: 0; overflow-x: auto; font: 13px/1.5 ui-monospace, "SF Mono", Consolas, monospace; }
code { font-family: ui-monospace, "SF Mono", Consolas, monospace; font-size: .9em; }
.input_area { background: var(--tint); border-left: 3px solid var(--line); padding: .6rem .9rem; margin: 1rem 0 .4rem; }
.highlight { background: none; }
.output_subarea { padding: .2rem 0; overflow-x: auto; }
.output_stderr pre { color: var(--alarm); }
table { border-collapse: collapse; font-size: .9rem; margin: 1rem 0; border: 0; }
th, td { padding: .35em .8em; border: 0; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
.steps { display: flex; justify-content: space-between; gap: 1rem; font-size: .9rem; margin: 1rem 0; }
.steps span { display: flex; gap: 1.5rem; }
.contents ul { list-style: none; padding: 0; columns: 18rem; font-size: .92rem; }
.provenance, .made { color: var(--quiet); font-size: .85rem; }
.provenance.sample, .provenance.unverified { color: #fff; background: var(--alarm); padding: .3em .8em; }
.card { display: flex; gap: 1.5rem; border-top: 1px solid var(--line); padding: 1rem 0; }
.card > div { flex: 1; min-width: 0; } .card h2 { margin: .4em 0; }
.card > img { width: 15rem; max-height: 15rem; object-fit: contain; align-self: center; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .6rem 1rem; margin: 0; }
summary { color: var(--accent); cursor: pointer; font-size: .9rem; margin: .6rem 0; }
dt { color: var(--quiet); font-size: .8rem; } dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
@media (max-width: 44rem) { .card { flex-direction: column; } .card > img { width: 100%; } }
"""

# --------------------------------------------------------------------------------------------------- README's tables

Records = Mapping[str, Mapping[str, Any]]  # result records by name


class Reported(NamedTuple):
    """What a starting project reports for a network, from a single training."""

    accuracy: float
    on_test: bool = True  # otherwise on a validation split of its own


# By how the names of such networks in `KINDS` begin.
REPORTED = {
    "Fully connected network": Reported(0.85),
    "CNN 32-64-3-64": Reported(0.9201, on_test=False),
    "Mini ResNet 3-64": Reported(0.9295),
    "Regularised CNN": Reported(0.88),
    "Deep CNN": Reported(0.9487),
}

# Test accuracies from the benchmark table of the data's own repository, https://github.com/zalandoresearch/fashion-mnist.
LITERATURE = {
    "People without expertise, on 1,000 images": 0.835,
    "MLP 256-128-64": 0.900,
    "2 convolutions, less than 100,000 parameters": 0.925,
    "VGG16": 0.935,
    "ResNet18, flips, shifts and turns": 0.949,
    "DenseNet-BC, 768,000 parameters": 0.954,
    "Wide ResNet 28-10": 0.959,
    "Wide ResNet 28-10, random erasing": 0.963,
    "Wide ResNet 40-4": 0.967,
}

# What tables and figures call the models, by their names less the seed. Where a notebook trains many of a family, the
# family's name is followed by what tells its members apart, as in `cnn_grid_top1`; {} is for their arguments.
KINDS = {
    "mlp": "Fully connected network",
    "cnn": "CNN 32-64-3-64",
    "cnn_grid_top": "CNN {}, grid",
    "cnn_original_": "CNN {}, original recipe",
    "cnn_search_best": "Best of the CNN search",
    "mini_resnet": "Mini ResNet 3-64, Adam",
    "resnet_grid_top": "Mini ResNet {}, grid",
    "resnet_original_": "Mini ResNet {}, original recipe",
    "resnet_search_best": "Best of the Mini ResNet search",
    "regularised_cnn": "Regularised CNN, augmented",
    "regularised_cnn_weighted": "Regularised CNN, class weights",
    "regularised_cnn_original": "Regularised CNN, original recipe",
    "deep_cnn": "Deep CNN, SGD",
    "deep_cnn_augmented": "Deep CNN, Muon and erasing",
    "deep_cnn_original": "Deep CNN, original recipe",
}


def kind_of(name: str, card: Mapping[str, Any]) -> str:
    """What a model is called in words; models that differ only in their seed are of one kind.

    Parameters
    ----------
    name : str
        Of its file, as in ``models/NAME.keras``.
    card : mapping
        As `read_card` gives it.

    Returns
    -------
    str
        From `KINDS`; for a model that it does not know, the name less the seed.
    """
    stem = re.sub(r"_seed\d+$", "", name)
    arguments = "-".join(str(value) for value in card["arguments"].values())
    for known, words in KINDS.items():
        if stem == known or ("{}" in words and stem.startswith(known)):
            return words.format(arguments)
    return stem


# The rows of the table of facts: what README calls it, the record, the headline number, how it is written.
EDA_ROWS = (
    ("Exact duplicates inside the training images", "01_eda", "duplicates_within_train", "{:,}"),
    ("Exact duplicates between training and test images", "01_eda", "duplicates_train_test", "{:,}"),
    ("Principal components for 95 % of the variance", "01_eda", "pca_components_95", "{:,}"),
    ("Images in the t-SNE map", "01_eda", "tsne_points", "{:,}"),
    ("Time for the t-SNE map", "01_eda", "tsne_seconds", "{:,.0f} s"),
    ("Images whose ten neighbours on the map vote for their class", "01_eda", "tsne_knn_accuracy", "{:.1%}"),
)


def headline_table(records: Records) -> str:
    """Markdown table of models, those with the most seeds or a reported number: test accuracy beside what it costs."""
    if "09_final_evaluation" not in records:
        return "Not measured: `results/09_final_evaluation.json` is missing."
    kinds = records["09_final_evaluation"]["tables"]["kinds"]
    seeds = max(kind["seeds"] for kind in kinds)
    rows = [
        "| Model | Test accuracy | F1 | Reported | Parameters | Training | Inference, an image |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for kind in kinds:
        if kind["seeds"] == seeds or kind["reported"]:
            reported = f"{100 * kind['reported']:.2f} %" if kind["reported"] else ""
            rows.append(
                f"| {kind['kind']} | {_mean_and_std(kind, 'test_accuracy')} | {100 * kind['test_f1_macro_mean']:.2f} % "
                f"| {reported} | {kind['parameters']:,} | {_clock(kind['training_seconds'])} "
                f"| {kind['inference_ms']:.2f} ms |"
            )
    return "\n".join(rows)


def _mean_and_std(headline: Mapping[str, Any], measure: str) -> str:
    """A single training has no spread."""
    mean, std = headline[f"{measure}_mean"], headline[f"{measure}_std"]
    return f"{100 * mean:.2f} %" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def eda_table(records: Records) -> str:
    """Markdown table of what the exploration found in the data."""
    rows = ["| What | Value |", "|---|---:|"]
    for label, name, key, form in EDA_ROWS:
        missing = f"not measured: `results/{name}.json` is missing"
        value = form.format(records[name]["headline"][key]).replace("%", " %") if name in records else missing
        rows.append(f"| {label} | {value} |")
    return "\n".join(rows)


def explanations_table(records: Records) -> str:
    """Markdown table of the checks that the methods of explanation were put to."""
    if "08_grad_cam" not in records:
        return "Not measured: `results/08_grad_cam.json` is missing."
    rows = ["| Method | Insertion area | Deletion area | Sanity | Mass on the garment |", "|---|---:|---:|---:|---:|"]
    for row in records["08_grad_cam"]["tables"]["checks"]:
        rows.append(
            f"| {row['method']} | {row['insertion_auc']:.3f} | {row['deletion_auc']:.3f} "
            f"| {row['sanity_rank_correlation']:.2f} | {100 * row['garment_share']:.0f} % |"
        )
    if "bench_grad_cam" in records:
        speed = records["bench_grad_cam"]["headline"]
        rows += [
            "",
            f"{speed['maps_per_second']:,.0f} Grad-CAM maps a second: {speed['speedup_vs_loop']:.0f} times the usual "
            "loop that rebuilds its model for each image, "
            f"{speed['speedup_vs_loop_built_once']:.0f} times the loop that builds it once.",
        ]
    return "\n".join(rows)


def costs_table(records: Records) -> str:
    """Markdown table of the time that the commands take, and each notebook from nothing at `quick` and at `full`."""
    measured = records.get("bench_commands", {"headline": {}, "tables": {"quick": []}})
    quick = {row["notebook"]: row["seconds"] for row in measured["tables"]["quick"]}
    names = sorted({*quick, *(name for name in records if not name.startswith("bench_"))})

    def time_of(*keys: str) -> str:
        values = [measured["headline"].get(f"{key}_seconds") for key in keys]
        return "not measured" if None in values else _clock(sum(values))

    rows = ["| | `quick` | `full` |", "|---|---:|---:|"]
    for name in names:
        full = _clock(records[name]["seconds"]) if name in records else ""
        rows.append(f"| {name} | {_clock(quick[name]) if name in quick else ''} | {full} |")
    rows += [
        f"| `make run`, all notebooks and the report | {time_of('run_quick', 'report')} | |",
        f"| installation, once before the first command | {time_of('install')} | |",
        f"| `make test`, its packages and all tests | {time_of('install_dev', 'tests')} | |",
    ]
    return "\n".join(rows)


def tuning_table(records: Records) -> str:
    """Markdown table of the tuning studies: validation accuracy of grid and search, and what the grid's study took."""
    rows = [
        "| Grid | Configurations | Best of the grid | Best of the search | Time of the grid's study | Saving |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for label, name in (("CNN", "03_cnn_tuning"), ("Mini ResNet", "04_resnet_tuning")):
        if name not in records:
            rows.append(f"| {label} | not measured: `results/{name}.json` is missing | | | | |")
            continue
        headline = records[name]["headline"]
        grid, search = (_mean_and_std(headline, f"{which}_validation_accuracy") for which in ("best", "search"))
        rows.append(
            f"| {label} | {headline['configurations']} | {grid} | {search} | {_clock(headline['study_seconds'])} "
            f"| {headline['saving']:.1f} × |"
        )
    if "bench_tuning_scaling" in records:
        scaling = records["bench_tuning_scaling"]["headline"]
        rows += [
            "",
            f"On 8 workers the study of the CNN grid would be {scaling['speedup_8_workers']:.1f} times as fast, on any "
            f"number of them at most {scaling['speedup_limit']:.1f} times, for a rung lasts as long as its longest "
            "training ([tuning_scaling.py](benchmarks/tuning_scaling.py) replays the measured times).",
        ]
    return "\n".join(rows)


def speed_table(records: Records) -> str:
    """Markdown table of images a second in training at batch 128, ours beside plain Keras and PyTorch."""
    if "bench_training_throughput" not in records:
        return "Not measured: `results/bench_training_throughput.json` is missing."
    record = records["bench_training_throughput"]
    speed = {(row["network"], row["peer"]): row for row in record["tables"]["throughput"] if row["batch"] == 128}
    rows = [
        "| Network | Ours | Keras float32 | Keras bfloat16 | PyTorch, best of float32 and bfloat16 | Ours / PyTorch |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for network in dict.fromkeys(network for network, _ in speed):
        ours, *peers, torch32, torch16 = (
            speed[network, peer]["images_per_second"]
            for peer in ("ours", "keras_float32", "keras_bfloat16", "torch_float32", "torch_bfloat16")
        )
        values = [ours, *peers, max(torch32, torch16)]
        cells = " | ".join(f"{value:,.0f}" for value in values)
        rows.append(f"| `{network}` | {cells} | {record['headline'][f'{network}_vs_torch']:.2f} |")
    if "bench_time_to_accuracy" in records:
        race = records["bench_time_to_accuracy"]["headline"]
        ended = "gets there" if race["starting_reached_target"] else "stops early without it"
        rows += [
            "",
            "From nothing to 92.95 % on the test set, the best that the starting project reports, for a Mini ResNet "
            f"3-64: {race['seconds']:.0f} s with another and smaller network, `cnn`, and Muon "
            f"({_mean_and_std(race, 'test_accuracy')}). That Mini ResNet, trained by its own recipe in plain Keras, "
            f"{ended} after {race['starting_epochs']} epochs "
            f"({100 * race['starting_best_test_accuracy']:.2f} % at best), which take "
            f"{race['speedup_to_9295']:.1f} times as long, extrapolated from a part of an epoch.",
        ]
    return "\n".join(rows)


TABLES: dict[str, Callable[[Records], str]] = {
    "headline": headline_table,
    "eda": eda_table,
    "explanations": explanations_table,
    "tuning": tuning_table,
    "speed": speed_table,
    "costs": costs_table,
}


def readme(check: bool = False) -> list[str]:
    """Rewrite README's tables from ``results/``.

    A table stands between ``<!-- results:NAME -->`` and ``<!-- /results -->``; NAME is a key of `TABLES`.

    Parameters
    ----------
    check : bool
        Only compare; README is left as it is.

    Returns
    -------
    list of str
        Names of the tables that differed.

    Raises
    ------
    ValueError
        If a marker names no table or is not closed, or a record lacks a number that a table shows.
    """
    root = project_root()
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    records = read_results(root)
    differing = []

    def rewrite(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"README.md asks for a table {name!r}; study.TABLES has {', '.join(TABLES)}.")
        try:
            table = TABLES[name](records)
        except KeyError as error:
            raise ValueError(f"Table {name!r} of README.md needs {error}, which no record in results/ has.") from error
        block = f"<!-- results:{name} -->\n{table}\n<!-- /results -->"
        if block != match[0]:
            differing.append(name)
        return block

    rewritten = re.sub(
        r"<!-- results:(?P<name>\S+) -->(?:(?!<!-- results:).)*?<!-- /results -->", rewrite, text, flags=re.S
    )
    opened, closed = len(re.findall(r"<!-- results:\S+ -->", text)), text.count("<!-- /results -->")
    if opened != closed:
        raise ValueError(f"README.md opens {opened} tables with <!-- results:NAME --> and closes {closed}.")
    if differing and not check:
        _write_text(path, rewritten)
    return differing

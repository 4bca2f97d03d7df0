"""A run inside a notebook: the data and budgets of its profile, what it trains, measures, draws and records.

``start()`` gives a `Study`. Networks, studies and measurements are kept: what has been done for the same question is
read, not done again. At ``quick`` on the official data everything is read from what the full study left, so a reader
sees the study's own numbers in minutes.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_mnist import data, files, networks, profiles, records
from fashion_mnist.networks import Network, StudyError, clock, now

if TYPE_CHECKING:
    import keras
    from IPython.display import DisplayHandle, Markdown
    from matplotlib.figure import Figure

    from fashion_mnist.halving import Tuned
    from fashion_mnist.training import Fit, Recipe


@dataclass
class Study:
    """What a notebook needs to know about the run it is part of; made by `start`.

    Attributes
    ----------
    name : str
        Name of the notebook, and of its record.
    profile : namespace
        The budgets, see `profiles.BUDGETS`; those of ``full`` where the full study is shown.
    seed : int
    data : data.Dataset
        Cut down to the budgets.
    root, out : Path
        The checkout, and the folder that this run writes below: the checkout for ``full`` on the official data, else
        ``build/PROFILE``.
    replays : bool
        Whether this run shows what the full study left instead of training: at ``quick`` on the official data, and
        where a full run is only drawn again.
    banner : str or None
        What must stand beside every number and figure if the images are the generated sample.
    """

    name: str
    profile: SimpleNamespace
    seed: int
    data: data.Dataset
    root: Path
    out: Path
    replays: bool = False
    banner: str | None = None
    started: float = field(default_factory=time.monotonic)
    spared: float = 0.0  # seconds that trainings and measurements took which this run only read
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)  # what `tune` was asked, by table
    trials: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # and what it found
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    finished: list[Path] = field(default_factory=list)  # checkpoints of trainings that a measurement made
    opening: DisplayHandle | None = None  # where `start` is called: read first, although the answer is known last

    @property
    def source(self) -> Path:
        """The folder whose networks, records and arrays this run reads."""
        return self.root if self.replays else self.out

    @property
    def stage(self) -> Path:
        """Where figures, record and arrays go: into place, or where the runner collects them until all are there."""
        return Path(os.environ.get("FASHION_MNIST_STAGE") or self.out)

    @functools.cached_property
    def shipped(self) -> dict[str, Any]:
        """This notebook's record as it was left before; empty if there is none."""
        path = self.source / "results" / f"{self.name}.json"
        return records.read_json(path) if path.is_file() else {}

    def record(self, name: str) -> dict[str, Any] | None:
        """The record of another notebook or benchmark; None if it has not been made with this data and seed."""
        path = self.source / "results" / f"{name}.json"
        found = records.read_json(path) if path.is_file() else {}
        same = found.get("seed") == self.seed and found["data"]["fingerprint"] == self.data.fingerprint
        return found if same else None

    # --- networks ----------------------------------------------------------------------------------------------------

    def train(
        self,
        architecture: str,
        recipe: Recipe,
        *,
        name: str,
        kind: str = "",
        arguments: Mapping[str, Any] | None = None,
        seed: int | None = None,
        weights: bool = True,
        held_out: float | None = None,
        taught_by: Sequence[Network] = (),
    ) -> Network:
        """Train a network on this run's training images, or read it if that was done already; say which.

        It leaves ``models/NAME.json`` (card), ``models/NAME.safetensors`` (weights) and
        ``results/predictions/NAME.npz``. A training that was interrupted goes on from its last epoch.

        Parameters
        ----------
        architecture : str
            A key of `models.ARCHITECTURES`.
        recipe : training.Recipe
        name : str
            Of the network.
        kind : str
            What tables call networks that differ from it in the seed only.
        arguments : mapping, optional
            Of the architecture's builder.
        seed : int, optional
            Of the initial weights and of the training; the run's own if not given.
        weights : bool
            Whether to keep the weights, for those who use or explain the network.
        held_out : float, optional
            Instead of this run's validation images, hold out such a share of all that are not test images, drawn by the
            network's seed (`data.Dataset.held_out`): to repeat a published procedure, or to train on more.
        taught_by : sequence of Network
            Whose common answers (`networks.ensemble`) take the place of the training images' labels.

        Raises
        ------
        StudyError
            If the full study holds another training of that name, or this run only shows what is there and it is not.
        """
        from fashion_mnist import models, training
        from fashion_mnist._backend import keras

        seed = self.seed if seed is None else seed
        images = self.data if held_out is None else self.data.held_out(held_out, seed)
        apart = {"held_out": held_out, "taught_by": [teacher.name for teacher in taught_by]}
        identity = {
            "architecture": architecture,
            "arguments": models.spelled_out(architecture, dict(arguments or {})),
            "recipe": asdict(recipe),
            "seed": seed,
            "data": {"fingerprint": images.fingerprint, "images": len(images.y_train)}
            | {key: value for key, value in apart.items() if value},
            "version": training.VERSION,
        }
        found = self._kept(name, identity, weights)
        if found is not None:
            self.spared += found.card["seconds"]
            return found
        keras.utils.set_random_seed(seed)
        model, splits = models.build(architecture, **identity["arguments"]), images.splits()
        done = self.fit(name, model, splits["train"], splits["validation"], recipe, taught_by, seed=seed)
        about = {"kind": kind or name, **identity, "profile": self.profile.name}
        network = networks.leave(self.out, name, model, about, done, splits, weights)
        while self.finished:
            self.finished.pop().unlink(missing_ok=True)
        print(
            f"{name}: {network.card['epochs']} epochs in {clock(done.seconds)} at {done.precision}, "
            f"validation accuracy {network.validation_accuracy:.4f}"
        )
        return network

    def train_seeds(
        self, architecture: str, recipe: Recipe, *, name: str, first: int | None = None, weights: int = 1, **more: Any
    ) -> list[Network]:
        """`train` with as many seeds as the profile has, from `first` on (the run's own if not given).

        The networks are called ``NAME_seedN``; the weights of the first so many are kept. The other options are those
        of `train`.
        """
        first = self.seed if first is None else first
        return [
            self.train(architecture, recipe, name=f"{name}_seed{n}", seed=n, weights=n < first + weights, **more)
            for n in range(first, first + self.profile.seeds)
        ]

    def networks(self, names: str = "[!.]*") -> dict[str, Network]:
        """Trained networks of this data that the run can read, by name: all, or those that match a pattern."""
        return networks.every(self.source, self.data.fingerprint, names)

    def _kept(self, name: str, identity: Mapping[str, Any], weights: bool) -> Network | None:
        """The network of that name if it is of this training; None if it has to be trained."""
        path = self.source / "models" / f"{name}.json"
        try:
            card = records.read_json(path) if path.is_file() else None
        except records.RecordError as error:
            if self.source == self.root:  # of the full study, so it can be restored
                raise
            print(f"{name}: {error} It is trained again.")
            return None
        different = records.differences(networks.spelled_out(card), identity) if card else [f"there is no {path.name}"]
        if self.replays and (others := [each for each in different if not each.startswith("version")]):
            raise StudyError(
                f"{name} was not trained by the full study{' as asked' if card else ''}: {'; '.join(others)}. This run "
                f"trains nothing; `fashion-mnist run {self.name} --profile full` does."
            )
        if card is None:
            return None
        network = Network(name, card, self.source)
        if self.replays:
            print(network.check(self.data.x_test[: self.profile.checked_images]))
            return network
        begun = os.environ.get("FASHION_MNIST_FRESH")  # when a run began that is to begin anew
        old = bool(begun) and card.get("created", "") < begun
        if different and self.out == self.root and not old and card.get("version", 0) >= identity["version"]:
            raise StudyError(
                f"models/{name}.json is another training than {self.name} asks for ({'; '.join(different)}). "
                "Delete it with its weights and predictions, or give the new training another name."
            )
        if different or old:
            if self.out == self.root:
                networks.set_aside(self.root, name, self.root / "build" / "replaced")
            return None
        if weights and not network.has_weights:
            print(f"{name}: its weights are not kept, so it is trained again")
            return None
        try:
            _ = network.predictions
        except (FileNotFoundError, records.RecordError) as error:
            print(f"{name}: its predictions cannot be read ({error}), so it is trained again")
            return None
        print(f"{name}: trained before in {clock(card['seconds'])}; same recipe, data and version of training")
        return network

    def checkpoint(self, name: str) -> Path:
        """Where the training of this name is kept while it goes on: ``build/checkpoints/PROFILE/NAME.npz``."""
        return self.root / "build" / "checkpoints" / self.profile.name / f"{name}.npz"

    def fit(
        self,
        name: str,
        model: keras.Model,
        train: data.Split,
        validation: data.Split,
        recipe: Recipe,
        taught_by: Sequence[Network] = (),
        **options: Any,
    ) -> Fit:
        """`training.fit` with a checkpoint of that name: a training that was interrupted, or is done, goes on from it.

        The checkpoint goes when `train` or `keep` has what the training was made for. One that is damaged or of
        something else is dropped: there is nothing in it that could be continued. Where others teach, what they say
        (`networks.ensemble`) takes the place of the labels. The seed is the run's own if not given; the other options
        are those of `training.fit`.
        """
        from fashion_mnist import training

        options = {"seed": self.seed, **options, "checkpoint": self.checkpoint(name)}
        if taught_by:
            said = networks.kept_ensemble(taught_by, train[0], options["checkpoint"])
            self.finished.append(said)
            train = train[0], np.load(said)
        try:
            done = training.fit(model, train, validation, recipe, **options)
        except training.CheckpointError:
            options["checkpoint"].unlink()
            done = training.fit(model, train, validation, recipe, **options)
        self.spared += sum(done.history["seconds"][: done.resumed_from])
        self.finished.append(options["checkpoint"])
        return done

    def seconds_per_epoch(self, network: Network, images: int = 4_000) -> float:
        """What an epoch of its training takes on this machine, which should have nothing else to do.

        Parameters
        ----------
        network : Network
            Whose architecture, arguments and recipe are taken.
        images : int
            How many training images it is timed on, with as many validation images as the network had in proportion.

        Returns
        -------
        float
            Seconds, validation included: the median of three epochs after the first, in proportion to all images.
        """
        of_its, of_all = network.card["data"]["images"], len(self.data.y_train) + len(self.data.y_val)
        images = min(images, len(self.data.y_train))
        few = self.data.subset(images, round(images * (of_all / of_its - 1)), None)
        done = networks.trained_anew(network.card, 4, (few.x_train, few.y_train), (few.x_val, few.y_val))
        return float(np.median(done.history["seconds"][1:]) * of_its / images)

    def live(self, network: Network, images: int = 5_000) -> str:
        """Where nothing is trained, train a network of the same kind for one epoch before the reader's eyes.

        Parameters
        ----------
        network : Network
            Whose architecture, arguments and recipe are taken.
        images : int
            How many training images, so that it takes seconds.

        Returns
        -------
        str
            A sentence with the validation accuracy, and that of the full study beside it.
        """
        if not self.replays:
            return "This run trained the networks above itself."
        card = network.card
        train = self.data.x_train[:images], self.data.y_train[:images]
        validation = self.data.x_val[:1000], self.data.y_val[:1000]
        done = networks.trained_anew(card, 1, train, validation)
        return (
            f"Trained just now, for one epoch on {len(train[1]):,} images, {network.card['kind']} has "
            f"{done.history['val_accuracy'][0]:.1%} of {len(validation[1]):,} validation images right after "
            f"{done.seconds:.0f} s; in the full study, after {card['epochs']} epochs on "
            f"{card['data']['images']:,} images, {network.validation_accuracy:.1%} of all."
        )

    # --- studies and measurements ------------------------------------------------------------------------------------

    def tune(self, space: str, table: str, *, seed: int | None = None, **options: Any) -> Tuned:
        """Search a space on this run's training and validation images, or read the study from the record.

        Parameters
        ----------
        space : str
            A key of `spaces.SPACES`.
        table : str
            Of the record, which holds the trials.
        seed : int, optional
            The run's own if not given.
        **options
            Of `tuning.tune`: ``epochs``, ``trials`` and so on.

        Raises
        ------
        StudyError
            If this run only shows what is there, and the record has another study.
        """
        from fashion_mnist import tuning
        from fashion_mnist.halving import Tuned

        chosen = self.data.subset(self.profile.tuning_images, None, None)
        images = {"fingerprint": self.data.fingerprint, "images": len(chosen.y_train)}
        asked = {"space": tuning.describe(space), "options": options, "seed": self.seed if seed is None else seed}
        question = records.plain({**asked, "data": images, "version": tuning.VERSION})
        known = self.shipped.get("studies", {}).get(table, {})
        older = {"version": question["version"]} if self.replays else {}  # is still what the full study has
        same = known.get("question", {}) | older == question
        if self.replays and not same:
            raise StudyError(
                f"results/{self.name}.json holds no study {table!r} like the one asked for ({question}, there "
                f"{known.get('question')}); `fashion-mnist run {self.name} --profile full` makes it."
            )
        begun = os.environ.get("FASHION_MNIST_FRESH")  # when a run began that is to begin anew
        if self.replays or (same and not begun):
            rows = self.shipped["tables"][table]
            tuned = Tuned.from_rows(space, rows, known["rungs"], known["factor"], known["seconds"])
            self.spared += tuned.seconds
            question = known["question"]  # of an older version, perhaps, which a redraw does not make today's
        else:
            train, validation = (chosen.x_train, chosen.y_train), (chosen.x_val, chosen.y_val)
            name = f"{space}-{table}-{re.sub('[^0-9]', '', begun)}" if begun else None
            began = time.monotonic()
            tuned = tuning.tune(space, train, validation, seed=question["seed"], name=name, resume=True, **options)
            self.spared += max(0.0, tuned.seconds - (time.monotonic() - began))
        about = {"question": question, "rungs": tuned.rungs, "factor": tuned.factor, "seconds": tuned.seconds}
        self.studies[table], self.trials[table] = about, tuned.rows()
        print(f"{space}: {len(tuned.trials)} configurations, {tuned.epochs} epochs in {clock(tuned.seconds)}")
        return tuned

    def keep(self, name: str, make: Callable[[], Any], of: Iterable[Any] = ()) -> dict[str, np.ndarray]:
        """Measure or compute something once; later runs read it from ``results/arrays/NOTEBOOK.npz``, which
        `save_result` writes.

        Parameters
        ----------
        name : str
            Of what is kept.
        make : callable
            Gives a DataFrame or a mapping of names to arrays; images belong into it by their indices only.
        of : iterable
            What the outcome depends on beside data and seed: networks, budgets. If it changes, all is made anew.

        Returns
        -------
        dict of str to ndarray

        Raises
        ------
        StudyError
            At ``quick`` on the official data, if the full study did not leave it.
        """
        parts = [
            {key: part.card.get(key) for key in records.IDENTITY} if isinstance(part, Network) else part for part in of
        ]
        question = json.dumps(records.plain([self.data.fingerprint, len(self.data.y_test), self.seed, parts]))
        key, prefix = records.digest(question.encode()), f"{name}/"
        measured = self.root / "build" / "measured" / self.profile.name / f"{self.name}.npz"
        others = records.read_arrays(measured) if measured.is_file() else {}
        known = (arrays for arrays in (self._shipped_arrays, others) if str(arrays.get(f"{prefix}.question")) == key)
        found = {column: values for column, values in next(known, {}).items() if column.startswith(prefix)}
        if not found or os.environ.get("FASHION_MNIST_FRESH"):
            if self.replays and self.out != self.root:
                raise StudyError(
                    f"results/arrays/{self.name}.npz has no {name!r} for these networks and budgets; "
                    f"`fashion-mnist run {self.name} --profile full` makes it."
                )
            began, spared = time.monotonic(), self.spared
            made = make()
            took = time.monotonic() - began + self.spared - spared  # with the epochs of trainings that were resumed
            found = {f"{prefix}{column}": _column(made[column]) for column in made}
            found |= {f"{prefix}.seconds": np.array(took), f"{prefix}.question": np.array(key)}
            # At once, for a later cell may fail and the run then leaves nothing.
            kept = {column: values for column, values in others.items() if not column.startswith(prefix)}
            records.write_arrays(measured, kept | found)
            while self.finished:
                self.finished.pop().unlink(missing_ok=True)
        else:
            self.spared += float(found[f"{prefix}.seconds"])
        self.arrays |= found
        shown = (column for column in found if not column.startswith(f"{prefix}."))
        return {column.removeprefix(prefix): found[column] for column in shown}

    @functools.cached_property
    def _shipped_arrays(self) -> dict[str, np.ndarray]:
        """What was kept before this run, read before its first measurement takes the place of all."""
        path = self.source / "results" / "arrays" / f"{self.name}.npz"
        return records.read_arrays(path) if path.is_file() else {}

    # --- what a run shows and leaves ---------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show text in Markdown below a cell; the hyphen before a negative number becomes a minus sign."""
        from IPython.display import display

        display(_markdown(text))

    def save_figure(self, fig: Figure, name: str) -> None:
        """Write a figure to ``images/NAME.png``, 160 dots an inch, without a date; it stays open for the notebook.

        Raises
        ------
        ValueError
            If `name` is not made of lower case letters, digits, ``-`` and ``_``.
        """
        from fashion_mnist.figures import style

        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError(f"{name!r} is no name for a figure: use lower case letters, digits, - and _ only.")
        if self.banner and not any(text.get_text() == self.banner for text in fig.texts):
            style.stamp(fig, self.banner)
        with files.replacing(self.stage / "images" / f"{name}.png") as temporary:
            fig.savefig(temporary, dpi=160, bbox_inches="tight", metadata={"Software": None})

    def save_result(
        self,
        headline: Mapping[str, float],
        tables: Mapping[str, Any] | None = None,
        *,
        summary: str = "",
        finding: str = "",
        readme: str | Mapping[str, str] = "",
    ) -> None:
        """Write the notebook's record, ``results/NAME.json``, and beside it the `arrays` that figures need.

        Its ``seconds`` are what everything takes from nothing: what was only read counts with the time that it took.

        Parameters
        ----------
        headline : mapping of str to number
            Flat; units in the name, for instance ``tsne_seconds``.
        tables : mapping of str to table, optional
            A table is a DataFrame or anything JSON holds; an index that is not just 0, 1, 2, … becomes a column. The
            trials of `tune` are added.
        summary : str
            What was found, a sentence or two in Markdown; the notebook's first lines, the report and the tour show it.
        finding : str
            The one question of the notebook that a stranger would ask, and its answer, each a sentence in Markdown: the
            tour and README begin with those of all notebooks.
        readme : str or mapping of str to str
            Markdown that README shows between its markers, one fragment or several by name.

        Raises
        ------
        ValueError
            If a headline value is not a finite number; the message names it.
        """
        # Without what `keep` puts aside: it stands in `arrays` too, and its file is another one after each measurement.
        read = records.files_read(self.root).items()
        reads = {path: digest for path, digest in read if not path.startswith("build/measured/")}
        record = {
            "name": self.name,
            "profile": self.profile.name if self.out == self.root or not self.replays else "quick",
            "seed": self.seed,
            "data": {"source": self.data.source, "kind": self.data.kind, "fingerprint": self.data.fingerprint},
            "created": now(),
            "seconds": round(time.monotonic() - self.started + self.spared, 1),
            "machine": records.machine(),
            "versions": records.versions(),
            "git": records.git_commit(self.root),
            "run": os.environ.get("FASHION_MNIST_RUN"),
            "modules": sorted(name for name in sys.modules if name.startswith("fashion_mnist.")),
            "reads": reads,
            "headline": {key: records.headline_number(key, value) for key, value in headline.items()},
            "tables": records.plain({**(tables or {}), **self.trials}),
            "studies": records.plain(self.studies),
            "summary": summary,
            "finding": finding,
            "readme": records.plain(readme),
        }
        if self.replays:  # the numbers are of that machine and those versions
            measured = ["machine", "versions"]
            if self.out != self.root:  # nothing is new but that it is shown here
                measured += ["created", "seconds", "git"]
            record |= {key: self.shipped[key] for key in measured if key in self.shipped}
        if self.arrays:
            records.write_arrays(self.stage / "results" / "arrays" / f"{self.name}.npz", self.arrays)
        files.write_json(self.stage / "results" / f"{self.name}.json", record)
        if self.opening:
            self.opening.update(_markdown(f"> {summary}"))


def start(
    name: str, profile: str = "quick", seed: int = 0, place: str | Path | None = None, root: Path | None = None
) -> Study:
    """Begin a notebook: load the data, set the style of figures, print what is used and where results go.

    Parameters
    ----------
    name : str
        Name of the notebook without extension.
    profile : {"smoke", "quick", "full"}
    seed : int
        Seed of everything random in the notebook; the data split does not depend on it.
    place : path, optional
        The data set; searched as `data.load` describes if not given.
    root : Path, optional
        Folder to write below; the checkout if not given.

    Raises
    ------
    ValueError
        If there is no such profile; the message lists those there are.
    data.DataError
        If the data cannot be had.
    """
    budget = profiles.named(profile)
    root = Path(root or data.root()).resolve()
    dataset, notes = data.load_with_notes(place)
    official = dataset.kind == "official"
    out = root if profile == "full" and official and seed == 0 else root / "build" / profile
    shown = profile == "quick" and seed == 0 and (root / "results" / f"{name}.json").is_file()
    drawn_again = profile == "full" and bool(os.environ.get("FASHION_MNIST_REDRAW"))
    replays = official and (shown or drawn_again)
    if replays:
        budget = profiles.named("full")
    dataset = dataset.subset(budget.train_images, budget.validation_images, budget.test_images)

    from fashion_mnist.figures import style

    style.use()
    print(dataset.describe(), *notes, sep="\n")
    what = "What the full study left is shown and checked. " if replays else ""
    folder = "images/, models/ and results/" if out == root else f"{out.relative_to(root).as_posix()}/"
    print(f"Profile {profile}, seed {seed}. {what}Figures, networks and results go to {folder}")
    banner = data.SAMPLE_NOTE if dataset.kind == "sample" else None
    study = Study(name, budget, seed, dataset, root, out, replays, banner)
    in_notebook = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    if in_notebook and name[0].isdigit():  # `main` and benchmarks ask no question of their own
        from IPython.display import display

        known = study.shipped.get("summary") if replays else None
        study.opening = display(_markdown(f"> {known or 'The answer stands here once all has run.'}"), display_id=True)
    return study


def _markdown(text: str) -> Markdown:
    """Text to be shown, with a minus sign before negative numbers."""
    from IPython.display import Markdown

    return Markdown(re.sub(r"(?<![\w-])-(?=\d)", "−", text))


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: "A", "A and B", "A, B and C"; "none" if there are none."""
    *others, last = [*names] or ["none"]
    return f"{', '.join(others)} and {last}" if others else last


def _column(values: Any) -> np.ndarray:
    """An array that NumPy reads without pickle, also of strings."""
    column = np.asarray(values)
    return column.astype(str) if column.dtype == object else column

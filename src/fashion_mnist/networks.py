"""What a trained network leaves, and how it is read again: card, weights and predictions, which belong together.

``models/NAME.json`` is the card, ``models/NAME.safetensors`` the weights of networks that somebody would use or
explain, ``results/predictions/NAME.npz`` the answers to validation and test images, given with the rounded weights.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_mnist import data, files, records

if TYPE_CHECKING:
    import keras

    from fashion_mnist.training import Fit


class StudyError(ValueError):
    """Something kept does not belong to what is asked; the message names both and says what to do."""


@dataclass(frozen=True)
class Network:
    """A trained network: its card, its predictions, and the network itself where its weights are kept.

    Attributes
    ----------
    name : str
    card : dict
        What was trained (`records.IDENTITY`), ``kind``, how that went (``history``, ``epochs``, ``seconds``, …), its
        ``scores`` by split and the ``temperature`` that calibrates it.
    folder : Path
        That holds ``models/`` and ``results/predictions/``.
    """

    name: str
    card: dict[str, Any]
    folder: Path

    @functools.cached_property
    def model(self) -> keras.Model:
        """The network, built and loaded at the first use; FileNotFoundError if its weights are not kept."""
        from fashion_mnist import models

        return models.load(self.folder / "models" / f"{self.name}.json")

    @property
    def has_weights(self) -> bool:
        """Whether `model` can be had."""
        return (self.folder / "models" / f"{self.name}.safetensors").is_file()

    @property
    def has_predictions(self) -> bool:
        """Whether `predictions` can be had; a copy of a notebook has no room for all."""
        return (self.folder / "results" / "predictions" / f"{self.name}.npz").is_file()

    @functools.cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """Class probabilities ``(n, 10)`` of "validation" and "test" images; rows sum to one."""
        return records.read_predictions(self.folder / "results" / "predictions" / f"{self.name}.npz")

    @property
    def validation_accuracy(self) -> float:
        """Of the kept weights, on the validation images; where others were held out from its training, on those."""
        return self.card["scores"]["validation"]["accuracy"]

    def check(self, images: np.ndarray) -> str:
        """Have the network answer the first test images again, and say in a sentence that it agrees.

        Parameters
        ----------
        images : ndarray, shape (n, 28, 28, 1), dtype uint8

        Raises
        ------
        StudyError
            If fewer than 99.9 % of the images get the class of the predictions, or a probability is off by more than
            0.01.
        """
        if not self.has_weights:
            return f"{self.name}: card and predictions of the full study"
        from fashion_mnist import training

        again, before = training.predict(self.model, images), self.predictions["test"][: len(images)]
        same, apart = (again.argmax(axis=1) == before.argmax(axis=1)).mean(), np.abs(again - before).max()
        if same < 0.999 or apart > 0.01:
            raise StudyError(
                f"{self.name} does not answer as it did in the full study: {same:.2%} of {len(images):,} images get "
                f"the same class, probabilities differ by up to {apart:.3f}. Its card, weights or predictions are not "
                "those that belong together; restore them with git."
            )
        return f"{self.name}: of the full study; answers {len(images):,} test images as it did then"


def every(folder: Path, fingerprint: str, names: str = "[!.]*") -> dict[str, Network]:
    """The networks below a folder that were trained on the data of that fingerprint, by name.

    Only those are read whose names match a pattern such as "mlp_seed*".

    Raises
    ------
    records.RecordError
        If a card is damaged, or does not say which data it is of.
    """
    found = {}
    for path in sorted((folder / "models").glob(f"{names}.json")):
        card = records.read_json(path)
        try:
            ours = card["data"]["fingerprint"] == fingerprint
        except (LookupError, TypeError):
            raise records.RecordError(f"{path} is no card of a network; restore it, with git, or delete it.") from None
        if ours:
            found[path.stem] = Network(path.stem, card, folder)
    return found


def best(several: Iterable[Network]) -> Network | None:
    """The best on the validation images; those that held out others of their own do not compete. None if all do."""
    comparable = [each for each in several if "held_out" not in each.card["data"]]
    return max(comparable, key=lambda each: each.validation_accuracy, default=None)


def ensemble(members: Sequence[Network], images: np.ndarray) -> np.ndarray:
    """What networks say together: the mean of their probabilities, each asked about an image and its mirror image.

    They compute in the machine's fastest precision, for these are many images to be taught (`study.Study.train`).

    Parameters
    ----------
    members : sequence of Network
        One or more whose weights are kept.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8

    Returns
    -------
    ndarray, shape (n, 10), float32 in [0, 1]
        Rows sum to one.
    """
    from fashion_mnist import training

    said = []
    for member in members:
        with training.accelerated(member.model):
            said.append(training.predict(member.model, images, mirror=True))
    return np.mean(said, axis=0)


def kept_ensemble(teachers: Sequence[Network], images: np.ndarray, checkpoint: Path) -> Path:
    """The file beside a training's checkpoint with what its teachers say of its images (`ensemble`), made if need be.

    Said again, by another number of threads, the last digits would differ, and the checkpoint not fit.
    """
    about = [{key: teacher.card[key] for key in (*records.IDENTITY, "created")} for teacher in teachers]
    asked = records.digest(json.dumps(about).encode() + images.tobytes())
    path = checkpoint.with_name(f"{checkpoint.stem}-taught-{asked}.npy")
    if not path.is_file():
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, ensemble(teachers, images))
    return path


def leave(
    folder: Path,
    name: str,
    model: keras.Model,
    about: Mapping[str, Any],
    done: Fit,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    weights: bool = True,
) -> Network:
    """Write weights, predictions and card of a network that has just been trained; its weights become the rounded ones.

    Parameters
    ----------
    folder : Path
    name : str
    model : keras.Model
    about : mapping
        Identity, kind and profile, for the card.
    done : training.Fit
    splits : mapping of str to (images, labels)
        "train", "validation" and "test".
    weights : bool
        Whether the weights are kept.

    Returns
    -------
    Network
        With `model` at hand, whether its weights are kept or not.
    """
    from fashion_mnist import evaluation, models, training

    path = folder / "models" / f"{name}.json"
    path.unlink(missing_ok=True)  # never an old card beside new weights
    models.save(model, path.with_suffix(".safetensors"))
    if not weights:
        path.with_suffix(".safetensors").unlink()
    answers = {split: training.predict(model, images) for split, (images, _) in splits.items()}
    predictions = {split: answers[split] for split in ("validation", "test")}
    records.write_predictions(folder / "results" / "predictions" / f"{name}.npz", predictions)
    card = {
        "name": name,
        **records.plain(about),
        "parameters": model.count_params(),
        "epochs": len(done.history["loss"]),
        "kept_epoch": done.kept_epoch,
        "seconds": round(done.seconds, 1),
        "seconds_per_epoch": round(done.seconds_per_epoch, 2),
        "precision": done.precision,
        "scores": {split: evaluation.evaluate(labels, answers[split]) for split, (_, labels) in splits.items()},
        "temperature": evaluation.fit_temperature(splits["validation"][1], answers["validation"]),
        "history": records.plain(done.history),
        "created": now(),
        "machine": records.machine(),
        "versions": records.versions(),
        "git": records.git_commit(data.root()),
    }
    files.write_json(path, card)
    network = Network(name, records.read_json(path), folder)
    vars(network)["model"] = model
    return network


def trained_anew(card: Mapping[str, Any], epochs: int, train: data.Split, validation: data.Split) -> Fit:
    """Train a network of the same kind as a card's, from the same seed and by the same recipe, but for so long."""
    from fashion_mnist import models, training
    from fashion_mnist._backend import keras

    keras.utils.set_random_seed(card["seed"])
    model = models.build(card["architecture"], **card["arguments"])
    recipe = training.Recipe.of(card["recipe"]).replace(epochs=epochs)
    return training.fit(model, train, validation, recipe, seed=card["seed"], progress=False)


def spelled_out(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the arguments and settings that came after it at their defaults, so that these change no identity."""
    from fashion_mnist import models, training

    try:
        arguments = models.spelled_out(card["architecture"], card["arguments"])
        recipe = asdict(training.Recipe.of(card["recipe"]))
        return records.plain({**card, "arguments": arguments, "recipe": recipe})
    except (LookupError, TypeError, ValueError):  # of another time altogether, which the comparison will say
        return dict(card)


def set_aside(folder: Path, name: str, target: Path) -> None:
    """Move a network with all that belongs to it from one folder to another."""
    for inner, suffix in (("models", "json"), ("models", "safetensors"), ("results/predictions", "npz")):
        path = folder / inner / f"{name}.{suffix}"
        if path.is_file():
            (target / inner).mkdir(parents=True, exist_ok=True)
            path.replace(target / inner / path.name)


def clock(seconds: float) -> str:
    """A duration for people: "4.2 s", "12 min 05 s", "3 h 47 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 120:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if round(seconds, 1) >= 60 else f"{seconds:.1f} s"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

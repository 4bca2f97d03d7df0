"""A network that answers anybody's picture, and says so where it is not sure; ``fashion-mnist predict``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special
from scipy.spatial.distance import cdist

from fashion_mnist import data, explain, explore, networks, photos, records

if TYPE_CHECKING:
    import keras

    from fashion_mnist.networks import Network

SHOWN = 3  # classes in an answer
EXPLAINED = {"cnn": "CNN", "mini_resnet": "Mini ResNet", "deep_cnn": "Deep CNN"}  # as notebook 08 calls them
UNMEASURED = "it takes everything for a garment; benchmarks/not_sure.py has not measured it."


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network says to one picture.

    Attributes
    ----------
    image : ndarray, shape (28, 28, 1), dtype uint8
        What it was shown.
    probabilities : ndarray, shape (10,), float
        Calibrated on validation images; they sum to one.
    garment : bool
        Whether the picture looks like a garment to it at all.
    """

    image: np.ndarray
    probabilities: np.ndarray
    garment: bool

    @property
    def classes(self) -> list[int]:
        """The likeliest classes, the likeliest first."""
        return np.argsort(-self.probabilities, kind="stable")[:SHOWN].tolist()

    @property
    def shares(self) -> dict[str, float]:
        """Their names and probabilities."""
        return {data.CLASS_NAMES[each]: float(self.probabilities[each]) for each in self.classes}

    def __str__(self) -> str:
        """The answer in a sentence."""
        (name, share), *_ = self.shares.items()
        if not self.garment:  # without a number: probabilities are calibrated for garments only
            return f"Not sure. This looks like none of the ten garments; {name} comes closest."
        return f"{name}, {share:.0%} sure." if share < 0.995 else f"{name}, more than 99% sure."


class Expert:
    """A network ready to answer, and to say that it is not sure.

    Parameters
    ----------
    network : Network
        With weights. What is no garment can be told only for networks that ``benchmarks/not_sure.py`` has measured.

    Raises
    ------
    OSError, records.RecordError
        If its weights are not kept, or damaged.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.model, self.measured = network, network.model, _measured(network)
        self.layer = _last_with_positions(self.model)
        self.method = "HiResCAM" if self.layer else "Saliency"
        self.caveat = _caveat(network, self.method)
        self.explain(self.answer(np.zeros((28, 28, 1), np.uint8)), 0)  # compiles both, so that nobody waits for it

    def answer(self, image: np.ndarray) -> Answer:
        """What the network says to an image ``(28, 28, 1)``, uint8."""
        logits = explain.feature_maps(self.model, image[None], self.model.layers[-1].name)
        temperature, garment = self.network.card["temperature"], True
        if self.measured:
            score, threshold, home = self.measured
            strange = strangeness(logits, temperature, features(self.model, image[None]), home)
            garment = bool(strange[score][0] <= threshold)
        return Answer(image, special.softmax(logits[0] / temperature), garment)

    def explain(self, answer: Answer, label: int) -> tuple[np.ndarray, int]:
        """Where the image speaks for a class rather than for the likeliest other one.

        Returns
        -------
        ndarray, shape (h, w), float32 in [0, 1]
            HiResCAM at the last layer that has positions; saliency for a network without convolutions. All zero where
            nothing speaks for the class.
        int
            The other class.
        """
        rival = next(each for each in answer.classes if each != label)
        method = explain.METHODS[self.method]
        return method(self.model, answer.image[None], self.layer, label, against=rival)[0], rival


def features(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What the network makes of images before it decides: its last layer with positions, averaged over them.

    Parameters
    ----------
    model : keras.Model
    images : ndarray, shape (n, 28, 28, 1), dtype uint8

    Returns
    -------
    ndarray, shape (n, d), float32
        Of a network without convolutions, its last hidden layer.
    """
    layer = _last_with_positions(model)
    found = explain.feature_maps(model, images, layer or model.layers[-2].name)
    return found.mean(axis=(1, 2)) if layer else found


def strangeness(
    logits: np.ndarray, temperature: float, found: np.ndarray, home: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """How strange images are to a network, by the scores that ``benchmarks/not_sure.py`` compares.

    Parameters
    ----------
    logits : ndarray, shape (n, 10)
    temperature : float
        That calibrates the probabilities.
    found : ndarray, shape (n, d)
        Their `features`.
    home : mapping
        Features of garments: ``centres`` ``(10, d)``, the means of the classes; for the Mahalanobis distance also
        ``whitening`` ``(d, d)``, which makes the covariance within classes the identity.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        Highest probability and highest logit, each negated; energy (Liu et al., 2020); distance to the nearest centre,
        Euclidean and after Mahalanobis (Lee et al., 2018). Higher is stranger.
    """
    scores = {
        "probability": -special.softmax(logits / temperature, axis=1).max(axis=1),
        "logit": -logits.max(axis=1),
        "energy": -special.logsumexp(logits, axis=1),
        "distance": cdist(found, home["centres"]).min(axis=1),
    }
    if "whitening" in home:
        whitening = home["whitening"].astype(np.float64)
        scores["Mahalanobis distance"] = cdist(found @ whitening, home["centres"] @ whitening).min(axis=1)
    return scores


def find(name: str | None = None) -> Network:
    """A network by its name or the path of its card; the best one on validation images if not given.

    Raises
    ------
    OSError, ValueError
        If there is no such network, or none with weights.
    """
    if name is not None:
        from fashion_mnist.headless.measure import Subject

        network = Subject.find(name).network
        if network is None:
            raise ValueError(f"{name} is no network of the study; give a name from models/ or the path of a card.")
        return network
    every = networks.every(data.root(), data.OFFICIAL_FINGERPRINT).values()
    usable = [network for network in every if network.has_weights]
    if (best := networks.best(usable)) is None:
        raise FileNotFoundError(f"There are no weights in {data.root() / 'models'}; they come with the repository.")
    return best


def predict(paths: list[Path], model: str | None = None, as_json: bool = False) -> int:
    """Print what a network says to pictures; one that is refused is named on standard error.

    Returns
    -------
    int
        0, or 1 if a picture was refused.

    Raises
    ------
    OSError, ValueError
        As `find`.
    """
    from tqdm import tqdm

    expert, told = Expert(find(model)), []
    if not expert.measured:
        print(f"{expert.network.name}: {UNMEASURED}", file=sys.stderr)
    for path in tqdm(paths, unit="picture", disable=None if as_json else True):
        try:
            answer = expert.answer(photos.prepare(photos.open_picture(path)))
        except (photos.PhotoError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            told.append({"file": str(path), "refused": reason})
            print(f"{path}: {reason}", file=sys.stderr)
            continue
        told.append({"file": str(path), "garment": answer.garment, "says": str(answer), "classes": answer.shares})
        if not as_json:
            rows = [f"  {name:<12}{share:7.1%}" for name, share in answer.shares.items() if answer.garment]
            print(f"{path}: {answer}", *rows, sep="\n")
    if as_json:
        print(json.dumps({"network": expert.network.name, "pictures": told}, indent=2))
    return int(any("refused" in each for each in told))


def _measured(network: Network) -> tuple[str, float, dict[str, np.ndarray]] | None:
    """The score, the threshold above which nothing is a garment, and its arrays; None if they were not measured."""
    path = network.folder / "results" / "bench_not_sure.json"
    rows = records.read_json(path)["tables"]["networks"] if path.is_file() else []
    for row in rows:
        if (row["network"], row["trained"]) == (network.name, network.card["created"]):  # not an older training
            arrays = records.read_arrays(path.parent / "arrays" / f"{path.stem}.npz").items()
            home = {name.partition("/")[2]: array for name, array in arrays if name.startswith(f"{network.name}/")}
            return row["score"], row["threshold"], home
    return None


def _caveat(network: Network, method: str) -> str:
    """What notebook 08 found of a method's maps on a network of this architecture, in a sentence."""
    path = network.folder / "results" / "08_grad_cam.json"
    rows = records.read_json(path)["tables"]["standing"] if path.is_file() else []
    said = {row["index"]: row.get(EXPLAINED.get(network.card["architecture"])) for row in rows}.get(method) or ""
    verdicts = {
        "✓": f"{method} passed the checks of notebook 08 on such a network.",
        "✗": f"On such a network {method} failed the checks of notebook 08: a hint at most.",
    }
    return verdicts.get(said[:1], "Notebook 08 tests what such maps are worth.")


def _last_with_positions(model: keras.Model) -> str | None:
    """The last convolution, or the ReLU layer behind it; None for a network without convolutions."""
    return next(reversed(explore.layers_to_explain(model)), None)

"""The report's map of the data: test images where t-SNE put them, on a page that shows the one under the pointer.

The page holds images. So it is made from the reader's own data, and below ``build/`` only.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import data, networks, records
from fashion_mnist.figures import maps, style

NOTEBOOK = "01_eda"  # makes the coordinates
LIMIT = 10_000  # images, so that the page stays below 6 MB
COLUMNS = 100  # of the picture that holds all images


@dataclass(frozen=True)
class Points:
    """Test images on the map, in the order of the test set.

    Attributes
    ----------
    numbers : ndarray of int, shape (n,)
        Which test images.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    labels : ndarray of int, shape (n,)
    places : ndarray, shape (n, 2), float in [0, 1]
        From the left and from the top.
    network : str
        Kind of the network whose answers are shown; empty if there is none.
    probabilities : ndarray, shape (n, 10)
        Its answers; without a network, as if every label were given for certain.
    """

    numbers: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    places: np.ndarray
    network: str
    probabilities: np.ndarray


def points(place: Path, root: Path, fingerprint: str) -> Points | None:
    """What the map shows, or None where the coordinates were not kept or the data that they are of is not at hand.

    Parameters
    ----------
    place : Path
        Folder below which the notebook left ``results/arrays``.
    root : Path
        The checkout, whose networks answer where `place` has none of this data.
    fingerprint : str
        Of the data that the notebook saw.
    """
    try:
        arrays = records.read_arrays(place / "results" / "arrays" / f"{NOTEBOOK}.npz")
        index, sizes, layout = (arrays[name] for name in ("mapped/image", "mapped/splits", "tsne/points"))
        dataset = data.load(download=False)
    except (FileNotFoundError, KeyError, data.DataError):
        return None
    if dataset.fingerprint != fingerprint:
        return None
    dataset = dataset.subset(*map(int, sizes))
    before = len(dataset.y_train) + len(dataset.y_val)
    chosen = np.flatnonzero(index >= before)
    chosen = chosen[np.argsort(index[chosen])][:LIMIT]
    numbers, layout = index[chosen] - before, layout[chosen].astype(float) * (1, -1)
    labels = dataset.y_test[numbers]
    low, high = layout.min(axis=0), layout.max(axis=0)
    places = 0.5 + 0.96 * (layout - (low + high) / 2) / (high - low).max()
    found = networks.every(place, fingerprint) or networks.every(root, fingerprint)
    able = [each for each in found.values() if each.has_predictions]
    best = max(able, key=lambda each: each.validation_accuracy, default=None)
    network, answers = "", np.eye(10)[labels]
    if best and len(best.predictions["test"]) == len(dataset.y_test):
        network, answers = best.card["kind"], best.predictions["test"][numbers]
    return Points(numbers, dataset.x_test[numbers], labels, places, network, answers)


def contents(shown: Points) -> dict[str, Any]:
    """What the page's script reads, as plain numbers and text: one entry a point, one a class, and the layout."""
    present = np.unique(shown.labels)
    where = maps.strongholds(shown.places, shown.labels, present)
    return {
        "columns": COLUMNS,
        "names": data.CLASS_NAMES,
        "colours": style.CLASS_COLOURS,
        "headings": {int(label): np.round(at, 4).tolist() for label, at in zip(present, where, strict=True)},
        "number": shown.numbers.tolist(),
        "x": np.round(shown.places[:, 0], 4).tolist(),
        "y": np.round(shown.places[:, 1], 4).tolist(),
        "label": shown.labels.tolist(),
        "named": shown.probabilities.argmax(axis=1).tolist(),
        "sure": np.rint(100 * shown.probabilities.max(axis=1)).astype(int).tolist(),
    }


def sprite(images: np.ndarray) -> str:
    """All images side by side, `COLUMNS` a row and dark on white, as a PNG in base64."""
    from PIL import Image

    rows = -(-len(images) // COLUMNS)
    tiles = np.zeros((rows * COLUMNS, 28, 28), np.uint8)
    tiles[: len(images)] = images[..., 0] & 252  # 64 levels of grey take half the bytes of 256, and nobody sees it
    sheet = 255 - tiles.reshape(rows, COLUMNS, 28, 28).swapaxes(1, 2).reshape(28 * rows, 28 * COLUMNS)
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")

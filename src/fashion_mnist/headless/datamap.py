"""The report's map of the data: test images where t-SNE put them, on a page that shows the one under the pointer.

The page holds images. So it is made from the reader's own data, and below ``build/`` only.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import data, networks, records
from fashion_mnist.figures import maps, style

NOTEBOOK = "01_eda"  # makes the coordinates
LIMIT = 10_000  # images, so that the page stays below 6 MB
COLUMNS = 100  # of the picture that holds all images


def content(place: Path, root: Path, fingerprint: str) -> dict[str, Any] | None:
    """What the page shows, or None where the coordinates were not kept or the data that they are of is not at hand.

    Parameters
    ----------
    place : Path
        Folder below which the notebook left ``results/arrays``.
    root : Path
        The checkout, whose networks answer where `place` has none of this data.
    fingerprint : str
        Of the data that the notebook saw.

    Returns
    -------
    dict
        ``dots`` for the page's script, plain numbers and text: one entry a test image, in the order of the test set,
        one a class, and the layout; places are shares of the map from the left and from the top. ``sprite``: their
        images. ``network``: kind of the network whose answers are shown; empty if there is none, and then every label
        is given for certain.
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
    best = networks.best(able)
    network, answers = "", np.eye(10)[labels]
    if best and len(best.predictions["test"]) == len(dataset.y_test):
        network, answers = best.card["kind"], best.predictions["test"][numbers]
    present = np.unique(labels)
    headings = zip(present, maps.strongholds(places, labels, present), strict=True)
    dots = {
        "columns": COLUMNS,
        "names": data.CLASS_NAMES,
        "colours": style.CLASS_COLOURS,
        "headings": {int(label): np.round(at, 4).tolist() for label, at in headings},
        "number": numbers.tolist(),
        "x": np.round(places[:, 0], 4).tolist(),
        "y": np.round(places[:, 1], 4).tolist(),
        "label": labels.tolist(),
        "named": answers.argmax(axis=1).tolist(),
        "sure": np.rint(100 * answers.max(axis=1)).astype(int).tolist(),
    }
    return {"dots": dots, "sprite": sprite(dataset.x_test[numbers]), "network": network}


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

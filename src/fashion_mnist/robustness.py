"""What disturbed images do to a classifier, and which labels it gives reason to doubt.

Like `evaluation`, it imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

from fashion_mnist import evaluation

# Of each corruption, the amounts of strengths 1 to 5: the first is barely seen, the last clearly harms a network that
# was not trained for it.
CORRUPTIONS: dict[str, tuple[float, ...]] = {
    "noise": (4, 8, 16, 32, 48),  # standard deviation of Gaussian noise, grey levels
    "blur": (0.4, 0.6, 0.8, 1.1, 1.5),  # standard deviation of the Gaussian kernel, pixels
    "contrast": (0.95, 0.9, 0.8, 0.65, 0.5),  # factor on every pixel's distance from the image's mean
    "shift": (0.5, 1, 2, 3.5, 5),  # pixels, in a random direction
    "rotation": (3, 6, 10, 15, 25),  # degrees, to either side
    "scale": (1.05, 1.1, 1.2, 1.35, 1.5),  # factor, enlarging or shrinking
    "erasing": (3, 5, 8, 11, 14),  # side of a black square, pixels
}
UNITS = {
    "noise": "grey levels",
    "blur": "pixels",
    "contrast": "times",
    "shift": "pixels",
    "rotation": "degrees",
    "scale": "times larger or smaller",
    "erasing": "pixels",
}


def corrupt(images: np.ndarray, corruption: str, strength: int, seed: int = 0) -> np.ndarray:
    """Disturb images, in the manner of ImageNet-C (Hendrycks & Dietterich, 2019).

    Parameters
    ----------
    images : ndarray, shape (n, h, w, 1), dtype uint8
    corruption : str
        A key of `CORRUPTIONS`, which holds the amounts.
    strength : int
        1 (barely seen) to 5 (clearly harms).
    seed : int
        Of noise, directions and places. An image gets the same ones at every strength, and in every longer array that
        starts with the same images.

    Returns
    -------
    ndarray, shape (n, h, w, 1), dtype uint8
        What enters the frame is black, like Fashion-MNIST's background.

    Raises
    ------
    ValueError
        If the images are of another kind, or there is no such corruption or strength.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 1 or images.dtype != np.uint8:
        raise ValueError(f"The images are {images.dtype} {images.shape}; give uint8 (n, 28, 28, 1) in 0..255.")
    if corruption not in CORRUPTIONS:
        raise ValueError(f"There is no corruption {corruption!r}; choose one of {', '.join(CORRUPTIONS)}.")
    if strength not in range(1, 6):
        raise ValueError(f"strength={strength!r}; choose 1, 2, 3, 4 or 5.")
    amount = CORRUPTIONS[corruption][strength - 1]
    rng = np.random.default_rng((seed, list(CORRUPTIONS).index(corruption)))
    pixels = images[..., 0].astype(np.float32)
    count = len(pixels)
    if corruption == "noise":
        pixels += amount * rng.standard_normal(pixels.shape, dtype=np.float32)
    elif corruption == "blur":
        pixels = ndimage.gaussian_filter(pixels, (0, amount, amount), mode="constant")
    elif corruption == "contrast":
        mean = pixels.mean(axis=(1, 2), keepdims=True)
        pixels = mean + amount * (pixels - mean)
    elif corruption == "shift":
        angle = rng.uniform(0, 2 * np.pi, count)
        pixels = _transformed(pixels, np.eye(2), amount * np.stack([np.sin(angle), np.cos(angle)], axis=1))
    elif corruption == "rotation":
        angle = np.radians(amount) * rng.choice((-1, 1), count)
        pixels = _transformed(
            pixels, np.moveaxis([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], -1, 0)
        )
    elif corruption == "scale":
        pixels = _transformed(pixels, np.eye(2) * float(amount) ** rng.choice((-1, 1), (count, 1, 1)))
    else:
        size = np.array(pixels.shape[1:])  # a square keeps its centre: a larger one holds the smaller one
        corners = np.rint(np.clip(rng.uniform(0, 1, (count, 2)) * size - amount / 2, 0, size - amount)).astype(int)
        for image, (top, left) in zip(pixels, corners, strict=True):
            image[top : top + amount, left : left + amount] = 0
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[..., None]


def robustness(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """Accuracy of a classifier on disturbed images.

    `predict` gives probabilities ``(n, k)`` of uint8 images ``(n, 28, 28, 1)``.

    Returns
    -------
    table : DataFrame
        One row per corruption of `CORRUPTIONS` and strength: ``corruption``, ``strength``, ``accuracy`` in [0, 1].
    right : ndarray, shape (5, n), float in [0, 1]
        Of each image, the share of the corruptions in which it is named correctly, a row a strength: networks can be
        compared image by image.

    Raises
    ------
    ValueError
        As `corrupt` and `evaluation.evaluate`.
    """
    rows, rights, conditions = [], [], list(product(CORRUPTIONS, range(1, 6)))
    for corruption, strength in tqdm(conditions, desc="robustness", disable=None, leave=False):
        disturbed = corrupt(images, corruption, strength)
        truth, probabilities = evaluation.checked(labels, predict(disturbed))
        rights.append(probabilities.argmax(axis=1) == truth)
        rows.append({"corruption": corruption, "strength": strength, "accuracy": rights[-1].mean()})
    return pd.DataFrame(rows), np.reshape(rights, (len(CORRUPTIONS), 5, -1)).mean(axis=0)


def suspect_labels(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Find labels that are probably wrong, by confident learning (Northcutt et al., 2021).

    A label is suspect where the image is confidently of another class: that class's probability is at least what it is
    on average for images labelled so. The list is for looking at; it says where a classifier disagrees with a label,
    not who is right.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, k)
        Out of sample: of models that were not trained on the image, as cross-validation gives them.

    Returns
    -------
    DataFrame
        One row per suspect, most doubtful first: ``index`` of the image, its ``label``, ``suggested`` (the predicted
        class), ``confidence`` (probability of the label) and ``margin``, the confidence less the probability of the
        likeliest other class, in [-1, 1].

    Raises
    ------
    ValueError
        As `evaluation.evaluate`; or if all labels are of one class.
    """
    # Slow to import and needed for this alone.
    from cleanlab.filter import find_label_issues

    labels, probabilities = evaluation.checked(labels, probabilities)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"All labels are {labels[0]}; confident learning compares two classes or more.")
    suspect = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    is_label = np.eye(probabilities.shape[1], dtype=bool)[labels]
    confidence, other = probabilities[is_label], np.where(is_label, -1, probabilities).max(axis=1)
    found = pd.DataFrame({"index": np.arange(len(labels)), "label": labels, "suggested": probabilities.argmax(axis=1)})
    found = found.assign(confidence=confidence, margin=confidence - other)[suspect]
    return found.sort_values("margin", kind="stable", ignore_index=True)


def _transformed(pixels: np.ndarray, matrices: np.ndarray, moves: np.ndarray | float = 0.0) -> np.ndarray:
    """Each image under its 2 x 2 matrix about the centre, from output to input places, then moved (rows, columns)."""
    count = len(pixels)
    matrices, moves = np.broadcast_to(matrices, (count, 2, 2)), np.broadcast_to(moves, (count, 2))
    centre = (np.array(pixels.shape[1:]) - 1) / 2
    transformed = np.empty_like(pixels)
    for image, matrix, move, output in zip(pixels, matrices, moves, transformed, strict=True):
        ndimage.affine_transform(image, matrix, offset=centre - matrix @ (centre + move), order=1, output=output)
    return transformed

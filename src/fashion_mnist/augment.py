"""Random changes to a batch of images, in NumPy: which they are follows from a generator alone.

All geometric changes of an image are one affine transform and one interpolation; where flips and whole pixels suffice
there is no interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

from fashion_mnist import _backend  # isort: skip  # noqa: F401  first, so that TensorFlow starts silently
import keras
import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image; every amount is the largest in either direction, drawn uniformly.

    Attributes
    ----------
    flip : bool
        Mirror left and right with probability one half.
    rotation : float
        Degrees.
    shift : float
        Pixels in each direction; whole numbers of pixels unless another amount asks for interpolation anyway.
    shear : float
        Degrees.
    zoom : float
        Fraction of the size.
    erasing : float
        Probability of replacing a rectangle by noise (Zhong et al., 2020).
    erased : float
        Largest share of the image that erasing takes; the smallest is 2 %.
    """

    flip: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    erasing: float = 0.0
    erased: float = 0.2

    def __post_init__(self) -> None:
        for name, largest in (("rotation", 180), ("shift", 27), ("shear", 60), ("zoom", 0.9), ("erasing", 1)):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"Augmentation {name}={getattr(self, name)!r} is not in 0..{largest}.")
        if not 0.02 <= self.erased <= 0.9:
            raise ValueError(f"Augmentation erased={self.erased!r} is not in 0.02..0.9.")


def augment(images: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change each image at random.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    augmentation : Augmentation
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, 28, 28, 1), dtype uint8
        What leaves the frame is lost, what enters it is black like Fashion-MNIST's background. `images` itself where
        there is nothing to change.
    """
    a, count = augmentation, len(images)
    if a.rotation or a.shear or a.zoom:
        images = _affine(images, _transforms(a, rng, count, *images.shape[1:3]))
    else:
        if a.flip:
            mirrored = rng.random(count) < 0.5
            images = images.copy()
            images[mirrored] = images[mirrored, :, ::-1]
        if a.shift:
            images = _shifted(images, rng.integers(-int(a.shift), int(a.shift), (count, 2), endpoint=True))
    return _erased(images, a.erasing, a.erased, rng) if a.erasing else images


def _transforms(a: Augmentation, rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """From output to input pixel coordinates about the image's centre, as Keras takes it, float32 (n, 8): two rows
    of a matrix and the beginning of the third."""

    def uniform(largest: float) -> np.ndarray:
        return rng.uniform(-largest, largest, count)

    angle, shear, zoom = np.radians(uniform(a.rotation)), np.tan(np.radians(uniform(a.shear))), 1 + uniform(a.zoom)
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if a.flip else np.ones(count)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.stack([cos * mirror, -sin + cos * shear, sin * mirror, cos + sin * shear], axis=1).reshape(count, 2, 2)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    moved = centre - linear @ centre + np.stack([uniform(a.shift), uniform(a.shift)], axis=1)
    rows = np.concatenate([linear, moved[:, :, None]], axis=2).reshape(count, 6)
    return np.pad(rows, ((0, 0), (0, 2))).astype(np.float32)


def _affine(images: np.ndarray, flat: np.ndarray) -> np.ndarray:
    moved = keras.ops.image.affine_transform(
        images.astype(np.float32), flat, interpolation="bilinear", fill_mode="constant", data_format="channels_last"
    )
    return np.rint(keras.ops.convert_to_numpy(moved)).astype(np.uint8)


def _shifted(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Each image moved by whole pixels (rows, columns): its window out of a frame of black."""
    count, height, width, channels = images.shape
    reach = int(np.abs(offsets).max())
    framed = np.zeros((count, height + 2 * reach, width + 2 * reach, channels), images.dtype)  # np.pad takes longer
    framed[:, reach : reach + height, reach : reach + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(framed, (height, width), axis=(1, 2))  # (n, 2r+1, 2r+1, 1, h, w)
    return windows[np.arange(count), reach - offsets[:, 0], reach - offsets[:, 1]].transpose(0, 2, 3, 1)


def _erased(images: np.ndarray, probability: float, largest: float, rng: np.random.Generator) -> np.ndarray:
    count, height, width, _ = images.shape
    area, ratio = rng.uniform(0.02, largest, count) * height * width, np.exp(rng.uniform(-np.log(3), np.log(3), count))
    tall = np.minimum(np.rint(np.sqrt(area * ratio)), height).astype(int)
    wide = np.minimum(np.rint(np.sqrt(area / ratio)), width).astype(int)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    rows, columns = np.arange(height), np.arange(width)
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    chosen = rng.random(count) < probability
    mask = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None])[..., None]
    return np.where(mask, rng.integers(0, 256, images.shape, dtype=np.uint8), images)

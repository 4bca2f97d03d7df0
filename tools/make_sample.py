"""Generate the sample: 8,000 training and 2,000 test images that behave like Fashion-MNIST, none of them real.

    python tools/make_sample.py --data Data --to data.zip

For each class, the training and validation images are reduced by PCA to 100 components, a mixture of 20 Gaussians is
fitted to them, and new images are drawn from it. The zip comes out bit for bit the same: everything is seeded, the
covariances are sums of whole numbers and so exact, one thread does the work, and what is fitted is rounded before it is
used, which hides the last-digit differences between processors. Takes half a minute.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from fashion_mnist import data, formats

TRAIN, TEST = 8_000, 2_000
COMPONENTS, GAUSSIANS, STEPS, FAINTEST = 100, 20, 8, 16


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="the official data; searched as usual if not given")
    parser.add_argument("--to", type=Path, metavar="FILE", help="zip to write; the checkout's data.zip if not given")
    chosen = parser.parse_args(arguments)
    try:
        print(write_sample(data.load(chosen.data), chosen.to or data.root() / "data.zip"))
    except data.DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def write_sample(source: data.Dataset, target: Path) -> Path:
    """Write the sample as a zip; `data.DataError` if `source` is not the whole official data set."""
    if source.kind != "official" or len(source.y_train) + len(source.y_val) != 60_000:
        raise data.DataError(f"the sample is made from the whole official data set, not from {source.describe()}")
    pixels = np.concatenate([source.x_train, source.x_val]).reshape(-1, 784)
    labels = np.concatenate([source.y_train, source.y_val])
    random = np.random.RandomState(0)
    each = (TRAIN + TEST) // 10
    with threadpool_limits(1):
        drawn = np.stack([draw_like(pixels[labels == label], each, random) for label in range(10)], axis=1)

    # Image by image the classes take turns; each split is then shuffled.
    drawn, classes = drawn.reshape(-1, 784), np.tile(np.arange(10, dtype=np.uint8), each)
    order = np.concatenate([random.permutation(TRAIN), TRAIN + random.permutation(TEST)])
    drawn, classes = drawn[order], classes[order]
    contents = {}
    for split, part in (("train", slice(None, TRAIN)), ("test", slice(TRAIN, None))):
        images_name, labels_name = formats.IDX_NAMES[split]
        contents[images_name] = idx(drawn[part].reshape(-1, 28, 28))
        contents[labels_name] = idx(classes[part])
    note = "generated images (PCA and Gaussian mixtures a class), not Fashion-MNIST"
    return data.write_zip(target, contents, {"kind": "sample", "note": note, "fitted_to": source.fingerprint})


def draw_like(pixels: np.ndarray, n: int, random: np.random.RandomState) -> np.ndarray:
    """`n` new images of one class, shape (n, 784), uint8, from a Gaussian mixture in PCA coordinates."""
    x = pixels.astype(np.float64)
    mean = x.mean(axis=0)
    covariance = (len(x) * (x.T @ x) - np.outer(x.sum(axis=0), x.sum(axis=0))) / len(x) ** 2
    axes = np.linalg.eigh(covariance)[1][:, : -COMPONENTS - 1 : -1]
    axes = np.round(axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(COMPONENTS)]), 6)

    # A fixed number of steps: a test of convergence could fall on either side of its limit.
    mixture = GaussianMixture(GAUSSIANS, max_iter=STEPS, tol=0.0, reg_covar=1.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(np.round((x - mean) @ axes, 3))
    weights, means = np.round(mixture.weights_, 6), np.round(mixture.means_, 3)
    spreads = np.linalg.cholesky(np.round(mixture.covariances_, 3))

    which = random.choice(GAUSSIANS, n, p=weights / weights.sum())
    noise = random.standard_normal((n, COMPONENTS))
    drawn = means[which] + np.einsum("nij,nj->ni", spreads[which], noise)
    images = np.clip(np.round(mean + drawn @ axes.T), 0, 255).astype(np.uint8)
    # Half the pixels of real images are 0, while those of the mixture scatter around it; black also compresses.
    return np.where(images < FAINTEST, 0, images).astype(np.uint8)


def idx(values: np.ndarray) -> bytes:
    """Array of bytes as the content of an IDX file."""
    header = (0x0800 + values.ndim, *values.shape)
    return b"".join(number.to_bytes(4, "big") for number in header) + values.tobytes()


if __name__ == "__main__":
    raise SystemExit(main())

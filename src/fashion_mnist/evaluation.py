"""Metrics with their uncertainty, from arrays of labels and probabilities.

How good a classifier is (`evaluate`, `class_report`, `confusion`), how sure that is (`wilson_interval`,
`bootstrap_interval`), which of several is better (`mcnemar`, `pairwise`), whether its probabilities mean what they say
(`reliability`, `calibration_error`, `fit_temperature`, `accuracy_coverage`), what disturbed images do to it (`corrupt`,
`robustness`) and which labels it gives reason to doubt (`suspect_labels`).

scikit-learn, SciPy and cleanlab do the arithmetic; this module puts together what the study reports. Importing it
imports no framework: anybody's probabilities can be evaluated. Only `load_classifier`, which opens anybody's Keras
model, imports Keras.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage, optimize, special, stats
from sklearn import metrics
from tqdm import tqdm

if TYPE_CHECKING:
    import keras

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
SCALINGS = ("raw", "unit")  # pixels in 0..255 as they are, or divided by 255

# Where a model may expect its image: with a channel, without, or as one row of pixels.
_LAYOUTS = ((28, 28, 1), (28, 28), (784,))


# --- Metrics ---------------------------------------------------------------------------------------------------------


def evaluate(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Summarise a classifier's predictions.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        True classes, 0..k-1.
    probabilities : ndarray, shape (n, k), in [0, 1]
        Rows sum to one.

    Returns
    -------
    dict of str to float
        ``loss`` (mean negative log-likelihood in nats), ``accuracy``, ``accuracy_low`` and ``accuracy_high`` (95 %
        Wilson interval), and ``precision``, ``recall`` and ``f1``, each ``_macro`` (every class counts the same) and
        ``_weighted`` (by class frequency). All but the loss are in [0, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit, a label has no column, or a row is not a distribution; the message says which.
    """
    labels, probabilities = _checked(labels, probabilities)
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    low, high = wilson_interval(correct, len(labels))
    summary = {
        "loss": float(metrics.log_loss(labels, probabilities, labels=classes)),
        "accuracy": correct / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
    }
    for average in ("macro", "weighted"):
        values = metrics.precision_recall_fscore_support(
            labels, predicted, labels=classes, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            summary[f"{name}_{average}"] = float(value)
    return summary


def class_report(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and number of images of each class.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (n,)
    class_names : sequence of str
        Names of classes 0, 1, ...

    Returns
    -------
    DataFrame
        One row a class, indexed by its name; columns ``precision``, ``recall``, ``f1`` in [0, 1] and ``images``.

    Raises
    ------
    ValueError
        If lengths differ or there are more classes than names.
    """
    labels, predicted = _checked_classes(labels, predicted, classes=len(class_names))
    precision, recall, f1, images = metrics.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    columns = {"precision": precision, "recall": recall, "f1": f1, "images": images}
    return pd.DataFrame(columns, index=pd.Index(class_names, name="class"))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int = 10) -> np.ndarray:
    """Count how often each class (row) was taken for each class (column); int64 ``(classes, classes)``."""
    labels, predicted = _checked_classes(labels, predicted, classes=classes)
    return metrics.confusion_matrix(labels, predicted, labels=np.arange(classes))


def frequent_confusions(matrix: np.ndarray, class_names: Sequence[str], count: int = 5) -> pd.DataFrame:
    """List the most frequent mistakes of a confusion matrix; fewer than `count` where fewer kinds were made.

    Returns
    -------
    DataFrame
        Columns ``true``, ``predicted``, ``images`` and ``share`` (of the true class's images, in [0, 1]).
    """
    mistakes = matrix - np.diag(np.diag(matrix))
    order = np.argsort(mistakes, axis=None, kind="stable")[::-1][: min(count, np.count_nonzero(mistakes))]
    rows, columns = np.unravel_index(order, matrix.shape)
    return pd.DataFrame(
        {
            "true": [class_names[row] for row in rows],
            "predicted": [class_names[column] for column in columns],
            "images": mistakes[rows, columns],
            "share": mistakes[rows, columns] / np.maximum(matrix.sum(axis=1)[rows], 1),
        }
    )


# --- Uncertainty -----------------------------------------------------------------------------------------------------


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a proportion (Wilson, 1927).

    Parameters
    ----------
    successes, trials : int
        ``0 <= successes <= trials`` and at least one trial.
    confidence : float
        In (0, 1).

    Returns
    -------
    (low, high) : floats in [0, 1]

    Raises
    ------
    ValueError
        If the counts are impossible.
    """
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and sample standard deviation (0 for a single seed)."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: np.ndarray,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of any metric (Efron, 1979), images drawn with replacement.

    Parameters
    ----------
    metric : callable
        Takes as many arrays as are given and returns a number.
    *arrays : ndarray, shape (n, ...)
        Such as labels and probabilities; the same images are drawn from all, so a difference of two classifiers on
        the same images is a metric too.
    resamples : int
    confidence : float
        In (0, 1).
    seed : int

    Returns
    -------
    (low, high) : floats

    Raises
    ------
    ValueError
        If there are no arrays, their lengths differ, or a number is out of range.

    Examples
    --------
    >>> labels, answers = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    >>> bootstrap_interval(lambda y, a: np.mean(y == a), labels, answers)
    (0.25, 1.0)
    """
    arrays = [np.asarray(array) for array in arrays]
    lengths = [len(array) for array in arrays]
    if not arrays or len(set(lengths)) > 1 or lengths[0] == 0:
        raise ValueError(f"The arrays have {lengths} rows; give one array or more, of the same images.")
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"resamples={resamples} must be at least 1 and confidence={confidence} between 0 and 1.")
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        drawn = rng.integers(0, lengths[0], lengths[0])
        values[index] = metric(*(array[drawn] for array in arrays))
    return _percentiles(values, confidence)


# --- Comparisons -----------------------------------------------------------------------------------------------------


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Exact McNemar test: are two classifiers equally often right on the same images (McNemar, 1947)?

    Parameters
    ----------
    labels, first, second : ndarray of int, shape (n,)
        True classes and both classifiers' predictions.

    Returns
    -------
    dict
        ``only_first`` and ``only_second`` (images that only one of them has right) and ``p_value`` (two-sided).

    Raises
    ------
    ValueError
        If lengths differ or something else than whole numbers is given.
    """
    labels, first, second = _checked_classes(labels, first, second)
    right_first, right_second = first == labels, second == labels
    only_first = int((right_first & ~right_second).sum())
    only_second = int((right_second & ~right_first).sum())
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p_value": float(p_value)}


def pairwise(
    labels: np.ndarray, predictions: Mapping[str, np.ndarray], confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Compare every two of several classifiers on the same images.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    predictions : mapping of name to ndarray of int, shape (n,)
        At least two classifiers' predicted classes.
    confidence : float
        In (0, 1), of the intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row a pair, in the mapping's order: ``first``, ``second``, ``difference`` (accuracy of the first less that
        of the second), its paired bootstrap interval ``low`` to ``high`` (10,000 resamples), ``only_first``,
        ``only_second`` and ``p_value`` as in `mcnemar`, and ``p_adjusted``, the p-value after Holm's correction for as
        many tests as there are pairs. Call one better where ``p_adjusted`` is small.

    Raises
    ------
    ValueError
        If there are fewer than two classifiers or lengths differ.
    """
    if len(predictions) < 2:
        raise ValueError(f"Only {', '.join(predictions) or 'nothing'} to compare; give the predictions of two or more.")
    rng = np.random.default_rng(seed)
    rows = []
    for (first, ones), (second, others) in combinations(predictions.items(), 2):
        test = mcnemar(labels, ones, others)
        # Drawing images again changes only how many of them are right for one classifier alone, for the other alone,
        # or alike for both: one multinomial draw a resample instead of a whole set of images.
        counts = np.array([test["only_first"], test["only_second"], 0])
        counts[2] = len(labels) - counts.sum()
        drawn = rng.multinomial(len(labels), counts / len(labels), size=10_000)
        low, high = _percentiles((drawn[:, 0] - drawn[:, 1]) / len(labels), confidence)
        difference = (test["only_first"] - test["only_second"]) / len(labels)
        rows.append({"first": first, "second": second, "difference": difference, "low": low, "high": high, **test})
    table = pd.DataFrame(rows)
    table["p_adjusted"] = holm(table["p_value"])
    return table


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for having made several tests (Holm, 1979).

    Parameters
    ----------
    p_values : sequence of float in [0, 1]

    Returns
    -------
    ndarray of float in [0, 1], in the same order
        Rejecting where these are below a level makes one false rejection or more at most that often.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1.0)


# --- Calibration and selective prediction ----------------------------------------------------------------------------


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """Compare how sure a classifier is with how often it is right.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, k)
    bins : int
        Of equal width, over the probability of the predicted class; each holds its upper end.

    Returns
    -------
    DataFrame
        One row a bin: ``low``, ``high``, ``images``, and mean ``confidence`` and ``accuracy`` of its images, in [0, 1];
        NaN where there are none.

    Raises
    ------
    ValueError
        As `evaluate`; or if there is not at least one bin.
    """
    labels, probabilities = _checked(labels, probabilities)
    if bins < 1:
        raise ValueError(f"bins={bins}; give at least 1.")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right)]
    mean_confidence, accuracy = np.divide(sums, images, out=np.full((2, bins), np.nan), where=images > 0)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "images": images, "confidence": mean_confidence, "accuracy": accuracy}
    )


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in [0, 1]: mean distance of confidence and accuracy over the bins (Guo et al., 2017).

    The bins of `reliability`, weighted by their images. It is 0 for perfectly calibrated probabilities and infinitely
    many images; with few images a bin, chance alone makes it larger.
    """
    table = reliability(labels, probabilities, bins)
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float((distance * table["images"]).sum() / table["images"].sum())


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Find the temperature that makes probabilities fit the labels best (Guo et al., 2017).

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Of validation images, not of those to be evaluated.
    probabilities : ndarray, shape (n, k)
        Their logarithms serve as logits, which are known up to a constant a row; that does not change the result.

    Returns
    -------
    float
        Above 1 for a classifier that is too sure, below for one too unsure; it minimises the mean negative
        log-likelihood within 0.01 to 100.

    Raises
    ------
    ValueError
        As `evaluate`.
    """
    labels, probabilities = _checked(labels, probabilities)
    logits = _log(probabilities)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -special.log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    found = optimize.minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded")
    # Where every class is as likely as any other, all temperatures fit alike.
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Make probabilities softer (temperature above 1) or sharper (below); the predicted classes stay.

    Parameters
    ----------
    probabilities : ndarray, shape (n, k)
        Rows sum to one.
    temperature : float
        Positive.

    Returns
    -------
    ndarray, shape (n, k), float64
        Rows sum to one.

    Raises
    ------
    ValueError
        If the temperature is not positive or a row is not a distribution.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature={temperature} is not a positive number.")
    return special.softmax(_log(_checked_probabilities(probabilities)) / temperature, axis=1)


def accuracy_coverage(
    labels: np.ndarray, probabilities: np.ndarray, coverages: Sequence[float] | None = None
) -> pd.DataFrame:
    """Accuracy on the images that a classifier is surest of, for different shares of all images.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, k)
    coverages : sequence of float in (0, 1], optional
        Shares of the images to answer, rounded up to whole images; every possible share if not given.

    Returns
    -------
    DataFrame
        One row a share: ``coverage``, ``accuracy`` on those images and ``threshold``, the lowest confidence among
        them. Images of equal confidence are in no order; each then counts as their mean.

    Raises
    ------
    ValueError
        As `evaluate`; or if a coverage is not in (0, 1].
    """
    labels, probabilities = _checked(labels, probabilities)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    _, group = np.unique(confidence, return_inverse=True)
    expected = (np.bincount(group, weights=right) / np.bincount(group))[group]
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(labels) + 1)
    accuracy = np.cumsum(expected[order]) / answered
    if coverages is None:
        rows = answered - 1
    else:
        coverages = np.asarray(coverages, float)
        if not ((coverages > 0) & (coverages <= 1)).all():
            raise ValueError(f"coverages {coverages.tolist()} are not all in (0, 1].")
        rows = np.ceil(coverages * len(labels) - 1e-9).astype(int) - 1  # 0.7 * 10 is a little more than 7
    return pd.DataFrame(
        {
            "coverage": answered[rows] / len(labels),
            "accuracy": accuracy[rows],
            "threshold": confidence[order][rows],
        }
    )


def coverage_area(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under accuracy against coverage, in [0, 1]: mean accuracy over all shares of answered images.

    One less the area under the risk-coverage curve of Geifman & El-Yaniv (2017). A classifier whose confidence says
    nothing about its mistakes has its accuracy as the area.
    """
    return float(accuracy_coverage(labels, probabilities)["accuracy"].mean())


# --- Robustness ------------------------------------------------------------------------------------------------------


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
    count, height, width, _ = images.shape
    pixels = images[..., 0].astype(np.float32)
    turns = np.tile(np.eye(2), (count, 1, 1))
    moves = np.zeros((count, 2))
    if corruption == "noise":
        pixels += amount * rng.standard_normal(pixels.shape, dtype=np.float32)
    elif corruption == "blur":
        pixels = ndimage.gaussian_filter(pixels, (0, amount, amount), mode="constant")
    elif corruption == "contrast":
        mean = pixels.mean(axis=(1, 2), keepdims=True)
        pixels = mean + amount * (pixels - mean)
    elif corruption == "shift":
        angle = rng.uniform(0, 2 * np.pi, count)
        pixels = _moved(pixels, turns, moves + amount * np.stack([np.sin(angle), np.cos(angle)], axis=1))
    elif corruption == "rotation":
        angle = np.radians(amount) * rng.choice((-1, 1), count)
        cos, sin = np.cos(angle), np.sin(angle)
        turns = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
        pixels = _moved(pixels, turns, moves)
    elif corruption == "scale":
        pixels = _moved(pixels, turns * float(amount) ** rng.choice((-1, 1), count)[:, None, None], moves)
    else:  # erasing
        # Placed by its centre, which stays, so that a larger square holds the smaller one.
        centres = rng.uniform(0, 1, (count, 2)) * (height, width)
        low = np.rint(np.clip(centres - amount / 2, 0, np.subtract((height, width), amount))).astype(int)
        rows, columns = np.arange(height), np.arange(width)
        down = (rows >= low[:, :1]) & (rows < low[:, :1] + amount)
        across = (columns >= low[:, 1:]) & (columns < low[:, 1:] + amount)
        pixels[down[:, :, None] & across[:, None, :]] = 0
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[..., None]


def robustness(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    strengths: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
) -> tuple[pd.DataFrame, float]:
    """Accuracy of a classifier on disturbed images.

    Parameters
    ----------
    predict : callable
        Gives probabilities ``(n, k)`` of images ``(n, 28, 28, 1)`` uint8.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    labels : ndarray of int, shape (n,)
    corruptions : sequence of str
        Of `CORRUPTIONS`.
    strengths : sequence of int in 1..5
    seed : int
        As of `corrupt`.

    Returns
    -------
    table : DataFrame
        One row a corruption and strength: ``corruption``, ``strength``, ``accuracy`` in [0, 1].
    mean : float
        Mean corrupted accuracy, every row counting the same.

    Raises
    ------
    ValueError
        As `corrupt` and `evaluate`.
    """
    conditions = [(corruption, strength) for corruption in corruptions for strength in strengths]
    rows = []
    for corruption, strength in tqdm(conditions, desc="robustness", disable=None, leave=False):
        disturbed = corrupt(images, corruption, strength, seed)
        checked, probabilities = _checked(labels, predict(disturbed))
        accuracy = float((probabilities.argmax(axis=1) == checked).mean())
        rows.append({"corruption": corruption, "strength": strength, "accuracy": accuracy})
    table = pd.DataFrame(rows)
    return table, float(table["accuracy"].mean())


def _moved(pixels: np.ndarray, turns: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Each image under its 2 x 2 matrix about the centre, from output to input places, then moved (rows, columns)."""
    centre = (np.array(pixels.shape[1:]) - 1) / 2
    moved = np.empty_like(pixels)
    for image, turn, move, output in zip(pixels, turns, moves, moved, strict=True):
        ndimage.affine_transform(image, turn, offset=centre - turn @ (centre + move), order=1, output=output)
    return moved


# --- Doubtful labels and mistakes ------------------------------------------------------------------------------------


def label_margins(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Probability of each image's label less that of the likeliest other class; float64 ``(n,)`` in [-1, 1].

    Negative where the classifier answers something else; ``np.argsort`` of it ranks the labels, most doubtful first.
    """
    labels, probabilities = _checked(labels, probabilities)
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1
    return probabilities[rows, labels] - others.max(axis=1)


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
        One row a suspect, most doubtful first: ``index`` of the image, its ``label``, ``suggested`` (the predicted
        class), ``confidence`` (probability of the label) and ``margin`` as of `label_margins`.

    Raises
    ------
    ValueError
        As `evaluate`; or if all labels are of one class.
    """
    # Slow to import and needed for this alone.
    from cleanlab.filter import find_label_issues

    labels, probabilities = _checked(labels, probabilities)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"All labels are {labels[0]}; confident learning compares two classes or more.")
    suspect = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    found = pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": labels,
            "suggested": probabilities.argmax(axis=1),
            "confidence": probabilities[np.arange(len(labels)), labels],
            "margin": label_margins(labels, probabilities),
        }
    )[suspect]
    return found.sort_values("margin", kind="stable", ignore_index=True)


def confident_mistakes(labels: np.ndarray, probabilities: np.ndarray, count: int = 24) -> np.ndarray:
    """Indices of the wrong answers that a classifier was surest of, surest first; at most `count`."""
    labels, probabilities = _checked(labels, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


# --- Anybody's Keras model -------------------------------------------------------------------------------------------


def load_classifier(path: str | Path) -> keras.Model:
    """Open a Keras model of any origin and check that it classifies 28 x 28 images into ten classes.

    Parameters
    ----------
    path : str or Path
        ``.keras`` file, or ``.h5`` of Keras 2. Files that would run code of their own while being read are refused,
        as Keras does by default.

    Returns
    -------
    keras.Model
        Uncompiled. One input ``(n, 28, 28, 1)``, ``(n, 28, 28)`` or ``(n, 784)``, one output ``(n, 10)``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a Keras model or has other inputs or outputs; one line.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give the path of a saved Keras model.")
    readable = {".keras": zipfile.is_zipfile, ".h5": _is_hdf5, ".hdf5": _is_hdf5}.get(path.suffix)
    if not path.is_file() or readable is None or not readable(path):
        raise ValueError(f"{path} is not a whole .keras or .h5 file; save the model with model.save('NAME.keras').")
    from fashion_mnist import _backend  # isort: skip  # noqa: F401  first, so that TensorFlow starts silently
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be read as a Keras model ({reason[:300].strip()}); layers of your own and Lambda layers "
            "cannot be read without their code."
        ) from error
    _layout(model, path)
    outputs = _answers(model, np.zeros((2, 28, 28, 1), np.uint8), "raw", path)
    if not isinstance(outputs, np.ndarray) or outputs.shape != (2, 10):
        given = f"shape {outputs.shape}" if isinstance(outputs, np.ndarray) else f"{len(outputs)} outputs"
        raise ValueError(f"{path} answers two images with {given}; a classifier of ten classes gives (2, 10).")
    return model


def classify(model: keras.Model, images: np.ndarray, scaling: str = "raw") -> tuple[np.ndarray, str]:
    """Class probabilities from any model that `load_classifier` accepts.

    Parameters
    ----------
    model : keras.Model
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
        Reshaped to what the model takes.
    scaling : {"raw", "unit"}
        Whether the model gets pixels in 0..255 or in 0..1.

    Returns
    -------
    probabilities : ndarray, shape (n, 10), float64
        Rows sum to one.
    kind : {"probabilities", "scores", "logits"}
        What the model gave; see `as_probabilities`.

    Raises
    ------
    ValueError
        If there is no such scaling or the model's answers are not numbers.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling={scaling!r}; choose one of {', '.join(SCALINGS)}.")
    return as_probabilities(_outputs(model, images, scaling))


def as_probabilities(outputs: np.ndarray) -> tuple[np.ndarray, str]:
    """Turn a classifier's outputs into probabilities, whichever kind they are.

    Parameters
    ----------
    outputs : ndarray, shape (n, k)

    Returns
    -------
    probabilities : ndarray, shape (n, k), float64
        Rows sum to one.
    kind : {"probabilities", "scores", "logits"}
        Nonnegative rows that sum to one (within half-precision's rounding) are probabilities; values all in [0, 1]
        that do not are scores, as of ten sigmoids, and are divided by their sum; anything else goes through a softmax.

    Raises
    ------
    ValueError
        If the outputs have another shape, or hold NaN or infinity.
    """
    outputs = np.asarray(outputs, np.float64)
    if outputs.ndim != 2:
        raise ValueError(f"The outputs have shape {outputs.shape}; give (n, classes).")
    if not np.isfinite(outputs).all():
        rows = int((~np.isfinite(outputs)).any(axis=1).sum())
        raise ValueError(
            f"The model's outputs for {rows} of {len(outputs)} images hold NaN or infinity; train it anew."
        )
    sums = outputs.sum(axis=1, keepdims=True)
    if outputs.min() < 0 or outputs.max() > 1.01 or sums.min() <= 0:
        return special.softmax(outputs, axis=1), "logits"
    return outputs / sums, "probabilities" if np.allclose(sums, 1, atol=0.01) else "scores"


def find_scaling(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> tuple[str, dict[str, float]]:
    """Find out whether a model expects pixels in 0..255 or in 0..1, by its accuracy with either.

    Parameters
    ----------
    model : keras.Model
        As `load_classifier` returns it.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
        Validation images, a thousand or two.
    labels : ndarray of int, shape (n,)

    Returns
    -------
    scaling : {"raw", "unit"}
        The better one; "raw" if they are equally good.
    accuracies : dict of str to float
        Of both.
    """
    accuracies = {}
    for scaling in SCALINGS:
        # The wrong scaling may well overflow the model; its outputs need not be numbers.
        accuracies[scaling] = float((_outputs(model, images, scaling).argmax(axis=1) == labels).mean())
    return max(accuracies, key=accuracies.get), accuracies


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _layout(model: keras.Model, name: object) -> tuple[int, ...]:
    """The shape in which a model takes one image."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple):
        for layout in _LAYOUTS:
            fits = [size in (None, wanted) for size, wanted in zip(shape[1:], layout, strict=False)]
            if len(shape) == len(layout) + 1 and all(fits):
                return layout
    raise ValueError(f"{name} takes input of shape {shape}; (n, 28, 28, 1), (n, 28, 28) or (n, 784) is needed.")


def _outputs(model: keras.Model, images: np.ndarray, scaling: str) -> np.ndarray:
    starts = range(0, len(images), 500)
    bar = tqdm(starts, desc=model.name, unit="batch", disable=None, leave=False)
    return np.concatenate([_answers(model, images[start : start + 500], scaling, model.name) for start in bar])


def _answers(model: keras.Model, images: np.ndarray, scaling: str, name: object) -> np.ndarray:
    pixels = images.astype(np.float32).reshape(len(images), *_layout(model, name))
    return model.predict_on_batch(pixels / 255 if scaling == "unit" else pixels)


# --- Checks ----------------------------------------------------------------------------------------------------------


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"Labels {labels.shape} and probabilities {probabilities.shape} do not fit; give (n,) and (n, classes)."
        )
    (labels,) = _checked_classes(labels, classes=probabilities.shape[1])
    return labels, _checked_probabilities(probabilities)


def _checked_classes(*arrays: np.ndarray, classes: int | None = None) -> list[np.ndarray]:
    """Labels and predicted classes, after checking that they are whole numbers in 0..classes-1 of the same images."""
    arrays = [np.asarray(array) for array in arrays]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        raise ValueError(
            f"Labels and predicted classes have shapes {', '.join(map(str, shapes))}; give (n,) each, of the same "
            "images. Classes come from probabilities by probabilities.argmax(axis=1)."
        )
    for array in arrays:
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"Labels are {array.dtype}; give whole numbers, such as labels.astype(int).")
        if classes is not None and (array.min() < 0 or array.max() >= classes):
            raise ValueError(
                f"Labels reach from {array.min()} to {array.max()}; with {classes} classes they are 0..{classes - 1}. "
                "Number the classes from 0 in the order of the columns, or give all of them."
            )
    return arrays


def _checked_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities in float64, after checking that every row is a distribution."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.size == 0:
        raise ValueError(f"The probabilities have shape {probabilities.shape}; give (n, classes).")
    # float32 rows sum to one only to float32's precision, which scikit-learn warns of in every notebook.
    probabilities = probabilities.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        sums = probabilities.sum(axis=1)
    softmax = "turn logits into probabilities with a softmax first"
    for wrong, fault, remedy in (
        (~np.isfinite(probabilities).all(axis=1), "holds NaN or infinity", "its model or its input is at fault"),
        ((probabilities < 0).any(axis=1), "holds a negative value", softmax),
        (~np.isclose(sums, 1, atol=1e-3), "sums to {:.4g}, not to one", softmax),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"Row {row} of the probabilities {fault.format(sums[row])} ({wrong.sum()} such rows); {remedy}."
            )
    return probabilities / sums[:, None]

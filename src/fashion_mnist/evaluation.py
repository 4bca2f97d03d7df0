"""Metrics with their uncertainty, from arrays of labels and probabilities.

How good a classifier is (`evaluate`, `class_report`, `confusion`), how sure that is (`wilson_interval`), which of
several is better (`mcnemar`, `by_pairs`, `least_clear`, `pairwise`, `paired_difference`, `two_proportions`) and whether
its probabilities mean what they say (`reliability`, `calibration_error`, `fit_temperature`, `accuracy_coverage`).

Importing this module imports no framework: anybody's probabilities can be evaluated. Only `load_classifier`, which
opens anybody's Keras model, imports Keras.
"""

from __future__ import annotations

import collections
import contextlib
import zipfile
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from tqdm import tqdm

if TYPE_CHECKING:
    import keras

SCALINGS = ("raw", "unit")  # pixels in 0..255 as they are, or divided by 255
LARGEST_MODEL = 1_000_000_000  # bytes that a .keras file may unpack to

# How many times its size a member of a .keras file may unpack to; Keras stores them as they are.
_GROWTH = collections.defaultdict(lambda: LARGEST_MODEL, {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032})

# Where a model may expect its image: with a channel, without, or as one row of pixels.
_LAYOUTS = ((28, 28, 1), (28, 28), (784,))


# ------------------------------------------------------------------------------------------------------------- Metrics


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
    labels, probabilities = checked(labels, probabilities)
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    low, high = wilson_interval(correct, len(labels))
    loss = float(log_loss(labels, probabilities, labels=classes))
    summary = {"loss": loss, "accuracy": correct / len(labels), "accuracy_low": low, "accuracy_high": high}
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(labels, predicted, labels=classes, average=average, zero_division=0)
        names = (f"precision_{average}", f"recall_{average}", f"f1_{average}")
        summary |= zip(names, map(float, values[:3]), strict=True)
    return summary


def class_report(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 (in [0, 1]) and number of images, one row per class, indexed by its name.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (n,)
    class_names : sequence of str
        Names of classes 0, 1, ...

    Raises
    ------
    ValueError
        If lengths differ or there are more classes than names.
    """
    labels, predicted = _checked_classes(labels, predicted, classes=len(class_names))
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    columns = {"precision": precision, "recall": recall, "f1": f1, "images": images}
    return pd.DataFrame(columns, index=pd.Index(class_names, name="class"))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int = 10) -> np.ndarray:
    """Count how often each class (row) was taken for each class (column); int64 ``(classes, classes)``."""
    labels, predicted = _checked_classes(labels, predicted, classes=classes)
    return confusion_matrix(labels, predicted, labels=np.arange(classes))


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
    names, images = np.asarray(class_names, object), mistakes[rows, columns]
    share = images / np.maximum(matrix.sum(axis=1)[rows], 1)
    return pd.DataFrame({"true": names[rows], "predicted": names[columns], "images": images, "share": share})


def confident_mistakes(labels: np.ndarray, probabilities: np.ndarray, count: int = 24) -> np.ndarray:
    """Indices of the wrong answers that a classifier was surest of, surest first; at most `count`."""
    labels, probabilities = checked(labels, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


# --------------------------------------------------------------------------------------- Uncertainty of one classifier


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion, low and high in [0, 1] (Wilson, 1927).

    Raises
    ------
    ValueError
        Unless ``0 <= successes <= trials``, whole numbers, and there is a trial.
    """
    interval = stats.binomtest(*_checked_counts(successes, trials)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and sample standard deviation (0 for a single seed)."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def percent(values: Sequence[float]) -> str:
    """Mean and standard deviation of shares for people: "93.14 ± 0.05 %"; one value has no deviation."""
    return percent_of(*mean_and_std(values), len(values))


def percent_of(mean: float, std: float, count: int) -> str:
    """`percent` of so many values whose mean and standard deviation are known."""
    return f"{100 * mean:.2f}" + f" ± {100 * std:.2f}" * (count > 1) + " %"


# ------------------------------------------------------------------------------------------- Comparison of classifiers


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
    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((first != labels) & (second == labels)).sum())
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p_value": float(p_value)}


def by_pairs(labels: np.ndarray, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """McNemar's test between any training of one classifier and any of another.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    first, second : sequence of ndarray of int, shape (n,)
        Predictions, one array a training.

    Returns
    -------
    list of dict
        As `mcnemar`, but with a ``p_value`` of 1 for a pair that differs the other way round than the means over
        trainings, and for every pair where these are equal: it does not speak for their difference.

    Raises
    ------
    ValueError
        As `mcnemar`, or if one of the sequences is empty.
    """
    tests = [mcnemar(labels, *pair) for pair in product(first, second)]
    if not tests:
        raise ValueError("There is no pair of trainings; give the predictions of one or more of each classifier.")
    leads = np.array([test["only_first"] - test["only_second"] for test in tests])
    return [
        {**test, "p_value": 1.0} if lead * leads.sum() <= 0 else test for test, lead in zip(tests, leads, strict=True)
    ]


def least_clear(labels: np.ndarray, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> dict[str, float]:
    """The test of `by_pairs` with the largest p-value: below a level, it says that the two differ whichever seeds are
    compared."""
    return max(by_pairs(labels, first, second), key=lambda test: test["p_value"])


def pairwise(labels: np.ndarray, predictions: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Compare every two of several classifiers on the same images.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    predictions : mapping of name to ndarray of int, shape (n,)
        At least two classifiers' predicted classes.

    Returns
    -------
    DataFrame
        One row per pair, in the mapping's order: ``first``, ``second``, ``difference`` (accuracy of the first less that
        of the second), its paired 95 % bootstrap interval ``low`` to ``high`` (10,000 resamples), ``only_first``,
        ``only_second`` and ``p_value`` as in `mcnemar`, and ``p_adjusted``, the p-value after `holm` for as many tests
        as there are pairs. Call one better where ``p_adjusted`` is small.

    Raises
    ------
    ValueError
        If there are fewer than two classifiers or lengths differ.
    """
    if len(predictions) < 2:
        raise ValueError(f"Only {', '.join(predictions) or 'nothing'} to compare; give the predictions of two or more.")
    rng = np.random.default_rng(0)
    rows = []
    for (first, ones), (second, others) in combinations(predictions.items(), 2):
        test = mcnemar(labels, ones, others)
        # Drawing images again changes only how many of them are right for one classifier alone, for the other alone,
        # or alike for both: one multinomial draw a resample instead of a whole set of images.
        counts = np.array([test["only_first"], test["only_second"], 0])
        counts[2] = len(labels) - counts.sum()
        drawn = rng.multinomial(len(labels), counts / len(labels), size=10_000)
        low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / len(labels), (0.025, 0.975)).tolist()
        difference = (test["only_first"] - test["only_second"]) / len(labels)
        rows.append({"first": first, "second": second, "difference": difference, "low": low, "high": high, **test})
    table = pd.DataFrame(rows)
    return table.assign(p_adjusted=holm(table["p_value"]))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for having made several tests (Holm, 1979).

    The result is in the same order and in [0, 1]: rejecting where it is below a level makes one false rejection or
    more at most that often.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1.0)


def two_proportions(correct_a: int, n_a: int, correct_b: int, n_b: int) -> dict[str, float]:
    """Pooled z-test of two proportions: can two accuracies be told apart where only the counts are known?

    For published numbers, which come without the answers to each image. On the same images `mcnemar` sees more.

    Parameters
    ----------
    correct_a, n_a, correct_b, n_b : int
        Images answered rightly, and all of them.

    Returns
    -------
    dict
        ``z``, positive where the first is better, and the two-sided ``p_value``.

    Raises
    ------
    ValueError
        As `wilson_interval`.
    """
    (correct_a, n_a), (correct_b, n_b) = _checked_counts(correct_a, n_a), _checked_counts(correct_b, n_b)
    pooled = (correct_a + correct_b) / (n_a + n_b)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    z = float((correct_a / n_a - correct_b / n_b) / error) if error else 0.0
    return {"z": z, "p_value": float(2 * stats.norm.sf(abs(z)))}


def paired_difference(values_a: Sequence[float], values_b: Sequence[float]) -> dict[str, float]:
    """Mean of ``a - b`` over pairs, such as accuracies of two recipes from the same seeds.

    Parameters
    ----------
    values_a, values_b : sequence of float, shape (n,)
        At least two pairs.

    Returns
    -------
    dict
        ``difference``, ``sd`` (sample standard deviation of the differences), the 95 % t-interval of their mean,
        ``low`` to ``high``, and the ``p_value`` of the paired t-test (Student, 1908).

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than two pairs or a value is not a number.
    """
    values_a, values_b = np.asarray(values_a, float), np.asarray(values_b, float)
    if values_a.shape != values_b.shape or values_a.ndim != 1 or len(values_a) < 2:
        raise ValueError(
            f"Values of shapes {values_a.shape} and {values_b.shape}; give two pairs or more, seed by seed."
        )
    mean, sd = mean_and_std(values_a - values_b)
    if not np.isfinite(mean):
        raise ValueError("A value is NaN or infinite; leave out the pairs that were not measured.")
    free, error = len(values_a) - 1, sd / len(values_a) ** 0.5
    half = stats.t.ppf(0.975, free).item() * error
    p_value = 2 * stats.t.sf(abs(mean) / error, free).item() if error else float(mean == 0)
    return {"difference": mean, "sd": sd, "low": mean - half, "high": mean + half, "p_value": p_value}


# ----------------------------------------------------------------------------- Calibration and answering only when sure


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
        One row per bin: ``low``, ``high``, ``images``, and mean ``confidence`` and ``accuracy`` of its images, in
        [0, 1]; NaN where there are none.

    Raises
    ------
    ValueError
        As `evaluate`; or if there is not at least one bin.
    """
    labels, probabilities = checked(labels, probabilities)
    if bins < 1:
        raise ValueError(f"bins={bins}; give at least 1.")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    means = pd.DataFrame({"confidence": confidence, "accuracy": right}).groupby(place).mean().reindex(range(bins))
    edges = np.linspace(0, 1, bins + 1)
    table = {"low": edges[:-1], "high": edges[1:], "images": images}
    return pd.DataFrame(table).join(means)


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
    labels, probabilities = checked(labels, probabilities)
    logits = _log(probabilities)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -special.log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    found = optimize.minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded")
    # Where every class is as likely as any other, all temperatures fit alike.
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Make probabilities (n, k) softer (temperature above 1) or sharper (below); the predicted classes stay.

    Raises
    ------
    ValueError
        If the temperature is not positive or a row is not a distribution.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature={temperature} is not a positive number.")
    return special.softmax(_log(_checked_probabilities(probabilities)) / temperature, axis=1)


def accuracy_coverage(labels: np.ndarray, probabilities: np.ndarray, margin: bool = False) -> pd.DataFrame:
    """Accuracy on the images that a classifier is surest of, for different shares of all images.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, k)
    margin : bool
        Confidence is by how much the logarithm of the highest probability exceeds the next one's, not that
        probability itself, which label smoothing flattens.

    Returns
    -------
    DataFrame
        One row per number of images answered: their share ``coverage``, ``accuracy`` on those images and
        ``threshold``, the lowest confidence among them. Images of equal confidence are in no order; each then counts as
        their mean.

    Raises
    ------
    ValueError
        As `evaluate`.
    """
    labels, probabilities = checked(labels, probabilities)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    if margin:
        *_, second, first = np.sort(_log(probabilities), axis=1).T
        confidence = first - second
    expected = pd.Series(right).groupby(confidence).transform("mean").to_numpy()
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(labels) + 1)
    curve = {"coverage": answered / len(labels), "accuracy": np.cumsum(expected[order]) / answered}
    return pd.DataFrame(curve | {"threshold": confidence[order]})


# ------------------------------------------------------------------------------------------------ Anybody's Keras model


def load_classifier(path: str | Path) -> keras.Model:
    """Open a Keras model of any origin and check that it classifies 28 x 28 images into ten classes.

    Parameters
    ----------
    path : str or Path
        ``.keras`` file, or ``.h5`` of Keras 2. Files that would run code of their own while being read are refused,
        as Keras does by default, and ``.keras`` files that unpack to more than `LARGEST_MODEL` bytes. A
        model that asks for more weights than its file can hold is refused, too.

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
    size = _unpacked_size(path)
    if size is None:
        raise ValueError(f"{path} is not a whole .keras or .h5 file; save the model with model.save('NAME.keras').")
    if size > LARGEST_MODEL:
        raise ValueError(f"{path} may unpack to {size / 1e9:.1f} GB, as no such classifier does; save it uncompressed.")
    from fashion_mnist import models  # isort: skip  # first, so that TensorFlow starts silently
    import keras

    try:
        with models.at_most(size):
            model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be read as a Keras model ({reason[:300].strip()}); layers of your own and Lambda layers "
            "cannot be read without their code."
        ) from error
    outputs = _answers(model, np.zeros((2, 28, 28, 1), np.uint8), "raw", path)
    given = f"shape {outputs.shape}" if isinstance(outputs, np.ndarray) else f"{len(outputs)} outputs"
    if given != "shape (2, 10)":
        raise ValueError(f"{path} answers two images with {given}; a classifier of ten classes gives (2, 10).")
    return model


def outputs(model: keras.Model, images: np.ndarray, scaling: str) -> np.ndarray:
    """What any model that `load_classifier` accepts gives; `as_probabilities` makes probabilities of it.

    Parameters
    ----------
    model : keras.Model
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
        Reshaped to what the model takes.
    scaling : {"raw", "unit"}
        Whether the model gets pixels in 0..255 or in 0..1.

    Returns
    -------
    ndarray, shape (n, 10), float

    Raises
    ------
    ValueError
        If there is no such scaling.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling={scaling!r}; choose one of {', '.join(SCALINGS)}.")
    starts = range(0, len(images), 500)
    bar = tqdm(starts, desc=model.name, unit="batch", disable=None, leave=False)
    return np.concatenate([_answers(model, images[start : start + 500], scaling, model.name) for start in bar])


def as_probabilities(outputs: np.ndarray) -> tuple[np.ndarray, str]:
    """Turn a classifier's outputs (n, k) into probabilities, whichever kind they are.

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
    if broken := int((~np.isfinite(outputs)).any(axis=1).sum()):
        raise ValueError(
            f"The model's outputs for {broken} of {len(outputs)} images hold NaN or infinity; train it anew."
        )
    sums = outputs.sum(axis=1, keepdims=True)
    if outputs.min() < 0 or outputs.max() > 1.01 or sums.min() <= 0:
        return special.softmax(outputs, axis=1), "logits"
    return outputs / sums, "probabilities" if np.allclose(sums, 1, atol=0.01) else "scores"


def find_scaling(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> tuple[str, dict[str, float]]:
    """Find out whether a model of `load_classifier` expects pixels in 0..255, "raw", or in 0..1, "unit".

    Takes a thousand or two validation images, uint8 ``(n, 28, 28, 1)``, and their labels ``(n,)``. Gives the scaling
    with which the model is more accurate, "raw" if it is equally good with both, and the accuracy with either.
    """
    # The wrong scaling may well overflow the model; its outputs need not be numbers.
    accuracies = {each: float((outputs(model, images, each).argmax(axis=1) == labels).mean()) for each in SCALINGS}
    return max(accuracies, key=accuracies.get), accuracies


def _unpacked_size(path: Path) -> int | None:
    """Bytes that a saved model unpacks to at most; None if it is not a whole file of a known kind.

    What a member announces can be forged, and Python unpacks all of it before it looks; a bound by its kind cannot.
    """
    import h5py  # comes with Keras

    if path.suffix == ".keras" and zipfile.is_zipfile(path):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return sum(max(one.file_size, one.compress_size * _GROWTH[one.compress_type]) for one in archive.infolist())
    return path.stat().st_size if path.suffix in (".h5", ".hdf5") and h5py.is_hdf5(path) else None


def _layout(model: keras.Model, name: object) -> tuple[int, ...]:
    """The shape in which a model takes one image."""
    shape = getattr(model, "input_shape", None)
    for layout in _LAYOUTS if isinstance(shape, tuple) else ():
        given = [wanted if size is None else size for size, wanted in zip(shape[1:], layout, strict=False)]
        if len(shape) == len(layout) + 1 and given == list(layout):
            return layout
    raise ValueError(f"{name} takes input of shape {shape}; (n, 28, 28, 1), (n, 28, 28) or (n, 784) is needed.")


def _answers(model: keras.Model, images: np.ndarray, scaling: str, name: object) -> np.ndarray:
    pixels = images.astype(np.float32).reshape(len(images), *_layout(model, name))
    return model.predict_on_batch(pixels / 255 if scaling == "unit" else pixels)


# -------------------------------------------------------------------------------------------------------------- Checks


def checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities in float64, after checking that they fit and that every row is a distribution."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        given = f"Labels {labels.shape} and probabilities {probabilities.shape}"
        raise ValueError(f"{given} do not fit; give (n,) and (n, classes).")
    (labels,) = _checked_classes(labels, classes=probabilities.shape[1])
    return labels, _checked_probabilities(probabilities)


def _checked_counts(successes: int, trials: int) -> tuple[int, int]:
    if int(successes) != successes or int(trials) != trials or not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} are not counts; give whole numbers, such as 9_540 of 10_000.")
    return int(successes), int(trials)


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
    # float32 rows sum to one only to float32's precision, which scikit-learn warns of in every notebook.
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or probabilities.size == 0:
        raise ValueError(f"The probabilities have shape {probabilities.shape}; give (n, classes).")
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
            fault = fault.format(sums[row])
            raise ValueError(f"Row {row} of the probabilities {fault} ({wrong.sum()} such rows); {remedy}.")
    return probabilities / sums[:, None]


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))

"""Metrics with their uncertainty, from arrays of labels and probabilities.

scikit-learn and SciPy do the arithmetic; this module puts together what the study reports.
No framework is imported: anybody's probabilities can be evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics


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
        If the shapes do not fit, a label has no column, or a row is not a distribution.
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
    """
    precision, recall, f1, images = metrics.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    columns = {"precision": precision, "recall": recall, "f1": f1, "images": images}
    return pd.DataFrame(columns, index=pd.Index(class_names, name="class"))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int = 10) -> np.ndarray:
    """Count how often each class (row) was taken for each class (column); int64 ``(classes, classes)``."""
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
    """
    right_first, right_second = first == labels, second == labels
    only_first = int((right_first & ~right_second).sum())
    only_second = int((right_second & ~right_first).sum())
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p_value": float(p_value)}


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"Labels {labels.shape} and probabilities {probabilities.shape} do not fit; give (n,) and (n, classes)."
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"Labels reach from {labels.min()} to {labels.max()}, columns from 0.")
    sums = probabilities.sum(axis=1)
    wrong = ~(np.isclose(sums, 1, atol=1e-3) & (probabilities >= 0).all(axis=1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"Row {row} of the probabilities sums to {sums[row]:.4g}, not to one ({wrong.sum()} such rows); "
            "turn logits into probabilities with a softmax first."
        )
    # float32 rows sum to one only to float32's precision, which scikit-learn warns of in every notebook.
    probabilities = probabilities.astype(np.float64)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)

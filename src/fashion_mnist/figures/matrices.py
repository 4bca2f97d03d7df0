"""Coloured tables: confusions and comparisons of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from fashion_mnist.figures import style

ERRORS = "Errors: share of the row (%)"


def confusion_matrix(
    matrix: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    axis_names: tuple[str, str] = ("True class", "Predicted class"),
    scale: str = ERRORS,
    ax: Axes | None = None,
) -> Figure:
    """Confusion matrix: counts in the cells, errors coloured by their share of the row.

    Parameters
    ----------
    matrix : ndarray of int, shape (classes, classes)
        Rows are true classes, columns predicted ones, as scikit-learn gives it.
    class_names : sequence of str
    title : str
    axis_names : tuple of str
        Of the rows, of the columns.
    scale : str
        What the colours are.
    ax : Axes, optional

    Returns
    -------
    Figure
        The diagonal has grey numbers and no colour, so that errors show.
    """
    figure, axis = style.panel(ax, (7.6, 6.4))
    most = _confusion(axis, matrix, class_names, 9)
    axis.set(ylabel=axis_names[0], xlabel=axis_names[1])
    axis.set_title(title)
    _error_bar(figure, axis, most, scale)
    return figure


def confusion_matrices(matrices: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Confusion matrices of several networks on test images side by side, two a row, on one scale.

    Parameters
    ----------
    matrices : mapping of title to ndarray of int, shape (classes, classes)
        Rows are true classes, columns predicted ones.
    class_names : sequence of str
    """
    rows = -(-len(matrices) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(8, 0.7 + 4.1 * rows), squeeze=False, sharey=True)
    for axis in axes.flat[len(matrices) :]:
        axis.remove()
    drawn = axes.flat[: len(matrices)]
    most = max(_errors(matrix).max() for matrix in matrices.values())
    for axis, (title, matrix) in zip(drawn, matrices.items(), strict=True):
        _confusion(axis, matrix, class_names, 8, most)
        axis.set_xlabel("Predicted class (test)")
        axis.set_title(title)
    for axis in axes[:, 0]:
        axis.set_ylabel("True class")
    _error_bar(figure, list(drawn), most, orientation="horizontal", aspect=40)
    return figure


def significance_matrix(
    first: Sequence[str],
    second: Sequence[str],
    differences: Sequence[float],
    p_values: Sequence[float],
    robust: Sequence[bool],
    ax: Axes | None = None,
) -> Figure:
    """Which network is better than which, and by how much.

    Parameters
    ----------
    first, second : sequence of str, length pairs
        The two networks of each pair, every two once, in the order of `evaluation.pairwise`.
    differences : sequence of float in [-1, 1]
        Test accuracy of the first less that of the second.
    p_values : sequence of float
        Adjusted ones, where there are several pairs. A difference is coloured where its p-value is below 0.05.
    robust : sequence of bool
        Whether a pair's difference holds at every seed: only these are filled, others are outlined.
    ax : Axes, optional

    Returns
    -------
    Figure
        Row less column, in points, each pair once; a column has its row's number.
    """
    names = list(dict.fromkeys([*first, *second]))
    figure, axis = style.panel(ax, (8, 1.2 + 0.33 * len(names)))
    style.bare(axis)
    axis.set_yticks(range(len(names)), [f"{name}  {number}" for number, name in enumerate(names, start=1)])
    axis.set_xticks(range(1, len(names)), map(str, range(2, len(names) + 1)))
    axis.set(xlim=(0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    for one, other, gain, p_value, holds in zip(first, second, differences, p_values, robust, strict=True):
        y, x = names.index(one), names.index(other)
        edge = (style.RIGHT if gain > 0 else style.WRONG) if p_value < 0.05 else "#EFEFEF"
        fill = edge if holds or p_value >= 0.05 else "white"
        axis.add_patch(Rectangle((x - 0.44, y - 0.42), 0.88, 0.84, facecolor=fill, edgecolor=edge, linewidth=1.6))
        text, ink = style.signed(100 * gain, 2), "white" if fill in (style.RIGHT, style.WRONG) else "#333333"
        axis.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    meanings = {style.RIGHT: "row is better", style.WRONG: "row is worse", "#EFEFEF": "no difference shown"}
    there = {patch.get_edgecolor() for patch in axis.patches}
    handles = [Patch(color=colour, label=text) for colour, text in meanings.items() if to_rgba(colour) in there]
    if not all(robust):
        handles.append(Patch(facecolor="white", edgecolor=style.GREY, label="not at every pair of seeds"))
    title = "Row less column, points of test accuracy; coloured where adjusted p < 0.05"
    axis.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, title=title)
    return figure


def _errors(matrix):
    """Share of each cell in its row, zero on the diagonal and where a class does not occur."""
    shares = np.asarray(matrix) / np.maximum(np.sum(matrix, axis=1, keepdims=True), 1)
    return np.where(np.eye(len(shares), dtype=bool), 0, shares)


def _confusion(axis, matrix, class_names, fontsize, most=None):
    """One matrix, errors on a scale up to `most` or else to their highest share; returns the end of the scale."""
    matrix, wanted = np.asarray(matrix), (len(class_names),) * 2
    if matrix.shape != wanted:
        raise ValueError(f"the matrix has shape {matrix.shape}; {len(class_names)} class names need {wanted}")
    errors = _errors(matrix)
    most = most or errors.max() or 1
    axis.imshow(errors, cmap="Blues", vmin=0, vmax=most)
    for (row, column), count in np.ndenumerate(matrix):
        ink = style.GREY if row == column else "white" if errors[row, column] > 0.6 * most else "black"
        if count:
            axis.text(column, row, count, ha="center", va="center", fontsize=fontsize, color=ink)
    style.bare(axis)
    axis.set_yticks(range(len(class_names)), class_names)
    axis.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right", rotation_mode="anchor")
    return most


def _error_bar(figure, axes, most, label=ERRORS, **settings):
    scale = ScalarMappable(Normalize(0, 100 * (most or 1)), "Blues")
    figure.colorbar(scale, ax=axes, label=label, shrink=0.7, pad=0.02, **settings)

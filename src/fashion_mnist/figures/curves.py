"""Lines, bars and dots: of the data, of training and tuning, of the evaluation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from fashion_mnist.figures import style

History = Mapping[str, Sequence[float]]  # a metric by epoch


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "",
    ylabel: str = "",
    dashed: Collection[str] = (),
    percent: str = "xy",
    intervals: Mapping[str, np.ndarray] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One line a name; with few points also a marker.

    Parameters
    ----------
    curves : mapping of name to (x, y)
        Two arrays of one length each.
    xlabel, ylabel : str
    dashed : sequence of str
        Names, such as baselines, whose lines are dashed, black or grey; they take no colour from the others.
    percent : {"xy", "x", "y", ""}
        Axes whose fractions are shown in per cent.
    intervals : mapping of name to ndarray, shape (n, 2), optional
        Lower and upper ends about the points of a line, drawn as bars.
    ax : Axes, optional
        On given axes the legend is left to the caller.
    """
    figure, axis = style.panel(ax, (8, 4.6))
    looks, greys = (style.line(index) for index in range(len(curves))), cycle(("#000000", "#999999"))
    for index, (name, (x, y)) in enumerate(curves.items()):
        look = {"color": next(greys), "linestyle": "--"} if name in dashed else next(looks)
        axis.plot(x, y, label=name, marker=style.marker(index) if len(x) <= 16 else None, markersize=5, **look)
        if intervals and name in intervals:
            axis.errorbar(x, y, yerr=_arms(y, intervals[name]), fmt="none", capsize=3, ecolor=look["color"])
    axis.set(xlabel=xlabel, ylabel=ylabel)
    style.percent(*(getattr(axis, f"{letter}axis") for letter in percent))
    if ax is None:
        figure.legend(loc="outside lower center", ncols=_columns(curves))
    return figure


def class_balance(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Images of each class: bars with a part for each split, and a pie of all splits together.

    Parameters
    ----------
    counts : mapping of split to ndarray, shape (classes,)
    class_names : sequence of str
    """
    figure, (bars, pie) = plt.subplots(1, 2, figsize=(8, 2.6), width_ratios=(1.6, 1))
    rows, left = range(len(class_names)), np.zeros(len(class_names))
    for split, values in counts.items():
        bars.barh(rows, values, left=left, height=0.75, edgecolor="white", label=f"{split}: {np.sum(values):,}")
        left = left + values
    style.rows(bars, class_names)
    bars.tick_params(axis="y", labelsize=8)
    bars.set_xlabel("Images")
    bars.legend(loc="lower center", bbox_to_anchor=(0.42, 1), ncols=len(counts), columnspacing=1, handletextpad=0.4)
    look = {"wedgeprops": {"edgecolor": "white", "linewidth": 0.8}, "textprops": {"fontsize": 7}, "startangle": 90}
    pie.pie(left, labels=class_names, colors=style.CLASS_COLOURS, labeldistance=1.08, counterclock=False, **look)
    return figure


def learning_curves(
    histories: Mapping[str, History | Sequence[History]],
    metrics: Sequence[str] = ("loss", "accuracy"),
    learning_rate: bool = False,
) -> Figure:
    """Training (dashed) and validation (solid) metrics by epoch, one panel a metric and one colour a name.

    Parameters
    ----------
    histories : mapping of name to history or list of histories
        A history maps a metric to its values by epoch, the first at index 0; validation values are under
        ``"val_" + metric`` and may be missing. Of several histories (seeds) the mean is drawn in a band from the lowest
        to the highest; each on its own where their lengths differ, for a mean of fewer and fewer would jump.
    metrics : sequence of str
        Accuracies, as fractions, are shown in per cent.
    learning_rate : bool
        Add a panel with ``"learning_rate"`` as a share of its highest value: optimisers differ in what a rate means.

    Returns
    -------
    Figure
        Axes of accuracies have a logit scale, so that the first epoch does not hide what the last ones differ in.

    Raises
    ------
    ValueError
        If a metric is in none of the histories.
    """
    seeds = {name: [runs] if isinstance(runs, Mapping) else list(runs) for name, runs in histories.items()}
    panels = [list(metrics)] + [["learning_rate"] * len(metrics)] * learning_rate
    size, ratios = (8, 3.9 + 1.6 * learning_rate), [3, 1][: len(panels)]
    figure, axes = plt.subplot_mosaic(panels, figsize=size, height_ratios=ratios)
    last = max(len(values) for runs in seeds.values() for run in runs for values in run.values())
    for metric, axis in axes.items():
        splits = []
        for split, key, dashes in (("training", metric, "--"), ("validation", f"val_{metric}", "-")):
            for index, runs in enumerate(seeds.values()):
                curves = [run[key] for run in runs if len(run.get(key, ()))]
                if metric == "learning_rate":
                    curves, dashes = [np.divide(curve, max(curve)) for curve in curves], "-"
                if curves:
                    _band(axis, curves, dashes, style.line(index)["color"])
                    splits.append(split)
        if not splits:
            raise ValueError(f"no history holds {metric!r}; choose metrics that were recorded")
        axis.set_ylabel(f"{' and '.join(dict.fromkeys(splits))} {metric}".capitalize())
        _epochs(axis, last)
        if "accuracy" in metric:
            _logit(axis, axis.get_ylabel())
    if learning_rate:
        axis.set(ylabel="Learning rate\n(share of peak)", ylim=(-0.03, 1.08))
        style.percent(axis.yaxis, decimals=0)
    handles = [Line2D([], [], lw=3, label=name, color=style.line(k)["color"]) for k, name in enumerate(seeds)]
    handles += [Line2D([], [], color="#555555", ls=ls, label=n) for n, ls in (("training", "--"), ("validation", "-"))]
    figure.legend(handles=handles, loc="outside lower center", ncols=_columns([each.get_label() for each in handles]))
    return figure


def halving_curves(
    curves: Sequence[Sequence[float]],
    states: Sequence[str],
    rungs: Sequence[int],
    names: Sequence[str],
    ax: Axes | None = None,
) -> Figure:
    """Learning curves of a study and where pruning cut them.

    Parameters
    ----------
    curves : sequence of n sequences of float, values 0 to 1
        Validation accuracy of each trial by epoch, the first at index 0; a trial that failed at once has none.
    states : sequence of str, length n
        "complete" for trials that were trained out; the others are drawn faint, their ends marked.
    rungs : sequence of int
        Epochs after which trials were judged.
    names : sequence of str, length n
        The legend has those of the eight best that were trained out and of the best pruned one, best first.
    ax : Axes, optional

    Returns
    -------
    Figure
        The axis of accuracies has a logit scale, so that bad trials stay in it and good ones apart.
    """
    figure, axis = style.panel(ax, (8, 4.8))
    trials = [trial for trial in zip(curves, states, names, strict=True) if len(trial[0])]
    trials.sort(key=lambda trial: -trial[0][-1])
    finished = [(curve, name) for curve, state, name in trials if state == "complete"]
    pruned = [(curve, name) for curve, state, name in trials if state != "complete"]
    for index, (curve, name) in enumerate(finished):
        label = f"{name}: {curve[-1]:.2%}" if index < 8 else None
        look = {"marker": style.marker(index), "markersize": 5, "zorder": 4}
        axis.plot(range(1, len(curve) + 1), curve, label=label, **style.line(index), **look)
    for index, (curve, name) in enumerate(pruned):
        best = index == 0
        epochs = f"{len(curve)} epoch{'s' * (len(curve) > 1)}"
        label = f"best pruned, {name}: {curve[-1]:.2%} after {epochs}" if best else None
        look = {"color": "#333333" if best else "#9A9A9A", "markersize": 7 if best else 5, "zorder": 5 if best else 2}
        axis.plot(range(1, len(curve) + 1), curve, marker="x", markevery=[-1], linewidth=1, label=label, **look)
    for rung in rungs:
        axis.axvline(rung, color="#555555", linewidth=1, linestyle=":")
        count = sum(len(curve) >= rung for curve, *_ in trials)
        text = f"{count} trial{'' if count == 1 else 's'}"
        look = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
        axis.annotate(text, (rung, 1), (0, 3), xycoords=axis.get_xaxis_transform(), **look)
    _logit(axis, "Validation accuracy")
    axis.set(xlabel="Epoch", xticks=rungs)
    axis.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="white")
    return figure


def per_class_bars(
    values: Mapping[str, np.ndarray], class_names: Sequence[str], xlabel: str, ax: Axes | None = None
) -> Figure:
    """A number for each class and network as dots, one row a class, the first network's highest on top.

    What has a few numbers each, such as the factors of a grid, can stand for the classes.

    Parameters
    ----------
    values : mapping of network to ndarray, shape (classes,)
    class_names : sequence of str
    xlabel : str
        What the numbers are, with unit and split.
    ax : Axes, optional
    """
    table, rows = np.stack(list(values.values())), range(len(class_names))
    falling = np.argsort(-table[0], kind="stable")
    table, class_names = table[:, falling], [class_names[index] for index in falling]
    figure, axis = style.panel(ax, (8, 1.2 + 0.34 * len(class_names)))
    axis.hlines(rows, table.min(axis=0), table.max(axis=0), color="#BBBBBB", linewidth=2, zorder=1)
    for index, name in enumerate(values):
        look = {"color": style.line(index)["color"], "marker": style.marker(index)}
        aside = 0.12 * (index - (len(values) - 1) / 2)  # so that none hides another
        axis.scatter(table[index], np.add(rows, aside), s=45, label=name, zorder=2, **look)
    style.rows(axis, class_names)
    axis.set_xlabel(xlabel)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=_columns(values))
    return figure


def accuracy_bars(
    names: Sequence[str],
    means: Sequence[float],
    intervals: np.ndarray,
    xlabel: str,
    references: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Accuracy of each network as a dot with its interval, the number beside its row.

    Parameters
    ----------
    names : sequence of str, length n
    means : sequence of float, length n, values 0 to 1
    intervals : ndarray, shape (n, 2), values 0 to 1
        Lower and upper end of each interval.
    xlabel : str
        What the numbers are, with the split, such as "Test accuracy".
    references : mapping of str to float, optional
        Accuracies reported elsewhere under one of the names: open diamonds.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If a mean lies outside its interval.
    """
    figure, axis = style.panel(ax, (8, 1.2 + 0.34 * len(names)))
    look = {"fmt": "o", "capsize": 3, "markersize": 7, "label": "measured here"}
    axis.errorbar(means, range(len(names)), xerr=_arms(means, intervals), **look)
    if references:
        look = {"s": 55, "marker": "D", "facecolors": "none", "edgecolors": style.RUN_COLOURS[1], "zorder": 3}
        at = [list(names).index(name) for name in references]
        axis.scatter(list(references.values()), at, label="reported elsewhere", **look)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _rows(axis, names, [f"{mean:.2%}" for mean in means])
    axis.locator_params(axis="x", nbins=6)
    style.percent(axis.xaxis)
    axis.set_xlabel(xlabel)
    return figure


def differences(
    names: Sequence[str],
    means: Sequence[float],
    intervals: np.ndarray,
    shown: Sequence[bool],
    xlabel: str,
    ax: Axes | None = None,
) -> Figure:
    """Differences from a common base as dots with their intervals about a line at zero, the number beside its row.

    Parameters
    ----------
    names : sequence of str, length n
    means : sequence of float, length n
        Shares of 1; drawn in points, hundredths of it.
    intervals : ndarray, shape (n, 2)
        Lower and upper end of each.
    shown : sequence of bool, length n
        Which differences are established, by the test that the text names; these are drawn filled.
    xlabel : str
        What differs from what, with the split.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If a mean lies outside its interval.
    """
    figure, axis = style.panel(ax, (8, 1.2 + 0.34 * len(names)))
    arms = 100 * _arms(means, intervals)
    axis.axvline(0, color="0.6", linewidth=1)
    for row, mean in enumerate(means):
        face = style.RUN_COLOURS[0] if shown[row] else "white"
        look = {"fmt": "o", "capsize": 3, "markersize": 7, "color": style.RUN_COLOURS[0], "markerfacecolor": face}
        axis.errorbar(100 * mean, row, xerr=arms[:, row : row + 1], **look)
    _rows(axis, names, [style.signed(100 * mean, 2) for mean in means])
    axis.set_xlabel(xlabel)
    return figure


def accuracy_against_cost(
    names: Sequence[str],
    costs: Sequence[float],
    accuracies: Sequence[float],
    intervals: np.ndarray,
    xlabel: str,
    ax: Axes | None = None,
) -> Figure:
    """Test accuracy of each network against what it costs, on a logarithmic axis.

    Parameters
    ----------
    names : sequence of str, length n
        Written beside the points, where they hide nothing.
    costs : sequence of float, positive
        Such as parameters, or seconds of training.
    accuracies : sequence of float, values 0 to 1
    intervals : ndarray, shape (n, 2), values 0 to 1
        Lower and upper end of each interval, drawn as error bars.
    xlabel : str
        The cost with its unit.
    ax : Axes, optional

    Returns
    -------
    Figure
        A step line, the frontier, joins the networks that no cheaper one matches.

    Raises
    ------
    ValueError
        If a cost is not positive, or an accuracy lies outside its interval.
    """
    costs, accuracies = np.asarray(costs, dtype=float), np.asarray(accuracies, dtype=float)
    if not np.all(costs > 0):
        raise ValueError("costs: a logarithmic axis needs positive numbers; leave out the networks without a cost")
    figure, axis = style.panel(ax, (8, 5.2))
    order = np.lexsort((-accuracies, costs))
    best = np.maximum.accumulate(accuracies[order])
    front = order[np.append(True, best[1:] > best[:-1])]
    look = {"drawstyle": "steps-post", "color": style.RUN_COLOURS[1], "linewidth": 1.4, "zorder": 1}
    axis.plot(costs[front], accuracies[front], label="frontier: nothing cheaper here is as high", **look)
    look = {"fmt": "o", "color": style.RUN_COLOURS[0], "ecolor": "#8FB8D4", "capsize": 3, "markersize": 6}
    axis.errorbar(costs, accuracies, yerr=_arms(accuracies, intervals), **look)
    axis.set(xscale="log", xlabel=xlabel, ylabel="Test accuracy")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:,.10g}")
    axis.margins(x=0.34, y=0.1)  # room for names on both sides
    style.percent(axis.yaxis)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    drawn = [(cost, low, cost, high) for cost, (low, high) in zip(costs, intervals, strict=True)]
    for one, other in pairwise(front):
        drawn.append((costs[one], accuracies[one], costs[other], accuracies[one]))
        drawn.append((costs[other], accuracies[one], costs[other], accuracies[other]))
    style.write_names(axis, names, np.column_stack([costs, accuracies]), drawn, fontsize=8.5)
    return figure


def reliability_diagram(tables: Mapping[str, pd.DataFrame], errors: Mapping[str, float]) -> Figure:
    """How often a network is right on test images, by how sure it is; and how often it is that sure.

    Parameters
    ----------
    tables : mapping of name to table
        Such as before and after a temperature; columns ``low``, ``high``, ``images``, ``confidence`` and ``accuracy``
        of each bin. Bins of fewer than ten images tell nothing and have no point.
    errors : mapping of name to float
        Calibration errors in [0, 1] for the legend.

    Returns
    -------
    Figure
        Above accuracy against confidence with the diagonal of perfect calibration, below the share of images.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="#555555", linewidth=1, linestyle="--", label="perfectly calibrated")
    curves = {}
    for index, (name, table) in enumerate(tables.items()):
        told = table[table["images"] >= 10]
        curves[f"{name} (calibration error {errors[name]:.1%})"] = told["confidence"], told["accuracy"]
        edges = [*table["low"], table["high"].iloc[-1]]
        below.stairs(table["images"] / table["images"].sum(), edges, linewidth=1.8, **style.line(index))
    lines(curves, ylabel="Test accuracy", ax=above)
    above.set(xlim=(0, 1), ylim=(0, 1.02))
    above.legend(loc="lower right")
    xlabel = "Confidence (probability of the predicted class)"
    below.set(xlabel=xlabel, ylabel="Share of\ntest images", ylim=(0, None))
    style.percent(below.xaxis, below.yaxis, above.yaxis, decimals=0)
    return figure


def precision_recall(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], ax: Axes | None = None) -> Figure:
    """Precision against recall of each class on test images, the hardest first in the legend.

    Parameters
    ----------
    curves : mapping of class to (precision, recall, ...)
        As ``sklearn.metrics.precision_recall_curve`` returns them, of one class against all others; at most ten.
    ax : Axes, optional

    Returns
    -------
    Figure
        The legend has the average precision of each class; a marker stands where precision equals recall. The axes
        begin a good fifth below the lowest marker, so that the curves can be told apart.
    """
    figure, axis = style.panel(ax, (8, 4.8))
    handles, lowest = {}, 1.0
    for index, (name, (precision, recall, *_)) in enumerate(curves.items()):
        average = -np.sum(np.diff(recall) * np.asarray(precision)[:-1])
        look = {"color": style.CLASS_COLOURS[index], "marker": style.CLASS_MARKERS[index], "markersize": 7}
        even = np.argmin(np.abs(np.subtract(precision, recall)))
        (curve,) = axis.plot(recall, precision, markevery=[even], label=f"{average:.3f}  {name}", **look)
        handles[average, name], lowest = curve, min(lowest, recall[even])
    style.percent(axis.xaxis, axis.yaxis, decimals=0)
    shown = max(0, np.floor(10 * lowest - 2) / 10), 1.005
    axis.set(xlabel="Recall, test images", ylabel="Precision, test images", xlim=shown, ylim=shown)
    axis.legend(handles=[handles[key] for key in sorted(handles)], loc="lower left", title="average precision", ncols=2)
    return figure


def robustness_curves(
    accuracies: Mapping[str, np.ndarray],
    corruptions: Mapping[str, Sequence[float]],
    units: Mapping[str, str],
    clean: Mapping[str, float],
) -> Figure:
    """Test accuracy by the strength of each corruption, one panel a corruption and one line a network.

    Parameters
    ----------
    accuracies : mapping of network to ndarray, shape (corruptions, strengths), values 0 to 1
    corruptions : mapping of corruption to sequence of float
        The amounts at its strengths, written below them.
    units : mapping of corruption to str
        Of the amounts.
    clean : mapping of network to float
        Accuracies on undisturbed images, at the left end.
    """
    columns = min(4, len(corruptions))
    rows = -(-len(corruptions) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8, 0.9 + 2.3 * rows), sharey=True, squeeze=False)
    tables = {name: np.insert(table, 0, clean[name], axis=1) for name, table in accuracies.items()}
    for row, ((corruption, amounts), axis) in enumerate(zip(corruptions.items(), axes.flat, strict=False)):
        lines({name: (range(table.shape[1]), table[row]) for name, table in tables.items()}, percent="", ax=axis)
        axis.set_title(corruption.capitalize())
        axis.set_xlabel(units[corruption], fontsize=8)
        axis.set_xticks(range(1 + len(amounts)), ["–", *(f"{amount:g}" for amount in amounts)], fontsize=7.5)
    axis.set_ylim(0, 1)
    style.percent(axis.yaxis, decimals=0)
    for empty in axes.flat[len(corruptions) :]:
        empty.remove()
    figure.supxlabel("Amount of the disturbance (–: as it is)", fontsize=10)
    figure.supylabel("Test accuracy", fontsize=10)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=min(3, len(tables)))
    return figure


def _logit(axis: Axes, label: str) -> None:
    """Accuracies on a scale that gives halving an error nearly the same length everywhere."""
    axis.set_ylabel(f"{label}\n(logit scale)")
    axis.set_yscale("logit")
    ticks = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 0.999)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_minor_locator(NullLocator())
    style.percent(axis.yaxis, decimals=1)


def _band(axis, curves, dashes, colour):
    """The mean of curves by epoch in a band from lowest to highest; each curve, thin, where their lengths differ."""
    thin, equal = 1.4 if dashes == "--" else 2, len(set(map(len, curves))) == 1
    for curve in [np.mean(curves, axis=0)] if equal else curves:
        epochs, look = np.arange(1, len(curve) + 1), {"linewidth": thin if equal else thin / 2}
        axis.plot(epochs, curve, dashes, color=colour, marker="." if len(curve) == 1 else None, **look)
    if equal and len(curves) > 1:
        axis.fill_between(epochs, np.min(curves, axis=0), np.max(curves, axis=0), color=colour, alpha=0.2, linewidth=0)


def _rows(axis, names, numbers):
    """Names before the rows of a chart, the first on top, and a number behind each."""
    for row, number in enumerate(numbers):
        axis.annotate(number, (1.01, row), xycoords=axis.get_yaxis_transform(), va="center", fontsize=9)
    style.rows(axis, names)


def _columns(names):
    """How many names fit beside one another below a figure, four at most."""
    return min(4, len(names), max(1, 110 // (6 + max(map(len, names), default=0))))


def _epochs(axis, last):
    """An axis of epochs from the first to the last, both inside, the last one numbered."""
    ticks = MaxNLocator(7, steps=[1, 2, 5, 10], integer=True).tick_values(0, last)
    near = (ticks[1] - ticks[0]) / 2
    axis.set(xlabel="Epoch", xlim=(1 - 0.03 * last, last + 0.03 * last))
    axis.set_xticks([*(int(tick) for tick in ticks if 1 <= tick < last - near), last])


def _arms(means, intervals):
    """Lengths of error bars, shape (2, n)."""
    low, high = np.transpose(intervals)
    arms = np.stack([np.subtract(means, low), np.subtract(high, means)])
    if np.any(arms < 0):
        raise ValueError("intervals: a mean lies outside its interval; pass (lower, upper) of each name in order")
    return arms

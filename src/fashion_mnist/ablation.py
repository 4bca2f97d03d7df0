"""What changes are worth: a network trained by a recipe, and with one thing changed at a time, by the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from fashion_mnist import evaluation, networks, records
from fashion_mnist.figures import curves, style
from fashion_mnist.study import Study, listed

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from fashion_mnist.training import Recipe


def classes(
    run: Study,
    name: str,
    build: Callable[[], keras.Model],
    of: Any,
    recipe: Recipe,
    seed: int,
    taught_by: Sequence[networks.Network] = (),
) -> np.ndarray:
    """Train a network once and for all (`Study.keep`), and see what it says of the validation images.

    Parameters
    ----------
    run : Study
    name : str
        Of the training.
    build : callable
        Gives the network, untrained.
    of : anything that JSON holds
        What `build` depends on.
    recipe : training.Recipe
    seed : int
    taught_by : sequence of networks.Network
        Whose common answers (`networks.ensemble`) take the place of the labels.

    Returns
    -------
    ndarray of int, shape (n,)
        The class of each validation image.
    """
    from fashion_mnist import training
    from fashion_mnist._backend import keras

    def train() -> dict[str, np.ndarray]:
        keras.utils.set_random_seed(seed)
        model, watched = build(), (run.data.x_val[:500], run.data.y_val[:500])
        train = run.data.x_train, run.data.y_train
        run.fit(f"{run.name[:2]}_{name}", model, train, watched, recipe, taught_by, seed=seed)
        return {"classes": training.predict(model, run.data.x_val).argmax(axis=1).astype(np.uint8)}

    return run.keep(name, train, of=[of, recipe.chosen(), seed, training.VERSION, *taught_by])["classes"].astype(int)


def differences(labels: np.ndarray, answers: Mapping[str, Sequence[np.ndarray]]) -> pd.DataFrame:
    """Accuracy of recipes, and how far each is from the first.

    Recipes by seeds are a randomised block design: one error for all differences, that of recipes and seeds together
    (Fisher, 1935). Of a single seed there is none, and the images have to tell (`evaluation.pairwise`).

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    answers : mapping of recipe to sequence of ndarray of int, shape (n,)
        Two recipes or more; what each says, trained by the same seeds in the same order.

    Returns
    -------
    DataFrame
        A row a recipe, by ``lever``: ``seeds``, ``mean`` and ``sd`` of the accuracies; ``paired_difference`` from the
        first recipe, its 95 % interval ``low`` to ``high``, which is not corrected, ``p_value``, and ``p_adjusted``
        (`evaluation.holm`); at how many seeds McNemar's test tells the two apart the same way round, ``seeds_told``;
        and ``established``, whether it does at all of them and the adjusted p is below 0.05. Of the first recipe all
        these are missing, and ``established`` is false.
    """
    first, *others = answers
    by_seed = pd.DataFrame({name: np.mean(np.equal(each, labels), axis=1) for name, each in answers.items()})
    seeds = len(by_seed)
    table = pd.DataFrame({"seeds": seeds, "mean": by_seed.mean(), "sd": by_seed.std()}).rename_axis("lever")
    if seeds > 1:
        deviations = by_seed - by_seed.mean()
        residuals = deviations.sub(deviations.mean(axis=1), axis=0)
        free = (seeds - 1) * len(others)
        error = np.sqrt(2 * (residuals**2).to_numpy().sum() / free / seeds)
        found = pd.DataFrame({"difference": by_seed[others].mean() - by_seed[first].mean()})
        half = stats.t.ppf(0.975, free) * error
        found = found.assign(low=found["difference"] - half, high=found["difference"] + half)
        found["p_value"] = 2 * stats.t.sf(found["difference"].abs() / error, free)
    else:
        pairs = [{each: answers[each][0] for each in (name, first)} for name in others]
        found = pd.concat([evaluation.pairwise(labels, pair) for pair in pairs]).set_axis(others)
    found = found[["difference", "low", "high", "p_value"]].rename(columns={"difference": "paired_difference"})
    found["p_adjusted"] = evaluation.holm(found["p_value"])
    for name in others:
        by_images = [_better(labels, *pair) for pair in zip(answers[name], answers[first], strict=True)]
        found.loc[name, "seeds_told"] = by_images.count(np.sign(found.at[name, "paired_difference"]))
    found["established"] = (found["p_adjusted"] < 0.05) & (found["seeds_told"] == seeds)
    table = table.join(found)
    return table.assign(established=table["established"].eq(True))


def _better(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> int:
    """1 where McNemar's test shows the first to be better, -1 where the second, 0 where neither."""
    test = evaluation.mcnemar(labels, one, other)
    return int(np.sign(test["only_first"] - test["only_second"])) if test["p_value"] < 0.05 else 0


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `differences` but the first, the worst first."""
    return table.iloc[1:].sort_values("paired_difference")


def figure(table: pd.DataFrame, label: str) -> Figure:
    """The differences of `differences` with their intervals, the worst on top; filled where established.

    `label` says what is measured, and against what.
    """
    rows = changes(table)
    intervals, known = rows[["low", "high"]].to_numpy(), rows["established"].to_numpy()
    return curves.differences(rows.index, rows["paired_difference"], intervals, known, label)


def told(table: pd.DataFrame, tests: bool = True) -> str:
    """What is established of `differences` and what is open, in words; with or without `tests`."""
    rows, join = changes(table), "; ".join if tests else listed
    spans, known = points(rows), rows["established"]
    words = {
        lever: f"{lever} {spans[lever]}, p = {row['p_adjusted']:.2g}, {row['seeds_told']:.0f}"
        if tests
        else f"{lever} ({spans[lever].split()[0]})"
        for lever, row in rows.iterrows()
    }
    there, open_yet = ([words[lever] for lever in rows.index[some]] for some in (known, ~known))
    return f"{join(there) if there else 'nothing'}." + f" Open: {join(open_yet)}." * bool(open_yet)


def points(table: pd.DataFrame) -> dict[str, str]:
    """Differences in points with their intervals, such as "+0.42 (+0.16 to +0.68)"."""
    values = (100 * table[["paired_difference", "low", "high"]]).map(partial(style.signed, decimals=2))
    return {lever: f"{at} ({low} to {high})" for lever, at, low, high in values.itertuples(name=None)}


def markdown(table: pd.DataFrame) -> str:
    """`differences` as a table for README."""
    seeds, spans = int(table["seeds"].iloc[0]), points(table)
    accuracies = {lever: evaluation.percent_of(row["mean"], row["sd"], seeds) for lever, row in table.iterrows()}
    lines = [[table.index[0], accuracies[table.index[0]], "", "", ""]]
    lines += [
        [lever, accuracies[lever], spans[lever], f"{row['p_adjusted']:.2g}", f"{row['seeds_told']:.0f}"]
        for lever, row in changes(table).iterrows()
    ]
    heads = ["Recipe", "Validation accuracy", "Points (95 %)", "p, corrected", f"Seeds of {seeds} (McNemar)"]
    return records.table(heads, lines)

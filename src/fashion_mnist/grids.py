"""What notebooks 03 and 04 have in common: a grid's study, its best with fresh seeds, and what the study saved."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy import stats

from fashion_mnist import evaluation, halving, models, records, tuning
from fashion_mnist.figures import style
from fashion_mnist.halving import Trial, Tuned
from fashion_mnist.networks import Network, clock
from fashion_mnist.study import Study

Seeds = Mapping[str, Sequence[Network]]  # by configuration


def curves(tuned: Tuned) -> tuple[list[list[float]], list[str], tuple[int, ...], list[str]]:
    """What `figures.curves.halving_curves` takes, in its order; trials of a search are called by their numbers."""
    names = [trial.name if tuned.space.is_grid else f"trial {trial.number}" for trial in tuned.trials]
    return [trial.val_accuracy for trial in tuned.trials], [trial.state for trial in tuned.trials], tuned.rungs, names


def cuts(tuned: Tuned) -> str:
    """Between which two configurations halving cuts, and how far they are apart; in words."""
    said = []
    for rung in tuned.rungs[:-1]:
        cut = [trial for trial in tuned.trials if trial.state == "pruned" and trial.epochs == rung]
        if cut:
            kept = [trial for trial in tuned.trials if trial.reached(rung) and trial not in cut]
            last = min(kept, key=lambda trial: trial.accuracy_after(rung))
            first = max(cut, key=lambda trial: trial.accuracy_after(rung))
            apart = 100 * (last.accuracy_after(rung) - first.accuracy_after(rung))
            how = f"{apart:.2f} points apart" if apart else "equal"
            said.append(f"after {rung} epoch{'s' * (rung > 1)} between {last.name} and {first.name}, {how}")
    return " and ".join(said)


def looks(trials: Sequence[Trial], curves: Mapping[str, Sequence[float]], rungs: Sequence[int]) -> pd.DataFrame:
    """Configurations that were trained out all the same: what halving saw, or would have seen, and how they end.

    Parameters
    ----------
    trials : sequence of Trial
    curves : mapping of configuration to sequence of float
        Validation accuracy after each epoch, to the end.
    rungs : sequence of int
        Epochs after which halving looks.

    Returns
    -------
    DataFrame
        A row a configuration, in the order of the trials: its factors, and its accuracy after the epochs of each rung.
    """
    rows = {
        trial.name: trial.params
        | {rung: trial.accuracy_after(rung) if trial.epochs >= rung else curves[trial.name][rung - 1] for rung in rungs}
        for trial in trials
        if trial.name in curves
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def rank_correlation(looks: pd.Series, ends: pd.Series) -> dict[str, float]:
    """Whether a look at configurations ranks them as their ends do (Spearman, 1904).

    Parameters
    ----------
    looks, ends : Series, shape (n,)
        Validation accuracies by configuration; those that only one of them has are left out.

    Returns
    -------
    dict of str to float
        ``correlation``, its 95 % bootstrap interval over configurations, ``low`` to ``high`` (10,000 resamples), and
        how many ``configurations`` it is of. NaN where there is none or all accuracies are the same; a resample of
        which that is true is left out.
    """
    both = pd.DataFrame({"look": looks, "end": ends}).dropna()
    if both.nunique().min() < 2:
        return {"correlation": np.nan, "low": np.nan, "high": np.nan, "configurations": len(both)}
    drawn = np.random.default_rng(0).integers(len(both), size=(10_000, len(both)))
    # The data themselves, then the resamples.
    ranks = stats.rankdata(both.to_numpy()[np.vstack([np.arange(len(both)), drawn])], axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt((ranks**2).sum(axis=1).prod(axis=1))
    found = ranks.prod(axis=2).sum(axis=1)[spread > 0] / spread[spread > 0]
    low, high = np.percentile(found, (2.5, 97.5))
    return {"correlation": float(found[0]), "low": float(low), "high": float(high), "configurations": len(both)}


def first_looks(tuned: Tuned, curves: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """How well looks after each epoch would rank a grid's configurations, and how well the study's first look did.

    Parameters
    ----------
    tuned : Tuned
    curves : mapping of configuration to sequence of float
        Validation accuracy after each epoch of trainings to the end; they need not be the study's own.

    Returns
    -------
    DataFrame
        `rank_correlation` with the ends of these trainings, a row a look, by ``look`` and ``epoch``: "within one
        training" after each epoch but the last, and "the study's own first look" after the first rung.
    """
    table, rung = pd.DataFrame.from_dict(curves, orient="index"), tuned.rungs[0]
    seen = {("within one training", epoch): table[epoch - 1] for epoch in range(1, table.shape[1])}
    own = {trial.name: trial.accuracy_after(rung) for trial in tuned.trials if trial.reached(rung)}
    seen["the study's own first look", rung] = pd.Series(own).reindex(table.index)
    ends = table.iloc[:, -1]
    rows = pd.DataFrame({look: rank_correlation(accuracies, ends) for look, accuracies in seen.items()}).T
    return rows.rename_axis(["look", "epoch"])


def look_lines(looks: pd.DataFrame) -> tuple[dict, dict]:
    """The lines of `first_looks` and their intervals, as `figures.curves.lines` takes them."""
    lines, intervals = {}, {}
    for name, rows in looks.groupby("look", sort=False):
        aside = -0.12 * (name == "the study's own first look")  # so that neither interval hides the other
        lines[name] = rows.index.get_level_values("epoch") + aside, rows["correlation"].to_numpy()
        intervals[name] = rows[["low", "high"]].to_numpy()
    return lines, intervals


def look_agreement(looks: pd.DataFrame) -> str:
    """What `first_looks` has of the first look, in words."""
    (own,) = looks.loc["the study's own first look"].to_dict("records")
    if np.isnan(own["correlation"]):
        return "The study's first looks and these ends share too few configurations for a rank correlation."
    between = f"{own['low']:.2f} to {own['high']:.2f}"
    within = looks.loc["within one training", "correlation"].iloc[0]
    return (
        f"The study's own first looks have a rank correlation of {own['correlation']:.2f} with these ends (95 % "
        f"interval {between}, a bootstrap over {own['configurations']:.0f} configurations); the first epochs of the "
        f"very trainings that end there have {within:.2f}."
    ).replace("-", "−")


def look_headline(looks: pd.DataFrame) -> dict[str, float]:
    """What the headline has of `first_looks`, where it is known: the study's own, and that within one training."""
    names = {
        "first_look_rank_correlation": "the study's own first look",
        "first_look_rank_correlation_within": "within one training",
    }
    found = {key: looks.loc[name, "correlation"].iloc[0] for key, name in names.items()}
    return {key: correlation for key, correlation in found.items() if np.isfinite(correlation)}


def replayed(
    trials: Sequence[Trial], curves: Mapping[str, Sequence[float]], rungs: Sequence[int], factor: int
) -> tuple[str, int]:
    """What halving with other rungs would have ended with, and what it would have cost.

    Parameters
    ----------
    trials : sequence of Trial
        Those that `curves` lacks are left out.
    curves : mapping of configuration to sequence of float
        As in `first_looks`.
    rungs, factor
        As in `halving.halving`.

    Returns
    -------
    winner, epochs : str, int
        A configuration, and how many epochs are trained in all.
    """
    whole = [
        dataclasses.replace(trial, state="complete", history={"val_accuracy": list(curves[trial.name])})
        for trial in trials
        if trial.name in curves
    ]
    epochs, alive = 0, len(whole)
    for before, rung in itertools.pairwise((0, *rungs)):
        epochs, alive = epochs + alive * (rung - before), max(1, alive // factor)
    return halving.replay_halving(whole, rungs, factor).name, epochs


def importances(factors: pd.DataFrame, accuracies: pd.Series) -> dict[str, float]:
    """Which share of the variation of accuracies each factor of a grid explains by itself (eta squared).

    In a whole grid the shares are those of an analysis of variance (Fisher, 1925): what they lack to one is
    interaction of factors and luck of trainings.

    Parameters
    ----------
    factors : DataFrame
        A row a configuration, a column a factor.
    accuracies : Series
        Of these configurations.

    Returns
    -------
    dict of str to float
        Most important first; all zero if all accuracies are the same.
    """
    whole, shares = ((accuracies - accuracies.mean()) ** 2).sum(), {}
    for name in factors:
        means = accuracies.groupby(factors[name]).transform("mean")
        shares[name] = float(((means - accuracies.mean()) ** 2).sum() / whole) if whole else 0.0
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def shares(factors: pd.DataFrame, first: pd.Series, ends: pd.Series) -> pd.DataFrame:
    """`importances` of each factor, a row each, for accuracies ``after the first look`` and ``in the end``."""
    return pd.DataFrame({"after the first look": importances(factors, first), "in the end": importances(factors, ends)})


def effects(factors: pd.DataFrame, first: pd.Series, ends: pd.Series) -> str:
    """What the shares of `importances` do not say: what they leave unexplained, and which way each factor acts; for
    accuracies at the first look and in the end, in words."""
    at_first, in_the_end = shares(factors, first, ends).sum()
    said = []
    for name, values in factors.items():
        low, high = values.min(), values.max()
        gains = [100 * (each[values == high].mean() - each[values == low].mean()) for each in (first, ends)]
        changes = " and ".join(f"{gain:+.1f}".replace("-", "−") for gain in gains)
        said.append(f"{changes} for `{name}` ({low} to {high})")
    return (
        f"Together the factors explain {at_first:.0%} after the first look and {in_the_end:.0%} in the end; the rest "
        "is how they act together, and luck. From a factor's lowest value to its highest mean accuracy changes by, in "
        f"points, after the first look and in the end: {', '.join(said)}."
    )


def fresh_seeds(run: Study, trial: Trial, name: str, kind: str) -> list[Network]:
    """Train a configuration to the end with seeds that its study did not use; `name`, `kind` as in `Study.train`."""
    plan, settings = trial.plan, {"name": name, "kind": kind, "first": run.seed + 1}
    return run.train_seeds(plan.architecture, plan.recipe, arguments=plan.arguments, **settings)


def scores(networks: Seeds, trials: Sequence[Trial], reported: Mapping[str, float]) -> pd.DataFrame:
    """Validation accuracy with fresh seeds beside what the study saw and what was reported elsewhere.

    Parameters
    ----------
    networks : mapping of configuration to sequence of Network
        Its seeds.
    trials : sequence of Trial
        Of the study, in the same order.
    reported : mapping of configuration to float

    Returns
    -------
    DataFrame
        A row a configuration, under its name: ``seeds``, ``mean``, ``std`` (0 for one seed), ``parameters``,
        ``multiply_adds`` (of an image), ``in_study`` after ``study_epochs``, and ``reported``, NaN if it was not.
    """
    rows = {}
    for (name, seeds), trial in zip(networks.items(), trials, strict=True):
        mean, std = evaluation.mean_and_std([one.validation_accuracy for one in seeds])
        card = seeds[0].card
        measured = {"seeds": len(seeds), "mean": mean, "std": std, "parameters": card["parameters"]}
        measured["multiply_adds"] = models.multiply_adds(models.build(card["architecture"], **card["arguments"]))
        seen = {"in_study": trial.accuracy, "study_epochs": trial.epochs, "reported": reported.get(name, np.nan)}
        rows[name] = measured | seen
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("configuration")


def shown(scores: pd.DataFrame) -> Styler:
    """A table of `scores` for a reader: words as heads, accuracies in per cent."""
    shares, counts = ["mean", "std", "in study", "reported"], ["parameters", "multiply adds"]
    table = scores.rename(columns=lambda name: name.replace("_", " "))
    return table.style.format("{:.2%}", subset=shares, na_rep="").format("{:,.0f}", subset=counts)


def with_epochs(networks: Seeds) -> pd.DataFrame:
    """Test accuracy of configurations for a figure: ``mean`` and ``std`` over seeds, and what lies a standard deviation
    below and above, under the name with the mean number of epochs."""
    rows = {}
    for name, seeds in networks.items():
        mean, std = evaluation.mean_and_std([one.card["scores"]["test"]["accuracy"] for one in seeds])
        label = f"{name} ({np.mean([one.card['epochs'] for one in seeds]):.0f} epochs)"
        rows[label] = {"mean": mean, "std": std, "low": mean - std, "high": mean + std}
    return pd.DataFrame.from_dict(rows, orient="index")


def repeated(name: str, starting: Sequence[Network], reported: float) -> str:
    """What a starting project reports of a configuration's validation accuracy, and what its recipe gives here."""
    again, held = [one.validation_accuracy for one in starting], len(starting[0].predictions["validation"])
    right = [round(accuracy * held) for accuracy in (np.mean(again), reported)]
    p_value = evaluation.two_proportions(right[0], held, right[1], held)["p_value"]
    return (
        f"The starting project reports {reported:.2%} for {name}. By its recipe, in bfloat16 where the processor has "
        f"it, that network names {evaluation.percent(again)} of the {held:,} images that the recipe holds out (seeds: "
        f"{len(again)}, {np.mean([one.card['epochs'] for one in starting]):.0f} epochs on average): "
        f"{'no difference is shown' if p_value >= 0.05 else 'not reproduced'} (two proportions, p = {p_value:.1g})."
    )


def verdict(labels: np.ndarray, networks: Seeds, first: str, second: str, split: str = "validation") -> str:
    """By how much one configuration is above another on the images of a split, with the 95 % interval over images of
    the mean over seeds, and whether McNemar's test tells them apart at every pair of their seeds; in words."""
    answers = {name: [one.predictions[split].argmax(axis=1) for one in networks[name]] for name in (first, second)}
    means = {name: np.mean([given == labels for given in some]) for name, some in answers.items()}
    better, other = sorted(means, key=means.get, reverse=True)
    p_values = [test["p_value"] for test in evaluation.by_pairs(labels, answers[better], answers[other])]
    right = [np.mean([given == labels for given in answers[name]], axis=0) for name in (better, other)]
    lead = evaluation.paired_difference(*right)
    low, high = (style.signed(100 * lead[end], 2) for end in ("low", "high"))
    span = f"95 %: {low} to {high}"
    told = sum(p_value < 0.05 for p_value in p_values)
    if told == len(p_values):
        says = f"at every pair of seeds (McNemar, largest p = {max(p_values):.2g}; {span})"
    elif told:
        says = f"but at {told} of {len(p_values)} pairs of seeds only (McNemar, p < 0.05; {span}): not established"
    else:
        says = f"a difference that is not shown (McNemar, smallest p = {min(p_values):.2g}; {span})"
    return f"{better} is {100 * (means[better] - means[other]):.2f} points above {other}, {says}"


def starting_procedure(run: Study, tuned: Tuned, stopped: Seeds) -> tuple[float, float]:
    """What the starting project's way of training costs, measured once in plain Keras; see `Study.keep`.

    Parameters
    ----------
    run : Study
    tuned : Tuned
        Of all configurations.
    stopped : mapping of configuration to sequence of Network
        Some of them, trained by that procedure until it stopped early.

    Returns
    -------
    epochs, seconds : float
        How many each takes on average, and how long an epoch of all takes.
    """
    chosen = run.data.subset(run.profile.tuning_images, None, None)

    def measure() -> dict[str, float]:
        rates = [tuning.plain_keras_rates(trial.plan, chosen.x_train, chosen.y_train) for trial in tuned.trials]
        return {"seconds": sum(len(chosen.y_train) / fast + len(chosen.y_val) / judged for fast, judged in rates)}

    found = run.keep("starting_rates", measure, of=[trial.name for trial in tuned.trials])
    # An epoch of a large network costs more, so it counts for more.
    epochs, cost = (
        [np.mean([one.card[key] for one in seeds]) for seeds in stopped.values()]
        for key in ("epochs", "seconds_per_epoch")
    )
    return float(np.average(epochs, weights=cost)), float(found["seconds"])


def headline(
    grid: Tuned,
    search: Tuned,
    best: pd.Series,
    found: pd.Series,
    cost: tuple[float, float],
    whole: Sequence[Trial] = (),
) -> dict:
    """Headline numbers of both notebooks.

    Parameters
    ----------
    grid, search : Tuned
    best, found : Series
        Rows of `scores`, of the grid's best and of the search's.
    cost : tuple of float
        As `starting_procedure` gives it.
    whole : sequence of Trial
        The grid, trained out: what an epoch of each takes once it runs. Without them the study says so, in which a
        first epoch includes the start.

    Returns
    -------
    dict of str to float
        ``saving`` is what that procedure takes to what the study took. It is the product of ``saving_by_pruning``
        (all trained out, by this study's recipe), ``saving_by_schedule`` (whose whole trainings have another number of
        epochs) and ``saving_by_engine`` (an epoch is faster).
    """
    epochs, seconds = cost
    each = {trial.name: trial.seconds / max(1, trial.epochs) for trial in grid.trials}
    timed = {trial.name: float(np.median(trial.history["seconds"])) for trial in whole if trial.state == "complete"}
    if each.keys() <= timed.keys():  # all or none, so that no two machines mix
        each = {name: timed[name] for name in each}
    by_pruning = grid.rungs[-1] * sum(each.values()) / sum(trial.epochs * each[trial.name] for trial in grid.trials)
    by_schedule = epochs / grid.rungs[-1]
    return {
        "configurations": len(grid.trials),
        "best_validation_accuracy_mean": best["mean"],
        "best_validation_accuracy_std": best["std"],
        "search_validation_accuracy_mean": found["mean"],
        "search_validation_accuracy_std": found["std"],
        "study_seconds": round(grid.seconds, 1),
        "study_epochs": grid.epochs,
        "search_seconds": round(search.seconds, 1),
        "search_configurations": len(search.trials),
        "full_grid_seconds": round(epochs * seconds, 1),
        "full_grid_epochs_each": epochs,
        "saving": epochs * seconds / grid.seconds,
        "saving_by_pruning": by_pruning,
        "saving_by_schedule": by_schedule,
        "saving_by_engine": epochs * seconds / grid.seconds / by_pruning / by_schedule,
    }


def saving(grid: Tuned, headline: Mapping[str, float]) -> str:
    """The saving and its factors, in words; both as in `headline`."""
    whole = len(grid.trials) * grid.rungs[-1]
    pruned = f"{grid.epochs} epochs instead of {whole}"
    pruned += "; those that go on cost more" * (headline["saving_by_pruning"] < whole / grid.epochs)
    return (
        f"All {len(grid.trials)} would take {headline['full_grid_epochs_each']:.1f} epochs each, "
        f"{headline['full_grid_seconds'] / 3600:.1f} hours in all, {headline['saving']:.1f} times the study's time: "
        f"{headline['saving_by_pruning']:.2f} by pruning ({pruned}) "
        f"× {headline['saving_by_schedule']:.2f} by their length × {headline['saving_by_engine']:.2f} by speed."
    )


def answer(
    kind: str,
    grid: Tuned,
    search: Tuned,
    best: pd.Series,
    found: pd.Series,
    headline: Mapping,
    verdict: str,
    given_up: int = 0,
    trained_out: str = "",
) -> str:
    """What both studies found; `kind` in the plural, `best`, `found` and the dict as in `headline`.

    `verdict` compares the two on test images; `given_up` counts the searches before this one that ended nowhere;
    `trained_out` is what became of the others of the grid.
    """
    ours, its = (evaluation.percent_of(*row[["mean", "std", "seeds"]]) for row in (best, found))
    more, work = found["parameters"] / best["parameters"], found["multiply_adds"] / best["multiply_adds"]
    return (
        f"Of {len(grid.trials)} {kind} halving chooses **{grid.best.name}** in {clock(grid.seconds)}"
        f"{'; ' * bool(trained_out)}{trained_out}. With fresh seeds ({best['seeds']:.0f}) {grid.best.name} names "
        f"{ours} of the validation images correctly. Pruning alone saves a factor of "
        f"{headline['saving_by_pruning']:.1f}, with schedule and engine about {headline['saving']:.0f} against the "
        f"starting project's procedure, by an estimate. A search of {clock(search.seconds)} in another space"
        f"{f', after {given_up} that were given up,' if given_up else ''} finds a network with {its}, for "
        f"{work:.1f} times the multiply-adds and {more:.1f} times the parameters of {grid.best.name}. On the test "
        f"images, which chose neither, {verdict}."
    )


def readme(grid: str, best: pd.Series, found: pd.Series, headline: Mapping[str, float]) -> str:
    """Markdown table of one row, for README; `best` and `found` as in `headline`."""
    accuracies = (evaluation.percent_of(*row[["mean", "std", "seeds"]]) for row in (best, found))
    factors = " × ".join(f"{headline[f'saving_by_{factor}']:.2f}" for factor in ("pruning", "schedule", "engine"))
    saving = f"{headline['saving']:.1f}-fold = {factors}"
    heads = ["Grid", "Configurations", "Chosen from the grid", "Best of the search", "Time of the grid's study"]
    cells = [grid, headline["configurations"], *accuracies, clock(headline["study_seconds"]), saving]
    return records.table([*heads, "Saving (pruning × schedule × engine)"], [cells])

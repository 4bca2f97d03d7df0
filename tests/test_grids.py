"""grids.py: what 03 and 04 say of a study follows from its trials, its winners' cards and one measurement."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import garments

from fashion_mnist import grids  # isort: skip  first, so that TensorFlow starts silently

from fashion_mnist import data, evaluation, profiles, records, study
from fashion_mnist.halving import Tuned
from fashion_mnist.networks import Network
from fashion_mnist.spaces import builder_grid

SPACE = builder_grid("mlp_grid", "mlp", {"dropout": (0.0, 0.5), "hidden": ((4,), (8,))})
COST = 4.5, 40.0  # epochs each, seconds an epoch of all


def tuned_of(curves):
    """A study whose trials have these curves, each 5 s an epoch; those of three epochs are trained out."""
    trials = [
        {"number": number, **params, "state": "complete" if len(curve) == 3 else "pruned", "error": None}
        | {"val_accuracy": curve, "pieces": [5.0] * len(curve)}
        for number, (params, curve) in enumerate(zip(SPACE.configurations(), curves, strict=False))
    ]
    return Tuned.from_rows(SPACE, trials, (1, 3), 3, seconds=30.0)


@pytest.fixture(scope="module")
def tuned():
    """Four configurations of which one is trained out, for three epochs."""
    return tuned_of([[0.5], [0.6, 0.7, 0.8], [0.4], [0.3]])


@pytest.fixture
def run(tmp_path):
    images, labels = garments(64, 0)
    arrays = data.Dataset(*[images, labels] * 3, "arrays of a test", "unverified", "0123456789abcdef")
    return study.Study("03_test", profiles.named("smoke"), 0, arrays, tmp_path, tmp_path)


def network(folder, name, accuracy, right):
    """A network as `grids` sees it: its card, and predictions of ten validation images, so many of them right, and of
    ten test images, so many of them wrong."""
    shifts = {"validation": np.arange(10) >= right, "test": np.arange(10) < right}
    answers = {split: 0.01 + 0.9 * np.eye(10)[(np.arange(10) + shift) % 10] for split, shift in shifts.items()}
    records.write_predictions(folder / "results" / "predictions" / f"{name}.npz", answers)
    card = {
        "scores": {"validation": {"accuracy": accuracy}, "test": {"accuracy": 1 - right / 10}},
        "parameters": 1234,
        "epochs": 7,
        "architecture": "mlp",
        "arguments": {"hidden": (4,)},
    }
    card["seconds_per_epoch"] = 5.0
    return Network(name, card, folder)


def test_curves_of_a_study_are_drawn_under_their_names(tuned, study_style):
    from fashion_mnist import figures

    figure = figures.curves.halving_curves(*grids.curves(tuned))
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert named == ["0.0-(8,): 80.00%", "best pruned, 0.0-(4,): 50.00% after 1 epoch"]


def test_it_is_said_where_halving_cuts():
    curves = [[0.5, 0.6, 0.7], [0.45], [0.3], [0.2]]
    first, second = (trial.name for trial in tuned_of(curves).trials[:2])
    assert grids.cuts(tuned_of(curves)) == f"after 1 epoch between {first} and {second}, 5.00 points apart"
    assert grids.cuts(tuned_of(curves[:1])) == "", "nothing was cut"
    tie = tuned_of([[0.5, 0.6, 0.7], [0.5], [0.3], [0.2]])
    assert grids.cuts(tie) == f"after 1 epoch between {first} and {second}, equal"


def test_what_was_cut_is_looked_at_where_halving_looks(tuned):
    cut = [trial.name for trial in tuned.trials if trial.state == "pruned"]
    curves = {cut[1]: [0.1, 0.6, 0.9], cut[0]: [0.5, 0.5, 0.6]}
    table = grids.looks(tuned.trials, curves, tuned.rungs)
    assert list(table.index) == cut[:2] and list(table.columns) == [*SPACE.parameters, 1, 3]
    seen = {trial.name: trial.accuracy_after(1) for trial in tuned.trials}
    assert table.loc[cut[1], [1, 3]].tolist() == [seen[cut[1]], 0.9] != [0.1, 0.9], "what it saw, not what came after"


RANKED = pd.Series({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4})


def test_looks_that_rank_as_the_ends_do_correlate_whatever_their_distances():
    shuffled = pd.Series({"d": 0.9, "c": 0.6, "b": 0.59, "a": 0.0, "of no end": 0.3})
    assert grids.rank_correlation(shuffled, RANKED) == {"correlation": 1, "low": 1, "high": 1, "configurations": 4}
    swapped = grids.rank_correlation(pd.Series({"a": 0.2, "b": 0.1, "c": 0.3, "d": 0.4}), RANKED)
    assert swapped["correlation"] == pytest.approx(0.8), "1 - 6 * 2 / (4 * 15)"
    assert swapped["low"] < 0 < 0.8 < swapped["high"], "of four configurations little can be said"


def test_looks_that_rank_nothing_have_no_correlation():
    for looks in (0 * RANKED, pd.Series({"of no end": 0.3})):
        assert np.isnan([grids.rank_correlation(looks, RANKED)[key] for key in ("correlation", "low", "high")]).all()


def test_the_studys_first_look_stands_beside_those_of_the_trainings_that_end_there(tuned):
    names = [trial.name for trial in tuned.trials]  # whose first looks are 0.5, 0.6, 0.4 and 0.3
    ends = [0.7, 0.8, 0.6, 0.5]
    curves = {name: [1 - end, end, end] for name, end in zip(names, ends, strict=True)}
    table = grids.first_looks(tuned, curves)
    own, within = "the study's own first look", "within one training"
    assert list(table.index) == [(within, 1), (within, 2), (own, 1)], "the last epoch is its own end"
    assert table["correlation"].tolist() == pytest.approx([-1, 1, 1])
    found = grids.look_headline(table)
    assert found == pytest.approx({"first_look_rank_correlation": 1, "first_look_rank_correlation_within": -1})
    lines, intervals = grids.look_lines(table)
    assert {name: y.tolist() for name, (_, y) in lines.items()} == {within: pytest.approx([-1, 1]), own: [1]}
    assert intervals[own].tolist() == [pytest.approx([1, 1])]
    assert grids.look_agreement(table) == (
        "The study's own first looks have a rank correlation of 1.00 with these ends (95 % interval 1.00 to 1.00, a "
        "bootstrap over 4 configurations); the first epochs of the very trainings that end there have −1.00."
    )
    others = grids.first_looks(tuned, {f"not {name}": curve for name, curve in curves.items()})
    assert "too few configurations" in grids.look_agreement(others)


def test_a_later_first_look_may_end_with_another_configuration_and_costs_more(tuned):
    first, second, *others = (trial.name for trial in tuned.trials)
    curves = {first: [0.5, 0.6, 0.7], second: [0.4, 0.7, 0.9]} | {name: [0.1] * 3 for name in others}
    assert grids.replayed(tuned.trials, curves, (1, 3), 3) == (first, 4 + 2)
    assert grids.replayed(tuned.trials, curves, (2, 3), 3) == (second, 8 + 1)
    del curves[second]
    assert grids.replayed(tuned.trials, curves, (3,), 3) == (first, 9), "what was not trained out is left out"


def test_the_factor_that_decides_is_the_important_one():
    factors = pd.DataFrame([{"units": units, "rate": rate} for units in (1, 2, 3) for rate in (0.1, 0.2, 0.3)])
    accuracies = factors["units"].map({1: 0.2, 2: 0.5, 3: 0.9}) + factors["rate"]
    found = grids.importances(factors, accuracies)
    assert list(found) == ["units", "rate"]
    assert found["units"] == pytest.approx(0.74 / 0.80)  # sums of squares: 0.74 by units, 0.06 by rate, nothing else
    assert sum(found.values()) == pytest.approx(1)


def test_what_the_shares_do_not_say_is_said():
    factors = pd.DataFrame({"units": [1, 1, 2, 2], "rate": [0.1, 0.2, 0.1, 0.2]})
    first, ends = pd.Series([0.1, 0.3, 0.3, 0.7]), pd.Series([0.8, 0.9, 0.7, 0.8])
    # Sums of squares at first: 0.09 by either, 0.01 by both together; in the end 0.01 by either.
    table = grids.shares(factors, first, ends)
    assert table["after the first look"].to_dict() == pytest.approx({"units": 0.09 / 0.19, "rate": 0.09 / 0.19})
    assert table["in the end"].to_dict() == pytest.approx({"units": 0.5, "rate": 0.5})
    assert grids.effects(factors, first, ends) == (
        "Together the factors explain 95% after the first look and 100% in the end; the rest is how they act together, "
        "and luck. From a factor's lowest value to its highest mean accuracy changes by, in points, after the first "
        "look and in the end: +30.0 and −10.0 for `units` (1 to 2), +30.0 and +10.0 for `rate` (0.1 to 0.2)."
    )


def test_nothing_is_important_where_all_are_equally_good():
    factors = pd.DataFrame({"units": [1, 1, 2, 2], "rate": [0.1, 0.2, 0.1, 0.2]})
    assert grids.importances(factors, pd.Series([0.1] * 4)) == {"units": 0.0, "rate": 0.0}


def test_fresh_seeds_are_none_that_the_study_used(run, tuned):
    trained = grids.fresh_seeds(run, tuned.best, "mlp_grid_top1", "MLP (8,), grid")
    assert [one.name for one in trained] == ["mlp_grid_top1_seed1"] and trained[0].has_weights
    card = trained[0].card
    assert card["seed"] == 1 and card["kind"] == "MLP (8,), grid" and card["recipe"]["epochs"] == 3
    assert card["arguments"] == {"hidden": [8], "dropout": 0.0}


def test_scores_are_means_over_seeds_beside_what_the_study_saw(tmp_path, tuned):
    seeds = [network(tmp_path, f"one_seed{seed}", accuracy, 5) for seed, accuracy in ((1, 0.70), (2, 0.74))]
    alone = [network(tmp_path, "two_seed1", 0.6, 5)]
    table = grids.scores({"one": seeds, "two": alone}, tuned.top(2), {"two": 0.55})
    assert list(table.index) == ["one", "two"]
    assert table["mean"].tolist() == pytest.approx([0.72, 0.6])
    assert table["std"].tolist() == pytest.approx([evaluation.mean_and_std([0.70, 0.74])[1], 0])
    assert table["in_study"].tolist() == [0.8, 0.5] and table["study_epochs"].tolist() == [3, 1]
    assert np.isnan(table["reported"]["one"]) and table["reported"]["two"] == 0.55
    assert table["parameters"].tolist() == [1234, 1234] and table["seeds"].tolist() == [2, 1]
    assert table["multiply_adds"].tolist() == [784 * 4 + 4 * 10] * 2


def test_winners_are_drawn_by_their_test_accuracy(tmp_path):
    seeds = [network(tmp_path, f"one_seed{seed}", 0.9, right) for seed, right in ((1, 2), (2, 4))]
    table = grids.with_epochs({"one": seeds})
    (row,), (mean, std) = table.to_dict("records"), evaluation.mean_and_std([0.8, 0.6])
    assert list(table.index) == ["one (7 epochs)"] and (row["mean"], row["std"]) == (mean, std)
    assert (row["low"], row["high"]) == (mean - std, mean + std)


def test_a_difference_is_called_one_where_it_holds_at_every_pair_of_seeds(tmp_path):
    labels = np.arange(10)
    good = [network(tmp_path, f"good_seed{seed}", 0.9, right) for seed, right in ((1, 10), (2, 9))]
    poor = [network(tmp_path, f"poor_seed{seed}", 0.1, right) for seed, right in ((1, 1), (2, 0))]
    middle = [network(tmp_path, f"middle_seed{seed}", 0.8, right) for seed, right in ((1, 1), (2, 9))]
    networks = {"good": good, "poor": poor, "middle": middle}
    # The closest pair differs on eight images, all one way: p = 2 / 2 ** 8.
    expected = (
        "good is 90.00 points above poor, at every pair of seeds (McNemar, largest p = 0.0078; 95 %: +74.92 to +105.08)"
    )
    assert (
        grids.verdict(labels, networks, "good", "poor") == expected == grids.verdict(labels, networks, "poor", "good")
    )
    told = grids.verdict(labels, networks, "good", "middle")
    assert told.startswith("good is 45.00 points above middle, but at 2 of 4 pairs of seeds only (McNemar, p < 0.05; ")
    assert told.endswith("): not established")
    # One pair differs the right way round, one the other way, two not at all.
    torn = {"torn": [good[0], network(tmp_path, "torn_seed2", 0.9, 1)], "flat": [good[0], poor[1]]}
    assert "but at 1 of 4 pairs of seeds only" in grids.verdict(labels, torn, "torn", "flat")
    level = {"good": good[:1], "other": [network(tmp_path, "other_seed1", 0.8, 9)]}
    told = grids.verdict(labels, level, "good", "other")
    assert told.startswith(
        "good is 10.00 points above other, a difference that is not shown (McNemar, smallest p = 1; 95 %: −"
    )
    assert grids.verdict(labels, networks, "good", "poor", "test").startswith("poor is 90.00 points above good")


def test_the_starting_procedure_is_measured_once_on_the_images_of_the_study(run, tuned, monkeypatch):
    first, last = tuned.trials[0].name, tuned.trials[3].name
    stopped = {first: [network(run.out, "a", 0.5, 5)], last: [network(run.out, f"b{seed}", 0.5, 5) for seed in (1, 2)]}
    stopped[last][1].card["epochs"] = 15
    run.profile.tuning_images = 64
    epochs, seconds = grids.starting_procedure(run, tuned, stopped)
    assert epochs == (7 + 11) / 2 and seconds > 0, "an epoch of either takes 5 s"
    run = study.Study("03_test", run.profile, 0, run.data, run.root, run.out)
    monkeypatch.setattr(grids.tuning, "plain_keras_rates", lambda *_: pytest.fail("measured again"))
    assert grids.starting_procedure(run, tuned, stopped) == (epochs, seconds)


def test_the_saving_is_the_product_of_its_factors(tuned):
    row = pd.Series({"mean": 0.81234, "std": 0.00126, "seeds": 3})
    headline = grids.headline(tuned, tuned, row, row, COST)
    assert headline["saving"] == 4.5 * 40 / 30
    assert headline["saving_by_pruning"] == 2.0, "four trainings of three epochs of 5 s against 30 s"
    assert headline["saving_by_schedule"] == 1.5
    assert headline["saving_by_engine"] == 2.0, "forty seconds for an epoch of all against twenty"
    assert headline["full_grid_seconds"] == 180 and headline["study_epochs"] == 6
    told = grids.saving(tuned, headline)
    assert "2.00 by pruning (6 epochs instead of 12) ×" in told
    assert told.endswith("× 1.50 by their length × 2.00 by speed.")


def test_pruning_saves_less_where_those_that_go_on_take_longer(tuned):
    """By epochs of trainings to the end, the winner's six times as long: 3 · 9 s against 3 · 6 s + 3 · 1 s."""
    ended = tuned_of([[0.5] * 3] * 4).trials
    whole = [dataclasses.replace(trial, history={"seconds": [9.0, 1.0, 1.0]}) for trial in ended]
    whole[tuned.best.number].history["seconds"] = [9.0, 6.0, 6.0]
    row = pd.Series({"mean": 0.81234, "std": 0.00126, "seeds": 3})
    headline = grids.headline(tuned, tuned, row, row, COST, whole)
    assert headline["saving"] == 4.5 * 40 / 30, "what both procedures took is not estimated anew"
    assert headline["saving_by_pruning"] == pytest.approx(27 / 21)
    assert "(6 epochs instead of 12; those that go on cost more)" in grids.saving(tuned, headline)
    factors = (headline[f"saving_by_{factor}"] for factor in ("pruning", "schedule", "engine"))
    assert np.prod(list(factors)) == pytest.approx(headline["saving"])
    part = grids.headline(tuned, tuned, row, row, COST, whole[1:])
    assert part["saving_by_pruning"] == 2.0, "of some only, the study's own seconds of all"


def test_the_answer_compares_sizes_and_counts_what_was_given_up(tuned):
    best = pd.Series({"mean": 0.8123, "std": 0.0013, "seeds": 3.0, "parameters": 1000.0, "multiply_adds": 2e6})
    found = pd.Series({"mean": 0.9, "std": 0.0, "seeds": 1.0, "parameters": 700.0, "multiply_adds": 5e6})
    headline = grids.headline(tuned, tuned, best, found, COST)
    told = grids.answer("networks", tuned, tuned, best, found, headline, "the one is above the other")
    assert told == (
        "Of 4 networks halving chooses **0.0-(8,)** in 30.0 s. With fresh seeds (3) 0.0-(8,) names 81.23 ± 0.13 % of "
        "the validation images correctly. Pruning alone saves a factor of 2.0, with schedule and engine about 6 "
        "against the starting project's procedure, by an estimate. A search of 30.0 s in another space "
        "finds a network with 90.00 %, for 2.5 times the multiply-adds and 0.7 times the parameters of 0.0-(8,). On "
        "the test images, which chose neither, the one is above the other."
    )
    told = grids.answer("networks", tuned, tuned, best, found, headline, "the one is above the other", given_up=5)
    assert "of 30.0 s in another space, after 5 that were given up, finds a network" in told
    told = grids.answer("networks", tuned, tuned, best, found, headline, "", trained_out="trained out, x ends best")
    assert told.startswith("Of 4 networks halving chooses **0.0-(8,)** in 30.0 s; trained out, x ends best. With fresh")


def test_a_reader_sees_scores_in_per_cent(tmp_path, tuned):
    alone = [network(tmp_path, "one_seed1", 0.6, 5)]
    page = grids.shown(grids.scores({"one": alone}, tuned.top(1), {})).to_html()
    assert "60.00%" in page and "in study" in page and "in_study" not in page and "nan" not in page


def test_readme_shows_a_table_of_one_row(tuned):
    row = pd.Series({"mean": 0.81234, "std": 0.00126, "seeds": 3})
    table = grids.readme("MLP", row, row, grids.headline(tuned, tuned, row, row, COST)).splitlines()
    assert table[2] == "| MLP | 4 | 81.23 ± 0.13 % | 81.23 ± 0.13 % | 30.0 s | 6.0-fold = 2.00 × 1.50 × 2.00 |"
    assert [line.count("|") for line in table] == [7, 7, 7]

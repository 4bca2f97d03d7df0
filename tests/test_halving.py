"""Successive halving promotes what was better at a rung, and a study read from its record is the study."""

import json

import numpy as np
import pytest

from fashion_mnist import halving  # isort: skip  first, so that TensorFlow starts silently

from fashion_mnist.halving import Trial, Tuned
from fashion_mnist.spaces import Float, Plan, Space
from fashion_mnist.training import Recipe

# ---------------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((9,), (1, 3, 9)),
        ((20,), (2, 7, 20)),
        ((20, 3), (7, 20)),
        ((8, 1, 2), (1, 2, 4, 8)),
        ((5, 5), (5,)),
        ((1,), (1,)),
    ],
)
def test_rungs(arguments, expected):
    assert halving.rungs(*arguments) == expected


def test_a_rung_promotes_the_better_part():
    accuracies = {0: 0.3, 1: 0.9, 2: 0.5, 3: 0.7, 4: 0.1, 5: 0.6}
    assert halving.promoted(accuracies, 2) == [1, 3, 5]
    assert halving.promoted(accuracies, 3) == [1, 3]
    assert halving.promoted(accuracies, 4) == [1]
    assert halving.promoted({7: 0.2}, 3) == [7], "the last one is not lost"
    assert halving.promoted({4: 0.5, 2: 0.5, 9: 0.5}, 3) == [2], "among equals the first"
    assert halving.promoted({}, 3) == []


def test_earlier_cohorts_set_the_bar():
    earlier = {0: 0.8, 1: 0.7, 2: 0.1}
    assert halving.promoted({3: 0.6, 4: 0.5, 5: 0.4}, 3, earlier) == [], "two of six go on, and both have gone"
    assert halving.promoted({3: 0.75, 4: 0.9, 5: 0.4}, 3, earlier) == [4]


def test_halving_by_hand():
    """Eight curves, rungs at 1, 2 and 4 epochs, one failure after the first rung."""
    curves = {
        0: [0.10, 0.80, 0.90, 0.99],  # the best in the end, but slow: the price of looking early
        1: [0.50, 0.55, 0.56, 0.57],
        2: [0.40, 0.60, 0.70, 0.80],
        3: [0.20, 0.30, 0.40, 0.50],
        4: [0.60, 0.61, 0.62, 0.63],
        5: [0.30, 0.31, 0.32, 0.33],
        6: [0.55, 0.56, 0.57, 0.58],
        7: [0.05, 0.06, 0.07, 0.08],
    }
    asked = []

    def train(numbers, epochs):
        asked.append((epochs, numbers))
        return {number: curves[number][epochs - 1] for number in numbers if (number, epochs) != (1, 2)}

    reached = {}
    steps = list(halving.halving(range(8), (1, 2, 4), 2, train, reached))
    assert asked == [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (2, [1, 2, 4, 6]), (4, [4])]
    assert steps == [(1, [1, 2, 4, 6], [0, 3, 5, 7]), (2, [4], [2, 6]), (4, [4], [])]
    assert reached[2] == {2: 0.60, 4: 0.61, 6: 0.56}


def test_the_longest_is_trained_first():
    assert halving.longest_first({0: 1.0, 1: 3.0, 2: 0.0, 3: 3.0}) == [1, 3, 0, 2]


# ------------------------------------------------------------------------------------------------------------- trials


def plan(values, keep="last"):
    return Plan("mlp", {"hidden": values.get("units", 4)}, Recipe(epochs=9, batch_size=64, keep=keep))


def space(keep="last", **parameters):
    return Space("mlp", parameters, lambda values: plan(values, keep))


def trial(number, params, accuracies, state="complete", keep="last"):
    history = {"val_accuracy": accuracies, "val_loss": [1 - value for value in accuracies]}
    return Trial(number, params, plan(params, keep), state, None, history, [1.0])


def test_the_accuracy_of_a_trial_is_that_of_the_weights_it_keeps():
    assert trial(0, {}, [0.5, 0.9, 0.8]).accuracy == 0.8
    kept = trial(0, {}, [0.5, 0.9, 0.8], keep="best")
    assert kept.accuracy == 0.9
    assert kept.accuracy_after(1) == 0.5
    assert trial(0, {}, [], "failed").accuracy is None


def test_the_best_are_among_those_trained_out():
    trials = [
        trial(0, {}, [0.5, 0.6, 0.7], "complete"),
        trial(1, {}, [0.9], "pruned"),
        trial(2, {}, [0.5, 0.8], "pruned"),
        trial(3, {}, [0.5, 0.6, 0.8], "complete"),
        Trial(4, {}, plan({}), "failed", "ValueError: no", {}, []),
    ]
    tuned = Tuned("t", space(units=(1,)), (1, 2, 3), 2, trials, 1.0)
    assert [found.number for found in tuned.top(9)] == [3, 0, 2, 1]
    assert tuned.best.number == 3
    assert [(row["trials"], row["cut"]) for row in tuned.schedule()] == [(4, 1), (3, 1), (2, 0)]
    stopped = trial(5, {}, [0.5, 0.9], "complete")  # by its recipe's patience
    assert Tuned("t", tuned.space, tuned.rungs, 2, [*trials, stopped], 1.0).best is stopped


def test_halving_replayed_on_whole_trainings():
    curves = [[0.1, 0.9], [0.5, 0.6], [0.4, 0.8], [0.6, 0.7]]
    trials = [trial(number, {}, curve) for number, curve in enumerate(curves)]
    assert halving.replay_halving(trials, (1, 2), 2).number == 3, "of 1 and 3, the better at the first rung"
    assert halving.replay_halving(trials, (2,), 2).number == 0, "nothing is pruned"
    cut = [*trials, trial(4, {}, [0.2], "pruned")]
    with pytest.raises(ValueError, match=r"Trials \[4\] of 5 are not complete; tune with min_epochs=epochs"):
        halving.replay_halving(cut, (1, 2), 2)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_study_read_from_its_record_is_the_study(keep):
    """Through JSON, with every kind of parameter and state; seconds are rounded once."""
    kinds = space(keep, units=((4, 8), (16,)), mode=("a", "b"), flag=(True, False), rate=Float(0, 1))
    random = np.random.default_rng(0)

    def params(units):
        return {"units": units, "mode": "b", "flag": False, "rate": 0.1 + 0.2}

    def history(epochs):
        keys = ("loss", "val_loss", "val_accuracy", "seconds")
        return {key: list(map(float, random.random(epochs))) for key in keys}

    outcomes = [("complete", None, history(9)), ("pruned", None, history(3)), ("failed", "ValueError: no", {})]
    trials = [
        Trial(number, values, plan(values, keep), state, error, found, list(map(float, random.random(2))))
        for number, (state, error, found) in enumerate(outcomes)
        for values in [params(((4, 8), (16,))[number % 2])]
    ]
    tuned = Tuned("mlp", kinds, (1, 3, 9), 3, trials, 12.5)
    read = Tuned.from_rows(kinds, json.loads(json.dumps(tuned.rows())), [1, 3, 9], 3, 12.5)
    assert read.rows() == tuned.rows()
    assert (read.name, read.space, read.rungs, read.factor, read.seconds) == ("mlp", kinds, (1, 3, 9), 3, 12.5)
    for again, before in zip(read.trials, tuned.trials, strict=True):
        assert (again.params, again.plan, again.accuracy) == (before.params, before.plan, before.accuracy)
        for rung in (1, 3):
            if before.epochs >= rung:
                assert again.accuracy_after(rung) == before.accuracy_after(rung)
    assert read.schedule() == tuned.schedule()
    assert read.best.number == tuned.best.number == 0
    assert Tuned.from_rows(kinds, read.rows(), (1, 3, 9), 3, 12.5) == read, "what was rounded stays as it is"


def test_the_plan_of_a_trial_read_has_the_study_s_epochs():
    rows = [{"number": 0, "units": 4, "state": "complete", "error": None, "val_accuracy": [0.5], "pieces": [1.0]}]
    read = Tuned.from_rows(space(units=(4,)), rows, (1, 5), 5, 1.0)
    assert read.best.plan.recipe.epochs == 5
    assert (read.best.accuracy, read.best.seconds) == (0.5, 1.0)


@pytest.mark.parametrize("values", [{"units": 5}, {}], ids=["another value", "no value"])
def test_a_trial_of_another_space_is_refused(values):
    row = {"number": 0, **values, "state": "complete", "error": None, "val_accuracy": [0.5], "pieces": [1.0]}
    with pytest.raises(ValueError, match=r"A trial has units=.*, which space 'mlp' lacks"):
        Tuned.from_rows(space(units=(4, 8)), [row], (1,), 2, 1.0)

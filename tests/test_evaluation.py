"""Metrics agree with hand-worked cases, published values and scikit-learn."""

import subprocess
import sys
import zipfile
from math import log

import numpy as np
import pandas as pd
import pytest
from made_files import refused_cheaply
from scipy import special, stats
from sklearn import metrics

from fashion_mnist import evaluation, robustness

# Four images of three classes: the first three right, an image of class 2 taken for class 0.
LABELS = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.0, 0.5, 0.5 + 1e-9], [0.6, 0.2, 0.2]])
NAMES = ("shirt", "bag", "boot")


@pytest.fixture
def noisy():
    """Predictions that are right more often than not, of classes that are not equally frequent."""
    rng = np.random.default_rng(0)
    labels = rng.choice(10, 500, p=np.arange(1, 11) / 55)
    logits = rng.normal(size=(500, 10))
    logits[np.arange(500), labels] += 1.5
    probabilities = np.exp(logits)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def one_hot(labels, classes=10):
    return np.eye(classes)[labels]


def calibrated(count, seed=0, classes=10):
    """Labels drawn from the very probabilities that are given for them."""
    rng = np.random.default_rng(seed)
    probabilities = special.softmax(rng.normal(scale=2, size=(count, classes)), axis=1)
    labels = (probabilities.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return np.minimum(labels, classes - 1), probabilities


def test_metrics_import_no_framework():
    code = "import sys; from fashion_mnist import evaluation, robustness; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "cleanlab", "matplotlib"} & set(modules)


# ------------------------------------------------------------------------------------------------------------ evaluate


def test_evaluate_by_hand():
    summary = evaluation.evaluate(LABELS, PROBABILITIES)
    assert summary["accuracy"] == 0.75
    assert (summary["accuracy_low"], summary["accuracy_high"]) == evaluation.wilson_interval(3, 4)
    assert summary["loss"] == pytest.approx(-(log(0.5) + log(0.8) + log(0.5) + log(0.2)) / 4)
    # Class 0: precision 1/2, recall 1; class 1: both 1; class 2: precision 1, recall 1/2.
    assert summary["precision_macro"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert summary["recall_macro"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert summary["f1_macro"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert summary["precision_weighted"] == pytest.approx((1 / 2 + 1 + 2 * 1) / 4)
    assert summary["recall_weighted"] == pytest.approx((1 + 1 + 2 * 1 / 2) / 4)
    assert summary["f1_weighted"] == pytest.approx((2 / 3 + 1 + 2 * 2 / 3) / 4)


def test_evaluate_agrees_with_scikit_learn(noisy):
    labels, probabilities = noisy
    predicted = probabilities.argmax(axis=1)
    summary = evaluation.evaluate(labels, probabilities)
    assert summary["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert summary["loss"] == pytest.approx(metrics.log_loss(labels, probabilities))
    assert summary["f1_macro"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert summary["precision_weighted"] == pytest.approx(
        metrics.precision_score(labels, predicted, average="weighted")
    )
    assert summary["accuracy_low"] < summary["accuracy"] < summary["accuracy_high"]


def test_perfect_classifier():
    labels = np.arange(100) % 10
    summary = evaluation.evaluate(labels, one_hot(labels))
    assert summary.pop("loss") == pytest.approx(0, abs=1e-12)
    assert summary.pop("accuracy_low") == pytest.approx(100 / (100 + 1.959964**2))  # Wilson's bound where all are right
    assert set(summary.values()) == {1.0}


def test_constant_classifier():
    labels = np.arange(100) % 10
    summary = evaluation.evaluate(labels, one_hot(np.full(100, 3)) * 0.91 + 0.009)
    assert summary["accuracy"] == summary["recall_macro"] == pytest.approx(0.1)
    assert summary["precision_macro"] == pytest.approx(0.1 / 10)  # nine classes were never predicted
    assert summary["f1_macro"] == pytest.approx(2 * 0.1 / 1.1 / 10)


def test_classifier_without_a_clue_has_the_loss_of_a_uniform_guess():
    labels = np.random.default_rng(0).integers(0, 10, 3000)
    summary = evaluation.evaluate(labels, np.full((3000, 10), 0.1))
    assert summary["loss"] == pytest.approx(log(10))
    guesses = np.random.default_rng(1).dirichlet(np.ones(10), 3000)
    summary = evaluation.evaluate(labels, guesses)
    assert summary["accuracy_low"] < 0.1 < summary["accuracy_high"]


def test_a_class_without_images_counts_as_zero_and_not_as_an_error():
    summary = evaluation.evaluate(np.array([0, 1]), np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]]))
    assert summary["accuracy"] == 1
    assert summary["recall_macro"] == pytest.approx(2 / 3)
    assert summary["recall_weighted"] == 1


@pytest.mark.filterwarnings("error")
def test_float32_rows_are_accepted():
    logits = np.random.default_rng(0).normal(size=(2000, 10)).astype(np.float32) * 20
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    labels = logits.argmax(axis=1)
    summary = evaluation.evaluate(labels, shifted / shifted.sum(axis=1, keepdims=True))
    assert summary["accuracy"] == 1 and summary["loss"] < log(10)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (
            [0, 1],
            [[0.5, 0.5], [0.9, 0.3]],
            r"Row 1 of the probabilities sums to 1\.2, not to one \(1 such rows\).*softmax",
        ),
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], r"Row 0 .* holds a negative value .*softmax"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "Row 1 .* holds NaN or infinity"),
        ([0, 1], [[0.5, 0.5], [np.inf, -np.inf]], "Row 1 .* holds NaN or infinity"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], r"Labels reach from 0 to 2; with 2 classes they are 0\.\.1"),
        ([-1, 1], [[0.5, 0.5], [0.5, 0.5]], "Labels reach from -1"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "Labels are float64; give whole numbers"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"Labels \(1,\) and probabilities \(2, 2\) do not fit"),
        ([], np.empty((0, 10)), "do not fit"),
        ([0, 1], [0.5, 0.5], "do not fit"),
    ],
)
@pytest.mark.parametrize(
    "measure",
    [
        evaluation.evaluate,
        evaluation.reliability,
        evaluation.calibration_error,
        evaluation.fit_temperature,
        evaluation.accuracy_coverage,
        evaluation.confident_mistakes,
        robustness.suspect_labels,
    ],
    ids=lambda measure: measure.__name__,
)
def test_what_is_no_prediction_is_refused(measure, labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        measure(np.array(labels), np.array(probabilities))


# ----------------------------------------------------------------------------------------------------------- intervals


def test_shares_of_seeds_are_told_with_their_deviation():
    assert evaluation.percent([0.93, 0.94]) == "93.50 ± 0.71 %"
    assert evaluation.percent([0.93]) == "93.00 %"


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(successes, trials, low, high):
    assert evaluation.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_is_symmetric():
    low, high = evaluation.wilson_interval(929, 1000)
    assert evaluation.wilson_interval(71, 1000) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("successes", "trials"), [(5, 4), (-1, 4), (0, 0), (0.9540, 10_000)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match=f"{successes} of {trials} are not counts"):
        evaluation.wilson_interval(successes, trials)
    with pytest.raises(ValueError, match=f"{successes} of {trials} are not counts"):
        evaluation.two_proportions(9_540, 10_000, successes, trials)


def test_mean_and_std_over_seeds():
    assert evaluation.mean_and_std([0.90, 0.92, 0.94]) == pytest.approx((0.92, 0.02))
    assert evaluation.mean_and_std([0.93]) == (0.93, 0.0)


# -------------------------------------------------------------------------------------------------- classes, confusion


def test_class_report_by_hand():
    report = evaluation.class_report(LABELS, PROBABILITIES.argmax(axis=1), NAMES)
    expected = pd.DataFrame(
        {"precision": [0.5, 1, 1], "recall": [1, 1, 0.5], "f1": [2 / 3, 1, 2 / 3], "images": [1, 1, 2]},
        index=pd.Index(NAMES, name="class"),
    )
    pd.testing.assert_frame_equal(report, expected, check_dtype=False)


def test_confusion_counts_true_classes_in_rows():
    matrix = evaluation.confusion(LABELS, PROBABILITIES.argmax(axis=1), classes=3)
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert evaluation.confusion(LABELS, LABELS).shape == (10, 10)


def test_frequent_confusions_are_in_order_and_leave_out_what_is_right():
    matrix = np.array([[90, 8, 2], [1, 99, 0], [5, 3, 12]])
    table = evaluation.frequent_confusions(matrix, NAMES, count=3)
    assert table[["true", "predicted", "images"]].to_numpy().tolist() == [
        ["shirt", "bag", 8],
        ["boot", "shirt", 5],
        ["boot", "bag", 3],
    ]
    assert table["share"].tolist() == pytest.approx([0.08, 0.25, 0.15])


def test_frequent_confusions_list_no_mistake_that_was_not_made():
    table = evaluation.frequent_confusions(np.array([[3, 1], [0, 4]]), NAMES[:2], count=5)
    assert table["images"].tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 1], [0, 1, 2], r"shapes \(2,\), \(3,\); give \(n,\) each"),
        ([0, 1], [[0.2, 0.8], [0.9, 0.1]], "argmax"),
        ([0, 1], [0.0, 1.0], "are float64; give whole numbers"),
        ([0, 3], [0, 1], "reach from 0 to 3; with 3 classes"),
        ([0, 1], [0, -1], "reach from -1 to 0"),
    ],
)
def test_what_are_no_classes_is_refused(labels, predicted, message):
    labels, predicted = np.array(labels), np.array(predicted)
    with pytest.raises(ValueError, match=message):
        evaluation.class_report(labels, predicted, NAMES)
    with pytest.raises(ValueError, match=message):
        evaluation.confusion(labels, predicted, classes=3)


def test_confident_mistakes_by_hand():
    assert evaluation.confident_mistakes(LABELS, PROBABILITIES).tolist() == [3]
    sure = np.array([0.9, 0.7, 0.8, 0.6])
    probabilities = np.stack([sure, 1 - sure], axis=1)
    assert evaluation.confident_mistakes(np.array([1, 1, 1, 0]), probabilities, count=2).tolist() == [0, 2]
    assert evaluation.confident_mistakes(np.zeros(4, int), probabilities).tolist() == []


# ------------------------------------------------------------------------------------------------------------- McNemar


def predictions(only_first, only_second, both=20, neither=4):
    """Labels of 0, and two classifiers that are right on so many of them."""
    first = np.repeat([0, 1, 0, 1], [only_first, only_second, both, neither])
    second = np.repeat([1, 0, 0, 2], [only_first, only_second, both, neither])
    return np.zeros(len(first), int), first, second


def test_mcnemar_by_hand():
    # 1 against 5 of 6: twice the probability of at most one head in six throws, (1 + 6) / 64.
    assert evaluation.mcnemar(*predictions(1, 5)) == {
        "only_first": 1,
        "only_second": 5,
        "p_value": pytest.approx(2 * 7 / 64),
    }


def test_mcnemar_ignores_what_both_have_right_or_wrong_and_the_order():
    p_value = evaluation.mcnemar(*predictions(2, 9))["p_value"]
    assert p_value == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert evaluation.mcnemar(*predictions(2, 9, both=500, neither=77))["p_value"] == p_value
    assert evaluation.mcnemar(*predictions(9, 2))["p_value"] == pytest.approx(p_value)


def test_mcnemar_of_equal_classifiers_is_one():
    assert evaluation.mcnemar(*predictions(0, 0))["p_value"] == 1
    assert evaluation.mcnemar(*predictions(4, 4))["p_value"] == pytest.approx(1)


def test_the_least_clear_pair_of_trainings_speaks_for_all():
    labels, first, second = predictions(2, 9)
    nearly_as_good = np.where(np.arange(len(labels)) < 4, labels, first)
    tests = [evaluation.mcnemar(labels, first, second), evaluation.mcnemar(labels, nearly_as_good, second)]
    assert tests[1]["p_value"] > tests[0]["p_value"]
    assert evaluation.least_clear(labels, [first, nearly_as_good], [second]) == tests[1]
    assert evaluation.least_clear(labels, [first], [second, first])["p_value"] == 1
    with pytest.raises(ValueError, match="no pair of trainings"):
        evaluation.least_clear(labels, [], [second])


def test_where_the_means_are_equal_no_pair_of_trainings_speaks_for_a_difference():
    labels, good, bad = predictions(30, 2)
    assert evaluation.mcnemar(labels, good, bad)["p_value"] < 0.001
    assert [test["p_value"] for test in evaluation.by_pairs(labels, [good, bad], [good, bad])] == [1, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------------ pairwise


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, none below the one before it.
    assert evaluation.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert evaluation.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert evaluation.holm([0.04]) == pytest.approx([0.04])


def test_pairwise_has_every_pair_once_with_its_test():
    labels, first, second = predictions(30, 10, both=150, neither=10)
    table = evaluation.pairwise(labels, {"a": first, "b": second, "c": first})
    assert table[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert table["difference"].tolist() == pytest.approx([0.1, 0, -0.1])
    test = evaluation.mcnemar(labels, first, second)
    assert table["p_value"].tolist() == pytest.approx([test["p_value"], 1, test["p_value"]])
    assert table["p_adjusted"].tolist() == pytest.approx([3 * test["p_value"], 1, 3 * test["p_value"]])
    assert table.loc[0, ["only_first", "only_second"]].tolist() == [30, 10]
    assert table.loc[1, ["low", "high"]].tolist() == [0, 0]


def test_the_interval_of_a_difference_is_that_of_drawing_images():
    labels, first, second = predictions(30, 10, both=150, neither=10)
    by_image = (first == labels).astype(float) - (second == labels)
    slow = stats.bootstrap((by_image,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    row = evaluation.pairwise(labels, {"a": first, "b": second}).iloc[0]
    # a difference moves in steps of an image
    assert (row["low"], row["high"]) == pytest.approx((slow.low, slow.high), abs=0.0051)
    assert row["low"] > 0


def test_pairwise_needs_two():
    with pytest.raises(ValueError, match="Only a to compare"):
        evaluation.pairwise(LABELS, {"a": LABELS})
    with pytest.raises(ValueError, match="shapes"):
        evaluation.pairwise(LABELS, {"a": LABELS, "b": LABELS[:2]})


# ---------------------------------------------------------------------------------- published numbers, pairs of seeds


def test_two_proportions_has_known_values():
    found = evaluation.two_proportions(5, 83, 12, 99)  # the example of statsmodels' proportions_ztest
    assert (found["z"], found["p_value"]) == pytest.approx((-1.4078304, 0.1591813))
    chi_squared = stats.chi2_contingency([[5, 78], [12, 87]], correction=False)
    assert (found["z"] ** 2, found["p_value"]) == pytest.approx((chi_squared.statistic, chi_squared.pvalue))
    swapped = evaluation.two_proportions(12, 99, 5, 83)
    assert (swapped["z"], swapped["p_value"]) == pytest.approx((-found["z"], found["p_value"]))


def test_two_proportions_tell_accuracies_on_ten_thousand_images_apart_from_half_a_point_on():
    assert evaluation.two_proportions(9_560, 10_000, 9_540, 10_000)["p_value"] > 0.4
    assert evaluation.two_proportions(9_600, 10_000, 9_540, 10_000)["p_value"] < 0.05
    assert evaluation.two_proportions(10, 10, 20, 20) == {"z": 0.0, "p_value": 1.0}


def test_paired_difference_is_students():
    ours, theirs = [0.951, 0.954, 0.9525], [0.949, 0.9525, 0.9495]
    found = evaluation.paired_difference(ours, theirs)
    test = stats.ttest_rel(ours, theirs)
    assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found["p_value"] == pytest.approx(test.pvalue)
    assert found["difference"] == pytest.approx((0.002 + 0.0015 + 0.003) / 3)
    assert found["sd"] == pytest.approx(np.std([0.002, 0.0015, 0.003], ddof=1))
    # by hand: t(0.975) of one degree of freedom is 12.706; differences 1 and 3 have mean 2 and sd of the mean 1
    found = evaluation.paired_difference([2, 5], [1, 2])
    assert (found["low"], found["high"]) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)
    assert evaluation.paired_difference([0.5, 0.6], [0.4, 0.5])["sd"] == pytest.approx(0, abs=1e-12)
    assert evaluation.paired_difference([3, 4], [1, 2])["p_value"] == 0
    assert evaluation.paired_difference([1, 2], [1, 2])["p_value"] == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([0.9], [0.8], "give two pairs or more"),
        ([0.9, 0.8], [0.9, 0.8, 0.7], r"shapes \(2,\) and \(3,\)"),
        ([0.9, np.nan], [0.9, 0.8], "NaN or infinite"),
    ],
)
def test_what_is_no_pairs_is_refused(ours, theirs, message):
    with pytest.raises(ValueError, match=message):
        evaluation.paired_difference(ours, theirs)


# --------------------------------------------------------------------------------------------------------- calibration


def test_reliability_and_calibration_error_by_hand():
    labels = np.array([0, 0, 1, 1, 0])
    sure = np.array([0.95, 0.9, 0.55, 0.6, 0.65])  # of class 0; images 2 and 3 are wrong
    probabilities = np.stack([sure, 1 - sure], axis=1)
    table = evaluation.reliability(labels, probabilities, bins=5)
    assert table["images"].tolist() == [0, 0, 2, 1, 2]  # 0.6 belongs to the bin that it ends
    assert table["low"].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert np.isnan(table["accuracy"][:2]).all()
    assert table["confidence"].tolist()[2:] == pytest.approx([0.575, 0.65, 0.925])
    assert table["accuracy"].tolist()[2:] == [0, 1, 1]
    expected = (2 * 0.575 + 1 * 0.35 + 2 * 0.075) / 5
    assert evaluation.calibration_error(labels, probabilities, bins=5) == pytest.approx(expected)


def test_calibration_error_of_classifiers_whose_error_is_known():
    labels = np.arange(100) % 10
    assert evaluation.calibration_error(labels, one_hot(labels)) == 0
    assert evaluation.calibration_error(labels, one_hot(np.full(100, 3))) == pytest.approx(0.9)  # sure, right one in 10
    assert evaluation.calibration_error(labels, np.full((100, 10), 0.1)) == pytest.approx(0)  # unsure, right one in 10
    with pytest.raises(ValueError, match="bins=0"):
        evaluation.calibration_error(labels, one_hot(labels), bins=0)


def test_calibration_error_of_calibrated_probabilities_tends_to_zero():
    errors = [evaluation.calibration_error(*calibrated(count)) for count in (100, 2_000, 100_000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.005


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_and_undone(temperature):
    labels, probabilities = calibrated(20_000)
    distorted = evaluation.apply_temperature(probabilities, 1 / temperature)
    found = evaluation.fit_temperature(labels, distorted)
    assert found == pytest.approx(temperature, rel=0.03)
    restored = evaluation.apply_temperature(distorted, found)
    assert np.abs(restored - probabilities).max() < 0.02
    assert np.array_equal(restored.argmax(axis=1), distorted.argmax(axis=1))
    assert evaluation.evaluate(labels, restored)["loss"] <= evaluation.evaluate(labels, distorted)["loss"] + 1e-12
    if temperature != 1:
        assert evaluation.calibration_error(labels, restored) < evaluation.calibration_error(labels, distorted) / 5


def test_temperature_by_hand():
    # Logits (log 4, 0) and three of four right: the best fit has probability 3/4, so T = log 4 / log 3.
    probabilities = np.array([[0.8, 0.2]] * 4)
    temperature = evaluation.fit_temperature(np.array([0, 0, 0, 1]), probabilities)
    assert temperature == pytest.approx(log(4) / log(3), rel=1e-3)
    assert evaluation.apply_temperature(probabilities, temperature)[0] == pytest.approx([0.75, 0.25], abs=1e-4)


def test_temperature_at_the_ends():
    labels = np.arange(100) % 10
    assert evaluation.fit_temperature(labels, np.full((100, 10), 0.1)) == 1  # every temperature fits alike
    assert evaluation.fit_temperature(labels, one_hot(labels) * 0.5 + 0.05) < 0.1  # always right: the surer the better
    zeros = evaluation.apply_temperature(np.array([[1.0, 0.0]]), 2.0)  # no NaN from log 0
    assert zeros == pytest.approx(np.array([[1.0, 0.0]]))
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature="):
            evaluation.apply_temperature(one_hot(labels), wrong)
    with pytest.raises(ValueError, match=r"Row 0 .* sums to 2"):
        evaluation.apply_temperature(np.ones((1, 2)), 1.0)


# ------------------------------------------------------------------------------------------------ accuracy by coverage


def test_accuracy_coverage_by_hand():
    labels = np.array([0, 0, 0, 1, 0])
    sure = np.array([0.6, 0.9, 0.7, 0.8, 0.6])  # of class 0: the image at 0.8 is wrong
    curve = evaluation.accuracy_coverage(labels, np.stack([sure, 1 - sure], axis=1))
    assert curve["coverage"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert curve["accuracy"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 4 / 5])
    assert curve["threshold"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.6])


def test_by_margin_an_answer_with_a_close_rival_comes_last():
    probabilities = np.array([[0.55, 0.45, 0.0], [0.5, 0.25, 0.25]])
    by_margin = evaluation.accuracy_coverage([1, 0], probabilities, margin=True)
    by_probability = evaluation.accuracy_coverage([1, 0], probabilities)
    assert by_margin["accuracy"].tolist() == [1, 0.5] and by_probability["accuracy"].tolist() == [0, 0.5]
    assert by_margin["threshold"].tolist() == pytest.approx([np.log(2), np.log(0.55 / 0.45)])


def test_equal_confidence_is_no_order():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.7, 0.3]] * 4)
    for order in (slice(None), slice(None, None, -1)):
        curve = evaluation.accuracy_coverage(labels[order], probabilities)
        assert curve["accuracy"].tolist() == [0.5, 0.5, 0.5, 0.5]


def test_coverage_of_perfect_constant_and_knowing_classifiers(noisy):
    labels, probabilities = noisy

    def curve(probabilities):
        return evaluation.accuracy_coverage(labels, probabilities)["accuracy"]

    assert (curve(one_hot(labels)) == 1).all()
    assert curve(one_hot(np.full(500, 3))).to_numpy() == pytest.approx((labels == 3).mean())
    assert curve(probabilities).iloc[-1] == pytest.approx(evaluation.evaluate(labels, probabilities)["accuracy"])
    assert curve(probabilities).iloc[249] > curve(probabilities).iloc[-1]


# -------------------------------------------------------------------------------------------------------- any outputs


def test_every_kind_of_output_becomes_probabilities(noisy):
    _, probabilities = noisy
    found, kind = evaluation.as_probabilities(probabilities.astype(np.float32))
    assert kind == "probabilities" and found == pytest.approx(probabilities, abs=1e-6)
    found, kind = evaluation.as_probabilities(np.log(probabilities) + 3)
    assert kind == "logits" and found == pytest.approx(probabilities)
    found, kind = evaluation.as_probabilities(probabilities * 0.7)
    assert kind == "scores" and found == pytest.approx(probabilities)
    found, kind = evaluation.as_probabilities(probabilities.astype(np.float16))
    assert kind == "probabilities" and found.sum(axis=1) == pytest.approx(np.ones(500))
    found, kind = evaluation.as_probabilities(np.zeros((2, 10)))
    assert kind == "logits" and found == pytest.approx(np.full((2, 10), 0.1))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [(np.array([[np.nan, 1.0], [0.0, 1.0]]), "for 1 of 2 images hold NaN"), (np.ones(3), r"shape \(3,\)")],
)
def test_broken_outputs_are_refused(outputs, message):
    with pytest.raises(ValueError, match=message):
        evaluation.as_probabilities(outputs)


# ----------------------------------------------------------------------------------------------- files not to be opened


def archive(path, announced=None, compression=zipfile.ZIP_DEFLATED):
    """50 MB of zeros in a small file; `announced` is written as their size in the directory of the file."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("config.json", bytes(50_000_000))
    if announced:
        content = bytearray(path.read_bytes())
        directory = content.rindex(b"PK\x01\x02")
        content[directory + 24 : directory + 28] = announced.to_bytes(4, "little")
        path.write_bytes(content)
    return path


def refused(path, message):
    """Refused with one line, and without unpacking anything."""
    assert len(refused_cheaply(evaluation.load_classifier, path, message, 10_000_000).splitlines()) == 1


def test_a_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    refused(archive(tmp_path / "bomb.keras", announced=4_000_000_000), r"bomb.keras may unpack to 4.0 GB")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_file_that_conceals_what_it_unpacks_to_is_refused(tmp_path, monkeypatch, compression):
    monkeypatch.setattr(evaluation, "LARGEST_MODEL", 30_000_000)
    refused(archive(tmp_path / "bomb.keras", announced=1_000, compression=compression), "bomb.keras may unpack to")


def test_a_file_with_a_broken_directory_is_refused(tmp_path):
    path = archive(tmp_path / "broken.keras")
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x09\x09"))
    refused(path, "broken.keras is not a whole .keras or .h5 file")

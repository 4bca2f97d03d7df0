"""Metrics agree with hand-worked cases, published values and scikit-learn."""

from math import log

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from fashion_mnist import evaluation

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


# ------------------------------------------------------------------------------------------------------------ evaluate


def test_evaluate_by_hand():
    summary = evaluation.evaluate(LABELS, PROBABILITIES)
    assert summary["accuracy"] == 0.75
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
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], "Row 0"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "Row 1"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "Labels reach from 0 to 2"),
        ([-1, 1], [[0.5, 0.5], [0.5, 0.5]], "Labels reach from -1"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"Labels \(1,\) and probabilities \(2, 2\) do not fit"),
        ([], np.empty((0, 10)), "do not fit"),
        ([0, 1], [0.5, 0.5], "do not fit"),
    ],
)
def test_what_is_no_prediction_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(np.array(labels), np.array(probabilities))


# ----------------------------------------------------------------------------------------------------------- intervals


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


def test_wilson_interval_is_symmetric_and_grows_with_confidence():
    low, high = evaluation.wilson_interval(929, 1000)
    assert evaluation.wilson_interval(71, 1000) == pytest.approx((1 - high, 1 - low))
    wider_low, wider_high = evaluation.wilson_interval(929, 1000, confidence=0.99)
    assert wider_low < low < high < wider_high


@pytest.mark.parametrize(("successes", "trials"), [(5, 4), (-1, 4), (0, 0)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError):
        evaluation.wilson_interval(successes, trials)


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

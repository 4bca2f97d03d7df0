"""Corruptions are what they say, robustness is the accuracy on them, and labels known to be wrong are found."""

import numpy as np
import pytest
from scipy import special

from fashion_mnist import robustness


def one_hot(labels, classes=10):
    return np.eye(classes)[labels]


# ---------------------------------------------------------------------------------------------------------- robustness


@pytest.fixture
def garments(sample_data):
    return sample_data.x_test[:60]


@pytest.mark.parametrize("corruption", robustness.CORRUPTIONS)
def test_corruptions_are_images_and_harm_more_the_stronger_they_are(corruption, garments):
    before = garments.copy()
    harm = []
    for strength in range(1, 6):
        disturbed = robustness.corrupt(garments, corruption, strength)
        assert disturbed.shape == garments.shape and disturbed.dtype == np.uint8
        harm.append(np.abs(disturbed.astype(int) - garments).mean())
    assert harm[0] > 0 and np.all(np.diff(harm) > 0)
    assert harm[-1] > 3 * harm[0]
    assert np.array_equal(garments, before)


@pytest.mark.parametrize("corruption", robustness.CORRUPTIONS)
def test_corruptions_follow_from_the_seed_and_not_from_the_number_of_images(corruption, garments):
    disturbed = robustness.corrupt(garments, corruption, 3)
    assert np.array_equal(robustness.corrupt(garments, corruption, 3), disturbed)
    assert np.array_equal(robustness.corrupt(garments[:7], corruption, 3), disturbed[:7])
    other = robustness.corrupt(garments, corruption, 3, seed=1)
    assert np.array_equal(other, disturbed) == (corruption in ("blur", "contrast"))  # nothing random in these


def test_every_corruption_has_a_unit():
    assert robustness.UNITS.keys() == robustness.CORRUPTIONS.keys()


def test_corruptions_by_hand():
    dot = np.zeros((50, 29, 29, 1), np.uint8)
    dot[:, 14, 14] = 200
    shifted = robustness.corrupt(dot, "shift", 3)[..., 0].astype(float)
    rows, columns = (np.tensordot(shifted, grid, 2) / shifted.sum(axis=(1, 2)) - 14 for grid in np.mgrid[:29, :29])
    assert np.hypot(rows, columns) == pytest.approx(2, abs=0.1)
    assert len({round(row, 1) for row in rows}) > 10  # each in a direction of its own
    beside = np.roll(dot, 10, axis=2)
    turned = robustness.corrupt(beside, "rotation", 5)[..., 0].astype(float)
    rows, columns = (np.tensordot(turned, grid, 2) / turned.sum(axis=(1, 2)) - 14 for grid in np.mgrid[:29, :29])
    assert np.abs(np.degrees(np.arctan2(rows, columns))) == pytest.approx(25, abs=1)
    assert rows.min() < 0 < rows.max()  # to either side
    halves = np.zeros((1, 2, 2, 1), np.uint8)
    halves[0, 0] = 200
    assert robustness.corrupt(halves, "contrast", 5).ravel().tolist() == [150, 150, 50, 50]
    full = np.full((40, 28, 28, 1), 255, np.uint8)
    squares = robustness.corrupt(full, "erasing", 5) == 0
    assert (squares.sum(axis=(1, 2, 3)) == 14 * 14).all()
    assert (robustness.corrupt(full, "erasing", 1)[~squares] == 255).all()  # a larger square holds the smaller one
    noise = robustness.corrupt(np.full((50, 28, 28, 1), 128, np.uint8), "noise", 3)
    assert noise.std() == pytest.approx(16, rel=0.02)
    larger = robustness.corrupt(full // 2, "scale", 5)
    assert set((larger > 0).all(axis=(1, 2, 3)).tolist()) == {True, False}  # some enlarged, some shrunk
    blurred = robustness.corrupt(dot, "blur", 4)[0, ..., 0].astype(float)
    assert blurred.sum() == pytest.approx(200, rel=0.05) and blurred.max() < 60


@pytest.mark.parametrize(
    ("images", "corruption", "strength", "message"),
    [
        (np.zeros((1, 28, 28, 1)), "noise", 1, r"float64 \(1, 28, 28, 1\); give uint8"),
        (np.zeros((1, 28, 28), np.uint8), "noise", 1, "give uint8"),
        (np.zeros((1, 28, 28, 1), np.uint8), "fog", 1, "no corruption 'fog'; choose one of noise, blur"),
        (np.zeros((1, 28, 28, 1), np.uint8), "noise", 0, "strength=0; choose 1"),
        (np.zeros((1, 28, 28, 1), np.uint8), "noise", 2.5, "strength=2.5"),
    ],
)
def test_unknown_corruptions_are_refused(images, corruption, strength, message):
    with pytest.raises(ValueError, match=message):
        robustness.corrupt(images, corruption, strength)


def test_robustness_is_the_accuracy_on_each_corruption(garments):
    labels = np.arange(60) % 2

    def bright(images):
        return one_hot((images.mean(axis=(1, 2, 3)) > 60).astype(int), 2)

    table, right = robustness.robustness(bright, garments, labels)
    assert table["corruption"].tolist() == [name for name in robustness.CORRUPTIONS for _ in range(5)]
    assert table["strength"].tolist() == 7 * [1, 2, 3, 4, 5]
    disturbed = robustness.corrupt(garments, "erasing", 5)
    (row,) = table.query("corruption == 'erasing' and strength == 5").to_dict("records")
    assert row["accuracy"] == (bright(disturbed).argmax(axis=1) == labels).mean()
    of_strength = table.groupby("strength")["accuracy"].mean()
    assert right.shape == (5, 60) and right.mean(axis=1) == pytest.approx(of_strength.to_numpy())
    everything, _ = robustness.robustness(lambda images: one_hot(labels, 2), garments, labels)
    assert len(everything) == 35 and (everything["accuracy"] == 1).all()
    with pytest.raises(ValueError, match="softmax"):
        robustness.robustness(lambda images: np.full((60, 2), 3.0), garments, labels)


# ------------------------------------------------------------------------------------------------------ doubtful labels


def test_suspect_labels_by_hand():
    # Mean probability of class 0 over images labelled 0: (0.9 + 0.8 + 0.1) / 3 = 0.6; of 1 over those labelled 1:
    # (0.7 + 0.8 + 0.35) / 3 = 0.617. Image 2 (0.9 for 1) and image 5 (0.65 for 0) are confidently of the other class.
    labels = np.array([0, 0, 0, 1, 1, 1])
    of_zero = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.65])
    found = robustness.suspect_labels(labels, np.stack([of_zero, 1 - of_zero], axis=1))
    assert found["index"].tolist() == [2, 5]
    assert found["label"].tolist() == [0, 1]
    assert found["suggested"].tolist() == [1, 0]
    assert found["confidence"].tolist() == pytest.approx([0.1, 0.35])
    assert found["margin"].tolist() == pytest.approx([-0.8, -0.3])
    # At 0.55 the last image is predicted 0 all the same, but not confidently: the mean for class 0 is 0.6.
    of_zero[5] = 0.55
    assert robustness.suspect_labels(labels, np.stack([of_zero, 1 - of_zero], axis=1))["index"].tolist() == [2]


def test_flipped_labels_are_found():
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    logits = rng.normal(size=(1000, 10))
    logits[np.arange(1000), labels] += 6
    flipped = rng.choice(1000, 30, replace=False)
    given = labels.copy()
    given[flipped] = (given[flipped] + 1 + rng.integers(0, 9, 30)) % 10
    suspects = robustness.suspect_labels(given, special.softmax(logits, axis=1))["index"]
    # Those are missed whose true class is less probable than it is on average: fewer than half.
    assert len(set(flipped) & set(suspects)) >= 20
    assert len(set(suspects) - set(flipped)) <= 2


def test_no_label_of_a_perfect_classifier_is_suspect():
    labels = np.arange(30) % 3  # seven of ten classes have no image
    assert robustness.suspect_labels(labels, one_hot(labels)).empty
    with pytest.raises(ValueError, match="All labels are 4"):
        robustness.suspect_labels(np.full(5, 4), np.full((5, 10), 0.1))

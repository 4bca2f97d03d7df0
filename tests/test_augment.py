"""`augment` changes images by the amounts that were asked for, and by nothing else."""

import numpy as np
import pytest
from conftest import garments

from fashion_mnist.augment import Augmentation, augment

GARMENTS = garments(320, 0)[0]


@pytest.mark.parametrize(
    "settings", [{"rotation": -1}, {"shift": 28}, {"shear": 61}, {"zoom": 1}, {"erasing": 1.1}, {"erased": 1}], ids=str
)
def test_augmentations_refuse_what_cannot_be(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"Augmentation {name}="):
        Augmentation(**settings)


@pytest.mark.parametrize("amounts", [{"flip": True}, {"shift": 2}, {"rotation": 5}, {"erasing": 1.0}], ids=str)
def test_the_images_given_stay_as_they_are(amounts):
    given = GARMENTS.copy()
    assert (augment(given, Augmentation(**amounts), np.random.default_rng(0)) != GARMENTS).any()
    np.testing.assert_array_equal(given, GARMENTS)


class Most:
    """A source of chance that always draws the largest amount, and mirrors."""

    def uniform(self, low, high, size):
        return np.full(size, float(high))

    def random(self, size):
        return np.zeros(size)

    def integers(self, low, high, size, endpoint=False):
        return np.full(size, high)


SHAPE = np.zeros((2, 28, 28, 1), np.uint8)
SHAPE[:, 8:20, 11:16, 0] = 200  # a trunk
SHAPE[:, 8:11, 16:19, 0] = 90  # and a branch at its upper right


def most(images=SHAPE, **amounts):
    moved = augment(images, Augmentation(**amounts), Most())
    assert moved.shape == images.shape and moved.dtype == np.uint8
    return moved


def test_no_augmentation_changes_nothing():
    np.testing.assert_array_equal(augment(GARMENTS, Augmentation(), np.random.default_rng(0)), GARMENTS)


def test_the_interpolation_of_an_identity_is_exact():
    moved = augment(GARMENTS, Augmentation(rotation=1e-9), np.random.default_rng(0))
    np.testing.assert_array_equal(moved, GARMENTS)


def test_flip_mirrors_left_and_right_with_and_without_interpolation():
    mirrored = SHAPE[:, :, ::-1]
    np.testing.assert_array_equal(most(flip=True), mirrored)
    np.testing.assert_array_equal(most(flip=True, rotation=1e-9), mirrored)
    images = augment(np.repeat(SHAPE[:1], 400, axis=0), Augmentation(flip=True), np.random.default_rng(0))
    assert 150 < (images == mirrored[0]).all(axis=(1, 2, 3)).sum() < 250


def test_rotation_turns_about_the_centre_and_keeps_the_shape():
    np.testing.assert_array_equal(most(rotation=90), np.rot90(SHAPE, axes=(1, 2)))
    np.testing.assert_array_equal(most(rotation=180), SHAPE[:, ::-1, ::-1])
    turned = most(rotation=30).astype(float)
    assert turned.sum() == pytest.approx(SHAPE.sum(dtype=float), rel=0.01)


def test_whole_shifts_move_and_fill_with_black():
    expected = np.zeros_like(SHAPE)
    expected[:, 9:, 9:] = SHAPE[:, :-9, :-9]
    np.testing.assert_array_equal(most(shift=9), expected)
    expected = np.zeros_like(SHAPE)
    expected[:, :-9, :-9] = SHAPE[:, 9:, 9:]  # the affine transform's largest shift is in the other direction
    np.testing.assert_array_equal(most(shift=9, rotation=1e-9), expected)


def test_shifts_reach_both_directions_and_no_further():
    dot = np.zeros((2000, 28, 28, 1), np.uint8)
    dot[:, 14, 14] = 255
    for amounts in ({"shift": 2}, {"shift": 2.9}):
        moved = augment(dot, Augmentation(**amounts), np.random.default_rng(0))
        _, rows, columns, _ = np.nonzero(moved)
        assert len(rows) == 2000
        assert set(zip(rows, columns, strict=True)) == {(r, c) for r in range(12, 17) for c in range(12, 17)}


def test_zoom_and_shear_change_area_and_outline_only():
    area = SHAPE.sum(dtype=float)
    assert most(zoom=0.5).sum() == pytest.approx(area / 1.5**2, rel=0.05)
    sheared = most(shear=30)[0, :, :, 0]
    assert sheared.sum() == pytest.approx(area / 2, rel=0.01)
    rows = SHAPE[0, :, :, 0].sum(axis=1)
    np.testing.assert_allclose(sheared.sum(axis=1), rows, rtol=0.02)  # rows slide along themselves
    columns = np.arange(28)
    slide = [(sheared[row] @ columns - SHAPE[0, row, :, 0] @ columns) / rows[row] for row in (12, 18)]
    assert slide[0] - slide[1] == pytest.approx(6 * np.tan(np.radians(30)), abs=0.1)


def test_mixed_augmentation_of_real_garments_keeps_range_and_brightness():
    amounts = Augmentation(flip=True, rotation=10, shift=2, shear=10, zoom=0.1)
    white = np.zeros((50, 28, 28, 1), np.uint8)
    white[:, 6:22, 6:22] = 255
    moved = augment(white, amounts, np.random.default_rng(0))
    assert (moved.max(axis=(1, 2, 3)) >= 254).all()  # interpolation neither overflows nor dims what is inside
    sizes = moved.sum(axis=(1, 2, 3)) / 255 / 256
    assert 0.8 < sizes.min() < 1 < sizes.max() < 1.25


@pytest.mark.parametrize(("probability", "largest"), [(0.25, 0.2), (1.0, 0.2), (1.0, 0.4)])
def test_erasing_replaces_one_rectangle_of_the_right_size(probability, largest):
    black, erasing = np.zeros((1000, 28, 28, 1), np.uint8), Augmentation(erasing=probability, erased=largest)
    on_black = augment(black, erasing, np.random.default_rng(0))
    on_white = augment(black + 255, erasing, np.random.default_rng(0))
    erased = (on_black == on_white)[..., 0]
    chosen = erased.any(axis=(1, 2))
    assert chosen.mean() == pytest.approx(probability, abs=0.05)
    for mask in erased[chosen]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    area = erased[chosen].mean(axis=(1, 2))
    assert 0.01 < area.min() < 0.03 and 0.9 < area.max() / largest < 1.1  # sides are rounded to pixels
    assert (on_black[~erased] == 0).all() and len(np.unique(on_black[erased])) == 256

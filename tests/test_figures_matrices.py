"""Coloured tables hold the numbers they were given, and their colours mean what the legend says."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from conftest import drawn
from matplotlib.colors import same_color, to_hex, to_rgb

from fashion_mnist.figures import matrices, style

pytestmark = pytest.mark.usefixtures("study_style")

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def names_of(ticks):
    return [tick.get_text() for tick in ticks]


def cells_of(axis):
    """The texts of a matrix by row and column, empty ones left out."""
    return {tuple(int(at) for at in text.get_position()[::-1]): text for text in axis.texts if text.get_text()}


@pytest.fixture
def matrix():
    matrix = np.diag(np.full(10, 90))
    matrix[6, 0] = 30
    matrix[9] = 0  # a class without images
    return matrix


def test_confusion_matrix_writes_counts_and_colours_errors_only(matrix):
    axis, bar = drawn(matrices.confusion_matrix(matrix, NAMES, title="cnn")).axes
    shares = axis.images[0].get_array()
    assert np.all(np.diag(shares) == 0) and shares[6, 0] == pytest.approx(0.25) and np.all(shares[9] == 0)
    assert axis.images[0].get_clim() == (0, 0.25), "the scale is that of the errors"
    cells = cells_of(axis)
    assert cells[(6, 0)].get_text() == "30" and cells[(6, 6)].get_text() == "90"
    assert same_color(cells[(6, 6)].get_color(), style.GREY)
    assert sum(to_rgb(cells[(6, 0)].get_color())) == 3, "light on a dark cell"
    assert len(cells) == 10  # nine on the diagonal, one beside it; zeros stay empty
    assert names_of(axis.get_yticklabels()) == names_of(axis.get_xticklabels()) == list(NAMES)
    assert axis.get_title(loc="left") == "cnn"
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("True class", "Predicted class")
    assert bar.get_ylim() == (0, 25)


def test_a_matrix_without_errors_can_be_drawn():
    drawn(matrices.confusion_matrix(np.eye(10, dtype=int), NAMES))


def test_confusion_matrices_share_one_scale(matrix):
    worse = matrix.copy()
    worse[0, 6] = 90
    figure = drawn(matrices.confusion_matrices({"a": matrix, "b": worse, "c": matrix}, NAMES))
    *panels, bar = figure.axes
    assert [axis.get_title(loc="left") for axis in panels] == ["a", "b", "c"]
    assert {axis.images[0].get_clim() for axis in panels} == {(0, 0.5)}
    assert "Errors" in bar.get_xlabel()


def test_confusion_matrix_refuses_another_number_of_classes(matrix):
    with pytest.raises(ValueError, match=r"shape \(9, 9\); 10 class names need \(10, 10\)"):
        matrices.confusion_matrix(matrix[:9, :9], NAMES)


PAIRS = (["mlp", "mlp", "cnn"], ["cnn", "resnet", "resnet"], [-0.03, -0.02, 0.001], [1e-9, 0.021, 0.6])


def test_significance_matrix_reads_from_row_to_column():
    (axis,) = drawn(matrices.significance_matrix(*PAIRS, [True] * 3)).axes
    assert names_of(axis.get_yticklabels()) == ["mlp  1", "cnn  2", "resnet  3"]
    assert names_of(axis.get_xticklabels()) == ["2", "3"]
    written = {place: text.get_text() for place, text in cells_of(axis).items()}
    assert written == {(0, 1): "−3.00", (0, 2): "−2.00", (1, 2): "+0.10"}, "each pair once"
    colour = fills(axis)
    assert colour[0, 1] == style.WRONG and colour[1, 2] == "#EFEFEF"
    (axis,) = drawn(matrices.significance_matrix(["cnn"], ["mlp"], [0.03], [1e-9], [True])).axes
    assert fills(axis) == {(0, 1): style.RIGHT}
    assert "p < 0.05" in axis.get_legend().get_title().get_text()


def fills(axis):
    centres = [(round(p.get_y() + 0.42), round(p.get_x() + 0.44)) for p in axis.patches]
    return {at: to_hex(p.get_facecolor()).upper() for at, p in zip(centres, axis.patches, strict=True)}


def test_a_difference_that_does_not_hold_at_every_seed_is_only_outlined():
    (axis,) = drawn(matrices.significance_matrix(*PAIRS, robust=[True, False, False])).axes
    colour = fills(axis)
    assert colour[0, 1] == style.WRONG
    assert colour[0, 2] == "#FFFFFF"
    edges = {to_hex(patch.get_edgecolor()).upper() for patch in axis.patches}
    assert edges == {style.WRONG, "#EFEFEF"}
    assert "not at every pair of seeds" in [text.get_text() for text in axis.get_legend().get_texts()]

"""Pictures are those that were given, where they belong, and say what they are."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import drawn, texts

from fashion_mnist.figures import images as pictures
from fashion_mnist.figures import style

pytestmark = pytest.mark.usefixtures("study_style")

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)


@pytest.fixture
def labels():
    return np.arange(40) % 10


def names_of(ticks):
    return [tick.get_text() for tick in ticks]


def test_sample_grid_shows_the_first_images_of_each_class(images, labels):
    images, labels = images[:39], labels[:39]  # one ankle boot less
    (axis,) = drawn(pictures.sample_grid(images, labels, NAMES)).axes
    canvas = axis.images[0].get_array()
    assert names_of(axis.get_yticklabels()) == list(NAMES)
    assert np.array_equal(canvas[:28, :28], images[0, ..., 0])
    assert np.array_equal(canvas[60:88, 30:58], images[12, ..., 0])  # second image of the third class
    assert canvas.mask[270:298, 90:118].all()  # three ankle boots: the fourth place is empty
    assert axis.images[0].get_cmap().name == "gray_r"
    assert len(axis.get_xticks()) == 0


def test_rows_of_different_lengths_share_columns_and_captions(images):
    rows = {"original": images[:1], "flip": images[:3, :, ::-1]}
    (axis,) = drawn(pictures.image_rows(rows, ["a", "b", "c"])).axes
    canvas = axis.images[0].get_array()
    assert names_of(axis.get_yticklabels()) == ["original", "flip"]
    assert names_of(axis.get_xticklabels()) == ["a", "b", "c"]
    assert np.array_equal(canvas[30:58, 60:88], images[2, :, ::-1, 0])
    assert canvas.mask[:28, 30:].all()


def test_values_beyond_the_grey_levels_are_drawn_as_the_nearer_end():
    (axis,) = drawn(pictures.image_rows({"rebuilt": np.full((1, 28, 28), 300.0)})).axes
    assert axis.images[0].get_clim() == (0, 255)


def test_image_grid_names_each_image_and_its_scale(images):
    figure = drawn(pictures.image_grid(images[:3], ["1", "2", "3"], columns=2, limits=(-9, 9), scale="Weight"))
    axis, bar = figure.axes
    assert texts(axis) == ["1", "2", "3"]
    heights = [text.get_position()[1] for text in axis.texts]
    assert heights[0] == heights[1] < heights[2]
    assert axis.images[0].get_clim() == (-9, 9) and bar.get_ylabel() == "Weight"
    with pytest.raises(ValueError):
        pictures.image_grid(images[:3], ["1", "2"])


def test_a_figure_can_be_drawn_on_given_axes(images):
    figure, (left, right) = plt.subplots(1, 2)
    assert pictures.image_rows({"a": images[:2]}, ax=left) is figure
    assert left.images and not right.images


def test_predictions_grid_says_what_was_predicted_and_what_is_true(images):
    true, predicted = np.array([0, 6, 4]), np.array([0, 4, 4])
    chances = np.full((3, 10), 0.02)
    chances[[0, 1, 2], predicted] = 0.82
    axes = drawn(pictures.predictions_grid(images[:3], true, predicted, NAMES, chances)).axes
    assert [axis.get_title() for axis in axes] == ["✓ T-shirt/top 82%", "✗ Coat 82%\ntrue: Shirt", "✓ Coat 82%"]
    assert [axis.title.get_color() for axis in axes] == [style.RIGHT, style.WRONG, style.RIGHT]
    assert np.array_equal(axes[1].images[0].get_array(), images[1, ..., 0])


def test_a_doubtful_label_gets_a_suggestion_and_no_verdict(images):
    (axis,) = drawn(pictures.predictions_grid(images[:1], [6], [4], NAMES, reference="label")).axes
    assert axis.get_title() == "label Shirt\nsuggested Coat"
    assert axis.title.get_color() not in (style.RIGHT, style.WRONG)
    chances = np.eye(10)[[4]] * 0.9
    (axis,) = drawn(pictures.predictions_grid(images[:1], [6], [4], NAMES, chances, reference="label")).axes
    assert axis.get_title() == "label Shirt\nsaid Coat 90%"


def test_predictions_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(ValueError):
        pictures.predictions_grid(images, labels, labels[:3], NAMES)


def test_network_diagram_tells_every_layer_and_groups_stages():
    mlp = [("flatten", (784,), 0), ("logits", (10,), 7_850)]
    cnn = [("stage1_conv", (28, 28, 32), 320), ("stage1_pool", (14, 14, 32), 0), ("logits", (10,), 62_730)]
    (axis,) = drawn(pictures.network_diagram({"MLP": mlp, "CNN": cnn})).axes
    written = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert {"MLP: 7,850 parameters", "CNN: 63,050 parameters", "stage1", "conv", "28×28×32\n320", "14×14×32"} <= set(
        written
    )
    assert written["stage1"].y0 > written["conv"].y1 > written["conv"].y0 > written["pool"].y1
    assert written["10\n62,730"].x0 > written["28×28×32\n320"].x1, "the head stands to the right of the stage"
    assert written["784"].y0 > written["CNN: 63,050 parameters"].y1, "one network stands below the other"
    assert not any(box.overlaps(other) for box in written.values() for other in written.values() if box is not other)


def test_network_diagram_leads_a_residual_block_s_input_to_its_sum():
    block = [("block1_conv", (28, 28, 8), 584), ("block1_add", (28, 28, 8), 0)]
    chain, residual = [("stem", (28, 28, 8), 80), block[0]], [("stem", (28, 28, 8), 80), *block]
    (axis,) = drawn(pictures.network_diagram({"a chain": chain})).axes
    assert not axis.lines and "shortcut" not in axis.get_xlabel()
    (axis,) = drawn(pictures.network_diagram({"residual": residual})).axes
    (line,) = axis.lines
    above, below = axis.transData.transform(line.get_xydata())[:, 1]
    add, shape = (text.get_window_extent() for text in axis.texts if text.get_text() in ("add", "28×28×8"))
    assert above > add.y1 > below > shape.y0, "from where the block begins to its sum"
    assert "orange: a block's shortcut" in axis.get_xlabel()


@pytest.mark.parametrize("shape", [(28, 28), (3, 28, 28, 3), (0, 28, 28, 1)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"rows\['a'\] has shape .* expected \(n, 28, 28\) or \(n, 28, 28, 1\)"):
        pictures.image_rows({"a": np.zeros(shape)})

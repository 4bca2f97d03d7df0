"""Maps: every point is there in the colour of its class, every heat map lies over its image."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import drawn, texts
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox

from fashion_mnist.figures import maps, style

pytestmark = pytest.mark.usefixtures("study_style")

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)


@pytest.fixture
def labels():
    return np.arange(40) % 10


# -------------------------------------------------------------------------------------------------------------- points


def test_embedding_map_draws_all_points_and_the_thumbnails_asked_for(rng, images, labels):
    points = rng.normal(size=(40, 2))
    (axis,) = drawn(maps.embedding_map(points, labels, NAMES, images, shown=np.array([3, 14]))).axes
    dots = axis.collections[0]
    assert sorted(map(tuple, dots.get_offsets())) == sorted(map(tuple, points))
    assert dots.get_rasterized()
    # a point keeps the colour of its class although the order of drawing is shuffled
    where = int(np.flatnonzero((dots.get_offsets() == points[7]).all(axis=1))[0])
    assert to_hex(dots.get_facecolor()[where]) == style.CLASS_COLOURS[labels[7]].lower()
    boxes = [artist for artist in axis.get_children() if isinstance(artist, AnnotationBbox)]
    assert [tuple(box.xy) for box in boxes] == [tuple(points[3]), tuple(points[14])]
    assert set(NAMES) <= set(texts(axis))
    assert not axis.axison


def test_a_projection_has_axes_with_names(rng, labels):
    axis_names = ("Component 1", "Component 2")
    (axis,) = drawn(maps.embedding_map(rng.normal(size=(40, 2)), labels, NAMES, axis_names=axis_names)).axes
    assert axis.axison and (axis.get_xlabel(), axis.get_ylabel()) == axis_names


def test_class_names_stand_in_their_clusters(rng):
    labels = np.repeat([0, 1], 200)
    centres = np.array([[0, 0], [10, 5]])
    points = centres[labels] + rng.normal(scale=0.3, size=(400, 2))
    (axis,) = drawn(maps.embedding_map(points, labels, NAMES[:2])).axes
    for text, centre in zip(axis.texts, centres, strict=True):
        assert np.linalg.norm(np.array(text.get_position()) - centre) < 1


def test_names_of_classes_on_one_spot_are_moved_apart(rng):
    points = rng.normal(size=(400, 2))
    (axis,) = drawn(maps.embedding_map(points, np.arange(400) % 4, NAMES[:4])).axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_stay_off_the_thumbnails(rng, images):
    points, labels = rng.normal(scale=0.1, size=(40, 2)), np.zeros(40, int)
    (axis,) = drawn(maps.embedding_map(np.vstack([points, [[3, 3]]]), [*labels, 1], NAMES, images[[0] * 41], [0])).axes
    thumbnail = axis.artists[0].get_window_extent()
    assert not any(thumbnail.overlaps(text.get_window_extent()) for text in axis.texts)


# --------------------------------------------------------------------------------------------------------- feature maps


def test_feature_maps_give_every_channel_its_own_scale_beside_the_image(images, rng):
    channels = rng.uniform(0, 3, (7, 5, 10)) * np.arange(1, 11)
    channels[..., 9] = -1
    layers = {"conv2d": channels, "conv2d_1": np.ones((3, 3, 2))}
    left, right, below, last = drawn(maps.feature_maps(layers, images[0])).axes
    assert np.array_equal(left.images[0].get_array(), images[0, ..., 0]) and not below.images
    assert last.get_title(loc="left") == "conv2d_1" and texts(last) == ["0", "1"]
    canvas = right.images[0].get_array()
    assert np.sum(canvas == 1) == 9, "each channel that says anything reaches the darkest colour once"
    assert right.images[0].get_clim() == (0, 1) and right.get_title(loc="left") == "conv2d"
    assert texts(right) == [*map(str, range(9)), "9 silent"]
    top = np.flatnonzero(~canvas.mask.all(axis=1))[0]
    assert np.allclose(canvas[top : top + 7, :5], channels[..., 0] / channels[..., 0].max())


# ------------------------------------------------------------------------------------------------------------ heat maps


def test_heat_maps_lie_over_the_whole_image_below_their_garment(images, rng):
    methods = {"Grad-CAM": rng.random((2, 7, 7)), "Score-CAM": rng.random((2, 14, 14))}
    figure = drawn(maps.heat_map_overlays(images[:2], methods, ["Coat", "Bag"]))
    assert len(figure.axes) == 3 * 2 + 1  # rows (image and methods) × images, one colour bar
    plain, first = figure.axes[0], figure.axes[2]
    assert len(plain.images) == 1 and plain.get_title() == "Coat"
    picture, heat = first.images
    assert np.array_equal(picture.get_array(), images[0, ..., 0])
    assert picture.get_extent() == heat.get_extent()
    assert np.array_equal(heat.get_array(), methods["Grad-CAM"][0]) and heat.get_clim() == (0, 1)
    assert [axis.get_ylabel() for axis in figure.axes[:6:2]] == ["image", "Grad-CAM", "Score-CAM"]
    assert all(not axis.texts for axis in figure.axes)


def test_an_empty_heat_map_says_why(images, rng):
    values = rng.random((2, 7, 7))
    values[1] = 0
    axes = drawn(maps.heat_map_overlays(images[:2], {"CNN": values}, ["Coat", "Bag"])).axes
    assert texts(axes[2]) == [] and texts(axes[3]) == ["no\npositive\nevidence"]


def test_heat_maps_that_do_not_fit_are_refused(images):
    with pytest.raises(ValueError):
        maps.heat_map_overlays(images[:2], {"a": np.zeros((3, 7, 7))}, ["x", "y"])
    with pytest.raises(ValueError, match=r"maps\['a'\] runs from 2 to 2; scale to 0 to 1"):
        maps.heat_map_overlays(images[:2], {"a": np.full((2, 7, 7), 2.0)}, ["x", "y"])


def test_evidence_maps_share_a_scale_around_zero_and_tell_their_sum(images, rng):
    questions = {"for Coat": rng.normal(size=(2, 7, 7)), "for Shirt": 3 * rng.normal(size=(2, 7, 7))}
    figure = drawn(maps.evidence_maps(images[:2], questions, ["x", "y"]))
    heats = [axis.images[0] for axis in figure.axes[2:6]]
    ((low, high),) = {heat.get_clim() for heat in heats}
    assert low == -high and high > 3
    red, white, blue = heats[0].get_cmap()([1.0, 0.5, 0.0])
    assert red[0] > red[2] and blue[2] > blue[0] and min(white[:3]) > 0.9
    assert figure.axes[2].get_xlabel() == f"sum {style.signed(questions['for Coat'][0].sum())}"
    drawn(maps.evidence_maps(images[:2], {"dead": np.zeros((2, 7, 7))}, ["x", "y"]))


def test_an_answer_shows_both_images_the_maps_and_all_probabilities(images, rng):
    probabilities = np.full((2, 10), 0.02)
    probabilities[[0, 1], [4, 6]] = 0.82
    drawing = {"Shirt rather than Coat": rng.random((7, 7)), "Coat rather than Shirt": np.zeros((7, 7))}
    figure = drawn(maps.answer(images[:2], 4, probabilities, drawing, NAMES, "HiResCAM, conv2"))
    first, second, bars, one, other = figure.axes
    assert np.array_equal(first.images[0].get_array(), images[0, ..., 0])
    assert np.array_equal(second.images[0].get_array(), images[1, ..., 0])
    assert [axis.get_title() for axis in (first, second)] == ["as it is: ✓ Coat 82%", "disturbed: ✗ Shirt 82%"]
    assert [axis.get_title() for axis in (one, other)] == list(drawing) and one.get_xlabel() == "HiResCAM, conv2"
    assert np.array_equal(one.images[1].get_array(), drawing["Shirt rather than Coat"])
    assert texts(other) == ["no\npositive\nevidence"]
    lengths = [[bar.get_width() for bar in several] for several in bars.containers]
    assert np.array_equal(lengths, probabilities)
    assert [label.get_text() for label in bars.get_yticklabels()] == list(NAMES)


def test_figures_of_the_package_raise_no_warnings(recwarn, images, labels, rng):
    drawn(maps.embedding_map(rng.normal(size=(40, 2)), labels, NAMES, images, [1]))
    drawn(maps.feature_maps({"conv2d": np.zeros((7, 7, 4))}, images[0]))
    plt.close("all")
    assert [str(warning.message) for warning in recwarn] == []

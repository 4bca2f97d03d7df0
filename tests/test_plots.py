"""Figures hold the data they were given, and refuse arrays that do not fit."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import drawn, texts
from matplotlib.colors import to_hex, to_rgb
from matplotlib.offsetbox import AnnotationBbox

from fashion_mnist import plots

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


def names_of(ticks):
    return [tick.get_text() for tick in ticks]


# ------------------------------------------------------------------------------------------------------------ style


def test_colours_and_markers_of_ten_classes_are_distinct():
    assert len(set(plots.CLASS_COLOURS)) == len(set(plots.CLASS_MARKERS)) == 10


def test_neighbouring_classes_differ_in_lightness_or_hue_for_a_deuteranope():
    # Machado et al. (2009), severity 1, in linear RGB; then the distance of the simulated colours.
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in plots.CLASS_COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ deuteranopia.T, 0, 1) ** (1 / 2.2)
    tops = seen[[0, 2, 3, 4, 6]]  # T-shirt, pullover, dress, coat, shirt lie among one another
    distances = np.linalg.norm(tops[:, None] - tops[None], axis=-1)[np.triu_indices(5, 1)]
    assert distances.min() > 0.15


def test_style_is_applied():
    with plt.rc_context():
        plt.rcdefaults()
        plots.use_style()
        assert plt.rcParams["image.cmap"] == "gray_r"
        assert plt.rcParams["image.interpolation"] == "nearest"


def test_warnings_free(recwarn, images, labels, rng):
    drawn(plots.sample_grid(images, labels, NAMES))
    drawn(plots.projection_3d(rng.normal(size=(40, 3)), labels, NAMES))
    drawn(plots.predictions_grid(images[:3], labels[:3], labels[:3], NAMES))
    assert [str(warning.message) for warning in recwarn] == []


# ------------------------------------------------------------------------------------------------------------- data


def test_class_balance_has_bars_and_a_pie_for_each_split():
    counts = {"train": np.arange(1, 11), "test": np.full(10, 5)}
    figure = drawn(plots.class_balance(counts, NAMES))
    train_bars, test_bars, train_pie, test_pie = figure.axes
    assert [bar.get_width() for bar in train_bars.patches] == list(range(1, 11))
    assert names_of(train_bars.get_yticklabels()) == list(NAMES)
    assert train_bars.get_title(loc="left") == "train: 55 images"
    assert [bar.get_width() for bar in test_bars.patches] == [5] * 10
    wedges = train_pie.patches
    assert [abs(w.theta2 - w.theta1) for w in wedges] == pytest.approx(list(360 * np.arange(1, 11) / 55), abs=1e-3)
    assert set(NAMES) <= set(texts(test_pie))


def test_class_balance_refuses_counts_of_other_classes():
    with pytest.raises(ValueError, match=r"counts\['train'\] has shape \(9,\)"):
        plots.class_balance({"train": np.ones(9)}, NAMES)
    with pytest.raises(ValueError, match="counts is empty"):
        plots.class_balance({}, NAMES)


def test_sample_grid_shows_the_first_images_of_each_class(images, labels):
    (axis,) = drawn(plots.sample_grid(images, labels, NAMES, columns=5)).axes
    canvas = axis.images[0].get_array()
    assert names_of(axis.get_yticklabels()) == list(NAMES)
    assert np.array_equal(canvas[:28, :28], images[0, ..., 0])
    assert np.array_equal(canvas[60:88, 30:58], images[12, ..., 0])  # second image of the third class
    assert canvas.mask[:28, 120:148].all()  # four images a class: the fifth place is empty
    assert axis.images[0].get_cmap().name == "gray_r"
    assert len(axis.get_xticks()) == 0


def test_mean_and_spread_are_those_of_the_class(images, labels):
    figure = drawn(plots.mean_and_spread(images, labels, NAMES))
    mean, spread = figure.axes[0].images[0], figure.axes[1].images[0]
    coats = images[labels == 4, ..., 0]
    assert np.allclose(mean.get_array()[:28, 120:148], coats.mean(axis=0), atol=1e-3)  # fifth place of the first row
    assert np.allclose(spread.get_array()[:28, 120:148], coats.std(axis=0), atol=1e-3)
    assert spread.get_clim() == pytest.approx(
        (0, max(images[labels == label].std(axis=0).max() for label in range(10))), abs=1e-3
    )
    assert set(NAMES) <= set(texts(figure.axes[0]))


def test_mean_and_spread_names_the_class_without_images(images, labels):
    with pytest.raises(ValueError, match="no image of Ankle boot"):
        plots.mean_and_spread(images[labels < 9], labels[labels < 9], NAMES)


def test_pixel_statistics_counts_every_intensity(images, labels):
    left, right = drawn(plots.pixel_statistics(images, labels, NAMES)).axes
    share = left.patches[0].get_data().values
    assert share == pytest.approx(np.bincount(images.ravel(), minlength=256) / images.size)
    assert names_of(right.get_yticklabels()) == list(NAMES)


def test_image_pairs_stand_one_above_the_other(images):
    (axis,) = drawn(plots.image_pairs(images[:3], images[3:6], ["a", "b", "c"], ("test", "training"))).axes
    canvas = axis.images[0].get_array()
    assert np.array_equal(canvas[:28, 30:58], images[1, ..., 0])
    assert np.array_equal(canvas[30:58, 30:58], images[4, ..., 0])
    assert texts(axis) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="as many of one as of the other"):
        plots.image_pairs(images[:3], images[:2], ["a", "b", "c"])
    with pytest.raises(ValueError, match="captions has 2 entries"):
        plots.image_pairs(images[:3], images[:3], ["a", "b"])


# ------------------------------------------------------------------------------------------------------ projections


def test_pca_spectrum_marks_the_first_component_that_reaches_a_share():
    ratios = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])
    left, right = drawn(plots.pca_spectrum(ratios, marks=(0.7, 0.75, 0.99))).axes
    assert left.lines[0].get_ydata() == pytest.approx(ratios)
    assert right.lines[0].get_ydata() == pytest.approx(np.cumsum(ratios))
    assert texts(right) == ["70%: 2", "75%: 2", "99%: 5"]


def test_pca_spectrum_leaves_out_shares_that_are_not_reached():
    _, right = plots.pca_spectrum(np.array([0.5, 0.2])).axes
    assert texts(right) == []
    with pytest.raises(ValueError, match="one share a component"):
        plots.pca_spectrum(np.ones((2, 2)))


def test_projection_2d_draws_and_names_every_class(rng, labels):
    points = rng.normal(size=(40, 2)) + 10 * labels[:, None]
    (axis,) = drawn(plots.projection_2d(points, labels, NAMES)).axes
    assert len(axis.collections) == 10
    for label, dots in enumerate(axis.collections):
        assert np.array_equal(dots.get_offsets(), points[labels == label])
        assert to_hex(dots.get_facecolor()[0]) == plots.CLASS_COLOURS[label].lower()
    assert texts(axis) == list(NAMES)


def test_class_names_stand_in_their_clusters(rng):
    labels = np.repeat([0, 1], 200)
    centres = np.array([[0, 0], [10, 5]])
    points = centres[labels] + rng.normal(scale=0.3, size=(400, 2))
    (axis,) = plots.projection_2d(points, labels, NAMES[:2]).axes
    for text, centre in zip(axis.texts, centres, strict=True):
        assert np.linalg.norm(np.array(text.get_position()) - centre) < 1


def test_names_of_classes_on_one_spot_are_moved_apart(rng):
    points = rng.normal(size=(400, 2))
    (axis,) = drawn(plots.projection_2d(points, np.arange(400) % 4, NAMES[:4])).axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_projection_3d_draws_every_class(rng, labels):
    points = rng.normal(size=(40, 3))
    figure = drawn(plots.projection_3d(points, labels, NAMES))
    (axis,) = figure.axes
    assert sum(len(dots.get_offsets()) for dots in axis.collections) == 40
    assert names_of(figure.legends[0].get_texts()) == list(NAMES)


def test_components_share_a_scale_that_is_symmetric(rng):
    vectors = rng.normal(size=(7, 784))
    figure = drawn(plots.components(vectors, np.linspace(0.3, 0.1, 7), columns=4))
    picture = figure.axes[0].images[0]
    limit = np.abs(vectors).max()
    assert picture.get_clim() == pytest.approx((-limit, limit))
    assert np.allclose(picture.get_array()[:28, 30:58], vectors[1].reshape(28, 28))
    assert texts(figure.axes[0])[0] == "1: 30.0%"
    with pytest.raises(ValueError, match="do not make a square image"):
        plots.components(rng.normal(size=(7, 783)))


def test_reconstructions_stand_beside_their_originals(images):
    (axis,) = drawn(plots.reconstructions(images[:2], {5: images[2:4], 50: images[4:6]}, ["Coat", "Bag"])).axes
    canvas = axis.images[0].get_array()
    assert texts(axis) == ["original", "k = 5", "k = 50"]
    assert names_of(axis.get_yticklabels()) == ["Coat", "Bag"]
    assert np.array_equal(canvas[30:58, :28], images[1, ..., 0])
    assert np.array_equal(canvas[30:58, 60:88], images[5, ..., 0])
    with pytest.raises(ValueError, match=r"rebuilt\[5\] has shape"):
        plots.reconstructions(images[:2], {5: images[:3]}, ["Coat", "Bag"])


def test_embedding_map_draws_all_points_and_the_thumbnails_asked_for(rng, images, labels):
    points = rng.normal(size=(40, 2))
    figure = drawn(plots.embedding_map(points, labels, NAMES, images, shown=np.array([3, 14])))
    (axis,) = figure.axes
    dots = axis.collections[0]
    assert sorted(map(tuple, dots.get_offsets())) == sorted(map(tuple, points))
    assert dots.get_rasterized()
    # a point keeps the colour of its class although the order of drawing is shuffled
    where = int(np.flatnonzero((dots.get_offsets() == points[7]).all(axis=1))[0])
    assert to_hex(dots.get_facecolor()[where]) == plots.CLASS_COLOURS[labels[7]].lower()
    boxes = [artist for artist in axis.get_children() if isinstance(artist, AnnotationBbox)]
    assert [tuple(box.xy) for box in boxes] == [tuple(points[3]), tuple(points[14])]
    assert set(NAMES) <= set(texts(axis))


def test_embedding_map_refuses_thumbnails_without_images(rng, labels):
    with pytest.raises(ValueError, match="pass images too"):
        plots.embedding_map(rng.normal(size=(40, 2)), labels, NAMES, shown=[1])


@pytest.mark.parametrize("shape", [(40,), (40, 3), (0, 2)])
def test_points_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
        plots.embedding_map(np.zeros(shape), np.zeros(shape[0], int), NAMES)


def test_neighbour_confusion_writes_per_cent_and_leaves_zeros_out():
    shares = np.eye(10) * 0.9
    shares[6, 0], shares[6, 2] = 0.101, 0.004
    figure = drawn(plots.neighbour_confusion(shares, NAMES))
    cells = cells_of(figure.axes[0])
    assert cells[(6, 0)].get_text() == "10"
    assert (6, 2) not in cells and (0, 6) not in cells
    assert cells[(3, 3)].get_text() == "90"


# ------------------------------------------------------------------------------------------ training and evaluation

HISTORY = {
    "loss": [1.0, 0.5, 0.3],
    "val_loss": [1.1, 0.6, 0.5],
    "accuracy": [0.6, 0.8, 0.9],
    "val_accuracy": [0.5, 0.7, 0.8],
}


def test_learning_curves_draw_training_dashed_and_validation_solid_from_epoch_one():
    figure = drawn(plots.learning_curves({"mlp": HISTORY, "cnn": HISTORY}))
    loss, accuracy = figure.axes
    training, validation = loss.lines[:2]
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(training.get_ydata()) == HISTORY["loss"] and training.get_linestyle() == "--"
    assert list(validation.get_ydata()) == HISTORY["val_loss"] and validation.get_linestyle() == "-"
    assert training.get_color() == validation.get_color() != loss.lines[2].get_color()
    assert len(accuracy.lines) == 4
    assert all(float(tick).is_integer() for tick in loss.get_xticks())
    assert names_of(figure.legends[0].get_texts()) == ["mlp", "cnn", "training", "validation"]


def test_a_rate_that_ends_at_zero_stays_on_its_logarithmic_axis():
    figure = drawn(plots.learning_curves({"cnn": {**HISTORY, "learning_rate": [0.01, 0.005, 0.0]}}, learning_rate=True))
    assert list(figure.axes[2].lines[0].get_ydata()) == [0.01, 0.005]


def test_learning_curves_add_a_panel_with_the_learning_rate():
    rates = [1e-3, 1e-3, 1e-4]
    figure = drawn(plots.learning_curves({"cnn": {**HISTORY, "learning_rate": rates}}, learning_rate=True))
    assert len(figure.axes) == 3
    assert list(figure.axes[2].lines[0].get_ydata()) == rates


def test_learning_curves_manage_a_single_epoch_and_no_validation():
    (axis,) = drawn(plots.learning_curves({"mlp": {"loss": [0.4]}}, metrics=("loss",))).axes
    assert axis.lines[0].get_marker() == "."  # a line through one point would show nothing


def test_learning_curves_name_the_metric_that_is_missing():
    with pytest.raises(ValueError, match="no history holds 'f1'; they hold accuracy, loss"):
        plots.learning_curves({"mlp": HISTORY}, metrics=("f1",))
    with pytest.raises(ValueError, match="'learning_rate'"):
        plots.learning_curves({"mlp": HISTORY}, learning_rate=True)


def cells_of(axis):
    """The texts of a matrix by row and column, empty ones left out."""
    return {tuple(int(at) for at in text.get_position()[::-1]): text for text in axis.texts if text.get_text()}


@pytest.fixture
def matrix():
    matrix = np.diag(np.full(10, 90))
    matrix[6, 0] = 30
    matrix[9] = 0  # a class without images
    return matrix


def test_confusion_matrix_writes_counts_and_colours_by_row(matrix):
    axis = drawn(plots.confusion_matrix(matrix, NAMES, title="cnn")).axes[0]
    shares = axis.collections[0].get_array()
    assert shares[6, 6] == pytest.approx(0.75) and shares[6, 0] == pytest.approx(0.25)
    assert np.all(shares[9] == 0)
    cells = cells_of(axis)
    assert cells[(6, 0)].get_text() == "30" and cells[(6, 6)].get_text() == "90"
    light, dark = (sum(to_rgb(cells[cell].get_color())) for cell in ((6, 6), (6, 0)))
    assert light > dark, "light on the dark diagonal, dark on the pale rest"
    assert len(cells) == 10  # nine on the diagonal, one beside it; zeros stay empty
    assert names_of(axis.get_yticklabels()) == names_of(axis.get_xticklabels()) == list(NAMES)
    assert all(text.get_rotation() == 0 for text in axis.get_yticklabels())
    assert axis.get_title(loc="left") == "cnn"
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("True class", "Predicted class")


def test_confusion_matrices_stand_two_a_row(matrix):
    figure = drawn(plots.confusion_matrices({"a": matrix, "b": matrix, "c": matrix}, NAMES))
    panels = figure.axes[:-1]
    assert [axis.get_title(loc="left") for axis in panels] == ["a", "b", "c"]
    assert len(figure.axes) == 4  # three panels and one colour bar


def test_confusion_matrix_refuses_another_number_of_classes(matrix):
    with pytest.raises(ValueError, match=r"matrix has shape \(9, 9\); 10 class names need \(10, 10\)"):
        plots.confusion_matrix(matrix[:9, :9], NAMES)


def test_predictions_grid_says_what_was_predicted_and_what_is_true(images):
    true, predicted = np.array([0, 6, 4]), np.array([0, 4, 4])
    chances = np.full((3, 10), 0.02)
    chances[[0, 1, 2], predicted] = 0.82
    axes = drawn(plots.predictions_grid(images[:3], true, predicted, NAMES, chances, columns=2)).axes
    assert [axis.get_title() for axis in axes] == ["✓ T-shirt/top 82%", "✗ Coat 82%\ntrue: Shirt", "✓ Coat 82%"]
    assert [axis.title.get_color() for axis in axes] == [plots.RIGHT, plots.WRONG, plots.RIGHT]
    assert np.array_equal(axes[1].images[0].get_array(), images[1, ..., 0])


def test_predictions_grid_takes_the_probability_of_the_prediction_alone(images):
    (axis,) = plots.predictions_grid(images[:1], [3], [3], NAMES, probabilities=[0.5], columns=1).axes
    assert axis.get_title() == "✓ Dress 50%"


def test_predictions_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(ValueError, match=r"predicted has shape \(3,\)"):
        plots.predictions_grid(images, labels, labels[:3], NAMES)
    with pytest.raises(ValueError, match="predicted run from 0 to 10"):
        plots.predictions_grid(images[:2], [0, 1], [0, 10], NAMES)


def test_per_class_bars_draw_a_dot_for_each_class_and_model():
    values = {"mlp": np.linspace(0.8, 0.9, 10), "cnn": np.linspace(0.85, 0.95, 10)}
    figure = drawn(plots.per_class_bars(values, NAMES, "F1 (test)"))
    (axis,) = figure.axes
    mlp, cnn = axis.collections[1:]
    assert np.asarray(mlp.get_offsets())[:, 0] == pytest.approx(values["mlp"])
    assert np.asarray(cnn.get_offsets())[:, 0] == pytest.approx(values["cnn"])
    assert axis.get_xlabel() == "F1 (test)"
    with pytest.raises(ValueError, match=r"values\['mlp'\] has shape"):
        plots.per_class_bars({"mlp": np.ones(3)}, NAMES, "F1")


def test_accuracy_bars_draw_means_intervals_and_references():
    figure = drawn(
        plots.accuracy_bars(["mlp", "cnn"], [0.89, 0.92], [[0.88, 0.9], [0.91, 0.93]], {"cnn": 0.9201, "5-NN": 0.85})
    )
    (axis,) = figure.axes
    (bars,) = axis.containers
    assert bars.lines[0].get_xdata() == pytest.approx([0.89, 0.92])
    assert [segment[:, 0].tolist() for segment in bars.lines[2][0].get_segments()] == [
        pytest.approx([0.88, 0.9]),
        pytest.approx([0.91, 0.93]),
    ]
    diamonds = axis.collections[-1]
    assert diamonds.get_offsets().tolist() == [[0.9201, 1]]
    assert texts(axis) == ["89.00%", "92.00%", "5-NN 85.0%"]


def test_accuracy_bars_refuse_intervals_that_do_not_hold_the_mean():
    with pytest.raises(ValueError, match="a mean lies outside its interval"):
        plots.accuracy_bars(["mlp"], [0.89], [[0.9, 0.91]])
    with pytest.raises(ValueError, match=r"expected lower and upper ends, \(1, 2\)"):
        plots.accuracy_bars(["mlp"], [0.89], [0.01])


def test_augmentations_grid_has_a_row_each(images):
    (axis,) = drawn(plots.augmentations_grid({"none": images[:3], "flip": images[:3, :, ::-1]})).axes
    assert names_of(axis.get_yticklabels()) == ["none", "flip"]
    assert np.array_equal(axis.images[0].get_array()[30:58, :28], images[0, :, ::-1, 0])
    with pytest.raises(ValueError, match="same number of images"):
        plots.augmentations_grid({"none": images[:3], "flip": images[:2]})


# ----------------------------------------------------------------------------------------------------- explanations


def test_feature_maps_draw_every_channel_on_one_scale(rng):
    maps = rng.uniform(0, 3, (7, 5, 10))
    axis = drawn(plots.feature_maps(maps, columns=4, title="conv2d")).axes[0]
    canvas = axis.images[0].get_array()
    assert np.allclose(canvas[9:16, :5], maps[..., 4])  # the fifth channel starts the second row
    assert axis.images[0].get_clim() == pytest.approx((0, maps.max()))
    with pytest.raises(ValueError, match=r"expected one image's activations \(h, w, channels\)"):
        plots.feature_maps(maps[None])


def test_dead_feature_maps_can_be_drawn():
    drawn(plots.feature_maps(np.zeros((7, 7, 4))))


def test_heat_map_overlays_lie_over_the_whole_image(images, rng):
    maps = {"Grad-CAM": rng.random((2, 7, 7)), "Score-CAM": rng.random((2, 14, 14))}
    figure = drawn(plots.heat_map_overlays(images[:2], maps, ["Coat", "Bag"]))
    assert len(figure.axes) == 2 * 3 + 1  # rows × (image and methods), one colour bar
    plain, first = figure.axes[:2]
    assert len(plain.images) == 1 and plain.get_ylabel() == "Coat"
    picture, heat = first.images
    assert picture.get_extent() == heat.get_extent()
    assert np.array_equal(heat.get_array(), maps["Grad-CAM"][0])
    assert heat.get_clim() == (0, 1)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "Grad-CAM", "Score-CAM"]


def test_heat_maps_that_do_not_fit_are_refused(images):
    with pytest.raises(ValueError, match=r"maps\['a'\] has shape \(3, 7, 7\); expected \(2, h, w\)"):
        plots.heat_map_overlays(images[:2], {"a": np.zeros((3, 7, 7))}, ["x", "y"])
    with pytest.raises(ValueError, match="scale to 0 to 1"):
        plots.heat_map_overlays(images[:2], {"a": np.full((2, 7, 7), 2.0)}, ["x", "y"])


def test_heat_map_overlays_across_put_images_side_by_side(images, rng):
    figure = drawn(plots.heat_map_overlays(images[:4], {"CNN": rng.random((4, 7, 7))}, list("abcd"), across=True))
    assert [axis.get_title() for axis in figure.axes[:4]] == list("abcd")
    assert [figure.axes[index].get_ylabel() for index in (0, 4)] == ["image", "CNN"]
    assert np.array_equal(figure.axes[2].images[0].get_array(), figure.axes[6].images[0].get_array())


def test_evidence_maps_share_a_scale_around_zero(images, rng):
    maps = {"for Coat": rng.normal(size=(2, 7, 7)), "for Shirt": 3 * rng.normal(size=(2, 7, 7))}
    figure = drawn(plots.evidence_maps(images[:2], maps, ["x", "y"]))
    heats = [axis.images[1] for axis in figure.axes[:6] if len(axis.images) == 2]
    assert len(heats) == 4
    ((low, high),) = {heat.get_clim() for heat in heats}
    assert low == -high and high > 3
    red, white, blue = heats[0].get_cmap()([1.0, 0.5, 0.0])
    assert red[0] > red[2] and blue[2] > blue[0] and white[3] < 0.1  # nothing hides the image where nothing is said
    drawn(plots.evidence_maps(images[:2], {"dead": np.zeros((2, 7, 7))}, ["x", "y"]))


def test_faithfulness_curves_draw_base_lines_dashed(rng):
    fraction, values = np.linspace(0, 1, 5), {"Grad-CAM": rng.random(5), "random": rng.random(5)}
    figure = drawn(plots.faithfulness_curves(fraction, values, values, baselines=["random"]))
    for axis in figure.axes:
        assert [line.get_linestyle() for line in axis.lines] == ["-", "--"]
        assert np.array_equal(axis.lines[1].get_ydata(), values["random"])
    assert texts(figure.legends[0]) == ["Grad-CAM", "random"]
    with pytest.raises(ValueError, match="deletion has random; they must agree"):
        plots.faithfulness_curves(fraction, values, {"random": values["random"]})
    with pytest.raises(ValueError, match=r"curve 'Grad-CAM' has 5 entries, fraction has 4"):
        plots.faithfulness_curves(fraction[1:], values, values)


def test_sanity_cascade_starts_from_the_intact_network():
    figure = drawn(plots.sanity_cascade({"Grad-CAM": {"logits": 0.4, "conv1": 0.1}}))
    (axis,) = figure.axes
    assert list(axis.lines[0].get_ydata()) == [1, 0.4, 0.1]
    assert names_of(axis.get_xticklabels()) == ["none", "logits", "… and conv1"]
    with pytest.raises(ValueError, match=r"correlations\['b'\] has layers conv1; the first has logits"):
        plots.sanity_cascade({"a": {"logits": 0.4}, "b": {"conv1": 0.4}})


# ----------------------------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize("shape", [(28, 28), (3, 28, 28, 3), (0, 28, 28, 1)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n, 28, 28\) or \(n, 28, 28, 1\)"):
        plots.sample_grid(np.zeros(shape), np.zeros(shape[0], int), NAMES)


def test_labels_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(ValueError, match=r"labels has shape \(39,\); expected one label each of 40"):
        plots.sample_grid(images, labels[:39], NAMES)
    with pytest.raises(ValueError, match="labels run from 0 to 9, but class_names holds 3 names"):
        plots.sample_grid(images, labels, NAMES[:3])


def test_more_classes_than_colours_are_refused(rng):
    with pytest.raises(ValueError, match="palette serves 1 to 10 classes"):
        plots.projection_2d(rng.normal(size=(3, 2)), np.zeros(3, int), [str(n) for n in range(11)])

"""One style for all figures: palettes that everybody can tell apart, names that hide nothing."""

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import drawn
from matplotlib.colors import to_rgb

from fashion_mnist.figures import style

pytestmark = pytest.mark.usefixtures("study_style")


def test_colours_and_markers_of_ten_classes_are_distinct():
    assert len(set(style.CLASS_COLOURS)) == len(set(style.CLASS_MARKERS)) == 10


def test_garments_that_are_confused_differ_for_a_deuteranope():
    # Machado et al. (2009), severity 1, in linear RGB; then the distance of the simulated colours.
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    rgb = np.array([to_rgb(colour) for colour in style.CLASS_COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ deuteranopia.T, 0, 1) ** (1 / 2.2)
    tops = seen[[0, 2, 3, 4, 6]]  # T-shirt, pullover, dress, coat, shirt lie among one another
    distances = np.linalg.norm(tops[:, None] - tops[None], axis=-1)[np.triu_indices(5, 1)]
    assert distances.min() > 0.15


def test_a_signed_number_has_a_minus_and_no_negative_zero():
    assert [style.signed(value) for value in (1.14, -0.31, -0.01)] == ["+1.1", "−0.3", "+0.0"]
    assert style.signed(-2.5, 2) == "−2.50"


def test_style_is_applied_and_every_text_is_readable():
    with plt.rc_context():
        plt.rcdefaults()
        style.use()
        assert plt.rcParams["image.cmap"] == "gray_r"
        assert plt.rcParams["savefig.dpi"] == 160
        assert plt.rcParams["figure.figsize"][0] <= 8
        assert min(value for key, value in style.STYLE.items() if key.endswith("size") and "fig" not in key) >= 8


def test_more_runs_than_colours_can_still_be_told_apart():
    looks = {tuple(style.line(index).values()) for index in range(20)}
    assert len(looks) == 20


def test_figures_import_nothing_else_of_the_package():
    code = "import sys; from fashion_mnist import figures as f; f.curves, f.images, f.maps, f.matrices, f.style; "
    code += "print(*(name for name in sys.modules if 'fashion_mnist' in name))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.removeprefix("fashion_mnist").split(".")[1:2][0] for name in loaded if "." in name} == {"figures"}
    assert {"fashion_mnist.figures.curves", "fashion_mnist.figures.maps"} <= set(loaded)


def test_names_in_a_crowd_hide_neither_one_another_nor_a_point_nor_cross():
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(0, 1, 14), rng.uniform(0, 1, 14)])
    names = [f"network number {index}" for index in range(14)]
    figure, axis = plt.subplots()
    axis.scatter(*points.T)
    style.write_names(axis, names, points, fontsize=8)
    drawn(figure)
    boxes = [text.get_window_extent() for text in axis.texts]
    frame = axis.get_window_extent().padded(1)
    places = axis.transData.transform(points)
    leaders = [axis.transData.transform(line.get_xydata()) for line in axis.lines]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index]), names[index]
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        assert not any(box.contains(x, y) for x, y in places), names[index]
    assert leaders, "a crowd needs leaders"
    for start, end in leaders:
        way = start + np.linspace(0, 0.9, 50)[:, None] * (end - start)
        assert sum(any(box.contains(x, y) for x, y in way) for box in boxes) == 0
        assert sum(np.linalg.norm(way - place, axis=1).min() < 3 for place in places) == 0


def test_a_name_stands_on_its_point_where_there_is_room():
    figure, axis = plt.subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    style.write_names(axis, ["here", "there"], [(0.3, 0.5), (0.7, 0.5)], on=True)
    drawn(figure)
    assert [text.get_position() for text in axis.texts] == [pytest.approx((0.3, 0.5)), pytest.approx((0.7, 0.5))]
    assert not axis.lines, "no leader"

"""Figures of the evaluation hold the numbers they were given, and refuse arrays that do not fit."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from conftest import drawn, texts
from matplotlib.colors import to_hex

from fashion_mnist import evaluation, plots

pytestmark = pytest.mark.usefixtures("study_style")

MODELS = ("mlp", "cnn", "resnet")


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def answers(count=300):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    logits = rng.normal(size=(count, 10))
    logits[np.arange(count), labels] += 2
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_reliability_diagram_leaves_out_empty_bins():
    table = evaluation.reliability(*answers(), bins=10)
    figure = drawn(plots.reliability_diagram({"before": table, "after": table}, {"before": 0.12, "after": 0.01}))
    above, below = figure.axes
    filled = table[table["images"] > 0]
    assert 0 < len(filled) < 10
    diagonal, before, after = above.lines
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist() == [0, 1]
    assert before.get_xdata() == pytest.approx(filled["confidence"].to_numpy())
    assert after.get_ydata() == pytest.approx(filled["accuracy"].to_numpy())
    assert below.patches[0].get_data().values == pytest.approx(table["images"].to_numpy() / 300)
    assert [text.get_text() for text in above.get_legend().get_texts()] == [
        "perfectly calibrated",
        "before (calibration error 12.0%)",
        "after (calibration error 1.0%)",
    ]
    with pytest.raises(ValueError, match="tables is empty"):
        plots.reliability_diagram({})


def test_coverage_curves_are_the_tables_from_two_percent_on():
    curve = evaluation.accuracy_coverage(*answers(100))
    figure = drawn(plots.coverage_curves(dict.fromkeys(map(str, range(9)), curve)))
    (axis,) = figure.axes
    assert axis.lines[0].get_xdata() == pytest.approx(np.arange(2, 101) / 100)
    assert axis.lines[0].get_ydata() == pytest.approx(curve["accuracy"].to_numpy()[1:])
    looks = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
    assert len(looks) == 9  # more models than colours can still be told apart
    assert legend_of(figure) == [str(index) for index in range(9)]


def test_robustness_curves_have_a_panel_a_corruption_and_start_at_clean():
    table = np.linspace(0.9, 0.2, 35).reshape(7, 5)
    figure = drawn(
        plots.robustness_curves(
            {"cnn": table, "mlp": table / 2}, list(evaluation.CORRUPTIONS), {"cnn": 0.95, "mlp": 0.5}
        )
    )
    assert [axis.get_title(loc="left").lower() for axis in figure.axes] == list(evaluation.CORRUPTIONS)
    cnn, mlp = figure.axes[3].lines
    assert cnn.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    assert cnn.get_ydata() == pytest.approx([0.95, *table[3]])
    assert mlp.get_ydata() == pytest.approx([0.5, *table[3] / 2])
    assert legend_of(figure) == ["cnn", "mlp"]
    (panel,) = drawn(plots.robustness_curves({"cnn": table[:1]}, ["noise"])).axes
    assert panel.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"accuracies\['cnn'\] has shape \(7, 5\); expected \(2, strengths\)"):
        plots.robustness_curves({"cnn": table}, ["noise", "blur"])


def test_robustness_matrix_writes_per_cent():
    table = np.array([[0.9, 0.25], [0.8, 0.123]])
    axis = drawn(plots.robustness_matrix(table, ["noise", "blur"], ["1", "5"])).axes[0]
    assert texts(axis) == ["90.0", "25.0", "80.0", "12.3"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["noise", "blur"]
    with pytest.raises(ValueError, match=r"shape \(2, 2\); the names need \(1, 2\)"):
        plots.robustness_matrix(table, ["noise"], ["1", "5"])


def test_significance_matrix_reads_from_row_to_column():
    figure = drawn(
        plots.significance_matrix(
            ["mlp", "mlp", "cnn"], ["cnn", "resnet", "resnet"], [-0.03, -0.02, 0.001], [1e-9, 0.021, 0.6]
        )
    )
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == list(MODELS)
    written = iter(texts(axis))
    cells = axis.collections[0].get_array()
    shown = {
        (row, column): next(written)
        for row in range(3)
        for column in range(3)
        if not np.ma.getmaskarray(cells)[row, column]
    }
    assert shown[0, 1] == shown[1, 0] == "<0.001"
    assert shown[0, 2] == shown[2, 0] == "0.021"
    assert shown[1, 2] == "0.6"
    colour = {place: to_hex(axis.collections[0].to_rgba(cells[place])).upper() for place in shown}
    assert colour[0, 1] == plots.WRONG and colour[1, 0] == plots.RIGHT  # the MLP is worse, the CNN better
    assert colour[1, 2] == colour[2, 1] == "#EFEFEF"


def test_significance_matrix_needs_every_pair():
    with pytest.raises(ValueError, match="p_values has 2 entries"):
        plots.significance_matrix(["a"], ["b"], [0.1], [0.2, 0.3])
    with pytest.raises(ValueError, match="hold 2 pairs; 3 models make 3"):
        plots.significance_matrix(["a", "a"], ["b", "c"], [0.1, 0.1], [0.2, 0.3])


def test_accuracy_against_cost_draws_points_intervals_and_the_front():
    accuracies = np.array([0.90, 0.93, 0.92])
    intervals = np.stack([accuracies - 0.01, accuracies + 0.005], axis=1)
    (axis,) = drawn(plots.accuracy_against_cost(MODELS, [1e5, 1e6, 5e6], accuracies, intervals, "Parameters")).axes
    front = axis.lines[0]
    assert front.get_xdata().tolist() == [1e5, 1e6]  # the third costs more and is no better
    (bars,) = axis.containers
    assert bars.lines[0].get_ydata() == pytest.approx(accuracies)
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    assert ends == pytest.approx(intervals)
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "Parameters"
    assert texts(axis) == list(MODELS)


def test_names_in_a_crowd_hide_neither_one_another_nor_a_point():
    rng = np.random.default_rng(1)
    costs, accuracies = 10 ** rng.uniform(5, 6, 14), rng.uniform(0.92, 0.945, 14)
    names = [f"model_number_{index}" for index in range(14)]
    intervals = np.stack([accuracies - 0.002, accuracies + 0.002], axis=1)
    figure = drawn(plots.accuracy_against_cost(names, costs, accuracies, intervals, "Seconds"))
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    frame = axis.get_window_extent().padded(1)
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index]), names[index]
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        for x, y in axis.transData.transform(np.column_stack([costs, accuracies])):
            assert not box.contains(x, y)


@pytest.mark.parametrize(
    ("costs", "intervals", "message"),
    [
        ([1, 2], np.zeros((3, 2)), "costs has 2 entries"),
        ([1, 2, 0], np.zeros((3, 2)), "needs positive numbers"),
        ([1, 2, np.nan], np.zeros((3, 2)), "needs positive numbers"),
        ([1, 2, 3], np.zeros((2, 3)), r"intervals has shape \(2, 3\)"),
    ],
)
def test_costs_that_cannot_be_drawn_are_refused(costs, intervals, message):
    with pytest.raises(ValueError, match=message):
        plots.accuracy_against_cost(MODELS, costs, [0.9, 0.9, 0.9], intervals, "Parameters")


def test_predictions_of_doubtful_labels_say_label():
    images = np.zeros((2, 28, 28, 1), np.uint8)
    figure = drawn(plots.predictions_grid(images, np.array([0, 1]), np.array([1, 1]), ("a", "b"), reference="label"))
    assert [axis.get_title() for axis in figure.axes] == ["✗ b\nlabel: a", "✓ b"]

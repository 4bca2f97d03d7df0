"""Lines, bars and dots hold the numbers they were given, and say whose and of which split they are."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import drawn, texts
from sklearn.metrics import average_precision_score, precision_recall_curve

from fashion_mnist.figures import curves as charts
from fashion_mnist.figures import style

pytestmark = pytest.mark.usefixtures("study_style")

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
HISTORY = {
    "loss": [1.0, 0.5, 0.3],
    "val_loss": [1.1, 0.6, 0.5],
    "accuracy": [0.6, 0.8, 0.9],
    "val_accuracy": [0.5, 0.7, 0.8],
    "learning_rate": [0.01, 0.005, 0.0],
}


def names_of(ticks):
    return [tick.get_text() for tick in ticks]


def legend_of(owner):
    legend = owner.get_legend() if hasattr(owner, "get_legend") else owner.legends[0]
    return [text.get_text() for text in legend.get_texts()]


# ------------------------------------------------------------------------------------------------------ data and lines


def test_class_balance_has_bars_with_a_part_for_each_split_and_one_pie_of_all():
    counts = {"train": np.arange(1, 11), "test": np.full(10, 5)}
    bars, pie = drawn(charts.class_balance(counts, NAMES)).axes
    assert [bar.get_width() for bar in bars.patches] == [*range(1, 11), *[5] * 10]
    assert [bar.get_x() for bar in bars.patches] == [*[0] * 10, *range(1, 11)]
    assert names_of(bars.get_yticklabels()) == list(NAMES)
    assert sorted(legend_of(bars)) == ["test: 50", "train: 55"]
    shares = [abs(wedge.theta2 - wedge.theta1) for wedge in pie.patches]
    assert shares == pytest.approx(list(360 * np.arange(6, 16) / 105), abs=1e-3)
    assert set(NAMES) <= set(texts(pie))


def test_lines_draw_baselines_dashed_and_leave_the_legend_of_given_axes_to_the_caller():
    curves = {"Grad-CAM": ([0, 0.5, 1], [0.2, 0.6, 0.9]), "random": (np.arange(99) / 99, np.ones(99))}
    figure = drawn(charts.lines(curves, "Pixels inserted", "Probability", dashed=["random"]))
    (axis,) = figure.axes
    assert [line.get_linestyle() for line in axis.lines] == ["-", "--"]
    assert [line.get_marker() for line in axis.lines] == ["o", "None"]
    assert list(axis.lines[0].get_ydata()) == [0.2, 0.6, 0.9]
    colours = [
        charts.lines(dict.fromkeys("abcdefgh", ([0], [1])), dashed="gh").axes[0].lines[k].get_color() for k in (0, 7)
    ]
    assert colours[0] != colours[1], "eight lines, and no baseline has the colour of another"
    assert legend_of(figure) == ["Grad-CAM", "random"]
    assert names_of(axis.get_xticklabels())[-1].endswith("%")
    _, given = plt.subplots()
    assert not charts.lines(curves, ax=given).legends and len(given.lines) == 2


# ---------------------------------------------------------------------------------------------------- training, tuning


def test_learning_curves_draw_training_dashed_and_validation_solid_from_epoch_one():
    figure = drawn(charts.learning_curves({"mlp": HISTORY, "cnn": HISTORY}))
    loss, accuracy = figure.axes
    training, other, validation, _ = loss.lines
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(training.get_ydata()) == HISTORY["loss"] and training.get_linestyle() == "--"
    assert list(validation.get_ydata()) == HISTORY["val_loss"] and validation.get_linestyle() == "-"
    assert training.get_color() == validation.get_color() != other.get_color()
    assert len(accuracy.lines) == 4
    assert loss.get_ylabel() == "Training and validation loss"
    assert legend_of(figure) == ["mlp", "cnn", "training", "validation"]


def test_accuracies_near_to_one_are_drawn_apart():
    history = {"val_accuracy": [0.6, 0.8, 0.9, 0.95]}
    (axis,) = drawn(charts.learning_curves({"cnn": history}, metrics=("accuracy",))).axes
    heights = axis.transData.transform([(1, value) for value in history["val_accuracy"]])[:, 1]
    assert np.ptp(np.diff(heights)) < 0.3 * np.diff(heights).mean(), "halving the error is nearly as long everywhere"
    frame, ticks = axis.get_window_extent(), axis.get_yticklabels()
    assert frame.y1 - heights[-1] < 0.1 * frame.height, "no empty space above the best, however near to 100 %"
    assert {"60.0%", "80.0%", "90.0%", "94.0%"} <= {text.get_text() for text in ticks}


def test_a_panel_says_which_split_it_shows():
    (axis,) = drawn(charts.learning_curves({"cnn": {"val_accuracy": [0.5, 0.7]}}, metrics=("accuracy",))).axes
    assert axis.get_ylabel() == "Validation accuracy\n(logit scale)"


@pytest.mark.parametrize("epochs", [1, 3, 9, 20, 36, 300])
def test_the_axis_of_epochs_ends_with_the_last_one(epochs):
    (axis,) = drawn(charts.learning_curves({"cnn": {"loss": [1.0] * epochs}}, metrics=("loss",))).axes
    assert axis.get_xticks()[-1] == epochs
    assert axis.get_xlim()[0] < 1 and epochs < axis.get_xlim()[1] < 1.1 * epochs + 1
    assert all(float(tick).is_integer() and tick >= 1 for tick in axis.get_xticks())


def test_a_rate_that_ends_at_zero_is_drawn_to_its_end():
    figure = drawn(charts.learning_curves({"cnn": HISTORY}, learning_rate=True))
    rate = figure.axes[2]
    assert list(rate.lines[0].get_ydata()) == [1, 0.5, 0] and rate.get_yscale() == "linear"
    assert rate.lines[0].get_linestyle() == "-" and "peak" in rate.get_ylabel()
    low, high = rate.get_ylim()
    assert low < 0 and high > 1


def test_several_seeds_are_a_mean_in_a_band():
    seeds = [{"loss": [1.0, 0.4]}, {"loss": [3.0, 0.8]}]
    (axis,) = drawn(charts.learning_curves({"cnn": seeds}, metrics=("loss",))).axes
    assert axis.lines[0].get_ydata() == pytest.approx([2.0, 0.6])
    band = axis.collections[0].get_paths()[0].vertices
    assert {tuple(np.round(corner, 6)) for corner in band} >= {(1, 1.0), (1, 3.0), (2, 0.4), (2, 0.8)}


def test_seeds_that_stopped_after_other_epochs_are_a_line_each():
    seeds = [{"loss": [1.0, 0.4]}, {"loss": [3.0, 0.8, 0.5]}]
    (axis,) = drawn(charts.learning_curves({"cnn": seeds}, metrics=("loss",))).axes
    assert [line.get_ydata().tolist() for line in axis.lines] == [seed["loss"] for seed in seeds]
    assert not axis.collections


def test_a_single_epoch_is_a_point():
    (axis,) = drawn(charts.learning_curves({"mlp": {"loss": [0.4]}}, metrics=("loss",))).axes
    assert axis.lines[0].get_marker() == "."  # a line through one point would show nothing


def test_learning_curves_name_the_metric_that_is_missing():
    with pytest.raises(ValueError, match="no history holds 'f1'"):
        charts.learning_curves({"mlp": HISTORY}, metrics=("f1",))


def test_cut_curves_end_at_their_rung_and_the_best_are_named():
    curves = [[0.5], [0.4, 0.6], [0.45, 0.7, 0.8, 0.9], [], [0.5, 0.75, 0.85, 0.91]]
    states = ["pruned", "pruned", "complete", "failed", "complete"]
    (axis,) = drawn(charts.halving_curves(curves, states, (1, 2, 4), list("abcde"))).axes
    trials = [line for line in axis.lines if line.get_linestyle() == "-"]
    assert sorted(len(line.get_xdata()) for line in trials) == [1, 2, 4, 4]
    assert texts(axis) == ["4 trials", "3 trials", "2 trials"]
    assert legend_of(axis) == ["e: 91.00%", "c: 90.00%", "best pruned, b: 60.00% after 2 epochs"]
    assert axis.get_xticks().tolist() == [1, 2, 4]


def test_bad_trials_stay_inside_the_axis():
    curves = [[0.1], [0.12], [0.85, 0.9, 0.93]]
    (axis,) = drawn(charts.halving_curves(curves, ["pruned", "pruned", "complete"], (1, 3), list("abc"))).axes
    frame = axis.get_window_extent()
    places = axis.transData.transform([(1, 0.1), (1, 0.12), (3, 0.93)])
    assert all(frame.y0 + 5 < y < frame.y1 - 5 and frame.x0 + 5 < x < frame.x1 - 5 for x, y in places)


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_per_class_bars_draw_a_dot_for_each_class_and_network():
    values = {"mlp": np.linspace(0.8, 0.9, 10), "cnn": np.linspace(0.85, 0.95, 10)}
    (axis,) = drawn(charts.per_class_bars(values, NAMES, "F1 (test)")).axes
    mlp, cnn = axis.collections[1:]
    assert np.asarray(mlp.get_offsets())[:, 0] == pytest.approx(values["mlp"][::-1])
    assert np.asarray(cnn.get_offsets())[:, 0] == pytest.approx(values["cnn"][::-1])
    assert axis.get_xlabel() == "F1 (test)" and legend_of(axis) == ["mlp", "cnn"]
    assert names_of(axis.get_yticklabels()) == list(NAMES)[::-1] and axis.yaxis_inverted(), "the highest on top"


def test_few_rows_of_dots_make_a_low_figure():
    heights = [
        charts.per_class_bars({"first": np.arange(rows)}, NAMES[:rows], "F1 (test)").get_figheight() for rows in (2, 10)
    ]
    assert heights == pytest.approx([1.88, 4.6])


def test_accuracy_bars_draw_means_intervals_and_references():
    intervals = [[0.88, 0.9], [0.91, 0.93]]
    (axis,) = drawn(
        charts.accuracy_bars(["mlp", "cnn"], [0.89, 0.92], intervals, "Test accuracy", {"cnn": 0.9201})
    ).axes
    (bars,) = axis.containers
    assert bars.lines[0].get_xdata() == pytest.approx([0.89, 0.92])
    ends = [segment[:, 0] for segment in bars.lines[2][0].get_segments()]
    assert np.array(ends) == pytest.approx(np.array(intervals))
    assert axis.collections[-1].get_offsets().tolist() == [[0.9201, 1]]
    assert texts(axis) == ["89.00%", "92.00%"] and axis.get_xlabel() == "Test accuracy"


def test_numbers_of_many_networks_do_not_touch():
    names = [f"network {index}" for index in range(25)]
    means = np.linspace(0.95, 0.85, 25)
    (axis,) = drawn(charts.accuracy_bars(names, means, np.column_stack([means, means]), "Test accuracy")).axes
    boxes = [text.get_window_extent() for text in (*axis.texts, *axis.get_yticklabels())]
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])


@pytest.mark.parametrize("interval", [[0.9, 0.91], [0.01, 0.01]])
def test_accuracy_bars_refuse_intervals_that_do_not_hold_the_mean(interval):
    with pytest.raises(ValueError, match="a mean lies outside its interval"):
        charts.accuracy_bars(["mlp"], [0.89], [interval], "Test accuracy")


def test_differences_are_filled_where_they_are_established():
    intervals, shown = np.array([[0.001, 0.009], [-0.006, 0.002]]), np.array([True, False])
    figure = charts.differences(["flip", "shift"], [0.005, -0.002], intervals, shown, "Difference (points)")
    (axis,) = drawn(figure).axes
    bars = [bar.lines for bar in axis.containers]
    assert [bar[0].get_xdata().tolist() for bar in bars] == [[pytest.approx(0.5)], [pytest.approx(-0.2)]]
    ends = [bar[2][0].get_segments()[0][:, 0] for bar in bars]
    assert np.array(ends) == pytest.approx(100 * intervals)
    assert [bar[0].get_markerfacecolor() == "white" for bar in bars] == [False, True]
    assert texts(axis) == ["+0.50", "−0.20"] and names_of(axis.get_yticklabels()) == ["flip", "shift"]


def test_accuracy_against_cost_draws_points_intervals_and_the_frontier():
    accuracies = np.array([0.90, 0.93, 0.92])
    intervals = np.stack([accuracies - 0.01, accuracies + 0.005], axis=1)
    (axis,) = drawn(
        charts.accuracy_against_cost(["mlp", "cnn", "resnet"], [1e5, 1e6, 5e6], accuracies, intervals, "Parameters")
    ).axes
    frontier = axis.lines[0]
    assert frontier.get_xdata().tolist() == [1e5, 1e6]  # the third costs more and is no better
    assert legend_of(axis) == ["frontier: nothing cheaper here is as high"]
    (bars,) = axis.containers
    assert bars.lines[0].get_ydata() == pytest.approx(accuracies)
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    assert ends == pytest.approx(intervals)
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "Parameters" and axis.get_ylabel() == "Test accuracy"
    assert texts(axis) == ["mlp", "cnn", "resnet"]
    assert "1,000,000" in names_of(axis.get_xticklabels())


@pytest.mark.parametrize("cost", [0, np.nan, -1])
def test_costs_that_cannot_be_drawn_are_refused(cost):
    with pytest.raises(ValueError, match="needs positive numbers"):
        charts.accuracy_against_cost(["a", "b"], [1, cost], [0.9, 0.9], [[0.8, 1]] * 2, "Parameters")


def test_reliability_leaves_out_bins_that_tell_nothing():
    table = pd.DataFrame(
        {
            "low": [0, 0.25, 0.5, 0.75],
            "high": [0.25, 0.5, 0.75, 1],
            "images": [0, 3, 47, 50],
            "confidence": [np.nan, 0.4, 0.6, 0.9],
            "accuracy": [np.nan, 1.0, 0.7, 0.95],
        }
    )
    figure = drawn(charts.reliability_diagram({"before": table, "after": table}, {"before": 0.12, "after": 0.01}))
    above, below = figure.axes
    diagonal, before, after = above.lines
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist() == [0, 1]
    assert list(before.get_xdata()) == [0.6, 0.9] and list(after.get_ydata()) == [0.7, 0.95]
    assert below.patches[0].get_data().values == pytest.approx([0, 0.03, 0.47, 0.5])
    assert legend_of(above) == [
        "perfectly calibrated",
        "before (calibration error 12.0%)",
        "after (calibration error 1.0%)",
    ]
    assert above.get_ylabel() == "Test accuracy"


def test_precision_recall_ranks_classes_by_average_precision():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    easy, hard = labels + rng.normal(scale=0.3, size=500), labels + rng.normal(scale=2, size=500)
    curves = {"Trouser": precision_recall_curve(labels, easy), "Shirt": precision_recall_curve(labels, hard)}
    (axis,) = drawn(charts.precision_recall(curves)).axes
    assert list(axis.lines[1].get_xdata()) == list(curves["Shirt"][1])
    assert list(axis.lines[1].get_ydata()) == list(curves["Shirt"][0])
    expected = [f"{average_precision_score(labels, scores):.3f}" for scores in (hard, easy)]
    assert legend_of(axis) == [f"{expected[0]}  Shirt", f"{expected[1]}  Trouser"]
    assert axis.lines[0].get_color() == style.CLASS_COLOURS[0] and axis.lines[0].get_marker() != "None"
    (at,) = axis.lines[1].get_markevery()
    assert curves["Shirt"][0][at] == pytest.approx(curves["Shirt"][1][at], abs=0.01)
    assert axis.get_xlabel() == "Recall, test images"
    lowest = curves["Shirt"][1][at]
    assert axis.get_xlim() == axis.get_ylim() and 0.2 <= lowest - axis.get_xlim()[0] <= 0.3


def test_robustness_curves_have_a_panel_a_corruption_and_start_at_clean():
    corruptions = {name: (1, 2, 4, 8, 15.5) for name in ("noise", "blur", "contrast", "shift", "rotation")}
    units = dict.fromkeys(corruptions, "pixels")
    table = np.linspace(0.9, 0.2, 25).reshape(5, 5)
    tables = {"cnn": table, "mlp": table / 2}
    figure = drawn(charts.robustness_curves(tables, corruptions, units, {"cnn": 0.95, "mlp": 0.5}))
    assert [axis.get_title(loc="left").lower() for axis in figure.axes] == list(corruptions)
    cnn, mlp = figure.axes[3].lines
    assert list(cnn.get_xdata()) == [0, 1, 2, 3, 4, 5]
    assert cnn.get_ydata() == pytest.approx([0.95, *table[3]])
    assert mlp.get_ydata() == pytest.approx([0.5, *table[3] / 2])
    assert legend_of(figure) == ["cnn", "mlp"]
    assert names_of(figure.axes[3].get_xticklabels()) == ["–", "1", "2", "4", "8", "15.5"]
    assert figure.axes[3].get_xlabel() == "pixels"
    assert figure.get_supylabel() == "Test accuracy"

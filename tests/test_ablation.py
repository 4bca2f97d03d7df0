"""ablation.py: one change at a time, by the same seeds, is compared as a block design; nothing is trained twice."""

import numpy as np
import pytest
from conftest import garments
from scipy import stats

from fashion_mnist import ablation  # isort: skip  first, so that TensorFlow starts silently

from fashion_mnist import data, evaluation, models, profiles, study, training

LABELS = np.arange(1000) % 10


def right(*counts):
    """What networks say that name so many of the images correctly, the first ones."""
    return [np.where(np.arange(1000) < count, LABELS, (LABELS + 1) % 10) for count in counts]


def test_two_recipes_are_compared_as_by_the_paired_t_test():
    table = ablation.differences(LABELS, {"ours": right(900, 920, 905), "theirs": right(880, 890, 889)})
    expected = stats.ttest_rel([0.880, 0.890, 0.889], [0.900, 0.920, 0.905])
    row = table.loc["theirs"]
    assert row["paired_difference"] == pytest.approx(-0.022) and row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert table["mean"].tolist() == pytest.approx([2725 / 3000, 2659 / 3000])
    assert table.loc["ours", "sd"] == pytest.approx(np.std([0.900, 0.920, 0.905], ddof=1))
    assert np.isnan(table.loc["ours", "p_value"]) and not table.loc["ours", "established"]


def test_several_recipes_share_one_error_that_of_seeds_and_recipes_together():
    """As by least squares with an effect of each recipe and of each seed."""
    counts = {"ours": (900, 920, 905), "a": (880, 890, 889), "b": (905, 915, 912)}
    table = ablation.differences(LABELS, {name: right(*each) for name, each in counts.items()})
    accuracies = np.array([*counts.values()]) / 1000
    design = [[1, recipe == 1, recipe == 2, seed == 1, seed == 2] for recipe in range(3) for seed in range(3)]
    design = np.array(design, float)
    effects, (squares,), *_ = np.linalg.lstsq(design, accuracies.ravel())
    error = np.sqrt(squares / 4 * np.linalg.inv(design.T @ design).diagonal()[1:3])
    assert table["paired_difference"].iloc[1:].tolist() == pytest.approx(effects[1:3])
    p_values = 2 * stats.t.sf(np.abs(effects[1:3]) / error, 4)
    assert table["p_value"].iloc[1:].tolist() == pytest.approx(p_values)
    assert table["p_adjusted"].iloc[1:].tolist() == pytest.approx(evaluation.holm(p_values))
    half = (table["high"] - table["low"]).iloc[1:] / 2
    assert half.tolist() == pytest.approx(stats.t.ppf(0.975, 4) * error)


def test_a_change_is_established_where_every_seed_shows_it_on_the_images():
    several = {"ours": right(900, 900, 900), "all": right(800, 801, 799), "some": right(880, 880, 897)}
    table = ablation.differences(LABELS, several)
    assert table["seeds_told"].iloc[1:].tolist() == [3, 2], "of three mistakes more McNemar's test knows nothing"
    assert table["established"].tolist() == [False, True, False]
    expected = "all −10.00 (−11.35 to −8.65), p = 6.5e-05, 3. Open: some −1.43 (−2.78 to −0.09), p = 0.042, 2."
    assert ablation.told(table) == expected
    assert ablation.told(table, tests=False) == "all (−10.00). Open: some (−1.43)."
    page = ablation.markdown(table).splitlines()
    assert "Seeds of 3" in page[0] and page[2].startswith("| ours | 90.00 ± 0.00 % |")
    assert [line.split(" |")[0] for line in page[3:]] == ["| all", "| some"], "the worst first"


def test_the_figure_has_a_row_a_change_the_worst_on_top():
    several = {"ours": right(900, 900, 900), "some": right(880, 880, 897), "all": right(800, 801, 799)}
    (axis,) = ablation.figure(ablation.differences(LABELS, several), "Validation accuracy (points)").axes
    assert axis.get_xlabel() == "Validation accuracy (points)"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all", "some"]


def test_of_one_seed_the_images_tell():
    table = ablation.differences(LABELS, {"ours": right(900), "other": right(880)})
    found = evaluation.pairwise(LABELS, {"other": right(880)[0], "ours": right(900)[0]}).iloc[0]
    row = table.loc["other"]
    assert (row["paired_difference"], row["p_value"]) == (found["difference"], found["p_value"])
    assert row["established"] and ablation.told(table).startswith("other −2.00 (")


def test_a_network_is_trained_once_and_its_answers_are_kept(tmp_path, monkeypatch):
    images, labels = garments(64, 0)
    arrays = data.Dataset(*[images, labels] * 3, "arrays of a test", "unverified", "0123456789abcdef")
    run = study.Study("05_test", profiles.named("smoke"), 0, arrays, tmp_path, tmp_path)
    recipe = training.RECIPES["plain"].replace(epochs=1, batch_size=16)
    asked = "lever_1_0", lambda: models.build("mlp", hidden=(4,)), {"hidden": [4]}
    said = ablation.classes(run, *asked, recipe, 0)
    assert said.shape == (64,) and set(said) <= set(range(10))
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert np.array_equal(ablation.classes(run, *asked, recipe, 0), said)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        ablation.classes(run, *asked, recipe.replace(label_smoothing=0.2), 0)

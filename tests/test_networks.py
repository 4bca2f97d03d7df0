"""networks.py: card, weights and predictions belong together. The networks are tiny, their trainings are real."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import garments

from fashion_mnist import files, models, networks, records, training

SPLITS = {"train": garments(100, 0), "validation": garments(40, 1), "test": garments(60, 2)}
RECIPE = training.Recipe(epochs=10, batch_size=25, learning_rate=0.01)
ABOUT = {
    **{"kind": "Tiny", "architecture": "mlp", "arguments": {"hidden": (8,), "dropout": 0.0}, "recipe": {"epochs": 10}},
    **{"seed": 0, "data": {"fingerprint": "abc", "images": 100}, "version": 1, "profile": "smoke"},
}


@pytest.fixture(scope="module")
def trained():
    """A network whose answers change when its weights are rounded to float16, and how it was trained."""
    keras.utils.set_random_seed(0)
    model = models.build("mlp", **ABOUT["arguments"])
    done = training.fit(model, SPLITS["train"], SPLITS["validation"], RECIPE, seed=0, progress=False)
    model.layers[-1].bias.assign(model.layers[-1].bias + 1000 + 0.2 * np.arange(10))
    return model, done


@pytest.fixture
def left(tmp_path, trained):
    """The network left in an empty folder."""
    model, done = trained
    return networks.leave(tmp_path, "tiny_seed0", model, ABOUT, done, SPLITS)


def relative(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_what_a_trained_network_leaves(tmp_path, trained):
    model, done = trained
    exact = training.predict(model, SPLITS["test"][0])
    left = networks.leave(tmp_path, "tiny_seed0", model, ABOUT, done, SPLITS)
    files_left = ["models/tiny_seed0.json", "models/tiny_seed0.safetensors", "results/predictions/tiny_seed0.npz"]
    assert relative(tmp_path) == files_left
    card = records.read_json(tmp_path / "models" / "tiny_seed0.json")
    assert card == left.card
    assert list(card) == [
        *("name", "kind", "architecture", "arguments", "recipe", "seed", "data", "version", "profile", "parameters"),
        *("epochs", "kept_epoch", "seconds", "seconds_per_epoch", "precision", "scores", "temperature", "history"),
        *("created", "machine", "versions", "git"),
    ]
    assert records.differences(card, ABOUT) == []
    assert card["parameters"] == 784 * 8 + 8 + 8 * 10 + 10 and card["epochs"] == 10
    assert left.validation_accuracy == card["scores"]["validation"]["accuracy"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", card["created"])

    # Predictions and scores are those of the rounded weights, which are what everybody else has.
    read = networks.Network("tiny_seed0", card, tmp_path)
    assert left.model is model and read.model is not model and read.has_weights
    for split in ("validation", "test"):
        images, labels = SPLITS[split]
        answers = training.predict(read.model, images)
        np.testing.assert_allclose(read.predictions[split], answers, atol=2e-3)
        assert card["scores"][split]["accuracy"] == pytest.approx((answers.argmax(axis=1) == labels).mean())
    assert np.abs(left.predictions["test"] - exact).max() > 0.01
    assert list(card["scores"]) == ["train", "validation", "test"]
    assert card["scores"]["test"]["accuracy"] > 0.5, "it has learned something, or the test shows nothing"


def test_weights_are_left_only_where_they_are_wanted(tmp_path, trained, left):
    model, done = trained
    assert left.has_weights
    again = networks.leave(tmp_path, "tiny_seed0", model, ABOUT, done, SPLITS, weights=False)
    assert not again.has_weights and again.model is model
    assert "tiny_seed0.safetensors" not in "".join(relative(tmp_path))
    read = networks.Network("tiny_seed0", again.card, tmp_path)
    np.testing.assert_array_equal(read.predictions["test"], left.predictions["test"])
    with pytest.raises(FileNotFoundError, match="weights of tiny_seed0 are not kept"):
        _ = read.model
    assert read.check(SPLITS["test"][0]) == "tiny_seed0: card and predictions of the full study"


def test_a_network_is_held_against_its_predictions(tmp_path, left):
    read = networks.Network("tiny_seed0", left.card, tmp_path)
    assert "answers 60 test images as it did" in read.check(SPLITS["test"][0])
    assert "answers 20 test images as it did" in read.check(SPLITS["test"][0][:20])

    other = models.load(tmp_path / "models" / "tiny_seed0.json")
    bias = other.layers[-1].bias
    bias.assign(bias + np.eye(10)[3] * 0.5)
    models.save(other, tmp_path / "models" / "tiny_seed0.safetensors")
    tampered = networks.Network("tiny_seed0", left.card, tmp_path)
    with pytest.raises(
        networks.StudyError, match=r"tiny_seed0 does not answer as it did.* of 60 images .*restore them"
    ):
        tampered.check(SPLITS["test"][0])


def test_a_network_that_float16_cannot_hold_leaves_nothing(tmp_path, trained):
    model, done = keras.models.clone_model(trained[0]), trained[1]
    model.layers[-1].bias.assign(np.full(10, 1e6))
    with pytest.raises(ValueError, match="logits/bias holds values that float16 cannot hold"):
        networks.leave(tmp_path, "tiny_seed0", model, ABOUT, done, SPLITS)
    assert relative(tmp_path) == []


def test_networks_are_found_by_the_data_that_they_were_trained_on(tmp_path):
    assert networks.every(tmp_path, "abc") == {}
    for name, fingerprint in (("b", "abc"), ("a", "abc"), ("c", "def")):
        files.write_json(tmp_path / "models" / f"{name}.json", {"name": name, "data": {"fingerprint": fingerprint}})
    found = networks.every(tmp_path, "abc")
    assert list(found) == ["a", "b"] and found["a"].card["name"] == "a"
    (tmp_path / "models" / "b.json").write_text('{"name": "b", "da')
    with pytest.raises(records.RecordError, match=r"b\.json is not JSON"):
        networks.every(tmp_path, "abc")


def test_the_best_is_that_of_the_images_that_all_share():
    def network(name, accuracy, **images):
        card = {"data": images, "scores": {"validation": {"accuracy": accuracy}}}
        return networks.Network(name, card, Path())

    found = [network("worse", 0.93), network("best", 0.95), network("own", 0.97, held_out=0.1)]
    assert networks.best(found).name == "best"
    assert networks.best(found[2:]) is None


def test_a_network_is_set_aside_with_all_that_belongs_to_it(tmp_path, left):
    before = relative(tmp_path)
    files.write_json(tmp_path / "models" / "tiny_seed1.json", {})
    networks.set_aside(tmp_path, "tiny_seed0", tmp_path / "aside")
    assert relative(tmp_path / "aside") == before
    assert relative(tmp_path / "models") == ["tiny_seed1.json"] and relative(tmp_path / "results") == []


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.97, "1 min 00 s"), (725.9, "12 min 06 s"), (13_637, "3 h 47 min")],
)
def test_durations_are_for_people(seconds, shown):
    assert networks.clock(seconds) == shown


def test_committed_networks_are_of_todays_training():
    cards = [records.read_json(path) for path in (Path(__file__).parents[1] / "models").glob("*.json")]
    assert cards and {card["version"] for card in cards} == {training.VERSION}


def test_networks_together_say_the_mean_of_what_each_says_of_both_sides(left):
    images = SPLITS["test"][0]
    other = networks.Network(left.name, left.card, left.folder)
    other.model.layers[-1].bias.assign(np.zeros(10))
    expected = sum(training.predict(one.model, images, mirror=True) for one in (left, other)) / 2
    np.testing.assert_allclose(networks.ensemble([left, other], images), expected, atol=0.01)

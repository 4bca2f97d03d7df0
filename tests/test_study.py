"""study.py: a run inside a notebook. Networks and data are tiny; files, trainings and what they leave are real."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import garments
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Patch
from PIL import Image

from fashion_mnist import data, files, models, networks, profiles, records, study, training
from fashion_mnist.augment import Augmentation

TINY = {"hidden": (8,)}
RECIPE = training.Recipe(epochs=2, batch_size=32)
LEFT = ("models/mlp_seed0.json", "models/mlp_seed0.safetensors", "results/predictions/mlp_seed0.npz")


def write_idx(folder, seed):
    """A data set in the official file format; `data.load` takes it as unverified, 100 + 20 + 40 images."""
    folder.mkdir(parents=True)
    for prefix, count in (("train", 120), ("t10k", 40)):
        images, labels = garments(count, seed)
        for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels.astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder


@pytest.fixture(scope="module")
def idx(tmp_path_factory):
    return write_idx(tmp_path_factory.mktemp("data") / "idx", 0)


@pytest.fixture
def checkout(tmp_path, monkeypatch, idx):
    """An empty checkout with tiny data, which is not the official one."""
    root = tmp_path.resolve() / "checkout"
    root.mkdir()
    for name, value in {"ROOT": root, "DATA": idx}.items():
        monkeypatch.setenv(f"FASHION_MNIST_{name}", str(value))
    for name in ("RUN", "STAGE", "FRESH", "REDRAW"):
        monkeypatch.delenv(f"FASHION_MNIST_{name}", raising=False)
    return root


def make_official(monkeypatch):
    """Have the tiny data pass for the official."""
    load = data.load
    monkeypatch.setattr(data, "load", lambda place=None: dataclasses.replace(load(place), kind="official"))


def trained(run, **changes):
    """Have a run train the network of these tests, or read it."""
    settings = {"architecture": "mlp", "recipe": RECIPE, "name": "mlp_seed0", "kind": "MLP", "arguments": TINY}
    return run.train(**{**settings, **changes})


def measured(run, of=(), scale=1):
    """Have a run measure something, or read it; also what it was measured from."""
    calls = []

    def make():
        calls.append(1)
        return {"n": np.arange(3) * scale, "word": ["a", "b", "c"]}

    return run.keep("counts", make, of), len(calls)


@pytest.fixture(scope="module")
def once(tmp_path_factory, idx):
    """Folders to copy: what a smoke run left, and what the full study left."""
    places = {}
    for profile in ("smoke", "full"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FASHION_MNIST_DATA", str(idx))
            make_official(patch)
            places[profile] = tmp_path_factory.mktemp(profile).resolve()
            run = study.start("01_test", profile, root=places[profile])
            network = trained(run)
            measured(run, [network])
            run.save_result({"accuracy": network.card["scores"]["test"]["accuracy"]}, summary="As it was.")
    return places


@pytest.fixture
def smoke(checkout, once, monkeypatch):
    """The checkout after a smoke run."""
    make_official(monkeypatch)
    return shutil.copytree(once["smoke"], checkout, dirs_exist_ok=True)


@pytest.fixture
def shipped(checkout, once, monkeypatch):
    """The checkout with what the full study left; the tiny data passes for the official."""
    make_official(monkeypatch)
    return shutil.copytree(once["full"], checkout, dirs_exist_ok=True)


def relative(folder):
    """Files below a folder, but for what is measured, which is kept aside until its run has ended well."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "measured" not in path.parts)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def card(root):
    return json.loads((root / LEFT[0]).read_text())


def a_study(root, kind="unverified", profile="quick"):
    images, labels = np.zeros((20, 28, 28, 1), np.uint8), np.arange(20) % 10
    arrays = data.Dataset(*[images, labels] * 3, "arrays of a test", kind, "0123456789abcdef")
    banner = "SAMPLE DATA: generated images, not Fashion-MNIST" if kind == "sample" else None
    return study.Study("01_test", profiles.named(profile), 0, arrays, root, root, banner=banner)


# --- how a run starts ------------------------------------------------------------------------------------------------


def test_start_says_what_is_used_and_where_results_go(checkout, capsys):
    run = study.start("01_test", "smoke", seed=3)
    printed = capsys.readouterr().out
    assert run.data.kind == "unverified" and run.data.fingerprint in printed
    assert "Profile smoke, seed 3" in printed and "build/smoke/" in printed
    assert str(checkout) not in printed
    assert [len(labels) for _, labels in run.data.splits().values()] == [100, 20, 40], "fewer than the budget: all"


def test_start_cuts_the_data_down_to_the_budget(tmp_path, real_data):
    run = study.start("01_test", "smoke", place=real_data, root=tmp_path)
    sizes = [len(labels) for _, labels in run.data.splits().values()]
    assert sizes == [run.profile.train_images, run.profile.validation_images, run.profile.test_images]


def test_unknown_profile_names_the_choices(checkout):
    with pytest.raises(ValueError, match=r"'fast'.*smoke, quick, full"):
        study.start("01_test", "fast")


@pytest.mark.parametrize(
    ("profile", "official", "folder"),
    [
        ("full", True, "."),
        ("full", False, "build/full"),
        ("quick", True, "build/quick"),
        ("smoke", True, "build/smoke"),
    ],
)
def test_only_full_on_official_data_writes_to_the_checkout(checkout, monkeypatch, profile, official, folder):
    if official:
        make_official(monkeypatch)
    run = study.start("01_test", profile)
    run.save_figure(Figure(), "empty")
    measured(run)
    run.save_result({"n": 1})
    written = ["images/empty.png", "results/01_test.json", "results/arrays/01_test.npz"]
    assert relative(checkout) == sorted((checkout / folder / name).relative_to(checkout).as_posix() for name in written)
    assert run.out == checkout / folder


def test_the_runner_collects_what_a_notebook_makes_in_a_folder_of_its_own(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_STAGE", str(tmp_path / "stage"))
    run = study.start("01_test", "smoke")
    trained(run)
    run.save_figure(Figure(), "empty")
    measured(run)
    run.save_result({"n": 1})
    collected = ["images/empty.png", "results/01_test.json", "results/arrays/01_test.npz"]
    assert relative(tmp_path / "stage") == collected
    assert relative(checkout / "build" / "smoke") == sorted(LEFT), "networks are kept at once"


# --- networks that are trained once ----------------------------------------------------------------------------------


def test_a_network_is_trained_once_and_then_read(checkout, capsys):
    first = trained(study.start("01_test", "smoke"))
    assert first.card["arguments"] == {"hidden": [8], "dropout": 0.2}
    assert first.card["data"]["images"] == 100 and first.card["profile"] == "smoke"
    run = study.start("01_test", "smoke")
    capsys.readouterr()
    again = trained(run, arguments={**TINY, "dropout": 0.2})  # a default spelled out is the same network
    assert "mlp_seed0: trained before" in capsys.readouterr().out
    assert again.card == first.card
    for one, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for split, answers in first.predictions.items():
        np.testing.assert_array_equal(again.predictions[split], answers)
    run.save_result({"n": 1})
    seconds = records.read("01_test", run.out)["seconds"]
    assert seconds >= again.card["seconds"], "a record says what everything takes from nothing"
    assert relative(checkout / "build") == ["smoke/" + name for name in sorted([*LEFT, "results/01_test.json"])]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": RECIPE.replace(batch_size=16)},
        {"arguments": {"hidden": (9,)}},
        {"seed": 1},
    ],
)
def test_another_recipe_network_or_seed_is_another_training(smoke, capsys, change):
    run = study.start("01_test", "smoke")
    before = card(run.out)
    network = trained(run, **change)
    assert "mlp_seed0: 2 epochs in" in capsys.readouterr().out
    assert network.card == card(run.out) and records.differences(before, network.card)
    trained(study.start("01_test", "smoke"), **change)
    assert "mlp_seed0: trained before" in capsys.readouterr().out


def test_a_setting_that_came_after_a_card_is_its_default_there(smoke, capsys):
    path = smoke / "build" / "smoke" / LEFT[0]
    older = json.loads(path.read_text())
    for place, setting in (("recipe", "averaging"), ("recipe", "rates"), ("augmentation", "erased")):
        del {**older, **older["recipe"]}[place][setting]
    del older["arguments"]["dropout"]
    path.write_text(json.dumps(older))
    trained(study.start("01_test", "smoke"))
    assert "mlp_seed0: trained before" in capsys.readouterr().out
    trained(study.start("01_test", "smoke"), recipe=RECIPE.replace(keep="last", averaging=0.9))
    assert "mlp_seed0: 2 epochs in" in capsys.readouterr().out


def test_other_data_or_another_version_is_another_training(smoke, tmp_path, monkeypatch):
    before = card(smoke / "build" / "smoke")
    other = trained(study.start("01_test", "smoke", place=write_idx(tmp_path / "other", 1))).card
    assert other["data"]["fingerprint"] != before["data"]["fingerprint"]
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)
    assert trained(study.start("01_test", "smoke", place=tmp_path / "other")).card["version"] == before["version"] + 1


def test_a_run_that_begins_anew_trains_again_what_was_trained_before_it(smoke, monkeypatch, capsys):
    made = card(smoke / "build" / "smoke")["created"]
    monkeypatch.setenv("FASHION_MNIST_FRESH", made)
    trained(study.start("01_test", "smoke"))
    assert "trained before" in capsys.readouterr().out
    monkeypatch.setenv("FASHION_MNIST_FRESH", "9999-01-01T00:00:00+00:00")
    trained(study.start("01_test", "smoke"))
    assert "mlp_seed0: 2 epochs in" in capsys.readouterr().out


@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_card_or_predictions_are_made_again(smoke, capsys, number):
    file = smoke / "build" / "smoke" / LEFT[number]
    file.write_bytes(file.read_bytes()[:-30])
    network = trained(study.start("01_test", "smoke"))
    printed = capsys.readouterr().out
    assert file.name in printed and "trained again" in printed and "mlp_seed0: 2 epochs in" in printed
    assert network.card == card(smoke / "build" / "smoke")


def test_weights_that_were_not_kept_are_trained_where_they_are_wanted(smoke, capsys):
    (smoke / "build" / "smoke" / LEFT[1]).unlink()
    assert not trained(study.start("01_test", "smoke"), weights=False).has_weights
    assert "trained before" in capsys.readouterr().out
    assert trained(study.start("01_test", "smoke")).has_weights
    assert "its weights are not kept, so it is trained again" in capsys.readouterr().out


def test_seeds_are_trained_one_after_another(checkout):
    run = study.start("01_test", "smoke")
    run.profile = SimpleNamespace(**{**vars(run.profile), "seeds": 2})
    found = run.train_seeds("mlp", RECIPE, name="tiny", kind="Tiny", arguments=TINY, first=3)
    assert [(each.name, each.card["seed"], each.has_weights) for each in found] == [
        *(("tiny_seed3", 3, True), ("tiny_seed4", 4, False))
    ]
    assert {each.card["kind"] for each in run.networks().values()} == {"Tiny"}
    assert list(run.networks()) == ["tiny_seed3", "tiny_seed4"]
    assert list(run.networks("tiny_seed4*")) == ["tiny_seed4"] and run.networks("other*") == {}


def test_a_published_procedure_is_repeated_with_its_own_split(checkout):
    run = study.start("01_test", "smoke")
    (found,) = run.train_seeds("mlp", RECIPE, name="theirs", arguments=TINY, held_out=0.25, first=3)
    count = len(run.data.y_train) + len(run.data.y_val)
    of = found.card["data"]
    assert (of["images"], of["held_out"]) == (count - count // 4, 0.25)
    assert len(found.predictions["validation"]) == count // 4
    again = run.train("mlp", RECIPE, name="theirs_seed3", arguments=TINY, held_out=0.25, seed=3)
    assert again.card == found.card, "read, not trained again"
    assert run.train("mlp", RECIPE, name="theirs_seed3", arguments=TINY, seed=3).card["data"]["images"] != of["images"]


def test_a_network_may_be_taught_by_others(checkout):
    run = study.start("01_test", "smoke")
    teachers = run.train_seeds("mlp", RECIPE, name="teacher", arguments=TINY)
    images = run.data.x_train
    once = RECIPE.replace(epochs=1, batch_size=len(images), learning_rate=1e-12)
    student = run.train("mlp", once, name="student", arguments=TINY, taught_by=teachers)
    assert student.card["data"]["taught_by"] == [teacher.name for teacher in teachers]
    said, logarithms = networks.ensemble(teachers, images), np.log(training.predict(student.model, images))
    assert student.card["history"]["loss"][0] == pytest.approx(-(said * logarithms).sum(axis=1).mean(), rel=1e-2)
    assert not list((checkout / "build" / "checkpoints" / "smoke").iterdir())
    assert run.train("mlp", once, name="student", arguments=TINY, taught_by=teachers).card == student.card
    assert "taught_by" not in run.train("mlp", once, name="student", arguments=TINY).card["data"]


def test_what_teachers_said_is_kept_while_a_training_goes_on(checkout, monkeypatch):
    run = study.start("01_test", "smoke")
    teachers = run.train_seeds("mlp", RECIPE, name="teacher", arguments=TINY)
    splits = run.data.splits()

    def fitted():
        keras.utils.set_random_seed(0)
        return run.fit("mine", models.build("mlp", **TINY), splits["train"], splits["validation"], RECIPE, teachers)

    fitted()
    asked_again = networks.ensemble(teachers, splits["train"][0]) + 1e-7  # as by another number of threads
    monkeypatch.setattr(networks, "ensemble", lambda *_: asked_again)
    assert fitted().resumed_from == 2


def test_an_interrupted_training_goes_on(checkout):
    run = study.start("01_test", "smoke")
    arrays = (run.data.x_train, run.data.y_train), (run.data.x_val, run.data.y_val)
    recipe, checkpoint = RECIPE.replace(epochs=3), run.checkpoint("mlp_seed0")

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    keras.utils.set_random_seed(0)
    model = models.build("mlp", **TINY)
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, *arrays, recipe, seed=0, checkpoint=checkpoint, callbacks=[Interrupted()])
    about = json.loads(str(np.load(checkpoint)["about"]))
    history = trained(run, recipe=recipe).card["history"]
    assert history["loss"][:2] == about["history"]["loss"] and len(history["loss"]) == 3
    assert history["seconds"][:2] == about["history"]["seconds"]
    assert not checkpoint.exists()


def test_a_network_of_a_notebooks_own_goes_on_from_its_checkpoint(checkout):
    run = study.start("01_test", "smoke")
    train, validation = (run.data.x_train, run.data.y_train), (run.data.x_val, run.data.y_val)

    def fitted(recipe):
        keras.utils.set_random_seed(0)
        model = models.build("mlp", **TINY)
        return run.fit("mine", model, train, validation, recipe), model.get_weights()

    first, weights = fitted(RECIPE)
    assert run.checkpoint("mine").is_file() and first.resumed_from == 0 and run.spared == 0
    again, same = fitted(RECIPE)
    assert again.resumed_from == 2 and run.spared == pytest.approx(first.seconds)
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_array_equal(one, other)
    # A budget that has changed since is no reason to stop the notebook, and neither is a damaged file.
    run.checkpoint("mine").write_bytes(run.checkpoint("mine").read_bytes()[:-100])
    assert fitted(RECIPE.replace(epochs=1))[0].resumed_from == 0
    assert fitted(RECIPE)[0].resumed_from == 0


# --- the full study --------------------------------------------------------------------------------------------------


def test_full_sets_a_network_of_a_lower_version_aside_with_all_that_belongs_to_it(shipped, monkeypatch):
    before = {name: (shipped / name).read_bytes() for name in LEFT}
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)
    assert trained(study.start("01_test", "full")).card["version"] == training.VERSION
    aside = shipped / "build" / "replaced"
    assert {name: (aside / name).read_bytes() for name in relative(aside)} == before
    assert card(shipped)["version"] == training.VERSION


def test_full_refuses_to_replace_another_training(shipped, monkeypatch):
    run, before = study.start("01_test", "full"), relative(shipped)
    with pytest.raises(study.StudyError, match=r"mlp_seed0\.json is .* 01_test asks for \(recipe epochs: 2, not 1\)"):
        trained(run, recipe=RECIPE.replace(epochs=1))
    with pytest.raises(study.StudyError, match=r"\(seed: 0, not 1\)\. Delete it .* or give .* another name"):
        trained(run, seed=1)
    monkeypatch.setattr(training, "VERSION", 0)
    with pytest.raises(study.StudyError, match=r"\(version: \d, not 0\)"):
        trained(run)
    assert relative(shipped) == before


def test_full_does_not_train_again_what_is_only_damaged(shipped):
    (shipped / LEFT[0]).write_text("<<<<<<< ours")
    with pytest.raises(records.RecordError, match=r"mlp_seed0\.json is not JSON .*restore it"):
        trained(study.start("01_test", "full"))


def test_full_that_begins_anew_sets_the_former_study_aside(shipped, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_FRESH", "9999-01-01T00:00:00+00:00")
    trained(study.start("01_test", "full"), recipe=RECIPE.replace(epochs=1))
    assert card(shipped)["epochs"] == 1 and card(shipped / "build" / "replaced")["epochs"] == 2


def test_full_drawn_again_trains_nothing_and_keeps_what_was_measured(shipped, monkeypatch, capsys):
    before = records.read("01_test", shipped)
    monkeypatch.setenv("FASHION_MNIST_REDRAW", "1")
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)
    run = study.start("01_test", "full")
    network = trained(run)
    assert "answers 40 test images as it did" in capsys.readouterr().out
    assert measured(run, [network])[1] == 0
    run.save_figure(Figure(), "empty")
    run.save_result({"n": 1}, summary="Drawn again.")
    after = records.read("01_test", shipped)
    assert after["summary"] == "Drawn again." and after["profile"] == "full"
    assert {key for key in after if after[key] != before[key]} <= {
        *("headline", "summary", "modules", "reads", "created", "seconds", "git")
    }
    assert after["seconds"] >= card(shipped)["seconds"], "what was only read counts with the time that it took"
    assert relative(shipped / "build") == [] and (shipped / "images" / "empty.png").is_file()
    for name in ("01_test", "02_new"):
        with pytest.raises(study.StudyError, match="This run trains nothing"):
            trained(study.start(name, "full"), name="another")


# --- quick on the official data shows what the full study left -------------------------------------------------------


def test_quick_shows_the_networks_of_the_full_study_and_checks_them(shipped, capsys, monkeypatch):
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)  # an older training is still what the study has
    before = relative(shipped)
    run = study.start("01_test", "quick")
    assert "What the full study left is shown" in capsys.readouterr().out
    network = trained(run)
    assert "mlp_seed0: of the full study; answers 40 test images as it did then" in capsys.readouterr().out
    assert network.card == card(shipped) and list(run.networks()) == ["mlp_seed0"]
    assert run.profile.seeds == 3 and len(run.data.y_train) == 100, "the budgets are those of the full study"
    assert relative(shipped) == before


def test_quick_refuses_a_network_that_answers_otherwise(shipped):
    other = models.load(shipped / LEFT[0])
    other.layers[-1].kernel.assign(-other.layers[-1].kernel)
    models.save(other, shipped / LEFT[1])
    with pytest.raises(study.StudyError, match="mlp_seed0 does not answer as it did in the full study"):
        trained(study.start("01_test", "quick"))


def test_quick_refuses_a_network_that_the_full_study_has_not(shipped):
    run = study.start("01_test", "quick")
    with pytest.raises(study.StudyError, match=r"there is no other\.json.*`fashion-mnist run 01_test --profile full`"):
        trained(run, name="other")
    with pytest.raises(study.StudyError, match=r"as asked: recipe epochs: 2, not 1\..*`fashion-mnist run 01_test"):
        trained(run, recipe=RECIPE.replace(epochs=1))
    (shipped / LEFT[0]).write_text("half a ca")
    with pytest.raises(records.RecordError, match=r"mlp_seed0\.json is not JSON"):
        trained(run)


def test_the_record_of_what_is_shown_keeps_the_time_and_the_machine_of_the_measurement(shipped):
    path = shipped / "results" / "01_test.json"
    before = records.read("01_test", shipped) | {"seconds": 12345.6, "machine": {"cpu": "of the study"}}
    files.write_json(path, before)
    study.start("01_test", "quick").save_result({"accuracy": 0.5})
    after = records.read("01_test", shipped / "build" / "quick")
    for key in ("created", "seconds", "machine", "versions", "git", "data", "seed"):
        assert after[key] == before[key]
    assert after["profile"] == "quick" and after["headline"] == {"accuracy": 0.5}
    assert records.read("01_test", shipped) == before


@pytest.mark.parametrize(("name", "seed"), [("01_test", 1), ("02_mine", 0)])
def test_quick_trains_where_the_full_study_has_no_such_run(shipped, name, seed):
    run = study.start(name, "quick", seed=seed)
    assert not run.replays and run.profile.seeds == 1
    assert run.networks() == {}, "nothing of the full study is taken for this run's own"


def test_a_training_before_the_readers_eyes_stands_beside_the_record(shipped):
    recipe = RECIPE.replace(augmentation=Augmentation(flip=True, shift=2), schedule="plateau")
    run = study.start("01_test", "full")
    network = trained(run, name="augmented", recipe=recipe)
    assert run.live(network) == "This run trained the networks above itself."
    before = relative(shipped)
    run = study.start("01_test", "quick")
    sentence = run.live(trained(run, name="augmented", recipe=recipe), images=50)
    assert "for one epoch on 50 images, MLP has" in sentence
    assert f"after 2 epochs on 100 images, {network.validation_accuracy:.1%} of all" in sentence
    assert relative(shipped) == before


def test_what_an_epoch_takes_counts_validation_and_is_in_proportion_to_all_images(checkout):
    run = study.start("01_test", "smoke")
    network = trained(run)
    images = len(run.data.y_train)
    whole, half, more = (run.seconds_per_epoch(network, images=some) for some in (images, images // 2, 9 * images))
    assert 0 < half < 20 * whole < 400 * half
    assert 0 < more < 5 * whole, "of more images than there are all are taken"


# --- measurements that are made once ---------------------------------------------------------------------------------


def test_what_is_kept_is_made_once_and_read_equal(checkout):
    frame = pd.DataFrame({"seconds": [0.1, 0.2], "class": ["Bag", "Coat"], "right": [True, False]})
    run = study.start("01_test", "smoke")
    first = run.keep("table", lambda: frame)
    assert measured(run)[1] == 1
    run = study.start("01_test", "smoke")
    again, (counts, calls) = run.keep("table", lambda: pytest.fail("made again")), measured(run)
    assert list(first) == list(again) == ["seconds", "class", "right"]
    for column, values in again.items():
        assert values.tolist() == first[column].tolist() == frame[column].tolist()
    assert calls == 0 and counts["n"].tolist() == [0, 1, 2] and counts["word"].tolist() == ["a", "b", "c"]


def test_what_is_measured_anew_keeps_no_column_of_what_was_measured_before(checkout):
    study.start("01_test", "smoke").keep("seeds", lambda: {"first": [1], "second": [2]}, [2])
    study.start("01_test", "smoke").keep("seeds", lambda: {"first": [1]}, [1])
    assert list(study.start("01_test", "smoke").keep("seeds", lambda: pytest.fail("made again"), [1])) == ["first"]


def test_what_is_kept_is_made_anew_when_what_it_depends_on_changes(smoke, monkeypatch):
    network = trained(study.start("01_test", "smoke"))
    assert measured(study.start("01_test", "smoke"), [network])[1] == 0
    counts, calls = measured(study.start("01_test", "smoke"), [network, 5], scale=2)
    assert calls == 1 and counts["n"].tolist() == [0, 2, 4]
    assert measured(study.start("01_test", "smoke"), [network, 5])[0]["n"].tolist() == [0, 2, 4]
    other = trained(study.start("01_test", "smoke"), seed=1)
    assert measured(study.start("01_test", "smoke"), [other, 5])[1] == 1
    assert measured(study.start("01_test", "smoke", seed=1), [other, 5])[1] == 1
    monkeypatch.setenv("FASHION_MNIST_FRESH", "2000-01-01T00:00:00+00:00")
    assert measured(study.start("01_test", "smoke", seed=1), [other, 5])[1] == 1


def test_time_that_measurements_took_counts_also_when_they_are_read(checkout):
    measured(study.start("01_test", "smoke"))
    path = checkout / "build" / "measured" / "smoke" / "01_test.npz"
    arrays = records.read_arrays(path)
    (seconds,) = (name for name in arrays if name.endswith("seconds"))
    records.write_arrays(path, {**arrays, seconds: np.array(1000.0)})
    run = study.start("01_test", "smoke")
    measured(run)
    run.save_result({"n": 1})
    assert records.read("01_test", run.out)["seconds"] >= 1000


def test_quick_reads_what_the_full_study_measured_and_refuses_what_it_did_not(shipped):
    run = study.start("01_test", "quick")
    network = trained(run)
    counts, calls = measured(run, [network])
    assert calls == 0 and counts["n"].tolist() == [0, 1, 2]
    assert relative(shipped / "build") == []
    run.save_result({"n": 1})
    assert relative(shipped / "build") == ["quick/results/01_test.json", "quick/results/arrays/01_test.npz"]
    with pytest.raises(study.StudyError, match=r"no 'counts' for these.*`fashion-mnist run 01_test --profile full`"):
        measured(run, [network, 5])


def test_another_notebooks_record_is_shown_only_if_it_is_of_this_data_and_seed(checkout):
    study.start("01_test", "smoke", seed=3).save_result({"n": 1})
    assert study.start("02_test", "smoke", seed=3).record("01_test")["headline"] == {"n": 1}
    assert study.start("02_test", "smoke").record("01_test") is None
    assert study.start("02_test", "smoke", seed=3).record("00_none") is None


def test_a_measurement_outlives_a_run_that_fails_in_a_later_cell(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_STAGE", str(tmp_path / "deleted"))
    first, calls = measured(study.start("01_test", "smoke"))
    assert calls == 1
    monkeypatch.setenv("FASHION_MNIST_STAGE", str(tmp_path / "next"))
    run = study.start("01_test", "smoke")
    again, calls = measured(run)
    assert calls == 0 and again["n"].tolist() == first["n"].tolist()
    run.save_result({"n": 1})
    assert records.read_arrays(tmp_path / "next" / "results" / "arrays" / "01_test.npz")["counts/n"].tolist() == [
        *(0, 1, 2)
    ]


def test_a_measurement_that_trains_counts_resumed_epochs_and_leaves_no_checkpoint(checkout):
    run = study.start("01_test", "smoke")
    arrays = run.data.splits()["train"], run.data.splits()["validation"]

    def measure():
        done = run.fit("mine", models.build("mlp", hidden=(4,)), *arrays, RECIPE)
        return {"seconds": np.array(done.seconds)}

    measure()  # and the run was killed before it was kept
    assert run.checkpoint("mine").is_file()
    run = study.start("01_test", "smoke")
    seconds = run.keep("trained", measure)["seconds"].item()
    assert not run.checkpoint("mine").exists()
    run = study.start("01_test", "smoke")
    run.keep("trained", measure)
    assert run.spared >= seconds > 0


# --- studies over configurations -------------------------------------------------------------------------------------


def test_a_study_is_made_once_and_counts_with_all_its_time(checkout, monkeypatch, capsys):
    make_official(monkeypatch)
    run = study.start("01_test", "full")
    first = run.tune("cnn_grid", "trials", epochs=1, trials=1)
    resumed = run.tune("cnn_grid", "trials", epochs=1, trials=1)  # the notebook was interrupted before its record
    assert resumed.trials == first.trials and resumed.seconds == first.seconds
    run.save_result({"n": 1})
    made = records.read("01_test", checkout)
    assert made["tables"]["trials"] == records.plain(first.rows())

    shutil.rmtree(checkout / "build")
    for profile in ("full", "quick"):
        run = study.start("01_test", profile)
        capsys.readouterr()
        assert records.plain(run.tune("cnn_grid", "trials", epochs=1, trials=1).rows()) == made["tables"]["trials"]
        assert "cnn_grid: 1 configurations, 1 epochs in" in capsys.readouterr().out
        run.save_result({"n": 1})
        shown = records.read("01_test", run.out)
        assert shown["tables"] == made["tables"] and shown["studies"] == made["studies"]
        assert shown["seconds"] >= round(first.seconds, 1)
    assert not (checkout / "build" / "tuning").exists(), "nothing was trained"
    for table, epochs in (("trials", 2), ("others", 1)):
        with pytest.raises(study.StudyError, match=rf"no study '{table}' like .*`fashion-mnist run 01_test --profile"):
            run.tune("cnn_grid", table, epochs=epochs, trials=1)


# --- figures ---------------------------------------------------------------------------------------------------------


def figure_file(run, figure, name="a"):
    run.save_figure(figure, name)
    return run.out / "images" / f"{name}.png"


def test_the_same_figure_gives_the_same_bytes_at_160_dots_an_inch(tmp_path):
    contents = []
    for _ in range(2):
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot([0, 1], [1, 0])
        contents.append(figure_file(a_study(tmp_path), figure).read_bytes())
    assert contents[0] == contents[1]
    with Image.open(tmp_path / "images" / "a.png") as image:
        assert image.format == "PNG" and image.info["dpi"] == pytest.approx((160, 160), abs=0.1)
        assert 400 < image.width < 800


def test_a_figure_of_the_sample_carries_the_banner_once(checkout):
    run, figure = study.start("01_test", "smoke", place=Path(__file__).parents[1] / "data.zip"), Figure()
    run.save_figure(figure, "a")
    run.save_figure(figure, "a")
    assert [text.get_text() for text in figure.texts] == ["SAMPLE DATA: generated images, not Fashion-MNIST"]
    figure = Figure()
    study.start("01_test", "smoke").save_figure(figure, "a")
    assert not figure.texts


def test_the_banner_covers_no_legend(tmp_path):
    run, figure = a_study(tmp_path, kind="sample"), Figure(layout="constrained")
    figure.subplots().plot([0, 1], color="white")
    figure.legend(handles=[Patch(color="lime", label="as wide as the banner" * 3)], loc="outside lower center")
    pixels = imread(figure_file(run, figure))[..., :3]
    legend = (pixels == (0, 1, 0)).all(axis=2).any(axis=1)
    banner = (pixels[..., 0] - pixels[..., 1] > 0.4).any(axis=1)
    assert legend.any()
    assert np.flatnonzero(banner).min() > np.flatnonzero(legend).max()


@pytest.mark.parametrize("side", ["upper", "lower"])
def test_the_banner_moves_no_legend_over_the_axes(tmp_path, side):
    """With rows of a height that only the layout knows: what it keeps free for the legend stays free."""
    figure = Figure(figsize=(4, 2), layout="constrained")
    axis = figure.subplots()
    axis.set_title("a title", loc="left")
    legend = figure.legend(handles=[Patch(color="lime", label="a row")] * 3, loc=f"outside {side} left")
    a_study(tmp_path, kind="sample").save_figure(figure, "a")
    of_axes, of_legend = axis.get_tightbbox(), legend.get_tightbbox()
    assert of_legend.y0 >= of_axes.y1 if side == "upper" else of_legend.y1 <= of_axes.y0


@pytest.mark.parametrize("name", ["../escape", "a.png", "", "With Space"])
def test_a_figure_name_is_a_plain_name(tmp_path, name):
    with pytest.raises(ValueError, match="no name for a figure"):
        a_study(tmp_path).save_figure(Figure(), name)


# --- records ---------------------------------------------------------------------------------------------------------


def test_a_record_has_the_format_of_the_design(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_RUN", "0123abcd")
    files.write_json(tmp_path / "results" / "02_other.json", {"n": 1})
    records.read("02_other", tmp_path)
    run = a_study(tmp_path)
    frame = pd.DataFrame({"n": np.array([1, 2]), "share": [0.5, np.nan]}, index=pd.Index(["Bag", "Coat"], name="class"))
    headline = {"test_accuracy_mean": np.float32(0.5), "images": np.int64(7)}
    run.save_result(
        headline,
        {"classes": frame, "counts": np.arange(3)},
        summary="A **finding**.",
        finding="Why? So.",
        readme={"a": "|b|"},
    )
    record = records.read("01_test", tmp_path)
    assert list(record) == [
        *("name", "profile", "seed", "data", "created", "seconds", "machine", "versions", "git", "run", "modules"),
        *("reads", "headline", "tables", "studies", "summary", "finding", "readme"),
    ]
    assert (record["name"], record["profile"], record["seed"], record["run"]) == ("01_test", "quick", 0, "0123abcd")
    assert record["data"] == {"source": "arrays of a test", "kind": "unverified", "fingerprint": "0123456789abcdef"}
    assert record["created"].endswith("+00:00") and record["machine"]["cores"] >= 1 and "keras" in record["versions"]
    assert {"fashion_mnist.study", "fashion_mnist.training"} <= set(record["modules"]) <= set(sys.modules)
    assert list(record["reads"]) == ["results/02_other.json"]
    assert record["headline"] == {"test_accuracy_mean": 0.5, "images": 7}
    assert record["tables"] == {
        "classes": [{"class": "Bag", "n": 1, "share": 0.5}, {"class": "Coat", "n": 2, "share": None}],
        "counts": [0, 1, 2],
    }
    assert (record["studies"], record["summary"], record["finding"]) == ({}, "A **finding**.", "Why? So.")
    assert record["readme"] == {"a": "|b|"}


def test_a_headline_that_is_no_number_leaves_the_old_record(tmp_path):
    run = a_study(tmp_path)
    run.save_result({"n": 1})
    with pytest.raises(ValueError, match="'accuracy'"):
        run.save_result({"accuracy": float("nan")})
    assert records.read("01_test", tmp_path)["headline"] == {"n": 1}


def test_names_are_listed_as_in_a_sentence():
    assert [study.listed("ABC"[:count]) for count in range(4)] == ["none", "A", "A and B", "A, B and C"]
    assert study.listed(str(number) for number in range(2)) == "0 and 1"

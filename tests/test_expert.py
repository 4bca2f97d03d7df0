"""What a network says to anybody's picture, and `fashion-mnist predict`."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import not_sure
import numpy as np
import pytest
from PIL import Image
from scipy import special

from fashion_mnist import data, files, networks, photos, records
from fashion_mnist.headless import cli, expert

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def best():
    return expert.Expert(expert.find())


@pytest.fixture(scope="module")
def dataset(real_data):
    return data.load(real_data)


@pytest.fixture(scope="module")
def boot(tmp_path_factory, sample_data):
    """The file of an ankle boot, large and on white."""
    image = sample_data.x_test[sample_data.y_test == 9][0, ..., 0]
    path = tmp_path_factory.mktemp("pictures") / "boot.png"
    Image.fromarray(255 - image).resize((280, 280), Image.Resampling.BICUBIC).save(path)
    return path


def stranger(folder, name="mlp_seed0", **changes):
    """The card of a network of ours somewhere else, with its weights."""
    (folder / "models").mkdir(exist_ok=True)
    shutil.copy(ROOT / "models" / f"{name}.safetensors", folder / "models")
    card = records.read_json(ROOT / "models" / f"{name}.json") | changes
    return files.write_json(folder / "models" / f"{name}.json", card)


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(*probabilities, garment=True):
    rest = (1 - sum(probabilities)) / (10 - len(probabilities))
    return expert.Answer(None, np.array([*probabilities, *[rest] * (10 - len(probabilities))]), garment)


def test_an_answer_is_a_sentence_with_the_three_likeliest_classes():
    assert str(answer(0.1, 0.7)) == "Trouser, 70% sure."
    assert list(answer(0.1, 0.7, 0.15).shares) == ["Trouser", "Pullover", "T-shirt/top"]
    assert str(answer(0.9999)) == "T-shirt/top, more than 99% sure."


def test_not_sure_is_said_in_words_without_a_number():
    said = str(answer(0.99, garment=False))
    assert said.startswith("Not sure.") and "T-shirt/top comes closest" in said and "%" not in said


def test_probabilities_are_calibrated_by_the_cards_temperature(best, dataset):
    network = best.network
    expected = special.softmax(np.log(network.predictions["test"][:30]) / network.card["temperature"], axis=1)
    found = [best.answer(image).probabilities for image in dataset.x_test[:30]]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_best_network_on_validation_images_answers(best):
    every = networks.every(ROOT, data.OFFICIAL_FINGERPRINT).values()
    scores = [network.card["scores"]["validation"]["accuracy"] for network in every if network.has_weights]
    assert best.network.card["scores"]["validation"]["accuracy"] == max(scores)


@pytest.mark.parametrize("name", ["cnn_seed0", "mlp_seed0", "resnet_grid_top1_seed1"])
def test_every_class_has_a_map_against_the_likeliest_other_one(name, sample_data):
    asked = expert.Expert(expert.find(name))
    said = asked.answer(sample_data.x_test[0])
    for label in said.classes:
        heat, rival = asked.explain(said, label)
        assert heat.ndim == 2 and heat.min() >= 0 and heat.max() in (0, 1)
        assert rival == (said.classes[1] if label == said.classes[0] else said.classes[0])


def test_what_notebook_08_found_of_the_map_is_said(best, tmp_path):
    standing = {row["index"]: row for row in records.read("08_grad_cam", ROOT)["tables"]["standing"]}["HiResCAM"]
    for column, one in (("Deep CNN", best), ("CNN", expert.Expert(expert.find("cnn_seed0")))):
        assert one.method == "HiResCAM"
        assert ("passed" in one.caveat, "failed" in one.caveat) == (standing[column] == "✓", standing[column][0] == "✗")
    elsewhere = expert.Expert(expert.find(str(stranger(tmp_path))))
    assert elsewhere.caveat == "Notebook 08 tests what such maps are worth."


def test_answers_at_once_are_the_same_as_one_by_one(best, sample_data):
    def asked(image):
        said = best.answer(image)
        return said.probabilities, best.explain(said, said.classes[0])[0]

    images = sample_data.x_test[:24]
    alone = [asked(image) for image in images]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(asked, images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-5)
        np.testing.assert_allclose(one[1], other[1], atol=1e-3)


def test_an_answer_takes_less_than_300_ms_once_warm(best, boot):
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        said = best.answer(photos.prepare(photos.open_picture(boot)))
        best.explain(said, said.classes[0])
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.3, seconds  # the fastest: the machine may be busy with something else


# --- what is no garment ----------------------------------------------------------------------------------------------


def test_the_record_says_that_non_garments_are_refused_and_garments_are_not(best):
    rows = records.read("bench_not_sure", ROOT)["tables"]["networks"]
    (row,) = [row for row in rows if row["network"] == best.network.name]
    assert min(row[kind] for kind in ("noise", "digits", "crops")) >= 0.9
    assert row["test_garments"] <= 0.05


def test_score_and_threshold_were_chosen_without_the_half_that_is_reported():
    record = records.read("bench_not_sure", ROOT)
    for row in record["tables"]["networks"]:
        rivals = [each for each in record["tables"]["scores"] if each["network"] == row["network"]]
        assert row["worst_choosing"] == max(each["worst_choosing"] for each in rivals)
        assert row["validation_garments"] <= not_sure.GARMENTS + 1e-3


def test_every_network_with_weights_was_measured():
    every = networks.every(ROOT, data.OFFICIAL_FINGERPRINT).values()
    for network in (network for network in every if network.has_weights):
        assert expert._measured(network) is not None, network.name


@pytest.mark.parametrize("kind", ["noise", "digits", "crops"])
def test_other_pictures_than_those_of_the_benchmark_are_refused_too(best, kind):
    rng = np.random.default_rng(1)
    made = {"noise": lambda: not_sure.noise(100, rng), "digits": lambda: not_sure.digits(100)}
    made["crops"] = lambda: not_sure.crops(100, rng)
    refused = [not best.answer(image).garment for image in not_sure.prepared(made[kind]())]
    assert np.mean(refused) >= 0.85


def test_test_images_are_taken_for_garments(best, dataset):
    assert np.mean([best.answer(image).garment for image in dataset.x_test[:300]]) >= 0.92


@pytest.mark.parametrize("changes", [{}, {"created": "2020-01-01T00:00:00+00:00"}], ids=["no record", "older training"])
def test_a_network_that_was_not_measured_takes_everything_for_a_garment(tmp_path, changes):
    card = stranger(tmp_path, **changes)
    if changes:
        shutil.copytree(ROOT / "results" / "arrays", tmp_path / "results" / "arrays")
        shutil.copy(ROOT / "results" / "bench_not_sure.json", tmp_path / "results")
    unmeasured = expert.Expert(expert.find(str(card)))
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    assert unmeasured.measured is None and unmeasured.answer(noise).garment


def test_a_card_in_any_folder_answers_with_the_weights_beside_it(tmp_path, boot):
    stranger(tmp_path)  # another network of that name, which also has predictions
    (tmp_path / "results" / "predictions").mkdir(parents=True)
    shutil.copy(ROOT / "results" / "predictions" / "mlp_seed0.npz", tmp_path / "results" / "predictions")
    card = tmp_path / "mine" / "mlp_seed0.json"
    card.parent.mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(ROOT / "models" / f"cnn_seed0{suffix}", card.with_suffix(suffix))
    image = photos.prepare(photos.open_picture(boot))
    found = expert.find(str(card))
    said = [expert.Expert(network).answer(image).probabilities for network in (found, expert.find("cnn_seed0"))]
    np.testing.assert_allclose(*said, atol=1e-5)
    assert not found.has_predictions, "those there are of the other network"
    card.with_suffix(".safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="weights of mlp_seed0 are not kept"):
        expert.find(str(card))


# --- on the command line ---------------------------------------------------------------------------------------------


def test_predict_prints_a_sentence_and_the_shares(boot, capsys):
    assert cli.main(["predict", str(boot), "--model", "cnn_seed0"]) == 0
    captured = capsys.readouterr()
    first, *rows = captured.out.splitlines()
    assert first.startswith(f"{boot}: ") and first.endswith(".")
    assert rows == [] if "Not sure" in first else len(rows) == 3
    assert captured.err == ""


def test_predict_refuses_by_name_goes_on_and_fails(boot, tmp_path, capsys):
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    missing = tmp_path / "missing.png"
    wanted = [str(path) for path in (text, missing, tmp_path, boot)]
    assert cli.main(["predict", *wanted, "--model", "cnn_seed0"]) == 1
    captured = capsys.readouterr()
    reasons = dict(line.split(": ", 1) for line in captured.err.splitlines())
    assert list(reasons) == wanted[:3]
    assert "not a picture" in reasons[str(text)] and "No such file" in reasons[str(missing)]
    assert captured.out.startswith(f"{boot}: "), "the picture after those that are refused is answered"


def test_predict_as_json(boot, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no picture")
    assert cli.main(["predict", str(boot), str(tmp_path / "notes.txt"), "--model", "cnn_seed0", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    answered, refused = found["pictures"]
    assert found["network"] == "cnn_seed0"
    assert answered["file"] == str(boot) and len(answered["classes"]) == 3 and isinstance(answered["garment"], bool)
    assert "not a picture" in refused["refused"]


def test_predict_says_that_a_network_was_not_measured(boot, tmp_path, capsys):
    assert cli.main(["predict", str(boot), "--model", str(stranger(tmp_path))]) == 0
    assert capsys.readouterr().err == f"mlp_seed0: {expert.UNMEASURED}\n"


@pytest.mark.parametrize(
    ("model", "reason"),
    [("nobody", "nobody is neither"), ("mlp_seed1", "weights of mlp_seed1 are not kept")],
)
def test_predict_without_such_a_network_is_1_with_one_sentence(boot, model, reason, capsys):
    assert cli.main(["predict", str(boot), "--model", model]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and reason in captured.err and len(captured.err.splitlines()) == 1


def test_without_any_weights_there_is_no_answer(tmp_path, monkeypatch, boot, capsys):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    assert cli.main(["predict", str(boot)]) == 1
    assert "no weights" in capsys.readouterr().err

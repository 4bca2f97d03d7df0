"""`fashion-mnist evaluate`, `compare` and `export`, on networks of our own and of strangers, with real files."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist import data, evaluation, files, models, records, training  # isort: skip  first, so that TensorFlow starts silently
import keras

from fashion_mnist.headless import cli

SAMPLE = Path(__file__).parents[1] / "data.zip"


def hidden(images, projection):
    """Random features of images in 0..1."""
    return np.tanh(images.reshape(-1, 784) / 255 @ projection)


@pytest.fixture(scope="module")
def weights(sample_data):
    """Of a small network for pixels in 0..1: random tanh features, the layer after them fitted in closed form."""
    rng = np.random.default_rng(0)
    projection = rng.normal(scale=0.15, size=(784, 200)).astype(np.float32)
    features = hidden(sample_data.x_train[:3000], projection)
    targets = np.eye(10)[sample_data.y_train[:3000]] - 0.1
    solution = np.linalg.solve(features.T @ features + 10 * np.eye(200), features.T @ targets)
    return projection, (5 * solution).astype(np.float32)  # times 5, to be read as logits


@pytest.fixture(scope="module")
def strangers(weights, tmp_path_factory):
    """Models as other people make them, by name; each the same network for pixels in 0..1."""
    from keras import Input, Model, Sequential, layers, ops

    folder = tmp_path_factory.mktemp("strangers")

    def image(shape):
        inputs = Input(shape)
        return inputs, layers.Flatten()(inputs)

    def save(name, inputs, x, activation=None):
        x = layers.Dense(200, activation="tanh", use_bias=False)(x)
        model = Model(inputs, layers.Dense(10, activation=activation, use_bias=False)(x))
        model.set_weights(weights)
        model.save(folder / name)

    save("logits.keras", *image((28, 28, 1)))
    save("softmax.keras", *image((28, 28, 1)), activation="softmax")
    save("sigmoid.keras", *image((28, 28, 1)), activation="sigmoid")
    save("no_channel.keras", *image((28, 28)))
    save("keras_2.h5", *image((28, 28)))
    flat = Input((784,))
    save("flat.keras", flat, flat)
    inputs, x = image((28, 28, 1))
    save("scales_itself.keras", inputs, layers.Rescaling(1 / 255)(x))

    Sequential([Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)]).save(folder / "cifar.keras")
    Sequential([Input((28, 28, 1)), layers.Flatten(), layers.Dense(5)]).save(folder / "five.keras")
    Sequential([Input((28, 28, 1)), layers.Lambda(lambda x: x), layers.Flatten(), layers.Dense(10)]).save(
        folder / "lambda.keras"
    )
    inputs, x = image((28, 28, 1))
    Model(inputs, [layers.Dense(10)(x), layers.Dense(1)(x)]).save(folder / "two_heads.keras")
    one, other = Input((28, 28, 1)), Input((28, 28, 1))
    Model([one, other], layers.Dense(10)(layers.Flatten()(ops.add(one, other)))).save(folder / "two_inputs.keras")
    (folder / "text.keras").write_text("no model")
    whole = (folder / "logits.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, sample_data):
    """A folder with networks of ours: mlp_seed0 and cnn_seed0 with weights, mlp_seed1 with its predictions only."""
    root = tmp_path_factory.mktemp("checkout")
    history = {"loss": [2.0, 1.5], "val_loss": [2.1, 1.6], "accuracy": [0.2, 0.5], "val_accuracy": [0.2, 0.4]}
    for name, architecture, arguments in (
        ("mlp_seed0", "mlp", {"hidden": [64]}),
        ("mlp_seed1", "mlp", {"hidden": [64]}),
        ("cnn_seed0", "cnn", {"f1": 8, "f2": 8}),
    ):
        model = models.build(architecture, **arguments)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(sample_data.x_train[:2000], sample_data.y_train[:2000], verbose=0)
        card = {"architecture": architecture, "arguments": arguments, "data": {"fingerprint": sample_data.fingerprint}}
        models.save(model, root / "models" / f"{name}.safetensors")
        files.write_json(root / "models" / f"{name}.json", {**card, "name": name, "history": history})
        answers = {
            split: training.predict(model, images)
            for split, (images, _) in sample_data.splits().items()
            if split != "train"
        }
        path = root / "results" / "predictions" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write_predictions(path, answers)
    (root / "models" / "mlp_seed1.safetensors").unlink()
    return root


@pytest.fixture
def ours(checkout, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(checkout))
    return checkout


def evaluated(capsys, *arguments):
    """The JSON of `evaluate`, and what it said on standard error."""
    assert cli.main(["evaluate", *map(str, arguments), "--data", str(SAMPLE), "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


@pytest.fixture(scope="module")
def expected(weights, sample_data):
    """Accuracy of that network on the sample's test split, computed without Keras."""
    answers = hidden(sample_data.x_test, weights[0]) @ weights[1]
    accuracy = (answers.argmax(axis=1) == sample_data.y_test).mean()
    assert accuracy > 0.7
    return accuracy


@pytest.mark.parametrize(
    ("name", "scaled", "outputs"),
    [
        ("logits.keras", "unit", "logits"),
        ("softmax.keras", "unit", "probabilities"),
        ("sigmoid.keras", "unit", "scores"),
        ("no_channel.keras", "unit", "logits"),
        ("keras_2.h5", "unit", "logits"),
        ("flat.keras", "unit", "logits"),
        ("scales_itself.keras", "raw", "logits"),
    ],
)
def test_models_of_strangers_are_understood(strangers, capsys, expected, name, scaled, outputs):
    found, said = evaluated(capsys, strangers / name)
    assert (found["scaled"], found["outputs"]) == (scaled, outputs)
    assert found["accuracy"] == pytest.approx(expected, abs=0.001)  # float32 may decide a tie otherwise
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert f"{name}: pixels go in as {'0..1' if scaled == 'unit' else '0..255'}" in said
    assert ("outputs do not sum to one" in said) == (outputs == "scores")
    assert data.SAMPLE_BANNER in said


def test_scaling_is_believed_if_told(strangers, capsys, expected):
    told, said = evaluated(capsys, strangers / "softmax.keras", "--scaled", "unit")
    assert told["accuracy"] == pytest.approx(expected, abs=0.001)
    wrong, _ = evaluated(capsys, strangers / "softmax.keras", "--scaled", "raw")
    assert wrong["accuracy"] < told["accuracy"] - 0.05
    assert "pixels go in" not in said


def test_a_model_that_is_good_with_neither_is_pointed_out(tmp_path, capsys):
    from keras import Input, Sequential, layers

    Sequential([Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, "softmax", kernel_initializer="zeros")]).save(
        tmp_path / "constant.keras"
    )
    found, said = evaluated(capsys, tmp_path / "constant.keras")
    assert found["accuracy"] == pytest.approx(0.1)
    assert found["scaled"] == "raw"
    assert "neither is good" in said


def test_numbers_are_those_of_the_package(strangers, capsys, sample_data):
    found, _ = evaluated(capsys, strangers / "softmax.keras", "--scaled", "unit", "--split", "validation")
    model = evaluation.load_classifier(strangers / "softmax.keras")
    probabilities, _ = evaluation.as_probabilities(evaluation.outputs(model, sample_data.x_val, "unit"))
    summary = evaluation.evaluate(sample_data.y_val, probabilities)
    assert {name: found[name] for name in summary} == pytest.approx(summary)
    assert found["calibration_error"] == pytest.approx(evaluation.calibration_error(sample_data.y_val, probabilities))
    assert found["split"] == "validation" and found["images"] == len(sample_data.y_val)
    assert found["data"]["kind"] == "sample"
    assert [each["class"] for each in found["classes"]] == list(data.CLASS_NAMES)
    assert sum(each["images"] for each in found["classes"]) == found["images"]


def test_evaluate_prints_a_table_on_standard_output(strangers, capsys, expected):
    model = strangers / "scales_itself.keras"
    assert cli.main(["evaluate", str(model), "--data", str(SAMPLE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{model}: 2,000 images of the test split"
    (accuracy,) = [line for line in lines if line.startswith("accuracy")]
    assert float(accuracy.split()[1].rstrip("%")) == pytest.approx(100 * expected, abs=0.1)
    assert "95% interval" in accuracy
    for name in ("loss", "precision", "recall", "f1", "expected calibration error", *data.CLASS_NAMES):
        assert any(line.startswith(name) for line in lines), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.keras", "missing.keras does not exist"),
        ("text.keras", "text.keras is not a whole .keras or .h5 file"),
        ("cut.keras", "cut.keras is not a whole .keras or .h5 file"),
        ("../", "is neither a saved Keras model nor the name or card of a network"),
        ("lambda.keras", "lambda.keras cannot be read as a Keras model"),
        ("cifar.keras", "takes input of shape (None, 32, 32, 3); (n, 28, 28, 1), (n, 28, 28) or (n, 784) is needed"),
        ("two_inputs.keras", "takes input of shape [(None, 28, 28, 1), (None, 28, 28, 1)]"),
        ("five.keras", "answers two images with shape (2, 5); a classifier of ten classes gives (2, 10)"),
        ("two_heads.keras", "answers two images with 2 outputs"),
    ],
)
def test_what_is_no_classifier_of_garments_is_one_line_and_1(strangers, capsys, name, message):
    assert cli.main(["evaluate", str(strangers / name), "--data", str(SAMPLE)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err and captured.err.startswith("fashion-mnist: ")
    assert len(captured.err.splitlines()) == 1


def test_a_network_of_ours_goes_by_its_name_or_its_card(ours, capsys, sample_data):
    by_name, said = evaluated(capsys, "cnn_seed0")
    assert (by_name["scaled"], by_name["outputs"]) == ("raw", "logits")
    assert "pixels go in" not in said  # that is known of ours
    by_card, _ = evaluated(capsys, ours / "models" / "cnn_seed0.json")
    by_weights, _ = evaluated(capsys, ours / "models" / "cnn_seed0.safetensors")
    assert by_name["accuracy"] == by_card["accuracy"] == by_weights["accuracy"]
    predicted = training.predict(models.load(ours / "models" / "cnn_seed0.json"), sample_data.x_test).argmax(axis=1)
    assert by_name["accuracy"] == pytest.approx((predicted == sample_data.y_test).mean(), abs=0.001)


def test_predictions_stand_for_weights_that_are_not_kept(ours, capsys):
    kept, said = evaluated(capsys, "mlp_seed1")
    assert "its weights are not kept, so these are its kept predictions" in said
    predictions = records.read_predictions(ours / "results" / "predictions" / "mlp_seed1.npz")["test"]
    labels = data.load(SAMPLE).y_test
    assert kept["accuracy"] == (predictions.argmax(axis=1) == labels).mean()
    assert kept["loss"] == pytest.approx(evaluation.evaluate(labels, predictions)["loss"])

    assert cli.main(["evaluate", "mlp_seed1", "--data", str(SAMPLE), "--split", "train"]) == 1
    assert "weights of mlp_seed1 are not kept" in capsys.readouterr().err.splitlines()[-1]


def test_kept_predictions_of_images_held_out_stand_for_no_others(checkout, tmp_path, monkeypatch, capsys):
    shutil.copytree(checkout, tmp_path / "copy")
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path / "copy"))
    card = tmp_path / "copy" / "models" / "mlp_seed1.json"
    content = records.read_json(card)
    files.write_json(card, content | {"data": content["data"] | {"held_out": 0.25}})
    assert cli.main(["evaluate", "mlp_seed1", "--data", str(SAMPLE), "--split", "validation"]) == 1
    assert "weights of mlp_seed1 are not kept" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(["evaluate", "mlp_seed1", "--data", str(SAMPLE)]) == 0  # all share the test images


def test_a_card_and_weights_in_any_folder_are_a_network(ours, capsys, tmp_path):
    for ending in ("json", "safetensors"):
        (tmp_path / f"mine.{ending}").write_bytes((ours / "models" / f"cnn_seed0.{ending}").read_bytes())
    there, _ = evaluated(capsys, "cnn_seed0")
    assert evaluated(capsys, tmp_path / "mine.json")[0]["accuracy"] == there["accuracy"]


def test_a_network_that_there_is_not_is_one_line_with_those_there_are(ours, capsys):
    assert cli.main(["evaluate", "deep_cnn_seed0", "--data", str(SAMPLE)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("those in models/: cnn_seed0, mlp_seed0, mlp_seed1.")


def test_a_damaged_card_is_one_line(ours, capsys, tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    assert cli.main(["evaluate", str(tmp_path / "broken.json"), "--data", str(SAMPLE)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken.json is not JSON" in line


def test_out_holds_the_same_numbers_for_reading_and_for_programs(ours, capsys, tmp_path, sample_data):
    out = tmp_path / "a" / "b"
    assert cli.main(["evaluate", "cnn_seed0", "--data", str(SAMPLE), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        *("classification_report.txt", "metrics.json", "predictions.csv", "confusion_matrix.png", "learning_curves.png")
    }
    assert (out / "classification_report.txt").read_text() == printed
    assert data.SAMPLE_NOTE in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"]["kind"] == "sample"
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["true"] for row in rows] == [data.CLASS_NAMES[label] for label in sample_data.y_test]
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert right / len(rows) == metrics["accuracy"]
    for row in rows[:50]:
        shares = {name: float(row[name]) for name in data.CLASS_NAMES}
        assert max(shares, key=shares.get) == row["predicted"] and sum(shares.values()) == pytest.approx(1, abs=1e-4)
    for name in ("confusion_matrix.png", "learning_curves.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_out_of_a_stranger_has_no_learning_curves(strangers, capsys, tmp_path):
    evaluated(capsys, strangers / "flat.keras", "--scaled", "unit", "--out", tmp_path)
    assert (tmp_path / "confusion_matrix.png").is_file() and not (tmp_path / "learning_curves.png").exists()


def test_bad_data_is_one_line_and_1(strangers, capsys):
    assert cli.main(["evaluate", str(strangers / "flat.keras"), "--data", str(strangers / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "nowhere" in captured.err and len(captured.err.splitlines()) == 1


# ------------------------------------------------------------------------------------------------------------- compare


def compared(capsys, *arguments):
    assert cli.main(["compare", *map(str, arguments), "--data", str(SAMPLE), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compare_of_models_that_answer_alike_shows_no_difference(strangers, capsys):
    one, other = strangers / "softmax.keras", strangers / "flat.keras"
    found = compared(capsys, one, other)
    (pair,) = found["pairs"]
    assert [each["name"] for each in found["models"]] == ["softmax", "flat"] == [pair["first"], pair["second"]]
    assert pair["p_value"] == pair["p_adjusted"] == 1
    assert pair["difference"] == pytest.approx(0, abs=0.001)
    assert cli.main(["compare", str(one), str(other), "--data", str(SAMPLE)]) == 0
    assert "No difference shown between softmax and flat" in capsys.readouterr().out


def test_networks_of_ours_against_a_stranger(ours, strangers, capsys, sample_data):
    stranger = strangers / "scales_itself.keras"
    unit = compared(capsys, strangers / "logits.keras", ours / "models" / "cnn_seed0.json", "--scaled", "unit")
    assert [each["scaled"] for each in unit["models"]] == ["unit", "raw"], "ours are given pixels as they are"
    found = compared(capsys, stranger, "mlp_seed1", ours / "models" / "cnn_seed0.json", "--scaled", "raw")
    assert unit["models"][1]["accuracy"] == found["models"][2]["accuracy"]
    assert [each["name"] for each in found["models"]] == ["scales_itself", "mlp_seed1", "cnn_seed0"]
    answers = [
        records.read_predictions(ours / "results" / "predictions" / f"{name}.npz")["test"].argmax(axis=1)
        for name in ("mlp_seed1", "cnn_seed0")
    ]
    accuracies = [(each == sample_data.y_test).mean() for each in answers]
    assert [each["accuracy"] for each in found["models"][1:]] == pytest.approx(accuracies, abs=0.001)
    assert len(found["pairs"]) == 3
    last = found["pairs"][-1]
    assert last["low"] <= last["difference"] <= last["high"]
    assert last["difference"] == pytest.approx(accuracies[0] - accuracies[1], abs=0.001)
    assert all(pair["p_adjusted"] >= pair["p_value"] for pair in found["pairs"])


def test_the_verdict_names_the_better_one_whichever_comes_first(capsys, sample_data, strangers, tmp_path):
    from keras import Input, Sequential, layers

    constant = tmp_path / "constant.keras"
    Sequential([Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, kernel_initializer="zeros")]).save(constant)
    good = strangers / "scales_itself.keras"
    for paths in ((constant, good), (good, constant)):
        assert cli.main(["compare", *map(str, paths), "--data", str(SAMPLE), "--scaled", "raw"]) == 0
        assert "scales_itself is better than constant: " in capsys.readouterr().out


def test_models_of_one_name_are_told_apart_by_their_paths(strangers, tmp_path, capsys):
    copy = tmp_path / "flat.keras"
    copy.write_bytes((strangers / "flat.keras").read_bytes())
    found = compared(capsys, strangers / "flat.keras", copy, "--scaled", "unit")
    assert [each["name"] for each in found["models"]] == [str(strangers / "flat.keras"), str(copy)]


@pytest.mark.parametrize(
    "arguments",
    [["evaluate"], ["evaluate", "a", "--split", "all"], ["compare", "a"], ["compare", "a", "a"]],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: fashion-mnist {arguments[0]}")


# -------------------------------------------------------------------------------------------------------------- export


def test_onnx_answers_like_the_network(ours, tmp_path, capsys, sample_data):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    target = tmp_path / "folder" / "cnn.onnx"
    assert cli.main(["export", "cnn_seed0", "--to", "onnx", "--out", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    session = onnxruntime.InferenceSession(target)
    (taken,) = session.get_inputs()
    images = sample_data.x_test[:200]
    (outputs,) = session.run(None, {taken.name: images.astype(np.float32)})
    probabilities, kind = evaluation.as_probabilities(outputs)
    expected = training.predict(models.load("cnn_seed0"), images)
    assert kind == "logits"
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    assert [path.name for path in target.parent.iterdir()] == ["cnn.onnx"]


def test_a_model_for_images_of_any_size_becomes_onnx(tmp_path, sample_data):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    from keras import Input, Sequential, layers

    model = Sequential([Input((None, None, 1)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), layers.Dense(10)])
    model.save(tmp_path / "any.keras")
    assert cli.main(["export", str(tmp_path / "any.keras"), "--to", "onnx", "--out", str(tmp_path / "any.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "any.onnx")
    images = sample_data.x_test[:20].astype(np.float32)
    (outputs,) = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(outputs, model.predict_on_batch(images), rtol=1e-3, atol=1e-3)


def test_the_exported_keras_file_is_a_model_as_any_other(ours, capsys):
    assert cli.main(["export", str(ours / "models" / "mlp_seed0.json"), "--to", "keras"]) == 0
    path = ours / "build" / "export" / "mlp_seed0.keras"
    assert capsys.readouterr().out == f"{path}\n"
    exported, _ = evaluated(capsys, path)
    original, _ = evaluated(capsys, "mlp_seed0")
    assert exported["scaled"] == "raw"
    assert exported["accuracy"] == original["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mlp_seed1", "--to", "keras"], "weights of mlp_seed1 are not kept"),
        (["mlp_seed0", "--to", "keras", "--out", "x.onnx"], "x.onnx does not end with .keras"),
        (["nothing", "--to", "keras"], "nothing is neither"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_1(ours, capsys, arguments, message):
    assert cli.main(["export", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err and len(captured.err.splitlines()) == 1

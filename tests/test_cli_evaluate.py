"""`fashion-mnist evaluate` and `fashion-mnist compare`, on models of our own and of strangers, with real files."""

import json
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist import cli, data, evaluation, training

MODELS = Path(__file__).parents[1] / "models"
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
    probabilities, _ = evaluation.classify(model, sample_data.x_val, "unit")
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
        ("../", "is not a whole .keras or .h5 file"),
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


needs_models = pytest.mark.skipif(not (MODELS / "mlp_seed0.keras").exists(), reason="needs the models of the full run")


@needs_models
def test_a_shipped_model_takes_pixels_as_they_are(capsys):
    found, _ = evaluated(capsys, MODELS / "mlp_seed0.keras")
    assert (found["scaled"], found["outputs"]) == ("raw", "logits")
    assert found["accuracy"] > 0.8


@needs_models
def test_shipped_models_against_a_stranger(strangers, capsys, sample_data):
    paths = [strangers / "scales_itself.keras", MODELS / "mlp_seed0.keras", MODELS / "cnn_seed0.keras"]
    found = compared(capsys, *paths, "--scaled", "raw")
    predicted = [
        training.predict(evaluation.load_classifier(path), sample_data.x_test).argmax(axis=1) for path in paths[1:]
    ]
    accuracies = [(each == sample_data.y_test).mean() for each in predicted]
    assert [each["accuracy"] for each in found["models"][1:]] == pytest.approx(accuracies, abs=1e-9)
    assert len(found["pairs"]) == 3
    last = found["pairs"][-1]
    assert last["p_value"] == pytest.approx(evaluation.mcnemar(sample_data.y_test, *predicted)["p_value"])
    assert last["low"] <= last["difference"] <= last["high"]
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


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_help_ends_with_an_example(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith(f"Example: fashion-mnist {verb}")

"""Builders give the network their name promises; what is saved is loaded again, or refused by the name of its file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fashion_mnist import models  # isort: skip  first, so that TensorFlow starts silently
import keras
import safetensors.numpy

from fashion_mnist import files, records

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
SMALL = {
    "dropout_cnn": {"f1": 2, "f2": 3, "dense": 4},
    "mlp": {"hidden": (8,)},
    "cnn": {"f1": 2, "f2": 3, "dense": 4},
    "mini_resnet": {"blocks": 1, "filters": 3},
    "mini_resnet_bn": {"blocks": 1, "filters": 3},
    "residual_cnn": {"widths": (2, 3)},
    "deep_cnn": {"widths": (2, 3, 4), "dense": 5},
    "regularised_cnn": {"widths": (2, 3), "dense": 4},
    "resnet50v2": {"weights": None, "size": 32},
    "efficientnet_lite0": {"weights": None, "size": 32},
}


def conv(inputs, outputs, kernel=3, bias=True):
    return kernel**2 * inputs * outputs + outputs * bias


def dense(inputs, outputs, bias=True):
    return inputs * outputs + outputs * bias


def batch_norm(channels):
    return 4 * channels  # gamma, beta, moving mean, moving variance


@pytest.fixture(scope="module")
def resnet():
    return models.resnet50v2(weights=None, size=32)


# ------------------------------------------------------------------------------------------------------- parameters


def test_mlp_has_1_2_million_parameters():
    expected = dense(784, 1024) + dense(1024, 384) + dense(384, 10)
    assert models.mlp().count_params() == expected == 1_201_290


@pytest.mark.parametrize(("f1", "f2", "kernel", "units"), [(32, 64, 3, 64), (16, 128, 2, 32)])
def test_cnn_parameters(f1, f2, kernel, units):
    expected = conv(1, f1, kernel) + conv(f1, f2, kernel) + dense(7 * 7 * f2, units) + dense(units, 10)
    assert models.cnn(f1, f2, kernel, units).count_params() == expected


def test_dropout_cnn_has_about_as_many_parameters_as_published():
    expected = conv(1, 32) + conv(32, 64) + dense(5 * 5 * 64, 128) + dense(128, 10)
    assert models.dropout_cnn().count_params() == expected == 225_034


@pytest.mark.parametrize(("blocks", "filters"), [(3, 64), (5, 16)])
def test_mini_resnet_parameters(blocks, filters):
    expected = conv(1, filters) + 2 * blocks * conv(filters, filters) + dense(filters, 64) + dense(64, 10)
    assert models.mini_resnet(blocks, filters).count_params() == expected


def test_mini_resnet_bn_parameters():
    normalised = 7 * batch_norm(64)
    expected = conv(1, 64, bias=False) + 6 * conv(64, 64, bias=False) + normalised + dense(64, 10)
    assert models.mini_resnet_bn(3, 64).count_params() == expected


def test_stages_of_mini_resnet_bn_double_the_filters_and_halve_the_image():
    model = models.mini_resnet_bn(blocks=1, filters=4, stages=3)
    ends = [model.get_layer(f"block{block}_relu").output.shape[1:] for block in (1, 2, 3)]
    assert ends == [(14, 14, 4), (7, 7, 8), (3, 3, 16)]
    convolutions = [(1, 4), *[(4, 4)] * 2, (4, 8), *[(8, 8)] * 2, (8, 16), *[(16, 16)] * 2]
    expected = sum(conv(before, after, bias=False) + batch_norm(after) for before, after in convolutions)
    assert model.count_params() == expected + dense(16, 10)


@pytest.mark.parametrize("squeeze", [0, 16])
def test_the_residual_cnn_has_at_most_2_5_million_parameters(squeeze):
    model = models.residual_cnn(squeeze=squeeze)
    convolutions = [(1, 64), *[(64, 64)] * 2, (64, 128), *[(128, 128)] * 2, (128, 256), *[(256, 256)] * 2]
    expected = sum(conv(before, after, bias=False) + batch_norm(after) for before, after in convolutions)
    if squeeze:
        expected += sum(dense(width, width // squeeze) + dense(width // squeeze, width) for width in (64, 128, 256))
    assert model.count_params() == expected + dense(256, 10) < 2_500_000
    assert [model.get_layer(f"block{block}_relu").output.shape[1] for block in (1, 2, 3)] == [28, 14, 7]


def test_deep_cnn_has_1_2_million_parameters():
    steps = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    expected = sum(conv(before, after, bias=False) + batch_norm(after) for before, after in steps)
    expected += dense(256, 256, bias=False) + batch_norm(256) + dense(256, 10)
    assert models.deep_cnn().count_params() == expected
    assert round(expected / 1e6, 1) == 1.2


def test_regularised_cnn_parameters():
    expected = sum(conv(a, b, bias=False) + batch_norm(b) for a, b in [(1, 32), (32, 64), (64, 128)])
    expected += dense(3 * 3 * 128, 128) + dense(128, 10)
    assert models.regularised_cnn().count_params() == expected


def test_resnet50v2_is_the_published_backbone_and_one_dense_layer(resnet):
    assert resnet.count_params() == 23_564_800 + dense(2048, 10)  # the former as Keras publishes it, without top


# --------------------------------------------------------------------------------------------------- input and output


def test_multiply_adds_are_counted_as_by_hand():
    expected = 28**2 * 9 * 32 + 14**2 * 9 * 32 * 64 + 7 * 7 * 64 * 64 + 64 * 10
    assert models.multiply_adds(models.cnn()) == expected


def test_multiply_adds_of_a_network_inside_another_count(resnet):
    body = resnet.get_layer("backbone")
    assert models.multiply_adds(resnet) == models.multiply_adds(body) + 2048 * 10 > 2048 * 10


def test_small_covers_the_registry():
    assert set(SMALL) == set(models.ARCHITECTURES)


@pytest.mark.parametrize("name", SMALL)
def test_takes_raw_images_and_gives_finite_float32_logits(name, resnet):
    model = resnet if name == "resnet50v2" else models.build(name, **SMALL[name])
    assert model.name == name
    assert model.input_shape == (None, 28, 28, 1) and model.output_shape == (None, 10)
    logits = model.predict(IMAGES, verbose=0)
    assert logits.shape == (3, 10) and logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert not np.allclose(logits.sum(axis=1), 1)  # logits, no softmax
    np.testing.assert_allclose(model.predict(IMAGES.astype(np.float32), verbose=0), logits, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "resnet50v2"])
def test_logits_stay_float32_under_a_half_precision_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(name, **SMALL[name])
    finally:
        keras.config.set_dtype_policy(before)
    assert model.layers[-2].compute_dtype == "bfloat16"
    assert model.layers[-1].compute_dtype == "float32"


def test_pixels_are_scaled_inside_the_model():
    model = models.cnn(2, 3, 3, 4)
    scaled = keras.Model(model.input, model.get_layer("scale").output).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(scaled, IMAGES / 255, atol=1e-6)


def test_resnet50v2_scales_to_plus_minus_one_and_enlarges(resnet):
    white = np.full((1, 28, 28, 1), 255, np.uint8)
    backbone_sees = keras.Model(resnet.input, resnet.get_layer("to_rgb").output)
    seen = backbone_sees.predict(np.concatenate([white, white * 0]), verbose=0)
    assert seen.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(seen[0], 1, atol=1e-6)
    np.testing.assert_allclose(seen[1], -1, atol=1e-6)


def test_efficientnet_lite0_answers_as_in_pytorch():
    """The weights that come with the project, on photographs: the features of the published network, in PyTorch."""
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the two packages of tools/convert_efficientnet.py")
    import convert_efficientnet as tool

    theirs = tool.pytorch()
    exact, shipped = tool.converted(theirs), models.efficientnet_lite0(size=tool.SIZE).get_layer("backbone")
    for name, image in tool.photographs().items():
        expected = tool.features(theirs, image)
        np.testing.assert_allclose(exact(image), expected, atol=1e-4 * expected.max(), err_msg=name)
        np.testing.assert_allclose(shipped(image), expected, atol=0.01 * expected.max(), err_msg=name)
        assert tool.logits(theirs, np.array(shipped(image))).argmax() == tool.SHOWN[name]


def test_efficientnet_lite0_refuses_what_are_not_its_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file; give weights of EfficientNet-Lite0"):
        models.efficientnet_lite0(weights=tmp_path / "none.safetensors")
    other = models.save(models.cnn(**SMALL["cnn"]), tmp_path / "cnn.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights of EfficientNet-Lite0"):
        models.efficientnet_lite0(weights=other, size=32)
    other.write_bytes(other.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cnn\.safetensors does not hold the weights of EfficientNet-Lite0"):
        models.efficientnet_lite0(weights=other, size=32)
    with pytest.raises(ValueError, match="size: 31"):
        models.efficientnet_lite0(size=31)


# --------------------------------------------------------------------------------------------------- what is in them


def test_mini_resnet_is_the_published_one_with_biases_and_without_normalisation():
    model = models.mini_resnet(2, 4)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 5
    assert all(layer.use_bias for layer in convolutions)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    assert all(layer.output.shape[1:3] == (28, 28) for layer in convolutions)


def test_blocks_of_mini_resnet_bn_start_as_the_identity():
    model = models.mini_resnet_bn(2, 4)
    ends = keras.Model(model.input, [model.get_layer("stem_pool").output, model.get_layer("block2_relu").output])
    stem, after_blocks = ends.predict(IMAGES, verbose=0)
    assert stem.max() > 0
    np.testing.assert_allclose(after_blocks, stem, atol=1e-6)


def test_l2_of_regularised_cnn_penalises_kernels_only():
    model = models.regularised_cnn((2,), l2=0.5, dense=3)
    kernels = [model.get_layer(name).kernel for name in ("stage1_conv", "dense")]
    expected = sum(0.5 * float(np.square(keras.ops.convert_to_numpy(kernel)).sum()) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_unknown_architecture_lists_those_there_are():
    with pytest.raises(ValueError, match=r"no architecture 'vgg'.*mlp, cnn, dropout_cnn, mini_resnet"):
        models.build("vgg")


def test_unknown_argument_lists_those_there_are():
    with pytest.raises(ValueError, match="mini_resnet takes no argument depth; it takes blocks, filters"):
        models.build("mini_resnet", depth=3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cnn", {"f1": 0}, "f1, f2, kernel, dense: 0 is not a positive whole number"),
        ("cnn", {"dense": 2.5}, "2.5 is not a positive whole number"),
        ("mini_resnet", {"blocks": True}, "True is not a positive whole number"),
        ("mini_resnet_bn", {"filters": -1}, "blocks, filters, stages: -1"),
        ("mini_resnet_bn", {"stages": 4}, "stages: 4; after the third there is nothing left to pool"),
        ("mlp", {"hidden": (8, 0)}, "hidden: 0"),
        ("mlp", {"dropout": 1.0}, r"dropout: 1.0 is not a rate in \[0, 1\)"),
        ("deep_cnn", {"dropouts": (0.1, 0.2)}, "dropouts has 2 rates; give one a stage and one for the dense layer"),
        ("deep_cnn", {"dropouts": (0.1, 0.2, -0.1, 0.2)}, "dropouts: -0.1"),
        ("regularised_cnn", {"widths": (4, 0)}, "widths, dense: 0"),
        ("resnet50v2", {"weights": None, "size": 31}, "size: 31 is not a whole number of at least 32"),
    ],
)
def test_impossible_arguments_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, **arguments)


# ---------------------------------------------------------------------------------------------- weights of resnet50v2


def test_missing_weight_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5 is not a file; give .*'imagenet' or None"):
        models.resnet50v2(weights="nowhere.h5")


def test_weights_come_from_a_local_file(resnet, tmp_path):
    path = tmp_path / "notop.weights.h5"
    resnet.get_layer("backbone").save_weights(path)
    again = models.resnet50v2(weights=path, size=40)
    for expected, loaded in zip(
        resnet.get_layer("backbone").get_weights(), again.get_layer("backbone").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(loaded, expected)


WITHOUT_NETWORK = """
from fashion_mnist import models
try:
    models.resnet50v2(size=32)
except ConnectionError as error:
    print(error)
print(models.resnet50v2(weights=None, size=32).count_params())
"""


def test_imagenet_weights_without_network_never_become_random_silently(tmp_path):
    nowhere = "http://127.0.0.1:9"  # the discard port: refused at once
    closed = {name: nowhere for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = {name: value for name, value in os.environ.items() if name.lower() not in ("no_proxy", "all_proxy")}
    outcome = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK],
        env={**environment, **closed, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "weights='PATH/TO/THAT.h5'" in outcome.stdout and "weights=None" in outcome.stdout
    assert outcome.stdout.split()[-1] == "23585290"


# ----------------------------------------------------------------------------------------------------- save and load


def trained(name, **arguments):
    """A network with other weights than a fresh one, as if it were trained."""
    model, rng = models.build(name, **{**SMALL[name], **arguments}), np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.01, 0.2, variable.shape))  # positive, as some are variances
    return model


def kept(folder, model, name="a"):
    """Save a network with a card; the path of the card."""
    models.save(model, folder / f"{name}.safetensors")
    arguments = {**SMALL[model.name], **({"weights": "imagenet"} if model.name == "resnet50v2" else {})}
    card = {"architecture": model.name, "arguments": arguments}
    return files.write_json(folder / f"{name}.json", card)


def logits(model):
    return keras.ops.convert_to_numpy(model(IMAGES.astype(np.float32), training=False))


@pytest.mark.parametrize("name", SMALL)
def test_a_loaded_network_answers_as_the_saved_one(tmp_path, name, resnet):
    model = resnet if name == "resnet50v2" else trained(name)
    before = logits(model)
    card = kept(tmp_path, model)
    np.testing.assert_allclose(logits(model), before, rtol=0.02, atol=1e-4)  # it has the rounded weights now
    np.testing.assert_allclose(logits(models.load(card)), logits(model), rtol=1e-6)
    arrays = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert sorted(arrays) == sorted(variable.path for variable in model.weights)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}


def test_a_network_of_the_checkout_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    model = trained("mlp")
    kept(tmp_path / "models", model, "mlp_seed0")
    files.write_json(tmp_path / "models" / "bare.json", {"architecture": "mlp", "arguments": {}})
    np.testing.assert_array_equal(logits(models.load("mlp_seed0")), logits(model))
    with pytest.raises(FileNotFoundError, match=r"no card .*nowhere\.json; networks with weights there: mlp_seed0\."):
        models.load("nowhere")
    with pytest.raises(FileNotFoundError, match=r"weights of bare are not kept.*`training.fit` make it again"):
        models.load("bare")


def change(path, **changes):
    files.write_json(path, {**json.loads(path.read_text()), **changes})


def add_a_weight(path):
    arrays = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({**arrays, "extra/kernel": np.zeros(2, np.float16)}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda card, weights: weights.write_bytes(weights.read_bytes()[:-100]), ""),
        (lambda card, weights: weights.write_bytes(b"not at all"), ""),
        (lambda card, weights: models.save(trained("cnn"), weights), "it asks for more weights than its file has"),
        (
            lambda card, weights: models.save(trained("mlp", hidden=(9,)), weights),
            "differ in hidden1/bias, hidden1/kernel, logits/kernel",
        ),
        (lambda card, weights: add_a_weight(weights), "differ in extra/kernel"),
        (lambda card, weights: change(card, architecture="vgg"), "no architecture 'vgg'"),
        (lambda card, weights: change(card, arguments={"depth": 3}), "no argument depth"),
        (lambda card, weights: change(card, arguments=None), ""),
        (lambda card, weights: files.write_json(card, {}), "architecture"),
    ],
)
def test_card_and_weights_that_make_no_network_are_refused(tmp_path, damage, message):
    card = kept(tmp_path, trained("mlp"))
    damage(card, card.with_suffix(".safetensors"))
    with pytest.raises(records.RecordError, match=rf"a\.json and a\.safetensors do not make.*{message}.*restore both"):
        models.load(card)


def test_a_damaged_card_is_refused(tmp_path):
    card = kept(tmp_path, trained("mlp"))
    card.write_text(card.read_text()[:-10])
    with pytest.raises(records.RecordError, match=r"a\.json is not JSON"):
        models.load(card)


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_a_weight_that_float16_cannot_hold_is_refused_and_nothing_is_written(tmp_path, value):
    model = trained("mlp")
    model.weights[0].assign(np.full(model.weights[0].shape, value))
    with pytest.raises(ValueError, match="hidden1/kernel holds values that float16 cannot hold"):
        models.save(model, tmp_path / "models" / "a.safetensors")
    assert not list(tmp_path.iterdir())


LOAD = """
import sys
import keras
import numpy as np
from fashion_mnist import models
model = models.load(sys.argv[1])
images = np.load(sys.argv[2])["images"]
np.savez(sys.argv[3], logits=model.predict(images, verbose=0), backend=keras.backend.backend())
"""


def test_a_network_is_loaded_on_another_backend(tmp_path):
    pytest.importorskip("jax")
    model = trained("regularised_cnn")
    card, given, answered = kept(tmp_path, model), tmp_path / "images.npz", tmp_path / "logits.npz"
    np.savez(given, images=IMAGES)
    command = [sys.executable, "-c", LOAD, str(card), str(given), str(answered)]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    answer = np.load(answered)
    assert answer["backend"] == "jax"
    np.testing.assert_allclose(answer["logits"], logits(model), rtol=1e-3)

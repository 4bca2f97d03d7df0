"""Explanations: agreement with the papers' definitions, independence of the batch, and checks that can fail."""

import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import garments
from keras import layers
from scipy import ndimage, stats

from fashion_mnist import explain

CAMS = [explain.grad_cam, explain.grad_cam_plus_plus, explain.hires_cam, explain.score_cam]
EVERY_METHOD = [*CAMS, explain.saliency]


class CountingTraces(layers.Layer):
    """Passes its input on and counts how often Python runs it."""

    traces = 0

    def call(self, inputs):
        CountingTraces.traces += 1
        return inputs


def plain_cnn(seed=0, last="logits", activation="relu", conv_activation="relu", pooling=layers.MaxPooling2D):
    """conv, pool, conv, pool, flatten, dense, dense; every bias other than zero."""
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, padding="same", activation=activation, bias_initializer="normal", name="conv1")(x)
    x = pooling(2, name="pool1")(x)
    x = layers.Conv2D(6, 3, padding="same", activation=conv_activation, bias_initializer="normal", name="conv2")(x)
    x = pooling(2, name="pool2")(x)
    x = layers.Dense(16, activation=activation, name="dense")(layers.Flatten(name="flatten")(x))
    if last == "softmax in the layer":
        x = layers.Dense(10, bias_initializer="normal", activation="softmax", name="logits")(x)
    else:
        x = layers.Dense(10, bias_initializer="normal", name="logits")(x)
    if last == "softmax layer":
        x = layers.Softmax()(x)
    elif last == "softmax activation layer":
        x = layers.Activation("softmax")(x)
    return keras.Model(inputs, x)


def pooled_residual(seed=0):
    """Stem, one residual block with batch normalisation, global average pooling, one dense layer: what CAM needs."""
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((28, 28, 1))
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="stem")(layers.Rescaling(1 / 255)(inputs))
    x = layers.MaxPooling2D()(x)
    y = layers.Conv2D(5, 3, padding="same", name="block_conv")(x)
    y = layers.BatchNormalization(moving_variance_initializer=keras.initializers.Constant(0.3), name="block_bn")(y)
    x = layers.ReLU(name="block_relu")(layers.Add(name="block_add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, bias_initializer="normal", name="logits")(x))


def nested():
    """A backbone used as a layer."""
    start = layers.Input((28, 28, 1))
    backbone = keras.Model(start, layers.Conv2D(4, 3, name="inner")(start), name="backbone")
    inputs = layers.Input((28, 28, 1))
    x = layers.GlobalAveragePooling2D()(backbone(layers.Conv2D(1, 1, name="outer")(inputs)))
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="nested")


@pytest.fixture(scope="module")
def images():
    """Six bright shapes on black, with room around them."""
    generator = np.random.default_rng(0)
    pixels = np.zeros((6, 28, 28, 1), np.uint8)
    for image in pixels:
        top, left = generator.integers(3, 9, 2)
        height, width = generator.integers(8, 15, 2)
        image[top : top + height, left : left + width] = generator.integers(60, 256, (height, width, 1))
    return pixels


@pytest.fixture(scope="module")
def cnn():
    return plain_cnn()


@pytest.fixture(scope="module")
def residual():
    return pooled_residual()


def logits(model, images):
    return model(images.astype("float32"), training=False).numpy()


def scaled(maps):
    """Sums over channels as the methods give them: the positive part over its maximum."""
    positive = np.maximum(maps, 0)
    return positive / positive.max(axis=(1, 2), keepdims=True)


# --- what the papers define


def test_grad_cam_is_cam_on_a_pooled_network(residual, images):
    kernel = residual.get_layer("logits").kernel.numpy()
    classes = logits(residual, images).argmax(axis=1)
    features = explain.feature_maps(residual, images, "block_relu")
    cam = np.einsum("nhwk,kn->nhw", features, kernel[:, classes])

    np.testing.assert_allclose(explain.grad_cam(residual, images, "block_relu"), scaled(cam), atol=1e-5)


@pytest.mark.parametrize("class_index", [None, 3])
def test_hires_cam_is_the_exact_contribution(residual, images, class_index):
    maps = explain.hires_cam(residual, images, "block_relu", class_index, signed=True)
    scores = logits(residual, images)
    classes = scores.argmax(axis=1) if class_index is None else np.full(len(images), class_index)
    bias = residual.get_layer("logits").bias.numpy()[classes]
    np.testing.assert_allclose(maps.sum(axis=(1, 2)) + bias, scores[np.arange(len(images)), classes], rtol=1e-4)


def test_the_gradient_of_grad_cam_agrees_with_finite_differences(images):
    # For a convolution without activation, the logit's derivative by a bias is the sum of its gradient over positions.
    model = plain_cnn(activation="tanh", conv_activation=None, pooling=layers.AveragePooling2D)
    conv, step = model.get_layer("conv2"), 1e-2
    features = explain.feature_maps(model, images, "conv2")
    maps = explain.grad_cam(model, images, "conv2", class_index=7)
    bias = conv.bias.numpy()
    derivative = np.empty((len(images), len(bias)))
    for channel in range(len(bias)):
        side = []
        for sign in (1, -1):
            conv.bias.assign(bias + sign * step * (np.arange(len(bias)) == channel))
            side.append(logits(model, images)[:, 7])
        derivative[:, channel] = (side[0] - side[1]) / (2 * step)
    np.testing.assert_allclose(maps, scaled(np.einsum("nhwk,nk->nhw", features, derivative)), atol=5e-3)


def test_saliency_agrees_with_finite_differences(images):
    model = plain_cnn(activation="tanh", conv_activation="tanh", pooling=layers.AveragePooling2D)
    maps = explain.saliency(model, images, class_index=2)
    assert maps.shape == (len(images), 28, 28)
    differences = np.empty((len(images), 3))
    for place, (row, column) in enumerate(((14, 12), (10, 10), (0, 0))):
        step = np.zeros(images.shape, "float32")
        step[:, row, column] = 4
        differences[:, place] = (logits(model, images + step) - logits(model, images - step))[:, 2]
    scale = maps[:, 14, 12] / np.abs(differences[:, 0])
    found = np.stack([maps[:, 10, 10], maps[:, 0, 0]], axis=1)
    np.testing.assert_allclose(found, np.abs(differences[:, 1:]) * scale[:, None], atol=0.02)


def test_grad_cam_plus_plus_follows_the_paper(cnn, images):
    activations = tf.constant(explain.feature_maps(cnn, images, "conv2"))
    head = keras.Model(cnn.get_layer("pool2").input, cnn.get_layer("logits").output)
    with tf.GradientTape() as tape:
        tape.watch(activations)
        score = tf.math.exp(head(activations)[:, 4])
    first = tape.gradient(score, activations).numpy().astype("float64")
    score = score.numpy().astype("float64")[:, None, None, None]
    gradient, features = first / score, activations.numpy().astype("float64")
    second, third = score * gradient**2, score * gradient**3
    below = 2 * second + third * features.sum(axis=(1, 2), keepdims=True)
    alpha = np.divide(second, below, out=np.zeros_like(below), where=below != 0)
    weights = (alpha * np.maximum(first, 0)).sum(axis=(1, 2), keepdims=True)
    expected = scaled((weights * features).sum(axis=-1))
    np.testing.assert_allclose(explain.grad_cam_plus_plus(cnn, images, "conv2", 4), expected, atol=1e-4)


@pytest.mark.parametrize("against", [None, 2])
def test_score_cam_follows_the_paper(cnn, images, against):
    image, features = images[:1].astype("float32"), explain.feature_maps(cnn, images[:1], "conv2")[0]
    direction = np.eye(10)[6] - (0 if against is None else np.eye(10)[against])
    scores = []
    for channel in np.moveaxis(features, -1, 0):
        mask = tf.image.resize(channel[None, :, :, None], (28, 28)).numpy()
        span = channel.max() - channel.min()
        mask = (mask - channel.min()) / span if span else np.zeros_like(mask)
        scores.append((logits(cnn, image * mask)[0] - logits(cnn, 0 * image)[0]) @ direction)
    weights = np.exp(scores) / np.exp(scores).sum()
    maps = explain.score_cam(cnn, images[:1], "conv2", 6, against=against)
    np.testing.assert_allclose(maps, scaled((features @ weights)[None]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("last", ["softmax in the layer", "softmax layer", "softmax activation layer"])
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_softmax_is_looked_through(cnn, images, method, last):
    with_softmax = plain_cnn(last=last)
    with_softmax.set_weights(cnn.get_weights())
    expected = method(cnn, images)
    assert expected.max() == 1
    np.testing.assert_allclose(method(with_softmax, images), expected, atol=1e-4)


@pytest.mark.parametrize("method", CAMS)
def test_a_map_without_positive_evidence_is_all_zero(cnn, images, method):
    features = explain.feature_maps(cnn, images, "conv2")
    silent = keras.models.clone_model(cnn)
    silent.set_weights(cnn.get_weights())
    if method is explain.score_cam:  # its weights are positive, so only negative features can give a negative map
        silent = plain_cnn(conv_activation=None)
        silent.get_layer("conv2").kernel.assign(0 * silent.get_layer("conv2").kernel)
        silent.get_layer("conv2").bias.assign(-np.ones(6))
    else:  # every feature counts against the class
        silent.get_layer("dense").kernel.assign(np.abs(silent.get_layer("dense").kernel))
        silent.get_layer("logits").kernel.assign(-np.abs(silent.get_layer("logits").kernel))
    assert features.max() > 0
    maps = method(silent, images, "conv2", class_index=1)
    assert maps.shape == (6, 14, 14)
    np.testing.assert_array_equal(maps, 0)


# --- one class against another


def test_against_is_cam_of_the_difference(residual, images):
    kernel = residual.get_layer("logits").kernel.numpy()
    cam = explain.feature_maps(residual, images, "block_relu") @ (kernel[:, 3] - kernel[:, 8])
    np.testing.assert_allclose(explain.grad_cam(residual, images, "block_relu", 3, against=8), scaled(cam), atol=1e-5)


@pytest.mark.parametrize("model", ["cnn", "residual"])
def test_the_signed_map_against_a_class_is_the_difference_of_both(request, images, model):
    hires = functools.partial(explain.hires_cam, request.getfixturevalue(model), images, signed=True)
    classes, others = np.arange(6), np.array([9, 9, 9, 8, 8, 8])
    np.testing.assert_allclose(
        hires(None, classes, against=others), hires(None, classes) - hires(None, others), atol=1e-5
    )
    np.testing.assert_allclose(hires(None, 1, against=2), -hires(None, 2, against=1), atol=1e-5)


def test_where_all_evidence_is_negative_there_is_some_against_another_class(residual, images):
    gloomy = keras.models.clone_model(residual)
    gloomy.set_weights(residual.get_weights())
    kernel = gloomy.get_layer("logits").kernel
    kernel.assign(-np.abs(kernel) * (1 + np.arange(10)))  # all speaks against every class, most against the last one
    for method in (explain.grad_cam, explain.hires_cam):
        np.testing.assert_array_equal(method(gloomy, images, "block_relu", 0), 0)
        assert (method(gloomy, images, "block_relu", 0, against=9).max(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_class_against_itself_is_refused(cnn, images, method):
    predicted = logits(cnn, images).argmax(axis=1)
    assert method(cnn, images, against=(predicted + 1) % 10).max() == 1
    other = (predicted + 1) % 10
    other[:2] = predicted[:2]
    with pytest.raises(ValueError, match="2 of 6 images would be explained against their own class"):
        method(cnn, images, against=other)
    with pytest.raises(ValueError, match="classes go from 0 to 9"):
        method(cnn, images, against=10)


# --- batches, classes, layers


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("model", ["cnn", "residual"])
def test_a_batch_gives_what_single_images_give(request, images, method, model, monkeypatch):
    model = request.getfixturevalue(model)
    classes = np.array([0, 9, 3, 3, 1, 5])
    single = [method(model, images[i : i + 1], class_index=int(k))[0] for i, k in enumerate(classes)]
    monkeypatch.setattr(explain, "BATCH", 4)  # so that the last batch of the 6 images is not full
    together = method(model, images, class_index=classes)
    np.testing.assert_allclose(together, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_default_class_is_the_predicted_one(cnn, images, method):
    predicted = logits(cnn, images).argmax(axis=1)
    np.testing.assert_allclose(method(cnn, images), method(cnn, images, class_index=predicted), atol=1e-6)
    assert not np.allclose(method(cnn, images), method(cnn, images, class_index=(predicted + 1) % 10))


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_maps_are_float32_between_0_and_1(cnn, images, method):
    maps = method(cnn, images, "first")
    assert maps.dtype == np.float32
    assert maps.shape == (6, 28, 28)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)


def test_layers_by_name_first_and_last(cnn, images):
    assert explain.convolutions(cnn) == ["conv1", "conv2"]
    for layer, same in (("first", "conv1"), ("last", "conv2"), (None, "conv2")):
        np.testing.assert_array_equal(explain.grad_cam(cnn, images, layer), explain.grad_cam(cnn, images, same))
    assert explain.grad_cam(cnn, images, "pool2").shape == (6, 7, 7)


def test_the_inside_of_a_nested_model_is_refused_and_the_outside_explained(images):
    model = nested()
    assert explain.convolutions(model) == ["outer"]
    assert explain.grad_cam(model, images).shape == explain.saliency(model, images).shape == (6, 28, 28)
    for layer in ("inner", "backbone"):
        with pytest.raises(ValueError, match=f"'nested' has no layer '{layer}' to explain; .* \\['outer'\\]"):
            explain.grad_cam(model, images, layer)


def test_feature_maps_of_any_layer(cnn, images, monkeypatch):
    monkeypatch.setattr(explain, "BATCH", 4)
    inner = keras.Model(cnn.input, [cnn.get_layer("pool1").output, cnn.get_layer("dense").output])
    for layer, expected in zip(("pool1", "dense"), inner(images.astype("float32")), strict=True):
        np.testing.assert_allclose(explain.feature_maps(cnn, images, layer), expected, atol=1e-5)


def test_a_bfloat16_model_gives_finite_float32_maps(images):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = plain_cnn(last="softmax in the layer")
    finally:
        keras.config.set_dtype_policy(policy)
    for method in EVERY_METHOD:
        maps = method(model, images)
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()
        np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "conv9"}, "no layer 'conv9' to explain; its convolutions are .'conv1', 'conv2'"),
        ({"layer": "dense"}, "output shape .*, not .*height, width.*'conv1', 'conv2'"),
        ({"layer": ""}, "no layer ''"),
        ({"class_index": 10}, "classes go from 0 to 9"),
        ({"class_index": -1}, "classes go from 0 to 9"),
        ({"class_index": [1, 2]}, "one for each of the 6 images"),
        ({"class_index": 1.0}, "one whole number"),
    ],
)
def test_wrong_arguments_say_what_to_do(cnn, images, arguments, message):
    for method in CAMS:
        with pytest.raises(ValueError, match=message):
            method(cnn, images, **arguments)


@pytest.mark.parametrize("shape", [(6, 28, 28), (6, 32, 32, 1), (0, 28, 28, 1)])
def test_images_of_another_shape_are_refused(cnn, shape):
    with pytest.raises(ValueError, match=r"images have shape .* takes \(None, 28, 28, 1\)"):
        explain.grad_cam(cnn, np.zeros(shape, np.uint8))


def test_models_that_cannot_be_explained_are_refused(images):
    dense = keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)], name="mlp")
    with pytest.raises(ValueError, match="'mlp' has no convolution; explain it with saliency"):
        explain.grad_cam(dense, images)
    assert explain.saliency(dense, images).shape == (6, 28, 28)
    unbuilt = keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(ValueError, match="no defined input"):
        explain.grad_cam(unbuilt, images)


def test_another_backend_is_refused(cnn, images, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="Keras runs on jax; set KERAS_BACKEND=tensorflow"):
        explain.grad_cam(cnn, images)


# --- compiled once, and nothing left behind


def test_a_function_is_traced_once_and_sees_new_weights(images, monkeypatch):
    inputs = layers.Input((28, 28, 1))
    x = layers.Conv2D(3, 3, name="conv")(CountingTraces()(inputs))
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
    CountingTraces.traces = 0
    before = explain.hires_cam(model, images, signed=True)
    assert CountingTraces.traces == 1
    model.set_weights([weight[..., ::-1] for weight in model.get_weights()])
    monkeypatch.setattr(explain, "BATCH", 4)
    after = explain.hires_cam(model, images, class_index=2, signed=True)
    assert CountingTraces.traces == 1
    assert not np.allclose(before, after)
    same = keras.models.clone_model(model)
    same.set_weights(model.get_weights())
    np.testing.assert_allclose(after, explain.hires_cam(same, images, class_index=2, signed=True), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_model_is_left_as_it_was(images, method):
    model = plain_cnn()
    weights, scores = model.get_weights(), logits(model, images)

    def state():
        nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
        return [set(vars(layer)) for layer in model.layers], nodes

    before = state()
    method(model, images)
    explain.sanity_check(model, images, method, permutations=2)
    assert state() == before
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(logits(model, images), scores)


def test_an_explained_model_can_be_freed(images):
    model = plain_cnn(seed=5)
    for method in EVERY_METHOD:
        method(model, images)
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


# --- checks


def test_upsample_is_bilinear_with_pixels_as_areas():
    maps = np.random.default_rng(1).random((3, 7, 5)).astype("float32")
    for size in ((28, 28), (7, 5), (9, 28)):
        zoom = (1, size[0] / 7, size[1] / 5)
        expected = ndimage.zoom(maps, zoom, order=1, mode="nearest", grid_mode=True)
        np.testing.assert_allclose(explain.upsample(maps, size), expected, atol=1e-6)
    smaller = tf.image.resize(maps[..., None], (4, 3))[..., 0]
    np.testing.assert_allclose(explain.upsample(maps, (4, 3)), smaller, atol=1e-6)
    with pytest.raises(ValueError, match="give \\(n, h, w\\)"):
        explain.upsample(maps[0])


def test_rank_correlation_is_spearmans():
    a, b = np.random.default_rng(2).integers(0, 9, (2, 4, 5, 6)).astype("float32")
    expected = [stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(explain.rank_correlation(a, b), expected)
    flat = np.zeros_like(a)
    np.testing.assert_array_equal(explain.rank_correlation(a, flat), 0)
    assert np.isnan(explain.rank_correlation(flat, a)).all()
    with pytest.raises(ValueError, match="cannot be compared"):
        explain.rank_correlation(a, b[:, :3])


# --- sanity


@pytest.fixture(scope="module")
def trained():
    """A small network that has learned something, and images it is right about."""
    x, y = garments(600, seed=0)
    model = plain_cnn(seed=3)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=6, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    return model, x[:40]


def edges(model, images, **_):
    return explain.edge_maps(images)


def first_features(model, images, **_):
    """Depends on the weights of the first layer and of no other."""
    return explain.feature_maps(model, images, "conv1").mean(axis=-1)


def test_an_edge_detector_fails(trained):
    check = explain.sanity_check(*trained, edges)
    assert check.layers == ["logits", "dense", "conv2", "conv1"]
    np.testing.assert_allclose(check.table().to_numpy(), 1)
    assert not explain.passes_sanity(check)


@pytest.mark.parametrize("method", [explain.grad_cam, explain.hires_cam, explain.saliency])
def test_a_method_that_depends_on_the_weights_passes(trained, method):
    check = explain.sanity_check(*trained, method)
    assert explain.passes_sanity(check)
    assert check.correlations.shape == (5, 4)
    table = check.table()
    assert list(table.index) == check.layers
    np.testing.assert_allclose(table["correlation"], check.correlations.mean(axis=0))
    expected = stats.ttest_1samp(check.correlations[:, 1], 0).confidence_interval(0.95)
    np.testing.assert_allclose(table.loc["dense", ["low", "high"]].to_numpy(float), expected)


def test_a_method_that_ignores_the_upper_layers_fails(trained):
    check = explain.sanity_check(*trained, first_features)
    np.testing.assert_allclose(check.correlations[:, :3], 1)
    assert not explain.passes_sanity(check)


def test_a_map_turned_upside_down_has_not_changed(trained):
    signs = iter([1, *[-1] * 8])
    check = explain.sanity_check(
        *trained, lambda model, images, **_: next(signs) * edges(model, images), permutations=2
    )
    np.testing.assert_allclose(check.correlations, 1)


@pytest.mark.parametrize(
    ("top", "second", "bottom", "passes"),
    [
        (0.9, 0.2, 0.1, False),  # 0.55 together, and sure of it
        (0.7, 0.2, 0.1, True),
        (0.1, 0.1, 0.6, False),
        (0.1, 0.1, 0.5, True),
    ],
)
def test_the_verdict_by_hand(top, second, bottom, passes):
    spread = np.array([-0.01, 0, 0.01])[:, None]
    check = explain.Sanity(["c", "b", "x", "a"], np.array([[top, second, 1.0, bottom]]) + spread)
    assert explain.passes_sanity(check) == passes
    # Three runs of this spread could have come from below the limit.
    assert explain.passes_sanity(check._replace(correlations=check.correlations + 30 * (spread * [[1, 1, 0, 1]])))


def test_sanity_follows_from_its_seed(trained):
    first, same, other = (
        explain.sanity_check(*trained, explain.hires_cam, "first", permutations=2, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_allclose(first.correlations, same.correlations)
    assert not np.allclose(first.correlations, other.correlations)


def test_the_layers_of_a_nested_model_lose_their_weights_together(images):
    assert explain.sanity_check(nested(), images, explain.saliency).layers == ["logits", "backbone", "outer"]


def test_sanity_needs_runs_and_maps(cnn, images):
    with pytest.raises(ValueError, match="permutations is 1; give at least 2"):
        explain.sanity_check(cnn, images, explain.hires_cam, permutations=1)
    with pytest.raises(ValueError, match="No map of the intact model has any contrast"):
        explain.sanity_check(cnn, images, lambda model, images, **_: np.zeros((6, 28, 28)))


# --- faithfulness, mass, stability


@pytest.fixture(scope="module")
def linear():
    """Two classes: the share of light in the upper half of the image against that in the lower half."""
    model = keras.Sequential(
        [layers.Input((28, 28, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2, use_bias=False)]
    )
    upper = np.where(np.arange(28) < 14, 0.05, -0.05).repeat(28)
    model.layers[-1].kernel.assign(np.stack([upper, -upper], axis=1))
    return model


def test_the_true_contributions_beat_every_baseline(linear):
    images = np.random.default_rng(3).integers(0, 256, (5, 28, 28, 1)).astype("uint8")
    contribution = np.where(np.arange(28) < 14, 1.0, -1.0)[:, None] * images[..., 0]
    perfect = explain.insertion_deletion(linear, images, contribution, 0)
    assert perfect.insertion.shape == perfect.deletion.shape == (5, 29)
    for maps in (explain.random_maps(images), explain.edge_maps(images), -contribution):
        other = explain.insertion_deletion(linear, images, maps, 0)
        assert (perfect.insertion_auc > other.insertion_auc).all()
        assert (perfect.deletion_auc < other.deletion_auc).all()


def test_curves_go_from_the_blurred_image_to_the_image(cnn, images):
    curves = explain.insertion_deletion(cnn, images, explain.random_maps(images), steps=7)
    np.testing.assert_allclose(curves.fraction, np.arange(8) / 7)
    scores = logits(cnn, images)
    predicted = scores.argmax(axis=1)
    blurred = np.stack([ndimage.gaussian_filter(image[..., 0].astype("float32"), 4)[..., None] for image in images])
    whole, cloud = (keras.ops.softmax(each).numpy()[np.arange(6), predicted] for each in (scores, logits(cnn, blurred)))
    for curve, start, end in ((curves.insertion, cloud, whole), (curves.deletion, whole, cloud)):
        np.testing.assert_allclose(curve[:, 0], start, rtol=1e-3)
        np.testing.assert_allclose(curve[:, -1], end, rtol=1e-3)


def test_ties_fall_in_random_order_that_a_seed_fixes(linear):
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.uint8)
    images = np.stack([noise] * 40)
    blank = np.zeros((40, 7, 7))
    one, same, other = (explain.insertion_deletion(linear, images, blank, 0, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.insertion, same.insertion)
    assert not np.array_equal(one.insertion, other.insertion)
    # Without a draw all images, which are alike, would get one and the same curve.
    assert one.insertion[:, 14].std() > 0


def test_insertion_deletion_refuses_what_does_not_fit(cnn, images):
    maps = explain.random_maps(images)
    with pytest.raises(ValueError, match="5 maps for 6 images"):
        explain.insertion_deletion(cnn, images, maps[:5])
    with pytest.raises(ValueError, match="steps is 0"):
        explain.insertion_deletion(cnn, images, maps, steps=0)


def test_garment_share_against_a_uniform_map(images):
    garment = (images[..., 0] > 0).astype("float32")
    share, uniform = explain.garment_share(images, garment)
    np.testing.assert_allclose(share, 1)
    np.testing.assert_allclose(uniform, garment.mean(axis=(1, 2)))
    np.testing.assert_allclose(explain.garment_share(images, 1 - garment)[0], 0)
    np.testing.assert_allclose(explain.garment_share(images, np.ones((6, 7, 7)))[0], uniform, rtol=1e-6)
    assert np.isnan(explain.garment_share(images, np.zeros((6, 7, 7)))[0]).all()
    with pytest.raises(ValueError, match="negative values"):
        explain.garment_share(images, -garment)
    with pytest.raises(ValueError, match="5 maps for 6 images"):
        explain.garment_share(images, garment[:5])


def test_stability_of_maps_that_move_along_and_of_noise(cnn, images):
    moving = explain.stability(cnn, images, lambda model, images, **_: explain.edge_maps(images))
    np.testing.assert_allclose(moving, 1, atol=1e-6)
    seeds = iter(range(99))
    noise = explain.stability(cnn, images, lambda model, images, **_: explain.random_maps(images, next(seeds)))
    assert np.abs(noise).max() < 0.1
    maps = explain.stability(cnn, images, explain.hires_cam)
    assert maps.shape == (6,)
    assert (maps > noise).all()


def test_edge_maps_find_edges_only():
    image = np.zeros((2, 28, 28, 1), np.uint8)
    image[0, :, 14:] = 255
    maps = explain.edge_maps(image)
    np.testing.assert_array_equal(maps[0, :, 13:15], 1)
    assert maps[0].sum() == 56
    np.testing.assert_array_equal(maps[1], 0)

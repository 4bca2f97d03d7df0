"""`fit` learns, computes what Keras computes, can be killed, and leaves plain Keras models behind."""

import dataclasses
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import garments
from scipy import special

from fashion_mnist import _backend, models, optimizers, training  # isort: skip  first, so that TensorFlow starts silently
import keras
from keras import layers

from fashion_mnist.augment import Augmentation
from fashion_mnist.training import Batches, Recipe

tensorflow_only = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="the fused operation is TensorFlow's"
)

TRAIN, VALIDATION = garments(320, 0), garments(80, 1)
QUICK = Recipe(epochs=2, batch_size=64, learning_rate=3e-3)


def small_mlp():
    keras.utils.set_random_seed(0)
    return models.mlp(hidden=(16,), dropout=0.1)


def nested():
    """A backbone within a model, as in `resnet50v2`; its layers have names that Keras counts."""
    keras.utils.set_random_seed(0)
    inner = layers.Input((28, 28, 1))
    x = layers.Conv2D(4, 5, strides=4)(inner)
    x = layers.BatchNormalization()(x)
    backbone = keras.Model(inner, layers.ReLU()(x), name="backbone")
    image = layers.Input((28, 28, 1), name="image")
    x = layers.Flatten()(backbone(layers.Rescaling(1 / 255)(image)))
    return keras.Model(image, layers.Dense(10, dtype="float32", name="logits")(x))


def fit(model, recipe=QUICK, train=TRAIN, validation=VALIDATION, **arguments):
    return training.fit(model, train, validation, recipe, **{"precision": "float32", **arguments})


def every_layer(model):
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)


def is_plain(model):
    """Whether all layers compute in float32, as Keras's own do, and one step at a time."""
    own = all(
        layer.dtype_policy.name == "float32"
        and type(layer).__module__.startswith("keras.src.")
        and layer.call.__func__ is type(layer).call
        for layer in every_layer(model)
    )
    return own and model.steps_per_execution == 1


def loss_by_hand(logits, labels, smoothing=0.0, weights=1.0):
    logits = logits.astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(10)[labels] * (1 - smoothing) + smoothing / 10
    return float((-(targets * log_probabilities).sum(axis=1) * weights).mean())


class Record(keras.callbacks.Callback):
    """What a user's callback sees."""

    def __init__(self):
        super().__init__()
        self.steps, self.rates, self.epochs, self.logs, self.types = [], [], [], [], set()

    def on_train_batch_begin(self, batch, logs=None):
        self.steps.append(batch)
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        self.types |= {(layer.name, layer.compute_dtype) for layer in every_layer(self.model)}

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.logs.append(dict(logs))


# ------------------------------------------------------------------------------------------------- a training, whole


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training with everything on, its files, and what a callback saw of it."""
    folder, record, model = tmp_path_factory.mktemp("trained"), Record(), small_mlp()
    recipe = Recipe(epochs=8, batch_size=64, learning_rate=0.02, schedule="cosine", warmup=0.25, keep="last")
    arguments = {"checkpoint": folder / "new" / "state.npz", "seed": 3}
    done = fit(model, recipe, callbacks=[record], **arguments)
    return {"model": model, "fit": done, "record": record, "recipe": recipe, "arguments": arguments}


def test_fit_learns(trained):
    history = trained["fit"].history
    assert history["val_accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0] / 3


def test_history_has_a_value_of_everything_an_epoch(trained):
    done = trained["fit"]
    assert set(done.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"}
    assert {len(values) for values in done.history.values()} == {8}
    assert done.seconds == pytest.approx(sum(done.history["seconds"])) and done.seconds > 0
    assert done.seconds_per_epoch == pytest.approx(np.median(done.history["seconds"]))
    assert (done.precision, done.resumed_from, done.kept_epoch) == ("float32", 0, 8)


def test_history_is_what_the_model_does(trained):
    logits = trained["model"].predict(VALIDATION[0], verbose=0)
    assert trained["fit"].history["val_loss"][-1] == pytest.approx(loss_by_hand(logits, VALIDATION[1]), rel=1e-4)
    accuracy = (logits.argmax(axis=1) == VALIDATION[1]).mean()
    assert trained["fit"].history["val_accuracy"][-1] == pytest.approx(accuracy)


def test_cosine_rises_from_zero_to_its_peak_and_falls_to_zero(trained):
    rates = trained["record"].rates  # before steps 0, 5, ..., 35 of 40, 10 of which rise
    assert len(rates) == 8
    assert rates[0] == 0
    assert rates[1] == pytest.approx(0.01)
    assert rates[2] == max(rates) == pytest.approx(0.02)
    assert rates[5] == pytest.approx(0.01)  # half way down
    assert 0 < rates[7] < 0.002
    assert trained["fit"].history["learning_rate"][-1] == pytest.approx(0, abs=1e-8)


def test_no_temporary_file_is_left(trained):
    folder = Path(trained["arguments"]["checkpoint"]).parent
    assert sorted(path.name for path in folder.iterdir()) == ["state.npz"]


def test_a_finished_training_is_not_trained_again_but_told_again(trained):
    keras.utils.set_random_seed(99)
    other, record = models.mlp(hidden=(16,), dropout=0.1), Record()
    again = fit(other, trained["recipe"], callbacks=[record], **trained["arguments"])
    assert again.history == trained["fit"].history
    assert (again.resumed_from, again.kept_epoch) == (8, 8)
    for expected, weights in zip(trained["model"].get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)
    assert record.rates == []  # no step was made
    assert record.epochs == list(range(8))
    assert record.logs == [pytest.approx(logs) for logs in trained["record"].logs]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"learning_rate": 0.03}},
        {"seed": 4},
        {"train": (TRAIN[0], TRAIN[1][::-1].copy())},
        {"model": {"hidden": (17,), "dropout": 0.1}},
        {"model": {"hidden": (16,), "dropout": 0.2}},
    ],
    ids=["recipe", "seed", "data", "shape", "dropout"],
)
def test_the_checkpoint_of_another_training_is_refused(trained, change):
    model = models.mlp(**change.get("model", {"hidden": (16,), "dropout": 0.1}))
    recipe = trained["recipe"].replace(**change.get("recipe", {}))
    arguments = {**trained["arguments"], "seed": change.get("seed", 3)}
    with pytest.raises(training.CheckpointError, match=r"state\.npz is the checkpoint of another training.*delete it"):
        fit(model, recipe, train=change.get("train", TRAIN), **arguments)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(trained, keep, tmp_path):
    whole = Path(trained["arguments"]["checkpoint"]).read_bytes()
    torn = tmp_path / "torn.npz"
    torn.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(training.CheckpointError, match=r"torn\.npz is not a whole checkpoint.*delete it to start anew"):
        fit(small_mlp(), trained["recipe"], seed=3, checkpoint=torn)


def test_a_file_that_is_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"model/0": np.zeros(3)})
    with pytest.raises(training.CheckpointError, match=r"weights\.npz is not a whole checkpoint"):
        fit(small_mlp(), checkpoint=tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz") as file:
        assert file.files == ["model/0"]  # and stays what it is


def test_the_bar_counts_epochs_on_standard_error(capsys):
    fit(small_mlp(), progress=True)
    assert "1/2" in capsys.readouterr().err
    fit(small_mlp(), progress=False)
    assert capsys.readouterr().err == ""


# -------------------------------------------------------------------------------------------------- what is minimised


@pytest.fixture(scope="module")
def untrained():
    """A model without dropout and what training at next to no rate reports of it, plain and with everything."""
    keras.utils.set_random_seed(1)
    model = models.mlp(hidden=(8,), dropout=0.0)
    labels = np.repeat([0, 1, 2, 3], [160, 80, 64, 16])
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=1e-12, label_smoothing=0.2, class_weights=True)
    return model, labels, fit(model, recipe, train=(TRAIN[0], labels)).history


def test_losses_have_label_smoothing_and_class_weights(untrained):
    model, labels, history = untrained
    expected = loss_by_hand(model.predict(VALIDATION[0], verbose=0), VALIDATION[1], smoothing=0.2)
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-5)
    weights = np.array([0.5, 1, 1.25, 5])[labels]  # 80 images a class would be even
    expected = loss_by_hand(model.predict(TRAIN[0], verbose=0), labels, smoothing=0.2, weights=weights)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_class_weights_are_one_on_average_over_the_images(untrained):
    _, labels, _ = untrained
    batches = Batches(TRAIN[0], labels, Recipe(batch_size=320, class_weights=True), seed=0)
    _, targets, weights = batches[0]
    assert weights.mean() == pytest.approx(1)
    totals = weights @ targets
    assert totals[:4] == pytest.approx([80] * 4)  # every class that is there counts the same
    assert totals[4:].sum() == 0


def test_labels_may_be_probabilities(untrained):
    model = untrained[0]
    said = np.random.default_rng(0).dirichlet(np.ones(10), 320)
    history = fit(model, Recipe(epochs=1, batch_size=64, learning_rate=1e-12), train=(TRAIN[0], said)).history
    logarithms = special.log_softmax(model.predict(TRAIN[0], verbose=0), axis=1)
    assert history["loss"][0] == pytest.approx(-(said * logarithms).sum(axis=1).mean(), rel=1e-5)


def test_probabilities_of_one_and_zero_are_as_good_as_whole_numbers():
    kinds = TRAIN[1], np.eye(10, dtype=np.float16)[TRAIN[1]]
    whole, probable = (Batches(TRAIN[0], labels, QUICK, seed=0)[0] for labels in kinds)
    for one, other in zip(whole, probable, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_class_weights_want_whole_numbers():
    with pytest.raises(ValueError, match="class_weights=True wants whole numbers"):
        fit(small_mlp(), Recipe(class_weights=True), train=(TRAIN[0], np.eye(10)[TRAIN[1]]))


def overfit(**changes):
    """Train towards class 0 and validate on class 1: the validation loss rises from the first epoch on."""
    images, labels = TRAIN[0][:160], np.zeros(160, int)
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=3e-3).replace(**changes)
    model = small_mlp()
    done = fit(model, recipe, (images, labels), (VALIDATION[0], np.ones(80, int)))
    left = loss_by_hand(model.predict(VALIDATION[0], verbose=0), np.ones(80, int))
    return done, left


def test_early_stopping_stops_and_the_best_epoch_is_kept():
    done, left = overfit(patience=2, keep="best")
    losses = done.history["val_loss"]
    assert len(losses) == 3 and losses == sorted(losses)
    assert done.kept_epoch == 1
    assert left == pytest.approx(losses[0], rel=1e-4)


def test_plateau_halves_the_rate_and_the_last_epoch_can_be_kept():
    done, left = overfit(schedule="plateau", keep="last")
    assert done.history["learning_rate"] == pytest.approx([3e-3] * 3 + [1.5e-3] * 3 + [0.75e-3] * 2)
    assert done.kept_epoch == 8
    assert left == pytest.approx(done.history["val_loss"][-1], rel=1e-4)


class Weights(keras.callbacks.Callback):
    """The weights after every step, where a call is one step."""

    def __init__(self):
        super().__init__()
        self.after = []

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.get_weights())


@pytest.mark.parametrize("optimizer", sorted(optimizers.OPTIMIZERS))
def test_averaged_weights_are_the_moving_average_of_those_after_each_step(optimizer, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "STEPS", 1)
    recipe = Recipe(epochs=2, batch_size=64, optimizer=optimizer, learning_rate=1e-2, averaging=0.8, keep="last")
    model, seen, path = small_mlp(), Weights(), tmp_path / "state.npz"
    fit(model, recipe, callbacks=[seen], checkpoint=path)
    average = seen.after[0]
    for weights in seen.after[1:]:
        average = [0.8 * old + 0.2 * new for old, new in zip(average, weights, strict=True)]
    again = small_mlp()
    assert fit(again, recipe, checkpoint=path).resumed_from == 2
    for expected, kept, told in zip(average, model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(kept, expected, atol=1e-6)
        np.testing.assert_array_equal(told, kept)
    assert np.abs(average[0] - seen.after[-1][0]).max() > 1e-4


def test_layers_learn_at_the_rates_of_their_groups():
    plain, ones, halves, still = (small_mlp() for _ in range(4))
    first = plain.trainable_variables[0].path.partition("/")[0]
    before = plain.get_weights()
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=1e-3, keep="last")
    fit(plain, recipe)
    fit(ones, recipe.replace(rates=((first, 1.0),)))
    fit(halves, recipe.replace(rates=(("", 0.5),)))
    fit(still, recipe.replace(rates=((first, 0.0),)))
    for expected, weights in zip(plain.get_weights(), ones.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)
    half = small_mlp()
    fit(half, recipe.replace(learning_rate=5e-4))
    np.testing.assert_allclose(halves.get_weights()[0], half.get_weights()[0], atol=1e-6)
    np.testing.assert_array_equal(still.get_weights()[0], before[0])
    assert np.abs(still.get_weights()[-1] - before[-1]).max() > 1e-4


def test_a_recipe_with_rates_comes_back_from_a_card():
    recipe = Recipe(rates=(("stem", 0.1), ("block1_", 0.5)))
    assert Recipe.of(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


def test_a_loss_that_is_no_number_stops_with_step_and_settings():
    model = small_mlp()
    with pytest.raises(training.TrainingError) as caught:
        fit(model, Recipe(epochs=3, batch_size=64, optimizer="sgd", learning_rate=1e30))
    message = str(caught.value)
    assert "epoch 1, in steps 1 to " in message and "learning_rate=1e+30" in message and "at float32" in message
    assert "Lower learning_rate" in message
    assert is_plain(model)


# ------------------------------------------------------------------------------------- acceleration changes no result


def test_a_nested_model_trains_in_bfloat16_and_ends_in_float32():
    model, record = nested(), Record()
    start = [weights.copy() for weights in model.get_layer("backbone").get_weights()]
    done = fit(model, precision="bfloat16", callbacks=[record])
    assert done.precision == "bfloat16"
    computed = dict(record.types)
    assert computed.pop("logits") == "float32"
    assert {dtype for name, dtype in computed.items() if "input" not in name and name != "image"} == {"bfloat16"}
    assert is_plain(model) and all(weights.dtype == np.float32 for weights in model.get_weights())
    assert all((a != b).any() for a, b in zip(start, model.get_layer("backbone").get_weights(), strict=True))


def test_a_frozen_backbone_stays_as_it_is_statistics_included():
    model = nested()
    backbone = model.get_layer("backbone")
    backbone.trainable = False
    start = backbone.get_weights()
    fit(model, Recipe(epochs=1, batch_size=64))
    for before, after in zip(start, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


def test_names_that_keras_counts_do_not_make_another_training(tmp_path):
    first = nested()
    fit(first, checkpoint=tmp_path / "state.npz")
    second = nested()
    assert {layer.name for layer in first.layers} != {layer.name for layer in second.layers}
    assert fit(second, checkpoint=tmp_path / "state.npz").resumed_from == 2


def test_accelerated_restores_the_model_even_after_an_error():
    model = nested()
    with pytest.raises(RuntimeError, match="in between"), training.accelerated(model, "bfloat16"):
        assert model.layers[-2].compute_dtype == "bfloat16"
        raise RuntimeError("in between")
    assert is_plain(model)
    image, inner = layers.Input((28, 28, 1)), keras.Sequential([layers.Input((28, 28, 1)), layers.BatchNormalization()])
    twice = keras.Sequential([image, keras.Sequential([image, inner]), keras.Sequential([image, inner])])
    with training.accelerated(twice, "bfloat16"):
        pass
    assert is_plain(twice)
    unknown = training.accelerated(model, "float16")
    with pytest.raises(ValueError, match=r"precision='float16'; choose one of auto, float32, bfloat16"), unknown:
        pass


def batch_norm_step(precision, fused):
    """Outputs, gradients and moving statistics of one training step through a batch normalisation."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    image = layers.Input((7, 5, 6))
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-2, name="bn")(image)
    model = keras.Model(image, layers.Identity(dtype="float32")(x))
    layer = model.get_layer("bn")
    layer.set_weights([rng.normal(size=6), rng.normal(size=6), rng.normal(size=6), rng.uniform(1, 2, 6)])
    inputs = tf.constant(rng.normal(3, 2, (4, 7, 5, 6)), tf.float32)
    slope = tf.constant(rng.normal(size=(4, 7, 5, 6)), tf.float32)

    def step():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            loss = tf.reduce_sum(outputs * slope)
        return outputs, *tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])

    if fused:
        with training.accelerated(model, precision):
            traced = tf.function(lambda images: model(images, training=True)).get_concrete_function(inputs)
            assert "FusedBatchNormV3" in {operation.type for operation in traced.graph.get_operations()}
            outcome = step()
    else:
        layer.dtype_policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
        outcome = step()
    names = ("outputs", "input gradient", "gamma gradient", "beta gradient", "moving mean", "moving variance")
    return dict(zip(names, [*(value.numpy() for value in outcome), *layer.get_weights()[2:]], strict=True))


@tensorflow_only
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_fused_batch_normalisation_is_keras_own(precision, tolerance):
    own, fused = batch_norm_step(precision, fused=False), batch_norm_step(precision, fused=True)
    for name, expected in own.items():
        np.testing.assert_allclose(fused[name], expected, atol=tolerance * np.abs(expected).max(), err_msg=name)
    assert np.abs(own["moving variance"] - 1).max() > 0.1  # the statistics did move


@tensorflow_only
def test_what_the_fused_operation_cannot_do_is_left_to_keras():
    image = layers.Input((4, 4, 3))
    x = layers.BatchNormalization(scale=False)(image)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.BatchNormalization()(layers.Flatten()(x))
    model = keras.Model(image, layers.Identity()(x))
    start, inputs = model.get_weights(), np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype(np.float32)
    expected, moved = model(inputs, training=True).numpy(), model.get_weights()
    model.set_weights(start)
    with training.accelerated(model, "float32"):
        np.testing.assert_allclose(model(inputs, training=True).numpy(), expected, atol=1e-5)
    for own, ours in zip(moved, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, own, atol=1e-6)


LOAD = """
import json, sys
import keras
import numpy as np
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.models.load_model(path)
    assert not any(name.startswith("fashion_mnist") for name in sys.modules)
    kinds = sorted({type(layer).__module__.split(".")[0] for layer in model.layers})
    print(json.dumps([kinds, model.predict(images, verbose=0).tolist()]))
"""


def test_models_saved_after_and_during_training_load_with_keras_alone(tmp_path):
    after, during, images = tmp_path / "after.keras", tmp_path / "during.keras", tmp_path / "images.npy"
    model = models.regularised_cnn((4,), dense=8)
    fit(model, precision="bfloat16", callbacks=[keras.callbacks.ModelCheckpoint(during)])
    model.save(after)
    np.save(images, VALIDATION[0])
    expected = model.predict(VALIDATION[0], verbose=0)
    np.testing.assert_allclose(keras.models.load_model(after).predict(VALIDATION[0], verbose=0), expected, atol=1e-6)

    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, images, after, during], capture_output=True, text=True, timeout=300
    )
    assert loaded.returncode == 0, loaded.stderr
    for line, tolerance in zip(loaded.stdout.splitlines()[-2:], (1e-5, 0.05), strict=True):  # during: bfloat16
        kinds, logits = json.loads(line)
        assert kinds == ["keras"]
        np.testing.assert_allclose(logits, expected, atol=tolerance * np.abs(expected).max())


# ------------------------------------------------------------------------------------------------ steps in one call


@tensorflow_only
def test_steps_of_one_call_are_traced_once_for_exact_shapes_and_none_is_lost():
    traced = []

    @keras.saving.register_keras_serializable()
    class Spy(layers.Layer):
        def call(self, inputs, training=None):
            if training:
                traced.append(tuple(inputs.shape))
            return inputs

    image = layers.Input((28, 28, 1))
    model = keras.Model(image, layers.Dense(10)(layers.Flatten()(Spy()(image))))
    record = Record()
    fit(model, Recipe(epochs=3, batch_size=16), callbacks=[record])
    assert set(traced) == {(16, 28, 28, 1)}
    assert len(traced) <= 2  # TensorFlow traces the first call twice, once to see whether it makes variables
    assert record.steps == [0, 8, 16] * 3  # of twenty
    assert int(model.optimizer.iterations) == 60


def test_a_call_of_several_steps_gives_the_weights_of_single_steps(monkeypatch):
    def weights():
        model = small_mlp()
        recipe = Recipe(epochs=2, batch_size=16, augmentation=Augmentation(flip=True, shift=1, erasing=0.5))
        fit(model, recipe)
        return model.get_weights()

    together = weights()
    monkeypatch.setattr(training, "STEPS", 1)
    for ours, single in zip(together, weights(), strict=True):
        np.testing.assert_allclose(ours, single, atol=1e-5)


def test_a_paused_training_ends_where_one_that_never_pauses_does(tmp_path):
    """With what the searches use: normalisation, momentum of orthogonalised steps, a rate that follows the step."""
    recipe = training.RECIPES["muon_adam"].replace(epochs=3, batch_size=32, augmentation=Augmentation(flip=True))

    def train(name, *stops):
        for stop in stops:
            keras.utils.set_random_seed(0)
            model = models.build("mini_resnet_bn", blocks=1, filters=8)

            def pause(epoch, logs, model=model, stop=stop):
                model.stop_training = model.stop_training or epoch + 1 == stop

            pauses = [keras.callbacks.LambdaCallback(on_epoch_end=pause)]
            done = fit(model, recipe, checkpoint=tmp_path / f"{name}.npz", callbacks=pauses)
        return done, model.get_weights()

    whole, weights = train("whole", 3)
    paused, resumed = train("paused", 1, 2, 3)
    assert (whole.resumed_from, paused.resumed_from) == (0, 2)
    assert paused.history["loss"] == pytest.approx(whole.history["loss"], rel=1e-4)
    for ours, theirs in zip(weights, resumed, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), (None, "float32")])
@tensorflow_only
def test_bfloat16_is_for_gpus_that_multiply_it(monkeypatch, capability, expected):
    import tensorflow as tf

    details = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert _backend.best_precision.__wrapped__() == expected


# ------------------------------------------------------------------------------------- determinism, kill and resume

# Labels mean nothing, so that the validation loss rises, the rate is halved and the training stops early.
NOISE = """
import json
import sys
import keras
import numpy as np
from fashion_mnist import models, training
from fashion_mnist.augment import Augmentation

class Tell(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("steps", flush=True)

rng = np.random.default_rng(0)
noise = [(rng.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, n)) for n in (96, 48)]
augmentation = Augmentation(flip=True, rotation=5, shift=1, erasing=0.5)
recipe = training.Recipe(
    epochs=14, batch_size=6, learning_rate=0.01, schedule="plateau", patience=5, augmentation=augmentation
)

def train(name, callbacks=()):
    keras.utils.set_random_seed(5)
    model = models.regularised_cnn((4,), dense=8)
    done = training.fit(
        model, *noise, recipe, seed=7, deterministic=True,
        checkpoint=f"{name}.npz", callbacks=[keras.callbacks.CSVLogger(f"{name}.csv"), *callbacks],
    )
    del done.history["seconds"]
    np.savez(f"{name}_end.npz", *model.get_weights(), history=json.dumps([done.history, done.kept_epoch]))

for name in sys.argv[1:]:
    train(name, [Tell()])
"""


def outcome(folder, name):
    with np.load(folder / f"{name}_end.npz") as file:
        weights = [file[key] for key in file.files if key != "history"]
        return weights, str(file["history"]), (folder / f"{name}.csv").read_text()


@pytest.mark.slow
def test_killed_trainings_end_where_an_uninterrupted_one_does(tmp_path):
    command = [sys.executable, "-c", NOISE]
    whole = subprocess.Popen([*command, "whole", "twin"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    kills = 0
    try:
        while kills < 3:
            killed = subprocess.Popen([*command, "killed"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
            with killed:
                for _ in range(chance.randint(2, 6)):  # calls of eight steps; an epoch has two
                    killed.stdout.readline()
                try:
                    killed.wait(chance.uniform(0, 0.05))
                except subprocess.TimeoutExpired:
                    killed.kill()
                    kills += 1
                else:
                    break  # it came to its end, so there is nothing more to kill
        assert kills >= 2, "the training was over too soon to be killed"
        subprocess.run([*command, "killed"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, timeout=300)
        assert whole.wait(300) == 0
    finally:
        whole.kill()
        whole.wait()

    weights, history, log = outcome(tmp_path, "whole")
    record = json.loads(history)[0]
    assert len(record["loss"]) < 14, "the case must include early stopping"
    assert min(record["learning_rate"]) < 0.006, "the case must include a lowered rate"
    for name in ("twin", "killed"):
        other_weights, other_history, other_log = outcome(tmp_path, name)
        assert other_history == history, f"{name}, seed of the kills {seed}"
        assert other_log == log, f"{name}, seed of the kills {seed}"
        for ours, theirs in zip(weights, other_weights, strict=True):
            np.testing.assert_array_equal(theirs, ours, err_msg=f"{name}, seed of the kills {seed}")


JAX = """
import keras
import numpy as np
from fashion_mnist import models, training
from fashion_mnist.augment import Augmentation
assert keras.config.backend() == "jax"
labels = np.arange(160) % 10
images = np.zeros((160, 28, 28, 1), np.uint8)
for image, label in zip(images, labels):
    image[2 * label + 4 : 2 * label + 7, 4:20] = 200
augmentation = Augmentation(rotation=2, erasing=0.1)
recipe = training.Recipe(epochs=6, batch_size=16, learning_rate=0.01, augmentation=augmentation)
keras.utils.set_random_seed(0)
model = models.regularised_cnn((8,), dense=16, dropout=0.1)
done = training.fit(model, (images, labels), (images, labels), recipe, checkpoint="jax.npz")
assert done.history["val_accuracy"][-1] > 0.5, done.history
assert training.fit(model, (images, labels), (images, labels), recipe, checkpoint="jax.npz").resumed_from == 6
model.save("jax.keras")
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.slow
def test_a_model_trains_on_the_jax_backend(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX], cwd=tmp_path, env=environment, check=True, timeout=300)
    assert is_plain(keras.models.load_model(tmp_path / "jax.keras"))


# ------------------------------------------------------------------------------------------------ recipes, arguments


@pytest.mark.parametrize("name", ["starting_deep_cnn", "muon"])
def test_a_recipe_is_read_again_from_what_a_card_holds(name):
    recipe = training.RECIPES[name]
    settings = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert training.Recipe.of(settings) == recipe
    del settings["patience"], settings["augmentation"]["zoom"]  # of a card from before these were settings
    zoom = dataclasses.replace(recipe.augmentation, zoom=0.0)
    assert training.Recipe.of(settings) == recipe.replace(patience=None, augmentation=zoom)


def test_what_is_chosen_is_what_is_not_the_default():
    assert Recipe().chosen() == []
    flips = Augmentation(flip=True, erased=0.2)
    assert Recipe(epochs=3, patience=None, augmentation=flips).chosen() == [("epochs", 3), ("flip", True)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer='lion'; choose one of adam, sgd"),
        ({"schedule": "step"}, "schedule='step'; choose one of constant, plateau, cosine"),
        ({"keep": "first"}, "keep='first'; choose one of best, last"),
        ({"epochs": 0}, "epochs=0 is not a positive whole number"),
        ({"batch_size": 12.5}, "batch_size=12.5"),
        ({"learning_rate": 0}, "learning_rate=0 is not a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"warmup": 1.0}, r"warmup=1.0 is not in \[0, 1\)"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1"),
        ({"weight_decay": 2}, "weight_decay=2"),
        ({"patience": 0}, "patience=0"),
        ({"averaging": 1.0, "keep": "last"}, r"averaging=1.0 is not in \[0, 1\)"),
        ({"averaging": 0.9}, "averaging=0.9 wants keep='last'"),
        ({"rates": (("stem", -1.0),)}, "rates=.* are not pairs of a layer's name and a factor of at least 0"),
        ({"rates": (("stem", 0.1),), "weight_decay": 0.01}, "rates=.* want weight_decay=0, not 0.01"),
    ],
)
def test_recipes_refuse_what_cannot_be(settings, message):
    with pytest.raises(ValueError, match=f"Recipe {message}"):
        Recipe(**settings)
    with pytest.raises(ValueError, match=message):
        Recipe().replace(**settings)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((TRAIN[0] / 255, TRAIN[1]), r"training images are float64 \(320, 28, 28, 1\); give uint8"),
        ((TRAIN[0][..., 0], TRAIN[1]), r"training images are uint8 \(320, 28, 28\)"),
        ((TRAIN[0], TRAIN[1][:-1]), r"training labels are int64 \(319,\); give 320 whole numbers"),
        ((TRAIN[0], np.eye(10, dtype=int)[TRAIN[1]]), r"training labels are int64 \(320, 10\); give 320 whole numbers"),
        (
            (TRAIN[0], np.eye(9)[TRAIN[1] % 9]),
            r"\(320, 9\); give 320 whole numbers or floats \(320, 10\)",
        ),
        ((TRAIN[0], TRAIN[1].astype(float)), r"training labels are float64 \(320,\)"),
        ((TRAIN[0], np.eye(10)[TRAIN[1]] / 2), "rows of probabilities that sum to one"),
        ((TRAIN[0], 1.5 * np.eye(10)[TRAIN[1]] - 0.05), "rows of probabilities that sum to one"),
        ((TRAIN[0], np.full((320, 10), np.nan)), "rows of probabilities that sum to one"),
        ((TRAIN[0], TRAIN[1] + 1), r"training labels must be .* in 0\.\.9"),
        ((TRAIN[0][:0], TRAIN[1][:0]), "training labels must be one or more"),
    ],
)
def test_arrays_that_do_not_fit_are_named(train, message):
    with pytest.raises(ValueError, match=message):
        fit(small_mlp(), train=train)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision='half'; choose one of auto, float32, bfloat16"):
        fit(small_mlp(), precision="half")


# ---------------------------------------------------------------------------------------------- batches, augmentation


def epoch_of(batches, epoch):
    batches.start_epoch(epoch)
    return [batches[index] for index in range(len(batches))]


def test_batches_follow_from_seed_and_epoch_alone():
    augmentation = Augmentation(flip=True, shift=2, erasing=0.5)
    recipe = Recipe(batch_size=96, augmentation=augmentation)
    first, second = Batches(*TRAIN, recipe, seed=1), Batches(*TRAIN, recipe, seed=1)
    expected = epoch_of(first, 4)
    second.start_epoch(4)
    for index in (2, 0, 1):  # in any order
        for ours, theirs in zip(expected[index], second[index], strict=True):
            np.testing.assert_array_equal(theirs, ours)
    assert (epoch_of(first, 5)[0][0] != expected[0][0]).any()
    assert (epoch_of(Batches(*TRAIN, recipe, seed=2), 4)[0][0] != expected[0][0]).any()


def test_an_epoch_holds_every_image_once_with_its_label():
    batches = epoch_of(Batches(*TRAIN, Recipe(batch_size=80), seed=0), 1)
    assert [len(images) for images, _ in batches] == [80, 80, 80, 80]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([targets.argmax(axis=1) for _, targets in batches])
    assert (labels != TRAIN[1]).any()  # shuffled
    rows = {image.tobytes(): label for image, label in zip(*TRAIN, strict=True)}
    assert {image.tobytes(): label for image, label in zip(images, labels, strict=True)} == rows


def test_images_that_do_not_fill_a_batch_come_in_another_epoch():
    batches = Batches(*TRAIN, Recipe(batch_size=96), seed=0)
    epochs = [np.concatenate([images for images, _ in epoch_of(batches, epoch)]) for epoch in range(5)]
    assert [len(images) for images in epochs] == [288] * 5
    seen = {image.tobytes() for images in epochs for image in images}
    assert seen == {image.tobytes() for image in TRAIN[0]}
    assert [len(images) for images, _ in epoch_of(Batches(*TRAIN, Recipe(batch_size=1000), seed=0), 0)] == [320]


@tensorflow_only
def test_the_pipeline_gives_the_batches_of_its_epoch():
    batches = Batches(*TRAIN, Recipe(batch_size=30, class_weights=True, augmentation=Augmentation(shift=2)), seed=0)
    pipeline = batches.pipeline()
    for epoch in (0, 3):
        expected = epoch_of(batches, epoch)
        given = [tuple(map(np.asarray, batch)) for batch in pipeline]
        assert len(given) == len(expected) == 10
        for ours, theirs in zip(given, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)


@tensorflow_only
def test_no_pipeline_is_tuned():
    """The thread that tunes would hold up the end of an epoch for as long as the epoch took."""
    batches = Batches(*TRAIN, Recipe(batch_size=30), seed=0)
    for pipeline in (batches.pipeline(), training._held_out(*VALIDATION)):
        assert pipeline.options().autotune.enabled is False


# --------------------------------------------------------------------------------------------------------- prediction


def test_predicted_rows_are_distributions_and_mirroring_is_invariant(trained):
    model, images = trained["model"], VALIDATION[0]
    probabilities = training.predict(model, images, batch_size=33)
    assert probabilities.shape == (80, 10) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), model.predict(images, verbose=0).argmax(axis=1))
    both = training.predict(model, images, mirror=True)
    np.testing.assert_allclose(training.predict(model, images[:, :, ::-1], mirror=True), both, atol=1e-5)
    np.testing.assert_allclose(both.sum(axis=1), 1, atol=1e-5)
    assert np.abs(both - probabilities).max() > 1e-3  # the model itself is not


def test_huge_logits_do_not_overflow():
    image = layers.Input((28, 28, 1))
    model = keras.Model(
        image, layers.Dense(10, kernel_initializer="ones", bias_initializer="ones")(layers.Flatten()(image))
    )
    probabilities = training.predict(model, np.full((1, 28, 28, 1), 255, np.uint8))
    np.testing.assert_allclose(probabilities, 0.1, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------ VERSION

VERSION_FILE = Path(__file__).parent / "data" / "version.npz"
# Between them they pass through all that decides weights: both Muons, SGD, Adam, batch normalisation, dropout.
VERSIONED = {
    "muon": Recipe(optimizer="muon", learning_rate=0.05, weight_decay=5e-3, class_weights=True),
    "muon_adam": Recipe(optimizer="muon_adam", learning_rate=4e-3),
}
TOLERANCE = 1e-4  # other processors' instructions and other versions of Keras change less than a tenth of it


def smooth():
    """A network without kinks: at a ReLU or a maximum one rounding more or less can decide where a gradient goes."""
    image = layers.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(image)
    for name, filters in (("conv1", 4), ("conv2", 6)):
        x = layers.Conv2D(filters, 3, strides=2, use_bias=False, name=name)(x)
        x = layers.Activation("tanh")(layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x))
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    x = layers.Dense(12, activation="tanh", name="dense")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x))


def weights_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def versioned(name, initial, **changes):
    """Weights by path after 30 steps from initial ones."""
    recipe = VERSIONED[name].replace(epochs=6, batch_size=32, schedule="cosine", label_smoothing=0.1, keep="last")
    recipe = recipe.replace(augmentation=Augmentation(flip=True, shift=2, erasing=0.5), **changes)
    model = smooth()
    for weight in model.weights:
        weight.assign(initial[weight.path])
    with pytest.MonkeyPatch.context() as patch:
        # Muon's matrices are bfloat16 where the processor has it, whatever the precision of the layers.
        patch.setattr(optimizers, "best_precision", lambda: "float32")
        fit(model, recipe, train=garments(170, 0))  # ten images are left over in every epoch
    return weights_of(model)


@tensorflow_only  # other backends draw other dropout
@pytest.mark.parametrize("name", VERSIONED)
def test_version_is_that_of_the_arithmetic(name):
    """A training ends with the weights with which it ended when `training.VERSION` got its number.

    If this fails because the arithmetic was changed on purpose, raise VERSION and write the weights anew with
    ``python tests/test_training.py``; else the change is a mistake.
    """
    with np.load(VERSION_FILE) as file:
        assert file["version"] == training.VERSION, "write the weights anew: python tests/test_training.py"
        initial, final = (
            {key.removeprefix(when): file[key] for key in file.files if key.startswith(when)}
            for when in ("initial/", f"{name}/")
        )
    ends = versioned(name, initial)
    assert ends.keys() == final.keys()
    for path, weight in ends.items():
        np.testing.assert_allclose(weight, final[path], rtol=0, atol=TOLERANCE, err_msg=path)
    smoother = versioned(name, initial, label_smoothing=0.11)
    assert max(np.abs(weight - final[path]).max() for path, weight in smoother.items()) > 3 * TOLERANCE


def write_version():
    keras.utils.set_random_seed(0)
    initial = weights_of(smooth())
    arrays = {f"initial/{path}": weight for path, weight in initial.items()}
    for name in VERSIONED:
        arrays |= {f"{name}/{path}": weight for path, weight in versioned(name, initial).items()}
    VERSION_FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(VERSION_FILE, version=training.VERSION, **arrays)


if __name__ == "__main__":
    write_version()

"""What has to be done to Keras: start it silently, and run a model in the fastest way of this machine.

What TensorFlow logs at start-up it writes before any Python code could turn that off, straight to file descriptor 2;
it would stand in every notebook's first output. So would its warning of many models traced in one process, which is
what a study does. Errors are exceptions and are not lost.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from fashion_mnist import records

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _silent_stderr():
    try:
        saved = os.dup(2)
    except OSError:  # no standard error, as under pythonw
        yield
        return
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


with _silent_stderr():
    import keras

logging.getLogger("tensorflow").setLevel(logging.ERROR)

PRECISIONS = ("auto", "float32", "bfloat16")


@cache
def best_precision() -> str:
    """The faster of "float32" and "bfloat16" on this machine.

    bfloat16 pays only where it is multiplied in hardware: CPUs with ``amx_bf16`` or ``avx512_bf16``, NVIDIA GPUs from
    compute capability 8.0 on (Colab's T4 has 7.5). Elsewhere it is emulated.
    """
    if keras.config.backend() == "jax":
        import jax

        device = jax.devices()[0]
        old = str(getattr(device, "compute_capability", "")).startswith(("5.", "6.", "7."))
        return "float32" if old or device.platform == "cpu" else "bfloat16"  # XLA on CPUs emulates it
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            about = tf.config.experimental.get_device_details(gpus[0])
            return "bfloat16" if about.get("compute_capability", (0, 0)) >= (8, 0) else "float32"
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & set(records.machine()["flags"]) else "float32"


@contextmanager
def accelerated(model: keras.Model, precision: str = "auto") -> Iterator[keras.Model]:
    """Run a model in the fastest way of this machine while the context lasts.

    Layers compute in `precision` (variables stay float32, and so do the layers that give the outputs), and
    batch normalisation in training runs fused on the TensorFlow backend. Afterwards the model is what it was.

    Parameters
    ----------
    model : keras.Model
        Built from float32 layers.
    precision : {"auto", "float32", "bfloat16"}
    """
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[resolved(precision)]
    every = list(dict.fromkeys(all_layers(model)))  # two nested models may share a layer
    outputs = {id(tensor._keras_history.operation) for tensor in keras.tree.flatten(model.outputs)}
    policies, steps = [layer.dtype_policy for layer in every], model.steps_per_execution
    on_tensorflow = keras.config.backend() == "tensorflow"
    fused = [layer for layer in every if type(layer) is keras.layers.BatchNormalization and on_tensorflow]
    try:
        for layer in every:
            if id(layer) not in outputs:
                layer.dtype_policy = policy
        for layer in fused:
            # Keras has no setting for the fused operation. Only this layer's method is another: its class stays Keras's
            # own, so a callback may save the model at any moment and Keras alone loads it.
            layer.call = _fused_call(layer)
        _forget_compiled(model)
        yield model
    finally:
        for layer, old in zip(every, policies, strict=True):
            layer.dtype_policy = old
        for layer in fused:
            del layer.call
        model.steps_per_execution = steps
        _forget_compiled(model)


def resolved(precision: str) -> str:
    """Say which precision "auto" is here; ValueError if there is none of that name."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return best_precision() if precision == "auto" else precision


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Give a model's layers and, after each model among them, that one's."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def _forget_compiled(model: keras.Model) -> None:
    """Drop traced functions: they hold on to the way the layers computed when they were traced."""
    model.train_function = model.test_function = model.predict_function = None


def _fused_call(layer: keras.layers.BatchNormalization) -> Callable:
    """What `layer` computes, in training by TensorFlow's fused operation where that can do it."""
    import tensorflow as tf

    plain = layer.scale and layer.center and not layer.synchronized and not getattr(layer, "renorm", False)

    def call(inputs, training=None, mask=None):
        fits = training and layer.trainable and mask is None and len(inputs.shape) == 4 and layer.axis in (-1, 3)
        if not (fits and plain):
            return type(layer).call(layer, inputs, training=training, mask=mask)
        nothing = tf.constant([], tf.float32)  # the batch's own statistics, not running ones, normalise it
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(layer.gamma.value, tf.float32),
            offset=tf.cast(layer.beta.value, tf.float32),
            mean=nothing,
            variance=nothing,
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The operation returns the unbiased variance, Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance * (count - 1) / count)):
            moving.assign(moving * layer.momentum + tf.stop_gradient(batch) * (1 - layer.momentum))
        return outputs

    return call

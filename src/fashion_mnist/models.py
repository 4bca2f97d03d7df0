"""Every architecture of the study, one builder each, in one registry.

A builder returns an uncompiled ``keras.Model`` that takes images as they are, ``uint8 (n, 28, 28, 1)`` with pixels in
0..255, and gives ten logits. Scaling is the model's first layer and the logits stay ``float32`` whatever the precision
of the layers between, so a saved model needs nothing but its file.

``build("cnn", f1=32)`` looks a builder up by name; ``ARCHITECTURES`` lists them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from fashion_mnist import _backend  # isort: skip  # noqa: F401  first, so that TensorFlow starts silently
import keras
from keras import layers

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10
# Of the running statistics of batch normalisation. Keras's 0.99 needs hundreds of steps to forget the start, more than
# a quick training has.
MOMENTUM = 0.9


def build(name: str, **arguments: object) -> keras.Model:
    """Build an architecture of the registry.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES`.
    **arguments
        Passed to the builder.

    Returns
    -------
    keras.Model
        Uncompiled; input ``(n, 28, 28, 1)`` in 0..255, output logits ``(n, 10)`` float32.

    Raises
    ------
    ValueError
        If there is no architecture `name`, or it does not take one of `arguments`; the message lists what there is.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"There is no architecture {name!r}; choose one of {', '.join(ARCHITECTURES)}.")
    builder = ARCHITECTURES[name]
    known = inspect.signature(builder).parameters
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        raise ValueError(f"{name} takes no argument {', '.join(unknown)}; it takes {', '.join(known)}.")
    return builder(**arguments)


def mlp(hidden: tuple[int, ...] = (1024, 384), dropout: float = 0.2) -> keras.Model:
    """Fully connected network: flatten, dense ReLU layers with dropout; 1.2 M parameters by default."""
    inputs, x = _scaled_input()
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(_positive("hidden", *hidden), start=1):
        x = layers.Dense(units, activation="relu", name=f"hidden{index}")(x)
        x = layers.Dropout(_fraction("dropout", dropout), name=f"dropout{index}")(x)
    return _classifier("mlp", inputs, x)


def cnn(f1: int = 32, f2: int = 64, kernel: int = 3, dense: int = 64) -> keras.Model:
    """Two convolutions, each followed by max-pooling, and one dense layer; the network of the starting CNN grid."""
    _positive("f1, f2, kernel, dense", f1, f2, kernel, dense)
    inputs, x = _scaled_input()
    x = layers.Conv2D(f1, kernel, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(f2, kernel, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(dense, activation="relu", name="dense")(x)
    return _classifier("cnn", inputs, x)


def mini_resnet(blocks: int = 3, filters: int = 64) -> keras.Model:
    """Residual network (He et al., 2016) as the starting project has it: one resolution, biases, no normalisation.

    One convolution, then `blocks` times [conv ReLU, conv, add, ReLU], global average pooling and a dense layer of 64.
    """
    _positive("blocks, filters", blocks, filters)
    inputs, x = _scaled_input()
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name="stem")(x)
    for block in range(1, blocks + 1):
        shortcut = x
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv1")(x)
        x = layers.Conv2D(filters, 3, padding="same", name=f"block{block}_conv2")(x)
        x = layers.Add(name=f"block{block}_add")([x, shortcut])
        x = layers.ReLU(name=f"block{block}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    return _classifier("mini_resnet", inputs, x)


def mini_resnet_bn(blocks: int = 3, filters: int = 64, stages: int = 1) -> keras.Model:
    """`mini_resnet` with what its successors have: batch normalisation (Ioffe & Szegedy, 2015), pooling, stages.

    The stem is pooled to 14 x 14 and every convolution is followed by batch normalisation. Each stage has `blocks`
    residual blocks; from one to the next a convolution doubles the filters and the image is pooled again, to 7 x 7 and
    3 x 3. The last normalisation of each block starts at zero (Goyal et al., 2017): a block starts as the identity.
    """
    _positive("blocks, filters, stages", blocks, filters, stages)
    if stages > 3:
        raise ValueError(f"stages: {stages}; after the third there is nothing left to pool.")
    inputs, x = _scaled_input()
    x = _conv_bn(x, filters, "stem", relu=True)
    x = layers.MaxPooling2D(name="stem_pool")(x)
    for stage in range(1, stages + 1):
        if stage > 1:
            filters *= 2
            x = _conv_bn(x, filters, f"stage{stage}", relu=True)
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        for block in range((stage - 1) * blocks + 1, stage * blocks + 1):
            shortcut = x
            x = _conv_bn(x, filters, f"block{block}_conv1", relu=True)
            x = _conv_bn(x, filters, f"block{block}_conv2", relu=False, gamma="zeros")
            x = layers.Add(name=f"block{block}_add")([x, shortcut])
            x = layers.ReLU(name=f"block{block}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _classifier("mini_resnet_bn", inputs, x)


def deep_cnn(
    widths: tuple[int, int, int] = (64, 128, 256), dense: int = 256, dropouts: tuple[float, ...] = (0.25, 0.3, 0.4, 0.4)
) -> keras.Model:
    """Three stages of two convolutions with batch normalisation and dropout; 1.2 M parameters by default.

    `dropouts` are the rates after each stage and after the dense layer.
    """
    _positive("widths, dense", *widths, dense)
    if len(dropouts) != len(widths) + 1:
        raise ValueError(f"dropouts has {len(dropouts)} rates; give one a stage and one for the dense layer.")
    inputs, x = _scaled_input()
    for stage, (width, rate) in enumerate(zip(widths, dropouts[:-1], strict=True), start=1):
        x = _conv_bn(x, width, f"stage{stage}_conv1", relu=True)
        x = _conv_bn(x, width, f"stage{stage}_conv2", relu=True)
        if stage < len(widths):
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        else:
            x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(_fraction("dropouts", rate), name=f"stage{stage}_dropout")(x)
    x = layers.Dense(dense, use_bias=False, name="dense")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="dense_bn")(x)
    x = layers.ReLU(name="dense_relu")(x)
    x = layers.Dropout(_fraction("dropouts", dropouts[-1]), name="dense_dropout")(x)
    return _classifier("deep_cnn", inputs, x)


def regularised_cnn(
    widths: tuple[int, ...] = (32, 64, 128), l2: float = 1e-4, dropout: float = 0.3, dense: int = 128
) -> keras.Model:
    """One convolution a stage with ReLU, batch normalisation, dropout and an L2 penalty on every kernel.

    `l2` is the factor of the squared weights added to the loss.
    """
    _positive("widths, dense", *widths, dense)
    penalty = keras.regularizers.L2(l2)
    inputs, x = _scaled_input()
    for stage, width in enumerate(widths, start=1):
        x = _conv_bn(x, width, f"stage{stage}_conv", relu=True, penalty=penalty)
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        x = layers.Dropout(_fraction("dropout", dropout), name=f"stage{stage}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(dense, activation="relu", kernel_regularizer=penalty, name="dense")(x)
    x = layers.Dropout(_fraction("dropout", dropout), name="dense_dropout")(x)
    return _classifier("regularised_cnn", inputs, x)


def resnet50v2(
    weights: str | Path | None = "imagenet", size: int = 85, fallback_to_random: bool = False
) -> keras.Model:
    """ResNet50V2 (He et al., 2016b) on garments enlarged to `size` x `size` x 3, with one dense layer on top.

    The backbone is one layer named ``backbone``: set its ``trainable`` to False to train the head alone.

    Parameters
    ----------
    weights : "imagenet", path or None
        "imagenet" lets Keras download the published weights; a path names a ``.h5`` file of ResNet50V2 without its
        top; None starts at random.
    size : int
        Side of the enlarged image, at least 32.
    fallback_to_random : bool
        Whether to go on with random weights where "imagenet" cannot be downloaded.

    Raises
    ------
    ValueError
        If `size` is too small for the backbone's five halvings.
    FileNotFoundError
        If `weights` is a path with no file.
    ConnectionError
        If the ImageNet weights cannot be downloaded and `fallback_to_random` is False.
    """
    if not isinstance(size, int) or size < 32:
        raise ValueError(f"size: {size!r} is not a whole number of at least 32.")
    if weights not in ("imagenet", None) and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights} is not a file; give a ResNet50V2 'notop' weight file, 'imagenet' or None.")

    def backbone(start: str | Path | None) -> keras.Model:
        network = keras.applications.ResNet50V2(
            include_top=False, weights=start, input_shape=(size, size, 3), pooling="avg"
        )
        network.name = "backbone"
        return network

    try:
        body = backbone(weights)
    except Exception as error:
        if weights != "imagenet":
            raise
        if not fallback_to_random:
            raise ConnectionError(
                "The ImageNet weights of ResNet50V2 could not be downloaded. Download "
                "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5 from the Keras applications release elsewhere "
                "and pass weights='PATH/TO/THAT.h5', or pass weights=None for random weights."
            ) from error
        body = backbone(None)
    inputs = layers.Input(IMAGE_SHAPE, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(inputs)  # the range the backbone was trained on
    x = layers.Resizing(size, size, interpolation="bilinear", name="enlarge")(x)
    x = layers.Concatenate(name="to_rgb")([x, x, x])
    return _classifier("resnet50v2", inputs, body(x))


ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    builder.__name__: builder
    for builder in (mlp, cnn, mini_resnet, mini_resnet_bn, deep_cnn, regularised_cnn, resnet50v2)
}


def _scaled_input() -> tuple[keras.KerasTensor, keras.KerasTensor]:
    inputs = layers.Input(IMAGE_SHAPE, name="image")
    return inputs, layers.Rescaling(1 / 255, name="scale")(inputs)


def _conv_bn(x, filters: int, name: str, relu: bool, gamma: str = "ones", penalty=None):
    """Convolution without bias, which the normalisation behind it would take away again."""
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_regularizer=penalty, name=name)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, gamma_initializer=gamma, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _classifier(name: str, inputs, features) -> keras.Model:
    # Logits, and in float32: a softmax in bfloat16 costs accuracy, and explanations need the logits.
    logits = layers.Dense(CLASSES, dtype="float32", name="logits")(features)
    return keras.Model(inputs, logits, name=name)


def _positive(what: str, *values: int) -> tuple[int, ...]:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what}: {value!r} is not a positive whole number.")
    return values


def _fraction(what: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{what}: {value!r} is not a rate in [0, 1).")
    return value

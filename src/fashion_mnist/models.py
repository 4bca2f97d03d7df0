"""Every architecture of the study, one builder each; saving and loading of a trained network.

A builder returns an uncompiled ``keras.Model`` that takes images as they are, ``uint8 (n, 28, 28, 1)`` with pixels in
0..255, and gives ten logits. Scaling is the first layer and the logits stay ``float32`` whatever the precision of the
layers between. ``build("cnn", f1=32)`` looks a builder up by name; ``ARCHITECTURES`` lists them.

A trained network is kept as a card, ``NAME.json``, which says how to build it, and its weights in float16 by variable
path, ``NAME.safetensors``: a saved Keras model is tied to the versions of Keras that know its configuration, arrays are
not. ``load("cnn_seed0")`` puts the two together on any Keras from 3.11 on, any backend.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from fashion_mnist import _backend  # isort: skip  first, so that TensorFlow starts silently
import keras
import numpy as np
import safetensors.numpy
from keras import layers

from fashion_mnist import data, files, records

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10
# Of the running statistics of batch normalisation. Keras's 0.99 needs hundreds of steps to forget the start, more than
# a quick training has.
MOMENTUM = 0.9


def build(name: str, **arguments: object) -> keras.Model:
    """Build the network that is called so in `ARCHITECTURES`, with arguments of its builder.

    Returns
    -------
    keras.Model
        Uncompiled; input ``(n, 28, 28, 1)`` in 0..255, output logits ``(n, 10)`` float32.

    Raises
    ------
    ValueError
        If there is no architecture `name`, or it does not take one of `arguments`; the message lists what there is.
    """
    spelled_out(name, arguments)
    return ARCHITECTURES[name](**arguments)


def spelled_out(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a builder with its defaults filled in, so that a default changed later changes no card.

    Raises
    ------
    ValueError
        As `build`.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"There is no architecture {name!r}; choose one of {', '.join(ARCHITECTURES)}.")
    known = inspect.signature(ARCHITECTURES[name]).parameters
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        raise ValueError(f"{name} takes no argument {', '.join(unknown)}; it takes {', '.join(known)}.")
    return {argument: arguments.get(argument, known[argument].default) for argument in known}


def save(model: keras.Model, path: str | Path) -> Path:
    """Write a network's weights in float16, whole or not at all; the network then has the rounded weights.

    Parameters
    ----------
    model : keras.Model
        Every variable path occurs once, as in what the builders return.
    path : path
        ``NAME.safetensors``; the card beside it is the caller's affair.

    Raises
    ------
    ValueError
        If a weight is not finite in float16; nothing is written.
    """
    weights = {}
    for variable in model.weights:
        with np.errstate(over="ignore"):
            weights[variable.path] = keras.ops.convert_to_numpy(variable).astype(np.float16)
        if not np.isfinite(weights[variable.path]).all():
            raise ValueError(f"{variable.path} holds values that float16 cannot hold; train with a lower rate.")
    files.write_bytes(path, safetensors.numpy.save(weights))  # its own writing does not say which disk is full
    for variable in model.weights:
        variable.assign(weights[variable.path].astype(np.float32))
    return Path(path)


def load(name: str | Path) -> keras.Model:
    """Build a trained network from its card and read its weights.

    Parameters
    ----------
    name : str or path
        Name of a network in ``models/`` of the checkout, or the path of a card, ``…/NAME.json``; the weights lie
        beside it.

    Returns
    -------
    keras.Model
        Uncompiled, float32; as `build` returns it.

    Raises
    ------
    FileNotFoundError
        If there is no such card, or its weights are not kept; the message says what makes them.
    records.RecordError
        If the card or the weights are damaged, or do not belong together.
    """
    card_path = Path(name)
    if card_path.suffix != ".json":
        card_path = data.root() / "models" / f"{name}.json"
    weights_path = card_path.with_suffix(".safetensors")
    if not card_path.is_file():
        known = ", ".join(path.stem for path in sorted(card_path.parent.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(f"There is no card {card_path}; networks with weights there: {known}.")
    if not weights_path.is_file():
        raise FileNotFoundError(
            f"The weights of {card_path.stem} are not kept ({weights_path.name}), only its card and predictions. "
            "`models.build` and `training.fit` make it again from what the card says; or take one with weights."
        )
    card = records.read_json(card_path)
    records.note(weights_path)
    try:
        arguments = spelled_out(card["architecture"], card["arguments"])
        if "weights" in arguments:
            arguments["weights"] = None  # they come from our file; nothing is downloaded
        with safetensors.safe_open(weights_path, framework="numpy") as weights:
            with at_most(sum(math.prod(shape) for shape in _shapes(weights).values())):
                model = build(card["architecture"], **arguments)
            _fill(model, weights)
        return model
    except Exception as error:  # whatever a card asks for: Keras and its backends have errors of their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:500]
        raise records.RecordError(
            f"{card_path} and {weights_path.name} do not make a network ({reason}); restore both, with git for "
            "instance."
        ) from error


def _shapes(weights: safetensors.safe_open) -> dict[str, tuple[int, ...]]:
    return {path: tuple(weights.get_slice(path).get_shape()) for path in weights.keys()}  # noqa: SIM118


def _fill(model: keras.Model, weights: safetensors.safe_open) -> None:
    """Give a model the weights of an open file; ValueError if they are not its own, or no numbers."""
    wanted = {variable.path: tuple(variable.shape) for variable in model.weights}
    if apart := sorted(dict(wanted.items() ^ _shapes(weights).items())):
        raise ValueError(f"they differ in {', '.join(apart)}")
    for variable in model.weights:
        values = weights.get_tensor(variable.path).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{variable.path} holds values that are no numbers")
        variable.assign(values)


@contextlib.contextmanager
def at_most(values: int) -> Iterator[None]:
    """Refuse to build a network of more values than this, before memory is taken for them, with a ValueError.

    How large a network is that a file asks for shows only while it is built. Every Keras layer adds its weights here.
    """
    plain, left = keras.Layer.add_weight, values

    def add_weight(layer: keras.Layer, *arguments: Any, shape: Any = None, **options: Any) -> Any:
        nonlocal left
        left -= math.prod(shape or ())
        if left < 0:
            raise ValueError("it asks for more weights than its file has")
        return plain(layer, *arguments, shape=shape, **options)

    with mock.patch.object(keras.Layer, "add_weight", add_weight):
        yield


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


def dropout_cnn(f1: int = 32, f2: int = 64, dense: int = 128, dropout: float = 0.5) -> keras.Model:
    """The CNN beside the starting projects' fully connected network, as far as it is published: two convolutions,
    max-pooling, dropout, about 230,000 parameters (225,034 here)."""
    _positive("f1, f2, dense", f1, f2, dense)
    inputs, x = _scaled_input()
    for index, filters in enumerate((f1, f2), start=1):
        x = layers.Conv2D(filters, 3, activation="relu", name=f"conv{index}")(x)
        x = layers.MaxPooling2D(name=f"pool{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(_fraction("dropout", dropout), name="dropout")(x)
    x = layers.Dense(dense, activation="relu", name="dense")(x)
    return _classifier("dropout_cnn", inputs, x)


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
    x = _residual_stages(x, [filters * 2**stage for stage in range(stages)], blocks)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _classifier("mini_resnet_bn", inputs, x)


def residual_cnn(
    widths: tuple[int, ...] = (64, 128, 256), blocks: int = 1, squeeze: int = 0, dropout: float = 0.2
) -> keras.Model:
    """Residual stages (He et al., 2016) at 28 x 28, 14 x 14 and 7 x 7 pixels.

    1.9 M parameters by default. Stages are those of `mini_resnet_bn`, but the stem is not pooled: the first stage sees
    every pixel.

    Parameters
    ----------
    widths : tuple of int
        Filters of each stage, at most three; multiples of 32 suit what multiplies matrices in hardware.
    blocks : int
        Residual blocks of a stage.
    squeeze : int
        What the units of squeeze-and-excite (Hu et al., 2018) in each block are to its filters, as a divisor; 0 for
        none.
    dropout : float
        Rate before the logits.
    """
    _positive("widths, blocks", *widths, blocks)
    if len(widths) > 3 or not isinstance(squeeze, int) or squeeze < 0:
        raise ValueError(f"widths: {widths!r}, squeeze: {squeeze!r}; give up to three widths, and a whole number.")
    inputs, x = _scaled_input()
    x = _conv_bn(x, widths[0], "stem", relu=True)
    x = _residual_stages(x, widths, blocks, squeeze)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(_fraction("dropout", dropout), name="dropout")(x)
    return _classifier("residual_cnn", inputs, x)


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


def resnet50v2(weights: str | Path | None = "imagenet", size: int = 85) -> keras.Model:
    """ResNet50V2 (He et al., 2016b) on garments enlarged to `size` x `size` x 3, with one dense layer on top.

    The backbone is one layer named ``backbone``: set its ``trainable`` to False to train the head alone.

    Parameters
    ----------
    weights : "imagenet", path or None
        "imagenet" lets Keras download the published weights; a path names a ``.h5`` file of ResNet50V2 without its
        top; None starts at random.
    size : int
        Side of the enlarged image, at least 32.

    Raises
    ------
    ValueError
        If `size` is too small for the backbone's five halvings.
    FileNotFoundError
        If `weights` is a path with no file.
    ConnectionError
        If the ImageNet weights cannot be downloaded.
    """
    if not isinstance(size, int) or size < 32:
        raise ValueError(f"size: {size!r} is not a whole number of at least 32.")
    if weights not in ("imagenet", None) and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights} is not a file; give a ResNet50V2 'notop' weight file, 'imagenet' or None.")

    try:
        body = keras.applications.ResNet50V2(
            include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg"
        )
    except Exception as error:
        if weights != "imagenet":
            raise
        raise ConnectionError(
            "The ImageNet weights of ResNet50V2 could not be downloaded. Download "
            "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5 from the Keras applications release elsewhere "
            "and pass weights='PATH/TO/THAT.h5', or pass weights=None for random weights."
        ) from error
    body.name = "backbone"
    return _on_garments("resnet50v2", body, 1 / 127.5, -1.0)


# Of each stage: blocks, filters, kernel, stride of the first block, and what a block's inner width is to its input's.
LITE0_STAGES = (
    *((1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6)),
    *((3, 112, 5, 1, 6), (4, 192, 5, 2, 6), (1, 320, 3, 1, 6)),
)


def efficientnet_lite0(weights: str | Path | None = "imagenet", size: int = 112) -> keras.Model:
    """EfficientNet-Lite0 on garments enlarged to `size` x `size` x 3, with one dense layer on top; 3.4 M parameters.

    EfficientNet-B0 (Tan & Le, 2019) without squeeze-and-excite and with ReLU6: inverted residuals (Sandler et al.,
    2018). The backbone is one layer named ``backbone``, its answer 1,280 numbers an image.

    Parameters
    ----------
    weights : "imagenet", path or None
        "imagenet" takes the weights that come with the project, ``models/pretrained/efficientnet_lite0.safetensors``; a
        path names another such file; None starts at random.
    size : int
        Side of the enlarged image, at least 32.

    Raises
    ------
    ValueError
        If `size` is too small, or the file is damaged or holds other weights.
    FileNotFoundError
        If the file is not there.
    """
    if not isinstance(size, int) or size < 32:
        raise ValueError(f"size: {size!r} is not a whole number of at least 32.")
    body = efficientnet_lite0_backbone(size)
    if weights is not None:
        path = data.root() / "models" / "pretrained" / "efficientnet_lite0.safetensors"
        path = path if weights == "imagenet" else Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; give weights of EfficientNet-Lite0, 'imagenet' or None.")
        records.note(path)
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                _fill(body, file)
        except (ValueError, safetensors.SafetensorError) as error:
            raise ValueError(f"{path} does not hold the weights of EfficientNet-Lite0: {error}.") from error
    return _on_garments("efficientnet_lite0", body, 1 / 128, -127 / 128)


def efficientnet_lite0_backbone(size: int) -> keras.Model:
    """What `efficientnet_lite0` has below its last layer: ``(n, size, size, 3)`` in -1..1 to ``(n, 1280)``."""

    def normalised(x, name: str, relu: bool = True):
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x

    def pointwise(x, filters: int, name: str, relu: bool = True):
        return normalised(layers.Conv2D(filters, 1, use_bias=False, name=name)(x), name, relu)

    inputs = layers.Input((size, size, 3), name="enlarged")
    x = normalised(layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem")(inputs), "stem")
    number = 0
    for blocks, filters, kernel, stride, expansion in LITE0_STAGES:
        for index in range(blocks):
            number, shortcut = number + 1, x
            if expansion > 1:
                x = pointwise(x, expansion * x.shape[-1], f"block{number}_expand")
            name, strides = f"block{number}_depthwise", stride if index == 0 else 1
            x = layers.DepthwiseConv2D(kernel, strides, padding="same", use_bias=False, name=name)(x)
            x = pointwise(normalised(x, name), filters, f"block{number}_project", relu=False)
            if index > 0:
                x = layers.Add(name=f"block{number}_add")([x, shortcut])
    x = layers.GlobalAveragePooling2D(name="pool")(pointwise(x, 1280, "head"))
    return keras.Model(inputs, x, name="backbone")


def layer_table(model: keras.Model) -> list[tuple[str, tuple[int, ...], int]]:
    """The layers that change a shape or have parameters, for a diagram: name, output shape, parameters."""
    plain = (layers.InputLayer, layers.Rescaling, layers.Dropout, layers.ReLU)
    shown = [layer for layer in model.layers if not isinstance(layer, plain)]
    return [(layer.name, tuple(layer.output.shape[1:]), layer.count_params()) for layer in shown]


def multiply_adds(model: keras.Model) -> int:
    """Multiplications with additions that one image costs in a forward pass, of convolutions and dense layers.

    What a network costs on no machine in particular; a training's step costs about three times as many.
    """
    weighted = [layer for layer in _backend.all_layers(model) if hasattr(layer, "kernel")]
    return sum(math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1]) for layer in weighted)


ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    builder.__name__: builder
    for builder in (
        *(mlp, cnn, dropout_cnn, mini_resnet, mini_resnet_bn, deep_cnn, regularised_cnn, residual_cnn),
        *(resnet50v2, efficientnet_lite0),
    )
}


def _scaled_input() -> tuple[keras.KerasTensor, keras.KerasTensor]:
    inputs = layers.Input(IMAGE_SHAPE, name="image")
    return inputs, layers.Rescaling(1 / 255, name="scale")(inputs)


def _on_garments(name: str, body: keras.Model, scale: float, offset: float) -> keras.Model:
    """A network for photographs behind what makes garments look like them: its range of values, size, three colours."""
    inputs = layers.Input(IMAGE_SHAPE, name="image")
    x = layers.Rescaling(scale, offset=offset, name="scale")(inputs)
    x = layers.Resizing(*body.input_shape[1:3], interpolation="bilinear", name="enlarge")(x)
    x = layers.Concatenate(name="to_rgb")([x, x, x])
    return _classifier(name, inputs, body(x))


def _conv_bn(x, filters: int, name: str, relu: bool, gamma: str = "ones", penalty=None):
    """Convolution without bias, which the normalisation behind it would take away again."""
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_regularizer=penalty, name=name)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, gamma_initializer=gamma, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _residual_stages(x, widths: Sequence[int], blocks: int, squeeze: int = 0):
    """Residual blocks, each ending in a normalisation that starts at zero; pooling before each stage but the first."""
    for stage, filters in enumerate(widths, start=1):
        if stage > 1:
            x = _conv_bn(x, filters, f"stage{stage}", relu=True)
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        for block in range((stage - 1) * blocks + 1, stage * blocks + 1):
            shortcut = x
            x = _conv_bn(x, filters, f"block{block}_conv1", relu=True)
            x = _conv_bn(x, filters, f"block{block}_conv2", relu=False, gamma="zeros")
            if squeeze:
                weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"block{block}_squeeze")(x)
                weight = layers.Dense(filters // squeeze, activation="relu", name=f"block{block}_reduce")(weight)
                weight = layers.Dense(filters, activation="sigmoid", name=f"block{block}_excite")(weight)
                x = layers.Multiply(name=f"block{block}_scale")([x, weight])
            x = layers.Add(name=f"block{block}_add")([x, shortcut])
            x = layers.ReLU(name=f"block{block}_relu")(x)
    return x


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

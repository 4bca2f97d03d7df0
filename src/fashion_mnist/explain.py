"""Why a network said what it said: class activation maps, feature maps, and checks of whether the maps mean anything.

Every method takes ``(model, images, layer, class_index)``, works on thousands of images at once and explains the logit:
a softmax at the end of the model is looked through. ``METHODS`` lists them by their published names. The model is
never changed.

>>> maps = grad_cam(model, images)  # (n, h, w) in [0, 1], for the predicted classes  # doctest: +SKIP
>>> sanity_check(model, images, grad_cam)  # how much of the maps survives losing the weights  # doctest: +SKIP

Each function is compiled once for a model and layer, and one pass over a batch gives all of its maps: the classes are
chosen inside the graph, and gradients go back from the logits to the explained layer and no further.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fashion_mnist import _backend  # isort: skip  # noqa: F401  first, so that TensorFlow starts silently
import keras
import numpy as np
import tensorflow as tf
from scipy import integrate, ndimage, special, stats

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
BLUR_SIGMA = 4.0  # pixels; what is left of a garment is a grey cloud without an outline
_PREDICTED = -1  # stands for "the class the model predicts" inside the compiled functions


# ------------------------------------------------------------------------------------------------------------- Methods


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    batch_size: int = 128,
    signed: bool = False,
) -> np.ndarray:
    """Class activation maps by gradient weighting (Selvaraju et al., 2017).

    A channel's weight is the mean over positions of the logit's gradient; the map is the weighted sum of the channels.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential classifier whose last layer gives logits or softmax probabilities.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8 or float
        As the model takes them, pixels in 0..255.
    layer : str or int, optional
        Layer to explain: "first" or "last" convolution (the default), the index of a convolution (negative from the
        end), or the name of any layer with a spatial output; "backbone/conv1_conv" names a layer of a model used as a
        layer. A layer's own output is explained: where an addition, a normalisation or a ReLU follows as a layer of its
        own, name that one to explain what the rest of the network sees.
    class_index : int or ndarray of shape (n,), optional
        Class to explain; the predicted one if not given.
    batch_size : int
        Images in one pass; bounds the memory.
    signed : bool
        Return the weighted sum itself, in logits: negative evidence is kept and maps of different classes or images
        can be compared.

    Returns
    -------
    ndarray, shape (n, h, w), float32 in [0, 1]
        One map an image at the layer's resolution: negative evidence cut off, divided by its maximum; all zero where
        no feature supports the class. With `signed`, any real numbers.

    Raises
    ------
    ValueError
        If `layer` is not a layer of the model with a spatial output (the message lists its convolutions), a class is
        out of range, or `images` have another shape than the model's input.
    RuntimeError
        If Keras runs on another backend than TensorFlow.
    """
    maps = _weighted_sums(_grad_cam_sum, model, images, _find(model, layer), class_index, batch_size)
    return maps if signed else _positive_share(maps)


def grad_cam_plus_plus(
    model: keras.Model,
    images: np.ndarray,
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    batch_size: int = 128,
    signed: bool = False,
) -> np.ndarray:
    """Grad-CAM++ (Chattopadhay et al., 2018): positive gradients, weighted by their share in the class's evidence.

    The closed form of the paper for the score ``exp(logit)``, whose value is a factor common to all channels of an
    image and is left out. It is derived for rectified activations: choose a layer whose output is not negative.
    Parameters, result and errors are those of `grad_cam`.
    """
    maps = _weighted_sums(_grad_cam_plus_plus_sum, model, images, _find(model, layer), class_index, batch_size)
    return maps if signed else _positive_share(maps)


def hires_cam(
    model: keras.Model,
    images: np.ndarray,
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    batch_size: int = 128,
    signed: bool = False,
) -> np.ndarray:
    """HiResCAM (Draelos & Carin, 2020): activation times gradient, position by position.

    Where all that follows the layer is linear, the signed map sums to the logit less the bias: every value is the exact
    contribution of its position. Parameters, result and errors are those of `grad_cam`.
    """
    maps = _weighted_sums(_hires_cam_sum, model, images, _find(model, layer), class_index, batch_size)
    return maps if signed else _positive_share(maps)


def score_cam(
    model: keras.Model,
    images: np.ndarray,
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    batch_size: int = 128,
    signed: bool = False,
    channels: int | None = None,
) -> np.ndarray:
    """Score-CAM (Wang et al., 2020): no gradients; a channel counts as much as the logit rises where it lets light in.

    Each channel, enlarged to the image and scaled to [0, 1], masks the image; the softmax over channels of the logits
    reached is their weight. That is one forward pass a channel and image, less the channels that are dead in an image.

    Parameters
    ----------
    model, images, layer, class_index, batch_size, signed
        As for `grad_cam`; `batch_size` counts masked images.
    channels : int, optional
        Use only this many channels of each image, those that vary most over positions; all if not given, which is the
        published method.

    Returns
    -------
    ndarray, shape (n, h, w), float32 in [0, 1]
        As for `grad_cam`.

    Raises
    ------
    ValueError, RuntimeError
        As for `grad_cam`.
    """
    path = _find(model, layer)
    images, classes = _checked(model, images, class_index, batch_size)
    if channels is not None and channels < 1:
        raise ValueError(f"channels is {channels}; give a positive number, or None to use all channels.")
    classes = _chosen(model, images, classes, batch_size)
    activations_of = _activations(model, path)
    maps = []
    for batch in _slices(len(images), max(1, batch_size // 8)):  # the masks of a batch are held in memory at once
        features = activations_of(_floats(images[batch])).numpy()
        weights = _score_cam_weights(model, features, images[batch], classes[batch], batch_size, channels)
        maps.append(np.einsum("nhwk,nk->nhw", features, weights))
    maps = np.concatenate(maps)
    return maps if signed else _positive_share(maps)


def saliency(
    model: keras.Model,
    images: np.ndarray,
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    batch_size: int = 128,
    signed: bool = False,
) -> np.ndarray:
    """Gradient of the logit by the pixels (Simonyan et al., 2014), its magnitude: the base line for the other methods.

    `layer` is there so that methods can be exchanged, and is not used: the map is at the image's resolution. With
    `signed`, the gradient itself in logits a grey level. The rest is as for `grad_cam`.
    """
    gradients = _weighted_sums(_input_gradient, model, images, _INPUT, class_index, batch_size)
    return gradients if signed else _positive_share(np.abs(gradients))


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
    "HiResCAM": hires_cam,
    "Score-CAM": score_cam,
    "Saliency": saliency,
}


def feature_maps(
    model: keras.Model, images: np.ndarray, layer: str | int | None = None, *, batch_size: int = 128
) -> np.ndarray:
    """Output of any layer, convolutional or not.

    Parameters
    ----------
    model, images, layer, batch_size
        As for `grad_cam`, but `layer` may be any layer with one output.

    Returns
    -------
    ndarray, shape (n, h, w, channels) or (n, units), float32

    Raises
    ------
    ValueError
        If the model has no such layer.
    """
    images, _ = _checked(model, images, None, batch_size)
    function = _activations(model, _find(model, layer, spatial=False))
    return np.concatenate([function(_floats(images[batch])).numpy() for batch in _slices(len(images), batch_size)])


def convolutions(model: keras.Model) -> list[str]:
    """Names of a model's convolutions from input to output, as `layer` takes them; their indices are its integers."""
    return [path for path, layer in _layers(model) if isinstance(layer, CONVOLUTIONS)]


def upsample(maps: np.ndarray, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Enlarge maps bilinearly, pixel centres aligned as ``tf.image.resize`` has them.

    Parameters
    ----------
    maps : ndarray, shape (n, h, w)
    size : (int, int)
        Height and width wanted.

    Returns
    -------
    ndarray, shape (n, *size), float32
        Never beyond the range of the map it comes from.
    """
    maps = np.asarray(maps, np.float32)
    if maps.ndim != 3:
        raise ValueError(f"maps have shape {maps.shape}; expected (n, h, w).")
    rows, columns = _interpolation(maps.shape[1], size[0]), _interpolation(maps.shape[2], size[1])
    return rows @ maps @ columns.T


# --------------------------------------------------------------------- Base lines: maps that know nothing of the model


def random_maps(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Uniform noise in [0, 1) for each pixel; shape (n, 28, 28), float32. Any explanation has to beat it."""
    return np.random.default_rng(seed).random(images.shape[:3], dtype=np.float32)


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Magnitude of the Sobel gradient, each map divided by its maximum; shape (n, 28, 28), float32 in [0, 1].

    Looks like an explanation and knows nothing of the model (Adebayo et al., 2018).
    """
    pixels = np.asarray(images, np.float32)[..., 0]
    # ndimage.sobel would smooth over the images too
    smooth, slope = (1, 2, 1), (-1, 0, 1)
    down = ndimage.correlate1d(ndimage.correlate1d(pixels, slope, axis=1), smooth, axis=2)
    right = ndimage.correlate1d(ndimage.correlate1d(pixels, slope, axis=2), smooth, axis=1)
    return _positive_share(np.hypot(down, right))


# -------------------------------------------------------------------------------------------------------------- Checks


def sanity_check(
    model: keras.Model,
    images: np.ndarray,
    method: Callable[..., np.ndarray],
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    stages: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> dict[str, np.ndarray]:
    """Cascading randomisation (Adebayo et al., 2018): do the maps depend on what the model has learned?

    From the output down to the input, each layer's weights lose their order on top of those above it. The weights of an
    array are permuted, not drawn anew: their scale stays what training made it, and only what was learned is gone. The
    maps of the damaged model, for the classes that the intact one predicts, are compared with the intact one's.

    Parameters
    ----------
    model, images, layer, class_index, batch_size
        As for `grad_cam`.
    method : callable
        One of `METHODS`, or anything with their signature.
    stages : int, optional
        Compare after this many layers only, evenly spread and the last one among them; after every layer with weights
        if not given.
    seed : int
        Seed of the permutations.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64 in [-1, 1]
        For the layer reached, in order from the top down, Spearman's rank correlation of each image's two maps. The
        last entry has all weights randomised: near 0 is a pass, near 1 says the map is about the image and not the
        model. A map without any contrast counts as 0; NaN where the intact model's own map has none.
    """
    images, classes = _checked(model, images, class_index, batch_size)
    if stages is not None and stages < 1:
        raise ValueError(f"stages is {stages}; give a positive number, or None to compare after every layer.")
    classes = _chosen(model, images, classes, batch_size)
    intact = method(model, images, layer=layer, class_index=classes, batch_size=batch_size)

    damaged = keras.models.clone_model(model)
    damaged.set_weights(model.get_weights())
    weighted = [(name, part) for name, part in _layers(damaged) if part.weights and not isinstance(part, keras.Model)]
    weighted.reverse()
    reported = np.linspace(len(weighted) - 1, 0, min(stages or len(weighted), len(weighted))).round()

    generator = np.random.default_rng(seed)
    correlations = {}
    for position, (name, part) in enumerate(weighted):
        part.set_weights([generator.permuted(weight) for weight in part.get_weights()])
        if position in reported:
            maps = method(damaged, images, layer=layer, class_index=classes, batch_size=batch_size)
            correlations[name] = rank_correlation(intact, maps)
    return correlations


class Faithfulness(NamedTuple):
    """Curves of `insertion_deletion`: the class's probability as pixels come or go, most important first."""

    fraction: np.ndarray  # (steps + 1,), share of the pixels inserted or deleted
    insertion: np.ndarray  # (n, steps + 1), probability
    deletion: np.ndarray  # (n, steps + 1), probability

    @property
    def insertion_auc(self) -> np.ndarray:
        """Area under each insertion curve, shape (n,), in [0, 1]; high is faithful."""
        return integrate.trapezoid(self.insertion, self.fraction, axis=1)

    @property
    def deletion_auc(self) -> np.ndarray:
        """Area under each deletion curve, shape (n,), in [0, 1]; low is faithful."""
        return integrate.trapezoid(self.deletion, self.fraction, axis=1)


def insertion_deletion(
    model: keras.Model,
    images: np.ndarray,
    maps: np.ndarray,
    class_index: int | np.ndarray | None = None,
    *,
    steps: int = 28,
    baseline: str = "blur",
    seed: int = 0,
    batch_size: int = 512,
) -> Faithfulness:
    """Insertion and deletion (Petsiuk et al., 2018): do the pixels that a map calls important decide the class?

    Parameters
    ----------
    model, images, class_index
        As for `grad_cam`.
    maps : ndarray, shape (n, h, w)
        Explanation or base line; enlarged to the images. Only the order of its values counts, and pixels of equal
        value come in random order, the same for each call with one `seed`.
    steps : int
        Steps from none to all of the pixels.
    baseline : "blur" or "zero"
        What a missing pixel shows: the image under a Gaussian blur of `BLUR_SIGMA` pixels, or the black of the
        background. Black flatters every map that finds the garment, as deleting background then changes nothing.
    batch_size : int
        Images in one pass.

    Returns
    -------
    Faithfulness
        ``fraction``, ``insertion`` and ``deletion`` curves and the areas under them, image by image.
    """
    images, classes = _checked(model, images, class_index, batch_size)
    if len(maps) != len(images):
        raise ValueError(f"There are {len(maps)} maps for {len(images)} images; give one map an image.")
    if steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1.")
    if baseline not in ("blur", "zero"):
        raise ValueError(f'baseline is {baseline!r}; choose "blur" or "zero".')
    classes = _chosen(model, images, classes, batch_size)
    size = images.shape[1:3]
    rank = _importance_rank(upsample(maps, size), seed).reshape(len(images), *size, 1)
    counts = np.linspace(0, size[0] * size[1], steps + 1).round()
    insertion, deletion = np.empty((2, len(images), steps + 1))
    for batch in _slices(len(images), batch_size):
        pixels = images[batch].astype(np.float32)
        missing = np.zeros_like(pixels)
        if baseline == "blur":
            missing = ndimage.gaussian_filter(pixels, sigma=(0, BLUR_SIGMA, BLUR_SIGMA, 0))
        for step, count in enumerate(counts):
            important = rank[batch] < count
            for curve, image in (
                (insertion, np.where(important, pixels, missing)),
                (deletion, np.where(important, missing, pixels)),
            ):
                probabilities = special.softmax(_predict(model, image, batch_size), axis=1)
                curve[batch, step] = probabilities[np.arange(len(pixels)), classes[batch]]
    return Faithfulness(counts / counts[-1], insertion, deletion)


def garment_share(images: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of each map's mass on the garment, whose pixels are the non-zero ones.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1)
    maps : ndarray, shape (n, h, w), not negative
        Enlarged to the images.

    Returns
    -------
    share : ndarray, shape (n,), float64 in [0, 1]
        NaN for a map that is all zero.
    uniform : ndarray, shape (n,), float64 in [0, 1]
        What a map equal everywhere would have: the share of the image that the garment covers.
    """
    if len(maps) != len(images):
        raise ValueError(f"There are {len(maps)} maps for {len(images)} images; give one map an image.")
    maps = upsample(maps, images.shape[1:3]).astype(np.float64)
    if (maps < 0).any():
        raise ValueError("maps have negative values; the share of a mass is defined for maps made with signed=False.")
    garment = np.asarray(images)[..., 0] > 0
    mass = maps.sum(axis=(1, 2))
    on_garment = np.where(garment, maps, 0).sum(axis=(1, 2))
    return np.divide(on_garment, mass, out=np.full(len(maps), np.nan), where=mass > 0), garment.mean(axis=(1, 2))


def stability(
    model: keras.Model,
    images: np.ndarray,
    method: Callable[..., np.ndarray],
    layer: str | int | None = None,
    class_index: int | np.ndarray | None = None,
    *,
    batch_size: int = 128,
) -> np.ndarray:
    """Do the maps move along when the image moves by one pixel?

    The image is moved up, down, left and right, with black coming in. The map of the moved image, for the class of the
    image at rest, is compared with the moved map, both at the image's resolution and without the outermost pixels.

    Parameters
    ----------
    model, images, layer, class_index, batch_size
        As for `grad_cam`.
    method : callable
        One of `METHODS`, or anything with their signature.

    Returns
    -------
    ndarray, shape (n,), float64 in [-1, 1]
        Spearman's rank correlation, mean of the four directions; 1 is perfectly stable. NaN where the map at rest is
        constant.
    """
    images, classes = _checked(model, images, class_index, batch_size)
    classes = _chosen(model, images, classes, batch_size)

    def maps_of(pixels: np.ndarray) -> np.ndarray:
        maps = method(model, pixels, layer=layer, class_index=classes, batch_size=batch_size)
        return upsample(maps, images.shape[1:3])

    at_rest = maps_of(images)
    correlations = []
    for move in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        moved, expected = maps_of(_moved(images, *move)), _moved(at_rest, *move)
        correlations.append(rank_correlation(expected[:, 1:-1, 1:-1], moved[:, 1:-1, 1:-1]))
    return np.mean(correlations, axis=0)


def rank_correlation(reference: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each pair of maps.

    Parameters
    ----------
    reference, maps : ndarray, shape (n, h, w)

    Returns
    -------
    ndarray, shape (n,), float64 in [-1, 1]
        0 where only `maps` is constant, as nothing is left of the order; NaN where `reference` is.
    """
    if reference.shape != maps.shape:
        raise ValueError(f"Maps of shape {maps.shape} cannot be compared with maps of shape {reference.shape}.")
    ranks = [stats.rankdata(values.reshape(len(values), -1), axis=1) for values in (reference, maps)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    spread_a, spread_b = (np.sqrt((rank**2).sum(axis=1)) for rank in (a, b))
    spread = spread_a * spread_b
    correlation = np.divide((a * b).sum(axis=1), spread, out=np.zeros(len(a)), where=spread > 0)
    return np.where(spread_a > 0, correlation, np.nan)


# --------------------- Weighted sums: (activations, gradients), both (n, h, w, channels) float32 tensors, to (n, h, w)


def _grad_cam_sum(activations, gradients):
    return tf.einsum("nhwk,nk->nhw", activations, tf.reduce_mean(gradients, axis=(1, 2)))


def _grad_cam_plus_plus_sum(activations, gradients):
    # alpha = g² / (2 g² + g³ sum A) with g² cancelled; where g is 0 or negative its ReLU takes the term away
    positive = tf.nn.relu(gradients)
    alpha = tf.math.divide_no_nan(1.0, 2.0 + gradients * tf.reduce_sum(activations, axis=(1, 2), keepdims=True))
    return tf.einsum("nhwk,nk->nhw", activations, tf.reduce_sum(alpha * positive, axis=(1, 2)))


def _hires_cam_sum(activations, gradients):
    return tf.reduce_sum(activations * gradients, axis=-1)


def _input_gradient(activations, gradients):
    return tf.reduce_sum(gradients, axis=-1)


def _score_cam_weights(model, features, images, classes, batch_size, channels) -> np.ndarray:
    """Softmax over channels of the logits of the masked images, shape (n, channels)."""
    n, _, _, depth = features.shape
    low, high = features.min(axis=(1, 2)), features.max(axis=(1, 2))
    # A channel without contrast masks everything, so all such channels share the logit of a black image.
    live = high > low
    (black,) = _predict(model, np.zeros((1, *images.shape[1:])), batch_size)
    scores = np.repeat(black[classes][:, None], depth, axis=1)
    if channels is not None and channels < depth:
        strongest = np.argsort(-features.std(axis=(1, 2)), axis=1, kind="stable")[:, :channels]
        kept = np.zeros((n, depth), bool)
        np.put_along_axis(kept, strongest, True, axis=1)
        live &= kept
        scores[~kept] = -np.inf
    masked_image, channel = np.nonzero(live)
    pixels = _floats(images)
    for batch in _slices(len(masked_image), batch_size):
        image, k = masked_image[batch], channel[batch]
        mask = (features[image, :, :, k] - low[image, k, None, None]) / (high - low)[image, k, None, None]
        masks = upsample(mask, images.shape[1:3])[..., None]
        logits = _predict(model, pixels[image] * masks, batch_size)
        scores[image, k] = logits[np.arange(len(image)), classes[image]]
    return special.softmax(scores, axis=1)


def _positive_share(maps: np.ndarray) -> np.ndarray:
    """Cut off negative values and divide each map by its maximum; a map without a positive value becomes all zero."""
    maps = np.maximum(maps, 0)
    peak = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, peak, out=np.zeros_like(maps), where=peak > 0)


# -------------------------------------- Compiled functions, one a model, layer and method; they go when the model goes

_INPUT = ""  # path that stands for the image itself
_compiled: weakref.WeakKeyDictionary[keras.Model, dict] = weakref.WeakKeyDictionary()
_tracing = threading.Lock()


def _weighted_sums(weighted_sum, model, images, path, class_index, batch_size) -> np.ndarray:
    images, classes = _checked(model, images, class_index, batch_size)

    def build():
        run = _forward(model, path)

        def explain(pixels, classes):
            activations, logits = run(pixels)
            classes = tf.where(classes == _PREDICTED, tf.argmax(logits, axis=1, output_type=tf.int32), classes)
            # Images do not influence each other in inference, so one pass gives the gradients of all of them.
            chosen = tf.one_hot(classes, logits.shape[1], dtype=logits.dtype)
            (gradients,) = tf.gradients(logits, activations, grad_ys=chosen)
            if gradients is None:
                raise ValueError(f"The model's output does not depend on layer {path!r}; choose another layer.")
            return weighted_sum(tf.cast(activations, tf.float32), tf.cast(gradients, tf.float32))

        return tf.function(explain, input_signature=[_pixels_spec(model), _CLASSES_SPEC], autograph=False)

    function = _once(model, (path, weighted_sum), build)
    batches = _slices(len(images), batch_size)
    return np.concatenate([function(_floats(images[batch]), classes[batch]).numpy() for batch in batches])


def _activations(model: keras.Model, path: str):
    """Compiled function from pixels to the output of a layer."""

    def build():
        run = _forward(model, path)
        return tf.function(
            lambda pixels: tf.cast(run(pixels)[0], tf.float32), input_signature=[_pixels_spec(model)], autograph=False
        )

    return _once(model, (path, "activations"), build)


def _logits(model: keras.Model):
    """Compiled function from pixels to logits."""

    def build():
        run = _forward(model, _INPUT)
        return tf.function(
            lambda pixels: tf.cast(run(pixels)[1], tf.float32), input_signature=[_pixels_spec(model)], autograph=False
        )

    return _once(model, "logits", build)


_CLASSES_SPEC = tf.TensorSpec((None,), tf.int32)


def _pixels_spec(model: keras.Model) -> tf.TensorSpec:
    return tf.TensorSpec(model.input_shape, tf.float32)


def _once(model: keras.Model, key, build):
    functions = _compiled.setdefault(model, {})
    if key not in functions:
        functions[key] = build()
    return functions[key]


def _forward(model: keras.Model, path: str) -> Callable:
    """Function from pixels to (activations of the layer at `path`, logits), to be traced in a graph.

    It refers to the model weakly: a strong reference from the cache would keep every model ever explained alive.
    """
    reference = weakref.ref(model)

    def run(pixels):
        model = reference()
        if path == _INPUT:
            return pixels, _before_softmax(model(pixels, training=False))
        with _recorded(dict(_layers(model))[path]) as outputs:
            prediction = model(pixels, training=False)
        if not outputs:
            raise ValueError(f"Layer {path!r} takes no part in the model's output; choose another layer.")
        return outputs[-1], _before_softmax(prediction)

    return run


@contextmanager
def _recorded(layer: keras.layers.Layer) -> Iterator[list]:
    """Collect what a layer gives out while a model is traced.

    `keras.Model(model.inputs, layer.output)` cannot reach a layer inside a nested model, and leaves nodes behind; this
    reaches all, and takes itself away. Calls from other threads pass through it unseen.
    """
    outputs: list = []
    thread = threading.get_ident()

    with _tracing:
        call = layer.call

        def recording_call(*args, **kwargs):
            output = call(*args, **kwargs)
            if threading.get_ident() == thread:
                outputs.append(output)
            return output

        vars(layer)["call"] = recording_call
        try:
            yield outputs
        finally:
            del vars(layer)["call"]


def _before_softmax(prediction):
    """The logits behind a symbolic prediction: what went into its softmax if it has one, else the prediction."""
    operation = prediction.op
    while operation.type in ("Identity", "Cast"):
        operation = operation.inputs[0].op
    return operation.inputs[0] if operation.type == "Softmax" else prediction


# ----------------------------------------------------------------------------------------------------------- Arguments


def _checked(model, images, class_index, batch_size) -> tuple[np.ndarray, np.ndarray]:
    """Images as an array, and one class an image (`_PREDICTED` where none is given)."""
    _check_model(model)
    images = np.asarray(images)
    if images.ndim != len(model.input_shape) or not _fits(images.shape, model.input_shape) or not len(images):
        wanted = ", ".join(["n", *("any" if side is None else str(side) for side in model.input_shape[1:])])
        raise ValueError(f"images have shape {images.shape}; model {model.name!r} takes ({wanted}) with n at least 1.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1.")
    return images, _classes(class_index, len(images), model.output_shape[-1])


def _check_model(model) -> None:
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Explanations need TensorFlow's gradients and Keras runs on {keras.config.backend()}; "
            "set KERAS_BACKEND=tensorflow before Python starts."
        )
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None)) if model.built else ()
    if [len(shape) if isinstance(shape, tuple) else None for shape in shapes] != [4, 2]:
        raise ValueError(
            f"Model {model.name!r} does not take images (n, height, width, channels) to class scores (n, classes), or "
            "has no defined input; build a functional or sequential model with an Input layer."
        )


def _chosen(model, images, classes, batch_size) -> np.ndarray:
    """`classes` with the predicted ones filled in."""
    if not (classes == _PREDICTED).any():
        return classes
    return np.where(classes == _PREDICTED, _predict(model, images, batch_size).argmax(axis=1), classes)


def _fits(shape: tuple, wanted: tuple) -> bool:
    return all(side is None or side == given for given, side in zip(shape, wanted, strict=True))


def _classes(class_index, n: int, count: int) -> np.ndarray:
    if class_index is None:
        return np.full(n, _PREDICTED, np.int32)
    classes = np.asarray(class_index)
    if classes.dtype.kind not in "iu" or classes.shape not in ((), (n,)):
        raise ValueError(
            f"class_index has dtype {classes.dtype} and shape {classes.shape}; give one whole number, or one for each "
            f"of the {n} images."
        )
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(
            f"class_index goes from {classes.min()} to {classes.max()}; the model's classes go from 0 to {count - 1}."
        )
    return np.broadcast_to(classes, n).astype(np.int32)


def _layers(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """Path and layer for all layers from input to output; those of a nested model follow it as MODEL/LAYER."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        yield prefix + layer.name, layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/")


def _find(model: keras.Model, layer: str | int | None, spatial: bool = True) -> str:
    """Path of the layer meant by a name, an index, "first" or "last"."""
    _check_model(model)
    known = convolutions(model)
    if layer is None or isinstance(layer, int | np.integer) or layer in ("first", "last"):
        if not known:
            raise ValueError(f"Model {model.name!r} has no convolution; explain it with saliency instead.")
        index = {None: -1, "first": 0, "last": -1}.get(layer, layer)
        if not -len(known) <= index < len(known):
            raise ValueError(f"There is no convolution {layer}: model {model.name!r} has {len(known)}: {_some(known)}.")
        return known[index]
    layers = dict(_layers(model))
    matches = [layer] if layer in layers else [path for path in layers if path.rsplit("/", 1)[-1] == layer]
    if len(matches) > 1:
        raise ValueError(f"Layer name {layer!r} is ambiguous; give one of {_some(matches)}.")
    hint = f"Its convolutions are {_some(known)}." if known else "It has no convolution."
    if not matches:
        raise ValueError(f"Model {model.name!r} has no layer {layer!r}. {hint}")
    shape = layers[matches[0]].output.shape
    if spatial and len(shape) != 4:
        raise ValueError(f"Layer {layer!r} has output shape {shape}, not (n, height, width, channels). {hint}")
    return matches[0]


def _some(names: list[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# -------------------------------------------------------------------------------------------------------------- Arrays


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def _floats(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32)


def _predict(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits, shape (n, classes)."""
    logits_of = _logits(model)
    return np.concatenate([logits_of(_floats(images[batch])).numpy() for batch in _slices(len(images), batch_size)])


def _interpolation(old: int, new: int) -> np.ndarray:
    """Matrix (new, old) that resamples a line bilinearly, half-pixel centres, the border repeated."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(old))).astype(np.float32)


def _importance_rank(maps: np.ndarray, seed: int) -> np.ndarray:
    """Rank of each pixel, 0 the most important, shape (n, pixels); ties fall in random order."""
    values = -maps.reshape(len(maps), -1)
    order = np.lexsort((np.random.default_rng(seed).random(values.shape), values), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1]), axis=1)
    return rank


def _moved(arrays: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move (n, h, w, ...) by at most one pixel each way, zeros coming in."""
    rest = [(0, 0)] * (arrays.ndim - 3)
    padded = np.pad(arrays, [(0, 0), (1, 1), (1, 1), *rest])
    height, width = arrays.shape[1:3]
    return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]

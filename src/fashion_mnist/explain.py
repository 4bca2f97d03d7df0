"""Why a network said what it said: class activation maps, feature maps, and checks of whether the maps mean anything.

Every method takes ``(model, images, layer, class_index)``, explains the logit (a softmax at the end of the model is
looked through) and leaves the model as it is. ``METHODS`` lists them by their published names. Each is compiled once
for a model and layer, and one pass over a batch gives all of its maps.

>>> maps = grad_cam(model, images)  # (n, h, w) in [0, 1], for the predicted classes  # doctest: +SKIP
>>> passes_sanity(sanity_check(model, images, grad_cam))  # does it depend on the weights?  # doctest: +SKIP
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple

from fashion_mnist import _backend  # isort: skip  # noqa: F401  first, so that TensorFlow starts silently
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import Model
from scipy import integrate, ndimage, special, stats

Method = Callable[..., np.ndarray]  # `grad_cam`, or anything with its signature
Classes = int | np.ndarray | None
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
BLUR_SIGMA = 4.0  # pixels; what is left of a garment is a grey cloud without an outline
SANITY_LIMIT = 0.5  # mean absolute rank correlation above which a map is called independent of the weights
BATCH = 128  # images in one pass; bounds the memory
_NOT_GIVEN = -1  # in the compiled functions: explain the predicted class, or against no class


# ------------------------------------------------------------------------------------------------------------- Methods


def grad_cam(
    model: Model, images: np.ndarray, layer: str | None = None, class_index: Classes = None, *, against: Classes = None
) -> np.ndarray:
    """Class activation maps by gradient weighting (Selvaraju et al., 2017).

    A channel's weight is the mean over positions of the logit's gradient; the map is the weighted sum of the channels.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential classifier whose last layer gives logits or softmax probabilities.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8 or float
        As the model takes them, pixels in 0..255.
    layer : str, optional
        Name of the layer to explain, or "first" or "last" for that convolution; the last one if not given. Where an
        addition, a normalisation or a ReLU follows as a layer of its own, name that one to explain what the rest of
        the network sees. Layers inside a model that is used as a layer cannot be explained.
    class_index : int or ndarray of shape (n,), optional
        Class to explain; the predicted one if not given.
    against : int or ndarray of shape (n,), optional
        Explain the class's logit less this class's: what speaks for the one rather than the other, even where all
        evidence for the class itself is negative.

    Returns
    -------
    ndarray, shape (n, h, w), float32 in [0, 1]
        One map per image at the layer's resolution: negative evidence cut off, divided by its maximum; all zero where
        nothing supports the class.

    Raises
    ------
    ValueError
        If `layer` is not a layer of the model with a spatial output (the message lists its convolutions), a class is
        out of range or explained against itself, or `images` have another shape than the model's input.
    RuntimeError
        If Keras runs on another backend than TensorFlow.
    """
    return _positive_share(_maps(_grad_cam_sum, model, images, layer, class_index, against))


def grad_cam_plus_plus(
    model: Model, images: np.ndarray, layer: str | None = None, class_index: Classes = None, *, against: Classes = None
) -> np.ndarray:
    """Grad-CAM++ (Chattopadhay et al., 2018): positive gradients, weighted by their share in the class's evidence.

    The closed form of the paper for the score ``exp(logit)``, derived for rectified activations: choose a layer whose
    output is not negative. Parameters, result and errors are those of `grad_cam`.
    """
    return _positive_share(_maps(_grad_cam_plus_plus_sum, model, images, layer, class_index, against))


def hires_cam(
    model: Model,
    images: np.ndarray,
    layer: str | None = None,
    class_index: Classes = None,
    *,
    against: Classes = None,
    signed: bool = False,
) -> np.ndarray:
    """HiResCAM (Draelos & Carin, 2020): activation times gradient, position by position.

    Parameters, result and errors are those of `grad_cam`. With `signed` the map is in logits and keeps its negative
    values, so that maps can be compared and subtracted; where all that follows the layer is linear, it sums to the
    logit less the bias and every value is the exact contribution of its position.
    """
    maps = _maps(_hires_cam_sum, model, images, layer, class_index, against)
    return maps if signed else _positive_share(maps)


def score_cam(
    model: Model, images: np.ndarray, layer: str | None = None, class_index: Classes = None, *, against: Classes = None
) -> np.ndarray:
    """Score-CAM (Wang et al., 2020): no gradients; a channel counts as much as the logit rises where it lets light in.

    Each channel, enlarged to the image and scaled to [0, 1], masks the image; the softmax over channels of the logits
    reached is their weight. That is one forward pass per channel and image. Parameters, result and errors are those of
    `grad_cam`.
    """
    images = _checked(model, images)
    name = _find(model, layer, spatial=True)
    classes, others = _targets(model, images, class_index, against)
    classes = _filled(model, images, classes)
    maps = []
    for batch in _slices(len(images), max(1, BATCH // 8)):  # the masks of a batch are held in memory at once
        features = feature_maps(model, images[batch], name)
        count, _, _, channels = features.shape
        low, high = features.min(axis=(1, 2), keepdims=True), features.max(axis=(1, 2), keepdims=True)
        masks = (features - low) / np.where(high > low, high - low, 1)  # a channel without contrast masks everything
        masks = upsample(np.moveaxis(masks, -1, 1).reshape(count * channels, *features.shape[1:3]), images.shape[1:3])
        shown, *chosen = (np.repeat(values[batch], channels, axis=0) for values in (images, classes, others))
        scores = _batched(_score, model, None, shown * masks[..., None], *chosen).reshape(count, channels)
        maps.append(np.einsum("nhwk,nk->nhw", features, special.softmax(scores, axis=1)))
    return _positive_share(np.concatenate(maps))


def saliency(
    model: Model, images: np.ndarray, layer: str | None = None, class_index: Classes = None, *, against: Classes = None
) -> np.ndarray:
    """Magnitude of the logit's gradient by the pixels (Simonyan et al., 2014).

    `layer` is there so that methods can be exchanged, and is not used: the map is at the image's resolution. The rest
    is as for `grad_cam`.
    """
    images = _checked(model, images)
    classes, others = _targets(model, images, class_index, against)
    gradients = _batched(_input_gradient, model, None, images, classes, others)
    return _positive_share(np.abs(gradients))


METHODS: dict[str, Method] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
    "HiResCAM": hires_cam,
    "Score-CAM": score_cam,
    "Saliency": saliency,
}


def feature_maps(model: Model, images: np.ndarray, layer: str | None = None) -> np.ndarray:
    """Output of a layer, convolutional or not.

    Parameters, layers and errors are those of `grad_cam`; the result is float32 with the layer's shape, such as
    (n, h, w, channels) or (n, units).
    """
    images = _checked(model, images)
    return _batched(_features, model, _find(model, layer), images)


def convolutions(model: Model) -> list[str]:
    """Names of a model's convolutions from input to output; "first" and "last" mean the ends of this list."""
    return [name for name, layer in _layers(model).items() if isinstance(layer, CONVOLUTIONS)]


def upsample(maps: np.ndarray, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Enlarge maps (n, h, w) bilinearly to (n, *size), float32."""
    maps = np.asarray(maps, np.float32)
    if maps.ndim != 3:
        raise ValueError(f"The maps have shape {maps.shape}; give (n, h, w).")
    return tf.image.resize(maps[..., None], size)[..., 0].numpy()


# ---------------------------------------------------------------------- Baselines: maps that know nothing of the model


def random_maps(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Uniform noise in [0, 1) for each pixel; shape (n, 28, 28), float32. Any explanation has to beat it."""
    return np.random.default_rng(seed).random(images.shape[:3], dtype=np.float32)


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Magnitude of the Sobel gradient, each map divided by its maximum; shape (n, 28, 28), float32 in [0, 1].

    Looks like an explanation and knows nothing of the model (Adebayo et al., 2018).
    """
    slopes = tf.image.sobel_edges(tf.constant(images, tf.float32))[..., 0, :]
    return _positive_share(np.linalg.norm(slopes, axis=-1))


# -------------------------------------------------------------------------------------------------------------- Checks


class Sanity(NamedTuple):
    """What is left of the maps as the layers lose their weights; result of `sanity_check`."""

    layers: list[str]  # top layer first; at each step its weights and those of all before it are permuted
    correlations: np.ndarray  # (permutations, steps), mean over images of the absolute rank correlation, in [0, 1]

    def table(self) -> pd.DataFrame:
        """Columns ``correlation``, ``low`` and ``high`` (95 % t-interval over the permutations), one row per step."""
        mean, low, high = _mean_interval(self.correlations)
        return pd.DataFrame({"correlation": mean, "low": low, "high": high}, pd.Index(self.layers, name="layer"))


def sanity_check(
    model: Model, images: np.ndarray, method: Method, layer: str | None = None, *, permutations: int = 5, seed: int = 0
) -> Sanity:
    """Cascading randomisation (Adebayo et al., 2018): do the maps depend on what the model has learned?

    From the output down to the input, each layer's weights lose their order on top of those above it. The weights of an
    array are permuted, not drawn anew: their scale stays what training made it, and only what was learned is gone. The
    maps of the damaged model, for the classes that the intact one predicts, are compared with the intact one's by the
    absolute rank correlation: a map that is turned upside down is no less a drawing of the image.

    Parameters
    ----------
    model, images, layer
        As for `grad_cam`.
    method : callable
        One of `METHODS`, or anything with their signature.
    permutations : int
        How often the cascade is run, at least 2; the spread over the runs gives the interval.
    seed : int
        Seed of the permutations.

    Returns
    -------
    Sanity
        A damaged model's map without contrast counts as 0, so a method that leaves many maps empty passes easily; the
        signed `hires_cam` is the stricter case. Images whose intact map has no contrast are left out.

    Raises
    ------
    ValueError
        If `permutations` is below 2, or no map of the intact model has any contrast.
    """
    images = _checked(model, images)
    if permutations < 2:
        raise ValueError(f"permutations is {permutations}; give at least 2, or there is no interval.")
    classes = _batched(_prediction, model, None, images)

    def maps_of(network: Model) -> np.ndarray:
        return method(network, images, layer=layer, class_index=classes)

    intact = maps_of(model)
    if np.isnan(rank_correlation(intact, intact)).all():
        raise ValueError("No map of the intact model has any contrast; there is nothing whose loss could be measured.")
    damaged = keras.models.clone_model(model)
    cascade = [part for part in reversed(damaged.layers) if part.weights]
    generator = np.random.default_rng(seed)
    correlations = np.empty((permutations, len(cascade)))
    for row in correlations:
        damaged.set_weights(model.get_weights())
        for step, part in enumerate(cascade):
            part.set_weights([generator.permuted(weight) for weight in part.get_weights()])
            row[step] = np.nanmean(np.abs(rank_correlation(intact, maps_of(damaged))))
    return Sanity([part.name for part in cascade], correlations)


def passes_sanity(check: Sanity) -> bool:
    """Whether a method's maps depend on the weights of the network that `sanity_check` was made for.

    It fails if the lower end of the 95 % interval of the mean absolute rank correlation exceeds `SANITY_LIMIT` over the
    two topmost randomisations taken together, or with all layers randomised.
    """
    ends = np.stack([check.correlations[:, :2].mean(axis=1), check.correlations[:, -1]], axis=1)
    _, low, _ = _mean_interval(ends)
    return bool((low <= SANITY_LIMIT).all())


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
    model: Model, images: np.ndarray, maps: np.ndarray, class_index: Classes = None, *, steps: int = 28, seed: int = 0
) -> Faithfulness:
    """Insertion and deletion (Petsiuk et al., 2018): do the pixels that a map calls important decide the class?

    A missing pixel shows the image under a Gaussian blur of `BLUR_SIGMA` pixels. Black would flatter every map that
    finds the garment, as deleting background then changes nothing.

    Parameters
    ----------
    model, images, class_index
        As for `grad_cam`.
    maps : ndarray, shape (n, h, w)
        Explanation or baseline; enlarged to the images. Only the order of its values counts; pixels of equal value come
        in random order, the same for each call with one `seed`.
    steps : int
        Steps from none to all of the pixels.

    Returns
    -------
    Faithfulness
        ``fraction``, ``insertion`` and ``deletion`` curves and the areas under them, image by image.

    Raises
    ------
    ValueError
        If there is not one map per image, or not at least one step.
    """
    images, maps = _checked(model, images), _one_per_image(maps, images)
    if steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1.")
    classes = _filled(model, images, _classes(model, class_index, len(images)))
    values = -maps.reshape(len(maps), -1)
    order = np.lexsort((np.random.default_rng(seed).random(values.shape), values), axis=1)  # ties in random order
    rank = order.argsort(axis=1).reshape(images.shape)  # 0 is the most important pixel
    pixels = images.astype(np.float32)
    blurred = ndimage.gaussian_filter(pixels, sigma=(0, BLUR_SIGMA, BLUR_SIGMA, 0))
    counts = np.linspace(0, rank[0].size, steps + 1).round()
    insertion, deletion = np.empty((2, len(images), steps + 1))
    for step, count in enumerate(counts):
        for curve, kept in ((insertion, rank < count), (deletion, rank >= count)):
            shown = np.where(kept, pixels, blurred)
            curve[:, step] = _batched(_probability, model, None, shown, classes)
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

    Raises
    ------
    ValueError
        If there is not one map per image, or a value is negative.
    """
    maps = _one_per_image(maps, images).astype(np.float64)
    if (maps < 0).any():
        raise ValueError("The maps have negative values; the share of a mass needs maps made with signed=False.")
    garment = np.asarray(images)[..., 0] > 0
    mass = maps.sum(axis=(1, 2))
    on_garment = np.where(garment, maps, 0).sum(axis=(1, 2))
    return np.divide(on_garment, mass, out=np.full(len(maps), np.nan), where=mass > 0), garment.mean(axis=(1, 2))


def stability(
    model: Model, images: np.ndarray, method: Method, layer: str | None = None, class_index: Classes = None
) -> np.ndarray:
    """Do the maps move along when the image moves by one pixel?

    The image is moved up, down, left and right, with black coming in. The map of the moved image, for the class of the
    image at rest, is compared with the moved map, both at the image's resolution and without the outermost pixels.

    Parameters
    ----------
    model, images, layer, class_index
        As for `grad_cam`.
    method : callable
        One of `METHODS`, or anything with their signature.

    Returns
    -------
    ndarray, shape (n,), float64 in [-1, 1]
        Spearman's rank correlation, mean of the four directions; 1 is perfectly stable. NaN where the map at rest is
        constant, or would be after one of the moves.
    """
    images = _checked(model, images)
    classes = _filled(model, images, _classes(model, class_index, len(images)))

    def maps_of(pixels: np.ndarray) -> np.ndarray:
        maps = method(model, pixels, layer=layer, class_index=classes)
        return upsample(maps, images.shape[1:3])

    at_rest = maps_of(images)
    correlations = []
    for move in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        moved = maps_of(ndimage.shift(images, (0, *move, 0), order=0))
        expected = ndimage.shift(at_rest, (0, *move), order=0)
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

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if reference.shape != maps.shape:
        raise ValueError(f"Maps of shape {maps.shape} cannot be compared with maps of shape {reference.shape}.")
    ranks = [stats.rankdata(values.reshape(len(values), -1), axis=1) for values in (reference, maps)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    spread_a, spread_b = (np.sqrt((rank**2).sum(axis=1)) for rank in (a, b))
    spread = spread_a * spread_b
    correlation = np.divide((a * b).sum(axis=1), spread, out=np.zeros(len(a)), where=spread > 0)
    return np.where(spread_a > 0, correlation, np.nan)


# ------ What is compiled: (features, logits, chosen) to one array per image. `chosen` (n, classes) is 1 at the class to
# ------ explain and -1 at the one it is explained against, so that logits * chosen sums to what is explained.


def _grad_cam_sum(features, logits, chosen):
    activations, gradients = _with_gradients(features, logits, chosen)
    return tf.einsum("nhwk,nk->nhw", activations, tf.reduce_mean(gradients, axis=(1, 2)))


def _grad_cam_plus_plus_sum(features, logits, chosen):
    activations, gradients = _with_gradients(features, logits, chosen)
    # alpha = g² / (2 g² + g³ sum A) with g² cancelled; where g is 0 or negative its ReLU takes the term away
    alpha = tf.math.divide_no_nan(1.0, 2.0 + gradients * tf.reduce_sum(activations, axis=(1, 2), keepdims=True))
    return tf.einsum("nhwk,nk->nhw", activations, tf.reduce_sum(alpha * tf.nn.relu(gradients), axis=(1, 2)))


def _hires_cam_sum(features, logits, chosen):
    activations, gradients = _with_gradients(features, logits, chosen)
    return tf.reduce_sum(activations * gradients, axis=-1)


def _input_gradient(features, logits, chosen):
    _, gradients = _with_gradients(features, logits, chosen)
    return tf.reduce_sum(gradients, axis=-1)


def _features(features, logits, chosen):
    return tf.cast(features, tf.float32)


def _prediction(features, logits, chosen):
    return tf.argmax(logits, axis=1, output_type=tf.int32)


def _score(features, logits, chosen):
    return tf.reduce_sum(logits * chosen, axis=1)


def _probability(features, logits, chosen):
    return tf.reduce_sum(tf.nn.softmax(logits) * chosen, axis=1)


def _with_gradients(features, logits, chosen):
    """Features and what is explained by them; images do not influence each other, so one pass gives all of them."""
    (gradients,) = tf.gradients(logits, features, grad_ys=chosen)
    return tf.cast(features, tf.float32), tf.cast(gradients, tf.float32)


_compiled: weakref.WeakKeyDictionary[Model, dict] = weakref.WeakKeyDictionary()


def _batched(compute, model, name, images, classes=None, others=None):
    """One of the functions above, at the layer `name` (the image itself if None), compiled once, batch by batch."""
    functions = _compiled.setdefault(model, {})
    if (compute, name) not in functions:
        functions[compute, name] = _compile(compute, model, name)
    nobody = np.full(len(images), _NOT_GIVEN, np.int32)
    classes, others = (nobody if each is None else each for each in (classes, others))
    results = [
        functions[compute, name](images[batch].astype(np.float32), classes[batch], others[batch]).numpy()
        for batch in _slices(len(images), BATCH)
    ]
    return np.concatenate(results)


def _compile(compute: Callable, model: Model, name: str | None):
    # A model of its own, with the same layers: the function must not keep `model` alive, which is the cache's weak key.
    inner = model.inputs[0] if name is None else model.get_layer(name).output
    outputs_of = Model(model.inputs, [inner, model.outputs[0]])

    def run(pixels, classes, others):
        features, prediction = outputs_of([pixels], training=False)
        logits = tf.cast(_before_softmax(prediction), tf.float32)
        count = logits.shape[1]
        classes = tf.where(classes == _NOT_GIVEN, _prediction(features, logits, None), classes)
        # One-hot of `_NOT_GIVEN` is zero, which leaves the class's own logit.
        return compute(features, logits, tf.one_hot(classes, count) - tf.one_hot(others, count))

    pixels, index = tf.TensorSpec(model.input_shape, tf.float32), tf.TensorSpec((None,), tf.int32)
    return tf.function(run, input_signature=[pixels, index, index], autograph=False)


def _before_softmax(prediction):
    """The logits behind a prediction: what went into its softmax if it has one, else the prediction.

    Found in the traced graph, as a softmax may be a layer or an activation and Keras gives no way to what precedes it.
    """
    operation = prediction.op
    while operation.type in ("Identity", "Cast"):
        operation = operation.inputs[0].op
    return operation.inputs[0] if operation.type == "Softmax" else prediction


def _maps(compute, model, images, layer, class_index, against):
    images = _checked(model, images)
    classes, others = _targets(model, images, class_index, against)
    return _batched(compute, model, _find(model, layer, spatial=True), images, classes, others)


# ----------------------------------------------------------------------------------------------------------- Arguments


def _checked(model, images) -> np.ndarray:
    """Images as an array, after checking that the model can be explained and takes them."""
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Explanations need TensorFlow's gradients and Keras runs on {keras.config.backend()}; "
            "set KERAS_BACKEND=tensorflow before Python starts."
        )
    wanted, given = (getattr(model, side, None) if model.built else None for side in ("input_shape", "output_shape"))
    if [len(shape) if isinstance(shape, tuple) else None for shape in (wanted, given)] != [4, 2]:
        raise ValueError(
            f"Model {model.name!r} does not take images (n, height, width, channels) to class scores (n, classes), or "
            "has no defined input; build a functional or sequential model with an Input layer."
        )
    images = np.asarray(images)
    sides = [side if known is None else known for side, known in zip(images.shape, wanted, strict=False)]
    if images.ndim != 4 or not len(images) or list(images.shape) != sides:
        raise ValueError(f"images have shape {images.shape}; {model.name!r} takes {wanted}, at least one image.")
    return images


def _targets(model, images, class_index, against) -> tuple[np.ndarray, np.ndarray]:
    """The classes to explain and those to explain them against, (n,) each."""
    classes, others = (_classes(model, given, len(images)) for given in (class_index, against))
    if against is not None:
        classes = _filled(model, images, classes)
        if same := np.count_nonzero(classes == others):
            raise ValueError(
                f"{same} of {len(images)} images would be explained against their own class; leave them out."
            )
    return classes, others


def _classes(model, given, n) -> np.ndarray:
    """One class per image; `_NOT_GIVEN` for all where none is given."""
    if given is None:
        return np.full(n, _NOT_GIVEN, np.int32)
    classes, count = np.asarray(given), model.output_shape[-1]
    if classes.dtype.kind not in "iu" or classes.shape not in ((), (n,)):
        raise ValueError(
            f"The class is {given!r}; give one whole number, or an array of one for each of the {n} images."
        )
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"The class goes from {classes.min()} to {classes.max()}; classes go from 0 to {count - 1}.")
    return np.broadcast_to(classes, n).astype(np.int32)


def _filled(model, images, classes) -> np.ndarray:
    """`classes` with the predicted ones where none is given."""
    return classes if (classes != _NOT_GIVEN).all() else _batched(_prediction, model, None, images)


def _layers(model) -> dict[str, keras.layers.Layer]:
    """Layers by name from input to output, without models used as layers, whose inside cannot be reached."""
    return {each.name: each for each in model.layers if not isinstance(each, keras.layers.InputLayer | Model)}


def _find(model, layer, spatial=False) -> str:
    """Name of the layer meant by a name, "first", "last" or None; its output must be an image if it is `spatial`."""
    known = convolutions(model)
    if layer in (None, "first", "last"):
        if not known:
            raise ValueError(f"Model {model.name!r} has no convolution; explain it with saliency instead.")
        return known[0 if layer == "first" else -1]
    if layer not in _layers(model):
        raise ValueError(f"Model {model.name!r} has no layer {layer!r} to explain; its convolutions are {known}.")
    shape = model.get_layer(layer).output.shape
    if spatial and len(shape) != 4:
        raise ValueError(
            f"Layer {layer!r} has output shape {shape}, not (n, height, width, channels); "
            f"the model's convolutions are {known}."
        )
    return layer


# -------------------------------------------------------------------------------------------------------------- Arrays


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def _positive_share(maps: np.ndarray) -> np.ndarray:
    """Cut off negative values and divide each map by its maximum; a map without a positive value becomes all zero."""
    maps = np.maximum(maps, 0)
    peak = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, peak, out=np.zeros_like(maps), where=peak > 0)


def _one_per_image(maps: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Maps at the images' resolution, after checking that there is one per image."""
    if len(maps) != len(images):
        raise ValueError(f"There are {len(maps)} maps for {len(images)} images; give one map per image.")
    return upsample(maps, images.shape[1:3])


def _mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis and its 95 % t-interval, for values in [0, 1]."""
    mean = values.mean(axis=0)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1)

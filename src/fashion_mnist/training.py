"""Training: one function, `fit`, and the recipes it follows.

`fit` takes any Keras classifier and trains it as fast as the machine allows without changing what is computed:

- precision is bfloat16 where the CPU multiplies bfloat16 matrices in hardware, else float32 (`best_precision`);
- batch normalisation in training runs as TensorFlow's fused operation instead of Keras's chain of element-wise ones;
- batches are shuffled by index and all geometric augmentations of an image are one affine transform, one
  interpolation, prepared while the previous batch trains.

All of that ends with the training (`accelerated`): the model that comes back, and the file saved from it, is a plain
float32 Keras model.

Everything random in epoch *e* follows from the seed and *e* alone, so a training that was killed continues from its
last finished epoch and ends where it would have ended.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import importlib.util
import inspect
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fashion_mnist import _backend  # isort: skip  # noqa: F401  first, so that TensorFlow starts silently
import keras
import numpy as np

PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMIZERS = ("adam", "sgd", "muon", "muon_adam")
SCHEDULES = ("constant", "plateau", "cosine")


class TrainingError(RuntimeError):
    """A training that cannot go on because its loss is not a number any more."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued: damaged, or of another training."""


# --- Recipes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image; every amount is the largest in either direction, drawn uniformly.

    Attributes
    ----------
    flip : bool
        Mirror left and right with probability one half.
    rotation : float
        Degrees.
    shift : float
        Pixels in each direction; whole numbers of pixels unless another amount asks for interpolation anyway.
    shear : float
        Degrees.
    zoom : float
        Fraction of the size.
    erasing : float
        Probability of replacing a rectangle of 2 % to 20 % of the image by noise (Zhong et al., 2020).
    """

    flip: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        for name, largest in (("rotation", 180), ("shift", 27), ("shear", 60), ("zoom", 0.9), ("erasing", 1)):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"Augmentation {name}={getattr(self, name)!r} is not in 0..{largest}.")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Passes over the training images, at most.
    batch_size : int
    optimizer : {"adam", "sgd", "muon", "muon_adam"}
        SGD has Nesterov momentum 0.9. The two Muons orthogonalise the steps of hidden layers (Jordan et al., 2024):
        "muon" is SGD for the rest and fixes the norm of kernels, for networks with batch normalisation behind every
        convolution; "muon_adam" is Adam for the rest and leaves the norm alone, for networks without.
    learning_rate : float
        The constant rate, or the peak of the schedule.
    schedule : {"constant", "plateau", "cosine"}
        "plateau" halves the rate after 3 epochs without a better validation loss; "cosine" rises linearly for `warmup`
        of the training and falls to zero along a cosine (Loshchilov & Hutter, 2017), a step at a time.
    warmup : float
        Fraction of all steps, for "cosine".
    weight_decay : float
        Decoupled (Loshchilov & Hutter, 2019), on kernels only.
    label_smoothing : float
        In [0, 1) (Szegedy et al., 2016).
    patience : int or None
        Stop after so many epochs without a better validation loss; None trains all epochs.
    keep : {"best", "last"}
        Which weights the model has at the end: those of the lowest validation loss or the last ones. A rate that falls
        to zero ends at its best, so choosing among its epochs would only fit the validation set.
    class_weights : bool
        Weight each image by the inverse frequency of its class.
    augmentation : Augmentation
    """

    epochs: int = 20
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0.2
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    patience: int | None = None
    keep: str = "best"
    class_weights: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("keep", ("best", "last"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"Recipe {name}={getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        for name in ("epochs", "batch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"Recipe {name}={getattr(self, name)!r} is not a positive whole number.")
        if not self.learning_rate > 0:
            raise ValueError(f"Recipe learning_rate={self.learning_rate!r} is not a positive number.")
        if self.patience is not None and (not isinstance(self.patience, int) or self.patience < 1):
            raise ValueError(f"Recipe patience={self.patience!r} is neither None nor a positive whole number.")
        for name in ("warmup", "weight_decay", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Recipe {name}={getattr(self, name)!r} is not in [0, 1).")

    def replace(self, **changes: object) -> Recipe:
        """Return this recipe with some settings changed."""
        return dataclasses.replace(self, **changes)


RECIPES: dict[str, Recipe] = {
    # The starting projects' recipes, as they were published.
    "starting_cnn": Recipe(epochs=20, batch_size=32, patience=3),
    "starting_resnet": Recipe(epochs=50, batch_size=32, patience=3),
    "starting_deep_cnn": Recipe(
        epochs=50,
        batch_size=64,
        schedule="plateau",
        patience=10,
        augmentation=Augmentation(flip=True, rotation=10, shift=2.8, shear=10, zoom=0.1),
    ),
    # Ours: a rate that rises and falls once, so that the last epoch is the best one.
    "plain": Recipe(epochs=15, batch_size=128, learning_rate=2e-3, schedule="cosine", label_smoothing=0.1, keep="last"),
    "fast": Recipe(
        epochs=20,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="cosine",
        weight_decay=5e-3,
        label_smoothing=0.1,
        keep="last",
        augmentation=Augmentation(flip=True, shift=2),
    ),
}
# Derived, so that the two differ in nothing but how a step is taken.
RECIPES["muon"] = RECIPES["fast"].replace(optimizer="muon")
RECIPES["muon_adam"] = RECIPES["plain"].replace(optimizer="muon_adam", learning_rate=4e-3)


# --- Training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """What a training did.

    Attributes
    ----------
    history : dict of str to list of float
        One value an epoch: ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy`` (label smoothing and penalties are
        part of the losses), ``learning_rate`` at the end of the epoch and ``seconds``.
    kept_epoch : int
        The epoch, counted from 1, whose weights the model has now.
    resumed_from : int
        Epochs that a former call had finished; 0 for a training in one go.
    precision : str
        "float32" or "bfloat16".
    """

    history: dict[str, list[float]]
    kept_epoch: int
    resumed_from: int
    precision: str

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, those before an interruption included; start-up and validation are part of it."""
        return float(sum(self.history["seconds"]))

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the epochs, so that the first one's tracing does not count."""
        return float(np.median(self.history["seconds"]))


def fit(
    model: keras.Model,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    *,
    seed: int = 0,
    precision: str = "auto",
    deterministic: bool = False,
    checkpoint: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    log: str | os.PathLike | None = None,
    tensorboard: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> Fit:
    """Train a classifier in place.

    Parameters
    ----------
    model : keras.Model
        Gives logits ``(n, 10)``; as a builder of `models` returns it. Its initial weights are its own affair:
        call ``keras.utils.set_random_seed`` before building it.
    train, validation : (images, labels)
        uint8 ``(n, 28, 28, 1)`` in 0..255 and whole numbers ``(n,)`` in 0..9.
    recipe : Recipe
    seed : int
        Shuffling, augmentation and dropout follow from it.
    precision : {"auto", "float32", "bfloat16"}
        "auto" asks `best_precision`.
    deterministic : bool
        Make two runs with the same seed on the same machine give equal weights, at some cost in speed. On the
        TensorFlow backend this lasts for the rest of the process.
    checkpoint : path, optional
        File to keep the state of the training in after every epoch. If it exists the training continues from it. It
        is written to a temporary file and renamed, so a kill at any moment leaves a whole one.
    callbacks : sequence of keras.callbacks.Callback
        Your own, after ours. On a resumed training they first see the finished epochs again, with the logs of then but
        the weights of now.
    log : path, optional
        CSV file with a row an epoch.
    tensorboard : path, optional
        Folder for TensorBoard.
    progress : bool, optional
        Show a bar; by default only where a person looks at a terminal.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If the arrays do not fit together or a setting does not exist.
    TrainingError
        If the loss is not a number any more.
    CheckpointError
        If `checkpoint` is damaged or belongs to another training.
    """
    _check_arrays("training", *train)
    _check_arrays("validation", *validation)
    precision = _resolved(precision)
    if deterministic:
        _make_deterministic()

    batches = Batches(*train, recipe, seed)
    _compile(model, recipe, steps=recipe.epochs * len(batches))
    state = _State(
        model, recipe, path=checkpoint, identity=_identity(model, train, validation, recipe, seed, precision)
    )
    ours: list[keras.callbacks.Callback] = [_Epoch(batches, seed), _StopOnNaN(recipe, precision)]
    if recipe.schedule == "plateau":
        ours.append(keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=3))
    if recipe.patience is not None:
        ours.append(keras.callbacks.EarlyStopping(patience=recipe.patience))
    if log is not None:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        ours.append(keras.callbacks.CSVLogger(os.fspath(log)))
    if tensorboard is not None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError("tensorboard= needs the package of that name: pip install tensorboard")
        ours.append(keras.callbacks.TensorBoard(os.fspath(tensorboard)))
    if progress if progress is not None else sys.stderr.isatty():
        from tqdm.keras import TqdmCallback

        ours.append(TqdmCallback(verbose=0, leave=False))
    # The state comes last, so that what the others did to the learning rate at the end of an epoch is saved with it.
    every = _Callbacks(
        [*ours, *callbacks, state], add_history=True, model=model, epochs=recipe.epochs, steps=len(batches), verbose=0
    )

    resumed_from = state.restore()
    model.stop_training = False
    with accelerated(model, precision):
        every.on_train_begin()
        _replay(every, state, recipe)
        if model.stop_training or resumed_from == recipe.epochs:
            every.on_train_end()
        else:
            model.fit(
                batches.pipeline(),
                validation_data=(validation[0], _one_hot(validation[1])),
                validation_batch_size=512,
                initial_epoch=resumed_from,
                epochs=recipe.epochs,
                callbacks=every,
                verbose=0,
                shuffle=False,
            )
    model.stop_training = False
    return Fit(state.history, state.keep(recipe.keep), resumed_from, precision)


@contextlib.contextmanager
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
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[_resolved(precision)]
    every = list(_all_layers(model))
    outputs = {id(tensor._keras_history.operation) for tensor in keras.tree.flatten(model.outputs)}
    policies = [layer.dtype_policy for layer in every]
    fused = [layer for layer in every if type(layer) is keras.layers.BatchNormalization]
    try:
        for layer in every:
            if id(layer) not in outputs:
                layer.dtype_policy = policy
        if keras.config.backend() == "tensorflow":
            for layer in fused:
                layer.__class__ = _fused_batch_normalization()
        _forget_compiled(model)
        yield model
    finally:
        for layer, old in zip(every, policies, strict=True):
            layer.dtype_policy = old
        for layer in fused:
            layer.__class__ = keras.layers.BatchNormalization
        _forget_compiled(model)


def predict(model: keras.Model, images: np.ndarray, *, mirror: bool = False, batch_size: int = 500) -> np.ndarray:
    """Class probabilities.

    Parameters
    ----------
    model : keras.Model
        Gives logits.
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    mirror : bool
        Average the logits of each image and of its mirror image (test-time augmentation).

    Returns
    -------
    ndarray, shape (n, 10), float32 in [0, 1]
        Rows sum to one.
    """
    logits = model.predict(images, batch_size=batch_size, verbose=0)
    if mirror:
        logits = (logits + model.predict(images[:, :, ::-1], batch_size=batch_size, verbose=0)) / 2
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@cache
def best_precision() -> str:
    """The faster of "float32" and "bfloat16" on this machine.

    bfloat16 pays only where the CPU has ``amx_bf16`` or ``avx512_bf16``, or on an accelerator; elsewhere it is
    emulated.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return "bfloat16"
    elif keras.config.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return "bfloat16"
        return "float32"  # XLA on CPUs converts to float32 and back
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & cpu_flags() else "float32"


@cache
def cpu_flags() -> frozenset[str]:
    """The instruction set extensions that the processor reports; empty where the system does not tell."""
    if platform.system() == "Linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def source_fingerprint(builder: Callable[..., keras.Model]) -> str:
    """Hash of the code that decides which weights a training ends with.

    It covers `builder`, the batches, the optimiser and the arithmetic of the layers, and all that these use of their
    own modules, but neither comments and docstrings nor what only reports or saves. A model whose card has the same
    hash, recipe, seed and data need not be trained again.

    Parameters
    ----------
    builder : callable
        A builder of `models`.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hashlib.sha256("\n".join(_sources([builder, Batches, _Epoch, _compile, accelerated])).encode()).hexdigest()[
        :16
    ]


def _sources(roots: Sequence[Callable]) -> list[str]:
    """Every top-level definition that the roots reach by name within their modules, as text."""
    found: dict[tuple[str, str], str] = {}
    pending = [(inspect.getmodule(root), root.__name__) for root in roots]
    definitions: dict[str, dict[str, ast.stmt]] = {}
    while pending:
        module, name = pending.pop()
        if module.__name__ not in definitions:
            definitions[module.__name__] = _definitions(ast.parse(inspect.getsource(module)))
        node = definitions[module.__name__].get(name)
        if node is None or (module.__name__, name) in found:
            continue
        found[module.__name__, name] = repr(_plain(node))
        pending += [(module, inner.id) for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return [found[key] for key in sorted(found)]


def _plain(node: object) -> object:
    """A syntax tree as tuples, the same on every Python; `ast.unparse` and `ast.dump` write it in ways that changed."""
    if isinstance(node, ast.AST):
        fields = tuple((name, _plain(value)) for name, value in ast.iter_fields(node) if value is not None)
        return type(node).__name__, tuple(field for field in fields if field[1] != ())
    return tuple(_plain(item) for item in node) if isinstance(node, list) else node


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    named: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign):
            named |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return named


# --- Batches and augmentation ----------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Shuffled, augmented batches of an epoch; the same for the same seed and epoch.

    All batches have the same size. What is left over, fewer images than a batch, sits this epoch out; the next one's
    shuffle leaves out others.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    labels : ndarray of int, shape (n,)
    recipe : Recipe
    seed : int
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, recipe: Recipe, seed: int) -> None:
        super().__init__(workers=1)
        self.images, self.targets = images, _one_hot(labels)
        self.batch_size, self.augmentation, self.seed = min(recipe.batch_size, len(images)), recipe.augmentation, seed
        self.weights = _class_weights(labels)[labels] if recipe.class_weights else None
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 0."""
        self.epoch = epoch
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        batch = augment(self.images[chosen], self.augmentation, rng), self.targets[chosen]
        return batch if self.weights is None else (*batch, self.weights[chosen])

    def pipeline(self) -> Iterable:
        """The batches in the form that Keras's `fit` takes fastest on this backend, one pass over the epoch's.

        TensorFlow traces a step for exactly these shapes. Keras would declare the batch axis unknown, and a step so
        traced is a tenth to a fifth slower.
        """
        if keras.config.backend() != "tensorflow":
            return self
        import tensorflow as tf

        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in self[0])
        each = tf.data.Dataset.from_generator(
            lambda: map(self.__getitem__, range(len(self))), output_signature=signature
        )
        return each.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(1)


def augment(images: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change each image at random.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    augmentation : Augmentation
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, 28, 28, 1), dtype uint8
        What leaves the frame is lost, what enters it is black like Fashion-MNIST's background.
    """
    a, count = augmentation, len(images)
    if a.rotation or a.shear or a.zoom:
        images = _affine(images, _transforms(a, rng, count, *images.shape[1:3]))
    else:
        if a.flip:
            mirrored = rng.random(count) < 0.5
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        if a.shift:
            images = _shifted(images, rng.integers(-int(a.shift), int(a.shift), (count, 2), endpoint=True))
    return _erased(images, a.erasing, rng) if a.erasing else images


def _transforms(a: Augmentation, rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Matrices (n, 3, 3) from output to input pixel coordinates (x, y, 1), about the image's centre."""

    def uniform(largest: float) -> np.ndarray:
        return rng.uniform(-largest, largest, count)

    angle, shear, zoom = np.radians(uniform(a.rotation)), np.tan(np.radians(uniform(a.shear))), 1 + uniform(a.zoom)
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if a.flip else np.ones(count)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.empty((count, 2, 2))
    linear[:, 0] = np.stack([cos * mirror, -sin + cos * shear], axis=1)
    linear[:, 1] = np.stack([sin * mirror, cos + sin * shear], axis=1)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrices = np.tile(np.eye(3), (count, 1, 1))
    matrices[:, :2, :2] = linear
    matrices[:, :2, 2] = centre - linear @ centre + np.stack([uniform(a.shift), uniform(a.shift)], axis=1)
    return matrices


def _affine(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    flat = matrices.reshape(len(images), 9)[:, :8].astype(np.float32)
    moved = keras.ops.image.affine_transform(
        images.astype(np.float32), flat, interpolation="bilinear", fill_mode="constant", data_format="channels_last"
    )
    return np.rint(keras.ops.convert_to_numpy(moved)).astype(np.uint8)


def _shifted(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Each image moved by whole pixels (rows, columns): its window out of a frame padded with black."""
    reach = int(np.abs(offsets).max())
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, images.shape[1:3], axis=(1, 2)
    )  # (n, 2r+1, 2r+1, 1, h, w)
    return windows[np.arange(len(images)), reach - offsets[:, 0], reach - offsets[:, 1]].transpose(0, 2, 3, 1)


def _erased(images: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    count, height, width, _ = images.shape
    area, ratio = rng.uniform(0.02, 0.2, count) * height * width, np.exp(rng.uniform(-np.log(3), np.log(3), count))
    tall = np.minimum(np.rint(np.sqrt(area * ratio)), height).astype(int)
    wide = np.minimum(np.rint(np.sqrt(area / ratio)), width).astype(int)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    rows, columns = np.arange(height), np.arange(width)
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    chosen = rng.random(count) < probability
    mask = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None])[..., None]
    return np.where(mask, rng.integers(0, 256, images.shape, dtype=np.uint8), images)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(10, dtype=np.float32)[labels]


def _class_weights(labels: np.ndarray) -> np.ndarray:
    """Inverse class frequencies, one on average over the images; a class without images has weight 0."""
    counts = np.bincount(labels, minlength=10)
    present = counts > 0
    weights = np.zeros(10, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


# --- Fused batch normalisation ---------------------------------------------------------------------------------------


@cache
def _fused_batch_normalization() -> type[keras.layers.BatchNormalization]:
    """Keras's layer with TensorFlow's fused operation in training; a class only while `accelerated` lasts."""
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            fits = training and self.trainable and mask is None and len(inputs.shape) == 4 and self.axis in (-1, 3)
            plain = self.scale and self.center and not self.synchronized and not getattr(self, "renorm", False)
            if not (fits and plain):
                return super().call(inputs, training=training, mask=mask)
            nothing = tf.constant([], tf.float32)  # the batch's own statistics, not running ones, normalise it
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=tf.cast(self.gamma.value, tf.float32),
                offset=tf.cast(self.beta.value, tf.float32),
                mean=nothing,
                variance=nothing,
                epsilon=self.epsilon,
                is_training=True,
            )
            # The operation returns the unbiased variance, Keras keeps the biased one.
            count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance * (count - 1) / count)):
                moving.assign(moving * self.momentum + tf.stop_gradient(batch) * (1 - self.momentum))
            return outputs

    # A model saved by a callback during training names the layer it is a kind of, so that Keras alone can load it.
    FusedBatchNormalization.__name__ = "BatchNormalization"
    FusedBatchNormalization.__module__ = "keras.layers"
    return FusedBatchNormalization


def _resolved(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return best_precision() if precision == "auto" else precision


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def _forget_compiled(model: keras.Model) -> None:
    """Drop traced functions: they hold on to the way the layers computed when they were traced."""
    model.train_function = model.test_function = model.predict_function = None


# --- Callbacks, checkpoints ------------------------------------------------------------------------------------------


class _Epoch(keras.callbacks.Callback):
    """Everything random in an epoch follows from the seed and the epoch's number."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.start_epoch(epoch)
        for index, layer in enumerate(_all_layers(self.model)):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                words = np.random.SeedSequence((self.seed, epoch, index)).generate_state(2)
                generator.state.assign(words.astype(generator.state.dtype))


class _Callbacks(keras.callbacks.CallbackList):
    """Begins once: a second beginning, by Keras's own `fit`, would reset what a replay has told the callbacks."""

    begun = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.begun:
            self.begun = True
            super().on_train_begin(logs)


class _StopOnNaN(keras.callbacks.Callback):
    def __init__(self, recipe: Recipe, precision: str) -> None:
        super().__init__()
        self.recipe, self.precision, self.epoch = recipe, precision, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss} in epoch {self.epoch + 1}, step {batch + 1}, at {self.precision} with "
                f"{self.recipe}. Lower learning_rate (or raise warmup), or pass precision='float32'."
            )


class _State(keras.callbacks.Callback):
    """History, weights and the best weights so far; kept in memory, and in one file if there is a path."""

    def __init__(self, model: keras.Model, recipe: Recipe, path: str | os.PathLike | None, identity: str) -> None:
        super().__init__()
        self.trained, self.path, self.identity = model, None if path is None else Path(path), identity
        self.history: dict[str, list[float]] = {}
        self.best_epoch, self.best_weights, self.wants_best = 0, None, recipe.keep == "best"
        self.replaying = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.replaying:
            return
        rate = float(keras.ops.convert_to_numpy(self.trained.optimizer.learning_rate))
        seconds = time.perf_counter() - self.started
        for name, value in {**(logs or {}), "learning_rate": rate, "seconds": seconds}.items():
            self.history.setdefault(name, []).append(float(value))
        losses = self.history["val_loss"]
        if self.wants_best and losses[-1] == min(losses):
            self.best_epoch, self.best_weights = len(losses), self.trained.get_weights()
        if self.path is not None:
            self.save()

    def keep(self, which: str) -> int:
        if which == "best" and self.best_weights is not None:
            self.trained.set_weights(self.best_weights)
            return self.best_epoch
        return len(self.history["loss"])

    def save(self) -> None:
        arrays = {f"model/{i}": value for i, value in enumerate(_values(self.trained))}
        arrays |= {f"optimizer/{i}": value for i, value in enumerate(_values(self.trained.optimizer))}
        arrays |= {f"best/{i}": value for i, value in enumerate(self.best_weights or [])}
        about = {"identity": self.identity, "history": self.history, "best_epoch": self.best_epoch}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.tmp")  # always the same, so that kills leave one at most
        with temporary.open("wb") as file:
            np.savez(file, about=json.dumps(about), **arrays)
        temporary.replace(self.path)

    def restore(self) -> int:
        """Load the file, if there is one; return how many epochs it holds."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            with np.load(self.path) as file:
                about = json.loads(str(file["about"]))
                groups: dict[str, list[np.ndarray]] = {"model": [], "optimizer": [], "best": []}
                for key in file.files:
                    if "/" in key:
                        groups[key.partition("/")[0]].append(file[key])
        except Exception as error:
            raise CheckpointError(
                f"{self.path} is not a whole checkpoint ({error}); delete it to start anew."
            ) from error
        if about["identity"] != self.identity:
            raise CheckpointError(
                f"{self.path} is the checkpoint of another training (other network, data, recipe, seed or precision); "
                "give another path, or delete it to start anew."
            )
        for target, values in ((self.trained, groups["model"]), (self.trained.optimizer, groups["optimizer"])):
            for variable, value in zip(target.variables, values, strict=True):
                variable.assign(value)
        self.history, self.best_epoch = about["history"], about["best_epoch"]
        self.best_weights = groups["best"] or None
        return len(self.history["loss"])


def _values(owner: keras.Model | keras.optimizers.Optimizer) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in owner.variables]


def _replay(every: keras.callbacks.CallbackList, state: _State, recipe: Recipe) -> None:
    """Tell the callbacks of a resumed training what happened, so that their counters stand where they stood."""
    optimizer = state.trained.optimizer
    stored = recipe.schedule != "cosine"  # else it is computed from the step
    rate = np.copy(keras.ops.convert_to_numpy(optimizer.learning_rate))
    if stored:
        optimizer.learning_rate.assign(recipe.learning_rate)  # the callbacks that lowered it will lower it again
    state.replaying = True
    for epoch in range(len(state.history.get("loss", ()))):
        every.on_epoch_begin(epoch)
        logged = {name: values[epoch] for name, values in state.history.items()}
        every.on_epoch_end(epoch, {name: logged[name] for name in logged if name not in ("learning_rate", "seconds")})
    state.replaying = False
    if stored:
        optimizer.learning_rate.assign(rate)


def _identity(model, train, validation, recipe: Recipe, seed: int, precision: str) -> str:
    digest = hashlib.sha256()
    config = json.dumps(model.get_config(), default=str, sort_keys=True)
    # Keras numbers the names it gives itself through the whole process; another process may have counted otherwise.
    digest.update(re.sub(r'_\d+"', '"', config).encode())
    digest.update(repr((recipe, seed, precision, keras.config.backend())).encode())
    for array in (*train, *validation):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


# --- Set-up ----------------------------------------------------------------------------------------------------------


def _compile(model: keras.Model, recipe: Recipe, steps: int) -> None:
    optimizer = _optimizer(recipe, steps)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    optimizer.build(model.trainable_variables)  # so that a checkpoint finds the variables it restores


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "cosine":
        rising = max(1, round(recipe.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - rising), warmup_target=recipe.learning_rate, warmup_steps=rising
        )
    decay = recipe.weight_decay or None
    if recipe.optimizer == "muon":
        optimizer = Muon(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    elif recipe.optimizer == "muon_adam":
        optimizer = MuonAdam(rate, weight_decay=decay)
    elif recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class Muon(keras.optimizers.SGD):
    """SGD whose steps for convolution kernels are orthogonalised (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).

    A kernel, seen as a matrix of (height × width × channels in) rows and as many columns as it has filters, is moved
    along the nearest semi-orthogonal matrix of its momentum: every direction of the gradient counts alike, strong or
    weak. The kernel's norm is fixed at that of orthonormal filters, for which batch normalisation makes up; so the
    step is relative and weight decay has no part in it. Everything else, a first layer of one channel included, takes
    SGD's steps.
    """

    KERNEL_RATE, KERNEL_MOMENTUM = 0.35, 0.6

    def update_step(self, gradient, variable, learning_rate):
        if not _is_kernel(variable):
            return super().update_step(gradient, variable, learning_rate)
        ops = keras.ops
        step = _orthogonal_step(
            self, gradient, self.momentums[self._get_variable_index(variable)], self.KERNEL_MOMENTUM
        )
        unit = variable * (variable.shape[-1] ** 0.5 / ops.sqrt(ops.sum(ops.square(variable))))
        self.assign(variable, unit - learning_rate * self.KERNEL_RATE * step)

    def _use_weight_decay(self, variable) -> bool:
        return not _is_kernel(variable) and super()._use_weight_decay(variable)


class MuonAdam(keras.optimizers.Adam):
    """Adam whose steps for hidden layers are orthogonalised (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).

    Kernels of hidden dense layers and of convolutions, but for a first layer of one channel, move along the nearest
    semi-orthogonal matrix of their momentum, as in `Muon`, and their norm is free to grow. The last layer, biases and
    all else take Adam's steps. `KERNEL_RATE` is what a kernel's rate is to Adam's.
    """

    KERNEL_RATE, KERNEL_MOMENTUM = 10.0, 0.9

    def build(self, variables: Sequence[keras.Variable]) -> None:
        super().build(variables)
        kernels = [variable for variable in variables if len(variable.shape) == 2 or _is_kernel(variable)]
        self._hidden = {self._get_variable_index(variable) for variable in kernels[:-1]}

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if index not in self._hidden:
            return super().update_step(gradient, variable, learning_rate)
        step = _orthogonal_step(self, gradient, self._momentums[index], self.KERNEL_MOMENTUM)
        self.assign_sub(variable, learning_rate * self.KERNEL_RATE * step)


def _orthogonal_step(optimizer: keras.optimizers.Optimizer, gradient, momentum, decay: float):
    """Update a kernel's momentum; give the orthogonalised Nesterov step, a matrix of a column a filter reshaped."""
    optimizer.assign(momentum, decay * momentum + gradient)
    flat = keras.ops.reshape(gradient + decay * momentum, (-1, gradient.shape[-1]))
    return keras.ops.reshape(orthogonalised(flat), gradient.shape)


def _is_kernel(variable) -> bool:
    return len(variable.shape) == 4 and variable.shape[2] > 1


def orthogonalised(matrix, steps: int = 3):
    """Move a matrix's singular values towards one and keep its singular vectors, by a quintic Newton-Schulz iteration.

    Parameters
    ----------
    matrix : tensor, shape (m, n), float32
    steps : int
        The coefficients trade accuracy for speed: after three steps all but the smallest singular values lie
        between 0.5 and 1.3, which serves a training as well as ones.

    Returns
    -------
    tensor, shape (m, n), float32
    """
    ops = keras.ops
    wide = matrix.shape[0] < matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)  # the largest singular value is at most one now
    x = ops.cast(x, best_precision())
    for _ in range(steps):
        gram = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(-4.7750 * gram + 2.0315 * ops.matmul(gram, gram), x)
    x = ops.cast(x, "float32")
    return x if wide else ops.transpose(x)


def _make_deterministic() -> None:
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(0)  # operations without a seed of their own refuse to run otherwise


def _check_arrays(what: str, images: np.ndarray, labels: np.ndarray) -> None:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            f"The {what} images are {images.dtype} {images.shape}; give uint8 (n, 28, 28, 1) with pixels in 0..255."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"The {what} labels are {labels.dtype} {labels.shape}; give {len(images)} whole numbers, one an image."
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"The {what} labels must be one or more whole numbers in 0..9.")

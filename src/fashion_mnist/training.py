"""Training: one function, `fit`, and the recipes it follows.

`fit` takes any Keras classifier and trains it as fast as the machine allows without changing what is computed:

- precision is bfloat16 where the machine multiplies it in hardware, else float32 (`best_precision`);
- batch normalisation in training runs as TensorFlow's fused operation instead of Keras's chain of element-wise ones;
- eight steps are prepared at a time, while the eight before them train in one call, and nothing waits for the thread
  of ``tf.data`` that tunes pipelines.

All of that ends with the training (`accelerated`): the model that comes back, and the file saved from it, is a plain
float32 Keras model.

Everything random in epoch *e* follows from the seed and *e* alone, so a training that was killed continues from its
last finished epoch and ends where it would have ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fashion_mnist._backend import accelerated, all_layers, resolved  # isort: skip  first
import keras
import numpy as np
from scipy import special

from fashion_mnist import files, optimizers
from fashion_mnist.augment import Augmentation, augment

# The number of training's arithmetic: a network whose card has another one is not what `fit` would give today. Raise it
# by hand when a change alters the weights that a training ends with; tests/test_training.py notices if one does.
VERSION = 1

EVALUATED = 512  # images at a time in validation
STEPS = 8  # in one call on TensorFlow: enough to make the time between calls vanish, and soon over after Ctrl-C


class TrainingError(RuntimeError):
    """A training that cannot go on because its loss is not a number any more."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued: damaged, or of another training."""


# --- Recipes ---------------------------------------------------------------------------------------------------------


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
    averaging : float
        The weights at the end are the moving average of those after each step, of which a step keeps this fraction
        (Polyak & Juditsky, 1992); 0 for the weights themselves. Only with ``keep="last"``; validation in between sees
        the weights themselves.
    rates : tuple of (str, float)
        Factors of the learning rate for groups of layers (Howard & Ruder, 2018): the first whose text the path of a
        variable begins with counts. Without `weight_decay`.
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
    averaging: float = 0.0
    rates: tuple[tuple[str, float], ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        schedules, kept = ("constant", "plateau", "cosine"), ("best", "last")
        for name, allowed in (("optimizer", optimizers.OPTIMIZERS), ("schedule", schedules), ("keep", kept)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Recipe {name}={getattr(self, name)!r}; choose one of {', '.join(allowed)}.")
        for name in ("epochs", "batch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"Recipe {name}={getattr(self, name)!r} is not a positive whole number.")
        if not self.learning_rate > 0:
            raise ValueError(f"Recipe learning_rate={self.learning_rate!r} is not a positive number.")
        if self.patience is not None and (not isinstance(self.patience, int) or self.patience < 1):
            raise ValueError(f"Recipe patience={self.patience!r} is neither None nor a positive whole number.")
        for name in ("warmup", "weight_decay", "label_smoothing", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Recipe {name}={getattr(self, name)!r} is not in [0, 1).")
        if self.averaging and self.keep != "last":
            raise ValueError(f"Recipe averaging={self.averaging!r} wants keep='last': the average is known at the end.")
        if not all(len(pair) == 2 and isinstance(pair[0], str) and pair[1] >= 0 for pair in self.rates):
            raise ValueError(f"Recipe rates={self.rates!r} are not pairs of a layer's name and a factor of at least 0.")
        if self.rates and self.weight_decay:  # which Keras applies at the whole rate, to layers of factor 0, too
            raise ValueError(f"Recipe rates={self.rates!r} want weight_decay=0, not {self.weight_decay!r}.")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Recipe:
        """The recipe that a card holds; what the card does not name yet has its default."""
        rates = tuple(map(tuple, settings.get("rates", ())))
        return cls(**{**settings, "rates": rates, "augmentation": Augmentation(**settings["augmentation"])})

    def chosen(self) -> list[tuple[str, Any]]:
        """The settings that are not the defaults, by name: what a setting that is added later leaves as it is."""
        ours, plain = ({**asdict(recipe), **asdict(recipe.augmentation)} for recipe in (self, Recipe()))
        return sorted((name, ours[name]) for name in ours if ours[name] != plain[name] and name != "augmentation")

    def replace(self, **changes: object) -> Recipe:
        """Return this recipe with some settings changed."""
        return replace(self, **changes)


RECIPES: dict[str, Recipe] = {
    # The starting projects' recipes, as they were published.
    "starting_mlp": Recipe(epochs=20, batch_size=64, keep="last"),
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
}
# A reconstruction: what it does is published, how much of it is not.
RECIPES["starting_regularised_cnn"] = RECIPES["starting_deep_cnn"].replace(
    augmentation=Augmentation(rotation=10, shift=2.8, shear=10, zoom=0.1)
)
RECIPES["fast"] = RECIPES["plain"].replace(
    epochs=20, optimizer="sgd", learning_rate=0.1, weight_decay=5e-3, augmentation=Augmentation(flip=True, shift=2)
)
# Derived, so that they differ from the former in nothing but how a step is taken.
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
    progress: bool | None = None,
) -> Fit:
    """Train a classifier in place.

    Parameters
    ----------
    model : keras.Model
        Gives logits ``(n, 10)``; as a builder of `models` returns it. Its initial weights are its own affair:
        call ``keras.utils.set_random_seed`` before building it.
    train, validation : (images, labels)
        uint8 ``(n, 28, 28, 1)`` in 0..255 and whole numbers ``(n,)`` in 0..9. In training also float ``(n, 10)`` in
        0..1 whose rows sum to one, such as what another network says (distillation: Hinton et al., 2015).
    recipe : Recipe
    seed : int
        Shuffling, augmentation and dropout follow from it.
    precision : {"auto", "float32", "bfloat16"}
        "auto" asks `best_precision`.
    deterministic : bool
        Make two runs with the same seed on the same machine give equal weights, at some cost in speed. On the
        TensorFlow backend this lasts for the rest of the process.
    checkpoint : path, optional
        File to keep the state of the training in after every epoch, whole or not at all. If it exists the training
        continues from it.
    callbacks : sequence of keras.callbacks.Callback
        Your own, after ours. Of the steps they are told every eighth and each epoch's last, one at least. On a resumed
        training they first see the finished epochs again, with the logs of then but the weights of now.
    progress : bool, optional
        Show a bar; by default only where a person looks at a terminal.

    Raises
    ------
    ValueError
        If the arrays do not fit together or a setting does not exist.
    TrainingError
        If the loss is not a number any more.
    CheckpointError
        If `checkpoint` is damaged or belongs to another training.
    """
    _check_arrays("training", *train, probable=np.issubdtype(train[1].dtype, np.floating))
    _check_arrays("validation", *validation)
    if recipe.class_weights and train[1].ndim > 1:
        raise ValueError("Recipe class_weights=True wants whole numbers as training labels, not probabilities.")
    precision = resolved(precision)
    on_tensorflow = keras.config.backend() == "tensorflow"
    if deterministic and on_tensorflow:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(0)  # operations without a seed of their own refuse to run otherwise

    batches = Batches(*train, recipe, seed)
    _compile(model, recipe, steps=recipe.epochs * len(batches))
    state = _State(model, recipe, checkpoint, _identity(model, train, validation, recipe, seed, precision))
    ours: list[keras.callbacks.Callback] = [_Epoch(batches, seed), _StopOnNaN(batches, recipe, precision)]
    if recipe.schedule == "plateau":
        ours.append(keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=3))
    if recipe.patience is not None:
        ours.append(keras.callbacks.EarlyStopping(patience=recipe.patience))
    if progress if progress is not None else sys.stderr.isatty():
        from tqdm.keras import TqdmCallback

        ours.append(TqdmCallback(verbose=0, leave=False))
    every = _Callbacks(
        [*ours, *callbacks], add_history=True, model=model, epochs=recipe.epochs, steps=len(batches), verbose=0
    )

    resumed_from = state.restore()
    with accelerated(model, precision):
        every.on_train_begin()
        _replay(every, state, recipe)
        every.callbacks.append(state)  # last: what the others do to the learning rate after an epoch is saved with it
        if model.stop_training or resumed_from == recipe.epochs:
            every.on_train_end()
        else:
            model.steps_per_execution = STEPS if on_tensorflow else 1
            model.fit(
                batches.pipeline() if on_tensorflow else batches,
                validation_data=_held_out(*validation) if on_tensorflow else (validation[0], _one_hot(validation[1])),
                validation_batch_size=None if on_tensorflow else EVALUATED,
                initial_epoch=resumed_from,
                epochs=recipe.epochs,
                callbacks=every,
                verbose=0,
                shuffle=False,
            )
    return Fit(state.history, state.keep(), resumed_from, precision)


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
    logits = _logits(model, images, batch_size)
    if mirror:
        logits = (logits + _logits(model, images[:, :, ::-1], batch_size)) / 2
    return special.softmax(logits, axis=1)


def _logits(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """What ``model.predict`` gives, without the pipeline that it would build and tune; see `_untuned`."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(images[start : start + batch_size]) for start in starts])


# --- Batches ---------------------------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Shuffled, augmented batches of an epoch; the same for the same seed and epoch.

    All batches have the same size. What is left over, fewer images than a batch, sits this epoch out; the next one's
    shuffle leaves out others.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1), dtype uint8
    labels : ndarray of int, shape (n,), or of float, shape (n, 10)
    recipe : Recipe
    seed : int
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, recipe: Recipe, seed: int) -> None:
        super().__init__(workers=1)
        self.images, self.targets = images, [_one_hot(labels) if labels.ndim == 1 else labels.astype(np.float32)]
        if recipe.class_weights:
            from sklearn.utils.class_weight import compute_sample_weight

            self.targets.append(compute_sample_weight("balanced", labels).astype(np.float32))
        self.batch_size, self.augmentation, self.seed = min(recipe.batch_size, len(images)), recipe.augmentation, seed
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 0."""
        self.epoch = epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        self.order = order[: len(self) * self.batch_size].reshape(-1, self.batch_size)

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(array[0] for array in self._block(index, index + 1))

    def _block(self, first: int, last: int) -> tuple[np.ndarray, ...]:
        """Several batches as one array of each kind: most of what a batch costs in Python is theirs together."""
        chosen = self.order[first:last]
        images = self.images[chosen]
        if self.augmentation != Augmentation():
            for index, batch in enumerate(images, start=first):
                batch[:] = augment(batch, self.augmentation, np.random.default_rng((self.seed, self.epoch, index)))
        return images, *(target[chosen] for target in self.targets)

    def pipeline(self) -> Iterable:
        """The same as a ``tf.data.Dataset``, each pass over it the epoch's.

        A step is traced for exactly these shapes. Keras would declare the batch axis unknown, and a step so traced is a
        tenth to a fifth slower.
        """
        import tensorflow as tf

        one = self[0]

        @tf.autograph.experimental.do_not_convert  # which would leave a temporary file of a process that is killed
        def block(first):
            """Some steps' arrays. A generator would start and end with the epoch, which costs 20 ms each."""
            arrays = tf.numpy_function(self._block, (first, first + STEPS), [array.dtype for array in one])
            shapes = [(None, *array.shape) for array in one]
            return tuple(tf.ensure_shape(values, shape) for values, shape in zip(arrays, shapes, strict=True))

        steps = tf.data.Dataset.range(0, len(self), STEPS).map(block).prefetch(1).unbatch()
        return steps.apply(tf.data.experimental.assert_cardinality(len(self))).with_options(_untuned())


def _held_out(images: np.ndarray, labels: np.ndarray) -> Iterable:
    """Validation images and targets in batches, as a ``tf.data.Dataset``."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, _one_hot(labels))).batch(EVALUATED).with_options(_untuned())


def _untuned():
    """Options of a ``tf.data.Dataset`` without autotuning.

    There is nothing to tune, and the thread that tunes sleeps between its looks for ever longer; when an iterator is
    deleted it often misses the call to end, and an epoch then takes up to twice its time.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(10, dtype=np.float32)[labels]


# --- Callbacks, checkpoints ------------------------------------------------------------------------------------------


class _Epoch(keras.callbacks.Callback):
    """Everything random in an epoch follows from the seed and the epoch's number."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.start_epoch(epoch)
        for index, layer in enumerate(all_layers(self.model)):
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
    """The loss is a mean over the epoch so far: once it is no number it stays none, so no step goes unnoticed."""

    def __init__(self, batches: Batches, recipe: Recipe, precision: str) -> None:
        super().__init__()
        self.batches, self.recipe, self.precision = batches, recipe, precision

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.begun = batch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float(logs["loss"])
        if not np.isfinite(loss):
            steps = f"{self.begun + 1} to {min(batch + 1, len(self.batches))}"
            raise TrainingError(
                f"The loss became {loss} in epoch {self.batches.epoch + 1}, in steps {steps}, at {self.precision} with "
                f"{self.recipe}. Lower learning_rate (or raise warmup), or pass precision='float32'."
            )


class _State(keras.callbacks.Callback):
    """History, weights and the best weights so far; kept in memory, and in one file if there is a path."""

    def __init__(self, model: keras.Model, recipe: Recipe, path: str | os.PathLike | None, identity: str) -> None:
        super().__init__()
        self.trained, self.path, self.identity = model, None if path is None else Path(path), identity
        self.owners = {"model": model, "optimizer": model.optimizer}
        self.history: dict[str, list[float]] = {}
        self.best_epoch, self.best_weights, self.wants_best = 0, None, recipe.keep == "best"

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rate = float(keras.ops.convert_to_numpy(self.trained.optimizer.learning_rate))
        seconds = time.perf_counter() - self.started
        for name, value in {**(logs or {}), "learning_rate": rate, "seconds": seconds}.items():
            self.history.setdefault(name, []).append(float(value))
        losses = self.history["val_loss"]
        if self.wants_best and losses[-1] == min(losses):
            self.best_epoch, self.best_weights = len(losses), self.trained.get_weights()
        if self.path is not None:
            self.save()

    def keep(self) -> int:
        """Give the model the weights that it is to have at the end; return their epoch."""
        if self.best_weights is not None:
            self.trained.set_weights(self.best_weights)
            return self.best_epoch
        self.trained.optimizer.finalize_variable_values(
            self.trained.trainable_variables
        )  # the average, if there is one
        return len(self.history["loss"])

    def save(self) -> None:
        groups = {kind: map(keras.ops.convert_to_numpy, owner.variables) for kind, owner in self.owners.items()}
        groups["best"] = self.best_weights or ()
        arrays = {f"{kind}/{i}": value for kind, values in groups.items() for i, value in enumerate(values)}
        about = {"identity": self.identity, "history": self.history, "best_epoch": self.best_epoch}
        with files.replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, about=json.dumps(about), **arrays)

    def restore(self) -> int:
        """Load the file, if there is one; return how many epochs it holds."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            with np.load(self.path) as file:
                about = json.loads(str(file["about"]))
                identity, self.history, self.best_epoch = about["identity"], about["history"], about["best_epoch"]
                groups = {
                    kind: [file[key] for key in file.files if key.startswith(f"{kind}/")]
                    for kind in (*self.owners, "best")
                }
        except Exception as error:
            raise CheckpointError(
                f"{self.path} is not a whole checkpoint ({error}); delete it to start anew."
            ) from error
        if identity != self.identity:
            raise CheckpointError(
                f"{self.path} is the checkpoint of another training (other network, data, recipe, seed or precision); "
                "give another path, or delete it to start anew."
            )
        for kind, owner in self.owners.items():
            for variable, value in zip(owner.variables, groups[kind], strict=True):
                variable.assign(value)
        self.best_weights = groups["best"] or None
        return len(self.history["loss"])


def _replay(every: keras.callbacks.CallbackList, state: _State, recipe: Recipe) -> None:
    """Tell the callbacks of a resumed training what happened, so that their counters stand where they stood."""
    optimizer = state.trained.optimizer
    stored = recipe.schedule != "cosine"  # else it is computed from the step
    rate = np.copy(keras.ops.convert_to_numpy(optimizer.learning_rate))
    if stored:
        optimizer.learning_rate.assign(recipe.learning_rate)  # the callbacks that lowered it will lower it again
    for epoch in range(len(state.history.get("loss", ()))):
        every.on_epoch_begin(epoch)
        logged = {name: values[epoch] for name, values in state.history.items()}
        every.on_epoch_end(epoch, {name: logged[name] for name in logged if name not in ("learning_rate", "seconds")})
    if stored:
        optimizer.learning_rate.assign(rate)


def _identity(model, train, validation, recipe: Recipe, seed: int, precision: str) -> str:
    config = json.dumps(model.get_config(), default=str, sort_keys=True)
    # Keras numbers the names it gives itself through the whole process; another process may have counted otherwise.
    digest = hashlib.sha256(re.sub(r'_\d+"', '"', config).encode())
    digest.update(repr((VERSION, recipe, seed, precision, keras.config.backend())).encode())
    for array in (*train, *validation):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


# --- Set-up ----------------------------------------------------------------------------------------------------------


def _compile(model: keras.Model, recipe: Recipe, steps: int) -> None:
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":  # rises linearly, then falls to zero
        rising = max(1, round(recipe.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - rising), warmup_target=rate, warmup_steps=rising
        )
    optimizer = optimizers.build(recipe.optimizer, rate, recipe.weight_decay, recipe.averaging, recipe.rates)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"])
    optimizer.build(model.trainable_variables)  # so that a checkpoint finds the variables it restores


def _check_arrays(what: str, images: np.ndarray, labels: np.ndarray, probable: bool = False) -> None:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"The {what} images are {images.dtype} {images.shape}; give uint8 (n, 28, 28, 1) in 0..255.")
    count, given = len(images), f"The {what} labels are {labels.dtype} {labels.shape}"
    if probable and labels.shape != (count, 10):
        raise ValueError(f"{given}; give {count} whole numbers or floats ({count}, 10).")
    if not probable and (labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer)):
        raise ValueError(f"{given}; give {count} whole numbers.")
    if probable and not (labels.size and labels.min() >= 0 and np.allclose(labels.sum(1, dtype=float), 1, atol=1e-2)):
        raise ValueError(f"The {what} labels must be one or more rows of probabilities that sum to one.")
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"The {what} labels must be one or more whole numbers in 0..9.")

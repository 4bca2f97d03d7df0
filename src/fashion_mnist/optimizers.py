"""What a training's steps are: Keras's optimisers by name, and Muon in two forms.

`keras.optimizers.Muon` orthogonalises matrices only, so kernels of convolutions, nearly all there is to train here,
would take its Adam's steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fashion_mnist._backend import best_precision  # isort: skip  first, so that TensorFlow starts silently
import keras


def build(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float = 0.0,
    averaging: float = 0.0,
    rates: Sequence[tuple[str, float]] = (),
) -> keras.optimizers.Optimizer:
    """Build an optimiser.

    Parameters
    ----------
    name : str
        A key of `OPTIMIZERS`.
    learning_rate : float or schedule
    weight_decay : float
        Decoupled, on kernels only.
    averaging : float
        Momentum of a moving average of the weights, which the model gets at the end; 0 for none.
    rates : sequence of (str, float)
        Factors of the rate for groups of layers: the first whose text the variable's path begins with counts.
    """
    average = {"use_ema": True, "ema_momentum": averaging} if averaging else {}
    kind, settings = OPTIMIZERS[name]
    if rates:
        kind = _by_group(kind, rates)
    optimizer = kind(learning_rate, weight_decay=weight_decay or None, **settings, **average)
    if weight_decay:
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
        momentum = self.momentums[self._get_variable_index(variable)]
        step = _orthogonal_step(self, gradient, momentum, self.KERNEL_MOMENTUM)
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


OPTIMIZERS: dict[str, tuple[type[keras.optimizers.Optimizer], dict[str, Any]]] = {
    "adam": (keras.optimizers.Adam, {}),
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "muon": (Muon, {"momentum": 0.9, "nesterov": True}),
    "muon_adam": (MuonAdam, {}),
}


def _by_group(kind: type[keras.optimizers.Optimizer], rates: Sequence[tuple[str, float]]):
    """An optimiser whose rate depends on the layer (Howard & Ruder, 2018: discriminative fine-tuning)."""

    class ByGroup(kind):
        def build(self, variables: Sequence[keras.Variable]) -> None:
            super().build(variables)
            factors = [next((f for start, f in rates if each.path.startswith(start)), 1.0) for each in variables]
            self._factors = dict(zip(map(self._get_variable_index, variables), factors, strict=True))

        def update_step(self, gradient, variable, learning_rate):
            factor = self._factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * factor)

    return ByGroup


def _orthogonal_step(optimizer: keras.optimizers.Optimizer, gradient, momentum, decay: float):
    """Update a kernel's momentum; give the orthogonalised Nesterov step, a matrix of a column a filter reshaped."""
    optimizer.assign(momentum, decay * momentum + gradient)
    flat = keras.ops.reshape(gradient + decay * momentum, (-1, gradient.shape[-1]))
    return keras.ops.reshape(orthogonalised(flat), gradient.shape)


def _is_kernel(variable) -> bool:
    return len(variable.shape) == 4 and variable.shape[2] > 1


def orthogonalised(matrix):
    """Move a matrix's singular values towards one and keep its singular vectors, by a quintic Newton-Schulz iteration.

    The coefficients trade accuracy for speed: after three steps all but the smallest singular values lie between 0.5
    and 1.3, which serves a training as well as ones.

    Parameters
    ----------
    matrix : tensor, shape (m, n), float32

    Returns
    -------
    tensor, shape (m, n), float32
    """
    ops = keras.ops
    wide = matrix.shape[0] < matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)  # the largest singular value is at most one now
    x = ops.cast(x, best_precision())
    for _ in range(3):
        gram = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(-4.7750 * gram + 2.0315 * ops.matmul(gram, gram), x)
    x = ops.cast(x, "float32")
    return x if wide else ops.transpose(x)

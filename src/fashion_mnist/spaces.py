"""What is searched: spaces of configurations, and the networks and recipes that a configuration stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from fashion_mnist.augment import Augmentation
from fashion_mnist.optimizers import OPTIMIZERS
from fashion_mnist.training import RECIPES, Recipe

# What a trial's row has beside its parameters, see `halving.Tuned.rows`.
COLUMNS = {"number", "state", "error", "epochs", "accuracy", "val_accuracy", "val_loss", "seconds", "pieces"}


@dataclass(frozen=True)
class Float:
    """Any number from `low` to `high`; on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Plan:
    """What a configuration means: an architecture of `models`, its builder's arguments, and how it is trained."""

    architecture: str
    arguments: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Space:
    """What a study chooses among.

    Attributes
    ----------
    name : str
    parameters : dict of str to tuple or Float
        The choices (numbers, strings, booleans) or the range of each parameter.
    plan : callable
        Takes one value of each parameter, a dict, and gives the `Plan`. The plan's epochs are replaced by the study's.
    """

    name: str
    parameters: dict[str, tuple | Float]
    plan: Callable[[dict[str, Any]], Plan]

    def __post_init__(self) -> None:
        if taken := COLUMNS & set(self.parameters):
            raise ValueError(f"Space {self.name!r}: rename {', '.join(sorted(taken))}; trials have columns called so.")
        for name, values in self.parameters.items():
            if isinstance(values, Float):
                sound = values.low < values.high and (values.low > 0 or not values.log)
            else:
                sound = isinstance(values, tuple) and len(values) == len(set(values)) > 0
            if not sound:
                raise ValueError(
                    f"Parameter {name!r} of space {self.name!r} is {values!r}; give a tuple of different choices, or a "
                    "Float with low < high (and low > 0 if log)."
                )

    @property
    def is_grid(self) -> bool:
        """Whether all parameters are choices, so that the configurations can be counted."""
        return all(isinstance(values, tuple) for values in self.parameters.values())

    def configurations(self) -> list[dict[str, Any]]:
        """Every combination of the choices, the last parameter changing fastest."""
        if not self.is_grid:
            ranges = [name for name, values in self.parameters.items() if not isinstance(values, tuple)]
            raise ValueError(f"Space {self.name!r} is no grid: {', '.join(ranges)} have a range; give choices.")
        return [dict(zip(self.parameters, values, strict=True)) for values in product(*self.parameters.values())]

    def probes(self) -> Iterator[dict[str, Any]]:
        """Configurations that show what the plan makes of each parameter: one at a time moved over its choices, or to
        the ends of its range."""
        ends = {
            name: values if isinstance(values, tuple) else (values.low, values.high)
            for name, values in self.parameters.items()
        }
        first = {name: values[0] for name, values in ends.items()}
        yield first
        for name, values in ends.items():
            yield from ({**first, name: value} for value in values[1:])


def builder_grid(
    name: str, architecture: str, parameters: dict[str, tuple], recipe: Recipe = RECIPES["plain"]
) -> Space:
    """Space whose parameters are arguments of one builder of `models`, all trained by the same recipe."""
    return Space(name, parameters, lambda values: Plan(architecture, dict(values), recipe))


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=True),
    "flip and shift": Augmentation(flip=True, shift=2),
    "flip, shift and erase": Augmentation(flip=True, shift=2, erasing=0.5),
}
# What the peak of SGD's learning rate is to Adam's, in our recipes.
SGD_TO_ADAM = RECIPES["fast"].learning_rate / RECIPES["plain"].learning_rate


def _search_recipe(values: dict[str, Any]) -> Recipe:
    """A rate is Adam's; SGD and Muon train with as much more as in our recipes."""
    adam = values["optimizer"] in ("adam", "muon_adam")
    return RECIPES["plain" if adam else "fast"].replace(
        optimizer=values["optimizer"],
        batch_size=values["batch_size"],
        learning_rate=values["learning_rate"] * (1 if adam else SGD_TO_ADAM),
        augmentation=AUGMENTATIONS[values["augmentation"]],
    )


def _cnn_search_plan(values: dict[str, Any]) -> Plan:
    """Widths double from stage to stage."""
    widths = tuple(values["width"] * 2**stage for stage in range(values["stages"]))
    dense, dropout = values["dense"], values["dropout"]
    if values["normalisation"] == "none":
        # The one builder without normalisation has two stages and no dropout: here `stages` and `dropout` mean nothing.
        architecture, arguments = "cnn", {"f1": widths[0], "f2": widths[1], "kernel": 3, "dense": dense}
    elif values["convolutions"] == 1:
        architecture, arguments = "regularised_cnn", {"widths": widths, "l2": 0.0, "dropout": dropout, "dense": dense}
    else:
        architecture = "deep_cnn"
        arguments = {"widths": widths, "dense": dense, "dropouts": (dropout,) * (len(widths) + 1)}
    return Plan(architecture, arguments, _search_recipe(values))


def _resnet_search_plan(values: dict[str, Any]) -> Plan:
    """Three stages of one block, trained with the optimiser of the grid."""
    arguments = {"blocks": 1, "filters": values["filters"], "stages": 3}
    return Plan("mini_resnet_bn", arguments, _search_recipe({"optimizer": "muon_adam", **values}))


CNN_SEARCH = {
    "normalisation": ("none", "batch"),
    "convolutions": (1, 2),  # a stage
    "stages": (2, 3),
    "width": (16, 32),  # of the first stage; with 64 an epoch takes a minute
    "dense": (64, 128, 256),
    "dropout": Float(0.0, 0.4),
    "optimizer": tuple(OPTIMIZERS),
    "learning_rate": Float(5e-4, 5e-3, log=True),
    "batch_size": (64, 128, 256),
    "augmentation": tuple(AUGMENTATIONS),
}
RESNET_SEARCH = {
    "filters": (32, 64),  # of the first stage; on AMX an epoch with 56 takes 1.5 times as long as with 64
    "learning_rate": Float(1e-3, 5e-3, log=True),
    "batch_size": (256, 512),  # Muon's steps are expensive: with 128 an epoch takes 1.5 times as long
    # Without "none": a first look of one epoch prefers images as they are, whatever augmentation does in the end.
    "augmentation": ("flip", "flip and shift", "flip, shift and erase"),
}
SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        # The starting projects' grids.
        builder_grid("cnn_grid", "cnn", {"f1": (16, 32, 64), "f2": (32, 64, 128), "kernel": (2, 3), "dense": (32, 64)}),
        builder_grid(
            "resnet_grid", "mini_resnet", {"blocks": (2, 3, 4, 5), "filters": (16, 32, 64)}, RECIPES["muon_adam"]
        ),
        # What those grids could not reach.
        Space("cnn_search", CNN_SEARCH, _cnn_search_plan),
        Space("resnet_search", RESNET_SEARCH, _resnet_search_plan),
    )
}


def named(space: Space | str) -> Space:
    """The space of that name, or a space as it is; ValueError naming those there are."""
    if isinstance(space, Space):
        return space
    if space not in SPACES:
        raise ValueError(f"There is no space {space!r}; choose one of {', '.join(SPACES)}.")
    return SPACES[space]

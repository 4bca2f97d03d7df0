"""Every figure of the study: arrays in, Matplotlib Figure out; ``figures.curves.learning_curves(…)``.

A module is imported at its first use, so that a run depends on those that it draws with.
"""

from importlib import import_module


def __getattr__(name: str):
    if name in ("curves", "images", "maps", "matrices", "style"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Palettes, the style sheet, and what every kind of figure shares."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

# Paul Tol's "muted" scheme, its pale grey replaced by a dark one; in class order, so that the garments that are easily
# confused (T-shirt, pullover, dress, coat, shirt) get the colours that are furthest apart.
CLASS_COLOURS = (
    "#88CCEE",  # T-shirt/top
    "#332288",  # Trouser
    "#DDCC77",  # Pullover
    "#AA4499",  # Dress
    "#117733",  # Coat
    "#999933",  # Sandal
    "#CC6677",  # Shirt
    "#44AA99",  # Sneaker
    "#4D4D4D",  # Bag
    "#882255",  # Ankle boot
)
CLASS_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")

# Okabe and Ito's scheme without its yellow, which is too pale for lines on white.
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
RUN_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RIGHT, WRONG, GREY = "#0072B2", "#D55E00", "#777777"

STYLE = {
    "figure.figsize": (8.0, 4.5),
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",  # ships with Matplotlib, so figures are the same on every machine
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.prop_cycle": plt.cycler(color=RUN_COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
}

HALO = (withStroke(linewidth=3, foreground="white"),)


def use() -> None:
    """Apply the study's style to every figure made afterwards in this process."""
    plt.style.use(["default", STYLE])


def panel(ax: Axes | None, figsize: tuple[float, float]) -> tuple[Figure, Axes]:
    """A new figure and its axes, or the axes given and their figure."""
    return plt.subplots(figsize=figsize) if ax is None else (ax.figure, ax)


def line(index: int) -> dict[str, str]:
    """Colour and dashes of a line; when the colours have been used up they come again with other dashes."""
    dashes = ("-", "--", ":", "-.")[index // len(RUN_COLOURS) % 4]
    return {"color": RUN_COLOURS[index % len(RUN_COLOURS)], "linestyle": dashes}


def marker(index: int) -> str:
    """Marker of a run; they come again when used up."""
    return RUN_MARKERS[index % len(RUN_MARKERS)]


def percent(*axes: Axis, decimals: int | None = None) -> None:
    """Write the fractions along an x or y axis in per cent."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals))


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign, such as "+1.1", "−0.3" (a minus, no hyphen) or "+0.0"."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")


def rows(axis: Axes, names: Sequence[str]) -> None:
    """Names beside the rows of a chart, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)


def bare(axis: Axes) -> None:
    """Nothing around a picture: no ticks, no grid, no spines."""
    axis.set(xticks=[], yticks=[])
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def stamp(fig: Figure, text: str) -> None:
    """Write a remark below all that a figure draws."""
    # Figures are cut to what is drawn when they are saved, so it is not lost. A legend beside the axes would follow the
    # edge of what is drawn, onto the remark, unless held to the figure's own, and then the layout would keep no room
    # for it: it is done before.
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    for legend in fig.legends:
        legend.set_bbox_to_anchor((0, 0, 1, 1), fig.transFigure)
    bottom = min(0.0, fig.get_tightbbox().y0 / fig.get_figheight())
    fig.text(0.01, bottom - 0.01, text, fontsize=7, color="#b3261e", ha="left", va="top")


def write_names(
    axis: Axes, names: Sequence[str], points: np.ndarray, avoid: Sequence = (), on: bool = False, **font
) -> None:
    """Write each name beside its point, so that neither it nor its leader hides anything.

    Parameters
    ----------
    axis : Axes
        Its limits are fixed; names stay inside.
    names : sequence of str, length n
    points : ndarray, shape (n, 2)
    avoid : sequence of (x, y, x, y)
        Opposite corners of what must stay visible beside the points; a line is a box without a width.
    on : bool
        Put a name on its point where there is room.
    font
        Properties of the texts.
    """
    axis.figure.draw_without_rendering()  # places the axes, so that places on the picture are known
    axis.set_autoscale_on(False)
    unit, points = axis.figure.dpi / 72, np.asarray(points, dtype=float)
    corners = np.reshape([*avoid, *np.tile(points, 2)[: 0 if on else None]], (-1, 2))
    corners = axis.transData.transform(corners).reshape(-1, 2, 2)
    taken = {"drawn": np.hstack([corners.min(axis=1) - 4 * unit, corners.max(axis=1) + 4 * unit])}
    taken["artists"] = np.reshape([artist.get_window_extent().extents for artist in axis.artists], (-1, 4))
    look = {"ha": "center", "va": "center", "in_layout": False, "path_effects": HALO, **font}
    texts = [axis.text(*point, name, **look) for point, name in zip(points, names, strict=True)]
    anchors, paths = axis.transData.transform(points), {}
    for text, anchor in [*zip(texts, anchors, strict=True)] * 2:  # again, once all others have a place
        half = np.array(text.get_window_extent().size) / 2
        others = np.vstack([boxes for owner, boxes in taken.items() if owner is not text])
        places = [anchor] * on + [anchor + side * (away * unit + half) for away in _AWAY for side in _SIDES]
        centre = min(places, key=lambda place: _cost(place, half, anchor, others, axis, unit))
        path = paths[text] = _path(centre, half, anchor, unit)
        taken[text] = np.vstack([np.hstack([centre - half, centre + half]), np.hstack([path - unit, path + unit])])
        text.set_position(axis.transData.inverted().transform(centre))
    for path in paths.values():
        if len(path) > 6:
            ends = axis.transData.inverted().transform(path[[0, -1]])
            axis.plot(*ends.T, color=GREY, linewidth=0.8, zorder=1)


_AWAY = (7, 13, 20, 30, 42, 56, 75, 100)  # points
_SIDES = np.array([(1, 0), (-1, 0), (1, 0.8), (-1, 0.8), (1, -0.8), (-1, -0.8), (0, 1), (0, -1)])


def _path(centre, half, anchor, unit):
    """Places, one a point apart, from beside an anchor to the edge of a text; shape (n, 2), in pixels."""
    way = np.clip(anchor, centre - half, centre + half) - anchor
    length = max(np.hypot(*way), 1e-9)
    return anchor + np.arange(5 * unit, length, unit)[:, None] / length * way


def _cost(centre, half, anchor, others, axis, unit):
    """What a text and its leader would hide, what of it would fall out of the axes, and how far away it is."""
    low, high, frame = centre - half, centre + half, axis.get_window_extent().extents
    inside = np.prod(np.maximum(np.minimum(high, frame[2:]) - np.maximum(low, frame[:2]), 0))
    shared = np.prod(np.maximum(np.minimum(high, others[:, 2:]) - np.maximum(low, others[:, :2]), 0), axis=1).sum()
    path = _path(centre, half, anchor, unit)[:, None]
    crossed = np.all((path > others[:, :2]) & (path < others[:, 2:]), axis=2).sum()
    return 8 * shared + 100 * crossed + 10 * (4 * np.prod(half) - inside) + np.hypot(*(centre - anchor))

"""Pictures: garments in rows and grids, predictions, and a network as boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fashion_mnist.figures import style


def as_images(images: np.ndarray, name: str = "images") -> np.ndarray:
    """Images as (n, height, width), a last axis of one channel dropped; a ValueError names what has another shape."""
    images = np.asarray(images)
    images = images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
    if images.ndim != 3 or len(images) == 0:
        raise ValueError(f"{name} has shape {images.shape}; expected (n, 28, 28) or (n, 28, 28, 1) with n at least 1")
    return images


def draw(axis: Axes, image: np.ndarray, palest: int = 255) -> None:
    """One garment, dark on white; `palest` above 255 draws it paler."""
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=palest, interpolation="nearest")
    style.bare(axis)


def image_rows(rows: Mapping[str, np.ndarray], captions: Sequence[str] = (), ax: Axes | None = None) -> Figure:
    """Rows of images, each row with its name.

    Parameters
    ----------
    rows : mapping of name to ndarray, shape (k, 28, 28) or (k, 28, 28, 1), values 0 to 255
        Values beyond are drawn as the nearer end. A row with fewer images than others leaves its rest empty.
    captions : sequence of str, optional
        Text above each column.
    ax : Axes, optional
    """
    stacks = [as_images(images, f"rows[{name!r}]") for name, images in rows.items()]
    columns = max(map(len, stacks))
    blank = np.full(stacks[0].shape[1:], np.nan)
    pictures = [image for stack in stacks for image in (*stack, *[blank] * (columns - len(stack)))]
    size = min(0.85, 6.6 / columns)
    figure, axis = style.panel(ax, (1.4 + size * columns, 0.3 + size * len(rows)))
    _, down, across = _mosaic(axis, pictures, columns)
    axis.set_yticks(down, rows)
    if len(captions):
        axis.set_xticks(across, captions, fontsize=8)
        axis.tick_params(axis="x", labelbottom=False, labeltop=True)
    return figure


def image_grid(
    images: np.ndarray,
    captions: Sequence[str],
    columns: int = 6,
    limits: tuple[float, float] = (0, 255),
    colours: str = "gray_r",
    scale: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Images in a grid, each with a caption, all on one scale.

    Parameters
    ----------
    images : ndarray, shape (n, h, w) or (n, h, w, 1)
    captions : sequence of str, length n
    columns : int
    limits : tuple of float
        Values of the two ends of the colours; symmetrical about zero for colours that diverge.
    colours : str
        Matplotlib's name of a colour map.
    scale : str
        What the values are; names the colour bar, which is left out without it.
    ax : Axes, optional
    """
    images = as_images(images)
    size = min(1.35, 7.2 / columns)
    figure, axis = style.panel(ax, (size * columns + 0.8 * bool(scale), size * 1.2 * -(-len(images) // columns)))
    picture, down, across = _mosaic(axis, images, columns, limits, colours, above=0.25)
    for index, (_, caption) in enumerate(zip(images, captions, strict=True)):
        top = down[index // columns] - 0.56 * images.shape[1]
        axis.text(across[index % columns], top, caption, ha="center", va="bottom", fontsize=8)
    if scale:
        figure.colorbar(picture, ax=axis, label=scale, shrink=0.9, pad=0.02)
    return figure


def sample_grid(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], ax: Axes | None = None) -> Figure:
    """The first twelve images of each class, one row a class; a class with fewer leaves the rest of its row empty.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    labels : ndarray of int, shape (n,)
    class_names : sequence of str
    ax : Axes, optional
    """
    rows = {name: as_images(images)[labels == label][:12] for label, name in enumerate(class_names)}
    return image_rows({name: some for name, some in rows.items() if len(some)}, ax=ax)


def predictions_grid(
    images: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    class_names: Sequence[str],
    probabilities: np.ndarray | None = None,
    reference: str = "true",
) -> Figure:
    """Images with the class a network predicted and, where it is another, the true one.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    true, predicted : ndarray of int, shape (n,)
    class_names : sequence of str
    probabilities : ndarray, shape (n, classes), values 0 to 1, optional
        That of the predicted class is written.
    reference : {"true", "label"}
        "label" where the label is what is in doubt: then neither is called wrong, and a prediction without
        a probability is called a suggestion.

    Returns
    -------
    Figure
        One axes an image, six a row; right and wrong differ in symbol as well as colour.
    """
    images, known = as_images(images), probabilities is not None
    rows, columns = -(-len(images) // 6), 6
    figure, axes = plt.subplots(rows, columns, figsize=(8, 8 * rows / columns * 1.32), squeeze=False)
    for axis in axes.flat[len(images) :]:
        axis.remove()
    for index, (image, label, answer) in enumerate(zip(images, true, predicted, strict=True)):
        said = class_names[answer] + (f" {probabilities[index][answer]:.0%}" if known else "")
        colour, text = style.RIGHT, f"✓ {said}"
        if reference == "label":
            colour, text = "#333333", f"label {class_names[label]}\n{'said' if known else 'suggested'} {said}"
        elif label != answer:
            colour, text = style.WRONG, f"✗ {said}\n{reference}: {class_names[label]}"
        axis = axes.flat[index]
        draw(axis, image)
        axis.set_title(text, fontsize=8, fontweight="normal", loc="center", color=colour)
        axis.spines[:].set(visible=True, color=colour)
    return figure


def network_diagram(networks: Mapping[str, Sequence[tuple[str, tuple[int, ...], int]]]) -> Figure:
    """Networks as boxes, one below the other, each read from left to right and in a stage from top to bottom.

    Parameters
    ----------
    networks : mapping of network to sequence of (layer, output shape, parameters)
        Layers in their order: name, shape without the axis of the batch, number of parameters. Neighbours whose names
        share what stands before the first underscore are a stage and share a column. In a stage with a layer called
        ``STAGE_add`` a line leads the stage's input to it: the shortcut of a residual block.

    Returns
    -------
    Figure
        A box is the darker the more parameters its layer has.
    """
    bands = {
        name: [(stage, list(several)) for stage, several in groupby(layers, lambda layer: layer[0].split("_")[0])]
        for name, layers in networks.items()
    }
    columns = max(5, *(len(stages) for stages in bands.values()))
    heights = [max(len(layers) for _, layers in stages) + 1.2 for stages in bands.values()]
    most = max(np.log1p(parameters) for layers in networks.values() for *_, parameters in layers)
    figure, axis = plt.subplots(figsize=(8, 0.3 + 0.56 * sum(heights)))
    style.bare(axis)
    axis.set(xlim=(0, columns - 0.09), ylim=(sum(heights), 0))
    meaning = "In each box: layer, output shape, number of parameters (the darker, the more)"
    if any(name.endswith("_add") for layers in networks.values() for name, *_ in layers):
        meaning += "; orange: a block's shortcut"
    axis.set_xlabel(meaning, fontsize=9, color=style.GREY)
    arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0}
    for (name, stages), top in zip(bands.items(), np.cumsum([0, *heights[:-1]]), strict=True):
        total = sum(parameters for *_, parameters in networks[name])
        axis.text(0.03, top + 0.3, f"{name}: {total:,} parameters", va="center", fontsize=10, fontweight="bold")
        for column, (stage, layers) in enumerate(stages):
            if len(layers) > 1:
                _box(axis, (column, top + 0.56), 0.91, len(layers) + 0.46, "#F1F1F1", "none")
                axis.text(column + 0.455, top + 0.77, stage, ha="center", va="center", fontsize=9)
            for row, (layer, shape, parameters) in enumerate(layers, start=1):
                depth = np.log1p(parameters) / max(most, 1)
                colour = plt.get_cmap("Blues")(0.12 + 0.6 * depth) if parameters else "white"
                look = {"ha": "center", "va": "center", "fontsize": 8, "color": "white" if depth > 0.75 else "#222222"}
                _box(axis, (column + 0.05, top + row), 0.81, 0.92, colour, "#8A8A8A")
                text = layer.removeprefix(f"{stage}_") if len(layers) > 1 else layer
                if text == "add":
                    bend, level = column - 0.045, top + row + 0.46
                    axis.plot([bend, bend], [top + 1.45, level], color=style.RUN_COLOURS[1], linewidth=1.5)
                    bent = {**arrow, "color": style.RUN_COLOURS[1], "linewidth": 1.5}
                    axis.annotate("", (column + 0.05, level), (bend, level), arrowprops=bent)
                axis.text(column + 0.455, top + row + 0.22, text, fontweight="bold", **look)
                text = "×".join(map(str, shape)) + (f"\n{parameters:,}" if parameters else "")
                axis.text(column + 0.455, top + row + 0.62, text, linespacing=1.1, **look)
            if column:
                ends = (column + 0.05, top + 1.45), (column - 0.13, top + 1.45)
                axis.annotate("", *ends, arrowprops={**arrow, "color": "#555555"})
    return figure


def _box(axis, corner, width, height, colour, edge):
    look = {"boxstyle": "round,pad=0,rounding_size=0.06", "mutation_aspect": 2.0, "linewidth": 0.7}
    axis.add_patch(FancyBboxPatch(corner, width, height, facecolor=colour, edgecolor=edge, **look))


def _mosaic(axis, images, columns, limits=(0, 255), colours="gray_r", above=0.0):
    """Images of one size in rows, as one picture: far faster than one axes each.

    Returns the AxesImage and the middles of the rows and of the columns. `above` is the room over each image for a
    caption, as a share of its height.
    """
    height, width = np.shape(images)[1:]
    gap, room, rows = max(1, height // 14), round(above * height), -(-len(images) // columns)
    tall, wide = height + room + gap, width + gap
    canvas = np.full((rows * tall - gap, columns * wide - gap), np.nan)
    for index, image in enumerate(images):
        top, left = index // columns * tall + room, index % columns * wide
        canvas[top : top + height, left : left + width] = image
    style.bare(axis)
    # NaN, the gaps, stays transparent whatever the colour map.
    look = {"cmap": colours, "vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
    picture = axis.imshow(np.ma.masked_invalid(canvas), **look)
    middles = (np.arange(rows) * tall + room + (height - 1) / 2, np.arange(columns) * wide + (width - 1) / 2)
    return picture, *middles

"""Maps: points in the plane, heat maps over images, answers of filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from scipy.ndimage import gaussian_filter

from fashion_mnist.figures import style
from fashion_mnist.figures.images import as_images, draw, image_grid


def embedding_map(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    images: np.ndarray | None = None,
    shown: Sequence[int] = (),
    axis_names: tuple[str, str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Points in the plane in the colours of their classes, each name where its class prevails.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        Any number; they are drawn in a shuffled order, so that no class covers another, and rasterised.
    labels : ndarray of int, shape (n,)
    class_names : sequence of str, at most ten
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), optional
        The images behind the points; needed for thumbnails.
    shown : sequence of int
        Indices of the points to draw as thumbnails, framed in the colour of their class.
    axis_names : tuple of str, optional
        Without them no axes are drawn: position and scale of an embedding have no meaning of their own.
    ax : Axes, optional
        On given axes the legend is left to the caller.
    """
    points, labels = np.asarray(points, dtype=float), np.asarray(labels)
    colours = np.array(style.CLASS_COLOURS)
    figure, axis = style.panel(ax, (8, 6) if axis_names else (8, 8))
    order = np.random.default_rng(0).permutation(len(points))
    look = {"s": np.clip(120_000 / len(points), 1.8, 12), "alpha": 0.35 if len(shown) else 0.7, "linewidths": 0}
    axis.scatter(*points[order].T, c=colours[labels[order]], rasterized=True, **look)
    if axis_names:
        axis.set(xlabel=axis_names[0], ylabel=axis_names[1])
    else:
        axis.set_aspect("equal")
        axis.axis("off")
    for index in shown:
        thumbnail = OffsetImage(as_images(images)[index], zoom=0.95, cmap="gray_r", interpolation="nearest")
        thumbnail.image.set_clim(0, 255)
        frame = {"edgecolor": colours[labels[index]], "linewidth": 1.8, "boxstyle": "square,pad=0.1"}
        axis.add_artist(AnnotationBbox(thumbnail, points[index], pad=0.1, bboxprops=frame))
    if ax is None:
        handles = [Line2D([], [], color=c, lw=4, label=n) for c, n in zip(colours, class_names, strict=False)]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.5)
    present = np.unique(labels)
    names = [class_names[label] for label in present]
    style.write_names(axis, names, strongholds(points, labels, present), on=True, fontsize=11, fontweight="bold")
    return figure


def feature_maps(layers: Mapping[str, np.ndarray], image: np.ndarray) -> Figure:
    """What filters answer to one image: a row a layer, the image beside the first.

    Parameters
    ----------
    layers : mapping of name to ndarray, shape (h, w, channels), float
        Activations. Each channel has a scale of its own, from 0 (white; negative values too) to its highest value;
        one that is nowhere positive is called silent.
    image : ndarray, shape (28, 28) or (28, 28, 1), values 0 to 255
    """
    figure, axes = plt.subplots(len(layers), 2, figsize=(8, 1.8 * len(layers)), width_ratios=(1, 6.6), squeeze=False)
    for (name, maps), (left, right) in zip(layers.items(), axes, strict=True):
        channels = np.moveaxis(np.asarray(maps, dtype=float), -1, 0)
        peaks = channels.max(axis=(1, 2))
        captions = [f"{number}" if peak > 0 else f"{number} silent" for number, peak in enumerate(peaks)]
        scaled = channels / np.where(peaks > 0, peaks, 1)[:, None, None]
        image_grid(scaled, captions, len(channels), (0, 1), "Blues", ax=right)
        right.set_title(name)
        left.axis("off")
    draw(axes[0, 0], np.squeeze(image))
    axes[0, 0].set_title("input", loc="center", fontsize=9)
    return figure


def heat_map_overlays(images: np.ndarray, maps: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """Heat maps laid over the images they explain: columns images, rows methods, the plain images on top.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1) or (n, 28, 28), values 0 to 255
        Ten at most fit the page.
    maps : mapping of method to ndarray, shape (n, h, w), values 0 to 1
        A map of lower resolution is stretched over the image and interpolated; one of zeros is called so.
    labels : sequence of str, length n
        Text above each image.

    Returns
    -------
    Figure
        One axes a cell, one colour bar for all.

    Raises
    ------
    ValueError
        If a map has values outside 0 to 1.
    """
    for name, values in maps.items():
        if np.min(values) < 0 or np.max(values) > 1:
            raise ValueError(f"maps[{name!r}] runs from {np.min(values):.3g} to {np.max(values):.3g}; scale to 0 to 1")
    figure, cells = _cells(images, maps, labels)
    for axis, image, values in cells:
        heat = _overlay(axis, image, values)
    figure.colorbar(heat, ax=figure.axes, label="Importance (highest = 1)", shrink=0.8, pad=0.02)
    return figure


def evidence_maps(images: np.ndarray, maps: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """Evidence for (red) and against (blue) a class, within the outlines of images: columns images, rows questions.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1) or (n, 28, 28), values 0 to 255
    maps : mapping of question to ndarray, shape (n, h, w), any real numbers
        In logits. All share one scale, symmetrical around 0, so that they can be compared; the sum of each is written
        below it.
    labels : sequence of str, length n
        Text above each image.

    Returns
    -------
    Figure
        The plain images in the first row, one axes a cell, one colour bar for all.
    """
    # The very largest values would leave all others pale.
    limit = max(float(np.percentile(np.abs(np.concatenate([np.ravel(one) for one in maps.values()])), 99)), 1e-9)
    figure, cells = _cells(images, maps, labels)
    for axis, image, values in cells:
        extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
        heat = axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", extent=extent)
        _outline(axis, image)
        style.bare(axis)
        axis.set_xlabel(f"sum {style.signed(np.sum(values))}", fontsize=8, labelpad=2)
    figure.colorbar(heat, ax=figure.axes, label="Evidence (logits)", shrink=0.7, pad=0.02, extend="both")
    return figure


def answer(images, truth, probabilities, maps, class_names, how=""):
    """What a network answers to an image as it is and disturbed, and where it looks in the disturbed one.

    Parameters
    ----------
    images : ndarray, shape (2, 28, 28) or (2, 28, 28, 1), values 0 to 255
        The image as it is, and disturbed.
    truth : int
        Its class.
    probabilities : ndarray, shape (2, classes), values 0 to 1
        The answer to each of the two.
    maps : mapping of title to ndarray, shape (h, w), values 0 to 1
        Two heat maps, drawn over the disturbed image.
    class_names : sequence of str
    how : str
        How the maps were made; stands below the first.

    Returns
    -------
    Figure
        Axes: the two images, the two maps, and a bar for each class and image.
    """
    images, probabilities = as_images(images), np.asarray(probabilities)
    figure, axes = plt.subplot_mosaic("ABE;CDE", figsize=(8, 4.4), width_ratios=(1, 1, 1.15))
    for cell, image, name, chances in zip("AB", images, ("as it is", "disturbed"), probabilities, strict=True):
        draw(axes[cell], image)
        right = chances.argmax() == truth
        said = f"{name}: {'✓' if right else '✗'} {class_names[chances.argmax()]} {chances.max():.0%}"
        colour = style.RIGHT if right else style.WRONG
        axes[cell].set_title(said, fontsize=9, fontweight="normal", loc="center", color=colour)
    for cell, (title, values) in zip("CD", maps.items(), strict=True):
        _overlay(axes[cell], images[1], values)
        axes[cell].set_title(title, fontsize=9, fontweight="normal", loc="center")
    axes["C"].set_xlabel(how, fontsize=8, color=style.GREY, loc="left")
    bars, rows = axes["E"], np.arange(len(class_names))
    bars.barh(rows - 0.2, probabilities[0], 0.38, color="white", edgecolor=style.GREY, label="as it is")
    bars.barh(rows + 0.2, probabilities[1], 0.38, color=style.RIGHT, label="disturbed")
    style.rows(bars, class_names)
    bars.set(xlim=(0, 1), xlabel="Probability")
    style.percent(bars.xaxis)
    bars.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def _overlay(axis, image, values):
    """A pale image with a heat map over it, which is returned; one of zeros is called so."""
    strength = np.linspace(0, 1, 256)
    shades = plt.get_cmap("YlOrRd")(strength)
    shades[:, 3] = strength**0.6  # where a map says nothing, the image is seen
    draw(axis, image, palest=640)  # paler, so that a dark garment does not change the colours over it
    _outline(axis, image)
    look = {"vmin": 0, "vmax": 1, "interpolation": "bilinear", "extent": axis.images[0].get_extent()}
    heat = axis.imshow(values, cmap=ListedColormap(shades), **look)
    if not np.any(values):
        look = {"ha": "center", "va": "center", "fontsize": 8, "path_effects": style.HALO}
        axis.text(0.5, 0.5, "no\npositive\nevidence", transform=axis.transAxes, **look)
    return heat


def _outline(axis, image):
    """The edge of the garment, whose pixels are the non-zero ones, a little smoothed."""
    garment, level = gaussian_filter((image > 0).astype(float), 1), 0.5
    if np.quantile(garment, 0.1) > 0.05:  # under noise, or a mean of several images: the background is not zero
        garment, level = gaussian_filter(image.astype(float), 1), 20
    axis.contour(garment, levels=[level], colors="#333333", linewidths=0.7)


def _cells(images, maps, labels):
    """A figure with the images and their labels in its first row, and each further axes with its image and its map."""
    images = as_images(images)
    size, rows, columns = min(1.2 if len(images) > 3 else 2.2, 6.4 / len(images)), len(maps) + 1, len(images)
    figure, axes = plt.subplots(rows, columns, figsize=(1.6 + size * columns, 0.4 + 1.1 * size * rows), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for axis, image, label in zip(axes[0], images, labels, strict=True):
        draw(axis, image)
        axis.set_title(label, fontsize=8, fontweight="normal", loc="center")
    for axis, name in zip(axes[:, 0], ("image", *maps), strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    rows = zip(axes[1:], maps.values(), strict=True)
    return figure, [cell for row, several in rows for cell in zip(row, images, several, strict=True)]


def strongholds(points, labels, present):
    """Where each class of `present` prevails, shape (classes, 2).

    A median could lie in another class where a class is in several pieces.
    """
    low, high, cells = points.min(axis=0), points.max(axis=0), 40
    sides = np.stack([low, high], axis=1)
    grid = [np.histogram2d(*points[labels == label].T, bins=cells, range=sides)[0] for label in present]
    density = np.stack([gaussian_filter(counts, sigma=2) for counts in grid])
    prevalence = density**2 / np.maximum(density.sum(axis=0), 1e-9)
    peaks = np.stack([np.unravel_index(np.argmax(one), one.shape) for one in prevalence])
    return low + (peaks + 0.5) / cells * (high - low)

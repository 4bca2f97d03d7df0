"""Every figure of the study: functions take arrays and return a Matplotlib Figure.

One style sheet (`use_style`) serves them all. Images are drawn dark on white (`gray_r`), pixel by pixel and without
ticks. Ten classes are too many for colour alone, so points carry a marker of their own or the class name stands in the
cluster. Nothing here reads files, trains or imports the rest of the package; names of classes are an argument.

Figures are made with pyplot, so a notebook shows them; a program that makes many closes each with `plt.close(fig)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.ndimage import gaussian_filter

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
RIGHT, WRONG = "#0072B2", "#D55E00"

STYLE = {
    "figure.figsize": (8.0, 4.5),
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 120,
    "font.family": "DejaVu Sans",  # ships with Matplotlib, so figures are the same on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.prop_cycle": plt.cycler(color=RUN_COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
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

_HALO = (withStroke(linewidth=3, foreground="white"),)


def use_style() -> None:
    """Apply the study's style to every figure made afterwards in this process."""
    plt.rcParams.update(STYLE)


# ---------------------------------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------------------------------


def class_balance(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Images of each class in each split, as bars (number) over pies (share).

    Parameters
    ----------
    counts : mapping of split name to ndarray, shape (classes,)
        Number of images of each class.
    class_names : sequence of str, length classes

    Returns
    -------
    Figure
        Two axes a split: bars in the upper row, the pie below.

    Raises
    ------
    ValueError
        If `counts` is empty, or a split does not have one count a class.
    """
    columns = len(_filled(counts, "counts"))
    colours = _colours(class_names)
    figure, axes = plt.subplots(2, columns, figsize=(8, 5.8), squeeze=False, height_ratios=(1.15, 1))
    for (split, values), bars, pie in zip(counts.items(), axes[0], axes[1], strict=True):
        values = _one_a_class(values, class_names, f"counts[{split!r}]")
        bars.barh(range(len(values)), values, color=colours)
        bars.set_yticks(range(len(values)), class_names if bars is axes[0, 0] else [])
        bars.invert_yaxis()
        bars.grid(axis="y", visible=False)
        bars.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        bars.set_title(f"{split}: {int(values.sum()):,} images")
        bars.set_xlabel("Images")
        pie.pie(
            values,
            labels=list(class_names),
            colors=colours,
            startangle=90,
            counterclock=False,
            labeldistance=1.08,
            textprops={"fontsize": 7.5},
            wedgeprops={"edgecolor": "white", "linewidth": 0.8},
        )
    return figure


def sample_grid(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], columns: int = 12) -> Figure:
    """The first images of each class, one row a class.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    labels : ndarray of int, shape (n,)
    class_names : sequence of str
    columns : int
        Images a class; a class with fewer leaves the rest of its row empty.

    Returns
    -------
    Figure
    """
    images, labels = _images_and_labels(images, labels, class_names)
    blank = np.full((columns, *images.shape[1:]), np.nan)
    rows = []
    for label in range(len(class_names)):
        found = images[labels == label][:columns]
        row = blank.copy()
        row[: len(found)] = found
        rows.append(row)
    figure, axis = plt.subplots(figsize=(8, 0.4 + 7.0 * len(class_names) / columns))
    _mosaic(axis, np.concatenate(rows), columns, row_names=class_names)
    return figure


def mean_and_spread(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Mean and standard deviation of every pixel, for each class.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    labels : ndarray of int, shape (n,)
        Every class must occur.
    class_names : sequence of str

    Returns
    -------
    Figure
        Means above, standard deviations below; each half with a scale of its own.

    Raises
    ------
    ValueError
        If a class has no image.
    """
    images, labels = _images_and_labels(images, labels, class_names)
    missing = [name for label, name in enumerate(class_names) if not np.any(labels == label)]
    if missing:
        raise ValueError(f"labels: no image of {', '.join(missing)}; a mean needs at least one image a class")
    groups = [images[labels == label].astype(np.float32) for label in range(len(class_names))]
    columns = (len(groups) + 1) // 2
    figure, axes = plt.subplots(2, 1, figsize=(8, 7.6))
    for axis, title, pictures in (
        (axes[0], "Mean", np.stack([group.mean(axis=0) for group in groups])),
        (axes[1], "Spread (standard deviation)", np.stack([group.std(axis=0) for group in groups])),
    ):
        picture = _mosaic(axis, pictures, columns, captions=class_names, high=float(pictures.max()))
        axis.set_title(title, pad=18)
        figure.colorbar(picture, ax=axis, label="Grey levels", shrink=0.9, pad=0.02)
    return figure


def pixel_statistics(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Figure:
    """How dark pixels are overall, and how much ink the images of each class hold.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), dtype uint8
    labels : ndarray of int, shape (n,)
    class_names : sequence of str

    Returns
    -------
    Figure
        Left the share of pixels at each intensity (logarithmic), right a box a class: the mean intensity of its images,
        whiskers from the 5th to the 95th percentile.
    """
    images, labels = _images_and_labels(images, labels, class_names)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), width_ratios=(1, 1.15))
    share = np.bincount(images.astype(np.uint8).ravel(), minlength=256) / images.size
    left.stairs(share, np.arange(257), fill=True, color=RUN_COLOURS[0])
    left.set(yscale="log", xlim=(0, 256), xticks=(0, 64, 128, 192, 255))
    left.set_xlabel("Pixel intensity (0 background, 255 darkest)")
    left.set_ylabel("Share of pixels")
    left.set_title("Intensities of all pixels")
    left.annotate(
        f"{share[0]:.0%} are 0", (0.5, share[0]), xytext=(8, -2), textcoords="offset points", va="top", fontsize=9
    )

    ink = images.reshape(len(images), -1).mean(axis=1)
    boxes = right.boxplot(
        [ink[labels == label] for label in range(len(class_names))],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        widths=0.65,
        medianprops={"color": "black", "linewidth": 1.5},
    )
    for box, colour in zip(boxes["boxes"], _colours(class_names), strict=True):
        box.set(facecolor=colour, edgecolor="#333333")
    right.set_yticks(range(1, len(class_names) + 1), class_names)
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    right.set_xlabel("Mean intensity of an image (grey levels)")
    right.set_title("Ink by class")
    return figure


def image_pairs(
    first: np.ndarray, second: np.ndarray, captions: Sequence[str], row_names: Sequence[str] = ("First", "Second")
) -> Figure:
    """Pairs of images one above the other, to compare by eye.

    Parameters
    ----------
    first, second : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    captions : sequence of str, length n
        Text above each pair.
    row_names : sequence of two str

    Returns
    -------
    Figure
    """
    first, second = _images(first, "first"), _images(second, "second")
    if first.shape != second.shape:
        raise ValueError(
            f"first has shape {first.shape} and second {second.shape}; pass as many of one as of the other"
        )
    _same_length(captions, first, "captions", "images")
    figure, axis = plt.subplots(figsize=(8, 0.7 + 2 * 7.2 / len(first)))
    _mosaic(axis, np.concatenate([first, second]), len(first), row_names=row_names)
    for column, caption in enumerate(captions):
        axis.text(_centre(column), -2, caption, ha="center", va="bottom", fontsize=8, linespacing=1.15)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Projections
# ---------------------------------------------------------------------------------------------------------------------


def pca_spectrum(ratios: np.ndarray, marks: Sequence[float] = (0.8, 0.9, 0.95, 0.99)) -> Figure:
    """Variance explained by each principal component, and by the first k together.

    Parameters
    ----------
    ratios : ndarray, shape (components,), values 0 to 1
        Share of the variance of each component, largest first.
    marks : sequence of float between 0 and 1
        Shares whose component count is marked; one that all components together do not reach is left out.

    Returns
    -------
    Figure
        Left individual, right cumulative.
    """
    ratios = np.asarray(ratios, dtype=float)
    if ratios.ndim != 1 or len(ratios) == 0:
        raise ValueError(f"ratios has shape {ratios.shape}; expected one share a component, shape (components,)")
    number = np.arange(1, len(ratios) + 1)
    cumulative = np.cumsum(ratios)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    left.plot(number, ratios, color=RUN_COLOURS[0])
    left.set(xscale="log", yscale="log", xlabel="Component", ylabel="Share of variance", title="Each component")
    # The last components explain next to nothing; without a floor they would take up most of the axis.
    left.set_ylim(bottom=max(1e-6, ratios[ratios > 0].min() / 2))

    right.plot(number, cumulative, color=RUN_COLOURS[0])
    right.set(ylim=(0, 1.05), xlabel="Components kept", ylabel="Share of variance", title="Together")
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for mark in marks:
        if mark > cumulative[-1] + 1e-9:
            continue
        count = min(int(np.searchsorted(cumulative, mark)) + 1, len(ratios))
        right.plot([count], [mark], "o", color=RUN_COLOURS[1], markersize=5)
        right.annotate(f"{mark:.0%}: {count}", (count, mark), xytext=(5, -11), textcoords="offset points", fontsize=9)
    return figure


def projection_2d(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    axis_names: Sequence[str] = ("Component 1", "Component 2"),
) -> Figure:
    """Points in the plane, a colour and a marker a class, each name where its class prevails.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        A few thousand at most; more hide one another.
    labels : ndarray of int, shape (n,)
    class_names : sequence of str, at most ten
    axis_names : sequence of two str

    Returns
    -------
    Figure
    """
    points, labels = _points_and_labels(points, labels, class_names, 2)
    figure, axis = plt.subplots(figsize=(8, 6))
    for label, colour in enumerate(_colours(class_names)):
        chosen = points[labels == label]
        axis.scatter(
            *chosen.T, s=14, c=colour, marker=CLASS_MARKERS[label], alpha=0.55, linewidths=0, label=class_names[label]
        )
    axis.set(xlabel=axis_names[0], ylabel=axis_names[1])
    _name_clusters(axis, points, labels, class_names)
    return figure


def projection_3d(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    axis_names: Sequence[str] = ("Component 1", "Component 2", "Component 3"),
    view: tuple[float, float] = (20, -60),
) -> Figure:
    """Points in space, a colour and a marker a class.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        A few thousand at most.
    labels : ndarray of int, shape (n,)
    class_names : sequence of str, at most ten
    axis_names : sequence of three str
    view : tuple of float
        Elevation and azimuth in degrees.

    Returns
    -------
    Figure
    """
    points, labels = _points_and_labels(points, labels, class_names, 3)
    figure = plt.figure(figsize=(8, 6.4))
    axis = figure.add_subplot(projection="3d")
    for label, colour in enumerate(_colours(class_names)):
        chosen = points[labels == label]
        axis.scatter(*chosen.T, s=10, c=colour, marker=CLASS_MARKERS[label], alpha=0.6, linewidths=0)
    axis.view_init(*view)
    # Matplotlib leaves a wide margin above a box in space; a flat box fills the figure better.
    axis.set_box_aspect((4, 4, 2.8), zoom=1.0)
    axis.set(xlabel=axis_names[0], ylabel=axis_names[1], zlabel=axis_names[2])
    handles = _class_handles(class_names)
    figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.3)
    return figure


def components(vectors: np.ndarray, ratios: np.ndarray | None = None, columns: int = 6) -> Figure:
    """Principal components as images: where a component adds ink (brown) and where it takes it away (violet).

    Parameters
    ----------
    vectors : ndarray, shape (k, 784) or (k, 28, 28)
    ratios : ndarray, shape (k,), optional
        Share of the variance of each, written above its image.
    columns : int

    Returns
    -------
    Figure
        One colour scale for all, symmetric about zero.
    """
    vectors = _images(_square(vectors, "vectors"), "vectors")
    captions = [f"{k}" for k in range(1, len(vectors) + 1)]
    if ratios is not None:
        _same_length(ratios, vectors, "ratios", "vectors")
        captions = [f"{k}: {ratio:.1%}" for k, ratio in enumerate(ratios, start=1)]
    limit = float(np.abs(vectors).max())
    rows = -(-len(vectors) // columns)
    figure, axis = plt.subplots(figsize=(8, 0.3 + 1.42 * rows))
    picture = _mosaic(axis, vectors, columns, captions=captions, low=-limit, high=limit, colours="PuOr_r")
    figure.colorbar(picture, ax=axis, label="Weight", shrink=0.9, pad=0.02)
    return figure


def reconstructions(originals: np.ndarray, rebuilt: Mapping[int, np.ndarray], names: Sequence[str]) -> Figure:
    """Images beside what is left of them when only k components are kept.

    Parameters
    ----------
    originals : ndarray, shape (n, 784), (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    rebuilt : mapping of k to ndarray of the same shape
        Values outside 0 to 255, which a linear method yields, are drawn as the nearer of the two.
    names : sequence of str, length n
        Names of the rows.

    Returns
    -------
    Figure
        A row an image: the original, then each k in the order given.
    """
    stacks = [_images(_square(originals, "originals"), "originals")]
    for k, images in _filled(rebuilt, "rebuilt").items():
        images = _images(_square(images, f"rebuilt[{k}]"), f"rebuilt[{k}]")
        if images.shape != stacks[0].shape:
            raise ValueError(f"rebuilt[{k}] has shape {images.shape}, the originals {stacks[0].shape}; they must agree")
        stacks.append(images)
    _same_length(names, stacks[0], "names", "originals")
    columns = len(stacks)
    figure, axis = plt.subplots(figsize=(8, 0.5 + 6.9 * len(names) / columns))
    # (stack, image) to (image, stack): a row of the mosaic is one image
    _mosaic(axis, np.stack(stacks, axis=1).reshape(-1, *stacks[0].shape[1:]), columns, row_names=names)
    for column, caption in enumerate(["original", *(f"k = {k}" for k in rebuilt)]):
        axis.text(_centre(column), -2, caption, ha="center", va="bottom", fontsize=9)
    return figure


def embedding_map(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    images: np.ndarray | None = None,
    shown: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Map of all points of an embedding, class names in the clusters, some points as thumbnails.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        Any number; they are drawn in a shuffled order, so that no class covers another, and rasterised.
    labels : ndarray of int, shape (n,)
    class_names : sequence of str, at most ten
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), optional
        The images behind the points; needed for thumbnails.
    shown : ndarray of int, optional
        Indices of the points to draw as thumbnails, framed in the colour of their class.
    title : str

    Returns
    -------
    Figure
        Without axis lines: position and scale of an embedding have no meaning of their own.
    """
    points, labels = _points_and_labels(points, labels, class_names, 2)
    colours = np.array(_colours(class_names))
    order = np.random.default_rng(0).permutation(len(points))
    figure, axis = plt.subplots(figsize=(8, 8))
    axis.scatter(
        *points[order].T,
        s=float(np.clip(120_000 / len(points), 1.8, 12)),
        c=colours[labels[order]],
        alpha=0.7 if shown is None else 0.35,
        linewidths=0,
        rasterized=True,
    )
    axis.set_aspect("equal")
    axis.axis("off")
    axis.set_title(title)
    if shown is not None:
        if images is None:
            raise ValueError("shown: thumbnails need the images behind the points; pass images too")
        images = _images(images)
        _same_length(images, points, "images", "points")
        for index in shown:
            thumbnail = OffsetImage(images[index], zoom=0.95, cmap="gray_r", interpolation="nearest")
            thumbnail.image.set_clim(0, 255)
            frame = {"edgecolor": colours[labels[index]], "linewidth": 1.8, "boxstyle": "square,pad=0.1"}
            axis.add_artist(AnnotationBbox(thumbnail, points[index], pad=0.1, bboxprops=frame))
        handles = [Line2D([], [], color=c, lw=4, label=n) for c, n in zip(colours, class_names, strict=False)]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.5)
    _name_clusters(axis, points, labels, class_names)
    return figure


def neighbour_confusion(shares: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Which classes the nearest neighbours of each class belong to.

    Parameters
    ----------
    shares : ndarray, shape (classes, classes), values 0 to 1
        Row i: shares of the neighbours of images of class i that belong to each class.
    class_names : sequence of str

    Returns
    -------
    Figure
    """
    shares = _square_matrix(shares, class_names, "shares")
    figure, axis = plt.subplots(figsize=(7.6, 6.4))
    percent = np.rint(100 * shares).astype(int)
    texts = np.where(percent > 0, percent.astype(str), "")
    picture = _matrix(axis, shares, texts, class_names)
    axis.set(xlabel="Class of the neighbours", ylabel="Class of the image")
    bar = figure.colorbar(picture, ax=axis, label="Share of neighbours (%)", shrink=0.85, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Training and evaluation
# ---------------------------------------------------------------------------------------------------------------------


def learning_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    metrics: Sequence[str] = ("loss", "accuracy"),
    learning_rate: bool = False,
) -> Figure:
    """Training (dashed) and validation (solid) metrics by epoch, one panel a metric and one colour a run.

    Parameters
    ----------
    histories : mapping of run name to history
        A history maps a metric to its values by epoch, the first at index 0; validation values are under
        ``"val_" + metric`` and may be missing. Runs may differ in length.
    metrics : sequence of str
        Metrics to draw; accuracies, as fractions, are shown in per cent.
    learning_rate : bool
        Add a panel below with the learning rate of the runs that recorded ``"learning_rate"``.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a metric is in none of the histories, or `learning_rate` was asked for and no run recorded it.
    """
    _filled(histories, "histories")
    wanted = [*metrics, "learning_rate"] if learning_rate else list(metrics)
    recorded = sorted({key for history in histories.values() for key in history})
    for metric in wanted:
        if metric not in recorded and f"val_{metric}" not in recorded:
            raise ValueError(f"metrics: no history holds {metric!r}; they hold {', '.join(recorded)}")

    panels = [list(metrics)] + ([["learning_rate"] * len(metrics)] if learning_rate else [])
    figure, axes = plt.subplot_mosaic(
        panels, figsize=(8, 5.6 if learning_rate else 3.9), height_ratios=[3, 1.2][: len(panels)]
    )
    for (name, history), colour in zip(histories.items(), _run_colours(histories), strict=True):
        for metric in wanted:
            for key, style in ((metric, "--"), (f"val_{metric}", "-")):
                values = history.get(key)
                if values is None or len(values) == 0:
                    continue
                solid = metric == "learning_rate"
                if solid and len(values) > 1 and values[-1] == 0:  # zero is not on a logarithmic axis
                    values = values[:-1]
                axes[metric].plot(
                    range(1, len(values) + 1),
                    values,
                    "-" if solid else style,
                    color=colour,
                    linewidth=1.4 if style == "--" and not solid else 2,
                    marker="." if len(values) == 1 else None,  # one epoch has no line
                    label=f"{name}, {'training' if key == metric else 'validation'}",
                )
    for metric in wanted:
        axis = axes[metric]
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_xlabel("Epoch")
        axis.set_title(metric.replace("_", " ").capitalize())
        if "accuracy" in metric:
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        if metric == "learning_rate" and any(max(line.get_ydata()) > 0 for line in axis.lines):
            axis.set_yscale("log")
    handles = [Line2D([], [], color=c, lw=3, label=n) for n, c in zip(histories, _run_colours(histories), strict=True)]
    handles += [Line2D([], [], color="#555555", ls=ls, label=n) for n, ls in (("training", "--"), ("validation", "-"))]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    return figure


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], title: str = "") -> Figure:
    """Confusion matrix: counts in the cells, colour by the share of the true class.

    Parameters
    ----------
    matrix : ndarray of int, shape (classes, classes)
        Rows are true classes, columns predicted ones, as scikit-learn gives it.
    class_names : sequence of str
    title : str

    Returns
    -------
    Figure
    """
    figure = _confusion_panels({title: matrix}, class_names, figsize=(7.6, 6.4), columns=1, font=9)
    return figure


def confusion_matrices(matrices: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Confusion matrices of several models side by side, two a row.

    Parameters
    ----------
    matrices : mapping of title to ndarray of int, shape (classes, classes)
        Rows are true classes, columns predicted ones.
    class_names : sequence of str

    Returns
    -------
    Figure
    """
    columns = min(2, len(_filled(matrices, "matrices")))
    rows = -(-len(matrices) // columns)
    return _confusion_panels(matrices, class_names, figsize=(9.6, 0.6 + 4.7 * rows), columns=columns, font=7.5)


def predictions_grid(
    images: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    class_names: Sequence[str],
    probabilities: np.ndarray | None = None,
    columns: int = 6,
    reference: str = "true",
) -> Figure:
    """Images with the class a model predicted and, where it is wrong, the true one.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28) or (n, 28, 28, 1), values 0 to 255
    true, predicted : ndarray of int, shape (n,)
    class_names : sequence of str
    probabilities : ndarray, shape (n,) or (n, classes), values 0 to 1, optional
        Probability of the predicted class, or of every class.
    columns : int
    reference : str
        Word before the true class; such as "label" where it is in doubt.

    Returns
    -------
    Figure
        One axes an image; right and wrong differ in symbol as well as colour.
    """
    images, true = _images_and_labels(images, true, class_names)
    predicted = _labels(predicted, images, class_names, "predicted")
    if probabilities is not None:
        probabilities = np.asarray(probabilities)
        _same_length(probabilities, images, "probabilities", "images")
        if probabilities.ndim == 2:
            probabilities = probabilities[np.arange(len(images)), predicted]
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8, 8 * rows / columns * 1.32), squeeze=False)
    for axis in axes.flat[len(images) :]:
        axis.remove()
    for index, (image, axis) in enumerate(zip(images, axes.flat, strict=False)):
        right = true[index] == predicted[index]
        sure = "" if probabilities is None else f" {probabilities[index]:.0%}"
        text = f"{'✓' if right else '✗'} {class_names[predicted[index]]}{sure}"
        if not right:
            text += f"\n{reference}: {class_names[true[index]]}"
        _picture(axis, image)
        axis.set_title(text, fontsize=8, fontweight="normal", loc="center", color=RIGHT if right else WRONG)
        for spine in axis.spines.values():
            spine.set(visible=True, color=RIGHT if right else WRONG)
    return figure


def per_class_bars(values: Mapping[str, np.ndarray], class_names: Sequence[str], ylabel: str) -> Figure:
    """A number for each class and model as dots, one row a class.

    Parameters
    ----------
    values : mapping of model name to ndarray, shape (classes,)
    class_names : sequence of str
    ylabel : str
        What the numbers are, with the unit; it names the axis of values.

    Returns
    -------
    Figure
    """
    _filled(values, "values")
    table = np.stack([_one_a_class(v, class_names, f"values[{name!r}]") for name, v in values.items()])
    rows = np.arange(len(class_names))
    figure, axis = plt.subplots(figsize=(8, 4.8))
    axis.hlines(rows, table.min(axis=0), table.max(axis=0), color="#BBBBBB", linewidth=2, zorder=1)
    for index, (name, colour) in enumerate(zip(values, _run_colours(values), strict=True)):
        axis.scatter(table[index], rows, s=55, c=colour, marker=_run_marker(index), label=name, zorder=2)
    axis.set_yticks(rows, class_names)
    axis.invert_yaxis()
    axis.set_xlabel(ylabel)
    figure.legend(loc="outside upper center", ncols=min(4, len(values)))
    return figure


def accuracy_bars(
    names: Sequence[str],
    means: Sequence[float],
    intervals: np.ndarray,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Accuracy of each model as a dot with its interval.

    Parameters
    ----------
    names : sequence of str, length n
    means : sequence of float, length n, values 0 to 1
    intervals : ndarray, shape (n, 2), values 0 to 1
        Lower and upper end of each interval.
    references : mapping of str to float, optional
        Accuracies reported elsewhere. One under the name of a model is an open diamond in its row; any other is a
        dashed line across, with its name.

    Returns
    -------
    Figure
    """
    means, intervals = np.asarray(means, dtype=float), np.asarray(intervals, dtype=float)
    _same_length(means, names, "means", "names")
    if intervals.shape != (len(names), 2):
        raise ValueError(f"intervals has shape {intervals.shape}; expected lower and upper ends, ({len(names)}, 2)")
    if np.any(intervals[:, 0] > means) or np.any(means > intervals[:, 1]):
        raise ValueError("intervals: a mean lies outside its interval; pass (lower, upper) of each name in order")
    rows = np.arange(len(names))
    figure, axis = plt.subplots(figsize=(8, 1.3 + 0.42 * len(names)))
    errors = np.abs(intervals.T - means)
    axis.errorbar(
        means, rows, xerr=errors, fmt="o", color=RUN_COLOURS[0], capsize=4, markersize=7, label="measured here"
    )
    references = references or {}
    reported = {name: value for name, value in references.items() if name in list(names)}
    for row, mean in enumerate(means):  # above the dot, for a diamond may lie on either side of it
        axis.annotate(
            f"{mean:.2%}", (mean, row), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=9
        ).set_path_effects(_HALO)
    if reported:
        axis.scatter(
            list(reported.values()),
            [list(names).index(name) for name in reported],
            s=55,
            marker="D",
            facecolors="white",
            edgecolors=RUN_COLOURS[1],
            zorder=3,
            label="reported elsewhere",
        )
    for name, value in references.items():
        if name not in reported:
            axis.axvline(value, color=RUN_COLOURS[1], linestyle="--", linewidth=1.2)
            _write_above(axis, value, f"{name} {value:.1%}", color=RUN_COLOURS[1])
    axis.set_yticks(rows, names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.margins(x=0.05)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlabel("Accuracy")
    if reported:
        handles, texts = axis.get_legend_handles_labels()
        figure.legend(handles[::-1], texts[::-1], loc="outside upper center", ncols=2)
    return figure


def augmentations_grid(images_by_name: Mapping[str, np.ndarray]) -> Figure:
    """The same images under different augmentations, one row each.

    Parameters
    ----------
    images_by_name : mapping of augmentation name to ndarray, shape (k, 28, 28, 1), values 0 to 255

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If rows differ in their number of images.
    """
    rows = {name: _images(images, name) for name, images in _filled(images_by_name, "images_by_name").items()}
    lengths = {name: len(images) for name, images in rows.items()}
    columns = next(iter(lengths.values()))
    if set(lengths.values()) != {columns}:
        raise ValueError(f"images_by_name: every row needs the same number of images, these have {lengths}")
    figure, axis = plt.subplots(figsize=(8, 0.3 + 6.8 * len(rows) / columns))
    _mosaic(axis, np.concatenate(list(rows.values())), columns, row_names=list(rows))
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------------------------------------------------


def reliability_diagram(
    tables: Mapping[str, Mapping[str, np.ndarray]], errors: Mapping[str, float] | None = None
) -> Figure:
    """How often a model is right, by how sure it is; and how often it is that sure.

    Parameters
    ----------
    tables : mapping of name to table
        Such as before and after a temperature; columns ``low``, ``high``, ``images``, ``confidence`` and ``accuracy``
        of each bin, as `evaluation.reliability` gives them. Empty bins are left out.
    errors : mapping of name to float, optional
        Calibration errors in [0, 1] for the legend.

    Returns
    -------
    Figure
        Above accuracy against confidence with the diagonal of perfect calibration, below the share of images.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6.4), sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="#555555", linewidth=1, linestyle="--", label="perfectly calibrated")
    for index, (name, table) in enumerate(_filled(tables, "tables").items()):
        images = np.asarray(table["images"])
        filled = images > 0
        error = "" if errors is None else f" (calibration error {errors[name]:.1%})"
        colour = RUN_COLOURS[index % len(RUN_COLOURS)]
        above.plot(
            np.asarray(table["confidence"])[filled],
            np.asarray(table["accuracy"])[filled],
            color=colour,
            marker=_run_marker(index),
            markersize=6,
            label=f"{name}{error}",
        )
        edges = [*np.asarray(table["low"]), np.asarray(table["high"])[-1]]
        below.stairs(images / images.sum(), edges, color=colour, linewidth=1.8)
    above.set(ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1.02))
    below.set(xlabel="Confidence (probability of the predicted class)", ylabel="Share of images", ylim=(0, None))
    for axis in (above.xaxis, above.yaxis, below.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    above.legend(loc="upper left")
    return figure


def coverage_curves(curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Accuracy on the images that each model is surest of, by how many of them it answers.

    Parameters
    ----------
    curves : mapping of model name to table
        Columns ``coverage`` and ``accuracy``, both in [0, 1], as `evaluation.accuracy_coverage` gives them. The first
        2 % of the images, of which single ones would make the curve jump, are not drawn.

    Returns
    -------
    Figure
    """
    figure, axis = plt.subplots(figsize=(8, 4.8))
    for index, (name, curve) in enumerate(_filled(curves, "curves").items()):
        coverage, accuracy = np.asarray(curve["coverage"]), np.asarray(curve["accuracy"])
        drawn = coverage >= 0.02
        axis.plot(coverage[drawn], accuracy[drawn], label=name, **_run_line(index))
    axis.set(xlabel="Share of images answered, the surest first", ylabel="Accuracy on them", xlim=(0, 1))
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(PercentFormatter(1.0))
    figure.legend(loc="outside lower center", ncols=min(4, len(curves)))
    return figure


def robustness_curves(
    accuracies: Mapping[str, np.ndarray], corruptions: Sequence[str], clean: Mapping[str, float] | None = None
) -> Figure:
    """Accuracy by the strength of each corruption, one panel a corruption and one line a model.

    Parameters
    ----------
    accuracies : mapping of model name to ndarray, shape (corruptions, strengths), values 0 to 1
        Strengths count from 1.
    corruptions : sequence of str
    clean : mapping of model name to float, optional
        Accuracies on undisturbed images, drawn at strength 0.

    Returns
    -------
    Figure
    """
    columns = min(4, len(corruptions))
    rows = -(-len(corruptions) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8, 0.8 + 2.2 * rows), sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(corruptions) :]:
        axis.remove()
    for index, (name, table) in enumerate(_filled(accuracies, "accuracies").items()):
        table = np.asarray(table, dtype=float)
        if table.ndim != 2 or len(table) != len(corruptions):
            raise ValueError(
                f"accuracies[{name!r}] has shape {table.shape}; expected ({len(corruptions)}, strengths), a row for "
                f"each of {', '.join(corruptions)}"
            )
        strengths = np.arange(1, table.shape[1] + 1)
        if clean is not None:
            strengths, table = np.append(0, strengths), np.insert(table, 0, clean[name], axis=1)
        for axis, values in zip(axes.flat, table, strict=False):
            axis.plot(strengths, values, marker=_run_marker(index), markersize=4, label=name, **_run_line(index))
    for axis, corruption in zip(axes.flat, corruptions, strict=False):
        axis.set_title(corruption.capitalize())
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axis.set_ylim(0, 1)
    # A panel with none below it would lose the numbers of the shared axis.
    for axis in axes.flat[len(corruptions) - columns : len(corruptions)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel("Strength" if clean is None else "Strength (0: as it is)", fontsize=10)
    figure.supylabel("Accuracy", fontsize=10)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)))
    return figure


def robustness_matrix(accuracies: np.ndarray, row_names: Sequence[str], column_names: Sequence[str]) -> Figure:
    """Accuracies as a heat map: corruptions by strength, or models by corruption.

    Parameters
    ----------
    accuracies : ndarray, shape (rows, columns), values 0 to 1
    row_names, column_names : sequence of str

    Returns
    -------
    Figure
    """
    accuracies = np.asarray(accuracies, dtype=float)
    if accuracies.shape != (len(row_names), len(column_names)):
        raise ValueError(
            f"accuracies has shape {accuracies.shape}; the names need ({len(row_names)}, {len(column_names)})"
        )
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.42 * len(row_names)))
    picture = _heat_map(
        axis, accuracies, 100 * accuracies, row_names, column_names, fmt=".1f", cmap="cividis", vmin=0, vmax=1
    )
    axis.tick_params(axis="x", rotation=0)
    bar = figure.colorbar(picture, ax=axis, label="Accuracy (%)", pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    return figure


def significance_matrix(
    first: Sequence[str],
    second: Sequence[str],
    differences: Sequence[float],
    p_values: Sequence[float],
    level: float = 0.05,
) -> Figure:
    """Which model is better than which: p-values of all pairs, coloured where there is a difference.

    Parameters
    ----------
    first, second : sequence of str, length pairs
        The two models of each pair, as `evaluation.pairwise` gives them; every two models once.
    differences : sequence of float
        Accuracy of the first less that of the second.
    p_values : sequence of float
        Adjusted ones, where there are several pairs.
    level : float
        A difference is shown where the p-value is below.

    Returns
    -------
    Figure
        Rows against columns, in the order of the pairs.
    """
    for other, name in ((second, "second"), (differences, "differences"), (p_values, "p_values")):
        _same_length(other, first, name, "first")
    names = list(dict.fromkeys([*first, *second]))
    size = len(names)
    if len(first) != size * (size - 1) // 2 or size < 2:
        raise ValueError(f"first and second hold {len(first)} pairs; {size} models make {size * (size - 1) // 2}")
    verdicts, texts = np.full((size, size), np.nan), np.full((size, size), "", dtype=object)
    for one, other, difference, p_value in zip(first, second, differences, p_values, strict=True):
        row, column = names.index(one), names.index(other)
        verdicts[row, column] = np.sign(difference) if p_value < level else 0
        verdicts[column, row] = -verdicts[row, column]
        texts[row, column] = texts[column, row] = "<0.001" if p_value < 0.001 else f"{p_value:.2g}"
    figure, axis = plt.subplots(figsize=(min(9.6, 3 + 0.75 * size), 2 + 0.5 * size))
    meanings = {WRONG: "row is worse", "#EFEFEF": "no difference shown", RIGHT: "row is better"}
    colours = ListedColormap(list(meanings))
    lines = {"linewidths": 1, "linecolor": "white"}
    _heat_map(axis, verdicts, texts, names, names, font=8.5, cmap=colours, vmin=-1, vmax=1, **lines)
    axis.set_xticks(axis.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.grid(False)
    handles = [Line2D([], [], ls="", marker="s", ms=10, color=c, label=f"{text}") for c, text in meanings.items()]
    figure.legend(handles=handles[::-1], loc="outside upper center", ncols=3, title="adjusted p-values (exact McNemar)")
    return figure


def accuracy_against_cost(
    names: Sequence[str],
    costs: Sequence[float],
    accuracies: Sequence[float],
    intervals: np.ndarray,
    cost_label: str,
) -> Figure:
    """Accuracy of each model against what it costs, on a logarithmic axis.

    Parameters
    ----------
    names : sequence of str, length n
        Written beside the points, where they hide nothing.
    costs : sequence of float, positive
        Such as parameters, or seconds of training.
    accuracies : sequence of float, values 0 to 1
    intervals : ndarray, shape (n, 2), values 0 to 1
        Lower and upper end of each interval, drawn as error bars.
    cost_label : str
        Names the axis, with the unit.

    Returns
    -------
    Figure
        A grey line joins the models that no cheaper one matches.
    """
    costs, accuracies = np.asarray(costs, dtype=float), np.asarray(accuracies, dtype=float)
    intervals = np.asarray(intervals, dtype=float)
    for values, name in ((costs, "costs"), (accuracies, "accuracies")):
        _same_length(values, names, name, "names")
    if intervals.shape != (len(names), 2):
        raise ValueError(f"intervals has shape {intervals.shape}; expected lower and upper ends, ({len(names)}, 2)")
    if not (np.isfinite(costs) & (costs > 0)).all():
        raise ValueError("costs: a logarithmic axis needs positive numbers; leave out the models without a cost")
    figure, axis = plt.subplots(figsize=(8, 5.2))
    order = np.lexsort((-accuracies, costs))
    best = np.maximum.accumulate(accuracies[order])
    front = order[np.append(True, best[1:] > best[:-1])]
    axis.plot(costs[front], accuracies[front], color="#BBBBBB", linewidth=1.5, zorder=1)
    axis.errorbar(
        costs,
        accuracies,
        yerr=np.abs(intervals.T - accuracies),
        fmt="o",
        color=RUN_COLOURS[0],
        ecolor="#8FB8D4",
        capsize=3,
        markersize=6,
    )
    axis.set_xscale("log")
    axis.margins(x=0.14, y=0.1)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set(xlabel=cost_label, ylabel="Accuracy")
    _name_points(axis, names, costs, accuracies, intervals)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Explanations
# ---------------------------------------------------------------------------------------------------------------------


def feature_maps(maps: np.ndarray, columns: int = 8, title: str = "") -> Figure:
    """What every filter of a layer answers to one image.

    Parameters
    ----------
    maps : ndarray, shape (h, w, c), float
        Activations; channels are drawn in order, numbered from 0, on one common scale.
    columns : int
    title : str

    Returns
    -------
    Figure
    """
    maps = np.asarray(maps, dtype=float)
    if maps.ndim != 3:
        raise ValueError(f"maps has shape {maps.shape}; expected one image's activations (h, w, channels)")
    channels = np.moveaxis(maps, -1, 0)
    rows = -(-len(channels) // columns)
    figure, axis = plt.subplots(figsize=(8, 0.6 + 6.9 * rows / columns))
    low, high = float(min(0, maps.min())), float(max(maps.max(), np.finfo(float).tiny))
    picture = _mosaic(axis, channels, columns, low=low, high=high, colours="viridis")
    axis.set_title(title)
    figure.colorbar(picture, ax=axis, label="Activation", shrink=0.9, pad=0.02)
    return figure


def heat_map_overlays(
    images: np.ndarray, maps: Mapping[str, np.ndarray], labels: Sequence[str], across: bool = False
) -> Figure:
    """Heat maps laid over the images they explain: rows images, columns methods.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1) or (n, 28, 28), values 0 to 255
    maps : mapping of method name to ndarray, shape (n, h, w), values 0 to 1
        A map of lower resolution is stretched over the image and interpolated.
    labels : sequence of str, length n
        Text beside each image.
    across : bool
        Put the images side by side and the methods below one another; for more images than methods.

    Returns
    -------
    Figure
        The plain image in the first column (row), one axes a cell, one colour bar for all.
    """
    images = _maps_of_images(images, maps, labels)
    for name, values in maps.items():
        if np.min(values) < 0 or np.max(values) > 1:
            raise ValueError(
                f"maps[{name!r}]: values from {np.min(values):.3g} to {np.max(values):.3g}; scale to 0 to 1"
            )
    shades = plt.get_cmap("YlOrRd")(np.linspace(0, 1, 256))
    figure, axes, heat = _overlays(images, maps, labels, across, shades, np.linspace(0, 1, 256), vmin=0, vmax=1)
    label = "Importance" if across else "Importance (0 none, 1 highest in the image)"
    figure.colorbar(heat, ax=axes, label=label, shrink=0.8, pad=0.02, aspect=12 if across else 20)
    return figure


def evidence_maps(
    images: np.ndarray, maps: Mapping[str, np.ndarray], labels: Sequence[str], unit: str = "logits"
) -> Figure:
    """Evidence for (red) and against (blue) a class, laid over the images: rows images, columns questions.

    Parameters
    ----------
    images : ndarray, shape (n, 28, 28, 1) or (n, 28, 28), values 0 to 255
    maps : mapping of question to ndarray, shape (n, h, w), any real numbers
        All maps share one scale, symmetrical around 0, so that they can be compared.
    labels : sequence of str, length n
        Text beside each image.
    unit : str
        What the values are, for the colour bar.

    Returns
    -------
    Figure
        The plain image in the first column, one axes a cell, one colour bar for all.
    """
    images = _maps_of_images(images, maps, labels)
    # The very largest values would leave all others pale.
    limit = max(float(np.percentile(np.abs([value for one in maps.values() for value in np.ravel(one)]), 99.5)), 1e-9)
    shades = plt.get_cmap("RdBu_r")(np.linspace(0, 1, 256))
    strength = np.abs(np.linspace(-1, 1, 256))
    figure, axes, heat = _overlays(images, maps, labels, False, shades, strength, vmin=-limit, vmax=limit)
    figure.colorbar(heat, ax=axes, label=f"Evidence ({unit})", shrink=0.6, pad=0.02, extend="both")
    return figure


def faithfulness_curves(
    fraction: np.ndarray,
    insertion: Mapping[str, np.ndarray],
    deletion: Mapping[str, np.ndarray],
    baselines: Sequence[str] = (),
) -> Figure:
    """Probability of the explained class as pixels are inserted (left) and deleted (right), most important first.

    Parameters
    ----------
    fraction : ndarray, shape (steps,), values 0 to 1
        Share of the pixels.
    insertion, deletion : mapping of method name to ndarray, shape (steps,), values 0 to 1
        Mean curves, of the same methods.
    baselines : sequence of str
        Methods to draw dashed.

    Returns
    -------
    Figure
        The legend names the methods, in the order given.

    Raises
    ------
    ValueError
        If the two mappings name different methods, or a curve does not have one value a step.
    """
    if list(_filled(insertion, "insertion")) != list(deletion):
        raise ValueError(f"insertion has {', '.join(insertion)}; deletion has {', '.join(deletion)}; they must agree")
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.3), sharey=True)
    for axis, curves, what, better in (
        (axes[0], insertion, "inserted", "higher"),
        (axes[1], deletion, "deleted", "lower"),
    ):
        for (name, values), colour in zip(curves.items(), _run_colours(curves), strict=True):
            _same_length(values, fraction, f"curve {name!r}", "fraction")
            axis.plot(fraction, values, "--" if name in baselines else "-", color=colour, label=name)
        axis.set(xlabel=f"Pixels {what}", xlim=(0, 1), ylim=(0, None), title=f"{what.capitalize()}: {better} is better")
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes[0].set_ylabel("Probability of the explained class")
    figure.get_layout_engine().set(wspace=0.05)  # else 100 % of the one panel and 0 % of the other run together
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def sanity_cascade(correlations: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much of the maps is left as layers lose their weights, one line a method.

    Parameters
    ----------
    correlations : mapping of method name to mapping of layer name to float in [-1, 1]
        Rank correlation with the maps of the intact network, once the layer and all above it are randomised; layers
        from the top down, the same for each method.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If methods name different layers.
    """
    layers = list(next(iter(_filled(correlations, "correlations").values())))
    figure, axis = plt.subplots(figsize=(8, 4.3))
    places = range(len(layers) + 1)
    for index, ((name, values), colour) in enumerate(
        zip(correlations.items(), _run_colours(correlations), strict=True)
    ):
        if list(values) != layers:
            raise ValueError(
                f"correlations[{name!r}] has layers {', '.join(values)}; the first has {', '.join(layers)}"
            )
        axis.plot(places, [1.0, *values.values()], color=colour, marker=_run_marker(index), markersize=6, label=name)
    axis.axhline(0, color="#555555", linewidth=1)
    axis.set_xticks(places, ["none", layers[0], *(f"… and {layer}" for layer in layers[1:])])
    axis.set(xlabel="Layers randomised", ylabel="Rank correlation with the intact maps", ylim=(None, 1.05))
    figure.legend(loc="outside lower center", ncols=min(5, len(correlations)))
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Tuning
# ---------------------------------------------------------------------------------------------------------------------


def halving_curves(
    curves: Sequence[Sequence[float]], states: Sequence[str], rungs: Sequence[int], names: Sequence[str]
) -> Figure:
    """Learning curves of a study and where pruning cut them.

    Parameters
    ----------
    curves : sequence of n sequences of float, values 0 to 1
        Validation accuracy of each trial by epoch, the first at index 0; a trial that failed at once has none.
    states : sequence of str, length n
        "complete" for trials that were trained out; all others are drawn faint, their ends marked.
    rungs : sequence of int
        Epochs after which trials were judged.
    names : sequence of str, length n
        Of the trials; those of complete ones are in the legend.

    Returns
    -------
    Figure
    """
    _same_length(states, curves, "states", "curves")
    _same_length(names, curves, "names", "curves")
    drawn = [list(curve) for curve in curves if len(curve)]
    figure, axis = plt.subplots(figsize=(8, 4.6))
    for curve, state in zip(curves, states, strict=True):
        if state != "complete" and len(curve):
            epochs = range(1, len(curve) + 1)
            axis.plot(epochs, curve, color="#9A9A9A", linewidth=1, alpha=0.6)
            axis.plot(epochs[-1], curve[-1], "x", color="#6A6A6A", markersize=5, zorder=3)
    finished = sorted(
        ((curve, name) for curve, name, state in zip(curves, names, states, strict=True) if state == "complete"),
        key=lambda pair: -pair[0][-1],
    )
    for index, (curve, name) in enumerate(finished):
        axis.plot(
            range(1, len(curve) + 1),
            curve,
            color=RUN_COLOURS[index % len(RUN_COLOURS)],
            marker=_run_marker(index),
            markersize=5,
            label=name if index < 8 else None,
            zorder=4,
        )
    for rung in rungs:
        axis.axvline(rung, color="#555555", linewidth=1, linestyle=":")
        count = sum(len(curve) >= rung for curve in drawn)
        _write_above(axis, rung, f"{count} trial{'' if count == 1 else 's'}")
    values = np.concatenate([np.asarray(curve, dtype=float) for curve in drawn]) if drawn else np.array([0.0, 1.0])
    low, high = np.quantile(values, 0.05), values.max()  # the first epochs of the worst would squeeze all others
    axis.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
    axis.set(xlabel="Epoch", ylabel="Validation accuracy")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles, texts = axis.get_legend_handles_labels()
    if any(state != "complete" and len(curve) for curve, state in zip(curves, states, strict=True)):
        handles.append(Line2D([], [], color="#9A9A9A", linewidth=1, marker="x", markeredgecolor="#6A6A6A"))
        texts.append("pruned")
    figure.legend(handles, texts, loc="outside lower center", ncols=3)
    return figure


def factor_heatmaps(
    configurations: Sequence[Mapping[str, object]], accuracies: Sequence[float], pairs: Sequence[tuple[str, str]]
) -> Figure:
    """Mean accuracy for each combination of two factors, one panel a pair, one scale for all.

    Parameters
    ----------
    configurations : sequence of n mappings of factor to value
    accuracies : sequence of float, length n, values 0 to 1
    pairs : sequence of (str, str)
        Factors along the rows and along the columns of each panel. A cell is the mean over all configurations that
        have both values, whatever their other factors; it is empty if there is none.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a configuration lacks a factor.
    """
    _same_length(accuracies, configurations, "accuracies", "configurations")
    for factor in {factor for pair in pairs for factor in pair}:
        if missing := [values for values in configurations if factor not in values]:
            raise ValueError(f"pairs name {factor!r}, which configuration {dict(missing[0])} has not")
    panels = []
    for factors in pairs:
        rows, columns = (sorted({values[factor] for values in configurations}) for factor in factors)
        cells = [[[] for _ in columns] for _ in rows]
        for values, accuracy in zip(configurations, accuracies, strict=True):
            cells[rows.index(values[factors[0]])][columns.index(values[factors[1]])].append(accuracy)
        panels.append((rows, columns, np.array([[np.mean(cell) if cell else np.nan for cell in row] for row in cells])))
    low = min(np.nanmin(means) for *_, means in panels)
    high = max(np.nanmax(means) for *_, means in panels)
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(8, 1.4 + 0.55 * max(len(rows) for rows, *_ in panels)),
        squeeze=False,
        width_ratios=[len(columns) for _, columns, _ in panels],
    )
    for axis, (rows, columns, means), (row_factor, column_factor) in zip(axes[0], panels, pairs, strict=True):
        texts = np.vectorize(lambda mean: "" if np.isnan(mean) else f"{100 * mean:.2f}")(means)
        picture = _heat_map(axis, means, texts, rows, columns, cmap="Blues", vmin=low, vmax=high)
        axis.set(xlabel=column_factor, ylabel=row_factor)
    bar = figure.colorbar(picture, ax=list(axes[0]), pad=0.02, label="Validation accuracy (%)")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    return figure


def importance_bars(importances: Mapping[str, float]) -> Figure:
    """How much of the variation of accuracy each factor explains, the most important on top.

    Parameters
    ----------
    importances : mapping of factor to float, values 0 to 1

    Returns
    -------
    Figure
    """
    ranked = sorted(_filled(importances, "importances").items(), key=lambda pair: -pair[1])
    figure, axis = plt.subplots(figsize=(8, 1.1 + 0.36 * len(ranked)))
    rows = np.arange(len(ranked))
    axis.barh(rows, [share for _, share in ranked], color=RUN_COLOURS[0], height=0.65)
    for row, (_, share) in enumerate(ranked):
        axis.annotate(f"{share:.0%}", (share, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_yticks(rows, [name.replace("_", " ") for name, _ in ranked])
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlabel("Share of the variation of validation accuracy")
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Shared drawing
# ---------------------------------------------------------------------------------------------------------------------

_GAP = 2  # white pixels between the images of a mosaic


def _picture(axis, image: np.ndarray) -> None:
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _maps_of_images(images, maps, labels) -> np.ndarray:
    """The images, after checking that each has its label and one map of every kind."""
    images = _images(images)
    _same_length(labels, images, "labels", "images")
    for name, values in _filled(maps, "maps").items():
        if np.ndim(values) != 3 or len(values) != len(images):
            raise ValueError(f"maps[{name!r}] has shape {np.shape(values)}; expected ({len(images)}, h, w)")
    return images


def _overlays(images, maps, labels, across, shades, strength, **limits):
    """Maps over images, one axes a cell; returns the figure, its axes (image, kind of map) and the last map drawn.

    `shades` are the colours of the scale, and become the more transparent the less their `strength` in 0..1: where a
    map says nothing, the image is seen.
    """
    shades[:, 3] = strength**0.6
    kinds = ["image", *maps]
    shape = (len(kinds), len(images)) if across else (len(images), len(kinds))
    size = min(1.5, 6.6 / shape[1])
    figure, axes = plt.subplots(*shape, figsize=(1.3 + size * shape[1], 0.4 + size * shape[0]), squeeze=False)
    by_image = axes.T if across else axes
    height, width = images.shape[1:3]
    for row, (image, cells) in enumerate(zip(images, by_image, strict=True)):
        for axis in cells:
            _picture(axis, image)
        for axis in cells[1:]:
            axis.images[0].set_clim(0, 640)  # paler, so that a dark garment does not change the colours over it
        for axis, values in zip(cells[1:], maps.values(), strict=True):
            drawn = axis.imshow(
                values[row],
                cmap=ListedColormap(shades),
                interpolation="bilinear",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                **limits,
            )
    above, beside = (labels, kinds) if across else (kinds, labels)
    for axis, title in zip(axes[0], above, strict=True):
        axis.set_title(title, fontsize=8 if across else 9, fontweight="normal" if across else "bold", loc="center")
    for axis, text in zip(axes[:, 0], beside, strict=True):
        axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
    return figure, by_image, drawn


def _centre(column: int, size: int = 28) -> float:
    return column * (size + _GAP) + (size - 1) / 2


def _mosaic(axis, images, columns, row_names=(), captions=(), low=0.0, high=255.0, colours="gray_r"):
    """Images of one size in rows, as one picture: far faster than one axes each. Returns the AxesImage."""
    height, width = images.shape[1:]
    above = _GAP + (5 if len(captions) else 0)  # captions stand between the rows
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + above) - above, columns * (width + _GAP) - _GAP), np.nan)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + above), (index % columns) * (width + _GAP)
        canvas[top : top + height, left : left + width] = image
        if len(captions):
            axis.text(left + (width - 1) / 2, top - 1.2, captions[index], ha="center", va="bottom", fontsize=8.5)
    # NaN, the gaps, stays transparent whatever the colour map.
    picture = axis.imshow(np.ma.masked_invalid(canvas), cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([row * (height + above) + (height - 1) / 2 for row in range(len(row_names))], row_names)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return picture


def _name_clusters(axis, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Write each class name where the class prevails, names that would overlap moved apart.

    A median would do for round clusters, but a class in several pieces can have its median in another class.
    """
    present = [label for label in range(len(class_names)) if np.any(labels == label)]
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    scaled = (points - low) / span

    cells = 40
    grid = [np.histogram2d(*scaled[labels == label].T, bins=cells, range=((0, 1), (0, 1)))[0] for label in present]
    density = np.stack([gaussian_filter(counts, sigma=2) for counts in grid])
    prevalence = density**2 / np.maximum(density.sum(axis=0), 1e-9)
    peaks = np.array([np.unravel_index(np.argmax(one), one.shape) for one in prevalence])
    anchors = low + (peaks + 0.5) / cells * span
    places = (peaks + 0.5) / cells
    widths = np.array([0.018 * len(class_names[label]) for label in present])
    for _ in range(200):
        moved = False
        for i in range(len(present)):
            for j in range(i):
                apart = places[i] - places[j]
                if abs(apart[0]) < (widths[i] + widths[j]) / 2 and abs(apart[1]) < 0.045:
                    push = 0.003 if apart[1] >= 0 else -0.003
                    places[i, 1] += push
                    places[j, 1] -= push
                    moved = True
        if not moved:
            break
    for label, anchor, place in zip(present, anchors, places * span + low, strict=True):
        if np.linalg.norm((place - anchor) / span) > 0.02:
            axis.plot(*np.stack([anchor, place]).T, color="black", linewidth=0.8, path_effects=_HALO)
        axis.text(
            *place, class_names[label], ha="center", va="center", fontsize=11, fontweight="bold", path_effects=_HALO
        )


def _name_points(axis, names, x, y, intervals) -> None:
    """Write each name beside its point, at the place among many where it hides the least."""
    figure = axis.figure
    figure.draw_without_rendering()  # places the axes, so that places on the picture are known
    axis.set_autoscale_on(False)
    size = figure.dpi / 72
    to_pixels = axis.transData.transform
    points = to_pixels(np.column_stack([x, y]))
    ends = [to_pixels(np.column_stack([x, intervals[:, side]]))[:, 1] for side in (0, 1)]
    margin = 4 * size
    # Boxes (left, bottom, right, top) that no name should touch: the points with their error bars, then other names.
    taken = [
        np.array([px - margin, min(low, py - margin), px + margin, max(high, py + margin)])
        for (px, py), low, high in zip(points, *ends, strict=True)
    ]
    frame = axis.get_window_extent()
    renderer = figure.canvas.get_renderer()
    for name, (px, py) in zip(names, points, strict=True):
        text = axis.text(x[0], y[0], name, fontsize=8.5, va="bottom", in_layout=False, path_effects=_HALO)
        box = text.get_window_extent(renderer)
        best, least = None, np.inf
        for away in (7, 13, 20, 30, 42):
            for across, up in ((1, 0), (-1, 0), (1, 0.8), (-1, 0.8), (1, -0.8), (-1, -0.8), (0, 1), (0, -1)):
                at_x = px + across * away * size + (across - 1) / 2 * box.width
                at_y = py + up * away * size - box.height / 2
                place = np.array([at_x, at_y, at_x + box.width, at_y + box.height])
                hidden = sum(_overlap(place, other) for other in taken)
                inside = _overlap(place, np.array([frame.x0, frame.y0, frame.x1, frame.y1]))
                cost = hidden + 10 * (box.width * box.height - inside) + 0.01 * away
                if cost < least:
                    best, least, distance = place, cost, away
        taken.append(best)
        text.set_position(axis.transData.inverted().transform(best[:2]))
        if distance > 13:
            centre = ((best[0] + best[2]) / 2, (best[1] + best[3]) / 2)
            line = axis.transData.inverted().transform([centre, (px, py)])
            axis.plot(*line.T, color="#BBBBBB", linewidth=0.7, zorder=0)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(max(width, 0) * max(height, 0))


def _class_handles(class_names: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=name)
        for name, colour, marker in zip(class_names, _colours(class_names), CLASS_MARKERS, strict=False)
    ]


def _heat_map(axis, values, texts, row_names, column_names, font: float = 9, fmt: str = "", **settings):
    """Coloured cells with a text in each; what comes back serves a colour bar."""
    seaborn.heatmap(
        values,
        ax=axis,
        annot=texts,
        fmt=fmt,
        annot_kws={"fontsize": font},
        cbar=False,
        xticklabels=column_names,
        yticklabels=row_names,
        **settings,
    )
    axis.tick_params(length=0)
    axis.tick_params(axis="y", rotation=0)  # seaborn turns names that would fit upright
    return axis.collections[0]


def _write_above(axis, x: float, text: str, **style):
    """Text over the upper edge of an axis, centred at a value of x."""
    place = {"xycoords": ("data", "axes fraction"), "xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
    axis.annotate(text, (x, 1), fontsize=9, **place, **style)


def _matrix(axis, shares, texts, class_names, font: float = 9, rows: bool = True):
    row_names = class_names if rows else False
    picture = _heat_map(
        axis, shares, texts, row_names, class_names, font=font, cmap="Blues", vmin=0, vmax=1, square=True
    )
    axis.set_xticks(axis.get_xticks(), class_names, rotation=45, ha="right", rotation_mode="anchor")
    return picture


def _confusion_panels(matrices, class_names, figsize, columns, font) -> Figure:
    rows = -(-len(matrices) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False)
    for axis in axes.flat[len(matrices) :]:
        axis.remove()
    for index, ((title, matrix), axis) in enumerate(zip(matrices.items(), axes.flat, strict=False)):
        matrix = _square_matrix(matrix, class_names, f"matrix {title!r}" if title else "matrix")
        # A class that does not occur has an empty row, not a division by zero.
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        texts = np.where(matrix > 0, matrix.astype(str), "")
        first = index % columns == 0
        picture = _matrix(axis, shares, texts, class_names, font=font, rows=first)
        axis.set(xlabel="Predicted class", ylabel="True class" if first else "")
        axis.set_title(title)
    bar = figure.colorbar(
        picture, ax=list(axes.flat[: len(matrices)]), label="Share of the true class (%)", shrink=0.7, pad=0.02
    )
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    return figure


def _colours(class_names: Sequence[str]) -> list[str]:
    if not 0 < len(class_names) <= len(CLASS_COLOURS):
        raise ValueError(
            f"class_names has {len(class_names)} names; the palette serves 1 to {len(CLASS_COLOURS)} classes"
        )
    return list(CLASS_COLOURS[: len(class_names)])


def _run_colours(runs) -> list[str]:
    return [RUN_COLOURS[index % len(RUN_COLOURS)] for index in range(len(runs))]


def _run_marker(index: int) -> str:
    return RUN_MARKERS[index % len(RUN_MARKERS)]


def _run_line(index: int) -> dict[str, str]:
    """Colour and dashes of a line; when the colours have been used up they come again with other dashes."""
    dashes = ("-", "--", ":", "-.")[index // len(RUN_COLOURS) % 4]
    return {"color": RUN_COLOURS[index % len(RUN_COLOURS)], "linestyle": dashes}


# ---------------------------------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------------------------------


def _images(images: np.ndarray, name: str = "images") -> np.ndarray:
    """Images as (n, height, width), a last axis of one channel dropped."""
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or len(images) == 0:
        raise ValueError(f"{name} has shape {images.shape}; expected (n, 28, 28) or (n, 28, 28, 1) with n at least 1")
    return images


def _square(vectors: np.ndarray, name: str) -> np.ndarray:
    """Flat images as square ones; images pass as they are."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        return vectors
    side = round(vectors.shape[1] ** 0.5)
    if side * side != vectors.shape[1]:
        raise ValueError(f"{name} has shape {vectors.shape}; {vectors.shape[1]} pixels do not make a square image")
    return vectors.reshape(-1, side, side)


def _labels(labels: np.ndarray, points: np.ndarray, class_names: Sequence[str], name: str = "labels") -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(points),):
        raise ValueError(f"{name} has shape {labels.shape}; expected one label each of {len(points)}, ({len(points)},)")
    if len(labels) and (labels.min() < 0 or labels.max() >= len(class_names)):
        raise ValueError(
            f"{name} run from {labels.min()} to {labels.max()}, but class_names holds {len(class_names)} names"
        )
    return labels


def _images_and_labels(images, labels, class_names) -> tuple[np.ndarray, np.ndarray]:
    images = _images(images)
    return images, _labels(labels, images, class_names)


def _points_and_labels(points, labels, class_names, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != dimensions or len(points) == 0:
        raise ValueError(f"points has shape {points.shape}; expected (n, {dimensions}) with n at least 1")
    return points, _labels(labels, points, class_names)


def _square_matrix(matrix, class_names, name: str) -> np.ndarray:
    matrix = np.asarray(matrix)
    if matrix.shape != (len(class_names),) * 2:
        raise ValueError(
            f"{name} has shape {matrix.shape}; {len(class_names)} class names need {(len(class_names),) * 2}"
        )
    return matrix


def _one_a_class(values, class_names, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (len(class_names),):
        raise ValueError(f"{name} has shape {values.shape}; expected one value a class, ({len(class_names)},)")
    return values


def _same_length(one, other, one_name: str, other_name: str) -> None:
    if len(one) != len(other):
        raise ValueError(f"{one_name} has {len(one)} entries, {other_name} has {len(other)}; they must agree")


def _filled(mapping: Mapping, name: str) -> Mapping:
    if not mapping:
        raise ValueError(f"{name} is empty; pass at least one entry")
    return mapping

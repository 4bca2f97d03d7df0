"""The tour's explorer: choose an image, a network, a layer and a method, disturb the image, and see the answer change.

Widgets need somebody to move them. Where nobody can, as under papermill, one chosen state is shown instead.
"""

from __future__ import annotations

import html
import importlib.util
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fashion_mnist import explain, figures, robustness, training
from fashion_mnist.data import CLASS_NAMES
from fashion_mnist.networks import Network

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

    from fashion_mnist.study import Study

TRUSTED = ("HiResCAM",)  # passed the checks of 08_grad_cam, so it is offered first
DISTURBANCES = ("shift", "erasing", "noise")  # in the order in which they are made


def explore(
    run: Study, networks: Sequence[Network], images: Sequence[int], *, noise: int = 0, shift: int = 0, erasing: int = 0
) -> ipywidgets.VBox | None:
    """Let a reader choose what a network is shown and how it is explained; see what it answers, and why.

    Where ipywidgets is missing, or nobody is there to move a widget, the first image, network and method and the last
    layer are drawn, with a sentence that says so.

    Parameters
    ----------
    run : Study
    networks : sequence of Network
        With weights and at least one convolution. They are loaded at once, so that a change is quick.
    images : sequence of int
        Indices of test images to choose from.
    noise, shift, erasing : int in 0..5
        Strengths of the disturbances at the beginning, see `robustness.CORRUPTIONS`; 0 is none.

    Returns
    -------
    ipywidgets.VBox or None
        The controls, the answer in words and the picture, for the last line of a cell; None if one state was drawn.
    """
    layers = [[(_spoken(name), name) for name in layers_to_explain(network.model)] for network in networks]
    strengths = {"shift": shift, "erasing": erasing, "noise": noise}
    methods = [*TRUSTED, *(name for name in explain.METHODS if name not in TRUSTED)]
    if reason := _nobody():
        _, words = look(run, images[0], networks[0], layers[0][-1][1], methods[0], **strengths)
        run.say(f"*{reason}, so this is one chosen state. In Jupyter or Colab, run this cell to choose.* {words}")
        return None

    import ipywidgets as widgets

    labels = run.data.y_test
    choices = {
        "image": [(f"{CLASS_NAMES[labels[index]]}, test image {index}", int(index)) for index in images],
        "network": [(network.card["kind"], number) for number, network in enumerate(networks)],
        "layer": layers[0],
        "method": methods,
    }
    controls = {name: widgets.Dropdown(options=options, description=name) for name, options in choices.items()}
    controls["layer"].value = layers[0][-1][1]
    for name in DISTURBANCES:
        amounts, unit = enumerate(robustness.CORRUPTIONS[name], start=1), robustness.UNITS[name].split()[-1]
        options = [("none", 0), *((f"{amount} {unit}", strength) for strength, amount in amounts)]
        controls[name] = widgets.SelectionSlider(options=options, value=strengths[name], description=name)
    answer, picture = widgets.HTML(), widgets.Image(format="png", layout={"width": "100%", "max_width": "800px"})

    def draw(change: dict | None = None) -> None:
        if change and change["owner"] is controls["network"]:
            layer, found = controls["layer"], layers[controls["network"].value]
            layer.unobserve(draw, "value")
            layer.options, layer.value = found, found[-1][1]
            layer.observe(draw, "value")
        chosen = {name: control.value for name, control in controls.items()}
        figure, words = look(run, chosen.pop("image"), networks[chosen.pop("network")], **chosen)
        picture.value, answer.value = _png(figure), html.escape(words)

    for control in controls.values():
        control.observe(draw, "value")
    draw()
    return widgets.VBox([widgets.Box([*controls.values()], layout={"flex_flow": "row wrap"}), answer, picture])


def look(
    run: Study, image: int, network: Network, layer: str, method: str, noise: int = 0, shift: int = 0, erasing: int = 0
) -> tuple[Figure, str]:
    """What a network answers to a test image, as it is and disturbed, and where it looks.

    Parameters
    ----------
    run : Study
        Its test images, and the seed of the disturbances.
    image : int
        Index of the test image.
    network : Network
    layer : str
        See `layers_to_explain`.
    method : str
        A key of `explain.METHODS`. It explains the answer to the disturbed image against the one to the image as it is,
        or against the second likeliest class where that is the same, and the reverse.
    noise, shift, erasing : int in 0..5
        Strengths; 0 is none.

    Returns
    -------
    figure : Figure
    words : str
        The same in a few sentences, plain text.

    Raises
    ------
    ValueError
        As `robustness.corrupt` and the method.
    """
    as_it_is = disturbed = run.data.x_test[image : image + 1]
    strengths, made = {"shift": shift, "erasing": erasing, "noise": noise}, []
    for name in DISTURBANCES:
        if strengths[name]:
            disturbed = robustness.corrupt(disturbed, name, strengths[name], run.seed)
            made.append(f"{name} ({robustness.CORRUPTIONS[name][strengths[name] - 1]} {robustness.UNITS[name]})")
    images = np.concatenate([as_it_is, disturbed])
    probabilities = training.predict(network.model, images)
    doubt = np.argsort(-probabilities[1])[:2]
    if (before := probabilities[0].argmax()) != doubt[0]:
        doubt[1] = before
    pair = np.repeat(disturbed, 2, axis=0)
    maps = explain.METHODS[method](network.model, pair, layer, doubt, against=doubt[::-1])
    first, second = (CLASS_NAMES[each] for each in doubt)
    titles = [f"for {first}\nrather than {second}", f"for {second}\nrather than {first}"]
    truth = int(run.data.y_test[image])
    drawn = dict(zip(titles, maps, strict=True))
    how = f"{method} at {_spoken(layer)}{', disturbed image' if made else ''}"
    figure = figures.maps.answer(images, truth, probabilities, drawn, CLASS_NAMES, how)
    said = [CLASS_NAMES[values.argmax()] for values in probabilities]
    words = f"{run.banner + '. ' if run.banner else ''}Test image {image} is labelled {CLASS_NAMES[truth]}. "
    words += f"{network.card['kind']} says {said[0]} ({probabilities[0].max():.0%})"
    if made:
        words += f"; with {', '.join(made)} it says {'still ' if said[0] == said[1] else ''}{said[1]} "
        words += f"({probabilities[1].max():.0%})"
    return figure, f"{words}."


def layers_to_explain(model) -> list[str]:
    """Names of a model's convolutions, and of the ReLUs behind them that are layers of their own, in their order."""
    convolutions = explain.convolutions(model)
    return [
        layer.name
        for layer in model.layers
        if layer.name in convolutions or (layer.name.endswith("_relu") and len(layer.output.shape) == 4)
    ]


def _spoken(layer: str) -> str:
    """The name of a layer for people: "stage 3, convolution 2, ReLU" for ``stage3_conv2_relu``."""
    words = re.sub(r"(?<=[a-z])(?=[0-9])", " ", layer).replace("_", ", ")
    return words.replace("conv ", "convolution ").replace("relu", "ReLU")


def _nobody() -> str | None:
    """Why widgets are of no use here; None where somebody can move them."""
    if importlib.util.find_spec("ipywidgets") is None:
        return "The explorer needs ipywidgets, which is not installed here"
    from IPython import get_ipython

    # Whoever executes a notebook without a person tells the kernel that nobody can answer a question.
    kernel = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent("shell") if kernel else {}
    return None if request.get("content", {}).get("allow_stdin") else "Nobody was there to move the sliders"


def _png(figure: Figure) -> bytes:
    import matplotlib.pyplot as plt

    stream = io.BytesIO()
    figure.savefig(stream, dpi=160, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()

"""The live demo: a page in the browser where one shows a garment to a network.

>>> from fashion_mnist.headless import demo  # doctest: +SKIP
>>> demo.launch()  # inside a notebook, Google Colab included  # doctest: +SKIP

The page answers this machine only unless told otherwise, works offline and sends nothing anywhere.
"""

import base64
import io
import re
import socket
import sys
import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_mnist import data, photos
from fashion_mnist.headless.expert import UNMEASURED, Answer, Expert, find

if TYPE_CHECKING:
    import gradio

    from fashion_mnist.networks import Network

MISTAKES = 5  # of the network, among the examples
LARGE = 10  # pixels on the screen for one of the network's
WAITING = "### Show it a garment\nUpload or paste a picture, draw one, or pick a test image."
# Gradio wants the brush chosen first, and shows it some time after the tab.
TAKE_BRUSH = """() => {
    const take = (tries) => {
        const brush = document.querySelector('#sketch [aria-label=Brush], #sketch [title=Brush]')
        if (brush?.offsetParent) brush.click()
        else if (tries) setTimeout(take, 100, tries - 1)
    }
    take(50)
}"""
# On a phone the answer is below the test images.
SHOW_ANSWER = "() => { document.querySelector('#verdict').scrollIntoView({block: 'nearest', behavior: 'smooth'}) }"
CSS = """
.grid-wrap {min-height: 0 !important; max-height: none !important}
.grid-container {grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)) !important}
.gallery-item .caption-label {font-size: .7rem !important; padding: 2px 5px !important; max-width: 100% !important}
#verdict {scroll-margin-bottom: 500px}
.figures {display: flex; gap: 1em}
.figures figure {flex: 1; margin: 0}
.figures img {width: 100%; border: 1px solid #ccc; background: #fff; image-rendering: pixelated}
.figures figcaption {margin-top: .4em}
.scale {margin-top: .8em; font-size: .9em}
.scale i {display: inline-block; width: 5em; height: .8em; border: 1px solid #999;
          background: linear-gradient(90deg, #fff, #feb24c, #e31a1c, #800026)}
"""


def launch(
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    place: str | Path | None = None,
) -> "gradio.Blocks":
    """Serve the page in the background; inside a notebook it is shown there.

    Parameters
    ----------
    model : str, optional
        Name of a network or path of its card; the best one on validation images if not given.
    host : str
        "0.0.0.0" lets other machines in; the default does not.
    port : int, optional
        The first free one from 7860 on if not given.
    share : bool
        Whether Gradio opens a public address through a server of its makers. Colab does not need one.
    place : path, optional
        The data set, for examples; searched for on this machine if not given.

    Returns
    -------
    gradio.Blocks
        Its address is ``local_url``; ``close()`` ends it.

    Raises
    ------
    OSError, ValueError
        If Gradio is not installed, the network cannot be had, the host is not this machine, or the port is taken.
    """
    if not available():
        raise ValueError('The demo needs Gradio: python -m pip install "gradio>=6" "pillow<13"')
    import gradio

    try:  # Gradio would try a hundred ports, or wait for minutes
        socket.create_server((host.strip("[]"), 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, UnicodeError) as error:
        raise OSError(
            f"{host} is no address of this machine; 127.0.0.1 is for yourself, 0.0.0.0 lets others in."
        ) from error
    expert = Expert(find(model))
    app = page(expert, *examples(expert.network, place))
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["system-ui", "sans-serif"]}
    try:
        app.launch(
            server_name=host,
            server_port=port,
            share=share,
            theme=gradio.themes.Default(primary_hue="blue", **fonts),
            css=CSS,
            height=900,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            max_file_size=photos.LARGEST_FILE,
        )
    except OSError as error:
        if port is None:
            raise
        raise OSError(f"Port {port} cannot be used; give another one, or none: then a free one is found.") from error
    return app


def available() -> bool:
    """Whether Gradio is installed, 6 or later."""
    try:
        import gradio
    except ImportError:
        return False
    return int(gradio.__version__.split(".")[0]) >= 6


def serve(model: str | None, host: str, port: int | None, place: Path | None) -> int:
    """`launch`, until somebody presses Ctrl-C."""
    app = launch(model, host, port, place=place)
    print(f"The demo is at {app.local_url}", flush=True)
    print("Ctrl-C ends it.", file=sys.stderr)
    try:
        while True:
            time.sleep(3600)
    finally:
        app.close(verbose=False)


def examples(network: "Network", place: str | Path | None = None) -> tuple[list[tuple[np.ndarray, str]], ...]:
    """Test images with their classes: one of each class that the network gets right, and some that it gets wrong.

    Parameters
    ----------
    network : Network
    place : path, optional
        The data set; searched for if not given.

    Returns
    -------
    right, wrong : list of (ndarray, shape (28, 28, 1), str)
        Empty where this machine does not have the data that the network was trained on, or its predictions.
    """
    try:
        dataset = data.load(place, download=False)
    except data.DataError:
        if place is not None:
            raise
        return [], []
    labels = dataset.y_test
    said = network.predictions["test"].argmax(axis=1) if network.has_predictions else ()
    if dataset.fingerprint != network.card["data"]["fingerprint"] or len(said) != len(labels):
        return [], []  # of other data, or of a part of it, or not kept
    confused = np.argsort(-np.bincount(labels[said != labels], minlength=10), kind="stable")[:MISTAKES]
    right = [some[0] for label in range(10) if len(some := np.flatnonzero((labels == label) & (said == label)))]
    wrong = [some[0] for label in confused if len(some := np.flatnonzero((labels == label) & (said != label)))]
    return tuple([(dataset.x_test[each], data.CLASS_NAMES[labels[each]]) for each in some] for some in (right, wrong))


def page(expert: Expert, right: list[tuple[np.ndarray, str]], wrong: list[tuple[np.ndarray, str]]) -> "gradio.Blocks":
    """The page, not served yet. What somebody was answered stays in that session.

    Parameters
    ----------
    expert : Expert
    right, wrong : list of (image, class)
        Examples; without any there is no place for them.
    """
    import gradio as gr

    def uploaded(file: dict[str, Any] | None) -> list[Any]:
        return _reply(expert, file and Path(file["path"]))

    def drawn(layers: dict[str, Any] | None) -> list[Any]:
        return _reply(expert, layers and layers["composite"])

    def picked_right(event: gr.SelectData) -> list[Any]:
        return _reply(expert, right[event.index][0])

    def picked_wrong(event: gr.SelectData) -> list[Any]:
        return _reply(expert, wrong[event.index][0])

    def clicked(answer: Answer | None, event: gr.SelectData) -> str:
        return _figures(expert, answer, data.CLASS_NAMES.index(event.value)) if answer else ""

    # Uploads do not stay on the disk.
    with gr.Blocks(title="Which garment is this?", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        session = gr.State()
        gr.Markdown(_introduction(expert))
        with gr.Row():
            with gr.Column():
                picture, sketch, galleries = _sources(gr, right, wrong)
            with gr.Column():
                verdict = gr.Markdown(WAITING, elem_id="verdict")
                label = gr.Label(label="Click a class: what speaks for it?", show_heading=False, visible=False)
                figures = gr.HTML()
        outputs = [session, verdict, label, figures]
        # Gradio would decode the file itself, without our limits and without our sentences.
        picture.change(uploaded, picture, outputs, preprocess=False, show_progress="hidden")
        sketch.change(drawn, sketch, outputs, trigger_mode="always_last", show_progress="hidden")
        for gallery, picked in zip(galleries, (picked_right, picked_wrong), strict=True):
            gallery.select(picked, None, outputs, show_progress="hidden").then(None, js=SHOW_ANSWER)
        label.select(clicked, session, figures, show_progress="hidden")
    return app.queue(default_concurrency_limit=2)


def _sources(gr, right: list, wrong: list) -> tuple[Any, Any, list[Any]]:
    """Where pictures come from: a file, a drawing, two galleries."""
    with gr.Tab("Picture"):
        label = "One garment on a plain background"
        picture = gr.Image(label=label, sources=["upload", "clipboard"], image_mode=None, height=340, buttons=[])
    with gr.Tab("Draw") as drawing:
        brush = gr.Brush(24, ["#333333", "#888888", "#cccccc"], color_mode="fixed")
        look = {"canvas_size": (400, 400), "layers": False, "transforms": (), "height": 520, "buttons": []}
        sketch = gr.Sketchpad(label="Filled shapes work best", type="pil", brush=brush, elem_id="sketch", **look)
    drawing.select(None, js=TAKE_BRUSH)
    with gr.Tab("Test images", visible=bool(right)):
        look = {"columns": 5, "allow_preview": False, "interactive": False, "show_label": False, "buttons": []}
        galleries = []
        for title, shown in (("The network gets these right:", right), ("and these wrong:", wrong)):
            gr.Markdown(title)
            pictures = [(_picture(image, below=10), name) for image, name in shown]
            galleries.append(gr.Gallery(pictures, height="auto", format="png", **look))
    return picture, sketch, galleries


def _introduction(expert: Expert) -> str:
    network, right = expert.network, expert.network.card["scores"]["test"]["accuracy"]
    official = network.card["data"]["fingerprint"] == data.OFFICIAL_FINGERPRINT
    of = "of Fashion-MNIST" if official else "of its own data set, which is not Fashion-MNIST,"
    return (
        f"# Which garment is this?\n{network.card['kind']} (`{network.name}`) tells {len(data.CLASS_NAMES)} kinds of "
        f"garments apart and has {right:.1%} of the test images {of} right. It was trained on small grey "
        "product photographs: one garment, no person in it." + ("" if expert.measured else f" Beware: {UNMEASURED}")
    )


def _reply(expert: Expert, shown: Any) -> list[Any]:
    """What the page shows for a file, a drawing, an image of the data set, or nothing."""
    import gradio as gr

    if shown is None:
        return [None, WAITING, gr.update(visible=False), ""]
    try:
        picture = photos.open_picture(shown) if isinstance(shown, Path) else shown
        image = picture if isinstance(picture, np.ndarray) else photos.prepare(picture)
    except photos.PhotoError as refusal:
        return [None, f"### {refusal}", gr.update(visible=False), ""]
    answer = expert.answer(image)
    label = gr.update(value=answer.shares, visible=answer.garment)
    return [answer, f"### {answer}", label, _figures(expert, answer, answer.classes[0])]


def _figures(expert: Expert, answer: Answer, label: int) -> str:
    """What the network saw and the heat map of a class, as HTML."""
    heat, rival = expert.explain(answer, label)
    name, other = (escape(data.CLASS_NAMES[each]) for each in (label, rival))
    speaks = "Red speaks for" if heat.any() else "Nothing in the picture speaks for"
    says = f"{speaks} <b>{name}</b> rather than {other}."
    seen = _figure(_picture(answer.image), "What the network sees: 28 × 28 pixels.")
    about = f"{expert.method}, from none <i></i> to most. {expert.caveat}"
    drawn = _figure(_picture(answer.image, heat), says)
    return f'<div class="figures">{seen}{drawn}</div><div class="scale">{about}</div>'


def _figure(picture: np.ndarray, caption: str) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return (
        f'<figure><img src="{source}" alt="{re.sub("<.*?>", "", caption)}"><figcaption>{caption}</figcaption></figure>'
    )


def _picture(image: np.ndarray, heat: np.ndarray | None = None, below: int = 0) -> np.ndarray:
    """An image of the data set as the study draws them, dark on white; a heat map over it. Enlarged, RGB."""
    from matplotlib import colormaps
    from PIL import Image

    image = np.pad(image, ((0, below), (below // 2, below // 2), (0, 0)))
    pale = 1.0 if heat is None else 0.4  # so that a dark garment does not change the colours over it
    drawn = 255 - pale * np.kron(image, np.ones((LARGE, LARGE, 1))).repeat(3, axis=2)
    if heat is not None:
        strength = np.asarray(Image.fromarray(heat).resize(drawn.shape[:2], Image.Resampling.BILINEAR))
        opacity = strength[..., None] ** 0.6  # where the map says nothing, the image is seen
        drawn = (1 - opacity) * drawn + opacity * 255 * colormaps["YlOrRd"](strength)[..., :3]
    return drawn.round().astype(np.uint8)

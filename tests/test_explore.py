"""explore.py: what a reader chooses is what is drawn, and where nobody can choose the notebook says so."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from conftest import garments
from test_colab import archive_of, bare_kernel, execute  # noqa: F401  a fixture

from fashion_mnist import data, explain, explore, models, profiles, records, study
from fashion_mnist.headless import colab
from fashion_mnist.networks import Network

ipywidgets = pytest.importorskip("ipywidgets")
ROOT = Path(__file__).parents[1]
TOUR = ROOT / "notebooks" / "main.ipynb"
plt.switch_backend("Agg")
NAMES = ("image", "network", "layer", "method", "shift", "erasing", "noise")


@pytest.fixture(scope="module")
def networks():
    """Two networks of different layers, as their builders leave them."""
    found = []
    for architecture, settings in (("cnn", {"f1": 3, "f2": 4}), ("deep_cnn", {"widths": (3, 4, 5)})):
        network = Network(architecture, {"kind": architecture}, Path())
        vars(network)["model"] = models.build(architecture, dense=8, **settings)
        found.append(network)
    return found


@pytest.fixture
def run(tmp_path, monkeypatch, study_style):
    """A run on twenty garments that keeps what it says."""
    images, labels = garments(20, 0)
    arrays = data.Dataset(*[images, labels] * 3, "arrays of a test", "unverified", "0123456789abcdef")
    run = study.Study("main", profiles.named("smoke"), 0, arrays, tmp_path, tmp_path)
    run.said = []
    monkeypatch.setattr(study.Study, "say", lambda self, text: self.said.append(text))
    return run


def answers(asked):
    """What `get_ipython` gives in a kernel whose client can, or cannot, be asked a question."""
    kernel = SimpleNamespace(get_parent=lambda channel: {"content": {"allow_stdin": asked}})
    return lambda: SimpleNamespace(kernel=kernel)


@pytest.fixture
def opened(run, networks, monkeypatch):
    """The explorer as a person has it: controls by name, the words, the picture."""
    monkeypatch.setattr("IPython.get_ipython", answers(True))
    controls, words, picture = explore.explore(run, networks, [3, 7]).children
    assert run.said == [], "where widgets can be moved nothing else is shown"
    return {control.description: control for control in controls.children}, words, picture


def test_every_choice_is_drawn_and_told(opened):
    controls, words, picture = opened
    assert tuple(controls) == NAMES
    assert bytes(picture.value[:4]) == b"\x89PNG" and "Test image 3 is labelled Dress. cnn says" in words.value
    for name, value, told in [
        ("image", 7, "Test image 7 is labelled Sneaker"),
        ("network", 1, "deep_cnn says"),
        ("layer", "stage1_conv1", ""),
        ("method", "Saliency", ""),
        ("noise", 5, "with noise (48 grey levels) it says"),
        ("shift", 4, "with shift (3.5 pixels), noise (48 grey levels) it says"),
        ("erasing", 5, "erasing (14 pixels)"),
    ]:
        before = picture.value
        controls[name].value = value
        assert picture.value != before, f"{name} changes the picture"
        assert told in words.value
    for name in ("noise", "shift", "erasing"):
        controls[name].value = 0
    assert "with" not in words.value, "and back"
    assert plt.get_fignums() == [], "no figure is left open, which the notebook would show again"


def test_a_disturbance_changes_the_answer(run, networks):
    """Noise moves what the network is given, so its probabilities move: the bars of the figure differ."""
    plain, _ = explore.look(run, 3, networks[0], "conv2", "HiResCAM")
    disturbed, _ = explore.look(run, 3, networks[0], "conv2", "HiResCAM", noise=5, erasing=5)
    bars = [bars for figure in (plain, disturbed) for axis in figure.axes for bars in axis.containers]
    lengths = [[bar.get_width() for bar in several] for several in bars]
    assert np.allclose(lengths[0], lengths[1]) and np.allclose(lengths[0], lengths[2])
    assert not np.allclose(lengths[2], lengths[3], atol=1e-4)


def test_a_network_brings_its_layers_and_the_last_one_is_chosen(opened):
    controls, _, _ = opened
    assert controls["layer"].options == (("convolution 1", "conv1"), ("convolution 2", "conv2"))
    assert controls["layer"].value == "conv2"
    controls["network"].value = 1
    assert controls["layer"].value == "stage3_conv2_relu"
    layers = {name: spoken for spoken, name in controls["layer"].options}
    assert {"stage1_conv1", "stage1_conv1_relu"} <= set(layers)
    assert layers["stage3_conv2_relu"] == "stage 3, convolution 2, ReLU"
    assert not {"dense_relu", "stage1_conv1_bn"} & set(layers)


def test_methods_that_passed_their_checks_come_first(opened):
    controls, _, _ = opened
    assert controls["method"].options[: len(explore.TRUSTED)] == explore.TRUSTED == ("HiResCAM",)
    assert set(controls["method"].options) == set(explore.explain.METHODS)


def test_without_a_person_one_state_is_drawn_and_told(run, networks, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", answers(False))
    assert explore.explore(run, networks, [3, 7], shift=3) is None
    (said,) = run.said
    assert said.startswith("*Nobody was there to move the sliders, so this is one chosen state.")
    assert "Test image 3 is labelled Dress" in said and "with shift (2 pixels) it says" in said
    assert len(plt.get_fignums()) == 1, "the figure that the notebook shows"


def test_without_ipywidgets_one_state_is_drawn_and_told(run, networks, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", answers(True))
    monkeypatch.setattr(explore.importlib.util, "find_spec", lambda name: None)
    assert explore.explore(run, networks, [3]) is None
    assert run.said[0].startswith("*The explorer needs ipywidgets, which is not installed here, so this is one")


def test_numbers_of_the_sample_are_called_so(run, networks):
    run = dataclasses.replace(run, banner="SAMPLE DATA: generated images")
    _, words = explore.look(run, 3, networks[0], "conv2", "HiResCAM")
    assert words.startswith("SAMPLE DATA: generated images. Test image 3")


def test_a_kernel_tells_papermill_from_a_person():
    """Both in one real kernel: papermill's client cannot be asked anything, Jupyter's can."""
    cell = nbformat.v4.new_code_cell("from fashion_mnist import explore\nprint(explore._nobody())")
    client = nbclient.NotebookClient(nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3", timeout=120)
    with client.setup_kernel():
        told = client.execute_cell(cell, 0).outputs[0].text
        client.kc.allow_stdin = True
        told += client.execute_cell(cell, 0).outputs[0].text
    assert told == "Nobody was there to move the sliders\nNone\n"


@pytest.mark.slow
def test_a_copy_for_colab_has_the_explorer_and_its_networks_and_the_exercises_can_be_solved(
    bare_kernel,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    (copy,) = colab.write_colab(["main"], tmp_path)
    weights = [name for name in copy.carried if name.endswith(".safetensors")]
    assert len(weights) >= 2, "the best network and others to compare it with"
    assert "package/fashion_mnist/explore.py" in archive_of(copy.path).namelist()
    notebook = nbformat.read(copy.path, as_version=4)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    solutions = re.findall(r"<details><summary>A solution</summary>\n\n```python\n(.*?)```", prose, re.S)
    assert len(solutions) == 3
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = f"PROFILE, SEED, DATA = 'smoke', 0, {str(ROOT / 'data.zip')!r}"
    notebook.cells += [nbformat.v4.new_code_cell(solution) for solution in solutions]
    nbformat.write(notebook, copy.path)
    printed = execute(copy.path, tmp_path / "content", bare_kernel, monkeypatch)
    assert "at least 95 %: " in printed[-3]
    assert printed[-2].count("recognised; most often") == 10
    assert "mistakes shared" in printed[-1]
    assert "Nobody was there to move the sliders" in str(nbformat.read(TOUR, as_version=4).cells)


def test_the_methods_offered_first_are_those_that_passed_every_check():
    standing = records.read("08_grad_cam", ROOT)["tables"]["standing"]
    passed = [row["index"] for row in standing if row["CNN"] == "✓"]
    assert list(explore.TRUSTED) == [name for name in passed if name in explain.METHODS]

"""datamap.py: the map shows the right images where t-SNE put them, small, in one file, and below build/ only."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from fashion_mnist import data, files, records
from fashion_mnist.headless import datamap, report, runner

ROOT = Path(__file__).parents[1]


def write_checkout(root, place, monkeypatch, kept=None):
    """01_eda as executed at quick on some data, with a layout that tells where each image went; the data set."""
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(root))
    monkeypatch.setenv("FASHION_MNIST_DATA", str(place))
    dataset = data.load(place)
    sizes = [len(labels) for _, labels in dataset.splits().values()]
    index = np.random.default_rng(1).permutation(sum(sizes))[:kept].astype(np.int32)
    layout = np.stack([index % 100, index // 100], axis=1).astype(np.float32)  # upwards, as Matplotlib draws
    out = root / "build" / "quick"
    arrays = {"tsne/points": layout, "mapped/image": index, "mapped/splits": np.array(sizes)}
    records.write_arrays(out / "results" / "arrays" / "01_eda.npz", arrays)
    stamp = {"profile": "quick", "seed": 0, "kind": dataset.kind, "seconds": 1.0, "fingerprint": dataset.fingerprint}
    for name in ("01_eda", "main"):
        notebook = new_notebook(cells=[new_markdown_cell(f"# {name}"), new_code_cell("1 + 1")])
        files.write_text(root / "notebooks" / f"{name}.ipynb", json.dumps(notebook))
        notebook.metadata["fashion_mnist"] = {**stamp, "code": runner.code_hash(notebook)}
        files.write_text(out / "notebooks" / f"{name}.ipynb", json.dumps(notebook))
    return dataset


def write_network(root, dataset, name, accuracy, wrong):
    """A card and predictions that are right but for the test images of some indices."""
    card = {"kind": f"Kind {name}", "data": {"fingerprint": dataset.fingerprint}}
    card["scores"] = {"validation": {"accuracy": accuracy}}
    files.write_json(root / "build" / "quick" / "models" / f"{name}.json", card)
    answers = np.where(np.isin(np.arange(len(dataset.y_test)), wrong), (dataset.y_test + 1) % 10, dataset.y_test)
    chances = np.full((len(answers), 10), 0.1 / 9)
    chances[np.arange(len(answers)), answers] = 0.9
    folder = root / "build" / "quick" / "results" / "predictions"
    records.write_predictions(folder / f"{name}.npz", {"validation": chances[:10], "test": chances})


@pytest.fixture
def sample(tmp_path, monkeypatch):
    return write_checkout(tmp_path.resolve(), ROOT / "data.zip", monkeypatch)


def contents_of(page):
    return json.loads(re.search(r'<script type="application/json" id="contents">(.*?)</script>', page, re.S)[1])


def sheet_of(page):
    (source,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


def test_every_dot_is_its_image_and_lies_where_tsne_put_it(sample, tmp_path):
    write_network(tmp_path, sample, "worse", 0.8, [1])
    write_network(tmp_path, sample, "better", 0.9, [5, 700])
    index = report.report()
    page = (index.parent / "map.html").read_text(encoding="utf-8")
    shown, sheet = contents_of(page), sheet_of(page)
    count = len(sample.y_test)
    assert shown["number"] == list(range(count)) and shown["label"] == sample.y_test.tolist()
    assert sheet.shape == (28 * count // 100, 2800)
    for i in (0, 99, 100, count - 1):
        tile = sheet[i // 100 * 28 :, i % 100 * 28 :][:28, :28]
        assert np.abs(255 - tile.astype(int) - sample.x_test[i, ..., 0]).max() <= 3, "the garment, dark on white"
    # Image k of all lies at (k % 100, k // 100), from the bottom.
    before = len(sample.y_train) + len(sample.y_val)
    x, y = np.array(shown["x"]), np.array(shown["y"])
    right, up = (before + np.arange(count)) % 100, (before + np.arange(count)) // 100
    assert np.allclose((x[99] - x[0]) * (right - right[0]) / 99, x - x[0], atol=2e-4)
    assert np.corrcoef(up, y)[0, 1] < -0.999
    assert min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1
    wrong = np.flatnonzero(np.array(shown["named"]) != sample.y_test)
    assert wrong.tolist() == [5, 700] and "Kind better" in page and set(shown["sure"]) == {90}


def test_the_page_is_self_contained_and_linked(sample, tmp_path):
    index = report.report()
    page = (index.parent / "map.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<link|@import|url\(|<script[^>]*src", page)
    assert not re.search(r"{{|{%|{#", page)
    assert "SAMPLE DATA" in page
    assert 'id="wrong"' not in page, "no network has answered"
    for name in ("index", "01_eda"):
        assert 'href="map.html"' in (index.parent / f"{name}.html").read_text(encoding="utf-8")
    assert "map.html" not in (index.parent / "main.html").read_text(encoding="utf-8")
    for target in re.findall(r'href="([^"#]+)"', page):
        assert (index.parent / target).exists()
    made = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("map.html")}
    assert made == {("build", "report")}, "below build/, which is not committed"
    assert "/build/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_a_part_of_the_images_on_the_map_is_shown_as_that(tmp_path, monkeypatch):
    dataset = write_checkout(tmp_path.resolve(), ROOT / "data.zip", monkeypatch, kept=3000)
    shown = datamap.content(tmp_path / "build" / "quick", tmp_path, dataset.fingerprint)
    numbers, sheet = shown["dots"]["number"], sheet_of(f'src="data:image/png;base64,{shown["sprite"]}"')
    assert 0 < len(numbers) < len(dataset.y_test)
    for i, number in enumerate(numbers):
        tile = sheet[i // 100 * 28 :, i % 100 * 28 :][:28, :28]
        assert np.abs(255 - tile.astype(int) - dataset.x_test[number, ..., 0]).max() <= 3


def test_without_the_data_or_the_coordinates_there_is_no_page_and_no_link(sample, tmp_path, monkeypatch):
    page = report.report().with_name("map.html")
    assert page.is_file()
    arrays = tmp_path / "build" / "quick" / "results" / "arrays" / "01_eda.npz"
    for spoil in (
        lambda: monkeypatch.setenv("FASHION_MNIST_DATA", str(tmp_path / "nowhere")),
        lambda: (monkeypatch.setenv("FASHION_MNIST_DATA", str(ROOT / "data.zip")), arrays.unlink()),
    ):
        spoil()
        index = report.report()
        assert not page.exists(), "an older one is deleted"
        assert all("map.html" not in path.read_text(encoding="utf-8") for path in index.parent.glob("*.html"))


def test_the_page_of_all_test_images_has_less_than_6_mb(tmp_path, monkeypatch, real_data):
    write_checkout(tmp_path.resolve(), real_data, monkeypatch)
    page = report.report().with_name("map.html")
    assert page.stat().st_size < 6_000_000
    assert len(contents_of(page.read_text(encoding="utf-8"))["x"]) == 10_000

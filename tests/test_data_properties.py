"""Whatever bytes a file holds: the arrays are right, or a `DataError` says in a sentence what is wrong, and soon."""

import contextlib
import csv
import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_files import csv_text, idx_bytes, write_csv, write_idx, zip_of

from fashion_mnist import data

N = {"train": 12, "test": 3}
SPLITS = {
    split: (np.random.RandomState(n).randint(0, 256, (n, 28, 28, 1)).astype(np.uint8), np.arange(n) % 10)
    for split, n in N.items()
}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
IDX = {IMAGES: idx_bytes(SPLITS["train"][0][..., 0]), LABELS: idx_bytes(SPLITS["train"][1])}
CSV = csv_text(*SPLITS["train"]).encode()

soon = settings(deadline=2000, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def spoiled(draw, *valid):
    """Any bytes, or one of the valid contents with pieces of it replaced, taken out or put in."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=3000))
    content = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 3))):
        near_an_end = st.one_of(st.integers(0, 64), st.integers(max(0, len(content) - 64), len(content)))
        at = draw(st.one_of(near_an_end, st.integers(0, len(content))))
        piece = draw(st.one_of(st.binary(max_size=8), st.text('0123456789.,-e"', max_size=4).map(str.encode)))
        content = content[:at] + piece + content[at + draw(st.sampled_from([len(piece), 0, 3])) :]
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 4)) == 0 else content


def loaded(place):
    """The training and validation images, in any order, and their labels; None where the data was refused."""
    data._cache.clear()  # a file may be written twice within the clock's grain
    try:
        found = data.load(place)
    except data.DataError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        return None
    x, y = np.concatenate([found.x_train, found.x_val]), np.concatenate([found.y_train, found.y_val])
    assert (x.dtype, y.dtype, x.shape) == (np.uint8, np.int64, (len(y), 28, 28, 1))
    assert ((y >= 0) & (y <= 9)).all()
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


def pairs(images, labels):
    return sorted((bytes(image), int(label)) for image, label in zip(images, labels, strict=True))


def read_idx(content, magic, size):
    """The items of an IDX file, as the format is defined; None if it is not one."""
    head = 8 if size == 1 else 16
    if len(content) < head or struct.unpack(">I", content[:4])[0] != magic:
        return None
    if size > 1 and struct.unpack(">II", content[8:16]) != (28, 28):
        return None
    if len(content) - head != struct.unpack(">I", content[4:8])[0] * size:
        return None
    return [content[i : i + size] for i in range(head, len(content), size)]


def right_idx(images, labels):
    images, labels = read_idx(images, 2051, 784), read_idx(labels, 2049, 1)
    if images is None or labels is None or len(images) != len(labels) or any(label[0] > 9 for label in labels):
        return None
    return pairs(images, [label[0] for label in labels]) if len(labels) >= 6 else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


@soon
@given(spoiled(IDX[IMAGES]), spoiled(IDX[LABELS]), st.integers(0, 2))
@example(IDX[IMAGES], IDX[LABELS], 2)
def test_idx(folder, images, labels, which):
    images, labels = (IDX[IMAGES] if which == 0 else images), (IDX[LABELS] if which == 1 else labels)
    place = write_idx(folder / "idx", SPLITS, zipped=False)
    (place / IMAGES).write_bytes(images)
    (place / LABELS).write_bytes(labels)
    assert loaded(place) == right_idx(images, labels)


@soon
@given(spoiled(gzip.compress(IDX[IMAGES], 1, mtime=0), gzip.compress(IDX[IMAGES], 0, mtime=0)))
@example(gzip.compress(IDX[IMAGES][:100]) + gzip.compress(IDX[IMAGES][100:]))
def test_gzip(folder, content):
    place = write_idx(folder / "gzip", SPLITS)
    (place / f"{IMAGES}.gz").write_bytes(content)
    right = None
    with contextlib.suppress(Exception):
        right = right_idx(gzip.decompress(content), IDX[LABELS])
    assert loaded(place) == right


def right_csv(content):
    """Images and labels of a CSV, as Python's own reader sees it; None where it is no table of whole numbers."""
    with contextlib.suppress(ValueError, csv.Error):
        header, *rows = [row for row in csv.reader(io.StringIO(content.decode("latin-1"), newline="")) if row]
        numbers = [[float(cell) for cell in row] for row in rows]
        right = all(
            len(row) == 785 and row[0] in range(10) and all(n in range(256) for n in row[1:]) for row in numbers
        )
        if right and len(header) == 785 and len(rows) >= 6:
            return pairs([map(int, row[1:]) for row in numbers], [row[0] for row in numbers])
    return None


@soon
@given(spoiled(CSV, CSV.replace(b"\n", b"\r\n"), CSV.replace(b",", b".0,").replace(b".0,pixel", b",pixel")))
@example(CSV)
@example(CSV.replace(b"7", b"7e400", 20))
@example(CSV + b"9" * 400)
@example(CSV.replace(b"7", b"2e-49", 20))
def test_csv(folder, content):
    place = write_csv(folder / "csv", SPLITS)
    (place / "fashion-mnist_train.csv").write_bytes(content)
    found = loaded(place)
    assert found is None or found == right_csv(content)
    if content == CSV:
        assert found is not None


def a_zip(folder, name, **options):
    target = zip_of(folder, folder.parent / name, **options)
    return target.read_bytes()


@pytest.fixture(scope="module")
def zips(folder):
    """Zips of one data set: stored, deflated, with a manifest."""
    place = write_idx(folder / "zipped", SPLITS, zipped=False)
    plain = [a_zip(place, f"{method}.zip", compression=method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    data.pack(place, folder / "packed.zip")
    found = [*plain, (folder / "packed.zip").read_bytes()]
    return lambda: found  # or a failure would print them


@settings(soon, max_examples=300)
@given(st.data())
def test_zip(folder, zips, choices):
    place = folder / "data.zip"
    place.write_bytes(choices.draw(spoiled(*zips())))
    assert loaded(place) in (None, right_idx(IDX[IMAGES], IDX[LABELS]))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "files", IMAGES]), inner),
    max_leaves=8,
)


@soon
@given(st.one_of(st.binary(max_size=100), json_values.map(lambda value: json.dumps(value).encode())))
@example(b"[" * 200_000)
@example(b'{"files": {"train-images-idx3-ubyte": "\\ud800"}}')
def test_manifest(folder, manifest):
    place = write_idx(folder / "manifest", SPLITS, zipped=False)
    (place / "manifest.json").write_bytes(manifest)
    assert loaded(place) in (None, right_idx(IDX[IMAGES], IDX[LABELS]))
    with contextlib.suppress(data.DataError):
        assert [row[3] for row in data.verify(place)] == [False] * 4

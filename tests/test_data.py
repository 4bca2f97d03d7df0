"""Reading, refusing, finding and downloading the data. The servers are real ones, on loopback."""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import socket
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist import data

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Every test searches in a folder of its own."""
    monkeypatch.delenv("FASHION_MNIST_DATA", raising=False)
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(data, "_unreachable", {})
    (tmp_path / "root").mkdir()


@pytest.fixture(scope="module")
def small():
    """60 training and 20 test images in every class's proportion, by split."""
    random = np.random.RandomState(7)
    return {
        "train": (random.randint(0, 256, (60, 28, 28, 1)).astype(np.uint8), np.tile(np.arange(10), 6)),
        "test": (random.randint(0, 256, (20, 28, 28, 1)).astype(np.uint8), np.tile(np.arange(10), 2)),
    }


def idx_bytes(values):
    header = (0x0800 + values.ndim, *values.shape)
    return b"".join(n.to_bytes(4, "big") for n in header) + values.astype(np.uint8).tobytes()


def write_idx(folder, splits, zipped=True):
    folder.mkdir(exist_ok=True)
    for split, names in data.IDX_NAMES.items():
        for name, values in zip(names, (splits[split][0][..., 0], splits[split][1]), strict=True):
            content = idx_bytes(values)
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / name).write_bytes(content)
    return folder


def csv_text(x, y):
    rows = np.column_stack([y, x.reshape(len(x), 784)])
    return "\n".join([",".join(data.CSV_COLUMNS), *(",".join(map(str, row)) for row in rows)]) + "\n"


def write_csv(folder, splits, kind):
    folder.mkdir(exist_ok=True)
    for split, name in data.CSV_NAMES[kind].items():
        (folder / name).write_text(csv_text(*splits[split]))
    return folder


def zip_of(folder, target, inside=""):
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, inside + file.name)
    return target


def assert_same(one, other):
    for (name, (x, y)), (other_x, other_y) in zip(one.splits().items(), other.splits().values(), strict=True):
        np.testing.assert_array_equal(x, other_x, err_msg=name)
        np.testing.assert_array_equal(y, other_y, err_msg=name)
    assert one.fingerprint == other.fingerprint


# --- formats -------------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_arrays(small, tmp_path):
    reference = data.load(write_idx(tmp_path / "gz", small))
    given_split = {name: (x, y) for name, (x, y) in reference.splits().items()}
    write_idx(tmp_path / "raw", small, zipped=False)
    write_csv(tmp_path / "kaggle", small, "Kaggle CSV")
    write_csv(tmp_path / "presplit", given_split, "pre-split CSV")
    sources = {"gz": "IDX files", "raw": "IDX files", "kaggle": "Kaggle CSV", "presplit": "pre-split CSV"}
    for name, source in sources.items():
        loaded = data.load(tmp_path / name)
        assert_same(loaded, reference)
        assert (loaded.source, loaded.kind) == (source, "unverified")
        zipped = data.load(zip_of(tmp_path / name, tmp_path / f"{name}.zip", inside="archive/"))
        assert_same(zipped, reference)
        assert zipped.source == f"{source} in {name}.zip"


def test_arrays_have_the_promised_form(small, tmp_path):
    loaded = data.load(write_idx(tmp_path / "gz", small))
    for n, (x, y) in zip((50, 10, 20), loaded.splits().values(), strict=True):
        assert (x.shape, x.dtype) == ((n, 28, 28, 1), np.uint8)
        assert (y.shape, y.dtype) == ((n,), np.int64)
        assert not x.flags.writeable
        assert not y.flags.writeable
    np.testing.assert_array_equal(np.bincount(loaded.y_val), np.ones(10))
    together = np.concatenate([loaded.x_train, loaded.x_val])
    assert {x.tobytes() for x in together} == {x.tobytes() for x in small["train"][0]}
    np.testing.assert_array_equal(loaded.x_test, small["test"][0])


def test_a_given_validation_split_is_kept(small, tmp_path):
    x, y = small["train"]
    given = {"train": (x[:35], y[:35]), "validation": (x[35:], y[35:]), "test": small["test"]}
    loaded = data.load(write_csv(tmp_path / "presplit", given, "pre-split CSV"))
    for name, (loaded_x, loaded_y) in loaded.splits().items():
        np.testing.assert_array_equal(loaded_x, given[name][0])
        np.testing.assert_array_equal(loaded_y, given[name][1])


def test_the_fingerprint_follows_every_part(small, tmp_path):
    seen = {data.load(write_idx(tmp_path / "as_is", small)).fingerprint}
    for split in ("train", "test"):
        for part in (0, 1):
            changed = {name: [x.copy(), y.copy()] for name, (x, y) in small.items()}
            changed[split][part][0] = 9 - changed[split][part][0] if part else 255 - changed[split][part][0]
            seen.add(data.load(write_idx(tmp_path / f"{split}{part}", changed)).fingerprint)
    assert len(seen) == 5


def test_csv_takes_quotes_byte_order_mark_and_windows_line_ends(small, tmp_path):
    folder = write_csv(tmp_path / "csv", small, "Kaggle CSV")
    reference = data.load(folder).fingerprint
    for file in folder.iterdir():
        header, rows = file.read_text().split("\n", 1)
        quoted = ",".join(f'"{column}"' for column in header.split(","))
        file.write_bytes(("\ufeff" + quoted + "\n" + rows).replace("\n", "\r\n").encode())
    assert data.load(folder).fingerprint == reference


# --- subset, describe, cache ---------------------------------------------------------------------------------------


def test_subset_keeps_proportions_and_order(sample_data):
    subset = sample_data.subset(600, 200, None, seed=3)
    assert [len(y) for _, y in subset.splits().values()] == [600, 200, 2000]
    np.testing.assert_array_equal(np.bincount(subset.y_train), np.full(10, 60))
    assert (subset.fingerprint, subset.kind) == (sample_data.fingerprint, "sample")
    assert not subset.x_train.flags.writeable
    again = sample_data.subset(600, 200, None, seed=3)
    np.testing.assert_array_equal(subset.x_train, again.x_train)
    assert not np.array_equal(subset.x_train, sample_data.subset(600, 200, None, seed=4).x_train)
    places = {x.tobytes(): i for i, x in enumerate(sample_data.x_train)}
    assert (np.diff([places[x.tobytes()] for x in subset.x_train]) > 0).all()
    assert len(sample_data.subset(10**6, None, None).y_train) == len(sample_data.y_train)


def test_subset_refuses_nothing_at_all(sample_data):
    with pytest.raises(ValueError, match="validation is 0"):
        sample_data.subset(10, 0, None)


def test_describe_tells_what_was_used(small, tmp_path, sample_data):
    line = data.load(write_idx(tmp_path / "gz", small)).describe()
    assert "50 train, 10 validation, 20 test" in line
    assert "unverified" in line
    assert data.SAMPLE_BANNER not in line
    assert data.SAMPLE_BANNER in sample_data.describe()
    assert "\n" not in sample_data.describe()
    assert str(tmp_path) not in line


def test_a_second_load_is_free_and_a_changed_file_is_seen(small, tmp_path):
    folder = write_idx(tmp_path / "raw", small, zipped=False)
    first = data.load(folder)
    assert data.load(str(folder)) is first
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(small["test"][1][::-1]))
    os.utime(labels, ns=(0, 12345))  # a clock too coarse to tell the two writes apart must not fail the test
    assert data.load(folder).fingerprint != first.fingerprint


# --- bad input -----------------------------------------------------------------------------------------------------


def test_a_missing_directory(tmp_path):
    with pytest.raises(data.DataError, match=r"nowhere does not exist.*fashion-mnist data fetch"):
        data.load(tmp_path / "nowhere")


def test_an_empty_directory(tmp_path):
    with pytest.raises(data.DataError, match=r"holds no data: it needs .*train-images-idx3-ubyte.gz"):
        data.load(tmp_path / "root")


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"not a zip")
    with pytest.raises(data.DataError, match=r"data.zip cannot be read .*give a folder or a zip"):
        data.load(tmp_path / "data.zip")


def test_a_missing_file_is_named(small, tmp_path):
    folder = write_idx(tmp_path / "gz", small)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.DataError, match="lacks t10k-labels-idx1-ubyte beside what is there: add it"):
        data.load(folder)


@pytest.mark.parametrize("keep", [-100, 5])
def test_a_truncated_gzip(small, tmp_path, keep):
    file = write_idx(tmp_path / "gz", small) / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte.gz is not a complete gzip file.*delete it"):
        data.load(file.parent)


def test_a_file_that_is_no_gzip(small, tmp_path):
    file = write_idx(tmp_path / "gz", small) / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte.gz is not a complete gzip file"):
        data.load(file.parent)


@pytest.mark.parametrize("content", [idx_bytes(np.arange(10)), b"", b"\0\0\x08\x03\0"])
def test_a_wrong_magic_number(small, tmp_path, content):
    file = write_idx(tmp_path / "raw", small, zipped=False) / "train-images-idx3-ubyte"
    file.write_bytes(content)
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte is no IDX file of its kind.*delete it"):
        data.load(file.parent)


def test_idx_cut_short(small, tmp_path):
    file = write_idx(tmp_path / "raw", small, zipped=False) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(data.DataError, match="announces 60 items of 47,040 bytes in all but holds 47,039"):
        data.load(file.parent)


def test_images_of_another_size(small, tmp_path):
    file = write_idx(tmp_path / "raw", small, zipped=False) / "train-images-idx3-ubyte"
    file.write_bytes(idx_bytes(np.zeros((60, 32, 32))))
    with pytest.raises(data.DataError, match="32 × 32 pixels; they have to be 28 × 28"):
        data.load(file.parent)


def test_image_and_label_counts_that_differ(small, tmp_path):
    file = write_idx(tmp_path / "raw", small, zipped=False) / "train-labels-idx1-ubyte"
    file.write_bytes(idx_bytes(np.zeros(59)))
    with pytest.raises(data.DataError, match=r"60 images but train-labels-idx1-ubyte 59 labels: take both from"):
        data.load(file.parent)


def test_an_idx_label_outside_0_to_9(small, tmp_path):
    labels = small["train"][1].copy()
    labels[4] = 10
    folder = write_idx(tmp_path / "raw", {**small, "train": (small["train"][0], labels)}, zipped=False)
    with pytest.raises(data.DataError, match=r"train-labels-idx1-ubyte: label 10 of item 5 is outside 0..9; correct"):
        data.load(folder)


def test_too_few_images_for_a_validation_set(small, tmp_path):
    few = {"train": tuple(part[:5] for part in small["train"]), "test": small["test"]}
    with pytest.raises(data.DataError, match="5 training images are too few"):
        data.load(write_idx(tmp_path / "gz", few))


def edit(text, old, new, line):
    lines = text.split("\n")
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    return "\n".join(lines)


BAD_CSV = {
    "missing column": (
        lambda text: text.replace(",pixel17,", ",", 1),
        "column missing: 'pixel17'; the header has to be",
    ),
    "surplus column": (
        lambda text: "\n".join("id," + line for line in text.split("\n")),
        "surplus column: 'id'; the header has to be",
    ),
    "other order": (
        lambda text: text.replace("label,pixel1,", "pixel1,label,", 1),
        "columns repeated or in another order; the header",
    ),
    "no header": (lambda text: text.split("\n", 1)[1], "column missing: 'label', 'pixel1', 'pixel2' and 782 more"),
    "no rows": (lambda text: text.split("\n", 1)[0] + "\n", "is no valid CSV.*get the file again"),
    "every row short": (
        lambda text: "\n".join(line if i == 0 else line.rpartition(",")[0] for i, line in enumerate(text.split("\n"))),
        "line 2 has 784 cells instead of 785; correct it",
    ),
    "one row long": (lambda text: edit(text, "3,", "3,0,", 4), "is no valid CSV.*line 5.*get the file again"),
    "one row short": (lambda text: text.rstrip("\n").rpartition(",")[0], "line 61, column pixel784 holds 'nan'"),
    "non-numeric cell": (lambda text: edit(text, "2,", "2,boot", 3), "line 4, column pixel1 holds 'boot.*correct the"),
    "pixel above 255": (lambda text: edit(text, "2,", "2,70", 3), r"line 4, column pixel1 holds '70.*0..255; correct"),
    "negative pixel": (lambda text: edit(text, "2,", "2,-1", 3), r"line 4, column pixel1 holds '-1.*0..255; correct"),
    "fraction": (lambda text: edit(text, "2,", "2,0.5", 3), r"line 4, column pixel1 holds '0.5"),
    "label above 9": (lambda text: edit(text, "2,", "12,", 3), r"line 4, column label holds '12'.*0..9; correct"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv(small, tmp_path, case):
    spoil, message = BAD_CSV[case]
    file = write_csv(tmp_path / "csv", small, "Kaggle CSV") / "fashion-mnist_train.csv"
    file.write_text(spoil(file.read_text()))
    with pytest.raises(data.DataError, match=f"fashion-mnist_train.csv:? {message}"):
        data.load(file.parent)


def test_a_zip_without_data(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat.jpg", b"")
    with pytest.raises(data.DataError, match=r"photos.zip holds no data: it needs"):
        data.load(tmp_path / "photos.zip")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil"])
def test_a_zip_with_members_that_point_outside(small, tmp_path, name):
    target = zip_of(write_idx(tmp_path / "gz", small), tmp_path / "data.zip")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"")
    with pytest.raises(
        data.DataError, match=r"data.zip: member .*evil' points outside the archive; pack the files again"
    ):
        data.load(target)
    assert not (tmp_path / "evil").exists()


def test_a_damaged_zip_member(small, tmp_path):
    target = zip_of(write_idx(tmp_path / "gz", small), tmp_path / "data.zip")
    content = target.read_bytes()
    middle = content.index(b"train-images") + 1000
    target.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    with pytest.raises(data.DataError, match=r"data.zip: train-images-idx3-ubyte.gz cannot be unpacked"):
        data.load(target)


def test_a_zip_that_does_not_match_its_manifest(small, tmp_path):
    folder = write_idx(tmp_path / "gz", small)
    manifest = {"kind": "official", "files": {"t10k-labels-idx1-ubyte.gz": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(data.DataError, match=r"checksum mismatch of t10k-labels-idx1-ubyte.gz.*make the zip again"):
        data.load(zip_of(folder, tmp_path / "data.zip"))
    assert [row[3] for row in data.verify(tmp_path / "data.zip")].count(False) == 4  # nor are the others official


@pytest.mark.parametrize("zipped", [True, False])
def test_a_full_size_set_with_other_content_is_refused(tmp_path, zipped):
    blank = {
        "train": (np.zeros((60_000, 28, 28, 1), np.uint8), np.zeros(60_000, np.int64)),
        "test": (np.zeros((10_000, 28, 28, 1), np.uint8), np.zeros(10_000, np.int64)),
    }
    folder = write_idx(tmp_path / "blank", blank, zipped)
    name = "train-images-idx3-ubyte" + ".gz" * zipped
    with pytest.raises(data.DataError, match=f"checksum mismatch of {name}: expected .*, found .*delete it, then"):
        data.load(folder)
    assert [row[3] for row in data.verify(folder)] == [False] * 4


def test_a_bad_path_in_the_environment_is_no_reason_to_look_elsewhere(monkeypatch, small, tmp_path):
    write_idx(tmp_path / "root" / "Data", small)
    monkeypatch.setenv("FASHION_MNIST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(data.DataError, match="nowhere does not exist"):
        data.load()


# --- the local mirror ----------------------------------------------------------------------------------------------


class Mirror(ThreadingHTTPServer):
    """Serves `files` over HTTP with ranges, as badly as `behaviour` (file name, or None for all → how) says."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.behaviour, self.asked = files, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.released = threading.Event()  # lets stalled answers end with the test


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        begin = self.headers.get("Range")
        self.server.asked.append((name, begin))
        behaviour = self.server.behaviour.get(name, self.server.behaviour.get(None, "well"))
        content = self.server.files.get(name)
        if behaviour == "never answers":
            self.server.released.wait(30)
        elif isinstance(behaviour, int):
            self.send_error(behaviour)
        elif content is None:
            self.send_error(404)
        else:
            self.serve(content, behaviour, begin)

    def serve(self, content, behaviour, begin):
        if behaviour == "wrong bytes":
            content = bytes(len(content))
        elif behaviour == "login page":
            content = b"<html>Please log in</html>"
        start = int(begin.removeprefix("bytes=").rstrip("-")) if begin and behaviour != "no ranges" else 0
        rest = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if behaviour in ("cut short", "stalls half-way"):
            rest = rest[: (len(rest) + 1) // 2]
        elif behaviour == "has only half":
            rest = content[start : len(content) // 2]
        elif behaviour == "stalls at once":
            rest = b""
        with contextlib.suppress(ConnectionError):
            self.wfile.write(rest)
            self.wfile.flush()
        if behaviour.startswith("stalls"):
            self.server.released.wait(30)

    def log_message(self, *args):
        pass


@pytest.fixture
def official(monkeypatch, small, tmp_path):
    """The small files, made official: those that the mirrors are to serve, by name."""
    folder = write_idx(tmp_path / "official", small)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    table = {
        name: data.OfficialFile(
            hashlib.md5(files[name]).hexdigest(),
            len(files[name]),
            hashlib.sha256(gzip.decompress(files[name])).hexdigest(),
        )
        for name in data.OFFICIAL_FILES
    }
    monkeypatch.setattr(data, "OFFICIAL_FILES", table)
    monkeypatch.setattr(data, "OFFICIAL_FINGERPRINT", data.load(folder).fingerprint)
    monkeypatch.setattr(data, "_cache", {})
    return files


@pytest.fixture
def serve(official):
    """Starts mirrors of the official files."""
    mirrors = []

    def start(**behaviour):
        mirror = Mirror(official)
        mirror.behaviour = {None: behaviour["all"]} if "all" in behaviour else {}
        threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        mirrors.append(mirror)
        return mirror

    yield start
    for mirror in mirrors:
        mirror.released.set()
        mirror.shutdown()
        mirror.server_close()


@pytest.fixture
def closed_port():
    """A URL that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening, so that nobody else gets it
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".fetch.lock"}


IMAGES = "train-images-idx3-ubyte.gz"


def test_fetch_brings_the_official_files(serve, official, tmp_path):
    mirror = serve()
    target = data.fetch(tmp_path / "new" / "Data", [mirror.url])
    assert target == tmp_path / "new" / "Data"
    assert contents(target) == official
    assert data.load(target).kind == "official"
    assert data.load(target).source == "official IDX files"
    mirror.asked.clear()
    data.fetch(target, [mirror.url])
    assert mirror.asked == []


def test_fetch_goes_to_data_under_the_root_from_the_mirrors_of_the_environment(serve, official, monkeypatch, tmp_path):
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", f"{serve(all=404).url} {serve().url}")
    assert data.fetch() == tmp_path / "root" / "Data"
    assert contents(tmp_path / "root" / "Data") == official


def test_fetch_resumes(serve, official, tmp_path):
    (tmp_path / f"{IMAGES}.part").write_bytes(official[IMAGES][:1000])
    mirror = serve()
    data.fetch(tmp_path, [mirror.url])
    assert (IMAGES, "bytes=1000-") in mirror.asked
    assert (tmp_path / IMAGES).read_bytes() == official[IMAGES]


def test_fetch_starts_again_where_the_server_has_no_ranges(serve, official, tmp_path):
    (tmp_path / f"{IMAGES}.part").write_bytes(b"x" * 1000)
    data.fetch(tmp_path, [serve(all="no ranges").url])
    assert (tmp_path / IMAGES).read_bytes() == official[IMAGES]


@pytest.mark.parametrize("length", [1000, None, "longer"])
def test_fetch_recovers_from_a_spoiled_part(serve, official, tmp_path, length):
    size = len(official[IMAGES])
    (tmp_path / f"{IMAGES}.part").write_bytes(b"x" * {1000: 1000, None: size, "longer": size + 7}[length])
    data.fetch(tmp_path, [serve().url])
    assert (tmp_path / IMAGES).read_bytes() == official[IMAGES]
    assert not (tmp_path / f"{IMAGES}.part").exists()


def test_fetch_goes_on_with_a_server_that_cuts_connections(serve, official, tmp_path):
    mirror = serve(all="cut short")
    data.fetch(tmp_path / "Data", [mirror.url])
    assert contents(tmp_path / "Data") == official
    assert len(mirror.asked) > len(official)


def test_fetch_leaves_a_mirror_that_stalls(serve, official, tmp_path):
    slow, good = serve(all="stalls half-way"), serve()
    data.fetch(tmp_path / "Data", [slow.url, good.url], timeout=0.3)
    assert contents(tmp_path / "Data") == official
    assert (IMAGES, f"bytes={(len(official[IMAGES]) + 1) // 2}-") in good.asked


FAILURES = {
    404: "answered 404 Not Found",
    500: "answered 500 Internal Server Error",
    "never answers": "timed out",
    "stalls at once": "timed out",
    "wrong bytes": "sent other bytes than the official file",
    "login page": "offers 26 bytes instead of",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_fetch_turns_from_a_bad_mirror_to_a_good_one(serve, official, tmp_path, failure):
    bad, good = serve(all=failure), serve()
    data.fetch(tmp_path / "Data", [bad.url, good.url], timeout=0.3)
    assert contents(tmp_path / "Data") == official
    assert len(bad.asked) >= 4


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_fetch_says_why_and_leaves_what_is_there(serve, tmp_path, failure):
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / IMAGES).write_bytes(b"mine")
    (tmp_path / "Data" / "notes.txt").write_bytes(b"mine too")
    mirror = serve(all=failure)
    with pytest.raises(data.DataError) as caught:
        data.fetch(tmp_path / "Data", [mirror.url], timeout=0.3)
    assert f"{IMAGES} could not be downloaded: {mirror.url} {FAILURES[failure]}" in str(caught.value)
    assert "FASHION_MNIST_MIRRORS" in str(caught.value)
    left = contents(tmp_path / "Data")
    left.pop(f"{IMAGES}.part", None)
    assert left == {IMAGES: b"mine", "notes.txt": b"mine too"}


def test_what_has_arrived_survives_a_failed_fetch(serve, official, tmp_path):
    mirror = serve()
    mirror.behaviour["t10k-images-idx3-ubyte.gz"] = 500
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte.gz could not be downloaded"):
        data.fetch(tmp_path / "Data", [mirror.url])
    assert (tmp_path / "Data" / IMAGES).read_bytes() == official[IMAGES]
    half = tmp_path / "Data" / "t10k-images-idx3-ubyte.gz.part"
    mirror.behaviour["t10k-images-idx3-ubyte.gz"] = "has only half"
    size = len(official["t10k-images-idx3-ubyte.gz"])
    with pytest.raises(data.DataError, match=rf"ended after {size // 2:,} of {size:,} bytes.*it resumes"):
        data.fetch(tmp_path / "Data", [mirror.url])
    assert half.read_bytes() == official["t10k-images-idx3-ubyte.gz"][: size // 2]


def test_fetch_replaces_a_wrong_file_once_the_right_one_is_there(serve, official, tmp_path):
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / IMAGES).write_bytes(b"damaged")
    data.fetch(tmp_path / "Data", [serve().url])
    assert contents(tmp_path / "Data") == official


def test_fetch_without_network(closed_port, tmp_path):
    with pytest.raises(data.DataError, match=f"{closed_port} .*(refused|timed out).*Try again later"):
        data.fetch(tmp_path / "Data", [closed_port], timeout=1)
    with pytest.raises(data.DataError, match="no mirror is configured"):
        data.fetch(tmp_path / "Data", [])
    with pytest.raises(data.DataError, match="unknown url type"):
        data.fetch(tmp_path / "Data", ["mirror.example"])


def test_a_directory_that_is_not_writable(serve, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(data.DataError, match=r"file.Data cannot be written .*choose another folder"):
        data.fetch(tmp_path / "file" / "Data", [serve().url])
    with pytest.raises(data.DataError, match=r"data.zip cannot be written"):
        data.pack(tmp_path / "official", tmp_path / "file" / "data.zip")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind root or Windows")
def test_a_directory_without_permission(serve, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(data.DataError, match=r"locked.* cannot be written \(Permission denied\)"):
        data.fetch(tmp_path / "locked", [serve().url])


def test_two_downloads_at_once_do_not_spoil_each_other(serve, official, tmp_path):
    mirror = serve(all="cut short")
    errors = []

    def fetch():
        try:
            data.fetch(tmp_path / "Data", [mirror.url])
        except data.DataError as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert contents(tmp_path / "Data") == official


# --- the search ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sample_in_root(tmp_path):
    shutil.copy(CHECKOUT / "data.zip", tmp_path / "root" / "data.zip")


def test_the_search_prefers_what_is_named_then_data_then_a_real_zip(
    serve, official, sample_in_root, monkeypatch, small, tmp_path
):
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", serve().url)
    assert data.load(download=False).kind == "sample"
    data.pack(tmp_path / "official", tmp_path / "root" / "data.zip")
    assert data.load().source == "official IDX files in data.zip"
    write_csv(tmp_path / "root" / "Data", small, "Kaggle CSV")
    assert data.load().source == "Kaggle CSV"
    write_idx(tmp_path / "raw", small, zipped=False)
    monkeypatch.setenv("FASHION_MNIST_DATA", str(tmp_path / "raw"))
    assert data.info()["path"] == str(tmp_path / "raw")
    assert data.info(tmp_path / "official")["path"] == str(tmp_path / "official")


def test_the_search_downloads_before_it_takes_the_sample(serve, official, sample_in_root, monkeypatch, tmp_path):
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", serve().url)
    (tmp_path / "root" / "Data").mkdir()
    (tmp_path / "root" / "Data" / "README.md").write_text("where the data goes")
    assert data.load().kind == "official"
    assert data.load(tmp_path / "root" / "Data") is data.load()


def test_the_search_completes_an_interrupted_download(serve, official, sample_in_root, monkeypatch, tmp_path):
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", serve().url)
    (tmp_path / "root" / "Data").mkdir()
    (tmp_path / "root" / "Data" / IMAGES).write_bytes(official[IMAGES])
    assert data.load().kind == "official"


def test_the_search_does_not_pass_over_bad_data(serve, official, sample_in_root, monkeypatch, small, tmp_path):
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", serve().url)
    folder = write_csv(tmp_path / "root" / "Data", small, "Kaggle CSV")
    (folder / "fashion-mnist_test.csv").unlink()
    with pytest.raises(data.DataError, match=r"lacks fashion-mnist_test.csv"):
        data.load()


@pytest.mark.parametrize("mirror", ["closed port", "never answers", "stalls at once", 500])
def test_offline_the_search_ends_in_the_sample_within_ten_seconds(
    serve, closed_port, sample_in_root, monkeypatch, mirror
):
    urls = [closed_port] * 2 if mirror == "closed port" else [serve(all=mirror).url, serve(all=mirror).url]
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", " ".join(urls))
    began = time.perf_counter()
    with pytest.warns(UserWarning, match=r"using the sample instead of the real data: .*127\.0\.0\.1"):
        loaded = data.load()
    assert time.perf_counter() - began < 10
    assert (loaded.kind, loaded.source) == ("sample", "sample in data.zip")
    began = time.perf_counter()
    with pytest.warns(UserWarning, match="using the sample"):
        assert data.load() is loaded
    assert time.perf_counter() - began < 0.1


def test_nothing_anywhere(tmp_path):
    with pytest.raises(data.DataError, match=r"no data: nothing in .*no mirror is configured.*FASHION_MNIST_DATA"):
        data.load()


def test_root_is_the_variable_else_the_checkout_else_here(monkeypatch, tmp_path):
    assert data.root() == (tmp_path / "root").resolve()
    monkeypatch.delenv("FASHION_MNIST_ROOT")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "__file__", str(tmp_path / "checkout" / "src" / "fashion_mnist" / "data.py"))
    assert data.root() == Path.cwd()
    (tmp_path / "checkout" / "notebooks").mkdir(parents=True)
    (tmp_path / "checkout" / "pyproject.toml").touch()
    assert data.root() == (tmp_path / "checkout").resolve()


# --- verify, info, pack, sample ------------------------------------------------------------------------------------


def test_verify_tells_right_from_wrong(official, small, tmp_path):
    folder = tmp_path / "official"
    assert [row[3] for row in data.verify(folder)] == [True] * 4
    write_idx(tmp_path / "raw", small, zipped=False)
    assert [row[3] for row in data.verify(tmp_path / "raw")] == [True] * 4
    (folder / IMAGES).write_bytes(official[IMAGES][:-10])
    name, expected, actual, ok = data.verify(folder)[0]
    assert (name, ok) == (IMAGES, False)
    assert expected == "md5 " + hashlib.md5(official[IMAGES]).hexdigest()
    assert actual == "md5 " + hashlib.md5(official[IMAGES][:-10]).hexdigest()


def test_verify_takes_the_same_images_compressed_again(official, tmp_path):
    again = gzip.compress(gzip.decompress(official[IMAGES]), 1)
    assert again != official[IMAGES]
    (tmp_path / "official" / IMAGES).write_bytes(again)
    assert [row[3] for row in data.verify(tmp_path / "official")] == [True] * 4
    assert data.load(tmp_path / "official").kind == "official"


def test_verify_has_nothing_to_hold_csvs_against(small, tmp_path):
    rows = data.verify(write_csv(tmp_path / "csv", small, "Kaggle CSV"))
    assert [(name, expected, ok) for name, expected, _, ok in rows] == [
        ("fashion-mnist_train.csv", "none published", None),
        ("fashion-mnist_test.csv", "none published", None),
    ]


def test_pack_and_load_again(official, small, tmp_path):
    packed = data.pack(tmp_path / "official", tmp_path / "packed.zip")
    assert_same(data.load(packed), data.load(tmp_path / "official"))
    assert data.load(packed).kind == "official"
    assert [row[3] for row in data.verify(packed)] == [True] * 4
    first = packed.read_bytes()
    assert data.pack(packed, packed).read_bytes() == first  # the same bytes again, and in place
    assert sorted(file.name for file in tmp_path.iterdir() if "packed" in file.name) == ["packed.zip"]
    csv = data.pack(write_csv(tmp_path / "csv", small, "Kaggle CSV"), tmp_path / "csv.zip")
    assert_same(data.load(csv), data.load(tmp_path / "csv"))


def test_pack_refuses_the_sample(tmp_path):
    with pytest.raises(data.DataError, match="is the sample, not real data"):
        data.pack(CHECKOUT / "data.zip", tmp_path / "packed.zip")
    assert not (tmp_path / "packed.zip").exists()


def test_the_sample_is_made_from_the_official_data_only(small, tmp_path):
    source = data.load(write_idx(tmp_path / "gz", small))
    with pytest.raises(data.DataError, match="made from the whole official data set"):
        data.write_sample(source, tmp_path / "sample.zip")


def test_the_shipped_sample(sample_data):
    assert [len(y) for _, y in sample_data.splits().values()] == [6667, 1333, 2000]
    np.testing.assert_array_equal(np.bincount(sample_data.y_test), np.full(10, 200))
    assert (sample_data.kind, sample_data.source) == ("sample", "sample in data.zip")
    assert [row[3] for row in data.verify(CHECKOUT / "data.zip")] == [True] * 4
    assert (CHECKOUT / "data.zip").stat().st_size < 5_000_000


def test_info_is_json(sample_data):
    told = json.loads(json.dumps(data.info(CHECKOUT / "data.zip")))
    assert told["images"] == {"train": 6667, "validation": 1333, "test": 2000}
    assert told["classes"]["test"]["Sandal"] == 200
    assert told["files"]["t10k-labels-idx1-ubyte"] == 2008
    assert told["fingerprint"] == sample_data.fingerprint


# --- on the real data ----------------------------------------------------------------------------------------------


def test_the_official_data(real_data):
    loaded = data.load(real_data)
    assert (loaded.kind, loaded.fingerprint) == ("official", data.OFFICIAL_FINGERPRINT)
    for n, (_, y) in zip((50_000, 10_000, 10_000), loaded.splits().values(), strict=True):
        np.testing.assert_array_equal(np.bincount(y), np.full(10, n // 10))
    assert [row[3] for row in data.verify(real_data)] == [True] * 4


def test_loading_the_official_data_takes_less_than_a_second(real_data, monkeypatch):
    seconds = []
    for _ in range(3):
        monkeypatch.setattr(data, "_cache", {})
        began = time.process_time()  # one thread that never waits, so this is the time an idle machine takes
        data.load(real_data)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1
    began = time.perf_counter()
    data.load(real_data)
    assert time.perf_counter() - began < 0.05


def test_the_sample_holds_no_real_image(real_data, sample_data):
    real = {x.tobytes() for x, _ in data.load(real_data).splits().values() for x in x}
    assert not real & {x.tobytes() for x, _ in sample_data.splits().values() for x in x}


@pytest.mark.slow
def test_the_shipped_sample_is_made_again_bit_for_bit(real_data, tmp_path):
    made = data.write_sample(data.load(real_data), tmp_path / "sample.zip")
    assert made.read_bytes() == (CHECKOUT / "data.zip").read_bytes()

"""Finding, downloading, verifying and packing the data. The servers are real ones, on loopback."""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from made_files import assert_same, idx_bytes, write_csv, write_idx, zip_of

from fashion_mnist import data

CHECKOUT = Path(__file__).parents[1]
IMAGES = "train-images-idx3-ubyte.gz"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Every test searches in a folder of its own."""
    monkeypatch.delenv("FASHION_MNIST_DATA", raising=False)
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(data, "_unreachable", {})
    monkeypatch.setattr(data, "RETRY_PAUSES", (0, 0, 0))
    (tmp_path / "root").mkdir()


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    """Folders of a data set that is no Fashion-MNIST but has its numbers of images and its file names, like KMNIST."""
    random = np.random.RandomState(1)
    blank = np.zeros((60_000, 28, 28, 1), np.uint8)
    splits = {"train": (blank, random.randint(0, 10, 60_000)), "test": (blank[:10_000], random.randint(0, 10, 10_000))}
    folder = tmp_path_factory.mktemp("another")
    return {zipped: write_idx(folder / f"zipped_{zipped}", splits, zipped) for zipped in (True, False)}


# --- the data set --------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_every_part(small, tmp_path):
    seen = {data.load(write_idx(tmp_path / "as_is", small)).fingerprint}
    for split in ("train", "test"):
        for part in (0, 1):
            changed = {name: [x.copy(), y.copy()] for name, (x, y) in small.items()}
            changed[split][part][0] = 9 - changed[split][part][0] if part else 255 - changed[split][part][0]
            seen.add(data.load(write_idx(tmp_path / f"{split}{part}", changed)).fingerprint)
    assert len(seen) == 5


def test_too_few_images_for_a_validation_set(small, tmp_path):
    few = {"train": tuple(part[:5] for part in small["train"]), "test": small["test"]}
    with pytest.raises(data.DataError, match="5 training images are too few"):
        data.load(write_idx(tmp_path / "gz", few))


def test_another_validation_set_is_drawn_from_all_but_the_test_images(sample_data):
    def contents(dataset):
        return sorted(x.tobytes() for images in (dataset.x_train, dataset.x_val) for x in images)

    other = sample_data.held_out(0.25, seed=1)
    count = len(sample_data.y_train) + len(sample_data.y_val)
    assert (len(other.y_val), len(other.y_train)) == (count // 4, count - count // 4)
    assert contents(other) == contents(sample_data) and other.x_test is sample_data.x_test
    known = {x.tobytes(): y for x, y in zip(sample_data.x_train, sample_data.y_train, strict=True)}
    pairs = zip(other.x_val, other.y_val, strict=True)
    assert all(known.get(x.tobytes(), y) == y for x, y in pairs), "images keep their labels"
    np.testing.assert_array_equal(sample_data.held_out(0.25, seed=1).x_val, other.x_val)
    assert not np.array_equal(sample_data.held_out(0.25, seed=2).x_val, other.x_val)
    for share in (0, 1):
        with pytest.raises(ValueError, match=f"A share of {share}"):
            sample_data.held_out(share, seed=0)


def test_subset_keeps_proportions_and_order(sample_data):
    subset = sample_data.subset(600, 200, None)
    assert [len(y) for _, y in subset.splits().values()] == [600, 200, 2000]
    np.testing.assert_array_equal(np.bincount(subset.y_train), np.full(10, 60))
    assert (subset.fingerprint, subset.kind) == (sample_data.fingerprint, "sample")
    assert not subset.x_train.flags.writeable
    np.testing.assert_array_equal(subset.x_train, sample_data.subset(600, 200, None).x_train)
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


def test_importing_the_module_loads_nothing_heavy():
    code = "import sys, fashion_mnist.data; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "pooch", "requests", "sklearn", "tensorflow"} & set(loaded)


# --- the local mirror ----------------------------------------------------------------------------------------------


class Mirror(ThreadingHTTPServer):
    """Serves `files` over HTTP, as badly as `behaviour` (file name, or None for all → how) says."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.behaviour, self.asked, self.failures = files, {}, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.released = threading.Event()  # lets stalled answers end with the test

    def handle_error(self, request, client_address):
        pass  # of connections that the other side has given up


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        behaviour = self.server.behaviour.get(name, self.server.behaviour.get(None, "well"))
        content = self.server.files.get(name)
        if self.server.failures:
            self.server.failures -= 1
            behaviour = 503
        if behaviour == "never answers":
            self.server.released.wait(30)
        elif behaviour == "drips its header":
            self.drip(b"HTTP/1.0 200 OK\r\nX: " + bytes(1000))
        elif isinstance(behaviour, int):
            self.send_error(behaviour)
        elif content is None:
            self.send_error(404)
        else:
            self.serve(content, behaviour)

    def serve(self, content, behaviour):
        if behaviour == "wrong bytes":
            content = bytes(len(content))
        elif behaviour == "login page":
            content = b"<html>Please log in</html>"
        self.send_response(200)
        if behaviour == "calls gzip an encoding":
            self.send_header("Content-Encoding", "gzip")
        if behaviour not in ("never ends", "does not say how much"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if behaviour in ("cut short", "stalls half-way"):
            content = content[: (len(content) + 1) // 2]
        elif behaviour == "stalls at once":
            content = b""
        if behaviour == "drips":
            self.drip(content)
        while behaviour == "never ends":
            self.wfile.write(bytes(1 << 16))
        self.wfile.write(content)
        self.wfile.flush()
        if behaviour.startswith("stalls"):
            self.server.released.wait(30)

    def drip(self, content):
        for i in range(len(content)):
            self.wfile.write(content[i : i + 1])
            self.wfile.flush()
            if self.server.released.wait(0.1):
                break

    def log_message(self, *args):
        pass


@pytest.fixture
def official(monkeypatch, small, tmp_path):
    """The small files, made official: those that the mirrors are to serve, by name."""
    folder = write_idx(tmp_path / "official", small)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    sha256 = {name: hashlib.sha256(gzip.decompress(content)).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(
        data, "OFFICIAL_MD5", {name: hashlib.md5(files[name]).hexdigest() for name in data.OFFICIAL_MD5}
    )
    monkeypatch.setattr(data, "OFFICIAL_SHA256", {name.removesuffix(".gz"): sha256[name] for name in sha256})
    monkeypatch.setattr(data, "OFFICIAL_FINGERPRINT", data.load(folder).fingerprint)
    monkeypatch.setattr(data, "_cache", {})
    return files


@pytest.fixture
def serve(official):
    """Starts mirrors of the official files."""
    mirrors = []

    def start(all=None):
        mirror = Mirror(official)
        mirror.behaviour = {None: all} if all else {}
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
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}


# --- downloading ---------------------------------------------------------------------------------------------------


def test_fetch_brings_the_official_files(serve, official, tmp_path, capfd):
    mirror = serve()
    target = data.fetch(tmp_path / "new" / "Data", [mirror.url])
    assert target == tmp_path / "new" / "Data"
    assert contents(target) == official
    assert data.load(target).kind == "official"
    assert data.load(target).source == "official IDX files"
    mirror.asked.clear()
    data.fetch(target, [mirror.url])
    assert mirror.asked == []
    assert capfd.readouterr() == ("", "")  # no bars, and no paths of this machine, where there is no terminal


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals here")
def test_fetch_draws_a_bar_for_each_file_on_a_terminal(serve, official, monkeypatch, tmp_path):
    import fcntl
    import pty
    import termios

    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))

    def read_all():  # a terminal holds four kilobytes at most, then who writes waits
        drawn = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
            while part := os.read(reader, 4096):
                drawn += part
        return drawn.decode()

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(read_all)
        with os.fdopen(terminal, "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            data.fetch(tmp_path / "Data", [serve().url])
        drawn = seen.result(60)
    os.close(reader)
    for name in official:
        assert f"{name}: 100%" in drawn


def test_fetch_goes_to_data_under_the_root_from_the_mirrors_of_the_environment(serve, official, monkeypatch, tmp_path):
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", f"{serve(all=404).url} {serve().url}")
    assert data.fetch() == tmp_path / "root" / "Data"
    assert contents(tmp_path / "root" / "Data") == official


@pytest.mark.parametrize("behaviour", ["calls gzip an encoding", "does not say how much"])
def test_fetch_takes_the_right_file_however_it_is_announced(serve, official, tmp_path, behaviour):
    data.fetch(tmp_path / "Data", [serve(all=behaviour).url])
    assert contents(tmp_path / "Data") == official


FAILURES = {
    404: "answered 404 Not Found",
    500: "answered 500 Internal Server Error",
    "never answers": "sent 0 bytes in 0.3 s",
    "stalls at once": "sent 0 bytes in 0.3 s",
    "stalls half-way": "sent .* bytes in 0.3 s",
    "drips": "sent 0 bytes in 0.3 s",
    "drips its header": "sent 0 bytes in 0.3 s",
    "cut short": "IncompleteRead",
    "wrong bytes": "sent other bytes than the official file",
    "login page": "sent other bytes than the official file",
    "never ends": "sent other bytes than the official file",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_fetch_turns_from_a_bad_mirror_to_a_good_one(serve, official, monkeypatch, tmp_path, failure):
    monkeypatch.setattr(data._Progress, "allowed", 10_000_000)
    bad, good = serve(all=failure), serve()
    data.fetch(tmp_path / "Data", [bad.url, good.url], timeout=0.3)
    assert contents(tmp_path / "Data") == official
    too_slow = FAILURES[failure].startswith("sent ") and "bytes in" in FAILURES[failure]
    assert bad.asked == [IMAGES] if too_slow else sorted(bad.asked) == sorted(official)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_fetch_says_why_and_leaves_what_is_there(serve, monkeypatch, tmp_path, failure):
    monkeypatch.setattr(data._Progress, "allowed", 10_000_000)
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / IMAGES).write_bytes(b"mine")
    (tmp_path / "Data" / "notes.txt").write_bytes(b"mine too")
    mirror = serve(all=failure)
    message = f"{IMAGES} could not be downloaded: {mirror.url} {FAILURES[failure]}.*FASHION_MNIST_MIRRORS"
    with pytest.raises(data.DataError, match=message):
        data.fetch(tmp_path / "Data", [mirror.url], timeout=0.3)
    assert contents(tmp_path / "Data") == {IMAGES: b"mine", "notes.txt": b"mine too"}
    assert len(mirror.asked) == (3 if failure in (500, "cut short") else 1)


def test_fetch_asks_an_only_mirror_again_after_a_failure_that_may_pass(serve, official, tmp_path):
    mirror = serve()
    mirror.failures = 2
    data.fetch(tmp_path / "Data", [mirror.url])
    assert contents(tmp_path / "Data") == official
    assert mirror.asked.count(IMAGES) == 3


def test_what_has_arrived_survives_a_failed_fetch(serve, official, tmp_path):
    mirror = serve()
    mirror.behaviour["t10k-images-idx3-ubyte.gz"] = 500
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte.gz could not be downloaded"):
        data.fetch(tmp_path / "Data", [mirror.url])
    assert (tmp_path / "Data" / IMAGES).read_bytes() == official[IMAGES]
    mirror.behaviour.clear()
    mirror.asked.clear()
    data.fetch(tmp_path / "Data", [mirror.url])
    assert IMAGES not in mirror.asked


def test_fetch_replaces_a_wrong_file_and_what_a_killed_download_left(serve, official, tmp_path):
    (tmp_path / "Data" / ".download").mkdir(parents=True)
    (tmp_path / "Data" / ".download" / "tmp123").write_bytes(b"half")
    (tmp_path / "Data" / IMAGES).write_bytes(b"damaged")
    data.fetch(tmp_path / "Data", [serve().url])
    assert contents(tmp_path / "Data") == official


def test_fetch_without_network(closed_port, tmp_path):
    with pytest.raises(data.DataError, match=f"{closed_port} .*(refused|timed out).*Try again later"):
        data.fetch(tmp_path / "Data", [closed_port], timeout=1)
    with pytest.raises(data.DataError, match="no mirror is configured"):
        data.fetch(tmp_path / "Data", [])
    for url in ("mirror.example", "ftp://mirror.example", "http://[::1", "http://"):
        with pytest.raises(data.DataError, match="could not be downloaded: "):
            data.fetch(tmp_path / "Data", [url])


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


def test_a_full_disk_is_not_the_fault_of_the_mirror(serve, tmp_path):
    resource = pytest.importorskip("resource", reason="Windows limits no file sizes")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(data.DataError, match=r"Data cannot be written \(File too large\): choose another folder"):
            data.fetch(tmp_path / "Data", [serve().url])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_downloads_at_once_do_not_spoil_each_other(serve, official, tmp_path):
    mirror = serve()
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
    assert sorted(mirror.asked) == sorted(official)


# --- the search ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sample_in_root(tmp_path):
    shutil.copy(CHECKOUT / "data.zip", tmp_path / "root" / "data.zip")


@pytest.fixture
def sample_unzipped(sample_in_root, tmp_path):
    with zipfile.ZipFile(tmp_path / "root" / "data.zip") as archive:
        archive.extractall(tmp_path / "root")


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


def test_a_bad_path_in_the_environment_is_no_reason_to_look_elsewhere(monkeypatch, small, tmp_path):
    write_idx(tmp_path / "root" / "Data", small)
    monkeypatch.setenv("FASHION_MNIST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(data.DataError, match="nowhere does not exist"):
        data.load()


def test_the_unzipped_sample_is_read_and_announced(sample_unzipped, sample_data, monkeypatch, tmp_path):
    (tmp_path / "root" / "data.zip").unlink()
    with pytest.warns(UserWarning, match="using the sample instead of the real data: no mirror answers") as caught:
        loaded = data.load()
    assert caught[0].filename == __file__
    assert_same(loaded, sample_data)
    assert (loaded.source, loaded.kind) == ("sample", "sample")
    assert data.SAMPLE_BANNER in loaded.describe()
    assert [row[3] for row in data.verify()] == [True] * 4
    (tmp_path / "root" / "Data" / "manifest.json").unlink()
    assert data.load(download=False).kind == "sample"  # known by its fingerprint


def test_real_data_wins_over_the_unzipped_sample(serve, official, sample_unzipped, monkeypatch, small, tmp_path):
    folder, archive = tmp_path / "root" / "Data", tmp_path / "root" / "data.zip"
    data.pack(tmp_path / "official", archive)
    assert data.load(download=False).source == "official IDX files in data.zip"
    archive.unlink()
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", serve().url)
    assert data.load().source == "official IDX files"
    assert [row[3] for row in data.verify()] == [True] * 4
    for name in official:
        (folder / name).unlink()
    assert data.load(download=False).kind == "sample"
    write_csv(folder, small)
    assert data.load(download=False).source == "Kaggle CSV (not the IDX files beside them)"


def test_the_sample_does_not_complete_an_interrupted_download(official, sample_unzipped, sample_data, tmp_path):
    (tmp_path / "root" / "Data" / IMAGES).write_bytes(official[IMAGES])
    with pytest.warns(UserWarning, match="using the sample"):
        assert_same(data.load(), sample_data)


def test_a_manifest_can_say_that_other_data_is_a_sample(small, tmp_path):
    folder = write_idx(tmp_path / "raw", small, zipped=False)
    contents = {file.name: file.read_bytes() for file in folder.iterdir()}
    loaded = data.load(data.write_zip(tmp_path / "mine.zip", contents, {"kind": "sample"}))
    assert (loaded.kind, loaded.source) == ("sample", "sample in mine.zip")


def test_a_real_file_in_place_of_the_samples_is_no_sample(official, sample_unzipped, tmp_path):
    for name, content in official.items():
        (tmp_path / "root" / "Data" / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    assert data.load().kind == "official"
    (tmp_path / "root" / "Data" / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(20)))
    with pytest.raises(data.DataError, match=r"checksum mismatch of .*delete manifest.json if the files are yours"):
        data.load()


@pytest.mark.parametrize("mirror", ["closed port", "never answers", "stalls at once", "drips", 500])
def test_offline_the_search_ends_in_the_sample_within_ten_seconds(
    serve, closed_port, sample_in_root, monkeypatch, mirror
):
    monkeypatch.setattr(data, "SEARCH_TIMEOUT", data.SEARCH_TIMEOUT / 5)
    urls = [closed_port] * 2 if mirror == "closed port" else [serve(all=mirror).url, serve(all=mirror).url]
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", " ".join(urls))
    began = time.perf_counter()
    with pytest.warns(UserWarning, match=r"using the sample instead of the real data: .*127\.0\.0\.1"):
        loaded = data.load()
    assert time.perf_counter() - began < 2
    assert (loaded.kind, loaded.source) == ("sample", "sample in data.zip")
    began = time.perf_counter()
    with pytest.warns(UserWarning, match="using the sample"):
        assert data.load() is loaded
    assert time.perf_counter() - began < 0.1


def test_the_search_leaves_silent_mirrors_out(serve, official, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SEARCH_TIMEOUT", 0.5)
    silent = serve(all="never answers")
    monkeypatch.setenv("FASHION_MNIST_MIRRORS", f"{silent.url} {serve().url}")
    assert data.load().kind == "official"
    assert len(silent.asked) == 1


def test_a_name_server_that_blocks_holds_nobody_up(sample_in_root, tmp_path):
    """Neither the search nor the end of the process."""
    code = (
        "import socket, time; socket.getaddrinfo = lambda *_, **__: time.sleep(60); from fashion_mnist import data; "
        "data.SEARCH_TIMEOUT = 0.5; print(data.load().kind)"
    )
    began = time.perf_counter()
    environment = os.environ | {"FASHION_MNIST_MIRRORS": "http://mirror.invalid/"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert time.perf_counter() - began < 10
    assert done.stdout == "sample\n"
    assert "no mirror answers (http://mirror.invalid/ timed out)" in done.stderr


def test_nothing_anywhere(tmp_path):
    with pytest.raises(data.DataError, match=r"no data: nothing in .*none is configured.*FASHION_MNIST_DATA"):
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


@pytest.mark.parametrize("zipped", [True, False])
def test_another_data_set_in_the_official_files_is_read_when_named_and_refused_when_found(
    another, monkeypatch, tmp_path, zipped
):
    named = data.load(another[zipped])
    assert (named.kind, named.source, len(named.y_test)) == ("unverified", "IDX files", 10_000)
    assert "unverified: not the official data" in named.describe()
    monkeypatch.setenv("FASHION_MNIST_DATA", str(another[zipped]))
    assert data.load() is named
    assert [row[3] for row in data.verify()] == [False] * 4
    monkeypatch.delenv("FASHION_MNIST_DATA")
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    (tmp_path / "Data").symlink_to(another[zipped])
    name = "train-images-idx3-ubyte" + ".gz" * zipped
    with pytest.raises(data.DataError, match=f"checksum mismatch of {name}: expected .*, found .*delete it.*name it"):
        data.load()


# --- verify, info, pack --------------------------------------------------------------------------------------------


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
    again = gzip.compress(gzip.decompress(official[IMAGES]), 9)
    assert again != official[IMAGES]
    (tmp_path / "official" / IMAGES).write_bytes(again)
    assert [row[3] for row in data.verify(tmp_path / "official")] == [True] * 4
    assert data.load(tmp_path / "official").kind == "official"


def test_verify_has_nothing_to_hold_csvs_against(small, tmp_path):
    folder = write_csv(tmp_path / "csv", small, "Kaggle CSV")
    of = {file.name: f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in folder.iterdir()}
    assert data.verify(folder) == [
        ("fashion-mnist_train.csv", "none published", of["fashion-mnist_train.csv"], None),
        ("fashion-mnist_test.csv", "none published", of["fashion-mnist_test.csv"], None),
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


def test_what_pack_writes_can_be_unzipped_beside_the_notebooks(official, tmp_path):
    with zipfile.ZipFile(data.pack(tmp_path / "official", tmp_path / "packed.zip")) as archive:
        archive.extractall(tmp_path / "root")
    assert data.load(download=False).source == "official IDX files"
    assert {path.parent.name for path in (tmp_path / "root").rglob("*") if path.is_file()} == {"Data"}


def test_a_zip_without_a_data_folder_inside_is_read_too(official, tmp_path):
    zip_of(tmp_path / "official", tmp_path / "root" / "data.zip")
    assert data.load(download=False).source == "official IDX files in data.zip"


def test_pack_refuses_the_sample(tmp_path):
    with pytest.raises(data.DataError, match="is the sample, not real data"):
        data.pack(CHECKOUT / "data.zip", tmp_path / "packed.zip")
    assert not (tmp_path / "packed.zip").exists()


def test_the_shipped_sample(sample_data):
    assert [len(y) for _, y in sample_data.splits().values()] == [6667, 1333, 2000]
    np.testing.assert_array_equal(np.bincount(sample_data.y_test), np.full(10, 200))
    assert (sample_data.kind, sample_data.source) == ("sample", "sample in data.zip")
    assert sample_data.fingerprint == data.SAMPLE_FINGERPRINT
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
    for _ in range(2):
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

"""Find, verify, download and split Fashion-MNIST.

`load` is all that most callers need. It searches, in this order: the path it is given, ``$FASHION_MNIST_DATA``, real
data in ``Data/``, a ``data.zip`` of real data, the mirrors, and at last the sample, in ``Data/`` or ``data.zip``. The
files may be the four official IDX files (gzip or not), the Kaggle CSVs, CSVs already split into training, validation
and test, or a zip of any of these; the arrays are the same whichever way. What cannot be used raises `DataError`,
which names the file and the remedy.

Environment variables
---------------------
FASHION_MNIST_DATA
    Folder or zip to read; like the argument of `load`, it is used or refused, never passed over.
FASHION_MNIST_MIRRORS
    Base URLs to download from, separated by spaces, in place of `MIRRORS`. Empty: no downloads.
FASHION_MNIST_ROOT
    Folder that holds ``Data/`` and ``data.zip``, and under which results are written; see `root`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fashion_mnist import files, formats
from fashion_mnist.formats import DataError, Split

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)

OFFICIAL_FINGERPRINT = "cc5a065e1bae5ce2"
OFFICIAL_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
OFFICIAL_SHA256 = {  # of what they unpack to
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SAMPLE_FINGERPRINT = "5cc23d3eba39d318"
SAMPLE_NOTE = "SAMPLE DATA: generated images, not Fashion-MNIST"
SAMPLE_BANNER = f"{SAMPLE_NOTE}; numbers below say nothing about the real data"

SEARCH_TIMEOUT = 2.5  # seconds in which a mirror has to send its smallest file for the search to count on it
LOWEST_RATE = 4096  # bytes a second; a mirror that is slower is given up
RETRY_PAUSES = (0.0, 1.0, 3.0)  # seconds before each round of the mirrors; a failure that may pass is tried again


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of the three splits. The arrays are read-only, as several callers share them.

    Attributes
    ----------
    x_train, x_val, x_test : ndarray, shape (n, 28, 28, 1), dtype uint8 in 0..255
    y_train, y_val, y_test : ndarray, shape (n,), dtype int64 in 0..9, indices of `CLASS_NAMES`
    source : str
        What was read, such as "official IDX files"; never a path of this machine.
    kind : {"official", "unverified", "sample"}
        "official" where the arrays are those of the official files, split as `load` splits them, or a part of them.
    fingerprint : str
        First 16 hexadecimal digits of the SHA-256 over all three splits; the same whichever format they came in.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str
    kind: str
    fingerprint: str

    def __post_init__(self) -> None:
        for images, labels in self.splits().values():
            images.setflags(write=False)
            labels.setflags(write=False)

    def splits(self) -> dict[str, Split]:
        """Images and labels by the name of the split: "train", "validation", "test"."""
        return {
            "train": (self.x_train, self.y_train),
            "validation": (self.x_val, self.y_val),
            "test": (self.x_test, self.y_test),
        }

    def subset(self, train: int | None, validation: int | None, test: int | None) -> Dataset:
        """A smaller data set with the same class proportions, in the original order, always the same one.

        Parameters
        ----------
        train, validation, test : int or None
            Images to keep of each split; None, or more than there are, keeps all. A smaller subset of balanced classes
            lies inside a larger one.

        Returns
        -------
        Dataset
            With `source`, `kind` and `fingerprint` of the whole.

        Raises
        ------
        ValueError
            If a number is below 1.
        """
        kept = []
        for (name, (x, y)), n in zip(self.splits().items(), (train, validation, test), strict=True):
            if n is not None and n < 1:
                raise ValueError(f"{name} is {n}: ask for at least 1 image, or None for all")
            chosen = slice(None) if n is None or n >= len(y) else _stratified(y, n)
            kept += [x[chosen], y[chosen]]
        return Dataset(*kept, self.source, self.kind, self.fingerprint)

    def held_out(self, share: float, seed: int) -> Dataset:
        """The same images with another validation set, drawn from all of training and validation whatever their class.

        Parameters
        ----------
        share : float
            Of those images, in (0, 1), that are held out.
        seed : int
            Of the draw.

        Returns
        -------
        Dataset
            With `source`, `kind` and `fingerprint` of this one.

        Raises
        ------
        ValueError
            If that leaves either set empty.
        """
        x, y = np.concatenate([self.x_train, self.x_val]), np.concatenate([self.y_train, self.y_val])
        count = round(share * len(y))
        if not 0 < count < len(y):
            raise ValueError(f"A share of {share!r} of {len(y):,} images leaves none to train on, or none to hold out.")
        held = np.zeros(len(y), bool)
        held[np.random.default_rng(seed).choice(len(y), count, replace=False)] = True
        return replace(self, x_train=x[~held], y_train=y[~held], x_val=x[held], y_val=y[held])

    def describe(self) -> str:
        """One line to print: what was loaded, how much of it, and the banner if it is the sample."""
        counts = ", ".join(f"{len(y):,} {name}" for name, (_, y) in self.splits().items())
        line = f"{self.source}: {counts} images; fingerprint {self.fingerprint}"
        if self.kind == "unverified":
            line += " (unverified: not the official data)"
        return f"{line}. {SAMPLE_BANNER}" if self.kind == "sample" else line


# --- finding -------------------------------------------------------------------------------------------------------


def root() -> Path:
    """Folder of ``Data/``, ``data.zip`` and everything the study writes.

    ``$FASHION_MNIST_ROOT`` if set; else the checkout that the package is installed from in editable mode; else the
    current directory (on Colab, or when installed from a wheel).
    """
    named = os.environ.get("FASHION_MNIST_ROOT")
    if named:
        return _resolved(named)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "notebooks").is_dir():
        return checkout
    return Path.cwd()


def load(path: str | Path | None = None, download: bool = True) -> Dataset:
    """Load the data set, from `path` or from the first place of the search that has one.

    Prints nothing; callers print `Dataset.describe`. A second call in the same process returns the same object unless
    the files have changed. The validation set is one sixth of the training images, stratified by class with seed 0,
    unless the data comes with its own.

    Parameters
    ----------
    path : str or Path, optional
        Folder or zip to read; any 28 × 28 images in ten classes will do. Without it: ``$FASHION_MNIST_DATA``,
        ``Data/``, a ``data.zip`` of real data, a download into ``Data/``, the sample.
    download : bool
        Whether the search may download.

    Raises
    ------
    DataError
        If the data named by `path`, by ``$FASHION_MNIST_DATA`` or lying in ``Data/`` cannot be used, or if the search
        finds nothing at all.

    Warns
    -----
    UserWarning
        If the download failed and the sample is used instead.
    """
    place = _locate(path, download)
    dataset = _open(place)
    numbers = len(dataset.y_train) + len(dataset.y_val), len(dataset.y_test)
    named = path or os.environ.get("FASHION_MNIST_DATA")
    # Found, not named, under the official names and in the official numbers, it was meant to be the official data.
    if not named and dataset.kind == "unverified" and "IDX" in dataset.source and numbers == (60_000, 10_000):
        for name, expected, actual, ok in verify(place):
            if not ok:
                raise DataError(
                    f"{place}: checksum mismatch of {name}: expected {expected}, found {actual}. It is damaged, or "
                    "the version withdrawn in August 2017: delete it, then `fashion-mnist data fetch`; or it is "
                    "another data set: then name it (--data PATH or $FASHION_MNIST_DATA)"
                )
    return dataset


def load_with_notes(path: str | Path | None = None) -> tuple[Dataset, list[str]]:
    """`load` for who talks to people: the data set, and what `load` would warn of, as sentences to print."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = load(path)
    return dataset, [f"Note: {warning.message}" for warning in caught]


def info(path: str | Path | None = None) -> dict:
    """What `load` would read without downloading, as plain numbers and strings (JSON).

    Returns
    -------
    dict
        ``path``, ``source``, ``kind``, ``fingerprint``, ``images`` (split → number), ``classes`` (split → class name →
        number) and ``files`` (name → bytes).
    """
    dataset, place = load(path, download=False), _locate(path, download=False)
    found = formats.find(place)
    counts = {name: np.bincount(y, minlength=10).tolist() for name, (_, y) in dataset.splits().items()}
    return {
        "path": str(place),
        "source": dataset.source,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
        "images": {split: sum(count) for split, count in counts.items()},
        "classes": {split: dict(zip(CLASS_NAMES, count, strict=True)) for split, count in counts.items()},
        "files": {name: found.members[name].size for name in found.names()},
    }


def _resolved(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, the home of nobody, a NUL character
        raise DataError(f"{str(path)!r} leads nowhere ({formats.reason(error)}): give another path") from error


def _locate(path: str | Path | None, download: bool) -> Path:
    """Path of the data; the files behind it may still turn out to be bad."""
    named = path or os.environ.get("FASHION_MNIST_DATA")
    if named:
        return _resolved(named)

    folder, archive = root() / "Data", root() / "data.zip"
    names = formats.members(folder).keys()
    # An interrupted download is left to the mirrors. What no download puts there is somebody's own data: it is opened
    # even if a file is missing, and refused with the name of that.
    own = names - OFFICIAL_MD5.keys() - {"manifest.json"}
    places = [folder] if own or names >= OFFICIAL_MD5.keys() else []
    places += [archive] if archive.is_file() else []
    real = next((place for place in places if not _is_sample(place)), None)
    if real:
        return real

    reason = "a download was not asked for"
    if download:
        try:
            return _fetch_if_reachable(folder)
        except DataError as error:
            reason = str(error)
    if not places:
        raise DataError(
            f"no data: nothing in {folder}, no {archive.name} beside it, and {reason} — {formats.FETCH}; offline, copy "
            "the files or a zip of them here and pass its path (--data PATH or $FASHION_MNIST_DATA)"
        )
    if download:
        warnings.warn(f"using the sample instead of the real data: {reason}", stacklevel=3)
    return places[0]


def _is_sample(place: Path) -> bool:
    try:
        return _open(place).kind == "sample"
    except DataError:  # whoever reads it is told
        return False


# --- reading -------------------------------------------------------------------------------------------------------

_cache: dict[Path, tuple[tuple, Dataset]] = {}


def _open(path: Path) -> Dataset:
    found = formats.find(path)
    stamp = tuple((name, member.size, member.changed) for name, member in sorted(found.members.items()))
    if path in _cache and _cache[path][0] == stamp:
        return _cache[path][1]

    contents = {name: found.read(name) for name in found.names()}
    splits = {split: formats.read_split(names, contents) for split, names in found.splits.items()}
    if "validation" not in splits:
        splits["train"], splits["validation"] = _hold_out(*splits["train"])
    fingerprint, source = _fingerprint(splits), found.format
    kind = {OFFICIAL_FINGERPRINT: "official", SAMPLE_FINGERPRINT: "sample"}.get(fingerprint, "unverified")
    if kind == "official":
        source = source.replace("IDX", "official IDX")
    else:
        manifest = found.manifest()
        formats.check(contents, manifest, path)
        if kind == "sample" or (manifest.get("kind") == "sample" and contents.keys() <= manifest["files"].keys()):
            kind = source = "sample"
    source += f" in {path.name}" if path.is_file() else ""
    source += f" (not the {' and '.join(found.unread)} beside them)" if found.unread else ""

    arrays = (*splits["train"], *splits["validation"], *splits["test"])
    _cache[path] = stamp, Dataset(*arrays, source, kind, fingerprint)
    return _cache[path][1]


def _hold_out(x: np.ndarray, y: np.ndarray) -> tuple[Split, Split]:
    """Training and validation set. Its own few lines and a frozen generator: the fingerprint hangs on them, and
    importing scikit-learn would take longer than reading the data."""
    held = np.zeros(len(y), bool)
    held[_stratified(y, len(y) // 6)] = True
    if held.all() or not held.any():
        raise DataError(f"{len(y)} training images are too few to hold a validation set out: give at least 6")
    return (x[~held], y[~held]), (x[held], y[held])


def _stratified(labels: np.ndarray, n: int) -> np.ndarray:
    """Sorted indices of `n` labels drawn in the proportions of the classes; the largest fractions are rounded up.

    The seed is 0, whoever asks: the validation set hangs on it.
    """
    counts = np.bincount(labels, minlength=10)
    quota, remainder = np.divmod(counts * n, len(labels))
    quota[np.argsort(-remainder, kind="stable")[: n - quota.sum()]] += 1
    random = np.random.RandomState(0)
    drawn = [random.permutation(np.flatnonzero(labels == label))[:k] for label, k in enumerate(quota)]
    return np.sort(np.concatenate(drawn))


def _fingerprint(splits: dict[str, Split]) -> str:
    digest = hashlib.sha256()
    for name in ("train", "validation", "test"):
        x, y = splits[name]
        digest.update(f"{name} {len(y)}\n".encode())
        digest.update(np.ascontiguousarray(x))
        digest.update(y.astype(np.uint8))
    return digest.hexdigest()[:16]


# --- verifying -----------------------------------------------------------------------------------------------------


def verify(path: str | Path | None = None) -> list[tuple[str, str, str, bool | None]]:
    """Compare every data file with its checksum.

    IDX files are held against the official ones: the MD5 of a gzip file, else the SHA-256 of what it unpacks to (a file
    compressed again still holds the same images). Files with a manifest of `write_zip` beside them may also be right by
    the SHA-256 in it. CSVs have no published checksum.

    Parameters
    ----------
    path : str or Path, optional
        Folder or zip; where `load` would read without downloading if not given.

    Returns
    -------
    list of (file, expected, actual, ok)
        Checksums as "md5 …" or "sha256 …"; where none is published, `expected` says so and `ok` is None.

    Raises
    ------
    DataError
        If there is no data, a file is missing, or a zip's member cannot be unpacked. Any other damaged file is an
        entry of the list, not an error.
    """
    found = formats.find(_locate(path, download=False))
    stated, table = found.manifest().get("files", {}), []
    for name in found.names():
        content = found.read(name)
        row = _checksum(name, content)
        if name in stated and not row[3]:
            actual = hashlib.sha256(content).hexdigest()
            row = name, f"sha256 {stated[name]}", f"sha256 {actual}", actual == stated[name]
        table.append(row)
    return table


def _checksum(name: str, content: bytes) -> tuple[str, str, str, bool | None]:
    """One row of `verify`."""
    md5, expected = hashlib.md5(content, usedforsecurity=False).hexdigest(), OFFICIAL_MD5.get(name)
    official, sha256 = OFFICIAL_SHA256.get(name.removesuffix(".gz")), hashlib.sha256()
    with contextlib.suppress(EOFError, OSError, zlib.error):
        unpacked = formats.unpacked(name, content)
        for _ in range(0, formats.LARGEST_FILE if md5 != expected else 0, 1 << 20):
            sha256.update(unpacked.read(1 << 20))
    if official is None:
        return name, "none published", f"sha256 {sha256.hexdigest()}", None
    if expected is None or sha256.hexdigest() == official:
        return name, f"sha256 {official}", f"sha256 {sha256.hexdigest()}", sha256.hexdigest() == official
    return name, f"md5 {expected}", f"md5 {md5}", md5 == expected


# --- downloading ---------------------------------------------------------------------------------------------------


def fetch(target: str | Path | None = None, mirrors: Sequence[str] | None = None, timeout: float = 10.0) -> Path:
    """Download the four official files, verified, from the first mirror that has them.

    Files already there and right are left alone; each other one is put in its place once it is whole and its MD5 is
    right, replacing a file of the same name. A second download into the same folder waits for the first. Progress
    bars are drawn on standard error if that is a terminal.

    Parameters
    ----------
    target : str or Path, optional
        Folder, made if need be; ``Data/`` under `root` if not given.
    mirrors : sequence of str, optional
        Base URLs; ``$FASHION_MNIST_MIRRORS``, else `MIRRORS`, if not given.
    timeout : float
        Seconds over which a mirror has to send `LOWEST_RATE` on average, else it is given up.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DataError
        If the folder cannot be written, or no mirror gave the right file; the message says what each answered.
    """
    import pooch

    target = root() / "Data" if target is None else _resolved(target)
    mirrors, answers = list(_mirrors() if mirrors is None else mirrors), {}
    arriving = target / ".download"
    try:
        with files.alone(target, f"downloads into {target}", wait=True):
            try:
                for name, md5 in OFFICIAL_MD5.items():
                    if not (target / name).exists() or pooch.file_hash(target / name, "md5") != md5:
                        _fetch_file(name, arriving, mirrors, answers, timeout).replace(target / name)
            finally:
                shutil.rmtree(arriving, ignore_errors=True)  # with what a process that was killed left there
    except OSError as error:
        raise _not_writable(target, error) from error
    return target


def _mirrors() -> tuple[str, ...]:
    return tuple(os.environ.get("FASHION_MNIST_MIRRORS", " ".join(MIRRORS)).split())


def _fetch_file(name: str, folder: Path, mirrors: list[str], answers: dict[str, str], timeout: float) -> Path:
    """Bring one file into `folder`; mirrors that are too slow are taken from the list."""
    from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException, Timeout

    hopeful = list(mirrors)
    for pause in RETRY_PAUSES:
        time.sleep(pause if hopeful else 0)
        for mirror in list(hopeful):
            try:
                return _retrieve(f"{mirror.rstrip('/')}/{name}", name, folder, timeout)
            except (RequestException, ValueError) as error:
                answers[mirror] = "sent other bytes than the official file (a login page in between?)"
                if isinstance(error, RequestException):
                    answers[mirror] = formats.reason(error)
                if isinstance(error, Timeout):
                    mirrors.remove(mirror)
                broken = isinstance(error, (ConnectionError, ChunkedEncodingError))
                if not broken and not answers[mirror].startswith("answered 5"):  # then it will not pass
                    hopeful.remove(mirror)
    said = "; ".join(f"{mirror} {answer}" for mirror, answer in answers.items()) or "no mirror is configured"
    raise DataError(
        f"{name} could not be downloaded: {said}. Try again later, name another mirror in "
        "$FASHION_MNIST_MIRRORS, or copy the four files to Data/ by hand"
    )


class _Progress(tqdm):
    """A bar that pooch moves for each kilobyte, and that ends a download that is endless or was given up."""

    allowed = 2 * formats.LARGEST_FILE  # bytes; pooch counts them all again at the end

    def update(self, n: float | None = 1) -> bool | None:
        self.allowed -= n
        if self.allowed < 0:
            raise ValueError("sends no end, or was given up")
        return super().update(n)

    def __bool__(self) -> bool:  # pooch asks, and tqdm says no where the length is not known
        return True


def _retrieve(url: str, name: str, folder: Path, timeout: float) -> Path:
    """Download one file by pooch, in a thread whose speed is watched."""
    import pooch
    from requests import Timeout

    pooch.get_logger().setLevel("WARNING")  # else it prints paths
    progress = _Progress(desc=name, unit="B", unit_scale=True, disable=None)  # None: unless it is no terminal
    downloader = pooch.HTTPDownloader(
        progress,
        timeout=2 * timeout,  # ends the thread of a download that was given up
        headers={"Accept-Encoding": "identity"},
        # Some servers call gzip an encoding of the file, and requests would unpack it.
        hooks={"response": lambda response, **_: response.raw.headers.discard("Content-Encoding")},
    )
    work = partial(pooch.retrieve, url, f"md5:{OFFICIAL_MD5[name]}", name, folder, downloader=downloader)
    arriving = _in_background(work)
    try:
        while not arriving.done():
            before = progress.allowed
            wait([arriving], timeout)
            if not arriving.done() and before - progress.allowed < LOWEST_RATE * timeout:
                raise Timeout(f"sent {before - progress.allowed:,} bytes in {timeout:g} s")
        return Path(arriving.result())
    finally:
        progress.allowed = 0
        progress.close()


def _in_background(work: Callable[[], object]) -> Future:
    """Run in a thread that keeps no process alive: a name server that blocks cannot be interrupted."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


_unreachable: dict[tuple[str, ...], str] = {}


def _fetch_if_reachable(target: Path) -> Path:
    """`fetch` for the search: all mirrors are asked at once, those that are silent left out, once a process."""
    mirrors = _mirrors()
    try:
        if mirrors in _unreachable:
            raise DataError(_unreachable[mirrors])
        asked = {mirror: _in_background(partial(_ask, mirror)) for mirror in mirrors}
        wait(asked.values(), SEARCH_TIMEOUT)
        errors = {mirror: a.exception() if a.done() else TimeoutError("timed out") for mirror, a in asked.items()}
        if all(errors.values()):
            silent = "; ".join(f"{mirror} {formats.reason(error)}" for mirror, error in errors.items())
            raise DataError(f"no mirror answers ({silent or 'none is configured'})")
        return fetch(target, [mirror for mirror, error in errors.items() if not error])
    except DataError as error:
        _unreachable[mirrors] = str(error)
        raise


def _ask(mirror: str) -> None:
    """Receive the smallest file and forget it; a page that reports an error is an answer, too."""
    import requests

    url = f"{mirror.rstrip('/')}/t10k-labels-idx1-ubyte.gz"
    with requests.get(url, stream=True, timeout=SEARCH_TIMEOUT) as response:
        response.raw.read(5_000)


def _not_writable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written ({formats.reason(error)}): choose another folder")


# --- writing -------------------------------------------------------------------------------------------------------


def pack(path: str | Path | None, target: str | Path) -> Path:
    """Write the real data into one zip, `target`, for Colab or a machine without network. The files go in as they are.

    `path` is a folder or zip, or None for what `load` would read without downloading. A file at `target` is replaced at
    the end.

    Raises
    ------
    DataError
        If the data is bad or only the sample, or `target` cannot be written.
    """
    dataset, found = load(path, download=False), formats.find(_locate(path, download=False))
    if dataset.kind == "sample":
        raise DataError(f"{found.path} is the sample, not real data: run `fashion-mnist data fetch`, or give a path")
    contents = {name: found.read(name) for name in found.names()}
    return write_zip(target, contents, {"kind": dataset.kind, "fingerprint": dataset.fingerprint})


def write_zip(target: str | Path, contents: dict[str, bytes], manifest: dict) -> Path:
    """Write data files and a manifest with their checksums into a folder ``Data`` in a zip, whole or not at all.

    The same content gives the same bytes. Raises `DataError` if `target` cannot be written.
    """
    manifest = manifest | {"files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}
    members = {"manifest.json": json.dumps(manifest, indent=2).encode()} | contents
    target = _resolved(target)
    try:
        files.write_bytes(target, files.zipped({f"Data/{name}": content for name, content in members.items()}))
    except OSError as error:
        raise _not_writable(target, error) from error
    return target

"""Find, verify, download, read and split Fashion-MNIST.

`load` is all that most callers need. It searches, in this order: the path it is given, ``$FASHION_MNIST_DATA``,
``Data/``, a ``data.zip`` of real data, the mirrors, and at last the sample in ``data.zip``. The files may be the four
official IDX files (gzip or not), the Kaggle CSVs, CSVs already split into training, validation and test, or a zip of
any of these; the arrays are the same whichever way. Bad input raises `DataError`, which names the file and the remedy.

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
import gzip
import hashlib
import http.client
import io
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fashion_mnist import __version__

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)

OFFICIAL_FINGERPRINT = "cc5a065e1bae5ce2"

SAMPLE_BANNER = "SAMPLE DATA: generated images, not Fashion-MNIST; numbers below say nothing about the real data"

SAMPLE_TRAIN = 8_000
SAMPLE_TEST = 2_000

# Seconds the search waits for a mirror to say something. With two mirrors an unreachable network costs at most three
# such waits (asking both at once, then each in turn), so the sample is reached within ten seconds.
SEARCH_TIMEOUT = 2.5


class OfficialFile(NamedTuple):
    """What is published about one gzip file, and the SHA-256 of what it holds."""

    md5: str
    size: int
    content_sha256: str


OFFICIAL_FILES = {
    "train-images-idx3-ubyte.gz": OfficialFile(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        26_421_880,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": OfficialFile(
        "25c81989df183df01b3e8a0aad5dffbe",
        29_515,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": OfficialFile(
        "bef4ecab320f06d8554ea6380940ec79",
        4_422_102,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": OfficialFile(
        "bb300cfdad3c16e7a12a480ee83cd310",
        5_148,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}

IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CSV_NAMES = {
    "pre-split CSV": {
        "train": "training_data.csv",
        "validation": "validation_data.csv",
        "test": "testing_data.csv",
    },
    "Kaggle CSV": {"train": "fashion-mnist_train.csv", "test": "fashion-mnist_test.csv"},
}
_KNOWN_NAMES = {
    "manifest.json",
    *OFFICIAL_FILES,
    *(name for names in IDX_NAMES.values() for name in names),
    *(name for files in CSV_NAMES.values() for name in files.values()),
}
CSV_COLUMNS = ["label", *(f"pixel{i}" for i in range(1, 785))]

_FORMATS = (
    "the four official files (train-images-idx3-ubyte.gz, …; gunzipped will do), fashion-mnist_train.csv and "
    "fashion-mnist_test.csv, or training_data.csv, validation_data.csv and testing_data.csv"
)
_GET = "`fashion-mnist data fetch` downloads the official files into Data/"
_LARGEST_MEMBER = 1 << 30  # bytes; the largest known file, the Kaggle training CSV, has 133 MB

Split = tuple[np.ndarray, np.ndarray]


class DataError(Exception):
    """Data that cannot be used; the message names the file, what is wrong with it and what to do."""


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
        "official" only where the arrays are those of the official files, split as `load` splits them.
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

    def splits(self) -> dict[str, Split]:
        """Images and labels by the name of the split: "train", "validation", "test"."""
        return {
            "train": (self.x_train, self.y_train),
            "validation": (self.x_val, self.y_val),
            "test": (self.x_test, self.y_test),
        }

    def subset(self, train: int | None, validation: int | None, test: int | None, seed: int = 0) -> Dataset:
        """A smaller data set with the same class proportions, in the original order.

        Parameters
        ----------
        train, validation, test : int or None
            Images to keep of each split; None, or more than there are, keeps all.
        seed : int
            Of the draw. With one seed, a smaller subset of balanced classes lies inside a larger one.

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
            if n is None or n >= len(y):
                kept += [x, y]
            else:
                chosen = _stratified(y, n, seed)
                kept += [_frozen(x[chosen]), _frozen(y[chosen])]
        names = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
        return replace(self, **dict(zip(names, kept, strict=True)))

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
        return Path(named).expanduser().resolve()
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
        Folder or zip to read. Without it: ``$FASHION_MNIST_DATA``, ``Data/``, a ``data.zip`` of real data, a
        download into ``Data/``, the sample.
    download : bool
        Whether the search may download.

    Returns
    -------
    Dataset

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
    return _open(_locate(path, download))


def info(path: str | Path | None = None) -> dict:
    """What `load` would read without downloading, as plain numbers and strings (JSON).

    Returns
    -------
    dict
        ``path``, ``source``, ``kind``, ``fingerprint``, ``images`` (split → number), ``classes`` (split → class name →
        number) and ``files`` (name → bytes).
    """
    place = _locate(path, download=False)
    dataset = _open(place)
    members = _members(place)
    return {
        "path": str(place),
        "source": dataset.source,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
        "images": {name: len(y) for name, (_, y) in dataset.splits().items()},
        "classes": {
            name: dict(zip(CLASS_NAMES, np.bincount(y, minlength=10).tolist(), strict=True))
            for name, (_, y) in dataset.splits().items()
        },
        "files": {name: members[name].size for name in _layout(members, place).files()},
    }


def _locate(path: str | Path | None, download: bool) -> Path:
    """Path of the data; the files behind it may still turn out to be bad."""
    named = path or os.environ.get("FASHION_MNIST_DATA")
    if named:
        return Path(named).expanduser().resolve()

    folder, archive = root() / "Data", root() / "data.zip"
    if folder.is_dir() and _worth_opening(folder):
        return folder
    shipped = _manifest(_members(archive), archive) if archive.is_file() else None
    if shipped is not None and shipped.get("kind") != "sample":
        return archive

    reason = "a download was not asked for"
    if download:
        try:
            return _fetch_if_reachable(folder)
        except DataError as error:
            reason = str(error)
    if shipped is None:
        raise DataError(
            f"no data: nothing in {folder}, no {archive.name} beside it, and {reason} — {_GET}; offline, copy "
            "the files or a zip of them here and pass its path (--data PATH or $FASHION_MNIST_DATA)"
        )
    if download:
        warnings.warn(f"using the sample instead of the real data: {reason}", stacklevel=3)
    return archive


def _worth_opening(folder: Path) -> bool:
    """Whether `Data/` is to be read as it is.

    If it is empty or holds an interrupted download, the mirrors can make it whole. Files that no download puts there
    are somebody's own data: they are opened even if some are missing, and refused with the names of those.
    """
    names = set(_members(folder))
    downloaded = names & set(OFFICIAL_FILES)
    by_hand = {name for layout in CSV_NAMES.values() for name in layout.values()}
    by_hand |= {name.removesuffix(".gz") for name in OFFICIAL_FILES}
    return len(downloaded) == len(OFFICIAL_FILES) or bool(names & by_hand)


class _Member(NamedTuple):
    """One file of a folder or zip; reading waits until the layout is known."""

    size: int
    read: Callable[[], bytes]


def _members(path: Path) -> dict[str, _Member]:
    """Data files in a folder, or in a zip whichever folder inside they lie in, by name."""
    try:
        if path.is_dir():
            files = (path / name for name in _KNOWN_NAMES)
            return {file.name: _Member(file.stat().st_size, file.read_bytes) for file in files if file.is_file()}
        if path.is_file():
            return _zip_members(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read ({_reason(error)}): give a folder or a zip that holds {_FORMATS}"
        ) from error
    raise DataError(f"{path} does not exist: give a folder or a zip that holds {_FORMATS} — {_GET}")


def _zip_members(path: Path) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            inside = PurePosixPath(entry.filename.replace("\\", "/"))
            # Nothing is ever extracted, but an archive made to escape its folder is not one to trust.
            if inside.is_absolute() or ".." in inside.parts or ":" in "".join(inside.parts[:1]):
                raise DataError(
                    f"{path.name}: member {entry.filename!r} points outside the archive; pack the files again, "
                    "for example with `fashion-mnist data pack`"
                )
            if inside.name not in _KNOWN_NAMES or "__MACOSX" in inside.parts:
                continue
            if inside.name in members:
                raise DataError(f"{path.name} holds {inside.name} twice: keep one data set to a zip")
            members[inside.name] = _Member(entry.file_size, partial(_read_zip_member, path, entry))
    return members


def _read_zip_member(path: Path, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > _LARGEST_MEMBER:
        raise DataError(f"{path.name}: {entry.filename} unpacks to {entry.file_size:,} bytes, which no data set needs")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(entry)
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:  # RuntimeError: encrypted
        raise DataError(
            f"{path.name}: {entry.filename} cannot be unpacked ({error}): pack or copy the zip again"
        ) from error


class _Layout(NamedTuple):
    """Which files make up which split: one CSV, or images and labels in IDX."""

    format: str
    splits: dict[str, tuple[str, ...]]

    def files(self) -> list[str]:
        return [name for names in self.splits.values() for name in names]


def _layout(members: dict[str, _Member], path: Path) -> _Layout:
    """Recognise the files; IDX goes before CSV and the given split before the two Kaggle files."""
    idx = {
        split: tuple(name + ".gz" if name + ".gz" in members else name for name in names)
        for split, names in IDX_NAMES.items()
    }
    candidates = [_Layout("IDX files", idx)]
    candidates += [_Layout(kind, {s: (name,) for s, name in files.items()}) for kind, files in CSV_NAMES.items()]
    for candidate in candidates:
        if all(name in members for name in candidate.files()):
            return candidate
    for candidate in candidates:
        missing = [name for name in candidate.files() if name not in members]
        if len(missing) < len(candidate.files()):
            raise DataError(
                f"{path} lacks {', '.join(missing)} beside what is there: add it, or remove the rest — {_GET}"
            )
    raise DataError(f"{path} holds no data: it needs {_FORMATS} — {_GET}")


def _manifest(members: dict[str, _Member], path: Path) -> dict:
    """The note that `write_sample` and `pack` leave beside the data; empty if there is none."""
    if "manifest.json" not in members:
        return {}
    try:
        manifest = json.loads(members["manifest.json"].read())
    except ValueError as error:
        raise DataError(
            f"{path.name}: manifest.json is not JSON ({error}): make the zip again, or leave it out"
        ) from error
    # Somebody else's file may have this name: what it lacks is not an error, only nothing to go by.
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else {}


# --- reading -------------------------------------------------------------------------------------------------------

_cache: dict[Path, tuple[tuple, Dataset]] = {}


def _open(path: Path) -> Dataset:
    members = _members(path)
    layout = _layout(members, path)
    stamp = _stamp(path, layout)
    if path in _cache and _cache[path][0] == stamp:
        return _cache[path][1]

    manifest = _manifest(members, path)
    contents = {name: members[name].read() for name in layout.files()}
    _check_manifest(manifest, contents, path)
    splits = {split: _read_split(names, contents) for split, names in layout.splits.items()}
    if "validation" not in splits:
        splits["train"], splits["validation"] = _hold_out(*splits["train"])

    fingerprint = _fingerprint(splits)
    if fingerprint == OFFICIAL_FINGERPRINT:
        kind, source = "official", f"official {layout.format}" if layout.format == "IDX files" else layout.format
    else:
        _refuse_damaged(layout, splits, contents, path)
        kind = "sample" if manifest.get("kind") == "sample" else "unverified"
        source = "sample" if kind == "sample" else layout.format
    if path.is_file():
        source += f" in {path.name}"

    (x_train, y_train), (x_val, y_val), (x_test, y_test) = (splits[name] for name in ("train", "validation", "test"))
    arrays = (_frozen(array) for array in (x_train, y_train, x_val, y_val, x_test, y_test))
    dataset = Dataset(*arrays, source=source, kind=kind, fingerprint=fingerprint)
    _cache[path] = (stamp, dataset)
    return dataset


def _stamp(path: Path, layout: _Layout) -> tuple:
    """Changes when the files do: name, size and time of last change of each."""
    files = [path / name for name in layout.files()] if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _check_manifest(manifest: dict, contents: dict[str, bytes], path: Path) -> None:
    for name, expected in manifest.get("files", {}).items():
        if name in contents and (actual := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise DataError(
                f"{path}: checksum mismatch of {name}: SHA-256 is {actual}, manifest.json says {expected}; "
                "copy or make the zip again"
            )


def _refuse_damaged(layout: _Layout, splits: dict[str, Split], contents: dict[str, bytes], path: Path) -> None:
    """As many images as the official files, under their names, yet not theirs: damaged, outdated, or another set.

    Smaller IDX files are somebody's own data and welcome.
    """
    total = {name: len(y) for name, (_, y) in splits.items()}
    if layout.format != "IDX files" or (total["train"] + total["validation"], total["test"]) != (60_000, 10_000):
        return
    for name, content in contents.items():
        _, expected, actual, ok = _checksum(name, content)
        if not ok:
            raise DataError(
                f"{path}: checksum mismatch of {name}: expected {expected}, found {actual}. It is damaged, "
                "the version withdrawn in August 2017, or another data set: delete it, then `fashion-mnist data fetch`"
            )


def _read_split(names: tuple[str, ...], contents: dict[str, bytes]) -> Split:
    if len(names) == 1:
        return _read_csv(names[0], contents[names[0]])
    images, labels = (_read_idx(name, contents[name]) for name in names)
    if len(images) != len(labels):
        raise DataError(
            f"{names[0]} holds {len(images):,} images but {names[1]} {len(labels):,} labels: "
            "take both from the same place"
        )
    return images[..., np.newaxis], labels.astype(np.int64)


def _read_idx(name: str, content: bytes) -> np.ndarray:
    """Images, shape (n, 28, 28), or labels, shape (n,), as the name says; dtype uint8."""
    if name.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{name} is not a complete gzip file ({error}): delete it; {_GET}") from error
    magic, shape = (2051, (28, 28)) if "images" in name else (2049, ())
    start = 4 * (2 + len(shape))
    if len(content) < start or int.from_bytes(content[:4], "big") != magic:
        found = int.from_bytes(content[:4], "big")
        raise DataError(
            f"{name} is no IDX file of its kind: magic number {found} instead of {magic}; delete it; {_GET}"
        )
    n, *sides = (int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if tuple(sides) != shape:
        raise DataError(f"{name} holds images of {' × '.join(map(str, sides))} pixels; they have to be 28 × 28")
    due = n * int(np.prod(shape, dtype=int))
    if n == 0 or len(content) - start != due:
        raise DataError(
            f"{name} announces {n:,} items of {due:,} bytes in all but holds "
            f"{len(content) - start:,}: delete it; {_GET}"
        )
    values = np.frombuffer(content, np.uint8, offset=start).reshape(n, *shape)
    if not shape and values.max() > 9:
        raise DataError(
            f"{name}: label {values.max()} of item {values.argmax() + 1:,} is outside 0..9; correct the file"
        )
    return values


def _read_csv(name: str, content: bytes) -> Split:
    import pandas as pd

    header = content[: content.find(b"\n") + 1].decode("utf-8-sig", errors="replace")
    columns = [column.strip().strip('"') for column in header.split(",")]
    if columns != CSV_COLUMNS:
        raise DataError(f"{name}: {_compare_columns(columns)}; the header has to be label,pixel1,…,pixel784")
    largest = np.array([9] + [255] * 784)
    rows = []
    try:
        # The header is skipped, not given as names: pandas would take a surplus first column for an index.
        chunks = pd.read_csv(io.BytesIO(content), header=None, skiprows=1, chunksize=4096, low_memory=False)
        for chunk in chunks:
            if chunk.shape[1] != len(CSV_COLUMNS):
                raise DataError(
                    f"{name}: line {chunk.index[0] + 2} has {chunk.shape[1]} cells instead of 785; correct it"
                )
            if not all(kind.kind in "iu" for kind in chunk.dtypes):
                numbers = chunk.apply(pd.to_numeric, errors="coerce").to_numpy(float)
            else:
                numbers = chunk.to_numpy()
            wrong = ~((numbers >= 0) & (numbers <= largest) & (numbers % 1 == 0))  # also true for a missing number
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                raise DataError(
                    f"{name}: line {chunk.index[row] + 2}, column {CSV_COLUMNS[column]} holds "
                    f"{str(chunk.iat[row, column])!r}, which is no whole number in 0..{largest[column]}; "
                    "correct the cell or get the file again"
                )
            rows.append(numbers.astype(np.uint8))
    except ValueError as error:  # pandas' own errors are all ValueErrors
        raise DataError(f"{name} is no valid CSV ({str(error).strip()}): correct it or get the file again") from error
    table = np.concatenate(rows)
    return table[:, 1:].reshape(-1, 28, 28, 1), table[:, 0].astype(np.int64)


def _compare_columns(columns: list[str]) -> str:
    missing = [column for column in CSV_COLUMNS if column not in columns]
    extra = [column for column in columns if column not in CSV_COLUMNS]
    parts = [
        f"{what} {', '.join(map(repr, names[:3]))}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for what, names in (("column missing:", missing), ("surplus column:", extra))
        if names
    ]
    return " and ".join(parts) or "columns repeated or in another order"


def _hold_out(x: np.ndarray, y: np.ndarray) -> tuple[Split, Split]:
    """Training and validation set. Its own few lines and a frozen generator: the fingerprint hangs on them, and
    importing scikit-learn would take longer than reading the data."""
    held = np.zeros(len(y), bool)
    held[_stratified(y, len(y) // 6, seed=0)] = True
    if held.all() or not held.any():
        raise DataError(f"{len(y)} training images are too few to hold a validation set out: give at least 6")
    return (x[~held], y[~held]), (x[held], y[held])


def _stratified(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Sorted indices of `n` labels drawn in the proportions of the classes; the largest fractions are rounded up."""
    counts = np.bincount(labels, minlength=10)
    quota, remainder = np.divmod(counts * n, len(labels))
    quota[np.argsort(-remainder, kind="stable")[: n - quota.sum()]] += 1
    random = np.random.RandomState(seed)
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


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


# --- verifying -----------------------------------------------------------------------------------------------------


def verify(path: str | Path | None = None) -> list[tuple[str, str, str, bool | None]]:
    """Compare every data file with its checksum.

    IDX files are held against the official ones: the MD5 of a gzip file, else the SHA-256 of what it unpacks to (a file
    compressed again still holds the same images). A zip made by `write_sample` or `pack` is held against the SHA-256 in
    its manifest. CSVs have no published checksum.

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
        If there is no data, or a file is missing. A damaged file is an entry of the list, not an error.
    """
    place = _locate(path, download=False)
    members = _members(place)
    stated = _manifest(members, place).get("files", {})
    table = []
    for name in _layout(members, place).files():
        content = members[name].read()
        if name in stated:
            actual = hashlib.sha256(content).hexdigest()
            table.append((name, f"sha256 {stated[name]}", f"sha256 {actual}", actual == stated[name]))
        else:
            table.append(_checksum(name, content))
    return table


def _checksum(name: str, content: bytes) -> tuple[str, str, str, bool | None]:
    """One row of `verify`."""
    official = OFFICIAL_FILES.get(name.removesuffix(".gz") + ".gz")
    if official is None:
        return name, "none published", f"sha256 {hashlib.sha256(content).hexdigest()}", None
    if name.endswith(".gz"):
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        try:
            same = (
                md5 == official.md5 or hashlib.sha256(gzip.decompress(content)).hexdigest() == official.content_sha256
            )
        except (EOFError, OSError, zlib.error):
            same = False
        if same and md5 != official.md5:
            return name, f"sha256 {official.content_sha256}", f"sha256 {official.content_sha256}", True
        return name, f"md5 {official.md5}", f"md5 {md5}", same
    sha256 = hashlib.sha256(content).hexdigest()
    return name, f"sha256 {official.content_sha256}", f"sha256 {sha256}", sha256 == official.content_sha256


# --- downloading ---------------------------------------------------------------------------------------------------


def fetch(target: str | Path | None = None, mirrors: Sequence[str] | None = None, timeout: float = 10.0) -> Path:
    """Download the four official files, verified, from the first mirror that has them.

    Files already there and right are left alone. Each other one grows as ``NAME.part``, which a later call resumes, and
    is renamed once its MD5 is right: until then nothing on disk changes; a file of the same name and other content is
    replaced at that moment. Mirrors are tried in turn for as long as new bytes arrive. A progress bar is drawn on
    standard error if that is a terminal.

    Parameters
    ----------
    target : str or Path, optional
        Folder, made if need be; ``Data/`` under `root` if not given.
    mirrors : sequence of str, optional
        Base URLs; ``$FASHION_MNIST_MIRRORS``, else `MIRRORS`, if not given.
    timeout : float
        Seconds without a single byte after which a mirror is given up.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DataError
        If the folder cannot be written, or no mirror gave the right file; the message says what each answered.
    """
    target = root() / "Data" if target is None else Path(target).expanduser()
    mirrors = _mirrors() if mirrors is None else tuple(mirrors)
    with _alone_in(target):
        for name in OFFICIAL_FILES:
            if not _is_official(target / name):
                _fetch_file(name, target, mirrors, timeout)
    return target


def _mirrors() -> tuple[str, ...]:
    named = os.environ.get("FASHION_MNIST_MIRRORS")
    return MIRRORS if named is None else tuple(named.split())


def _is_official(file: Path, name: str | None = None) -> bool:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _not_writable(file, error) from error
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == OFFICIAL_FILES[name or file.name].md5


def _fetch_file(name: str, target: Path, mirrors: tuple[str, ...], timeout: float) -> None:
    part, final = target / f"{name}.part", target / name
    size = OFFICIAL_FILES[name].size
    # A part of full length was interrupted before its check.
    if _size(part) >= size and _finish(part, final):
        return
    answers: dict[str, str] = {}
    furthest = -1
    while _size(part) > furthest:  # for as long as a round brings new bytes
        furthest = _size(part)
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}"
            try:
                resumed = _size(part) > 0
                _receive(url, part, size, timeout)
                if _finish(part, final):
                    return
                if resumed:  # the wrong bytes may be those of another mirror, so this one gets a chance of its own
                    _receive(url, part, size, timeout)
                    if _finish(part, final):
                        return
                answers[mirror] = "sent other bytes than the official file (a login page in between?)"
            except (OSError, http.client.HTTPException, ValueError) as error:
                answers[mirror] = _reason(error)
    said = "; ".join(f"{mirror} {answer}" for mirror, answer in answers.items()) or "no mirror is configured"
    raise DataError(
        f"{name} could not be downloaded: {said}. Try again later (it resumes), name another mirror in "
        "$FASHION_MNIST_MIRRORS, or copy the four files to Data/ by hand"
    )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _finish(part: Path, final: Path) -> bool:
    """Put a complete download in its place if it is the official file; throw it away if not."""
    try:
        if _is_official(part, final.name):
            part.replace(final)
            return True
        part.unlink()
    except OSError as error:
        raise _not_writable(final, error) from error
    return False


def _receive(url: str, part: Path, size: int, timeout: float) -> None:
    """Append the rest of the file to `part`; from the start where the server cannot send the rest alone."""
    have = _size(part)
    headers = {"User-Agent": f"fashion-mnist-study/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
        begins = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        length = response.headers.get("Content-Length")
        if length is not None and begins + int(length) != size:
            raise ValueError(f"offers {begins + int(length):,} bytes instead of {size:,}")
        _append(response, part, begins, size)
    if _size(part) != size:
        raise ConnectionError(f"ended after {_size(part):,} of {size:,} bytes")


def _append(response: http.client.HTTPResponse, part: Path, begins: int, size: int) -> None:
    from tqdm import tqdm

    try:
        out = part.open("ab" if begins else "wb")
    except OSError as error:
        raise _not_writable(part, error) from error
    name = part.name.removesuffix(".gz.part")
    # disable=None: no bar where standard error is not a terminal
    with out, tqdm(total=size, initial=begins, desc=name, unit="B", unit_scale=True, disable=None) as bar:
        # read1 hands over what has arrived, so that a connection that stalls later loses none of it.
        while out.tell() < size and (chunk := response.read1(min(1 << 16, size - out.tell()))):
            try:
                out.write(chunk)
            except OSError as error:
                raise _not_writable(part, error) from error
            bar.update(len(chunk))


def _fetch_if_reachable(target: Path) -> Path:
    """`fetch` for the search: mirrors that do not answer at once are left out, and asked only once a process."""
    mirrors = _mirrors()
    if mirrors in _unreachable:
        raise DataError(_unreachable[mirrors])
    try:
        with _alone_in(target):  # says so now if nothing could be written
            pass
        answering, silent = _ask(mirrors, SEARCH_TIMEOUT)
        if not answering:
            said = "; ".join(f"{mirror} {answer}" for mirror, answer in silent.items()) or "no mirror is configured"
            raise DataError(f"the official files could not be downloaded: {said}")
        return fetch(target, answering, SEARCH_TIMEOUT)
    except DataError as error:
        _unreachable[mirrors] = str(error)
        raise


_unreachable: dict[tuple[str, ...], str] = {}


def _ask(mirrors: tuple[str, ...], timeout: float) -> tuple[list[str], dict[str, str]]:
    """Mirrors that answer in time, in their order, and what is wrong with the others.

    Asked in threads, since a name server that does not answer blocks longer than any time-out of a connection.
    """
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    smallest = min(OFFICIAL_FILES, key=lambda name: OFFICIAL_FILES[name].size)

    def ask(mirror: str) -> None:
        try:
            with urllib.request.urlopen(f"{mirror.rstrip('/')}/{smallest}", timeout=timeout) as response:
                response.read(1)
            answers.put((mirror, ""))
        except (OSError, http.client.HTTPException, ValueError) as error:
            answers.put((mirror, _reason(error)))

    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    wrong = dict.fromkeys(mirrors, f"did not answer within {timeout:g} s")
    deadline = time.monotonic() + timeout
    with contextlib.suppress(queue.Empty):
        for _ in mirrors:
            mirror, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            wrong[mirror] = answer
    return [mirror for mirror in mirrors if not wrong[mirror]], {m: answer for m, answer in wrong.items() if answer}


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time download into `folder`; the system gives the lock back if that process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".fetch.lock").open("wb")
    except OSError as error:
        raise _not_writable(folder, error) from error
    with lock:
        try:
            import fcntl
        except ImportError:
            import msvcrt

            for _ in range(60):  # ten seconds each; the other download may take minutes, a file system lack locks
                with contextlib.suppress(OSError):
                    msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            with contextlib.suppress(OSError):  # a file system without locks: two downloads would only waste time
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    """What went wrong, without Python's decoration."""
    if isinstance(error, urllib.error.HTTPError):
        return f"answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else OSError(error.reason)
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _not_writable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written ({_reason(error)}): choose another folder, or close what uses the file")


# --- writing -------------------------------------------------------------------------------------------------------


def pack(path: str | Path | None, target: str | Path) -> Path:
    """Write the real data into one zip, for Colab or a machine without network. The files go in as they are.

    Parameters
    ----------
    path : str, Path or None
        Folder or zip to pack; None: what `load` would read without downloading.
    target : str or Path
        Zip to write; replaced at the end if it is there.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DataError
        If the data is bad or only the sample, or `target` cannot be written.
    """
    place = _locate(path, download=False)
    dataset = _open(place)
    if dataset.kind == "sample":
        raise DataError(f"{place} is the sample, not real data: run `fashion-mnist data fetch` first, or give a path")
    members = _members(place)
    files = {name: members[name].read() for name in _layout(members, place).files()}
    return _write_zip(Path(target).expanduser(), files, {"kind": dataset.kind, "fingerprint": dataset.fingerprint})


def write_sample(source: Dataset, target: str | Path) -> Path:
    """Generate the sample and write it as a zip: 8,000 training and 2,000 test images that behave like the real ones.

    For each class, the training and validation images are reduced by PCA to 100 components, a mixture of 20 Gaussians
    is fitted to them, and new images are drawn from it; no real image is in the sample. The zip comes out bit for bit
    the same: everything is seeded, the covariances are sums of whole numbers and so exact, one thread does the work,
    and what is fitted is rounded before it is used, which hides the last-digit differences between processors.

    Parameters
    ----------
    source : Dataset
        The official data set, whole.
    target : str or Path
        Zip to write; replaced at the end if it is there.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DataError
        If `source` is not the whole official data set, or `target` cannot be written.
    """
    from threadpoolctl import threadpool_limits

    if source.kind != "official" or len(source.y_train) + len(source.y_val) != 60_000:
        raise DataError(f"the sample is made from the whole official data set, not from {source.describe()} — {_GET}")
    pixels = np.concatenate([source.x_train, source.x_val]).reshape(-1, 784)
    labels = np.concatenate([source.y_train, source.y_val])
    random = np.random.RandomState(0)
    each = (SAMPLE_TRAIN + SAMPLE_TEST) // 10
    with threadpool_limits(1):
        drawn = np.stack([_draw_like(pixels[labels == label], each, random) for label in range(10)], axis=1)

    # Image by image the classes take turns; each split is then shuffled.
    drawn, classes = drawn.reshape(-1, 784), np.tile(np.arange(10, dtype=np.uint8), each)
    order = np.concatenate([random.permutation(SAMPLE_TRAIN), SAMPLE_TRAIN + random.permutation(SAMPLE_TEST)])
    drawn, classes = drawn[order], classes[order]
    parts = {"train": slice(None, SAMPLE_TRAIN), "test": slice(SAMPLE_TRAIN, None)}
    files = {}
    for split, (images_name, labels_name) in IDX_NAMES.items():
        files[images_name] = _idx(drawn[parts[split]].reshape(-1, 28, 28))
        files[labels_name] = _idx(classes[parts[split]])
    note = "generated images (PCA and Gaussian mixtures a class), not Fashion-MNIST"
    return _write_zip(
        Path(target).expanduser(), files, {"kind": "sample", "note": note, "fitted_to": source.fingerprint}
    )


def _draw_like(pixels: np.ndarray, n: int, random: np.random.RandomState) -> np.ndarray:
    """`n` new images of one class, shape (n, 784), uint8, from a Gaussian mixture in PCA coordinates."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    components, gaussians, steps, faintest = 100, 20, 8, 16
    x = pixels.astype(np.float64)
    mean = x.mean(axis=0)
    covariance = (len(x) * (x.T @ x) - np.outer(x.sum(axis=0), x.sum(axis=0))) / len(x) ** 2
    axes = np.linalg.eigh(covariance)[1][:, : -components - 1 : -1]
    axes = np.round(axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(components)]), 6)

    # A fixed number of steps: a test of convergence could fall on either side of its limit.
    mixture = GaussianMixture(gaussians, max_iter=steps, tol=0.0, reg_covar=1.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(np.round((x - mean) @ axes, 3))
    weights, means = np.round(mixture.weights_, 6), np.round(mixture.means_, 3)
    spreads = np.linalg.cholesky(np.round(mixture.covariances_, 3))

    which = random.choice(gaussians, n, p=weights / weights.sum())
    noise = random.standard_normal((n, components))
    drawn = means[which] + np.einsum("nij,nj->ni", spreads[which], noise)
    images = np.clip(np.round(mean + drawn @ axes.T), 0, 255).astype(np.uint8)
    # Half the pixels of real images are 0, while those of the mixture scatter around it; black also compresses.
    return np.where(images < faintest, 0, images).astype(np.uint8)


def _idx(values: np.ndarray) -> bytes:
    """Array of bytes as the content of an IDX file."""
    header = (0x0800 + values.ndim, *values.shape)
    return b"".join(number.to_bytes(4, "big") for number in header) + values.tobytes()


def _write_zip(target: Path, files: dict[str, bytes], manifest: dict) -> Path:
    """Write the files and a manifest with their checksums; the same bytes for the same content, whole or not at all."""
    manifest = manifest | {"files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(unfinished, "w") as archive:
                for name, content in ({"manifest.json": json.dumps(manifest, indent=2).encode()} | files).items():
                    entry = zipfile.ZipInfo(name)  # dated 1980-01-01
                    entry.create_system, entry.external_attr = 3, 0o644 << 16  # not the system it was made on
                    compression = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
                    archive.writestr(entry, content, compression, compresslevel=9)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise _not_writable(target, error) from error
    return target

"""Read files that anybody may have made: IDX, gzip, CSV, a zip of them, a manifest.

Whatever the bytes are, the arrays are right or `DataError` says what is wrong, and no more is unpacked than a file of
its kind can need.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np

IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CSV_NAMES = {
    "pre-split CSV": {"train": "training_data.csv", "validation": "validation_data.csv", "test": "testing_data.csv"},
    "Kaggle CSV": {"train": "fashion-mnist_train.csv", "test": "fashion-mnist_test.csv"},
}
CSV_COLUMNS = ["label", *(f"pixel{i}" for i in range(1, 785))]

# Bytes of the largest file that is read, unpacked: 204,000 images in IDX. The largest known, a Kaggle CSV, has 133 MB.
LARGEST_FILE = 160_000_000
LARGEST_MANIFEST = 1_000_000
LONGEST_LINE = 785 * 32  # bytes of a CSV

FORMATS = (
    "the four official files (train-images-idx3-ubyte.gz, …; gunzipped will do), fashion-mnist_train.csv and "
    "fashion-mnist_test.csv, or training_data.csv, validation_data.csv and testing_data.csv"
)
FETCH = "`fashion-mnist data fetch` downloads the official files into Data/"

_KNOWN_NAMES = {name + end for names in IDX_NAMES.values() for name in names for end in ("", ".gz")}
_KNOWN_NAMES |= {name for names in CSV_NAMES.values() for name in names.values()} | {"manifest.json"}
_WHOLE = re.compile(r"\s*\+?0*(\d{1,3})(\.0*)?\s*")
# What a damaged or hostile file makes the standard library raise; RuntimeError: an encrypted member of a zip.
_UNREADABLE = (OSError, RuntimeError, ValueError, OverflowError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)

Split = tuple[np.ndarray, np.ndarray]


class DataError(Exception):
    """Data that cannot be used; the message names the file, what is wrong with it and what to do."""


class Member(NamedTuple):
    """One file of a folder or zip; reading waits until it is known which are needed."""

    size: int
    changed: int  # nanoseconds since 1970
    read: Callable[[], bytes]


class Found(NamedTuple):
    """The data files at a path: their format, which of them make up which split, and which formats lie there unread."""

    path: Path
    members: dict[str, Member]
    format: str
    splits: dict[str, tuple[str, ...]]  # one CSV each, or images and labels in IDX
    unread: tuple[str, ...]

    def names(self) -> list[str]:
        return [name for names in self.splits.values() for name in names]

    def read(self, name: str, most: int = LARGEST_FILE) -> bytes:
        member = self.members[name]
        if member.size > most:
            raise DataError(f"{self.path}: {name} has {member.size:,} bytes, and {most:,} are the most that is read")
        try:
            return member.read()
        except _UNREADABLE as error:
            raise DataError(f"{self.path}: {name} cannot be read ({reason(error)}): copy or pack it again") from error

    def manifest(self) -> dict:
        """The note that `data.write_zip` leaves beside the data; empty if there is none."""
        if "manifest.json" not in self.members:
            return {}
        try:
            manifest = json.loads(self.read("manifest.json", LARGEST_MANIFEST))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}: manifest.json is not JSON ({reason(error)}): leave it out") from error
        # Somebody else's file may have this name: what it lacks is not an error, only nothing to go by.
        return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else {}


def find(path: Path) -> Found:
    """Recognise the files in a folder or zip.

    IDX goes before CSV, the given split before the two Kaggle files. Raises `DataError` if no set is complete.
    """
    there = members(path)
    zipped = {split: tuple(name + ".gz" for name in names) for split, names in IDX_NAMES.items()}
    mixed = {s: tuple(n + ".gz" if n + ".gz" in there else n for n in names) for s, names in IDX_NAMES.items()}
    # Mixed comes last: the sample's files must not complete an interrupted download.
    known = [Found(path, there, "IDX files", splits, ()) for splits in (zipped, IDX_NAMES, mixed)]
    known += [Found(path, there, kind, {s: (n,) for s, n in names.items()}, ()) for kind, names in CSV_NAMES.items()]
    complete = [each for each in known if there.keys() >= set(each.names())]
    if complete:
        first = complete[0]
        others = [each for each in complete if each.format != first.format]
        note = first.manifest() if others else {}
        if note.get("kind") == "sample" and note["files"].keys() >= set(first.names()):  # any other data wins over it
            first, others[0] = others[0], first
        return first._replace(unread=tuple(each.format for each in others))
    for each in known[2:]:
        missing = [name for name in each.names() if name not in there]
        if len(missing) < len(each.names()):
            raise DataError(f"{path} lacks {', '.join(missing)} beside what is there: add it, or remove the rest")
    what = "holds no data: it needs" if path.exists() else "does not exist: give a folder or a zip that holds"
    raise DataError(f"{path} {what} {FORMATS}; {FETCH}")


def members(path: Path) -> dict[str, Member]:
    """Data files in a folder, or in a zip whichever folder inside they lie in, by name; none if there is neither."""
    try:
        if path.is_dir():
            there = {name: path / name for name in _KNOWN_NAMES if (path / name).is_file()}
            return {n: Member((s := file.stat()).st_size, s.st_mtime_ns, file.read_bytes) for n, file in there.items()}
        return _zip_members(path) if path.is_file() else {}
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read ({reason(error)}): it has to be a folder or a zip") from error


def _zip_members(path: Path) -> dict[str, Member]:
    there: dict[str, Member] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            inside = PurePosixPath(entry.filename.replace("\\", "/"))
            # Nothing is ever extracted, but an archive made to escape its folder is not one to trust.
            if inside.is_absolute() or ".." in inside.parts or ":" in "".join(inside.parts[:1]):
                raise DataError(
                    f"{path}: member {entry.filename[-80:]!r} points outside the archive; pack the files again"
                )
            if inside.name not in _KNOWN_NAMES or "__MACOSX" in inside.parts:
                continue
            if inside.name in there:
                raise DataError(f"{path} holds {inside.name} twice: keep one data set to a zip")
            there[inside.name] = Member(entry.file_size, path.stat().st_mtime_ns, partial(read_member, path, entry))
    return there


def read_member(archive: Path | BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """What a member of a zip holds, checked, and unpacked only as far as the directory says.

    A damaged or hostile member raises an error of zipfile, zlib or Python: EOFError, RuntimeError, ValueError …
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without a limit
        raise ValueError("packed by another method than deflate")
    with zipfile.ZipFile(archive) as opened, opened.open(entry) as member:
        content = _first_bytes(member, entry.file_size).tobytes()
    if len(content) != entry.file_size:
        raise EOFError(f"{len(content):,} bytes instead of {entry.file_size:,}")
    return content


def check(contents: dict[str, bytes], manifest: dict, path: Path) -> None:
    """Refuse files that are not those that the manifest beside them was written for."""
    for name, expected in manifest.get("files", {}).items():
        if name in contents and (actual := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise DataError(
                f"{path}: checksum mismatch of {name}: SHA-256 is {actual}, manifest.json says {str(expected)[:64]!r}; "
                "copy or make the zip again, or delete manifest.json if the files are yours"
            )


def _first_bytes(stream: BinaryIO, size: int) -> np.ndarray:
    """At most `size` bytes of what unpacks to nobody knows how many, without taking more memory than that."""
    room, have = np.empty(size, np.uint8), 0
    while have < size and (more := stream.readinto(memoryview(room)[have : have + (1 << 20)])):
        have += more
    return room[:have]


def read_split(names: tuple[str, ...], contents: dict[str, bytes]) -> Split:
    """Images, shape (n, 28, 28, 1), uint8, and labels, shape (n,), int64 in 0..9, from the content of their files."""
    if len(names) == 1:
        return _read_csv(names[0], contents[names[0]])
    images, labels = (_read_idx(name, contents[name]) for name in names)
    if len(images) != len(labels):
        counts = f"{names[0]} holds {len(images):,} images but {names[1]} {len(labels):,} labels"
        raise DataError(f"{counts}: take both from the same place")
    return images[..., np.newaxis], labels.astype(np.int64)


def unpacked(name: str, content: bytes) -> gzip.GzipFile | io.BytesIO:
    """What a file holds, unpacked only as far as it is read."""
    return gzip.GzipFile(fileobj=io.BytesIO(content)) if name.endswith(".gz") else io.BytesIO(content)


def _read_idx(name: str, content: bytes) -> np.ndarray:
    """Images, shape (n, 28, 28), or labels, shape (n,), as the name says; dtype uint8."""
    magic, shape = (2051, (28, 28)) if "images" in name else (2049, ())
    numbers = 2 + len(shape)
    stream = unpacked(name, content)
    try:
        found, n, *sides = struct.unpack(f">{numbers}I", stream.read(4 * numbers).ljust(4 * numbers, b"\0"))
        if found != magic:
            raise DataError(f"{name} is no IDX file of its kind (magic number {found}, not {magic}): delete it")
        if tuple(sides) != shape:
            raise DataError(f"{name} holds images of {' × '.join(map(str, sides))} pixels; they have to be 28 × 28")
        if n > LARGEST_FILE // 784:
            raise DataError(f"{name} announces {n:,} items, and {LARGEST_FILE // 784:,} are the most that is read")
        due = n * int(np.prod(shape, dtype=int))
        body = _first_bytes(stream, due + 1)  # one more than promised, which also checks the end of a gzip file
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name} is not a complete gzip file ({reason(error)}): delete it; {FETCH}") from error
    if n == 0 or len(body) != due:
        holds = "more" if len(body) > due else f"{len(body):,}"
        raise DataError(f"{name} announces {n:,} items of {due:,} bytes in all but holds {holds}: delete it; {FETCH}")
    values = body.reshape(n, *shape)
    if not shape and values.max() > 9:
        raise DataError(
            f"{name}: label {values.max()} of item {values.argmax() + 1:,} is not in 0..9; correct the file"
        )
    return values


def _read_csv(name: str, content: bytes) -> Split:
    if max(map(len, io.BytesIO(content)), default=0) > LONGEST_LINE:
        raise DataError(f"{name} has a line of more than {LONGEST_LINE:,} bytes: it is no CSV of 28 × 28 pixels")
    header = content[: content.find(b"\n") + 1].decode("utf-8-sig", errors="replace")
    columns = [column.strip().strip('"') for column in header.split(",")]
    for number, (column, right) in enumerate(zip_longest(columns, CSV_COLUMNS), start=1):
        if column != right:
            found = repr(column[:20]) if column else "missing"
            raise DataError(f"{name}: column {number} is {found}; the header has to be label,pixel1,…,pixel784")
    for dtype in (np.uint8, np.float64):  # 7.0 is as good as 7, and rare
        with contextlib.suppress(ValueError, Warning), warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of a fraction that it cuts off
            options = {"delimiter": ",", "skiprows": 1, "quotechar": '"', "comments": None, "encoding": "latin-1"}
            rows = np.loadtxt(io.BytesIO(content), dtype, ndmin=2, **options)
            table = rows.astype(np.uint8)
            if table.shape[1] == len(CSV_COLUMNS) and table[:, 0].max() <= 9 and (table == rows).all():
                return table[:, 1:].reshape(-1, 28, 28, 1), table[:, 0].astype(np.int64)
    raise DataError(f"{name}: {_first_fault(content)}; correct it or get the file again")


def _first_fault(content: bytes) -> str:
    """Where a CSV that cannot be read is wrong."""
    usual = {str(number) for number in range(256)}
    for number, line in enumerate(io.BytesIO(content), start=1):
        cells = line.decode("latin-1").strip().replace('"', "").split(",")
        if number == 1 or cells == [""] or (len(cells[0]) == 1 and usual.issuperset(cells) and len(cells) == 785):
            continue
        if len(cells) != len(CSV_COLUMNS):
            return f"line {number} has {len(cells)} cells instead of {len(CSV_COLUMNS)}"
        for column, cell in zip(CSV_COLUMNS, cells, strict=True):
            whole, most = _WHOLE.fullmatch(cell), 9 if column == "label" else 255
            if not whole or int(whole[1]) > most:
                return f"line {number}, column {column} holds {cell[:20]!r}, which is no whole number in 0..{most}"
    return "it is no valid CSV, or has no rows"


def reason(error: BaseException) -> str:
    """What went wrong, without Python's decoration."""
    if getattr(error, "response", None) is not None:  # of requests
        return f"answered {error.response.status_code} {error.response.reason}"
    while cause := error.__cause__ or error.__context__:
        error = cause
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]

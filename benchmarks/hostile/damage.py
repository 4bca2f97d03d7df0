"""Data files damaged at random, and small files that unpack to gigabytes."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import random
import shutil
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from fashion_mnist import data, files, formats

LARGEST_BOMB = 4 << 30

Splits = Mapping[str, tuple[np.ndarray, np.ndarray]]


# --- files to damage -------------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    """An array of uint8 in the format of the official files."""
    numbers = (0x0800 + values.ndim, *values.shape)
    return struct.pack(f">{len(numbers)}I", *numbers) + values.astype(np.uint8).tobytes()


def as_csv(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A table as Kaggle has it."""
    rows = np.column_stack([labels, images.reshape(len(images), -1)]).tolist()
    return "".join(",".join(map(str, row)) + "\n" for row in [formats.CSV_COLUMNS, *rows]).encode()


def idx_files(splits: Splits) -> dict[str, bytes]:
    """The four files, not compressed."""
    pairs = [zip(names, splits[split], strict=True) for split, names in formats.IDX_NAMES.items()]
    return {name: idx(values.squeeze(-1) if values.ndim > 1 else values) for pair in pairs for name, values in pair}


def as_zip(contents: Mapping[str, bytes], method: int) -> bytes:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(f"Data/{name}"), content, method)
        return buffer.getvalue()


def lay_out(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    return folder


# --- mutations -------------------------------------------------------------------------------------------------------


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with a few pieces replaced, taken out, put in or repeated, near its ends more often; or cut short."""
    for _ in range(chance.randint(1, 3)):
        near, anywhere = chance.randrange(64), chance.randint(0, len(content))
        at = chance.choice([anywhere, min(near, len(content)), max(0, len(content) - near)])
        text = "".join(chance.choices('0123456789.,-+e"\n', k=chance.randint(1, 4))).encode()
        piece = chance.choice([chance.randbytes(chance.randint(1, 8)), text, content[at : at + 40], b""])
        content = content[:at] + piece + content[at + chance.choice([len(piece), 0, chance.randint(1, 40)]) :]
    if chance.random() < 0.2:
        content = content[: chance.randrange(len(content) + 1)]
    return chance.randbytes(chance.randrange(2000)) if chance.random() < 0.05 else content


Pairs = list[tuple[bytes, int]]


def pairs(images: Sequence[Any], labels: Sequence[Any]) -> Pairs:
    """Images with their labels, in an order that does not depend on how they were split."""
    return sorted((bytes(image), int(label)) for image, label in zip(images, labels, strict=True))


def meaning_of_idx(images: bytes, labels: bytes) -> Pairs | None:
    """What two IDX files say, read by the definition of the format; None if they say nothing."""
    items = []
    for content, header, size in ((images, (2051, None, 28, 28), 784), (labels, (2049, None), 1)):
        head = 4 * len(header)
        found = struct.unpack(f">{len(header)}I", content[:head]) if len(content) >= head else ()
        right = found and all(wanted in (None, number) for wanted, number in zip(header, found, strict=True))
        if not right or len(content) - head != found[1] * size:
            return None
        items.append([content[at : at + size] for at in range(head, len(content), size)])
    if len(items[0]) != len(items[1]) or any(label[0] > 9 for label in items[1]):
        return None
    return pairs(items[0], [label[0] for label in items[1]])


def meaning_of_csv(content: bytes) -> Pairs | None:
    """What a CSV says, read by Python's own reader; None where it is no table of whole numbers in range."""
    with contextlib.suppress(ValueError, csv.Error, OverflowError):
        _, *rows = [row for row in csv.reader(io.StringIO(content.decode("latin-1"), newline="")) if row]
        numbers = [[float(cell) for cell in row] for row in rows]
        if all(len(row) == 785 and row[0] in range(10) and set(row) <= set(range(256)) for row in numbers):
            return pairs([map(int, row[1:]) for row in numbers], [row[0] for row in numbers])
    return None


def meaning_of_gzip(images: bytes, labels: bytes) -> Pairs | None:
    with contextlib.suppress(OSError, EOFError, zlib.error):
        return meaning_of_idx(gzip.decompress(images), gzip.decompress(labels))
    return None


Case = tuple[str, Callable[[Path], Path], Pairs | None]  # kind, writes the files into a folder, what they mean


def cases(splits: Splits, count: int, chance: random.Random) -> Iterator[Case]:
    """Damaged data sets of all kinds in turn; one file of the training set is damaged, a zip as a whole."""
    plain, (images, labels) = idx_files(splits), formats.IDX_NAMES["train"]
    zipped = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in plain.items()}
    names = formats.CSV_NAMES["Kaggle CSV"]
    tables = {names[split]: as_csv(*splits[split]) for split in names}
    archives = [as_zip(plain, zipfile.ZIP_DEFLATED), as_zip(zipped, zipfile.ZIP_STORED)]
    whole = pairs(*splits["train"])
    for number in range(count):
        kind = ("IDX", "gzip", "CSV", "zip")[number % 4]
        if kind == "zip":
            archive = damaged(chance.choice(archives), chance)
            yield kind, lambda folder, archive=archive: files.write_bytes(folder / "data.zip", archive), whole
            continue
        contents = {"IDX": plain, "gzip": zipped, "CSV": tables}[kind]
        end = ".gz" if kind == "gzip" else ""
        name = names["train"] if kind == "CSV" else chance.choice([images, images, labels]) + end
        contents = {**contents, name: damaged(contents[name], chance)}
        if kind == "CSV":
            meaning = meaning_of_csv(contents[name])
        else:
            read = meaning_of_gzip if end else meaning_of_idx
            meaning = read(contents[images + end], contents[labels + end])
        yield kind, lambda folder, contents=contents: lay_out(folder, contents), meaning


def verdict(place: Path, meaning: Pairs | None) -> str:
    """What became of damaged data: "refused", "right", or what is wrong."""
    try:
        found = data.load(place)
    except data.DataError as error:
        short = "\n" not in str(error) and len(str(error)) < 1500
        return "refused" if short else f"refused at length: {error}"
    except Exception as error:
        return f"ended in {type(error).__name__}: {error}"
    x, y = np.concatenate([found.x_train, found.x_val]), np.concatenate([found.y_train, found.y_val])
    return "right" if pairs(x, y) == meaning else "accepted with other images or labels than are in it"


def mutations(
    folder: Path, splits: Splits, count: int, chance: random.Random
) -> tuple[list[dict[str, Any]], list[str]]:
    """Damage data files and have them read: a row for each kind of file, and what was wrong, in sentences."""
    wrong, counts, slowest = [], Counter(), Counter()
    bar = tqdm(cases(splits, count, chance), "mutations", count, leave=False, disable=None)
    for number, (kind, write, meaning) in enumerate(bar):
        place = write(folder / f"{number}")  # a new place each time, as what was read is remembered by place
        began = time.perf_counter()
        said = verdict(place, meaning)
        slowest[kind] = max(slowest[kind], time.perf_counter() - began)
        counts[kind, said] += 1
        if said not in ("refused", "right"):
            wrong.append(f"Mutation {number}, {kind}: {said}")
        shutil.rmtree(folder / f"{number}")
    rows = [
        {
            "kind": kind,
            "mutations": sum(counts[each] for each in counts if each[0] == kind),
            "refused": counts[kind, "refused"],
            "right": counts[kind, "right"],
            "slowest_seconds": slowest[kind],
        }
        for kind in slowest
    ]
    return rows, wrong


# --- bombs -----------------------------------------------------------------------------------------------------------


def deflated_zeros(begin: bytes, size: int, wbits: int) -> bytes:
    """`begin` and about `size` zeros, deflated; made in a moment, as one block of zeros is repeated."""
    block, packer = 1 << 22, zlib.compressobj(9, zlib.DEFLATED, wbits)
    first = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + zeros * (size // block) + packer.flush()


def zip_bomb(name: str, begin: bytes, announced: int) -> bytes:
    """A zip of one member that unpacks to `LARGEST_BOMB` and announces another size, if one wants."""
    packed = deflated_zeros(begin, LARGEST_BOMB, -15)
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.compress_size = zipfile.ZIP_DEFLATED, len(packed)
    entry.file_size, entry.CRC, entry.header_offset = announced, 0, 0
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            buffer.write(entry.FileHeader(zip64=announced >= 1 << 32) + packed)
            archive.start_dir = buffer.tell()
            archive.filelist.append(entry)
            archive._didModify = True  # write the directory
        return buffer.getvalue()


# A process of its own: it says when it is ready, waits for a line, and says how long it took to refuse the file.
OPEN = """
import sys, time
from fashion_mnist import data, evaluation, records
from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
try:
    {reader}(Path(sys.argv[1]))
except (data.DataError, ValueError):
    print(time.perf_counter() - began, flush=True)
"""


def bombs(folder: Path, splits: Splits) -> list[dict[str, Any]]:
    """Have files read that unpack to gigabytes; seconds and megabytes until each is refused."""
    images = formats.IDX_NAMES["train"][0]
    few, many = (struct.pack(">4I", 2051, n, 28, 28) for n in (60, formats.LARGEST_FILE // 784))
    plain = idx_files(splits)
    tries = [
        ("gzip", "data.load", "few.gz", deflated_zeros(few, LARGEST_BOMB, 31)),
        ("gzip, announcing the most that is read", "data.load", "many.gz", deflated_zeros(many, LARGEST_BOMB, 31)),
        ("zip", "data.load", "honest.zip", zip_bomb(images, few, LARGEST_BOMB)),
        ("zip, announcing 100 MB", "data.load", "lying.zip", zip_bomb(images, few, 100_000_000)),
        ("arrays", "records.read_arrays", "honest.npz", zip_bomb("test.npy", b"", LARGEST_BOMB)),
        ("arrays, announcing 30 MB", "records.read_arrays", "lying.npz", zip_bomb("test.npy", b"", 30_000_000)),
        ("Keras model", "evaluation.load_classifier", "bomb.keras", zip_bomb("config.json", b"{", 1_000)),
    ]
    rows = []
    for kind, reader, name, content in tqdm(tries, "bombs", leave=False, disable=None):
        place = files.write_bytes(folder / name, content)
        if name.endswith(".gz"):
            rest = {each: value for each, value in plain.items() if each != images}
            place = lay_out(folder / f"{name}.folder", {**rest, f"{images}.gz": content})
        elif name.endswith(".zip"):
            with zipfile.ZipFile(place, "a") as archive:
                for each in plain.keys() - {images}:
                    archive.writestr(each, plain[each])
        seconds, megabytes = refusal(reader, place)
        rows.append({"kind": kind, "file_bytes": len(content), "seconds": seconds, "peak_mb": megabytes})
    return rows


def refusal(reader: str, place: Path) -> tuple[float, float]:
    """Seconds and megabytes of memory that a process takes until it refuses a file."""
    command = [sys.executable, "-c", OPEN.format(reader=reader), str(place)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        watched = psutil.Process(process.pid)
        peak = before = watched.memory_info().rss
        process.stdin.write("\n")
        process.stdin.flush()
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.poll() is None:
                peak = max(peak, watched.memory_info().rss)
                time.sleep(0.002)
        said = process.stdout.read()
    if not said:
        raise RuntimeError(f"{place} was not refused by {reader}.")
    return float(said), (peak - before) / 1e6

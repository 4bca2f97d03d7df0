"""Records of runs and cards of networks: what is in them, where they lie, reading, writing and comparing.

A *record*, ``results/NAME.json``, holds the numbers of one notebook or benchmark. A *card*, ``models/NAME.json``,
describes a trained network. Its *predictions*, ``results/predictions/NAME.npz``, are what the network answers to the
validation and test images; most tables and figures need nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import data, files, formats

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "openTSNE")
# What decides which weights a training ends with. Cards that agree in these are of the same training.
IDENTITY = ("architecture", "arguments", "recipe", "seed", "data", "version")
# Bytes that are read at most, ten times what the study has: nobody's file takes all memory.
LARGEST_RECORD = 10_000_000
LARGEST_ARRAYS = 32_000_000  # unpacked

_read: dict[Path, str] = {}  # files read in this process and their hashes; a run's record lists them


class RecordError(ValueError):
    """A record, card or predictions that cannot be used; the message says which file and what to do."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read(name: str, root: Path | None = None) -> dict[str, Any]:
    """The record ``results/NAME.json`` below `root`, the checkout if not given.

    Raises
    ------
    FileNotFoundError
        If it has not been made; the message says what makes it.
    RecordError
        If it is not JSON.
    """
    path = Path(root or data.root()) / "results" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `fashion-mnist run {name}` with its profile makes it.")
    return read_json(path)


def read_all(root: Path | None = None) -> dict[str, dict[str, Any]]:
    """All records in ``results/`` below `root`, the checkout if not given, by name."""
    folder = Path(root or data.root()) / "results"
    return {path.stem: read_json(path) for path in sorted(folder.glob("[!.]*.json"))}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or RecordError; the file counts as read by this process."""
    content = _content(path, LARGEST_RECORD)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON ({error}); restore it, with git for instance, or delete it.") from error
    if not isinstance(found, dict):
        raise RecordError(f"{path} holds no JSON object; restore it, with git for instance, or delete it.")
    return found


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """Class probabilities by split, "validation" and "test"; float64 ``(n, 10)``, rows summing to one.

    They were kept in float16. The classes were kept beside them, so ``argmax`` gives the network's own answers.

    Raises
    ------
    RecordError
        If the file is damaged or holds something else.
    """
    arrays = read_arrays(path)
    splits = [name.removesuffix("_classes") for name in arrays if name.endswith("_classes")]
    try:
        found = {split: _probabilities(arrays[split], arrays[f"{split}_classes"]) for split in splits}
    except (LookupError, ValueError):
        found = {}
    if not found:
        raise RecordError(f"{path} holds no predictions; delete it, or restore it, with git for instance.")
    return found


def _probabilities(logs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """What log-probabilities in float16 and classes in uint8 stand for; LookupError or ValueError if they are none."""
    rows = np.arange(classes.size)
    if (logs.dtype, classes.dtype, logs.shape, classes.shape) != (np.float16, np.uint8, (len(rows), 10), rows.shape):
        raise ValueError
    with np.errstate(all="ignore"):
        probabilities = np.exp(logs.astype(np.float64))
        highest = probabilities.max(axis=1) * (1 + 1e-9)
        probabilities[rows, classes] = np.maximum(probabilities[rows, classes], highest)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    if not (np.isfinite(probabilities).all() and (probabilities.argmax(axis=1) == classes).all()):
        raise ValueError
    return probabilities


def write_predictions(path: Path, probabilities: Mapping[str, np.ndarray]) -> Path:
    """Keep class probabilities ``(n, 10)`` by split as `read_predictions` reads them."""
    arrays = {}
    for split, values in probabilities.items():
        arrays[split] = np.log(np.maximum(values, 1e-30)).astype(np.float16)
        arrays[f"{split}_classes"] = values.argmax(axis=1).astype(np.uint8)
    return write_arrays(path, arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, or RecordError; the file counts as read by this process.

    Every byte is held against its checksum, as ``np.load`` does not where a header announces fewer values than there
    are, and no more than `LARGEST_ARRAYS` is unpacked.
    """
    content = _content(path, LARGEST_ARRAYS)
    try:
        listed = zipfile.ZipFile(io.BytesIO(content)).infolist()
        entries = {entry.filename.removesuffix(".npy"): entry for entry in listed}
        size = sum(entry.file_size for entry in listed)
        if size > LARGEST_ARRAYS or len(entries) < len(listed):
            raise ValueError(f"{size:,} bytes, and {LARGEST_ARRAYS:,} are the most; or two arrays of one name")
        return {name: _array(formats.read_member(io.BytesIO(content), entry)) for name, entry in entries.items()}
    except Exception as error:  # zipfile, zlib, NumPy and struct have errors of their own for damaged files
        reason = formats.reason(error)
        raise RecordError(f"{path} is damaged ({reason}); delete it, or restore it, with git for instance.") from error


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    array = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
        raise ValueError("an array has fewer values than there are")
    return array


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays as ``.npz``, compressed, whole or not at all."""
    with files.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return path


def files_read(root: Path) -> dict[str, str]:
    """What this process has read through this module below `root`: relative path to hash of the content."""
    inside = {path: digest for path, digest in _read.items() if path.is_relative_to(root)}
    return {path.relative_to(root).as_posix(): digest for path, digest in sorted(inside.items())}


def note(path: Path) -> None:
    """Count a file that something else reads, such as weights, as read by this process."""
    _read[path.resolve()] = digest(path.read_bytes())


def digest(content: bytes) -> str:
    """First 16 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def _content(path: Path, most: int) -> bytes:
    if (size := path.stat().st_size) > most:
        raise RecordError(f"{path} has {size:,} bytes, and {most:,} are the most that is read; it is no file of ours.")
    content = path.read_bytes()
    _read[path.resolve()] = digest(content)
    return content


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(card: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """In what a card is of another training than `identity` says, in words; empty if it is the same."""
    found = []
    for key in IDENTITY:
        ours, theirs = plain(identity[key]), card.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            keys = [inner for inner in {**theirs, **ours} if theirs.get(inner) != ours.get(inner)]
            found += [f"{key} {inner}: {theirs.get(inner)!r}, not {ours.get(inner)!r}" for inner in keys]
        elif ours != theirs:
            found.append(f"{key}: {theirs!r}, not {ours!r}")
    return found


# --- provenance ------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory, and those CPU flags that decide about speed."""
    import psutil

    model, flags = platform.processor() or platform.machine(), ""
    if sys.platform == "linux":
        facts = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M))
        model = facts.get("model name", model)
        flags = facts.get("flags", facts.get("Features", ""))
    elif sys.platform == "darwin":
        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        model = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "flags": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split()],
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number depends on; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package.lower()] = metadata.version(package)
    return found


def git_commit(root: Path) -> str | None:
    """The commit checked out in `root`, ``-dirty`` behind it where code differs; None without a repository or git."""

    def git(*arguments: str) -> str | None:
        try:
            asked = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return asked.stdout.strip() if asked.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--", "src", "benchmarks") else commit


# --- values ----------------------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table in Markdown, the first `left` columns set to the left, the others, which hold numbers, to the right."""
    rule = ["---" if column < left else "---:" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (heads, rule, *rows))


def headline_number(key: str, value: object) -> float | int:
    """`value` as a number of JSON, or ValueError naming `key` if it is none or not finite."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"Headline {key!r} is {value!r}, not a finite number; put text and lists into tables.")
    return number


def plain(value: Any) -> Any:
    """`value` in terms of what JSON knows; a number that is not finite becomes None."""
    if hasattr(value, "reset_index"):  # a DataFrame or Series, recognised without importing pandas
        frame = value.to_frame() if value.ndim == 1 else value
        numbered = list(frame.index) == list(range(len(frame)))
        return plain((frame if numbered else frame.reset_index()).to_dict("records"))
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""Write a file whole or not at all, and let one process at a time do a thing."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout


class Busy(RuntimeError):
    """Another process does what only one may do at a time."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes its place if the body succeeds.

    A reader sees the old file or the new one, never half of one, whenever the process is killed. The temporary name is
    unique, keeps the suffix, and is swept up by `sweep` if a kill leaves it behind.

    Raises
    ------
    OSError
        If it cannot be written, a full disk included; the message names the file and says that nothing was changed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise OSError(
            error.errno,
            f"cannot be written ({os.strerror(error.errno)}); what was there before is unchanged",
            str(path),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(*folders: Path) -> None:
    """Delete the temporary files that killed processes left in these folders; call it where only one may write."""
    for folder in folders:
        for leftover in folder.glob(".*.tmp*"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write bytes, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text with Unix line endings, whole or not at all."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, content: object) -> Path:
    """Write JSON, whole or not at all; ValueError for NaN and infinity, which JSON does not know."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """A zip archive, the same byte for byte for the same contents, whenever and wherever it is made."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in contents.items():
                member = zipfile.ZipInfo(name)  # dated 1980-01-01
                member.create_system, member.external_attr = 3, 0o644 << 16  # as on Unix
                method = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
                archive.writestr(member, content, method, compresslevel=9)
        return buffer.getvalue()


@contextlib.contextmanager
def alone(folder: str | Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; the system gives it back if this process dies.

    Parameters
    ----------
    folder : path
        Made if missing; the lock is its file ``.lock``.
    what : str
        Completes "Another process …" in the message, such as "runs the study cnn_grid".
    wait : bool
        Wait for the other process instead of refusing.

    Raises
    ------
    Busy
        If another process holds the lock and `wait` is False.
    OSError
        If the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / ".lock").acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise Busy(f"Another process {what}; wait until it is done.") from None
    except NotImplementedError:  # a file system without locks: nobody else can be noticed
        held = contextlib.nullcontext()
    with held:
        yield

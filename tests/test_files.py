"""files.py: a file is whole whoever is killed, and one process at a time. Processes, kills and full disks are real."""

import contextlib
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from fashion_mnist import files, models, records

START = "import sys, time; from pathlib import Path; from fashion_mnist import files; path = Path(sys.argv[1])\n"
HALF_A_FILE = """
with files.replacing(path) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
WRITE_OFTEN = """
for _ in range(200):
    files.write_text(path, sys.argv[2] * 100_000)
"""
HOLD = """
with files.alone(path, "sleeps"):
    print("ready", flush=True)
    time.sleep(60)
"""
WAIT_FOR_IT = """
print("ready", flush=True)
with files.alone(path, "sleeps", wait=True):
    print("alone", flush=True)
"""


@contextlib.contextmanager
def process(script, *arguments, ready=True):
    """A process that runs the script; it is killed, as by ``kill -9``, if it still runs at the end."""
    command = [sys.executable, "-c", START + script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            if ready:
                assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


# --- whole or not at all ---------------------------------------------------------------------------------------------


def test_a_killed_writer_leaves_the_old_file_and_its_leftover_is_swept(tmp_path):
    path = files.write_text(tmp_path / "a.json", "old")
    with process(HALF_A_FILE, path):
        pass
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".hidden").write_text("of somebody else")
    files.sweep(tmp_path, tmp_path / "missing")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", "a.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = files.write_json(tmp_path / "new" / "a.json", {"n": 1, "text": "ä"})
    assert path.read_bytes() == '{\n  "n": 1,\n  "text": "ä"\n}\n'.encode()
    for refused in ({"n": float("nan")}, {"n": "\ud800"}):  # no JSON; no UTF-8, which shows only while writing
        with pytest.raises(ValueError):
            files.write_json(path, refused)
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text(encoding="utf-8"))["n"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_two_processes_may_write_the_same_file(tmp_path):
    path, seen = tmp_path / "a.txt", set()
    with process(WRITE_OFTEN, path, "a", ready=False) as one, process(WRITE_OFTEN, path, "b", ready=False) as other:
        while one.poll() is None or other.poll() is None:
            if path.exists():
                seen.add(path.read_text())
    assert one.returncode == other.returncode == 0
    assert seen and seen <= {"a" * 100_000, "b" * 100_000}
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


NOISE = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.txt", lambda path: files.write_text(path, "a" * 100_000)),
        ("a.npz", lambda path: records.write_arrays(path, {"noise": NOISE})),
        ("a.safetensors", lambda path: models.save(models.mlp(hidden=(100,)), path)),
    ],
)
def test_a_full_disk_is_named_with_the_file_and_changes_nothing(tiny_disk, name, write):
    path = files.write_text(tiny_disk / name, "old")
    with pytest.raises(OSError, match=rf"No space left on device.*unchanged.*{name}"):
        write(path)
    assert list(tiny_disk.iterdir()) == [path]
    assert path.read_text() == "old"


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_only_one_process_is_alone_and_a_kill_frees_the_lock(tmp_path):
    with process(HOLD, tmp_path / "study"):
        refused = pytest.raises(files.Busy, match="Another process runs the study a; wait")
        with refused, files.alone(tmp_path / "study", "runs the study a"):
            pass
        with files.alone(tmp_path / "other", "runs another study"):
            pass
    with files.alone(tmp_path / "study", "runs the study a"):
        pass


def test_a_process_can_wait_until_it_is_alone(tmp_path):
    with process(HOLD, tmp_path) as first, process(WAIT_FOR_IT, tmp_path) as second:
        time.sleep(0.5)
        assert second.poll() is None
        first.kill()
        assert second.stdout.read() == "alone\n"


def test_the_lock_is_given_back_when_the_work_fails(tmp_path):
    with pytest.raises(KeyError), files.alone(tmp_path, "looks up"):
        raise KeyError
    with files.alone(tmp_path, "looks up"):
        pass

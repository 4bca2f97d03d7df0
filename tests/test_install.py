"""install_requirements.py: its decisions, and a real installation of a small lock into a copy of the project."""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "install_requirements.py"
LOCKS = ("requirements.txt", "requirements-dev.txt")


@pytest.fixture
def script(monkeypatch):
    """The script as a module, outside Colab whatever runs the tests."""
    for name in ("COLAB_RELEASE_TAG", "COLAB_GPU"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("install_requirements", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked(lock):
    """Entries of a lock file: "name==version ; marker" -> the whole entry with its hashes."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {entry.split(" \\\n")[0]: entry for entry in entries}


def entry(lock, name):
    """The one entry for this package that holds for every Python."""
    (found,) = [text for key, text in locked(lock).items() if key.startswith(f"{name}==")]
    return found


class TestLocks:
    @pytest.mark.parametrize("lock", LOCKS)
    def test_every_entry_is_pinned_and_hashed(self, lock):
        entries = locked(lock)
        assert len(entries) > 100
        for key, text in entries.items():
            assert re.match(r"[a-z0-9._-]+==[^ ]+( ; .+)?$", key), key
            assert "--hash=sha256:" in text, key

    def test_dev_lock_holds_the_base_lock(self):
        base, dev = map(locked, LOCKS)
        assert base.items() <= dev.items()

    @pytest.mark.parametrize("lock", LOCKS)
    def test_holds_setuptools_for_the_editable_install(self, lock):
        assert entry(lock, "setuptools")

    @pytest.mark.parametrize("lock", LOCKS)
    def test_names_no_host(self, lock):
        assert "//" not in (ROOT / lock).read_text(encoding="utf-8")

    def test_holds_every_requirement_of_pyproject(self):
        tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for lock, requirements in (
            ("requirements.txt", project["dependencies"]),
            ("requirements-dev.txt", project["dependencies"] + project["optional-dependencies"]["test"]),
        ):
            names = {key.split("==")[0] for key in locked(lock)}
            assert {re.split(r"[\[>]", requirement)[0] for requirement in requirements} <= names


class TestPythonVersion:
    def test_range_agrees_with_pyproject(self, script):
        (major, oldest), (_, newest) = script.OLDEST, script.NEWEST
        expected = f'requires-python = ">={major}.{oldest},<{major}.{newest + 1}"'
        assert expected in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    @pytest.mark.parametrize("version", [(3, 10, 0), (3, 11, 7), (3, 13, 9)])
    def test_supported(self, script, version):
        assert script.refusal(version) is None

    @pytest.mark.parametrize(
        ("version", "bits"), [((2, 7, 18), 64), ((3, 9, 18), 64), ((3, 14, 0), 64), ((3, 12, 1), 32)]
    )
    def test_unsupported(self, script, version, bits):
        message = script.refusal(version, bits)
        assert f"64-bit Python 3.10 to 3.13; this is a {bits}-bit Python {'.'.join(map(str, version))}" in message

    def test_names_a_suitable_python_of_this_machine(self, script, monkeypatch):
        monkeypatch.setattr(script, "runs", lambda command: "3.12" in command[-1])
        assert " ".join([*script.launcher("3.12"), "install_requirements.py"]) in script.refusal((3, 9, 1))

    def test_says_what_to_install_where_no_python_will_do(self, script, monkeypatch):
        monkeypatch.setattr(script, "runs", lambda command: False)
        assert "Install Python 3.12" in script.refusal((3, 9, 1))

    def test_runs_tries_the_command(self, script):
        assert script.runs([sys.executable])
        assert not script.runs(["python-that-is-nowhere"])

    def test_parses_on_old_pythons(self):
        source = SCRIPT.read_text(encoding="ascii")
        ast.parse(source, feature_version=(3, 4))
        assert "from __future__ import print_function" in source

    def test_unsupported_interpreters_for_real(self):
        named = filter(None, map(shutil.which, ["python2.7", "python3.6", "python3.8", "python3.9", "python3.14"]))
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        candidates = [*named, *map(str, pyenv.glob("*/bin/python"))]
        ask = "import sys; sys.exit((3, 10) <= sys.version_info[:2] <= (3, 13))"
        tried = [
            python for python in candidates if subprocess.run([python, "-c", ask], capture_output=True).returncode == 0
        ]
        if not tried:
            pytest.skip("every Python of this machine is supported")
        for python in tried:
            done = subprocess.run([python, SCRIPT], capture_output=True, text=True)
            assert done.returncode == 1, python
            assert done.stderr.startswith("This project needs a 64-bit Python 3.10 to 3.13"), python
            assert "Traceback" not in done.stderr, python

    def test_unsupported_version_ends_the_run(self):
        pretend = (
            f"import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True)
        assert done.returncode == 1
        assert "this is a 64-bit Python 3.9.18" in done.stderr


class TestTarget:
    """Where to install; the folder given as sys.prefix says which kind of environment runs the script."""

    def test_plain_python(self, script, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
        assert script.choose_target() == "venv"
        assert script.choose_target(here=True) == "here"

    def test_virtual_environment(self, script, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "base"))
        assert script.choose_target() == "here"
        assert script.choose_target(venv=True) == "venv"

    def test_its_own_venv_is_never_remade_by_itself(self, script, monkeypatch):
        monkeypatch.setattr(sys, "prefix", script.VENV)
        monkeypatch.setattr(sys, "base_prefix", "elsewhere")
        assert script.choose_target(venv=True) == "here"

    @pytest.mark.parametrize(("folders", "target"), [(["conda-meta"], "here"), (["conda-meta", "condabin"], "venv")])
    def test_conda(self, script, monkeypatch, tmp_path, folders, target):
        for folder in folders:
            (tmp_path / folder).mkdir()
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
        assert script.choose_target() == target

    def test_colab(self, script, monkeypatch):
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
        assert script.choose_target() == "colab"
        assert script.choose_target(here=True) == "here"

    def test_colab_installs_only_what_is_missing(self, script):
        requirements = ["scikit-learn>=1.4", "nowhere-to-be-found>=1", "jupyter>=1.1", 'gone>=8; extra == "test"']
        assert script.missing_requirements(requirements) == ["nowhere-to-be-found>=1"]


class TestRemedy:
    @pytest.mark.parametrize(
        ("log", "advice"),
        [
            (
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\nERROR: No matching distribution",
                "not the one that was locked",
            ),
            (
                "Could not fetch URL x: connection error: y\nERROR: No matching distribution found",
                "could not be reached",
            ),
            ("ERROR: No matching distribution found for tensorflow", "TensorFlow is published for"),
            ("OSError: [Errno 28] No space left on device", "disk is full"),
            ("something else", "running this again does no harm"),
        ],
    )
    def test_from_log(self, script, tmp_path, log, advice):
        (tmp_path / "log").write_text(log, encoding="utf-8")
        assert advice in script.remedy(tmp_path / "log")


@pytest.fixture
def project(tmp_path):
    """A copy of the project whose locks hold two and three small packages of the real ones."""
    copy = tmp_path / "a copy"  # with a space, as on many machines
    copy.mkdir()
    for name in ("install_requirements.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src" / "fashion_mnist", copy / "src" / "fashion_mnist")
    base = entry("requirements.txt", "setuptools") + entry("requirements.txt", "packaging")
    (copy / "requirements.txt").write_text(base, encoding="utf-8")
    dev = base + entry("requirements-dev.txt", "iniconfig")
    (copy / "requirements-dev.txt").write_text(dev, encoding="utf-8")
    return copy


def install(project, *options, **environment):
    """Run the script of this copy from elsewhere, as from the Python that made the tests' own environment."""
    environment = {**os.environ, "PIP_RETRIES": "0", **environment}
    command = [sys.executable, project / "install_requirements.py", "--venv", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=project.parent, timeout=300)


OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # nobody listens there
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
}


def in_venv(project, program):
    """A program of the copy's .venv."""
    return project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / program


def has(project, module):
    """Whether the copy's .venv can import this module."""
    return subprocess.run([in_venv(project, "python"), "-c", f"import {module}"], capture_output=True).returncode == 0


@pytest.mark.slow
def test_installs_for_real(project, tmp_path):
    """Fails without the network, is made anew with it, run again without, and grown by --dev."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "0", "--require-hashes", "--no-deps"]
    pip += ["--dest", tmp_path / "wheels", "--requirement", project / "requirements-dev.txt"]
    probe = subprocess.run(pip, capture_output=True, text=True)
    if probe.returncode != 0 and "HASHES" not in probe.stderr:
        pytest.skip(f"the package index cannot be reached: {probe.stderr.strip().splitlines()[-1]}")

    failed = install(project, **OFFLINE)
    assert failed.returncode == 1
    assert "failed: installing the locked packages" in failed.stderr
    assert "could not be reached" in failed.stderr

    first = install(project)
    assert first.returncode == 0, first.stderr
    assert "Removing .venv: an earlier run did not finish it" in first.stdout
    assert str(in_venv(project, "fashion-mnist").relative_to(project)) in first.stdout
    assert has(project, "packaging") and has(project, "fashion_mnist") and not has(project, "iniconfig")
    done = subprocess.run([in_venv(project, "fashion-mnist"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: fashion-mnist" in done.stdout

    start = time.perf_counter()
    again = install(project, **OFFLINE)
    assert again.returncode == 0, again.stderr
    assert "Everything is installed" in again.stdout
    assert time.perf_counter() - start < 5

    # Only the package's own metadata changed: installed again, still without the network.
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    changed = install(project, **OFFLINE)
    assert changed.returncode == 0, changed.stderr
    assert "Everything is installed" not in changed.stdout

    dev = install(project, "--dev")
    assert dev.returncode == 0, dev.stderr
    assert has(project, "iniconfig")
    assert "Everything is installed" in install(project, **OFFLINE).stdout  # what --dev installed includes the rest


def test_hash_mismatch(project):
    """A package other than the one locked is refused."""
    wheel = project.parent / "packaging-1.0-py3-none-any.whl"
    wheel.write_bytes(b"altered")
    (project / "requirements.txt").write_text(f"packaging==1.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    done = install(project, **{**OFFLINE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": project.parent.as_uri()})
    assert done.returncode == 1
    assert "not the one that was locked" in done.stderr
    assert not (project / ".venv" / "fashion-mnist-installed.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="a terminal's Ctrl-C cannot be sent to one process on Windows")
def test_interrupted_run_is_remade(project):
    """Ctrl-C while .venv is being made: one line, status 130, and the mark that makes the next run start anew."""
    command = [sys.executable, project / "install_requirements.py", "--venv"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    mark = project / ".venv" / "fashion-mnist-unfinished"
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. Run this again" in errors
    assert mark.exists()


def test_second_run_at_the_same_time_is_refused(project, script):
    lock = project / "build" / "install.lock"
    with script.hold_lock(str(lock)):
        done = install(project)
    assert done.returncode == 1
    assert "another install_requirements.py is working" in done.stderr
    assert not (project / ".venv").exists()


def test_incomplete_copy_is_named(project):
    (project / "requirements.txt").unlink()
    done = install(project, **OFFLINE)
    assert done.returncode == 1
    assert "cannot read requirements.txt" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.skipif(os.name == "nt" or shutil.which("make") is None, reason="needs make and a POSIX shell")
def test_make_passes_over_an_unsuitable_python3(project, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, status in (("python3", 1), ("python3.13", 1), ("python3.12", 0)):
        (programs / name).write_text(f"#!/bin/sh\nexit {status}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    shutil.copy(ROOT / "Makefile", project)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHON", None)
    done = subprocess.run(["make", "-n", "run"], cwd=project, env=environment, capture_output=True, text=True)
    assert "python3.12 install_requirements.py --venv" in done.stdout, done.stderr


class TestVenvFault:
    @pytest.fixture
    def venv(self, script, monkeypatch, tmp_path):
        venv = tmp_path / ".venv"
        venv.mkdir()
        monkeypatch.setattr(script, "VENV", str(venv))
        return venv

    def test_usable(self, script, venv):
        assert script.venv_fault(sys.executable) is None

    def test_python_missing(self, script, venv):
        assert "does not start" in script.venv_fault(str(venv / "bin" / "python"))

    def test_missing(self, script, venv):
        venv.rmdir()
        assert "missing" in script.venv_fault(sys.executable)

    def test_made_for_another_folder(self, script, venv):
        (venv / script.STAMP).write_text(json.dumps({"root": "/elsewhere"}), encoding="utf-8")
        assert "another folder (/elsewhere)" in script.venv_fault(sys.executable)

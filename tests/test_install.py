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
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "install_requirements.py"
LOCKS = ("requirements.lock", "requirements-dev.lock")
STAMP = "fashion-mnist-installed.json"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, outside Colab whatever runs the tests."""
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
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
        for key, text in base.items():
            # What the tests need on every system may be needed on some only without them.
            wider = dev.get(key) or dev.get(key.split(" ;")[0], "")
            hashes, others = (re.findall(r"--hash=\S+", each) for each in (text, wider))
            assert hashes == others, key

    @pytest.mark.parametrize("lock", LOCKS)
    def test_holds_setuptools_for_the_editable_install(self, lock):
        assert entry(lock, "setuptools")

    @pytest.mark.parametrize("lock", LOCKS)
    def test_names_no_host(self, lock):
        assert "//" not in (ROOT / lock).read_text(encoding="utf-8")

    def test_holds_every_requirement_of_pyproject(self):
        tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        for lock, requirements in (
            (LOCKS[0], project["dependencies"]),
            (LOCKS[1], project["dependencies"] + extras["test"] + extras["app"]),
        ):
            names = {key.split("==")[0] for key in locked(lock)}
            assert {re.split(r"[\[<>]", requirement)[0] for requirement in requirements} <= names


def test_requirements_for_people_are_those_of_pyproject():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [*project["dependencies"], "-e ."]


class TestPythonVersion:
    def test_range_agrees_with_pyproject(self, script):
        (major, oldest), (_, newest) = script.OLDEST, script.NEWEST
        expected = f'requires-python = ">={major}.{oldest},<{major}.{newest + 1}"'
        assert expected in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    @pytest.mark.parametrize("version", [(3, 10, 0), (3, 11, 7), (3, 13, 9)])
    def test_supported(self, script, version):
        script.check_python(version)

    @pytest.mark.parametrize(
        ("version", "is_64_bit", "named"),
        [((3, 9, 18), True, "3.9.18"), ((3, 14, 0), True, "3.14.0"), ((3, 12, 1), False, "32-bit 3.12.1")],
    )
    def test_unsupported(self, script, version, is_64_bit, named):
        with pytest.raises(script.Failure, match=rf"64-bit Python 3.10 to 3.13; this is {re.escape(named)} \("):
            script.check_python(version, is_64_bit)

    def test_names_a_suitable_python_of_this_machine(self, script, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(script.Failure, match=r"Install Python 3\.12"):
            script.check_python((3, 9, 1))
        for name in ("python3.12", "python3.11"):
            (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        with pytest.raises(script.Failure, match=r"Run it with .*python3\.12"):
            script.check_python((3, 9, 1))

    def test_old_pythons_can_read_the_refusal(self):
        ast.parse(SCRIPT.read_text(encoding="ascii"), feature_version=(3, 7))

    def test_unsupported_interpreters_for_real(self):
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        candidates = [f"python3.{minor}" for minor in (7, 8, 9, 14)] + list(map(str, pyenv.glob("3.*/bin/python")))
        ask = "import sys; sys.exit(sys.version_info < (3, 7) or (3, 10) <= sys.version_info[:2] <= (3, 13))"
        tried = []
        for python in filter(shutil.which, candidates):
            if subprocess.run([python, "-c", ask], capture_output=True).returncode == 0:
                done = subprocess.run([python, SCRIPT], capture_output=True, text=True)
                assert done.returncode == 1, python
                assert "needs a 64-bit Python 3.10 to 3.13; this is 3." in done.stderr, python
                assert "Traceback" not in done.stderr, python
                tried.append(python)
        if not tried:
            pytest.skip("every Python of this machine is supported")

    def test_unsupported_version_ends_the_run(self):
        pretend = (
            f"import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True)
        assert done.returncode == 1
        assert "this is 3.9.18" in done.stderr


class TestTarget:
    """Where to install; the folder given as sys.prefix says which kind of environment runs the script."""

    def test_plain_python(self, script, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
        assert script.choose_environment() == script.VENV

    def test_virtual_environment(self, script, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "base"))
        assert script.choose_environment() == tmp_path
        assert script.choose_environment(venv=True) == script.VENV

    @pytest.mark.parametrize(("folders", "here"), [(["conda-meta"], True), (["conda-meta", "condabin"], False)])
    def test_conda(self, script, monkeypatch, tmp_path, folders, here):
        for folder in folders:
            (tmp_path / folder).mkdir()
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
        assert script.choose_environment() == (tmp_path if here else script.VENV)

    def test_colab_gets_only_what_is_missing(self, script, monkeypatch, capsys):
        wanted = ["scikit-learn>=1.4", "nowhere-to-be-found>=1", "jupyter>=1.1", 'gone>=8; extra == "test"']
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
        monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
        asked = []
        monkeypatch.setattr(script, "pip", lambda python, *arguments: asked.append(arguments))
        assert script.main([]) == 0
        assert asked == [("--no-deps", "-e", str(ROOT)), ("nowhere-to-be-found>=1",)]
        assert "Restart the session once" in capsys.readouterr().out


class TestWhatIsMissing:
    def test_a_compiler_on_arm(self, script, monkeypatch, tmp_path):
        script.check_compiler()
        monkeypatch.setattr("platform.system", lambda: "Linux")
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(script.Failure, match="openTSNE has to be compiled"):
            script.check_compiler()
        (tmp_path / "g++").write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / "g++").chmod(0o755)
        script.check_compiler()

    def test_the_venv_module(self, script, monkeypatch, tmp_path):
        found = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else found(name))
        with pytest.raises(script.Failure, match=r"sudo apt install python3\.\d+-venv"):
            script.make_venv(tmp_path / ".venv")
        assert not (tmp_path / ".venv").exists()


@pytest.fixture
def project(tmp_path):
    """A copy of the project whose locks hold two and three small packages of the real ones."""
    copy = tmp_path / "a copy"  # with a space, as on many machines
    copy.mkdir()
    for name in ("install_requirements.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src" / "fashion_mnist", copy / "src" / "fashion_mnist")
    base = entry(LOCKS[0], "setuptools") + entry(LOCKS[0], "packaging")
    (copy / LOCKS[0]).write_text(base, encoding="utf-8")
    (copy / LOCKS[1]).write_text(base + entry(LOCKS[1], "iniconfig"), encoding="utf-8")
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
    pip += ["--dest", tmp_path / "wheels", "--requirement", project / LOCKS[1]]
    probe = subprocess.run(pip, capture_output=True, text=True)
    if probe.returncode != 0 and "HASHES" not in probe.stderr:
        pytest.skip(f"the package index cannot be reached: {probe.stderr.strip().splitlines()[-1]}")

    failed = install(project, **OFFLINE)
    assert failed.returncode == 1
    assert "If it did not reach the package index" in failed.stderr

    first = install(project)
    assert first.returncode == 0, first.stderr
    assert "Making" in first.stdout, "what an earlier run did not finish is made anew"
    assert f"Next: {in_venv(project, 'fashion-mnist')} run" in first.stdout
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


@pytest.mark.slow
def test_a_wheel_holds_the_templates(project, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", tmp_path, project], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    templates = ROOT / "src" / "fashion_mnist" / "headless" / "templates"
    assert {path.relative_to(ROOT / "src").as_posix() for path in templates.rglob("*") if path.is_file()} <= packed


def test_hash_mismatch(project):
    """A package other than the one locked is refused."""
    wheel = project.parent / "packaging-1.0-py3-none-any.whl"
    wheel.write_bytes(b"altered")
    (project / LOCKS[0]).write_text(f"packaging==1.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    done = install(project, **{**OFFLINE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": project.parent.as_uri()})
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert (project / ".venv" / STAMP).read_text(encoding="utf-8") == "{}", "unfinished"


@pytest.mark.skipif(os.name == "nt", reason="a terminal's Ctrl-C cannot be sent to one process on Windows")
def test_interrupted_run_is_remade(project):
    """Ctrl-C while .venv is being made: one line, status 130, and the mark that makes the next run start anew."""
    command = [sys.executable, project / "install_requirements.py", "--venv"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    mark = project / ".venv" / STAMP
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. Run this again" in errors
    assert mark.read_text(encoding="utf-8") == "{}"


@pytest.mark.skipif(os.name == "nt", reason="needs fcntl")
def test_second_run_at_the_same_time_is_refused(project, script):
    script.ROOT = project
    with script.lock():
        done = install(project)
    assert done.returncode == 1
    assert "another install_requirements.py is at work" in done.stderr
    assert not (project / ".venv").exists()


def test_incomplete_copy_is_named(project):
    (project / LOCKS[0]).unlink()
    done = install(project, **OFFLINE)
    assert done.returncode == 1
    assert "requirements.lock cannot be read" in done.stderr
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


class TestUseOfAnEnvironment:
    """Whether a .venv that is there is used or made anew; nothing is installed."""

    @pytest.fixture
    def made(self, script, monkeypatch, tmp_path):
        made = []
        monkeypatch.setattr(script, "make_venv", lambda folder: made.append(folder))
        monkeypatch.setattr(script, "pip", lambda *arguments: None)
        monkeypatch.setattr(script, "works", lambda python: True)
        return made

    @pytest.mark.parametrize(
        ("stamp", "anew"),
        [
            (None, False),  # made by the user
            ({"root": str(ROOT), "requirements.lock": "older"}, False),
            ({}, True),  # half-made
            ({"root": "/elsewhere", "requirements.lock": "older"}, True),
        ],
    )
    def test_by_its_stamp(self, script, made, tmp_path, stamp, anew):
        if stamp is not None:
            (tmp_path / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        wanted = script.sources(dev=False)
        script.install(tmp_path, wanted)
        assert made == [tmp_path] * anew
        assert json.loads((tmp_path / STAMP).read_text(encoding="utf-8")) == wanted

    def test_a_python_that_does_not_start(self, script, made, monkeypatch, tmp_path):
        monkeypatch.setattr(script, "works", lambda python: False)
        script.install(tmp_path, script.sources(dev=True))
        assert made == [tmp_path]

    def test_works_tries_the_command(self, script):
        assert script.works(sys.executable)
        assert not script.works("python-that-is-nowhere")

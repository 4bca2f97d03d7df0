"""Set up everything this project needs, with nothing but Python 3.10 to 3.13.

    python3 install_requirements.py            (Windows: py install_requirements.py)

makes a virtual environment in .venv, installs the exact packages of requirements.lock (their hashes are checked) and
then this package itself, editable. Already inside a virtual or conda environment, it installs there instead; --venv
makes .venv in any case. --dev adds the tools for tests and linting (requirements-dev.lock). What is already installed
from the same files is not installed again; a .venv left half-made by an interrupted run is made anew.

On Google Colab nothing is pinned: the locked versions would replace packages that the session has loaded. There only
what is missing altogether is installed.

This file uses the standard library only, and nothing newer than Python 3.7, so that an old one is told what is needed.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = "fashion-mnist-installed.json"  # in the environment: from which files it was made; {} while it is being made


class Failure(Exception):
    """A step that failed; says which one, and what to do."""


def main(arguments=None):
    """Run the script; returns its exit status."""
    parser = argparse.ArgumentParser(
        description="Set up what this project needs: a virtual environment in .venv with the locked packages.",
        epilog="Example: python3 install_requirements.py --dev",
    )
    parser.add_argument("--dev", action="store_true", help="install the tools for tests and linting too")
    parser.add_argument("--venv", action="store_true", help="use .venv even from inside another environment")
    options = parser.parse_args(arguments)
    try:
        check_python(sys.version_info, sys.maxsize > 2**32)
        if "COLAB_RELEASE_TAG" in os.environ and not options.venv:
            install_on_colab()
            print("Done. Restart the session once (Runtime > Restart session) so that it sees the package.")
            return 0
        check_compiler()
        environment = choose_environment(options.venv)
        with lock():
            install(environment, sources(options.dev))
    except Failure as failure:
        print(f"install_requirements.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Run this again: what is half-made will be made anew.", file=sys.stderr)
        return 130
    print(f"Done. Next: {program(environment, 'fashion-mnist')} run")
    print(f"        or: {program(environment, 'jupyter')} lab {Path('notebooks', 'main.ipynb')}")
    return 0


def check_python(version, is_64_bit=True):
    """Refuse a Python that will not do, and say which would."""
    if not OLDEST <= tuple(version[:2]) <= NEWEST or not is_64_bit:
        found = next(filter(works, ("python3.13", "python3.12", "python3.11", "python3.10")), None)
        advice = f"Run it with {found}." if found else "Install Python 3.12 and run it again with that."
        raise Failure(
            f"this project needs a 64-bit Python 3.{OLDEST[1]} to 3.{NEWEST[1]}; this is "
            f"{'' if is_64_bit else '32-bit '}{'.'.join(map(str, version[:3]))} ({sys.executable}).\n{advice}"
        )


def check_compiler():
    """Refuse Linux on Arm without a C++ compiler: openTSNE is published there as source only."""
    arm = platform.system() == "Linux" and platform.machine() in ("aarch64", "arm64")
    if arm and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))):
        raise Failure(
            "openTSNE has to be compiled on this processor, and there is no C++ compiler.\n"
            "On Debian and Ubuntu: sudo apt install g++ python3-dev"
        )


def sources(dev):
    """What an installation is made from: the project's folder, and its files with their hashes."""
    wanted = {"root": str(ROOT)}
    for name in ["pyproject.toml", "requirements.lock"] + ["requirements-dev.lock"] * dev:
        try:
            wanted[name] = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
        except OSError as error:
            raise Failure(f"{name} cannot be read ({error}); get a complete copy of the project.") from error
    return wanted


def choose_environment(venv=False):
    """Folder of the environment to install into: .venv, or the one that runs this if it is one."""
    prefix = Path(sys.prefix)
    # The base environment of conda holds conda itself (condabin); it is no place for a project's packages.
    conda = (prefix / "conda-meta").is_dir() and not (prefix / "condabin").is_dir()
    return prefix if not venv and (sys.prefix != sys.base_prefix or conda) else VENV


def lock():
    """Keep a second run out until the file returned here is closed; on Windows, which has no fcntl, trust the user."""
    (ROOT / "build").mkdir(exist_ok=True)
    handle = (ROOT / "build" / "install.lock").open("w")
    if importlib.util.find_spec("fcntl"):
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Failure("another install_requirements.py is at work here; wait until it has finished.") from error
    return handle


def program(environment, name):
    """Path of an environment's program."""
    return environment / ("Scripts" if os.name == "nt" else "bin") / name


def install(environment, wanted):
    """Bring an environment to the lock and this package, unless its stamp says that it has been done."""
    stamp = read_stamp(environment)
    if stamp and all(stamp.get(key) == value for key, value in wanted.items()):
        print(f"Everything is installed. To install it again, delete {environment / STAMP}")
        return
    inside = Path(sys.prefix).resolve() == environment.resolve()
    python = sys.executable if inside else str(program(environment, "python"))
    if not inside and (stamp == {} or (stamp or wanted)["root"] != wanted["root"] or not works(python)):
        make_venv(environment)
    try:
        (environment / STAMP).write_text("{}")
        # requirements-dev.lock holds all of requirements.lock too, so one call settles every version. The lock holds
        # setuptools: without build isolation nothing is fetched that was not checked.
        file = max((name for name in wanted if name.endswith(".lock")), key=len)
        print(f"Installing the packages of {file} into {environment}", flush=True)
        pip(python, "--require-hashes", "-r", str(ROOT / file))
        pip(python, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
        (environment / STAMP).write_text(json.dumps(wanted, indent=1))
    except OSError as error:
        raise Failure(f"{environment} cannot be written ({error}).") from error


def read_stamp(environment):
    """From which files the environment was made; {} if an earlier run did not finish it, None if there is no stamp."""
    try:
        return json.loads((environment / STAMP).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}


def works(python):
    """Whether this command starts a suitable Python."""
    check = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.run([python, "-c", check], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make_venv(folder):
    """Make a virtual environment, in place of whatever is there."""
    if importlib.util.find_spec("ensurepip") is None:
        raise Failure(
            "this Python lacks the venv module, which Debian and Ubuntu keep in a package of its own:\n"
            f"sudo apt install python3.{sys.version_info[1]}-venv"
        )
    print(f"Making {folder} with Python {platform.python_version()} ({sys.executable})", flush=True)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        (folder / STAMP).write_text("{}")
        if subprocess.run([sys.executable, "-m", "venv", str(folder)]).returncode:
            raise Failure(f"{folder} was not made; the message is above.")
    except OSError as error:
        raise Failure(f"{folder} cannot be made anew ({error}); close what uses it, or delete it by hand.") from error


def pip(python, *arguments):
    """Run pip install; give the environment pip first if it has none, as those of uv."""
    if subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode:
        subprocess.run([python, "-m", "ensurepip"])
    if subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", *arguments]).returncode:
        raise Failure(
            "pip could not install everything; its message above says why. If it did not reach the package index,\n"
            "check the network, and PIP_INDEX_URL or pip's configuration if you use a mirror or a proxy."
        )


def install_on_colab():
    """Install this package and what Colab lacks of its requirements, leaving Colab's own packages alone."""
    from importlib import metadata

    def is_missing(requirement):
        try:
            metadata.version(requirement.split(">=")[0])
        except metadata.PackageNotFoundError:
            return "extra ==" not in requirement and not requirement.startswith("jupyter")  # Colab is the interface
        return False

    pip(sys.executable, "--no-deps", "-e", str(ROOT))
    missing = list(filter(is_missing, metadata.requires("fashion-mnist-study")))
    if missing:
        pip(sys.executable, *missing)


if __name__ == "__main__":
    sys.exit(main())

"""Set up everything this project needs, with nothing but Python 3.10 to 3.13.

    python3 install_requirements.py            (Windows: py install_requirements.py)

makes a virtual environment in .venv, installs the exact packages of requirements.txt (their hashes are checked) and
then this package itself, editable. Already inside a virtual or conda environment, it installs there instead; --here
does so in any Python, --venv makes .venv in any case. --dev adds the tools for tests and linting. What is already
installed from the same files is not installed again, so a second run takes no time and no network; an environment
left half-made by an interrupted run is made anew.

On Google Colab nothing is pinned: the locked versions would replace packages that the running session has loaded and
that Colab's own tools depend on, and force a restart. There only what is missing altogether is installed, and the
interface (jupyter) is left as Colab has it.

This file uses the standard library only and parses on every Python since 2.7 (hence no f-strings, type hints or
pathlib), so that an unsuitable one is told which versions will do.
"""

from __future__ import print_function

import argparse
import hashlib
import importlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys

OLDEST, NEWEST = (3, 10), (3, 13)
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
LOG = os.path.join(ROOT, "build", "install.log")
STAMP = "fashion-mnist-installed.json"  # in the environment: what was installed there, from which files
UNFINISHED = "fashion-mnist-unfinished"  # in .venv while it is being made
IMPORT_NAMES = {"scikit-learn": "sklearn", "opentsne": "openTSNE"}  # where they differ from the package's name

# What pip's log says, and what to do about it; the first that is found is told.
REMEDIES = (
    (
        ("DO NOT MATCH THE HASHES",),
        "A downloaded package is not the one that was locked: a broken download, or a package index that serves\n"
        "altered files. Clear pip's cache (python -m pip cache purge) and run this again; if it stays, use another\n"
        "package index (PIP_INDEX_URL or pip's configuration).",
    ),
    (
        ("externally-managed-environment",),
        "This Python belongs to the operating system: leave out --here to get .venv.",
    ),
    (("No space left on device",), "The disk is full: the environment takes about 3 GB."),
    (
        ("Permission denied", "Access is denied"),
        "Files there cannot be written, or are in use. With --here, leave it out to get .venv; otherwise close what\n"
        "uses .venv and run this again.",
    ),
    (
        ("connection error", "connection broken", "timed out", "ssl certificate"),
        "The package index could not be reached: check the network, and PIP_INDEX_URL or pip's configuration if you\n"
        "use a mirror or a proxy; then run this again.",
    ),
    (
        ("No matching distribution",),
        "The package index has no such version for this machine, {system}. TensorFlow is published for Linux (x86-64\n"
        "and arm64, glibc), macOS on Apple silicon and Windows (x86-64). If yours is one of them, the index in use is\n"
        "incomplete: check PIP_INDEX_URL or pip's configuration.",
    ),
)


class Failure(Exception):
    """A step that failed; says which one, and what to do."""


def main(arguments=None):
    """Run the script; returns its exit status."""
    parser = argparse.ArgumentParser(
        description="Set up what this project needs: a virtual environment in .venv with the locked packages.",
        epilog="example: python3 install_requirements.py --dev",
    )
    parser.add_argument("--dev", action="store_true", help="install the tools for tests and linting too")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--here", action="store_true", help="install into the Python that runs this, whatever it is")
    where.add_argument("--venv", action="store_true", help="use .venv even from inside another environment")
    options = parser.parse_args(arguments)

    problem = refusal(sys.version_info, struct.calcsize("P") * 8)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    try:
        target = choose_target(options.here, options.venv)
        if target == "colab":
            install_on_colab()
        elif target == "here":
            install(sys.executable, sys.prefix, sources(options.dev))
        else:
            with hold_lock(os.path.join(ROOT, "build", "install.lock")):
                install_in_venv(sources(options.dev))
    except Failure as failure:
        print("\ninstall_requirements.py failed: {}".format(failure), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run this again: what is half-made will be made anew.", file=sys.stderr)
        return 130
    print(next_steps(target))
    return 0


def refusal(version, bits=64):
    """Why this Python will not do and which one would; None if it will."""
    if OLDEST <= tuple(version[:2]) <= NEWEST and bits == 64:
        return None
    supported = ["{}.{}".format(OLDEST[0], minor) for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    lines = [
        "This project needs a 64-bit Python {}.{} to {}.{}; this is a {}-bit Python {}.{}.{} ({}).".format(
            *(OLDEST + NEWEST + (bits,) + tuple(version[:3]) + (sys.executable,))
        )
    ]
    found = [command for command in map(launcher, supported) if runs(command)]
    if found:
        lines.append("Found on this machine: run\n    {} install_requirements.py".format(" ".join(found[0])))
    else:
        lines.append(
            "Install Python {} from https://www.python.org/downloads/ or with your system's package manager,\n"
            "then run this again with it.".format(supported[1])
        )
    return "\n".join(lines)


def launcher(version):
    """The command that starts a Python of this version ("3.12") on this system."""
    return ["py", "-" + version] if os.name == "nt" else ["python" + version]


def runs(command):
    """Whether this command starts a suitable Python."""
    check = "import sys, struct; sys.exit(struct.calcsize('P') != 8 or not {} <= sys.version_info[:2] <= {})"
    try:
        return quiet(command + ["-c", check.format(OLDEST, NEWEST)]) == 0
    except OSError:  # not found, or not to be executed
        return False


def quiet(command):
    """Run a command without showing what it prints; its exit status."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.communicate()
    return process.returncode


def choose_target(here=False, venv=False):
    """Where to install: "venv" (.venv in the repository), "here" (the current environment) or "colab"."""
    if venv and not inside(VENV):
        return "venv"
    if here:
        return "here"
    if "COLAB_RELEASE_TAG" in os.environ or "COLAB_GPU" in os.environ:
        return "colab"
    in_venv = sys.prefix != sys.base_prefix
    # The base environment of conda holds conda itself (condabin); it is no place for a project's packages.
    in_conda = os.path.isdir(os.path.join(sys.prefix, "conda-meta")) and not os.path.isdir(
        os.path.join(sys.prefix, "condabin")
    )
    return "here" if in_venv or in_conda else "venv"


def inside(environment):
    """Whether the Python that runs this is that of the environment in this folder."""
    return os.path.realpath(sys.prefix) == os.path.realpath(environment)


def hold_lock(path):
    """Keep a second run out of .venv until the file returned here is closed."""
    make_folder(os.path.dirname(path))
    handle = open(path, "a")  # noqa: SIM115 - the caller closes it
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (IOError, OSError):
        handle.close()
        raise Failure("another install_requirements.py is working on .venv; wait until it has finished.")
    return handle


def sources(dev):
    """What an installation is made from: the project's folder, and its files with their hashes."""
    wanted = {"root": os.path.realpath(ROOT)}
    for name in ["pyproject.toml", "requirements.txt"] + (["requirements-dev.txt"] if dev else []):
        try:
            wanted[name] = sha256(os.path.join(ROOT, name))
        except (IOError, OSError) as error:
            raise Failure("cannot read {} ({}).\nGet a complete copy of the project.".format(name, error))
    return wanted


def install_in_venv(wanted):
    """Make .venv where it is missing, half-made or unusable, and install into it."""
    python = os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
    reason = venv_fault(python)
    if reason:
        if os.path.lexists(VENV):
            print("Removing .venv: {}.".format(reason))
            try:
                shutil.rmtree(VENV)
            except OSError as error:
                raise Failure(
                    "cannot remove the unusable .venv ({}).\nClose what uses it and delete the folder by hand.".format(
                        error
                    )
                )
        print("Making .venv with Python {} ({})".format(platform.python_version(), sys.executable))
        make_folder(VENV)
        open(os.path.join(VENV, UNFINISHED), "w").close()
        run_step(
            "making the virtual environment",
            [sys.executable, "-m", "venv", VENV],
            "Debian and Ubuntu keep the venv module in a package of its own: sudo apt install python3-venv",
        )
    install(python, VENV, wanted)
    if os.path.exists(os.path.join(VENV, UNFINISHED)):
        os.remove(os.path.join(VENV, UNFINISHED))


def venv_fault(python):
    """Why .venv has to be made (anew); None if it can be used as it is."""
    if not os.path.isdir(VENV):
        return "it is not a folder" if os.path.lexists(VENV) else "it is missing"
    if os.path.exists(os.path.join(VENV, UNFINISHED)):
        return "an earlier run did not finish it"
    if not os.path.exists(python) or not runs([python]):
        return "its Python does not start or is not one of 3.10 to 3.13"
    root = read_stamp(VENV).get("root")
    if root not in (None, os.path.realpath(ROOT)):
        return "it was made for another folder ({})".format(root)
    return None


def install(python, environment, wanted):
    """Install the lock and this package, unless the stamp says that it has been done from the same files."""
    if inside(VENV) and os.path.exists(os.path.join(VENV, UNFINISHED)):
        raise Failure(".venv is half-made and in use by this Python.\nLeave it (deactivate) and run this again.")
    stamp = read_stamp(environment)
    if all(stamp.get(key) == value for key, value in wanted.items()):
        print("Everything is installed. To install it again, delete {}".format(os.path.join(environment, STAMP)))
        return

    if stamp:
        os.remove(os.path.join(environment, STAMP))  # from here on it would not be true
    ensure_pip(python)
    # requirements-dev.txt holds all of requirements.txt too, so one call settles every version.
    lock = "requirements-dev.txt" if "requirements-dev.txt" in wanted else "requirements.txt"
    print("Installing the packages of {} into {}".format(lock, environment))
    pip(python, "installing the locked packages", "--require-hashes", "-r", os.path.join(ROOT, lock))
    # The lock holds setuptools: without build isolation nothing is fetched that was not checked above.
    pip(python, "installing this package", "--no-deps", "--no-build-isolation", "-e", ROOT)
    try:
        with open(os.path.join(environment, STAMP), "w") as file:
            json.dump(wanted, file, indent=1, sort_keys=True)
    except (IOError, OSError):
        pass  # a system's Python, where pip chose the user's folder: the next run only takes longer


def install_on_colab():
    """Install this package and what Colab lacks of its requirements, leaving Colab's own packages alone."""
    pip(sys.executable, "installing this package", "--no-deps", "-e", ROOT)
    importlib.invalidate_caches()
    from importlib.metadata import requires

    missing = missing_requirements(requires("fashion-mnist-study"))
    if missing:
        pip(sys.executable, "installing what Colab lacks", *missing)


def missing_requirements(requirements):
    """Those requirements ("scipy>=1.11") whose package cannot be imported here; extras and jupyter left out."""
    from importlib.util import find_spec

    missing = []
    for requirement in requirements:
        name = requirement.split(";")[0].split(">=")[0].strip()
        wanted = "extra ==" not in requirement and name != "jupyter"
        if wanted and find_spec(IMPORT_NAMES.get(name, name)) is None:
            missing.append(requirement)
    return missing


def ensure_pip(python):
    """Environments made by uv have no pip: give them one."""
    if quiet([python, "-m", "pip", "--version"]) != 0:
        run_step(
            "installing pip into the environment",
            [python, "-m", "ensurepip", "--upgrade"],
            "Debian and Ubuntu keep the ensurepip module in a package of its own: sudo apt install python3-venv",
        )


def pip(python, step, *arguments):
    """Run pip install; its log tells, if it fails, what to do."""
    make_folder(os.path.dirname(LOG))
    if os.path.exists(LOG):
        os.remove(LOG)  # pip appends
    command = [python, "-m", "pip", "--disable-pip-version-check", "--log", LOG, "install"]
    try:
        run_step(step, command + list(arguments), "")
    except Failure as failure:
        raise Failure("{}{}\nWhat pip did is in {}".format(failure, remedy(LOG), LOG))


def remedy(log):
    """What to do, judging by pip's log."""
    text = ""
    if os.path.exists(log):
        with open(log, "rb") as file:
            text = file.read().decode("utf-8", "replace")
    for signs, advice in REMEDIES:
        if any(sign in text for sign in signs):
            return advice.format(system="{} {}".format(platform.system(), platform.machine()))
    return "See pip's message above; running this again does no harm."


def run_step(step, command, advice):
    """Run a command, showing what it prints; a failure names the step."""
    sys.stdout.flush()
    try:
        status = subprocess.call(command, cwd=ROOT)
    except OSError as error:
        raise Failure("{}: cannot start {} ({}).\n{}".format(step, command[0], error, advice))
    if status != 0:
        raise Failure("{} (exit status {}).\n{}".format(step, status, advice))


def make_folder(path):
    """Make a folder of the project unless it is there."""
    try:
        if not os.path.isdir(path):
            os.makedirs(path)
    except OSError as error:
        raise Failure("cannot make the folder {} ({}).\nPut the project where you may write.".format(path, error))


def sha256(path):
    """Hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def read_stamp(environment):
    """What was installed into this environment, from files with which hashes; empty if nothing was."""
    try:
        with open(os.path.join(environment, STAMP)) as file:
            return json.load(file)
    except (IOError, OSError, ValueError):
        return {}


def next_steps(target):
    """What to type now, on this system."""
    if target == "colab":
        return (
            "\nDone. Restart the session once (Runtime > Restart session) so that it sees the package, then\n"
            "open a notebook, or run the sequence in a cell:\n    !fashion-mnist run"
        )
    windows = os.name == "nt"
    prefix = "" if target == "here" else os.path.join(".venv", "Scripts" if windows else "bin", "")
    lines = ["", "Done. Next:"]
    steps = [
        (prefix + "fashion-mnist run", "the whole sequence, a few minutes"),
        (prefix + "jupyter lab " + os.path.join("notebooks", "main.ipynb"), "the tour, in the browser"),
    ]
    if prefix:
        activate = prefix + "activate" if windows else "source {}activate".format(prefix)
        steps.append((activate, "then `fashion-mnist` needs no path"))
    width = max(len(command) for command, _ in steps)
    return "\n".join(lines + ["    {}   {}".format(command.ljust(width), what) for command, what in steps])


if __name__ == "__main__":
    sys.exit(main())

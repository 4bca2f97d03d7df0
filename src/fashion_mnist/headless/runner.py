"""Execute the notebooks headlessly, each in a kernel of its own, and keep only what belongs together.

A kernel writes figures, arrays and its record into a staging folder. When the notebook is done they are moved into
place, then the record, and the executed copy last. The copy is stamped with the id of the run, which its record holds
too, and with hashes of what was made and read. Wherever a run is killed, the next one sees that it was not finished.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fashion_mnist import data, files, profiles, records
from fashion_mnist.headless.kernels import Kernels, NotebookFailed, end_orphans, environment, take_outputs
from fashion_mnist.networks import clock, now

PACKAGE = Path(__file__).resolve().parents[1]
SUMMARIES = ("09_final_evaluation", "main")  # show what the others made, so they run after them, one by one
WANTED = ("07", "05", "02", "04", "03", "06", "08", "09")  # notebooks by how much is lost without their networks


# --- which notebooks, what they say about themselves -----------------------------------------------------------------


def notebooks(names: Sequence[str] | None = None, root: Path | None = None) -> list[Path]:
    """The notebooks in the order of the sequence: numbered ones first, ``main`` last.

    Parameters
    ----------
    names : sequence of str, optional
        Only these: ``02_baselines``, ``02_baselines.ipynb`` or a path that ends so.
    root : Path, optional
        The checkout.

    Raises
    ------
    ValueError
        If there is no notebook at all, or none of such a name; the message lists those there are.
    """
    folder = Path(root or data.root()) / "notebooks"
    found = sorted(folder.glob("[!.]*.ipynb"), key=lambda path: (path.stem == SUMMARIES[-1], path.stem))
    if not found:
        raise ValueError(
            f"There are no notebooks in {folder}; run this in a checkout, or set FASHION_MNIST_ROOT to one."
        )
    if not names:
        return found
    wanted = {Path(name).name.removesuffix(".ipynb") for name in names}
    if unknown := sorted(wanted - {path.stem for path in found}):
        known = ", ".join(path.stem for path in found)
        raise ValueError(f"There is no notebook {', '.join(unknown)}; choose from {known}.")
    return [path for path in found if path.stem in wanted]


def code_hash(notebook: Mapping[str, Any]) -> str:
    """Hash of what a notebook executes: the sources of its code cells, not its prose and not its outputs."""
    sources = [cell["source"].rstrip() for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return records.digest(json.dumps(sources).encode())


def stamp(path: Path) -> dict[str, Any]:
    """What an executed notebook says about its execution; empty if it was not executed, or is not there."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))["metadata"]["fashion_mnist"]
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def record_of(copy: Path) -> dict[str, Any]:
    """The record beside an executed notebook, in ``../results/``; empty if there is none.

    Raises
    ------
    ValueError
        If the two were made by different runs, so that the numbers of one would stand beside the figures of the other.
    """
    path = copy.parents[1] / "results" / f"{copy.stem}.json"
    if not path.is_file():
        return {}
    record, made = records.read_json(path), stamp(copy)
    if record.get("run") != made.get("run"):
        raise ValueError(
            f"{copy} and {path} were made by different runs ({made.get('run')}, {record.get('run')}); "
            f"`fashion-mnist run {copy.stem} --profile {made.get('profile', 'full')}` makes both anew."
        )
    return record


# --- running ---------------------------------------------------------------------------------------------------------


def run(
    names: Sequence[str] | None = None,
    profile: str = "quick",
    data: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    redraw: bool = False,
) -> int:
    """Execute notebooks and keep the executed copies.

    A copy is kept as it is if profile, seed, data and code are those asked for, and what it made and what it depends on
    (modules of this package, records, cards, predictions, arrays) have not changed. At ``full`` on the official data
    the executed notebook replaces the one in ``notebooks/``; every other copy goes to ``build/PROFILE/notebooks/``.
    Finished notebooks are printed on standard output, the rest on standard error.

    Parameters
    ----------
    names : sequence of str, optional
        Which notebooks; all if not given. Two run at a time, at ``full`` one.
    profile : {"smoke", "quick", "full"}
    data : path, optional
        The data set; searched as `fashion_mnist.data.load` describes if not given.
    seed : int
    fresh : bool
        Execute also what is done already; at ``full`` train again as well.
    redraw : bool
        Draw again from cards, predictions, arrays and records as they are; no network of the study is trained, what was
        never measured is. Only at ``full`` and not with `fresh`.

    Returns
    -------
    int
        0, or 1 if a notebook failed: its source cell and error are on standard error, the notebook as far as it got
        in ``build/PROFILE/partial/``. The others are executed all the same, but not those that show what it makes.

    Raises
    ------
    ValueError
        If there is no such profile or notebook, or nothing of the full study that could be drawn again.
    DataError
        If the data cannot be had.
    files.Busy
        If another process runs notebooks at this profile.
    KeyboardInterrupt
        On Ctrl-C; what was finished before stays finished.
    """
    profiles.named(profile)
    if redraw and (fresh or profile != "full"):
        raise ValueError("To draw again what the full study left, give --redraw with --profile full, without --fresh.")
    root = _root()
    paths = notebooks(names, root)
    dataset, place = _data(data)
    data = None if data is None else str(Path(data).expanduser().resolve())
    official = profile == "full" and dataset.kind == "official" and seed == 0  # as in study.start
    if redraw and not official:
        raise ValueError(f"--redraw shows the full study, made of the official data with seed 0, not {place}, {seed}.")
    about = {"profile": profile, "seed": seed, "fingerprint": dataset.fingerprint, "kind": dataset.kind}
    parameters = {"PROFILE": profile, "SEED": seed, "DATA": data}
    build = root / "build" / profile
    work = _Run(root, build, root if official else build, about, parameters, place, fresh, redraw)
    failed = False
    with files.alone(build, f"runs the notebooks at profile {profile}"):
        _remove_leftovers(build, work.out)
        first = [path for path in paths if path.stem not in SUMMARIES]
        for group in (first, *([path] for path in paths if path.stem in SUMMARIES)):
            if failed and group:
                print(f"{group[0].stem} was not executed: it shows what others make.", file=sys.stderr, flush=True)
                continue
            failed = not _together(group, work.notebook, work.kernels, 1 if profile == "full" else 2)
    return int(failed)


def train_missing(names: Sequence[str] | None = None, data: str | Path | None = None) -> int:
    """Train what the full study would train and nobody has; each network is kept as it is done.

    Of each notebook are executed: the parameters, the second code cell, which sets up, and those tagged ``trains``. Its
    outputs go to standard error, nothing of the notebook is saved.

    Parameters
    ----------
    names : sequence of str, optional
        Which notebooks, in this order; all that train if not given, those first whose networks are wanted most.
    data : path, optional
        The data set; searched as `fashion_mnist.data.load` describes if not given.

    Returns
    -------
    int
        0, or 1 if a notebook failed.

    Raises
    ------
    ValueError
        If there is no such notebook, or the data is not the official one.
    DataError
        If the data cannot be had.
    files.Busy
        If another process runs notebooks at ``full``.
    KeyboardInterrupt
        On Ctrl-C; the same command goes on from the last epoch.
    """
    root = _root()
    every = sorted(notebooks(root=root), key=lambda path: (*WANTED, path.stem[:2]).index(path.stem[:2]))
    paths = [path for name in names for path in notebooks([name], root)] if names else every
    dataset, place = _data(data)
    if dataset.kind != "official":
        raise ValueError(
            f"The full study is trained on the official data only, and {place} is not; `fashion-mnist data fetch` "
            "downloads it, --data names it."
        )
    training = {path: _what_trains(read(path)) for path in paths}
    kernels, build = Kernels(), root / "build" / "full"
    parameters = {"PROFILE": "full", "SEED": 0, "DATA": None}

    def train(path: Path) -> str:
        stage, began = build / "staging" / path.stem, time.monotonic()
        surroundings = environment(root, place, stage)
        kernels.execute(training[path], stage / path.name, parameters, surroundings, root, sys.stderr)
        return f"{path.stem:<20}  done {clock(time.monotonic() - began):>10}"

    with files.alone(build, "runs the notebooks at profile full"):
        _remove_leftovers(build, root)
        return int(not _together([path for path in paths if training[path]], train, kernels, 1))


def read(path: Path) -> Any:
    """A notebook of the sequence, as nbformat has it; ValueError if the file is damaged."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        # In what papermill wrote stand the parameters of that run; this one brings its own.
        notebook.cells = [one for one in notebook.cells if "injected-parameters" not in one.metadata.get("tags", [])]
        return notebook
    except (ValueError, LookupError, AttributeError, nbformat.ValidationError) as error:
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise ValueError(f"{path.name} is no notebook ({reason}); restore it, with git for instance.") from None


def _root() -> Path:
    return data.root().resolve()


def _data(place: str | Path | None) -> tuple[data.Dataset, str]:
    """The data set, said on standard error, and where it is: a kernel that searches again offline takes seconds."""
    dataset, notes = data.load_with_notes(place)
    print(*notes, dataset.describe(), sep="\n", file=sys.stderr, flush=True)
    return dataset, str(Path(data.info(place)["path"]).resolve())


def _what_trains(notebook: Any) -> Any:
    """The notebook cut down to its parameters, set-up and the cells that train; None if it trains nothing."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    trains = [cell for cell in code[2:] if "trains" in cell.metadata.get("tags", [])]
    notebook.cells = [*code[:2], *trains]
    return notebook if trains else None


def _remove_leftovers(build: Path, out: Path) -> None:
    """End the kernels and delete the files that a killed run left; call it where only one may run."""
    end_orphans(build / "staging")
    shutil.rmtree(build / "staging", ignore_errors=True)
    inner = ("images", "models", "notebooks", "results", "results/arrays", "results/predictions")
    beside = (build.with_name(kind) / build.name for kind in ("checkpoints", "measured"))
    files.sweep(*(out / folder for folder in inner), *beside)


def _together(paths: Iterable[Path], work: Callable[[Path], str], kernels: Kernels, workers: int) -> bool:
    """Work on notebooks, a few at a time; print the line about each as it ends, and return whether none failed."""
    good, executor = True, ThreadPoolExecutor(workers)
    waiting = {executor.submit(work, path): path.stem for path in paths}
    try:
        while waiting:
            ended, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)  # Windows hears Ctrl-C between waits
            for future in [future for future in waiting if future in ended]:
                name = waiting.pop(future)
                with tqdm.external_write_mode():  # between the bars of those that are under way
                    try:
                        print(future.result(), flush=True)
                    except NotebookFailed as failure:
                        good = False
                        print(f"{name} failed: {failure}", file=sys.stderr, flush=True)
    except BaseException as error:
        running = " and ".join(name for future, name in waiting.items() if future.running())
        kernels.stop()
        if isinstance(error, KeyboardInterrupt):
            where = f" in {running}" if running else ""
            raise KeyboardInterrupt(f"Interrupted{where}. The same command goes on from what is finished.") from None
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return good


@dataclass
class _Run:
    """One command's work: what is asked, and where it goes."""

    root: Path
    build: Path
    out: Path  # where the copies and what they made go
    about: dict[str, Any]  # what every stamp says alike
    parameters: dict[str, Any]
    place: str  # of the data
    fresh: bool
    redraw: bool
    began: str = field(default_factory=now)
    kernels: Kernels = field(default_factory=Kernels)

    def notebook(self, path: Path) -> str:
        """Execute a notebook unless that is done, and put what it made into place; the line that tells so."""
        name, before = path.stem, path.read_bytes()
        try:
            source = read(path)
        except ValueError as error:  # the other notebooks are executed all the same
            raise NotebookFailed(str(error)) from None
        asked, copy = {**self.about, "code": code_hash(source)}, self.out / "notebooks" / path.name
        if not self.fresh and self._done(copy, asked):
            return f"{name:<20}  unchanged        {copy.relative_to(self.root).as_posix()}"

        asked |= {"run": uuid.uuid4().hex[:12], **({"redraw": True} if self.redraw else {})}
        stage, partial = self.build / "staging" / f"{name}-{asked['run']}", self.build / "partial" / path.name
        surroundings = environment(self.root, self.place, stage) | {
            "FASHION_MNIST_RUN": asked["run"],
            "FASHION_MNIST_STAGE": str(stage),
            "FASHION_MNIST_REDRAW": "1" if self.redraw else "",
            "FASHION_MNIST_FRESH": self.began if self.fresh and self.about["profile"] == "full" else "",
        }
        began, sources = time.monotonic(), _sources()
        try:
            executed = self.kernels.execute(source, partial, self.parameters, surroundings, self.root)
            asked["seconds"] = round(time.monotonic() - began, 1)
            take_outputs(source, executed, self.root, self.place, stage)
            if copy == path and path.read_bytes() != before:
                # Somebody saved the notebook while it ran: their edit is worth more than these outputs.
                copy = self.build / "notebooks" / path.name
                print(f"{name} was edited while it ran, so it is left alone.", file=sys.stderr, flush=True)
            self._into_place(source, stage, copy, asked, sources)
        except NotebookFailed as failure:
            where = partial.relative_to(self.root).as_posix()
            raise NotebookFailed(f"{failure}The notebook as far as it got: {where}") from None
        except OSError as error:
            where = "" if error.filename else f", while writing to {self.build}"  # a disk that fills has no name
            raise NotebookFailed(f"{error}{where}. Notebooks that are finished are safe.") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        partial.unlink(missing_ok=True)
        if copy == path:  # what an earlier run on other data left would hide the new outputs from `report`
            (self.build / "notebooks" / path.name).unlink(missing_ok=True)
        return f"{name:<20}  done {clock(asked['seconds']):>10}  {copy.relative_to(self.root).as_posix()}"

    def _done(self, copy: Path, asked: Mapping[str, Any]) -> bool:
        """Whether a copy is what is asked for, whole, and of what is there now."""
        made = stamp(copy)
        if not made.items() >= asked.items() or not {"run", "files", "depends"} <= made.keys():
            return False
        if made.get("redraw") and not self.redraw:
            return False
        try:
            record_of(copy)
        except ValueError:
            return False
        sources, place = _sources(), copy.parents[1]
        whole = all(_digest(place / file) == digest for file, digest in made["files"].items())
        return whole and all(self._state(key, sources, copy.stem) == state for key, state in made["depends"].items())

    def _into_place(self, source: Any, stage: Path, copy: Path, made: dict[str, Any], sources: dict[str, str]) -> None:
        """Move what a notebook made into place, its record last, then write the copy with its stamp."""
        import nbformat

        place, record = copy.parents[1], stage / "results" / f"{copy.stem}.json"
        staged = [path for folder in ("images", "results") for path in (stage / folder).rglob("*") if path.is_file()]
        staged.sort(key=lambda path: (path == record, path))
        made["files"] = {path.relative_to(stage).as_posix(): _digest(path) for path in staged}
        about = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        made["depends"] = {name: sources[name] for name in about.get("modules", sources) if name in sources}
        own = {place / file for file in made["files"]}
        for file, digest in about.get("reads", {}).items():
            if self.root / file not in own and not (self.root / file).is_relative_to(stage):
                made["depends"][file] = digest
        if copy.stem in SUMMARIES:
            folders = {out / inner for out in (self.root, self.out) for inner in ("models", "results")}
            keys = sorted(f"{folder.relative_to(self.root).as_posix()}/" for folder in folders)
            made["depends"] |= {key: self._state(key, sources, copy.stem) for key in keys}
        for path in staged:
            target = place / path.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        before = stamp(copy).get("files", {})
        if f"results/{copy.stem}.json" in before:  # else the stamp came with the notebook that this one was copied from
            for gone in before.keys() - made["files"].keys():
                (place / gone).unlink(missing_ok=True)  # a figure that no notebook makes any more
        source.metadata["fashion_mnist"] = made
        files.write_text(copy, nbformat.writes(source))

    def _state(self, key: str, sources: Mapping[str, str], name: str) -> str | None:
        """What stands now for a key of ``depends``: a module, a file, or ``FOLDER/`` for which records are in it."""
        if key.endswith("/"):  # its own record is there after the run and may not be before
            found = {path.stem for path in (self.root / key).glob("*.json") if not path.name.startswith(".")}
            return records.digest(json.dumps(sorted(found | {name})).encode())
        return sources.get(key) or _digest(self.root / key)


def _sources() -> dict[str, str]:
    """Hash of each module of this package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = records.digest(path.read_bytes())
    return {name: digest for name, digest in found.items() if not name.startswith("fashion_mnist.headless")}


def _digest(path: Path) -> str | None:
    return records.digest(path.read_bytes()) if path.is_file() else None

"""Copies of the notebooks for Google Colab, each complete in one file.

On Colab a user uploads one notebook and nothing else, so its copy carries this package (for the tour also the shipped
results and models) as a zip archive in a cell of its own, which unpacks it and installs what Colab lacks.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import textwrap
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from fashion_mnist import study
from fashion_mnist.data import root as project_root

MODELS_LIMIT = 8_000_000  # bytes of models in one copy: with base64 a third more, and Colab takes notebooks up to 20 MB
WITH_RESULTS = {"main", "09_final_evaluation"}  # the notebooks that read results/ and models/ instead of making them
IMPORT_NAMES = {"scikit-learn": "sklearn", "opentsne": "openTSNE"}  # where they differ from the package's name

SETUP = '''\
# @title Set-up: run this cell first {{display-mode: "form"}}
NEEDED = {needed}


def set_up(digest, payload):
    """Unpack the study's package from this cell, install what is missing here, and make the package importable."""
    import base64, importlib.util, io, os, subprocess, sys, zipfile
    from pathlib import Path

    missing = [requirement for module, requirement in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print("Installing", ", ".join(missing))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", *missing]
        done = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"pip could not install {{', '.join(missing)}}:\\n{{done.stdout}}")
        importlib.invalidate_caches()

    root = Path(os.environ.setdefault("FASHION_MNIST_ROOT", os.getcwd()))
    package = root / "fashion_mnist_package" / digest
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(payload)))
    for name in archive.namelist():
        ours = name.startswith("package/")
        path = package / name[len("package/") :] if ours else root / name
        if ours or not path.exists():  # results made here are kept
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))

    if str(package) not in sys.path:
        sys.path.insert(0, str(package))
        # Processes started from here (kernels, workers) need it too.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    for name in [name for name in sys.modules if name.split(".")[0] == "fashion_mnist"]:
        del sys.modules[name]
    import fashion_mnist

    print("fashion_mnist", fashion_mnist.__version__, "is in", package)


# The archive, written with base64: nothing to read from here on.
set_up(
    "{digest}",
    """
{payload}
""",
)'''


@dataclass(frozen=True)
class Copy:
    """A copy that was written: where, its size in bytes, the models it carries and those left out for their size."""

    path: Path
    size: int
    models: tuple[str, ...]
    left_out: tuple[str, ...]


def write_colab(notebooks: Sequence[str] | None = None, target: str | Path | None = None) -> list[Copy]:
    """Write a copy of each notebook that runs on Google Colab with nothing else uploaded.

    The copy has no outputs. Before its first code cell stand an explanation and a cell that carries this package,
    installs those of its requirements that cannot be imported, and puts the package first on `sys.path`. The copy of
    the tour (``main``) also carries results/*.json, the figures it names and the models, the smallest first, up to
    `MODELS_LIMIT` bytes. The same files give the same bytes.

    Parameters
    ----------
    notebooks : sequence of str, optional
        Names of notebooks, such as ``01_eda``; all of notebooks/ if not given.
    target : str or Path, optional
        Folder for the copies, made if missing; build/colab if not given.

    Returns
    -------
    list of Copy
        One a notebook, in the order of the study.

    Raises
    ------
    ValueError
        If there is no such notebook; the message lists those there are.

    Examples
    --------
    >>> from fashion_mnist import colab
    >>> for copy in colab.write_colab(["main"]):  # doctest: +SKIP
    ...     print(copy.path, copy.size, copy.left_out)
    """
    sources = study.notebooks(notebooks)
    target = Path(target) if target is not None else project_root() / "build" / "colab"
    target.mkdir(parents=True, exist_ok=True)
    return [_write_copy(source, target) for source in sources]


def _write_copy(source: Path, target: Path) -> Copy:
    files = _package_files()
    models, left_out = [], []
    if source.stem in WITH_RESULTS:
        files |= {f"results/{path.name}": path for path in sorted((project_root() / "results").glob("*.json"))}
        text = source.read_text(encoding="utf-8")
        models, left_out = _choose_models(project_root() / "models", text)
        files |= {f"models/{path.name}": path for pair in models for path in pair}
        pictures = sorted((project_root() / "images").glob("*.png"))
        files |= {f"images/{path.name}": path for path in pictures if path.name in text}
    names = tuple(sorted(keras.stem for keras, _ in models))

    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    # What the metadata says of the run that made the outputs holds no longer.
    for key in ("fashion_mnist", "papermill"):
        notebook.metadata.pop(key, None)
    first_code = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))
    notebook.cells[first_code:first_code] = [
        nbformat.v4.new_markdown_cell(_explanation(files, names, left_out), id="colab-explanation"),
        nbformat.v4.new_code_cell(
            _setup_source(_archive(files)),
            id="colab-set-up",
            # Both hide the long source: Colab's form view, and Jupyter's.
            metadata={"cellView": "form", "jupyter": {"source_hidden": True}},
        ),
    ]
    nbformat.validate(notebook)

    path = target / f"{source.stem}.ipynb"
    partial = path.with_suffix(".part")
    partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
    partial.replace(path)
    return Copy(path, path.stat().st_size, names, tuple(left_out))


def _package_files() -> dict[str, Path]:
    """Every file of this package: name in the archive -> file."""
    package = Path(__file__).parent
    files = (path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"package/{package.name}/{path.relative_to(package).as_posix()}": path for path in files}


def _choose_models(folder: Path, notebook: str) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Models (with their cards) that fit `MODELS_LIMIT`, and the names of the others.

    The ones that the notebook names come first, for it needs them; then the smallest.
    """
    chosen, left_out, total = [], [], 0

    def rank(model: Path) -> tuple[bool, int, str]:
        return model.name not in notebook, model.stat().st_size, model.name

    for model in sorted(folder.glob("*.keras"), key=rank):
        card, size = model.with_suffix(".json"), model.stat().st_size
        if total + size <= MODELS_LIMIT and card.is_file():
            chosen.append((model, card))
            total += size
        else:
            left_out.append(model.stem)
    return chosen, sorted(left_out)


def _archive(files: dict[str, Path]) -> bytes:
    """A zip archive that is the same, byte for byte, for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path in sorted(files.items()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # as on Unix, wherever it is made
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


def _requirements() -> dict[str, str]:
    """What the package needs: import name -> requirement, as pyproject.toml has it."""
    requirements = {}
    for requirement in importlib.metadata.requires("fashion-mnist-study") or []:
        name = requirement.split(">=")[0].strip()
        # jupyter is the interface that the notebook is open in; a requirement with "extra" is for tests and the like.
        if name != "jupyter" and "extra ==" not in requirement:
            requirements[IMPORT_NAMES.get(name, name)] = requirement
    return requirements


def _setup_source(archive: bytes) -> str:
    needed = "".join(f'    "{module}": "{requirement}",\n' for module, requirement in _requirements().items())
    return SETUP.format(
        needed=f"{{\n{needed}}}",
        digest=hashlib.sha256(archive).hexdigest()[:12],
        payload="\n".join(textwrap.wrap(base64.b64encode(archive).decode("ascii"), 120)),
    )


def _explanation(files: dict[str, Path], models: tuple[str, ...], left_out: list[str]) -> str:
    lines = [
        "## Set-up for Google Colab",
        "",
        "This copy runs on its own: **run the next cell first.** It unpacks the study's package, which it carries, "
        "into the folder `fashion_mnist_package`, and installs those Python packages that are missing here (a minute "
        "at most). Packages that Colab has are left as they are. The data set is downloaded from its official mirrors "
        "when the notebook first loads it; to use your own copy, upload `data.zip` beside the notebook or set `DATA` "
        "below.",
    ]
    results = sum(name.startswith("results/") for name in files)
    if results or models or left_out:
        carried = ", ".join(f"`{name}`" for name in models) or "none"
        lines += ["", f"It also carries the {results} result files of the full study and its models: {carried}."]
    if left_out:
        names = ", ".join(f"`{name}`" for name in left_out)
        limit = MODELS_LIMIT / 1e6
        lines += ["", f"Left out, because the models of one copy may take {limit:g} MB together: {names}."]
    return "\n".join(lines)

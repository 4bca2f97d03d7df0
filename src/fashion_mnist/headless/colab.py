"""Copies of the notebooks for Google Colab, each complete in one file.

On Colab a user uploads one notebook and nothing else. Its copy carries, as a zip archive in a cell of its own, the
package and what the notebook reads of the full study: its record says which cards, weights, predictions and arrays.
The cell unpacks them and installs what Colab lacks; what Colab has stays as it is.
"""

from __future__ import annotations

import base64
import importlib.metadata
import re
import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from fashion_mnist import data, files, records
from fashion_mnist.headless import runner

# Bytes, compressed, of what one copy carries of the full study. With base64 a third more, and Colab takes notebooks of
# up to 20 MB.
LIMIT = 10_000_000
DEMO = "fashion_mnist.headless"  # what a notebook that shows the demo names, be it in words: a reader types it
SETUP = Path(__file__).parent / "templates" / "colab_setup.py"


@dataclass(frozen=True)
class Copy:
    """A copy that was written: where, which files of the study it carries, which found no place."""

    path: Path
    carried: tuple[str, ...]
    left_out: tuple[str, ...]


def write_colab(notebooks: Sequence[str] | None = None, target: str | Path | None = None) -> list[Copy]:
    """Write a copy of each notebook that runs on Google Colab with nothing else uploaded.

    The copy has no outputs. Before its first code cell stand an explanation and a cell that carries the package and
    what the notebook's record names under ``reads``, up to `LIMIT` bytes: records and cards first, then arrays and
    the figures that it names, then predictions and weights, the largest last; of networks that differ only in their
    seed those of the first, then the predictions of the others, then their weights. The same files give the same bytes.

    `notebooks` are names such as ``01_eda``, all if not given; the copies come in the order of the study. `target` is a
    folder, build/colab if not given.

    Raises
    ------
    ValueError
        If there is no such notebook; the message lists those there are. If a record cannot be read.
    """
    sources = runner.notebooks(notebooks)
    target = Path(target) if target is not None else data.root() / "build" / "colab"
    return [_write_copy(source, target) for source in sources]


def _write_copy(source: Path, target: Path) -> Copy:
    notebook = runner.read(source)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in notebook.cells)
    package = _package_files(DEMO in text)
    carried, left_out = _choose(_read_by(source.stem, text, data.root()))
    contents = {name: path.read_bytes() for name, path in {**package, **carried}.items()}
    texts = [content.decode() for name, content in contents.items() if name.endswith(".py")]

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("fashion_mnist", None)  # what it says of the run that made the outputs holds no longer
    first_code = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))
    notebook.cells[first_code:first_code] = [
        nbformat.v4.new_markdown_cell(_explanation(len(carried), left_out), id="colab-explanation"),
        nbformat.v4.new_code_cell(
            _setup_source(files.zipped(dict(sorted(contents.items()))), needed([code, *texts])),
            id="colab-set-up",
            # Both hide the long source: Colab's form view, and Jupyter's.
            metadata={"cellView": "form", "jupyter": {"source_hidden": True}},
        ),
    ]
    nbformat.validate(notebook)
    path = files.write_text(target / f"{source.stem}.ipynb", nbformat.writes(notebook) + "\n")
    return Copy(path, tuple(sorted(carried)), tuple(left_out))


def _package_files(with_demo: bool) -> dict[str, Path]:
    """The ground floor of this package, and of the upper one the demo: name in the archive -> file."""
    upper = Path(__file__).parent
    folder = upper.parent
    found = [path for path in folder.rglob("*.py") if not path.is_relative_to(upper)]
    if with_demo:
        found += [upper / f"{name}.py" for name in ("__init__", "demo", "expert", "measure")]
    return {f"package/{folder.name}/{path.relative_to(folder).as_posix()}": path for path in found}


def _read_by(name: str, text: str, root: Path) -> dict[str, Path]:
    """What a notebook shows of the full study, by relative path: its record, what that says was read, and figures; for
    the demo also what tells garments from anything else."""
    own = root / "results" / f"{name}.json"
    if not own.is_file():
        return {}
    pictures = [path for path in (root / "images").glob("*.png") if path.name in text]
    for_demo = ["results/bench_not_sure.json", "results/arrays/bench_not_sure.npz"] if DEMO in text else []
    found = [own, *(root / each for each in [*records.read_json(own).get("reads", ()), *for_demo]), *pictures]
    return {path.relative_to(root).as_posix(): path for path in found if path.is_file()}


def _choose(found: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Those files that fit `LIMIT`, and the names of the others."""
    kinds = (r"\.json$", r"^images/|^results/arrays/", r"^results/predictions/", "")  # in this order; weights last
    sizes = {name: len(zlib.compress(path.read_bytes(), 9)) for name, path in found.items()}

    def rank(name: str) -> tuple:
        # Of networks that differ only in their seed, the first before any other, with which the predictions suffice.
        alike = sorted(other for other in found if re.sub(r"_seed\d+", "", other) == re.sub(r"_seed\d+", "", name))
        kind = next(number for number, pattern in enumerate(kinds) if re.search(pattern, name))
        place = alike.index(name)
        return min(kind, 2), place > 0, kind, place, sizes[name], name

    chosen, left_out, total = {}, [], 0
    for name in sorted(found, key=rank):
        if total + sizes[name] <= LIMIT:
            chosen[name] = found[name]
            total += sizes[name]
        else:
            left_out.append(name)
    return chosen, left_out


def needed(sources: Iterable[str]) -> dict[str, str]:
    """Which requirements of this project these sources import: import name -> requirement, as pyproject.toml has it."""
    requirements = {}
    for requirement in importlib.metadata.requires("fashion-mnist-study") or []:
        if "extra ==" not in requirement:
            requirements[re.split(r"[<>=!~ ;\[]", requirement)[0].lower()] = requirement
    providers = importlib.metadata.packages_distributions()
    imported = {name for source in sources for name in re.findall(r"^\s*(?:import|from)\s+(\w+)", source, re.M)}
    names = {module: {name.lower().replace("_", "-") for name in providers.get(module, ())} for module in imported}
    return {
        module: requirements[name] for module in sorted(names) for name in sorted(names[module] & requirements.keys())
    }


def _setup_source(archive: bytes, requirements: Mapping[str, str]) -> str:
    payload = "\n".join(textwrap.wrap(base64.b64encode(archive).decode("ascii"), 120))
    call = f'set_up(\n    {dict(requirements)},\n    "{records.digest(archive)[:12]}",\n    """\n{payload}\n""",\n)'
    return SETUP.read_text(encoding="utf-8") + call


def _explanation(carried: int, left_out: Sequence[str]) -> str:
    paragraphs = [
        "## Set-up for Google Colab",
        "This copy runs on its own: **run the next cell first.** It unpacks the study's package, which it carries, "
        "into the folder `fashion_mnist_package`, and installs those Python packages that are missing here (a minute "
        "at most). Packages that Colab has are left as they are. The data set is downloaded from its official mirrors "
        "when the notebook first loads it; to use your own copy, upload `data.zip` beside the notebook or set `DATA` "
        "below.",
    ]
    if carried:
        paragraphs += [
            f"It also carries what this notebook reads of the full study, {carried} files in all: records, and cards, "
            "predictions and weights of networks. So it shows the study's own numbers."
        ]
    if left_out:
        names = ", ".join(f"`{name}`" for name in left_out)
        paragraphs += [f"Left out, because a copy holds {LIMIT / 1e6:g} MB of them: {names}."]
    return "\n\n".join(paragraphs)

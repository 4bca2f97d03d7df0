"""Render the executed notebooks to a site of self-contained HTML pages; the look is in ``templates/study``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_mnist import data, files, profiles
from fashion_mnist.figures import style
from fashion_mnist.headless import datamap, runner
from fashion_mnist.networks import clock

KINDS = {"official": [], "sample": [data.SAMPLE_NOTE], "unverified": ["UNVERIFIED DATA: not the official files"]}


@dataclass(frozen=True)
class Chapter:
    """One executed notebook on its way into the report."""

    name: str
    notebook: Any
    record: dict[str, Any]
    place: Path  # below which it left what it made

    @property
    def opening(self) -> str:
        """Source of the first Markdown cell: a title, and what the notebook answers."""
        return next((cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"), "")

    @property
    def title(self) -> str:
        heading = re.search(r"^#\s+(.+)$", self.opening, re.M)
        return heading.group(1).strip() if heading else self.name

    @property
    def summary(self) -> str:
        """What was found, in Markdown: the record's own sentence, else the first paragraph after the title."""
        paragraphs = [text.strip() for text in re.split(r"\n\s*\n", self.opening)]
        return self.record.get("summary") or next((text for text in paragraphs if text and text[0] != "#"), "")

    @property
    def picture(self) -> str | None:
        """The first figure, as base64 PNG."""
        outputs = (out for cell in self.notebook.cells for out in cell.get("outputs", []))
        return next((out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})), None)

    @property
    def doubts(self) -> list[str]:
        """Why its numbers are not those of this code on the official data; the pages say it loudly."""
        made = self.notebook.metadata["fashion_mnist"]
        edited = made["code"] != runner.code_hash(self.notebook)
        return ["EDITED SINCE: the outputs are of other code"] * edited + KINDS[made["kind"]]

    @property
    def provenance(self) -> str:
        """Data, profile and time in one line."""
        made = self.notebook.metadata["fashion_mnist"]
        time = f"executed in {clock(made['seconds'])}"
        if self.record.get("seconds", 0) > 2 * made["seconds"]:
            time += f", {clock(self.record['seconds'])} from nothing"
        words = self.doubts or ["official data"]
        return " · ".join([*words, f"profile {made['profile']}", f"seed {made['seed']}", time])


def report(profile: str | None = None) -> Path:
    """Render the executed notebooks to a self-contained HTML site in ``build/report``.

    Parameters
    ----------
    profile : {"smoke", "quick", "full"}, optional
        Whose notebooks: those in ``build/PROFILE/notebooks``, for ``full`` also the outputs in ``notebooks/``. If not
        given, ``quick`` where something was executed at quick, else ``full``.

    Returns
    -------
    Path
        ``index.html``; no page loads anything from elsewhere. TeX in Markdown stays as typed. ``map.html``, the map of
        the data, is beside it where the data is at hand.

    Raises
    ------
    ValueError
        If nothing was executed at this profile, or a notebook and the record beside it are of different runs.
    """
    root = data.root().resolve()
    candidates = [profiles.named(profile).name] if profile else ["quick", "full"]
    chapters = next(filter(None, (_chapters(each, root) for each in candidates)), [])
    if not chapters:
        command = f"fashion-mnist run --profile {profile or 'quick'}"
        raise ValueError(f"No notebook has been executed at profile {profile or 'quick'}; `{command}` does it.")

    exporter, folder = _exporter(), root / "build" / "report"
    names = [chapter.name for chapter in chapters]
    for old in folder.glob("*.html"):
        if old.stem not in names:
            old.unlink()
    mapped = next((chapter for chapter in chapters if chapter.name == datamap.NOTEBOOK), None)
    shown = mapped and datamap.content(mapped.place, root, mapped.notebook.metadata["fashion_mnist"].get("fingerprint"))
    for chapter, before, after in zip(chapters, [None, *names], [*names[1:], None], strict=False):
        page = _page(exporter, chapter, before, after, root, chapter is mapped and shown is not None)
        files.write_text(folder / f"{chapter.name}.html", _linked(page, names))
    if shown:
        template = exporter.environment.get_template("map.html.j2")
        page = template.render(chapter=mapped, resources={"accent": style.RIGHT}, **shown)
        files.write_text(folder / "map.html", page)
    return files.write_text(folder / "index.html", _linked(_overview(exporter, chapters, shown), names))


def _chapters(profile: str, root: Path) -> list[Chapter]:
    import nbformat

    chapters = []
    for path in runner.notebooks(root=root):
        for place in (root / "build" / profile, root):  # in the latter stands what was executed at full
            copy = place / "notebooks" / path.name
            if runner.stamp(copy).get("profile") == profile:
                chapters.append(Chapter(path.stem, nbformat.read(copy, as_version=4), runner.record_of(copy), place))
                break
    return chapters


def _exporter() -> Any:
    # Figures are embedded as they are. `embed_images`, for pictures in Markdown, would close <details> at a blank line.
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_name="study",
        extra_template_basedirs=[str(Path(__file__).parent / "templates")],
        filters={"sections": lambda html: re.findall(r'<h2 id="([^"]*)">(.*?)<a class="anchor-link"', html, re.S)},
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def _page(exporter: Any, chapter: Chapter, before: str | None, after: str | None, root: Path, mapped: bool) -> str:
    """One notebook: contents, then its cells, figures embedded."""
    heading = chapter.title
    for cell in chapter.notebook.cells:  # a figure is described by the heading it stands under
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+\s+(.+)$", cell.source, re.M) or [heading])[-1]
        cell.metadata.setdefault("alt", f"Figure: {heading}")
    about = {"title": chapter.title, "doubts": chapter.doubts, "provenance": chapter.provenance}
    resources = {"chapter": about, "before": before, "after": after, "accent": style.RIGHT, "map": mapped}
    resources["metadata"] = {"path": str(root / "notebooks")}
    page, _ = exporter.from_notebook_node(chapter.notebook, resources)
    return page


def _overview(exporter: Any, chapters: Sequence[Chapter], shown: dict[str, Any] | None) -> str:
    """What was found: the tour's own finding first, then the notebooks in their order."""
    made = next((chapter.record for chapter in chapters if "machine" in chapter.record), None)
    ordered = sorted(chapters, key=lambda chapter: chapter.name != runner.SUMMARIES[-1])
    template = exporter.environment.get_template("overview.html.j2")
    dots = len(shown["dots"]["number"]) if shown else 0
    return template.render(chapters=ordered, made=made, dots=dots, resources={"accent": style.RIGHT})


def _linked(page: str, names: Sequence[str]) -> str:
    """The page with links from notebook to notebook leading to their pages."""
    return re.sub(rf'href="(?:\./)?({"|".join(map(re.escape, names))})\.ipynb', r'href="\1.html', page)

"""Numbers in prose come from records: README.md and docs/RESULTS.md show the fragments that their owners wrote."""

from __future__ import annotations

import re
from pathlib import Path

from fashion_mnist import data, files, records
from fashion_mnist.headless import runner

PAGES = ("README.md", "docs/RESULTS.md")
OPEN = r"<!-- results:(?P<name>[^\s.]+)(?:\.(?P<key>\S+))? -->"
BLOCK = re.compile(f"(?P<open>{OPEN})(?:(?!<!-- results:).)*?<!-- /results -->", re.S)
BADGES = """<!-- badges -->
[![study]({url}/actions/workflows/study.yml/badge.svg)]({url}/actions/workflows/study.yml)
[Copies for Colab]({url}/releases/latest)
<!-- /badges -->"""


def rewrite(check: bool = False) -> list[str]:
    """Rewrite what stands between ``<!-- results:NAME -->`` or ``<!-- results:NAME.KEY -->`` and ``<!-- /results -->``.

    It becomes the ``readme`` of ``results/NAME.json``, or its part KEY, as it stands there; the KEY ``summary`` means
    the record's sentence. Once pyproject.toml names the repository, clone commands and badges follow it.

    Parameters
    ----------
    check : bool
        Only compare; the pages are left as they are.

    Returns
    -------
    list of str
        The blocks that differed, as ``README.md: NAME.KEY``.

    Raises
    ------
    ValueError
        If a marker names no record, one without such a fragment, or one that is not of the full study on the official
        data and of the same run as its notebook; or if a marker is not closed.
    """
    root, differing = data.root(), []
    for page in PAGES:
        path = root / page
        if not path.is_file():
            continue
        before = path.read_text(encoding="utf-8")

        def block(match: re.Match[str], page: str = page) -> str:
            name, key = match["name"], match["key"]
            shown = f"{match['open']}\n{_fragment(root, page, name, key).strip()}\n<!-- /results -->"
            if shown != match[0]:
                differing.append(f"{page}: {name}{f'.{key}' if key else ''}")
            return shown

        addressed = _addressed(before, root)
        if addressed != before:
            differing.append(f"{page}: address of the repository")
        after, blocks = BLOCK.subn(block, addressed)
        if not blocks == before.count("<!-- results:") == before.count("<!-- /results -->"):
            raise ValueError(
                f"{page} opens {before.count('<!-- results:')} blocks with <!-- results:NAME -->, closes "
                f"{before.count('<!-- /results -->')} with <!-- /results -->, and {blocks} of them belong together."
            )
        if after != before and not check:
            files.write_text(path, after)
    return differing


def _addressed(text: str, root: Path) -> str:
    """The page with the address of the repository that pyproject.toml names, if it names one."""
    project = root / "pyproject.toml"
    named = project.is_file() and re.search(r'^Repository = "([^"]+?)(?:\.git|/)?"', project.read_text("utf-8"), re.M)
    if not named:
        return text
    text = re.sub(r"(?<=git clone --depth 1 )[^\s`]+", lambda _: named[1], text)
    return re.sub("<!-- badges -->.*?<!-- /badges -->", lambda _: BADGES.format(url=named[1]), text, flags=re.S)


def _fragment(root: Path, page: str, name: str, key: str | None) -> str:
    """The Markdown that a record has for a marker, or ValueError."""
    asks = f"{page} shows a part of results/{name}.json"
    try:
        record = records.read(name, root)
    except FileNotFoundError as error:
        raise ValueError(
            f"{asks}, which does not exist; make it with the notebook or benchmark of that name."
        ) from error
    if (record.get("profile"), record.get("data", {}).get("kind")) != ("full", "official"):
        raise ValueError(
            f"{asks}, which is not of the full study on the official data; make it with `--profile full` on that data."
        )
    copy = root / "notebooks" / f"{name}.ipynb"
    if copy.is_file():
        runner.record_of(copy)  # refuses a record of another run than the notebook's
    fragment = {"summary": record.get("summary")} if key == "summary" else record.get("readme") or {}
    found = fragment.get(key) if isinstance(fragment, dict) else None if key else fragment
    if not found:
        has = ", ".join(filter(fragment.get, fragment)) if isinstance(fragment, dict) else "a single fragment"
        raise ValueError(f"{asks}, {f'its {key!r}' if key else 'its only one'}; it has {has or 'none'}.")
    return found

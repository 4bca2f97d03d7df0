"""report.py: pages from executed notebooks, which are written here as a run leaves them."""

import re

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fashion_mnist import files
from fashion_mnist.headless import report, runner

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
OPENING = "# 1. Classes & <pixels>\n\nWhat the *data* hold. See [the next](02_b.ipynb).\n\n## Balance"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    return tmp_path


def write_executed(root, profile, kind="unverified", summary="", run="0123456789ab"):
    """Three notebooks, executed at `profile`; the first one has a record."""
    out = root if (profile, kind) == ("full", "official") else root / "build" / profile
    outputs = [
        new_output("display_data", {"image/png": PIXEL}),
        new_output("stream", text="\x1b[31mred\x1b[0m <b>\n"),
        new_output("execute_result", {"text/html": pd.DataFrame({"a": [1]}).to_html()}, execution_count=1),
    ]
    for name, cells in {
        "01_a": [new_markdown_cell(OPENING), new_code_cell("a = 1", outputs=outputs)],
        "02_b": [new_markdown_cell("# Second\n\nWhat comes next?")],
        "main": [new_markdown_cell("# The tour\n\nAll of it.")],
    }.items():
        notebook = new_notebook(cells=cells)
        files.write_text(root / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
        code = runner.code_hash(notebook)
        stamp = {"profile": profile, "seed": 0, "kind": kind, "code": code, "seconds": 61.0, "run": run}
        notebook.metadata["fashion_mnist"] = stamp
        files.write_text(out / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
    machine = {"cpu": "A & B", "cores": 2, "memory": "4 GiB"}
    record = {"name": "01_a", "run": run, "summary": summary, "seconds": 3600.0, "headline": {"some_raw_key": 0.8912}}
    files.write_json(out / "results" / "01_a.json", record | {"machine": machine, "versions": {"python": "3.11"}})


def test_the_report_is_self_contained(checkout):
    write_executed(checkout, "quick", summary="The classes are **balanced**; [the next](02_b.ipynb) says more.")
    stale = checkout / "build" / "report" / "gone.html"
    stale.parent.mkdir(parents=True)
    stale.write_text("a page of a notebook that is no more")

    index = report.report()
    names = ["01_a.html", "02_b.html", "index.html", "main.html"]
    assert sorted(path.name for path in index.parent.iterdir()) == names
    pages = {path.stem: path.read_text(encoding="utf-8") for path in index.parent.iterdir()}
    for name, page in pages.items():
        assert not re.search(r"<script|<link|@import|url\(", page), name
        assert not re.search(r"{{|{%|{#", page), name
        sources = re.findall(r'src="([^"]*)"', page)
        assert all(source.startswith("data:") for source in sources), name
        for target in re.findall(r'href="([^"#]+)"', page):
            assert (index.parent / target).exists(), f"{name} links to {target}"
        assert "UNVERIFIED DATA" in page
        assert 'name="viewport"' in page
    assert "<title>1. Classes &amp; &lt;pixels&gt;</title>" in pages["01_a"]
    assert pages["01_a"].count(PIXEL) == 1
    assert 'alt="Figure: Balance"' in pages["01_a"]
    assert '<li><a href="#Balance">Balance</a></li>' in pages["01_a"]
    assert '<a href="01_a.html">← 01_a</a>' in pages["02_b"] and '<a href="main.html">main →</a>' in pages["02_b"]
    assert ".highlight" in pages["01_a"], "code has its colours"

    # The first page says what was found: the record's own words, else what the notebook asks. No raw keys.
    assert "The classes are <strong>balanced</strong>" in pages["index"]
    assert "What the <em>data</em> hold" not in pages["index"] and "What comes next?" in pages["index"]
    assert '<a href="01_a.html">1. Classes &amp; &lt;pixels&gt;</a>' in pages["index"]
    assert "executed in 1 min 01 s, 60 min 00 s from nothing" in pages["index"]
    assert "some_raw_key" not in pages["index"] and "some raw key" not in pages["index"]
    assert "Measured on A &amp; B, 2 cores" in pages["index"]
    assert pages["index"].count(PIXEL) == 1
    order = [pages["index"].index(f'<a href="{name}.html">') for name in ("main", "01_a", "02_b")]
    assert order == sorted(order), "the tour's finding comes first"


def test_the_report_of_full_shows_committed_outputs_unless_the_build_folder_has_newer(checkout):
    write_executed(checkout, "full", kind="official")
    assert "UNVERIFIED" not in report.report("full").read_text(encoding="utf-8")
    page = report.report().read_text(encoding="utf-8")
    assert '<p class="provenance">official data' in page, "nothing at quick: the committed ones"
    write_executed(checkout, "full", kind="unverified")
    assert "UNVERIFIED" in report.report("full").read_text(encoding="utf-8")


def test_a_record_of_another_run_is_refused(checkout):
    write_executed(checkout, "quick")
    record = checkout / "build" / "quick" / "results" / "01_a.json"
    files.write_json(record, {"name": "01_a", "run": "ba9876543210"})
    message = r"01_a.ipynb and .*01_a.json were made by different runs .*`fashion-mnist run 01_a --profile quick`"
    with pytest.raises(ValueError, match=message):
        report.report()
    files.write_json(record, {"name": "01_a"})
    with pytest.raises(ValueError, match=message):
        report.report()


def test_a_committed_pair_from_before_there_were_ids_is_shown(checkout):
    write_executed(checkout, "full", kind="official", run=None, summary="Found before.")
    assert "Found before." in report.report("full").read_text(encoding="utf-8")


def test_outputs_of_other_code_are_called_so(checkout):
    write_executed(checkout, "quick")
    copy = checkout / "build" / "quick" / "notebooks" / "01_a.ipynb"
    copy.write_text(copy.read_text(encoding="utf-8").replace("a = 1", "a = 2"), encoding="utf-8")
    page = report.report().with_name("01_a.html").read_text(encoding="utf-8")
    assert '<p class="provenance loud">EDITED SINCE: the outputs are of other code · UNVERIFIED DATA' in page


def test_what_is_folded_in_a_notebook_is_folded_in_the_report(checkout):
    folded = "<details><summary>A solution</summary>\\n\\n```python\\nfolded_code\\n```\\n\\n</details>"
    write_executed(checkout, "quick")
    copy = checkout / "build" / "quick" / "notebooks" / "main.ipynb"
    copy.write_text(copy.read_text(encoding="utf-8").replace("All of it.", folded), encoding="utf-8")
    page = report.report().with_name("main.html").read_text(encoding="utf-8")
    assert re.search(r"<details><summary>A solution</summary>.*folded_code.*</details>", page, re.S)


def test_a_report_of_nothing_says_what_to_do(checkout):
    write_executed(checkout, "quick")
    with pytest.raises(ValueError, match="fashion-mnist run --profile smoke"):
        report.report("smoke")

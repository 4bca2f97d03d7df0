"""readme.py: the pages show what the records say. README and the committed records agree, and are what they must be."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_notebook

from fashion_mnist import data, files
from fashion_mnist.headless import readme

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "results").glob("*.json"))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(tmp_path))
    return tmp_path


def write_record(root, name, fragment, **more):
    record = {"name": name, "profile": "full", "data": {"kind": "official"}, "readme": fragment, "run": None, **more}
    files.write_json(root / "results" / f"{name}.json", record)


def test_blocks_show_the_fragments_of_the_records(checkout):
    write_record(checkout, "01_a", "| What | Value |\n|---|---:|\n| Images | 70,000 |\n")
    write_record(checkout, "bench_b", {"speed": "Fast.", "costs": "A minute.", "not_shown": "."})
    page = checkout / "README.md"
    page.write_text(
        "a\n<!-- results:01_a -->\n<!-- /results -->\nb\n<!-- results:bench_b.speed -->\nold\n<!-- /results -->\n"
    )
    (checkout / "docs").mkdir()
    more = checkout / "docs" / "RESULTS.md"
    more.write_text("<!-- results:bench_b.costs -->\nA minute.\n<!-- /results -->\n")
    before = page.read_bytes()
    assert readme.rewrite(check=True) == ["README.md: 01_a", "README.md: bench_b.speed"]
    assert page.read_bytes() == before
    assert readme.rewrite() == ["README.md: 01_a", "README.md: bench_b.speed"]
    assert page.read_text(encoding="utf-8") == (
        "a\n<!-- results:01_a -->\n| What | Value |\n|---|---:|\n| Images | 70,000 |\n<!-- /results -->\n"
        "b\n<!-- results:bench_b.speed -->\nFast.\n<!-- /results -->\n"
    )
    assert readme.rewrite() == []
    write_record(checkout, "bench_b", {"speed": "Fast.", "costs": r"Two minutes, \1 and \g<0>."})
    assert readme.rewrite() == ["docs/RESULTS.md: bench_b.costs"]
    assert r"Two minutes, \1 and \g<0>." in more.read_text()


def test_a_sentence_of_a_record_is_shown_by_its_key_summary(checkout):
    write_record(checkout, "01_a", "A table.", summary="**Shirt** is the hardest class.")
    page = checkout / "README.md"
    page.write_text("<!-- results:01_a.summary -->\n<!-- /results -->\n")
    assert readme.rewrite() == ["README.md: 01_a.summary"]
    assert "\n**Shirt** is the hardest class.\n" in page.read_text()


def test_the_address_of_the_repository_stands_once_in_pyproject(checkout):
    page, text = (
        checkout / "README.md",
        "<!-- badges -->\n<!-- /badges -->\n    git clone --depth 1 REPOSITORY_URL here\n",
    )
    page.write_text(text)
    project = checkout / "pyproject.toml"
    project.write_text('[project.urls]\n# Repository = "https://example.org/me/study"\n')
    assert readme.rewrite() == [] and page.read_text() == text
    for address in ("https://example.org/me/study.git", "https://example.org/you/study"):
        project.write_text(f'[project.urls]\nRepository = "{address}"\n')
        assert readme.rewrite(check=True) == readme.rewrite() == ["README.md: address of the repository"]
        assert f"git clone --depth 1 {address.removesuffix('.git')} here\n" in page.read_text()
        assert f"]({address.removesuffix('.git')}/actions/workflows/study.yml)\n" in page.read_text()
        assert readme.rewrite() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results:nothing -->\n<!-- /results -->", r"README.md .*results/nothing.json, which does not exist"),
        ("<!-- results:one -->\n", "opens 1 blocks .* closes 0"),
        ("<!-- results:one -->\n<!-- results:one -->\n<!-- /results -->", "opens 2 blocks .* closes 1"),
        ("<!-- /results -->\n<!-- results:one -->", "0 of them belong together"),
        ("<!-- results:one.key -->\n<!-- /results -->", "results/one.json, its 'key'; it has a single fragment"),
        ("<!-- results:some -->\n<!-- /results -->", "its only one; it has this, that"),
        ("<!-- results:some.other -->\n<!-- /results -->", "its 'other'; it has this, that"),
        ("<!-- results:none -->\n<!-- /results -->", "it has none"),
        ("<!-- results:one.summary -->\n<!-- /results -->", "its 'summary'; it has none"),
        ("<!-- results:quick -->\n<!-- /results -->", "results/quick.json, which is not of the full study"),
        ("<!-- results:sample -->\n<!-- /results -->", "results/sample.json, which is not of the full study"),
        ("<!-- results:02_pair -->\n<!-- /results -->", "02_pair.ipynb and .*02_pair.json were made by different runs"),
    ],
)
def test_what_cannot_be_shown_is_refused(checkout, text, message):
    write_record(checkout, "one", "A fragment.")
    write_record(checkout, "some", {"this": "1", "that": "2"})
    write_record(checkout, "none", "")
    write_record(checkout, "quick", "A fragment.", profile="quick")
    write_record(checkout, "sample", "A fragment.", data={"kind": "sample"})
    write_record(checkout, "02_pair", "A fragment.", run="000000000001")
    (checkout / "notebooks").mkdir()
    made_by = {"fashion_mnist": {"profile": "full", "run": "000000000002"}}
    nbformat.write(new_notebook(metadata=made_by), checkout / "notebooks" / "02_pair.ipynb")
    (checkout / "README.md").write_text(text)
    with pytest.raises(ValueError, match=message):
        readme.rewrite()
    assert (checkout / "README.md").read_text() == text


# --- what is committed -----------------------------------------------------------------------------------------------


def test_the_committed_pages_agree_with_the_records(monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(ROOT))
    differing = readme.rewrite(check=True)
    assert not differing, f"run `fashion-mnist report --readme`: {', '.join(differing)} differ"


def test_the_committed_pages_show_every_fragment():
    pages = [ROOT / page for page in readme.PAGES if (ROOT / page).is_file()]
    shown = {found for page in pages for found in re.findall(r"<!-- results:(\S+) -->", page.read_text("utf-8"))}
    assert shown, "README shows no number of a record"
    shown = {name for name in shown if not name.endswith(".summary")}
    fragments = set()
    for path in RECORDS:
        fragment = json.loads(path.read_text(encoding="utf-8")).get("readme")
        keys = [f".{key}" for key in fragment] if isinstance(fragment, dict) else [""] if fragment else []
        fragments |= {f"{path.stem}{key}" for key in keys}
    assert shown == fragments


@pytest.mark.parametrize("path", RECORDS, ids=[path.stem for path in RECORDS])
def test_a_committed_record_comes_from_full_on_the_official_data(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["name"] == path.stem
    assert record["data"]["fingerprint"] == data.OFFICIAL_FINGERPRINT
    assert record["profile"] == "full"
    assert all(isinstance(value, (int, float)) for value in record["headline"].values())

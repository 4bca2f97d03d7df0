"""README and the committed records agree, and the records are what they must be."""

import json
import re
from pathlib import Path

import pytest

from fashion_mnist import data, study

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "results").glob("*.json"))


def test_readme_tables_agree_with_the_records(monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ROOT", str(ROOT))
    differing = study.readme(check=True)
    assert not differing, f"run `fashion-mnist report --readme`: {', '.join(differing)} differ"


def test_readme_shows_every_table():
    shown = re.findall(r"<!-- results:(\S+) -->", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(study.TABLES)


@pytest.mark.parametrize("path", RECORDS, ids=[path.stem for path in RECORDS])
def test_a_committed_record_comes_from_full_on_the_official_data(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["name"] == path.stem
    assert record["data"]["fingerprint"] == data.OFFICIAL_FINGERPRINT
    # A benchmark may measure another profile; a notebook's numbers are those of the full study.
    assert record["profile"] == "full" or path.stem.startswith("bench_")
    assert all(isinstance(value, (int, float)) for value in record["headline"].values())

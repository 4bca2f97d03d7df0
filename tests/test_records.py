"""records.py: what is read is what was written, and what cannot be used is refused by the name of its file."""

import hashlib
import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fashion_mnist import files, records

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(10)), elements=st.floats(-60, 60, width=32))


def softmax(logits):
    rises = np.exp(logits - logits.max(axis=1, keepdims=True))
    return rises / rises.sum(axis=1, keepdims=True)


# --- predictions and arrays ------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(LOGITS, LOGITS)
def test_predictions_keep_classes_exactly_and_probabilities_nearly(tmp_path_factory, validation, test):
    path = tmp_path_factory.getbasetemp() / "predictions" / "a.npz"
    written = {"validation": softmax(validation), "test": softmax(test)}
    read = records.read_predictions(records.write_predictions(path, written))
    assert list(read) == ["validation", "test"]
    for split, probabilities in written.items():
        np.testing.assert_array_equal(read[split].argmax(axis=1), probabilities.argmax(axis=1))
        np.testing.assert_allclose(read[split], probabilities, atol=2e-3)
        np.testing.assert_allclose(read[split].sum(axis=1), 1)


def test_classes_that_float16_cannot_tell_apart_stay_apart(tmp_path):
    probabilities = np.full((2, 10), 0.1)
    probabilities[0, 7] += 1e-7
    probabilities[1, 3] += 1e-7
    records.write_predictions(tmp_path / "a.npz", {"test": probabilities})
    assert list(records.read_predictions(tmp_path / "a.npz")["test"].argmax(axis=1)) == [7, 3]


def test_the_same_arrays_are_the_same_bytes(tmp_path):
    content = {"a": np.arange(5), "words": np.array(["one", "two"])}
    one, other = (records.write_arrays(tmp_path / name, content) for name in ("1.npz", "2.npz"))
    assert one.read_bytes() == other.read_bytes()
    read = records.read_arrays(one)
    assert read["words"].tolist() == ["one", "two"] and read["a"].tolist() == [0, 1, 2, 3, 4]


def logs(**changes):
    """What a file of predictions holds, with some of it changed."""
    whole = {"test": np.full((3, 10), -2.3, np.float16), "test_classes": np.zeros(3, np.uint8)}
    return {**whole, **changes}


@pytest.mark.parametrize(
    "content",
    [
        {"images": np.zeros(3)},
        {"test_classes": np.zeros(3, np.uint8)},
        logs(test=np.zeros(3, np.float16)),
        logs(test=np.full((3, 10), np.nan, np.float16)),
        logs(test=np.full((3, 10), "text")),
        logs(test_classes=np.zeros(2, np.uint8)),
        logs(test_classes=np.full(3, 200, np.uint8)),
        logs(test_classes=np.zeros(3)),
    ],
)
def test_what_is_no_predictions_is_refused(tmp_path, content):
    path = records.write_arrays(tmp_path / "a.npz", content)
    with pytest.raises(records.RecordError, match=r"a\.npz holds no predictions.*delete it"):
        records.read_predictions(path)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-40], lambda whole: whole[:100], lambda _: b"not at all"])
def test_damaged_predictions_are_refused(tmp_path, damage):
    path = records.write_predictions(tmp_path / "a.npz", {"test": softmax(np.eye(10))})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(records.RecordError, match=r"a\.npz is damaged .*delete it, or restore it"):
        records.read_predictions(path)


# --- records ---------------------------------------------------------------------------------------------------------


def test_records_are_read_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"05_missing\.json does not exist; `fashion-mnist run 05_missing`"):
        records.read("05_missing", tmp_path)
    assert records.read_all(tmp_path) == {}
    for name in ("02_b", "01_a"):
        files.write_json(tmp_path / "results" / f"{name}.json", {"name": name})
    assert records.read("01_a", tmp_path) == {"name": "01_a"}
    assert list(records.read_all(tmp_path)) == ["01_a", "02_b"]


@pytest.mark.parametrize("content", ['{"name": ', "", "[1, 2]", "3", "[" * 100_000, "\ud800"])
def test_a_damaged_record_is_refused(tmp_path, content):
    path = tmp_path / "results" / "01_a.json"
    path.parent.mkdir()
    path.write_bytes(content.encode(errors="surrogatepass"))
    for read in (lambda: records.read("01_a", tmp_path), lambda: records.read_all(tmp_path)):
        with pytest.raises(records.RecordError, match=r"01_a\.json .*restore it, with git for instance, or delete it"):
            read()


def test_what_was_read_is_known_with_its_hash(tmp_path):
    inside, outside = tmp_path / "checkout", tmp_path / "elsewhere.json"
    files.write_json(inside / "results" / "a.json", {"n": 1})
    files.write_json(outside, {"n": 1})
    records.write_arrays(inside / "results" / "arrays" / "b.npz", {"n": np.arange(3)})
    assert records.files_read(inside) == {}
    records.read("a", inside)
    records.read_json(outside)
    records.read_arrays(inside / "results" / "arrays" / "b.npz")
    read = records.files_read(inside)
    assert list(read) == ["results/a.json", "results/arrays/b.npz"]
    content = (inside / "results" / "a.json").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(read["results/a.json"])


# --- comparing, provenance, values -----------------------------------------------------------------------------------


def test_differences_name_both_values():
    identity = {
        **{"architecture": "cnn", "arguments": {"f1": 8, "widths": (1, 2)}, "recipe": {"epochs": 3, "rate": 0.1}},
        **{"seed": 0, "data": {"fingerprint": "abc", "images": 100}, "version": 2},
    }
    card = json.loads(json.dumps(identity)) | {"name": "a", "seconds": 3.0}
    assert records.differences(card, identity) == []
    card |= {"architecture": "mlp", "version": 1, "recipe": {"epochs": 4, "rate": 0.1, "momentum": 0.9}}
    assert records.differences(card, identity) == [
        *("architecture: 'mlp', not 'cnn'", "recipe epochs: 4, not 3", "recipe momentum: 0.9, not None"),
        "version: 1, not 2",
    ]
    assert len(records.differences({}, identity)) == len(records.IDENTITY)


def test_provenance_is_of_this_machine():
    machine = records.machine()
    assert set(machine) == {"cpu", "cores", "memory", "flags"}
    assert machine["cpu"] and machine["cores"] >= 1 and re.fullmatch(r"\d+\.\d GiB", machine["memory"])
    assert {"python", "tensorflow", "keras", "numpy"} <= set(records.versions())


def test_git_commit_is_the_one_checked_out(tmp_path):
    assert records.git_commit(tmp_path) is None
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text("{}")
    commit = records.git_commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("")
    assert records.git_commit(tmp_path) == f"{commit}-dirty"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.9", [1], True, None, np.float32("nan")])
def test_a_headline_holds_finite_numbers_only(value):
    with pytest.raises(ValueError, match=r"'accuracy'.*not a finite number"):
        records.headline_number("accuracy", value)


def test_values_become_what_json_knows():
    frame = pd.DataFrame({"n": np.array([1, 2]), "share": [0.5, np.nan]}, index=pd.Index(["Bag", "Coat"], name="class"))
    values = {
        **{"frame": frame, "series": frame["n"], "plain": pd.DataFrame({"a": ["x"]}), "array": np.arange(3)},
        **{"scalar": np.float32(0.5), 7: (1, float("inf")), "nothing": None, "flag": np.True_},
    }
    assert records.plain(values) == {
        "frame": [{"class": "Bag", "n": 1, "share": 0.5}, {"class": "Coat", "n": 2, "share": None}],
        "series": [{"class": "Bag", "n": 1}, {"class": "Coat", "n": 2}],
        **{"plain": [{"a": "x"}], "array": [0, 1, 2], "scalar": 0.5, "7": [1, None], "nothing": None, "flag": True},
    }
    json.dumps(records.plain(values), allow_nan=False)

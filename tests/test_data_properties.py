"""Whatever bytes a file holds: the arrays are right, or a `DataError` says in a sentence what is wrong, and soon."""

import contextlib
import gzip
import json
import random
import time

import numpy as np
import pytest
from hostile import damage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fashion_mnist import data

SPLITS = {
    split: (np.random.RandomState(n).randint(0, 256, (n, 28, 28, 1)).astype(np.uint8), np.arange(n) % 10)
    for split, n in {"train": 12, "test": 3}.items()
}
IDX = damage.idx_files(SPLITS)
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WHOLE = damage.pairs(*SPLITS["train"])


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_read_as_they_are(tmp_path, seed):
    seen = set()
    for number, (kind, write, meaning) in enumerate(damage.cases(SPLITS, 200, random.Random(seed))):
        place = write(tmp_path / f"{number}")
        began = time.process_time()
        said = damage.verdict(place, meaning)
        assert time.process_time() - began < 2
        # What can be read of IDX, with six images to hold one out, has to be read; a table or zip may be refused.
        readable = kind in ("IDX", "gzip") and meaning is not None and len(meaning) >= 6
        assert said in (("right",) if readable else ("right", "refused")), f"{number}, {kind}"
        seen.add((kind, said))
    assert seen == {(kind, said) for kind in ("IDX", "gzip", "CSV", "zip") for said in ("right", "refused")}


def test_a_gzip_of_several_members_is_read_whole(tmp_path):
    images = gzip.compress(IDX[IMAGES][:100]) + gzip.compress(IDX[IMAGES][100:])
    rest = {f"{name}.gz": gzip.compress(content, 1) for name, content in IDX.items() if name != IMAGES}
    place = damage.lay_out(tmp_path / "data", rest | {f"{IMAGES}.gz": images})
    assert damage.verdict(place, damage.meaning_of_gzip(images, rest[f"{LABELS}.gz"])) == "right"


TABLE = damage.as_csv(*SPLITS["train"])


@pytest.mark.parametrize(
    "table",
    [TABLE.replace(b"7", b"7e400", 20), TABLE.replace(b"7", b"2e-49", 20), TABLE + b"9" * 400],
    ids=["7e400", "2e-49", "long"],
)
def test_numbers_that_python_reads_otherwise_are_refused(tmp_path, table):
    place = tmp_path / "data"
    damage.lay_out(place, {"fashion-mnist_train.csv": table, "fashion-mnist_test.csv": damage.as_csv(*SPLITS["test"])})
    assert damage.verdict(place, damage.meaning_of_csv(table)) == "refused"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "files", IMAGES]), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("manifests")


@settings(deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=100), json_values.map(lambda value: json.dumps(value).encode())))
@example(b"[" * 200_000)
@example(b'{"files": {"train-images-idx3-ubyte": "\\ud800"}}')
def test_any_bytes_are_a_manifest_or_refused(folder, manifest):
    place = damage.lay_out(folder / "data", IDX | {"manifest.json": manifest})
    data._cache.clear()  # a file may be written twice within the clock's grain
    assert damage.verdict(place, WHOLE) in ("right", "refused")
    with contextlib.suppress(data.DataError):
        assert [row[3] for row in data.verify(place)] == [False] * 4

"""Data files in every format, made from arrays, and the refusal of those that would cost much."""

import gzip
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hostile import damage

from fashion_mnist import formats

idx_bytes = damage.idx


def write_idx(folder, splits, zipped=True):
    contents = damage.idx_files(splits)
    if zipped:
        contents = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in contents.items()}
    return damage.lay_out(folder, contents)


def csv_text(x, y):
    return damage.as_csv(x, y).decode()


def write_csv(folder, splits, kind="Kaggle CSV"):
    tables = {name: damage.as_csv(*splits[split]) for split, name in formats.CSV_NAMES[kind].items()}
    return damage.lay_out(folder, tables)


def zip_of(folder, target, inside="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in folder.iterdir():
            archive.write(file, inside + file.name)
    return target


def assert_same(one, other):
    for (name, (x, y)), (other_x, other_y) in zip(one.splits().items(), other.splits().values(), strict=True):
        np.testing.assert_array_equal(x, other_x, err_msg=name)
        np.testing.assert_array_equal(y, other_y, err_msg=name)
    assert one.fingerprint == other.fingerprint


def refused_cheaply(read, path, message, most=200_000_000):
    """Refused within a second and so many bytes; the sentence."""
    tracemalloc.start()
    took = []
    try:
        for _ in range(2):  # the first may wait for pages of memory, which is the system's affair
            began = time.process_time()  # not of the clock: the machine may be busy with something else
            with pytest.raises((formats.DataError, ValueError), match=message) as error:
                read(path)
            took.append(time.process_time() - began)
        assert min(took) < 1
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    return str(error.value)

"""Data files in every format, made from arrays, and the refusal of those that would cost much."""

import gzip
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from fashion_mnist import formats


def idx_bytes(values):
    header = (0x0800 + values.ndim, *values.shape)
    return b"".join(n.to_bytes(4, "big") for n in header) + values.astype(np.uint8).tobytes()


def write_idx(folder, splits, zipped=True):
    folder.mkdir(exist_ok=True)
    for split, names in formats.IDX_NAMES.items():
        for name, values in zip(names, (splits[split][0][..., 0], splits[split][1]), strict=True):
            content = idx_bytes(values)
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1, mtime=0))
            else:
                (folder / name).write_bytes(content)
    return folder


def csv_text(x, y):
    rows = np.column_stack([y, x.reshape(len(x), 784)])
    return "\n".join([",".join(formats.CSV_COLUMNS), *(",".join(map(str, row)) for row in rows)]) + "\n"


def write_csv(folder, splits, kind="Kaggle CSV"):
    folder.mkdir(exist_ok=True)
    for split, name in formats.CSV_NAMES[kind].items():
        (folder / name).write_text(csv_text(*splits[split]))
    return folder


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

"""Every format gives the same arrays; whatever is wrong with a file is said in a sentence, and costs little."""

import gzip
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import damage
from made_files import assert_same, csv_text, idx_bytes, refused_cheaply, write_csv, write_idx, zip_of

from fashion_mnist import data, formats


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    monkeypatch.delenv("FASHION_MNIST_DATA", raising=False)


# --- formats -------------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_arrays(small, tmp_path):
    reference = data.load(write_idx(tmp_path / "gz", small))
    given_split = {name: (x, y) for name, (x, y) in reference.splits().items()}
    write_idx(tmp_path / "raw", small, zipped=False)
    write_csv(tmp_path / "kaggle", small, "Kaggle CSV")
    write_csv(tmp_path / "presplit", given_split, "pre-split CSV")
    sources = {"gz": "IDX files", "raw": "IDX files", "kaggle": "Kaggle CSV", "presplit": "pre-split CSV"}
    for name, source in sources.items():
        loaded = data.load(tmp_path / name)
        assert_same(loaded, reference)
        assert (loaded.source, loaded.kind) == (source, "unverified")
        zipped = data.load(zip_of(tmp_path / name, tmp_path / f"{name}.zip", inside="archive/"))
        assert_same(zipped, reference)
        assert zipped.source == f"{source} in {name}.zip"


def test_some_files_may_be_gunzipped(small, tmp_path):
    reference = data.load(write_idx(tmp_path / "gz", small))
    packed = tmp_path / "gz" / "t10k-labels-idx1-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert_same(data.load(tmp_path / "gz"), reference)


def test_arrays_have_the_promised_form(small, tmp_path):
    loaded = data.load(write_idx(tmp_path / "gz", small))
    for n, (x, y) in zip((50, 10, 20), loaded.splits().values(), strict=True):
        assert (x.shape, x.dtype) == ((n, 28, 28, 1), np.uint8)
        assert (y.shape, y.dtype) == ((n,), np.int64)
        assert not x.flags.writeable
        assert not y.flags.writeable
    np.testing.assert_array_equal(np.bincount(loaded.y_val), np.ones(10))
    together = np.concatenate([loaded.x_train, loaded.x_val])
    assert {x.tobytes() for x in together} == {x.tobytes() for x in small["train"][0]}
    np.testing.assert_array_equal(loaded.x_test, small["test"][0])


def test_a_given_validation_split_is_kept(small, tmp_path):
    x, y = small["train"]
    given = {"train": (x[:35], y[:35]), "validation": (x[35:], y[35:]), "test": small["test"]}
    loaded = data.load(write_csv(tmp_path / "presplit", given, "pre-split CSV"))
    for name, (loaded_x, loaded_y) in loaded.splits().items():
        np.testing.assert_array_equal(loaded_x, given[name][0])
        np.testing.assert_array_equal(loaded_y, given[name][1])


def test_csv_takes_quotes_byte_order_mark_windows_line_ends_and_decimal_points(small, tmp_path):
    folder = write_csv(tmp_path / "csv", small)
    reference = data.load(folder).fingerprint
    for file in folder.iterdir():
        header, rows = file.read_text().split("\n", 1)
        quoted = ",".join(f'"{column}"' for column in header.split(","))
        file.write_bytes(("\ufeff" + quoted + "\n" + rows).replace("\n", "\r\n").encode())
    assert data.load(folder).fingerprint == reference
    for file in folder.iterdir():
        header, rows = csv_text(*small["train" if "train" in file.name else "test"]).split("\n", 1)
        file.write_text(header + "\n" + rows.replace(",", '.0,"').replace(".0,", '",').replace('"', "", 1))
    for file in folder.iterdir():
        header, rows = csv_text(*small["train" if "train" in file.name else "test"]).split("\n", 1)
        file.write_text(header + "\n" + rows.replace(",", ".0,").replace("\n", ".0\n"))
    assert data.load(folder).fingerprint == reference


def test_of_two_data_sets_in_one_place_the_source_says_which_was_read(small, tmp_path):
    folder = write_idx(tmp_path / "both", small)
    reference = data.load(folder)
    other = {name: (255 - x, y) for name, (x, y) in small.items()}
    write_csv(folder, other)
    both = data.load(folder)
    assert_same(both, reference)
    assert both.source == "IDX files (not the Kaggle CSV beside them)"
    assert both.describe().startswith("IDX files (not the Kaggle CSV beside them): 50 train")
    zipped = data.load(zip_of(folder, tmp_path / "both.zip"))
    assert zipped.source == "IDX files in both.zip (not the Kaggle CSV beside them)"
    write_csv(folder, other | {"validation": other["test"]}, "pre-split CSV")
    assert data.load(folder).source == "IDX files (not the pre-split CSV and Kaggle CSV beside them)"


# --- places --------------------------------------------------------------------------------------------------------


def test_a_missing_directory(tmp_path):
    with pytest.raises(data.DataError, match=r"nowhere does not exist.*fashion-mnist data fetch"):
        data.load(tmp_path / "nowhere")


def test_an_empty_directory(tmp_path):
    with pytest.raises(data.DataError, match=r"holds no data: it needs .*train-images-idx3-ubyte.gz"):
        data.load(tmp_path)


@pytest.mark.parametrize("path", ["~nosuchuser/x", "a\0b", "loop", "loop/inside", "x" * 5_000])
def test_a_path_that_cannot_be_followed(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for use in (data.load, data.info, data.verify, data.fetch, lambda path: data.pack(path, "packed.zip")):
        with pytest.raises(data.DataError, match=r"leads nowhere|does not exist|cannot be (read|written)"):
            use(path)
    if path != "loop/inside":
        monkeypatch.setenv("FASHION_MNIST_ROOT", "~nosuchuser/x")
        with pytest.raises(data.DataError, match=r"'~nosuchuser/x' leads nowhere"):
            data.load()


def test_a_file_that_is_a_loop_of_links(small, tmp_path):
    file = write_idx(tmp_path / "gz", small) / "t10k-labels-idx1-ubyte.gz"
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(data.DataError, match="lacks t10k-labels-idx1-ubyte beside what is there: add it"):
        data.load(file.parent)


def test_an_unreadable_file(small, tmp_path):
    file = write_idx(tmp_path / "raw", small, zipped=False) / "t10k-labels-idx1-ubyte"
    if os.name == "posix" and os.geteuid() != 0:
        file.chmod(0)
    elif Path("/proc/self/mem").exists():  # root may read everything but this
        file.unlink()
        file.symlink_to("/proc/self/mem")
    else:
        pytest.skip("no file here is unreadable")
    with pytest.raises(data.DataError, match=r"raw: t10k-labels-idx1-ubyte cannot be read \(.+\): copy"):
        data.load(file.parent)
    with pytest.raises(data.DataError, match=r"raw: t10k-labels-idx1-ubyte cannot be read"):
        data.verify(file.parent)


def test_a_missing_file_is_named(small, tmp_path):
    folder = write_idx(tmp_path / "gz", small)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.DataError, match="lacks t10k-labels-idx1-ubyte beside what is there: add it"):
        data.load(folder)


# --- IDX -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [-100, 5])
def test_a_truncated_gzip(small, tmp_path, keep):
    file = write_idx(tmp_path / "gz", small) / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte.gz is not a complete gzip file.*delete it"):
        data.load(file.parent)


def test_a_gzip_with_a_wrong_checksum(small, tmp_path):
    file = write_idx(tmp_path / "gz", small) / "train-labels-idx1-ubyte.gz"
    content = file.read_bytes()
    file.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    with pytest.raises(data.DataError, match=r"train-labels-idx1-ubyte.gz is not a complete gzip file \(CRC"):
        data.load(file.parent)


def test_a_file_that_is_no_gzip(small, tmp_path):
    file = write_idx(tmp_path / "gz", small) / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte.gz is not a complete gzip file"):
        data.load(file.parent)


BAD_IDX = {
    "labels for images": (idx_bytes(np.arange(10)), r"no IDX file of its kind \(magic number 2049, not 2051\): delete"),
    "empty": (b"", "no IDX file of its kind"),
    "header cut short": (b"\0\0\x08\x03\0", "announces 0 items|holds images of 0 × 0"),
    "cut short": (
        idx_bytes(np.zeros((60, 28, 28)))[:-1],
        "announces 60 items of 47,040 bytes in all but holds 47,039: delete it; `fashion-mnist data fetch`",
    ),
    "too long": (idx_bytes(np.zeros((60, 28, 28))) + b"\0", "announces 60 items of 47,040 bytes in all but holds more"),
    "no images": (idx_bytes(np.zeros((0, 28, 28))), "announces 0 items"),
    "other size": (idx_bytes(np.zeros((60, 32, 32))), "32 × 32 pixels; they have to be 28 × 28"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_a_bad_idx_file(small, tmp_path, case):
    content, message = BAD_IDX[case]
    file = write_idx(tmp_path / "raw", small, zipped=False) / "train-images-idx3-ubyte"
    file.write_bytes(content)
    with pytest.raises(data.DataError, match=f"train-images-idx3-ubyte.*({message})"):
        data.load(file.parent)


def test_image_and_label_counts_that_differ(small, tmp_path):
    file = write_idx(tmp_path / "raw", small, zipped=False) / "train-labels-idx1-ubyte"
    file.write_bytes(idx_bytes(np.zeros(59)))
    with pytest.raises(data.DataError, match=r"60 images but train-labels-idx1-ubyte 59 labels: take both from"):
        data.load(file.parent)


def test_an_idx_label_outside_0_to_9(small, tmp_path):
    labels = small["train"][1].copy()
    labels[4] = 10
    folder = write_idx(tmp_path / "raw", {**small, "train": (small["train"][0], labels)}, zipped=False)
    with pytest.raises(data.DataError, match=r"train-labels-idx1-ubyte: label 10 of item 5 is not in 0..9; correct"):
        data.load(folder)


# --- CSV -----------------------------------------------------------------------------------------------------------


def edit(text, old, new, line):
    lines = text.split("\n")
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    return "\n".join(lines)


BAD_CSV = {
    "missing column": (lambda text: text.replace(",pixel17,", ",", 1), "column 18 is 'pixel18'; the header has to be"),
    "last column missing": (lambda text: text.replace(",pixel784\n", "\n", 1), "column 785 is missing; the header"),
    "surplus column": (
        lambda text: "\n".join("id," + line for line in text.split("\n")),
        "column 1 is 'id'; the header has to be label,pixel1,…,pixel784",
    ),
    "other order": (lambda text: text.replace("label,pixel1,", "pixel1,label,", 1), "column 1 is 'pixel1'; the header"),
    "no header": (lambda text: text.split("\n", 1)[1], "column 1 is '0'; the header has to be"),
    "another kind of file": (lambda _: "PK\x03\x04\0\n", "column 1 is '.*'; the header has to be"),
    "no rows": (lambda text: text.split("\n", 1)[0] + "\n", "no valid CSV, or has no rows; correct it or get the file"),
    "every row short": (
        lambda text: "\n".join(line if i == 0 else line.rpartition(",")[0] for i, line in enumerate(text.split("\n"))),
        "line 2 has 784 cells instead of 785; correct it",
    ),
    "one row long": (lambda text: edit(text, "3,", "3,0,", 4), "line 5 has 786 cells instead of 785; correct it"),
    "one row short": (lambda text: text.rstrip("\n").rpartition(",")[0], "line 61 has 784 cells instead of 785"),
    "empty cell": (lambda text: edit(text, "2,", ",", 3), "line 4, column label holds ''"),
    "non-numeric cell": (lambda text: edit(text, "2,", "2,boot", 3), "line 4, column pixel1 holds 'boot.*correct it"),
    "pixel above 255": (lambda text: edit(text, "2,", "2,70", 3), r"line 4, column pixel1 holds '70.*0..255; correct"),
    "negative pixel": (lambda text: edit(text, "2,", "2,-1", 3), r"line 4, column pixel1 holds '-1.*0..255; correct"),
    "fraction": (lambda text: edit(text, "2,", "2,0.5", 3), r"line 4, column pixel1 holds '0.5"),
    "label above 9": (lambda text: edit(text, "2,", "12,", 3), r"line 4, column label holds '12'.*0..9; correct"),
    "400 digits": (lambda text: edit(text, "2,", "2," + "9" * 400, 3), r"line 4, column pixel1 holds '9{20}', which"),
    "infinite": (lambda text: edit(text, "2,", "1e400,", 3), r"line 4, column label holds '1e400', which is no whole"),
    "not a number": (lambda text: edit(text, "2,", "nan,", 3), r"line 4, column label holds 'nan', which is no whole"),
    "NUL": (lambda text: edit(text, "2,", "\0,", 3), r"line 4, column label holds '\\x00', which is no whole"),
    "open quote": (lambda text: edit(text, "2,", '2,"', 3), "it is no valid CSV, or has no rows"),
    "endless line": (lambda text: text + "0," * 50_000, "has a line of more than 25,120 bytes"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv(small, tmp_path, case):
    spoil, message = BAD_CSV[case]
    file = write_csv(tmp_path / "csv", small) / "fashion-mnist_train.csv"
    file.write_text(spoil(file.read_text()))
    with pytest.raises(data.DataError, match=f"fashion-mnist_train.csv:? .*{message}"):
        data.load(file.parent)


# --- zip and manifest ----------------------------------------------------------------------------------------------


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"not a zip")
    with pytest.raises(data.DataError, match=r"data.zip cannot be read \(.+\): it has to be a folder or a zip"):
        data.load(tmp_path / "data.zip")


def test_a_zip_without_data(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat.jpg", b"")
    with pytest.raises(data.DataError, match=r"photos.zip holds no data: it needs"):
        data.load(tmp_path / "photos.zip")


def test_a_zip_of_two_data_sets(small, tmp_path):
    target = zip_of(write_idx(tmp_path / "gz", small), tmp_path / "data.zip", inside="one/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("two/t10k-labels-idx1-ubyte.gz", b"")
    with pytest.raises(data.DataError, match=r"holds t10k-labels-idx1-ubyte.gz twice: keep one data set to a zip"):
        data.load(target)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil"])
def test_a_zip_with_members_that_point_outside(small, tmp_path, name):
    target = zip_of(write_idx(tmp_path / "gz", small), tmp_path / "data.zip")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"")
    with pytest.raises(data.DataError, match=r"data.zip: member .*evil' points outside the archive; pack the files"):
        data.load(target)
    assert not (tmp_path / "evil").exists()


def test_a_damaged_zip_member(small, tmp_path):
    target = zip_of(write_idx(tmp_path / "gz", small), tmp_path / "data.zip")
    content = target.read_bytes()
    middle = content.index(b"train-images") + 1000
    target.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    with pytest.raises(data.DataError, match=r"data.zip: train-images-idx3-ubyte.gz cannot be read \(Bad CRC-32"):
        data.load(target)


def test_an_encrypted_zip(small, tmp_path):
    target = zip_of(write_idx(tmp_path / "gz", small), tmp_path / "data.zip")
    content = bytearray(target.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(signature, at + 1)
    target.write_bytes(content)
    with pytest.raises(data.DataError, match=r"cannot be read \(.*encrypted.*\): copy or pack it again"):
        data.load(target)


def test_a_zip_that_does_not_match_its_manifest(small, tmp_path):
    folder = write_idx(tmp_path / "gz", small)
    manifest = {"kind": "official", "files": {"t10k-labels-idx1-ubyte.gz": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(data.DataError, match=r"checksum mismatch of t10k-labels-idx1-ubyte.gz.*make the zip again"):
        data.load(zip_of(folder, tmp_path / "data.zip"))
    assert [row[3] for row in data.verify(tmp_path / "data.zip")].count(False) == 4  # nor are the others official


@pytest.mark.parametrize("manifest", ["[]", "7", '{"files": []}', '{"kind": "sample"}', '{"kind": [1], "files": {}}'])
def test_a_manifest_of_somebody_else_is_nothing_to_go_by(small, tmp_path, manifest):
    folder = write_idx(tmp_path / "gz", small)
    (folder / "manifest.json").write_text(manifest)
    assert data.load(folder).kind == "unverified"
    assert [row[3] for row in data.verify(folder)] == [False] * 4


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "manifest.json is not JSON"),
        (b"\xff\xfe\xfd", "manifest.json is not JSON"),
        (b"[" * 200_000, "manifest.json is not JSON"),
        (b'{"files": {"a":' * 60_000, "manifest.json is not JSON"),
        (b'{"n": ' + b"9" * 10_000 + b"}", "manifest.json is not JSON"),
        (b" " * 2_000_000, "manifest.json has 2,000,000 bytes, and 1,000,000 are the most"),
    ],
)
def test_a_bad_manifest(small, tmp_path, manifest, message):
    folder = write_idx(tmp_path / "gz", small)
    (folder / "manifest.json").write_bytes(manifest)
    for place in (folder, zip_of(folder, tmp_path / "data.zip")):
        with pytest.raises(data.DataError, match=message):
            data.load(place)


# --- bombs ---------------------------------------------------------------------------------------------------------

HUGE = 10 << 30


def header_of(n, magic=2051):
    return b"".join(number.to_bytes(4, "big") for number in (magic, n, 28, 28))


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"", "no IDX file of its kind"),
        (header_of(60), "announces 60 items of 47,040 bytes in all but holds more"),
        (header_of(formats.LARGEST_FILE // 784), "announces 204,081 items of 159,999,504 bytes in all but holds more"),
        (header_of(2**32 - 1), "announces 4,294,967,295 items, and 204,081 are the most that is read"),
    ],
)
def test_a_gzip_bomb(small, tmp_path, begin, message):
    folder = write_idx(tmp_path / "gz", small)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(damage.deflated_zeros(begin, HUGE, 31))
    refused_cheaply(data.load, folder, message)


def test_verifying_a_gzip_bomb_is_cheap(small, tmp_path):
    folder = write_idx(tmp_path / "gz", small)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(damage.deflated_zeros(b"", HUGE, 31))
    began = time.process_time()
    assert [row[3] for row in data.verify(folder)] == [False] * 4
    assert time.process_time() - began < 2


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "fashion-mnist_train.csv"])
@pytest.mark.parametrize("said", [HUGE, 1_000_000, 100_000_000])
def test_a_zip_bomb(small, tmp_path, name, said):
    """Also where the directory says a smaller size than there is, or a CRC that is right as far as one reads."""
    write = write_csv if name.endswith("csv") else write_idx
    folder = write(tmp_path / "files", small, *((False,) if write is write_idx else ()))
    (folder / name).unlink()
    target = zip_of(folder, tmp_path / "data.zip")
    begin = header_of(60) if write is write_idx else csv_text(*small["train"]).encode()
    packed = damage.deflated_zeros(begin, HUGE, -15)
    with zipfile.ZipFile(target, "a") as archive:
        entry = zipfile.ZipInfo(name)
        entry.compress_type, entry.file_size, entry.compress_size = zipfile.ZIP_DEFLATED, said, len(packed)
        entry.CRC, entry.header_offset = 0, archive.fp.seek(0, 2)
        archive.fp.write(entry.FileHeader(zip64=True) + packed)
        archive.start_dir = archive.fp.tell()
        archive.filelist.append(entry)
        archive.NameToInfo[name] = entry
        archive._didModify = True
    message = "has 10,737,418,240 bytes, and 160,000,000 are the most" if said == HUGE else "cannot be read"
    refused_cheaply(data.load, target, f"data.zip: {name} {message}")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_packed_by_a_method_that_unpacks_without_a_limit(small, tmp_path, method):
    target = zip_of(write_idx(tmp_path / "raw", small, zipped=False), tmp_path / "data.zip", compression=method)
    refused_cheaply(
        data.load, target, r"cannot be read \(packed by another method than deflate\): copy or pack it again"
    )


def test_a_file_of_ten_gigabytes(small, tmp_path):
    for folder, name in (
        (write_idx(tmp_path / "raw", small, zipped=False), "train-images-idx3-ubyte"),
        (write_csv(tmp_path / "csv", small), "fashion-mnist_train.csv"),
    ):
        with (folder / name).open("r+b") as file:
            file.truncate(HUGE)  # takes no room on the disk
        refused_cheaply(
            data.load, folder, f"{name} has 10,737,418,240 bytes, and 160,000,000 are the most that is read"
        )

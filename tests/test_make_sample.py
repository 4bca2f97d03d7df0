"""The shipped sample comes out of the tool, bit for bit, and out of nothing but the official data."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


def make_sample(source, target):
    command = [sys.executable, CHECKOUT / "tools" / "make_sample.py", "--data", source, "--to", target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_sample_is_made_from_the_official_data_only(tmp_path):
    done = make_sample(CHECKOUT / "data.zip", tmp_path / "sample.zip")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the sample is made from the whole official data set, not from sample in data.zip" in done.stderr
    assert not (tmp_path / "sample.zip").exists()


@pytest.mark.slow
def test_the_shipped_sample_is_made_again_bit_for_bit(real_data, tmp_path):
    done = make_sample(real_data, tmp_path / "sample.zip")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'sample.zip'}\n", "")
    assert (tmp_path / "sample.zip").read_bytes() == (CHECKOUT / "data.zip").read_bytes()

"""What several tests share. Nothing here or below reaches beyond loopback: downloads have no mirrors unless a test
names a server of its own."""

import os
from pathlib import Path

import pytest

from fashion_mnist import data

os.environ["FASHION_MNIST_MIRRORS"] = ""
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the official files."""
    named = os.environ.get("FASHION_MNIST_DATA")
    if not named:
        pytest.skip("needs the real data: set FASHION_MNIST_DATA to the folder of the official files")
    return Path(named)


@pytest.fixture(scope="session")
def sample_data() -> data.Dataset:
    """The sample in the checkout's data.zip."""
    return data.load(Path(__file__).parents[1] / "data.zip")

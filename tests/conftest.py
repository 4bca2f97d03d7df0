"""What several tests share. Nothing here or below reaches beyond loopback: downloads have no mirrors unless a test
names a server of its own."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist import data

os.environ["FASHION_MNIST_MIRRORS"] = ""
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"
# Shells start background jobs with Ctrl-C ignored, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# These take minutes. They begin first, so that in the end no process waits for another one's long file.
LONGEST = (
    "test_notebooks",
    "test_explore",
    "test_tuning",
    "test_training",
    "test_study",
    "test_install",
    "test_reliability",
)


def pytest_collection_modifyitems(items):
    place = {f"{name}.py": index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="module")
def small():
    """60 training and 20 test images in every class's proportion, by split."""
    random = np.random.RandomState(7)
    return {
        "train": (random.randint(0, 256, (60, 28, 28, 1)).astype(np.uint8), np.tile(np.arange(10), 6)),
        "test": (random.randint(0, 256, (20, 28, 28, 1)).astype(np.uint8), np.tile(np.arange(10), 2)),
    }


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


@pytest.fixture
def study_style():
    """The study's style for the figures of a test, all of which are closed behind it."""
    import matplotlib.pyplot as plt

    from fashion_mnist.figures import style

    with plt.rc_context():
        style.use()
        yield
        plt.close("all")


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window: the system's Chromium, else the one that Playwright brought."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: `pip install playwright`")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found)
        except playwright.Error:
            pytest.skip("needs Chromium: `playwright install chromium`, or the system's package")
        yield browser
        browser.close()


def drawn(figure):
    """Render, so that a layout or a glyph that cannot be drawn fails here."""
    figure.canvas.draw()
    return figure


def texts(axis):
    return [text.get_text() for text in axis.texts]


def garments(count, seed):
    """Images of ten classes told apart by which rows are bright; easy to learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = rng.integers(0, 60, (count, 28, 28, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 7, 4:20] += 150
    return images, labels

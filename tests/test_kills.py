"""A run of two notebooks, killed at twenty random moments, loses nothing.

That takes minutes, so it is done only where FASHION_MNIST_KILLS=1, as in .ci/run; benchmarks/reliability.py does the
same with a training and a study as well.
"""

import os
import random
import sys
from pathlib import Path

import pytest
from hostile import kills
from made_files import write_idx

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("FASHION_MNIST_KILLS"), reason="needs FASHION_MNIST_KILLS=1"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals"),
]


def test_a_run_killed_at_twenty_random_moments_ends_as_one_that_nobody_killed(sample_data, tmp_path):
    small = sample_data.subset(600, None, 200)
    place = write_idx(
        tmp_path / "data", {"train": (small.x_train, small.y_train), "test": (small.x_test, small.y_test)}
    )
    notebooks = [ROOT / "notebooks" / f"{name}.ipynb" for name in ("01_eda", "02_baselines")]
    seed = random.randrange(10**6)
    tried = kills.kill_runs(tmp_path, notebooks, place, 20, random.Random(seed))
    assert tried.losses == [], f"seed of the moments: {seed}"
    assert len(tried.rows) == 20

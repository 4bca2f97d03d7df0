"""Is anything wrong ever shown, or anything ever lost? Damages files and kills processes, and counts.

- *Mutations*: data files in IDX, gzip, CSV and zip are damaged at random. Each is refused in a sentence, or its images
  and labels are those that an independent reader of the format sees; anything else counts as wrong.
- *Bombs*: small files that unpack to gigabytes; how long they take to be refused, and how much memory.
- *Kills* with SIGKILL, which nobody can catch: of a run of two notebooks (its whole process group, half of the kills
  right after a file was written), of a training with a checkpoint, and of the workers of a study. The same command then
  has to end with what it ends with when nobody kills it; anything else, and any file left behind, counts as a loss.

Needs POSIX signals. The counts are in results/bench_reliability.json; the command fails if one is not zero.

    python benchmarks/reliability.py           # a quarter of an hour on two cores
    python benchmarks/reliability.py --smoke   # a few of each, written below build/smoke/
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hostile import damage, kills

from fashion_mnist import study
from fashion_mnist.headless import runner

SEED = 0  # of all damage and of all moments
COUNTS = {  # full, smoke
    "mutations": (10_000, 40),
    "kills_run": (20, 2),
    "kills_training": (10, 2),
    "kills_tuning": (20, 2),
    "trials": (18, 4),  # of the study
}
NOTEBOOKS = ("01_eda", "02_baselines")  # one measures and draws, the other trains as well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="try a few of each, below build/smoke/")
    parser.add_argument("--data", help="the data set; searched if not given")
    arguments = parser.parse_args()
    if os.name != "posix":
        parser.error("this benchmark kills processes by POSIX signals, which Windows does not have")

    profile = "smoke" if arguments.smoke else "full"
    run = study.start("bench_reliability", profile, SEED, arguments.data)
    count, chance = {name: values[arguments.smoke] for name, values in COUNTS.items()}, random.Random(SEED)
    small = {"train": (run.data.x_train[:600], run.data.y_train[:600]), "test": (run.data.x_test, run.data.y_test)}
    small["test"] = tuple(values[:200] for values in small["test"])
    tiny = {split: tuple(values[:12] for values in pair) for split, pair in small.items()}
    notebooks = runner.notebooks(NOTEBOOKS, run.root)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve()
        place = damage.lay_out(folder / "data", damage.idx_files(small))
        changed, wrong = damage.mutations(folder / "mutations", tiny, count["mutations"], chance)
        exploded = damage.bombs(folder / "bombs", tiny)
        killed = {
            "kills_run": kills.kill_runs(folder / "runs", notebooks, place, count["kills_run"], chance),
            "kills_training": kills.kill_trainings(folder, *small["train"], count["kills_training"], chance),
            "kills_tuning": kills.kill_workers(folder, place, count["trials"], count["kills_tuning"], chance),
        }

    losses = [loss for tried in killed.values() for loss in tried.losses]
    headline = {
        "mutations": sum(row["mutations"] for row in changed),
        "mutations_refused": sum(row["refused"] for row in changed),
        "wrong_accepted": len(wrong),
        **{name: len(tried.rows) for name, tried in killed.items()},
        "kills_tuning_after_complete_trials": sum(row["complete"] > 0 for row in killed["kills_tuning"].rows),
        "losses": len(losses),
        **{f"bomb_{key}": max(row[key] for row in exploded) for key in ("seconds", "peak_mb")},
    }
    width = max(map(len, headline))
    for name, value in headline.items():
        print(f"{name:{width}}  {value:,.{0 if isinstance(value, int) else 2}f}")
    for each in [*wrong, *losses]:
        print(each, file=sys.stderr)
    tables = {"mutations": changed, "bombs": exploded, **{name: tried.rows for name, tried in killed.items()}}
    run.save_result(headline, {**tables, "losses": [*wrong, *losses]}, readme=sentence(headline))
    return int(bool(wrong or losses))


def sentence(headline: Mapping[str, float]) -> str:
    """What was tried and what was lost."""
    return (
        f"Tried: {headline['mutations']:,} damaged data files, of which {headline['wrong_accepted']} gave wrong images "
        f"or labels or a traceback; {headline['kills_run']} kills of a run, {headline['kills_training']} of a training "
        f"and {headline['kills_tuning']} of a study's workers "
        f"({headline['kills_tuning_after_complete_trials']} after trials were complete), with {headline['losses']} "
        f"losses; files of a few megabytes that unpack to 4 GB, refused within {headline['bomb_seconds']:.1f} s and "
        f"{headline['bomb_peak_mb']:.0f} MB."
    )


if __name__ == "__main__":
    sys.exit(main())

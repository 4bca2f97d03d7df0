"""How much faster does a study get with more workers, and where does that end?

    python benchmarks/tuning_scaling.py           # three minutes
    python benchmarks/tuning_scaling.py --smoke   # a tiny check, written below build/smoke/

Replays the CNN grid's study with 1 to 256 workers: the schedule is `halving.halving` itself, the times are those that
each piece of each training took in results/03_cnn_tuning.json (if there is none, in the study of the check below). All
workers are taken to be like the machine that measured.

The replay is checked against real studies with 1 and 2 workers on this machine, each replayed from its own times. The
one with 1 worker also gives the overhead of a piece, recording and transport, which the replays then count. On one
machine workers share the cores, so a real study gains little from a second worker; what is checked is the schedule.

Writes results/bench_tuning_scaling.json.
"""

from __future__ import annotations

import argparse
import heapq
import math
import shutil
import sys
import time
from typing import Any

import pandas as pd

from fashion_mnist import data, halving, records, study, tuning
from fashion_mnist.halving import Tuned

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny check; writes to build/smoke/")
    options = parser.parse_args()
    run = study.start("bench_tuning_scaling", "smoke" if options.smoke else "full")

    (alone, found), (together, second) = (real_study(run.data, workers, options.smoke) for workers in (1, 2))
    overhead = max(0.0, (alone - replay(found, 1)["seconds"]) / pieces(found))
    error = replay(second, 2, overhead)["seconds"] / together - 1
    checks = [
        {"workers": 1, "pieces": pieces(found), "real_seconds": alone, "replayed": replay(found, 1)["seconds"]},
        {"workers": 2, "pieces": pieces(second), "real_seconds": together, "replayed": replay(second, 2)["seconds"]},
    ]
    print(f"Overhead {overhead:.3f} s a piece. With it, the study of 2 workers replayed takes {error:+.1%}.\n")

    tuned = None if options.smoke else recorded_study(run.root)
    print(f"{len((tuned or found).trials)} trials of {'results/03_cnn_tuning.json' if tuned else 'the check'}")
    table, endless = scaling(tuned or found, overhead)
    headline = {
        "study_seconds_1_worker": table[0]["seconds"],
        "speedup_2_workers": table[1]["speedup"],
        "speedup_8_workers": table[3]["speedup"],
        "speedup_limit": round(table[0]["seconds"] / endless["seconds"], 3),
        "workers_at_half_efficiency": max(row["workers"] for row in table if row["efficiency"] >= 0.5),
        "overhead_seconds_a_piece": round(overhead, 4),
        "replay_error_2_workers": round(error, 4),
        "real_speedup_2_workers_one_machine": round(alone / together, 3),
    }
    summary = (
        "On one machine of {cores} cores a second worker makes a study {real_speedup_2_workers_one_machine:.1f} times "
        "as fast (measured). With a machine for each, a replay of the CNN grid's measured times gives "
        "{speedup_2_workers:.1f} times on 2 workers, {speedup_8_workers:.1f} on 8 and at most {speedup_limit:.1f}, for "
        "a rung lasts as long as its longest training."
    ).format(**headline, cores=records.machine()["cores"])
    print(f"\n{summary}")
    tables = {"scaling": table, "rungs": endless["rungs"], "checks": checks}
    run.save_result(headline, tables, summary=summary, readme=summary)
    return 0


def real_study(dataset: data.Dataset, workers: int, smoke: bool) -> tuple[float, Tuned]:
    """Wall seconds of a study on workers that have TensorFlow loaded already, and what it found."""
    images, trials, epochs = (300, 4, 2) if smoke else (10_000, 12, 4)
    validation = dataset.x_val[:2000], dataset.y_val[:2000]
    print(f"A real study with {workers} worker{'s' * (workers > 1)} …", file=sys.stderr)
    with tuning.local_workers(workers) as address:

        def tune(name: str, images: int, **options: Any) -> Tuned:
            shutil.rmtree(data.root() / "build" / "tuning" / name, ignore_errors=True)
            train = dataset.x_train[:images], dataset.y_train[:images]
            return tuning.tune("cnn_grid", train, validation, name=name, scheduler=address, **options)

        tune("bench_warm_up", 100, epochs=1, trials=2 * workers)
        began = time.perf_counter()
        found = tune(f"bench_{workers}_workers", images, epochs=epochs, factor=2, trials=trials)
        return time.perf_counter() - began, found


def recorded_study(root) -> Tuned | None:
    """The committed study of the CNN grid, if there is one."""
    try:
        record = records.read("03_cnn_tuning", root)
        about = record["studies"]["trials"]
    except (FileNotFoundError, KeyError):
        return None
    return Tuned.from_rows("cnn_grid", record["tables"]["trials"], about["rungs"], about["factor"], about["seconds"])


def pieces(tuned: Tuned) -> int:
    """How many pieces of training a study had, one a trial and rung."""
    return sum(len(trial.pieces) for trial in tuned.trials)


def scaling(tuned: Tuned, overhead: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Print and give a row for each number of workers, and the replay with a worker for each trial."""
    table = []
    for workers in WORKERS:
        found = replay(tuned, workers, overhead)
        speedup = (table[0]["seconds"] if table else found["seconds"]) / found["seconds"]
        row = {"workers": workers, "seconds": round(found["seconds"], 2), "speedup": round(speedup, 3)}
        row["efficiency"] = round(speedup / workers, 4)
        paid = workers * found["seconds"]
        row["idle_share_by_rung"] = {rung["epochs"]: round(rung["idle_seconds"] / paid, 4) for rung in found["rungs"]}
        table.append(row)
    print(pd.DataFrame(table).drop(columns="idle_share_by_rung").to_string(index=False))
    return table, replay(tuned, len(tuned.trials), overhead)


def replay(tuned: Tuned, workers: int, overhead: float = 0.0) -> dict[str, Any]:
    """Take the trials of a study through its schedule on workers that begin a piece as soon as they are free.

    Parameters
    ----------
    tuned : Tuned
    workers : int
    overhead : float
        Seconds that a piece takes beyond its training.

    Returns
    -------
    dict
        ``seconds`` of the study, and for each rung ``epochs``, ``trials``, ``seconds``, the ``longest`` piece and the
        ``idle_seconds`` of all workers together.
    """
    trials = {trial.number: trial for trial in tuned.trials}
    found = []

    def train(numbers: list[int], epochs: int) -> dict[int, float]:
        level = tuned.rungs.index(epochs)
        before = tuned.rungs[level - 1] if level else 1
        free, done = [0.0] * workers, []
        for number in halving.longest_first({n: sum(trials[n].pieces[:level]) / before for n in numbers}):
            if level < len(trials[number].pieces):  # else it had ended by early stopping
                done.append(trials[number].pieces[level] + overhead)
                heapq.heapreplace(free, free[0] + done[-1])
        rung = {"epochs": epochs, "trials": len(numbers), "seconds": max(free), "longest": max(done, default=0.0)}
        found.append({**rung, "idle_seconds": workers * max(free) - sum(done)})
        return {n: trials[n].accuracy_after(epochs) for n in numbers if trials[n].reached(epochs)}

    for _ in halving.halving(list(trials), tuned.rungs, tuned.factor, train, {}):
        pass
    return {"seconds": math.fsum(rung["seconds"] for rung in found), "rungs": found}


if __name__ == "__main__":
    raise SystemExit(main())

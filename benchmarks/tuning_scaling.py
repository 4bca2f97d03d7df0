"""How much faster does a study get with more workers, and where does that end?

    python benchmarks/tuning_scaling.py

Replays the CNN grid's study with 1 to 256 workers: the schedule is `tuning.halving` itself, the times are those that
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
from collections.abc import Mapping, Sequence
from typing import Any

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny check; writes to build/smoke/")
    options = parser.parse_args()

    from fashion_mnist import study

    run = study.start("bench_tuning_scaling", "smoke" if options.smoke else "full")
    images, trials, epochs = (300, 4, 2) if options.smoke else (10_000, 12, 4)

    checks = []
    for workers in (1, 2):
        print(f"A real study with {workers} worker{'s' * (workers > 1)} …", file=sys.stderr)
        seconds, found = real_study(run, workers, images, trials, epochs)
        replayed = replay(found.rows(), found.rungs, found.factor, workers, overhead=0.0)
        pieces = sum(len(trial.pieces) for trial in found.trials)
        checks.append({"workers": workers, "pieces": pieces, "real_seconds": seconds, "replayed": replayed["seconds"]})
        if workers == 1:
            measured, overhead = found, max(0.0, (seconds - replayed["seconds"]) / pieces)
        else:
            predicted = replay(found.rows(), found.rungs, found.factor, workers, overhead)["seconds"]
    error = predicted / checks[1]["real_seconds"] - 1
    print(f"Overhead {overhead:.3f} s a piece. With it, the study of 2 workers replayed takes {100 * error:+.1f} %.\n")

    recorded = None if options.smoke else recorded_study(run)
    source = "results/03_cnn_tuning.json" if recorded else "the check's study with 1 worker"
    rows, steps, factor = recorded or (measured.rows(), measured.rungs, measured.factor)
    replays = [{"workers": workers, **replay(rows, steps, factor, workers, overhead)} for workers in WORKERS]
    endless = replay(rows, steps, factor, len(rows), overhead)  # a worker a trial: what waits then waits for a rung
    table = []
    print(f"{len(rows)} trials from {source}, rungs at {', '.join(map(str, steps))} epochs")
    print("workers   seconds  speed-up  efficiency  most idle in")
    for found in replays:
        speedup = replays[0]["seconds"] / found["seconds"]
        idlest = max(found["rungs"], key=lambda rung: rung["idle_seconds"])
        row = {
            "workers": found["workers"],
            "seconds": round(found["seconds"], 2),
            "speedup": round(speedup, 3),
            "efficiency": round(speedup / found["workers"], 4),
            "idle_share_by_rung": {
                rung["epochs"]: round(rung["idle_seconds"] / (found["workers"] * found["seconds"]), 4)
                for rung in found["rungs"]
            },
        }
        table.append(row)
        waste = f"the rung at {idlest['epochs']} epochs ({idlest['trials']} trials)" if found["workers"] > 1 else "-"
        print(f"{row['workers']:7} {row['seconds']:9,.1f} {speedup:9.2f} {100 * row['efficiency']:10.0f}%  {waste}")
    efficient = max(row["workers"] for row in table if row["efficiency"] >= 0.5)
    print(why(endless, replays[0]["seconds"], efficient))

    headline = {
        "study_seconds_1_worker": table[0]["seconds"],
        "speedup_2_workers": table[1]["speedup"],
        "speedup_8_workers": table[3]["speedup"],
        "speedup_limit": round(replays[0]["seconds"] / endless["seconds"], 3),
        "workers_at_half_efficiency": efficient,
        "overhead_seconds_a_piece": round(overhead, 4),
        "replay_error_2_workers": round(error, 4),
        "real_speedup_2_workers_one_machine": round(checks[0]["real_seconds"] / checks[1]["real_seconds"], 3),
    }
    run.save_result(headline, {"scaling": table, "rungs": endless["rungs"], "checks": checks})
    return 0


def real_study(run, workers: int, images: int, trials: int, epochs: int):
    """Wall seconds of a study on workers that have TensorFlow loaded already, and what it found."""
    from fashion_mnist import data, tuning

    train = run.data.x_train[:images], run.data.y_train[:images]
    validation = run.data.x_val[:2000], run.data.y_val[:2000]
    with tuning.local_workers(workers) as cluster:

        def tune(name: str, train, **arguments):
            shutil.rmtree(data.root() / "build" / "tuning" / name, ignore_errors=True)
            address = cluster.scheduler_address
            return tuning.tune("cnn_grid", train, validation, name=name, scheduler=address, **arguments)

        tune("bench_warm_up", (train[0][:100], train[1][:100]), epochs=1, trials=2 * workers)
        began = time.perf_counter()
        found = tune(f"bench_{workers}_workers", train, epochs=epochs, factor=2, trials=trials)
        return time.perf_counter() - began, found


def recorded_study(run) -> tuple[list[dict[str, Any]], tuple[int, ...], int] | None:
    """Trials, rungs and factor of the committed study of the CNN grid, if there is one."""
    from fashion_mnist import study

    try:
        tables = study.read_result("03_cnn_tuning", run.root)["tables"]
    except FileNotFoundError:
        return None
    schedule = tables["schedule"]
    return tables["trials"], tuple(row["epochs"] for row in schedule), schedule[0]["factor"]


def replay(
    rows: Sequence[Mapping[str, Any]], steps: Sequence[int], factor: int, workers: int, overhead: float
) -> dict[str, Any]:
    """Take recorded trials through the schedule on so many workers that begin a piece as soon as they are free.

    Parameters
    ----------
    rows : sequence of mapping
        Trials as `tuning.Tuned.rows` gives them; without ``pieces``, a piece takes what its epochs took.
    steps, factor
        The rungs and what `tuning.halving` keeps.
    overhead : float
        Seconds that a piece takes beyond its training.

    Returns
    -------
    dict
        ``seconds`` of the study, and for each rung ``epochs``, ``trials``, ``seconds``, the ``longest`` piece and the
        ``idle_seconds`` of all workers together.
    """
    from fashion_mnist import tuning

    trials = {row["number"]: row for row in rows}
    spent = dict.fromkeys(trials, 0.0)
    found = []

    def train(numbers: list[int], epochs: int) -> dict[int, float]:
        level = steps.index(epochs)
        before = steps[level - 1] if level else 0
        free = [0.0] * workers
        pieces = []
        for number in tuning.longest_first({number: spent[number] / max(1, before) for number in numbers}):
            seconds = piece_seconds(trials[number], level, before, epochs)
            if seconds is None:  # it had ended by early stopping
                continue
            spent[number] += seconds
            pieces.append(seconds + overhead)
            heapq.heapreplace(free, free[0] + pieces[-1])
        found.append(
            {
                "epochs": epochs,
                "trials": len(numbers),
                "seconds": max(free),
                "longest": max(pieces, default=0.0),
                "idle_seconds": workers * max(free) - sum(pieces),
            }
        )
        went_on = {number: trials[number] for number in numbers if survives(trials[number], epochs)}
        return {number: row["val_accuracy"][:epochs][-1] for number, row in went_on.items()}

    for _ in tuning.halving(list(trials), steps, factor, train, {}):
        pass
    return {"seconds": math.fsum(rung["seconds"] for rung in found), "rungs": found}


def piece_seconds(row: Mapping[str, Any], level: int, before: int, epochs: int) -> float | None:
    pieces = row.get("pieces") or []
    if pieces:
        return pieces[level] if level < len(pieces) else None
    return sum(row["seconds"][before:epochs]) or None


def survives(row: Mapping[str, Any], epochs: int) -> bool:
    return len(row["val_accuracy"]) >= epochs or row["state"] == "complete"


def why(endless: Mapping[str, Any], alone: float, efficient: int) -> str:
    """Where the speed-up bends, in words with the numbers of this study."""
    parts = [
        f"the longest of {rung['trials']} trials takes {rung['longest']:.1f} s in the rung at {rung['epochs']} epochs"
        for rung in endless["rungs"]
    ]
    return (
        f"\nUp to {efficient} workers more than half of their time is training. Workers beyond the number of trials "
        f"in a rung are idle, and a rung lasts as long as its longest piece: {'; '.join(parts)}. Together "
        f"{endless['seconds']:.1f} s, so no number of workers is more than {alone / endless['seconds']:.1f} times "
        "as fast as one."
    )


if __name__ == "__main__":
    raise SystemExit(main())

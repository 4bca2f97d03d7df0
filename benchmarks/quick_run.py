"""How long does `make run` take after installation?

    python benchmarks/quick_run.py

Executes the whole sequence at the quick profile from nothing, as `make run` does, and renders the report. Nothing else
should run meanwhile. Writes results/bench_quick_run.json: seconds in all, for each notebook and for the report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from fashion_mnist import study


def main() -> int:
    record = study.start("bench_quick_run", "full")
    command = [sys.executable, "-m", "fashion_mnist"]
    started = time.monotonic()
    subprocess.run([*command, "run", "--profile", "quick", "--fresh"], check=True)
    ran = time.monotonic()
    subprocess.run([*command, "report", "--profile", "quick"], check=True)
    finished = time.monotonic()

    rows = []
    for path in study.notebooks():
        copy = Path(record.root) / "build" / "quick" / "notebooks" / path.name
        stamp = json.loads(copy.read_text(encoding="utf-8"))["metadata"]["fashion_mnist"]
        rows.append({"notebook": path.stem, "seconds": stamp["seconds"]})
    headline = {
        "quick_seconds": round(finished - started, 1),
        "quick_notebooks_seconds": round(ran - started, 1),
        "quick_report_seconds": round(finished - ran, 1),
    }
    record.save_result(headline, {"notebooks": rows})
    for row in rows:
        print(f"{row['notebook']:24} {row['seconds']:7.1f} s")
    print(f"{'all, with the report':24} {headline['quick_seconds']:7.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What does each command of the README cost on this machine?

    python benchmarks/commands.py

In a fresh clone of the committed state: installation, the whole sequence at the quick profile from nothing, on the
sample and on the real data, the report, and all tests. Nothing else should run meanwhile. Writes
results/bench_commands.json; the times of the notebooks at quick are in its tables.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fashion_mnist import data, records, study
from fashion_mnist.headless import runner
from fashion_mnist.networks import clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-tests", dest="tests", action="store_false", help="leave `make test` out")
    options = parser.parse_args()
    run = study.start("bench_commands", "full")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(run.root), str(clone)], check=True)
        binaries = clone / ".venv" / ("Scripts" if sys.platform == "win32" else "bin")
        program = str(binaries / "fashion-mnist")
        surroundings = {name: value for name, value in os.environ.items() if name != "FASHION_MNIST_ROOT"}

        def seconds(*command: str) -> float:
            started = time.monotonic()
            subprocess.run(command, cwd=clone, env=surroundings, check=True, stdout=sys.stderr)
            return round(time.monotonic() - started, 1)

        headline = {"install_seconds": seconds(sys.executable, "install_requirements.py", "--venv")}
        headline["run_sample_seconds"] = seconds(program, "run", "--data", "data.zip")
        tables = {"sample": notebook_seconds(clone)}
        shutil.rmtree(clone / "build")
        headline["run_quick_seconds"] = seconds(program, "run", "--data", data.info()["path"])
        tables["quick"] = notebook_seconds(clone)
        headline["report_seconds"] = seconds(program, "report")
        if options.tests:
            headline["tests_seconds"] = seconds("make", "test")
    known = records.read_all(run.root).items()
    full = {name: record["seconds"] for name, record in known if not name.startswith("bench_")}
    whole = {name: clock(seconds) for name, seconds in make_run(headline).items()}
    summary = f"`make run` takes {whole['quick']} with the real data, {whole['sample']} without."
    run.save_result(headline, tables, summary=summary, readme=costs(headline, tables, full))
    for name, value in headline.items():
        print(f"{name:<20} {clock(value):>12}")
    return 0


def notebook_seconds(clone: Path) -> list[dict[str, object]]:
    """How long each notebook of the last run at quick took."""
    copies = [clone / "build" / "quick" / "notebooks" / path.name for path in runner.notebooks(root=clone)]
    return [{"notebook": copy.stem, "seconds": runner.stamp(copy)["seconds"]} for copy in copies]


def make_run(headline: dict[str, float]) -> dict[str, float]:
    """Seconds of `make run`, which is all notebooks and the report, on the real data and on the sample."""
    return {name: headline[f"run_{name}_seconds"] + headline["report_seconds"] for name in ("quick", "sample")}


def costs(headline: dict[str, float], tables: dict[str, list], full: dict[str, float]) -> str:
    """Markdown table: each notebook and each command, on the real data, on the sample and for the full study."""
    quick, sample = ({row["notebook"]: row["seconds"] for row in tables[table]} for table in ("quick", "sample"))
    rows = [
        [name, *(clock(column[name]) if name in column else "" for column in (quick, sample, full))]
        for name in sorted({*quick, *full})
    ]
    rows.append(["all notebooks, one after the other", "", "", clock(sum(full.values()))])
    both = map(clock, make_run(headline).values())
    rows.append(["`make run`: all notebooks, two at a time, and the report", *both, ""])
    rows.append(["installation, once before the first command", clock(headline["install_seconds"]), "", ""])
    if "tests_seconds" in headline:
        rows.append(["`make test`: its packages, style and all tests", clock(headline["tests_seconds"]), "", ""])
    return records.table(["", "`quick`", "`quick`, sample", "`full`, from nothing"], rows)


if __name__ == "__main__":
    raise SystemExit(main())

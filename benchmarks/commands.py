"""What does each command of the README cost on this machine?

    python benchmarks/commands.py

In a fresh clone of the committed state: installation, the whole sequence at the quick profile from nothing, the
report, and all tests. Nothing else should run meanwhile. Writes results/bench_commands.json; the times of the notebooks
at quick are in its table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fashion_mnist import study


def main() -> int:
    record = study.start("bench_commands", "full")
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(record.root), str(clone)], check=True)
        binaries = clone / ".venv" / ("Scripts" if sys.platform == "win32" else "bin")
        program = str(binaries / "fashion-mnist")
        commands = {
            "install": [sys.executable, "install_requirements.py", "--venv"],
            "run_quick": [program, "run", "--profile", "quick"],
            "report": [program, "report"],
            "install_dev": [sys.executable, "install_requirements.py", "--venv", "--dev"],
            "tests": [str(binaries / "python"), "-m", "pytest", "-q"],
        }
        outside = {name: value for name, value in os.environ.items() if name != "FASHION_MNIST_ROOT"}
        for name, command in commands.items():
            started = time.monotonic()
            subprocess.run(command, cwd=clone, env=outside, check=True, stdout=sys.stderr)
            seconds[name] = round(time.monotonic() - started, 1)
        rows = []
        for path in study.notebooks(root=clone):
            copy = clone / "build" / "quick" / "notebooks" / path.name
            stamp = json.loads(copy.read_text(encoding="utf-8"))["metadata"]["fashion_mnist"]
            rows.append({"notebook": path.stem, "seconds": stamp["seconds"]})
    record.save_result({f"{name}_seconds": value for name, value in seconds.items()}, {"quick": rows})
    for name, value in seconds.items():
        print(f"{name:12} {value:7.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How long headway takes to say anything: whole processes of --help, beside Python alone and typer's import alone.

python -m benchmarks.cold_start [--rounds 20]

Goal: `headway --help` within 0.15 s. Wall seconds, and seconds of the processor, which a busy machine blurs less.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.racing import HEADWAY, arguments
from benchmarks.told import tell

GOAL = 0.15
WAYS = {
    "python": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "headway --help": [*HEADWAY, "--help"],
    "headway fit --help": [*HEADWAY, "fit", "--help"],
    "headway predict --help": [*HEADWAY, "predict", "--help"],
}


def start(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of a whole process: wall, processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the rounds and print a table."""
    asked = arguments(__doc__ or "", rounds=20).parse_args()
    wall: dict[str, list[float]] = {name: [] for name in WAYS}
    processor: dict[str, list[float]] = {f"{name}, processor": [] for name in WAYS}
    for _ in range(asked.rounds):
        for name, command in WAYS.items():
            seconds, busy = start(command)
            wall[name].append(seconds)
            processor[f"{name}, processor"].append(busy)
    found = statistics.median(wall["headway --help"])
    print(f"headway --help: {found:.3f} s; goal {GOAL:g} s, {'reached' if found <= GOAL else 'missed'}")
    tell("cold_start", {**wall, **processor}, "s", goal=GOAL)


if __name__ == "__main__":
    main()

"""Whole processes in turn: the plain loop, `headway fit` cold, `headway fit` warm. Medians and ratios over the rounds.

python -m benchmarks.against_plain_loop FOLDER [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAIN = Path(__file__).with_name("plain_loop.py")


def timed(command: list[str], cwd: Path, cache: Path) -> tuple[float, dict[str, object]]:
    """Wall seconds of a whole process, and the last line it printed, as JSON."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "HEADWAY_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    return seconds, json.loads(done.stdout if done.stdout.startswith("{\n") else done.stdout.splitlines()[-1])


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    folder, fit = str(asked.folder.resolve()), [sys.executable, "-m", "headway", "fit"]
    seconds: dict[str, list[float]] = {"plain": [], "cold": [], "warm": []}
    for number in range(asked.rounds):
        with tempfile.TemporaryDirectory() as place:
            cwd, cache = Path(place), Path(place) / "cache"
            for name, command in (
                ("plain", [sys.executable, str(PLAIN), folder]),
                ("cold", [*fit, folder, "--json"]),
                ("warm", [*fit, folder, "--json"]),
            ):
                taken, said = timed(command, cwd, cache)
                seconds[name].append(taken)
                accuracy = said["accuracy"] if name == "plain" else said["test"]
                print(f"round {number + 1} {name:5} {taken:6.1f} s  {accuracy}", flush=True)
    for name, values in seconds.items():
        ratio = statistics.median(own / base for own, base in zip(values, seconds["plain"], strict=True))
        print(f"{name:5} median {statistics.median(values):6.1f} s  {ratio:.3f} of the plain loop, paired")


if __name__ == "__main__":
    main()

"""Whole processes in turn: in each round every one of them once, so that what else the machine does hits all alike."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADWAY = (sys.executable, "-m", "headway")
INSTALL = "Install it: pip install 'headway[bench]'"
PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Run:
    """One whole process: its wall seconds, and the last line that it printed, where that is a JSON object."""

    seconds: float
    said: Mapping[str, Any]


def peer(name: str, *words: object) -> list[str]:
    """The command of a script in `benchmarks/peers`."""
    return [sys.executable, str(PEERS / f"{name}.py"), *map(str, words)]


def module(name: str, *words: object) -> list[str]:
    """The command of another benchmark."""
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, words)]


def arguments(told: str, rounds: int = 3) -> argparse.ArgumentParser:
    """The options that every race has; told = the module's docstring."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="of all processes in turn; medians are told")
    return parser


def timed(command: Sequence[str], cwd: Path, cache: Path) -> Run:
    """Run a process in `cwd` with the headway cache `cache`. Ends the benchmark where the process fails."""
    paths = [str(PEERS.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]  # for `python -m benchmarks.NAME`
    caches = {"HEADWAY_CACHE_DIR": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cwd / "inductor")}  # both begin cold
    environment = {**os.environ, **caches, "PYTHONPATH": os.pathsep.join(paths)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    last = (done.stdout.splitlines() or [""])[-1]
    return Run(seconds, json.loads(last) if last.startswith("{") else {})


def race(ways: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Run]]:
    """Every way once in each round, in their order: name → a run for each round.

    A round has a folder to run in and an empty headway cache of its own: its first headway is cold, its second warm.
    """
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            for name, command in ways.items():
                run = timed(command, Path(place), Path(place) / "cache")
                runs[name].append(run)
                print(f"round {number + 1}  {name}: {run.seconds:.2f} s{accuracies(run)}", flush=True)
    return runs


def accuracies(run: Run) -> str:
    """What a process says of its accuracy, whether headway or a peer."""
    found = {name: run.said[name] for name in ("val", "test") if name in run.said}
    plain = {name: value["accuracy"] if isinstance(value, Mapping) else value for name, value in found.items()}
    return "".join(f"  {name} {value:.4f}" for name, value in plain.items())


def seconds(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[float]]:
    """Wall seconds alone, for `told.tell`."""
    return {name: [run.seconds for run in of_one] for name, of_one in runs.items()}


def times_as_fast(own: Sequence[float], base: Sequence[float]) -> float:
    """Median over rounds of base / own: above 1 the own one wins."""
    return round(statistics.median(b / a for a, b in zip(own, base, strict=True)), 3)


def verdict(own: str, base: str, ratio: float) -> str:
    """Won or lost, in words."""
    return f"{own}: {ratio:.2f} times as fast as {base}" + ("" if ratio >= 1 else " (a loss)")


def read_once(folder: Path) -> None:
    """Read every file, so that whoever comes first does not pay for the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()

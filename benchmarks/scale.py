"""How time and memory grow: the pass over 1, 4 and 16 times the images, a linear head on 1, 4 and 16 times the rows.

python -m benchmarks.scale [--images 2000] [--rows 10000]

Each in a process of its own, which tells its peak memory itself. Images are generated JPEGs of 48 px, looked at by a
small network with random weights at 32 px; nothing is cached. Rows are generated features, 256 numbers and 100 classes,
read from a scratch file as where memory is short. An exponent is the slope of a line through the logarithms: 1 =
twice the work takes twice the time; 0 = memory does not grow.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.told import tell
from headway.data.sources import load_dataset
from headway.events import drain
from headway.features.extract import extract
from headway.features.looking import Asked, get_ready
from headway.machine import usable_cores
from headway.training.design import gather
from headway.training.solvers import LOOSE, pose

TIMES = (1, 4, 16)
DIM, CLASSES = 256, 100
L2 = 0.01
ASKED = Asked(backbone="cnn", weights="none", image=32, engine="onnxruntime")


def draw(folder: Path, n: int) -> None:
    """`n` small JPEGs in two class folders, no two alike."""
    from PIL import Image

    random = np.random.default_rng(n)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
    for number in range(n):
        pixels = random.integers(0, 256, (6, 6, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(folder / "ab"[number % 2] / f"{number:06d}.jpg", quality=80)


def look(folder: Path, cache: Path) -> int:
    """One pass over a folder; how many images it looked at."""
    dataset = load_dataset(folder)
    every = np.arange(len(dataset), dtype=np.intp)
    with get_ready(dataset, every, ASKED, cache) as ready:
        features, _ = drain(extract(ready.readings, every, len(dataset), ready.store, ready.engine))
    return features.computed


def generated(indices: NDArray[np.intp]) -> NDArray[np.float32]:
    """Features (n, 256) of some rows: noise, and what tells the class of each."""
    random = np.random.default_rng(int(indices[0]))
    rows = random.standard_normal((len(indices), DIM), np.float32)
    rows[np.arange(len(rows)), indices % CLASSES] += 2
    return rows


def solve(n: int, folder: Path) -> int:
    """A linear head on `n` rows in a scratch file; passes over them."""
    torch.set_num_threads(usable_cores())
    every = np.arange(n, dtype=np.intp)
    with closing(gather([generated], every, DIM, folder, memory=1)) as rows:
        return pose(rows, every % CLASSES, CLASSES).solve(L2, tolerance=LOOSE).passes


def child(what: str, n: int, folder: Path) -> None:
    """Do it; print its seconds, its peak memory in bytes and what it counted."""
    start = time.perf_counter()
    count = look(folder / "images", folder / "cache") if what == "pass" else solve(n, folder)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_bytes(), "count": count}))


def peak_bytes() -> int:
    """Most memory that this process had. Not `ru_maxrss` where there is another way: that begins with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(what: str, n: int) -> tuple[float, float]:
    """Seconds and peak megabytes of one size, in a new process."""
    with tempfile.TemporaryDirectory() as place:
        if what == "pass":
            draw(Path(place) / "images", n)
            draw(Path(place) / "warm" / "images", 64)  # the network is prepared before it counts
            look(Path(place) / "warm" / "images", Path(place) / "cache")
        words = [sys.executable, "-m", "benchmarks.scale", "--child", what, str(n), place]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["peak"] / 1e6


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the line through the logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3)


def main() -> None:
    """Run every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], int(asked.child[1]), Path(asked.child[2]))
        return
    rows: dict[str, list[float]] = {}
    facts: dict[str, float] = {}
    for what, unit in (("pass", asked.images), ("head", asked.rows)):
        sizes = [unit * times for times in TIMES]
        seconds, peaks = (list(values) for values in zip(*(measured(what, n) for n in sizes), strict=True))
        for n, second, peak in zip(sizes, seconds, peaks, strict=True):
            print(f"{what} {n:>9,}  {second:8.1f} s  {peak:8.0f} MB peak")
            rows[f"{what} {n}"] = [second]
        facts[f"{what}_time_exponent"] = exponent(sizes, seconds)
        facts[f"{what}_memory_exponent"] = exponent(sizes, peaks)
        facts[f"{what}_peak_16_over_1"] = round(peaks[-1] / peaks[0], 3)
        facts[f"{what}_bytes_each"] = round((peaks[-1] - peaks[0]) * 1e6 / (sizes[-1] - sizes[0]))
    for name, value in facts.items():
        print(f"{name.replace('_', ' ')}: {value:g}")
    tell("scale", rows, "s", images=asked.images, rows_of_features=asked.rows, **facts)


if __name__ == "__main__":
    main()

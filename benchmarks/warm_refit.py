"""Another head on images that were looked at before: a whole `headway fit`, process start to report.

python -m benchmarks.warm_refit DATA [--cache FOLDER] [--rounds 3] [-- words of fit for the second head]

First a run that fills a cache of its own (kept with --cache), then `headway fit DATA --head mlp:256` or what is said
after `--`, again and again: seconds of each, by the clock outside and by phase as the run tells them. Beside them the
seconds of reading every feature of the training images from the cache, as the head does: the part that is I/O.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.told import tell
from headway.backbones.trunk import Tap
from headway.features.store import Store


def fit(data: Path, words: list[str], cache: Path, place: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of one `headway fit` in a new process, and its result."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "headway", "fit", str(data.resolve()), "--json", *words],
        cwd=place,
        env={**os.environ, "HEADWAY_CACHE_DIR": str(cache.resolve())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return time.perf_counter() - start, result


def reading(cache: Path) -> float:
    """Seconds of opening the largest store of the cache and reading the last layer's features of every image."""
    start = time.perf_counter()
    folder = max((cache / "features").iterdir(), key=lambda one: len(list(one.glob("*.parquet"))))
    taps = json.loads((folder / "spec.json").read_text())["taps"]
    store = Store(folder, [Tap(name, dim) for name, dim in taps])
    store.columns(("last",), np.flatnonzero(store.facts("accepted")).astype(np.int64))
    return time.perf_counter() - start


def main() -> None:
    """Fill the cache, run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    asked, words = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :] or ["--head", "mlp:256"]
    rows: dict[str, list[float]] = {"whole process": [], "reading features": []}
    with tempfile.TemporaryDirectory() as place:
        cache = asked.cache or Path(place) / "cache"
        cold, first = fit(asked.data, ["--taps", "last", "--l2", "0.01"], cache, Path(place))
        print(f"cold: {cold:.1f} s, {first['features']['computed']:,} images computed, backbone {first['backbone']}")
        for _ in range(asked.rounds):
            seconds, result = fit(asked.data, words, cache, Path(place))
            rows["whole process"].append(seconds)
            rows["reading features"].append(reading(cache))
            for phase, spent in result["seconds"].items():
                rows.setdefault(phase, []).append(spent)
    images = sum(result["n"][subset] for subset in ("train", "val", "test"))
    tell("warm_refit", rows, "s", images=images, words=words, computed=result["features"]["computed"])


if __name__ == "__main__":
    main()

"""Is what the learning curve says of twice the images true, as often as its interval says?

python -m benchmarks.learning_curve DATA [--train 500,1000] [--val 300] [--draws 20]

A draw: some training and some validation images of DATA, stratified, as if they were all there is; the probe and its
learning curve on them; then the probe on those training images and as many others, which the curve had not seen. Both
are judged on all images that are left, many more than the validation images: their difference is the truth, but for
the error that is told beside it. Told are the share of draws whose interval holds the truth, what was said and what was
true on average, and the width.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.told import tell
from headway.advice.evidence import gather_evidence
from headway.advice.subsets import nested_order
from headway.data.dataset import Dataset
from headway.data.sources import load_dataset
from headway.evaluation.intervals import wilson
from headway.events import drain
from headway.features.extract import Features, extract
from headway.features.looking import Asked, get_ready
from headway.machine import cache_folder, usable_cores
from headway.training.probe import HeadSettings, Probe, ProbeData, probe


def looked_at(dataset: Dataset) -> tuple[Features, NDArray[np.intp]]:
    """Features of every image, from the user's cache or computed now, and which images have some."""
    every = np.arange(len(dataset), dtype=np.intp)
    with get_ready(dataset, every, Asked(), cache_folder()) as ready:
        features, contents = drain(extract(ready.readings, every, len(dataset), ready.store, ready.engine))
    return features, np.flatnonzero(contents.accepted & (dataset.labels >= 0))


def accuracy(found: Probe, features: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which rows of features the head gets right."""
    return np.asarray(found.head.logits(features).argmax(axis=1) == labels)


def one_draw(
    X: NDArray[np.float32], labels: NDArray[np.int32], sizes: tuple[int, int, int], seed: int
) -> tuple[float, float, float, float, float]:
    """What was said (gain, low, high), what was true, and the standard error of the truth.

    X  (N, D);  sizes  training images, validation images, images to judge on at most
    """
    n, n_val, n_judge = sizes
    order = nested_order(labels, np.random.default_rng(seed))
    first, val, more, rest = np.split(order, [n, n + n_val, 2 * n + n_val])
    data = ProbeData(lambda taps, rows: X[rows], labels, first, val, (("last", X.shape[1]),), int(labels.max()) + 1)
    settings = HeadSettings(taps="last")
    small = drain(probe(data, settings))
    curve = gather_evidence(data, small, seed=seed).curve
    assert curve is not None
    large = drain(probe(replace(data, train=np.concatenate([first, more])), settings))
    judge = rest[:n_judge]
    won = accuracy(large, X[judge], labels[judge]).astype(float) - accuracy(small, X[judge], labels[judge])
    return curve.gain, *curve.interval, float(won.mean()), float(won.std() / np.sqrt(len(won)))


def main() -> None:
    """Every size in turn; a line and a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", default="500,1000", help="training images of a draw, several with commas")
    parser.add_argument("--val", type=int, default=300, help="validation images of a draw")
    parser.add_argument("--judge", type=int, default=20_000, help="images at most that tell the truth")
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(usable_cores())
    dataset = load_dataset(asked.data)
    features, rows = looked_at(dataset)
    X, labels = features.columns(("last",), rows), dataset.labels[rows]
    table: dict[str, list[float]] = {}
    for n in map(int, asked.train.split(",")):
        start = time.perf_counter()
        found = np.array([one_draw(X, labels, (n, asked.val, asked.judge), seed) for seed in range(asked.draws)])
        said, low, high, true, error = found.T
        held = int(((low <= true) & (true <= high)).sum())
        ends = wilson(held / len(found), len(found))
        print(
            f"{n:,} images: the interval held the truth {held} of {len(found)} times [{ends[0]:.2f}, {ends[1]:.2f}]; "
            f"said {100 * said.mean():+.2f}, true {100 * true.mean():+.2f} points "
            f"(each known to {100 * error.mean():.2f}); "
            f"missed by {100 * np.abs(said - true).mean():.2f}; width {100 * (high - low).mean():.2f}; "
            f"below {int((true < low).sum())}, above {int((true > high).sum())}; "
            f"{(time.perf_counter() - start) / len(found):.1f} s a draw",
            flush=True,
        )
        table[f"{n} said"], table[f"{n} true"] = (100 * said).tolist(), (100 * true).tolist()
    tell("learning_curve", table, "points", data=dataset.name, val=asked.val)


if __name__ == "__main__":
    main()

"""The one pass, decode → network → store, against what the machine could give: images per second.

python -m benchmarks.pass_rate DATA [--backbone NAME] [--weights none] [--int8] [--taps last]
                               [--images 800] [--rounds 3]

In turn, in one process: the engine alone on images in memory, decoding alone, and the pass over files, nothing cached.
Cores that decode cannot run the network, so the pass can at best reach 1 / (1 / engine + 1 / decode): `share` is how
much of that it does reach. Above 1 it profits from one filling the other's gaps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.told import tell
from headway.backbones.engines import BATCH, Engine
from headway.backbones.quantise import IMAGES
from headway.data.dataset import Dataset
from headway.data.sources import load_dataset
from headway.events import drain
from headway.features.extract import extract
from headway.features.looking import Asked, Ready, get_ready, open_session, prepared_images
from headway.features.reading import Readings, ReadTask
from headway.features.scaling import open_scaler
from headway.features.store import open_store

SECONDS = 2.0  # of the engine alone


def rate(work: Callable[[], int]) -> float:
    """Images per second of `work`, which returns how many there were."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def engine_alone(engine: Engine, images: NDArray[np.uint8]) -> int:
    """Run batches that lie in memory for a while."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        engine.run(images)
        done += len(images)
    return done


def decode_alone(ready: Ready, indices: NDArray[np.intp], threads: int) -> int:
    """Read, decode and scale; the pass has as many threads as `ready.session`."""
    task = ReadTask(ready.dataset, ready.preprocess, scaler=open_scaler())
    with Readings(task, indices, threads=threads, ahead=4 * threads) as readings:
        return sum(1 for _ in readings)


def whole_pass(ready: Ready, indices: NDArray[np.intp], engine: Engine) -> int:
    """The pass as `headway fit` does it, into an empty store."""
    threads = ready.session.threads
    with tempfile.TemporaryDirectory() as place:
        store = open_store(Path(place), {"benchmark": "pass_rate"}, ready.trunk.taps)
        task = ReadTask(ready.dataset, ready.preprocess, None, store.holds, open_scaler())
        with Readings(task, indices, threads=threads, ahead=4 * threads) as readings:
            features, _ = drain(extract(readings, indices, len(ready.dataset), store, lambda: engine))
        return features.computed


@contextmanager
def opened(dataset: Dataset, asked: Asked, *, int8: bool = False) -> Iterator[Ready]:
    """The backbone, prepared in a cache that is thrown away; nothing of the dataset is looked at yet.

    int8  quantised by some images of the dataset, whatever they are: only speed is measured here
    """
    calibration = spread_over(dataset, IMAGES) if int8 else None
    with tempfile.TemporaryDirectory() as place:
        open_session(asked, Path(place)).trunk()
        with get_ready(dataset, np.zeros(0, np.intp), asked, Path(place), None, calibration) as ready:
            yield ready


def spread_over(dataset: Dataset, n: int) -> NDArray[np.intp]:
    """`n` samples (at most all), evenly spread over the dataset."""
    return np.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(np.intp)


def measured(dataset: Dataset, asked: Asked, n: int, rounds: int, *, int8: bool) -> dict[str, list[float]]:
    """Images per second of each kind, a value for each round."""
    indices = spread_over(dataset, n)
    rates: dict[str, list[float]] = {"engine alone": [], "decode alone": [], "pass": []}
    with opened(dataset, asked, int8=int8) as ready:
        engine = ready.engine()
        images = prepared_images(dataset, indices[:BATCH].tolist(), ready.preprocess)
        engine.run(images)
        for _ in range(rounds):
            rates["engine alone"].append(rate(lambda: engine_alone(engine, images)))
            rates["decode alone"].append(rate(lambda: decode_alone(ready, indices, ready.session.threads)))
            rates["pass"].append(rate(lambda: whole_pass(ready, indices, engine)))
    return rates


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=Asked.backbone)
    parser.add_argument("--weights")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--int8", action="store_true", help="the network in int8, in OpenVINO")
    parser.add_argument("--taps", default=Asked.taps, help="last: in int8 the network gives its last layer alone")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    asked = Asked(backbone=words.backbone, weights=words.weights, engine=words.engine, taps=words.taps)
    rates = measured(load_dataset(words.data), asked, words.images, words.rounds, int8=words.int8)
    engine, decode, passing = rates.values()
    shares = [p * (1 / e + 1 / d) for e, d, p in zip(engine, decode, passing, strict=True)]
    share = round(statistics.median(shares), 3)
    kind = "int8" if words.int8 else "fp32"
    print(f"{words.backbone} on {words.images} files of {words.data.name}, {kind}; share {share}")
    facts = {"backbone": words.backbone, "precision": kind, "taps": words.taps, "images": words.images}
    tell("pass_rate", rates, "images/s", **facts, share=share)


if __name__ == "__main__":
    main()

"""A network without a network: pooled means of image patches times a seeded matrix. Whole passes take milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.engines import BATCH
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import Tap
from headway.data.dataset import UNASSIGNED, Contents, Dataset
from headway.data.images import BadImage
from headway.events import Progress
from headway.features.extract import Features, extract
from headway.features.reading import Readings, ReadTask
from headway.features.store import Store, open_store
from headway.features.views import View

TAPS = (Tap("last", 5), Tap("stage1_mean", 3), Tap("stage1_std", 3))
OWN = Preprocess(16, 18, "crop", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SPEC: dict[str, Any] = {"backbone": "toy", "engine": {"name": "numpy"}, "preprocess": {"size": 16}, "view": None}


def features_of(image: NDArray[np.uint8], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """What the toy says of one image (S, S, 3)."""
    matrix = np.random.default_rng(seed).normal(size=(12, 5))
    half = image.shape[0] // 2
    patches = [image[:half, :half], image[:half, half:], image[half:, :half], image[half:, half:]]
    means = np.concatenate([patch.mean(axis=(0, 1), dtype=np.float64) for patch in patches])  # (12,)
    last = (means[:, None] * matrix).sum(axis=0)
    whole = image.reshape(-1, 3).astype(np.float64)
    parts = {"last": last, "stage1_mean": whole.mean(axis=0), "stage1_std": whole.std(axis=0)}
    return {tap: value.astype(np.float32) for tap, value in parts.items()}


class Toy:
    """An Engine. `calls` counts its batches; at number `stop_at` it raises `error` instead."""

    def __init__(self, seed: int = 0, stop_at: int | None = None, error: BaseException | None = None) -> None:
        self.seed, self.stop_at, self.error, self.calls = seed, stop_at, error, 0

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        assert images.shape == (BATCH, 16, 16, 3)
        if self.calls == self.stop_at and self.error is not None:
            raise self.error
        self.calls += 1
        rows = [features_of(image, self.seed) for image in images]
        return {tap.name: np.stack([row[tap.name] for row in rows]) for tap in TAPS}


class Memory:
    """A Source of files that lie in memory; None = the file has vanished. It counts what is read."""

    def __init__(self, contents: Sequence[bytes | NDArray[np.uint8] | None]) -> None:
        self.contents, self.reads, self._lock = list(contents), 0, threading.Lock()

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        with self._lock:
            self.reads += 1
        content = self.contents[index]
        if content is None:
            raise BadImage(f"{index}", "does not exist")
        return content


def dataset(contents: Sequence[bytes | NDArray[np.uint8] | None]) -> Dataset:
    n = len(contents)
    return Dataset(
        name="memory",
        kind="folders",
        names=[f"{index:04d}.png" for index in range(n)],
        labels=np.zeros(n, np.int32),
        given=np.full(n, UNASSIGNED, np.int8),
        groups=None,
        classes=("a",),
        source=Memory(contents),
    )


def a_pass(
    data: Dataset,
    store: Store,
    engine: Callable[[], Toy] | Toy | None = None,
    *,
    preprocess: Preprocess = OWN,
    view: View | None = None,
    indices: NDArray[np.intp] | None = None,
    threads: int = 2,
) -> Generator[Progress, None, tuple[Features, Contents]]:
    """The generator of one pass over `data`; its value is (Features, Contents)."""
    wanted = np.arange(len(data), dtype=np.intp) if indices is None else indices
    known = engine if engine is not None else Toy()
    open_engine: Callable[[], Toy] = (lambda: known) if isinstance(known, Toy) else known
    task = ReadTask(data, preprocess, view, store.holds)
    with Readings(task, wanted, threads=threads, ahead=4) as readings:
        return (yield from extract(readings, wanted, len(data), store, open_engine))


def run(
    data: Dataset, cache: Path, engine: Callable[[], Toy] | Toy | None = None, **options: Any
) -> tuple[Features, Contents]:
    """One whole pass over `data`, with the store of this cache folder."""
    store = options.pop("store") if "store" in options else open_store(cache, SPEC, TAPS)
    going = a_pass(data, store, engine, **options)
    while True:
        try:
            next(going)
        except StopIteration as end:
            found: tuple[Features, Contents] = end.value
            return found


def all_columns(features: Features) -> NDArray[np.float32]:
    """Every column of every accepted sample, in the dataset's order."""
    accepted = np.flatnonzero(features.positions >= 0)
    return features.columns([tap.name for tap in TAPS], accepted)

"""The one pass: decode → engine → store, overlapped. What comes back is read from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headway.backbones.engines import BATCH, Engine, Overlapping
from headway.backbones.trunk import Tap
from headway.data.dataset import Contents
from headway.errors import HeadwayError
from headway.events import Progress
from headway.features.reading import Reading, Readings
from headway.features.store import Row, Store
from headway.machine import memory_bytes

Outputs = Mapping[str, NDArray[np.float32]]

SHARD_ROWS = 1024
_HELD = 1 << 30  # bytes of features that stay in memory at the most, and
_HELD_SHARE = 16  # of the machine's memory, one part in so many
SHARD_SECONDS = 10.0


@dataclass(frozen=True)
class Features:
    """Features of the accepted samples of a dataset, in a store.

    positions  (N,) int64 row of each sample in the store, -1 where it was set aside
    computed   forward passes that this pass cost;  reused  accepted samples that cost none
    seconds    from the first read to the last committed shard
    """

    store: Store
    positions: NDArray[np.int64]
    computed: int
    reused: int
    seconds: float
    _held: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def taps(self) -> tuple[Tap, ...]:
        return self.store.taps

    def columns(self, taps: Sequence[str], indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """(n, D) float32: the columns of `taps`, side by side, of the samples `indices` (accepted ones).

        Few enough stay in memory once they are read, as a run asks for them a dozen times and more.
        """
        dims = sum(tap.dim for tap in self.taps if tap.name in {*taps, *self._held})
        if 4 * len(self.positions) * dims > min(_HELD, (memory_bytes() or _HELD) // _HELD_SHARE):
            return self.store.columns(taps, self.positions[indices])
        accepted = np.flatnonzero(self.positions >= 0)
        for tap in self.taps:
            if tap.name in taps and tap.name not in self._held:
                held = self.store.columns((tap.name,), self.positions[accepted])
                if len(accepted) < len(self.positions):
                    some, held = held, np.zeros((len(self.positions), tap.dim), np.float32)
                    held[accepted] = some
                self._held[tap.name] = held
        found = [self._held[name][indices] for name in taps]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    @property
    def images_per_second(self) -> float | None:
        return round(self.computed / self.seconds, 1) if self.computed and self.seconds > 0 else None


@dataclass
class _Pass:
    """What is under way in one pass: a batch that fills, a shard that fills."""

    store: Store
    open_engine: Callable[[], Engine]
    batch: list[Reading]
    rows: list[Row]
    opened: float
    size: int = BATCH
    engine: Engine | None = None
    begun: tuple[list[Reading], Callable[[], Outputs]] | None = None
    computed: int = 0
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "headway-write"))
    writing: Future[None] | None = None

    def take(self, reading: Reading) -> None:
        if reading.image is None:
            self._keep(Row(_digest(reading), reading.reason, reading.pixels, *reading.size, None))
            return
        self.batch.append(reading)
        if len(self.batch) == self.size:
            self.run()

    def run(self) -> None:
        """Look at the batch; where the engine can, the answer to the one before is only asked for afterwards."""
        if not self.batch:
            return
        images = np.empty((self.size, *_image(self.batch[0]).shape), np.uint8)
        images[len(self.batch) :] = 0  # the tail of a last batch
        for position, reading in enumerate(self.batch):
            images[position] = _image(reading)
        if self.engine is None:
            self.engine = self.open_engine()
        looked, self.batch = self.batch, []
        if isinstance(self.engine, Overlapping):
            answer = self.engine.start(images)
            self.answer()
            self.begun = (looked, answer)
        else:
            self._take(looked, self.engine.run(images))

    def answer(self) -> None:
        """Take the answer that is still to come, if there is one."""
        if self.begun is not None:
            (looked, answer), self.begun = self.begun, None
            self._take(looked, answer())

    def _take(self, looked: list[Reading], outputs: Outputs) -> None:
        for position, reading in enumerate(looked):
            values = {tap: output[position] for tap, output in outputs.items()}
            self._keep(Row(_digest(reading), "", reading.pixels, *reading.size, values, reading.descriptor))
        self.computed += len(looked)

    def _keep(self, row: Row) -> None:
        if not self.rows:
            self.opened = time.monotonic()
        self.rows.append(row)
        if len(self.rows) >= SHARD_ROWS or time.monotonic() - self.opened >= SHARD_SECONDS:
            self.close()

    def close(self) -> None:
        """Hand the shard that fills to the writing thread; at most one is being written."""
        self.wait()
        self.writing = self.writer.submit(self.store.add, self.rows)
        self.rows = []

    def wait(self) -> None:
        """Until what was handed over is on the disk. Raises what writing it raised."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def finish(self) -> None:
        """Close the open shard and end the thread, whatever went before."""
        try:
            self.close()
            self.wait()
        finally:
            self.writer.shutdown()


def extract(
    readings: Readings,
    indices: NDArray[np.intp],
    n_samples: int,
    store: Store,
    open_engine: Callable[[], Engine],
    batch: int = BATCH,
) -> Generator[Progress, None, tuple[Features, Contents]]:
    """Run the network once over every content that the store does not hold.

    readings     of the samples `indices`, in that order;  n_samples  N of the whole dataset
    open_engine  called on the first images that need it;  batch  how many it always sees at a time

    Yields Progress while it works; returns (Features, Contents) of all N samples. Interrupted, it keeps what it
    has: rows of the open shard are written before the exception goes on.
    """
    start = time.perf_counter()
    digests = np.zeros((n_samples, 32), np.uint8)
    unread: dict[int, str] = {}
    seen: set[bytes] = set()
    set_aside = done = 0
    run = _Pass(store, open_engine, [], [], time.monotonic(), batch)
    try:
        for reading in readings:
            done += 1
            set_aside += bool(reading.reason)
            if reading.digest is None:
                unread[reading.index] = reading.reason
            else:
                digests[reading.index] = np.frombuffer(reading.digest, np.uint8)
                if reading.digest not in seen:
                    seen.add(reading.digest)
                    if not reading.known and not store.holds(reading.digest):
                        run.take(reading)
            if done % BATCH == 0:
                yield Progress("features", done, len(indices), set_aside)
        run.run()
        run.answer()
    finally:
        run.finish()
    yield Progress("features", done, len(indices), set_aside)
    seconds = time.perf_counter() - start
    store.refresh()
    contents, positions = _contents(store, digests, indices, unread)
    reused = int(contents.accepted.sum()) - run.computed
    return Features(store, positions, run.computed, reused, seconds), contents


def _contents(
    store: Store, digests: NDArray[np.uint8], indices: NDArray[np.intp], unread: dict[int, str]
) -> tuple[Contents, NDArray[np.int64]]:
    n = len(digests)
    rows = np.full(n, -1, np.int64)
    readable = np.array([index for index in indices.tolist() if index not in unread], np.intp)
    rows[readable] = store.find(digests[readable])
    accepted, reasons = np.zeros(n, bool), dict(unread)
    pixels, sizes = np.zeros((n, 32), np.uint8), np.zeros((n, 2), np.int32)
    if len(readable):
        at = rows[readable]
        if (at < 0).any():
            raise HeadwayError(f"features that were just written cannot be read back from {store.folder}. Start again.")
        accepted[readable] = store.facts("accepted")[at]
        pixels[readable] = store.facts("pixels")[at]
        sizes[readable] = np.stack([store.facts("width")[at], store.facts("height")[at]], axis=1)
        why = store.facts("reason")
        reasons.update({int(index): str(why[rows[index]]) for index in readable if not accepted[index]})
    positions = np.where(accepted, rows, -1)
    return Contents(accepted, reasons, digests, pixels, sizes), positions


def _digest(reading: Reading) -> bytes:
    assert reading.digest is not None  # a sample that could not be read never gets here
    return reading.digest


def _image(reading: Reading) -> NDArray[np.uint8]:
    assert reading.image is not None
    return reading.image

"""Read and decode samples in threads, ahead of the network that will look at them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess, scaled_box
from headway.data.dataset import Dataset, FarSource
from headway.data.descriptors import describe, pixel_digest
from headway.data.images import BadImage, decode
from headway.features.scaling import Scaler
from headway.features.views import View, prepare_view, shortest_side

CHUNK = 32  # samples one task reads
_FETCHING = 8  # chunks that may be under way from another machine beside those that are decoded

Fetched = Sequence[bytes | NDArray[np.uint8] | BadImage]


@dataclass(frozen=True)
class Reading:
    """One sample as read. `image` (S, S, 3) uint8 where it was decoded; None for known content and damaged files.

    digest  sha256 of the content; None where the file could not even be read
    reason  "" or why it is set aside
    descriptor  of its pixels (`data.descriptors`); empty under a view, which shows another picture
    """

    index: int
    digest: bytes | None
    reason: str = ""
    image: NDArray[np.uint8] | None = None
    pixels: bytes = bytes(32)
    size: tuple[int, int] = (0, 0)
    descriptor: bytes = b""

    @property
    def known(self) -> bool:
        """Whether the content was seen before: nothing was decoded."""
        return self.image is None and not self.reason


@dataclass(frozen=True)
class ReadTask:
    """What every reading thread needs: the samples, how to prepare them, and which contents need no decoding."""

    dataset: Dataset
    preprocess: Preprocess
    view: View | None = None
    known: Callable[[bytes], bool] = lambda digest: False
    scaler: Scaler | None = None  # what scales as Pillow does, faster; None = Pillow

    def __call__(self, indices: Sequence[int], fetched: Fetched | None = None) -> list[Reading]:
        """fetched: what `fetch` gave for them; None = they are read here, one by one."""
        return [self._read(index, None if fetched is None else fetched[at]) for at, index in enumerate(indices)]

    def fetch(self, indices: Sequence[int]) -> Fetched | None:
        """The contents of samples that lie on another machine; None of those that lie on this one."""
        source = self.dataset.source
        return source.fetch(indices) if isinstance(source, FarSource) else None

    def _read(self, index: int, fetched: bytes | NDArray[np.uint8] | BadImage | None) -> Reading:
        try:
            if isinstance(fetched, BadImage):
                raise fetched
            content = self.dataset.source.read(index) if fetched is None else fetched
        except BadImage as error:
            return Reading(index, None, error.reason)
        except OSError as error:
            return Reading(index, None, f"cannot be read: {error.strerror or type(error).__name__}")
        digest = content_digest(content)
        if self.known(digest):
            return Reading(index, digest)
        try:
            decoded = decode(content, self.dataset.names[index], shortest=shortest_side(self.preprocess, self.view))
        except BadImage as error:
            # Too little memory says something about this moment, nothing about the content: not to be kept.
            passing = isinstance(error.__cause__, MemoryError)
            return Reading(index, None if passing else digest, error.reason)
        try:
            pixels = np.asarray(decoded.image)  # (H, W, 3)
            image = self._prepared(decoded.image, pixels, digest)
            descriptor = describe(decoded.image) if self.view is None else b""
        except MemoryError:
            return Reading(index, None, "not enough memory to scale it")
        return Reading(index, digest, "", image, pixel_digest(pixels), decoded.size, descriptor)

    def _prepared(self, image: Image.Image, pixels: NDArray[np.uint8], digest: bytes) -> NDArray[np.uint8]:
        """The network's input (S, S, 3) uint8 of a decoded image, and of its pixels: the same."""
        side, box = self.preprocess.size, scaled_box(image.size, self.preprocess)
        if self.scaler is None or self.view is not None or box is None:
            return prepare_view(image, self.preprocess, self.view, digest)
        return self.scaler(pixels, box, (side, side), self.preprocess.interpolation)


def content_digest(content: bytes | NDArray[np.uint8]) -> bytes:
    """sha256 of a file's bytes, or of an array's shape and pixels; 32 bytes."""
    if isinstance(content, np.ndarray):
        return hashlib.sha256(repr(content.shape).encode() + np.ascontiguousarray(content).data).digest()
    return hashlib.sha256(content).digest()


class Readings:
    """Readings of the samples `indices`, in their order, at most `ahead` chunks decoded before they are asked for.

    Reading starts at once; until the first reading is asked for, one of the `threads` is left to other work (there
    is some: the network is being prepared). Use as a context manager: leaving it stops the threads.

    Samples on another machine are waited for by threads beyond `threads`, which hold no turn while they wait.

    light  most contents are small and known: the caller reads them itself, until one has to be decoded. Threads that
           take turns at the interpreter for each of them, and it with them, are several times slower
    """

    def __init__(
        self, task: ReadTask, indices: NDArray[np.intp], *, threads: int, ahead: int, light: bool = False
    ) -> None:
        self._task, self._ahead, self._light = task, ahead, light
        self._turns = Semaphore(max(1, threads - 1))
        self._held_back = threads - max(1, threads - 1)
        waiting = _FETCHING if isinstance(task.dataset.source, FarSource) else 0
        self._pool = ThreadPoolExecutor(threads + waiting, thread_name_prefix="headway-read")
        self._chunks = iter([indices[start : start + CHUNK].tolist() for start in range(0, len(indices), CHUNK)])
        self._waiting: deque[Future[list[Reading]]] = deque()
        if not light:
            self._begin()

    def _begin(self) -> None:
        for _ in range(self._ahead):
            self._submit()

    def _submit(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is not None:
            self._waiting.append(self._pool.submit(self._in_turn, chunk))

    def _in_turn(self, chunk: list[int]) -> list[Reading]:
        fetched = self._task.fetch(chunk)
        with self._turns:
            return self._task(chunk, fetched)

    def __iter__(self) -> Iterator[Reading]:
        if self._light:
            yield from self._read_here()
            self._begin()
        if self._held_back:
            self._turns.release(self._held_back)
            self._held_back = 0
        while self._waiting:
            readings = self._waiting.popleft().result()
            self._submit()
            yield from readings

    def _read_here(self) -> Iterator[Reading]:
        """Readings up to the end of the first chunk that is not known."""
        for chunk in self._chunks:
            readings = self._task(chunk)
            yield from readings
            if not all(reading.known for reading in readings):
                return

    def first(self, n: int) -> list[NDArray[np.uint8]]:
        """Up to `n` decoded images from the readings already under way; they will be given again."""
        images: list[NDArray[np.uint8]] = []
        for future in list(self._waiting):
            images += [reading.image for reading in future.result() if reading.image is not None]
            if len(images) >= n:
                break
        return images[:n]

    def __enter__(self) -> Readings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

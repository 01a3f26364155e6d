"""Feeds: where the batches of training and validation come from. The order is kept, threads work ahead.

A feed gives the same bits whatever the number of its threads, and whether images lie in memory or on the disk.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from headway.backbones.preprocess import Preprocess, prepare
from headway.data.dataset import Dataset
from headway.data.images import BadImage, decode
from headway.data.wording import shown
from headway.errors import HeadwayError
from headway.events import Progress
from headway.features.reading import content_digest
from headway.training.augment import Augment, augmented, flipped, sample_generator, stream_of
from headway.training.task import Feed

_PLAIN = Augment("none")
_PIECE = 8  # images that a thread makes before it takes the next piece
_AHEAD = 3  # batches under way, the one that is waited for among them
_HELD_PIECE = 64
_SAID_EVERY = 0.1  # seconds between two words on progress
_SHARE = 4  # images in memory take at most one part in so many of what is free

Maker = Callable[[int], NDArray[np.uint8]]  # position → (S, S, 3)


def from_memory(
    images: NDArray[np.uint8],
    keys: NDArray[np.uint64],
    augment: Augment,
    seed: int,
    workers: int,
    *,
    preprocess: Preprocess | None = None,
) -> Feed:
    """A feed of prepared images (N, S, S, 3) uint8 in memory; it gives (b, S, S, 3) uint8.

    keys        (N,), of each sample: what its random changes depend on, beside seed and epoch
    preprocess  of the images: crops are scaled as it says, its mean colour erases. Only those two need it

    Equal to `from_disk` bit for bit; with crops, only where the prepared image is the whole one (`keeps_whole`).
    """
    if preprocess is None and (augment.crops or augment.erase):
        raise ValueError("crops and erasing need the preprocess of the images")
    # The images are what `prepare` made: it must not be done again.
    held = None if preprocess is None else replace(preprocess, fit="squash", resize=None)

    def feed(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        used, stream = augment if epoch else _PLAIN, stream_of(seed, epoch)
        if held is not None and (used.crops or used.erase):

            def make(position: int) -> NDArray[np.uint8]:
                return augmented(images[position], used, held, sample_generator(stream, int(keys[position])))

            yield from _made(make, images.shape[1], batches, workers, computes=used.computes)
            return
        for positions in batches:
            batch = np.take(images, positions, axis=0)
            if used.kind == "flip":
                mirrored = flipped(stream, keys[positions])
                batch[mirrored] = batch[mirrored, :, ::-1]
            yield torch.from_numpy(batch)

    return feed


def from_disk(
    dataset: Dataset,
    indices: NDArray[np.intp],
    preprocess: Preprocess,
    keys: NDArray[np.uint64],
    augment: Augment,
    seed: int,
    workers: int,
) -> Feed:
    """A feed that reads, decodes and prepares the samples `indices` (N,) anew each time; it gives (b, S, S, 3) uint8.

    keys     (N,), the first 8 bytes of each sample's content digest
    workers  threads; 0 = none, the caller does the work

    Its iterator raises HeadwayError where a file cannot be read any more, or is another one than it was.
    """

    def feed(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        used, stream = augment if epoch else _PLAIN, stream_of(seed, epoch)
        shortest = used.shortest(preprocess)

        def make(position: int) -> NDArray[np.uint8]:
            index, key = int(indices[position]), int(keys[position])
            image = _decoded(dataset, index, _read(dataset, index, key), shortest)
            with _scaling(dataset, index):
                if not used.changes:
                    return prepare(image, preprocess)
                return augmented(image, used, preprocess, sample_generator(stream, key))

        return _made(make, preprocess.size, batches, workers, computes=used.computes)

    return feed


def from_features(X: NDArray[np.float32]) -> Feed:
    """A feed of rows (N, D) in memory; it gives (b, D) float32."""

    def feed(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        for positions in batches:
            yield torch.from_numpy(np.take(X, positions, axis=0))

    return feed


def hold_images(
    dataset: Dataset, indices: NDArray[np.intp], preprocess: Preprocess, threads: int
) -> Generator[Progress, None, NDArray[np.uint8]]:
    """Prepare the samples `indices` (N,) and keep them in memory: (N, S, S, 3) uint8.

    Raises HeadwayError where a file cannot be read any more.
    """
    n, size = len(indices), preprocess.size
    images = np.empty((n, size, size, 3), np.uint8)
    as_is = (size, size, 3) if keeps_whole(preprocess) else ()

    def make(position: int) -> NDArray[np.uint8]:
        index = int(indices[position])
        content = _read(dataset, index)
        if isinstance(content, np.ndarray) and content.shape == as_is and content.dtype == np.uint8:
            return content  # nothing to scale: 50,000 images of CIFAR are there in a second
        with _scaling(dataset, index):
            return prepare(_decoded(dataset, index, content, preprocess.draft), preprocess)

    said = time.monotonic()
    starts = range(0, n, _HELD_PIECE)
    pieces = [np.arange(start, min(start + _HELD_PIECE, n)) for start in starts]
    with closing(_made(make, size, pieces, threads)) as made:
        for start, batch in zip(starts, made, strict=True):
            images[start : start + len(batch)] = batch.numpy()
            if time.monotonic() - said >= _SAID_EVERY and start + len(batch) < n:
                yield Progress("images", start + len(batch), n)
                said = time.monotonic()
    yield Progress("images", n, n)
    return images


def keeps_whole(preprocess: Preprocess) -> bool:
    """Whether `prepare` gives an image that has the input's size already as it is."""
    return preprocess.fit != "crop" or preprocess.resize is None or preprocess.resize <= preprocess.size


def fits_in_memory(n: int, size: int) -> bool:
    """Whether `n` images (size, size, 3) uint8 take at most a quarter of the memory that is free for this process."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun tells how many processes this machine has
    return n * size * size * 3 * _SHARE * beside <= free_memory()


def free_memory() -> int:
    """Bytes of memory that the system and this process's container have left; 0 where the system does not tell."""
    limits = []
    with suppress(OSError, ValueError):  # not Linux, or no such limit
        with Path("/proc/meminfo").open(encoding="ascii") as stream:
            found = next((line for line in stream if line.startswith("MemAvailable:")), None)
        if found is not None:
            limits.append(int(found.split()[1]) << 10)
        group = Path("/sys/fs/cgroup")  # version 2: the limit of a container
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            limits.append(max(0, int(limit) - int((group / "memory.current").read_text())))
    if not limits:
        try:
            # macOS tells what it has, not what is free: half of it is a guess on the safe side.
            limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        except (AttributeError, ValueError, OSError):
            return 0
    return min(limits)


def _made(
    make: Maker, size: int, batches: Sequence[NDArray[np.intp]], workers: int, *, computes: bool = False
) -> Generator[Tensor, None, None]:
    """Each batch (b, size, size, 3) uint8 of what `make` makes of its positions, in their order.

    Threads take small pieces, so that all of them work on the batch that is waited for. They end with this generator,
    however it ends, after at most one image each.

    computes  whether `make` computes with torch: each thread then does so alone
    """
    if workers < 1:
        for positions in batches:
            batch = np.empty((len(positions), size, size, 3), np.uint8)
            with _alone() if computes else nullcontext():
                for row, position in enumerate(positions.tolist()):
                    batch[row] = make(position)
            yield torch.from_numpy(batch)
        return
    left, threads = Event(), torch.get_num_threads()

    def fill(rows: NDArray[np.uint8], positions: Sequence[int]) -> None:
        for row, position in zip(rows, positions, strict=True):
            if left.is_set():
                return
            row[:] = make(position)

    def start(positions: NDArray[np.intp]) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        batch, pieces = np.empty((len(positions), size, size, 3), np.uint8), range(0, len(positions), _PIECE)
        each = [(batch[at : at + _PIECE], positions[at : at + _PIECE].tolist()) for at in pieces]
        return batch, [pool.submit(fill, *piece) for piece in each]

    waiting = iter(batches)
    prepare_thread = partial(_stay_alone, threads) if computes else None
    with ThreadPoolExecutor(workers, thread_name_prefix="headway-feed", initializer=prepare_thread) as pool:
        try:
            under_way = deque(start(positions) for positions in islice(waiting, _AHEAD))
            while under_way:
                batch, parts = under_way.popleft()
                for part in parts:
                    part.result()
                under_way.extend(start(positions) for positions in islice(waiting, 1))
                yield torch.from_numpy(batch)
        finally:
            left.set()
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Inside the block torch computes in one thread.

    More would wait for each other longer than they work, on images this small; and means over an image have other
    last bits where more threads share it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stay_alone(threads: int) -> None:
    """From now on torch computes in the calling thread alone; threads that begin later have `threads`, as before.

    torch sets two things at once: the number of this thread, and the one that new threads begin with. A thread that
    ends at once puts the latter back.
    """
    torch.get_num_threads()  # asked first: what was set before a thread's first question is forgotten
    torch.set_num_threads(1)
    back = Thread(target=torch.set_num_threads, args=(threads,))
    back.start()
    back.join()


def _read(dataset: Dataset, index: int, key: int | None = None) -> bytes | NDArray[np.uint8]:
    """The content of a sample. `key`: the first 8 bytes of what its digest was."""
    try:
        content = dataset.source.read(index)
    except BadImage as error:
        raise _lost(dataset.names[index], error.reason) from error
    except OSError as error:
        raise _lost(dataset.names[index], f"cannot be read: {error.strerror or type(error).__name__}") from error
    if key is not None and np.frombuffer(content_digest(content)[:8], np.uint64)[0] != key:
        raise _lost(dataset.names[index], "its content is another one")
    return content


def _decoded(dataset: Dataset, index: int, content: bytes | NDArray[np.uint8], shortest: int) -> Image.Image:
    try:
        return decode(content, dataset.names[index], shortest=shortest).image
    except BadImage as error:
        raise _lost(dataset.names[index], error.reason) from error


@contextmanager
def _scaling(dataset: Dataset, index: int) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise _lost(dataset.names[index], "not enough memory to scale it") from error


def _lost(name: str, reason: str) -> HeadwayError:
    """No other image takes its place: what was trained would depend on which it was."""
    return HeadwayError(
        f"{shown(name)} could be used when this run looked through the images, and cannot be used any more: {reason}. "
        "Put it back as it was and go on with the same run, or start a new one without it"
    )

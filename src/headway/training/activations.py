"""Activations of a frozen front: run once over the images, kept on the disk, read back row by row."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor, nn

from headway import files
from headway.errors import HeadwayError, Stopped
from headway.events import Progress
from headway.training.task import Feed

BATCH = 32  # images the front looks at together, the last ones filled up: its bits depend on their number
_CHUNK_BYTES = 64 << 20
_MOST_CHUNKS = 256  # of all views: each stays open while training reads them
_SAID_EVERY = 0.5
_SPARE = 1 << 30  # bytes that stay free on the disk
_INDEX = "activations.json"


@dataclass(frozen=True)
class _Plan:
    """What is kept and where.

    views  epochs of the feed whose images are shown; 0 = the plain ones
    rows   images a chunk, whole batches;  shape  of one activation
    """

    folder: Path
    key: str
    n: int
    views: tuple[int, ...]
    rows: int
    shape: tuple[int, ...]

    @property
    def starts(self) -> range:
        return range(0, self.n, self.rows)

    @property
    def bytes_of_row(self) -> int:
        return 4 * int(np.prod(self.shape))

    def length(self, start: int) -> int:
        return min(self.rows, self.n - start)

    def path(self, view: int, start: int) -> Path:
        return self.folder / f"view{view}-{start:09d}.npy"

    def index(self, made: dict[str, str]) -> dict[str, Any]:
        shape, views = list(self.shape), list(self.views)
        return {"key": self.key, "n": self.n, "views": views, "rows": self.rows, "shape": shape, "made": made}


def cut_activations(
    front: nn.Module, feed: Feed, n: int, folder: Path, n_views: int = 0, *, key: str = ""
) -> Generator[Progress, None, Feed]:
    """Run the frozen `front` once over `n` samples; returns a feed of its activations (b, ...) float32.

    front    images → activations; it runs in eval mode, without gradients
    feed     of its images: epoch 0, the plain ones, or epochs 1..n_views, K changed ones of each
    folder   for .npy files, each whole and proved by its digest. Those of an earlier start under the same `key` stand,
             so an interrupted pass goes on; those of another key are removed
    n_views  K > 0: epoch e reads view 1 + (e - 1) % K, and epoch 0 nothing. 0: every epoch reads the plain images

    Same bits whatever interrupts it. Raises Stopped, before anything is written, where the disk has too little room.
    """
    views = tuple(range(1, n_views + 1)) or (0,)
    work = _Work(folder, key, n, views)
    work.find()
    mode = front.training
    front.eval()
    try:
        done, total, said = 0, n * len(views), -math.inf
        for view in views:
            for done in work.fill(front, feed, view):
                if done == total or time.monotonic() - said >= _SAID_EVERY:
                    said = time.monotonic()
                    yield Progress("activations", done, total)
    finally:
        front.train(mode)
    if done != total:
        yield Progress("activations", total, total)  # it was all there
    return _reading(work.planned(), n_views)


class _Work:
    """The pass under way: which chunks there are, and the plan, known as soon as the front gave its first answer."""

    def __init__(self, folder: Path, key: str, n: int, views: tuple[int, ...]) -> None:
        self.folder, self.key, self.n, self.views = folder, key, n, views
        self.plan: _Plan | None = None
        self.made: dict[str, str] = {}

    def planned(self) -> _Plan:
        if self.plan is None:
            raise HeadwayError("there are no images to run the frozen part of the network on")
        return self.plan

    def find(self) -> None:
        """Take over what an earlier start of the same work left whole."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # none, or damaged: begun anew
            found = files.read_json(self.folder / _INDEX)
            plan = _Plan(self.folder, self.key, self.n, self.views, int(found["rows"]), tuple(found["shape"]))
            if found != plan.index(found["made"]):
                return
            self.plan = plan
            self.made = {
                path.name: found["made"][path.name]
                for view in self.views
                for start in plan.starts
                if _whole(path := plan.path(view, start), plan, start, found["made"])
            }

    def fill(self, front: nn.Module, feed: Feed, view: int) -> Iterator[int]:
        """Make what is missing of a view; yields how many activations there are of all."""
        starts = [at for at in range(0, self.n, BATCH) if not self._has(view, at)]
        if not starts:
            return
        parts = [np.arange(at, min(at + BATCH, self.n), dtype=np.intp) for at in starts]
        chunk = np.empty((0,), np.float32)
        with contextlib.closing(_blocks(front, feed, parts, view)) as blocks:
            for part, block in zip(parts, blocks, strict=True):
                plan = self.plan or self._begin(block.shape[1:])
                start = int(part[0]) // plan.rows * plan.rows
                if part[0] == start:
                    chunk = np.empty((plan.length(start), *plan.shape), np.float32)
                chunk[part - start] = block
                if part[-1] + 1 == start + len(chunk):
                    path = plan.path(view, start)
                    _write(path, chunk)
                    self.made[path.name] = _digest(chunk)
                    files.write_json(self.folder / _INDEX, plan.index(self.made))
                    yield self._count()
                else:
                    yield self._count() + int(part[-1]) + 1 - start

    def _has(self, view: int, at: int) -> bool:
        plan = self.plan
        return plan is not None and plan.path(view, at // plan.rows * plan.rows).name in self.made

    def _count(self) -> int:
        plan = self.planned()
        return sum(plan.length(start) for view in self.views for start in plan.starts if self._has(view, start))

    def _begin(self, shape: tuple[int, ...]) -> _Plan:
        """Decide on chunks and make room, now that it is known what one activation takes."""
        row = 4 * int(np.prod(shape))
        rows = max(_CHUNK_BYTES // row, self.n * len(self.views) // _MOST_CHUNKS) // BATCH * BATCH
        plan = _Plan(self.folder, self.key, self.n, self.views, max(BATCH, rows), tuple(shape))
        _check_room(plan)
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in (*self.folder.glob("view*.npy"), *self.folder.glob(".view*.tmp"), self.folder / _INDEX):
            old.unlink(missing_ok=True)
        self.plan = plan
        return plan


def _whole(path: Path, plan: _Plan, start: int, made: dict[str, str]) -> bool:
    """Whether a chunk stands as it was written."""
    try:
        chunk = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    fits = chunk.shape == (plan.length(start), *plan.shape) and chunk.dtype == np.float32
    return fits and _digest(chunk) == made.get(path.name)


def _check_room(plan: _Plan) -> None:
    wanted = plan.bytes_of_row * plan.n * len(plan.views)
    place = next(parent for parent in (plan.folder, *plan.folder.parents) if parent.exists())
    free = max(0, shutil.disk_usage(place).free - _SPARE)
    if wanted > free:
        raise Stopped(
            f"what the frozen part of the network gives needs {wanted / 1e9:.1f} GB in {plan.folder}, where "
            f"{free / 1e9:.1f} GB are free. Make room and go on, or need less: train fewer stages (a smaller --thaw), "
            "take fewer --views, or --augment crop without --views, which keeps nothing"
        )


def _blocks(
    front: nn.Module, feed: Feed, parts: Sequence[NDArray[np.intp]], view: int
) -> Generator[NDArray[np.float32], None, None]:
    """The front's output for each array of positions, always of a full batch, cut to what counts."""
    shown, first = feed(parts, view), next(front.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    try:
        for part, images in zip(parts, shown, strict=True):
            full = torch.cat([images, images[:1].expand(BATCH - len(part), *images.shape[1:])])
            with torch.no_grad():
                given: Tensor = front(full.to(device))[: len(part)]
            block: NDArray[np.float32] = given.float().cpu().contiguous().numpy()
            yield block
    finally:
        if isinstance(shown, Generator):
            shown.close()  # its threads end with it


def _write(path: Path, chunk: NDArray[np.float32]) -> None:
    """Whole or not at all."""
    stream = io.BytesIO()
    np.save(stream, chunk, allow_pickle=False)
    files.write_bytes(path, stream.getvalue())


def _digest(chunk: NDArray[np.float32]) -> str:
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(chunk).data)


def _reading(plan: _Plan, n_views: int) -> Feed:
    """A feed over the chunks; they are mapped, so memory holds only what the system keeps of them."""
    chunks = {view: [_mapped(plan.path(view, start)) for start in plan.starts] for view in plan.views}

    def feed(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        if n_views and not epoch:
            raise ValueError("epoch 0 of activations that are kept of augmented images only")
        own = chunks[1 + (epoch - 1) % n_views if n_views else 0]
        for positions in batches:
            batch = np.empty((len(positions), *plan.shape), np.float32)
            of = positions // plan.rows
            for number in np.unique(of):
                rows = np.flatnonzero(of == number)
                batch[rows] = own[number][positions[rows] - number * plan.rows]
            yield torch.from_numpy(batch)

    return feed


def _mapped(path: Path) -> NDArray[np.float32]:
    try:
        found: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise HeadwayError(f"{path} was written a moment ago and cannot be read. Start again.") from error
    return found

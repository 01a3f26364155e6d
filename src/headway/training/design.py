"""The features that a linear head is solved on: in memory, or in a file that is read block by block.

Where they would take more than a quarter of the machine's memory they are written once, in the order of the rows, to a
scratch file without a name: the system frees it however the process ends, SIGKILL included. Blocks are read into two
buffers, one ahead of the work, and not mapped: pages of a map would count as this process's memory. Both ways give the
same blocks, so the same work is done on the same numbers.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.errors import HeadwayError

SHARE = 4  # features up to the SHARE-th part of memory stay in it
_FEW = 256  # rows
_BLOCK = 1 << 24  # numbers of a block and of its logits, 64 MB: with smaller ones threads wait for each other more
_SPARE = 1 << 30  # bytes of the disk that are left to others

Features = NDArray[np.floating[Any]]
Read = Callable[[NDArray[np.intp]], NDArray[np.float32]]  # indices (n,) → their features (n, D)


def fits(n_bytes: int, memory: int | None) -> bool:
    """Whether so many bytes of features stay in a memory of `memory` bytes (None = unknown: they do)."""
    return memory is None or n_bytes * SHARE <= memory


@dataclass(frozen=True)
class Scratch:
    """Rows (N, D) float32 in a file without a name."""

    file: FileIO
    n: int
    dim: int

    def read(self, low: int, high: int, step: int = 1, out: Tensor | None = None) -> Tensor:
        """Rows low, low + step, ... below high; `out` is where they go, or None = a new place."""
        count = len(range(low, high, step))
        found = torch.empty(count, self.dim) if out is None else out[:count]
        width, view = self.dim * 4, found.numpy().reshape(-1).data.cast("B")
        runs = [(0, count)] if step == 1 else [(row, row + 1) for row in range(count)]
        for first, last in runs:
            _read_fully(self.file, view[first * width : last * width], (low + first * step) * width)
        return found


@dataclass(frozen=True)
class Design:
    """The design matrix (N, D), read block by block.

    whole    the rows in memory, or in a scratch file;  columns  the part of their columns that counts, None = all
    mean     (D,) and `scale` (D,), both like rows: what is subtracted of every row and multiplied with it, or None
    """

    whole: Tensor | Scratch
    columns: slice | None = None
    mean: Tensor | None = None
    scale: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        n, dim = (self.whole.n, self.whole.dim) if isinstance(self.whole, Scratch) else self.whole.shape
        return n, dim if self.columns is None else len(range(*self.columns.indices(dim)))

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if isinstance(self.whole, Scratch) else self.whole.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def close(self) -> None:
        """Give the scratch file back, where there is one."""
        if isinstance(self.whole, Scratch):
            self.whole.file.close()

    def part(self, columns: slice) -> Design:
        """Some of the columns; nothing is copied."""
        return replace(self, columns=columns)

    def standardised(self, mean: Tensor, scale: Tensor) -> Design:
        """The same with rows (row - mean) * scale, worked out whenever a block is read."""
        return replace(self, mean=mean.to(self.dtype), scale=scale.to(self.dtype))

    def blocks(self, beside: int = 0) -> Iterator[tuple[slice, Tensor]]:
        """Every row once, in order: where a block stands, and the block (n, D), which is valid until the next one.

        beside  numbers that are worked out for each row meanwhile (logits), which make blocks smaller
        """
        n, dim = self.shape
        size = max(1, _BLOCK // max(dim + beside, 1))
        parts = [slice(low, min(low + size, n)) for low in range(0, n, size)]
        if isinstance(self.whole, Tensor):
            for part in parts:
                yield part, self._prepared(self.whole[part])
        else:
            for part, block in _ahead(self.whole, parts, min(size, n)):
                yield part, self._prepared(block)

    def sample(self, step: int) -> Tensor:
        """Every `step`-th row, (n, D)."""
        whole = self.whole
        rows = whole.read(0, whole.n, step) if isinstance(whole, Scratch) else whole[::step]
        return self._prepared(rows)

    def _prepared(self, rows: Tensor) -> Tensor:
        rows = rows if self.columns is None else rows[:, self.columns]
        if self.mean is None or self.scale is None:
            return rows
        return (rows - self.mean).mul_(self.scale)


def _ahead(whole: Scratch, parts: Sequence[slice], size: int) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of a file, each read while the one before is worked on."""
    buffers = [torch.empty(size, whole.dim) for _ in range(2)]
    with ThreadPoolExecutor(1, "headway-scratch") as reader:

        def read(number: int) -> Future[Tensor]:
            part = parts[number]
            return reader.submit(whole.read, part.start, part.stop, 1, buffers[number % 2])

        coming = read(0) if parts else None
        for number, part in enumerate(parts):
            assert coming is not None
            block = coming.result()
            coming = read(number + 1) if number + 1 < len(parts) else None
            yield part, block


def _read_fully(file: FileIO, view: memoryview, offset: int) -> None:
    file.seek(offset)
    while len(view):
        done = file.readinto(view)
        if not done:
            raise HeadwayError("the scratch file of the features is shorter than what was written to it. Start again.")
        view = view[done:]


def in_memory(X: Features) -> Design:
    """`X` (N, D) as a design matrix, not copied."""
    return Design(share(X))


def gather(
    reads: Sequence[Read], indices: NDArray[np.intp], dim: int, folder: Path | None, memory: int | None
) -> Design:
    """The features of `indices` by each of `reads`, one below the other: in memory where they fit, else in a file.

    dim     D of all of them;  folder  for the scratch file, made where it is missing, None = the system's
    memory  bytes that the machine has, None = no limit

    To be closed when it is no longer needed. Raises HeadwayError where the disk has no room for the file.
    """
    n = len(indices) * len(reads)
    size = n * dim * 4
    if fits(size, memory):
        return in_memory(stacked(reads, indices))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.gettempdir()) if folder is None else folder
    _check_room(place, size, memory or 0)
    file = tempfile.TemporaryFile(dir=place, buffering=0)  # noqa: SIM115 (`Design.close` does)
    rows = max(1, 2 * _BLOCK // dim)  # 128 MB: most of the store's shards are then opened once
    try:
        for read in reads:
            for low in range(0, len(indices), rows):
                content = np.ascontiguousarray(read(indices[low : low + rows])).reshape(-1).data.cast("B")
                while len(content):
                    content = content[file.write(content) :]
    except OSError as error:
        file.close()
        raise HeadwayError(f"the features cannot be written to a scratch file in {place}: {error.strerror}") from error
    except BaseException:
        file.close()
        raise
    return Design(Scratch(file, n, dim))


def stacked(reads: Sequence[Read], indices: NDArray[np.intp]) -> NDArray[np.float32]:
    """The features of `indices` by each of `reads`, one below the other, in memory."""
    first = reads[0](indices)
    if len(reads) == 1:
        return first
    n = len(indices)
    every = np.empty((n * len(reads), first.shape[1]), np.float32)
    every[:n] = first
    del first
    for number, read in enumerate(reads[1:], start=1):
        every[number * n : (number + 1) * n] = read(indices)
    return every


def _check_room(place: Path, size: int, memory: int) -> None:
    free = shutil.disk_usage(place).free
    if free < size + _SPARE:
        raise HeadwayError(
            f"the features of the training images take {size / 1e9:.1f} GB, more than a quarter of this machine's "
            f"memory ({memory / 1e9:.1f} GB), and a scratch file for them has no room in {place}: {free / 1e9:.1f} GB "
            f"are free, {(size + _SPARE) / 1e9:.1f} GB are needed. Free some, or take fewer columns: --taps last"
        )


def share(X: Features) -> Tensor:
    """`X` as a tensor on the same memory (float32 and float64), read-only arrays too."""
    array = X if X.dtype in (np.float32, np.float64) else X.astype(np.float32)
    with warnings.catch_warnings():  # torch warns of read-only arrays; nothing here writes to one
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _pieces(rows: Design) -> Iterator[tuple[int, Tensor]]:
    """Where a piece of a few rows begins, and the piece: what is worked out of it stays in a core's cache."""
    for part, block in rows.blocks():
        for low in range(0, len(block), _FEW):
            yield part.start + low, block[low : low + _FEW]


def moments(rows: Design) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (over N) of each column, float64, in one pass: blocks are merged pairwise.

    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance". The deviation is 0 where a feature
    does not vary by more than its own rounding. Raises HeadwayError where a value is not finite.
    """
    n, dim = rows.shape
    mean, square = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    for start, block in _pieces(rows):
        size = len(block)
        wide = block.to(torch.float64, copy=True)
        own = wide.mean(dim=0)
        if not bool(torch.isfinite(own).all()):
            row, column = (int(place[0]) for place in (~torch.isfinite(block)).nonzero(as_tuple=True))
            value = float(block[row, column])
            raise HeadwayError(f"feature {column} of training row {start + row} is {value}, not a finite number")
        apart = own - mean
        square += wide.sub_(own).square_().sum(dim=0)
        square += apart.square() * (start * size / (start + size))
        mean += apart * (size / (start + size))
    deviation = (square / n).sqrt()
    noise = 4 * torch.finfo(rows.dtype).eps * mean.abs()
    return mean, torch.where(deviation > noise, deviation, 0.0)

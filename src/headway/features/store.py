"""Features on disk: immutable Parquet shards, found by the content of the images they came from.

One folder per spec (everything but the image that decides the numbers); one row per distinct file content. A shard
appears by rename, whole, and is never changed. Any Parquet reader opens it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones.trunk import Tap
from headway.data import arrow, descriptors
from headway.errors import HeadwayError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 2  # of the shard format and of the code that fills it; part of every key
_READERS = 2  # shards read at a time: one alone leaves the other core idle, more hold more memory
_FACTS = ("digest", "accepted", "reason", "pixels", "width", "height")
_DESCRIPTOR = f"descriptor_{descriptors.VERSION}"  # shards from before have none


class DamagedShard(HeadwayError):
    """A shard that cannot be read. It has been removed; its images will be computed again."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"a part of the feature cache was damaged and has been removed: {path}")


@dataclass(frozen=True)
class Row:
    """What is kept of one file content: the verdict always, the features where it was accepted.

    digest, pixels  32 bytes each (pixels: zeros where not accepted);  values  tap → (d,) float32, or None
    descriptor  of its pixels (`data.descriptors`), or empty
    """

    digest: bytes
    reason: str
    pixels: bytes
    width: int
    height: int
    values: Mapping[str, NDArray[np.float32]] | None
    descriptor: bytes = b""

    @property
    def accepted(self) -> bool:
        return self.values is not None


class Store:
    """The shards of one spec. Opening it reads the verdicts of every row; features are read on demand."""

    def __init__(self, folder: Path, taps: Sequence[Tap]) -> None:
        self.folder = folder
        self.taps = tuple(taps)
        self._shards: list[Path] = []
        self._facts: list[dict[str, NDArray[Any]]] = []
        self.removed: list[Path] = []
        for path in sorted(folder.glob("*.parquet")):
            self._register(path)
        self._index()

    def __len__(self) -> int:
        return len(self._digests)

    def _register(self, path: Path) -> None:
        import pyarrow as pa

        try:
            facts = _facts_of(arrow.read_columns(path, list(_FACTS)))
        except FileNotFoundError:
            return  # removed by another process since it was listed
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            remove_damaged(path, error)
            self.removed.append(path)
            return
        self._shards.append(path)
        self._facts.append(facts)

    def _index(self) -> None:
        counts = [len(facts["digest"]) for facts in self._facts]
        self._starts = np.cumsum([0, *counts])
        digests = [facts["digest"] for facts in self._facts]
        self._digests = np.concatenate(digests) if digests else np.empty((0, 32), np.uint8)
        self._keys = _keys(self._digests)
        self._order = np.argsort(self._keys, kind="stable")
        # Their first 8 bytes as numbers, ascending, as Python's own: compared in a tenth of the time of digests.
        first = np.ascontiguousarray(self._digests[self._order, :8]).view(">u8").astype(np.uint64)
        self._first = array("Q", first.tobytes())

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(N, 32) uint8 content digests → (N,) int64 positions of their rows, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(digests), -1, np.int64)
        keys = _keys(digests)
        places = np.searchsorted(self._keys, keys, sorter=self._order)
        candidates = self._order[np.minimum(places, len(self._order) - 1)]
        return np.where(self._keys[candidates] == keys, candidates, -1).astype(np.int64)

    def holds(self, digest: bytes) -> bool:
        """Whether the content with this sha256 (32 bytes) has a row. Safe to call from several threads."""
        first, order = self._first, self._order
        number = int.from_bytes(digest[:8], "big")
        place = bisect_left(first, number)
        while place < len(first) and first[place] == number:
            if self._digests[order[place]].tobytes() == digest:
                return True
            place += 1
        return False

    def facts(self, name: str) -> NDArray[Any]:
        """One of accepted, reason, pixels, width, height of every row, in the order of positions."""
        parts = [facts[name] for facts in self._facts]
        return np.concatenate(parts) if parts else np.empty(0)

    def columns(self, taps: Sequence[str], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of the rows at `positions`: (n, D) float32, the columns of `taps` side by side.

        Reads these columns only, of several shards at a time. Raises DamagedShard, the damaged shard removed, where a
        checksum fails.
        """
        dims = {tap.name: tap.dim for tap in self.taps}
        ends = np.cumsum([dims[tap] for tap in taps])
        result = np.empty((len(positions), int(ends[-1])), np.float32)  # (n, D)

        def read(part: tuple[Path, NDArray[np.intp], NDArray[np.int64]]) -> None:
            path, wanted, rows = part
            # As slices, which are copied once: samples that were looked at together are mostly asked for together.
            to, of = _span(wanted), _span(rows)
            with _intact(path):
                table = arrow.read_columns(path, taps)
                for tap, end in zip(taps, ends, strict=True):
                    block = _matrix(table.column(tap), dims[tap])
                    result[to, end - dims[tap] : end] = block[of]

        with ThreadPoolExecutor(_READERS, "headway-read") as readers:
            for _ in readers.map(read, self._by_shard(positions)):
                pass
        return result

    def descriptors(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Descriptors of the rows at `positions`: (n, BYTES) uint8, and (n,) bool, False where the row has none.

        Raises DamagedShard, the damaged shard removed, where a checksum fails.
        """
        import pyarrow.parquet as pq

        result, there = np.zeros((len(positions), descriptors.BYTES), np.uint8), np.zeros(len(positions), bool)
        for path, wanted, rows in self._by_shard(positions):
            with _intact(path):
                if _DESCRIPTOR not in pq.read_schema(path).names:
                    continue
                table = arrow.read_columns(path, [_DESCRIPTOR])
                kept = table.column(_DESCRIPTOR).to_pylist()
                for at, row in zip(wanted.tolist(), rows.tolist(), strict=True):
                    if kept[row] is not None:
                        result[at], there[at] = np.frombuffer(kept[row], np.uint8), True
        return result, there

    def _by_shard(self, positions: NDArray[np.int64]) -> Iterator[tuple[Path, NDArray[np.intp], NDArray[np.int64]]]:
        """Each shard that is needed, which of `positions` lie in it, and their rows there."""
        shard_of = np.searchsorted(self._starts, positions, side="right") - 1
        for shard in np.unique(shard_of):
            wanted = np.flatnonzero(shard_of == shard)
            yield self._shards[shard], wanted, positions[wanted] - self._starts[shard]

    def add(self, rows: Sequence[Row]) -> None:
        """Close a shard of these rows: it is on the disk, whole, when this returns. `refresh` makes them findable."""
        if not rows:
            return
        path = self.folder / f"{files.digest_bytes(b''.join(row.digest for row in rows))[:32]}.parquet"
        _write_shard(path, rows, self.taps)
        self._register(path)

    def refresh(self) -> None:
        """Let `find` and `facts` see the rows added since the store was opened (one sort, so not after every shard)."""
        self._index()


def remove_damaged(path: Path, error: Exception) -> None:
    """Remove a shard whose content is wrong. Raises HeadwayError where it only cannot be read now (permission, ...)."""
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
        # Arrow's own verdicts carry no number: this is the system's, and says nothing about the content.
        raise HeadwayError(f"the feature cache cannot be read: {path}: {os.strerror(error.errno)}") from error
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Read from a shard inside; one that proves damaged is removed and told."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        remove_damaged(path, error)
        raise DamagedShard(path) from error


def _span(numbers: NDArray[np.integer]) -> NDArray[np.integer] | slice:
    """Numbers (n,), n >= 1, as a slice where each is one more than the last."""
    return slice(int(numbers[0]), int(numbers[-1]) + 1) if (np.diff(numbers) == 1).all() else numbers


def _keys(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    # numpy compares fixed-width bytes without their trailing zeros: for equal widths that is plain equality.
    return np.ascontiguousarray(digests).view("S32").reshape(-1)


def _facts_of(table: pa.Table) -> dict[str, NDArray[Any]]:
    return {
        "digest": _fixed_bytes(table.column("digest")),
        "pixels": _fixed_bytes(table.column("pixels")),
        "accepted": arrow.values_of(table.column("accepted"), np.bool_),
        "reason": np.array(table.column("reason").to_pylist(), dtype=object),
        "width": arrow.values_of(table.column("width"), np.int32),
        "height": arrow.values_of(table.column("height"), np.int32),
    }


def _fixed_bytes(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    joined = b"".join(column.to_pylist())
    return np.frombuffer(joined, np.uint8).reshape(len(column), 32)


def _matrix(column: pa.ChunkedArray, dim: int) -> NDArray[np.float32]:
    import pyarrow as pa

    if column.type != pa.list_(pa.float32(), dim):
        raise TypeError(f"{column.type}, expected {dim} float32")
    return arrow.values_of(column.combine_chunks().flatten(), np.float32).reshape(len(column), dim)


def _write_shard(path: Path, rows: Sequence[Row], taps: Sequence[Tap]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "digest": arrow.fixed_bytes([row.digest for row in rows], 32),
        "accepted": arrow.flags(np.array([row.accepted for row in rows])),
        "reason": arrow.texts([row.reason for row in rows]),
        "pixels": arrow.fixed_bytes([row.pixels for row in rows], 32),
        "width": arrow.numbers(np.array([row.width for row in rows], np.int32)),
        "height": arrow.numbers(np.array([row.height for row in rows], np.int32)),
        _DESCRIPTOR: arrow.fixed_bytes([row.descriptor for row in rows], descriptors.BYTES),
    }
    for tap in taps:
        empty = np.zeros(tap.dim, np.float32)
        block = np.stack([empty if row.values is None else row.values[tap.name] for row in rows])
        columns[tap.name] = arrow.numbers(block)
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp, not the process's number: on a shared cache two machines may have the same one.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        pq.write_table(pa.table(columns), temporary, compression="none", use_dictionary=False, write_page_checksum=True)
        files.sync_file(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.sync_folder(path.parent)


def open_store(cache: Path, spec: Mapping[str, Any], taps: Sequence[Tap]) -> Store:
    """The store of `spec` (plain JSON: decoder, preprocessing, engine, view, version) under the cache folder."""
    complete = {"store": VERSION, **spec}
    folder = cache / "features" / files.digest_json(complete)[:32]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "spec.json").exists():
        files.write_json(folder / "spec.json", complete)
    with contextlib.suppress(PermissionError):  # a cache that others keep
        os.utime(folder / "spec.json")  # "last used", for headway cache prune
    return Store(folder, taps)

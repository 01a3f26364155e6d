"""Images inside tar archives, read where they lie: by archive, place and length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headway.data.archives import TarIndex
from headway.data.images import MAX_BYTES, BadImage
from headway.data.names import Joined
from headway.data.storage import Blob

_GAP = 256 << 10  # bytes between two images that cost less than a request of their own
_MOST_AT_ONCE = 8 << 20


@dataclass(frozen=True)
class Shard:
    """One archive. `prefix` stands before the names of its images; `subset` is None where its name tells none."""

    blob: Blob
    prefix: str
    subset: int | None


class TarSource:
    """Members of several archives, numbered through, read where they lie. `read` may be called from several threads."""

    def __init__(self, shards: Sequence[Shard], indices: Sequence[TarIndex], names: Joined) -> None:
        self._blobs = [shard.blob for shard in shards]
        self._names = names
        self._offsets = np.concatenate([index.offsets for index in indices])
        self._sizes = np.concatenate([index.sizes for index in indices])

    def read(self, index: int) -> bytes:
        """The bytes of image `index`. Raises BadImage; Unreachable where the connection to its archive gives out."""
        offset, size = int(self._offsets[index]), int(self._sizes[index])
        if size > MAX_BYTES:
            raise BadImage(self._names[index], f"{size / (1 << 30):.1f} GB, the limit is {MAX_BYTES >> 30} GB")
        try:
            return self._blobs[self._shard(index)].read(offset, offset + size)
        except (OSError, MemoryError) as error:
            raise BadImage(self._names[index], _reason(error)) from error

    def _shard(self, index: int) -> int:
        return self._names.part(index)[0]


class FarTarSource(TarSource):
    """The same where every read is a request that is waited for: neighbours are fetched together."""

    def fetch(self, indices: Sequence[int]) -> list[bytes | BadImage]:
        """What `read` gives or raises for each of the samples."""
        contents: list[bytes | BadImage] = []
        for run in self._runs(indices):
            contents += self._together(run) if len(run) > 1 else [self._alone(run[0])]
        return contents

    def _runs(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """The samples in runs that lie close to each other in one archive."""
        run: list[int] = []
        for index in indices:
            if run and not self._follows(run, index):
                yield run
                run = []
            run.append(index)
        if run:
            yield run

    def _follows(self, run: Sequence[int], index: int) -> bool:
        end = int(self._offsets[run[-1]] + self._sizes[run[-1]])
        return (
            self._shard(run[-1]) == self._shard(index)
            and 0 <= int(self._offsets[index]) - end <= _GAP
            and int(self._offsets[index] + self._sizes[index] - self._offsets[run[0]]) <= _MOST_AT_ONCE
        )

    def _alone(self, index: int) -> bytes | BadImage:
        try:
            return self.read(index)
        except BadImage as error:
            return error

    def _together(self, run: Sequence[int]) -> list[bytes | BadImage]:
        start, stop = int(self._offsets[run[0]]), int(self._offsets[run[-1]] + self._sizes[run[-1]])
        try:
            whole = self._blobs[self._shard(run[0])].read(start, stop)
        except (OSError, MemoryError) as error:
            return [BadImage(self._names[index], _reason(error)) for index in run]
        begins = [int(self._offsets[index]) - start for index in run]
        return [whole[begin : begin + int(self._sizes[index])] for begin, index in zip(begins, run, strict=True)]


def _reason(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory to read it"
    if isinstance(error, FileNotFoundError):
        return "its archive is gone"
    if isinstance(error, PermissionError):
        return "no permission to read its archive"
    return f"its archive cannot be read ({error.strerror or type(error).__name__})"

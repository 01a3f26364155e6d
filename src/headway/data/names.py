"""Names of many samples in little memory: text as Python keeps it takes three times its bytes, and more."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import index as whole
from typing import overload

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096  # names whose ends are Python's numbers at one time


class _Compact(Sequence[str]):
    """What both kinds have in common: a length, and the name at a place."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(self._n))]
        place = whole(index)
        if not -self._n <= place < self._n:
            raise IndexError(f"name {place} of {self._n}")
        return self._at(place % self._n)

    def _at(self, place: int) -> str:
        raise NotImplementedError


class Names(_Compact):
    """N names, their bytes one after the other. Any text comes back as it was, also
    with the surrogates that stand for bytes of file names.

    pool  the bytes;  ends  (N,) where each name ends in it
    """

    def __init__(self, pool: bytes | bytearray, ends: NDArray[np.integer]) -> None:
        super().__init__(len(ends))
        self.pool = pool
        # Most pools are small: half the bytes for where names end.
        self.ends = ends.astype(np.uint32 if len(pool) < 1 << 32 else np.int64)

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """The same names, compact."""
        pool, ends = bytearray(), array("q")
        for name in names:
            pool += name.encode("utf-8", "surrogatepass")
            ends.append(len(pool))
        return cls(pool, np.frombuffer(ends, np.int64))

    def __iter__(self) -> Iterator[str]:
        start = 0
        for low in range(0, len(self), _BLOCK):  # numbers of Python's own, not all at once
            for end in self.ends[low : low + _BLOCK].tolist():
                yield self.pool[start:end].decode("utf-8", "surrogatepass")
                start = end

    def _at(self, place: int) -> str:
        start = int(self.ends[place - 1]) if place else 0
        return self.pool[start : int(self.ends[place])].decode("utf-8", "surrogatepass")


class Joined(_Compact):
    """The names of several parts, one part after the other: `prefix/name`.

    parts  (prefix, its names); names may be a number of rows, which are then called 0, 1, 2, ...
    """

    def __init__(self, parts: Sequence[tuple[str, Sequence[str] | int]]) -> None:
        self._parts = tuple(parts)
        sizes = [part if isinstance(part, int) else len(part) for _, part in parts]
        self._starts = (0, *accumulate(sizes))
        super().__init__(self._starts[-1])

    def part(self, place: int) -> tuple[int, int]:
        """The number of the part that the name at `place` (0 ..< length) is in, and its row there."""
        part = bisect_right(self._starts, place) - 1  # NumPy takes four times as long for one number
        return part, place - self._starts[part]

    def __iter__(self) -> Iterator[str]:
        for prefix, names in self._parts:
            start = f"{prefix}/"
            for name in range(names) if isinstance(names, int) else names:
                yield f"{start}{name}"

    def _at(self, place: int) -> str:
        part, row = self.part(place)
        prefix, names = self._parts[part]
        return f"{prefix}/{row if isinstance(names, int) else names[row]}"

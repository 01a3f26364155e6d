"""What was worked out of features and labels alone, kept in the cache: another head on the same images finds the same.

One folder for each result, named by a digest of all that decides it: the arrays that it was made from, the rules of the
code that made it, the versions of all packages and the processor. A hit equals a miss, as with features.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from headway import files
from headway.machine import machine, versions

ROOM = "derived"  # of the cache
_MOST = 64 << 20  # bytes of a result that is kept

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Place:
    """Where a result lies, or would lie."""

    path: Path

    def read(self) -> Arrays | None:
        """The arrays of the result, or None where there are none, or none that is whole (it is removed then)."""
        found = read_whole(self.path)
        if found is not None:
            with contextlib.suppress(PermissionError):  # a cache that others keep
                os.utime(self.path.parent)  # "last used", for headway cache prune
        return found

    def write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of a result, if they are not very large. Where nothing can be written, nothing is kept."""
        if sum(array.nbytes for array in arrays.values()) > _MOST:
            return
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # one might be called allow_pickle
        with contextlib.suppress(OSError):  # it can be worked out again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(self.path, content.getvalue())


def place_of(cache: Path, name: str, *decisive: NDArray[Any] | str | float) -> Place:
    """The place of a result of this name.

    decisive  all that it depends on: arrays, and plain values, the version of the code's rules among them
    """
    whole = xxhash.xxh3_128(repr((name, versions(), machine()["processor"])).encode())
    for one in decisive:
        if isinstance(one, np.ndarray):
            whole.update(f"{one.dtype} {one.shape}".encode())
            whole.update(np.ascontiguousarray(one).data)
        else:
            whole.update(f"{one!r};".encode())
    return Place(cache / ROOM / whole.hexdigest() / f"{name}.npz")


def read_whole(path: Path) -> Arrays | None:
    """The arrays in a file of `Place.write`, each held against its checksum; None, and no file, where it is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None

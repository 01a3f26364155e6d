"""The frozen values that tell what the data is: Dataset (as found), Contents (as read), Split (as used)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from headway.data.images import BadImage

UNASSIGNED, TRAIN, VAL, TEST, UNLABELLED = -1, 0, 1, 2, 3
SUBSETS = ("train", "val", "test", "unlabelled")


class Source(Protocol):
    """Where the images lie. `read` may be called from several threads."""

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """The encoded file of sample `index`, or its pixels (H, W, 3). Raises data.images.BadImage."""
        ...


@runtime_checkable
class FarSource(Source, Protocol):
    """A source whose every read is a request to another machine: many at once cost hardly more than one."""

    def fetch(self, indices: Sequence[int]) -> Sequence[bytes | NDArray[np.uint8] | BadImage]:
        """What `read` gives or raises (BadImage) for each of the samples."""
        ...


@dataclass(frozen=True, repr=False)
class Dataset:
    """Every sample that was found, before any of them is opened.

    names    N names, unique, relative to the folder (or `train/17` for row 17 of train.parquet)
    labels   (N,) int32, index into `classes`; -1 = no label
    given    (N,) int8, the subset that the data itself brings, or UNASSIGNED
    groups   (N,) int32 or None: samples of one group stay on one side of a split; -1 = a group of its own
    classes  class names in their fixed order (sorted by name)
    ignored  what was passed over, kind → count
    notes    what the reader understood, one readable line each
    in_order whether neighbours lie beside each other in large files, so that a run of them is cheaper than single ones
    """

    name: str
    kind: str
    names: Sequence[str]
    labels: NDArray[np.int32]
    given: NDArray[np.int8]
    groups: NDArray[np.int32] | None
    classes: tuple[str, ...]
    source: Source
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_order: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<Dataset: {self.name!r}, {len(self):,} images, {len(self.classes):,} classes, {self.kind}>"


@dataclass(frozen=True)
class Contents:
    """What one pass saw of every sample.

    accepted  (N,) bool; False = damaged, and `reasons[index]` says why
    digests   (N, 32) uint8, sha256 of the file's bytes (of shape and pixels for arrays)
    pixels    (N, 32) uint8, digest of the decoded upright RGB pixels and their shape; zeros where not accepted
    sizes     (N, 2) int32, width and height as the header tells, upright; zeros where unknown
    """

    accepted: NDArray[np.bool_]
    reasons: Mapping[int, str]
    digests: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int32]


@dataclass(frozen=True, repr=False)
class Split:
    """Which sample is used for what.

    subsets     (N,) int8: TRAIN, VAL, TEST, UNLABELLED, or UNASSIGNED (set aside)
    brought     names of the subsets that the data itself brought
    conflicts   groups of sample indices that show the same pixels under different labels
    straddling  groups of sample indices that show the same pixels in different subsets (brought splits only)
    """

    subsets: NDArray[np.int8]
    brought: tuple[str, ...]
    conflicts: tuple[tuple[int, ...], ...] = ()
    straddling: tuple[tuple[int, ...], ...] = ()

    def __repr__(self) -> str:
        sizes = (f"{name} {int((self.subsets == number).sum()):,}" for number, name in enumerate(SUBSETS))
        return f"<Split: {', '.join(sizes)}>"

    def indices(self, subset: int) -> NDArray[np.intp]:
        """Indices of the samples in `subset`, ascending."""
        return np.flatnonzero(self.subsets == subset)

    @property
    def train(self) -> NDArray[np.intp]:
        return self.indices(TRAIN)

    @property
    def val(self) -> NDArray[np.intp]:
        return self.indices(VAL)

    @property
    def test(self) -> NDArray[np.intp]:
        return self.indices(TEST)

    @property
    def unlabelled(self) -> NDArray[np.intp]:
        return self.indices(UNLABELLED)

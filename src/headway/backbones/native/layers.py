"""A network of convolutions as steps from map to map: what `reading` finds in a graph and `memory` lays out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Kind(IntEnum):
    """What a step does, numbered as in plan.h.

    EXPAND  a DENSE that is done with the DEPTHWISE after it;  BLOCK  with that and the DENSE of 1 x 1 after that
    """

    PIXELS = 0
    DENSE = 1
    WINOGRAD = 2
    EXPAND = 3
    DEPTHWISE = 4
    LARGEST = 5
    AVERAGE = 6
    MEAN = 7
    DEVIATION = 8
    SUM = 9
    BLOCK = 10


@dataclass(frozen=True)
class Shape:
    """A map of one image: height and width in pixels, and channels. image: it is the image itself."""

    height: int
    width: int
    channels: int
    image: bool = False


@dataclass(frozen=True)
class Kernel:
    """Height and width of a kernel, its stride, and the zeros that it sees over the top and the left edge."""

    height: int = 1
    width: int = 1
    stride: int = 1
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class Bounds:
    """What is below or above is set to these: ReLU is (0, inf)."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Step:
    """One step: from the map `source` to the map `target`, by their numbers.

    added    a map of the same shape that is added before the bounds are applied; None = none
    weights  (height, width, in, out) of a dense kernel, (height, width, channels) of a depthwise one, (2, 3) means and
             deviations of pixels; float32
    bias     (out,) float32
    """

    kind: Kind
    source: int
    target: int
    added: int | None = None
    kernel: Kernel = Kernel()
    bounds: Bounds = Bounds()
    weights: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    def sources(self) -> tuple[int, ...]:
        """The maps that it reads."""
        return (self.source,) if self.added is None else (self.source, self.added)

    @property
    def followers(self) -> int:
        """Steps after it that are done with it, a band of rows at a time."""
        return {Kind.EXPAND: 1, Kind.BLOCK: 2}.get(self.kind, 0)


@dataclass(frozen=True)
class Network:
    """Steps in an order in which each finds what it reads; maps by number; output name → its map, of 1 x 1 pixels."""

    maps: tuple[Shape, ...]
    steps: tuple[Step, ...]
    outputs: Mapping[str, int]


class NotNative(RuntimeError):
    """A network that the native engine does not know. The message is a clause: "it has a Sigmoid"."""

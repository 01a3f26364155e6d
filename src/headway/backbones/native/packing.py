"""Which way each step is computed, and its weights in the order in which the code in C reads them."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headway.backbones.native.layers import Kernel, Kind, Network, NotNative, Shape, Step

# G of Winograd's F(4 x 4, 3 x 3): Lavin & Gray 2016, arXiv:1509.09308, section 4.3.
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_WORTH = 32  # channels on either side from which Winograd's transforms are less than what they save


@dataclass(frozen=True)
class Lanes:
    """Numbers that a register holds. Channels are filled up to whole registers; a panel is two of them."""

    count: int

    @property
    def panel(self) -> int:
        return 2 * self.count

    def filled(self, shape: Shape) -> int:
        """Channels of a map in memory. Images themselves are left as they are."""
        return shape.channels if shape.image else -(-shape.channels // self.count) * self.count


def with_ways(network: Network) -> Network:
    """The same network, each convolution in the fastest way that it can be computed. Raises NotNative."""
    read = Counter(number for step in network.steps for number in step.sources()) + Counter(network.outputs.values())
    ordered, steps = _statistics_early(network.steps), list[Step]()
    followers = 0
    for at, step in enumerate(ordered):
        source, target = network.maps[step.source], network.maps[step.target]
        if source.image and step.kind not in (Kind.PIXELS, Kind.DENSE):
            raise NotNative("it does something else with the images than a convolution")
        if step.kind == Kind.DENSE and _for_winograd(step, source, target):
            step = replace(step, kind=Kind.WINOGRAD)
        elif step.kind == Kind.DENSE and step.added is None and not followers:
            step = replace(step, kind=_kind_with(ordered[at : at + 3], read))
        followers = max(step.followers, followers - 1)
        steps.append(step)
    return replace(network, steps=tuple(steps))


def _statistics_early(steps: Sequence[Step]) -> list[Step]:
    """The same steps; what is taken of a map as a whole right after it is there, while a cache still has it."""
    waiting: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        if step.kind in (Kind.MEAN, Kind.DEVIATION):
            waiting[step.source].append(step)
    ordered: list[Step] = []
    ready = deque(step for step in steps if step.kind not in (Kind.MEAN, Kind.DEVIATION))
    while ready:
        ordered.append(ready.popleft())
        ready.extendleft(reversed(waiting.pop(ordered[-1].target, [])))
    return ordered


def _for_winograd(step: Step, source: Shape, target: Shape) -> bool:
    kernel = step.kernel
    square = (kernel.height, kernel.width, kernel.stride, kernel.top, kernel.left) == (3, 3, 1, 1, 1)
    same = (source.height, source.width) == (target.height, target.width)
    return square and same and min(source.channels, target.channels) >= _WORTH


def _kind_with(steps: Sequence[Step], read: Mapping[int, int]) -> Kind:
    """What the first, a DENSE, is with those after it: where nothing else reads what they give."""
    alone = [before.target == after.source and read[before.target] == 1 for before, after in pairwise(steps)]
    if not alone or not alone[0] or steps[1].kind != Kind.DEPTHWISE:
        return Kind.DENSE
    if len(alone) < 2 or not alone[1] or steps[2].kind != Kind.DENSE or steps[2].kernel != Kernel():
        return Kind.EXPAND
    return Kind.BLOCK


Weights = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]  # weights and bias of each step, packed
_LINE = 64  # bytes of a line of the processor's cache


def pack(network: Network, lanes: Lanes) -> Weights:
    """Weights and bias of each step as the code in C reads them, (numbers,) each; empty where a step has none."""
    return [
        (aligned(weights), aligned(bias)) for weights, bias in (_packed(step, network, lanes) for step in network.steps)
    ]


def aligned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same numbers, from a line of the processor's cache on."""
    room = np.zeros(values.nbytes + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    found = room[start : start + values.nbytes].view(np.float32)
    found[...] = values
    return found


def run_of(step: Step, network: Network, lanes: Lanes) -> int:
    """Numbers side by side in memory that one row of its kernel looks at: of a single pixel only the channels that are
    there, else also what they are filled up with.
    """
    source = network.maps[step.source]
    alone = step.kernel.width == 1 and step.kind != Kind.WINOGRAD
    return source.channels if alone else step.kernel.width * lanes.filled(source)


def _packed(step: Step, network: Network, lanes: Lanes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    empty = np.zeros(0, np.float32)
    if step.weights is None:
        return empty, empty
    if step.kind == Kind.PIXELS:
        return step.weights.ravel(), empty
    wide = lanes.filled(network.maps[step.target])
    assert step.bias is not None
    bias = _filled(step.bias, 0, wide)
    if step.kind == Kind.DEPTHWISE:
        weights = _filled(step.weights, 2, wide).reshape(-1, wide // lanes.count, lanes.count)
        return weights.transpose(1, 0, 2).ravel(), bias
    weights = _filled(step.weights, 2, run_of(step, network, lanes) // step.kernel.width)
    weights = _filled(weights, 3, wide)  # (height, width, in, out)
    if step.kind != Kind.WINOGRAD:
        return _panels(weights.reshape(1, -1, wide), lanes), bias
    once = np.tensordot(_G.astype(np.float32), weights, 1)  # (6, 3, in, out)
    twice = np.stack([np.tensordot(_G.astype(np.float32), row, 1) for row in once])  # (6, 6, in, out)
    return _panels(twice.reshape(36, -1, wide), lanes), bias


def _filled(values: NDArray[np.float32], axis: int, size: int) -> NDArray[np.float32]:
    widths = [(0, size - values.shape[axis] if at == axis else 0) for at in range(values.ndim)]
    return np.pad(values, widths) if any(after for _, after in widths) else values


def _panels(weights: NDArray[np.float32], lanes: Lanes) -> NDArray[np.float32]:
    """(M, K, out) → for each of M, panel after panel, each (K, 2 registers); the last may be one register wide."""
    many, rows, wide = weights.shape
    whole = wide - wide % lanes.panel
    full = weights[:, :, :whole].reshape(many, rows, -1, lanes.panel).transpose(0, 2, 1, 3).reshape(many, -1)
    return np.concatenate([full, weights[:, :, whole:].reshape(many, -1)], axis=1).ravel()

"""The plan that the code in C follows, in its own structures (plan.h), and the memory that one core works in."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.native.layers import Kind, Network
from headway.backbones.native.memory import Memory, memory_of
from headway.backbones.native.packing import Lanes, Weights, aligned, run_of

_TILES = 56  # of Winograd's that are worked on together: a panel of weights is read once for so many


class _Map(ctypes.Structure):
    _fields_ = (
        *(("pixels", ctypes.c_void_p), ("image", ctypes.c_long), ("row", ctypes.c_long)),
        *((name, ctypes.c_int) for name in ("height", "rows", "width", "channels", "whole")),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("kind", "source", "target", "added")),
        *((name, ctypes.c_int) for name in ("height", "width", "stride", "top", "left", "run")),
        *(("low", ctypes.c_float), ("high", ctypes.c_float)),
        *(("weights", ctypes.c_void_p), ("bias", ctypes.c_void_p)),
    )


class _Span(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int) for name in ("start", "stop", "group"))


class _Plan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("steps", "maps", "spans")),
        *(("count", ctypes.c_int), ("tiles", ctypes.c_int)),
        *((name, ctypes.c_void_p) for name in ("room", "zeros")),
    )


class Core:
    """The memory of one core, which is brought up to `part` images. One thread at a time may use it."""

    def __init__(self, code: ctypes.CDLL, network: Network, weights: Weights, lanes: Lanes, part: int) -> None:
        self._code, self._network, self._lanes = code, network, lanes
        self._memory = memory_of(network, weights, lanes, part)
        slots = self._memory.slots().items()
        self._slots = {slot: aligned(np.zeros(p.image * p.images + lanes.count, np.float32)) for slot, p in slots}
        widest = max(lanes.filled(shape) for shape in network.maps)
        self._zeros = aligned(np.zeros(widest, np.float32))
        self._room = aligned(np.zeros(_room(network, lanes, widest), np.float32))
        self._weights = weights  # the plan holds addresses of them
        self._parts = (self._steps(), self._maps(), _spans(self._memory))
        steps, maps, spans = (ctypes.addressof(part) for part in self._parts)
        room, zeros = self._room.ctypes.data, self._zeros.ctypes.data
        self._plan = _Plan(steps, maps, spans, len(self._memory.spans), _TILES, room, zeros)

    @property
    def part(self) -> int:
        """Images that one call may bring."""
        return self._memory.part

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """(n, S, S, 3) uint8, n at most `part` → every output, (n, d) float32."""
        given, n = np.ascontiguousarray(images), len(images)
        self._code.headway_run(ctypes.byref(self._plan), ctypes.c_void_p(given.ctypes.data), ctypes.c_long(n))
        return {name: self._output(number, n) for name, number in self._network.outputs.items()}

    def _output(self, number: int, n: int) -> NDArray[np.float32]:
        place, channels = self._memory.places[number], self._network.maps[number].channels
        rows = self._slots[place.slot][: n * place.image].reshape(n, place.image)  # one pixel each, without a border
        return rows[:, :channels].copy()

    def _steps(self) -> Any:
        found = (_Step * len(self._network.steps))()
        for at, (step, (weights, bias)) in enumerate(zip(self._network.steps, self._weights, strict=True)):
            kernel, added = step.kernel, -1 if step.added is None else step.added
            found[at] = _Step(
                *(int(step.kind), step.source, step.target, added),
                *(kernel.height, kernel.width, kernel.stride, kernel.top, kernel.left),
                run_of(step, self._network, self._lanes),
                *(step.bounds.low, step.bounds.high),
                *(weights.ctypes.data, bias.ctypes.data),
            )
        return found

    def _maps(self) -> Any:
        found = (_Map * len(self._memory.places))()
        for at, place in enumerate(self._memory.places):
            pixels = self._slots[place.slot].ctypes.data + 4 * place.first
            size = (self._network.maps[at].height, place.height, place.width, place.channels)
            found[at] = _Map(pixels, place.image, place.row, *size, int(place.whole))
        return found


def _spans(memory: Memory) -> Any:
    return (_Span * len(memory.spans))(*(_Span(span.start, span.stop, span.group) for span in memory.spans))


def _room(network: Network, lanes: Lanes, widest: int) -> int:
    """Numbers that Winograd's way works in, as plan.h has them, or the means that a deviation is taken around."""
    wide = (
        lanes.filled(network.maps[step.source]) + lanes.filled(network.maps[step.target])
        for step in network.steps
        if step.kind == Kind.WINOGRAD
    )
    return max(36 * (_TILES * max(wide, default=0) + 2 * lanes.count), widest)

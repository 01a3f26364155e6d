"""Convolutions of 3 x 3 with a stride of 1 for training on a processor, by code of our own in C (convolve.c). fp32.

Winograd's minimal filtering F(4 x 4, 3 x 3) takes a quarter of the multiplications (Lavin & Gray 2016,
arXiv:1509.09308, section 4.3): each 4 x 4 pixels of the result are A^T [(G w G^T) * (B^T x B)] A. The gradient of what
is read is the same convolution with its weights turned; that of the weights is the transpose of the above, G^T [sum
over tiles of (A g A^T) * (B^T x B)] G. Numbers differ from torch's in their last digits: by some millionths of the
largest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from headway.backbones.native.compiling import Source, compiled

CONVOLVE = Source("headway.backbones.native", ("convolve.c", "lanes.h", "plan.h", "dense.h", "winograd.h"))

_FEWEST = 32  # channels on either side, and tiles for each core: with fewer, transforms cost more than they save
_MOST = 1 << 20  # channels of one side times those of the other: of so many, weights and sums take 150 MB each
_WASTE = 1.5  # pixels of tiles for each pixel of a map: with more, too much is computed of what is not there
_TILES = 56  # worked on together: what is known of them stays in a core's cache
_SPARE = 16  # as in convolve.c
_APART = 128  # channels of the result that a core takes by itself for the gradient of the weights
_GEOMETRY = ((1, 1), (1, 1), (1, 1), 1)  # stride, padding, dilation, groups

_Part = tuple[int, int]  # from, up to
_Job = TypeVar("_Job")


class _Sizes(ctypes.Structure):
    _fields_ = (
        ("n", ctypes.c_long),
        *((name, ctypes.c_int) for name in ("height", "width", "read", "given", "tiles")),
        ("zeros", ctypes.c_void_p),
    )


class Winograd:
    """`threads` cores that convolve, and the memory that they work in: one call at a time.

    Tensors are float32 on the CPU, channels last: x (n, C, h, w), weight (D, C, 3, 3), gradient (n, D, h, w) of the
    result. With the same number of threads the same bits come out each time.
    Raises NotNative where the code cannot be compiled.
    """

    def __init__(self, threads: int) -> None:
        self._code, self._threads = compiled(CONVOLVE), threads
        self._lanes: int = self._code.headway_lanes()
        self._pool = ThreadPoolExecutor(threads, "headway-convolution")
        self._rooms: dict[tuple[str, int], Tensor] = {}

    def takes(self, x: Tensor, weight: Tensor, geometry: tuple[Any, ...]) -> bool:
        """Whether it can convolve these, and is worth while. geometry: stride, padding, dilation, groups."""
        if tuple(weight.shape[2:]) != (3, 3) or geometry != _GEOMETRY or weight.dtype != torch.float32:
            return False
        n, height, width = x.shape[0], x.shape[2], x.shape[3]
        tiles = _tiles(height, width)
        return (
            x.dtype == torch.float32
            and all(channels >= _FEWEST and channels % self._lanes == 0 for channels in weight.shape[:2])
            and weight.shape[0] * weight.shape[1] <= _MOST
            and n * tiles >= _FEWEST * self._threads
            and tiles * 16 <= _WASTE * height * width
        )

    def result(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution, (n, D, h, w)."""
        return self._convolved(x, weight.detach().permute(2, 3, 1, 0).contiguous(), bias, turned=False)

    def of_input(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """The gradient of x, (n, C, h, w)."""
        return self._convolved(gradient, weight.detach().permute(2, 3, 0, 1).contiguous(), None, turned=True)

    def of_weight(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The gradient of the weights, (D, C, 3, 3)."""
        x, gradient, sizes = _last(x), _last(gradient), self._sizes(x, gradient.shape[1])
        # Channels of the result first: their sums need no adding up. Then tiles, whose sums do.
        ranges = _parts(sizes.given // self._lanes, min(self._threads, sizes.given // _APART))
        parts = _parts(len(x) * _tiles(sizes.height, sizes.width), -(-self._threads // len(ranges)))
        found = torch.empty((sizes.given, sizes.read, 3, 3), memory_format=torch.channels_last)
        sums = self._room("sums", 0, len(parts) * 36 * sizes.given * sizes.read)

        def add(number: int, job: tuple[_Part, int]) -> None:
            (first, last), at = job
            channels = (last - first) * self._lanes
            room = self._room("tiles", number, self._numbers(sizes.read + channels + 2 * _SPARE))
            own = _of_range(sums, sizes.read * self._lanes, len(parts), (first, last))[at].zero_()
            places = (*(ctypes.c_long(end) for end in parts[at]), first * self._lanes, channels)
            self._code.headway_gradient(ctypes.byref(sizes), _at(x), _at(gradient), *places, _at(own), _at(room))

        def gather(_number: int, part: _Part) -> None:
            own = _of_range(sums, sizes.read * self._lanes, len(parts), part)
            to = found[part[0] * self._lanes : part[1] * self._lanes]
            self._code.headway_gather(ctypes.byref(sizes), _at(own), len(parts), len(to), _at(to))

        self._each(add, [(part, at) for part in ranges for at in range(len(parts))])
        self._each(gather, ranges)
        return found

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, turned: bool) -> Tensor:
        """weight (3, 3, channels of x, channels of the result)"""
        x, sizes = _last(x), self._sizes(x, weight.shape[3])
        packed = self._room("packed", 0, 36 * sizes.read * sizes.given)
        bias = torch.zeros(sizes.given) if bias is None else bias.detach().contiguous()
        found = torch.empty((len(x), sizes.given, *x.shape[2:]), memory_format=torch.channels_last)

        def pack(_number: int, part: _Part) -> None:
            self._code.headway_pack(ctypes.byref(sizes), _at(weight), int(turned), *part, _at(packed))

        def convolve(number: int, part: _Part) -> None:
            room = self._room("tiles", number, self._numbers(sizes.read + sizes.given))
            given, images = (_at(x), _at(packed), _at(bias), _at(found)), (ctypes.c_long(end) for end in part)
            self._code.headway_convolve(ctypes.byref(sizes), *given, *images, _at(room))

        self._each(pack, _parts(-(-sizes.given // (2 * self._lanes)), self._threads))
        self._each(convolve, _parts(len(x), self._threads))
        return found

    def _sizes(self, x: Tensor, given: int) -> _Sizes:
        n, read, height, width = x.shape
        zeros = self._room("zeros", 0, read).zero_()
        return _Sizes(n, height, width, read, given, _TILES, zeros.data_ptr())

    def _numbers(self, channels: int) -> int:
        return 36 * (_TILES * channels + 2 * self._lanes)

    def _room(self, use: str, number: int, size: int) -> Tensor:
        """(size,), the same memory as the last time where that was enough: new memory costs as much as the work."""
        room = self._rooms.get((use, number))
        if room is None or len(room) < size:
            room = self._rooms[use, number] = torch.empty(size)
        return room[:size]

    def _each(self, work: Callable[[int, _Job], None], jobs: Sequence[_Job]) -> None:
        """Do all of them, each with its number, on the cores."""
        for _ in self._pool.map(work, range(len(jobs)), jobs):
            pass


def _of_range(sums: Tensor, row: int, parts: int, part: _Part) -> Tensor:
    """(parts, 36 * channels * channels of x): the sums of one range of registers of channels, `row` numbers each."""
    first, last = (end * parts * 36 * row for end in part)
    return sums[first:last].view(parts, -1)


def _parts(n: int, many: int) -> list[_Part]:
    """0..n in at most so many parts, as equal as can be; none is empty."""
    many = max(1, min(n, many))
    return [(n * part // many, n * (part + 1) // many) for part in range(many)]


def _tiles(height: int, width: int) -> int:
    return -(-height // 4) * -(-width // 4)


def _last(x: Tensor) -> Tensor:
    return x.detach().contiguous(memory_format=torch.channels_last)


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())

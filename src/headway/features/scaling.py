"""Images scaled to the network's input as Pillow scales them, bit for bit, in a fraction of its time."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.native.compiling import Source, compiled
from headway.backbones.native.layers import NotNative

SCALE = Source("headway.features", ("scale.c",))
_CHECKED = 30  # images that are scaled both ways before the code counts; 10 ms

_POINT = 22  # bits after the point of a weight, as Pillow has them
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}  # pixels on either side that a filter sees

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


class _Axis(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("size", "taps")),
        *((name, ctypes.c_void_p) for name in ("starts", "counts", "weights")),
    )


@dataclass(frozen=True, eq=False)
class Axis:
    """One direction of scaling, as Pillow's Resample.c works it out (precompute_coeffs and normalize_coeffs_8bpc).

    starts, counts  (size,) int32: which pixels each result sees;  weights  (size, taps) int32, 22 bits after the point
    """

    starts: NDArray[np.int32]
    counts: NDArray[np.int32]
    weights: NDArray[np.int32]

    def told(self) -> _Axis:
        size, taps = self.weights.shape
        return _Axis(size, taps, self.starts.ctypes.data, self.counts.ctypes.data, self.weights.ctypes.data)


@lru_cache(maxsize=512)
def axis_of(pixels: int, start: float, end: float, size: int, interpolation: str) -> Axis:
    """Scale the part from `start` to `end` of `pixels` in a row to `size` of them."""
    first, last = np.float32(start), np.float32(end)  # Pillow keeps a box in single precision
    scale = float(last - first) / size
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    centres = float(first) + (np.arange(size) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int32), 0)
    counts = np.minimum((centres + support + 0.5).astype(np.int32), pixels) - starts
    taps = math.ceil(support) * 2 + 1
    places = np.arange(taps)
    weights = _filtered((places + starts[:, None] - centres[:, None] + 0.5) * (1.0 / stretch), interpolation)
    weights[places >= counts[:, None]] = 0.0
    total = np.zeros(size)
    for tap in range(taps):  # one after the other, as Pillow adds them
        total += weights[:, tap]
    weights /= np.where(total == 0.0, 1.0, total)[:, None]
    whole = np.where(weights < 0, -0.5, 0.5) + weights * (1 << _POINT)
    return Axis(starts, counts.astype(np.int32), np.ascontiguousarray(whole.astype(np.int32)))


def _filtered(x: NDArray[np.float64], interpolation: str) -> NDArray[np.float64]:
    """The filters of Pillow's Resample.c at the distances `x`, in the order of its operations."""
    if interpolation == "lanczos":
        return np.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3), 0.0)
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.where(x < 1.0, 1.0 - x, 0.0)
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _sinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    turned = x * math.pi
    return np.where(x == 0.0, 1.0, np.sin(turned) / np.where(x == 0.0, 1.0, turned))


@dataclass(frozen=True)
class Scaler:
    """The code in C. down_first: this Pillow scales downwards first where that leaves much less to scale across."""

    code: ctypes.CDLL
    down_first: bool

    def __call__(
        self, pixels: NDArray[np.uint8], box: Box, size: tuple[int, int], interpolation: str
    ) -> NDArray[np.uint8]:
        """The part `box` of pixels (H, W, 3) uint8, scaled to (height, width, 3) for size = (width, height).

        Raises MemoryError.
        """
        (height, width), (wide, high) = pixels.shape[:2], size
        across = axis_of(width, box[0], box[2], wide, interpolation)
        down = axis_of(height, box[1], box[3], high, interpolation)
        columns = int(across.starts[-1] + across.counts[-1] - across.starts[0])
        rows = int(down.starts[-1] + down.counts[-1] - down.starts[0])
        # As Pillow 13 does (found by trying; checked by `open_scaler`): by the size of the image, not of the box.
        downwards = self.down_first and height > high and height - high > 2 * (width - wide)
        between = np.empty(3 * (high * columns if downwards else rows * wide), np.uint8)
        room = np.empty(48 * (columns + wide), np.uint8)
        out = np.empty((high, wide, 3), np.uint8)
        x, y = across.told(), down.told()
        self.code.headway_scale(
            *(ctypes.c_void_p(pixels.ctypes.data), ctypes.c_long(pixels.strides[0])),
            *(ctypes.byref(x), ctypes.byref(y), ctypes.c_int(downwards)),
            *(ctypes.c_void_p(array.ctypes.data) for array in (between, room, out)),
        )
        return out


@cache
def open_scaler() -> Scaler | None:
    """The scaler, compiled at the first use on a machine. None where Pillow had better scale: without a compiler, on a
    processor that would gain nothing, or where this Pillow gives other bytes.
    """
    try:
        code = compiled(SCALE)
    except NotNative:
        return None
    if not code.headway_scale_pays():
        return None
    ways = (Scaler(code, True), Scaler(code, False))  # the older Pillow is, the more likely the second
    return next((scaler for scaler in ways if as_pillow(scaler)), None)


def as_pillow(scaler: Scaler) -> bool:
    """Whether some images of all shapes have Pillow's bytes."""
    random = np.random.default_rng(0)
    for at in range(_CHECKED):
        width, height, wide, high = random.integers(2, 90, 4).tolist()
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        left, top = random.uniform(0, width / 2), random.uniform(0, height / 2)
        box = (left, top, width - left / 2, height - top / 2) if at % 2 else (0.0, 0.0, float(width), float(height))
        name = tuple(_FILTERS)[at % len(_FILTERS)]
        expected = np.asarray(Image.fromarray(pixels).resize((wide, high), _FILTERS[name], box=box))
        if not np.array_equal(scaler(pixels, box, (wide, high), name), expected):
            return False
    return True

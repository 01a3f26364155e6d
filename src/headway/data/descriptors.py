"""A descriptor of an image's pixels: a thumbnail, small enough to be kept of every image. numpy and Pillow only.

Re-encoded, half-sized, cropped and mirrored copies of an image differ little in it; `quality.duplicates` compares them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VERSION = 1  # of the rules below; part of the column's name in the store
SIDE = 16  # of the grey thumbnail, pixels
COLOUR_SIDE = 8  # of the two of colour
_ENOUGH = 170  # pixels a side, of which the thumbnail is made: every so many-th of larger images
BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE


def describe(image: Image.Image) -> bytes:
    """The descriptor of an upright RGB image: BYTES bytes, the planes Y, Cb and Cr (JFIF) of the squashed whole."""
    every = min(image.size) // _ENOUGH
    if every > 1:  # copies come out as alike, in less time
        image = image.resize((image.width // every, image.height // every), Image.Resampling.NEAREST)
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    grey, blue, red = small.convert("YCbCr").split()
    side = (COLOUR_SIDE, COLOUR_SIDE)
    box = Image.Resampling.BOX
    return grey.tobytes() + blue.resize(side, box).tobytes() + red.resize(side, box).tobytes()


def grey_plane(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, BYTES) uint8 → (n, SIDE, SIDE) uint8."""
    return descriptors[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)


def colour_planes(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, BYTES) uint8 → (n, 2, COLOUR_SIDE, COLOUR_SIDE) uint8, Cb and Cr."""
    return descriptors[:, SIDE * SIDE :].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE)

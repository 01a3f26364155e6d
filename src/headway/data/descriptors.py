"""What is kept of an image's pixels to find the same picture again: a descriptor, which is a thumbnail, and a digest.

Re-encoded, half-sized, cropped and mirrored copies of an image differ little in the descriptor; `quality.duplicates`
compares them. The digest is of every pixel.
"""

from __future__ import annotations

import struct

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


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """XXH3 of 128 bits by two seeds (32 bytes) of the size and the bytes of pixels (H, W, 3) uint8, C-contiguous.

    It finds the same picture among a user's own files, no forgery: files themselves are known by their sha256. That of
    the pixels took a quarter of the time of reading a photo on a processor without instructions for it, XXH3 takes
    an eighteenth of that. Raises ValueError for other pixels.
    """
    import xxhash  # comes with [train]; a bundle does not ask for it

    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels {pixels.dtype} {pixels.shape}, expected uint8 (height, width, 3)")
    height, width = pixels.shape[:2]
    size, digest = struct.pack("<II", width, height), b""
    for seed in range(2):
        half = xxhash.xxh3_128(size, seed=seed)
        half.update(pixels.data)
        digest += half.digest()
    return digest


def grey_plane(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, BYTES) uint8 → (n, SIDE, SIDE) uint8."""
    return descriptors[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)


def colour_planes(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, BYTES) uint8 → (n, 2, COLOUR_SIDE, COLOUR_SIDE) uint8, Cb and Cr."""
    return descriptors[:, SIDE * SIDE :].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE)

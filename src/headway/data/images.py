"""Find image files; decode one to upright RGB, or raise BadImage. numpy and Pillow only: bundles use it too.

The rules, the same in training, evaluation, bundle and server:

    format        by content: JPEG, PNG, WebP, GIF, BMP, TIFF; the name's extension only makes a note
    orientation   EXIF's, applied
    animation     the first frame (of an animated PNG its default picture; of a TIFF the first page)
    grey, 1-bit   the grey value in all three channels
    16 bits       the high byte (v >> 8); 12-bit TIFF v >> 4: scaled, never clipped, and not stretched
    palette       its colours
    alpha, tRNS   composited on white, also the one transparent colour of GIF and PNG
    CMYK          (255 - C)(255 - K) / 255, and so on; Adobe's inverted JPEGs are turned first
    YCbCr         by JFIF's matrix
    ICC profiles  ignored
    refused       Lab, floating point, signed 16 bits, more than 16 bits, more than 4 channels with more than 8 bits

Large JPEGs are decoded at 1/2, 1/4 or 1/8 where the caller allows it (`shortest`), inside the decoder ("draft").
Pillow's own settings are read, never changed.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.data import headers
from headway.data.walk import Found, extension, find_images
from headway.data.wording import shown
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "BadImage",
    "Decoded",
    "Found",
    "NotAnImage",
    "TooManyPixels",
    "decode",
    "find_images",
    "read_file",
    "shown",
]

VERSION = 1  # of the rules above; part of every cache key
MAX_PIXELS = 200_000_000
MAX_BYTES = 2 << 30
BACKGROUND = (255, 255, 255)

_FORMAT_OF = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".gif": "GIF",
    ".webp": "WEBP",
}
_SPELT = {"WEBP": "WebP"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(HeadwayError):
    """One image that cannot be used. `reason` is short and says what is wrong, never a library's own words."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{shown(path)}: {reason}")
        self.path = path
        self.reason = reason


class NotAnImage(BadImage):
    """Its first bytes are those of no format that is read."""


class TooManyPixels(BadImage):
    """A picture that is larger than allowed, or than the memory."""


@dataclass(frozen=True)
class Decoded:
    """One decoded image.

    image   mode RGB, upright, fully loaded
    size    width and height in the header, turned upright (`image` is smaller where a JPEG was scaled)
    format  JPEG, PNG, WEBP, GIF, BMP, TIFF, or "array"
    notes   what a reader should know, e.g. "first of 12 frames"
    """

    image: Image.Image
    size: tuple[int, int]
    format: str
    notes: tuple[str, ...] = ()


def decode(
    content: bytes | NDArray[np.uint8], name: str, *, shortest: int | None = None, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decode a file's bytes, or take pixels (H, W, 3), to an upright RGB image. Raises BadImage.

    shortest    a JPEG may be decoded at reduced scale as long as its shorter side keeps this many pixels
    max_pixels  larger pictures are refused by what their header says, before anything is decoded
    """
    if isinstance(content, np.ndarray):
        return _from_pixels(content, name)
    kind = headers.sniff(content[:16])
    if kind is None:
        raise NotAnImage(name, headers.unknown(content))
    try:
        header = headers.read(kind, content)
    except headers.Damaged as error:
        raise BadImage(name, str(error)) from error
    scale = _scale(header.size, shortest) if kind == "JPEG" and shortest else 1
    _check_size(name, kind, header.size, scale, max_pixels)
    loaded = _load(kind, header, name, scale)
    try:
        image, notes = _to_rgb(loaded, header, name)
        image = image.transpose(_TURNS[header.orientation]) if header.orientation in _TURNS else image
    except MemoryError as error:
        raise TooManyPixels(name, _too_large(header.size)) from error
    width, height = header.size
    size = (height, width) if header.orientation >= 5 else (width, height)
    return Decoded(image, size, kind, _notes(kind, name, header) + notes)


def read_file(path: str | os.PathLike[str], name: str) -> bytes:
    """The bytes of a regular file. Pipes and devices are never opened. Raises BadImage, which calls it `name`."""
    try:
        status = os.stat(path)  # noqa: PTH116 (millions of names: no Path object for each)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise BadImage(name, f"not a file ({kind})")
        if status.st_size > MAX_BYTES:
            raise BadImage(name, f"{status.st_size / (1 << 30):.1f} GB, the limit is {MAX_BYTES >> 30} GB")
        with open(path, "rb") as stream:  # noqa: PTH123
            return stream.read()
    except FileNotFoundError as error:
        raise BadImage(name, "does not exist") from error
    except PermissionError as error:
        raise BadImage(name, "no permission to read it") from error
    except MemoryError as error:
        raise BadImage(name, "not enough memory to read it") from error
    except (OSError, ValueError) as error:
        raise BadImage(name, f"cannot be read ({getattr(error, 'strerror', None) or 'bad name'})") from error


def _from_pixels(pixels: NDArray[np.uint8], name: str) -> Decoded:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise BadImage(name, f"pixels {pixels.dtype} {pixels.shape}, expected uint8 (height, width, 3)")
    return Decoded(Image.fromarray(np.ascontiguousarray(pixels)), (pixels.shape[1], pixels.shape[0]), "array")


def _scale(size: tuple[int, int], shortest: int) -> int:
    """How many times smaller a JPEG may be decoded: 1, 2, 4 or 8."""
    times = min(size) // shortest
    return next((scale for scale in (8, 4, 2) if times >= scale), 1)


def _check_size(name: str, kind: str, size: tuple[int, int], scale: int, limit: int) -> None:
    # Pillow checks TIFF at half of what it allows elsewhere, and would warn; its limit is ours there.
    allowed = Image.MAX_IMAGE_PIXELS
    if allowed is not None and kind in ("TIFF", "WEBP", "GIF"):
        limit = min(limit, int(allowed) * (2 if kind == "WEBP" else 1))
    width, height = size
    if min(size) < 1:
        raise BadImage(name, f"damaged {_SPELT.get(kind, kind)} (no size in it)")
    if -(-width // scale) * -(-height // scale) > limit:
        words = f"{limit / 1e6:,.0f} million" if limit >= 1_000_000 else f"{limit:,}"
        raise TooManyPixels(name, f"{width:,} x {height:,} pixels, the limit is {words}")


def _opened(kind: str, content: bytes) -> ImageFile:
    """The one decoder for `kind`. Image.open would check the size first and warn, also of a JPEG to be scaled."""
    stream = io.BytesIO(content)
    if kind == "JPEG":
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(stream)
    if kind == "PNG":
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(stream)
    if kind == "WEBP":
        from PIL.WebPImagePlugin import WebPImageFile

        return WebPImageFile(stream)
    if kind == "GIF":
        from PIL.GifImagePlugin import GifImageFile

        return GifImageFile(stream)
    if kind == "BMP":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile(stream)
    from PIL.TiffImagePlugin import TiffImageFile

    return TiffImageFile(stream)


def _load(kind: str, header: headers.Header, name: str, scale: int) -> Image.Image:
    """Decode completely; every failure of the decoder becomes a BadImage with a reason of ours."""
    image: ImageFile | None = None
    try:
        image = _opened(kind, header.content)
        if image.size != header.size:
            raise BadImage(name, f"damaged {_SPELT.get(kind, kind)} (its parts disagree about the size)")
        if scale > 1:
            image.draft(image.mode, (header.size[0] // scale, header.size[1] // scale))
        image.load()
    except BadImage:
        raise
    except MemoryError as error:
        raise TooManyPixels(name, _too_large(header.size)) from error
    except Exception as error:
        if "truncated" not in str(error).lower():
            raise BadImage(name, f"damaged {_SPELT.get(kind, kind)}") from error
        share = None if image is None or header.progressive else _share(image, bottom_up=kind == "BMP")
        raise BadImage(name, f"truncated at {share} %" if share else "truncated") from error
    return image


def _too_large(size: tuple[int, int]) -> str:
    return f"not enough memory for {size[0]:,} x {size[1]:,} pixels"


def _share(image: ImageFile, *, bottom_up: bool) -> int | None:
    """Per cent of the rows that a failed decoder had reached: those behind are still zero."""
    try:
        image.tile = []
        rows = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError):
        return None
    reached = np.flatnonzero(rows.reshape(len(rows), -1).any(axis=1))
    if not len(reached):
        return None
    done = len(rows) - int(reached[0]) if bottom_up else int(reached[-1]) + 1
    return 100 * done // len(rows)


def _notes(kind: str, name: str, header: headers.Header) -> tuple[str, ...]:
    notes = []
    suffix = extension(name)
    if _FORMAT_OF.get(suffix, kind) != kind:
        notes.append(f"content is {_SPELT.get(kind, kind)}, name says {suffix}")
    if header.frames > 1:
        count = f"{header.frames:,} or more" if header.frames >= headers.FRAMES else f"{header.frames}"
        notes.append(f"first of {count} frames")
    if header.bits > 8:
        notes.append(f"{header.bits} bits a channel")
    return tuple(notes)


def _to_rgb(image: Image.Image, header: headers.Header, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The rule of every mode (see the top of this file), and a note where transparency was shown on white."""
    mode, clear = image.mode, image.info.get("transparency")
    on_white = ("transparent parts shown on white",)
    if mode == "RGB" and clear is None:
        return image, ()
    if mode == "P":
        if clear is None and (image.palette is None or image.palette.mode == "RGB"):
            return image.convert("RGB"), ()
        return _on_background(image.convert("RGBA")), on_white
    if mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        straight = image.convert("LA") if mode == "La" else image
        return _on_background(straight.convert("RGBA")), on_white
    image.info.pop("transparency", None)  # convert would carry it along, and warn
    if mode.startswith("I;16") or (mode == "I" and header.bits == 16):
        wide = np.asarray(image)
        grey = (wide >> (4 if header.bits == 12 else 8)).astype(np.uint8)
        rgb = Image.fromarray(grey).convert("RGB")
        return (rgb, ()) if clear is None else (_cleared(rgb, wide == clear), on_white)
    if mode in ("1", "L", "RGB", "CMYK", "YCbCr"):
        rgb = image.convert("RGB")
        if clear is None:
            return rgb, ()
        return _cleared(rgb, (np.asarray(rgb) == _eight_bits(clear, header.bits)).all(axis=2)), on_white
    raise BadImage(name, f"{'Lab colours' if mode == 'LAB' else mode + ' pixels'} are not supported: convert to RGB")


def _eight_bits(clear: int | tuple[int, ...], bits: int) -> NDArray[np.int64]:
    """A transparent colour, stored with the file's own bits, in the 8 bits that the decoder gives."""
    value = np.atleast_1d(np.asarray(clear, dtype=np.int64))
    return value >> 8 if bits == 16 else value * (255 // ((1 << bits) - 1)) if bits < 8 else value


def _on_background(image: Image.Image) -> Image.Image:
    background = Image.new("RGB", image.size, BACKGROUND)
    background.paste(image, mask=image.getchannel("A"))
    return background


def _cleared(image: Image.Image, where: NDArray[np.bool_]) -> Image.Image:
    pixels = np.array(image)
    pixels[where] = BACKGROUND
    return Image.fromarray(pixels)

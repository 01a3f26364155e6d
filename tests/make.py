"""Material for tests: small images drawn from a seed, whole and damaged, and folders of them."""

from __future__ import annotations

import colorsys
import io
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

EXIF_ORIENTATION = 0x0112


def image(kind: int = 0, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """An RGB image (width, height) of a figure on a noisy ground. `kind` = the class: its colour and its shape.

    Equal arguments, equal pixels; other seeds, other pixels. Kinds are easy to tell apart.
    """
    rng = np.random.default_rng([seed, kind])
    width, height = size
    ground = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(ground)
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb((kind * 0.381) % 1, 0.9, 0.9))
    left, top = float(rng.uniform(0.05, 0.3)) * width, float(rng.uniform(0.05, 0.3)) * height
    box = (left, top, left + 0.6 * width, top + 0.6 * height)
    draw = ImageDraw.Draw(picture)
    if kind % 3 == 0:
        draw.ellipse(box, fill=(red, green, blue))
    elif kind % 3 == 1:
        draw.rectangle(box, fill=(red, green, blue))
    else:
        draw.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) / 2, box[1])], fill=(red, green, blue))
    return picture


def encode(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """`picture` as the bytes of a file of the format `form` (PNG, JPEG, WEBP, GIF, BMP, TIFF)."""
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def jpeg(kind: int = 0, seed: int = 0, size: tuple[int, int] = (64, 48), quality: int = 90) -> bytes:
    """A JPEG file of `image(kind, seed, size)`."""
    return encode(image(kind, seed, size), "JPEG", quality=quality)


def png(kind: int = 0, seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG file of `image(kind, seed, size)`."""
    return encode(image(kind, seed, size))


def write(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar(path: Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar archive of files, in the order given. Returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def class_folders(
    root: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (64, 48), seed: int = 0, suffix: str = ".jpg"
) -> Path:
    """A folder per class under `root`, `counts[name]` distinct images in each; the names' order gives the kinds.

    Files are named 0000.jpg, 0001.jpg, ... (`suffix` .jpg or .png). Returns `root`.
    """
    for kind, (name, count) in enumerate(sorted(counts.items())):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture = image(kind, seed * 100_003 + number, size)
            content = encode(picture, "JPEG", quality=90) if suffix == ".jpg" else encode(picture)
            write(root / name / f"{number:04d}{suffix}", content)
    return root


def split_folders(root: Path, counts: Mapping[str, Mapping[str, int]], *, size: tuple[int, int] = (64, 48)) -> Path:
    """`root/<subset>/<class>/0000.jpg`: `counts[subset][class]` images, no image twice. Returns `root`."""
    for position, (subset, classes) in enumerate(counts.items()):
        class_folders(root / subset, classes, size=size, seed=position + 1)
    return root


def truncated(content: bytes, share: float = 0.6) -> bytes:
    """The first `share` of a file."""
    return content[: int(len(content) * share)]


def rotated(orientation: int, kind: int = 0, seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG whose EXIF orientation is 1 to 8: shown upright it is `image(kind, seed, size)`, pixel for pixel."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = image(kind, seed, size)
    if orientation in back:
        picture = picture.transpose(back[orientation])
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return encode(picture, "PNG", exif=exif)


def cmyk(kind: int = 0, seed: int = 0) -> bytes:
    """A JPEG of four channels."""
    return encode(image(kind, seed).convert("CMYK"), "JPEG", quality=95)


def sixteen_bits(kind: int = 0, seed: int = 0, form: str = "PNG") -> bytes:
    """A greyscale PNG or TIFF of 16 bits a channel, using the whole range."""
    grey = np.asarray(image(kind, seed).convert("L"), dtype=np.uint16) * 257
    return encode(Image.fromarray(grey), form)


def palette(kind: int = 0, seed: int = 0) -> bytes:
    """A PNG of 16 palette colours, the first of them transparent."""
    return encode(image(kind, seed).quantize(16), "PNG", transparency=0)


def alpha(kind: int = 0, seed: int = 0) -> bytes:
    """A PNG with an alpha channel: its left half transparent."""
    picture = image(kind, seed).convert("RGBA")
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, 0, picture.size[0] // 2, picture.size[1]))
    picture.putalpha(mask)
    return encode(picture)


def animated(form: str = "GIF", frames: int = 3) -> bytes:
    """An animation (GIF, WEBP, PNG, TIFF); its first frame is `image(0)`, the colours of a GIF aside."""
    rest = [image(number + 1, number) for number in range(frames - 1)]
    return encode(image(0), form, save_all=True, append_images=rest, **({"lossless": True} if form == "WEBP" else {}))


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few bytes whose header promises `width` x `height` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )

"""What the first bytes of an image file tell, before anything is decoded. Standard library only.

Pillow warns (`warnings.warn`) about damaged metadata, and silencing a warning is not thread-safe. So the parts that
it would stumble over and that no rule of ours needs (EXIF, the animation chunk of PNG) never reach it: they are read
here and left out of the bytes handed on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from headway.data import tiff

FRAMES = 1000  # counting stops here


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    size         width and height as stored, pixels
    orientation  1 to 8 as in EXIF
    frames       pictures in the file, FRAMES = so many or more
    content      the bytes for the decoder
    bits         bits a channel
    progressive  a JPEG in several scans: a cut file shows no complete row
    """

    size: tuple[int, int]
    content: bytes
    orientation: int = 1
    frames: int = 1
    bits: int = 8
    progressive: bool = False


class Damaged(Exception):
    """The header cannot be used; the text is the reason."""


_KINDS = (
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"v/1\x01", "OpenEXR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"FUJIFILM", "Camera raw"),
    (b"SIMPLE  =", "FITS"),
)
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"heim": "HEIC"}
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer: run 'git lfs pull'"),
)


def sniff(start: bytes) -> str | None:
    """The format that the first 16 bytes belong to: JPEG, PNG, GIF, WEBP, BMP, TIFF, or None."""
    if start[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if start[:2] == b"BM" and start[6:10] == b"\0\0\0\0":
        return "BMP"
    return None


def unknown(content: bytes) -> str:
    """Why `content` of none of the six formats is not read, in words that help."""
    if not content:
        return "empty file"
    for start, kind in _KINDS:
        if content.startswith(start):
            return f"{kind} is not supported: convert to JPEG or PNG"
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        kind = "AVIF" if brand[:3] == b"avi" else _BRANDS.get(brand, "Video")
        return f"{kind} is not supported: convert to JPEG or PNG"
    if content[128:132] == b"DICM":
        return "DICOM is not supported: convert to PNG or TIFF"
    if b"<svg" in content[:1000]:
        return "SVG is not supported: convert to PNG"
    for start, kind in _OTHERS:
        if content.startswith(start):
            return f"not an image ({kind})"
    if not content[:4096].strip(b"\0"):
        return "not an image (only zero bytes)"
    first = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    word = first[:24].decode("utf-8", "ignore").split("\n")[0].rstrip()
    if word and word.isprintable() and not first[:24].strip(bytes(range(32, 127))).strip(b"\t\r\n"):
        return f"not an image (starts with '{word[:12].rstrip()}')"
    return "not an image (unknown content)"


def read(kind: str, content: bytes) -> Header:
    """The header of a file of the format `kind`. Raises Damaged."""
    try:
        return _READERS[kind](content)
    except (struct.error, IndexError) as error:
        raise Damaged("truncated in its header") from error


def orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block, which is a little TIFF; 1 where there is none."""
    if exif[:6] == b"Exif\0\0":
        exif = exif[6:]
    try:
        value = tiff.number(tiff.read_tags(exif), tiff.ORIENTATION, 1)
    except (tiff.BadTags, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def _jpeg(content: bytes) -> Header:
    """Walk the segments up to the first scan; EXIF segments are left out of the content."""
    cuts: list[tuple[int, int]] = []
    size, progressive, turn, position = None, False, 1, 2
    while True:
        position = content.find(b"\xff", position)
        if position < 0:
            raise Damaged("truncated in its header")
        marker = content[position + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # fill bytes and markers without a length
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA or marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", content, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, position + 5)
            size, progressive = (width, height), marker in (0xC2, 0xC6, 0xCA, 0xCE)
        elif marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
            if not cuts:
                turn = orientation(content[position + 4 : position + 2 + length])
            cuts.append((position, position + 2 + length))
        position += 2 + length
    if size is None:
        raise Damaged("damaged JPEG (no size in it)")
    return Header(size, _without(content, cuts), orientation=turn, progressive=progressive)


def _png(content: bytes) -> Header:
    """Walk the chunks; the animation's control chunk is left out, so that the default picture is what is read."""
    if content[12:16] != b"IHDR":
        raise Damaged("damaged PNG (no size in it)")
    width, height, bits = struct.unpack_from(">IIB", content, 16)
    cuts: list[tuple[int, int]] = []
    position, frames, turn = 8, 1, 1
    while position + 8 <= len(content):
        (length,), kind = struct.unpack_from(">I", content, position), content[position + 4 : position + 8]
        end = position + 12 + length
        if kind == b"acTL" and length >= 4:
            frames = min(FRAMES, max(1, *struct.unpack_from(">I", content, position + 8)))
            cuts.append((position, end))
        elif kind == b"eXIf":
            turn = orientation(content[position + 8 : end - 4])
        position = end
    return Header((width, height), _without(content, cuts), orientation=turn, frames=frames, bits=bits)


def _gif(content: bytes) -> Header:
    """Walk the blocks: the picture is as large as the screen, or as the first frame where that reaches further."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    position, frames = 13 + _colours(flags), 0
    while position < len(content) and frames < FRAMES:
        if content[position] == 0x2C:
            if not frames:
                left, top, wide, high = struct.unpack_from("<HHHH", content, position + 1)
                width, height = max(width, left + wide), max(height, top + high)
            frames += 1
            position = _past_blocks(content, position + 11 + _colours(content[position + 9]))
        elif content[position] == 0x21:
            position = _past_blocks(content, position + 2)
        else:  # the trailer, or a file that is cut: the decoder tells
            break
    return Header((width, height), content, frames=max(1, frames))


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _past_blocks(content: bytes, position: int) -> int:
    while position < len(content) and content[position]:
        position += content[position] + 1
    return position + 1


def _webp(content: bytes) -> Header:
    """The canvas of an extended file, else the size of its only picture (RFC 9649)."""
    kind = content[12:16]
    turn, frames = 1, 1
    if kind == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        height = int.from_bytes(content[27:30], "little") + 1
        position, pictures = 12, 0
        while position + 8 <= len(content):
            chunk, (length,) = content[position : position + 4], struct.unpack_from("<I", content, position + 4)
            pictures += chunk == b"ANMF" and pictures < FRAMES
            if chunk == b"EXIF":
                turn = orientation(content[position + 8 : position + 8 + length])
            position += 8 + length + (length & 1)
        frames = max(1, pictures)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise Damaged("damaged WebP (no picture in it)")
    if struct.unpack_from("<I", content, 4)[0] + 8 > len(content) + 1:  # libwebp tells no reason
        share = 100 * len(content) // (struct.unpack_from("<I", content, 4)[0] + 8)
        raise Damaged(f"truncated at {share} %")
    return Header((width, height), content, orientation=turn, frames=frames)


def _bmp(content: bytes) -> Header:
    (length,) = struct.unpack_from("<I", content, 14)
    if length == 12:
        width, height = struct.unpack_from("<HH", content, 18)
    else:
        width, height = struct.unpack_from("<ii", content, 18)
    return Header((width, abs(height)), content)


def _tiff(content: bytes) -> Header:
    try:
        found = tiff.read(content)
    except tiff.BadTags as error:
        raise Damaged(str(error)) from error
    return Header(found.size, found.content, found.orientation, min(FRAMES, found.frames), found.bits)


def _without(content: bytes, cuts: list[tuple[int, int]]) -> bytes:
    """`content` without the pieces `cuts`; the same object where there are none."""
    if not cuts:
        return content
    ends = [0, *(end for _, end in cuts)]
    starts = [*(start for start, _ in cuts), len(content)]
    view = memoryview(content)
    return b"".join(view[end:start] for end, start in zip(ends, starts, strict=True))


_READERS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WEBP": _webp, "BMP": _bmp, "TIFF": _tiff}

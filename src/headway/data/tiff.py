"""The tags of a TIFF file (and of EXIF, which is one): read, checked and reduced to those that pixels need.

TIFF 6.0, sections 2 and 8; BigTIFF as in libtiff. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, CHANNELS, FORMAT, TILE_WIDTH, TILE_HEIGHT = 274, 277, 339, 322, 323
STRIPS, STRIP_BYTES, TILES, TILE_BYTES = 273, 279, 324, 325
# All that decoding needs; text, dates, maps and thumbnails stay out of the decoder's sight.
_NEEDED = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, CHANNELS, FORMAT, TILE_WIDTH, TILE_HEIGHT, STRIPS, STRIP_BYTES}
    | {TILES, TILE_BYTES, 266, 278, 284, 292, 293, 317, 320, 332, 334, 338, 347, *range(512, 522), *range(529, 533)}
)
_SINGLE = frozenset({WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, CHANNELS, TILE_WIDTH, TILE_HEIGHT, 266, 278, 284, 317})
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_MOST = 4096  # tags of one table: more is damage


class BadTags(Exception):
    """The tags cannot be used; the text is the reason."""


@dataclass(frozen=True)
class Tag:
    """One entry: its type, its values where they are integers, and its bytes in the table."""

    kind: int
    count: int
    values: tuple[int, ...]
    entry: bytes


@dataclass(frozen=True)
class Tiff:
    """The first picture of a file; `content` holds no other and only the tags that decoding needs."""

    size: tuple[int, int]
    bits: int
    orientation: int
    frames: int
    content: bytes


@dataclass(frozen=True)
class _Layout:
    """Byte order and widths: classic TIFF has 12 bytes an entry, BigTIFF 20."""

    order: str
    big: bool

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ8s" if self.big else "HHI4s")

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")


def read(content: bytes) -> Tiff:
    """The first picture in `content`. Raises BadTags."""
    layout, start = _layout(content)
    tags = read_tags(content)
    size = number(tags, WIDTH, 0), number(tags, HEIGHT, 0)
    if min(size) < 1:
        raise BadTags("damaged TIFF (no size in it)")
    tile = number(tags, TILE_WIDTH, 1) * number(tags, TILE_HEIGHT, 1)
    if tile > 4 * max(1 << 20, size[0] * size[1]):
        raise BadTags("damaged TIFF (tiles larger than the picture)")
    bits = max(tags[BITS].values, default=1) if BITS in tags else 1
    _check_pixels(tags, bits)
    _check_length(tags, len(content))
    return Tiff(size, bits, number(tags, ORIENTATION, 1), _frames(content, layout, start), _reduced(content, tags))


def read_tags(content: bytes) -> Mapping[int, Tag]:
    """The first table of tags; those whose values lie outside the file are left out. Raises BadTags."""
    layout, start = _layout(content)
    try:
        (n,) = struct.unpack_from(layout.count, content, start)
    except struct.error as error:
        raise BadTags("truncated in its header") from error
    if n > _MOST:
        raise BadTags("damaged TIFF (tags)")
    first, step = start + struct.calcsize(layout.count), struct.calcsize(layout.entry)
    if first + n * step > len(content):
        raise BadTags("truncated in its header")
    tags: dict[int, Tag] = {}
    total = 0
    for position in range(first, first + n * step, step):
        number_, kind, count, data = struct.unpack_from(layout.entry, content, position)
        length = _BYTES.get(kind, 0) * count
        if length == 0 or number_ in tags or (number_ in _SINGLE and count != 1):
            continue
        where = position + step - len(data)
        if length > len(data):
            total += length
            (where,) = struct.unpack_from(layout.offset, data)
            if where + length > len(content) or total > len(content):
                continue
        values: tuple[int, ...] = ()
        if kind in _INTEGERS and (number_ in _NEEDED or number_ == ORIENTATION):
            values = struct.unpack_from(f"{layout.order}{count}{_INTEGERS[kind]}", content, where)
        tags[number_] = Tag(kind, count, values, content[position : position + step])
    return tags


def number(tags: Mapping[int, Tag], tag: int, default: int) -> int:
    """The first integer of `tag`, or `default`."""
    return tags[tag].values[0] if tag in tags and tags[tag].values else default


def _layout(content: bytes) -> tuple[_Layout, int]:
    """How the file is laid out, and where its first table of tags stands."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 8:
        raise BadTags("truncated in its header")
    (version,) = struct.unpack_from(order + "H", content, 2)
    layout = _Layout(order, big=version == 43)
    if layout.big and len(content) < 16:
        raise BadTags("truncated in its header")
    (start,) = struct.unpack_from(layout.offset, content, 8 if layout.big else 4)
    return layout, start


def _check_pixels(tags: Mapping[int, Tag], bits: int) -> None:
    """Refuse what the decoder could not turn into 8-bit colours without guessing a range."""
    channels = number(tags, CHANNELS, 1)
    sample = number(tags, FORMAT, 1)
    wide = "bit" if bits == 1 else "bits"
    if bits not in (1, 2, 4, 8, 12, 16, 24, 32, 64):
        raise BadTags("damaged TIFF (tags)")
    if sample == 3:
        raise BadTags(f"floating-point pixels ({bits} bits); headway reads whole numbers of 8 or 16 bits a channel")
    if bits > 16 or (sample == 2 and bits > 8):
        sign = "signed " if sample == 2 else ""
        raise BadTags(f"{bits} {sign}{wide} a channel; headway reads 8 or 16, unsigned")
    if channels > 4 and bits != 8:
        raise BadTags(f"{bits} {wide} a channel, {channels} channels; headway reads 1 to 4")
    if channels > 6:
        raise BadTags(f"{channels} channels; headway reads 1 to 4")


def _check_length(tags: Mapping[int, Tag], length: int) -> None:
    """Say how much of the file is there, where strips or tiles lie beyond its end."""
    for offsets, counts in ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES)):
        if offsets in tags and counts in tags:
            ends = [a + b for a, b in zip(tags[offsets].values, tags[counts].values, strict=False)]
            if ends and max(ends) > length:
                raise BadTags(f"truncated at {100 * length // max(ends)} %")


def _frames(content: bytes, layout: _Layout, start: int) -> int:
    """How many tables follow one another; a ring ends the count."""
    seen: set[int] = set()
    while start and start not in seen and start < len(content) and len(seen) < 1000:
        seen.add(start)
        try:
            (n,) = struct.unpack_from(layout.count, content, start)
            after = start + struct.calcsize(layout.count) + n * struct.calcsize(layout.entry)
            (start,) = struct.unpack_from(layout.offset, content, after)
        except struct.error:
            break
    return max(1, len(seen))


def _reduced(content: bytes, tags: Mapping[int, Tag]) -> bytes:
    """`content` with the first table rewritten in place: needed tags only, no further picture."""
    layout, start = _layout(content)
    entries = [tags[tag].entry for tag in sorted(tags) if tag in _NEEDED]
    table = struct.pack(layout.count, len(entries)) + b"".join(entries) + struct.pack(layout.offset, 0)
    view = memoryview(content)
    return b"".join((view[:start], table, view[start + len(table) :]))

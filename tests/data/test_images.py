"""decode, pixel_digest, read_file: each rule against pixels computed here without the decoder's own conversions."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headway.data.descriptors import pixel_digest
from headway.data.images import BadImage, decode, read_file, shown
from tests import make

Pixels = NDArray[np.uint8]


def pixels(content: bytes, name: str = "x") -> Pixels:
    return np.asarray(decode(content, name).image)


def ramp(width: int = 16, height: int = 8) -> Pixels:
    """(8, 16) uint8, all different, asymmetric."""
    return np.arange(width * height, dtype=np.uint8).reshape(height, width) * 2


def grey(values: NDArray[np.integer]) -> Pixels:
    """(H, W) to (H, W, 3)."""
    return np.repeat(values[:, :, None], 3, axis=2).astype(np.uint8)


def on_white(colour: NDArray[np.integer], alpha: NDArray[np.integer]) -> Pixels:
    """The definition of compositing, in floating point: (H, W, 3) and (H, W) to (H, W, 3)."""
    share = alpha[:, :, None] / 255
    return np.round(colour * share + 255 * (1 - share)).astype(np.uint8)


COLOUR = np.asarray(make.image(size=(16, 8)))
ALPHA = ramp()
TABLE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)


def paletted(form: str, **options: object) -> bytes:
    picture = Image.fromarray(ramp())
    picture.putpalette(TABLE.tobytes())
    return make.encode(picture, form, **options)


def png(depth: int, colour_type: int, rows: list[bytes], *chunks: tuple[bytes, bytes], width: int = 4) -> bytes:
    """A PNG written by hand: rows without their filter bytes, further chunks before the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    middle = b"".join(chunk(kind, data) for kind, data in chunks)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + middle
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def cmyk_on_paper() -> tuple[bytes, Pixels]:
    ink = np.random.default_rng(1).integers(0, 256, (8, 16, 4), dtype=np.uint8)
    content = make.encode(Image.frombytes("CMYK", (16, 8), ink.tobytes()), "TIFF")
    plain = ink.astype(float)
    return content, np.round((255 - plain[:, :, :3]) * (255 - plain[:, :, 3:]) / 255).astype(np.uint8)


DEEP = (np.arange(128, dtype=np.uint16) * 516).reshape(8, 16)

# kind → a file, and the pixels that the rule gives
RULES: dict[str, Callable[[], tuple[bytes, Pixels]]] = {
    "rgb png": lambda: (make.encode(Image.fromarray(COLOUR)), COLOUR),
    "rgb bmp": lambda: (make.encode(Image.fromarray(COLOUR), "BMP"), COLOUR),
    "rgb tiff": lambda: (make.encode(Image.fromarray(COLOUR), "TIFF"), COLOUR),
    "rgb tiff lzw": lambda: (make.encode(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw"), COLOUR),
    "rgb tiff deflate": lambda: (make.encode(Image.fromarray(COLOUR), "TIFF", compression="tiff_deflate"), COLOUR),
    "rgb webp": lambda: (make.encode(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR),
    "grey png": lambda: (make.encode(Image.fromarray(ramp())), grey(ramp())),
    "grey tiff": lambda: (make.encode(Image.fromarray(ramp()), "TIFF"), grey(ramp())),
    "grey bmp": lambda: (make.encode(Image.fromarray(ramp()), "BMP"), grey(ramp())),
    "grey gif": lambda: (make.encode(Image.fromarray(ramp()), "GIF"), grey(ramp())),
    "1 bit png": lambda: (make.encode(Image.fromarray(ramp() > 90)), grey((ramp() > 90) * 255)),
    "1 bit tiff": lambda: (make.encode(Image.fromarray(ramp() > 90), "TIFF"), grey((ramp() > 90) * 255)),
    "1 bit group 4 tiff": lambda: (
        make.encode(Image.fromarray(ramp() > 90), "TIFF", compression="group4"),
        grey((ramp() > 90) * 255),
    ),
    "4 bit grey png": lambda: (png(4, 0, [b"\x01\x2f"]), grey(np.array([[0, 17, 34, 255]]))),
    "16 bit grey png": lambda: (make.encode(Image.fromarray(DEEP)), grey(DEEP // 256)),
    "16 bit grey tiff": lambda: (make.encode(Image.fromarray(DEEP), "TIFF"), grey(DEEP // 256)),
    "16 bit grey png tRNS": lambda: (
        png(16, 0, [struct.pack(">4H", 256, 257, 40_000, 65_535)], (b"tRNS", struct.pack(">H", 257))),
        grey(np.array([[1, 255, 156, 255]])),
    ),
    "16 bit rgb png": lambda: (
        png(16, 2, [struct.pack(">6H", 0, 255, 256, 65_535, 40_000, 513)], width=2),
        np.array([[[0, 0, 1], [255, 156, 2]]], np.uint8),
    ),
    "palette png": lambda: (paletted("PNG"), TABLE[ramp()]),
    "palette gif": lambda: (paletted("GIF"), TABLE[ramp()]),
    "palette bmp": lambda: (paletted("BMP"), TABLE[ramp()]),
    "palette tiff": lambda: (paletted("TIFF"), TABLE[ramp()]),
    "palette png, one clear": lambda: (
        paletted("PNG", transparency=8),
        np.where((ramp() == 8)[:, :, None], np.uint8(255), TABLE[ramp()]),
    ),
    "palette gif, one clear": lambda: (
        paletted("GIF", transparency=8),
        np.where((ramp() == 8)[:, :, None], np.uint8(255), TABLE[ramp()]),
    ),
    "palette png, alphas": lambda: (
        paletted("PNG", transparency=bytes(range(255, -1, -1))),
        on_white(TABLE[ramp()], 255 - ramp()),
    ),
    "rgba png": lambda: (
        make.encode(Image.fromarray(np.dstack([COLOUR, ALPHA]))),
        on_white(COLOUR, ALPHA),
    ),
    "rgba webp": lambda: (
        make.encode(Image.fromarray(np.dstack([COLOUR, ALPHA])), "WEBP", lossless=True, exact=True),
        on_white(COLOUR, ALPHA),
    ),
    "rgba tiff": lambda: (
        make.encode(Image.fromarray(np.dstack([COLOUR, ALPHA])), "TIFF"),
        on_white(COLOUR, ALPHA),
    ),
    "grey with alpha png": lambda: (
        make.encode(Image.fromarray(np.dstack([ramp(), 255 - ramp()]))),
        on_white(grey(ramp()), 255 - ramp()),
    ),
    "rgb png tRNS": lambda: (
        png(8, 2, [b"\1\2\3\4\5\6\1\2\4"], (b"tRNS", b"\0\1\0\2\0\3"), width=3),
        np.array([[[255, 255, 255], [4, 5, 6], [1, 2, 4]]], np.uint8),
    ),
    "grey png tRNS": lambda: (png(8, 0, [b"\1\2\3\4"], (b"tRNS", b"\0\2")), grey(np.array([[1, 255, 3, 4]]))),
    "4 bit grey png tRNS": lambda: (png(4, 0, [b"\x01\x2f"], (b"tRNS", b"\0\2")), grey(np.array([[0, 17, 255, 255]]))),
    "1 bit png tRNS": lambda: (png(1, 0, [b"\x50"], (b"tRNS", b"\0\0")), grey(np.array([[255, 255, 255, 255]]))),
    "cmyk tiff": cmyk_on_paper,
    "icc profile": lambda: (make.encode(Image.fromarray(COLOUR), icc_profile=b"not a profile" * 20), COLOUR),
}  # fmt: skip


@pytest.mark.parametrize("kind", RULES)
def test_decode__mode_rules(kind: str) -> None:
    content, expected = RULES[kind]()
    image = decode(content, "x").image
    assert (image.mode, image.size) == ("RGB", (expected.shape[1], expected.shape[0]))
    off = np.abs(np.asarray(image).astype(int) - expected)
    assert off.max() <= (1 if kind in ("cmyk tiff", "rgba tiff") else 0)


def test_decode__adobe_cmyk_jpeg() -> None:
    shown_colours = pixels(make.cmyk()).astype(int)
    assert np.abs(shown_colours - np.asarray(make.image()).astype(int)).mean() < 6


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_decode__orientation(turn: int, form: str) -> None:
    exif = Image.Exif()
    exif[make.EXIF_ORIENTATION] = turn
    options: dict[str, object] = {"lossless": True} if form == "WEBP" else {}
    content = make.encode(make.image(size=(20, 12)), form, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    decoded = decode(content, "x")
    assert np.array_equal(np.asarray(decoded.image), np.asarray(expected))
    assert decoded.size == expected.size == ((12, 20) if turn >= 5 else (20, 12))


def test_decode__damaged_exif_is_no_damage() -> None:
    exif = Image.Exif()
    exif[make.EXIF_ORIENTATION] = 6
    exif[0x010E] = "a long description of what is to be seen"
    exif[0x011A] = 72.0
    good = make.encode(make.image(), "JPEG", exif=exif)
    start = good.index(b"Exif\0\0")
    for at in range(start, start + 90):
        content = good[:at] + b"\xff" + good[at + 1 :]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert decode(content, "x").image.size in ((64, 48), (48, 64))
        assert not caught


@pytest.mark.parametrize(("turn", "frames", "form"), [(1, 3, "GIF"), (1, 3, "PNG"), (1, 3, "WEBP"), (1, 3, "TIFF")])
def test_decode__first_frame(turn: int, frames: int, form: str) -> None:
    decoded = decode(make.animated(form, frames), "x")
    off = np.abs(np.asarray(decoded.image).astype(int) - np.asarray(make.image()).astype(int))
    assert off.mean() <= (8 if form == "GIF" else 0)
    assert decoded.notes == ("first of 3 frames",)


EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".TIFF", "", ".txt")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_decode__content_decides(form: str) -> None:
    content = make.encode(make.image(), form)
    first = decode(content, "x")
    for extension in EXTENSIONS:
        decoded = decode(content, f"x{extension}")
        assert decoded.format == form
        assert decoded.image.tobytes() == first.image.tobytes()
        spelt = {"WEBP": "WebP"}.get(form, form)
        expected = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
        named = expected.get(extension.lower(), extension[1:].upper())
        fits = named in (form, "", "TXT")
        assert decoded.notes == (() if fits else (f"content is {spelt}, name says {extension.lower()}",))


def test_decode__pixels() -> None:
    decoded = decode(COLOUR, "row 1")
    assert np.array_equal(np.asarray(decoded.image), COLOUR)
    assert (decoded.format, decoded.size) == ("array", (16, 8))
    assert np.array_equal(np.asarray(decode(COLOUR[::-1, ::2], "x").image), COLOUR[::-1, ::2])


def test_decode__pixels_refused() -> None:
    with pytest.raises(BadImage) as raised:
        decode(np.zeros((4, 5), np.uint8), "train/7")
    assert str(raised.value) == "train/7: pixels uint8 (4, 5), expected uint8 (height, width, 3)"


def test_decode__draft_keeps_the_shortest_side() -> None:
    content = make.jpeg(size=(900, 700))
    whole = decode(content, "x").image
    assert whole.size == (900, 700)
    for shortest, size in ((700, (900, 700)), (350, (450, 350)), (175, (225, 175)), (87, (113, 88)), (5, (113, 88))):
        decoded = decode(content, "x", shortest=shortest)
        assert decoded.image.size == size
        assert min(size) >= min(shortest, 700)
        assert decoded.size == (900, 700)
        small = np.asarray(whole.resize(size, Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(decoded.image).astype(int) - small).mean() < 4
    assert decode(make.png(size=(900, 700)), "x", shortest=87).image.size == (900, 700)


def test_decode__limit_counts_what_is_decoded() -> None:
    content = make.jpeg(size=(800, 800))
    assert decode(content, "x", shortest=100, max_pixels=10_000).image.size == (100, 100)
    with pytest.raises(BadImage) as raised:
        decode(content, "x", shortest=101, max_pixels=10_000)
    assert str(raised.value) == "x: 800 x 800 pixels, the limit is 10,000"
    assert decode(content, "x", max_pixels=640_000).size == (800, 800)


def test_decode__jpeg_beyond_the_library_limit() -> None:
    """A panorama of 20,000 x 20,000 is decoded at an eighth, without the warning that its size would bring."""
    content = make.encode(Image.new("L", (20_000, 20_000), 128), "JPEG", quality=30)
    decoded = decode(content, "x", shortest=224)
    assert (decoded.size, decoded.image.size) == ((20_000, 20_000), (2500, 2500))


BOMB_RUN = """
import resource, sys
from headway.data.images import BadImage, decode
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for path in sys.argv[1:]:
    try:
        decode(open(path, "rb").read(), "bomb")
    except BadImage as error:
        print(error)
"""


def test_decode__bombs_in_little_memory(tmp_path: Path) -> None:
    vast = Image.new("1", (12_000, 12_000))
    webp = bytearray(make.encode(make.image(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", (16_383 << 14) | 16_383)
    files = {
        "a": make.bomb(50_000, 50_000),
        "b": bytes(webp),
        "c": make.encode(vast, "TIFF", compression="group4"),
        "d": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0" + bytes(99),
        "e": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 60_000, -60_000, 1, 24, 0) + bytes(60),
    }
    paths = [str(make.write(tmp_path / name, content)) for name, content in files.items()]
    run = subprocess.run([sys.executable, "-c", BOMB_RUN, *paths], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines() == [
        "bomb: 50,000 x 50,000 pixels, the limit is 200 million",
        "bomb: 16,384 x 16,384 pixels, the limit is 179 million",
        "bomb: 12,000 x 12,000 pixels, the limit is 89 million",
        "bomb: 65,535 x 65,535 pixels, the limit is 89 million",
        "bomb: 60,000 x 60,000 pixels, the limit is 200 million",
    ], run.stderr


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_decode__every_cut_is_found(form: str) -> None:
    content = make.encode(make.image(), form)
    # PNG, GIF and TIFF carry bytes behind the last pixel.
    behind = {"PNG": 20, "GIF": 3, "TIFF": 200}.get(form, 0)
    decode(content, "whole")
    for end in range(0, len(content) - behind, max(1, len(content) // 150)):
        with pytest.raises(BadImage, match=r"x: (truncated|empty file|not an image|damaged)"):
            decode(content[:end], "x")


@pytest.mark.parametrize("percent", [20, 50, 80])
def test_decode__truncated_at(percent: int) -> None:
    rows = 400
    content = make.encode(make.image(size=(64, rows)), compress_level=0)
    with pytest.raises(BadImage) as raised:
        decode(content[: len(content) * percent // 100], "x")
    said = int(raised.value.reason.removeprefix("truncated at ").removesuffix(" %"))
    assert percent - 8 <= said <= percent


MATERIAL = {
    "jpeg": make.jpeg(),
    "progressive": make.encode(make.image(), "JPEG", progressive=True),
    "png": make.png(),
    "palette": make.palette(),
    "apng": make.animated("PNG"),
    "gif": make.animated(),
    "webp": make.encode(make.image(), "WEBP"),
    "moving webp": make.animated("WEBP"),
    "tiff": make.encode(make.image(), "TIFF"),
    "pages": make.animated("TIFF"),
    "bmp": make.encode(make.image(), "BMP"),
    "turned": make.rotated(6),
    "deep": make.sixteen_bits(form="TIFF"),
}


@given(
    kind=st.sampled_from(sorted(MATERIAL)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.sampled_from([0, 1, 255, 128, 42, 16])), max_size=12),
    near=st.booleans(),
    cut=st.integers(0, 1 << 20),
)
@settings(max_examples=200, deadline=None)
def test_decode__anything_ends_well(kind: str, changes: list[tuple[int, int]], near: bool, cut: int) -> None:
    """An image or a BadImage with a reason of ours; no warning, no other exception."""
    content = bytearray(MATERIAL[kind])
    for at, value in changes:
        content[at % (60 if near else len(content))] = value
    if cut % 3 == 0:
        del content[cut % len(content) :]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reason, image = "accepted", make.image()
        try:
            image = decode(bytes(content), "x", max_pixels=1_000_000).image
        except BadImage as error:
            reason = error.reason
    assert image.mode == "RGB"
    assert len(image.tobytes()) == 3 * image.size[0] * image.size[1]
    assert 0 < len(reason) < 90
    assert "0x" not in reason
    assert reason.isprintable()
    assert not caught


def test_decode__leaves_the_library_as_it_was() -> None:
    from PIL import ImageFile

    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for content in MATERIAL.values():
        decode(content, "x")
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_decode__threads() -> None:
    expected = {kind: decode(content, "x").image.tobytes() for kind, content in MATERIAL.items()}
    start = threading.Barrier(4)

    def work(offset: int) -> bool:
        start.wait()
        kinds = sorted(MATERIAL)[offset:] + sorted(MATERIAL)[:offset]
        return all(decode(MATERIAL[kind], "x").image.tobytes() == expected[kind] for kind in kinds * 5)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_decode__costs_no_more_than_the_library() -> None:
    content = make.jpeg(size=(450, 375))

    def seconds(act: Callable[[], object]) -> float:
        began = time.thread_time()  # of the processor: other processes may be busy
        for _ in range(10):
            act()
        return time.thread_time() - began

    pairs = [
        (seconds(lambda: decode(content, "x.jpg")), seconds(lambda: Image.open(io.BytesIO(content)).convert("RGB")))
        for _ in range(12)
    ]
    assert min(ours for ours, _ in pairs) < 1.3 * min(plain for _, plain in pairs)


def test_pixel_digest__definition() -> None:
    image = Image.fromarray(COLOUR)
    content = (16).to_bytes(4, "little") + (8).to_bytes(4, "little") + COLOUR.tobytes()
    expected = xxhash.xxh3_128_digest(content, seed=0) + xxhash.xxh3_128_digest(content, seed=1)
    assert pixel_digest(COLOUR) == expected
    assert pixel_digest(COLOUR.reshape(16, 8, 3)) != expected
    same = [make.encode(image), make.encode(image, "BMP"), make.encode(image, "WEBP", lossless=True)]
    assert {pixel_digest(np.asarray(decode(content, "x").image)) for content in same} == {expected}
    with pytest.raises(ValueError, match=r"^pixels uint8 \(8, 16\), expected uint8 \(height, width, 3\)$"):
        pixel_digest(COLOUR[:, :, 0])


def test_read_file__reasons(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "vast.jpg").open("wb") as stream:
        stream.truncate(3 << 30)
    cases = {
        "gone.jpg": "does not exist",
        "pipe.jpg": "not a file (a pipe or device)",
        ".": "not a file (a folder)",
        "vast.jpg": "3.0 GB, the limit is 2 GB",
        "a\0b.jpg": "cannot be read (bad name)",
        "n" * 300: "cannot be read (File name too long)",
    }
    for name, reason in cases.items():
        with pytest.raises(BadImage) as raised:
            read_file(f"{tmp_path}/{name}", "photo.jpg")
        assert str(raised.value) == f"photo.jpg: {reason}"


def test_shown__nothing_reaches_the_terminal() -> None:
    assert shown("plain ü 猫.jpg") == "plain ü 猫.jpg"
    assert shown("a\nb\x1b[31m\udcff\u202e") == "a\\nb\\x1b[31m\\xff\\u202e"


def test_images__imports_no_more_than_a_bundle_has() -> None:
    code = (
        "import sys; import headway.data.images; "
        "print([m for m in ('torch', 'pyarrow', 'sklearn', 'pandas', 'pydantic', 'onnxruntime') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("control", [[0], [1 << 31, 3], [3, 3], [0xFFFFFFFF]])
def test_decode__damaged_animation_is_no_damage(control: list[int]) -> None:
    rows = [COLOUR[0].tobytes()]
    content = png(8, 2, rows, *((b"acTL", struct.pack(">II", frames, 0)) for frames in control), width=16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.array_equal(pixels(content), COLOUR[:1])
    assert not caught


def test_decode__damaged_tiff_tags_are_no_damage() -> None:
    """Text beyond the end of the file, a table of colours that no colour uses: neither is needed for the pixels."""
    whole = make.encode(Image.fromarray(COLOUR), "TIFF", description="what is to be seen, in many words")
    at = whole.index(struct.pack("<HH", 270, 2))
    for tag, kind in ((270, 2), (320, 3)):
        content = whole[:at] + struct.pack("<HHII", tag, kind, 768, 1 << 30) + whole[at + 12 :]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert np.array_equal(pixels(content), COLOUR)
        assert not caught


def test_decode__twelve_bits() -> None:
    """12 bits a channel, packed: scaled from 4095, not from 65535."""
    values = [0, 0x0FF, 0x800, 0xFFF]
    packed = bytes.fromhex("".join(f"{value:03x}" for value in values))
    tags = [(256, 3, 4), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1), (278, 3, 1)]
    table = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    content = b"II*\0\x08\0\0\0" + table + struct.pack("<HHII", 279, 4, 1, len(packed)) + bytes(4)
    decoded = decode(content.ljust(200, b"\0") + packed, "x.tif")
    assert np.asarray(decoded.image)[0, :, 0].tolist() == [value >> 4 for value in values]
    assert decoded.notes == ("12 bits a channel",)

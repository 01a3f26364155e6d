"""Heat laid over an image, and the picture that a user keeps of it."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

# matplotlib's inferno (van der Walt and Smith, CC0) at tenths: light grows evenly, so it reads in grey and for the
# colour-blind too.
_INFERNO = np.array(
    [
        *((0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84)),
        *((221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164)),
    ],
    np.float32,
)
_THUMBNAIL = 128  # pixels
_MOST, _GAMMA = 0.8, 0.8  # how much of the image the strongest heat hides; below 1 the middle hides more
_PANEL, _GAP, _LINE, _TEXT = (
    256,
    8,
    20,
    13,
)  # pixels: side of a panel, between two, a line, its type


def colours(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """(...) of 0..1 → (..., 3) of 0..255."""
    at = np.clip(heat, 0, 1) * (len(_INFERNO) - 1)
    return np.stack([np.interp(at, np.arange(len(_INFERNO)), channel) for channel in _INFERNO.T], axis=-1)


def laid_over(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 3) uint8 and (S, S) of 0..1 → (S, S, 3) uint8. Where there is no heat the image is as it was."""
    share = _MOST * (np.clip(heat, 0, 1) ** _GAMMA)[..., None]
    mixed: NDArray[np.uint8] = np.rint((1 - share) * image + share * colours(heat)).astype(np.uint8)
    return mixed


def picture(image: NDArray[np.uint8], heat: NDArray[np.float32], lines: tuple[str, str]) -> PIL.Image.Image:
    """The image as the network sees it, the heat over it, below a scale and two lines of text."""
    plain, over = enlarged(image, heat)
    side = plain.width
    canvas = PIL.Image.new("RGB", (2 * side + _GAP, side + 2 * _LINE + _GAP), "white")
    canvas.paste(plain, (0, 0))
    canvas.paste(over, (side + _GAP, 0))
    draw, font = PIL.ImageDraw.Draw(canvas), _font()
    draw.fontmode = "L"
    for row, line in enumerate(lines):
        top = side + _GAP // 2 + row * _LINE
        room = side if row == 0 else 2 * side
        draw.text((4, top + 2), _fitted(line, room, font), fill="black", font=font)
    _scale(canvas, draw, font, side)
    return canvas


def enlarged(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> tuple[PIL.Image.Image, PIL.Image.Image]:
    """The image, and the image with the heat over it, some 256 pixels a side."""
    side = max(1, round(_PANEL / len(image))) * len(image)  # by whole numbers: pixels stay sharp
    plain = PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling.NEAREST)
    warm = PIL.Image.fromarray(heat.astype(np.float32)).resize((side, side), PIL.Image.Resampling.BILINEAR)
    return plain, PIL.Image.fromarray(laid_over(np.asarray(plain), np.asarray(warm)))


def thumbnail(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> PIL.Image.Image:
    """The image with the heat over it, `_THUMBNAIL` pixels a side."""
    plain = PIL.Image.fromarray(image).resize((_THUMBNAIL, _THUMBNAIL), PIL.Image.Resampling.BICUBIC)
    warm = PIL.Image.fromarray(heat).resize((_THUMBNAIL, _THUMBNAIL), PIL.Image.Resampling.BILINEAR)
    return PIL.Image.fromarray(laid_over(np.asarray(plain), np.asarray(warm)))


def _scale(canvas: PIL.Image.Image, draw: PIL.ImageDraw.ImageDraw, font: PIL.ImageFont.ImageFont, side: int) -> None:
    """From no heat to the most, under the right panel."""
    left, top = side + _GAP, side + _GAP // 2 + 4
    words = ("none", "most")
    widths = [int(draw.textlength(word, font=font)) for word in words]
    width = side - sum(widths) - 4 * 4
    bar = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (_LINE - 8, width))
    draw.text((left, top - 2), words[0], fill="black", font=font)
    canvas.paste(PIL.Image.fromarray(np.rint(colours(bar)).astype(np.uint8)), (left + widths[0] + 6, top))
    draw.text((left + side - widths[1] - 2, top - 2), words[1], fill="black", font=font)


def _fitted(line: str, room: int, font: PIL.ImageFont.ImageFont) -> str:
    """`line` in one line of `room` pixels, its end cut where it is too long."""
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    cut = line[: room // 2]  # no letter is narrower: measuring a whole long name would take seconds
    while cut and font.getlength(cut if cut == line else cut + "…") > room - 8:
        cut = cut[: min(len(cut) - 1, int(len(cut) * room / font.getlength(cut)))]
    return cut if cut == line else cut.rstrip() + "…"


def _font() -> PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(_TEXT)  # type: ignore[return-value]  # the kind with FreeType draws alike


def encoded(image: PIL.Image.Image, kind: str) -> bytes:
    """The bytes of a PNG or JPEG file: the same for the same picture."""
    stream = io.BytesIO()
    image.save(stream, kind, **({"quality": 80} if kind == "JPEG" else {}))
    return stream.getvalue()

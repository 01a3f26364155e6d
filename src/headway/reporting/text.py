"""Numbers and names as the report shows them: always text, never markup, never an undecodable byte."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable
from datetime import datetime

NOTHING = "–"  # noqa: RUF001  what stands where a number is not known

# Marks that turn the direction of the text around them, and others that cannot be seen.
_INVISIBLE = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029, 0xFEFF}
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def shown(value: object) -> str:
    """`value` as text that can be written as UTF-8 and read as it stands.

    Control characters, marks that reverse text and non-characters become escapes such as `\\n` or `\\u202e`;
    a byte of a file name that is not UTF-8 (a lone surrogate in Python) becomes `\\xff`.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown_character(character) for character in text)


def _shown_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) == "Cc":
        return _SHORT.get(character, f"\\x{code:02x}")
    if code in _INVISIBLE or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
        return f"\\u{code:04x}"
    return character


def shortened(value: object, width: int) -> str:
    """`value` as `shown`, its middle left out where it is wider than `width` columns (wide characters count 2)."""
    text = shown(value)
    if _columns(text) <= width:
        return text
    head, tail = text, text
    while _columns(head) > (width - 1) * 2 // 3:
        head = head[: -max(1, (_columns(head) - width) // 2)]
    while _columns(tail) > width - 1 - _columns(head):
        tail = tail[max(1, (_columns(tail) - width) // 2) :]
    return f"{head}…{tail}"


def parted(value: object, width: int) -> tuple[str, str]:
    """The name of a file as `shortened`, in two between which a line may end: its folder with the slash, the rest."""
    folder, slash, name = shortened(value, width).rpartition("/")
    return folder + slash, name


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def number(value: object, digits: int = 3) -> str:
    """A measure such as 0.987; `NOTHING` where `value` is not a number."""
    if not is_number(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")  # noqa: RUF001  no minus before a zero


def is_number(value: object) -> bool:
    """True for a finite int or float (bool and NaN are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def count(value: object) -> str:
    """A whole number with thousands separated: 45,000."""
    return f"{value:,.0f}" if is_number(value) else NOTHING


def interval(value: object, digits: int = 3) -> str:
    """A pair as [0.966, 0.995]; empty where there is none."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(is_number(end) for end in value):
        return f"[{number(value[0], digits)}, {number(value[1], digits)}]"
    return ""


def plain(value: object) -> str:
    """A setting as it would be typed: 0.003, crop, yes, a, b."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or NOTHING
    return str(value)


def seconds(value: object) -> str:
    """A duration, given in seconds: 0.42 s, 9.8 s, 81 s, 12 min 5 s, 3 h 7 min."""
    if not isinstance(value, int | float) or not is_number(value):
        return NOTHING
    if value < 1:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    if value < 3599.5:
        return f"{round(value) // 60} min {round(value) % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def rounded(value: object) -> str:
    """A large number with a unit: 3.37 M. Below 10,000 whole."""
    if not isinstance(value, int | float) or not is_number(value):
        return NOTHING
    if abs(value) < 10_000:
        return count(value)
    unit, letter = next((unit, letter) for unit, letter in _UNITS if abs(value) >= unit)
    return f"{value / unit:.3g} {letter}"


def day(value: object) -> str:
    """`2026-11-23T12:00:00Z` as 23 November 2026; other text as it is."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def data_address(jpeg: bytes | None) -> str | None:
    """A JPEG as an address that a page carries in itself; None where there is none."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}" if jpeg else None


def listed(words: Iterable[object]) -> str:
    """Words in a sentence: `train, val and test`."""
    texts = [str(word) for word in words]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)

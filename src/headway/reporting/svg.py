"""Writing SVG: elements, scales, ticks. Everything that goes in as text comes out as text."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from headway.reporting.text import is_number, shown


class Safe(str):
    """Markup that is known to be safe; templates with autoescape leave it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


Value = str | int | float


def element(name: str, *children: str, **attributes: Value | None) -> Safe:
    """`<name attribute="…">children</name>`. Children that are not `Safe` and attribute values are escaped.

    `text_anchor` is written text-anchor, `class_` class; an attribute that is None is left out.
    """
    start = name + "".join(
        f' {key.rstrip("_").replace("_", "-") if key != "viewBox" else key}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children:
        return Safe(f"<{start}/>")
    inside = "".join(child if isinstance(child, Safe) else html.escape(shown(child)) for child in children)
    return Safe(f"<{start}>{inside}</{name}>")


def _value(value: Value) -> str:
    return html.escape(shown(value)) if isinstance(value, str) else short(value)


def short(value: float) -> str:
    """A coordinate with at most two decimals and no needless zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """A place along the width of a figure: 0.25 → `25%`. Such a figure stretches while its type does not."""
    return f"{short(100.0 * min(1.0, max(0.0, share)))}%"


def joined(*parts: str) -> Safe:
    """Elements one after the other; a part that is not `Safe` is escaped."""
    return Safe("".join(part if isinstance(part, Safe) else html.escape(shown(part)) for part in parts))


def picture(
    label: str,
    width: float,
    height: float,
    *children: Safe,
    class_: str = "picture",
    role: str = "img",
    **attributes: Value | None,
) -> Safe:
    """A figure of fixed proportions; `label` is what a screen reader says instead of it (of a role "group": before)."""
    return element(
        "svg",
        *children,
        class_=class_,
        role=role,
        aria_label=label,
        viewBox=f"0 0 {short(float(width))} {short(float(height))}",
        width=float(width),
        height=float(height),
        **attributes,
    )


@dataclass(frozen=True)
class Scale:
    """A straight map from the values low..high to the pixels start..end; `log` takes logarithms first."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (self._unit(self.low), self._unit(self.high), self._unit(value))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _unit(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, n: int = 4) -> list[float]:
        """About `n` round values inside the scale."""
        if self.log:
            return decades(self.low, self.high, n)
        return round_values(self.low, self.high, n)


def round_values(low: float, high: float, n: int = 4) -> list[float]:
    """About `n` multiples of 1, 2, 2.5 or 5 times a power of ten within low..high."""
    if not (is_number(low) and is_number(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, n)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float, n: int = 4) -> list[float]:
    """Powers of ten within low..high, thinned to about `n`."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = list(range(first, last + 1))
    every = max(1, math.ceil(len(powers) / (n + 1)))
    return [10.0**power for power in powers[::every]] or [low]


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def tick_text(value: float, *, log: bool = False) -> str:
    """The label of a tick: 0.25, 12, or 10⁻⁴ on a logarithmic axis outside 0.001..1,000."""
    if log and not 0.00099 < value < 1001:
        return f"10{str(round(math.log10(value))).translate(_RAISED)}"
    return f"{value:,.6g}"

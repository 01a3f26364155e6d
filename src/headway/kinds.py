"""What kinds of value options take: numbers in ranges, words, and words with numbers inside. A wrong value raises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

METRICS = ("val.accuracy", "val.loss")  # what an epoch may be kept by, or training ended at


def _number(value: object) -> object:
    """A switch is not a number, though Python says True == 1."""
    if isinstance(value, bool):
        raise ValueError
    return value


def numbers(value: object) -> object:
    """ "0.5,0.3" → ("0.5", "0.3"); one number → (number,)."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, (int, float)) else value


def triple(value: object) -> object:
    """One number stands for the three channels."""
    found = numbers(value)
    return tuple(found) * 3 if isinstance(found, (tuple, list)) and len(found) == 1 else found


def whole_or(word: str, low: int, high: float = float("inf")) -> BeforeValidator:
    """`word`, or a whole number from `low` to `high`."""

    def check(value: object) -> object:
        if value is None or value == word:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    return BeforeValidator(check)


def real_or(word: str, *, zero: bool = True) -> BeforeValidator:
    """`word`, or a finite number above 0, or 0 where `zero` says so."""

    def check(value: object) -> object:
        if value == word:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        if not 0 <= float(value) < float("inf") or not (zero or float(value)):
            raise ValueError
        return float(value)

    return BeforeValidator(check)


def matches(pattern: str) -> AfterValidator:
    """A word that fits the pattern as a whole."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return AfterValidator(check)


def _schedule(value: str) -> str:
    if value not in ("none", "cosine", "onecycle"):
        word, epochs, factor = value.split(":")
        if word != "step" or int(epochs) < 1 or not 0 < float(factor) <= 1:
            raise ValueError
    return value


def read_target(value: str) -> tuple[str, float]:
    """ "val.accuracy=0.9" → ("val.accuracy", 0.9). Raises ValueError where it is none that can be reached."""
    metric, _, text = value.partition("=")
    goal = float(text)
    if metric not in METRICS or not 0 < goal < float("inf") or (metric == "val.accuracy" and goal > 1):
        raise ValueError
    return metric, goal


def _target(value: str) -> str:
    read_target(value)
    return value


def read_duration(value: str) -> float:
    """Seconds of "90s", "10m", "1.5h"; a number alone is seconds. Raises ValueError where it is none above 0."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (value[:-1], value[-1]) if value[-1:] in units else (value, "s")
    seconds = float(number) * units[unit]
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def _duration(value: object) -> object:
    text = str(_number(value))
    read_duration(text)
    return text


def _place(value: object) -> object:
    """A path; an address (s3://...) stays the text that it is, as a path would lose one of its slashes."""
    return value if isinstance(value, str) and "://" in value else Path(value) if isinstance(value, str) else value


def field(default: Any, expected: str, **limits: Any) -> Any:
    """A field whose description says what is expected; the message about a wrong value ends with it."""
    return Field(default, description=expected, **limits)


Place = Annotated[Path | str, BeforeValidator(_place)]
Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Spread = Annotated[Real, Field(gt=0)]
Chance = Annotated[Real, Field(ge=0, lt=1)]
Schedule = Annotated[str, AfterValidator(_schedule)]
Duration = Annotated[str, BeforeValidator(_duration)]
Target = Annotated[str, AfterValidator(_target)]

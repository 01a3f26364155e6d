"""What the promises of prediction sets and unknown images came to: the second half of section 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.reporting.records import Run
from headway.reporting.text import count, interval, is_number, number


@dataclass(frozen=True)
class Trust:
    """Rows are (what was promised, what the test images show, its interval, more).

    limit  what the validation images are too few for, "" where they are enough for every row
    """

    sets: tuple[tuple[str, str, str, str], ...]
    unknown: tuple[tuple[str, str, str], ...]
    n: str
    calibrated: str
    limit: str


def trust(run: Run) -> Trust | None:
    """None where the run fitted neither."""
    found: Mapping[str, Any] = run.evaluation.get("confidence") or {}
    if not found:
        return None
    sets, unknown = found.get("sets") or (), found.get("unknown") or ()
    n = next((row.get("n") for row in (*sets, *unknown)), None)
    return Trust(
        sets=tuple(
            (number(row["coverage"], 2), number(row["reached"]), interval(row["interval"]), number(row["size"], 2))
            for row in sets
        ),
        unknown=tuple((number(row["rate"], 2), number(row["flagged"]), interval(row["interval"])) for row in unknown),
        n=count(n),
        calibrated=count(found.get("n")),
        limit=_limit(found, len(sets), len(unknown)),
    )


def _limit(found: Mapping[str, Any], n_sets: int, n_unknown: int) -> str:
    """What n validation images cannot promise."""
    most, least = found.get("most"), found.get("least")
    if n_sets == 2 and n_unknown == 2:
        return ""
    words = f"{count(found.get('n'))} validation images are few:"
    parts = []
    if is_number(most):
        parts.append(f"they promise a coverage of at most {number(most)}")
    if is_number(least):
        parts.append(f"a false-alarm rate of at least {number(least)}")
    return f"{words} {' and '.join(parts)}. More of them promise more (--val)." if parts else ""

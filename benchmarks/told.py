"""How a benchmark tells what it found: a table for people, then one line of JSON, both with their conditions."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from headway.machine import machine, versions


def spread(values: Sequence[float]) -> str:
    """Median [least, most]."""
    return f"{statistics.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def tell(name: str, rows: Mapping[str, Sequence[float]], unit: str, **facts: Any) -> None:
    """Print `rows` (what was measured → a value for each round), and all of it as JSON.

    facts  what it was measured on, and what follows from it
    """
    width = max(map(len, rows))
    for what, values in rows.items():
        print(f"{what:<{width}}  {spread(values)} {unit}")
    where = machine()
    print(
        f"{where['processor']}, {where['cores']} cores; median [least, most] of {len(next(iter(rows.values())))} rounds"
    )
    rounded = {what: [round(value, 4) for value in values] for what, values in rows.items()}
    print(
        json.dumps(
            {"benchmark": name, "unit": unit, "rounds": rounded, **facts, "machine": where, "versions": versions()}
        )
    )

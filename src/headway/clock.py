"""Seconds per phase, from the start of the process."""

from __future__ import annotations

import time

from headway.machine import process_seconds


class Clock:
    """Measures phases one after the other. `total` counts from the start of the process, imports included.

    alone  whether this is the process's first work; what comes after something else counts from now
    """

    def __init__(self, alone: bool = True) -> None:
        self._before = process_seconds() if alone else 0.0
        self._start = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a phase: what passed since the last lap counts as `name`."""
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now

    def seconds(self) -> dict[str, float]:
        """total and every phase so far."""
        total = self._before + time.perf_counter() - self._start
        return {"total": round(total, 3), **self.laps}

"""The search over L2, against trying every candidate."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import numpy as np
import pytest

from headway.training.path import Candidate, Material, around, attempt, down_the_path, lowest
from headway.training.solvers import TOLERANCE, pose

Value = TypeVar("Value")
L2S = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


def run(steps: Generator[Any, None, Value]) -> Value:
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: Value = end.value
        return value


def material(signal: float) -> Material:
    """Noisy three-class data: the weaker the signal, the stronger the best L2."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 600)
    rows = rng.normal(size=(600, 20)).astype(np.float32)
    rows[np.arange(600), labels] += signal
    return Material("all", ("last",), pose(rows[:200], labels[:200], 3), rows[200:], labels[200:])


def everywhere(posed: Material) -> list[Candidate]:
    return [attempt(posed, l2, None, TOLERANCE) for l2 in L2S]


@pytest.mark.parametrize("signal", [0.4, 1.5, 4.0])
@pytest.mark.parametrize("at", [1, 4, 6])
def test_around__finds_the_best_from_either_side(signal: float, at: int) -> None:
    posed = material(signal)
    every = everywhere(posed)
    best = lowest(every)

    found = lowest(run(around(posed, L2S, at, every[at].start)))

    assert found.solution.l2 == best.solution.l2
    assert found.val_log_loss == pytest.approx(best.val_log_loss, abs=1e-3)


def test_around__the_cases_above_walk_both_ways() -> None:
    bests = {L2S.index(lowest(everywhere(material(signal))).solution.l2) for signal in (0.4, 1.5, 4.0)}

    assert min(bests) < 4 < max(bests)


def test_down_the_path__stops_where_it_clearly_gets_worse() -> None:
    posed = material(0.4)

    tried = run(down_the_path(posed, L2S))

    assert len(tried) < len(L2S)
    assert lowest(tried).solution.l2 == lowest(everywhere(posed)).solution.l2

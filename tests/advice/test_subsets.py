from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.advice.subsets import Level, nested_order, plan_levels, solve_levels
from headway.training.solvers import fit_softmax


@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=6), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=60)
def test_order__every_run_of_neighbours_holds_classes_in_proportion(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = nested_order(labels, np.random.default_rng(seed))
    low = data.draw(st.integers(0, len(labels) - 1))
    high = data.draw(st.integers(low + 1, len(labels)))

    found = np.bincount(labels[order[low:high]], minlength=len(counts))

    assert sorted(order.tolist()) == list(range(len(labels)))
    # A class of share s has s * length images of a run, give or take how far the classes' own places are shifted.
    assert (np.abs(found - (high - low) * np.array(counts) / len(labels)) <= len(counts) + 1).all()


@pytest.mark.parametrize(
    ("n", "classes", "work", "levels", "dear"),
    [
        (1400, 2, 1e18, [(43, 4), (87, 4), (175, 4), (350, 4), (700, 2)], ()),
        (1000, 100, 1e18, [(125, 4), (250, 4), (500, 2)], ()),
        (15, 2, 1e18, [(5, 3), (10, 1)], ()),  # ten a class: thirds, as halves would be one size
        (7, 2, 1e18, [], ()),
        (1400, 2, 2 * 100 * 2 * 25 * 1450.0, [(43, 3), (87, 1), (175, 1), (350, 1), (700, 1)], ()),
        (1400, 2, 2 * 100 * 2 * 25 * 700.0, [(21, 2), (43, 1), (87, 1), (175, 1), (350, 1)], (700,)),
        (
            2_000_000,
            2,
            1e18,
            [(1953, 4), (3906, 4), (7812, 4), (15625, 2), (31250, 1)],
            (62500, 125000, 250000, 500000, 1000000),
        ),
    ],
)
def test_levels__what_fits(
    n: int, classes: int, work: float, levels: list[tuple[int, int]], dear: tuple[int, ...]
) -> None:
    taken, left_out = plan_levels(n, classes, 100, work)

    assert [(level.n, level.draws) for level in taken] == levels
    assert left_out == dear


def test_parts__are_heads_solved_on_runs_of_their_own() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = (rng.normal(size=(3, 8))[y] + rng.normal(size=(120, 8))).astype(np.float32)
    train, val = slice(0, 80), slice(80, 120)

    parts = solve_levels(X[train], y[train], (X[val], y[val]), (Level(20, 3), Level(40, 2)), 0.1, n_classes=3)

    assert [(part.n, part.wrong.shape) for part in parts] == [(20, (3, 40)), (40, (2, 40))]
    alone = fit_softmax(X[40:60], y[40:60], 3, l2=0.1, tolerance=1e-2)
    assert ((X[val] @ alone.weight.T + alone.bias).argmax(axis=1) != y[val]).tolist() == parts[0].wrong[2].tolist()


def test_parts__classes_can_count_alike() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(100) % 10 == 0).astype(np.int64)
    X = (0.7 * rng.normal(size=(2, 5))[y] + rng.normal(size=(100, 5))).astype(np.float32)

    plain, fair = (
        solve_levels(X, y, (X, y), (Level(50, 1),), 1.0, n_classes=2, weighted=weighted)[0]
        for weighted in (False, True)
    )

    assert fair.wrong[0, y == 1].mean() < plain.wrong[0, y == 1].mean()

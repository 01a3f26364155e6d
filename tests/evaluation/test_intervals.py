"""intervals.py: exact coverage of Wilson, simulated coverage of the bootstrap and of grouped images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from headway.evaluation.intervals import effective_n, macro_f1_interval, wilson


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson__equals_scipy(n: int, share: float) -> None:
    right = round(share * n)

    expected = binomtest(right, n).proportion_ci(method="wilson")

    low, high = wilson(right / n, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= right / n <= high <= 1
    assert low < high


@pytest.mark.parametrize(("n", "expected"), [(50, (78.6, 95.7)), (200, (85.1, 93.4)), (1000, (88.0, 91.7))])
def test_wilson__90_percent_as_published(n: int, expected: tuple[float, float]) -> None:
    low, high = wilson(0.9, n)

    assert (round(100 * low, 1), round(100 * high, 1)) == expected


@pytest.mark.parametrize("n", [30, 50, 100, 300, 1000, 3000])
def test_wilson__covers_as_promised(n: int) -> None:
    intervals = np.array([wilson(right / n, n) for right in range(n + 1)])
    truths = np.linspace(0.5, 0.99, 99)

    covered = []
    for truth in truths:
        chances = binom.pmf(np.arange(n + 1), n, truth)
        covered.append(chances[(intervals[:, 0] <= truth) & (truth <= intervals[:, 1])].sum())

    assert 0.93 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.91


def test_wilson__no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="an interval needs n > 0, not 0"):
        wilson(0.5, 0)


def test_effective_n__of_independent_images_is_n() -> None:
    right = np.array([True, False, True])

    assert effective_n(right, None) == 3
    assert effective_n(right, np.array([-1, -1, -1])) == 3
    assert effective_n(right, np.array([7, 8, 9])) == 3


@pytest.mark.parametrize("all_right", [True, False])
def test_effective_n__of_copies_is_the_number_of_groups(all_right: bool) -> None:
    right = np.full(60, all_right)

    assert effective_n(right, np.repeat(np.arange(20), 3)) == pytest.approx(20)


def test_effective_n__of_copies_right_and_wrong() -> None:
    right = np.repeat(np.arange(100) < 70, 5)

    # 100 independent groups; the variance between groups has 99 degrees of freedom
    assert effective_n(right, np.repeat(np.arange(100), 5)) == pytest.approx(99)


def test_effective_n__grouped_images_are_covered() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 5)
    covered, naive = 0, 0
    for _ in range(400):
        chance = np.where(rng.random(80) < 0.5, 0.95, 0.55)  # easy and hard groups, 0.75 over all
        right = rng.random(400) < chance[groups]
        low, high = wilson(float(right.mean()), effective_n(right, groups))
        covered += low <= 0.75 <= high
        low, high = wilson(float(right.mean()), 400)
        naive += low <= 0.75 <= high

    assert 0.92 <= covered / 400 <= 0.98
    assert naive < covered


def guesses(
    rng: np.random.Generator, n: int, n_classes: int, recall: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Labels and predictions; a mistake falls on each other class alike, so the true macro-F1 is the recall."""
    y = rng.integers(0, n_classes, n)
    wrong = rng.random(n) > recall
    return y, np.where(wrong, (y + rng.integers(1, n_classes, n)) % n_classes, y)


@pytest.mark.parametrize(("n", "n_classes"), [(150, 2), (400, 6)])
def test_macro_f1_interval__covers_as_promised(n: int, n_classes: int) -> None:
    rng = np.random.default_rng(5)
    covered = []
    for recall in (0.7, 0.9, 0.97, 0.99):
        for _ in range(40):
            y, predicted = guesses(rng, n, n_classes, recall)
            interval = macro_f1_interval(y, predicted, n_classes, seed=0, replicates=150)
            assert interval is not None
            covered.append(interval[0] <= recall <= interval[1])

    # 160 tries: three standard errors below and above the promised 93 and 97 %
    assert 0.88 <= np.mean(covered) <= 0.99


def test_macro_f1_interval__of_no_mistake_has_a_width() -> None:
    y = np.repeat([0, 1], 30)

    low, high = macro_f1_interval(y, y, 2, seed=0) or (0, 0)

    assert 0.85 < low < 0.97
    assert high == 1


def test_macro_f1_interval__needs_30_images_of_each_class() -> None:
    y = np.repeat([0, 1], [30, 29])

    assert macro_f1_interval(y, y, 2, seed=0) is None
    assert macro_f1_interval(np.repeat([0, 1], 30), np.repeat([0, 1], 30), 3, seed=0) is None


def test_macro_f1_interval__is_seeded_and_blind_to_order() -> None:
    rng = np.random.default_rng(1)
    y, predicted = guesses(rng, 300, 3, 0.8)
    order = rng.permutation(300)

    first = macro_f1_interval(y, predicted, 3, seed=4)

    assert macro_f1_interval(y, predicted, 3, seed=4) == first
    assert macro_f1_interval(y[order], predicted[order], 3, seed=4) == first
    assert macro_f1_interval(y, predicted, 3, seed=5) != first


def test_macro_f1_interval__resamples_groups_as_groups() -> None:
    rng = np.random.default_rng(1)
    y, predicted = guesses(rng, 100, 2, 0.8)
    copies_y, copies_predicted, groups = np.repeat(y, 9), np.repeat(predicted, 9), np.repeat(np.arange(100), 9)

    def width(interval: tuple[float, float] | None) -> float:
        assert interval is not None
        return interval[1] - interval[0]

    once = width(macro_f1_interval(y, predicted, 2, seed=0))

    assert width(macro_f1_interval(copies_y, copies_predicted, 2, seed=0, groups=groups)) == pytest.approx(
        once, rel=0.1
    )
    assert width(macro_f1_interval(copies_y, copies_predicted, 2, seed=0)) == pytest.approx(once / 3, rel=0.15)

"""A few cells of the coverage tables: whether intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.interval_coverage import chances, of_difference, of_means, paired_cases, true_means

from headway.evaluation.compare import paired_test, tango_statistic
from headway.evaluation.intervals import Z95, of_f1, of_recall


@pytest.mark.parametrize("difference", [-0.2, 0.0, 0.01, 0.1])
def test_tango_statistic__rejects_what_the_interval_leaves_out(difference: float) -> None:
    n = 25
    for only_a in range(0, 12, 2):
        for only_b in range(0, 12, 3):
            a, b = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
            a[:only_a] = b[only_a : only_a + only_b] = True
            low, high = paired_test(a, b).interval
            inside = low - 1e-9 <= difference <= high + 1e-9
            assert (abs(tango_statistic(only_a, only_b, n, difference)) <= Z95 + 1e-9) == inside


@pytest.mark.parametrize(
    "n", [30, pytest.param(100, marks=pytest.mark.slow), pytest.param(300, marks=pytest.mark.slow)]
)
def test_paired_differences__are_covered_exactly_as_promised(n: int) -> None:
    covered = [of_difference(n, only_a, only_b) for *_, only_a, only_b in paired_cases(12)]

    assert 0.93 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.91


def test_true_means__are_those_of_a_large_sample() -> None:
    supports = np.array([30, 60, 90])
    table = chances(supports, 0.8, "for the largest")
    whole = (supports[:, None] * table).astype(np.float64)

    assert table.sum(axis=1) == pytest.approx(np.ones(3))
    assert true_means(supports, table) == pytest.approx((of_f1(whole)[0], of_recall(whole)[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("supports", "accuracy", "mistakes"),
    [
        ([100, 100], 0.95, "alike"),
        ([30, 300], 0.8, "for the largest"),
        ([30] * 5, 0.9, "in the smallest"),
        ([30, 300, 300, 300, 300], 0.98, "alike"),
        (list(range(30, 130, 5)), 0.9, "for the largest"),
    ],
)
def test_means_over_classes__are_covered_as_promised(supports: list[int], accuracy: float, mistakes: str) -> None:
    n = np.array(supports)
    found = of_means(n, chances(n, accuracy, mistakes), 600, np.random.default_rng(7))

    # 600 tries: a standard error is 0.009
    assert found["f1 shown"] > 0.8
    assert 0.93 - 0.02 <= found["f1"] <= 0.98 + 0.01
    assert found["balanced shown"] * (1 - found["balanced"]) <= 0.07 + 0.02

"""compare.py against scipy, and the coverage of its intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from headway.evaluation.compare import paired_test, sign_test, student_p, student_quantile


@given(st.integers(0, 400), st.integers(0, 400))
def test_sign_test__equals_scipy(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0

    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 3000), st.floats(-50, 50))
def test_student_p__equals_scipy(df: int, t: float) -> None:
    assert student_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), abs=1e-11)


@pytest.mark.parametrize("df", [1, 2, 3, 10, 29, 999, 10_000])
def test_student_quantile__equals_scipy(df: int) -> None:
    assert student_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), abs=1e-9)


def test_paired_test__losses_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    a = rng.exponential(size=80)
    b = a + rng.normal(0.1, 0.3, 80)

    test = paired_test(a.astype(np.float32), b)

    expected = stats.ttest_rel(a.astype(np.float32).astype(np.float64), b)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert test.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert test.difference == pytest.approx((a - b).mean(), abs=1e-6)


def test_paired_test__swapping_turns_the_sign() -> None:
    rng = np.random.default_rng(0)
    for a, b in ((rng.random(60) < 0.9, rng.random(60) < 0.6), (rng.random(60), rng.random(60) + 1)):
        one, other = paired_test(a, b), paired_test(b, a)

        assert other.difference == -one.difference
        assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]))
        assert other.p_value == pytest.approx(one.p_value)
        assert (one.better, other.better) == ("a", "b")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_paired_test__shares_hold_their_bounds(images: list[tuple[bool, bool]]) -> None:
    a, b = np.array(images).T

    test = paired_test(a, b)

    low, high = test.interval
    assert -1 <= low <= test.difference <= high <= 1
    assert low < high
    assert 0 <= test.p_value <= 1
    assert test.difference == pytest.approx(a.mean() - b.mean())


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(1, 0, 44), (0, 0, 30), (9, 4, 60), (12, 40, 200), (3, 3, 10)])
def test_paired_test__tangos_interval_is_where_the_score_test_rejects(only_a: int, only_b: int, n: int) -> None:
    a, b = np.arange(n) < only_a, (np.arange(n) >= only_a) & (np.arange(n) < only_a + only_b)

    def statistic(difference: float) -> float:
        """The score test with the likelihood under this difference maximised by search instead of in closed form."""

        def surprise(share: float) -> float:
            chances = (share + difference, share, 1 - 2 * share - difference)
            counts = (only_a, only_b, n - only_a - only_b)
            return -sum(float(xlogy(count, max(chance, 0.0))) for count, chance in zip(counts, chances, strict=True))

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (only_a - only_b - n * difference) / float(np.sqrt(n * (2 * share + difference * (1 - difference))))

    low, high = paired_test(a, b).interval

    assert statistic(low) == pytest.approx(stats.norm.ppf(0.975), abs=1e-3)
    assert statistic(high) == pytest.approx(stats.norm.ppf(0.025), abs=1e-3)


@pytest.mark.parametrize("n", [30, 100, 300, 1000, 3000])
def test_paired_test__accuracy_differences_are_covered(n: int) -> None:
    rng = np.random.default_rng(n)
    covered = []
    for share in np.linspace(0.5, 0.99, 8):
        for lead in (0.0, 0.03):
            both_wrong = (1 - share) * min(1 - share + lead, 1) / 2 + (1 - share) / 2
            only_a, only_b = 1 - share + lead - both_wrong, 1 - share - both_wrong
            for wins, losses, _ in rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=60):
                right = np.zeros((2, n), bool)
                right[0, :wins] = right[1, wins : wins + losses] = True
                low, high = paired_test(right[0], right[1]).interval
                covered.append(low <= only_a - only_b <= high)

    assert 0.93 <= np.mean(covered) <= 0.97 + 0.01  # 960 tries: a standard error is 0.007


def test_paired_test__of_equals_shows_no_difference() -> None:
    losses = np.array([0.1, 0.2, 3.0])

    test = paired_test(losses, losses)

    assert (test.difference, test.interval, test.p_value, test.better) == (0, (0, 0), 1, None)


def test_paired_test__constant_lead_is_certain() -> None:
    test = paired_test(np.full(4, 2.0), np.full(4, 1.5))

    assert (test.difference, test.interval, test.p_value, test.better) == (0.5, (0.5, 0.5), 0, "b")


def test_paired_test__rarely_finds_a_difference_that_is_not_there() -> None:
    rng = np.random.default_rng(8)
    found = [paired_test(rng.exponential(size=200), rng.exponential(size=200)).better for _ in range(300)]

    assert 0.01 <= sum(one is not None for one in found) / 300 <= 0.09


def test_paired_test__in_words_and_json() -> None:
    a = np.arange(100) < 90
    b = np.arange(100) < 70

    test = paired_test(a, b)

    assert test.sentence("all", "last") == (
        "all is better than last: all against last accuracy 0.900 against 0.700, "
        "difference +0.200 [+0.133, +0.289], p=1.9e-06, n=100"
    )
    assert json.loads(json.dumps(test.to_json(), allow_nan=False)) == {
        "measure": "accuracy",
        "n": 100,
        "a": 0.9,
        "b": 0.7,
        "difference": 0.2,
        "interval": list(test.interval),
        "p_value": test.p_value,
        "better": "a",
    }
    assert paired_test(a, a).sentence("all", "last") == (
        "no difference shown between all and last: accuracy 0.900 against 0.900, "
        "difference +0.000 [-0.037, +0.037], p=1, n=100"
    )


def test_paired_test__what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="two like arrays"):
        paired_test(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="two like arrays"):
        paired_test(np.ones(3, bool), np.ones(3))
    with pytest.raises(ValueError, match="at least 2 images"):
        paired_test(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="finite"):
        paired_test(np.ones(2), np.array([1, np.inf]))

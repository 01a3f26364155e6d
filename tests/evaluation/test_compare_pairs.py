"""bootstrap.py against exact distributions and plain loops, and what its verdicts promise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.evaluation.bootstrap import PairedVerdict, holm, judge_pairs, resample

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def two(only_a: int, only_b: int, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Right or wrong of a and b on n images: the first only a got right, the next only b, the rest both."""
    at = np.arange(n)
    return (at < only_a) | (at >= only_a + only_b), at >= only_a


def verdict(only_a: int, only_b: int, n: int, groups: NDArray[Any] | None = None) -> PairedVerdict:
    a, b = two(only_a, only_b, n)
    return judge_pairs({"probe": a, "finetune": b}, seed=0, groups=groups)[0]


def exact(only_a: int, only_b: int, n: int) -> dict[int, float]:
    """n x difference → its chance when n images are drawn from these and half a one of either kind, image by image."""
    up, down = (only_a + 0.5) / (n + 1), (only_b + 0.5) / (n + 1)
    chances = {0: 1.0}
    for _ in range(n):
        following: dict[int, float] = {}
        for at, chance in chances.items():
            for step, share in ((1, up), (-1, down), (0, 1 - up - down)):
                following[at + step] = following.get(at + step, 0.0) + chance * share
        chances = following
    return chances


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(0, 0, 20), (1, 0, 30), (4, 3, 40), (9, 2, 60), (3, 20, 50)])
def test_resample__ends_are_the_quantiles_of_the_exact_distribution(only_a: int, only_b: int, n: int) -> None:
    a, b = two(only_a, only_b, n)

    low, high = resample(a, b, seed=3, resamples=40_000)

    chances = exact(only_a, only_b, n)
    below = sum(chance for at, chance in chances.items() if at < round(low * n))
    above = sum(chance for at, chance in chances.items() if at > round(high * n))
    assert below <= 0.025 + 0.003 <= below + chances[round(low * n)] + 0.006
    assert above <= 0.025 + 0.003 <= above + chances[round(high * n)] + 0.006


def test_resample__groups_are_drawn_as_wholes() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(-1, 40, 300)
    lean = rng.random(41) < 0.7
    a = np.where(rng.random(300) < 0.8, lean[groups], rng.random(300) < 0.5)
    b = rng.random(300) < 0.6

    low, high = resample(a, b, seed=0, groups=groups, resamples=4000)

    alone = [[index] for index in np.flatnonzero(groups < 0).tolist()]
    units = [np.flatnonzero(groups == g).tolist() for g in range(40) if (groups == g).any()] + alone
    average = 300 / len(units)
    found = []
    for _ in range(4000):
        lead, size = 0.0, 0.0
        for at in rng.uniform(-0.5, len(units) + 0.5, len(units)).tolist():  # half an extra group at either end
            if 0 <= at < len(units):
                unit = units[int(at)]
                lead, size = lead + sum(int(a[row]) - int(b[row]) for row in unit), size + len(unit)
            else:
                lead, size = lead + (average if at < 0 else -average), size + average
        found.append(lead / size)
    assert (low, high) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])), abs=0.008)
    plain = resample(a, b, seed=0)
    assert high - low > plain[1] - plain[0]


@given(PAIRS, st.integers(0, 9))
def test_resample__neither_order_nor_lone_groups_matter_and_swapping_mirrors(
    images: list[tuple[bool, bool]], seed: int
) -> None:
    a, b = np.array(images).T
    order = np.random.default_rng(seed).permutation(len(a))

    low, high = resample(a, b, seed=seed, resamples=200)

    assert resample(a[order], b[order], seed=seed, resamples=200) == (low, high)
    assert resample(a, b, seed=seed, resamples=200, groups=np.full(len(a), -1)) == (low, high)
    assert resample(a, b, seed=seed, resamples=200, groups=order) == (low, high)
    assert resample(b, a, seed=seed, resamples=200) == (-high, -low)
    assert -1 <= low <= a.mean() - b.mean() + 1e-12
    assert a.mean() - b.mean() - 1e-12 <= high <= 1
    assert low < high or len(a) < 5


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-1, 6)), min_size=1, max_size=60))
def test_resample__swapping_mirrors_groups_too(images: list[tuple[bool, bool, int]]) -> None:
    a, b, groups = (np.array(column) for column in zip(*images, strict=True))

    low, high = resample(a, b, seed=0, resamples=100, groups=groups)

    assert resample(b, a, seed=0, resamples=100, groups=groups) == (-high, -low)


def test_resample__the_seed_decides_it() -> None:
    a, b = two(60, 40, 1000)

    ends = {resample(a, b, seed=seed, resamples=101) for seed in range(12)}

    assert len(ends) > 1
    assert resample(a, b, seed=1) == resample(a, b, seed=1)


def rejected(p_values: Sequence[float], alpha: float) -> set[int]:
    """Holm's own words: from the smallest on, reject while p <= alpha / (m - k + 1); stop at the first that is not."""
    out: set[int] = set()
    for k, index in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        if p_values[index] > alpha / (len(p_values) - k):
            break
        out.add(index)
    return out


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15), st.floats(0.001, 0.5))
def test_holm__rejects_what_stepping_down_rejects(p_values: list[float], alpha: float) -> None:
    corrected = holm(p_values)

    edge = any(abs(p - alpha) < 1e-12 for p in corrected)  # where rounding decides
    assert edge or {at for at, p in enumerate(corrected) if p <= alpha} == rejected(p_values, alpha)
    assert all(one >= p for one, p in zip(corrected, p_values, strict=True))


def test_verdict__no_difference_in_words() -> None:
    found = verdict(6, 4, 300)

    low, high = found.resampled
    assert found.better is None
    assert found.sentence() == (
        "no difference shown between probe and finetune on 300 images: probe 0.987, finetune 0.980, "
        f"difference +0.007 [-0.016, +0.031], resampled [{low:+.3f}, {high:+.3f}], McNemar p=0.75"
    )
    assert found.test.interval == pytest.approx((-0.016, 0.031), abs=1e-3)


def test_verdict__better_in_words() -> None:
    found = verdict(3, 30, 300)

    assert found.better == "finetune"
    assert found.sentence().startswith(
        "finetune is better than probe on 300 images: probe 0.900, finetune 0.990, difference -0.090 ["
    )
    assert found.why == ""


def test_verdict__where_the_methods_disagree_none_is_shown_and_it_says_which() -> None:
    found = verdict(5, 0, 300)

    assert found.resampled[0] > 0
    assert found.test.p_value == pytest.approx(2 * 0.5**5)
    assert found.better is None
    assert found.sentence().startswith("no difference shown between probe and finetune on 300 images: ")
    assert found.sentence().endswith("McNemar p=0.062 (McNemar's test does not show one, so none counts as shown)")


def test_verdict__copies_of_an_image_are_one_image() -> None:
    """Ten copies of each of 30 images: McNemar takes them for 300, the bootstrap by groups does not."""
    a, b = (np.repeat(part, 10) for part in two(4, 1, 30))
    groups = np.repeat(np.arange(30), 10)

    found = judge_pairs({"a": a, "b": b}, seed=0, groups=groups)[0]

    assert found.test.better == "a"
    assert (found.units, found.better) == (30, None)
    assert found.why == "the bootstrap does not show one, so none counts as shown"
    assert "resampled by 30 groups [" in found.sentence()


def test_verdict__many_pairs_need_more() -> None:
    """A pair that shows a difference by itself (p = 0.035) shows none among six."""
    a, b = two(12, 3, 200)
    alone = judge_pairs({"a": a, "b": b}, seed=0)[0]
    many = {"a": a, "b": b, "c": np.arange(200) < 194, "d": np.arange(200) < 194}

    found = {pair.names: pair for pair in judge_pairs(many, seed=0)}

    assert alone.better == "a"
    assert alone.p_holm == alone.test.p_value < 0.05
    assert found["a", "b"].p_holm == pytest.approx(6 * alone.test.p_value)
    assert found["a", "b"].better is None
    assert found["a", "b"].why == "by itself this pair would show one; among 6 pairs it does not"
    assert list(found) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    assert found["c", "d"].p_holm == 1


@given(PAIRS)
def test_verdict__better_only_where_every_method_says_so(images: list[tuple[bool, bool]]) -> None:
    a, b = np.tile(np.array(images), (4, 1)).T

    found = judge_pairs({"a": a, "b": b}, seed=0)[0]

    intervals = (found.test.interval, found.resampled)
    shown = found.p_holm < 0.05 and all(low > 0 or high < 0 for low, high in intervals)
    assert (found.better is not None) == shown
    assert found.better == (None if not shown else "a" if a.mean() > b.mean() else "b")
    assert found.sentence().startswith("no difference shown" if not shown else f"{found.better} is better than ")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["better"] == found.better


def test_verdict__json_has_every_number() -> None:
    found = verdict(3, 30, 300)

    assert found.to_json() == {
        "a": "probe",
        "b": "finetune",
        "n": 300,
        "accuracy": [0.9, 0.99],
        "difference": -0.09,
        "mcnemar": {
            "p_value": found.test.p_value,
            "p_holm": found.test.p_value,
            "interval": list(found.test.interval),
        },
        "bootstrap": {"interval": list(found.resampled), "resamples": 2000, "units": 300},
        "pairs": 1,
        "better": "finetune",
        "why": "",
        "sentence": found.sentence(),
    }


def test_judge_pairs__what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="needs two classifiers or more, not 1"):
        judge_pairs({"a": np.ones(3, bool)}, seed=0)
    with pytest.raises(ValueError, match="two like arrays"):
        judge_pairs({"a": np.ones(3, bool), "b": np.ones(4, bool)}, seed=0)
    with pytest.raises(ValueError, match="two like arrays"):
        resample(np.ones(3, bool), np.ones(4, bool), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 300, 1000, 3000])
def test_resample__differences_are_covered(n: int) -> None:
    rng = np.random.default_rng(n)
    everywhere = []
    for share in np.linspace(0.5, 0.99, 8):
        for lead in (0.0, 0.03):
            both_wrong = (1 - share) * min(1 - share + lead, 1) / 2 + (1 - share) / 2
            only_a, only_b = 1 - share + lead - both_wrong, 1 - share - both_wrong
            covered = []
            for wins, losses, _ in rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=200):
                low, high = resample(*two(int(wins), int(losses), n), seed=0, resamples=1000)
                covered.append(low <= only_a - only_b <= high)
            everywhere += covered
            assert np.mean(covered) >= 0.91 - 0.02  # 200 tries: a standard error is 0.02

    assert 0.945 <= np.mean(everywhere) <= 0.98


@pytest.mark.slow
def test_judge_pairs__equals_are_rarely_told_apart() -> None:
    """Four classifiers that are alike on average: a difference is found in less than 5 % of comparisons."""
    rng = np.random.default_rng(4)
    wrong = 0
    for seed in range(300):
        easy = rng.random(300) < 0.7
        right = {name: easy | (rng.random(300) < 0.5) for name in "abcd"}
        wrong += any(pair.better is not None for pair in judge_pairs(right, seed=seed))

    assert wrong / 300 <= 0.05 + 0.02

"""intervals.py: exact coverage of Wilson, simulated coverage of means over classes and of grouped images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from headway.evaluation.intervals import effective_n, macro_intervals, of_f1, of_recall, wilson


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


def confused(rng: np.random.Generator, supports: list[int], recall: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Labels and predictions; a mistake falls on each other class alike."""
    y = np.repeat(np.arange(len(supports)), supports)
    wrong = rng.random(len(y)) > recall
    return y, np.where(wrong, (y + rng.integers(1, len(supports), len(y))) % len(supports), y)


def truth(supports: list[int], recall: float) -> float:
    """Macro-F1 where each class is right with `recall`, by its definition."""
    n, c = np.array(supports), len(supports)
    guessed = n * recall + (n.sum() - n) * (1 - recall) / (c - 1)
    return float((2 * n * recall / (n + guessed)).mean())


NAMES = [f"class {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("supports", "recall"), [([30, 30], 0.85), ([100, 100], 0.95), ([30] * 6, 0.9), ([30, 60, 120, 240], 0.9)]
)
def test_macro_intervals__cover_as_promised(supports: list[int], recall: float) -> None:
    rng = np.random.default_rng(5)
    of_both = np.zeros(2)
    for _ in range(400):
        y, predicted = confused(rng, supports, recall)
        found = macro_intervals(y, predicted, NAMES[: len(supports)])
        for number, (interval, value) in enumerate(((found.f1, truth(supports, recall)), (found.balanced, recall))):
            of_both[number] += interval is not None and interval[0] <= value <= interval[1]

    # 400 tries: a standard error is 0.011; few of these samples have fewer than 5 mistakes
    assert (of_both / 400 >= 0.91).all()
    assert (of_both / 400 <= 0.99).all()


@pytest.mark.parametrize("mean", [of_f1, of_recall])
def test_influences__are_the_derivatives(mean: Any) -> None:
    confusion = np.array([[40.0, 5, 2], [3, 50, 9], [0, 8, 33]])
    share, influence = mean(confusion)

    for cell in np.ndindex(3, 3):
        more = confusion.copy()
        more[cell] += 1e-6
        assert (mean(more)[0] - share) / 1e-6 == pytest.approx(influence[cell], rel=1e-4, abs=1e-9)


@given(st.integers(2, 6), st.integers(0, 10_000))
def test_macro_intervals__hold_what_scikit_learn_says(n_classes: int, seed: int) -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score

    y, predicted = confused(np.random.default_rng(seed), [35] * n_classes, 0.8)
    assume((y != predicted).sum() >= 5)  # fewer are refused, see below
    found = macro_intervals(y, predicted, NAMES[:n_classes])

    assert found.f1 is not None
    assert found.balanced is not None
    assert 0 <= found.f1[0] < f1_score(y, predicted, average="macro") < found.f1[1] <= 1
    assert found.balanced[0] < balanced_accuracy_score(y, predicted) < found.balanced[1]
    assert found.why == ""


def test_macro_intervals__of_two_even_classes_are_near_that_of_accuracy() -> None:
    y, predicted = confused(np.random.default_rng(0), [200, 200], 0.9)

    found = macro_intervals(y, predicted, NAMES[:2])

    expected = wilson(float((y == predicted).mean()), 400)
    assert found.balanced == pytest.approx(expected, abs=0.003)
    assert found.f1 == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize(("n_classes", "mistaken"), [(2, 0.5), (4, 0.5), (10, 0.25), (20, 0.125)])
def test_macro_intervals__of_even_classes_by_hand(n_classes: int, mistaken: float) -> None:
    y = np.repeat(np.arange(n_classes), 30)
    predicted = y.copy()
    predicted[:8] = 1  # eight mistakes, all of the first class

    found = macro_intervals(y, predicted, NAMES[:n_classes])

    mistaken = min(0.5, mistaken + 8 / len(y))  # as many as there are anyway, too
    wrong = (np.array([8] + [0] * (n_classes - 1)) + mistaken) / 31
    variance = (wrong * (1 - wrong) / 30).sum() / n_classes**2
    worth = wrong.mean() * (1 - wrong.mean()) / variance
    assert found.balanced == pytest.approx(wilson(1 - 8 / len(y), worth), rel=1e-9)


def test_macro_intervals__need_30_images_of_each_class() -> None:
    y, predicted = confused(np.random.default_rng(0), [30, 29], 0.7)

    found = macro_intervals(y, predicted, ["cat", "dog"])

    assert (found.f1, found.balanced) == (None, None)
    assert found.why == (
        "An interval of macro-F1 or balanced accuracy would not be honest at this n: "
        "dog has 29 test images, and 30 a class are needed."
    )


@pytest.mark.parametrize(("wrong", "words"), [(0, "0 images were"), (1, "1 image was"), (4, "4 images were")])
def test_macro_intervals__need_5_mistakes(wrong: int, words: str) -> None:
    y = np.repeat([0, 1], 100)
    predicted = np.where(np.arange(200) < wrong, 1 - y, y)

    found = macro_intervals(y, predicted, ["cat", "dog"])

    assert (found.f1, found.balanced) == (None, None)
    assert found.why == (
        f"An interval of macro-F1 or balanced accuracy would not be honest at this n: {words} mistaken, "
        "and 5 mistakes are needed."
    )


def test_macro_intervals__mistakes_of_a_large_class_are_not_enough() -> None:
    y = np.repeat([0, 1], [30, 3000])
    predicted = np.where((y == 1) & (np.arange(3030) % 30 == 0), 0, y)  # 100 mistakes, none of them of the small class

    found = macro_intervals(y, predicted, ["cat", "dog"])

    assert found.f1 is not None
    assert found.balanced is None
    assert found.why == (
        "An interval of balanced accuracy would not be honest at this n: its smallest classes decide it, "
        "and the mistakes there count for less than 5."
    )


def test_macro_intervals__are_blind_to_order() -> None:
    rng = np.random.default_rng(1)
    y, predicted = confused(rng, [100] * 3, 0.8)
    order = rng.permutation(300)

    assert macro_intervals(y[order], predicted[order], NAMES[:3]) == macro_intervals(y, predicted, NAMES[:3])


def test_macro_intervals__groups_of_copies_count_once() -> None:
    y, predicted = confused(np.random.default_rng(1), [50, 50], 0.8)
    copies_y, copies_predicted, groups = np.repeat(y, 9), np.repeat(predicted, 9), np.repeat(np.arange(100), 9)

    def width(groups: NDArray[np.intp] | None, y: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
        interval = macro_intervals(y, predicted, NAMES[:2], groups=groups).f1
        assert interval is not None
        return interval[1] - interval[0]

    once = width(None, y, predicted)
    assert width(groups, copies_y, copies_predicted) == pytest.approx(once, rel=0.1)
    assert width(None, copies_y, copies_predicted) == pytest.approx(once / 3, rel=0.15)

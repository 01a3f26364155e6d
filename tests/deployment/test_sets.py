"""sets.py: the promise counted out image by image, the sets against a naive loop, few scores kept for many images."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.deployment.sets import KEPT, Sets, calibrated_sets, class_scores, kept_ranks

COVERAGES = st.sampled_from(["0.5", "0.8", "0.9", "0.95", "0.99", "0.07", "0.333"])


def drawn(n: int, n_classes: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.5), n)


def own(scores: NDArray[np.float64], y: NDArray[np.intp]) -> NDArray[np.float64]:
    return scores[np.arange(len(y)), y]


@given(st.integers(2, 60), COVERAGES, st.integers(0, 1000))
def test_threshold__covers_exactly_the_promised_share_of_exchangeable_images(n: int, said: str, seed: int) -> None:
    # Each of n images plays the new one once, the others calibrate: the promise is a count, with no chance in it.
    scores, coverage = np.random.default_rng(seed).permutation(n) / n, Fraction(said)
    others = [calibrated_sets(np.delete(scores, new)) for new in range(n)]
    wanted = ceil(n * coverage)
    if wanted > n - 1:
        assert not any(sets.promises(float(said)) for sets in others)
    else:
        covered = [scores[new] <= sets.threshold(float(said)) for new, sets in enumerate(others)]
        assert sum(covered) == wanted


@given(st.integers(1, 30), st.integers(2, 5), COVERAGES, st.integers(0, 1000))
def test_sets__are_those_of_a_naive_loop_and_never_empty(n: int, n_classes: int, said: str, seed: int) -> None:
    probabilities = drawn(n + 10, n_classes, seed)
    y = np.random.default_rng(seed).integers(0, n_classes, n)
    scores = class_scores(probabilities.copy())
    found = calibrated_sets(own(scores[:n], y))
    rank = ceil((n + 1) * Fraction(said))
    if rank > n:
        assert not found.promises(float(said))
        return
    naive = sorted(0.0 if y[i] == np.argmax(row) else 1 - row[y[i]] for i, row in enumerate(probabilities[:n]))
    for row, held in zip(probabilities[n:], scores[n:] <= found.threshold(float(said)), strict=True):
        expected = {int(np.argmax(row))} | {c for c in range(n_classes) if 1 - row[c] <= naive[rank - 1]}
        assert set(np.flatnonzero(held).tolist()) == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(KEPT + 1, 5 * KEPT), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]), st.integers(0, 100))
def test_threshold__of_many_images_is_never_too_low_and_hardly_too_high(n: int, coverage: float, seed: int) -> None:
    scores = np.random.default_rng(seed).random(n)
    found = calibrated_sets(scores)
    assert len(found.scores) == len(kept_ranks(n)) <= KEPT
    rank = ceil(round((n + 1) * coverage, 9))
    covered = int((scores <= found.threshold(coverage)).sum())
    assert rank <= covered <= rank + n / (KEPT - 1) + 1


def test_class_scores__the_first_of_equal_classes_is_always_in() -> None:
    scores = class_scores(np.array([[0.4, 0.4, 0.2], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(scores, [[0.0, 0.6, 0.8], [1.0, 1.0, 0.0]])


def test_promises__as_far_as_the_images_reach() -> None:
    found = Sets(19, np.zeros(19))
    assert found.most == 0.95
    assert found.promises(0.95)
    assert not found.promises(0.951)
    with pytest.raises(ValueError, match=r"^19 images promise no coverage of 0\.96$"):
        found.threshold(0.96)


def test_coverage__holds_over_simulated_calibrations() -> None:
    # A badly calibrated model, labels of another law: the promise must hold whatever the probabilities are worth.
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        probabilities = rng.dirichlet([0.3, 0.3, 1.0], 150)
        y = (0.4 * np.log(probabilities) + rng.gumbel(size=probabilities.shape)).argmax(1)
        scores = own(class_scores(probabilities), y)
        covered.append(float((scores[50:] <= calibrated_sets(scores[:50]).threshold(0.9)).mean()))
    # Expected 0.902 (46 of 51) with a standard error of 0.0026 over 400 draws; without ties hardly more.
    assert 0.892 < np.mean(covered) < 0.912


@given(st.integers(1, 5 * KEPT))
def test_kept_ranks__reach_from_the_first_to_the_last(n: int) -> None:
    ranks = kept_ranks(n)
    assert (ranks[0], ranks[-1]) == (1, n)
    assert (np.diff(ranks) > 0).all()

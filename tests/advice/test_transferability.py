from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from headway.advice.transferability import count_of_neighbours, log_me, nearest_labels


def some(n: int, d: int, c: int, clear: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % c)
    centres = rng.normal(size=(c, d))
    return (clear * centres[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


def largest_evidence(features: NDArray[np.float32], target: NDArray[np.float64]) -> float:
    """The evidence as the density of the target under N(0, 1/beta + F F'/alpha), searched for its maximum."""
    kernel = features.astype(np.float64) @ features.astype(np.float64).T

    def against(logs: NDArray[np.float64]) -> float:
        covariance = np.eye(len(target)) * np.exp(-logs[1]) + kernel * np.exp(-logs[0])
        return -float(multivariate_normal(np.zeros(len(target)), covariance).logpdf(target))

    starts = [(0.0, 0.0), (5.0, 1.0), (2.0, 3.0)]
    settings = {"xatol": 1e-6, "fatol": 1e-9}
    ends = [float(minimize(against, start, method="Nelder-Mead", options=settings).fun) for start in starts]
    return -min(ends)


@pytest.mark.parametrize(("n", "d", "c"), [(60, 7, 2), (60, 7, 3), (30, 50, 3)])
def test_log_me__is_the_largest_evidence_per_image(n: int, d: int, c: int) -> None:
    features, labels = some(n, d, c, 0.7)
    expected = np.mean([largest_evidence(features, (labels == label).astype(float)) for label in range(c)]) / n

    assert log_me(features, labels) == pytest.approx(expected, abs=1e-5)


def test_log_me__clearer_features_are_worth_more() -> None:
    values = [log_me(*some(300, 20, 4, clear)) for clear in (0.0, 0.3, 1.0, 3.0)]

    assert values == sorted(values)


def test_log_me__both_ways_of_decomposing_agree() -> None:
    features, labels = some(40, 40, 3, 0.5)
    wider = np.concatenate([features, np.zeros((40, 1), np.float32)], axis=1)  # N <= D and N > D - 1

    tall = log_me(features[:, :39], labels)
    same = log_me(np.concatenate([features[:, :39], np.zeros((40, 1), np.float32)], axis=1), labels)

    assert np.isfinite(log_me(wider, labels))
    assert same == pytest.approx(tall, abs=1e-6)  # a column of zeros tells nothing, and costs nothing


def test_log_me__features_that_explain_all_stay_finite() -> None:
    labels = np.arange(40) % 2

    assert np.isfinite(log_me(np.eye(2, dtype=np.float32)[labels], labels))


def test_neighbours__against_every_distance_written_out() -> None:
    known, labels = some(80, 6, 3, 0.8)
    asked, _ = some(30, 6, 3, 0.8, seed=1)
    centre = known.mean(axis=0)
    expected = []
    for row in asked - centre:
        cosines = [float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)) for other in known - centre]
        votes = np.zeros(3)
        for place in sorted(range(80), key=lambda index: -cosines[index])[:5]:
            votes[labels[place]] += np.exp(cosines[place] / 0.07)
        expected.append(int(votes.argmax()))

    assert nearest_labels(known, labels, asked, 5).tolist() == expected


def test_neighbours__fewer_known_than_asked_for() -> None:
    known = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)

    assert nearest_labels(known, np.array([1, 0]), np.array([[2.0, 0.1]], np.float32), 20).tolist() == [1]


@pytest.mark.parametrize(("each", "expected"), [(1, 1), (5, 2), (10, 3), (100, 10), (700, 20)])
def test_neighbours__their_count_follows_the_class_in_the_middle(each: int, expected: int) -> None:
    assert count_of_neighbours(np.repeat(np.arange(4), [each, each, each, 9 * each])) == expected

"""Outliers: distances against all pairs, planted strangers, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headway.quality import outliers as module
from headway.quality.outliers import NEIGHBOURS, find_outliers


def clouds(n: int, n_classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % n_classes).astype(np.int32)
    return (rng.normal(0, 3, (n_classes, 16))[labels] + rng.normal(0, 1, (n, 16))).astype(np.float32), labels


def reading(X: NDArray[np.float32]) -> Callable[[NDArray[np.intp]], NDArray[np.float32]]:
    return lambda indices: X[indices]


def brute(X: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean cosine distance to the nearest of the own class, from all pairs."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    apart = 1 - unit.astype(np.float64) @ unit.T.astype(np.float64)
    apart[labels[:, None] != labels] = np.inf
    np.fill_diagonal(apart, np.inf)
    return np.asarray(np.sort(apart, axis=1)[:, :NEIGHBOURS].mean(axis=1))


def test_find_outliers__planted_strangers_and_their_distances() -> None:
    X, labels = clouds(300, 3)
    strangers = [7, 100, 222]
    X[strangers] = np.random.default_rng(9).normal(0, 4, (3, 16))

    found = find_outliers(reading(X), np.arange(300), labels, None, np.arange(300))

    assert sorted(found.indices.tolist()) == strangers
    distances = brute(X, labels)
    for index, times in zip(found.indices, found.times, strict=True):
        assert np.isclose(times, distances[index] / np.median(distances[labels == labels[index]]), rtol=1e-3)
    assert found.judged == 300


def test_find_outliers__a_wrong_label_is_no_outlier_where_the_head_knows_better() -> None:
    X, labels = clouds(300, 3)
    given = labels.copy()
    given[5] = (labels[5] + 1) % 3

    assert 5 in find_outliers(reading(X), np.arange(300), given, None, np.arange(300)).indices
    assert 5 not in find_outliers(reading(X), np.arange(300), given, labels, np.arange(300)).indices


def test_find_outliers__few_images_say_nothing() -> None:
    X, labels = clouds(30, 3)

    found = find_outliers(reading(X), np.arange(30), labels, None, np.arange(30))

    assert (found.judged, len(found.indices)) == (0, 0)


def test_find_outliers__blocks_and_references_change_little(monkeypatch: object) -> None:
    X, labels = clouds(400, 2)
    X[11] = -20.0
    whole = find_outliers(reading(X), np.arange(400), labels, None, np.arange(400))
    try:
        module._BLOCK, before = 37, module._BLOCK
        parts = find_outliers(reading(X), np.arange(400), labels, None, np.arange(400))
    finally:
        module._BLOCK = before

    assert np.array_equal(whole.indices, parts.indices)
    assert np.allclose(whole.times, parts.times, rtol=1e-5)


def test_find_outliers__no_images() -> None:
    none = np.empty(0, np.intp)

    assert find_outliers(reading(np.empty((0, 4), np.float32)), none, none, none, none).judged == 0

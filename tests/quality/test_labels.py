"""Likely label errors: the heads against scikit-learn, the model of the labels against labels drawn from it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.events import drain
from headway.quality.folds import deal
from headway.quality.labels import FEWEST, Judged, Material, find_label_errors, fit_noise, out_of_fold, wrong

pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(n: int, n_classes: int, apart: float = 4.0, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Features (n, 12) in clouds around a centre for each class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n).astype(np.int32)
    centres = rng.normal(0, apart / 2, (n_classes, 12))
    return (centres[labels] + rng.normal(0, 1, (n, 12))).astype(np.float32), labels


def material(
    X: NDArray[np.float32], labels: NDArray[np.int32], n_classes: int, units: NDArray[np.integer] | None = None
) -> Material:
    every = np.arange(len(X), dtype=np.intp)
    fold = deal(labels, every if units is None else units, np.random.default_rng(1).permutation(len(X)))
    return Material(lambda indices: X[indices], every, labels, fold, n_classes, X.shape[1])


def test_out_of_fold__as_scikit_learn_fitted_on_the_other_folds() -> None:
    from sklearn.linear_model import LogisticRegression

    X, labels = blobs(400, 3, apart=1.5)
    own = material(X, labels, 3)
    judged = drain(out_of_fold(own, (0.1,), 1e-4))

    expected = np.empty((400, 3))
    for fold in range(5):
        learn = own.fold != fold
        mean, deviation = X[learn].mean(axis=0), X[learn].std(axis=0)
        head = LogisticRegression(C=1 / (0.1 * learn.sum()), tol=1e-8, max_iter=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head.fit((X[learn] - mean) / deviation, labels[learn])
        expected[~learn] = head.predict_proba((X[~learn] - mean) / deviation)
    assert np.abs(judged.probabilities - expected).max() < 2e-3
    assert (judged.l2, judged.folds) == (0.1, 5)


def test_out_of_fold__no_head_confirms_a_label_that_it_learnt() -> None:
    X = np.random.default_rng(0).normal(size=(300, 80)).astype(np.float32)  # as many columns: easily learnt by heart
    labels = np.random.default_rng(1).integers(0, 2, 300).astype(np.int32)

    judged = drain(out_of_fold(material(X, labels, 2), (0.001,)))

    assert 0.4 < (judged.predicted == labels).mean() < 0.6


def test_out_of_fold__a_duplicate_confirms_nothing_either() -> None:
    X = np.random.default_rng(0).normal(size=(150, 80)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 150).astype(np.int32)
    twice, units = np.concatenate([X, X]), np.tile(np.arange(150), 2)

    apart = drain(out_of_fold(material(twice, np.tile(labels, 2), 2), (0.001,)))
    together = drain(out_of_fold(material(twice, np.tile(labels, 2), 2, units), (0.001,)))

    assert (apart.predicted == np.tile(labels, 2)).mean() > 0.75
    assert (together.predicted == np.tile(labels, 2)).mean() < 0.6


def test_out_of_fold__from_a_scratch_file_as_in_memory(tmp_path: Path) -> None:
    X, labels = blobs(300, 3)
    own = material(X, labels, 3)

    held = drain(out_of_fold(own, (0.1,)))
    filed = drain(out_of_fold(replace(own, memory=1, folder=tmp_path), (0.1,)))

    assert np.array_equal(held.probabilities, filed.probabilities)
    assert list(tmp_path.iterdir()) == []


def drawn(n: int, rate: float, n_classes: int, seed: int = 0) -> tuple[Judged, NDArray[np.bool_]]:
    """Probabilities, labels drawn from them, and a share of those replaced by any other class."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(n_classes, 0.15), n).astype(np.float32)
    right = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=n_classes - 1)
    flipped = rng.random(n) < rate
    labels = np.where(flipped, (right + rng.integers(1, n_classes, n)) % n_classes, right).astype(np.int32)
    return Judged(np.arange(n), labels, p, 0.1, 5), flipped


@pytest.mark.parametrize(("rate", "n_classes"), [(0.0, 10), (0.05, 2), (0.05, 10), (0.2, 5)])
def test_fit_noise__finds_the_share_that_was_flipped(rate: float, n_classes: int) -> None:
    judged, _ = drawn(20_000, rate, n_classes)

    assert fit_noise(judged).rate == pytest.approx(rate, abs=0.012)


def test_wrong__is_a_probability() -> None:
    judged, flipped = drawn(40_000, 0.1, 10)
    found = wrong(judged, fit_noise(judged))

    for low in (0.1, 0.3, 0.5, 0.7, 0.9):
        among = (found >= low) & (found < low + 0.1)
        assert among.sum() > 50
        assert flipped[among].mean() == pytest.approx(found[among].mean(), abs=0.1)


def test_find_label_errors__finds_what_was_flipped_most_suspect_first() -> None:
    X, labels = blobs(1000, 4)
    rows = np.random.default_rng(3).choice(1000, 50, replace=False)
    given = labels.copy()
    given[rows] = (labels[rows] + 1) % 4

    found = find_label_errors(drain(out_of_fold(material(X, given, 4))))

    planted = set(rows.tolist())
    assert found.judged == 1000
    assert len(planted & set(found.indices[: found.likely].tolist())) >= 48
    assert len(set(found.indices[: found.likely].tolist()) - planted) <= 2
    assert np.array_equal(found.labels, given[found.indices])
    assert (found.suggested == labels[found.indices]).mean() > 0.95
    assert (np.diff(found.doubt > 0.5) <= 0).all()
    assert found.expected == pytest.approx(0.05, abs=0.015)


def test_find_label_errors__nothing_in_clean_labels() -> None:
    X, labels = blobs(1000, 4, apart=6.0)

    found = find_label_errors(drain(out_of_fold(material(X, labels, 4))))

    assert (found.likely, found.judged) == (0, 1000)
    assert found.expected is not None
    assert found.expected < 0.005


def test_find_label_errors__a_class_too_small_is_not_judged() -> None:
    X, labels = blobs(400, 2)
    labels[: FEWEST - 1] = 2  # and their features are those of other classes

    found = find_label_errors(drain(out_of_fold(material(X, labels, 3))))

    assert 2 not in found.labels


def test_find_label_errors__one_class_or_no_image() -> None:
    one = Judged(np.arange(3), np.zeros(3, np.int32), np.ones((3, 1), np.float32), 0.1, 5)
    none = Judged(np.arange(0), np.zeros(0, np.int32), np.ones((0, 2), np.float32), 0.1, 5)

    for judged in (one, none):
        found = find_label_errors(judged)
        assert (len(found.indices), found.expected) == (0, None)

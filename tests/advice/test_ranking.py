from __future__ import annotations

import numpy as np
import pytest

from headway.advice.ranking import FOLDS, cross_validate, folds_of
from headway.advice.transferability import log_me
from headway.training.solvers import fit_softmax


def test_folds__are_stratified_and_keep_what_belongs_together() -> None:
    labels = np.repeat(np.arange(5), 20)
    units = np.arange(100)
    units[1] = units[0]  # a copy

    folds = folds_of(labels, units, 3)

    table = np.array([np.bincount(labels[folds == fold], minlength=5) for fold in range(FOLDS)])
    assert table.min() >= 3
    assert table.max() <= 5
    assert folds[0] == folds[1]
    assert folds.tolist() == folds_of(labels, units, 3).tolist()
    assert folds.tolist() != folds_of(labels, units, 4).tolist()


def test_cross_validation__each_image_is_judged_by_a_head_that_has_not_seen_it() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = (rng.normal(size=(3, 6))[y] + rng.normal(size=(60, 6))).astype(np.float32)
    folds = folds_of(y, np.arange(60), 0)

    probed = cross_validate(X, y, folds)

    for fold in range(FOLDS):
        own = folds == fold
        head = fit_softmax(X[~own], y[~own], 3, l2=probed.l2, tolerance=1e-4)
        expected = (X[own] @ head.weight.T + head.bias).argmax(axis=1) == y[own]
        assert (probed.right[own] == expected).mean() > 0.9  # the path stops early: a borderline image may differ
    assert probed.log_me == pytest.approx(log_me(X, y))


def test_cross_validation__noise_is_not_learnt_by_heart() -> None:
    rng = np.random.default_rng(1)
    y = rng.permutation(np.arange(200) % 2)
    X = rng.normal(size=(200, 300)).astype(np.float32)

    assert 0.3 < cross_validate(X, y, folds_of(y, np.arange(200), 0)).right.mean() < 0.7


def test_cross_validation__two_images_of_a_class() -> None:
    y = np.array([0, 0, 1, 1, 2, 2])

    probed = cross_validate(np.eye(6, dtype=np.float32), y, folds_of(y, np.arange(6), 0))

    assert probed.right.shape == (6,)

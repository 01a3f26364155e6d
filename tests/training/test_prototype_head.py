"""Prototypes against scikit-learn's cosine likeness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.evaluation.calibrate import fit_temperature
from headway.events import drain
from headway.training.folds import FOLDS, stratified
from headway.training.probe import HeadSettings, ProbeData, probe
from headway.training.prototype_head import directions, sharpness


def some(seed: int = 0, n: int = 90) -> tuple[ProbeData, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    rows = (np.abs(rng.normal(size=(n, 12))) + 2 * np.eye(12)[labels]).astype(np.float32)
    data = ProbeData(lambda taps, indices: rows[indices], labels, np.arange(60), np.arange(60, n), (("last", 12),), 3)
    return data, rows


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_directions__answers_are_the_nearest_by_cosine(seed: int, n_classes: int) -> None:
    from sklearn.metrics.pairwise import cosine_similarity
    from sklearn.preprocessing import normalize

    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 20)])
    rows = rng.normal(size=(len(labels), 7)).astype(np.float32)
    asked = rng.normal(size=(30, 7)).astype(np.float32)

    found = (asked @ directions(rows, labels, n_classes).T).argmax(axis=1)

    means = np.stack([normalize(rows[labels == label]).mean(axis=0) for label in range(n_classes)])
    likeness = cosine_similarity(asked, means)
    own = np.arange(30)
    assert likeness[own, found] == pytest.approx(likeness.max(axis=1), abs=1e-5)


def test_prototype__is_a_linear_head_blind_to_the_length_of_features() -> None:
    data, rows = some()
    found = drain(probe(data, HeadSettings("prototype", taps="last")))

    assert (found.head.spec, len(found.head.layers), found.chosen["l2"]) == ("prototype", 1, None)
    assert found.head.layers[0].bias.tolist() == [0, 0, 0]
    answers = found.head.logits(rows).argmax(axis=1)
    assert (found.head.logits(rows * 17).argmax(axis=1) == answers).all()
    assert (answers[data.val] == data.labels[data.val]).mean() > 0.9


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_sharpness__fits_logits_of_any_length(length: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 300)
    near = (rng.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]).astype(np.float32)

    b = sharpness(near * np.float32(length), labels)

    assert b * length == pytest.approx(1 / fit_temperature(near, labels), rel=0.05)


@pytest.mark.parametrize("views", [0, 1])
def test_held__is_judged_by_prototypes_that_are_made_without_it(views: int) -> None:
    data, rows = some()
    other = rows + np.float32(0.3)
    data = replace(data, views=(lambda taps, indices: other[indices],) * views)
    found = drain(probe(data, HeadSettings("prototype", taps="last")))
    assert found.held is not None

    labels, n = data.labels[data.train], len(data.train)
    learnt = np.concatenate([rows[data.train], *[other[data.train]] * views])
    part = stratified(labels, None, FOLDS, np.random.default_rng([0, 5, 0]))
    near, known = [], []
    for number in range(FOLDS):  # each part in turn, the slow way
        kept = np.tile(part != number, 1 + views)
        rest = directions(learnt[kept], np.tile(labels, 1 + views)[kept], 3)
        near.append(rows[data.train][part == number] @ rest.T)
        known.append(labels[part == number])
    truth = np.concatenate(near)
    assert np.array_equal(found.held.labels, np.concatenate(known))
    assert len(truth) == n
    b = found.held.logits[0, 0] / truth[0, 0]
    np.testing.assert_allclose(found.held.logits, truth * b, rtol=1e-4)


def test_prototype__of_one_image_a_class() -> None:
    rows = np.eye(4, dtype=np.float32) + 0.1
    data = ProbeData(
        lambda taps, i: rows[i], np.array([0, 1, 0, 1]), np.array([0, 1]), np.array([2, 3]), (("last", 4),), 2
    )

    found = drain(probe(data, HeadSettings("prototype", taps="last")))

    assert np.isfinite(found.head.layers[0].weight).all()
    assert found.held is None

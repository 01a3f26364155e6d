"""unknown.py and novelty.py: the rate counted out, the score against a plain computation, and data that is no help."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.deployment.sets import KEPT
from headway.deployment.unknown import Unknown, from_arrays
from headway.novelty import learn

Floats = NDArray[np.float32]


def blobs(n: int, seed: int, width: int = 24, n_classes: int = 3) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Features, logits and labels of classes that stand apart in a few directions."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(0, 3, (n_classes, width))
    labels = rng.integers(0, n_classes, n)
    features = (middles[labels] + rng.normal(0, 1, (n, width))).astype(np.float32)
    return features, (features @ middles.T / width).astype(np.float32), labels


def calibrated(learnt: Unknown, features: Floats, logits: Floats) -> Unknown:
    return learnt.calibrated(learnt.parts(features, logits))


def fitted(n: int = 200, n_val: int = 99) -> Unknown:
    features, _, labels = blobs(n, 0)
    return calibrated(learn(features, labels), *blobs(n_val, 1)[:2])


def with_scores(scores: NDArray[np.float64]) -> Unknown:
    """An Unknown that only counts."""
    none = np.zeros((0, 2), np.float32)
    found = Unknown(0, none[0:0, 0], none[0:0, 0], none, none[:, 0], none, none, np.ones(6), scores)
    return Unknown(**{**vars(found), "n": len(scores)})


@given(st.integers(2, 60), st.integers(1, 59), st.integers(0, 1000))
def test_rate__flags_no_more_known_images_than_promised(n: int, step: int, seed: int) -> None:
    # Each of n images plays the new one once: how many are flagged is a count, with no chance in it.
    scores, level = np.random.default_rng(seed).permutation(n).astype(np.float64), step / 60
    rates = [with_scores(np.sort(np.delete(scores, i))).rate(scores[i : i + 1])[0] for i in range(n)]
    assert sum(rate <= level + 1e-12 for rate in rates) == int(level * n + 1e-9)
    assert min(rates) == pytest.approx(1 / n)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-6, 6))
def test_rate__is_a_count(known: list[float], new: float) -> None:
    found = with_scores(np.sort(np.array(known))).rate(np.array([new]))[0]
    assert found == pytest.approx((1 + sum(score >= new for score in known)) / (len(known) + 1))


def test_rate__of_many_validation_images_is_never_too_low() -> None:
    features, logits, labels = blobs(3 * KEPT, 5, width=6)
    found = calibrated(learn(features[:100], labels[:100]), features, logits)
    assert len(found.scores) == KEPT
    scores = found.score(features, logits)
    exact = (1 + (scores[:, None] >= scores[None, :500]).sum(axis=0)) / (len(scores) + 1)
    rates = found.rate(scores[:500])
    assert (rates >= exact - 1e-12).all()
    assert (rates <= exact + 3 / len(scores) + 1e-12).all()


def test_score__is_what_its_sources_say() -> None:
    features, _, labels = blobs(300, 0)
    found = calibrated(learn(features, labels), *blobs(80, 1)[:2])
    new, new_logits, _ = blobs(20, 2)
    z = (features - features.mean(0)) / features.std(0)
    _, wide = np.linalg.eigh(z.T @ z)
    axes = wide[:, ::-1][:, : z.shape[1] // 2]  # (D, R)
    place = z @ axes
    means = np.stack([place[labels == label].mean(0) for label in range(3)])
    within = place - means[labels]
    covariance = 0.95 * within.T @ within / len(z) + 0.05 * np.diag((place**2).mean(0))

    def parts(x: Floats, said: Floats) -> NDArray[np.float64]:
        at = (x - features.mean(0)) / features.std(0)
        along = at @ axes
        apart = along[:, None] - means  # (N, M, R)
        near = np.einsum("nmr,rs,nms->nm", apart, np.linalg.inv(covariance), apart).min(1)
        middle = (along**2 / (place**2).mean(0)).sum(1)
        return np.stack([-said.max(1), near - middle, np.log(np.linalg.norm(at - along @ axes.T, axis=1))])

    own, known = parts(new, new_logits), parts(*blobs(80, 1)[:2])
    logit, relative, far = (own - known.mean(1, keepdims=True)) / known.std(1, keepdims=True)
    expected = np.maximum(0.7 * logit + 0.3 * relative, -3) + 0.15 * np.exp(np.minimum(far, 20))
    # The axes are found by iteration: those of nearly equal width mix.
    np.testing.assert_allclose(found.score(new, new_logits), expected, atol=0.05)


def test_score__flags_images_of_another_kind_and_few_of_its_own() -> None:
    found = fitted()
    own, own_logits, _ = blobs(1000, 3)
    other = np.random.default_rng(4).normal(0, 6, own.shape).astype(np.float32)
    assert (found.rate(found.score(other, own_logits)) <= 0.05).mean() == 1
    assert (found.rate(found.score(own, own_logits)) <= 0.05).mean() < 0.12


def test_learn__is_the_same_each_time() -> None:
    features, _, labels = blobs(60, 0)
    once, again = learn(features, labels), learn(features.copy(), labels)
    assert all(np.array_equal(value, again.arrays()[name]) for name, value in once.arrays().items())


def _constant(n: int) -> Floats:
    return np.full((n, 8), 3.5, np.float32)


def _rank_one(n: int) -> Floats:
    return np.outer(np.arange(n), np.ones(8)).astype(np.float32)


def _wide(n: int) -> Floats:
    return np.random.default_rng(0).normal(size=(n, 300)).astype(np.float32)


def _huge(n: int) -> Floats:
    return (np.random.default_rng(0).normal(size=(n, 8)) * 1e12 + 1e13).astype(np.float32)


@pytest.mark.parametrize("made", [_constant, _rank_one, _wide, _huge])
@pytest.mark.parametrize(("n", "n_val"), [(1, 1), (2, 1), (5, 3), (40, 30)])
def test_learn__poor_features_give_numbers_all_the_same(made: object, n: int, n_val: int) -> None:
    assert callable(made)
    features, labels = made(n + n_val), np.arange(n) % 3  # with n = 1 or 2 classes are missing
    logits = np.zeros((n_val, 4), np.float32)
    found = calibrated(learn(features[:n], labels), features[n:], logits)
    whole = from_arrays(n_val, found.arrays(), features.shape[1])
    assert isinstance(whole, Unknown)
    strange = np.concatenate([features[n:], features[:1] * 2 + 1])
    rates = whole.rate(whole.score(strange, np.zeros((len(strange), 4), np.float32)))
    assert np.isfinite(rates).all()
    assert ((rates >= found.least) & (rates <= 1)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_score__of_an_image_does_not_depend_on_its_neighbours(seed: int) -> None:
    found = fitted()
    features, logits, _ = blobs(7, seed)
    alone = [found.score(features[i : i + 1], logits[i : i + 1])[0] for i in range(7)]
    np.testing.assert_allclose(found.score(features, logits), alone, rtol=1e-5, atol=1e-5)

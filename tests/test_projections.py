"""Planes through features, held against scikit-learn, scipy and counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway import projections
from headway.errors import Refused
from headway.novelty import learn
from headway.projections import agreement, along_axes, by_chance, discriminant, principal, spread_out


def material(
    n: int = 240, width: int = 20, n_classes: int = 4, seed: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Features (n, width) of unequal scales, correlated, whose classes lie apart; labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = rng.normal(0, 2, (n_classes, width))
    mixed = (centres[labels] + rng.normal(0, 1, (n, width))) @ rng.normal(0, 1, (width, width))
    return (mixed * rng.uniform(0.1, 30, width) + rng.normal(0, 50, width)).astype(np.float32), labels


def lined_up(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,) correlation of each axis with its counterpart."""
    return np.array([np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1] for axis in range(2)])


def test_principal__is_that_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    features, labels = material()
    known = learn(features, labels)
    plane = principal(known, along_axes(known, features))

    standard = StandardScaler().fit_transform(features.astype(np.float64))
    peer = PCA(2).fit(standard)
    np.testing.assert_allclose(np.abs(lined_up(plane.places, peer.transform(standard))), 1, atol=1e-5)
    np.testing.assert_allclose(plane.held, peer.explained_variance_ratio_, rtol=1e-3)


def test_principal__an_axis_turned_round_changes_nothing() -> None:
    from dataclasses import replace

    features, labels = material()
    known = learn(features, labels)
    turned = replace(known, axes=-known.axes)

    plain, other = (principal(one, along_axes(one, features)).places for one in (known, turned))
    np.testing.assert_array_equal(plain, other)


def test_discriminant__is_that_of_the_generalised_eigenproblem() -> None:
    from scipy.linalg import eigh

    features, labels = material(n=400)
    some = (labels != 0) | (np.arange(400) % 12 == 0)  # a class of fewer images counts as much
    features, labels = features[some], labels[some]
    known = learn(features, labels)
    along = along_axes(known, features)
    plane = discriminant(known, along)

    means = np.stack([along[labels == label].mean(axis=0) for label in range(4)])
    rest = along - means[labels]
    within = rest.T @ rest / len(rest)
    within = 0.95 * within + 0.05 * np.diag(np.square(along).mean(axis=0))  # as much as `novelty` shrinks
    between = np.cov(means.T, bias=True)
    values, vectors = eigh(between, within)
    np.testing.assert_allclose(np.abs(lined_up(plane.places, along @ vectors[:, ::-1][:, :2])), 1, atol=1e-4)
    np.testing.assert_allclose(plane.held, values[::-1][:2] / values.sum(), rtol=1e-3)


def test_discriminant__of_two_classes_has_another_axis_of_the_same_unit() -> None:
    features, labels = material(n_classes=2)
    known = learn(features, labels)
    plane = discriminant(known, along_axes(known, features))

    first, second = plane.places.T
    assert plane.held == (1.0, 0.0)
    assert abs(first[labels == 0].mean() - first[labels == 1].mean()) > 3
    assert second.std() == pytest.approx(1, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 30), st.integers(1, 4))
def test_agreement__is_what_counting_gives(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    places, labels, k = rng.normal(0, 1, (n, 2)), rng.integers(0, 3, n), min(k, n - 1)
    found = 0
    for row in range(n):
        others = sorted(
            (float(np.linalg.norm(places[row] - places[other])), other) for other in range(n) if other != row
        )
        found += sum(labels[other] == labels[row] for _, other in others[:k])
    assert agreement(places, labels, k) == pytest.approx(found / (n * k))


def test_agreement__more_rows_than_a_block() -> None:
    labels = np.arange(1200) % 3
    places = np.stack([labels * 100.0, np.random.default_rng(0).normal(0, 1, 1200)], axis=1)
    assert agreement(places, labels, 10) == 1


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20))
def test_by_chance__is_the_share_of_pairs(labels: list[int]) -> None:
    pairs = [a == b for i, a in enumerate(labels) for j, b in enumerate(labels) if i != j]
    assert by_chance(np.array(labels)) == pytest.approx(np.mean(pairs))


@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(0, 5), st.integers(1, 30))
def test_spread_out__begins_as_told_and_takes_the_farthest(seed: int, n: int, first: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.normal(0, 1, (n, 2))
    begun = rng.permutation(n)[:first]
    taken = spread_out(places, begun, most).tolist()

    assert len(taken) == len(set(taken)) == min(n, most)
    assert taken[: len(begun)] == begun.tolist()[:most]
    for at in range(max(1, len(begun)), len(taken)):
        gaps = [min(float(np.linalg.norm(places[row] - places[old])) for old in taken[:at]) for row in range(n)]
        assert gaps[taken[at]] == pytest.approx(max(gaps))


def test_check_view__says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "version", lambda package: None)
    projections.check_view("pca")
    with pytest.raises(Refused) as caught:
        projections.check_view("umap")
    assert str(caught.value) == (
        "--map umap needs umap-learn, which is not installed: pip install 'headway[map]', or take --map pca"
    )


def test_planes__of_images_that_are_all_alike() -> None:
    features, labels = np.ones((20, 16), np.float32), np.arange(20) % 2
    known = learn(features, labels)
    along = along_axes(known, features)

    assert not principal(known, along).places.any()
    assert np.isfinite(discriminant(known, along).places).all()
    assert projections.neighbourhood(known, along, 0) is None

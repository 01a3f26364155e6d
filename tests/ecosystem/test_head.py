"""HeadwayHead against scikit-learn's own checks, and against its LogisticRegression."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_classification
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from headway.ecosystem.head import HeadwayHead
from headway.ecosystem.parameters import settings_of
from headway.ecosystem.refusing import WrongInput
from headway.ecosystem.solving import hold_back
from headway.training.solvers import SHRINK

# Not one of scikit-learn's checks is expected to fail.
CHECKED = [HeadwayHead(l2=0.01, val=0)]
CHECKED_SLOWLY = [HeadwayHead(), HeadwayHead(head="prototype"), HeadwayHead(balance="weights")]


@parametrize_with_checks(CHECKED)  # type: ignore[untyped-decorator]
def test_head__scikit_learns_checks(estimator: HeadwayHead, check: Callable[[HeadwayHead], None]) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(CHECKED_SLOWLY)  # type: ignore[untyped-decorator]
def test_head__scikit_learns_checks_where_it_chooses(
    estimator: HeadwayHead, check: Callable[[HeadwayHead], None]
) -> None:
    check(estimator)


def rows(n: int = 300, classes: int = 3, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of very different scale, classes that overlap."""
    X, y = make_classification(n, 12, n_informative=6, n_classes=classes, flip_y=0.2, random_state=seed)
    return (X * np.geomspace(0.1, 100, 12) + 5).astype(np.float32), y


def scaled(X: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """X as headway scales it: deviations as SHRINK more rows of the mean variance would make them."""
    variance = reference.astype(np.float64).var(axis=0)
    n = len(reference)
    shrunk = (n * variance + SHRINK * variance.mean()) / (n + SHRINK)
    return np.asarray((X - reference.astype(np.float64).mean(axis=0)) / np.sqrt(shrunk))


@pytest.mark.parametrize("l2", [0.3, 0.01, 0.001])
@pytest.mark.parametrize("classes", [2, 3])
def test_head__is_logistic_regression_at_equal_l2(l2: float, classes: int) -> None:
    X, y = rows(classes=classes)
    # Of two classes scikit-learn has one row of weights, the difference of ours: half of the penalty.
    peer = LogisticRegression(C=(2 if classes == 2 else 1) / (len(y) * l2), tol=1e-10, max_iter=10_000)
    peer.fit(scaled(X, X), y)

    head = HeadwayHead(l2=l2, val=0).fit(X, y)

    assert np.abs(head.predict_proba(X) - peer.predict_proba(scaled(X, X))).max() < 2e-3
    assert (head.predict(X) == peer.predict(scaled(X, X))).mean() > 0.99
    assert head.decision_function(X).shape == peer.decision_function(scaled(X, X)).shape
    assert head.coef_.shape == peer.coef_.shape
    assert head.intercept_.shape == peer.intercept_.shape


def test_head__coefficients_give_the_decision() -> None:
    X, y = rows(classes=2)
    head = HeadwayHead(l2=0.01, val=0).fit(X, y)

    assert np.allclose(X @ head.coef_[0] + head.intercept_[0], head.decision_function(X), atol=1e-4)
    assert (head.l2_, head.temperature_) == (0.01, 1.0)


def test_head__chooses_l2_and_calibrates_on_rows_held_back() -> None:
    X, y = rows(400)

    head = HeadwayHead().fit(X, y)

    assert head.l2_ in {candidate["l2"] for candidate in head.solved_.chosen["candidates"]}
    assert len(head.solved_.chosen["candidates"]) > 3
    assert head.temperature_ != 1.0
    assert np.allclose(head.predict_proba(X).sum(axis=1), 1)
    logits = head.decision_function(X) / head.temperature_
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(head.predict_proba(X), expected)


def test_hold_back__by_content_not_by_order() -> None:
    X, y = rows(200)
    X = np.concatenate([X, X[:20]])  # twenty rows stand twice
    y = np.concatenate([y, y[:20]])
    turned = np.random.default_rng(0).permutation(len(y))

    train, val = hold_back(X, y, 0.1, 0)
    _, other = hold_back(X[turned], y[turned], 0.1, 0)
    _, reseeded = hold_back(X, y, 0.1, 1)

    assert sorted([*train, *val]) == list(range(len(y)))
    assert {row.tobytes() for row in X[val]} == {row.tobytes() for row in X[turned][other]}
    assert {row.tobytes() for row in X[val]} & {row.tobytes() for row in X[train]} == set()
    assert list(val) != list(reseeded)
    assert 0.08 < len(val) / len(y) < 0.13
    assert set(y[val]) == {0, 1, 2}


def test_hold_back__never_all_of_a_class() -> None:
    X = np.arange(6, dtype=np.float32)[:, None]
    y = np.array([0, 0, 0, 0, 1, 2])

    train, val = hold_back(X, y, 0.9, 0)

    assert list(y[val]) == [0, 0, 0]
    assert list(y[train]) == [0, 1, 2]
    assert len(hold_back(X, y, 0, 0)[1]) == 0


def test_head__classes_by_name_and_pickled() -> None:
    X, y = rows()
    names = np.array(["ant", "bee", "cow"])[y]

    head = HeadwayHead().fit(X, names)

    assert head.classes_.tolist() == ["ant", "bee", "cow"]
    assert set(head.predict(X)) <= {"ant", "bee", "cow"}
    assert head.score(X, names) > 0.6
    again = pickle.loads(pickle.dumps(head))
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))


def test_head__searches_and_pipelines() -> None:
    X, y = rows()
    search = GridSearchCV(HeadwayHead(val=0), {"l2": np.geomspace(0.001, 1, 4)}, cv=3).fit(X, y)
    piped = make_pipeline(StandardScaler(), SelectFromModel(HeadwayHead(l2=0.1, val=0)), HeadwayHead(l2=0.1, val=0))

    assert search.best_score_ > 0.5
    assert piped.fit(X, y).score(X, y) > 0.5
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


def test_head__permuted_labels_give_chance() -> None:
    X, y = rows(400)
    y = np.random.default_rng(3).permutation(y)

    found = cross_val_predict(HeadwayHead(l2=0.03), X, y, cv=5)

    assert abs((found == y).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / 400)


@pytest.mark.parametrize(
    "parameters",
    [
        {"head": "prototype"},
        {"head": "mlp:16", "lr": 0.02, "batch": 20, "epochs": 8},
        {"balance": "logit"},
        {"balance": "weights", "val": 0.2},
    ],
    ids=str,
)
def test_head__every_kind_learns(parameters: dict[str, Any]) -> None:
    X, y = make_blobs(300, centers=[(0, 0, 4), (0, 4, 0), (4, 0, 0)], cluster_std=1.5, random_state=0)

    head = HeadwayHead(**parameters).fit(X[:200], y[:200])

    assert head.score(X[200:], y[200:]) > 0.8


@pytest.mark.parametrize(
    ("parameters", "decay"),
    [
        ({}, 1.0),
        ({"optimizer": "sgd"}, 0.0),
        ({"optimizer": "adam"}, 0.0),
        ({"weight_decay": 0.3, "optimizer": "sgd"}, 0.3),
        ({"l2": 0.2}, 0.2),
        ({"l2": 0.2, "weight_decay": 0.3}, 0.2),
    ],
)
def test_head__weight_decay_that_is_left_open(parameters: dict[str, Any], decay: float) -> None:
    head = HeadwayHead(head="mlp:8", **parameters)

    assert settings_of(head.get_params()).weight_decay == decay
    assert settings_of(head.get_params()).epochs == "auto"


def test_head__hidden_layers_have_no_coefficients() -> None:
    X, y = rows(60)
    head = HeadwayHead(head="mlp:4", epochs=1).fit(X, y)

    assert not hasattr(head, "coef_")
    with pytest.raises(AttributeError) as caught:
        _ = head.intercept_
    assert str(caught.value) == "a mlp:4 head has layers, and no coef_: see solved_.head.layers"
    assert head.l2_ is None


def test_head__torch_keeps_its_threads() -> None:
    import torch

    X, y = rows(60)
    HeadwayHead(l2=0.1, val=0, threads=2).fit(X, y)

    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"l2": -1}, "l2 -1: expected auto, or a number of 0 or more"),
        ({"val": 2}, "val 2: expected a share above 0 and below 1"),
        ({"head": "prototype", "l2": 1.0}, "l2 1 has no place in head prototype: take linear"),
        (
            {"balance": "wieghts", "weight_decay": -1.0},
            "2 problems:\n"
            "  balance wieghts: expected none, weights or logit. Did you mean weights ?\n"
            "  weight_decay -1: expected a number of 0 or more",
        ),
        (
            {"val": 0},
            "no rows are held back to choose by (val is 0, or no class has two rows): "
            "expected l2 a number; or val above 0 and more rows",
        ),
        (
            {"val": 0, "head": "mlp:8", "balance": "logit"},
            "no rows are held back to choose by (val is 0, or no class has two rows): "
            "expected head linear, l2 a number, balance none or weights; or val above 0 and more rows",
        ),
    ],
)
def test_head__what_cannot_work(parameters: dict[str, Any], said: str) -> None:
    X, y = rows(30)

    with pytest.raises(WrongInput) as caught:
        HeadwayHead(**parameters).fit(X, y)

    assert str(caught.value) == said
    assert isinstance(caught.value, ValueError)


def test_head__one_class() -> None:
    with pytest.raises(WrongInput) as caught:
        HeadwayHead().fit(rows(5)[0], ["ant"] * 5)

    assert str(caught.value) == "y has 1 class, ant: a classifier needs two or more"

"""Training images held out in turn: who is held out, and losses against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.events import drain
from headway.training.design import in_memory
from headway.training.folds import FOLDS, cross, n_folds, stratified
from headway.training.probe import HeadSettings, ProbeData, probe


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 6), st.integers(0, 99))
def test_stratified__spreads_every_class_evenly(labels: list[int], folds: int, seed: int) -> None:
    y = np.array(labels)
    part = stratified(y, None, folds, np.random.default_rng(seed))

    for label in np.unique(y):
        own = part[y == label]
        if len(own) == 1:
            assert own.tolist() == [-1]  # held out, its class would have no image to learn from
        else:
            times = np.bincount(own, minlength=folds)
            assert times.max() - times.min() <= 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 6)), min_size=1, max_size=50), st.integers(0, 99))
def test_stratified__groups_stay_together_and_no_class_is_emptied(images: list[tuple[int, int]], seed: int) -> None:
    y, groups = np.array(images).T
    part = stratified(y, groups, 4, np.random.default_rng(seed))

    for label in np.unique(y):
        for fold in np.unique(part[part >= 0]):
            assert (part[y == label] != fold).any()
    for group in np.unique(groups[groups >= 0]):
        assert len(np.unique(part[groups == group])) == 1


def few(n_val: int = 20) -> ProbeData:
    rng = np.random.default_rng(3)
    labels = np.arange(60 + n_val) % 3
    rows = (rng.normal(size=(len(labels), 5)) + np.eye(5)[labels]).astype(np.float32)
    return ProbeData(
        lambda taps, indices: rows[indices],
        labels,
        np.arange(60),
        np.arange(60, 60 + n_val),
        (("last", 5),),
        3,
    )


def test_crossing__losses_are_those_of_heads_that_did_not_see_the_image() -> None:
    from sklearn.linear_model import LogisticRegression

    data, l2 = few(), 0.03
    rows, y = data.columns(("last",), data.train).astype(np.float64), data.labels[data.train]
    crossing = cross(in_memory(rows.astype(np.float32)), data, HeadSettings(folds=4), [], None)
    assert crossing is not None

    found = crossing.losses(l2)

    expected = np.zeros(60)
    for fold in crossing.folds:
        kept = np.setdiff1d(np.arange(60), fold.where)
        mean, spread = rows[kept].mean(axis=0), rows[kept].std(axis=0)
        model = LogisticRegression(C=1 / (l2 * len(kept)), tol=1e-9, max_iter=5000)
        model.fit((rows[kept] - mean) / spread, y[kept])
        chances = model.predict_proba((rows[fold.where] - mean) / spread)
        expected[fold.where] -= np.log(chances[np.arange(len(fold.where)), y[fold.where]]) / crossing.repeats
    assert crossing.repeats == 2
    assert found == pytest.approx(expected, abs=5e-3)
    held = crossing.held(l2)
    assert len(held.labels) == 2 * 60


@pytest.mark.parametrize(
    ("settings", "n_val", "folds"),
    [
        (HeadSettings(taps="last"), 99, FOLDS),
        (HeadSettings(taps="last"), 100, 0),
        (HeadSettings(taps="last", l2=0.1), 20, 0),
        (HeadSettings(taps="last", folds=3), 500, 3),
        (HeadSettings(taps="last", folds=0), 20, 0),
    ],
)
def test_n_folds__only_where_there_is_a_choice_and_few_to_choose_by(
    settings: HeadSettings, n_val: int, folds: int
) -> None:
    assert n_folds(few(n_val), settings) == folds


def test_probe__few_validation_images_choose_with_those_held_out() -> None:
    found = drain(probe(few(), HeadSettings(taps="last")))

    assert found.chosen["folds"] == {"held_out": 60, "repeats": 2, "fits": 10, "val": 20}
    n = len(found.chosen["candidates"])
    assert found.chosen["why"] == (
        f"L2 {found.chosen['l2']:g} has the lowest log-loss of {n} tried, on 20 validation images and "
        "60 training images held out in turn."
    )
    best = min(found.chosen["candidates"], key=lambda one: one["log_loss"])
    assert best["l2"] == found.chosen["l2"]


def test_probe__folds_keep_views_of_an_image_together() -> None:
    """A view that equals its image would give the answer away."""
    data = few()
    doubled = ProbeData(
        data.columns, data.labels, data.train, data.val, data.taps, data.n_classes, views=[data.columns] * 3
    )
    plain, seen = (drain(probe(each, HeadSettings(taps="last"))) for each in (data, doubled))

    assert seen.chosen["folds"]["held_out"] == 60
    assert seen.chosen["l2"] == plain.chosen["l2"]


def test_probe__the_same_bits_with_folds() -> None:
    one, other = (drain(probe(few(), HeadSettings(taps="last"))) for _ in range(2))

    assert one.head.layers[0].weight.tobytes() == other.head.layers[0].weight.tobytes()
    assert one.temperature == other.temperature

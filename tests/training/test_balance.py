"""Logit adjustment against the rule that it stands for, and what --balance does to heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.evaluation.calibrate import fit_temperature
from headway.evaluation.metrics import softmax
from headway.events import drain
from headway.training.balance import shift, shifted
from headway.training.heads import Head, Layer
from headway.training.probe import HeadSettings, ProbeData, probe


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=8), st.floats(0.1, 5), st.integers(0, 1000))
def test_shift__divides_probabilities_by_how_common_classes_are(
    counts: list[int], temperature: float, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (5, len(counts)))

    found = softmax(logits + shift(np.array(counts), temperature), temperature)

    expected = softmax(logits, temperature) / np.array(counts)
    assert found == pytest.approx(expected / expected.sum(axis=1, keepdims=True), rel=1e-4)


def test_shift__of_equal_classes_is_nothing() -> None:
    assert shift(np.array([7, 7, 7]), 2.0).tolist() == [0, 0, 0]


def test_shifted__is_the_last_bias_alone_and_uses_the_fitted_temperature() -> None:
    rng = np.random.default_rng(0)
    layers = tuple(Layer(rng.normal(size=(3, 3)).astype(np.float32), np.zeros(3, np.float32)) for _ in range(2))
    logits, labels = rng.normal(0, 4, (50, 3)).astype(np.float32), rng.integers(0, 3, 50)
    counts = np.array([1, 10, 100])

    head, moved = shifted(Head("mlp:3", ("last",), layers), logits, labels, counts)

    expected = -fit_temperature(logits, labels) * np.log(counts / counts.mean())
    assert head.layers[1].bias == pytest.approx(expected, rel=1e-5)
    assert head.layers[0] is layers[0]
    assert head.layers[1].weight is layers[1].weight
    assert moved == pytest.approx(logits + expected.astype(np.float32), abs=1e-5)


def uneven(seed: int = 0) -> ProbeData:
    """Three overlapping classes of 300, 60 and 12 images; a third validates, as common as they are."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [300, 60, 12])
    rows = (rng.normal(size=(372, 6)) + 1.2 * np.eye(6)[labels]).astype(np.float32)
    val = np.flatnonzero(np.arange(372) % 3 == 0)
    train = np.flatnonzero(np.arange(372) % 3)
    return ProbeData(lambda taps, indices: rows[indices], labels, train, val, (("last", 6),), 3)


@pytest.mark.parametrize("spec", ["linear", "mlp:8"])
@pytest.mark.parametrize("balance", ["weights", "logit"])
def test_probe__balance_finds_more_of_rare_classes(spec: str, balance: str) -> None:
    data = uneven()
    settings = HeadSettings(spec, taps="last", epochs=20, batch=50, lr=1e-2)
    fresh = np.random.default_rng(9)
    labels = fresh.integers(0, 3, 3000)
    rows = (fresh.normal(size=(3000, 6)) + 1.2 * np.eye(6)[labels]).astype(np.float32)

    def balanced_accuracy(settings: HeadSettings) -> float:
        head = drain(probe(data, settings)).head
        return float((head.logits(rows).argmax(axis=1) == labels).mean())  # classes are even here

    assert balanced_accuracy(replace(settings, balance=balance)) > balanced_accuracy(settings) + 0.05


@pytest.mark.parametrize("spec", ["linear", "prototype", "mlp:8"])
@pytest.mark.parametrize("balance", ["none", "weights", "logit"])
def test_probe__temperature_belongs_to_the_logits_that_are_shipped(spec: str, balance: str) -> None:
    data = uneven()
    found = drain(probe(data, HeadSettings(spec, taps="last", epochs=5, balance=balance)))

    logits = found.head.logits(data.columns(("last",), data.val))
    assert found.val_logits == pytest.approx(logits, abs=1e-4)
    own = data.labels[data.val]
    if found.held is None:
        assert found.temperature == pytest.approx(fit_temperature(logits, own), rel=1e-3)


def test_probe__logit_moves_only_the_bias_of_a_linear_head() -> None:
    data = uneven()
    plain, moved = (drain(probe(data, HeadSettings(taps="last", balance=name))).head for name in ("none", "logit"))

    assert moved.layers[0].weight.tobytes() == plain.layers[0].weight.tobytes()
    added = moved.layers[0].bias - plain.layers[0].bias
    counts = np.bincount(data.labels[data.train])
    ratio = added / np.log(counts / counts.mean())
    assert ratio == pytest.approx(np.full(3, ratio[0]), rel=1e-3)
    assert ratio[0] < 0

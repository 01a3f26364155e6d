"""calibrate.py: the temperature is a minimum, the bins are a naive loop's, the floor is that of a calibrated model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from headway.evaluation.calibrate import COLDEST, HOTTEST, ece, ece_floor, fit_temperature, reliability
from headway.evaluation.metrics import score, softmax


def drawn(n: int, n_classes: int, sharper: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Logits, and labels drawn from their own softmax; the logits then `sharper` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 2
    chances = softmax(logits)
    y = np.array([rng.choice(n_classes, p=row) for row in chances])
    return (logits * sharper).astype(np.float32), y


def objective(inverse: float, logits: NDArray[np.float32], y: NDArray[np.intp]) -> float:
    return float(score(logits, y, 1 / inverse).loss.sum()) + (inverse - 1) ** 2 / 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 6), st.floats(0.01, 100), st.integers(0, 10_000))
def test_fit_temperature__is_the_minimum(n: int, n_classes: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, n_classes)) * scale).astype(np.float32)
    y = rng.integers(0, n_classes, n)

    temperature = fit_temperature(logits, y)

    bounds = (1 / HOTTEST, 1 / COLDEST)
    best = minimize_scalar(objective, bounds=bounds, args=(logits, y), method="bounded", options={"xatol": 1e-10})
    assert objective(1 / temperature, logits, y) <= best.fun + 1e-9 * (1 + abs(best.fun))
    assert COLDEST <= temperature <= HOTTEST
    # never worse than none on the fitting data
    assert score(logits, y, temperature).loss.mean() <= score(logits, y).loss.mean() * (1 + 1e-12)


def test_fit_temperature__gradient_is_zero_at_the_optimum() -> None:
    logits, y = drawn(500, 5, 2.5)
    inverse = 1 / fit_temperature(logits, y)

    step = 1e-5
    slope = (objective(inverse + step, logits, y) - objective(inverse - step, logits, y)) / (2 * step)

    curvature = (objective(inverse + 0.01, logits, y) - objective(inverse, logits, y)) / 0.01
    assert abs(slope) < 1e-3 * curvature


@pytest.mark.parametrize("sharper", [0.25, 1.0, 4.0])
def test_fit_temperature__finds_the_true_one(sharper: float) -> None:
    logits, y = drawn(4000, 4, sharper)

    assert fit_temperature(logits, y) == pytest.approx(sharper, rel=0.06)


def test_fit_temperature__of_images_that_are_all_right_stays_moderate() -> None:
    y = np.arange(200) % 2
    logits = np.where(np.arange(2) == y[:, None], 4.0, -4.0).astype(np.float32)

    temperature = fit_temperature(logits, y)

    assert 0.5 < temperature < 1
    mistake = score(logits[:1], 1 - y[:1], temperature).loss[0]
    assert mistake < 16


@pytest.mark.parametrize("size", [1e-30, 1e4, 1e30, 3e38])
def test_fit_temperature__logits_of_any_size(size: float) -> None:
    y = np.array([0, 1, 2, 0])
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]] * np.float32(size)

    temperature = fit_temperature(logits, y)

    assert temperature == pytest.approx(1.0 if size < 1 else HOTTEST)


def test_fit_temperature__helps_on_images_it_has_not_seen() -> None:
    helped = 0
    for seed in range(20):
        logits, y = drawn(400, 3, 0.5 + seed / 10, seed)
        temperature = fit_temperature(logits[:150], y[:150])
        before, after = score(logits[150:], y[150:]), score(logits[150:], y[150:], temperature)
        helped += int(after.loss.mean() <= before.loss.mean() + 0.005)

    assert helped >= 19


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0.001, 1), st.booleans()), min_size=1, max_size=50))
def test_reliability__equals_a_naive_loop(images: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([image[0] for image in images]), np.array([image[1] for image in images])

    bins = reliability(confidence, right)

    total = 0.0
    for own in bins:
        inside = [image for image in images if own.low < image[0] <= own.high]
        assert own.n == len(inside)
        if not inside:
            assert own.confidence is None
            assert own.accuracy is None
            continue
        assert own.confidence == pytest.approx(np.mean([image[0] for image in inside]))
        assert own.accuracy == pytest.approx(np.mean([image[1] for image in inside]))
        total += abs(sum(image[0] for image in inside) - sum(image[1] for image in inside))
    assert sum(own.n for own in bins) == len(images)
    assert (bins[0].low, bins[-1].high, len(bins)) == (0, 1, 15)
    assert ece(confidence, right) == pytest.approx(total / len(images))


def test_ece__of_certain_and_right_is_zero_and_of_certain_and_wrong_one() -> None:
    assert ece(np.ones(9), np.ones(9, bool)) == 0
    assert ece(np.ones(9), np.zeros(9, bool)) == 1


@pytest.mark.parametrize(("n", "published"), [(100, 0.068), (200, 0.049), (1000, 0.022), (5000, 0.010)])
def test_ece_floor__is_what_a_calibrated_model_shows(n: int, published: float) -> None:
    rng = np.random.default_rng(n)
    confidence = 1 - rng.beta(1, 3, n) * 0.6
    floor = ece_floor(confidence, seed=0)

    simulated = [ece(confidence, rng.random(n) < confidence) for _ in range(200)]

    assert floor == pytest.approx(np.mean(simulated), rel=0.1)
    assert floor == pytest.approx(published, rel=0.4)  # other confidences, the same order


def test_ece_floor__is_seeded_and_blind_to_order() -> None:
    confidence = np.random.default_rng(0).random(300)

    floor = ece_floor(confidence, seed=3)

    assert ece_floor(confidence[::-1], seed=3) == floor
    assert ece_floor(confidence, seed=4) != floor
    assert ece_floor(np.ones(50), seed=3) == 0

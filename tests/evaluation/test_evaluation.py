"""evaluation.py: the whole value, its JSON, and what must hold for any classifier."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.evaluation.evaluation import Evaluation, evaluate
from headway.evaluation.intervals import wilson

CLASSES = ("cat", "dog", "owl")


def small() -> Evaluation:
    chances = [[0.72, 0.18, 0.1], [0.62, 0.28, 0.1], [0.2, 0.62, 0.18], [0.1, 0.81, 0.09]]
    logits = np.log(chances).astype(np.float32)
    return evaluate(logits, np.array([0, 0, 0, 1]), CLASSES, temperature=1.0, seed=0, train_counts=np.array([5, 9, 2]))


def random_case(n: int, n_classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.intp], list[str]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes)).astype(np.float32)
    logits[np.arange(n), y] += 1
    return logits, y, [f"class {index}" for index in range(n_classes)]


def test_evaluate__small_case_whole() -> None:
    judged = small()
    value = judged.to_json()

    assert value.pop("text") == (
        "              precision    recall  f1-score   support\n"
        "\n"
        "         cat       1.00      0.67      0.80         3\n"
        "         dog       0.50      1.00      0.67         1\n"
        "\n"
        "    accuracy                           0.75         4\n"
        "   micro avg       0.75      0.75      0.75         4\n"
        "   macro avg       0.75      0.83      0.73         4\n"
        "weighted avg       0.88      0.75      0.77         4\n"
    )
    calibration = value.pop("calibration")
    assert value == {
        "n": 4,
        "correct": 3,
        "accuracy": 0.75,
        "interval": list(wilson(0.75, 4)),
        "constant_guess": {"class": "dog", "accuracy": 0.25},
        "balanced_accuracy": pytest.approx(5 / 6),
        "macro_f1": pytest.approx((4 / 5 + 2 / 3) / 2),
        "balanced_accuracy_interval": None,
        "macro_f1_interval": None,
        "macro_note": "An interval of macro-F1 or balanced accuracy would not be honest at this n: "
        "owl has 0 test images, and 30 a class are needed.",
        "top5": None,
        "log_loss": pytest.approx(-np.log([0.72, 0.62, 0.2, 0.81]).mean()),
        "brier": pytest.approx((0.1208 + 0.2328 + 1.0568 + 0.0542) / 4),
        "per_class": [
            {
                "class": "cat",
                "precision": 1.0,
                "recall": pytest.approx(2 / 3),
                "recall_interval": list(wilson(2 / 3, 3)),
                "f1": 0.8,
                "support": 3,
                "predicted": 2,
            },
            {
                "class": "dog",
                "precision": 0.5,
                "recall": 1.0,
                "recall_interval": list(wilson(1, 1)),
                "f1": pytest.approx(2 / 3),
                "support": 1,
                "predicted": 2,
            },
            {
                "class": "owl",
                "precision": None,
                "recall": None,
                "recall_interval": None,
                "f1": None,
                "support": 0,
                "predicted": 0,
            },
        ],
        "averages": {
            "micro": {"precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4},
            "macro": {
                "precision": 0.75,
                "recall": pytest.approx(5 / 6),
                "f1": pytest.approx(11 / 15),
                "support": 4,
            },
            "weighted": {"precision": 0.875, "recall": pytest.approx(0.75), "f1": pytest.approx(23 / 30), "support": 4},
        },
        "confusion": [[2, 1, 0], [0, 1, 0], [0, 0, 0]],
    }
    assert set(calibration) == {"temperature", "before", "after", "ece_floor", "bins"}
    assert calibration["temperature"] == 1
    assert calibration["before"] == calibration["after"]
    # (1 - 0.72) + (1.24 - 1) + (1 - 0.81), over 4 images
    assert calibration["after"] == {"nll": value["log_loss"], "brier": value["brier"], "ece": pytest.approx(0.1775)}
    assert 0 < calibration["ece_floor"] < 1
    assert [own["n"] for own in calibration["bins"]] == [0] * 9 + [2, 1, 0, 1, 0, 0]
    assert calibration["bins"][8] == {"low": 8 / 15, "high": 0.6, "n": 0, "confidence": None, "accuracy": None}
    assert calibration["bins"][9] == pytest.approx(
        {"low": 0.6, "high": 10 / 15, "n": 2, "confidence": 0.62, "accuracy": 0.5}
    )


def test_evaluation__in_one_line() -> None:
    y = np.arange(300) % 2
    logits = np.eye(2, dtype=np.float32)[np.where(np.arange(300) < 4, 1 - y, y)]

    judged = evaluate(logits, y, ("cat", "dog"), temperature=1.0, seed=0)

    assert str(judged) == "accuracy 0.987 [0.966, 0.995], n=300"


def test_evaluation__is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        small().accuracy = 1.0  # type: ignore[misc]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(2, 13), st.floats(0.05, 20), st.integers(0, 1000))
def test_evaluation__json_round_trip_and_bounds(n: int, n_classes: int, temperature: float, seed: int) -> None:
    logits, y, classes = random_case(n, n_classes, seed)

    judged = evaluate(logits, y, classes, temperature=temperature, seed=seed)

    assert Evaluation.from_json(json.loads(json.dumps(judged.to_json(), allow_nan=False))) == judged
    shares = [judged.accuracy, judged.balanced_accuracy, judged.macro_f1, judged.guess_accuracy, *judged.interval]
    shares += [judged.calibration.after.ece, judged.calibration.ece_floor, judged.brier / 2]
    assert all(-1e-12 <= share <= 1 + 1e-12 for share in shares)
    assert judged.log_loss >= 0
    assert judged.interval[0] <= judged.accuracy <= judged.interval[1]
    assert (judged.top5 is None) == (n_classes <= 10)
    assert judged.correct == sum(judged.confusion[index][index] for index in range(n_classes))
    for own in judged.per_class:
        assert (own.recall is None) == (own.recall_interval is None) == (own.support == 0)
        assert (own.precision is None) == (own.predicted == 0)


def numbers(judged: Evaluation) -> list[float]:
    after = judged.calibration.after
    return [judged.accuracy, judged.balanced_accuracy, judged.macro_f1, after.nll, after.brier, after.ece]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 80), st.integers(2, 6), st.integers(0, 1000))
def test_evaluate__order_of_images_does_not_matter(n: int, n_classes: int, seed: int) -> None:
    logits, y, classes = random_case(n, n_classes, seed)
    order = np.random.default_rng(seed).permutation(n)

    one = evaluate(logits, y, classes, temperature=1.5, seed=0)
    other = evaluate(logits[order], y[order], classes, temperature=1.5, seed=0)

    assert numbers(one) == pytest.approx(numbers(other), rel=1e-12)
    assert (one.confusion, one.per_class, one.text) == (other.confusion, other.per_class, other.text)
    assert one.macro_f1_interval == other.macro_f1_interval
    assert one.calibration.ece_floor == other.calibration.ece_floor


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 80), st.integers(2, 6), st.integers(0, 1000))
def test_evaluate__renaming_classes_commutes(n: int, n_classes: int, seed: int) -> None:
    logits, y, classes = random_case(n, n_classes, seed)
    order = np.random.default_rng(seed).permutation(n_classes)

    one = evaluate(logits, y, classes, temperature=0.7, seed=0)
    other = evaluate(
        logits[:, order], np.argsort(order)[y], [classes[index] for index in order], temperature=0.7, seed=0
    )

    assert numbers(one) == pytest.approx(numbers(other), rel=1e-12)
    assert sorted(one.per_class, key=lambda own: own.name) == sorted(other.per_class, key=lambda own: own.name)


def test_evaluate__perfect_is_one() -> None:
    y = np.arange(440) % 11
    judged = evaluate(
        np.eye(11, dtype=np.float32)[y] * 1000, y, [str(index) for index in range(11)], temperature=1, seed=0
    )

    assert (judged.accuracy, judged.balanced_accuracy, judged.top5) == (1, 1, 1)
    assert judged.macro_f1 == pytest.approx(1)
    assert (judged.log_loss, judged.brier, judged.calibration.after.ece) == (0, 0, 0)
    assert (judged.macro_f1_interval, judged.balanced_accuracy_interval) == (None, None)
    assert (judged.macro_note or "").endswith("0 images were mistaken, and 5 mistakes are needed.")


def test_evaluate__temperature_changes_confidence_not_predictions() -> None:
    logits, y, classes = random_case(200, 4, 0)

    cold = evaluate(logits, y, classes, temperature=0.1, seed=0)
    warm = evaluate(logits, y, classes, temperature=10, seed=0)

    assert cold.confusion == warm.confusion
    assert cold.calibration.before == warm.calibration.before
    assert cold.calibration.after != warm.calibration.after
    assert cold.calibration.ece_floor != warm.calibration.ece_floor  # it belongs to the confidences after temperature
    assert cold.log_loss == cold.calibration.after.nll


def test_evaluate__rare_class_is_shown_with_its_interval() -> None:
    y = np.zeros(10_000, np.int32)
    y[0] = 1
    judged = evaluate(np.tile(np.array([5, 0], np.float32), (10_000, 1)), y, ("common", "rare"), temperature=1, seed=0)

    assert (judged.accuracy, judged.guess, judged.guess_accuracy) == (0.9999, "common", 0.9999)
    assert judged.balanced_accuracy == 0.5
    assert judged.per_class[1].recall == 0
    assert judged.per_class[1].recall_interval == pytest.approx((0, 0.7935), abs=1e-4)


def test_evaluate__groups_widen_the_intervals() -> None:
    logits, y, classes = random_case(100, 2, 0)
    logits, y, groups = np.repeat(logits, 4, axis=0), np.repeat(y, 4), np.repeat(np.arange(100), 4)

    alone = evaluate(logits, y, classes, temperature=1, seed=0)
    grouped = evaluate(logits, y, classes, temperature=1, seed=0, groups=groups)

    def width(interval: Any) -> float:
        return float(interval[1] - interval[0])

    assert width(grouped.interval) == pytest.approx(2 * width(alone.interval), rel=0.05)
    assert width(grouped.macro_f1_interval) > 1.7 * width(alone.macro_f1_interval)
    for own, other in zip(grouped.per_class, alone.per_class, strict=True):
        assert width(own.recall_interval) > 1.5 * width(other.recall_interval)
    assert grouped.accuracy == alone.accuracy


def test_evaluate__same_seed_same_value() -> None:
    logits, y, classes = random_case(300, 3, 0)

    assert evaluate(logits, y, classes, temperature=1, seed=1) == evaluate(logits, y, classes, temperature=1, seed=1)


def test_evaluate__wrong_number_of_names_is_refused() -> None:
    with pytest.raises(ValueError, match="2 class names for logits of 3 classes"):
        evaluate(np.zeros((1, 3), np.float32), np.array([0]), ("a", "b"), temperature=1, seed=0)


def test_evaluate__10_000_images_of_100_classes_are_quick() -> None:
    logits, y, classes = random_case(10_000, 100, 0)

    start = time.process_time()
    judged = evaluate(logits, y, classes, temperature=1.3, seed=0)

    assert time.process_time() - start < 2  # measured: 0.26 s; room for a busy machine
    assert judged.macro_f1_interval is not None


def test_evaluate__1000_classes() -> None:
    logits, y, classes = random_case(1500, 1000, 0)

    judged = evaluate(logits, y, classes, temperature=1, seed=0)

    assert len(judged.per_class) == len(judged.confusion) == 1000


def test_evaluation__imports_nothing_heavy() -> None:
    heavy = ("torch", "scipy", "sklearn", "pandas", "pyarrow", "onnx")
    code = (
        "import sys\n"
        "from headway.evaluation import compare, evaluation\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"

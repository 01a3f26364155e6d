"""metrics.py against naive loops and scikit-learn."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    balanced_accuracy_score,
    classification_report,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from headway.errors import HeadwayError
from headway.evaluation import metrics


@st.composite
def predictions(draw: st.DrawFn) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Labels and predictions of 1 to 60 images among 2 to 7 classes, some of which may be absent."""
    n_classes = draw(st.integers(2, 7))
    n = draw(st.integers(1, 60))
    numbers = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return np.array(draw(numbers)), np.array(draw(numbers)), n_classes


def some_logits(n: int, n_classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes)).astype(np.float32) * 2
    logits[np.arange(n), y] += 1.5
    return logits, y


def naive_probabilities(row: Any, temperature: float) -> list[float]:
    greatest = max(float(value) for value in row)
    powers = [math.exp((float(value) - greatest) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_score__equals_a_naive_loop(temperature: float) -> None:
    logits, y = some_logits(50, 4)

    scores = metrics.score(logits, y, temperature)

    for index, row in enumerate(logits):
        chances = naive_probabilities(row, temperature)
        assert scores.predicted[index] == chances.index(max(chances))
        assert scores.right[index] == (chances.index(max(chances)) == y[index])
        assert scores.confidence[index] == pytest.approx(max(chances))
        assert scores.loss[index] == pytest.approx(-math.log(chances[y[index]]))
        squares = [(chance - (position == y[index])) ** 2 for position, chance in enumerate(chances)]
        assert scores.brier[index] == pytest.approx(sum(squares))
        assert metrics.softmax(logits, temperature)[index].tolist() == pytest.approx(chances)


def test_score__log_loss_equals_scikit_learn() -> None:
    logits, y = some_logits(300, 5)

    expected = log_loss(y, metrics.softmax(logits), labels=range(5))

    assert metrics.score(logits, y).loss.mean() == pytest.approx(expected)


def test_score__huge_logits_stay_finite() -> None:
    logits = np.array([[3e38, -3e38, 0], [1e30, 1e30, 1e30], [0, 88.8, 500]], np.float32)

    scores = metrics.score(logits, np.array([1, 0, 2]), 0.05)

    assert scores.predicted.tolist() == [0, 0, 2]
    assert scores.confidence.tolist() == pytest.approx([1, 1 / 3, 1])
    assert scores.loss.tolist() == pytest.approx([6e38 / 0.05, math.log(3), 0])
    assert scores.brier.tolist() == pytest.approx([2, 2 / 3, 0])


def test_score__more_rows_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, y = some_logits(50, 12)
    whole = metrics.score(logits, y)
    top = metrics.top_right(logits, y, 5)

    monkeypatch.setattr(metrics, "CHUNK", 7)
    parts = metrics.score(logits, y)

    for name in ("predicted", "confidence", "loss", "brier", "right"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert np.array_equal(top, metrics.top_right(logits, y, 5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score__not_finite_is_refused_in_words(bad: float) -> None:
    logits, y = some_logits(1200, 3)
    logits[[5, 1100], [1, 2]] = bad

    with pytest.raises(HeadwayError) as caught:
        metrics.score(logits, y)

    assert str(caught.value) == (
        "the classifier's outputs are not finite for 2 of 1,200 images: its training diverged; "
        "train again with a smaller --lr"
    )


def test_score__no_image_is_refused_in_words() -> None:
    with pytest.raises(HeadwayError) as caught:
        metrics.score(np.zeros((0, 3), np.float32), np.zeros(0, np.int32))

    assert str(caught.value) == "there is no labelled image to judge the classifier on; at least one is needed"


@pytest.mark.parametrize(
    ("shape", "labels"), [((2, 1), [0, 0]), ((2, 3), [0]), ((2, 3), [0, 3]), ((2, 3), [-1, 0]), ((6,), [0])]
)
def test_score__what_does_not_fit_is_refused(shape: tuple[int, ...], labels: list[int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        metrics.score(np.zeros(shape, np.float32), np.array(labels))


def test_top_right__equals_scikit_learn() -> None:
    logits, y = some_logits(200, 20)

    assert metrics.top_right(logits, y, 5).mean() == top_k_accuracy_score(y, logits, k=5, labels=range(20))


def test_top_right__first_of_equal_logits_comes_first() -> None:
    logits = np.zeros((12, 12), np.float32)

    assert metrics.top_right(logits, np.arange(12), 5).tolist() == [True] * 5 + [False] * 7


def test_top_right__one_is_accuracy() -> None:
    logits = np.round(some_logits(200, 4)[0])  # with ties
    y = some_logits(200, 4)[1]

    assert np.array_equal(metrics.top_right(logits, y, 1), metrics.score(logits, y).right)


def test_worst_mistakes__least_probable_label_first() -> None:
    logits = np.array([[0, 1], [0, 9], [0, -1], [0, 5], [0, 9]], np.float32)

    scores = metrics.score(logits, np.array([0, 0, 0, 0, 0]))

    assert metrics.worst_mistakes(scores, 24).tolist() == [1, 4, 3, 0]
    assert metrics.worst_mistakes(scores, 2).tolist() == [1, 4]


@given(predictions())
def test_counts__equal_scikit_learn(case: tuple[NDArray[np.intp], NDArray[np.intp], int]) -> None:
    y, predicted, n_classes = case
    confusion = metrics.confusion_matrix(y, predicted, n_classes)
    counts = metrics.per_class(confusion)

    assert np.array_equal(confusion, sklearn_confusion_matrix(y, predicted, labels=range(n_classes)))
    expected = precision_recall_fscore_support(y, predicted, labels=range(n_classes), zero_division=np.nan)
    for mine, theirs in zip((counts.precision, counts.recall, counts.f1, counts.support), expected, strict=True):
        assert np.allclose(mine, theirs, equal_nan=True, rtol=1e-12, atol=0)
    means = metrics.averages(counts)
    assert means.macro.f1 == pytest.approx(f1_score(y, predicted, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a prediction that is nobody's label
        assert metrics.balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(y, predicted))


@given(predictions())
def test_report_text__is_scikit_learns_with_a_micro_row(case: tuple[NDArray[np.intp], NDArray[np.intp], int]) -> None:
    y, predicted, n_classes = case
    assume((y == predicted).any())  # else scikit-learn 1.9 prints the support as 1.0, 2.0, ...
    classes = [f"a class with number {index}"[: 8 + 3 * index] for index in range(n_classes)]
    occurring = sorted({*y.tolist(), *predicted.tolist()})
    text = metrics.report_text(metrics.per_class(metrics.confusion_matrix(y, predicted, n_classes)), classes)

    names = [classes[index] for index in occurring]
    expected = classification_report(y, predicted, target_names=names, zero_division=0)

    lines = text.splitlines(keepends=True)
    assert "".join(line for line in lines if not line.lstrip().startswith("micro avg")) == expected
    # scikit-learn prints a micro row where the labels are told and one of them is not there.
    if len(occurring) > 1:
        assert lines[-3].split() == ["micro", "avg", *[f"{(y == predicted).mean():.2f}"] * 3, str(len(y))]


@given(predictions())
def test_averages__bounds_and_renaming(case: tuple[NDArray[np.intp], NDArray[np.intp], int]) -> None:
    y, predicted, n_classes = case
    counts = metrics.per_class(metrics.confusion_matrix(y, predicted, n_classes))
    means = metrics.averages(counts)
    other_names = np.random.default_rng(3).permutation(n_classes)

    for mean in (means.micro, means.macro, means.weighted):
        assert 0 <= mean.precision <= 1 + 1e-12
        assert 0 <= mean.recall <= 1 + 1e-12
        assert 0 <= mean.f1 <= 1 + 1e-12
    assert means.weighted.recall == pytest.approx(means.micro.recall)
    renamed = metrics.per_class(metrics.confusion_matrix(other_names[y], other_names[predicted], n_classes))
    assert np.array_equal(renamed.recall[other_names], counts.recall, equal_nan=True)
    assert np.array_equal(renamed.precision[other_names], counts.precision, equal_nan=True)
    assert metrics.averages(renamed).macro.f1 == pytest.approx(means.macro.f1)


@settings(max_examples=30)
@given(predictions())
def test_averages__perfect_is_one(case: tuple[NDArray[np.intp], NDArray[np.intp], int]) -> None:
    y, _, n_classes = case
    counts = metrics.per_class(metrics.confusion_matrix(y, y, n_classes))
    means = metrics.averages(counts)

    assert metrics.balanced_accuracy(counts) == 1
    for mean in (means.micro, means.macro, means.weighted):
        assert (mean.precision, mean.recall, mean.f1) == pytest.approx((1, 1, 1))


def test_report_text__small_case_whole() -> None:
    confusion = np.array([[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])

    text = metrics.report_text(metrics.per_class(confusion), ["cat", "dog", "a bird", "not here"])

    assert text == (
        "              precision    recall  f1-score   support\n"
        "\n"
        "         cat       1.00      0.67      0.80         3\n"
        "         dog       0.33      1.00      0.50         1\n"
        "      a bird       0.00      0.00      0.00         1\n"
        "\n"
        "    accuracy                           0.60         5\n"
        "   micro avg       0.60      0.60      0.60         5\n"
        "   macro avg       0.44      0.56      0.43         5\n"
        "weighted avg       0.67      0.60      0.58         5\n"
    )

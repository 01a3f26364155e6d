"""Lines for people about classes of unequal size, whole."""

from __future__ import annotations

import numpy as np
import pytest

from headway.data.dataset import TEST, TRAIN, Dataset, Split
from headway.evaluation.evaluation import evaluate
from headway.telling import told_test, told_uneven


def judged(supports: list[int], wrong: int) -> str:
    """The line about a test set of two classes, the first images of each class mistaken."""
    y = np.repeat([0, 1], supports)
    first = np.concatenate([np.arange(n) < wrong for n in supports])
    logits = np.zeros((len(y), 2), np.float32)
    logits[np.arange(len(y)), np.where(first, 1 - y, y)] = 3
    return told_test(evaluate(logits, y, ("cat", "dog"), temperature=1.0, seed=0))


def test_told_test__even_classes_need_no_balanced_accuracy() -> None:
    assert judged([100, 100], 10) == (
        "accuracy 0.900 [0.851, 0.934] on 200 · guessing 0.500 · macro-F1 0.900 · calibrated (T 1.00)"
    )


def test_told_test__uneven_classes_have_means_with_intervals() -> None:
    assert judged([60, 600], 10) == (
        "accuracy 0.970 [0.954, 0.980] on 660 · balanced 0.908 [0.850, 0.945] · guessing 0.909 · "
        "macro-F1 0.908 [0.863, 0.940] · calibrated (T 1.00)"
    )


def test_told_test__says_why_there_is_no_interval() -> None:
    assert judged([10, 100], 2) == (
        "accuracy 0.964 [0.910, 0.986] on 110 · balanced 0.890 · guessing 0.909 · macro-F1 0.890 · "
        "calibrated (T 1.00)\n"
        "An interval of macro-F1 or balanced accuracy would not be honest at this n: cat has 10 test images, "
        "and 30 a class are needed."
    )


@pytest.mark.parametrize(
    ("counts", "balance", "said"),
    [
        ([10, 30], "none", ""),
        ([10, 31], "logit", ""),
        (
            [10, 31],
            "none",
            "classes differ: 10 training images of cat, 31 of dog. "
            "--balance logit makes the best of balanced accuracy instead of accuracy",
        ),
    ],
)
def test_told_uneven__where_classes_differ_by_more_than_three_times(counts: list[int], balance: str, said: str) -> None:
    labels = np.repeat([0, 1], counts).astype(np.int32)
    labels = np.concatenate([labels, np.array([0] * 500, np.int32)])  # of the test: they do not count
    n = len(labels)
    subsets = np.where(np.arange(n) < sum(counts), TRAIN, TEST).astype(np.int8)
    dataset = Dataset("pets", "a folder", [], labels, subsets, None, ("cat", "dog"), None)  # type: ignore[arg-type]

    assert told_uneven(dataset, Split(subsets, (), (), ()), balance) == said

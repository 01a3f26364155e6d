from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from headway.advice.classes import as_json, confusions, weak_classes
from headway.evaluation.evaluation import Evaluation, evaluate


def judged(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Evaluation:
    """The evaluation of images that were called as `confusion` (rows true) has it."""
    y, said = [], []
    for true, row in enumerate(confusion):
        for called, times in enumerate(row):
            y += [true] * times
            said += [called] * times
    return evaluate(np.eye(len(names))[said] * 5, np.array(y), names, temperature=1.0, seed=0)


BLOOD = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
CALLED = [[40, 0, 1, 1], [1, 38, 1, 0], [1, 6, 11, 0], [1, 1, 0, 39]]


def test_weak__is_told_with_interval_and_what_more_would_bring() -> None:
    weak = weak_classes(judged(CALLED, BLOOD), np.array([60, 50, 40, 70]), 0.2)

    assert [own.sentence() for own in weak] == [
        "label more of monocyte: recall 0.61 [0.39, 0.80] on 18 validation images; "
        "twice its 40 would bring about +0.9 points of accuracy"
    ]


def test_weak__of_uneven_classes_balanced_accuracy_counts() -> None:
    weak = weak_classes(judged(CALLED, BLOOD), np.array([60, 50, 15, 70]), 0.2)

    assert [own.sentence() for own in weak] == [
        "label more of monocyte: recall 0.61 [0.39, 0.80] on 18 validation images; "
        "twice its 15 would bring about +1.7 points of balanced accuracy"
    ]


def test_weak__without_a_curve_no_gain_is_promised() -> None:
    weak = weak_classes(judged(CALLED, BLOOD), np.array([60, 50, 40, 70]), None)

    assert [own.sentence() for own in weak] == [
        "label more of monocyte: recall 0.61 [0.39, 0.80] on 18 validation images, from 40 to learn from"
    ]


def test_weak__the_most_to_gain_comes_first() -> None:
    """b has the lower recall, a so many more images that more of it is gained in accuracy."""
    called = [[60, 0, 40], [0, 3, 7], [0, 0, 200]]
    weak = weak_classes(judged(called, "abc"), np.array([100, 90, 110]), 0.2)

    assert [own.name for own in weak] == ["a", "b"]


def test_weak__what_chance_explains_is_not_named() -> None:
    assert weak_classes(judged([[9, 1], [0, 10]], "ab"), np.array([10, 10]), 0.2) == ()


def test_confusions__are_told_with_their_images() -> None:
    called = [[13, 7, 0], [5, 15, 0], [0, 0, 60]]

    assert [pair.sentence() for pair in confusions(judged(called, ("cat", "lynx", "oak")))] == [
        "cat and lynx are taken for each other 12 times in 40 validation images"
    ]


def test_confusions__one_way_is_said() -> None:
    called = [[20, 0, 0], [9, 11, 0], [0, 0, 60]]

    assert [pair.sentence() for pair in confusions(judged(called, ("cat", "lynx", "oak")))] == [
        "lynx is taken for cat 9 times in 40 validation images of the two"
    ]


@pytest.mark.parametrize(
    "called", [[[10, 10], [10, 10]], [[8, 2, 2], [2, 8, 2], [2, 2, 8]], [[10, 2, 0], [0, 10, 0], [0, 0, 10]]]
)
def test_confusions__nothing_of_two_classes_of_an_even_spread_of_two_mistakes(called: list[list[int]]) -> None:
    assert confusions(judged(called, "abc"[: len(called)])) == ()


def test_classes__a_class_without_validation_images_says_nothing() -> None:
    found = judged([[5, 5, 0], [0, 10, 0], [0, 0, 0]], "abc")

    assert [own.name for own in weak_classes(found, np.array([9, 9, 9]), 0.1)] == []


def test_classes__as_json() -> None:
    found = judged([[13, 7, 0], [5, 15, 0], [0, 0, 60]], ("cat", "lynx", "oak"))
    value = as_json(weak_classes(found, np.array([50, 50, 50]), 0.5), confusions(found))

    assert [own["name"] for own in value["classes"]] == ["cat"]
    assert value["confusions"] == [
        {
            "names": ["cat", "lynx"],
            "there": 7,
            "back": 5,
            "n": 40,
            "sentence": "cat and lynx are taken for each other 12 times in 40 validation images",
        }
    ]

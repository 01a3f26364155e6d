"""All findings together: plain JSON, bounded lists, and who is left out of a clean list."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Contents, Dataset, Split
from headway.quality.findings import MOST, Findings, leaked, suspects, told_few
from headway.quality.labels import LabelErrors
from headway.quality.oddities import Oddity
from headway.quality.outliers import Outliers
from headway.quality.shortcuts import Shortcut, Shortcuts
from tests.quality.test_audit import contents, dataset, split


def errors(indices: list[int], labels: list[int], suggested: list[int], last: float = 0.6) -> LabelErrors:
    rows = np.array(indices, np.intp)
    doubt = np.linspace(0.99, last, len(rows))
    given, other = np.array(labels, np.int32), np.array(suggested, np.int32)
    return LabelErrors(8, rows, given, other, doubt, 0.0312345678, (0.01, 0.07), ("a sentence",))


def everything() -> tuple[Dataset, Contents, Split, Findings]:
    data = dataset([0, 0, 1, 1, 0, -1, 1, 0])
    seen = contents([1, 2, 3, 4, 5, 6, 7, 0], {7: "truncated"})
    used = split(
        [TRAIN, VAL, TRAIN, TEST, TEST, UNLABELLED, TRAIN, UNASSIGNED], conflicts=((0, 2),), straddling=((1, 3),)
    )
    shortcut = Shortcut("encoder", 1, "JPEG x", 0.98765, 0.01, 1e-9)
    found = Findings(
        labels=errors([3, 4, 6], [1, 0, 1], [0, 1, 0], 0.2),
        outliers=Outliers(7, np.array([6]), np.array([3.14159], np.float32)),
        shortcuts=Shortcuts(7, ("encoder", "file size"), 2, (shortcut,)),
        oddities=(Oddity(2, "small", "3 x 4 pixels"), Oddity(5, "flat", "grey values spread by 0.0 of 255")),
        imbalance={"ratio": 4.0},
        looked=True,
        left=("nothing",),
    )
    return data, seen, used, found


def test_to_json__all_of_it() -> None:
    data, _, used, found = everything()

    told = found.to_json(data, used)

    assert json.loads(json.dumps(told)) == told
    assert told == {
        "labels": {
            "judged": 8,
            "found": 2,
            "in_doubt": 3,
            "expected": 0.031235,
            "expected_interval": [0.01, 0.07],
            "left_out": ["a sentence"],
            "items": [
                {"name": "3.jpg", "label": "dog", "subset": "test", "suggested": "cat", "probability_wrong": 0.99},
                {"name": "4.jpg", "label": "cat", "subset": "test", "suggested": "dog", "probability_wrong": 0.595},
                {"name": "6.jpg", "label": "dog", "subset": "train", "suggested": "cat", "probability_wrong": 0.2},
            ],
        },
        "outliers": {
            "judged": 7,
            "found": 1,
            "items": [{"name": "6.jpg", "label": "dog", "subset": "train", "times": 3.142}],
        },
        "shortcuts": {
            "images": 7,
            "cues": ["encoder", "file size"],
            "questions": 2,
            "found": [
                {
                    "cue": "encoder",
                    "class": "dog",
                    "value": "JPEG x",
                    "share": 0.9877,
                    "share_of_others": 0.01,
                    "gap": 0.9777,
                    "p_value": 1e-9,
                    "sentence": "encoder alone recognises 99 % of dog (JPEG x) and takes 1 % of the others for it; "
                    "a network may learn that instead of the picture",
                }
            ],
        },
        "oddities": {
            "found": 2,
            "kinds": {"small": 1, "flat": 1},
            "pictures": True,
            "items": [
                {"name": "2.jpg", "label": "dog", "subset": "train", "kind": "small", "text": "3 x 4 pixels"},
                {
                    "name": "5.jpg",
                    "label": None,
                    "subset": "unlabelled",
                    "kind": "flat",
                    "text": "grey values spread by 0.0 of 255",
                },
            ],
        },
        "imbalance": {"ratio": 4.0},
        "left": ["nothing"],
    }


def test_to_json__long_lists_are_bounded_and_counted() -> None:
    data = dataset([0] * (MOST + 7))
    many = list(range(MOST + 7))
    found = Findings(labels=errors(many, [0] * len(many), [1] * len(many)), outliers=None)

    told = found.to_json(data, None)["labels"]

    assert (told["found"], len(told["items"])) == (MOST + 7, MOST)


def test_suspects__each_with_its_first_reason() -> None:
    _, seen, used, found = everything()

    assert suspects(found, seen, used) == {
        7: "damaged",
        0: "same image, two labels",
        2: "same image, two labels",
        1: "leak",  # it validates, and its copy tests
        3: "label",
        4: "label",
        6: "outlier",
        5: "nearly one colour",
    }


def test_suspects__copies_found_by_other_means() -> None:
    class Copies:
        exact: tuple[tuple[int, ...], ...] = ((0, 4),)
        near: tuple[tuple[int, ...], ...] | None = ((1, 6, 3),)

        def to_json(self, data: Dataset, used: Split | None) -> dict[str, Any]:
            return {"leaks": {"exact_count": 1}}

    data, seen, used, _ = everything()
    found = Findings(duplicates=Copies())
    plain = replace(used, conflicts=(), straddling=())

    assert suspects(found, seen, plain) == {7: "damaged", 0: "leak", 1: "leak", 6: "leak"}
    assert found.to_json(data, used)["leaks"] == {"exact_count": 1}


def test_leaked__the_furthest_from_training_stays() -> None:
    used = split([TRAIN, TRAIN, VAL, TEST, UNLABELLED, UNASSIGNED])

    assert leaked((0, 1, 2, 3), used) == [0, 1, 2]
    assert leaked((0, 2), used) == [0]
    assert leaked((0, 1), used) == []
    assert leaked((0, 4, 5), used) == []
    assert leaked((0, 3), None) == []


def test_told_few() -> None:
    text = told_few({"a": 1, "b": 2, "c": 3, "d": 4}, 5)

    assert text == "labels of classes with fewer than 5 images were not judged: a 1, b 2, c 3, ..."

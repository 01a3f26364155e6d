"""The audit: every image counted once, every file set aside named."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Contents, Dataset, Split
from headway.quality import audit as audit_module
from headway.quality.audit import audit, class_counts

KEYS = {
    *("schema", "found", "accepted", "set_aside", "ignored", "notes", "counts", "unlabelled", "brought"),
    *("conflicts", "straddling", "duplicates", "sizes"),
}


class Nothing:
    def read(self, index: int) -> bytes:
        raise AssertionError("the audit reads no image")


def dataset(labels: list[int], given_subsets: list[int] | None = None) -> Dataset:
    n = len(labels)
    return Dataset(
        name="d",
        kind="folders",
        names=[f"{index}.jpg" for index in range(n)],
        labels=np.array(labels, np.int32),
        given=np.array(given_subsets or [UNASSIGNED] * n, np.int8),
        groups=None,
        classes=("cat", "dog"),
        source=Nothing(),
        ignored={".DS_Store": 2},
        notes=("a note",),
    )


def contents(pixels: list[int], reasons: dict[int, str] | None = None) -> Contents:
    n, bad = len(pixels), reasons or {}
    accepted = np.array([index not in bad for index in range(n)], bool)
    shown = np.zeros((n, 32), np.uint8)
    shown[:, 0] = pixels
    shown[~accepted] = 0
    sizes = np.array([[10 * index + 5, 7] for index in range(n)], np.int32).reshape(n, 2)
    sizes[~accepted] = 0
    return Contents(accepted, bad, np.zeros((n, 32), np.uint8), shown, sizes)


def split(subsets: list[int], **more: Any) -> Split:
    return replace(Split(np.array(subsets, np.int8), ("test",)), **more)


def test_audit__all_of_it() -> None:
    data = dataset([0, 0, 1, 1, 0, -1])
    seen = contents([1, 1, 2, 2, 0, 9], {4: "truncated at 61 %"})
    used = split(
        [TRAIN, VAL, TRAIN, TEST, UNASSIGNED, UNLABELLED], conflicts=((0, 2), (3, 5)), straddling=((2, 3), (4, 0))
    )

    assert audit(data, seen, used) == {
        "schema": 1,
        "found": 6,
        "accepted": 5,
        "set_aside": [{"name": "4.jpg", "reason": "truncated at 61 %"}],
        "ignored": {".DS_Store": 2},
        "notes": ["a note"],
        "counts": {"cat": {"train": 1, "val": 1, "test": 0}, "dog": {"train": 1, "val": 0, "test": 1}},
        "unlabelled": 1,
        "brought": ["test"],
        "conflicts": [
            {"names": ["0.jpg", "2.jpg"], "labels": ["cat", "dog"]},
            {"names": ["3.jpg", "5.jpg"], "labels": ["dog", None]},
        ],
        "straddling": [
            {"names": ["2.jpg", "3.jpg"], "subsets": ["train", "test"]},
            {"names": ["4.jpg", "0.jpg"], "subsets": [None, "train"]},
        ],
        "duplicates": 2,
        "sizes": {"width": [5, 25, 55], "height": [7, 7, 7]},
    }


def test_audit__before_there_is_a_split() -> None:
    told = audit(dataset([0, 1, 1], [TRAIN, TEST, TEST]), contents([1, 2, 3], {2: "damaged JPEG"}), None)

    assert told.keys() == KEYS
    assert told["counts"] == {"cat": {"train": 1, "val": 0, "test": 0}, "dog": {"train": 0, "val": 0, "test": 1}}
    assert (told["brought"], told["conflicts"], told["straddling"]) == ([], [], [])


def test_audit__of_nothing_readable() -> None:
    told = audit(dataset([0, 1]), contents([0, 0], {0: "a", 1: "b"}), None)

    assert (told["accepted"], told["duplicates"], told["sizes"]) == (0, 0, {})
    assert [item["name"] for item in told["set_aside"]] == ["0.jpg", "1.jpg"]


@given(
    st.lists(
        st.tuples(st.integers(-1, 1), st.integers(0, 4), st.booleans(), st.sampled_from([TRAIN, VAL, TEST])),
        max_size=30,
    )
)
def test_audit__adds_up(samples: list[tuple[int, int, bool, int]]) -> None:
    labels, pixels = [one[0] for one in samples], [one[1] for one in samples]
    reasons = {index: "damaged" for index, one in enumerate(samples) if not one[2]}
    subsets = [UNASSIGNED if not good else (UNLABELLED if label < 0 else subset) for label, _, good, subset in samples]

    told = audit(dataset(labels), contents(pixels, reasons), split(subsets))

    assert json.loads(json.dumps(told)) == told
    assert told["accepted"] + len(told["set_aside"]) == told["found"] == len(samples)
    counted = sum(sum(row.values()) for row in told["counts"].values())
    labelled_and_good = sum(good and label >= 0 for label, _, good, _ in samples)
    assert counted == labelled_and_good
    shown = Counter(pixel for _, pixel, good, _ in samples if good)
    assert told["duplicates"] == sum(count > 1 for count in shown.values())


def test_audit__long_lists_are_bounded() -> None:
    groups = tuple((0, 1) for _ in range(audit_module._MOST + 5))

    told = audit(dataset([0, 1]), contents([1, 1]), split([TRAIN, TEST], conflicts=groups, straddling=groups))

    assert (len(told["conflicts"]), len(told["straddling"])) == (1000, 1000)


def test_duplicates__pixels_that_end_in_zeros_are_told_apart() -> None:
    seen = contents([1, 1, 1, 1])
    seen.pixels[1, 31] = 1
    seen.pixels[2, 1] = 1

    assert audit(dataset([0, 0, 1, 1]), seen, None)["duplicates"] == 1


def test_counts__names_every_class() -> None:
    data = dataset([0, 0])

    assert class_counts(data, np.array([VAL, UNLABELLED], np.int8)) == {
        "cat": {"train": 0, "val": 1, "test": 0},
        "dog": {"train": 0, "val": 0, "test": 0},
    }

"""Leaks: which test images were trained on, and what that does to the accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.dataset import TEST, TRAIN, UNLABELLED, VAL
from headway.evaluation.intervals import wilson
from headway.quality.duplicates import Duplicates
from headway.quality.leaks import accuracy_without, leaked_images

SUBSETS = np.array([TRAIN, TEST, VAL, TEST, TEST, UNLABELLED, TEST, TEST], np.int8)


def test_leaked__test_images_of_groups_that_cross() -> None:
    found = Duplicates(((0, 1), (3, 4)), (True, True), ((2, 3, 4), (5, 6)))

    assert np.flatnonzero(leaked_images(found, SUBSETS)).tolist() == [1, 3, 4]
    assert np.flatnonzero(leaked_images(found, SUBSETS, VAL)).tolist() == [2]


def test_leaked__where_nobody_looked_for_near_ones() -> None:
    assert np.flatnonzero(leaked_images(Duplicates(((0, 1),), (True,)), SUBSETS)).tolist() == [1]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_accuracy__as_counting(images: list[tuple[bool, bool]]) -> None:
    right, leaked = (np.array(column, bool) for column in zip(*images, strict=True))

    told = accuracy_without(right, leaked).to_json()

    clean = [one for one, other in images if not other]
    assert told["with"]["accuracy"] == pytest.approx(sum(one for one, _ in images) / len(images))
    assert (told["with"]["n"], told["without"]["n"]) == (len(images), len(clean))
    assert told["leaked"]["n"] == len(images) - len(clean)
    if clean:
        share = sum(clean) / len(clean)
        assert told["without"]["accuracy"] == pytest.approx(share)
        assert told["without"]["interval"] == pytest.approx(list(wilson(share, len(clean))))
    else:
        assert told["without"] == {"accuracy": None, "interval": None, "n": 0}

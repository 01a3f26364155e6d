"""Odd sizes, shapes and nearly constant pictures; classes of uneven size."""

from __future__ import annotations

import numpy as np

from headway.quality.oddities import find_oddities, imbalance


def test_find_oddities__each_kind() -> None:
    sizes = np.array([[400, 300]] * 20, np.int32)
    sizes[3], sizes[4], sizes[7] = (60, 50), (3000, 2000), (1300, 100)
    spreads = np.full(20, 50.0)
    spreads[9] = 1.25
    spreads[10] = np.nan

    found = find_oddities(sizes, np.arange(20), spreads, np.arange(20))

    assert [(one.index, one.kind, one.text) for one in found] == [
        (3, "small", "60 x 50 pixels"),
        (4, "large", "3,000 x 2,000 pixels"),
        (7, "long", "1,300 x 100 pixels"),
        (9, "flat", "grey values spread by 1.2 of 255"),
    ]


def test_find_oddities__small_images_among_small_ones_are_usual() -> None:
    assert find_oddities(np.full((50, 2), 32, np.int32), np.arange(50), None) == ()
    assert find_oddities(np.tile([2000, 500], (50, 1)).astype(np.int32), np.arange(50), None) == ()
    assert find_oddities(np.zeros((3, 2), np.int32), np.arange(0), None) == ()


def test_imbalance__from_three_times_on() -> None:
    classes = ("a", "b", "c", "none")

    assert imbalance(np.array([30, 10, 20, 0]), classes) is None
    assert imbalance(np.array([31, 10, 20, 0]), classes) == {
        "largest": {"class": "a", "images": 31},
        "smallest": {"class": "b", "images": 10},
        "ratio": 3.1,
    }
    assert imbalance(np.array([5, 0, 0, 0]), classes) is None

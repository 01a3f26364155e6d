"""Folds: every class spread evenly, what belongs together on one side, whatever the order."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.quality.folds import deal

SAMPLES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60)


@given(SAMPLES, st.integers(2, 5), st.randoms())
def test_deal__keeps_units_together_and_spreads_classes(
    samples: list[tuple[int, int]], folds: int, random: object
) -> None:
    units = np.array([unit for _, unit in samples])
    labels = np.array([unit % 3 for unit in units])  # a class of its own for each unit
    ranks = np.random.default_rng(len(samples)).permutation(len(samples))

    fold = deal(labels, units, ranks, folds)

    for unit in np.unique(units):
        assert len(np.unique(fold[units == unit])) == 1
    for label in np.unique(labels):
        each = Counter(int(fold[units == unit][0]) for unit in np.unique(units[labels == label]))
        sizes = [each.get(number, 0) for number in range(folds)]
        assert max(sizes) - min(sizes) <= 1


def test_deal__the_order_of_the_samples_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    labels, units, ranks = rng.integers(0, 4, 200), rng.integers(0, 150, 200), rng.permutation(200)
    order = rng.permutation(200)

    assert np.array_equal(deal(labels, units, ranks)[order], deal(labels[order], units[order], ranks[order]))


def test_deal__nothing() -> None:
    none = np.empty(0, np.int64)

    assert deal(none, none, none).shape == (0,)

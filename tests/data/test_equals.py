"""Equal digests and shared numbers, against a dictionary that does the same one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.data.equals import numbered, shared

few = st.lists(st.integers(0, 6), max_size=30)


@given(few)
def test_shared__places_of_each_number_that_repeats(numbers: list[int]) -> None:
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    expected = [places[number] for number in sorted(places) if len(places[number]) > 1]
    assert [group.tolist() for group in shared(np.array(numbers, np.int64))] == expected


@given(few)
def test_numbered__equal_for_equal_digests_alone(numbers: list[int]) -> None:
    digests = np.zeros((len(numbers), 32), np.uint8)
    digests[:, 31] = numbers  # zeros at the end of a digest count
    digests[:, 0] = [number % 2 for number in numbers]
    found = numbered(digests).tolist()
    assert set(found) == set(range(len(set(numbers))))
    assert len(set(zip(found, numbers, strict=True))) == len(set(numbers))

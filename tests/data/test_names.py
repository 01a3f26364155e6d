"""Names in little memory are the names that went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.names import Joined, Names

# Any text, lone surrogates too: file names that are not UTF-8 have them.
texts = st.lists(st.text(st.characters(codec=None, categories=None), max_size=12), max_size=20)


@given(texts)
def test_names__come_back_as_they_were(names: list[str]) -> None:
    compact = Names.of(names)
    assert list(compact) == names
    assert [compact[i] for i in range(len(compact))] == names
    assert [compact[i - len(names)] for i in range(len(names))] == names
    assert compact[1:3] == names[1:3]


@given(st.lists(st.one_of(texts, st.integers(0, 5)), max_size=5))
def test_joined__every_part_in_its_order(parts: list[list[str] | int]) -> None:
    given_parts = [(f"p{i}", part if isinstance(part, int) else Names.of(part)) for i, part in enumerate(parts)]
    expected = [
        f"p{i}/{name}"
        for i, part in enumerate(parts)
        for name in (map(str, range(part)) if isinstance(part, int) else part)
    ]
    assert list(Joined(given_parts)) == expected


def test_names__more_than_are_decoded_at_one_time() -> None:
    names = [f"é{i}" for i in range(9000)]
    assert list(Names.of(names)) == names


def test_names__a_place_beyond_the_end() -> None:
    with pytest.raises(IndexError, match="name 2 of 2"):
        Names.of(["a", "b"])[2]

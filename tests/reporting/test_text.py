"""Text and numbers as the report shows them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.reporting import text

ANY = st.text(st.characters(exclude_categories=[]))  # lone surrogates too


@given(ANY)
def test_shown__any_text_can_be_written_and_hides_nothing(value: str) -> None:
    result = text.shown(value)
    assert result.encode("utf-8").decode("utf-8") == result
    assert all(unicodedata.category(character) not in ("Cc", "Cs") for character in result)
    assert not any(character in result for character in "\u202e\u2066\u200f\u2028\ufeff\uffff")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\u061c")))
def test_shown__ordinary_text_stays(value: str) -> None:
    assert text.shown(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("caf\udcc3\udca9.jpg", "caf\\xc3\\xa9.jpg"),
        ("a\nb\tc\x00d", "a\\nb\\tc\\x00d"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\ud800", "\\ud800"),
        ("mačka 🐈 حيوان", "mačka 🐈 حيوان"),
    ],
)
def test_shown__known(value: str, expected: str) -> None:
    assert text.shown(value) == expected


@given(ANY, st.integers(5, 60))
def test_shortened__never_wider_and_unchanged_where_it_fits(value: str, width: int) -> None:
    result = text.shortened(value, width)
    wide = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in result)
    assert wide <= width
    if len(text.shown(value)) * 2 <= width:
        assert result == text.shown(value)


def test_shortened__keeps_both_ends() -> None:
    result = text.shortened("a" * 200 + "0017.jpg", 20)
    assert result.startswith("aaaaaaaaaaaa")
    assert result.endswith("…017.jpg")
    assert len(result) == 20


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.42, "0.42 s"), (9.84, "9.8 s"), (59.97, "1 min 0 s"), (725, "12 min 5 s"), (11220, "3 h 7 min"), (None, "–")],
)
def test_seconds__known(value: float | None, expected: str) -> None:
    assert text.seconds(value) == expected


def test_numbers__missing_and_odd_values() -> None:
    assert text.number(None) == text.number(float("nan")) == text.number(True) == text.number("0.5") == "–"
    assert text.number(-0.5) == "−0.500"
    assert text.number(-1e-9) == "0.000"
    assert text.interval([0.9664, 0.9949]) == "[0.966, 0.995]"
    assert text.interval(None) == text.interval([0.1]) == text.interval([0.1, None]) == ""
    assert text.count(45000) == "45,000"
    assert text.rounded(385_000_000) == "385 M"
    assert text.day("2026-11-23T12:00:00Z") == "23 November 2026"
    assert text.day("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test/cats/cat.1.jpg", ("test/cats/", "cat.1.jpg")),
        ("cat.1.jpg", ("", "cat.1.jpg")),
        ("/", ("/", "")),
        ("long/" * 20 + "cat.jpg", ("long/long/long/long/long/l…/long/", "cat.jpg")),
    ],
)
def test_parted__between_the_folder_and_the_name(name: str, expected: tuple[str, str]) -> None:
    assert text.parted(name, 40) == expected
    assert "".join(expected) == text.shortened(name, 40)

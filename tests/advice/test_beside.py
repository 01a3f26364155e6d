"""What a run costs beside looking and training: by hand, and against the numbers that the run itself goes by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import auditing, mapping, results
from headway.advice import beside
from headway.advice.cost import Speeds, Work
from headway.repeating import REPEATS
from headway.training.folds import FEW_VAL, FOLDS, MOST_ROWS
from headway.training.path import _SMALL
from tests.advice.test_cost import HALF_AS_FAST, SPEEDS, WORK

Term = Callable[[Work, Speeds], float]
TERMS: dict[str, Term] = {
    "solving, last": lambda work, speeds: beside.solving(work, speeds, all_taps=False),
    "solving, all": lambda work, speeds: beside.solving(work, speeds, all_taps=True),
    "evidence": beside.evidence,
    "repeating": beside.repeating,
    "auditing": beside.auditing,
    "mapping": beside.mapping,
    "explaining": beside.explaining,
    "picturing": beside.picturing,
}


def test_one_pass__by_hand() -> None:
    work = replace(WORK, classes=20)

    # 500 x 100 features with 20 classes, forward and back, half as much again; 20 x 101 parameters.
    products = 1.5 * 2 * 500 * 100 * 20 / 1e9 * 0.01
    assert beside.one_pass(500, 100, work, SPEEDS) == pytest.approx(6e-4 + 20 * 101 * 3e-8 + products)


def test_solving__parts_are_held_out_where_few_images_validate() -> None:
    few, enough = (replace(WORK, val=val) for val in (FEW_VAL - 1, FEW_VAL))
    many = replace(WORK, train=MOST_ROWS + 1, val=FEW_VAL - 1)
    products = replace(SPEEDS, product=0.0)
    cheap, dear, too_many = (beside.solving(work, products, all_taps=False) for work in (enough, few, many))
    passes = 95 * beside.one_pass(0, WORK.taps[0], WORK, products)

    assert dear - cheap == pytest.approx(FOLDS * 0.5 * passes, rel=1e-3)
    assert too_many == pytest.approx(cheap, rel=1e-3)


def test_solving__no_second_search_where_there_is_one_tap() -> None:
    work = replace(WORK, taps=(10, 10))
    once, both = (beside.solving(work, SPEEDS, all_taps=all_taps) for all_taps in (False, True))

    assert once == both


def test_repeating__other_splits_only_where_they_are_tried() -> None:
    assert beside.repeating(WORK, SPEEDS) == 0
    one, ten = (beside.repeating(replace(WORK, repeats=n), SPEEDS) for n in (1, REPEATS))
    assert ten == pytest.approx(REPEATS * one)


@given(st.sampled_from(sorted(TERMS)), st.integers(2, 3_000), st.integers(1, 3_000))
def test_term__more_images_never_cost_less(name: str, n: int, more: int) -> None:
    # A subset may take itself out of a rule for small data, and a curve its dearest level: these are told above.
    fewer, bigger = (
        replace(WORK, train=number, val=500, test=number, taps=(4, 8), repeats=1) for number in (n, n + more)
    )

    assert TERMS[name](bigger, SPEEDS) >= 0.9 * TERMS[name](fewer, SPEEDS)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_term__a_machine_half_as_fast_takes_twice_as_long(name: str) -> None:
    work = replace(WORK, repeats=REPEATS)

    assert TERMS[name](work, HALF_AS_FAST) == pytest.approx(2 * TERMS[name](work, SPEEDS))


def test_numbers__are_those_that_a_run_goes_by() -> None:
    assert auditing.BESIDE.judged == beside._AUDITED
    assert auditing.BESIDE.folds == beside._AUDIT_FOLDS
    assert mapping.MOST == beside._MAPPED
    assert mapping._PICTURES == beside._PICTURED
    assert results.MOST_MISTAKES == beside._MISTAKES
    assert _SMALL == beside._LARGE

"""What a budget decides, from tables of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.advice.plan import (
    CAUTION,
    Quote,
    decide,
    ends,
    fewest_errors,
    keeps,
    pays,
    told_more,
    told_plan,
    told_seconds,
    told_took,
    told_tried,
)
from headway.evaluation.compare import PairedTest, paired_test

LAST = Quote("last", before=20.0, epoch=10.0, after=15.0, memory=1_000_000_000)


@pytest.mark.parametrize(
    ("left", "epochs", "why"),
    [
        (500, 5, "about 1 min 25 s for 5 epochs; 8 min 20 s were left"),
        (100, 4, "about 1 min 15 s for 4 epochs of 5; 1 min 40 s were left"),
        (63, 1, "about 45 s for 1 epoch of 5; 1 min 03 s were left"),
        (59, 0, "the last stage would take up to 1 min 00 s with one epoch and the report, and 59 s were left"),
        (-3, 0, "the last stage would take up to 1 min 00 s with one epoch and the report, and 0.0 s were left"),
    ],
)
def test_decide__as_many_epochs_as_end_in_time(left: float, epochs: int, why: str) -> None:
    decision = decide(LAST, left, finish=5.0, most=5)

    assert (decision.epochs, decision.why) == (epochs, why)


@given(st.floats(0, 1e4), st.floats(0.1, 1e3), st.floats(0, 1e3), st.floats(0, 100), st.integers(1, 50))
def test_decide__what_is_begun_fits_with_caution(
    left: float, epoch: float, before: float, finish: float, most: int
) -> None:
    quote = Quote("full", before, epoch, before / 2)
    epochs = decide(quote, left, finish, most).epochs

    assert 0 <= epochs <= most
    assert not epochs or CAUTION * (quote.seconds(epochs) + finish) <= left * (1 + 1e-9)


def test_decide__a_road_that_memory_does_not_hold() -> None:
    decision = decide(LAST, 1e6, 5.0, 5, memory=800_000_000)

    assert decision.epochs == 0
    assert decision.why == "the last stage would need about 1.0 GB of memory, and there are 0.8 GB"


def test_pays__from_as_many_mistakes_as_a_paired_test_can_show() -> None:
    """The test itself says so: one classifier right everywhere, the other wrong on so many."""
    shown = [
        errors for errors in range(1, 12) if paired_test(np.ones(300, bool), np.arange(300) >= errors).better == "a"
    ]

    assert shown[0] == fewest_errors() == 6
    assert pays(6, 300) == ""
    assert pays(3, 300) == (
        "the probe makes 3 mistakes on 300 validation images, and from fewer than 6 no paired test could show a gain"
    )
    assert pays(0, 1_200, "last").startswith("the last stage makes no mistake on 1,200 validation images")
    assert pays(1, 9).startswith("the probe makes 1 mistake on 9 ")


def test_ends__leave_time_for_what_must_follow() -> None:
    last_step, last_moment = ends(120.0, LAST, finish=5.0)

    assert last_step == 120 - CAUTION * 20
    assert ends(120.0, replace(LAST, judging=3.0), finish=5.0)[0] == 120 - CAUTION * 23
    assert last_moment == 120 - CAUTION * 5


def _test(measure: str, difference: float, shown: bool) -> PairedTest:
    half = abs(difference) / 2 if shown else abs(difference) + 1
    interval = (difference - half, difference + half)
    return PairedTest(measure, 300, 0.5, 0.5 - difference, difference, interval, 0.01 if shown else 0.5)


@pytest.mark.parametrize(
    ("loss", "loss_shown", "accuracy", "accuracy_shown", "kept"),
    [
        (-0.1, True, 0.02, True, True),
        (-0.1, True, 0.0, False, True),
        (-0.1, False, 0.02, False, False),  # nothing is shown: the cheaper one stays
        (-0.1, True, -0.05, True, False),  # surer of itself, and more often wrong
        (0.1, True, 0.0, False, False),
    ],
)
def test_keeps__only_where_a_lower_loss_is_shown(
    loss: float, loss_shown: bool, accuracy: float, accuracy_shown: bool, kept: bool
) -> None:
    assert keeps(_test("log-loss", loss, loss_shown), _test("accuracy", accuracy, accuracy_shown)) is kept


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3_900, "1 h 05 min")]
)
def test_told_seconds__as_a_person_says_it(seconds: float, text: str) -> None:
    assert told_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "budget", "text"),
    [
        ({"probe": 20, "last": 60, "full": 90}, None, "headway fit trains the probe; --budget TIME goes on to what"),
        ({"scratch": 90}, 100, "headway fit trains from scratch: this network has no weights"),
        ({"probe": 20, "last": 60, "full": 90}, 70, "within 1 min 10 s the probe, then the last stage where"),
        ({"probe": 20, "last": 60, "full": 90}, 30, "within 30 s the probe, and nothing after it"),
        ({"probe": 20, "last": 60, "full": 90}, 10, "the probe alone would take longer than 10 s; it is done all the"),
    ],
)
def test_told_plan__what_fits(seconds: dict[str, Any], budget: float | None, text: str) -> None:
    assert told_plan(seconds, budget).startswith(text)


def test_told_more__what_it_would_cost_and_the_most_to_win() -> None:
    quotes = {"last": LAST, "full": Quote("full", 5.0, 30.0, 15.0)}

    assert told_more(quotes, {"last": 5, "full": 2}, 5.0, (12, 300)) == (
        "the last stage about 1 min 30 s, all of the network about 1 min 25 s here, for at most 4.0 points "
        "(12 mistakes on 300 validation images). --budget TIME tries what fits"
    )


def test_told_lines__what_was_tried_and_what_it_took() -> None:
    probe = {"road": "probe", "accuracy": 0.94, "log_loss": 0.2, "n": 300, "epochs": None, "seconds": 21.0}
    last = {
        "road": "last",
        "accuracy": 0.96,
        "log_loss": 0.1,
        "n": 300,
        "epochs": 4,
        "seconds": 70.0,
        "predicted": 64.0,
    }
    lost = {"road": "full", "seconds": 9.0, "predicted": 80.0, "given_up": "all of the network was given up: no"}

    assert told_tried([probe], "probe") == (
        "the probe accuracy 0.940, log-loss 0.200 on 300 validation images. The probe is kept"
    )
    assert told_tried([probe, {**last, "why": "the last stage is kept: it is better"}, lost], "last") == (
        "the probe accuracy 0.940, log-loss 0.200 on 300 validation images; the last stage (4 epochs) accuracy 0.960, "
        "log-loss 0.100; all of the network was given up. The last stage is kept: it is better"
    )
    assert told_took([probe, last], 95.0, 120.0) == (
        "the probe 21 s; the last stage 1 min 10 s, 1 min 04 s predicted; measuring and choosing 4.0 s. 1 min 35 s of "
        "2 min 00 s when the choice was made"
    )
    assert told_took([probe], 21.2, 120.0) == "the probe 21 s. 21 s of 2 min 00 s when the choice was made"

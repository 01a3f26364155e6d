"""The arithmetic of costs: what grows with what, and against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.advice.beside import REFERENCE
from headway.advice.cost import FIXED, Cost, Regime, Speeds, Work, finishing, predict, quoted

WORK = Work(
    train=1_000, val=100, test=200, unlabelled=0, classes=2, known=0, read=0, taps=(10, 40), side=32, weights=8_000_000
)
SPEEDS = Speeds(
    reference=REFERENCE,
    start=1.0,
    library=2.0,
    build=3.0,
    graph=4.0,
    lookup=0.0,
    decode=0.001,
    engine=0.004,
    torch=0.02,
    product=0.01,
    disk=1.0,
    train={"last": (0.02, 0.003, 0.001), "full": (0.0, 0.03, 0.01), "scratch": (0.0, 0.04, 0.01)},
    memory={"probe": 500, "last": 900, "full": 1_000, "scratch": 1_500},
    activation=1_000,
)
HALF_AS_FAST = replace(
    SPEEDS,
    reference=2 * REFERENCE,
    disk=2 * SPEEDS.disk,
    engine=2 * SPEEDS.engine,
    decode=2 * SPEEDS.decode,
    product=2 * SPEEDS.product,
)
REGIME = Regime(epochs=5, batch=32, changing=False)


def of(road: str, work: Work = WORK, speeds: Speeds = SPEEDS, regime: Regime = REGIME) -> Cost:
    return predict(road, work, speeds, None if road == "probe" else regime)


def test_predict__the_pass_is_decoding_and_engine_of_what_is_new() -> None:
    cold, half, warm = (of("probe", replace(WORK, known=known)).phases["features"] for known in (0, 650, 1_300))

    # An image that is new takes decoding and engine, one that is not a look: the same for each.
    assert cold == pytest.approx(FIXED["open"] + 1_300 * 0.005)
    assert half - warm == pytest.approx((cold - warm) / 2)
    assert 0 < warm - FIXED["open"] < 0.1


def test_quoted__the_last_stage_by_hand() -> None:
    quote = quoted("last", WORK, SPEEDS, REGIME)
    images, front, written = 1_100 * 0.001, 1_100 * 0.02, 2 * 1_100 * 1_000 / 1e9
    saved = 2 * 8_000_000 / 1e9

    assert quote.epoch == pytest.approx(1_000 * 0.003 + 100 * 0.001 + saved)
    assert quote.before == pytest.approx(FIXED["stages"] + images + front + written + 100 * 0.001 + saved)
    assert quote.after == pytest.approx(4.0 + 1_300 * 0.005)


def test_quoted__changing_images_are_decoded_in_every_epoch() -> None:
    still, changing = (quoted("full", WORK, SPEEDS, replace(REGIME, changing=changing)) for changing in (False, True))

    assert changing.epoch - still.epoch == pytest.approx(1_000 * 0.001)
    assert still.before - changing.before == pytest.approx(1_000 * 0.001)  # held in memory once


@given(st.integers(1, 50), st.sampled_from(["last", "full", "scratch"]))
def test_predict__each_epoch_costs_the_same(epochs: int, road: str) -> None:
    quote = quoted(road, WORK, SPEEDS, REGIME)
    more = (
        of(road, regime=replace(REGIME, epochs=epochs + 1)).seconds - of(road, regime=Regime(epochs, 32, False)).seconds
    )

    assert more == pytest.approx(quote.epoch)


def test_predict__a_machine_half_as_fast_takes_twice_as_long_to_finish() -> None:
    once, twice = (sum(finishing(WORK, speeds).values()) for speeds in (SPEEDS, HALF_AS_FAST))

    assert twice == pytest.approx(2 * once)


def test_predict__memory_and_disk_by_hand() -> None:
    probe, last = of("probe"), of("last")

    assert probe.memory == 500 + 1_100 * 40 * 4
    assert last.memory == 900 + 1_100 * 32 * 32 * 3
    assert probe.disk == 1_300 * (40 * 4 + 120) + 2 * 8_000_000
    assert last.disk == probe.disk + 2 * 8_000_000 + 4 * 8_000_000 + 1_100 * 1_000


def test_predict__roads_from_cheap_to_dear() -> None:
    seconds = [of(road).seconds for road in ("probe", "last", "full", "scratch")]

    assert seconds == sorted(seconds)

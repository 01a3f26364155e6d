"""A full server hears of several requests at once, and nothing else waits for that."""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headway.serving.bursts import Bursts, loop_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="loops of Windows have no selector")


class Pause:
    """A pause that can be told, and how often it was asked for."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self) -> float:
        self.asked += 1
        return self.seconds


@contextmanager
def watched(pause: Pause) -> Iterator[tuple[Bursts, socket.socket]]:
    """A selector that watches one end of a connection, and the other end."""
    ours, theirs = socket.socketpair()
    with Bursts(pause) as selector, ours, theirs:
        selector.register(ours, selectors.EVENT_READ)
        yield selector, theirs


def test_pause__comes_before_the_look() -> None:
    with watched(Pause(0.05)) as (selector, theirs):
        theirs.send(b"x")
        start = time.monotonic()
        ready = selector.select()

    assert len(ready) == 1
    assert time.monotonic() - start >= 0.05


@pytest.mark.parametrize("timeout", [0, -1])
def test_pause__is_left_out_where_the_loop_has_work(timeout: float) -> None:
    pause = Pause(60.0)
    with watched(pause) as (selector, theirs):
        theirs.send(b"x")
        assert len(selector.select(timeout)) == 1
        assert pause.asked == 0


def test_pause__is_no_longer_than_the_loop_would_wait() -> None:
    with watched(Pause(60.0)) as (selector, _):
        assert selector.select(0.01) == []


def test_no_pause__waits_for_events_as_ever() -> None:
    with watched(Pause(0.0)) as (selector, theirs):
        assert selector.select(0.01) == []
        theirs.send(b"x")
        assert len(selector.select()) == 1


def test_loop__hears_of_what_came_meanwhile_in_one_look() -> None:
    pause = Pause(0.0)
    make = loop_for(pause)
    assert make is not None

    async def talk() -> tuple[int, int]:
        ends = [socket.socketpair() for _ in range(20)]
        heard: list[int] = []
        everything = asyncio.Event()

        def hear(number: int) -> None:
            heard.append(ends[number][0].recv(1)[0])
            if len(heard) == len(ends):
                everything.set()

        for number, (ours, _) in enumerate(ends):
            asyncio.get_running_loop().add_reader(ours, hear, number)
        pause.seconds = 0.02
        before = pause.asked
        # From a thread, so that each comes alone.
        await asyncio.to_thread(lambda: [theirs.send(bytes([number])) for number, (_, theirs) in enumerate(ends)])
        await everything.wait()
        for ours, theirs in ends:
            asyncio.get_running_loop().remove_reader(ours)
            ours.close()
            theirs.close()
        return pause.asked - before, len(heard)

    with asyncio.Runner(loop_factory=make) as runner:
        looks, heard = runner.run(talk())
    assert heard == 20
    assert looks < 20

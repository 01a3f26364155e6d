"""`headway serve` with slow clients: how long it lets them hold a socket, and what a good client feels of it.

python -m benchmarks.serve_slow DATA [--bundle BUNDLE] [--sockets 200] [--rounds 3]

Server and clients have a core each. In each round the good client (one request after another) runs 15 s alone, then
15 s beside the slow ones (`slow_sockets`: headers and bodies bit by bit, silence, half-closed, never reading). Bars:
every slow socket closed by the server within 15 s; the good client's p99 at most twice what it was alone, in the median
of the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from pathlib import Path

from benchmarks.racing import arguments
from benchmarks.served import Bar, bundle_of, in_ms, own_core, serving, share, some_images, tell_bars
from benchmarks.slow_sockets import Held, slow_clients
from benchmarks.traffic import Answer, closed_loop, request

SECONDS = 15.0
CLOSED_BAR, SLOWER_BAR = 15.0, 2.0
BEAT = 1.0  # seconds between the bytes of a slow client
PATIENCE = 40.0


def main() -> None:
    """Run the rounds and print which bars held."""
    parser = arguments(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--sockets", type=int, default=200)
    asked = parser.parse_args()
    with bundle_of(asked.data, asked.bundle) as bundle, own_core() as core:
        bodies = [request("/predict", content) for content in some_images(asked.data, 64)]
        with serving(bundle, core) as server:
            bars, facts = asyncio.run(rounds(server.port, bodies, asked.sockets, asked.rounds))
    tell_bars("serve_slow", bars, sockets=asked.sockets, **facts)


async def rounds(port: int, bodies: list[bytes], sockets: int, n: int) -> tuple[list[Bar], dict[str, object]]:
    """Alone and beside the slow ones, in turn."""
    alone, beside, held = [], [], []
    await good_client(port, bodies, 2.0)  # warm
    for number in range(n):
        alone.append(await good_client(port, bodies, SECONDS))
        slow = asyncio.create_task(slow_clients(port, sockets, BEAT, PATIENCE))
        beside.append(await good_client(port, bodies, SECONDS))
        held += await slow
        told = f"alone {in_ms(times(alone[-1]))}; beside {sockets} slow ones {in_ms(times(beside[-1]))}"
        print(f"round {number + 1}: {told}", flush=True)
    for line in by_kind(held):
        print(line)
    ratios = [share(times(b), 0.99) / share(times(a), 0.99) for a, b in zip(alone, beside, strict=True)]
    ratio = statistics.median(ratios)
    longest = max(one.seconds if one.seconds is not None else float("inf") for one in held)
    failed = sum(answer.status != 200 for answers in (*alone, *beside) for answer in answers)
    bars = [
        Bar("slow sockets: the last one closed after", f"{longest:.1f} s", f"{CLOSED_BAR:g} s", longest <= CLOSED_BAR),
        Bar("good client's p99, beside over alone", f"{ratio:.2f}", f"{SLOWER_BAR:g}", ratio <= SLOWER_BAR),
        Bar("good client: not answered", str(failed), "0", not failed),
    ]
    return bars, {"ratios": [round(value, 3) for value in ratios]}


async def good_client(port: int, bodies: list[bytes], seconds: float) -> list[Answer]:
    """One that sends when it was answered."""
    return await closed_loop(port, lambda number: bodies[number % len(bodies)], 1, seconds=seconds)


def times(answers: list[Answer]) -> list[float]:
    """Seconds of those that were answered."""
    return [answer.seconds for answer in answers if answer.status == 200]


def by_kind(held: list[Held]) -> list[str]:
    """A line for each kind: how many, and when they were closed."""
    kinds: defaultdict[str, list[Held]] = defaultdict(list)
    for one in held:
        kinds[one.kind].append(one)
    lines = []
    for kind, all_of_it in kinds.items():
        closed = [one.seconds for one in all_of_it if one.seconds is not None]
        when = f"closed after {min(closed):.1f} to {max(closed):.1f} s" if closed else "not closed"
        left = f", {len(all_of_it) - len(closed)} NOT closed in {PATIENCE:g} s" if len(closed) < len(all_of_it) else ""
        answer = all_of_it[0].said.split(b"\r\n", 1)[0].decode("latin-1") or "no answer"
        lines.append(f"  {kind:<26} {len(all_of_it)}: {when}{left} ({answer})")
    return lines


if __name__ == "__main__":
    main()

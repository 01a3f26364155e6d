"""`headway serve` under load, server and client on a core each: latency, capacity, overload, answers that are mixed up.

python -m benchmarks.serve_load DATA [--bundle BUNDLE] [--seconds 60] [--requests 20000] [--images 256] [--rounds 3]

Without a bundle one is made of DATA first, untimed. What is measured, in order:
  start       whole process to its first answer; bar 1 s
  service     seconds of one request, one client that waits for each answer
  direct      images/s of the predictor called directly on the same images on the same core (`serve_direct`),
              in turn with
  capacity    answers/s of 32 clients that wait for each answer; bar: 0.80 of direct, median of the rounds' ratios
  half load   Poisson arrivals at half of the capacity for --seconds; bar: p99 at most 5 times the service time
  overload    Poisson arrivals at 5 times the capacity, 20 s; bars: 0.9 of the capacity answered, refusals within 100 ms
  mix-ups     64 clients, --requests requests (bodies, forms, JSON) with known answers; bar: none wrong
  memory      of the server from before half load to the end; bar: at most 2 % or 8 MB more
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.racing import arguments
from benchmarks.served import Bar, Served, bundle_of, in_ms, on_core, own_core, serving, share, some_images, tell_bars
from benchmarks.traffic import Answer, Requests, as_form, as_json, closed_loop, open_loop, request

CLIENTS, MANY = 32, 64
MEASURED = 8.0  # seconds of each closed loop and of each direct one
OVERLOAD = 20.0
FEW = 200  # requests for the service time
MB = 8.0  # by which the memory of any process may wander
P99_BAR, DIRECT_BAR, GOODPUT_BAR, REFUSAL_BAR, START_BAR, MEMORY_BAR = 5.0, 0.80, 0.90, 0.100, 1.0, 1.02

Known = tuple[str, str, float]  # digest, label, probability


def main() -> None:
    """Run all of it and print which bars held."""
    parser = arguments(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the load at half of the capacity")
    parser.add_argument("--requests", type=int, default=20_000, help="with known answers")
    parser.add_argument("--images", type=int, default=256, help="different ones")
    asked = parser.parse_args()
    with bundle_of(asked.data, asked.bundle) as bundle, own_core() as core:
        images = some_images(asked.data, asked.images)
        bodies = [request("/predict", content) for content in images]
        starts = started(bundle, core, asked.rounds)
        with serving(bundle, core) as server:
            told = asyncio.run(under_load(server, bodies, Direct(asked.data, bundle, core, len(images)), asked))
            bars, facts = told
            known = facts.pop("known")
            bars.append(asyncio.run(mix_ups(server, images, known, asked.requests)))
            bars.append(memory(facts["memory at start"], server))
            facts["descriptors at the end"] = server.descriptors
    bars.insert(0, Bar("start to first answer", f"{starts:.2f} s", f"{START_BAR:g} s", starts <= START_BAR))
    tell_bars("serve_load", bars, images=len(images), **facts)


def started(bundle: Path, core: int, rounds: int) -> float:
    """Median seconds from the start of a process to its first answer."""
    taken = []
    for _ in range(rounds):
        with serving(bundle, core) as server:
            taken.append(server.ready)
    return statistics.median(taken)


class Direct:
    """The predictor called directly, in a process of its own on the server's core."""

    def __init__(self, data: Path, bundle: Path, core: int, images: int) -> None:
        words = str(data), str(bundle), "--images", str(images), "--seconds", str(MEASURED)
        self._command = on_core(core, sys.executable, "-m", "benchmarks.serve_direct", *words)

    def run(self) -> tuple[float, float, list[Known]]:
        """Images/s, seconds of the processor for an image, and the answer to each image."""
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"benchmarks.serve_direct ended with {done.returncode}:\n{done.stderr[-2000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        answers = [(digest, label, probability) for digest, label, probability in said["answers"]]
        return said["rate"], said["processor"], answers


async def under_load(
    server: Served, bodies: list[bytes], direct: Direct, asked: Any
) -> tuple[list[Bar], dict[str, Any]]:
    """Everything with images as plain bodies: bars, and the figures behind them."""
    draw = random.Random(0)
    order = [draw.randrange(len(bodies)) for _ in range(10_007)]

    def of(number: int) -> bytes:
        return bodies[order[number % len(order)]]

    await closed_loop(server.port, of, CLIENTS, n=4 * CLIENTS)  # warm
    alone = answered(await closed_loop(server.port, of, 1, n=FEW))
    service = statistics.median(answer.seconds for answer in alone)
    say(f"service time {service * 1e3:.1f} ms (median of {FEW}, one client)")
    rates, capacities, processor = [], [], []
    known: list[Known] = []
    for _ in range(asked.rounds):
        rate, base, known = direct.run()
        before = server.processor
        answers = answered(await closed_loop(server.port, of, CLIENTS, seconds=MEASURED))
        processor.append((base, (server.processor - before) / len(answers)))
        rates.append(rate)
        capacities.append(within(answers, MEASURED) / MEASURED)
        told = ", ".join(f"{seconds * 1e3:.2f}" for seconds in processor[-1])
        say(f"direct {rate:.1f} images/s, served {capacities[-1]:.1f}; of the processor {told} ms an image")
    capacity = statistics.median(capacities)
    ratio = statistics.median(served / rate for served, rate in zip(capacities, rates, strict=True))
    found = f"{capacity:.1f}/s of {statistics.median(rates):.1f}/s: {ratio:.3f}"
    bars = [Bar("capacity, of direct calls", found, f"{DIRECT_BAR:g}", ratio >= DIRECT_BAR)]
    at_start = server.memory
    bars.append(await half_load(server, of, capacity, service, asked.seconds))
    bars += await overload(server, of, capacity)
    facts = {"service s": round(service, 5), "capacity per s": capacities, "direct per s": rates}
    return bars, {**facts, "processor s, direct and served": processor, "memory at start": at_start, "known": known}


async def half_load(server: Served, of: Requests, capacity: float, service: float, seconds: float) -> Bar:
    """An open loop at half of the capacity."""
    answers = await open_loop(server.port, of, capacity / 2, seconds)
    taken = [answer.seconds for answer in answered(answers)]
    say(f"half load: {statuses(answers)}; {in_ms(taken)}")
    worst, others = share(taken, 0.99), len(answers) - len(taken)
    found = f"{worst * 1e3:.1f} ms, {worst / service:.2f} x" + (f"; {others} not answered" if others else "")
    held = worst <= P99_BAR * service and not others
    return Bar(f"half load: p99, of {service * 1e3:.1f} ms alone", found, f"{P99_BAR:g} x", held)


async def overload(server: Served, of: Requests, capacity: float) -> list[Bar]:
    """An open loop at five times the capacity."""
    before = server.processor
    answers = await open_loop(server.port, of, 5 * capacity, OVERLOAD, seed=1)
    taken = [answer.seconds for answer in answered(answers)]
    refused = [answer.seconds for answer in answers if answer.status == 503]
    say(f"overload: {statuses(answers)}; answered in {in_ms(taken)}; refused in {in_ms(refused)}")
    say(
        f"overload: {(server.processor - before) / len(taken) * 1e3:.2f} ms of the processor for each that was answered"
    )
    good = within(answers, OVERLOAD) / OVERLOAD / capacity
    slowest = share(refused, 0.99) if refused else float("inf")
    other = Counter(answer.status for answer in answers if answer.status not in (200, 503))
    return [
        Bar("overload: answered, of the capacity", f"{good:.3f}", f"{GOODPUT_BAR:g}", good >= GOODPUT_BAR),
        Bar("overload: refusals, p99", in_ms(refused), f"{REFUSAL_BAR * 1e3:.0f} ms", slowest <= REFUSAL_BAR),
        Bar("overload: neither answered nor refused", str(dict(other) or 0), "0", not other),
    ]


async def mix_ups(server: Served, images: list[bytes], known: list[Known], n: int) -> Bar:
    """64 clients whose every answer is known beforehand, to the last bit of the probability."""
    draw = random.Random(2)
    plans = [plan(draw, images) for _ in range(1_009)]
    answers = await closed_loop(server.port, lambda number: plans[number % len(plans)][1], MANY, n=n, again=True)
    say(f"{MANY} clients: {statuses(answers)}, those with 503 sent again")
    kept = [answer for answer in answers if answer.status != 503]
    right = ([known[position] for position in plans[answer.what % len(plans)][0]] for answer in kept)
    wrong = sum(told(answer) != truth for answer, truth in zip(kept, right, strict=True))
    return Bar(f"answers mixed up, {MANY} clients", f"{wrong} of {len(kept)}", "0", wrong == 0)


def plan(draw: random.Random, images: list[bytes]) -> tuple[list[int], bytes]:
    """Which images one request carries, and its bytes: mostly one as the body, some in forms and in JSON."""
    chosen = [draw.randrange(len(images)) for _ in range(3)]
    kind = draw.random()
    if kind < 0.8:
        return chosen[:1], request("/predict", images[chosen[0]])
    contents = [images[position] for position in chosen]
    return chosen, as_form(contents) if kind < 0.9 else as_json(contents)


def told(answer: Answer) -> list[Known] | None:
    """What an answer says of each of its images; None where it says no such thing."""
    if answer.status != 200:
        return None
    predictions = json.loads(answer.body)["predictions"]
    return [(item["digest"], item.get("label"), item.get("probability")) for item in predictions]


def memory(at_start: float, server: Served) -> Bar:
    """What the server holds at the end, against what it held before the long load."""
    now = server.memory
    flat = now <= max(at_start * MEMORY_BAR, at_start + MB)
    return Bar("memory over all of it", f"{at_start:.0f} to {now:.0f} MB", f"2 % or {MB:g} MB", flat)


def within(answers: list[Answer], seconds: float) -> int:
    """Predictions that were there `seconds` after the first request: what is under way by then is no rate."""
    end = min(answer.due for answer in answers) + seconds
    return sum(answer.status == 200 and answer.done < end for answer in answers)


def answered(answers: list[Answer]) -> list[Answer]:
    """Those with a prediction. Ends the benchmark where there is none."""
    good = [answer for answer in answers if answer.status == 200]
    if not good:
        sys.exit(f"nothing was answered: {statuses(answers)}, {answers[0].body[:200]!r}")
    return good


def statuses(answers: list[Answer]) -> dict[int, int]:
    """How often each status came; 0 = none."""
    return dict(sorted(Counter(answer.status for answer in answers).items()))


def say(line: str) -> None:
    """A line while it runs."""
    print(line, flush=True)


if __name__ == "__main__":
    main()

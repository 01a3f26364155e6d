"""What to try next within a budget, when to end it and what to keep: decisions from numbers, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.evaluation.compare import ALPHA, PairedTest, sign_test

# The roads from cheap to dear, as they are called in words. A budget tries the first three: from random weights the
# same network costs several times what training it on does, and pays only on images unlike all that it was trained on.
NAMES = {"probe": "the probe", "last": "the last stage", "full": "all of the network", "scratch": "from scratch"}
TRIED = ("last", "full")  # by a budget, after the probe
CAUTION = 1.2  # how much longer than predicted everything may take before a road that was begun overruns


@dataclass(frozen=True)
class Quote:
    """What a road costs from where a run stands: seconds.

    before  until its first epoch begins;  epoch  each, judged and saved;  after  until its classifier can be judged
    memory  bytes that the process needs at most;  judging  the part of an epoch in which nothing can be stopped
    """

    road: str
    before: float
    epoch: float
    after: float
    memory: int = 0
    judging: float = 0.0

    def seconds(self, epochs: int) -> float:
        """All of it."""
        return self.before + epochs * self.epoch + self.after


@dataclass(frozen=True)
class Decision:
    """How many epochs a road gets, 0 = it is not begun, and why."""

    epochs: int
    why: str


def fewest_errors() -> int:
    """From how many mistakes on a gain can be shown at all: by a road that makes none of them, and no new one."""
    errors = 1
    while sign_test(errors, 0) >= ALPHA:
        errors += 1
    return errors


def pays(errors: int, n: int, best: str = "probe") -> str:
    """Why no dearer road can be shown to pay, "" where one may.

    errors  mistakes of the best road so far on `n` validation images: all that there is to win
    """
    least = fewest_errors()
    if errors >= least:
        return ""
    has = "no mistake" if not errors else "1 mistake" if errors == 1 else f"{errors} mistakes"
    return (
        f"{NAMES[best]} makes {has} on {n:,} validation images, and from fewer than {least} no paired test could show "
        "a gain"
    )


def decide(quote: Quote, left: float, finish: float, most: int, memory: int | None = None) -> Decision:
    """Whether to begin a road, and for how many epochs (at most `most`), so that all of the run ends in time.

    left    seconds of the budget;  finish  seconds of judging, export and report at the end
    memory  bytes that the machine has, None = not told
    """
    name, left = NAMES[quote.road], max(0.0, left)
    if memory is not None and quote.memory > memory:
        need, has = quote.memory / 1e9, memory / 1e9
        return Decision(0, f"{name} would need about {need:.1f} GB of memory, and there are {has:.1f} GB")
    free = left / CAUTION - finish - quote.before - quote.after
    epochs = min(most, int(free / quote.epoch)) if free > 0 else 0
    were = f"{told_seconds(left)} were left"
    if epochs < 1:
        least = told_seconds(CAUTION * (quote.seconds(1) + finish))
        return Decision(0, f"{name} would take up to {least} with one epoch and the report, and {were}")
    few = f"{epochs} epoch{'s' * (epochs > 1)}" + (f" of {most}" if epochs < most else "")
    return Decision(epochs, f"about {told_seconds(quote.seconds(epochs))} for {few}; {were}")


def ends(budget: float, quote: Quote, finish: float) -> tuple[float, float]:
    """(last step, last moment) of a road, in seconds of the run: what is left after them is for what must follow.

    After the last step its network is judged once more and made a classifier; at the last moment it is given up,
    whatever it is at.
    """
    return budget - CAUTION * (finish + quote.after + quote.judging), budget - CAUTION * finish


def keeps(losses: PairedTest, right: PairedTest) -> bool:
    """Whether the dearer road, a, replaces the best so far, b.

    Only where its lower log-loss is shown on the validation images, and no lower accuracy: else the cheaper one stays,
    as it does between the probe's features. Each comes with its own temperature, as it would be shipped.
    """
    return losses.better == "a" and right.better != "b"


def told_keeping(name: str, best: str, losses: PairedTest, right: PairedTest) -> str:
    """The same in words; names as in `NAMES`."""
    sentence = losses.sentence(NAMES[name], NAMES[best])
    if losses.better == "a" and right.better == "b":
        return f"{NAMES[best]} stays: {right.sentence(NAMES[name], NAMES[best])}, though {sentence}"
    kept = f"{NAMES[name]} is kept" if keeps(losses, right) else f"{NAMES[best]} stays"
    return f"{kept}: {sentence}"


def told_tried(tried: Sequence[Mapping[str, Any]], best: str) -> str:
    """First of the three lines: every road with its validation figures, and which is kept."""
    told = [_told_road(row) for row in tried]
    told[0] += f" on {tried[0]['n']:,} validation images"
    why = next((str(row["why"]) for row in reversed(tried) if row.get("why")), "")
    return "; ".join(told) + (f". {why[0].upper()}{why[1:]}" if why else f". {NAMES[best].capitalize()} is kept")


def _told_road(row: Mapping[str, Any]) -> str:
    if "given_up" in row:
        return f"{NAMES[row['road']]} was given up"
    epochs = f" ({row['epochs']} epoch{'s' * (row['epochs'] != 1)})" if row.get("epochs") is not None else ""
    return f"{NAMES[row['road']]}{epochs} accuracy {row['accuracy']:.3f}, log-loss {row['log_loss']:.3f}"


def told_took(tried: Sequence[Mapping[str, Any]], spent: float, budget: float) -> str:
    """The second: what each took, what was predicted, what of the budget was spent when the choice was made."""
    parts = []
    for row in tried:
        said = f", {told_seconds(row['predicted'])} predicted" if row.get("predicted") is not None else ""
        parts.append(f"{NAMES[row['road']]} {told_seconds(row['seconds'])}{said}")
    rest = spent - sum(row["seconds"] for row in tried)
    if rest >= 1:
        parts.append(f"measuring and choosing {told_seconds(rest)}")
    return f"{'; '.join(parts)}. {told_seconds(spent)} of {told_seconds(budget)} when the choice was made"


def told_seconds(seconds: float) -> str:
    """42 s, 3 min 20 s, 1 h 05 min: rounded, as predictions are."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def told_more(quotes: Mapping[str, Quote], epochs: Mapping[str, int], finish: float, mistakes: tuple[int, int]) -> str:
    """What dearer roads would cost on top of a probe, and the most that there is to win.

    quotes, epochs  by road;  finish  seconds of judging and report;  mistakes  on how many validation images
    """
    seconds = {road: quote.seconds(epochs[road]) + finish for road, quote in quotes.items()}
    costs = ", ".join(f"{NAMES[road]} about {told_seconds(own)}" for road, own in seconds.items())
    errors, n = mistakes
    return (
        f"{costs} here, for at most {100 * errors / n:.1f} points ({errors} mistakes on {n:,} validation images). "
        "--budget TIME tries what fits"
    )


def told_plan(seconds: Mapping[str, float], budget: float | None) -> str:
    """The one line of what a run would do, from the predicted seconds of each road."""
    if "probe" not in seconds:
        return "headway fit trains from scratch: this network has no weights that a probe could begin with"
    if budget is None:
        return "headway fit trains the probe; --budget TIME goes on to what fits into it and may pay"
    fitting = [road for road in TRIED if seconds.get(road, float("inf")) <= budget]
    if seconds["probe"] > budget:
        return f"the probe alone would take longer than {told_seconds(budget)}; it is done all the same, and no more"
    if not fitting:
        return f"within {told_seconds(budget)} the probe, and nothing after it"
    then = " and ".join(NAMES[road] for road in fitting)
    return f"within {told_seconds(budget)} the probe, then {then} where its mistakes say that it may pay"

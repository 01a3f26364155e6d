"""The rule of four: much or little data, like or unlike the pretraining data, both measured; what follows from it.

The rule itself is old (Karpathy, "Transfer learning", notes of CS231n, Stanford). Little and alike: a linear head on
the features. Much and alike: fine-tune the network. Little and unlike: a head on earlier features. Much and unlike:
fine-tune all of it, from the pretrained weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway.advice.evidence import Evidence

LIKE = 0.85  # of what the head finds beyond guessing, so much the neighbours find too: nothing had to be learnt
UNLIKE = 0.6
FEW, MANY = 20, 200  # images a class: fewer are few whatever the curve says; where it says nothing, so many are many
STEEP = 0.1  # of the errors, removed by twice the images: then images are what is missing
FEWEST_ERRORS = 6  # with fewer no paired test can show a gain: six wins and no loss have p = 0.03, five 0.06


@dataclass(frozen=True)
class Rule:
    """Where the data stands on both axes, in words with their evidence, and what that asks for.

    like    True, False, or None = between the two, or not shown;  large  whether there are images enough
    action  "head", "earlier", "finetune" or "enough"
    """

    like: bool | None
    large: bool
    action: str
    likeness: str
    size: str
    advice: str

    @property
    def sentence(self) -> str:
        """What to do, and both axes with their evidence."""
        return f"{self.advice}: {self.likeness}, {self.size}"

    def to_json(self) -> dict[str, Any]:
        return {"like": self.like, "large": self.large, "action": self.action, "sentence": self.sentence}


def four_ways(evidence: Evidence) -> Rule:
    """What the evidence asks for."""
    like, likeness = _likeness(evidence)
    large, size = _size(evidence)
    action, advice = _advice(evidence, like, large)
    return Rule(like, large, action, likeness, size, advice)


def closeness(evidence: Evidence) -> float | None:
    """What neighbours find beyond guessing, over what the head finds beyond it; None where the head finds nothing."""
    guess = evidence.guess.accuracy
    found = evidence.probe.accuracy - guess
    if evidence.probe.interval[0] <= guess or found <= 0:
        return None
    return (evidence.neighbours.accuracy - guess) / found


def _likeness(evidence: Evidence) -> tuple[bool | None, str]:
    """Whether what the network saw last tells the classes apart by itself."""
    probe, close = evidence.probe, closeness(evidence)
    earlier = evidence.earlier is not None and evidence.earlier["better"] == "a"
    near = evidence.neighbours
    some = f" ({near.n:,} of them)" if near.n < probe.n else ""
    numbers = (
        f"head {probe.accuracy:.3f}, neighbours {near.accuracy:.3f}{some}, guessing "
        f"{evidence.guess.accuracy:.3f} on {probe.n:,} validation image{'' if probe.n == 1 else 's'}"
    )
    if close is None:
        return None, f"likeness to the pretraining data not shown (the head does not beat guessing: {numbers})"
    like: bool | None = None
    if close < UNLIKE or (close < LIKE and earlier):
        like = False
    elif close >= LIKE and not earlier:
        like = True
    word = {True: "like", False: "unlike", None: "half like"}[like]
    return like, f"{word} the pretraining data ({numbers}{'; earlier stages add to the last layer' if earlier else ''})"


def _size(evidence: Evidence) -> tuple[bool, str]:
    """Whether there are images enough: by the curve where it shows something, by their number where it does not."""
    fewest, middle = evidence.per_class
    each = f"{middle:,} a class" if fewest == middle else f"{middle:,} a class, {fewest:,} in the smallest"
    removed, curve = evidence.share_removed, evidence.curve
    if middle < FEW or removed is None or curve is None:
        large = middle >= MANY
        return large, f"{'many' if large else 'few'} images ({each})"
    rising = removed >= STEEP and curve.interval[0] > 0
    flat = curve.interval[1] < STEEP * (1 - evidence.probe.accuracy)
    large = not rising and (flat or middle >= MANY)
    how = f"twice as many would remove about {100 * removed:.0f} % of the errors"
    shown = "" if rising or flat else ", not certain"
    return large, f"{'many' if large else 'few'} images ({each}; {how}{shown})"


def _advice(evidence: Evidence, like: bool | None, large: bool) -> tuple[str, str]:
    if evidence.errors < FEWEST_ERRORS:
        images = f"{evidence.errors} wrong of {evidence.probe.n:,}"
        return (
            "enough",
            f"keep the head; with {images} no other road could be shown to be better on these validation images",
        )
    if large:
        start = ", all of it, from the pretrained weights" if like is False else ""
        return "finetune", f"fine-tune the network{start} (--strategy finetune)"
    if like:
        return "head", "keep the linear head on the frozen features"
    if evidence.taps == "all":
        return "earlier", "keep the head on the features of all stages, as taken here"
    if evidence.earlier is not None:
        return "head", "keep the head: that on earlier features too is not shown to be better; label more images"
    return "earlier", "try a head on earlier features too (--taps all)"

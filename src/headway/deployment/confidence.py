"""What can be asked of a bundle beside its probabilities: prediction sets, and whether an image is of another kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from headway.deployment.sets import Sets
from headway.deployment.unknown import Unknown
from headway.errors import refuse_all


@dataclass(frozen=True)
class Confidence:
    """Both were calibrated on validation images. None: the bundle carries none."""

    sets: Sets | None = None
    unknown: Unknown | None = None


CARRIES_NONE = Confidence()


@dataclass(frozen=True)
class Levels:
    """What is asked of predictions; None = not asked.

    coverage  of prediction sets, 0..1: how often the true class is to be among those of the set
    unknown   false-alarm rate, 0..1: how often an image like those it learnt from may be called unknown
    """

    coverage: float | None = None
    unknown: float | None = None

    def to_json(self) -> dict[str, float]:
        """The levels that were asked for."""
        return {name: value for name, value in vars(self).items() if value is not None}


NONE = Levels()


def check_levels(confidence: Confidence, levels: Levels, bundle: Path) -> None:
    """Raise Refused where `levels` cannot be promised: nothing is carried, or validation images were too few."""
    asked = levels.to_json().items()
    refuse_all(
        [f"{name} {level}: expected a number between 0 and 1, as 0.95" for name, level in asked if not 0 < level < 1]
    )
    problems, sets, unknown = [], confidence.sets, confidence.unknown
    if levels.coverage is not None and sets is None:
        problems.append(_lacking(bundle, "no prediction sets (--coverage)"))
    elif levels.coverage is not None and sets is not None and not sets.promises(levels.coverage):
        words, most = f"--coverage {levels.coverage:g}", f"at most {told_most(sets.most)}"
        problems.append(_too_few(words, 1 - levels.coverage, bundle, sets.n, most))
    if levels.unknown is not None and unknown is None:
        problems.append(_lacking(bundle, "nothing that tells unknown images (--unknown)"))
    elif levels.unknown is not None and unknown is not None and levels.unknown < unknown.least:
        words, least = f"--unknown {levels.unknown:g}", f"at least {told_least(unknown.least)}"
        problems.append(_too_few(words, levels.unknown, bundle, unknown.n, least))
    refuse_all(problems)


def _lacking(bundle: Path, what: str) -> str:
    return f"{bundle} carries {what}: it was made without. Make it again with this headway: headway fit"


def _too_few(asked: str, error: float, bundle: Path, n: int, allowed: str) -> str:
    needed = math.ceil(round(1 / error, 6)) - 1
    return (
        f"{asked} takes at least {needed:,} validation images to promise, and {bundle} was calibrated on {n:,}. "
        f"Ask for {allowed}, or train with more of them: headway fit --val"
    )


def told_most(share: float) -> str:
    """A largest coverage, rounded so that it may be asked for."""
    return f"{math.floor(share * 10_000) / 10_000:g}"


def told_least(share: float) -> str:
    """A smallest false-alarm rate, rounded so that it may be asked for."""
    return f"{math.ceil(share * 10_000) / 10_000:g}"

"""The search for taps and L2 of a linear head: quick fits, judged on validation rows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.metrics import Scores, score
from headway.events import Detail, Progress
from headway.training.heads import Head, Layer
from headway.training.lbfgs import Memory, Point
from headway.training.solvers import LARGE, LOOSE, TOLERANCE, Problem, Solution, Start

_SMALL = 2e8  # multiplications of one product with the features
_CLEARLY_WORSE = 1.02  # times the best validation log-loss: nothing better comes after it on the path


@dataclass(frozen=True)
class Material:
    """Features of one choice of taps: the problem of its training rows, and its validation rows (n_val, D).

    memory  what its fits learn, each from those before
    """

    taps: str
    names: tuple[str, ...]
    problem: Problem
    val: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    memory: Memory = field(default_factory=Memory, repr=False)

    @property
    def small(self) -> bool:
        """Whether an iteration costs milliseconds."""
        n, d = self.problem.rows.shape
        return n * d * len(self.problem.constant) <= _SMALL

    @property
    def tolerance(self) -> float:
        """How far to take the fits that only choose: all the way where that costs next to nothing."""
        return TOLERANCE if self.small else LOOSE

    @property
    def last_tolerance(self) -> float:
        """How far to take the chosen fit. See `LARGE`."""
        return TOLERANCE if self.small else LARGE


@dataclass(frozen=True)
class Candidate:
    """One fit, and how it does on the validation rows. `iterations` counts all that led to it from its start."""

    material: Material
    solution: Solution
    scores: Scores
    iterations: int

    @property
    def val_log_loss(self) -> float:
        return float(self.scores.loss.mean())

    @property
    def start(self) -> Start:
        """On raw features, for a problem of other taps."""
        return self.solution.weight, self.solution.bias

    @property
    def end(self) -> Point:
        """For another fit of the same problem."""
        return self.solution.point


def head_of(material: Material, solution: Solution) -> Head:
    """The solution as a head."""
    return Head("linear", material.names, (Layer(solution.weight, solution.bias),))


def attempt(material: Material, l2: float, start: Start | Point | None, tolerance: float) -> Candidate:
    """One fit, judged on the validation rows."""
    solution = material.problem.solve(l2, start=start, tolerance=tolerance, memory=material.memory)
    logits = head_of(material, solution).logits(material.val)  # not kept: a search has a dozen of them
    return Candidate(material, solution, score(logits, material.labels), solution.iterations)


def lowest(candidates: Sequence[Candidate]) -> Candidate:
    """The lowest validation log-loss; of equals the first, which is the strongest L2 of a path."""
    return min(candidates, key=lambda candidate: candidate.val_log_loss)


Walk = Generator[Progress | Detail, None, list[Candidate]]


def down_the_path(material: Material, l2s: Sequence[float]) -> Walk:
    """From strong to weak, each from the one before, until validation log-loss clearly rises."""
    tried: list[Candidate] = []
    for l2 in l2s:
        tried.append(attempt(material, l2, tried[-1].end if tried else None, material.tolerance))
        yield Progress("head", len(tried), 0, unit="fits")
        yield _told(tried[-1])
        if tried[-1].val_log_loss > _CLEARLY_WORSE * lowest(tried).val_log_loss:
            break
    return tried


def around(material: Material, l2s: Sequence[float], at: int, start: Start | Point) -> Walk:
    """From `l2s[at]` to the stronger and then to the weaker, each way as long as validation log-loss falls.

    Costs two or three fits where a path would cost seven: with more features the best L2 is rarely far away.
    """
    tried = [attempt(material, l2s[at], start, material.tolerance)]
    yield _told(tried[0])
    for step in (-1, 1):
        best, index = lowest(tried), at + step
        while 0 <= index < len(l2s):
            tried.append(attempt(material, l2s[index], best.end, material.tolerance))
            yield _told(tried[-1])
            if tried[-1].val_log_loss >= best.val_log_loss:
                break
            best, index = tried[-1], index + step
        if best is not tried[0]:
            break  # it fell this way: the other way lies behind
    return tried


def _told(candidate: Candidate) -> Detail:
    taps, l2, accuracy = candidate.material.taps, candidate.solution.l2, candidate.scores.right.mean()
    judged = f"validation log-loss {candidate.val_log_loss:.4f}, accuracy {accuracy:.4f}"
    return Detail("head", f"taps {taps}, L2 {l2:g}: {judged}, {candidate.iterations} iterations")


def record(candidate: Candidate, chosen: bool) -> dict[str, Any]:
    """`candidate` as an item of `selection.candidates` in evaluation.json."""
    return {
        "taps": candidate.material.taps,
        "l2": candidate.solution.l2,
        "val_log_loss": candidate.val_log_loss,
        "val_accuracy": float(candidate.scores.right.mean()),
        "iterations": candidate.iterations,
        "chosen": chosen,
    }


def path_row(number: int, candidate: Candidate, best: bool) -> dict[str, Any]:
    """`candidate` as a row of history.csv."""
    return {
        "kind": "path",
        "step": number,
        "taps": candidate.material.taps,
        "l2": candidate.solution.l2,
        "lr": None,
        "train_loss": candidate.solution.log_loss,
        "train_accuracy": candidate.solution.accuracy,
        "val_loss": candidate.val_log_loss,
        "val_accuracy": float(candidate.scores.right.mean()),
        "best": best,
    }

"""Limited-memory BFGS on a softmax regression (see `solvers`).

Nocedal and Wright, Numerical Optimization (2006), algorithm 7.5, with the strong Wolfe conditions (3.7).
Where the problem is large, the inverse Hessian begins as `Problem.inverse_hessian` guesses it, and not as a multiple of
the identity: features that go together, of which networks give many, then cost few iterations (52, not 95, on the 1,280
features and 100 classes of CIFAR-100). What a fit learnt of the curvature serves the next fit of the same problem,
under another L2 too, as what the penalty adds to it is known (`curvature`): on a part of that data a path over eight L2
took a third fewer iterations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headway.training.curvature import Memory

if TYPE_CHECKING:
    from headway.training.solvers import Problem

_MAX_ITERATIONS = 1000
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions; a stricter second one saved no iterations when tried
_TRIALS = 30
_FIRST = 0.1  # step length from the constant guess: there the curvature is ten times what the guess is made for
_PATIENCE = 30  # iterations in which the loss must still fall by more than its rounding


@dataclass(frozen=True)
class Point:
    """What one pass over the features tells of some parameters; the penalty is in none of it.

    theta   (C, D + 1) float64, weights of standardised features, then the bias
    loss    mean cross-entropy, weighted by the weights of the samples;  slope  its gradient (C, D + 1) float64
    right   rows whose class has the largest logit
    """

    theta: Tensor
    loss: float
    slope: Tensor
    right: int

    def objective(self, l2: float) -> float:
        """F under `l2`."""
        return self.loss + penalty(self.theta, l2)

    def gradient(self, l2: float) -> Tensor:
        """That of F under `l2`, (C, D + 1)."""
        found = self.slope.clone()
        found[:, :-1].add_(self.theta[:, :-1], alpha=l2)
        return found


@dataclass(frozen=True)
class Minimum:
    """Where it ended. `relative`: the gradient's norm over that of the constant guess; `passes` over the features."""

    point: Point
    iterations: int
    passes: int
    relative: float
    converged: bool


_Trial = Callable[[float], tuple[float, float]]


def minimise(problem: Problem, point: Point, l2: float, tolerance: float, memory: Memory | None = None) -> Minimum:
    """L-BFGS from `point`, which is left as it is; `memory` gets what is learnt on the way."""
    memory = Memory() if memory is None else memory
    guess = problem.inverse_hessian(l2)
    memory.under(l2, guess)
    loss, gradient = point.objective(l2), point.gradient(l2)
    losses: deque[float] = deque([math.inf] * _PATIENCE, maxlen=_PATIENCE)
    rounding = 0.01 * torch.finfo(problem.rows.dtype).eps
    iterations = passes = 0
    while float(gradient.norm()) > tolerance * problem.unit and iterations < _MAX_ITERATIONS:
        if losses[0] - loss <= rounding * loss:
            break  # the features' precision is used up
        losses.append(loss)
        line = _Line(problem, point, memory.direction(gradient), l2)
        first = 1.0 if len(memory) else _FIRST if guess is not None else 1.0 / float(gradient.norm())
        found = _search(line.trial, loss, _dot(gradient, line.step), first)
        passes += line.trials
        if found is None and not len(memory):
            break  # not even the first direction goes down
        if found is None:
            memory.clear()
            continue
        before, point, loss = gradient, line.point, found[1]
        gradient = point.gradient(l2)
        memory.learn(line.step.mul_(found[0]), before, gradient)
        iterations += 1
    relative = float(gradient.norm()) / problem.unit
    return Minimum(point, iterations, passes, relative, relative <= tolerance)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.view(-1), b.view(-1)))


def penalty(theta: Tensor, l2: float) -> float:
    """l2/2 times the sum of squares of the weights in `theta` (C, D + 1), the bias left out."""
    return 0.5 * l2 * float(theta[:, :-1].square().sum())


class _Line:
    """F along `point` + t `step`: every trial is one pass over the features, and mostly the first one will do.

    Beside F a trial finds the gradient, which is wanted next. Were logits kept, further trials would cost less: one of
    fifty iterations has such, and logits of a million rows and a thousand classes take 4 GB.
    """

    def __init__(self, problem: Problem, point: Point, step: Tensor, l2: float) -> None:
        self.point, self.step, self.trials = point, step, 0
        self._problem, self._start, self._l2 = problem, point.theta, l2

    def trial(self, t: float) -> tuple[float, float]:
        """F and its slope in t; `point` is there afterwards."""
        self.trials += 1
        self.point = self._problem.evaluate(self._start.add(self.step, alpha=t))
        return self.point.objective(self._l2), _dot(self.point.gradient(self._l2), self.step)


def _search(trial: _Trial, loss: float, slope: float, first: float) -> tuple[float, float] | None:
    """A step length that fulfils strong Wolfe on a convex function with `loss` and `slope` < 0 at 0, and its loss.

    The slope of a convex function rises along the line; its root is bracketed, then cut down to by the secant.
    None where no step goes down. The last trial is always the one returned.
    """
    slack = 1e-7 * abs(loss)  # what the sum over samples may be off by
    low, low_slope = 0.0, slope
    high, high_slope = math.inf, math.inf
    t = first
    for _ in range(_TRIALS if slope < 0 else 0):
        here, rise = trial(t)
        if here <= loss + _DECREASE * t * slope + slack and abs(rise) <= -_CURVATURE * slope:
            return t, here
        if rise < 0 and here <= loss + slack:
            before, before_slope, low, low_slope = low, low_slope, t, rise
            if math.isinf(high):
                bend = (low_slope - before_slope) / (low - before)
                t = min(max(low - low_slope / bend if bend > 0 else math.inf, 1.5 * low), 10 * low)
                continue
        else:
            high, high_slope = t, rise
        width = high - low
        share = low_slope / (low_slope - high_slope) if math.isfinite(high_slope) and high_slope > 0 else 0.5
        t = low + width * min(max(share, 0.1), 0.9)
    return None

"""Limited-memory BFGS on a softmax regression, its line search along logits that are known (see `solvers`).

Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5, with the strong Wolfe conditions (3.7).
Where the problem is large, the inverse Hessian begins as `Problem.inverse_hessian` guesses it, and not as a multiple of
the identity: features that go together, of which networks give many, then cost few iterations (52, not 95, on the
1,280 features and 100 classes of CIFAR-100).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from headway.training.solvers import Problem

_HISTORY, _HISTORY_BYTES = 30, 256 << 20  # pairs, and what they may take; ten are always kept
_MAX_ITERATIONS = 1000
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions; a stricter second one saved no iterations when tried
_TRIALS = 30
_PATIENCE = 30  # iterations in which the loss must still fall by more than its rounding
_BLOCK = 1 << 20  # numbers of an (N, C) array that are worked on at once


@dataclass(frozen=True)
class Point:
    """Where it ended. `relative`: the gradient's norm over that of the constant guess."""

    theta: Tensor  # (C, D + 1) float64
    logits: Tensor  # (N, C)
    loss: float
    iterations: int
    relative: float
    converged: bool


def minimise(problem: Problem, theta: Tensor, l2: float, tolerance: float) -> Point:
    """L-BFGS from `theta`, which is left as it is."""
    logits = problem.multiply(theta)  # (N, C), moved along with theta
    residual = torch.empty_like(logits)  # (N, C), w (p - y) at the last trial
    loss = along(problem, logits, None, 0.0, residual)[0] + penalty(theta, l2)
    gradient = problem.gradient(theta, residual, l2)
    guess = problem.inverse_hessian(l2)  # (D + 1, D + 1), the same for every class, or None
    pairs: deque[_Pair] = deque(maxlen=_history(theta))
    losses: deque[float] = deque([math.inf] * _PATIENCE, maxlen=_PATIENCE)
    rounding = 0.01 * torch.finfo(problem.rows.dtype).eps
    iterations = 0
    while float(gradient.norm()) > tolerance * problem.unit and iterations < _MAX_ITERATIONS:
        if losses[0] - loss <= rounding * loss:
            break  # the features' precision is used up
        losses.append(loss)
        step = _direction(gradient, pairs, guess)  # (C, D + 1)
        change = problem.multiply(step)  # (N, C)
        trial = _trial(problem, logits, change, residual, (theta, step, l2))
        first = 1.0 if pairs or guess is not None else 1.0 / float(gradient.norm())
        found = _search(trial, loss, float((gradient * step).sum()), first)
        if found is None and not pairs:
            break  # not even the first direction goes down
        if found is None:
            pairs.clear()
            continue
        length, loss = found
        theta = theta.add(step, alpha=length)
        logits.add_(change, alpha=length)
        before, gradient = gradient, problem.gradient(theta, residual, l2)
        moved, turned = step.mul_(length), gradient - before
        bend = float((moved * turned).sum())
        if bend > 1e-12 * float(moved.norm()) * float(turned.norm()):
            pairs.append((moved, turned, bend))
        iterations += 1
    relative = float(gradient.norm()) / problem.unit
    return Point(theta, logits, loss, iterations, relative, relative <= tolerance)


def _history(theta: Tensor) -> int:
    return max(10, min(_HISTORY, _HISTORY_BYTES // (2 * theta.numel() * theta.element_size())))


_Pair = tuple[Tensor, Tensor, float]  # step, change of the gradient, their product
_Trial = Callable[[float], tuple[float, float]]


def penalty(theta: Tensor, l2: float) -> float:
    """l2/2 times the sum of squares of the weights in `theta` (C, D + 1), the bias left out."""
    return 0.5 * l2 * float(theta[:, :-1].square().sum())


def _direction(gradient: Tensor, pairs: Sequence[_Pair], guess: Tensor | None) -> Tensor:
    """-H gradient, H the inverse Hessian as the pairs tell it (algorithm 7.4, the two loops), from `guess` on."""
    direction, shares = -gradient, []
    for moved, turned, bend in reversed(pairs):
        shares.append(float((moved * direction).sum()) / bend)
        direction.add_(turned, alpha=-shares[-1])
    if guess is not None:
        direction = direction @ guess
    if pairs:
        _, turned, bend = pairs[-1]
        direction.mul_(bend / float((turned * (turned if guess is None else turned @ guess)).sum()))
    for moved, turned, bend in pairs:
        direction.add_(moved, alpha=shares.pop() - float((turned * direction).sum()) / bend)
    return direction


def _trial(
    problem: Problem, logits: Tensor, change: Tensor, residual: Tensor, line: tuple[Tensor, Tensor, float]
) -> _Trial:
    """The objective and its slope at theta + t step, as a function of t. It leaves w (p - y) there in `residual`."""
    theta, step, l2 = line
    start = penalty(theta, l2)
    slope = l2 * float((theta[:, :-1] * step[:, :-1]).sum())
    bend = l2 * float(step[:, :-1].square().sum())

    def trial(t: float) -> tuple[float, float]:
        loss, rise = along(problem, logits, change, t, residual)
        return loss + start + t * (slope + 0.5 * t * bend), rise + slope + t * bend

    return trial


def along(problem: Problem, logits: Tensor, change: Tensor | None, t: float, residual: Tensor) -> tuple[float, float]:
    """Mean cross-entropy at logits + t change, and its slope in t; w (p - y) is left in `residual`. All (N, C)."""
    n, c = logits.shape
    size = max(1, _BLOCK // c)
    loss = slope = 0.0
    for low in range(0, n, size):
        block = slice(low, low + size)
        target = problem.labels[block, None]
        weight = None if problem.weights is None else problem.weights[block]
        moved = logits[block] if change is None else torch.add(logits[block], change[block], alpha=t)
        moved = torch.log_softmax(moved, dim=1)  # (n, C)
        losses = moved.gather(1, target)  # (n, 1), minus the loss
        left = torch.exp(moved, out=residual[block])
        left.scatter_add_(1, target, left.new_full((1, 1), -1.0).expand(len(left), 1))
        if weight is not None:
            losses = losses * weight
            left.mul_(weight)
        loss -= float(losses.sum(dtype=torch.float64))
        if change is not None:
            slope += float((left * change[block]).sum(dtype=torch.float64))
    return loss / n, slope / n


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

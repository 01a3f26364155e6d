"""Softmax regression to convergence: L-BFGS whose line search costs no pass over the features.

Objective, over standardised features x and weights W (C, D), bias b (C,), sample weights w of mean 1:

    F(W, b) = 1/N sum_i w_i * crossentropy(W x_i + b, y_i) + l2/2 * ||W||^2          (the bias is not penalised)

Logits are linear in the weights. So beside Z = X W^T the solver keeps D = X dW^T for the step direction dW: every trial
of the line search works on Z + t D, (N, C) numbers, and an iteration reads the features exactly twice: once for the
gradient, once for the direction. Everything of size N is float32 (or as the features are), everything of size (C, D),
and every sum over samples, is float64.

Method: limited-memory BFGS, Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5, with the
two conditions of strong Wolfe (3.7).
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.errors import HeadwayError

Features = NDArray[np.floating[Any]]
Start = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]

TOLERANCE = 1e-4  # "converged": gradient norm over that of the constant guess
LOOSE = 1e-2  # enough to tell one l2 from another: 1 % of validation log-loss when tried, in a sixth of the iterations
LARGE = 1e-3  # "converged" where an iteration takes seconds: on CIFAR-100 within 0.06 % of the objective at 1e-4
_HISTORY, _HISTORY_BYTES = 30, 256 << 20  # pairs, and what they may take; ten are always kept
_MAX_ITERATIONS = 1000
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions; a stricter second one saved no iterations when tried
_TRIALS = 30
_PATIENCE = 30  # iterations in which the loss must still fall by more than its rounding
_BLOCK = 1 << 20  # numbers of an (N, C) array that are worked on at once
_FAR = 128.0  # means further from zero than this many standard deviations lose too many digits unless subtracted


@dataclass(frozen=True)
class Solution:
    """A softmax regression on raw features: standardisation is folded in.

    weight      (C, D) float32; bias (C,) float32
    l2          the penalty, per unit of the mean loss and of standardised weights
    iterations  of L-BFGS; each reads the features twice
    loss        the objective at the end; log_loss its first term (weighted by class weights where they were given)
    accuracy    on the rows it was fitted on, 0..1
    gradient    norm of the gradient at the end, relative to that of the constant guess
    converged   whether `gradient` reached the tolerance
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    l2: float
    iterations: int
    loss: float
    log_loss: float
    accuracy: float
    gradient: float
    converged: bool


def fit_softmax(
    X: Features,
    y: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    l2: float,
    weights: NDArray[np.floating[Any]] | None = None,
    start: Start | None = None,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Minimise F for one `l2`.

    X          (N, D) float32, not changed and not copied (float64 is worked on in float64); any row stride
    y          (N,) integers 0..n_classes-1
    weights    (C,) class weights, or None = all one; only their ratios matter
    start      weight (C, D) and bias (C,) on raw features to start from, or None = the constant guess
    tolerance  stop when ||gradient|| <= tolerance * ||gradient at the constant guess||

    Raises HeadwayError where a feature is not finite. Same input, same threads: same bits.
    """
    return pose(X, y, n_classes, weights=weights).solve(l2, start=start, tolerance=tolerance)


def softmax_path(
    X: Features,
    y: NDArray[np.integer[Any]],
    n_classes: int,
    l2s: Sequence[float],
    *,
    weights: NDArray[np.floating[Any]] | None = None,
    start: Start | None = None,
    tolerance: float = LOOSE,
) -> Iterator[Solution]:
    """Minimise F for each of `l2s` in turn, each started from the one before: strong to weak is quickest.

    Arguments as `fit_softmax`; the features are looked through once for their means, then only by the iterations.
    """
    problem = pose(X, y, n_classes, weights=weights)
    for l2 in l2s:
        solution = problem.solve(l2, start=start, tolerance=tolerance)
        start = (solution.weight, solution.bias)
        yield solution


def balanced_weights(y: NDArray[np.integer[Any]], n_classes: int) -> NDArray[np.float64]:
    """(C,) float64 class weights N / (C * count), so that each class counts alike; 0 for a class without samples."""
    counts = np.bincount(y, minlength=n_classes).astype(np.float64)  # (C,)
    with np.errstate(divide="ignore"):
        return np.where(counts > 0, len(y) / (n_classes * counts), 0.0)


@dataclass(frozen=True)
class Problem:
    """The data of F, ready to be solved for any l2. Made by `pose`.

    rows      (N, D), the features; standardised row = (row - mean) * scale, which is folded into the products
    mean      (D,) float64; scale (D,) float64, 1 / standard deviation, 0 for a feature that does not vary
    standard  whether `rows` are a copy that is standardised already
    labels    (N,) int64
    weights   (N, 1) like rows, of mean 1; None = all one
    guess     (C,) float64, the bias of the constant guess
    unit      norm of the gradient there, at least 1e-3, so that features without a signal converge too
    """

    rows: Tensor
    mean: Tensor
    scale: Tensor
    standard: bool
    labels: Tensor
    weights: Tensor | None
    guess: Tensor
    unit: float = 1.0

    def solve(self, l2: float, *, start: Start | None = None, tolerance: float = TOLERANCE) -> Solution:
        """As `fit_softmax`; for several `l2` of the same data the means are found once."""
        point = _minimise(self, self.parameters(start), l2, tolerance)
        weight = (point.theta[:, :-1] * self.scale).to(torch.float32)  # (C, D)
        bias = point.theta[:, -1] - weight.to(torch.float64) @ self.mean  # the one that suits the rounded weights
        return Solution(
            weight=weight.numpy(),
            bias=bias.to(torch.float32).numpy(),
            l2=l2,
            iterations=point.iterations,
            loss=point.loss,
            log_loss=point.loss - _penalty(point.theta, l2),
            accuracy=float((point.logits.argmax(dim=1) == self.labels).to(torch.float64).mean()),
            gradient=point.relative,
            converged=point.converged,
        )

    def parameters(self, start: Start | None) -> Tensor:
        """(C, D + 1) float64: weights of standardised features, then the bias, from those on raw features."""
        theta = torch.zeros(len(self.guess), self.rows.shape[1] + 1, dtype=torch.float64)
        theta[:, -1] = self.guess
        if start is not None:
            weight, bias = (torch.from_numpy(np.array(part, dtype=np.float64)) for part in start)
            theta[:, :-1] = torch.where(self.scale > 0, weight / self.scale, 0.0)
            theta[:, -1] = bias + weight @ self.mean
        return theta

    def multiply(self, theta: Tensor) -> Tensor:
        """Logits (N, C) of the parameters `theta` (C, D + 1): the first of two passes over the features."""
        if self.standard:
            weight, bias = theta[:, :-1].to(self.rows.dtype), theta[:, -1]
        else:
            weight = (theta[:, :-1] * self.scale).to(self.rows.dtype)  # (C, D)
            bias = theta[:, -1] - weight.to(torch.float64) @ self.mean  # (C,)
        return torch.addmm(bias.to(self.rows.dtype), self.rows, weight.T)

    def gradient(self, theta: Tensor, residual: Tensor, l2: float) -> Tensor:
        """Gradient of F (C, D + 1) float64 from the weighted residuals w (p - y) (N, C): the second pass."""
        n = len(self.rows)
        total = residual.sum(dim=0, dtype=torch.float64)  # (C,)
        product = (residual.T @ self.rows).to(torch.float64)  # (C, D)
        if not self.standard:
            product.addr_(total, self.mean, alpha=-1.0).mul_(self.scale)
        product.div_(n).add_(theta[:, :-1], alpha=l2)
        return torch.cat([product, (total / n)[:, None]], dim=1)


def pose(
    X: Features,
    y: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    weights: NDArray[np.floating[Any]] | None = None,
) -> Problem:
    """Look through the features once. Copies them only where a mean is so far from zero that digits would be lost."""
    if len(X) == 0 or len(X) != len(y):
        raise ValueError(f"{len(X)} rows of features, {len(y)} labels")
    rows = share(X)
    labels = torch.from_numpy(np.array(y, dtype=np.int64))
    mean, deviation = moments(rows)
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    far = bool((mean.abs() * scale > _FAR).any())
    if far:  # what is subtracted and multiplied is float32; fold back just that
        mean, scale = mean.to(rows.dtype).to(torch.float64), scale.to(rows.dtype).to(torch.float64)
        rows = (rows - mean.to(rows.dtype)).mul_(scale.to(rows.dtype))
    counts = torch.bincount(labels, minlength=n_classes).to(torch.float64)  # (C,)
    sample = None
    if weights is not None:
        of_class = torch.from_numpy(np.array(weights, dtype=np.float64))
        of_class = of_class * len(labels) / (of_class @ counts)
        sample = of_class[labels, None].to(rows.dtype)  # (N, 1)
        counts = counts * of_class
    guess = torch.log(counts.clamp(min=0.5))
    problem = Problem(rows, mean, scale, far, labels, sample, guess - guess.mean())
    return replace(problem, unit=max(_constant_guess_gradient(problem), 1e-3))


def share(X: Features) -> Tensor:
    """`X` as a tensor on the same memory (float32 and float64), read-only arrays too."""
    array = X if X.dtype in (np.float32, np.float64) else X.astype(np.float32)
    with warnings.catch_warnings():  # torch warns of read-only arrays; nothing here writes to one
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (over N) of each column of `rows` (N, D), float64.

    The deviation is 0 where a feature does not vary by more than its own rounding. Raises HeadwayError where a
    value is not finite.
    """
    n, d = rows.shape
    size = max(1, _BLOCK // max(d, 1))
    blocks = [rows[low : low + size] for low in range(0, n, size)]
    mean = torch.zeros(d, dtype=torch.float64)
    for block in blocks:
        mean += block.sum(dim=0, dtype=torch.float64)
    mean /= n
    if not bool(torch.isfinite(mean).all()):
        column = int((~torch.isfinite(mean)).nonzero()[0])
        row = int((~torch.isfinite(rows[:, column])).to(torch.int8).argmax())
        raise HeadwayError(f"feature {column} of training row {row} is {float(rows[row, column])}, not a finite number")
    square = torch.zeros(d, dtype=torch.float64)
    for block in blocks:
        square += (block - mean).square_().sum(dim=0)  # float64, as mean is
    deviation = (square / n).sqrt()
    noise = 4 * torch.finfo(rows.dtype).eps * mean.abs()
    return mean, torch.where(deviation > noise, deviation, 0.0)


@dataclass(frozen=True)
class _Point:
    theta: Tensor  # (C, D + 1) float64
    logits: Tensor  # (N, C)
    loss: float
    iterations: int
    relative: float
    converged: bool


def _minimise(problem: Problem, theta: Tensor, l2: float, tolerance: float) -> _Point:
    """L-BFGS from `theta`, which is left as it is."""
    logits = problem.multiply(theta)  # (N, C), moved along with theta
    residual = torch.empty_like(logits)  # (N, C), w (p - y) at the last trial
    loss = _along(problem, logits, None, 0.0, residual)[0] + _penalty(theta, l2)
    gradient = problem.gradient(theta, residual, l2)
    pairs: deque[_Pair] = deque(maxlen=_history(theta))
    losses: deque[float] = deque([math.inf] * _PATIENCE, maxlen=_PATIENCE)
    rounding = 0.01 * torch.finfo(problem.rows.dtype).eps
    iterations = 0
    while float(gradient.norm()) > tolerance * problem.unit and iterations < _MAX_ITERATIONS:
        if losses[0] - loss <= rounding * loss:
            break  # the features' precision is used up
        losses.append(loss)
        step = _direction(gradient, pairs)  # (C, D + 1)
        change = problem.multiply(step)  # (N, C)
        trial = _trial(problem, logits, change, residual, (theta, step, l2))
        first = 1.0 if pairs else 1.0 / float(gradient.norm())
        found = _search(trial, loss, float((gradient * step).sum()), first)
        if found is None and not pairs:
            break  # not even steepest descent goes down
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
    return _Point(theta, logits, loss, iterations, relative, relative <= tolerance)


def _history(theta: Tensor) -> int:
    return max(10, min(_HISTORY, _HISTORY_BYTES // (2 * theta.numel() * theta.element_size())))


_Pair = tuple[Tensor, Tensor, float]  # step, change of the gradient, their product
_Trial = Callable[[float], tuple[float, float]]


def _constant_guess_gradient(problem: Problem) -> float:
    theta = problem.parameters(None)
    logits = theta[:, -1].to(problem.rows.dtype).expand(len(problem.rows), -1)  # (N, C)
    residual = torch.empty_like(logits, memory_format=torch.contiguous_format)
    _along(problem, logits, None, 0.0, residual)
    return float(problem.gradient(theta, residual, 0.0).norm())


def _penalty(theta: Tensor, l2: float) -> float:
    return 0.5 * l2 * float(theta[:, :-1].square().sum())


def _direction(gradient: Tensor, pairs: Sequence[_Pair]) -> Tensor:
    """-H gradient, H the inverse Hessian as the pairs tell it (algorithm 7.4, the two loops)."""
    direction, shares = -gradient, []
    for moved, turned, bend in reversed(pairs):
        shares.append(float((moved * direction).sum()) / bend)
        direction.add_(turned, alpha=-shares[-1])
    if pairs:
        _, turned, bend = pairs[-1]
        direction.mul_(bend / float(turned.square().sum()))
    for moved, turned, bend in pairs:
        direction.add_(moved, alpha=shares.pop() - float((turned * direction).sum()) / bend)
    return direction


def _trial(
    problem: Problem, logits: Tensor, change: Tensor, residual: Tensor, line: tuple[Tensor, Tensor, float]
) -> _Trial:
    """The objective and its slope at theta + t step, as a function of t. It leaves w (p - y) there in `residual`."""
    theta, step, l2 = line
    start = _penalty(theta, l2)
    slope = l2 * float((theta[:, :-1] * step[:, :-1]).sum())
    bend = l2 * float(step[:, :-1].square().sum())

    def trial(t: float) -> tuple[float, float]:
        loss, rise = _along(problem, logits, change, t, residual)
        return loss + start + t * (slope + 0.5 * t * bend), rise + slope + t * bend

    return trial


def _along(problem: Problem, logits: Tensor, change: Tensor | None, t: float, residual: Tensor) -> tuple[float, float]:
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

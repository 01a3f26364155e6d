"""Softmax regression to convergence: L-BFGS whose line search costs no pass over the features.

Objective, over standardised features x and weights W (C, D), bias b (C,), sample weights w of mean 1:

    F(W, b) = 1/N sum_i w_i * crossentropy(W x_i + b, y_i) + l2/2 * ||W||^2          (the bias is not penalised)

Logits are linear in the weights. So beside Z = X W^T the solver keeps D = X dW^T for the step direction dW: every trial
of the line search works on Z + t D, (N, C) numbers, and an iteration reads the features exactly twice: once for the
gradient, once for the direction. Everything of size N is float32 (or as the features are), everything of size (C, D),
and every sum over samples, is float64.

Method: limited-memory BFGS (`lbfgs`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.errors import HeadwayError
from headway.training.lbfgs import along, minimise, penalty

Features = NDArray[np.floating[Any]]
Start = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]

TOLERANCE = 1e-4  # "converged": gradient norm over that of the constant guess
LOOSE = 1e-2  # enough to tell one l2 from another: 1 % of validation log-loss when tried, in a sixth of the iterations
LARGE = 1e-3  # "converged" where an iteration takes seconds: on CIFAR-100 within 0.01 % of the optimum
_BLOCK = 1 << 20  # numbers that are looked through at once
_FAR = 128.0  # means further from zero than this many standard deviations lose too many digits unless subtracted
_ROWS = 8  # times D rows tell enough of how the features go together: with all of them it took as many iterations
_WIDEST = 8192  # features, whose covariances take half a gigabyte
_CURVATURE = 0.1  # times that of the constant guess: about what it is on the way, where fits are good


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
    together  (D, D) float64, covariances of standardised features; None where they would cost more than they save
    """

    rows: Tensor
    mean: Tensor
    scale: Tensor
    standard: bool
    labels: Tensor
    weights: Tensor | None
    guess: Tensor
    unit: float = 1.0
    together: Tensor | None = None

    def solve(self, l2: float, *, start: Start | None = None, tolerance: float = TOLERANCE) -> Solution:
        """As `fit_softmax`; for several `l2` of the same data the means are found once."""
        point = minimise(self, self.parameters(start), l2, tolerance)
        weight = (point.theta[:, :-1] * self.scale).to(torch.float32)  # (C, D)
        bias = point.theta[:, -1] - weight.to(torch.float64) @ self.mean  # the one that suits the rounded weights
        return Solution(
            weight=weight.numpy(),
            bias=bias.to(torch.float32).numpy(),
            l2=l2,
            iterations=point.iterations,
            loss=point.loss,
            log_loss=point.loss - penalty(point.theta, l2),
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

    def inverse_hessian(self, l2: float) -> Tensor | None:
        """About what it is for the weights and the bias of one class: (D + 1, D + 1) float64, or None.

        (k S + l2)^-1 with S = `together` and k a share of p (1 - p) at p = 1/C. With k = 1/2 it would bound the Hessian
        (Böhning 1992, "Multinomial logistic regression algorithm"); this only starts a method that learns the rest.
        """
        if self.together is None:
            return None
        n, chance = len(self.together), 1 / len(self.guess)
        k = _CURVATURE * chance * (1 - chance)
        whole = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        whole[:n, :n] = k * self.together
        whole.diagonal()[:n] += l2 + 1e-4 * k  # the latter for l2 = 0
        whole[n, n] = k  # standardised features have a mean of 0, so the bias goes with none of them
        return torch.cholesky_inverse(torch.linalg.cholesky(whole))

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
    return replace(problem, unit=max(_constant_guess_gradient(problem), 1e-3), together=_together(problem))


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


def _constant_guess_gradient(problem: Problem) -> float:
    theta = problem.parameters(None)
    logits = theta[:, -1].to(problem.rows.dtype).expand(len(problem.rows), -1)  # (N, C)
    residual = torch.empty_like(logits, memory_format=torch.contiguous_format)
    along(problem, logits, None, 0.0, residual)
    return float(problem.gradient(theta, residual, 0.0).norm())


def _together(problem: Problem) -> Tensor | None:
    """Covariances (D, D) of standardised features over some of the rows, evenly spread; None where it would not pay.

    They cost about as much as an iteration or two where there are many more rows than features, and save a third to a
    half of them.
    """
    n, d = problem.rows.shape
    if d > _WIDEST or n < 4 * d or 4 * n * len(problem.guess) < d * d or len(problem.guess) < 2:
        return None
    found, taken = torch.zeros(d, d, dtype=torch.float64), problem.rows[:: max(1, n // (_ROWS * d))]
    size = max(d, _BLOCK // d)
    for low in range(0, len(taken), size):
        rows = taken[low : low + size]
        if not problem.standard:
            rows = (rows - problem.mean.to(rows.dtype)) * problem.scale.to(rows.dtype)
        found += (rows.T @ rows).to(torch.float64)
    return found / len(taken)

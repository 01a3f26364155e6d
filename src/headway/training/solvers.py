"""Softmax regression to convergence, on features that need not fit in memory.

Objective, over standardised features x and weights W (C, D), bias b (C,), sample weights w of mean 1:

    F(W, b) = 1/N sum_i w_i * crossentropy(W x_i + b, y_i) + l2/2 * ||W||^2          (the bias is not penalised)

F and its gradient are worked out block by block in one pass over the features (`Problem.evaluate`): neither logits
(N, C) nor a standardised copy are ever there as a whole. Everything of size N is float32 (or as the features are),
everything of size (C, D), and every sum over samples, is float64.

Method: limited-memory BFGS (`lbfgs`), on a `design` matrix in memory or in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from headway.training.curvature import Memory
from headway.training.design import Design, Features, in_memory, moments
from headway.training.lbfgs import Point, minimise

Start = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]

TOLERANCE = 1e-4  # "converged": gradient norm over that of the constant guess
LOOSE = 1e-2  # enough to tell one l2 from another: 1 % of validation log-loss when tried, in a sixth of the iterations
LARGE = 1e-3  # "converged" where an iteration takes seconds: on CIFAR-100 within 0.01 % of the optimum
SHRINK = 20  # images
_FAR = 128.0  # means further from zero than this many standard deviations lose too many digits unless subtracted
_ROWS = 8  # times D rows tell enough of how the features go together: with all of them it took as many iterations
_WIDEST = 8192  # features, whose covariances take half a gigabyte
_MANY, _WIDE = 1024, 16  # rows of a block, and classes
_CURVATURE = 0.1  # times that of the constant guess: about what it is on the way, where fits are good


@dataclass(frozen=True)
class Solution:
    """A softmax regression on raw features: standardisation is folded in.

    weight      (C, D) float32; bias (C,) float32
    l2          the penalty, per unit of the mean loss and of standardised weights
    iterations  of L-BFGS;  passes  over the features that they took, mostly one each
    loss        the objective at the end; log_loss its first term (weighted by class weights where they were given)
    accuracy    on the rows it was fitted on, 0..1
    gradient    norm of the gradient at the end, relative to that of the constant guess
    converged   whether `gradient` reached the tolerance
    point       the end as the solver knows it, to start another fit of the same problem from
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    l2: float
    iterations: int
    passes: int
    loss: float
    log_loss: float
    accuracy: float
    gradient: float
    converged: bool
    point: Point


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
    problem, memory = pose(X, y, n_classes, weights=weights), Memory()
    begin: Start | Point | None = start
    for l2 in l2s:
        solution = problem.solve(l2, start=begin, tolerance=tolerance, memory=memory)
        begin = solution.point
        yield solution


@dataclass(frozen=True)
class Problem:
    """The data of F, ready to be solved for any l2. Made by `pose`.

    rows      (N, D), the features; standardised row = (row - mean) * scale, which is folded into the products
    mean      (D,) float64; scale (D,) float64, 1 / standard deviation, 0 for a feature that does not vary
    standard  whether `rows` give standardised blocks already
    labels    (N,) int64
    weights   (N, 1) like rows, of mean 1; None = all one
    constant  (C,) float64, the bias of the constant guess
    origin    what is known of it
    unit      norm of its gradient, at least 1e-3, so that features without a signal converge too
    together  (D, D) float64, covariances of standardised features; None where they would cost more than they save
    """

    rows: Design
    mean: Tensor
    scale: Tensor
    standard: bool
    labels: Tensor
    weights: Tensor | None
    constant: Tensor
    origin: Point | None = None
    unit: float = 1.0
    together: Tensor | None = None

    def solve(
        self,
        l2: float,
        *,
        start: Start | Point | None = None,
        tolerance: float = TOLERANCE,
        memory: Memory | None = None,
    ) -> Solution:
        """As `fit_softmax`; for several `l2` of the same data the means are found once.

        start   also where another fit of this problem ended: that costs no pass, and loses no digits
        memory  of the fits of this problem, in turn: what the curvature was on the way saves the next one iterations
        """
        begin = start if isinstance(start, Point) else None if start is not None else self.origin
        extra = begin is None
        begin = begin or self.evaluate(self.parameters(start if isinstance(start, tuple) else None))
        found = minimise(self, begin, l2, tolerance, memory)
        point = found.point
        weight = (point.theta[:, :-1] * self.scale).to(torch.float32)  # (C, D)
        bias = point.theta[:, -1] - weight.to(torch.float64) @ self.mean  # the one that suits the rounded weights
        return Solution(
            weight=weight.numpy(),
            bias=bias.to(torch.float32).numpy(),
            l2=l2,
            iterations=found.iterations,
            passes=found.passes + extra,
            loss=point.objective(l2),
            log_loss=point.loss,
            accuracy=point.right / len(self.labels),
            gradient=found.relative,
            converged=found.converged,
            point=point,
        )

    def parameters(self, start: Start | None) -> Tensor:
        """(C, D + 1) float64: weights of standardised features, then the bias, from those on raw features."""
        theta = torch.zeros(len(self.constant), self.rows.shape[1] + 1, dtype=torch.float64)
        theta[:, -1] = self.constant
        if start is not None:
            weight, bias = (torch.from_numpy(np.array(part, dtype=np.float64)) for part in start)
            theta[:, :-1] = torch.where(self.scale > 0, weight / self.scale, 0.0)
            theta[:, -1] = bias + weight @ self.mean
        return theta

    def evaluate(self, theta: Tensor) -> Point:
        """Loss and gradient at `theta` (C, D + 1), the penalty left out: one pass over the features."""
        n = len(self.rows)
        weight, bias = self._folded(theta)
        product = torch.zeros(len(theta), theta.shape[1] - 1, dtype=torch.float64)  # (C, D)
        total = torch.zeros(len(theta), dtype=torch.float64)  # (C,)
        loss, right = 0.0, 0
        for part, rows in self.rows.blocks(beside=len(theta)):
            logits = _logits(rows, weight, bias)  # (n, C)
            target = self.labels[part]
            right += int((logits.argmax(dim=1) == target).sum())
            logits = torch.log_softmax(logits, dim=1)
            losses = logits.gather(1, target[:, None])  # (n, 1), minus the loss
            residual = logits.exp_()  # p, then w (p - y)
            residual.scatter_add_(1, target[:, None], residual.new_full((1, 1), -1.0).expand(len(rows), 1))
            if self.weights is not None:
                losses = losses * self.weights[part]
                residual.mul_(self.weights[part])
            loss -= float(losses.sum(dtype=torch.float64))
            total += residual.sum(dim=0, dtype=torch.float64)
            product += residual.T @ rows
        if not self.standard:
            product.addr_(total, self.mean, alpha=-1.0).mul_(self.scale)
        slope = torch.cat([product, total[:, None]], dim=1).div_(n)
        return Point(theta, loss / n, slope, right)

    def inverse_hessian(self, l2: float) -> Tensor | None:
        """About what it is for the weights and the bias of one class: (D + 1, D + 1) float64, or None.

        (k S + l2)^-1 with S = `together` and k a share of p (1 - p) at p = 1/C. With k = 1/2 it would bound the Hessian
        (Böhning 1992, "Multinomial logistic regression algorithm"); this only starts a method that learns the rest.
        """
        if self.together is None:
            return None
        n, chance = len(self.together), 1 / len(self.constant)
        k = _CURVATURE * chance * (1 - chance)
        whole = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        whole[:n, :n] = k * self.together
        whole.diagonal()[:n] += l2 + 1e-4 * k  # the latter for l2 = 0
        whole[n, n] = k  # standardised features have a mean of 0, so the bias goes with none of them
        return torch.cholesky_inverse(torch.linalg.cholesky(whole))

    def _folded(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (C, D) and bias (C,) for the rows as they are, of their type."""
        weight, bias = theta[:, :-1], theta[:, -1]
        if not self.standard:
            weight = weight * self.scale
        weight = weight.to(self.rows.dtype)
        if not self.standard:
            bias = bias - weight.to(torch.float64) @ self.mean  # the one that suits the rounded weights
        return weight, bias.to(self.rows.dtype)


def pose(
    X: Features | Design,
    y: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    weights: NDArray[np.floating[Any]] | None = None,
    widths: Sequence[int] = (),
) -> Problem:
    """Look through the features: means and deviations, the constant guess, how they go together. Copies none of them.

    widths  how many columns each tap has, side by side: deviations are then shrunk within taps, see `shrunk`; () = not
    Where a mean is so far from zero that digits would be lost, blocks are standardised when they are read.
    """
    if len(X) == 0 or len(X) != len(y):
        raise ValueError(f"{len(X)} rows of features, {len(y)} labels")
    rows = X if isinstance(X, Design) else in_memory(X)
    labels = torch.from_numpy(np.array(y, dtype=np.int64))
    mean, deviation = moments(rows)
    if widths:
        deviation = shrunk(deviation, len(rows), widths)
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    far = bool((mean.abs() * scale > _FAR).any())
    if far:  # what is subtracted and multiplied is float32; fold back just that
        mean, scale = mean.to(rows.dtype).to(torch.float64), scale.to(rows.dtype).to(torch.float64)
        rows = rows.standardised(mean, scale)
    counts = torch.bincount(labels, minlength=n_classes).to(torch.float64)  # (C,)
    sample = None
    if weights is not None:
        of_class = torch.from_numpy(np.array(weights, dtype=np.float64))
        of_class = of_class * len(labels) / (of_class @ counts)
        sample = of_class[labels, None].to(rows.dtype)  # (N, 1)
        counts = counts * of_class
    constant = torch.log(counts.clamp(min=0.5))
    problem = Problem(rows, mean, scale, far, labels, sample, constant - constant.mean())
    origin = problem.evaluate(problem.parameters(None))
    unit = max(float(origin.slope.norm()), 1e-3)
    return replace(problem, origin=origin, unit=unit, together=_together(problem))


def shrunk(deviation: Tensor, n: int, widths: Sequence[int]) -> Tensor:
    """Deviations (D,) as `SHRINK` more images would make them whose features all had the mean variance of their tap.

    The deviation of a feature on a handful of images is mostly chance: divided by it, those that chance made small
    drown the others (CIFAR-100, 2 classes of 5 images: accuracy 0.82, with this 0.96). 0 stays 0.
    """
    parts = [part.square() for part in torch.split(deviation, list(widths))]
    mixed = torch.cat([(n * part + SHRINK * part.mean()) / (n + SHRINK) for part in parts])
    return torch.where(deviation > 0, mixed.sqrt(), 0.0)


def _logits(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """rows (n, D) by weight (C, D), and bias (C,): logits (n, C).

    Many rows go as the pixels of an image through a convolution of 1 x 1: that is oneDNN's, and with 16 classes or more
    it took 0.5 to 0.9 of the time of MKL's product (2 cores of an AMD EPYC).
    """
    many = len(rows) >= _MANY and len(weight) >= _WIDE
    ours = rows.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (many and ours and rows.is_contiguous()):
        return torch.addmm(bias, rows, weight.T)
    pixels = rows[None, :, None].permute(0, 3, 1, 2)  # (1, D, n, 1), channels last
    return functional.conv2d(pixels, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(len(rows), -1)


def _together(problem: Problem) -> Tensor | None:
    """Covariances (D, D) of standardised features over some of the rows, evenly spread; None where it would not pay.

    They cost about as much as an iteration or two where there are many more rows than features, and save a third to a
    half of them.
    """
    n, d = problem.rows.shape
    c = len(problem.constant)
    if d > _WIDEST or n < 4 * d or 4 * n * c < d * d or c < 2:
        return None
    found, taken = torch.zeros(d, d, dtype=torch.float64), problem.rows.sample(max(1, n // (_ROWS * d)))
    for low in range(0, len(taken), d):
        rows = taken[low : low + d]
        if not problem.standard:
            rows = (rows - problem.mean.to(rows.dtype)) * problem.scale.to(rows.dtype)
        found += rows.T @ rows
    return found / len(taken)

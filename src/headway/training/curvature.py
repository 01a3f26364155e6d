"""What L-BFGS knows of the curvature: steps and how the gradient changed along them, as the inverse Hessian they make.

The compact form of Byrd, Nocedal and Schnabel (1994, "Representations of quasi-Newton matrices", eq. 2.6 and 2.25),
with the steps and changes as columns of S and Y, the oldest first:

    H = H0 + [S, Z] [[R^-T (D + W) R^-1, -R^-T], [-R^-1, 0]] [S, Z]^T

where Z = H0 Y, W = Y^T Z, and R, D are the upper triangle and the diagonal of S^T Y. It gives what the two loops over
pairs give (Nocedal and Wright 2006, algorithm 7.4), in four products of a matrix with a vector: the loops over fifty
pairs took two thirds of a small fit. Pairs are kept as float32. They only say where to look: whether a point is better,
and when it is good enough, is found in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HISTORY, _HISTORY_BYTES = 50, 256 << 20  # pairs, and what they may take; ten are always kept
_LEAST = 1e-12  # what a step and its change must have in common, of their lengths


@dataclass(frozen=True)
class _Seen:
    """A gradient, what the guess makes of it (P,) float32, its products with every step and every Z, (m,) float64."""

    gradient: Tensor
    guessed: Tensor
    along: Tensor
    turned: Tensor


class Memory:
    """What fits of one problem learn of its curvature, each from those before.

    Rows of matrices (m, P) hold the pairs, the oldest first in `_order`; what is newest takes the row of the oldest.
    """

    def __init__(self) -> None:
        self._l2 = 0.0
        self._guess: Tensor | None = None
        self._order: list[int] = []
        self._seen: _Seen | None = None
        self._steps = self._bare = self._guessed = torch.empty(
            0, 0
        )  # bare: changes of the gradient without the penalty
        self._bends = self._whole = torch.empty(0, 0, dtype=torch.float64)  # S^T Y where it is asked for, and W

    def __len__(self) -> int:
        return len(self._order)

    def clear(self) -> None:
        """Forget the pairs."""
        self._order, self._seen = [], None

    def under(self, l2: float, guess: Tensor | None) -> None:
        """From now on the penalty is `l2`: along a step s it changes the gradient by l2 s, the bias apart.

        guess  (D + 1, D + 1) float64, about the inverse Hessian of each class; None = a multiple of the identity
        """
        same, self._l2, self._seen = l2 == self._l2, l2, None
        self._guess = None if guess is None else guess.float()
        if same or not self._order:
            return
        m = len(self._order)
        steps = self._steps[:m]
        turns = self._bare[:m] + l2 * self._weights(steps)
        self._guessed[:m] = self._through(turns)
        self._bends[:m, :m] = (steps @ turns.T).double()
        self._whole[:m, :m] = (self._guessed[:m] @ turns.T).double()
        bends = self._bends.diagonal()[:m]
        good = bends > _LEAST * steps.norm(dim=1) * turns.norm(dim=1)
        self._keep([row for row in self._order if good[row]])

    def direction(self, gradient: Tensor) -> Tensor:
        """-H gradient, both (C, D + 1) float64."""
        if not self._steps.numel():
            self._make(gradient)
        seen, m = self._look(gradient), len(self._order)
        if not m:
            return -seen.guessed.double().view_as(gradient)
        order = torch.tensor(self._order)
        bends, whole = self._bends[order][:, order], self._whole[order][:, order]
        scale = float(bends[-1, -1] / whole[-1, -1])  # of the guess, by the newest pair
        upper = bends.triu()
        u = torch.linalg.solve_triangular(upper, seen.along[order, None], upper=True)
        v = bends.diagonal()[:, None] * u + scale * (whole @ u - seen.turned[order, None])
        v = torch.linalg.solve_triangular(upper.T, v, upper=False)
        shares = torch.zeros(2, m)
        shares[0, order], shares[1, order] = v[:, 0].float(), scale * u[:, 0].float()
        step = -scale * seen.guessed
        step.addmv_(self._steps[:m].T, shares[0], alpha=-1)
        step.addmv_(self._guessed[:m].T, shares[1])
        return step.double().view_as(gradient)

    def learn(self, moved: Tensor, before: Tensor, gradient: Tensor) -> None:
        """Keep a step from where the gradient was `before`, the last that a direction was asked for, to `gradient`."""
        turned = gradient - before
        bend = float(torch.dot(moved.view(-1), turned.view(-1)))
        if bend <= _LEAST * float(moved.norm()) * float(turned.norm()):
            return
        old, flat = self._look(before), before.view(-1).float()
        row = self._order.pop(0) if len(self._order) == len(self._steps) else len(self._order)
        self._order.append(row)
        m = len(self._order)
        step = moved.view(1, -1)
        self._steps[row] = step[0]
        self._bare[row] = (turned.view(1, -1) - self._l2 * self._weights(step))[0]
        guessed = self._through(gradient.view(1, -1).float())[0]
        self._guessed[row] = guessed - old.guessed
        new = self._look(gradient, guessed)
        # Products with the change are those with the gradient after less those before: no other pass over the pairs.
        for kept, found, after, earlier in (
            (self._steps, self._bends, new.along, old.along),
            (self._guessed, self._whole, new.turned, old.turned),
        ):
            known = after.new_zeros(m)
            known[: len(earlier)] = earlier
            known[row] = float(torch.dot(kept[row], flat))
            found[:m, row] = after - known
        self._whole[row, :m] = self._whole[:m, row].clone()
        self._bends[row, row] = bend

    def _make(self, like: Tensor) -> None:
        """Room for as many pairs as are kept."""
        size = like.numel()
        most = max(10, min(_HISTORY, _HISTORY_BYTES // (3 * 4 * size)))
        self._width = like.shape[-1]
        self._steps, self._bare, self._guessed = (torch.empty(most, size) for _ in range(3))
        self._bends, self._whole = (torch.zeros(most, most, dtype=torch.float64) for _ in range(2))

    def _look(self, gradient: Tensor, guessed: Tensor | None = None) -> _Seen:
        """A gradient beside the pairs, unless it is the one that was seen last."""
        if self._seen is None or self._seen.gradient is not gradient or len(self._seen.along) != len(self._order):
            m, flat = len(self._order), gradient.view(-1).float()
            along, turned = (self._steps[:m] @ flat).double(), (self._guessed[:m] @ flat).double()
            guessed = self._through(flat[None])[0] if guessed is None else guessed
            self._seen = _Seen(gradient, guessed, along, turned)
        return self._seen

    def _keep(self, rows: list[int]) -> None:
        """These pairs alone, where not all of them are good any more."""
        if len(rows) == len(self._order):
            return
        m = len(rows)
        for kept in (self._steps, self._bare, self._guessed):
            kept[:m] = kept[rows]
        for found in (self._bends, self._whole):
            found[:m, :m] = found[rows][:, rows]
        self._order = list(range(m))

    def _through(self, rows: Tensor) -> Tensor:
        """Rows (k, P) as the guess changes them."""
        if self._guess is None:
            return rows.clone()
        return (rows.view(-1, self._width) @ self._guess).view(len(rows), -1)

    def _weights(self, rows: Tensor) -> Tensor:
        """Rows (k, P) with 0 where the bias is, which is not penalised."""
        found = rows.clone()
        found.view(len(rows), -1, self._width)[:, :, -1] = 0
        return found

"""What is known of the curvature gives the direction of the two loops over pairs, however it came to be known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from headway.training import curvature
from headway.training.curvature import Memory

C, D = 3, 7
Pairs = list[tuple[Tensor, Tensor]]


def two_loops(gradient: Tensor, pairs: Pairs, guess: Tensor) -> Tensor:
    """Algorithm 7.4 of Nocedal and Wright (2006), from `guess` scaled by the newest pair (eq. 7.20)."""
    direction, shares = gradient.clone(), []
    for s, y in reversed(pairs):
        shares.append((s * direction).sum() / (s * y).sum())
        direction -= shares[-1] * y
    s, y = pairs[-1]
    direction = direction @ guess * (s * y).sum() / (y * (y @ guess)).sum()
    for s, y in pairs:
        direction += s * (shares.pop() - (y * direction).sum() / (s * y).sum())
    return -direction


class Bowl:
    """A quadratic loss with its own curvature for every class, and steps on it."""

    def __init__(self, seed: int, l2: float) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        mixed = torch.randn(D + 1, D + 1, generator=self.draw, dtype=torch.float64)
        self.hessian, self.l2 = mixed @ mixed.T + 0.1 * torch.eye(D + 1, dtype=torch.float64), l2

    def gradient(self, theta: Tensor) -> Tensor:
        found = theta @ self.hessian
        found[:, :-1] += self.l2 * theta[:, :-1]
        return found

    def steps(self, n: int, memory: Memory) -> Iterator[tuple[Tensor, Tensor]]:
        """`n` steps, told to `memory`: each with what the gradient changed by."""
        theta = torch.randn(C, D + 1, generator=self.draw, dtype=torch.float64)
        gradient = self.gradient(theta)
        for _ in range(n):
            memory.direction(gradient)
            moved = torch.randn(C, D + 1, generator=self.draw, dtype=torch.float64)
            theta = theta + moved
            before, gradient = gradient, self.gradient(theta)
            memory.learn(moved, before, gradient)
            yield moved, gradient - before


def guessed(bowl: Bowl, asked: bool) -> Tensor | None:
    """A guess as solvers make one: symmetric and positive; or none."""
    return torch.linalg.inv(bowl.hessian + torch.eye(D + 1, dtype=torch.float64)) if asked else None


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("n", [1, 4, 9])
def test_direction__is_that_of_the_two_loops(asked: bool, n: int) -> None:
    bowl = Bowl(n, 0.3)
    guess, memory = guessed(bowl, asked), Memory()
    memory.under(0.3, guess)
    pairs = list(bowl.steps(n, memory))
    gradient = torch.randn(C, D + 1, generator=bowl.draw, dtype=torch.float64)

    found = memory.direction(gradient)

    truth = two_loops(gradient, pairs, torch.eye(D + 1, dtype=torch.float64) if guess is None else guess)
    assert len(memory) == n
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5 * float(truth.norm()))


@pytest.mark.parametrize("asked", [False, True])
def test_history__the_newest_pairs_stay(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curvature, "_HISTORY", 10)
    bowl = Bowl(5, 0.0)
    guess, memory = guessed(bowl, asked), Memory()
    memory.under(0.0, guess)
    pairs = list(bowl.steps(23, memory))
    gradient = torch.randn(C, D + 1, generator=bowl.draw, dtype=torch.float64)

    found = memory.direction(gradient)

    truth = two_loops(gradient, pairs[-10:], torch.eye(D + 1, dtype=torch.float64) if guess is None else guess)
    assert len(memory) == 10
    torch.testing.assert_close(found, truth, rtol=1e-3, atol=1e-4 * float(truth.norm()))


@pytest.mark.parametrize(("asked", "then"), list(itertools.product([False, True], [0.0, 0.01, 20.0])))
def test_penalty__pairs_are_those_of_another_one(asked: bool, then: float) -> None:
    bowl = Bowl(7, 1.0)
    guess, memory = guessed(bowl, asked), Memory()
    memory.under(1.0, guess)
    pairs = list(bowl.steps(6, memory))
    gradient = torch.randn(C, D + 1, generator=bowl.draw, dtype=torch.float64)

    memory.under(then, guess)
    found = memory.direction(gradient)

    weights = torch.ones(D + 1, dtype=torch.float64)
    weights[-1] = 0
    pairs = [(s, y + (then - 1.0) * s * weights) for s, y in pairs]
    truth = two_loops(gradient, pairs, torch.eye(D + 1, dtype=torch.float64) if guess is None else guess)
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5 * float(truth.norm()))


def test_no_pairs__straight_down() -> None:
    memory, gradient = Memory(), torch.arange(24, dtype=torch.float64).view(3, 8)
    memory.under(0.1, None)

    assert torch.equal(memory.direction(gradient), -gradient)


def test_pair_that_does_not_bend_up__is_not_kept() -> None:
    memory, gradient = Memory(), torch.ones(3, 8, dtype=torch.float64)
    memory.under(0.1, None)
    memory.direction(gradient)

    memory.learn(torch.ones(3, 8, dtype=torch.float64), gradient, gradient - 1.0)

    assert len(memory) == 0


def test_penalty__pairs_that_it_alone_bent_up_are_left_out() -> None:
    memory, gradient = Memory(), torch.zeros(1, 3, dtype=torch.float64)
    memory.under(2.0, None)
    for at, own in enumerate((0.0, 1.0, 0.0, 0.5)):  # curvature of the loss along each step
        moved = torch.zeros(1, 3, dtype=torch.float64)
        moved[0, at % 2] = 1.0
        memory.direction(gradient)
        before, gradient = gradient, gradient + (own + 2.0) * moved
        memory.learn(moved, before, gradient)
    assert len(memory) == 4

    memory.under(0.0, None)

    assert len(memory) == 2
    assert torch.isfinite(memory.direction(gradient)).all()


def test_clear__begins_anew() -> None:
    bowl, memory = Bowl(3, 0.0), Memory()
    memory.under(0.0, None)
    list(bowl.steps(5, memory))
    memory.clear()
    gradient = torch.randn(C, D + 1, generator=bowl.draw, dtype=torch.float64)

    assert len(memory) == 0
    torch.testing.assert_close(memory.direction(gradient), -gradient, rtol=1e-6, atol=1e-6)
    pairs = list(bowl.steps(2, memory))
    torch.testing.assert_close(
        memory.direction(gradient),
        two_loops(gradient, pairs, torch.eye(D + 1, dtype=torch.float64)),
        rtol=1e-4,
        atol=1e-4,
    )

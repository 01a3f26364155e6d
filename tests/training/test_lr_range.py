from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headway.errors import Stopped
from headway.training.loop import LoopSettings, Rows, Task
from headway.training.lr_range import find_lr, smoothed, steepest
from headway.world import ALONE
from tests.training import nets

SETTINGS = LoopSettings(batch=30, optimizer="sgd", momentum=0.0, epochs=5, schedule="none")


def linear_task() -> Task:
    """Softmax regression on features of length ~ 5: too high a rate makes it diverge."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    centres = np.random.default_rng(9).normal(size=(3, 12))
    features = torch.from_numpy((centres[labels] + random.normal(size=(120, 12))).astype(np.float32))
    model = nn.Linear(12, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    rows = Rows(nets.feed_of(features), labels)
    return Task(model, rows, rows)


def test_find_lr__finds_a_rate_that_learns_fast_and_does_not_diverge() -> None:
    found = find_lr(linear_task(), SETTINGS, ALONE)
    losses = {
        lr: nets.trained(linear_task(), replace(SETTINGS, lr=lr)).epochs[-1].train_loss
        for lr in (found.lr / 30, found.lr)
    }
    assert losses[found.lr] < 0.5 * losses[found.lr / 30]
    assert 1e-3 < found.lr < 10
    rates, values = zip(*found.tried, strict=True)
    assert list(rates) == sorted(rates)
    assert rates[0] == pytest.approx(1e-6)
    assert all(math.isfinite(value) for value in values)
    assert (
        found.why
        == f"The loss falls steepest at {found.lr:.3g} (range test of {len(rates)} rates up to {rates[-1]:.3g})."
    )


def test_find_lr__stops_where_it_diverges() -> None:
    """The same model on features ten times as large bears a rate 100 times smaller."""
    small = find_lr(linear_task(), SETTINGS, ALONE)
    task = linear_task()
    rows = Rows(lambda batches, epoch: (10 * part for part in task.train.feed(batches, epoch)), task.train.labels)
    large = find_lr(Task(task.model, rows, rows), SETTINGS, ALONE)
    assert large.lr == pytest.approx(small.lr / 100, rel=0.5)
    assert len(large.tried) < 100
    assert large.tried[-1][0] < small.tried[-1][0]


def test_find_lr__leaves_the_model_as_it_was_and_gives_the_same_again() -> None:
    task = nets.task(44)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    task.model.eval()
    state = torch.random.get_rng_state()
    settings = replace(SETTINGS, batch=12, optimizer="adamw", mixup=0.2)
    first = find_lr(task, settings, ALONE)
    assert nets.same_bits(dict(task.model.state_dict()), before)
    assert not task.model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(123)
    assert find_lr(task, settings, ALONE) == first


def test_find_lr__where_nothing_can_be_learnt_the_rate_stands() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3].float() * 0 + self.weight * 0

    found = find_lr(nets.task(44, Deaf()), replace(SETTINGS, lr=0.123), ALONE)
    assert (found.lr, found.why) == (0.123, "The loss fell at no rate tried; --lr 0.123 stands.")


def test_find_lr__takes_fewer_images_at_once_where_memory_ends() -> None:
    class Heavy(nets.ConvNet):
        holds = 5

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > self.holds:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(images)

    assert find_lr(nets.task(44, Heavy()), replace(SETTINGS, batch=12), ALONE).lr > 0
    heavy = Heavy()
    heavy.holds = 0
    with pytest.raises(Stopped):
        find_lr(nets.task(44, heavy), replace(SETTINGS, batch=12), ALONE)


def test_steepest__is_where_a_known_curve_falls_most() -> None:
    """A falling half wave of the logarithm of the rate between 1e-3 and 1e-1, then up: steepest near 1e-2."""
    rates = np.geomspace(1e-6, 10, 200)
    place = np.clip((np.log10(rates) + 3) / 2, 0, 1)
    losses = 1 + np.cos(np.pi * place) + 10 * np.clip(np.log10(rates), 0, None)
    found = steepest(rates.tolist(), losses.tolist())
    assert found is not None
    assert 1e-2 <= found < 3e-2  # smoothing looks back
    assert steepest(rates.tolist(), (-losses).tolist()) != found
    assert steepest(rates.tolist(), np.arange(200.0).tolist()) is None
    assert steepest([], []) is None


def test_smoothed__keeps_a_constant_and_has_no_pull_to_zero() -> None:
    assert smoothed([2.0] * 30) == pytest.approx([2.0] * 30)
    assert smoothed([3.0, 1.0])[1] == pytest.approx((0.9 * 0.1 * 3 + 0.1 * 1) / (1 - 0.81))

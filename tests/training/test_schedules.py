from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from headway.errors import Refused
from headway.training.batches import shuffle
from headway.training.loop import LoopSettings
from headway.training.optimizers import (
    make_optimizer,
    momentum_of,
    optimizer_tensors,
    restore_optimizer,
    set_rates,
)
from headway.training.schedules import Course, Schedule, parse_schedule
from tests.training import nets


def theirs(make: Any, steps: int, lr: float = 0.2, **options: Any) -> list[tuple[float, float]]:
    """Rate and momentum of each step, by a scheduler of torch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    schedule = make(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("epochs", [1, 5, 20])
@pytest.mark.parametrize("per_epoch", [1, 7])
def test_course__is_that_of_torch(epochs: int, per_epoch: int) -> None:
    steps = epochs * per_epoch
    cosine = [rate for rate, _ in theirs(lr_scheduler.CosineAnnealingLR, steps, T_max=steps)]
    falling = [
        rate for rate, _ in theirs(lr_scheduler.StepLR, epochs, step_size=7, gamma=0.1) for _ in range(per_epoch)
    ]
    expected = {"cosine": cosine, "step:7:0.1": falling, "none": [0.2] * steps}
    for name, rates in expected.items():
        course = Course.of(name, per_epoch, epochs)
        assert [0.2 * course.factor(step) for step in range(steps)] == pytest.approx(rates, abs=1e-9), name


@pytest.mark.parametrize("steps", [2, 3, 4, 10, 100])
def test_course__one_cycle_is_that_of_torch(steps: int) -> None:
    """Its last step has the lowest rate: the schedule ends where training does."""
    options = {"max_lr": 0.2, "total_steps": steps + 1, "base_momentum": 0.8, "max_momentum": 0.9}
    rates = theirs(lr_scheduler.OneCycleLR, steps + 1, **options)
    course = Course.of("onecycle", steps + 1, 1)
    assert [0.2 * course.factor(step) for step in range(steps + 1)] == pytest.approx([rate for rate, _ in rates])
    assert [course.momentum(step, 0.9) for step in range(steps + 1)] == pytest.approx([one for _, one in rates])
    assert course.factor(steps) == pytest.approx(1 / 250_000)


def test_course__one_step_has_the_lowest_rate_of_a_cycle() -> None:
    assert Course.of("onecycle", 1, 1).factor(0) > 0


def test_course__momentum_stays_without_a_cycle() -> None:
    assert {Course.of("cosine", 10, 1).momentum(step, 0.7) for step in range(10)} == {0.7}
    assert {Course.of("onecycle", 10, 1).momentum(step, 0.0) for step in range(10)} == {0.0}
    assert min(Course.of("onecycle", 10, 1).momentum(step, 0.05) for step in range(10)) == 0.0


@pytest.mark.parametrize("name", ["none", "cosine", "step:1:0.5"])
def test_course__warm_up_is_linear_and_the_schedule_ends_all_the_same(name: str) -> None:
    course = Course.of(name, 10, 4, warmup=1.0)
    rise = [course.factor(step) for step in range(10)]
    assert rise[0] == 0.01
    assert [after - before for before, after in pairwise(rise)] == pytest.approx([0.099] * 9)
    assert course.factor(10) == {"step:1:0.5": 0.5}.get(name, 1.0)
    if name == "cosine":
        assert course.factor(39) < 0.01
    assert Course.of(name, 10, 4, warmup=99.0).warm == 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", Schedule("none")), ("onecycle", Schedule("onecycle")), ("step:7:0.1", Schedule("step", 7, 0.1))],
)
def test_parse_schedule__understands(text: str, expected: Schedule) -> None:
    assert parse_schedule(text) == expected


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("cosin", "cosine"),
        ("one-cycle", "onecycle"),
        ("step:0:0.1", "step:7:0.1"),
        ("step:7:2", "step:7:0.1"),
        ("step", "step:7:0.1"),
        ("none:3", "none"),
    ],
)
def test_parse_schedule__a_wrong_word_is_refused(text: str, near: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_schedule(text)
    assert str(caught.value) == (
        f"--schedule {text} is not known. Nearest: {near}. "
        "Known: none, cosine, onecycle, step:EVERY:FACTOR (step:7:0.1 = times 0.1 every 7 epochs)"
    )


def test_train__rate_and_momentum_move_with_every_step() -> None:
    """The losses of a plain loop with torch's scheduler, stepped after every batch."""
    settings = LoopSettings(batch=12, epochs=2, optimizer="sgd", lr=0.3, schedule="onecycle")
    trained = nets.trained(nets.task(44, nets.network(norm=False, dropout=0.0)), settings)

    model = nets.network(norm=False, dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=8, base_momentum=0.8, max_momentum=0.9)
    pixels, labels = nets.images(44)
    for epoch in (1, 2):
        total = 0.0
        assert trained.epochs[epoch - 1].lr == pytest.approx(optimizer.param_groups[0]["lr"])
        for batch in torch.split(torch.from_numpy(shuffle(44, 0, epoch)), 12):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(pixels[batch]), torch.from_numpy(labels)[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if schedule.last_epoch < 7:
                schedule.step()
            total += float(loss.detach()) * len(batch)
        assert trained.epochs[epoch - 1].train_loss == pytest.approx(total / 44, rel=1e-5)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained.state[name], tensor, rtol=1e-4, atol=1e-6)


def test_set_rates__scales_groups_and_moves_momentum() -> None:
    model = nets.network(norm=False)
    depths = {name: 0 if name.startswith("first") else 1 for name, _ in model.named_parameters()}
    settings = LoopSettings(layer_decay=0.5, weight_decay=0.3)
    for kind, key in (("sgd", "momentum"), ("adam", "betas"), ("adamw", "betas")):
        optimizer = make_optimizer(model, depths, replace(settings, optimizer=kind))
        assert momentum_of(replace(settings, optimizer=kind)) == 0.9
        set_rates(optimizer, 0.1, 0.7)
        groups = [(group["lr"], group["weight_decay"], group[key]) for group in optimizer.param_groups]
        moved = 0.7 if kind == "sgd" else (0.7, 0.999)
        assert groups == [(0.05, 0.0, moved), (0.05, 0.3, moved), (0.1, 0.0, moved), (0.1, 0.3, moved)]
        set_rates(optimizer, 0.2, None)
        assert optimizer.param_groups[-1][key] == moved
    held = {id(part) for group in optimizer.param_groups for part in group["params"]}
    assert held == {id(part) for part in model.parameters()}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_restore_optimizer__the_next_step_is_the_same_bits(kind: str) -> None:
    settings = LoopSettings(optimizer=kind, lr=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            # Autograd lays gradients out as their parameters.
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))
        optimizer.step()

    one, other = nets.network(), nets.network()
    one.to(memory_format=torch.channels_last)
    other.to(memory_format=torch.channels_last)
    first = make_optimizer(one, {}, settings)
    step(one, first, 1)
    other.load_state_dict(one.state_dict())
    second = make_optimizer(other, {}, settings)
    saved = {name: tensor.contiguous().clone() for name, tensor in optimizer_tensors(first, one).items()}
    assert all("/" in name for name in saved)
    restore_optimizer(second, other, saved)
    step(one, first, 2)
    step(other, second, 2)
    assert nets.same_bits(dict(one.state_dict()), dict(other.state_dict()))
    for name, tensor in optimizer_tensors(second, other).items():
        assert tensor.stride() == optimizer_tensors(first, one)[name].stride()

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.training.batches import shuffle
from headway.training.loop import (
    Epoch,
    LoopSettings,
    Rows,
    Step,
    Task,
    predict,
    train,
)
from headway.training.norms import put_back, synchronise
from headway.world import ALONE
from tests.training import nets

QUICK = LoopSettings(batch=12, epochs=3, lr=1e-2)


def states(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def plain_loop(settings: LoopSettings, n: int, weights: Tensor | None = None) -> tuple[list[float], nn.Module]:
    """What torch's own parts give, put together as in any tutorial: mean losses by epoch, and the model."""
    model = nets.network(dropout=0.0)
    pixels, labels = nets.images(n)
    decays = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decays, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    extra = {"momentum": settings.momentum, "nesterov": settings.nesterov} if settings.optimizer == "sgd" else {}
    steps = kinds[settings.optimizer](groups, lr=settings.lr, **extra)
    losses = []
    model.train()
    for epoch in range(1, settings.epochs + 1):
        order, total = torch.from_numpy(shuffle(n, settings.seed, epoch)), 0.0
        for batch in torch.split(order, settings.batch):
            steps.zero_grad()
            loss = nn.functional.cross_entropy(
                model(pixels[batch]),
                torch.from_numpy(labels)[batch],
                weight=weights,
                label_smoothing=settings.label_smoothing,
            )
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip:
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            steps.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / n)
    return losses, model


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "nesterov": True, "clip": 0.2},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "adamw", "weight_decay": 5.0, "label_smoothing": 0.1},
        {"optimizer": "adamw", "class_weights": True},
    ],
)
def test_train__takes_the_steps_of_a_plain_torch_loop(change: dict[str, object]) -> None:
    """44 images in batches of 12: the last one is ragged. Losses and weights, BatchNorm's buffers too."""
    weights = torch.tensor([0.5, 1.0, 3.0]) if change.pop("class_weights", False) else None
    settings = replace(QUICK, schedule="none", **change)  # type: ignore[arg-type]
    task = nets.task(44, nets.network(dropout=0.0))
    trained = nets.trained(replace(task, class_weights=None if weights is None else weights.numpy()), settings)

    losses, model = plain_loop(settings, 44, weights)
    assert [epoch.train_loss for epoch in trained.epochs] == pytest.approx(losses, rel=1e-4)
    for name, tensor in model.state_dict().items():
        # BatchNorm takes away what this bias does: its gradient is rounding alone, which Adam blows up.
        if settings.optimizer == "sgd" or name not in ("first.bias", "norm.running_mean"):
            torch.testing.assert_close(task.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_train__micro_batches_are_the_same_mathematics() -> None:
    """Weighted by their images, not by their number: batches of 12 as 5 + 5 + 2, the last of 8 as 5 + 3."""
    model = {"norm": False, "dropout": 0.0}
    whole, parts = (
        nets.trained(nets.task(44, nets.network(**model)), replace(QUICK, optimizer="sgd", micro_batch=micro))
        for micro in (None, 5)
    )
    for one, other in zip(whole.epochs, parts.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-6)
    for name, tensor in whole.state.items():
        torch.testing.assert_close(parts.state[name], tensor, rtol=1e-4, atol=1e-6)


def test_train__depends_on_its_seed_only() -> None:
    settings = replace(QUICK, mixup=0.2)
    torch.manual_seed(1)
    first = nets.trained(nets.task(), settings)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = nets.trained(nets.task(), settings)
    other = nets.trained(nets.task(), replace(settings, seed=1))
    assert nets.same_bits(first.state, second.state)
    assert nets.curve(first.epochs) == nets.curve(second.epochs) != nets.curve(other.epochs)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_train__the_feed_is_asked_for_each_image_once_an_epoch_and_for_plain_ones_in_validation() -> None:
    asked: list[tuple[int, list[int]]] = []
    task = nets.task(44)

    def watched(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        asked.extend((epoch, batch.tolist()) for batch in batches)
        return task.train.feed(batches, epoch)

    rows = Rows(watched, task.train.labels)
    nets.trained(Task(task.model, rows, rows), replace(QUICK, epochs=2))
    for epoch in (1, 2, 0):
        seen = [position for number, batch in asked if number == epoch for position in batch]
        assert sorted(seen) == sorted([*range(44)] * (2 if epoch == 0 else 1))
    assert [len(batch) for number, batch in asked if number == 1] == [12, 12, 12, 8]
    assert asked[0][1] != asked[4][1]


def test_train__leaves_what_is_frozen_alone_bit_for_bit() -> None:
    class Half(nets.ConvNet):
        def train(self, mode: bool = True) -> Half:
            super().train(mode)
            self.norm.eval()
            return self

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Half()
    model.first.requires_grad_(False)
    before = states(model)
    nets.trained(nets.task(44, model), replace(QUICK, ema=0.9, weight_decay=0.5))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    trains = {"norm.weight", "norm.bias", "second.weight", "second.bias", "head.weight", "head.bias"}
    assert moved == trains


def test_train__hands_the_model_back_as_it_came() -> None:
    """No wrapper, no gradients, weights laid out as usual, and forward its own."""
    model = nets.network()
    for precision in ("bf16", "fp32"):
        nets.trained(nets.task(24, model), replace(QUICK, epochs=1, precision=precision))
        assert "forward" not in vars(model)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert model(nets.images(4)[0]).dtype == torch.float32


def test_train__bf16_is_near_fp32_but_not_the_same() -> None:
    one, other = (
        nets.trained(nets.task(44, nets.network(norm=False)), replace(QUICK, precision=name)).epochs[-1].train_loss
        for name in ("fp32", "bf16")
    )
    assert one != other
    assert one == pytest.approx(other, rel=0.05)


def test_train__the_average_is_judged_and_kept() -> None:
    """Against the average taken by hand over the weights of each step of the same training without one."""
    settings = replace(QUICK, epochs=2, keep="val.loss")

    class Watched(nets.ConvNet):
        seen: list[dict[str, Tensor]]

        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                self.seen.append(states(self))
            return super().forward(images)

    def watched() -> Watched:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = Watched()
        model.seen = []
        return model

    plain = watched()
    nets.trained(nets.task(44, plain), settings)
    steps = [*plain.seen[1:], states(plain)]  # weights after each step
    expected = states(nets.network())
    for number, now in enumerate(steps, start=1):
        decay = min(0.8, (1 + number) / (10 + number))
        for name in expected:
            mixes = name in dict(plain.named_parameters())
            expected[name] = decay * expected[name] + (1 - decay) * now[name] if mixes else now[name]
    task = nets.task(44)
    trained = nets.trained(task, replace(settings, ema=0.8))
    assert trained.epochs[1].best
    for name, tensor in trained.state.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    for name, tensor in task.model.state_dict().items():  # what trains on is not the average
        if not name.startswith("norm.running"):
            torch.testing.assert_close(tensor, plain.state_dict()[name])


def test_train__learning_rates_fall_with_depth() -> None:
    """With SGD and one step, how far a layer moves shows its rate."""
    depths = {"first.weight": 0, "first.bias": 0, "second.weight": 1, "second.bias": 1, "head.weight": 2}
    moves = []
    for decay in (1.0, 0.1):
        task = replace(nets.task(12, nets.network(norm=False)), depths=depths)
        before = states(task.model)
        nets.trained(task, replace(QUICK, epochs=1, optimizer="sgd", momentum=0.0, layer_decay=decay, lr=1.0))
        moves.append({name: float((tensor - before[name]).norm()) for name, tensor in states(task.model).items()})
    shares = {name: moves[1][name] / moves[0][name] for name in moves[0]}
    assert shares == pytest.approx(
        {"first.weight": 0.01, "first.bias": 0.01, "second.weight": 0.1, "second.bias": 0.1, "head.weight": 1,
         "head.bias": 1}, rel=1e-3
    )  # fmt: skip


def test_train__thaws_stage_after_stage() -> None:
    class Thawing(nets.ConvNet):
        asked: list[int | None]

        def thaw(self, k: int | None) -> None:
            self.asked.append(k)
            for depth, stage in enumerate((self.second, self.first), start=1):
                stage.requires_grad_(k is None or k >= depth)

    model = Thawing(norm=False)
    model.asked = []
    before = states(model)
    moved = []
    training = train(nets.task(44, model), replace(QUICK, epochs=4, thaw_every=2), ALONE)
    for one in training:
        assert isinstance(one, Epoch)
        moved.append({name for name, tensor in states(model).items() if not torch.equal(tensor, before[name])})
    assert model.asked[-2:] == [1, 2]
    late = {"second.weight", "second.bias", "head.weight", "head.bias"}
    assert moved == [late, late, set(before), set(before)]


def test_train__steps_are_told_twice_a_second() -> None:
    class Slow(nets.ConvNet):
        def forward(self, images: Tensor) -> Tensor:
            import time

            time.sleep(0.18 * self.training)
            return super().forward(images)

    seen = nets.finish(train(nets.task(48, Slow()), replace(QUICK, batch=6, epochs=1), ALONE))[0]
    steps = [one for one in seen if isinstance(one, Step)]
    assert [(one.epoch, one.total) for one in steps] == [(1, 8)] * len(steps)
    assert 1 <= len(steps) <= 3
    assert all(0 < one.loss < 5 for one in steps)


def test_train__class_weights_move_the_answer_to_the_rare_class() -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(200) < 10).astype(np.int64)
    features = torch.from_numpy((labels[:, None] + 1.5 * random.normal(size=(200, 3))).astype(np.float32))
    rows = Rows(nets.feed_of(features), labels)
    settings = LoopSettings(batch=50, epochs=15, lr=0.05)
    recalls = []
    for weights in (None, np.array([1.0, 19.0], np.float32)):
        model = nn.Linear(3, 2)
        nn.init.zeros_(model.weight)  # random weights could know the rare class by chance
        nn.init.zeros_(model.bias)
        nets.trained(Task(model, rows, rows, class_weights=weights), settings)  # leaves the last weights
        recalls.append(float((predict(model, rows, 50).argmax(axis=1) == 1)[labels == 1].mean()))
    assert recalls[1] > recalls[0] + 0.3


def test_synchronise__puts_other_layers_in_and_back() -> None:
    model = nn.Sequential(nets.network(), nn.BatchNorm1d(3).eval())
    norm, before = model[0].norm, states(model)
    held = synchronise(model)
    assert isinstance(model[0].norm, nn.SyncBatchNorm)
    assert [model[0].norm.training, model[1].training] == [True, False]
    put_back(model, held)
    assert model[0].norm is norm
    assert nets.same_bits(states(model), before)

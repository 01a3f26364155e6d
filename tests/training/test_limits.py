from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from headway.errors import HeadwayError, Stopped
from headway.training.batches import shuffle
from headway.training.loop import (
    LoopSettings,
    Rows,
)
from tests.training import nets

QUICK = LoopSettings(batch=12, epochs=3, lr=1e-2)


def states(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def test_train__takes_fewer_images_at_once_where_memory_ends() -> None:
    settings = replace(QUICK, optimizer="sgd")
    plain = nets.trained(nets.task(44, nets.network(norm=False, dropout=0.0)), settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        heavy = nets.Heavy(norm=False, dropout=0.0)
    trained = nets.trained(nets.task(44, heavy), settings)
    assert trained.micro_batches == ((0, 6), (0, 3))
    for one, other in zip(plain.epochs, trained.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-6)


def test_train__live_batch_norm_does_not_take_fewer_images_silently() -> None:
    model = nets.Heavy()
    before = states(model)
    with pytest.raises(Stopped) as caught:
        nets.trained(nets.task(44, model), QUICK)
    assert str(caught.value) == (
        "not enough memory for 12 images at once in epoch 1, batch 1. Of fewer at once BatchNorm takes other "
        "statistics, which changes the result. Ask for that with --micro-batch 6, or allow it wherever memory asks "
        "for it with --allow-inexact"
    )
    assert nets.same_bits(states(model), before)
    assert nets.trained(nets.task(44, model), replace(QUICK, allow_inexact=True)).micro_batches == ((0, 6), (0, 3))


def test_train__not_even_one_image_fits() -> None:
    class Huge(nets.Heavy):
        holds = 0

    with pytest.raises(Stopped) as caught:
        nets.trained(nets.task(44, Huge(norm=False)), QUICK)
    assert str(caught.value) == (
        "not enough memory for 1 image at once in epoch 1, batch 1. Smaller images need less: --image"
    )


@pytest.mark.parametrize("where", ["input", "gradient"])
def test_train__what_is_not_finite_stops_before_the_step(where: str) -> None:
    """Weights and BatchNorm's buffers stay as they were after the batch before."""
    pixels, labels = nets.images(44)
    floats = pixels.float()
    position = int(shuffle(44, 0, 1)[12 * 2 + 3])  # in the third batch
    if where == "input":
        floats[position] = math.nan

    class Bad(nets.ConvNet):
        def forward(self, images: Tensor) -> Tensor:
            self.seen = states(self) if self.training else None
            logits = super().forward(images)
            if where == "gradient" and self.training and torch.equal(images[3], floats[position]):
                logits.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
            return logits

    model = Bad()
    with pytest.raises(HeadwayError) as caught:
        nets.trained(replace(nets.task(44, model), train=Rows(nets.feed_of(floats), labels)), QUICK)
    shown = ", ".join(str(number) for number in sorted(shuffle(44, 0, 1)[24:29]))
    loss = str(caught.value).split("(loss ")[1].split(";")[0]
    assert math.isnan(float(loss)) == (where == "input")
    assert str(caught.value) == (
        f"the loss or its gradient is not a finite number in epoch 1, batch 3 of 4 (loss {loss}; 12 training images, "
        f"at positions {shown}, ...); that step was not taken. Try a lower learning rate: --lr 0.001 (it was 0.01)"
    )
    assert model.seen is not None
    assert nets.same_bits(states(model), model.seen)


def test_train__a_huge_learning_rate_ends_in_one_readable_line() -> None:
    with pytest.raises(HeadwayError, match=r"--lr"):
        nets.trained(nets.task(), replace(QUICK, optimizer="sgd", lr=1e30, schedule="none"))


def test_train__gradients_too_long_for_float32_are_clipped_not_refused() -> None:
    """Their norm overflows, though each number is finite."""

    class Steep(nets.ConvNet):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            if self.training:
                logits.register_hook(lambda gradient: gradient * 1e25)  # type: ignore[no-untyped-call]
            return logits

    trained = nets.trained(nets.task(44, Steep(norm=False)), replace(QUICK, clip=1.0, optimizer="sgd"))
    assert all(math.isfinite(one.train_loss) for one in trained.epochs)

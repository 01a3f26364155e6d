"""Cheaper steps are the same steps: held against torch's own autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from headway.training.convolutions import Quick, quicken
from headway.training.loop import LoopSettings, Rows, train
from headway.training.norms import live_norms
from headway.world import ALONE
from tests.training import nets
from tests.training.test_staged import images, model_of


def restless(model: nn.Module) -> nn.Module:
    """With statistics and scales in its BatchNorms that are no longer those of the start."""
    random = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.running_var, 0.5, 2.0)):
                nn.init.uniform_(tensor, low, high, generator=random)  # type: ignore[arg-type]
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, generator=random)  # type: ignore[arg-type]
    return model


def met(model: nn.Module, x: Tensor, quick: Quick | None) -> dict[str, Tensor]:
    """What a forward and a backward pass give: the output, every gradient, every buffer."""
    model.zero_grad()
    with nullcontext() if quick is None else quick.acting():
        output = model(x)
        (output * torch.linspace(-1, 2, output[0].numel(), dtype=x.dtype).view_as(output[0])).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return {"": output.detach(), **{name: one for name, one in found.items() if one is not None}, **buffers}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-9 * float(tensor.abs().max()), msg=name)


class Doubled(nn.Module):
    """A network in float64 that begins after the normalisation of its images."""

    def __init__(self, name: str, freeze_bn: bool) -> None:
        super().__init__()
        model: Any = restless(model_of(name, freeze_bn=freeze_bn, side=32)).double()
        self.network: Any = model.trunk.network
        self.head: nn.Module = model.head
        self.thaw: Callable[[int], None] = model.thaw
        model.train()

    def forward(self, x: Tensor) -> Tensor:
        features = self.network.forward_head(self.network.forward_features(x), pre_logits=True)
        logits: Tensor = self.head(features)
        return logits


@pytest.mark.parametrize(
    ("name", "n_folded"),
    [("tf_efficientnet_lite0", 49), ("mobilenetv3_small_100", 34), ("test_resnet", 15), ("convnext_atto", 0)],
)
def test_quicken__gives_the_gradients_of_torch(name: str, n_folded: int) -> None:
    model = Doubled(name, freeze_bn=True)
    x = images(2, side=32).permute(0, 3, 1, 2).double() / 100 - 1
    expected = met(model, x, None)

    quick = quicken(model, x[:1])

    assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.forwards) == n_folded
    assert_same(met(model, x, quick), expected)


def test_quicken__of_a_network_of_which_a_part_is_frozen() -> None:
    model = Doubled("mobilenetv3_small_100", freeze_bn=True)
    model.thaw(1)
    x = images(2, side=32).permute(0, 3, 1, 2).double() / 100 - 1
    expected = met(model, x, None)
    learning = [parameter.requires_grad for parameter in model.parameters()]
    assert any(learning)
    assert not all(learning)

    assert_same(met(model, x, quicken(model, x[:1])), expected)


def test_quicken__live_statistics_stay_live() -> None:
    model, twin = (Doubled("test_resnet", freeze_bn=False) for _ in range(2))
    x = images(4, side=32).permute(0, 3, 1, 2).double() / 100 - 1
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}

    quick = quicken(model, x[:1])

    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())  # looking moves nothing
    assert live_norms(model)
    found, expected = met(model, x, quick), met(twin, x, None)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["network.bn1.running_mean"], before["network.bn1.running_mean"])


@settings(max_examples=150, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(2, 9)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 6)),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    multiplier=st.integers(1, 2),
    last=st.booleans(),
)
def test_quicken__depthwise_kernels_of_every_kind(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    side: tuple[int, int],
    multiplier: int,
    last: bool,
) -> None:
    outside = zip(side, padding, dilation, kernel, strict=True)
    if any(s + 2 * p < d * (k - 1) + 1 for s, p, d, k in outside):
        return  # the kernel does not fit
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 3 * multiplier, kernel, stride, padding, dilation, groups=3).double()
    x = torch.randn(2, 3, *side, dtype=torch.float64)
    if last:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()
    expected = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])

    quick = quicken(layer, x[:1])

    assert (layer in quick.forwards) == (kernel[1] > 3)
    with quick.acting():
        found = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


class Read(nn.Module):
    """A convolution whose output BatchNorm is not alone with, in several ways; "alone": it is."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.convolution, self.norm = nn.Conv2d(3, 3, 1, bias=way != "twice"), nn.BatchNorm2d(3).eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        if self.way == "changed":
            y.relu_()
        z: Tensor = self.norm(y)
        if self.way == "skip":
            z = z + y
        if self.way == "twice":
            z = self.norm(self.convolution(z))
        return z


@pytest.mark.parametrize("way", ["alone", "skip", "changed", "twice"])
def test_quicken__folds_only_what_batchnorm_alone_reads(way: str) -> None:
    model = Read(way).double()  # statistics of the start: a fold would not show in the output
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    quick = quicken(model, x[:1])

    assert len(quick.forwards) == (2 if way == "alone" else 0)
    restless(model)
    assert_same(met(model, x, quick), met(model, x, None))


@pytest.mark.parametrize("inplace", [False, True])
def test_quicken__relu6(inplace: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU6(inplace))
    x = torch.linspace(-9, 9, 96).view(2, 3, 4, 4)
    quick = quicken(model, x[:1])

    assert list(quick.forwards) == [model[1]]
    assert_same(met(model, x, quick), met(model, x, None))
    edges = torch.tensor([-0.0, 0.0, 6.0, torch.nextafter(torch.tensor(6.0), torch.tensor(0.0))], requires_grad=True)
    with quick.acting():
        (found,) = torch.autograd.grad(model[1](edges * 1).sum(), edges)
    assert torch.equal(found, torch.autograd.grad(functional.relu6(edges).sum(), edges)[0])


def test_acting__leaves_nothing_behind() -> None:
    model = Read("alone")
    quick = quicken(model, torch.zeros(1, 3, 4, 4))

    def failing() -> None:
        with quick.acting():
            assert all("forward" in vars(module) for module in quick.forwards)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert not any("forward" in vars(module) for module in model.modules())


class Still(nets.ConvNet):
    """Its BatchNorm keeps its statistics; it notes whether its convolution was run another way, and in which mode."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            super().__init__()
        restless(self)
        self.noted: set[tuple[bool, bool]] = set()

    def train(self, mode: bool = True) -> Still:
        super().train(mode)
        self.norm.training = False
        return self

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not self.training:
            self.noted.add((self.training, "forward" in vars(self.first)))
        return super().forward(images)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train__steps_are_quick_and_judging_is_plain(precision: str) -> None:
    model = Still()
    nets.trained(nets.task(24, model), LoopSettings(batch=12, epochs=2, precision=precision))
    assert model.noted >= {(True, precision == "fp32"), (False, False)}
    assert (True, precision != "fp32") not in model.noted


def test_train__interrupted_with_folded_layers_ends_in_the_same_bits(tmp_path: Path) -> None:
    chosen = LoopSettings(batch=12, epochs=3, lr=1e-2)
    straight = nets.trained(nets.task(44, Still()), chosen)
    for at in (3, 4, 6):  # within an epoch and between two
        whole = nets.task(44, Still())
        cut = replace(whole, train=Rows(nets.interrupting(whole.train.feed, at, KeyboardInterrupt), whole.train.labels))
        with pytest.raises(KeyboardInterrupt):
            nets.finish(train(cut, chosen, ALONE, tmp_path / str(at), "one"))
        _, resumed = nets.finish(train(nets.task(44, Still()), chosen, ALONE, tmp_path / str(at), "one"))
        assert nets.same_bits(resumed.state, straight.state)
        assert nets.curve(resumed.epochs) == nets.curve(straight.epochs)

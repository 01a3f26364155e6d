"""Stages of networks of many families: nothing is left out, nothing is twice, and both halves are the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from headway.backbones.network import Trunk, build_network, classifier_names, cut_trunk, own_preprocess, tensors_digest
from headway.backbones.preprocess import Preprocess
from headway.backbones.stages import Front, Stage, cut, find_stages, resting, stage_of
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice

# name and how many stages it has
FAMILIES = {
    "cnn": 5,
    "tf_efficientnet_lite0": 5,
    "mobilenetv3_small_100": 5,
    "convnext_atto": 4,
    "regnetx_002": 5,
    "test_resnet": 5,
    "test_vit": 4,
    "torchvision:mobilenet_v3_small": 5,
}
SLOW = {
    "regnety_002": 5,
    "densenet121": 5,
    "torchvision:resnet18": 5,
    "resnet18": 5,
    "resnet50": 5,
    "vit_tiny_patch16_224": 4,
    "swin_tiny_patch4_window7_224": 4,
    "torchvision:convnext_tiny": 4,
    "torchvision:densenet121": 5,
    "torchvision:efficientnet_b0": 5,
    "torchvision:vit_b_16": 4,
}
every = pytest.mark.parametrize(
    "name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)], ids=str
)


@cache
def stale(name: str) -> Trunk:
    """A trunk with statistics of its own: those of a new network (0 and 1) would hide what is left out."""
    request = TrunkRequest(name, "none:0", 64, None, None)
    network = build_network(name, WeightsChoice("none", "none:0"), image=64, seed=0)
    for key, buffer in network.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(len(key))) * 0.1)
    return cut_trunk(network, own_preprocess(name, network, request))[0]


def images(n: int, side: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@every
def test_stages__every_tensor_is_in_just_one(name: str) -> None:
    trunk = stale(name)

    stages = find_stages(trunk)

    units = [unit for stage in stages for unit in stage.units]
    assert len(stages) == {**FAMILIES, **SLOW}[name]
    assert len(set(units)) == len(units)
    held: dict[str, int] = {}
    for unit in units:
        module = trunk.network.get_submodule(unit)
        for key in [*dict(module.named_parameters()), *dict(module.named_buffers())]:
            held[f"{unit}.{key}"] = held.get(f"{unit}.{key}", 0) + 1
    assert set(held.values()) == {1}
    everything = {*dict(trunk.network.named_parameters()), *dict(trunk.network.named_buffers())}
    ours = {
        key for key in everything if not key.startswith(tuple(f"{one}." for one in classifier_names(trunk.network)))
    }
    beside = ours - set(held)  # tensors that no unit holds act before the units, as a class token does
    assert beside <= {"cls_token", "reg_token", "pos_embed", "class_token", "encoder.pos_embedding"}
    assert all(stage_of(stages, key) == 0 for key in beside)
    assert all(any(stage_of(stages, key) == index for key in ours) for index in range(len(stages)))


@every
def test_stages__in_the_order_in_which_they_run(name: str) -> None:
    trunk, ran = stale(name), list[str]()
    stages = find_stages(trunk)
    handles = [
        trunk.network.get_submodule(unit).register_forward_hook(lambda *_, unit=unit: ran.append(unit))
        for stage in stages
        for unit in stage.units
    ]

    with torch.no_grad():
        trunk.last(images(1))
    for handle in handles:
        handle.remove()

    depths = [stage_of(stages, unit) for unit in ran]
    assert depths == sorted(depths)


def test_stages__of_a_resnet() -> None:
    assert find_stages(stale("test_resnet"))[1:] == (
        Stage("layer1", ("maxpool", "layer1.0")),
        Stage("layer2", ("layer2.0",)),
        Stage("layer3", ("layer3.0",)),
        Stage("layer4", ("layer4.0", "global_pool")),
    )


def test_stages__of_lite0() -> None:
    stages = find_stages(stale("tf_efficientnet_lite0"))

    assert [stage.name for stage in stages] == ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"]
    assert stages[0].units == ("conv_stem", "bn1", "blocks.0")
    assert stages[-1].units == ("blocks.5", "blocks.6", "conv_head", "bn2", "global_pool")


def test_stages__of_torchvisions_resnet_by_falling_resolution() -> None:
    assert find_stages(stale("torchvision:resnet18")) == (
        Stage("bn1", ("conv1", "bn1", "relu")),
        Stage("layer1.1", ("maxpool", "layer1.0", "layer1.1")),
        Stage("layer2.1", ("layer2.0", "layer2.1")),
        Stage("layer3.1", ("layer3.0", "layer3.1")),
        Stage("layer4.1", ("layer4.0", "layer4.1", "avgpool", "fc")),
    )


def test_stage_of__names_that_begin_alike() -> None:
    stages = (Stage("a", ("blocks.1",)), Stage("b", ("blocks.10", "blocks.11")))

    assert stage_of(stages, "blocks.1.weight") == 0
    assert stage_of(stages, "blocks.10.weight") == 1
    assert stage_of(stages, "blocks.11") == 1
    assert stage_of(stages, "blocks.2") == 0


def test_stages__finding_them_changes_nothing() -> None:
    trunk = stale("test_resnet")
    before = tensors_digest(trunk.state_dict())
    trunk.train()
    try:
        find_stages(trunk)
        cut(trunk, 2)
        assert all(module.training for module in trunk.modules())
    finally:
        trunk.eval()

    assert tensors_digest(trunk.state_dict()) == before
    assert all(not module._forward_hooks for module in trunk.modules())


def test_resting__every_part_in_its_own_mode_again() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    module[1].eval()

    with resting(module):
        assert not any(part.training for part in module.modules())

    assert [part.training for part in module.modules()] == [True, True, False]


# Cutting ----------------------------------------------------------------------------------------------------------


@every
def test_cut__both_halves_are_the_whole_bit_for_bit(name: str) -> None:
    trunk = stale(name)
    n = len(find_stages(trunk))

    for n_front in range(1, n + 1):
        parts = cut(trunk, n_front)
        assert parts is not None, n_front
        front, back = parts
        for count in (2, 5):  # other images and counts than those of the proof within
            x = images(count, seed=n_front)
            with torch.no_grad():
                activation = front(x)
                assert len(activation) == count
                assert torch.equal(back(activation), trunk.last(x))
                assert torch.equal(back(torch.from_numpy(activation.numpy().copy())), trunk.last(x))  # as from a file
                assert torch.equal(front(x.float()), activation)


@every
def test_cut__halves_share_tensors_with_the_trunk_and_hold_just_their_own(name: str) -> None:
    trunk = stale(name)
    stages = find_stages(trunk)
    places = {tensor.data_ptr(): key for key, tensor in trunk.network.state_dict().items() if tensor.numel()}
    n_front = len(stages) // 2

    parts = cut(trunk, n_front)

    assert parts is not None
    held = [{places[one.data_ptr()] for one in part.state_dict().values() if one.numel()} for part in parts]
    front, back = ({stage_of(stages, key) for key in keys} for keys in held)
    assert max(front) < n_front
    beside = {key for key in held[1] if stage_of(stages, key) < n_front}
    # A transformer's back runs a blank image up to the cut; that part of it is the trunk's own, too.
    assert all(
        key.startswith(("cls_token", "pos_embed", "patch_embed", "conv_proj", "class_token")) or "pos_" in key
        for key in beside
    )
    assert back >= set(range(n_front, len(stages)))
    assert not any(key.startswith(classifier_names(trunk.network)) for key in held[0] | held[1]) or not trunk.stages


def test_cut__all_stages_in_front() -> None:
    trunk = stale("test_resnet")

    parts = cut(trunk, 5)

    assert parts is not None
    assert isinstance(parts[1], nn.Identity)
    with torch.no_grad():
        assert torch.equal(parts[0](images(2)), trunk.last(images(2)))


@pytest.mark.parametrize("n_front", [0, 6, -1])
def test_cut__where_there_is_nothing_to_cut(n_front: int) -> None:
    assert cut(stale("test_resnet"), n_front) is None


def test_cut__a_front_stays_in_eval_mode_and_gives_no_gradients() -> None:
    trunk = stale("test_resnet")
    parts = cut(trunk, 2)
    assert parts is not None
    front = parts[0]
    before = tensors_digest(trunk.state_dict())

    front.train()
    activation = front(images(3))

    assert isinstance(front, Front)
    assert not activation.requires_grad
    assert not any(module.training for module in front.modules())
    assert tensors_digest(trunk.state_dict()) == before


def test_cut__a_back_learns_what_the_trunk_would(one_thread: None) -> None:
    trunk = stale("tf_efficientnet_lite0")
    parts = cut(trunk, 3)
    assert parts is not None
    front, back = parts
    x, direction = images(4), torch.randn(4, 1280, generator=torch.Generator().manual_seed(0))
    (trunk.last(x) * direction).sum().backward()  # type: ignore[no-untyped-call]
    names = [name for name, _ in back.named_parameters()]
    whole = {name: parameter.grad.clone() for name, parameter in trunk.named_parameters() if parameter.grad is not None}
    trunk.zero_grad(set_to_none=True)

    (back(front(x)) * direction).sum().backward()

    own = {name: parameter.grad for name, parameter in back.named_parameters()}
    assert set(names) <= set(whole)
    assert all(grad is not None and torch.equal(grad, whole[name]) for name, grad in own.items())
    trunk.zero_grad(set_to_none=True)


class Reaching(nn.Module):
    """Its last block reads what the first one gave, past any cut between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.third = nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.first(x)
        b = self.second(a)
        pooled: torch.Tensor = self.third(torch.cat([nn.functional.max_pool2d(a, 2), b], 1)).mean((2, 3))
        return pooled


class Doubling(nn.Module):
    """Its parts do more between them than passing on, without changing shape."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.third = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.between(self.first(x))
        x = self.between(self.second(x))
        pooled: torch.Tensor = self.third(x).mean((2, 3))
        return pooled


def trunk_of(network: nn.Module) -> Trunk:
    return Trunk(network, Preprocess(16, None, "squash", "bilinear", (0.5,) * 3, (0.5,) * 3), ()).eval()


def test_cut__none_where_the_halves_are_not_the_whole() -> None:
    trunk = trunk_of(Reaching())

    found = [cut(trunk, n_front) for n_front in range(1, 4)]

    assert [part is None for part in found] == [False, True, False]


def test_cut__what_is_done_between_units_is_done_once() -> None:
    trunk = trunk_of(Doubling(lambda x: 2 * x + 1))

    for n_front in (1, 2):
        parts = cut(trunk, n_front)
        assert parts is not None
        with torch.no_grad():
            assert torch.equal(parts[1](parts[0](images(2, 16))), trunk.last(images(2, 16)))


class Checking(nn.Module):
    """Looks at what its parts give, those in front of a cut too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.third, self.fourth = nn.Conv2d(8, 5, 3, stride=2, padding=1), nn.Conv2d(5, 6, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x))
        if x.shape[1] != 8:
            raise ValueError(f"{x.shape[1]} channels")
        pooled: torch.Tensor = self.fourth(self.third(x)).mean((2, 3))
        return pooled


@pytest.mark.parametrize("n_front", [1, 2, 3, 4])
def test_cut__a_network_that_looks_at_what_its_front_gives(n_front: int) -> None:
    trunk = trunk_of(Checking())

    parts = cut(trunk, n_front)

    assert parts is not None
    with torch.no_grad():
        assert torch.equal(parts[1](parts[0](images(2, 16))), trunk.last(images(2, 16)))


def test_cut__a_network_that_gives_tuples_between_its_stages() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, stride=2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.a(x), self.b(x)

    class Joining(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.last = Pair(), nn.Conv2d(3, 3, 3, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.last(self.pair(x)[1]).mean((2, 3))
            return pooled

    trunk = trunk_of(Joining())

    assert len(find_stages(trunk)) == 2
    assert cut(trunk, 1) is None

"""Stems for small images: asked for only, where nothing is pretrained, and only where more is seen with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from headway.backbones.network import build_network
from headway.backbones.opening import BackboneSession, trained_session
from headway.backbones.prepare import keep_trained, prepare_trunk
from headway.backbones.stems import adapt_stem, stem_arguments, stem_kind
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice

NONE = WeightsChoice("none", "none:0")
SIDE = 32


def built(name: str, *, small: bool, side: int | None = SIDE, choice: WeightsChoice = NONE) -> Any:
    return build_network(name, choice, image=side, seed=0, small_stem=small)


def seen(network: Any, side: int = SIDE) -> int:
    with torch.no_grad():
        final = network.forward_features(torch.zeros(1, 3, side, side))
        assert network(torch.rand(2, 3, side, side)).shape == (2, network.num_classes)
    return int(final.numel()) // int(network.num_features)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("tf_efficientnet_lite0", 1, 4),
        ("convnext_atto", 1, 16),
        ("mobilenetv3_small_100", 1, 4),
        ("vit_tiny_patch16_224", 5, 65),
        ("regnetx_002", 1, 4),
        ("test_resnet", 4, 64),
        pytest.param("resnet18", 1, 16, marks=pytest.mark.slow),
        pytest.param("densenet121", 1, 16, marks=pytest.mark.slow),
        pytest.param("resnet50", 1, 16, marks=pytest.mark.slow),
    ],
)
def test_stem__more_is_seen_of_a_small_image(name: str, before: int, after: int) -> None:
    side = 64 if name == "test_resnet" else SIDE
    own, small = built(name, small=False, side=side), built(name, small=True, side=side)

    features = {"mobilenetv3_small_100": 576}.get(name)  # before its last convolution, which comes after pooling
    for network in (own, small):
        network.num_features = features or network.num_features

    assert (stem_kind(own), stem_kind(small)) == ("own", "small")
    assert (seen(own, side), seen(small, side)) == (before, after)


def test_stem__of_resnet_as_for_cifar() -> None:
    small = built("resnet10t", small=True)
    plain = built("test_resnet", small=True, side=64)

    assert small.conv1[0].stride == plain.conv1[0].stride == (1, 1)
    assert isinstance(small.maxpool, nn.Identity)
    assert isinstance(plain.maxpool, nn.Identity)


@pytest.mark.slow
def test_stem__a_wide_kernel_becomes_its_middle() -> None:
    own, small = built("resnet18", small=False), built("resnet18", small=True)

    assert (small.conv1.kernel_size, small.conv1.padding, small.conv1.stride) == ((3, 3), (1, 1), (1, 1))
    assert torch.equal(small.conv1.weight, own.conv1.weight[:, :, 2:5, 2:5] * (7 / 3))
    x = torch.randn(8, 3, SIDE, SIDE)  # the same scale of outputs, for the layers behind were made for it
    with torch.no_grad():
        wide, narrow = (one.conv1(x).std() for one in (own, small))
    assert 0.9 < float(narrow / wide) < 1.2


def test_stem__everything_else_stays() -> None:
    own, small = (built("test_resnet", small=small, side=64).state_dict() for small in (False, True))

    assert own.keys() == small.keys()
    assert all(torch.equal(own[key], small[key]) for key in own)  # here even the kernel keeps its side


@pytest.mark.parametrize(
    ("side", "patch"),
    [(32, 4), (48, 6), (64, 8), (40, 5)],
)
def test_stem__of_a_transformer_is_smaller_patches(side: int, patch: int) -> None:
    small = built("vit_tiny_patch16_224", small=True, side=side)

    assert small.patch_embed.proj.kernel_size == (patch, patch)
    assert stem_arguments(small) == {"patch_size": patch}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {"small": False}),
        ("test_resnet", {"small": True, "side": 96}),  # not small
        ("test_resnet", {"small": True, "side": None}),  # its own 160
        ("cnn", {"small": True}),
        ("torchvision:resnet18", {"small": True}),
        ("resnet26t", {"small": True, "side": 65}),
    ],
)
def test_stem__left_as_it_is(name: str, options: dict[str, Any]) -> None:
    network = built(name, **options)

    assert stem_kind(network) == "own"
    assert stem_arguments(network) == {}


def test_stem__pretrained_weights_keep_theirs(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(built("test_resnet", small=False, side=64).state_dict(), tmp_path / "own.safetensors")
    choice = WeightsChoice("file", "file:x", tmp_path / "own.safetensors")

    assert stem_kind(built("test_resnet", small=True, side=64, choice=choice)) == "own"


class Strange(nn.Module):
    """A network whose first convolution has a stride, and whose next layer wants just what that gives."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4 * 16 * 16, 8)
        self.pretrained_cfg = {"first_conv": name}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.fc(self.conv(x).flatten(1))
        return features


@pytest.mark.parametrize("name", ["conv", "fc", "", "stem.conv"])
def test_stem__a_network_that_cannot_be_adapted_stays_itself(name: str) -> None:
    network = Strange(name)

    assert adapt_stem(network, SIDE, lambda **_: network) is network
    assert stem_kind(network) == "own"
    assert network.conv.stride == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_stem__prepared_trained_and_built_again(tmp_path: Path, name: str) -> None:
    request = TrunkRequest(name, "none:0", SIDE, None, None, small_stem=True)
    images = torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8)

    found, module = prepare_trunk(tmp_path, request, NONE, seed=0)
    kept = keep_trained(tmp_path / "trained", module, found.facts)
    again = trained_session(tmp_path, kept, None, 1).module()

    with torch.no_grad():
        assert torch.equal(again.last(images), module.last(images))
    for facts in (found.facts, kept.facts):
        assert facts["stem"] == "small"
        config = facts["timm_config"]  # timm builds the transformer by an argument, the other not at all
        assert (config or {}).get("model_args") == ({"patch_size": 4} if name.startswith("vit") else None)


@pytest.mark.slow
def test_stem__the_same_tensors_in_another_network_have_another_digest(tmp_path: Path) -> None:
    digests = set()
    for small in (False, True):
        request = TrunkRequest("test_resnet", "none:0", 64, None, None, small)
        digests.add(BackboneSession(tmp_path, request, NONE, 0, 1).trunk().facts["weights"]["digest"])

    assert len(digests) == 2  # torch's features are kept under it

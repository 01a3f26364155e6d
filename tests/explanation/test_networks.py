"""timm's networks, each with its own way from a map to what the head reads, against captum and a plain roll-out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from headway.errors import Refused
from headway.explanation.answers import check_class
from headway.explanation.opening import open_explainer
from headway.explanation.saliency import GradCam, RollOut
from headway.explanation.sanity import check
from tests.backbones.networks import prepared_once
from tests.explanation import networks


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this module."""


def layer_giving(net: nn.Module, image: Tensor, shape: tuple[int, ...], layer: str) -> nn.Module:
    """The layer `layer` of timm's network, which must give a map of this shape."""
    found: nn.Module = net.get_submodule(f"trunk.network.{layer}")
    seen: list[torch.Size] = []
    hook = found.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    with torch.no_grad():
        net(image)
    hook.remove()
    assert seen[-1][2:] == shape
    return found


# Of the exact ones the head reads the map's mean; behind the others lie norms, convolutions and further stages.
WAYS = [
    ("test_resnet", "layer4", "last", ("last",), True),
    ("test_efficientnet", "bn2", "last", ("last",), True),
    pytest.param("test_efficientnet", "blocks.2", "stage3", "all", False, marks=pytest.mark.slow),
    pytest.param("test_convnext", "norm_pre", "last", ("last",), False, marks=pytest.mark.slow),
    pytest.param("test_convnext", "stages.2", "stage3", "all", False, marks=pytest.mark.slow),
    pytest.param("test_byobnet", "final_conv", "last", ("last",), True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "layer", "tap", "taps", "exact"), WAYS)
def test_explain__a_convolutional_network_as_captum(
    shared_networks: Path, tmp_path: Path, name: str, layer: str, tap: str, taps: tuple[str, ...] | str, exact: bool
) -> None:
    prepared = prepared_once(shared_networks, name)
    names = tuple(one.name for one in prepared.files.taps) if isinstance(taps, str) else taps
    bundle, net = networks.bundle(prepared, tmp_path, names, (8,))
    explainer = open_explainer(bundle, tap, threads=1)
    image = networks.images(1, bundle.preprocess.size, seed=1)
    found = explainer.explain(image, [2])[0].values
    pixels = torch.from_numpy(image).float()
    asked = LayerGradCam(net, layer_giving(net, pixels, found.shape, layer))
    wanted = asked.attribute(pixels, target=2, relu_attributions=True)[0, 0].detach().numpy()
    assert isinstance(explainer, GradCam)
    assert (explainer.tail is None) == exact
    assert wanted.max() > 0
    np.testing.assert_allclose(found, wanted, atol=(1e-5 if exact else 2e-2) * wanted.max())


def rolled_out(net: networks.Net, image: np.ndarray) -> np.ndarray:
    """Abnar and Zuidema as they write it, from the attention that timm computes step by step: (h, w)."""
    seen: list[Tensor] = []
    blocks = net.trunk.network.blocks
    for block in blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.from_numpy(image))
    through = torch.eye(seen[0].shape[-1])
    for attention in seen:
        through = (0.5 * attention[0].mean(0) + 0.5 * torch.eye(len(through))) @ through
    row = through[0, 1:]
    side = round(len(row) ** 0.5)
    values: np.ndarray = row.reshape(side, side).numpy()
    return values


def test_explain__a_vision_transformer_by_roll_out(shared_networks: Path, tmp_path: Path) -> None:
    bundle, net = networks.bundle(prepared_once(shared_networks, "test_vit"), tmp_path)
    explainer = open_explainer(bundle, threads=1)
    assert isinstance(explainer, RollOut)
    images = networks.images(3, bundle.preprocess.size, seed=1)
    found = explainer.explain(images, [None, 0, 1])
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one.values, rolled_out(net, image[None]), atol=1e-5)
    assert [one.label for one in found] == [bundle.logits(images)[0].argmax(), 0, 1]
    assert check(explainer, bundle, list(images), found).correlation is not None

    with pytest.raises(Refused) as refused:
        open_explainer(bundle, "stage2")
    assert str(refused.value) == f"--tap stage2: the head of {bundle.path} reads last."
    with pytest.raises(Refused) as refused:
        check_class(explainer, bundle, "a")
    assert str(refused.value) == (
        f"--class a: {bundle.path} is explained by attention roll-out, which is the same for every class. "
        "Leave --class out."
    )


@pytest.mark.slow
def test_explain__a_head_on_the_stages_of_a_transformer_rolls_out_too(shared_networks: Path, tmp_path: Path) -> None:
    bundle, _ = networks.bundle(prepared_once(shared_networks, "test_vit"), tmp_path, ("last", "stage2_mean"))
    with pytest.raises(Refused) as refused:
        open_explainer(bundle, "stage2")
    assert str(refused.value) == (
        f"--tap stage2: attention roll-out goes through all layers of {bundle.path}. Leave --tap out."
    )
    assert open_explainer(bundle, threads=1).method == "roll-out"

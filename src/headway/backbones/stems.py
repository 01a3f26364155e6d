"""The stem of a network with random weights, made for small images: it keeps their resolution where it can."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

LARGEST = 64  # pixels: larger images keep the stem that the network's authors gave it
_TOKENS = 64  # a transformer should have about this many or more
_SHRUNK = 3  # side of the kernel that takes the place of a 7×7 one, and of one that tiles the image


def adapt_stem(network: Any, side: int, again: Callable[..., nn.Module]) -> nn.Module:
    """The network for images of at most 64 pixels; itself where its stem cannot be adapted. `stem_kind` tells which.

    Convolutional networks: the first convolution gets stride 1 (He et al. 2016, section 4.2, do so for CIFAR), one
    of 7×7 or one that tiles the image becomes 3×3 with padding 1 (the middle of its weights, scaled to the same
    variance of outputs), and a max-pool right behind it goes. Transformers: smaller patches, by the library's own
    argument. Kept only where the network then works and sees more positions than before.

    again  builds the network anew with other arguments of the library
    """
    if side > LARGEST:
        return _told(network, "own")
    patch = _patch(network, side)
    try:
        adapted = again(patch_size=patch) if patch is not None else _loosened(network)
        if adapted is None or _positions(adapted, side) <= _positions(network, side):
            return _told(network, "own")
    except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError):
        return _told(network, "own")  # a network that is built otherwise
    return _told(adapted, "small", {"patch_size": patch} if patch is not None else None)


def stem_kind(network: nn.Module) -> str:
    """ "small" where the stem was made for small images, "own" where it is the library's."""
    return str(getattr(network, "headway_stem", "own"))


def stem_arguments(network: nn.Module) -> dict[str, Any] | None:
    """Arguments with which the library builds the same network; None where it cannot."""
    if stem_kind(network) == "own":
        return {}
    found: dict[str, Any] | None = network.headway_arguments  # type: ignore[assignment]
    return found


def _told(network: Any, kind: str, arguments: dict[str, Any] | None = None) -> nn.Module:
    network.headway_stem, network.headway_arguments = kind, arguments
    adapted: nn.Module = network
    return adapted


def _patch(network: Any, side: int) -> int | None:
    """The side of the patches that a transformer should have; None where it is none, or has enough of them."""
    from timm.layers.patch_embed import PatchEmbed

    found = next((child for child in network.children() if isinstance(child, PatchEmbed)), None)
    if found is None or not isinstance(found.proj, nn.Conv2d):
        return None
    own = found.proj.stride[0]
    fitting = [patch for patch in range(own, 0, -1) if side % patch == 0 and (side // patch) ** 2 >= _TOKENS]
    return fitting[0] if fitting and fitting[0] < own else None


def _loosened(network: Any) -> nn.Module | None:
    """A copy whose first convolutions keep the resolution; None where they do already, or cannot be told."""
    named = network.pretrained_cfg.get("first_conv") or ()
    names = (named,) if isinstance(named, str) else tuple(named)
    adapted: nn.Module = copy.deepcopy(network)
    convolutions = [adapted.get_submodule(name) for name in names]
    if not names or not all(isinstance(one, nn.Conv2d) and one.stride != (1, 1) for one in convolutions):
        return None
    for convolution in convolutions:
        assert isinstance(convolution, nn.Conv2d)
        side = convolution.kernel_size[0]
        if side >= 7 or side == convolution.stride[0] > 1:
            _shrink(convolution, side)
        convolution.stride = (1, 1)
    _remove_pool(adapted, names[0])
    return adapted


def _shrink(convolution: nn.Conv2d, side: int) -> None:
    start = (side - _SHRUNK) // 2
    middle = (..., slice(start, start + _SHRUNK), slice(start, start + _SHRUNK))
    weight = convolution.weight.detach()[middle] * (side / _SHRUNK)  # (out, in, 3, 3)
    convolution.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
    convolution.kernel_size, convolution.padding = (_SHRUNK, _SHRUNK), (1, 1)


def _remove_pool(network: nn.Module, first: str) -> None:
    """Take out the first max-pool that stands beside the first convolution, or beside what holds it."""
    parts = first.split(".")[:-1]
    for depth in range(len(parts) + 1):
        parent = network.get_submodule(".".join(parts[:depth]))
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.Identity())
                return


def _positions(network: Any, side: int) -> int:
    """How many numbers one image has before pooling; with it grow the places that the network sees."""
    network.eval()
    with torch.no_grad():
        final = network.forward_features(torch.zeros(1, 3, side, side))
        network.forward_head(final)
    return int(final.numel())

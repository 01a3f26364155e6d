"""Networks whose layers keep statistics of the batches they saw, BatchNorm above all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headway.training.task import LoopSettings
from headway.world import World


def live_norms(model: nn.Module) -> list[nn.Module]:
    """The BatchNorm layers that use the statistics of the batch now: those in training mode."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]


def live_buffers(model: nn.Module) -> list[Tensor]:
    """The buffers that a forward pass may move: those of modules in training mode."""
    return [
        buffer
        for module in model.modules()
        if module.training
        for buffer in module._buffers.values()
        if buffer is not None
    ]


def told_norms(model: nn.Module, settings: LoopSettings, world: World) -> str | None:
    """What several processes change about a network with live BatchNorm, as a note; None where it is nothing."""
    mode = model.training
    model.train()
    n = len(live_norms(model))
    model.train(mode)
    if world.size == 1 or settings.sync_bn or not n:
        return None
    return (
        f"{n} BatchNorm layers take their statistics from each of the {world.size} processes' part of a batch, "
        f"about {max(1, settings.batch // world.size)} images: the result differs from that of one process. "
        "--sync-bn shares them (GPUs only), --freeze-bn keeps them still"
    )


def synchronise(model: nn.Module) -> Mapping[str, nn.Module]:
    """Put SyncBatchNorm in the place of every BatchNorm; returns what was there, by name, for `put_back`."""
    replaced = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm) and name}
    for name, module in replaced.items():
        twin = _synchronised(module)
        twin.train(module.training)
        _put(model, name, twin)
    return replaced


def _synchronised(module: nn.Module) -> nn.Module:
    """The layer over all processes; timm's BatchNorm with an activation inside keeps it, which torch's way drops."""
    if type(module).__module__.startswith("timm."):
        from timm.layers.norm_act import convert_sync_batchnorm

        return convert_sync_batchnorm(module)  # type: ignore[no-any-return, no-untyped-call]
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-any-return, no-untyped-call]


def put_back(model: nn.Module, replaced: Mapping[str, nn.Module]) -> None:
    """The inverse of `synchronise`: the layers that were there, with the parameters and buffers of now."""
    for name, module in replaced.items():
        twin = model.get_submodule(name)
        module._parameters, module._buffers = twin._parameters, twin._buffers
        module.train(twin.training)
        _put(model, name, module)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


@torch.no_grad()
def copy_tensors(targets: list[Tensor], sources: list[Tensor]) -> None:
    """targets ← sources, pairwise."""
    if targets:
        torch._foreach_copy_(targets, sources)

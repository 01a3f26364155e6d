"""Optimizers over the parameters of a model, their rates by depth, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from headway.training.task import LoopSettings


def make_optimizer(model: nn.Module, depths: Mapping[str, int], settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimizer over every parameter; one that is frozen now may thaw later.

    Each group has `scale` = layer_decay ** (deepest - depth). Parameters of one dimension (biases, norms) do not decay.
    """
    deepest = max(depths.values(), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((depths.get(name, deepest), parameter.ndim > 1), []).append(parameter)
    made = [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "scale": settings.layer_decay ** (deepest - depth),
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    if settings.optimizer == "sgd":  # fused, it fails where some parameters take their first step later, thawed
        return torch.optim.SGD(made, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    fused = settings.device.partition(":")[0] in ("cpu", "cuda")  # one kernel a step, half the time
    return kind(made, lr=settings.lr, fused=fused)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, momentum: float | None) -> None:
    """Learning rate of the next step, times each group's `scale`; its momentum (Adam: the first beta) too, or None."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def momentum_of(settings: LoopSettings) -> float:
    """What momentum a schedule starts from: that of SGD, or the first beta of Adam."""
    return settings.momentum if settings.optimizer == "sgd" else 0.9


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state of the optimizer: "<parameter name>/<key>" → tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`. Layouts follow the parameters: the same kernels give the same bits."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for place, value in tensors.items():
        name, _, key = place.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape and value.ndim:
            held = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        else:
            held = value.clone()
        optimizer.state[parameter][key] = held

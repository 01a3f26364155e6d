"""Optimizers over the parameters of a model, their rates by depth, and their state by parameter name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from headway.training.task import LoopSettings


class Optimizer(Protocol):
    """What the loop and its checkpoints see of an optimizer, torch's or ours."""

    param_groups: list[dict[str, Any]]
    state: Any


class PlainOptimizer:
    """torch's SGD, Adam and AdamW by its own functions, on parameters that all have gradients: the same bits.

    torch's classes load its compiler when the first is made (1.4 s), which a head's whole training does not take; its
    function `adam` sorts parameters by device each time (0.27 ms of a step of 4), so its kernel is called.
    """

    def __init__(self, model: nn.Module, settings: LoopSettings) -> None:
        self.param_groups = _groups(model, {}, settings)
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._settings = settings
        for group in self.param_groups:
            group |= {"lr": settings.lr, "betas": (momentum_of(settings), 0.999), "momentum": momentum_of(settings)}

    @torch.no_grad()
    def step(self) -> None:
        """One step by the parameters' gradients."""
        for group in self.param_groups:
            parameters: list[Tensor] = group["params"]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            states = [self.state[parameter] for parameter in parameters]
            if self._settings.optimizer == "sgd":
                self._descend(group, parameters, gradients, states)
            else:
                self._adapt(group, parameters, gradients, states)

    def _descend(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]]
    ) -> None:
        buffers = [state.get("momentum_buffer") for state in states]
        sgd(
            parameters,
            gradients,
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=self._settings.nesterov,
            maximize=False,
        )
        if group["momentum"]:
            for state, buffer in zip(states, buffers, strict=True):
                state["momentum_buffer"] = buffer

    def _adapt(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]]
    ) -> None:
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        (torch._fused_adam_ if self._settings.optimizer == "adam" else torch._fused_adamw_)(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def make_optimizer(model: nn.Module, depths: Mapping[str, int], settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimizer over every parameter; one that is frozen now may thaw later.

    Each group has `scale` = layer_decay ** (deepest - depth). Parameters of one dimension (biases, norms) do not decay.
    """
    made = _groups(model, depths, settings)
    if settings.optimizer == "sgd":  # fused, it fails where some parameters take their first step later, thawed
        return torch.optim.SGD(made, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    fused = settings.device.partition(":")[0] in ("cpu", "cuda")  # one kernel a step, half the time
    return kind(made, lr=settings.lr, fused=fused)


def _groups(model: nn.Module, depths: Mapping[str, int], settings: LoopSettings) -> list[dict[str, Any]]:
    deepest = max(depths.values(), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((depths.get(name, deepest), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "scale": settings.layer_decay ** (deepest - depth),
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def set_rates(optimizer: Optimizer, lr: float, momentum: float | None) -> None:
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


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state of the optimizer: "<parameter name>/<key>" → tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
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

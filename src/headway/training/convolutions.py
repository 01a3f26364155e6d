"""Training steps on a processor (fp32), made cheaper without other mathematics; the last bits differ from torch's own.

Four things that cost torch more than they need to (measured on 2 cores, 224 pixels):

- BatchNorm that keeps its statistics is a scale and a shift of each channel. In front of it stands a convolution, whose
  weights can take them in: no pass over the feature maps, neither forward nor backward.
- The gradient of a depthwise kernel of more than three columns costs ten times its forward pass; that of three columns
  does not. So wide kernels are taken three columns at a time.
- Convolutions of 3 x 3 take four times the multiplications that they need (`winograd`), and the gradient of their
  weights as long as both others together.
- ReLU6 in place copies its input first, to know later where it was cut. What came out tells the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from headway.backbones.native.layers import NotNative
from headway.backbones.stages import resting
from headway.training.winograd import Winograd

_COLUMNS = 3  # up to so many, the gradient of a depthwise kernel is cheap
_Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


@dataclass(frozen=True)
class Quick:
    """How some modules of a network are run within `acting`: each with a forward of its own."""

    forwards: Mapping[nn.Module, Callable[..., Tensor]]

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside the block the network runs so; nothing of it is changed before or after."""
        for module, forward in self.forwards.items():
            vars(module)["forward"] = forward
        try:
            yield
        finally:
            for module in self.forwards:
                vars(module).pop("forward", None)


def quicken(model: nn.Module, example: Tensor) -> Quick:
    """Find what of `model` can be run cheaper.

    example  input for it (b, ...), by which is seen and proved which BatchNorm takes what of which convolution

    Which layers have their statistics still is asked at each step, not here.
    """
    pairs, ours = _pairs(model, example), _winograd(model)
    forwards: dict[nn.Module, Callable[..., Tensor]] = {}
    for module in model.modules():
        if _understood(module) and (_wide(module.weight, module.groups) or (ours and _square(module))):
            forwards[module] = partial(_convolve, module, None, ours)
        elif isinstance(module, nn.Hardtanh):
            forwards[module] = partial(_cut, module)
    for convolution, norm in pairs:
        forwards[convolution] = partial(_convolve, convolution, norm, ours)
        forwards[norm] = partial(_after, norm)
    return Quick(forwards)


def _winograd(model: nn.Module) -> Winograd | None:
    """Code of our own for kernels of 3 x 3, where the model has some and it can be compiled here."""
    if not any(_understood(module) and _square(module) for module in model.modules()):
        return None
    try:
        return Winograd(torch.get_num_threads())
    except NotNative:
        return None


# Convolutions and the BatchNorm behind them -----------------------------------------------------------------------


def _convolve(module: nn.Conv2d, norm: nn.BatchNorm2d | None, ours: Winograd | None, x: Tensor) -> Tensor:
    """What the convolution gives; with a still BatchNorm behind it, what that one would give."""
    weight, bias, padding = module.weight, module.bias, module.padding
    if norm is not None and not norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (C,)
        weight = weight * scale.view(-1, 1, 1, 1)
        bias = norm.bias + ((0 if bias is None else bias) - norm.running_mean) * scale
    elif not _wide(weight, module.groups) and not (ours and _square(module)):
        return type(module).forward(module, x)
    if type(module) is not nn.Conv2d:  # as TensorFlow pads
        from timm.layers.padding import pad_same

        size, stride, dilation = (list(one) for one in (weight.shape[-2:], module.stride, module.dilation))
        x, padding = pad_same(x, size, stride, dilation), (0, 0)
    geometry = (module.stride, padding, module.dilation, module.groups)
    ours = ours if ours is not None and ours.takes(x, weight, geometry) else None
    convolved: Tensor = _Convolution.apply(x, weight, bias, geometry, ours)
    return convolved


def _after(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """BatchNorm, whose work the convolution before it has done where its statistics are still."""
    if norm.training:
        return type(norm).forward(norm, x)
    if type(norm) is nn.BatchNorm2d:
        return x
    activated: Tensor = norm.act(norm.drop(x))  # type: ignore[operator]  # timm's, with an activation inside
    return activated


def _understood(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution whose forward is nothing but that, after zeros around the image."""
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return _is_timms(module, "Conv2dSame")


def _can_keep(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a BatchNorm that can keep its statistics and does nothing else but activate."""
    known = type(module) is nn.BatchNorm2d or _is_timms(module, "BatchNormAct2d")
    return known and bool(module.affine) and module.running_mean is not None


def _is_timms(module: nn.Module, name: str) -> bool:
    kind = type(module)
    return kind.__name__ == name and kind.__module__.startswith("timm.layers.")


def _wide(weight: Tensor, groups: int) -> bool:
    """Whether it is a depthwise kernel (C, 1, h, w) of many columns."""
    return groups > 1 and weight.shape[1] == 1 and weight.shape[3] > _COLUMNS


def _square(module: nn.Conv2d) -> bool:
    """Whether it is a kernel of 3 x 3 that looks at every channel, with a stride of 1."""
    return module.kernel_size == (3, 3) and module.stride == (1, 1) and module.groups == 1


class _Convolution(torch.autograd.Function):
    """A convolution, torch's or by `ours`; its gradients in other pieces."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...], ours: Winograd | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.ours = geometry, ours
        return functional.conv2d(x, weight, bias, *geometry) if ours is None else ours.result(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        of_weight = of_x = None
        if ctx.ours is not None:
            of_x = ctx.ours.of_input(gradient, weight) if wants_x else None
            of_weight = ctx.ours.of_weight(gradient, x) if wants_weight else None
            wants_x = wants_weight = False
        if wants_weight and _wide(weight, ctx.geometry[3]):
            of_weight = _by_columns(gradient, x, weight, ctx.geometry)
            wants_weight = False
        if wants_x or wants_weight:
            of_x, whole, _ = _backward(gradient, x, weight, ctx.geometry, (wants_x, wants_weight))
            of_weight = whole if wants_weight else of_weight
        if of_weight is not None and of_weight.stride() != weight.stride():
            of_weight = torch.empty_like(weight).copy_(of_weight)  # laid out as the weight: nobody copies it later
        # The sum apart: inside the convolution's own gradient it is slower.
        return of_x, of_weight, gradient.sum((0, 2, 3)) if wants_bias else None, None, None


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: tuple[Any, ...], wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    stride, padding, dilation, groups = geometry
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [*wanted, False]
    )
    return found


def _by_columns(gradient: Tensor, x: Tensor, weight: Tensor, geometry: tuple[Any, ...]) -> Tensor:
    """The gradient of a depthwise kernel (C, 1, h, w), three columns of it at a time."""
    stride, padding, dilation, groups = geometry
    whole = torch.zeros_like(weight)
    for first in range(0, weight.shape[3], _COLUMNS):
        columns = weight[..., first : first + _COLUMNS].contiguous()
        # The part of the padded image that these columns pass over: as wide as their outputs ask for.
        left = padding[1] - first * dilation[1]
        width = (gradient.shape[3] - 1) * stride[1] + (columns.shape[3] - 1) * dilation[1] + 1
        if not -x.shape[3] < left < width:
            continue  # nothing but zeros around the image
        part = functional.pad(x, (left, width - left - x.shape[3]))
        narrow = (stride, [padding[0], 0], dilation, groups)
        whole[..., first : first + _COLUMNS] = _backward(gradient, part, columns, narrow, (False, True))[1]
    return whole


# ReLU6 -----------------------------------------------------------------------------------------------------------


def _cut(module: nn.Hardtanh, x: Tensor) -> Tensor:
    cut: Tensor = _Cut.apply(x, module.min_val, module.max_val, module.inplace)
    return cut


class _Cut(torch.autograd.Function):
    """Hardtanh, of which ReLU6 is one: what lies outside of low..high is cut off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, inplace: bool) -> Tensor:
        cut = x.clamp_(low, high) if inplace else x.clamp(low, high)
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(cut)
        ctx.ends = (low, high)
        return cut

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ops.aten.hardtanh_backward(gradient, ctx.saved_tensors[0], *ctx.ends), None, None, None


# Which BatchNorm belongs to which convolution ---------------------------------------------------------------------


@torch.no_grad()
def _pairs(model: nn.Module, example: Tensor) -> tuple[_Pair, ...]:
    """Convolutions, each with the BatchNorm that alone reads what it gives; () where that cannot be proved."""
    if not any(_can_keep(module) for module in model.modules()):
        return ()
    with resting(model), torch.random.fork_rng(devices=[]):
        seen, expected = _followed(model, example)
        return seen if seen and _proved(model, example, seen, expected) else ()


def _followed(model: nn.Module, example: Tensor) -> tuple[tuple[_Pair, ...], Tensor]:
    """Pairs by what is handed on, and what the model gives."""
    given: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors are held: no other one gets their identity
    runs: dict[nn.Module, int] = {}
    pairs: list[_Pair] = []

    def after(module: nn.Module, _inputs: Any, output: Any) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            given[id(output)] = (module, output)

    def before(module: Any, inputs: Any) -> None:
        if id(inputs[0]) in given:
            pairs.append((given[id(inputs[0])][0], module))

    norms = [module for module in model.modules() if _can_keep(module)]
    hooks = [module.register_forward_pre_hook(before) for module in norms]
    for module in [*(one for one in model.modules() if _understood(one)), *norms]:
        hooks.append(module.register_forward_hook(after))
    try:
        expected: Tensor = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(pair for pair in pairs if runs[pair[0]] == runs[pair[1]] == 1), expected


def _proved(model: nn.Module, example: Tensor, pairs: tuple[_Pair, ...], expected: Tensor) -> bool:
    """Whether the model gives the same where each convolution tells its BatchNorm alone what it found.

    Everyone else gets nothing but NaN. Equal bits: nobody else reads it, and nothing changes it on the way.
    """
    told: dict[nn.Module, Tensor] = {}

    def tell(convolution: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
        told[norm] = type(convolution).forward(convolution, x)
        return torch.full_like(told[norm], torch.nan)

    def hear(norm: nn.Module, _x: Tensor) -> Tensor:
        return type(norm).forward(norm, told.pop(norm))  # type: ignore[no-any-return]

    forwards: dict[nn.Module, Callable[..., Tensor]] = {}
    for convolution, norm in pairs:
        forwards[convolution] = partial(tell, convolution, norm)
        forwards[norm] = partial(hear, norm)
    with Quick(forwards).acting():
        found: Tensor = model(example)
    return torch.equal(found, expected)

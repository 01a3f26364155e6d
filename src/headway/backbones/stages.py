"""A trunk in stages, nearest the image first: what is thawed together, and where the network can be cut in two."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headway.backbones.network import Trunk, classifier_names, grey_image, pooled

_GROUPS = 4  # stages of a network whose resolution never falls (a ViT)
_NEARLY_ALL = 0.9  # a child with this share of the parameters is no unit: its own children are
_TRIED = 3  # images on which both halves of a cut network must give the bits of the whole


@dataclass(frozen=True)
class Stage:
    """Part of a trunk. `units` are names of submodules of `trunk.network`, in the order in which they run.

    name  that of its last module with a role: "layer4", "blocks.6"
    """

    name: str
    units: tuple[str, ...]


def find_stages(trunk: Trunk) -> tuple[Stage, ...]:
    """The stages of a trunk, by one forward pass of one grey image; every tensor is in one of them (see `stage_of`).

    timm tells where its networks' resolution falls (feature_info); of others it is seen; a network whose resolution
    never falls gets four groups. What stands before the first such place belongs to the first stage, what stands after
    the last one to the last stage.
    """
    seen = _trace(trunk, _units(trunk.network))
    order = list(seen)
    ends = _told_ends(trunk.network, order) or _seen_ends(trunk.network, seen)
    stages, start = [], 0
    for place, (name, end) in enumerate(ends):
        units = order[start : end + 1] if place < len(ends) - 1 else order[start:] + _idle(trunk.network, order)
        stages.append(Stage(name, tuple(units)))
        start = end + 1
    return tuple(stages)


def stage_of(stages: Sequence[Stage], name: str) -> int:
    """The index of the stage in which a tensor or module of the network is, by its name; what no unit holds: the first.

    (A class token or a position embedding stands beside the units and acts before them.)
    """
    for index, stage in enumerate(stages):
        if any(name == unit or name.startswith(f"{unit}.") for unit in stage.units):
            return index
    return 0


def cut(trunk: Trunk, n_front: int) -> tuple[nn.Module, nn.Module] | None:
    """The first `n_front` stages and the rest as two modules; None where that cannot be had bit for bit.

    Front: images (B, S, S, 3) → activation, always in eval mode, without gradients. Back: activation → the features
    `last` (B, D). Both share every parameter and buffer with the trunk. With all stages in front, the front gives the
    features and the back is nn.Identity.
    """
    stages = find_stages(trunk)
    if not 0 < n_front <= len(stages):
        return None
    front_units = [unit for stage in stages[:n_front] for unit in stage.units]
    back_units = [unit for stage in stages[n_front:] for unit in stage.units]
    with resting(trunk), torch.no_grad():
        images = torch.randint(
            0, 256, (_TRIED, trunk.size, trunk.size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        ).to(trunk.mean.device)
        expected = trunk.last(images)
        front = _front(trunk, front_units, back_units)
        activation = _attempt(front, images)
        if activation is None or len(activation) != _TRIED:
            return None
        backs: Iterator[nn.Module] = iter([nn.Identity()]) if not back_units else _backs(trunk, front_units, activation)
        for back in backs:
            found = _attempt(back, activation.contiguous().clone())  # laid out as when it comes back from a file
            if found is not None and torch.equal(found, expected):
                return front, back
    return None


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """The module in eval mode inside the block, each part in its own mode again afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


# Stages -----------------------------------------------------------------------------------------------------------


def _units(network: nn.Module) -> list[str]:
    """Children of the network, those that only hold others in a row taken apart; without its classifier."""
    whole = sum(parameter.numel() for parameter in network.parameters())
    classifiers = classifier_names(network)
    units: list[str] = []
    for name, child in network.named_children():
        if name in classifiers:
            continue
        share = sum(parameter.numel() for parameter in child.parameters()) / max(whole, 1)
        if isinstance(child, nn.Sequential | nn.ModuleList):
            units += [f"{name}.{inner}" for inner, _ in child.named_children()]
        elif share > _NEARLY_ALL and any(isinstance(one, nn.Sequential | nn.ModuleList) for one in child.children()):
            units += [f"{name}.{unit}" for unit in _units(child)]
        else:
            units.append(name)
    return [unit for unit in units if unit not in classifiers]


def _trace(trunk: Trunk, units: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Units in the order in which they first run, with the shape of what each gives; () where that is no tensor."""
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.setdefault(name, tuple(output.shape) if isinstance(output, Tensor) else ())

        return hook

    handles = [trunk.network.get_submodule(unit).register_forward_hook(note(unit)) for unit in units]
    try:
        with resting(trunk), torch.no_grad():
            trunk.last(grey_image(trunk.size).to(trunk.mean.device))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _idle(network: nn.Module, order: Sequence[str]) -> list[str]:
    """Units that never ran though they hold tensors: they go with the last stage."""
    left = [unit for unit in _units(network) if unit not in order]
    classifiers = classifier_names(network)
    return [unit for unit in left if _holds(network.get_submodule(unit)) and unit not in classifiers]


def _holds(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None


def _told_ends(network: Any, order: Sequence[str]) -> list[tuple[str, int]]:
    """Name and last unit of each stage as timm's feature_info has it; [] where that tells less than two."""
    by_reduction: dict[int, list[tuple[str, int]]] = {}
    for told in getattr(network, "feature_info", None) or ():
        module, reduction = str(told.get("module", "")), int(told.get("reduction", 0))
        places = [place for place, unit in enumerate(order) if _meet(unit, module)]
        if module and places:
            by_reduction.setdefault(reduction, []).append((module, places[-1]))
    ends = [found[-1] for found in by_reduction.values()]
    if len(ends) == 1:  # the resolution never falls
        found = next(iter(by_reduction.values()))
        groups = min(_GROUPS, len(found))
        ends = [found[round(len(found) * group / groups) - 1] for group in range(1, groups + 1)]
    rising = all(before < after for (_, before), (_, after) in itertools.pairwise(ends))
    return ends if len(ends) > 1 and rising else []


def _meet(unit: str, module: str) -> bool:
    """Whether one of the two names is the other, or lies within it."""
    return f"{unit}.".startswith(f"{module}.") or f"{module}.".startswith(f"{unit}.")


def _seen_ends(network: nn.Module, seen: Mapping[str, tuple[int, ...]]) -> list[tuple[str, int]]:
    """Name and last unit of each stage where the resolution was seen to fall; else of four groups of units."""
    order = list(seen)
    begins, side = [0], 0
    for place, unit in enumerate(order):
        found = _side(seen[unit])
        if found == 1 and not _holds(network.get_submodule(unit)):
            break  # pooled: what comes after has no resolution
        if found:
            if side and found < side:
                begins.append(place)
            side = found
    holding = [place for place, unit in enumerate(order) if _holds(network.get_submodule(unit))]
    # A stage has something to train: what holds nothing goes with what comes after it.
    ends = [end - 1 for end in (*begins[1:], len(order))]
    ends = [end for begin, end in zip(begins, ends, strict=True) if any(begin <= place <= end for place in holding)]
    if len(ends) < 2 and len(holding) > 1:
        groups = min(_GROUPS, len(holding))
        ends = [holding[round(len(holding) * group / groups) - 1] for group in range(1, groups + 1)]
    if not ends:
        return [(order[-1] if order else "network", len(order) - 1)]
    return [(order[max((place for place in holding if place <= end), default=end)], end) for end in ends]


def _side(shape: tuple[int, ...]) -> int:
    """Height of feature maps (B, C, h, w) or (B, h, w, C); 0 where it is none."""
    if len(shape) != 4:
        return 0
    return shape[2] if shape[2] == shape[3] else shape[1]


# Cutting ----------------------------------------------------------------------------------------------------------


class _Reached(Exception):
    def __init__(self, activation: Tensor) -> None:
        super().__init__("the cut")
        self.activation = activation


class _Stop(nn.Module):
    """The last unit of a front: what it gives leaves the network at once."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        raise _Reached(self.unit(*inputs, **named))


class _Pass(nn.Module):
    """In the place of a unit that has nothing to do any more."""

    def forward(self, x: Tensor, *_inputs: Any, **_named: Any) -> Tensor:
        return x


class _Given(nn.Module):
    """In the place of the last unit before a cut: gives what it was given before, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.activation: Tensor | None = None

    def forward(self, *_inputs: Any, **_named: Any) -> Tensor:
        assert self.activation is not None
        return self.activation


class Front(nn.Module):
    """Images (B, S, S, 3) → the activation at the cut. Frozen: always in eval mode, never with gradients."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.train(False)

    def train(self, mode: bool = True) -> Front:
        """Stays in eval mode whatever is asked."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        try:
            return self.trunk.last(image)
        except _Reached as reached:
            return reached.activation


class Back(nn.Module):
    """The activation at the cut → features (B, D). Its tensors bear the names that they have in the trunk.

    given  None: the activation runs through the network, whose front units pass it on; else it is put in at the cut,
           and a blank image runs before it (networks that do more between their units than passing on)
    """

    blank: Tensor

    def __init__(self, trunk: Trunk, network: nn.Module, given: _Given | None, channels_last: bool) -> None:
        super().__init__()
        self.network = network
        self._given = given
        self._tapped, self._channels_last = bool(trunk.stages), channels_last
        blank = torch.zeros(1, 3, trunk.size, trunk.size, device=trunk.mean.device)
        self.register_buffer("blank", blank, persistent=False)

    def forward(self, activation: Tensor) -> Tensor:
        if self._channels_last:  # as it left the front: other layouts may give other bits
            activation = activation.contiguous(memory_format=torch.channels_last)
        if self._given is None:
            return pooled(self.network, activation, tapped=self._tapped)
        self._given.activation = activation
        try:
            return pooled(self.network, self.blank, tapped=self._tapped)
        finally:
            self._given.activation = None


def _front(trunk: Trunk, front: Sequence[str], back: Sequence[str]) -> Front:
    last = front[-1]
    gone = [name for name in classifier_names(trunk.network) if _has(trunk.network, name)] if trunk.stages else []
    replaced: dict[str, nn.Module] = {name: _Pass() for name in (*gone, *back)}
    if back:
        replaced[last] = _Stop(trunk.network.get_submodule(last))
    copied = copy.copy(trunk)
    copied._modules = {**trunk._modules, "network": _with(trunk.network, replaced)}
    return Front(copied)


def _backs(trunk: Trunk, front: Sequence[str], activation: Tensor) -> Iterator[nn.Module]:
    """Ways in which the back may work, the simplest first."""
    laid = activation.ndim == 4 and activation.is_contiguous(memory_format=torch.channels_last)
    gone = [name for name in classifier_names(trunk.network) if _has(trunk.network, name)] if trunk.stages else []
    passing: dict[str, nn.Module] = {name: _Pass() for name in (*front, *gone)}
    yield Back(trunk, _with(trunk.network, passing), None, laid)
    given = _Given()
    first = {} if len(front) == 1 else {front[0]: trunk.network.get_submodule(front[0])}
    yield Back(trunk, _with(trunk.network, {**passing, front[-1]: given, **first}), given, laid)
    whole: dict[str, nn.Module] = {name: _Pass() for name in gone}
    yield Back(trunk, _with(trunk.network, {**whole, front[-1]: given}), given, laid)


def _has(network: nn.Module, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False
    return True


def _with(module: nn.Module, replaced: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of the module that shares every part and tensor, but for the parts at the names of `replaced`."""
    if "" in replaced:
        return replaced[""]
    inner: dict[str, dict[str, nn.Module]] = {}
    for name, other in replaced.items():
        child, _, rest = name.partition(".")
        inner.setdefault(child, {})[rest] = other
    copied = copy.copy(module)
    copied._modules = {
        name: child if child is None or name not in inner else _with(child, inner[name])
        for name, child in module._modules.items()
    }
    return copied


def _attempt(module: nn.Module, x: Tensor) -> Tensor | None:
    """What the module gives; None where the network's own code cannot work so, or gives no tensor."""
    try:
        found = module(x)
    except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError, IndexError):
        return None
    return found if isinstance(found, Tensor) else None

"""A trunk and a head trained as one, stage by stage: what is frozen neither learns nor moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headway.backbones.network import Trunk, classifier_names, tensors_digest
from headway.backbones.stages import Stage, cut, find_stages, stage_of


class StagedClassifier(nn.Module):
    """Images (B, S, S, 3), uint8 or floats of 0..255 → logits (B, C). All stages and the head train at first.

    A frozen stage gets no gradients and stays in eval mode: BatchNorm, dropout and drop path act as in prediction,
    and none of its buffers moves. The classifier that the library's network brought is never used and never trains.

    freeze_bn  every BatchNorm stays in eval mode, those of live stages too; their scale and shift still learn there
    stages     those of the trunk, where they are known
    """

    def __init__(
        self, trunk: nn.Module, head: nn.Module, freeze_bn: bool = False, stages: tuple[Stage, ...] | None = None
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.freeze_bn = freeze_bn
        self.stages = find_stages(trunk) if stages is None and isinstance(trunk, Trunk) else stages or ()
        self.n_live = self.n_stages
        self.thaw(None)

    @property
    def n_stages(self) -> int:
        """How many stages the trunk has, the head not counted."""
        return len(self.stages)

    def forward(self, image: Tensor) -> Tensor:
        features = self.trunk.last(image) if isinstance(self.trunk, Trunk) else self.trunk(image)  # (B, D)
        logits: Tensor = self.head(features)
        return logits

    def thaw(self, k: int | None) -> None:
        """Let the last `k` stages learn, and the head; None or more than there are = all, 0 = the head alone."""
        self.n_live = self.n_stages if k is None else min(max(k, 0), self.n_stages)
        for name, parameter in self.named_parameters():
            depth = self._depth(name)
            parameter.requires_grad_(depth is not None and depth >= self.n_stages - self.n_live)
        self.train(self.training)

    def train(self, mode: bool = True) -> StagedClassifier:
        """As usual, but what is frozen stays in eval mode."""
        super().train(mode)
        for _, module in self._frozen_modules():
            module.training = False
        return self

    def depths(self) -> dict[str, int]:
        """Parameter name → depth: index of its stage, and the number of stages for the head."""
        found = {name: self._depth(name) for name, _ in self.named_parameters()}
        return {name: depth for name, depth in found.items() if depth is not None}

    def count(self) -> tuple[int, int]:
        """How many parameters there are, and how many of them learn now; without the library's own classifier."""
        known = [parameter for name, parameter in self.named_parameters() if self._depth(name) is not None]
        return sum(one.numel() for one in known), sum(one.numel() for one in known if one.requires_grad)

    def front_and_back(self, k: int) -> tuple[nn.Module, StagedClassifier] | None:
        """The first `k` stages, which must be frozen, and the rest with the head; None where they cannot be parted.

        Front: images → activation. Back: activation → logits, a model like this one that shares its parameters and
        buffers under the same names: what it learns, this one has learnt.
        """
        if k > self.n_stages - self.n_live:
            raise ValueError(f"{k} stages in front, but only {self.n_stages - self.n_live} are frozen")
        parts = cut(self.trunk, k) if isinstance(self.trunk, Trunk) else None
        if parts is None:
            return None
        back = StagedClassifier(parts[1], self.head, self.freeze_bn, self.stages)
        back.thaw(self.n_live)
        return parts[0], back.train(self.training)

    def _depth(self, name: str) -> int | None:
        """Depth of a parameter or module by its name in here; None for the library's own classifier."""
        part, _, within = name.partition(".network.") if name.startswith("trunk.network.") else (name, "", "")
        if part != "trunk":
            return self.n_stages if part.partition(".")[0] == "head" else max(self.n_stages - 1, 0)
        if any(within == own or within.startswith(f"{own}.") for own in classifier_names(self.trunk.network)):
            return None
        return stage_of(self.stages, within)

    def _frozen_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules that stay in eval mode, by name. One that holds stages is as live as the last of them."""
        first = self.n_stages - self.n_live
        for name, module in self.named_modules():
            frozen = name.startswith("trunk") and self._last_depth(name) < first
            if frozen or (self.freeze_bn and isinstance(module, _BatchNorm)):
                yield name, module

    def _last_depth(self, name: str) -> int:
        within = name.removeprefix("trunk").removeprefix(".network").removeprefix(".")
        inside = [
            index
            for index, stage in enumerate(self.stages)
            if any(not within or unit == within or unit.startswith(f"{within}.") for unit in stage.units)
        ]
        depth = self._depth(name) if within else None
        return max([*inside, *([depth] if depth is not None and not inside else [])], default=-1)


def frozen_digest(model: StagedClassifier) -> dict[str, Any]:
    """sha256 over names, types, shapes and bytes of every frozen parameter and every buffer of a frozen module.

    Buffers are those of stages that stay in eval mode, and with freeze_bn the statistics of every BatchNorm.

    Returns {"digest": 64 hexadecimal digits, "tensors": how many there are}.
    """
    tensors: dict[str, Tensor] = {}
    known = model.depths()
    for name, parameter in model.named_parameters():
        if name in known and not parameter.requires_grad:
            tensors[name] = parameter
    for prefix, module in model._frozen_modules():
        for name, buffer in module.named_buffers(prefix, recurse=False):
            tensors[name] = buffer
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    return {"digest": tensors_digest(plain), "tensors": len(tensors)}

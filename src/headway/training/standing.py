"""Where a training stands: all of it goes into a checkpoint, and comes back the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from headway.training.averaging import Average
from headway.training.batch import Steps
from headway.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from headway.training.optimizers import optimizer_tensors, restore_optimizer
from headway.training.task import Epoch
from headway.world import World, share


@dataclass
class Standing:
    """What changes while a training runs, the tensors of model and optimizer left out.

    epoch, done   the epoch under way, from 1, and how many of its batches are done; step counts them over all epochs
    loss, right   sums over the images of this epoch
    best          state_dict of the best epoch so far, on the CPU
    ended         "" | "epochs" | "patience" | "target" | "time"
    micro_batches what memory forced: (step, images at once)
    """

    epoch: int = 1
    done: int = 0
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    ended: str = ""
    micro_batches: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        """Everything but tensors, for JSON. Floats come back with every bit (Python writes the shortest that does)."""
        plain = {name: value for name, value in vars(self).items() if name not in ("best", "history")}
        return {**plain, "history": [asdict(epoch) for epoch in self.history]}

    @staticmethod
    def of(facts: Mapping[str, Any], best: dict[str, Tensor]) -> Standing:
        """The inverse of `facts`."""
        plain = {name: facts[name] for name in ("epoch", "done", "step", "loss", "right", "ended", "seconds")}
        return Standing(
            **plain,
            history=[Epoch(**epoch) for epoch in facts["history"]],
            micro_batches=[(step, images) for step, images in facts["micro_batches"]],
            best=best,
        )


@dataclass(frozen=True)
class Keeper:
    """Checkpoints of one training: written by the leader, read by it for all.

    key  of all that decides the result; another key's checkpoint is not gone on from
    """

    folder: Path | None
    key: str
    world: World

    def save(self, standing: Standing, stepper: Steps, average: Average | None) -> None:
        """Write where the training stands. The model must have its own weights, and no step be half done."""
        if self.folder is None or not self.world.leads:
            return
        tensors = {f"model/{name}": tensor for name, tensor in stepper.model.state_dict().items()}
        for name, tensor in optimizer_tensors(stepper.optimizer, stepper.model).items():
            tensors[f"optimizer/{name}"] = tensor
        for name, tensor in (average.tensors if average is not None else {}).items():
            tensors[f"average/{name}"] = tensor
        for name, tensor in standing.best.items():
            tensors[f"best/{name}"] = tensor
        scaler = stepper.scaler.state_dict() if stepper.scaler is not None else None
        facts = {"key": self.key, "processes": self.world.size, "scaler": scaler, **standing.facts()}
        save_checkpoint(self.folder, tensors, facts)

    def load(self) -> Checkpoint | None:
        """The newest checkpoint of this key, in every process."""
        if self.folder is None:
            return None
        found = load_checkpoint(self.folder) if self.world.leads else None
        if found is not None and found.facts["key"] != self.key:
            found = None
        return share(self.world, found)


def restore(found: Checkpoint, stepper: Steps, average: Average | None) -> Standing:
    """Put a checkpoint's tensors in their places; where training stood."""
    _load(stepper.model, _below(found.tensors, "model/"))
    restore_optimizer(stepper.optimizer, stepper.model, _below(found.tensors, "optimizer/"))
    if average is not None:
        average.load(_below(found.tensors, "average/"))
    if stepper.scaler is not None:
        stepper.scaler.load_state_dict(found.facts["scaler"])
    return Standing.of(found.facts, _below(found.tensors, "best/"))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(tensors[name])

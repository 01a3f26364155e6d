"""Validation: logits of every row, what they are worth, which epoch is best and when enough is enough."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headway.evaluation.metrics import averages, balanced_accuracy, confusion_matrix, per_class, score
from headway.training.memory import is_out_of_memory
from headway.training.task import LOSSES, Epoch, LoopSettings, Rows
from headway.world import ALONE, World, gather


def predict(model: nn.Module, rows: Rows, batch: int, world: World = ALONE) -> NDArray[np.float32]:
    """Logits (N, C) of `rows`, plain (nothing augmented), in every process; each does every so many-th batch.

    The model is judged in eval mode and handed back in the mode it was in. Where memory does not hold a batch, it is
    taken in halves: in eval mode that is the same mathematics.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        mine = _predict(model, rows, batch, world)
    finally:
        for module, mode in modes.items():
            module.training = mode
    found = {number: logits for part in gather(world, mine) for number, logits in part.items()}
    return np.concatenate([found[number] for number in sorted(found)])


@torch.no_grad()
def _predict(model: nn.Module, rows: Rows, batch: int, world: World) -> dict[int, NDArray[np.float32]]:
    """Number of batch → logits (b, C), of the batches of this process."""
    starts = range(0, len(rows), batch)
    mine = range(world.rank, len(starts), world.size)
    batches = [np.arange(starts[number], min(starts[number] + batch, len(rows))) for number in mine]
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    found: dict[int, NDArray[np.float32]] = {}
    size = batch
    with closing(Fed(rows.feed(batches, 0))) as fed:
        for number, images in zip(mine, fed.tensors, strict=True):
            while number not in found:
                try:
                    parts = [model(part.to(device, non_blocking=True)).float().cpu() for part in images.split(size)]
                except RuntimeError as error:
                    if not is_out_of_memory(error) or size == 1:
                        raise
                    size = (size + 1) // 2
                else:
                    found[number] = torch.cat(parts).numpy()
    return found


class Fed:
    """A feed's iterator that can be closed, whatever kind it is."""

    def __init__(self, tensors: Any) -> None:
        self.tensors = tensors

    def close(self) -> None:
        close = getattr(self.tensors, "close", None)
        if close is not None:
            close()


def measure(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> dict[str, float]:
    """Each of METRICS for logits (N, C) and labels (N,). Raises HeadwayError where a logit is not finite."""
    scores = score(logits, labels)
    counts = per_class(confusion_matrix(labels, scores.predicted, logits.shape[1]))
    loss = float(scores.loss.mean())
    return {
        "val.accuracy": float(scores.right.mean()),
        "val.balanced_accuracy": balanced_accuracy(counts),
        "val.macro_f1": averages(counts).macro.f1,
        "val.loss": loss,
        "val.log_loss": loss,
    }


def goodness(metric: str, value: float) -> float:
    """`value` so that more is better."""
    return -value if metric in LOSSES else value


def best_of(epochs: Sequence[Epoch], metric: str) -> Epoch | None:
    """The best epoch by `metric`, its `score`; of equals the one of lower loss, then the earlier."""
    return max(epochs, key=lambda one: (goodness(metric, one.score), -one.val_loss, -one.epoch), default=None)


def ending(epochs: Sequence[Epoch], measured: dict[str, float], settings: LoopSettings) -> str:
    """Why training ends after the last of `epochs`: "target", "patience", "epochs", or "" where it goes on.

    Patience counts from the epoch that last had a better metric; a lower loss at the same accuracy is none.
    """
    last = epochs[-1].epoch
    if settings.until:
        metric, value = settings.until
        if goodness(metric, measured[metric]) >= goodness(metric, value):
            return "target"
    if last >= settings.epochs:
        return "epochs"
    first = max(epochs, key=lambda one: (goodness(settings.keep, one.score), -one.epoch))
    return "patience" if settings.patience and last - first.epoch >= settings.patience else ""


def told_ending(epochs: Sequence[Epoch], stopped: str, settings: LoopSettings) -> str:
    """Which epoch is kept and why training ended, in one sentence or two."""
    best = best_of(epochs, settings.keep)
    assert best is not None
    last = epochs[-1].epoch
    which = f"Epoch {best.epoch}" if best.epoch else "The state before the first step"
    kept = f"{which} of {last} has the best {settings.keep}, {best.score:.4f}"
    if stopped == "patience":
        return f"{kept}; stopped as {settings.patience} epochs brought no better one (--patience {settings.patience})."
    if stopped == "target" and settings.until:
        return f"{kept}; stopped as the target was reached (--until {settings.until[0]}={settings.until[1]:g})."
    if stopped == "time":
        return f"{kept}; stopped as the time for it was used up (--budget)."
    return f"{kept}."

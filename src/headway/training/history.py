"""What a training by epochs leaves in the record: rows of history.csv, and the "selection" of evaluation.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.evaluation.metrics import Scores
from headway.events import Measured
from headway.training.judging import best_of
from headway.training.task import Epoch, Trained

_MEASURED = ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


def measured(part: str, epoch: Epoch) -> Measured:
    """An epoch as an event, by the columns of history.csv. part: "head" or "network"."""
    return Measured(part, epoch.epoch, {name: getattr(epoch, name) for name in _MEASURED})


def epoch_rows(epochs: Sequence[Epoch], keep: str, taps: str, l2: float | None = None) -> list[dict[str, Any]]:
    """Rows of history.csv, column → value; `best` is true of the epoch that is kept by the metric `keep`."""
    kept = best_of(epochs, keep)
    return [
        {
            "kind": "epoch",
            "step": epoch.epoch,
            "taps": taps,
            "l2": l2,
            "lr": epoch.lr,
            "train_loss": epoch.train_loss,
            "train_accuracy": epoch.train_accuracy,
            "val_loss": epoch.val_loss,
            "val_accuracy": epoch.val_accuracy,
            "best": epoch is kept,
            "seconds": round(epoch.seconds, 3),
        }
        for epoch in epochs
    ]


def selection(head: str, taps: str, trained: Trained, scores: Scores, l2: float | None = None) -> dict[str, Any]:
    """The one candidate that there was: head, taps, l2, why, candidates, paired. `scores` of the validation images."""
    candidate = {
        "taps": taps,
        "l2": l2,
        "val_log_loss": float(scores.loss.mean()),
        "val_accuracy": float(scores.right.mean()),
        "iterations": trained.epochs[-1].epoch,
        "chosen": True,
    }
    return {"head": head, "taps": taps, "l2": l2, "why": trained.why, "candidates": [candidate], "paired": None}

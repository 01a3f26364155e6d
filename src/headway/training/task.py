"""What the loop is given, and what it says: the values that go in and out of `loop.train`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.errors import Refused, nearest
from headway.training.schedules import parse_schedule

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("fp32", "bf16", "fp16")
METRICS = ("val.accuracy", "val.balanced_accuracy", "val.macro_f1", "val.loss", "val.log_loss")
LOSSES = ("val.loss", "val.log_loss")  # the lower, the better

# (batches, epoch) → for each array of positions (b,), each 0..N-1, in that order, the model's input (b, ...) as a CPU
# tensor. epoch from 1; 0 = plain, nothing augmented. Same arguments, same bits.
Feed = Callable[[Sequence[NDArray[np.intp]], int], Iterator[Tensor]]


@dataclass(frozen=True)
class Rows:
    """Samples to train or validate on. labels (N,) int64, 0..C-1."""

    feed: Feed
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """What is trained, and on what.

    model          the feed's tensors → logits (B, C). Its own `train()` keeps what is frozen in eval mode
    depths         parameter name → depth: 0 = nearest the image ... the largest = head. Who has none counts as the head
    class_weights  (C,), of the cross-entropy
    """

    model: nn.Module
    train: Rows
    val: Rows
    depths: Mapping[str, int] = field(default_factory=dict)
    class_weights: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class LoopSettings:
    """How to train by epochs.

    weight_decay  as the optimizer of that name in torch means it; biases and norms (one dimension) are left out
    schedule      none | cosine | onecycle | step:EVERY:FACTOR. The first three move with every step, step: with epochs
    warmup        epochs of linear warm-up from lr / 100
    micro_batch   images at once in one process; a batch is made of several, weighted by their count. None = all
    patience      stop after so many epochs without a better `keep`; 0 = never
    until         (metric, value): stop where it is reached
    keep          which epoch to keep: the best by one of METRICS; of equals the one of lower loss, then the earlier
    mixup, cutmix the parameter of their Beta distribution, 0 = off; with both, one of them is drawn for each batch
    ema           decay of the moving average of weights, 0 = off. The average is what is judged and kept
    clip          longest gradient, by norm over all parameters; 0 = off
    layer_decay   learning rate of a parameter at depth d: lr * layer_decay ** (deepest - d)
    thaw_every    > 0: model.thaw(1 + (epoch - 1) // thaw_every) before each epoch
    judge_start   judge the state before the first step as epoch 0; it may be the one that is kept
    """

    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    batch: int = 200
    micro_batch: int | None = None
    epochs: int = 30
    patience: int = 0
    until: tuple[str, float] | None = None
    keep: str = "val.accuracy"
    seed: int = 0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    layer_decay: float = 1.0
    thaw_every: int = 0
    precision: str = "fp32"
    device: str = "cpu"
    allow_inexact: bool = False
    sync_bn: bool = False
    judge_start: bool = False
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows. Losses in nats per sample; accuracies 0..1.

    epoch    from 1; 0 = the state before the first step, whose lr is 0 and whose train figures are nan
    lr       the learning rate of its first step (of the head, where layers differ)
    train    loss and accuracy as met while training: augmented, dropout on, class weights in, weights still moving
    score    the metric that decides which epoch is kept; best whether it is the best so far
    seconds  of training up to its end, interruptions left out
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    score: float
    best: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class Step:
    """Within an epoch: `done` of `total` batches; `loss` the mean of the epoch so far. About twice a second."""

    epoch: int
    done: int
    total: int
    loss: float


@dataclass(frozen=True)
class Resumed:
    """A checkpoint was gone on from: `step` batches of `epoch` were done. `text` says so, and what else there is."""

    epoch: int
    step: int
    text: str


@dataclass(frozen=True)
class Trained:
    """What training gave.

    state          state_dict of the kept epoch, on the CPU
    stopped        "epochs" | "patience" | "target" | "time"
    why            which epoch is kept, by what, and why training ended
    micro_batches  (global step, images at once): what memory forced
    """

    state: dict[str, Tensor]
    epochs: tuple[Epoch, ...]
    stopped: str
    why: str
    micro_batches: tuple[tuple[int, int], ...]


def check_settings(settings: LoopSettings) -> None:
    """Raise Refused, with the nearest right word, where a setting is not understood."""
    for option, word, choices in (
        ("--optimizer", settings.optimizer, OPTIMIZERS),
        ("--keep", settings.keep, METRICS),
        ("--precision", settings.precision, PRECISIONS),
        ("--until", settings.until[0] if settings.until else METRICS[0], METRICS),
    ):
        if word not in choices:
            near = nearest(word, choices, 1) or list(choices)
            raise Refused(f"{option} {word} is not known. Nearest: {near[0]}. Known: {', '.join(choices)}")
    parse_schedule(settings.schedule)
    if settings.batch < 1 or settings.epochs < 1 or settings.patience < 0:
        raise Refused(
            f"--batch {settings.batch} --epochs {settings.epochs} --patience {settings.patience}: "
            "batch and epochs are 1 or more, patience 0 (never stop early) or more"
        )
    if not (math.isfinite(settings.lr) and settings.lr > 0):
        raise Refused(f"--lr {settings.lr:g}: expected a number above 0, for example 1e-3")
    _check_ranges(settings)
    _check_together(settings)


def _check_ranges(settings: LoopSettings) -> None:
    for name in ("momentum", "label_smoothing", "ema"):
        _check_range(name, getattr(settings, name), 0 <= getattr(settings, name) < 1, "a number from 0 to below 1")
    for name in ("weight_decay", "warmup", "mixup", "cutmix", "clip", "thaw_every"):
        value = getattr(settings, name)
        _check_range(name, value, 0 <= value < math.inf, "a number of 0 or more")
    _check_range("layer_decay", settings.layer_decay, 0 < settings.layer_decay <= 1, "a number above 0, up to 1")
    micro = settings.micro_batch
    _check_range("micro_batch", micro or 0, micro is None or micro >= 1, "a whole number of 1 or more (images)")


def _check_range(name: str, value: float, right: bool, expected: str) -> None:
    if not right:
        raise Refused(f"--{name.replace('_', '-')} {value:g}: expected {expected}")


def _check_together(settings: LoopSettings) -> None:
    cpu = settings.device == "cpu"
    if settings.schedule == "onecycle" and settings.warmup:
        raise Refused(
            f"--schedule onecycle brings its own warm-up: leave out --warmup {settings.warmup:g}, or take cosine"
        )
    if settings.nesterov and (settings.optimizer != "sgd" or not settings.momentum):
        raise Refused("--nesterov is a kind of momentum: expected --optimizer sgd with --momentum above 0")
    if settings.precision == "fp16" and cpu:
        raise Refused("--precision fp16 needs a GPU: on --device cpu take fp32, or bf16 where the processor has it")
    if settings.sync_bn and cpu:
        raise Refused(
            "--sync-bn needs a GPU: torch has no synchronised BatchNorm on --device cpu. "
            "Leave it out, or keep the statistics still with --freeze-bn"
        )


def told_conflicts(settings: LoopSettings) -> list[str]:
    """What goes together, but not as one may think: one sentence each, for a note."""
    told = []
    if settings.schedule in ("cosine", "onecycle"):
        for option in _stoppers(settings):
            told.append(
                f"{option} may stop training before --schedule {settings.schedule} has brought the learning rate down, "
                f"which it does over all {settings.epochs} epochs; --schedule none or step has no such end"
            )
    return told


def _stoppers(settings: LoopSettings) -> Iterator[str]:
    if 0 < settings.patience < settings.epochs:
        yield f"--patience {settings.patience}"
    if settings.until:
        yield f"--until {settings.until[0]}={settings.until[1]:g}"

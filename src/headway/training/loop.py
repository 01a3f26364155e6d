"""The training loop of heads: a generator of Epoch values, stateless in its randomness.

Order = f(seed, epoch); dropout = f(seed, epoch, batch). Batches have one fixed size: the tail is padded by repeating a
sample and its logits are cut. So it makes no difference to the bits whether a batch of features comes from a cache or
from the frozen network, as long as the network gave the cache its rows in batches of that size too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from headway.errors import HeadwayError, Refused, nearest
from headway.evaluation.metrics import averages, balanced_accuracy, confusion_matrix, per_class, score
from headway.training.heads import Layer

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("none", "cosine", "step:7:0.1")
METRICS = ("val.accuracy", "val.balanced_accuracy", "val.macro_f1", "val.loss", "val.log_loss")


@dataclass(frozen=True)
class Rows:
    """Samples to train or validate on.

    batch   positions (B,), each 0..N-1, → their features (B, D) float32. Always asked for the same number at once
    labels  (N,) integers, 0..C-1
    """

    batch: Callable[[NDArray[np.intp]], Tensor]
    labels: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class LoopSettings:
    """How to train by epochs.

    hidden        widths of the hidden layers; () = one linear layer
    dropout       share dropped of what the first, second, ... hidden layer reads; fewer than hidden layers: 0 for the
                  rest. Nothing is dropped before the last layer
    weight_decay  as the optimizer of that name in torch means it; biases are left out
    schedule      "none", "cosine" (to 0 after the last epoch) or "step:7:0.1" (times 0.1 every 7 epochs)
    patience      stop after so many epochs without a better one; 0 = never
    keep          which epoch to keep: the best by one of METRICS, the earliest of equals
    """

    hidden: tuple[int, ...] = ()
    dropout: tuple[float, ...] = ()
    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    batch: int = 200
    epochs: int = 30
    patience: int = 5
    keep: str = "val.accuracy"
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows. Losses in nats per sample; accuracies 0..1.

    epoch  from 1; lr the learning rate that it used
    train  loss and accuracy as met while training: dropout on, class weights in, the head still moving
    score  the metric that decides which epoch is kept; best whether it is the best so far
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    score: float
    best: bool


def train_head(
    train: Rows,
    val: Rows,
    n_classes: int,
    settings: LoopSettings,
    weights: NDArray[np.floating[Any]] | None = None,
) -> Generator[Epoch, None, tuple[Layer, ...]]:
    """Train linear layers with ReLU between them on standardised features; return those of the best epoch.

    `weights` (C,) are class weights of the cross-entropy. Mean and standard deviation of the training features are
    folded into the first layer, so that the layers returned read raw features. Raises HeadwayError where the loss or
    its gradient is not finite, before that step is applied; Refused where a setting is not understood.
    """
    check_settings(settings)
    mean, scale = _standard(train, settings.batch)
    parameters = _initial((len(mean), *settings.hidden, n_classes), settings.seed)
    optimizer = _optimizer(parameters, settings)
    of_class = None if weights is None else torch.from_numpy(np.array(weights, dtype=np.float32))
    kept, best, best_epoch = _copy(parameters), -math.inf, 0
    for epoch in range(1, settings.epochs + 1):
        lr = learning_rate(settings.schedule, settings.lr, epoch - 1, settings.epochs)
        for group in optimizer.param_groups:
            group["lr"] = lr
        train_loss, train_accuracy = _train_epoch(
            train, (mean, scale), parameters, optimizer, of_class, settings, epoch
        )
        measured = measure(_predict(val, (mean, scale), parameters, settings.batch), val.labels)
        value = measured[settings.keep]
        goodness = -value if settings.keep in ("val.loss", "val.log_loss") else value
        better = goodness > best
        if better:
            kept, best, best_epoch = _copy(parameters), goodness, epoch
        judged = measured["val.loss"], measured["val.accuracy"]
        yield Epoch(epoch, lr, train_loss, train_accuracy, *judged, score=value, best=better)
        if settings.patience and epoch - best_epoch >= settings.patience:
            break
    return _folded(kept, mean, scale)


def check_settings(settings: LoopSettings) -> None:
    """Raise Refused, with the nearest right word, where a setting is not understood."""
    for option, word, choices in (
        ("--optimizer", settings.optimizer, OPTIMIZERS),
        ("--keep", settings.keep, METRICS),
    ):
        if word not in choices:
            near = nearest(word, choices, 1) or list(choices)
            raise Refused(f"{option} {word} is not known. Nearest: {near[0]}. Known: {', '.join(choices)}")
    learning_rate(settings.schedule, settings.lr, 0, settings.epochs)
    if settings.batch < 1 or settings.epochs < 1 or settings.patience < 0:
        raise Refused(
            f"--batch {settings.batch} --epochs {settings.epochs} --patience {settings.patience}: "
            "batch and epochs are 1 or more, patience 0 (never stop early) or more"
        )
    if not (math.isfinite(settings.lr) and settings.lr > 0):
        raise Refused(f"--lr {settings.lr:g}: expected a number above 0, for example 1e-3")
    if len(settings.dropout) > len(settings.hidden) or not all(0 <= share < 1 for share in settings.dropout):
        raise Refused(
            f"--dropout {','.join(f'{share:g}' for share in settings.dropout)}: expected at most "
            f"{len(settings.hidden)} numbers from 0 to below 1, one before each hidden layer"
        )


def learning_rate(schedule: str, lr: float, epoch: int, epochs: int) -> float:
    """Learning rate of `epoch` (from 0) of `epochs`. Raises Refused where `schedule` is not understood."""
    name, _, rest = schedule.partition(":")
    if name == "none" and not rest:
        return lr
    if name == "cosine" and not rest:
        return lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if name == "step":
        every, _, factor = rest.partition(":")
        try:
            step, times = int(every), float(factor)
        except ValueError:
            step, times = 0, 0.0
        if step >= 1 and 0 < times <= 1:
            return lr * times ** (epoch // step)
    near = nearest(schedule, SCHEDULES, 1) or ["cosine"]
    raise Refused(
        f"--schedule {schedule} is not known. Nearest: {near[0]}. "
        "Known: none, cosine, step:EVERY:FACTOR (step:7:0.1 = times 0.1 every 7 epochs)"
    )


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


_Parameters = list[tuple[Tensor, Tensor]]


def _generator(*parts: int | str) -> torch.Generator:
    """A generator of random numbers that depends on `parts` only."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _batches(order: NDArray[np.intp], size: int) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Positions (size,) of each batch, and how many of them count: the tail is filled up with its first."""
    for low in range(0, len(order), size):
        part = order[low : low + size]
        yield np.concatenate([part, np.repeat(part[:1], size - len(part))]), len(part)


def _standard(rows: Rows, size: int) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation (0 for a constant) of the features, (D,) float32 each."""
    count, mean, square = 0, torch.zeros(()), torch.zeros(())
    for positions, n in _batches(np.arange(len(rows)), size):
        batch = rows.batch(positions)[:n].to(torch.float64)
        # Batches are merged by their means, so that no digits go in a difference of large squares
        # (Chan, Golub, LeVeque 1983).
        apart = batch.mean(dim=0) - mean
        square = square + (batch - batch.mean(dim=0)).square().sum(dim=0) + apart.square() * (count * n / (count + n))
        count += n
        mean = mean + apart * (n / count)
    deviation = (square / count).sqrt()
    noise = 4 * torch.finfo(torch.float32).eps * mean.abs()
    scale = torch.where(deviation > noise, 1 / deviation, 0.0)
    return mean.to(torch.float32), scale.to(torch.float32)


def _initial(sizes: Sequence[int], seed: int) -> _Parameters:
    """Weights and biases as torch.nn.Linear starts them: uniform within 1 / sqrt(inputs)."""
    generator = _generator(seed, "initial")
    parameters = []
    for inputs, outputs in pairwise(sizes):
        bound = 1 / math.sqrt(inputs)
        weight = (torch.rand(outputs, inputs, generator=generator) * 2 - 1) * bound
        bias = (torch.rand(outputs, generator=generator) * 2 - 1) * bound
        parameters.append((weight.requires_grad_(), bias.requires_grad_()))
    return parameters


def _optimizer(parameters: _Parameters, settings: LoopSettings) -> torch.optim.Optimizer:
    groups = [
        {"params": [weight for weight, _ in parameters], "weight_decay": settings.weight_decay},
        {"params": [bias for _, bias in parameters], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr)


def _forward(batch: Tensor, parameters: _Parameters, dropout: Sequence[float], generator: torch.Generator) -> Tensor:
    """Standardised features (B, D) → logits (B, C)."""
    hidden = batch
    for position, (weight, bias) in enumerate(parameters):
        if position:
            hidden = functional.relu(hidden)
        share = dropout[position] if position < len(dropout) else 0.0
        if share:
            hidden = hidden * (torch.rand(hidden.shape, generator=generator) >= share) / (1 - share)
        hidden = functional.linear(hidden, weight, bias)
    return hidden


def _train_epoch(
    rows: Rows,
    standard: tuple[Tensor, Tensor],
    parameters: _Parameters,
    optimizer: torch.optim.Optimizer,
    weights: Tensor | None,
    settings: LoopSettings,
    epoch: int,
) -> tuple[float, float]:
    """One epoch in place; mean loss and accuracy as met."""
    mean, scale = standard
    labels = torch.from_numpy(np.array(rows.labels, dtype=np.int64))
    order = torch.randperm(len(rows), generator=_generator(settings.seed, "order", epoch)).numpy()
    total, right, batches = 0.0, 0, math.ceil(len(rows) / settings.batch)
    for number, (positions, n) in enumerate(_batches(order, settings.batch), start=1):
        batch = (rows.batch(positions) - mean) * scale  # (B, D)
        generator = _generator(settings.seed, "dropout", epoch, number)
        logits = _forward(batch, parameters, settings.dropout, generator)[:n]  # (n, C)
        target = labels[torch.from_numpy(positions[:n])]
        loss = functional.cross_entropy(logits, target, weight=weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not _finite(loss, parameters):
            raise HeadwayError(
                f"the loss or its gradient is not a finite number in epoch {epoch}, batch {number} of {batches} "
                f"(loss {float(loss.detach())}); that step was not taken. {_advice(settings)}"
            )
        optimizer.step()
        total += float(loss.detach()) * n
        right += int((logits.detach().argmax(dim=1) == target).sum())
    return total / len(rows), right / len(rows)


def _finite(loss: Tensor, parameters: _Parameters) -> bool:
    gradients = (part.grad for pair in parameters for part in pair)
    finite = all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients)
    return finite and bool(torch.isfinite(loss))


def _advice(settings: LoopSettings) -> str:
    return f"Try a lower learning rate: --lr {settings.lr / 10:g} (it was {settings.lr:g})"


@torch.no_grad()
def _predict(rows: Rows, standard: tuple[Tensor, Tensor], parameters: _Parameters, size: int) -> NDArray[np.float32]:
    mean, scale = standard
    parts = []
    for positions, n in _batches(np.arange(len(rows)), size):
        batch = (rows.batch(positions) - mean) * scale
        parts.append(_forward(batch, parameters, (), torch.Generator())[:n])
    logits: NDArray[np.float32] = torch.cat(parts).numpy()  # (N, C)
    return logits


def _copy(parameters: _Parameters) -> _Parameters:
    return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in parameters]


def _folded(parameters: _Parameters, mean: Tensor, scale: Tensor) -> tuple[Layer, ...]:
    """The layers on raw features: `(x - mean) * scale` goes into the first."""
    weight, bias = parameters[0]
    raw = weight * scale
    shifted = (bias.to(torch.float64) - raw.to(torch.float64) @ mean.to(torch.float64)).to(torch.float32)
    return tuple(Layer(w.numpy(), b.numpy()) for w, b in [(raw, shifted), *parameters[1:]])

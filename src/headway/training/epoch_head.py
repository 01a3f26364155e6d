"""Heads with hidden layers, trained by epochs on features in memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from headway.evaluation.metrics import score
from headway.events import Detail, Measured, Progress
from headway.training.balance import balanced_weights
from headway.training.design import share, stacked
from headway.training.head_module import TrainedHead, head_task, train_head
from headway.training.head_settings import HeadSettings, enough_epochs
from headway.training.heads import Head
from headway.training.history import epoch_rows, measured, selection
from headway.training.loop import Epoch, LoopSettings, Resumed, Rows, Step, Task
from headway.training.probe_data import Probe, ProbeData, Probing, names_of, reads_of, training_labels
from headway.world import ALONE


def by_epochs(data: ProbeData, settings: HeadSettings, loop: LoopSettings, folder: Path | None) -> Probing:
    """A head trained by epochs, on the last tap unless all are asked for. Its temperature is 1 yet."""
    taps = "all" if settings.taps == "all" else "last"
    names = names_of(data, taps)
    rows, labels = stacked(reads_of(data, names), data.train), training_labels(data)
    val, val_labels = data.columns(names, data.val), data.labels[data.val].astype(np.int64)
    weights = balanced_weights(labels, data.n_classes) if settings.balance == "weights" else None
    if settings.epochs == "auto":
        loop = replace(loop, epochs=enough_epochs(len(rows), loop.batch))
    task = head_task(
        _cached(rows, labels), _cached(val, val_labels), data.n_classes, settings.shape, loop.seed, weights
    )
    if settings.lr == "auto":
        loop = yield from _with_rate(task, loop)
    key = "" if folder is None else _key(settings, rows, labels, val, val_labels)
    done = yield from _followed(train_head(task, loop, folder, key), loop.epochs)
    head = Head(settings.spec, names, done.layers)
    logits = head.logits(val)
    l2 = None if isinstance(settings.l2, str) else settings.l2
    chosen = selection(settings.spec, taps, done.trained, score(logits, val_labels), l2)
    history = epoch_rows(done.trained.epochs, loop.keep, taps, l2)
    return Probe(head, 1.0, chosen, history, logits, 0.0)


def _with_rate(task: Task, loop: LoopSettings) -> Generator[Detail, None, LoopSettings]:
    from headway.training.lr_range import find_lr

    found = find_lr(task, loop, ALONE)
    yield Detail("head", found.why)
    return replace(loop, lr=found.lr)


def _followed(
    training: Generator[Epoch | Step | Resumed, None, TrainedHead], epochs: int
) -> Generator[Progress | Detail | Measured, None, TrainedHead]:
    """What the loop yields, as events."""
    last = 0
    try:
        while True:
            try:
                value = next(training)
            except StopIteration as end:
                done: TrainedHead = end.value
                break
            if isinstance(value, Resumed):
                yield Detail("head", value.text)
            elif isinstance(value, Epoch):
                last = value.epoch
                yield measured("head", value)
                yield Progress("head", last, epochs, unit="epochs")
    finally:
        training.close()
    if last != epochs:
        last = done.trained.epochs[-1].epoch
        yield Progress("head", last, last, unit="epochs")
    return done


def _key(settings: HeadSettings, *arrays: NDArray[Any]) -> str:
    """Digest of all that decides a head: XXH3, as features are hundreds of megabytes."""
    whole = xxhash.xxh3_128(repr(settings).encode())
    for array in arrays:
        whole.update(f"{array.dtype} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _cached(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> Rows:
    features = share(rows)
    return Rows(lambda batches, epoch: (features.index_select(0, torch.from_numpy(batch)) for batch in batches), labels)

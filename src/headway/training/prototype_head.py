"""Prototypes: each class is the mean direction of its features, and the nearest by cosine is the answer.

    logits_c = b x . m_c / |m_c|    with  m_c the mean of x / |x| over the training images of class c

The length of x changes no order of classes, so x need not be normalised and it is a linear head like any other, without
a bias. How common a class is does not count: --balance has nothing to do here. There is nothing to choose but b > 0,
which fits images that were left out: those that validate, and of small sets training images held out in turn.
(Snell et al., 2017, "Prototypical networks for few-shot learning", have the same on features trained for it.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.calibrate import COLDEST, HOTTEST, fit_temperature
from headway.evaluation.metrics import score
from headway.events import Progress
from headway.training.design import stacked
from headway.training.folds import FOLDS, MOST_ROWS, stratified
from headway.training.head_settings import HeadSettings
from headway.training.heads import Head, Layer
from headway.training.probe_data import Held, Probe, ProbeData, Probing, names_of, reads_of, training_labels

Rows = NDArray[np.float32]


def prototype(data: ProbeData, settings: HeadSettings) -> Probing:
    """The prototypes of the training images, on the last tap unless all are asked for. Its temperature is 1 yet."""
    taps = "all" if settings.taps == "all" else "last"
    names = names_of(data, taps)
    rows, labels = stacked(reads_of(data, names), data.train), training_labels(data)
    val, val_labels = data.columns(names, data.val), data.labels[data.val]
    weight = directions(rows, labels, data.n_classes)
    held = _held(rows, labels, data, settings.seed)
    near, known = val @ weight.T, val_labels
    if held is not None:
        near, known = np.concatenate([near, held.logits]), np.concatenate([known, held.labels])
    b = np.float32(sharpness(near, known))
    if held is not None:
        held = Held(held.logits * b, held.labels)
    yield Progress("head", 1, 1, unit="fits")
    head = Head(settings.spec, names, (Layer(weight * b, np.zeros(data.n_classes, np.float32)),))
    return replace(_told(head, head.logits(val), val_labels, taps), held=held)


def directions(rows: Rows, labels: NDArray[np.integer[Any]], n_classes: int) -> Rows:
    """(C, D), of length 1: the mean direction of each class. rows (N, D), labels (N,)."""
    return _of_length_1(_sums(rows / _lengths(rows), labels, n_classes))


def _sums(rows: Rows, numbers: NDArray[np.integer[Any]], n: int) -> NDArray[np.float64]:
    """(n, D): the sum of the rows of each number."""
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(n + 1))
    ordered = rows[order]
    return np.stack([ordered[ends[at] : ends[at + 1]].sum(axis=0, dtype=np.float64) for at in range(n)])


def _of_length_1(sums: NDArray[np.float64]) -> Rows:
    return (sums / _lengths(sums)).astype(np.float32)


def _lengths(rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.asarray(np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _held(rows: Rows, labels: NDArray[np.int64], data: ProbeData, seed: int) -> Held | None:
    """Likeness (m, C) of training images to prototypes made without them; None where there are many images."""
    n = len(data.train)
    if n > MOST_ROWS:
        return None
    groups = None if data.groups is None else data.groups[data.train]
    part = stratified(labels[:n], groups, FOLDS, np.random.default_rng([seed, 5, 0]))
    # Sums of each class in each part, those that are never held out first: what is left without a part is a difference.
    numbers = labels * (FOLDS + 1) + np.tile(part + 1, 1 + len(data.views))
    sums = _sums(rows / _lengths(rows), numbers, data.n_classes * (FOLDS + 1))
    sums = sums.reshape(data.n_classes, FOLDS + 1, -1)
    whole, found, known = sums.sum(axis=1), [], []
    for number in range(FOLDS):
        out = part == number
        found.append(rows[:n][out] @ _of_length_1(whole - sums[:, number + 1]).T)
        known.append(labels[:n][out])
    return Held(np.concatenate(found), np.concatenate(known)) if (part >= 0).any() else None


def sharpness(near: Rows, labels: NDArray[np.integer[Any]]) -> float:
    """The b > 0 at which softmax(b near) fits the labels. near (N, C), labels (N,).

    Likeness may be of any length: what a temperature is fitted to has a spread of 1, and where the temperature ends at
    one of its bounds, it is fitted again from there.
    """
    b = 1 / max(float((near - near.mean(axis=1, keepdims=True)).std()), 1e-12)
    for _ in range(6):
        found = fit_temperature(near * np.float32(b), labels)
        b /= found
        if 1.01 * COLDEST < found < 0.99 * HOTTEST:
            break
    return b


def _told(head: Head, logits: Rows, labels: NDArray[np.integer[Any]], taps: str) -> Probe:
    scores = score(logits, labels)
    judged = {"val_log_loss": float(scores.loss.mean()), "val_accuracy": float(scores.right.mean())}
    why = "The nearest class mean by cosine; nothing was to be chosen."
    candidate = {
        "taps": taps,
        "l2": None,
        **judged,
        "log_loss": judged["val_log_loss"],
        "iterations": 1,
        "chosen": True,
    }
    chosen = {"head": head.spec, "taps": taps, "l2": None, "why": why, "candidates": [candidate], "paired": None}
    row = {"kind": "path", "step": 1, "taps": taps, "l2": None, "lr": None, "train_loss": None, "train_accuracy": None}
    row |= {"val_loss": judged["val_log_loss"], "val_accuracy": judged["val_accuracy"], "best": True}
    return Probe(head, 1.0, chosen, [row], logits, 0.0)

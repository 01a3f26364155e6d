"""Prototypes: each class is the mean of its features, and the nearest one is the answer. Closed form, no epochs.

Near is meant as Fisher (1936) measures it, by the covariance S within classes of standardised features, shrunk towards
a multiple of the identity (Ledoit and Wolf, 2004), so that a handful of images is enough:

    logits_c = x . w_c + b_c    with  w_c = S^-1 m_c,  b_c = log p_c - m_c . w_c / 2

m_c is the mean of class c, p_c its share of the training images (the same for all under --balance weights). It is a
linear head like any other. Its distances are too sure of themselves where there are more features than images, so the
logits are divided by the temperature that fits images which were left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.calibrate import HOTTEST, fit_temperature
from headway.evaluation.metrics import score
from headway.events import Progress
from headway.training.design import stacked
from headway.training.folds import FOLDS, MOST_ROWS, stratified
from headway.training.head_settings import HeadSettings
from headway.training.heads import Head, Layer
from headway.training.probe_data import Probe, ProbeData, Probing, names_of, reads_of, training_labels

Rows = NDArray[np.float32]


def prototype(data: ProbeData, settings: HeadSettings) -> Probing:
    """The prototypes of the training images, on the last tap unless all are asked for. Its temperature is 1 yet."""
    taps = "all" if settings.taps == "all" else "last"
    names = names_of(data, taps)
    rows, labels = stacked(reads_of(data, names), data.train), training_labels(data)
    val, val_labels = data.columns(names, data.val), data.labels[data.val]
    alike = settings.balance == "weights"
    layer = nearest_means(rows, labels, data.n_classes, alike=alike)
    logits, known = val @ layer.weight.T + layer.bias, val_labels
    n = len(data.train)
    if n <= MOST_ROWS:
        groups = None if data.groups is None else data.groups[data.train]
        part = stratified(labels[:n], groups, FOLDS, np.random.default_rng([settings.seed, 5, 0]))
        for number in range(FOLDS):
            out = part == number
            if out.any():
                kept = np.tile(~out, 1 + len(data.views))
                other = nearest_means(rows[kept], labels[kept], data.n_classes, alike=alike)
                logits = np.concatenate([logits, rows[:n][out] @ other.weight.T + other.bias])
                known = np.concatenate([known, labels[:n][out]])
    scale = _scale(logits, known)
    layer = Layer(layer.weight / scale, layer.bias / scale)
    yield Progress("head", 1, 1, unit="fits")
    head = Head(settings.spec, names, (layer,))
    return _told(head, head.logits(val), val_labels, taps)


def nearest_means(rows: Rows, labels: NDArray[np.integer[Any]], n_classes: int, *, alike: bool = False) -> Layer:
    """Weights (C, D) and biases (C,) on raw features. rows (N, D), labels (N,), each class at least once.

    alike  leave out how common the classes are
    """
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 1e-6 * np.maximum(1, np.abs(mean)), 1 / np.maximum(deviation, 1e-12), 0.0)
    standard = (rows - mean) * scale  # (N, D) float64
    counts = np.bincount(labels, minlength=n_classes)
    means = np.zeros((n_classes, rows.shape[1]))
    np.add.at(means, labels, standard)
    means /= np.maximum(counts, 1)[:, None]
    weight = _whitened(standard - means[labels], means)
    bias = -0.5 * (weight * means).sum(axis=1)
    if not alike:
        bias += np.log(np.maximum(counts, 0.5) / counts.sum())
    weight *= scale
    return Layer(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32))


def _whitened(within: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, D) S^-1 m for each row m of `means`; `within` (N, D) are the rows without their class mean."""
    n, d = within.shape
    shrinkage, spread = ledoit_wolf(within)
    if spread == 0:  # one image a class: nothing is known of the spread
        return means
    ridge = shrinkage * spread
    if n < d:  # by Woodbury's identity, through (N, N)
        gram = within @ within.T * ((1 - shrinkage) / n)
        gram.flat[:: n + 1] += ridge
        part = within.T @ np.linalg.solve(gram, within @ means.T) * ((1 - shrinkage) / n)
        return np.asarray((means - part.T) / ridge)
    covariance = within.T @ within * ((1 - shrinkage) / n)
    covariance.flat[:: d + 1] += ridge
    return np.asarray(np.linalg.solve(covariance, means.T).T)


def ledoit_wolf(within: NDArray[np.float64]) -> tuple[float, float]:
    """(shrinkage 0..1, mean variance) for centred rows (N, D): S = (1 - shrinkage) X'X/N + shrinkage * variance * I."""
    n, d = within.shape
    squares = (within * within).sum(axis=1)  # (N,)
    spread = float(squares.sum()) / (n * d)
    gram = within @ within.T if n < d else within.T @ within
    together = float((gram * gram).sum()) / n**2
    apart = (together - d * spread**2) / d
    noise = (float((squares * squares).sum()) / n - together) / (d * n)
    if apart <= 0:
        return 1.0, spread
    return float(np.clip(noise / apart, 1e-6, 1.0)), spread


def _scale(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> np.float32:
    """What to divide logits by, however far from 1: a temperature ends at `HOTTEST`."""
    scale = 1.0
    for _ in range(4):
        found = fit_temperature(logits / np.float32(scale), labels)
        scale *= found
        if found < HOTTEST:
            break
    return np.float32(scale)


def _told(head: Head, logits: Rows, labels: NDArray[np.integer[Any]], taps: str) -> Probe:
    scores = score(logits, labels)
    judged = {"val_log_loss": float(scores.loss.mean()), "val_accuracy": float(scores.right.mean())}
    why = "The nearest class mean, by the shrunk covariance within classes; nothing was to be chosen."
    candidate = {"taps": taps, "l2": None, **judged, "iterations": 1, "chosen": True}
    chosen = {"head": head.spec, "taps": taps, "l2": None, "why": why, "candidates": [candidate], "paired": None}
    row = {"kind": "path", "step": 1, "taps": taps, "l2": None, "lr": None, "train_loss": None, "train_accuracy": None}
    row |= {"val_loss": judged["val_log_loss"], "val_accuracy": judged["val_accuracy"], "best": True}
    return Probe(head, 1.0, chosen, [row], logits, 0.0)

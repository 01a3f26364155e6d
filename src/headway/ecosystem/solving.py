"""A head on rows of features, as `headway fit` trains it: everything chosen on rows that are held back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.ecosystem.refusing import WrongInput
from headway.events import drain
from headway.settings import FitSettings
from headway.training.balance import balanced_weights
from headway.training.design import stacked
from headway.training.head_settings import HeadSettings
from headway.training.heads import Head
from headway.training.path import Material, head_of
from headway.training.probe import probe
from headway.training.probe_data import ProbeData, names_of, reads_of, training_labels
from headway.training.solvers import pose

_BLOCK = 8192  # rows of which logits are worked out at a time


@dataclass(frozen=True)
class Solved:
    """A trained head. temperature: logits are divided by it before the softmax; chosen: what was chosen, and why."""

    head: Head
    temperature: float
    chosen: Mapping[str, Any]


def solve_head(data: ProbeData, settings: FitSettings) -> Solved:
    """Train a head on data.train, everything chosen on data.val; where that is empty nothing may be left to choose.

    Raises WrongInput where something is.
    """
    wanted = HeadSettings.from_settings(settings)
    if len(data.val):
        found = drain(probe(data, wanted))
        return Solved(found.head, found.temperature, found.chosen)
    _check_nothing_to_choose(data, wanted)
    names = names_of(data, "all" if wanted.taps == "all" else "last")
    rows, labels = stacked(reads_of(data, names), data.train), training_labels(data)
    weights = balanced_weights(labels, data.n_classes) if wanted.balance == "weights" else None
    widths = [dim for tap, dim in data.taps if tap in names]
    problem = pose(rows, labels, data.n_classes, weights=weights, widths=widths)
    material = Material(wanted.taps, names, problem, rows[:0], labels[:0])
    solution = problem.solve(float(wanted.l2), tolerance=material.last_tolerance)
    chosen = {"head": wanted.spec, "taps": wanted.taps, "l2": solution.l2, "why": "Nothing was left to choose."}
    return Solved(head_of(material, solution), 1.0, chosen)


def _check_nothing_to_choose(data: ProbeData, wanted: HeadSettings) -> None:
    left = []
    if wanted.spec != "linear":
        left.append("head linear")
    if isinstance(wanted.l2, str):
        left.append("l2 a number")
    if wanted.taps == "auto" and len(data.taps) > 1:
        left.append("taps last or all")
    if wanted.balance == "logit":
        left.append("balance none or weights")
    if left:
        raise WrongInput(
            "no rows are held back to choose by (val is 0, or no class has two rows): "
            f"expected {', '.join(left)}; or val above 0 and more rows"
        )


def hold_back(
    rows: NDArray[np.float32], labels: NDArray[np.integer[Any]], share: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(train, val) indices: of each class the share that is to choose by, at least one row where it has two apart.

    Which ones goes by content and seed, not by order: by sha256(seed, row). Equal rows of a class stay together.
    """
    salt = seed.to_bytes(8, "big", signed=True)
    keys = np.array([hashlib.sha256(salt + row.tobytes()).digest() for row in rows], dtype="S32")
    held = np.zeros(len(rows), bool)
    for label in np.unique(labels) if share else ():
        own = np.flatnonzero(labels == label)
        units, unit = np.unique(keys[own], return_inverse=True)  # sorted: an order by chance
        quota = min(max(1, int(share * len(units) + 0.5)), len(units) - 1)
        held[own] = unit < quota
    return np.flatnonzero(~held), np.flatnonzero(held)


def logits_of(head: Head, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, C) float64 logits of features (N, D), in float64 throughout: a row's do not depend on those beside it."""
    found = []
    for start in range(0, len(rows), _BLOCK):
        hidden = rows[start : start + _BLOCK].astype(np.float64)
        for position, layer in enumerate(head.layers):
            if position:
                hidden = np.maximum(hidden, 0)
            hidden = hidden @ layer.weight.T.astype(np.float64) + layer.bias
        found.append(hidden)
    return np.concatenate(found)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Torch on so many threads inside, as its products' last bits depend on them; as it was before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""The linear head: softmax regression, its taps and L2 chosen on images that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from headway.evaluation.compare import PairedTest, paired_test
from headway.events import Detail, Progress
from headway.training.balance import balanced_weights
from headway.training.design import Design, gather
from headway.training.folds import cross, n_folds, told
from headway.training.head_settings import HeadSettings
from headway.training.path import Candidate, Material, around, attempt, down_the_path, head_of, lowest, path_row, record
from headway.training.probe_data import (
    Probe,
    ProbeData,
    Probing,
    last_columns,
    names_of,
    reads_of,
    training_labels,
)
from headway.training.solvers import Start, pose


def linear(data: ProbeData, settings: HeadSettings, folder: Path | None) -> Probing:
    """Choose taps and L2 at a loose tolerance, then take the chosen one to convergence."""
    names = names_of(data, "all" if _compares_taps(data, settings) else settings.taps)
    dim = sum(dim for name, dim in data.taps if name in names)
    with closing(gather(reads_of(data, names), data.train, dim, folder, data.memory)) as rows:
        return (yield from _chosen(data, settings, _materials(data, settings, names, rows)))


def _compares_taps(data: ProbeData, settings: HeadSettings) -> bool:
    return settings.taps == "auto" and len(data.taps) > 1 and len(data.val) > 1  # one image proves nothing


def _chosen(data: ProbeData, settings: HeadSettings, materials: Sequence[Material]) -> Probing:
    l2s = settings.l2_candidates if isinstance(settings.l2, str) else (float(settings.l2),)
    tried = yield from down_the_path(materials[0], l2s)
    best, paired = lowest(tried), None
    for material in materials[1:]:
        others = yield from around(material, l2s, l2s.index(best.solution.l2), _padded(best.start, material, data))
        tried += others
        paired = paired_test(lowest(others).losses, best.losses)
        best = lowest(others) if paired.better == "a" else best
    yield Detail("head", f"taking taps {best.material.taps}, L2 {best.solution.l2:g} to convergence")
    final = attempt(best.material, best.solution.l2, best.end, best.material.last_tolerance)
    final = replace(final, iterations=final.iterations + best.iterations)
    tried = [final if candidate is best else candidate for candidate in tried]
    end = "converged" if final.solution.converged else "no further progress"
    yield Detail("head", f"{end} after {final.solution.iterations} iterations, gradient {final.solution.gradient:.1e}")
    yield Progress("head", len(tried) + 1, len(tried) + 1, unit="fits")
    head = replace(head_of(final.material, final.solution), spec=settings.spec)
    chosen = {
        "head": settings.spec,
        "taps": final.material.taps,
        "l2": final.solution.l2,
        "why": _why(final, tried, paired, settings),
        "candidates": [record(candidate, candidate is final) for candidate in tried],
        "paired": None if paired is None else {"names": ["all", "last"], **paired.to_json()},
        "folds": told(final.material.crossing, len(data.val)),
    }
    history = [path_row(number, candidate, candidate is final) for number, candidate in enumerate(tried, start=1)]
    crossing = final.material.crossing
    held = None if crossing is None else crossing.held(final.solution.l2)
    return Probe(head, 1.0, chosen, history, head.logits(final.material.val), 0.0, held)


def _materials(data: ProbeData, settings: HeadSettings, names: tuple[str, ...], rows: Design) -> list[Material]:
    """The choices of taps to compare, the last tap first. Features are read once; `last` is a part of `all`."""
    both, labels = _compares_taps(data, settings), training_labels(data)
    taps = "all" if both or settings.taps == "all" else "last"
    val, val_labels = data.columns(names, data.val), data.labels[data.val]
    weights = balanced_weights(labels, data.n_classes) if settings.balance == "weights" else None
    choices = [(taps, names, slice(None))]
    if both:
        choices.insert(0, ("last", ("last",), last_columns(data)))
    folds, made = n_folds(data, settings), []
    for name, columns, part in choices:
        own, widths = rows.part(part), [dim for tap, dim in data.taps if tap in columns]
        problem = pose(own, labels, data.n_classes, weights=weights, widths=widths)
        crossing = cross(own, data, replace(settings, folds=folds), widths, weights) if folds else None
        made.append(Material(name, columns, problem, val[:, part], val_labels, crossing=crossing, weights=weights))
    return made


def _padded(start: Start, material: Material, data: ProbeData) -> Start:
    """A solution on the last tap as one on all taps: the other weights are 0."""
    weight = np.zeros((len(start[0]), material.val.shape[1]), np.float32)
    weight[:, last_columns(data)] = start[0]
    return weight, start[1]


def _why(final: Candidate, tried: Sequence[Candidate], paired: PairedTest | None, settings: HeadSettings) -> str:
    """The choice in one sentence or two."""
    rivals = sum(candidate.material.taps == final.material.taps for candidate in tried)
    l2 = f"L2 {final.solution.l2:g} was asked for."
    if isinstance(settings.l2, str):
        l2 = f"L2 {final.solution.l2:g} has the lowest validation log-loss of {rivals} tried."
        if final.material.crossing is not None:
            held, n_val = len(final.material.crossing.judged), len(final.material.val)
            on = f"on {n_val:,} validation images and {held:,} training images held out in turn"
            l2 = f"L2 {final.solution.l2:g} has the lowest log-loss of {rivals} tried, {on}."
    if paired is None:
        return l2
    sentence = paired.sentence("all taps", "the last tap")
    return f"{l2} {sentence[0].upper()}{sentence[1:]}."

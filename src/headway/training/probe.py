"""The probe road: train a head on cached features, every choice made on images that the head did not learn from."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from headway.errors import Refused, nearest
from headway.evaluation.calibrate import fit_temperature
from headway.training.balance import shifted
from headway.training.epoch_head import by_epochs
from headway.training.head_settings import TAPS, HeadSettings, parse_head
from headway.training.linear_head import linear
from headway.training.loop import LoopSettings, check_settings
from headway.training.probe_data import Columns, Probe, ProbeData, Probing
from headway.training.prototype_head import prototype

__all__ = ["Columns", "HeadSettings", "Probe", "ProbeData", "Probing", "parse_head", "probe"]


def probe(data: ProbeData, settings: HeadSettings, folder: Path | None = None) -> Probing:
    """Train a head. Yields how far it is; returns the Probe.

    Linear: softmax regression to convergence; L2 has the lowest log-loss, along a warm-started path, on the validation
    images and, where those are few, on training images held out in turn (`folds`). Taps "auto" fits the last tap first,
    then all of them from there, and takes all only where a paired test on the same images backs it. Prototype: see
    `prototype_head`. With hidden layers: by epochs, on the last tap unless all are asked for. The head is never trained
    on validation images, so its temperature and what is reported of them stay honest.

    folder  for checkpoints of a training by epochs, None = none: what was stopped goes on from them; for scratch files

    Same data, settings and threads: same bits. Raises Refused where a setting is not understood or a subset is empty.
    """
    started = time.monotonic()
    loop = _checked(data, settings)
    if settings.shape.hidden or settings.by_epochs:
        found = yield from by_epochs(data, settings, loop, folder)
    elif settings.spec == "prototype":
        found = yield from prototype(data, settings)
    else:
        found = yield from linear(data, settings, folder)
    logits, labels = found.val_logits, data.labels[data.val]
    if found.held is not None:
        logits, labels = np.concatenate([logits, found.held.logits]), np.concatenate([labels, found.held.labels])
    if settings.balance == "logit" and settings.spec != "prototype":
        counts = np.bincount(data.labels[data.train], minlength=data.n_classes)
        head, logits = shifted(found.head, logits, labels, counts)
        found = replace(found, head=head, val_logits=logits[: len(data.val)])
    temperature = fit_temperature(logits, labels)
    return replace(found, temperature=temperature, seconds=time.monotonic() - started)


def _checked(data: ProbeData, settings: HeadSettings) -> LoopSettings:
    loop = settings.loop
    check_settings(loop)
    if settings.taps not in TAPS:
        near = nearest(settings.taps, TAPS, 1) or ["auto"]
        raise Refused(f"--taps {settings.taps} is not known. Did you mean {near[0]} ? Known: {', '.join(TAPS)}")
    for name, indices in (("training", data.train), ("validation", data.val)):
        if len(indices) == 0:
            raise Refused(f"there are no {name} images: a head needs some to learn from and some to be chosen by")
    return loop

"""The probe road: train a head on cached features, every choice made on validation images."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from headway.errors import Refused, nearest
from headway.evaluation.calibrate import fit_temperature
from headway.evaluation.compare import PairedTest, paired_test
from headway.evaluation.metrics import score
from headway.events import Detail, Progress
from headway.training.heads import Head, Layer
from headway.training.loop import Epoch, LoopSettings, Rows, check_settings, train_head
from headway.training.path import Candidate, Material, around, attempt, down_the_path, lowest, path_row, record
from headway.training.solvers import Start, balanced_weights, pose, share

if TYPE_CHECKING:
    from headway.settings import FitSettings

Columns = Callable[[tuple[str, ...], NDArray[np.intp]], NDArray[np.float32]]

TAPS = ("auto", "last", "all")
# From strong to weak. Of the mean loss and of standardised weights, so it hardly depends on the number of images.
L2_CANDIDATES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
_ADAMW_DECAY = 0.01  # torch's own default


@dataclass(frozen=True)
class HeadSettings:
    """What head to train, and how.

    spec           "linear", "mlp:256", "mlp:1024,256"
    dropout        share dropped of what each hidden layer reads, as LoopSettings
    l2             "auto", or the penalty: of standardised weights for a linear head, weight decay for others
    taps           "last", "all", or "auto": a linear head compares the two, others take the last
    class_weights  whether every class counts alike, however many images it has
    by_epochs      train a linear head by epochs too, as those with hidden layers
    The rest acts by epochs only, as LoopSettings says.
    """

    spec: str = "linear"
    dropout: tuple[float, ...] = ()
    l2: float | str = "auto"
    taps: str = "auto"
    class_weights: bool = False
    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    schedule: str = "cosine"
    batch: int = 200
    epochs: int = 30
    patience: int = 5
    keep: str = "val.accuracy"
    seed: int = 0
    l2_candidates: tuple[float, ...] = L2_CANDIDATES
    by_epochs: bool = False

    @staticmethod
    def from_settings(settings: FitSettings) -> HeadSettings:
        """What `fit` was told about the head."""
        shared = ("l2", "taps", "class_weights", "optimizer", "lr", "momentum", "schedule", "batch", "epochs")
        values = {name: getattr(settings, name) for name in (*shared, "patience", "keep", "seed")}
        return HeadSettings(spec=settings.head, dropout=settings.dropouts, **values)

    @property
    def loop(self) -> LoopSettings:
        """The part that the loop reads."""
        decay = self.l2 if not isinstance(self.l2, str) else _ADAMW_DECAY if self.optimizer == "adamw" else 0.0
        shared = ("dropout", "optimizer", "lr", "momentum", "schedule", "batch", "epochs", "patience", "keep", "seed")
        return LoopSettings(
            hidden=parse_head(self.spec), weight_decay=decay, **{name: getattr(self, name) for name in shared}
        )


@dataclass(frozen=True)
class ProbeData:
    """What a head is trained on. Nothing of it is changed.

    columns     (names of taps, indices (n,)) → their features side by side, (n, D) float32, finite
    labels      (N,) integers of the whole dataset, 0..n_classes-1 where `train` and `val` point
    train, val  indices into the dataset
    taps        (name, dimension) of every tap there is; one is called "last"
    views       as `columns`, of changed images (flipped, cropped): more rows to train on, never to validate on
    """

    columns: Columns
    labels: NDArray[np.integer[Any]]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    taps: tuple[tuple[str, int], ...]
    n_classes: int
    views: Sequence[Columns] = ()


@dataclass(frozen=True)
class Probe:
    """A trained head and how it was chosen.

    temperature  fitted on the validation logits
    chosen       "selection" of evaluation.json: head, taps, l2, why, candidates, paired
    history      rows of history.csv, column → value, None where it does not apply; `best` is true of one row
    val_logits   (n_val, C) float32, before temperature
    seconds      spent, features read included
    """

    head: Head
    temperature: float
    chosen: dict[str, Any]
    history: list[dict[str, Any]]
    val_logits: NDArray[np.float32]
    seconds: float


Probing = Generator[Progress | Detail, None, Probe]


def parse_head(spec: str) -> tuple[int, ...]:
    """Widths of the hidden layers: () for "linear", (1024, 256) for "mlp:1024,256". Raises Refused."""
    if spec == "linear":
        return ()
    if re.fullmatch(r"mlp:[1-9]\d{0,5}(,[1-9]\d{0,5})*", spec):
        return tuple(int(width) for width in spec.removeprefix("mlp:").split(","))
    raise Refused(
        f"no head '{spec}'. {_guess(spec)}Expected linear, or mlp: with the widths of the hidden layers, "
        "as mlp:256 or mlp:1024,256"
    )


def _guess(spec: str) -> str:
    widths = re.findall(r"[1-9]\d{0,5}", spec)
    name = (nearest(re.split(r"[:\d]", spec)[0].strip().lower(), ("linear", "mlp"), 1) or [""])[0]
    if name == "linear" and not widths:
        return "Did you mean linear ? "
    return f"Did you mean mlp:{','.join(widths or ['256'])} ? " if widths or name == "mlp" else ""


def probe(data: ProbeData, settings: HeadSettings) -> Probing:
    """Train a head. Yields how far it is; returns the Probe.

    Linear: softmax regression to convergence; L2 has the lowest validation log-loss along a warm-started path. Taps
    "auto" fits the last tap first, then all of them from there, and takes all only where a paired test on the
    validation images backs it. With hidden layers: by epochs, on the last tap unless all are asked for. The head is
    never trained on validation images, so its temperature and what is reported of them stay honest.

    Same data, settings and threads: same bits. Raises Refused where a setting is not understood or a subset is empty.
    """
    started = time.monotonic()
    loop = _checked(data, settings)
    by_epochs = bool(loop.hidden) or settings.by_epochs
    found = yield from (_by_epochs(data, settings, loop) if by_epochs else _linear(data, settings))
    temperature = fit_temperature(found.val_logits, data.labels[data.val])
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


def _names(data: ProbeData, taps: str) -> tuple[str, ...]:
    """Names of the taps that "last" or "all" stands for."""
    return tuple(name for name, _ in data.taps) if taps == "all" else ("last",)


def _training_rows(data: ProbeData, taps: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (n, D) and labels (n,) of the training images, then of each view of them."""
    labels = data.labels[data.train].astype(np.int64)
    rows = data.columns(taps, data.train)
    if not data.views:
        return rows, labels
    n = len(rows)
    every = np.empty((n * (1 + len(data.views)), rows.shape[1]), np.float32)
    every[:n] = rows
    del rows
    for number, view in enumerate(data.views, start=1):
        every[number * n : (number + 1) * n] = view(taps, data.train)
    return every, np.tile(labels, 1 + len(data.views))


def _linear(data: ProbeData, settings: HeadSettings) -> Probing:
    """Choose taps and L2 at a loose tolerance, then take the chosen one to convergence."""
    l2s = settings.l2_candidates if isinstance(settings.l2, str) else (float(settings.l2),)
    materials = _materials(data, settings)
    tried = yield from down_the_path(materials[0], l2s)
    best, paired = lowest(tried), None
    for material in materials[1:]:
        others = yield from around(material, l2s, l2s.index(best.solution.l2), _padded(best.start, material, data))
        tried += others
        paired = paired_test(lowest(others).scores.loss, best.scores.loss)
        best = lowest(others) if paired.better == "a" else best
    yield Detail("head", f"taking taps {best.material.taps}, L2 {best.solution.l2:g} to convergence")
    final = attempt(best.material, best.solution.l2, best.start, best.material.last_tolerance)
    final = replace(final, iterations=final.iterations + best.iterations)
    tried = [final if candidate is best else candidate for candidate in tried]
    end = "converged" if final.solution.converged else "no further progress"
    yield Detail("head", f"{end} after {final.solution.iterations} iterations, gradient {final.solution.gradient:.1e}")
    yield Progress("head", len(tried) + 1, len(tried) + 1, unit="fits")
    layer = Layer(final.solution.weight, final.solution.bias)
    chosen = {
        "head": settings.spec,
        "taps": final.material.taps,
        "l2": final.solution.l2,
        "why": _why(final, tried, paired, settings),
        "candidates": [record(candidate, candidate is final) for candidate in tried],
        "paired": None if paired is None else {"names": ["all", "last"], **paired.to_json()},
    }
    history = [path_row(number, candidate, candidate is final) for number, candidate in enumerate(tried, start=1)]
    return Probe(Head(settings.spec, final.material.names, (layer,)), 1.0, chosen, history, final.logits, 0.0)


def _materials(data: ProbeData, settings: HeadSettings) -> list[Material]:
    """The choices of taps to compare, the last tap first. Features are read once; `last` is a part of `all`."""
    both = settings.taps == "auto" and len(data.taps) > 1 and len(data.val) > 1  # one image proves nothing
    taps = "all" if both or settings.taps == "all" else "last"
    names = _names(data, taps)
    rows, labels = _training_rows(data, names)
    val, val_labels = data.columns(names, data.val), data.labels[data.val]
    weights = balanced_weights(labels, data.n_classes) if settings.class_weights else None
    choices = [("last", ("last",), _last(data)), (taps, names, slice(None))] if both else [(taps, names, slice(None))]
    return [
        Material(name, columns, pose(rows[:, part], labels, data.n_classes, weights=weights), val[:, part], val_labels)
        for name, columns, part in choices
    ]


def _last(data: ProbeData) -> slice:
    """Where the columns of the last tap stand among all columns."""
    start = 0
    for name, dim in data.taps:
        if name == "last":
            return slice(start, start + dim)
        start += dim
    raise ValueError("no tap is called 'last'")


def _padded(start: Start, material: Material, data: ProbeData) -> Start:
    """A solution on the last tap as one on all taps: the other weights are 0."""
    weight = np.zeros((len(start[0]), material.val.shape[1]), np.float32)
    weight[:, _last(data)] = start[0]
    return weight, start[1]


def _why(final: Candidate, tried: Sequence[Candidate], paired: PairedTest | None, settings: HeadSettings) -> str:
    """The choice in one sentence or two."""
    rivals = sum(candidate.material.taps == final.material.taps for candidate in tried)
    l2 = f"L2 {final.solution.l2:g} was asked for."
    if isinstance(settings.l2, str):
        l2 = f"L2 {final.solution.l2:g} has the lowest validation log-loss of {rivals} tried."
    if paired is None:
        return l2
    sentence = paired.sentence("all taps", "the last tap")
    return f"{l2} {sentence[0].upper()}{sentence[1:]}."


def _by_epochs(data: ProbeData, settings: HeadSettings, loop: LoopSettings) -> Probing:
    taps = "all" if settings.taps == "all" else "last"
    names = _names(data, taps)
    rows, labels = _training_rows(data, names)
    val, val_labels = data.columns(names, data.val), data.labels[data.val].astype(np.int64)
    weights = balanced_weights(labels, data.n_classes) if settings.class_weights else None
    training = train_head(_cached(rows, labels), _cached(val, val_labels), data.n_classes, loop, weights)
    epochs: list[Epoch] = []
    while True:
        try:
            epochs.append(next(training))
        except StopIteration as end:
            layers: tuple[Layer, ...] = end.value
            break
        yield Progress("head", len(epochs), loop.epochs, unit="epochs")
    if len(epochs) < loop.epochs:
        yield Progress("head", len(epochs), len(epochs), unit="epochs")
    head = Head(settings.spec, names, layers)
    logits = head.logits(val)
    kept = max((epoch for epoch in epochs if epoch.best), key=lambda epoch: epoch.epoch)
    l2 = None if isinstance(settings.l2, str) else settings.l2
    scores = score(logits, val_labels)
    candidate = {
        "taps": taps,
        "l2": l2,
        "val_log_loss": float(scores.loss.mean()),
        "val_accuracy": float(scores.right.mean()),
        "iterations": len(epochs),
        "chosen": True,
    }
    chosen = {
        "head": settings.spec,
        "taps": taps,
        "l2": l2,
        "why": f"Epoch {kept.epoch} of {len(epochs)} has the best {loop.keep}, {kept.score:.4f}.",
        "candidates": [candidate],
        "paired": None,
    }
    history = [_epoch_row(epoch, taps, l2, epoch is kept) for epoch in epochs]
    return Probe(head, 1.0, chosen, history, logits, 0.0)


def _cached(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> Rows:
    features = share(rows)
    return Rows(lambda positions: features[torch.from_numpy(positions)], labels)


def _epoch_row(epoch: Epoch, taps: str, l2: float | None, best: bool) -> dict[str, Any]:
    return {
        "kind": "epoch",
        "step": epoch.epoch,
        "taps": taps,
        "l2": l2,
        "lr": epoch.lr,
        "train_loss": epoch.train_loss,
        "train_accuracy": epoch.train_accuracy,
        "val_loss": epoch.val_loss,
        "val_accuracy": epoch.val_accuracy,
        "best": best,
    }

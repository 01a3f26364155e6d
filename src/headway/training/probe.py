"""The probe road: train a head on cached features, every choice made on validation images."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from headway.errors import Refused, nearest
from headway.evaluation.calibrate import fit_temperature
from headway.evaluation.compare import PairedTest, paired_test
from headway.evaluation.metrics import score
from headway.events import Detail, Progress
from headway.training.design import Design, Read, gather, share, stacked
from headway.training.head_module import HeadShape, TrainedHead, head_task, train_head
from headway.training.heads import Head
from headway.training.history import epoch_rows, selection
from headway.training.loop import Epoch, LoopSettings, Resumed, Rows, Step, Task, check_settings
from headway.training.path import Candidate, Material, around, attempt, down_the_path, head_of, lowest, path_row, record
from headway.training.solvers import Start, balanced_weights, pose
from headway.world import ALONE

if TYPE_CHECKING:
    from headway.settings import FitSettings

Columns = Callable[[tuple[str, ...], NDArray[np.intp]], NDArray[np.float32]]

TAPS = ("auto", "last", "all")
# From strong to weak. Of the mean loss and of standardised weights, so it hardly depends on the number of images.
L2_CANDIDATES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
# What HeadSettings hands on to the loop as it is.
_LOOP = (
    *("optimizer", "momentum", "nesterov", "weight_decay", "schedule", "warmup", "batch", "micro_batch", "epochs"),
    *("patience", "until", "keep", "label_smoothing", "ema", "clip", "precision", "allow_inexact", "seed"),
)


@dataclass(frozen=True)
class HeadSettings:
    """What head to train, and how.

    spec           "linear", "mlp:256", "mlp:1024,256"
    dropout        share dropped of what each hidden layer reads, as HeadShape
    standardize    train hidden layers on features of mean 0 and deviation 1; a linear head always does
    l2             "auto", or the penalty of a linear head's standardised weights; others have weight_decay
    taps           "last", "all", or "auto": a linear head compares the two, others take the last
    class_weights  whether every class counts alike, however many images it has
    lr             "auto", or a number
    by_epochs      train a linear head by epochs too, as those with hidden layers
    The rest acts by epochs only, as LoopSettings says.
    """

    spec: str = "linear"
    dropout: tuple[float, ...] = ()
    standardize: bool = True
    l2: float | str = "auto"
    taps: str = "auto"
    class_weights: bool = False
    optimizer: str = "adamw"
    lr: float | str = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.0
    batch: int = 200
    micro_batch: int | None = None
    epochs: int = 30
    patience: int = 5
    until: tuple[str, float] | None = None
    keep: str = "val.accuracy"
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    precision: str = "fp32"
    allow_inexact: bool = False
    seed: int = 0
    l2_candidates: tuple[float, ...] = L2_CANDIDATES
    by_epochs: bool = False

    @staticmethod
    def from_settings(settings: FitSettings) -> HeadSettings:
        """What `fit` was told about the head."""
        shared = ("l2", "taps", "class_weights", "standardize", "lr", *(name for name in _LOOP if name != "until"))
        values = {name: getattr(settings, name) for name in shared}
        values["precision"] = settings.training_precision
        return HeadSettings(spec=settings.head, dropout=settings.dropouts, until=settings.target, **values)

    @property
    def shape(self) -> HeadShape:
        """The head's layers."""
        return HeadShape(parse_head(self.spec), self.dropout, self.standardize)

    @property
    def loop(self) -> LoopSettings:
        """The part that the loop reads; its learning rate stands in where one is to be found."""
        lr = LoopSettings.lr if isinstance(self.lr, str) else self.lr
        return LoopSettings(lr=lr, **{name: getattr(self, name) for name in _LOOP})


@dataclass(frozen=True)
class ProbeData:
    """What a head is trained on. Nothing of it is changed.

    columns     (names of taps, indices (n,)) → their features side by side, (n, D) float32, finite
    labels      (N,) integers of the whole dataset, 0..n_classes-1 where `train` and `val` point
    train, val  indices into the dataset
    taps        (name, dimension) of every tap there is; one is called "last"
    views       as `columns`, of changed images (flipped, cropped): more rows to train on, never to validate on
    memory      bytes that the machine has: features for a linear head that take more than a quarter of them are read
                from a scratch file; None = no limit
    """

    columns: Columns
    labels: NDArray[np.integer[Any]]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    taps: tuple[tuple[str, int], ...]
    n_classes: int
    views: Sequence[Columns] = ()
    memory: int | None = None


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


def probe(data: ProbeData, settings: HeadSettings, folder: Path | None = None) -> Probing:
    """Train a head. Yields how far it is; returns the Probe.

    Linear: softmax regression to convergence; L2 has the lowest validation log-loss along a warm-started path. Taps
    "auto" fits the last tap first, then all of them from there, and takes all only where a paired test on the
    validation images backs it. With hidden layers: by epochs, on the last tap unless all are asked for. The head is
    never trained on validation images, so its temperature and what is reported of them stay honest.

    folder  for checkpoints of a training by epochs, None = none: what was stopped goes on from them; for scratch files

    Same data, settings and threads: same bits. Raises Refused where a setting is not understood or a subset is empty.
    """
    started = time.monotonic()
    loop = _checked(data, settings)
    by_epochs = bool(settings.shape.hidden) or settings.by_epochs
    found = yield from (_by_epochs(data, settings, loop, folder) if by_epochs else _linear(data, settings, folder))
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


def _reads(data: ProbeData, taps: tuple[str, ...]) -> list[Read]:
    """The columns of `taps` of the images as they are, then of each view of them."""
    return [partial(columns, taps) for columns in (data.columns, *data.views)]


def _training_labels(data: ProbeData) -> NDArray[np.int64]:
    """(n,) labels of the training images, then of each view of them."""
    return np.tile(data.labels[data.train].astype(np.int64), 1 + len(data.views))


def _linear(data: ProbeData, settings: HeadSettings, folder: Path | None) -> Probing:
    """Choose taps and L2 at a loose tolerance, then take the chosen one to convergence."""
    names = _names(data, "all" if _compares_taps(data, settings) else settings.taps)
    dim = sum(dim for name, dim in data.taps if name in names)
    with closing(gather(_reads(data, names), data.train, dim, folder, data.memory)) as rows:
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
        paired = paired_test(lowest(others).scores.loss, best.scores.loss)
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
    }
    history = [path_row(number, candidate, candidate is final) for number, candidate in enumerate(tried, start=1)]
    return Probe(head, 1.0, chosen, history, head.logits(final.material.val), 0.0)


def _materials(data: ProbeData, settings: HeadSettings, names: tuple[str, ...], rows: Design) -> list[Material]:
    """The choices of taps to compare, the last tap first. Features are read once; `last` is a part of `all`."""
    both, labels = _compares_taps(data, settings), _training_labels(data)
    taps = "all" if both or settings.taps == "all" else "last"
    val, val_labels = data.columns(names, data.val), data.labels[data.val]
    weights = balanced_weights(labels, data.n_classes) if settings.class_weights else None
    choices = [("last", ("last",), _last(data)), (taps, names, slice(None))] if both else [(taps, names, slice(None))]
    return [
        Material(
            name, columns, pose(rows.part(part), labels, data.n_classes, weights=weights), val[:, part], val_labels
        )
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


def _by_epochs(data: ProbeData, settings: HeadSettings, loop: LoopSettings, folder: Path | None) -> Probing:
    taps = "all" if settings.taps == "all" else "last"
    names = _names(data, taps)
    rows, labels = stacked(_reads(data, names), data.train), _training_labels(data)
    val, val_labels = data.columns(names, data.val), data.labels[data.val].astype(np.int64)
    weights = balanced_weights(labels, data.n_classes) if settings.class_weights else None
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
) -> Generator[Progress | Detail, None, TrainedHead]:
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
                yield Progress("head", last, epochs, unit="epochs")
    finally:
        training.close()
    if last != epochs:
        last = done.trained.epochs[-1].epoch
        yield Progress("head", last, last, unit="epochs")
    return done


def _key(settings: HeadSettings, *arrays: NDArray[Any]) -> str:
    """Digest of all that decides a head."""
    whole = hashlib.sha256(repr(settings).encode())
    for array in arrays:
        whole.update(f"{array.dtype} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _cached(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> Rows:
    features = share(rows)
    return Rows(lambda batches, epoch: (features[torch.from_numpy(batch)] for batch in batches), labels)

"""What one trial is worth: heads on features in memory, judged on training images that they did not learn from.

The search sees training images alone. Of few images every one is held out once, in five parts; of many one part in five
is. The validation images judge afterwards, and the test images at the very end.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import Dataset, Split
from headway.data.split import units_of
from headway.errors import Refused
from headway.evaluation.metrics import Scores, score
from headway.events import drain
from headway.machine import memory_bytes
from headway.settings import FitSettings
from headway.steps import Sight
from headway.training.folds import stratified

if TYPE_CHECKING:
    from headway.training.heads import Head
    from headway.training.probe_data import Columns, ProbeData

FOLDS = 5
FEW = 3_000  # training images; of more one part in five is held out, once
_SHARE = 4  # features up to this part of memory are held in it

Trying = Generator[float, None, "Outcome"]  # after each part the metric so far


@dataclass(frozen=True)
class Outcome:
    """How a trial did on images that its heads did not learn from, calibrated: (m,) scores and labels."""

    scores: Scores
    labels: NDArray[np.integer[Any]]

    def values(self) -> dict[str, float]:
        """Each metric. Balanced accuracy is the mean over the classes that occur."""
        right, labels = self.scores.right, self.labels
        recalls = [float(right[labels == label].mean()) for label in np.unique(labels)]
        return {
            "log-loss": float(self.scores.loss.mean()),
            "accuracy": float(right.mean()),
            "balanced-accuracy": float(np.mean(recalls)),
        }


@dataclass(frozen=True)
class Parts:
    """The training images divided: which are learnt from and which judge, in turn."""

    turns: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]

    @property
    def judged(self) -> int:
        """How many images are held out, all turns together."""
        return sum(len(held) for _, held in self.turns)


def divide(dataset: Dataset, sight: Sight, split: Split, seed: int, *, once: bool = False) -> Parts:
    """Parts of the training images: stratified; copies and groups stay together. once: one part in five, whatever n.

    Raises Refused where no class has two images apart.
    """
    train = split.train
    among = np.zeros(len(dataset), bool)
    among[train] = True
    units = units_of(dataset, sight.contents, among)
    part = stratified(dataset.labels[train], units[train].astype(np.int64), FOLDS, np.random.default_rng([seed, 9]))
    numbers = range(FOLDS if len(train) <= FEW and not once else 1)
    turns = tuple((train[part != number], train[part == number]) for number in numbers if (part == number).any())
    if not turns:
        raise Refused(
            f"a search holds training images out in turn, and of these {len(train):,} none can be: "
            "every class needs two images that are no copies of each other"
        )
    return Parts(turns)


@dataclass(frozen=True)
class Table:
    """Features of training and validation images, plain and under each view, in memory where they fit.

    taps   (name, dimension) of each, side by side in `plain`;  views  the same, as `columns` of ProbeData
    """

    taps: tuple[tuple[str, int], ...]
    plain: Columns
    views: tuple[Columns, ...]

    @staticmethod
    def of(sight: Sight, split: Split, views: Sequence[Columns], n: int) -> Table:
        """Read once what a quarter of the memory holds; else trials read the store. n: samples of the dataset."""
        taps = tuple((tap.name, tap.dim) for tap in sight.features.taps)
        used = np.sort(np.concatenate([split.train, split.val]))
        size = 4 * sum(dim for _, dim in taps) * (len(used) + len(views) * len(split.train))
        if size * _SHARE > (memory_bytes() or 0) > 0:
            return Table(taps, sight.features.columns, tuple(views))
        held = _held(sight.features.columns, taps, used, n)
        return Table(taps, held, tuple(_held(view, taps, split.train, n) for view in views))

    def data(self, dataset: Dataset, turn: tuple[NDArray[np.intp], NDArray[np.intp]], n_views: int) -> ProbeData:
        """What one head is trained on."""
        from headway.training.probe_data import ProbeData

        return ProbeData(
            columns=self.plain,
            labels=dataset.labels,
            train=turn[0],
            val=turn[1],
            taps=self.taps,
            n_classes=len(dataset.classes),
            views=self.views[:n_views],
            memory=memory_bytes(),
            groups=dataset.groups,
        )


def _held(columns: Columns, taps: Sequence[tuple[str, int]], used: NDArray[np.intp], n: int) -> Columns:
    """The same columns, from memory."""
    whole = columns(tuple(name for name, _ in taps), used)
    place = np.full(n, -1, np.intp)
    place[used] = np.arange(len(used))
    ends = np.cumsum([dim for _, dim in taps])
    where = {name: slice(int(end) - dim, int(end)) for (name, dim), end in zip(taps, ends, strict=True)}

    def read(names: tuple[str, ...], indices: NDArray[np.intp]) -> NDArray[np.float32]:
        rows = place[indices]
        if len(names) == len(taps):
            return whole[rows]
        return np.concatenate([whole[:, where[name]][rows] for name in names], axis=1)

    return read


def n_views(settings: FitSettings) -> int:
    """How many views a head learns from beside the plain images."""
    return 1 if settings.views == "flip" else int(settings.views or 0)


def try_head(table: Table, dataset: Dataset, parts: Parts, settings: FitSettings, metric: str) -> Trying:
    """Train a head on the rest for each part that is held out. Yields the metric so far after each."""
    found: list[tuple[Scores, NDArray[np.integer[Any]]]] = []
    for turn in parts.turns:
        head, temperature, _ = solve(table, dataset, turn, settings)
        labels = dataset.labels[turn[1]]
        found.append((score(head.logits(table.plain(head.taps, turn[1])), labels, temperature), labels))
        outcome = _joined(found)
        if len(parts.turns) > 1:
            yield outcome.values()[metric]
    return outcome


def judge_head(
    table: Table, dataset: Dataset, parts: Parts, split: Split, settings: FitSettings
) -> tuple[Outcome, Mapping[str, Any]]:
    """A head on the first part's rest, calibrated on that part, judged on the validation images: none of them chose it.

    Also returns its "selection".
    """
    head, temperature, chosen = solve(table, dataset, parts.turns[0], settings)
    labels = dataset.labels[split.val]
    return Outcome(score(head.logits(table.plain(head.taps, split.val)), labels, temperature), labels), chosen


def solve(
    table: Table, dataset: Dataset, turn: tuple[NDArray[np.intp], NDArray[np.intp]], settings: FitSettings
) -> tuple[Head, float, Mapping[str, Any]]:
    """One head, its temperature fitted on what is held out, and how it was chosen."""
    from headway.training.probe import HeadSettings, probe

    asked = HeadSettings.from_settings(settings)
    data = table.data(dataset, turn, n_views(settings))
    found = drain(probe(data, asked if isinstance(asked.l2, str) else replace(asked, folds=0)))
    return found.head, found.temperature, found.chosen


def _joined(found: Sequence[tuple[Scores, NDArray[np.integer[Any]]]]) -> Outcome:
    fields = {
        name: np.concatenate([getattr(scores, name) for scores, _ in found]) for name in Scores.__dataclass_fields__
    }
    return Outcome(Scores(**fields), np.concatenate([labels for _, labels in found]))

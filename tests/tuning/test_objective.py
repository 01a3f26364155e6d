"""Who learns from what: nothing that judges a trial or the winner is ever learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.data.dataset import TEST, TRAIN, VAL, Contents, Dataset, Split
from headway.data.sources import load_dataset
from headway.errors import Refused
from headway.settings import fit_settings
from headway.tuning import objective
from headway.tuning.objective import Parts, Table, divide, judge_head, try_head
from tests import make


class Seen:
    """What `divide` reads of a pass."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents


def _world(tmp_path: Path, pixels: NDArray[np.uint8] | None = None) -> tuple[Dataset, Any, Split]:
    """60 images of two classes: 40 to train on, 10 for validation, 10 for the test."""
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"a": 30, "b": 30}))
    n = len(dataset)
    own = np.zeros((n, 32), np.uint8)
    own[:, 0] = np.arange(n)
    contents = Contents(np.ones(n, bool), {}, own, own if pixels is None else pixels, np.zeros((n, 2), np.int32))
    subsets = np.resize(np.array([TRAIN, TRAIN, VAL, TRAIN, TEST, TRAIN], np.int8), n)
    return dataset, Seen(contents), Split(subsets, ())


def _table(dataset: Dataset, asked: list[NDArray[np.intp]]) -> Table:
    rows = np.random.default_rng(0).normal(size=(len(dataset), 6)).astype(np.float32)
    rows[:, 0] += 2.0 * dataset.labels

    def columns(names: tuple[str, ...], indices: NDArray[np.intp]) -> NDArray[np.float32]:
        asked.append(indices)
        return rows[indices]

    return Table((("last", 6),), columns, ())


def test_divide__every_training_image_is_held_out_once_and_no_other(tmp_path: Path) -> None:
    dataset, seen, split = _world(tmp_path)

    parts = divide(dataset, seen, split, seed=0)

    assert len(parts.turns) == 5
    assert sorted(np.concatenate([held for _, held in parts.turns])) == split.train.tolist()
    for learn, held in parts.turns:
        assert sorted([*learn, *held]) == split.train.tolist()
        assert abs(int((dataset.labels[held] == 0).sum()) - 4) <= 1
    once = divide(dataset, seen, split, seed=0, once=True)
    assert [len(held) for _, held in once.turns] == [len(parts.turns[0][1])]


def test_divide__copies_are_held_out_together(tmp_path: Path) -> None:
    pixels = np.zeros((60, 32), np.uint8)
    pixels[:, 0] = np.arange(60) // 5  # five copies of each
    dataset, seen, split = _world(tmp_path, pixels)

    for learn, held in divide(dataset, seen, split, seed=1).turns:
        assert not set(pixels[learn, 0]) & set(pixels[held, 0])


def test_divide__where_nothing_can_be_held_out_it_is_refused(tmp_path: Path) -> None:
    dataset, seen, split = _world(tmp_path, np.zeros((60, 32), np.uint8))

    with pytest.raises(Refused, match="every class needs two images that are no copies of each other"):
        divide(dataset, seen, split, seed=0)


@pytest.mark.usefixtures("one_thread")
def test_try_head__asks_for_training_images_alone_and_judges_all_of_them(tmp_path: Path) -> None:
    dataset, seen, split = _world(tmp_path)
    asked: list[NDArray[np.intp]] = []
    table, parts = _table(dataset, asked), divide(dataset, seen, split, seed=0)
    settings = fit_settings(".", l2=0.01, taps="last")

    trying = try_head(table, dataset, parts, settings, "accuracy")
    told, outcome = [], None
    while outcome is None:
        try:
            told.append(next(trying))
        except StopIteration as end:
            outcome = end.value

    assert set(np.concatenate(asked)) == set(split.train)
    assert len(told) == 5
    assert told[-1] == outcome.values()["accuracy"]
    assert len(outcome.labels) == len(split.train)
    assert outcome.values()["accuracy"] > 0.7


@pytest.mark.usefixtures("one_thread")
def test_judge_head__learns_from_no_validation_image_and_sees_no_test_image(tmp_path: Path) -> None:
    dataset, seen, split = _world(tmp_path)
    asked: list[NDArray[np.intp]] = []
    parts = divide(dataset, seen, split, seed=0)
    settings = fit_settings(".", l2=0.01, taps="last")

    outcome, chosen = judge_head(_table(dataset, asked), dataset, parts, split, settings)

    assert outcome.labels.tolist() == dataset.labels[split.val].tolist()
    assert chosen["l2"] == 0.01
    assert not set(np.concatenate(asked)) & set(split.test)
    # Other labels of validation images change nothing of what was learnt.
    other = dataset.labels.copy()
    other[split.val] = 1 - other[split.val]
    flipped, _ = judge_head(_table(dataset, []), replace(dataset, labels=other), parts, split, settings)
    assert flipped.scores.predicted.tolist() == outcome.scores.predicted.tolist()
    assert flipped.scores.right.tolist() == (~outcome.scores.right).tolist()


def test_outcome__metrics_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, log_loss

    from headway.evaluation.metrics import score, softmax

    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(50, 3)), rng.choice(3, 50, p=[0.7, 0.2, 0.1])

    values = objective.Outcome(score(logits, labels, 1.5), labels).values()

    assert values["log-loss"] == pytest.approx(log_loss(labels, softmax(logits, 1.5)))
    assert values["accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    assert values["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(axis=1)))


def test_parts__judged_counts_every_turn() -> None:
    assert Parts(((np.arange(8), np.arange(2)), (np.arange(8), np.arange(3)))).judged == 5

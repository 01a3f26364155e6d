"""What a run keeps of its test images: those behind the cells of the confusion matrix, and their thumbnails."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from headway.data.dataset import TEST, Dataset
from headway.results import MOST_BEHIND, MOST_RIGHT, Judged, told_cells, told_mistakes, told_surest, write_thumbnails
from tests import make


class Drawn:
    """Images that are drawn when they are read; number 3 is torn."""

    def read(self, index: int) -> bytes:
        content = make.png(seed=index, size=(300 + index, 200))
        return make.truncated(content, 0.2) if index == 3 else content


def dataset(labels: NDArray[np.int32], n_classes: int) -> Dataset:
    names = [f"{index}.png" for index in range(len(labels))]
    given = np.full(len(labels), TEST, np.int8)
    return Dataset("toy", "drawn", names, labels, given, None, tuple(f"c{i}" for i in range(n_classes)), Drawn())


@pytest.mark.parametrize(("n", "n_classes", "skill"), [(60, 2, 2.0), (300, 4, 1.0), (3000, 30, 1.5), (4000, 150, 2.5)])
def test_cells__are_those_of_the_confusion_matrix_the_fullest_first(n: int, n_classes: int, skill: float) -> None:
    rng = np.random.default_rng(n)
    labels = rng.integers(0, n_classes, n).astype(np.int32)
    logits = rng.normal(size=(n, n_classes)).astype(np.float32)
    logits[np.arange(n), labels] += np.float32(skill)
    powers = np.exp(logits.astype(float) / 1.5)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    said = logits.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (labels, said), 1)

    cells = told_cells(dataset(labels, n_classes), Judged(TEST, np.arange(n), logits), 1.5)

    at = [(int(cell["label"][1:]), int(cell["predicted"][1:])) for cell in cells]
    assert [cell["n"] for cell in cells] == [confusion[place] for place in at]
    wrong = [cell for cell, (label, called) in zip(cells, at, strict=True) if label != called]
    right = cells[len(wrong) :]
    assert all(cell["label"] == cell["predicted"] for cell in right)
    assert [cell["n"] for cell in wrong] == sorted((cell["n"] for cell in wrong), reverse=True)
    left_out = confusion[~np.eye(n_classes, dtype=bool)].sum() - sum(cell["n"] for cell in wrong)
    assert not left_out or sum(len(cell["images"]) for cell in wrong) > MOST_BEHIND - MOST_RIGHT - 8
    assert sum(len(cell["images"]) for cell in cells) <= MOST_BEHIND
    assert sum(len(cell["images"]) for cell in right) <= MOST_RIGHT
    assert len(right) == min(n_classes, MOST_RIGHT)
    for cell, place in zip(cells, at, strict=True):
        rows = [int(image["name"].removesuffix(".png")) for image in cell["images"]]
        sure = [probabilities[row, said[row]] for row in rows]
        inside = sorted(probabilities[(labels == place[0]) & (said == place[1])].max(axis=1))
        assert [(labels[row], said[row]) for row in rows] == [place] * len(rows)
        assert 1 <= len(rows) <= 8
        assert [image["probability"] for image in cell["images"]] == pytest.approx(sure)
        expected = inside[: len(rows)] if place[0] == place[1] else inside[::-1][: len(rows)]
        assert sure == pytest.approx(expected)


def test_cells__few_classes_show_eight_images_each() -> None:
    labels = np.array([0] * 20 + [1] * 20, np.int32)
    logits = np.zeros((40, 2), np.float32)
    logits[:, 0] = np.arange(40)  # every one is called the first class, later ones more surely
    cells = told_cells(dataset(labels, 2), Judged(TEST, np.arange(40), logits), 10.0)
    assert [(cell["label"], cell["predicted"], cell["n"]) for cell in cells] == [("c1", "c0", 20), ("c0", "c0", 20)]
    assert [image["name"] for image in cells[0]["images"]] == [f"{row}.png" for row in range(39, 31, -1)]
    assert [image["name"] for image in cells[1]["images"]] == [f"{row}.png" for row in range(8)]


def test_surest__are_the_wrong_answers_with_most_probability_beyond_the_worst() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, 400).astype(np.int32)
    logits = rng.normal(size=(400, 5)).astype(np.float32)
    test, toy = Judged(TEST, np.arange(400), logits), dataset(labels, 5)
    worst = told_mistakes(toy, test, 1.0)

    surest = told_surest(toy, test, 1.0, worst)

    powers = np.exp(logits.astype(float))
    sure = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    wrong = [row for row in np.argsort(-sure) if logits[row].argmax() != labels[row]]
    known = {mistake["name"] for mistake in worst}
    expected = [f"{row}.png" for row in wrong if f"{row}.png" not in known][:12]
    assert [mistake["name"] for mistake in surest] == expected
    assert len(expected) == 12
    assert [mistake["probability"] for mistake in surest] == sorted((m["probability"] for m in surest), reverse=True)
    assert told_surest(toy, Judged(TEST, np.arange(400), np.eye(5, dtype=np.float32)[labels]), 1.0, []) == []


def test_thumbnails__in_the_order_asked_small_and_without_what_is_torn(tmp_path: Path) -> None:
    names = ["5.png", "3.png", "0.png", "unknown.png"]
    write_thumbnails(tmp_path / "thumbnails.parquet", dataset(np.zeros(8, np.int32), 2), names)
    table = pq.read_table(tmp_path / "thumbnails.parquet").to_pydict()
    assert table["name"] == [b"5.png", b"3.png", b"0.png"]
    assert table["jpeg"][1] == b""
    sizes = [Image.open(io.BytesIO(jpeg)).size for jpeg in (table["jpeg"][0], table["jpeg"][2])]
    assert sizes == [(128, 84), (128, 85)]


def test_cells__the_last_one_takes_what_is_left() -> None:
    pairs = [(true, said) for true in range(12) for said in range(12) if true != said]
    rows = [pairs[0]] + [pair for pair in pairs for _ in range(3)]  # the first cell has 4 images, the others 3
    labels = np.array([true for true, _ in rows], np.int32)
    logits = np.eye(12, dtype=np.float32)[[said for _, said in rows]]
    cells = told_cells(dataset(labels, 12), Judged(TEST, np.arange(len(rows)), logits), 1.0)
    assert [len(cell["images"]) for cell in cells] == [4, *([3] * 98), 2]  # 300 in all

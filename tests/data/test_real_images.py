"""The reader, the decoder and the split on real photos and on the whole of CIFAR-100."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from headway.data.dataset import TEST, TRAIN, Contents, Dataset
from headway.data.descriptors import pixel_digest
from headway.data.images import BadImage, decode
from headway.data.sources import load_dataset
from headway.data.split import check_damage, make_split
from headway.quality.duplicates import find_duplicates


def read_all(dataset: Dataset) -> Contents:
    """What the one pass over a data set sees, without features."""
    n = len(dataset)
    accepted, reasons = np.zeros(n, bool), {}
    digests, pixels = np.zeros((n, 32), np.uint8), np.zeros((n, 32), np.uint8)
    sizes = np.zeros((n, 2), np.int32)
    for i in range(n):
        try:
            content = dataset.source.read(i)
            digests[i] = np.frombuffer(hashlib.sha256(bytes(content)).digest(), np.uint8)
            decoded = decode(content, dataset.names[i])
        except BadImage as error:
            reasons[i] = error.reason
            continue
        accepted[i] = True
        pixels[i] = np.frombuffer(pixel_digest(np.asarray(decoded.image)), np.uint8)
        sizes[i] = decoded.size
    return Contents(accepted, reasons, digests, pixels, sizes)


def test_blood_cells(real_images: Path) -> None:
    dataset = load_dataset(real_images / "blood-cells")
    assert (dataset.kind, dataset.name) == ("a folder per class", "blood-cells")
    contents = read_all(dataset)
    assert contents.accepted.all()
    check_damage(dataset, contents, allow_bad=False)
    split = make_split(dataset, contents, seed=0, val=0.1, test=0.15)
    counts = {
        name: [int((dataset.labels[part] == label).sum()) for part in (split.train, split.val, split.test)]
        for label, name in enumerate(dataset.classes)
    }
    assert counts == {
        "eosinophil": [66, 9, 13],
        "lymphocyte": [25, 3, 5],
        "monocyte": [15, 2, 3],
        "neutrophil": [155, 21, 31],
    }


@pytest.mark.slow
def test_cats_vs_dogs(real_images: Path) -> None:
    dataset = load_dataset(real_images / "cats-vs-dogs")
    assert (dataset.kind, dataset.classes, len(dataset)) == ("split folders", ("cats", "dogs"), 2000)
    contents = read_all(dataset)
    assert contents.accepted.all()
    assert not contents.reasons
    split = make_split(dataset, contents, seed=0, val=0.1, test=0.15)
    assert [len(split.train), len(split.val), len(split.test)] == [1400, 300, 300]
    assert split.brought == ("train", "val", "test")


@pytest.mark.slow
def test_cifar100(real_images: Path) -> None:
    dataset = load_dataset(real_images / "cifar100")
    assert (dataset.kind, len(dataset.classes), len(dataset)) == ("Parquet", 100, 60_000)
    assert (dataset.classes[0], dataset.classes[99]) == ("apple", "worm")
    assert [int((dataset.given == subset).sum()) for subset in (TRAIN, TEST)] == [50_000, 10_000]
    contents = read_all(dataset)
    assert contents.accepted.all()
    split = make_split(dataset, contents, seed=0, val=0.1, test=0.15)
    assert [len(split.train), len(split.val), len(split.test)] == [45_000, 5_000, 10_000]
    assert set(np.bincount(dataset.labels[split.val])) == {50}
    copies = 60_000 - len(np.unique(contents.pixels.view("S32")))
    assert copies == 26
    assert len(split.conflicts) == 17
    across = [group for group in split.straddling if TEST in split.subsets[list(group)]]
    assert len(across) == len(split.straddling) == 10
    leaks = find_duplicates(contents).to_json(dataset, split)["leaks"]
    assert (leaks["exact_count"], len(leaks["exact_groups"]), leaks["near_groups"]) == (10, 10, None)
    named = {tuple(dataset.names[index] for index in group) for group in across}
    assert {tuple(group["names"]) for group in leaks["exact_groups"]} == named

"""Shortcuts: planted ones are named with class and cue, chance is never taken for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.quality.cues import Cue, Cues
from headway.quality.findings import told_shortcut
from headway.quality.shortcuts import Shortcuts, find_shortcuts, fisher


def cues(n: int, looked: bool = True) -> list[Cue]:
    """Files of one encoder, sizes in bytes and qualities of their own."""
    rng = np.random.default_rng(0)
    return [
        Cue("JPEG", ".jpg", "colour", f"JPEG {quality}", int(quality), int(size), (0.0, 0.0), 0.0, 40.0)
        for quality, size in zip(rng.integers(80, 84, n), rng.integers(5000, 9000, n), strict=True)
    ]


def asked(of: list[Cue], labels: NDArray[np.int64], sizes: NDArray[np.int64] | None = None) -> Shortcuts:
    n = len(of)
    shapes = np.random.default_rng(1).integers(300, 500, (n, 2)) if sizes is None else sizes
    return find_shortcuts(Cues(np.arange(n), tuple(of), True), labels, shapes, np.arange(n) % 5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_classes", [2, 8])
def test_find_shortcuts__chance_is_none(seed: int, n_classes: int) -> None:
    labels = np.random.default_rng(seed + 10).integers(0, n_classes, 600)

    found = asked(cues(600), labels)

    assert found.found == ()
    assert (found.images, found.questions) == (600, 6 * (1 if n_classes == 2 else n_classes))


def test_find_shortcuts__one_class_at_another_quality_is_named() -> None:
    of, labels = cues(600), np.arange(600) % 3
    for row in np.flatnonzero(labels == 1):
        of[row] = Cue("JPEG", ".jpg", "colour", "JPEG 60", 60, of[row].n_bytes, (0.0, 0.0), 0.0, 40.0)

    found = asked(of, labels)

    first = found.found[0]
    assert (first.cue, first.label, first.value) == ("encoder", 1, "quality about 60, JPEG 60")
    assert (first.share, first.others, first.gap) == (1.0, 0.0, 1.0)
    assert told_shortcut(first, "dogs") == (
        "encoder alone recognises 100 % of dogs (quality about 60, JPEG 60) and takes 0 % of the others for it; "
        "a network may learn that instead of the picture"
    )


def test_find_shortcuts__a_few_files_of_another_kind_are_none() -> None:
    of, labels = cues(600), np.arange(600) % 2
    for row in np.flatnonzero(labels == 0)[:30]:
        of[row] = Cue("PNG", ".png", "colour", "PNG", 0, 9000, (0.0, 0.0), 0.0, 40.0)

    assert asked(of, labels).found == ()


@pytest.mark.parametrize(
    ("cue", "change"),
    [
        ("file format", {"form": "PNG"}),
        ("file name's extension", {"suffix": ".jpeg"}),
        ("colour mode", {"colours": "grey"}),
        ("file size", {"n_bytes": 20_000}),
        ("border", {"border": (0.2, 0.0)}),
    ],
)
def test_find_shortcuts__each_cue(cue: str, change: dict[str, Any]) -> None:
    of, labels = cues(400), np.arange(400) % 2
    of = [replace(one, **change) if label else one for one, label in zip(of, labels, strict=True)]

    assert cue in {one.cue for one in asked(of, labels).found}


def test_find_shortcuts__resolution() -> None:
    labels = np.arange(400) % 2
    sizes = np.where(labels[:, None] == 1, np.array([640, 480]), np.array([500, 375]))

    found = asked(cues(400), labels, sizes).found

    assert found[0].cue == "resolution"
    assert found[0].value == "500 x 375 pixels"


def test_find_shortcuts__size_that_comes_from_content_is_none() -> None:
    of, labels = cues(600), np.arange(600) % 2  # files of one class tend to be larger, as furry animals are
    rng = np.random.default_rng(2)
    of = [
        replace(one, n_bytes=int(rng.normal(6000 + 2500 * label, 1200))) for one, label in zip(of, labels, strict=True)
    ]

    assert asked(of, labels).found == ()


def test_find_shortcuts__small_classes_and_single_ones_are_not_asked() -> None:
    assert asked(cues(100), np.zeros(100, np.int64)).questions == 0
    assert asked(cues(100), np.arange(100) % 10).questions == 0


def test_fisher__as_scipy() -> None:
    from scipy.stats import fisher_exact

    for a, n_a, b, n_b in [(5, 10, 1, 12), (0, 10, 0, 10), (30, 40, 20, 60), (10, 10, 0, 300), (3, 7, 7, 7)]:
        expected = fisher_exact([[a, n_a - a], [b, n_b - b]], alternative="greater").pvalue
        assert fisher(a, n_a, b, n_b) == pytest.approx(expected, rel=1e-9)


def test_find_shortcuts__numbers_are_told_by_their_medians() -> None:
    of, labels = cues(400), np.arange(400) % 2
    of = [replace(one, n_bytes=20_000 if label else 5_000) for one, label in zip(of, labels, strict=True)]

    told = {one.cue: one for one in asked(of, labels).found}

    assert told["file size"].value == "5,000 bytes in the middle, the others 20,000 bytes"

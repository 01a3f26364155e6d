from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headway.advice.ranking import Probed
from headway.data.sources import load_dataset
from headway.data.split import make_split
from headway.errors import Refused
from headway.events import drain
from headway.features.looking import Asked, open_session, plain_preprocess, read_all
from headway.ranking import Request, Rival, Standing, absent, draw, read_rivals, told
from tests import make, toy


def test_rivals__are_read() -> None:
    assert read_rivals("a, b=none,c=w.pth") == (Rival("a"), Rival("b", "none"), Rival("c", "w.pth"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a,,b", "--backbones a,,b: expected names with commas between them, as a,b or a,b=none,c=FILE"),
        ("a=", "--backbones a=: expected names with commas between them, as a,b or a,b=none,c=FILE"),
        ("a,b,a", "--backbones a,b,a: a is named twice. Name each once."),
    ],
)
def test_rivals__refused(words: str, said: str) -> None:
    with pytest.raises(Refused) as refusal:
        read_rivals(words)
    assert str(refusal.value) == said


def test_absent__one_that_works_is_enough() -> None:
    request = Request((Rival("test_resnet", "none"), Rival("resnet18.tv_in1k")), 100, offline=True)

    assert {str(rival): why.splitlines()[0] for rival, why in absent(request).items()} == {
        "resnet18.tv_in1k": "the weights of resnet18.tv_in1k are not on this machine and --offline was given "
        "(looked in: packages, cache, hub)."
    }


def test_absent__none_that_works_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        absent(Request((Rival("resnet18.tv_in1k"), Rival("test_resnet", "gone.pth")), 100, offline=True))
    assert str(refusal.value) == (
        "none of the backbones can be used here:\n"
        "  resnet18.tv_in1k: the weights of resnet18.tv_in1k are not on this machine and --offline was given "
        "(looked in: packages, cache, hub)\n"
        "  test_resnet=gone.pth: weights file gone.pth does not exist. Give a .safetensors or .pth file, "
        "or --weights none\n"
        "  See: headway backbones"
    )


def test_draw__none_that_the_data_brings_for_the_test(tmp_path: Path) -> None:
    counts = {"train": {"a": 20, "b": 20}, "test": {"a": 10, "b": 10}}
    dataset = load_dataset(str(make.split_folders(tmp_path / "photos", counts)))

    for images in (10, 1000):
        drawn = draw(dataset, Request((), images))
        assert len(drawn) == min(images, 40)
        assert all(dataset.names[index].startswith("train/") for index in drawn)


def test_draw__none_that_fit_would_cut_for_the_test(tmp_path: Path) -> None:
    dataset = load_dataset(str(make.class_folders(tmp_path / "photos", {"a": 100, "b": 60}, size=(16, 16))))
    asked = Asked("test_resnet", "none", image=32)
    session = open_session(asked, tmp_path / "cache")
    contents = drain(read_all(dataset, plain_preprocess(dataset, session, asked), tmp_path / "cache", 1))
    for seed in (0, 1):
        test = make_split(dataset, contents, seed=seed, val=0.1, test=0.15).test

        drawn = draw(dataset, Request((), 60, seed))

        assert len(drawn) == 60
        assert np.intersect1d(drawn, test).tolist() == []
        assert np.bincount(dataset.labels[drawn]).tolist() == pytest.approx([37.5, 22.5], abs=6)


def standing(name: str, right: list[bool], rate: float, timed: bool = True) -> Standing:
    facts = {"parameters": 10, "licence": "MIT"}
    return Standing(Rival(name), Probed(np.array(right), 0.5, 0.1, -0.25), rate, timed, facts)


def test_told__says_what_is_shown_and_what_is_not(tmp_path: Path) -> None:
    dataset = load_dataset(str(make.class_folders(tmp_path / "photos", {"a": 2, "b": 2}, size=(8, 8))))
    rows = [
        standing("poor", [True] * 20 + [False] * 20, 100.0),
        standing("best", [True] * 38 + [False] * 2, 50.0),
        standing("quick", [True] * 36 + [False] * 4, 80.0),
    ]

    result = told(dataset, rows, {Rival("away"): "why\nand how"}, 40)

    assert [row["name"] for row in result["backbones"]] == ["best", "quick", "poor"]
    assert result["absent"] == [{"name": "away", "why": "why\nand how"}]
    assert result["sentences"] == [
        "no difference shown between best and quick: 0.950 against 0.900, difference +0.050 [-0.042, +0.165], "
        "p=0.5 by Holm's correction",
        "best is better than poor: 0.950 against 0.500, difference +0.450 [+0.307, +0.602], "
        "p<0.0001 by Holm's correction",
        "quick is the fastest that is not shown to be worse: 80 images/s against 50",
    ]
    assert result["backbones"][1]["seconds_for_all"] == 0.1


def test_told__what_several_comparisons_leave_open_is_not_shown(tmp_path: Path) -> None:
    """Six images against none have p = 0.03; of two such comparisons Holm's correction makes 0.06."""
    dataset = load_dataset(str(make.class_folders(tmp_path / "photos", {"a": 2, "b": 2}, size=(8, 8))))
    best, worse = [True] * 40, [True] * 34 + [False] * 6

    alone = told(dataset, [standing("best", best, 9.0), standing("b", worse, 1.0)], {}, 40)
    both = told(dataset, [standing(n, r, 9.0) for n, r in (("best", best), ("b", worse), ("c", worse))], {}, 40)

    assert [row["against_first"]["worse"] for row in alone["backbones"][1:]] == [True]
    assert [row["against_first"]["worse"] for row in both["backbones"][1:]] == [False, False]


@pytest.mark.slow
def test_rank__through_the_command_line(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 60, "square": 60, "triangle": 60})
    words = ("--images", "100", "--threads", "1", "--offline", "--json")
    names = "test_resnet=none,cnn,resnet18.tv_in1k"

    done = toy.headway("rank", photos, "--backbones", names, *words, cwd=tmp_path)

    result = json.loads(done.stdout)
    assert {row["name"] for row in result["backbones"]} == {"test_resnet=none", "cnn"}
    assert [row["name"] for row in result["absent"]] == ["resnet18.tv_in1k"]
    assert result["images"] == 100
    assert all(row["val_accuracy"] > 0.6 for row in result["backbones"])
    assert "resnet18.tv_in1k is left out: the weights of resnet18.tv_in1k are not on this machine" in done.stderr
    again = json.loads(toy.headway("rank", photos, "--backbones", names, *words, cwd=tmp_path).stdout)
    kept = ("name", "val_accuracy", "val_log_loss", "log_me")
    assert [[row[key] for key in kept] for row in again["backbones"]] == [
        [row[key] for key in kept] for row in result["backbones"]
    ]

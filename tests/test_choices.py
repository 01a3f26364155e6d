"""What a comparison compares: ways that are alike where it must be fair, each with the options it understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headway.choices import Comparison, compare_settings, road_settings
from headway.errors import Refused
from headway.settings import fit_settings

ROADS = "probe,finetune,scratch"


def refusal(**options: Any) -> str:
    with pytest.raises(Refused) as caught:
        compare_settings("photos", **options)
    return str(caught.value)


def by_name(comparison: Comparison, field: str) -> dict[str, Any]:
    return {name: getattr(way, field) for name, way in zip(comparison.names, comparison.settings, strict=True)}


def test_strategies__each_with_its_own_defaults() -> None:
    made = compare_settings("photos", strategies=ROADS)

    assert made == Comparison(
        Path("photos"),
        ("probe", "finetune", "scratch"),
        tuple(fit_settings("photos", strategy=strategy) for strategy in ROADS.split(",")),
    )
    assert compare_settings("photos", strategies=["probe", "finetune", "scratch"]) == made


@pytest.mark.parametrize(
    ("option", "value", "finds"),
    [
        ("image", 96, [96, 96, 96]),
        ("seed", 3, [3, 3, 3]),
        ("thaw", 2, [0, 2, "all"]),
        ("epochs", 2, ["auto", 2, 2]),
        ("augment", "flip", ["none", "flip", "flip"]),
        ("weights", "none", ["none", "none", "none"]),
        ("weights", "w.pth", ["w.pth", "w.pth", None]),
        ("taps", "all", ["all", "last", "last"]),
        ("views", 4, [4, None, None]),
        ("freeze_bn", False, [True, False, False]),
        ("head", "mlp:8", ["mlp:8", "mlp:8", "mlp:8"]),
    ],
)
def test_strategies__an_option_goes_to_those_that_understand_it(option: str, value: Any, finds: list[Any]) -> None:
    made = compare_settings("photos", strategies=ROADS, **{option: value})

    assert list(by_name(made, option).values()) == finds
    assert [note for way in made.settings for note in way.notes()] == []


def test_strategies__epochs_reach_a_probe_with_hidden_layers() -> None:
    made = compare_settings("photos", strategies=ROADS, head="mlp:8", epochs=2)

    assert by_name(made, "epochs") == {"probe": 2, "finetune": 2, "scratch": 2}


def test_strategies__views_reach_a_frozen_front() -> None:
    made = compare_settings("photos", strategies="probe,finetune", views=4, thaw=1)

    assert by_name(made, "views") == {"probe": 4, "finetune": 4}


def test_recipes__names_and_files(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("epochs: 2\nhead: mlp:8\n")

    made = compare_settings("photos", recipes=f"fast, {tmp_path / 'mine.yaml'}", run="out")

    assert made.names == ("fast", "mine")
    assert made.settings[1].epochs == 2
    assert (made.run, made.notes) == (Path("out"), ())


def test_recipes__one_split_for_all() -> None:
    made = compare_settings("photos", recipes="seed-c,best", epochs=2)

    assert by_name(made, "val") == {"seed-c": 0.08008, "best": 0.08008}
    assert by_name(made, "test") == {"seed-c": 0.184, "best": 0.184}
    assert made.notes == (
        "--val is 0.08008 for all, as seed-c has it: all are judged on the same images",
        "--test is 0.184 for all, as seed-c has it: all are judged on the same images",
    )
    assert by_name(made, "epochs") == {"seed-c": 2, "best": 2}


def test_recipes__a_split_that_was_typed() -> None:
    made = compare_settings("photos", recipes="seed-c,best", val=0.2, test=0.2)

    assert (by_name(made, "val"), made.notes) == ({"seed-c": 0.2, "best": 0.2}, ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "a comparison needs either --strategies or --recipes, as --strategies probe,finetune,scratch"),
        (
            {"strategies": "probe", "recipes": "fast"},
            "a comparison needs either --strategies or --recipes, as --strategies probe,finetune,scratch",
        ),
        ({"strategies": "probe"}, "--strategies probe: expected two or more, with commas between them"),
        ({"strategies": ""}, "--strategies : expected two or more, with commas between them"),
        ({"recipes": "fast"}, "--recipes fast: expected two or more, with commas between them"),
        ({"strategies": "probe,probe"}, "--strategies names probe twice: expected different ones"),
        (
            {"strategies": "prob,xyzzy"},
            "2 problems:\n"
            "  --strategies: no strategy prob. Did you mean probe ?\n"
            "  --strategies: no strategy xyzzy. There are: probe, finetune, scratch",
        ),
        ({"recipes": "fast,bst"}, "bst: no recipe bst. Did you mean best or fast ?"),
        ({"recipes": "fast,a/fast"}, "--recipes names fast twice: expected different ones"),
        (
            {"strategies": ROADS, "epochs": 0},
            "finetune, scratch: --epochs 0: expected auto, or a whole number of 1 or more",
        ),
        ({"strategies": ROADS, "image": 0}, "--image 0: expected a whole number from 16 to 2048 (pixels)"),
        ({"strategies": ROADS, "imgae": 0}, "no option --imgae. Did you mean --image ?"),
        ({"strategies": "probe,scratch", "thaw": 2}, "--thaw is nothing that probe or scratch could use"),
        (
            {"strategies": ROADS, "strategy": "probe"},
            "--strategy is what is compared: leave it out, or name it in --strategies",
        ),
        (
            {"strategies": "probe,scratch", "backbone": "cnn"},
            "probe: --backbone cnn comes with no weights that --strategy probe could begin with: "
            "train it by --strategy scratch, or take random ones by --weights none",
        ),
    ],
)
def test_refused__in_words(options: dict[str, Any], said: str) -> None:
    assert refusal(**options) == said


def test_yaml__tells_every_way_apart() -> None:
    one = compare_settings("photos", strategies=ROADS)
    other = compare_settings("photos", strategies=ROADS, seed=1)

    assert one.to_yaml() == compare_settings("photos", strategies=ROADS, run="elsewhere").to_yaml()
    assert one.to_yaml() != other.to_yaml()
    read = yaml.safe_load(one.to_yaml())
    assert read["data"] == "photos"
    assert {name: way["lr"] for name, way in read["ways"].items()} == {"probe": 2e-3, "finetune": 1e-5, "scratch": 3e-3}


def test_roads__each_with_the_options_that_it_understands() -> None:
    ways = road_settings("photos", epochs=2, image=96)

    assert {road: (way.strategy, way.thaw, way.epochs) for road, way in ways.items()} == {
        "probe": ("probe", 0, "auto"),
        "last": ("finetune", 1, 2),
        "full": ("finetune", "all", 2),
        "scratch": ("scratch", "all", 2),
    }
    assert {way.image for way in ways.values()} == {96}
    assert list(road_settings("photos", backbone="cnn")) == ["scratch"]


def test_roads__an_option_that_none_could_use() -> None:
    with pytest.raises(Refused) as caught:
        road_settings("photos", budgets=3)

    assert str(caught.value) == "no option --budgets. Did you mean --budget ?"

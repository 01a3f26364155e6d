"""The ordinary report of a run that trained a network: on from pretrained weights, or from random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headway.reporting.learning import told_strategy
from headway.reporting.page import draw
from headway.reporting.records import chosen_setting, kept_epochs, read_run
from tests.reporting.fixture import PLANS, build_run
from tests.reporting.roads import ROADS, Images, build_roads
from tests.reporting.test_page import change, parsed, words


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    return build_roads(tmp_path, ROADS, Images())


def section(run: Path, name: str) -> str:
    return words(parsed(draw(run)).find(f".//section[@id='{name}']"))


def ask(run: Path, **settings: Any) -> None:
    asked = yaml.safe_load((run / "settings.yaml").read_text())
    (run / "settings.yaml").write_text(yaml.safe_dump(asked | settings))


def strip(run: Path) -> dict[str, str]:
    return {words(item.find("dt")): words(item.find("dd")) for item in parsed(draw(run)).findall(".//header/dl/div")}


def test_strip__names_the_road_and_its_time(runs: dict[str, Path]) -> None:
    assert strip(runs["finetune"])["road"] == "fine-tuned 5 epochs, epoch 3 kept"
    assert strip(runs["finetune"])["time"].endswith(" of which training 2 min 0 s")
    assert strip(runs["scratch"])["road"] == "from scratch 12 epochs, epoch 10 kept"
    assert strip(runs["scratch"])["backbone"] == "cnn random weights, 224 px"
    assert strip(runs["probe"])["road"] == "probe linear head, taps all"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "The pretrained network was trained on, all of it, from the head that was solved on its features."),
        (
            {"thaw": 2},
            "The head and the last 2 stages of the network were trained, "
            "from the head that was solved on its features.",
        ),
        (
            {"thaw": 1, "head_init": "random"},
            "The head and the last stage of the network were trained, from a random head.",
        ),
        ({"thaw": 0, "head_init": "random"}, "The head was trained, from a random head."),
        (
            {"thaw_every": 2},
            "The pretrained network was trained on, all of it, one more stage every 2 epochs, "
            "from the head that was solved on its features.",
        ),
    ],
)
def test_told_strategy__what_was_trained(runs: dict[str, Path], settings: dict[str, Any], expected: str) -> None:
    ask(runs["finetune"], **settings)

    assert told_strategy(read_run(runs["finetune"])) == expected
    assert expected in section(runs["finetune"], "learning")


def test_learning__of_a_network(runs: dict[str, Path]) -> None:
    tuned, scratch = section(runs["finetune"], "learning"), section(runs["scratch"], "learning")

    assert "The whole network was trained from random weights." in scratch
    assert "kept: epoch 10" in scratch
    assert "trained 846,308 of 846,308 parameters epochs 12, epoch 10 kept ended with the last epoch" in scratch
    assert "Training is measured while the weights move, on augmented images (crop), so it may look worse" in scratch
    assert "Paired test of finetune against probe on the 100 validation images: log-loss difference −0.0120" in tuned
    assert "the best of the other taps" not in tuned + scratch
    assert "time of the epochs 1 min 57 s" in tuned


def test_learning__every_epoch_with_its_time(runs: dict[str, Path]) -> None:
    tables = parsed(draw(runs["finetune"])).findall(".//section[@id='learning']//table")
    rows = tables[-1].findall("tbody/tr")

    cells = [[words(cell) for cell in row] for row in rows]
    assert [row[0] for row in cells] == ["0", "1", "2", "3", "4", "5"]
    assert cells[0][2:4] == ["–", "–"]
    assert [row[6] for row in cells] == ["2.3 s", "25.3 s", "48.3 s", "1 min 11 s", "1 min 34 s", "1 min 57 s"]
    assert [row[7] for row in cells] == ["", "", "", "kept", "", ""]


def test_learning__frozen_is_proved(runs: dict[str, Path]) -> None:
    assert "Frozen is frozen: the file of the frozen network had the same digest" in section(runs["probe"], "learning")
    assert "rozen" not in section(runs["scratch"], "learning")

    change(runs["finetune"], "evaluation.json", lambda value: value["result"]["frozen"].update(tensors=52))
    assert (
        "Frozen is frozen: the 52 frozen tensors had the same digest before and after training, 5d5d5d5d5d5d5d5d."
        in section(runs["finetune"], "learning")
    )
    ask(runs["finetune"], freeze_bn=True)
    assert "the 52 frozen tensors (what its BatchNorm layers hold) had" in section(runs["finetune"], "learning")
    change(runs["finetune"], "evaluation.json", lambda value: value["result"]["frozen"].update(after="66" * 32))
    assert "changed while training. That should not be" in section(runs["finetune"], "learning")
    ask(runs["finetune"], thaw_every=1)
    assert "changed while training, as they were thawed step by step." in section(runs["finetune"], "learning")


def test_learning__a_paired_test_is_told_once(runs: dict[str, Path]) -> None:
    why = "Epoch 3 is kept. On the validation images: no difference shown between the network and its probe."
    change(runs["finetune"], "evaluation.json", lambda value: value["selection"].update(why=why))

    told = section(runs["finetune"], "learning")
    assert why in told
    assert "Paired test" not in told


def test_learning__smaller_batches_after_memory_ran_out(runs: dict[str, Path]) -> None:
    change(runs["scratch"], "evaluation.json", lambda v: v["result"]["training"].update(micro_batches=[[120, 64]]))

    assert "memory ran out from step 120 on 64 images at once" in section(runs["scratch"], "learning")


def test_advice__training_validation_and_test_with_their_n(runs: dict[str, Path]) -> None:
    rows = parsed(draw(runs["scratch"])).findall(".//section[@id='next']//tbody/tr")

    assert [words(row) for row in rows] == [
        "training 0.933 [0.882, 0.963] n=150 of 1,200",
        "validation 0.870 [0.790, 0.922] n=100",
        "test 0.790 [0.740, 0.832] n=300",
    ]


def test_advice__training_far_above_test_is_said(runs: dict[str, Path]) -> None:
    told = (
        "It is right on 0.933 of the images that it learnt from, but on 0.790 of those that it had not seen: in part "
        "it knows its training images by heart (overfitting). More images, stronger augmentation or fewer trained "
        "parameters help against that."
    )
    lead = parsed(draw(runs["scratch"])).find(".//section[@id='next']//p[@class='lead']")
    assert words(lead) == told  # where the run suggests nothing else
    assert "overfitting" not in section(runs["finetune"], "next")  # 1.000 and 0.990

    change(runs["scratch"], "evaluation.json", lambda value: value.update(next="label more cats"))
    assert f"Label more cats. {told}" in section(runs["scratch"], "next")

    change(runs["scratch"], "evaluation.json", lambda value: value["subsets"]["train"].update(interval=[0.8, 0.99]))
    assert "overfitting" not in section(runs["scratch"], "next")  # the intervals meet: it may be chance


ADVICE = {
    "sentences": ["keep the head: like the pretraining data", "twice the images would bring <much>"],
    "evidence": {
        "curve": {
            "points": [{"n": 100, "val_accuracy": 0.8}, {"n": 200, "val_accuracy": 0.85}],
            "doubling": {"gain": 0.02, "interval": [-0.01, 0.2]},
        }
    },
}


def test_advice__sentences_and_the_curve_are_shown(runs: dict[str, Path]) -> None:
    change(runs["probe"], "evaluation.json", lambda value: value.update(advice=ADVICE, next="the test is small"))

    page = parsed(draw(runs["probe"]))

    said = [words(p) for p in page.findall(".//section[@id='next']//p")]
    assert said[:3] == [
        "Keep the head: like the pretraining data.",
        "Twice the images would bring <much>.",
        "The test is small.",
    ]
    drawn = [svg.get("aria-label") for svg in page.findall(".//section[@id='next']//svg") if svg.get("aria-label")]
    assert drawn == [
        "validation accuracy by training images: the head ends at 0.85; at best ends at 1; twice as many ends at 0.87; "
        "at worst ends at 0.84."
    ]


@pytest.mark.parametrize("value", [None, {}, {"evidence": None}, {"sentences": [], "evidence": {"curve": None}}])
def test_advice__without_a_curve_the_page_is_whole(runs: dict[str, Path], value: object) -> None:
    change(runs["probe"], "evaluation.json", lambda own: own.update(advice=value))

    assert "What to do next" in section(runs["probe"], "next")


def test_advice__older_runs_have_training_from_the_history(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", PLANS["two"])

    rows = parsed(draw(run)).findall(".//section[@id='next']//tbody/tr")

    assert words(rows[0]) == "training 0.997 n=1,200"


def test_making__says_what_was_run_for_outputs(runs: dict[str, Path]) -> None:
    assert "Outputs of the trained network for 1,600 images computed" in section(runs["scratch"], "making")
    assert "Features of 1,600 images computed" in section(runs["probe"], "making")


def test_records__kept_epochs_and_settings(runs: dict[str, Path]) -> None:
    tuned = read_run(runs["finetune"])

    epochs = kept_epochs(tuned)
    assert [epoch.step for epoch in epochs] == [0, 1, 2, 3, 4, 5]
    assert epochs[-1].seconds == pytest.approx(5.1 * 23)
    assert kept_epochs(read_run(runs["probe"])) == ()
    assert (chosen_setting(tuned, "thaw"), chosen_setting(tuned, "nothing")) == ("all", None)


MISSING = [("result", "training"), ("result", "frozen"), ("result", "strategy"), ("subsets", "train")]


@pytest.mark.parametrize("path", MISSING, ids=".".join)
def test_missing__a_null_leaves_a_whole_page(runs: dict[str, Path], path: tuple[str, str]) -> None:
    change(runs["finetune"], "evaluation.json", lambda value: value[path[0]].update({path[1]: None}))

    assert "How it learned" in section(runs["finetune"], "learning")

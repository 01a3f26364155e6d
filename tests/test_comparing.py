"""comparing.py on made-up run folders: what it reads, what it refuses, what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway import files
from headway.comparing import contrast, told_comparison, write_comparison
from headway.errors import HeadwayError, Refused
from tests.reporting.fixture import BLOOD, HUNDRED
from tests.reporting.roads import ROADS, Images, Road, build_roads, write_split

TWO = {name: ROADS[name] for name in ("probe", "finetune")}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    return build_roads(tmp_path, ROADS, Images())


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    return build_roads(tmp_path, TWO, Images())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rewrite(path: Path, change: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    """Put each row of a CSV through `change`; None leaves it out."""
    rows = [dict(row) for row in files.read_csv(path)]
    kept = [row for row in map(change, rows) if row is not None]
    files.write_csv(path, list(rows[0]), [list(row.values()) for row in kept])


def refusal(runs: dict[str, Path]) -> str:
    with pytest.raises(HeadwayError) as caught:
        contrast(runs)
    return str(caught.value)


def test_contrast__a_row_for_every_choice_from_its_own_files(runs: dict[str, Path]) -> None:
    comparison = contrast(runs)

    assert [own["name"] for own in comparison["choices"]] == ["probe", "finetune", "scratch"]
    for own in comparison["choices"]:
        evaluation = json.loads((runs[own["name"]] / "evaluation.json").read_text())
        result = evaluation["result"]
        assert {key: own[key] for key in ("strategy", "backbone", "parameters", "trainable")} == {
            key: result[key] for key in ("strategy", "backbone", "parameters", "trainable")
        }
        assert own["bundle"] == str(runs[own["name"]] / "bundle")
        for subset in ("train", "val", "test"):
            assert own[subset] == {key: result[subset][key] for key in ("accuracy", "interval", "n", "loss")}
    conditions = comparison["conditions"]
    assert (conditions["test_images"], conditions["seed"], conditions["classes"]) == (300, 0, 2)
    assert conditions["n"] == {"train": 1200, "val": 100, "test": 300, "set_aside": 2}
    assert len(conditions["split"]) == 64
    assert conditions["versions"]["torch"] == "2.9.0"
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison


def test_contrast__curves_are_the_history_and_a_solved_head_has_none(runs: dict[str, Path]) -> None:
    probe, finetune, scratch = contrast(runs)["choices"]

    rows = list(files.read_csv(runs["finetune"] / "history.csv"))
    assert [point["val_accuracy"] for point in finetune["curve"]] == [float(row["val_accuracy"]) for row in rows]
    assert [point["epoch"] for point in finetune["curve"]] == [0, 1, 2, 3, 4, 5]
    assert finetune["curve"][0]["train_loss"] is None
    assert (finetune["epochs"], finetune["kept"], finetune["stopped"]) == (5, 3, "epochs")
    assert (scratch["epochs"], scratch["kept"]) == (12, 10)
    assert (probe["curve"], probe["epochs"], probe["kept"]) == ([], None, None)
    assert probe["flat"] == {"val_loss": 0.08, "val_accuracy": probe["val"]["accuracy"]}


def test_contrast__seconds_are_the_phases_and_leave_out_the_start_of_the_process(runs: dict[str, Path]) -> None:
    probe, finetune, scratch = contrast(runs)["choices"]

    assert probe["seconds"]["total"] == pytest.approx(0.4 + 9.8 + 1.1 + 0.3 + 1.2)
    assert (probe["seconds"]["pass"], probe["seconds"]["training"]) == (9.8, 1.1)
    assert finetune["seconds"]["loop"] == pytest.approx(5.1 * 23)
    assert finetune["seconds"]["training"] == pytest.approx(5.1 * 23 + 3)
    assert finetune["seconds"]["ready"] == pytest.approx(0.6 + 5.1 * 23 + 3)
    assert scratch["pass"] == {"needed": False, "network": None, "computed": 0, "reused": 0, "saved_seconds": None}
    lite0 = ["tf_efficientnet_lite0", 224]
    assert probe["pass"] == {"needed": True, "network": lite0, "computed": 1600, "reused": 0, "saved_seconds": None}
    assert finetune["pass"] == {"needed": True, "network": lite0, "computed": 0, "reused": 1600, "saved_seconds": 9.2}


def test_contrast__what_the_pass_would_have_cost_is_measured_else_estimated(runs: dict[str, Path]) -> None:
    """The probe paid 9.8 s for the pass, fine-tuning 0.6 s. Where nobody paid, the run's own estimate (7 s) counts."""
    measured = contrast(runs)["choices"][1]["pass"]["saved_seconds"]
    estimated = contrast({name: runs[name] for name in ("finetune", "scratch")})["choices"][0]["pass"]["saved_seconds"]
    edit(runs["probe"] / "evaluation.json", lambda value: value["model"].update(input=128))
    other = contrast(runs)["choices"][1]["pass"]["saved_seconds"]

    assert (measured, estimated, other) == (9.2, 7.0, 7.0)


def test_contrast__a_run_that_was_gone_on_with_counts_all_of_its_training(tmp_path: Path) -> None:
    runs = build_roads(tmp_path, {"probe": ROADS["probe"], "cnn": replace(ROADS["scratch"], resumed=True)}, Images())

    comparison = contrast(runs)

    spent = comparison["choices"][1]["seconds"]
    assert spent["resumed"]
    assert spent["training"] == pytest.approx(12.1 * 31)
    assert spent["total"] == pytest.approx(12.1 * 31 + 0.4 + 1.9 + 0.3 + 1.2)
    assert "cnn was interrupted and gone on with: of its starts only training is added up." in comparison["notes"]


def test_contrast__says_who_found_the_pass_done_and_what_the_seconds_include(runs: dict[str, Path]) -> None:
    assert contrast(runs)["notes"] == [
        "finetune (1,600 images, about 9.2 s of work) found features in the cache: its seconds are without that "
        "part of the pass, those of probe include the pass. As they stand they cannot be compared. The verdict adds "
        "that work.",
        "finetune begins with a probe of its own; the seconds of training include that.",
        "The test images were looked at once by each of the 3 choices; taking the highest of several numbers flatters "
        "it, which is why the paired tests decide.",
    ]


def test_contrast__pairs_and_verdict(runs: dict[str, Path]) -> None:
    comparison = contrast(runs)

    names = [(pair["a"], pair["b"], pair["better"]) for pair in comparison["pairs"]]
    assert names == [("probe", "finetune", None), ("probe", "scratch", "probe"), ("finetune", "scratch", "finetune")]
    right = {}
    for name, folder in runs.items():
        rows = [row for row in files.read_csv(folder / "predictions.csv") if row["subset"] == "test"]
        right[name] = {row["name"]: row["label"] == row["predicted"] for row in rows}
    for pair in comparison["pairs"]:
        a, b = right[pair["a"]], right[pair["b"]]
        assert pair["difference"] == pytest.approx(sum(a[image] - b[image] for image in a) / 300)
    assert comparison["verdict"] == {
        "highest": "finetune",
        "best": None,
        "worse": ["scratch"],
        "cheapest": "probe",
        "sentences": [
            "No choice is shown to be best: finetune has the highest accuracy, 0.990 [0.971, 0.997] on 300 test "
            "images, but no difference is shown between it and probe.",
            "scratch is shown to be worse than probe and finetune.",
            "probe is the cheapest and not shown to be worse: 12.8 s, against 2 min 12 s for finetune and 6 min 22 s "
            "for scratch.",
            "These 300 images do not rule out that finetune is better by up to 4.0 points.",
        ],
    }


def test_contrast__a_best_choice(tmp_path: Path) -> None:
    roads = {"finetune": replace(ROADS["finetune"], skill=6.0, twist=0.1), "scratch": ROADS["scratch"]}

    verdict = contrast(build_roads(tmp_path, roads, Images()))["verdict"]

    assert verdict["best"] == verdict["cheapest"] == "finetune"
    assert verdict["sentences"][0].startswith("finetune is best: ")
    assert verdict["sentences"][0].endswith(
        " on 300 test images, shown to be better than the other on the same images."
    )
    assert verdict["sentences"][1] == "finetune is also the cheapest: 2 min 10 s, against 6 min 22 s for scratch."
    assert len(verdict["sentences"]) == 2


def test_contrast__what_is_cheaper_may_be_worse(tmp_path: Path) -> None:
    roads = {"fast": replace(ROADS["probe"], skill=1.5), "best": replace(ROADS["finetune"], skill=6.0)}

    verdict = contrast(build_roads(tmp_path, roads, Images()))["verdict"]

    assert verdict["sentences"][1] == (
        "What is cheaper is shown to be worse: 12.8 s for fast, against 2 min 12 s for best."
    )


def test_contrast__equals(two: dict[str, Path]) -> None:
    comparison = contrast({"one": two["probe"], "other": two["probe"]})

    first = comparison["verdict"]["sentences"][0]
    assert first.startswith("No choice is shown to be best: one and other are right equally often, 0.973 [")
    assert comparison["pairs"][0]["difference"] == 0


def test_contrast__groups_of_the_split_are_resampled_as_wholes(tmp_path: Path) -> None:
    plain = contrast(build_roads(tmp_path / "plain", TWO, Images()))
    grouped = contrast(build_roads(tmp_path / "grouped", TWO, Images(groups=True)))

    assert (plain["conditions"]["test_groups"], grouped["conditions"]["test_groups"]) == (None, 100)
    assert plain["pairs"][0]["bootstrap"]["units"] == 300
    assert grouped["pairs"][0]["bootstrap"]["units"] == 100
    assert plain["pairs"][0]["mcnemar"] == grouped["pairs"][0]["mcnemar"]


def test_contrast__classes_one_by_one_only_where_they_are_few(tmp_path: Path) -> None:
    few = contrast(build_roads(tmp_path / "few", TWO, Images(BLOOD, (22, 13, 14, 48), 1)))["choices"][0]["per_class"]
    many = contrast(build_roads(tmp_path / "many", TWO, Images(HUNDRED, (3,) * 100)))["choices"][0]["per_class"]

    assert [row["class"] for row in few] == list(BLOOD)
    assert many is None


def test_contrast__older_runs_without_training_facts(two: dict[str, Path]) -> None:
    def older(value: Any) -> None:
        for key in ("training", "frozen", "parameters", "trainable", "train", "val", "test"):
            value["result"].pop(key)
        value["subsets"].pop("train")
        value["selection"].pop("strategy")

    for path in two.values():
        edit(path / "evaluation.json", older)
        rewrite(
            path / "history.csv", lambda row: {key: cell for key, cell in row.items() if key != "seconds"} | {"x": ""}
        )
        (path / "split.csv").unlink()

    comparison = contrast(two)

    assert comparison["choices"][1]["epochs"] == 5
    assert comparison["choices"][1]["train"] is None
    assert comparison["choices"][1]["parameters"] == 3_374_858
    assert comparison["conditions"]["split"] is None
    assert "  –  " in told_comparison(comparison)


def test_contrast__conditions_that_differ_are_told(two: dict[str, Path]) -> None:
    write_split(two["finetune"] / "split.csv", Images(), moved=9)
    edit(two["finetune"] / "resolved.json", lambda value: value["versions"].update(torch="3.0.0"))
    edit(two["finetune"] / "resolved.json", lambda value: value["machine"].update(processor="other"))

    assert contrast(two)["notes"][-3:] == [
        "The runs were trained and tuned on different images, though they were tested on the same.",
        "The runs come from different machines, so their seconds cannot be compared.",
        "The runs were made with different versions of the software.",
    ]


def test_contrast__other_test_images_are_refused(two: dict[str, Path]) -> None:
    rewrite(two["finetune"] / "predictions.csv", lambda row: None if row["name"] == "cats/7.jpg" else row)

    assert refusal(two) == (
        "probe and finetune cannot be compared: 1 test images belong to one of them alone (cats/7.jpg). "
        "Compare runs on the same data with the same split: headway fit --split RUN"
    )


def test_contrast__other_labels_are_refused(two: dict[str, Path]) -> None:
    rewrite(
        two["finetune"] / "predictions.csv",
        lambda row: row | {"label": "dogs"} if row["name"] in ("cats/7.jpg", "cats/9.jpg") else row,
    )

    assert refusal(two) == (
        "probe and finetune cannot be compared: 2 test images have other labels (cats/7.jpg and cats/9.jpg). "
        "Compare runs on the same data with the same split: headway fit --split RUN"
    )


def test_contrast__files_that_do_not_belong_together_are_refused(two: dict[str, Path]) -> None:
    right = {"cats": "dogs", "dogs": "cats"}
    rewrite(two["probe"] / "predictions.csv", lambda row: row | {"predicted": right[row["label"]]})

    assert refusal(two) == (
        f"{two['probe']}: evaluation.json and predictions.csv do not belong together. Make them again: headway fit"
    )


def test_contrast__what_is_missing_or_damaged_is_named(two: dict[str, Path], tmp_path: Path) -> None:
    assert refusal({"probe": two["probe"]}) == "a comparison needs two runs or more, not 1."

    (two["probe"] / "predictions.csv").unlink()
    assert refusal(two) == f"{two['probe'] / 'predictions.csv'} is missing or damaged. Make it again: headway fit"

    (two["finetune"] / "predictions.csv").write_text("name,subset\n")
    assert refusal({"a": two["finetune"], "b": two["finetune"]}) == (
        f"{two['finetune']} has no test images, so it cannot be compared. Give some: headway fit --test"
    )
    with pytest.raises(Refused, match="has no evaluation"):
        contrast({"a": tmp_path / "nothing", "b": two["probe"]})


def test_contrast__a_damaged_split_is_named(two: dict[str, Path]) -> None:
    rewrite(two["probe"] / "split.csv", lambda row: row | {"group": "many"})

    assert refusal(two).startswith(f"{two['probe'] / 'split.csv'} is damaged: invalid literal for int()")


def test_write_comparison__json_page_and_relative_links(runs: dict[str, Path], tmp_path: Path) -> None:
    (runs["scratch"] / "report.html").unlink()
    folder = tmp_path / "compared"

    comparison = write_comparison(folder, runs)

    assert json.loads((folder / "comparison.json").read_text()) == comparison
    assert [own["report"] for own in comparison["choices"]] == ["../probe/report.html", "../finetune/report.html", None]
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "report.html"]
    again = write_comparison(folder, runs)
    assert {**again, "created": ""} == {**comparison, "created": ""}


def test_told_comparison__a_table_that_stands_in_line(runs: dict[str, Path]) -> None:
    comparison = contrast(runs)

    table, verdict, pairs, notes = told_comparison(comparison).split("\n\n")

    assert table.split("\n") == [
        "          strategy  parameters    trained        time  train    val   test  95 %",
        "probe     probe      3,374,858      9,794      12.8 s  1.000  0.960  0.973  [0.948, 0.986]",
        "finetune  finetune   3,374,858  3,374,858   2 min 3 s  1.000  0.980  0.990  [0.971, 0.997]",
        "scratch   scratch      846,308    846,308  6 min 22 s  0.933  0.870  0.790  [0.740, 0.832]",
    ]
    assert verdict.split("\n") == comparison["verdict"]["sentences"]
    assert pairs.split("\n") == [pair["sentence"] for pair in comparison["pairs"]]
    assert notes.split("\n") == [f"note: {note}" for note in comparison["notes"]]


def test_told_comparison__names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    runs = build_roads(tmp_path, {"a": Road("probe"), "b": Road("probe", 3.0)}, Images())

    told = told_comparison(contrast({"red\x1b[31m": runs["a"], "b": runs["b"]}))

    assert "\x1b" not in told
    assert "red\\x1b[31m" in told

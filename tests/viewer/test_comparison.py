"""Runs beside each other: the paired test is that of `headway compare`; what differs; no test on other images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from headway import files
from headway.comparing import contrast
from headway.reporting.records import read_run
from headway.viewer.comparison import Beside, beside, setting
from headway.viewer.listing import Shelf
from headway.viewer.pairs import pair_up, told_verdict
from tests.reporting.roads import ROADS, SIX, Images, Road, build_roads, write_split
from tests.reporting.twin import visible
from tests.viewer.shelves import copied


def compared(root: Path, names: Sequence[str]) -> Beside:
    listing = Shelf(root).listing()
    rows = [row for row in map(listing.row, names) if row is not None]
    found, damaged = beside(rows, listing.paths, {})
    assert found is not None, damaged
    return found


def rewrite(path: Path, keep: slice, **changed: str) -> None:
    """Keep some rows of a CSV, with other values in some columns."""
    rows = [{**row, **changed} for row in files.read_csv(path)][keep]
    files.write_csv(path, list(rows[0]), [list(row.values()) for row in rows])


@pytest.mark.parametrize(("roads", "groups"), [(ROADS, False), (ROADS, True), (SIX, False)], ids=[3, "groups", 6])
def test_pairs__the_figures_of_headway_compare(tmp_path: Path, roads: dict[str, Road], groups: bool) -> None:
    runs = build_roads(tmp_path, roads, Images(groups=groups))

    pairs = pair_up({name: read_run(path) for name, path in runs.items()})

    verdicts = [pair.verdict for pair in pairs]
    assert [verdict.to_json() for verdict in verdicts if verdict is not None] == contrast(runs)["pairs"]


def test_pairs__only_images_that_both_were_judged_on(tmp_path: Path) -> None:
    runs = build_roads(tmp_path, {name: ROADS[name] for name in ("probe", "scratch")}, Images())
    rewrite(runs["probe"] / "predictions.csv", slice(0, -100))
    rewrite(runs["scratch"] / "predictions.csv", slice(50, None))
    answers = {}
    for name, folder in runs.items():
        rows = [row for row in files.read_csv(folder / "predictions.csv") if row["subset"] == "test"]
        answers[name] = {row["name"]: row["label"] == row["predicted"] for row in rows}
    both = answers["probe"].keys() & answers["scratch"].keys()

    (pair,) = pair_up({name: read_run(path) for name, path in runs.items()})

    assert pair.verdict is not None
    assert (pair.common, pair.of, pair.partly) == (len(both), tuple(map(len, answers.values())), True)
    assert len(both) < 300
    pairs = [(answers["probe"][image], answers["scratch"][image]) for image in both]
    assert pair.alone == (pairs.count((True, False)), pairs.count((False, True)))
    difference = sum(a - b for a, b in pairs) / len(both)
    assert pair.verdict.test.difference == pytest.approx(difference)
    assert "Where two runs have other test images, only those that both were judged on are compared." in told_verdict(
        list(runs), [pair]
    )


def test_pairs__the_same_name_with_other_content_is_another_image(tmp_path: Path) -> None:
    runs = build_roads(tmp_path, {name: ROADS[name] for name in ("probe", "scratch")}, Images())
    rewrite(runs["scratch"] / "split.csv", slice(None), digest="0" * 64)

    (pair,) = pair_up({name: read_run(path) for name, path in runs.items()})

    assert (pair.verdict, pair.common) == (None, 0)
    assert told_verdict(list(runs), [pair]) == (
        "probe and scratch cannot be tested against each other.",
        "Judged on other images, so no test can tell which is better.",
    )


def test_pairs__no_test_where_labels_differ_or_files_are_damaged(tmp_path: Path) -> None:
    runs = build_roads(tmp_path, ROADS, Images())
    rewrite(runs["scratch"] / "predictions.csv", slice(None), label="cats")
    (runs["finetune"] / "predictions.csv").write_text("name,subset\n")

    pairs = pair_up({name: read_run(path) for name, path in runs.items()})

    damaged = "finetune has no predictions.csv that can be read, or no test images"
    assert [pair.why for pair in pairs] == [
        damaged,
        "150 of their test images have other labels, so no test",
        damaged,
    ]
    assert told_verdict(list(runs), pairs) == (
        "No two of these runs can be tested against each other.",
        "3 pairs could not be tested; the table says why.",
    )


def test_verdict__two_runs(tmp_path: Path) -> None:
    runs = {name: read_run(path) for name, path in build_roads(tmp_path, ROADS, Images()).items()}
    near = {name: runs[name] for name in ("probe", "finetune")}
    far = {name: runs[name] for name in ("scratch", "finetune")}

    same, better = (told_verdict(list(of), pair_up(of)) for of in (near, far))

    assert same[0] == "No difference shown between probe and finetune."
    assert same[1].startswith("No difference shown between probe and finetune on 300 images: probe 0.")
    assert better[0] == "finetune is better than scratch."
    assert better[1].startswith("finetune is better than scratch on 300 images: scratch 0.")


def test_verdict__several_runs(tmp_path: Path) -> None:
    two_low = {"probe": ROADS["probe"], "scratch": ROADS["scratch"], "poor": replace(ROADS["scratch"], skill=1.0)}
    runs = {name: read_run(path) for name, path in build_roads(tmp_path / "a", two_low, Images()).items()}
    mixed = {name: read_run(path) for name, path in build_roads(tmp_path / "b", ROADS, Images()).items()}

    assert told_verdict(list(runs), pair_up(runs)) == ("probe is better than each of the others.",)
    assert told_verdict(list(mixed), pair_up(mixed)) == ("2 of 3 pairs show a difference.",)


def test_comparison__runs_on_other_images_have_no_test(shelf: Path) -> None:
    found = compared(shelf, ["probe", "others", "scratch"])

    assert [(pair.a, pair.b, pair.verdict[:9], pair.bar is None) for pair in found.pairs] == [
        ("probe", "others", "no test: ", True),
        ("probe", "scratch", "probe is ", False),
        ("others", "scratch", "no test: ", True),
    ]
    assert found.verdict == ("1 of 1 pair shows a difference.", "2 pairs could not be tested; the table says why.")
    assert ("data", ("photos", "birds", "photos")) in found.conditions


def test_comparison__settings_that_differ_alone(shelf: Path) -> None:
    found = compared(shelf, ["probe", "finetune"])
    asked = [yaml.safe_load((shelf / name / "settings.yaml").read_text()) for name in ("probe", "finetune")]
    differing = [name for name in asked[0] if asked[0][name] != asked[1][name]]

    assert found.settings == tuple((name, tuple(str(own[name]) for own in asked)) for name in differing)
    assert found.same == len(asked[0]) - len(differing)


def test_comparison__a_setting_that_one_run_does_not_know_is_no_difference(shelf: Path, tmp_path: Path) -> None:
    root = copied(shelf, tmp_path / "runs")
    path = root / "probe" / "settings.yaml"
    path.write_text(path.read_text() + "balance: none\n")

    assert compared(root, ["probe", "finetune"]).settings == compared(shelf, ["probe", "finetune"]).settings


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "not given"),
        (True, "yes"),
        (0.003, "0.003"),
        ([0.1, 0.2], "0.1, 0.2"),
        ([], "none"),
        ("crop", "crop"),
        ({"a": 1}, "…"),
        ([[1]], "…"),
    ],
)
def test_setting__as_it_would_be_typed(value: object, told: str) -> None:
    assert setting(value) == told


def test_comparison__curves_lie_over_each_other(shelf: Path) -> None:
    found = compared(shelf, ["probe", "finetune", "scratch"])

    loss, accuracy = found.panels
    for panel in (loss, accuracy):
        # The probe was solved at once: a level line. The others have validation, and training beside it.
        assert panel.count('class="curve run0 level"') == 1
        assert [panel.count(f'class="curve run{place}"') for place in (0, 1, 2)] == [0, 1, 1]
        assert [panel.count(f'class="curve run{place} training"') for place in (0, 1, 2)] == [0, 1, 1]
        assert panel.count('class="ring"') == 2
        assert [word in visible(panel) for word in ("probe", "finetune", "scratch")] == [True] * 3
    assert found.both


def test_comparison__names_leave_out_the_folder_that_all_lie_in(shelf: Path) -> None:
    found = compared(shelf, ["photos-compare-1/probe", "photos-compare-1/finetune"])
    apart = compared(shelf, ["photos-compare-1/probe", "finetune"])

    assert (found.parent, [side.name for side in found.sides]) == ("photos-compare-1", ["probe", "finetune"])
    assert (apart.parent, [side.name for side in apart.sides]) == ("", ["photos-compare-1/probe", "finetune"])
    assert found.verdict[0] == "No difference shown between probe and finetune."


def test_comparison__a_damaged_run_is_left_out_and_named(shelf: Path, tmp_path: Path) -> None:
    root = copied(shelf, tmp_path / "runs")
    (root / "scratch" / "history.csv").write_text("kind,step\nepoch,many\n")
    (root / "probe" / "split.csv").unlink()
    (root / "probe" / "split.csv").symlink_to(shelf / "probe" / "split.csv")
    listing = Shelf(root).listing()
    rows = [row for row in map(listing.row, ("probe", "finetune", "scratch")) if row is not None]

    found, damaged = beside(rows, listing.paths, {})

    assert found is None
    assert damaged[0] == "probe is left out: split.csv cannot be read: a link, which is not followed"
    assert damaged[1].startswith("scratch is left out: ")
    assert damaged[1].endswith("history.csv is damaged: could not convert string to float: 'many'")


@pytest.mark.parametrize("name", ["evaluation.json", "history.csv", "predictions.csv", "split.csv", "settings.yaml"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00\r,\n", b"[1, 2]", b'{"schema": 1, "result": {}, "subsets": {}}'])
def test_comparison__no_damage_is_fatal(shelf: Path, tmp_path: Path, name: str, content: bytes) -> None:
    root = copied(shelf, tmp_path / "runs")
    listing = Shelf(root).listing()  # as it was before the damage came
    (root / "probe" / name).write_bytes(content)
    rows = [row for row in map(listing.row, ("finetune", "probe", "scratch")) if row is not None]

    found, _ = beside(rows, listing.paths, {})

    assert found is not None
    assert {"finetune", "scratch"} <= {side.name for side in found.sides}


def test_comparison__odd_values_are_dashes(shelf: Path, tmp_path: Path) -> None:
    root = copied(shelf, tmp_path / "runs")
    path = root / "probe" / "evaluation.json"
    value = json.loads(path.read_text())
    value["result"] |= {"parameters": 10**400, "classes": {}, "n": [], "features": 3}
    value["subsets"] |= {"train": 7}
    value["selection"] = {"taps": [], "l2": "x", "head": 9}
    listing = Shelf(root).listing()
    path.write_text(json.dumps(value))
    rows = [row for row in map(listing.row, ("probe", "finetune")) if row is not None]

    found, damaged = beside(rows, listing.paths, {})

    assert (found is None) != (not damaged)
    if found is not None:
        assert (found.sides[0].parameters, found.sides[0].train) == ("–", "–")


def test_split__moved_images_do_not_touch_the_test(tmp_path: Path) -> None:
    runs = build_roads(tmp_path, {name: ROADS[name] for name in ("probe", "scratch")}, Images())
    write_split(runs["scratch"] / "split.csv", Images(), moved=40)

    (pair,) = pair_up({name: read_run(path) for name, path in runs.items()})

    assert (pair.common, pair.partly) == (300, False)

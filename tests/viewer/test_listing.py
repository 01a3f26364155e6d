"""The table of runs: what is read of each folder, and that nothing on the disk can break it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.viewer import folders
from headway.viewer.listing import Row, Shelf
from tests.reporting.roads import ROADS, Images, build_roads
from tests.viewer.shelves import copied


def rows(root: Path) -> dict[str, Row]:
    return {row.name: row for row in Shelf(root).listing().rows}


def test_listing__a_row_for_every_folder_by_what_it_is(shelf: Path) -> None:
    assert {name: (row.kind, row.state) for name, row in rows(shelf).items()} == {
        "begun": ("run", "unfinished"),
        "finetune": ("run", ""),
        "notes": ("other", "nothing of headway in it"),
        "others": ("run", ""),
        "photos-audit-1": ("audit", "photos, 1,500 images"),
        "photos-compare-1": ("comparison", "photos: probe, finetune"),
        "photos-compare-1/finetune": ("run", ""),
        "photos-compare-1/probe": ("run", ""),
        "probe": ("run", ""),
        "scratch": ("run", ""),
    }


def test_listing__a_run_as_its_own_files_tell(shelf: Path) -> None:
    row = rows(shelf)["finetune"]
    evaluation = json.loads((shelf / "finetune" / "evaluation.json").read_text())
    test, result = evaluation["subsets"]["test"], evaluation["result"]

    assert (row.id, row.data, row.created, row.strategy, row.backbone, row.head) == (
        *("finetune", "photos", "2026-11-23T12:00:00Z", "finetune", result["backbone"], "linear"),
    )
    assert (row.test, row.interval, row.n) == (test["accuracy"], tuple(test["interval"]), 300)
    assert (row.val, row.images) == (evaluation["subsets"]["val"]["accuracy"], 1200 + 100 + 300)
    assert row.seconds == pytest.approx(0.4 + 0.6 + 5.1 * 23 + 3 + 0.3 + 1.2)
    assert (row.pages, row.faults, row.comparable) == (("report.html",), (), True)


def test_listing__an_unfinished_run_tells_what_it_was_asked(shelf: Path) -> None:
    row = rows(shelf)["begun"]

    assert (row.data, row.strategy, row.backbone, row.head, row.test) == (
        *("photos", "finetune", "resnet18", "linear", None),
    )
    assert row.created.startswith("20")
    assert not row.comparable


def test_listing__the_folder_itself_may_be_a_run(shelf: Path) -> None:
    found = rows(shelf / "probe")

    assert [(name, row.id[:1], row.kind) for name, row in found.items()] == [("probe", "~", "run")]


def test_listing__a_bundle_judged_again(tmp_path: Path) -> None:
    folder = tmp_path / "photos-evaluated"
    folder.mkdir()
    test = {"accuracy": 0.9, "interval": [0.86, 0.93], "n": 300}
    value = {"bundle": "cats/bundle", "bundle_digest": "f5", "data": "photos", "test": test}
    (folder / "evaluation.json").write_text(json.dumps(value))

    row = rows(tmp_path)["photos-evaluated"]

    told = "cats/bundle judged on photos: 0.900 [0.860, 0.930] on 300 images"
    assert (row.kind, row.state) == ("evaluation", told)
    assert not row.comparable


def test_listing__files_are_read_again_only_where_they_changed(shelf: Path, tmp_path: Path) -> None:
    root = copied(shelf, tmp_path / "runs")
    kept = Shelf(root)
    before = {row.name: row for row in kept.listing().rows}
    path = root / "probe" / "evaluation.json"
    path.write_text(path.read_text().replace('"title": "photos"', '"title": "pictures"'))
    os.utime(path, ns=(1, 1))
    (root / "scratch" / "evaluation.json").rename(root / "scratch" / "away")

    after = {row.name: row for row in kept.listing().rows}

    assert [name for name in before if after[name] is not before[name]] == ["probe", "scratch"]
    assert (after["probe"].data, after["scratch"].state) == ("pictures", "unfinished")


def test_listing__links_are_told_and_not_followed(shelf: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    (root / "linked").symlink_to(shelf / "probe")
    (root / "ring").symlink_to(root / "ring")
    build_roads(root, {"run": ROADS["probe"]}, Images())
    for name in ("report.html", "history.csv"):
        (root / "run" / name).unlink()
        (root / "run" / name).symlink_to(shelf / "probe" / name)

    found = rows(root)

    assert {name: row.state for name, row in found.items()} == {
        "linked": "a link, which is not followed",
        "ring": "a link, which is not followed",
        "run": "",
    }
    assert found["run"].pages == ()
    assert found["run"].faults == (
        "history.csv cannot be read: a link, which is not followed",
        "report.html cannot be read: a link, which is not followed",
    )


def test_listing__a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    build_roads(tmp_path, {"run": ROADS["probe"]}, Images())
    (tmp_path / "run" / "evaluation.json").unlink()
    os.mkfifo(tmp_path / "run" / "evaluation.json")

    assert rows(tmp_path)["run"].state == "damaged: evaluation.json is not a plain file"


@pytest.mark.parametrize(("name", "most"), [("MOST_FOLDERS", 5), ("MOST_ITEMS", 12)])
def test_listing__ends_where_there_is_too_much(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    whole = Shelf(shelf).listing()
    monkeypatch.setattr(folders, name, most)

    cut = Shelf(shelf).listing()

    assert (whole.cut, cut.cut) == (False, True)
    assert len(cut.rows) <= 5 < len(whole.rows)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", "damaged: evaluation.json is not JSON"),
        ("[]", "damaged: evaluation.json holds no JSON object"),
        ("{}", "schema none, this headway reads schema 1"),
        ('{"schema": 7}', "schema 7, this headway reads schema 1"),
        ('{"schema": 1}', "damaged: evaluation.json holds something else than expected"),
        ('{"schema": 1, "result": 5, "subsets": []}', "damaged: evaluation.json holds something else than expected"),
        ("[" * 100_000, "damaged: evaluation.json is not JSON"),
        ("9" * 100_000, "damaged: evaluation.json is not JSON"),
    ],
    ids=["empty", "list", "none", "newer", "bare", "other", "deep", "digits"],
)
def test_listing__what_is_wrong_with_an_evaluation(tmp_path: Path, text: str, state: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evaluation.json").write_text(text)

    assert rows(tmp_path)["run"].state == state


DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda content, at: content[: at % max(1, len(content) - 1)],
    "noise": lambda content, at: bytes((at * 31 + place * 17) % 251 for place in range(200)),
    "nothing": lambda content, at: b"",
    "other": lambda content, at: b'{"schema": 1, "result": {"n": [1]}, "subsets": {"test": 5, "val": "x"}}',
    "huge": lambda content, at: b'{"schema": 1, "result": {"seconds": {"a": 1e999}}, "subsets": ' + b"9" * 5000 + b"}",
}
CHECKED = (
    *("settings.yaml", "resolved.json", "evaluation.json", "split.csv", "history.csv", "predictions.csv"),
    *("audit.json", "thumbnails.parquet", "report.html"),
)


@settings(max_examples=40)
@given(st.sampled_from(CHECKED), st.sampled_from(sorted(DAMAGES)), st.integers(0, 10**6))
def test_listing__whatever_is_damaged_is_told_in_its_row(
    shelf: Path, tmp_path_factory: pytest.TempPathFactory, name: str, damage: str, at: int
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    run = copied(shelf / "probe", root / "run")
    path = run / name
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(DAMAGES[damage](before, at))

    row = rows(root)["run"]

    told = " ".join((row.state, *row.faults))
    # Another object, or a table that ends with a line, is as whole as the one before: nothing to be seen.
    unseen = damage == "other" and name in ("settings.yaml", "resolved.json", "audit.json")
    unseen |= damage == "huge" and name in ("settings.yaml", "audit.json")
    unseen |= damage == "cut" and (name == "settings.yaml" or path.read_bytes().endswith(b"\n"))
    assert (name in told) or unseen
    others = [other for other in CHECKED if other != name and f"{other} " in told]
    assert others in ([], ["thumbnails.parquet"])

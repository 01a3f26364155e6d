"""audit.html and the part of the report that shows findings: well-formed, whole, bounded, odd names as text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.errors import Refused
from headway.reporting.audit_page import draw_audit, write_audit
from headway.reporting.findings import MOST_ITEMS, findings, pictured, told
from headway.reporting.page import draw
from tests.reporting import facts
from tests.reporting.fixture import PLANS, build_run, write_json, write_thumbnails
from tests.reporting.test_page import parsed, words
from tests.reporting.twin import PAYLOADS, skeleton, visible


def sample(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "label": "cats", "subset": "train", **more}


def group(*names: str) -> dict[str, Any]:
    n = len(names)
    return {"names": list(names), "labels": ["cats"] * n, "subsets": ["train", "test"] * (n // 2), "n": n}


def found(prefix: str = "", many: int = 3) -> dict[str, Any]:
    """An audit.json with something of every kind."""
    name = f"{prefix}cats/1.jpg"
    names = [f"{prefix}{number}.jpg" for number in range(many)]
    copies: dict[str, Any] = {"exact_groups": [group(name, names[0])], "near_groups": [group(names[1], names[2])]}
    copies |= {"exact_count": 1, "near_count": 1, "not_looked": ""}
    shortcut = {"cue": "encoder", "class": "cats", "sentence": f"encoder alone tells {prefix}cats"}
    label = {"suggested": f"{prefix}dogs", "probability_wrong": 0.987}
    return {
        **facts.audit(("cats", "dogs"), (30, 20), [name, *names, "b", "c"], 0),
        "title": f"{prefix}photos",
        "created": "2026-11-23T12:00:00Z",
        "command": f"headway audit {prefix}photos",
        "backbone": "tf_efficientnet_lite0",
        "classes": ["cats", "dogs"],
        "seconds": {"total": 12.0, "features": 9.0, "audit": 2.5},
        "labels": {
            "judged": 250,
            "found": many,
            "expected": 0.0123,
            "expected_interval": [0.004, 0.03],
            "left_out": [f"{prefix}few"],
            "items": [sample(one, **label) for one in names],
        },
        "outliers": {"judged": 250, "found": 1, "items": [sample(name, times=3.21)]},
        "shortcuts": {"images": 250, "cues": ["encoder", "border"], "questions": 2, "found": [shortcut]},
        "oddities": {
            "found": 2,
            "kinds": {"small": 1, "flat": 1},
            "pictures": True,
            "items": [sample(name, kind="small", text="9 x 8 pixels"), sample(names[0], kind="flat", text="flat")],
        },
        "imbalance": {
            "largest": {"class": f"{prefix}cats", "images": 400},
            "smallest": {"class": "dogs", "images": 40},
            "ratio": 10.0,
        },
        "leaks": copies,
        "duplicates": copies,
        "left": ["borders"],
    }


def nothing() -> dict[str, Any]:
    value = found()
    none: dict[str, Any] = {"exact_groups": [], "near_groups": [], "exact_count": 0, "near_count": 0}
    value["labels"] |= {"found": 0, "items": [], "left_out": [], "expected": 0.0, "expected_interval": [0.0, 0.001]}
    value["outliers"] |= {"found": 0, "items": []}
    value["shortcuts"] |= {"found": []}
    value["oddities"] |= {"found": 0, "items": [], "kinds": {}}
    return {**value, "imbalance": None, "leaks": none, "duplicates": none, "left": [], "set_aside": []}


def folder(path: Path, value: dict[str, Any]) -> Path:
    path.mkdir(parents=True)
    write_json(path / "audit.json", value)
    write_thumbnails(path / "thumbnails.parquet", pictured(value), np.random.default_rng(0))
    return path


def test_told__a_line_for_each_kind() -> None:
    assert list(told(found())) == [
        ("damaged", "2 files cannot be read. First: cats/1.jpg.981 (truncated at 61 %)"),
        ("leaks", "1 exact and 1 near groups: the same picture in several subsets. First: cats/1.jpg = 0.jpg"),
        (
            "labels",
            "3 of 250 labels are likelier wrong than right; of all, 1.2 % [0.4, 3.0] are expected to be wrong. "
            "First: 0.jpg (cats, looks like dogs, wrong with 0.99)",
        ),
        ("shortcut", "Encoder alone tells cats."),
        ("copies", "1 exact and 1 near groups: the same picture several times, 2 of them in several subsets."),
        (
            "outliers",
            "1 of 250 images lies far from all others of its class. "
            "First: cats/1.jpg (cats, train, 3.2 times as far as usual)",
        ),
        (
            "odd",
            "2 images are odd to look at: 1 much smaller, 1 nearly one colour. First: cats/1.jpg "
            "(cats, train, 9 x 8 pixels)",
        ),
        ("uneven", "cats has 400 images, dogs 40: 10.0 times as many."),
        ("left", "borders"),
    ]


def test_told__nothing_found_is_said() -> None:
    assert list(told(nothing())) == [("audit", "nothing found")]
    sentences = [finding.sentence for finding in findings(nothing(), {})]
    assert sentences == [
        "No picture stands in more than one subset.",
        "None of 250 labels is likelier wrong than right; of all, 0.0 % [0.0, 0.1] are expected to be wrong.",
        "Nothing beside the pictures tells the classes.",
        "No picture stands here twice.",
        "None of 250 images lies far from all others of its class.",
        "No image is of an odd size or shape, or of one colour.",
    ]


def test_told__labels_in_doubt_are_shown_though_none_is_likely_wrong() -> None:
    value = nothing()
    value["labels"] |= {"in_doubt": 1, "items": [sample("9.jpg", suggested="dogs", probability_wrong=0.3)]}

    assert list(told(value)) == [
        (
            "labels",
            "None of 250 labels is likelier wrong than right; of all, 0.0 % [0.0, 0.1] are expected to be wrong. "
            "Here are those most in doubt. First: 9.jpg (cats, looks like dogs, wrong with 0.30)",
        )
    ]


def test_findings__an_older_audit_says_nothing_of_what_it_lacks() -> None:
    old = facts.audit(("cats", "dogs"), (3, 2), ["a", "b", "c", "d"], 0)

    assert [finding.key for finding in findings(old, {})] == ["damaged"]
    assert findings({}, {}) == ()


@pytest.mark.parametrize("value", [found(), found(many=40), nothing()], ids=["found", "many", "nothing"])
def test_page__is_well_formed_and_refers_to_nothing_outside(tmp_path: Path, value: dict[str, Any]) -> None:
    text = draw_audit(folder(tmp_path / "audit", value))
    page = parsed(text)

    identities = [node.get("id") for node in page.iter() if node.get("id")]
    assert len(identities) == len(set(identities))
    assert {str(node.get("href")).removeprefix("#") for node in page.iter("a")} <= set(identities)
    assert all(image.get("alt") for image in page.iter("img"))
    assert "<script" not in text
    for node in page.iter():
        assert "style" not in node.attrib
        for attribute in ("src", "href"):
            if attribute in node.attrib:
                assert node.attrib[attribute].startswith(("#", "data:image/jpeg;base64,", "data:,"))
    assert len(text.encode()) < 1_000_000
    assert "nan" not in visible(text).lower().split()


def test_page__shows_every_finding_with_its_pictures(tmp_path: Path) -> None:
    value = found(many=40)
    page = parsed(draw_audit(folder(tmp_path / "audit", value)))

    sections = {section.get("id"): section for section in page.findall(".//main/section")}
    assert list(sections) == [
        *("damaged", "leaks", "labels", "shortcuts", "duplicates", "outliers", "oddities", "imbalance", "fine", "data")
    ]
    for finding in findings(value, {}):
        assert words(sections[finding.key].find(".//p[@class='lead']")) == finding.sentence
    items = sections["labels"].findall(".//li/img")
    assert [item.get("alt") for item in items] == [f"{number}.jpg" for number in range(MOST_ITEMS)]
    assert len(sections["leaks"].findall(".//ol")) == 2
    assert sections["duplicates"].findall(".//ol") == []  # the same groups
    assert words(page.find(".//h1")).startswith("To look at: broken files, leaks between subsets, likely label errors")


def test_page__duplicates_that_cross_nothing_are_shown_as_such(tmp_path: Path) -> None:
    value = found()
    value["duplicates"] = {**value["duplicates"], "exact_groups": [group("x", "y")], "near_groups": None}

    page = parsed(draw_audit(folder(tmp_path / "audit", value)))

    names = [words(node) for node in page.findall(".//section[@id='duplicates']//p[@class='file']")]
    assert names == ["x", "y"]


def test_page__nothing_wrong(tmp_path: Path) -> None:
    page = parsed(draw_audit(folder(tmp_path / "audit", nothing())))

    assert words(page.find(".//h1")) == "Nothing wrong was found"
    assert [section.get("id") for section in page.findall(".//main/section")] == ["fine", "data"]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_page__hostile_names_are_text(tmp_path: Path, payload: str) -> None:
    plain = draw_audit(folder(tmp_path / "plain", found("x")))
    hostile = draw_audit(folder(tmp_path / "hostile", found(payload)))

    assert skeleton(hostile) == skeleton(plain)
    parsed(hostile)


def test_write_audit__same_files_same_bytes(tmp_path: Path) -> None:
    place = folder(tmp_path / "audit", found())

    first = write_audit(place).read_bytes()

    assert write_audit(place).read_bytes() == first
    assert sorted(path.name for path in place.iterdir()) == ["audit.html", "audit.json", "thumbnails.parquet"]


def test_draw_audit__refusals(tmp_path: Path) -> None:
    with pytest.raises(Refused) as none:
        draw_audit(tmp_path)
    assert (
        str(none.value) == f"{tmp_path} has no audit.json, so there is nothing to show. Make one first: headway audit"
    )
    write_json(tmp_path / "audit.json", {**found(), "schema": 9})
    with pytest.raises(Refused) as newer:
        draw_audit(tmp_path)
    assert str(newer.value) == f"{tmp_path / 'audit.json'} has schema 9; this headway reads schema 1."


def test_report__shows_what_the_audit_found(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", PLANS["two"])
    audit = json.loads((run / "audit.json").read_text())
    own = {key: value for key, value in found().items() if key not in audit or key == "duplicates"}
    write_json(run / "audit.json", {**audit, **own})

    text = draw(run)

    section = parsed(text).find(".//section[@id='data']")
    assert section is not None
    titles = [words(node) for node in section.findall(".//h3")]
    for title in ("Likely label errors", "Shortcuts", "Outliers", "Odd images", "Uneven classes", "Duplicates"):
        assert title in titles
    assert len(text.encode()) < 5_000_000
    assert re.search("Left out here", text)

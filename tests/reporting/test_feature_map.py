"""The feature map in the report: every image drawn once in each view, its colours, its data, its manners."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.errors import HeadwayError
from headway.reporting.page import draw
from headway.reporting.records import read_thumbnails
from headway.reporting.text import shown
from tests.reporting.fixture import PLANS, Plan, build_run, write_json
from tests.reporting.mapped import mapped_run, read_map
from tests.reporting.test_page import SECTIONS
from tests.reporting.twin import PAYLOADS, skeleton, twin, visible

MANY = Plan(tuple(f"kind{index:02}" for index in range(30)), (40,) * 30, 3.0, "epochs")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return mapped_run(tmp_path / "run", PLANS["four"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return draw(mapped_run(tmp_path_factory.mktemp("plain") / "run", PLANS["four"]))


def parsed(page: str) -> ET.Element:
    body = re.sub(r"(?s)(<(script|style)[^>]*>).*?(</\2>)", r"\1\3", page.removeprefix("<!DOCTYPE html>"))
    return ET.fromstring(body.encode("utf-8"))


def section(page: str) -> ET.Element:
    found = parsed(page).find(".//section[@id='map']")
    assert found is not None
    return found


def block_of(page: str) -> str:
    found = re.search(r'(?s)<script type="application/json" id="map-data">(.*?)</script>', page)
    assert found is not None
    return found[1]


def data_of(page: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(block_of(page))
    return value


def change(run: Path, edit: Callable[[Any], object]) -> None:
    value = read_map(run)
    edit(value)
    write_json(run / "map.json", value)


def marks(figure: ET.Element, *, wrong: bool) -> Counter[int]:
    """class → how many marks, counted from the moves of its path."""
    found: Counter[int] = Counter()
    for path in figure.iter("path"):
        kinds = str(path.get("class")).split()
        if "mark" in kinds and ("wrong" in kinds) is wrong:
            label = next(int(kind[2:]) for kind in kinds if re.fullmatch(r"of\d+", kind))
            found[label] += str(path.get("d")).count("M")
    return found


@pytest.mark.parametrize("plan", [PLANS["two"], PLANS["four"], MANY], ids=["two", "four", "thirty"])
def test_map__every_image_once_in_each_view_by_class_and_answer(tmp_path: Path, plan: Plan) -> None:
    run = mapped_run(tmp_path / "run", plan, ("pca", "discriminant", "umap"))
    value = read_map(run)
    pairs = list(zip(value["labels"], value["predicted"], strict=True))
    figures = section(draw(run)).findall(".//figure")
    assert len(figures) == 3
    for figure in figures:
        assert marks(figure, wrong=False) == Counter(label for label, said in pairs if label == said)
        assert marks(figure, wrong=True) == Counter(label for label, said in pairs if label != said)
        rings = [str(path.get("d")) for path in figure.iter("path") if "rings" in str(path.get("class")).split()]
        assert sum(ring.count("M") for ring in rings) == sum(label != said for label, said in pairs)


def test_map__places_keep_their_proportions_and_stay_inside(run: Path) -> None:
    places = read_map(run)["views"]["pca"]["places"]
    spots = data_of(draw(run))["places"][0]
    box = [float(v) for v in str(section(draw(run)).findall(".//figure/svg")[0].get("viewBox")).split()]
    far = max(range(len(places)), key=lambda row: abs(places[row][0] - places[0][0]))
    scale = (spots[far][0] - spots[0][0]) / (places[far][0] - places[0][0])
    for (x, y), (left, top) in zip(places, spots, strict=True):
        assert left - spots[0][0] == pytest.approx(scale * (x - places[0][0]), abs=0.5)
        assert top - spots[0][1] == pytest.approx(-scale * (y - places[0][1]), abs=0.5)
        assert 10 <= left <= box[2] - 10
        assert 10 <= top <= box[3] - 10


def test_map__the_view_that_keeps_classes_together_best_comes_first(run: Path) -> None:
    def checked() -> list[str]:
        radios = section(draw(run)).findall(".//input[@name='map-view']")
        return [str(radio.get("value")) for radio in radios if radio.get("checked")]

    assert checked() == ["1"]
    change(run, lambda value: value["views"]["pca"].update(agreement=0.99))
    assert checked() == ["0"]


def test_map__says_what_a_map_keeps(run: Path) -> None:
    text = " ".join(" ".join(section(draw(run)).itertext()).split())
    value = read_map(run)
    assert f"The {value['n']} test images, laid out by what the network sees in them: 1,280 features an image" in text
    assert "they hold 12 % of the variance of all features" in text
    assert "a share of 0.70 has its class; among all features 0.94, by chance 0.50." in text
    change(run, lambda value: value.update(of=9000))
    text = " ".join(" ".join(section(draw(run)).itertext()).split())
    assert f"{value['n']} of 9,000 test images, shared out evenly among the classes, laid out" in text


def test_map__of_many_classes_the_most_confused_have_a_colour(tmp_path: Path) -> None:
    run = mapped_run(tmp_path / "run", MANY)

    def edit(value: Any) -> None:
        value["predicted"] = list(value["labels"])
        for row in [row for row, label in enumerate(value["labels"]) if label == 7][:9]:
            value["predicted"][row] = 21

    change(run, edit)
    key = section(draw(run)).findall(".//ul[@class='map-key by-class']/li")
    names = [" ".join(" ".join(item.itertext()).split()) for item in key]
    assert names == ["kind07 40", "kind21 40", "28 other classes"]


def test_map__the_script_knows_every_image_and_its_picture(run: Path) -> None:
    value, data = read_map(run), data_of(draw(run))
    assert data["names"] == value["names"]
    assert (data["labels"], data["predicted"]) == (value["labels"], value["predicted"])
    shown_names = {name for name, at in zip(data["names"], data["picture"], strict=True) if at >= 0}
    thumbnails = read_thumbnails(run / "thumbnails.parquet")
    assert shown_names == set(thumbnails) & set(value["names"])
    for name, at in zip(data["names"], data["picture"], strict=True):
        if at >= 0:
            start, _, encoded = data["pictures"][at].partition(",")
            assert (start, base64.b64decode(encoded)) == ("data:image/jpeg;base64", thumbnails[name])


def test_map__two_thousand_images_of_a_hundred_classes_stay_small(tmp_path: Path) -> None:
    run = mapped_run(tmp_path / "run", PLANS["hundred"])
    page = draw(run)
    assert read_map(run)["n"] == 2000
    figures = re.findall(r"(?s)<svg class=\"picture map-picture\".*?</svg>", page)
    assert all(len(figure) < 100_000 for figure in figures)
    assert len(json.dumps({**data_of(page), "pictures": []})) < 200_000


def test_map__stands_after_confidence_and_in_the_navigation(run: Path) -> None:
    page = parsed(draw(run))
    expected = [*SECTIONS[:3], "map", *SECTIONS[3:]]
    assert [found.get("id") for found in page.findall(".//main/section")] == expected
    assert "#map" in [link.get("href") for link in page.findall(".//nav/a")]
    identities = [node.get("id") for node in page.iter() if node.get("id")]
    assert len(identities) == len(set(identities))
    assert draw(run) == draw(run)


def test_map__none_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    page = parsed(draw(build_run(tmp_path / "run", PLANS["four"])))
    assert [found.get("id") for found in page.findall(".//main/section")] == SECTIONS
    assert "#map" not in [link.get("href") for link in page.findall(".//nav/a")]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_map__hostile_names_never_change_the_tags(run: Path, plain: str, tmp_path: Path, payload: str) -> None:
    other = draw(twin(run, tmp_path / "twin", payload.__add__))
    assert skeleton(other) == skeleton(plain)
    assert shown(payload) in visible(other)
    parsed(other)
    assert "<" not in block_of(other)
    assert data_of(other)["classes"][0] == shown(payload + read_map(run)["classes"][0])


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.pop("views"),
        lambda value: value["labels"].pop(),
        lambda value: value["views"]["pca"]["places"].pop(),
        lambda value: value["views"]["pca"]["places"].__setitem__(0, [None, 1]),
        lambda value: value["labels"].__setitem__(0, "x"),
        lambda value: value["labels"].__setitem__(0, 99),
        lambda value: value.update(names=[], labels=[], predicted=[], probabilities=[]),
    ],
    ids=["no views", "a label short", "a place short", "no number", "no label", "no class", "empty"],
)
def test_map__damaged_is_told_in_one_line(run: Path, edit: Callable[[Any], object]) -> None:
    change(run, edit)
    with pytest.raises(HeadwayError) as caught:
        draw(run)
    message = str(caught.value)
    assert message.startswith(f"{run / 'map.json'} is damaged (")
    assert message.endswith("). Make it again: headway fit")
    assert "\n" not in message

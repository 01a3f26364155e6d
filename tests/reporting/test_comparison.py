"""The page of a comparison: its numbers, its form, its figures, its manners with odd names and damaged files."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headway.comparing import contrast, write_comparison
from headway.errors import HeadwayError, Refused
from headway.reporting import panels
from headway.reporting.comparison import address
from headway.reporting.page import draw_comparison, write_comparison_report
from headway.reporting.text import shown
from headway.reporting.verdict import cost, judge_choices
from tests.reporting.fixture import BLOOD, HUNDRED, write_json
from tests.reporting.roads import ROADS, SIX, Images, Road, build_roads
from tests.reporting.test_browser import opened
from tests.reporting.test_page import parsed, words
from tests.reporting.twin import PAYLOADS, skeleton, visible

if TYPE_CHECKING:
    from playwright.sync_api import Browser


SECTIONS = ["table", "pairs", "curves", "time", "classes", "conditions"]
CASES = {
    "two": ({name: ROADS[name] for name in ("probe", "finetune")}, Images(BLOOD, (22, 13, 14, 48), 1, "blood", True)),
    "three": (ROADS, Images()),
    "six": (SIX, Images(HUNDRED, (4,) * 100, 2, "cifar100")),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (roads, images) in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        write_comparison(folder, build_roads(folder, roads, images))
        made[name] = folder
    return made


@pytest.fixture
def three(folders: dict[str, Path], tmp_path: Path) -> Path:
    (tmp_path / "comparison.json").write_bytes((folders["three"] / "comparison.json").read_bytes())
    return tmp_path


def stored(folder: Path) -> Any:
    return json.loads((folder / "comparison.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_page__every_choice_and_pair_equals_the_json(folders: dict[str, Path], name: str) -> None:
    value, page = stored(folders[name]), parsed((folders[name] / "report.html").read_text("utf-8"))

    rows = page.findall(".//section[@id='table']//tbody/tr")
    scores, costs = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    assert len(scores) == len(costs) == len(value["choices"])
    for own, row, cost_row in zip(value["choices"], scores, costs, strict=True):
        cells = [words(cell) for cell in row]
        test, (low, high) = own["test"], own["test"]["interval"]
        assert cells[0].startswith(own["name"])
        assert cells[1] == f"{test['accuracy']:.3f} [{low:.3f}, {high:.3f}] loss {test['loss']:.3f}"
        assert cells[3] == f"{own['val']['accuracy']:.3f} loss {own['val']['loss']:.3f}"
        assert cells[4] == f"{own['train']['accuracy']:.3f} loss {own['train']['loss']:.3f}"
        assert words(cost_row[1]) == f"{own['parameters']:,}"
        assert words(cost_row[2]) == f"{own['trainable']:,}"
    told = page.findall(".//section[@id='pairs']//tbody/tr")
    assert len(told) == len(value["pairs"])
    for pair, row in zip(value["pairs"], told, strict=True):
        expected = f"{pair['better']} is better" if pair["better"] else "no difference shown"
        assert words(row[1]) == expected
        assert float(words(row[2]).replace("−", "-")) == round(pair["difference"], 3)
    assert [words(item) for item in page.findall(".//section[@id='pairs']//li")] == [
        p["sentence"] for p in value["pairs"]
    ]


@pytest.mark.parametrize("name", CASES)
def test_page__verdict_comes_first(folders: dict[str, Path], name: str) -> None:
    header = parsed(draw_comparison(folders[name])).find(".//header")

    assert header is not None
    sentences = stored(folders[name])["verdict"]["sentences"]
    assert words(header.find("h1")) == sentences[0]
    assert [words(item) for item in header.findall("p[@class='lead']")] == sentences[1:]


@pytest.mark.parametrize("name", CASES)
def test_page__is_well_formed_in_order_and_needs_nothing_else(folders: dict[str, Path], name: str) -> None:
    text = draw_comparison(folders[name])
    page = parsed(text)

    sections = [section.get("id") for section in page.findall(".//main/section")]
    assert sections == (SECTIONS if name != "six" else [one for one in SECTIONS if one != "classes"])
    identities = [node.get("id") for node in page.iter() if node.get("id")]
    assert len(identities) == len(set(identities))
    links = [str(node.get("href")) for node in page.iter("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(identities)
    outside = [link for link in links if not link.startswith("#")]
    assert outside == [f"./{own['name']}/report.html" for own in stored(folders[name])["choices"]]
    assert all((folders[name] / link).is_file() for link in outside)
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in page.iter("svg"))
    assert all("style" not in node.attrib for node in page.iter())
    assert not re.search(r"https?:|url\(|@import|<script", text)
    assert "None" not in visible(text)
    assert "nan" not in visible(text).lower().split()


def test_page__same_json_same_bytes(three: Path) -> None:
    first = write_comparison_report(three).read_bytes()

    assert write_comparison_report(three).read_bytes() == first
    assert sorted(path.name for path in three.iterdir()) == ["comparison.json", "report.html"]


def changed(value: Any, payload: str) -> Any:
    """`value` with `payload` before every text in it."""
    if isinstance(value, str):
        return payload + value
    if isinstance(value, list):
        return [changed(item, payload) for item in value]
    return {key: changed(item, payload) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_twin__names_never_change_the_tags(three: Path, payload: str) -> None:
    plain = draw_comparison(three)
    write_json(three / "comparison.json", changed(stored(three), payload))

    other = draw_comparison(three)

    assert skeleton(other) == skeleton(plain)
    assert shown(payload) in visible(other)
    assert all(
        str(node.get("href")).startswith(("#", "./", "data:,")) for node in parsed(other).iter() if node.get("href")
    )


def test_address__is_always_a_path_beside_the_page() -> None:
    assert address("../runs/a b/report.html") == "./../runs/a%20b/report.html"
    assert address("javascript:alert(1)") == "./javascript%3Aalert%281%29"
    assert address("caf\udce9/report.html") == "./caf%E9/report.html"
    assert address(None) == address("") == ""


def test_refused__nothing_to_draw_and_newer_schema(three: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        draw_comparison(tmp_path / "empty")
    assert str(refused.value) == (
        f"{tmp_path / 'empty'} has no comparison.json, so there is nothing to report. Make it: headway compare"
    )
    write_json(three / "comparison.json", {**stored(three), "schema": 2})
    with pytest.raises(Refused) as refused:
        draw_comparison(three)
    assert str(refused.value) == (
        f"{three / 'comparison.json'} has schema 2; this headway reads schema 1. "
        "Use the version of headway that wrote it."
    )


@pytest.mark.parametrize("content", ["{", "[1]", '{"schema": 1}', '{"schema": 1, "choices": 3}'])
def test_damaged__one_line_that_names_the_file(three: Path, content: str) -> None:
    (three / "comparison.json").write_text(content)

    with pytest.raises(HeadwayError) as failed:
        write_comparison_report(three)

    assert str(failed.value).startswith(f"{three / 'comparison.json'} is damaged")
    assert "\n" not in str(failed.value)


def texts(figure: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(figure.encode()).iter("text")]


def test_curve_panels__one_for_each_choice_with_the_same_axes(folders: dict[str, Path]) -> None:
    choices = stored(folders["three"])["choices"]

    for measure in ("loss", "accuracy"):
        drawn = panels.curve_panels(choices, measure)
        assert [texts(figure)[-1] for figure in drawn] == ["probe", "finetune", "scratch"]
        ticks = [[text for text in texts(figure) if re.fullmatch(r"[\d.]+", text)] for figure in drawn]
        assert ticks[0] == ticks[1] == ticks[2]
        flat = ET.fromstring(drawn[0]).find("path")
        assert flat is not None
        start, end = flat.get("d", "").removeprefix("M").split("L")
        assert start.split()[1] == end.split()[1]
        assert (start.split()[0], end.split()[0]) == ("40", "244")  # the whole width of the panel


def test_curve_panels__nothing_to_draw(folders: dict[str, Path]) -> None:
    empty = [{**own, "curve": [], "flat": None} for own in stored(folders["three"])["choices"]]

    assert panels.curve_panels(empty, "loss") == []


def test_accuracy_by_seconds__signs_stand_at_their_seconds_and_accuracy(folders: dict[str, Path]) -> None:
    choices = stored(folders["three"])["choices"]

    drawn = panels.accuracy_by_seconds(choices, "finetune")

    assert drawn is not None
    tree = ET.fromstring(drawn)
    signs = [node for node in tree.iter("path") if node.get("class", "").startswith("sign")]
    places = [tuple(map(float, node.get("transform", "")[10:-1].split())) for node in signs]
    ready = [own["seconds"]["ready"] for own in choices]
    wrong = [1 - own["test"]["accuracy"] for own in choices]
    for values, column in ((ready, 0), (wrong, 1)):
        expected = sorted(range(3), key=values.__getitem__)
        assert sorted(range(3), key=[place[column] for place in places].__getitem__) == expected
    ways = [node for node in tree.iter("path") if node.get("class", "").startswith("curve")]
    assert len(ways) == 2
    last = ways[0].get("d", "").split("L")[-1].split()
    assert float(last[0]) == pytest.approx(places[1][0], abs=0.02)  # the way ends where its sign stands
    assert {"probe", "finetune", "scratch", "seconds of pass and training (logarithmic)"} <= set(texts(drawn))
    label = tree.get("aria-label", "")
    assert label.startswith(
        "Test accuracy against the seconds of pass and training: probe 0.973 [0.948, 0.986] after 10.9 s;"
    )


@pytest.mark.parametrize("name", CASES)
def test_accuracy_by_seconds__no_line_goes_beyond_its_sign(folders: dict[str, Path], name: str) -> None:
    choices = stored(folders[name])["choices"]
    drawn = panels.accuracy_by_seconds(choices, choices[0]["name"])
    assert drawn is not None

    paths = list(ET.fromstring(drawn).iter("path"))
    ways = [node.get("d", "") for node in paths if node.get("class", "").startswith("curve")]
    signs = [node.get("transform", "")[10:-1] for node in paths if node.get("class", "").startswith("sign")]
    ends = [float(sign.split()[0]) for sign, own in zip(signs, choices, strict=True) if own["curve"]]
    assert len(ways) == len(ends)
    assert all(float(way.split("L")[-1].split()[0]) <= end + 0.02 for way, end in zip(ways, ends, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_accuracy_by_seconds__names_touch_neither_each_other_nor_the_edge(folders: dict[str, Path], name: str) -> None:
    choices = stored(folders[name])["choices"]
    drawn = panels.accuracy_by_seconds(choices, choices[0]["name"])
    assert drawn is not None

    boxes = []
    for node in ET.fromstring(drawn).iter("text"):
        if node.text in {own["name"] for own in choices}:
            left, baseline = float(node.get("x", "")), float(node.get("y", ""))
            boxes.append((left, left + 6.6 * len(node.text or ""), baseline - 10, baseline + 3))

    assert len(boxes) == len(choices)
    assert all(left >= 0 and right <= 400 and top >= 0 for left, right, top, _ in boxes)
    for one, box in enumerate(boxes):
        for other in boxes[one + 1 :]:
            apart = box[1] <= other[0] or other[1] <= box[0] or box[3] <= other[2] or other[3] <= box[2]
            assert apart


def test_difference_bar__zero_is_in_the_middle() -> None:
    drawn = ET.fromstring(panels.difference_bar(0.05, (0.0, 0.1), 0.2, True))

    dot = drawn.find("circle")
    whisker = next(node for node in drawn.iter("line") if node.get("class") == "whisker")
    assert dot is not None
    assert (dot.get("cx"), whisker.get("x1"), whisker.get("x2")) == ("62.5%", "50%", "75%")


def test_judge_choices__counts_the_pass_that_was_found_done(tmp_path: Path) -> None:
    """The one that found the features is not the cheaper one for that."""
    roads = {
        "late": Road("probe", passed=0.4, reused=True, seconds=3.0),
        "early": Road("probe", passed=9.8, seconds=3.0),
    }
    choices = contrast(build_roads(tmp_path, roads, Images()))["choices"]

    late, early = choices
    assert late["seconds"]["total"] < early["seconds"]["total"]
    assert cost(late) == pytest.approx(cost(early)) == pytest.approx(early["seconds"]["total"])
    late["pass"]["saved_seconds"] = 9.0
    assert judge_choices([early, late], [])["cheapest"] == "late"
    late["pass"]["saved_seconds"] = 9.5
    assert judge_choices([early, late], [])["cheapest"] == "early"


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (420, False), (320, True)])
def test_browser__comparison_fits_and_stays_quiet(
    browser: Browser,
    folders: dict[str, Path],
    name: str,
    width: int,
    dark: bool,
) -> None:
    with opened(browser, folders[name] / "report.html", width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        light = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(252")
        assert light != dark


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_browser__hostile_comparisons_do_nothing(browser: Browser, three: Path, payload: str) -> None:
    write_json(three / "comparison.json", changed(stored(three), payload))

    with opened(browser, write_comparison_report(three), width=420) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 420

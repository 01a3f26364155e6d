"""The feature map in a real browser: pointer, keys, colours, one class at a time, without a script, for everyone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headway.reporting.page import write_report
from tests.reporting.fixture import PLANS
from tests.reporting.mapped import mapped_run, read_map
from tests.reporting.test_browser import opened
from tests.reporting.twin import PAYLOADS, twin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("maps")
    made = {name: mapped_run(folder / name, PLANS[name]) for name in ("two", "four", "hundred")}
    for run in made.values():
        write_report(run)
    return made


def marks(page: Page) -> Any:
    return page.locator("figure.map-view:visible")


def card(page: Page) -> list[str]:
    return [page.locator(f".map-card .{name}").inner_text() for name in ("said", "was", "file")]


def data(page: Page) -> Any:
    return page.evaluate("JSON.parse(document.getElementById('map-data').textContent)")


def expected(value: dict[str, Any], row: int) -> list[str]:
    label, said = value["labels"][row], value["predicted"][row]
    words = "right" if label == said else f"wrong: it is {value['classes'][label]}"
    return [f"{value['classes'][said]} {value['probabilities'][row]:.2f}", words, value["names"][row]]


def point_at(page: Page, spot: list[float]) -> None:
    svg = marks(page).locator("svg")
    svg.evaluate("node => node.scrollIntoView({block: 'center', behavior: 'instant'})")
    box = svg.bounding_box()
    assert box is not None
    unit = box["width"] / 480
    page.mouse.move(box["x"] + spot[0] * unit, box["y"] + spot[1] * unit)


@pytest.mark.parametrize("width", [1200, 390])
def test_map__shows_what_is_under_the_pointer_in_either_view(
    browser: Browser, runs: dict[str, Path], width: int
) -> None:
    value = read_map(runs["four"])
    with opened(browser, runs["four"] / "report.html", width=width) as page:
        known = data(page)
        wrong = next(row for row in range(value["n"]) if value["labels"][row] != value["predicted"][row])
        for view in (0, 1):
            page.locator("input[name=map-view]").nth(view).check()
            assert marks(page).count() == 1
            for row in (wrong, value["n"] - 1):
                point_at(page, known["places"][view][row])
                assert card(page) == expected(value, row)
                pictured = known["picture"][row] >= 0
                assert page.locator(".map-card img").is_visible() is pictured
                assert page.locator(".map-card .blank").is_visible() is not pictured
                if pictured:
                    assert page.locator(".map-card img").evaluate("node => node.naturalWidth") == 96


def test_map__goes_from_image_to_image_by_keys(browser: Browser, runs: dict[str, Path]) -> None:
    value = read_map(runs["two"])
    with opened(browser, runs["two"] / "report.html") as page:
        page.locator(".map-views").focus()
        mistakes = [row for row in range(value["n"]) if value["labels"][row] != value["predicted"][row]]
        for row in (*mistakes, mistakes[0]):
            page.keyboard.press("m")
            assert card(page) == expected(value, row)
        known = data(page)
        page.keyboard.press("ArrowRight")
        right = known["names"].index(card(page)[2])
        assert known["places"][1][right][0] > known["places"][1][mistakes[0]][0]
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowDown")
        assert card(page)[2] in known["names"]


def test_map__colours_and_one_class_at_a_time(browser: Browser, runs: dict[str, Path]) -> None:
    colour = "node => getComputedStyle(node).fill"
    with opened(browser, runs["hundred"] / "report.html") as page:
        right, wrong = (marks(page).locator(f".mark.kind1{kind}") for kind in (":not(.wrong)", ".wrong"))
        assert right.evaluate(colour) == wrong.evaluate(colour)
        page.locator(".to-answer").check()
        assert right.evaluate(colour) != wrong.evaluate(colour)
        assert page.locator(".map-key.by-answer").is_visible()
        assert page.locator(".map-key.by-class").is_hidden()
        page.locator("#map-class").select_option(index=5)
        lit = marks(page).locator(".mark.lit")
        assert {"of4"} == set(
            lit.evaluate_all("nodes => nodes.map(node => [...node.classList].find(name => /^of/.test(name)))")
        )
        page.locator(".map-views").focus()
        page.keyboard.press("ArrowRight")
        known = data(page)
        assert known["labels"][known["names"].index(card(page)[2])] == 4
        page.locator("#map-class").select_option(index=0)
        assert page.locator(".map.one").count() == 0


def test_map__without_script_is_there_in_both_colours_and_views(browser: Browser, runs: dict[str, Path]) -> None:
    with opened(browser, runs["four"] / "report.html", script=False) as page:
        assert page.locator(".map-card").is_hidden()
        assert page.locator(".map-pick").is_hidden()
        assert marks(page).locator(".mark").first.is_visible()
        page.locator("input[name=map-view]").first.check()
        assert page.locator("figure.view0").is_visible()
        assert page.locator("figure.view1").is_hidden()
        page.locator(".to-answer").check()
        assert page.locator(".map-key.by-answer").is_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_map__axe_finds_nothing_serious(browser: Browser, runs: dict[str, Path], dark: bool) -> None:
    from importlib.resources import files as resources

    axe = resources("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    with opened(browser, runs["hundred"] / "report.html", dark=dark) as page:
        for control in (".to-class", ".to-answer"):
            page.locator(control).check()
            page.locator(".map-views").focus()
            page.keyboard.press("m")
            page.evaluate(axe)
            found = page.evaluate("axe.run('#map')")
            bad = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
            assert [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in bad] == []
            assert len(found["passes"]) > 5


@pytest.mark.parametrize(("width", "dark"), [(1200, True), (390, False), (320, True)])
def test_map__fits(browser: Browser, runs: dict[str, Path], width: int, dark: bool) -> None:
    for run in runs.values():
        with opened(browser, run / "report.html", width=width, dark=dark) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_map__hostile_names_do_nothing(browser: Browser, runs: dict[str, Path], tmp_path: Path) -> None:
    for number, payload in enumerate(PAYLOADS[::3]):
        run = twin(runs["four"], tmp_path / str(number), payload.__add__)
        with opened(browser, write_report(run), width=390) as page:
            page.locator(".map-views").focus()
            page.keyboard.press("m")
            assert page.locator(".map-card .file").inner_text()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390

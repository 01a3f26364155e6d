"""The confusion matrix in a real browser: images behind a cell by pointer, keys and without a script; print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headway.reporting.page import write_report
from tests.reporting.fixture import PLANS, build_run
from tests.reporting.test_browser import opened
from tests.reporting.twin import PAYLOADS, twin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(build_run(tmp_path_factory.mktemp("four") / "run", PLANS["four"]))


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(build_run(tmp_path_factory.mktemp("hundred") / "run", PLANS["hundred"]))


def told(report: Path) -> dict[str, Any]:
    """Key of a cell → what evaluation.json says of it."""
    evaluation = json.loads((report.parent / "evaluation.json").read_text())
    place = {name: index + 1 for index, name in enumerate(evaluation["classes"])}
    return {f"cell-{place[cell['label']]}-{place[cell['predicted']]}": cell for cell in evaluation["cells"]}


def seen(page: Page) -> list[str]:
    """Keys of the cells whose images are seen."""
    return [str(panel.get_attribute("id")) for panel in page.locator(".behind:visible").all()]


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_cells__a_click_shows_the_images_of_that_cell(browser: Browser, four: Path, script: bool) -> None:
    cells = told(four)
    with opened(browser, four, script=script) as page:
        assert seen(page) == [next(iter(cells))]  # the fullest wrong cell, until one is chosen
        for key in list(cells)[::-3]:
            page.locator(f'svg a[href="#{key}"]').click()
            assert seen(page) == [key]
            images = page.locator(f"#{key} img")
            assert images.count() == len(cells[key]["images"])
            assert images.first.evaluate("image => image.naturalWidth") == 96
            assert f"{cells[key]['n']} of " in page.locator(f"#{key} h4").inner_text()


def test_cells__keys_go_from_cell_to_cell_and_back(browser: Browser, four: Path) -> None:
    cells = told(four)
    first = next(iter(cells))
    with opened(browser, four) as page:
        reached = page.locator('svg a[tabindex="0"]')
        assert reached.get_attribute("href") == f"#{first}"
        reached.focus()
        row, column = (int(part) for part in first.removeprefix("cell-").split("-"))
        assert column > row  # so that one of its row, the diagonal at least, lies to the left
        page.keyboard.press("ArrowLeft")
        focused = page.evaluate("document.activeElement.getAttribute('href')")
        assert focused is not None
        assert focused != f"#{first}"
        assert focused.startswith(f"#cell-{row}-")
        assert seen(page) == [first]  # only looked at, not chosen yet
        page.keyboard.press("Enter")
        assert seen(page) == [focused[1:]]
        assert page.evaluate("document.activeElement.id") == focused[1:]
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.getAttribute('href')") == focused


def test_cells__a_pair_of_the_table_and_an_address_lead_there_too(browser: Browser, hundred: Path) -> None:
    with opened(browser, hundred) as page:
        link = page.locator("table.small a").nth(4)
        key = str(link.get_attribute("href"))[1:]
        link.click()
        assert seen(page) == [key]
        assert page.locator(f"#{key}").is_visible()
        page.goto(f"{hundred.as_uri()}#cell-3-3")
        page.reload()
        assert seen(page) == ["cell-3-3"]


def test_heat_map__tells_the_cell_under_the_pointer_and_by_keys(browser: Browser, hundred: Path) -> None:
    evaluation = json.loads((hundred.parent / "evaluation.json").read_text())
    confusion, classes = evaluation["subsets"]["test"]["confusion"], evaluation["classes"]
    with opened(browser, hundred) as page:
        frame = page.locator("svg.heat .frame")
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        assert box is not None
        for row, column in ((0, 1), (41, 42), (97, 3)):
            page.mouse.move(
                box["x"] + (column + 0.5) * box["width"] / 100, box["y"] + (row + 0.5) * box["height"] / 100
            )
            expected = f"{classes[row]} taken for {classes[column]}: {confusion[row][column]}."
            assert page.locator("#under").inner_text() == expected
        page.locator("#heat").focus()
        page.keyboard.press("ArrowDown")
        assert page.locator("#under").inner_text() == f"{classes[98]} taken for {classes[3]}: {confusion[98][3]}."


@pytest.mark.parametrize("payload", PAYLOADS[2:4], ids=range(2))
def test_heat_map__hostile_names_are_text(browser: Browser, hundred: Path, tmp_path: Path, payload: str) -> None:
    report = write_report(twin(hundred.parent, tmp_path / "twin", payload.__add__))
    with opened(browser, report) as page:
        page.locator("#heat").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        names = [f"{payload}{name}" for name in PLANS["hundred"].classes[:2]]
        assert page.locator("#under").inner_text().startswith(f"{names[0]} taken for {names[1]}: ")
        assert page.locator("#under *").count() == 0


def test_print__all_is_there_light_and_without_controls(browser: Browser, hundred: Path) -> None:
    with opened(browser, hundred, dark=True) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')") == "#fff"
        assert not page.locator("nav, .tools, .skip").locator("visible=true").count()
        assert page.locator("#classes tbody tr").last.is_visible()
        assert page.locator("details table").last.is_visible()
        cut = page.evaluate(
            "Array.from(document.querySelectorAll('.scroll')).filter("
            "place => place.scrollHeight > place.clientHeight + 1 && getComputedStyle(place).overflowY !== 'visible'"
            ").length"
        )
        assert cut == 0

"""The pages in a real browser: sort, filter, tick, compare, open a report; by keyboard, without script, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headway.reporting.page import write_report
from tests.axe import violations
from tests.browser import visited
from tests.reporting.fixture import PLANS, build_run
from tests.viewer.test_running import viewing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
COMPARED = "compare?run=probe&run=finetune&run=scratch"


@pytest.fixture(scope="module")
def served(shelf: Path) -> Iterator[str]:
    with viewing(shelf) as (_, address):
        yield address


@contextmanager
def opened(
    browser: Browser, served: str, path: str = "", *, width: int = 1200, dark: bool = False, script: bool = True
) -> Iterator[Page]:
    """A page; fails at the end where there was any complaint, but that a page of ours told of a wrong request."""
    expected = ("the server responded with a status of 400",)
    how = visited(browser, served + path, origin=served, width=width, dark=dark, script=script, expected=expected)
    with how as (page, _):
        yield page


def names(page: Page) -> list[str]:
    return page.locator("#runs tbody tr:visible th bdi[title]").all_inner_texts()


def cells(page: Page, key: str) -> list[float]:
    texts = page.locator(f"#runs tbody td.{key}").all_inner_texts()
    return [float(text.split()[0].replace(",", "")) for text in texts if text.strip() != "–"]


def test_browser__sorts_by_a_click_and_back(browser: Browser, served: str) -> None:
    with opened(browser, served) as page:
        page.get_by_role("link", name="test accuracy", exact=True).click()
        assert cells(page, "test") == sorted(cells(page, "test"), reverse=True)
        page.get_by_role("link", name="test accuracy", exact=True).click()
        assert cells(page, "test") == sorted(cells(page, "test"))
        assert names(page)[-1] == "begun"
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
        assert "sort=test&order=up" in page.url
        in_place = names(page)
        page.reload()
        assert names(page) == in_place


def test_browser__filters_while_one_types(browser: Browser, served: str) -> None:
    with opened(browser, served) as page:
        page.get_by_role("searchbox").fill("PHOTOS-COMPARE")
        assert names(page) == ["photos-compare-1/finetune", "photos-compare-1/probe"]
        assert page.locator("#shown").inner_text() == "2 of 7"
        page.get_by_role("link", name="run", exact=True).click()
        page.reload()
        assert names(page) == ["photos-compare-1/finetune", "photos-compare-1/probe"]
        page.get_by_role("searchbox").fill("")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?filter=&**")
        assert len(names(page)) == 7


def test_browser__ticks_two_and_compares_them_by_keyboard(browser: Browser, served: str) -> None:
    with opened(browser, served) as page:
        button = page.locator("#compare")
        assert button.is_disabled()
        page.get_by_label("Compare probe", exact=True).focus()
        page.keyboard.press("Space")
        assert page.locator("#ticked").inner_text() == "1 is ticked; tick one more."
        page.get_by_label("Compare scratch", exact=True).focus()
        page.keyboard.press("Space")
        assert button.inner_text() == "Compare 2 runs"
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/compare?run=probe&run=scratch")
        assert page.locator("h1").inner_text() == "probe is better than scratch."
        assert page.locator("#curves svg").count() == 2
        page.get_by_role("link", name="All runs").click()
        assert len(names(page)) == 7


def test_browser__opens_a_report_and_its_script_works(browser: Browser, served: str) -> None:
    with opened(browser, served) as page:
        page.locator("#runs").get_by_role("link", name="finetune", exact=True).click()
        page.wait_for_url("**/runs/finetune/report.html")
        assert page.get_by_role("button", name="F1", exact=True).count() == 1
        page.get_by_role("button", name="F1", exact=True).click()
        assert page.locator("th[aria-sort]").inner_text() == "F1"
        page.goto(served + "runs/photos-compare-1/report.html")
        page.get_by_role("link", name="probe", exact=True).first.click()
        page.wait_for_url("**/runs/photos-compare-1/probe/report.html")
        assert page.locator("h1").count() == 1


def test_browser__a_cell_of_a_served_report_opens_its_images(browser: Browser, tmp_path: Path) -> None:
    write_report(build_run(tmp_path / "runs" / "blood", PLANS["four"]))
    with viewing(tmp_path / "runs") as (_, address), opened(browser, address) as page:
        page.get_by_role("link", name="blood", exact=True).click()
        cell = page.locator('svg a[href^="#cell-"]').last
        key = cell.get_attribute("href")
        cell.click()
        assert page.locator(f"{key} img").first.is_visible()
        assert page.locator(f"{key} img").first.evaluate("image => image.naturalWidth") > 0


def test_browser__works_without_script(browser: Browser, served: str) -> None:
    with opened(browser, served, script=False) as page:
        page.get_by_role("link", name="test accuracy", exact=True).click()
        assert cells(page, "test") == sorted(cells(page, "test"), reverse=True)
        page.get_by_role("searchbox").fill("scratch")
        page.get_by_role("button", name="Filter").click()
        assert names(page) == ["scratch"]
        page.goto(served)
        page.get_by_label("Compare probe", exact=True).check()
        page.get_by_label("Compare finetune", exact=True).check()
        page.get_by_role("button", name="Compare the ticked runs").click()
        assert page.locator("h1").inner_text() == "No difference shown between finetune and probe."


@pytest.mark.parametrize("path", ["", COMPARED, "compare", "?filter=nothing-of-this-name"])
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (320, True)])
def test_browser__fits_and_hinders_nobody(browser: Browser, served: str, path: str, width: int, dark: bool) -> None:
    with opened(browser, served, path, width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(252") != dark
        assert violations(page) == []


def test_browser__on_a_phone_every_column_sorts(browser: Browser, served: str) -> None:
    with opened(browser, served, width=390) as page:
        page.get_by_text("Sort by").click()
        page.locator(".sorting").get_by_role("link", name="time").click()
        assert "sort=time&order=up" in page.url
        assert page.locator(".sorting a[aria-current]").inner_text() == "time"
        in_place = names(page)
        page.goto(served + "?sort=time&order=up")
        assert names(page) == in_place

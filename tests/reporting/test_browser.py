"""The report in a real browser: sorting, filtering, no complaint on the console, no sideways scrolling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headway.reporting.audit_page import write_audit
from headway.reporting.page import write_report
from tests.browser import visited
from tests.reporting.fixture import PLANS, build_run
from tests.reporting.test_audit_page import folder as audit_folder
from tests.reporting.test_audit_page import found as audit_found
from tests.reporting.test_page import change
from tests.reporting.test_trust import FOUND
from tests.reporting.twin import PAYLOADS, twin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(build_run(tmp_path_factory.mktemp("report") / "run", PLANS["hundred"]))


@contextmanager
def opened(
    browser: Browser, report: Path, *, width: int = 1200, dark: bool = False, script: bool = True
) -> Iterator[Page]:
    """The page of `report`; fails at the end where there was any complaint."""
    with visited(browser, report.as_uri(), origin="file:", width=width, dark=dark, script=script) as (page, _):
        yield page


def column(page: Page, number: int) -> list[float]:
    cells = page.locator(f"#classes tbody tr > :nth-child({number})").all_inner_texts()
    return [float(cell.split()[0].replace(",", "")) for cell in cells]


def test_browser__sorts_by_every_number(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        assert column(page, 3) == sorted(column(page, 3))
        for name, number in (("precision", 5), ("F1", 6), ("said", 8), ("no.", 1), ("recall", 3)):
            page.get_by_role("button", name=name, exact=True).click()
            assert column(page, number) == sorted(column(page, number)), name
            page.get_by_role("button", name=name, exact=True).click()
            assert column(page, number) == sorted(column(page, number), reverse=True), name
        assert page.locator("th[aria-sort]").all_inner_texts() == ["recall"]
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_browser__filters_by_name(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_role("searchbox").fill("AMBER")
        rows = page.locator("#classes tbody tr:visible")
        assert rows.count() == 10
        assert page.locator("#shown").inner_text() == "10 of 100"
        page.get_by_role("searchbox").fill("")
        assert rows.count() == 100


def test_browser__works_without_script(browser: Browser, report: Path) -> None:
    with opened(browser, report, script=False) as page:
        assert page.locator("#classes tbody tr").count() == 100
        assert page.locator("#filter").is_hidden()


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (320, True)])
def test_browser__fits_and_stays_quiet(browser: Browser, tmp_path: Path, name: str, width: int, dark: bool) -> None:
    run = build_run(tmp_path / "run", PLANS[name])
    some = {"n": 10_000, "accuracy": 0.998, "interval": [0.997, 0.999]}  # a part of the training images was judged
    change(run, "evaluation.json", lambda value: value["subsets"].update(train=some))
    change(run, "evaluation.json", lambda value: value.update(confidence=FOUND))
    with opened(browser, write_report(run), width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        light = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(252")
        assert light != dark


@pytest.mark.parametrize(("width", "dark"), [(1200, True), (320, False)])
def test_browser__the_page_of_an_audit(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    page_of = write_audit(audit_folder(tmp_path / "audit", audit_found(many=40)))
    with opened(browser, page_of, width=width, dark=dark, script=False) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#labels img").count() == 12
        assert page.locator("nav a").count() == page.locator("main > section").count() - 1


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_browser__hostile_names_do_nothing(browser: Browser, tmp_path: Path, payload: str) -> None:
    run = twin(build_run(tmp_path / "run", PLANS["four"]), tmp_path / "twin", payload.__add__)
    with opened(browser, write_report(run), width=390) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="F1", exact=True).click()
        assert column(page, 6) == sorted(column(page, 6))

"""axe-core over every page that headway draws, light and dark, and that the helper would see a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headway.comparing import write_comparison
from headway.reporting.audit_page import write_audit
from headway.reporting.page import write_report
from tests.axe import violations
from tests.reporting.fixture import PLANS, build_run, write_json
from tests.reporting.roads import ROADS, Images, build_roads
from tests.reporting.test_audit_page import folder as audit_folder
from tests.reporting.test_audit_page import found as audit_found
from tests.reporting.test_browser import opened
from tests.reporting.test_page import change
from tests.reporting.test_roads import ADVICE
from tests.reporting.test_trust import FOUND

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def small_report(folder: Path) -> Path:
    """Two classes, with all that an audit can find, advice and promises."""
    run = build_run(folder / "run", PLANS["two"])
    write_json(run / "audit.json", audit_found(many=40))
    change(run, "evaluation.json", lambda value: value.update(advice=ADVICE, confidence=FOUND))
    return write_report(run)


def large_report(folder: Path) -> Path:
    return write_report(build_run(folder / "run", PLANS["hundred"]))


def comparison(folder: Path) -> Path:
    write_comparison(folder, build_roads(folder, ROADS, Images()))
    return folder / "report.html"


def audit(folder: Path) -> Path:
    return write_audit(audit_folder(folder / "audit", audit_found(many=40)))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("made", [small_report, large_report, comparison, audit])
def test_axe__finds_nothing_grave(browser: Browser, tmp_path: Path, made: Callable[[Path], Path], dark: bool) -> None:
    with opened(browser, made(tmp_path), dark=dark) as page:
        assert violations(page) == []


def test_axe__would_see_a_fault(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text('<!DOCTYPE html><html lang="en"><title>x</title><main><h1>x</h1><img src="data:,"></main></html>')
    with opened(browser, path) as page:
        found = violations(page)
    assert [line.split(":")[0] for line in found] == ["image-alt (critical, 1 places)"]

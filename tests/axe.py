"""Whether people who see, hear or steer otherwise can use a page: axe-core in the page that a browser has open."""

from __future__ import annotations

from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from tests.conftest import require

if TYPE_CHECKING:
    from playwright.sync_api import Page

GRAVE = ("serious", "critical")


def violations(page: Page) -> list[str]:
    """Serious and critical violations of `page` as it stands, a line each: the rule, what it is, where it is first.

    Runs axe-core through the browser's own door for tools, so a page's policy need not admit it; nothing is fetched.
    """
    try:
        script = resources("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    except ModuleNotFoundError:
        script = ""
    require("browser", bool(script), "axe-core is not installed (axe-playwright-python)")
    page.evaluate(f"() => {{ {script} }}")
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [_told(rule) for rule in found["violations"] if rule["impact"] in GRAVE]


def _told(rule: dict[str, Any]) -> str:
    nodes = rule["nodes"]
    places = "; ".join(str(node["target"][0]) for node in nodes[:3])
    # The summary of the first says what was expected of it, and for contrast the colours that were measured.
    why = " ".join(str(nodes[0]["failureSummary"]).split())
    return f"{rule['id']} ({rule['impact']}, {len(nodes)} places): {rule['help']}. {places}. {why}"

"""A real browser for tests, and pages in it that are listened to for complaints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.conftest import require

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]


@contextmanager
def launched() -> Iterator[Browser]:
    """A Chromium of this machine, without a window; else the test is skipped."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    require("browser", found is not None, "no chromium on this machine (make system installs it)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Heard:
    """What a page gave cause to complain about, and the addresses under its own origin that it asked.

    origin    how addresses of its own begin: of its server, or "file:"
    expected  what may stand on the console: the browser itself writes there of every answer that is not 2xx
    """

    origin: str
    expected: tuple[str, ...] = ()
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self.said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self.dismiss)
        page.on("request", self.request)

    def said(self, message: ConsoleMessage) -> None:
        if not any(part in message.text for part in self.expected):
            self.complaints.append(message.text)

    def dismiss(self, dialog: Dialog) -> None:
        self.complaints.append("dialog")
        dialog.dismiss()

    def request(self, request: Request) -> None:
        if request.url.startswith(self.origin):
            self.asked.append(request.url.removeprefix(self.origin))
        elif not request.url.startswith(("blob:", "data:")):
            self.complaints.append(request.url)


@contextmanager
def visited(
    browser: Browser,
    address: str,
    *,
    origin: str | None = None,
    width: int = 1200,
    dark: bool = False,
    script: bool = True,
    touch: bool = False,
    expected: tuple[str, ...] = (),
) -> Iterator[tuple[Page, Heard]]:
    """The page at `address`; fails at the end where there was any complaint. origin: as `Heard`, None = `address`."""
    scheme: Literal["dark", "light"] = "dark" if dark else "light"
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=script,
        is_mobile=touch,
        has_touch=touch,
    )
    context.set_default_timeout(10_000)
    page, heard = context.new_page(), Heard(origin or address, expected)
    heard.listen(page)
    page.goto(address)
    yield page, heard
    assert heard.complaints == []
    context.close()

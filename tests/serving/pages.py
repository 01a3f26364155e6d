"""`headway serve` in a process of its own, and its page in a browser that listens for complaints."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request


@contextmanager
def serving(bundle: Path, *words: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of `bundle` that is ready, and its address. It is ended with the block."""
    command = [sys.executable, "-m", "headway", "serve", str(bundle), "--port", str(port), "--threads", "1", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        ready = re.search(r"http://\S+/", process.stdout.readline())
        assert ready is not None, "the server did not start"
        yield process, ready.group()
    finally:
        process.kill()
        process.communicate()


@dataclass
class Heard:
    """What a page gave cause to complain about, and the addresses under its own server that it asked.

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
def opened(
    browser: Browser,
    address: str,
    *,
    width: int = 1200,
    dark: bool = False,
    script: bool = True,
    touch: bool = False,
    expected: tuple[str, ...] = (),
) -> Iterator[tuple[Page, Heard]]:
    """The page at `address`; fails at the end where there was any complaint."""
    scheme: Literal["dark", "light"] = "dark" if dark else "light"
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=script,
        is_mobile=touch,
        has_touch=touch,
    )
    context.set_default_timeout(10_000)
    page, heard = context.new_page(), Heard(address, expected)
    heard.listen(page)
    page.goto(address)
    yield page, heard
    assert heard.complaints == []
    context.close()

"""The pages over a folder of runs as an ASGI app: GET and HEAD alone, a fixed table of addresses, nothing written.

No path of a request is ever opened: an id is looked up among the folders that were found, a file among `PAGES`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from headway.serving.asgi import FACTS, Asgi, Message, Receive, Scope, Send, answer
from headway.serving.gate import Gate
from headway.serving.limits import Limits
from headway.serving.refusals import Refusal
from headway.viewer.comparison import MOST_RUNS, beside
from headway.viewer.folders import Unreadable, read_plain
from headway.viewer.listing import PAGES, Listing, Shelf
from headway.viewer.pages import Pages, address, script, style, wanted
from headway.viewer.soundness import LARGEST

AT_ONCE = 2  # pages that are made at the same time; the others wait
_HTML, _CSS, _JS = b"text/html; charset=utf-8", b"text/css; charset=utf-8", b"text/javascript; charset=utf-8"
_POLICY = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
# A report brings a stricter policy of its own, with the digest of its script. This one holds whatever the file says:
# it may be anybody's, so it has an origin of its own and can ask nothing of this server or of another.
_REPORT_POLICY = (
    b"sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    kind: bytes = _HTML
    policy: bytes = _POLICY


class View:
    """The app. root: the folder of runs; place: what it is called on the pages."""

    def __init__(self, root: Path, place: str) -> None:
        self.place = place
        self._shelf = Shelf(root)
        self._pages = Pages()
        self._files = {"/view.css": (style().encode(), _CSS), "/view.js": (script().encode(), _JS)}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, behind a `headway.serving.gate.Gate`. Raises Refusal for another method than GET and HEAD."""
        if scope["method"] not in ("GET", "HEAD"):
            raise Refusal("wrong_method", [(b"allow", b"GET, HEAD")])
        async with self._turns:
            route, made = await asyncio.to_thread(self.answer, scope["path"], scope["query_string"])
        if FACTS in scope:
            scope[FACTS].route = route
        head = [(b"content-security-policy", made.policy), (b"referrer-policy", b"no-referrer")]
        if scope["method"] == "HEAD":
            head = [(b"content-type", made.kind), (b"content-length", str(len(made.body)).encode()), *head]
            await send({"type": "http.response.start", "status": made.status, "headers": head})
            await send({"type": "http.response.body", "body": b""})
        else:
            await answer(send, made.status, made.body, made.kind, head)

    def answer(self, path: str, query: bytes) -> tuple[str, Answer]:
        """The address as this table has it, and the answer."""
        if path in self._files:
            body, kind = self._files[path]
            return path, Answer(200, body, kind)
        try:
            asked = parse_qsl(query.decode("latin-1"), encoding="utf-8", errors="replace", max_num_fields=200)
        except ValueError:  # too many fields
            asked = []
        if path == "/":
            page = self._pages.table(self._shelf.listing(), wanted(dict(asked)), self.place)
            return path, self._html(200, page)
        if path == "/compare":
            return path, self._compare([value for name, value in asked if name == "run"])
        id, _, name = path.removeprefix("/runs/").rpartition("/")
        if path.startswith("/runs/") and name in PAGES:
            return f"/runs/:id/{name}", self._report(id, name)
        return "", self._note(404, "Nothing here", ["There is no page at this address."])

    def _html(self, status: int, text: str) -> Answer:
        return Answer(status, text.encode("utf-8", "backslashreplace"))

    def _note(self, status: int, title: str, told: Sequence[str]) -> Answer:
        return self._html(status, self._pages.note(title, told))

    def _report(self, id: str, name: str) -> Answer:
        listing = self._shelf.listing()
        folder = listing.paths.get(id)
        row = listing.row(id)
        if folder is None or row is None or name not in row.pages:
            return self._note(404, "Nothing here", ["No run that lies here has this page."])
        try:
            return Answer(200, read_plain(folder / name, LARGEST[name]), policy=_REPORT_POLICY)
        except (Unreadable, FileNotFoundError) as error:
            told = str(error) if isinstance(error, Unreadable) else f"{name} is gone"
            return self._note(404, "This page cannot be opened", [f"{row.name}: {told}."])

    def _compare(self, ids: Sequence[str]) -> Answer:
        listing = self._shelf.listing()
        ids = list(dict.fromkeys(ids))
        if not 2 <= len(ids) <= MOST_RUNS:
            told = f"{len(ids):,} run{' is' if len(ids) == 1 else 's are'} ticked."
            return self._note(400, f"Tick 2 to {MOST_RUNS} runs", [f"{told} Go back, tick runs in the table."])
        rows = [row for row in map(listing.row, ids) if row is not None and row.comparable]
        if len(rows) < len(ids):
            told = "One of the runs is not here, not finished, or damaged. The table says which can be compared."
            return self._note(404, "These runs cannot be compared", [told])
        return self._beside(listing, ids)

    def _beside(self, listing: Listing, ids: Sequence[str]) -> Answer:
        rows = [row for row in map(listing.row, ids) if row is not None]
        reports = {row.id: address(row, "report.html") for row in rows if "report.html" in row.pages}
        found, damaged = beside(rows, listing.paths, reports)
        if found is None:
            return self._note(200, "These runs cannot be compared", damaged)
        return self._html(200, self._pages.comparison(found))


class App:
    """The whole of it: the pages behind the gate of the prediction server, to be listened for by it.

    fault  hears the id of a request and the traceback of a fault of our own
    """

    def __init__(self, root: Path, place: str, limits: Limits, fault: Callable[[str, str], None] | None = None) -> None:
        self._app = with_passwords(Gate(View(root, place), limits, fault=fault))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._app(scope, receive, send)

    def drain(self) -> None:
        """Nothing waits that would have to be told of the end."""

    def close(self) -> None:
        """Nothing is held."""


def with_passwords(app: Asgi) -> Asgi:
    """In front of a gate with a token: a browser cannot send one, but it asks for a password, which is the token."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                kept = [(name, value) for name, value in message["headers"] if name != b"www-authenticate"]
                basic = (b"www-authenticate", b'Basic realm="headway view: the token is the password"')
                message = {**message, "headers": [*kept, basic]}
            await send(message)

        if scope["type"] == "http":
            scope = {**scope, "headers": [(name, _bearer(name, value)) for name, value in scope["headers"]]}
        await app(scope, receive, sent)

    return asked


def _bearer(name: bytes, value: bytes) -> bytes:
    """`Basic` with the token as its password as `Bearer` with the token; any other header as it is."""
    kind, _, coded = value.partition(b" ")
    if name != b"authorization" or kind.lower() != b"basic":
        return value
    try:
        return b"Bearer " + base64.b64decode(coded, validate=True).partition(b":")[2]
    except binascii.Error:
        return value

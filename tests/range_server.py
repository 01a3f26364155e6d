"""A web server on this machine that gives parts of files (HTTP ranges), as object storage does, and fails on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """How the server answers, changed while it runs; and what it was asked.

    ranges  whether it gives parts; else always the whole file
    status  what it answers to every request for a part, in place of the part; None = properly
    fail_after  how many requests for parts it still answers before it only says 503; None = all
    cut     how many answers it breaks off half way, from now on
    asked   the requests for content: name and range
    """

    ranges: bool = True
    status: int | None = None
    fail_after: int | None = None
    cut: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.behaviour = folder, behaviour


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        server = self.server
        assert isinstance(server, _Server)
        path = server.folder / self.path.lstrip("/").partition("?")[0]
        if path.is_dir():
            links = "".join(f'<a href="{item.name}{"/" * item.is_dir()}">x</a>' for item in sorted(path.iterdir()))
            self._send(200, links.encode(), {"Content-Type": "text/html"}, body=body)
        elif path.is_file():
            self._give(path, body=body)
        else:
            self._send(404, b"", {}, body=body)

    def _give(self, path: Path, *, body: bool) -> None:
        assert isinstance(self.server, _Server)
        behaviour = self.server.behaviour
        wanted = self.headers.get("Range", "")
        with behaviour.lock:
            if body:
                behaviour.asked.append((path.name, wanted))
            cut = bool(body and wanted and behaviour.cut > 0)
            behaviour.cut -= cut
            over = behaviour.fail_after is not None and len(behaviour.asked) > behaviour.fail_after
            status = 503 if over else behaviour.status
        if status is not None and body and wanted:
            self._send(status, b"", {}, body=body)
            return
        content = path.read_bytes()
        if not wanted or not behaviour.ranges:
            self._send(200, content, {"Accept-Ranges": "bytes"} if behaviour.ranges else {}, body=body)
            return
        first, last = (int(word) for word in wanted.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        span = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self._send(206, part, {"Content-Range": span}, body=body, cut=cut)

    def _send(self, status: int, content: bytes, more: dict[str, str], *, body: bool, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests have their own words."""


@contextmanager
def serving(folder: Path, behaviour: Behaviour | None = None) -> Iterator[str]:
    """The address at which the files in `folder` are served."""
    server = _Server(folder, behaviour or Behaviour())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

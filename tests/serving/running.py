"""A real `headway serve` process for tests that attack it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60  # for a start on a machine that is busy with other things


@dataclass(frozen=True)
class Running:
    """port  on 127.0.0.1;  log  the file of its standard error."""

    port: int
    process: subprocess.Popen[str]
    log: Path

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """(status, JSON) of a GET, or of a POST where there is a body, on a connection of its own."""
        status, content = self._ask(path, body)
        return status, json.loads(content)

    def text(self, path: str) -> str:
        """What a GET of `path` is answered with."""
        return self._ask(path, None)[1].decode()

    def _ask(self, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def logged(self, words: str) -> bool:
        """Whether the log has `words`, waited for: a line is written after its request was answered."""
        end = time.monotonic() + SECONDS
        while words not in self.log.read_text() and time.monotonic() < end:
            time.sleep(0.02)
        return words in self.log.read_text()

    @property
    def descriptors(self) -> int:
        """Files and sockets that the process has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())


@contextmanager
def running(
    bundle: Path, log: Path, *words: str, command: Sequence[str] = (sys.executable, "-m", "headway", "serve")
) -> Iterator[Running]:
    """The server of `bundle` on a free port, ready; ended by SIGTERM after."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, str(bundle), "--port", "0", *words], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving  http://127.0.0.1:"), f"{line}\n{log.read_text()}"
            yield Running(int(line.split("/")[2].rsplit(":", 1)[1]), process, log)
        finally:
            process.terminate()
            process.wait(SECONDS)

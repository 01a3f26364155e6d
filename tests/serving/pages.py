"""`headway serve` in a process of its own, and its page in a browser that listens for complaints."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


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

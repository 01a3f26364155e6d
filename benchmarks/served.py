"""What the benchmarks of `headway serve` share: a bundle, a server process on a core of its own, a table of bars."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.racing import HEADWAY, timed
from headway.machine import machine, versions

IMAGES = (".jpg", ".jpeg", ".png")
# Pinned before Python starts, so that every thread of it is.
PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


@dataclass(frozen=True)
class Served:
    """A server that runs. port: on 127.0.0.1. ready: seconds from the start of the process to its first answer."""

    port: int
    pid: int
    ready: float

    @property
    def memory(self) -> float:
        """MB that the process holds now (VmRSS)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    @property
    def processor(self) -> float:
        """Seconds of the processor that the process took so far. On a busy machine they tell more than a clock."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def descriptors(self) -> int:
        """Files and sockets that the process has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


@dataclass(frozen=True)
class Bar:
    """One claim: what was measured, what it must be, and whether it is."""

    what: str
    found: str
    bar: str
    held: bool


def on_core(core: int, *command: str) -> list[str]:
    """`command` (its first word a path) on one core alone."""
    return [sys.executable, "-c", PINNED, str(core), *command]


@contextmanager
def own_core() -> Iterator[int]:
    """A core for servers; this process stays on another one meanwhile. Ends where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("client and server need a core each, and this process may use only one")
    os.sched_setaffinity(0, {cores[1]})
    try:
        yield cores[0]
    finally:
        os.sched_setaffinity(0, set(cores))


@contextmanager
def bundle_of(data: Path, given: Path | None) -> Iterator[Path]:
    """The bundle `given`, or one made of `data` in a folder that goes away."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        print("making a bundle (headway fit) ...", flush=True)
        timed((*HEADWAY, "fit", str(data.resolve()), "--run", str(run), "--quiet"), Path(place), Path(place) / "cache")
        yield run / "bundle"


def some_images(data: Path, n: int) -> list[bytes]:
    """The bytes of at most `n` images below `data`, spread over all of them."""
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in IMAGES)
    if not paths:
        sys.exit(f"no images below {data}")
    step = max(1, len(paths) // n)
    return [path.read_bytes() for path in paths[::step][:n]]


@contextmanager
def serving(bundle: Path, core: int, *words: str) -> Iterator[Served]:
    """`headway serve` as a process of its own on one core, ready when this is entered; ended after."""
    command = on_core(core, *HEADWAY, "serve", str(bundle), "--port", "0", *words)
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http://" not in line:
                sys.exit(f"headway serve said {line!r} and not where it serves")
            port = int(line.split("http://", 1)[1].split("/", 1)[0].rsplit(":", 1)[1])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                answer.read()
            yield Served(port, process.pid, time.perf_counter() - start)
        finally:
            process.terminate()
            process.wait(30)


def share(values: Sequence[float], part: float) -> float:
    """The quantile `part` of `values` (0..1), the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def in_ms(seconds: Sequence[float]) -> str:
    """p50, p90, p99 and the longest of `seconds`, in milliseconds."""
    if not seconds:
        return "none"
    parts = ", ".join(f"p{100 * part:.0f} {share(seconds, part) * 1e3:.0f}" for part in (0.5, 0.9, 0.99))
    return f"{parts}, longest {max(seconds) * 1e3:.0f} ms"


def tell_bars(name: str, bars: Sequence[Bar], **facts: Any) -> None:
    """A table of what held and what did not, then one line of JSON, with the conditions."""
    widths = [max(len(getattr(bar, part)) for bar in bars) for part in ("what", "found", "bar")]
    for bar in bars:
        cells = (text.ljust(width) for text, width in zip((bar.what, bar.found, bar.bar), widths, strict=True))
        print("  ".join(cells), "held" if bar.held else "NOT held")
    where = machine()
    load = os.getloadavg()[0]
    print(f"{where['processor']}, {where['cores']} cores; load of the machine at the end {load:.1f}")
    table = [{"what": bar.what, "found": bar.found, "bar": bar.bar, "held": bar.held} for bar in bars]
    print(json.dumps({"benchmark": name, "bars": table, **facts, "machine": where, "versions": versions()}))

"""How long the table of `headway view` takes over many runs: read for the first time, and once it is known.

python -m benchmarks.run_table RUN... [--runs 1000] [--rounds 5]; the finished runs that are named are copied in turn,
their largest tables cut. Seconds of the processor, so that what else runs counts little.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.told import tell

_FILES = ("settings.yaml", "resolved.json", "evaluation.json", "history.csv", "audit.json", "report.html")
_TABLES = ("predictions.csv", "split.csv")  # of these the table looks at the ends alone
_END = 70_000


def fill(folder: Path, runs: Sequence[Path], n: int) -> None:
    """Put `n` copies of `runs` into `folder`, in turn."""
    for number in range(n):
        run = runs[number % len(runs)]
        own = folder / f"{run.name}-{number}"
        own.mkdir()
        for name in _FILES:
            if (run / name).exists():
                shutil.copy(run / name, own)
        for name in _TABLES:
            if (run / name).exists():
                content = (run / name).read_bytes()
                (own / name).write_bytes(content if len(content) <= 2 * _END else content[:_END] + content[-_END:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("of", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()

    from headway.viewer.app import View

    found: dict[str, list[float]] = {"first": [], "known": [], "known, sorted and filtered": []}
    size = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, chosen.of, chosen.runs)
        for _ in range(chosen.rounds):
            view = View(folder, "runs")
            for kind, query in zip(found, (b"", b"", b"sort=test&order=up&filter=1"), strict=True):
                start = time.process_time()
                size = max(size, len(view.answer("/", query)[1].body))
                found[kind].append(time.process_time() - start)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    tell("run_table", found, "s", runs=chosen.runs, page_bytes=size, resident_mb=most)


if __name__ == "__main__":
    main()

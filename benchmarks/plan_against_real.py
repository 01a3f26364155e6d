"""What `headway plan` predicts against what `headway fit` takes, as whole processes.

python -m benchmarks.plan_against_real DATA... [--images 300] [--epochs 2] [--rounds 5] [--states cold,warm]
                                       [--roads probe,last,full,scratch] [--words "--image 96"]

Each DATA is a folder, Parquet file or archive. A case is a data set, a road, and whether the features were in the cache
(warm) or not (cold). In each round every case is planned just before it is run, in a cache of its own when cold, in one
that all warm cases share otherwise; all cases take their turn before the next round. --images N takes a slice: so many
images of a folder, evenly spread over its files; 0 = all. Roads that train by epochs take --epochs in plan and in fit;
--words go to both.

Printed for each case: seconds predicted, seconds by the clock outside, median of |predicted / real - 1|, and how far a
fixed computation swung in the same rounds (largest over smallest): what the machine itself does to any prediction.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.advice.measuring import reference
from headway.machine import machine, versions

WORDS = {
    "probe": [],
    "last": ["--strategy", "finetune", "--thaw", "1"],
    "full": ["--strategy", "finetune"],
    "scratch": ["--strategy", "scratch"],
}


@dataclass
class Case:
    """One data set, road and state of the cache, with what each round gave: seconds."""

    data: Path
    road: str
    state: str
    predicted: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    swing: list[float] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Median over rounds of |predicted / real - 1|."""
        return statistics.median(abs(p / r - 1) for p, r in zip(self.predicted, self.real, strict=True))


def headway(words: list[str], place: Path, cache: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of one process by the clock outside, and its JSON."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "headway", *words, "--json"],
        cwd=place,
        env={**os.environ, "HEADWAY_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"headway {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return time.perf_counter() - start, result


def one_round(case: Case, place: Path, warm: Path, epochs: int, words: list[str]) -> None:
    """Plan, then run."""
    data = [str(case.data), *words]
    cache = warm if case.state == "warm" else Path(tempfile.mkdtemp(dir=place, prefix="cold-"))
    trained = ["--epochs", str(epochs)] if case.road != "probe" else []
    if case.state == "warm" and not case.predicted:
        headway(["fit", *data, *WORDS[case.road], *(["--epochs", "1"] if trained else [])], place, cache)
        headway(["plan", *data, "--epochs", "1"], place, cache)
    before = reference()
    _, plan = headway(["plan", *data, "--epochs", str(epochs)], place, cache)
    seconds, _ = headway(["fit", *data, *WORDS[case.road], *trained], place, cache)
    row = next(row for row in plan["roads"] if row["road"] == case.road)
    case.predicted.append(row["seconds"])
    case.real.append(seconds)
    case.swing += [before, plan["reference_seconds"], reference()]
    shutil.rmtree(place / "runs", ignore_errors=True)
    if case.state == "cold":
        shutil.rmtree(cache, ignore_errors=True)


def sliced(data: Path, n: int, place: Path) -> Path:
    """A folder of links to `n` files of a folder, evenly spread; of a Parquet file so many rows as PNGs."""
    if not n:
        return data.resolve()
    made = place / f"{data.name.split('.')[0]}-{n}"
    if data.suffix == ".parquet":
        _unpacked(data, n, made)
        return made
    found = sorted(path for path in data.rglob("*") if path.is_file())
    for path in found[:: max(1, len(found) // n)][:n]:
        link = made / path.relative_to(data)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return made


def _unpacked(data: Path, n: int, made: Path) -> None:
    """Rows of the first 20 labels of a Parquet file in Hugging Face's layout, so that each class has enough images."""
    import pyarrow.parquet as pq

    taken = 0
    table = pq.read_table(data)
    label = next(name for name in table.column_names if "label" in name and "coarse" not in name)
    for number in range(len(table)):
        row = table.slice(number, 1).to_pylist()[0]
        if row[label] >= 20:
            continue
        picture = next(value["bytes"] for value in row.values() if isinstance(value, dict))
        path = made / str(row[label]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(io.BytesIO(picture).getvalue())
        taken += 1
        if taken == n:
            return


def tell(cases: list[Case], asked: argparse.Namespace) -> None:
    """The table, then all of it as one line of JSON."""
    print(f"{'case':<44} {'predicted':>16} {'real':>16} {'|p/r-1|':>8} {'swing':>6}")
    done = [case for case in cases if case.predicted]
    for case in done:
        name = f"{case.data.name}, {case.road}, {case.state}"
        spans = [f"{statistics.median(v):.1f} [{min(v):.1f}, {max(v):.1f}]" for v in (case.predicted, case.real)]
        swing = max(case.swing) / min(case.swing)
        print(f"{name:<44} {spans[0]:>16} {spans[1]:>16} {case.error:>7.0%} {swing:>6.2f}")
    worst = max(case.error for case in done)
    print(f"median of the cases {statistics.median(case.error for case in done):.0%}, worst {worst:.0%}")
    rows = [{**vars(case), "data": case.data.name, "error": case.error} for case in done]
    facts = {
        "images": asked.images,
        "epochs": asked.epochs,
        "words": asked.words,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps({"benchmark": "plan_against_real", "cases": rows, **facts}), flush=True)


def main() -> None:
    """Run the rounds and print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--roads", default="probe,last,full,scratch")
    parser.add_argument("--states", default="cold,warm")
    parser.add_argument("--words", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        parts = [sliced(data, asked.images, place) for data in asked.data]
        cases = [
            Case(data, road, state)
            for data in parts
            for road in asked.roads.split(",")
            for state in asked.states.split(",")
        ]
        for number in range(asked.rounds):
            for case in cases:
                one_round(case, place, place / "warm", asked.epochs, shlex.split(asked.words))
                name, pair = f"{case.data.name} {case.road} {case.state}", (case.predicted[-1], case.real[-1])
                said = f"round {number + 1}: {name}: predicted {pair[0]:.1f}, real {pair[1]:.1f}"
                print(said, file=sys.stderr, flush=True)
            tell(cases, asked)


if __name__ == "__main__":
    main()

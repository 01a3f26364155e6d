"""Every block of commands and of Python in the documents runs, page by page, on images that are drawn here.

Commands are those of the page, word for word. What trains by epochs gets `--epochs 1 --image 32` in addition, where
the page does not say otherwise: that it runs is what is asked, not what it learns.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import make
from tests.docs.blocks import PAGES, ROOT, Block, blocks
from tests.forking import Server

# Single lines of blocks that run otherwise, by their beginning, and why they are left out.
LEFT_OUT = {
    "pip install ": "it installs; tests/releases/test_wheel.py looks at every extra",
    "make ": "the tools of a clone, not of the program",
    "curl ": "it asks the server of the line above; tests/serving asks it all of this",
    "headway fetch flowers102": "it downloads; tests/exchange has a server of its own",
    "headway tune photos/ --trials 200": "200 trials; tests/tuning runs fewer",
    "headway fit 's3://": "a bucket of somebody; tests/data/test_remote.py",
    "headway rank photos/ --backbones tf_efficientnet_lite0,resnet18=none": "it names a file that is not here",
}
# One more that is not run is a decision: count it here.
NOT_RUN = {"blocks": 30, "lines": 16}
ENDLESS = ("serve", "view")
BY_EPOCHS = ("finetune", "scratch", "mlp", "--budget", "--thaw")


def test_blocks__what_is_not_run_is_counted_and_says_why() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    lines = [line for block in every if not block.why for line in block.commands if left_out(line)]

    assert {"blocks": sum(bool(block.why) for block in every), "lines": len(lines)} == NOT_RUN
    assert [beginning for beginning in LEFT_OUT if not any(line.startswith(beginning) for line in lines)] == []


def left_out(line: str) -> bool:
    return line.startswith(tuple(LEFT_OUT))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def ground(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: photos, a finished run whose bundle promises, a digit, a list."""
    folder = tmp_path_factory.mktemp("ground")
    each = {"train": 20, "val": 55, "test": 10}  # 110 validation images can promise 1 %, and save folds
    make.split_folders(folder / "photos", {subset: {"cat": n, "dog": n} for subset, n in each.items()})
    make.class_folders(folder / "other-photos", {"cat": 6, "dog": 6}, seed=7)
    make.class_folders(folder / "demo" / "digits", {"1": 20, "7": 20}, suffix=".png")
    for number, name in enumerate(("new.jpg", "more/a.jpg", "new/a.jpg", "new/b.jpg", "a.jpg", "b.jpg")):
        make.write(folder / name, make.jpeg(kind=number % 2, seed=9_000 + number))
    make.write(folder / "demo" / "new" / "a-seven.png", make.png(1, 9_100))
    server.run(folder, "fit", "photos")
    shutil.copytree(folder / "runs" / "photos-1" / "bundle", folder / "flowers")
    return folder


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUN = [page for page in PAGES if any(not block.why for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("page", RUN, ids=named)
def test_blocks__run(page: Path, server: Server, ground: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(ground, place, ignore=shutil.ignore_patterns("cache", "said"))
    for block in blocks(page):
        if not block.why:
            check(block, server, place, ground / "cache")


def check(block: Block, server: Server, place: Path, cache: Path) -> None:
    if block.language == "python":
        said = ended(server, server.start(place, cache=cache, code=f"import headway\n{block.text}"), place)
        assert said[0] == 0, f"{block.page}:{block.line}\n{said[1]}"
    for line in block.commands:
        if left_out(line):
            continue
        words = shlex.split(line, comments=True)
        if words[0] != "headway":
            subprocess.run(["bash", "-c", line], cwd=place, check=True, capture_output=True)
            continue
        pid = server.start(place, *affordable(words[1:]), cache=cache)
        if words[1] in ENDLESS:
            stopped_once_it_listens(pid, place)
        status, told = ended(server, pid, place)
        assert status == 0, f"{block.page}:{block.line}: {line}\n{told}"


def affordable(words: list[str]) -> list[str]:
    """`words`, with one epoch on small images where the command trains a network."""
    if words[0] in ENDLESS:
        return [*words, "--port", "0"]
    trains = words[0] in ("fit", "compare") and any(part in word for word in words for part in BY_EPOCHS)
    fewer = [] if "--epochs" in words else ["--epochs", "1"]
    return [*words, *fewer, *([] if "--image" in words else ["--image", "32"])] if trains else words


def stopped_once_it_listens(pid: int, place: Path) -> None:
    until, told = time.monotonic() + 120, ""
    while not re.search(r"http://127\.0\.0\.1:\d+/", told):
        assert time.monotonic() < until, told
        time.sleep(0.05)
        told = (place / "said").read_text(errors="replace") if (place / "said").exists() else ""
    os.kill(pid, signal.SIGTERM)


def ended(server: Server, pid: int, place: Path) -> tuple[int, str]:
    """Exit code and what was said; the file is gone then."""
    status = server.wait(pid)
    told = (place / "said").read_text(errors="replace")
    (place / "said").unlink()
    return status, told

"""What every test gets: a cache folder of its own, and a say on what may be missing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The machine may be busy with other things: how long an example takes says nothing about the code.
settings.register_profile("headway", deadline=None)
settings.load_profile("headway")

# Real images for the slow tests, where a checkout has them beside it.
REAL_IMAGES = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_sessionstart() -> None:
    """A suite begun in the background of a script ignores Ctrl-C, and so would programs that tests press it in."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or fills the user's cache, nor another test's; nothing outside asks a hub.

    Gone with its test: the caches of five thousand tests fill a disk.
    """
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEADWAY_CACHE_DIR", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def _own_code(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """Code in C is compiled once for all tests of a session, and none of the user's is touched."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWAY_CODE_DIR", str((base if worker_id == "master" else base.parent) / "code"))
        yield


@pytest.fixture(autouse=True)
def _same_random_weights() -> None:
    """A layer that a test makes starts the same in any order of tests."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def shared_networks(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A cache folder for prepared networks that all test processes of a session share (tests/backbones/networks.py)."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "networks"


def require(part: str, here: bool, what: str) -> None:
    """Skip the test where `part` is not here; fail instead where HEADWAY_REQUIRE names it.

    HEADWAY_REQUIRE  names with commas between them, such as browser,data; what a machine that must test all has
    """
    if here:
        return
    if part in os.environ.get("HEADWAY_REQUIRE", "").split(","):
        pytest.fail(f"HEADWAY_REQUIRE names {part}, but {what}")
    pytest.skip(f"{what} (HEADWAY_REQUIRE={part} makes this a failure)")


@pytest.fixture
def real_images() -> Path:
    """The folder of real data (cats-vs-dogs, blood-cells, cifar100) beside the checkout; else the test is skipped."""
    require("data", REAL_IMAGES.is_dir(), "no real images at ../shared/data")
    return REAL_IMAGES


@pytest.fixture(scope="module")  # its event loop is in the way of tests that run one of their own
def browser() -> Iterator[Browser]:
    """A Chromium without a window; else the test is skipped."""
    from tests.browser import launched

    with launched() as opened:
        yield opened


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small problems run fastest on one thread, and several test processes do not get in each other's way."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

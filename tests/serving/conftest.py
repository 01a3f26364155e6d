"""One bundle for all tests of the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployment import toys


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the toy network that promises coverage 0.95 and a false-alarm rate of 0.01."""
    return toys.confident(tmp_path_factory.mktemp("served"), n_val=120)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the toy network that promises nothing."""
    return toys.bundle(tmp_path_factory.mktemp("plain"))

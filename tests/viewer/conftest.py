"""One folder of runs for all tests that only look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.viewer.shelves import build_shelf


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that no test changes."""
    return build_shelf(tmp_path_factory.mktemp("shelf") / "runs")

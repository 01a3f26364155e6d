"""A PostgreSQL for the tests that share a study between processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require
from tests.tuning import postgres


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL of this session; else the test is skipped."""
    found = postgres.binaries()
    require("postgres", found is not None, "no PostgreSQL on this machine (make system installs it)")
    assert found is not None
    with postgres.server(found) as address:
        yield address

"""Small problems run fastest on one thread, and several test processes do not get in each other's way."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this room."""

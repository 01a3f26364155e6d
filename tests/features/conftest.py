"""A prepared tiny network, shared with the tests of the backbones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backbones.networks import Prepared, copied, prepared_once


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this room."""


@pytest.fixture
def own_resnet(shared_networks: Path, tmp_path: Path) -> Prepared:
    """test_resnet in a cache of the test's own."""
    return copied(prepared_once(shared_networks, "test_resnet"), tmp_path / "cache")

"""Prepared networks, made once per session whichever way the tests are spread over processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backbones.networks import NETWORKS, Prepared, copied, prepared_once


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this room."""


@pytest.fixture
def resnet(shared_networks: Path) -> Prepared:
    """test_resnet, to be read only."""
    return prepared_once(shared_networks, "test_resnet")


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, shared_networks: Path) -> Prepared:
    """Each of the tiny networks, to be read only."""
    return prepared_once(shared_networks, request.param)


@pytest.fixture
def own_resnet(resnet: Prepared, tmp_path: Path) -> Prepared:
    """test_resnet in a cache of the test's own."""
    return copied(resnet, tmp_path / "cache")

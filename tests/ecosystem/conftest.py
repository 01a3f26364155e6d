"""A prepared tiny network in the cache of every test, and photos in the three kinds that an estimator takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests import make
from tests.backbones.networks import copied, prepared_once
from tests.ecosystem.toy import CLASSES


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this room."""


@pytest.fixture
def cache(shared_networks: Path, _own_cache: None) -> Path:
    """The cache folder of this test, with test_resnet prepared in it."""
    folder = Path(os.environ["HEADWAY_CACHE_DIR"])
    copied(prepared_once(shared_networks, "test_resnet"), folder)
    return folder


@dataclass(frozen=True)
class Photos:
    """The same images as paths, PIL images, and one array (N, H, W, 3) uint8; y (N,) names."""

    paths: list[Path]
    y: NDArray[Any]

    @property
    def pictures(self) -> list[Image.Image]:
        return [Image.open(path) for path in self.paths]

    @property
    def arrays(self) -> NDArray[np.uint8]:
        return np.stack([np.asarray(picture) for picture in self.pictures])

    def as_kind(self, kind: str) -> Sequence[Any]:
        found: Sequence[Any] = getattr(self, kind)
        return found


@pytest.fixture
def photos(cache: Path, tmp_path: Path) -> Photos:
    """Ten images of each of three classes."""
    root = make.class_folders(tmp_path / "photos", dict.fromkeys(CLASSES, 10), suffix=".png")
    paths = sorted(root.rglob("*.png"))
    return Photos(paths, np.array([path.parent.name for path in paths]))

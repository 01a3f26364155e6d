"""Tiny networks of timm with random weights, prepared once and copied: exporting a graph costs seconds."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import dataclass
from pathlib import Path

from headway.backbones.opening import BackboneSession
from headway.backbones.trunk import TrunkFiles, TrunkRequest, cached_trunk
from headway.backbones.weights import WeightsChoice

SIDE = 64
NETWORKS = ("test_resnet", "test_efficientnet", "test_vit")


def request_of(name: str, image: int | None = SIDE) -> TrunkRequest:
    return TrunkRequest(name, "none:0", image, None, None)


@dataclass(frozen=True)
class Prepared:
    """A prepared network in a cache folder."""

    cache: Path
    request: TrunkRequest
    files: TrunkFiles

    def session(self, threads: int = 1) -> BackboneSession:
        return BackboneSession(self.cache, self.request, WeightsChoice("none", "none:0"), 0, threads)


def prepared_once(shared: Path, name: str, image: int | None = SIDE) -> Prepared:
    """The network `name` in the cache folder `shared`; made by whichever test process comes first."""
    request = request_of(name, image)
    shared.mkdir(parents=True, exist_ok=True)
    with (shared / f"{request.digest[:16]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = cached_trunk(shared, request)
        if found is None:
            found = BackboneSession(shared, request, WeightsChoice("none", "none:0"), 0, 1).trunk()
    return Prepared(shared, request, found)


def copied(prepared: Prepared, cache: Path) -> Prepared:
    """The same in a cache of its own, to be changed as a test likes."""
    folder = prepared.files.graph.parent
    shutil.copytree(folder, cache / "trunks" / folder.name)
    found = cached_trunk(cache, prepared.request)
    assert found is not None
    return Prepared(cache, prepared.request, found)

"""The pass of the estimators: images through the network, or out of the cache, always seen as when they were fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from headway.backbones.engines import SAMPLE
from headway.data.dataset import Dataset
from headway.ecosystem.given import refuse_unread
from headway.errors import HeadwayError
from headway.events import drain
from headway.features.extract import extract
from headway.features.looking import Asked, Ready, get_ready
from headway.features.store import DamagedShard
from headway.settings import FitSettings
from headway.steps import Sight

Value = TypeVar("Value")


@dataclass(frozen=True)
class Look:
    """How images are looked at, settled by those that were fitted on; plain values, so it can be pickled.

    asked    with the framing that suits those images;  engine  the one that was settled on
    weights  the digest of the network's tensors
    taps     (name, dimension) of every tap
    """

    asked: Asked
    engine: str
    weights: str
    taps: tuple[tuple[str, int], ...]

    def names(self, taps: str) -> tuple[str, ...]:
        """The taps that "last" or "all" stands for."""
        return tuple(name for name, _ in self.taps) if taps == "all" else ("last",)


def asked_of(settings: FitSettings) -> Asked:
    """The part of the settings that says how images are looked at."""
    return Asked(**{name: getattr(settings, name) for name in Asked.__dataclass_fields__})


def settle(dataset: Dataset, asked: Asked, cache: Path) -> Look:
    """Open the backbone and settle the engine and how such images are framed; at most a few of them are read."""
    with get_ready(dataset, np.arange(min(SAMPLE, len(dataset))), asked, cache) as ready:
        return settled_of(ready, asked)


def settled_of(ready: Ready, asked: Asked) -> Look:
    """What is to be kept of what was settled."""
    shape = ready.preprocess
    framed = replace(asked, fit=shape.fit, resize="none" if shape.resize is None else shape.resize)
    taps = tuple((tap.name, tap.dim) for tap in ready.trunk.taps)
    return Look(framed, ready.choice.name, ready.trunk.facts["tensors_digest"], taps)


def see(dataset: Dataset, how: Asked | Look, cache: Path) -> Sight:
    """One pass over every image that the cache does not know: as asked, or exactly as it was settled before.

    Raises HeadwayError where an image cannot be read, and where the network is not the one that was settled on.
    """
    every = np.arange(len(dataset), dtype=np.intp)
    asked, engine = (how.asked, how.engine) if isinstance(how, Look) else (how, None)
    with get_ready(dataset, every, asked, cache, engine) as ready:
        if isinstance(how, Look) and ready.trunk.facts["tensors_digest"] != how.weights:
            raise HeadwayError(
                f"the weights of {asked.backbone} are no longer those that this was fitted with: fit it again, "
                "or bring them back"
            )
        going = extract(ready.readings, every, len(dataset), ready.store, ready.engine, ready.batch)
        features, contents = drain(going)
    refuse_unread(dataset, contents)
    return Sight(ready, features, contents)


def again_if_damaged(work: Callable[[], Value]) -> Value:
    """What `work` gives; once more where a damaged part of the cache was found, which is then gone."""
    while True:
        try:
            return work()
        except DamagedShard:
            continue


def facts(sight: Sight) -> dict[str, Any]:
    """What a pass cost: images computed, and those that came from the cache."""
    return {"computed": sight.features.computed, "reused": sight.features.reused}

"""From short measurements to the speeds that costs are computed with."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headway.advice import measuring
from headway.advice.cost import Speeds, Work
from headway.advice.measuring import Notebook
from headway.events import Progress
from headway.features.looking import Ready

if TYPE_CHECKING:
    from headway.backbones.opening import BackboneSession
    from headway.training.finetune import RoadSettings

_GUESSED_STEP = 1.8  # times a forward pass of torch, of a step of the whole network: 1.3 of lite0, 2.3 of resnet18
_SLOWEST = 5.0  # times the fastest engine: torch on an image; 4.5 of lite0, 1.4 of resnet18
_GUESSED_BACK = 0.15  # the same of a step of the last stage


@dataclass(frozen=True)
class Way:
    """A road that is to be measured: the network as it begins, and how it would be trained."""

    session: BackboneSession
    settings: RoadSettings


@dataclass(frozen=True)
class Known:
    """What the caller saw pass: seconds, or seconds for an image. See Speeds.

    images  (n, S, S, 3) uint8 of the user's, that `decode` was measured on
    """

    images: NDArray[np.uint8]
    decode: float
    start: float = 0.0
    lookup: float = 0.0
    library: float = 0.0
    build: float = 0.0


def open_notebook(session: BackboneSession, side: int) -> Notebook:
    """What this machine remembers of the network of `session` at this input size."""
    network = {"name": session.request.name, "side": side, "device": session.device}
    return Notebook.open(session.cache, network, session.threads)


def engine_seconds(ready: Ready, notebook: Notebook) -> float:
    """Seconds of an image in the engine of `ready`: as was noted, else as when it was chosen, however busy it was then;
    of the fastest that was measured where it was another machine's.
    """
    noted = notebook.remembered(_noted(ready))
    rates = ready.choice.rates
    return noted[0] if noted is not None else 1 / rates.get(ready.choice.name, max(rates.values()))


def torch_seconds(ready: Ready, engine: float) -> float:
    """Seconds of an image in torch. Its rate is that of one cold run: on a busy machine that may say anything."""
    rates = ready.choice.rates
    return min(1 / rates.get("torch", min(rates.values())), _SLOWEST * engine)


def _noted(ready: Ready) -> str:
    return f"engine {ready.choice.name} {ready.precision}"


def gauged(
    ready: Ready, work: Work, ways: Mapping[str, Way], known: Known, notebook: Notebook
) -> Generator[Progress, None, Speeds]:
    """Every speed that the roads `ways` ask for: measured now (seconds), or remembered."""
    session = ready.session
    total, train, activation = 3 + len(ways), {}, 0
    product, most = notebook.measured(f"product {work.classes}", lambda: measuring.product(work.taps[0], work.classes))
    memory = {"probe": int(most)}
    looks = partial(measuring.engine, ready.engine, ready.batch, known.images)
    engine = notebook.measured(_noted(ready), looks)[0]
    disk = notebook.measured("disk", lambda: measuring.disk(session.cache))
    yield Progress("measure", 1, total)
    for number, (road, way) in enumerate(ways.items(), start=2):
        said = f"{road} {way.settings.loop.batch} {way.settings.threads} {way.settings.loop.precision}"
        measure = partial(measuring.training, way.session, ready.preprocess, way.settings, work.classes, known.images)
        front, step, forward, kept, most = notebook.measured(said, measure, seconds=3)
        train[road], memory[road] = (front, step, forward), int(most)
        activation = int(kept) if road == "last" else activation
        yield Progress("measure", number, total)
    graph = notebook.measured("graph", lambda: measuring.graph(session, known.images, "auto")) if ways else [0.0]
    yield Progress("measure", total, total)
    return Speeds(
        reference=notebook.now,
        start=known.start,
        library=known.library,
        build=known.build,
        graph=graph[0],
        lookup=known.lookup,
        decode=known.decode,
        engine=engine,
        torch=torch_seconds(ready, engine),
        product=product,
        disk=disk[0],
        train=train,
        memory=memory,
        activation=activation,
    )


def guessed(ready: Ready, notebook: Notebook, decode: float) -> Speeds:
    """What is known without measuring: what this machine remembers, else a guess from the engines' rates."""
    engine = engine_seconds(ready, notebook)
    torch = torch_seconds(ready, engine)
    train: dict[str, tuple[float, float, float]] = {
        "last": (torch, _GUESSED_BACK * torch, _GUESSED_BACK * torch / 2),
        "full": (0.0, _GUESSED_STEP * torch, torch),
    }
    for road in train:
        found = next((name for name in notebook.known if name.startswith(f"{road} ")), None)
        values = notebook.remembered(found) if found is not None else None
        if values is not None:
            train[road] = (values[0], values[1], values[2])
    graph, disk = notebook.remembered("graph") or [3.0], notebook.remembered("disk") or [3.0]
    return Speeds(
        reference=notebook.now,
        start=0.0,
        library=0.0,
        build=0.0,
        graph=graph[0],
        lookup=0.0,
        decode=decode,
        engine=engine,
        torch=torch,
        product=0.02,
        disk=disk[0],
        train=train,
        memory={},
    )

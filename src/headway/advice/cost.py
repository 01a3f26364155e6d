"""What each road of `fit` costs: seconds, memory and disk from speeds that were measured here. Arithmetic alone.

Every part of `fit` is one term, named as the clock of a run names it, so that a prediction can be held against the
seconds that a run tells. What is measured stands in `Speeds` (see measuring); `FIXED` is what a run does once whatever
the data, measured on one machine and scaled by how fast a fixed computation is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.advice import beside
from headway.advice.beside import REFERENCE
from headway.advice.plan import Quote

if TYPE_CHECKING:
    from headway.settings import FitSettings

# Seconds on the machine of beside.REFERENCE.
FIXED = {
    "open": 0.35,  # the prepared network read and proved, an engine and the store opened
    "train": 0.3,  # from the split to the first fit beyond importing torch, and what more would cost
    "evaluate": 0.03,
    "export": 0.35,  # graft, open, check, open again
    "report": 0.1,  # records and page
    "stages": 0.6,  # finding and proving where a network is cut
    "leave": 0.1,  # from the last line to the end of the process
}
_JUDGED = 9e-5  # seconds an image of `evaluate`, beyond the fixed part
_FOUND = 4e-5  # seconds an image whose features are there already, beyond reading it
_TRAIN_JUDGED = 10_000  # as steps.TRAIN_JUDGED: training images that are looked at again at the end
_NUMBER = 4  # bytes


@dataclass(frozen=True)
class Work:
    """What there is to do, in images.

    known     of all of them, how many have features in the store;  read  how many were read before for scratch
    judged    training images that are judged at the end beside validation and test
    repeats   other splits of the same images that are tried
    taps      columns of features: of the last layer, and of all
    side      of the network's input, pixels
    weights   bytes of the network
    held      whether prepared images stay in memory where nothing but a flip changes them
    """

    train: int
    val: int
    test: int
    unlabelled: int
    classes: int
    known: int
    read: int
    taps: tuple[int, int]
    side: int
    weights: int
    held: bool = True
    repeats: int = 0

    @property
    def images(self) -> int:
        return self.train + self.val + self.test + self.unlabelled

    @property
    def judged(self) -> int:
        """Images that a trained network looks at once more at the end."""
        return min(self.train, _TRAIN_JUDGED) + self.val + self.test + self.unlabelled


@dataclass(frozen=True)
class Speeds:
    """How fast this machine is with this network and these images: seconds, or seconds for an image.

    reference  the fixed computation
    start      from the start of the process until the images are listed;  library  importing torch
    build      the network as a module of torch;  graph  a trained network written as a graph, its engine chosen
    lookup, decode, engine   an image: found in the store; decoded by all cores; through the fastest engine
    torch      an image through torch as the reference engine
    product    1e9 multiplications of features with weights
    disk       1e9 bytes written and brought to the disk
    train      road → (front, step, forward) seconds of an image: the frozen front, a step, judging
    memory     road → bytes at the most while it was measured
    activation bytes of what the frozen front of the road `last` gives of an image
    """

    reference: float
    start: float
    library: float
    build: float
    graph: float
    lookup: float
    decode: float
    engine: float
    torch: float
    product: float
    disk: float
    train: Mapping[str, tuple[float, float, float]]
    memory: Mapping[str, int]
    activation: int = 0


@dataclass(frozen=True)
class Regime:
    """How a road trains: epochs, images a step, whether the images change beyond a flip in every epoch."""

    epochs: int
    batch: int
    changing: bool

    @staticmethod
    def of(settings: FitSettings) -> Regime:
        """That of a road's settings."""
        return Regime(int(settings.epochs), settings.batch, settings.augment not in ("none", "flip"))


@dataclass(frozen=True)
class Cost:
    """What a road costs. phases: seconds by the names of a run's clock; memory, disk in bytes at the most."""

    road: str
    phases: Mapping[str, float]
    memory: int
    disk: int

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())


def predict(road: str, work: Work, speeds: Speeds, regime: Regime | None = None) -> Cost:
    """The cost of a whole process on the road probe, last, full or scratch. regime: of what trains by epochs."""
    if road == "probe":
        asked = beside.evidence(work, speeds) + _scaled("train", speeds)
        solves = beside.solving(work, speeds, all_taps=True)
        phases = {"features": features(work, speeds), "train": speeds.library + asked + solves}
        phases["repeats"] = beside.repeating(work, speeds)
        phases["export"] = _reference_features(work, speeds, built=False)
    else:
        assert regime is not None
        quote = quoted(road, work, speeds, regime)
        looks = reading(work, speeds) if road == "scratch" else features(work, speeds)
        solves = _scaled("train", speeds)
        if road != "scratch":
            solves += beside.solving(work, speeds, all_taps=False) + beside.evidence(work, speeds)
        phases = {"features": looks, "train": speeds.library + speeds.build + solves + quote.seconds(regime.epochs)}
        phases["export"] = _reference_features(work, speeds, built=True)
    phases["start"] = speeds.start
    for name, seconds in finishing(work, speeds).items():
        phases[name] = phases.get(name, 0.0) + seconds
    return Cost(road, phases, _memory(road, work, speeds), _disk(road, work, speeds.activation))


def quoted(road: str, work: Work, speeds: Speeds, regime: Regime) -> Quote:
    """What training costs from solved head and built module on: before, each epoch, after."""
    front, step, forward = speeds.train[road]
    decoded = work.val + (0 if regime.changing or not work.held else work.train)
    before = _scaled("stages", speeds) + decoded * speeds.decode
    if front:
        kept = (work.train + work.val) * speeds.activation
        before += (work.train + work.val) * front + 2 * kept / 1e9 * speeds.disk
    each = work.train * (step + (speeds.decode if regime.changing or not work.held else 0.0))
    saving = _state(road, work) / 1e9 * speeds.disk
    judging = work.val * forward
    before += judging + saving if road != "scratch" else 0.0  # the state before the first step
    after = speeds.graph + work.judged * (speeds.engine + speeds.decode)
    return Quote(road, before, each + judging + saving, after, _memory(road, work, speeds), judging)


def least(work: Work, speeds: Speeds) -> float:
    """Seconds that training the network takes at the very least: every image goes through it twice, and no way is
    faster than the fastest engine's."""
    return (work.train + work.val + work.judged) * speeds.engine


def features(work: Work, speeds: Speeds) -> float:
    """The pass: images that are new are decoded and looked at, the others found in the store."""
    new = max(0, work.images - work.known)
    found = work.images * speeds.lookup + (work.images - new) * _FOUND * speeds.reference / REFERENCE
    return _scaled("open", speeds) + new * (speeds.engine + speeds.decode) + found


def reading(work: Work, speeds: Speeds) -> float:
    """Reading every image once, where no network looks: those that were read before are only found."""
    return max(0, work.images - work.read) * speeds.decode + work.images * speeds.lookup


def finishing(work: Work, speeds: Speeds) -> dict[str, float]:
    """From the chosen classifier to the end of the process: judged, shipped, written down."""
    judged = work.judged * _JUDGED * speeds.reference / REFERENCE
    return {
        "evaluate": _scaled("evaluate", speeds) + judged,
        "map": beside.mapping(work, speeds),
        "audit": beside.auditing(work, speeds),
        "export": _scaled("export", speeds) + 3 * work.weights / 1e9 * speeds.disk + beside.explaining(work, speeds),
        "report": _scaled("report", speeds) + beside.picturing(work, speeds) + _scaled("leave", speeds),
    }


def ending(work: Work, speeds: Speeds) -> float:
    """All of `finishing` where a probe may be kept: torch may have to look at what its bundle is held against."""
    told = sum(finishing(work, speeds).values()) + beside.repeating(work, speeds)
    return told + _scaled("stages", speeds) + min(work.val, 32) * speeds.torch


def _reference_features(work: Work, speeds: Speeds, *, built: bool) -> float:
    """What torch makes of the images that a bundle is held against: in the store where the images were."""
    if built:
        return min(work.val, 32) * speeds.torch
    return 0.0 if work.known >= work.images else speeds.build + min(work.val, 32) * speeds.torch


def _scaled(name: str, speeds: Speeds) -> float:
    return FIXED[name] * speeds.reference / REFERENCE


def _state(road: str, work: Work) -> int:
    """Bytes of a checkpoint: weights, the best ones, two numbers of the optimizer; of the last stage about half."""
    return work.weights * (2 if road == "last" else 4)


def _memory(road: str, work: Work, speeds: Speeds) -> int:
    """What was used while a road was measured, and what grows with the data."""
    base = speeds.memory.get(road) or max(speeds.memory.values(), default=0)
    columns = work.taps[1] if road == "probe" else work.taps[0]
    if road == "probe":
        return base + (work.train + work.val) * columns * _NUMBER
    held = work.val + (work.train if road == "last" or work.side <= 64 else 0)
    return base + (held * work.side**2 * 3 if work.held else 0)


def _disk(road: str, work: Work, activation: int) -> int:
    """Features in the cache, and the most that the run's folder holds while it works."""
    kept = max(0, work.images - work.known) * (work.taps[1] * _NUMBER + 120) if road != "scratch" else 0
    bundle = 2 * work.weights
    if road == "probe":
        return kept + bundle
    activations = (work.train + work.val) * activation if road == "last" else 0
    return kept + bundle + 2 * work.weights + 2 * _state(road, work) + activations

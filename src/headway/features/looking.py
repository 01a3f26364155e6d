"""Get ready to look at a dataset: the backbone opened, the engine settled, decoding under way while that happens."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.engines import SAMPLE, Engine, EngineChoice, batch_of, engine_facts
from headway.backbones.opening import BackboneSession, shape_preprocess
from headway.backbones.preprocess import VERSION as PREPROCESS_VERSION
from headway.backbones.preprocess import Preprocess
from headway.backbones.quantise import NotQuantised
from headway.backbones.trunk import TrunkFiles, TrunkRequest
from headway.backbones.weights import choose_weights
from headway.data.dataset import Contents, Dataset, FarSource
from headway.data.descriptors import VERSION as DESCRIPTORS_VERSION
from headway.data.images import VERSION as DECODE_VERSION
from headway.data.images import BadImage, decode
from headway.events import Progress
from headway.features.extract import Features, extract
from headway.features.reading import CHUNK, Readings, ReadTask, content_digest
from headway.features.scaling import open_scaler
from headway.features.store import Store, open_store
from headway.features.views import VERSION as VIEWS_VERSION
from headway.features.views import View
from headway.world import threads_of

_AHEAD = 4  # chunks decoded before they are asked for, while the engine runs
_AHEAD_BYTES = 384 << 20  # of decoded images while the network is still being prepared
_SIZED = 32  # images whose size decides whether most are smaller than the network's input
_PEEKED = 8  # samples that tell whether all are read sooner without threads
_LIGHT = 8 << 10  # bytes of a content that is small


@dataclass(frozen=True)
class Asked:
    """What a user may say about how images are looked at; see the options of the same names."""

    backbone: str = "tf_efficientnet_lite0"
    weights: str | None = None
    image: int | None = 224
    resize: int | str | None = None
    fit: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    seed: int = 0
    offline: bool = False
    threads: int | None = None
    engine: str = "auto"
    device: str = "cpu"
    small_stem: bool = False
    taps: str = "auto"
    precision: str = "fp32"


@dataclass(frozen=True)
class Ready:
    """A backbone, ready to look at the samples of a dataset.

    seconds     spent on preparing: choice of engine, export of the graph
    left_int8   why it is in fp32 though int8 was asked for; "" where nothing was left
    """

    dataset: Dataset
    session: BackboneSession
    trunk: TrunkFiles
    preprocess: Preprocess
    choice: EngineChoice
    readings: Readings
    store: Store
    seconds: float
    _opened: Engine | None = None
    left_int8: str = ""

    @property
    def precision(self) -> str:
        """What the network computes in: fp32 or int8."""
        return str(self.trunk.facts.get("precision", "fp32"))

    def engine(self) -> Engine:
        """The engine, opened on first need: where everything is in the store, nothing needs it."""
        if self._opened is not None:
            return self._opened
        return self.session.open(self.trunk, self.choice.name, self.choice.part)

    @property
    def batch(self) -> int:
        """Images that the engine sees at a time."""
        return batch_of(self.choice.name)

    def facts(self) -> dict[str, Any]:
        """What a run record holds of it."""
        trunk = self.trunk.facts
        return {
            "backbone": {key: trunk[key] for key in ("name", "source", "licence", "weights", "taps", "macs")},
            "trunk": {"graph_digest": trunk["graph_digest"], "tensors_digest": trunk["tensors_digest"]},
            "preprocess": self.preprocess.to_json(),
            "engine": {
                "name": self.choice.name,
                "precision": self.precision,
                "why": self.choice.why,
                "images_per_second": dict(self.choice.rates),
                "cosine_to_torch": self.choice.cosine,
                "batch": self.batch,
            },
            "threads": self.session.threads,
        }


@contextmanager
def get_ready(
    dataset: Dataset,
    indices: NDArray[np.intp],
    asked: Asked,
    cache: Path,
    settled: str | None = None,
    calibration: NDArray[np.intp] | None = None,
) -> Iterator[Ready]:
    """Open the backbone and settle the engine for the samples `indices`; decoding runs ahead meanwhile.

    settled      the engine that an earlier start of the same run used, or None
    calibration  training samples by which the network becomes int8 where it can; None = it stays in fp32

    Raises Refused for an unknown backbone or weights that are not here, HeadwayError where an engine disagrees.
    """
    start = time.perf_counter()
    session = open_session(asked, cache)
    threads = session.threads
    own = session.early_preprocess() or session.trunk().preprocess
    small = asked.fit is None and asked.resize is None and _mostly_small(dataset, own.size)
    preprocess = shape_preprocess(own, asked.fit, asked.resize, small)
    cold = session.kept() is None
    scaler = open_scaler()
    early = _start(ReadTask(dataset, preprocess, scaler=scaler), indices, threads, own.size) if cold else None
    try:
        trunk, left = session.trunk(), ""
        choice: EngineChoice | None = None
        engine: Engine | None = None
        sample = partial(_sample, dataset, indices, preprocess, early)
        if calibration is not None:
            shown = prepared_images(dataset, calibration.tolist(), preprocess)
            try:
                last, race = asked.taps == "last", asked.precision == "auto"
                trunk, choice, engine = session.choose_quantised(trunk, shown, sample, only_last=last, fastest=race)
            except NotQuantised as why:
                left = str(why)
        if choice is None:
            choice, engine = session.choose(trunk, asked.engine, settled, sample)
        store = open_store(cache, feature_spec(preprocess, trunk, session, choice.name), trunk.taps)
        readings = early or _start_known(ReadTask(dataset, preprocess, None, store.holds, scaler), indices, threads)
    except BaseException:
        if early is not None:
            early.close()
        raise
    with readings:
        seconds = time.perf_counter() - start
        yield Ready(dataset, session, trunk, preprocess, choice, readings, store, seconds, engine, left)


def open_session(asked: Asked, cache: Path) -> BackboneSession:
    """The backbone that is asked for, nothing of it built yet. Raises Refused for unknown names and missing weights."""
    weights = choose_weights(asked.backbone, asked.weights, seed=asked.seed, offline=asked.offline)
    request = TrunkRequest(asked.backbone, weights.identity, asked.image, asked.mean, asked.std, asked.small_stem)
    return BackboneSession(cache, request, weights, asked.seed, threads_of(asked.threads), _device(asked.device))


def plain_preprocess(dataset: Dataset, session: BackboneSession, asked: Asked) -> Preprocess:
    """How images become the input of a network that is to be trained: no graph of it is made yet."""
    own = session.early_preprocess()
    if own is None:
        from headway.backbones.network import own_preprocess

        own = own_preprocess(session.request.name, session.module().network, session.request)
    return shape_preprocess(own, asked.fit, asked.resize, _mostly_small(dataset, own.size))


def look_again(
    ready: Ready, indices: NDArray[np.intp], cache: Path, *, view: View | None = None, engine: str | None = None
) -> Generator[Progress, None, tuple[Features, Contents]]:
    """A pass over some samples under another view, or through another engine (torch, as the reference)."""
    name = engine or ready.choice.name
    spec = feature_spec(ready.preprocess, ready.trunk, ready.session, name, view)
    store = open_store(cache, spec, ready.trunk.taps)
    threads = ready.session.threads
    open_engine = ready.engine if engine is None else lambda: ready.session.open(ready.trunk, name)
    task = ReadTask(ready.dataset, ready.preprocess, view, store.holds, open_scaler())
    with _start_known(task, indices, threads) as readings:
        return (yield from extract(readings, indices, len(ready.dataset), store, open_engine, batch_of(name)))


def read_all(
    dataset: Dataset, preprocess: Preprocess, cache: Path, threads: int
) -> Generator[Progress, None, Contents]:
    """Read every sample once, with no network: which can be decoded, and what they hold. Kept like features."""
    every = np.arange(len(dataset), dtype=np.intp)
    return (yield from read_blind(dataset, every, preprocess, cache, threads))[1]


def read_blind(
    dataset: Dataset, indices: NDArray[np.intp], preprocess: Preprocess, cache: Path, threads: int
) -> Generator[Progress, None, tuple[Features, Contents]]:
    """Read the samples `indices` with no network. Features without taps: what reading alone gives."""
    store = reading_store(cache, preprocess)
    task = ReadTask(dataset, preprocess, None, store.holds, open_scaler())
    with _start_known(task, indices, threads) as readings:
        return (yield from extract(readings, indices, len(dataset), store, _Blind))


def reading_store(cache: Path, preprocess: Preprocess) -> Store:
    """The store of what was read with no network."""
    spec = {
        "decoder": _decoder(),
        "preprocess": {**preprocess.to_json(), "rules": PREPROCESS_VERSION},
        "backbone": None,
        "descriptors": DESCRIPTORS_VERSION,
    }
    return open_store(cache, spec, ())


class _Blind:
    """An engine that sees nothing: the pass then only reads."""

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {}


def ready_again(dataset: Dataset, session: BackboneSession, preprocess: Preprocess, cache: Path, asked: str) -> Ready:
    """A network that was trained here, ready to look at samples through `look_again`: its engine is settled anew."""
    start = time.perf_counter()
    trunk, indices = session.trunk(), np.arange(len(dataset), dtype=np.intp)
    choice, engine = session.choose(trunk, asked, None, lambda: _sample(dataset, indices, preprocess, None))
    store = open_store(cache, feature_spec(preprocess, trunk, session, choice.name), trunk.taps)
    idle = Readings(ReadTask(dataset, preprocess), indices[:0], threads=1, ahead=0)
    return Ready(dataset, session, trunk, preprocess, choice, idle, store, time.perf_counter() - start, engine)


def feature_spec(
    preprocess: Preprocess, trunk: TrunkFiles, session: BackboneSession, engine: str, view: View | None = None
) -> dict[str, Any]:
    """Everything but the image's bytes that decides its features: the key of its store."""
    return {
        "decoder": _decoder(),
        "preprocess": {**preprocess.to_json(), "rules": PREPROCESS_VERSION},
        "backbone": trunk.facts["name"],
        "weights": trunk.facts["weights"]["digest"],
        "engine": engine_facts(trunk, engine, session.threads).to_json(),
        "taps": [[tap.name, tap.dim] for tap in trunk.taps],
        "view": view.key if view is not None else None,
        "view_rules": VIEWS_VERSION if view is not None else None,
    }


def prepared_images(dataset: Dataset, indices: Sequence[int], preprocess: Preprocess) -> NDArray[np.uint8]:
    """The network's input of a few samples that can be decoded: (n, S, S, 3) uint8."""
    readings = ReadTask(dataset, preprocess)(indices)
    images = [reading.image for reading in readings if reading.image is not None]
    return np.stack(images) if images else np.empty((0, preprocess.size, preprocess.size, 3), np.uint8)


def _start(task: ReadTask, indices: NDArray[np.intp], threads: int, size: int) -> Readings:
    ahead = max(_AHEAD, _AHEAD_BYTES // (CHUNK * size * size * 3))
    return Readings(task, indices, threads=threads, ahead=ahead)


def _start_known(task: ReadTask, indices: NDArray[np.intp], threads: int) -> Readings:
    return Readings(task, indices, threads=threads, ahead=_AHEAD * threads, light=_is_light(task, indices))


def _is_light(task: ReadTask, indices: NDArray[np.intp]) -> bool:
    """Whether some samples, evenly spread, are small, near and known: there is nothing to decode then."""
    if isinstance(task.dataset.source, FarSource):
        return False
    for index in indices[:: -(-len(indices) // _PEEKED) or 1].tolist():
        try:
            content = task.dataset.source.read(index)
        except (BadImage, OSError):
            return False
        size = content.nbytes if isinstance(content, np.ndarray) else len(content)
        if size > _LIGHT or not task.known(content_digest(content)):
            return False
    return True


def _sample(
    dataset: Dataset, indices: NDArray[np.intp], preprocess: Preprocess, early: Readings | None
) -> NDArray[np.uint8]:
    images = early.first(SAMPLE) if early is not None else []
    if images:
        return np.stack(images)
    for start in range(0, len(indices), SAMPLE):
        found = prepared_images(dataset, indices[start : start + SAMPLE].tolist(), preprocess)
        if len(found):
            return found
    return np.empty((0, preprocess.size, preprocess.size, 3), np.uint8)


def _mostly_small(dataset: Dataset, size: int) -> bool:
    """Whether most of some samples, evenly spread, have a shorter side below `size` pixels."""
    small = readable = 0
    for index in range(0, len(dataset), -(-len(dataset) // _SIZED) or 1):
        try:
            # Only the size is wanted: a JPEG is decoded as small as it goes.
            shorter = min(decode(dataset.source.read(index), dataset.names[index], shortest=1).size)
        except (BadImage, OSError):
            continue  # the pass will tell why
        readable += 1
        small += shorter < size
    return small * 2 > readable


def _device(asked: str) -> str:
    """`auto` is a GPU where torch sees one. Asking imports torch, so a machine without one is told apart first."""
    if asked != "auto":
        return asked
    from importlib.util import find_spec

    if not any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/kfd")) or find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _decoder() -> str:
    import PIL
    from PIL import features

    libraries = f"libjpeg {features.version('libjpeg_turbo') or features.version('jpg')}"
    return f"rules {DECODE_VERSION} pillow {PIL.__version__} {libraries} webp {features.version('webp')}"

"""Engines run a prepared network: torch, ONNX Runtime, OpenVINO, own code. One small interface and batch shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headway.backbones.native.compiling import NETWORK, compiler
from headway.backbones.native.graph import NativeGraph
from headway.backbones.native.layers import NotNative
from headway.backbones.openvino_graph import OpenVinoGraph
from headway.backbones.parts import start_parts
from headway.backbones.trunk import TrunkFiles
from headway.errors import HeadwayError, first_line
from headway.machine import version

BATCH = 32  # every engine always sees this many images: a tail is padded, so that batch make-up cannot change bits
# Images that one core looks at together, but where more were seen to change no bit: of many, layers no longer fit its
# cache (default network, 1, 2, 8, 32 images: 202, 210, 200, 184 images/s). With 2, an image's bits depend on its place
# where channels are no multiple of 8.
PART = 1
ENGINES = (
    "onnxruntime",
    "openvino",
    "native",
    "torch",
)  # measured by `auto`; on a GPU, all of KINDS there beside them
NATIVE = "native"  # the code in C of this package; it needs a compiler, once
# How torch runs the network: (compiled, bf16). On a processor `auto` leaves compiling out: it takes half a minute, and
# the other engines are faster than its result.
KINDS: Mapping[str, tuple[bool, bool]] = {
    "torch": (False, False),
    "compiled": (True, False),
    "torch+bf16": (False, True),
    "compiled+bf16": (True, True),
}
DEVICE_BATCH = 128  # images that a GPU gets at a time
SAMPLE = 8  # real images that engines are measured and compared on: a quarter of a second of plain torch
ROUNDS = 3  # of measuring, the engines in turn; the best counts, as whatever else the machine does only slows
AGREEMENT = 0.9999  # least cosine to torch fp32, on every sampled image


class CannotRun(HeadwayError):
    """An engine that is installed and cannot run this network. The message is a clause: "native cannot run ..."."""


@dataclass(frozen=True)
class EngineFacts:
    """What of an engine decides the bits of its features; part of the cache key. threads None = does not matter."""

    name: str
    version: str
    precision: str
    graph_digest: str
    batch: int
    threads: int | None
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Engine(Protocol):
    """Runs a prepared network. `run`: (B, S, S, 3) uint8 → one float32 (B, d) array a tap, by name; B = `batch_of`."""

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]: ...


@runtime_checkable
class Overlapping(Engine, Protocol):
    """An engine that may begin on images before the answer to the ones before is asked for, and no sooner."""

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Mapping[str, NDArray[np.float32]]]: ...


def parts_of(name: str) -> tuple[str, str]:
    """The library or kind of an engine's name, and its device: "compiled:cuda:1" → ("compiled", "cuda:1")."""
    kind, _, device = name.partition(":")
    return kind, device or "cpu"


def batch_of(name: str) -> int:
    """Images that the engine of this name always sees at a time."""
    return BATCH if parts_of(name)[1] == "cpu" else DEVICE_BATCH


def engine_facts(trunk: TrunkFiles, name: str, threads: int) -> EngineFacts:
    """The facts of the engine `name` on this trunk, without opening it. torch:DEVICE is torch on that device."""
    library, device = parts_of(name)
    if library in KINDS:
        compiled, half = KINDS[library]
        # torch's bits change with the number of threads; what it runs is the library's module with these weights.
        digest, source = trunk.facts["weights"]["digest"], trunk.facts["source"]
        code = f"{version('torch')} {source} {version(source)}"
        own, precision = "compiled" if compiled else "torch", "bf16" if half else "fp32"
        return EngineFacts(own, code, precision, digest, batch_of(name), threads, device)
    precision = trunk.facts.get("precision", "fp32")
    code = NETWORK.digest if library == NATIVE else version(library) or ""
    return EngineFacts(library, code, precision, trunk.facts["graph_digest"], PART, None)


def is_here(name: str) -> bool:
    """Whether what this engine needs is installed."""
    return compiler() is not None if name == NATIVE else version(name) is not None


class OnnxEngine:
    """ONNX Runtime on the CPU: each core works on images of its own, so none waits for another.

    Features of an image depend neither on those around it nor on the number of threads (tested).
    """

    def __init__(self, trunk: TrunkFiles, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads * PART // BATCH)  # more than one where cores outnumber parts
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(trunk.graph), options, providers=["CPUExecutionProvider"])
        self._taps = [tap.name for tap in trunk.taps]
        self._pool = ThreadPoolExecutor(threads, "headway-engine")

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return self.start(images)()

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Mapping[str, NDArray[np.float32]]]:
        """See Overlapping: at the end of a batch no core waits for the other."""
        return start_parts(self._pool, self._look, images, PART)

    def _look(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return dict(zip(self._taps, self._session.run(self._taps, {"image": images}), strict=True))


class OpenVinoEngine:
    """OpenVINO on the CPU: as with ONNX Runtime, each core works on images of its own. Raises CannotRun."""

    def __init__(self, trunk: TrunkFiles, threads: int, part: int = PART) -> None:
        try:
            self._graph = OpenVinoGraph(trunk.graph.read_bytes(), threads, part)
        except RuntimeError as error:
            raise CannotRun(f"openvino cannot run this network ({first_line(error)})") from error
        self._taps = tuple(tap.name for tap in trunk.taps)

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return self._graph.run(images, self._taps)

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Mapping[str, NDArray[np.float32]]]:
        """See Overlapping."""
        return self._graph.start(images, self._taps)


class NativeEngine:
    """Code of our own in C: each core works on images of its own. Raises CannotRun."""

    def __init__(self, trunk: TrunkFiles, threads: int) -> None:
        try:
            self._graph = NativeGraph(trunk.graph, min(threads, BATCH), BATCH)
        except NotNative as error:
            raise CannotRun(f"native cannot run this network ({error})") from error

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return self._graph.run(images)

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Mapping[str, NDArray[np.float32]]]:
        """See Overlapping: at the end of a batch no core waits for the other."""
        return self._graph.start(images)


@dataclass(frozen=True)
class EngineChoice:
    """Which engine a run uses, and why.

    rates  images/s as measured;  cosine  worst agreement of this engine with torch;  agreeing  all that agree
    part   images that a core looks at together; no bit depends on it
    """

    name: str
    why: str
    rates: Mapping[str, float]
    cosine: float
    agreeing: tuple[str, ...]
    part: int = PART


def choose_engine(
    engines: Mapping[str, Callable[[], Engine]],
    images: NDArray[np.uint8],
    clock: Callable[[], float],
) -> tuple[EngineChoice, Engine]:
    """Take the fastest engine that agrees with torch on every one of `images` (real ones), by a short measurement.

    engines  name → how to open it; "torch" is among them
    images   (SAMPLE, S, S, 3) uint8; an engine of fixed shape sees them again and again until its batch is full
    clock    seconds, as time.perf_counter
    """
    opened, left_out = _opened(engines)
    start = clock()
    reference = opened["torch"].run(images)
    rates, cosines = {"torch": round(len(images) / (clock() - start), 1)}, {"torch": 1.0}
    others = {name: engine for name, engine in opened.items() if name != "torch"}
    for name, engine in others.items():  # their first run, which also warms them up
        found = engine.run(_filled(name, images))
        cosines[name] = worst_cosine(reference, {tap: output[: len(images)] for tap, output in found.items()})
    rates |= measure(others, images, clock)
    agreeing = [name for name in opened if cosines[name] >= AGREEMENT]
    best = max(agreeing, key=lambda name: rates[name])
    left_out += [f"{name} disagrees with torch (cosine {cosines[name]:.5f})" for name in opened if name not in agreeing]
    why = "; ".join([f"fastest of {len(agreeing)} that agree with torch", *left_out])
    return EngineChoice(best, why, rates, cosines[best], tuple(agreeing)), opened[best]


def _opened(engines: Mapping[str, Callable[[], Engine]]) -> tuple[dict[str, Engine], list[str]]:
    """Those that can run the network, and why the others cannot."""
    opened, why_not = {}, []
    for name, make in engines.items():
        try:
            opened[name] = make()
        except CannotRun as error:
            why_not.append(str(error))
    return opened, why_not


def measure(engines: Mapping[str, Engine], images: NDArray[np.uint8], clock: Callable[[], float]) -> dict[str, float]:
    """Images per second of engines that have run before, the best of `ROUNDS` in which they take turns."""
    seconds = dict.fromkeys(engines, float("inf"))
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            shown = _filled(name, images)
            start = clock()
            engine.run(shown)
            seconds[name] = min(seconds[name], (clock() - start) / len(shown))
    return {name: round(1 / spent, 1) for name, spent in seconds.items()}


def _filled(name: str, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`images`, repeated to a whole batch where another shape would be compiled anew or leave a GPU idle."""
    kind, device = parts_of(name)
    if device == "cpu" and not KINDS.get(kind, (False, False))[0]:
        return images
    return np.resize(images, (batch_of(name), *images.shape[1:]))


def wider(threads: int) -> int:
    """Images that a core may look at together so that a batch still keeps every core busy; 1: there are too many."""
    return next((part for part in (8, 4, 2) if BATCH // part >= threads), PART)


def no_bit_differs(alone: Engine, together: Engine, images: NDArray[np.uint8]) -> bool:
    """Whether images in parts have the very features that they have alone, wherever they stand in a part."""
    expected = alone.run(images)
    for first in range(len(images)):
        found = together.run(np.roll(images, -first, axis=0))
        if not all(np.array_equal(np.roll(rows, first, axis=0), expected[tap]) for tap, rows in found.items()):
            return False
    return True


def worst_cosine(a: Mapping[str, NDArray[np.float32]], b: Mapping[str, NDArray[np.float32]]) -> float:
    """The least cosine between two engines' outputs over all taps and images; not finite counts as -1."""
    worst = 1.0
    for tap, left in a.items():
        x, y = left.astype(np.float64), b[tap].astype(np.float64)  # (B, d)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return -1.0
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        same = np.abs(x - y).max(axis=1) <= 1e-6  # a tap that is zero on both sides has no direction
        cosine = np.where(same, 1.0, (x * y).sum(axis=1) / np.maximum(norms, 1e-30))
        worst = min(worst, float(cosine.min()))
    return worst

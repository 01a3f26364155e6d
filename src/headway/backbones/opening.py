"""Open a backbone for work: its prepared network, from the cache or built, and the engine that runs it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones import openvino_graph
from headway.backbones.engines import (
    BATCH,
    ENGINES,
    KINDS,
    NATIVE,
    PART,
    SAMPLE,
    Engine,
    EngineChoice,
    NativeEngine,
    OnnxEngine,
    OpenVinoEngine,
    choose_engine,
    is_here,
    measure,
    no_bit_differs,
    parts_of,
    wider,
    worst_cosine,
)
from headway.backbones.preprocess import Preprocess
from headway.backbones.quantise import AGREEMENT as INT8_AGREEMENT
from headway.backbones.quantise import NotQuantised, quantised_trunk
from headway.backbones.trunk import TrunkFiles, TrunkRequest, cached_trunk, known_preprocess
from headway.backbones.weights import WeightsChoice
from headway.errors import HeadwayError, first_line
from headway.machine import machine, versions

if TYPE_CHECKING:
    from headway.backbones.network import Trunk


_BROUGHT_BY = {
    "openvino": ("OpenVINO", openvino_graph.EXTRA),
    NATIVE: ("a C compiler", "apt-get install gcc, or what your system calls it; or --engine auto"),
}


@dataclass
class BackboneSession:
    """A backbone while a command works with it. The torch module is built only where something needs it."""

    cache: Path
    request: TrunkRequest
    weights: WeightsChoice
    seed: int
    threads: int
    device: str = "cpu"
    _module: Trunk | None = field(default=None, repr=False)
    _kept: TrunkFiles | None = None

    def trunk(self) -> TrunkFiles:
        """The prepared network, from the cache or built now (seconds)."""
        found = self.kept()
        if found is None:
            with _building():
                from headway.backbones.prepare import prepare_trunk

                found, self._module = prepare_trunk(self.cache, self.request, self.weights, seed=self.seed)
            self._kept = found
        return found

    def kept(self) -> TrunkFiles | None:
        """The prepared network where it is ready, read from the cache and held against its digests once."""
        if self._kept is None:
            self._kept = cached_trunk(self.cache, self.request)
        return self._kept

    def early_preprocess(self) -> Preprocess | None:
        """The weights' own preprocessing where it is known without building the network, so that decoding can begin."""
        known = known_preprocess(self.request)
        if known is not None:
            return known
        kept = self.kept()
        return kept.preprocess if kept is not None else None

    def module(self) -> Trunk:
        """The network as a torch module (imports timm or torchvision)."""
        if self._module is None:
            from headway.backbones.prepare import build_trunk

            self._module = build_trunk(self.request, self.weights, seed=self.seed)
            if self.weights.origin == "trained":
                self._module = self._module.narrowed()
        return self._module

    def facts(self) -> Mapping[str, Any]:
        """The prepared network's facts; where it is not prepared, those that ask for no graph (none is made)."""
        found = self.kept()
        if found is not None:
            return found.facts
        from headway.backbones.prepare import base_facts

        return base_facts(self.request, self.weights, self.module().network)

    def open(self, trunk: TrunkFiles, name: str, part: int = PART) -> Engine:
        """Open one engine by name: torch, compiled, onnxruntime, or torch:cuda, compiled+bf16:cuda and the like.

        part  images that a core of OpenVINO looks at together; the others know their own number
        """
        library, device = parts_of(name)
        if library in KINDS:
            from headway.backbones.torch_engine import TorchEngine

            module = self.module()
            try:
                return TorchEngine(trunk, module, self.threads, name)
            except (RuntimeError, AssertionError) as error:  # torch's words for a device that is not there
                if KINDS[library][0] and device == "cpu":
                    raise HeadwayError(
                        f"torch cannot compile the network here: {first_line(error)}. Try another --engine."
                    ) from error
                raise HeadwayError(
                    f"torch cannot use the device '{device}' here. Try --device cpu, or leave --device out."
                ) from error
        if library == "onnxruntime":
            return OnnxEngine(trunk, self.threads)
        if library == "openvino":
            try:
                return OpenVinoEngine(trunk, self.threads, part)
            except ImportError:
                raise _missing(library) from None
        if library == NATIVE:
            return NativeEngine(trunk, self.threads)
        raise HeadwayError(f"no engine {name!r}; there are {', '.join((*ENGINES, 'compiled'))}")

    def choose(
        self, trunk: TrunkFiles, asked: str, settled: str | None, sample: Callable[[], NDArray[np.uint8]]
    ) -> tuple[EngineChoice, Engine | None]:
        """The engine of this run: as an earlier start settled it, as this machine remembers it, or by measuring.

        asked    "auto", or the name of one (torch and compiled are then those of the session's device); no other than
                 that one and torch is opened for it
        settled  the name that an earlier start of the run used
        sample   gives (n, S, S, 3) uint8 real images, of which up to SAMPLE are used

        The engine itself comes only where measuring opened it.
        Raises HeadwayError where the engine asked for is not installed, or does not agree with torch.
        """
        if asked in _BROUGHT_BY and not is_here(asked):
            raise _missing(asked)
        if asked in KINDS and self.device != "cpu":
            asked = f"{asked}:{self.device}"
        names = self._names() if asked == "auto" else tuple(dict.fromkeys(("torch", asked)))
        choice, engine = self._known(trunk, asked, names), None
        fastest = choice.name if choice is not None else ""
        if choice is None:
            images = _padded(sample(), trunk.preprocess.size)
            choice, engine = choose_engine(
                {name: lambda name=name: self.open(trunk, name) for name in names},  # type: ignore[misc]
                images,
                time.perf_counter,
            )
            fastest = choice.name
            _remember(self._memory(trunk, names), choice)
        if asked != "auto":
            if asked not in choice.agreeing:
                why = next(part for part in choice.why.split("; ") if part.startswith(f"{asked} "))
                raise HeadwayError(f"--engine {asked} cannot be used: {why}. Try --engine auto.")
            choice = EngineChoice(asked, "asked for", choice.rates, choice.cosine, choice.agreeing)
        if settled is not None and settled != choice.name:
            choice = EngineChoice(settled, "as this run began", choice.rates, choice.cosine, choice.agreeing)
        return choice, engine if choice.name == fastest else None

    def _known(self, trunk: TrunkFiles, asked: str, names: tuple[str, ...]) -> EngineChoice | None:
        """What is remembered of the engines: of all, where the one asked for was among them; or of `names`."""
        every = _remembered(self._memory(trunk, self._names()))
        if asked == "auto" or (every is not None and asked in every.rates):
            return every
        return _remembered(self._memory(trunk, names))

    def choose_quantised(
        self,
        trunk: TrunkFiles,
        images: NDArray[np.uint8],
        sample: Callable[[], NDArray[np.uint8]],
        *,
        only_last: bool = False,
        fastest: bool = True,
    ) -> tuple[TrunkFiles, EngineChoice, Engine | None]:
        """The network in int8, held against fp32; remembered like any choice.

        images  (n, S, S, 3) uint8 training images to quantise it by;  sample  as for `choose`, other ones
        only_last  see quantised_trunk
        fastest    against its fastest engine in fp32, which is looked for; else against one that is at hand, and the
                   engines that nobody will use are not opened

        The engine itself comes only where measuring opened it.
        Raises NotQuantised where it cannot run in int8, or gives other features there.
        """
        name, engine = self._plain(trunk, sample, fastest)
        made = quantised_trunk(self.cache, trunk, images, only_last=only_last)
        place = self._memory(made, ("openvino",))
        choice, opened = _remembered(place), None
        if choice is None or (fastest and f"{name} fp32" not in choice.rates):
            real = _padded(sample(), trunk.preprocess.size)
            reference = engine or self.open(trunk, name)
            alone = self.open(made, "openvino")
            start = time.perf_counter()
            expected = reference.run(real)
            rates = {f"{name} fp32": round(len(real) / (time.perf_counter() - start), 1)}
            cosine = worst_cosine(alone.run(real), expected)
            if fastest:
                rates = measure({f"{name} fp32": reference}, real, time.perf_counter)
            part, rates["openvino"], opened = self._part(made, alone, real)
            choice = EngineChoice("openvino", "the engine of int8", rates, cosine, ("openvino",), part)
            _remember(place, choice)
        if not choice.cosine >= INT8_AGREEMENT:
            raise NotQuantised(f"its features there are not those of fp32 (cosine {choice.cosine:.3f})")
        return made, choice, opened

    def _plain(
        self, trunk: TrunkFiles, sample: Callable[[], NDArray[np.uint8]], fastest: bool
    ) -> tuple[str, Engine | None]:
        """The engine in fp32 that int8 is held against, opened only where measuring opened it."""
        if fastest:
            choice, engine = self.choose(trunk, "auto", None, sample)
            return choice.name, engine
        known = _remembered(self._memory(trunk, self._names()))
        return ("openvino" if known is not None and "openvino" in known.agreeing else "torch"), None

    def _part(self, made: TrunkFiles, alone: Engine, real: NDArray[np.uint8]) -> tuple[int, float, Engine]:
        """Images that a core looks at together, the images/s, and that engine: several where that changes no bit.

        Which is faster depends on the network: its int8 values are a quarter of those of fp32, and several images of
        them fit a core's cache or do not (2 cores, 1 and 8 images: ResNet-18 208 and 231 images/s, the default network
        262 and 218).
        """
        engines, part = {PART: alone}, wider(self.threads)
        if part > PART:
            together = self.open(made, "openvino", part)
            engines |= {part: together} if no_bit_differs(alone, together, real) else {}
        batch = np.resize(real, (BATCH, *real.shape[1:]))
        rates = measure({str(part): engine for part, engine in engines.items()}, batch, time.perf_counter)
        best = max(engines, key=lambda part: rates[str(part)])
        return best, rates[str(best)], engines[best]

    def _names(self) -> tuple[str, ...]:
        """The engines that are here, torch among them."""
        here = tuple(name for name in ENGINES if is_here(name))
        return (*here, *(f"{kind}:{self.device}" for kind in KINDS)) if self.device != "cpu" else here

    def _memory(self, trunk: TrunkFiles, names: tuple[str, ...]) -> Path:
        known: Mapping[str, Any] = {
            "graph": trunk.facts["graph_digest"],
            "engines": names,
            "machine": {key: value for key, value in machine().items() if key != "system"},
            "versions": versions(),
            "threads": self.threads,
            "device": self.device,
        }
        return self.cache / "engines" / f"{files.digest_json(known)[:32]}.json"


def trained_session(
    cache: Path, trunk: TrunkFiles, module: Trunk | None, threads: int, device: str = "cpu"
) -> BackboneSession:
    """A session on a network that was trained here (see prepare.keep_trained): nothing is looked up, or exported.

    module  the trained network, from now on in eval mode; None: built again from the kept tensors where it is needed
    """
    facts, own = trunk.facts, trunk.preprocess
    weights = WeightsChoice("trained", facts["weights"]["identity"], trunk.tensors)
    small = facts.get("stem") == "small"
    request = TrunkRequest(facts["name"], weights.identity, own.size, own.mean, own.std, small)
    narrow = module.narrowed().eval() if module is not None else None
    return BackboneSession(cache, request, weights, 0, threads, device, narrow, trunk)


def _padded(real: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """`SAMPLE` of the real images; black ones stand in where there are fewer."""
    images = np.zeros((SAMPLE, size, size, 3), np.uint8)
    images[: len(real)] = real[:SAMPLE]
    return images


@contextmanager
def _building() -> Iterator[None]:
    """How Python runs while a network is imported and exported, 4 s of one core; as it was before afterwards.

    What is made stays, so looking for garbage would take 1 s of it for nothing. And decoding shares the interpreter:
    at the usual interval of 5 ms each of its many short turns waits that long, and half as many images are ready.
    """
    collecting, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()


def _missing(engine: str) -> HeadwayError:
    name, extra = _BROUGHT_BY[engine]
    return HeadwayError(f"--engine {engine} needs {name}, which is not installed. Try: {extra}")


def _remember(place: Path, choice: EngineChoice) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(place, asdict(choice))


def _remembered(place: Path) -> EngineChoice | None:
    try:
        value = files.read_json(place)
        agreeing, part = tuple(value["agreeing"]), int(value["part"])
        return EngineChoice(value["name"], value["why"], value["rates"], value["cosine"], agreeing, part)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def shape_preprocess(own: Preprocess, fit: str | None, resize: int | str | None, small: bool) -> Preprocess:
    """The weights' own preprocessing with what the user asked for put in.

    small  most images are smaller than the network's input: they are scaled to it without cropping, unless asked
    """
    chosen = fit or ("squash" if small and resize is None else own.fit)
    short = own.resize if resize is None else (None if resize == "none" else int(resize))
    kept = short if chosen == "crop" else None
    return Preprocess(own.size, kept, chosen, own.interpolation, own.mean, own.std)  # type: ignore[arg-type]

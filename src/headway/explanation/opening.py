"""From a bundle to what explains its answers: which map, which gradient, found in the graph and proven by values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.deployment.bundle import Bundle
from headway.deployment.manifest import MODEL, PROBE
from headway.deployment.runtime import Runtime, open_runtime, run
from headway.errors import Refused
from headway.explanation.graph import INPUT, Graph, read_graph, with_outputs
from headway.explanation.head import Head, read_head
from headway.explanation.saliency import Explainer, GradCam, Map, Part, RollOut, Shares
from headway.explanation.shifting import Tail

LAST, ALL = "last", "all"
_GIVEN = ("logits", "features")  # outputs that every bundle has
_DEEPEST = 16  # values before a tap among which its map is looked for
_NEAR = 1e-3  # of the largest value: what counts as the mean of a map


@dataclass(frozen=True)
class _Opened:
    """A bundle's model with inner values as outputs, and those of its golden images."""

    bundle: Bundle
    content: bytes
    graph: Graph
    head: Head
    threads: int | None

    def runtime(self, outputs: Iterable[str]) -> Runtime:
        """By the engine of the bundle."""
        return self._runtime(outputs, self.bundle.manifest.engine["name"])

    def quick(self, outputs: Iterable[str]) -> Runtime:
        """By the engine that opens quickly: what is pooled from what is the same in all."""
        return self._runtime(outputs, "any")

    def _runtime(self, outputs: Iterable[str], engine: str) -> Runtime:
        names = [name for name in dict.fromkeys(outputs) if name not in _GIVEN]
        return open_runtime(with_outputs(self.content, names), self.bundle.path / MODEL, engine, self.threads)


def bundle_model(bundle: Bundle) -> bytes:
    """The bytes of the bundle's model.onnx. Raises Refused where they are no longer those that it was opened with."""
    path = bundle.path / MODEL
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or 'input/output error'}.") from None
    if files.digest_bytes(content) != bundle.manifest.model_digest:
        raise Refused(f"{path} was changed after the bundle was opened. Copy the bundle again.")
    return content


def open_explainer(
    bundle: Bundle, tap: str | None = None, *, threads: int | None = None, content: bytes | None = None
) -> Explainer:
    """What explains the answers of `bundle`. Takes about as long as opening the bundle again.

    tap      "last", or "stage3" and so on where the head reads that stage: Grad-CAM at that map; "all": every map that
             the head reads, each with its share of the logit; None: "all" where there are several, else "last"
    threads  None: one per core that may be used
    content  the model where it is not the bundle's own but has other weights (`graph.shuffled`)

    Raises Refused where the head reads no such tap, or where nothing in the network can be explained.
    """
    content = bundle_model(bundle) if content is None else content
    try:
        graph = read_graph(content)
        head = read_head(graph)
    except (ValueError, KeyError):
        raise Refused(f"{bundle.path} cannot be explained: its model has no head as headway writes it.") from None
    opened = _Opened(bundle, content, graph, head, threads)
    own = tuple(str(name) for name in bundle.manifest.head.get("taps", ()))
    maps, values = _maps(opened, own)
    parts = _parts(maps, values)
    if tap is None:
        tap = ALL if parts and (len(own) > 1 or LAST not in own) else LAST
    if tap == ALL:
        if not parts:
            raise Refused(
                f"--tap all: the head of {bundle.path} reads more than means and deviations of maps. Leave --tap out."
            )
        return Shares(opened.runtime([part.map.name for part in parts]), opened.head, parts)
    chosen = _chosen(tap, own, bundle)
    found = maps[chosen]
    # A transformer's stages are a view beside the way to its class token: a map of theirs would tell a part.
    if found is None or maps.get(LAST, found) is None:
        return _roll_out(opened, tap)
    return _grad_cam(opened, (chosen, tap), found, values, own)


def _chosen(tap: str, own: tuple[str, ...], bundle: Bundle) -> str:
    """The tap of the head that `tap` names, its mean before its deviation."""
    names = {name.removesuffix("_mean").removesuffix("_std"): name for name in sorted(own, reverse=True)}
    if tap not in names:
        raise Refused(f"--tap {tap}: the head of {bundle.path} reads {', '.join(sorted(names))}.")
    return names[tap]


_Values = dict[str, NDArray[np.float32]]


def _maps(opened: _Opened, own: tuple[str, ...]) -> tuple[dict[str, Map | None], _Values]:
    """Of each tap the nearest value before it that has places, if any; and what the golden images give of all."""
    candidates = {tap: _before(opened.graph, tap) for tap in own}
    runtime = opened.quick([*own, *(name for names in candidates.values() for name in names)])
    fit = {name for names in candidates.values() for name in names if _has_places(runtime, name)}
    images = np.load(opened.bundle.path / PROBE / "inputs.npy", allow_pickle=False)
    values = run(runtime, images, tuple(dict.fromkeys((*own, *sorted(fit)))))
    maps: dict[str, Map | None] = {}
    for tap, names in candidates.items():
        found = [one for name in names if name in fit and (one := _map(name, values[name].shape)) is not None]
        # On the way to a deviation lie the map without its mean, and its squares: the last that fits is the map itself.
        spread = [one for one in found if _same(values[tap], one.channels_first(values[one.name]).std((2, 3)))]
        nearest = spread[-1] if spread else next(iter(found), None)
        maps[tap] = None if nearest is None else _main(opened.graph, nearest, fit)
    return maps, values


def _parts(maps: Mapping[str, Map | None], values: Mapping[str, NDArray[np.float32]]) -> tuple[Part, ...]:
    """Every tap as the mean or the deviation of its map, as its values prove; () where one is something else."""
    parts = []
    for tap, found in maps.items():
        places = None if found is None else found.channels_first(values[found.name])
        if found is None or places is None:
            return ()
        mean = _same(values[tap], places.mean((2, 3)))
        if not mean and not _same(values[tap], places.std((2, 3))):
            return ()
        parts.append(Part(found, values[tap].shape[1], mean))
    return tuple(parts)


def _before(graph: Graph, tap: str) -> list[str]:
    found: list[str] = []
    for name in graph.bottlenecks(tap):
        if name == INPUT or len(found) == _DEEPEST:
            break
        found.append(name)
    return found


def _has_places(runtime: Runtime, name: str) -> bool:
    kind, shape = runtime.outputs[name]
    return kind == "float32" and len(shape) == 3


def _map(name: str, shape: tuple[int, ...]) -> Map | None:
    """Images are square and so are grids: equal sides tell which axis has the channels."""
    if shape[2] == shape[3] > 1:
        return Map(name, (2, 3))
    return Map(name, (1, 2)) if shape[1] == shape[2] > 1 else None


def _main(graph: Graph, found: Map, fit: set[str]) -> Map:
    """Before a mere change of layout, which the rest of the network does not read."""
    node = graph.source(found.name)
    if node is None or node.op != "Transpose" or node.inputs[0] not in fit:
        return found
    return Map(node.inputs[0], (1, 2) if found.spatial == (2, 3) else (2, 3))


def _grad_cam(
    opened: _Opened, tap: tuple[str, str], found: Map, values: Mapping[str, NDArray[np.float32]], own: tuple[str, ...]
) -> GradCam:
    """At the map of a tap, given as the head names it and as the user does."""
    behind = opened.graph.behind(found.name)
    places = found.channels_first(values[found.name])
    mean, deviation = places.mean((2, 3)), places.std((2, 3))
    # A mean over places has the same gradient everywhere; that of a deviation has a mean of 0. What a tap is, its
    # values prove.
    means = frozenset(name for name in own if name in behind and _same(values[name], mean))
    plain = all(name in means or _same(values[name], deviation) for name in own if name in behind)
    taps = tuple((name, values[name].shape[1]) for name in own)
    if plain:
        return GradCam(opened.runtime([found.name]), opened.head, found, tap[1], taps, means, None)
    bundle = opened.bundle
    if bundle.manifest.engine.get("precision") == "int8":
        raise Refused(
            f"{bundle.path} computes in int8, which has no gradient at the map of {tap[1]}. "
            "Explain the fp32 bundle instead: headway fit --portable writes one beside it."
        )
    read = Tail.inputs_of(opened.graph, found.name)
    runtime = opened.runtime(read)
    return GradCam(
        runtime, opened.head, found, tap[1], taps, means, Tail.open(opened.graph, read, runtime, places.shape[1])
    )


def _same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    return found.shape == wanted.shape and bool(
        np.abs(found - wanted).max() <= _NEAR * max(1e-6, float(np.abs(wanted).max()))
    )


def _roll_out(opened: _Opened, tap: str) -> RollOut:
    bundle, graph = opened.bundle, opened.graph
    names = [node.outputs[0] for node in graph.nodes if node.op == "Softmax" and node.outputs[0] in graph.moving]
    runtime = opened.runtime(names)
    images = np.load(bundle.path / PROBE / "inputs.npy", allow_pickle=False)
    values = run(runtime, images[:1], tuple(name for name in names if _has_places(runtime, name))) if names else {}
    layers = tuple(name for name, value in values.items() if value.shape[2] == value.shape[3])
    sizes = {values[name].shape[3] for name in layers}
    side = int(max(sizes, default=0) ** 0.5)
    # Attention between places, not between channels: patches of whole pixels make up the image.
    if len(sizes) != 1 or side < 2 or bundle.preprocess.size % side:
        raise Refused(
            f"{bundle.path} cannot be explained: its network ({bundle.manifest.backbone.get('name')}) has neither "
            "a map that is pooled nor attention of one size in all layers."
        )
    if tap != LAST:
        raise Refused(f"--tap {tap}: attention roll-out goes through all layers of {bundle.path}. Leave --tap out.")
    behind = graph.behind(layers[-1])
    pooled = any(node.op == "ReduceMean" and not behind.isdisjoint(node.inputs) for node in graph.nodes)
    return RollOut(runtime, layers, side, pooled)

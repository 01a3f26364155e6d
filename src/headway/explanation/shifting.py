"""The mean gradient over the places of a map, where no formula gives it: by shifting one channel after the other.

Grad-CAM needs of each channel the mean over places of d logit / d value. That is how the logit changes when the whole
channel is shifted, by the number of places: two runs of the part of the graph behind the map for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.runtime import Runtime, first_line
from headway.errors import HeadwayError
from headway.explanation.graph import Graph, between

if TYPE_CHECKING:
    from headway.explanation.saliency import Map

_SHIFT = 5e-3  # of a channel's deviation, and a hundredth of all channels' for those that hardly move
_AT_ONCE = 1 << 22  # values of the shifted maps in one run


@dataclass(frozen=True)
class Tail:
    """The graph from a map to `features`.

    inputs  the map, and what else the part behind it reads
    cost    of one image: its runs times the bytes of weights that each reads
    """

    session: Any
    inputs: tuple[str, ...]
    cost: int

    @staticmethod
    def inputs_of(graph: Graph, name: str) -> tuple[str, ...]:
        """The value `name`, and what the part of the graph behind it reads beside it."""
        behind = graph.behind(name)
        read = (
            value for node in graph.nodes if not (behind - {name}).isdisjoint(node.outputs) for value in node.inputs
        )
        beside = (value for value in read if value in graph.moving and value not in behind)
        return tuple(dict.fromkeys([name, *beside]))

    @staticmethod
    def open(graph: Graph, inputs: tuple[str, ...], runtime: Runtime, channels: int) -> Tail:
        """inputs: from `inputs_of`, which `runtime` gives; channels: of the map.

        Raises HeadwayError where an input is no float32, or that part of the graph does not stand alone.
        """
        import onnxruntime

        for name in inputs:
            if runtime.outputs[name][0] != "float32":
                raise HeadwayError(f"this network cannot be explained: behind {inputs[0]} it computes with {name}")
        model = between(graph, inputs, "features")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:  # the binding's errors share no narrower class
            raise HeadwayError(f"this network cannot be explained: {first_line(error)}") from error
        return Tail(session, inputs, 2 * channels * len(model))

    def mean_gradient(
        self, found: Mapping[str, NDArray[Any]], place: Map, gradient: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(K,) mean over places of d logit / d map, from one image's values and the head's gradient (D,)."""
        beside = {item.name for item in self.session.get_inputs()} - {place.name}
        values = found[place.name]  # (K, h, w) or (h, w, K)
        spatial = tuple(axis - 1 for axis in place.spatial)
        channel = 3 - sum(spatial)
        deviation = values.std(axis=spatial, dtype=np.float64)
        shifts = _SHIFT * np.maximum(deviation, 0.01 * max(float(values.std()), 1e-6))  # (K,)
        n, rows = len(shifts), max(1, _AT_ONCE // values.size)
        slopes = np.empty(n)
        for start in range(0, n, rows):
            part = np.arange(start, min(start + rows, n))
            moved = np.repeat(values[None], 2 * len(part), axis=0)  # (2R, ...)
            sides = np.moveaxis(moved, channel + 1, 1)
            sides[np.arange(len(part)), part] += shifts[part, None, None].astype(np.float32)
            sides[len(part) + np.arange(len(part)), part] -= shifts[part, None, None].astype(np.float32)
            feeds = {name: np.repeat(found[name][None], len(moved), axis=0) for name in beside}
            features = self._run({place.name: moved, **feeds}).astype(np.float64)
            slopes[part] = (features[: len(part)] - features[len(part) :]) @ gradient / (2 * shifts[part])
        mean: NDArray[np.float64] = slopes / np.prod([values.shape[axis] for axis in spatial])
        return mean

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            features: NDArray[np.float32] = self.session.run(["features"], dict(feeds))[0]
        except Exception as error:  # as above
            raise HeadwayError(f"this network cannot be explained: {first_line(error)}") from error
        return features

"""Which parts of an image speak for a class: Grad-CAM, or attention roll-out where a network has no map to pool.

Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2. Where the head reads the mean of a map over its
places, the gradient at each place is the head's by their number, so one more output of the bundle's graph is all that
it takes (of a linear head: CAM, Zhou et al. 2016, arXiv:1512.04150). Elsewhere the gradient comes from the part of the
graph behind the map (`shifting`). A head that reads several maps has its logit shared out over all of them (`Shares`).
Roll-out: Abnar and Zuidema 2020, arXiv:2005.00928. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.deployment.runtime import Runtime, run
from headway.explanation.graph import INPUT
from headway.explanation.head import Head
from headway.explanation.shifting import Tail

Method = Literal["grad-cam", "cam", "roll-out"]
MOST_WORK = 10**10  # bytes of weights read for one image (`Tail.cost`): a few tenths of a second
_FINEST = 28  # places a side on which maps of several sizes are added up


@dataclass(frozen=True)
class Explanation:
    """Where in an image the evidence for a class lies.

    label   the class, an index
    logits  (C,) float32, before temperature
    values  (h, w) float32 >= 0 on the network's own grid. Grad-CAM: in units of the logit, summed over the grid the
            part of it that these places bring; roll-out: shares of the attention, sum <= 1
    """

    label: int
    logits: NDArray[np.float32]
    values: NDArray[np.float32]

    def heat(self, size: int) -> NDArray[np.float32]:
        """(size, size) float32, 0..1: `values` by their largest, between places bicubic; all 0 where all are."""
        most = float(self.values.max())
        if not most > 0:
            return np.zeros((size, size), np.float32)
        scaled = Image.fromarray(self.values / most).resize((size, size), Image.Resampling.BICUBIC)
        heat: NDArray[np.float32] = np.clip(np.asarray(scaled), 0, 1)
        return heat


class Explainer(Protocol):
    """Explains answers of one bundle. method: how; tap: the map that is looked at, "" of roll-out."""

    @property
    def method(self) -> Method: ...
    @property
    def tap(self) -> str: ...
    def explain(self, images: NDArray[np.uint8], labels: Sequence[int | None]) -> list[Explanation]:
        """One for each of (B, S, S, 3) uint8 images from `prepare`. labels: indices, None = the most likely class.

        May be called from several threads. Raises HeadwayError where `images` are not of that kind.
        """
        ...


def is_quick(explainer: Explainer) -> bool:
    """Whether one image takes no more than a few tenths of a second; with some networks it is minutes."""
    tail = explainer.tail if isinstance(explainer, GradCam) else None
    return tail is None or tail.cost <= MOST_WORK


@dataclass(frozen=True)
class Map:
    """A value of the graph with channels and places. spatial: axes of a whole batch, (2, 3) or (1, 2)."""

    name: str
    spatial: tuple[int, int]

    def channels_first(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A batch of it as (B, K, h, w)."""
        return values if self.spatial == (2, 3) else np.moveaxis(values, 3, 1)


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM at one map. taps: of the head, in order, with their widths; means: taps that are the map's mean."""

    runtime: Runtime
    head: Head
    map: Map
    tap: str
    taps: tuple[tuple[str, int], ...]
    means: frozenset[str]
    tail: Tail | None
    method: Method = "grad-cam"

    def explain(self, images: NDArray[np.uint8], labels: Sequence[int | None]) -> list[Explanation]:
        """See `Explainer`."""
        beside = () if self.tail is None else self.tail.inputs
        found = run(self.runtime, images, tuple(dict.fromkeys(("logits", "features", self.map.name, *beside))))
        values: dict[str, NDArray[Any]] = {INPUT: images, **found}
        return [
            self._explain({name: value[row] for name, value in values.items()}, label)
            for row, label in enumerate(labels)
        ]

    def _explain(self, found: Mapping[str, NDArray[Any]], label: int | None) -> Explanation:
        logits, places = found["logits"], found[self.map.name]
        label = int(logits.argmax()) if label is None else label
        gradient = self.head.gradient(found["features"], label)  # (D,)
        places = self.map.channels_first(places[None])[0].astype(np.float64)  # (K, h, w)
        if self.tail is None:
            weights = self._pooled(gradient) / places[0].size
        else:
            weights = self.tail.mean_gradient(found, self.map, gradient)
        values = np.maximum(np.tensordot(weights, places, 1), 0)  # equation 2
        return Explanation(label, logits, values.astype(np.float32))

    def _pooled(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """(D,) → (K,): the gradient of the map's mean."""
        starts = np.cumsum([0, *(width for _, width in self.taps)])
        parts = [
            gradient[start : start + width]
            for start, (name, width) in zip(starts, self.taps, strict=False)
            if name in self.means
        ]
        total: NDArray[np.float64] = np.sum(parts, axis=0)
        return total


@dataclass(frozen=True)
class Part:
    """A group of the head's columns, `width` of them: the mean of the channels of a map, or else their deviation."""

    map: Map
    width: int
    mean: bool


@dataclass(frozen=True)
class Shares:
    """The logit shared out over the places of every map that the head reads: class activation mapping of them all.

    A mean is shared out as CAM does it, a deviation by the squares that it is made of. Of a linear head the shares sum
    to the logit without its bias, before negative ones are left out.
    """

    runtime: Runtime
    head: Head
    parts: tuple[Part, ...]
    tap: str = "all"
    method: Method = "cam"

    def explain(self, images: NDArray[np.uint8], labels: Sequence[int | None]) -> list[Explanation]:
        """See `Explainer`."""
        names = dict.fromkeys(("logits", "features", *(part.map.name for part in self.parts)))
        found = run(self.runtime, images, tuple(names))
        explained = []
        for row, label in enumerate(labels):
            logits = found["logits"][row]
            chosen = int(logits.argmax()) if label is None else label
            shares = self.shares({name: values[row] for name, values in found.items()}, chosen)
            explained.append(Explanation(chosen, logits, np.maximum(shares, 0).astype(np.float32)))
        return explained

    def shares(self, found: Mapping[str, NDArray[np.float32]], label: int) -> NDArray[np.float64]:
        """One image's features and maps → (h, w), what each place adds to the logit of `label`."""
        gradient, start = self.head.gradient(found["features"], label), 0
        grids = []
        for part in self.parts:
            places = part.map.channels_first(found[part.map.name][None])[0].astype(np.float64)  # (K, h, w)
            weights, n = gradient[start : start + part.width], places[0].size
            start += part.width
            if not part.mean:
                deviation = places.std((1, 2))
                places = (places - places.mean((1, 2), keepdims=True)) ** 2
                weights = np.divide(weights, deviation, out=np.zeros_like(weights), where=deviation > 0)
            grids.append(np.tensordot(weights / n, places, 1))
        side = min(_FINEST, max(len(grid) for grid in grids))
        return np.sum([_resized(grid, side) for grid in grids], axis=0)  # type: ignore[no-any-return]  # an array


def _resized(grid: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Shares on another grid, their sum as it was."""
    if len(grid) == side:
        return grid
    scaled = Image.fromarray(grid.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(scaled, np.float64) * (grid.size / side**2)
    moved: NDArray[np.float64] = values + (grid.sum() - values.sum()) / values.size
    return moved


@dataclass(frozen=True)
class RollOut:
    """Attention through all layers. layers: values (B, heads, N, N); pooled: the head reads the mean of all places."""

    runtime: Runtime
    layers: tuple[str, ...]
    side: int
    pooled: bool
    tap: str = ""
    method: Method = "roll-out"

    def explain(self, images: NDArray[np.uint8], labels: Sequence[int | None]) -> list[Explanation]:
        """See `Explainer`. The map is the same for every class."""
        found = run(self.runtime, images, ("logits", *self.layers))
        explained = []
        for row, label in enumerate(labels):
            logits = found["logits"][row]
            values = self._rolled([found[layer][row] for layer in self.layers])
            explained.append(Explanation(int(logits.argmax()) if label is None else label, logits, values))
        return explained

    def _rolled(self, layers: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Attention (heads, N, N) of each layer → (h, w): how much of each place reaches what the head reads."""
        through = np.eye(layers[0].shape[-1])
        for layer in layers:
            mixed = layer.astype(np.float64).mean(axis=0) + np.eye(len(through))  # the residual path beside it
            through = mixed / mixed.sum(axis=1, keepdims=True) @ through
        first = len(through) - self.side**2  # class token and registers come before the places
        row = through[first:].mean(axis=0) if self.pooled or not first else through[0]
        places: NDArray[np.float32] = row[first:].reshape(self.side, self.side).astype(np.float32)
        return places

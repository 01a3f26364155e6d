"""Where each map lies while images go through the network, and how many go through together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headway.backbones.native.layers import Kind, Network
from headway.backbones.native.packing import Lanes, Weights

_BAND = 1 << 14  # numbers of a band of rows between an expansion and the depthwise convolution after it: 64 KB
_MOST = 1 << 28  # bytes of maps of one core; fewer images a call where they would take more


@dataclass(frozen=True)
class Span:
    """Steps from `start` up to `stop`, which `group` images go through before the next images do."""

    start: int
    stop: int
    group: int


@dataclass(frozen=True)
class Border:
    """Pixels of zeros around a map, which kernels see and no one writes to."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def around(self, other: Border) -> Border:
        """As wide as either on every side."""
        most = (max(self.top, other.top), max(self.left, other.left))
        return Border(*most, max(self.bottom, other.bottom), max(self.right, other.right))


@dataclass(frozen=True)
class Place:
    """The extent of a map in memory: `images` of it, channels filled up to whole registers.

    whole  it holds every image of a call; else those of a group
    slot   number of the piece of memory; only maps that are alike in all of this share one, one after the other, so
           that borders stay zero
    """

    height: int
    width: int
    channels: int
    border: Border
    images: int
    whole: bool
    slot: int = 0

    @property
    def row(self) -> int:
        """Numbers from a row to the next."""
        return (self.border.left + self.width + self.border.right) * self.channels

    @property
    def image(self) -> int:
        """Numbers from an image to the next."""
        return (self.border.top + self.height + self.border.bottom) * self.row

    @property
    def first(self) -> int:
        """Numbers before the first pixel."""
        return self.border.top * self.row + self.border.left * self.channels


@dataclass(frozen=True)
class Memory:
    """Spans of steps, a place for each map, and how many images a call may bring."""

    spans: tuple[Span, ...]
    places: tuple[Place, ...]
    part: int

    def slots(self) -> dict[int, Place]:
        """One place of each slot."""
        return {place.slot: place for place in self.places}

    def bytes(self) -> int:
        """What the maps take, for one core."""
        return sum(4 * place.image * place.images for place in self.slots().values())


def memory_of(network: Network, weights: Weights, lanes: Lanes, part: int) -> Memory:
    """The memory for as many images a call as fit, up to `part`: weights of late layers are read once for all."""
    spans = spans_of(network, weights, lanes, part)
    found = Memory(spans, _places(network, spans, part, lanes), part)
    return found if found.bytes() <= _MOST or part == 1 else memory_of(network, weights, lanes, part // 2)


def spans_of(network: Network, weights: Weights, lanes: Lanes, part: int) -> tuple[Span, ...]:
    """Where maps are larger than weights, one image at a time goes on: its maps stay in the cache. Where weights are
    larger, so many together that these are not read again for each.
    """
    spans: list[Span] = []
    group, followers = 1, 0
    for at, (step, (values, _)) in enumerate(zip(network.steps, weights, strict=True)):
        maps = (network.maps[number] for number in (step.source, step.target))
        numbers = sum(shape.height * shape.width * lanes.filled(shape) for shape in maps)
        while not followers and group * 2 <= min(part, values.size // numbers):
            group *= 2
        if spans and spans[-1].group == group:
            spans[-1] = Span(spans[-1].start, at + 1, group)
        else:
            spans.append(Span(at, at + 1, group))
        followers = max(step.followers, followers - 1)
    return tuple(spans)


def _borders(network: Network) -> list[Border]:
    """What each map needs around it. Winograd's way and the largest of a window look at the edges themselves."""
    borders = [Border() for _ in network.maps]
    for step in network.steps:
        if step.kind in (Kind.DENSE, Kind.EXPAND, Kind.BLOCK, Kind.DEPTHWISE):
            kernel, source, target = step.kernel, network.maps[step.source], network.maps[step.target]
            bottom = (target.height - 1) * kernel.stride + kernel.height - kernel.top - source.height
            right = (target.width - 1) * kernel.stride + kernel.width - kernel.left - source.width
            needed = Border(kernel.top, kernel.left, max(bottom, 0), max(right, 0))
            borders[step.source] = borders[step.source].around(needed)
    return borders


def _places(network: Network, spans: Sequence[Span], part: int, lanes: Lanes) -> tuple[Place, ...]:
    """A slot is free again after the last step that reads it; a map that is used in two spans holds all images."""
    span_at = [span for span in spans for _ in range(span.start, span.stop)]
    born, last = _lives(network)
    borders = _borders(network)
    places: dict[int, Place] = {}
    free: dict[Place, list[int]] = defaultdict(list)  # by what is alike
    dying: dict[int, list[int]] = defaultdict(list)
    for number, end in last.items():
        dying[end].append(number)
    slots = 0
    for at, step in enumerate(network.steps):
        number, shape = step.target, network.maps[step.target]
        if born[number] == at:
            whole = last[number] >= len(network.steps) or span_at[last[number]] != span_at[at]
            images = part if whole else span_at[at].group
            alike = Place(shape.height, shape.width, lanes.filled(shape), borders[number], images, whole)
            if step.followers:
                alike = _expanded(network, at, borders, lanes)
            elif at and network.steps[at - 1].kind == Kind.BLOCK:
                alike = replace(alike, height=_band(network, at - 1, borders, lanes), images=1)
            slot = free[alike].pop() if free[alike] else (slots := slots + 1)
            places[number] = replace(alike, slot=slot)
        for gone in dying[at]:
            free[replace(places[gone], slot=0)].append(places[gone].slot)
    return tuple(places[number] for number in range(len(network.maps)))


def _band(network: Network, at: int, borders: Sequence[Border], lanes: Lanes) -> int:
    """Rows that the depthwise convolution after step `at` gives at a time."""
    expanded, after = network.steps[at].target, network.steps[at + 1]
    row = (borders[expanded].left + network.maps[expanded].width + borders[expanded].right) * lanes.panel
    rows = (_BAND // row - after.kernel.height) // after.kernel.stride + 1
    return max(1, min(network.maps[after.target].height, rows))


def _expanded(network: Network, at: int, borders: Sequence[Border], lanes: Lanes) -> Place:
    """What stands between step `at` and the depthwise convolution after it: panel after panel of channels, the rows
    that a band of its results sees."""
    number, kernel = network.steps[at].target, network.steps[at + 1].kernel
    sides, shape = Border(left=borders[number].left, right=borders[number].right), network.maps[number]
    band = _band(network, at, borders, lanes)
    one = band >= network.maps[network.steps[at + 1].target].height  # one band: the next panel may use its memory
    panels = 1 if one else -(-lanes.filled(shape) // lanes.panel)
    return Place((band - 1) * kernel.stride + kernel.height, shape.width, lanes.panel, sides, panels, False)


def _lives(network: Network) -> tuple[dict[int, int], dict[int, int]]:
    """For each map the step that writes it, and the last that reads it: one after all of them for an output."""
    born: dict[int, int] = {}
    last: dict[int, int] = {}
    for at, step in enumerate(network.steps):
        born.setdefault(step.target, at)
        last.setdefault(step.target, at)
        for number in step.sources():
            last[number] = at + step.followers  # which read rows of it, band after band
    return born, last | dict.fromkeys(network.outputs.values(), len(network.steps))

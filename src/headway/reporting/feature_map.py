"""The feature map as a picture: marks by class and by answer, from map.json and the thumbnails alone.

Every class has a path of its own for its right and for its wrong answers, so the CSS colours them by class or by
answer, and a page of 2,000 images stays small. What the pointer shows is in one block of JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.errors import HeadwayError
from headway.reporting.records import Run, read_object
from headway.reporting.svg import Safe, element, picture, short
from headway.reporting.text import count, data_address, is_number, number, shortened, shown

COLOURS = 8  # that the CSS knows; up to so many classes each has its own
_CONFUSED = 6  # of more classes, so many have one: those most often taken for each other
_WIDTH, _EDGE = 480.0, 14.0  # of a map, in units of its own
_SHORTEST, _TALLEST = 260.0, 520.0
_MOST_PICTURES, _MOST_BYTES = 300, 1_200_000  # thumbnails, and all of them as text
_LETTER, _LINE = 6.6, 15.0  # room that a letter and a line of a name take
_NAMES = {
    "pca": "widest axes",
    "discriminant": "classes apart",
    "umap": "neighbours (UMAP)",
}
# By the place of a class among those with a colour: a disc is a line of no length with a round end.
_SHAPES = ("h0", "m0-3.4l3.2 5.6h-6.4z", "m-2.5-2.5h5v5h-5z", "m0-3.6l3.6 3.6l-3.6 3.6l-3.6-3.6z")
_RING = "m-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0"


@dataclass(frozen=True)
class View:
    """One way to lay images out. `first`: whether it is the one that is shown before anything is chosen."""

    key: str
    name: str
    first: bool
    figure: Safe
    caption: str


@dataclass(frozen=True)
class FeatureMap:
    """What the section shows.

    key      (class of the CSS, name of the class, how many) of each class with a colour of its own
    swatches the mark of each of them;  ring  what a mistake has around it
    classes  the names of all classes
    data     what the script reads, as JSON that may stand in a script element
    """

    sentence: str
    views: tuple[View, ...]
    key: tuple[tuple[str, str, str], ...]
    swatches: tuple[Safe, ...]
    others: str
    right: str
    wrong: str
    ring: str
    classes: tuple[str, ...]
    data: Safe


def feature_map(run: Run) -> FeatureMap | None:
    """None where the run has no map.json. Raises HeadwayError where it is damaged."""
    path = run.folder / "map.json"
    if not path.is_file():
        return None
    value = read_object(path)
    try:
        return _drawn(value, run.thumbnails)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise HeadwayError(f"{path} is damaged ({error!r}). Make it again: headway fit") from error


def _drawn(value: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> FeatureMap | None:
    labels, predicted, classes = value["labels"], value["predicted"], value["classes"]
    if not len(value["names"]) == len(labels) == len(predicted) == len(value["probabilities"]) > 0:
        raise ValueError("its columns differ in length")
    if not {*labels, *predicted} <= set(range(len(classes))):
        raise ValueError("a label is not the number of a class")
    colours = _colours(labels, predicted, len(classes))
    best = max(value["views"].values(), key=lambda view: view["agreement"])
    views, places = [], {}
    for key, view in value["views"].items():
        spots, height = _fitted(view["places"])
        places[key] = spots
        figure = _figure(value, (spots, height), colours)
        views.append(View(key, _NAMES.get(key, key), view is best, figure, _caption(key, view, value)))
    sizes, right = Counter(labels), sum(label == said for label, said in zip(labels, predicted, strict=True))
    return FeatureMap(
        sentence=_sentence(value),
        views=tuple(views),
        key=tuple((f"kind{colour}", str(classes[c]), count(sizes[c])) for c, colour in colours.items()),
        swatches=tuple(element("path", class_=_mark(c, colours), d=f"M0 0{_shape(c, colours)}") for c in colours),
        right=count(right),
        wrong=count(len(labels) - right),
        ring=_RING,
        others=f"{count(len(classes) - len(colours))} other classes" if len(classes) > len(colours) else "",
        classes=tuple(str(name) for name in classes),
        data=_data(value, places, thumbnails),
    )


def _colours(labels: Sequence[int], predicted: Sequence[int], n_classes: int) -> dict[int, int]:
    """class → its colour: of every class where there are enough of them, else of those most often confused."""
    if n_classes <= COLOURS:
        return {number: number for number in range(n_classes)}
    pairs = Counter((label, said) for label, said in zip(labels, predicted, strict=True) if label != said)
    chosen: list[int] = []
    for (label, said), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        chosen += [name for name in (label, said) if name not in chosen]
        if len(chosen) >= _CONFUSED:
            break
    return {name: colour for colour, name in enumerate(chosen[:_CONFUSED])}


def _fitted(places: Sequence[Sequence[float]]) -> tuple[list[tuple[float, float]], float]:
    """Places in units of the figure, both axes to one scale, and the height that they take."""
    xs, ys = [float(x) for x, _ in places], [float(y) for _, y in places]
    if not all(is_number(value) for value in (*xs, *ys)):
        raise ValueError("a place is no number")
    wide, high = max(max(xs) - min(xs), 1e-9), max(max(ys) - min(ys), 1e-9)
    room = _WIDTH - 2 * _EDGE
    scale = min(room / wide, (_TALLEST - 2 * _EDGE) / high)
    height = max(_SHORTEST, scale * high + 2 * _EDGE)
    left, top = (_WIDTH - scale * (max(xs) + min(xs))) / 2, (height + scale * (max(ys) + min(ys))) / 2
    return [(round(left + scale * x, 1), round(top - scale * y, 1)) for x, y in zip(xs, ys, strict=True)], height


def _shape(label: int, colours: Mapping[int, int]) -> str:
    return _SHAPES[colours.get(label, 0) % len(_SHAPES)]


def _mark(label: int, colours: Mapping[int, int]) -> str:
    """The classes of the CSS that colour and draw a mark."""
    kind = f"kind{colours[label]}" if label in colours else "kindless"
    return f"mark {kind}{' disc' if _shape(label, colours) == _SHAPES[0] else ''}"


def _figure(
    value: Mapping[str, Any], laid: tuple[list[tuple[float, float]], float], colours: Mapping[int, int]
) -> Safe:
    """Grey classes below those with a colour, right answers below wrong ones with their rings, names on top."""
    (spots, height), labels, predicted = laid, value["labels"], value["predicted"]
    paths: dict[tuple[bool, bool, int], list[str]] = {}  # by whether it has a colour, is wrong, and by class
    rings: dict[bool, list[str]] = {False: [], True: []}
    for (x, y), label, said in zip(spots, labels, predicted, strict=True):
        move, wrong, coloured = f"M{short(x)} {short(y)}", label != said, label in colours
        paths.setdefault((coloured, wrong, label), []).append(move + _shape(label, colours))
        if wrong:
            rings[coloured].append(move + _RING)
    marks = []
    for layer in (False, True):
        for coloured, wrong, label in sorted(paths):
            if coloured == layer:
                class_ = f"{_mark(label, colours)}{' wrong' if wrong else ''} of{label}"
                marks.append(element("path", class_=class_, d="".join(paths[coloured, wrong, label])))
        if rings[layer]:
            marks.append(element("path", class_="rings" if layer else "rings faint", d="".join(rings[layer])))
    label = (
        f"Feature map of {count(len(spots))} images: each mark is an image, those with like features lie together. "
        "Marks with a ring were answered wrongly."
    )
    names = _names(spots, labels, value["classes"], colours)
    here = element("circle", class_="here", r=8, cx=-99, cy=-99)
    return picture(label, _WIDTH, round(height, 1), *marks, *names, here, class_="picture map-picture")


def _names(
    spots: Sequence[tuple[float, float]], labels: Sequence[int], classes: Sequence[Any], colours: Mapping[int, int]
) -> list[Safe]:
    """The names of coloured classes, each in the middle of its images, moved down where they would touch."""
    found = []
    for label, colour in colours.items():
        own = [spot for spot, of in zip(spots, labels, strict=True) if of == label]
        if own:
            xs, ys = sorted(x for x, _ in own), sorted(y for _, y in own)
            found.append((ys[len(ys) // 2], xs[len(xs) // 2], shortened(classes[label], 16), colour))
    taken: list[tuple[float, float, float]] = []
    drawn = []
    for y, x, text, colour in sorted(found):
        half = min(_LETTER * len(text) / 2, _WIDTH / 2)
        middle = min(max(x, half), _WIDTH - half)
        while any(abs(middle - at) < half + wide and abs(y - line) < _LINE for at, line, wide in taken):
            y += 3
        taken.append((middle, y, half))
        place = {"x": round(middle, 1), "y": round(y + 4, 1)}
        drawn.append(element("text", text, class_=f"map-name kind{colour}", text_anchor="middle", **place))
    return drawn


def _sentence(value: Mapping[str, Any]) -> str:
    words = {"test": "test", "val": "validation"}.get(value["subset"], "")
    n, of = value["n"], value["of"]
    some = f"{count(n)} of {count(of)} {words} images, shared out evenly among the classes"
    which = f"The {count(n)} {words} images" if n == of else some
    return (
        f"{which}, laid out by what the network sees in them: {count(value['width'])} features an image, of which a "
        "map keeps two numbers. Mistakes have a ring."
    )


def _caption(key: str, view: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    held = sum(view["held"])
    if key == "discriminant" and len(value["classes"]) == 2:
        key = "two"
    how = {
        "pca": f"The two axes along which training images vary most: they hold {_percent(held)} of the variance of "
        "all features, so images that lie together here may differ in the rest.",
        "discriminant": "The plane that sets the classes of the training images apart most: it holds "
        f"{_percent(held)} of what does. It was chosen by labels, but not by those of these images.",
        "two": "From left to right, what sets the classes of the training images apart most; up and down, their widest "
        "axis without that. It was chosen by labels, but not by those of these images.",
        "umap": "UMAP keeps near images near. Sizes of groups, and distances between them, mean nothing.",
    }.get(key, "")
    k = value["neighbours"]
    which = "the nearest neighbour" if k == 1 else f"the {k} nearest neighbours"
    return (
        f"{how} Of {which} of an image in this map, a share of {number(view['agreement'], 2)} has its class; among all "
        f"features {number(value['features'], 2)}, by chance {number(value['chance'], 2)}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _data(value: Mapping[str, Any], places: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Safe:
    """The JSON that the script reads; no character of it ends the element that it stands in."""
    room, pictures = _MOST_BYTES, list[str]()
    wrong = [label != said for label, said in zip(value["labels"], value["predicted"], strict=True)]
    kept: dict[int, int] = {}
    for row in sorted(range(len(wrong)), key=lambda row: not wrong[row]):  # mistakes first
        jpeg = thumbnails.get(value["names"][row])
        if jpeg and len(jpeg) * 4 / 3 < room and len(pictures) < _MOST_PICTURES:
            room -= len(jpeg) * 4 // 3
            kept[row] = len(pictures)
            pictures.append(str(data_address(jpeg)))
    data = {
        "names": [shown(name) for name in value["names"]],
        "classes": [shown(name) for name in value["classes"]],
        "labels": value["labels"],
        "predicted": value["predicted"],
        "sure": [number(share, 2) for share in value["probabilities"]],
        "places": list(places.values()),
        "picture": [kept.get(row, -1) for row in range(len(wrong))],
        "pictures": pictures,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return Safe(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))

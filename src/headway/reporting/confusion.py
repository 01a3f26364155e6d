"""Who is taken for whom: the confusion matrix, the images behind its cells, the pairs most often confused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting import figures
from headway.reporting.records import Run
from headway.reporting.svg import Safe
from headway.reporting.text import count, data_address, number

MOST_PAIRS = 15
MOST_OF_A_BLOCK = 20  # classes of the cut-out, where there are too many for a whole matrix
MOST_BYTES = 2_000_000  # of thumbnails behind cells, before base64 makes them a third larger

Counts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Pair:
    """Images of class `true` that were called `said`: `times` of `n`; `link` leads to their images, else is empty."""

    true: str
    said: str
    times: str
    n: str
    link: str


@dataclass(frozen=True)
class Shot:
    """One image behind a cell; `picture` is a data: address or None."""

    name: str
    probability: str
    picture: str | None


@dataclass(frozen=True)
class Behind:
    """What is shown of one cell: `n` images of class `true`, of which there are `of`, were called `said`."""

    key: str
    true: str
    said: str
    right: bool
    n: str
    of: str
    shots: tuple[Shot, ...]
    whole: bool


@dataclass(frozen=True)
class Confusion:
    """`matrix` is of all classes, or of those most confused, and then `whole` is the heat map of all of them.

    part  where the matrix is a cut-out: what it holds, in words
    """

    matrix: Safe
    whole: Safe | None
    part: str
    pairs: tuple[Pair, ...]
    cells: tuple[Behind, ...]


def confusion(run: Run, counts: Counts) -> Confusion | None:
    """The confusion matrix `counts` (C, C) of the run's classes; None where there is none that fits them."""
    classes = [str(name) for name in run.evaluation.get("classes") or ()]
    if not counts or len(counts) != len(classes):
        return None
    cells = tuple(_cells(run, counts, classes))
    links = {cell.key: f"#{cell.key}" for cell in cells}
    many = len(classes) > figures.LARGEST_MATRIX
    chosen = most_confused(counts) if many else list(range(len(classes)))
    block = [[counts[row][column] for column in chosen] for row in chosen]
    places = ((i, j, _key(row, column)) for i, row in enumerate(chosen) for j, column in enumerate(chosen))
    matrix = figures.confusion_matrix(
        block,
        [classes[index] for index in chosen],
        sizes=[sum(counts[index]) for index in chosen],
        links={(i, j): links[key] for i, j, key in places if key in links},
    )
    return Confusion(
        matrix=matrix,
        whole=figures.heat_map(counts, classes) if many else None,
        part=_part(counts, block) if many else "",
        pairs=tuple(_pairs(counts, classes, links)) if len(classes) > 6 else (),
        cells=cells,
    )


def _key(row: int, column: int) -> str:
    return f"cell-{row + 1}-{column + 1}"


def most_confused(counts: Counts, most: int = MOST_OF_A_BLOCK) -> list[int]:
    """The classes of the largest pairs of cells beside the diagonal, each beside the one that it is confused with."""
    n = len(counts)
    pairs = [(-counts[i][j] - counts[j][i], i, j) for i in range(n) for j in range(i + 1, n)]
    chosen: list[int] = []
    for _, i, j in sorted(pair for pair in pairs if pair[0]):
        new = [index for index in (i, j) if index not in chosen]
        if len(chosen) + len(new) > most:
            break
        known = i if j in new else j
        place = chosen.index(known) + 1 if len(new) == 1 else len(chosen)
        chosen[place:place] = new
    return chosen or list(range(min(n, most)))


def _part(counts: Counts, block: Counts) -> str:
    wrong, inside = (
        sum(value for i, row in enumerate(part) for j, value in enumerate(row) if i != j) for part in (counts, block)
    )
    return (
        f"The {len(block)} of {count(len(counts))} classes that are most often taken for each other: "
        f"{count(inside)} of {count(wrong)} mistakes lie among them."
    )


def _cells(run: Run, counts: Counts, classes: Sequence[str]) -> Iterator[Behind]:
    """The cells whose images the run kept, as they come, until their bytes are spent: the rest has names alone."""
    place = {name: index for index, name in enumerate(classes)}
    left = MOST_BYTES
    for cell in run.evaluation.get("cells") or ():
        row, column = place.get(str(cell.get("label"))), place.get(str(cell.get("predicted")))
        if row is None or column is None:
            continue
        shots = []
        for image in cell.get("images") or ():
            jpeg = run.thumbnails.get(str(image.get("name")), b"")
            left -= len(jpeg)
            shots.append(_shot(image, jpeg if left >= 0 else b""))
        n = counts[row][column]
        yield Behind(
            key=_key(row, column),
            true=classes[row],
            said=classes[column],
            right=row == column,
            n=count(n),
            of=count(sum(counts[row])),
            shots=tuple(shots),
            whole=len(shots) >= n,
        )


def _shot(image: Mapping[str, Any], jpeg: bytes) -> Shot:
    return Shot(str(image.get("name")), number(image.get("probability"), 2), data_address(jpeg))


def _pairs(counts: Counts, classes: Sequence[str], links: Mapping[str, str]) -> Iterator[Pair]:
    wrong = [
        (-times, row, column)
        for row, of_row in enumerate(counts)
        for column, times in enumerate(of_row)
        if times and row != column
    ]
    for times, row, column in sorted(wrong)[:MOST_PAIRS]:
        link = links.get(_key(row, column), "")
        yield Pair(classes[row], classes[column], count(-times), count(sum(counts[row])), link)

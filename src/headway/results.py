"""What a finished run writes down: evaluation.json, predictions.csv, thumbnails.parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data import arrow
from headway.data.dataset import SUBSETS, Dataset, FarSource
from headway.data.images import BadImage, decode
from headway.evaluation.evaluation import Evaluation
from headway.evaluation.metrics import Scores, score, softmax, worst_mistakes

MOST_MISTAKES = 24
MOST_SURE = 12
MOST_BEHIND = 400  # images behind the cells of a confusion matrix, all cells together
MOST_RIGHT = 100  # of them images that were named right
_MOST_OF_A_CELL, _FEWEST_OF_A_CELL = 8, 4
_THUMBNAIL = 128  # pixels, the longer side
_READERS, _FAR_READERS = 2, 16  # threads that make thumbnails; where each read is a request, most of them wait


@dataclass(frozen=True)
class Judged:
    """The logits of some samples of one subset. indices (n,), logits (n, C) before temperature."""

    subset: int
    indices: NDArray[np.intp]
    logits: NDArray[np.float32]


PREDICTION_COLUMNS = ("name", "subset", "label", "predicted", "probability", "probability_of_label")


def prediction_rows(dataset: Dataset, judged: Sequence[Judged], temperature: float) -> Iterator[Sequence[object]]:
    """One row for each validation, test and unlabelled image, in the order of PREDICTION_COLUMNS."""
    for part in judged:
        probabilities = softmax(part.logits, temperature)  # (n, C)
        predicted = probabilities.argmax(axis=1)
        for row, index in enumerate(part.indices.tolist()):
            label = int(dataset.labels[index])
            own = f"{probabilities[row, label]:.6f}" if label >= 0 else ""
            yield (
                dataset.names[index],
                SUBSETS[part.subset],
                dataset.classes[label] if label >= 0 else "",
                dataset.classes[predicted[row]],
                f"{probabilities[row, predicted[row]]:.6f}",
                own,
            )


def told_mistakes(dataset: Dataset, judged: Judged, temperature: float) -> list[dict[str, Any]]:
    """The test images whose own label got least probability among those that were mistaken, worst first."""
    scores = score(judged.logits, dataset.labels[judged.indices], temperature)
    return [_told(dataset, judged, scores, row) for row in worst_mistakes(scores, MOST_MISTAKES).tolist()]


def told_surest(
    dataset: Dataset, judged: Judged, temperature: float, told: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The test images of whose wrong answer the classifier was surest, beyond those that are `told` already."""
    scores = score(judged.logits, dataset.labels[judged.indices], temperature)
    known = {mistake["name"] for mistake in told}
    wrong = np.flatnonzero(~scores.right)
    order = wrong[np.argsort(-scores.confidence[wrong], kind="stable")][: MOST_SURE + len(known)].tolist()
    found = (_told(dataset, judged, scores, row) for row in order)
    return [mistake for mistake in found if mistake["name"] not in known][:MOST_SURE]


def _told(dataset: Dataset, judged: Judged, scores: Scores, row: int) -> dict[str, Any]:
    return {
        "name": dataset.names[judged.indices[row]],
        "label": dataset.classes[dataset.labels[judged.indices[row]]],
        "predicted": dataset.classes[scores.predicted[row]],
        "probability": float(scores.confidence[row]),
        "probability_of_label": float(np.exp(-scores.loss[row])),
    }


def told_cells(dataset: Dataset, judged: Judged, temperature: float) -> list[dict[str, Any]]:
    """The test images that stand behind cells of the confusion matrix, as many as a report shows.

    First cells of wrong answers, those with most images first, in each the surest answers first; then the diagonal, the
    classes with most mistakes first, in each the least sure. At most MOST_BEHIND images, MOST_RIGHT of them right.
    """
    labels = dataset.labels[judged.indices]
    scores = score(judged.logits, labels, temperature)
    cells: dict[tuple[int, int], list[int]] = {}
    for row in np.argsort(-scores.confidence, kind="stable").tolist():
        cells.setdefault((int(labels[row]), int(scores.predicted[row])), []).append(row)
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: (-len(cells[cell]), cell))
    mistaken = np.bincount(labels[~scores.right], minlength=len(dataset.classes))
    right = sorted((cell for cell in cells if cell[0] == cell[1]), key=lambda cell: (-mistaken[cell[0]], cell))
    least_sure = {cell: cells[cell][::-1] for cell in right}
    chosen = [*_shared_out({cell: cells[cell] for cell in wrong}, MOST_BEHIND - MOST_RIGHT, _FEWEST_OF_A_CELL)]
    chosen += _shared_out(least_sure, MOST_RIGHT, 1)
    return [
        {
            "label": dataset.classes[label],
            "predicted": dataset.classes[said],
            "n": len(cells[label, said]),
            "images": [
                {"name": dataset.names[judged.indices[row]], "probability": float(scores.confidence[row])}
                for row in rows
            ],
        }
        for (label, said), rows in chosen
    ]


def _shared_out(
    cells: Mapping[tuple[int, int], list[int]], most: int, fewest: int
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """The first images of each cell, `most` in all: the more cells, the fewer of each, down to `fewest`."""
    n, left = min(_MOST_OF_A_CELL, max(fewest, most // max(1, len(cells)))), most
    for cell, rows in cells.items():
        if left > 0:
            yield cell, rows[: min(n, left)]
        left -= min(n, len(rows))


def write_thumbnails(path: Path, dataset: Dataset, names: Sequence[str]) -> None:
    """Small JPEGs of the samples `names` as Parquet (name, jpeg), so that the report needs no image folder."""
    wanted = set(names)
    index_of = {name: index for index, name in enumerate(dataset.names) if name in wanted}
    order = sorted(index_of.values())  # neighbours in one file are read together
    readers = _FAR_READERS if isinstance(dataset.source, FarSource) else _READERS
    with ThreadPoolExecutor(readers, "headway-thumbnails") as pool:
        made = dict(zip(order, pool.map(partial(_thumbnail, dataset), order), strict=True))
    write_pictures(path, {name: made[index_of[name]] for name in names if name in index_of})


def write_pictures(path: Path, pictures: Mapping[str, bytes]) -> None:
    """Name of a sample → JPEG, as Parquet (name, jpeg), whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            # Names that are no text (odd bytes in a file name) are kept as the bytes they are on the disk.
            "name": arrow.blobs([name.encode("utf-8", "surrogateescape") for name in pictures]),
            "jpeg": arrow.blobs(list(pictures.values())),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    files.write_bytes(path, sink.getvalue())


def _thumbnail(dataset: Dataset, index: int) -> bytes:
    try:
        image = decode(dataset.source.read(index), dataset.names[index], shortest=_THUMBNAIL).image
    except (BadImage, OSError):
        return b""  # it was readable in the pass; the report shows the mistake without its picture
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def suggestion(test: Evaluation) -> str | None:
    """What the test says of itself: that it is small. What would help is told from validation images (`advising`)."""
    low, high = test.interval
    if high - low > 0.1:
        return f"the test is small: {test.n} images leave accuracy between {low:.3f} and {high:.3f}; label more"
    return None

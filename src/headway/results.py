"""What a finished run writes down: evaluation.json, predictions.csv, thumbnails.parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data.dataset import SUBSETS, Dataset
from headway.data.images import BadImage, decode
from headway.evaluation.evaluation import Evaluation
from headway.evaluation.metrics import score, softmax, worst_mistakes

MOST_MISTAKES = 24
_THUMBNAIL = 96  # pixels, the longer side


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
    labels = dataset.labels[judged.indices]
    scores = score(judged.logits, labels, temperature)
    return [
        {
            "name": dataset.names[judged.indices[row]],
            "label": dataset.classes[labels[row]],
            "predicted": dataset.classes[scores.predicted[row]],
            "probability": float(scores.confidence[row]),
            "probability_of_label": float(np.exp(-scores.loss[row])),
        }
        for row in worst_mistakes(scores, MOST_MISTAKES).tolist()
    ]


def write_thumbnails(path: Path, dataset: Dataset, names: Sequence[str]) -> None:
    """Small JPEGs of the samples `names` as Parquet (name, jpeg), so that the report needs no image folder."""
    wanted = set(names)
    index_of = {name: index for index, name in enumerate(dataset.names) if name in wanted}
    write_pictures(path, {name: _thumbnail(dataset, index_of[name]) for name in names if name in index_of})


def write_pictures(path: Path, pictures: Mapping[str, bytes]) -> None:
    """Name of a sample → JPEG, as Parquet (name, jpeg), whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            # Names that are no text (odd bytes in a file name) are kept as the bytes they are on the disk.
            "name": pa.array([name.encode("utf-8", "surrogateescape") for name in pictures], pa.binary()),
            "jpeg": pa.array(list(pictures.values()), pa.binary()),
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

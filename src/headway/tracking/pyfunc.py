"""What mlflow calls to open a bundle and predict with it. Its name stands in every model that was saved."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.confidence import Levels, check_levels
from headway.deployment.predictor import Item, Prediction, predict
from headway.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "image"
_LONGEST_PATH = 4096  # letters; an image in base64 is longer


class BundleModel:
    """A bundle behind mlflow's `predict`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One row for each image: label, probability (0..1), probabilities (class → probability), error.

        model_input  with a column "image": bytes of an image file, those bytes in base64, or the path of a file that
                     this process can read. mlflow's server makes bytes of whatever comes in, so it opens no path
        params       coverage and unknown as of `Bundle.predict`, 0 = not asked for: columns "set" (classes), "unknown"
                     (is it unlike all that was learnt from) and "strangeness" (0..1, small = strange)

        An image that cannot be read has a row with `error` and without a label; no other row depends on it. Raises
        MlflowException where the column is missing, or the bundle cannot promise what `params` ask for.
        """
        import pandas as pd

        asked = {name: float((params or {}).get(name) or 0.0) or None for name in ("coverage", "unknown")}
        levels = Levels(asked["coverage"], asked["unknown"])
        try:
            check_levels(self.bundle.confidence, levels, self.bundle.path)
            values = _values(model_input)
        except Refused as error:
            raise _told(error) from None
        items = [Item(f"image {number}", read(value)) for number, value in enumerate(values, 1)]
        rows = [
            _row(answer, levels) for answer in predict(self.bundle, items, top=len(self.bundle.classes), levels=levels)
        ]
        columns = ["label", "probability", "probabilities", "error"]
        columns += ["set"] if levels.coverage is not None else []
        columns += ["unknown", "strangeness"] if levels.unknown is not None else []
        return pd.DataFrame(rows, index=model_input.index, columns=columns)


def _told(error: Refused) -> Exception:
    """As mlflow says it: its server then answers 400 with one line, where it would show a traceback."""
    from mlflow.exceptions import MlflowException

    told: Exception = MlflowException.invalid_parameter_value(str(error))
    return told


def _load_pyfunc(path: str) -> BundleModel:
    """By this name mlflow opens the copy of the bundle that lies in a model."""
    return BundleModel(load_bundle(path))


def _values(model_input: pd.DataFrame) -> list[Any]:
    columns = list(model_input.columns)
    if COLUMN not in columns:
        told = ", ".join(map(str, columns)) or "none"
        raise Refused(f"the column {COLUMN!r} is missing: expected images in it, and found the columns {told}")
    return list(model_input[COLUMN])


def read(value: Any) -> bytes | Path:
    """A cell as the bytes of an image file, or the path of one.

    Bytes are never a path; those that are base64 and nothing else are decoded, as no image file is. Text is a path
    where such a file exists, else base64 where it is that, a `data:` address too; else a path, whose prediction says
    that the file does not exist.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        return _decoded(content) or content
    if isinstance(value, Path):
        return value
    text = str(value)
    if len(text) < _LONGEST_PATH and "\0" not in text and Path(text).is_file():
        return Path(text)
    body = text.partition(",")[2] if text.startswith("data:") else text
    return _decoded(body.encode("utf-8", "surrogateescape")) or Path(text)


def _decoded(content: bytes) -> bytes:
    """What `content` is in base64; nothing where it is not base64."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return b""


def _row(answer: Prediction, levels: Levels) -> dict[str, Any]:
    row: dict[str, Any] = {
        "label": answer.label,
        "probability": answer.probability,
        "probabilities": dict(answer.top) if answer.error is None else None,
        "error": answer.error,
    }
    if levels.coverage is not None:
        row["set"] = None if answer.labels is None else list(answer.labels)
    if levels.unknown is not None:
        row["unknown"] = None if answer.strangeness is None else answer.strangeness.flag
        row["strangeness"] = None if answer.strangeness is None else answer.strangeness.rate
    return row

"""Answers in the forms that leave the program: JSON, CSV, lines of text, and copies sorted into folders."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headway import files
from headway.data.images import shown
from headway.deployment.confidence import NONE, Levels
from headway.deployment.inputs import Inputs
from headway.deployment.predictor import Prediction
from headway.errors import HeadwayError, Refused

_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}
_MOST_TOLD = 10  # labels of a set that a line names
_MAX_NAME = 200  # bytes of a folder's name; file systems stop at 255


def as_json(bundle: Mapping[str, Any], predictions: Sequence[Prediction], levels: Levels = NONE) -> dict[str, Any]:
    """The one JSON object of `predict --json`: `bundle` (what answered), the levels, n, failed, predictions."""
    failed = sum(prediction.error is not None for prediction in predictions)
    return {
        "bundle": dict(bundle),
        **levels.to_json(),
        "n": len(predictions),
        "failed": failed,
        "predictions": [prediction.to_json() for prediction in predictions],
    }


def csv_columns(top: int, levels: Levels = NONE) -> list[str]:
    """Header of `predict --csv`: name, label, probability, label_2, probability_2, ..., error.

    Where `levels` ask for it: set and set_size, unknown and unknown_rate before the error.
    """
    more = [f"{column}_{n}" for n in range(2, top + 1) for column in ("label", "probability")]
    sets = ["set", "set_size"] if levels.coverage is not None else []
    unknown = ["unknown", "unknown_rate"] if levels.unknown is not None else []
    return ["name", "label", "probability", *more, *sets, *unknown, "error"]


def csv_row(prediction: Prediction, top: int, levels: Levels = NONE) -> list[str]:
    """The cells of one answer under `csv_columns(top, levels)`; `files.csv_line` makes them harmless.

    The labels of a set stand in one cell, as a JSON list: a class may have any sign in its name.
    """
    cells = [cell for label, probability in prediction.top[:top] for cell in (label, f"{probability:.6g}")]
    cells += [""] * (2 * top - len(cells))
    labels, strange = prediction.labels, prediction.strangeness
    if levels.coverage is not None:
        cells += ["", ""] if labels is None else [json.dumps(labels, ensure_ascii=False), str(len(labels))]
    if levels.unknown is not None:
        cells += ["", ""] if strange is None else ["yes" if strange.flag else "no", f"{strange.rate:.6g}"]
    return [prediction.name, *cells, prediction.error or ""]


def line(prediction: Prediction, top: int = 1, width: int = 0) -> str:
    """One line for people: the name padded to `width`, then `cat 0.98 · dog 0.02`, or why there is no answer.

    Where they were asked for: `? unknown (0.003)` before it, and the set behind it, `{cat, dog}`.
    """
    if prediction.error is not None:
        return f"{shown(prediction.name):<{width}}  {shown(str(prediction))}"
    answer = " · ".join(f"{label} {probability:.2f}" for label, probability in prediction.top[: max(1, top)])
    if prediction.strangeness is not None and prediction.strangeness.flag:
        answer = f"? unknown ({prediction.strangeness.rate:.2g})  {answer}"
    if prediction.labels is not None:
        answer = f"{answer}  {_braced(prediction.labels)}"
    return f"{shown(prediction.name):<{width}}  {shown(answer)}"


def _braced(labels: Sequence[str]) -> str:
    """A set for people: its classes, or of a large one the first few and how many it has."""
    more = f", ... {len(labels):,} in all" if len(labels) > _MOST_TOLD else ""
    return "{" + ", ".join(labels[:_MOST_TOLD]) + more + "}"


def folder_name(label: str) -> str:
    """A folder's name for a class, different for different classes and never a path.

    Letters, digits and most signs stay; separators, control characters, what some systems cannot keep, and `%` itself
    become %XX.
    """
    if not label:
        return "%"
    kept = "".join(character if _harmless(character) else _escaped(character) for character in label)
    if kept[:1] in (".", " "):
        kept = _escaped(kept[0]) + kept[1:]
    if kept[-1:] in (".", " "):
        kept = kept[:-1] + _escaped(kept[-1])
    if kept.split(".")[0].upper() in _RESERVED:
        kept = _escaped(kept[0]) + kept[1:]
    if len(kept.encode()) > _MAX_NAME:
        digest = files.digest_bytes(label.encode("utf-8", "surrogatepass"))[:16]
        kept = kept.encode()[: _MAX_NAME - 20].decode("utf-8", "ignore") + "%~" + digest
    return kept


def _harmless(character: str) -> bool:
    return character.isprintable() and character not in '/\\:*?"<>|%'


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def check_sorted(out: Path, inputs: Inputs, classes: Sequence[str]) -> None:
    """Raise Refused where copies sorted into `out` would land in a folder that was given as input."""
    if any(not isinstance(item.image, str | Path) for item in inputs.items):
        raise Refused("--out copies files, but standard input brought an image. Give its name instead.")
    if out.exists() and not out.is_dir():
        raise Refused(f"{out} is a file; --out needs a folder.")
    targets = [out.resolve(), *((out / folder_name(label)).resolve() for label in classes)]
    for folder in inputs.folders:
        if any(target.is_relative_to(folder.resolve()) for target in targets):
            raise Refused(
                f"{out} would put copies into {folder}, which is an input, and inputs are never written. "
                "Choose an --out outside it."
            )
    parents = {Path(item.name).parent.resolve() for item in inputs.items}
    taken = [target for target in targets[1:] if target in parents]
    if taken:
        raise Refused(f"{out} would put copies among the given images in {taken[0]}. Choose another --out.")


def write_sorted(
    predictions: Iterable[Prediction], out: Path, inputs: Inputs, classes: Sequence[str]
) -> Iterator[Prediction]:
    """Copy each predicted file to out/<label>/, and hand each prediction on. Unread images are not copied.

    Files are copied, never moved; a copy appears whole. Where another file of that name lies there already, the copy's
    name gets the first 8 digits of its sha256; where it is the same file, it stays. Class names that are no good folder
    names are escaped (`folder_name`). `out` is checked at the call, before the first prediction (`check_sorted`).

    Raises Refused as `check_sorted`; HeadwayError where a copy cannot be written.
    """
    check_sorted(out, inputs, classes)
    return _copies(predictions, out)


def _copies(predictions: Iterable[Prediction], out: Path) -> Iterator[Prediction]:
    for prediction in predictions:
        if prediction.label is not None and prediction.digest is not None:
            source = Path(prediction.name)
            try:
                _copy(source, out / folder_name(prediction.label), prediction.digest)
            except OSError as error:
                raise HeadwayError(
                    f"{source} cannot be copied to {out}: {error.strerror or 'input/output error'}"
                ) from None
        yield prediction


def _copy(source: Path, folder: Path, digest: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = _free_name(source, folder, digest)
    if target is None:
        return
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".copy.", suffix=".tmp")
    os.close(handle)
    try:
        shutil.copy2(source, temporary)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _free_name(source: Path, folder: Path, digest: str) -> Path | None:
    """Where in `folder` the copy of `source` goes; None where it is there already."""
    stem = os.fsdecode(os.fsencode(source.stem)[:150])  # room for the digest within 255 bytes
    for name in (source.name, f"{stem}-{digest[:8]}{source.suffix}", f"{stem}-{digest}{source.suffix}"):
        target = folder / name
        if not os.path.lexists(target):
            return target
        if target.is_file() and files.digest_file(target) == digest:
            return None
    raise FileExistsError(17, f"{folder / source.name} and its other names are taken")

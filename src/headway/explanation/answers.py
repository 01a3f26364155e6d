"""`headway explain`: images in, explained answers and pictures out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones.preprocess import prepare
from headway.data.images import BadImage, decode, read_file, shown
from headway.deployment.bundle import Bundle
from headway.deployment.inputs import Inputs
from headway.deployment.outputs import folder_name
from headway.deployment.predictor import Item, content_digest, probabilities
from headway.deployment.runtime import BATCH
from headway.errors import HeadwayError, Refused, nearest
from headway.explanation.overlay import encoded, picture
from headway.explanation.saliency import Explainer, Explanation

_TOLD = {"grad-cam": "Grad-CAM", "cam": "CAM", "roll-out": "attention roll-out, the same for every class"}
_ROOM = 150  # bytes of a file's own name within that of its picture


@dataclass(frozen=True)
class Explained:
    """One image: its most likely class, the class that is explained, where its picture lies; or why there is none.

    pixels  (S, S, 3) uint8, what the network saw
    """

    name: str
    digest: str | None
    error: str | None = None
    label: str = ""
    probability: float = 0.0
    shown: str = ""
    shown_probability: float = 0.0
    explanation: Explanation | None = None
    pixels: NDArray[np.uint8] | None = None
    file: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values. `grid`: the map's values, row by row."""
        if self.explanation is None:
            return {"name": self.name, "error": self.error, "digest": self.digest}
        return {
            "name": self.name,
            "label": self.label,
            "probability": self.probability,
            "class": self.shown,
            "class_probability": self.shown_probability,
            "file": str(self.file),
            "grid": self.explanation.values.tolist(),
            "digest": self.digest,
        }


def class_index(bundle: Bundle, name: str) -> int:
    """The index of the class `name`. Raises Refused, with the nearest name."""
    if name in bundle.classes:
        return bundle.classes.index(name)
    close = nearest(name, bundle.classes, 3)
    hint = f" Nearest: {', '.join(close)}" if close else f" It has {', '.join(bundle.classes[:10])}"
    more = ", ..." if not close and len(bundle.classes) > 10 else ""
    raise Refused(f"--class {name}: {bundle.path} has no such class.{hint}{more}")


def check_class(explainer: Explainer, bundle: Bundle, name: str | None) -> None:
    """Raise Refused where a class was asked for and the map is the same for all."""
    if name is not None and explainer.method == "roll-out":
        raise Refused(
            f"--class {name}: {bundle.path} is explained by attention roll-out, which is the same for every class. "
            "Leave --class out."
        )


def check_out(out: Path, inputs: Inputs) -> None:
    """Raise Refused where pictures written into `out` would land among what was given."""
    if out.exists() and not out.is_dir():
        raise Refused(f"{out} is a file; --out needs a folder.")
    place = out.resolve()
    for folder in inputs.folders:
        if place.is_relative_to(folder.resolve()):
            raise Refused(
                f"{out} would put pictures into {folder}, which is an input, and inputs are never written. "
                "Choose an --out outside it."
            )
    if place in {Path(item.name).parent.resolve() for item in inputs.items if not isinstance(item.image, bytes)}:
        raise Refused(f"{out} would put pictures among the given images. Choose another --out.")


def explain_items(
    explainer: Explainer, bundle: Bundle, items: Sequence[Item], out: Path, label: int | None
) -> Iterator[Explained]:
    """Explain one image after the other and write its picture into `out`. label: index of a class, None: the answer's.

    A picture bears the image's name and the class; a file that is there already stays as it is, and the picture gets
    the first digits of the image's digest. Raises HeadwayError where it cannot be written.
    """
    for start in range(0, len(items), BATCH):
        batch = [_read(item, bundle) for item in items[start : start + BATCH]]
        pixels = [one.pixels for one in batch if one.pixels is not None]
        found = iter(explainer.explain(np.stack(pixels), [label] * len(pixels)) if pixels else ())
        for one in batch:
            yield one if one.pixels is None else _explained(one, next(found), explainer, bundle, out)


def _read(item: Item, bundle: Bundle) -> Explained:
    """What the network will see of an image, or why it cannot."""
    digest = None
    assert isinstance(item.image, str | Path | bytes), item
    try:
        content = item.image if isinstance(item.image, bytes) else read_file(item.image, item.name)
        digest = content_digest(content)
        decoded = decode(content, item.name, shortest=bundle.preprocess.draft, max_pixels=bundle.max_pixels)
    except BadImage as error:
        return Explained(item.name, digest, error.reason)
    return Explained(item.name, digest, pixels=prepare(decoded.image, bundle.preprocess))


def _explained(read: Explained, explanation: Explanation, explainer: Explainer, bundle: Bundle, out: Path) -> Explained:
    assert read.pixels is not None
    shares = probabilities(explanation.logits[None], bundle.temperature)[0]
    best, shown = int(shares.argmax()), explanation.label
    made = replace(
        read,
        label=bundle.classes[best],
        probability=float(shares[best]),
        shown=bundle.classes[shown],
        shown_probability=float(shares[shown]),
        explanation=explanation,
    )
    image = picture(read.pixels, explanation.heat(len(read.pixels)), _lines(made, explainer))
    return replace(made, file=_write(out, made, encoded(image, "PNG")))


def _lines(made: Explained, explainer: Explainer) -> tuple[str, str]:
    """What stands below a picture."""
    answer = f"{made.label} {made.probability:.2f}"
    if explainer.method == "roll-out":
        return answer, _TOLD["roll-out"]
    assert made.explanation is not None
    shown = f"what speaks for {made.shown}"
    shown += "" if made.shown == made.label else f" ({made.shown_probability:.2f})"
    nothing = "" if made.explanation.values.any() else ", and nothing does"
    return answer, f"{shown}{nothing}: {_TOLD[explainer.method]}, {explainer.tap}"


def _write(out: Path, made: Explained, content: bytes) -> Path:
    stem = "standard-input" if made.name == "-" else Path(made.name).stem
    stem = os.fsdecode(os.fsencode(stem)[:_ROOM])
    label = folder_name(made.shown)[:60]
    digest = made.digest or ""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (f"{stem}-{label}.png", f"{stem}-{label}-{digest[:8]}.png", f"{stem}-{label}-{digest}.png"):
            path = out / name
            if not os.path.lexists(path):
                files.write_bytes(path, content)
                return path
            if path.is_file() and path.read_bytes() == content:
                return path
    except OSError as error:
        raise HeadwayError(f"{out} cannot be written: {error.strerror or 'input/output error'}") from None
    raise HeadwayError(f"{out / name} and its other names are taken by other files. Choose another --out.")


def told(explained: Explained, width: int = 0) -> str:
    """One line for people: the name padded to `width`, the answer, the class that is explained, the picture."""
    if explained.explanation is None:
        return shown(f"{explained.name:<{width}}  not read: {explained.error}")
    answer = f"{explained.label} {explained.probability:.2f}"
    if explained.shown != explained.label:
        answer += f" · shown: {explained.shown} {explained.shown_probability:.2f}"
    nothing = "" if explained.explanation.values.any() else "  (nothing speaks for it)"
    return shown(f"{explained.name:<{width}}  {answer}  {explained.file}{nothing}")


def as_json(
    bundle: Bundle, explainer: Explainer, found: Sequence[Explained], checked: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The one JSON object of `explain --json`."""
    return {
        "bundle": {"path": str(bundle.path), "digest": bundle.digest},
        "method": explainer.method,
        "tap": explainer.tap or None,
        "n": len(found),
        "failed": sum(one.error is not None for one in found),
        "explanations": [one.to_json() for one in found],
        "check": None if checked is None else dict(checked),
    }

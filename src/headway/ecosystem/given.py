"""What a caller in Python gives as images, as a Dataset: paths, PIL images, uint8 arrays, or files' bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from headway.data.dataset import UNASSIGNED, Contents, Dataset
from headway.data.images import BadImage
from headway.data.wording import counted, shown
from headway.deployment.predictor import content_of
from headway.ecosystem.refusing import WrongInput
from headway.errors import HeadwayError

_EXPECTED = "expected a sequence of paths, PIL images or uint8 arrays (height, width, 3)"
_TOLD = 5  # images that a message names


@dataclass(frozen=True)
class Given:
    """A Source of images that a caller holds. An RGB image and the array of its pixels are one content."""

    images: Sequence[Any]
    names: Sequence[str]
    lock: Lock = field(default_factory=Lock, repr=False)

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """The file's bytes, or pixels (H, W, 3) uint8. Raises BadImage."""
        image, name = self.images[index], self.names[index]
        if isinstance(image, np.ndarray):
            if image.ndim == 3 and image.shape[2] == 3:
                return image
            image = PIL.Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
        if isinstance(image, PIL.Image.Image):
            with self.lock:  # one that was only opened is decoded now, and the same may stand here twice
                return _content_of_picture(image, name)
        return content_of(name, image if isinstance(image, bytes) else os.fspath(image))


def _content_of_picture(image: PIL.Image.Image, name: str) -> bytes | NDArray[np.uint8]:
    try:
        upright = PIL.ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError):
        raise BadImage(name, "damaged image") from None
    if upright.mode == "RGB" and "transparency" not in upright.info:
        return np.asarray(upright)
    return content_of(name, upright)


def dataset_of(X: Any, labels: NDArray[np.integer[Any]] | None = None, classes: Sequence[Any] = ()) -> Dataset:
    """The images `X` as a Dataset; nothing is opened yet. Raises WrongInput where `X` holds anything else.

    labels  (N,) index into `classes`, or None
    """
    images = _sequence(X)
    wrong = [(at, image) for at, image in enumerate(images) if not _is_image(image)]
    if wrong:
        told = "; ".join(f"X[{at}] is {_kind(image)}" for at, image in wrong[:_TOLD])
        of_all = f" ({len(wrong):,} of {len(images):,})" if len(wrong) > 1 else ""
        raise WrongInput(f"{told}{of_all}: {_EXPECTED}")
    names = [f"X[{at}]{_where(image)}" for at, image in enumerate(images)]
    return Dataset(
        name="X",
        kind="images",
        names=names,
        labels=np.full(len(images), -1, np.int32) if labels is None else labels.astype(np.int32),
        given=np.full(len(images), UNASSIGNED, np.int8),
        groups=None,
        classes=tuple(str(name) for name in classes),
        source=Given(images, names),
    )


def refuse_unread(dataset: Dataset, contents: Contents) -> None:
    """Raise HeadwayError, which names the first five, where an image could not be read: each needs an answer."""
    unread = np.flatnonzero(~contents.accepted)
    if len(unread):
        first = "\n".join(f"  {dataset.names[at]}: {contents.reasons.get(int(at), 'unknown')}" for at in unread[:_TOLD])
        raise HeadwayError(
            f"{len(unread):,} of {counted(len(dataset), 'image')} cannot be read. First:\n{first}\n"
            "  Each needs an answer of its own: leave them out of X and y"
        )


def _sequence(X: Any) -> Sequence[Any]:
    if hasattr(X, "to_numpy"):  # a column of pandas or polars
        X = X.to_numpy()
    if isinstance(X, (str, bytes, os.PathLike, PIL.Image.Image)):
        what = f"one path, {shown(os.fspath(X))}" if isinstance(X, (str, os.PathLike)) else "one image"
        raise WrongInput(f"X is {what}: {_EXPECTED}, as [X]")
    if isinstance(X, np.ndarray):
        return _rows(X)
    try:
        images = list(X)
    except TypeError:
        raise WrongInput(f"X is {_kind(X)}: {_EXPECTED}") from None
    if not images:
        raise WrongInput(f"X is empty (0 images): {_EXPECTED}")
    return images


def _rows(X: NDArray[Any]) -> Sequence[Any]:
    if X.dtype.kind in "UO" and (X.ndim == 1 or (X.ndim == 2 and X.shape[1] == 1)):
        images: list[Any] = X.reshape(-1).tolist()
    elif X.dtype == np.uint8 and X.ndim in (3, 4):
        if X.ndim == 3 and X.shape[2] in (3, 4):
            raise WrongInput(f"X is one image, uint8 {X.shape}: {_EXPECTED}, as [X]")
        images = list(X)
    else:
        features = "; a table of features is for HeadwayHead" if X.ndim == 2 and X.dtype.kind == "f" else ""
        raise WrongInput(f"X is {_kind(X)}: {_EXPECTED}{features}")
    if not images:
        raise WrongInput(f"X is empty (0 images): {_EXPECTED}")
    return images


def _is_image(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        shaped = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))
        return bool(value.dtype == np.uint8 and shaped and value.size)
    return isinstance(value, (str, bytes, os.PathLike, PIL.Image.Image))


def _where(image: Any) -> str:
    return f" ({shown(os.fspath(image))})" if isinstance(image, (str, os.PathLike)) else ""


def _kind(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"

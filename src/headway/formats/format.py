"""What a format is: how a bundle is written in it, how its own runtime reads it back, and how a user does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.deployment.bundle import Bundle


@dataclass(frozen=True)
class Request:
    """What a bundle becomes. ort_web: an npm package of onnxruntime-web, for the browser page; None = fetch it."""

    bundle: Bundle
    ort_web: Path | None = None


@dataclass(frozen=True)
class Format:
    """One format.

    title   as its own people call it
    needs   packages of PyPI that the snippet needs, beside numpy and Pillow
    write   the bundle into a folder that is new and empty
    logits  what the format's own runtime makes of the files in that folder: (N, S, S, 3) uint8 → (N, C) float32; None
            where no runtime is at hand, so that what was written must judge itself when it is opened
    use     Python lines that bind `logits` (C,) of the image `read(path)`; the model is found in the working folder;
            or, where `logits` is None, plain words
    judged  where `logits` is None: what vouches for the numbers instead
    """

    title: str
    needs: tuple[str, ...]
    write: Callable[[Request, Path], None]
    logits: Callable[[Path, NDArray[np.uint8]], NDArray[np.float32]] | None
    use: Callable[[Request], str]
    judged: str = ""

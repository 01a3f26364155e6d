"""The bundle's own graph as one file, for ONNX Runtime in any language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.deployment.manifest import MODEL
from headway.deployment.runtime import open_runtime, run
from headway.formats.format import Format, Request

_USE = """\
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
logits = session.run(["logits"], {"image": read(path)})[0][0]"""


def _write(request: Request, folder: Path) -> None:
    files.write_bytes(folder / MODEL, (request.bundle.path / MODEL).read_bytes())


def _logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    runtime = open_runtime((folder / MODEL).read_bytes(), folder / MODEL, "onnxruntime", 1)
    return run(runtime, images, ("logits",))["logits"]


FORMAT = Format("ONNX", ("onnxruntime",), _write, _logits, lambda _: _USE)

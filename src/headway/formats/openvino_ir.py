"""OpenVINO's own form, IR: model.xml and model.bin, fp32 kept as it is, int8 where the bundle computes in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.deployment.manifest import MODEL
from headway.formats.format import Format, Request

# Without the hint some processors compute in bf16, unasked, and some graphics units in fp16.
_HINT = {"INFERENCE_PRECISION_HINT": "f32"}
_USE = """\
model = openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
logits = model(read(path))["logits"][0]"""


def _write(request: Request, folder: Path) -> None:
    import openvino

    model = openvino.Core().read_model((request.bundle.path / MODEL).read_bytes(), b"")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import openvino

    compiled = openvino.compile_model(folder / "model.xml", "CPU", _HINT)
    found: NDArray[np.float32] = np.array(compiled(images)["logits"])
    return found


FORMAT = Format("OpenVINO", ("openvino",), _write, _logits, lambda _: _USE)

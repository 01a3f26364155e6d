"""A model repository for NVIDIA's Triton Inference Server: its ONNX Runtime backend, batches made as requests come."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.deployment.bundle import Bundle
from headway.deployment.manifest import MODEL
from headway.deployment.runtime import open_runtime, run
from headway.formats.format import Format, Request
from headway.serving.facts import model_name

MOST = 32  # images in one batch
_DELAY_US = 3000  # how long a request waits for others at most
_LABELS = "labels.txt"

# KServe's protocol as JSON over HTTP, which Triton speaks on port 8000; the standard library is enough for it.
_USE = """\
image = read(path)
given = {{"name": "image", "shape": image.shape, "datatype": "UINT8", "data": image.ravel().tolist()}}
body = json.dumps({{"inputs": [given], "outputs": [{{"name": "logits"}}]}}).encode()
server = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
with urllib.request.urlopen(f"{{server}}/v2/models/{name}/infer", body) as answer:
    logits = np.array(json.load(answer)["outputs"][0]["data"], np.float32)"""


def repository_name(bundle: Bundle) -> str:
    """The model's name, of letters, digits, `_` and `-`: it stands in addresses."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", model_name(bundle.path)).strip("-") or "model"


def config(bundle: Bundle, name: str) -> str:
    """config.pbtxt of the model `name`, protobuf text of Triton's `inference.ModelConfig`."""
    size, widths = bundle.preprocess.size, bundle.manifest.outputs
    outputs = [f'  {{ name: "features" data_type: TYPE_FP32 dims: [ {widths["features"]} ] }}']
    outputs.insert(
        0, f'  {{ name: "logits" data_type: TYPE_FP32 dims: [ {widths["logits"]} ] label_filename: "{_LABELS}" }}'
    )
    return "\n".join(
        [
            f"name: {json.dumps(name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {MOST}",
            f'input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] }} ]',
            "output [",
            ",\n".join(outputs),
            "]",
            f"dynamic_batching {{ max_queue_delay_microseconds: {_DELAY_US} }}",
            "instance_group [ { count: 1 kind: KIND_CPU } ]",
            "",
        ]
    )


def labels(classes: Iterable[str]) -> str:
    """One class a line. What would end a line within a name is shown as a blank."""
    return "".join(f"{' '.join(name.splitlines())}\n" for name in classes)


def _write(request: Request, folder: Path) -> None:
    bundle, name = request.bundle, repository_name(request.bundle)
    version = folder / name / "1"
    version.mkdir(parents=True)
    files.write_bytes(version / MODEL, (bundle.path / MODEL).read_bytes())
    files.write_text(folder / name / "config.pbtxt", config(bundle, name))
    files.write_text(folder / name / _LABELS, labels(bundle.classes))


def _logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """By ONNX Runtime, which is what Triton's backend runs; Triton itself is a server in a container."""
    (model,) = folder.glob(f"*/1/{MODEL}")
    return run(open_runtime(model.read_bytes(), model, "onnxruntime", 1), images, ("logits",))["logits"]


FORMAT = Format(
    "Triton Inference Server", (), _write, _logits, lambda request: _USE.format(name=repository_name(request.bundle))
)

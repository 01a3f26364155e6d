"""The engine that runs a bundle's graph: ONNX Runtime, or the one that its manifest names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headway.backbones.openvino_graph import EXTRA, OpenVinoGraph
from headway.deployment.graph_file import has_external_data
from headway.errors import HeadwayError, Refused
from headway.machine import usable_cores, version

# Every call of ONNX Runtime has this many images, the tail padded: a kernel chosen by the batch's size may round
# otherwise, and an image's answer must not depend on its neighbours. 4 keeps one image quick and a folder near the
# top speed (lite0 on 2 cores, images/s at 1, 4, 8: 91, 160, 170). Bits are then equal wherever channels come in
# multiples of 8; else ONNX Runtime's means may differ in the last bit with an image's place in memory.
BATCH = 4

_BROUGHT_BY = {"openvino": EXTRA, "onnxruntime": "pip install onnxruntime"}
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}  # ONNX Runtime's words for numpy's


class Runtime(Protocol):
    """An opened graph. inputs, outputs: name → (numpy's name of the type, shape without the batch)."""

    @property
    def inputs(self) -> Mapping[str, tuple[str, list[int]]]: ...
    @property
    def outputs(self) -> Mapping[str, tuple[str, list[int]]]: ...
    def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """(N, S, S, 3) uint8 → the named outputs, (N, ·) float32 each."""
        ...


class OnnxRuntimeGraph:
    """A graph opened by ONNX Runtime on the CPU. Raises its errors, which share no class narrower than Exception."""

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what matters comes as an exception
        # Threads that wait by spinning take the cores from decoding, and from whatever else the machine does.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Without the fallback, which is to the same provider and prints to standard output.
        self._session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=0)
        self.inputs = {item.name: _signature(item) for item in self._session.get_inputs()}
        self.outputs = {item.name: _signature(item) for item in self._session.get_outputs()}

    def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """(N, S, S, 3) uint8 → the named outputs, computed in batches of `BATCH`, the tail padded and cut."""
        if not len(images):
            return {name: np.empty((0, *self.outputs[name][1]), np.float32) for name in outputs}
        parts: list[list[NDArray[np.float32]]] = [[] for _ in outputs]
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            n = len(batch)
            if n < BATCH:
                batch = np.concatenate([batch, np.zeros((BATCH - n, *batch.shape[1:]), np.uint8)])
            for part, values in zip(parts, self._session.run(list(outputs), {"image": batch}), strict=True):
                part.append(values[:n])
        return {name: np.concatenate(part) for name, part in zip(outputs, parts, strict=True)}


def open_runtime(model: bytes, name: Path, engine: str, threads: int | None = None) -> Runtime:
    """The one-file model in `model`, opened by `engine` ("any" is ONNX Runtime); `name` stands in messages only.

    Raises Refused where the model points to other files, where the engine is not installed or cannot read it.
    """
    try:
        external = has_external_data(model)
    except ValueError as error:
        raise Refused(f"{name} is damaged: it is not an ONNX model ({error}).") from None
    if external:
        raise Refused(f"{name} refers to data in other files. A bundle's model is one file; make the bundle again.")
    package, kind = ("openvino", OpenVinoGraph) if engine == "openvino" else ("onnxruntime", OnnxRuntimeGraph)
    try:
        return kind(model, threads or usable_cores())
    except ImportError:
        raise Refused(f"{name} needs {package}, which is not installed here. Try: {_BROUGHT_BY[package]}") from None
    except Exception as error:  # the bindings' errors share no narrower class
        raise Refused(
            f"{name} cannot be opened by {package} {version(package)}: {first_line(error)} "
            f"Try: pip install --upgrade {package}"
        ) from None


def run(runtime: Runtime, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """(N, S, S, 3) uint8 → named outputs (N, ·) float32; an image's numbers do not depend on those around it.

    Raises HeadwayError where `images` are not of that kind, or the model cannot be computed.
    """
    size = runtime.inputs["image"][1][0]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise HeadwayError(f"expected uint8 images (B, {size}, {size}, 3), got {images.dtype} {images.shape}")
    try:
        return runtime.run(images, outputs)
    except Exception as error:  # the bindings' errors share no narrower class
        raise HeadwayError(f"the model cannot be computed: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says first, as a sentence, at most 200 characters."""
    lines = str(error).splitlines()
    return (lines[0][:200].rstrip(". ") if lines else type(error).__name__) + "."


def _signature(item: Any) -> tuple[str, list[int]]:
    return _TYPES.get(item.type, item.type), list(item.shape[1:])

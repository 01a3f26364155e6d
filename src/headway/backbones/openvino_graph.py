"""An ONNX graph run by OpenVINO on the CPU. No torch: the pass, the export and a bundle open a graph by this."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.parts import start_parts
from headway.machine import signal_stack_kept

EXTRA = "pip install 'headway[int8]'"  # what brings OpenVINO


class OpenVinoGraph:
    """The graph in `model` (bytes of one ONNX file): each of `threads` threads runs `part` images of its own at a time.

    By one, an image's numbers depend neither on those around it nor on the number of threads, and one rule serves the
    pass over all images and the bundle that answers for one. More are for whoever has seen that they change no bit.

    Raises RuntimeError, in OpenVINO's words, where it cannot read the model.
    """

    def __init__(self, model: bytes, threads: int, part: int = 1) -> None:
        import openvino

        core = openvino.Core()
        network = core.read_model(model, b"")
        self.inputs = {port.any_name: _signature(port) for port in network.inputs}
        self.outputs = {port.any_name: _signature(port) for port in network.outputs}
        self._part = part
        network.reshape({name: [part, *shape] for name, (_, shape) in self.inputs.items()})
        with signal_stack_kept():
            compiled = core.compile_model(
                network,
                "CPU",
                {
                    # Without it some processors compute in bf16, unasked: cosine to fp32 then drops below 0.9999.
                    "INFERENCE_PRECISION_HINT": "f32",
                    "NUM_STREAMS": str(threads),
                    "INFERENCE_NUM_THREADS": str(threads),
                    # Decoding needs the same cores: a thread bound to one would wait for it while another is free.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        self._ports = {name: compiled.output(name) for name in self.outputs}
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads):
            self._free.put(compiled.create_infer_request())
        self._pool = ThreadPoolExecutor(threads, "headway-engine")

    def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """(N, S, S, 3) uint8 → the named outputs, (N, ·) float32 each. May be called from several threads.

        Raises RuntimeError where OpenVINO cannot compute it.
        """
        return self.start(images, outputs)()

    def start(
        self, images: NDArray[np.uint8], outputs: tuple[str, ...]
    ) -> Callable[[], dict[str, NDArray[np.float32]]]:
        """As `run`, the answer when it is asked for: a core that is ready with its image goes on with the next."""
        if not len(images):
            none = {name: np.empty((0, *self.outputs[name][1]), np.float32) for name in outputs}
            return lambda: none
        return start_parts(self._pool, lambda part: self._one(part, outputs), images, self._part)

    def _one(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        given, n = images, len(images)
        if n < self._part:
            given = np.zeros((self._part, *images.shape[1:]), np.uint8)
            given[:n] = images
        request = self._free.get()
        try:
            found = request.infer([given], share_inputs=True, share_outputs=True)
            return {name: np.array(found[self._ports[name]][:n]) for name in outputs}  # it will write there again
        finally:
            self._free.put(request)


def _signature(port: Any) -> tuple[str, list[int]]:
    """numpy's name of the type, and the shape without the batch, -1 where a side is left open."""
    sides = list(port.get_partial_shape())[1:]
    return port.element_type.to_dtype().name, [-1 if side.is_dynamic else side.get_length() for side in sides]

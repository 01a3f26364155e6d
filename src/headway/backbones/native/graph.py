"""A prepared network run by code of our own in C, compiled for this processor. fp32, on the CPU. No torch.

Two things make it faster than what multiplies directly: convolutions of 3 x 3 are computed by Winograd's minimal
filtering, and what stands between an expansion and the depthwise convolution after it never leaves a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from headway.backbones.native.compiling import NETWORK, compiled
from headway.backbones.native.packing import Lanes, pack, with_ways
from headway.backbones.native.plan import Core
from headway.backbones.native.reading import read_network
from headway.backbones.parts import start_parts


class NativeGraph:
    """The graph in the file `model` (ONNX, one uint8 input (N, S, S, 3)) on `threads` cores, each with its own images:
    `batch` of them are brought at a time.

    Features of an image depend neither on those around it nor on the number of threads (tested).
    Raises NotNative where the network has what this does not know, or its code cannot be compiled here.
    """

    def __init__(self, model: Path, threads: int, batch: int) -> None:
        network = with_ways(read_network(model))
        code = compiled(NETWORK)
        lanes = Lanes(code.headway_lanes())
        weights = pack(network, lanes)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "headway-engine")
        self._free: SimpleQueue[Core] = SimpleQueue()
        for _ in range(threads):
            core = Core(code, network, weights, lanes, -(-batch // threads))
            self._part = core.part
            self._free.put(core)

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """(N, S, S, 3) uint8 → the outputs, (N, d) float32 each. May be called from several threads."""
        return self.start(images)()

    def start(self, images: NDArray[np.uint8]) -> Callable[[], dict[str, NDArray[np.float32]]]:
        """As `run`, the answer when it is asked for: a core that is ready with its images goes on with the next."""
        share = -(-len(images) // self._threads)
        return start_parts(self._pool, self._look, images, max(1, min(self._part, share)))

    def _look(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        core = self._free.get()
        try:
            return core.run(images)
        finally:
            self._free.put(core)

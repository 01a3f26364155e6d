"""A prepared network run by MNN on the CPU. No torch: a graph is converted by a process of its own, and opened.

MNN computes convolutions of 3 x 3 by Winograd's minimal filtering (Lavin & Gray 2016, arXiv:1509.09308, section 4: a
half to a quarter of the multiplications), which neither ONNX Runtime nor OpenVINO does. Networks of such convolutions,
like ResNets, gain by it; others do not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.parts import start_parts

EXTRA = "pip install 'headway[mnn]'"  # what brings MNN
_PATIENCE = 600.0  # seconds that a conversion may take; ResNet-18 takes one


class MnnGraph:
    """The graph in the file `model` (ONNX, one uint8 input (N, S, S, 3)): each of `threads` threads runs images of its
    own, as many at a time as leave an image's numbers independent of those beside it (see mnn_conversion).

    Raises RuntimeError, with a line that says why, where MNN cannot convert or run it; ImportError without MNN.
    """

    def __init__(self, model: Path, side: int, outputs: tuple[str, ...], threads: int) -> None:
        if find_spec("MNN") is None:
            raise ImportError("MNN is not installed")
        self._outputs = outputs
        self._pool = ThreadPoolExecutor(threads, "headway-engine")
        self._free: SimpleQueue[Interpreter] = SimpleQueue()
        with tempfile.TemporaryDirectory(prefix="headway-mnn-") as place:
            converted = Path(place) / "graph.mnn"
            self.part = _convert(model, converted, side)
            for _ in range(threads):
                with _unheard():
                    self._free.put(Interpreter(converted, (self.part, side, side, 3)))

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """(N, S, S, 3) uint8 → the outputs, (N, ·) float32 each. May be called from several threads."""
        return self.start(images)()

    def start(self, images: NDArray[np.uint8]) -> Callable[[], dict[str, NDArray[np.float32]]]:
        """As `run`, the answer when it is asked for: a core that is ready with its images goes on with the next."""
        return start_parts(self._pool, self._one, images, self.part)

    def _one(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        interpreter = self._free.get()
        try:
            found = interpreter.run(images)
            return {name: found[name] for name in self._outputs}
        finally:
            self._free.put(interpreter)


class Interpreter:
    """MNN itself on one core, for images of the shape (part, S, S, 3)."""

    def __init__(self, converted: Path, shape: tuple[int, int, int, int]) -> None:
        import MNN

        self._mnn, self._shape = MNN, shape
        self._network = MNN.Interpreter(str(converted))
        # High: on some processors it would otherwise compute in halves of fp32.
        self._session = self._network.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
        self._input = self._network.getSessionInput(self._session)
        self._network.resizeTensor(self._input, shape)
        self._network.resizeSession(self._session)

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """(n, S, S, 3) uint8, n at most `part` → every output, (n, ·) float32. Black images fill up."""
        given = np.zeros(self._shape, np.uint8)
        given[: len(images)] = images
        kind = self._input.getDimensionType()
        self._input.copyFrom(self._mnn.Tensor(given.shape, self._mnn.Halide_Type_Uint8, given, kind))
        self._network.runSession(self._session)
        outputs = self._network.getSessionOutputAll(self._session)
        return {name: self._read(output)[: len(images)] for name, output in outputs.items()}

    def _read(self, output: Any) -> NDArray[np.float32]:
        shape, float32 = output.getShape(), self._mnn.Halide_Type_Float
        kept = self._mnn.Tensor(shape, float32, np.zeros(shape, np.float32), self._mnn.Tensor_DimensionType_Caffe)
        output.copyToHostTensor(kept)
        return np.array(kept.getNumpyData(), np.float32).reshape(shape)


def _convert(model: Path, converted: Path, side: int) -> int:
    """Write the graph as MNN reads it; how many images it may see at a time. In another process: what MNN does not know
    may end it."""
    program = [sys.executable, "-P", "-m", "headway.backbones.mnn_conversion"]
    try:
        done = subprocess.run(
            [*program, str(model), str(converted), str(side)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"converting it took longer than {_PATIENCE:.0f} s") from None
    said = converted.with_suffix(".part")
    if done.returncode or not said.is_file():
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"converting it ended with {done.returncode}")
    return int(said.read_text(encoding="utf-8"))


@contextmanager
def _unheard() -> Iterator[None]:
    """What libraries in C write to standard output meanwhile is dropped: MNN says there what it supports, and a command
    with --json writes its result there and nothing else.
    """
    import ctypes

    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    if sys.stdout is not None:  # a program without a console has none
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is none
        yield
        return
    library.fflush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        library.fflush(None)  # what it holds back would come later
        os.dup2(kept, 1)
        for descriptor in (kept, nowhere):
            with suppress(OSError):
                os.close(descriptor)

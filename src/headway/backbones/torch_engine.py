"""PyTorch as an engine: plain or compiled, in fp32 or bf16, on the processor or on a GPU that copies while it works."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.engines import KINDS, batch_of, parts_of

if TYPE_CHECKING:
    import torch

    from headway.backbones.network import Trunk
    from headway.backbones.trunk import TrunkFiles

_Found = Mapping[str, NDArray[np.float32]]


class TorchEngine:
    """The network as torch runs it, in eval mode, channels last. Plain, in fp32, on the processor it is the reference.

    name  as `engines.parts_of` reads it: torch, compiled, torch+bf16:cuda, ...
    """

    def __init__(self, trunk: TrunkFiles, module: Trunk, threads: int, name: str = "torch") -> None:
        import torch

        kind, device = parts_of(name)
        compiled, self._half = KINDS[kind]
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # a setting of the process: torch has no other
        self._device, self._taps = torch.device(device), [tap.name for tap in trunk.taps]
        # The reference keeps the module: `to` moves it where it lies.
        own = module if self._device.type == "cpu" else copy.deepcopy(module)
        own = own.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._run: Callable[..., Any] = torch.compile(own, dynamic=False) if compiled else own
        self._lanes = _lanes(self._device)
        if compiled:
            size = trunk.preprocess.size
            self.run(np.zeros((batch_of(name), size, size, 3), np.uint8))  # compiles, or says that it cannot

    def run(self, images: NDArray[np.uint8]) -> _Found:
        """(B, S, S, 3) uint8 → tap → (B, d) float32."""
        return self.start(images)()

    def start(self, images: NDArray[np.uint8]) -> Callable[[], _Found]:
        """Begin on (B, S, S, 3) uint8; what comes back waits for the answer.

        On a GPU the next images may be begun before the answer to the last ones is asked for, and no more than those.
        """
        import torch

        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            if self._lanes is None:
                outputs = self._run(torch.from_numpy(images).to(self._device))
                found = [output.float().cpu() for output in outputs]
                return lambda: self._named(found)
            answer = self._lanes.begin(images, self._run)
        return lambda: self._named(answer())

    def _named(self, outputs: list[torch.Tensor]) -> _Found:
        return {tap: output.numpy() for tap, output in zip(self._taps, outputs, strict=True)}


class _CudaLanes:
    """Two sets of pinned buffers and a stream for copies: images go over while the GPU works on those before them."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned: list[torch.Tensor | None] = [None, None]
        self._turn = 0

    def begin(self, images: NDArray[np.uint8], run: Callable[..., Any]) -> Callable[[], list[torch.Tensor]]:
        import torch

        lane, self._turn = self._turn, 1 - self._turn
        pinned = self._pinned[lane]
        if pinned is None or pinned.shape != images.shape:
            pinned = self._pinned[lane] = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
        pinned.copy_(torch.from_numpy(images))  # the answer that used this lane last was waited for, so it is free
        work = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            there = pinned.to(self._device, non_blocking=True)
        work.wait_stream(self._copies)
        there.record_stream(work)  # its memory is not given out again before the work is done
        outputs = [output.float() for output in run(there)]
        here = [torch.empty(output.shape, dtype=output.dtype, pin_memory=True) for output in outputs]
        for target, output in zip(here, outputs, strict=True):
            target.copy_(output, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(work)

        def answer() -> list[torch.Tensor]:
            done.synchronize()
            return here

        return answer


def _lanes(device: torch.device) -> _CudaLanes | None:
    return _CudaLanes(device) if device.type == "cuda" else None

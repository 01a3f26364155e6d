"""A model under Accelerate: gradients of one batch, alone or with other processes, and the step that follows."""

from __future__ import annotations

import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from headway.errors import Stopped
from headway.training.batch import Batch, Labels, Met, Targets, chunks, exact_norm
from headway.training.batches import seed_of
from headway.training.convolutions import Quick, quicken
from headway.training.memory import is_out_of_memory
from headway.training.norms import copy_tensors, live_buffers, live_norms, put_back, synchronise
from headway.training.optimizers import make_optimizer
from headway.training.task import LoopSettings, Task
from headway.world import World


class Stepper:
    """Model and optimizer on their device, wrapped for several processes where there are."""

    def __init__(self, task: Task, settings: LoopSettings, world: World) -> None:
        self.model, self.settings, self.world = task.model, settings, world
        self._labels = Labels(task)
        self._accelerator = _accelerator(settings, world)
        self.device: torch.device = self._accelerator.device
        self._devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []  # with numbers to keep
        self._replaced = synchronise(self.model) if settings.sync_bn and world.size > 1 else {}
        self.model.to(self.device)
        if self.device.type != "mps":
            self.model.to(memory_format=torch.channels_last)
        weights = self._labels.weights
        self._weights = None if weights is None else weights.to(self.device)
        self.optimizer = make_optimizer(self.model, task.depths, settings)
        self._net: nn.Module = self.model
        self._quick: Quick | None = None
        self.prepare()

    @property
    def scaler(self) -> Any:
        """The loss scaler of fp16; None otherwise."""
        return self._accelerator.scaler

    def prepare(self) -> None:
        """Wrap the model. To be called again when what of it trains has changed."""
        self._unwrap()
        self.model.train()
        # Where others wait while this process works alone, nothing may be shared with them.
        alone = self.world.size == 1
        with warnings.catch_warnings():
            # Newer versions of torch spell `broadcast_buffers` otherwise, and Accelerate knows the old word only.
            warnings.simplefilter("ignore", FutureWarning)
            self._net = self._accelerator.prepare_model(self.model, evaluation_mode=alone)
        self._live = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._buffers = live_buffers(self.model)
        self._before = [buffer.clone() for buffer in self._buffers]
        self.norms_live = bool(live_norms(self.model))

    def release(self) -> None:
        """Hand the model back as it came: unwrapped, on the CPU."""
        self._unwrap()
        put_back(self.model, self._replaced)
        self.optimizer.zero_grad(set_to_none=True)
        self.model.to("cpu")
        if self.device.type != "mps":
            self.model.to(memory_format=torch.contiguous_format)

    def _unwrap(self) -> None:
        self._accelerator.unwrap_model(self._net, keep_fp32_wrapper=False)
        vars(self.model).pop("forward", None)  # autocast went around it, on this instance alone
        self._accelerator._models.clear()
        self._net = self.model

    def remember(self) -> None:
        """Before a forward pass: note the buffers that it may move."""
        copy_tensors(self._before, self._buffers)

    def undo(self) -> None:
        """After a forward pass that no step follows: buffers as they were, no gradients."""
        copy_tensors(self._buffers, self._before)
        self.optimizer.zero_grad(set_to_none=True)

    def gradients(self, batch: Batch, images: Tensor, micro: int | None) -> Met:
        """Gradients of the mean loss of the whole batch, in every process; `micro` images at once.

        images  what the feed gave for `batch.asked`. Buffers move; nothing else does.
        """
        self.optimizer.zero_grad(set_to_none=True)
        quick = self._quickened(images)
        with torch.random.fork_rng(devices=self._devices), quick.acting():
            self._seed(seed_of(self.settings.seed, "dropout", batch.epoch, batch.number, self.world.rank))
            sums, weight = self._backward(batch, images, micro)
        if self.world.size > 1:
            torch.distributed.all_reduce(sums)
            self._share_buffers(batch)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._live if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device=self.device)
        loss, right, missed, norm_now = torch.cat([sums, norm.detach().reshape(1)]).tolist()  # the one wait of a step
        if missed:
            return Met(math.nan, math.nan, math.nan, fits=False)
        if not math.isfinite(norm_now) and self.scaler is None:
            norm_now = exact_norm(gradients)
        if self.settings.clip and norm_now > self.settings.clip:
            torch._foreach_mul_(gradients, self.settings.clip / (norm_now + 1e-6))  # as torch's clip_grad_norm_
        return Met(loss / weight, right, norm_now)

    def _seed(self, seed: int) -> None:
        """As torch.manual_seed, for the processor and this device alone.

        That one also seeds every kind of device that is not there, for when it will be, and notes the stack each time:
        with small heads that took as long as the step itself.
        """
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def _quickened(self, images: Tensor) -> Quick:
        """How a processor does a step in fp32. Elsewhere torch's own ways are the fast ones."""
        if self.device.type != "cpu" or self.settings.precision != "fp32":
            return Quick({})
        if self._quick is None:
            try:
                self._quick = quicken(self.model, images[:1])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                return Quick({})  # the step itself will say so, to all processes
        return self._quick

    def apply(self) -> bool:
        """Take the step; whether it was taken (fp16 leaves out one whose gradients overflow)."""
        if self.scaler is None:
            self.optimizer.step()
            return True
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return bool(self.scaler.get_scale() >= before)

    def _backward(self, batch: Batch, images: Tensor, micro: int | None) -> tuple[Tensor, float]:
        """Backward through the own part; sums (3,) of loss, of right images, and of parts that memory did not hold.

        Returns them with the weight of the whole batch: the loss is their quotient. Each part's loss is multiplied by
        the number of processes, as their gradients are averaged; so what counts is images, however they are parted.
        """
        sums, fits, loss = torch.zeros(3, device=self.device), True, None
        images = images.to(self.device, non_blocking=True)
        images, own = self._labels.mixed(batch, images)
        parts = chunks(batch.n_own, micro)
        scale = self.world.size / own.weight
        try:
            for chunk in parts[:-1]:
                with self._apart():
                    self._accelerator.backward(self._forward(images[chunk], own.at(chunk), sums) * scale)
            if parts:
                loss = self._forward(images[parts[-1]], own.at(parts[-1]), sums) * scale
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if loss is None and self.world.size > 1:  # the others wait for gradients: give them none, but come
            loss = self._net(images[:1]).sum() * 0
        try:
            if loss is not None:
                self._accelerator.backward(loss)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.world.size > 1:  # half of the gradients may have been exchanged
                raise Stopped(
                    f"not enough memory for {parts[-1].stop - parts[-1].start} images at once in process "
                    f"{self.world.rank} of {self.world.size}. Take fewer at once: --micro-batch "
                    f"{max(1, (parts[-1].stop - parts[-1].start) // 2)}"
                ) from None
            fits = False
        if not fits:
            sums = torch.tensor([0.0, 0.0, 1.0], device=self.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return sums, own.weight

    def _apart(self) -> AbstractContextManager[Any]:
        """Gradients inside are not exchanged yet."""
        no_sync = getattr(self._net, "no_sync", None)
        return nullcontext() if no_sync is None else no_sync()

    def _forward(self, images: Tensor, targets: Targets, sums: Tensor) -> Tensor:
        """Sum of the loss over some images, noted in `sums` with how many were right."""
        logits: Tensor = self._net(images)  # (b, C)
        loss, predicted = torch.zeros((), device=self.device), logits.detach().argmax(dim=1)
        for labels, share in ((targets.first, targets.share), (targets.second, 1 - targets.share)):
            if labels is not None:
                loss = loss + share * functional.cross_entropy(
                    logits,
                    labels,
                    weight=self._weights,
                    reduction="sum",
                    label_smoothing=self.settings.label_smoothing,
                )
                sums[1] += share * (predicted == labels).sum()
        sums[0] += loss.detach()
        return loss

    @torch.no_grad()
    def _share_buffers(self, batch: Batch) -> None:
        """BatchNorm's running statistics: the mean over processes, by images; all then hold the same."""
        floats = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        if not floats or self._replaced:
            return
        flat = torch.cat([buffer.reshape(-1) for buffer in floats]) * (batch.n_own / len(batch.positions))
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat, [buffer.numel() for buffer in floats])
        copy_tensors(floats, [part.view_as(buffer) for part, buffer in zip(parts, floats, strict=True)])


def _accelerator(settings: LoopSettings, world: World) -> Any:
    """An Accelerator for this training. Its library keeps one state for all of a process: that is put aside first."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, GradientState

    if settings.device.startswith("cuda:") and world.size == 1:
        torch.cuda.set_device(settings.device)
    # The state of the processes stays where there are several: it holds their connection.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    GradientState._reset_state()
    precision = "no" if settings.precision == "fp32" else settings.precision
    wrapping = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(cpu=settings.device == "cpu", mixed_precision=precision, kwargs_handlers=[wrapping])

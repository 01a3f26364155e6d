"""Steps of a head alone, on a processor: the gradients of a few matrix products written out.

What `stepping` needs for any model on any device (Accelerate, torch's autograd and optimizers) takes a quarter of the
time of so small a step, and 1.5 s before the first. The mathematics is the same, the last bits are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from headway.training.batch import Batch, Labels, Met, Steps, Targets, chunks, exact_norm
from headway.training.batches import seed_of
from headway.training.dropout import Dropout
from headway.training.head_layers import Standardise
from headway.training.memory import is_out_of_memory
from headway.training.optimizers import PlainOptimizer
from headway.training.stepping import Stepper
from headway.training.task import LoopSettings, Task
from headway.world import World


def open_stepper(task: Task, settings: LoopSettings, world: World) -> Steps:
    """What takes the steps of a training: `HeadStepper` where the model is a head, alone on a processor in fp32."""
    head = None
    if settings.device == "cpu" and settings.precision == "fp32" and world.size == 1:
        head = _read(task.model)
    return Stepper(task, settings, world) if head is None else HeadStepper(task, settings, world, head)


@dataclass(frozen=True)
class _Layer:
    """dropout (or None), linear, then ReLU (the last layer has none)."""

    linear: nn.Linear
    dropout: Dropout | None
    relu: bool


@dataclass(frozen=True)
class _Head:
    standardise: Standardise | None
    layers: tuple[_Layer, ...]


class HeadStepper:
    """As `Stepper`, for a head of `build_head`, standardised before it or not, on the CPU in fp32 in one process."""

    scaler = None
    norms_live = False

    def __init__(self, task: Task, settings: LoopSettings, world: World, head: _Head) -> None:
        self.model, self.settings, self.world, self._head = task.model, settings, world, head
        self._labels = Labels(task)
        self._draws = any(layer.dropout is not None for layer in head.layers)
        self._gradients = self._give_gradients()
        self.optimizer = PlainOptimizer(self.model, settings)
        self.prepare()

    def _give_gradients(self) -> Tensor:
        """One array for the gradients of all parameters, side by side; each parameter's `grad` is a part of it."""
        parameters = list(self.model.parameters())
        whole = torch.zeros(sum(parameter.numel() for parameter in parameters))
        for parameter, part in zip(parameters, torch.split(whole, [one.numel() for one in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        return whole

    def prepare(self) -> None:
        """To be called again when what of it trains has changed: that of a head never does."""
        self.model.train()

    def release(self) -> None:
        """Hand the model back as it came."""
        for parameter in self.model.parameters():
            parameter.grad = None

    def remember(self) -> None:
        """Nothing but a step moves anything of a head."""

    def undo(self) -> None:
        """See `remember`."""

    @torch.no_grad()
    def gradients(self, batch: Batch, images: Tensor, micro: int | None) -> Met:
        """Gradients of the mean loss of the whole batch, `micro` rows at once; nothing else changes.

        images  (b, D) features: what the feed gave for `batch.asked`
        """
        images, targets = self._labels.mixed(batch, images)
        sums = torch.zeros(2)  # of the loss, and of rows that were right
        try:
            with self._seeded(batch):
                for number, chunk in enumerate(chunks(batch.n_own, micro)):
                    sums += self._backward(images[chunk], targets.at(chunk), fresh=number == 0)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return Met(math.nan, math.nan, math.nan, fits=False)
        norm, (loss, right) = float(torch.linalg.vector_norm(self._gradients)), sums.tolist()
        if not math.isfinite(norm):
            norm = exact_norm([self._gradients])
        if self.settings.clip and norm > self.settings.clip:
            self._gradients.mul_(self.settings.clip / (norm + 1e-6))  # as torch's clip_grad_norm_
        return Met(loss / targets.weight, right, norm)

    @contextmanager
    def _seeded(self, batch: Batch) -> Iterator[None]:
        """Dropout inside draws by seed, epoch and batch, as `Stepper` has it."""
        if not self._draws:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            seed = seed_of(self.settings.seed, "dropout", batch.epoch, batch.number, self.world.rank)
            torch.default_generator.manual_seed(seed)
            yield

    def _backward(self, rows: Tensor, targets: Targets, *, fresh: bool) -> Tensor:
        """Add to the gradients those of some rows (b, D), or set them; (2,) sums of loss and right rows."""
        read, masks, logits = self._forward(rows)
        wanted = self._wanted(logits, targets)  # (b, C)
        logs = functional.log_softmax(logits, dim=1)
        loss = -(wanted * logs).sum()
        predicted, right = logits.argmax(dim=1), torch.zeros(())
        for labels, share in ((targets.first, targets.share), (targets.second, 1 - targets.share)):
            if labels is not None:
                right += share * (predicted == labels).sum()
        # d loss / d logits = softmax * sum of what is wanted - what is wanted
        delta = logs.exp_().mul_(wanted.sum(dim=1, keepdim=True)).sub_(wanted).div_(targets.weight)
        beta = 0.0 if fresh else 1.0
        for number in reversed(range(len(self._head.layers))):
            linear = self._head.layers[number].linear
            assert linear.weight.grad is not None
            assert linear.bias.grad is not None
            torch.addmm(linear.weight.grad, delta.T, read[number], beta=beta, out=linear.weight.grad)
            linear.bias.grad.copy_(delta.sum(dim=0) if fresh else linear.bias.grad + delta.sum(dim=0))
            if number:
                delta = delta @ linear.weight
                mask = masks[number]
                delta = delta if mask is None else delta.mul_(mask)
                delta.mul_(read[number].sign())  # 0 where ReLU, or dropout after it, gave 0; else 1
        return torch.stack([loss, right])

    def _forward(self, rows: Tensor) -> tuple[list[Tensor], list[Tensor | None], Tensor]:
        """What each layer reads, the mask of its dropout, and the logits."""
        x = rows if self._head.standardise is None else self._head.standardise(rows)
        read, masks = list[Tensor](), list[Tensor | None]()
        for layer in self._head.layers:
            mask = None if layer.dropout is None else layer.dropout.mask(x)
            x = x if mask is None else x * mask
            masks.append(mask)
            read.append(x)
            x = functional.linear(x, layer.linear.weight, layer.linear.bias)
            if layer.relu:
                x = x.relu_()
        return read, masks, x

    def _wanted(self, logits: Tensor, targets: Targets) -> Tensor:
        """q (b, C) whose cross-entropy -sum(q * log softmax) is the loss: labels, class weights, smoothing, mixing."""
        wanted, weights, smooth = torch.zeros_like(logits), self._labels.weights, self.settings.label_smoothing
        for labels, share in ((targets.first, targets.share), (targets.second, 1 - targets.share)):
            if labels is not None:
                counts = torch.ones(len(labels)) if weights is None else weights[labels]
                wanted.scatter_add_(1, labels[:, None], (share * counts)[:, None])
        if smooth:
            even = 1.0 if weights is None else weights
            wanted.mul_(1 - smooth).add_(even * (smooth / logits.shape[1]))
        return wanted

    def apply(self) -> bool:
        """Take the step; it always is."""
        self.optimizer.step()
        return True


def _read(model: nn.Module) -> _Head | None:
    """The layers of a head that this module knows; None where there is anything else in it."""
    modules = list(_leaves(model))
    first = modules[0] if modules else None
    standardise = first if isinstance(first, Standardise) else None
    modules = modules[0 if standardise is None else 1 :]
    layers, dropout = list[_Layer](), None
    while modules:
        module = modules.pop(0)
        if type(module) is Dropout and dropout is None and module.plain:
            dropout = module
        elif type(module) is nn.Linear and module.bias is not None:
            relu = bool(modules) and type(modules[0]) is nn.ReLU
            if relu == (not modules):
                return None
            modules = modules[1:]
            layers.append(_Layer(module, dropout, relu))
            dropout = None
        else:
            return None
    trained = all(parameter.requires_grad for parameter in model.parameters())
    known = bool(layers) and not layers[-1].relu and dropout is None and trained
    return _Head(standardise, tuple(layers)) if known else None


def _leaves(model: nn.Module) -> Iterator[nn.Module]:
    """Modules in the order in which nested `nn.Sequential` run them."""
    if type(model) is not nn.Sequential:
        yield model
        return
    for module in model:
        yield from _leaves(module)

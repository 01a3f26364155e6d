"""A moving average of weights, kept beside the model that is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from headway.training.interrupts import undisturbed


class Average:
    """The exponential moving average of a model's parameters; buffers are copied (Polyak and Juditsky 1992).

    decay  of the average; the first steps have min(decay, (1 + step) / (10 + step)), or the random start would weigh
           on short trainings. The same as in TensorFlow's ExponentialMovingAverage(num_updates)
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps, from 1. What does not train stays as it is, bit for bit."""
        held, now = [], []
        live = {name for name, parameter in self._model.named_parameters() if parameter.requires_grad}
        for name, tensor in self._model.state_dict().items():
            if name in live:
                held.append(self.tensors[name])
                now.append(tensor)
            else:
                self.tensors[name].copy_(tensor)
        if held:
            torch._foreach_lerp_(held, now, 1 - min(self._decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`, a state_dict."""
        for name, held in self.tensors.items():
            held.copy_(tensors[name])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model has the average's weights inside, and its own again after it."""
        own = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
        try:
            with undisturbed():
                _copy(self._model, self.tensors)
            yield
        finally:
            with undisturbed():
                _copy(self._model, own)


@torch.no_grad()
def _copy(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(tensors[name])

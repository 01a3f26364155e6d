"""The one value that every road ends in and everything after starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.backbones.preprocess import Preprocess
from headway.training.heads import Head

if TYPE_CHECKING:
    from headway.backbones.trunk import TrunkFiles


@dataclass(frozen=True)
class Classifier:
    """Preprocess + backbone + head + temperature + class names.

    trunk        the network's graph, tensors and facts
    preprocess   how an image becomes the graph's input
    head         what was trained on top; its logits come before temperature
    temperature  logits are divided by it before the softmax; > 0
    classes      names, in the order of the logits
    """

    trunk: TrunkFiles
    preprocess: Preprocess
    head: Head
    temperature: float
    classes: tuple[str, ...]

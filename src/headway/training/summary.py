"""A network layer by layer: shapes, parameters, multiply-adds, megabytes (by torchinfo)."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from typing import Any

from torch import nn

from headway.backbones.network import build_network
from headway.backbones.weights import WeightsChoice

# torchinfo prints its unit as Python spells it: (Units.GIGABYTES), for billions of multiply-adds.
_UNIT = re.compile(r"\(Units\.([GMKT])\w+\)")


def build_head(width: int, hidden: tuple[int, ...], dropouts: tuple[float, ...], n_classes: int) -> nn.Sequential:
    """The head as a torch module: dropout, linear, ReLU for each hidden layer, then linear."""
    layers: list[nn.Module] = []
    for units, dropout in zip(hidden, dropouts, strict=True):
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    layers.append(nn.Linear(width, n_classes))
    return nn.Sequential(*layers)


def summarise_network(
    backbone: str,
    hidden: tuple[int, ...],
    dropouts: tuple[float, ...],
    *,
    n_classes: int,
    image: int,
    batch: int,
) -> dict[str, Any]:
    """The frozen `backbone` with a new head on its last features. No weights are needed or loaded.

    Returns text (the table), parameters, trainable, multiply-adds of the batch, and megabytes as torchinfo counts them.
    """
    import torchinfo

    network = build_network(backbone, WeightsChoice("none", "none"), image=image, seed=0)
    width = _cut_classifier(network, image)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    head = build_head(width, hidden, dropouts, n_classes)
    whole = nn.Sequential(OrderedDict(backbone=network, head=head))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchinfo uses what newer torch versions call otherwise
        found = torchinfo.summary(
            whole,
            input_size=(batch, 3, image, image),
            col_names=("input_size", "output_size", "num_params", "trainable"),
            row_settings=("var_names",),
            depth=4,
            device="cpu",
            verbose=0,
        )
    return {
        "backbone": backbone,
        "parameters": found.total_params,
        "trainable": found.trainable_params,
        "multiply_adds": found.total_mult_adds,
        "megabytes": {
            "input": round(found.to_megabytes(found.total_input), 2),
            "forward_backward": round(found.to_megabytes(found.total_output_bytes), 2),
            "parameters": round(found.to_megabytes(found.total_param_bytes), 2),
            "total": round(
                found.to_megabytes(found.total_input + found.total_output_bytes + found.total_param_bytes), 2
            ),
        },
        "text": _UNIT.sub(r"(\1)", str(found)),
    }


def _cut_classifier(network: nn.Module, image: int) -> int:
    """Take the classifier off, in place; the width of what is left."""
    import torch

    from headway.backbones.network import remove_classifier

    remove_classifier(network)
    with torch.inference_mode():
        return int(network(torch.zeros(1, 3, image, image)).shape[1])

"""A network layer by layer: shapes, parameters, multiply-adds, megabytes (by torchinfo), and what each road trains."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headway.backbones.network import Trunk, build_network, cut_trunk, own_preprocess, remove_classifier
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice
from headway.settings import FitSettings
from headway.training.head_layers import build_head
from headway.training.staged import StagedClassifier

# torchinfo prints its unit as Python spells it: (Units.GIGABYTES), for billions of multiply-adds.
_UNIT = re.compile(r"\(Units\.([GMKT])\w+\)")


@dataclass(frozen=True)
class SummaryRequest:
    """What is summed up; see the options of the same names.

    strategy     probe (the head learns), finetune (`thaw` decides) or scratch (everything learns)
    thaw         how many of the last stages learn with the head; None = all
    small_stem   the stem is made for small images where it can be (scratch)
    log_softmax  show it as the last layer: the same network, whose outputs are log-probabilities
    """

    backbone: str
    hidden: tuple[int, ...]
    dropouts: tuple[float, ...]
    n_classes: int
    image: int
    batch: int
    strategy: str = "probe"
    thaw: int | None = None
    small_stem: bool = False
    log_softmax: bool = False

    @staticmethod
    def of(settings: FitSettings, classes: int) -> SummaryRequest:
        """What settings of `fit` would train."""
        return SummaryRequest(
            settings.backbone,
            settings.hidden,
            settings.dropouts,
            n_classes=classes,
            image=settings.image,
            batch=settings.batch,
            strategy=settings.strategy,
            thaw=None if settings.thaw == "all" else int(settings.thaw),
            small_stem=settings.small_stem,
            log_softmax=settings.log_softmax,
        )

    def live(self, strategy: str) -> int | None:
        """How many of the last stages learn under a strategy; None = all."""
        return {"probe": 0, "finetune": self.thaw, "scratch": None}[strategy]


def summarise(request: SummaryRequest) -> dict[str, Any]:
    """The backbone with a new head on its last features, as a strategy trains it. No weights are needed or loaded.

    Returns text (the table, then head and stages), parameters, trainable, trains (trainable parameters by strategy),
    head (its layers in words), stages (name, parameters, trainable), multiply-adds of the batch, and megabytes as
    torchinfo counts them. Raises Refused for an unknown backbone.
    """
    trunk = _trunk(request)
    with torch.no_grad():
        width = trunk.last(torch.zeros(1, trunk.size, trunk.size, 3)).shape[1]
    head = build_head(width, request.hidden, request.dropouts, request.n_classes)
    if request.log_softmax:
        head.append(nn.LogSoftmax(dim=1))
    model = StagedClassifier(trunk, head)
    trains = {}
    for strategy in ("probe", "finetune", "scratch"):
        model.thaw(request.live(strategy))
        trains[strategy] = model.count()[1]
    model.thaw(request.live(request.strategy))
    parameters, trainable = model.count()
    stages, layers = _stage_rows(model), [_layer_words(layer) for layer in head]
    found = _table(trunk, head, request)  # takes the library's classifier off
    return {
        "backbone": request.backbone,
        "strategy": request.strategy,
        "parameters": parameters,
        "trainable": trainable,
        "trains": trains,
        "head": layers,
        "stages": stages,
        "multiply_adds": found.total_mult_adds,
        "megabytes": {
            "input": round(found.to_megabytes(found.total_input), 2),
            "forward_backward": round(found.to_megabytes(found.total_output_bytes), 2),
            "parameters": round(found.to_megabytes(found.total_param_bytes), 2),
            "total": round(
                found.to_megabytes(found.total_input + found.total_output_bytes + found.total_param_bytes), 2
            ),
        },
        "text": "\n".join([_UNIT.sub(r"(\1)", str(found)), *_told(layers, stages, trains)]),
    }


def _trunk(request: SummaryRequest) -> Trunk:
    none = WeightsChoice("none", "none:0")
    network = build_network(request.backbone, none, image=request.image, seed=0, small_stem=request.small_stem)
    asked = TrunkRequest(request.backbone, none.identity, request.image, None, None, request.small_stem)
    return cut_trunk(network, own_preprocess(request.backbone, network, asked))[0]


def _table(trunk: Trunk, head: nn.Module, request: SummaryRequest) -> Any:
    """What torchinfo finds of backbone and head for a batch of images."""
    import torchinfo

    if trunk.stages:
        remove_classifier(trunk.network)
    whole = nn.Sequential(OrderedDict(backbone=trunk.network, head=head))

    # On the device "meta" only shapes are known: nothing is computed, and a batch of any size takes no memory.
    blank = torch.empty(request.batch, 3, request.image, request.image, device="meta")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchinfo uses what newer torch versions call otherwise
        return torchinfo.summary(
            whole.to("meta"),
            input_data=blank,
            col_names=("input_size", "output_size", "num_params", "trainable"),
            row_settings=("var_names",),
            depth=4,
            device="meta",
            verbose=0,
        )


def _stage_rows(model: StagedClassifier) -> list[dict[str, Any]]:
    """Parameters of each stage and of the head, and how many of them learn now."""
    counts = [[0, 0] for _ in range(model.n_stages + 1)]
    depths = model.depths()
    for name, parameter in model.named_parameters():
        if name in depths:
            counts[depths[name]][0] += parameter.numel()
            counts[depths[name]][1] += parameter.numel() * parameter.requires_grad
    names = [*(stage.name for stage in model.stages), "head"]
    return [
        {"name": name, "parameters": whole, "trainable": learning}
        for name, (whole, learning) in zip(names, counts, strict=True)
    ]


def _layer_words(layer: nn.Module) -> str:
    """`Linear 2048→1024`, `Dropout 0.5`, `ReLU`."""
    if isinstance(layer, nn.Linear):
        return f"Linear {layer.in_features}→{layer.out_features}"
    if isinstance(layer, nn.Dropout):
        return f"Dropout {layer.p:g}"
    return type(layer).__name__


def _told(layers: list[str], stages: list[dict[str, Any]], trains: dict[str, int]) -> Iterator[str]:
    """Head and stages as lines of text under the table."""
    yield "Head, layer by layer"
    yield from (f"  {layer}" for layer in layers)
    yield f"Trained parameters: {', '.join(f'{strategy} {count:,}' for strategy, count in trains.items())}"
    wide = max(len(stage["name"]) for stage in stages)
    yield f"{'Stage':<{max(wide, 5)}}  {'parameters':>12}  {'trained':>12}"
    for stage in stages:
        yield f"{stage['name']:<{max(wide, 5)}}  {stage['parameters']:>12,}  {stage['trainable']:>12,}"

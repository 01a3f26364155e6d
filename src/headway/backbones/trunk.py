"""A prepared network on disk: its graph for the engines, its tensors, and the facts about both.

Preparing imports timm and exports a graph (seconds); what comes out is kept under a digest of everything that
went in, so that the next run reads three files instead.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import files
from headway.backbones.catalog import CNN, CNN_PREPROCESS, PACKAGED_PREPROCESS
from headway.backbones.preprocess import Preprocess
from headway.backbones.transformers_folder import PREFIX
from headway.machine import version

VERSION = 4  # of the rules by which a network becomes a graph with taps


@dataclass(frozen=True)
class Tap:
    """One named group of feature columns: `last` (pooled output) or `stage2_mean` and so on. `dim` columns."""

    name: str
    dim: int


@dataclass(frozen=True)
class TrunkFiles:
    """A prepared network.

    graph    ONNX: input `image` uint8 (B, S, S, 3), any B, normalisation inside; one float32 output (B, d) a tap
    tensors  safetensors with the library's own state_dict names, without the classifier
    facts    name, source, taps, parameters, licence, weights, stem, digests, layers, ... (plain JSON)
    """

    graph: Path
    tensors: Path
    facts: Mapping[str, Any]

    @property
    def taps(self) -> tuple[Tap, ...]:
        return tuple(Tap(tap["name"], tap["dim"]) for tap in self.facts["taps"])

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing that the weights were trained with, at this trunk's input size."""
        return Preprocess.from_json(self.facts["preprocess"])


@dataclass(frozen=True)
class TrunkRequest:
    """What decides a prepared network. `weights` is the identity of the weights, not their place.

    name     as the user gave it
    weights  "packaged:<sha256>", "file:<sha256>", "hub", "none:<seed>"
    image    side of the input in pixels, None = the weights' own
    mean, std  of 0..1 values, None = the weights' own
    small_stem  adapt the stem to an image of at most 64 pixels where it can be (random weights only; see stems)
    """

    name: str
    weights: str
    image: int | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    small_stem: bool = False

    @property
    def _libraries(self) -> tuple[str, ...]:
        common = ("torch", "timm", "torchvision", "onnxscript")
        return (*common, "transformers") if self.name.startswith(PREFIX) else common

    @property
    def digest(self) -> str:
        return files.digest_json(
            {
                "version": VERSION,
                "name": self.name,
                "weights": self.weights,
                "image": self.image,
                "mean": self.mean,
                "std": self.std,
                "small_stem": self.small_stem,
                "libraries": [version(package) for package in self._libraries],
            }
        )


def known_preprocess(request: TrunkRequest) -> Preprocess | None:
    """The preprocessing of the packaged weights and of `cnn`, told without building the network; None of others."""
    if request.name == CNN:
        side, interpolation, mean, std = CNN_PREPROCESS
        size = request.image or side
        return Preprocess(size, None, "squash", interpolation, request.mean or mean, request.std or std)
    name = request.name.removeprefix("timm:")
    if name in PACKAGED_PREPROCESS and request.weights.startswith("packaged:"):
        side, crop, interpolation, mean, std = PACKAGED_PREPROCESS[name]
        size = request.image or side
        return Preprocess(size, int(size / crop), "crop", interpolation, request.mean or mean, request.std or std)
    return None


def trunk_folder(cache: Path, request: TrunkRequest) -> Path:
    """Where the prepared network of `request` lies, or will lie."""
    return cache / "trunks" / request.digest[:32]


def cached_trunk(cache: Path, request: TrunkRequest) -> TrunkFiles | None:
    """The prepared network of `request`, or None where it is not there whole."""
    return read_trunk(trunk_folder(cache, request))


def read_trunk(folder: Path) -> TrunkFiles | None:
    """The prepared network in `folder`, its use noted; None where it is not there whole."""
    trunk = check_trunk(folder)
    if trunk is not None:
        # A cache that others keep, or from which another process removes it at this moment: its reader will say so.
        with contextlib.suppress(PermissionError, FileNotFoundError):
            os.utime(folder / "facts.json")  # "last used", for headway cache prune
    return trunk


def check_trunk(folder: Path) -> TrunkFiles | None:
    """The prepared network in `folder`; None where a file is missing or its digest is not the noted one."""
    try:
        facts = files.read_json(folder / "facts.json")
        noted = facts.pop("facts_digest")
        trunk = TrunkFiles(folder / "graph.onnx", folder / "tensors.safetensors", facts)
        whole = (
            files.digest_json(facts) == noted
            and files.digest_file(trunk.graph) == facts["graph_digest"]
            and files.digest_file(trunk.tensors) == facts["tensors_digest"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return trunk if whole else None

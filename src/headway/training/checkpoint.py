"""Checkpoints: safetensors with a checksum inside, two generations, no pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headway import files
from headway.backbones.network import tensors_digest

_NAME = re.compile(r"step-(\d{10})\.safetensors")
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What was saved. `damaged` names newer files that could not be read."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    damaged: tuple[str, ...] = ()


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write a new generation and remove all but two; the older one stays whole until the newer is on the disk.

    Temporary file, fsync, rename, fsync of the folder; sha256 over names, types, shapes, bytes and facts inside.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    whole = torch.contiguous_format
    plain = {name: tensor.detach().cpu().clone(memory_format=whole) for name, tensor in tensors.items()}
    told = json.dumps(facts, sort_keys=True)
    generations = _generations(folder)
    number = 1 + max(generations, default=0)
    path = folder / f"step-{number:010d}.safetensors"
    files.write_bytes(path, save(plain, {"facts": told, "sha256": _digest(plain, told)}))
    for old in sorted(generations)[: -(_KEPT - 1)]:
        generations[old].unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest generation that is whole; None where there is none. Files that are not whole are named."""
    damaged: list[str] = []
    generations = _generations(folder)
    for number in sorted(generations, reverse=True):
        found = _read(generations[number])
        if found is not None:
            return Checkpoint(*found, damaged=tuple(damaged))
        damaged.append(generations[number].name)
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name).clone() for name in stream.keys()}  # noqa: SIM118 - no mapping
        told = metadata["facts"]
        facts = json.loads(told)
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return (tensors, facts) if metadata.get("sha256") == _digest(tensors, told) else None


def _generations(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in found if match}


def _digest(tensors: Mapping[str, Tensor], told: str) -> str:
    return files.digest_json([told, tensors_digest(tensors)])

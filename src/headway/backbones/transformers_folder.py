"""Where the model behind hf:FOLDER or hf:NAME lies, and what makes it the same one. Imports neither torch nor more."""

from __future__ import annotations

import re
from pathlib import Path

from headway import files
from headway.errors import Refused

PREFIX = "hf:"
CONFIG, SOURCE_CARD = "config.json", "README.md"
_WANTED = [CONFIG, "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", SOURCE_CARD]
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def find_folder(name: str, *, fetch: bool = False) -> Path:
    """The folder that hf:`name` means: its own place, or what was fetched of a repository on the hub.

    fetch  ask the hub where it is not here

    Raises Refused where there is none.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        if not (place / CONFIG).is_file():
            raise Refused(f"--backbone hf:{name}: {place}/ holds no {CONFIG}: expected a folder of save_pretrained")
        return place
    if not _NAME.fullmatch(name):
        raise Refused(f"--backbone hf:{name}: there is no such folder, and it is no name on the hub (user/name)")
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants, errors
    except ImportError:
        raise Refused(f"--backbone hf:{name} needs the hub's client: pip install 'headway[hub]'") from None
    try:
        return Path(hub.snapshot_download(name, allow_patterns=_WANTED, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        if not fetch or constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set" if fetch else "--offline was given"
            raise Refused(f"--backbone hf:{name} is not on this machine, and {why}. Give a folder: hf:FOLDER") from None
    try:
        hub.model_info(name)  # says at once where there is no network
        return Path(hub.snapshot_download(name, allow_patterns=_WANTED))
    except errors.RepositoryNotFoundError:
        raise Refused(f"--backbone hf:{name}: no such model on {constants.ENDPOINT}, or none to read") from None
    except Exception as error:
        raise Refused(
            f"--backbone hf:{name} is not on this machine, and {constants.ENDPOINT} cannot be reached "
            f"({type(error).__name__}). Give a folder: hf:FOLDER"
        ) from error


def identity(folder: Path, *, weights: bool) -> str:
    """sha256 over the files that decide the network. Raises Refused where weights are wanted and there are none.

    weights  with the tensors, not only the configuration
    """
    tensors = sorted(folder.glob("*.safetensors")) if weights else []
    if weights and not tensors:
        raise Refused(f"{folder}/ holds no model.safetensors: save the model with save_pretrained, or --weights none")
    told = [path for path in (folder / CONFIG, folder / "preprocessor_config.json") if path.is_file()]
    return files.digest_json([[path.name, files.digest_file(path)] for path in (*told, *tensors)])

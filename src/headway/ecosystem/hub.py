"""Bundles on the Hugging Face hub: `push` one as a model repository, `pull` one and prove that it is whole.

All traffic goes through huggingface_hub: its endpoint (HF_ENDPOINT), its token (HF_TOKEN, or `hf auth login`; never
shown), its cache, HF_HUB_OFFLINE. Whatever can be refused is refused before a byte is sent.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from headway import __version__, files
from headway.deployment.bundle import check_files
from headway.deployment.manifest import MANIFEST, Manifest, read_manifest
from headway.errors import HeadwayError, Refused
from headway.events import Event, Line, Note

Events = Generator[Event, None, dict[str, Any]]

# What of an earlier bundle goes where the new one does not have it; files of anybody else stay.
_OF_BUNDLES = ["config.json", "probe/*", "confidence/*", "portable/*"]


def push(bundle: str | Path, repo: str, *, public: bool = False) -> Events:
    """Put the bundle folder `bundle` into the model repository `repo` ("user/name", or "name" of the token's user).

    public  make the repository public where it is new, and allow one that is; else it is private

    Returns {"repo", "url", "commit", "private", "digest", "files", "bytes"}. Raises Refused where it is no whole
    bundle, the name is none, there is no token, no network, no right to write there, or the repository is public and
    that was not asked for; HeadwayError where the transfer fails.
    """
    folder = Path(bundle)
    manifest = check_files(folder)
    names = _names(folder)
    size = sum((folder / name).stat().st_size for name in names)
    yield Line("bundle", f"{folder}: {_told(manifest)}, {len(names)} files, {size / 1e6:.1f} MB")
    with _hub(repo, writes=True) as hub:
        place = hub.create_repo(repo, private=not public, exist_ok=True).repo_id
        private = bool(hub.model_info(place).private)
        if not private and not public:
            raise Refused(f"{place} is public: everybody would read the bundle. Say --public, or take another name.")
    if not private:
        yield Note(f"{place} is public, and probe/ holds a few of your validation images: all can see them")
    elif public:
        yield Note(f"{place} was there before and stays private; its settings page makes it public")
    message = f"headway {__version__}: {manifest.backbone.get('name', 'bundle')}, bundle {manifest.digest[:12]}"
    with _hub(repo, writes=True, begun=True) as hub:
        commit = hub.upload_folder(
            repo_id=place,
            folder_path=folder,
            commit_message=message,
            allow_patterns=names,
            delete_patterns=_OF_BUNDLES,
        ).oid
        url = f"{hub.constants.ENDPOINT}/{place}"
    yield Line("pushed", f"{url} ({'private' if private else 'public'}, commit {commit[:12]})")
    yield Line("next", f"headway pull {place}")
    return {
        "repo": place,
        "url": url,
        "commit": commit,
        "private": private,
        "digest": manifest.digest,
        "files": len(names),
        "bytes": size,
    }


def pull(repo: str, folder: str | Path | None = None, *, revision: str | None = None) -> Events:
    """Fetch the bundle in the model repository `repo` into `folder`, which appears once every digest is right.

    folder    where to; by default the repository's own name, here
    revision  a branch, tag or commit; by default the main branch

    What was fetched before comes from the hub's cache. Returns {"repo", "commit", "bundle", "digest", "files"}.
    Raises Refused where the repository is not there or holds no bundle, there is no network, or `folder` is taken;
    HeadwayError where what came is not what the manifest says.
    """
    target = Path(folder) if folder is not None else Path(repo.rpartition("/")[2])
    _check_place(target)
    with _hub(repo) as hub:
        if not hub.constants.HF_HUB_OFFLINE:  # asked first, as it says at once where there is no network
            hub.model_info(repo, revision=revision)
        first = Path(hub.hf_hub_download(repo, MANIFEST, revision=revision))
    manifest, commit = read_manifest(first.parent), first.parent.name
    if target.is_dir() and any(target.iterdir()):
        _refuse_other(target, manifest)
        yield Note(f"{target}/ is this bundle already; nothing was fetched")
        names = _names(target)
    else:
        yield Line("bundle", f"{repo}: {_told(manifest)}")
        with _hub(repo, begun=True) as hub:
            snapshot = Path(hub.snapshot_download(repo, revision=commit))
        names = _names(snapshot)
        _copy(snapshot, target, names, repo)
        yield Line("pulled", f"{target}/, {len(names)} files, every digest right (commit {commit[:12]})")
        yield Line("next", f"headway predict {target} IMAGE")
    return {"repo": repo, "commit": commit, "bundle": str(target), "digest": manifest.digest, "files": len(names)}


def _told(manifest: Manifest) -> str:
    return f"{len(manifest.classes)} classes, {manifest.backbone.get('name', '?')}, {manifest.digest[:12]}"


def _names(folder: Path) -> list[str]:
    """Every file under `folder` but hidden ones, relative to it, sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _check_place(target: Path) -> None:
    if not target.parent.is_dir():
        raise Refused(f"{target.parent} does not exist; the bundle would be written into it.")
    if target.exists() and not target.is_dir():
        raise Refused(f"{target} is a file; the bundle would be a folder of that name. Give another DIR.")


def _refuse_other(target: Path, wanted: Manifest) -> None:
    try:
        same = check_files(target).digest == wanted.digest
    except Refused:
        same = False
    if not same:
        raise Refused(f"{target}/ exists and is not this bundle. Give another DIR, or remove it.")


def _copy(snapshot: Path, target: Path, names: list[str], repo: str) -> None:
    with files.new_folder(target) as new:
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot / name, new / name)  # the cache's links are followed
        try:
            check_files(new)
        except Refused as error:
            said = str(error).replace(f"{new}/", "").replace(str(new), "it")
            raise HeadwayError(f"{repo} does not hold a whole bundle, so nothing was kept. {said}") from error


# The hub's own client ---------------------------------------------------------------------------------------------


@contextmanager
def _hub(repo: str, *, writes: bool = False, begun: bool = False) -> Iterator[Any]:
    """The module huggingface_hub, its bars still, its errors told as ours.

    begun  bytes may have moved: what fails then is a failure, no refusal
    """
    try:
        hub: Any = import_module("huggingface_hub")
        for name in ("constants", "utils"):  # which it does not always bring by itself
            import_module(f"huggingface_hub.{name}")
    except ImportError:
        raise Refused("the hub needs huggingface_hub, which is not installed: pip install 'headway[hub]'") from None
    if writes and hub.constants.HF_HUB_OFFLINE:
        raise Refused("HF_HUB_OFFLINE is set, so the hub is not asked. Unset it to push.")
    if writes and hub.get_token() is None:
        raise Refused("there is no token for the hub. Log in with: hf auth login (or set HF_TOKEN)")
    still = hub.utils.are_progress_bars_disabled()
    hub.utils.disable_progress_bars()
    try:
        yield hub
    except HeadwayError:
        raise
    except Exception as error:
        said, unfit = _why(hub, repo, error, writes)
        raise (HeadwayError(f"{said} Run the same command again.") if begun and not unfit else Refused(said)) from error
    finally:
        if not still:
            hub.utils.enable_progress_bars()


def _why(hub: Any, repo: str, error: Exception, writes: bool) -> tuple[str, bool]:
    """What went wrong in one line, and whether it goes wrong again. Raises `error` where it is no trouble of the hub's.

    Addresses are not told, as some bear a signature.
    """
    from huggingface_hub import errors

    host = hub.constants.ENDPOINT
    if isinstance(error, errors.HFValidationError):
        return f"'{repo}' is no name of a repository: expected user/name, of letters, digits, '-', '_' and '.'.", True
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: ask for access on {host}/{repo}, then log in with: hf auth login", True
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no such revision.", True
    if isinstance(error, errors.RepositoryNotFoundError):
        token = "and the token has no access" if hub.get_token() else "and there is no token (hf auth login)"
        return f"there is no repository {repo} on {host}, or it is private {token}.", True
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if hub.constants.HF_HUB_OFFLINE:
            return f"{repo} is not on this machine, and HF_HUB_OFFLINE is set, so the hub is not asked.", True
        return f"{host} cannot be reached.", False
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repo} is not a bundle: it has no {MANIFEST}.", True
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(repo, error, writes, host)
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests", "urllib3"):
        return f"{host} cannot be reached ({type(error).__name__}).", False
    raise error


def _refusal(repo: str, error: Any, writes: bool, host: str) -> tuple[str, bool]:
    status = getattr(error.response, "status_code", None)
    if status == 401:
        return f"{host} does not know the token. Log in with: hf auth login (or set HF_TOKEN)", True
    if status == 403:
        what = "write to" if writes else "read"
        return f"the token may not {what} {repo}. Take one that may: https://huggingface.co/settings/tokens", True
    said = " ".join(str(error.server_message or "").split())
    return f"{host} answered {status}{f' ({said})' if said else ''}.", False

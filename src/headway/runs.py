"""The run folder: made at once, held by one process, gone on with by the same command, never mixed with another run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from headway import files
from headway.choices import Comparison
from headway.conflicts import option
from headway.errors import Refused
from headway.machine import machine, versions
from headway.settings import FitSettings, from_yaml, to_yaml
from headway.world import around, threads_of

_SETTINGS, _RESOLVED, _EVALUATION, _LAST = "settings.yaml", "resolved.json", "evaluation.json", "report.html"
_COMPARISON, _COMPARED = "comparison.yaml", "comparison.json"
# What the first start settled about software and machine; a later one is held against it.
_ORIGIN = ("versions", "machine", "world_size", "threads", "started_in")
# What may stand in the folder of a run before it: a killed start of it, or the search whose winner it fits.
_BESIDE = (_RESOLVED, "tune.yaml", "tuning.json", "study.db", "study.db-journal")

CHECKPOINTS, WORK = "checkpoints", ".work"  # what only an unfinished run needs


@dataclass(frozen=True)
class Run:
    """A run folder that this process holds.

    resolved     what an earlier start of this run settled (engine, preprocessing, versions); {} on the first start
    result       the final JSON where the run is finished, else None
    made         whether this start made the folder
    differences  where software, machine or processes are no longer those that the run began with, a sentence each
    """

    path: Path
    settings: FitSettings
    resolved: dict[str, Any]
    result: dict[str, Any] | None
    lock: IO[bytes]
    made: bool = False
    differences: tuple[str, ...] = ()

    def discard(self) -> None:
        """Take back a run that was refused before it wrote anything; else leave it, for what it says."""
        if any(item.name not in (_SETTINGS, _RESOLVED) for item in self.path.iterdir()):
            return
        for name in (_SETTINGS, _RESOLVED):
            (self.path / name).unlink(missing_ok=True)
        own = (self.path, self.path.parent) if self.settings.run is None else (self.path,)
        for folder in own if self.made else ():
            with contextlib.suppress(OSError):  # not empty: other runs
                folder.rmdir()

    def resolve(self, facts: Mapping[str, Any]) -> None:
        """Add to what is used from now on; a restart reads it and never decides again.

        What the first start settled about software, machine and processes stays as it was.
        """
        known = _resolved(self.path) or self.resolved
        origin = {name: known[name] for name in _ORIGIN if name in known}
        files.write_json(self.path / _RESOLVED, {**_made_by(self.settings), **known, **facts, **origin})


@dataclass(frozen=True)
class ComparisonFolder:
    """The folder of a comparison, held by this process; it may stand wherever a path may.

    settings  of each choice, with its own run folder inside
    result    what comparison.json holds where the comparison is finished, else None
    """

    path: Path
    comparison: Comparison
    settings: tuple[FitSettings, ...]
    result: dict[str, Any] | None
    lock: IO[bytes]
    made: bool = False

    def __fspath__(self) -> str:
        return str(self.path)

    def discard(self) -> None:
        """Take back a comparison that was refused before anything of it was written."""
        if any(item.name != _COMPARISON for item in self.path.iterdir()):
            return
        (self.path / _COMPARISON).unlink(missing_ok=True)
        own = (self.path, self.path.parent) if self.comparison.run is None else (self.path,)
        for folder in own if self.made else ():
            with contextlib.suppress(OSError):  # not empty: other runs
                folder.rmdir()


def open_run(settings: FitSettings) -> Run:
    """Make the run folder, or go on in the one that the same command left unfinished. Heavy imports: none.

    Raises Refused where the folder holds something else or another process works in it.
    """
    claim = Claim(
        _SETTINGS,
        to_yaml(settings),
        lambda path: None if (known := _settings_of(path)) is None else _same(known, settings, path),
        lambda path: _occupied(path, settings),
    )
    path, lock, made = take_folder(claim, settings.run, stem(settings.data))
    resolved, result = _resolved(path), finished(path)
    run = Run(path, settings, resolved, result, lock, made, tuple(_differences(resolved, settings)))
    if not resolved:
        run.resolve({})
    return run


def tidy(path: Path) -> None:
    """Remove what only an unfinished run needs."""
    for name in (CHECKPOINTS, WORK):
        shutil.rmtree(path / name, ignore_errors=True)


def open_comparison(comparison: Comparison) -> ComparisonFolder:
    """Make the folder of a comparison, or go on in the one that the same command left unfinished.

    Raises Refused where the folder holds something else or another process works in it.
    """
    text = comparison.to_yaml()

    def fits(path: Path) -> bool | None:
        try:
            known = (path / _COMPARISON).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return known == text if known else None

    claim = Claim(
        _COMPARISON,
        text,
        fits,
        lambda path: f"{path}/ holds another comparison, or the same with other options. Choose another --run.",
    )
    path, lock, made = take_folder(claim, comparison.run, f"{stem(comparison.data)}-compare")
    result: dict[str, Any] | None = None
    if (path / _LAST).exists():
        with contextlib.suppress(OSError, ValueError, TypeError):  # damaged since: compared anew
            result = dict(files.read_json(path / _COMPARED))
    settings = tuple(
        choice.model_copy(update={"run": path / name})
        for name, choice in zip(comparison.names, comparison.settings, strict=True)
    )
    return ComparisonFolder(path, comparison, settings, result, lock, made)


def resume_settings(run: str | Path) -> tuple[FitSettings, tuple[str, ...]]:
    """The settings of the run in that folder, to go on in it, and what is to be said about them.

    Files that are not where the settings say, seen from here, are looked for from where the run was started.
    Raises Refused where the folder holds no run, or its settings are damaged.
    """
    path = Path(run)
    if not path.is_dir():
        raise Refused(f"--resume {path}: no such folder. Expected the folder of a run, as runs/photos-1")
    if (path / _COMPARISON).exists():
        raise Refused(f"--resume {path}: a comparison. The same headway compare goes on with it")
    try:
        text = (path / _SETTINGS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Refused(f"--resume {path}: no run of headway, as it has no readable {_SETTINGS}") from None
    if not text:
        raise Refused(f"--resume {path}: stopped before its settings were written. Give the first command again")
    settings = from_yaml(text, str(path / _SETTINGS)).model_copy(update={"run": path})
    started = _resolved(path).get("started_in")
    moved = _moved(settings, Path(started)) if isinstance(started, str) else {}
    said = tuple(f"{getattr(settings, name)} is not here: {value} is taken" for name, value in moved.items())
    return settings.model_copy(update=moved), said


# Which folder ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """What a folder is to hold.

    file      the file that says so, and is locked; `text` is written where there is none
    fits      whether what a folder holds is the same; None = it holds nothing of the kind
    occupied  what is said of a folder that holds another of its kind
    """

    file: str
    text: str
    fits: Callable[[Path], bool | None]
    occupied: Callable[[Path], str]


def take_folder(claim: Claim, named: Path | None, base: str) -> tuple[Path, IO[bytes], bool]:
    """The folder, its lock, and whether it was made now."""
    for path in _candidates(named, base):
        fits = claim.fits(path)
        if fits:
            if named is None and (path / _LAST).exists():
                continue  # finished: the same command without --run makes a new run
        elif path.exists() and (fits is False or not _blank(path, claim.file)):
            if named is not None:
                raise Refused(claim.occupied(path) if fits is False else _foreign(path))
            continue
        made = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        lock = _hold(path / claim.file)
        if lock is None:
            if named is not None:
                raise Refused(f"another headway is at work in {path}/. Wait for it, or choose another --run.")
            continue
        fits = claim.fits(path)
        if fits is False:  # another command came first, between look and lock
            lock.close()
            if named is not None:
                raise Refused(claim.occupied(path))
            continue
        for left in path.glob(".*.tmp"):  # of a start that was killed while it wrote; ours alone: we hold the lock
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if fits is None:
            _fill(lock, claim.text)
        return path, lock, made
    raise AssertionError("the candidates never end")


def _candidates(named: Path | None, base: str) -> Iterator[Path]:
    if named is not None:
        yield named
        return
    number = 1
    while True:
        yield Path("runs") / f"{base}-{number}"
        number += 1


def stem(data: Path | str) -> str:
    """The beginning of a run folder's name. Of an address its last part, without what may be a signature; of a
    pattern the folder that it looks in."""
    if isinstance(data, str):
        data = Path(data.partition("?")[0].partition("://")[2])
    if any(mark in data.name for mark in "{*[") and not os.path.lexists(data):
        data = data.parent
    try:
        name = data.resolve().name
    except (OSError, RuntimeError):  # a ring of links: refused by whoever reads it
        name = data.name
    return re.sub(r"[^\w.-]+", "-", name.split(".")[0]).strip("-.") or "data"


def _blank(path: Path, settings: str) -> bool:
    """Whether nothing stands in the folder but what a start that was killed at once may have left."""
    return path.is_dir() and all(
        item.suffix == ".tmp" or item.name in _BESIDE or (item.name == settings and not item.stat().st_size)
        for item in path.iterdir()
    )


def _foreign(path: Path) -> str:
    return f"{path}/ is not empty and not a run of headway. Choose another --run; nothing in it was touched."


def _hold(file: Path) -> IO[bytes] | None:
    """Lock the folder until this process ends, however it ends; None where another process holds it."""
    stream = file.open("ab")
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            return None
    return stream


def _fill(lock: IO[bytes], text: str) -> None:
    # The locked file is kept: a rename would leave the lock on a file that no longer has a name.
    lock.truncate(0)
    lock.write(text.encode())
    lock.flush()
    os.fsync(lock.fileno())


# What a folder holds --------------------------------------------------------------------------------------------


def _settings_of(path: Path) -> FitSettings | None:
    try:
        return from_yaml((path / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Refused):
        return None


def _resolved(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, TypeError):  # not there yet, or not ours: decided anew
        return dict(files.read_json(path / _RESOLVED))
    return {}


def finished(path: Path) -> dict[str, Any] | None:
    """The final JSON of the run in that folder, where it is finished."""
    if (path / _LAST).exists():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # damaged since: judged anew
            return dict(files.read_json(path / _EVALUATION)["result"])
    return None


# The same, and what differs -------------------------------------------------------------------------------------


def _same(known: FitSettings, settings: FitSettings, path: Path) -> bool:
    """Whether two settings ask for the same work, by the same words or by the same places."""
    return not _differing(known, settings, path)


def _differing(known: FitSettings, settings: FitSettings, path: Path) -> list[str]:
    """Names of settings that differ. The folder of the run, who is told of it, and the name of the recipe do not
    count: what is in the recipe does."""
    old, new = known.model_dump(), settings.model_dump()
    names = [name for name in new if name not in ("run", "recipe", "track") and old[name] != new[name]]
    if set(names) & set(_PLACES):
        started = Path(_resolved(path).get("started_in") or ".")
        names = [name for name in names if name not in _PLACES or _at(started, old[name]) != _at(Path(), new[name])]
    return names


def _occupied(path: Path, settings: FitSettings) -> str:
    known = _settings_of(path)
    differing = [] if known is None else _differing(known, settings, path)
    told = ", ".join(name if name == "data" else option(name) for name in differing)
    return (
        f"{path}/ holds a run with other settings ({told}). "
        f"Choose another --run, or give the settings of that run to go on with it."
    )


_PLACES = ("data", "split", "weights")  # settings that may be paths


def _at(folder: Path, value: object) -> str:
    """Where a path leads, seen from a folder; other words stay."""
    word = str(value)
    if "://" in word:
        return word
    prefix = "local-dir:" if word.startswith("local-dir:") else ""
    return prefix + os.path.normpath((folder / word.removeprefix(prefix)).absolute())


def _moved(settings: FitSettings, started: Path) -> dict[str, Any]:
    """Paths that are not found from here but were from where the run was started."""
    found: dict[str, Any] = {}
    for name in _PLACES:
        value = getattr(settings, name)
        if value is None or value == "none":
            continue
        there = _at(started, value)
        here, elsewhere = (Path(str(place).removeprefix("local-dir:")) for place in (value, there))
        if not here.exists() and elsewhere.exists():
            found[name] = there if name == "weights" else Path(there)
    return found


def _made_by(settings: FitSettings) -> dict[str, Any]:
    return {
        "versions": versions(),
        "machine": machine(),
        "world_size": around().size,
        "threads": threads_of(settings.threads),  # of each process
        "started_in": str(Path.cwd()),
    }


def _differences(resolved: Mapping[str, Any], settings: FitSettings) -> Iterator[str]:
    """Where what decides bits is no longer what the run began with. Nothing about what was never written down."""
    if not resolved:
        return
    now = _made_by(settings)
    before, here = resolved.get("versions", {}), now["versions"]
    for name in sorted({*before, *here}) if before else ():
        if before.get(name) != here.get(name):
            yield _differs(name, before.get(name, "none"), here.get(name, "none"))
    facts = (
        ("the processor", resolved.get("machine", {}).get("processor"), now["machine"]["processor"]),
        ("the architecture", resolved.get("machine", {}).get("architecture"), now["machine"]["architecture"]),
        ("the number of processes", resolved.get("world_size"), now["world_size"]),
        ("the number of threads", resolved.get("threads"), now["threads"]),
    )
    yield from (_differs(what, was, is_now) for what, was, is_now in facts if was is not None and was != is_now)


def _differs(what: str, was: object, now: object) -> str:
    return f"{what} was {was} when this run began and is {now} now: its bits may differ from those of an unbroken run"

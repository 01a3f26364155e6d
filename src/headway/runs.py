"""The run folder: made at once, held by one process, gone on with by the same command, never mixed with another run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from headway import files
from headway.errors import Refused
from headway.machine import machine, versions
from headway.settings import FitSettings, from_yaml, option, to_yaml

_SETTINGS, _RESOLVED, _EVALUATION, _LAST = "settings.yaml", "resolved.json", "evaluation.json", "report.html"


@dataclass(frozen=True)
class Run:
    """A run folder that this process holds.

    resolved  what an earlier start of this run settled (engine, preprocessing, versions); {} on the first start
    result    the final JSON where the run is finished, else None
    made      whether this start made the folder
    """

    path: Path
    settings: FitSettings
    resolved: dict[str, Any]
    result: dict[str, Any] | None
    lock: IO[bytes]
    made: bool = False

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

    def resolve(self, facts: dict[str, Any]) -> None:
        """Write what is used from now on; a restart reads it and never decides again."""
        files.write_json(self.path / _RESOLVED, {**self.resolved, **_made_by(), **facts})


def open_run(settings: FitSettings) -> Run:
    """Make the run folder, or go on in the one that the same command left unfinished. Heavy imports: none.

    Raises Refused where the folder holds something else or another process works in it.
    """
    for path in _candidates(settings):
        known = _settings_of(path)
        if known is not None and _same(known, settings):
            if settings.run is None and (path / _LAST).exists():
                continue  # finished: the same command without --run makes a new run
        elif path.exists() and (known is not None or not _blank(path)):
            if settings.run is not None:
                raise Refused(_occupied(path, known, settings))
            continue
        made = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        lock = _hold(path)
        if lock is None:
            if settings.run is not None:
                raise Refused(f"another headway is at work in {path}/. Wait for it, or choose another --run.")
            continue
        now = _settings_of(path)
        if now is not None and not _same(now, settings):  # another command came first, between look and lock
            lock.close()
            if settings.run is not None:
                raise Refused(_occupied(path, now, settings))
            continue
        return _opened(path, settings, lock, made)
    raise AssertionError("the candidates never end")


def _candidates(settings: FitSettings) -> Iterator[Path]:
    if settings.run is not None:
        yield settings.run
        return
    base = re.sub(r"[^\w.-]+", "-", settings.data.resolve().name.split(".")[0]).strip("-.") or "data"
    number = 1
    while True:
        yield Path("runs") / f"{base}-{number}"
        number += 1


def _settings_of(path: Path) -> FitSettings | None:
    try:
        return from_yaml((path / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Refused):
        return None


def _blank(path: Path) -> bool:
    """Whether nothing stands in the folder but what a start that was killed at once may have left."""
    try:
        items = list(path.iterdir())
    except NotADirectoryError:
        return False
    return all(
        item.suffix == ".tmp" or item.name == _RESOLVED or (item.name == _SETTINGS and not item.stat().st_size)
        for item in items
    )


def _same(known: FitSettings, settings: FitSettings) -> bool:
    return known.model_copy(update={"run": None}) == settings.model_copy(update={"run": None})


def _occupied(path: Path, known: FitSettings | None, settings: FitSettings) -> str:
    if known is None:
        return f"{path}/ is not empty and not a run of headway. Choose another --run; nothing in it was touched."
    old, new = known.model_dump(), settings.model_dump()
    differing = [name if name == "data" else option(name) for name in new if name != "run" and old[name] != new[name]]
    return (
        f"{path}/ holds a run with other settings ({', '.join(differing)}). "
        f"Choose another --run, or give the settings of that run to go on with it."
    )


def _hold(path: Path) -> IO[bytes] | None:
    """Lock the folder until this process ends, however it ends; None where another process holds it."""
    stream = (path / _SETTINGS).open("ab")
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            return None
    return stream


def _opened(path: Path, settings: FitSettings, lock: IO[bytes], made: bool) -> Run:
    resolved: dict[str, Any] = {}
    result: dict[str, Any] | None = None
    with contextlib.suppress(OSError, ValueError, TypeError):  # not there yet, or not ours: decided anew
        resolved = dict(files.read_json(path / _RESOLVED))
    if (path / _LAST).exists():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # damaged since: judged anew
            result = dict(files.read_json(path / _EVALUATION)["result"])
    for left in path.glob(".*.tmp"):  # of a start that was killed while it wrote; ours alone, as we hold the lock
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if _settings_of(path) is None:
        lock.truncate(0)
        # The locked file is kept: a rename would leave the lock on a file that no longer has a name.
        lock.write(to_yaml(settings).encode())
        lock.flush()
        os.fsync(lock.fileno())
    run = Run(path, settings, resolved, result, lock, made)
    if not resolved:
        run.resolve({})
    return run


def _made_by() -> dict[str, Any]:
    return {"versions": versions(), "machine": machine()}

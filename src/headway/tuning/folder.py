"""The folder of a search: what was asked and the study, beside the winner's run, which is made there in the end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from headway import files
from headway.runs import Claim, finished, stem, take_folder
from headway.tuning.request import Request
from headway.tuning.study import FILE

ASKED, FOUND = "tune.yaml", "tuning.json"


@dataclass(frozen=True)
class SearchFolder:
    """The folder of a search, held by this process.

    found   what tuning.json holds where the search is over, else None
    result  the final JSON where the winner is fitted too, else None
    """

    path: Path
    found: dict[str, Any] | None
    result: dict[str, Any] | None
    lock: IO[bytes]
    made: bool = False

    def discard(self) -> None:
        """Take back a search that was refused before any trial."""
        names = (ASKED, FILE, f"{FILE}-journal")
        if any(item.name not in names for item in self.path.iterdir()):
            return
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.path, self.path.parent) if self.made else ():
            with contextlib.suppress(OSError):  # not empty: other runs
                folder.rmdir()


def open_search(request: Request) -> SearchFolder:
    """Make the folder of a search, or go on in the one that the same command left unfinished.

    Raises Refused where the folder holds something else or another process works in it.
    """
    text = request.to_yaml()

    def fits(path: Path) -> bool | None:
        try:
            known = (path / ASKED).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return known == text if known else None

    claim = Claim(
        ASKED,
        text,
        fits,
        lambda path: f"{path}/ holds another search, or the same with other options. Choose another --run.",
    )
    path, lock, made = take_folder(claim, request.base.run, f"{stem(request.base.data)}-tune")
    found: dict[str, Any] | None = None
    with contextlib.suppress(OSError, ValueError, TypeError):  # not there yet, or damaged since: judged anew
        found = dict(files.read_json(path / FOUND))
    fitted = finished(path) if found is not None else None
    return SearchFolder(path, found, None if fitted is None or found is None else told(fitted, found), lock, made)


def told(fitted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The final JSON: that of the winner's run, and what the search came to, but for its single trials."""
    return {**fitted, "tuning": {name: value for name, value in found.items() if name not in ("trials", "importance")}}

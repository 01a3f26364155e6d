"""A new environment without a download: what some requirements lead to, as links to the packages of this Python."""

from __future__ import annotations

import venv
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """name → every distribution that `requirements` lead to here, by the metadata of each."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in found and not requirement.extras:
            continue
        found[name] = distribution(requirement.name)
        for text in found[name].requires or []:
            waiting += [(Requirement(text), wanted) for wanted in ("", *requirement.extras)]
    return found


def environment(folder: Path, packages: Mapping[str, Distribution]) -> tuple[Path, Path]:
    """A new environment with `packages` alone; its Python and its site-packages."""
    venv.create(folder, symlinks=True, with_pip=False)
    target = next(folder.glob("lib/python*/site-packages"))
    for package in packages.values():
        link(package, target)
    return folder / "bin" / "python", target


def link(package: Distribution, target: Path) -> None:
    """Put the top of every file of `package` into the folder `target`, as links."""
    tops = {Path(str(file)).parts[0] for file in package.files or []} - {"..", "__pycache__"}
    for top in tops:
        place = target / top
        if not place.exists():
            place.symlink_to(Path(str(package.locate_file(top))))

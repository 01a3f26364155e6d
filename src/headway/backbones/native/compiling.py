"""Code in C, compiled for this processor by the compiler that is here; once, and kept for the user."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from headway import files
from headway.backbones.native.layers import NotNative
from headway.machine import code_folder, machine

_PATIENCE = 120.0  # seconds that a compiler may take; GCC 12 takes one and a half
_LIBRARY = "code.so"


@dataclass(frozen=True)
class Source:
    """Files of a package of ours; the first is compiled, the others are what it includes."""

    package: str
    names: tuple[str, ...]

    @property
    def place(self) -> Traversable:
        return resources.files(self.package)

    @property
    def digest(self) -> str:
        """What the code is; its numbers depend on nothing else but the instructions of a processor."""
        return files.digest_bytes(b"".join((self.place / name).read_bytes() for name in self.names))[:16]


NETWORK = Source("headway.backbones.native", ("network.c", "lanes.h", "plan.h", "dense.h", "winograd.h"))


def compiler() -> str | None:
    """The C compiler: $CC, else what this system calls one. None: there is none, or none that is known to do."""
    if sys.platform == "win32":  # Microsoft's knows none of the extensions
        return None
    named = os.environ.get("CC")
    return next((found for name in (named, "cc", "gcc", "clang") if name and (found := shutil.which(name))), None)


def compiled(source: Source) -> ctypes.CDLL:
    """The library, kept or compiled now (a second and a half at most). Raises NotNative where that fails."""
    program = compiler()
    if program is None:
        raise NotNative("there is no C compiler here")
    status = Path(program).stat()
    known = {
        "code": source.digest,
        "compiler": [program, status.st_size, int(status.st_mtime)],
        "flags": _flags(),
        "processor": machine()["processor"],
    }
    folder = code_folder() / files.digest_json(known)[:32]
    if not _loads(folder):
        try:
            _compile(program, source, folder)
        except OSError as error:  # a full disk, a folder that no one may write to
            raise NotNative(f"its code cannot be kept in {folder.parent} ({error.strerror})") from error
        if not _loads(folder):
            raise NotNative(f"what {program} made of its code cannot be loaded from {folder}")
    return ctypes.CDLL(str(folder / _LIBRARY))


def _loads(folder: Path) -> bool:
    """Whether it is there, whole and this user's own: code that others may change is not run."""
    library = folder / _LIBRARY
    try:
        status = library.stat()
        if status.st_uid not in (0, os.getuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        ctypes.CDLL(str(library))
    except OSError:  # not there yet, or not whole
        return False
    return True


def _flags() -> list[str]:
    tuned = "-march=native" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "-mcpu=native"
    return ["-std=gnu11", "-O2", tuned, "-fno-math-errno", "-fPIC", "-shared"]


def _compile(program: str, source: Source, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    own = resources.as_file(source.place)
    # What another process compiled meanwhile stays: it may have loaded it.
    with own as place, files.new_folder(folder, keep=lambda: _loads(folder)) as new:
        command = [program, *_flags(), "-o", str(new / _LIBRARY), str(place / source.names[0]), "-lm"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotNative(f"{program} cannot compile its code ({error})") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise NotNative(f"{program} cannot compile its code ({lines[0] if lines else done.returncode})")
        (new / _LIBRARY).chmod(0o755)  # whatever the user's mask: see _loads

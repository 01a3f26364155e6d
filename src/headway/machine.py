"""Facts about this machine and its software that decide bits and speed."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("headway", "torch", "timm", "torchvision", "onnxruntime", "onnx", "openvino"),
    *("numpy", "pillow", "pyarrow"),
)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them


def cache_folder() -> Path:
    """Where features and prepared networks are kept: HEADWAY_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("HEADWAY_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return _users_cache()


def _users_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "headway" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "headway"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headway"


def code_folder() -> Path:
    """Where code is kept that was compiled here: HEADWAY_CODE_DIR, else in the user's cache folder.

    Never in HEADWAY_CACHE_DIR, which others may write to, and which a run without a cache does away with.
    """
    chosen = os.environ.get("HEADWAY_CODE_DIR")
    return Path(chosen).expanduser().absolute() if chosen else _users_cache() / "code"


def usable_cores() -> int:
    """Number of processor cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(package: str) -> str | None:
    """The installed version of a distribution, read without importing it; None where it is missing."""
    import importlib.metadata as metadata  # a fifth of what --help takes

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package whose code decides numbers."""
    found = {package: version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text}}


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system, as one readable record."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()  # not Linux
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Memory of the machine, or what its control group may take of it where that is less; None = not told."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not Linux, or "max"
            whole = min(whole, int(Path(limit).read_text()))
    return whole


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None  # a system that does not tell


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, instead of giving each back to the system at once.

    Every step of training frees and wants the same gigabytes: without this the system clears each page anew, which
    took half of a step (measured with the default network on 2 cores). Only glibc has it; others are left alone.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for parameter, value in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            library.mallopt(parameter, value)


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """The stack on which this thread hears signals is afterwards what it was, whatever a library set meanwhile.

    OpenVINO sets its own, once for each of its cores, and gives the one before back when it goes. Two of them that do
    not go in the reverse order, or in another thread, leave one that is freed: the next Ctrl-C then ends the process
    with a segmentation fault (seen with OpenVINO 2026.4).
    """
    if sys.platform != "linux":
        yield
        return
    import ctypes

    library, before = ctypes.CDLL(None), ctypes.create_string_buffer(64)  # a stack_t, 24 bytes of it
    library.sigaltstack(None, before)
    try:
        yield
    finally:
        library.sigaltstack(before, None)


def process_seconds() -> float:
    """Seconds since this process started (since Python started where the system does not tell)."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError):
        return time.perf_counter()

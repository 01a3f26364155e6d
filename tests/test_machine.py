"""What is told of the machine, and where its cache lies."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from headway import machine


def test_cache__where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    for said, folder in ((str(tmp_path / "x"), "x"), ("~/y", "y"), ("z/../w", "z/../w")):
        monkeypatch.setenv("HEADWAY_CACHE_DIR", said)
        assert machine.cache_folder() == tmp_path / folder


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        ("linux", ".cache/headway"),
        ("darwin", "Library/Caches/headway"),
        ("win32", "AppData/Local/headway/cache"),
    ],
)
def test_cache__else_where_the_system_keeps_such_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, folder: str
) -> None:
    for variable in ("HEADWAY_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", system)

    assert machine.cache_folder() == tmp_path / folder


@pytest.mark.parametrize(("said", "folder"), [("/there", "/there/headway"), ("", "HOME/.cache/headway")])
def test_cache__follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, folder: str) -> None:
    monkeypatch.delenv("HEADWAY_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", said)

    assert str(machine.cache_folder()) == folder.replace("HOME", str(tmp_path))


def test_code__apart_from_a_cache_that_others_may_write_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWAY_CACHE_DIR", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))

    monkeypatch.setenv("HEADWAY_CODE_DIR", "~/there")
    assert machine.code_folder() == Path.home() / "there"

    monkeypatch.delenv("HEADWAY_CODE_DIR")
    assert machine.code_folder() == tmp_path / "own" / "headway" / "code"


def test_cores__those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.usable_cores() == len(os.sched_getaffinity(0))

    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.usable_cores() == os.cpu_count()

    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.usable_cores() == 1


def test_version__without_importing() -> None:
    assert machine.version("numpy") == importlib.metadata.version("numpy")
    assert machine.version("no-such-package") is None


def test_versions__python_and_what_decides_numbers() -> None:
    told = machine.versions()

    assert told["python"] == platform.python_version()
    assert {"torch", "timm", "onnxruntime", "numpy", "pillow", "pyarrow", "headway"} <= told.keys()
    assert all(told.values())


def test_machine__is_readable() -> None:
    told = machine.machine()

    assert told.keys() == {"processor", "architecture", "cores", "memory_gb", "system"}
    assert told["processor"]
    assert told["cores"] >= 1
    assert 0.1 < told["memory_gb"] < 100_000


def test_machine__where_the_system_tells_little(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", silent)

    assert machine.machine()["memory_gb"] is None
    assert machine.process_seconds() > 0


def test_process_seconds__count_from_its_start() -> None:
    code = "import time; time.sleep(0.5); from headway.machine import process_seconds; print(process_seconds())"

    told = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert 0.5 <= told < 60


def test_keep_freed_memory__large_blocks_come_back_without_new_pages() -> None:
    """In a process of its own: 64 MB taken, freed and taken again, ten times."""
    script = (
        "import resource, sys, numpy as np\n"
        "from headway.machine import keep_freed_memory\n"
        "if 'keep' in sys.argv: keep_freed_memory()\n"
        "np.ones(1 << 23)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): np.ones(1 << 23)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    faults = {
        word: int(
            subprocess.run([sys.executable, "-c", script, word], capture_output=True, text=True, check=True).stdout
        )
        for word in ("keep", "leave")
    }
    assert faults["keep"] <= faults["leave"]
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        assert faults["keep"] < 100


@pytest.mark.skipif(sys.platform != "linux", reason="compared with what Linux tells")
def test_memory_bytes__no_more_than_the_machine_has() -> None:
    found = machine.memory_bytes()

    whole = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert found is not None
    assert 0 < found <= int(whole.split()[1]) * 1024

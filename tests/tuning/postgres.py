"""A real PostgreSQL of one's own: made in a temporary folder, reached through a socket in it, gone with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "headway"
_BINARIES = "/usr/lib/postgresql/*/bin"  # Debian keeps them out of PATH


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl, of the newest version; None where there is none."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("pg_ctl") is not None:
        return Path(found).parent
    folders = sorted(Path("/").glob(_BINARIES[1:]), key=lambda path: int(path.parent.name.split(".")[0]))
    return next((path for path in reversed(folders) if (path / "initdb").exists()), None)


def _unprivileged() -> list[str]:
    """What a command begins with so that it does not run as root, which PostgreSQL refuses."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


@contextmanager
def server(bin_folder: Path) -> Iterator[str]:
    """A server with an empty database; its address as `--study` takes it."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:  # short: sockets need that
        folder = Path(name)
        data = folder / "data"
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        folder.chmod(0o755)

        def run(*words: str | Path) -> None:
            done = subprocess.run(
                [*_unprivileged(), *map(str, words)], cwd="/", capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stdout + done.stderr

        run(bin_folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        # The log in a file: a server that kept our pipe would keep us waiting for its end.
        run(bin_folder / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "-t", "60", "start")
        try:
            yield f"postgresql://{USER}@/postgres?host={folder}"
        finally:
            run(bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")

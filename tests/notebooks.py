"""The notebooks of examples/, run from the first cell to the last by a real kernel.

`python -m tests.notebooks` (`make notebooks`) runs each in an empty folder and writes the new output into it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SECONDS = 900  # a cell, on a machine that is busy with other things


def executed(path: Path, folder: Path) -> Any:
    """The notebook `path` with what its cells gave in the working folder `folder`. Raises CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    environment = {**os.environ, "HEADWAY_CACHE_DIR": str(folder / ".cache"), "HF_HUB_OFFLINE": "1"}
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.create_kernel_manager()
    kernel_python(client.km)
    client.execute(env=environment)
    return notebook


def kernel_python(manager: Any) -> None:
    """The kernel is this Python, whatever kernels are installed for the user."""
    manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def cleaned(notebook: Any) -> Any:
    """Without what changes from run to run and says nothing: the ids of displays, the kernel's version."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
    return notebook


def main() -> None:
    import nbformat

    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            done = cleaned(executed(path, Path(folder)))
        nbformat.write(done, path)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()

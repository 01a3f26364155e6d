"""A bundle → a new folder in another format, behind a gate: the format's own runtime must give the bundle's numbers."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from headway import files
from headway.backbones.openvino_graph import EXTRA
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.manifest import MANIFEST, PORTABLE, PROBE, PROBE_FILES
from headway.errors import HeadwayError, Refused, nearest
from headway.events import Event, Line
from headway.exports import Parity, measure_parity
from headway.formats.format import Format, Request
from headway.formats.snippet import write_readme

KINDS = ("onnx", "openvino", "torch", "torchscript", "triton", "mlflow", "browser")
INT8 = ("openvino", "mlflow")  # whose numbers are those of an int8 bundle
# What a kind needs beside a bundle's own packages: modules, and what brings them.
_NEEDS = {
    "openvino": (("openvino",), EXTRA),
    "torch": (("torch", "timm", "safetensors"), "pip install 'headway[train]'"),
    "mlflow": (("mlflow",), "pip install 'headway[track]'"),
    "torchscript": (("torch", "timm", "safetensors"), "pip install 'headway[train]'"),
}


@dataclass(frozen=True)
class Exported:
    """What was written. parity: None where no runtime was at hand to judge it, and it judges itself when opened."""

    kind: str
    path: Path
    n_bytes: int
    parity: Parity | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        parity = None if self.parity is None else self.parity.to_json()
        return {"to": self.kind, "path": str(self.path), "bytes": self.n_bytes, "parity": parity}


def export(bundle: Path, kind: str, out: Path | None, ort_web: Path | None) -> Generator[Event, None, dict[str, Any]]:
    """Write `bundle` as `kind` into the new folder `out` (see `check_export`) and tell what the gate found."""
    place = check_export(bundle, kind, out)
    if ort_web is not None and kind != "browser":
        raise Refused(f"--ort-web is for --to browser alone; --to {kind} needs no such package.")
    exported = export_bundle(Request(load_bundle(bundle), ort_web), kind, place)
    yield Line("parity", told_parity(exported) or _format(kind).judged)
    yield Line("written", f"{exported.path}/   {exported.n_bytes / 1e6:,.1f} MB; how to use it: README.md")
    return exported.to_json()


def told_parity(exported: Exported) -> str:
    """What the gate found, in one line; "" where there is none."""
    parity = exported.parity
    if parity is None:
        return ""
    ties = f", {parity.ties} in a tie" if parity.ties else ""
    apart = parity.probability_difference
    told = f"probabilities within {apart:.0e}" if apart else "the same bits"
    return f"{parity.n - parity.ties} of {parity.n} golden images get the same class{ties}, {told}"


def check_export(bundle: Path, kind: str, out: Path | None) -> Path:
    """The folder that the export will be; before anything is opened.

    out  None: beside the bundle, by the bundle's name and the kind

    Raises Refused for an unknown kind, for packages that are missing, and where the folder cannot be made or is there.
    """
    if kind not in KINDS:
        close = nearest(kind, KINDS, 1)
        hint = f" Did you mean --to {close[0]} ?" if close else ""
        raise Refused(f"--to {kind}: expected one of {', '.join(KINDS)}.{hint}")
    modules, brought = _NEEDS.get(kind, ((), ""))
    absent = [name for name in modules if find_spec(name) is None]
    if absent:
        raise Refused(f"--to {kind} needs {' and '.join(absent)}, which is not installed: {brought}")
    place = out or bundle.parent / f"{bundle.name}-{kind}"
    if os.path.lexists(place):
        raise Refused(f"{place} is there already, and an export never replaces anything. Name another: --out DIR")
    if not place.parent.is_dir():
        raise Refused(f"{place.parent} does not exist; the export would be written into it.")
    return place


def export_bundle(request: Request, kind: str, path: Path) -> Exported:
    """Write the bundle as `kind` into the new folder `path`: it appears by rename, whole and checked, or not at all.

    Raises Refused where the bundle is int8 and the format cannot give its numbers, HeadwayError where the format's
    runtime gives others than the bundle (see `exports.PROBABILITY_TOLERANCE`) or the network cannot be written so.
    """
    bundle = request.bundle
    _check_precision(bundle, kind)
    chosen = _format(kind)
    with files.new_folder(path) as folder:
        chosen.write(request, folder)
        parity = None if chosen.logits is None else _gate(chosen, request, folder)
        write_readme(chosen, request, folder, parity)
    n_bytes = sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return Exported(kind, path, n_bytes, parity)


def _format(kind: str) -> Format:
    from headway.formats import browser, mlflow_folder, onnx_file, openvino_ir, torch_files, triton

    return {
        "onnx": onnx_file.FORMAT,
        "openvino": openvino_ir.FORMAT,
        "torch": torch_files.PROGRAM,
        "torchscript": torch_files.SCRIPT,
        "triton": triton.FORMAT,
        "mlflow": mlflow_folder.FORMAT,
        "browser": browser.FORMAT,
    }[kind]


def _check_precision(bundle: Bundle, kind: str) -> None:
    if bundle.manifest.engine.get("precision") != "int8" or kind in INT8:
        return
    portable = bundle.path / PORTABLE
    other = f" Export its fp32 twin: headway export {portable} --to {kind}" if (portable / MANIFEST).is_file() else ""
    raise Refused(
        f"{bundle.path} computes in int8, whose numbers hold in OpenVINO alone: --to openvino or mlflow.{other}"
    )


def _gate(chosen: Format, request: Request, folder: Path) -> Parity:
    """The golden images, together and one alone, by the format's own runtime. Raises HeadwayError where it differs."""
    assert chosen.logits is not None
    bundle = request.bundle
    images = np.load(bundle.path / PROBE / PROBE_FILES[0], allow_pickle=False)  # (K, S, S, 3) uint8
    wanted = bundle.logits(images)
    parity = Parity(0, 0, 0, 0.0, 0.0, True)
    for some in (1, len(images)):  # a batch of another size must not be what a format stumbles over
        found = chosen.logits(folder, images[:some])
        parity = measure_parity(found, wanted[:some], bundle.temperature)
        if not parity.agrees:
            raise HeadwayError(
                f"{chosen.title} does not give the bundle's numbers: of {parity.n} golden images {parity.told()}. "
                "Nothing was written."
            )
    return parity

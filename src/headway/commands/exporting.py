"""export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.terminal.command import BundlePath, Json, Quiet, finish, screen


def export(
    context: typer.Context,
    bundle: BundlePath,
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="KIND", help="onnx, openvino, torch, torchscript, triton, mlflow, browser.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="A new folder.  [default: BUNDLE-KIND, beside it]")
    ] = None,
    ort_web: Annotated[
        str | None,
        typer.Option("--ort-web", metavar="FILE", help="For browser: onnxruntime-web's npm package, if not fetched."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a bundle for another runtime, which must then give the bundle's numbers."""
    from headway import workflow

    places = (None if word is None else Path(word) for word in (out, ort_web))
    events = workflow.export_bundle(bundle, to, *places)
    finish(context, events, json, screen(json, quiet))

"""A bundle as a model of MLflow: the flavour `python_function`, which mlflow loads and serves without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from headway import __version__
from headway.deployment.manifest import read_manifest
from headway.errors import Refused
from headway.machine import version

if TYPE_CHECKING:
    from mlflow.models import Model

LOADER = "headway.tracking.pyfunc"  # stands in every model that was saved: it must stay where it is


def save_mlflow(bundle: str | Path, folder: str | Path, described: Model | None = None) -> Path:
    """Write the bundle as an MLflow model into the new folder `folder`; returns it.

    The folder holds a copy of the bundle, `MLmodel` with the columns that go in and come out, and what to install:
    headway and mlflow, no torch. Nothing in it is a pickle. `mlflow.pyfunc.load_model(folder)` and
    `mlflow models serve -m folder` take it.

    described  what MLflow is to know of it beside that; None = nothing

    Raises Refused where `bundle` is no bundle, `folder` exists, or mlflow is not installed.
    """
    source, target = Path(bundle), Path(folder)
    manifest = read_manifest(source)
    if target.exists():
        raise Refused(f"{target} exists: expected a new folder for the model of MLflow")
    if version("mlflow") is None:
        raise Refused("a model of MLflow needs mlflow, which is not installed: pip install 'headway[track]'")
    from headway.tracking.mlflow_runs import settled

    with settled():
        from mlflow import pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

        params = ParamSchema([ParamSpec("coverage", "double", 0.0), ParamSpec("unknown", "double", 0.0)])
        signature = ModelSignature(
            inputs=Schema([ColSpec("binary", "image")]),
            outputs=Schema([ColSpec("string", "label", required=False), ColSpec("double", "probability")]),
            params=params,
        )
        engine = [f"openvino=={version('openvino')}"] if manifest.engine["name"] == "openvino" else []
        pyfunc.save_model(
            str(target),
            loader_module=LOADER,
            data_path=str(source),
            signature=signature,
            mlflow_model=described or Model(),
            pip_requirements=[f"headway=={__version__}", f"mlflow=={version('mlflow')}", *engine],
            metadata={"headway_bundle": manifest.digest},
        )
    return target

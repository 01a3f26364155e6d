"""The bundle as a model of MLflow, which holds the bundle as it is and predicts by it."""

from __future__ import annotations

from pathlib import Path

from headway.deployment.bundle import check_files
from headway.formats.format import Format, Request
from headway.tracking.mlflow_model import save_mlflow

MODEL = "model"


def _write(request: Request, folder: Path) -> None:
    save_mlflow(request.bundle.path, folder / MODEL)
    [manifest] = (folder / MODEL).glob("*/**/manifest.json")
    check_files(manifest.parent)


def _use(request: Request) -> str:
    return (
        "`pip install headway mlflow`, then in Python "
        f'`mlflow.pyfunc.load_model("{MODEL}").predict(pandas.DataFrame({{"image": ["photo.jpg"]}}))`, or as a server '
        f"`mlflow models serve -m {MODEL} --env-manager local`. An image is bytes, base64 "
        "or, not over the network, a path."
    )


FORMAT = Format(
    "a model of MLflow", (), _write, None, _use, "the model holds the bundle itself, every digest of it right"
)

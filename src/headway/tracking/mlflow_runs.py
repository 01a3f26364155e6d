"""MLflow: a run of headway as a run there, with settings, curves, figures, report, files and the bundle as a model.

MLFLOW_TRACKING_URI says where, MLFLOW_EXPERIMENT_NAME and MLFLOW_EXPERIMENT_ID what it belongs to. Without an address
it is a SQLite file beside the run folders. Only mlflow's client is used, never its global "active run".
"""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway import __version__
from headway.machine import process_seconds
from headway.runs import Run, stem
from headway.tracking.mlflow_model import save_mlflow
from headway.tracking.points import FILES, Ended, Point, plain

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", ".mlflow-artifacts"  # beside the run folders; hidden from what looks for runs there
_WHOLE = "headway.whole"  # tag of a run that has all there is to tell
_MODEL = "headway.model"  # tag with the id of the model that was made of the bundle
_AT_ONCE = 100  # parameters, and figures, of one request
_LONGEST = 5_900  # letters of a parameter: MLflow takes 6,000
# What mlflow reads from the environment. It tries for many minutes by itself; a run should not wait for a server.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class MlflowTracker:
    """One run, here and there. resolved.json keeps the id that it has there, so a later start goes on with it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.client: MlflowClient | None = None
        self.uri = self.run_id = self.experiment = ""
        self.known: set[tuple[str, int]] = set()
        self.tags: dict[str, str] = {}

    def begin(self) -> None:
        """Go on with the run there that an earlier start began, or begin one."""
        with settled():
            import mlflow

            own = self._own()
            self.uri = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else own  # type: ignore[no-untyped-call]
            client = mlflow.MlflowClient(tracking_uri=self.uri)
            found = self._earlier(client) or self._new(client)
            self.run_id, self.tags = found.info.run_id, dict(found.data.tags)
            self.experiment = client.get_experiment(found.info.experiment_id).name
            for name in found.data.metrics:
                self.known |= {(name, metric.step) for metric in client.get_metric_history(self.run_id, name)}
            if _WHOLE not in self.tags:
                client.update_run(self.run_id, status="RUNNING")
                self._parameters(client, found.data.params)
        self.client = client

    def log(self, told: Sequence[Point]) -> None:
        """Send what is not there yet."""
        self._send(told, None)

    def finish(self, whole: Ended) -> None:
        """Curves, the bundle as a model, report and files, final figures; then the run there is FINISHED."""
        client = self._client
        if _WHOLE in self.tags:
            return
        with settled():
            self.log(whole.curves)
            if _MODEL not in self.tags:
                self.tags[_MODEL] = self._model(client, whole)
            for name in FILES:
                if (whole.path / name).is_file():
                    folder = None if name == "report.html" else "files"
                    client.log_artifact(self.run_id, str(whole.path / name), folder)
            self._send(whole.final, self.tags[_MODEL])
            client.set_tag(self.run_id, "mlflow.note.content", whole.summary)
            client.set_tag(self.run_id, _WHOLE, "true")
            self.tags[_WHOLE] = "true"
            client.set_terminated(self.run_id, "FINISHED")

    def leave(self, status: str) -> None:
        """Say there that the run is not at work any more."""
        with settled():
            self._client.set_terminated(self.run_id, status)

    def place(self) -> str:
        """Where to look, for people."""
        from headway.tracking.following import without_password

        uri = without_password(self.uri)
        where = uri if uri.startswith("http") else f"look: mlflow ui --backend-store-uri {shlex.quote(uri)}"
        return f"MLflow, experiment {self.experiment}, run {self.run_id}   ({where})"

    @property
    def _client(self) -> MlflowClient:
        assert self.client is not None, "begin comes first"
        return self.client

    def _shelf(self) -> Path:
        """The folder that holds the folders of runs: that of a comparison is one of them."""
        parent = self.run.path.absolute().parent
        return parent.parent if (parent / "comparison.yaml").exists() else parent

    def _own(self) -> str:
        """The address of the database where nothing else is named."""
        return f"sqlite:///{self._shelf() / DATABASE}"

    def _name(self) -> str:
        return self.run.path.absolute().relative_to(self._shelf()).as_posix()

    def _earlier(self, client: MlflowClient) -> Any:
        """The run there that an earlier start of this run began; None where there is none any more."""
        from mlflow.exceptions import MlflowException

        known = self.run_id or self.run.resolved.get("tracking", {}).get("mlflow")
        if not isinstance(known, str):
            return None
        try:
            found = client.get_run(known)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # another server, or another database
        return found if found.info.lifecycle_stage == "active" else None

    def _new(self, client: MlflowClient) -> Any:
        started = round((time.time() - process_seconds()) * 1000)
        tags = {
            "mlflow.source.name": self.run.settings.command()[:_LONGEST],
            "mlflow.source.type": "LOCAL",
            "headway.version": __version__,
            "headway.run": str(self.run.path.absolute()),
        }
        made = client.create_run(self._experiment(client), start_time=started, tags=tags, run_name=self._name())
        self.run_id = made.info.run_id
        self.run.resolve({"tracking": {"mlflow": made.info.run_id}})
        return made

    def _experiment(self, client: MlflowClient) -> str:
        """The id of the experiment: as the environment says, else that of the data's name, made where it is missing."""
        from mlflow.exceptions import MlflowException

        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or stem(self.run.settings.data)
        found = client.get_experiment_by_name(name)
        if found is None:
            own = self.uri == self._own()
            place = (self._shelf() / ARTIFACTS / name).as_uri() if own else None  # else as the server has it
            try:
                return str(client.create_experiment(name, artifact_location=place))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another process came first
                if found is None or found.lifecycle_stage != "active":
                    raise
        return str(found.experiment_id)

    def _parameters(self, client: MlflowClient, known: dict[str, str]) -> None:
        from mlflow.entities import Param

        told = {name: str(value)[:_LONGEST] or "none" for name, value in plain(self.run.settings).items()}
        missing = [Param(name, value) for name, value in told.items() if name not in known]
        for first in range(0, len(missing), _AT_ONCE):
            client.log_batch(self.run_id, params=missing[first : first + _AT_ONCE])

    def _send(self, told: Sequence[Point], model: str | None) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        missing = [point for point in told if (point.name, point.step) not in self.known]
        with settled():
            for first in range(0, len(missing), _AT_ONCE):
                some = missing[first : first + _AT_ONCE]
                metrics = [Metric(point.name, point.value, now, point.step, model_id=model) for point in some]
                self._client.log_batch(self.run_id, metrics=metrics)
                self.known |= {(point.name, point.step) for point in some}

    def _model(self, client: MlflowClient, whole: Ended) -> str:
        """Make a model of the bundle and tie it to the run; its id."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        experiment = client.get_run(self.run_id).info.experiment_id
        made = client.create_logged_model(experiment, "bundle", self.run_id, model_type="classifier")
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            described = Model(run_id=self.run_id, model_id=made.model_id)
            save_mlflow(whole.path / "bundle", Path(folder) / "bundle", described)
            client.log_model_artifacts(made.model_id, str(Path(folder) / "bundle"))
        client.finalize_logged_model(made.model_id, "READY")
        client.log_outputs(self.run_id, [LoggedModelOutput(made.model_id, 0)])
        client.set_tag(self.run_id, _MODEL, made.model_id)
        return str(made.model_id)


@contextmanager
def settled() -> Iterator[None]:
    """mlflow without telemetry, progress bars, minutes of patience, and messages among those of the command."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        import mlflow  # noqa: F401  (it sets its levels when it is imported)

        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to whoever writes code with mlflow
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in added:
            os.environ.pop(name, None)

"""--track mlflow: a SQLite file, a real MLflow server, one that is away; read by mlflow's own client and by SQL."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headway.events import Line, drain
from headway.runs import open_run
from headway.settings import from_yaml
from headway.tracking import points
from headway.tracking.following import tracked
from headway.tracking.mlflow_runs import MlflowTracker
from headway.tracking.points import Point
from tests import toy
from tests.tracking.conftest import TUNE

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow.*")


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(database) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def history(run: Path, column: str) -> list[tuple[int, float]]:
    with (run / "history.csv").open() as stream:
        return [(int(row["step"]), float(row[column])) for row in csv.DictReader(stream) if row[column]]


def test_mlflow__sqlite_beside_the_run_folders_by_default(finished: Path, photos: Path) -> None:
    settings = from_yaml((finished / "settings.yaml").read_text()).model_copy(update={"run": finished})
    run = open_run(settings.model_copy(update={"track": "mlflow"}))

    def working() -> Any:
        yield Line("report", "drawn")
        return run.result

    before = dict(os.environ)
    with run.lock:
        assert drain(tracked(run, working())) == run.result
    run = open_run(run.settings)
    with run.lock:
        assert drain(tracked(run, working())) == run.result  # told already: nothing is added
    assert dict(os.environ) == before
    database = finished.parent / "mlflow.db"
    (told,) = rows(database, "select run_uuid, name, status, artifact_uri, start_time <= end_time from runs")
    assert told[1:3] == ("copy", "FINISHED")
    assert told[4] == 1
    assert json.loads((finished / "resolved.json").read_text())["tracking"] == {"mlflow": told[0]}
    assert rows(database, "select name from experiments where experiment_id > 0") == [("photos",)]
    assert dict(rows(database, "select key, value from params")) == {
        name: str(value) for name, value in points.plain(settings).items()
    }
    losses = rows(database, "select step, value from metrics where key = 'val/loss' order by step")
    assert losses == history(finished, "val_loss")
    expected = {point.name: point.value for point in points.ended(finished, settings).final}
    finals = dict(rows(database, "select key, value from metrics where key like 'test/%' or key like 'kept/%'"))
    assert {name: value for name, value in expected.items() if not name.startswith("seconds")} == finals
    kept = Path(told[3].removeprefix("file://"))
    assert (kept / "report.html").read_bytes() == (finished / "report.html").read_bytes()
    assert (kept / "files" / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    models = list((finished.parent / ".mlflow-artifacts" / "photos" / "models").glob("*/artifacts/MLmodel"))
    assert len(models) == 1
    assert kept.is_relative_to(finished.parent / ".mlflow-artifacts")


def runs_of(client: Any, experiment: str) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def told_twice(client: Any, run: str) -> list[str]:
    """Names of figures that have a step more than once."""
    metrics = client.get_run(run).data.metrics
    steps = {name: [metric.step for metric in client.get_metric_history(run, name)] for name in metrics}
    return [name for name, found in steps.items() if len(found) != len(set(found))]


@pytest.mark.slow
def test_mlflow__a_run_that_is_stopped_and_resumed_is_one_run_there(
    photos: Path, tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    long = (*TUNE[:2], "--epochs", "12", "--batch", "4", "--track", "mlflow", "--run", "run")
    command = [sys.executable, "-m", "headway", "fit", str(photos), *toy.BACKBONE, *long]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3/12"):
            process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    process.stdout.close()

    client = MlflowClient(mlflow_server)
    (stopped,) = runs_of(client, "mine")
    assert stopped.info.status == "KILLED"
    live = [metric.step for metric in client.get_metric_history(stopped.info.run_id, "val/loss")]
    assert live[:4] == [0, 1, 2, 3]

    done = toy.headway("fit", "--resume", "run", cwd=tmp_path)
    (whole,) = runs_of(client, "mine")
    name = whole.info.run_id
    assert name == stopped.info.run_id
    assert done.stdout.splitlines()[-1] == f"track    MLflow, experiment mine, run {name}   ({mlflow_server})"
    assert whole.info.status == "FINISHED"
    assert (whole.data.params["epochs"], whole.data.tags["mlflow.runName"]) == ("12", "run")
    curve = [(metric.step, metric.value) for metric in client.get_metric_history(name, "val/loss")]
    assert sorted(curve) == history(tmp_path / "run", "val_loss")
    assert told_twice(client, name) == []
    assert "report.html" in [item.path for item in client.list_artifacts(name)]
    assert _answer(mlflow_server, f"runs:/{name}/bundle", photos) == _answer_of_bundle(tmp_path / "run", photos)


def _answer(server: str, model: str, photos: Path) -> str:
    """What mlflow says of one image with the model that lies on the server."""
    code = (
        "import sys, mlflow, pandas\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "frame = pandas.DataFrame({'image': [sys.argv[3]]})\n"
        "print(mlflow.pyfunc.load_model(sys.argv[2]).predict(frame)['probability'].iloc[0])"
    )
    image = next(photos.rglob("*.jpg"))
    done = subprocess.run(
        [sys.executable, "-c", code, server, model, image], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _answer_of_bundle(run: Path, photos: Path) -> str:
    from headway.deployment.bundle import load_bundle

    return str(load_bundle(run / "bundle").predict(next(photos.rglob("*.jpg"))).probability)


@pytest.mark.slow
def test_mlflow__a_server_that_is_away_costs_no_run_and_is_told_later(
    photos: Path, tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")  # nobody listens there
    words = (photos, *toy.BACKBONE, *TUNE, "--run", "run", "--track", "mlflow")
    # By itself mlflow would wait for many minutes, longer than toy.headway allows.
    away = toy.headway("fit", *words, "--json", cwd=tmp_path)
    notes = [line for line in away.stderr.splitlines() if "MLflow" in line]
    assert [line[:28] for line in notes] == ["note     MLflow is not told:", "note     the run is complete"]
    assert "secret" not in away.stdout + away.stderr
    assert json.loads(away.stdout)["test"]["n"] > 0

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    toy.headway("fit", *words, cwd=tmp_path)
    client = MlflowClient(mlflow_server)
    (told,) = runs_of(client, "photos")
    assert told.info.status == "FINISHED"
    curve = [(metric.step, metric.value) for metric in client.get_metric_history(told.info.run_id, "val/loss")]
    assert sorted(curve) == history(tmp_path / "run", "val_loss")


@pytest.mark.slow
def test_mlflow__a_run_that_was_deleted_there_is_told_anew(finished: Path) -> None:
    settings = from_yaml((finished / "settings.yaml").read_text()).model_copy(update={"run": finished})
    run = open_run(settings)
    with run.lock:
        first = MlflowTracker(run)
        first.begin()
        first.log([Point("val/loss", 1, 0.5)])
        assert first.client is not None
        first.client.delete_run(first.run_id)
    run = open_run(settings)
    with run.lock:
        second = MlflowTracker(run)
        second.begin()
    assert run.resolved["tracking"] == {"mlflow": first.run_id}
    assert second.run_id != first.run_id
    assert second.known == set()

"""--track tensorboard, read by TensorBoard's own reader."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headway.settings import from_yaml
from headway.tracking import points
from headway.tracking.event_files import EventFiles
from headway.tracking.points import Point
from tests import toy
from tests.tracking.conftest import TUNE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard.*")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = read(folder)
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def history(run: Path, column: str) -> list[tuple[int, float]]:
    with (run / "history.csv").open() as stream:
        return [(int(row["step"]), float(row[column])) for row in csv.DictReader(stream) if row[column]]


def float32(pairs: list[tuple[int, float]]) -> list[tuple[int, Any]]:
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in pairs]


def test_event_files__hold_the_curves_and_the_final_figures_of_the_files(tuned: Path) -> None:
    found = scalars(tuned / "tensorboard")
    result = json.loads((tuned / "evaluation.json").read_text())["result"]

    curves = ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    for column in curves:
        assert found[column.replace("_", "/")] == float32(history(tuned, column))
    assert [step for step, _ in found["val/loss"]] == [0, 1, 2, 3]
    assert found["test/accuracy"] == float32([(0, result["test"]["accuracy"])])
    assert found["kept/val_loss"] == float32([(0, result["val"]["loss"])])


def test_event_files__settings_stand_beside_the_figures_as_hparams(tuned: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    content = read(tuned / "tensorboard").PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])

    assert start.hparams["strategy"].string_value == "finetune"
    assert start.hparams["epochs"].number_value == 3
    assert start.hparams["standardize"].number_value == 1  # torch writes switches as 1 and 0
    assert start.hparams["resize"].string_value == "none"
    assert {"run", "track"} & set(start.hparams) == set()
    assert "test/accuracy" in {info.name.tag for info in experiment.metric_infos}


def test_event_files__a_later_start_writes_what_is_missing_and_nothing_twice(finished: Path) -> None:
    tracker = EventFiles(finished)
    tracker.begin()
    tracker.log([Point("val/loss", 0, 0.5), Point("val/loss", 1, 0.25)])
    assert scalars(finished / "tensorboard") == {"val/loss": [(0, 0.5), (1, 0.25)]}  # seen while the run works
    tracker.leave("KILLED")

    again = EventFiles(finished)
    again.begin()
    again.log([Point("val/loss", 1, 0.25), Point("val/loss", 2, 0.125)])
    again.log([Point("val/loss", 2, 0.125)])
    again.leave("KILLED")

    assert scalars(finished / "tensorboard") == {"val/loss": [(0, 0.5), (1, 0.25), (2, 0.125)]}
    assert len(toy.files_of(finished / "tensorboard")) == 2


def test_event_files__a_run_that_is_told_again_stays_as_it_is(tuned: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tuned, tmp_path / "copy"))
    before = toy.files_of(copy)
    tracker = EventFiles(copy)
    tracker.begin()
    tracker.finish(points.ended(copy, from_yaml((copy / "settings.yaml").read_text())))

    assert toy.files_of(copy) == before


@pytest.mark.slow
def test_track__a_finished_run_is_told_by_the_same_command(finished: Path, photos: Path) -> None:
    words = (photos, *toy.BACKBONE, *TUNE, "--run", finished, "--track", "tensorboard")
    done = toy.headway("fit", *words, cwd=photos.parent)

    assert done.stdout == f"track    {finished}/tensorboard   (look: tensorboard --logdir {finished.parent})\n"
    assert done.stderr == f"note     {finished}/ is finished; nothing was done again\n"
    assert scalars(finished / "tensorboard")["val/loss"] == float32(history(finished, "val_loss"))

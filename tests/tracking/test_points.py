"""What a tracker is told: names, steps, words."""

from __future__ import annotations

import math
from pathlib import Path

from headway.events import Measured
from headway.settings import fit_settings
from headway.tracking import points
from headway.tracking.points import Point

HISTORY = """\
kind,step,taps,l2,lr,train_loss,train_accuracy,val_loss,val_accuracy,best,seconds
path,1,last,0.1,,0.5,0.75,0.625,0.5,False,
path,2,all,0.01,,0.25,1.0,0.375,1.0,True,
epoch,0,last,,0,,,0.5,0.5,False,0.1
epoch,1,last,,0.001,0.25,0.75,0.125,1.0,True,0.2
"""


def test_curves__epochs_and_candidates_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(HISTORY)
    found = list(points.curves(tmp_path / "history.csv"))

    assert [point for point in found if point.name.startswith("path_all")] == [
        Point("path_all/l2", 2, 0.01),
        Point("path_all/train_loss", 2, 0.25),
        Point("path_all/train_accuracy", 2, 1.0),
        Point("path_all/val_loss", 2, 0.375),
        Point("path_all/val_accuracy", 2, 1.0),
    ]
    assert [point for point in found if point.name == "val/loss"] == [
        Point("val/loss", 0, 0.5),
        Point("val/loss", 1, 0.125),
    ]
    assert [point for point in found if point.name == "train/loss"] == [Point("train/loss", 1, 0.25)]


def test_measured__is_what_history_will_hold() -> None:
    values = {"lr": 0.0, "train_loss": math.nan, "val_loss": 0.5, "val_accuracy": 0.25}

    assert points.measured(Measured("network", 0, values)) == [
        Point("lr", 0, 0.0),
        Point("val/loss", 0, 0.5),
        Point("val/accuracy", 0, 0.25),
    ]


def test_plain__every_setting_is_a_word_a_number_or_a_switch() -> None:
    told = points.plain(fit_settings("photos", mean="0.1,0.2,0.3", run="somewhere", track="mlflow"))

    assert (told["mean"], told["resize"], told["l2"], told["val"]) == ("0.1,0.2,0.3", "none", "auto", 0.1)
    assert {type(value) for value in told.values()} <= {str, int, float, bool}
    assert {"run", "track"} & set(told) == set()

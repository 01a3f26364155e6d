"""The trunk sees each image once, whatever scikit-learn does with it; and the head is the one of `headway fit`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

import headway
from headway.ecosystem.head import HeadwayHead
from tests import make, toy
from tests.ecosystem.conftest import Photos
from tests.ecosystem.toy import CLASSES, chooses, classifier, features, forward_passes

L2S = np.geomspace(1e-4, 3.0, 8)


def test_search__folds_and_values_cost_one_pass(photos: Photos, cache: Path) -> None:
    search = GridSearchCV(classifier(), {"l2": [0.01, 1.0]}, cv=2).fit(photos.pictures, photos.y)

    assert forward_passes(cache) == 30
    assert search.best_estimator_.pass_ == {"computed": 0, "reused": 30}


@pytest.mark.slow
def test_search__five_folds_of_eight_values_cost_one_pass(photos: Photos, cache: Path) -> None:
    search = GridSearchCV(classifier(), {"l2": L2S}, cv=5).fit(photos.paths, photos.y)

    assert len(search.cv_results_["params"]) == 8
    assert forward_passes(cache) == 30
    assert search.best_estimator_.pass_ == {"computed": 0, "reused": 30}
    assert search.best_score_ > 0.9
    assert search.best_params_["l2"] in L2S


@pytest.mark.slow
def test_search__in_a_pipeline_costs_one_pass(photos: Photos, cache: Path) -> None:
    steps = Pipeline([("features", features()), ("head", HeadwayHead(val=0, l2=0.1))])
    GridSearchCV(steps, {"features__taps": ["last", "all"], "head__l2": L2S[::3]}, cv=3).fit(photos.paths, photos.y)

    assert forward_passes(cache) == 30


def test_search__another_view_of_the_image_is_another_pass(photos: Photos, cache: Path) -> None:
    classifier().fit(photos.paths, photos.y)
    classifier(image_fit="pad").fit(photos.paths, photos.y)

    assert forward_passes(cache) == 60


def test_images__pixels_and_pictures_are_one_content(photos: Photos, cache: Path) -> None:
    fitted = features().fit(photos.arrays)
    fitted.transform(photos.arrays)
    fitted.transform(photos.pictures)

    assert forward_passes(cache) == 30


@pytest.mark.slow
def test_processes__several_at_once_come_to_the_same(photos: Photos, cache: Path) -> None:
    alone = cross_val_score(classifier(cache_dir=cache / "alone"), photos.paths, photos.y, cv=4)

    together = cross_val_score(classifier(cache_dir=cache / "together"), photos.paths, photos.y, cv=4, n_jobs=2)
    known = cross_val_score(classifier(cache_dir=cache / "alone"), photos.pictures, photos.y, cv=4, n_jobs=2)

    assert np.array_equal(alone, together)
    assert known.mean() > 0.9
    again = chooses(cache_dir=cache / "together").fit(photos.paths, photos.y)
    assert again.pass_ == {"computed": 0, "reused": 30}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"balance": "logit", "taps": "all"}], ids=str)
def test_classifier__is_the_one_that_fit_makes(options: dict[str, object], cache: Path, tmp_path: Path) -> None:
    root = make.class_folders(tmp_path / "photos", dict.fromkeys(CLASSES, 20), size=(40, 40))
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = toy.fit(root, "--run", tmp_path / "run", "--map", "none", *words, cwd=tmp_path)
    run = tmp_path / "run"
    with (run / "split.csv").open() as stream:
        parts = {row["name"]: row["subset"] for row in csv.DictReader(stream)}
    with (run / "predictions.csv").open() as stream:
        told = {row["name"]: row for row in csv.DictReader(stream)}
    chosen = json.loads((run / "evaluation.json").read_text())["selection"]
    learnt = [name for name, part in parts.items() if part in ("train", "val")]
    tested = [name for name, part in parts.items() if part == "test"]

    # Of what is left without the test images, the same number is held back to choose by.
    fitted = chooses(val=result["n"]["val"] / len(learnt), **options)
    fitted.fit([root / name for name in learnt], [name.split("/")[0] for name in learnt])

    assert result["n"] == {"train": 45, "val": 6, "test": 9, "unlabelled": 0, "set_aside": 0}
    assert (fitted.solved_.chosen["taps"], fitted.l2_) == (chosen["taps"], chosen["l2"])
    assert fitted.temperature_ == pytest.approx(headway.load_bundle(run / "bundle").temperature, rel=1e-6)
    assert fitted.pass_ == {"computed": 0, "reused": 51}
    found = fitted.predict_proba([root / name for name in tested]).max(axis=1)
    assert fitted.predict([root / name for name in tested]).tolist() == [told[name]["predicted"] for name in tested]
    assert np.allclose(found, [float(told[name]["probability"]) for name in tested], atol=2e-6)


def test_head__is_the_one_of_the_classifier(photos: Photos) -> None:
    whole = classifier(val=0).fit(photos.paths, photos.y)
    rows = features().fit_transform(photos.paths)

    head = HeadwayHead(l2=0.1, val=0).fit(rows, photos.y)

    assert np.allclose(head.predict_proba(rows), whole.predict_proba(photos.paths), rtol=1e-9, atol=0)


@pytest.mark.parametrize("missing", ["sklearn", "pydantic"])
def test_estimators__without_what_they_need(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import headway\nfrom headway.errors import Refused\n"
        "try: headway.HeadwayClassifier\nexcept Refused as refusal: print(refusal)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == (
        f"headway.HeadwayClassifier needs {missing}, which is not installed: pip install 'headway[train]'\n"
    )

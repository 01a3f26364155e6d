"""The contract of scikit-learn for what takes images: our own copy of its checks, on paths, PIL images and arrays."""

from __future__ import annotations

import inspect
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headway.ecosystem.classifier import HeadwayClassifier
from headway.ecosystem.features import HeadwayFeatures
from headway.ecosystem.head import HeadwayHead
from headway.errors import HeadwayError
from headway.settings import fit_settings
from tests import make
from tests.ecosystem.conftest import Photos
from tests.ecosystem.toy import KINDS, answer, chooses, classifier, features, forward_passes

BOTH = pytest.mark.parametrize("make_one", [classifier, features], ids=["classifier", "features"])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
Make = Callable[..., Any]


# Parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HeadwayClassifier, HeadwayFeatures, HeadwayHead])
def test_parameters__are_options_of_fit_with_their_defaults(kind: type[BaseEstimator]) -> None:
    defaults = fit_settings(".").model_dump()
    found = kind().get_params()
    found = {"fit" if name == "image_fit" else name: value for name, value in found.items() if name != "cache_dir"}
    if kind is HeadwayFeatures:
        assert found.pop("taps") == "last"  # there are no labels to choose by
    if "dropout" in found:
        found["dropout"] = (found["dropout"],)
        assert found.pop("weight_decay") is None  # the optimizer decides it

    assert found == {name: defaults[name] for name in found}


@BOTH
def test_making_one__does_no_work(make_one: Make, cache: Path) -> None:
    before = sorted(cache.rglob("*"))
    estimator = make_one(image=-3, backbone="nothing of this name")

    assert vars(estimator) == estimator.get_params()
    assert list(inspect.signature(type(estimator).__init__).parameters)[1:] == list(vars(estimator))
    assert sorted(cache.rglob("*")) == before


@BOTH
def test_clone__same_parameters_nothing_learnt(make_one: Make, photos: Photos) -> None:
    estimator = make_one(seed=3).fit(photos.paths, photos.y)
    twin = clone(estimator)

    assert twin.get_params() == estimator.get_params() == make_one(seed=3).get_params()
    assert twin.set_params(image=96) is twin
    assert (twin.image, estimator.image) == (96, 64)
    with pytest.raises(NotFittedError):
        answer(twin, photos.paths)


@BOTH
def test_fit__leaves_its_parameters_and_input_alone(make_one: Make, photos: Photos) -> None:
    X, y = photos.arrays, photos.y.copy()
    estimator = make_one()
    before = dict(estimator.get_params())

    assert estimator.fit(X, y) is estimator
    assert estimator.get_params() == before
    assert np.array_equal(X, photos.arrays)
    assert np.array_equal(y, photos.y)
    learnt = {name for name in vars(estimator) if name not in before}
    assert learnt
    assert all(name.endswith("_") for name in learnt)


# What is answered ------------------------------------------------------------------------------------------------


@BOTH
@EVERY_KIND
def test_answers__same_for_every_kind_of_image(make_one: Make, kind: str, photos: Photos) -> None:
    by_paths = answer(make_one().fit(photos.paths, photos.y), photos.paths)
    estimator = make_one().fit(photos.as_kind(kind), photos.y)

    # Held back are images by their content, and a PNG file is another content than its pixels.
    close = 0 if make_one is features else 0.2
    assert np.abs(answer(estimator, photos.paths) - by_paths).max() <= close
    assert np.array_equal(answer(estimator, photos.as_kind(kind)), answer(estimator, photos.paths))


@BOTH
@EVERY_KIND
def test_fit__twice_is_the_same(make_one: Make, kind: str, photos: Photos) -> None:
    X = photos.as_kind(kind)
    estimator = make_one().fit(X, photos.y)
    first = answer(estimator, X)

    assert np.array_equal(answer(estimator.fit(X, photos.y), X), first)
    assert np.array_equal(answer(clone(estimator).fit(X, photos.y), X), first)


@BOTH
@EVERY_KIND
def test_answers__depend_on_no_other_image(make_one: Make, kind: str, photos: Photos, cache: Path) -> None:
    X = photos.as_kind(kind)
    estimator = make_one().fit(X, photos.y)
    whole = answer(estimator, X)
    shutil.rmtree(cache / "features")  # nothing of the whole is known any more
    turned = [29, 3, 17]

    assert np.allclose(answer(estimator, [X[at] for at in turned]), whole[turned], rtol=1e-12, atol=0)
    assert np.allclose(answer(estimator, X[4:5]), whole[4:5], rtol=1e-12, atol=0)
    assert np.allclose(answer(estimator, X), whole, rtol=1e-12, atol=0)


@BOTH
def test_answers__framed_as_the_images_that_were_fitted_on(make_one: Make, photos: Photos, tmp_path: Path) -> None:
    small = [make.image(0, seed, (40, 20)) for seed in range(9)]
    large = make.image(0, 7, (200, 100))
    fitted = make_one().fit(photos.pictures, photos.y)  # 64 x 48: below the network's input, scaled without cropping

    alone, among = answer(fitted, [large]), answer(fitted, [large, *small])

    assert np.allclose(alone, among[:1], rtol=1e-12, atol=0)
    assert (fitted.look_.asked.fit, fitted.look_.asked.resize) == ("squash", "none")


@BOTH
@EVERY_KIND
def test_pickle__answers_the_same(make_one: Make, kind: str, photos: Photos) -> None:
    X = photos.as_kind(kind)
    estimator = make_one().fit(X, photos.y)
    content = pickle.dumps(estimator)

    assert np.array_equal(answer(pickle.loads(content), X), answer(estimator, X))
    assert len(content) < 100_000  # neither the network nor an image


def test_order__of_the_images_decides_nothing(photos: Photos) -> None:
    turned = np.random.default_rng(0).permutation(len(photos.y))
    one = classifier().fit(photos.paths, photos.y)
    other = classifier().fit([photos.paths[at] for at in turned], photos.y[turned])

    assert np.allclose(one.predict_proba(photos.paths), other.predict_proba(photos.paths), atol=1e-3)
    assert one.temperature_ == pytest.approx(other.temperature_, rel=1e-3)


# Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("circle", "square", "triangle"), (7, -1, 3), ("é", "a b", "Z"), (2.0, 1.0, 5.0)], ids=str
)
def test_labels__of_any_kind(names: tuple[Any, ...], photos: Photos) -> None:
    _, kinds = np.unique(photos.y, return_inverse=True)
    y = np.array(names)[kinds]
    fitted = classifier().fit(photos.paths, y)

    assert fitted.classes_.tolist() == sorted(names)
    assert fitted.score(photos.paths, y) > 0.9
    assert fitted.predict(photos.paths).dtype == y.dtype
    best = fitted.predict_proba(photos.paths).argmax(axis=1)
    assert np.array_equal(fitted.classes_[best], fitted.predict(photos.paths))
    assert np.array_equal(fitted.decision_function(photos.paths).argmax(axis=1), best)


def test_choices__are_made_on_images_held_back(photos: Photos) -> None:
    fitted = chooses().fit(photos.paths, photos.y)

    assert fitted.score(photos.paths, photos.y) > 0.9
    assert fitted.solved_.chosen["taps"] in ("last", "all")
    assert len(fitted.solved_.chosen["candidates"]) > 5
    assert fitted.temperature_ != 1.0


def test_labels__two_classes_decide_by_one_number(photos: Photos) -> None:
    two = photos.y != "triangle"
    paths = [path for path, kept in zip(photos.paths, two, strict=True) if kept]
    fitted = classifier().fit(paths, photos.y[two])
    decided = fitted.decision_function(paths)

    assert decided.shape == (20,)
    assert np.array_equal(fitted.classes_[(decided > 0).astype(int)], fitted.predict(paths))
    assert np.array_equal(decided > 0, fitted.predict_proba(paths)[:, 1] > 0.5)


@pytest.mark.slow
def test_folds__never_see_each_others_labels(photos: Photos) -> None:
    y = np.random.default_rng(4).permutation(photos.y)

    found = cross_val_predict(classifier(), photos.paths, y, cv=5)
    piped = cross_val_predict(make_pipeline(features(), HeadwayHead(l2=0.1)), photos.paths, y, cv=5)

    for labels in (found, piped):
        assert (labels == y).mean() < 1 / 3 + 4 * np.sqrt(2 / 9 / 30)
    assert cross_val_score(classifier(), photos.paths, photos.y, cv=5).mean() > 0.9


# In pipelines and tables -----------------------------------------------------------------------------------------


@EVERY_KIND
def test_pipeline__features_then_any_classifier(kind: str, photos: Photos) -> None:
    X = photos.as_kind(kind)
    ours = make_pipeline(features(taps="all"), HeadwayHead(l2=0.1)).fit(X, photos.y)
    theirs = make_pipeline(features(), StandardScaler(), LogisticRegression()).fit(X, photos.y)

    assert ours.score(X, photos.y) > 0.9
    assert theirs.score(X, photos.y) > 0.9


def test_features__taps_and_their_names(photos: Photos) -> None:
    last, every = (features(taps=taps).fit(photos.paths) for taps in ("last", "all"))
    rows, names = every.transform(photos.paths), every.get_feature_names_out().tolist()

    assert rows.dtype == np.float32
    assert rows.shape == (30, len(names))
    assert len(set(names)) == len(names)
    own = [at for at, name in enumerate(names) if name.startswith("last_")]
    assert np.array_equal(rows[:, own], last.transform(photos.paths))
    assert [names[at] for at in own] == last.get_feature_names_out().tolist()
    pytest.importorskip("pandas")
    table = last.set_output(transform="pandas").transform(photos.paths)
    assert list(table.columns) == last.get_feature_names_out().tolist()


def test_features__a_column_of_a_table(photos: Photos) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"photo": [str(path) for path in photos.paths], "weight": np.arange(30.0)})
    columns = make_column_transformer((features(), "photo"), remainder="passthrough").fit(table)
    plain = features().fit_transform(photos.paths)

    assert np.array_equal(columns.transform(table)[:, :-1], plain)
    assert np.array_equal(features().fit_transform(table[["photo"]]), plain)
    assert np.array_equal(features().fit_transform(table["photo"]), plain)


def test_views__are_trained_on_too(photos: Photos) -> None:
    fitted = classifier(views="flip").fit(photos.paths, photos.y)

    assert fitted.score(photos.paths, photos.y) > 0.9
    assert fitted.pass_ == {"computed": 30, "reused": 0}


# The cache -------------------------------------------------------------------------------------------------------


def test_cache__a_damaged_part_is_computed_again(photos: Photos, cache: Path) -> None:
    fitted = classifier().fit(photos.paths, photos.y)
    before = fitted.predict_proba(photos.paths)
    shard = next((cache / "features").rglob("*.parquet"))
    about = pq.read_metadata(shard).row_group(0)
    columns = [about.column(at) for at in range(about.num_columns)]
    start = next(column.data_page_offset for column in columns if column.path_in_schema.startswith("last"))
    content = bytearray(shard.read_bytes())
    content[start + 2000] ^= 0xFF  # among the features that are read, past the verdicts of opening
    shard.write_bytes(content)

    assert np.array_equal(fitted.predict_proba(photos.paths), before)
    assert forward_passes(cache) == 30


def test_cache__where_cache_dir_says(photos: Photos, cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    fitted = features(cache_dir=os.fspath(own)).fit(photos.paths)
    fitted.transform(photos.paths)

    assert (forward_passes(cache), forward_passes(own)) == (0, 30)


def test_look__other_weights_than_were_fitted_with(photos: Photos) -> None:
    fitted = features().fit(photos.paths)
    other = features(weights="none", seed=1, image=64).fit(photos.paths)
    fitted.look_ = type(fitted.look_)(fitted.look_.asked, "onnxruntime", other.look_.weights, fitted.look_.taps)

    with pytest.raises(HeadwayError) as caught:
        fitted.transform(photos.paths)

    assert str(caught.value) == (
        "the weights of test_resnet are no longer those that this was fitted with: fit it again, or bring them back"
    )

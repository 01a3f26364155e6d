"""A bundle of an estimator: read by the bundle's own predictor, held against the estimator's answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from headway.deployment.bundle import load_bundle
from headway.deployment.predictor import predict
from headway.errors import HeadwayError
from headway.grafting import graft
from headway.training.heads import Head
from tests.ecosystem.conftest import Photos
from tests.ecosystem.toy import KINDS, chooses, classifier


@pytest.mark.parametrize("kind", KINDS)
def test_save_bundle__answers_as_the_estimator(kind: str, photos: Photos, tmp_path: Path) -> None:
    X = photos.as_kind(kind)
    fitted = classifier().fit(X, photos.y)

    found = fitted.save_bundle(tmp_path / "bundle", X)

    assert found["same_top1"] + found["ties"] == found["n"] > 0
    assert "test" not in found
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.classes == ("circle", "square", "triangle")
    answers = [dict(answer.top) for answer in predict(bundle, photos.paths, top=3)]
    found_p = np.array([[answer[name] for name in bundle.classes] for answer in answers])
    assert np.abs(found_p - fitted.predict_proba(X)).max() < 1e-3
    assert [bundle.classes[at] for at in found_p.argmax(axis=1)] == fitted.predict(X).tolist()
    assert "Not measured" in (tmp_path / "bundle" / "README.md").read_text()


def test_save_bundle__labels_of_any_kind_and_a_test_in_the_card(photos: Photos, tmp_path: Path) -> None:
    y = np.array([{"circle": 3, "square": 10, "triangle": 7}[name] for name in photos.y])
    fitted = chooses(val=0.3).fit(photos.paths, y)

    found = fitted.save_bundle(str(tmp_path / "bundle"), photos.paths, y)

    assert found["test"]["n"] == 30
    assert found["test"]["accuracy"] == pytest.approx(fitted.score(photos.paths, y))
    assert load_bundle(tmp_path / "bundle").classes == ("3", "7", "10")
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"accuracy **{found['test']['accuracy']:.3f}**" in card
    assert "no prediction sets" in card


def test_save_bundle__again_replaces_a_bundle_and_nothing_else(photos: Photos, tmp_path: Path) -> None:
    fitted = classifier().fit(photos.paths, photos.y)
    for place in (tmp_path / "bundle", tmp_path / "bundle", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        fitted.save_bundle(place, photos.paths[:3])
        assert (place / "manifest.json").is_file()

    site, annotated = tmp_path / "site", shutil.copytree(tmp_path / "bundle", tmp_path / "annotated")
    site.mkdir()
    for place in (site / "manifest.json", site / "index.html", annotated / "notes.txt", tmp_path / "note.txt"):
        place.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    for name, why in (
        ("photos", ", it holds circle"),
        ("site", ", it holds index.html"),
        ("annotated", ", it holds notes.txt"),
        ("note.txt", ""),
        ("link", ""),
    ):
        with pytest.raises(
            ValueError, match=f"{name} is there and is no bundle{why}; nothing but a bundle is replaced"
        ):
            fitted.save_bundle(tmp_path / name, photos.paths[:3])
    with pytest.raises(ValueError, match=r"away does not exist; the bundle would be written into it"):
        fitted.save_bundle(tmp_path / "away" / "bundle", photos.paths[:3])
    assert sorted(tmp_path.rglob("*")) == before


def test_save_bundle__what_cannot_be(photos: Photos, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    with pytest.raises(NotFittedError):
        classifier().save_bundle(place, photos.paths)
    fitted = classifier().fit(photos.paths, photos.y)
    with pytest.raises(
        ValueError, match="y holds 'disc', which this was not fitted on: expected classes such as 'circ"
    ):
        fitted.save_bundle(place, photos.paths[:1], ["disc"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.save_bundle(place, photos.paths[:2], ["circle"])
    with pytest.raises(ValueError, match="X is empty"):
        fitted.save_bundle(place, [])
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(HeadwayError, match="1 of 1 image"):
        fitted.save_bundle(place, [tmp_path / "no.png"])
    assert not place.exists()


def test_save_bundle__another_network_is_told(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = classifier().fit(photos.paths, photos.y)
    monkeypatch.setattr("headway.exports.graft", _grafted_wrongly)

    with pytest.raises(HeadwayError, match="does not agree with the trained one"):
        fitted.save_bundle(tmp_path / "bundle", photos.paths)
    assert not (tmp_path / "bundle").exists()


def _grafted_wrongly(graph: bytes, head: Head) -> bytes:
    first = head.layers[0]
    return graft(graph, replace(head, layers=(replace(first, bias=first.bias + np.array([5, 0, -5], np.float32)),)))

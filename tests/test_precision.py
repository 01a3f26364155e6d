"""--precision: int8 by training images alone, `auto` only where it pays and loses nothing, and what is shipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import precision, runs
from headway.data.sources import load_dataset
from headway.data.split import make_split
from headway.deployment import bundle as bundles
from headway.errors import Refused
from headway.evaluation.compare import paired_test
from headway.events import Line, Note
from headway.settings import FitSettings, fit_settings
from headway.workflow import fitting
from headway.world import World
from tests import make, toy

TOY = {"backbone": "test_resnet", "weights": "none", "image": 64, "threads": 1}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 40 small photos."""
    return make.class_folders(tmp_path / "photos", {"red": 40, "green": 40, "blue": 40})


Fit = Callable[..., tuple[dict[str, Any], list[Any]]]


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fit]:
    """A run in this process, `fit(data, run, **options)`: its result and everything it said."""
    opened: list[runs.Run] = []
    real = runs.open_run

    def noted(settings: FitSettings) -> runs.Run:
        opened.append(real(settings))
        return opened[-1]

    def one(data: Path, run: Path, **options: Any) -> tuple[dict[str, Any], list[Any]]:
        events, steps = [], fitting(fit_settings(data, run=run, **{**TOY, **options}))
        while True:
            try:
                events.append(next(steps))
            except StopIteration as end:
                return end.value, events

    monkeypatch.setattr(runs, "open_run", noted)
    yield one
    for run in opened:
        run.lock.close()  # a command's end does that


def resolved(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "resolved.json").read_text())
    return found


def test_int8__head_gate_and_bundle_belong_to_one_engine(fit: Fit, photos: Path, tmp_path: Path) -> None:
    _, events = fit(photos, tmp_path / "run", precision="int8")

    engine = resolved(tmp_path / "run")["engine"]
    assert (engine["name"], engine["precision"]) == ("openvino", "int8")
    assert set(engine["images_per_second"]) == {"openvino", "torch fp32"}  # nothing else was opened
    manifest = json.loads((tmp_path / "run/bundle/manifest.json").read_text())
    assert {key: manifest["engine"][key] for key in ("name", "precision")} == {"name": "openvino", "precision": "int8"}
    assert manifest["engine"]["made_with"].startswith("openvino ")
    card = (tmp_path / "run/bundle/README.md").read_text()
    assert "It computes in int8, whose numbers hold in OpenVINO alone: `pip install 'headway[int8]'`." in card
    assert not (tmp_path / "run/bundle/config.json").exists()  # timm would compute in fp32
    assert "engine openvino int8" in next(e.text for e in events if isinstance(e, Line) and e.label == "backbone")
    model = bundles.load_bundle(tmp_path / "run/bundle", 1)
    for line in (tmp_path / "run/predictions.csv").read_text().splitlines()[1:]:
        name, _, _, predicted, probability, _ = line.split(",")
        answer = model.predict(photos / name)
        assert answer.label == predicted
        assert answer.probability == pytest.approx(float(probability), abs=1e-3)
    assert None not in (model.confidence.sets, model.confidence.unknown)


def test_int8__only_training_images_set_its_ranges(
    fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = precision.safest

    def noted(*arguments: Any) -> Any:
        chosen = real(*arguments)
        seen.extend(chosen.tolist())
        return chosen

    monkeypatch.setattr(precision, "safest", noted)
    fit(photos, tmp_path / "run", precision="int8")

    subsets = [line.split(",")[2] for line in (tmp_path / "run/split.csv").read_text().splitlines()[1:]]
    assert len(seen) == 64
    assert {subsets[index] for index in seen} == {"train"}


@pytest.mark.slow
def test_int8__a_calibration_that_does_not_train_is_done_again(
    fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = precision.safest, []

    def first_wrong(contents: Any, train: Any, seed: int, n: int) -> Any:
        calls.append(n)
        return np.arange(64) if len(calls) == 1 else real(contents, train, seed, n)

    monkeypatch.setattr(precision, "safest", first_wrong)
    _, events = fit(photos, tmp_path / "run", precision="int8")
    again = fit(photos, tmp_path / "other", precision="int8")[0]

    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("of the 64 images that set the ranges of int8 turned out not to train" in text for text in notes)
    monkeypatch.undo()
    assert toy.same_bits(tmp_path / "run") == toy.same_bits(tmp_path / "other")
    assert again["features"]["computed"] == 0


@pytest.mark.slow
def test_int8__the_same_bits_cold_warm_and_without_the_cache(fit: Fit, photos: Path, tmp_path: Path) -> None:
    fit(photos, tmp_path / "cold", precision="int8")
    warm, _ = fit(photos, tmp_path / "warm", precision="int8")
    fit(photos, tmp_path / "alone", precision="int8", no_cache=True)

    assert warm["features"]["computed"] == 0
    assert toy.same_bits(tmp_path / "cold") == toy.same_bits(tmp_path / "warm") == toy.same_bits(tmp_path / "alone")


def test_int8__of_the_last_layer_nothing_else_is_computed(fit: Fit, photos: Path, tmp_path: Path) -> None:
    fit(photos, tmp_path / "run", precision="int8", taps="last")

    assert [tap["name"] for tap in resolved(tmp_path / "run")["backbone"]["taps"]] == ["last"]


@pytest.mark.slow
def test_portable__a_whole_bundle_in_fp32_inside(fit: Fit, photos: Path, tmp_path: Path) -> None:
    fit(photos, tmp_path / "plain")
    fit(photos, tmp_path / "run", precision="int8", portable=True)

    inside = bundles.load_bundle(tmp_path / "run/bundle/portable", 1)
    plain = bundles.load_bundle(tmp_path / "plain/bundle", 1)
    assert inside.manifest.engine["name"] == "any"
    assert (inside.path / "model.safetensors").read_bytes() == (plain.path / "model.safetensors").read_bytes()
    assert inside.manifest.test == plain.manifest.test
    assert inside.manifest.conformal == plain.manifest.conformal
    assert inside.confidence.unknown is not None


def test_portable__says_that_it_does_nothing_in_fp32(photos: Path) -> None:
    settings = fit_settings(photos, portable=True)

    assert list(settings.notes()) == ["--portable has no effect in fp32, which runs in every engine"]


@pytest.mark.parametrize("portable", [True, False])
@pytest.mark.slow
def test_bundle__without_its_engine(
    fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portable: bool
) -> None:
    fit(photos, tmp_path / "run", precision="int8", portable=portable)
    monkeypatch.setattr(bundles, "find_spec", lambda name: None)
    folder = tmp_path / "run/bundle"

    with pytest.raises(Refused) as caught:
        bundles.load_bundle(folder)

    other = f" Or predict with {folder}/portable, which needs none." if portable else ""
    assert str(caught.value) == (
        f"{folder} computes in int8, which needs OpenVINO, and that is not installed: "
        f"pip install 'headway[int8]'.{other}"
    )


# Where it cannot be had ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_int8__without_openvino(fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "version", lambda name: None)

    with pytest.raises(Refused) as caught:
        fit(photos, tmp_path / "run", precision="int8")
    _, events = fit(photos, tmp_path / "other", precision="auto")

    assert str(caught.value) == "--precision int8 needs OpenVINO, which is not installed: pip install 'headway[int8]'"
    assert Note("in fp32, as int8 needs OpenVINO, which is not installed: pip install 'headway[int8]'") in events
    assert not (tmp_path / "run").exists()


def test_int8__several_processes(photos: Path) -> None:
    dataset, settings = load_dataset(photos), fit_settings(photos, precision="int8")

    with pytest.raises(Refused) as caught:
        next(precision.settle(dataset, settings, None, Path(), World(0, 2)))  # type: ignore[arg-type]

    assert str(caught.value) == (
        "--precision int8 works in one process: leave it out, or start headway without torchrun"
    )


def test_int8__a_network_that_cannot_goes_on_in_fp32(
    fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headway.backbones import opening

    monkeypatch.setattr(opening, "INT8_AGREEMENT", 1.1)
    _, events = fit(photos, tmp_path / "run", precision="int8")

    assert resolved(tmp_path / "run")["engine"]["precision"] == "fp32"
    note = next(event.text for event in events if isinstance(event, Note))
    assert note.startswith("test_resnet stays in fp32: its features there are not those of fp32 (cosine ")


# auto ----------------------------------------------------------------------------------------------------------


def test_auto__few_images_are_not_worth_the_trial(fit: Fit, photos: Path, tmp_path: Path) -> None:
    _, events = fit(photos, tmp_path / "run", precision="auto")

    settled = resolved(tmp_path / "run")["precision"]
    assert settled["name"] == "fp32"
    assert settled["why"].startswith("on 120 images int8 would save ")
    assert Line("precision", f"fp32: {settled['why']}") in events


def test_auto__is_tried_where_it_pays_and_settled_once(
    fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_gain", lambda n, tried, rates: (9.0, 1.0))
    fit(photos, tmp_path / "run", precision="auto", val=0.3)

    settled = resolved(tmp_path / "run")["precision"]
    assert settled["paired"]["n"] == 36
    assert (settled["name"], resolved(tmp_path / "run")["engine"]["precision"]) == ("fp32", "fp32")
    assert settled["why"].endswith("on 36 validation images: a loss of 0.01 is not ruled out")


def test_auto__takes_int8_where_no_loss_is_shown(
    fit: Fit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_gain", lambda n, tried, rates: (9.0, 1.0))
    monkeypatch.setattr(precision, "MARGIN", 0.9)
    result, _ = fit(photos, tmp_path / "run", precision="auto", val=0.3)

    assert resolved(tmp_path / "run")["engine"]["precision"] == "int8"
    assert result["features"]["reused"] > 0  # the trial's own


def test_gain__is_what_is_left_to_look_at() -> None:
    saved, cost = precision._gain(10_000, 2_000, {"openvino": 400.0, "onnxruntime fp32": 200.0})

    assert (saved, cost) == (8_000 * (1 / 200 - 1 / 400), 2_000 / 200)


@pytest.mark.parametrize(
    ("only_int8", "only_fp32", "n", "expected"),
    [(3, 3, 2_000, "int8"), (0, 40, 2_000, "fp32"), (3, 3, 100, "fp32"), (20, 0, 2_000, "int8")],
)
def test_verdict__a_loss_must_be_ruled_out(only_int8: int, only_fp32: int, n: int, expected: str) -> None:
    a, b = np.ones(n, bool), np.ones(n, bool)
    b[:only_int8] = False
    a[only_int8 : only_int8 + only_fp32] = False

    assert precision._verdict(paired_test(a, b))["name"] == expected


# Which images ----------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 100))
def test_safest__trains_though_an_image_is_lost(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    dataset = load_dataset(
        make.class_folders(tmp_path_factory.mktemp("photos"), {"a": 20, "b": 20}, size=(16, 12), seed=seed)
    )
    contents = precision.read_digests(dataset, 2)
    split = make_split(dataset, contents, seed=seed, val=0.2, test=0.2)
    chosen = precision.safest(contents, split.train, seed, 8)

    lost = int(np.random.default_rng(seed).integers(len(dataset)))
    accepted = contents.accepted.copy()
    accepted[lost] = False
    smaller = type(contents)(accepted, {lost: "damaged"}, contents.digests, contents.pixels, contents.sizes)
    after = make_split(dataset, smaller, seed=seed, val=0.2, test=0.2)

    assert len(chosen) == 8
    assert set(chosen.tolist()) - {lost} <= set(after.train.tolist())


def test_digests__are_those_of_the_bytes(photos: Path) -> None:
    import hashlib

    dataset = load_dataset(photos)
    (photos / dataset.names[3]).unlink()
    contents = precision.read_digests(dataset, 2)

    assert not contents.accepted[3]
    expected = [hashlib.sha256((photos / n).read_bytes()).digest() for i, n in enumerate(dataset.names) if i != 3]
    assert [contents.digests[i].tobytes() for i in range(len(dataset)) if i != 3] == expected

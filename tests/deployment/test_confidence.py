"""Sets and unknown images through a bundle: written, read back, refused where damaged, asked in every way."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway import files
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.confidence import CARRIES_NONE, Confidence, Levels, check_levels
from headway.deployment.outputs import as_json, csv_columns, csv_row, line
from headway.deployment.predictor import Item, Prediction, Strangeness, predict, probabilities
from headway.deployment.sets import class_scores
from headway.errors import Refused
from tests import make
from tests.deployment import toys

LEVELS = Levels(0.9, 0.1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.confident(tmp_path_factory.mktemp("toy"))


def _copy(good: Path, folder: Path) -> Path:
    return Path(shutil.copytree(good, folder / "b"))


def _resign(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda value: None) -> None:
    """Make every digest right again, as one would who wants to do harm."""
    value = files.read_json(bundle / "manifest.json")
    for key in ("conformal", "unknown"):
        for name in value[key]["files"]:
            value[key]["files"][name] = files.digest_file(bundle / "confidence" / name)
    change(value)
    value.pop("digest")
    files.write_json(bundle / "manifest.json", {**value, "digest": files.digest_json(value)})


def _refusal(bundle: Path) -> str:
    with pytest.raises(Refused) as caught:
        load_bundle(bundle, threads=1)
    return str(caught.value)


def _same(one: Confidence, other: Confidence) -> bool:
    assert one.sets is not None
    assert other.sets is not None
    assert one.unknown is not None
    assert other.unknown is not None
    arrays = other.unknown.arrays()
    equal = [np.array_equal(value, arrays[name]) for name, value in one.unknown.arrays().items()]
    return all(equal) and np.array_equal(one.sets.scores, other.sets.scores) and one.sets.n == other.sets.n


def test_bundle__confidence_comes_back_as_it_was_written(good: Path, tmp_path: Path) -> None:
    bundle = load_bundle(good, threads=1)
    assert _same(bundle.confidence, load_bundle(_copy(good, tmp_path), threads=1).confidence)
    manifest = files.read_json(good / "manifest.json")
    assert {key: manifest["conformal"][key] for key in ("score", "n")} == {"score": "lac", "n": 39}
    assert {key: manifest["unknown"][key] for key in ("score", "n")} == {"score": "logit+relative+residual", "n": 39}
    assert len(manifest["unknown"]["golden"]) == 4
    written = {f"{item.name}" for item in (good / "confidence").iterdir()}
    assert written == {*manifest["conformal"]["files"], *manifest["unknown"]["files"]}


def test_bundle__one_of_before_still_predicts(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path), threads=1)
    assert bundle.confidence == CARRIES_NONE
    assert not (tmp_path / "bundle" / "confidence").exists()
    with pytest.raises(Refused) as caught:
        bundle.predict(toys.images(1)[0], coverage=0.9, unknown=0.1)
    again = "Make it again with this headway: headway fit"
    assert str(caught.value) == (
        f"2 problems:\n"
        f"  {bundle.path} carries no prediction sets (--coverage): it was made without. {again}\n"
        f"  {bundle.path} carries nothing that tells unknown images (--unknown): it was made without. {again}"
    )


@pytest.mark.parametrize("name", ["sets.npy", "axes.npy", "scores.npy", "means.npy"])
def test_bundle__a_changed_or_missing_file_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    bundle = _copy(good, tmp_path)
    path = bundle / "confidence" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert _refusal(bundle) == f"{path} is damaged: its sha256 is not the one in manifest.json. Copy the bundle again."
    path.unlink()
    assert _refusal(bundle) == f"{bundle} is incomplete: no confidence/{name}. Copy the bundle again, whole."


WRONG: list[tuple[str, Callable[[Any], Any]]] = [
    ("sets.npy", lambda a: a[:-1]),
    ("sets.npy", lambda a: a.astype(np.float32)),
    ("sets.npy", lambda a: a[::-1] + 0.1),
    ("sets.npy", lambda a: a + 2),
    ("sets.npy", lambda a: np.full_like(a, np.nan)),
    ("axes.npy", lambda a: a[:, :-1]),
    ("axes.npy", lambda a: a.reshape(-1)),
    ("centre.npy", lambda a: np.full_like(a, np.inf)),
    ("scale.npy", lambda a: a.astype(np.float64)),
    ("means.npy", lambda a: a[:0]),
    ("spread.npy", lambda a: a * 0),
    ("scores.npy", lambda a: a[::-1]),
    ("widths.npy", lambda a: a[:2]),
    ("whiten.npy", lambda a: a[:2]),
]


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_bundle__arrays_that_do_not_fit_are_refused(
    good: Path, tmp_path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    bundle = _copy(good, tmp_path)
    path = bundle / "confidence" / name
    np.save(path, change(np.load(path)))
    _resign(bundle)
    place = bundle / "confidence"
    assert _refusal(bundle) in {
        f"{place / told} does not hold what manifest.json says. Copy the bundle again, or make it again."
        for told in ({name, "centre.npy", "whiten.npy"} if name == "axes.npy" else {name})
    }


def test_bundle__no_pickle_is_read(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    np.save(bundle / "confidence" / "sets.npy", np.array([{}], dtype=object), allow_pickle=True)
    _resign(bundle)
    assert _refusal(bundle) == f"{bundle}/confidence/sets.npy is not a plain numpy array."


def test_bundle__other_numbers_here_are_noticed(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    _resign(bundle, lambda value: value["unknown"]["golden"].reverse())
    assert _refusal(bundle) == (
        f"{bundle} computes other numbers here than where it was made: how strange its golden images are differs. "
        "Make the bundle again on this machine."
    )
    wrong: object
    for wrong in ([], None, "x", [1.0, 2.0, 3.0, "x"], {}):
        _resign(bundle, lambda value, wrong=wrong: value["unknown"].update(golden=wrong))  # type: ignore[misc]
        assert _refusal(bundle) == f"{bundle}/manifest.json: 'unknown' must say how strange the golden images are."
    for wrong in (0, -1, True, 1.5, None, "9"):
        _resign(bundle, lambda value, wrong=wrong: value["conformal"].update(n=wrong))  # type: ignore[misc]
        assert _refusal(bundle) == f"{bundle}/manifest.json: 'conformal' must say n and the sha256 of its files."


def test_bundle__scores_of_a_later_headway_count_as_not_carried(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    _resign(bundle, lambda value: [value[key].update(score="better") for key in ("conformal", "unknown")])
    assert load_bundle(bundle, threads=1).confidence == CARRIES_NONE


def _bundle(good: Path) -> tuple[Bundle, Any, Any]:
    bundle = load_bundle(good, threads=1)
    assert bundle.confidence.sets is not None
    assert bundle.confidence.unknown is not None
    return bundle, bundle.confidence.sets, bundle.confidence.unknown


def test_predict__sets_and_strangeness_are_those_of_the_arrays(good: Path) -> None:
    bundle, sets, unknown = _bundle(good)
    pixels = toys.images(9, 8)
    answers = list(predict(bundle, [Item(str(i), image) for i, image in enumerate(pixels)], levels=LEVELS))
    inputs = np.stack([_prepared(bundle, image) for image in pixels])
    logits, features = bundle.both(inputs)
    held = class_scores(probabilities(logits, bundle.temperature)) <= sets.threshold(0.9)
    rates = unknown.rate(unknown.score(features, logits))
    for answer, members, rate in zip(answers, held, rates, strict=True):
        assert answer.labels is not None
        assert answer.strangeness is not None
        assert set(answer.labels) == {name for name, member in zip(bundle.classes, members, strict=True) if member}
        assert list(answer.labels) == [label for label, _ in answer.top if label in answer.labels]
        assert answer.strangeness.rate == pytest.approx(rate)
        assert answer.strangeness.flag == (answer.strangeness.rate <= 0.1)


def _prepared(bundle: Bundle, image: Any) -> Any:
    from headway.backbones.preprocess import prepare
    from headway.data.images import decode

    return prepare(decode(image, "x").image, bundle.preprocess)


def test_predict__without_being_asked_says_neither(good: Path) -> None:
    bundle, _, _ = _bundle(good)
    plain, asked = bundle.predict(toys.images(1)[0]), bundle.predict(toys.images(1)[0], coverage=0.9, unknown=0.1)
    assert (plain.labels, plain.strangeness) == (None, None)
    assert replace(asked, labels=None, strangeness=None) == plain
    assert set(asked.to_json()) - set(plain.to_json()) == {"set", "unknown"}


def test_predict__an_answer_does_not_depend_on_its_neighbours(good: Path) -> None:
    bundle, _, _ = _bundle(good)
    pixels = [Item(str(i), image) for i, image in enumerate(toys.images(7, 11))]
    together = list(predict(bundle, pixels, levels=LEVELS))
    assert together == [next(iter(predict(bundle, [item], levels=LEVELS))) for item in pixels]


def test_check_levels__too_few_validation_images_are_told(good: Path) -> None:
    bundle, _, _ = _bundle(good)
    check_levels(bundle.confidence, Levels(0.975, 0.025), good)
    with pytest.raises(Refused) as caught:
        check_levels(bundle.confidence, Levels(0.99, 0.02), good)
    assert str(caught.value) == (
        f"2 problems:\n"
        f"  --coverage 0.99 takes at least 99 validation images to promise, and {good} was calibrated on 39. "
        f"Ask for at most 0.975, or train with more of them: headway fit --val\n"
        f"  --unknown 0.02 takes at least 49 validation images to promise, and {good} was calibrated on 39. "
        f"Ask for at least 0.025, or train with more of them: headway fit --val"
    )
    with pytest.raises(Refused) as caught:
        bundle.predict(toys.images(1)[0], coverage=95)
    assert str(caught.value) == "coverage 95: expected a number between 0 and 1, as 0.95"


ANSWER = Prediction(
    "a.jpg", "cat", 0.7, (("cat", 0.7), ("dog", 0.3)), "0" * 64, None, ("cat", "=dog"), Strangeness(0.0033, True, 0.01)
)
FAILED = Prediction("b.jpg", None, None, (), None, "truncated")


def test_outputs__lines_for_people() -> None:
    assert line(ANSWER, 2) == "a.jpg  ? unknown (0.0033)  cat 0.70 · dog 0.30  {cat, =dog}"
    known = replace(ANSWER, strangeness=Strangeness(0.4, False, 0.01), labels=tuple(f"c{i}" for i in range(12)))
    assert line(known, 1) == "a.jpg  cat 0.70  {c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ... 12 in all}"
    assert line(FAILED, 1) == "b.jpg  not read: truncated"


def test_outputs__csv_and_json() -> None:
    levels = Levels(0.95, 0.01)
    columns = csv_columns(1, levels)
    assert columns == ["name", "label", "probability", "set", "set_size", "unknown", "unknown_rate", "error"]
    text = "".join(files.csv_line(row) for row in (columns, csv_row(ANSWER, 1, levels), csv_row(FAILED, 1, levels)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert json.loads(rows[0]["set"]) == ["cat", "=dog"]
    assert [rows[0][name] for name in columns[4:]] == ["2", "yes", "0.0033", ""]
    assert [rows[1][name] for name in columns[1:]] == ["", "", "", "", "", "", "truncated"]
    known = replace(ANSWER, strangeness=Strangeness(0.4, False, 0.01))
    assert csv_row(known, 1, levels)[-3:] == ["no", "0.4", ""]
    value = as_json({"path": "b"}, [ANSWER, FAILED], levels)
    assert (value["coverage"], value["unknown"]) == (0.95, 0.01)
    assert value["predictions"][0]["set"] == ["cat", "=dog"]
    assert value["predictions"][0]["unknown"] == {"flag": True, "rate": 0.0033}
    assert json.loads(json.dumps(value)) == value


def test_predict__an_unread_image_has_neither(good: Path, tmp_path: Path) -> None:
    bundle, _, _ = _bundle(good)
    torn = make.write(tmp_path / "torn.jpg", b"text")
    (answer,) = predict(bundle, [torn], levels=LEVELS)
    assert (answer.labels, answer.strangeness) == (None, None)
    assert answer.error is not None

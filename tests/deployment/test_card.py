"""The model card: front matter that Hugging Face reads, numbers with n and interval, names that obey nobody."""

from __future__ import annotations

import re
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from headway.deployment.card import Card, card_text, code, plain
from tests.deployment.test_manifest import manifest

FULL: Card = {
    "name": "photos",
    "created": "2026-01-01T00:00:00Z",
    "command": "headway fit photos/",
    "data": "2,000 images in folders",
    "counts": {"cat": {"train": 70, "val": 10, "test": 20}, "dog": {"train": 7}},
    "n": {"train": 77, "val": 10, "test": 20, "set_aside": 2},
    "test": {"n": 1300, "accuracy": 0.98667, "interval": [0.966, 0.995]},
    "metrics": {"balanced_accuracy": 0.9, "macro_f1": None},
    "constant_guess": 0.5,
    "limits": ["Photographed at night."],
    "versions": {"onnxruntime": "1.32.0"},
}


def _front(text: str) -> dict[str, Any]:
    start, front, _ = text.split("---\n", 2)
    assert start == ""
    value = yaml.safe_load(front)
    assert isinstance(value, dict)
    return value


def _with(**backbone: object) -> Any:
    return type(manifest())(**{**vars(manifest()), "backbone": {"name": "tf_net_lite0", **backbone}})


def test_card_text__front_matter_of_a_timm_model() -> None:
    front = _front(card_text(_with(licence="Apache-2.0"), FULL, timm=True))
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "timm"
    assert front["pipeline_tag"] == "image-classification"
    assert front["tags"] == ["image-classification", "headway", "onnx", "timm"]
    assert front["metrics"] == ["accuracy", "balanced_accuracy"]
    (entry,) = front["model-index"]
    (result,) = entry["results"]
    assert result["dataset"] == {"name": "photos", "type": "photos", "split": "test"}
    assert result["metrics"] == [
        {
            "type": "accuracy",
            "name": "accuracy (95 % interval 0.966 to 0.995, n = 1,300)",
            "value": 0.98667,
        },
        {"type": "balanced_accuracy", "name": "balanced accuracy", "value": 0.9},
    ]


def _read(text: str) -> Any:
    """The card as the hub's own library reads it. Its number of problems is what it would warn of."""
    from huggingface_hub import ModelCard

    return ModelCard(text).data


@pytest.mark.parametrize("name", ["photos", "Müller's: #1 {cats}", "---", "\x00", "null", "12"])
def test_card_text__the_hubs_own_library_reads_it(name: str) -> None:
    card: Card = {**FULL, "name": name, "dataset": "somebody/photos"}
    manifest = _with(name="resnet18.a1_in1k", source="timm", licence="Apache-2.0", weights={"origin": "hub"})
    data = _read(card_text(manifest, card, timm=True))
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "timm", "image-classification")
    assert (data.base_model, data.datasets) == ("timm/resnet18.a1_in1k", ["somebody/photos"])
    first, second = data.eval_results
    assert (first.metric_type, first.metric_value, first.dataset_type) == ("accuracy", 0.98667, "somebody/photos")
    assert first.metric_name == "accuracy (95 % interval 0.966 to 0.995, n = 1,300)"
    assert (first.task_type, first.dataset_split) == ("image-classification", "test")
    assert (second.metric_type, second.metric_value) == ("balanced_accuracy", 0.9)


def test_card_text__of_a_trained_network_names_what_it_began_from() -> None:
    weights = {"origin": "trained", "base": {"origin": "hub"}}
    manifest = _with(name="resnet18.a1_in1k", source="timm", weights=weights)
    assert _read(card_text(manifest, {}, timm=False)).base_model == "timm/resnet18.a1_in1k"
    assert _read(card_text(_with(weights={"origin": "packaged"}), {}, timm=False)).base_model is None


@pytest.mark.parametrize(
    ("head", "engine", "why"),
    [
        (("linear", ["last", "stage1_mean"]), "fp32", r"its head reads last, stage1\_mean, and timm's heads read the"),
        (("mlp:5", ["last"]), "fp32", "its head has hidden layers, and timm's has one layer."),
        (("linear", ["last"]), "int8", "timm does not compute in int8."),
        (("linear", ["last"]), "fp32", "timm has no such network, or not with a classifier that reads these"),
    ],
)
def test_card_text__says_why_it_is_no_timm_model(head: tuple[str, list[str]], engine: str, why: str) -> None:
    changed = {"head": {"spec": head[0], "taps": head[1]}, "engine": {"name": "any", "precision": engine}}
    text = card_text(type(manifest())(**{**vars(manifest()), **changed}), {}, timm=False)
    assert f"It is no timm model, so there is no config.json: {why}" in text
    assert "Divide them" not in text
    timm = card_text(manifest(), {}, timm=True)
    assert "Divide them by the temperature, 1.25, before the softmax." in timm
    assert "no timm model" not in timm


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("Weird: 1.0", {"license": "other", "license_name": "weird-1.0"}),
        (None, {"license": "unknown"}),
    ],
)
def test_card_text__the_licence_is_that_of_the_weights(licence: str | None, expected: dict[str, str]) -> None:
    text = card_text(_with(licence=licence), {}, timm=False)
    front = _front(text)
    assert {key: value for key, value in front.items() if key.startswith("license")} == expected
    assert front["library_name"] == "headway"
    if licence is None:
        assert "bear no licence that headway knows of" in text


def test_card_text__says_how_good_with_n_and_interval() -> None:
    text = card_text(_with(), FULL, timm=False)
    assert "accuracy **0.987** (95 % interval 0.966 to 0.995, n = 1,300)." in text
    assert "- balanced accuracy: 0.900\n- always guessing the most frequent class: 0.500\n" in text
    assert "macro" not in text.split("---\n", 2)[2]
    assert "77 to train, 10 to choose, 20 to test, 2 set aside as unreadable." in text
    assert "| cat | 70 | 10 | 20 |\n| dog | 7 | 0 | 0 |" in text
    assert "- Photographed at night.\n" in text
    assert "scaled until its short side has 20 pixels, and the centre of 16 by 16 is cut out (bicubic)" in text
    assert "`headway fit photos/`" in text
    assert "local-dir" not in text


def test_card_text__with_nothing_known_it_claims_nothing() -> None:
    text = card_text(manifest(), {}, timm=False)
    assert "Not measured: there was no test set." in text
    assert "model-index" not in text
    assert "- cat\n- dog\n" in text


def test_card_text__a_thousand_classes_stay_readable() -> None:
    text = card_text(manifest(tuple(f"c{n}" for n in range(1000))), {}, timm=False)
    assert "and 900 more; all stand in manifest.json." in text
    assert text.count("\n- c") == 100


@given(st.text())
def test_plain__is_one_line_without_markup(text: str) -> None:
    found = plain(text)
    assert "\n" not in found
    assert "<" not in found
    assert found.count("|") == found.count("\\|")
    assert found.count("`") == found.count("\\`")


@given(st.text())
def test_code__ends_where_it_should(text: str) -> None:
    found = code(text)
    assert found.count("`") == 2
    assert "\n" not in found


@settings(max_examples=40, deadline=None)
@given(name=st.text(min_size=1), label=st.text(min_size=1), licence=st.text(min_size=1))
def test_card_text__no_name_breaks_the_front_matter_or_the_table(name: str, label: str, licence: str) -> None:
    base = manifest((label, label + "2"))
    value = type(base)(**{**vars(base), "backbone": {"name": name, "licence": licence}})
    card: Card = {"name": name, "counts": {label: {"train": 1}}, "test": FULL["test"], "command": name}
    text = card_text(value, card, timm=False)
    front = _front(text)
    assert set(front) <= {
        *("license", "license_name", "library_name", "pipeline_tag", "tags", "metrics", "model-index")
    }
    twin = card_text(manifest(("a", "a2")), {**card, "name": "a", "counts": {"a": {"train": 1}}}, timm=False)
    body, other = (part.split("---\n", 2)[2] for part in (text, twin))
    assert body.count("\n## ") == other.count("\n## ")
    assert body.count("\n| ") == other.count("\n| ")
    assert "<" not in re.sub("`[^`]*`", "", body)  # within code it is a letter like any other


def test_card_text__says_what_is_promised_and_what_is_not() -> None:
    found = {
        "n": 300,
        "most": 300 / 301,
        "least": 1 / 301,
        "sets": [{"coverage": 0.9, "n": 299, "reached": 0.907, "interval": [0.869, 0.935], "size": 1.25}],
        "unknown": [{"rate": 0.01, "n": 299, "flagged": 0.013, "interval": [0.005, 0.034]}],
    }
    text = card_text(manifest(), {**FULL, "confidence": found}, timm=False)
    section = text.split("## How sure it is\n\n")[1].split("\n## ")[0]
    assert section == (
        "Calibrated on 300 validation images: prediction sets (`--coverage C`, C at most 0.9966) and a flag for "
        "unknown images (`--unknown R`, R at least 0.0034).\n\n"
        "- sets of 0.9: the label was in 0.907 (95 % interval 0.869 to 0.935) of 299 test images, 1.25 classes a set\n"
        "- unknown at 0.01: 0.013 (95 % interval 0.005 to 0.034) of 299 test images were flagged, all of them false "
        "alarms\n\n"
        "Both promises hold on average over images like the validation images, not for each class or kind of image. "
        "Images of quite another kind are flagged; those of a class that merely resembles one of these mostly are not "
        "noticed.\n"
    )
    assert "How sure it is" not in card_text(manifest(), FULL, timm=False)

"""manifest.json: read back as written, or refused with the whole reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from headway import __version__, files
from headway.deployment.manifest import Manifest, read_manifest
from headway.errors import Refused
from tests.deployment import toys

AGAIN = "Copy the bundle again, or make it again with: headway fit"


def manifest(classes: tuple[str, ...] = ("cat", "dog")) -> Manifest:
    return Manifest(
        headway="0.1.0",
        created="2026-01-01T00:00:00Z",
        classes=classes,
        preprocess=toys.preprocess(),
        outputs={"logits": len(classes), "features": 6},
        temperature=1.25,
        backbone={"name": "toy"},
        head={"spec": "linear", "taps": ["last"]},
        engine={"name": "any", "precision": "fp32"},
        model_digest="0" * 64,
        tensors_digest="1" * 64,
        probe={"inputs.npy": "2" * 64, "logits.npy": "3" * 64, "features.npy": "4" * 64},
        max_pixels=1000,
        test={"n": 3, "accuracy": 1.0, "interval": [0.4, 1.0]},
    )


def _write(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A manifest with `change` made by somebody who also keeps its digest right."""
    value = manifest().to_json()
    change(value)
    value.pop("digest", None)
    value["digest"] = files.digest_json(value)
    files.write_json(folder / "manifest.json", value)
    return folder / "manifest.json"


def _refusal(folder: Path) -> str:
    with pytest.raises(Refused) as caught:
        read_manifest(folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_read_manifest__gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, classes: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    written = manifest(tuple(classes))
    files.write_json(folder / "manifest.json", written.to_json())
    found = read_manifest(folder)
    assert found.classes == tuple(classes)
    assert found.to_json() == written.to_json()
    assert found.digest == written.to_json()["digest"]


def test_read_manifest__unknown_keys_are_of_a_later_headway_and_tolerated(tmp_path: Path) -> None:
    _write(tmp_path, lambda value: value.update(later={"a": 1}))
    assert read_manifest(tmp_path).classes == ("cat", "dog")


def test_read_manifest__a_newer_schema_says_what_it_needs(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda value: value.update(schema=2, headway="0.9.1"))
    assert _refusal(tmp_path) == (
        f"{path} has schema 2; this headway ({__version__}) reads schema 1. It needs headway >= 0.9.1: "
        "pip install --upgrade headway"
    )
    _write(tmp_path, lambda value: value.update(schema=2, headway="\x1b[31m"))
    assert "It needs a newer headway: pip" in _refusal(tmp_path)


@pytest.mark.parametrize("schema", [0, -1, True, 1.5, "1", None, [1]])
def test_read_manifest__a_schema_that_never_was(tmp_path: Path, schema: object) -> None:
    path = _write(tmp_path, lambda value: value.update(schema=schema))
    assert _refusal(tmp_path) == f"{path} has schema {str(schema)!r}; headway reads schema 1. {AGAIN}"


def test_read_manifest__missing_keys_are_all_named(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda value: [value.pop("classes"), value.pop("temperature")])
    assert _refusal(tmp_path) == f"{path} is incomplete: no 'classes', 'temperature'. {AGAIN}"


def test_read_manifest__one_changed_letter_is_noticed(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda value: None)
    path.write_text(path.read_text().replace('"cat"', '"car"'))
    assert _refusal(tmp_path) == f"{path} was changed after it was written (its digest does not match). {AGAIN}"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_read_manifest__a_flipped_byte_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    path = _write(folder, lambda value: None)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(bytes(content))
    try:
        found = read_manifest(folder)
    except Refused:
        return
    assert found.to_json() == manifest().to_json()  # it was white space


def test_read_manifest__what_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1'):
        path.write_bytes(content)
        assert _refusal(tmp_path) == f"{path} is damaged: it is not JSON. {AGAIN}"
    for content in (b"[]", b"1", b'{"name": "webapp"}'):
        path.write_bytes(content)
        assert _refusal(tmp_path) == f"{path} is not the manifest of a headway bundle: it has no key 'schema'."
    path.unlink()
    assert _refusal(tmp_path) == f"{path} cannot be read: No such file or directory."


WRONG: list[tuple[str, object, str]] = [
    ("classes", [], "'classes' must be a list of different names"),
    ("classes", ["a", "a"], "'classes' must be a list of different names"),
    ("classes", ["a", ""], "'classes' must be a list of different names"),
    ("classes", "ab", "'classes' must be a list of different names"),
    ("temperature", 0, "'temperature' must be a number above 0"),
    ("temperature", True, "'temperature' must be a number above 0"),
    ("temperature", "1", "'temperature' must be a number above 0"),
    ("temperature", 10**400, "'temperature' must be a number above 0"),
    ("outputs", {"logits": 2}, "'outputs' must be logits and features"),
    ("model_digest", "F" * 64, "'model_digest' must be a sha256"),
    ("probe", {}, "'probe' must be the sha256 of its files"),
    ("max_pixels", -1, "'max_pixels' must be a whole number above 0"),
    ("engine", {}, "'engine' must be an object with a name"),
    ("conformal", [], "'conformal' must be an object or null"),
]


@pytest.mark.parametrize(("key", "wrong", "said"), WRONG)
def test_read_manifest__a_wrong_value_is_named(tmp_path: Path, key: str, wrong: object, said: str) -> None:
    path = _write(tmp_path, lambda value: value.update({key: wrong}))
    assert _refusal(tmp_path) == f"{path}: {said}. {AGAIN}"


def test_read_manifest__several_problems_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda value: value.update(classes=[], temperature=-1))
    assert _refusal(tmp_path) == (
        f"2 problems:\n  {path}: 'classes' must be a list of different names. {AGAIN}\n"
        f"  {path}: 'temperature' must be a number above 0. {AGAIN}"
    )


def test_read_manifest__parts_that_contradict_each_other(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda value: value.update(outputs={"logits": 3, "features": 6}))
    assert _refusal(tmp_path) == f"{path}: 2 classes, but 3 logits."
    _write(tmp_path, lambda value: value["input"].update(dtype="float32"))
    assert _refusal(tmp_path) == f"{path}: the input must be uint8 images (B, 16, 16, 3) named 'image'."
    _write(tmp_path, lambda value: value["engine"].update(name="abacus"))
    assert _refusal(tmp_path) == (
        f"{path}: its numbers belong to the engine 'abacus'; this headway ({__version__}) predicts with "
        "onnxruntime or openvino."
    )


def test_read_manifest__preprocessing_that_this_headway_does_not_know(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda value: value["preprocess"].update(version=3))
    assert _refusal(tmp_path) == (
        f"{path}: its preprocessing cannot be followed: preprocessing version 3, this headway knows version 2. "
        "It needs a newer headway."
    )
    wrong: object
    for key, wrong in (("fit", "stretch"), ("interpolation", "magic"), ("resize", 10**9)):
        _write(tmp_path, partial(_set, key=key, value=wrong))
        assert _refusal(tmp_path).startswith(f"{path}: headway knows no such preprocessing: ")
    for wrong in (None, "x", [], {"size": None}):
        _write(tmp_path, partial(_set, key="size", value=wrong))
        assert "its preprocessing cannot be followed" in _refusal(tmp_path)


def _set(manifest: dict[str, Any], key: str, value: object) -> None:
    manifest["preprocess"][key] = value

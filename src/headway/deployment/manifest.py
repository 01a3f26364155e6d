"""manifest.json: what a bundle is. Strict about what it must say, silent about keys that it does not know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway import __version__, files
from headway.backbones.preprocess import Preprocess
from headway.errors import Refused, refuse_all

SCHEMA = 1
MODEL, TENSORS, CARD, MANIFEST, PROBE = "model.onnx", "model.safetensors", "README.md", "manifest.json", "probe"
PORTABLE = "portable"  # a whole fp32 bundle inside an int8 one, for where the engine of the int8 one is missing
PROBE_FILES = ("inputs.npy", "logits.npy", "features.npy")
ENGINES = ("any", "onnxruntime", "openvino")  # whose numbers this headway can give
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Manifest:
    """The checked content of manifest.json.

    outputs           {"logits": C, "features": D}
    temperature       logits are divided by it before the softmax; > 0
    conformal         of prediction sets: {"score", "n" validation images, "files": name → sha256}, or None
    unknown           of what tells an unknown image: the same, and "golden" images' scores; or None
    optional_outputs  further named outputs of the graph, name → what it is
    engine            name: "any" where its numbers hold in every engine, else the one that they belong to;
                      precision: fp32 or int8
    test              {"n", "accuracy", "interval"} or None
    probe             file name → sha256 of the golden inputs and outputs
    digest            sha256 of all other keys: names this bundle, and tells a changed manifest
    """

    headway: str
    created: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    outputs: Mapping[str, int]
    temperature: float
    backbone: Mapping[str, Any]
    head: Mapping[str, Any]
    engine: Mapping[str, Any]
    model_digest: str
    tensors_digest: str
    probe: Mapping[str, str]
    max_pixels: int
    test: Mapping[str, Any] | None = None
    conformal: Mapping[str, Any] | None = None
    unknown: Mapping[str, Any] | None = None
    optional_outputs: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json, with `digest` computed anew."""
        size = self.preprocess.size
        value: dict[str, Any] = {
            "schema": SCHEMA,
            "headway": self.headway,
            "created": self.created,
            "classes": list(self.classes),
            "preprocess": self.preprocess.to_json(),
            "input": {"name": "image", "shape": ["B", size, size, 3], "dtype": "uint8"},
            "outputs": dict(self.outputs),
            "temperature": self.temperature,
            "conformal": self.conformal,
            "unknown": self.unknown,
            "optional_outputs": dict(self.optional_outputs),
            "engine": dict(self.engine),
            "backbone": dict(self.backbone),
            "head": dict(self.head),
            "model_digest": self.model_digest,
            "tensors_digest": self.tensors_digest,
            "probe": dict(self.probe),
            "test": None if self.test is None else dict(self.test),
            "max_pixels": self.max_pixels,
        }
        return {**value, "digest": files.digest_json(value)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle `folder`. Raises Refused where it is newer, incomplete, or was changed."""
    path = folder / MANIFEST
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or 'input/output error'}.") from None
    except (ValueError, RecursionError):
        raise Refused(f"{path} is damaged: it is not JSON. {_AGAIN}") from None
    if not isinstance(value, dict) or "schema" not in value:
        raise Refused(f"{path} is not the manifest of a headway bundle: it has no key 'schema'.")
    _check_schema(path, value)
    _check_keys(path, value)
    content = {key: item for key, item in value.items() if key != "digest"}
    if not _matches(content, value["digest"]):
        raise Refused(f"{path} was changed after it was written (its digest does not match). {_AGAIN}")
    return _manifest(path, value)


_FITS, _INTERPOLATIONS, _MAX_SIZE = ("crop", "squash", "pad"), ("bilinear", "bicubic", "lanczos", "nearest"), 4096
_AGAIN = "Copy the bundle again, or make it again with: headway fit"


def _matches(content: dict[str, Any], digest: str) -> bool:
    try:
        return files.digest_json(content) == digest
    except ValueError:  # NaN or Infinity, which no headway writes
        return False


def _check_schema(path: Path, value: Mapping[str, Any]) -> None:
    schema, writer = value["schema"], value.get("headway")
    if schema == SCHEMA and not isinstance(schema, bool):
        return
    if isinstance(schema, int) and schema > SCHEMA:
        known = isinstance(writer, str) and re.fullmatch(r"[0-9]+(\.[0-9A-Za-z]+){0,5}", writer)
        need = f"headway >= {writer}" if known else "a newer headway"
        raise Refused(
            f"{path} has schema {schema}; this headway ({__version__}) reads schema {SCHEMA}. It needs {need}: "
            "pip install --upgrade headway"
        )
    raise Refused(f"{path} has schema {str(schema)[:40]!r}; headway reads schema {SCHEMA}. {_AGAIN}")


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 0


def _digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6 and math.isfinite(value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_text, value)) and len(set(value)) == len(value)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _mapping_or_null(value: Any) -> bool:
    return value is None or isinstance(value, dict)


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "headway": (_text, "a version"),
    "created": (_text, "a time"),
    "classes": (_names, "a list of different names"),
    "preprocess": (_mapping, "an object"),
    "input": (_mapping, "an object"),
    "outputs": (lambda v: _mapping(v) and _count(v.get("logits")) and _count(v.get("features")), "logits and features"),
    "temperature": (_number, "a number above 0"),
    "conformal": (_mapping_or_null, "an object or null"),
    "unknown": (_mapping_or_null, "an object or null"),
    "optional_outputs": (_mapping, "an object"),
    "engine": (lambda v: _mapping(v) and _text(v.get("name")), "an object with a name"),
    "backbone": (_mapping, "an object"),
    "head": (_mapping, "an object"),
    "model_digest": (_digest, "a sha256"),
    "tensors_digest": (_digest, "a sha256"),
    "probe": (lambda v: _mapping(v) and all(_digest(v.get(name)) for name in PROBE_FILES), "the sha256 of its files"),
    "test": (_mapping_or_null, "an object or null"),
    "max_pixels": (_count, "a whole number above 0"),
    "digest": (_digest, "a sha256"),
}


def _check_keys(path: Path, value: Mapping[str, Any]) -> None:
    missing = [key for key in _KEYS if key not in value]
    if missing:
        raise Refused(f"{path} is incomplete: no {', '.join(map(repr, missing))}. {_AGAIN}")
    refuse_all(
        [f"{path}: {key!r} must be {wanted}. {_AGAIN}" for key, (good, wanted) in _KEYS.items() if not good(value[key])]
    )


def _manifest(path: Path, value: Mapping[str, Any]) -> Manifest:
    try:
        preprocess = Preprocess.from_json(value["preprocess"])
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise Refused(f"{path}: its preprocessing cannot be followed: {error}. It needs a newer headway.") from None
    size, classes = preprocess.size, tuple(value["classes"])
    problems = []
    known = preprocess.fit in _FITS and preprocess.interpolation in _INTERPOLATIONS and 0 < size <= _MAX_SIZE
    if not known or (preprocess.resize is not None and not 0 < preprocess.resize <= _MAX_SIZE):
        problems.append(f"{path}: headway knows no such preprocessing: {json.dumps(value['preprocess'])[:200]}.")
    if value["input"] != {"name": "image", "shape": ["B", size, size, 3], "dtype": "uint8"}:
        problems.append(f"{path}: the input must be uint8 images (B, {size}, {size}, 3) named 'image'.")
    if value["outputs"]["logits"] != len(classes):
        problems.append(f"{path}: {len(classes)} classes, but {value['outputs']['logits']} logits.")
    if value["engine"]["name"] not in ENGINES:
        problems.append(
            f"{path}: its numbers belong to the engine {value['engine']['name']!r}; this headway ({__version__}) "
            "predicts with onnxruntime or openvino."
        )
    precision = value["engine"].get("precision", "fp32")
    if precision not in PRECISIONS:
        problems.append(f"{path}: its precision is {str(precision)[:40]!r}; headway knows {' and '.join(PRECISIONS)}.")
    refuse_all(problems)
    fields = {key: value[key] for key in _KEYS if key not in ("preprocess", "input", "classes", "temperature")}
    return Manifest(preprocess=preprocess, classes=classes, temperature=float(value["temperature"]), **fields)

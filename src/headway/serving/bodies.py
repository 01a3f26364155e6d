"""What a request asks: its images as bytes, and the options beside them. Content is not looked at."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from headway.serving.refusals import Refusal

PREDICTING, EXPLAINING = ("coverage", "unknown", "top"), ("class",)  # the options of either
MAX_TOP = 1000
_MAX_NUMBER, _MAX_CLASS = 64, 4096  # bytes of an option's value
_OTHER_PARTS = 8  # of a form, beside its images


@dataclass(frozen=True)
class Asked:
    """images  bytes of image files, at least one;  the others  None where they were not said; label: a class."""

    images: tuple[bytes, ...]
    coverage: float | None = None
    unknown: float | None = None
    top: int | None = None
    label: str | None = None


def kind_of(content_type: bytes | None) -> str:
    """Of what form a body is, by its content type: "json", "form", or "image" for everything else."""
    name = (content_type or b"").partition(b";")[0].strip().lower()
    return {b"application/json": "json", b"multipart/form-data": "form"}.get(name, "image")


def read_request(
    content_type: bytes | None, query: bytes, body: bytes, max_images: int, names: Sequence[str] = PREDICTING
) -> Asked:
    """Raises Refusal: bad_request, too_many_images. Options in the body come before those of the query.

    names  of the options that may be said; others are an error in JSON, and passed over elsewhere
    """
    kind = kind_of(content_type)
    options = _from_query(query, names)
    images: list[bytes] = [body]
    if kind == "json":
        images, more = _from_json(body, max_images, names)
        options |= more
    elif kind == "form":
        images, texts = _from_form(content_type or b"", body, max_images)
        options |= {name: _from_text(name, text) for name, text in texts.items() if name in names}
    if not images:
        raise Refusal("bad_request")
    label = options.pop("class", None)
    return Asked(tuple(images), **options, label=label)


def _from_query(query: bytes, names: Sequence[str]) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=32, errors="strict")
    except ValueError:
        raise Refusal("bad_request") from None
    return {name: _from_text(name, text) for name, text in pairs if name in names}


def _from_text(name: str, text: str) -> float | int | str:
    """An option that came as text."""
    if name == "class":
        return _checked(name, text)
    if len(text) > _MAX_NUMBER or not text.isascii() or "_" in text:
        raise Refusal("bad_request")
    try:
        return _checked(name, int(text) if name == "top" else float(text))
    except ValueError:
        raise Refusal("bad_request") from None


def _checked(name: str, value: Any) -> float | int | str:
    if name == "class":
        if not isinstance(value, str) or len(value) > _MAX_CLASS:
            raise Refusal("bad_request")
        return value
    if name == "top":
        good = isinstance(value, int) and 1 <= value <= MAX_TOP
    else:
        good = isinstance(value, int | float) and 0 < value < 1  # no whole number is, however large; NaN is not
    if not good or isinstance(value, bool):
        raise Refusal("bad_request")
    return int(value) if name == "top" else float(value)


def _from_json(body: bytes, max_images: int, names: Sequence[str]) -> tuple[list[bytes], dict[str, Any]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal("bad_request") from None
    texts = value.get("images") if isinstance(value, Mapping) else None
    if not isinstance(texts, list) or set(value) - {"images", *names}:
        raise Refusal("bad_request")
    if len(texts) > max_images:
        raise Refusal("too_many_images")
    options = {name: _checked(name, value[name]) for name in names if name in value}
    try:
        return [base64.b64decode(text.encode("ascii"), validate=True) for text in texts], options
    except (AttributeError, ValueError, binascii.Error):
        raise Refusal("bad_request") from None


def _from_form(content_type: bytes, body: bytes, max_images: int) -> tuple[list[bytes], dict[str, str]]:
    """Every part with a file name is an image; the others are fields."""
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refusal("bad_request")
    images, texts = [], {}
    for head, content in _parts(boundary, body, max_images + _OTHER_PARTS):
        _, options = parse_options_header(head)
        if b"filename" in options:
            images.append(content)
        elif len(content) <= _MAX_CLASS:
            texts[options.get(b"name", b"").decode("latin-1")] = content.decode("utf-8", "replace")
    if len(images) > max_images:
        raise Refusal("too_many_images")
    return images, texts


def _parts(boundary: bytes, body: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """(content disposition, content) of every part of a whole form."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    found: list[tuple[dict[bytes, bytes], list[bytes]]] = []
    name, value, ended = bytearray(), bytearray(), []

    def begin() -> None:
        if len(found) == most:
            raise Refusal("too_many_images")
        found.append(({}, []))

    def header_end() -> None:
        found[-1][0][bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    try:
        parser = MultipartParser(  # which has its own opinion of the boundary
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, start, end: name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": header_end,
                "on_part_data": lambda data, start, end: found[-1][1].append(data[start:end]),
                "on_end": lambda: ended.append(True),
            },
            max_header_count=8,
            max_header_size=4096,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Refusal("bad_request") from None
    if not ended:
        raise Refusal("bad_request")
    return [(head.get(b"content-disposition", b""), b"".join(parts)) for head, parts in found]

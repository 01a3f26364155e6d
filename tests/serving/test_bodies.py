"""What a request asks, read from bytes: whole forms give their parts back, and no bytes at all give a traceback."""

from __future__ import annotations

import base64
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.serving.bodies import Asked, kind_of, read_request
from headway.serving.refusals import Refusal

CONTENTS = st.lists(st.binary(max_size=200) | st.sampled_from([b"--b--", b"\r\n--b\r\n", b"\r\n\r\n"]), max_size=5)
TYPES = st.sampled_from([b"application/json", b"multipart/form-data; boundary=b", b"multipart/form-data", b"image/png"])


def asked_or_code(kind: bytes, query: bytes, body: bytes) -> Asked | str:
    try:
        return read_request(kind, query, body, 3)
    except Refusal as refusal:
        return refusal.code


@given(CONTENTS.filter(len))
def test_form__gives_its_files_back(contents: list[bytes]) -> None:
    files = [("image", (f'na"me;{n}\r\n', content)) for n, content in enumerate(contents)]
    request = httpx.Request("POST", "http://x", files=files, data={"top": "3", "other": "x" * 100})

    found = read_request(request.headers["content-type"].encode(), b"", request.read(), 5)

    assert found == Asked(tuple(contents), top=3)


@given(CONTENTS.filter(len), st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(1, 1000))
def test_json__gives_its_images_back(contents: list[bytes], coverage: float, top: int) -> None:
    images = [base64.b64encode(content).decode() for content in contents]
    body = json.dumps({"images": images, "coverage": coverage, "top": top}).encode()

    assert read_request(b"application/json", b"top=7", body, 5) == Asked(tuple(contents), coverage, None, top)


@given(TYPES, st.binary(max_size=100), st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes__are_an_image_or_refused(kind: bytes, query: bytes, body: bytes) -> None:
    found = asked_or_code(kind, query, body)

    if isinstance(found, str):
        assert found in ("bad_request", "too_many_images")
    elif kind_of(kind) == "image":
        assert found.images == (body,)


@given(
    st.lists(st.sampled_from([b"--b", b"\r\n", b"--", b": ", b"Content-Disposition", b"form-data; filename=x", b"x"]))
)
def test_any_form__is_read_or_refused(parts: list[bytes]) -> None:
    found = asked_or_code(b"multipart/form-data; boundary=b", b"", b"".join(parts))

    assert found in ("bad_request", "too_many_images") if isinstance(found, str) else found.images


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (None, "image"),
        (b"", "image"),
        (b"image/jpeg", "image"),
        (b"application/jsonp", "image"),
        (b"Application/JSON; charset=utf-8", "json"),
        (b"MULTIPART/form-data;boundary=x", "form"),
    ],
)
def test_kind__by_the_content_type_alone(content_type: bytes | None, kind: str) -> None:
    assert kind_of(content_type) == kind

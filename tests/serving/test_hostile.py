"""What the fuzz found, one by one and without a port."""

from __future__ import annotations

import json

import pytest

from headway.serving.bodies import read_request
from headway.serving.refusals import Refusal


def code_of(content_type: bytes, body: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        read_request(content_type, b"", body, 3)
    return caught.value.code


@pytest.mark.parametrize("name", ["coverage", "unknown", "top"])
def test_json__a_whole_number_beyond_any_float_is_a_bad_request(name: str) -> None:
    assert code_of(b"application/json", json.dumps({"images": ["AAAA"], name: 10**400}).encode()) == "bad_request"


def test_form__a_boundary_that_is_too_long_is_a_bad_request() -> None:
    line = b"y" * 5_000
    body = b"--" + line + b"\r\nContent-Disposition: form-data; filename=a\r\n\r\na\r\n--" + line + b"--\r\n"
    assert code_of(b"multipart/form-data; boundary=" + line, body) == "bad_request"

"""What the fuzz found, one by one and without a port."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headway.serving.asgi import Message, Receive, Scope, Send, answer
from headway.serving.bodies import read_request
from headway.serving.gate import MAX_HEAD, Gate
from headway.serving.limits import Limits
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


def behind_gate(*headers: tuple[bytes, bytes], path: str = "/", query: bytes = b"") -> tuple[int, dict[bytes, bytes]]:
    """(status, headers) of a GET that reaches an app which says 200 to all."""
    said: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, b"{}")

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": query,
    }
    asyncio.run(Gate(app, Limits())({**scope, "headers": list(headers)}, receive, send))
    return said[0]["status"], dict(said[0]["headers"])


HOST = (b"host", b"localhost:8000")


@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:80", b"127.0.0.1:65535", b"[::1]", b"[::1]:8000", b"localhost."]
)
def test_host__names_of_this_machine(host: bytes) -> None:
    assert behind_gate((b"host", host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"127.0.0.1:80:80",
        b"127.0.0.1:x",
        b"127.0.0.1:",
        b"[::1",
        b"::1",
        b"localhost,evil",
        b"x@localhost",
        b"localhost\xff",
    ],
)
def test_host__anything_else_is_not_known(host: bytes) -> None:
    assert behind_gate((b"host", host))[0] == 421


def test_two_ends_of_a_body__are_refused_and_nothing_after_them_is_heeded() -> None:
    status, headers = behind_gate(HOST, (b"content-length", b"5"), (b"transfer-encoding", b"chunked"))
    assert (status, headers[b"connection"]) == (400, b"close")
    for alone in ((b"content-length", b"5"), (b"transfer-encoding", b"chunked")):
        assert behind_gate(HOST, alone)[0] == 200


def test_large_head__is_refused_wherever_it_is_large() -> None:
    large = MAX_HEAD + 1
    assert behind_gate(HOST, (b"x", b"a" * large))[0] == 400
    assert behind_gate(HOST, *[(b"x", b"a")] * large)[0] == 400
    assert behind_gate(HOST, path="/" + "a" * large)[0] == 400
    assert behind_gate(HOST, query=b"a" * large)[0] == 400
    assert behind_gate(HOST, (b"x", b"a" * (MAX_HEAD - 100)))[0] == 200

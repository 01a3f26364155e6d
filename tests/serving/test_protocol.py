"""The server on a real port: deadlines, the cap on connections, what no HTTP client would send."""

from __future__ import annotations

import gc
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.serving.limits import Limits
from headway.serving.refusals import CODES
from tests import make
from tests.serving.client import answer, listening, spoken

IMAGE = make.jpeg(0, 1)
QUICK = Limits(header_s=0.4, body_s=0.6, max_body=200_000, connections=8)
GOOD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
Address = tuple[str, int]


@pytest.fixture(scope="module")
def server(plain: Path) -> Iterator[Address]:
    with listening(plain, QUICK) as address:
        yield address


@pytest.fixture(scope="module")
def full(plain: Path) -> Iterator[Address]:
    with listening(plain, Limits(queue=0)) as address:
        yield address


def predict(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """The bytes of a POST of `body`."""
    lines = [b"POST /predict HTTP/1.1", b"Host: localhost", *headers]
    lines += [b"Content-Length: %d" % (len(body) if length is None else length)] if length != -1 else []
    return b"\r\n".join([*lines, b"", b""]) + body


def code(said: bytes) -> str:
    """The code of the one refusal that `said` is, after its status and headers were looked at."""
    head, _, body = said.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d" % CODES[found["error"]["code"]][0])
    assert found["error"]["message"] == CODES[found["error"]["code"]][1]
    assert f"x-request-id: {found['request']}".encode() in head
    assert b"x-content-type-options: nosniff" in head
    return str(found["error"]["code"])


def alive(address: Address) -> bool:
    return spoken(address, LAST).startswith(b"HTTP/1.1 200")


def test_predict__two_requests_on_one_connection(server: Address) -> None:
    said = spoken(server, predict(IMAGE) + predict(IMAGE, b"Connection: close"))

    assert said.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        predict(IMAGE, b"Content-Length: 3"),
        predict(IMAGE, length=-1).replace(b"\r\n\r\n", b"\r\nContent-Length: -1\r\n\r\n", 1),
        predict(b"zz\r\n", b"Transfer-Encoding: chunked", length=-1),
    ],
    ids=lambda sent: repr(sent[:30]),
)
def test_malformed__is_refused_in_our_words(server: Address, sent: bytes) -> None:
    assert code(spoken(server, sent)) == "bad_request"
    assert alive(server)


def test_head__that_trickles_ends_in_time(server: Address) -> None:
    start = time.monotonic()
    with socket.create_connection(server, timeout=10) as connection:
        connection.settimeout(0.1)
        said = b""
        for byte in GOOD * 20:
            try:
                connection.sendall(bytes([byte]))
                said = answer(connection)
                break
            except TimeoutError:
                continue

    assert code(said) == "too_slow"
    assert time.monotonic() - start >= QUICK.header_s


@pytest.mark.parametrize("sent", [b"", GOOD])
def test_connection__that_says_nothing_is_closed(server: Address, sent: bytes) -> None:
    assert spoken(server, sent).count(b"HTTP/1.1") == (1 if sent else 0)


def test_body__that_does_not_come_ends_in_time(server: Address) -> None:
    assert code(spoken(server, predict(IMAGE[:10], length=len(IMAGE)))) == "too_slow"


def test_body__of_a_refused_request_is_thrown_away(server: Address) -> None:
    said = spoken(server, predict(bytes(2_000_000)) + LAST)
    first, _, rest = said.partition(b"HTTP/1.1 200 OK")

    assert code(first) == "too_large"
    assert rest.endswith(b'{"status": "ok"}')


@pytest.mark.slow
def test_body__without_an_end_is_refused_and_closed(server: Address) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with socket.create_connection(server, timeout=20) as connection:
        connection.sendall(predict(b"", b"Transfer-Encoding: chunked", length=-1))
        try:
            for _ in range(100_000):
                connection.sendall(chunk)
        except OSError:
            ended = True
        else:
            ended = False

    assert ended
    assert alive(server)


def test_expect__a_body_that_is_too_large_need_not_be_sent(server: Address) -> None:
    with socket.create_connection(server, timeout=10) as connection:
        connection.sendall(predict(b"", b"Expect: 100-continue", length=10_000_000))
        said = answer(connection)

    assert code(said) == "too_large"


def test_connections__beyond_the_cap_idle_ones_give_way(server: Address) -> None:
    idle = [socket.create_connection(server, timeout=10) for _ in range(40)]
    try:
        assert alive(server)
    finally:
        for connection in idle:
            connection.close()


def test_connections__beyond_the_cap_a_new_one_is_refused_where_all_are_at_work(plain: Path) -> None:
    with listening(plain, Limits(connections=2, body_s=5)) as address:
        busy = [socket.create_connection(address, timeout=10) for _ in range(2)]
        for connection in busy:
            connection.sendall(predict(IMAGE[:10], length=len(IMAGE)))
        time.sleep(0.2)
        refused = spoken(address, b"")
        for connection in busy:
            connection.sendall(IMAGE[10:])
        answers = [answer(connection) for connection in busy]
        for connection in busy:
            connection.close()

    assert code(refused) == "busy"
    assert all(each.startswith(b"HTTP/1.1 200 OK") for each in answers)


FULL = [
    predict(IMAGE),
    predict(IMAGE, b"Connection: close"),
    predict(b""),
    predict(IMAGE, b"X: content-length"),
    predict(b"3\r\nabc\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", length=-1),  # not plain: through the app
    predict(IMAGE, b"Content-Type: image/jpeg").replace(b"/predict", b"/predict?top=3"),
]


@pytest.mark.parametrize("sent", FULL, ids=range(len(FULL)))
@pytest.mark.parametrize("cut", [0, 30, 200, -1])
def test_full__is_refused_alike_however_it_arrives(full: Address, sent: bytes, cut: int) -> None:
    with socket.create_connection(full, timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = b""
        for part in (sent[:cut], sent[cut:]):
            connection.sendall(part)
            time.sleep(0.01)
        said = answer(connection)
        if b"Connection: close" in sent:
            assert connection.recv(1) == b""
        else:
            connection.sendall(GOOD)  # nothing of the refused body is taken for a request
            assert answer(connection).startswith(b"HTTP/1.1 200 OK")

    assert code(said) == "busy"
    assert b"\r\nretry-after: 1\r\n" in said


def test_full__requests_behind_each_other_are_each_refused(full: Address) -> None:
    said = spoken(full, predict(IMAGE) * 3 + GOOD + LAST)

    assert [said.count(b"HTTP/1.1 %d" % status) for status in (503, 200)] == [3, 2]


def test_full__a_body_with_two_ends_goes_through_the_app(full: Address) -> None:
    chunks = b"3\r\nabc\r\n0\r\n\r\n"
    said = spoken(full, predict(chunks, b"Transfer-Encoding: chunked", length=1000) + LAST)

    assert b'"bad_request"' in said or said.count(b"HTTP/1.1 200 OK") == 1  # never taken for 1000 bytes of body


def test_full__is_counted(plain: Path) -> None:
    with listening(plain, Limits(queue=0)) as address:
        for sent in FULL:
            if b"close" not in sent:
                with socket.create_connection(address, timeout=10) as connection:
                    connection.sendall(sent)
                    answer(connection)
        told = spoken(address, LAST.replace(b"/healthz", b"/metrics"))

    assert b'headway_refused_total{code="busy",worker="1"} 5.0' in told
    assert b'headway_requests_total{route="/predict",status="503",worker="1"} 5.0' in told


def test_answer__that_is_not_taken_ends_the_connection(server: Address) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.settimeout(10)
        connection.connect(server)
        try:
            for _ in range(100):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3000)
        except ConnectionError:
            ended = True
        else:
            ended = False

    assert ended
    assert alive(server)


def test_keep_alive__of_a_good_client_goes_on(server: Address) -> None:
    with socket.create_connection(server, timeout=10) as connection:
        for _ in range(4):
            connection.sendall(predict(IMAGE))
            assert answer(connection).startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.2)


def test_ending__who_does_not_take_an_answer_keeps_no_socket(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.settimeout(10)
        with listening(plain, Limits(deadline_s=0.1, body_s=30)) as address:
            connection.connect(address)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
            time.sleep(0.3)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "unraisablehook", left.append)  # where a socket that nobody closed is complained of
            gc.collect()

    assert left == []

"""Requests that no good client sends, as bytes for a raw socket, each with the statuses that may answer it.

FRAMING  what is wrong with HTTP itself: the connection ends after one of them
BODIES   well framed requests whose path, fields or image are wrong (`malformed_bodies`)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests import make

CANARY = b"canary7f3a"  # stands in bodies, paths and headers, and may stand in no answer and in no log
CLOSED = 0  # as a status: the connection was closed without an answer
HOST = b"Host: 127.0.0.1\r\n"
IMAGE = make.jpeg(size=(32, 24))

REFUSED = frozenset({400})
REFUSED_OR_CLOSED = frozenset({CLOSED, 400})
CUT_SHORT = frozenset({CLOSED, 400, 408})
TOO_LARGE = frozenset({CLOSED, 400, 413, 414, 431})
NO_SUCH_THING = frozenset({CLOSED, 400, 404, 405, 421, 501, 505})
WRONG_HOST = frozenset({400, 421})
NO_IMAGE = frozenset({400, 413, 422})
ANY = frozenset({CLOSED, 200, 400, 404, 405, 408, 411, 413, 415, 417, 421, 422, 426, 501})


@dataclass(frozen=True)
class Kind:
    """A kind of malformed request.

    allowed  statuses of its first answer
    make     a source of chance → the bytes of one of them
    whole    whether its framing is right, so that the connection may go on
    most     answers that may come at most; a request smuggled in another would be one more
    """

    name: str
    allowed: frozenset[int]
    make: Callable[[random.Random], bytes]
    whole: bool = False
    most: int = 1


def request(line: bytes, body: bytes = b"", *headers: bytes, host: bytes = HOST) -> bytes:
    """A request with a right Content-Length; `headers` without their line ends."""
    rest = b"".join(header + b"\r\n" for header in headers)
    return line + b" HTTP/1.1\r\n" + host + rest + b"Content-Length: %d\r\n\r\n" % len(body) + body


def one_of(*choices: bytes) -> Callable[[random.Random], bytes]:
    """Any of `choices`."""
    return lambda draw: draw.choice(choices)


def _head(*headers: bytes, line: bytes = b"POST /predict HTTP/1.1") -> bytes:
    return line + b"\r\n" + HOST + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


def _noise(draw: random.Random, most: int = 400) -> bytes:
    return draw.randbytes(draw.randint(1, most))


def _cut_header(draw: random.Random) -> bytes:
    whole = request(b"POST /predict", b"", b"Content-Type: image/jpeg", b"X-Note: " + CANARY)
    return whole[: draw.randint(1, len(whole) - 2)]


def _cut_body(draw: random.Random) -> bytes:
    whole = request(b"POST /predict", IMAGE, b"Content-Type: image/jpeg")
    return whole[: -draw.randint(1, len(IMAGE))]


def _length(draw: random.Random) -> bytes:
    wrong = (b"-1", b"+5", b"0x10", b"5 5", b"5, 6", b"1e3", b"five", b"\xb2", b"9" * 40, b"1" * 5000, b"5;5", b"_5")
    return _head(b"Content-Length: " + draw.choice(wrong)) + CANARY


def _two_lengths(draw: random.Random) -> bytes:
    return _head(b"Content-Length: 5", b"Content-Length: %d" % draw.randint(6, 99)) + CANARY * 10


def _chunks(draw: random.Random) -> bytes:
    lies = (
        b"5\r\nabc\r\n0\r\n\r\n",
        b"2\r\nabcdef\r\n0\r\n\r\n",
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFF\r\nabc",
        b"F" * 5000 + b"\r\nabc",
        b"3\nabc\n0\n\n",
        b"3\r\nabc0\r\n\r\n",
        b"3;" + b"e" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n",
        b"\r\n\r\n\r\n",
        CANARY,
    )
    return _head(b"Transfer-Encoding: chunked") + draw.choice(lies)


def _smuggled(draw: random.Random) -> bytes:
    """A second request that only a reader sees who takes the other of two lengths."""
    hidden = b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: " + CANARY + b"\r\n\r\n"
    ways = (
        (b"Content-Length: %d" % (len(hidden) + 5), b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Transfer-Encoding: xchunked", b"Content-Length: %d" % (len(hidden) + 5)),
        (b"Transfer-Encoding: identity, chunked", b"Content-Length: 5"),
        (b"Transfer-Encoding: chunked, identity", b"Content-Length: 5"),
        (b"Transfer-Encoding : chunked", b"Content-Length: 5"),
        (b"Transfer-Encoding:\x0bchunked", b"Content-Length: 5"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow", b"Content-Length: 5"),
        (b"X: y\nTransfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Content-Length: %d" % (len(hidden) + 5)),
    )
    return _head(*draw.choice(ways)) + b"0\r\n\r\n" + hidden


def _huge(draw: random.Random) -> bytes:
    large = CANARY * draw.randint(7_000, 12_000)
    many = tuple(b"X-%d: %s" % (number, CANARY) for number in range(3_000))
    return draw.choice(
        (
            _head(b"X-Large: " + large),
            _head(b"X" + large + b": a"),
            _head(*many),
            _head(line=b"GET /" + large + b" HTTP/1.1"),
            _head(line=b"GET /?top=" + large + b" HTTP/1.1"),
            _head(line=large + b" / HTTP/1.1"),
            _head(b"Cookie: " + large),
        )
    )


def _random_line(draw: random.Random) -> bytes:
    return _noise(draw).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\r\n"


def _mutated(draw: random.Random) -> bytes:
    """A good request with a few of the bytes of its head changed, lost or doubled."""
    content = bytearray(request(b"POST /predict?top=1", IMAGE, b"Content-Type: image/jpeg", b"Accept: */*"))
    end = content.index(b"\r\n\r\n")
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(end)
        way = draw.randrange(3)
        content[at : at + 1] = (bytes([draw.randrange(256)]), b"", bytes([content[at]]) * 2)[way]
    return bytes(content)


def _with_zero(draw: random.Random) -> bytes:
    ways = (
        _head(line=b"GET /\0" + CANARY + b" HTTP/1.1"),
        _head(b"X-\0Name: a"),
        _head(b"X-Name: a\0" + CANARY),
        _head(line=b"GE\0T / HTTP/1.1"),
        _head(b"Content-Length: 1\0"),
        b"\0" * draw.randint(1, 500) + b"\r\n\r\n",
    )
    return draw.choice(ways)


_LINES = (
    b"GET",
    b"GET /",
    b"GET / HTTP/9.9",
    b"GET / HTTP/1.1 HTTP/1.1",
    b"GET  /  HTTP/1.1",
    b" GET / HTTP/1.1",
    b"GET / HTTP/1.1\x0b",
    b"GET " + CANARY + b" HTTP/1.1",
    b"GET / HTTPS/1.1",
    b"HTTP/1.1 200 OK",
    b"G=T / HTTP/1.1",
    b"G\xc3\x89T / HTTP/1.1",
)
_ABSOLUTE = (
    b"GET http://evil.example/healthz",
    b"POST http://169.254.169.254/predict",
    b"GET https://127.0.0.1@evil.example/",
    b"GET file:///etc/passwd",
    b"CONNECT evil.example:443",
    b"OPTIONS *",
    b"TRACE /",
    b"PROPFIND /",
)
_HOSTS = (
    b"",
    b"Host:\r\n",
    b"Host: evil.example\r\n",
    b"Host: 127.0.0.1.evil.example\r\n",
    b"Host: 127.0.0.1@evil.example\r\n",
    b"Host: evil.example:80\r\n",
    b"Host: 127.0.0.1:80:80\r\n",
    b"Host: 127.0.0.1, evil.example\r\n",
    b"Host: " + CANARY + b"\r\n",
    b"Host: [::1\r\n",
    b"Host: http://127.0.0.1/\r\n",
    b"Host: 127.0.0.1:notaport\r\n",
    b"Host: " + b"a" * 5000 + b"\r\n",
    HOST + HOST,
    HOST + b"Host: evil.example\r\n",
    b"Host : 127.0.0.1\r\n",
    b"Host: 127.0.0.1\xff\r\n",
)
_WEBSOCKET = (
    (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    (b"Upgrade: websocket", b"Connection: Upgrade"),
    (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
)


def _upgrade(draw: random.Random) -> bytes:
    line = draw.choice((b"GET / HTTP/1.1", b"GET /predict HTTP/1.1", b"POST /predict HTTP/1.1"))
    return _head(*draw.choice(_WEBSOCKET), b"Sec-WebSocket-Version: 13", line=line)


def _other_protocols(draw: random.Random) -> bytes:
    return draw.choice(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(500),
            b"GET /\r\n",
            b"GET /predict " + CANARY + b"\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\r\n" * draw.randint(1, 50),
            b"\n\n\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"EHLO evil.example\r\n",
        )
    )


def _odd_lines(draw: random.Random) -> bytes:
    return draw.choice(
        (
            b"GET /healthz HTTP/1.1\n" + HOST.replace(b"\r", b"") + b"\n",
            _head(b"X-Folded: a\r\n " + CANARY, line=b"GET /healthz HTTP/1.1"),
            _head(b"X-Return: a\rb", line=b"GET /healthz HTTP/1.1"),
            _head(b"No colon here", line=b"GET /healthz HTTP/1.1"),
            _head(b": no name", line=b"GET /healthz HTTP/1.1"),
            _head(b"X Space: a", line=b"GET /healthz HTTP/1.1"),
            _head(b"X-High: \xff\xfe", line=b"GET /healthz HTTP/1.1"),
            b"GET /healthz HTTP/1.0\r\n\r\n",
        )
    )


def _expects(draw: random.Random) -> bytes:
    wish = draw.choice((b"100-continue", b"200-ok", CANARY, b"100-continue, " + CANARY))
    return _head(b"Expect: " + wish, b"Content-Length: 10") + CANARY


FRAMING = (
    Kind("header cut short", CUT_SHORT, _cut_header),
    Kind("body cut short", CUT_SHORT, _cut_body),
    Kind("body longer than said", ANY, lambda draw: request(b"POST /predict", IMAGE) + CANARY * 3, most=2),
    Kind("no length", TOO_LARGE, _length),
    Kind("two lengths", REFUSED_OR_CLOSED, _two_lengths),
    Kind("chunks that lie", CUT_SHORT | {413, 422}, _chunks),
    Kind("smuggled request", REFUSED_OR_CLOSED | {501}, _smuggled),
    Kind("huge header", TOO_LARGE, _huge),
    Kind("length beyond the limit", frozenset({CLOSED, 413}), one_of(_head(b"Content-Length: 999999999999"))),
    Kind("noise", NO_SUCH_THING, _noise),
    Kind("noise as a line", NO_SUCH_THING, _random_line),
    Kind("mutated head", ANY, _mutated, most=2),
    Kind("zero bytes", NO_SUCH_THING, _with_zero),
    Kind("wrong request line", NO_SUCH_THING | {200}, lambda draw: _head(line=draw.choice(_LINES))),
    Kind("absolute or odd target", NO_SUCH_THING, lambda draw: request(draw.choice(_ABSOLUTE))),
    Kind("wrong host", WRONG_HOST, lambda draw: request(b"GET /model", host=draw.choice(_HOSTS))),
    Kind("upgrade", ANY, _upgrade),
    Kind("another protocol", NO_SUCH_THING, _other_protocols, most=2),  # to HTTP/1.1 the preface of 2 is two requests
    Kind("odd lines", ANY, _odd_lines),
    Kind("expectations", ANY | {100}, _expects, most=2),
    Kind("pipelined", frozenset({200}), lambda draw: request(b"GET /healthz") * 20, most=20),
    Kind("pipelined with noise", frozenset({200}), lambda draw: request(b"GET /healthz") + _noise(draw), most=2),
    Kind("head", ANY, lambda draw: request(draw.choice((b"HEAD /", b"HEAD /predict", b"HEAD /" + CANARY)))),
)

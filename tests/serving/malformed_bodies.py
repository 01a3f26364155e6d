"""Well framed requests with a wrong path, wrong fields, a body that is no image, or an image made to hurt."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from functools import cache

from PIL import Image

from tests import make
from tests.bad_inputs import FILES
from tests.serving.malformed import ANY, CANARY, IMAGE, NO_IMAGE, Kind, request

OK = frozenset({200})
BAD_QUERY = frozenset({400})
NO_IMAGES = frozenset({422})
_TYPES = (b"image/jpeg", b"image/png", b"application/octet-stream", b"text/html", b"", CANARY, b"image/" + b"x" * 2000)


def _body(content: bytes, draw: random.Random) -> bytes:
    return request(b"POST /predict", content, b"Content-Type: " + draw.choice(_TYPES))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *before: bytes, data: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@cache
def _bombs() -> tuple[bytes, ...]:
    """Images that are small as files and large as anything else."""
    zeros = zlib.compress(bytes(30 << 20), 9)
    at = IMAGE.index(b"\xff\xc0") + 5
    small = zlib.compress(bytes(3 * 8 * 8 + 8))
    gif = make.encode(make.image(size=(4, 4)).quantize(4), "GIF")
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    bmp = make.encode(make.image(size=(8, 8)), "BMP")
    return (
        _png(50_000, 50_000, data=zlib.compress(bytes(1000))),
        _png(2**31 - 1, 2**31 - 1, data=small),
        _png(0, 0, data=small),
        _png(4_000, 4_000, data=zeros),
        _png(8, 8, _chunk(b"iCCP", b"icc\0\0" + zeros), data=small),
        _png(8, 8, *[_chunk(b"zTXt", b"a\0\0" + zeros)] * 20, data=small),
        _png(8, 8, _chunk(b"iTXt", b"a\0\1\0\0\0" + zeros), data=small),
        _png(8, 8, *[_chunk(b"tEXt", b"a\0" + CANARY)] * 50_000, data=small),
        _png(8, 8, data=zeros),
        IMAGE[:at] + struct.pack(">HH", 65_000, 65_000) + IMAGE[at + 4 :],
        gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        gif[:-1] + frame * 50_000 + b"\x3b",
        bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:],
        bmp[:18] + struct.pack("<ii", -8, -(2**31)) + bmp[26:],
    )


@cache
def _pictures() -> tuple[bytes, ...]:
    picture = make.image(size=(48, 40))
    kinds = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
    icc = make.encode(picture, "JPEG", icc_profile=CANARY * 50)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = CANARY.decode()
    picture.save(stream, "JPEG", exif=exif, progressive=True)
    return (*(make.encode(picture, form) for form in kinds), icc, stream.getvalue())


@cache
def _bad_files() -> tuple[bytes, ...]:
    slow = ("many frames", "bomb")  # made above, smaller
    return tuple(
        bad.content()
        for name, bad in FILES.items()
        if bad.reason is not None and not any(word in name for word in slow) and bad.content()
    )


def _truncated(draw: random.Random) -> bytes:
    content = draw.choice(_pictures()[:6])
    return _body(content[: draw.randint(1, len(content) // 2)], draw)


def _damaged(draw: random.Random) -> bytes:
    content = bytearray(draw.choice(_pictures()))
    for _ in range(draw.randint(1, 20)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return _body(bytes(content), draw)


def _text(draw: random.Random) -> bytes:
    page = b"<html><body>" + CANARY + b"</body></html>"
    return _body(draw.choice((page, CANARY, b"http://evil.example/cat.jpg", b"/etc/passwd", b"\0" * 99, b" ")), draw)


def _form(draw: random.Random) -> bytes:
    """A form that is wrong in one way."""
    line = b"--x\r\n"
    field = b'Content-Disposition: form-data; name="image"; filename="' + CANARY + b'.jpg"\r\n'
    kind = b"Content-Type: image/jpeg\r\n\r\n"
    good = line + field + kind + IMAGE + b"\r\n"
    boundary = b"multipart/form-data; boundary=x"
    ways: tuple[tuple[bytes, bytes], ...] = (
        (b"multipart/form-data", good + b"--x--\r\n"),
        (b"multipart/form-data; boundary=", good + b"--x--\r\n"),
        (b"multipart/form-data; boundary=y", good + b"--x--\r\n"),
        (b"multipart/form-data; boundary=" + b"y" * 5_000, good + b"--x--\r\n"),
        (b"multipart/form-data; boundary=\xff\xfe", good + b"--x--\r\n"),
        (b'multipart/form-data; boundary="x', good + b"--x--\r\n"),
        (b"multipart/mixed; boundary=x", good + b"--x--\r\n"),
        (boundary, b""),
        (boundary, b"--x--\r\n"),
        (boundary, good[: len(good) // 2]),
        (boundary, CANARY),
        (boundary, b"--x\r\n\r\n\r\n--x--\r\n"),
        (boundary, line + b"X" * 100_000 + b": a\r\n\r\na\r\n--x--\r\n"),
        (boundary, line + b"A: b\r\n" * 10_000 + b"\r\na\r\n--x--\r\n"),
        (boundary, line + b"Content-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        (boundary, line + b'Content-Disposition: form-data; name="top"\r\n\r\n' + CANARY + b"\r\n--x--\r\n"),
        (boundary, line + field + kind + CANARY + b"\r\n--x--\r\n"),
        (boundary, line + field + kind + b"\r\n--x--\r\n"),
        (boundary, b"--x\n" + field.replace(b"\r", b"") + b"\n" + IMAGE + b"\n--x--\n"),
        (boundary, (line + b'Content-Disposition: form-data; name="a"\r\n\r\na\r\n') * 2_000 + b"--x--\r\n"),
        (boundary, good * 70 + b"--x--\r\n"),
        (boundary, line + b'Content-Disposition: form-data; name="coverage"\r\n\r\nnan\r\n' + good + b"--x--\r\n"),
        (boundary, line + b'Content-Disposition: form-data; name="top"\r\n\r\n\xff\r\n' + good + b"--x--\r\n"),
        (boundary, line + b'Content-Disposition: form-data; name="\0"; filename="\0"\r\n\r\n\0\r\n--x--\r\n'),
    )
    header, body = draw.choice(ways)
    return request(b"POST /predict", body, b"Content-Type: " + header)


def _form_noise(draw: random.Random) -> bytes:
    """Pieces of forms in any order."""
    pieces = (b"--x", b"\r\n", b"--", b"Content-Disposition: form-data", b'; name="image"', b'; filename="a"', IMAGE)
    more = (b"Content-Type: multipart/mixed; boundary=x", b"\n", b"\r", b"\0", b"Content-Transfer-Encoding: base64")
    body = b"--x\r\n" + b"".join(draw.choice(pieces + more) for _ in range(draw.randint(1, 30)))
    return request(b"POST /predict", body, b"Content-Type: multipart/form-data; boundary=x")


_64 = base64.b64encode(IMAGE).decode()
_NOT_64: tuple[object, ...] = (
    *(_64 + "=", _64[:-1] + "!", _64[:5] + "\n" + _64[5:], "data:image/jpeg;base64," + _64, "", "=", "====", "A"),
    *("\u0661" * 8, "\ud800", "\0", "http://evil.example/cat.jpg", "file:///etc/passwd", CANARY.decode()),
    *(None, 1, True, 1e300, [], {}, [_64], {"url": "http://evil.example/"}, _64.replace("/", "_").replace("+", "-")),
)
# With an image that is right: what stands beside it is refused for itself.
_NO_SHARES: tuple[object, ...] = (-1, 0, 1, 2, "0.95", "x", True, [], {}, None, 10**400, float("nan"), float("inf"))
_NO_COUNTS: tuple[object, ...] = (-1, 0, "5", 1.5, True, [], {}, 10**400, float("nan"))
_FIELDS: tuple[tuple[str, object], ...] = (
    *(("coverage", value) for value in _NO_SHARES),
    *(("unknown", value) for value in _NO_SHARES),
    *(("top", value) for value in _NO_COUNTS),
)


def _as_json(value: object) -> bytes:
    return request(b"POST /predict", json.dumps(value).encode(), b"Content-Type: application/json")


def _json_text(draw: random.Random) -> bytes:
    good = json.dumps({"images": [_64]}).encode()
    ways = (
        *(b"", b"{", b"null", b"[]", b"1", b'"' + CANARY + b'"', b"{}", b'{"images": 1}', b'{"images": {}}'),
        *(b'{"images": []}', b'{"images": null}', b'{"images": "' + CANARY + b'"}', b'{"image": "' + CANARY + b'"}'),
        *(
            good[: draw.randint(1, len(good) - 1)],
            good + b"}",
            good + CANARY,
            b"\xff\xfe" + good,
            good.replace(b"i", b"\xff"),
        ),
        *(b"[" * 100_000, b'{"images":' * 50_000, b'{"images":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        *(
            b'{"images": [' + b"1" * 5_000 + b"]}",
            b'{"top": ' + b"9" * 10_000 + b', "images": []}',
            b'{"images": [NaN]}',
        ),
        *(b'{"images": ["\\ud800"]}', b"\xef\xbb\xbf" + b"{}", b"\0" * 100),
    )
    return request(
        b"POST /predict",
        draw.choice(ways),
        b"Content-Type: application/json; charset=" + draw.choice((b"utf-8", CANARY)),
    )


def _many(draw: random.Random) -> bytes:
    return _as_json({"images": [_64] * draw.choice((65, 100, 1_000))})


_QUERIES = (
    *(
        b"coverage=abc",
        b"coverage=nan",
        b"coverage=inf",
        b"coverage=-1",
        b"coverage=1",
        b"coverage=2",
        b"coverage=1e999",
    ),
    *(b"coverage=%00", b"coverage=%ff", b"coverage=" + CANARY, b"coverage=0_9", b"coverage="),
    *(b"unknown=x", b"unknown=0", b"unknown=1", b"unknown=nan", b"unknown=%D9%A1", b"unknown=" + b"9" * 5_000),
    *(
        b"top=x",
        b"top=-1",
        b"top=0",
        b"top=1.5",
        b"top=" + b"9" * 5_000,
        b"top=%D9%A3",
        b"top=1_0",
        b"top=",
        b"top=+-1",
    ),
)
_PATHS = (
    *(b"/../../../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/static/..%2f..%2fapp.py", b"/page.js/../limits.py"),
    *(b"//evil.example/", b"/page.css%00.html", b"/" + CANARY, b"/predict/", b"/predict/" + CANARY, b"/PREDICT"),
    *(
        b"/.git/config",
        b"/docs",
        b"/static/",
        b"/static/app.py",
        b"/index.html%2f..",
        b"/\\..\\..\\etc",
        b"/%",
        b"/%zz",
    ),
    *(b"/?" + CANARY, b"/healthz?" + CANARY, b"/healthz/x", b"/metrics/x", b"/" + b"a/" * 2_000, b"/" + b"%ff" * 500),
)
_WRONG = tuple(
    method + b" " + path
    for path in (b"/predict", b"/healthz", b"/readyz", b"/metrics", b"/model", b"/openapi.json", b"/", b"/page.js")
    for method in (b"DELETE", b"PUT", b"PATCH", b"BREW", b"get", CANARY, b"POST" if path != b"/predict" else b"GET")
)


def _headers(draw: random.Random) -> bytes:
    """A good image between headers that nobody should heed."""
    ways = (
        *(
            b"Content-Encoding: gzip",
            b"Authorization: Bearer " + CANARY,
            b"Authorization: \xff",
            b"X-Request-Id: <" + CANARY + b">",
        ),
        *(
            b"X-Forwarded-Host: evil.example",
            b"X-Forwarded-For: " + CANARY,
            b"Forwarded: host=evil.example",
            b"TE: trailers",
        ),
        *(
            b"Range: bytes=0-0",
            b"Accept: " + CANARY,
            b"Accept-Encoding: *;q=0",
            b"If-None-Match: *",
            b"X-HTTP-Method-Override: DELETE",
        ),
        *(
            b"Origin: http://evil.example",
            b"Content-Type: application/json; charset=\xff",
            b"Content-Type: multipart/form-data",
        ),
    )
    return request(b"POST /predict", IMAGE, draw.choice(ways))


BODIES = (
    Kind("text as an image", NO_IMAGES, _text, whole=True),
    Kind("noise as an image", NO_IMAGES, lambda draw: _body(draw.randbytes(draw.randint(1, 2_000)), draw), whole=True),
    Kind("no body", NO_IMAGE, lambda draw: _body(b"", draw), whole=True),
    Kind("bad files", NO_IMAGES, lambda draw: _body(draw.choice(_bad_files()), draw), whole=True),
    Kind("truncated image", NO_IMAGES, _truncated, whole=True),
    Kind("damaged image", frozenset({200, 422}), _damaged, whole=True),
    Kind("bomb", NO_IMAGE | OK, lambda draw: _body(draw.choice(_bombs()), draw), whole=True),
    Kind("form", NO_IMAGE | OK, _form, whole=True),
    Kind("pieces of forms", NO_IMAGE | OK, _form_noise, whole=True),
    Kind("bad json", NO_IMAGE, _json_text, whole=True),
    Kind("bad base64", NO_IMAGE | OK, lambda draw: _as_json({"images": [draw.choice(_NOT_64)]}), whole=True),
    Kind("bad field", BAD_QUERY, lambda draw: _as_json({"images": [_64], **dict([draw.choice(_FIELDS)])}), whole=True),
    Kind("too many images", frozenset({413}), _many, whole=True),
    Kind("bad query", BAD_QUERY, lambda draw: request(b"POST /predict?" + draw.choice(_QUERIES), IMAGE), whole=True),
    Kind("odd path", OK | {400, 404, 405}, lambda draw: request(b"GET " + draw.choice(_PATHS)), whole=True),
    Kind("wrong method", frozenset({400, 404, 405, 501}), lambda draw: request(draw.choice(_WRONG)), whole=True),
    Kind("headers to ignore", ANY, _headers, whole=True),
)

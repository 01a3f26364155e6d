"""What a server says no with: a fixed code, its status, one fixed sentence; nothing of a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus

Headers = Sequence[tuple[bytes, bytes]]

CODES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request is not of the form that the API describes."),
    "not_promised": (400, "The model cannot promise this coverage or rate; what it can is told by GET model."),
    "no_class": (400, "The model has no such class, or tells no classes apart; see GET model."),
    "no_token": (401, "A token is needed, as Authorization: Bearer."),
    "not_found": (404, "There is nothing at this address."),
    "not_explained": (404, "This model cannot be explained; whether one can is told by GET model."),
    "wrong_method": (405, "This address does not take this method."),
    "too_slow": (408, "The request did not arrive in time."),
    "too_large": (413, "The body is larger than allowed; the limits are told by GET model."),
    "too_many_images": (413, "More images than one request may bring; the limits are told by GET model."),
    "bad_host": (421, "The server is not known by this name."),
    "not_an_image": (422, "This is not a JPEG, PNG, WebP, GIF, BMP or TIFF image."),
    "damaged_image": (422, "The image is damaged or of a kind that is not supported."),
    "too_many_pixels": (422, "The image has more pixels than allowed; the limits are told by GET model."),
    "internal": (500, "Something went wrong in the server."),
    "busy": (503, "More is asked than can be answered in time; try again soon."),
    "stopping": (503, "The server is about to stop."),
    "late": (504, "The answer was not ready in time."),
}

_NO_ID = "0" * 16  # stands in the prepared bytes of a refusal where its id will

STRICT_POLICY = b"default-src 'none'; frame-ancestors 'none'"


class Refusal(Exception):
    """A request that is answered with the code `code`. Raised by whoever finds the reason, answered by the gate."""

    def __init__(self, code: str, headers: Headers = ()) -> None:
        super().__init__(code)
        self.code = code
        self.status = CODES[code][0]
        retry: Headers = [(b"retry-after", b"1")] if self.status == 503 else []
        slow: Headers = [(b"connection", b"close")] if code == "too_slow" else []
        self.headers = (*headers, *retry, *slow)


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready; nobody is there to be answered."""


def refusal_body(code: str, request: str) -> bytes:
    """The JSON that a refusal is answered with; `request` is its id."""
    return json.dumps({"error": {"code": code, "message": CODES[code][1]}, "request": request}).encode()


def whole_refusal(code: str, request: str, *, close: bool) -> bytes:
    """The same as it goes over the wire, for where no app is asked; `close` says that the connection ends with it.

    request  its id, of 16 characters
    """
    return _wire(code, close).replace(_NO_ID.encode(), request.encode())


@cache
def _wire(code: str, close: bool) -> bytes:
    body, status = refusal_body(code, _NO_ID), CODES[code][0]
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {_NO_ID}",
        "x-content-type-options: nosniff",
        f"content-security-policy: {STRICT_POLICY.decode()}",
        "cache-control: no-store",
        *(["retry-after: 1"] if status == 503 else []),
        *(["connection: close"] if close else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body

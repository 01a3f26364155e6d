"""Between a client and whoever works for it: its request read, its answer waited for, its bad image named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from headway.data.images import BadImage, NotAnImage, TooManyPixels
from headway.serving.asgi import Receive, Scope, header, read_body
from headway.serving.bodies import PREDICTING, Asked, kind_of, read_request
from headway.serving.refusals import ClientLeft, Refusal

T = TypeVar("T")


async def read_asked(
    scope: Scope, receive: Receive, pool: Executor, max_images: int, names: Sequence[str] = PREDICTING
) -> Asked:
    """What a request asks, in whichever of the three forms. Raises Refusal and ClientLeft."""
    kind, query = header(scope, b"content-type"), scope["query_string"]
    if kind_of(kind) == "image":
        read_request(kind, query, b"", 1, names)  # what is wrong with the query is told before the body is read
    body = await read_body(receive)
    if kind_of(kind) == "image":
        return read_request(kind, query, body, 1, names)
    loop = asyncio.get_running_loop()  # large ones take long enough for others to notice
    return await loop.run_in_executor(pool, read_request, kind, query, body, max_images, names)


async def first_of(done: asyncio.Future[T], receive: Receive, deadline: float) -> T:
    """The result of `done`; Refusal after the deadline (time.monotonic), ClientLeft where the client leaves before."""
    leaving = asyncio.ensure_future(receive())
    try:
        rest = deadline - time.monotonic()
        either: list[asyncio.Future[Any]] = [done, leaving]
        await asyncio.wait(either, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if leaving.done():
            raise ClientLeft
        raise Refusal("late")
    finally:
        leaving.cancel()


def code_of(error: BadImage) -> str:
    """The code that a bad image is answered with."""
    if isinstance(error, NotAnImage):
        return "not_an_image"
    return "too_many_pixels" if isinstance(error, TooManyPixels) else "damaged_image"

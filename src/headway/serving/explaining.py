"""`POST /explain`: which parts of one image speak for a class, one image after the other in a thread of its own.

What explains is opened when it is first asked for, by a request or by `GET /model`: who only predicts does not pay.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from headway.backbones.preprocess import prepare
from headway.data.images import BadImage, decode
from headway.deployment.bundle import Bundle
from headway.deployment.predictor import content_digest, probabilities
from headway.errors import HeadwayError
from headway.explanation.opening import open_explainer
from headway.explanation.overlay import encoded, enlarged
from headway.explanation.saliency import Explainer, is_quick
from headway.serving.asgi import FACTS, Facts, Receive, Scope, Send, answer
from headway.serving.asking import code_of, first_of, read_asked
from headway.serving.bodies import EXPLAINING, Asked
from headway.serving.limits import Limits
from headway.serving.refusals import Refusal

WAITING = 8  # requests taken on and not yet answered, at most


class Explaining:
    """`POST /explain` for one bundle. `model` is told in every answer."""

    def __init__(self, bundle: Bundle, limits: Limits, model: Mapping[str, Any]) -> None:
        self._bundle, self._limits, self._model = bundle, limits, dict(model)
        self._pool = ThreadPoolExecutor(1, "headway-explain")
        self._inside = 0

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)

    async def told(self) -> dict[str, Any] | None:
        """How answers are explained, None where they are not: method, tap, and whether classes are told apart."""
        if "_explainer" not in self.__dict__:  # once it is there, nobody waits behind explanations for it
            await asyncio.get_running_loop().run_in_executor(self._pool, lambda: self._explainer)
        explainer = self._explainer
        if explainer is None:
            return None
        return {"method": explainer.method, "tap": explainer.tap or None, "by_class": _by_class(explainer)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Refusal and ClientLeft, which the gate answers."""
        facts: Facts = scope[FACTS]
        deadline = time.monotonic() + self._limits.deadline_s
        if self._inside == WAITING:
            raise Refusal("busy")
        self._inside += 1
        try:
            asked = await read_asked(scope, receive, self._pool, 1, EXPLAINING)
            facts.images = 1
            done = asyncio.get_running_loop().run_in_executor(self._pool, self._explain, asked)
            try:
                explanation = await first_of(done, receive, deadline)
            finally:
                done.cancel()  # what has not begun is then not computed
        finally:
            self._inside -= 1
        told = {"model": self._model, "explanation": explanation, "request": facts.id}
        await answer(send, 200, json.dumps(told).encode())

    @cached_property
    def _explainer(self) -> Explainer | None:
        """Asked for in the one thread alone."""
        try:
            explainer = open_explainer(self._bundle, threads=1)  # the other cores go on predicting
        except HeadwayError:
            return None
        return explainer if is_quick(explainer) else None

    def _explain(self, asked: Asked) -> dict[str, Any]:
        explainer, bundle = self._explainer, self._bundle
        if explainer is None:
            raise Refusal("not_explained")
        if asked.label is not None and not (_by_class(explainer) and asked.label in bundle.classes):
            raise Refusal("no_class")
        most = self._limits.max_pixels or bundle.max_pixels
        try:
            decoded = decode(asked.images[0], "image", shortest=bundle.preprocess.draft, max_pixels=most)
        except BadImage as error:
            raise Refusal(code_of(error)) from None
        pixels = prepare(decoded.image, bundle.preprocess)  # (S, S, 3)
        label = None if asked.label is None else bundle.classes.index(asked.label)
        [found] = explainer.explain(pixels[None], [label])
        shares = probabilities(found.logits[None], bundle.temperature)[0]
        _, over = enlarged(pixels, found.heat(len(pixels)))
        return {
            "label": bundle.classes[int(shares.argmax())],
            "class": bundle.classes[found.label] if _by_class(explainer) else None,
            "probability": float(shares[found.label]) if _by_class(explainer) else float(shares.max()),
            "method": explainer.method,
            "tap": explainer.tap or None,
            "grid": found.values.tolist(),
            "overlay": base64.b64encode(encoded(over, "PNG")).decode(),
            "digest": content_digest(asked.images[0]),
        }


def _by_class(explainer: Explainer) -> bool:
    return explainer.method != "roll-out"

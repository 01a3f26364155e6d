"""One HTML file that classifies images without a server: model, engine and preprocessing lie in it, nothing leaves it.

The page is the server's (serving/static); what answers it lies in static/ here. There is no browser at hand when it is
written, so the gate is in the page: it holds the golden images and refuses to answer where their numbers are others.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.deployment import unknown
from headway.deployment.bundle import Bundle
from headway.deployment.manifest import MODEL, PROBE, PROBE_FILES
from headway.deployment.sets import kept_ranks
from headway.exports import LOGIT_TOLERANCE, PROBABILITY_TOLERANCE
from headway.formats.format import Format, Request
from headway.formats.ort_web import VERSION, OrtWeb, find_ort_web
from headway.serving.facts import TYPES, model_facts, usual_levels
from headway.serving.limits import Limits

PAGE = "index.html"
MOST_BYTES = 200_000_000  # of a file
MOST_PIXELS = 60_000_000  # of an image: as RGBA 240 MB, in two copies
_ARRAYS = ("centre", "scale", "axes", "widths", "whiten", "means")
# The browser itself then keeps the page from sending anything anywhere; `data:` and `blob:` are its own bytes.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob: data:; worker-src blob:; "
    "connect-src data:; style-src 'unsafe-inline'; img-src blob: data:; media-src blob:; "
    "form-action 'none'; base-uri 'none'"
)
_NO_SCRIPT = "<noscript><p>The page computes in JavaScript, which is switched off here.</p></noscript>"


def page(bundle: Bundle, engine: OrtWeb) -> str:
    """The whole page as HTML."""
    held = {"model": _page_facts(bundle), "worker": _worker_facts(bundle)}
    parts = [
        _holding("bundle", _json(held), "application/json"),
        f"<!-- ONNX Runtime Web {VERSION}, Copyright (c) Microsoft Corporation, MIT License -->",
        _holding("ort", _packed(engine.script)),
        _holding("wasm", _packed(engine.wasm)),
        _holding("model", _packed((bundle.path / MODEL).read_bytes())),
        _holding("pillow", _static("pillow.js")),
        _holding("worker", _static("worker.js")),
        f"<script>\n{_static('local.js')}</script>",
        f"<script>\n{_page_script()}</script>",
    ]
    html = _page_part("index.html")
    lead = '<p id="about" class="lead"></p>'
    start, end = html.index("<noscript>"), html.index("</noscript>") + len("</noscript>")
    html = html[:start] + _NO_SCRIPT + html[end:]
    for old, new in (
        (
            '<meta name="referrer"',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<meta name="referrer"',
        ),
        ('<link rel="stylesheet" href="page.css">', f"<style>\n{_page_part('page.css')}</style>"),
        ('<script src="page.js" type="module"></script>\n', ""),
        (' action="predict" method="post" enctype="multipart/form-data"', ""),
        (lead, f'{lead}\n<p class="lead">It runs in this page: your images stay on this device.</p>'),
        ("</body>", "\n".join(parts) + "\n</body>"),
    ):
        before, found, after = html.partition(old)
        assert found, old
        html = before + new + after
    return html


def _page_facts(bundle: Bundle) -> dict[str, Any]:
    """What a server tells at /model, with the limits of a page."""
    limits = Limits(max_body=MOST_BYTES, max_pixels=min(MOST_PIXELS, bundle.max_pixels))
    facts = model_facts(bundle, limits)
    facts["limits"]["types"] = [kind for kind in TYPES if kind != "TIFF"]  # which browsers do not read
    return facts


def _worker_facts(bundle: Bundle) -> dict[str, Any]:
    """What computing takes, in the words of static/worker.js."""
    levels, sets = usual_levels(bundle.confidence), bundle.confidence.sets
    images, logits = (np.load(bundle.path / PROBE / name, allow_pickle=False) for name in PROBE_FILES[:2])
    asked = levels.coverage is not None and sets is not None
    return {
        "classes": list(bundle.classes),
        "temperature": bundle.temperature,
        "preprocess": bundle.preprocess.to_json(),
        "draft": bundle.preprocess.draft,
        "max_pixels": min(MOST_PIXELS, bundle.max_pixels),
        "threshold": sets.threshold(levels.coverage) if asked and sets and levels.coverage else None,
        "unknown": _unknown_facts(bundle, levels.unknown),
        "golden": [[_base64(image.tobytes()), row.tolist()] for image, row in zip(images, logits, strict=True)],
        "tolerances": {"probability": PROBABILITY_TOLERANCE, "logit": LOGIT_TOLERANCE},
    }


def _unknown_facts(bundle: Bundle, level: float | None) -> dict[str, Any] | None:
    known = bundle.confidence.unknown
    if known is None or level is None:
        return None
    return {
        "n": known.n,
        "level": level,
        "spread": known.spread.tolist(),
        "scores": known.scores.tolist(),
        "ranks": kept_ranks(known.n).tolist(),
        "weights": unknown.WEIGHTS,
        "tiny": unknown.TINY,
        "arrays": {name: _floats(getattr(known, name)) for name in _ARRAYS},
    }


def _floats(values: NDArray[np.float32]) -> str:
    return _base64(np.ascontiguousarray(values, "<f4").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _packed(content: bytes) -> str:
    return _base64(gzip.compress(content, 6, mtime=0))


def _json(value: Any) -> str:
    """JSON that no class name can end the element of."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _holding(name: str, text: str, kind: str = "text/plain") -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>'


def _static(name: str) -> str:
    return (resources("headway.formats") / "static" / name).read_text("utf-8")


def _page_part(name: str) -> str:
    return (resources("headway.serving") / "static" / name).read_text("utf-8")


def _page_script() -> str:
    """The page's modules as one script: a file may not import others."""
    whole = "".join(_page_part(name) for name in ("words.js", "why.js", "page.js"))
    plain = re.sub(r"(?m)^import .*\n|^export ", "", whole)
    return f'"use strict";\n(() => {{\n{plain}}})();\n'


def _write(request: Request, folder: Path) -> None:
    html = page(request.bundle, find_ort_web(request.ort_web))
    files.write_text(folder / PAGE, html)


def _use(request: Request) -> str:
    return (
        f"Open `{PAGE}` in a browser, from the disk or from any web server; it needs nothing else and sends nothing. "
        "Drop, paste or pick images. One thread computes (WebAssembly). PNGs are answered as the bundle answers them; "
        "large JPEGs headway decodes at a reduced scale, which the page can only come near."
    )


FORMAT = Format(
    "one page for the browser",
    (),
    _write,
    None,
    _use,
    "the page holds itself against the bundle's golden images whenever it is opened",
)

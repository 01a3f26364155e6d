"""onnxruntime-web, the engine of an exported page: one pinned package of npm, fetched once, proved by its sha512."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from headway import files
from headway.errors import Refused
from headway.machine import cache_folder

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
# As npm tells it: npm view onnxruntime-web@1.30.0 dist.integrity
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_BYTES = 33_106_585
_SCRIPT, _WASM = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
_SECONDS = 60


@dataclass(frozen=True)
class OrtWeb:
    """script: a JavaScript module;  wasm: what it runs."""

    script: bytes
    wasm: bytes


def find_ort_web(given: Path | None) -> OrtWeb:
    """The package at `given`, or the one that is kept in the cache folder, or fetched into it now (33 MB).

    Raises Refused where it is not the pinned one, cannot be read, or there is no network to fetch it through.
    """
    if given is not None:
        return _opened(_proved(_read(given), str(given)))
    kept = cache_folder() / "onnxruntime-web" / f"{VERSION}.tgz"
    if kept.is_file():
        content = _read(kept)
        if is_pinned(content):
            return _opened(content)
    content = _proved(_fetched(URL), URL)
    kept.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(kept, content)
    return _opened(content)


def is_pinned(content: bytes) -> bool:
    """Whether these are the bytes of the package that headway knows."""
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == INTEGRITY


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"--ort-web {path} cannot be read: {error.strerror or 'input/output error'}.") from None


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content: bytes = answer.read(_BYTES + 1)
    except (urllib.error.URLError, OSError) as error:
        why = getattr(error, "reason", None) or error
        raise Refused(
            f"the page needs onnxruntime-web {VERSION}, and it could not be fetched ({str(why)[:100]}). Fetch {url} "
            "where there is a network, then: --ort-web FILE.tgz"
        ) from None
    return content


def _proved(content: bytes, origin: str) -> bytes:
    if is_pinned(content):
        return content
    raise Refused(
        f"{origin} is not onnxruntime-web {VERSION} as headway knows it (its sha512 is another). Expected "
        f"the file at {URL}"
    )


def _opened(content: bytes) -> OrtWeb:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        found = [archive.extractfile(name) for name in (_SCRIPT, _WASM)]
        script, wasm = (part.read() for part in found if part is not None)
    return OrtWeb(script, wasm)

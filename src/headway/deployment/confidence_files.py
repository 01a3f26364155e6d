"""The folder confidence/ of a bundle: plain arrays with their digests in the manifest, every one checked when read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.deployment import unknown as strange
from headway.deployment.confidence import Confidence
from headway.deployment.manifest import MANIFEST, PROBE
from headway.deployment.sets import Sets, kept_ranks
from headway.deployment.unknown import Unknown
from headway.errors import Refused

FOLDER, SETS = "confidence", "sets.npy"
SCORE = "lac"  # what the scores of sets are; of a bundle with another one this headway makes no sets
GOLDEN_TOLERANCE = 1e-3  # of golden images' strangeness, as a share of the largest value
_LARGEST = 64 << 20  # bytes of one array


def write_confidence(folder: Path, confidence: Confidence) -> dict[str, Any]:
    """Write confidence/ into the bundle `folder`, whose probe/ is there; returns the manifest's `conformal`, `unknown`.

    How strange the golden images are is kept too, to be found again when the bundle is loaded.
    """
    carried: dict[str, Any] = {"conformal": None, "unknown": None}
    if confidence.sets is None and confidence.unknown is None:
        return carried
    (folder / FOLDER).mkdir()
    if confidence.sets is not None:
        sets = confidence.sets
        digests = _save(folder, {SETS: sets.scores})
        carried["conformal"] = {"score": SCORE, "n": sets.n, "files": digests}
    if confidence.unknown is not None:
        unknown = confidence.unknown
        digests = _save(folder, {f"{name}.npy": value for name, value in unknown.arrays().items()})
        golden = _golden(folder, unknown).tolist()
        carried["unknown"] = {"score": strange.SCORE, "n": unknown.n, "files": digests, "golden": golden}
    return carried


def _golden(folder: Path, unknown: Unknown) -> NDArray[np.float64]:
    """(K,) how strange the golden images are, whose files were checked before.

    One by one, as `predict` does: several rows would wake up the threads of BLAS, 20 ms for nothing.
    """
    features, logits = (np.load(folder / PROBE / name, allow_pickle=False) for name in ("features.npy", "logits.npy"))
    rows = zip(features[:, None], logits[:, None], strict=True)
    return np.concatenate([unknown.score(*row) for row in rows])


def _save(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    for name, value in arrays.items():
        np.save(folder / FOLDER / name, np.ascontiguousarray(value), allow_pickle=False)
    return {name: files.digest_file(folder / FOLDER / name) for name in arrays}


def read_confidence(
    folder: Path,
    conformal: Mapping[str, Any] | None,
    unknown: Mapping[str, Any] | None,
    outputs: Mapping[str, int],
) -> Confidence:
    """What the bundle `folder` carries; its manifest says `conformal`, `unknown` and the widths `outputs`.

    What another headway wrote, with scores that this one does not know, counts as not carried. Raises Refused where a
    file is missing or damaged, or does not hold what it should.
    """
    sets, found = None, None
    if conformal is not None and conformal.get("score") == SCORE:
        sets = _sets(folder, conformal)
    if unknown is not None and unknown.get("score") == strange.SCORE:
        found = _unknown(folder, unknown, outputs["features"])
    return Confidence(sets, found)


def _sets(folder: Path, said: Mapping[str, Any]) -> Sets:
    n = _count(folder, "conformal", said)
    scores = _array(folder, "conformal", said, SETS)
    good = scores.dtype == np.float64 and scores.shape == kept_ranks(n).shape and _rising(scores)
    if not (good and scores[0] >= 0 and scores[-1] <= 1):
        raise _unfit(folder, SETS)
    return Sets(n, scores)


def _unknown(folder: Path, said: Mapping[str, Any], width: int) -> Unknown:
    n = _count(folder, "unknown", said)
    arrays = {name: _array(folder, "unknown", said, f"{name}.npy") for name in strange.ARRAYS}
    unknown = strange.from_arrays(n, arrays, width)
    if isinstance(unknown, str):
        raise _unfit(folder, f"{unknown}.npy")
    found = _golden(folder, unknown)
    golden = said.get("golden")
    if not (isinstance(golden, list) and len(golden) == len(found) and all(isinstance(v, float) for v in golden)):
        raise Refused(f"{folder / MANIFEST}: 'unknown' must say how strange the golden images are.")
    if not np.abs(found - golden).max() <= GOLDEN_TOLERANCE * max(1.0, np.abs(golden).max()):
        raise Refused(
            f"{folder} computes other numbers here than where it was made: how strange its golden images are differs. "
            "Make the bundle again on this machine."
        )
    return unknown


def _rising(values: NDArray[Any]) -> bool:
    return values.ndim == 1 and len(values) > 0 and bool(np.isfinite(values).all() and (np.diff(values) >= 0).all())


def _count(folder: Path, key: str, said: Mapping[str, Any]) -> int:
    n, digests = said.get("n"), said.get("files")
    if not isinstance(n, int) or isinstance(n, bool) or not 0 < n < 2**40 or not isinstance(digests, dict):
        raise Refused(f"{folder / MANIFEST}: {key!r} must say n and the sha256 of its files.")
    return n


def _array(folder: Path, key: str, said: Mapping[str, Any], name: str) -> NDArray[Any]:
    path = folder / FOLDER / name
    digest = said["files"].get(name)
    try:
        large = path.stat().st_size > _LARGEST
        content = b"" if large else path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{folder} is incomplete: no {FOLDER}/{name}. Copy the bundle again, whole.") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or 'input/output error'}.") from None
    if large or files.digest_bytes(content) != digest:
        raise Refused(f"{path} is damaged: its sha256 is not the one in {MANIFEST}. Copy the bundle again.")
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, OverflowError):
        raise Refused(f"{path} is not a plain numpy array.") from None
    return array


def _unfit(folder: Path, name: str) -> Refused:
    return Refused(
        f"{folder / FOLDER / name} does not hold what {MANIFEST} says. Copy the bundle again, or make it again."
    )

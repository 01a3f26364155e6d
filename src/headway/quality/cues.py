"""What a file says beside its picture: format, encoder, size, border. Read in threads, one file at a time each.

The headers of JPEG and PNG are walked here: what tells one encoder from another (quantisation tables, subsampling,
order of scans) is no concern of decoding. Pixels are looked at only where asked for, of a JPEG at reduced scale.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headway.data import headers
from headway.data.dataset import Dataset
from headway.data.images import BadImage, decode
from headway.data.walk import extension
from headway.events import Progress

_CHUNK, _AHEAD = 32, 4  # files of one task; tasks that wait beside those that run
_LOOKED_AT = 64  # pixels of the shorter side down to which a JPEG may be decoded
_LIKE = 12  # levels by which the values of a line of border may differ: JPEG's noise around an edge
# The luminance table of the JPEG standard (annex K) at quality 50, summed: libjpeg scales it by quality.
_STANDARD_SUM = 3689


@dataclass(frozen=True)
class Cue:
    """One file.

    n_bytes   of the file; 0 where the dataset holds bare pixels
    encoder   how it was written, equal for files of one encoder at one setting
    quality   of a JPEG with the standard's tables about what libjpeg calls quality, 1 to 100; 0 = not known
    border    (top and bottom, left and right): share of the height and width that is a border of one colour
    shade     grey value of the border, 0..255
    spread    standard deviation of the grey values, 0..127; NaN where pixels were not looked at
    """

    form: str
    suffix: str
    colours: str
    encoder: str
    quality: int
    n_bytes: int
    border: tuple[float, float] = (0.0, 0.0)
    shade: float = 0.0
    spread: float = float("nan")


@dataclass(frozen=True)
class Cues:
    """Of the samples `indices` (n,), one each. looked: whether pixels were looked at."""

    indices: NDArray[np.intp]
    of: tuple[Cue, ...]
    looked: bool


def read_cues(
    dataset: Dataset, indices: NDArray[np.intp], *, threads: int, look: bool
) -> Generator[Progress, None, Cues]:
    """Read the files of `indices` (accepted ones). A file that cannot be read any more is left out.

    look  whether to decode them too, for border and near-constant pictures
    """
    chunks = iter([indices[start : start + _CHUNK].tolist() for start in range(0, len(indices), _CHUNK)])
    found: list[tuple[int, Cue]] = []
    done = 0
    with ThreadPoolExecutor(threads, "headway-cues") as pool:
        waiting: deque[Future[list[tuple[int, Cue]]]] = deque()

        def submit() -> None:
            chunk = next(chunks, None)
            if chunk is not None:
                waiting.append(pool.submit(_read_some, dataset, chunk, look))

        for _ in range(threads + _AHEAD):
            submit()
        try:
            while waiting:
                found += waiting.popleft().result()
                submit()
                done = min(done + _CHUNK, len(indices))
                yield Progress("files", done, len(indices))
        finally:
            for future in waiting:
                future.cancel()
    return Cues(np.array([index for index, _ in found], np.intp), tuple(cue for _, cue in found), look)


def _read_some(dataset: Dataset, chunk: list[int], look: bool) -> list[tuple[int, Cue]]:
    found = []
    for index in chunk:
        name = dataset.names[index]
        try:
            found.append((index, read_cue(dataset.source.read(index), name, look=look)))
        except (BadImage, OSError):
            continue  # it was readable in the pass; there is nothing to say of it now
    return found


def read_cue(content: bytes | NDArray[np.uint8], name: str, *, look: bool) -> Cue:
    """What one file says. Raises BadImage where it is to be looked at and cannot be decoded."""
    if isinstance(content, np.ndarray):
        cue = Cue("pixels", "", "colour", "pixels", 0, 0)
    else:
        form = headers.sniff(content[:16]) or "unknown"
        colours, encoder, quality = _written(form, content)
        cue = Cue(form, extension(name), colours, encoder, quality, len(content))
    if not look:
        return cue
    grey = np.asarray(decode(content, name, shortest=_LOOKED_AT).image.convert("L"), np.float32)
    border, shade = border_of(grey)
    return replace(cue, border=border, shade=shade, spread=float(grey.std()))


def border_of(grey: NDArray[np.float32]) -> tuple[tuple[float, float], float]:
    """The border of one colour around a picture (H, W): shares of height and width, and its grey value."""
    height, width = grey.shape
    first = grey[0, 0]
    rows = (np.abs(grey - first) <= _LIKE).all(axis=1)
    columns = (np.abs(grey - first) <= _LIKE).all(axis=0)
    if rows.all():
        return (0.0, 0.0), float(first)  # one colour throughout: no border of anything
    if not (rows[0] or rows[-1] or columns[0] or columns[-1]):
        # The corner may belong to the picture where only the other side has a border.
        first = grey[-1, -1]
        rows = (np.abs(grey - first) <= _LIKE).all(axis=1)
        columns = (np.abs(grey - first) <= _LIKE).all(axis=0)
    down = _run(rows) + _run(rows[::-1])
    across = _run(columns) + _run(columns[::-1])
    return (down / height, across / width), float(first)


def _run(lines: NDArray[np.bool_]) -> int:
    """How many lines from the beginning on are border."""
    other = np.flatnonzero(~lines)
    return int(other[0]) if len(other) else len(lines)


def _written(form: str, content: bytes) -> tuple[str, str, int]:
    """Colours, encoder and quality of a file of the format `form`."""
    if form == "JPEG":
        return _jpeg(content)
    if form == "PNG" and len(content) > 29:
        bits, kind, _, _, interlaced = struct.unpack(">BBBBB", content[24:29])
        colours = {0: "grey", 2: "colour", 3: "palette", 4: "grey and alpha", 6: "colour and alpha"}.get(kind, "other")
        return colours, f"PNG, {bits} bits{', interlaced' if interlaced else ''}", 0
    return "colour", form, 0


def _jpeg(content: bytes) -> tuple[str, str, int]:
    """The segments up to the first scan: tables, frame, how many components and how they are sampled."""
    tables, frame, colours, quality = hashlib.sha256(), "", "colour", 0
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            break
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        length = struct.unpack(">H", content[place + 2 : place + 4])[0]
        body = content[place + 4 : place + 2 + length]
        if marker == 0xDB:
            tables.update(body)
            quality = quality or _quality(body)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            n = body[5]
            colours = {1: "grey", 3: "colour", 4: "four inks"}.get(n, "other")
            samplings = "-".join(f"{body[6 + 3 * i + 1]:02x}" for i in range(n) if len(body) > 6 + 3 * i + 1)
            frame = f"{'progressive' if marker in (0xC2, 0xC6, 0xCA, 0xCE) else 'baseline'} {samplings}"
        elif marker == 0xDA:
            break
        place += 2 + length
    return colours, f"JPEG {frame} {tables.hexdigest()[:8]}", quality


def _quality(body: bytes) -> int:
    """What libjpeg would call the quality of the first table in a segment, from its sum; 0 where there is none.

    libjpeg scales the standard's table by 50/q below quality 50 and by 2 - q/50 above; other encoders scale theirs
    otherwise, so it is a name for the strength of compression, no measure.
    """
    wide = bool(body[:1]) and body[0] >> 4
    values = body[1 : 1 + (128 if wide else 64)]
    if len(values) < (128 if wide else 64):
        return 0
    total = sum(struct.unpack(">64H", values)) if wide else sum(values)
    scale = total / _STANDARD_SUM
    return int(min(100, max(1, round(50 / scale if scale > 1 else 100 - 50 * scale))))

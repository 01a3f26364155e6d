"""Look after the cache: what it holds, whether it is whole, what nobody used for a while."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from headway import files
from headway.backbones.trunk import check_trunk
from headway.data import arrow
from headway.events import Event, Line, Progress
from headway.features import derived
from headway.features.store import remove_damaged

_ROOMS = ("features", "trunks", "given", derived.ROOM)


def info(cache: Path) -> Generator[Event, None, dict[str, Any]]:
    """Tell where the cache lies, and rows, bytes and backbone of each part."""
    parts = [_described(folder) for folder in _parts(cache)]
    total = sum(part["bytes"] for part in parts)
    yield Line("cache", f"{cache}  {_megabytes(total)}")
    for part in parts:
        rows = f"{part['rows']:,} images, " if part["kind"] == "features" else ""
        text = f"{part['name']}  {rows}{_megabytes(part['bytes'])}, used {part['days']:.0f} days ago"
        yield Line(part["kind"], text)
    return {"path": str(cache), "bytes": total, "parts": parts}


def verify(cache: Path) -> Generator[Event, None, dict[str, Any]]:
    """Read every shard, prepared network and derived result in full; what fails a checksum is removed and named."""
    checked, damaged = 0, []
    networks = [folder for folder in _parts(cache) if folder.parent.name == "trunks"]
    kept = sorted(cache.glob(f"{derived.ROOM}/*/*.npz"))
    items = [*sorted(cache.glob("features/*/*.parquet")), *networks, *kept]
    for number, item in enumerate(items, 1):
        checked += 1
        if not _check(item):
            damaged.append(str(item))
        yield Progress("verify", number, len(items), len(damaged))
    text = "all whole" if not damaged else f"{len(damaged)} damaged, removed: {', '.join(damaged[:3])}"
    yield Line("cache", f"{checked} files checked, {text}")
    return {"path": str(cache), "checked": checked, "damaged": damaged}


def prune(cache: Path, *, days: float, dry_run: bool) -> Generator[Event, None, dict[str, Any]]:
    """Remove the parts that no run used for `days` days, and what killed runs left half written."""
    old = [folder for folder in _parts(cache) if _days(folder) >= days]
    left = [item for item in cache.glob("*/**/.*.tmp") if _age(item) >= min(days, 1)]
    freed = sum(_size(item) for item in (*old, *left))
    for item in () if dry_run else (*old, *left):
        shutil.rmtree(item, ignore_errors=True) if item.is_dir() else item.unlink(missing_ok=True)
    verb = "would be removed" if dry_run else "removed"
    yield Line("cache", f"{len(old)} {'part' if len(old) == 1 else 'parts'} {verb}, {_megabytes(freed)}")
    return {"path": str(cache), "removed": [str(item) for item in old], "bytes": freed, "dry_run": dry_run}


def _parts(cache: Path) -> Iterator[Path]:
    for room in _ROOMS:
        yield from sorted(folder for folder in cache.glob(f"{room}/*") if not folder.name.startswith("."))


def _described(folder: Path) -> dict[str, Any]:
    kind = folder.parent.name
    name, rows = folder.name[:8], 0
    try:
        if kind == "features":
            spec = files.read_json(folder / "spec.json")
            name = f"{spec['backbone']} {spec['engine']['name']} {spec['preprocess']['size']} px"
            name += f" view {spec['view']}" if spec["view"] else ""
            rows = sum(_rows(shard) for shard in folder.glob("*.parquet"))
        elif kind == "given":
            name = f"{next(child.name for child in folder.iterdir())} of datasets"
        elif kind == derived.ROOM:
            name = next(child.stem for child in folder.glob("*.npz"))
        else:
            name = files.read_json(folder / "facts.json")["name"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        name = f"{folder.name[:8]} (not readable: headway cache verify)"
    return {
        "kind": kind,
        "name": name,
        "rows": rows,
        "bytes": _size(folder),
        "days": round(_days(folder), 2),
        "path": str(folder),
    }


def _rows(shard: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(shard).num_rows)


def _check(item: Path) -> bool:
    if item.parent.name == "trunks":
        return _check_network(item)
    if item.suffix == ".parquet":
        return _check_shard(item)
    return not item.exists() or derived.read_whole(item) is not None


def _check_shard(shard: Path) -> bool:
    import pyarrow as pa

    try:
        arrow.read_columns(shard)
    except FileNotFoundError:
        return True  # removed by another process since it was listed
    except (pa.ArrowException, OSError, ValueError) as error:
        remove_damaged(shard, error)
        return False
    return True


def _check_network(folder: Path) -> bool:
    if check_trunk(folder) is not None:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _size(item: Path) -> int:
    names = [Path(folder, name) for folder, _, inside in os.walk(item) for name in inside]
    return sum(_bytes(name) for name in names or [item])


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0  # a temporary file of a run at work


def _days(folder: Path) -> float:
    """Days since a run last used this part: it touches the note beside the data."""
    notes = [note for name in ("spec.json", "facts.json") if (note := folder / name).exists()]
    return _age(notes[0] if notes else folder)


def _age(item: Path) -> float:
    return max(0.0, (time.time() - item.stat().st_mtime) / 86400)


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"

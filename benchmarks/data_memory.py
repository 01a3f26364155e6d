"""Memory and time of finding out what data holds, at 1, 4 and 16 times as many samples: a folder, a list, Parquet, tar.

python -m benchmarks.data_memory [--samples 20000]; each measurement is a process of its own, the images have 69 bytes.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

KINDS = ("folder", "list", "parquet", "tar")
_PER_ARCHIVE = 10_000


def image() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    return stream.getvalue()


def make_folder(root: Path, n: int) -> Path:
    content = image()
    for label in range(10):
        (root / "folder" / f"class_{label}").mkdir(parents=True)
    for i in range(n):
        (root / "folder" / f"class_{i % 10}" / f"image_{i:07d}.png").write_bytes(content)
    return root / "folder"


def make_list(root: Path, n: int) -> Path:
    rows = (f"folder/class_{i % 10}/image_{i:07d}.png,class_{i % 10},train\n" for i in range(n))
    (root / "list.csv").write_text("path,label,split\n" + "".join(rows))
    return root / "list.csv"  # of the images that make_folder made


def make_parquet(root: Path, n: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pa.array([{"bytes": image()}] * n, pa.struct([("bytes", pa.binary())]))
    table = pa.table({"image": images, "label": [f"class_{i % 10}" for i in range(n)]})
    pq.write_table(table, root / "train.parquet", row_group_size=1000)
    return root / "train.parquet"


def make_tar(root: Path, n: int) -> Path:
    content = image()
    (root / "tar").mkdir()
    for start in range(0, n, _PER_ARCHIVE):
        with tarfile.open(root / "tar" / f"shard-{start // _PER_ARCHIVE:06d}.tar", "w") as archive:
            for i in range(start, min(n, start + _PER_ARCHIVE)):
                for name, data in ((f"image_{i:07d}.png", content), (f"image_{i:07d}.cls", f"class_{i % 10}".encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return root / "tar"


MAKERS: dict[str, Callable[[Path, int], Path]] = {
    "folder": make_folder,
    "list": make_list,
    "parquet": make_parquet,
    "tar": make_tar,
}


def resident(key: str) -> int:
    """Bytes of memory of this process: VmRSS now, VmHWM at most so far (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) << 10


def measure(path: str) -> None:
    """Load the data at `path` and print what it took. Imports are not counted."""
    import headway.data.manifests
    import headway.data.parquet  # noqa: F401
    from headway.data.sources import load_dataset

    before, start = resident("VmRSS"), time.perf_counter()
    n = len(load_dataset(path))
    seconds, most = time.perf_counter() - start, resident("VmHWM") - before
    print(f"{n:9,} samples   peak +{most / (1 << 20):6.1f} MB, {most / n:5.0f} bytes each   {seconds:5.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        measure(words.measure)
        return
    for times in (1, 4, 16):
        with tempfile.TemporaryDirectory() as folder:
            for kind in KINDS:
                path = MAKERS[kind](Path(folder), words.samples * times)
                print(f"{kind:8}", end=" ", flush=True)
                subprocess.run([sys.executable, "-m", "benchmarks.data_memory", "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()

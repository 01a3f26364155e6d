"""Data behind fsspec: in memory, as files, and from a web server that gives parts of files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.backbones.preprocess import Preprocess
from headway.data.dataset import TEST, TRAIN, Dataset, FarSource
from headway.data.images import BadImage
from headway.data.sources import load_dataset
from headway.data.storage import Unreachable
from headway.errors import Refused
from headway.features.reading import Readings, ReadTask
from tests import make
from tests.conftest import require
from tests.range_server import Behaviour, serving

fsspec = pytest.importorskip("fsspec")


SMALL = Preprocess(16, 16, "squash", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.data.storage.FIRST_WAIT", 0.0)


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's files in memory, none of them there yet."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def web() -> None:
    require("http", find_spec("aiohttp") is not None, "no aiohttp (pip install 'fsspec[http]')")


def shards(folder: Path, n: int = 3, each: int = 20) -> Path:
    """`n` archives for training and one for the test, of small images of two classes."""
    for number in range(n):
        name = f"train-{number:03d}.tar" if number < n - 1 else "test-000.tar"
        members = []
        for i in range(each):
            members.append((f"{i:04d}.png", make.png(i % 2, 1000 * number + i, (24, 20))))
            members.append((f"{i:04d}.cls", str(i % 2).encode()))
        make.tar(folder / name, members)
    make.write(folder / "classes.txt", b"ring\nbox\n")
    return folder


def upload(system: Any, folder: Path, place: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def contents(dataset: Dataset) -> list[tuple[str, str, int, bytes]]:
    rows = []
    for i, name in enumerate(dataset.names):
        content = dataset.source.read(i)
        assert isinstance(content, bytes)
        rows.append((name, dataset.classes[dataset.labels[i]], int(dataset.given[i]), content))
    return rows


def refusal(url: str) -> str:
    with pytest.raises(Refused) as raised:
        load_dataset(url)
    return str(raised.value)


@pytest.mark.parametrize(
    "url", ["memory://bucket/shards", "memory://bucket/shards/", "memory://bucket/shards/{train,test}-*.tar"]
)
def test_shards_in_memory__as_on_the_disk(url: str, tmp_path: Path, memory: Any) -> None:
    upload(memory, shards(tmp_path / "shards"), "/bucket/shards")
    dataset = load_dataset(url)
    assert isinstance(dataset.source, FarSource)
    assert (dataset.name, dataset.classes) == ("shards", ("box", "ring"))
    assert sorted(contents(dataset)) == sorted(contents(load_dataset(tmp_path / "shards")))


def test_shards__file_addresses_and_split_folders(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("test", 50)):
        members = [(f"{name}/{i}.png", make.png(0, seed + i, (8, 8))) for i in range(2) for name in ("a", "b")]
        make.tar(tmp_path / "s" / split / "0.tar", members)
    dataset = load_dataset(f"file://{tmp_path}/s")
    assert sorted(set(dataset.given.tolist())) == [TRAIN, TEST]
    assert sorted(contents(dataset)) == sorted(contents(load_dataset(tmp_path / "s")))


def test_fetch__gives_what_read_gives_in_fewer_requests(tmp_path: Path, web: None) -> None:
    asked = Behaviour()
    with serving(shards(tmp_path, 3, 40), asked) as url:
        dataset = load_dataset(f"{url}/{{train-000,train-001,test-000}}.tar")
        assert isinstance(dataset.source, FarSource)
        asked.asked.clear()
        fetched = list(dataset.source.fetch(range(10, 50)))
        assert len(asked.asked) == 2  # the rest of one archive, the beginning of the next
        assert fetched == [dataset.source.read(i) for i in range(10, 50)]
        assert len(asked.asked) == 42
        rng = np.random.default_rng(0).permutation(len(dataset)).tolist()
        assert list(dataset.source.fetch(rng)) == [dataset.source.read(i) for i in rng]


def test_readings__from_a_server_in_order(tmp_path: Path, web: None) -> None:
    folder = shards(tmp_path, 3, 70)

    def read(dataset: Dataset) -> list[tuple[bytes | None, bytes]]:
        indices = np.arange(len(dataset), dtype=np.intp)
        with Readings(ReadTask(dataset, SMALL), indices, threads=2, ahead=8) as readings:
            return [(reading.digest, reading.pixels) for reading in readings]

    asked = Behaviour()
    with serving(folder, asked) as url:
        dataset = load_dataset(f"{url}/")
        asked.asked.clear()
        assert read(dataset) == read(load_dataset(folder))
    assert len(asked.asked) <= 10  # 210 images in 7 chunks of 3 archives


def test_connection__broken_off_is_tried_again(tmp_path: Path, web: None) -> None:
    asked = Behaviour()
    with serving(shards(tmp_path), asked) as url:
        dataset = load_dataset(f"{url}/")
        asked.cut = 3
        assert dataset.source.read(0) == load_dataset(tmp_path).source.read(0)
        asked.cut = 4
        with pytest.raises(Unreachable, match=r"cannot be reached any more \(4 tries: "):
            dataset.source.read(1)


def test_pass__stops_where_the_connection_gives_out(tmp_path: Path, web: None) -> None:
    """Not one image is set aside: nothing is wrong with them."""
    asked = Behaviour()
    with serving(shards(tmp_path), asked) as url:
        dataset = load_dataset(f"{url}/")
        asked.status = 503
        with (
            Readings(ReadTask(dataset, SMALL), np.arange(60), threads=2, ahead=2) as readings,
            pytest.raises(Unreachable) as raised,
        ):
            list(readings)
    assert raised.value.exit_code == 75


def test_server__says_no(tmp_path: Path, web: None) -> None:
    asked = Behaviour()
    with serving(shards(tmp_path), asked) as url:
        dataset = load_dataset(f"{url}/test-000.tar")
        asked.status = 403
        with pytest.raises(BadImage) as raised:
            dataset.source.read(0)
        assert str(raised.value) == "test-000/0000.png: no permission to read its archive"
        assert refusal(f"{url}/test-000.tar") == (
            f"no permission to read {url}/test-000.tar: give this machine credentials that may"
        )
        asked.status = 500
        assert refusal(f"{url}/test-000.tar").startswith(f"{url}/test-000.tar cannot be reached (4 tries: ")
        asked.status, asked.ranges = None, False
        assert refusal(f"{url}/test-000.tar") == (
            f"{url}/test-000.tar cannot be read (its server sends whole files only, no parts (HTTP ranges))"
        )


def test_refused(tmp_path: Path, memory: Any) -> None:
    upload(memory, shards(tmp_path), "/b")
    memory.pipe_file("/b/empty/notes.txt", b"x")
    assert refusal("memory://nobucket/a.tar") == "memory://nobucket/a.tar does not exist: check the address"
    assert refusal("memory://nobucket/x/") == "memory://nobucket/x/ does not exist: check the address"
    assert refusal("memory://b/empty") == (
        "memory://b/empty holds no archives: expected .tar or .parquet files, or a list (.csv)"
    )
    assert refusal("memory://b/none-*.tar") == "memory://b/none-*.tar stands for no file that exists"
    assert refusal("memory://b/train-{000..003}.tar") == (
        "memory://b/train-{000..003}.tar: 2 of its 4 files are not there, first memory://b/train-002.tar. "
        "Put them there, or take them out of the pattern"
    )
    assert refusal("memory://b/photo.jpg") == (
        "memory://b/photo.jpg leads to .jpg: expected .tar or .parquet files, or a list (.csv)"
    )
    memory.pipe_file("/b/cut.tar", (tmp_path / "test-000.tar").read_bytes()[:700])
    assert refusal("memory://b/cut.tar") == "memory://b/cut.tar is cut short, inside 0000.png: fetch it again"


def test_connection__refused_before_work_begins(web: None) -> None:
    with serving(Path()) as url:
        pass  # and gone
    message = refusal(f"{url}/a.tar")
    assert message.startswith(f"{url}/a.tar cannot be reached (4 tries: ")
    assert message.endswith("): check the address and the network")


def test_parquet(tmp_path: Path, memory: Any) -> None:
    for name, start in (("train-0", 0), ("test-0", 100)):
        images = [{"bytes": make.png(0, start + i, (8, 8)), "path": None} for i in range(10)]
        table = pa.table({"image": images, "label": ["a", "b"] * 5})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=3)
    upload(memory, tmp_path, "/p")
    dataset = load_dataset("memory://p/*.parquet")
    assert contents(dataset) == contents(load_dataset(tmp_path))
    assert isinstance(dataset.source, FarSource)
    assert list(dataset.source.fetch(range(20))) == [dataset.source.read(i) for i in range(20)]


def test_list(tmp_path: Path, memory: Any) -> None:
    make.class_folders(tmp_path, {"a": 2, "b": 2}, size=(8, 8))
    text = "path,label,split\na/0000.jpg,a,train\nmemory://l/a/0001.jpg,a,test\nb/0000.jpg,b,train\nb/9.jpg,b,test\n"
    make.write(tmp_path / "list.csv", text.encode())
    upload(memory, tmp_path, "/l")
    dataset = load_dataset("memory://l/list.csv")
    assert (dataset.name, dataset.classes, dataset.given.tolist()) == (
        "list.csv",
        ("a", "b"),
        [TRAIN, TEST, TRAIN, TEST],
    )
    assert [dataset.source.read(i) for i in range(3)] == [
        (tmp_path / name).read_bytes() for name in ("a/0000.jpg", "a/0001.jpg", "b/0000.jpg")
    ]
    assert isinstance(dataset.source, FarSource)
    *_, last = dataset.source.fetch([0, 3])
    assert str(last) == "b/9.jpg: does not exist"
    with Readings(ReadTask(dataset, SMALL), np.arange(4), threads=1, ahead=1) as readings:
        assert [reading.reason for reading in readings] == ["", "", "", "does not exist"]

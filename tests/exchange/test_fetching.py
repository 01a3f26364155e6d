"""Well-known data sets through torchvision itself: from a server on this machine, or from raw files as authors have.

The servers of the authors cannot be reached from here. Where a test has its own server, the address and the checksum in
torchvision's class are set to it; everything else is torchvision's code.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from headway.data.dataset import SUBSETS, UNASSIGNED, Dataset
from headway.data.images import decode
from headway.data.sources import load_dataset
from headway.errors import HeadwayError, Refused, Stopped
from headway.events import Line, Note, drain
from headway.exchange import catalog, fetching
from tests import make
from tests.data.test_cifar import LABELS, PIXELS, WORDS, archive, python_files

RNG = np.random.default_rng(7)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Tests are silent."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The files in `folder` under http://127.0.0.1:PORT/."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def rows(dataset: Dataset) -> list[tuple[str, str]]:
    """Class and subset of each image."""
    words = {UNASSIGNED: "", **dict(enumerate(SUBSETS))}
    return [
        (dataset.classes[label], words[given])
        for label, given in zip(dataset.labels.tolist(), dataset.given.tolist(), strict=True)
    ]


# From a server


def cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    packed = archive(folder / "cifar-10-python.tar.gz", "cifar-10-batches-py", python_files(ten=True))
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(packed))


def test_fetch__cifar10_from_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    with served(tmp_path / "www") as address:
        cifar(tmp_path / "www", monkeypatch, address)
        asked = fetching.check("CIFAR-10", str(tmp_path / "out"), "folders")
        events = list(_all(fetching.fetch(asked)))

    result, found = events[-1], load_dataset(tmp_path / "out")
    assert (result["images"], result["subsets"], result["fetched"]) == (12, {"train": 10, "test": 2}, True)
    assert sorted(rows(found)) == sorted((WORDS[label], "test" if i > 9 else "train") for i, label in enumerate(LABELS))
    pixels = {np.asarray(decode(found.source.read(place), "x").image).tobytes() for place in range(len(found))}
    assert pixels == {image.tobytes() for image in PIXELS}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "www"]
    assert [event.text for event in events if isinstance(event, Note)] == [
        "12 images came, 60,000 were expected: the set has changed"
    ]
    facts = json.loads((tmp_path / "out" / "SOURCE.json").read_text())
    assert (facts["name"], facts["licence"], facts["page"]) == (
        "cifar10", "none stated", "https://www.cs.toronto.edu/~kriz/cifar.html",
    )  # fmt: skip


def test_fetch__a_second_time_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    with served(tmp_path / "www") as address:
        cifar(tmp_path / "www", monkeypatch, address)
        drain(fetching.fetch(fetching.check("cifar10", str(tmp_path / "out"), "parquet")))
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir())

    events = list(_all(fetching.fetch(fetching.check("cifar10", str(tmp_path / "out"), "parquet"))))

    assert events[-1]["fetched"] is False
    assert [event.text for event in events if isinstance(event, Line)][1:] == [
        f"{tmp_path / 'out'}/ has it already: nothing to do"
    ]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()) == before
    for name, kind in (("mnist", "parquet"), ("cifar10", "folders")):
        with pytest.raises(Refused, match="exists, and nothing is overwritten"):
            fetching.check(name, str(tmp_path / "out"), kind)


def test_fetch__pets_from_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets(tmp_path / "raw")
    (tmp_path / "www").mkdir()
    resources = []
    with served(tmp_path / "www") as address:
        for part in ("images", "annotations"):
            with tarfile.open(tmp_path / "www" / f"{part}.tar.gz", "w:gz") as tar:
                tar.add(tmp_path / "raw" / "oxford-iiit-pet" / part, part)
            resources.append((f"{address}{part}.tar.gz", md5(tmp_path / "www" / f"{part}.tar.gz")))
        monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", tuple(resources))
        drain(fetching.fetch(fetching.check("pets", str(tmp_path / "out"), "folders")))

    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert found == [
        "test/Abyssinian/Abyssinian_2.jpg", "test/Great Pyrenees/great_pyrenees_2.jpg",
        "train/Abyssinian/Abyssinian_1.jpg", "train/Great Pyrenees/great_pyrenees_1.jpg",
    ]  # fmt: skip
    assert (tmp_path / "out" / found[2]).read_bytes() == make.jpeg(0, 1)


def test_fetch__goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first archive is there, half unpacked; the second comes from a server, which is gone at first."""
    pets(tmp_path / "raw")
    kept = tmp_path / ".out.fetch" / "oxford-iiit-pet"
    (tmp_path / "www").mkdir()
    for part in ("images", "annotations"):
        with tarfile.open(tmp_path / "www" / f"{part}.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "raw" / "oxford-iiit-pet" / part, part)
    sums = {part: md5(tmp_path / "www" / f"{part}.tar.gz") for part in ("images", "annotations")}
    make.write(kept / "images" / "Abyssinian_1.jpg", make.truncated(make.jpeg(0, 1)))
    (kept / "annotations").mkdir()
    shutil.copy(tmp_path / "www" / "images.tar.gz", kept)

    def ask(address: str) -> Any:
        resources = tuple((f"{address}{part}.tar.gz", sums[part]) for part in sums)
        monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", resources)
        return drain(fetching.fetch(fetching.check("pets", str(tmp_path / "out"), "folders")))

    with pytest.raises(Stopped) as stop:
        ask("http://127.0.0.1:1/")
    assert str(stop.value) == (
        f"pets: the connection gave out (Connection refused). What came is kept in {tmp_path / '.out.fetch'}"
    )
    with served(tmp_path / "www") as address:
        result = ask(address)

    assert (result["images"], result["set_aside"]) == (4, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw", "www"]


def test_fetch__no_way_to_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:1/cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:1/"])

    for name in ("cifar10", "mnist"):
        with pytest.raises(Refused) as refusal:
            drain(fetching.fetch(fetching.check(name, str(tmp_path / "out"), "folders")))
        assert str(refusal.value) == (
            f"{name} cannot be fetched: no way to its server (Connection refused). fetch needs a network; elsewhere, "
            f"get it from {catalog.find(name).page} and bring the folder"
        )
    assert list(tmp_path.iterdir()) == []


def test_fetch__other_bytes_than_the_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    with served(tmp_path / "www") as address:
        cifar(tmp_path / "www", monkeypatch, address)
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
        with pytest.raises(HeadwayError) as failure:
            drain(fetching.fetch(fetching.check("cifar10", str(tmp_path / "out"), "folders")))

    assert str(failure.value) == (
        "cifar10: what came is not what torchvision expects (File not found or corrupted.). "
        f"Take {tmp_path / '.out.fetch'} away, fetch again"
    )
    assert not (tmp_path / "out").exists()


def _all(events: Any) -> Iterator[Any]:
    """The events, and what the generator returns at the end."""
    yield (yield from events)


# Raw files, as the authors give them


def idx(folder: Path, name: str) -> None:
    """MNIST's own format: a magic number, sides, bytes."""
    for word, digits in (("train", [3, 0, 1]), ("t10k", [1, 0])):
        pixels = np.stack([np.full((28, 28), 10 * digit, np.uint8) for digit in digits])
        head = struct.pack(">IIII", 0x803, len(digits), 28, 28)
        make.write(folder / name / "raw" / f"{word}-images-idx3-ubyte", head + pixels.tobytes())
        head = struct.pack(">II", 0x801, len(digits))
        make.write(folder / name / "raw" / f"{word}-labels-idx1-ubyte", head + bytes(digits))


def pets(folder: Path) -> None:
    base = folder / "oxford-iiit-pet"
    lines = {"trainval": [], "test": []}  # type: dict[str, list[str]]
    for label, name in enumerate(("Abyssinian", "great_pyrenees")):
        for number, word in ((1, "trainval"), (2, "test")):
            make.write(base / "images" / f"{name}_{number}.jpg", make.jpeg(label, number))
            lines[word].append(f"{name}_{number} {label + 1} 1 1")
    for word, told in lines.items():
        make.write(base / "annotations" / f"{word}.txt", "\n".join(told).encode())


def food(folder: Path) -> None:
    for number, word in enumerate(("train", "test")):
        listing = {name: [f"{name}/{number}"] for name in ("apple_pie", "waffles")}
        make.write(folder / "food-101" / "meta" / f"{word}.json", json.dumps(listing).encode())
        for label, name in enumerate(listing):
            make.write(folder / "food-101" / "images" / name / f"{number}.jpg", make.jpeg(label, number))


def textures(folder: Path) -> None:
    base = folder / "dtd" / "dtd"
    for number, word in enumerate(("train", "val", "test")):
        names = [f"{name}/{name}_{number}.jpg" for name in ("banded", "woven")]
        make.write(base / "labels" / f"{word}1.txt", "\n".join(names).encode())
        for label, name in enumerate(names):
            make.write(base / "images" / name, make.jpeg(label, number))


def satellite(folder: Path) -> None:
    make.class_folders(folder / "eurosat" / "2750", {"Forest": 2, "River": 1})


def flowers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    base = folder / "flowers-102"
    for number in range(1, 7):
        make.write(base / "jpg" / f"image_{number:05d}.jpg", make.jpeg(number % 2, number))
    savemat(base / "imagelabels.mat", {"labels": [[1, 102, 1, 102, 1, 102]]})
    savemat(base / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]})
    names = {"image": "102flowers.tgz", "label": "imagelabels.mat", "setid": "setid.mat"}
    sums = {key: (name, md5(base / name) if key != "image" else "") for key, name in names.items()}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", sums)


def numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    told = {}
    for word in ("train", "test"):
        name = f"{word}_32x32.mat"
        savemat(folder / name, {"X": RNG.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8), "y": [[10], [3]]})
        told[word] = ["http://127.0.0.1:1/", name, md5(folder / name)]
    monkeypatch.setattr(datasets.SVHN, "split_list", told)


def stl(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = folder / "stl10_binary"
    make.write(base / "class_names.txt", b"airplane\nbird\n")
    make.write(base / "unlabeled_X.bin", b"")
    make.write(base / "fold_indices.txt", b"")
    for word in ("train", "test"):
        make.write(base / f"{word}_X.bin", RNG.integers(0, 256, (2, 3, 96, 96), dtype=np.uint8).tobytes())
        make.write(base / f"{word}_y.bin", bytes([2, 1]))
    lists = {"train_list": ["train_X.bin", "train_y.bin", "unlabeled_X.bin"], "test_list": ["test_X.bin", "test_y.bin"]}
    for key, names in lists.items():
        monkeypatch.setattr(datasets.STL10, key, [[name, md5(base / name)] for name in names])


def aircraft(folder: Path) -> None:
    base = folder / "fgvc-aircraft-2013b" / "data"
    make.write(base / "variants.txt", b"707-320\nF/A-18\n")
    for number, word in enumerate(("train", "val", "test")):
        make.write(base / f"images_variant_{word}.txt", f"{number}1 F/A-18\n{number}0 707-320\n".encode())
        for label in (0, 1):
            make.write(base / "images" / f"{number}{label}.jpg", make.jpeg(label, number))


def scenes(folder: Path) -> None:
    make.write(folder / "SUN397" / "ClassName.txt", b"/a/abbey\n/b/bar/indoor\n")
    for place, label in (("a/abbey/sun_a", 0), ("b/bar/indoor/sun_b", 1)):
        make.write(folder / "SUN397" / f"{place}.jpg", make.jpeg(label))


def ten_classes(folder: Path) -> None:
    for word in ("train", "val"):
        for label, name in enumerate(("n01440764", "n03445777")):
            make.write(folder / "imagenette2" / word / name / f"{name}_1.jpeg", make.jpeg(label))


TWO = {"train": 2, "test": 2}
THREE = {"train": 2, "val": 2, "test": 2}
RAW: dict[str, tuple[Callable[..., None], dict[str, int], tuple[str, ...]]] = {
    "mnist": (lambda folder: idx(folder, "MNIST"), {"train": 3, "test": 2}, ("0 - zero", "1 - one", "3 - three")),
    "fashionmnist": (
        lambda folder: idx(folder, "FashionMNIST"), {"train": 3, "test": 2}, ("Dress", "T-shirt/top", "Trouser"),
    ),
    "kmnist": (lambda folder: idx(folder, "KMNIST"), {"train": 3, "test": 2}, ("ki", "o", "tsu")),
    "svhn": (numbers, TWO, ("0", "3")),
    "stl10": (stl, TWO, ("airplane", "bird")),
    "flowers102": (flowers, THREE, ("blackberry lily", "pink primrose")),
    "pets": (pets, TWO, ("Abyssinian", "Great Pyrenees")),
    "food101": (food, TWO, ("apple_pie", "waffles")),
    "dtd": (textures, THREE, ("banded", "woven")),
    "eurosat": (satellite, {"": 3}, ("Forest", "River")),
    "aircraft": (aircraft, THREE, ("707-320", "F/A-18")),
    "sun397": (scenes, {"": 2}, ("abbey", "bar/indoor")),
    "imagenette": (ten_classes, {"train": 2, "val": 2}, ("golf ball", "tench")),
}  # fmt: skip


def test_raw__every_known_set_is_tested() -> None:
    assert {"cifar10", "cifar100", *RAW} == {known.name for known in catalog.KNOWN}


@pytest.mark.parametrize("name", RAW)
def test_raw__as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place, subsets, classes = RAW[name]
    known = catalog.find(name)
    more = (monkeypatch,) if place in (numbers, stl, flowers) else ()
    place(tmp_path, *more)

    found = fetching.read_known(known, tmp_path)

    counted = {word: sum(subset == word for _, subset in rows(found)) for word in subsets}
    assert (counted, len(found)) == (subsets, sum(subsets.values()))
    assert tuple(sorted({label for label, _ in rows(found)})) == classes
    # torchvision's own pictures and labels, one by one.
    made = getattr(datasets, known.dataset)
    theirs = []
    for word, options in known.subsets.items():
        part = made(tmp_path, **options)
        names = getattr(part, "classes", [str(digit) for digit in range(10)])
        for picture, label in part:
            title = names[label][0] if isinstance(names[label], tuple) else names[label]
            theirs.append((title, word, np.asarray(picture.convert("RGB")).tobytes()))
    ours = [(*row, np.asarray(decode(found.source.read(i), "x").image).tobytes()) for i, row in enumerate(rows(found))]
    assert sorted(ours) == sorted(theirs)


def test_raw__grey_stays_grey_and_bytes_stay_bytes(tmp_path: Path) -> None:
    idx(tmp_path / "m", "MNIST")
    grey = fetching.read_known(catalog.find("mnist"), tmp_path / "m").source.read(0)
    satellite(tmp_path / "e")
    found = fetching.read_known(catalog.find("eurosat"), tmp_path / "e")

    from PIL import Image

    assert isinstance(grey, bytes)
    assert Image.open(io.BytesIO(grey)).mode == "L"
    assert found.source.read(0) == (tmp_path / "e" / found.names[0]).read_bytes()


# Asking


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar", "no data set 'cifar' is known. Did you mean cifar10 ?"),
        ("xyzzy", "no data set 'xyzzy' is known. headway fetch --list names them"),
    ],
)
def test_check__unknown(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(Refused) as refusal:
        fetching.check(name, str(tmp_path / "out"), "folders")

    assert str(refusal.value) == said


@pytest.mark.parametrize("name", ["CIFAR-10", "cifar_10", "Cifar10"])
def test_check__however_it_is_written(name: str) -> None:
    assert catalog.find(name).name == "cifar10"


def test_catalog__names_classes_of_torchvision() -> None:
    assert [known.name for known in catalog.KNOWN if not hasattr(datasets, known.dataset)] == []

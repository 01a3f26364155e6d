"""Data sets written in another form: contents, labels and subsets as before, nothing overwritten, nothing half done."""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.dataset import UNASSIGNED
from headway.data.images import decode
from headway.data.sources import load_dataset
from headway.errors import HeadwayError, Refused
from headway.events import drain
from headway.exchange.conversion import KINDS, Target, check_target, convert
from headway.files import digest_bytes
from tests import make
from tests.data.test_cifar import PIXELS, archive, python_files
from tests.exchange.material import listed, notes, together, told, written

SPLIT = ("train", "val", "test")


@pytest.fixture
def let_go() -> Iterator[None]:
    """datasets and webdataset leave files open: let go here, silently, and not in the midst of another test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


# Round trips


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_convert__round_trip_over_every_pair(tmp_path: Path, first: str, second: str) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), SPLIT)

    between = written(before, first, tmp_path / "first")
    after = written(between, second, tmp_path / "second")

    assert told(between) == told(before)
    assert told(after) == told(before)
    assert after.classes == ("cats", "dogs")


_LABELS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12
).filter(lambda name: name == name.strip() and name.splitlines() == [name])  # fmt: skip


@settings(max_examples=12)
@given(
    classes=st.lists(_LABELS, min_size=2, max_size=3, unique=True).map(tuple),
    subsets=st.sampled_from([("",), ("train", "test"), SPLIT]),
    pair=st.tuples(st.sampled_from(["csv", "parquet", "webdataset", "coco"]), st.sampled_from(KINDS)),
)
def test_convert__any_class_name(classes: tuple[str, ...], subsets: tuple[str, ...], pair: tuple[str, str]) -> None:
    from headway.deployment.outputs import folder_name

    with tempfile.TemporaryDirectory() as folder:
        before = listed(Path(folder) / "source", classes, subsets)
        between = written(before, pair[0], Path(folder) / "first")
        after = written(between, pair[1], Path(folder) / "second")

        assert told(between) == told(before)
        if pair[1] in ("folders", "imagefolder"):
            # Tables below train/ and test/ tell the names as they are; where there are none, the folders tell them.
            tables = list((Path(folder) / "second").glob("*/metadata.csv"))
            named = {
                (digest, name if tables else folder_name(name or ""), subset)
                for digest, name, subset in told(before, whole=True)
            }
            assert set(told(after, whole=True)) == named
        else:
            assert told(after) == told(before)


@pytest.mark.parametrize("kind", KINDS)
def test_convert__images_without_a_label_stay_so(tmp_path: Path, kind: str) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), ("train", "val"), loose=3)

    assert told(written(before, kind, tmp_path / "out")) == told(before)


@pytest.mark.parametrize("kind", KINDS)
def test_convert__no_subset_and_no_label(tmp_path: Path, kind: str) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), loose=1)

    assert told(written(before, kind, tmp_path / "out"), whole=True) == told(before, whole=True)


@pytest.mark.parametrize("kind", ["csv", "coco"])
def test_convert__groups_stay_where_the_kind_has_them(tmp_path: Path, kind: str) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), groups=True)

    assert together(written(before, kind, tmp_path / "out")) == together(before)


def test_convert__groups_lost_are_told(tmp_path: Path) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), groups=True)

    assert notes(before, "parquet", tmp_path / "out") == [
        "groups are not kept by --to parquet: images of one group may be split (csv and coco keep them)"
    ]


@pytest.mark.parametrize("kind", ["folders", "imagefolder"])
def test_convert__a_class_named_like_a_subset(tmp_path: Path, kind: str) -> None:
    before = listed(tmp_path / "source", ("test", "train"))

    assert notes(before, kind, tmp_path / "out") == ["every image is written as train"]
    assert told(load_dataset(tmp_path / "out")) == told(before, whole=True)


@pytest.mark.parametrize("kind", KINDS)
def test_convert__same_name_in_two_folders(tmp_path: Path, kind: str) -> None:
    for place, kind_of in (("cats/a", 0), ("cats/b", 0), ("dogs/a", 1), ("dogs/b", 1)):
        make.write(tmp_path / "photos" / place / "1.jpg", make.jpeg(kind_of, len(place) + ord(place[-1])))
    before = load_dataset(tmp_path / "photos")

    after = written(before, kind, tmp_path / "out")

    assert told(after) == told(before)
    assert len(after) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_convert__pixels_without_a_file_become_png(tmp_path: Path, kind: str) -> None:
    before = load_dataset(archive(tmp_path / "cifar.tar.gz", "cifar-10-batches-py", python_files(ten=True)))

    after = written(before, kind, tmp_path / "out")

    found = [decode(after.source.read(place), "x") for place in range(len(after))]
    assert sorted(np.asarray(image.image).tobytes() for image in found) == sorted(pixels.tobytes() for pixels in PIXELS)
    assert {image.format for image in found} == {"PNG"}


# What is wrong


@pytest.mark.parametrize("kind", KINDS)
def test_convert__damaged_images_are_named_and_set_aside(tmp_path: Path, kind: str) -> None:
    make.class_folders(tmp_path / "photos", {"cats": 3, "dogs": 3})
    whole = (tmp_path / "photos/cats/0001.jpg").read_bytes()
    (tmp_path / "photos/cats/0001.jpg").write_bytes(make.truncated(whole))
    (tmp_path / "photos/dogs/0002.jpg").write_bytes(b"no image")
    before = load_dataset(tmp_path / "photos")

    result = drain(convert(before, Target(kind, tmp_path / "out")))

    assert (result["images"], result["subsets"]) == (4, {"all": 4})
    assert [found["name"] for found in result["set_aside"]] == ["cats/0001.jpg", "dogs/0002.jpg"]
    assert len(load_dataset(tmp_path / "out")) == 4


def test_convert__nothing_can_be_read(tmp_path: Path) -> None:
    for name in ("cats/1.jpg", "dogs/1.jpg"):
        make.write(tmp_path / "photos" / name, b"no image")

    with pytest.raises(HeadwayError) as failure:
        drain(convert(load_dataset(tmp_path / "photos"), Target("folders", tmp_path / "out")))

    assert str(failure.value).startswith("none of 2 images can be read. First:\n  cats/1.jpg: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize("kind", KINDS)
def test_convert__stopped_half_way_leaves_nothing(tmp_path: Path, kind: str) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), SPLIT)

    events = convert(before, Target(kind, tmp_path / "out"))
    for _ in range(5):
        next(events)
    events.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_convert__a_folder_that_came_meanwhile_stays(tmp_path: Path) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"))
    events = convert(before, Target("folders", tmp_path / "out"))
    next(events)
    make.write(tmp_path / "out" / "mine.txt", b"mine")

    with pytest.raises(HeadwayError) as failure:
        drain(events)

    assert str(failure.value) == (
        f"{tmp_path / 'out'} has come to exist meanwhile, and nothing is overwritten. Choose another name"
    )
    assert (tmp_path / "out" / "mine.txt").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_check_target__every_reason(tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", {"cats": 1, "dogs": 1})

    def said(kind: str, out: Path | str) -> str:
        with pytest.raises(Refused) as refusal:
            check_target(kind, str(out), str(tmp_path / "photos"))
        return str(refusal.value)

    out = tmp_path / "photos"
    assert said("folders", out) == f"{out} exists, and nothing is overwritten. Choose another name, or take it away"
    assert said("coco", out / "x") == f"{out / 'x'} lies in {out}, which is never written to. Choose another place"
    assert said("cocoa", tmp_path / "no" / "x") == (
        "2 problems:\n"
        "  --to cocoa: expected folders, csv, parquet, webdataset, imagefolder or coco. Did you mean coco ?\n"
        f"  there is no folder {tmp_path / 'no'} for {tmp_path / 'no' / 'x'}. Make it first"
    )
    assert said("csv", "s3://bucket/x") == (
        "s3://bucket/x is on another machine: expected a folder here. Copy it there afterwards"
    )


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("parquet", "Test", "a folder of the name Test says that its images are the test images. Choose another name"),
        ("csv", "out", "the class ' cats' begins or ends with a space, which a list cannot keep"),
        ("webdataset", "out", "the class ' cats' cannot stand in a line of classes.txt: rename it"),
    ],
)
def test_convert__what_the_kind_cannot_say(tmp_path: Path, kind: str, name: str, said: str) -> None:
    make.class_folders(tmp_path / "photos", {" cats" if "cats" in said else "cats": 1, "dogs": 1})

    with pytest.raises(Refused) as refusal:
        drain(convert(load_dataset(tmp_path / "photos"), Target(kind, tmp_path / name)))

    assert str(refusal.value) == said


def test_convert__no_place_for_images_without_a_label(tmp_path: Path) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), ("train", "test"), loose=2)

    with pytest.raises(Refused) as refusal:
        drain(convert(before, Target("folders", tmp_path / "out")))

    assert str(refusal.value) == (
        "list.csv has 2 images without a label beside a labelled test set, for which folders have no place. "
        "Choose --to csv, parquet, webdataset or coco"
    )


# What others read


@pytest.mark.usefixtures("let_go")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_parquet__datasets_reads_it(tmp_path: Path) -> None:
    import datasets

    before = listed(tmp_path / "source", ("cats", "dogs"), SPLIT)
    drain(convert(before, Target("parquet", tmp_path / "out")))

    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))

    assert {name: len(found[name]) for name in found} == {"train": 4, "validation": 4, "test": 4}
    assert found["train"].features["label"].names == ["cats", "dogs"]
    raw = found["train"].cast_column("image", datasets.Image(decode=False))
    mine = {digest for digest, _, subset in told(before) if subset == 0}
    assert {digest_bytes(row["image"]["bytes"]) for row in raw} == mine
    assert found["train"][0]["image"].size == (24, 20)


@pytest.mark.usefixtures("let_go")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_parquet__what_datasets_wrote_is_read(tmp_path: Path) -> None:
    import datasets
    from datasets.table import embed_table_storage

    make.class_folders(tmp_path / "photos" / "train", {"cats": 2, "dogs": 2})
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "photos"), cache_dir=str(tmp_path / "cache"))
    (tmp_path / "out").mkdir()
    whole = found["train"].with_format("arrow").map(embed_table_storage, batched=True)  # as push_to_hub does
    whole.with_format(None).to_parquet(tmp_path / "out" / "train-00000-of-00001.parquet")

    assert told(load_dataset(tmp_path / "out")) == told(load_dataset(tmp_path / "photos"))


@pytest.mark.usefixtures("let_go")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_imagefolder__datasets_reads_it(tmp_path: Path) -> None:
    import datasets

    before = listed(tmp_path / "source", ("a/b", "dogs"), SPLIT)
    drain(convert(before, Target("imagefolder", tmp_path / "out")))

    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))

    assert {name: sorted(found[name]["label"]) for name in found} == {
        name: ["a/b", "a/b", "dogs", "dogs"] for name in ("train", "validation", "test")
    }


@pytest.mark.usefixtures("let_go")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset__webdataset_reads_it(tmp_path: Path) -> None:
    import webdataset as wds

    before = listed(tmp_path / "source", ("cats", "dogs"), SPLIT)
    drain(convert(before, Target("webdataset", tmp_path / "out")))

    names = (tmp_path / "out" / "classes.txt").read_text().split()
    shard = wds.WebDataset(str(tmp_path / "out" / "train-000000.tar"), shardshuffle=False)
    raw = {(digest_bytes(next(s[k] for k in ("jpg", "png", "webp") if k in s)), int(s["cls"])) for s in shard}
    decoded = list(shard.decode("pil").to_tuple("jpg;png;webp", "cls"))

    assert raw == {(digest, names.index(str(label))) for digest, label, subset in told(before) if subset == 0}
    assert [label for _, label in decoded] == [0, 0, 1, 1]
    assert decoded[0][0].size == (24, 20)


@pytest.mark.usefixtures("let_go")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset__what_webdataset_wrote_is_read(tmp_path: Path) -> None:
    import webdataset as wds

    make.write(tmp_path / "out" / "classes.txt", b"cats\ndogs\n")
    with wds.ShardWriter(str(tmp_path / "out" / "train-%06d.tar"), maxcount=3, verbose=0) as sink:
        for number in range(8):
            sink.write({"__key__": f"{number:06d}", "png": make.png(number % 2, number), "cls": number % 2})

    found = load_dataset(tmp_path / "out")

    assert len(found) == 8
    assert set(told(found)) == {
        (digest_bytes(make.png(number % 2, number)), ("cats", "dogs")[number % 2], 0) for number in range(8)
    }


def test_webdataset__full_shards_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.exchange.archives._MOST_IMAGES", 3)
    before = listed(tmp_path / "source", ("cats", "dogs"), ("train", "test"))

    after = written(before, "webdataset", tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.txt", "test-000000.tar", "test-000001.tar", "train-000000.tar", "train-000001.tar",
    ]  # fmt: skip
    assert told(after) == told(before)


def test_parquet__full_files_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.exchange.columns._FILE_BYTES", 1000)
    before = listed(tmp_path / "source", ("cats", "dogs"))

    after = written(before, "parquet", tmp_path / "out")

    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) > 1
    assert names == [f"data-{number:05d}-of-{len(names):05d}.parquet" for number in range(len(names))]
    assert told(after) == told(before)
    assert set(after.given.tolist()) == {UNASSIGNED}


def test_convert__twice_the_same_bytes(tmp_path: Path) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), SPLIT)
    for kind in KINDS:
        for name in ("one", "two"):
            drain(convert(before, Target(kind, tmp_path / name)))
        files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "two")]

        assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
        shutil.rmtree(tmp_path / "one")
        shutil.rmtree(tmp_path / "two")


def test_coco__is_as_its_format_says(tmp_path: Path) -> None:
    before = listed(tmp_path / "source", ("cats", "dogs"), ("train", "test"))
    drain(convert(before, Target("coco", tmp_path / "out")))

    told_file = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())

    assert told_file["categories"] == [{"id": 1, "name": "cats"}, {"id": 2, "name": "dogs"}]
    assert [image["id"] for image in told_file["images"]] == [1, 2, 3, 4]
    assert told_file["images"][0] == {"id": 1, "file_name": "0.jpg", "width": 24, "height": 20}
    assert told_file["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 24, 20], "area": 480, "iscrowd": 0,
    }  # fmt: skip

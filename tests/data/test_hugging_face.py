"""Datasets of Hugging Face's library, the real one: saved, in memory, loaded from folders, and by name from a hub."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

import headway
from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL
from headway.data.hugging_face import hub_name, keep_object
from headway.data.images import BadImage
from headway.data.sources import load_dataset
from headway.errors import Refused
from headway.events import drain
from headway.features.upkeep import info, prune
from tests import make
from tests.ecosystem.hubbing import environment
from tests.ecosystem.toy import LOOK
from tests.hub_server import hub_server

NAMES = ["owl", "cat", "dog"]


def table(n: int, *, seed: int = 0, labels: Any = None, feature: Any = None) -> Dataset:
    """`n` distinct images with labels 0, 1, 2, 0, ... of the ClassLabel NAMES, or with those given."""
    rows = {
        "image": [{"bytes": make.png(i % 3, seed * 1000 + i), "path": None} for i in range(n)],
        "label": [i % 3 for i in range(n)] if labels is None else labels,
    }
    return Dataset.from_dict(rows, features=Features({"image": Image(), "label": feature or ClassLabel(names=NAMES)}))


@pytest.fixture(autouse=True)
def _still() -> None:
    datasets.disable_progress_bars()


def words(found: Any) -> list[str | None]:
    return [found.classes[label] if label >= 0 else None for label in found.labels]


def test_saved__a_dict_of_splits(tmp_path: Path) -> None:
    splits = {"train": table(6), "validation": table(3, seed=1), "test": table(3, seed=2), "extra": table(3, seed=3)}
    DatasetDict(splits).save_to_disk(str(tmp_path / "photos"))
    found = load_dataset(f"hf:{tmp_path}/photos")
    assert (found.name, found.kind, len(found)) == ("photos", "a Hugging Face dataset", 12)
    assert found.classes == ("cat", "dog", "owl")
    assert words(found) == ["owl", "cat", "dog"] * 4
    assert found.given.tolist() == [TRAIN] * 6 + [VAL] * 3 + [TEST] * 3
    assert list(found.names[:2]) == ["train/0", "train/1"]
    assert found.names[11] == "test/2"
    assert found.notes == (
        "extra left out: no split that headway knows",
        "train: 6 rows, images in image, labels in label",
        "validation: 3 rows, images in image, labels in label",
        "test: 3 rows, images in image, labels in label",
    )
    assert [found.source.read(i) for i in (0, 7, 11)] == [make.png(0, 0), make.png(1, 1001), make.png(2, 2002)]
    plain = load_dataset(tmp_path / "photos")  # a folder that the library saved is known without hf:
    assert plain.names[0] == "train/0"
    assert np.array_equal(plain.labels, found.labels)


def test_object__rows_that_were_chosen_and_shuffled() -> None:
    """The order of the object counts, as its own rows are asked for by an independent way."""
    chosen = table(30).shuffle(seed=4).filter(lambda row: row["label"] != 2)
    found = headway.load_dataset(chosen)
    plain = chosen.cast_column("image", Image(decode=False))
    assert len(found) == len(chosen) == 20
    assert set(found.given.tolist()) == {UNASSIGNED}
    assert words(found) == [NAMES[row["label"]] for row in plain]
    with ThreadPoolExecutor(4) as pool:
        contents = list(pool.map(found.source.read, range(len(found))))
    assert contents == [row["image"]["bytes"] for row in plain]


def test_object__images_by_path_and_rows_without(tmp_path: Path) -> None:
    file = make.write(tmp_path / "a.png", make.png(1))
    rows = {"image": [{"bytes": None, "path": str(file)}, None, {"bytes": make.png(2), "path": "b.png"}]}
    features = Features({"image": Image(), "label": Value("string")})
    found = headway.load_dataset(Dataset.from_dict({**rows, "label": ["x", "y", "x"]}, features=features))
    assert found.source.read(0) == make.png(1)
    assert found.source.read(2) == make.png(2)
    with pytest.raises(BadImage) as caught:
        found.source.read(1)
    assert (caught.value.path, caught.value.reason) == ("row/1", "no bytes in its row")


@pytest.mark.parametrize(
    ("feature", "labels", "wanted"),
    [
        (Value("string"), ["b", "", None, "a"], ["b", None, None, "a"]),
        (Value("int64"), [10, 2, -1, None], ["10", "2", None, None]),
        (ClassLabel(names=NAMES), [1, -1, None, 0], ["cat", None, None, "owl"]),
    ],
)
def test_object__kinds_of_labels(feature: Any, labels: list[Any], wanted: list[str | None]) -> None:
    found = headway.load_dataset(table(4, labels=labels, feature=feature))
    assert words(found) == wanted
    assert [subset == UNLABELLED for subset in found.given] == [word is None for word in wanted]


def test_object__a_test_split_without_labels() -> None:
    splits = DatasetDict({"train": table(6), "test": table(3, seed=1).remove_columns("label")})
    found = headway.load_dataset(splits)
    assert words(found)[6:] == [None] * 3
    assert set(found.given[6:].tolist()) == {UNLABELLED}


def test_object__the_only_class_label_counts_where_no_name_is_known() -> None:
    found = headway.load_dataset(table(3).rename_columns({"label": "species", "image": "pic"}))
    assert words(found) == ["owl", "cat", "dog"]


def test_what_is_refused(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": List(ClassLabel(names=NAMES))})
    many = Dataset.from_dict({"image": [make.png(0)] * 2, "label": [[0, 1], [2]]}, features=features)
    table(4).save_to_disk(str(tmp_path / "cut"))
    (tmp_path / "cut" / "state.json").write_text("{")
    cases: list[tuple[Any, str]] = [
        (
            table(4).remove_columns("label").add_column("lable", [0, 1, 0, 1]),
            "the dataset: row has no column of labels, expected one of label, labels, fine_label, coarse_label, class, "
            "target, category (it has image, lable). Rename one: dataset.rename_column('lable', 'label')",
        ),
        (
            table(4).remove_columns("image"),
            "the dataset: row has no column of images (the feature Image): it has label ClassLabel",
        ),
        (many, "the dataset: the column label holds a List, expected names or whole numbers"),
        (
            table(4).to_iterable_dataset(),
            "the dataset is streamed, and headway reads images in any order: load it without streaming=True",
        ),
        (3, "the data is a int: expected a path, or a Dataset or DatasetDict of datasets"),
        (
            table(3, labels=[1, 1, 1]),
            "the dataset has one class only (cat): a classifier needs two or more",
        ),
        (
            f"hf:{tmp_path}/none",
            f"hf:{tmp_path}/none: there is no such folder, and it is no name on the hub (user/name)",
        ),
        (
            f"hf:{tmp_path}/cut",
            f"hf:{tmp_path}/cut cannot be read by datasets: Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1)",
        ),
    ]
    for given, said in cases:
        with pytest.raises(Refused) as caught:
            headway.load_dataset(given)
        assert str(caught.value) == said


def test_hub_name__of_names_alone(tmp_path: Path) -> None:
    assert hub_name("hf:user/photos@small") == "user/photos"
    assert hub_name(f"hf:{tmp_path}") is None
    assert hub_name("hf://user/x") is None
    assert hub_name(tmp_path) is None


_LOAD = """
import json, sys
import headway
try:
    found = headway.load_dataset(sys.argv[1])
    words = [found.classes[label] for label in found.labels]
    print(json.dumps([found.name, len(found), words, found.given.tolist(), len(found.source.read(1))]))
except headway.errors.Refused as refused:
    print(json.dumps(str(refused)))
"""


def load_apart(given: str, env: dict[str, str]) -> Any:
    """In a process of its own: the library reads its settings once, and its cache would be the user's."""
    done = subprocess.run([sys.executable, "-c", _LOAD, given], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_load_dataset__by_name_from_a_hub(tmp_path: Path) -> None:
    """Parquet, as `push_to_hub` writes it, on a server that speaks the hub's protocol; then again with no hub."""
    content = io.BytesIO()
    table(6).to_parquet(content)
    make.write(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet", content.getvalue())
    with hub_server() as hub:
        hub.put("somebody/photos", tmp_path / "repo", kind="datasets")
        env = environment(hub.url, tmp_path / "home")
        wanted = ["photos", 6, ["owl", "cat", "dog"] * 2, [TRAIN] * 6, len(make.png(1, 1))]
        assert load_apart("hf:somebody/photos", env) == wanted
        assert load_apart("hf:somebody/photo", env) == (
            f"there is no dataset somebody/photo on {hub.url}, or it is private and the token has no access."
        )
    assert load_apart("hf:somebody/photos", {**env, "HF_HUB_OFFLINE": "1"}) == wanted
    assert load_apart("hf:somebody/photos", env) == (
        f"hf:somebody/photos is no folder here, and {hub.url} cannot be reached (ConnectError). With HF_HUB_OFFLINE=1 "
        "what was fetched before is read."
    )


@pytest.mark.slow
def test_load_dataset__a_folder_that_the_library_loads(tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", {"a": 3, "b": 3})
    env = environment("http://127.0.0.1:9", tmp_path / "home")
    found = load_apart(f"hf:{tmp_path}/photos", env)
    assert found[:3] == ["photos", 6, ["a"] * 3 + ["b"] * 3]


# Objects that verbs of whole runs are given


def test_keep__an_object_is_written_once_and_read_as_it_is(tmp_path: Path) -> None:
    given = DatasetDict({"train": table(6), "test": table(3, seed=2)})

    named = keep_object(given, tmp_path)
    written = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*.arrow"))]
    again = keep_object(given, tmp_path)

    assert again == named
    assert named.startswith(f"hf:{tmp_path}/given/")
    assert [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*.arrow"))] == written
    assert len(list((tmp_path / "given").iterdir())) == 1
    found, direct = load_dataset(named), headway.load_dataset(given)
    assert (found.classes, found.given.tolist()) == (direct.classes, direct.given.tolist())
    assert [found.source.read(i) for i in range(9)] == [direct.source.read(i) for i in range(9)]


def test_keep__another_object_lies_beside_it(tmp_path: Path) -> None:
    first = table(6)

    names = {keep_object(each, tmp_path) for each in (first, first.select(range(4)), table(6, seed=1))}

    assert [len(load_dataset(name)) for name in sorted(names)] in ([6, 6, 4], [6, 4, 6], [4, 6, 6])


def test_keep__its_name_is_that_of_the_dataset_and_no_path(tmp_path: Path) -> None:
    given = table(3)
    given.info.dataset_name = "../some body/flowers"

    assert Path(keep_object(given, tmp_path).removeprefix("hf:")).parent.parent == tmp_path / "given"


def test_keep__refuses_what_cannot_be_read_before_it_writes(tmp_path: Path) -> None:
    for wrong, said in ((table(3).to_iterable_dataset(), "is streamed"), ([1, 2], "the data is a list")):
        with pytest.raises(Refused, match=said):
            keep_object(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keep__the_cache_tells_of_it(tmp_path: Path) -> None:
    keep_object(table(3), tmp_path)

    (part,) = drain(info(tmp_path))["parts"]
    assert (part["kind"], part["name"]) == ("given", "data of datasets")
    assert len(drain(prune(tmp_path, days=0, dry_run=False))["removed"]) == 1
    assert list((tmp_path / "given").iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a run's folder is locked to the end
def test_fit__an_object_and_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = table(60)

    result = headway.fit(given, run=tmp_path / "run", map="none", **LOOK)
    again = headway.fit(given, run=tmp_path / "run", map="none", **LOOK)  # finished: nothing is done again

    assert result["n"]["train"] + result["n"]["val"] + result["n"]["test"] == 60
    assert result["classes"] == 3
    assert again["test"] == result["test"]
    assert "hf:" in json.loads((tmp_path / "run" / "evaluation.json").read_text())["command"]

"""make_split and its neighbours: what always holds, on made-up contents and without any image."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headway.data.dataset import (
    SUBSETS,
    TEST,
    TRAIN,
    UNASSIGNED,
    UNLABELLED,
    VAL,
    Contents,
    Dataset,
    Split,
)
from headway.data.split import check_damage, make_split, read_split, write_split
from headway.errors import Refused


@dataclass(frozen=True)
class Sample:
    """`file` and `look` are numbers: equal number, equal bytes or equal pixels."""

    label: int
    file: int
    look: int
    group: int = -1
    given: int = UNASSIGNED


class NoSource:
    def read(self, index: int) -> bytes:
        raise AssertionError("a split needs no image")


def digest(number: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(hashlib.sha256(str(number).encode()).digest(), np.uint8)


def material(
    samples: Sequence[Sample], names: Sequence[str] | None = None, bad: Sequence[int] = ()
) -> tuple[Dataset, Contents]:
    n = len(samples)
    classes = tuple(f"class {i}" for i in range(max((sample.label for sample in samples), default=0) + 1))
    groups = np.array([sample.group for sample in samples], np.int32)
    dataset = Dataset(
        name="photos",
        kind="a folder per class",
        names=list(names or (f"{i}.jpg" for i in range(n))),
        labels=np.array([sample.label for sample in samples], np.int32),
        given=np.array([sample.given for sample in samples], np.int8),
        groups=groups if (groups >= 0).any() else None,
        classes=classes,
        source=NoSource(),
    )
    accepted = np.ones(n, bool)
    accepted[list(bad)] = False
    contents = Contents(
        accepted,
        {i: "truncated" for i in bad},
        np.array([digest(sample.file) for sample in samples]).reshape(n, 32),
        np.array([digest(sample.look) for sample in samples]).reshape(n, 32),
        np.zeros((n, 2), np.int32),
    )
    return dataset, contents


def split_of(samples: Sequence[Sample], seed: int = 0, val: float = 0.1, test: float = 0.15, **more: object) -> Split:
    dataset, contents = material(samples)
    return make_split(dataset, contents, seed=seed, val=val, test=test, **more)  # type: ignore[arg-type]


def plain(per_class: Sequence[int], start: int = 0) -> list[Sample]:
    """Distinct images, so many of each class."""
    labels = [label for label, count in enumerate(per_class) for _ in range(count)]
    return [Sample(label, start + i, start + i) for i, label in enumerate(labels)]


def kept(samples: Sequence[Sample], split: Split) -> dict[str, str]:
    return {
        digest(sample.file).tobytes().hex(): SUBSETS[subset]
        for sample, subset in zip(samples, split.subsets, strict=True)
        if subset != UNASSIGNED
    }


def by_file(samples: Sequence[Sample], split: Split) -> dict[int, int]:
    return {sample.file: int(subset) for sample, subset in zip(samples, split.subsets, strict=True)}


@st.composite
def collections(draw: st.DrawFn, groups: bool = True) -> list[Sample]:
    """Two to four classes with duplicates, some across classes, and groups."""
    samples = plain(draw(st.lists(st.integers(3, 30), min_size=2, max_size=4)))
    n = len(samples)
    for source, target in draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=6)):
        samples[target] = replace(samples[target], look=samples[source].look)
    if groups and draw(st.booleans()):
        numbers = draw(st.lists(st.integers(-1, 40), min_size=n, max_size=n))
        samples = [replace(sample, group=number) for sample, number in zip(samples, numbers, strict=True)]
    return samples


def tried(samples: Sequence[Sample], **options: object) -> Split:
    """The split; a refusal (too few units for every subset) makes the example void."""
    try:
        return split_of(samples, **options)  # type: ignore[arg-type]
    except Refused:
        assume(False)
        raise


EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@given(collections(), st.integers(0, 5))
@EXAMPLES
def test_make_split__every_sample_once_and_every_class_everywhere(samples: list[Sample], seed: int) -> None:
    split = tried(samples, seed=seed)
    parts = [split.train, split.val, split.test]
    assert sorted(np.concatenate(parts)) == list(range(len(samples)))
    for part in parts:
        assert {samples[i].label for i in part} == {sample.label for sample in samples}


@given(collections())
@EXAMPLES
def test_make_split__what_belongs_together_stays_together(samples: list[Sample]) -> None:
    split = tried(samples)
    for key in ("look", "group"):
        homes: dict[int, set[int]] = {}
        for sample, subset in zip(samples, split.subsets, strict=True):
            homes.setdefault(getattr(sample, key), set()).add(int(subset))
        homes.pop(-1, None)
        assert all(len(subsets) == 1 for subsets in homes.values())
    assert split.straddling == ()


@given(collections(), st.randoms(use_true_random=False))
@EXAMPLES
def test_make_split__names_and_order_mean_nothing(samples: list[Sample], random: object) -> None:
    first = by_file(samples, tried(samples))
    shuffled = samples[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    dataset, contents = material(shuffled, [f"renamed/{i * 7919 % 1000}-{i}.png" for i in range(len(samples))])
    assert by_file(shuffled, make_split(dataset, contents, seed=0, val=0.1, test=0.15)) == first


@given(st.lists(st.integers(3, 60), min_size=2, max_size=5), st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.3]))
@EXAMPLES
def test_make_split__exactly_stratified(per_class: list[int], test: float) -> None:
    split = split_of(plain(per_class), val=0.1, test=test)
    labels = np.repeat(np.arange(len(per_class)), per_class)
    for label, count in enumerate(per_class):
        got = Counter(split.subsets[labels == label].tolist())
        assert got[TEST] == max(1, int(count * round(test * 100) / 100 + 0.5 + 1e-9))
        assert got[VAL] == max(1, int(count * 0.1 + 0.5 + 1e-9))


@given(collections(groups=False), collections(groups=False), st.integers(0, 3))
@EXAMPLES
def test_make_split__keep_moves_nothing(old: list[Sample], new: list[Sample], seed: int) -> None:
    """Whatever is added, under whatever seed, every known image stays; new copies of known ones follow them."""
    first = tried(old)
    offset = 10_000
    added = [replace(sample, file=sample.file + offset, label=min(sample.label, 1)) for sample in new]
    both = added + old
    second = tried(both, seed=seed, keep=kept(old, first))
    after = by_file(both, second)
    assert {file: after[file] for file in by_file(old, first)} == by_file(old, first)
    homes = {sample.look: subset for sample, subset in zip(old, first.subsets, strict=True)}
    assert all(after[s.file] == homes[s.look] for s in added if s.look in homes)
    assert second.straddling == ()


def test_make_split__keep_fills_the_quotas_with_new_images() -> None:
    old = plain([40, 40])
    first = split_of(old)
    added = [Sample(label, 1000 + i, 1000 + i) for i, label in enumerate([0, 1] * 40)]
    second = split_of(old + added, keep=kept(old, first))
    assert [Counter(second.subsets[np.array([s.label for s in old + added]) == c].tolist()) for c in (0, 1)] == [
        {TRAIN: 60, VAL: 8, TEST: 12}
    ] * 2


def test_make_split__keep_knows_a_class_that_is_new() -> None:
    old = plain([20, 20])
    samples = [*old, *(Sample(2, 500 + i, 500 + i) for i in range(10))]
    split = split_of(samples, keep=kept(old, split_of(old)))
    assert Counter(split.subsets[40:].tolist()) == {TEST: 2, VAL: 1, TRAIN: 7}


def test_make_split__keep_without_shares_still_guards_the_test() -> None:
    old = [replace(sample, given=TRAIN) for sample in plain([20, 20])]
    first = split_of(old)
    second = split_of(old, val=0, test=0, keep=kept(old, first))
    assert by_file(old, second) == by_file(old, first)


def test_make_split__new_copy_of_images_in_two_subsets_goes_furthest() -> None:
    """Copies that straddled before stay where they were; another copy must not train."""
    old = [*plain([20, 20]), Sample(0, 900, 777), Sample(0, 901, 777)]
    keep = kept(old, split_of(old)) | {
        digest(900).tobytes().hex(): "train",
        digest(901).tobytes().hex(): "test",
    }
    after = by_file([*old, Sample(0, 902, 777)], split_of([*old, Sample(0, 902, 777)], keep=keep))
    assert [after[900], after[901], after[902]] == [TRAIN, TEST, TEST]


def test_make_split__refuses_what_would_cross_from_test_to_train() -> None:
    samples = [replace(s, given=TRAIN) for s in plain([5, 5])] + [
        Sample(i % 2, 90 + i, 90 + i, -1, TEST) for i in range(4)
    ]
    keep = {digest(1).tobytes().hex(): "test", digest(90).tobytes().hex(): "train"}
    with pytest.raises(Refused) as raised:
        split_of(samples, keep=keep)
    assert str(raised.value) == (
        "1 image that the earlier split tested on would now train, first 1.jpg: move back to test, or leave out --split"
    )


@pytest.mark.parametrize(
    ("brought", "parts"),
    [
        ((TRAIN,), {TRAIN, VAL, TEST}),
        ((TRAIN, TEST), {TRAIN, VAL, TEST}),
        ((TRAIN, VAL), {TRAIN, VAL, TEST}),
        ((TRAIN, VAL, TEST), {TRAIN, VAL, TEST}),
    ],
)
def test_make_split__what_the_data_brings_is_not_changed(brought: tuple[int, ...], parts: set[int]) -> None:
    samples = [
        replace(sample, given=subset, file=1000 * subset + sample.file, look=1000 * subset + sample.look)
        for subset in brought
        for sample in plain([30, 20])
    ]
    split = split_of(samples)
    assert set(split.subsets) == parts
    assert split.brought == tuple(SUBSETS[subset] for subset in brought)
    for sample, subset in zip(samples, split.subsets, strict=True):
        assert subset == sample.given or (sample.given == TRAIN and subset not in brought)
    if brought == (TRAIN, TEST):
        assert Counter(split.subsets.tolist()) == {TRAIN: 45, VAL: 5, TEST: 50}


def test_make_split__rows_without_a_subset_follow_their_copies() -> None:
    brought = [replace(s, given=TRAIN) for s in plain([6, 6])]
    brought += [Sample(i % 2, 50 + i, 50 + i, -1, VAL) for i in range(4)]
    brought += [Sample(i % 2, 60 + i, 60 + i, -1, TEST) for i in range(4)]
    loose = [Sample(0, 70, 60), Sample(1, 71, 51), Sample(0, 72, 0), Sample(0, 73, 73)]
    split = split_of(brought + loose)
    assert split.subsets[len(brought) :].tolist() == [TEST, VAL, TRAIN, TRAIN]
    assert split.straddling == ()


def test_make_split__straddling_copies_are_told() -> None:
    samples = [replace(s, given=TRAIN) for s in plain([8, 8])]
    samples += [Sample(0, 90, 3, -1, TEST), Sample(1, 91, 91, -1, TEST)]
    split = split_of(samples)
    assert split.straddling == ((3, 16),)
    assert split.subsets[16] == TEST
    assert split.subsets[3] in (TRAIN, VAL)


def test_make_split__conflicts_are_told() -> None:
    samples = [*plain([10, 10]), Sample(1, 90, 2), Sample(0, 91, 2), Sample(0, 92, 4)]
    split = split_of(samples)
    assert split.conflicts == ((2, 20, 21),)
    assert len(set(split.subsets[[2, 20, 21]])) == 1


def test_make_split__unlabelled_and_damaged() -> None:
    samples = [*plain([10, 10]), Sample(-1, 90, 90, -1, UNLABELLED), Sample(-1, 91, 91, -1, UNLABELLED)]
    dataset, contents = material(samples, bad=[3, 21])
    split = make_split(dataset, contents, seed=0, val=0.1, test=0.15)
    assert split.subsets[[3, 21]].tolist() == [UNASSIGNED, UNASSIGNED]
    assert split.unlabelled.tolist() == [20]
    assert len(split.train) + len(split.val) + len(split.test) == 19


def test_make_split__groups_of_several_classes_near_the_quotas() -> None:
    """40 patients with images of every class: no patient is cut, and each share is near what was asked."""
    rng = np.random.default_rng(0)
    samples = [
        Sample(label, 100 * patient + i, 100 * patient + i, patient)
        for patient in range(40)
        for i, label in enumerate(rng.integers(0, 3, rng.integers(4, 20)))
    ]
    split = split_of(samples)
    labels = np.array([sample.label for sample in samples])
    for label in range(3):
        share = Counter(split.subsets[labels == label].tolist())
        assert abs(share[TEST] / (labels == label).sum() - 0.15) < 0.03
        assert abs(share[VAL] / (labels == label).sum() - 0.10) < 0.03


def test_make_split__three_patients_one_each() -> None:
    samples = [Sample(label, 10 * p + i, 10 * p + i, p) for p in range(3) for i, label in enumerate([0, 1, 0, 1])]
    split = split_of(samples)
    assert sorted(set(split.subsets.tolist())) == [TRAIN, VAL, TEST]


@pytest.mark.parametrize("n_patients", range(3, 9))
def test_make_split__order_of_patients_means_nothing(n_patients: int) -> None:
    samples = [Sample(i % 2, 10 * p + i, 10 * p + i, p) for p in range(n_patients) for i in range(4)]
    splits = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(len(samples))
        shuffled = [samples[i] for i in order]
        splits.append(by_file(shuffled, split_of(shuffled)))
    assert all(split == splits[0] for split in splits)


def test_make_split__seeds_differ() -> None:
    samples = plain([50, 50])
    tests = [frozenset(split_of(samples, seed=seed).test.tolist()) for seed in range(20)]
    assert len(set(tests)) == 20
    assert split_of(samples, seed=-3).test.tolist() != split_of(samples, seed=3).test.tolist()


def test_make_split__definition() -> None:
    """The order is sha256 over seed and digest, test first, as written in the module: computed here by hand."""
    samples = plain([20, 20])
    split = split_of(samples, seed=7)
    for label in (0, 1):
        mine = [i for i, sample in enumerate(samples) if sample.label == label]
        order = sorted(
            mine, key=lambda i: hashlib.sha256((7).to_bytes(8, "big") + digest(samples[i].file).tobytes()).digest()
        )
        assert set(order[:3]) == set(split.test) & set(mine)
        assert set(order[3:5]) == set(split.val) & set(mine)


NEED = "train, val and test need one each: add images, or do without (--val 0 or --test 0)"
SHARE = "expected a share from 0 to below 1"


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (
            [*plain([10, 2]), Sample(2, 50, 50)],
            {},
            "2 problems:\n"
            f"  class 1 has 2 images; {NEED}\n  class 2 has 1 image; {NEED}",
        ),
        (
            [*plain([10]), *(Sample(1, 50 + i, 60 + i % 2) for i in range(7))],
            {},
            f"class 1 has 7 images, 2 units that may be parted; {NEED}",
        ),
        (
            [*plain([10]), Sample(1, 50, 50)],
            {"val": 0},
            "class 1 has 1 image; train and test need one each: add images, or do without (--test 0)",
        ),
        (
            [Sample(i % 2, i, i, -1, TEST) for i in range(6)],
            {},
            "photos brings test images only: nothing to train on",
        ),
        (
            plain([9, 9]),
            {"val": 0.5, "test": 0.5},
            "--val 0.5 and --test 0.5 leave nothing to train on: together they must stay below 1",
        ),
        (
            plain([9, 9]),
            {"val": -0.1, "test": 15},
            f"2 problems:\n  --val -0.1: {SHARE}\n  --test 15: {SHARE}",
        ),
        (plain([9, 9]), {"seed": 1 << 70}, f"--seed {1 << 70}: expected a whole number of at most 64 bits"),
    ],
)  # fmt: skip
def test_make_split__refused(samples: list[Sample], options: dict[str, object], message: str) -> None:
    with pytest.raises(Refused) as raised:
        split_of(samples, **options)  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_make_split__no_image_left_of_a_class() -> None:
    samples = [replace(s, given=TRAIN) for s in plain([10, 2])]
    dataset, contents = material(samples, bad=[10, 11])
    with pytest.raises(Refused) as raised:
        make_split(dataset, contents, seed=0, val=0.1, test=0.15)
    assert str(raised.value) == "class 1 has no image to train on: add images, or take the class out"


def test_make_split__without_val_or_test() -> None:
    assert set(split_of(plain([5, 5]), val=0).subsets) == {TRAIN, TEST}
    assert set(split_of(plain([5, 5]), test=0).subsets) == {TRAIN, VAL}
    assert set(split_of(plain([1, 1]), val=0, test=0).subsets) == {TRAIN}


def test_write_split__round_trip(tmp_path: Path) -> None:
    samples = [*plain([10, 10]), Sample(-1, 90, 90, -1, UNLABELLED)]
    samples[4] = replace(samples[4], group=7)
    names = [f"=cmd|{i}\n\udcff,\"'.jpg" if i % 2 else f"-{i}.jpg" for i in range(21)]
    dataset, contents = material(samples, names, bad=[5])
    split = make_split(dataset, contents, seed=0, val=0.1, test=0.15)
    write_split(tmp_path / "split.csv", dataset, contents, split)
    assert read_split(tmp_path) == read_split(tmp_path / "split.csv") == kept(samples, split)
    lines = (tmp_path / "split.csv").read_bytes().split(b"\n")
    assert lines[0] == b"name,label,subset,digest,group"
    first = digest(0).tobytes().hex()
    assert lines[1] == f"'-0.jpg,class 0,{SUBSETS[split.subsets[0]]},{first},".encode()
    again = make_split(dataset, contents, seed=99, val=0.3, test=0.3, keep=read_split(tmp_path))
    assert np.array_equal(again.subsets, split.subsets)


def test_read_split__straddling_copies_count_as_tested(tmp_path: Path) -> None:
    rows = "".join(f"{'a' * 64},{subset}\n" for subset in ("train", "test", "val", ""))
    (tmp_path / "s.csv").write_text("digest,subset\n" + rows)
    assert read_split(tmp_path / "s.csv") == {"a" * 64: "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "{path} does not exist: --split expects a run folder, or a CSV with the columns digest and subset"),
        ("name,where\na,train\n", "{path} has no columns digest and subset (it has name, where)"),
        ("digest,subset\nab,tset\n", "{path}, line 2: subset 'tset', expected train, val or test"),
    ],
)
def test_read_split__refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "s.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refused) as raised:
        read_split(path)
    assert str(raised.value) == message.replace("{path}", str(path))


def test_read_split__folder_without(tmp_path: Path) -> None:
    with pytest.raises(Refused) as raised:
        read_split(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/ has no split.csv: --split expects a run folder, or a CSV with the columns digest and subset"
    )


def damage(samples: Sequence[Sample], bad: Sequence[int], **options: object) -> str:
    dataset, contents = material(samples, bad=bad)
    try:
        check_damage(dataset, contents, **{"allow_bad": False, **options})  # type: ignore[arg-type]
    except Refused as error:
        return str(error)
    return "fine"


FIRST: Callable[[range], str] = lambda numbers: "\n".join(f"  photos/{i}.jpg: truncated" for i in numbers)  # noqa: E731


def test_check_damage__messages() -> None:
    many = plain([1000, 204])
    assert damage(many, range(37), listed=Path("runs/scans-1/audit.json")) == (
        f"37 of 1,204 images in photos/ cannot be read (3.1 %, more than 1 %). First five:\n{FIRST(range(5))}\n"
        "  The list: runs/scans-1/audit.json. Leave them out: --allow-bad"
    )
    assert damage(plain([990, 10]), range(998, 1000)) == (
        f"2 of 10 images of class 1 cannot be read (20.0 %, more than 10 %). First five:\n{FIRST(range(998, 1000))}\n"
        "  Leave them out: --allow-bad"
    )
    assert damage(plain([5, 15]), [0, 7]) == (
        "2 of 20 images in photos/ cannot be read (10.0 %, more than 1 %).\n"
        "  1 of 5 images of class 0 cannot be read (20.0 %, more than 10 %). First five:\n"
        "  photos/0.jpg: truncated\n  photos/7.jpg: truncated\n  Leave them out: --allow-bad"
    )
    assert damage(plain([2, 1]), range(3), allow_bad=True) == (
        f"none of 3 images in photos/ can be read. First five:\n{FIRST(range(3))}"
    )


@pytest.mark.parametrize(
    ("per_class", "bad", "allow_bad"),
    [([500, 500], range(10), False), ([1000, 10], [1005], False), ([5, 5], range(5), True), ([5, 5], (), False)],
)
def test_check_damage__fine(per_class: list[int], bad: Sequence[int], allow_bad: bool) -> None:
    assert damage(plain(per_class), bad, allow_bad=allow_bad) == "fine"

"""The feature store: what goes in comes out, whole or not at all, whoever else writes."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.backbones.trunk import Tap
from headway.errors import HeadwayError
from headway.features import store as store_module
from headway.features.store import DamagedShard, Row, Store, open_store
from tests.features.toy import SPEC, TAPS

FACTS = ("digest", "accepted", "reason", "pixels", "width", "height")
NAMES = [tap.name for tap in TAPS]


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "little")).digest()


def row(number: int, taps: Sequence[Tap] = TAPS, reason: str = "") -> Row:
    rng = np.random.default_rng(number)
    if reason:
        return Row(digest(number), reason, bytes(32), 0, 0, None)
    values = {tap.name: rng.normal(size=tap.dim).astype(np.float32) for tap in taps}
    return Row(digest(number), "", digest(number + 1000), 64 + number, 48, values)


def keys(numbers: Sequence[int]) -> Any:
    return np.frombuffer(b"".join(digest(number) for number in numbers), np.uint8).reshape(-1, 32)


def filled(folder: Path, *shards: Sequence[Row], taps: Sequence[Tap] = TAPS) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder, taps)
    for rows in shards:
        store.add(rows)
    store.refresh()
    return store


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


_TAPS = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(
    lambda dims: tuple(Tap(f"tap{number}", dim) for number, dim in enumerate(dims))
)


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(["", "truncated at 61 %", "damaged «é»"]), max_size=9), max_size=4), _TAPS)
def test_store__what_goes_in_comes_out(verdicts: list[list[str]], taps: tuple[Tap, ...]) -> None:
    numbers = iter(range(1000))
    parts = [[row(next(numbers), taps, reason) for reason in shard] for shard in verdicts]
    rows = [one for part in parts for one in part]
    with tempfile.TemporaryDirectory() as name:
        for store in (filled(Path(name), *parts, taps=taps), Store(Path(name), taps)):
            positions = store.find(keys(range(len(rows))))

            assert sorted(positions.tolist()) == list(range(len(rows))) == list(range(len(store)))
            assert store.removed == []
            for one, at in zip(rows, positions.tolist(), strict=True):
                seen = [store.facts(name)[at] for name in ("accepted", "reason", "width", "height")]
                assert seen == [one.accepted, one.reason, one.width, one.height]
                assert store.facts("pixels")[at].tobytes() == one.pixels
                values = store.columns([tap.name for tap in taps], np.array([at]))
                expected = [np.zeros(tap.dim) if one.values is None else one.values[tap.name] for tap in taps]
                assert values.dtype == np.float32
                assert np.array_equal(values[0], np.concatenate(expected))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 29), max_size=20), st.permutations(NAMES), st.integers(1, 3))
def test_columns__any_rows_in_any_order(wanted: list[int], taps: list[str], n_taps: int) -> None:
    rows = [row(number) for number in range(30)]
    with tempfile.TemporaryDirectory() as name:
        store = filled(Path(name), rows[:7], rows[7:9], rows[9:])

        seen = store.columns(taps[:n_taps], store.find(keys(wanted)))

        expected = [np.concatenate([rows[one].values[tap] for tap in taps[:n_taps]]) for one in wanted]  # type: ignore[index]
        assert np.array_equal(seen, np.array(expected, np.float32).reshape(len(wanted), -1) if wanted else seen)
        dims = {tap.name: tap.dim for tap in TAPS}
        assert seen.shape == (len(wanted), sum(dims[tap] for tap in taps[:n_taps]))


def test_find__what_is_there_and_what_is_not(tmp_path: Path) -> None:
    store = filled(tmp_path, [row(1), row(2)], [row(3, reason="damaged PNG")])

    assert (store.find(keys([0, 1, 2, 3, 4])) >= 0).tolist() == [False, True, True, True, False]
    assert [store.holds(digest(number)) for number in (0, 1, 3)] == [False, True, True]


def test_find__in_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path, TAPS)

    assert store.find(keys([1, 2])).tolist() == [-1, -1]
    assert not store.holds(digest(1))
    assert len(store) == 0


def test_find__digests_that_end_in_zero_bytes(tmp_path: Path) -> None:
    # numpy's fixed-width bytes drop trailing zeros when they are read one by one.
    ends = [bytes(32), b"\1" + bytes(31), b"\1\0\2" + bytes(29), b"\1" * 31 + b"\0", b"\1" * 32]
    rows = [Row(end, "", bytes(32), number, 1, row(number).values) for number, end in enumerate(ends)]
    store = filled(tmp_path, rows[:3], rows[3:])

    positions = store.find(np.frombuffer(b"".join(ends), np.uint8).reshape(-1, 32))

    assert store.facts("width")[positions].tolist() == [0, 1, 2, 3, 4]
    assert [store.holds(end) for end in ends] == [True] * 5
    assert [store.holds(end) for end in (b"\2" + bytes(31), b"\1" * 30 + bytes(2), b"\0\1" + bytes(30))] == [False] * 3
    assert Store(tmp_path, TAPS).find(np.zeros((1, 32), np.uint8)).tolist() != [-1]


def test_add__nothing_makes_no_file(tmp_path: Path) -> None:
    assert filled(tmp_path, []).removed == []
    assert list(tmp_path.iterdir()) == []


def test_add__rows_are_found_after_refresh(tmp_path: Path) -> None:
    store = filled(tmp_path, [row(1)])
    store.add([row(2)])
    before = store.holds(digest(2))
    store.refresh()

    assert (before, store.holds(digest(2))) == (False, True)


def test_add__the_same_rows_twice(tmp_path: Path) -> None:
    store = filled(tmp_path, [row(1), row(2)], [row(1), row(2)])

    assert len(shards(tmp_path)) == 1
    assert np.array_equal(store.columns(["last"], store.find(keys([2]))), row(2).values["last"][None])  # type: ignore[index]


def test_writers__two_at_once(tmp_path: Path) -> None:
    one, two = Store(tmp_path, TAPS), Store(tmp_path, TAPS)
    one.add([row(1), row(2)])
    two.add([row(2), row(3)])
    two.add([row(1), row(2)])  # the very same shard

    fresh = Store(tmp_path, TAPS)

    assert len(shards(tmp_path)) == 2
    for number in (1, 2, 3):
        seen = fresh.columns(NAMES, fresh.find(keys([number])))
        assert np.array_equal(seen[0], np.concatenate([row(number).values[tap] for tap in NAMES]))  # type: ignore[index]


def test_writers__never_share_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two machines on one shared cache may have the same process number.
    seen: list[str] = []
    write = pq.write_table

    def watch(table: pa.Table, where: Path, **options: Any) -> None:
        seen.append(str(where))
        write(table, where, **options)

    monkeypatch.setattr(pq, "write_table", watch)
    Store(tmp_path, TAPS).add([row(1)])
    Store(tmp_path, TAPS).add([row(1)])

    assert len(set(seen)) == 2
    assert all(Path(name).name.startswith(".") and name.endswith(".tmp") for name in seen)


def test_add__a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: pa.Table, where: Path, **options: Any) -> None:
        Path(where).write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)

    with pytest.raises(OSError, match="No space left"):
        Store(tmp_path, TAPS).add([row(1)])

    assert list(tmp_path.iterdir()) == []


# Damage ---------------------------------------------------------------------------------------------------------


def flip(path: Path, column: str) -> None:
    """Flip one bit in the middle of the data of one column."""
    group = pq.read_metadata(path).row_group(0)
    chunks = [group.column(position) for position in range(group.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 4
    path.write_bytes(content)


def two_shards(folder: Path) -> Store:
    return filled(folder, [row(number) for number in range(40)], [row(number) for number in range(40, 60)])


def shard_with(folder: Path, number: int) -> Path:
    return next(path for path in shards(folder) if digest(number) in pq.read_table(path)["digest"].to_pylist())


@pytest.mark.parametrize("column", FACTS)
def test_damage__in_a_fact_is_found_on_opening(tmp_path: Path, column: str) -> None:
    two_shards(tmp_path)
    path = shard_with(tmp_path, 5)
    flip(path, column)

    store = Store(tmp_path, TAPS)

    assert store.removed == [path]
    assert not path.exists()
    assert not store.holds(digest(5))
    assert store.holds(digest(45))


@pytest.mark.parametrize("column", NAMES)
def test_damage__in_a_feature_is_found_on_reading(tmp_path: Path, column: str) -> None:
    two_shards(tmp_path)
    path = shard_with(tmp_path, 5)
    flip(path, column)
    store = Store(tmp_path, TAPS)
    others = [name for name in NAMES if name != column]

    # The other columns, and the other shard, are never the worse for it.
    assert np.array_equal(store.columns(others[:1], store.find(keys([5])))[0], row(5).values[others[0]])  # type: ignore[index]
    assert store.columns(NAMES, store.find(keys([45]))).shape == (1, 11)
    with pytest.raises(DamagedShard) as caught:
        store.columns(NAMES, store.find(keys([45, 5])))

    assert str(caught.value) == f"a part of the feature cache was damaged and has been removed: {path}"
    assert not path.exists()
    assert not Store(tmp_path, TAPS).holds(digest(5))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_damage__a_torn_file_is_removed(tmp_path: Path, share: float) -> None:
    two_shards(tmp_path)
    path = shard_with(tmp_path, 5)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    store = Store(tmp_path, TAPS)

    assert (store.removed, path.exists(), len(store)) == ([path], False, 20)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_damage__any_bit_never_gives_other_numbers(place: int, bit: int) -> None:
    rows = [row(number) for number in range(12)]
    expected = np.stack([np.concatenate([one.values[tap] for tap in NAMES]) for one in rows])  # type: ignore[index]
    with tempfile.TemporaryDirectory() as name:
        filled(Path(name), rows)
        (path,) = shards(Path(name))
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << bit
        path.write_bytes(content)

        store = Store(Path(name), TAPS)
        positions = store.find(keys(range(12)))
        try:
            seen = store.columns(NAMES, positions) if (positions >= 0).all() else None
        except DamagedShard:
            seen = None

        assert seen is None or np.array_equal(seen, expected)
        assert seen is not None or not path.exists() or (positions == -1).any()


def test_damage__a_half_written_temporary_is_passed_over(tmp_path: Path) -> None:
    two_shards(tmp_path)
    (tmp_path / ".0123.tmp").write_bytes(b"PAR1")
    (tmp_path / ".0123.parquet.tmp").write_bytes(b"PAR1")

    store = Store(tmp_path, TAPS)

    assert (len(store), store.removed) == (60, [])


def test_damage__another_shape_of_shard_is_removed(tmp_path: Path) -> None:
    filled(tmp_path, [row(1)])
    pq.write_table(pa.table({"digest": ["x"]}), tmp_path / "other.parquet")

    store = Store(tmp_path, TAPS)

    assert store.removed == [tmp_path / "other.parquet"]
    assert store.holds(digest(1))


@pytest.mark.parametrize(
    "column", [pa.array([1.0, 2.0]), pa.array([[1.0], [2.0]]), None], ids=["flat", "lists", "gone"]
)
def test_damage__a_feature_of_another_shape(tmp_path: Path, column: Any) -> None:
    filled(tmp_path, [row(1), row(2)])
    (path,) = shards(tmp_path)
    table = pq.read_table(path)
    place = table.column_names.index("last")
    table = table.remove_column(place) if column is None else table.set_column(place, "last", column)
    pq.write_table(table, path)
    store = Store(tmp_path, TAPS)

    with pytest.raises(DamagedShard):
        store.columns(["last"], store.find(keys([1])))


def test_removed__by_another_process_meanwhile(tmp_path: Path) -> None:
    store = two_shards(tmp_path)
    path = shard_with(tmp_path, 5)
    path.unlink()

    with pytest.raises(DamagedShard):
        store.columns(NAMES, store.find(keys([5])))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_unreadable__is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    # A disk that fails or a file that is forbidden says nothing about the content: hours of work are not thrown away.
    store = two_shards(tmp_path)
    kept = shards(tmp_path)

    def refuse(path: Path, **_: Any) -> pq.ParquetFile:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(pq, "ParquetFile", refuse)
    for action in (lambda: Store(tmp_path, TAPS), lambda: store.columns(NAMES, store.find(keys([5])))):
        with pytest.raises(HeadwayError) as caught:
            action()
        assert str(caught.value).startswith(f"the feature cache cannot be read: {tmp_path}/")
        assert str(caught.value).endswith(f".parquet: {os.strerror(number)}")

    assert shards(tmp_path) == kept


# Others who read it ---------------------------------------------------------------------------------------------


def test_shard__any_parquet_reader_opens_it(tmp_path: Path) -> None:
    filled(tmp_path, [row(1), row(2, reason="not an image (text)")])
    (path,) = shards(tmp_path)

    records = pq.ParquetFile(path).read().to_pylist()

    assert list(records[0]) == [*FACTS, "descriptor_1", *NAMES]
    assert records[0]["digest"] == digest(1)
    assert records[0]["last"] == row(1).values["last"].tolist()  # type: ignore[index]
    assert (records[1]["accepted"], records[1]["reason"]) == (False, "not an image (text)")
    assert oct(path.stat().st_mode & 0o777) == "0o644"


def test_open__each_spec_has_a_folder(tmp_path: Path) -> None:
    one = open_store(tmp_path, SPEC, TAPS)
    again = open_store(tmp_path, dict(reversed(list(SPEC.items()))), TAPS)
    others = [open_store(tmp_path, {**SPEC, key: "other"}, TAPS) for key in SPEC]

    assert one.folder == again.folder
    assert len({one.folder, *(store.folder for store in others)}) == 1 + len(SPEC)


def test_open__another_version_of_the_code_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_store(tmp_path, SPEC, TAPS).folder
    monkeypatch.setattr(store_module, "VERSION", store_module.VERSION + 1)

    assert open_store(tmp_path, SPEC, TAPS).folder != before


def test_open__notes_the_use(tmp_path: Path) -> None:
    note = open_store(tmp_path, SPEC, TAPS).folder / "spec.json"
    os.utime(note, (1, 1))

    open_store(tmp_path, SPEC, TAPS)

    assert note.stat().st_mtime > 1000


def test_damaged__is_an_error_of_ours(tmp_path: Path) -> None:
    assert isinstance(DamagedShard(tmp_path), HeadwayError)

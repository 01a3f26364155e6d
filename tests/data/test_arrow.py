"""Columns of Arrow: the same as pyarrow's own, without pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headway.data import arrow
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make

SHAPES = arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=9).filter(lambda shape: shape[-1] > 0)
KINDS = st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8])


def test_read__columns_in_the_order_asked_for(tmp_path: Any) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [[1.0], [2.0]]})
    pq.write_table(table, tmp_path / "t.parquet")

    assert arrow.read_columns(tmp_path / "t.parquet").equals(table)
    assert arrow.read_columns(tmp_path / "t.parquet", ["c", "a"]).equals(table.select(["c", "a"]))
    with pytest.raises(pa.ArrowException, match="no columns d, no columns e"):
        arrow.read_columns(tmp_path / "t.parquet", ["a", "d", "e"])


def test_read__two_columns_of_one_name(tmp_path: Any) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")

    with pytest.raises(pa.ArrowException, match="2 columns a"):
        arrow.read_columns(tmp_path / "t.parquet", ["a"])


@given(KINDS.flatmap(lambda kind: arrays.arrays(kind, SHAPES)))
def test_numbers__are_those_of_pyarrow(values: Any) -> None:
    column = arrow.numbers(values)
    column.validate(full=True)

    flat = pa.array(values.reshape(-1))
    expected = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    assert column.type == expected.type
    # NaN is unlike itself: its bytes are compared.
    assert len(column) == len(values)
    flat = column if values.ndim == 1 else column.flatten()
    assert flat.to_numpy(zero_copy_only=False).tobytes() == values.tobytes()


def test_numbers__of_an_array_with_gaps() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, 1::2]

    assert arrow.numbers(values).to_pylist() == [[1.0, 3.0, 5.0], [13.0, 15.0, 17.0]]


@given(st.lists(st.lists(st.integers(-9, 9), max_size=20), min_size=1), st.integers(0, 30), st.data())
def test_values__of_chunks_and_of_parts_of_them(chunks: list[list[int]], start: int, data: Any) -> None:
    kind = data.draw(st.sampled_from([np.int32, np.float32, np.bool_]))
    column = pa.chunked_array(
        [pa.array([kind(value) for value in chunk], pa.from_numpy_dtype(kind)) for chunk in chunks]
    )
    column = column.slice(start)

    values = arrow.values_of(column, kind)
    assert (values.dtype, values.tolist()) == (kind, column.to_pylist())


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([1.0]), pa.array([1, None], pa.int32())])
def test_values__of_another_kind_or_with_nulls(column: Any) -> None:
    with pytest.raises(TypeError, match="nulls, expected int32"):
        arrow.values_of(pa.chunked_array([column]), np.int32)


@given(st.lists(st.booleans(), max_size=40))
def test_flags__are_those_of_pyarrow(values: list[bool]) -> None:
    column = arrow.flags(np.array(values, bool))
    column.validate(full=True)

    assert column.equals(pa.array(values, pa.bool_()))


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.sampled_from([b"", b"a" * width, b"\0" * width]))))
def test_fixed_bytes__are_those_of_pyarrow_and_nothing_is_null(values: list[bytes]) -> None:
    width = max(map(len, values), default=1) or 1
    column = arrow.fixed_bytes(values, width)
    column.validate(full=True)

    assert column.equals(pa.array([value or None for value in values], pa.binary(width)))


def test_fixed_bytes__of_another_length() -> None:
    with pytest.raises(ValueError, match=r"^a value of 2 bytes, expected 3$"):
        arrow.fixed_bytes([b"abc", b"", b"ab"], 3)


@given(st.lists(st.binary(max_size=9)))
def test_blobs__are_those_of_pyarrow(values: list[bytes]) -> None:
    column = arrow.blobs(values)
    column.validate(full=True)

    assert column.equals(pa.array(values, pa.binary()))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)))
def test_texts__are_those_of_pyarrow(values: list[str]) -> None:
    column = arrow.texts(values)
    column.validate(full=True)

    assert column.equals(pa.array(values, pa.string()))


def test_texts__half_a_character() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        arrow.texts(["whole", "\udcff"])


CODE = """
import sys
from pathlib import Path
import numpy as np
from headway.backbones.trunk import Tap
from headway.features.store import Row, open_store
from headway.results import write_pictures

folder = Path(sys.argv[1])
taps = (Tap("last", 3), Tap("stage1_mean", 2))
values = {tap.name: np.ones(tap.dim, np.float32) for tap in taps}
rows = [Row(b"a" * 32, "", b"b" * 32, 5, 4, values), Row(b"c" * 32, "torn", bytes(32), 0, 0, None)]
open_store(folder, {}, taps).add(rows)
store = open_store(folder, {}, taps)
assert store.columns(["last"], store.find(np.frombuffer(b"a" * 32, np.uint8).reshape(1, 32))).tolist() == [[1, 1, 1]]
store.descriptors(np.arange(2))
write_pictures(folder / "pictures.parquet", {"one": b"jpeg"})
print(sorted(name for name in ("pandas", "pyarrow") if name in sys.modules))
"""


def test_pandas__is_not_imported_where_features_are_kept_and_read(tmp_path: Any) -> None:
    pytest.importorskip("pandas")
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=False)

    assert (done.stderr, done.stdout) == ("", "['pyarrow']\n")


def test_data__with_two_columns_of_labels_is_refused(tmp_path: Any) -> None:
    table = pa.Table.from_arrays(
        [pa.array([make.png(0, 0)]), pa.array([0]), pa.array([0])], ["image", "label", "label"]
    )
    pq.write_table(table, tmp_path / "train.parquet")

    with pytest.raises(Refused) as caught:
        load_dataset(tmp_path)

    assert str(caught.value) == f"{tmp_path / 'train.parquet'} is damaged: fetch it again"

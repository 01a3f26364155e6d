"""Parquet files read, and columns of Arrow made of NumPy's numbers and of bytes.

As `pyarrow.parquet.read_table` and `pyarrow.array` do it, but those import pandas wherever it is installed, if only to
ask whether they were given something of pandas': a second of one core in each run, and in the middle of the pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["blobs", "fixed_bytes", "flags", "numbers", "read_columns", "texts", "values_of"]

_LARGEST = 2**31 - 1  # bytes of a column whose places are counted in 32 bits


def read_columns(source: Any, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
    """Columns of a Parquet file (a path, or what pyarrow opens), whole, each page held against its checksum, if any.

    columns  None: all

    Raises OSError, and pyarrow's errors where the file is damaged, has no such column or several of that name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        wrong = [f"{names.count(name) or 'no'} columns {name}" for name in columns or () if names.count(name) != 1]
        if wrong:
            raise pa.ArrowKeyError(", ".join(wrong))
        return file.read(names if columns is None else list(columns), use_threads=use_threads)


def values_of(column: pa.Array | pa.ChunkedArray, kind: type[np.generic]) -> NDArray[Any]:
    """A column of numbers or bools, (n,) of NumPy's `kind`; it may be read only.

    Raises TypeError where the column has other values, or nulls.
    """
    import pyarrow as pa

    if column.type != pa.from_numpy_dtype(kind) or column.null_count:
        raise TypeError(f"{column.type} with {column.null_count} nulls, expected {kind.__name__}")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_values(chunk, kind) for chunk in chunks if len(chunk)]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, kind), *parts])


def _values(chunk: pa.Array, kind: type[np.generic]) -> NDArray[Any]:
    data, own = chunk.buffers()[1], slice(chunk.offset, chunk.offset + len(chunk))
    if kind is np.bool_:
        return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[own].view(bool)
    return np.frombuffer(data, kind)[own]


def numbers(values: NDArray[np.number]) -> pa.Array:
    """(n,) → a column of that type. (n, D) → a column of lists of D."""
    import pyarrow as pa

    flat = np.ascontiguousarray(values).reshape(-1)
    column = pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])
    return column if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(column, values.shape[1])


def flags(values: NDArray[np.bool_]) -> pa.Array:
    """(n,) → a column of bool."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def fixed_bytes(values: Sequence[bytes], width: int) -> pa.Array:
    """A column of binary(width); b"" comes to be null. Raises ValueError for values of another length."""
    import pyarrow as pa

    there = np.array([bool(value) for value in values], bool)
    wrong = next((len(value) for value in values if len(value) not in (0, width)), None)
    if wrong is not None:
        raise ValueError(f"a value of {wrong} bytes, expected {width}")
    data = pa.py_buffer(b"".join(value or bytes(width) for value in values))
    return pa.Array.from_buffers(pa.binary(width), len(values), [None if there.all() else _bits(there), data])


def blobs(values: Sequence[bytes]) -> pa.Array:
    """A column of binary. Raises ValueError for more than 2 GB together."""
    import pyarrow as pa

    return _of_any_length(values, pa.binary())


def texts(values: Sequence[str]) -> pa.Array:
    """A column of string. Raises ValueError for what is no text (half a character), and as `blobs` does."""
    import pyarrow as pa

    return _of_any_length([value.encode() for value in values], pa.string())


def _of_any_length(values: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    places = np.cumsum([0, *map(len, values)])
    if places[-1] > _LARGEST:
        raise ValueError(f"a column of {places[-1]:,} bytes, {_LARGEST:,} fit")
    ends = pa.py_buffer(places.astype(np.int32))
    return pa.Array.from_buffers(kind, len(values), [None, ends, pa.py_buffer(b"".join(values))])


def _bits(values: NDArray[np.bool_]) -> pa.Buffer:
    import pyarrow as pa

    return pa.py_buffer(np.packbits(values, bitorder="little"))

"""What is worked out of features alone is worked out once: a hit equals a miss, anything else is worked out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from headway.features import derived
from headway.features.derived import place_of, read_whole

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 1, 0])
RESULT = {"probabilities": np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2), "l2": np.array(0.1)}
SHAPES = arrays_of.array_shapes(min_dims=0, min_side=0)
DTYPES = arrays_of.floating_dtypes(endianness="<") | arrays_of.integer_dtypes(endianness="<")


@given(st.dictionaries(st.sampled_from("abc"), arrays_of.arrays(DTYPES, SHAPES)))
def test_result__comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, result: dict[str, Any]) -> None:
    place = place_of(tmp_path_factory.mktemp("cache"), "labels", 1)

    place.write(result)
    found = place.read()

    assert found is not None
    assert set(found) == set(result)
    for name, array in result.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_place__is_another_one_for_anything_that_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = FEATURES.copy()
    moved[3, 2] = np.nextafter(moved[3, 2], np.float32(99))  # the least that can differ
    told: list[tuple[str, tuple[NDArray[Any] | str | float, ...]]] = [
        ("labels", (1, FEATURES, LABELS)),
        ("unknown", (1, FEATURES, LABELS)),
        ("labels", (2, FEATURES, LABELS)),
        ("labels", (1, 2, FEATURES, LABELS)),
        ("labels", (12, FEATURES, LABELS)),
        ("labels", (1, moved, LABELS)),
        ("labels", (1, FEATURES[::-1], LABELS)),
        ("labels", (1, FEATURES.reshape(3, 4), LABELS)),
        ("labels", (1, FEATURES.view(np.int32), LABELS)),
        ("labels", (1, FEATURES, 1 - LABELS)),
        ("labels", (1, LABELS, FEATURES)),
    ]

    places = [place_of(tmp_path, name, *decisive).path for name, decisive in told]
    monkeypatch.setattr(derived, "versions", lambda: {"numpy": "99"})
    places.append(place_of(tmp_path, "labels", 1, FEATURES, LABELS).path)
    monkeypatch.setattr(derived, "machine", lambda: {"processor": "another"})
    places.append(place_of(tmp_path, "labels", 1, FEATURES, LABELS).path)

    assert len(set(places)) == len(places) == 13


def test_place__depends_on_values_not_on_where_they_lie(tmp_path: Path) -> None:
    strided = np.repeat(FEATURES, 2, axis=1)[:, ::2]

    assert place_of(tmp_path, "labels", 1, strided) == place_of(tmp_path, "labels", 1, FEATURES)


def test_read__nothing_there(tmp_path: Path) -> None:
    assert place_of(tmp_path, "labels", 1).read() is None


@pytest.mark.parametrize("n", [0, 10, -40, -1])
def test_read__damaged_is_removed(tmp_path: Path, n: int) -> None:
    place = place_of(tmp_path, "labels", 1)
    place.write(RESULT)
    whole = place.path.read_bytes()
    place.path.write_bytes(whole[: n if n >= 0 else len(whole) + n])

    assert place.read() is None
    assert not place.path.exists()


def test_read__one_bit_off_is_removed(tmp_path: Path) -> None:
    place = place_of(tmp_path, "labels", 1)
    place.write(RESULT)
    whole = bytearray(place.path.read_bytes())
    at = bytes(whole).index(RESULT["probabilities"].tobytes())
    whole[at + 5] ^= 1
    place.path.write_bytes(whole)

    assert read_whole(place.path) is None
    assert not place.path.exists()


def test_read__objects_are_never_unpickled(tmp_path: Path) -> None:
    place = place_of(tmp_path, "labels", 1)
    place.path.parent.mkdir(parents=True)
    np.savez(place.path, probabilities=np.array([{}], dtype=object))

    assert place.read() is None


def test_write__nothing_large_and_nothing_where_nothing_can_be_written(tmp_path: Path) -> None:
    large, stopped = place_of(tmp_path, "labels", 1), place_of(tmp_path / "file", "labels", 1)
    (tmp_path / "file").write_text("no folder")

    large.write({"probabilities": np.zeros((64 << 18) + 1, np.float32)})
    stopped.write(RESULT)

    assert (large.read(), stopped.read()) == (None, None)
    assert not large.path.parent.exists()

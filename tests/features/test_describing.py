"""Descriptors: kept by the pass, the same whoever asks, and read once more where a cache from before lacks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from headway.data.dataset import Dataset
from headway.data.descriptors import BYTES, COLOUR_SIDE, SIDE, colour_planes, describe, grey_plane
from headway.data.images import decode
from headway.events import drain
from headway.features.describing import find_descriptors
from headway.features.extract import Features
from headway.features.store import DamagedShard, Store, open_store
from headway.features.views import View
from tests import make
from tests.features.toy import OWN, SPEC, TAPS, Memory, dataset, run

CONTENTS = [make.png(number % 3, number, (40, 30)) for number in range(12)]
EXPECTED = np.frombuffer(b"".join(describe(decode(one, "x").image) for one in CONTENTS), np.uint8).reshape(12, BYTES)


def asked(data: Dataset, features: Features, cache: Path) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    return drain(find_descriptors(data, features, OWN, cache, 2))


def reads(data: Dataset) -> int:
    assert isinstance(data.source, Memory)
    return data.source.reads


def forget(cache: Path) -> None:
    """Leave the shards as they were before there were descriptors."""
    for path in cache.glob("features/*/*.parquet"):
        table = pq.read_table(path)
        kept = [name for name in table.column_names if not name.startswith("descriptor")]
        assert len(kept) == len(table.column_names) - 1
        pq.write_table(table.select(kept), path, compression="none", use_dictionary=False, write_page_checksum=True)


def test_descriptor__is_a_small_picture() -> None:
    image = make.image(1, 5, (64, 64))
    (shown,) = np.frombuffer(describe(image), np.uint8).reshape(1, BYTES)[None]

    grey = grey_plane(shown)[0].astype(float)
    blue, red = colour_planes(shown)[0].astype(float)

    r, g, b = (
        np.asarray(image, float).reshape(SIDE, 64 // SIDE, SIDE, 64 // SIDE, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    )
    bright = 0.299 * r + 0.587 * g + 0.114 * b
    assert np.abs(grey - bright).mean() < 6
    times = SIDE // COLOUR_SIDE
    for plane, colour in ((blue, 0.564 * (b - bright)), (red, 0.713 * (r - bright))):
        coarse = 128 + colour.reshape(COLOUR_SIDE, times, COLOUR_SIDE, times).mean(axis=(1, 3))
        assert np.abs(plane - coarse).mean() < 6


def test_pass__keeps_descriptors(tmp_path: Path) -> None:
    data = dataset([*CONTENTS, b"no image"])
    features, _ = run(data, tmp_path)
    before = reads(data)

    indices, shown = asked(data, features, tmp_path)

    assert (indices.tolist(), reads(data)) == (list(range(12)), before)
    assert np.array_equal(shown, EXPECTED)


def test_pass__under_a_view_keeps_none(tmp_path: Path) -> None:
    features, _ = run(dataset(CONTENTS), tmp_path, view=View("flip"))

    assert not features.store.descriptors(features.positions)[1].any()


def test_old_cache__is_used_and_the_images_read_once_more(tmp_path: Path) -> None:
    data = dataset([*CONTENTS, b"no image"])
    run(data, tmp_path)
    forget(tmp_path)
    features, _ = run(data, tmp_path, store=open_store(tmp_path, SPEC, TAPS))
    assert features.computed == 0
    before = reads(data)

    indices, shown = asked(data, features, tmp_path)

    # Each once more, and the one by which the number of threads is chosen.
    assert (indices.tolist(), reads(data)) == (list(range(12)), before + 12 + 1)
    assert np.array_equal(shown, EXPECTED)


def test_old_cache__what_was_read_is_kept(tmp_path: Path) -> None:
    data = dataset(CONTENTS)
    run(data, tmp_path)
    forget(tmp_path)
    features, _ = run(data, tmp_path, store=open_store(tmp_path, SPEC, TAPS))
    asked(data, features, tmp_path)
    shards = sorted(tmp_path.glob("features/*/*.parquet"))

    _, shown = asked(data, features, tmp_path)

    assert np.array_equal(shown, EXPECTED)
    assert sorted(tmp_path.glob("features/*/*.parquet")) == shards


def test_old_cache__half_of_it_is_new(tmp_path: Path) -> None:
    run(dataset(CONTENTS[:5]), tmp_path)
    forget(tmp_path)
    data = dataset(CONTENTS)
    features, _ = run(data, tmp_path)
    assert features.computed == 7

    assert np.array_equal(asked(data, features, tmp_path)[1], EXPECTED)


def test_old_cache__an_image_that_is_gone_is_left_out(tmp_path: Path) -> None:
    data = dataset(CONTENTS)
    run(data, tmp_path)
    forget(tmp_path)
    features, _ = run(data, tmp_path, store=open_store(tmp_path, SPEC, TAPS))
    assert isinstance(data.source, Memory)
    data.source.contents[3] = None

    indices, shown = asked(data, features, tmp_path)

    others = [0, 1, 2, *range(4, 12)]
    assert indices.tolist() == others
    assert np.array_equal(shown, EXPECTED[others])


def test_store__a_damaged_descriptor_is_found(tmp_path: Path) -> None:
    features, _ = run(dataset(CONTENTS), tmp_path)
    (path,) = features.store.folder.glob("*.parquet")
    group = pq.read_metadata(path).row_group(0)
    chunk = next(one for one in map(group.column, range(group.num_columns)) if "descriptor" in one.path_in_schema)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 4
    path.write_bytes(content)

    with pytest.raises(DamagedShard):
        Store(features.store.folder, TAPS).descriptors(features.positions)

    assert not path.exists()

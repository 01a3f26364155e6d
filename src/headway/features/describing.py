"""Descriptors of all samples: those that the pass kept, and those that a cache from before lacks, read once more."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.backbones.preprocess import Preprocess
from headway.data.dataset import Dataset
from headway.data.descriptors import BYTES
from headway.events import Progress
from headway.features.extract import Features
from headway.features.looking import read_blind


def find_descriptors(
    dataset: Dataset, features: Features, preprocess: Preprocess, cache: Path, threads: int
) -> Generator[Progress, None, tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """(n,) the samples that have a descriptor, ascending, and (n, BYTES) uint8 their descriptors.

    Those are the accepted samples. Where the store of `features` lacks them (its shards are from before), the images
    are read once more and theirs are kept; one that can no longer be read is left out.
    """
    indices = np.flatnonzero(features.positions >= 0)
    found, there = features.store.descriptors(features.positions[indices])
    missing = indices[~there]
    if len(missing):
        read, _ = yield from read_blind(dataset, missing, preprocess, cache, threads)
        known = read.positions[missing] >= 0
        more, more_there = read.store.descriptors(read.positions[missing[known]])
        places = np.flatnonzero(~there)[known]
        found[places], there[places] = more, more_there
    assert found.shape == (len(indices), BYTES)
    return indices[there], found[there]

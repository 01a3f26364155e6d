"""What is wrong with the data, as steps from values to values."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from headway.events import Event
from headway.features.describing import find_descriptors
from headway.quality.duplicates import Duplicates, find_duplicates

if TYPE_CHECKING:
    from headway.data.dataset import Dataset
    from headway.steps import Sight


def look_for_duplicates(
    dataset: Dataset, sight: Sight, *, most: int | None = None
) -> Generator[Event, None, Duplicates]:
    """Find the images that stand several times, by their pixels and by what the pass kept of them.

    most  with more accepted images than this, near duplicates are not looked for: that time grows with their square
    """
    n = int(sight.contents.accepted.sum())
    if most is not None and n > most:
        why = f"near duplicates were not looked for among {n:,} images (more than {most:,}): headway audit does"
        return find_duplicates(sight.contents, why=why)
    session, preprocess = sight.ready.session, sight.ready.preprocess
    described, descriptors = yield from find_descriptors(
        dataset, sight.features, preprocess, session.cache, session.threads
    )
    return find_duplicates(sight.contents, descriptors, described)

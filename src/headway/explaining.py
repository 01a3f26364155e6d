"""The worst mistakes of a run explained: what in each image spoke for the wrong answer, as small pictures."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headway.data.dataset import Dataset
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.runtime import BATCH
from headway.errors import HeadwayError
from headway.events import Detail, Event
from headway.explanation.opening import open_explainer
from headway.explanation.overlay import encoded, thumbnail
from headway.explanation.saliency import Explainer, is_quick
from headway.features.looking import prepared_images
from headway.results import write_pictures

EXPLANATIONS = "explanations.parquet"


def picture_mistakes(
    run: Path, dataset: Dataset, mistakes: Sequence[Mapping[str, Any]], threads: int | None
) -> Generator[Event, None, None]:
    """Write explanations.parquet of the run folder, from its bundle, for the report.

    mistakes  as `results.told_mistakes` tells them; each is explained for the class that was answered

    Where the network cannot be explained, or not soon, there is no such file, and a Detail says why.
    """
    pictures: dict[str, bytes] = {}
    if mistakes:
        try:
            bundle = load_bundle(run / "bundle", threads)
            explainer = open_explainer(bundle, threads=threads)
            if not is_quick(explainer):
                yield Detail("explain", "not the mistakes of this network, which take long: headway explain")
                return
            pictures = _pictures(explainer, bundle, dataset, mistakes)
        except HeadwayError as error:  # the run is good without them
            yield Detail("explain", str(error))
            return
    write_pictures(run / EXPLANATIONS, pictures)


def _pictures(
    explainer: Explainer, bundle: Bundle, dataset: Dataset, mistakes: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    said = {str(mistake["name"]): bundle.classes.index(mistake["predicted"]) for mistake in mistakes}
    wanted = [(index, name) for index, name in enumerate(dataset.names) if name in said]
    pictures: dict[str, bytes] = {}
    for start in range(0, len(wanted), BATCH):
        # An image that cannot be read any more is left out; the report then shows its mistake without.
        read = [(name, prepared_images(dataset, [index], bundle.preprocess)) for index, name in wanted[start:][:BATCH]]
        seen = {name: images[0] for name, images in read if len(images)}
        if not seen:
            continue
        found = explainer.explain(np.stack(list(seen.values())), [said[name] for name in seen])
        for (name, image), one in zip(seen.items(), found, strict=True):
            pictures[name] = encoded(thumbnail(image, one.heat(len(image))), "JPEG")
    return pictures

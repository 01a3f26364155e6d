"""Images in parts, each of which one core looks at while the others look at theirs. No torch: bundles use it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[np.float32]]


def start_parts(
    pool: Executor, look: Callable[[NDArray[np.uint8]], Outputs], images: NDArray[np.uint8], part: int
) -> Callable[[], dict[str, NDArray[np.float32]]]:
    """Begin on images, `part` at a time; the answer when it is asked for: a core that is ready goes on with the next.

    pool    as many threads as there are cores for it
    look    (n, S, S, 3) uint8, n at most `part` → named outputs, (n, ·) float32 each; raises what the answer raises
    images  (N, S, S, 3) uint8, N at least 1;  the answer holds (N, ·) of every output, in the order of the images
    """
    begun = [pool.submit(look, images[start : start + part]) for start in range(0, len(images), part)]

    def answer() -> dict[str, NDArray[np.float32]]:
        found = [seen.result() for seen in begun]
        return {name: np.concatenate([rows[name] for rows in found]) for name in found[0]}

    return answer

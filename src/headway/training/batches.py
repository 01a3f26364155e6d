"""Which images make which batch, and which process does what part of it. Stateless: all of it follows from numbers."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray

from headway.world import World


def seed_of(*parts: int | str) -> int:
    """A seed, 0..2**63-1, that depends on `parts` only."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def shuffle(n: int, seed: int, epoch: int) -> NDArray[np.intp]:
    """The order (n,) of an epoch: a function of seed and epoch."""
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    order: NDArray[np.intp] = torch.randperm(n, generator=generator).numpy()
    return order


def count_batches(n: int, size: int, fewest: int = 1) -> int:
    """How many batches of `size` there are of n images, a last one of less than `fewest` not counted."""
    whole, rest = divmod(n, size)
    return max(1, whole + (rest >= fewest and rest > 0))


def cut_batches(order: NDArray[np.intp], size: int, fewest: int = 1) -> list[NDArray[np.intp]]:
    """Batches of `size`, the last of what is left; less than `fewest` are added to the batch before."""
    n = count_batches(len(order), size, fewest)
    return [order[low : low + size] for low in range(0, (n - 1) * size, size)] + [order[(n - 1) * size :]]


def own_part(n: int, world: World) -> slice:
    """The contiguous part of a batch of `n` images that this process does; sizes differ by one at most."""
    each, rest = divmod(n, world.size)
    start = world.rank * each + min(world.rank, rest)
    return slice(start, start + each + (world.rank < rest))


def largest_part(n: int, world: World) -> int:
    """Images of the process that has most of a batch of `n`."""
    return math.ceil(n / world.size)

"""The processes that work on one command: alone, or several under torchrun. What one of them says, all may hear.

Nothing of it imports torch while there is one process only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from headway.machine import usable_cores

Value = TypeVar("Value")

# While the first process solves a head or judges, the others wait; the usual limit of half an hour is for hung jobs.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is. `rank` 0..size-1."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0


ALONE = World()


def around() -> World:
    """The processes that torchrun started, as its environment tells; one where there was no torchrun."""
    return World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def threads_of(asked: int | None) -> int:
    """Processor cores for this process: as asked, else its fair share of those of the machine."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun tells how many processes this machine has
    return asked or max(1, usable_cores() // beside)


def join(device: str = "cpu") -> World:
    """Meet the other processes. device: "cpu" talks over gloo, a GPU over NCCL. Once for each process."""
    world = around()
    if world.size > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    return world


def share(world: World, value: Value | None = None) -> Value:
    """What the leader holds, in every process. Others give nothing. Plain values only: it is pickled on the way."""
    if world.size == 1:
        return value  # type: ignore[return-value]  # the leader always gives one
    from torch import distributed

    box: list[Any] = [value]
    distributed.broadcast_object_list(box, src=0)
    held: Value = box[0]
    return held


def gather(world: World, value: Value) -> list[Value]:
    """What each process holds, in the order of ranks, in every process."""
    if world.size == 1:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * world.size
    distributed.all_gather_object(found, value)
    return found


def barrier(world: World) -> None:
    """Go on when all processes have come here."""
    gather(world, None)

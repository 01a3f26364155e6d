"""Memory that does not suffice, as the CPU and the GPU say it."""

from __future__ import annotations

import torch

_CPU_SAYS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory does not suffice."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_SAYS)

"""Dropout whose random numbers cost a tenth of torch's on a processor: there they took half of a small head's step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16  # of a random number of 16 bits


class Dropout(nn.Dropout):
    """(…, D) → the same shape: while training each number is 0 with probability p, else divided by 1 - p.

    Srivastava et al. 2014, in the form where nothing is left to do in prediction. On a processor p holds to 1 / 65,536,
    and the numbers come from SFC64, seeded by one draw of torch's generator: the same state of it gives the same bits.
    torch draws 53 bits for each element, one after the other. Elsewhere than on a processor it is torch's own.
    """

    @property
    def plain(self) -> bool:
        """Whether `mask` tells all that it does while training on a processor."""
        return 0 < round(self.p * _LEVELS) < _LEVELS

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or input.device.type != "cpu" or not self.plain:
            return super().forward(input)
        return input * self.mask(input)

    def mask(self, input: Tensor) -> Tensor:
        """What `input` is multiplied by: 0 or 1 / (1 - p), of its shape and dtype, on the CPU. Draws anew each time."""
        dropped = round(self.p * _LEVELS)
        drawn = np.random.SFC64(int(torch.randint(1 << 62, ()))).random_raw(-(-input.numel() // 4))  # four in each
        kept = drawn.view(np.uint16)[: input.numel()] >= np.uint16(dropped)
        mask = torch.from_numpy(kept.view(np.uint8)).to(input.dtype).mul_(_LEVELS / (_LEVELS - dropped))
        return mask.view(input.shape)

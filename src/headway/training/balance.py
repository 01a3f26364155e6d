"""Classes of unequal size: what --balance does so that each of them counts alike.

weights  the loss counts each image by N / (C * images of its class), while training
logit    nothing while training; afterwards the logits z are shifted (logit adjustment: Menon et al., 2021, "Long-tail
         learning via logit adjustment", equation 9, with tau = 1):

             z'_c = z_c - T log(p_c C)

         p_c   the share of class c among the training images
         T     the temperature at which softmax(z / T) fits images that the head did not learn from: it is then
               probabilities that are divided by p_c, which, where they are right, is best for balanced accuracy

The shift is part of the last layer's bias: a bundle carries it, and the temperature that is shipped is fitted after it,
on validation images as common as they are. What is said of confidence is said of images like those.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.calibrate import fit_temperature
from headway.training.heads import Head, Layer

BALANCES = ("none", "weights", "logit")


def balanced_weights(y: NDArray[np.integer[Any]], n_classes: int) -> NDArray[np.float64]:
    """(C,) float64 class weights N / (C * count), so that each class counts alike; 0 for a class without samples."""
    counts = np.bincount(y, minlength=n_classes).astype(np.float64)  # (C,)
    with np.errstate(divide="ignore"):
        return np.where(counts > 0, len(y) / (n_classes * counts), 0.0)


def shift(counts: NDArray[np.integer[Any]], temperature: float) -> NDArray[np.float32]:
    """(C,) what is added to logits: -T log(p C), 0 for equal classes. counts (C,) >= 1 training images of each."""
    share = counts / counts.sum()
    return np.asarray(-temperature * np.log(share * len(counts)), np.float32)


def shifted(
    head: Head, logits: NDArray[np.float32], labels: NDArray[np.integer[Any]], counts: NDArray[np.integer[Any]]
) -> tuple[Head, NDArray[np.float32]]:
    """`head` with the shift in the bias of its last layer, and its shifted logits.

    logits, labels  (N, C) before the shift, and (N,), of images that the head did not learn from
    counts          (C,) training images of each class
    """
    last, added = head.layers[-1], shift(counts, fit_temperature(logits, labels))
    layers = (*head.layers[:-1], Layer(last.weight, last.bias + added))
    return replace(head, layers=layers), logits + added

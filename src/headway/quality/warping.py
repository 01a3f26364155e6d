"""Lay one small grey image over another: which crop and scale of it, and how alike they are then.

The registration is Gauss-Newton on two scales and two shifts (Lucas and Kanade, 1981; Baker and Matthews, 2004), from
blurred images to sharper ones. As crops are upright boxes, rows and columns are sampled one after the other, each by a
small matrix, and thousands of pairs go at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]

_BLURS = (1.5, 1.5)  # pixels, of the first look
_SHARPER = (1.0, 0.5, 0.5)
_JUDGED = 0.5  # blur at which likeness is judged
_POWER = 0.7  # of a gradient's size that counts: else one strong edge, a horizon, would make two pictures alike
_SOFT = 4.0  # squared grey levels: gradients below it count as they are
_SCALES = (0.75, 1.06)  # of a crop that may be found, share of the side
_SHIFT = 0.25  # of its centre, half sides
_STEP = 0.15  # at most, of one iteration
_RIDGE = 1e-3  # of the normal equations: empty pictures have none
_NOISE = 0.3  # of a pixel, to that power: below it there is nothing to compare
_CONTRAST = 0.6  # the least ratio of their contrasts (to that power): a copy has about that of its original
_PROMISING = 0.5  # likeness after the first look from which the second is taken


def likeness(originals: Floats, copies: Floats, scale: float = 1.0) -> Floats:
    """How alike each copy is to the best crop of its original: (P,) float32, -1 ... 1.

    originals, copies  (P, S, S) float32, grey levels 0 ... 255;  scale  of the crop that is tried first
    The likeness is the correlation of their gradients, weak ones lifted: neither brightness nor contrast matters much.
    """
    boxes = np.tile(np.array([scale, 0.0, scale, 0.0], np.float32), (len(originals), 1))
    boxes = _register(originals, copies, boxes, _BLURS)
    found = _correlation(originals, copies, boxes)
    hopeful = np.flatnonzero(found >= _PROMISING)
    originals, copies = originals[hopeful], copies[hopeful]
    found[hopeful] = _correlation(originals, copies, _register(originals, copies, boxes[hopeful], _SHARPER))
    return found


def places(boxes: Floats, side: int) -> Floats:
    """(P, 2) scale and shift along one axis → (P, S) float32: where the S pixels of a crop lie in the original."""
    u = (2 * np.arange(side, dtype=np.float32) + 1) / side - 1  # -1 ... 1 across the picture
    where = ((boxes[:, :1] * u + boxes[:, 1:]) + 1) * (side / 2) - 0.5
    return where.astype(np.float32, copy=False)


def interpolation(where: Floats) -> Floats:
    """(P, S) places → (P, S, S) float32: rows that take the values there by cubic convolution (Keys, 1981)."""
    side = where.shape[1]
    away = np.abs(np.clip(where, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    near = (1.5 * away - 2.5) * away * away + 1
    far = ((2.5 - 0.5 * away) * away - 4) * away + 2
    rows: Floats = np.where(away < 1, near, np.where(away < 2, far, 0)).astype(np.float32)
    rows /= rows.sum(axis=2, keepdims=True)
    return rows


def _register(originals: Floats, copies: Floats, boxes: Floats, blurs: tuple[float, ...]) -> Floats:
    """(P, 4) boxes (scale and shift across, scale and shift down) that lay the originals over the copies."""
    side = originals.shape[1]
    u = (2 * np.arange(side, dtype=np.float32) + 1) / side - 1
    eye = np.eye(5, dtype=np.float32)
    for blur in blurs:
        soft, wanted = _blurred(originals, blur), _blurred(copies, blur)
        seen, inside = _cut(soft, boxes)
        across, down = np.zeros_like(seen), np.zeros_like(seen)
        across[:, :, 1:-1] = (seen[:, :, 2:] - seen[:, :, :-2]) * (side / 4) / boxes[:, 0, None, None]
        down[:, 1:-1] = (seen[:, 2:] - seen[:, :-2]) * (side / 4) / boxes[:, 2, None, None]
        # How the picture changes with each number of the box, and with its brightness: (P, 5, S * S)
        slopes = np.stack([across * u, across, down * u[:, None], down, np.ones_like(seen)], axis=1)
        slopes = (slopes * inside[:, None]).reshape(-1, 5, side * side)
        error = ((wanted - seen) * inside).reshape(-1, side * side, 1)
        normal = slopes @ slopes.transpose(0, 2, 1)
        ridge = _RIDGE * (normal[:, range(5), range(5)].max(axis=1) + 1)
        step = np.linalg.solve(normal + eye * ridge[:, None, None], slopes @ error)[:, :4, 0]
        boxes = boxes + np.clip(step, -_STEP, _STEP)
        boxes[:, 0::2] = np.clip(boxes[:, 0::2], *_SCALES)
        boxes[:, 1::2] = np.clip(boxes[:, 1::2], -_SHIFT, _SHIFT)
    return boxes


def _correlation(originals: Floats, copies: Floats, boxes: Floats) -> Floats:
    """(P,) correlation of the gradients where both pictures are; 0 where one has much less contrast."""
    seen, inside = _cut(_blurred(originals, _JUDGED), boxes)
    wanted = _blurred(copies, _JUDGED)
    both = inside[:, :-1, :-1] & inside[:, 1:, 1:]
    (ax, ay), (bx, by) = _gradients(seen), _gradients(wanted)
    of_both, of_a, of_b = (
        ((x1 * x2 + y1 * y2) * both).sum(axis=(1, 2))
        for x1, y1, x2, y2 in ((ax, ay, bx, by), (ax, ay, ax, ay), (bx, by, bx, by))
    )
    noise = _NOISE**2 * both.sum(axis=(1, 2))
    found: Floats = of_both / np.sqrt((of_a + noise) * (of_b + noise))
    even = np.sqrt(np.minimum(of_a, of_b) / np.maximum(np.maximum(of_a, of_b), 1e-6)) >= _CONTRAST
    return np.where(even, found, 0).astype(np.float32)


def _cut(images: Floats, boxes: Floats) -> tuple[Floats, Masks]:
    """The boxes of the images (P, S, S), and which of their pixels the images have."""
    side = images.shape[1]
    columns, rows = places(boxes[:, :2], side), places(boxes[:, 2:], side)
    here, there = ((where > -0.75) & (where < side - 0.25) for where in (columns, rows))
    cut = interpolation(rows) @ images @ interpolation(columns).transpose(0, 2, 1)
    return cut.astype(np.float32, copy=False), there[:, :, None] & here[:, None, :]


def _blurred(images: Floats, sigma: float) -> Floats:
    """By a Gaussian of `sigma` pixels that ends at the border."""
    away = np.subtract.outer(np.arange(images.shape[1]), np.arange(images.shape[1]))
    weights = np.exp(-(away**2) / (2 * sigma * sigma))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    soft: Floats = weights @ images @ weights.T
    return soft


def _gradients(images: Floats) -> tuple[Floats, Floats]:
    """Across and down, (P, S - 1, S - 1) each, their size to the power of _POWER."""
    corner = images[:, :-1, :-1]
    across, down = images[:, :-1, 1:] - corner, images[:, 1:, :-1] - corner
    lift = ((across * across + down * down + _SOFT) ** ((_POWER - 1) / 2)).astype(np.float32)
    return across * lift, down * lift

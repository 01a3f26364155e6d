"""Planes through the features: where images lie when only two numbers of each are kept."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.unknown import Unknown
from headway.errors import Refused
from headway.machine import version

Places = NDArray[np.float64]
NEIGHBOURS = 10  # most that the agreement of a map is told by
_UMAP_AXES = 50  # what UMAP's neighbours are looked for among: as usual, and as good as all (docs/map.md)
_UMAP_NEIGHBOURS = 15  # UMAP's own default
_BLOCK = 512


@dataclass(frozen=True)
class Plane:
    """Where images lie in one view.

    places  (n, 2), finite; both axes in the same unit
    held    what each of the two axes holds, as shares 0..1: of the variance of all features (principal), or of what
            sets the means of classes apart (discriminant); () where axes hold nothing that could be told (UMAP)
    """

    places: Places
    held: tuple[float, ...]


def check_view(name: str) -> None:
    """Raise Refused where the view is "umap" and umap-learn is not installed; nothing is imported for it."""
    if name == "umap" and version("umap-learn") is None:
        raise Refused(
            "--map umap needs umap-learn, which is not installed: pip install 'headway[map]', or take --map pca"
        )


def along_axes(known: Unknown, features: NDArray[np.float32]) -> Places:
    """Features (n, D) → places (n, R) along the axes in which those of training images vary most, the widest first."""
    return np.asarray(((features - known.centre) * known.scale) @ known.axes.T, np.float64)


def directions(known: Unknown, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n, D) → the same, standardised and of length 1: their distances are those of cosines (kNN's usual)."""
    place = (features - known.centre) * known.scale
    lengths = np.linalg.norm(place, axis=1, keepdims=True)
    return np.asarray(place / np.maximum(lengths, 1e-12), np.float32)


def principal(known: Unknown, along: Places) -> Plane:
    """The plane in which the standardised features of training images vary most (principal components).

    along (n, R), R >= 2. Of an axis and its opposite, which are as good, the one is taken whose largest weight is
    above 0, so that the same features give the same picture.
    """
    total = max(1, int((known.scale > 0).sum()))  # a standardised feature has a variance of 1
    held = tuple(float(1 / np.square(width, dtype=np.float64) / total) for width in known.widths[:2])
    return Plane(along[:, :2] * _signs(known.axes[:2]), held)


def discriminant(known: Unknown, along: Places) -> Plane:
    """The plane in which the mean training images of classes lie farthest apart, their spread within being 1.

    Linear discriminant analysis (Fisher 1936; Rao 1948) along the axes of `known`, every class counting alike. Two
    classes are set apart by one axis: the other is then the widest one, without what the first tells.

    along (n, R), R >= 2; at least two classes
    """
    means = known.means.astype(np.float64)
    _, sizes, turns = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    whiten = known.whiten.astype(np.float64)
    shares = np.square(sizes) / max(float(np.square(sizes).sum()), np.finfo(np.float64).tiny)
    axes = turns[:2] @ whiten  # (2, R): a place along the axes → a place in the plane
    if len(means) == 2:
        first = axes[0]
        rest = np.eye(len(first))[0] - first[0] / (first @ first) * first
        spread = float(np.sqrt(np.square(rest / known.widths).sum()))
        axes = np.stack([first, rest / max(spread, np.finfo(np.float64).tiny)])
        shares = np.array([1.0, 0.0])
    axes = axes * _signs(axes)[:, None]
    return Plane(along @ axes.T, (float(shares[0]), float(shares[1])))


def neighbourhood(known: Unknown, along: Places, seed: int) -> Plane | None:
    """UMAP (McInnes et al. 2018): images that are near each other stay so; all other distances mean nothing.

    along (n, R), n >= 4, R >= 2. It starts from the principal plane, which keeps more of the whole than a random start
    (Kobak and Linderman 2021). One thread, so that the same seed gives the same picture. None where all are alike.
    """
    start = principal(known, along).places
    if not start.std(axis=0).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package that we do not keep: numba's and its own
        import umap

        start = start / start[:, 0].std() * 10
        found = umap.UMAP(
            n_neighbors=min(_UMAP_NEIGHBOURS, len(along) - 1),
            init=start.astype(np.float32),
            random_state=seed % 2**32,
            n_jobs=1,
        ).fit_transform(along[:, :_UMAP_AXES].astype(np.float32))
    return Plane(np.asarray(found, np.float64), ())


def agreement(places: NDArray[Any], labels: NDArray[np.integer[Any]], k: int) -> float:
    """How often the k nearest neighbours of an image (n, d) have its label (n,): a share 0..1. 1 <= k < n."""
    n, right = len(places), 0
    squares = np.square(places).sum(axis=1)
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        distances = squares - 2 * (places[rows] @ places.T)  # (b, n), what all of a row share left out
        distances[np.arange(len(rows)), rows] = np.inf
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        right += int((labels[nearest] == labels[rows, None]).sum())
    return right / (n * k)


def by_chance(labels: NDArray[np.integer[Any]]) -> float:
    """How often another image drawn at random has the same label (n,), n >= 2: what an agreement is held against."""
    counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
    n = len(labels)
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))


def spread_out(places: Places, first: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Rows of `places` (n, 2): those of `first`, then always the one farthest from all before; at most `most`."""
    if not len(first):
        middle = np.square(places - places.mean(axis=0)).sum(axis=1)
        first = np.array([int(middle.argmin())], np.intp)
    taken = list(map(int, first[:most]))
    far = np.full(len(places), np.inf)
    for row in taken:
        far = np.minimum(far, np.square(places - places[row]).sum(axis=1))
    far[taken] = -1
    while len(taken) < min(most, len(places)):
        row = int(far.argmax())
        taken.append(row)
        far = np.minimum(far, np.square(places - places[row]).sum(axis=1))
        far[row] = -1
    return np.array(taken, np.intp)


def _signs(directions: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(k, R) → (k,) 1 or -1: what makes the largest weight of each direction positive."""
    largest = np.abs(directions).argmax(axis=1)
    signs: NDArray[np.float64] = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    return signs

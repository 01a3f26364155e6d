"""What `fit` costs beside looking at images and training a network: heads, evidence, and all that is told of a run.

Terms of `cost`, counted on runs of 60 to 12,000 images of 2 to 100 classes. Nearly all of it is fits of linear heads,
so a pass over features, forward and back, is the unit; how many passes a fit takes depends on the data and is a mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.advice.cost import Speeds, Work

REFERENCE = 0.0115  # seconds of `measuring.reference` on the machine that the seconds here were measured on

# Seconds of a pass beyond its products: in all, and for each parameter, as L-BFGS looks back on fifty steps.
_PASS, _PARAMETER = 6e-4, 3e-8
_SOFTMAX = 1.5  # times the products of a pass: what stands between them
# Passes of a search on the last tap, and then on all taps: of few classes, of more, and of problems so large that the
# search is content with less. Of few classes half as many where they are far apart, twice as many where they are not.
_PASSES = {"few": (95, 70), "many": (130, 55), "large": (40, 40)}
_FEW, _LARGE = 4, 2e8  # classes; multiplications of one product, as training.path
# Passes of a fit that begins at nothing: to its end (of few classes, of more), as for a learning curve, as for a look
# at labels.
_ANEW, _ANEW_MANY, _ROUGH, _LOOSE = 30, 16, 15, 10
_FOLDED = 0.5  # of the passes of a search, for each part that is held out
_READ = 1e-9  # seconds a byte of features that comes from the store
_NUMBER = 4  # bytes
_SEARCH, _EVIDENCE, _AUDIT, _MAP, _OPEN = 0.1, 0.05, 0.05, 0.01, 0.1  # seconds, whatever the data
_SPLIT = 0.005  # seconds of another split of the same images
_CHECKED, _DRAWN = 1.6e-4, 1.5e-4  # seconds an image
_AUDITED, _AUDIT_FOLDS, _AUDIT_FITS, _MAPPED = 10_000, 3, 4, 2_000  # as auditing.BESIDE and mapping
_MISTAKEN, _MISTAKES = 0.2, 24  # of the test images; pictures at the most
_LOOKS = 3  # through the engine that explaining an image takes, and decodings
_PICTURED = 300  # thumbnails of a report that is full


def one_pass(n: int, dim: int, work: Work, speeds: Speeds) -> float:
    """Seconds of a pass over features (n, dim), with what L-BFGS does after it."""
    own = (_PASS + _PARAMETER * work.classes * (dim + 1)) * speeds.reference / REFERENCE
    return own + _SOFTMAX * 2 * n * dim * work.classes / 1e9 * speeds.product


def solving(work: Work, speeds: Speeds, *, all_taps: bool) -> float:
    """The search for a linear head and its L2, on features of the last layer, or of all taps after it."""
    from headway.training.folds import FOLDS, few_to_choose_by  # with torch, whose import is a term of its own

    last, every = work.taps
    both = all_taps and every > last
    large = work.train * last * work.classes > _LARGE
    first, second = _PASSES["large" if large else "few" if work.classes <= _FEW else "many"]
    parts = FOLDS if few_to_choose_by(work.train, work.val) else 0
    whole = 0.0
    for passes, dim in ((first, last), (second if both else 0, every)):
        whole += passes * one_pass(work.train, dim, work, speeds)
        whole += parts * _FOLDED * passes * one_pass(work.train * (FOLDS - 1) // FOLDS, dim, work, speeds)
    read = (work.train + work.val) * (every if both else last) * _NUMBER * _READ
    return whole + (_SEARCH + read) * speeds.reference / REFERENCE


def evidence(work: Work, speeds: Speeds) -> float:
    """The learning curve and what else is asked of the features."""
    from headway.advice.subsets import plan_levels

    dim = work.taps[0]
    levels, _ = plan_levels(work.train, work.classes, dim)
    fits = sum(level.draws * _ROUGH * one_pass(level.n, dim, work, speeds) for level in levels)
    return fits + _EVIDENCE * speeds.reference / REFERENCE


def repeating(work: Work, speeds: Speeds) -> float:
    """The same head on other splits."""
    passes = _ANEW if work.classes <= _FEW else _ANEW_MANY
    each = passes * one_pass(work.train, work.taps[0], work, speeds) + _SPLIT * speeds.reference / REFERENCE
    return work.repeats * each


def auditing(work: Work, speeds: Speeds) -> float:
    """What is wrong with the data, as far as a run asks."""
    n = min(work.images, _AUDITED)
    fits = _AUDIT_FITS * _LOOSE * one_pass(n * (_AUDIT_FOLDS - 1) // _AUDIT_FOLDS, work.taps[0], work, speeds)
    return fits + (_AUDIT + _CHECKED * work.images) * speeds.reference / REFERENCE


def mapping(work: Work, speeds: Speeds) -> float:
    """The feature map."""
    return (_MAP + _DRAWN * min(work.test, _MAPPED)) * speeds.reference / REFERENCE


def explaining(work: Work, speeds: Speeds) -> float:
    """Mistakes that are explained, of which as many are expected as a usual classifier makes."""
    mistakes = min(_MISTAKES, _MISTAKEN * work.test)
    return _OPEN * speeds.reference / REFERENCE + mistakes * _LOOKS * (speeds.engine + speeds.decode)


def picturing(work: Work, speeds: Speeds) -> float:
    """Thumbnails of the report."""
    return min(work.test, _PICTURED) * speeds.decode

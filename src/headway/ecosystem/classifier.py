"""An image classifier for scikit-learn: what `headway fit` makes of a probe, as an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from headway.data.dataset import Dataset
from headway.data.split import make_split
from headway.ecosystem.answering import Answering, classes_and_labels
from headway.ecosystem.given import dataset_of
from headway.ecosystem.parameters import Heading, Looking, cache_of, settings_of
from headway.ecosystem.passing import Look, again_if_damaged, asked_of, facts, see, settled_of
from headway.ecosystem.refusing import in_python
from headway.ecosystem.shipping import indices_of, save
from headway.ecosystem.solving import Solved, logits_of, solve_head, torch_threads
from headway.events import drain
from headway.features.looking import look_again
from headway.features.views import parse_views
from headway.settings import FitSettings
from headway.steps import probe_data


@dataclass(eq=False, repr=False, kw_only=True)
class HeadwayClassifier(Answering, Heading, Looking, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of images: a pretrained network sees each once, a head is trained on what it saw.

    X is a sequence of paths, PIL images, uint8 arrays (height, width, 3), or bytes of files; or a uint8 array
    (N, height, width, 3). y are labels of any kind. What was seen is kept in headway's cache, so folds, searches and
    later runs cost no second pass.

    Parameters have the names and values of the options of `headway fit`: those of HeadwayFeatures (taps: auto, last or
    all) and of HeadwayHead, and views. One image in ten is held back (`val`): by content, as `fit` cuts it. The head
    is the one that `headway fit` trains on the same images.

    Fitted: classes_ (C,), l2_, temperature_, look_ (how images are looked at), solved_ (the head, and why it was
    chosen), pass_ (images computed, and those from the cache).
    """

    taps: str = "auto"
    views: int | str | None = None

    def fit(self, X: Any, y: Any) -> HeadwayClassifier:
        """Look at the images X, train a head for their labels y (N,).

        Raises WrongInput (a ValueError) where they or a parameter cannot work, HeadwayError where an image cannot be
        read. Same input, same machine: same bits.
        """
        settings = settings_of(self.get_params(deep=False))
        self.classes_, labels = classes_and_labels(y)
        dataset = dataset_of(X, labels, self.classes_.tolist())
        check_consistent_length(dataset.names, labels)
        cache = cache_of(self.cache_dir)
        with in_python():
            self.look_, self.solved_, self.pass_ = again_if_damaged(lambda: _fitted(dataset, settings, self.val, cache))
        return self

    def _logits(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        dataset, head = dataset_of(X), self.solved_.head

        def columns() -> NDArray[np.float32]:
            sight = see(dataset, self.look_, cache_of(self.cache_dir))
            return sight.features.columns(head.taps, np.arange(len(dataset)))

        with in_python():
            return logits_of(head, again_if_damaged(columns))

    def save_bundle(self, path: str | Path, X: Any, y: Any = None) -> dict[str, Any]:
        """Write the bundle folder `path`, which `headway predict`, `serve` and `export` take; it needs no torch.

        X  images as those it was fitted on, one at least: where the bundle gives another answer for them than the
           network in torch does, nothing is written
        y  their labels (N,), where no fit saw these images: how right it is on them is told in the bundle's card

        Prediction sets and the flag of unknown images are not in it: those take a run of `headway fit`. A bundle that
        stands at `path` is replaced. Returns what was found: "n", "same_top1", "probability_difference", ..., and with
        y "test". Raises WrongInput where y or `path` cannot be, HeadwayError where the answers differ.
        """
        check_is_fitted(self)
        labels = None if y is None else indices_of(column_or_1d(y), self.classes_)
        dataset = dataset_of(X, labels, self.classes_.tolist())
        if labels is not None:
            check_consistent_length(dataset.names, labels)
        cache = cache_of(self.cache_dir)
        with in_python():
            return again_if_damaged(lambda: save(dataset, self.look_, self.solved_, cache, Path(path)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = False, True, True
        return tags


def _fitted(dataset: Dataset, settings: FitSettings, val: float, cache: Path) -> tuple[Look, Solved, dict[str, Any]]:
    """The look that was settled, the head, and what the pass cost."""
    asked = asked_of(settings)
    sight = see(dataset, asked, cache)
    split = make_split(dataset, sight.contents, seed=settings.seed, val=val, test=0)
    views = [
        drain(look_again(sight.ready, split.train, cache, view=view))[0].columns
        for view in parse_views(settings.views, settings.seed)
    ]
    with torch_threads(sight.ready.session.threads):
        solved = solve_head(probe_data(dataset, sight, split, views), settings)
    return settled_of(sight.ready, asked), solved, facts(sight)

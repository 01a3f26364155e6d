"""A transformer for scikit-learn: images in, what a pretrained network sees of them out, each image seen once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from headway.ecosystem.given import dataset_of
from headway.ecosystem.parameters import Looking, cache_of, settings_of
from headway.ecosystem.passing import again_if_damaged, asked_of, see, settle
from headway.ecosystem.refusing import WrongInput, in_python


@dataclass(eq=False, repr=False, kw_only=True)
class HeadwayFeatures(TransformerMixin, Looking, BaseEstimator):  # type: ignore[misc]
    """Images to features (N, D) float32, through headway's cache: known images cost no pass, in any fold or process.

    X is a sequence of paths, PIL images, uint8 arrays (height, width, 3), or bytes of files; or a uint8 array
    (N, height, width, 3).

    Parameters have the names and values of the options of `headway fit`: backbone, weights, image, resize, engine,
    device, offline, threads, seed; taps (last, or all: the network's stages beside it); image_fit for the option `fit`;
    cache_dir, None = HEADWAY_CACHE_DIR, else the user's cache folder.

    Fitted: look_ (how images are looked at: framing, engine, weights). An image's features depend on it and on that
    alone, never on the images beside it.
    """

    taps: str = "last"

    def fit(self, X: Any, y: Any = None) -> HeadwayFeatures:
        """Settle how images like X are looked at. No pass yet. Raises WrongInput where X or a parameter cannot work."""
        settings = settings_of(self.get_params(deep=False))
        if settings.taps == "auto":
            raise WrongInput("taps auto: expected last or all, as there are no labels here to choose by")
        with in_python():
            self.look_ = settle(dataset_of(X), asked_of(settings), cache_of(self.cache_dir))
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """(N, D) float32. Raises HeadwayError where an image cannot be read."""
        check_is_fitted(self)
        dataset, names = dataset_of(X), self.look_.names(self.taps)

        def columns() -> NDArray[np.float32]:
            sight = see(dataset, self.look_, cache_of(self.cache_dir))
            return sight.features.columns(names, np.arange(len(dataset)))

        with in_python():
            return again_if_damaged(columns)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """(D,) names of the columns: the tap, and a number in it."""
        check_is_fitted(self)
        dims = dict(self.look_.taps)
        return np.array([f"{tap}_{at}" for tap in self.look_.names(self.taps) for at in range(dims[tap])], object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = False, True, True
        tags.transformer_tags.preserves_dtype = []
        return tags

"""A classifier on features for scikit-learn, over headway's own solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from headway.ecosystem.answering import Answering, classes_and_labels
from headway.ecosystem.parameters import Heading, settings_of
from headway.ecosystem.solving import hold_back, logits_of, solve_head, torch_threads
from headway.training.probe_data import ProbeData


@dataclass(eq=False, repr=False, kw_only=True)
class HeadwayHead(Answering, Heading, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The head of `headway fit` on features of yours: X (N, D) numbers in, classes out.

    A linear head is softmax regression on standardised features by L-BFGS, its L2 per unit of the mean loss. By default
    one row in ten is held back (`val`), by which L2 is chosen and probabilities are calibrated, as `fit` does.

    Parameters have the names and values of the options of `headway fit`: head (linear, prototype, mlp:256), l2,
    balance, dropout, standardize, optimizer, lr, weight_decay, batch, epochs, patience, label_smoothing, val, seed,
    threads. Those from dropout on, but for the last three, are of heads with hidden layers.

    Fitted: classes_ (C,), n_features_in_, l2_, temperature_, coef_ and intercept_ of a linear head, solved_ (the head
    as it is, and why it was chosen).
    """

    def fit(self, X: Any, y: Any) -> HeadwayHead:
        """Train on X (N, D) and labels y (N,). Raises WrongInput (a ValueError) where they or a parameter cannot work.

        Same input, same threads: same bits.
        """
        settings = settings_of({**self.get_params(deep=False), "taps": "last"})
        X, y = validate_data(self, X, y, dtype=np.float32, order="C")
        self.classes_, labels = classes_and_labels(y)
        train, val = hold_back(X, labels, self.val, settings.seed)
        data = ProbeData(lambda _, at: X[at], labels, train, val, (("last", X.shape[1]),), len(self.classes_))
        with torch_threads(settings.threads):
            self.solved_ = solve_head(data, settings)
        return self

    def _logits(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        return logits_of(self.solved_.head, validate_data(self, X, reset=False, dtype=np.float32, order="C"))

    @property
    def coef_(self) -> NDArray[np.float64]:
        """(C, D) weights of a linear head on raw features; of two classes (1, D), as scikit-learn has it."""
        return self._linear[0]

    @property
    def intercept_(self) -> NDArray[np.float64]:
        """(C,) biases of a linear head; of two classes (1,)."""
        return self._linear[1]

    @property
    def _linear(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        check_is_fitted(self)
        layers = self.solved_.head.layers
        if len(layers) > 1:
            raise AttributeError(f"a {self.head} head has layers, and no coef_: see solved_.head.layers")
        weight, bias = layers[0].weight.astype(np.float64), layers[0].bias.astype(np.float64)
        return (weight[1:] - weight[:1], bias[1:] - bias[:1]) if len(bias) == 2 else (weight, bias)

"""What both classifiers have in common once they are fitted: from logits to decisions, probabilities and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from headway.ecosystem.refusing import WrongInput

if TYPE_CHECKING:
    from headway.ecosystem.solving import Solved


def classes_and_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes of `y` in sorted order, and y as indices into them. Raises WrongInput where there is one class."""
    values = column_or_1d(y, warn=True)
    check_classification_targets(values)
    classes, labels = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise WrongInput(f"y has 1 class, {classes[0]!s}: a classifier needs two or more")
    return classes, labels.astype(np.int64)


class Answering:
    """predict, predict_proba, decision_function of a fitted classifier that knows the logits of X."""

    classes_: NDArray[Any]
    solved_: Solved

    def _logits(self, X: Any) -> NDArray[np.float64]:
        raise NotImplementedError

    @property
    def l2_(self) -> float | None:
        """The L2 that was chosen or asked for; None for heads that have none."""
        return None if self.solved_.chosen["l2"] is None else float(self.solved_.chosen["l2"])

    @property
    def temperature_(self) -> float:
        """What logits are divided by before the softmax, fitted on the rows that were held back."""
        return self.solved_.temperature

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """(N, C) logits, before the temperature; of two classes (N,), how much the second is ahead."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(N, C) probabilities, columns in the order of `classes_`."""
        scaled = self._logits(X) / self.solved_.temperature
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """(N,) the likeliest class of each."""
        logits = self._logits(X)  # first: what is not fitted has no classes_ either, and says so there
        return np.asarray(self.classes_[logits.argmax(axis=1)])

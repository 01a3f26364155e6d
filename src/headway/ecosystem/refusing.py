"""How the estimators refuse: in headway's words, as the errors that scikit-learn's own code expects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from headway.errors import Refused


class WrongInput(Refused, ValueError):
    """Refused before work begins, and a ValueError too, which is what scikit-learn expects of wrong input."""


@contextmanager
def in_python() -> Iterator[None]:
    """Refusals inside name parameters instead of options: `--weight-decay` becomes `weight_decay`."""
    try:
        yield
    except Refused as refusal:
        raise WrongInput(_respelt(str(refusal))) from None


def _respelt(text: str) -> str:
    return re.sub(r"--([a-z][a-z0-9-]*)", lambda found: _parameter(found[1].replace("-", "_")), text)


def _parameter(name: str) -> str:
    """The parameter of an option: `fit` is the one whose name an estimator needs for a method."""
    return "image_fit" if name == "fit" else name

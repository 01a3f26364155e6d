"""The parameters of the estimators: the options of `fit` under their names, as fields of dataclasses.

scikit-learn reads parameters off the signature of `__init__`, which a dataclass has; nothing else happens there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headway.ecosystem.refusing import in_python

if TYPE_CHECKING:
    from headway.settings import FitSettings

_OWN = ("cache_dir", "val")  # not handed on as they are
_OTHERWISE = {"image_fit": "fit"}  # the option of a parameter that could not keep its name


@dataclass(eq=False, repr=False, kw_only=True)
class Looking:
    """How images are looked at; see the options of `headway fit` of the same names.

    image_fit  the option `fit`: crop, squash or pad; None = as the weights ask
    cache_dir  where features are kept; None = HEADWAY_CACHE_DIR, else the user's cache folder
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: str | None = None
    image: int = 224
    resize: int | str | None = None
    image_fit: str | None = None
    engine: str = "auto"
    device: str = "auto"
    offline: bool = False
    threads: int | None = None
    seed: int = 0
    cache_dir: str | os.PathLike[str] | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class Heading:
    """What head is trained, and how; see the options of `headway fit` of the same names.

    weight_decay  None: 1 with adamw, 0 with others
    val      the share of the rows that is held back, to choose L2 and to fit the temperature by; 0 = none: l2 must then
             be a number, and probabilities are as trained
    threads  of the solver; None = as torch is set
    """

    head: str = "linear"
    l2: float | str = "auto"
    balance: str = "none"
    dropout: float | tuple[float, ...] = 0.0
    standardize: bool = True
    optimizer: str = "adamw"
    lr: float | str = 2e-3
    weight_decay: float | None = None
    batch: int = 200
    epochs: int | str = "auto"
    patience: int = 5
    label_smoothing: float = 0.0
    val: float = 0.1
    seed: int = 0
    threads: int | None = None


def settings_of(parameters: dict[str, Any]) -> FitSettings:
    """The settings that these parameters stand for. Raises WrongInput, which tells every problem at once."""
    from headway.settings import fit_settings

    options = {_OTHERWISE.get(name, name): _plain(value) for name, value in parameters.items() if name not in _OWN}
    hidden = options.get("head", "linear") not in ("linear", "prototype")
    if options.get("weight_decay", 0) is None or (hidden and options.get("l2", "auto") != "auto"):
        options.pop("weight_decay")  # of a head with hidden layers l2 is the same thing
    if parameters.get("val"):
        options["val"] = _plain(parameters["val"])
    with in_python():
        return fit_settings(".", **options)


def cache_of(cache_dir: str | os.PathLike[str] | None) -> Path:
    """The cache folder that is meant."""
    from headway.machine import cache_folder

    return cache_folder() if cache_dir is None else Path(cache_dir).expanduser().absolute()


def _plain(value: Any) -> Any:
    """Searches draw their values from numpy, whose numbers are of types of its own."""
    return value.item() if isinstance(value, np.generic) else value

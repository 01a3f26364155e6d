"""What head is asked for, and how it is to be found: the part of the options that the probe reads."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.defaults import SOLVED
from headway.errors import Refused, nearest
from headway.training.head_module import HeadShape
from headway.training.task import LoopSettings

if TYPE_CHECKING:
    from headway.settings import FitSettings

TAPS = ("auto", "last", "all")
# From strong to weak. Of the mean loss and of standardised weights, so it hardly depends on the number of images.
L2_CANDIDATES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
_STEPS, _FEWEST, _MOST = 1200, 5, 30  # steps of a training by epochs; epochs
# What HeadSettings hands on to the loop as it is.
_LOOP = (
    *("optimizer", "momentum", "nesterov", "weight_decay", "schedule", "warmup", "batch", "micro_batch"),
    *("patience", "until", "keep", "label_smoothing", "mixup", "ema", "clip", "precision", "allow_inexact", "seed"),
)


@dataclass(frozen=True)
class HeadSettings:
    """What head to train, and how.

    spec           "linear", "prototype", "mlp:256", "mlp:1024,256"
    dropout        share dropped of what each hidden layer reads, as HeadShape
    standardize    train hidden layers on features of mean 0 and deviation 1; a linear head always does
    l2             "auto", or the penalty of a linear head's standardised weights; others have weight_decay
    taps           "last", "all", or "auto": a linear head compares the two, others take the last
    balance        "none"; "weights": the loss counts every class alike, however many images it has; "logit": the
                   trained head's logits are shifted by the classes' shares, as `balance` says
    lr             "auto", or a number
    folds          "auto", or how many parts of the training images are held out in turn to choose by; 0 = none
    by_epochs      train a linear head by epochs too, as those with hidden layers
    epochs         "auto": as `enough_epochs` says; or a number
    The rest acts by epochs only, as LoopSettings says.
    """

    spec: str = "linear"
    dropout: tuple[float, ...] = ()
    standardize: bool = True
    l2: float | str = "auto"
    taps: str = "auto"
    balance: str = "none"
    optimizer: str = "adamw"
    lr: float | str = 2e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1.0
    schedule: str = "cosine"
    warmup: float = 0.0
    batch: int = 200
    micro_batch: int | None = None
    epochs: int | str = "auto"
    patience: int = 5
    until: tuple[str, float] | None = None
    keep: str = "val.accuracy"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    precision: str = "fp32"
    allow_inexact: bool = False
    seed: int = 0
    l2_candidates: tuple[float, ...] = L2_CANDIDATES
    folds: int | str = "auto"
    by_epochs: bool = False

    @staticmethod
    def from_settings(settings: FitSettings) -> HeadSettings:
        """What `fit` was told about the head."""
        shared = ("l2", "taps", "balance", "standardize", "lr", "epochs", *(name for name in _LOOP if name != "until"))
        values = {name: getattr(settings, name) for name in shared}
        values["precision"] = settings.training_precision
        return HeadSettings(spec=settings.head, dropout=settings.dropouts, until=settings.target, **values)

    @property
    def shape(self) -> HeadShape:
        """The head's layers."""
        return HeadShape(parse_head(self.spec), self.dropout, self.standardize)

    @property
    def loop(self) -> LoopSettings:
        """The part that the loop reads; its learning rate and epochs stand in where they are to be found."""
        lr = LoopSettings.lr if isinstance(self.lr, str) else self.lr
        epochs = LoopSettings.epochs if isinstance(self.epochs, str) else self.epochs
        return LoopSettings(lr=lr, epochs=epochs, **{name: getattr(self, name) for name in _LOOP})


def enough_epochs(n: int, batch: int) -> int:
    """How many epochs over `n` features, `batch` a step, come to 1,200 steps: 5 at least, 30 at most.

    A head is small: more steps than that learn the training features by heart, and what the rate falls over is too long
    for the best of it to come before patience ends. Measured on parts of CIFAR-100, see benchmarks/RESULTS.md.
    """
    return min(_MOST, max(_FEWEST, round(_STEPS / math.ceil(n / batch))))


def parse_head(spec: str) -> tuple[int, ...]:
    """Widths of the hidden layers: () for "linear" and "prototype", (1024, 256) for "mlp:1024,256". Raises Refused."""
    if spec in SOLVED:
        return ()
    if re.fullmatch(r"mlp:[1-9]\d{0,5}(,[1-9]\d{0,5})*", spec):
        return tuple(int(width) for width in spec.removeprefix("mlp:").split(","))
    raise Refused(
        f"no head '{spec}'. {_guess(spec)}Expected linear, prototype, or mlp: with the widths of the hidden layers, "
        "as mlp:256 or mlp:1024,256"
    )


def _guess(spec: str) -> str:
    widths = re.findall(r"[1-9]\d{0,5}", spec)
    name = (nearest(re.split(r"[:\d]", spec)[0].strip().lower(), (*SOLVED, "mlp"), 1) or [""])[0]
    if name in SOLVED and not widths:
        return f"Did you mean {name} ? "
    return f"Did you mean mlp:{','.join(widths or ['256'])} ? " if widths or name == "mlp" else ""

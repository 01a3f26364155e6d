"""What a search may choose: a trial draws options of `fit`, each within its range. What was typed is left alone.

Nothing here knows Optuna: whatever has its three `suggest_...` can draw, a list of constants too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headway.tuning.request import Request

VERSION = 1  # of what is below: trials of another space are no evidence about this one

HEADS = ("linear", "mlp", "prototype")
WIDTHS = (64, 256)
BALANCES = ("none", "weights", "logit")
AUGMENTS = ("none", "flip", "crop", "trivial")
THAWS = (1, 2, "all")

Options = dict[str, Any]


class Picker(Protocol):
    """What draws: a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = ..., log: bool = ...
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int) -> int: ...


def propose(pick: Picker, request: Request, *, several_taps: bool) -> Options:
    """Options of `fit` for one trial. several_taps: whether the network shows more than its last features."""
    if request.base.strategy == "finetune":
        return _network(pick, request)
    return _head(pick, request, several_taps)


def plain(options: Mapping[str, Any], request: Request, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The draw that stands for the settings where nothing is searched, to begin with: name → value.

    chosen  "selection" of the head that those settings came to
    """
    base, typed = request.base, request.typed
    found: dict[str, Any] = {"head": "mlp" if base.hidden else base.head, "taps": chosen.get("taps")}
    if request.views is not None:
        found["views"] = "none"
    if request.metric == "balanced-accuracy":
        found["balance"] = base.balance
    if isinstance(chosen.get("l2"), float) and base.head == "linear":
        found["l2"] = min(max(chosen["l2"], 1e-5), 10.0)
    return {name: value for name, value in found.items() if name not in typed and name in options}


def _head(pick: Picker, request: Request, several_taps: bool) -> Options:
    typed, options = request.typed, Options()
    kind = request.base.head
    if "head" not in typed:
        kind = str(pick.suggest_categorical("head", HEADS))
    if several_taps and "taps" not in typed:
        options["taps"] = pick.suggest_categorical("taps", ("last", "all"))
    if request.views is not None:
        options.update(_views(pick, request.views))
    if request.metric == "balanced-accuracy" and "balance" not in typed and kind != "prototype":
        options["balance"] = pick.suggest_categorical("balance", BALANCES)
    if kind == "linear" and "l2" not in typed:
        options["l2"] = _rounded(pick.suggest_float("l2", 1e-5, 10.0, log=True))
    if kind.startswith("mlp"):
        options.update(_hidden(pick, typed))
    if "head" not in typed:
        options.setdefault("head", kind)
    return options


def _views(pick: Picker, most: int | str) -> Options:
    if most == "flip":
        return {"views": "flip"} if pick.suggest_categorical("views", ("none", "flip")) == "flip" else {}
    number = pick.suggest_int("views", 0, int(most))
    return {"views": number} if number else {}


def _hidden(pick: Picker, typed: Mapping[str, Any]) -> Options:
    """A head with hidden layers, trained by epochs on features."""
    options = Options()
    if "head" not in typed:
        options["head"] = f"mlp:{pick.suggest_categorical('width', WIDTHS)}"
    if "lr" not in typed:
        options["lr"] = _rounded(pick.suggest_float("lr", 1e-4, 1e-2, log=True))
    if not {"weight_decay", "l2"} & set(typed):
        options["weight_decay"] = _rounded(pick.suggest_float("weight_decay", 1e-3, 10.0, log=True))
    if "dropout" not in typed:
        options["dropout"] = round(pick.suggest_float("dropout", 0.0, 0.7, step=0.1), 1)
    if "label_smoothing" not in typed:
        options["label_smoothing"] = round(pick.suggest_float("label_smoothing", 0.0, 0.2, step=0.05), 2)
    if "mixup" not in typed:
        options["mixup"] = round(pick.suggest_float("mixup", 0.0, 0.8, step=0.2), 1)
    return options


def _network(pick: Picker, request: Request) -> Options:
    """Fine-tuning. What is trained depends on `thaw`, so it is drawn first."""
    typed, options = request.typed, Options()
    if not {"thaw", "thaw_every"} & set(typed):
        options["thaw"] = pick.suggest_categorical("thaw", THAWS)
    if "lr" not in typed:
        options["lr"] = _rounded(pick.suggest_float("lr", 1e-6, 3e-4, log=True))
    if "epochs" not in typed:
        options["epochs"] = pick.suggest_int("epochs", 2, 10)
    if "augment" not in typed:
        options["augment"] = pick.suggest_categorical("augment", AUGMENTS)
    if "layer_decay" not in typed:
        options["layer_decay"] = round(pick.suggest_float("layer_decay", 0.5, 1.0, step=0.1), 1)
    if "weight_decay" not in typed:
        options["weight_decay"] = _rounded(pick.suggest_float("weight_decay", 1e-4, 0.3, log=True))
    if "label_smoothing" not in typed:
        options["label_smoothing"] = round(pick.suggest_float("label_smoothing", 0.0, 0.2, step=0.05), 2)
    if request.metric == "balanced-accuracy" and "balance" not in typed:
        options["balance"] = pick.suggest_categorical("balance", BALANCES)
    return options


def _rounded(value: float) -> float:
    """Three digits: more tell nothing, and a person types them."""
    return float(f"{value:.3g}")

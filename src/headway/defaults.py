"""What an option is where nothing was said: that depends on the strategy, then on the recipe and on other options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STRATEGIES = ("probe", "finetune", "scratch")
CNN, CNN_IMAGE, IMAGE = "cnn", 32, 224
SOLVED = ("linear", "prototype")  # heads that are found in one go, not by epochs
SMALL_IMAGE = 64  # pixels: up to here a random crop of a third of the image shows too little of it to be the default

# fmt: off
BY_STRATEGY: dict[str, tuple[Any, Any, Any]] = {
    #               probe           finetune    scratch
    "thaw":         (0,             "all",      "all"),       # the stages that are trained, counted from the head
    "head_init":    ("probe",       "probe",    "random"),
    "taps":         ("auto",        "last",     "last"),
    "augment":      ("none",        "auto",     "auto"),      # auto: see `_augment`
    "optimizer":    ("adamw",       "adamw",    "adamw"),
    "lr":           (2e-3,          1e-5,       3e-3),        # scratch without onecycle: 1e-3
    "weight_decay": (1.0,           0.01,       0.05),        # of adamw; of the others 0
    "layer_decay":  (1.0,           0.8,        1.0),
    "schedule":     ("cosine",      "cosine",   "onecycle"),
    "warmup":       (0.0,           0.5,        0.0),         # epochs; onecycle brings its own
    "batch":        (200,           32,         128),
    "epochs":       ("auto",        5,          30),          # auto: see `head_settings.enough_epochs`
    "patience":     (5,             0,          0),           # epochs; 0 = never
    "keep":         ("val.accuracy", "val.loss", "val.accuracy"),
    "freeze_bn":    (True,          True,       False),
    "clip":         (0.0,           1.0,        0.0),
}
# fmt: on

# The strategies that understand an option; every strategy understands those that are not listed.
_ONLY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("thaw", "thaw_every", "head_init", "layer_decay", "freeze_bn"), ("finetune",)),
    **dict.fromkeys(("augment", "crop_scale", "erase", "cutmix"), ("finetune", "scratch")),
    **dict.fromkeys(("workers", "sync_bn"), ("finetune", "scratch")),
    **dict.fromkeys(("taps", "portable"), ("probe",)),
    **dict.fromkeys(("views", "l2", "standardize"), ("probe", "finetune")),
}
# What acts only while epochs are run; a linear head of the probe is solved in one go.
BY_EPOCHS = (
    *("optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "warmup", "batch", "micro_batch"),
    *("epochs", "patience", "until", "keep", "label_smoothing", "mixup", "ema", "clip", "standardize"),
    *("allow_inexact", "checkpoint_every"),
)
# What other defaults depend on; every option comes after those that decide its default.
DECISIVE = (
    *("recipe", "backbone", "strategy", "head", "l2", "optimizer", "schedule", "thaw", "thaw_every", "views"),
    *("image", "fit"),
)


def strategy_of(given: Mapping[str, Any]) -> str:
    """The strategy of these options: the one that was named; for headway's own small network from scratch."""
    named = given.get("strategy", "auto")
    if named in STRATEGIES:
        return str(named)
    return "scratch" if given.get("backbone") == CNN else "probe"


def by_strategy(name: str, strategy: str) -> Any:
    """The default of an option of the table for one strategy."""
    return BY_STRATEGY[name][STRATEGIES.index(strategy)]


def understands(name: str, strategy: str, head: str = "linear") -> bool:
    """Whether an option does anything under a strategy, with such a head."""
    if strategy not in _ONLY.get(name, STRATEGIES):
        return False
    return not (strategy == "probe" and head in SOLVED and name in BY_EPOCHS)


def complete(given: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`given`, with what it leaves open from the recipe and then from the strategy; no word for "choose" is left.

    given, recipe  names of options → values of the right kind
    """
    base = _adapted(recipe or {}, given)
    told = {**base, **{name: value for name, value in given.items() if not (name == "strategy" and value == "auto")}}
    strategy = strategy_of(told)
    values = {**{name: by_strategy(name, strategy) for name in BY_STRATEGY}, **told, "strategy": strategy}
    values.setdefault("image", CNN_IMAGE if values.get("backbone") == CNN else IMAGE)
    if "warmup" not in told and values["schedule"] == "onecycle":
        values["warmup"] = 0.0
    if "lr" not in told and strategy == "scratch" and values["schedule"] != "onecycle":
        values["lr"] = 1e-3
    if "weight_decay" not in told:
        values["weight_decay"] = _weight_decay(values)
    if values["taps"] == "auto" and strategy != "probe":
        values["taps"] = "last"
    if values["epochs"] == "auto" and strategy != "probe":
        values["epochs"] = by_strategy("epochs", strategy)
    if values["augment"] == "auto":
        values["augment"] = _augment(values)
    return values


def _weight_decay(values: Mapping[str, Any]) -> float:
    l2 = values.get("l2", "auto")
    if values["strategy"] == "probe" and values.get("head", "linear") not in SOLVED and l2 != "auto":
        return float(l2)  # of a head with hidden layers it is the same thing
    return float(by_strategy("weight_decay", values["strategy"])) if values["optimizer"] == "adamw" else 0.0


def _augment(values: Mapping[str, Any]) -> str:
    """Random crops; only mirrored where images are small and all there is; none where activations can be cached."""
    if values["strategy"] == "probe":
        return "none"
    if values["strategy"] == "scratch":
        return "flip" if values["image"] <= SMALL_IMAGE else "crop"
    cached = values["thaw"] != "all" and not values.get("thaw_every")
    return "none" if cached and not values.get("views") else "crop"


def _adapted(recipe: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a recipe once something else was asked for: it gives way where the two cannot go together."""
    values = dict(recipe)
    asked = {**recipe, **given}
    head = asked.get("head", "linear")
    if given.get("strategy", "auto") != "auto" and given["strategy"] != strategy_of(recipe):
        strategy = given["strategy"]
        values = {name: value for name, value in values.items() if understands(name, strategy, head)}
    hidden = head.count(",") + 1 if head not in SOLVED else 0
    if "head" in given and len(values.get("dropout", ())) not in ((1, hidden) if hidden else ()):
        values.pop("dropout", None)
    if "resize" in values and (_too_small(values["resize"], asked) or given.get("fit") in ("squash", "pad")):
        values.pop("resize")
    if given.get("schedule") == "onecycle":
        values.pop("warmup", None)
    if given.get("optimizer", "sgd") != "sgd":
        values.pop("nesterov", None)
    if given.get("thaw_every") and "thaw" not in given:
        values.pop("thaw", None)
    return values


def _too_small(resize: Any, asked: Mapping[str, Any]) -> bool:
    return isinstance(resize, int) and resize < asked.get("image", IMAGE)

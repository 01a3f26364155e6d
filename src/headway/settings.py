"""What a user may set for training: one frozen value, every problem told at once, to YAML and back.

Only the training commands import this module: a bundle predicts without pydantic.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from headway import conflicts
from headway.conflicts import option, spelt
from headway.defaults import BY_EPOCHS, BY_STRATEGY, DECISIVE, SMALL_IMAGE, by_strategy, complete
from headway.errors import Refused, nearest, refuse_all
from headway.kinds import (
    METRICS,
    Chance,
    Duration,
    Place,
    Real,
    Schedule,
    Spread,
    Target,
    Whole,
    field,
    matches,
    numbers,
    read_duration,
    read_target,
    real_or,
    triple,
    whole_or,
)

# Words that a value may begin with, for a guess, where the field itself lists none.
_BEGINNINGS: dict[str, tuple[str, ...]] = {"schedule": ("none", "cosine", "onecycle"), "until": METRICS}


def _usual(name: str, expected: str, **limits: Any) -> Any:
    """A field whose default depends on the strategy; here stands the probe's."""
    return field(by_strategy(name, "probe"), expected, **limits)


class FitSettings(BaseModel):
    """Everything that `fit` can be told; names are the options', with underscores. Made by `fit_settings`.

    None stands for "as the weights ask" in resize, fit, mean and std; for runs/<data>-<number> in run; for the weights
    that come with the backbone in weights, from scratch for random ones (`start_weights`); for all cores in threads;
    for as many as threads in workers; for the whole batch in micro_batch. Nothing else is left open: strategy and
    augment are never "auto" here, epochs for the head of a probe alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Place
    run: Path | None = field(None, "a folder")
    recipe: str | None = field(None, "a name, as headway recipes lists them, or a file", min_length=1)
    strategy: Literal["auto", "probe", "finetune", "scratch"] = field("probe", "auto, probe, finetune or scratch")
    budget: Duration | None = field(None, "a time as 90s, 10m or 2h")
    thaw: Annotated[int | Literal["all"], whole_or("all", 0, 12)] = _usual(
        "thaw", "all, or a whole number from 0 to 12 (stages)"
    )
    thaw_every: Whole = field(0, "a whole number of 0 or more (epochs)", ge=0)
    head_init: Literal["probe", "random"] = _usual("head_init", "probe or random")
    backbone: str = field("tf_efficientnet_lite0", "a name, as headway backbones lists them", min_length=1)
    weights: str | None = field(None, "none, a file, or local-dir:FOLDER", min_length=1)
    image: Whole = field(224, "a whole number from 16 to 2048 (pixels)", ge=16, le=2048)
    resize: Annotated[int | str | None, whole_or("none", 16, 4096)] = field(
        None, "none, or a whole number from 16 to 4096 (pixels)"
    )
    fit: Literal["crop", "squash", "pad"] | None = field(None, "crop, squash or pad")
    mean: Annotated[tuple[Real, Real, Real] | None, BeforeValidator(triple)] = field(
        None, "one number, or three with commas between them"
    )
    std: Annotated[tuple[Spread, Spread, Spread] | None, BeforeValidator(triple)] = field(
        None, "one number above 0, or three with commas between them"
    )
    taps: Literal["auto", "last", "all"] = _usual("taps", "auto, last or all")
    views: Annotated[int | str | None, whole_or("flip", 1, 100)] = field(
        None, "flip, or a whole number from 1 to 100 (random crops)"
    )
    augment: Literal["auto", "none", "flip", "crop", "trivial", "rand"] = _usual(
        "augment", "auto, none, flip, crop, trivial or rand"
    )
    crop_scale: Real = field(0.35, "a share above 0, up to 1", gt=0, le=1)
    erase: Real = field(0.0, "a share from 0 to 1", ge=0, le=1)
    mixup: Real = field(0.0, "a number of 0 or more", ge=0)
    cutmix: Real = field(0.0, "a number of 0 or more", ge=0)
    head: Annotated[str, matches(r"linear|prototype|mlp:[1-9]\d{0,5}(,[1-9]\d{0,5})*")] = field(
        "linear", "linear, prototype, or mlp: with the widths of the hidden layers, as mlp:256 or mlp:1024,256"
    )
    dropout: Annotated[tuple[Chance, ...], BeforeValidator(numbers)] = field(
        (0.0,), "numbers from 0 to below 1, as 0.5 or 0.5,0.3", min_length=1
    )
    l2: Annotated[float | Literal["auto"], real_or("auto")] = field("auto", "auto, or a number of 0 or more")
    standardize: bool = field(True, "true or false")
    balance: Literal["none", "weights", "logit"] = field("none", "none, weights or logit")
    log_softmax: bool = field(False, "true or false")
    optimizer: Literal["sgd", "adam", "adamw"] = _usual("optimizer", "sgd, adam or adamw")
    lr: Annotated[float | Literal["auto"], real_or("auto", zero=False)] = _usual("lr", "auto, or a number above 0")
    momentum: Chance = field(0.9, "a number from 0 to below 1")
    nesterov: bool = field(False, "true or false")
    weight_decay: Real = _usual("weight_decay", "a number of 0 or more", ge=0)
    layer_decay: Real = _usual("layer_decay", "a number above 0, up to 1", gt=0, le=1)
    schedule: Schedule = _usual("schedule", "none, cosine, onecycle, or step:EPOCHS:FACTOR as step:7:0.1")
    warmup: Real = _usual("warmup", "a number of 0 or more (epochs)", ge=0)
    batch: Whole = _usual("batch", "a whole number of 1 or more", ge=1)
    micro_batch: Whole | None = field(None, "a whole number of 1 or more", ge=1)
    epochs: Annotated[int | Literal["auto"], whole_or("auto", 1)] = _usual(
        "epochs", "auto, or a whole number of 1 or more"
    )
    patience: Whole = _usual("patience", "a whole number of 0 or more (epochs)", ge=0)
    until: Target | None = field(
        None, "METRIC=VALUE, as val.accuracy=0.9 (a share above 0, up to 1) or val.loss=0.1 (a number above 0)"
    )
    keep: Literal["val.accuracy", "val.loss"] = _usual("keep", "val.accuracy or val.loss")
    freeze_bn: bool = _usual("freeze_bn", "true or false")
    sync_bn: bool = field(False, "true or false")
    label_smoothing: Chance = field(0.0, "a number from 0 to below 1")
    ema: Chance = field(0.0, "a number from 0 to below 1")
    clip: Real = _usual("clip", "a number of 0 or more", ge=0)
    val: Real = field(0.1, "a share above 0 and below 1", gt=0, lt=1)
    test: Real = field(0.15, "a share above 0 and below 1", gt=0, lt=1)
    split: Path | None = field(None, "a run folder or a split.csv")
    seed: Whole = field(0, "a whole number of 0 or more", ge=0, lt=2**63)
    threads: Whole | None = field(None, "a whole number of 1 or more", ge=1)
    workers: Whole | None = field(None, "a whole number of 0 or more", ge=0)
    engine: Literal["auto", "torch", "compiled", "onnxruntime", "openvino", "native"] = field(
        "auto", "auto, torch, compiled, onnxruntime, openvino or native"
    )
    precision: Literal["fp32", "int8", "auto", "bf16", "fp16"] = field("fp32", "fp32, int8, auto, bf16 or fp16")
    portable: bool = field(False, "true or false")
    map: Literal["none", "pca", "umap"] = field("pca", "none, pca or umap")
    track: Literal["none", "tensorboard", "mlflow"] = field("none", "none, tensorboard or mlflow")
    device: Annotated[str, matches(r"auto|cpu|mps|cuda(:\d+)?")] = field("auto", "auto, cpu, mps, cuda or cuda:NUMBER")
    checkpoint_every: Whole = field(60, "a whole number of 0 or more (seconds)", ge=0)
    no_cache: bool = field(False, "true or false")
    offline: bool = field(False, "true or false")
    allow_bad: bool = field(False, "true or false")
    allow_inexact: bool = field(False, "true or false")

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers of the head; empty for a linear one."""
        widths = self.head.removeprefix("mlp:") if self.head.startswith("mlp:") else ""
        return tuple(int(width) for width in widths.split(",") if width)

    @property
    def dropouts(self) -> tuple[float, ...]:
        """The share dropped of what each hidden layer reads; one per hidden layer."""
        return self.dropout if len(self.dropout) == len(self.hidden) else self.dropout[:1] * len(self.hidden)

    @property
    def target(self) -> tuple[str, float] | None:
        """What ends training early: (metric, value)."""
        return None if self.until is None else read_target(self.until)

    @property
    def seconds(self) -> float | None:
        """The budget in seconds: what all of `fit` may take. None = no budget."""
        return None if self.budget is None else read_duration(self.budget)

    @property
    def start_weights(self) -> str | None:
        """The weights that the network begins with: from scratch they are random, whatever comes with its name."""
        return "none" if self.strategy == "scratch" else self.weights

    @property
    def training_precision(self) -> str:
        """What is trained by epochs computes in: int8 is for the frozen network alone."""
        return self.precision if self.precision in ("bf16", "fp16") else "fp32"

    @property
    def small_stem(self) -> bool:
        """Whether the network is from scratch and its images are so small that its stem is made for them."""
        return self.strategy == "scratch" and self.image <= SMALL_IMAGE

    @property
    def by_epochs(self) -> bool:
        """Whether anything is trained by epochs; the linear head of a probe is solved."""
        return self.strategy != "probe" or bool(self.hidden)

    def for_head(self) -> FitSettings:
        """The probe that finds the head which fine-tuning begins with: by the probe's own defaults, on `last`."""
        update = {name: type(self).model_fields[name].default for name in (*BY_STRATEGY, *BY_EPOCHS)}
        update |= {"standardize": self.standardize, "strategy": "probe", "taps": "last", "views": None, "recipe": None}
        update |= {"precision": "fp32", "balance": "weights" if self.balance == "weights" else "none"}
        return self.model_copy(update=update | ({"weight_decay": self.l2} if self.l2 != "auto" else {}))

    def for_road(self, thaw: int | str, epochs: int) -> FitSettings:
        """What a run with a budget takes to train the network on: fine-tuning by its own defaults, so many epochs."""
        values = complete({"strategy": "finetune", "thaw": thaw, "epochs": epochs})
        own = ("standardize", "checkpoint_every", "allow_inexact")
        names = (*BY_STRATEGY, *(name for name in BY_EPOCHS if name not in own))
        update = {name: values.get(name, type(self).model_fields[name].default) for name in names}
        return self.model_copy(update=update | {"strategy": "finetune", "views": None, "recipe": None, "budget": None})

    def asked(self) -> dict[str, Any]:
        """What differs from the defaults of its strategy and recipe, as plain values (lists, numbers, words)."""
        recipe = _recipe_again(self.recipe)
        given: dict[str, Any] = {}
        for name in (*DECISIVE, *(name for name in type(self).model_fields if name not in (*DECISIVE, "data"))):
            value = getattr(self, name)
            if name == "recipe" and recipe is None:
                continue
            if value != complete(given, recipe).get(name, type(self).model_fields[name].default):
                given[name] = value
        plain = self.model_dump(mode="json", include=set(given))
        return {name: plain[name] for name in type(self).model_fields if name in given}

    def command(self) -> str:
        """The command that asks for the same again."""
        words = ["headway", "fit", str(self.data)]
        for name, value in self.asked().items():
            words.append("--no-" + option(name)[2:] if value is False else option(name))
            if not isinstance(value, bool):
                words.append(spelt(value))
        return shlex.join(words)

    def notes(self) -> tuple[str, ...]:
        """What was asked and has no effect together with the rest, one sentence each."""
        return tuple(conflicts.notes(self))


def fit_settings(data: str | Path, **options: object) -> FitSettings:
    """The settings of a `fit` of `data`: what is not given comes from the recipe, then from the strategy's defaults.

    Raises Refused with every problem at once: unknown names, values out of range, options that exclude each other.
    """
    return _checked({"data": data, **options}, follow=True)


def to_yaml(settings: FitSettings) -> str:
    """Every setting as YAML, those that were not asked for too: a later headway may have other defaults."""
    import yaml

    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=False)


def from_yaml(text: str, name: str = "settings.yaml") -> FitSettings:
    """The inverse of `to_yaml`. Raises Refused, with every problem, where `text` is not such a file."""
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Refused(f"{name} is not YAML: {error}") from None
    if not isinstance(values, dict) or "data" not in values:
        raise Refused(f"{name} does not hold the settings of a run: expected the names of options, data among them")
    try:
        return _checked(values, follow=False)
    except Refused as error:
        raise Refused(f"{name}: {error}") from None


def _recipe_again(recipe: str | None) -> dict[str, Any] | None:
    """The settings of a recipe that was followed; None where there was none, or it cannot be read any more."""
    if recipe is None:
        return None
    from headway.recipes.book import read_recipe

    try:
        found = read_recipe(recipe)
        values, problems, _ = _sorted_out(found.values, _problem)
    except Refused:
        return None
    return None if problems else values


def _checked(values: Mapping[str, object], *, follow: bool) -> FitSettings:
    """The settings of `values`. follow: whether a recipe among them is read (else only its name is kept)."""
    given, problems, wrong = _sorted_out({k: v for k, v in values.items() if not _left_open(k, v)}, _problem)
    recipe: dict[str, Any] = {}
    if follow and given.get("recipe") is not None:
        from headway.recipes.book import read_recipe

        try:
            found = read_recipe(given["recipe"])
        except Refused as error:
            problems.append(str(error))
            wrong |= {"recipe", "strategy"}  # what goes together is not known then
        else:
            recipe, wrong_there, _ = _sorted_out(found.values, _problem)
            problems += [f"{found.source}: {_in_a_recipe(text)}" for text in wrong_there]
    # What is right is still held against each other, so that the user reads all of it now.
    whole = {"data": ".", **complete(given, recipe)}
    settings = FitSettings.model_validate(whole)
    problems += [text for names, text in conflicts.conflicts(settings) if not names & wrong]
    if follow and settings.budget is not None and given.get("strategy") == "probe":
        problems.append(conflicts.told_budget("probe"))  # as `auto` it is spelt the same from here on
    refuse_all(problems)
    return settings


def _left_open(name: str, value: object) -> bool:
    return name == "strategy" and value == "auto"


def _sorted_out(
    values: Mapping[str, object], told: Callable[[str, object], str]
) -> tuple[dict[str, Any], list[str], set[str]]:
    """What is right of `values`, in its proper kind; the problems with the rest, and the names of the rest."""
    problems: list[str] = []
    wrong: set[str] = set()
    try:
        read = FitSettings.model_validate({"data": ".", **values})
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            if name not in wrong:
                problems.append(told(name, values.get(name)))
            wrong.add(name)
        read = FitSettings.model_validate({"data": ".", **{k: v for k, v in values.items() if k not in wrong}})
    return {name: getattr(read, name) for name in values if name not in wrong}, problems, wrong


def _problem(name: str, value: object) -> str:
    if name not in FitSettings.model_fields:
        near = nearest(name.replace("-", "_"), FitSettings.model_fields, n=1)
        hint = f"Did you mean {option(near[0])} ?" if near else "See: headway fit --help"
        return f"no option {option(name)}. {hint}"
    if name == "data":
        return f"the data {value!r}: expected the path of a folder or file"
    known = FitSettings.model_fields[name]
    meant = _near(name, value) if isinstance(value, str) else ""
    hint = f". Did you mean {meant} ?" if meant else ""
    return f"{option(name)} {spelt(value) or repr(value)}: expected {known.description}{hint}"


def _near(name: str, value: str) -> str:
    """The right value nearest to a wrong one, "" where none is near."""
    word, equals, rest = value.partition("=") if name == "until" else (value, "", "")
    if name == "schedule" and ":" in value:
        return ""
    choices = _BEGINNINGS.get(name) or _words(FitSettings.model_fields[name].annotation)
    near = nearest(word, choices, n=1)
    return near[0] + equals + rest if near and near[0] != word else ""


def _words(annotation: object) -> list[str]:
    """The words that a field of a few choices takes, None among them or not."""
    if isinstance(annotation, str):
        return [annotation]
    return [word for part in get_args(annotation) for word in _words(part)]


def _in_a_recipe(problem: str) -> str:
    """A problem with an option in the words of a recipe, where it is written without dashes."""
    return problem.replace("no option --", "no setting ").replace("--", "")

"""What a user may set for training: one frozen value, every problem told at once, to YAML and back.

Only the training commands import this module: a bundle predicts without pydantic.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from headway.errors import Refused, nearest, refuse_all

# What acts only while epochs are run; a linear head is solved in one go.
EPOCH_OPTIONS = ("optimizer", "lr", "momentum", "schedule", "batch", "epochs", "patience", "keep")


def _number(value: object) -> object:
    """A switch is not a number, though Python says True == 1."""
    if isinstance(value, bool):
        raise ValueError
    return value


def _numbers(value: object) -> object:
    """ "0.5,0.3" → ("0.5", "0.3"); one number → (number,)."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, (int, float)) else value


def _triple(value: object) -> object:
    """One number stands for the three channels."""
    numbers = _numbers(value)
    return tuple(numbers) * 3 if isinstance(numbers, (tuple, list)) and len(numbers) == 1 else numbers


def _whole_or(word: str, low: int, high: int) -> BeforeValidator:
    """`word`, or a whole number from `low` to `high`."""

    def check(value: object) -> object:
        if value is None or value == word:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    return BeforeValidator(check)


def _real_or(word: str) -> BeforeValidator:
    """`word`, or a finite number of 0 or more."""

    def check(value: object) -> object:
        if value == word:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not 0 <= float(value) < float("inf"):
            raise ValueError
        return float(value)

    return BeforeValidator(check)


def _schedule(value: str) -> str:
    if value not in ("none", "cosine"):
        word, epochs, factor = value.split(":")
        if word != "step" or int(epochs) < 1 or not 0 < float(factor) <= 1:
            raise ValueError
    return value


def _matches(pattern: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return AfterValidator(check)


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Spread = Annotated[Real, Field(gt=0)]
Chance = Annotated[Real, Field(ge=0, lt=1)]


def _field(default: Any, expected: str, **limits: Any) -> Any:
    """A field whose description says what is expected; the message about a wrong value ends with it."""
    return Field(default, description=expected, **limits)


class FitSettings(BaseModel):
    """Everything that `fit` can be told; names are the options', with underscores. Made by `fit_settings`.

    None stands for "as the weights ask" in resize, fit, mean and std; for runs/<data>-<number> in run; for the weights
    that come with the backbone in weights; for all cores in threads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    run: Path | None = _field(None, "a folder")
    backbone: str = _field("tf_efficientnet_lite0", "a name, as headway backbones lists them", min_length=1)
    weights: str | None = _field(None, "none, a file, or local-dir:FOLDER", min_length=1)
    image: Whole = _field(224, "a whole number from 16 to 2048 (pixels)", ge=16, le=2048)
    resize: Annotated[int | str | None, _whole_or("none", 16, 4096)] = _field(
        None, "none, or a whole number from 16 to 4096 (pixels)"
    )
    fit: Literal["crop", "squash", "pad"] | None = _field(None, "crop, squash or pad")
    mean: Annotated[tuple[Real, Real, Real] | None, BeforeValidator(_triple)] = _field(
        None, "one number, or three with commas between them"
    )
    std: Annotated[tuple[Spread, Spread, Spread] | None, BeforeValidator(_triple)] = _field(
        None, "one number above 0, or three with commas between them"
    )
    taps: Literal["auto", "last", "all"] = _field("auto", "auto, last or all")
    views: Annotated[int | str | None, _whole_or("flip", 1, 100)] = _field(
        None, "flip, or a whole number from 1 to 100 (random crops)"
    )
    head: Annotated[str, _matches(r"linear|mlp:[1-9]\d{0,5}(,[1-9]\d{0,5})*")] = _field(
        "linear", "linear, or mlp: with the widths of the hidden layers, as mlp:256 or mlp:1024,256"
    )
    dropout: Annotated[tuple[Chance, ...], BeforeValidator(_numbers)] = _field(
        (0.0,), "numbers from 0 to below 1, as 0.5 or 0.5,0.3", min_length=1
    )
    l2: Annotated[float | str, _real_or("auto")] = _field("auto", "auto, or a number of 0 or more")
    optimizer: Literal["sgd", "adam", "adamw"] = _field("adamw", "sgd, adam or adamw")
    lr: Real = _field(1e-3, "a number above 0", gt=0)
    momentum: Chance = _field(0.9, "a number from 0 to below 1")
    schedule: Annotated[str, AfterValidator(_schedule)] = _field(
        "cosine", "none, cosine, or step:EPOCHS:FACTOR as step:7:0.1"
    )
    batch: Whole = _field(200, "a whole number of 1 or more", ge=1)
    epochs: Whole = _field(30, "a whole number of 1 or more", ge=1)
    patience: Whole = _field(5, "a whole number of 1 or more (epochs)", ge=1)
    keep: Literal["val.accuracy", "val.loss"] = _field("val.accuracy", "val.accuracy or val.loss")
    class_weights: bool = _field(False, "true or false")
    val: Real = _field(0.1, "a share above 0 and below 1", gt=0, lt=1)
    test: Real = _field(0.15, "a share above 0 and below 1", gt=0, lt=1)
    split: Path | None = _field(None, "a run folder or a split.csv")
    strategy: Literal["auto", "probe"] = _field("auto", "auto or probe")
    seed: Whole = _field(0, "a whole number of 0 or more", ge=0, lt=2**63)
    threads: Whole | None = _field(None, "a whole number of 1 or more", ge=1)
    engine: Literal["auto", "torch", "onnxruntime"] = _field("auto", "auto, torch or onnxruntime")
    precision: Literal["fp32"] = _field("fp32", "fp32")
    device: Annotated[str, _matches(r"auto|cpu|mps|cuda(:\d+)?")] = _field(
        "auto", "auto, cpu, mps, cuda or cuda:NUMBER"
    )
    no_cache: bool = _field(False, "true or false")
    offline: bool = _field(False, "true or false")
    allow_bad: bool = _field(False, "true or false")

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers of the head; empty for a linear one."""
        return tuple(int(width) for width in self.head.removeprefix("linear").removeprefix("mlp:").split(",") if width)

    @property
    def dropouts(self) -> tuple[float, ...]:
        """The share dropped of what each hidden layer reads; one per hidden layer."""
        return self.dropout if len(self.dropout) == len(self.hidden) else self.dropout[:1] * len(self.hidden)

    def asked(self) -> dict[str, Any]:
        """What differs from the defaults, as plain values (lists, numbers, words)."""
        plain = self.model_dump(mode="json", exclude={"data"})
        return {name: value for name, value in plain.items() if value != _plain_default(name)}

    def command(self) -> str:
        """The command that asks for the same again."""
        words = ["headway", "fit", str(self.data)]
        for name, value in self.asked().items():
            words.append(option(name))
            if value is not True:
                words.append(_spelt(value))
        return shlex.join(words)

    def notes(self) -> tuple[str, ...]:
        """What was asked and has no effect together with the rest, one sentence each."""
        idle = [option(name) for name in self.asked() if name in EPOCH_OPTIONS] if not self.hidden else []
        if not idle:
            return ()
        verb = "has" if len(idle) == 1 else "have"
        return (f"{', '.join(idle)} {verb} no effect on a linear head, which is solved, not trained by epochs",)


def fit_settings(data: str | Path, **options: object) -> FitSettings:
    """The settings of a `fit` of `data`.

    Raises Refused with every problem at once: unknown names, values out of range, options that exclude each other.
    """
    return _checked({"data": data, **options})


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
    return _checked(values)


def option(name: str) -> str:
    """The option of a setting: no_cache → --no-cache."""
    return "--" + name.replace("_", "-")


def _plain_default(name: str) -> Any:
    default = FitSettings.model_fields[name].default
    return list(default) if isinstance(default, tuple) else default


def _spelt(value: object) -> str:
    return ",".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def _checked(values: Mapping[str, object]) -> FitSettings:
    problems: list[str] = []
    wrong: set[str] = set()
    try:
        settings = FitSettings.model_validate(values)
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            if name not in wrong:
                problems.append(_problem(name, values.get(name)))
            wrong.add(name)
        # What is right is still held against each other, so that the user reads all of it now.
        right = {name: value for name, value in values.items() if name not in wrong}
        settings = FitSettings.model_validate({"data": ".", **right})
    problems += [text for names, text in _conflicts(settings) if not names & wrong]
    refuse_all(problems)
    return settings


def _problem(name: str, value: object) -> str:
    if name not in FitSettings.model_fields:
        near = nearest(name.replace("-", "_"), FitSettings.model_fields, n=1)
        hint = f"Did you mean {option(near[0])} ?" if near else "See: headway fit --help"
        return f"no option {option(name)}. {hint}"
    if name == "data":
        return f"the data {value!r}: expected the path of a folder or file"
    field = FitSettings.model_fields[name]
    near = nearest(value, _words(field.annotation), n=1) if isinstance(value, str) else []
    hint = f". Did you mean {near[0]} ?" if near else ""
    return f"{option(name)} {_spelt(value) or repr(value)}: expected {field.description}{hint}"


def _words(annotation: object) -> list[str]:
    """The words that a field of a few choices takes, None among them or not."""
    if isinstance(annotation, str):
        return [annotation]
    return [word for part in get_args(annotation) for word in _words(part)]


def _conflicts(settings: FitSettings) -> Iterator[tuple[set[str], str]]:
    """Options that exclude each other: their names, and the message."""
    if settings.val + settings.test >= 1:
        yield {"val", "test"}, f"--val {settings.val:g} and --test {settings.test:g} leave nothing to train on"
    if settings.fit in ("squash", "pad") and settings.resize is not None:
        yield {"fit", "resize"}, f"--resize works with --fit crop only; --fit {settings.fit} scales to --image"
    if isinstance(settings.resize, int) and settings.resize < settings.image:
        text = f"--resize {settings.resize} is smaller than --image {settings.image}, which is cut out of it"
        yield {"resize", "image"}, text
    if not settings.hidden and any(settings.dropout):
        yield {"head", "dropout"}, "--dropout works before hidden layers; a linear head has none. Try --head mlp:256"
    if settings.hidden and len(settings.dropout) not in (1, len(settings.hidden)):
        text = (
            f"--dropout {_spelt(settings.dropout)} has {len(settings.dropout)} numbers, the hidden layers of "
            f"--head {settings.head} are {len(settings.hidden)}: expected one number, or one for each"
        )
        yield {"head", "dropout"}, text

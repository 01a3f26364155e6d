"""Options held against each other: what cannot go together, and what was asked for and does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from headway.defaults import BY_EPOCHS, CNN, SOLVED, understands

if TYPE_CHECKING:
    from headway.settings import FitSettings

Conflict = tuple[set[str], str]


def option(name: str) -> str:
    """The option of a setting: no_cache → --no-cache."""
    return "--" + name.replace("_", "-")


def spelt(value: object) -> str:
    """A value as it is typed: (0.5, 1.0) → 0.5,1."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(spelt, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def conflicts(settings: FitSettings) -> Iterator[Conflict]:
    """Options that exclude each other: their names, and the message."""
    for find in (_images, _head, _training, _strategy, _network, _machine, _budget):
        yield from find(settings)


def _images(settings: FitSettings) -> Iterator[Conflict]:
    if settings.val + settings.test >= 1:
        yield {"val", "test"}, f"--val {settings.val:g} and --test {settings.test:g} leave nothing to train on"
    if settings.fit in ("squash", "pad") and settings.resize is not None:
        yield {"fit", "resize"}, f"--resize works with --fit crop only; --fit {settings.fit} scales to --image"
    if isinstance(settings.resize, int) and settings.resize < settings.image:
        text = f"--resize {settings.resize} is smaller than --image {settings.image}, which is cut out of it"
        yield {"resize", "image"}, text


def _head(settings: FitSettings) -> Iterator[Conflict]:
    if not settings.hidden and any(settings.dropout):
        text = f"--dropout works before hidden layers; a {settings.head} head has none. Try --head mlp:256"
        yield {"head", "dropout"}, text
    if settings.hidden and len(settings.dropout) not in (1, len(settings.hidden)):
        text = (
            f"--dropout {spelt(settings.dropout)} has {len(settings.dropout)} numbers, the hidden layers of "
            f"--head {settings.head} are {len(settings.hidden)}: expected one number, or one for each"
        )
        yield {"head", "dropout"}, text
    if settings.head == "prototype" and (settings.strategy == "scratch" or settings.head_init == "random"):
        text = "--head prototype is made of features, and there are none before a network is trained: take linear"
        yield {"head", "strategy", "head_init"}, text
    if settings.head == "prototype" and settings.l2 != "auto":
        yield {"head", "l2"}, f"--l2 {spelt(settings.l2)} has no place in --head prototype: take linear"
    same = settings.strategy == "probe" and settings.hidden and settings.l2 != "auto"
    if same and settings.l2 != settings.weight_decay:
        text = (
            f"--l2 {spelt(settings.l2)} and --weight-decay {settings.weight_decay:g} are two names of one thing "
            "for a head with hidden layers: leave one out"
        )
        yield {"l2", "weight_decay", "head"}, text


def _training(settings: FitSettings) -> Iterator[Conflict]:
    if settings.schedule == "onecycle" and settings.warmup:
        text = f"--schedule onecycle brings its own warm-up: leave out --warmup {settings.warmup:g}, or take cosine"
        yield {"schedule", "warmup"}, text
    if settings.nesterov and (settings.optimizer != "sgd" or not settings.momentum):
        has = f"--optimizer {settings.optimizer}" if settings.optimizer != "sgd" else "--momentum 0"
        text = (
            f"--nesterov is a kind of momentum, which {has} has not: expected --optimizer sgd with --momentum above 0"
        )
        yield {"nesterov", "optimizer", "momentum"}, text
    if settings.micro_batch is not None and settings.micro_batch > settings.batch:
        text = f"--micro-batch {settings.micro_batch} is more than --batch {settings.batch}, of which it is a part"
        yield {"micro_batch", "batch"}, text
    if settings.thaw_every and isinstance(settings.thaw, int) and settings.strategy == "finetune":
        text = (
            f"--thaw-every {settings.thaw_every} thaws one stage after the other until all are trained; "
            f"--thaw {settings.thaw} keeps the others frozen: leave one out"
        )
        yield {"thaw_every", "thaw", "strategy"}, text


# What each strategy that does not understand an option says to it; options of no effect are only noted.
_REFUSED: tuple[tuple[str, str, Callable[[Any], bool], str], ...] = (
    ("probe", "thaw", lambda value: value != 0, "trains the head alone. Thawing needs --strategy finetune"),
    ("probe", "thaw_every", bool, "trains the head alone. Thawing needs --strategy finetune"),
    ("probe", "augment", lambda value: value != "none", "looks once at each image. Try --views flip or --views 4"),
    ("probe", "erase", bool, "looks once at each image. Try --strategy finetune"),
    ("probe", "mixup", bool, "mixes no images, as it looks once at each. Try --strategy finetune"),
    ("probe", "cutmix", bool, "mixes no images, as it looks once at each. Try --strategy finetune"),
    ("scratch", "thaw", lambda value: value != "all", "trains all of the network. Try --strategy finetune"),
    ("scratch", "thaw_every", bool, "trains all of the network. Try --strategy finetune"),
    ("scratch", "head_init", lambda value: value != "random", "has no features yet to solve a head on: it is random"),
    ("scratch", "freeze_bn", bool, "has no statistics yet that could be kept: BatchNorm must learn them"),
    ("scratch", "views", bool, "shows every image anew in each epoch. Try --augment crop"),
    ("finetune", "taps", lambda value: value != "last", "hands on the last features of the network, as --taps last"),
    ("scratch", "taps", lambda value: value != "last", "hands on the last features of the network, as --taps last"),
)


def _strategy(settings: FitSettings) -> Iterator[Conflict]:
    for strategy, name, wrong, says in _REFUSED:
        value = getattr(settings, name)
        if name == "mixup" and settings.hidden:
            continue  # a head with hidden layers mixes features
        if settings.strategy == strategy and wrong(value):
            typed = option(name) if value is True else f"{option(name)} {spelt(value)}"
            yield {"strategy", name}, f"{typed} does not go with --strategy {strategy}, which {says}"


def _network(settings: FitSettings) -> Iterator[Conflict]:
    if settings.strategy == "scratch" and settings.weights not in (None, "none"):
        text = (
            f"--weights {settings.weights} does not go with --strategy scratch, which begins with random ones. "
            "Try --strategy finetune"
        )
        yield {"weights", "strategy"}, text
    if settings.strategy != "scratch" and settings.backbone == CNN and settings.weights is None:
        text = (
            f"--backbone cnn comes with no weights that --strategy {settings.strategy} could begin with: "
            "train it by --strategy scratch, or take random ones by --weights none"
        )
        yield {"backbone", "strategy", "weights"}, text
    if settings.strategy == "finetune" and settings.views is not None:
        yield from _cached_views(settings)


def _budget(settings: FitSettings) -> Iterator[Conflict]:
    if settings.budget is None:
        return
    if settings.backbone == CNN and settings.strategy == "scratch":
        text = "--budget begins with what a pretrained network sees, and --backbone cnn has none: leave one out"
        yield {"budget", "strategy", "backbone"}, text
    elif settings.strategy != "probe":
        yield {"budget", "strategy", "backbone"}, told_budget(settings.strategy)
    if settings.precision in ("int8", "auto"):
        text = f"--precision {settings.precision} is for a frozen network, and --budget may train it: take fp32 or bf16"
        yield {"budget", "precision"}, text


def told_budget(strategy: str) -> str:
    """What is said of a strategy that was named beside a budget."""
    return (
        f"--budget chooses between the roads itself: leave out --strategy {strategy} (or take auto), or leave out "
        "--budget"
    )


def _cached_views(settings: FitSettings) -> Iterator[Conflict]:
    names = {"views", "strategy", "thaw", "thaw_every", "augment"}
    if settings.views == "flip":
        yield names, "--views flip is for --strategy probe. Try --augment flip"
    elif settings.thaw == "all":
        text = (
            f"--views {settings.views} keeps what a frozen part of the network sees, and none stays frozen: "
            "leave it out, or give --thaw 1 or more"
        )
        yield names, text
    elif settings.augment == "none":
        yield names, f"--views {settings.views} are so many random changes of each image, and --augment none has none"


def _machine(settings: FitSettings) -> Iterator[Conflict]:
    frozen = settings.precision in ("int8", "auto")
    if settings.precision == "int8" and settings.strategy != "probe":
        text = (
            f"--precision int8 is for a frozen network, and --strategy {settings.strategy} trains it: "
            "take fp32, bf16 or fp16"
        )
        yield {"precision", "strategy"}, text
    elif frozen and settings.engine in ("torch", "compiled", "onnxruntime", "native"):
        text = f"--precision {settings.precision} runs in openvino alone: leave out --engine {settings.engine}"
        yield {"precision", "engine"}, text
    if settings.precision == "fp16" and settings.device == "cpu":
        text = "--precision fp16 needs a GPU: on --device cpu take fp32, or bf16 where the processor has it"
        yield {"precision", "device"}, text


def notes(settings: FitSettings) -> Iterator[str]:
    """What was asked for and has no effect together with the rest, one sentence each."""
    asked = [name for name in settings.asked() if name not in ("strategy", "recipe")]
    strategy, head = settings.strategy, settings.head
    solved = [name for name in asked if strategy == "probe" and head in SOLVED and name in BY_EPOCHS]
    if settings.budget is not None:  # which may train by epochs after all
        solved = [name for name in solved if name not in ("checkpoint_every", "allow_inexact")]
    strange = [name for name in asked if name not in solved and not understands(name, strategy, head)]
    training = settings.precision in ("bf16", "fp16")
    if "precision" in asked and training and strategy == "probe" and head in SOLVED:
        solved.append("precision")
    if settings.precision == "auto" and strategy != "probe":
        strange.append("precision")
    yield from _idle(solved, f"on a {head} head, which is solved, not trained by epochs")
    yield from _idle(strange, f"with --strategy {strategy}")
    known = [name for name in asked if name not in (*solved, *strange)]
    if settings.precision not in ("int8", "auto"):
        yield from _idle([name for name in known if name == "portable"], "in fp32, which runs in every engine")
    if head == "prototype" and strategy == "probe":
        yield from _idle([name for name in known if name == "balance"], "on prototypes, which count classes alike")
    if settings.optimizer != "sgd":
        yield from _idle([name for name in known if name == "momentum"], f"with --optimizer {settings.optimizer}")
    if settings.augment in ("none", "flip"):
        yield from _idle([name for name in known if name == "crop_scale"], f"with --augment {settings.augment}")
    if strategy == "finetune" and settings.thaw == 0:
        yield from _idle([name for name in known if name in ("layer_decay", "freeze_bn")], "with --thaw 0")
    if strategy == "finetune" and settings.head_init == "random":
        yield from _idle([name for name in known if name in ("l2", "standardize")], "with --head-init random")
    elif strategy == "finetune" and not settings.hidden:
        yield from _idle([name for name in known if name == "standardize"], "on a linear head")


def _idle(names: list[str], where: str) -> Iterator[str]:
    if names:
        yield f"{', '.join(map(option, names))} {'has' if len(names) == 1 else 'have'} no effect {where}"

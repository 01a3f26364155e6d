"""The roads on which a network itself is trained: on from pretrained weights, or from random ones (scratch).

Both are the same work: a staged classifier, images fed to it, the one loop. What differs stands in RoadSettings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from headway import files
from headway.backbones.network import Trunk, tensors_digest
from headway.backbones.preprocess import Preprocess
from headway.data.dataset import Contents, Dataset, Split
from headway.errors import Refused
from headway.events import Detail, Progress
from headway.machine import keep_freed_memory
from headway.training.activations import cut_activations
from headway.training.augment import Augment
from headway.training.balance import balanced_weights
from headway.training.batches import seed_of
from headway.training.feeding import fits_in_memory, from_disk, from_memory, hold_images, keeps_whole
from headway.training.head_layers import build_head, set_layers
from headway.training.heads import Layer
from headway.training.staged import StagedClassifier
from headway.training.task import Feed, LoopSettings, Rows, Task
from headway.world import World

if TYPE_CHECKING:
    from headway.settings import FitSettings

PLAIN = Augment("none")


@dataclass(frozen=True)
class RoadSettings:
    """What decides how a network is trained; see the options of the same names.

    loop      the loop's own part; its lr counts only where `auto_lr` is false
    thaw      how many of the last stages are trained with the head; None = all of them
    views     K > 0: the augmented images are K fixed ones of each, so that the frozen front can be cached for them
    """

    loop: LoopSettings
    auto_lr: bool
    thaw: int | None
    hidden: tuple[int, ...]
    dropouts: tuple[float, ...]
    freeze_bn: bool
    augment: Augment
    views: int
    class_weights: bool
    workers: int
    threads: int

    @staticmethod
    def from_settings(settings: FitSettings, threads: int, device: str) -> RoadSettings:
        """The part of the options that the roads read."""
        names = set(LoopSettings.__dataclass_fields__) & set(type(settings).model_fields) - {
            "lr",
            "until",
            "device",
            "precision",
        }
        loop = LoopSettings(
            lr=settings.lr if isinstance(settings.lr, float) else LoopSettings.lr,
            until=settings.target,
            checkpoint_seconds=settings.checkpoint_every,
            judge_start=settings.strategy == "finetune" and settings.head_init == "probe",
            device=device,
            precision=settings.training_precision,
            **{name: getattr(settings, name) for name in names},
        )
        return RoadSettings(
            loop=loop,
            auto_lr=settings.lr == "auto",
            thaw=None if settings.thaw == "all" else int(settings.thaw),
            hidden=settings.hidden,
            dropouts=settings.dropouts,
            freeze_bn=settings.freeze_bn,
            augment=Augment(settings.augment, settings.crop_scale, settings.erase),
            views=settings.views if isinstance(settings.views, int) else 0,
            class_weights=settings.balance == "weights",
            workers=threads if settings.workers is None else settings.workers,
            threads=threads,
        )


@dataclass(frozen=True)
class Brief:
    """What every process that trains must hold alike. Plain values: it may travel to other processes.

    contents  what the pass saw of every sample;  head  layers to start from, None = random ones
    """

    contents: Contents
    split: Split
    preprocess: Preprocess
    n_classes: int
    head: tuple[Layer, ...] | None

    def digest(self, labels: NDArray[np.integer[Any]]) -> str:
        """One digest over the images, their use, their labels and the head that training starts from."""
        whole = hashlib.sha256(np.ascontiguousarray(self.contents.digests).data)
        whole.update(np.ascontiguousarray(self.split.subsets).data)
        whole.update(np.ascontiguousarray(labels, dtype=np.int64).data)
        for layer in self.head or ():
            whole.update(np.ascontiguousarray(layer.weight).data)
            whole.update(np.ascontiguousarray(layer.bias).data)
        whole.update(repr(self.preprocess.to_json()).encode())
        return whole.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A network ready to be trained. `model` is all of it; `task` may hold its back only, fed with activations."""

    model: StagedClassifier
    trunk: Trunk
    task: Task
    fed: str


def build_model(trunk: Trunk, brief: Brief, road: RoadSettings) -> StagedClassifier:
    """The trunk with a head: the solved one of `brief`, or a random one by the seed; frozen as the road asks."""
    trunk = trunk.train(False)
    width = brief.head[0].weight.shape[1] if brief.head is not None else _width(trunk, brief.preprocess.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(road.loop.seed, "head"))
        head = build_head(width, road.hidden, road.dropouts, brief.n_classes)
    if brief.head is not None:
        set_layers(head, brief.head)
    model = StagedClassifier(trunk, head, freeze_bn=road.freeze_bn)
    if road.thaw is not None and road.thaw > model.n_stages:
        names = ", ".join(stage.name for stage in model.stages)
        raise Refused(
            f"--thaw {road.thaw}: this network has {model.n_stages} stages ({names}). All of them: --thaw all"
        )
    model.thaw(1 if road.loop.thaw_every else road.thaw)
    return model


def prepare(
    dataset: Dataset, trunk: Trunk, brief: Brief, road: RoadSettings, folder: Path
) -> Generator[Progress | Detail, None, Prepared]:
    """Everything that training needs: the model, and what feeds it.

    folder  where activations of a frozen front are kept while the run lasts
    """
    torch.set_num_threads(road.threads)
    keep_freed_memory()
    model = build_model(trunk, brief, road)
    train, val = brief.split.train, brief.split.val
    train_feed = yield from images(dataset, brief, road, train, road.augment)
    val_feed = yield from images(dataset, brief, road, val, PLAIN)
    fed = model
    told = "images"
    parts = cut_frozen(model, road)
    if parts is not None:
        front, back = parts
        seen_by = tensors_digest(front.state_dict())
        key = files.digest_json({"work": loop_key(brief, dataset.labels, road), "front": seen_by})
        front.to(road.loop.device)
        train_feed = yield from cut_activations(front, train_feed, len(train), folder / "train", road.views, key=key)
        val_feed = yield from cut_activations(front, val_feed, len(val), folder / "val", key=key)
        fed, told = back, "cached activations"
        yield Detail(
            "train",
            f"the frozen front was run once; {told} feed the {model.n_stages - _front(model, road)} stages behind it",
        )
    labels = dataset.labels.astype(np.int64)
    weights = balanced_weights(labels[train], brief.n_classes) if road.class_weights else None
    task = Task(fed, Rows(train_feed, labels[train]), Rows(val_feed, labels[val]), fed.depths(), weights)
    return Prepared(model, trunk, task, told)


def rate(
    task: Task, road: RoadSettings, known: float | None, world: World
) -> tuple[float, tuple[tuple[float, float], ...]]:
    """The learning rate asked for, or the one that a range test finds (once in a run), with the rates that it tried."""
    if not road.auto_lr or known is not None:
        return (road.loop.lr if known is None else known), ()
    from headway.training.lr_range import find_lr

    found = find_lr(task, road.loop, world)
    return found.lr, tuple(found.tried)


def loop_key(brief: Brief, labels: NDArray[np.integer[Any]], road: RoadSettings) -> str:
    """Digest of all that decides the result of training; neither workers nor where it runs."""
    plain = repr(replace(road, workers=0, loop=replace(road.loop, checkpoint_seconds=0.0, allow_inexact=False)))
    return files.digest_json({"brief": brief.digest(labels), "road": plain})


def images(
    dataset: Dataset, brief: Brief, road: RoadSettings, indices: NDArray[np.intp], augment: Augment
) -> Generator[Progress, None, Feed]:
    """Images of some samples: held in memory where they fit and nothing of them outside the input is wanted."""
    preprocess, seed = brief.preprocess, road.loop.seed
    keys = np.ascontiguousarray(brief.contents.digests[indices, :8]).view(np.uint64).reshape(-1)
    side = preprocess.size
    sizes = brief.contents.sizes[indices]
    whole = keeps_whole(preprocess) and bool((sizes == side).all())  # the prepared image is the image
    if (whole or augment.kind in ("none", "flip")) and fits_in_memory(len(indices), side):
        held = yield from hold_images(dataset, indices, preprocess, road.threads)
        return from_memory(held, keys, augment, seed, road.workers, preprocess=preprocess)
    return from_disk(dataset, indices, preprocess, keys, augment, seed, road.workers)


def _front(model: StagedClassifier, road: RoadSettings) -> int:
    """How many stages in front stay frozen all the time."""
    return 0 if road.thaw is None or road.loop.thaw_every else max(0, model.n_stages - road.thaw)


def cut_frozen(model: StagedClassifier, road: RoadSettings) -> tuple[torch.nn.Module, StagedClassifier] | None:
    """The frozen front and the rest, where the front sees the same images in every epoch and can be run apart."""
    changing = road.augment != PLAIN and not road.views
    if changing or road.loop.mixup or road.loop.cutmix or not _front(model, road):
        return None
    return model.front_and_back(_front(model, road))


@torch.no_grad()
def _width(trunk: Trunk, size: int) -> int:
    return int(trunk.last(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1])

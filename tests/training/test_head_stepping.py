from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headway.training.batch import Batch, Steps
from headway.training.batches import cut_batches, shuffle
from headway.training.dropout import Dropout
from headway.training.head_layers import Standardise
from headway.training.head_module import HeadShape, head_task
from headway.training.head_stepping import HeadStepper, open_stepper
from headway.training.stepping import Stepper
from headway.training.task import LoopSettings, Rows, Task
from headway.world import ALONE
from tests.training import nets

CLASSES = 4
PLAIN = LoopSettings(batch=12, lr=1e-2)


def a_task(shape: HeadShape, weights: list[float] | None = None) -> Task:
    random = np.random.default_rng(3)
    features = (random.normal(size=(40, 10)) * random.uniform(0.1, 9, 10) + 4).astype(np.float32)
    rows = Rows(nets.feed_of(torch.from_numpy(features)), random.integers(0, CLASSES, 40))
    return head_task(rows, rows, CLASSES, shape, 5, None if weights is None else np.array(weights))


def stepped(stepper: Steps, task: Task, settings: LoopSettings, micro: int | None) -> list[Any]:
    """What each step of an epoch met and its gradients, then the weights that come of it."""
    found: list[Any] = []
    cut = cut_batches(shuffle(len(task.train), settings.seed, 1), settings.batch)
    for number, positions in enumerate(cut, start=1):
        batch = Batch.of(positions, 1, (number, len(cut)), settings, ALONE)
        (images,) = task.train.feed([batch.asked], 1)
        met = stepper.gradients(batch, images, micro)
        found += [met.loss, met.right, met.norm]
        found += [parameter.grad.clone() for parameter in task.model.parameters() if parameter.grad is not None]
        assert met.fits
        assert stepper.apply()
    found += [parameter.detach().clone() for parameter in task.model.parameters()]
    stepper.release()
    return found


@pytest.mark.parametrize("micro", [None, 5])
@pytest.mark.parametrize(
    "settings",
    [
        PLAIN,
        replace(PLAIN, optimizer="sgd", nesterov=True, weight_decay=0.1),
        replace(PLAIN, optimizer="adam", label_smoothing=0.2, clip=0.05),
        replace(PLAIN, optimizer="sgd", momentum=0.0, mixup=0.8, label_smoothing=0.1),
    ],
    ids=["adamw", "nesterov", "adam-smooth-clipped", "sgd-mixup"],
)
@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        (HeadShape((), standardize=False), None),
        (HeadShape((16,)), [0.5, 1.0, 2.0, 0.0]),
        (HeadShape((16, 8), (0.4, 0.25)), None),
        (HeadShape((7, 6, 5), (0.0, 0.5)), [1.0, 3.0, 0.2, 1.0]),
    ],
    ids=["linear", "mlp-weights", "dropout", "deep"],
)
def test_head_stepper__takes_the_steps_of_autograd(
    shape: HeadShape, weights: list[float] | None, settings: LoopSettings, micro: int | None
) -> None:
    ours, theirs = a_task(shape, weights), a_task(shape, weights)
    stepper = open_stepper(ours, settings, ALONE)
    assert isinstance(stepper, HeadStepper)
    mine = stepped(stepper, ours, settings, micro)
    others = stepped(Stepper(theirs, settings, ALONE), theirs, settings, micro)
    assert len(mine) == len(others)
    for one, other in zip(mine, others, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(10, 4, bias=False)),
        nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, 4)),
        nn.Sequential(nn.Linear(10, 6), nn.Linear(6, 4)),
        nn.Sequential(nn.Linear(10, 4), nn.ReLU()),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(10, 4)),
        nn.Sequential(Dropout(0.999999), nn.Linear(10, 4)),  # of which its mask does not tell all
        nn.Sequential(Dropout(0.5), Dropout(0.5), nn.Linear(10, 4)),
        nn.Sequential(nn.Linear(10, 4), Dropout(0.5)),
        nn.Sequential(nn.Linear(10, 10), nn.ReLU(), Standardise(torch.zeros(10), torch.ones(10)), nn.Linear(10, 4)),
        nn.Sequential(nn.Linear(10, 4).requires_grad_(False)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 4)),
    ],
    ids=lambda model: type(model[-1]).__name__ + str(len(model)),
)
def test_open_stepper__leaves_what_it_does_not_know_to_autograd(model: nn.Sequential) -> None:
    task = replace(a_task(HeadShape()), model=model)
    assert isinstance(open_stepper(task, PLAIN, ALONE), Stepper)


@pytest.mark.parametrize("precision", ["bf16"])
def test_open_stepper__leaves_other_precisions_to_autograd(precision: str) -> None:
    task = a_task(HeadShape((16,)))
    assert isinstance(open_stepper(task, replace(PLAIN, precision=precision), ALONE), Stepper)


def test_head_stepper__where_memory_does_not_suffice_the_step_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    task = a_task(HeadShape((16,)))
    stepper = open_stepper(task, PLAIN, ALONE)
    batch = Batch.of(np.arange(12), 1, (1, 1), PLAIN, ALONE)
    (images,) = task.train.feed([batch.asked], 1)

    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(HeadStepper, "_forward", full)
    assert not stepper.gradients(batch, images, None).fits


def test_training_a_head__loads_neither_accelerate_nor_the_compiler_of_torch() -> None:
    program = """
import sys
import numpy as np, torch
from headway.training.head_module import HeadShape, head_task, train_head
from headway.training.task import LoopSettings, Rows
features, labels = torch.randn(20, 5), np.arange(20) % 3
rows = Rows(lambda batches, epoch: (features[torch.from_numpy(batch)] for batch in batches), labels)
list(train_head(head_task(rows, rows, 3, HeadShape((4,), (0.5,)), 0), LoopSettings(epochs=2)))
print(sorted({"accelerate", "torch._dynamo"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

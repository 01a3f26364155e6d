from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.training.checkpoint import load_checkpoint, save_checkpoint
from headway.training.interrupts import undisturbed
from headway.training.loop import Epoch, LoopSettings, Resumed, Rows, Task, Trained, train
from headway.world import ALONE
from tests.training import nets

# Everything that has a state: momentum or moments, an average, dropout, mixing, clipping, BatchNorm, a schedule.
FULL = LoopSettings(
    batch=12, epochs=3, lr=1e-2, mixup=0.3, cutmix=0.5, ema=0.9, clip=0.5, label_smoothing=0.1, weight_decay=0.1,
    checkpoint_seconds=0, keep="val.loss",
)  # fmt: skip
KINDS = {
    "adamw": FULL,
    "sgd": replace(FULL, optimizer="sgd", momentum=0.9, nesterov=True, schedule="onecycle", ema=0.0, mixup=0.0),
    "adam": replace(FULL, optimizer="adam", schedule="step:1:0.5", micro_batch=5, judge_start=True, warmup=0.5),
}
N = 44  # four batches an epoch, the last one ragged: 12 steps in all


@pytest.fixture(scope="module")
def straight() -> dict[str, Trained]:
    """The uninterrupted runs."""
    torch.set_num_threads(1)
    return {kind: nets.trained(nets.task(N), kept) for kind, kept in KINDS.items()}


def task_with(feed_at: int, error: type[BaseException]) -> Task:
    whole = nets.task(N)
    return replace(whole, train=Rows(nets.interrupting(whole.train.feed, feed_at, error), whole.train.labels))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments=st.lists(st.integers(0, 11), min_size=1, max_size=3))
def test_train__interrupted_at_any_step_ends_in_the_same_bits(
    kind: str,
    error: type[BaseException],
    straight: dict[str, Trained],
    tmp_path_factory: pytest.TempPathFactory,
    moments: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    every = list(KINDS).index(kind) * 1000.0  # each step is saved, or those that an interruption ends at
    asked = replace(KINDS[kind], checkpoint_seconds=every)
    for moment in moments:
        with contextlib.suppress(error):
            nets.finish(train(task_with(moment, error), asked, ALONE, folder, "key"))
    seen, ended = nets.finish(train(nets.task(N), asked, ALONE, folder, "key"))

    assert nets.same_bits(ended.state, straight[kind].state)
    assert repr(nets.curve(ended.epochs)) == repr(nets.curve(straight[kind].epochs))
    assert (ended.stopped, ended.why) == (straight[kind].stopped, straight[kind].why)
    assert any(moments) == any(isinstance(value, Resumed) for value in seen) or kind == "adam"


def test_train__the_comparison_sees_one_ulp(straight: dict[str, Trained]) -> None:
    state = {name: tensor.clone() for name, tensor in straight["adamw"].state.items()}
    assert nets.same_bits(state, straight["adamw"].state)
    weight = state["first.weight"].view(-1)
    weight[7] = torch.nextafter(weight[7], torch.tensor(torch.inf))
    assert not nets.same_bits(state, straight["adamw"].state)


def test_train__one_ulp_in_a_checkpoint_changes_the_result(straight: dict[str, Trained], tmp_path: Path) -> None:
    """All of the state matters: whichever tensor is changed by one ULP, other bits come out."""
    with pytest.raises(KeyboardInterrupt):
        nets.finish(train(task_with(6, KeyboardInterrupt), FULL, ALONE, tmp_path / "whole", "key"))
    found = load_checkpoint(tmp_path / "whole")
    assert found is not None
    named = [name for name in found.tensors if name.split("/")[0] in ("model", "optimizer", "average")]
    for number, name in enumerate(name for name in named if name.endswith(("weight", "exp_avg", "exp_avg_sq"))):
        tensors = {key: tensor.clone() for key, tensor in found.tensors.items()}
        first = tensors[name].view(-1)
        first[0] = torch.nextafter(first[0] * 1.001, torch.tensor(torch.inf))
        save_checkpoint(tmp_path / str(number), tensors, found.facts)
        _, ended = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path / str(number), "key"))
        assert not nets.same_bits(ended.state, straight["adamw"].state), name


@pytest.mark.parametrize("after", [0, 1, 2])
def test_train__a_closed_generator_goes_on(after: int, straight: dict[str, Trained], tmp_path: Path) -> None:
    training = train(nets.task(N), FULL, ALONE, tmp_path, "key")
    for _ in range(after + 1):
        assert isinstance(next(training), Epoch)
    training.close()
    seen, ended = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path, "key"))
    assert isinstance(seen[0], Resumed)
    assert [value.epoch for value in seen[1:]] == list(range(after + 2, 4))
    assert nets.same_bits(ended.state, straight["adamw"].state)


class Failing(nn.Module):
    """A network whose forward or backward raises at a given call: BatchNorm has moved by then, weights have not."""

    def __init__(self, at: int, backward: bool) -> None:
        super().__init__()
        self.inner = nets.network()
        self.at, self.backward, self.calls = at, backward, 0

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.inner(inputs)
        self.calls += self.training
        if self.calls == self.at and self.training:
            if not self.backward:
                raise KeyboardInterrupt
            logits.register_hook(self._raise)  # type: ignore[no-untyped-call]
        return logits

    def _raise(self, gradient: Tensor) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("backward", [False, True])
def test_train__interrupted_within_a_step(backward: bool, tmp_path: Path) -> None:
    """What a forward pass moved is put back before the state is saved."""
    settings = replace(FULL, checkpoint_seconds=1000)  # what is saved is saved as the interruption comes
    plain = nets.trained(nets.task(N, Failing(-1, backward)), settings)
    for at in (1, 3, 4, 7):
        folder = tmp_path / str(at)
        with pytest.raises(KeyboardInterrupt):
            nets.finish(train(nets.task(N, Failing(at, backward)), settings, ALONE, folder, "key"))
        _, ended = nets.finish(train(nets.task(N, Failing(-1, backward)), settings, ALONE, folder, "key"))
        assert nets.same_bits(ended.state, plain.state), at


def test_train__interrupted_in_validation(straight: dict[str, Trained], tmp_path: Path) -> None:
    """The average is on show then; its weights must not be taken for the model's own."""
    whole = nets.task(N)

    def broken(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        yield from whole.val.feed(batches[:1], epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nets.finish(train(replace(whole, val=Rows(broken, whole.val.labels)), FULL, ALONE, tmp_path, "key"))
    seen, ended = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path, "key"))
    assert seen[0] == Resumed(1, 4, "going on from the checkpoint in epoch 1, after 4 batches")
    assert nets.same_bits(ended.state, straight["adamw"].state)


def test_train__a_finished_training_returns_its_result_at_once(straight: dict[str, Trained], tmp_path: Path) -> None:
    _, first = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path, "key"))
    broken = task_with(0, AssertionError)
    seen, again = nets.finish(train(broken, FULL, ALONE, tmp_path, "key"))
    assert seen == [Resumed(4, 0, "training had ended after epoch 3; its checkpoint has the result")]
    assert nets.same_bits(first.state, again.state)
    assert nets.same_bits(again.state, straight["adamw"].state)
    assert (again.epochs, again.why, again.stopped) == (first.epochs, first.why, "epochs")


def test_train__a_checkpoint_of_another_key_is_not_gone_on_from(straight: dict[str, Trained], tmp_path: Path) -> None:
    other = nets.task(N, model=nets.ConvNet())
    nets.finish(train(other, replace(FULL, epochs=1, seed=3), ALONE, tmp_path, "other"))
    seen, ended = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path, "key"))
    assert all(isinstance(value, Epoch) for value in seen)
    assert nets.same_bits(ended.state, straight["adamw"].state)


def test_train__a_damaged_checkpoint_gives_way_to_the_one_before(straight: dict[str, Trained], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        nets.finish(train(task_with(6, KeyboardInterrupt), FULL, ALONE, tmp_path, "key"))
    newest = max(tmp_path.glob("*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    seen, ended = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path, "key"))
    assert seen[0] == Resumed(
        2,
        1,
        "going on from the checkpoint in epoch 2, after 1 batches; newer ones were damaged and left alone: "
        f"{newest.name}",
    )
    assert nets.same_bits(ended.state, straight["adamw"].state)


def test_train__seconds_leave_interruptions_out(tmp_path: Path) -> None:
    training = train(nets.task(N), FULL, ALONE, tmp_path, "key")
    before = next(training)
    training.close()
    assert isinstance(before, Epoch)
    seen, _ = nets.finish(train(nets.task(N), FULL, ALONE, tmp_path, "key"))
    times = [before.seconds, *[value.seconds for value in seen if isinstance(value, Epoch)]]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 60


def some_tensors(seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, 4, 4, generator=random).to(memory_format=torch.channels_last)
    return {"a/image": image, "b": torch.tensor(7), "half": torch.ones(3, dtype=torch.bfloat16), "none": torch.empty(0)}


def test_checkpoint__gives_back_what_was_saved(tmp_path: Path) -> None:
    facts = {"loss": 0.1 + 0.2, "nothing": float("nan"), "list": [[1, 2]], "text": "é"}
    save_checkpoint(tmp_path / "new", some_tensors(), facts)
    found = load_checkpoint(tmp_path / "new")
    assert found is not None
    assert repr(found.facts) == repr(dict(sorted(facts.items())))
    assert found.damaged == ()
    assert found.tensors.keys() == some_tensors().keys()
    for name, tensor in some_tensors().items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_checkpoint__two_generations_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        save_checkpoint(tmp_path, some_tensors(number), {"number": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-0000000004.safetensors",
        "step-0000000005.safetensors",
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_checkpoint__any_damage_is_seen(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damage")
    save_checkpoint(folder, some_tensors(1), {"number": 1})
    newest = save_checkpoint(folder, some_tensors(2), {"number": 2})
    content = bytearray(newest.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    newest.write_bytes(content)
    found = load_checkpoint(folder)
    assert found is not None
    assert (found.facts, found.damaged) == ({"number": 1}, (newest.name,))


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_checkpoint__none_where_there_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "step-0000000001.safetensors").write_bytes(content)
        (tmp_path / ".step-0000000002.safetensors.x.tmp").write_bytes(content)
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_undisturbed__a_signal_waits_for_the_end(number: signal.Signals) -> None:
    def stop(*_: Any) -> None:
        raise HeadwayError("stopped")

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
    done = []

    def work() -> None:
        with undisturbed():
            os.kill(os.getpid(), number)
            done.append("all of it")

    try:
        with pytest.raises(HeadwayError, match="stopped"):
            work()
        assert done == ["all of it"]
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is stop
        with undisturbed():
            pass
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)

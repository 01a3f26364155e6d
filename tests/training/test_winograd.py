"""Convolutions by code of our own: held against torch's in float64, in every set of instructions that is here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from headway.backbones.native import compiling
from headway.training.convolutions import quicken
from headway.training.winograd import Winograd
from tests.conftest import require
from tests.training.test_convolutions import met, restless

_Sizes = tuple[int, tuple[int, int], tuple[int, int]]  # images, channels of x and of the result, height and width


@pytest.fixture(autouse=True)
def _compiler() -> None:
    require("compiler", compiling.compiler() is not None, "there is no C compiler")


def three(ours: Winograd, x: Tensor, weight: Tensor, bias: Tensor | None, gradient: Tensor) -> list[Tensor]:
    return [ours.result(x, weight, bias), ours.of_input(gradient, weight), ours.of_weight(gradient, x)]


def by_torch(x: Tensor, weight: Tensor, bias: Tensor | None, gradient: Tensor) -> list[Tensor]:
    """The same, in float64."""
    x, weight, gradient = (tensor.double() for tensor in (x, weight, gradient))
    for tensor in (x, weight):
        tensor.requires_grad_()
    result = functional.conv2d(x, weight, None if bias is None else bias.double(), 1, 1)
    return [result.detach(), *torch.autograd.grad(result, [x, weight], gradient)]


def of_sizes(n: int, channels: tuple[int, int], side: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight and gradient, channels last."""
    random = torch.Generator().manual_seed(seed)
    shapes = ((n, channels[0], *side), (channels[1], channels[0], 3, 3), (n, channels[1], *side))
    x, weight, gradient = (
        torch.randn(shape, generator=random).contiguous(memory_format=torch.channels_last) for shape in shapes
    )
    return x, weight, gradient


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max()) < 3e-5 * float(other.abs().max())


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 5),
    channels=st.tuples(st.sampled_from([32, 48, 80]), st.sampled_from([32, 48, 80, 272])),
    side=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    threads=st.integers(1, 5),
    biased=st.booleans(),
)
def test_winograd__gives_what_torch_gives(
    n: int, channels: tuple[int, int], side: tuple[int, int], threads: int, biased: bool
) -> None:
    x, weight, gradient = of_sizes(n, channels, side)
    bias = torch.linspace(-3, 3, channels[1]) if biased else None

    assert_close(three(Winograd(threads), x, weight, bias, gradient), by_torch(x, weight, bias, gradient))


def test_winograd__of_many_tiles() -> None:  # many times as many as are worked on together
    x, weight, gradient = of_sizes(4, (32, 64), (57, 50))

    assert_close(three(Winograd(2), x, weight, None, gradient), by_torch(x, weight, None, gradient))


def test_winograd__layouts_of_every_kind() -> None:
    ours = Winograd(2)
    x, weight, gradient = of_sizes(2, (32, 48), (8, 5))
    expected = three(ours, x, weight, None, gradient)

    for other in (x.contiguous(), x.repeat_interleave(2, 0)[::2], x.flip(3).flip(3)):
        assert all(map(torch.equal, three(ours, other, weight.contiguous(), None, gradient.contiguous()), expected))
    spread = torch.ones(2, 48, 1, 1).expand(2, 48, 8, 5)  # as the mean over an image hands its gradient on
    assert_close([ours.of_weight(spread, x)], by_torch(x, weight, None, spread)[2:])


def test_winograd__nothing_stays_from_call_to_call() -> None:
    ours = Winograd(2)
    x, weight, gradient = of_sizes(3, (48, 144), (9, 6))
    expected = three(Winograd(2), x, weight, None, gradient)

    others: list[_Sizes] = [(3, (48, 144), (9, 6)), (1, (80, 400), (3, 3)), (4, (32, 32), (20, 20))]
    for sizes in others:
        broken = [torch.full_like(tensor, torch.nan) for tensor in of_sizes(*sizes)]
        three(ours, broken[0], broken[1], None, broken[2])
        assert all(map(torch.equal, three(ours, x, weight, None, gradient), expected))


def test_winograd__inputs_are_left_as_they_are() -> None:
    given_ones = of_sizes(2, (32, 32), (8, 8))
    before = [tensor.clone() for tensor in given_ones]

    three(Winograd(2), given_ones[0], given_ones[1], None, given_ones[2])

    assert all(map(torch.equal, given_ones, before))


# What it takes --------------------------------------------------------------------------------------------------


_PLAIN = ((1, 1), (1, 1), (1, 1), 1)


@pytest.mark.parametrize(
    ("n", "channels", "side", "taken"),
    [
        (32, (32, 64), (8, 8), True),
        (32, (32, 64), (7, 7), True),  # the last stage of a ResNet at 224 pixels
        (32, (32, 64), (5, 5), False),  # most of what is computed would lie outside
        (16, (32, 64), (8, 8), True),
        (15, (32, 64), (8, 8), False),  # fewer than 32 tiles for each core
        (32, (32, 16), (8, 8), False),
        (32, (1024, 1024), (8, 8), True),
        (32, (1024, 1040), (8, 8), False),  # their tiles would take too much memory
        (32, (40, 64), (8, 8), False),  # registers hold 16
    ],
)
def test_takes__sizes(n: int, channels: tuple[int, int], side: tuple[int, int], taken: bool) -> None:
    ours = Winograd(2)
    ours._lanes = 16  # as where registers are widest

    assert ours.takes(torch.empty(n, channels[0], *side), torch.empty(*channels[::-1], 3, 3), _PLAIN) == taken


@pytest.mark.parametrize(
    "geometry",
    [
        ((2, 2), (1, 1), (1, 1), 1),
        ((1, 1), (0, 0), (1, 1), 1),
        ((1, 1), (2, 2), (2, 2), 1),
        ((1, 1), (1, 1), (1, 1), 2),
    ],
)
def test_takes__no_other_geometry(geometry: tuple[Any, ...]) -> None:
    assert not Winograd(1).takes(torch.empty(32, 64, 8, 8), torch.empty(32, 64, 3, 3), geometry)


@pytest.mark.parametrize(("x", "weight"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_takes__single_precision_alone(x: torch.dtype, weight: torch.dtype) -> None:
    assert not Winograd(1).takes(torch.empty(32, 64, 8, 8, dtype=x), torch.empty(32, 64, 3, 3, dtype=weight), _PLAIN)


def test_takes__kernels_of_three_by_three_alone() -> None:
    ours, x = Winograd(2), torch.empty(32, 32, 8, 8)
    for shape in ((1, 1), (3, 1), (5, 5)):
        assert not ours.takes(x, torch.empty(32, 32, *shape), _PLAIN)


# Within a step --------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolutions that take the way of our own, one that does not (its stride), and BatchNorm behind some."""

    def __init__(self, still: bool) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 48, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(48).train(not still)
        self.second, self.head = nn.Conv2d(48, 32, 3, 1, 1), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(self.stem(x).tanh())).tanh()  # smooth: no last bit decides which way it goes
        logits: Tensor = self.head(self.second(x).tanh().mean((2, 3)))
        return logits


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of the three was called, in turn."""
    calls: list[str] = []

    def noting(name: str) -> Callable[..., Tensor]:
        own = getattr(Winograd, name)

        def noted(*values: object) -> Tensor:
            calls.append(name)
            found: Tensor = own(*values)
            return found

        return noted

    for name in ("result", "of_input", "of_weight"):
        monkeypatch.setattr(Winograd, name, noting(name))
    return calls


def alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    assert found.keys() == expected.keys()
    return all(
        float((found[name].double() - one).abs().max()) <= 1e-4 * float(one.abs().max()) + 1e-7
        for name, one in expected.items()
    )


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("frozen", ["", "first", "all but the head"])
def test_quicken__with_convolutions_of_our_own(still: bool, frozen: str, counted: list[str]) -> None:
    torch.manual_seed(0)
    model = restless(Net(still)).to(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (name.startswith("first") if frozen == "first" else frozen and "head" not in name))
    x = torch.randn(8, 3, 32, 32)
    twin = Net(still).double()
    twin.load_state_dict(model.state_dict())
    for parameter, own in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.requires_grad_(own.requires_grad)

    quick = quicken(model, x[:1])
    counted.clear()

    assert alike(met(model, x, quick), met(twin, x.double(), None))
    # Of two convolutions the gradients of input and of weights; a still BatchNorm that learns asks for its own by them.
    backward = {"": 4, "first": 4 if still else 3, "all but the head": 0}[frozen]
    assert (counted.count("result"), len(counted) - 2) == (2, backward)


def test_quicken__where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    model = Net(still=False)
    x = torch.randn(8, 3, 32, 32)
    expected = met(Net(still=False), x, None).keys()

    quick = quicken(model, x[:1])

    assert model.second not in quick.forwards
    assert met(model, x, quick).keys() == expected


# In every set of instructions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("instructions", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_winograd__every_set_of_instructions(monkeypatch: pytest.MonkeyPatch, instructions: str) -> None:
    known = subprocess.run(["/lib64/ld-linux-x86-64.so.2", "--help"], capture_output=True, text=True, check=False)
    if f"{instructions} (supported" not in known.stdout and instructions != "x86-64":
        pytest.skip(f"this processor does not know {instructions}")
    flags = [flag if not flag.startswith("-m") else f"-march={instructions}" for flag in compiling._flags()]
    monkeypatch.setattr(compiling, "_flags", lambda: flags)
    x, weight, gradient = of_sizes(3, (48, 400), (9, 6))
    ours = Winograd(2)

    assert ours._lanes == {"x86-64": 4, "x86-64-v3": 8, "x86-64-v4": 16}[instructions]
    assert_close(three(ours, x, weight, None, gradient), by_torch(x, weight, None, gradient))


SANITISED = """
import sys
import torch
from headway.backbones.native import compiling
flags = [*compiling._flags(), "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
compiling._flags = lambda: flags
from headway.training.winograd import Winograd
for threads in (1, 3):
    ours = Winograd(threads)
    for n, read, given, height, width in ((3, 48, 400, 9, 6), (1, 32, 48, 1, 1), (5, 80, 32, 4, 17)):
        x, weight, gradient = torch.rand(n, read, height, width), torch.rand(given, read, 3, 3), \
            torch.rand(n, given, height, width)
        ours.result(x, weight, None), ours.of_input(gradient, weight), ours.of_weight(gradient, x)
print("whole")
"""


@pytest.mark.slow
def test_winograd__nothing_is_read_or_written_outside(tmp_path: Path) -> None:
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0", "PATH": "/usr/bin:/bin"}
    environment["HEADWAY_CODE_DIR"] = str(tmp_path / "code")

    done = subprocess.run([sys.executable, "-c", SANITISED], env=environment, capture_output=True, text=True)

    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr

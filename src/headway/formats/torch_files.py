"""`torch.export` programs (.pt2), and TorchScript for hosts whose torch is older."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.runtime import first_line
from headway.errors import HeadwayError
from headway.exports import measure_parity
from headway.formats.format import Format, Request

if TYPE_CHECKING:
    from headway.formats.torch_module import TorchClassifier

_PROGRAM, _SCRIPT = "model.pt2", "model.pt"
_USE_PROGRAM = """\
model = torch.export.load("model.pt2").module()
with torch.inference_mode():
    logits = model(torch.from_numpy(read(path)))[0][0].numpy()"""
_USE_SCRIPT = """\
model = torch.jit.load("model.pt").eval()
with torch.inference_mode():
    logits = model(torch.from_numpy(read(path)))[0][0].numpy()"""


def _write_program(request: Request, folder: Path) -> None:
    import torch

    model = _module(request)
    size = request.bundle.preprocess.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # of 1, the batch would become a fixed number
    with _quietly("torch.export"), torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.export.save(program, folder / _PROGRAM)


def _write_script(request: Request, folder: Path) -> None:
    import torch

    model = _module(request)
    size = request.bundle.preprocess.size
    with _quietly("torch.jit.trace"), torch.no_grad():
        example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
        traced = torch.jit.trace(model, example)  # type: ignore[no-untyped-call]
        traced.save(str(folder / _SCRIPT))


def _program_logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    with _quietly("torch.export"):
        return _run(torch.export.load(folder / _PROGRAM).module(), images)


def _script_logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    with _quietly("torch.jit.load"):
        model = torch.jit.load(str(folder / _SCRIPT))  # type: ignore[no-untyped-call]
        return _run(model.eval(), images)


def _run(model: Callable[..., Any], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        found: NDArray[np.float32] = model(torch.from_numpy(images))[0].numpy()
    return found


def _module(request: Request) -> TorchClassifier:
    """The one of `rebuilt` that gives the bundle's numbers; of none the first, which the gate will then refuse."""
    from headway.backbones.network import grey_image
    from headway.formats.torch_module import rebuilt

    bundle = request.bundle
    grey = grey_image(bundle.preprocess.size).numpy()
    wanted, models = bundle.logits(grey), []
    for model in rebuilt(bundle):
        if measure_parity(_run(model, grey), wanted, bundle.temperature).agrees:
            return model
        models.append(model)
    return models[0]


@contextmanager
def _quietly(what: str) -> Iterator[None]:
    """Notes of torch on its own future are not the user's; its errors become ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # torch's errors of these parts share no narrower class
        raise HeadwayError(f"{what} cannot do it with this network: {first_line(error)} Try --to onnx.") from error


PROGRAM = Format("torch.export", ("torch",), _write_program, _program_logits, lambda _: _USE_PROGRAM)
SCRIPT = Format("TorchScript", ("torch",), _write_script, _script_logits, lambda _: _USE_SCRIPT)

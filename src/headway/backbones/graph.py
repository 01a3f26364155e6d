"""A trunk written as an ONNX graph: traced (half a second), or by torch.export where tracing would not do."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from headway.backbones.engines import AGREEMENT, worst_cosine
from headway.backbones.network import Trunk, grey_image
from headway.backbones.trunk import Tap
from headway.errors import HeadwayError

_OPSET = 18
_OTHER_BATCHES = (1, 3)  # beside the two images that are traced: a number of images that stuck is seen


def export_graph(trunk: Trunk, taps: tuple[Tap, ...], size: int, path: Path) -> None:
    """Write the trunk as ONNX: `image` uint8 (B, size, size, 3) with free B; one output per tap, named by it.

    Raises HeadwayError where the network cannot be exported.
    """
    plain, names = _plainly_written(trunk), [tap.name for tap in taps]
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    # The exporters talk to the terminal and warn of their own future: neither is the user's concern.
    with _quiet():
        if _trace(plain, example, names, path) and _proven(plain, size, names, path):
            return
    try:
        with _quiet():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                plain,
                (example,),
                path,
                dynamo=True,
                input_names=["image"],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the network's code makes it raise
        raise HeadwayError(
            f"this network cannot be exported to ONNX ({type(error).__name__}), so no bundle could be made of it. "
            f"Try another --backbone; headway backbones lists them."
        ) from error


def _trace(plain: Trunk, example: Tensor, names: list[str], path: Path) -> bool:
    """Write what one run of the network does. False where another image might take another path, or it fails."""
    still = _with_fixed_padding(plain, example.shape[1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # "... might cause the trace to be incorrect": a value of this image has become a constant.
            warnings.simplefilter("error", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # public, but not in __all__
            torch.onnx.export(
                still,
                (example,),
                path,
                dynamo=False,
                opset_version=_OPSET,
                input_names=["image"],
                output_names=names,
                dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
            )
    except Exception:  # as above; torch.export knows more
        return False
    return True


def _proven(plain: Trunk, size: int, names: list[str], path: Path) -> bool:
    """Whether the graph gives what the network gives, for other numbers of images than it was traced with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    generator = torch.Generator().manual_seed(0)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for n in _OTHER_BATCHES:
            images = torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=generator)
            found = session.run(names, {"image": images.numpy()})
            with torch.inference_mode():
                wanted = [output.numpy() for output in plain(images)]
            if [one.shape for one in found] != [one.shape for one in wanted]:
                return False
            if worst_cosine(dict(zip(names, wanted, strict=True)), dict(zip(names, found, strict=True))) < AGREEMENT:
                return False
    except Exception:  # the binding's errors share no narrower class
        return False
    return True


class _Clamp6(nn.Module):
    """ReLU6 in one operation: torch.export takes nn.ReLU6 apart, at 40 ms each. Same bits."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0.0, 6.0)


def _plainly_written(trunk: Trunk) -> Trunk:
    """A copy that computes the same bits and that torch.export writes in little more than half the time."""
    copied = copy.deepcopy(trunk)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, _Clamp6())
            elif getattr(child, "inplace", False) is True:
                child.inplace = False  # type: ignore[assignment]  # a flag that every activation of torch and timm has
    return copied


def _with_fixed_padding(trunk: Trunk, size: int) -> Trunk:
    """A copy in which the convolutions of timm that pad as TensorFlow does have the padding of this size of input.

    They work it out from the image every time; written into a graph, that costs engines a third of their speed.
    """
    copied, seen = copy.deepcopy(trunk), {}
    padded = {name: child for name, child in copied.named_modules() if type(child).__name__ == "Conv2dSame"}
    hooks = [
        child.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: inputs[0].shape[2:]}))
        for name, child in padded.items()
    ]
    with torch.inference_mode():
        copied(grey_image(size))
    for hook in hooks:
        hook.remove()
    for name, shape in seen.items():
        copied.set_submodule(name, _padded(padded[name], shape))
    return copied


def _padded(same: nn.Module, shape: torch.Size) -> nn.Module:
    """The same convolution of an input of this height and width, the padding written down."""
    assert isinstance(same, nn.Conv2d)
    from timm.layers.padding import pad_same_arg

    size, stride, dilation = same.kernel_size, same.stride, same.dilation
    plain = nn.Conv2d(same.in_channels, same.out_channels, size, stride, 0, dilation, same.groups, device="meta")  # type: ignore[arg-type]
    plain.weight, plain.bias = same.weight, same.bias
    left, right, top, bottom = pad_same_arg(list(shape), list(size), list(stride), list(dilation))
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain).eval()


@contextmanager
def _quiet() -> Iterator[None]:
    said, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            yield
    finally:
        logging.disable(before)

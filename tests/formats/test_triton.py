"""The model repository: Triton's own definition of its configuration reads it."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from headway.deployment.bundle import load_bundle
from headway.formats import triton
from headway.formats.format import Request
from headway.formats.writing import export_bundle
from tests.conftest import require
from tests.deployment import toys


def test_triton__repository_has_the_form_that_triton_reads(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path / "flowers 1"), threads=1)
    export_bundle(Request(bundle), "triton", tmp_path / "models")
    found = sorted(str(item.relative_to(tmp_path / "models")) for item in (tmp_path / "models").rglob("*"))
    assert found == [
        *("MODEL_CARD.md", "README.md", "classes.json", "flowers-1", "flowers-1/1", "flowers-1/1/model.onnx"),
        *("flowers-1/config.pbtxt", "flowers-1/labels.txt"),
    ]
    assert (tmp_path / "models/flowers-1/1/model.onnx").read_bytes() == (bundle.path / "model.onnx").read_bytes()
    assert (tmp_path / "models/flowers-1/labels.txt").read_text() == "cat\ndog\nowl\n"


def test_triton__a_label_is_a_line() -> None:
    assert triton.labels(["a", "b\nc", "d\r\ne\u2028f"]) == "a\nb c\nd e f\n"


def test_triton__configuration_says_what_the_bundle_takes_and_gives(tmp_path: Path) -> None:
    """Read by the message that Triton itself reads it by (tritonclient carries its compiled definition)."""
    spec = find_spec("tritonclient")
    require("triton", spec is not None, "tritonclient is not installed")
    assert spec is not None
    assert spec.origin is not None
    # Its package asks for gRPC; the definition alone does not.
    definition = spec_from_file_location("model_config_pb2", Path(spec.origin).parent / "grpc" / "model_config_pb2.py")
    assert definition is not None
    assert definition.loader is not None
    module: Any = module_from_spec(definition)
    definition.loader.exec_module(module)
    from google.protobuf import text_format  # type: ignore[import-untyped]

    bundle = load_bundle(toys.bundle(tmp_path), threads=1)
    read = text_format.Parse(triton.config(bundle, "flowers-1"), module.ModelConfig())
    assert (read.name, read.backend, read.max_batch_size) == ("flowers-1", "onnxruntime", 32)
    (image,) = read.input
    assert (image.name, module.DataType.Name(image.data_type), list(image.dims)) == ("image", "TYPE_UINT8", [16, 16, 3])
    assert [(port.name, list(port.dims), port.label_filename) for port in read.output] == [
        ("logits", [3], "labels.txt"),
        ("features", [16], ""),
    ]
    assert {module.DataType.Name(port.data_type) for port in read.output} == {"TYPE_FP32"}
    assert read.dynamic_batching.max_queue_delay_microseconds == 3000
    assert [(group.count, group.Kind.Name(group.kind)) for group in read.instance_group] == [(1, "KIND_CPU")]

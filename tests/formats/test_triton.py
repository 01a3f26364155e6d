"""The model repository: Triton's own definition of its configuration reads it."""

from __future__ import annotations

from pathlib import Path

from headway.deployment.bundle import load_bundle
from headway.formats import triton
from headway.formats.format import Request
from headway.formats.writing import export_bundle
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

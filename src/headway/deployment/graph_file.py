"""Does an ONNX file point outside itself? Read from its bytes alone, without the onnx package.

External data is how a model file makes a reader open other files (CVE-2022-25882, CVE-2024-27318, CVE-2025-51480),
so bundles are one file and a reference is refused before ONNX Runtime sees the bytes. Only messages that can hold a
tensor are walked; field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator

# message → field → the message that the field holds
_HOLDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 100  # of graphs within graphs; onnx itself stops there


def has_external_data(content: bytes) -> bool:
    """True where any tensor of the ONNX model in `content` keeps its values in another file.

    Raises ValueError where `content` is not a whole protobuf message.
    """
    waiting = [("model", memoryview(content), 0)]
    while waiting:
        message, view, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        for field, wire, number, part in fields(view):
            if message == "tensor":
                if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and (wire != _VARINT or number != 0)):
                    return True
                continue
            inner = _HOLDS[message].get(field)
            if inner is not None and wire == _BYTES:
                waiting.append((inner, part, depth + 1))
    return False


def fields(view: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """(field number, wire type, value of a varint, content of a length-delimited field), in file order."""
    position, end = 0, len(view)
    while position < end:
        key, position = _varint(view, position)
        wire, number, size = key & 7, 0, 0
        if wire == _VARINT:
            number, position = _varint(view, position)
        elif wire == _BYTES:
            size, position = _varint(view, position)
        elif wire == _FIXED64:
            size = 8
        elif wire == _FIXED32:
            size = 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > end:
            raise ValueError("a field goes past the end")
        yield key >> 3, wire, number, view[position : position + size]
        position += size


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise ValueError("the file ends within a number")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than 10 bytes")

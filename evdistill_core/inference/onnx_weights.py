"""ONNX models that keep their weights in the safetensors file beside them.

ONNX has a standard way to store a tensor outside the model: name of a file, offset and length
("external data"). A student file uses it with the file ``weights.safetensors``, so weights are
stored once. ``take_out`` replaces weights by references, ``put_in`` does the reverse in memory.

Only the list of initializers is touched; every other byte of the model is copied as it is. The few
fields that matter are read from the protobuf bytes directly, because robots do not have the
``onnx`` package.

Source: onnx.proto of ONNX 1.16 (field numbers), protobuf encoding guide (wire format), safetensors
README (header). All three formats are little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A reference takes about as many bytes as a tensor of this size.
_SMALLEST_BYTES = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_NAME, _RAW, _EXTERNAL, _LOCATION = 8, 9, 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto


class DanglingReferenceError(ValueError):
    """A model refers to weights that the safetensors file does not hold."""


class _NotProtobufError(ValueError):
    """Bytes that are no protobuf message."""


@dataclass(frozen=True)
class _Field:
    """One field of a message: its number, and where its tag, its value and the value's end are."""

    number: int
    wire: int
    start: int
    value: int
    end: int


def take_out(model: bytes, weights: bytes, file_name: str) -> bytes:
    """Replace the weights of a model by references.

    Args:
        model: serialized ONNX model.
        weights: safetensors file.
        file_name: of the safetensors file, as the references name it.

    Returns:
        The model in which every initializer of 64 bytes or more whose bytes are those of a tensor
        in ``weights`` is a reference. Others stay, and so do bytes that are no ONNX model.

    Raises:
        ValueError: ``weights`` has no safetensors header.
    """
    places = {}
    for offset, length in _tensor_places(weights):
        places[weights[offset : offset + length]] = (offset, length)

    def outside(data: memoryview) -> list[bytes | memoryview] | None:
        fields = list(_fields(data))
        raw = next((data[f.value : f.end] for f in fields if f.number == _RAW), memoryview(b""))
        place = places.get(bytes(raw)) if len(raw) >= _SMALLEST_BYTES else None
        if place is None:
            return None
        entries = {"location": file_name, "offset": str(place[0]), "length": str(place[1])}
        kept = [data[f.start : f.end] for f in fields if f.number not in {_RAW, _LOCATION}]
        return [*kept, *(_entry(k, v) for k, v in entries.items()), _tag(_LOCATION, _VARINT), b"\1"]

    return _with_initializers(model, outside)


def put_in(model: bytes, read_weights: Callable[[], bytes], file_name: str) -> bytes:
    """Replace the references of a model by the weights.

    Args:
        model: serialized ONNX model.
        read_weights: returns the safetensors file; not called if nothing refers to it.
        file_name: of the safetensors file; references to other files stay.

    Returns:
        A model that holds all weights; bytes that are no ONNX model come back as they are.

    Raises:
        DanglingReferenceError: a reference is not exactly one tensor of the safetensors file.
        ValueError: the file has no safetensors header.
    """
    if file_name.encode() not in model:
        return model
    weights = memoryview(read_weights())
    places = set(_tensor_places(weights))

    def inside(data: memoryview) -> list[bytes | memoryview] | None:
        fields = list(_fields(data))
        entries = dict(_parsed(data[f.value : f.end]) for f in fields if f.number == _EXTERNAL)
        if entries.get("location") != file_name:
            return None
        place = (_number(entries.get("offset")), _number(entries.get("length")))
        if place not in places:
            name = next((bytes(data[f.value : f.end]) for f in fields if f.number == _NAME), b"")
            raise DanglingReferenceError(
                f"tensor {name.decode('utf-8', 'replace')!r} of the ONNX model is not in "
                f"{file_name}: no tensor of {entries.get('length')} bytes begins at byte "
                f"{entries.get('offset')}"
            )
        offset, length = place
        kept = [data[f.start : f.end] for f in fields if f.number not in {_EXTERNAL, _LOCATION}]
        return [*kept, _tag(_RAW, _BYTES), _varint(length), weights[offset : offset + length]]

    return _with_initializers(model, inside)


def _with_initializers(
    model: bytes, change: Callable[[memoryview], list[bytes | memoryview] | None]
) -> bytes:
    """Return the model with changed initializers; ``change`` returns None to keep one."""
    data = memoryview(model)
    parts: list[bytes | memoryview] = []
    try:
        for field in _fields(data):
            if (field.number, field.wire) != (_GRAPH, _BYTES):
                parts.append(data[field.start : field.end])
                continue
            graph = data[field.value : field.end]
            inner: list[bytes | memoryview] = []
            for member in _fields(graph):
                changed = None
                if (member.number, member.wire) == (_INITIALIZER, _BYTES):
                    changed = change(graph[member.value : member.end])
                if changed is None:
                    inner.append(graph[member.start : member.end])
                else:
                    inner += [_tag(_INITIALIZER, _BYTES), _varint(_size(changed)), *changed]
            parts += [_tag(_GRAPH, _BYTES), _varint(_size(inner)), *inner]
    except _NotProtobufError:
        return model  # the runtime says what is wrong with it
    return b"".join(parts)


def _tensor_places(weights: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Yield offset and length in bytes of every tensor in a safetensors file."""
    start = 8 + int.from_bytes(weights[:8], "little")
    try:
        header = json.loads(bytes(weights[8:start]))
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = (int(n) for n in tensor["data_offsets"])
                if not 0 <= begin <= end <= len(weights) - start:
                    raise ValueError(f"tensor {name!r} lies outside the file")
                yield start + begin, end - begin
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no header of safetensors: {error}") from error


def _fields(data: memoryview) -> Iterator[_Field]:
    at, size = 0, len(data)
    while at < size:
        start = at
        tag, at = _read_varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            end = _read_varint(data, at)[1]
        elif wire == _BYTES:
            length, at = _read_varint(data, at)
            end = at + length
        elif wire in {_FIXED64, _FIXED32}:
            end = at + (8 if wire == _FIXED64 else 4)
        else:
            raise _NotProtobufError(f"wire type {wire}")
        if end > size:
            raise _NotProtobufError("a field ends after its message")
        yield _Field(tag >> 3, wire, start, at, end)
        at = end


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise _NotProtobufError("a number without an end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _entry(key: str, value: str) -> bytes:
    pair = b"".join(
        _tag(number, _BYTES) + _varint(len(text)) + text
        for number, text in ((_KEY, key.encode()), (_VALUE, value.encode()))
    )
    return _tag(_EXTERNAL, _BYTES) + _varint(len(pair)) + pair


def _parsed(data: memoryview) -> tuple[str, str]:
    values = {
        f.number: bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in _fields(data)
    }
    return values.get(_KEY, ""), values.get(_VALUE, "")


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else -1


def _size(parts: list[bytes | memoryview]) -> int:
    return sum(len(part) for part in parts)

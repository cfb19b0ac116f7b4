"""Messages as dataclasses: one declaration gives the bytes, the parser and the schema text.

A message class lists its fields in wire order; the annotation of a field says what it is on the
wire (``height: UInt32``), another message class nests. ``serialize``, ``parse`` and ``schema`` all
read that one declaration, so they cannot disagree.
"""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.cdr import Buffer, CdrReader, CdrWriter

M = TypeVar("M", bound="Message")


class Kind(ABC):
    """What a field is on the wire."""

    @property
    @abstractmethod
    def ros_type(self) -> str:
        """The type as a .msg file spells it."""

    @abstractmethod
    def read(self, reader: CdrReader, field: str) -> object:
        """Return the next value."""

    @abstractmethod
    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        """Append a value."""


@dataclasses.dataclass(frozen=True)
class Scalar(Kind):
    """A number.

    Attributes:
        name: in a .msg file.
        code: letter in the ``struct`` module.
    """

    name: str
    code: str

    @property
    def ros_type(self) -> str:
        """The type as a .msg file spells it."""
        return self.name

    def read(self, reader: CdrReader, field: str) -> object:
        """Return the next value."""
        return reader.scalar(self.code, field)

    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        """Append a value."""
        writer.scalar(self.code, value, field)


@dataclasses.dataclass(frozen=True)
class Text(Kind):
    """A string, bounded in bytes when ``bound`` is not zero."""

    bound: int = 0

    @property
    def ros_type(self) -> str:
        """The type as a .msg file spells it."""
        return f"string<={self.bound}" if self.bound else "string"

    def read(self, reader: CdrReader, field: str) -> object:
        """Return the next value."""
        return reader.text(field)

    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        """Append a value."""
        if self.bound and len(value.encode("utf-8", errors="replace")) > self.bound:
            raise MessageError(f"{field}: at most {self.bound} bytes, got {len(value)}: {value!r}")
        writer.text(value)


@dataclasses.dataclass(frozen=True)
class Octets(Kind):
    """``uint8[]`` or, with a length, ``uint8[N]``: bytes, read as a view."""

    length: int = 0

    @property
    def ros_type(self) -> str:
        """The type as a .msg file spells it."""
        return f"uint8[{self.length or ''}]"

    def read(self, reader: CdrReader, field: str) -> object:
        """Return the next value."""
        if self.length:
            return bytes(reader.octets(self.length, field))
        return reader.octets(reader.count(field), field)

    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        """Append a value."""
        view = memoryview(value).cast("B")
        if self.length and len(view) != self.length:
            raise MessageError(f"{field}: exactly {self.length} bytes, got {len(view)}")
        if not self.length:
            writer.scalar("I", len(view), field)
        writer.octets(view)


@dataclasses.dataclass(frozen=True)
class Array(Kind):
    """A sequence of numbers or messages, or, with a length, an array of numbers."""

    element: Kind
    length: int = 0

    @property
    def ros_type(self) -> str:
        """The type as a .msg file spells it."""
        return f"{self.element.ros_type}[{self.length or ''}]"

    def read(self, reader: CdrReader, field: str) -> object:
        """Return the next value."""
        count = self.length or reader.count(field)
        if isinstance(self.element, Scalar):
            return reader.scalars(self.element.code, count, field)
        # Every element takes at least a byte, so a false count runs into the end of the message.
        return tuple(self.element.read(reader, f"{field}[{i}]") for i in range(count))

    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        """Append a value."""
        if self.length and len(value) != self.length:
            raise MessageError(f"{field}: exactly {self.length} values, got {len(value)}")
        if not self.length:
            writer.scalar("I", len(value), field)
        for i, element in enumerate(value):
            self.element.write(writer, element, f"{field}[{i}]")


@dataclasses.dataclass(frozen=True)
class Nested(Kind):
    """Another message inside this one."""

    message: type[Message]

    @property
    def ros_type(self) -> str:
        """The type as a .msg file spells it."""
        return self.message.TYPE.replace("/msg/", "/")

    def read(self, reader: CdrReader, field: str) -> object:
        """Return the next value."""
        return self.message.read(reader, f"{field}.")

    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        """Append a value."""
        value.write(writer, f"{field}.")


Bool = Annotated[bool, Scalar("bool", "?")]
Byte = Annotated[int, Scalar("byte", "B")]
Int8 = Annotated[int, Scalar("int8", "b")]
UInt8 = Annotated[int, Scalar("uint8", "B")]
UInt16 = Annotated[int, Scalar("uint16", "H")]
Int32 = Annotated[int, Scalar("int32", "i")]
UInt32 = Annotated[int, Scalar("uint32", "I")]
UInt64 = Annotated[int, Scalar("uint64", "Q")]
Float32 = Annotated[float, Scalar("float32", "f")]
Float64 = Annotated[float, Scalar("float64", "d")]
String = Annotated[str, Text()]
Bytes = Annotated[Buffer, Octets()]
Float64s = Annotated[Sequence[float], Array(Scalar("float64", "d"))]


class Message:
    """Base of all message classes: frozen dataclasses with a ``TYPE`` and annotated fields."""

    TYPE: ClassVar[str]

    @classmethod
    def parse(cls: type[M], data: Buffer) -> M:
        """Return the message in serialized bytes; byte fields are views of ``data``.

        Args:
            data: plain CDR, either byte order, with its four byte header.

        Raises:
            MessageError: the bytes do not hold such a message; names type, field and offset.
        """
        reader = CdrReader(data, cls.TYPE)
        message = cls.read(reader)
        reader.finish()
        return message

    def serialize(self) -> bytes:
        """Return the message as little endian CDR with its header, rounded up to four bytes.

        Raises:
            MessageError: a value does not fit its field.
        """
        writer = CdrWriter(self.TYPE)
        self.write(writer)
        return writer.finish()

    @classmethod
    def read(cls: type[M], reader: CdrReader, prefix: str = "") -> M:
        """Read the fields in order; ``prefix`` names the place in error texts."""
        return cls(*[kind.read(reader, prefix + name) for name, kind in kinds(cls)])

    def write(self, writer: CdrWriter, prefix: str = "") -> None:
        """Write the fields in order; ``prefix`` names the place in error texts."""
        for name, kind in kinds(type(self)):
            kind.write(writer, getattr(self, name), prefix + name)


_KINDS: dict[type[Message], tuple[tuple[str, Kind], ...]] = {}


def kinds(message: type[Message]) -> tuple[tuple[str, Kind], ...]:
    """Return name and wire kind of each field, in wire order."""
    known = _KINDS.get(message)
    if known is None:
        hints = typing.get_type_hints(message, include_extras=True)
        fields = dataclasses.fields(message)  # type: ignore[arg-type]
        known = _KINDS[message] = tuple((f.name, _kind(hints[f.name])) for f in fields)
    return known


def _kind(hint: Any) -> Kind:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Kind):
            return extra
    if isinstance(hint, type) and issubclass(hint, Message):
        return Nested(hint)
    arguments = typing.get_args(hint)
    if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], Message):
        return Array(Nested(arguments[0]))
    raise TypeError(f"no wire kind for the annotation {hint!r}")


def schema(message: type[Message]) -> str:
    """Return the definition as bags store it: the fields, then those of every nested type."""
    texts = [_fields(message)]
    texts += [f"MSG: {Nested(m).ros_type}\n{_fields(m)}" for m in _nested(message)]
    return ("=" * 80 + "\n").join(texts)


def _fields(message: type[Message]) -> str:
    return "".join(f"{kind.ros_type} {name}\n" for name, kind in kinds(message))


def _nested(message: type[Message]) -> list[type[Message]]:
    found: dict[type[Message], None] = {}
    for _, kind in kinds(message):
        inner = kind.element if isinstance(kind, Array) else kind
        if isinstance(inner, Nested):
            found |= dict.fromkeys([inner.message, *_nested(inner.message)])
    return list(found)

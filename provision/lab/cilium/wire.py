"""The encoding of Protocol Buffers, as far as etcd's messages need it: numbers and byte strings by field number."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {_FIXED64: 8, _FIXED32: 4}


class WireError(Exception):
    """The bytes are no message."""


def encode(*fields: tuple[int, int | bytes | str]) -> bytes:
    """A message of these fields, by number. Zero and empty are left out, which is how they are written.

    A nested message is given as its bytes; one that is empty and must be there is written by `nested`.
    """
    return b"".join(_field(number, value) for number, value in fields if value)


def nested(number: int, message: bytes) -> bytes:
    """A nested message with its field number, also when it is empty."""
    return _varint(number << 3 | _BYTES) + _varint(len(message)) + message


class Message:
    """A decoded message: what it holds, by field number.

    Raises:
        WireError: the bytes are no message.
    """

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _read(data):
            self._fields.setdefault(number, []).append(value)

    def number(self, field: int) -> int:
        """A whole number, signed; 0 when it is not there."""
        value = self._fields.get(field, [0])[-1]
        if not isinstance(value, int):
            raise WireError(f"field {field} is no number")
        return value - (1 << 64) if value >> 63 else value

    def unsigned(self, field: int) -> int:
        """A whole number of 64 bits without a sign; 0 when it is not there."""
        return self.number(field) & (1 << 64) - 1

    def bytes(self, field: int) -> bytes:
        """A byte string; empty when it is not there."""
        value = self._fields.get(field, [b""])[-1]
        if not isinstance(value, bytes):
            raise WireError(f"field {field} is no byte string")
        return value

    def text(self, field: int) -> str:
        """A text; empty when it is not there."""
        return self.bytes(field).decode(errors="replace")

    def message(self, field: int) -> Message:
        """A nested message; an empty one when it is not there."""
        return Message(self.bytes(field))

    def messages(self, field: int) -> list[Message]:
        """A list of nested messages."""
        return [Message(value) for value in self._fields.get(field, ()) if isinstance(value, bytes)]


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value & (1 << 64) - 1)
    return nested(number, value.encode() if isinstance(value, str) else value)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _read_varint(data, position)
        elif kind in _FIXED_SIZE:
            size = _FIXED_SIZE[kind]
        else:
            raise WireError(f"field {number} is of the unknown kind {kind}")
        if position + size > len(data):
            raise WireError(f"field {number} is cut off")
        content = data[position : position + size]
        position += size
        yield number, content if kind == _BYTES else int.from_bytes(content, "little")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        digit = data[position]
        value |= (digit & 0x7F) << shift
        position += 1
        if digit < 0x80:
            return value, position
        shift += 7
    raise WireError("a number is cut off")

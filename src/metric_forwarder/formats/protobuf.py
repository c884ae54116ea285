"""The wire format of protobuf: the fields of a message, one after the other, without a description of the message.

Every length is checked against the message's, so a wrong length does not take memory. Source: Protocol Buffers, encoding.
"""

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_read_fixed64 = struct.Struct("<Q").unpack_from
_read_fixed32 = struct.Struct("<I").unpack_from
_read_double = struct.Struct("<d").unpack_from
_LONGEST_VARINT = 10
# A byte of this value or more is followed by more bytes of the same number.
_SEVERAL = 0x80
_INT64 = 2**63
_UINT64 = 2**64


class BadProtobuf(Exception):
    """Bytes that are not a protobuf message."""


def fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message that lies between two places.

    Yields:
        number, wire type, value, end. For ``BYTES``, value is where they begin, and end where they end; for ``VARINT`` and
        the fixed types, value is the number as unsigned, and end is where it ends.

    Raises:
        BadProtobuf: a field is bad; the fields before it were yielded.
    """
    position = begin
    while position < end:
        # Most tags and lengths have one byte, which is read here.
        tag = data[position]
        if tag < _SEVERAL:
            position += 1
        else:
            tag, position = varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise BadProtobuf("holds a field without a number")
        if kind == BYTES:
            size = data[position] if position < end else _SEVERAL
            if size < _SEVERAL:
                position += 1
            else:
                size, position = varint(data, position, end)
            if size > end - position:
                raise BadProtobuf("holds a field that is longer than its message")
            yield number, kind, position, position + size
            position += size
        elif kind == VARINT:
            value, position = varint(data, position, end)
            yield number, kind, value, position
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
            if size > end - position:
                raise BadProtobuf("ends within a number")
            read = _read_fixed64 if kind == FIXED64 else _read_fixed32
            yield number, kind, read(data, position)[0], position + size
            position += size
        else:
            raise BadProtobuf(f"holds a field of the unknown wire type {kind}")


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """An unsigned number of 64 bits, and where it ends."""
    value = shift = 0
    for place in range(position, min(end, position + _LONGEST_VARINT)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < _SEVERAL:
            return value % _UINT64, place + 1
        shift += 7
    raise BadProtobuf("ends within a number, or holds one of more than 64 bits")


def write_varint(value: int) -> bytes:
    """The bytes of an unsigned number."""
    written = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - the highest bit says that more follow
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write_field(number: int, content: bytes) -> bytes:
    """A field with a length: text, bytes or a message; its number is below 16."""
    return bytes([number << 3 | BYTES]) + write_varint(len(content)) + content


def signed(value: int) -> int:
    """An ``int64`` from its unsigned form."""
    return value - _UINT64 if value >= _INT64 else value


def double(data: bytes, end: int) -> float:
    """The ``double`` that ends at a place in the data."""
    return _read_double(data, end - 8)[0]  # type: ignore[no-any-return]  # one double

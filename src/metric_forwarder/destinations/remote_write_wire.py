"""The bytes of Prometheus remote write 1.0: protobuf ``WriteRequest``, compressed as a snappy block.

Source: the remote write 1.0 specification and its ``remote.proto``::

    WriteRequest { repeated TimeSeries timeseries = 1; }
    TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2; }
    Label        { string name = 1; string value = 2; }
    Sample       { double value = 1; int64 timestamp = 2; }

These four messages take fewer lines to write than to describe to a protobuf library, which would cost 20 ms at every
start and 0.4 MB in the package. The only home of ``cramjam``, and the one that needs it imports this module.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

import cramjam

# Field numbers with their wire types: 2 is a length and bytes, 1 eight bytes, 0 a varint.
_TIMESERIES = b"\x0a"
_LABEL = b"\x0a"
_NAME = b"\x0a"
_VALUE = b"\x12"
_SAMPLE = b"\x12"
_write_double = struct.Struct("<Bd").pack
_DOUBLE = 0x09
_TIMESTAMP = b"\x10"
_INT64 = 2**64 - 1


def encode_labels(labels: Iterable[tuple[str, str]]) -> bytes:
    """The labels of a series, in the order given."""
    written: list[bytes] = []
    for name_text, value_text in labels:
        name, value = name_text.encode(), value_text.encode()
        name_size, value_size = _varint(len(name)), _varint(len(value))
        size = _varint(2 + len(name_size) + len(name) + len(value_size) + len(value))
        written += (_LABEL, size, _NAME, name_size, name, _VALUE, value_size, value)
    return b"".join(written)


def encode_series(labels: bytes, samples: Iterable[tuple[float, int]]) -> bytes:
    """A series as a part of a ``WriteRequest``: its encoded labels, and its samples (value, Unix milliseconds)."""
    written = [labels]
    for value, time_ms in samples:
        time = _varint(time_ms & _INT64)
        written += (_SAMPLE, _varint(10 + len(time)), _write_double(_DOUBLE, value), _TIMESTAMP, time)
    content = b"".join(written)
    return b"".join((_TIMESERIES, _varint(len(content)), content))


def compress(series: Sequence[bytes]) -> bytes:
    """The body of a request: series one after the other are a ``WriteRequest``."""
    return bytes(cramjam.snappy.compress_raw(b"".join(series)))


# Lengths repeat, and so do the times of points measured together.
@lru_cache(maxsize=1024)
def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - what seven bits hold
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)

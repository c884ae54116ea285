"""Remote write as other senders write it: several samples of a series at once."""

import struct
from collections.abc import Iterable


def encode_series(labels: bytes, samples: Iterable[tuple[float, int]]) -> bytes:
    """A ``TimeSeries`` in a ``WriteRequest``: its encoded labels, and its samples (value, Unix milliseconds)."""
    content = labels
    for value, time_ms in samples:
        sample = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(time_ms % 2**64)
        content += b"\x12" + _varint(len(sample)) + sample
    return b"\x0a" + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    rest, last = divmod(number, 128)
    return bytes([last]) if rest == 0 else bytes([last + 128]) + _varint(rest)

"""The floor of remote write: it decodes each message, encodes and compresses each batch, and posts it by a plain session.

The encoder is the shortest that the protocol allows: sorted labels, each encoded once, one sample a series. The floor does not
validate, recognise duplicates, count, limit time or retry.
"""

import struct
import time
from datetime import datetime
from functools import lru_cache
from typing import Any

import cramjam
import requests

from benchmarks.subjects import Handle, serve
from benchmarks.subjects.floor import decoded_points

_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_SMALL = 128


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _SMALL:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


@lru_cache(maxsize=100_000)
def _label(name: str, value: str) -> bytes:
    return _field(b"\n", _field(b"\n", name.encode()) + _field(b"\x12", value.encode()))


def _series(point: dict[str, Any], now_ms: int) -> bytes:
    labels = {**point["dimensions"], "__name__": point["metricName"]}
    encoded = b"".join(_label(name, labels[name]) for name in sorted(labels))
    sample = b"\t" + struct.pack("<d", point["value"]) + b"\x10" + _varint(_time_ms(point, now_ms))
    return _field(b"\n", encoded + _field(b"\x12", sample))


def _time_ms(point: dict[str, Any], now_ms: int) -> int:
    written = point.get("timestamp")
    if written is None:
        return now_ms
    if isinstance(written, str):
        return int(datetime.fromisoformat(written).timestamp() * 1000)
    return int(written if written > 1e11 else written * 1000)


def make(url: str, batch: int) -> Handle:
    session = requests.Session()

    def handle(event: dict[str, Any]) -> None:
        points, now_ms = decoded_points(event), int(time.time() * 1000)
        for start in range(0, len(points), batch):
            body = b"".join(_series(point, now_ms) for point in points[start : start + batch])
            session.post(
                url, data=bytes(cramjam.snappy.compress_raw(body)), headers=_HEADERS
            ).raise_for_status()

    return handle


if __name__ == "__main__":
    serve(make)

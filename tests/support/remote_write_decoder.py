"""Read a remote-write request without a line of what writes it: Google's protobuf, and snappy from its description."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
# Message → its fields: name, number, type, repeated, and for a message its kind.
_MESSAGES: dict[str, list[tuple[str, int, Any, bool, str]]] = {
    "WriteRequest": [("timeseries", 1, _FIELD.TYPE_MESSAGE, True, "TimeSeries")],
    "TimeSeries": [
        ("labels", 1, _FIELD.TYPE_MESSAGE, True, "Label"),
        ("samples", 2, _FIELD.TYPE_MESSAGE, True, "Sample"),
    ],
    "Label": [("name", 1, _FIELD.TYPE_STRING, False, ""), ("value", 2, _FIELD.TYPE_STRING, False, "")],
    "Sample": [("value", 1, _FIELD.TYPE_DOUBLE, False, ""), ("timestamp", 2, _FIELD.TYPE_INT64, False, "")],
}


class DecodedSeries(NamedTuple):
    """A series of a request: labels as they came, samples as (Unix milliseconds, value)."""

    labels: tuple[tuple[str, str], ...]
    samples: tuple[tuple[int, float], ...]


def decode(body: bytes) -> list[DecodedSeries]:
    """Decompress and decode the body of a request; raises on any byte that should not be there."""
    request = _WriteRequest()
    request.ParseFromString(decompress(body))
    assert not _has_unknown_fields(request)
    return [
        DecodedSeries(
            tuple((label.name, label.value) for label in series.labels),
            tuple((sample.timestamp, sample.value) for sample in series.samples),
        )
        for series in request.timeseries
    ]


def encode(series: Iterable[DecodedSeries]) -> bytes:
    """What a request holds, not yet compressed, written by others' code alone."""
    request = _WriteRequest()
    for each in series:
        timeseries = request.timeseries.add()
        for name, text in each.labels:
            timeseries.labels.add(name=name, value=text)
        for time_ms, value in each.samples:
            timeseries.samples.add(timestamp=time_ms, value=value)
    return bytes(request.SerializeToString())


def decompress(block: bytes) -> bytes:
    """The snappy block format: the length as a varint, then literals and copies of what came before."""
    length, place = _varint(block, 0)
    out = bytearray()
    while place < len(block):
        tag = block[place]
        place += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                extra = size - 59
                size = int.from_bytes(block[place : place + extra], "little")
                place += extra
            out += block[place : place + size + 1]
            place += size + 1
            continue
        if tag & 3 == 1:
            size, offset = (tag >> 2 & 7) + 4, tag >> 5 << 8 | block[place]
            place += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            size, offset = (tag >> 2) + 1, int.from_bytes(block[place : place + width], "little")
            place += width
        assert 0 < offset <= len(out)
        for _ in range(size):
            out.append(out[-offset])
    assert len(out) == length
    return bytes(out)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, place


def _has_unknown_fields(request: Any) -> bool:
    clean = type(request)()
    clean.CopyFrom(request)
    clean.DiscardUnknownFields()
    return bool(clean != request)


def _make_write_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prometheus", syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated, type_name in fields:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            described.field.add(
                name=name,
                number=number,
                type=kind,
                label=label,
                type_name=f".prometheus.{type_name}" if type_name else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


_WriteRequest = _make_write_request()

"""OTLP metrics as protobuf → samples.

A request is decoded to the same value as its JSON form, and then read like that. Source: opentelemetry-proto,
``metrics.proto``, ``common.proto``, ``resource.proto`` and ``metrics_service.proto``.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.formats.otlp import convert
from metric_forwarder.formats.protobuf import (
    BYTES,
    FIXED64,
    VARINT,
    BadProtobuf,
    double,
    fields,
    signed,
)
from metric_forwarder.formats.samples import FormatHint, InvalidSample, Reading

# An attribute's value may hold values; each level of them takes two levels here.
_DEEPEST = 60
# Fields of a request, and numbers of its histograms.
MAX_VALUES = 350_000
# How often they are counted.
_COUNTED_TOGETHER = 256
_INFINITE = float("inf")


class _Field(NamedTuple):
    """A field's name in JSON, its kind, and for a message its fields."""

    name: str
    kind: str
    message: str = ""


def _many(name: str, message: str) -> _Field:
    return _Field(name, "messages", message)


_TIMES = {3: _Field("timeUnixNano", "fixed64")}
_MESSAGES: Mapping[str, Mapping[int, _Field]] = {
    "Request": {1: _many("resourceMetrics", "ResourceMetrics")},
    "ResourceMetrics": {
        1: _Field("resource", "message", "Resource"),
        2: _many("scopeMetrics", "ScopeMetrics"),
        # Of OTLP before 0.15, which the reader refuses.
        1000: _many("instrumentationLibraryMetrics", "Nothing"),
    },
    "Resource": {1: _many("attributes", "KeyValue")},
    "ScopeMetrics": {1: _Field("scope", "message", "Scope"), 2: _many("metrics", "Metric")},
    "Scope": {1: _Field("name", "text"), 2: _Field("version", "text"), 3: _many("attributes", "KeyValue")},
    "Metric": {
        1: _Field("name", "text"),
        3: _Field("unit", "text"),
        5: _Field("gauge", "message", "Numbers"),
        7: _Field("sum", "message", "Numbers"),
        9: _Field("histogram", "message", "Histogram"),
        10: _Field("exponentialHistogram", "message", "ExponentialHistogram"),
        11: _Field("summary", "message", "Summary"),
    },
    "Numbers": {
        1: _many("dataPoints", "NumberDataPoint"),
        2: _Field("aggregationTemporality", "number"),
        3: _Field("isMonotonic", "boolean"),
    },
    "Histogram": {
        1: _many("dataPoints", "HistogramDataPoint"),
        2: _Field("aggregationTemporality", "number"),
    },
    "ExponentialHistogram": {1: _many("dataPoints", "Nothing")},
    "Summary": {1: _many("dataPoints", "SummaryDataPoint")},
    "NumberDataPoint": {
        **_TIMES,
        4: _Field("asDouble", "double"),
        5: _many("exemplars", "Nothing"),
        6: _Field("asInt", "sfixed64"),
        7: _many("attributes", "KeyValue"),
        8: _Field("flags", "number"),
    },
    "HistogramDataPoint": {
        **_TIMES,
        4: _Field("count", "fixed64"),
        5: _Field("sum", "double"),
        6: _Field("bucketCounts", "fixed64s"),
        7: _Field("explicitBounds", "doubles"),
        8: _many("exemplars", "Nothing"),
        9: _many("attributes", "KeyValue"),
        10: _Field("flags", "number"),
        11: _Field("min", "double"),
        12: _Field("max", "double"),
    },
    "SummaryDataPoint": {
        **_TIMES,
        4: _Field("count", "fixed64"),
        5: _Field("sum", "double"),
        6: _many("quantileValues", "ValueAtQuantile"),
        7: _many("attributes", "KeyValue"),
        8: _Field("flags", "number"),
    },
    "ValueAtQuantile": {1: _Field("quantile", "double"), 2: _Field("value", "double")},
    "KeyValue": {1: _Field("key", "text"), 2: _Field("value", "message", "AnyValue")},
    "AnyValue": {
        1: _Field("stringValue", "text"),
        2: _Field("boolValue", "boolean"),
        3: _Field("intValue", "int64"),
        4: _Field("doubleValue", "double"),
        5: _Field("arrayValue", "message", "ArrayValue"),
        6: _Field("kvlistValue", "message", "KeyValueList"),
        7: _Field("bytesValue", "bytes"),
    },
    "ArrayValue": {1: _many("values", "AnyValue")},
    "KeyValueList": {1: _many("values", "KeyValue")},
    "Nothing": {},
}
_WIRE_TYPES = {
    "message": BYTES, "messages": BYTES, "text": BYTES, "bytes": BYTES, "fixed64": FIXED64, "sfixed64": FIXED64,
    "double": FIXED64, "number": VARINT, "int64": VARINT, "boolean": VARINT,
}  # fmt: skip


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the data points of a request; see ``Decoder``."""
    if not isinstance(body, bytes):
        yield InvalidSample("", "type", "is text: OTLP in protobuf is binary; send JSON", body)
        return
    try:
        request = _Request(body).read("Request", 0, len(body), 0)
    except BadProtobuf as bad:
        yield InvalidSample("", "protobuf", f"is not an OTLP request (it {bad}): correct its sender", body)
        return
    if body and not request:
        yield InvalidSample("", "protobuf", "holds no metrics of OTLP: correct its sender", body)
    yield from convert("", request, hint)


class _Request:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values_left = MAX_VALUES

    def read(self, message: str, begin: int, end: int, depth: int) -> dict[str, Any]:
        if depth > _DEEPEST:
            raise BadProtobuf("is nested too deeply")
        known = _MESSAGES[message]
        found: dict[str, Any] = {}
        count = 0
        for count, (number, wire_type, value, last) in enumerate(fields(self._data, begin, end), 1):
            if count % _COUNTED_TOGETHER == 0:
                self._count(_COUNTED_TOGETHER)
            field = known.get(number)
            if field is None:
                continue
            name, kind, inner = field
            if kind == "messages" and wire_type == BYTES:
                found.setdefault(name, []).append(self.read(inner, value, last, depth + 1))
            elif kind == "message" and wire_type == BYTES:
                found[name] = self.read(inner, value, last, depth + 1)
            elif kind in ("fixed64s", "doubles"):
                found.setdefault(name, []).extend(self._numbers(kind, wire_type, value, last))
            elif _WIRE_TYPES.get(kind) == wire_type:
                found[name] = self._scalar(kind, value, last)
            else:
                raise BadProtobuf(f'holds "{name}" in another wire type')
        self._count(count % _COUNTED_TOGETHER)
        return found

    def _count(self, values: int) -> None:
        self._values_left -= values
        if self._values_left < 0:
            raise BadProtobuf(f"holds more than {MAX_VALUES} values: send less in one request")

    def _scalar(self, kind: str, value: int, last: int) -> Any:
        if kind == "text":
            # A byte that is not UTF-8 becomes a lone surrogate, which makes only the samples with this label invalid.
            return self._data[value:last].decode("utf-8", "surrogateescape")
        if kind == "double":
            return _in_json(double(self._data, last))
        if kind == "bytes":
            from base64 import b64encode  # noqa: PLC0415 - few attributes are bytes

            return b64encode(self._data[value:last]).decode()
        if kind == "boolean":
            return bool(value)
        return signed(value) if kind in ("sfixed64", "int64") else value

    def _numbers(self, kind: str, wire_type: int, value: int, last: int) -> list[Any]:
        """The numbers of a field that repeats: packed, or one by one."""
        if wire_type == FIXED64:
            return [value if kind == "fixed64s" else _in_json(double(self._data, last))]
        size = last - value
        if wire_type != BYTES or size % 8:
            raise BadProtobuf("holds numbers that do not fill their field")
        self._count(size // 8)
        letter = "Q" if kind == "fixed64s" else "d"
        numbers = struct.unpack_from(f"<{size // 8}{letter}", self._data, value)
        return list(numbers) if letter == "Q" else [_in_json(number) for number in numbers]


def _in_json(value: float) -> float | str:
    """Write infinities as OTLP's JSON does, since an infinite float from JSON means a number that was too large."""
    if value != value:  # noqa: PLR0124 - true only for NaN
        return "NaN"
    if value in (_INFINITE, -_INFINITE):
        return "Infinity" if value > 0 else "-Infinity"
    return value

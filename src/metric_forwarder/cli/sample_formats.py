"""Points → a payload in any format: the reverse of ``formats``, with one function for each format and one table.

Each writes the points as a client of its format would. Only our own format has a namespace and an idempotency key, so
these are left out. A time is written if the point has one, or if clients of the format always write one; then it is the
time of the event.
"""

import base64
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from metric_forwarder.cli.inputs import Unusable
from metric_forwarder.formats import Format
from metric_forwarder.formats.protobuf import write_field, write_varint
from metric_forwarder.intake.series import as_text
from metric_forwarder.times import nanoseconds, rfc3339, to_milliseconds


class SamplePoint(NamedTuple):
    """A point to write; ``time_ns`` is its own time, Unix nanoseconds, if it has one, and ``now_ns`` that of the event."""

    metric: str
    labels: Mapping[str, str]
    value: int | float
    time_ns: int | None
    now_ns: int

    @property
    def some_time_ns(self) -> int:
        return self.now_ns if self.time_ns is None else self.time_ns


class SampleFormat(NamedTuple):
    """How a format is written, and how its clients send it over HTTP."""

    write: Callable[[Sequence[SamplePoint]], str | bytes]
    path: str = "/"
    content_type: str = "application/json"
    content_encoding: str = ""
    is_binary: bool = False


def write_points(name: Format, points: Sequence[Any], at: datetime) -> str | bytes:
    """Write points of our own JSON in a format.

    Raises:
        Unusable: one of them is not a valid point, or does not fit into the format.
    """
    if name is Format.JSON:
        return json.dumps(points, ensure_ascii=False)
    samples = [_read_point(point, at) for point in points]
    try:
        return SAMPLE_FORMATS[name].write(samples)
    except (OverflowError, UnicodeEncodeError, struct.error):
        raise Unusable(
            f"the format {name.value} has no room for so large a number or time, or for a text that is not UTF-8: "
            "correct it, or write the point in the format json"
        ) from None


def as_request(name: Format, event: Mapping[str, Any], body: str | bytes) -> dict[str, Any]:
    """Turn an HTTP event into the request of a client of a format."""
    form = SAMPLE_FORMATS[name]
    headers = {**event["headers"], "content-type": form.content_type}
    if form.content_encoding:
        headers["content-encoding"] = form.content_encoding
    request = {**event, "path": form.path, "headers": headers, "body": body}
    if isinstance(body, bytes):
        request |= {"body": base64.b64encode(body).decode("ascii"), "isBase64Encoded": True}
    return request


def _read_point(point: Any, at: datetime) -> SamplePoint:
    now_ns = round(at.timestamp() * 1000) * 10**6
    try:
        metric, value, time = point["metricName"], point["value"], point.get("timestamp")
        labels = {name: as_text(each) for name, each in point.get("dimensions", {}).items()}
        time_ns = None if time is None else nanoseconds(time)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise Unusable(_NO_POINT) from None
    if type(metric) is not str or type(value) not in (int, float) or (time_ns is None) != (time is None):
        raise Unusable(_NO_POINT)
    return SamplePoint(metric, labels, value, time_ns, now_ns)


_NO_POINT = (
    "only a valid point in the forwarder's own JSON can be written in another format: leave --format out and it stays as it "
    "is; metric-forwarder check says what it is"
)


# --- lines ----------------------------------------------------------------------------------------------------


def _influx(points: Sequence[SamplePoint]) -> str:
    lines = []
    for point in points:
        # In influx a tag without a value is an error.
        tags = [
            f",{_escaped(name, ',= ')}={_escaped(value, ',= ')}"
            for name, value in point.labels.items()
            if value
        ]
        number = f"{point.value}i" if isinstance(point.value, int) else repr(point.value)
        time = "" if point.time_ns is None else f" {point.time_ns}"
        lines.append(f"{_escaped(point.metric, ', ')}{''.join(tags)} value={number}{time}\n")
    return "".join(lines)


def _escaped(text: str, special: str) -> str:
    return "".join(f"\\{character}" if character in special else character for character in text).replace(
        "\n", "\\n"
    )


def _prometheus_text(points: Sequence[SamplePoint]) -> str:
    lines = []
    for point in points:
        labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in point.labels.items())
        braces = f"{{{labels}}}" if labels else ""
        time = "" if point.time_ns is None else f" {to_milliseconds(point.time_ns)}"
        lines.append(f"{point.metric}{braces} {_go_number(point.value)}{time}\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _go_number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


# --- JSON -----------------------------------------------------------------------------------------------------


def _telegraf(points: Sequence[SamplePoint]) -> str:
    metrics = [
        {
            "fields": {"value": point.value},
            "name": point.metric,
            "tags": dict(point.labels),
            "timestamp": point.some_time_ns // 10**9,
        }
        for point in points
    ]
    return _json(metrics[0] if len(metrics) == 1 else {"metrics": metrics})


def _kafka_adapter(points: Sequence[SamplePoint]) -> str:
    samples = [
        {
            "timestamp": rfc3339(point.some_time_ns),
            "value": _go_number(point.value),
            "name": point.metric,
            "labels": {"__name__": point.metric, **point.labels},
        }
        for point in points
    ]
    return _json(samples[0] if len(samples) == 1 else samples)


def _otlp_json(points: Sequence[SamplePoint]) -> str:
    metrics = [
        {
            "name": point.metric,
            "gauge": {
                "dataPoints": [
                    {
                        "timeUnixNano": str(point.some_time_ns),
                        **_otlp_number(point.value),
                        "attributes": [
                            {"key": name, "value": {"stringValue": value}}
                            for name, value in point.labels.items()
                        ],
                    }
                ]
            },
        }
        for point in points
    ]
    return _json({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})


def _otlp_number(value: float) -> dict[str, Any]:
    if isinstance(value, int):
        return {"asInt": str(value)}
    return {"asDouble": value if math.isfinite(value) else _go_number(value).replace("Inf", "Infinity")}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- binary ---------------------------------------------------------------------------------------------------


def _otlp_protobuf(points: Sequence[SamplePoint]) -> bytes:
    """The same request as ``_otlp_json``; the numbers are those of the fields in opentelemetry-proto."""
    metrics = b""
    for point in points:
        attributes = b"".join(
            write_field(7, write_field(1, name.encode()) + write_field(2, write_field(1, value.encode())))
            for name, value in point.labels.items()
        )
        time = b"\x19" + struct.pack("<Q", point.some_time_ns)
        value = b"\x31" + struct.pack("<q", point.value) if isinstance(point.value, int) else b"\x21" + struct.pack("<d", point.value)  # fmt: skip
        data_point = time + value + attributes
        metrics += write_field(
            2, write_field(1, point.metric.encode()) + write_field(5, write_field(1, data_point))
        )
    return write_field(1, write_field(2, metrics))


def _prometheus_protobuf(points: Sequence[SamplePoint]) -> bytes:
    """A family for each point, without a type; the numbers are those of the fields in ``metrics.proto``."""
    families = b""
    for point in points:
        labels = b"".join(
            write_field(1, write_field(1, name.encode()) + write_field(2, value.encode()))
            for name, value in point.labels.items()
        )
        untyped = write_field(5, b"\x09" + struct.pack("<d", point.value))
        time = (
            b"" if point.time_ns is None else b"\x30" + write_varint(to_milliseconds(point.time_ns) % 2**64)
        )
        family = write_field(1, point.metric.encode()) + b"\x18\x03" + write_field(4, labels + untyped + time)
        families += write_varint(len(family)) + family
    return families


def _remote_write(points: Sequence[SamplePoint]) -> bytes:
    try:
        from metric_forwarder.destinations.remote_write_wire import compress, encode_labels, encode_points
    except ImportError:
        raise Unusable(
            "the format remote-write needs the extra remote-write (in a clone: .venv/bin/pip install -e '.[remote-write]')"
        ) from None
    return compress(
        encode_points(
            [encode_labels(sorted([("__name__", point.metric), *point.labels.items()])) for point in points],
            [point.value for point in points],
            [to_milliseconds(point.some_time_ns) for point in points],
        )
    )


_PROTOBUF = "application/x-protobuf"
_FAMILIES = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily"
SAMPLE_FORMATS: Mapping[Format, SampleFormat] = {
    Format.INFLUX: SampleFormat(_influx, "/api/v2/write", "text/plain; charset=utf-8"),
    Format.TELEGRAF_JSON: SampleFormat(_telegraf),
    Format.PROMETHEUS_TEXT: SampleFormat(
        _prometheus_text, "/api/v1/import/prometheus", "text/plain; version=0.0.4"
    ),
    Format.PROMETHEUS_PROTOBUF: SampleFormat(
        _prometheus_protobuf, content_type=f"{_FAMILIES}; encoding=delimited", is_binary=True
    ),
    Format.OTLP_JSON: SampleFormat(_otlp_json, "/v1/metrics"),
    Format.OTLP_PROTOBUF: SampleFormat(_otlp_protobuf, "/v1/metrics", _PROTOBUF, is_binary=True),
    Format.KAFKA_ADAPTER: SampleFormat(_kafka_adapter),
    Format.REMOTE_WRITE: SampleFormat(_remote_write, "/api/v1/write", _PROTOBUF, "snappy", is_binary=True),
}
# The formats that can be written: all except ``mapping``, which has no form of its own.
WRITTEN = (Format.JSON, *SAMPLE_FORMATS)

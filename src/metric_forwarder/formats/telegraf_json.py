"""Telegraf's JSON → samples.

A metric is ``{"fields": {…}, "name": "cpu", "tags": {…}, "timestamp": 1458229140}``, a batch ``{"metrics": […]}``. Each number
or boolean among the fields is a sample. The unit of the time is a setting of Telegraf, and is recognised by the number of
digits: from 2001 to 2286, seconds have 10, milliseconds 13, microseconds 16 and nanoseconds 19. It may be RFC 3339 text
(``json_timestamp_format``). Source: Telegraf, the JSON serializer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from metric_forwarder.formats.json_text import NotJson, json_pointer
from metric_forwarder.formats.json_values import not_json, read_values
from metric_forwarder.formats.names import MAX_LABELS, joined_name, label_names
from metric_forwarder.formats.samples import (
    NO_FLOAT,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
)
from metric_forwarder.times import nanoseconds

_INT64 = 2**63

# Another number of digits means another unit, such as hundredths of a second (``json_timestamp_units = "10ms"``).
_UNITS = {10: 1_000_000_000, 13: 1_000_000, 16: 1_000, 19: 1}


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the fields of metrics; see ``Decoder``."""
    del hint
    for value in read_values(body):
        if isinstance(value, InvalidSample):
            yield value
            continue
        prefix, decoded = value
        metrics = decoded.get("metrics") if isinstance(decoded, dict) else decoded
        if isinstance(metrics, list) and isinstance(decoded, dict) and "fields" in decoded:
            yield InvalidSample(prefix, "type", _BOTH, decoded)
        elif isinstance(metrics, list):
            within = f"{prefix}/metrics" if isinstance(decoded, dict) else prefix
            for index, metric in enumerate(metrics):
                yield from _read_metric(f"{within}/{index}", metric)
        else:
            yield from _read_metric(prefix, decoded)


def _read_metric(where: str, metric: Any) -> Iterator[Reading]:
    if isinstance(metric, NotJson):
        yield not_json(where, metric)
        return
    head = _read_head(where, metric)
    if isinstance(head, InvalidSample):
        yield head
        return
    name, labels, time_ns, of_labels = head
    for field, value in metric["fields"].items():
        kind = type(value)
        # JSON has no infinity, so it was a number beyond 64 bits.
        if (kind is float and value - value == 0) or kind is int or kind is bool:
            metric_name, apart = joined_name(name, field)
            yield Sample(
                f"{where}/fields/{field}" if field.isalnum() else where + json_pointer(("fields", field)),
                metric_name,
                labels,
                int(value) if kind is bool else value,
                time_ns,
                False,
                "",
                of_labels + apart,
            )
        else:
            yield _other_field(where + json_pointer(("fields", field)), field, value, metric)


def _read_head(where: str, metric: Any) -> tuple[str, Mapping[str, str], int | None, str] | InvalidSample:
    """What the fields of a metric share: its name, labels and time, and what tells them apart."""
    if not isinstance(metric, dict):
        return InvalidSample(where, "type", f"is not a metric: {_SHAPE}", metric)
    name, tags, fields = metric.get("name"), metric.get("tags", {}), metric.get("fields")
    if not isinstance(name, str) or not name:
        return InvalidSample(f"{where}/name", "name", f'has no text as "name": {_SHAPE}', metric)
    if isinstance(fields, NotJson):
        return not_json(f"{where}/fields", fields, metric)
    if isinstance(tags, NotJson):
        return not_json(f"{where}/tags", tags, metric)
    if not isinstance(fields, dict):
        return InvalidSample(f"{where}/fields", "type", f'has no object as "fields": {_SHAPE}', metric)
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        return InvalidSample(
            f"{where}/tags",
            "type",
            "is not an object of names and texts: correct it, or leave it out",
            metric,
        )
    if len(tags) > MAX_LABELS:
        return InvalidSample(
            f"{where}/tags", "size", f"has more than {MAX_LABELS} tags: leave some out", metric
        )
    timestamp = metric.get("timestamp")
    time_ns = None if timestamp is None else time_of(timestamp)
    if time_ns is None and timestamp is not None:
        return InvalidSample(f"{where}/timestamp", "timestamp", _TIME, metric)
    labels, apart = label_names(tags.items())
    return name, labels, time_ns, apart


_BOTH = 'has both "metrics" and "fields": send the batch and the metric each as an object of its own'
_SHAPE = 'a metric of Telegraf is {"fields":{…},"name":"…","tags":{…},"timestamp":…}'
_TIME = (
    "is not a time: it must be RFC 3339, or a whole number of 10, 13, 16 or 19 digits: seconds, milliseconds, microseconds or "
    'nanoseconds since 1970 (json_timestamp_units is "1s", "1ms", "1us" or "1ns")'
)


def time_of(timestamp: Any) -> int | None:
    """A time in RFC 3339, or a whole number whose number of digits shows its unit; None if it is not a time."""
    if isinstance(timestamp, str):
        return nanoseconds(timestamp)
    unit = unit_of(timestamp) if type(timestamp) is int else None
    return None if unit is None else timestamp * unit


def unit_of(timestamp: int) -> int | None:
    """The nanoseconds in a time's unit, by its number of digits; None if no unit has so many, or before 2001."""
    is_plausible = 0 < timestamp < _INT64
    return _UNITS.get(len(str(timestamp))) if is_plausible else None


def _other_field(where: str, field: str, value: Any, metric: Mapping[str, Any]) -> Reading:
    if isinstance(value, str):
        return FilteredSample(where, "text", "is a text, which no destination accepts")
    if isinstance(value, (dict, list)):
        return FilteredSample(
            where, "nested", "is nested (json_nested_fields_…), so it is not a single value"
        )
    if isinstance(value, NotJson):
        return not_json(where, value)
    # Without other members, which may be many.
    shared = {member: metric[member] for member in ("name", "tags", "timestamp") if member in metric}
    alone = {**shared, "fields": {field: value}}
    if value is None:
        return InvalidSample(where, "type", "is null: a field is a number, a boolean or a text", alone)
    return InvalidSample(where, "value", NO_FLOAT, alone)

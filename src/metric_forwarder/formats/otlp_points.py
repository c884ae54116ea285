"""The data points of OTLP metrics → samples, a reader for each kind of metric."""

import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from metric_forwarder.formats.json_text import NotJson
from metric_forwarder.formats.lines import is_utf8
from metric_forwarder.formats.names import MAX_LABELS, apart_of
from metric_forwarder.formats.otlp_names import (
    join_labels,
    label_name,
    number_text,
    prometheus_labels,
    prometheus_metric_name,
)
from metric_forwarder.formats.samples import STALE_MARKER, FilteredSample, Reading, Sample

_DELTA, _CUMULATIVE = 1, 2
_NO_RECORDED_VALUE = 1
_UINT64 = 2**64
_INT64 = 2**63
# The deepest nesting of an attribute's value that is read.
_DEEPEST = 20

_is_whole = re.compile(r"-?[0-9]{1,20}").fullmatch
_is_usual_whole = re.compile(r"-?[1-9][0-9]{0,18}|0").fullmatch
_is_double = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_INFINITE = float("inf")
_SPECIAL = {"NaN": float("nan"), "Infinity": _INFINITE, "-Infinity": -_INFINITE}
_NO_TEXT = "is not a text: correct it at its producer"
_EXPONENTIAL = (
    "is an exponential histogram, which is not written yet: set "
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram"
)
_MIN_MAX = "is a minimum or maximum, which a histogram of Prometheus does not have"
TOO_MANY_ATTRIBUTES = f"has more than {MAX_LABELS} attributes: leave some out"
JOB, INSTANCE = "job", "instance"
# The key in OTLP of each label of the resource.
_KEYS = {JOB: "service.name", INSTANCE: "service.instance.id"}


class Wrong(Exception):
    """An error, used only within OTLP; ``where`` is a pointer into the object that was read."""

    def __init__(self, where: str, rule: str, message: str) -> None:
        super().__init__(message)
        self.where = where
        self.rule = rule


class Series(NamedTuple):
    """What the data points of a metric share.

    Attributes:
        name: as in Prometheus.
        labels: those of the resource and the scope, which take precedence over a point's own.
        is_delta: as in ``Sample``.
        apart: as in ``Sample``.
    """

    name: str
    labels: Mapping[str, str]
    is_delta: bool = False
    apart: str = ""


def read_series(metric: Mapping[str, Any], kind: str, labels: Mapping[str, str], apart: str) -> Series:
    """Read what the data points of a metric share; ``labels`` and ``apart`` are those of the resource and the scope."""
    name, unit = read_text(metric, "name", "name"), read_text(metric, "unit", "name")
    temporality = _temporality(metric[kind], kind) if kind in ("sum", "histogram") else _CUMULATIVE
    is_counter = kind == "sum" and metric[kind].get("isMonotonic") is True and temporality == _CUMULATIVE
    written = prometheus_metric_name(name, unit, is_counter=is_counter, is_gauge=kind == "gauge")
    if not is_utf8(name):
        raise Wrong("/name", "name", "is not UTF-8: encode it as UTF-8")
    if not written:
        raise Wrong("/name", "name", "has no letter and no digit: it must be a name")
    apart += "" if written == name else apart_of(name, unit)
    return Series(written, labels, temporality == _DELTA, apart)


def _temporality(data: Mapping[str, Any], kind: str) -> int:
    temporality = data.get("aggregationTemporality")
    if type(temporality) is int and temporality in (_DELTA, _CUMULATIVE):
        return temporality
    raise Wrong(
        f"/{kind}/aggregationTemporality", "temporality", "is unknown: it must be 1 (delta) or 2 (cumulative)"
    )


# --- one reader for each kind: it raises ``Wrong`` before its first sample, or not at all ---------------------------


def _read_number(place: str, point: dict[str, Any], series: Series) -> tuple[Reading]:
    labels, time_ns = _point_labels(point, series.labels), _time(point)
    if _is_stale(point):
        value: float | int = STALE_MARKER
    elif point.get("asInt") is not None:
        value = _whole("/asInt", point["asInt"], -_INT64, _INT64)
    elif point.get("asDouble") is not None:
        value = _double("/asDouble", point["asDouble"])
    else:
        raise Wrong("", "value", 'has no value: it must have "asDouble" or "asInt"')
    return (Sample(place, series.name, labels, value, time_ns, series.is_delta, "", series.apart),)


class _Point:
    """A data point of which several samples are made: what they share."""

    def __init__(self, place: str, point: Mapping[str, Any], series: Series) -> None:
        self._place = place
        self._series = series
        self._labels = _point_labels(point, series.labels)
        self._time_ns = _time(point)
        self.is_stale = _is_stale(point)

    def sample(
        self, where: str, suffix: str, value: float, own_label: Mapping[str, str] | None = None
    ) -> Sample:
        return Sample(
            self._place + where,
            self._series.name + suffix,
            {**self._labels, **own_label} if own_label else self._labels,
            STALE_MARKER if self.is_stale else value,
            self._time_ns,
            self._series.is_delta,
            apart=self._series.apart,
        )


def _read_histogram(place: str, data: dict[str, Any], series: Series) -> Iterator[Reading]:
    point = _Point(place, data, series)
    bounds, counts, total = _buckets(data, is_stale=point.is_stale)
    has_sum = point.is_stale or data.get("sum") is not None
    total_sum = 0.0 if point.is_stale or not has_sum else _double("/sum", data["sum"])
    below = 0
    for index, (bound, count) in enumerate(zip(bounds, counts, strict=False)):
        below += count
        if bound != _INFINITE:
            yield point.sample(f"/bucketCounts/{index}", "_bucket", below, {"le": number_text(bound)})
    yield point.sample(f"/bucketCounts/{len(bounds)}", "_bucket", total, {"le": "+Inf"})
    if has_sum:
        yield point.sample("/sum", "_sum", total_sum)
    yield point.sample("/count", "_count", total)
    for member in ("min", "max"):
        if data.get(member) is not None:
            yield FilteredSample(f"{place}/{member}", "min-max", _MIN_MAX)


def _buckets(data: Mapping[str, Any], *, is_stale: bool) -> tuple[Sequence[float], list[int], int]:
    """The bounds, the counts, of which there is one more, and their sum. A stale point may have bounds alone."""
    # There may be a hundred thousand, which take a quarter of the memory so.
    bounds = array(
        "d",
        (
            _double(f"/explicitBounds/{index}", bound)
            for index, bound in enumerate(read_list(data, "explicitBounds"))
        ),
    )
    if any(not lower < upper for lower, upper in pairwise(bounds)) or any(bound != bound for bound in bounds):  # noqa: PLR0124 - true only for NaN
        message = "do not increase: each bound must be greater than the one before"
        raise Wrong("/explicitBounds", "buckets", message)
    counts = [
        _whole(f"/bucketCounts/{index}", count, 0, _UINT64)
        for index, count in enumerate(read_list(data, "bucketCounts"))
    ]
    if is_stale and not counts:
        return bounds, [0] * (len(bounds) + 1), 0
    total = 0 if is_stale else _whole("/count", _number_of(data, "count"), 0, _UINT64)
    has_buckets = bool(bounds or counts)
    if has_buckets and (len(counts) != len(bounds) + 1 or (sum(counts) != total and not is_stale)):
        message = "do not fit: there must be one more bucket than bounds, and their sum must be the count of the point"
        raise Wrong("/bucketCounts", "buckets", message)
    return bounds, counts, total


def _read_summary(place: str, data: dict[str, Any], series: Series) -> Iterator[Reading]:
    point = _Point(place, data, series)
    quantiles = []
    for index, quantile in enumerate(read_list(data, "quantileValues")):
        where = f"/quantileValues/{index}"
        check_object(where, quantile)
        value = 0.0 if point.is_stale else _double(f"{where}/value", _number_of(quantile, "value"))
        text = number_text(_double(f"{where}/quantile", _number_of(quantile, "quantile")))
        quantiles.append((where, value, text))
    total_sum = 0.0 if point.is_stale else _double("/sum", _number_of(data, "sum"))
    total = 0 if point.is_stale else _whole("/count", _number_of(data, "count"), 0, _UINT64)
    for where, value, text in quantiles:
        yield point.sample(where, "", value, {"quantile": text})
    yield point.sample("/sum", "_sum", total_sum)
    yield point.sample("/count", "_count", total)


def _read_exponential(place: str, point: dict[str, Any], series: Series) -> Iterator[Reading]:
    del place, point, series
    raise Wrong("", "exponential-histogram", _EXPONENTIAL)


READERS: Mapping[str, Callable[[str, dict[str, Any], Series], Iterable[Reading]]] = {
    "gauge": _read_number,
    "sum": _read_number,
    "histogram": _read_histogram,
    "exponentialHistogram": _read_exponential,
    "summary": _read_summary,
}


def _time(point: Mapping[str, Any]) -> int | None:
    time_ns = point.get("timeUnixNano")
    return None if time_ns is None else _whole("/timeUnixNano", time_ns, 0, _INT64) or None


def _is_stale(point: Mapping[str, Any]) -> bool:
    flags = point.get("flags", 0)
    return type(flags) is int and bool(flags & _NO_RECORDED_VALUE)


# --- attributes ------------------------------------------------------------------------------------------------------


def _point_labels(point: Mapping[str, Any], shared: Mapping[str, str]) -> Mapping[str, str]:
    """The labels of a point; ``shared`` are those of its series."""
    attributes = point.get("attributes")
    if not attributes:
        return shared
    labels = _usual_labels(attributes, shared)
    if labels is not None:
        return labels
    texts = read_attributes("/attributes", attributes)
    labels = prometheus_labels(texts)
    if labels.keys().isdisjoint(shared):
        return {**labels, **shared}
    # Their names become one label in Prometheus, whose value joins theirs, in the order of their keys.
    keyed = {(key, label_name(key), text) for key, text in texts.items() if text}
    keyed |= {(_KEYS.get(name, name), name, text) for name, text in shared.items()}
    return join_labels(sorted(keyed))


def _usual_labels(attributes: Any, shared: Mapping[str, str]) -> dict[str, str] | None:
    """The labels of a point whose attributes are texts or integers, and whose names do not collide; None otherwise."""
    if type(attributes) is not list or len(attributes) > MAX_LABELS:
        return None
    labels: dict[str, str] = {}
    try:
        for attribute in attributes:
            name, value = label_name(attribute["key"]), attribute["value"]
            text = value.get("stringValue")
            if text is None:
                number = value["intValue"]
                text = number if type(number) is str and _is_usual_whole(number) else None
            if type(text) is not str or not text or not name or name in labels or name in shared:
                return None
            labels[name] = text
    except (KeyError, TypeError, AttributeError):
        return None
    labels.update(shared)
    return labels


def read_attributes(where: str, attributes: Any, most: float = MAX_LABELS) -> dict[str, str]:
    """The attributes of a resource, a scope or a point as text, by their keys; with more than ``most`` they are wrong."""
    if attributes is None:
        return {}
    if not isinstance(attributes, list):
        raise Wrong(where, "type", 'is not a list: it must be [{"key":"…","value":{…}}]')
    if len(attributes) > most:
        raise Wrong(where, "size", TOO_MANY_ATTRIBUTES)
    found: dict[str, str] = {}
    for index, attribute in enumerate(attributes):
        if not isinstance(attribute, dict) or not isinstance(attribute.get("key"), (str, type(None))):
            message = 'is not an attribute: it must be {"key":"…","value":{…}}'
            raise Wrong(f"{where}/{index}", "type", message)
        found[attribute.get("key") or ""] = _attribute_text(f"{where}/{index}/value", attribute.get("value"))
    return found


def _attribute_text(where: str, value: Any) -> str:
    if value is None:
        return ""
    check_object(where, value)
    text = value.get("stringValue")
    plain = text if isinstance(text, str) else _plain(value, 0)
    if isinstance(plain, str):
        return plain
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float):
        return number_text(plain)
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any, depth: int) -> Any:
    """An attribute's value as plain JSON; None if it is not one that OTLP knows."""
    if not isinstance(value, dict) or depth > _DEEPEST:
        return None
    for kind, inner in value.items():
        match kind if inner is not None else "":
            case "stringValue" | "bytesValue" | "boolValue":
                return inner if isinstance(inner, (str, bool)) else None
            case "intValue":
                is_text = isinstance(inner, str) and _is_whole(inner)
                return int(inner) if type(inner) is int or is_text else None
            case "doubleValue":
                return (
                    float(inner) if type(inner) in (int, float) else inner if isinstance(inner, str) else None
                )
            case "arrayValue":
                return [_plain(member, depth + 1) for member in _members(inner)]
            case "kvlistValue":
                return {
                    str(member.get("key") or ""): _plain(member.get("value"), depth + 1)
                    for member in _members(inner)
                    if isinstance(member, dict)
                }
    return None


def _members(inner: Any) -> list[Any]:
    members = inner.get("values") if isinstance(inner, dict) else None
    return members if isinstance(members, list) else []


# --- values of OTLP's JSON: null is the same as a missing member ----------------------------------------------------


def _whole(where: str, value: Any, least: int, above: int) -> int:
    """A 64-bit integer, which is text or a number in JSON."""
    if (isinstance(value, str) and _is_whole(value)) or (
        type(value) is float and value == value // 1 and abs(value) < 2**53
    ):
        value = int(value)
    if type(value) is int and least <= value < above:
        return value
    raise Wrong(where, "value", "is not a whole number of 64 bits: it must be one, or its digits as text")


def _number_of(group: Mapping[str, Any], name: str) -> Any:
    """The member of this name; 0 if it is missing."""
    value = group.get(name)
    return 0 if value is None else value


def _double(where: str, value: Any) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if type(value) in (int, float) or (isinstance(value, str) and _is_double(value)):
        try:
            number = float(value)
        except OverflowError:
            number = _INFINITE
        # JSON has no infinity, so it was a number beyond 64 bits.
        if number - number == 0 or number != number:  # noqa: PLR0124 - true only for NaN
            return number
    message = 'is not a number: it must be one of 64 bits, or "NaN", "Infinity" or "-Infinity"'
    raise Wrong(where, "value", message)


def check_object(where: str, value: Any) -> None:
    if isinstance(value, NotJson):
        raise Wrong(where, value.rule, value.message)
    if not isinstance(value, dict):
        raise Wrong(where, "type", "is not an object: correct it at its producer")


# What holds one of these lists has no other list.
_HOLD_POINTS = frozenset({"scopeMetrics", "metrics", "dataPoints"})


def _refuse_other_names(group: Mapping[str, Any], name: str, where: str) -> None:
    """Refuse a list that stands where the one of this name is missing: its data points would be ignored.

    Some writers use the names of the protobuf (``data_points``), and OTLP had others before 0.15.
    """
    for other, value in group.items():
        if isinstance(value, list) and value:
            raise Wrong(f"{where}/{other}", "name", f'is not a member of OTLP 1.0: its name is "{name}"')


def read_object(group: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The member of this name; empty if it is missing."""
    member = group.get(name)
    if member is None:
        return {}
    check_object(f"/{name}", member)
    return member  # type: ignore[no-any-return]  # checked above


def read_list(group: Mapping[str, Any], name: str, where: str = "") -> list[Any]:
    """The member of this name; empty if it is missing. ``where`` is the place of ``group``."""
    members = group.get(name)
    if members is None:
        if name in _HOLD_POINTS:
            _refuse_other_names(group, name, where)
        return []
    if isinstance(members, list):
        return members
    raise Wrong(f"{where}/{name}", "type", "is not a list: correct it at its producer")


def read_text(group: Mapping[str, Any], name: str, rule: str, where: str = "") -> str:
    """The member of this name; empty if it is missing. ``where`` is the place of ``group``."""
    text = group.get(name)
    if text is None:
        return ""
    if isinstance(text, str):
        return text
    raise Wrong(f"{where}/{name}", rule, _NO_TEXT)

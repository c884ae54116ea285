"""OTLP metrics → samples, from JSON and protobuf alike, with the names and series that Prometheus gives them.

A request is decoded JSON: ``resourceMetrics``, their ``scopeMetrics``, their ``metrics``, and the ``dataPoints`` of one
kind in each. Unknown members are ignored, as the protocol demands. Sources: opentelemetry-proto 1.x;
OpenTelemetry, compatibility with Prometheus.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from metric_forwarder.formats.json_values import not_json
from metric_forwarder.formats.names import LONGEST_KEPT, MAX_LABELS
from metric_forwarder.formats.payload import NotJson
from metric_forwarder.formats.samples import (
    STALE_MARKER,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
)

_DELTA, _CUMULATIVE = 1, 2
_NO_RECORDED_VALUE = 1
_UINT64 = 2**64
_INT64 = 2**63
_FULL = 1e21

_is_whole = re.compile(r"-?[0-9]{1,20}").fullmatch
_is_usual_whole = re.compile(r"-?[1-9][0-9]{0,18}|0").fullmatch
_is_double = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_not_in_name = re.compile(r"[^a-zA-Z0-9:]+").sub
_not_in_label = re.compile(r"[^a-zA-Z0-9_]").sub
_underscores = re.compile(r"__+").sub

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tebibytes", "kBy": "kilobytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent", "$": "dollars",
}  # fmt: skip
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NO_TEXT = "is not a text: correct it at its producer"
_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_JOB, _INSTANCE = "job", "instance"
# The key in OTLP of each label of the resource.
_KEYS = {_JOB: "service.name", _INSTANCE: "service.instance.id"}
_EXPONENTIAL = (
    "is an exponential histogram, which is not written yet: set "
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram"
)


class _Wrong(Exception):
    """An error, used only here; ``where`` is a pointer into the object that was read."""

    def __init__(self, where: str, rule: str, message: str) -> None:
        super().__init__(message)
        self.where = where
        self.rule = rule


# Bytes of shared parts that are repeated with each bad data point, so that a replay can read it.
_LONGEST_SHARED = 4_096


class _Around(NamedTuple):
    """The parts of a request that a data point is in.

    Attributes:
        group: the resource, without its scopes.
        scope: the scope, without its metrics.
        is_short: whether they may be repeated with each bad data point.
    """

    group: Mapping[str, Any]
    scope: Mapping[str, Any] = {}
    is_short: bool = True

    def request(self, metric: Any) -> dict[str, Any]:
        """A request with one metric."""
        return {"resourceMetrics": [{**self.group, "scopeMetrics": [{**self.scope, "metrics": [metric]}]}]}

    def invalid(self, where: str, wrong: _Wrong, request: dict[str, Any], raw: Any) -> InvalidSample:
        """What is wrong with a part of a request; kept as a request of its own, or alone if the parts around it are large."""
        where += wrong.where
        if self.is_short:
            # As text it takes a tenth of the memory; there may be a hundred thousand.
            with suppress(TypeError, ValueError, RecursionError):  # it holds a value that is not JSON
                written = _to_json(request).encode()
                return InvalidSample(where, wrong.rule, str(wrong), written, _IN_JSON)
        return InvalidSample(where, wrong.rule, str(wrong), raw)


_IN_JSON = "otlp-json"
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def _without(members: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def _is_short(*parts: Any) -> bool:
    try:
        return sum(len(json.dumps(part)) for part in parts) <= _LONGEST_SHARED
    except (TypeError, ValueError, RecursionError):
        # It holds a value that is not JSON.
        return False


class _Series(NamedTuple):
    """What the data points of a metric share.

    Attributes:
        where: the place of the metric.
        name: as in Prometheus.
        labels: those of the resource and the scope, which take precedence over a point's own.
        is_delta: as in ``Sample``.
    """

    where: str
    name: str
    labels: Mapping[str, str]
    is_delta: bool = False


def convert(prefix: str, request: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the data points of a request; ``prefix`` goes before each place in it."""
    if isinstance(request, NotJson):
        yield not_json(prefix, request)
        return
    groups = request.get("resourceMetrics", []) if isinstance(request, dict) else None
    if not isinstance(groups, list):
        message = 'is not an OTLP metrics request: it must be {"resourceMetrics":[…]}'
        yield InvalidSample(
            f"{prefix}/resourceMetrics" if isinstance(request, dict) else prefix, "type", message, request
        )
        return
    for index, group in enumerate(groups):
        yield from _read_group(f"{prefix}/resourceMetrics/{index}", group, hint)


def _read_group(where: str, group: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the metrics of one resource."""
    try:
        _check_object("", group)
        resource = _member(group, "resource")
        attributes = _attributes("/resource/attributes", resource.get("attributes", []))
        scopes = _list(group, "scopeMetrics")
    except _Wrong as wrong:
        kept = {"resourceMetrics": [group]}
        yield InvalidSample(where + wrong.where, wrong.rule, str(wrong), kept, _IN_JSON)
        return
    members = _without(group, "scopeMetrics")
    around = _Around(members, {}, _is_short(members))
    target = _target(attributes)
    others = {key: value for key, value in attributes.items() if key not in _IDENTIFYING}
    shared = {**_labels(others), **target} if hint.resource_attributes == "labels" else target
    latest: int | None = None
    is_empty = True
    for index, scope in enumerate(scopes):
        for reading in _read_scope(f"{where}/scopeMetrics/{index}", scope, shared, around):
            if isinstance(reading, Sample):
                is_empty = False
                latest = max(latest or 0, reading.time_ns or 0) or None
            yield reading
    if others and not is_empty and hint.resource_attributes != "labels":
        yield _target_info(f"{where}/resource", _labels(others), target, latest, hint)


_IDENTIFYING = frozenset({"service.name", "service.namespace", "service.instance.id"})


def _target(attributes: Mapping[str, str]) -> dict[str, str]:
    """The labels ``job`` and ``instance``, by which Prometheus identifies a target."""
    target = {}
    if name := attributes.get("service.name"):
        namespace = attributes.get("service.namespace")
        target[_JOB] = f"{namespace}/{name}" if namespace else name
    if instance := attributes.get("service.instance.id"):
        target[_INSTANCE] = instance
    return target


def _target_info(
    where: str, labels: Mapping[str, str], target: Mapping[str, str], time_ns: int | None, hint: FormatHint
) -> Reading:
    if hint.resource_attributes == "target_info" and target:
        return Sample(where, "target_info", {**labels, **target}, 1, time_ns)
    message = "has attributes besides the service's name and instance, for which the destination has no room"
    if not target:
        message = "has attributes, but no service.name to which they could belong: set OTEL_SERVICE_NAME"
    return FilteredSample(where, "resource-attributes", message)


def _read_scope(where: str, group: Any, shared: Mapping[str, str], around: _Around) -> Iterator[Reading]:
    try:
        _check_object("", group)
        scope = _member(group, "scope")
        labels = dict(shared)
        for member in ("name", "version"):
            text = scope.get(member, "")
            if not isinstance(text, str):
                raise _Wrong(f"/scope/{member}", "type", _NO_TEXT)  # noqa: TRY301
            if text:
                labels[f"otel_scope_{member}"] = text
        for name, text in _labels(_attributes("/scope/attributes", scope.get("attributes", []))).items():
            labels.setdefault(f"otel_scope_{name}", text)
        metrics = _list(group, "metrics")
    except _Wrong as wrong:
        request = {"resourceMetrics": [{**around.group, "scopeMetrics": [group]}]}
        yield around.invalid(where, wrong, request, group)
        return
    members = _without(group, "metrics")
    around = _Around(around.group, members, around.is_short and _is_short(members))
    for index, metric in enumerate(metrics):
        yield from _read_metric(f"{where}/metrics/{index}", metric, labels, around)


def _read_metric(where: str, metric: Any, labels: Mapping[str, str], around: _Around) -> Iterator[Reading]:
    try:
        _check_object("", metric)
        kind = next((kind for kind in _KINDS if metric.get(kind) is not None), None)
        if kind is None:
            raise _Wrong("", "kind", f"has no data: it must have one of {', '.join(_KINDS)}")  # noqa: TRY301
        data = metric[kind]
        _check_object(f"/{kind}", data)
        points = _list(data, "dataPoints", f"/{kind}")
        series = _series(f"{where}/{kind}/dataPoints/", metric, kind, labels)
    except _Wrong as wrong:
        yield around.invalid(where, wrong, around.request(metric), metric)
        return
    read = _READERS[kind]
    for index, point in enumerate(points):
        place = f"{series.where}{index}"
        try:
            _check_object("", point)
            yield from read(place, point, series)
        except _Wrong as wrong:
            alone = {**metric, kind: {**data, "dataPoints": [point]}}
            yield around.invalid(place, wrong, around.request(alone), point)
            continue
        exemplars = point.get("exemplars")
        for exemplar in range(len(exemplars) if isinstance(exemplars, list) else 0):
            message = "is an exemplar, which no destination accepts"
            yield FilteredSample(f"{place}/exemplars/{exemplar}", "exemplar", message)


def _series(where: str, metric: dict[str, Any], kind: str, labels: Mapping[str, str]) -> _Series:
    name, unit = metric.get("name", ""), metric.get("unit", "")
    if not isinstance(name, str) or not isinstance(unit, str):
        raise _Wrong("/name" if isinstance(unit, str) else "/unit", "name", _NO_TEXT)
    temporality = _temporality(metric[kind], kind) if kind in ("sum", "histogram") else _CUMULATIVE
    is_counter = kind == "sum" and metric[kind].get("isMonotonic") is True and temporality == _CUMULATIVE
    written = prometheus_metric_name(name, unit, is_counter=is_counter, is_gauge=kind == "gauge")
    if not written:
        raise _Wrong("/name", "name", "has no letter and no digit: it must be a name")
    return _Series(where, written, labels, temporality == _DELTA)


def _temporality(data: Mapping[str, Any], kind: str) -> int:
    temporality = data.get("aggregationTemporality")
    if type(temporality) is int and temporality in (_DELTA, _CUMULATIVE):
        return temporality
    raise _Wrong(
        f"/{kind}/aggregationTemporality", "temporality", "is unknown: it must be 1 (delta) or 2 (cumulative)"
    )


def prometheus_metric_name(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
    """The name that Prometheus gives to a metric: with its unit in words, and ``_total`` after a counter."""
    make = _metric_name if len(name) + len(unit) <= LONGEST_KEPT else _metric_name.__wrapped__
    return make(name, unit, is_counter=is_counter, is_gauge=is_gauge)


@lru_cache(maxsize=1024)
def _metric_name(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
    words = [word for word in _not_in_name("_", name).split("_") if word]
    if not words:
        return ""
    main, _, per = unit.partition("/")
    for prefix, text in (((), _unit_word(main, _UNITS)), (("per",), _unit_word(per, _PER_UNITS))):
        if text and text not in words:
            words += (*prefix, text)
    if is_counter:
        words = [*(word for word in words if word != "total"), "total"]
    elif is_gauge and unit == "1":
        words = [*(word for word in words if word != "ratio"), "ratio"]
    joined = "_".join(words)
    return f"_{joined}" if joined[0].isdigit() else joined


def _unit_word(unit: str, words: Mapping[str, str]) -> str:
    unit = unit.strip()
    # Text in braces is a comment.
    if "{" in unit or "}" in unit:
        return ""
    return _not_in_name("_", words.get(unit, unit)).replace(":", "_").strip("_")


def _labels(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes with Prometheus's names; if several names become the same, their values are joined in the order of names."""
    return _joined((key, _label_name(key), attributes[key]) for key in sorted(attributes) if attributes[key])


def _joined(labels: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Label → its value, from (key, name, value), in the order of the keys."""
    values: dict[str, list[str]] = {}
    for _, name, text in labels:
        if name:
            values.setdefault(name, []).append(text)
    return {name: ";".join(found) for name, found in values.items()}


def _label_name(key: str) -> str:
    return (_known_label_name if len(key) <= LONGEST_KEPT else _known_label_name.__wrapped__)(key)


@lru_cache(maxsize=1024)
def _known_label_name(key: str) -> str:
    name = _underscores("_", _not_in_label("_", key))
    return f"key_{name}" if name[:1].isdigit() else name


def _attributes(where: str, attributes: Any) -> dict[str, str]:
    """The attributes of a resource, a scope or a point as text, by their keys."""
    if not isinstance(attributes, list):
        raise _Wrong(where, "type", 'is not a list: it must be [{"key":"…","value":{…}}]')
    if len(attributes) > MAX_LABELS:
        raise _Wrong(where, "size", f"has more than {MAX_LABELS} attributes: leave some out")
    found: dict[str, str] = {}
    for index, attribute in enumerate(attributes):
        key = attribute.get("key", "") if isinstance(attribute, dict) else None
        if not isinstance(key, str):
            raise _Wrong(
                f"{where}/{index}", "type", 'is not an attribute: it must be {"key":"…","value":{…}}'
            )
        found[key] = _text(f"{where}/{index}/value", attribute.get("value"))
    return found


def _text(where: str, value: Any) -> str:
    if value is None:
        return ""
    _check_object(where, value)
    text = value.get("stringValue")
    if isinstance(text, str):
        return text
    plain = _plain(value, 0)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float):
        return number_text(plain)
    return plain if isinstance(plain, str) else "" if plain is None else json.dumps(plain, separators=(",", ":"), ensure_ascii=False)  # fmt: skip


_DEEPEST = 20


def _plain(value: Any, depth: int) -> Any:
    """An attribute's value as plain JSON."""
    if not isinstance(value, dict) or not value or depth > _DEEPEST:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "intValue":
        return (
            inner
            if type(inner) is int
            else int(inner)
            if isinstance(inner, str) and _is_whole(inner)
            else None
        )
    if kind == "doubleValue":
        return float(inner) if type(inner) in (int, float) else inner if isinstance(inner, str) else None
    if kind in ("stringValue", "bytesValue", "boolValue"):
        return inner if isinstance(inner, (str, bool)) else None
    members = inner.get("values", []) if isinstance(inner, dict) else []
    members = members if isinstance(members, list) else []
    if kind == "arrayValue":
        return [_plain(member, depth + 1) for member in members]
    if kind == "kvlistValue":
        return {
            str(member.get("key", "")): _plain(member.get("value"), depth + 1)
            for member in members
            if isinstance(member, dict)
        }
    return None


def number_text(value: float) -> str:
    """A number as Prometheus writes it in a label: ``0.005``, ``10``, ``+Inf``."""
    if value != value:  # noqa: PLR0124 - true only for NaN
        return "NaN"
    if value in (_SPECIAL["Infinity"], _SPECIAL["-Infinity"]):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < _FULL:
        return str(int(value))
    return format(Decimal(repr(value)), "f")


def _number_points(place: str, point: dict[str, Any], series: _Series) -> Iterator[Reading]:
    labels, time_ns = _point_labels(point, series), _time(point)
    if _is_stale(point):
        value: float | int = STALE_MARKER
    elif point.get("asInt") is not None:
        value = _whole(point, "asInt", -_INT64, _INT64)
    elif point.get("asDouble") is not None:
        value = _double("/asDouble", point["asDouble"])
    else:
        raise _Wrong("", "value", 'has no value: it must have "asDouble" or "asInt"')
    yield Sample(place, series.name, labels, value, time_ns, series.is_delta)


def _histogram_points(place: str, point: dict[str, Any], series: _Series) -> Iterator[Reading]:
    labels, time_ns = _point_labels(point, series), _time(point)
    bounds = [
        _double(f"/explicitBounds/{index}", bound)
        for index, bound in enumerate(_list(point, "explicitBounds"))
    ]
    if any(not lower < upper for lower, upper in pairwise(bounds)) or any(bound != bound for bound in bounds):  # noqa: PLR0124 - true only for NaN
        raise _Wrong(
            "/explicitBounds", "buckets", "do not increase: each bound must be greater than the one before"
        )
    counts = [
        _whole({"": count}, "", 0, _UINT64, f"/bucketCounts/{index}")
        for index, count in enumerate(_list(point, "bucketCounts"))
    ]
    stale = _is_stale(point)
    total = 0 if stale else _whole(point, "count", 0, _UINT64)
    if (counts and (len(counts) != len(bounds) + 1 or (sum(counts) != total and not stale))) or (
        bounds and not counts and not stale
    ):
        message = "do not fit: there must be one more bucket than bounds, and their sum must be the count of the point"
        raise _Wrong("/bucketCounts", "buckets", message)
    total_sum = None if point.get("sum") is None or stale else _double("/sum", point["sum"])
    below, name = 0, f"{series.name}_bucket"
    for index, (bound, count) in enumerate(zip(bounds, counts or [0] * len(bounds), strict=False)):
        below += count
        if bound != _SPECIAL["Infinity"]:
            value = STALE_MARKER if stale else below
            yield Sample(
                f"{place}/bucketCounts/{index}",
                name,
                {**labels, "le": number_text(bound)},
                value,
                time_ns,
                series.is_delta,
            )
    value = STALE_MARKER if stale else total
    yield Sample(
        f"{place}/bucketCounts/{len(bounds)}",
        name,
        {**labels, "le": "+Inf"},
        value,
        time_ns,
        series.is_delta,
    )
    if total_sum is not None or stale:
        yield Sample(
            f"{place}/sum",
            f"{series.name}_sum",
            labels,
            STALE_MARKER if total_sum is None else total_sum,
            time_ns,
            series.is_delta,
        )
    yield Sample(f"{place}/count", f"{series.name}_count", labels, value, time_ns, series.is_delta)
    for member in ("min", "max"):
        if point.get(member) is not None:
            yield FilteredSample(
                f"{place}/{member}",
                "min-max",
                "is a minimum or maximum, which a histogram of Prometheus does not have",
            )


def _summary_points(place: str, point: dict[str, Any], series: _Series) -> Iterator[Reading]:
    labels, time_ns = _point_labels(point, series), _time(point)
    stale = _is_stale(point)
    quantiles = []
    for index, quantile in enumerate(_list(point, "quantileValues")):
        where = f"/quantileValues/{index}"
        _check_object(where, quantile)
        value = STALE_MARKER if stale else _double(f"{where}/value", quantile.get("value", 0))
        quantiles.append(
            (number_text(_double(f"{where}/quantile", quantile.get("quantile", 0))), value, where)
        )
    total_sum = STALE_MARKER if stale else _double("/sum", point.get("sum", 0))
    total = STALE_MARKER if stale else _whole(point, "count", 0, _UINT64)
    for text, value, where in quantiles:
        yield Sample(place + where, series.name, {**labels, "quantile": text}, value, time_ns)
    yield Sample(f"{place}/sum", f"{series.name}_sum", labels, total_sum, time_ns)
    yield Sample(f"{place}/count", f"{series.name}_count", labels, total, time_ns)


def _exponential_points(place: str, point: dict[str, Any], series: _Series) -> Iterator[Reading]:
    del place, point, series
    raise _Wrong("", "exponential-histogram", _EXPONENTIAL)


_READERS: Mapping[str, Callable[[str, dict[str, Any], _Series], Iterator[Reading]]] = {
    "gauge": _number_points,
    "sum": _number_points,
    "histogram": _histogram_points,
    "exponentialHistogram": _exponential_points,
    "summary": _summary_points,
}


def _point_labels(point: Mapping[str, Any], series: _Series) -> Mapping[str, str]:
    attributes = point.get("attributes")
    if not attributes:
        return series.labels
    labels = _usual_labels(attributes, series.labels)
    if labels is not None:
        return labels
    texts = _attributes("/attributes", attributes)
    labels = _labels(texts)
    if labels.keys().isdisjoint(series.labels):
        return {**labels, **series.labels}
    # Their names become one label in Prometheus, whose value joins theirs, in the order of their keys.
    keyed = {(key, _label_name(key), text) for key, text in texts.items() if text}
    keyed |= {(_KEYS.get(name, name), name, text) for name, text in series.labels.items()}
    return _joined(sorted(keyed))


def _usual_labels(attributes: Any, shared: Mapping[str, str]) -> dict[str, str] | None:
    """The labels of a point whose attributes are texts or integers, and whose names do not collide; None otherwise."""
    if type(attributes) is not list or len(attributes) > MAX_LABELS:
        return None
    labels: dict[str, str] = {}
    try:
        for attribute in attributes:
            name, value = _label_name(attribute["key"]), attribute["value"]
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


def _time(point: Mapping[str, Any]) -> int | None:
    return _whole(point, "timeUnixNano", 0, _INT64) or None


def _is_stale(point: Mapping[str, Any]) -> bool:
    flags = point.get("flags", 0)
    return type(flags) is int and bool(flags & _NO_RECORDED_VALUE)


def _whole(point: Mapping[str, Any], member: str, least: int, above: int, where: str = "") -> int:
    """A 64-bit integer, which is text or a number in JSON; 0 if it is missing."""
    value = point.get(member, 0)
    if (isinstance(value, str) and _is_whole(value)) or (
        type(value) is float and value == value // 1 and abs(value) < 2**53
    ):
        value = int(value)
    if type(value) is int and least <= value < above:
        return value
    raise _Wrong(
        where or f"/{member}",
        "value",
        "is not a whole number of 64 bits: it must be one, or its digits as text",
    )


def _double(where: str, value: Any) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if type(value) in (int, float) or (isinstance(value, str) and _is_double(value)):
        try:
            number = float(value)
        except OverflowError:
            number = _SPECIAL["Infinity"]
        # JSON has no infinity, so it was a number beyond 64 bits.
        if number - number == 0 or number != number:  # noqa: PLR0124 - true only for NaN
            return number
    raise _Wrong(
        where, "value", 'is not a number: it must be one of 64 bits, or "NaN", "Infinity" or "-Infinity"'
    )


def _check_object(where: str, value: Any) -> None:
    if isinstance(value, NotJson):
        raise _Wrong(where, value.rule, value.message)
    if not isinstance(value, dict):
        raise _Wrong(where, "type", "is not an object: correct it at its producer")


def _member(group: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    member = group.get(name)
    if member is None:
        return {}
    _check_object(f"/{name}", member)
    return member  # type: ignore[no-any-return]  # checked above


def _list(group: Mapping[str, Any], name: str, where: str = "") -> Iterable[Any]:
    members = group.get(name)
    if members is None:
        return []
    if isinstance(members, list):
        return members
    raise _Wrong(f"{where}/{name}", "type", "is not a list: correct it at its producer")

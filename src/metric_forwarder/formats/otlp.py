"""OTLP metrics → samples, from JSON and protobuf alike, with the names and series that Prometheus gives them.

A request is decoded JSON: ``resourceMetrics``, their ``scopeMetrics``, their ``metrics``, and the ``dataPoints`` of one
kind in each. Unknown members are ignored, as the protocol demands. ``otlp_points`` reads a data point, ``otlp_names`` makes
the names. Sources: opentelemetry-proto 1.x; OpenTelemetry, compatibility with Prometheus.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from metric_forwarder.formats.json_text import NotJson
from metric_forwarder.formats.json_values import not_json
from metric_forwarder.formats.names import MAX_LABELS, apart_of
from metric_forwarder.formats.otlp_names import prometheus_labels
from metric_forwarder.formats.otlp_points import (
    INSTANCE,
    JOB,
    READERS,
    TOO_MANY_ATTRIBUTES,
    Wrong,
    check_object,
    read_attributes,
    read_list,
    read_object,
    read_series,
    read_text,
)
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Reading, Sample

_IN_JSON = "otlp-json"
_IDENTIFYING = frozenset({"service.name", "service.namespace", "service.instance.id"})
# Bytes of shared parts that are repeated with each bad data point, so that a replay can read it.
_LONGEST_SHARED = 4_096

_to_json = json.JSONEncoder(separators=(",", ":")).encode


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

    def invalid(self, where: str, wrong: Wrong, request: dict[str, Any], raw: Any) -> InvalidSample:
        """What is wrong with a part of a request; kept as a request of its own, or alone if the parts around it are large."""
        where += wrong.where
        if self.is_short:
            # As text it takes a tenth of the memory; there may be a hundred thousand.
            with suppress(TypeError, ValueError, RecursionError):  # it holds a value that is not JSON
                written = _to_json(request).encode()
                return InvalidSample(where, wrong.rule, str(wrong), written, _IN_JSON)
        return InvalidSample(where, wrong.rule, str(wrong), raw)


def _without(members: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def _is_short(*parts: Any) -> bool:
    try:
        return sum(len(json.dumps(part)) for part in parts) <= _LONGEST_SHARED
    except (TypeError, ValueError, RecursionError):
        # It holds a value that is not JSON.
        return False


def convert(prefix: str, request: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the data points of a request; ``prefix`` goes before each place in it."""
    if isinstance(request, NotJson):
        yield not_json(prefix, request)
        return
    groups = request.get("resourceMetrics") if isinstance(request, dict) else None
    is_named = isinstance(request, dict) and "resourceMetrics" in request
    if request == {} or (is_named and groups is None):
        return
    if not isinstance(groups, list):
        # Nothing would be left of a request for traces or logs, or of one with other names.
        message = 'is not an OTLP metrics request: it must be {"resourceMetrics":[…]}'
        yield InvalidSample(f"{prefix}/resourceMetrics" if is_named else prefix, "type", message, request)
        return
    for index, group in enumerate(groups):
        yield from _read_group(f"{prefix}/resourceMetrics/{index}", group, hint)


def _read_group(where: str, group: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the metrics of one resource."""
    are_labels = hint.resource_attributes == "labels"
    most = MAX_LABELS if are_labels else float("inf")
    try:
        check_object("", group)
        resource = read_object(group, "resource")
        attributes = read_attributes("/resource/attributes", resource.get("attributes"), most)
        scopes = read_list(group, "scopeMetrics")
    except Wrong as wrong:
        kept = {"resourceMetrics": [group]}
        yield InvalidSample(where + wrong.where, wrong.rule, str(wrong), kept, _IN_JSON)
        return
    members = _without(group, "scopeMetrics")
    around = _Around(members, {}, _is_short(members))
    target = _target(attributes)
    others = {key: value for key, value in attributes.items() if key not in _IDENTIFYING}
    shared = {**prometheus_labels(others), **target} if are_labels else target
    # One collector reports for many pods, which only these attributes distinguish. Those of labels may have lost their names.
    apart = apart_of(sorted(others.items())) if others else ""
    latest: int | None = None
    is_empty = True
    for index, scope in enumerate(scopes):
        for reading in _read_scope(f"{where}/scopeMetrics/{index}", scope, shared, apart, around):
            if isinstance(reading, Sample):
                is_empty = False
                latest = max(latest or 0, reading.time_ns or 0) or None
            yield reading
    if others and not are_labels and not is_empty:
        yield _target_info(f"{where}/resource", prometheus_labels(others), target, latest, hint)


def _target(attributes: Mapping[str, str]) -> dict[str, str]:
    """The labels ``job`` and ``instance``, by which Prometheus identifies a target."""
    target = {}
    if name := attributes.get("service.name"):
        namespace = attributes.get("service.namespace")
        target[JOB] = f"{namespace}/{name}" if namespace else name
    if instance := attributes.get("service.instance.id"):
        target[INSTANCE] = instance
    return target


def _target_info(
    where: str, labels: Mapping[str, str], target: Mapping[str, str], time_ns: int | None, hint: FormatHint
) -> Reading:
    if hint.resource_attributes == "target_info" and target:
        if len(labels) + len(target) > MAX_LABELS:
            return InvalidSample(f"{where}/attributes", "size", TOO_MANY_ATTRIBUTES, {**labels, **target})
        return Sample(where, "target_info", {**labels, **target}, 1, time_ns)
    what = (
        "besides the service's name and instance"
        if target
        else "and no service.name to which they could belong"
    )
    message = f"has attributes {what}: MF_OTLP_RESOURCE=labels makes them labels of each sample"
    return FilteredSample(where, "resource-attributes", message)


def _read_scope(
    where: str, group: Any, shared: Mapping[str, str], apart: str, around: _Around
) -> Iterator[Reading]:
    try:
        check_object("", group)
        labels, of_scope = _scope_labels(read_object(group, "scope"), shared)
        metrics = read_list(group, "metrics")
    except Wrong as wrong:
        request = {"resourceMetrics": [{**around.group, "scopeMetrics": [group]}]}
        yield around.invalid(where, wrong, request, group)
        return
    members = _without(group, "metrics")
    around = _Around(around.group, members, around.is_short and _is_short(members))
    for index, metric in enumerate(metrics):
        yield from _read_metric(f"{where}/metrics/{index}", metric, labels, apart + of_scope, around)


def _scope_labels(scope: Mapping[str, Any], shared: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The labels of a scope, and its ``Sample.apart``; a resource's labels replace its attributes, but not its name and version."""
    texts = {member: read_text(scope, member, "type", "/scope") for member in ("name", "version")}
    attributes = read_attributes("/scope/attributes", scope.get("attributes"))
    named = {f"otel_scope_{member}": text for member, text in texts.items() if text}
    own = {f"otel_scope_{name}": text for name, text in prometheus_labels(attributes).items()}
    return {**own, **shared, **named}, apart_of(sorted(attributes.items())) if attributes else ""


def _read_metric(
    where: str, metric: Any, labels: Mapping[str, str], apart: str, around: _Around
) -> Iterator[Reading]:
    try:
        check_object("", metric)
        kind = next((kind for kind in READERS if metric.get(kind) is not None), None)
        if kind is None:
            raise Wrong("", "kind", f"has no data: it must have one of {', '.join(READERS)}")  # noqa: TRY301
        data = metric[kind]
        check_object(f"/{kind}", data)
        points = read_list(data, "dataPoints", f"/{kind}")
        series = read_series(metric, kind, labels, apart)
    except Wrong as wrong:
        yield around.invalid(where, wrong, around.request(metric), metric)
        return
    read, where_points = READERS[kind], f"{where}/{kind}/dataPoints/"
    around_point: _Around | None = None
    for index, point in enumerate(points):
        place = f"{where_points}{index}"
        try:
            check_object("", point)
            yield from read(place, point, series)
        except Wrong as wrong:
            if around_point is None:
                # The metric is repeated with each bad point, too; measured once, since it may be long.
                parts = _without(metric, kind), _without(data, "dataPoints")
                around_point = around._replace(is_short=around.is_short and _is_short(*parts))
            alone = {**metric, kind: {**data, "dataPoints": [point]}} if around_point.is_short else None
            yield around_point.invalid(place, wrong, around.request(alone), point)
            continue
        exemplars = point.get("exemplars")
        for exemplar in range(len(exemplars) if isinstance(exemplars, list) else 0):
            message = "is an exemplar, which no destination accepts"
            yield FilteredSample(f"{place}/exemplars/{exemplar}", "exemplar", message)

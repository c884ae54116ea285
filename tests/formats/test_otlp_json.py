"""What OTLP metrics as JSON become; see docs/formats.md."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.formats import Format
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.otlp_json import decode
from metric_forwarder.formats.otlp_names import number_text, prometheus_metric_name
from metric_forwarder.formats.samples import (
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    is_stale_marker,
)

HINT = FormatHint()
POINT = "/resourceMetrics/0/scopeMetrics/0/metrics/0/"
TIME = 1_544_712_660_300_000_123


def attribute(key: str, value: Any = "v", kind: str = "stringValue") -> dict[str, Any]:
    return {"key": key, "value": {kind: value}}


def request(
    *metrics: Any, resource: tuple[Any, ...] = (), scope: dict[str, Any] | None = None
) -> dict[str, Any]:
    scopes = [{"scope": scope or {}, "metrics": list(metrics)}]
    return {"resourceMetrics": [{"resource": {"attributes": list(resource)}, "scopeMetrics": scopes}]}


def gauge(*points: dict[str, Any], name: str = "temperature", unit: str = "") -> dict[str, Any]:
    return {"name": name, "unit": unit, "gauge": {"dataPoints": list(points)}}


def readings(body: Any, hint: FormatHint = HINT) -> list[Reading]:
    return list(decode(body if isinstance(body, (str, bytes)) else json.dumps(body), hint))


def series(body: Any, hint: FormatHint = HINT) -> list[tuple[str, dict[str, str], float]]:
    return [
        (reading.metric, dict(reading.dimensions), reading.value)
        for reading in readings(body, hint)
        if isinstance(reading, Sample)
    ]


def test_a_gauge_becomes_a_sample_for_each_data_point() -> None:
    point = {"asDouble": 1.5, "timeUnixNano": str(TIME), "attributes": [attribute("http.method", "GET")]}
    (found,) = readings(request(gauge(point)))
    assert found == Sample(
        f"{POINT}gauge/dataPoints/0", "temperature", {"http_method": "GET"}, 1.5, TIME, is_delta=False
    )


@pytest.mark.parametrize(
    ("point", "value"),
    [
        ({"asInt": "-9223372036854775808"}, -(2**63)),
        ({"asInt": 7}, 7),
        ({"asInt": "0"}, 0),
        ({"asDouble": 7}, 7.0),
        ({"asDouble": "-Infinity"}, -math.inf),
        ({"asDouble": "1.5e3"}, 1500.0),
    ],
)
def test_a_value_is_written_in_any_way_that_the_encoding_allows(point: dict[str, Any], value: float) -> None:
    assert series(request(gauge(point))) == [("temperature", {}, value)]


def test_a_time_of_zero_or_none_is_that_of_the_message() -> None:
    points = [{"asInt": 1, "timeUnixNano": time} for time in ("0", 0, TIME)] + [{"asInt": 1}]
    times = [reading.time_ns for reading in readings(request(gauge(*points))) if isinstance(reading, Sample)]
    assert times == [None, None, TIME, None]


def test_a_point_without_a_recorded_value_is_a_stale_marker() -> None:
    ((_, _, value),) = series(request(gauge({"flags": 1})))
    assert is_stale_marker(value)
    assert not is_stale_marker(math.nan)


@pytest.mark.parametrize(
    ("name", "unit", "counter", "is_gauge", "expected"),
    [
        ("http.server.duration", "s", False, False, "http_server_duration_seconds"),
        ("process.memory", "By", False, True, "process_memory_bytes"),
        ("process_memory_bytes", "By", False, True, "process_memory_bytes"),
        ("requests", "{request}", True, False, "requests_total"),
        ("total.requests", "1", True, False, "requests_total"),
        ("cpu.utilization", "1", False, True, "cpu_utilization_ratio"),
        ("cpu.count", "1", False, False, "cpu_count"),
        ("net.io", "By/s", False, True, "net_io_bytes_per_second"),
        ("disk.ops", "{op}/m", False, True, "disk_ops_per_minute"),
        ("humidity", "%", False, True, "humidity_percent"),
        ("dose", "mg", False, True, "dose_mg"),
        ("a..b--c", "", False, True, "a_b_c"),
        ("2xx.count", "", False, True, "_2xx_count"),
        ("job:rate", "", False, True, "job:rate"),
        ("温度", "", False, True, ""),
    ],
)
def test_a_name_is_written_as_prometheus_writes_it(
    name: str, unit: str, counter: bool, is_gauge: bool, expected: str  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    assert prometheus_metric_name(name, unit, is_counter=counter, is_gauge=is_gauge) == expected


def test_resource_and_scope_become_labels_and_a_metric_that_holds_the_rest() -> None:
    resource = (
        attribute("service.namespace", "shop"),
        attribute("service.name", "api"),
        attribute("service.instance.id", "i-1"),
        attribute("host.name", "h"),
    )
    scope = {"name": "lib", "version": "2.0", "attributes": [attribute("a.b")]}
    body = request(gauge({"asInt": 1, "timeUnixNano": TIME}), resource=resource, scope=scope)
    target = {"job": "shop/api", "instance": "i-1"}
    scoped = {**target, "otel_scope_name": "lib", "otel_scope_version": "2.0", "otel_scope_a_b": "v"}
    assert series(body) == [("temperature", scoped, 1), ("target_info", {**target, "host_name": "h"}, 1)]
    on_each = FormatHint(resource_attributes="labels")
    assert series(body, on_each) == [("temperature", {**scoped, "host_name": "h"}, 1)]
    _, told = readings(body, FormatHint(resource_attributes="filtered"))
    assert isinstance(told, FilteredSample)


def test_attributes_of_a_resource_are_limited_only_where_they_become_labels() -> None:
    many = tuple(attribute(f"a{number}") for number in range(101))
    body = request(gauge({"asInt": 1}, {"asInt": 2}), resource=(attribute("service.name", "api"), *many))
    for choice, rest in {"filtered": FilteredSample, "target_info": InvalidSample}.items():
        *samples, last = readings(body, FormatHint(resource_attributes=choice))
        assert [reading.dimensions for reading in samples if isinstance(reading, Sample)] == [
            {"job": "api"}
        ] * 2
        assert isinstance(last, rest)
    (found,) = readings(body, FormatHint(resource_attributes="labels"))
    assert isinstance(found, InvalidSample)
    assert found.rule == "size"


def test_attributes_of_every_kind_become_text_and_names_that_collide_are_joined() -> None:
    attributes = [
        attribute("b.c", "2"),
        attribute("b-c", "1"),
        attribute("1st", "a"),
        attribute("flag", value=True, kind="boolValue"),
        attribute("n", "12", "intValue"),
        attribute("d", 0.5, "doubleValue"),
        attribute("whole", 3.0, "doubleValue"),
        attribute("list", {"values": [{"stringValue": "é"}, {"intValue": "1"}]}, "arrayValue"),
        attribute("map", {"values": [attribute("k", value=False, kind="boolValue")]}, "kvlistValue"),
        attribute("bytes", "AQI=", "bytesValue"),
        attribute("empty", ""),
        {"key": "none"},
    ]
    ((_, labels, _),) = series(request(gauge({"asInt": 1, "attributes": attributes})))
    assert labels == {
        "b_c": "1;2", "key_1st": "a", "flag": "true", "n": "12", "d": "0.5", "whole": "3", "list": '["é",1]',
        "map": '{"k":false}', "bytes": "AQI=",
    }  # fmt: skip


def sum_of(temporality: Any, *, monotonic: bool = True) -> dict[str, Any]:
    data = {"aggregationTemporality": temporality, "isMonotonic": monotonic, "dataPoints": [{"asInt": "5"}]}
    return {"name": "jobs", "sum": data}


def test_sums_are_counters_gauges_or_deltas() -> None:
    found = readings(request(sum_of(2), sum_of(2, monotonic=False), sum_of(1)))
    assert [
        (reading.metric, reading.is_delta) for reading in found if isinstance(reading, Sample)
    ] == [("jobs_total", False), ("jobs", False), ("jobs", True)]  # fmt: skip


@pytest.mark.parametrize("temporality", [0, 3, None, "AGGREGATION_TEMPORALITY_DELTA", True])
def test_a_sum_that_does_not_say_over_what_time_it_sums_is_invalid(temporality: Any) -> None:
    (found,) = readings(request(sum_of(temporality)))
    assert isinstance(found, InvalidSample)
    assert found.rule == "temporality"


HISTOGRAM = {
    "count": "6", "sum": 3.5, "bucketCounts": ["1", 2, "3"], "explicitBounds": [0.005, 10], "min": 0.1, "max": 20,
    "exemplars": [{"asDouble": 1}],
}  # fmt: skip


def histogram(**change: Any) -> dict[str, Any]:
    return request(
        {"name": "d", "histogram": {"aggregationTemporality": 2, "dataPoints": [{**HISTOGRAM, **change}]}}
    )


def test_a_histogram_becomes_cumulative_buckets_a_sum_and_a_count_and_the_rest_is_filtered() -> None:
    assert series(histogram()) == [
        ("d_bucket", {"le": "0.005"}, 1),
        ("d_bucket", {"le": "10"}, 3),
        ("d_bucket", {"le": "+Inf"}, 6),
        ("d_sum", {}, 3.5),
        ("d_count", {}, 6),
    ]
    found = readings(histogram())
    assert [reading.rule for reading in found if isinstance(reading, FilteredSample)] == [
        "min-max",
        "min-max",
        "exemplar",
    ]
    assert len({reading.where for reading in found}) == len(found)


def test_a_histogram_may_have_neither_buckets_nor_a_sum() -> None:
    found = series(histogram(bucketCounts=[], explicitBounds=[], sum=None))
    assert found == [("d_bucket", {"le": "+Inf"}, 6), ("d_count", {}, 6)]


@pytest.mark.parametrize(
    "change",
    [
        {"bucketCounts": ["1", "2"]},
        {"bucketCounts": ["1", "2", "4"]},
        {"bucketCounts": []},
        {"explicitBounds": [10, 0.005]},
        {"explicitBounds": [1, 1]},
        {"explicitBounds": ["NaN", 1]},
        {"count": "-6"},
        {"bucketCounts": ["1", "2", "three"]},
    ],
)
def test_a_histogram_that_does_not_add_up_is_one_invalid_sample(change: dict[str, Any]) -> None:
    (found,) = readings(histogram(**change))
    assert isinstance(found, InvalidSample)


def test_a_summary_becomes_quantiles_a_sum_and_a_count() -> None:
    point = {"count": "2", "sum": 3, "quantileValues": [{"quantile": 0.5, "value": 1}, {"value": 0.5}]}
    assert series(request({"name": "s", "summary": {"dataPoints": [point]}})) == [
        ("s", {"quantile": "0.5"}, 1.0),
        ("s", {"quantile": "0"}, 0.5),
        ("s_sum", {}, 3.0),
        ("s_count", {}, 2),
    ]


def test_an_exponential_histogram_is_invalid_and_names_the_setting_that_helps() -> None:
    (found,) = readings(request({"name": "e", "exponentialHistogram": {"dataPoints": [{"count": "1"}]}}))
    assert isinstance(found, InvalidSample)
    assert "explicit_bucket_histogram" in found.message


def members_of(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Each member of each object in a request: the object, and the member's name."""
    if isinstance(value, dict):
        yield from ((value, name) for name in value)
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from members_of(inner)


def test_a_member_that_is_null_means_the_same_as_none() -> None:
    nested = attribute("c", {"values": [attribute("d", "e"), attribute("f", "1", "intValue")]}, "kvlistValue")
    point = {"timeUnixNano": str(TIME), "flags": 0, "attributes": [attribute("a"), nested]}
    quantile = {"quantile": 0.5, "value": 1}
    sum_ = {"dataPoints": [{**point, "asInt": 1}], "isMonotonic": True, "aggregationTemporality": 2}
    histogram = {
        **point,
        "count": 0,
        "sum": 1,
        "explicitBounds": [1],
        "bucketCounts": [0, 0],
        "exemplars": [],
    }
    summary = {**point, "count": 1, "sum": 1, "quantileValues": [quantile]}
    whole = request(
        gauge({**point, "asDouble": 1}, unit="s"),
        {"name": "sum", "sum": sum_},
        {"name": "histogram", "histogram": {"dataPoints": [histogram], "aggregationTemporality": 2}},
        {"name": "summary", "summary": {"dataPoints": [summary]}},
        resource=(attribute("service.name"), attribute("b")),
        scope={"name": "s", "version": "1", "attributes": [attribute("g")]},
    )

    def found() -> list[tuple[Any, ...]]:
        return [each[:3] if isinstance(each, InvalidSample) else each for each in readings(whole)]

    for group, name in [*members_of(whole)]:
        was = group[name]
        group[name] = None
        with_null = found()
        del group[name]
        assert with_null == found(), name
        group[name] = was
    assert readings({"resourceMetrics": None}) == []
    assert detect({"resourceMetrics": None}, HINT) is Format.OTLP_JSON


@pytest.mark.parametrize(
    "other", [{"stringValue": None}, {"unknown": 1}, {"doubleValue": None, "unknown": None}]
)
def test_the_value_of_an_attribute_is_the_member_that_holds_one(other: dict[str, Any]) -> None:
    label = {"key": "a", "value": {**other, "boolValue": True}}
    assert series(request(gauge({"asInt": 1, "attributes": [label]}))) == [("temperature", {"a": "true"}, 1)]


def test_unknown_members_are_ignored_everywhere() -> None:
    body = request({**gauge({"asInt": 1, "new": {}}), "metadata": [1]}, scope={"new": 1})
    body["new"] = body["resourceMetrics"][0]["new"] = True
    assert series(body) == [("temperature", {}, 1)]


@pytest.mark.parametrize(
    ("kind", "suffixes"),
    [("summary", ["_sum", "_count"]), ("histogram", ["_bucket", "_sum", "_count"])],
)
def test_attributes_are_not_taken_for_quantiles_or_buckets_that_are_missing(
    kind: str, suffixes: list[str]
) -> None:
    point = {"count": "2", "sum": 3, "attributes": [attribute("a")]}
    data = {"dataPoints": [point], "aggregationTemporality": 2}
    names = [name for name, _, _ in series(request({"name": "m", kind: data}))]
    assert names == [f"m{suffix}" for suffix in suffixes]


@pytest.mark.parametrize(
    ("name", "other", "pointer"),
    [
        ("resourceMetrics", "resource_metrics", ""),
        ("resourceMetrics", "resourceSpans", ""),
        ("scopeMetrics", "scope_metrics", "/resourceMetrics/0/scope_metrics"),
        ("scopeMetrics", "instrumentationLibraryMetrics", "/resourceMetrics/0/instrumentationLibraryMetrics"),
        ("metrics", "Metrics", "/resourceMetrics/0/scopeMetrics/0/Metrics"),
        ("dataPoints", "datapoints", "/resourceMetrics/0/scopeMetrics/0/metrics/0/gauge/datapoints"),
        ("dataPoints", "data_points", "/resourceMetrics/0/scopeMetrics/0/metrics/0/gauge/data_points"),
    ],
)
def test_data_points_under_another_name_are_not_ignored_as_an_unknown_member(
    name: str, other: str, pointer: str
) -> None:
    body = json.dumps(request(gauge({"asInt": 1}))).replace(f'"{name}"', f'"{other}"')
    (found,) = readings(body)
    assert isinstance(found, InvalidSample)
    assert (found.where, name in found.message) == (pointer, True)


@pytest.mark.parametrize(
    ("point", "rule"),
    [
        ({}, "value"),
        ({"asInt": "1.5"}, "value"),
        ({"asInt": 2**63}, "value"),
        ({"asInt": True}, "value"),
        ({"asDouble": "seven"}, "value"),
        ({"asInt": 1, "timeUnixNano": "yesterday"}, "value"),
        ({"asInt": 1, "attributes": {}}, "type"),
        ({"asInt": 1, "attributes": [{"key": 1}]}, "type"),
        ({"asInt": 1, "attributes": [attribute(str(number)) for number in range(101)]}, "size"),
        (7, "type"),
    ],
)
def test_a_bad_data_point_costs_one_sample_and_its_neighbours_go(point: Any, rule: str) -> None:
    if point == {"asInt": 1, "attributes": {}}:
        point = {"asInt": 1, "attributes": {"a": "b"}}
    before, found, after = readings(request(gauge({"asInt": 1}, point, {"asInt": 2})))
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert isinstance(found, InvalidSample)
    assert found.rule == rule
    assert found.where.startswith(f"{POINT}gauge/dataPoints/1")


def test_one_bad_point_among_a_thousand_costs_one_sample() -> None:
    points: list[Any] = [{"asInt": number} for number in range(1000)]
    points[499] = {"asInt": "?"}
    found = readings(request(gauge(*points)))
    assert len(found) == 1000
    assert [reading.where for reading in found if not isinstance(reading, Sample)] == [
        f"{POINT}gauge/dataPoints/499/asInt"
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.005, "0.005"), (10.0, "10"), (math.inf, "+Inf"), (1e-7, "0.0000001"), (-0.5, "-0.5"), (1e20, "100000000000000000000")],
)  # fmt: skip
def test_a_bound_is_written_as_prometheus_writes_it(value: float, text: str) -> None:
    assert number_text(value) == text


MEMBERS = st.sampled_from(
    ("resourceMetrics", "scopeMetrics", "metrics", "gauge", "sum", "histogram", "summary", "dataPoints", "name", "unit",
     "asInt", "asDouble", "attributes", "key", "value", "stringValue", "arrayValue", "values", "bucketCounts", "count",
     "explicitBounds", "quantileValues", "resource", "scope", "flags", "timeUnixNano", "aggregationTemporality"),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.slow
@given(JSON, st.integers(0, 4))
def test_whatever_the_json_nothing_raises(inner: Any, depth: int) -> None:
    for names in (("gauge", "sum", "histogram", "summary"), ("metrics",), ("scopeMetrics",), ("resourceMetrics",))[4 - depth :]:  # fmt: skip
        inner = {name: [inner] for name in names} | {"name": "n", "aggregationTemporality": 2}
    readings(inner)

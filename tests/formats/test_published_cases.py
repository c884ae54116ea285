"""What the formats' own projects test is accepted, refused and converted here as their specifications say.

The inputs are ours; each group names whose tests it was written after.
"""

import json
import math
from typing import Any

import cramjam
import pytest

from metric_forwarder.destinations.remote_write_wire import encode_labels
from metric_forwarder.formats import Format, read
from metric_forwarder.formats.otlp_names import prometheus_metric_name
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Reading, Sample
from support.remote_write import encode_series

NO_HINT = FormatHint()
OPEN_METRICS = FormatHint(content_type="application/openmetrics-text; version=1.0.0; charset=utf-8")
SECOND = 10**9


def readings(name: Format, body: Any, hint: FormatHint = NO_HINT) -> list[Reading]:
    return list(read(name, body if isinstance(body, (str, bytes)) else json.dumps(body), hint))


def samples(name: Format, body: Any, hint: FormatHint = NO_HINT) -> list[tuple[Any, ...]]:
    found = readings(name, body, hint)
    assert not [each for each in found if isinstance(each, InvalidSample)]
    return [
        (each.metric, dict(each.dimensions), each.value, each.time_ns)
        for each in found
        if isinstance(each, Sample)
    ]


def is_refused(name: Format, body: str | bytes, hint: FormatHint = NO_HINT) -> bool:
    """Whether a body of one sample is one invalid sample and nothing else."""
    return [type(each) for each in readings(name, body, hint)] == [InvalidSample]


# --- influx: influxdata/line-protocol-corpus, Telegraf's parser, InfluxDB's models -------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"fan\ speed rpm=1", ("fan_speed_rpm", {}, 1.0, None)),
        (r"fan\,speed rpm=1", ("fan_speed_rpm", {}, 1.0, None)),
        # An equals sign needs no escape in a measurement.
        ("fan=speed,a=b rpm=1", ("fan_speed_rpm", {"a": "b"}, 1.0, None)),
        (r"fan,room=two\ words rpm=1", ("fan_rpm", {"room": "two words"}, 1.0, None)),
        # A backslash before a backslash stands for itself, and the next one escapes.
        (r"fan,room=two\\ words rpm=1", ("fan_rpm", {"room": r"two\ words"}, 1.0, None)),
        (r"fan,room=two\\\ words rpm=1", ("fan_rpm", {"room": r"two\\ words"}, 1.0, None)),
        (r"fan,ro\om=a rpm=1", ("fan_rpm", {"ro_om": "a"}, 1.0, None)),
        (r"fan,room=a\=b rpm=1", ("fan_rpm", {"room": "a=b"}, 1.0, None)),
        (r"fan rp\=m=1", ("fan_rp_m", {}, 1.0, None)),
        (r"fan rp\ m=1", ("fan_rp_m", {}, 1.0, None)),
        (r"fan rp\m=1", ("fan_rp_m", {}, 1.0, None)),
        ('fan,room="a" rpm=1', ("fan_rpm", {"room": '"a"'}, 1.0, None)),
        ("fan,room=Küche rpm=1", ("fan_rpm", {"room": "Küche"}, 1.0, None)),
        ("fan rpm=0009223372036854775807i", ("fan_rpm", {}, 2**63 - 1, None)),
        ("fan rpm=-0009223372036854775808i", ("fan_rpm", {}, -(2**63), None)),
        ("fan rpm=00018446744073709551615u", ("fan_rpm", {}, 2**64 - 1, None)),
        ("fan rpm=1.7976931348623157e+308", ("fan_rpm", {}, 1.7976931348623157e308, None)),
        ("fan rpm=-0000000001e5", ("fan_rpm", {}, -1e5, None)),
        ("fan rpm=.5e-3", ("fan_rpm", {}, 5e-4, None)),
        ("fan rpm=5.", ("fan_rpm", {}, 5.0, None)),
        ("fan rpm=t", ("fan_rpm", {}, 1, None)),
        ("fan rpm=False", ("fan_rpm", {}, 0, None)),
        ("fan rpm=1 -9223372036854775808", ("fan_rpm", {}, 1.0, -(2**63))),
        ("# a comment, with=everything\nfan rpm=1 0\r\n\n   \n", ("fan_rpm", {}, 1.0, 0)),
        ("  fan rpm=1   7  ", ("fan_rpm", {}, 1.0, 7)),
    ],
)  # fmt: skip
def test_influx_takes_what_its_projects_take(line: str, expected: tuple[Any, ...]) -> None:
    assert samples(Format.INFLUX, line) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "fan", "fan ", "fan,", "fan,,,", "fan, rpm=1", "fan,=a rpm=1", "fan,room rpm=1", "fan,room= rpm=1",
        "fan,room=a=b rpm=1", r"fan,room=a\,,=b rpm=1", "fan,room=a,room=b rpm=1", "fan rpm", "fan =1", "fan rpm=",
        "fan rpm= 1", "fan rpm=1 1 1", "fan rpm=1 1i", "fan rpm=1 1.5", "fan rpm=-", "fan rpm=.", "fan rpm=-.",
        "fan rpm=+1", "fan rpm=1ii", "fan rpm=1.0i", "fan rpm=-1u", "fan rpm=--1u", "fan rpm=1e", "fan rpm=0x1p-2",
        "fan rpm=NaN", "fan rpm=Inf", "fan rpm=9223372036854775808i", "fan rpm=18446744073709551616u", "fan rpm=1e309",
        "fan rpm=tru", "fan rpm=TrUe", 'fan rpm="open', 'fan rpm="shut""', 'fan rpm="a"b', "fan rpm=1 +5",
        "f\x0ban rpm=1", "fan,ro\x00om=a rpm=1", "fan r\tpm=1", "fan rpm=\x7f",
    ],
)  # fmt: skip
def test_influx_refuses_what_its_projects_refuse(line: str) -> None:
    assert is_refused(Format.INFLUX, line)


@pytest.mark.parametrize("line", ['fan a="x",', 'fan,b="y" a=1,', "fan a=1,,b=2", "fan a=1,b"])
def test_influx_refuses_a_field_that_is_missing_and_takes_the_others(line: str) -> None:
    assert [type(each) for each in readings(Format.INFLUX, line)].count(InvalidSample) == 1
    assert len(readings(Format.INFLUX, line)) > 1


def test_influx_leaves_texts_out_whatever_they_hold() -> None:
    line = 'fan a="how\\"dy",b="back\\\\slash",c="two\nlines, and=more",d="",e="\x0b\t"\nfan f=1'
    assert [type(each) for each in readings(Format.INFLUX, line)] == [FilteredSample] * 5 + [Sample]


# --- Telegraf: the JSON serializer -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ({"fields": {"value": 42}, "name": "fan", "tags": {}, "timestamp": 1525478795}, ("fan", {}, 42, 1525478795 * SECOND)),
        ({"fields": {"value": 42}, "name": "fan", "tags": {}, "timestamp": 1525478795123}, ("fan", {}, 42, 1525478795_123_000_000)),
        ({"fields": {"value": 42}, "name": "fan", "tags": {}, "timestamp": 1525478795123456789}, ("fan", {}, 42, 1525478795123456789)),
        ({"fields": {"value": 42}, "name": "fan", "tags": {}, "timestamp": "2018-05-05T00:06:35Z"}, ("fan", {}, 42, 1525478795 * SECOND)),
        ({"fields": {"R,pm=Now": 7}, "name": "My Fan", "tags": {"fan tag": "a"}}, ("My_Fan_R_pm_Now", {"fan_tag": "a"}, 7, None)),
        ({"fields": {"value": True}, "name": "fan"}, ("fan", {}, 1, None)),
        ({"fields": {"up": 1}, "name": "prometheus", "tags": {"job": "n"}}, ("up", {"job": "n"}, 1, None)),
    ],
)  # fmt: skip
def test_telegraf_json_is_read_as_it_is_serialized(metric: Any, expected: tuple[Any, ...]) -> None:
    for body in (metric, {"metrics": [metric]}, [metric]):
        assert samples(Format.TELEGRAF_JSON, body) == [expected]


def test_a_batch_of_telegraf_may_be_empty_or_have_lost_its_infinite_fields() -> None:
    assert samples(Format.TELEGRAF_JSON, {"metrics": []}) == []
    assert (
        samples(Format.TELEGRAF_JSON, {"metrics": [{"fields": {}, "name": "fan", "timestamp": 0x5AECF8CB}]})
        == []
    )


@pytest.mark.parametrize("timestamp", [0, 152547879512, 15254787951, 1525478795.5, "05 May 18", -1525478795])
def test_a_time_of_telegraf_in_another_unit_is_not_guessed(timestamp: Any) -> None:
    metric = {"fields": {"value": 42}, "name": "fan", "tags": {}, "timestamp": timestamp}
    assert is_refused(Format.TELEGRAF_JSON, json.dumps(metric))


# --- Prometheus text: prometheus/prometheus, model/textparse ------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('pause{q="0"} 4.9e-05', ("pause", {"q": "0"}, 4.9e-05, None)),
        ('pause{q="0.25",} 7', ("pause", {"q": "0.25"}, 7.0, None)),
        ('pause { q = "1", a= "b", } 8', ("pause", {"q": "1", "a": "b"}, 8.0, None)),
        ('team:pause:rate5m{a_b="c"}\t1', ("team:pause:rate5m", {"a_b": "c"}, 1.0, None)),
        ("pause 33  \t123123", ("pause", {}, 33.0, 123123 * 10**6)),
        ("pause 33 -5", ("pause", {}, 33.0, -5 * 10**6)),
        ("_pause 1", ("_pause", {}, 1.0, None)),
        (r'pause{a="\"b\" \\ \n"} 1', ("pause", {"a": '"b" \\ \n'}, 1.0, None)),
        ('pause{a="b\x00"} 1', ("pause", {"a": "b\x00"}, 1.0, None)),
        ('pause{a=""} 1', ("pause", {}, 1.0, None)),
        ('pause{a="}{,="} 1', ("pause", {"a": "}{,="}, 1.0, None)),
        ("pause +Inf", ("pause", {}, math.inf, None)),
        ('{"go.pause",q="0"} 4', ("go_pause", {"q": "0"}, 4.0, None)),
        ('{ q="0", "go.pause" , a = "b", } 4', ("go_pause", {"q": "0", "a": "b"}, 4.0, None)),
        (r'{"päuse \"x\" {y}", "what ©"="6"} 1', ("p_use__x___y_", {"what__": "6"}, 1.0, None)),
        ("# HELP pause \\x\n# \tTYPE pause summary\n# UNIT pause \n#\npause 1", ("pause", {}, 1.0, None)),
    ],
)  # fmt: skip
def test_prometheus_text_takes_what_prometheus_takes(line: str, expected: tuple[Any, ...]) -> None:
    assert samples(Format.PROMETHEUS_TEXT, line) == [expected]


BAD_TEXT: list[str | bytes] = [
    "pause", "pause{a='b'} 1", "pause{a=", b'pause{\xff="b"} 1', b'pause{a="\xff"} 1', '{"pause", "a = "b"}', "pause true",
    'pause{a="', 'pause{=""} 0', "pause 1_2", "pause 0x1p-3", "pause 0 1_2", '{a="b"} 1', 'pause{a=\x00"b"} 1',
    'pause{a\x00="b"} 1', 'pa\x00use{a="b"} 1', "pause 0 1\x00", "9", 'pause{,a="b"} 1', 'pause{a="b"c="d"} 1',
    'pause{a="b",,c="d"} 1', "pause 1 1.5", "pause 1 2 3", "pause 1 NaN", "pa-use 1", 'pause{1a="b"} 1',
    'pause{a="b"', 'pause 1 # {t="x"} 1', 'pause{a="b",a="c"} 1',
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_TEXT)
def test_prometheus_text_refuses_what_prometheus_refuses(line: str | bytes) -> None:
    assert is_refused(Format.PROMETHEUS_TEXT, line)


# --- OpenMetrics: prometheus/OpenMetrics, tests/testdata/parsers --------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("runs_total 17.0 1520879607.789", ("runs_total", {}, 17.0, 1520879607_789_000_000)),
        ("runs_created 1520872607.123", ("runs_created", {}, 1520872607.123, None)),
        ("runs 1 -1.5", ("runs", {}, 1.0, -1_500_000_000)),
        ("runs 1 1.5e3", ("runs", {}, 1.0, 1_500 * SECOND)),
        ("runs NaN", ("runs", {}, "NaN", None)),
        ("runs -Inf 0", ("runs", {}, -math.inf, 0)),
        ("runs{} 1", ("runs", {}, 1.0, None)),
        ('runs_bucket{le="+Inf"} 1 # {id="x # y",n="2"} 4 123.123', ("runs_bucket", {"le": "+Inf"}, 1.0, None)),
        ("runs_total 1 5 # {} 1", ("runs_total", {}, 1.0, 5 * SECOND)),
        ('{"go.runs",a="b"} 1', ("go_runs", {"a": "b"}, 1.0, None)),
        ('runs{a="foo\\"bar\\\\\\n"} 1', ("runs", {"a": 'foo"bar\\\n'}, 1.0, None)),
    ],
)  # fmt: skip
def test_open_metrics_takes_what_its_suite_takes(line: str, expected: tuple[Any, ...]) -> None:
    body = f"# TYPE runs unknown\n# UNIT runs \n# HELP runs what \\n ran\n{line}\n# EOF\n"
    for hint in (FormatHint(), OPEN_METRICS):
        found = samples(Format.PROMETHEUS_TEXT, body, hint)
        assert [tuple("NaN" if each != each else each for each in row) for row in found] == [expected]  # noqa: PLR0124 - NaN


@pytest.mark.parametrize(
    "line",
    [
        "runs\t1", "runs  1", "runs 1\t2", "runs 1 ", "runs 1 2 ", "runs 1 2 #", "runs 1 1z", "runs 1 1 1", " runs 1",
        'runs{a="b"}1', 'runs{a="b",} 1', 'runs{,a="b"} 1', 'runs{a="b",,c="d"} 1', "runs 1 NaN", "runs 1 Inf",
        "runs 1 0x1", 'runs_total 1 # {a="b"}', "runs_total 1 # {a=b} 1", 'runs_total 1 # {a="b"} 1_2',
        'runs_total 1 # {a="b"} true', 'runs_total 1 #{a="b"} 1', 'runs_total 1# {a="b"} 1', 'runs_total 1 # {a="b"}1',
        'runs_total 1 # {a="b"} 1 NaN', 'runs_total 1 # {a="b"} 1 1 ', 'runs_total 1 # {a="b"} 1 0x1p-3', "runs",
    ],
)  # fmt: skip
def test_open_metrics_refuses_the_lines_that_its_suite_refuses(line: str) -> None:
    assert is_refused(Format.PROMETHEUS_TEXT, f"{line}\n# EOF\n")
    assert is_refused(Format.PROMETHEUS_TEXT, f"# TYPE a gauge\n{line}\n# EOF\n", OPEN_METRICS)


def test_what_stands_behind_the_end_of_open_metrics_is_refused() -> None:
    assert [type(each) for each in readings(Format.PROMETHEUS_TEXT, "a 1\n# EOF\nb 2\n", OPEN_METRICS)] == [
        Sample,
        InvalidSample,
    ]


# --- OpenTelemetry: opentelemetry-proto's examples, the Collector's translator ------------------------------------


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("disk.usage", "By", "gauge", "disk_usage_bytes"),
        ("\t disk.usage  ", "  By\t", "gauge", "disk_usage_bytes"),
        ("disk.dropped", "{packets}", "gauge", "disk_dropped"),
        ("disk.dropped", "packets", "gauge", "disk_dropped_packets"),
        ("disk.packets.dropped", "packets", "gauge", "disk_packets_dropped"),
        ("disk.io", "By", "counter", "disk_io_bytes_total"),
        ("disk_io_bytes_total", "By", "counter", "disk_io_bytes_total"),
        ("disk.dropped", "packets", "counter", "disk_dropped_packets_total"),
        ("objects", "1", "counter", "objects_total"),
        ("gpu.utilization", "1", "gauge", "gpu_utilization_ratio"),
        ("fan.speed_ratio", "1", "gauge", "fan_speed_ratio"),
        ("clock", "Hz", "gauge", "clock_hertz"),
        ("speed", "km/h", "gauge", "speed_km_per_hour"),
        ("speed", "m/s", "gauge", "speed_meters_per_second"),
        ("success_ratio", "%", "gauge", "success_ratio_percent"),
        ("price", "$", "gauge", "price_dollars"),
        ("spaces", "   \t  ", "gauge", "spaces"),
        ("temperature", "°F", "gauge", "temperature_F"),
        ("weird", "+=.:,!* & #", "gauge", "weird"),
        ("redundant", "__test $/°C", "gauge", "redundant_test_per_C"),
        ("rate", "{objects}/s", "gauge", "rate_per_second"),
        ("scanned_per_returned", "{scanned}/{returned}", "gauge", "scanned_per_returned"),
        ("load.15m", "1", "gauge", "load_15m_ratio"),
        ("memory", "kBy", "gauge", "memory_kilobytes"),
        ("memory", "TiBy", "gauge", "memory_tebibytes"),
        ("3.14 digits", "", "gauge", "_3_14_digits"),
        ("a__b", "", "gauge", "a_b"),
    ],
)
def test_names_of_opentelemetry_are_those_of_the_collector(
    name: str, unit: str, kind: str, expected: str
) -> None:
    found = prometheus_metric_name(name, unit, is_counter=kind == "counter", is_gauge=kind == "gauge")
    assert found == expected


def attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}


def otlp(resource: list[Any], *metrics: Any) -> dict[str, Any]:
    scope = {"name": "my.library", "version": "1.0.0", "attributes": [attribute("my.attribute", "x")]}
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": resource},
                "scopeMetrics": [{"scope": scope, "metrics": list(metrics)}],
            }
        ]
    }


SCOPE = {"otel_scope_name": "my.library", "otel_scope_version": "1.0.0", "otel_scope_my_attribute": "x"}


def test_a_request_as_in_the_example_of_the_protocol_becomes_its_series() -> None:
    time = {"startTimeUnixNano": "1544712660300000000", "timeUnixNano": 1544712660300000000}
    body = otlp(
        [attribute("service.name", "my.service")],
        {"name": "my.counter", "unit": "1", "description": "I am a counter", "sum": {
            "aggregationTemporality": 1, "isMonotonic": True,
            "dataPoints": [{"asDouble": 5, **time, "attributes": [attribute("my.counter.attr", "v")]}]}},
        {"name": "my.gauge", "unit": "1", "gauge": {"dataPoints": [{"asDouble": 10, **time}]}},
        {"name": "my.histogram", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {**time, "count": 2, "sum": 2, "bucketCounts": [1, 1], "explicitBounds": [1], "min": 0, "max": 2}]}},
    )  # fmt: skip
    labels = {"job": "my.service", **SCOPE}
    at = 1544712660300000000
    assert samples(Format.OTLP_JSON, body) == [
        ("my_counter", {**labels, "my_counter_attr": "v"}, 5.0, at),
        ("my_gauge_ratio", labels, 10.0, at),
        ("my_histogram_seconds_bucket", {**labels, "le": "1"}, 1, at),
        ("my_histogram_seconds_bucket", {**labels, "le": "+Inf"}, 2, at),
        ("my_histogram_seconds_sum", labels, 2.0, at),
        ("my_histogram_seconds_count", labels, 2, at),
    ]


def test_a_histogram_with_a_bucket_too_many_as_in_the_published_example_is_refused() -> None:
    point = {"count": 3, "sum": 3, "bucketCounts": [1, 1, 1], "explicitBounds": [1]}
    metric = {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}
    assert is_refused(Format.OTLP_JSON, json.dumps(otlp([], metric)))


def test_an_attribute_that_is_called_like_a_label_of_the_resource_is_joined_with_it() -> None:
    point = {
        "asInt": 1,
        "attributes": [attribute("job", "cron"), attribute("instance", "z"), attribute("a", "b")],
    }
    body = otlp(
        [attribute("service.name", "api"), attribute("service.instance.id", "i")],
        {"name": "m", "gauge": {"dataPoints": [point]}},
    )
    # The values stand in the order of their keys: job, service.name; instance, service.instance.id.
    expected = {"job": "cron;api", "instance": "z;i", "a": "b", **SCOPE}
    assert samples(Format.OTLP_JSON, body) == [("m", expected, 1, None)]


def test_attributes_of_a_resource_without_a_service_are_not_lost_in_silence() -> None:
    body = otlp([attribute("host.name", "h")], {"name": "m", "gauge": {"dataPoints": [{"asInt": 1}]}})
    assert [type(each) for each in readings(Format.OTLP_JSON, body)] == [Sample, FilteredSample]


# --- prometheus-kafka-adapter: its serializer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "timestamp", "expected"),
    [
        ("456", "1970-01-01T00:00:00Z", (456.0, 0)),
        ("+Inf", "1970-01-01T00:00:10Z", (math.inf, 10 * SECOND)),
        ("-Inf", "2026-01-01T00:00:00.123Z", (-math.inf, 1767225600_123_000_000)),
        ("1e-07", "2026-01-01T08:00:00+08:00", (1e-07, 1767225600 * SECOND)),
        (9.5, 1767225600, (9.5, 1767225600 * SECOND)),
    ],
)
def test_the_adapters_json_is_read_as_it_is_serialized(value: Any, timestamp: Any, expected: Any) -> None:
    body = {
        "value": value,
        "timestamp": timestamp,
        "name": "foo",
        "labels": {"__name__": "foo", "l": "label-bar"},
    }
    assert samples(Format.KAFKA_ADAPTER, body) == [("foo", {"l": "label-bar"}, *expected)]


# --- remote write: its specification -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([("__name__", "up"), ("job", "a")], ("up", {"job": "a"})),
        ([("__name__", "up"), ("job", "")], ("up", {})),
        ([("__name__", "job:up:sum"), ("a", "é\n")], ("job:up:sum", {"a": "é\n"})),
        # A sender of UTF-8 names.
        ([("__name__", "my.up"), ("host.name", "h")], ("my_up", {"host_name": "h"})),
    ],
)
def test_remote_write_takes_labels_as_its_specification_has_them(labels: Any, expected: Any) -> None:
    data = encode_series(encode_labels(labels), [(1.5, 1), (-0.0, -1)])
    body = bytes(cramjam.snappy.compress_raw(data))
    assert samples(Format.REMOTE_WRITE, body) == [(*expected, 1.5, 10**6), (*expected, -0.0, -(10**6))]

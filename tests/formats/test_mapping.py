"""A mapping of the user's reads JSON that no format describes, and says what it does not fit."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.mapping import Mapper, read_mapping
from metric_forwarder.formats.samples import (
    NO_FLOAT,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
)
from support.fakes import START
from support.harness import (
    ROOT,
    ckafka,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
    remote_write_environ,
    report_of,
)
from support.prometheus_server import PrometheusServer

HINT = FormatHint()
MAPPINGS = ROOT / "docs" / "mappings"
TELEGRAF_LIKE = {
    "each": "/metrics", "name": "/name", "value": "/fields/*", "labels": "/tags", "time": "/timestamp", "unit": "s"
}  # fmt: skip
SIMPLE = {"name": "/name", "value": "/value"}
SECOND = 10**9


def read(mapping: Any, body: Any) -> list[Reading]:
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return list(read_mapping(json.dumps(mapping))(text, HINT))


def shown(readings: list[Reading]) -> list[Any]:
    """Samples as (place, name, labels, value, time), others as (place, rule)."""
    return [
        (each.where, each.metric, dict(each.dimensions), each.value, each.time_ns)
        if isinstance(each, Sample)
        else (each.where, each.rule)
        for each in readings
    ]


def test_the_mapping_of_the_design_reads_what_it_describes() -> None:
    body = {
        "metrics": [{"name": "cpu", "fields": {"idle": 9, "os": "x"}, "tags": {"h": "a"}, "timestamp": 1767225600}]
    }  # fmt: skip
    assert shown(read(TELEGRAF_LIKE, body)) == [
        ("/metrics/0/fields/idle", "cpu_idle", {"h": "a"}, 9, 1767225600 * SECOND),
        ("/metrics/0/fields/os", "text"),
    ]


@pytest.mark.parametrize(
    ("members", "item", "expected"),
    [
        ({}, {"name": "up", "value": 1}, [("/value", "up", {}, 1, None)]),
        ({}, {"name": "up", "value": "NaN"}, [("/value", "up", {}, "NaN", None)]),
        ({}, {"name": "up", "value": "9.5"}, [("/value", "up", {}, 9.5, None)]),
        ({}, {"name": "up", "value": True}, [("/value", "up", {}, 1, None)]),
        ({}, {"name": "cpu.load-1", "value": 1}, [("/value", "cpu_load_1", {}, 1, None)]),
        ({}, {"name": "up", "value": "high"}, [("/value", "value")]),
        ({}, {"name": "up", "value": None}, [("/value", "value")]),
        ({"value": "/v/*"}, {"name": "m", "v": ["1e400"]}, [("/v/0", "value")]),
        ({}, {"name": "up", "value": [1]}, [("/value", "value")]),
        ({}, {"name": "up"}, [("/value", "missing")]),
        ({}, {"value": 1}, [("/name", "missing")]),
        ({}, {"name": "", "value": 1}, [("/name", "name")]),
        ({}, {"name": {}, "value": 1}, [("/name", "type")]),
        ({}, [], []),
        ({}, 5, [("", "type")]),
        ({}, [{"name": "a", "value": 1}, {"name": "b", "value": 2}],
         [("/0/value", "a", {}, 1, None), ("/1/value", "b", {}, 2, None)]),
        ({"value": "/v/*"}, {"name": "m", "v": {"a": 1, "value": 2, "b": {"c": 1}, "d": None, "e": "x"}},
         [("/v/a", "m_a", {}, 1, None), ("/v/value", "m", {}, 2, None), ("/v/b", "nested"), ("/v/d", "null"), ("/v/e", "text")]),
        ({"value": "/v/*"}, {"name": "m", "v": [1, 2]}, [("/v/0", "m_0", {}, 1, None), ("/v/1", "m_1", {}, 2, None)]),
        ({"value": "/v/*"}, {"name": "m", "v": 5}, [("/v", "type")]),
        ({"value": "/v/*"}, {"name": "m"}, [("/v", "missing")]),
        ({"value": "/v/*/avg"}, {"name": "m", "v": {"a": {"avg": 1}, "b": {}}},
         [("/v/a/avg", "m_a", {}, 1, None), ("/v/b/avg", "null")]),
        ({"value": "/v/*", "labels": {"core": "*"}}, {"name": "m", "v": {"0": 1, "1": 2}},
         [("/v/0", "m", {"core": "0"}, 1, None), ("/v/1", "m", {"core": "1"}, 2, None)]),
        ({"value": "/v/*", "name": ["/name", "/n/*"]}, {"name": "m", "v": [1, 2], "n": ["a"]},
         [("/v/0", "m_a", {}, 1, None), ("/n/1", "missing")]),
        ({"name": [{"text": "qce"}, "/a/0"]}, {"a": ["x"], "value": 1}, [("/value", "qce_x", {}, 1, None)]),
        ({"value": "/a~1b/m~0n"}, {"name": "m", "a/b": {"m~n": 1}}, [("/a~1b/m~0n", "m", {}, 1, None)]),
        ({"labels": "/t"}, {"name": "m", "value": 1, "t": {"a": "x", "b": 5, "c": None, "d": True, "e.f": 1.5, "g": ""}},
         [("/value", "m", {"a": "x", "b": "5", "d": "true", "e_f": "1.5"}, 1, None)]),
        ({"labels": "/t"}, {"name": "m", "value": 1, "t": [{"Name": "InstanceId", "Value": "ins-1"}, {"key": "b", "value": 2}]},
         [("/value", "m", {"InstanceId": "ins-1", "b": "2"}, 1, None)]),
        ({"labels": "/t"}, {"name": "m", "value": 1, "t": {"a": {}}}, [("/t", "type")]),
        ({"labels": "/t"}, {"name": "m", "value": 1, "t": [1]}, [("/t", "type")]),
        ({"labels": "/t"}, {"name": "m", "value": 1, "t": {str(n): "x" for n in range(101)}}, [("", "size")]),
        ({"labels": "/t"}, {"name": "m", "value": 1}, [("/t", "missing")]),
        ({"labels": ["/t", {"a": "/x"}]}, {"name": "m", "value": 1, "t": {"a": "1", "b": "2"}, "x": "3"},
         [("/value", "m", {"a": "3", "b": "2"}, 1, None)]),
        ({"labels": {"a": {"item": "/x", "default": "none"}}}, {"name": "m", "value": 1}, [("/value", "m", {"a": "none"}, 1, None)]),
        ({"labels": {"a": {"item": "/x", "default": ""}}}, {"name": "m", "value": 1}, [("/value", "m", {}, 1, None)]),
    ],
)  # fmt: skip
def test_an_item_becomes_what_the_mapping_says(members: Any, item: Any, expected: list[Any]) -> None:
    found = shown(read({**SIMPLE, **members}, item))
    assert [tuple("NaN" if each != each else each for each in row) for row in found] == expected  # noqa: PLR0124 - NaN


@pytest.mark.parametrize(
    ("unit", "written", "expected"),
    [
        ("s", 1767225600, 1767225600 * SECOND),
        ("s", 1767225600.123, 1767225600_123_000_000),
        ("s", "1767225600.123456789", 1767225600_123_456_789),
        ("ms", 1767225600123, 1767225600_123_000_000),
        ("us", 1767225600123456, 1767225600_123_456_000),
        ("ns", 1767225600123456789, 1767225600_123_456_789),
        ("s", "2026-01-01T00:00:00.5Z", 1767225600_500_000_000),
        ("ns", 1767225600000000000.0, 1767225600_000_000_000),
        ("ns", 1e18, 1_000_000_000 * SECOND),
        (None, 1767225600000000000.0, 1767225600_000_000_000),
        ("s", "2026-01-01T00:00:00.1234567890123+08:00", 1767196800_123_456_789),
        ("s", 5, 5 * SECOND),
        (None, 1767225600, 1767225600 * SECOND),
        (None, 1767225600.25, 1767225600_250_000_000),
        (None, "1767225600123", 1767225600_123_000_000),
        (None, "2026-01-01T08:00:00+08:00", 1767225600 * SECOND),
        (None, 5, "timestamp"),
        ("s", "today", "timestamp"),
        ("s", True, "timestamp"),
        ("s", {}, "timestamp"),
        ("s", 1e300, "timestamp"),
        ("s", "1" * 5000, "timestamp"),
        ("s", None, None),
    ],
)  # fmt: skip
def test_a_time_has_the_unit_of_the_mapping_or_its_size_tells_it(
    unit: Any, written: Any, expected: Any
) -> None:
    mapping = {**SIMPLE, "time": "/t", **({"unit": unit} if unit else {})}
    (found,) = read(mapping, {"name": "m", "value": 1, "t": written})
    assert (found.time_ns if isinstance(found, Sample) else found.rule) == expected


def test_what_stands_beside_the_items_reaches_each_of_them() -> None:
    mapping = {
        "each": "/hosts/*/metrics", "name": "/n", "value": "/v",
        "labels": {"site": {"message": "/site"}}, "time": {"message": "/at"},
    }  # fmt: skip
    body = {
        "site": "gz",
        "at": 1767225600,
        "hosts": {"a": {"metrics": [{"n": "x", "v": 1}]}, "b": {"metrics": {"n": "y", "v": 2}}, "c": {}},
    }
    found = read(mapping, body)
    assert shown(found) == [
        ("/hosts/a/metrics/0/v", "x", {"site": "gz"}, 1, 1767225600 * SECOND),
        ("/hosts/b/metrics/v", "y", {"site": "gz"}, 2, 1767225600 * SECOND),
        ("/hosts/c/metrics", "missing"),
    ]
    del body["site"]
    assert {each.where for each in read(mapping, body)} == {"/site", "/hosts/c/metrics"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("[]", "must be an object"),
        ("[1", "is not JSON"),
        ("{", "is not JSON"),
        ("/no/such/file.json", "cannot be read"),
        ({"name": "/a"}, "/value is missing"),
        ({"value": "/a"}, "/name is missing"),
        ({**SIMPLE, "tags": "/t"}, "/tags is unknown: it may have each, name"),
        ({**SIMPLE, "value": "value"}, "/value must be a JSON pointer"),
        ({**SIMPLE, "value": 5}, "/value must be a JSON pointer"),
        ({**SIMPLE, "value": "/*/*"}, '/value has more than one step "*"'),
        ({**SIMPLE, "value": "/a" * 21}, "/value has more than 20 steps"),
        ({**SIMPLE, "value": "/~2"}, '/value holds a "~"'),
        ({**SIMPLE, "each": 1}, "/each must be a JSON pointer"),
        ({**SIMPLE, "name": "cpu"}, '/name must be a JSON pointer, which begins with "/"; write {"text"'),
        ({**SIMPLE, "name": []}, "/name must have 1 to 20 parts"),
        ({**SIMPLE, "name": ["/a", 5]}, "/name/1 must be a JSON pointer"),
        ({**SIMPLE, "name": "/a/*"}, '/value has no step "*", which the name or a label follows'),
        ({**SIMPLE, "name": {"text": "a", "item": "/a"}}, "/name must be a JSON pointer"),
        ({**SIMPLE, "name": {"text": 5}}, "/name/text must be a text"),
        ({**SIMPLE, "name": {"item": "a"}}, "/name/item must be a JSON pointer"),
        ({**SIMPLE, "name": {"item": "/a", "or": ""}}, "/name/or is unknown"),
        ({**SIMPLE, "labels": 5}, "/labels must be a JSON pointer, or an object"),
        ({**SIMPLE, "labels": [5]}, "/labels/0 must be a JSON pointer, or an object"),
        ({**SIMPLE, "labels": {"a-b": "/a"}}, "/labels/a-b is not a label's name"),
        ({**SIMPLE, "labels": {"__name__": "/a"}}, "/labels/__name__ is not a label's name"),
        ({**SIMPLE, "labels": {"a": "x"}}, "/labels/a must be a JSON pointer"),
        ({**SIMPLE, "labels": {f"a{n}": "/x" for n in range(101)}}, "/labels has more than 100"),
        ({**SIMPLE, "labels": "/a/*"}, '/labels leads to all labels of an item, so it cannot have a step "*"'),
        ({**SIMPLE, "time": "t"}, "/time must be a JSON pointer"),
        ({**SIMPLE, "value": "/v/*", "time": "/t/*"}, "/time must be the same for all values of an item"),
        ({**SIMPLE, "unit": "s"}, "/unit is the unit of /time, which is missing"),
        ({**SIMPLE, "time": "/t", "unit": "minutes"}, "/unit must be one of s, ms, us, ns"),
        ('{"name": "/a", "value": "/b", "name": "/c"}', "/name is given twice"),
        ('{"name": "' + "/a" * 40_000 + '"}', "has more than 65536 characters"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_at_the_start_and_its_place_is_named(setting: Any, words: str) -> None:
    text = setting if isinstance(setting, str) else json.dumps(setting)
    with pytest.raises(ConfigError) as caught:
        make_harness(MAPPING=text).handle(ckafka(point()))
    assert f"MF_MAPPING {words}" in str(caught.value)


def test_a_format_that_needs_a_mapping_is_refused_without_one() -> None:
    with pytest.raises(ConfigError, match="MF_FORMAT names mapping and MF_MAPPING is empty"):
        make_harness(FORMAT="alarms*=mapping,auto").handle(ckafka(point()))


def test_a_mapping_is_for_json_of_no_other_format() -> None:
    harness = make_harness(MAPPING=json.dumps(SIMPLE))
    bodies: list[Any] = [
        point(),
        {"name": "a", "value": 1},
        {"name": "a", "tags": {}, "value": 2},
        f"cpu,h=a x=1 {round(START)}000000000",
        json.dumps({"name": "b", "value": 3}) + "\n" + json.dumps({"name": "b", "value": 4}),
    ]
    assert outcomes(harness.handle(ckafka(*bodies))) == {"delivered": 6}


def test_the_text_of_a_number_that_no_float_holds_is_called_that() -> None:
    (found,) = read(SIMPLE, {"name": "m", "value": "1e400"})
    assert isinstance(found, InvalidSample)
    assert found.message == NO_FLOAT


def test_a_mapping_may_be_a_file_of_the_package_and_names_a_namespace(tmp_path: Path) -> None:
    file = tmp_path / "mapping.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps({**SIMPLE, "namespace": "/ns"}).encode())
    harness = make_harness(MAPPING=str(file), FORMAT="mapping")
    assert outcomes(harness.handle(ckafka({"name": "a", "value": 1, "ns": "qce"}))) == {"delivered": 1}
    assert [namespace for namespace, _ in harness.receiver.points] == ["qce"]


def test_a_bad_item_is_kept_as_a_message_that_the_mapping_reads_again(tmp_path: Path) -> None:
    mapping = {**TELEGRAF_LIKE, "labels": {"site": {"message": "/site"}}}
    harness = make_harness(MAPPING=json.dumps(mapping), FORMAT="mapping", SPOOL=tmp_path.as_uri())
    body = {"site": "gz", "metrics": [{"name": "a", "fields": {"x": 1}, "timestamp": "soon"}, {"name": "b"}]}
    assert outcomes(harness.handle(ckafka(body))) == {"invalid": 2}
    letters = [
        json.loads(json.loads(line)["payload"])
        for file in sorted(tmp_path.glob("dead-*.jsonl"))
        for line in file.read_text().splitlines()[1:]
    ]
    assert letters == [{"site": "gz", "metrics": [item]} for item in body["metrics"]]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "value", "fields", "tags", "t", "metrics"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)
_POINTER = st.lists(st.sampled_from(["name", "value", "fields", "metrics", "0", "*"]), max_size=3).map(
    lambda steps: "".join(f"/{step}" for step in steps)
)
_MAPPING = st.fixed_dictionaries(
    {"name": _POINTER | st.lists(_POINTER, max_size=2), "value": _POINTER},
    optional={"each": _POINTER, "labels": _POINTER, "time": _POINTER, "namespace": _POINTER},
)


@pytest.mark.slow
@given(_MAPPING, _JSON | st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_mapping_reads_any_json_without_raising(mapping: Any, body: Any) -> None:
    try:
        mapper = Mapper(mapping)
    except ValueError:
        return
    for reading in mapper(body if isinstance(body, str) else json.dumps(body), HINT):
        assert isinstance(reading, (Sample, InvalidSample, FilteredSample))


COLLECTD = [
    {
        "values": [0.25, 0.5, None], "dstypes": ["gauge"] * 3, "dsnames": ["shortterm", "midterm", "longterm"],
        "time": 1767225600.123, "interval": 10.0, "host": "node-1", "plugin": "load", "plugin_instance": "",
        "type": "load", "type_instance": "",
    },
    {
        "values": [197141504, 175136768], "dstypes": ["derive", "derive"], "dsnames": ["read", "write"],
        "time": 1767225600.456, "interval": 10.0, "host": "node-1", "plugin": "disk", "plugin_instance": "sda",
        "type": "disk_octets", "type_instance": "",
    },
    {
        "values": [6.5], "dstypes": ["gauge"], "dsnames": ["value"], "time": 1767225600.789, "interval": 10.0,
        "host": "node-1", "plugin": "cpu", "plugin_instance": "0", "type": "percent", "type_instance": "user",
    },
]  # fmt: skip
COLLECTD_MAPPING = str(MAPPINGS / "collectd.json")
COLLECTD_SERIES = {
    ("load_load_shortterm", ("host", "node-1")): (123, 0.25),
    ("load_load_midterm", ("host", "node-1")): (123, 0.5),
    ("disk_disk_octets_read", ("host", "node-1"), ("plugin_instance", "sda")): (456, 197141504),
    ("disk_disk_octets_write", ("host", "node-1"), ("plugin_instance", "sda")): (456, 175136768),
    ("cpu_percent", ("host", "node-1"), ("plugin_instance", "0"), ("type_instance", "user")): (789, 6.5),
}


def _collectd(at_s: int) -> str:
    return json.dumps([{**each, "time": at_s + each["time"] % 1} for each in COLLECTD])  # type: ignore[operator]


def test_the_mapping_for_collectd_reads_its_json_into_the_receiver() -> None:
    harness = make_harness(MAPPING=COLLECTD_MAPPING, NAMESPACE="collectd")
    report = harness.handle(ckafka(_collectd(round(START))))
    # The null is no reading.
    assert outcomes(report) == {"delivered": 5, "filtered": 1}
    assert {
        (wire["metricName"], *sorted(wire["dimensions"].items())): wire["value"]
        for _, wire in harness.receiver.points
    } == {series: value for series, (_, value) in COLLECTD_SERIES.items()}


@pytest.mark.slow
def test_the_mapping_for_collectd_reads_its_json_into_a_real_prometheus(tmp_path: Path) -> None:
    with PrometheusServer(tmp_path) as server:
        now_s = int(time.time())
        application = Application(
            remote_write_environ(REMOTE_WRITE_URL=server.url, MAPPING=COLLECTD_MAPPING, NAMESPACE="")
        )
        report = report_of(application, ckafka(_collectd(now_s)))
        assert outcomes(report) == {"delivered": 5, "filtered": 1}
        for (name, *labels), (fraction_ms, value) in COLLECTD_SERIES.items():
            assert server.samples(str(name), at_s=now_s + 1) == {
                (("__name__", name), *labels): [(now_s * 1000 + fraction_ms, str(value))]
            }


def test_the_mapping_for_cloudwatch_metric_streams_reads_each_statistic() -> None:
    stream = {
        "metric_stream_name": "all", "account_id": "123456789012", "region": "us-east-1", "namespace": "AWS/SQS",
        "metric_name": "SentMessageSize", "dimensions": {"QueueName": "q"}, "timestamp": 1767225600000,
        "value": {"count": 2.0, "sum": 30.0, "max": 20.0, "min": 10.0}, "unit": "Bytes",
    }  # fmt: skip
    harness = make_remote_write_harness(
        MAPPING=str(MAPPINGS / "cloudwatch-metric-stream.json"), NAMESPACE="", MAX_AHEAD_S="0"
    )
    assert outcomes(harness.handle(ckafka(json.dumps(stream) + "\n" + json.dumps(stream)))) == {
        "delivered": 4,
        "duplicate": 4,
    }
    assert {dict(labels)["__name__"]: samples for labels, samples in harness.prometheus.samples.items()} == {
        f"SentMessageSize_{name}": [(1767225600000, value)]
        for name, value in (("count", 2.0), ("sum", 30.0), ("max", 20.0), ("min", 10.0))
    }
    assert {dict(labels)["QueueName"] for labels in harness.prometheus.samples} == {"q"}

"""A message of any format goes down the whole line: its samples are counted, and what is valid arrives."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.http import Failure, Fault
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats import Format, read
from metric_forwarder.formats.mapping import Mapper
from metric_forwarder.formats.protobuf import write_field
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample
from support.fakes import START
from support.harness import ckafka, make_harness, make_remote_write_harness, outcomes, point

NOW = round(START)
INFLUX = f'cpu,host=a idle=91.5,n=7i,os="linux" {NOW}000000000\ncpu,host=b idle=high'
TELEGRAF = json.dumps(
    {"fields": {"idle": 91.5, "os": "linux"}, "name": "cpu", "tags": {"host": "a"}, "timestamp": NOW}
)
TEXT = f'up{{job="a"}} 1 {NOW}000\nup 1 2 3\n'
ADAPTER = json.dumps({"timestamp": "2026-01-01T08:00:00Z", "value": "1", "labels": {"__name__": "up"}})
MAPPING = {"name": "/name", "value": "/fields/*"}
OTLP = json.dumps(
    {
        "resourceMetrics": [
            {"scopeMetrics": [{"metrics": [{"name": "t", "gauge": {"dataPoints": [{"asInt": 1}, {}]}}]}]}
        ]
    }
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (INFLUX, {"delivered": 2, "filtered": 1, "invalid": 1}),
        (TELEGRAF, {"delivered": 1, "filtered": 1}),
        (TELEGRAF + "\n" + TELEGRAF.replace(str(NOW), str(NOW + 1)), {"delivered": 2, "filtered": 2}),
        (TEXT, {"delivered": 1, "invalid": 1}),
        (OTLP, {"delivered": 1, "invalid": 1}),
    ],
    ids=["influx", "telegraf", "telegraf lines", "text", "otlp"],
)
def test_a_message_is_read_by_its_shape_and_each_sample_is_counted(
    body: str, expected: dict[str, int]
) -> None:
    assert outcomes(make_remote_write_harness().handle(ckafka(body))) == expected
    assert outcomes(make_harness().handle(ckafka(body))) == expected


def test_a_report_names_the_place_in_the_terms_of_the_producer() -> None:
    report = make_harness().handle(ckafka(INFLUX))
    assert [error["pointer"] for error in report["errors"] if error["outcome"] == "invalid"] == [
        "line 2 field idle"
    ]


def test_a_message_that_almost_fits_a_format_is_one_invalid_point_and_says_what_is_missing() -> None:
    report = make_harness().handle(ckafka({"metrics": [{"name": "cpu"}]}))
    assert outcomes(report) == {"invalid": 1}
    assert "looks like telegraf-json" in report["errors"][0]["message"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("filtered", {"delivered": 4, "filtered": 1, "invalid": 1}),
        ("target_info", {"delivered": 4, "invalid": 2}),
        ("labels", {"delivered": 3, "invalid": 2}),
    ],
)
def test_a_text_of_otlp_that_is_not_utf_8_costs_the_samples_that_carry_it(
    choice: str, expected: dict[str, int]
) -> None:
    def resource(name: bytes, *, metric: bytes = b"m", attribute: bytes = b"") -> bytes:
        service = write_field(1, b"service.name") + write_field(2, write_field(1, name))
        other = write_field(1, b"a") + write_field(2, write_field(1, attribute))
        attributes = write_field(1, service) + (write_field(1, other) if attribute else b"")
        points = write_field(1, b"\x31" + bytes(8)) * (1 if attribute else 3)
        data = write_field(2, write_field(1, metric) + write_field(5, points))
        return write_field(1, write_field(1, attributes) + write_field(2, data))

    good = resource(b"a")
    bad = resource(b"b", attribute=b"caf\xe9") + resource(b"c", metric=b"caf\xe9")
    harness = make_remote_write_harness(FORMAT="otlp-protobuf", OTLP_RESOURCE=choice)
    event = {"specversion": "1.0", "id": "1", "data_base64": b64encode(good + bad).decode()}
    assert outcomes(harness.handle(event)) == expected


def test_a_setting_says_the_format_for_all_messages_or_for_a_topic() -> None:
    # By its shape this would be influx.
    line = f"up 1 {NOW}000"
    assert outcomes(make_harness(FORMAT="prometheus-text").handle(ckafka(line))) == {"delivered": 1}
    harness = make_harness(FORMAT="metrics=influx,json")
    assert outcomes(harness.handle(ckafka(line))) == {"invalid": 1}
    assert outcomes(harness.handle(ckafka(point(), topic="others"))) == {"delivered": 1}


def test_the_unit_of_influx_times_is_a_setting() -> None:
    harness = make_remote_write_harness(INFLUX_PRECISION="s")
    assert outcomes(harness.handle(ckafka(f"cpu idle=1 {NOW}"))) == {"delivered": 1}
    # As seconds, these nanoseconds are of no year.
    assert outcomes(harness.handle(ckafka(f"cpu idle=1 {NOW}000000000"))) == {"invalid": 1}


def test_rules_and_labels_apply_to_every_format_and_what_they_drop_is_filtered() -> None:
    rules = [
        {"action": "drop", "source_labels": ["__name__"], "regex": "secret.*"},
        {"source_labels": ["ip"], "regex": r"(\d+)\..*", "target_label": "net"},
        {"action": "labeldrop", "regex": "ip"},
    ]
    harness = make_harness(RELABEL=json.dumps(rules), LABELS="env=prod")
    event = ckafka(point(1), point(2, "secret"), f"cpu,ip=10.1.1.1 idle=3,n=4 {NOW}000000000", "secret a=1")
    assert outcomes(harness.handle(event)) == {"delivered": 3, "filtered": 2}
    assert [stored["dimensions"] for _, stored in harness.receiver.points] == [
        {"env": "prod", "net": "10"}
    ] * 3


def test_an_invalid_point_is_reported_in_the_same_way_with_rules() -> None:
    bad: list[Any] = [5, {"metricName": 5}, {"metricName": "a", "dimensions": {"b": []}, "value": 1}, []]
    for body in bad:
        plain, ruled = make_harness(), make_harness(LABELS="a=b")
        assert plain.handle(ckafka(body))["errors"] == ruled.handle(ckafka(body))["errors"]


def test_a_point_that_was_spooled_is_not_relabelled_again(tmp_path: Path) -> None:
    rules = json.dumps([{"source_labels": ["ip"], "target_label": "ip", "replacement": "x$1"}])
    harness = make_harness(RELABEL=rules, SPOOL=f"file://{tmp_path}")
    harness.receiver.script.extend([Failure(Fault.UNREACHABLE, "refused")] * 9)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"spooled": 1}
    harness.receiver.script.clear()
    replay = {
        "Type": "Timer",
        "TriggerName": "r",
        "Time": "2026-01-01T09:00:00Z",
        "Message": '{"replay": true}',
    }
    assert outcomes(harness.handle(replay)) == {"delivered": 1}
    assert [stored["dimensions"] for _, stored in harness.receiver.points] == [{"ip": "x10.0.0.1"}]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("FORMAT", "xml", "MF_FORMAT"),
        ("INFLUX_PRECISION", "m", "MF_INFLUX_PRECISION"),
        ("LABELS", "a", "MF_LABELS"),
        ("LABELS", "a=b,a=c", "MF_LABELS"),
        ("LABELS", "__a=b", "MF_LABELS"),
        ("RELABEL", "/no/such/file.json", "MF_RELABEL cannot be read"),
        ("RELABEL", "[{]", "MF_RELABEL holds no JSON"),
        ("RELABEL", '[{"action": "rename"}]', "MF_RELABEL /0/action must be one of"),
        ("RELABEL", "{}", "MF_RELABEL is not a list"),
    ],
)
def test_a_wrong_setting_is_reported_before_anything_is_read(setting: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_harness(**{setting: value}).handle(ckafka(point()))


_LINE = st.text(alphabet='abc=,1 "\\\n{}#', max_size=30) | st.sampled_from(
    (INFLUX, TELEGRAF, TEXT, ADAPTER, OTLP, "up 1", "cpu a=1")
)
_CHOSEN = st.sampled_from([each for each in Format if each is not Format.JSON])


@pytest.mark.slow
@given(st.lists(_LINE, min_size=1, max_size=4), _CHOSEN)
@settings(max_examples=150)
def test_received_is_the_sum_of_all_readings(bodies: list[str], chosen: Format) -> None:
    hint = FormatHint()
    told = [reading for body in bodies for reading in read(chosen, body, hint, Mapper(MAPPING))]
    harness = make_remote_write_harness(
        FORMAT=chosen.value, OTLP_RESOURCE="target_info", MAPPING=json.dumps(MAPPING)
    )
    report = harness.handle(ckafka(*bodies))
    assert report["received"] == len(told)
    assert report["outcomes"]["filtered"] >= sum(isinstance(reading, FilteredSample) for reading in told)
    assert report["outcomes"]["invalid"] >= sum(isinstance(reading, InvalidSample) for reading in told)

"""What came in another format than our own JSON says the same after the spool."""

import base64
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.formats.protobuf import write_varint
from metric_forwarder.formats.samples import MAX_SAMPLES, Sample, is_stale_marker
from metric_forwarder.formats.snappy import store
from metric_forwarder.model import FormatHint
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.store import (
    BASE64_REMARK,
    SpoolRecord,
    decode_record,
    encode_record,
    encode_sample,
    encode_value,
    message_of,
)
from support.harness import (
    CONTEXT,
    RemoteWriteHarness,
    ckafka,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
)

REPLAY = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true}',
}
REPLAY_ALL = {**REPLAY, "Message": '{"replay": true, "deadLetters": true}'}
SERIES_ENDED = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def harness(folder: Path) -> RemoteWriteHarness:
    return make_remote_write_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1", HTTP_TOKEN=TOKEN)


def record(payload: Any, **members: Any) -> SpoolRecord:
    return SpoolRecord(payload, "s", None, None, "undelivered", "")._replace(**members)


def read_again(kept: SpoolRecord) -> Any:
    return message_of(decode_record(encode_record(kept).encode("ascii")))


@given(st.floats() | st.integers(-(10**30), 10**30))
def test_any_value_is_the_same_after_the_spool(value: float) -> None:
    line = encode_record(record({"value": encode_value(value)}))
    assert "NaN" not in line
    assert "Infinity" not in line
    again = message_of(decode_record(line.encode("ascii"))).body["value"]
    assert type(again) is type(value)
    assert again == value or (math.isnan(value) and struct.pack("<d", again) == struct.pack("<d", value))


def test_the_mark_that_ends_a_series_is_still_that_mark(folder: Path) -> None:
    del folder
    assert is_stale_marker(SERIES_ENDED)
    again = read_again(record({"value": encode_value(SERIES_ENDED)})).body["value"]
    assert is_stale_marker(again)


def test_values_that_are_not_finite_are_spooled_and_delivered(harness: RemoteWriteHarness) -> None:
    body = "a 1\nb NaN\nc +Inf\nd -Inf\n"
    harness.prometheus.script.extend([HttpReply(503, {}, b"")] * 4)
    assert outcomes(harness.handle(ckafka(body))) == {"spooled": 4}
    harness.prometheus.script.clear()
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 4}
    stored = {
        dict(labels)["__name__"][-1]: samples[0][1] for labels, samples in harness.prometheus.samples.items()
    }
    assert (stored["a"], stored["c"], stored["d"]) == (1, math.inf, -math.inf)
    assert math.isnan(stored["b"])


def letters(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(folder.glob("dead-*.jsonl"))
        for line in file.read_text().splitlines()[1:]
    ]


def test_a_line_that_cannot_be_read_is_kept_as_the_line(harness: RemoteWriteHarness, folder: Path) -> None:
    report = harness.handle(ckafka("a 1\nb not_a_number\n"))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert [letter["payload"] for letter in letters(folder)] == ["b not_a_number"]


@pytest.mark.parametrize(
    "body",
    [
        "# TYPE m gauge\nm 1 {now}\ncpu,host=a idle=5 {now}000000\n",
        "m v=1 {now}000000\nfoo 1\n",
        "m 1 {now_s}\nfoo  1 {now_s}\n# EOF\n",
    ],
    ids=["influx in Prometheus text", "Prometheus text in influx", "two spaces in OpenMetrics"],
)
def test_a_bad_line_is_replayed_in_the_format_of_its_message_though_it_fits_another_alone(
    harness: RemoteWriteHarness, body: str
) -> None:
    now = round(harness.clock.time() * 1000)
    report = harness.handle(ckafka(body.format(now=now, now_s=now // 1000)))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    replayed = harness.handle(REPLAY_ALL)
    assert outcomes(replayed) == {"invalid": 1}
    assert reasons(replayed) == reasons(report)


def test_a_line_behind_the_end_of_openmetrics_has_its_time_in_seconds_when_it_is_replayed(
    harness: RemoteWriteHarness,
) -> None:
    now_s = round(harness.clock.time())
    report = harness.handle(ckafka(f"m 1 {now_s}\n# EOF\nq 2 {now_s}\n# EOF\n"))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1}
    assert {time_ms for samples in harness.prometheus.samples.values() for time_ms, _ in samples} == {
        now_s * 1000
    }


@pytest.mark.slow
def test_the_lines_beyond_the_bound_of_a_message_are_delivered_by_a_replay_and_no_others(
    folder: Path,
) -> None:
    body = "".join(f'm{{i="{number}"}} 1\n' for number in range(MAX_SAMPLES + 50))
    harness = make_remote_write_harness(SPOOL=folder.as_uri())
    assert outcomes(harness.handle(ckafka(body))) == {"delivered": MAX_SAMPLES, "invalid": 1}
    assert outcomes(make_remote_write_harness(SPOOL=folder.as_uri()).handle(REPLAY_ALL)) == {"delivered": 50}


def test_a_bad_line_of_a_format_that_a_setting_named_wrongly_is_read_once_the_setting_is_right(
    folder: Path,
) -> None:
    wrong = make_remote_write_harness(SPOOL=folder.as_uri(), FORMAT="influx")
    assert outcomes(wrong.handle(ckafka("m 1\n"))) == {"invalid": 1}
    right = make_remote_write_harness(SPOOL=folder.as_uri(), FORMAT="prometheus-text")
    assert outcomes(right.handle(REPLAY_ALL)) == {"delivered": 1}


def test_a_sample_that_cannot_be_delivered_keeps_its_namespace(folder: Path) -> None:
    mapping = '{"each":"/m","name":"/n","value":"/v","labels":["/tags"],"namespace":"/ns"}'
    body = {"m": [{"n": "cpu", "v": 1.5, "tags": dict.fromkeys("abcdef", "x"), "ns": "billing"}]}
    settings = {"SPOOL": folder.as_uri(), "MAPPING": mapping}
    assert outcomes(make_harness(**settings).handle(ckafka(body))) == {"invalid": 1}
    corrected = make_harness(**settings, RELABEL='[{"action":"labeldrop","regex":"f"}]')
    assert outcomes(corrected.handle(REPLAY_ALL)) == {"delivered": 1}
    assert [namespace for namespace, _ in corrected.receiver.points] == ["billing"]


def test_rules_are_applied_once_even_if_a_replay_finds_the_point_invalid(folder: Path) -> None:
    prefix: list[dict[str, Any]] = [
        {"source_labels": ["__name__"], "target_label": "__name__", "replacement": "app_$1"}
    ]
    settings = {"SPOOL": folder.as_uri(), "MAX_ATTEMPTS": "1", "RELABEL": json.dumps(prefix)}
    down = make_harness(**settings)
    down.receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    assert outcomes(down.handle(ckafka({"metricName": "load", "dimensions": {"5xx": "a"}, "value": 1}))) == {
        "spooled": 1
    }
    # Prometheus has no such label.
    assert outcomes(make_remote_write_harness(is_partial=False, **settings).handle(REPLAY)) == {"invalid": 1}
    again = make_harness(**settings)
    assert outcomes(again.handle(REPLAY_ALL)) == {"delivered": 1}
    assert [body["metricName"] for _, body in again.receiver.points] == ["app_load"]


def test_dead_letters_that_one_destination_cannot_carry_are_delivered_by_one_that_can(folder: Path) -> None:
    settings = {"SPOOL": folder.as_uri()}
    assert outcomes(make_harness(**settings).handle(ckafka("m +Inf\nn NaN\n"))) == {"invalid": 2}
    prometheus = make_remote_write_harness(is_partial=False, **settings)
    assert outcomes(prometheus.handle(REPLAY_ALL)) == {"delivered": 2}
    assert {samples[0][1] for samples in prometheus.prometheus.samples.values()} > {math.inf}


def test_a_valid_value_that_is_not_finite_outlives_a_replay_to_a_destination_that_cannot_carry_it(
    folder: Path,
) -> None:
    settings = {"SPOOL": folder.as_uri(), "MAX_ATTEMPTS": "1"}
    prometheus = make_remote_write_harness(is_partial=False, **settings)
    prometheus.prometheus.script.append(HttpReply(503, {}, b""))
    assert outcomes(prometheus.handle(ckafka("m -Inf\n"))) == {"spooled": 1}
    assert outcomes(make_harness(**settings).handle(REPLAY)) == {"invalid": 1}
    prometheus.prometheus.script.clear()
    assert outcomes(prometheus.handle(REPLAY_ALL)) == {"delivered": 1}
    assert [samples[0][1] for samples in prometheus.prometheus.samples.values()] == [-math.inf]


DELTA = {"resourceMetrics": [{"resource": {"attributes": [{"key": "pod", "value": {"stringValue": "a"}}]}, "scopeMetrics": [{"metrics": [{"name": "n", "sum": {"aggregationTemporality": 1, "dataPoints": [{"asInt": "5", "timeUnixNano": "1767225600000000000"}]}}]}]}]}  # fmt: skip


def test_a_delta_sum_is_delivered_by_a_destination_that_takes_it_and_its_event_brings_it_not_again(
    folder: Path,
) -> None:
    settings = {"SPOOL": folder.as_uri()}
    assert (
        outcomes(make_remote_write_harness(is_partial=False, **settings).handle(ckafka(DELTA)))["invalid"]
        == 1
    )
    receiver = make_harness(**settings)
    assert outcomes(receiver.handle(REPLAY_ALL)) == {"delivered": 1}
    assert outcomes(receiver.handle(ckafka(DELTA))) == {"duplicate": 1, "filtered": 1}


SAMPLES = st.builds(
    Sample,
    where=st.just(""),
    metric=st.text(),
    dimensions=st.dictionaries(st.text(), st.text(), max_size=3),
    value=st.floats() | st.integers(-(10**30), 10**30),
    time_ns=st.none() | st.integers(-(10**19), 10**19),
    is_delta=st.booleans(),
    namespace=st.text(),
    apart=st.text(),
)


@given(SAMPLES)
def test_any_sample_is_the_same_after_the_spool(sample: Sample) -> None:
    again = read_again(record(encode_sample(sample), outcome="invalid", format="sample"))
    assert again.format is None
    assert repr(again.body) == repr(sample)


@pytest.mark.parametrize(
    "members",
    [{"metric": 1}, {"dimensions": {"a": 1}}, {"dimensions": None}, {"value": "1"}, {"value": True}, {"time_ns": 1.5}, {"is_delta": 1}, {"apart": None}, {"where": ""}, {"other": 1}],
    ids=str,
)  # fmt: skip
def test_what_is_no_sample_is_no_record(members: dict[str, Any]) -> None:
    payload = {**encode_sample(Sample("", "m", {}, 1)), **members}
    with pytest.raises(ValueError, match="not a record"):
        read_again(record(payload, outcome="invalid", format="sample"))


def test_points_that_are_given_a_time_keep_it_free_in_the_spool_as_if_they_had_arrived(folder: Path) -> None:
    """Prometheus takes one value of a series at one time."""
    harness = make_remote_write_harness(is_partial=True, SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    for event in range(3):
        harness.prometheus.script.extend([HttpReply(503, {}, b"")] * 60)
        bodies = [point(50 * event + number) for number in range(50)]
        assert outcomes(harness.handle(ckafka(*bodies, first_offset=50 * event))) == {"spooled": 50}
    harness.prometheus.script.clear()
    harness.clock.sleep(600)
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 150}
    (samples,) = harness.prometheus.samples.values()
    assert [value for _, value in samples] == list(range(150))


CLOUD_EVENT = {"specversion": "1.0", "id": "1", "data_base64": "cpu=7!"}


@pytest.mark.parametrize(
    "event",
    [
        CLOUD_EVENT,
        {"Records": [{"Ckafka": {"topic": "t", "partition": 0, "offset": 7}}]},
        {"Records": [{"CMQ": {"topicName": "t", "msgId": "7"}}]},
        {"Records": [{"Kafka": {"value": 7}}]},
        {"clslogs": {"data": "7!"}},
    ],
    ids=["EventBridge", "CKafka", "CMQ", "an unknown record", "CLS"],
)
def test_what_cannot_be_read_is_kept_as_it_came(
    event: Any, harness: RemoteWriteHarness, folder: Path
) -> None:
    assert outcomes(harness.handle(event)) == {"invalid": 1}
    (letter,) = letters(folder)
    assert "7" in letter["payload"]


def test_of_a_hint_only_what_is_unusual_is_kept(folder: Path) -> None:
    # An older version, to which a deployment may go back, knows no empty precision.
    request = {
        "httpMethod": "POST",
        "path": "/metrics/job/a",
        "headers": {"Authorization": f"Bearer {TOKEN}"},
        "body": "m x",
    }
    harness = make_remote_write_harness(SPOOL=folder.as_uri(), HTTP_TOKEN=TOKEN)
    harness.application.handle(request, CONTEXT)
    assert [letter["hint"] for letter in letters(folder)] == [{"labels": {"job": "a"}}]


@pytest.mark.parametrize(
    "hint",
    [
        FormatHint(),
        FormatHint("ms", {"job": "x"}, "text/plain", "labels"),
    ],
    ids=["usual", "unusual"],
)
def test_a_dead_letter_keeps_how_its_message_is_to_be_read(hint: FormatHint) -> None:
    members = None if hint == FormatHint() else hint._asdict()
    kept = record("cpu x=1 1", outcome="invalid", format="influx", hint=members)
    again = read_again(kept)
    assert (again.body, again.format, again.hint) == ("cpu x=1 1", "influx", hint)


@given(st.binary())
def test_bytes_are_bytes_after_the_spool(content: bytes) -> None:
    text = base64.b64encode(content).decode("ascii")
    assert read_again(record(text, outcome="invalid", is_base64=True)).body == content


@pytest.mark.parametrize(
    ("members", "is_record"),
    [
        ({"format": 5}, False),
        ({"format": []}, False),
        ({"format": ""}, False),
        ({"format": "of a later version"}, False),
        ({"format": "influx"}, True),
        ({"hint": []}, False),
        ({"hint": {"precision": 1}}, False),
        ({"hint": {"labels": []}}, False),
        ({"hint": {"labels": {"a": 1}}}, False),
        ({"hint": {"later": "x"}}, True),
    ],
    ids=str,
)
def test_what_has_a_wrong_hint_or_an_unknown_format_is_not_a_record(
    members: dict[str, Any], *, is_record: bool
) -> None:
    line = json.dumps({**record("x", outcome="invalid")._asdict(), **members}).encode()
    if is_record:
        message_of(decode_record(line))
    else:
        with pytest.raises(ValueError, match="not a record"):
            decode_record(line)


def test_a_sample_that_the_schema_refuses_keeps_its_time(folder: Path, tmp_path: Path) -> None:
    schema = tmp_path / "narrow.json"
    schema.write_text(json.dumps({"properties": {"value": {"maximum": 5}}}))
    narrow = make_remote_write_harness(SPOOL=folder.as_uri(), SCHEMA=str(schema))
    now_ms = round(narrow.clock.time() * 1000)
    assert outcomes(narrow.handle(ckafka(f"# TYPE a gauge\na 10 {now_ms - 7000}\n"))) == {"invalid": 1}
    wide = make_remote_write_harness(SPOOL=folder.as_uri())
    assert outcomes(wide.handle(REPLAY_ALL)) == {"delivered": 1}
    ((time_ms, value),) = next(iter(wide.prometheus.samples.values()))
    assert (time_ms, value) == (now_ms - 7000, 10)


TOKEN = "sample-token-of-the-docs"


def http(path: str, body: bytes) -> dict[str, Any]:
    """A request of a protocol that is binary."""
    return {
        "httpMethod": "POST",
        "path": path,
        "headers": {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-protobuf"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


# --- what is bad in a request of many ----------------------------------------------------------------------------


def attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}


def otlp(*points: Any, shared: str = "shop") -> dict[str, Any]:
    """A request with a gauge of these data points; its resource and scope become labels."""
    metric = {"name": "temperature", "unit": "Cel", "gauge": {"dataPoints": list(points)}}
    scope = {"scope": {"name": "meter", "version": "1"}, "metrics": [metric]}
    resource = {"attributes": [attribute("service.name", shared)]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}


GOOD, BAD = {"asDouble": 1.5, "timeUnixNano": "1767225600000000000"}, {"asDouble": "warm", "timeUnixNano": "1767225600000000000"}  # fmt: skip


def test_a_bad_data_point_of_otlp_is_kept_as_a_request_that_can_be_mended_and_replayed(
    harness: RemoteWriteHarness, folder: Path
) -> None:
    report = harness.handle(ckafka(otlp(GOOD, BAD, {**GOOD, "attributes": 5})))
    assert outcomes(report) == {"delivered": 1, "invalid": 2}
    bad, other = letters(folder)
    assert json.loads(bad["payload"]) == otlp(BAD)
    assert json.loads(other["payload"]) == otlp({**GOOD, "attributes": 5})
    # As it is, it is read, and refused for the same reason.
    assert reasons(harness.handle(REPLAY_ALL)) == reasons(report)
    assert len(letters(folder)) == 2
    mended = bad["payload"].replace('"warm"', "21.5").replace("1767225600000000000", "1767225601000000000")
    assert outcomes(harness.handle(ckafka(mended))) == {"delivered": 1}
    ((labels, samples),) = harness.prometheus.samples.items()
    assert dict(labels)["job"] == "shop"
    assert dict(labels)["otel_scope_name"] == "meter"
    assert [value for _, value in samples] == [1.5, 21.5]


def reasons(report: dict[str, Any]) -> list[str]:
    return [error["message"] for error in report["errors"]]


def test_a_bad_data_point_of_otlp_in_protobuf_is_kept_as_json_whatever_format_its_topic_has(
    folder: Path,
) -> None:
    harness = make_remote_write_harness(SPOOL=folder.as_uri(), FORMAT="otlp-protobuf", HTTP_TOKEN=TOKEN)
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="load")
    metric.gauge.data_points.add(time_unix_nano=1)
    harness.application.handle(http("/v1/metrics", request.SerializeToString()), CONTEXT)
    (letter,) = letters(folder)
    assert letter["format"] == "otlp-json"
    assert "has no value" in letter["reason"]
    assert reasons(harness.handle(REPLAY_ALL)) == [letter["reason"]]


def test_a_part_of_otlp_that_shares_much_is_kept_as_it_stands(
    harness: RemoteWriteHarness, folder: Path
) -> None:
    harness.handle(ckafka(otlp(*[BAD] * 50, shared="x" * 5000)))
    assert {letter["payload"] for letter in letters(folder)} == {json.dumps(BAD, separators=(",", ":"))}


def series(*labels: tuple[str, str], values: Any = (1.0,), rest: bytes = b"") -> bytes:
    """A series of remote write as it is written in a request."""
    written = b"".join(field(1, field(1, name.encode()) + field(2, text.encode())) for name, text in labels)
    for place, value in enumerate(values):
        written += field(
            2, b"\x09" + struct.pack("<d", value) + b"\x10" + write_varint(1_767_225_600_000 + place)
        )
    return field(1, written + rest)


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + write_varint(len(content)) + content


REMOTE_WRITE = {
    "labels named twice": (series(("__name__", "m"), ("a", "1"), ("a", "2"), values=(1, 2)), 2),
    "no name": (series(("a", "1")), 1),
    "a native histogram": (series(("__name__", "m"), values=(), rest=field(4, b"\x08\x01")), 1),
    "a label that is not UTF-8": (field(1, field(1, field(1, b"__name__") + field(2, b"\xff")) + field(2, b"\x09" + bytes(8))), 1),
    "a name that is not UTF-8": (field(1, field(1, field(1, b"__name__") + field(2, b"\xff")) + field(2, b"") * 2), 2),
    "a value that is not UTF-8, before the name": (field(1, field(1, field(1, b"a") + field(2, b"\xff")) + field(1, field(1, b"__name__") + field(2, b"m")) + field(2, b"") * 3 + field(4, b"\x08\x01")), 4),
    "a field that is cut off": (b"\x0a\x50\x0a", 1),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "count"), REMOTE_WRITE.values(), ids=list(REMOTE_WRITE))
def test_what_is_bad_in_a_request_of_remote_write_is_kept_as_a_request_that_is_read_again(
    harness: RemoteWriteHarness, folder: Path, bad: bytes, count: int
) -> None:
    body = store(series(("__name__", "good")) + bad)
    harness.application.handle(http("/api/v1/write", body), CONTEXT)
    kept = letters(folder)
    assert len(kept) == count
    report = harness.handle(REPLAY_ALL)
    assert outcomes(report) == {"invalid": count}
    assert reasons(report) == [letter["reason"].removesuffix(BASE64_REMARK) for letter in kept]
    assert len(harness.prometheus.samples) == 1


def test_a_request_of_remote_write_that_is_mended_is_delivered_by_a_replay(
    harness: RemoteWriteHarness, folder: Path
) -> None:
    body = store(series(("__name__", "m"), ("a", "1"), ("a", "2"), values=(1, 2)))
    harness.application.handle(http("/api/v1/write", body), CONTEXT)
    _, second = letters(folder)
    request = base64.b64decode(second["payload"])
    mended = second | {
        "payload": base64.b64encode(request.replace(b"\x0a\x01a\x12\x012", b"\x0a\x01b\x12\x012")).decode()
    }
    for file in folder.glob("dead-*"):
        file.unlink()
    FileSpool(folder).write([], [decode_record(json.dumps(mended).encode())])
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1}
    assert dict(next(iter(harness.prometheus.samples))) == {"__name__": "pc_m", "a": "1", "b": "2"}

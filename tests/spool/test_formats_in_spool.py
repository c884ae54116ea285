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

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.formats.samples import is_stale_marker
from metric_forwarder.model import FormatHint
from metric_forwarder.spool.store import SpoolRecord, decode_record, encode_record, encode_value, message_of
from support.harness import (
    RemoteWriteHarness,
    ckafka,
    make_remote_write_harness,
    outcomes,
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
    return make_remote_write_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")


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
        ({"hint": []}, False),
        ({"hint": {"precision": 1}}, False),
        ({"hint": {"labels": []}}, False),
        ({"hint": {"labels": {"a": 1}}}, False),
        ({"hint": {"later": "x"}}, True),
    ],
    ids=str,
)
def test_a_hint_of_wrong_types_is_not_a_record(members: dict[str, Any], *, is_record: bool) -> None:
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

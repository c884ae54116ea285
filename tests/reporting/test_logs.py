"""One line of JSON for each event, whatever the stream it goes to."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import HttpReply
from metric_forwarder.errors import ConfigError, DeliveryIncomplete, UnknownTrigger
from metric_forwarder.reporting.log import JsonLog
from metric_forwarder.reporting.report import MAX_LINE_BYTES
from support.harness import (
    CONTEXT,
    ckafka,
    environ,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
)


@contextmanager
def stdout(encoding: str) -> Iterator[io.BytesIO]:
    """What is written to standard output meanwhile, which has that encoding."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    with redirect_stdout(stream):
        yield written
    stream.detach()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "gbk"])
@given(text=st.text(max_size=20) | st.text(st.characters(categories=["Cs"]), max_size=3))
def test_any_text_is_one_line_of_json_in_any_encoding(encoding: str, text: str) -> None:
    with stdout(encoding) as written:
        JsonLog().write("INFO", "report", message=text)
    (line,) = written.getvalue().decode(encoding).removesuffix("\n").split("\n")
    assert json.loads(line)["message"] == json.loads(json.dumps(text))


def test_where_the_stream_can_carry_it_text_stays_readable() -> None:
    with stdout("utf-8") as written:
        JsonLog().write("INFO", "report", message="温度")
    assert "温度".encode() in written.getvalue()


class _Broken(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        raise self._error


def _closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream",
    [None, _closed(), _Broken(BrokenPipeError()), _Broken(RuntimeError("a runtime's own"))],
    ids=["none", "closed", "a broken pipe", "of a runtime"],
)
def test_a_line_that_cannot_be_written_stops_no_event(stream: Any) -> None:
    harness = make_harness()
    with redirect_stdout(stream):
        report = harness.handle(ckafka(point(1), point(2)))
    assert outcomes(report) == {"delivered": 2}


def test_an_event_with_text_beyond_the_streams_encoding_is_delivered_once() -> None:
    harness = make_harness()
    with stdout("ascii") as written:
        report = harness.handle(ckafka(point(), point(2, 温=1), topic="温度"))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert json.loads(written.getvalue())["errors"][0]["source"].startswith("温度/")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("topic", ["t" * 180, "温度" * 90], ids=["ascii", "chinese"])
def test_the_line_of_a_report_is_as_long_as_the_platform_keeps_it_and_counts_the_errors_left_out(
    topic: str, encoding: str
) -> None:
    with stdout(encoding) as written:
        report = make_harness().handle(
            ckafka(*(point(metric=f"m{number}", timestamp=1) for number in range(30)), topic=topic)
        )
    assert len(written.getvalue()) <= MAX_LINE_BYTES + len("\n")
    line = json.loads(written.getvalue())
    assert 0 < len(line["errors"]) < len(report["errors"])
    assert line["errors"] == report["errors"][: len(line["errors"])]
    for told in (line, report):
        assert (outcomes(told), len(told["errors"]) + told["errorsOmitted"]) == ({"stale": 30}, 30)


def refused(application: Application, event: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line that is written before the error is raised."""
    with pytest.raises((ConfigError, UnknownTrigger)) as raised:
        application.handle(event, CONTEXT)
    (line,) = capsys.readouterr().out.splitlines()
    logged: dict[str, Any] = json.loads(line)
    assert logged.pop("message") == str(raised.value)
    return logged


def test_what_cannot_be_handled_leaves_a_line_that_an_alarm_can_see(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = {"level": "ERROR", "event": "refused", "requestId": "test-request", "error": "ConfigError"}
    assert refused(Application(environ(CONCURRENCY="many", LOG_LEVEL="odd")), point(), capsys) == line
    assert refused(Application(environ(SCHEMA="/nonexistent")), point(), capsys) == line
    replay = {"Type": "Timer", "TriggerName": "t", "Time": "", "Message": '{"replay": true}'}
    assert refused(make_harness().application, replay, capsys) == line
    line["error"] = "UnknownTrigger"
    assert refused(make_harness(LOG_LEVEL="ERROR").application, {"unknown": 1}, capsys) == line


def test_what_the_platform_must_redeliver_leaves_its_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    harness.receiver.replace_accounts({})
    with pytest.raises(DeliveryIncomplete):
        harness.application.handle(ckafka(point()), CONTEXT)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "report"


def debug_lines(harness: Any, event: Any, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines that DEBUG adds to those of INFO."""
    harness.handle(event)
    out = capsys.readouterr().out
    assert "10.0.0.1" not in out, "a payload is in the log"
    return [line for line in map(json.loads, out.splitlines()) if line["level"] == "DEBUG"]


def test_at_debug_each_request_to_the_receiver_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    harness = make_harness(LOG_LEVEL="DEBUG", BATCH_MAX_POINTS="2", CONCURRENCY="1")
    harness.receiver.latency_s = 0.02
    harness.receiver.script.append(HttpReply(503, {"Retry-After": "2"}, b"secret page"))
    prepare, *requests = debug_lines(harness, ckafka(point(1), point(2), point(3)), capsys)
    assert prepare == {
        "level": "DEBUG",
        "event": "prepare",
        "requestId": "test-request",
        "reply": "ready",
        "code": None,
        "durationMs": 0,
    }
    shape = [
        (line["event"], line["points"], line["attempt"], line["waitedMs"], line["reply"], line["code"])
        for line in requests
    ]
    assert shape[0] == ("request", 2, 1, 0, "http 503", 503)
    assert shape[1][:3] == ("request", 2, 2)
    assert shape[1][3] >= 2000
    assert shape[2:] == [("request", 1, 1, 0, "0", 0)]
    assert requests[1]["durationMs"] == 20


def test_at_debug_each_remote_write_request_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    harness = make_remote_write_harness(
        LOG_LEVEL="DEBUG", REMOTE_WRITE_PASSWORD="a-password-of-this-test", CONCURRENCY="1"
    )
    _, request = debug_lines(harness, ckafka(point(1), point(2, "other")), capsys)
    assert (request["points"], request["reply"], request["code"]) == (2, "http 204", 204)


def test_below_debug_requests_leave_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert debug_lines(make_harness(), ckafka(point()), capsys) == []

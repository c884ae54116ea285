"""``invoke`` and ``send``, against a receiver in this process."""

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from metric_forwarder.cli.local_function import (
    ENTRY,
    Invocation,
    PointsApart,
    invoke_handler,
    load_handler,
    make_context,
)
from metric_forwarder.cli.sample_formats import WRITTEN
from receiver_emulator import EXAMPLE_SECRET_KEY, Emulator
from support.command_line import child_environ, command, execute, on_terminal, point, run, settings_for
from support.patience import GRACE_S


@pytest.fixture
def receiver() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    event = {
        "Records": [
            {"Ckafka": {"topic": "t", "partition": 0, "offset": 7, "msgBody": json.dumps(point(0.3))}}
        ]
    }
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event), encoding="utf-8")
    return path


def test_an_event_is_delivered_and_its_report_is_all_of_standard_output(
    receiver: Emulator, event_file: Path
) -> None:
    done = execute("invoke", str(event_file), **settings_for(receiver))
    assert done.status == 0
    assert done.printed["outcomes"]["delivered"] == 1
    assert [stored["value"] for stored in receiver.points()] == [0.3]
    assert json.loads(done.err)["event"] == "report", "the function's log line belongs on standard error"


def test_an_event_comes_by_standard_input_too(receiver: Emulator, event_file: Path) -> None:
    done = run("invoke", "-", given=event_file.read_text("utf-8"), **settings_for(receiver))
    assert (done.status, done.printed["trigger"]) == (0, "ckafka")


def test_an_invalid_point_ends_with_status_1_and_its_error_in_the_report(receiver: Emulator) -> None:
    done = run("invoke", "-", given=json.dumps([point("12"), point(2)]), **settings_for(receiver))
    assert done.status == 1
    assert [(e["pointer"], e["rule"]) for e in done.printed["errors"]] == [("/0/value", "type")]


def test_what_the_platform_would_redeliver_ends_with_status_1_and_the_report(
    receiver: Emulator, event_file: Path
) -> None:
    receiver.fault("code", 1008, times=None)
    done = run("invoke", str(event_file), "--time-limit", "2", **settings_for(receiver))
    assert done.status == 1
    assert done.printed["outcomes"]["undelivered"] == 1


@pytest.mark.slow
def test_the_time_limit_is_the_functions(receiver: Emulator, event_file: Path) -> None:
    receiver.fault("hang", times=None)
    done = run("invoke", str(event_file), "--time-limit", "1", **settings_for(receiver), MAX_ATTEMPTS="50")
    assert done.status == 1
    # Without it, the function would wait for the hanging receiver for its whole default time.
    assert done.printed["durationMs"] < 1000 * (1 + GRACE_S)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(
            '{"Records": [}',
            "standard input is not JSON (Expecting value at line 1 column 14): correct it",
            id="no JSON",
        ),
        pytest.param(" \n", "standard input is empty: it must hold JSON", id="empty"),
        pytest.param("{}", "unknown kind: an empty object", id="an empty object"),
        pytest.param("null", "unknown kind: null", id="null"),
        pytest.param("0.5", "unknown kind: a number", id="a number"),
        pytest.param(b"\xff\xfe", "standard input is not UTF-8 at byte 0", id="no UTF-8"),
        pytest.param("[" * 100_000, "standard input is not JSON (it is nested too deeply", id="too deep"),
        pytest.param('{"kind": "secret-value"}', 'top-level keys "kind"', id="no known event"),
    ],
)
def test_an_event_that_cannot_be_used_ends_with_status_2_and_the_place(
    receiver: Emulator, given: str | bytes, told: str
) -> None:
    done = run("invoke", "-", given=given, **settings_for(receiver))
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert "secret-value" not in done.err


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("cpu,host=a usage=0.5\n", id="influx line protocol"),
        pytest.param("cpu,host=a usage=0.5\ncpu,host=b usage=1\n", id="two lines"),
        pytest.param('{"resourceMetrics": []}', id="JSON of another format"),
    ],
)
def test_a_payload_instead_of_an_event_is_told_the_commands_that_take_it(
    tmp_path: Path, receiver: Emulator, content: str
) -> None:
    file = tmp_path / "my payload"
    file.write_text(content, encoding="utf-8")
    done = run("invoke", str(file), **settings_for(receiver))
    assert done.status == 2
    told = [
        words
        for command in ("check", "events")
        for words in re.findall(rf"metric-forwarder ({command} .*?)(?: shows| prints)", done.err)
    ]
    checked, wrapped = (run(*shlex.split(words), NAMESPACE="pc") for words in told)
    assert (checked.status, wrapped.status) == (0, 0), checked.err + wrapped.err
    assert run("invoke", "-", given=wrapped.out, **settings_for(receiver), NAMESPACE="pc").status == 0


def test_a_binary_payload_instead_of_an_event_is_told_how_to_look_at_it(
    tmp_path: Path, receiver: Emulator
) -> None:
    file = tmp_path / "metrics.pb"
    file.write_bytes(b"\x0a\xff")
    done = run("invoke", str(file), **settings_for(receiver))
    assert f"MF_FORMAT=otlp-protobuf metric-forwarder check {file}" in done.err
    assert "or name its binary format, such as MF_FORMAT=otlp-protobuf" in run("check", str(file)).err


def test_a_missing_file_ends_with_status_2_and_its_name(tmp_path: Path) -> None:
    done = run("invoke", str(tmp_path / "none.json"))
    assert done.status == 2
    assert "none.json cannot be read (No such file or directory): name another file, or -" in done.err


def test_settings_that_cannot_be_used_end_with_status_2_and_all_problems(event_file: Path) -> None:
    done = execute("invoke", str(event_file), CONCURRENCY="none", SECRET_KEY="not-to-be-printed")
    assert (done.status, done.out) == (2, "")
    assert all(name in done.err for name in ("MF_SECRET_ID", "MF_REGION", "MF_CONCURRENCY"))
    assert "not-to-be-printed" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_on_a_terminal_the_report_is_a_table_and_with_json_it_is_json(
    receiver: Emulator, event_file: Path
) -> None:
    environ = child_environ(**settings_for(receiver))
    as_table = on_terminal(command("invoke", str(event_file)), environ)
    assert (as_table.status, "delivered  the destination answered success" in as_table.out) == (0, True)
    as_json = on_terminal(command("invoke", str(event_file), "--json"), environ)
    assert (as_json.status, as_json.printed["status"]) == (0, "ok")


@pytest.mark.slow
def test_on_a_terminal_the_report_is_shown_once(event_file: Path) -> None:
    with Emulator() as receiver:
        receiver.fault("code", 1008)
        environ = child_environ(**settings_for(receiver), DEDUPE="redis://127.0.0.1:1")
        shown = on_terminal(command("invoke", str(event_file)), environ, both=True).out
    assert "undelivered" in shown
    assert '"event":"report"' not in shown
    assert '"event":"dedupe"' in shown, "the rest of the log is not in the table"


@pytest.mark.slow
def test_on_a_terminal_settings_that_cannot_be_used_are_told_once(event_file: Path) -> None:
    shown = on_terminal(command("invoke", str(event_file)), child_environ(REGION="gz"), both=True).out
    assert shown.count("MF_SECRET_ID is empty") == 1
    assert "Error: " in shown


# --- send ---------------------------------------------------------------------------------------------------


def test_one_point_is_sent_with_everything_it_was_given(receiver: Emulator) -> None:
    words = ("send", "--namespace", "pc", "--metric", "diskusage", "--value", "0.3")
    done = run(*words, "--dimension", "diskname=sda", "--dimension", "path=a=b", **settings_for(receiver))
    assert (done.status, done.printed["status"]) == (0, "ok")
    (stored,) = receiver.points()
    assert stored | {"receivedAt": 0} == {
        "namespace": "pc",
        "metricName": "diskusage",
        "dimensions": {"diskname": "sda", "path": "a=b"},
        "value": 0.3,
        "receivedAt": 0,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("1e3", 1000.0), ("-0.5", -0.5), ("12345678901234567890", 12345678901234567890)],
)
def test_a_value_keeps_its_kind(receiver: Emulator, text: str, value: float) -> None:
    done = run("send", "--namespace", "pc", "--metric", "m", f"--value={text}", **settings_for(receiver))
    assert done.status == 0
    stored = receiver.points()[0]["value"]
    assert (stored, type(stored)) == (value, type(value))


def test_a_point_without_a_namespace_takes_that_of_the_settings(receiver: Emulator) -> None:
    done = run("send", "--metric", "m", "--value", "1", **settings_for(receiver), NAMESPACE="shop")
    assert (done.status, receiver.points()[0]["namespace"]) == (0, "shop")


@pytest.mark.parametrize("name", [each.value for each in WRITTEN])
def test_one_point_is_sent_in_any_format(receiver: Emulator, name: str) -> None:
    settings = {**settings_for(receiver), "NAMESPACE": "pc", "HTTP_TOKEN": "sample-token-of-the-docs"}
    words = ("send", "--metric", "m", "--value", "0.3", "--dimension", "disk=sda", "--format", name)
    done = run(*words, **settings)
    assert (done.status, done.printed["outcomes"]["delivered"]) == (0, 1)
    assert [(p["metricName"], p["dimensions"], p["value"]) for p in receiver.points()] == [
        ("m", {"disk": "sda"}, 0.3)
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("otlp-protobuf", ("--value", "9" * 40)),
        ("remote-write", ("--value", "9" * 400)),
        ("otlp-protobuf", ("--value", "1", "--timestamp", "-5")),
        ("otlp-json", ("--value", "1", "--timestamp", "1e400")),
        ("otlp-protobuf", ("--value", "1", "--dimension", "disk=\udcff")),
    ],
)
def test_a_member_that_the_format_lacks_is_an_error_without_a_traceback(
    name: str, words: tuple[str, ...]
) -> None:
    done = run(
        "send",
        "--metric",
        "m",
        *words,
        "--format",
        name,
        DESTINATION="stdout",
        NAMESPACE="pc",
        HTTP_AUTH="cam",
    )
    assert done.status == 2
    assert done.err.startswith("Error: ")


def test_a_client_of_another_protocol_gets_its_reply_and_the_report_is_shown_nonetheless(
    receiver: Emulator,
) -> None:
    event = {"httpMethod": "POST", "path": "/write", "headers": {}, "body": "m value=1\nm value=x"}
    settings = {**settings_for(receiver), "NAMESPACE": "pc", "HTTP_AUTH": "cam"}
    done = run("invoke", "-", given=json.dumps(event), **settings)
    assert (done.status, done.printed["status"], done.printed["received"]) == (1, "partial", 2)
    assert [error["pointer"] for error in done.printed["errors"]] == ["line 2 field value"]
    # At this level the log has no report of it.
    event["body"] = "m value=1"
    quiet = run("invoke", "-", given=json.dumps(event), **settings, LOG_LEVEL="ERROR")
    assert (quiet.status, quiet.printed) == (0, {"status": "ok", "message": "answered with HTTP 204"})


@pytest.mark.parametrize(
    ("option", "outcome", "pointer"),
    [
        pytest.param(("--timestamp", "1700000000"), "stale", "/timestamp", id="Unix seconds"),
        pytest.param(("--timestamp", "2026-01-31T08:00:00Z"), "stale", "/timestamp", id="RFC 3339"),
        pytest.param(("--timestamp", "yesterday"), "invalid", "/timestamp", id="no time"),
        pytest.param(("--id", ""), "invalid", "/id", id="an empty key"),
        pytest.param(("--value", "inf"), "invalid", "/value", id="no finite number"),
        pytest.param(("--dimension", "a-b=c"), "invalid", "/dimensions/a-b", id="no name of a dimension"),
    ],
)
def test_an_invalid_point_is_reported_and_not_sent(
    receiver: Emulator, option: tuple[str, str], outcome: str, pointer: str
) -> None:
    given = ("--namespace", "pc", "--metric", "m", "--value", "1", *option)
    done = run("send", *given, **settings_for(receiver))
    assert (done.status, done.printed["outcomes"][outcome]) == (1, 1)
    assert done.printed["errors"][0]["pointer"] == pointer
    assert receiver.points() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("--value", "1"), "Missing option '--metric'", id="no metric"),
        pytest.param(("--metric", "m", "--value", "much"), "'much' is not a number", id="a value that is no number"),
        pytest.param(
            ("--metric", "m", "--value", "1", "--dimension", "sda"), "'sda' is not of the form NAME=VALUE", id="no ="
        ),
        pytest.param(
            ("--metric", "m", "--value", "1", "--dimension", "a=1", "--dimension", "a=2"), "'a' is given twice", id="twice"
        ),
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_status_2(words: tuple[str, ...], told: str) -> None:
    done = run("send", *words)
    assert done.status == 2
    assert told in done.err


# --- the function as the platform runs it -------------------------------------------------------------------


def test_each_load_is_a_new_instance_and_leaves_no_module_behind() -> None:
    first, second = load_handler(), load_handler()
    assert first is not second
    assert "scf_entry" not in sys.modules


def test_the_context_has_what_the_platform_gives() -> None:
    environ = {
        "MF_REGION": "gz",
        "MF_SECRET_KEY": EXAMPLE_SECRET_KEY,
        "HOME": "/root",
        "TENCENTCLOUD_REGION": "ap-x",
    }
    context = make_context(environ, 3)
    assert context["time_limit_in_ms"] == 3000
    assert context["tencentcloud_region"] == "ap-x"
    assert context["environ"] == f"MF_REGION=gz;MF_SECRET_KEY={EXAMPLE_SECRET_KEY}"
    assert "HOME" not in json.loads(context["environment"])
    assert make_context(environ, 3)["request_id"] != context["request_id"]


@pytest.mark.parametrize(
    ("reply", "complete"),
    [
        pytest.param({"status": "ok"}, True, id="a report"),
        pytest.param(
            {"statusCode": 207, "headers": {}, "body": '{"status":"partial"}'}, False, id="an HTTP reply"
        ),
        pytest.param(
            {"statusCode": 401, "headers": {}, "body": '{"status":"refused"}'}, False, id="a refusal"
        ),
    ],
)
def test_a_report_is_found_in_every_kind_of_reply(reply: dict[str, Any], *, complete: bool) -> None:
    invocation = invoke_handler(lambda _event, _context: reply, {}, {})
    assert invocation.is_complete is complete
    assert invocation.http_status == reply.get("statusCode")
    assert set(invocation.report) == {"status"}


def test_what_was_raised_is_never_complete() -> None:
    assert not Invocation({"status": "ok"}, raised=True).is_complete


def test_the_entry_file_is_the_functions() -> None:
    assert ENTRY.name == "index.py"
    assert "def main_handler(event" in ENTRY.read_text("utf-8")


# --- the page of an emulated receiver -----------------------------------------------------------------------


def _reports_on(page: str) -> list[Any]:
    with urlopen(f"{page}/-/activity", timeout=30) as reply:
        reports: list[Any] = json.loads(reply.read())["reports"]
    return reports


@pytest.mark.slow
def test_the_report_is_on_the_page_that_is_named_and_nothing_without_one(
    receiver: Emulator, event_file: Path
) -> None:
    receiver.clear()
    environ = child_environ(**settings_for(receiver))
    subprocess.run(command("invoke", str(event_file)), env=environ, check=True, capture_output=True)
    assert _reports_on(receiver.base_url) == []
    named = {**environ, "METRIC_FORWARDER_PAGE": receiver.base_url}
    subprocess.run(command("invoke", str(event_file)), env=named, check=True, capture_output=True)
    assert [report["trigger"] for report in _reports_on(receiver.base_url)] == ["ckafka"]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["http://127.0.0.1:1", "file:///etc/passwd"])
def test_a_page_that_is_not_there_changes_neither_report_nor_status(
    receiver: Emulator, event_file: Path, page: str
) -> None:
    environ = {**child_environ(**settings_for(receiver)), "METRIC_FORWARDER_PAGE": page}
    done = subprocess.run(
        command("invoke", str(event_file)), env=environ, capture_output=True, check=True, encoding="utf-8"
    )
    assert json.loads(done.stdout)["status"] == "ok"
    assert "METRIC_FORWARDER_PAGE" in done.stderr


@pytest.mark.slow
def test_a_refused_event_has_no_report_and_no_complaint_about_the_page(
    receiver: Emulator, tmp_path: Path
) -> None:
    event = tmp_path / "http.json"
    event.write_bytes(subprocess.run(command("events", "http"), check=True, capture_output=True).stdout)
    environ = {**child_environ(**settings_for(receiver)), "METRIC_FORWARDER_PAGE": receiver.base_url}
    done = subprocess.run(
        command("invoke", str(event)), env=environ, capture_output=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 1
    assert "HTTP is closed" in done.stderr
    assert "METRIC_FORWARDER_PAGE" not in done.stderr


def test_a_stream_that_outlives_what_it_writes_to_ends_quietly() -> None:
    points = io.TextIOWrapper(io.BytesIO())
    apart = PointsApart(points, io.StringIO())
    points.close()
    # As when it is thrown away; newer Pythons complain of an error then.
    apart.close()

"""``{"doctor": true}``: the function says from where it is what stands in the way of delivery."""

import json
import socket
import threading
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application, Outside
from metric_forwarder.clients.secrets_manager import SecretReference
from metric_forwarder.credentials import Credentials
from metric_forwarder.errors import ConfigError, UnknownTrigger
from metric_forwarder.secret import Secret
from receiver_emulator import EXAMPLE_SECRET_KEY, Emulator
from support.command_line import run, settings_for
from support.harness import CONTEXT, Harness, environ

ASK = {"doctor": True}


def ask(emulator: Emulator, **settings: str) -> dict[str, Any]:
    application = Application(environ(**{"RECEIVER_URL": emulator.url, "MAX_ATTEMPTS": "1", **settings}))
    context = {**CONTEXT, "time_limit_in_ms": 60_000, "namespace": "prod", "function_name": "fwd"}
    found: dict[str, Any] = application.handle(ASK, context)
    return found


def _by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {check["name"]: check for check in found["checks"]}


def test_where_all_is_well_it_is_ok_as_json_sends_no_point_and_shows_no_secret(emulator: Emulator) -> None:
    found = ask(emulator)
    assert found["status"] == "ok"
    assert all(check["ok"] and check["detail"] for check in found["checks"])
    assert json.loads(json.dumps(found)) == found
    assert EXAMPLE_SECRET_KEY not in json.dumps(found)
    assert emulator.points() == []


def test_it_finds_what_the_command_finds_outside(emulator: Emulator) -> None:
    emulator.fault("status", 404, times=None)
    inside = _by_name(ask(emulator))
    outside = json.loads(run("doctor", "--json", **settings_for(emulator)).out)
    assert {name: check["ok"] for name, check in inside.items()} == {
        check["name"]: check["ok"] for check in outside["checks"]
    }
    assert not inside["answer"]["ok"]
    assert inside["answer"]["detail"] == _by_name(outside)["answer"]["detail"]


def test_it_counts_the_spool_of_the_function_that_was_asked(emulator: Emulator, tmp_path: Any) -> None:
    (tmp_path / "spool").mkdir()
    found = _by_name(ask(emulator, SPOOL=(tmp_path / "spool").as_uri()))
    assert "of prod/fwd 0 points wait" in found["spool"]["detail"]


SELF_METRICS: dict[str, tuple[dict[str, str], bool, str]] = {
    "off": ({}, True, "off"),
    "nowhere": ({"SELF_METRICS": "on"}, False, "set it, or MF_SELF_METRICS to off"),
    "somewhere": (
        {"SELF_METRICS": "on", "REMOTE_WRITE_URL": "http://127.0.0.1:1/write"},
        True,
        "written to MF_REMOTE_WRITE_URL",
    ),
}


@pytest.mark.parametrize(("settings", "ok", "told"), SELF_METRICS.values(), ids=SELF_METRICS)
def test_its_own_metrics_must_have_an_address_to_be_written_to(
    emulator: Emulator, settings: dict[str, str], told: str, *, ok: bool
) -> None:
    inside = ask(emulator, **settings)
    done = run("doctor", "--json", **settings_for(emulator), **settings)
    outside = json.loads(done.out)
    check = _by_name(inside)["metrics"]
    assert (check["ok"], inside["status"]) == (ok, "ok" if ok else "failed")
    assert told in check["detail"]
    assert _by_name(outside)["metrics"] == check
    assert done.status == (0 if ok else 1)


@pytest.mark.parametrize(
    ("accounts", "told"),
    [
        pytest.param("AKIDone:key", "open to clients of 1 account that signs with its key", id="one"),
        pytest.param(
            "AKIDone:key,AKIDtwo:other", "open to clients of 2 accounts that sign with their keys", id="two"
        ),
    ],
)
def test_it_counts_the_accounts_of_the_bridge(emulator: Emulator, accounts: str, told: str) -> None:
    assert _by_name(ask(emulator, BRIDGE_ACCOUNTS=accounts))["bridge"]["detail"] == told


def test_two_questions_leave_one_thread_behind_where_the_key_cannot_be_read() -> None:
    reads: list[str] = []
    is_over = threading.Event()

    def hang(reference: SecretReference, _role: list[str], _timeout_s: float) -> Credentials:
        reads.append(reference.name)
        is_over.wait()
        return Credentials("AKID", Secret("late"))

    role = {"TENCENTCLOUD_SECRETID": "a", "TENCENTCLOUD_SECRETKEY": "b", "TENCENTCLOUD_SESSIONTOKEN": "c"}
    settings = role | environ(SECRET_ID="", SECRET_KEY="", SECRET_NAME="monitor")
    application = Application(settings, outside=Outside(read_secret=hang))
    found = [_by_name(application.handle(ASK, {**CONTEXT, "time_limit_in_ms": 200})) for _ in range(2)]
    is_over.set()
    assert [checks["credentials"]["ok"] for checks in found] == [False, False]
    assert reads == ["monitor"]


@pytest.mark.slow
def test_it_ends_in_time_and_says_what_it_did_not_come_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v2/index.php"
        application = Application(environ(RECEIVER_URL=url))
        found = _by_name(application.handle(ASK, {**CONTEXT, "time_limit_in_ms": 2000}))
    assert found["connection"]["ok"]
    assert found["answer"]["detail"] == "gave no answer within the function's time limit"
    assert "not checked" in found["scrape"]["detail"]


def test_settings_that_cannot_work_raise_as_for_every_event() -> None:
    with pytest.raises(ConfigError, match="MF_CONCURRENCY"):
        Application(environ(CONCURRENCY="0")).handle(ASK, CONTEXT)


@pytest.mark.parametrize("event", [{"doctor": 1}, {"Doctor": True}, {"doctor": True, "verbose": 1}], ids=str)
def test_a_misspelt_question_says_how_to_ask(harness: Harness, event: dict[str, Any]) -> None:
    with pytest.raises(UnknownTrigger, match=r'with \{"doctor": true\}'):
        harness.application.handle(event, CONTEXT)


@pytest.mark.parametrize(
    "event",
    [
        {"Type": "Timer", "TriggerName": "t", "Time": "2026-01-01T00:00:00Z", "Message": json.dumps(ASK)},
        {"httpMethod": "POST", "path": "/", "headers": {}, "queryString": {}, "body": json.dumps(ASK)},
    ],
    ids=["timer", "http"],
)
def test_no_message_of_a_trigger_is_answered_so(harness: Harness, event: dict[str, Any]) -> None:
    assert "checks" not in json.dumps(harness.application.handle(event, CONTEXT))

"""The report: the level it is logged at, and what docs/report.md says may stand in it."""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.bridge.replies import return_code
from metric_forwarder.clients.http import Fault
from metric_forwarder.dedupe.store import MemoryStore, NoStore
from metric_forwarder.delivery.settling import RequestCounts
from metric_forwarder.destinations.remote_write import REFUSALS
from metric_forwarder.model import Outcome
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.reporting.ledger import MAX_FILTER_REASONS, MAX_PROBLEMS, Ledger
from metric_forwarder.reporting.replies import MAX_HTTP_BODY_BYTES, http_status
from metric_forwarder.reporting.report import loss_level, make_report
from support.harness import ROOT, ckafka, make_harness, outcomes, point

PAGE = (ROOT / "docs" / "report.md").read_text("utf-8")
PACKAGE = ROOT / "src" / "metric_forwarder"


# --- its level ----------------------------------------------------------------------------------------------


def level_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (level,) = [line["level"] for line in lines if line["event"] == "report"]
    return str(level)


def timer(message: Any) -> dict[str, Any]:
    return {
        "Type": "Timer",
        "TriggerName": "t",
        "Time": "2026-03-02T09:25:00Z",
        "Message": json.dumps(message),
    }


def test_what_ckafka_is_sure_to_bring_again_is_late_and_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    harness = make_harness()
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    assert harness.handle(ckafka(point()))["outcomes"]["undelivered"] == 1
    assert level_of(capsys) == "WARN"


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(timer(point()), id="two more attempts"),
        pytest.param(point(), id="none"),
        pytest.param({"clslogs": {}}, id="nothing undelivered, but invalid"),
    ],
)
def test_what_may_be_given_up_is_an_error(event: Any, capsys: pytest.CaptureFixture[str]) -> None:
    harness = make_harness()
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    harness.handle(event)
    assert level_of(capsys) == "ERROR"


def report(outcomes: Mapping[str, int], dedupe: str = "memory") -> dict[str, Any]:
    received = sum(outcomes.values())
    arrived = outcomes.get("delivered", 0) + outcomes.get("duplicate", 0)
    wanted = received - outcomes.get("filtered", 0)
    return {
        "status": "ok" if arrived == wanted else "partial" if arrived else "failed",
        "trigger": "timer",
        "received": received,
        "outcomes": {outcome.value: outcomes.get(outcome.value, 0) for outcome in Outcome},
        "dedupe": dedupe,
        "errors": [],
    }


def test_an_undelivered_ckafka_event_is_lost_for_good_if_it_came_in_a_dead_letter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    harness = make_harness()
    event = ckafka(point())
    for came, level in (
        (event, "WARN"),
        ({"Body": {"ClientContext": json.dumps(event)}}, "ERROR"),
        ({"Body": {"ClientContext": event}}, "ERROR"),
    ):
        harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
        told = harness.handle(came)
        assert (told["trigger"], outcomes(told)) == ("ckafka", {"undelivered": 1})
        assert level_of(capsys) == level


@pytest.mark.slow
@given(
    outcomes=st.dictionaries(st.sampled_from([outcome.value for outcome in Outcome]), st.integers(0, 2)),
    is_spooling=st.booleans(),
    is_redelivered=st.booleans(),
)
def test_a_report_is_an_error_exactly_if_a_point_of_it_is_lost_or_may_be(
    *, outcomes: dict[str, int], is_spooling: bool, is_redelivered: bool
) -> None:
    kept = {"delivered", "duplicate", "filtered", "spooled"}
    kept |= {"invalid", "stale", "rejected"} if is_spooling else set()
    kept |= {"undelivered"} if is_redelivered else set()
    may_be_lost = any(count for outcome, count in outcomes.items() if outcome not in kept)
    level = loss_level(report(outcomes), is_spooling=is_spooling, is_redelivered=is_redelivered)
    assert (level == "ERROR") == may_be_lost


def test_a_report_can_be_written_in_utf_8_whatever_was_sent() -> None:
    half = "\ud800"
    report = make_harness().handle(ckafka({"metricName": half, half: 1}, topic=half))
    assert json.dumps(report["errors"], ensure_ascii=False).encode()
    assert {error["pointer"] for error in report["errors"]} >= {"/metricName", "/\\ud800"}


def test_duplicates_that_may_pass_are_worth_a_warning() -> None:
    assert loss_level(report({"delivered": 1}), is_spooling=False, is_redelivered=False) == "INFO"
    assert loss_level(report({"delivered": 1}, "degraded"), is_spooling=False, is_redelivered=False) == "WARN"


# --- filtered points ----------------------------------------------------------------------------------------


def made(ledger: Ledger) -> dict[str, Any]:
    return make_report(
        trigger="ckafka", request_id="", ledger=ledger, requests=RequestCounts(), dedupe="off", duration_ms=0
    )


def test_an_event_with_only_filtered_points_is_ok_and_logged_as_info() -> None:
    ledger = Ledger()
    for line in range(3):
        ledger.receive_filtered("body", f"line {line}", "text", "a text field has no number")
    report = made(ledger)
    assert (report["status"], report["received"], report["outcomes"]["filtered"]) == ("ok", 3, 3)
    assert (report["errors"], report["errorsOmitted"]) == ([], 0)
    assert loss_level(report, is_spooling=False, is_redelivered=False) == "INFO"
    assert http_status(report) == 200
    assert return_code(report) == ReturnCode.OK


def test_each_reason_for_filtering_is_reported_once_with_the_first_point_and_a_count() -> None:
    ledger = Ledger()
    ledger.receive_filtered("a", "line 1", "text", "a text field has no number")
    ledger.receive_filtered("b", "line 2", "stale-marker", "the receiver takes no stale markers")
    ledger.receive_filtered("c", "line 3", "text", "a text field has no number")
    assert made(ledger)["filtered"] == [
        {"source": "a", "pointer": "line 1", "rule": "text", "message": "a text field has no number", "count": 2},
        {"source": "b", "pointer": "line 2", "rule": "stale-marker", "message": "the receiver takes no stale markers", "count": 1},
    ]  # fmt: skip


@given(st.lists(st.integers(0, 60)))
def test_the_counts_of_all_reasons_add_up_to_the_filtered_points_however_many_reasons_there_are(
    reasons: list[int],
) -> None:
    ledger = Ledger()
    for reason in reasons:
        ledger.receive_filtered("body", "", "rule", f"rule {reason}")
    report = made(ledger)
    assert sum(each["count"] for each in report["filtered"]) == report["outcomes"]["filtered"] == len(reasons)
    assert len(report["filtered"]) <= MAX_FILTER_REASONS + 1


@given(st.dictionaries(st.sampled_from(list(Outcome)), st.integers(1, 3)))
def test_filtered_points_change_neither_the_status_nor_the_reply(counts: dict[Outcome, int]) -> None:
    def report_of(counts: Mapping[Outcome, int]) -> dict[str, Any]:
        ledger = Ledger()
        for outcome, count in counts.items():
            for _ in range(count):
                ledger.settle(ledger.open(), outcome)
        return made(ledger)

    others: dict[Outcome, int] = {**counts}
    others.pop(Outcome.FILTERED, None)
    if others:
        with_filtered, without = report_of({**others, Outcome.FILTERED: 2}), report_of(others)
        assert with_filtered["status"] == without["status"]
        assert http_status(with_filtered) == http_status(without)
        assert return_code(with_filtered) == return_code(without)


# --- its page -----------------------------------------------------------------------------------------------


def column(heading: str) -> set[str]:
    """The names in the first column of every table of that heading."""
    tables = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert tables, heading
    rows = [row.split("|")[1] for table in tables for row in table.splitlines()]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def literals(call: str, position: int, folder: Path = PACKAGE, name: str = "*.py") -> set[str]:
    """The texts that the code hands to a constructor at that position, as they are or by the name of a constant."""
    found: set[str] = set()
    for path in folder.rglob(name):
        tree = ast.parse(path.read_text("utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or call not in (
                getattr(node.func, "id", ""),
                getattr(node.func, "attr", ""),
            ):
                continue
            given = node.args[position] if len(node.args) > position else None
            given = constants.get(given.id, given) if isinstance(given, ast.Name) else given
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                found.add(given.value)
    return found


# What an answer is counted as, and called.
ANSWERS = {*(fault.value for fault in Fault), *(refusal.label for refusal in REFUSALS)}


def words_of_the_schemas() -> set[str]:
    """The words of JSON Schema that the shipped schemas use, apart from those that only describe."""
    describing = {
        "$schema",
        "$id",
        "$comment",
        "title",
        "description",
        "properties",
        "propertyNames",
        "examples",
    }
    words: set[str] = set()

    def walk(schema: Any) -> None:
        if isinstance(schema, dict):
            words.update(schema)
            named = schema.get("properties", {})
            for member in [*named.values(), schema.get("propertyNames"), schema.get("additionalProperties")]:
                walk(member)

    for path in (PACKAGE / "schemas").glob("*.json"):
        walk(json.loads(path.read_text("utf-8")))
    return words - describing


@pytest.mark.slow
def test_every_rule_that_an_error_can_name_is_on_the_page_and_no_other() -> None:
    own = literals("Violation", 1) | literals("NotJson", 0)
    own |= literals("Problem", 3) | literals("Verdict", 1) | literals("KnownRejection", 0)
    own |= literals("FilteredSample", 1) | (literals("InvalidSample", 1) - {""})
    own |= literals("filter", 2)
    # What the reader of OTLP raises on the way to an InvalidSample.
    own |= literals("Wrong", 1, PACKAGE / "formats", "otlp*.py")
    documented = {rule for rule in column("`rule`") if not rule.startswith("http ")}
    assert documented == own | words_of_the_schemas() | ANSWERS


def test_every_answer_that_is_counted_is_on_the_page() -> None:
    named = {name for name in column("key") if not name[0].isdigit() and not name.startswith("http ")}
    assert named == ANSWERS | literals("Verdict", 1, PACKAGE / "destinations")


def returned(function: str) -> set[str]:
    """The texts that a function of ``report`` returns."""
    tree = ast.parse((PACKAGE / "reporting" / "report.py").read_text("utf-8"))
    (body,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    returns = [node.value for node in ast.walk(body) if isinstance(node, ast.Return) and node.value]
    constants = [node for value in returns for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return {node.value for node in constants if isinstance(node.value, str)}


def test_every_status_and_every_state_of_dedupe_is_on_the_page() -> None:
    assert column("`status`") == returned("status")
    assert column("`dedupe`") == {MemoryStore.status, NoStore.status, "redis", "degraded"}


def test_the_page_names_every_member_of_a_report_and_its_caps() -> None:
    report = make_harness().handle(point())
    members = column("member")
    assert {name.partition(".")[0] for name in members} == set(report)
    assert {name.partition(".")[2] for name in members} - {""} == set(report["requests"])
    assert f"the first {MAX_PROBLEMS} problems" in PAGE
    assert f"at most {MAX_HTTP_BODY_BYTES // 1024} KB" in PAGE

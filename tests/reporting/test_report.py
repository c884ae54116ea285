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

from metric_forwarder.clients.http import Fault
from metric_forwarder.dedupe.store import MemoryStore, NoStore
from metric_forwarder.destinations.remote_write import REFUSALS
from metric_forwarder.model import Outcome
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.reporting.ledger import MAX_PROBLEMS
from metric_forwarder.reporting.replies import MAX_HTTP_BODY_BYTES
from metric_forwarder.reporting.report import loss_level
from support.harness import ROOT, ckafka, make_harness, point

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


def report(trigger: str, outcomes: Mapping[str, int], dedupe: str = "memory") -> dict[str, Any]:
    received = sum(outcomes.values())
    arrived = outcomes.get("delivered", 0) + outcomes.get("duplicate", 0)
    return {
        "status": "ok" if arrived == received else "partial" if arrived else "failed",
        "trigger": trigger,
        "received": received,
        "outcomes": {outcome.value: outcomes.get(outcome.value, 0) for outcome in Outcome},
        "dedupe": dedupe,
        "errors": [],
    }


@given(
    trigger=st.sampled_from(["ckafka", "ckafka+cmq", "timer", "cos", "http", "put-monitor-data", "direct"]),
    outcomes=st.dictionaries(st.sampled_from([outcome.value for outcome in Outcome]), st.integers(0, 2)),
    is_spooling=st.booleans(),
)
def test_a_report_is_an_error_exactly_if_a_point_of_it_is_lost_or_may_be(
    *, trigger: str, outcomes: dict[str, int], is_spooling: bool
) -> None:
    kept = {"delivered", "duplicate", "spooled"}
    kept |= {"invalid", "stale", "rejected"} if is_spooling else set()
    kept |= {"undelivered"} if trigger == "ckafka" else set()
    may_be_lost = any(count for outcome, count in outcomes.items() if outcome not in kept)
    level = loss_level(report(trigger, outcomes), is_spooling=is_spooling)
    assert (level == "ERROR") == may_be_lost


def test_a_report_can_be_written_in_utf_8_whatever_was_sent() -> None:
    half = "\ud800"
    report = make_harness().handle(ckafka({"metricName": half, half: 1}, topic=half))
    assert json.dumps(report["errors"], ensure_ascii=False).encode()
    assert {error["pointer"] for error in report["errors"]} >= {"/metricName", "/\\ud800"}


def test_duplicates_that_may_pass_are_worth_a_warning() -> None:
    assert loss_level(report("timer", {"delivered": 1}), is_spooling=False) == "INFO"
    assert loss_level(report("timer", {"delivered": 1}, "degraded"), is_spooling=False) == "WARN"


# --- its page -----------------------------------------------------------------------------------------------


def column(heading: str) -> set[str]:
    """The names in the first column of every table of that heading."""
    tables = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert tables, heading
    rows = [row.split("|")[1] for table in tables for row in table.splitlines()]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def literals(call: str, position: int, folder: Path = PACKAGE) -> set[str]:
    """The texts that the code hands, as they are, to a constructor at that position."""
    trees = [ast.parse(path.read_text("utf-8")) for path in folder.rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given_there = [
        c.args[position]
        for c in calls
        if isinstance(c.func, ast.Name) and c.func.id == call and len(c.args) > position
    ]
    return {a.value for a in given_there if isinstance(a, ast.Constant) and isinstance(a.value, str)}


# What an answer is counted as, and called.
ANSWERS = {*(fault.value for fault in Fault), *(refusal.label for refusal in REFUSALS)}


def words_of_the_schemas() -> set[str]:
    """The words of JSON Schema that the shipped schemas use, apart from those that only describe."""
    describing = {"$schema", "$id", "title", "description", "properties", "propertyNames", "examples"}
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


def test_every_rule_that_an_error_can_name_is_on_the_page_and_no_other() -> None:
    own = literals("Violation", 1) | literals("NotJson", 0) | literals("_Undecodable", 0)
    own |= literals("Problem", 3) | literals("Verdict", 1)
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
    made = make_harness().handle(point())
    members = column("member")
    assert {name.partition(".")[0] for name in members} == set(made)
    assert {name.partition(".")[2] for name in members} - {""} == set(made["requests"])
    assert f"the first {MAX_PROBLEMS} problems" in PAGE
    assert f"at most {MAX_HTTP_BODY_BYTES // 1024} KB" in PAGE

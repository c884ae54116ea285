"""The statements for CLS, run on lines that the function wrote: DuckDB in the place of CLS's SQL.

DuckDB takes them as they are but for five things: it wants a FROM; ``json_extract_scalar`` is its ``json_extract_string``, and
raises where a line is no JSON, of which CLS makes NULL; ``approx_percentile`` is its ``approx_quantile``; and ``histogram`` of a
time is its ``time_bucket``. The words before the ``|`` are a search of CLS; here a field must hold one of the phrases.
A line is kept in each form that Tencent Cloud's documents leave open: as SCF_Message, as its members, and as both.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.fakes import START
from support.harness import ROOT, Harness, ckafka, make_harness, point

ALARMS = {
    alarm["name"]: alarm
    for alarm in json.loads((ROOT / "deploy/alerts/cls.json").read_text("utf-8"))["alarms"]
}
CHARTS = json.loads((ROOT / "deploy/dashboards/cls.json").read_text("utf-8"))["charts"]
INDEX = json.loads((ROOT / "deploy/alerts/cls.json").read_text("utf-8"))["index"]
COLUMNS = [field["Key"] for field in INDEX["KeyValue"]["KeyValues"]]
FORMS = ("as a message", "as fields", "as both")
PLATFORM = (
    "START RequestId: 1bf3",
    "END RequestId: 1bf3",
    "Report RequestId: 1bf3 Duration:41ms {not JSON}",
    "",
)
MACROS = """
create macro json_extract_scalar(text, path) as
  case when json_valid(text) then json_extract_string(text, path) end;
create macro approx_percentile(value, share) as approx_quantile(value, share);
"""


def kept(line: str, form: str) -> dict[str, str]:
    """The fields of a line in CLS."""
    if form == "as a message" or not line.startswith("{"):
        return {"SCF_Message": line}
    members = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in json.loads(line).items()
    }
    return {"SCF_Message": line, **members} if form == "as both" else members


def is_found(search: str, fields: dict[str, str]) -> bool:
    clauses = [re.fullmatch(r'(\w+):"(.*)"', clause) for clause in search.split(" OR ")]
    return any(
        clause[2].replace('\\"', '"') in fields.get(clause[1], "") for clause in clauses if clause is not None
    )


def ask(statement: str, lines: Sequence[str], form: str) -> list[dict[str, Any]]:
    """The rows of a statement's result, for log lines that were written a second apart."""
    search, _, sql = statement.partition(" | ")
    found = [
        (round((START + second) * 1000), *map(fields.get, COLUMNS))
        for second, fields in enumerate(kept(line, form) for line in lines)
        if is_found(search, fields)
    ]
    database = duckdb.connect()
    database.execute(MACROS)
    columns = ", ".join(f"{name} varchar" for name in COLUMNS)
    database.execute(f"create table log (__TIMESTAMP__ bigint, {columns})")
    if found:
        database.executemany(f"insert into log values (?{', ?' * len(COLUMNS)})", found)  # noqa: S608 - question marks
    sql = re.sub(
        r"histogram\(__TIMESTAMP__, interval (\d+ \w+)\)",
        r"time_bucket(interval '\1', make_timestamp(__TIMESTAMP__ * 1000))",
        sql,
    )
    head, between, tail = re.split(r"( where | group by |$)", sql, maxsplit=1)
    result = database.execute(f"{head} from log{between}{tail}")
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def fires(alarm: dict[str, Any], lines: Sequence[str], form: str) -> bool:
    """Whether the condition of an alarm holds for its statement's result."""
    (row,) = ask(alarm["statement"], lines, form)
    name, comparison, limit = re.fullmatch(r"\$1\.(\w+) (>|>=|=) ([\d.]+)", alarm["condition"]).groups()  # type: ignore[union-attr]
    value = row[name]
    if value is None:
        return False
    return bool(
        {">": value > float(limit), ">=": value >= float(limit), "=": value == float(limit)}[comparison]
    )


def good(harness: Harness, first_offset: int = 0) -> None:
    harness.handle(ckafka(point(1), point(2, metric="other"), first_offset=first_offset))


@pytest.fixture
def healthy(capsys: pytest.CaptureFixture[str]) -> list[str]:
    harness = make_harness()
    for number in range(20):
        good(harness, 2 * number)
    return [*PLATFORM, *capsys.readouterr().out.splitlines()]


def bad_points(_: Path) -> None:
    make_harness().handle(ckafka(point(), point("12")))


def refused(_: Path) -> None:
    harness = make_harness()
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    harness.handle(ckafka(point()))


def retried(_: Path) -> None:
    harness = make_harness()
    for number in range(8):
        harness.receiver.script.append(ReturnCode.INTERNAL_FAILURE)
        good(harness, 2 * number)


def slow(_: Path) -> None:
    harness = make_harness()
    harness.receiver.latency_s = 31
    for number in range(5):
        good(harness, 2 * number)


def spooled(folder: Path) -> None:
    harness = make_harness(SPOOL=folder.as_uri())
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    harness.handle(ckafka(point()))


def full(folder: Path) -> None:
    with (folder / "left-over").open("wb") as file:
        file.truncate(256 * 2**20)
    spooled(folder)


def without_redis(_: Path) -> None:
    good(make_harness(DEDUPE="redis://127.0.0.1:1"))


def wrong_settings(_: Path) -> None:
    with pytest.raises(Exception, match="MF_CONCURRENCY"):
        make_harness(CONCURRENCY="many").handle(ckafka(point()))


FAULTS = {
    "MetricForwarderPointsLost": bad_points,
    "MetricForwarderUndelivered": refused,
    "MetricForwarderRequestsFailing": retried,
    "MetricForwarderSlowEvents": slow,
    "MetricForwarderSpoolOld": spooled,
    "MetricForwarderSpoolFull": full,
    "MetricForwarderDedupeDegraded": without_redis,
    "MetricForwarderErrors": wrong_settings,
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_alarm_of_cls_is_fired_by_its_fault_and_not_by_healthy_traffic(
    name: str, healthy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FAULTS[name](tmp_path)
    lines = [*healthy, *capsys.readouterr().out.splitlines()]
    for form in FORMS:
        assert not fires(ALARMS[name], healthy, form)
        assert fires(ALARMS[name], lines, form), form


@pytest.mark.parametrize("form", FORMS)
def test_the_alarm_of_silence_is_fired_by_lines_without_a_report(healthy: list[str], form: str) -> None:
    alarm = ALARMS["MetricForwarderSilent"]
    assert not fires(alarm, healthy, form)
    assert fires(alarm, PLATFORM, form)
    assert fires(alarm, [], form)


def test_every_alarm_of_cls_has_a_fault() -> None:
    assert FAULTS.keys() | {"MetricForwarderSilent"} == ALARMS.keys()


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart["title"])
def test_every_chart_of_cls_returns_data(
    chart: dict[str, Any], healthy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_points(tmp_path)
    lines = [*healthy, *capsys.readouterr().out.splitlines()]
    for form in FORMS:
        rows = ask(chart["statement"], lines, form)
        assert rows, form
        assert all(value is not None for row in rows for value in row.values()), form


@pytest.mark.parametrize("form", FORMS)
def test_the_chart_of_outcomes_adds_up_to_what_was_received(healthy: list[str], form: str) -> None:
    (chart,) = (chart for chart in CHARTS if chart["title"] == "Points by outcome")
    rows = ask(chart["statement"], healthy, form)
    counted = sum(value for row in rows for name, value in row.items() if name != "minute")
    reports = [json.loads(line) for line in healthy if '"event":"report"' in line]
    assert counted == sum(report["received"] for report in reports) == 40

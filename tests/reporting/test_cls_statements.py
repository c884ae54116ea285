"""The statements for CLS, run on lines that the function wrote: DuckDB in the place of CLS's SQL.

DuckDB takes them as they are but for five things: it wants a FROM; ``json_extract_scalar`` is its ``json_extract_string``, and
raises where a line is no JSON, of which CLS makes NULL; ``approx_percentile`` is its ``approx_quantile``; and ``histogram`` of a
time is its ``time_bucket``. The words before the ``|`` are a search of CLS; here a line must hold the phrase.
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


def ask(statement: str, lines: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a statement's result, for log lines that were written a second apart."""
    search, _, sql = statement.partition(" | ")
    field, phrase = re.fullmatch(r'(\w+):"(.*)"', search).groups()  # type: ignore[union-attr]
    assert field == "SCF_Message"
    wanted = phrase.replace('\\"', '"')
    found = [(round((START + second) * 1000), line) for second, line in enumerate(lines) if wanted in line]
    database = duckdb.connect()
    database.execute(MACROS)
    database.execute("create table log (__TIMESTAMP__ bigint, SCF_Message varchar)")
    if found:
        database.executemany("insert into log values (?, ?)", found)
    sql = re.sub(
        r"histogram\(__TIMESTAMP__, interval (\d+ \w+)\)",
        r"time_bucket(interval '\1', make_timestamp(__TIMESTAMP__ * 1000))",
        sql,
    )
    head, between, tail = re.split(r"( where | group by |$)", sql, maxsplit=1)
    result = database.execute(f"{head} from log{between}{tail}")
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def fires(alarm: dict[str, Any], lines: Sequence[str]) -> bool:
    """Whether the condition of an alarm holds for its statement's result."""
    (row,) = ask(alarm["statement"], lines)
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
    assert not fires(ALARMS[name], healthy)
    FAULTS[name](tmp_path)
    assert fires(ALARMS[name], [*healthy, *capsys.readouterr().out.splitlines()])


def test_the_alarm_of_silence_is_fired_by_lines_without_a_report(healthy: list[str]) -> None:
    alarm = ALARMS["MetricForwarderSilent"]
    assert not fires(alarm, healthy)
    assert fires(alarm, PLATFORM)
    assert fires(alarm, [])


def test_every_alarm_of_cls_has_a_fault() -> None:
    assert FAULTS.keys() | {"MetricForwarderSilent"} == ALARMS.keys()


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart["title"])
def test_every_chart_of_cls_returns_data(
    chart: dict[str, Any], healthy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_points(tmp_path)
    rows = ask(chart["statement"], [*healthy, *capsys.readouterr().out.splitlines()])
    assert rows
    assert all(value is not None for row in rows for value in row.values())


def test_the_chart_of_outcomes_adds_up_to_what_was_received(healthy: list[str]) -> None:
    (chart,) = (chart for chart in CHARTS if chart["title"] == "Points by outcome")
    rows = ask(chart["statement"], healthy)
    counted = sum(value for row in rows for name, value in row.items() if name != "minute")
    reports = [json.loads(line) for line in healthy if '"event":"report"' in line]
    assert counted == sum(report["received"] for report in reports) == 40

"""The table of alarms, from which ``observability.py`` writes the rules of Prometheus and the statements of CLS.

docs/operate.md has a runbook for each row, under its title. Tests compare the two, and fire every alarm by its fault.
"""

import re
from typing import NamedTuple

from metric_forwarder.reporting import self_metrics as own

# Thresholds. The runbooks name them too.
SLOWEST_LAG_S = 300
SLOWEST_EVENT_S = 30
FAILED_SHARE = 0.1
LONGEST_IN_SPOOL_S = 900
# Four fifths of the 256 MB that a spool holds unless its setting says otherwise.
FULL_SPOOL_BYTES = 214_748_364
MOST_COLD_STARTS = 30
SILENT_AFTER_MIN = 15

# Replies with which a destination accepts a request.
GOOD_ANSWERS = "0|http 20[0-4]|written"

_BY = "by (namespace, function)"

# The members of a line that statements read. By SCF's document CLS keeps them as fields, nested ones as JSON text; whether the
# field of the whole line, SCF_Message, is then empty is not known, so each statement reads both.
FIELDS = (
    "level",
    "event",
    "message",
    "trigger",
    "received",
    "outcomes",
    "requests",
    "dedupe",
    "durationMs",
    "errors",
)


def having(name: str, value: str) -> str:
    """Return the search of CLS for lines that have a member with this value."""
    return f'SCF_Message:"\\"{name}\\":\\"{value}\\"" OR {name}:"{value}"'


REPORTS = having("event", "report")
ERRORS = having("level", "ERROR")


def text(path: str) -> str:
    """Return the expression of CLS for a member of a line, such as ``outcomes.undelivered``, as text."""
    name, rest = re.findall(r"^(\w+)(.*)", path)[0]
    field = f"json_extract_scalar({name}, '${rest}')" if rest else name
    return f"coalesce(json_extract_scalar(SCF_Message, '$.{path}'), {field})"


def member(path: str) -> str:
    """Return the expression of CLS for a member of the report that is a whole number."""
    return f"cast({text(path)} as bigint)"


class ClsAlarm(NamedTuple):
    """An alarm in CLS: a statement that runs at intervals, and a condition on its result.

    Attributes:
        search: selects the log lines.
        sql: computes a value from them.
        condition: the alarm fires if it holds; as in the console, ``$1`` is the first statement.
        window_min: the minutes of log that the statement reads, and the minutes between two runs.
        times: the number of runs in a row for which the condition must hold.
    """

    search: str
    sql: str
    condition: str
    window_min: int = 5
    times: int = 1


class Alarm(NamedTuple):
    """One alarm.

    Attributes:
        name: the name of the rule in Prometheus.
        title: in English; the heading of its runbook.
        title_zh: in Chinese.
        severity: ``critical`` if points are lost or may be lost, ``warning`` otherwise.
        expression: PromQL; empty if the alarm exists only in CLS.
        lasts: how long the expression must be true, such as ``10m``.
        cls: the same alarm in CLS; None if the log does not show it.
    """

    name: str
    title: str
    title_zh: str
    severity: str
    expression: str
    lasts: str
    cls: ClsAlarm | None = None

    @property
    def anchor(self) -> str:
        """The anchor of its runbook's heading."""
        return self.title.lower().replace(" ", "-")


_SUM_OF_BAD = " + ".join(member(f"outcomes.{name}") for name in ("invalid", "stale", "rejected", "uncertain"))

ALARMS = (
    Alarm(
        "MetricForwarderPointsLost",
        "Points that will not arrive",
        "有数据点不会送达",
        "critical",
        f'sum {_BY} (increase({own.POINTS.name}{{outcome=~"invalid|stale|rejected|uncertain"}}[10m])) > 0',
        "0m",
        ClsAlarm(REPORTS, f"select sum({_SUM_OF_BAD}) as points", "$1.points > 0"),
    ),
    Alarm(
        "MetricForwarderUndelivered",
        "Points that stay undelivered",
        "数据点持续无法上报",
        "critical",
        f'sum {_BY} (increase({own.POINTS.name}{{outcome="undelivered"}}[5m])) > 0',
        "10m",
        ClsAlarm(
            REPORTS, f"select sum({member('outcomes.undelivered')}) as points", "$1.points > 0", times=2
        ),
    ),
    Alarm(
        "MetricForwarderRequestsFailing",
        "Requests that the destination refuses",
        "目的地拒绝请求",
        "warning",
        f'sum {_BY} (rate({own.REQUESTS.name}{{answer!~"{GOOD_ANSWERS}"}}[10m])) '
        f"/ sum {_BY} (rate({own.REQUESTS.name}[10m])) > {FAILED_SHARE}",
        "10m",
        ClsAlarm(
            REPORTS,
            f"select cast(sum({member('requests.retried')}) as double) / nullif(sum({member('requests.sent')}), 0) "
            "as share",
            f"$1.share > {FAILED_SHARE}",
            times=2,
        ),
    ),
    Alarm(
        "MetricForwarderLag",
        "Points that arrive late",
        "数据点送达过晚",
        "warning",
        f"histogram_quantile(0.95, sum by (namespace, function, le) (rate({own.POINT_AGE.name}_bucket[10m]))) "
        f"> {SLOWEST_LAG_S}",
        "5m",
    ),
    Alarm(
        "MetricForwarderSlowEvents",
        "Events that take long",
        "事件处理时间过长",
        "warning",
        f"histogram_quantile(0.95, sum by (namespace, function, le) (rate({own.EVENT_SECONDS.name}_bucket[10m]))) "
        f">= {SLOWEST_EVENT_S}",
        "5m",
        ClsAlarm(
            REPORTS,
            f"select approx_percentile({member('durationMs')}, 0.95) as ms",
            f"$1.ms >= {SLOWEST_EVENT_S * 1000}",
            times=2,
        ),
    ),
    Alarm(
        "MetricForwarderSpoolOld",
        "Points that stay in the spool",
        "数据点长时间滞留在暂存区",
        "warning",
        f"max {_BY} ({own.SPOOL_OLDEST.name}) > {LONGEST_IN_SPOOL_S}",
        "5m",
        ClsAlarm(REPORTS, f"select sum({member('outcomes.spooled')}) as points", "$1.points > 0", times=3),
    ),
    Alarm(
        "MetricForwarderSpoolFull",
        "A spool that is almost full",
        "暂存区即将写满",
        "critical",
        f"max {_BY} ({own.SPOOL_BYTES.name}) > {FULL_SPOOL_BYTES}",
        "0m",
        ClsAlarm(
            'SCF_Message:"the spool is full" OR message:"the spool is full"',
            "select count(*) as lines",
            "$1.lines > 0",
        ),
    ),
    Alarm(
        "MetricForwarderDeadLetters",
        "Dead letters that wait",
        "有死信等待处理",
        "warning",
        f"max {_BY} ({own.DEAD_LETTERS.name}) > 0",
        "30m",
    ),
    Alarm(
        "MetricForwarderDedupeDegraded",
        "Deduplication without Redis",
        "去重未使用 Redis",
        "warning",
        f"max {_BY} ({own.DEGRADED.name}) == 1",
        "10m",
        ClsAlarm(
            REPORTS,
            f"select count_if({text('dedupe')} = 'degraded') as events",
            "$1.events > 0",
            times=2,
        ),
    ),
    Alarm(
        "MetricForwarderColdStarts",
        "Instances that start again and again",
        "实例反复冷启动",
        "warning",
        f"sum {_BY} (increase({own.COLD_STARTS.name}[10m])) > {MOST_COLD_STARTS}",
        "0m",
    ),
    Alarm(
        "MetricForwarderSilent",
        "A function that is silent",
        "函数没有任何动静",
        "critical",
        f"count {_BY} (last_over_time({own.BUILD_INFO.name}[1d])) "
        f"unless count {_BY} (last_over_time({own.BUILD_INFO.name}[{SILENT_AFTER_MIN}m]))",
        "0m",
        ClsAlarm(REPORTS, "select count(*) as reports", "$1.reports = 0", window_min=SILENT_AFTER_MIN),
    ),
    Alarm(
        "MetricForwarderErrors",
        "Lines that say ERROR",
        "日志中出现 ERROR",
        "critical",
        "",
        "0m",
        ClsAlarm(ERRORS, "select count(*) as lines", "$1.lines > 0"),
    ),
)
"""In the order of docs/operate.md."""

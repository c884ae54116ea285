"""The tables of the dashboards: one row for each panel in Grafana, which reads a Prometheus, and for each chart in CLS."""

# ruff: noqa: RUF001 - the punctuation of Chinese

from typing import NamedTuple

from alarms import GOOD_ANSWERS, REPORTS, having, member, text
from metric_forwarder.model import Outcome
from metric_forwarder.reporting import self_metrics as own
from metric_forwarder.reporting.log import LEVELS

_WHERE = 'namespace=~"$namespace",function=~"$function"'
_RATE = "$__rate_interval"


class Query(NamedTuple):
    """A PromQL query of a panel, and the pattern for the names of its series."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One panel of the Grafana dashboard.

    Attributes:
        title: in English.
        title_zh: in Chinese.
        unit: the unit of its values, as Grafana names it.
        queries: the series that it shows.
        kind: ``timeseries`` or ``stat``.
        width: in columns; a row has 24.
    """

    title: str
    title_zh: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 12


def _rate(family: own.Family, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({family.name}{{{_WHERE}{where}}}[{_RATE}]))"


def _quantile(share: float, family: own.Family) -> Query:
    buckets = f"sum by (le) (rate({family.name}_bucket{{{_WHERE}}}[{_RATE}]))"
    return Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}")


def _gauge(family: own.Family) -> Query:
    return Query(f"max by (namespace, function) ({family.name}{{{_WHERE}}})", "{{namespace}}/{{function}}")


def _quantiles(family: own.Family) -> tuple[Query, ...]:
    return tuple(_quantile(share, family) for share in (0.5, 0.95, 0.99))


_ARRIVED = f'sum(increase({own.POINTS.name}{{{_WHERE},outcome=~"delivered|duplicate"}}[$__range]))'
_EXPECTED = f'sum(increase({own.POINTS.name}{{{_WHERE},outcome!="filtered"}}[$__range]))'

PANELS = (
    Panel("Points received", "收到的数据点", "short", (Query(f"sum(increase({own.POINTS.name}{{{_WHERE}}}[$__range]))", ""),), "stat", 6),
    Panel("Share that arrived", "送达比例", "percentunit", (Query(f"{_ARRIVED} / {_EXPECTED}", ""),), "stat", 6),
    Panel("Warm instances", "热实例数", "short", (Query(f"count({own.BUILD_INFO.name}{{{_WHERE}}})", ""),), "stat", 6),
    Panel("Version", "版本", "short", (Query(f"count by (version) ({own.BUILD_INFO.name}{{{_WHERE}}})", "{{version}}"),), "stat", 6),
    Panel("Points a second, by outcome", "每秒数据点（按结果）", "cps", (Query(_rate(own.POINTS, "outcome"), "{{outcome}}"),)),
    Panel("Points a second, by trigger and format", "每秒数据点（按触发器和格式）", "cps", (Query(_rate(own.POINTS, "trigger, format"), "{{trigger}} {{format}}"),)),
    Panel("End-to-end lag", "端到端延迟", "s", _quantiles(own.POINT_AGE)),
    Panel("Answers of the destination", "目的地的应答", "reqps", (Query(_rate(own.REQUESTS, "answer"), "{{answer}}"),)),
    Panel("Share of requests that were refused", "被拒绝的请求比例", "percentunit", (
        Query(f'(sum(rate({own.REQUESTS.name}{{{_WHERE},answer!~"{GOOD_ANSWERS}"}}[{_RATE}])) or vector(0)) / sum(rate({own.REQUESTS.name}{{{_WHERE}}}[{_RATE}]))', ""),)),
    Panel("Time of a request", "请求耗时", "s", _quantiles(own.REQUEST_SECONDS)),
    Panel("Time of an event", "事件耗时", "s", _quantiles(own.EVENT_SECONDS)),
    Panel("Instances and cold starts", "实例与冷启动", "short", (
        Query(f"count by (namespace, function) ({own.BUILD_INFO.name}{{{_WHERE}}})", "{{namespace}}/{{function}}"),
        Query(f"sum(increase({own.COLD_STARTS.name}{{{_WHERE}}}[{_RATE}]))", "cold starts"))),
    Panel("Bytes in the spool", "暂存区大小", "bytes", (_gauge(own.SPOOL_BYTES),), width=8),
    Panel("Oldest point in the spool", "暂存区中最早的数据点", "s", (_gauge(own.SPOOL_OLDEST),), width=8),
    Panel("Dead letters", "死信", "short", (_gauge(own.DEAD_LETTERS),), width=8),
    Panel("Deduplication without Redis", "去重未使用 Redis", "bool", (_gauge(own.DEGRADED),), width=24),
)  # fmt: skip


class Chart(NamedTuple):
    """One chart of the CLS dashboard.

    Attributes:
        title: in English.
        title_zh: in Chinese.
        search: selects the log lines.
        sql: computes the values from them.
        kind: the kind of chart in CLS.
    """

    title: str
    title_zh: str
    search: str
    sql: str
    kind: str = "line"


_MINUTE = "histogram(__TIMESTAMP__, interval 1 minute) as minute"
_OF_EACH = "group by minute order by minute limit 1000"
_OUTCOMES = ", ".join(f"sum({member(f'outcomes.{each.value}')}) as {each.value}" for each in Outcome)

CHARTS = (
    Chart("Points by outcome", "数据点（按结果）", REPORTS, f"select {_MINUTE}, {_OUTCOMES} {_OF_EACH}"),
    Chart(
        "Points by trigger",
        "数据点（按触发器）",
        REPORTS,
        f"select {text('trigger')} as source, sum({member('received')}) as points "
        "group by source order by points desc limit 100",
        "bar",
    ),
    Chart(
        "Requests",
        "请求",
        REPORTS,
        f"select {_MINUTE}, sum({member('requests.sent')}) as sent, sum({member('requests.retried')}) as retried {_OF_EACH}",
    ),
    Chart(
        "Time of an event",
        "事件耗时",
        REPORTS,
        f"select {_MINUTE}, approx_percentile({member('durationMs')}, 0.5) as p50_ms, "
        f"approx_percentile({member('durationMs')}, 0.95) as p95_ms {_OF_EACH}",
    ),
    Chart(
        "First reasons",
        "首要原因",
        REPORTS,
        f"select {text('errors[0].outcome')} as outcome, {text('errors[0].rule')} as rule, count(*) as events "
        f"where {text('errors[0].rule')} is not null "
        "group by outcome, rule order by events desc limit 100",
        "table",
    ),
    Chart(
        "Lines by level",
        "日志级别",
        " OR ".join(having("level", level) for level in LEVELS),
        f"select {text('level')} as severity, count(*) as lines "
        "group by severity order by lines desc limit 10",
        "pie",
    ),
)

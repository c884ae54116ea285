"""Write deploy/dashboards and deploy/alerts from the tables in ``alarms`` and ``panels``.

``python tools/observability.py`` writes them in place. With ``--docs URL`` the rules link to the runbooks at that address.
"""

# ruff: noqa: RUF001 - the punctuation of Chinese

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from alarms import ALARMS, FIELDS, Alarm  # noqa: E402
from metric_forwarder.reporting import self_metrics as own  # noqa: E402
from panels import CHARTS, PANELS, Panel  # noqa: E402

DOCS = "docs/operate.md"
_PANEL_HEIGHT = 8
_STAT_HEIGHT = 4
_COLUMNS = 24
# The characters at which CLS splits text into words: all that JSON contains, except letters, digits, "_" and "-".
_TOKENIZER = "@&?|#()='\",;:<>[]{}/ \n\t\r\\"


def files(docs: str = DOCS) -> dict[str, str]:
    """Return every generated file: its path in the project → its text."""
    return {
        "deploy/dashboards/grafana.json": _json(grafana(chinese=False)),
        "deploy/dashboards/grafana.zh-CN.json": _json(grafana(chinese=True)),
        "deploy/dashboards/cls.json": _json(cls_dashboard()),
        "deploy/alerts/prometheus.yml": prometheus_rules(docs),
        "deploy/alerts/cls.json": _json(cls_alarms(docs)),
    }


def prometheus_rules(docs: str) -> str:
    """Return the rule file of Prometheus."""
    # A JSON string is also a YAML string.
    lines = ["# Written by tools/observability.py: change tools/alarms.py.", "groups:", "  - name: metric-forwarder", "    rules:"]  # fmt: skip
    for alarm in ALARMS:
        if not alarm.expression:
            continue
        place = "{{ $labels.namespace }}/{{ $labels.function }}"
        summary, summary_zh = f"{alarm.title}: {place}", f"{alarm.title_zh}：{place}"
        lines += [
            f"      - alert: {alarm.name}",
            f"        expr: {json.dumps(alarm.expression)}",
            f"        for: {alarm.lasts}",
            f"        labels: {{severity: {alarm.severity}}}",
            "        annotations:",
            f"          summary: {json.dumps(summary)}",
            f"          summary_zh: {json.dumps(summary_zh, ensure_ascii=False)}",
            f"          runbook_url: {json.dumps(_runbook(alarm, docs))}",
        ]
    return "\n".join(lines) + "\n"


def cls_alarms(docs: str) -> dict[str, Any]:
    """Return the fields of each alarm in the console of CLS, and the index that the statements need."""
    return {"index": cls_index(), "alarms": list(_cls_alarms(docs))}


def _cls_alarms(docs: str) -> Iterator[dict[str, Any]]:
    for alarm in ALARMS:
        if alarm.cls is not None:
            yield {
                "name": alarm.name,
                "title": alarm.title,
                "title_zh": alarm.title_zh,
                "severity": alarm.severity,
                "statement": f"{alarm.cls.search} | {alarm.cls.sql}",
                "condition": alarm.cls.condition,
                "windowMinutes": alarm.cls.window_min,
                "periodMinutes": alarm.cls.window_min,
                "timesInARow": alarm.cls.times,
                "runbook": _runbook(alarm, docs),
            }


def cls_index() -> dict[str, Any]:
    """Return the rule of the log topic's index, in the form of CLS's API ``ModifyIndex``."""
    text = {"Type": "text", "Tokenizer": _TOKENIZER, "SqlFlag": True, "ContainZH": True}
    names = ("SCF_Message", "SCF_FunctionName", "SCF_Namespace", "SCF_RequestId", *FIELDS)
    return {
        "FullText": {"CaseSensitive": False, "Tokenizer": _TOKENIZER, "ContainZH": True},
        "KeyValue": {
            "CaseSensitive": True,
            "KeyValues": [{"Key": name, "Value": text} for name in names],
        },
    }


def cls_dashboard() -> dict[str, Any]:
    """Return the statements for the charts of a CLS dashboard."""
    return {
        "index": cls_index(),
        "charts": [
            {
                "title": chart.title,
                "title_zh": chart.title_zh,
                "kind": chart.kind,
                "statement": f"{chart.search} | {chart.sql}",
            }
            for chart in CHARTS
        ],
    }


def grafana(*, chinese: bool) -> dict[str, Any]:
    """Return the dashboard for an import in Grafana, which then asks for the Prometheus data source."""
    names = {"namespace": "命名空间", "function": "函数"} if chinese else {}
    return {
        "__inputs": [
            {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}
        ],
        "title": "指标转发器" if chinese else "Metric forwarder",
        "uid": "metric-forwarder-zh" if chinese else "metric-forwarder",
        "tags": ["metric-forwarder"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [_variable(name, names.get(name, name)) for name in ("namespace", "function")]
        },
        "panels": list(_placed(chinese=chinese)),
    }


def _variable(name: str, label: str) -> dict[str, Any]:
    within = '{namespace=~"$namespace"}' if name == "function" else ""
    query = f"label_values({own.COLD_STARTS.name}{within}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed(*, chinese: bool) -> Iterator[dict[str, Any]]:
    """Yield the panels from left to right, row by row."""
    x = y = 0
    for number, panel in enumerate(PANELS, 1):
        height = _STAT_HEIGHT if panel.kind == "stat" else _PANEL_HEIGHT
        yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height}, chinese=chinese)
        x += panel.width
        if x >= _COLUMNS:
            x, y = 0, y + height


def _panel(panel: Panel, number: int, place: dict[str, int], *, chinese: bool) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title_zh if chinese else panel.title,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


_SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


def _runbook(alarm: Alarm, docs: str) -> str:
    return f"{docs}#{alarm.anchor}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write deploy/dashboards and deploy/alerts.")
    parser.add_argument(
        "--docs", default=DOCS, help="the address of docs/operate.md, to which the rules link"
    )
    for path, text in files(parser.parse_args().docs).items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

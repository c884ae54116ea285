"""Dashboards, alert rules, runbooks and the forwarder's own metrics: one set of names, of thresholds and of links."""

import json
import re
from typing import Any

import pytest
import yaml

import alarms
import observability
from metric_forwarder.reporting.self_metrics import FAMILIES
from panels import PANELS
from support.harness import ROOT

PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")
RULES = {rule["alert"]: rule for rule in yaml.safe_load((ROOT / "deploy/alerts/prometheus.yml").read_text("utf-8"))["groups"][0]["rules"]}  # fmt: skip
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def test_the_files_are_those_that_the_tables_make() -> None:
    for path, text in observability.files().items():
        assert (ROOT / path).read_text("utf-8") == text, f"run python tools/observability.py: {path}"


def test_every_alarm_has_a_runbook_under_its_title_and_there_is_no_other() -> None:
    part = PAGE.partition("\n## Runbooks\n")[2].partition("\n## ")[0]
    runbooks = dict(re.findall(r"^### (.+)\n\n`(\w+)`", part, re.MULTILINE))
    assert runbooks == {alarm.title: alarm.name for alarm in alarms.ALARMS}


@pytest.mark.parametrize("alarm", alarms.ALARMS, ids=lambda alarm: alarm.name)
def test_a_rule_links_to_its_runbook_and_says_what_is_wrong_in_both_languages(alarm: alarms.Alarm) -> None:
    assert f"\n### {alarm.title}\n" in PAGE
    if alarm.expression:
        notes = RULES[alarm.name]["annotations"]
        assert notes["runbook_url"] == f"docs/operate.md#{alarm.title.lower().replace(' ', '-')}"
        assert alarm.title in notes["summary"]
        assert alarm.title_zh in notes["summary_zh"]
        assert "{{ $labels.function }}" in notes["summary"]


def test_links_to_the_runbooks_can_lead_to_any_address() -> None:
    rules = observability.files("https://example.com/operate.md")["deploy/alerts/prometheus.yml"]
    assert rules.count('"https://example.com/operate.md#') == len(RULES)


@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        ("MetricForwarderRequestsFailing", f"{alarms.FAILED_SHARE * 100:g} %"),
        ("MetricForwarderLag", f"{alarms.SLOWEST_LAG_S} s"),
        ("MetricForwarderSlowEvents", f"{alarms.SLOWEST_EVENT_S} s"),
        ("MetricForwarderSpoolOld", f"{alarms.LONGEST_IN_SPOOL_S // 60} minutes"),
        ("MetricForwarderSpoolFull", f"{alarms.FULL_SPOOL_BYTES:,} bytes"),
        ("MetricForwarderColdStarts", f"{alarms.MOST_COLD_STARTS} cold starts"),
        ("MetricForwarderSilent", f"{alarms.SILENT_AFTER_MIN} minutes"),
    ],
)
def test_a_runbook_names_the_threshold_of_its_rule(name: str, threshold: str) -> None:
    assert threshold in PAGE.partition(f"\n\n`{name}`")[2].partition("\n### ")[0]


def test_the_table_of_own_metrics_names_every_one_with_its_type() -> None:
    part = PAGE.partition("### The forwarder's own metrics")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)(?:\{[\w,]+\})?` \| (\w+) \|", part, re.MULTILINE))
    assert told == {family.name: family.kind for family in FAMILIES}


def test_dashboards_and_rules_ask_only_for_metrics_that_exist() -> None:
    known = {family.name + suffix for family in FAMILIES for suffix in _SUFFIXES[family.kind]}
    asked = [query.expression for panel in PANELS for query in panel.queries]
    asked += [alarm.expression for alarm in alarms.ALARMS]
    named = set(re.findall(r"metric_forwarder_\w+", " ".join(asked)))
    assert named <= known
    assert {family.name for family in FAMILIES} <= {name.removesuffix("_bucket") for name in named}


def test_both_dashboards_show_the_same_in_two_languages() -> None:
    english, chinese = (observability.grafana(chinese=chinese) for chinese in (False, True))

    def without_titles(board: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**panel, "title": ""} for panel in board["panels"]]

    assert without_titles(english) == without_titles(chinese)
    assert all(panel["title"].isascii() for panel in english["panels"])
    assert not any(panel["title"].isascii() for panel in chinese["panels"])
    assert [each["name"] for each in english["templating"]["list"]] == ["namespace", "function"]
    assert all(
        'namespace=~"$namespace",function=~"$function"' in target["expr"]
        for panel in english["panels"]
        for target in panel["targets"]
    )


def test_a_statement_of_cls_uses_only_fields_that_its_index_has() -> None:
    told = json.loads((ROOT / "deploy/alerts/cls.json").read_text("utf-8"))
    fields = {each["Key"] for each in told["index"]["KeyValue"]["KeyValues"]}
    charts = json.loads((ROOT / "deploy/dashboards/cls.json").read_text("utf-8"))["charts"]
    for entry in (*told["alarms"], *charts):
        assert set(re.findall(r"SCF_\w+", entry["statement"])) <= fields

"""The rules of Prometheus by its own program: ``for`` holds each back, an ending fault clears it, and the names are right."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import alarms
from metric_forwarder.bootstrap import Application
from metric_forwarder.reporting.exposition import Exposition
from metric_forwarder.reporting.self_metrics import FAMILIES
from support.fakes import FakeClock, InProcessPrometheus
from support.harness import CONTEXT, ROOT, ckafka, point, remote_write_environ, report_of

RULES = ROOT / "deploy" / "alerts" / "prometheus.yml"
_LABELS = {"function": "f", "namespace": "prod", "instance": "a"}


def _series(name: str, **labels: str) -> str:
    named = ",".join(f'{label}="{value}"' for label, value in {**_LABELS, **labels}.items())
    return f"metric_forwarder_{name}{{{named}}}"


class Course(NamedTuple):
    """What the metrics of a function do, a value for each minute, and the minutes at which the alarm must fire or not.

    Attributes:
        series: a series → its values in promtool's notation.
        quiet: minutes at which the alarm does not fire.
        firing: minutes at which it does.
    """

    series: dict[str, str]
    quiet: tuple[int, ...]
    firing: tuple[int, ...]


COURSES = {
    "MetricForwarderPointsLost": Course({_series("points_total", outcome="invalid"): "0x30 1x60"}, (29, 45), (32, 38)),
    "MetricForwarderUndelivered": Course({_series("points_total", outcome="undelivered"): "0x30 1+1x29 30x60"}, (30, 39, 75), (43, 60)),
    "MetricForwarderRequestsFailing": Course(
        {_series("requests_total", answer="http 200"): "0+10x120", _series("requests_total", answer="http 503"): "0x30 2+2x29 60x60"},
        (30, 41, 75), (50, 59)),
    "MetricForwarderLag": Course(
        {_series("point_age_seconds_bucket", le="300"): "0+10x30 300x30 300+10x60", _series("point_age_seconds_bucket", le="600"): "0+10x120", _series("point_age_seconds_bucket", le="+Inf"): "0+10x120"},
        (30, 34, 80), (45, 60)),
    "MetricForwarderSlowEvents": Course(
        {_series("event_seconds_bucket", le="10"): "0+10x30 300x30 300+10x60", _series("event_seconds_bucket", le="30"): "0+10x30 300x30 300+10x60",
         _series("event_seconds_bucket", le="+Inf"): "0+10x120"},
        (30, 34, 80), (45, 60)),
    "MetricForwarderSpoolOld": Course({_series("spool_oldest_seconds"): "0x20 0+60x30 0x40"}, (20, 40, 60), (42, 50)),
    "MetricForwarderSpoolFull": Course({_series("spool_bytes"): f"0x20 {alarms.FULL_SPOOL_BYTES + 1}x20 0x40"}, (20, 50), (22, 40)),
    "MetricForwarderDeadLetters": Course({_series("dead_letters"): "0x20 3x40 0x40"}, (20, 49, 70), (52, 60)),
    "MetricForwarderDedupeDegraded": Course({_series("dedupe_degraded"): "0x20 1x30 0x40"}, (20, 30, 60), (32, 50)),
    "MetricForwarderColdStarts": Course(
        {_series("cold_starts_total", instance=f"i{number}"): "_x20 0 1x40" for number in range(40)}, (19, 45), (24, 28)),
    "MetricForwarderSilent": Course({_series("build_info"): "1x20 _x40 1x20"}, (20, 35, 70), (37, 60)),
}  # fmt: skip


def _run(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is needed: it comes with Debian's package prometheus"
    return subprocess.run([promtool, *words], input=stdin, capture_output=True, text=True, check=False)


def test_there_is_a_course_for_every_rule() -> None:
    assert COURSES.keys() == {alarm.name for alarm in alarms.ALARMS if alarm.expression}


@pytest.mark.parametrize("name", COURSES)
def test_a_rule_fires_after_its_time_and_clears(name: str, tmp_path: Path) -> None:
    course = COURSES[name]
    rules = yaml.safe_load(RULES.read_text("utf-8"))["groups"][0]["rules"]
    (rule,) = (rule for rule in rules if rule["alert"] == name)
    place = {"namespace": "prod", "function": "f"}
    firing = {
        "exp_labels": {**place, **rule["labels"]},
        "exp_annotations": {
            key: text.replace("{{ $labels.namespace }}", "prod").replace("{{ $labels.function }}", "f")
            for key, text in rule["annotations"].items()
        },
    }
    checks = [
        {
            "eval_time": f"{minute}m",
            "alertname": name,
            "exp_alerts": [firing] if minute in course.firing else [],
        }
        for minute in sorted((*course.quiet, *course.firing))
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in course.series.items()],
        "alert_rule_test": checks,
    }
    shutil.copy(RULES, tmp_path / "rules.yml")
    # JSON is YAML.
    (tmp_path / "test.yml").write_text(
        json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]})
    )
    done = _run("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = _run("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_metrics(tmp_path: Path) -> None:
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock)
    settings = remote_write_environ(SELF_METRICS="on", SPOOL=tmp_path.as_uri())
    application = Application(settings, clock, lambda: prometheus)
    report_of(
        application,
        ckafka(point(), "nonsense"),
        context={**CONTEXT, "function_name": "f", "namespace": 'p"\\'},
    )
    assert application.self_metrics is not None
    text = Exposition(clock).text([application.self_metrics])
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        family.name for family in FAMILIES
    }
    done = _run("check", "metrics", stdin=text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

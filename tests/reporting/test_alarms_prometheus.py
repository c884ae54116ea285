"""Every alarm is fired by the fault that it is for, and by no healthy traffic: real rules, a real Prometheus, simulated time.

Prometheus evaluates the expressions of ``deploy/alerts/prometheus.yml`` at the simulated times; ``for`` is applied by
``support.alarm_timeline.fired``, and by promtool in ``test_alarm_rules_prometheus.py``.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import alarms
from panels import PANELS, Panel
from receiver_emulator import Emulator, EmulatorOptions
from support.alarm_timeline import STEP_S, Function, fired
from support.fakes import FakeClock
from support.prometheus_server import PrometheusServer
from support.redis_server import RedisServer

pytestmark = pytest.mark.slow

MINUTE_S = 60
HEALTHY_STEPS = 30
FAULTY_STEPS = 23
CLEAR_STEPS = 23
REPLAY = {"Type": "Timer", "TriggerName": "replay", "Time": "", "Message": '{"replay": true}'}
Do = Callable[[Function], object]


def good_event(function: Function) -> None:
    function.handle(function.point(age_s=2))


class Fault(NamedTuple):
    """What goes wrong with a function, and which alarms that fires.

    Attributes:
        begin: done once when the fault begins.
        step: done at each step while it lasts; without it, what a healthy function does.
        end: done once when it ends.
    """

    alarms: frozenset[str]
    begin: Do = lambda _: None
    step: Do = good_event
    end: Do = lambda _: None


class Evidence(NamedTuple):
    """What the timeline left behind.

    Attributes:
        fault_s: when the faults began, and when they ended, Unix seconds.
        end_s: the last moment.
    """

    prometheus: PrometheusServer
    functions: Mapping[str, Function]
    start_s: float
    fault_s: tuple[float, float]
    end_s: float

    def when(self, expression: str) -> dict[str, list[float]]:
        """Function → when an expression was true for it."""
        found = self.prometheus.evaluate_range(expression, self.start_s, self.end_s, MINUTE_S)
        return {series["metric"]["function"]: [float(at) for at, _ in series["values"]] for series in found}


def _named(*names: str) -> frozenset[str]:
    return frozenset(f"MetricForwarder{name}" for name in names)


def _faults(spools: Path, redis: RedisServer, emulator: Emulator) -> dict[str, Fault]:
    def heal(function: Function) -> None:
        left = [fault for fault in emulator.faults() if fault["match"] != {"namespace": function.name}]
        emulator.clear_faults()
        for fault in left:
            emulator.fault(fault.pop("fault"), fault.pop("value", None), **fault)

    def refuse_once(function: Function) -> None:
        function.refuse("status", 500, times=1)
        good_event(function)

    def start_eight(function: Function) -> None:
        for _ in range(8):
            function.start()
            good_event(function)

    def fill(function: Function) -> None:
        folder = spools / function.name
        folder.mkdir(exist_ok=True)
        with (folder / "left-over").open("wb") as file:
            # It has the size, and takes no room on the disk.
            file.truncate(alarms.FULL_SPOOL_BYTES + 1)

    def discard(function: Function) -> None:
        for file in (spools / function.name).glob("dead-*"):
            file.unlink()

    def heal_and_replay(function: Function) -> None:
        heal(function)
        # An instance that was refused tries again a while later.
        function.start()
        function.invoke(REPLAY)

    def set_latency(seconds: float) -> Do:
        return lambda function: setattr(function.transport, "latency_s", seconds)

    bad_point = {"metricName": "m", "dimensions": {}, "value": "12"}
    return {
        "healthy": Fault(_named()),
        "bad_points": Fault(_named("PointsLost"), step=lambda function: function.handle(function.point(), bad_point)),
        "blocked": Fault(_named("Undelivered", "RequestsFailing"), begin=lambda function: function.refuse("code", 1008), end=heal),
        "flaky": Fault(_named("RequestsFailing"), step=refuse_once),
        "late": Fault(_named("Lag"), step=lambda function: function.handle(function.point(age_s=1000))),
        "slow": Fault(_named("SlowEvents"), begin=set_latency(35), end=set_latency(0)),
        "spooling": Fault(_named("SpoolOld", "RequestsFailing", "Lag"), begin=lambda function: function.refuse("code", 1008), end=heal_and_replay),
        "full": Fault(_named("SpoolFull"), begin=fill, end=lambda function: (spools / function.name / "left-over").unlink()),
        "dead_letters": Fault(_named("DeadLetters", "PointsLost"), begin=lambda function: function.handle(bad_point), end=discard),
        "redis": Fault(_named("DedupeDegraded"), begin=lambda _: redis.stop(), end=lambda _: redis.start()),
        "restarting": Fault(_named("ColdStarts"), step=start_eight),
        "silent": Fault(_named("Silent"), step=lambda _: None),
    }  # fmt: skip


def _settings(name: str, spools: Path, redis: RedisServer) -> dict[str, str]:
    if name in {"spooling", "full", "dead_letters"}:
        return {"SPOOL": (spools / name).as_uri()}
    return {"DEDUPE": redis.url()} if name == "redis" else {}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Evidence, Mapping[str, Fault]]]:
    folder = tmp_path_factory.mktemp("alarms")
    spools = folder / "spools"
    spools.mkdir()
    (folder / "prometheus").mkdir()
    # The clocks of the two are months apart.
    options = EmulatorOptions(clock_tolerance_s=1e9)
    with (
        Emulator(options) as emulator,
        PrometheusServer(folder / "prometheus") as prometheus,
        RedisServer(folder) as redis,
    ):
        clock = FakeClock()
        faults = _faults(spools, redis, emulator)
        functions = {
            name: Function(name, clock, emulator, prometheus.url, **_settings(name, spools, redis))
            for name in faults
        }

        def steps(count: int, act: Callable[[str], Do]) -> None:
            for _ in range(count):
                for name, function in functions.items():
                    act(name)(function)
                clock.sleep(STEP_S)

        start_s = clock.time()
        steps(HEALTHY_STEPS, lambda _: good_event)
        fault_start_s = clock.time()
        for name, fault in faults.items():
            fault.begin(functions[name])
        steps(FAULTY_STEPS, lambda name: faults[name].step)
        fault_end_s = clock.time()
        for name, fault in faults.items():
            fault.end(functions[name])
        steps(CLEAR_STEPS, lambda _: good_event)
        yield Evidence(prometheus, functions, start_s, (fault_start_s, fault_end_s), clock.time()), faults


RULES = [alarm for alarm in alarms.ALARMS if alarm.expression]


@pytest.mark.parametrize("alarm", RULES, ids=lambda alarm: alarm.name)
def test_an_alarm_is_fired_by_its_faults_alone_and_clears(
    alarm: alarms.Alarm, evidence: tuple[Evidence, Mapping[str, Fault]]
) -> None:
    seen, faults = evidence
    expected = {name for name, fault in faults.items() if alarm.name in fault.alarms}
    assert expected
    found = fired(seen.when(alarm.expression), int(alarm.lasts.rstrip("m")) * MINUTE_S, MINUTE_S)
    assert found.keys() == expected
    for began_s, ended_s in found.values():
        assert began_s >= seen.fault_s[0]
        assert ended_s < seen.end_s - 5 * MINUTE_S


def test_no_alarm_fires_in_a_healthy_hour(evidence: tuple[Evidence, Mapping[str, Fault]]) -> None:
    seen, _ = evidence
    assert seen.fault_s[0] - seen.start_s >= 3600
    for alarm in RULES:
        moments = [at for times in seen.when(alarm.expression).values() for at in times]
        assert [at for at in moments if at < seen.fault_s[0]] == [], alarm.name


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_query_of_the_dashboard_returns_data(
    panel: Panel, evidence: tuple[Evidence, Mapping[str, Fault]]
) -> None:
    seen, _ = evidence
    names = "|".join(seen.functions)
    for query in panel.queries:
        asked = query.expression.replace("$namespace", "prod").replace("$function", names)
        asked = asked.replace("$__rate_interval", "10m").replace("$__range", "3h")
        assert "$" not in asked
        for at_s in (seen.fault_s[0] - STEP_S, sum(seen.fault_s) / 2):
            values = [float(series["value"][1]) for series in seen.prometheus.evaluate(asked, at_s)]
            assert [value for value in values if value == value], asked  # noqa: PLR0124 - NaN is no data


def test_the_counters_say_exactly_what_the_reports_say(
    evidence: tuple[Evidence, Mapping[str, Fault]],
) -> None:
    seen, _ = evidence
    query = "sum by (function, outcome) (max_over_time(metric_forwarder_points_total[6h]))"
    counted = {
        (series["metric"]["function"], series["metric"]["outcome"]): int(series["value"][1])
        for series in seen.prometheus.evaluate(query, seen.end_s)
    }
    reported: dict[tuple[str, str], int] = {}
    for name, function in seen.functions.items():
        for report in function.reports:
            for outcome, points in report["outcomes"].items():
                if points:
                    reported[name, outcome] = reported.get((name, outcome), 0) + points
    assert counted == reported
    starts = seen.prometheus.evaluate(
        "sum(max_over_time(metric_forwarder_cold_starts_total[6h]))", seen.end_s
    )
    assert int(starts[0]["value"][1]) == sum(function.starts for function in seen.functions.values())


def test_increase_over_killed_instances_is_what_was_reported_but_for_what_kills_and_extrapolation_explain(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    with (
        Emulator(EmulatorOptions(clock_tolerance_s=1e9)) as emulator,
        PrometheusServer(tmp_path) as prometheus,
    ):
        function = Function("killed", clock, emulator, prometheus.url, SELF_METRICS_INTERVAL_S="120")
        start_s = clock.time()
        unwritten = error = 0.0
        for lives in (1, 7, 20, 8, 30, 2):
            # An event a minute, of which every second one writes: the rest is lost with the instance.
            for _ in range(lives):
                good_event(function)
                clock.sleep(MINUTE_S)
            writes = (lives + 1) // 2
            unwritten += lives - (2 * writes - 1)
            # Prometheus extrapolates a series by at most 1.1 of its mean interval; it has a 0 before its writes.
            error += (2 * writes - 1) * 1.1 / writes
            function.start()
        window_s = round(clock.time() - start_s) + 60
        reported = sum(report["received"] for report in function.reports)
        asked = f"metric_forwarder_points_total[{window_s}s]"
        exact = prometheus.evaluate(f"sum(max_over_time({asked}))", clock.time())
        increase = prometheus.evaluate(f"sum(increase({asked}))", clock.time())
    assert float(exact[0]["value"][1]) == reported - unwritten
    assert abs(float(increase[0]["value"][1]) - (reported - unwritten)) <= error

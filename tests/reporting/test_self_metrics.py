"""The forwarder's own metrics: what is counted, when it is written, and what it must never cost."""

import json
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import HttpReply, HttpRequest
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.reporting.exposition import Exposition
from metric_forwarder.reporting.self_metrics import SPOOL_OLDEST
from support.fakes import FakeClock, InProcessPrometheus, InProcessReceiver
from support.harness import (
    CONTEXT,
    Harness,
    RemoteWriteHarness,
    ckafka,
    environ,
    make_remote_write_harness,
    outcomes,
    point,
    remote_write_environ,
    report_of,
)
from support.remote_write_decoder import decode

OWN = "metric_forwarder_"
INFLUX = ("disk free=1\ndisk free=oops", "disk,host=b free=2")
Stored = dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]


class ReceiverAndPrometheus:
    """A ``Transport`` that leads to a receiver, and to the Prometheus that holds the own metrics."""

    def __init__(self, clock: FakeClock) -> None:
        self.receiver = InProcessReceiver(clock)
        self.prometheus = InProcessPrometheus(clock)

    def send(self, request: HttpRequest, timeout_s: float) -> Any:
        place = self.prometheus if request.url.endswith("/write") else self.receiver
        return place.send(request, timeout_s)


def own(stored: Stored, name: str, **labels: str) -> list[tuple[float, ...]]:
    """The values of the own series of this name, in the order of their times."""
    found = [
        tuple(value for _, value in samples)
        for key, samples in stored.items()
        if dict(key).get("__name__") == OWN + name and labels.items() <= dict(key).items()
    ]
    return sorted(found)


def measured(**settings: str) -> RemoteWriteHarness:
    return make_remote_write_harness(is_partial=False, SELF_METRICS="on", **settings)


@pytest.fixture
def both() -> tuple[Harness, InProcessPrometheus]:
    clock = FakeClock()
    places = ReceiverAndPrometheus(clock)
    settings = environ(SELF_METRICS="on", REMOTE_WRITE_URL="http://prometheus.test/api/v1/write")
    application = Application(settings, clock, lambda: places)
    return Harness(application, places.receiver, clock), places.prometheus


@pytest.mark.slow
def test_every_point_is_counted_once_by_trigger_format_and_outcome() -> None:
    harness = measured()
    report = harness.handle(ckafka(point(), *INFLUX, "nonsense", point("12")))
    counted = {
        (labels["trigger"], labels["format"], labels["outcome"]): samples[-1][1]
        for key, samples in harness.prometheus.samples.items()
        if (labels := dict(key))["__name__"] == f"{OWN}points_total"
    }
    assert sum(counted.values()) == report["received"]
    assert counted["ckafka", "influx", "delivered"] == 2
    assert counted["ckafka", "influx", "invalid"] == 1
    assert counted["ckafka", "json", "delivered"] == 1
    by_outcome: dict[str, float] = {}
    for (_, _, outcome), count in counted.items():
        by_outcome[outcome] = by_outcome.get(outcome, 0) + count
    assert by_outcome == outcomes(report)


def test_own_metrics_ride_in_a_request_of_their_own_that_no_report_counts() -> None:
    harness = measured()
    report = harness.handle(ckafka(point()))
    assert report["received"] == report["requests"]["sent"] == 1
    points, metrics = (decode(request.body or b"") for request in harness.prometheus.requests)
    assert [dict(series.labels)["__name__"] for series in points] == ["pc_diskusage"]
    assert all(dict(series.labels)["__name__"].startswith(OWN) for series in metrics)


def test_each_counter_begins_with_a_zero_before_its_first_value() -> None:
    harness = measured(SELF_METRICS_INTERVAL_S="60")
    harness.handle(ckafka(point(1)))
    harness.clock.sleep(100)
    harness.handle(ckafka(point(2), point("12"), first_offset=1))
    assert own(harness.prometheus.samples, "points_total", outcome="delivered") == [(0, 1, 2)]
    # A series that appears later begins with a 0 at the time of the write before.
    assert own(harness.prometheus.samples, "points_total", outcome="invalid") == [(0, 1)]
    assert own(harness.prometheus.samples, "cold_starts_total") == [(0, 1, 1)]
    assert own(harness.prometheus.samples, "event_seconds_count") == [(0, 1, 2)]


def test_metrics_are_written_once_an_interval_and_lose_nothing_between() -> None:
    harness = measured(SELF_METRICS_INTERVAL_S="30")
    for number in range(61):
        harness.handle(ckafka(point(number), first_offset=number))
        harness.clock.sleep(1)
    metrics = [
        request
        for request in harness.prometheus.requests
        if dict(decode(request.body or b"")[0].labels)["__name__"].startswith(OWN)
    ]
    assert len(metrics) == 3
    assert own(harness.prometheus.samples, "points_total", outcome="delivered") == [(0, 1, 31, 61)]


def test_two_instances_are_distinguished_and_name_their_function() -> None:
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock)
    context = {**CONTEXT, "namespace": "prod", "function_name": "forward"}
    for number in range(2):
        application = Application(remote_write_environ(SELF_METRICS="on"), clock, lambda: prometheus)
        report_of(application, ckafka(point(number), first_offset=number), context=context)
    keys = [dict(key) for key in prometheus.samples if dict(key)["__name__"] == f"{OWN}cold_starts_total"]
    assert len({key["instance"] for key in keys}) == 2
    assert {(key["namespace"], key["function"]) for key in keys} == {("prod", "forward")}


def test_metrics_of_a_function_that_sends_to_the_receiver_go_to_the_remote_write_url(
    both: tuple[Harness, InProcessPrometheus],
) -> None:
    harness, prometheus = both
    harness.receiver.script.append(ReturnCode.TOO_MANY_REQUESTS)
    harness.handle(ckafka(point()))
    assert len(harness.receiver.points) == 1
    assert own(prometheus.samples, "requests_total", answer="0") == [(0, 1)]
    assert own(prometheus.samples, "requests_total", answer=str(int(ReturnCode.TOO_MANY_REQUESTS))) == [
        (0, 1)
    ]
    assert own(prometheus.samples, "request_seconds_count") == [(0, 2)]


def test_the_lag_is_counted_from_the_time_of_the_point_to_its_delivery() -> None:
    harness = measured()
    now = harness.clock.time()
    late = [point(age, timestamp=now - age, dimensions={"n": str(age)}) for age in (0, 7, 500)]
    ahead = point(9, timestamp=now + 60, dimensions={"n": "ahead"})
    harness.handle(ckafka(*late, ahead))
    stored = harness.prometheus.samples
    assert own(stored, "point_age_seconds_count") == [(0, 4)]
    assert own(stored, "point_age_seconds_sum") == [(0, 507)]
    assert own(stored, "point_age_seconds_bucket", le="0.1") == [(0, 2)]
    assert own(stored, "point_age_seconds_bucket", le="10") == [(0, 3)]
    assert own(stored, "point_age_seconds_bucket", le="600") == [(0, 4)]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(HttpReply(503, {}, b""), id="the endpoint is down"),
        pytest.param(HttpReply(401, {}, b""), id="the endpoint asks for a password"),
    ],
)
def test_a_failed_write_costs_no_point_and_is_made_up_for_by_the_next(
    reply: HttpReply, both: tuple[Harness, InProcessPrometheus], capsys: pytest.CaptureFixture[str]
) -> None:
    harness, prometheus = both
    prometheus.script.append(reply)
    report = harness.handle(ckafka(point(1)))
    assert (report["status"], report["errors"]) == ("ok", [])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("INFO", "report"),
        ("WARN", "self-metrics"),
    ]
    harness.clock.sleep(100)
    harness.handle(ckafka(point(2), first_offset=1))
    assert own(prometheus.samples, "points_total") == [(0, 2)]


def test_a_zero_is_not_repeated_after_a_write_whose_fate_is_unknown(
    both: tuple[Harness, InProcessPrometheus],
) -> None:
    harness, prometheus = both

    def store_and_fail(request: HttpRequest) -> HttpReply:
        prometheus.process(request)
        return HttpReply(504, {}, b"")

    prometheus.script.append(store_and_fail)
    for number in range(2):
        harness.handle(ckafka(point(number), first_offset=number))
        harness.clock.sleep(100)
    assert own(prometheus.samples, "points_total") == [(0, 1, 2)]


def test_nothing_is_written_when_the_time_of_the_event_is_up(
    both: tuple[Harness, InProcessPrometheus],
) -> None:
    harness, prometheus = both
    harness.receiver.latency_s = 1.9
    harness.handle(ckafka(point(1)), time_limit_ms=3000)
    assert prometheus.requests == []
    harness.receiver.latency_s = 0
    harness.handle(ckafka(point(2), first_offset=1), time_limit_ms=3000)
    assert own(prometheus.samples, "points_total") == [(0, 2)]


def test_the_spool_is_measured_and_a_replay_empties_it(tmp_path: Path) -> None:
    clock = FakeClock()
    places = ReceiverAndPrometheus(clock)
    settings = environ(
        SELF_METRICS="on",
        REMOTE_WRITE_URL="http://prometheus.test/api/v1/write",
        SPOOL=tmp_path.as_uri(),
        MAX_ATTEMPTS="1",
    )
    harness = Harness(Application(settings, clock, lambda: places), places.receiver, clock)
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    harness.handle(ckafka(point(1), point("12")))
    clock.sleep(400)
    harness.handle(ckafka(first_offset=2))
    (spool_bytes,) = own(places.prometheus.samples, "spool_bytes")
    assert spool_bytes[0] > 100
    assert own(places.prometheus.samples, "dead_letters") == [(1, 1)]
    clock.sleep(400)
    harness.handle({"Type": "Timer", "TriggerName": "replay", "Time": "", "Message": '{"replay": true}'})
    assert [values[-1] for values in own(places.prometheus.samples, "spool_oldest_seconds")] == [0]


def test_the_metrics_of_a_spool_end_with_the_spool(tmp_path: Path) -> None:
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock)
    settings = remote_write_environ(SELF_METRICS="on", SPOOL=tmp_path.as_uri())
    application = Application(settings, clock, lambda: prometheus)
    for number, series in enumerate((1, 1, 0)):
        if not series:
            del settings["MF_SPOOL"]
        report_of(application, ckafka(point(number), first_offset=number))
        assert application.self_metrics is not None
        written = [value for value in application.self_metrics.values() if value.family is SPOOL_OLDEST]
        assert len(written) == series
        clock.sleep(100)


def test_a_level_of_the_spool_that_was_not_measured_for_five_minutes_is_not_shown(tmp_path: Path) -> None:
    clock = FakeClock()
    settings = remote_write_environ(SELF_METRICS="on", SPOOL=tmp_path.as_uri())
    application = Application(settings, clock, lambda: InProcessPrometheus(clock))
    report_of(application, ckafka(point(1)))
    assert application.self_metrics is not None
    shown = []
    for _ in range(2):
        shown.append(any(value.family is SPOOL_OLDEST for value in application.self_metrics.values()))
        clock.sleep(300)
    assert shown == [True, False]


def test_counters_survive_a_change_of_settings() -> None:
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock)
    settings = remote_write_environ(SELF_METRICS="on")
    application = Application(settings, clock, lambda: prometheus)
    report_of(application, ckafka(point(1)))
    settings.update(remote_write_environ(SELF_METRICS="on", LOG_LEVEL="WARN", MAX_ATTEMPTS="2"))
    clock.sleep(100)
    report_of(application, ckafka(point(2), first_offset=1))
    assert own(prometheus.samples, "points_total") == [(0, 1, 2)]
    assert own(prometheus.samples, "cold_starts_total") == [(0, 1, 1)]


@pytest.mark.parametrize(
    "changed",
    [{"LOG_LEVEL": "DEBUG"}, {"REMOTE_WRITE_PASSWORD": "new"}, {"REMOTE_WRITE_CHECK": "off"}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_setting_lets_no_write_come_before_its_time(changed: dict[str, str]) -> None:
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock)
    given = {"SELF_METRICS": "on", "REMOTE_WRITE_USER": "u", "REMOTE_WRITE_PASSWORD": "old"}
    settings = remote_write_environ(**given)
    application = Application(settings, clock, lambda: prometheus)
    report_of(application, ckafka(point(1)))
    settings.update(remote_write_environ(**(given | changed)))
    report_of(application, ckafka(point(2), first_offset=1))
    assert own(prometheus.samples, "points_total") == [(0, 1)]


def test_where_the_function_has_no_name_no_label_is_written_without_a_value() -> None:
    harness = make_remote_write_harness(SELF_METRICS="on")
    report_of(
        harness.application, ckafka(point(1)), context={**CONTEXT, "namespace": "", "function_name": ""}
    )
    written = decode(harness.prometheus.requests[-1].body or b"")
    assert len(written) > 1
    assert [series.labels for series in written if not all(value for _, value in series.labels)] == []


def test_every_prometheus_that_scrapes_once_a_minute_sees_the_0_from_which_a_counter_counts() -> None:
    harness = measured()
    clock = harness.clock
    exposition = Exposition(clock)

    def invalid() -> list[str]:
        text = exposition.text([harness.application.self_metrics])
        return [line.split()[-1] for line in text.splitlines() if 'outcome="invalid"' in line]

    report_of(harness.application, ckafka(point(1)))
    first, second = [invalid()], [invalid()]
    clock.sleep(100)
    report_of(harness.application, ckafka("nonsense", first_offset=1))
    for _ in range(3):
        first.append(invalid())
        clock.sleep(1)
        second.append(invalid())
        clock.sleep(59)
    assert first == second == [[], ["0"], ["0"], ["1"]]

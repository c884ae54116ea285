"""Taking in stops in time to send what was taken in, and every delivery of an event makes progress."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.clock import Deadline, SystemClock
from metric_forwarder.formats.samples import Sample
from metric_forwarder.intake.making import make_intake
from metric_forwarder.model import Message, Outcome
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from support.fakes import FakeClock, InProcessReceiver
from support.harness import ckafka, environ, outcomes, point, report_of, values

# Judged by jsonschema each takes 100 to 400 µs.
POINTS = 12_000


class CpuClock(SystemClock):
    """Time passes while this process computes, however busy the machine is, and when it sleeps."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return time.process_time() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


def application(schema: Path) -> tuple[Application, InProcessReceiver]:
    schema.write_text(
        '{"properties": {"value": {"type": "number"}, "metricName": {"pattern": "^[a-z0-9_]+$"}}}'
    )
    clock = FakeClock(time.time())
    receiver = InProcessReceiver(clock)
    return Application(
        environ(SCHEMA=str(schema), DEADLINE_MARGIN_MS="0"), CpuClock(), lambda: receiver
    ), receiver


def too_short_ms(schema: Path) -> int:
    """A time limit that lets half of the points be taken in for the first time, and all of them when they are known."""
    app, _ = application(schema)
    report_of(app, point(0))
    began = time.process_time()
    report_of(app, ckafka(*[point(value) for value in range(1, POINTS // 10)]))
    half_s = (time.process_time() - began) * 10 / 2
    # Three quarters of it are for taking in.
    return round(1000 * half_s / 0.75)


def deliver_to_the_end(app: Application, event: Any, time_limit_ms: int) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    while not found or found[-1].get("undelivered"):
        report = report_of(app, event, time_limit_ms=time_limit_ms)
        assert report["received"] == sum(report["outcomes"].values())
        found.append(outcomes(report))
        assert found[-1].get("delivered"), "every delivery makes progress"
        assert len(found) < 50
    return found


@pytest.mark.slow
def test_an_event_whose_points_take_longer_to_judge_than_there_is_time_is_delivered_in_parts(
    tmp_path: Path,
) -> None:
    app, receiver = application(tmp_path / "own.json")
    report_of(app, point(0))  # what is needed to judge is loaded
    event = ckafka(*[point(value) for value in range(1, POINTS)])
    found = deliver_to_the_end(app, event, too_short_ms(tmp_path / "own.json"))
    assert len(found) > 1
    # A request under way when the time is up may be sent again.
    assert set(values(receiver.points)) == set(range(POINTS))


@pytest.mark.slow
def test_a_message_of_more_points_than_there_is_time_for_is_delivered_in_parts(tmp_path: Path) -> None:
    app, receiver = application(tmp_path / "own.json")
    report_of(app, point(0))
    event = ckafka({"points": [point(value) for value in range(1, POINTS)]})
    found = deliver_to_the_end(app, event, too_short_ms(tmp_path / "own.json"))
    assert len(found) > 1
    assert sum(found[0].values()) == POINTS - 1, "all points of a message that was read are counted"
    # A request under way when the time is up may be sent again.
    assert set(values(receiver.points)) == set(range(POINTS))


def test_what_was_not_taken_in_is_undelivered_and_says_why_once() -> None:
    ledger, clock = Ledger(), FakeClock()
    intake = make_intake(Settings.read(environ()), clock, ledger)
    intake._deadline = Deadline(clock, 1)
    intake.take_all([Message("a", json.dumps(point()))])
    clock.sleep(2)
    bodies: list[Any] = [json.dumps(point()), "x", [1, 2], b"{}", Sample("w", "m", {}, 1)]
    intake.take_all([Message("b", body) for body in bodies])
    intake.take_all([Message("spool", json.dumps(point()), receipt=1)])
    assert len(intake.points) == 2, "what is replayed from the spool is taken in: nothing else keeps it"
    assert ledger.outcomes()[Outcome.UNDELIVERED] == len(bodies)
    (problem,) = ledger.problems
    assert (problem.outcome, problem.source, problem.rule) == (Outcome.UNDELIVERED, "b", "out of time")
    assert "was not taken in" in problem.message

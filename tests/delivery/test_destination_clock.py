"""Whether a time is wrong is judged by a clock that the destination has confirmed."""

from email.utils import formatdate
from pathlib import Path

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest
from metric_forwarder.destinations.remote_write_proof import EMPTY_BODY
from support.fakes import FakeClock, InProcessPrometheus, InProcessReceiver, machine_of, seeded_draw
from support.harness import (
    Harness,
    RemoteWriteHarness,
    ckafka,
    environ,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
    remote_write_environ,
    report_of,
    values,
)

_HOURS_S = 8 * 3600.0
_SILENCE = Failure(Fault.UNANSWERED, "timed out")


@pytest.fixture
def harness() -> Harness:
    return make_harness()


def wrong_by(harness: Harness, ahead_s: float) -> float:
    """Let the clock of the instance be wrong; return the right time."""
    harness.receiver.clock_offset_s = -ahead_s
    return harness.clock.time() - ahead_s


def is_question(request: HttpRequest) -> bool:
    return request.body == b"{}"


@pytest.mark.parametrize("ahead_s", [_HOURS_S, -_HOURS_S])
def test_a_new_instance_whose_clock_is_hours_wrong_calls_no_fresh_point_wrong(
    harness: Harness, ahead_s: float
) -> None:
    now = wrong_by(harness, ahead_s)
    old = point(3, "old", timestamp=now - 400)
    report = harness.handle([point(1, timestamp=now - 10), old, point(2, "cpu", timestamp=now)])
    assert outcomes(report) == {"delivered": 2, "stale": 1}
    assert [is_question(request) for request in harness.receiver.requests].count(True) == 1


def test_a_right_clock_costs_one_question_while_the_instance_is_warm(harness: Harness) -> None:
    for value in range(3):
        old = point(value, timestamp=harness.clock.time() - 400)
        assert outcomes(harness.handle([old, point(value + 10)])) == {"delivered": 1, "stale": 1}
    assert [is_question(request) for request in harness.receiver.requests] == [True, False, False, False]


def test_fresh_points_cost_no_question(harness: Harness) -> None:
    assert outcomes(harness.handle(point(timestamp=harness.clock.time() - 200))) == {"delivered": 1}
    assert len(harness.receiver.requests) == 1


@pytest.mark.parametrize("uncertain", ["resend", "hold"])
def test_a_point_is_not_called_stale_by_a_clock_that_nobody_confirms(uncertain: str) -> None:
    harness = make_harness(UNCERTAIN=uncertain)
    now = wrong_by(harness, _HOURS_S)
    harness.receiver.script.append(_SILENCE)
    early, late = point(1, timestamp=now - 10), point(2, timestamp=harness.clock.time())
    report = harness.handle([early, late, point(3, "cpu")])
    assert outcomes(report) == {"undelivered": 2, "delivered": 1}, "later points of its series wait, too"
    assert "the destination has not confirmed yet" in report["errors"][0]["message"]
    assert outcomes(harness.handle(early)) == {"delivered": 1}


def test_points_before_one_whose_time_is_not_confirmed_are_delivered(harness: Harness) -> None:
    now = wrong_by(harness, _HOURS_S)
    harness.receiver.script.append(_SILENCE)
    fresh = harness.clock.time()
    points = [
        point(1, timestamp=fresh),
        point(2, timestamp=now - 10),
        point(3, timestamp=fresh),
        point(4, "cpu"),
    ]
    report = harness.handle(points)
    assert outcomes(report) == {"delivered": 2, "undelivered": 2}
    assert values(harness.receiver.points) == [1, 4]
    assert [error["pointer"] for error in report["errors"]] == ["/1", "/2"]
    assert report["errors"][1]["message"].startswith("an earlier point of its series is undelivered")


def test_later_parts_of_the_event_wait_behind_a_point_whose_time_is_not_confirmed(
    harness: Harness, tmp_path: Path
) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri())
    harness.receiver.script.append(_SILENCE)
    old = point(1, timestamp=harness.clock.time() - 400)
    many = [point(value, "big", dimensions={"text": "x" * 9000}) for value in range(2, 800)]
    report = harness.handle(ckafka([old, *many], point(900)))
    assert outcomes(report) == {"delivered": 798, "spooled": 2}


def test_a_reply_without_a_time_does_not_forget_what_others_told(harness: Harness) -> None:
    now = wrong_by(harness, _HOURS_S)
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    harness.receiver.script.append(HttpReply(200, {}, b'{"code":0,"message":"OK"}'))
    assert outcomes(harness.handle(point(2))) == {"delivered": 1}
    assert outcomes(harness.handle(point(3, timestamp=now - 10))) == {"delivered": 1}


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "soon"])
def test_a_clock_that_was_never_set_judges_no_point(harness: Harness, date: str) -> None:
    harness.receiver.script.append(HttpReply(200, {"Date": date}, b'{"code":0,"message":"OK"}'))
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    assert outcomes(harness.handle(point(2, timestamp=harness.clock.time() - 5))) == {"delivered": 1}


def test_the_date_of_a_reply_from_a_cache_is_as_old_as_it_says(harness: Harness) -> None:
    date = formatdate(harness.clock.time() - 3600, usegmt=True)
    headers = {"Date": date, "Age": "3600"}
    harness.receiver.script.append(HttpReply(200, headers, b'{"code":0,"message":"OK"}'))
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    assert outcomes(harness.handle(point(2, timestamp=harness.clock.time()))) == {"delivered": 1}


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [(0, "by the forwarder's clock"), (_HOURS_S, "by the destination's clock, which is 8 hours behind the forwarder's")],
)  # fmt: skip
def test_a_stale_point_is_told_with_the_clock_that_judged_it(
    harness: Harness, ahead_s: float, words: str
) -> None:
    now = wrong_by(harness, ahead_s)
    (error,) = harness.handle(point(1, timestamp=now - 400))["errors"]
    assert f"is 7 minutes old, more than MF_MAX_AGE_S allows, {words}" in error["message"]


def test_a_point_ahead_of_the_destination_s_clock_is_told_so(harness: Harness) -> None:
    now = wrong_by(harness, _HOURS_S)
    (error,) = harness.handle(point(1, timestamp=now + 900))["errors"]
    assert "15 minutes ahead of the destination's clock, which is 8 hours behind" in error["message"]


def test_a_pause_that_is_asked_for_is_kept(harness: Harness) -> None:
    old = point(timestamp=harness.clock.time() - 400)
    harness.receiver.script.append(HttpReply(429, {"Retry-After": "30"}, b""))
    assert outcomes(harness.handle(old)) == {"undelivered": 1}
    report = harness.handle(old)
    assert outcomes(report) == {"undelivered": 1}
    assert report["errors"][0]["message"].endswith("asked for a pause of another 30 s (Retry-After)")
    assert len(harness.receiver.requests) == 1
    harness.clock.sleep(60)
    assert outcomes(harness.handle(old)) == {"stale": 1}


def test_a_page_confirms_a_clock_that_it_agrees_with_and_corrects_none(harness: Harness) -> None:
    old = point(timestamp=harness.clock.time() - 400)
    for age_s, outcome in ((_HOURS_S, "undelivered"), (0, "stale")):
        date = formatdate(harness.clock.time() - age_s, usegmt=True)
        harness.receiver.script.append(HttpReply(400, {"Date": date}, b"<html>"))
        assert outcomes(harness.handle(old)) == {outcome: 1}


def test_a_receiver_that_does_not_say_its_time_leaves_the_judgement_to_the_own_clock(
    harness: Harness,
) -> None:
    harness.receiver.script.append(HttpReply(200, {}, b'{"code":1000,"message":""}'))
    assert outcomes(harness.handle(point(timestamp=harness.clock.time() - 400))) == {"stale": 1}


def test_changed_settings_do_not_forget_the_clock() -> None:
    clock, settings = FakeClock(), environ()
    receiver = InProcessReceiver(clock)
    receiver.clock_offset_s = -_HOURS_S
    application = Application(settings, clock, lambda: receiver, machine=machine_of(clock, seeded_draw()))
    assert outcomes(report_of(application, point(1))) == {"delivered": 1}
    settings |= {"MF_CONCURRENCY": "3", "MF_RECEIVER_METHOD": "GET"}
    before = len(receiver.requests)
    fresh = point(2, timestamp=clock.time() - _HOURS_S)
    assert outcomes(report_of(application, fresh)) == {"delivered": 1}
    assert len(receiver.requests) == before + 1, "neither asked for the time nor signed with the wrong one"


class LatePrometheus(InProcessPrometheus):
    """It is later there than here."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        date = formatdate(clock.time() + _HOURS_S, usegmt=True)
        self.empty_answer = HttpReply(204, {"Date": date}, b"")


def test_remote_write_is_asked_before_a_time_is_called_too_far_ahead() -> None:
    clock = FakeClock()
    prometheus = LatePrometheus(clock)
    application = Application(
        remote_write_environ(), clock, lambda: prometheus, machine=machine_of(clock, seeded_draw())
    )
    now = clock.time() + _HOURS_S
    far = point(3, "far", timestamp=now + 700)
    report = report_of(application, [point(1, timestamp=now), far])
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert [request.body for request in prometheus.empty_requests] == [EMPTY_BODY]


def test_points_without_a_time_keep_the_time_of_the_function_at_remote_write() -> None:
    harness: RemoteWriteHarness = make_remote_write_harness()
    date = formatdate(harness.clock.time() - _HOURS_S, usegmt=True)
    harness.prometheus.script.append(HttpReply(204, {"Date": date}, b""))
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    assert outcomes(harness.handle(point(2))) == {"delivered": 1}

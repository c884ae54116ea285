"""Work converges: every delivery of an event settles some of it, and some redelivery ends with nothing undelivered.

Time is virtual: each request takes what a reply takes, divided by the lanes, since a fake clock has no requests side by side.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.http import Failure, Fault, HttpReply
from metric_forwarder.delivery.suspects import ENOUGH
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, RequestLimits, refuse
from support.fakes import START
from support.harness import (
    Harness,
    RemoteWriteHarness,
    ckafka,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
    values,
)

REPLY_S, LANES = 0.02, 4
NOW_MS = round(START * 1000)
AnyHarness = Harness | RemoteWriteHarness


def slow_harness(**members: str) -> Harness:
    """A receiver that takes 20 ms for a reply."""
    harness = make_harness(**members)
    harness.receiver.latency_s = REPLY_S / LANES
    return harness


def refuse_bad(code: ReturnCode, is_bad: Callable[[Any], bool]) -> Callable[[PutRequest], ReturnCode | None]:
    """A receiver that refuses each request that holds a bad point."""
    return lambda request: code if any(is_bad(wire) for wire in request.data) else None


def deliveries(harness: AnyHarness, event: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """The reports of an event's deliveries, a minute apart, until nothing of it is undelivered."""
    reports = [harness.handle(event)]
    while reports[-1]["outcomes"]["undelivered"]:
        assert len(reports) < most, [outcomes(report) for report in reports]
        harness.clock.sleep(60)
        reports.append(harness.handle(event))
    return reports


def total(reports: list[dict[str, Any]], outcome: str) -> int:
    return sum(report["outcomes"][outcome] for report in reports)


def one_each(points: list[Any]) -> dict[str, Any]:
    return ckafka(*points)


def ten_each(points: list[Any]) -> dict[str, Any]:
    return ckafka(*(points[start : start + 10] for start in range(0, len(points), 10)))


NAMES = (ReturnCode.DIMENSION_CHECK_FAILED, ReturnCode.NO_VALID_DATA, ReturnCode.NAME_TOO_LONG)


@pytest.mark.slow
@pytest.mark.parametrize("make_event", [one_each, ten_each])
@pytest.mark.parametrize("code", NAMES)
def test_ten_thousand_points_of_an_undeclared_metric_are_done_within_one_delivery(
    make_event: Callable[[list[Any]], dict[str, Any]], code: ReturnCode
) -> None:
    harness = slow_harness()
    harness.receiver.refuse_if = refuse_bad(code, lambda wire: wire["metricName"] == "undeclared")
    points = [
        point(value, "undeclared", dimensions={"ip": f"10.0.0.{value % 200}"}) for value in range(10_000)
    ]
    (report,) = deliveries(harness, make_event(points), most=1)
    assert outcomes(report) == {"rejected": 10_000}
    assert report["requests"]["sent"] < 3 * ENOUGH
    assert {error["code"] for error in report["errors"]} == {code}


def test_the_reason_of_a_point_that_is_refused_without_asking_says_so(tmp_path: Path) -> None:
    harness = make_harness(CONCURRENCY="1", SPOOL=tmp_path.as_uri())
    harness.receiver.refuse_if = refuse_bad(ReturnCode.NO_VALID_DATA, lambda _: True)
    assert outcomes(harness.handle(ckafka(*(point(value) for value in range(200))))) == {"rejected": 200}
    (letters,) = [path.read_text("utf-8") for path in tmp_path.glob("*.jsonl")]
    assert letters.count("refused one by one with this code") == 200 - ENOUGH


@pytest.mark.slow
@pytest.mark.parametrize("make_event", [one_each, ten_each])
def test_good_points_among_those_of_an_undeclared_metric_are_all_delivered_at_once(
    make_event: Callable[[list[Any]], dict[str, Any]],
) -> None:
    harness = slow_harness()
    harness.receiver.refuse_if = refuse_bad(
        ReturnCode.NO_VALID_DATA, lambda wire: wire["metricName"] == "undeclared"
    )
    points = [
        point(value, "undeclared" if value % 2 else f"good{value % 7}", dimensions={"n": value % 100})
        for value in range(10_000)
    ]
    (report,) = deliveries(harness, make_event(points), most=1)
    assert outcomes(report) == {"delivered": 5000, "rejected": 5000}
    assert report["requests"]["sent"] < 700


@pytest.mark.slow
@pytest.mark.parametrize("code", [ReturnCode.PARAMETER_TYPE, ReturnCode.PARAMETER_INVALID, *NAMES])
def test_no_good_point_is_refused_because_others_of_its_metric_are(code: ReturnCode) -> None:
    harness = slow_harness(CONCURRENCY="1")
    harness.receiver.refuse_if = refuse_bad(code, lambda wire: wire["value"] % 3 > 0)
    points = [point(value, dimensions={"n": value % 50}) for value in range(3000)]
    reports = deliveries(harness, ckafka(*points), most=3)
    # What was rejected before is told as rejected again.
    assert (total(reports, "delivered"), reports[-1]["outcomes"]["rejected"]) == (1000, 2000)


@pytest.mark.slow
def test_points_that_are_bad_each_for_itself_are_done_within_three_deliveries() -> None:
    harness = slow_harness()
    harness.receiver.refuse_if = refuse_bad(ReturnCode.PARAMETER_INVALID, lambda wire: wire["value"] % 2 > 0)
    points = [point(value, dimensions={"n": value % 100}) for value in range(10_000)]
    reports = deliveries(harness, ckafka(*points), most=3)
    assert (total(reports, "delivered"), reports[-1]["outcomes"]["rejected"]) == (5000, 5000)


@pytest.mark.parametrize("destination", [slow_harness, make_remote_write_harness])
def test_bad_points_that_take_longer_than_a_window_to_find_are_done_in_the_end(
    destination: Callable[..., AnyHarness],
) -> None:
    harness = destination(CONCURRENCY="1", DEDUPE_WINDOW_S="180")
    answer_slowly(harness, 0.25, lambda _: ReturnCode.PARAMETER_INVALID)
    points = [point(value, dimensions={"n": value}) for value in range(900)]
    # Some 235 requests within a minute, and a minute until the event comes again.
    (*others, last) = deliveries(harness, ckafka(*points), most=10)
    assert len(others) >= 3
    assert outcomes(last) == {"rejected": 900}


def test_a_rejection_is_forgotten_after_a_window_in_which_its_event_got_no_further() -> None:
    harness = slow_harness(CONCURRENCY="1", DEDUPE_WINDOW_S="180", BATCH_MAX_POINTS="1")
    event = ckafka(point(1, "undeclared"), point(2, "declared"))
    harness.receiver.script.extend([ReturnCode.NO_VALID_DATA, *[ReturnCode.INTERNAL_FAILURE] * 4])
    assert outcomes(harness.handle(event)) == {"rejected": 1, "undelivered": 1}
    for _ in range(2):
        harness.clock.sleep(100)
        harness.receiver.script.extend([ReturnCode.INTERNAL_FAILURE] * 4)
        report = harness.handle(event)
        assert report["outcomes"]["undelivered"] == 1
    # It was asked about again, and taken: somebody has declared the metric meanwhile.
    assert outcomes(harness.handle(event)) in ({"delivered": 2}, {"delivered": 1, "duplicate": 1})


def answer_slowly(harness: AnyHarness, reply_s: float, refuse_with: Callable[[Any], Any]) -> None:
    """Let each request take so long, and be refused."""
    if isinstance(harness, Harness):
        harness.receiver.latency_s = reply_s
        harness.receiver.refuse_if = refuse_with
        return

    def refuse_slowly(_: Any) -> HttpReply:
        harness.clock.sleep(reply_s)
        return HttpReply(400, {}, b"out of order sample")

    harness.prometheus.process = refuse_slowly  # type: ignore[assignment]  # the fake is ours to slow down


# The last three are those of a server that crashes at a point, and of a gateway before it.
FAILS: dict[str, Any] = {
    "1003": ReturnCode.INTERNAL_FAILURE,
    "1014": ReturnCode.ROUTING_MISSING,
    "http 500": HttpReply(500, {}, b""),
    "http 502": HttpReply(502, {}, b""),
    "empty": HttpReply(200, {}, b""),
    "reset": Failure(Fault.UNANSWERED, "ConnectionResetError"),
}


@pytest.mark.parametrize("fails", FAILS.values(), ids=list(FAILS))
@pytest.mark.parametrize("count", [30, 300])
@pytest.mark.parametrize("apart_s", [60, 300])
def test_a_point_at_which_the_destination_always_fails_keeps_no_other_point(
    fails: Any, count: int, apart_s: float
) -> None:
    harness = slow_harness()
    fail_at(harness, fails, lambda wire: wire["value"] == 13)
    points = [point(value, dimensions={"n": value}) for value in range(count)]
    reports = [harness.handle(ckafka(*points))]
    while reports[-1]["outcomes"]["undelivered"] > 1:
        assert len(reports) < 6
        harness.clock.sleep(apart_s)
        reports.append(harness.handle(ckafka(*points)))
    assert sorted(int(wire["value"]) for _, wire in harness.receiver.points) == [
        value for value in range(count) if value != 13
    ]


def test_points_that_are_held_for_want_of_a_reply_are_not_sent_again_in_parts() -> None:
    harness = slow_harness(UNCERTAIN="hold")
    fail_at(harness, HttpReply(502, {}, b""), lambda wire: wire["value"] == 13)
    for _ in range(2):
        report = harness.handle(ckafka(*(point(value, dimensions={"n": value}) for value in range(30))))
        assert outcomes(report) == {"uncertain": 30}
    assert harness.receiver.points == []


@pytest.mark.parametrize(
    "others", [{"value": 13}, {"value": 99}], ids=["with the point alone", "that is delivered"]
)
def test_an_event_between_its_deliveries_does_not_make_such_a_point_keep_others(
    others: dict[str, Any],
) -> None:
    harness = slow_harness()
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] == 13)
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(10, 16)))
    for minute in range(6):
        harness.handle(event)
        harness.clock.sleep(30)
        harness.handle(ckafka(point(dimensions={"n": minute}, **others)))
        harness.clock.sleep(30)
    arrived = {int(wire["value"]) for _, wire in harness.receiver.points}
    assert arrived >= {10, 11, 12, 14, 15}


@pytest.mark.parametrize("requests", [1, 2, 4])
def test_at_a_pace_at_which_an_event_cannot_repeat_a_request_such_a_point_keeps_no_other(
    requests: int,
) -> None:
    harness = slow_harness(MAX_RPS=str(requests / 55), CONCURRENCY="1")
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] == 13)
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(10, 16)))
    for _ in range(30):
        harness.handle(event, time_limit_ms=56_000)
        harness.clock.sleep(60)
    assert sorted(int(wire["value"]) for _, wire in harness.receiver.points) == [10, 11, 12, 14, 15]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("good", [10, 13, 15])
def test_at_that_pace_batches_that_always_fail_do_not_block_a_good_point(batch: int, good: int) -> None:
    harness = slow_harness(MAX_RPS=str(1 / 55), CONCURRENCY="1", BATCH_MAX_POINTS=str(batch))
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] != good)
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(10, 16)))
    # The first one fails; then each point has its turn.
    for _ in range(7):
        harness.handle(event, time_limit_ms=56_000)
        harness.clock.sleep(60)
    assert [int(wire["value"]) for _, wire in harness.receiver.points] == [good]


def test_a_replay_every_five_minutes_gets_past_a_point_at_which_the_destination_always_fails(
    tmp_path: Path,
) -> None:
    harness = slow_harness(SPOOL=tmp_path.as_uri())
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] == 13)
    harness.handle(ckafka(*(point(value, dimensions={"n": value}) for value in range(30))))
    harness.clock.sleep(300)
    replay = {
        "Type": "Timer",
        "TriggerName": "r",
        "Time": "2026-01-01T00:00:00Z",
        "Message": '{"replay": true}',
    }
    assert outcomes(harness.handle(replay)) == {"delivered": 29, "spooled": 1}


def test_a_point_at_which_the_destination_says_that_it_is_unavailable_keeps_no_other_for_ever() -> None:
    harness = slow_harness()
    fail_at(harness, HttpReply(503, {}, b""), lambda wire: wire["value"] == 13)
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(10, 16)))
    # Such a reply ends an event. So two deliveries are needed for each of the others.
    for _ in range(11):
        harness.handle(event)
        harness.clock.sleep(60)
    assert {int(wire["value"]) for _, wire in harness.receiver.points} == {10, 11, 12, 14, 15}


def test_an_event_with_the_same_series_does_not_take_the_turn_of_a_point() -> None:
    harness = slow_harness()
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] != 12)
    event = ckafka(*(point(value, dimensions={"n": value}) for value in (10, 11, 12)))
    for _ in range(4):
        harness.handle(event)
        harness.handle(
            ckafka(point(99, dimensions={"n": 12}), point(98, dimensions={"n": 98}), topic="other")
        )
        harness.clock.sleep(60)
    assert [int(wire["value"]) for _, wire in harness.receiver.points] == [12]


def test_of_series_whose_batch_fails_in_every_event_each_has_its_turn() -> None:
    harness = slow_harness(MAX_RPS=str(1 / 55), CONCURRENCY="1")
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] % 10 == 0)
    for minute in range(30):
        # Events that are not delivered again, as those of a timer: their first delivery and one redelivery.
        numbers = [100 + 10 * minute + n for n in range(5)]
        event = ckafka(
            *(point(number, dimensions={"n": number % 10}) for number in numbers), topic=str(minute)
        )
        for _ in range(2):
            harness.handle(event, time_limit_ms=56_000)
            harness.clock.sleep(60)
    assert {int(wire["value"]) % 10 for _, wire in harness.receiver.points} == {1, 2, 3, 4}


def test_a_guess_that_is_refused_is_an_answer_and_another_may_follow() -> None:
    harness = slow_harness(CONCURRENCY="1")
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] == 13)
    harness.receiver.refuse_if = refuse_bad(ReturnCode.PARAMETER_INVALID, lambda wire: wire["value"] >= 100)
    values = [*range(100, 130), *range(10, 16)]
    event = ckafka(*(point(value, dimensions={"n": value}) for value in values))
    harness.handle(event)
    harness.clock.sleep(60)
    assert harness.handle(event)["outcomes"]["undelivered"] == 1


def test_a_destination_that_takes_one_request_and_then_fails_is_not_asked_for_each_point() -> None:
    harness = slow_harness(CONCURRENCY="1")
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(300)))
    harness.receiver.script.extend([ReturnCode.INTERNAL_FAILURE] * 1000)
    harness.handle(event)
    for _ in range(3):
        harness.clock.sleep(60)
        harness.receiver.script.clear()
        harness.receiver.script.extend([ReturnCode.OK, *[ReturnCode.INTERNAL_FAILURE] * 1000])
        # Four attempts for each of ten batches; the point with which it begins, and another one.
        assert harness.handle(event)["requests"]["sent"] <= 4 * 10 + 1 + 4 * 2


def test_a_slow_destination_that_never_fails_is_sent_whole_batches() -> None:
    harness = slow_harness(CONCURRENCY="1")
    harness.receiver.latency_s = 0.9
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(300)))
    # Each has the time for one reply, or for one and the beginning of another.
    for time_limit_ms in (1500, 2100) * 5:
        harness.handle(event, time_limit_ms)
        harness.clock.sleep(60)
    assert len(harness.receiver.points) == 300


def test_events_beside_one_that_always_fails_cost_nothing_more() -> None:
    harness = slow_harness()
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: wire["value"] in {10, 11})
    for minute in range(6):
        harness.handle(ckafka(point(10, dimensions={"n": 1}), point(11, dimensions={"n": 2}), topic="stuck"))
        for other in range(5):
            harness.clock.sleep(10)
            number = 100 + 10 * (5 * minute + other)
            event = ckafka(*(point(number + n, dimensions={"n": n}) for n in range(10)), topic=str(number))
            assert harness.handle(event)["requests"]["sent"] == 1


def test_after_a_failure_samples_of_a_series_are_still_sent_oldest_first() -> None:
    harness = make_remote_write_harness()
    process = harness.prometheus.process
    event = [
        point(age, dimensions={"n": series}, timestamp=NOW_MS - 1000 * age)
        for age in range(5)
        for series in (1, 2)
    ]
    harness.prometheus.process = lambda _: HttpReply(500, {}, b"")  # type: ignore[assignment,method-assign]  # the fake is ours to break
    assert outcomes(harness.handle(event)) == {"undelivered": 10}
    harness.prometheus.process = process  # type: ignore[method-assign]  # and to mend
    harness.clock.sleep(60)
    # Prometheus refuses a sample that is older than the last one of its series.
    assert outcomes(harness.handle(event)) == {"delivered": 10}


def fail_at(harness: Harness, fails: Any, is_bad: Callable[[Any], bool]) -> None:
    """A receiver that fails at each request that holds a bad point, as if it were its own fault."""
    process = harness.receiver.process

    def fail(request: Any) -> HttpReply | Failure:
        if not any(is_bad(wire) for wire in json.loads(request.body)["Data"]):
            return process(request)
        return (
            fails
            if isinstance(fails, (HttpReply, Failure))
            else harness.receiver.answer(refuse(fails, "as told"))
        )

    harness.receiver.process = fail  # type: ignore[assignment]  # the fake is ours to break


@pytest.mark.slow
@given(
    broken=st.lists(st.booleans(), min_size=1, max_size=100),
    series=st.integers(1, 20),
    batch=st.sampled_from([1, 7, 30]),
    lanes=st.sampled_from(["1", "4"]),
)
# Two lanes of which each has such a point, and always the same one failed first.
@example(broken=[True, False, False, True, False, False, False, False], series=2, batch=7, lanes="4")
# Whole batches of nothing that is ever taken, and a good point behind them, between them and before them.
@example(broken=[True] * 8 + [False], series=9, batch=7, lanes="1")
@example(broken=[True] * 15 + [False] + [True] * 15, series=31, batch=7, lanes="1")
@example(broken=[True] * 3 + [False] + [True] * 10, series=14, batch=7, lanes="4")
@settings(max_examples=60, deadline=None)
def test_in_the_end_only_points_wait_at_which_the_destination_fails_and_those_behind_them(
    broken: list[bool], series: int, batch: int, lanes: str
) -> None:
    harness = slow_harness(BATCH_MAX_POINTS=str(batch), CONCURRENCY=lanes)
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda wire: broken[int(wire["value"])])
    points = [point(value, dimensions={"n": value % series}) for value in range(len(broken))]
    stuck_series = [number % series for number, is_bad in enumerate(broken) if is_bad]
    stuck = sum(
        any(broken[earlier] for earlier in range(number % series, number + 1, series))
        for number in range(len(broken))
    )
    for _ in range(2 * len(broken) + 3):
        report = harness.handle(ckafka(*points))
        assert report["outcomes"]["undelivered"] >= stuck
        if report["outcomes"]["undelivered"] == stuck:
            break
        harness.clock.sleep(60)
    else:
        pytest.fail(f"good points of series other than {stuck_series} are left")


def test_a_destination_that_fails_at_everything_is_asked_little_more_than_once_for_each_batch() -> None:
    harness = slow_harness()
    fail_at(harness, ReturnCode.INTERNAL_FAILURE, lambda _: True)
    event = ckafka(*(point(value, dimensions={"n": value}) for value in range(300)))
    # Four attempts for each batch, and for the point that is tried alone, once the event before had failed too.
    for requests in (48, 52, 52):
        report = harness.handle(event)
        assert outcomes(report) == {"undelivered": 300}
        assert report["requests"]["sent"] == requests
        harness.clock.sleep(60)


def test_without_deduplication_an_event_gets_no_further_than_one_delivery_of_it() -> None:
    harness = slow_harness(DEDUPE="off", CONCURRENCY="1", BATCH_MAX_POINTS="1")
    harness.receiver.latency_s = 0.25
    event = ckafka(*(point(value) for value in range(300)))
    left = [harness.handle(event)["outcomes"]["undelivered"] for _ in range(3)]
    assert left[0] > 0
    assert left == [left[0]] * 3


def late_points(series: int, each: int, *, bad: Callable[[int], bool]) -> list[Any]:
    """Points of so many series, of which the bad ones are an hour late."""
    return [
        point(
            number,
            dimensions={"n": number % series},
            timestamp=NOW_MS - (3_600_000 if bad(number % series) else 0) + number // series,
        )
        for number in range(series * each)
    ]


def out_of_order_harness(series: int) -> RemoteWriteHarness:
    """A Prometheus that holds a sample of a minute ago of each series, and takes 20 ms for a reply."""
    harness = make_remote_write_harness()
    held = [point(0, dimensions={"n": number}, timestamp=NOW_MS - 60_000) for number in range(series)]
    assert outcomes(harness.handle(held)) == {"delivered": series}
    process = harness.prometheus.process

    def process_slowly(request: Any) -> HttpReply:
        harness.clock.sleep(REPLY_S / LANES)
        return process(request)

    harness.prometheus.process = process_slowly  # type: ignore[method-assign]  # the fake is ours to slow down
    return harness


@pytest.mark.slow
@pytest.mark.parametrize("make_event", [one_each, ten_each])
def test_ten_thousand_samples_out_of_order_are_done_within_three_deliveries(
    make_event: Callable[[list[Any]], dict[str, Any]],
) -> None:
    harness = out_of_order_harness(100)
    points = late_points(100, 100, bad=lambda _: True)
    reports = deliveries(harness, make_event(points), most=3)
    assert reports[-1]["outcomes"]["rejected"] == 10_000


@pytest.mark.slow
def test_good_samples_among_those_out_of_order_are_all_delivered_at_once() -> None:
    harness = out_of_order_harness(100)
    points = late_points(100, 100, bad=lambda series: series % 2 > 0)
    reports = deliveries(harness, ckafka(*points), most=3)
    assert reports[0]["outcomes"]["delivered"] == 5000
    assert reports[-1]["outcomes"]["rejected"] == 5000


@pytest.mark.slow
@given(bad=st.lists(st.booleans(), min_size=1, max_size=120), mostly=st.booleans())
@settings(max_examples=100, deadline=None)
def test_finding_the_points_at_fault_takes_no_more_than_two_requests_for_each(
    bad: list[bool], *, mostly: bool
) -> None:
    harness = make_harness(BATCH_MAX_POINTS="30")
    harness.receiver.refuse_if = refuse_bad(
        ReturnCode.PARAMETER_TYPE, lambda wire: bad[wire["value"]] == mostly
    )
    report = harness.handle([point(value, f"m{value % 5}") for value in range(len(bad))])
    assert report["requests"]["sent"] <= 2 * len(bad)
    assert report["outcomes"]["rejected"] == bad.count(mostly)


MOODS = [
    None,
    *ReturnCode,
    HttpReply(500, {}, b""),
    HttpReply(503, {"Retry-After": "20"}, b""),
    HttpReply(429, {}, b""),
    HttpReply(200, {}, b"<html>"),
    Failure(Fault.UNREACHABLE, "refused"),
    Failure(Fault.UNANSWERED, "timeout"),
]


@pytest.mark.slow
@given(
    kinds=st.lists(
        st.sampled_from(["good", "undeclared", "value", "namespace", "long"]), min_size=1, max_size=150
    ),
    series=st.integers(1, 20),
    moods=st.lists(st.sampled_from(MOODS), max_size=30),
    batch=st.sampled_from([1, 7, 30]),
    time_limit_ms=st.sampled_from([1500, 4000, 60_000]),
    names=st.sampled_from(NAMES),
)
@example(
    kinds=["good", "undeclared", *["good"] * 6],
    series=1,
    moods=[ReturnCode.TOO_MANY_REQUESTS, HttpReply(429, {}, b"")],
    batch=30,
    time_limit_ms=60_000,
    names=ReturnCode.DIMENSION_CHECK_FAILED,
)
@settings(max_examples=150, deadline=None)
def test_every_delivery_makes_progress_and_some_redelivery_ends_with_nothing_undelivered(
    kinds: list[str], series: int, moods: list[Any], batch: int, time_limit_ms: int, names: ReturnCode
) -> None:
    harness = slow_harness(BATCH_MAX_POINTS=str(batch))

    def refuse_by_kind(request: PutRequest) -> ReturnCode | None:
        held = {wire["metricName"].partition("_")[0] for wire in request.data}
        if request.namespace == "gone":
            return ReturnCode.NAMESPACE_ILLEGAL
        if "long" in held and len(request.data) > 1:
            return ReturnCode.DATA_TOO_LONG
        if "undeclared" in held:
            return names
        return ReturnCode.PARAMETER_INVALID if "value" in held else None

    harness.receiver.refuse_if = refuse_by_kind
    event = ckafka(
        *(
            point(value, f"{kind}_{value % 3}", dimensions={"n": value % series}, namespace="gone" if kind == "namespace" else "pc")
            for value, kind in enumerate(kinds)
        )
    )  # fmt: skip
    harness.receiver.script.extend(step for step in moods if step is not ReturnCode.OK)
    harness.handle(event, time_limit_ms)
    harness.receiver.script.clear()
    left = len(kinds) + 1
    for _ in range(len(kinds) + 1):
        harness.clock.sleep(60)
        report = harness.handle(event, time_limit_ms)
        assert report["outcomes"]["undelivered"] < left, "a delivery without progress"
        left = report["outcomes"]["undelivered"]
        if not left:
            break
    assert left == 0
    arrived: dict[tuple[str, str], list[int]] = {}
    for _, wire in harness.receiver.points:
        arrived.setdefault((wire["metricName"], str(wire["dimensions"])), []).append(int(wire["value"]))
    for in_order in arrived.values():
        assert list(dict.fromkeys(in_order)) == sorted(set(in_order)), (
            "a point passed an earlier one of its series"
        )


def test_a_batch_that_is_too_large_gets_smaller_although_each_delivery_has_time_for_one_request() -> None:
    harness = make_harness(BATCH_MAX_POINTS="8")
    harness.receiver.limits = RequestLimits(max_points=1)
    event = ckafka([point(number, f"m{number}") for number in range(8)])
    for _ in range(30):
        report = harness.handle(event, time_limit_ms=1200)
        if not report["outcomes"]["undelivered"]:
            break
        harness.clock.sleep(60)
    assert sorted(values(harness.receiver.points)) == list(range(8))

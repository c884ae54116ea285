"""Work converges: every delivery of an event settles some of it, and some redelivery ends with nothing undelivered.

Time is virtual: each request takes what a reply takes, divided by the lanes, since a fake clock has no requests side by side.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.http import Failure, Fault, HttpReply
from metric_forwarder.delivery.suspects import ENOUGH
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest
from support.fakes import START
from support.harness import (
    Harness,
    RemoteWriteHarness,
    ckafka,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
)

REPLY_S, LANES = 0.02, 4
NOW_MS = round(START * 1000)
AnyHarness = Harness | RemoteWriteHarness


def slow_harness(**members: str) -> Harness:
    """A receiver that takes 20 ms for a reply."""
    harness = make_harness(**members)
    harness.receiver.latency_s = REPLY_S / LANES
    return harness


def refuse(code: ReturnCode, is_bad: Callable[[Any], bool]) -> Callable[[PutRequest], ReturnCode | None]:
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
    harness.receiver.refuse_if = refuse(code, lambda wire: wire["metricName"] == "undeclared")
    points = [
        point(value, "undeclared", dimensions={"ip": f"10.0.0.{value % 200}"}) for value in range(10_000)
    ]
    (report,) = deliveries(harness, make_event(points), most=1)
    assert outcomes(report) == {"rejected": 10_000}
    assert report["requests"]["sent"] < 3 * ENOUGH
    assert {error["code"] for error in report["errors"]} == {code}


def test_the_reason_of_a_point_that_is_refused_without_asking_says_so(tmp_path: Path) -> None:
    harness = make_harness(CONCURRENCY="1", SPOOL=tmp_path.as_uri())
    harness.receiver.refuse_if = refuse(ReturnCode.NO_VALID_DATA, lambda _: True)
    assert outcomes(harness.handle(ckafka(*(point(value) for value in range(200))))) == {"rejected": 200}
    (letters,) = [path.read_text("utf-8") for path in tmp_path.glob("*.jsonl")]
    assert letters.count("refused one by one with this code") == 200 - ENOUGH


@pytest.mark.slow
@pytest.mark.parametrize("make_event", [one_each, ten_each])
def test_good_points_among_those_of_an_undeclared_metric_are_all_delivered_at_once(
    make_event: Callable[[list[Any]], dict[str, Any]],
) -> None:
    harness = slow_harness()
    harness.receiver.refuse_if = refuse(
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
    harness.receiver.refuse_if = refuse(code, lambda wire: wire["value"] % 3 > 0)
    points = [point(value, dimensions={"n": value % 50}) for value in range(3000)]
    reports = deliveries(harness, ckafka(*points), most=3)
    # What was rejected before is told as rejected again.
    assert (total(reports, "delivered"), reports[-1]["outcomes"]["rejected"]) == (1000, 2000)


@pytest.mark.slow
def test_points_that_are_bad_each_for_itself_are_done_within_three_deliveries() -> None:
    harness = slow_harness()
    harness.receiver.refuse_if = refuse(ReturnCode.PARAMETER_INVALID, lambda wire: wire["value"] % 2 > 0)
    points = [point(value, dimensions={"n": value % 100}) for value in range(10_000)]
    reports = deliveries(harness, ckafka(*points), most=3)
    assert (total(reports, "delivered"), reports[-1]["outcomes"]["rejected"]) == (5000, 5000)


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
    harness.receiver.refuse_if = refuse(ReturnCode.PARAMETER_TYPE, lambda wire: bad[wire["value"]] == mostly)
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

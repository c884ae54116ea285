"""The time of a point: how far ahead of the clock it may be, and what it is if the point brings none."""

import base64
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.intake.given_times import EventTimes, GivenTimes
from metric_forwarder.model import Message, Point, Series
from metric_forwarder.settings.settings import Settings
from metric_forwarder.times import NUMBERS_BELOW, all_nanoseconds, in_words, nanoseconds
from support.harness import (
    RemoteWriteHarness,
    ckafka,
    environ,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
    remote_write_environ,
)

# The fake clock's.
NOW_S = 1_767_225_600
AHEAD: dict[str, Any] = {
    "65 minutes, in seconds": NOW_S + 3900,
    "601 seconds, as text": "2026-01-01T00:10:00.001Z",
    "three days, in milliseconds": (NOW_S + 3 * 86400) * 1000,
    "30 years": "2056-01-01T00:00:00Z",
    "milliseconds times ten": NOW_S * 10_000,
}


# --- as people say it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 minutes"), (7199, "120 minutes"), (7200, "2 hours"), (86_400, "24 hours"),
     (200_000, "2 days"), (95_837_762, "3 years"), (9.5e11, "30104 years")],
)  # fmt: skip
def test_a_span_of_time_is_reported_in_its_largest_unit(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


def test_the_age_of_an_old_point_is_reported_in_its_largest_unit() -> None:
    (error,) = make_harness().handle([point(1, timestamp=NOW_S - 95_837_762)])["errors"]
    assert error["message"].startswith("is 3 years old, more than MF_MAX_AGE_S allows")


# --- ahead of the clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_harness, make_remote_write_harness], ids=["receiver", "remote-write"])
@pytest.mark.parametrize("timestamp", AHEAD.values(), ids=AHEAD)
def test_a_point_more_than_ten_minutes_ahead_is_invalid_for_every_destination(
    make: Any, timestamp: Any
) -> None:
    harness = make()
    report = harness.handle(ckafka(point(1, timestamp=timestamp), point(2)))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    (error,) = report["errors"]
    assert (error["rule"], error["pointer"], error["source"]) == ("maxAhead", "/timestamp", "metrics/0@0")
    assert "clock" in error["message"]
    assert "unit" in error["message"]


@pytest.mark.parametrize("make", [make_harness, make_remote_write_harness], ids=["receiver", "remote-write"])
def test_a_point_at_most_ten_minutes_ahead_is_delivered(make: Any) -> None:
    assert outcomes(
        make().handle([point(1, timestamp=NOW_S + 600), point(2, metric="m", timestamp=NOW_S - 1)])
    ) == {"delivered": 2}


def test_how_far_ahead_a_point_may_be_is_a_setting() -> None:
    ahead = point(1, timestamp=NOW_S + 61)
    assert outcomes(make_harness(MAX_AHEAD_S="60").handle(ahead)) == {"invalid": 1}
    assert outcomes(make_harness(MAX_AHEAD_S="0").handle(point(1, timestamp=NOW_S * 10_000))) == {
        "delivered": 1
    }
    assert Settings.read(environ()).max_ahead_s == Settings.read(remote_write_environ()).max_ahead_s == 600


def firing(time: str) -> dict[str, Any]:
    return {
        "Type": "Timer",
        "TriggerName": "t",
        "Time": time,
        "Message": '{"metricName":"m","dimensions":{},"value":1}',
    }


def test_a_trigger_whose_time_is_ahead_spoils_no_series_that_carries_times() -> None:
    harness = make_remote_write_harness()
    assert outcomes(harness.handle(firing("2026-01-01T00:01:00Z"))) == {"delivered": 1}
    report = harness.handle(firing("2026-01-01T01:05:00Z"))
    assert outcomes(report) == {"invalid": 1}
    assert (report["errors"][0]["rule"], report["errors"][0]["pointer"]) == ("maxAhead", "")
    # The receiver stamps points on arrival: nothing is wrong with this one there.
    assert outcomes(make_harness().handle(firing("2026-01-01T01:05:00Z"))) == {"delivered": 1}


# --- times that the forwarder gives ----------------------------------------------------------------------------

READING = {"metricName": "m", "dimensions": {"a": "b"}}


def cls(second: int, *values: int) -> dict[str, Any]:
    """Logs of one second, to the microsecond as CLS tells it."""
    records = [
        {"timestamp": str((NOW_S + second) * 1_000_000), "content": json.dumps({**READING, "value": value})}
        for value in values
    ]
    packed = gzip.compress(json.dumps({"topic_id": "t", "records": records}).encode())
    return {"clslogs": {"data": base64.b64encode(packed).decode()}}


def stored(harness: RemoteWriteHarness) -> list[tuple[int, float]]:
    (samples,) = harness.prometheus.samples.values()
    return samples


def test_seventy_logs_of_one_second_in_two_batches_are_seventy_samples() -> None:
    harness = make_remote_write_harness()
    for batch in (range(40), range(40, 70)):
        assert outcomes(harness.handle(cls(-5, *batch))) == {"delivered": len(batch)}
    assert [value for _, value in stored(harness)] == list(range(70))
    assert [time_ms for time_ms, _ in stored(harness)] == [
        (NOW_S - 5) * 1000 + number for number in range(70)
    ]


def test_a_time_follows_on_whatever_it_comes_from() -> None:
    harness = make_remote_write_harness()
    one = {**READING, "value": 1}
    events: list[Any] = [
        cls(0, 1, 1),
        ckafka(*[one] * 50),  # stamped on arrival
        {"Type": "Timer", "TriggerName": "t", "Time": "2026-01-01T00:00:00Z", "Message": json.dumps(one)},
        {"specversion": "1.0", "id": "1", "source": "s", "time": NOW_S * 1000, "data": one},
        cls(-1, 1, 1, 1),
        ckafka(one, first_offset=99),
    ]
    delivered = [outcomes(harness.handle(event)) for event in events]
    assert delivered == [{"delivered": count} for count in (2, 50, 1, 1, 3, 1)]
    times = [time_ms for time_ms, _ in stored(harness)]
    assert times == list(range(NOW_S * 1000, NOW_S * 1000 + 58))


@pytest.mark.slow
def test_a_time_follows_on_after_the_instance_has_met_any_number_of_series() -> None:
    harness = make_remote_write_harness()
    assert outcomes(harness.handle(cls(0, 1, 2, 3))) == {"delivered": 3}
    many = [
        {"metricName": "other", "dimensions": {"a": str(n), "b": "x" * 1500}, "value": 1} for n in range(6000)
    ]
    assert outcomes(harness.handle([*many])) == {"delivered": 6000}
    assert outcomes(harness.handle(cls(0, 4))) == {"delivered": 1}


def test_a_clock_that_was_wrong_for_one_event_moves_no_later_time() -> None:
    harness = make_remote_write_harness()
    harness.clock.set_wrong_by(3600)
    harness.handle(ckafka({**READING, "value": 1}))
    harness.clock.set_wrong_by(0)
    report = harness.handle(ckafka({**READING, "value": 2}, first_offset=1))
    # The destination holds a sample of an hour later, and says so: the point is not delivered with a time that is false.
    assert outcomes(report) == {"rejected": 1}
    assert report["errors"][0]["rule"] == "out of order"
    harness.clock.sleep(3600)
    assert outcomes(harness.handle(ckafka({**READING, "value": 3}, first_offset=2))) == {"delivered": 1}
    assert [time_ms for time_ms, _ in stored(harness)] == [(NOW_S + 3600) * 1000, (NOW_S + 3600) * 1000 + 1]


def test_no_time_that_is_given_is_more_than_ten_minutes_ahead_of_the_clock() -> None:
    times = EventTimes(GivenTimes(), NOW_S * 1000)
    series = Series("pc", "m", {})
    (last,) = times.next_ms([series], [NOW_S * 1000 + 599_998])
    given = times.next_ms([series] * 3, [NOW_S * 1000] * 3)
    assert given == [last + 1, last + 2, NOW_S * 1000]


def test_a_time_is_remembered_only_if_its_point_was_sent() -> None:
    harness = make_remote_write_harness(MAX_ATTEMPTS="1")
    harness.prometheus.script.append(HttpReply(503, {}, b""))
    assert outcomes(harness.handle(cls(0, 1, 2))) == {"undelivered": 2}
    harness.clock.sleep(60)
    assert outcomes(harness.handle(cls(0, 1, 2))) == {"delivered": 2}
    assert [time_ms for time_ms, _ in stored(harness)] == [NOW_S * 1000, NOW_S * 1000 + 1]


def test_a_time_that_was_given_before_stays_the_same_in_the_spool(tmp_path: Path) -> None:
    harness = make_remote_write_harness(SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    harness.prometheus.script.append(HttpReply(503, {}, b""))
    assert outcomes(harness.handle(cls(-3, 1))) == {"spooled": 1}
    harness.clock.sleep(120)
    assert outcomes(harness.handle(cls(-2, 2))) == {"delivered": 1}
    report = harness.handle({**firing("2026-01-01T00:02:00Z"), "Message": '{"replay": true}'})
    # It is a reading of then: to give it a later time would be false.
    assert outcomes(report) == {"rejected": 1}
    assert outcomes(harness.handle(cls(-2, 3))) == {"delivered": 1}
    assert [time_ms - NOW_S * 1000 for time_ms, _ in stored(harness)] == [-2000, -1999]


def test_no_more_series_are_remembered_than_fit_into_the_bound() -> None:
    given = GivenTimes(max_remembered=2)
    for name in ("a", "b", "c"):
        point_of = Point(0, Series("pc", name, {}), 1, None, None, Message("s", None), "", None, 5, b"")
        given.remember([point_of])
    assert [given.last_ms(Series("pc", name, {})) for name in ("a", "b", "c")] == [None, 5, 5]


def test_twenty_thousand_logs_whose_milliseconds_come_twice_cost_as_much_each_as_a_few() -> None:
    """Steps are counted, since time depends on the machine."""
    counted: list[int] = []
    for count in (5000, 10_000, 20_000):
        times, series, steps = EventTimes(GivenTimes(), NOW_S * 1000), Series("pc", "m", {}), 0

        def step(*_: Any) -> Any:
            nonlocal steps
            steps += 1
            return step

        before = sys.gettrace()  # that of a coverage run, which goes on afterwards
        sys.settrace(step)
        try:
            times.next_ms([series] * count, (NOW_S * 1000 + number // 2 for number in range(count)))
        finally:
            sys.settrace(before)
        counted.append(steps)
    assert counted[2] < 2.1 * counted[1] < 2.1 * 2.1 * counted[0]


# --- of many points at once --------------------------------------------------------------------------------------

NUMBERS = (
    st.integers(-1, 10**14)
    | st.integers(0, 10**14).map(lambda thousandths: thousandths / 1000)
    | st.integers(0, 10**17).map(lambda thousandths: thousandths / 1000)
    | st.floats()
)


@given(st.lists(NUMBERS) | st.lists(st.integers(10**11, 10**14)) | st.lists(st.floats(0, 1e11)))
def test_the_times_of_many_points_are_those_of_each_point(timestamps: list[float]) -> None:
    are_valid = all(0 <= timestamp < NUMBERS_BELOW for timestamp in timestamps)
    expected = [nanoseconds(timestamp) for timestamp in timestamps] if are_valid else None
    assert all_nanoseconds(timestamps) == expected

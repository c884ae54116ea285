"""The time of a point: how far ahead of the clock it may be."""

from typing import Any

import pytest

from metric_forwarder.settings.settings import Settings
from support.harness import (
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

"""The same promises at every destination: outcomes add up, what is called delivered is there, nothing is lost."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.http import Failure, Fault, HttpReply
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.fakes import START, Answer
from support.harness import (
    Harness,
    RemoteWriteHarness,
    ckafka,
    make_harness,
    make_remote_write_harness,
    point,
)

NOW_MS = round(START * 1000)
UNANSWERED = Failure(Fault.UNANSWERED, "timeout")
REPLAY = {"Type": "Timer", "TriggerName": "r", "Time": "2026-01-01T09:00:00Z", "Message": '{"replay": true}'}
POISON = "poison"


class Ground(Protocol):
    """A destination in this process, and an application that sends there; after each event a minute passes."""

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]: ...

    def meet(self, steps: list[str]) -> None:
        """What the next requests meet; the last words on it."""

    def arrived(self) -> list[tuple[str, int]]:
        """Metric and value of what is stored, each series in the order of arrival."""


class ReceiverGround:
    def __init__(self, **given_settings: str) -> None:
        self._harness: Harness = make_harness(**given_settings)
        self._harness.receiver.refuse_if = lambda request: (
            ReturnCode.DIMENSION_CHECK_FAILED
            if any(wire["metricName"] == POISON for wire in request.data)
            else None
        )

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        report = self._harness.handle(event, time_limit_ms)
        self._harness.clock.sleep(60)
        return report

    def meet(self, steps: list[str]) -> None:
        receiver = self._harness.receiver
        table: dict[str, Any] = {
            "down": ReturnCode.INTERNAL_FAILURE,
            "busy": ReturnCode.TOO_MANY_REQUESTS,
            "closed": ReturnCode.CLIENT_BLOCKED,
            "odd": ReturnCode.PARAMETER_INVALID,
            **common_faults(receiver.process),
        }
        receiver.script.clear()
        receiver.script.extend(table[step] for step in steps)

    def arrived(self) -> list[tuple[str, int]]:
        return [(wire["metricName"], int(wire["value"])) for _, wire in self._harness.receiver.points]


class RemoteWriteGround:
    def __init__(self, *, is_partial: bool, **given_settings: str) -> None:
        self._harness: RemoteWriteHarness = make_remote_write_harness(is_partial=is_partial, **given_settings)
        self._harness.prometheus.refuse_if = lambda series: ("__name__", f"pc_{POISON}") in series.labels

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        report = self._harness.handle(event, time_limit_ms)
        self._harness.clock.sleep(60)
        return report

    def meet(self, steps: list[str]) -> None:
        prometheus = self._harness.prometheus
        table: dict[str, Any] = {
            "down": HttpReply(500, {}, b""),
            "busy": HttpReply(429, {}, b""),
            "closed": HttpReply(401, {}, b""),
            "odd": HttpReply(400, {}, b"out of order sample"),
            **common_faults(prometheus.process),
        }
        prometheus.script.clear()
        prometheus.script.extend(table[step] for step in steps)

    def arrived(self) -> list[tuple[str, int]]:
        return [
            (dict(labels)["__name__"].removeprefix("pc_"), int(value))
            for labels, samples in self._harness.prometheus.samples.items()
            for _, value in samples
        ]


def common_faults(process: Callable[[Any], Answer]) -> dict[str, Any]:
    def lose_answer(request: Any) -> Answer:
        process(request)
        return UNANSWERED

    return {
        "fine": None,
        "unreachable": Failure(Fault.UNREACHABLE, "refused"),
        "unanswered": UNANSWERED,
        "lost": lose_answer,
        "gateway": HttpReply(502, {}, b""),
    }


GROUNDS: dict[str, Callable[..., Ground]] = {
    "receiver": ReceiverGround,
    "remote-write": lambda **given_settings: RemoteWriteGround(is_partial=False, **given_settings),
    "remote-write, storing what is good": lambda **given_settings: RemoteWriteGround(
        is_partial=True, **given_settings
    ),
}
STEPS = st.lists(
    st.sampled_from(
        ["fine", "down", "busy", "closed", "odd", "unreachable", "unanswered", "lost", "gateway"]
    ),
    max_size=15,
)


@pytest.mark.slow
@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@given(
    metrics=st.lists(st.sampled_from(["a", "b", "c", POISON]), max_size=20),
    order=st.randoms(use_true_random=False),
    steps=STEPS,
    batch=st.integers(1, 8),
    concurrency=st.sampled_from(["1", "4"]),
    spooling=st.booleans(),
    hold=st.booleans(),
)
@settings(max_examples=250, deadline=None)
def test_no_schedule_of_faults_loses_a_point_or_lies_about_one(
    ground: Callable[..., Ground],
    metrics: list[str],
    order: Any,
    steps: list[str],
    batch: int,
    concurrency: str,
    *,
    spooling: bool,
    hold: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = ground(
            BATCH_MAX_POINTS=str(batch),
            CONCURRENCY=concurrency,
            MAX_ATTEMPTS="2",
            UNCERTAIN="hold" if hold else "resend",
            MAX_AGE_S="0",
            **({"SPOOL": Path(folder).as_uri()} if spooling else {}),
        )
        bodies = [point(n, metric, timestamp=NOW_MS + n) for n, metric in enumerate(metrics)]
        order.shuffle(bodies)
        event = ckafka(*bodies)
        place.meet(steps)
        reports = [place.handle(event)]
        assert len(set(place.arrived())) >= reports[0]["outcomes"]["delivered"]
        assert not spooling or reports[0]["outcomes"]["undelivered"] == 0
        for again in (steps[::-1], []):
            place.meet(again)
            reports.append(place.handle(REPLAY if spooling else event))
    told = json.dumps([report["outcomes"] for report in reports])
    assert reports[-1]["outcomes"]["undelivered"] == reports[-1]["outcomes"]["spooled"] == 0, told
    arrived = place.arrived()
    expected = {(metric, n) for n, metric in enumerate(metrics)}
    lost = expected - set(arrived)
    # What was refused for good, or held by wish, is reported as such, and is no loss in silence.
    assert len(lost) <= sum(
        report["outcomes"]["rejected"] + report["outcomes"]["uncertain"] for report in reports
    ), told
    assert set(arrived) <= expected
    if hold or isinstance(place, RemoteWriteGround):
        assert max(Counter(arrived).values(), default=1) == 1, told
    if isinstance(place, RemoteWriteGround):
        for metric in set(metrics):
            values = [value for name, value in arrived if name == metric]
            assert values == sorted(values)
    elif not spooling:
        came = [body["value"] for body in bodies]
        for metric in set(metrics):
            first = list(dict.fromkeys(value for name, value in arrived if name == metric))
            assert first == sorted(first, key=came.index), "a point passed an earlier one of its series"


@pytest.mark.slow
@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@given(
    metrics=st.lists(st.sampled_from(["a", "b", "c", POISON]), max_size=25),
    steps=st.lists(st.sampled_from(["fine", "down", "busy", "lost", "unanswered"]), max_size=12),
    batch=st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
def test_with_time_and_attempts_enough_exactly_the_poison_is_rejected(
    ground: Callable[..., Ground], metrics: list[str], steps: list[str], batch: int
) -> None:
    place = ground(BATCH_MAX_POINTS=str(batch), MAX_ATTEMPTS="20")
    place.meet(steps)
    event = ckafka(*[point(n, metric, timestamp=NOW_MS + n) for n, metric in enumerate(metrics)])
    # Each refusal doubles the pause: many of them take minutes of the clock that nobody waits for.
    report = place.handle(event, 900_000)
    poison = metrics.count(POISON)
    assert report["outcomes"]["rejected"] == poison
    assert report["outcomes"]["delivered"] == len(metrics) - poison

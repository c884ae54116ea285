"""An event that takes longer to be taken in than there is time for gets further with each delivery."""

import itertools
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.intake.schema import SCHEMAS
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.fakes import FakeClock, InProcessReceiver
from support.harness import ckafka, environ, outcomes, point, report_of


class SlowProcessor(FakeClock):
    """Each look at the clock comes a tenth of a second after the one before."""

    def monotonic(self) -> float:
        self.sleep(0.1)
        return super().monotonic()


def application(**settings: str) -> tuple[Application, InProcessReceiver, SlowProcessor]:
    clock = SlowProcessor()
    receiver = InProcessReceiver(clock)
    # A user's schema judges each point alone, and looks at the clock before each.
    environment = environ(SCHEMA=str(SCHEMAS / "receiver.json"), **settings)
    return Application(environment, clock, lambda _: receiver), receiver, clock


def deliveries(app: Application, clock: FakeClock, event: Any) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    while not found or found[-1].get("undelivered"):
        found.append(outcomes(report_of(app, event, time_limit_ms=10_000)))
        assert len(found) < 60
        clock.sleep(60)
    return found


# So long that a few fill what is decoded together.
NOTE = "x" * 4_000


def messages(count: int) -> list[Any]:
    return [point(number, dimensions={"n": number, "note": NOTE}) for number in range(count)]


@pytest.mark.parametrize(
    "settings", [{}, {"DEDUPE_WINDOW_S": "1"}, {"DEDUPE": "off"}], ids=["usual", "short", "off"]
)
def test_each_delivery_goes_on_where_the_one_before_had_to_stop(settings: dict[str, str]) -> None:
    app, receiver, clock = application(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", **settings)
    found = deliveries(app, clock, ckafka(*messages(900), "bad"))
    assert len(found) > 3
    assert all(
        later["undelivered"] < earlier["undelivered"] for earlier, later in itertools.pairwise(found[:-1])
    )
    assert found[-1]["invalid"] == 1
    assert sum(found[-1].values()) == 901
    sent = [int(wire["value"]) for _, wire in receiver.points]
    assert sorted(set(sent)) == list(range(900))


# Values that are looked at one by one, so that time is up in the middle of a message.
OURS = [point(1, metricName="not a name")] * 3
OTHERS = "m,a=b v=1\n" * 3


@pytest.mark.parametrize(
    ("message", "points"),
    [(OURS, 3), (OTHERS, 3), ([*OURS, point(1, dimensions={})], 4)],
    ids=["ours", "lines", "mixed"],
)
def test_a_message_in_which_time_was_up_is_the_first_one_of_the_next_delivery(
    message: Any, points: int
) -> None:
    app, _, clock = application(BATCH_MAX_POINTS="500", DEDUPE="off")
    event = ckafka(*[message] * 40)
    found = deliveries(app, clock, event)
    assert len(found) > 2
    assert all(
        later["undelivered"] < earlier["undelivered"] for earlier, later in itertools.pairwise(found[:-1])
    )
    assert sum(found[-1].values()) == 40 * points


def test_what_an_earlier_delivery_has_settled_keeps_its_outcome() -> None:
    app, _, clock = application(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000")
    event = ckafka("bad", 'm,a=b t="a text",v=1', *messages(900))
    found = deliveries(app, clock, event)
    assert len(found) > 3
    assert all((report["invalid"], report["filtered"]) == (1, 1) for report in found)
    assert all(sum(report.values()) == 903 for report in found)


def test_another_event_with_the_same_beginning_is_taken_in_whole() -> None:
    app, receiver, clock = application(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", DEDUPE="off")
    event = ckafka(*messages(900))
    first = outcomes(report_of(app, event, time_limit_ms=10_000))
    assert first["undelivered"]
    clock.sleep(60)
    begun = ckafka(*messages(3))
    assert outcomes(report_of(app, begun, time_limit_ms=10_000)) == {"delivered": 3}
    del receiver


def test_points_that_are_not_delivered_are_not_passed_over() -> None:
    app, receiver, clock = application(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", MAX_ATTEMPTS="1")
    receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    event = ckafka(*messages(900))
    for _ in range(3):
        assert outcomes(report_of(app, event, time_limit_ms=10_000)) == {"undelivered": 900}
        clock.sleep(60)
    receiver.refuse_if = lambda _: None
    deliveries(app, clock, event)
    assert sorted({int(wire["value"]) for _, wire in receiver.points}) == list(range(900))

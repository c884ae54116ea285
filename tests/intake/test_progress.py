"""An event that takes longer to be taken in than there is time for gets further with each delivery."""

import itertools
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.intake.progress import Progress
from metric_forwarder.intake.schema import SCHEMAS
from metric_forwarder.model import Message, Outcome
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.reporting.ledger import Ledger
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
    return Application(environment, clock, lambda: receiver), receiver, clock


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


def test_points_that_are_passed_over_while_nothing_else_is_taken_stay_known_longer_than_a_window() -> None:
    app, receiver, clock = application(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", MAX_ATTEMPTS="1")
    event = ckafka(*messages(900))
    known = outcomes(report_of(app, event, time_limit_ms=10_000))["delivered"]
    receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    for _ in range(15):
        clock.sleep(60)
        assert outcomes(report_of(app, event, time_limit_ms=10_000))["duplicate"] == known
    clock.sleep(60)
    # With time enough the event is taken in whole, and so read from its beginning when it comes once more.
    report_of(app, event, time_limit_ms=900_000)
    receiver.refuse_if = lambda _: None
    clock.sleep(60)
    deliveries(app, clock, event)
    assert sorted(int(wire["value"]) for _, wire in receiver.points) == list(range(900))


# --- what is remembered of an event ------------------------------------------------------------------------


def deliver(
    progress: Progress,
    places: list[str | None],
    becomes: Outcome | None = Outcome.INVALID,
    *,
    stop_at: str | None = None,
) -> tuple[list[str | None], dict[Outcome, int]]:
    """Deliver an event of messages with one point each; return the places of those taken in, and what was counted."""
    ledger = Ledger()
    delivery = progress.begin(ledger)
    taken = []
    stopped_at = None
    for message in delivery.rest(Message("s", "{}", place) for place in places):
        taken.append(message.coordinates)
        if stop_at is not None and message.coordinates == stop_at:
            stopped_at = message, ledger.received
            break
        row = ledger.open()
        if becomes is not None:
            ledger.settle(row, becomes)
    delivery.close(stopped_at, is_whole=stopped_at is None)
    return taken, {outcome: count for outcome, count in ledger.outcomes().items() if count}


def test_what_was_taken_in_is_counted_again_and_not_read_again() -> None:
    progress = Progress(FakeClock())
    deliver(progress, ["a", "b", "c", "d"], stop_at="c")
    assert deliver(progress, ["a", "b", "c", "d"], stop_at="d") == (["c", "d"], {Outcome.INVALID: 3})
    assert deliver(progress, ["a", "b", "c", "d"]) == (["d"], {Outcome.INVALID: 4})


def test_an_event_that_gets_no_further_for_five_minutes_is_read_once_from_its_beginning() -> None:
    clock = FakeClock()
    progress = Progress(clock)
    deliver(progress, ["a", "b", "c", "d"], stop_at="c")
    read = []
    for _ in range(6):
        clock.sleep(100)
        read.append(deliver(progress, ["a", "b", "c", "d"], Outcome.UNDELIVERED, stop_at="d")[0][0])
    assert read == ["c", "c", "a", "c", "c", "a"]


def test_an_event_that_is_read_from_its_beginning_goes_on_afterwards_where_it_was() -> None:
    clock = FakeClock()
    progress = Progress(clock)
    deliver(progress, ["a", "b", "c", "d"], stop_at="d")
    clock.sleep(300)
    assert deliver(progress, ["a", "b", "c", "d"], stop_at="b")[0] == ["a", "b"]
    assert deliver(progress, ["a", "b", "c", "d"]) == (["d"], {Outcome.INVALID: 4})


def test_what_was_delivered_is_a_duplicate_the_next_time() -> None:
    progress = Progress(FakeClock())
    deliver(progress, ["a", "b", "c"], Outcome.DELIVERED, stop_at="c")
    taken, counted = deliver(progress, ["a", "b", "c", "d"], Outcome.DELIVERED, stop_at="d")
    assert (taken, counted) == (["c", "d"], {Outcome.DUPLICATE: 2, Outcome.DELIVERED: 1})
    taken, counted = deliver(progress, ["a", "b", "c", "d"], Outcome.DELIVERED)
    assert (taken, counted) == (["d"], {Outcome.DUPLICATE: 3, Outcome.DELIVERED: 1})


@pytest.mark.parametrize("place", [None, "\ud800"], ids=["none", "half a character"])
def test_only_the_first_message_of_an_event_needs_coordinates_and_any_text_will_do(place: str | None) -> None:
    progress = Progress(FakeClock())
    deliver(progress, ["a", place, "c"], stop_at="c")
    assert deliver(progress, ["a", place, "c"])[0] == ["c"]


@pytest.mark.parametrize("becomes", [None, Outcome.UNDELIVERED])
def test_an_event_with_a_point_that_comes_again_is_read_again(becomes: Outcome | None) -> None:
    progress = Progress(FakeClock())
    deliver(progress, ["a", "b", "c"], becomes, stop_at="c")
    assert deliver(progress, ["a", "b", "c"])[0] == ["a", "b", "c"]


def test_an_event_that_was_taken_in_whole_is_forgotten() -> None:
    progress = Progress(FakeClock())
    deliver(progress, ["a", "b", "c"], stop_at="c")
    deliver(progress, ["a", "b", "c"])
    assert deliver(progress, ["a", "b", "c"])[0] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "others", [["a", "x", "c"], ["a", "bb", "c"], ["a", None, "c"], ["ab", "c"], ["a"], []]
)
def test_an_event_whose_messages_are_others_is_read_from_its_beginning(others: list[str | None]) -> None:
    progress = Progress(FakeClock())
    deliver(progress, ["a", "b", "c"], stop_at="c")
    assert deliver(progress, others)[0] == others


def test_an_event_without_coordinates_is_read_from_its_beginning() -> None:
    progress = Progress(FakeClock())
    deliver(progress, [None, "b", "c"], stop_at="c")
    assert deliver(progress, [None, "b", "c"])[0] == [None, "b", "c"]


def test_the_hundred_events_that_stopped_last_are_remembered() -> None:
    progress = Progress(FakeClock())
    for name in (*range(100), 0, "new"):
        deliver(progress, [f"{name}", f"{name} b", f"{name} c"], stop_at=f"{name} b")
    read = {
        name: len(deliver(progress, [name, f"{name} b", f"{name} c"])[0]) for name in ("0", "1", "2", "new")
    }
    assert read == {"0": 2, "1": 3, "2": 2, "new": 2}

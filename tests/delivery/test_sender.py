"""In which order points are sent, what is sent alone, and what is tried again, seen by a destination."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from metric_forwarder.clock import Deadline
from metric_forwarder.delivery.batching import BatchLimits
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.guesses import FailedBatches
from metric_forwarder.delivery.pacing import CoolDown, Pacer
from metric_forwarder.delivery.retry import Policy
from metric_forwarder.delivery.sender import Sender
from metric_forwarder.delivery.settling import BlockedSeries, BothTraces, RequestCounts, RequestTrace
from metric_forwarder.delivery.suspects import ENOUGH
from metric_forwarder.delivery.verdicts import Action, Concern, Verdict
from metric_forwarder.model import Batch, Message, Outcome, Point, Series
from support.fakes import FakeClock, machine_of

ACCEPT = Verdict(Action.ACCEPT, "0", "")
FAIL = Verdict(Action.RETRY, "1003", "it fails")
UNREACHABLE = Verdict(Action.HOLD_OFF, "unreachable", "no connection")
BLOCKED = Verdict(Action.STOP, "1008", "the client is blocked")
SLOW_DOWN = Verdict(Action.SLOW_DOWN, "1006", "too many requests")
REFUSE_POINT = Verdict(Action.SPLIT, "1012", "a value is wrong")
REFUSE_NAMES = Verdict(Action.SPLIT, "1019", "not declared", concern=Concern.NAMES)
REJECT_GROUP = Verdict(Action.REJECT_GROUP, "1016", "no such namespace")
SET_CLOCK = Verdict(Action.SET_CLOCK, "1021", "the time is wrong")
REAUTHENTICATE = Verdict(Action.REAUTHENTICATE, "1011", "the key is wrong")


class FakeDestination(Destination):
    """A ``Destination`` that answers with what a function says of the values in a batch, and can fix everything.

    Attributes:
        unprepared: what the next attempts to prepare come to, before one succeeds.
    """

    scope = "test"
    carries_timestamps = carries_non_finite = True
    ordered = False
    clock_offset_s: float | None = 0.0

    def __init__(self, judge: Callable[[list[float]], Verdict]) -> None:
        self._judge = judge
        self.sent: list[list[float]] = []
        self.fixed: list[Verdict] = []
        self.unprepared: deque[Verdict] = deque()
        self.prepared = 0

    def prepare_series(self, series: Series, dimensions: Mapping[str, str]) -> None:
        """It takes every series."""

    def group(self, series: Series) -> str:
        return series.namespace

    def encode(
        self, series: Iterable[Series], values: Iterable[float], times_ms: Iterable[int]
    ) -> list[bytes]:
        return [b"%r" % value for _, value, _ in zip(series, values, times_ms, strict=True)]

    def prepare(self, timeout_s: float) -> Verdict | None:
        assert timeout_s > 0
        self.prepared += 1
        return self.unprepared.popleft() if self.unprepared else None

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        assert timeout_s > 0
        values = [point.value for point in batch]
        self.sent.append(values)
        return self._judge(values)

    def fix(self, verdict: Verdict, timeout_s: float) -> bool:
        assert timeout_s > 0
        self.fixed.append(verdict)
        return True


def some_points(series: Iterable[Series]) -> list[Point]:
    """A point of each, whose value is its place."""
    return [
        Point(number, each, number, None, None, Message("s", None), "", None, 0, b"x")
        for number, each in enumerate(series)
    ]


def make_sender(
    destination: FakeDestination,
    most: int = 1,
    *,
    attempts: int = 1,
    lanes: int = 1,
    max_rate: float | None = None,
    clock: FakeClock | None = None,
) -> Sender:
    machine = machine_of(clock or FakeClock(), lambda ceiling: ceiling / 2)
    return Sender(
        destination,
        policy=Policy(attempts, 1, lanes),
        limits=BatchLimits(most, 10_000),
        pacer=Pacer(machine, max_rate),
        cool_down=CoolDown(machine.clock),
        machine=machine,
    )


Settled = dict[float, tuple[Outcome, str]]


def settle_all(
    sender: Sender, points: Sequence[Point], within_s: float = 3600, trace: RequestTrace | None = None
) -> Settled:
    """What becomes of each value in an event that has so many seconds, and the label of its verdict."""
    settled: Settled = {}

    def settle(points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        for point in points:
            assert point.value not in settled
            settled[point.value] = (outcome, verdict.label)

    deadline = Deadline(sender.machine.clock, sender.machine.clock.monotonic() + within_s)
    sender.deliver(points, deadline, settle, BlockedSeries(), trace)
    assert len(settled) == len(points)
    return settled


def deliver(sender: Sender, points: Sequence[Point]) -> dict[float, Outcome]:
    """What becomes of each value in an event that has an hour."""
    return {value: outcome for value, (outcome, _) in settle_all(sender, points).items()}


def of_series(count: int) -> list[Point]:
    """A point of each of so many series."""
    return some_points(Series("pc", f"m{number}", {}) for number in range(count))


def refuse(verdict: Verdict, is_bad: Callable[[float], bool]) -> Callable[[list[float]], Verdict]:
    return lambda values: verdict if any(map(is_bad, values)) else ACCEPT


# --- suspects -----------------------------------------------------------------------------------------------------


def test_points_of_a_suspect_series_are_sent_after_all_others() -> None:
    bad, good = Series("pc", "bad", {}), Series("pc", "good", {})
    destination = FakeDestination(refuse(REFUSE_POINT, lambda value: value < 8))
    points = some_points([*[bad] * 8, *[good] * 4])
    settled = deliver(make_sender(destination), points)
    # From the fourth refusal on the series is suspect.
    assert destination.sent == [[value] for value in (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7)]
    assert Counter(settled.values()) == {Outcome.REJECTED: 8, Outcome.DELIVERED: 4}


def test_a_suspect_metric_of_which_one_point_is_taken_is_delivered_with_all_other_suspects() -> None:
    first, second, wrong = Series("pc", "first", {}), Series("pc", "second", {}), Series("pc", "wrong", {})
    points = some_points([*[first] * 6, *[second] * 6, *[wrong] * 6])
    # Four of each metric are refused for their names, but the others are taken; of ``wrong`` no value is right.
    bad = {0: REFUSE_NAMES, 1: REFUSE_NAMES, 2: REFUSE_NAMES, 3: REFUSE_NAMES}
    bad |= {6: REFUSE_NAMES, 7: REFUSE_NAMES, 8: REFUSE_NAMES, 9: REFUSE_NAMES}
    bad |= dict.fromkeys(range(12, 18), REFUSE_POINT)
    destination = FakeDestination(lambda values: bad.get(int(values[0]), ACCEPT))
    settled = deliver(make_sender(destination), points)
    taken = {value for value, outcome in settled.items() if outcome is Outcome.DELIVERED}
    assert taken == {4, 5, 10, 11}
    assert Counter(settled.values()) == {Outcome.DELIVERED: 4, Outcome.REJECTED: 14}


@pytest.mark.parametrize(("series", "step"), [(40, 1), (100, 3)])
def test_undeclared_metrics_are_asked_about_one_after_the_other_in_series_far_apart(
    series: int, step: int
) -> None:
    points = some_points(Series("pc", metric, {"n": str(n)}) for metric in ("a", "b") for n in range(series))
    destination = FakeDestination(refuse(REFUSE_NAMES, lambda _: True))
    assert set(deliver(make_sender(destination), points).values()) == {Outcome.REJECTED}
    sent = [int(value) for (value,) in destination.sent]
    # Four of each metric make it a suspect; then others of it are asked about, until it is enough.
    assert sent[:8] == [*range(4), *range(series, series + 4)]
    asked = [4 + step * place for place in range(ENOUGH - 4)]
    assert sent[8:] == [*asked, *(series + value for value in asked)]


# --- nothing more is sent ---------------------------------------------------------------------------------------------


def test_a_refusal_of_everything_is_remembered_although_another_lane_had_ended_the_event() -> None:
    both_sent, unreachable_was_settled = threading.Barrier(2, timeout=30), threading.Event()

    def judge(values: list[float]) -> Verdict:
        if values == [0]:
            return ACCEPT
        both_sent.wait()
        if values == [1]:
            return UNREACHABLE
        assert unreachable_was_settled.wait(30)
        return BLOCKED

    def settle(points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        del points, outcome
        if verdict is UNREACHABLE:
            unreachable_was_settled.set()

    destination = FakeDestination(judge)
    sender = make_sender(destination, lanes=2)
    first, *others = of_series(3)
    deliver(sender, [first])
    sender.deliver(others, Deadline(sender.machine.clock, 3600), settle, BlockedSeries())
    assert settle_all(sender, [first]) == {0: (Outcome.UNDELIVERED, "1008")}
    assert sorted(destination.sent) == [[0], [1], [2]]


def test_an_event_without_time_is_not_said_to_keep_to_a_pause() -> None:
    sender = make_sender(FakeDestination(lambda _: ACCEPT))
    assert settle_all(sender, of_series(1), within_s=0.04) == {0: (Outcome.UNDELIVERED, "out of time")}


def test_a_destination_that_does_not_tell_the_time_is_not_blamed_on_the_functions_time() -> None:
    clock, gate = FakeClock(), threading.Event()

    class Silent(FakeDestination):
        clock_offset_s = None

        def ask_time(self, timeout_s: float) -> Verdict:
            clock.sleep(timeout_s)
            gate.wait(30)
            return ACCEPT

    verdict = make_sender(Silent(lambda _: ACCEPT), clock=clock).learn_clock(Deadline(clock, 0.1))
    gate.set()
    assert verdict is not None
    assert (verdict.label, clock.monotonic()) == ("no answer", 0.05)


# --- a batch that is refused ------------------------------------------------------------------------------------------


def test_a_half_that_must_hold_the_bad_point_is_not_sent_as_a_whole() -> None:
    destination = FakeDestination(refuse(REFUSE_POINT, lambda value: value == 6))
    settled = deliver(make_sender(destination, 8), of_series(8))
    assert destination.sent == [[*range(8)], [0, 1, 2, 3], [4, 5], [6], [7]]
    assert [value for value, outcome in settled.items() if outcome is Outcome.REJECTED] == [6]


def test_after_a_batch_that_was_mostly_bad_the_next_refused_one_is_sent_point_by_point() -> None:
    destination = FakeDestination(refuse(REFUSE_POINT, lambda value: value in {0, 1, 2, 4}))
    deliver(make_sender(destination, 4), of_series(8))
    assert destination.sent == [
        [0, 1, 2, 3],
        [0, 1],
        [0],
        [1],
        [2, 3],
        [2],
        [3],
        [4, 5, 6, 7],
        [4],
        [5],
        [6],
        [7],
    ]


def test_after_a_batch_of_which_a_third_was_bad_the_next_refused_one_is_halved() -> None:
    destination = FakeDestination(refuse(REFUSE_POINT, lambda value: value in {0, 3}))
    deliver(make_sender(destination, 3), of_series(6))
    assert destination.sent == [[0, 1, 2], [0], [1, 2], [3, 4, 5], [3], [4, 5]]


def test_a_refused_group_is_not_sent_again_and_keeps_no_other_one() -> None:
    gone, known = Series("gone", "m", {}), Series("pc", "m", {})
    destination = FakeDestination(lambda values: REJECT_GROUP if values[0] < 4 else ACCEPT)
    settled = deliver(make_sender(destination, 2), some_points([*[gone] * 4, *[known] * 2]))
    assert destination.sent == [[0, 1], [4, 5]]
    assert Counter(settled.values()) == {Outcome.REJECTED: 4, Outcome.DELIVERED: 2}


def test_a_destination_that_takes_points_in_order_gets_one_of_each_series_in_a_request() -> None:
    destination = FakeDestination(lambda _: ACCEPT)
    destination.ordered = True
    one, other = Series("pc", "one", {}), Series("pc", "other", {})
    deliver(make_sender(destination, 4), some_points([one, one, other, other]))
    assert destination.sent == [[0, 2], [1, 3]]


# --- a batch that fails in all attempts -----------------------------------------------------------------------------


def single(sent: list[list[float]]) -> list[float]:
    return [values[0] for values in sent if len(values) == 1]


def test_each_redelivery_tries_another_point_of_a_failing_batch_alone() -> None:
    destination = FakeDestination(refuse(FAIL, lambda _: True))
    sender = make_sender(destination, 4)
    points = of_series(4)
    for _ in range(9):
        assert set(deliver(sender, points).values()) == {Outcome.UNDELIVERED}
    # The first event only learns that the destination fails.
    tried = single(destination.sent)
    assert sorted(tried[:4]) == [0, 1, 2, 3]
    assert tried[4:] == tried[:4]


def test_a_point_whose_series_is_blocked_is_not_the_one_that_is_tried_alone() -> None:
    destination = FakeDestination(lambda _: ACCEPT)
    sender = make_sender(destination, 4)
    points = of_series(4)
    sender.failed_batches.add(points[0])
    blocked = BlockedSeries()
    blocked.block(points[:1], FAIL)
    deadline = Deadline(sender.machine.clock, sender.machine.clock.monotonic() + 3600)
    sender.deliver(points, deadline, lambda *_: None, blocked)
    assert destination.sent == [[1.0], [2.0, 3.0]]


def test_no_more_failed_batches_are_remembered_than_a_warm_instance_has_room_for() -> None:
    clock = FakeClock()
    failed = FailedBatches(clock, machine_of(clock).tasks.lock())
    points = of_series(10_001)
    for point in points:
        failed.add(point)
        failed.add_turn(point)
    assert failed.find(points[:1]) is None
    assert failed.find(points[1:2]) is points[1]
    assert failed.turn(points[0]) < failed.turn(points[-1])
    clock.sleep(3601)
    assert failed.find(points) is None


def test_a_point_that_was_taken_alone_lets_the_next_failing_batch_be_tried_so_too() -> None:
    destination = FakeDestination(lambda values: ACCEPT if len(values) == 1 else FAIL)
    sender = make_sender(destination, 3)
    points = of_series(6)
    sender.failed_batches.add(points[0])
    settled = deliver(sender, points)
    assert set(settled.values()) == {Outcome.DELIVERED}


# --- what sending needs ----------------------------------------------------------------------------------------------


def test_a_destination_is_prepared_once_for_each_event_and_again_if_that_failed() -> None:
    destination = FakeDestination(lambda _: ACCEPT)
    sender, traces = make_sender(destination, attempts=3), (Recorder(), Recorder())
    destination.unprepared.extend([FAIL, FAIL])
    assert set(settle_all(sender, of_series(3), trace=BothTraces(*traces)).values()) == {
        (Outcome.DELIVERED, "0")
    }
    assert traces[0].lines[:3] == traces[1].lines[:3] == [(FAIL, 0), (FAIL, 0), (None, 0)]
    assert set(deliver(sender, of_series(3)).values()) == {Outcome.DELIVERED}
    assert destination.prepared == 4


def test_nothing_is_sent_by_this_event_and_the_next_while_the_destination_cannot_be_prepared() -> None:
    clock = FakeClock()
    destination = FakeDestination(lambda _: ACCEPT)
    sender = make_sender(destination, attempts=2, clock=clock)
    destination.unprepared.extend([FAIL, FAIL])
    for _ in range(2):
        assert set(settle_all(sender, of_series(3)).values()) == {(Outcome.UNDELIVERED, "1003")}
        assert (destination.prepared, destination.sent) == (2, [])
    clock.sleep(60)
    assert set(deliver(sender, of_series(3)).values()) == {Outcome.DELIVERED}


def test_a_defect_of_a_destination_is_raised_and_not_taken_for_an_outcome() -> None:
    def fail(_: list[float]) -> Verdict:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        deliver(make_sender(FakeDestination(fail)), of_series(1))


# --- the cause of a refusal is corrected ------------------------------------------------------------------------------


def test_lanes_refused_together_for_clock_and_key_are_sent_again_after_one_correction_of_each() -> None:
    together = threading.Barrier(2, timeout=30)
    verdicts = {2: SET_CLOCK, 3: SET_CLOCK, 4: REAUTHENTICATE, 5: REAUTHENTICATE}

    def judge(_: list[float]) -> Verdict:
        verdict = verdicts.get(len(destination.sent), ACCEPT)
        if verdict is not ACCEPT:
            together.wait()
        return verdict

    destination = FakeDestination(judge)
    clock = FakeClock()
    sender = make_sender(destination, lanes=2, clock=clock)
    points = of_series(2)
    # Other lanes join once a request was answered.
    deliver(sender, points[:1])
    assert set(deliver(sender, points).values()) == {Outcome.DELIVERED}
    assert [verdict.label for verdict in destination.fixed] == ["1021", "1011"]
    assert destination.prepared == 2, "once for each event, however many lanes it has"
    assert clock.monotonic() == 0, "a batch whose refusal was corrected waits for nothing"


# --- time ---------------------------------------------------------------------------------------------------------------


class Recorder:
    """A ``RequestTrace`` that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    def prepared(self, verdict: Verdict | None, took_ms: int) -> None:
        self.lines.append((verdict, took_ms))

    def sent(self, *, points: int, attempt: int, waited_ms: int, verdict: Verdict, took_ms: int) -> None:
        self.lines.append((points, attempt, waited_ms, verdict, took_ms))


def test_each_of_two_traces_is_told_what_each_request_took_and_how_long_it_waited() -> None:
    clock = FakeClock()

    def judge(_: list[float]) -> Verdict:
        clock.sleep(0.25)
        return FAIL if len(destination.sent) < 3 else ACCEPT

    destination = FakeDestination(judge)
    traces = Recorder(), Recorder()
    settle_all(make_sender(destination, 2, attempts=3, clock=clock), of_series(2), trace=BothTraces(*traces))
    assert traces[0].lines == [
        (None, 0),
        (2, 1, 0, FAIL, 250),
        (2, 2, 100, FAIL, 250),
        (2, 3, 200, ACCEPT, 250),
    ]
    assert traces[1].lines == traces[0].lines


def test_a_trace_is_told_of_all_pauses_of_the_pace() -> None:
    trace = Recorder()
    sender = make_sender(FakeDestination(lambda _: ACCEPT), max_rate=1.25)
    settle_all(sender, of_series(3), trace=trace)
    # The first moment of an event is drawn.
    assert [line[2] for line in trace.lines[1:]] == [400, 800, 800]


@pytest.mark.parametrize(
    ("answer", "label"), [(ACCEPT, "pace"), (ACCEPT._replace(retry_after_s=0.6), "retry-after")]
)
def test_a_point_that_has_to_wait_for_longer_than_the_event_says_for_what(
    answer: Verdict, label: str
) -> None:
    # Of half a second 0.45 are left for requests, of which the rate allows one in 0.8 seconds.
    sender = make_sender(FakeDestination(lambda _: answer), max_rate=1.25)
    assert settle_all(sender, of_series(2), within_s=0.5) == {
        0: (Outcome.DELIVERED, "0"),
        1: (Outcome.UNDELIVERED, label),
    }


def test_a_point_without_time_for_a_request_is_out_of_time_whatever_the_pace() -> None:
    clock = FakeClock()

    def judge(_: list[float]) -> Verdict:
        clock.sleep(0.5)
        return ACCEPT

    sender = make_sender(FakeDestination(judge), max_rate=0.1, clock=clock)
    assert settle_all(sender, of_series(2), within_s=0.5)[1] == (Outcome.UNDELIVERED, "out of time")


def test_a_request_that_is_told_to_slow_down_waits_for_the_pace_alone() -> None:
    clock = FakeClock()
    destination = FakeDestination(lambda _: SLOW_DOWN if len(destination.sent) == 100 else ACCEPT)
    assert set(deliver(make_sender(destination, attempts=2, clock=clock), of_series(100)).values()) == {
        Outcome.DELIVERED
    }
    # Before the refusal a hundred requests were taken at once, so the pace asks for less than a second.
    assert clock.monotonic() < 1


def test_the_requests_of_several_deliveries_add_up() -> None:
    total = RequestCounts()
    for sent, retried, label in ((3, 1, "0"), (2, 1, "0"), (1, 0, "1006")):
        part = RequestCounts()
        part.sent, part.retried, part.answers[label] = sent, retried, sent
        total.add(part)
    assert (total.sent, total.retried, total.answers) == (6, 2, {"0": 5, "1006": 1})

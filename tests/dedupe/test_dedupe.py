"""What is remembered of a point, and for how long: as long as it keeps coming again, and a window more."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpRequest
from metric_forwarder.dedupe.store import Claim, KnownRejection, MemoryStore
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, RequestLimits
from support.fakes import FakeClock, InProcessReceiver
from support.harness import (
    Harness,
    ckafka,
    environ,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
    report_of,
    values,
)

WINDOW_S = 600
GOOD_AND_BAD = ckafka(point(1, "good", namespace="x"), point(2, "bad", namespace="y"))
UNANSWERED = Failure(Fault.UNANSWERED, "timeout")


def fail_the_bad(request: PutRequest) -> ReturnCode | None:
    return ReturnCode.INTERNAL_FAILURE if request.namespace == "y" else None


def lose_the_answer(harness: Harness) -> None:
    """The next request arrives, and its answer does not."""

    def take(request: HttpRequest) -> Failure:
        harness.receiver.process(request)
        return UNANSWERED

    harness.receiver.script.append(take)


# --- the window ----------------------------------------------------------------------------------------------


def test_a_point_whose_neighbour_is_redelivered_for_hours_is_sent_once() -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = fail_the_bad
    assert outcomes(harness.handle(GOOD_AND_BAD)) == {"delivered": 1, "undelivered": 1}
    for _ in range(200):
        harness.clock.sleep(60)
        assert outcomes(harness.handle(GOOD_AND_BAD)) == {"duplicate": 1, "undelivered": 1}
    assert values(harness.receiver.points) == [1]


def test_a_point_that_stays_away_for_a_window_is_forgotten() -> None:
    harness = make_harness()
    harness.handle(ckafka(point(1)))
    harness.clock.sleep(WINDOW_S - 1)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"duplicate": 1}
    harness.clock.sleep(WINDOW_S)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"delivered": 1}


def test_of_more_than_memory_holds_those_met_longest_ago_go_first() -> None:
    store = MemoryStore(WINDOW_S, FakeClock().monotonic, capacity=2)
    store.confirm([b"a", b"b"])
    store.claim([b"a"])
    store.mark_uncertain([b"c"])
    assert store.claim([b"a", b"b", b"c"]) == [Claim.DELIVERED, Claim.OURS, Claim.UNCERTAIN]


def test_a_point_that_comes_again_and_again_takes_no_more_memory() -> None:
    store = MemoryStore(WINDOW_S, FakeClock().monotonic)
    store.confirm([b"a"])
    tracemalloc.start()
    for _ in range(20_000):
        store.claim([b"a"])
    assert tracemalloc.get_traced_memory()[0] < 500_000
    tracemalloc.stop()
    assert store.claim([b"a"]) == [Claim.DELIVERED]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["claim", "confirm", "mark_uncertain", "mark_rejected", "release"]),
            st.lists(st.integers(0, 5), unique=True),
            st.integers(0, WINDOW_S),
        ),
        max_size=40,
    ),
    st.sampled_from([1, 2, 4, 100]),
)
# Some come again and again, until more is noted of them than of others.
@example(
    [("confirm", [0, 1], 0), ("confirm", [2, 3], 0), *[("claim", [2, 3], 0)] * 3, ("release", [], WINDOW_S),
     ("claim", [0, 1, 2, 3], 0)],
    4,
)  # fmt: skip
@settings(max_examples=600, deadline=None)
def test_whatever_happens_memory_knows_what_was_met_last_within_a_window_and_nothing_else(
    steps: list[tuple[str, list[int], int]], capacity: int
) -> None:
    clock = FakeClock()
    store = MemoryStore(WINDOW_S, clock.monotonic, capacity)
    known: dict[bytes, tuple[float, Claim]] = {}
    for verb, numbers, pause_s in steps:
        identities = [bytes([number]) for number in numbers]
        now = clock.monotonic()
        known = {each: (met, claim) for each, (met, claim) in known.items() if now - met < WINDOW_S}
        if verb == "claim":
            expected = [known[each][1] if each in known else Claim.OURS for each in identities]
            assert store.claim(identities) == expected
            # A rejection is not prolonged.
            found = {each: known[each][1] for each in identities if each in known}
            met: dict[bytes, tuple[float, Claim]] = {
                each: (now, claim)
                for kept in (Claim.DELIVERED, Claim.UNCERTAIN)
                for each, claim in found.items()
                if claim is kept
            }
        elif verb == "release":
            store.release(identities)
            met = {}
        else:
            if verb == "confirm":
                claim = Claim.DELIVERED
                store.confirm(identities)
            elif verb == "mark_uncertain":
                claim = Claim.UNCERTAIN
                store.mark_uncertain(identities)
            else:
                claim = Claim.REJECTED
                store.mark_rejected(identities, KnownRejection("1019", 1019, "no valid data"))
            met = dict.fromkeys(identities, (now, claim))
        # In the order in which they were met.
        known = {each: known[each] for each in known if each not in met} | met
        known = dict(list(known.items())[-capacity:])
        clock.sleep(pause_s)


# --- what is held --------------------------------------------------------------------------------------------


def test_with_hold_a_redelivery_does_not_send_again_what_may_have_arrived() -> None:
    harness = make_harness(UNCERTAIN="hold", MAX_ATTEMPTS="1", CONCURRENCY="1")
    harness.receiver.refuse_if = fail_the_bad
    lose_the_answer(harness)
    assert outcomes(harness.handle(GOOD_AND_BAD)) == {"uncertain": 1, "undelivered": 1}
    for _ in range(50):
        harness.clock.sleep(60)
        report = harness.handle(GOOD_AND_BAD)
        assert outcomes(report) == {"uncertain": 1, "undelivered": 1}
        assert report["requests"]["sent"] == 1
        told = next(error for error in report["errors"] if error["outcome"] == "uncertain")
        assert told["rule"] == "sent before"
        assert "MF_UNCERTAIN=hold" in told["message"]
    harness.receiver.refuse_if = lambda _: None
    assert outcomes(harness.handle(GOOD_AND_BAD)) == {"uncertain": 1, "delivered": 1}
    assert values(harness.receiver.points) == [1, 2]


def test_what_was_held_stays_held_under_another_setting_and_the_report_says_under_which_it_was() -> None:
    # Nobody has a lease of it: two instances that met it now would both send it.
    settings = environ(UNCERTAIN="hold", MAX_ATTEMPTS="1", CONCURRENCY="1")
    harness = make_harness()
    application = Application(settings, harness.clock, lambda: harness.receiver)
    harness.receiver.refuse_if = fail_the_bad
    lose_the_answer(harness)
    assert outcomes(report_of(application, GOOD_AND_BAD)) == {"uncertain": 1, "undelivered": 1}
    settings["MF_UNCERTAIN"] = "resend"
    harness.receiver.refuse_if = lambda _: None
    report = report_of(application, GOOD_AND_BAD)
    assert outcomes(report) == {"uncertain": 1, "delivered": 1}
    assert "under MF_UNCERTAIN=hold" in report["errors"][0]["message"]


def test_with_hold_new_points_beside_a_held_one_are_sent() -> None:
    harness = make_harness(UNCERTAIN="hold")
    harness.receiver.script.append(UNANSWERED)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"uncertain": 1}
    assert outcomes(harness.handle(ckafka(point(1), point(2)))) == {"uncertain": 1, "delivered": 1}


def test_with_resend_what_may_have_arrived_is_sent_again() -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    lose_the_answer(harness)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"undelivered": 1}
    assert outcomes(harness.handle(ckafka(point(1)))) == {"delivered": 1}


def test_what_cannot_be_recognised_cannot_be_held_when_it_comes_again() -> None:
    harness = make_harness(UNCERTAIN="hold")
    harness.receiver.script.append(UNANSWERED)
    assert outcomes(harness.handle(point(1))) == {"uncertain": 1}
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}


def test_a_held_point_is_forgotten_like_a_delivered_one() -> None:
    harness = make_harness(UNCERTAIN="hold")
    harness.receiver.script.append(UNANSWERED)
    harness.handle(ckafka(point(1)))
    harness.clock.sleep(WINDOW_S)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"delivered": 1}


def test_remote_write_holds_uncertain_points_too() -> None:
    harness = make_remote_write_harness(UNCERTAIN="hold")
    harness.prometheus.script.append(UNANSWERED)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"uncertain": 1}
    assert outcomes(harness.handle(ckafka(point(1), point(2)))) == {"uncertain": 1, "delivered": 1}


# --- what was rejected ---------------------------------------------------------------------------------------

BAD = "undeclared"


def reject_the_bad(request: PutRequest) -> ReturnCode | None:
    """The metric is not declared, and another namespace is down: the event comes again because of that."""
    if request.namespace == "y":
        return ReturnCode.INTERNAL_FAILURE
    return ReturnCode.NO_VALID_DATA if any(wire["metricName"] == BAD for wire in request.data) else None


def mixed(bad: int = 6) -> dict[str, Any]:
    return ckafka(point(0, "good"), *(point(n, BAD) for n in range(bad)), point(9, "late", namespace="y"))


def test_a_redelivered_event_does_not_ask_again_about_rejected_points() -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = reject_the_bad
    first = harness.handle(mixed())
    assert outcomes(first) == {"delivered": 1, "rejected": 6, "undelivered": 1}
    harness.clock.sleep(60)
    again = harness.handle(mixed())
    assert outcomes(again) == {"duplicate": 1, "rejected": 6, "undelivered": 1}
    assert again["requests"]["sent"] == 1


def test_a_rejection_is_reported_again_with_the_code_and_the_reason_that_it_had() -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = reject_the_bad
    first, again = harness.handle(mixed(1)), harness.handle(mixed(1))
    (before,) = [error for error in first["errors"] if error["outcome"] == "rejected"]
    (after,) = [error for error in again["errors"] if error["outcome"] == "rejected"]
    assert {**after, "message": ""} == {**before, "message": ""}
    assert after["message"].startswith(before["message"])
    assert "MF_DEDUPE_WINDOW_S" in after["message"]


def test_once_the_cause_is_corrected_a_rejected_point_is_sent_after_one_window_however_often_it_came() -> (
    None
):
    harness = make_harness(MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = reject_the_bad
    harness.handle(mixed(1))
    harness.receiver.refuse_if = fail_the_bad
    for _ in range(9):
        harness.clock.sleep(60)
        assert outcomes(harness.handle(mixed(1)))["rejected"] == 1
    harness.clock.sleep(60)
    assert outcomes(harness.handle(mixed(1))) == {"delivered": 1, "duplicate": 1, "undelivered": 1}


def test_a_replayed_dead_letter_is_sent_although_it_was_rejected_a_moment_ago(tmp_path: Path) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri())
    harness.receiver.script.append(ReturnCode.NO_VALID_DATA)
    assert outcomes(harness.handle(ckafka(point(1)))) == {"rejected": 1}
    replay = {
        "Type": "Timer",
        "TriggerName": "r",
        "Time": "t",
        "Message": '{"replay": true, "deadLetters": true}',
    }
    assert outcomes(harness.handle(replay)) == {"delivered": 1}


@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_an_event_of_many_points_that_are_refused_one_by_one_is_done_after_some_redeliveries(
    concurrency: str,
) -> None:
    harness = make_harness(CONCURRENCY=concurrency, MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = reject_the_bad
    harness.receiver.latency_s = 0.02
    # Each metric is refused on its own: no rule about a metric can shorten the search.
    event = ckafka(*(point(n, BAD, dimensions={"n": str(n)}) for n in range(400)))
    left = []
    for _ in range(7):
        report = harness.handle(event, time_limit_ms=4000)
        left.append(report["outcomes"]["undelivered"])
        harness.clock.sleep(60)
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)


# --- settings that change ------------------------------------------------------------------------------------

UNCONCERNED = {
    "the log level": {"LOG_LEVEL": "ERROR"},
    "a key that is changed and changed back": {"SECRET_KEY": "another0another0another0another00"},
    "the method": {"RECEIVER_METHOD": "GET"},
    "the concurrency": {"CONCURRENCY": "1"},
}


class Changing:
    """An application whose settings change between invocations."""

    def __init__(self, **settings: str) -> None:
        self.variables = environ(**settings)
        self.clock = FakeClock()
        self.receiver = InProcessReceiver(self.clock)
        self._application = Application(self.variables, self.clock, lambda: self.receiver)

    def change(self, settings: dict[str, str]) -> None:
        self.variables.update({f"MF_{name}": text for name, text in settings.items()})

    def handle(self, event: Any) -> dict[str, Any]:
        return report_of(self._application, event)


@pytest.mark.parametrize("changed", UNCONCERNED.values(), ids=UNCONCERNED)
def test_a_setting_that_changes_neither_the_place_nor_the_window_forgets_nothing(
    changed: dict[str, str],
) -> None:
    instance = Changing()
    before = dict(instance.variables)
    assert outcomes(instance.handle(ckafka(point(1)))) == {"delivered": 1}
    instance.change(changed)
    assert outcomes(instance.handle(ckafka(point(1)))) == {"duplicate": 1}
    instance.variables.update(before)
    assert outcomes(instance.handle(ckafka(point(1), point(2)))) == {"duplicate": 1, "delivered": 1}


def test_a_held_point_is_not_sent_again_after_the_log_level_was_changed() -> None:
    instance = Changing(UNCERTAIN="hold")
    instance.receiver.script.append(UNANSWERED)
    assert outcomes(instance.handle(ckafka(point(1)))) == {"uncertain": 1}
    instance.change({"LOG_LEVEL": "DEBUG"})
    assert outcomes(instance.handle(ckafka(point(1)))) == {"uncertain": 1}


def test_what_was_learned_of_the_destination_outlives_a_setting_that_does_not_concern_it() -> None:
    instance = Changing(BATCH_MAX_POINTS="8", CONCURRENCY="1")
    instance.receiver.limits = RequestLimits(max_points=4)
    many = [point(n) for n in range(8)]
    instance.handle(many)
    instance.change({"LOG_LEVEL": "ERROR"})
    report = instance.handle(many)
    assert report["requests"] == {"sent": 2, "retried": 0, "returnCodes": {"0": 2}}


@pytest.mark.parametrize("changed", [{"REGION": "sh"}, {"DEDUPE_WINDOW_S": "60"}], ids=["place", "window"])
def test_another_place_or_another_window_begins_with_nothing_known(changed: dict[str, str]) -> None:
    instance = Changing()
    instance.handle(ckafka(point(1)))
    instance.change(changed)
    assert outcomes(instance.handle(ckafka(point(1)))) == {"delivered": 1}


# --- which store ----------------------------------------------------------------------------------------------


def test_without_deduplication_a_point_that_comes_again_is_sent_again() -> None:
    harness = make_harness(DEDUPE="off")
    for _ in range(2):
        report = harness.handle(ckafka(point(1)))
        assert (outcomes(report), report["dedupe"]) == ({"delivered": 1}, "off")

"""What does not become a point is settled, and kept as a dead letter, as the reader of a report and of the spool expects."""

import pytest

from metric_forwarder.formats.json_text import Violation
from metric_forwarder.formats.payload import Payload, find_points
from metric_forwarder.intake.exclusions import Exclusions, Origin
from metric_forwarder.model import DeadLetter, Message, Outcome, Problem
from metric_forwarder.reporting.ledger import Ledger

MESSAGE = Message("topic", "the whole message", "c")


class Kept:
    """The dead letters that were kept, and the messages of those that were not."""

    def __init__(self, *, has_room: bool = True) -> None:
        self.has_room = has_room
        self.letters: list[DeadLetter] = []
        self.skipped: list[Message] = []

    def add(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def skip(self, message: Message) -> None:
        self.skipped.append(message)


def counted(ledger: Ledger) -> dict[Outcome, int]:
    return {outcome: count for outcome, count in ledger.outcomes().items() if count}


@pytest.mark.parametrize(("text", "written"), [(None, "the whole message"), ("a line of it", "a line of it")])
def test_a_payload_that_is_invalid_as_a_whole_is_kept_once_as_it_was_written(
    text: str | None, written: str
) -> None:
    ledger, kept = Ledger(), Kept()
    violation = Violation("/namespace", "type", "is no text")
    payload = Payload(({}, {}, {}), violations=(violation,), place="line 2", text=text)
    Exclusions(ledger, kept, 100).add_invalid_payload(MESSAGE, payload)
    assert counted(ledger) == {Outcome.INVALID: 3}
    assert [problem.pointer for problem in ledger.problems] == ["line 2/namespace"]
    assert [(letter.payload, letter.pointer) for letter in kept.letters] == [(written, "line 2")]


def test_a_dead_letter_holds_what_the_envelope_gives_to_its_point() -> None:
    ledger, kept = Ledger(), Kept()
    point = {"metricName": "m", "dimensions": {"host": "a"}}
    payload = find_points({"namespace": "web", "dimensions": {"zone": "z"}, "points": [point]})
    Exclusions(ledger, kept, 100).add_invalid(
        Origin(MESSAGE, payload), [Violation("", "required", "is missing")]
    )
    (letter,) = kept.letters
    assert (letter.payload, letter.pointer, letter.envelope) == (
        point,
        "/points/0",
        {"namespace": "web", "dimensions": {"zone": "z"}},
    )


@pytest.mark.parametrize(
    ("outcome", "letters"), [(Outcome.INVALID, 1), (Outcome.STALE, 1), (Outcome.UNDELIVERED, 0)]
)
def test_what_comes_again_is_not_kept(outcome: Outcome, letters: int) -> None:
    ledger, kept = Ledger(), Kept()
    problem = Problem(outcome, "topic", "", "record", None, "cannot be read")
    Exclusions(ledger, kept, 100).settle(Origin.alone(MESSAGE, "", None), [problem])
    assert (counted(ledger), len(kept.letters)) == ({outcome: 1}, letters)


def test_so_many_points_are_explained_as_is_set_and_the_others_are_counted() -> None:
    ledger, kept = Ledger(), Kept(has_room=False)
    exclusions = Exclusions(ledger, kept, 2)
    for _ in range(2):
        assert not exclusions.count_invalid(MESSAGE)
        assert exclusions.may_explain()
    assert exclusions.count_invalid(MESSAGE)
    assert not exclusions.may_explain()
    assert exclusions.count_invalid(MESSAGE)
    assert counted(ledger) == {Outcome.INVALID: 2}
    assert kept.skipped == [MESSAGE, MESSAGE]


def test_a_point_that_is_not_explained_is_kept_while_there_is_room() -> None:
    ledger, kept = Ledger(), Kept()
    exclusions = Exclusions(ledger, kept, 0)
    assert not exclusions.count_invalid(MESSAGE)
    kept.has_room = False
    assert exclusions.count_invalid(MESSAGE)
    assert Exclusions(ledger, None, 0).count_invalid(MESSAGE)


def test_of_what_is_left_to_the_platform_the_first_place_is_said_and_all_are_counted() -> None:
    ledger = Ledger()
    exclusions = Exclusions(ledger, None, 100)
    assert exclusions.stopped_at is None
    exclusions.leave(MESSAGE, "/3", 7)
    exclusions.leave(Message("topic", "", "d"), "/0", 9)
    assert exclusions.stopped_at == (MESSAGE, 7)
    assert counted(ledger) == {Outcome.UNDELIVERED: 2}
    assert [(problem.pointer, problem.rule) for problem in ledger.problems] == [("/3", "out of time")]

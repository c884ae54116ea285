"""Settles what does not become a point, and keeps it as a dead letter if possible."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.formats.json_text import Violation
from metric_forwarder.formats.payload import Payload
from metric_forwarder.formats.samples import Sample
from metric_forwarder.intake.samples import located_in_sample
from metric_forwarder.model import DeadLetter, Message, Outcome, Problem
from metric_forwarder.reporting.ledger import Ledger


class DeadLetters(Protocol):
    """Collects the dead letters of an event, if there is a spool with room for them."""

    @property
    def has_room(self) -> bool:
        """Whether another one may be kept."""

    def add(self, letter: DeadLetter) -> None:
        """Keep one, or count it as not kept."""

    def skip(self, message: Message) -> None:
        """Count one of this message as not kept: there is no room for it."""


class Origin(NamedTuple):
    """Where a value came from: the ``nth`` of a payload, in a message."""

    message: Message
    payload: Payload
    nth: int = 0

    @classmethod
    def alone(cls, message: Message, place: str, raw: Any) -> "Origin":
        """The origin of a single value at a place; ``raw``: what a dead letter keeps of it."""
        return cls(message, Payload((raw,), place=place))

    @property
    def pointer(self) -> str:
        return self.payload.pointer(self.nth)

    @property
    def raw(self) -> Any:
        """What its producer wrote, without what an envelope gives to all its points."""
        return self.payload.points[self.nth]

    def located(self, path: Sequence[Any], violation: Violation) -> Violation:
        """Locate a violation at a path inside the value, in the terms of its format."""
        raw = self.raw
        if isinstance(raw, Sample):
            return located_in_sample(raw, path, violation)
        return violation._replace(pointer=self.payload.locate(self.nth, path) + violation.pointer)


class Exclusions:
    """Settles what goes no further: what is invalid, left out on purpose, or left to the platform.

    Args:
        ledger: gets a row for each.
        dead_letters: keeps points that are neither delivered nor redelivered, with the reason; None: they are not kept.
        max_explained: how many invalid points are explained; explaining costs much more than finding them.
    """

    def __init__(self, ledger: Ledger, dead_letters: DeadLetters | None, max_explained: int) -> None:
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._explanations_left = max_explained
        self._has_left_points = False
        # The first message that was left, or of which something was left, and the points received before it.
        self.stopped_at: tuple[Message, int] | None = None

    def add_invalid(self, origin: Origin, violations: Iterable[Violation]) -> None:
        """Settle something as invalid, with everything that is wrong with it."""
        source = origin.message.source
        self.settle(
            origin,
            [Problem(Outcome.INVALID, source, where, rule, None, text) for where, rule, text in violations],
        )

    def settle(self, origin: Origin, problems: Sequence[Problem]) -> None:
        """Settle something as its first problem says, and keep it."""
        outcome = problems[0].outcome
        self._ledger.settle(self._ledger.open(), outcome, problems)
        # An undelivered value comes again with the event, so it need not be kept.
        if outcome is not Outcome.UNDELIVERED and self._dead_letters:
            envelope = origin.payload.envelope
            letter = DeadLetter(origin.message, origin.raw, origin.pointer, problems[0], envelope)
            self._dead_letters.add(letter)

    def add_invalid_payload(self, message: Message, payload: Payload) -> None:
        """Settle a whole payload as invalid, and keep it once: its points mean something else without their envelope."""
        place = payload.place
        raw = message.body if payload.text is None else payload.text
        violations = [
            violation._replace(pointer=place + violation.pointer) for violation in payload.violations
        ]
        self.add_invalid(Origin.alone(message, place, raw), violations)
        for _ in range(1, len(payload.points)):
            self._ledger.settle(self._ledger.open(), Outcome.INVALID)

    def may_explain(self) -> bool:
        """Whether one more point is explained."""
        self._explanations_left -= 1
        return self._explanations_left >= 0

    def count_invalid(self, message: Message) -> bool:
        """Count a point as invalid, as quickly as a valid one is taken in; False if it is to be explained or kept.

        An event may hold a million of them, and an event that takes too long is redelivered forever.
        """
        if self._explanations_left > 0 or (self._dead_letters and self._dead_letters.has_room):
            return False
        self._ledger.receive_unexplained(Outcome.INVALID)
        if self._dead_letters:
            self._dead_letters.skip(message)
        return True

    def filter(self, message: Message, pointer: str, rule: str, reason: str) -> None:
        """Settle something that is left out on purpose."""
        self._ledger.receive_filtered(message.source, pointer, rule, reason)

    def leave(self, message: Message, pointer: str, first_row: int) -> None:
        """Leave something to the platform, which redelivers the event; the message's points begin at ``first_row``."""
        if self._has_left_points:
            self._ledger.receive_unexplained(Outcome.UNDELIVERED)
            return
        self._has_left_points = True
        self.stopped_at = message, first_row
        problem = Problem(Outcome.UNDELIVERED, message.source, pointer, "out of time", None, _NOT_TAKEN_IN)
        self._ledger.settle(self._ledger.open(), Outcome.UNDELIVERED, [problem])


_NOT_TAKEN_IN = (
    "was not taken in, as all points after it, since the time was up: they can still be delivered; raise the function's "
    "timeout, or send fewer points in one message"
)

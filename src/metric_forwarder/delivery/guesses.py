"""Guesses which points make their batches fail, where no reply says so.

If a batch failed in all attempts, one of its points may be the cause, or the destination is down. If the destination took
other requests meanwhile, the batch is halved. Otherwise one point is sent alone: this is a guess. After a guess that failed, too,
the event makes no other: the destination seems to be down.

An event with a batch that failed not long ago begins with a guess: the first point of the series whose turn was the longest time
ago, or never. So each has its turn, also where all points of the first batches make the destination fail, or where one batch
takes all the time of an event.
"""

from collections.abc import Sequence
from typing import TypeVar

from metric_forwarder.clock import Clock
from metric_forwarder.delivery.pacing import Pace
from metric_forwarder.machine import Lock
from metric_forwarder.model import Point

# A spool may be replayed only every few minutes.
_REMEMBERED_S = 3600.0
# The most events, and the most turns, that are remembered; the oldest is forgotten first.
_MOST = 10_000
_Number = TypeVar("_Number", int, float)


class FailedBatches:
    """What an instance remembers of batches that failed in all attempts, for the redeliveries of their events.

    Args:
        lock: lets one lane at a time write.
    """

    def __init__(self, clock: Clock, lock: Lock) -> None:
        self._clock = clock
        self._lock = lock
        # A point of each event with such a batch → when it failed, monotonic seconds; the latest at the end.
        self._events: dict[bytes, float] = {}
        # Points that were sent alone, and their series → the number of that turn; the latest at the end.
        self._turns: dict[bytes, int] = {}
        self._turn = 0

    def add(self, point: Point) -> None:
        """Note that a batch of the event with this point failed just now."""
        with self._lock:
            _put(self._events, _key(point), self._clock.monotonic())

    def forget(self, point: Point) -> None:
        """Note that the event with this point got on, and nothing failed."""
        with self._lock:
            self._events.pop(_key(point), None)

    def add_turn(self, point: Point) -> None:
        """Note that this point was sent alone just now."""
        with self._lock:
            self._turn += 1
            _put(self._turns, point.series.digest, self._turn)
            _put(self._turns, _key(point), self._turn)

    def find(self, points: Sequence[Point]) -> Point | None:
        """Return the point by which an event is known of which a batch failed not long ago; None: there is none."""
        if not self._events:
            return None
        since = self._clock.monotonic() - _REMEMBERED_S
        with self._lock:
            while self._events and next(iter(self._events.values())) < since:
                del self._events[next(iter(self._events))]
        return next((point for point in points if _key(point) in self._events), None)

    def turn(self, point: Point) -> tuple[int, int]:
        """The number of the last turn of this point, and of its series; 0: there was none, as far as is known.

        A point that comes again has its own turns, which another event with the same series does not take from it.
        """
        return self._turns.get(_key(point), 0), self._turns.get(point.series.digest, 0)


def _key(point: Point) -> bytes:
    return point.identity or point.series.digest


def _put(latest: dict[bytes, _Number], key: bytes, value: _Number) -> None:
    """Write an entry at the end, and forget the first one if there are too many."""
    latest.pop(key, None)
    latest[key] = value
    if len(latest) > _MOST:
        del latest[next(iter(latest))]


class Guesses:
    """The guesses of one event, for all its lanes.

    Args:
        failed: what is known from earlier events.
        pacer: knows how many requests the destination has taken.
        points: those of the event.

    Attributes:
        come_first: whether the event begins with one.
    """

    def __init__(self, failed: FailedBatches, pacer: Pace, points: Sequence[Point]) -> None:
        self._failed = failed
        self._pacer = pacer
        self._accepted_at_start = pacer.accepted
        self._known_by = failed.find(points)
        self.come_first = self._known_by is not None
        self._got_on = True
        # Whether the last guess was answered; None: there was none.
        self._answered: bool | None = None

    @property
    def is_up(self) -> bool:
        """Whether the destination took a request of this event, or answered its last guess."""
        return bool(self._answered) or self._pacer.accepted > self._accepted_at_start

    @property
    def may_follow(self) -> bool:
        """Whether to guess now that a batch failed: the destination is up, and no guess failed or is under way."""
        return self._answered is not False and self.is_up

    def note_failure(self, point: Point) -> None:
        """Note that the batch of this point failed."""
        self._got_on = False
        if not self.is_up:
            self.remember(point)

    def remember(self, point: Point) -> None:
        """Let the next delivery of the event, which holds this point, begin with a guess."""
        self._got_on = False
        self._known_by = self._known_by or point
        self._failed.add(self._known_by)

    def close(self) -> None:
        """End the event."""
        if self._known_by and self._got_on and self.is_up:
            self._failed.forget(self._known_by)

    def choose(self, points: Sequence[Point]) -> Point:
        """Choose a point to send alone, the first of its series."""
        firsts: dict[bytes, Point] = {}
        for point in points:
            firsts.setdefault(point.series.digest, point)
        return min(firsts.values(), key=self._failed.turn)

    def begin(self) -> None:
        """A point is sent alone: no other guess is made until it is answered."""
        self._answered = False

    def end(self, *, answered: bool) -> None:
        """The point was taken or refused, or it failed."""
        self._answered = answered

"""Guesses which points make their batches fail, where no reply says so.

If a batch failed in all attempts, one of its points may be the cause, or the destination is down. If the destination took
other requests meanwhile, the batch is halved. Otherwise one point is sent alone: this is a guess. After a guess that is not
taken, the event makes no other: the destination seems to be down.

An event that comes soon after such a failure begins with a guess: of all its points the one whose turn was longest ago. So
each has its turn, also where all points of the first batches are at fault, or where one batch takes all the time of an event.
"""

import math
from collections.abc import Sequence

from metric_forwarder.clock import Clock
from metric_forwarder.machine import Lock
from metric_forwarder.model import Point

# Three redeliveries of an event in which a batch failed in all attempts come within this time.
_REMEMBERED_S = 200.0
# Series; an event takes more than a second for each guess that is not taken.
_MOST_MISSED = 10_000


class FailedBatches:
    """What an instance remembers of batches that failed in all attempts, for the redeliveries of their events.

    Other events in between, whose points are taken, say nothing of such a batch: it may hold the point at fault.

    Attributes:
        failed_at: when an event last had one, monotonic seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.failed_at = -math.inf
        # The series of guesses that were not taken, the latest at the end → the number of that guess.
        self._missed: dict[bytes, int] = {}
        self._guesses = 0

    @property
    def are_recent(self) -> bool:
        return self._clock.monotonic() - self.failed_at < _REMEMBERED_S

    def add(self) -> None:
        """Note that an event had one just now."""
        self.failed_at = self._clock.monotonic()

    def miss(self, point: Point) -> None:
        """Note that a guess was not taken."""
        self._guesses += 1
        self._missed.pop(point.series.digest, None)
        self._missed[point.series.digest] = self._guesses
        if len(self._missed) > _MOST_MISSED:
            del self._missed[next(iter(self._missed))]

    def missed(self, point: Point) -> int:
        """A number that is the larger the later a point of this series was not taken; 0: never, as far as is known."""
        return self._missed.get(point.series.digest, 0)


class Guesses:
    """The guesses of one event, for all its lanes.

    Args:
        failed: what is known from earlier events.
        accepted: how many requests the destination has taken so far.
        lock: lets one lane at a time note a guess that was not taken.

    Attributes:
        may_follow: whether another guess may be made: the last one was taken, or there was none.
    """

    def __init__(self, failed: FailedBatches, accepted: int, lock: Lock) -> None:
        self._failed = failed
        self._accepted_at_start = accepted
        self._lock = lock
        self._has_failed = False
        self.may_follow = True

    def note_failure(self, accepted: int) -> bool:
        """Note that a batch failed while no other request was taken; return whether to guess."""
        self._has_failed = True
        return self.may_follow and accepted > self._accepted_at_start

    def choose(self, points: Sequence[Point]) -> Point:
        """Choose a point to send alone, the first of its series."""
        firsts: dict[bytes, Point] = {point.series.digest: point for point in reversed(points)}
        return min(firsts.values(), key=self._failed.missed)

    def begin(self) -> None:
        """Let no other lane guess before this guess has ended."""
        self.may_follow = False

    def end(self, point: Point, *, took: bool) -> None:
        """Note whether the destination took the point."""
        self.may_follow |= took
        if not took:
            with self._lock:
                self._failed.miss(point)

    def close(self, *, is_cut_short: bool) -> None:
        """End the event, whose time may have been up before all parts of a refused batch were sent."""
        if self._has_failed or is_cut_short:
            self._failed.add()

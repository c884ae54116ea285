"""Guesses which point makes its batch fail, where no reply says so.

If a batch failed in all attempts, one of its points may be the cause, or the destination is down. If the destination took
other requests meanwhile, the batch is halved. Otherwise one of its points is sent alone, another one each time: this is a
guess. After a guess that is not taken, the event makes no other: the destination seems to be down.
"""

import math

from metric_forwarder.clock import Clock
from metric_forwarder.machine import Lock
from metric_forwarder.model import Batch, Point

# Three redeliveries of an event in which a batch failed in all attempts come within this time.
_REMEMBERED_S = 200.0


class FailedBatches:
    """What an instance remembers of batches that failed in all attempts, for the redeliveries of their events.

    Other events in between, whose points are taken, say nothing of such a batch: it may hold the point at fault.

    Attributes:
        failed_at: when an event last had one, monotonic seconds.
        is_hurried: whether the attempts of a whole batch may take all the time of an event, as they do at a slow pace: an
            event since then had none left for the requests by which the point at fault is found.
        guesses: how many were made.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.failed_at = -math.inf
        self.is_hurried = False
        self.guesses = 0

    @property
    def are_recent(self) -> bool:
        return self._clock.monotonic() - self.failed_at < _REMEMBERED_S

    def add(self) -> None:
        """Note that an event had one just now."""
        self.failed_at = self._clock.monotonic()


class Guesses:
    """The guesses of one event, for all its lanes.

    Args:
        failed: what is known from earlier events.
        accepted: how many requests the destination has taken so far.
        lock: lets one lane at a time choose.

    Attributes:
        may_follow: whether another guess may be made: the last one was taken, or there was none.
    """

    def __init__(self, failed: FailedBatches, accepted: int, lock: Lock) -> None:
        self._failed = failed
        self._accepted_at_start = accepted
        self._lock = lock
        self._has_failed = False
        failed.is_hurried &= failed.are_recent
        self._is_due = failed.is_hurried
        self.may_follow = True

    def take_first(self) -> bool:
        """Take the guess before the first attempt of a batch, with which an event begins if an earlier one was hurried."""
        is_due, self._is_due = self._is_due, False
        return is_due

    def note_failure(self, accepted: int) -> bool:
        """Note that a batch failed while no other request was taken; return whether to guess."""
        self._has_failed = True
        is_up = accepted > self._accepted_at_start
        return self.may_follow and (is_up or self._failed.are_recent)

    def choose(self, batch: Batch, lanes: int) -> Point:
        """Choose a point to send alone, the first of its series."""
        firsts: list[Point] = list({point.series.digest: point for point in reversed(batch)}.values())
        with self._lock:
            self.may_follow = False
            self._failed.guesses += 1
            return firsts[self._failed.guesses // lanes % len(firsts)]

    def close(self, *, is_cut_short: bool) -> None:
        """End the event, whose time may have been up before all parts of a refused batch were sent."""
        self._failed.is_hurried |= is_cut_short
        if self._has_failed or is_cut_short:
            self._failed.add()

"""Clocks are passed in to the code that reads the time or sleeps, so that tests do not depend on real time."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock, a wall clock, the processor time of this process, and a way to let time pass; in seconds."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    def process_time(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def process_time(self) -> float:
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Deadline:
    """A moment on the monotonic clock by which all work must have ended."""

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock = clock
        self.at = at

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self._clock.monotonic())

    def within(self, seconds: float) -> "Deadline":
        """Return a deadline that is ``seconds`` away, or this one if that is nearer."""
        return Deadline(self._clock, min(self.at, self._clock.monotonic() + seconds))

    def earlier(self, seconds: float) -> "Deadline":
        """Return a deadline that is ``seconds`` before this one."""
        return Deadline(self._clock, self.at - seconds)

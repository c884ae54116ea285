"""Time as a collaborator: what reads a clock or sleeps is handed one, so that tests need neither."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock, a wall clock, the processor time of this process, and a way to let time pass; in seconds."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    def process_time(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def process_time(self) -> float:
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Deadline:
    """A moment on the monotonic clock after which nothing may be under way any more."""

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock = clock
        self.at = at

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self._clock.monotonic())

    def earlier(self, seconds: float) -> "Deadline":
        """A deadline so much before this one."""
        return Deadline(self._clock, self.at - seconds)

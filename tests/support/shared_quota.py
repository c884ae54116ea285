"""Many instances that send to one receiver with one quota, in virtual time: pacers and limiters are real, requests are not."""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from metric_forwarder.delivery.pacing import Pace

Limiter = Callable[[float], bool]


def fixed_window(allowed: int) -> Limiter:
    """So many in each second of the clock; it does not matter whether it counts what it refuses."""
    counted = [0, 0]

    def take(now: float) -> bool:
        if counted[0] != int(now):
            counted[:] = int(now), 0
        counted[1] += 1
        return counted[1] <= allowed

    return take


def _window(allowed: int, *, counts_refused: bool) -> Limiter:
    taken: deque[float] = deque()

    def take(now: float) -> bool:
        while taken and taken[0] <= now - 1:
            taken.popleft()
        is_free = len(taken) < allowed
        if is_free or counts_refused:
            taken.append(now)
        return is_free

    return take


def sliding_window(allowed: int) -> Limiter:
    """So many in any second; what is refused does not count."""
    return _window(allowed, counts_refused=False)


def unforgiving_window(allowed: int) -> Limiter:
    """So many in any second, and what is refused counts too: while too many come, nearly all of them are refused."""
    return _window(allowed, counts_refused=True)


def token_bucket(allowed: int) -> Limiter:
    """So many a second on average, a tenth of a second's worth at once."""
    most = max(1.0, allowed / 10)
    state = [most, 0.0]

    def take(now: float) -> bool:
        state[0] = min(most, state[0] + (now - state[1]) * allowed)
        state[1] = now
        if state[0] < 1:
            return False
        state[0] -= 1
        return True

    return take


LIMITERS = {
    "token bucket": token_bucket,
    "fixed window": fixed_window,
    "sliding window": sliding_window,
    "window that counts refused requests": unforgiving_window,
}


class VirtualClock:
    """Its time is set by the simulation."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing sleeps for {seconds} s in a simulation")


class Outcome(NamedTuple):
    """What became of a flood.

    Attributes:
        used: accepted requests, as a share of what the quota allowed.
        refused: refused requests, as a share of all that were sent.
        fairness: Jain's index of the accepted requests: 1 if each instance had as many, 1/n if one had all.
        drained_s: when everything was sent; None if it was not.
    """

    used: float
    refused: float
    fairness: float
    drained_s: float | None


class Crowd:
    """Instances that all have more to send than the quota allows, one event of a minute after the other.

    Args:
        backlog: requests that each instance has to send; None: more than it can.
        pause_s: from the end of an event to the next one; then instances begin at different times.
    """

    def __init__(
        self,
        pacers: Sequence[Pace],
        limiter: Limiter,
        clock: VirtualClock,
        *,
        seed: int,
        lanes: int = 4,
        latency_s: float = 0.02,
        event_s: float = 60.0,
        backlog: int | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self._pacers, self._limiter, self._clock = pacers, limiter, clock
        self._chance = random.Random(seed)
        self._lanes, self._latency_s, self._event_s = lanes, latency_s, event_s
        self._pause_s = pause_s
        count = len(pacers)
        self._left: list[float] = [math.inf if backlog is None else backlog] * count
        self._missing = sum(self._left)
        self._deadlines = [0.0] * count
        self._running = [0] * count
        # Moment, number, what happens, to which instance.
        self._agenda: list[tuple[float, int, Callable[[int], None], int]] = []
        self._number = 0
        self.accepted = [0] * count
        self.refused = 0
        self._counted_since = 0.0
        self.drained_s: float | None = None

    def count_anew(self) -> None:
        """Let the outcome be about what comes from now on."""
        self.accepted = [0] * len(self._pacers)
        self.refused = 0
        self._counted_since = self._clock.now

    def run(self, seconds: float, allowed: int) -> Outcome:
        """Let so much time pass from the moment at which all begin, within a tenth of a second."""
        for index in range(len(self._pacers)):
            self._at(self._chance.uniform(0, 0.1 + self._pause_s), self._begin, index)
        return self.go_on(seconds, allowed)

    def go_on(self, seconds: float, allowed: int) -> Outcome:
        """Let time pass until so many seconds after the beginning."""
        while self._agenda and self._agenda[0][0] <= seconds:
            self._clock.now, _, happen, index = heappop(self._agenda)
            happen(index)
        accepted = sum(self.accepted)
        squares = sum(count * count for count in self.accepted)
        return Outcome(
            accepted / (allowed * (seconds - self._counted_since)),
            self.refused / (accepted + self.refused),
            accepted * accepted / (len(self._pacers) * squares) if squares else 0.0,
            self.drained_s,
        )

    def kill(self, instances: Sequence[int]) -> None:
        """Let these instances send nothing more."""
        for index in instances:
            self._left[index] = 0

    def _at(self, moment: float, happen: Callable[[int], None], index: int) -> None:
        self._number += 1
        heappush(self._agenda, (moment, self._number, happen, index))

    def _begin(self, index: int) -> None:
        """An event is delivered; what it does not send comes again with the next one."""
        if self._missing == 0:
            return
        now = self._clock.now
        self._deadlines[index] = now + self._event_s
        self._pacers[index].begin(self._event_s)
        self._running[index] = 0
        self._join(index)
        self._at(now + self._event_s + self._pause_s, self._begin, index)

    def _join(self, index: int) -> None:
        """Let lanes start: one while the pacer probes, all of them otherwise."""
        most = 1 if self._pacers[index].is_probing else self._lanes
        while self._running[index] < most:
            self._running[index] += 1
            self._attempt(index)

    def _attempt(self, index: int) -> None:
        now = self._clock.now
        if self._left[index] <= 0 or now >= self._deadlines[index]:
            return
        turn = self._pacers[index].reserve(self._deadlines[index] - now)
        if turn is None:
            return
        if turn.is_taken:
            self._left[index] -= 1
            self._at(now + turn.wait_s + self._latency(), self._arrive, index)
        else:
            self._at(now + turn.wait_s, self._attempt, index)

    def _arrive(self, index: int) -> None:
        now = self._clock.now
        is_accepted = self._limiter(now)
        if is_accepted:
            self.accepted[index] += 1
            self._missing -= 1
            if self._missing == 0:
                self.drained_s = now
        else:
            self.refused += 1
            self._left[index] += 1
        self._at(now + self._latency(), self._accept if is_accepted else self._refuse, index)

    def _accept(self, index: int) -> None:
        self._pacers[index].accept()
        self._go_on(index)

    def _refuse(self, index: int) -> None:
        self._pacers[index].refuse()
        self._go_on(index)

    def _go_on(self, index: int) -> None:
        self._pacers[index].is_probing = False
        self._join(index)
        self._attempt(index)

    def _latency(self) -> float:
        return self._latency_s * self._chance.uniform(0.25, 0.75)

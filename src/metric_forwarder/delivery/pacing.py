"""How fast to send: additive increase, multiplicative decrease, learned from the destination's refusals.

Refusals without an acceptance between them are one episode. Each episode lowers the rate once; within it all lanes
pause, twice as long each time. A first guess is raised quickly until it meets a refusal, then in small steps.
``tests/test_pacing.py`` holds this against limiters of several kinds.

What a destination asks for (``Retry-After``) is kept, however long it is, by the event that it was asked in. Later events
do not take its word for longer than a minute: it may be healthy again, and nobody would know.
"""

import threading
from collections import deque
from collections.abc import Callable

from metric_forwarder.clock import Clock

_DECREASE = 0.9
_OVERSHOT = 0.8
# Of the rate at the last refusal, each second.
_SLOW_INCREASE = 0.03
# Factor of each second.
_FAST_INCREASE = 2.0
# So long without a refusal, and the destination must allow more than it did.
_SPEED_UP_AFTER_S = 6.0
# So long without a refusal, and there may be no limit at all.
_FORGET_AFTER_S = 60.0
_FIRST_PAUSE_S = 0.25
_MAX_DOUBLINGS = 6
_MIN_RATE = 1.0
_WINDOW_S = 1.0
# A Retry-After that is older is tested with one request and not obeyed: redeliveries come a minute apart, so each tests it.
_TEST_AFTER_S = 50.0


class Pacer:
    """Hands out the moments at which requests may start; shared by all lanes, kept while the instance is warm.

    Args:
        jitter: draws from 0 to its argument, so that instances do not pause in step.
        max_rate: requests a second, at most; None: no such limit.

    Attributes:
        accepted: how many requests the destination has taken.
        is_testing: the next request will tell whether the destination still wants to be left alone; until it is
            answered no other may go.
    """

    def __init__(self, clock: Clock, jitter: Callable[[float], float], max_rate: float | None = None) -> None:
        self._clock = clock
        self._jitter = jitter
        self._max_rate = max_rate
        self._rate = max_rate
        self._next = 0.0
        self._last_refusal: float | None = None
        self._rate_at_refusal = 0.0
        self._is_guess = False
        self._grown_at = 0.0
        self._pauses = 0
        self._paused_until = 0.0
        self._asked_at = 0.0
        self._asked_until = 0.0
        self.is_testing = False
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()
        self.accepted = 0

    @property
    def rate(self) -> float | None:
        """Requests a second in force; None: as fast as they go."""
        return self._rate

    def begin(self) -> None:
        """Points are about to be sent: what was asked for long ago is tested instead of kept."""
        with self._lock:
            now = self._clock.monotonic()
            if self._asked_until > now and now - self._asked_at >= _TEST_AFTER_S:
                self._asked_until = now
                self.is_testing = True

    def reserve(self, within_s: float) -> float | None:
        """Take the next free moment: seconds to wait until then, or None if it is not within ``within_s``."""
        with self._lock:
            now = self._clock.monotonic()
            if self._last_refusal is not None and now - self._last_refusal > _FORGET_AFTER_S:
                self._last_refusal, self._rate = None, self._max_rate
            start = max(now, self._next, self._asked_until)
            if start - now > within_s:
                return None
            self._next = start + (1 / self._rate if self._rate else 0.0)
            return start - now

    def accept(self) -> None:
        """The destination took a request."""
        with self._lock:
            now = self._clock.monotonic()
            self.accepted += 1
            self._pauses = 0
            self._recent.append(now)
            self._trim(now)
            if self._rate is not None and self._last_refusal is not None:
                self._set_rate(self._grown(self._rate, now, now - self._last_refusal))

    def refuse(self) -> bool:
        """The destination said that requests come too fast; False if that was under way when a pause began."""
        with self._lock:
            now = self._clock.monotonic()
            if now < self._paused_until:
                return False
            if self._pauses == 0:
                self._decrease(now)
            pause = _FIRST_PAUSE_S * 2 ** min(self._pauses, _MAX_DOUBLINGS)
            self._pauses += 1
            self._paused_until = now + 0.75 * pause + self._jitter(0.25 * pause)
            self._next = max(self._next, self._paused_until)
            self._last_refusal = self._grown_at = self._paused_until
            return True

    def pause(self, seconds: float) -> None:
        """Let nobody start for so long: the destination asked for it."""
        if seconds <= 0:
            return
        with self._lock:
            self._asked_at = self._clock.monotonic()
            self._asked_until = max(self._asked_until, self._asked_at + seconds)

    def asked_s(self) -> float:
        """How much longer the destination wants to be left alone, seconds."""
        return max(0.0, self._asked_until - self._clock.monotonic())

    def _decrease(self, now: float) -> None:
        self._trim(now)
        accepted = max(len(self._recent) / _WINDOW_S, _MIN_RATE)
        if self._rate is None or self._last_refusal is None:
            self._rate_at_refusal = accepted
            self._is_guess = True
        else:
            # What grew quickly overshot, but never below what was just taken.
            floor = min(self._rate, accepted)
            self._rate_at_refusal = max(self._rate * _OVERSHOT, floor) if self._is_guess else self._rate
            self._is_guess = False
        self._set_rate(self._rate_at_refusal * _DECREASE)

    def _grown(self, rate: float, now: float, since_refusal: float) -> float:
        elapsed = min(max(now - self._grown_at, 0.0), 1.0)
        self._grown_at = now
        if len(self._recent) / _WINDOW_S < rate / 2:
            # The lanes do not use what they may: nothing is learned from their success.
            return rate
        if self._is_guess or since_refusal > _SPEED_UP_AFTER_S:
            return float(rate * _FAST_INCREASE**elapsed)
        return rate + self._rate_at_refusal * _SLOW_INCREASE * elapsed

    def _set_rate(self, rate: float) -> None:
        rate = max(rate, _MIN_RATE)
        self._rate = rate if self._max_rate is None else min(rate, self._max_rate)

    def _trim(self, now: float) -> None:
        while self._recent and self._recent[0] <= now - _WINDOW_S:
            self._recent.popleft()

"""How fast to send: additive increase, multiplicative decrease, learned from the destination's refusals.

Measured against limiters of a fixed window and of a token bucket in ``tests/test_pacing.py``.
"""

import threading
from collections import deque

from metric_forwarder.clock import Clock

_WINDOW_S = 1.0
# After a refusal: this share of what was accepted in the last window.
_DECREASE = 0.9
# Requests a second gained each second, as a share of the rate at the last refusal.
_INCREASE = 0.02
_MIN_RATE = 0.5
# Refusals come in bunches, one for each request under way; they count once.
_REACTION_S = 0.5
# So long without a refusal, and the limit is assumed to be gone.
_FORGET_S = 60.0


class Pacer:
    """Hands out the moments at which requests may start; shared by all lanes, kept while the instance is warm.

    Args:
        max_rate: requests a second, at most; None: no such limit.
    """

    def __init__(self, clock: Clock, max_rate: float | None = None) -> None:
        self._clock = clock
        self._max_rate = max_rate
        self._rate = max_rate
        self._base = 0.0
        self._next = 0.0
        self._last_refusal: float | None = None
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()
        self.accepted = 0

    @property
    def rate(self) -> float | None:
        """Requests a second in force; None: as fast as they go."""
        return self._rate

    def reserve(self, within_s: float) -> float | None:
        """Take the next free moment: seconds to wait until then, or None if it is not within ``within_s``."""
        with self._lock:
            now = self._clock.monotonic()
            self._forget_old_refusal(now)
            start = max(now, self._next)
            if start - now > within_s:
                return None
            self._next = start + (1 / self._rate if self._rate else 0.0)
            return start - now

    def accept(self) -> None:
        """The destination took a request."""
        with self._lock:
            now = self._clock.monotonic()
            self.accepted += 1
            self._recent.append(now)
            self._trim(now)
            if self._rate is not None and self._last_refusal is not None:
                self._set_rate(self._rate + self._base * _INCREASE / self._rate)

    def refuse(self) -> None:
        """The destination said that requests come too fast."""
        with self._lock:
            now = self._clock.monotonic()
            if self._last_refusal is None or now - self._last_refusal >= _REACTION_S:
                self._trim(now)
                accepted = len(self._recent) / _WINDOW_S
                current = self._rate if self._rate is not None else max(accepted, _MIN_RATE)
                self._set_rate(min(current, accepted) * _DECREASE if accepted else current / 2)
                self._base = self._rate or _MIN_RATE
            self._last_refusal = now

    def pause(self, seconds: float) -> None:
        """Let nobody start for so long: the destination asked for it."""
        with self._lock:
            self._next = max(self._next, self._clock.monotonic() + seconds)

    def _set_rate(self, rate: float) -> None:
        rate = max(rate, _MIN_RATE)
        self._rate = rate if self._max_rate is None else min(rate, self._max_rate)

    def _trim(self, now: float) -> None:
        while self._recent and self._recent[0] <= now - _WINDOW_S:
            self._recent.popleft()

    def _forget_old_refusal(self, now: float) -> None:
        if self._last_refusal is not None and now - self._last_refusal > _FORGET_S:
            self._last_refusal = None
            self._rate = self._max_rate

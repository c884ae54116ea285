"""How fast to send: additive increase, multiplicative decrease, learned from the destination's refusals.

Refusals without an acceptance between them are one episode. Each episode lowers the rate once; within it all lanes
pause, twice as long each time. A first guess is raised quickly until it meets a refusal, then in small steps.
``tests/delivery/test_pacing.py`` holds this against limiters of several kinds.

The event in which a destination asks for a pause (``Retry-After``) keeps to it, however long it is. Later events do so for
less than a minute, and then probe with one request: the destination may be healthy again. The same
holds after a refusal of everything (``CoolDown``), such as that of a key.
"""

from collections import deque

from metric_forwarder.clock import Clock
from metric_forwarder.delivery.verdicts import Verdict, still_refused
from metric_forwarder.machine import Machine

_DECREASE = 0.9
_OVERSHOOT_FACTOR = 0.8
# Added each second, as a share of the rate at the last refusal.
_SLOW_INCREASE = 0.03
# The rate is multiplied by this each second.
_FAST_INCREASE = 2.0
# After this time without a refusal the destination must allow more than it did.
_SPEED_UP_AFTER_S = 6.0
# After this time without a refusal there may be no limit at all.
_FORGET_AFTER_S = 60.0
_FIRST_PAUSE_S = 0.25
_MAX_DOUBLINGS = 6
_MIN_RATE = 1.0
_WINDOW_S = 1.0
# After this time a pause is probed: redeliveries come a minute apart, so each of them probes it.
_PROBE_AFTER_S = 50.0
_FIRST_COOL_DOWN_S = 2.0


class Pacer:
    """Hands out the moments at which requests may start; shared by all lanes, kept while the instance is warm.

    Args:
        machine: its chance makes instances pause out of step.
        max_rate: requests a second, at most; None: no such limit.

    Attributes:
        accepted: how many requests the destination has taken.
        is_probing: the next request shows whether the destination takes requests again; until its reply is there no
            other request may be sent.
    """

    def __init__(self, machine: Machine, max_rate: float | None = None) -> None:
        self._clock = machine.clock
        self._jitter = machine.chance.below
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
        self.is_probing = False
        self._recent: deque[float] = deque()
        self._lock = machine.tasks.lock()
        self.accepted = 0

    @property
    def rate(self) -> float | None:
        """Requests a second in force; None: as fast as they go."""
        return self._rate

    def begin(self) -> None:
        """Start an event: probe a pause that was asked for long ago, instead of keeping it."""
        with self._lock:
            now = self._clock.monotonic()
            if self._asked_until > now and now - self._asked_at >= _PROBE_AFTER_S:
                self._asked_until = now
                self.is_probing = True

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
        """The destination said that requests come too fast; False if it refused a request sent before the current pause."""
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
        """Let no request start within this time: the destination asked for it."""
        if seconds <= 0:
            return
        with self._lock:
            self._asked_at = self._clock.monotonic()
            self._asked_until = max(self._asked_until, self._asked_at + seconds)

    def asked_s(self) -> float:
        """Seconds that are left of the pause that the destination asked for."""
        return max(0.0, self._asked_until - self._clock.monotonic())

    def wait_s(self) -> float:
        """Seconds until the next request may start, by the pace in force and by what the destination asked for."""
        return max(self._next, self._asked_until) - self._clock.monotonic()

    def _decrease(self, now: float) -> None:
        self._trim(now)
        accepted = max(len(self._recent) / _WINDOW_S, _MIN_RATE)
        if self._rate is None or self._last_refusal is None:
            self._rate_at_refusal = accepted
            self._is_guess = True
        else:
            # Fast growth went too far; but do not go below the rate that was just accepted.
            floor = min(self._rate, accepted)
            self._rate_at_refusal = (
                max(self._rate * _OVERSHOOT_FACTOR, floor) if self._is_guess else self._rate
            )
            self._is_guess = False
        self._set_rate(self._rate_at_refusal * _DECREASE)

    def _grown(self, rate: float, now: float, since_refusal: float) -> float:
        elapsed = min(max(now - self._grown_at, 0.0), 1.0)
        self._grown_at = now
        if len(self._recent) / _WINDOW_S < rate / 2:
            # The lanes send less than they may, so their success says nothing about the limit.
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


class CoolDown:
    """Lets events send nothing for a while after the destination refused everything; kept while warm.

    The pause doubles with each refusal until a request is taken. It stays below the minute between two redeliveries, so
    that each of them probes whether the reason is gone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._verdict: Verdict | None = None
        self._pause_s = 0.0
        self._refused_at = 0.0

    @property
    def is_unproven(self) -> bool:
        """Whether the destination refused everything and has taken no request since."""
        return self._verdict is not None

    def verdict(self) -> Verdict | None:
        """Why nothing may be sent now; None if something may."""
        ago_s = self._clock.monotonic() - self._refused_at
        if self._verdict is None or ago_s >= self._pause_s:
            return None
        return still_refused(self._verdict, ago_s, self._pause_s - ago_s)

    def start(self, verdict: Verdict) -> None:
        """Everything was refused."""
        self._pause_s = min(max(2 * self._pause_s, _FIRST_COOL_DOWN_S), _PROBE_AFTER_S)
        self._refused_at = self._clock.monotonic()
        self._verdict = verdict

    def end(self) -> None:
        """A request was taken."""
        self._verdict = None
        self._pause_s = 0.0

"""How fast to send, learned from the destination's refusals alone, however many instances share its limit.

An instance does not know how many others there are: its fair rate may be 50 requests a second, or one in 20 seconds. Accepted
requests raise its rate by 0.9 % a second and each refusal lowers it by a quarter (``_Rate``). The same share of all instances'
requests is refused, so a fast one meets more refusals in a second than a slow one: it falls and the slow one rises, until all
have the same rate. That is "Rate control for communication networks" (Kelly, Maulloo and Tan 1998), of the family that Chiu and
Jain (1989) proved to end in fair shares. Larger steps would drive equal rates apart, since refusals come by chance. Slow
instances rise by 0.2 % a second, or a third of their requests would be refused. ``tests/delivery/test_shared_quota.py`` holds this
with up to 1,000 instances.

Instances must not come in step: pauses, and the first moment of an event, are drawn. Refusals without an acceptance between
them lower the rate further and further, so that even a limiter that counts what it refuses lets requests pass again. Eight
of them are an outage: when it is over, the rate is searched anew.

The event in which a destination asks for a pause (``Retry-After``) keeps to it, however long it is. Later events do so for
less than a minute, and then probe with one request: the destination may be healthy again. The same
holds after a refusal of everything (``CoolDown``), such as that of a key.
"""

import math
from collections import deque
from typing import NamedTuple, Protocol

from metric_forwarder.clock import Clock
from metric_forwarder.delivery.verdicts import Verdict, still_refused
from metric_forwarder.machine import Machine

# The first rate of an instance whose first request was refused: few requests are refused to 1,000 instances of this rate
# that share a quota of 50 a second, and 100 find in a minute that there is more.
_FIRST_RATE = 0.1
# Redeliveries come a minute apart, and each should send something.
_LOWEST_RATE = 1 / 64
# These are steps of the rate's logarithm. How far a refusal lowers the rate.
_FALL = 0.3
# How far acceptances raise it in a second, up to one rate, and above another. Among 1,000 instances a tenth of the requests is
# refused then, and a sixteenth among 100. If the rise followed the rate in a wider range, shares in it would drift apart.
_SLOW_RISE, _SLOW_RATE, _FAST_RISE, _FAST_RATE = 0.002, 0.12, 0.009, 0.2
# How far they raise it while the limit may be far away: in a second, and each of them at most.
_SEARCH_A_SECOND, _LARGEST_RISE_IN_SEARCH = 0.6, 0.25
# So many refusals without an acceptance between them are an outage, which takes minutes at a pace that falls with each of
# them. After fewer, of 1,000 instances too many would search again while a limiter that counts what it refuses is full.
_REFUSALS_OF_AN_OUTAGE = 8
# A limit that was not met for so long may be gone: the larger of the first two, but not longer than the last.
_DOUBT_AFTER_S, _DOUBT_AFTER_REQUESTS, _DOUBT_AT_LAST_S = 60.0, 300, 900.0
_FIRST_PAUSE_S = 0.25
# Nothing was known before, so the first pause lets a window of a second pass.
_PAUSE_BEFORE_SEARCH_S = 1.0
_MAX_DOUBLINGS = 8
_WINDOW_S = 1.0
# No lane takes a moment that is further away: a refusal until then makes it too early.
_AHEAD_S = 0.25
# After this time a pause is probed: redeliveries come a minute apart, so each of them probes it.
_PROBE_AFTER_S = 50.0
_FIRST_COOL_DOWN_S = 2.0


class Turn(NamedTuple):
    """When the next request may start.

    Attributes:
        wait_s: seconds until then.
        is_taken: the caller sends after that time; if not, it asks again then, since the pace may have changed.
    """

    wait_s: float
    is_taken: bool


class Pace(Protocol):
    """Hands out the moments at which requests may start; shared by all lanes, kept while the instance is warm.

    Attributes:
        is_probing: the next request shows whether the destination takes requests; until its reply is there no
            other request may be sent.
    """

    is_probing: bool

    @property
    def accepted(self) -> int:
        """How many requests the destination has taken."""

    def begin(self, within_s: float) -> None:
        """Start an event, which has so many seconds."""

    def reserve(self, within_s: float) -> Turn | None:
        """Take the next free moment if it is near; None if it is not within ``within_s``."""

    def accept(self) -> None:
        """The destination took a request."""

    def refuse(self) -> bool:
        """The destination said that requests come too fast; False if an earlier refusal had said so already."""

    def pause(self, seconds: float) -> None:
        """Let no request start within this time: the destination asked for it."""

    def asked_s(self) -> float:
        """Seconds that are left of the pause that the destination asked for."""

    def wait_s(self) -> float:
        """Seconds until the next request may start, by the pace in force and by what the destination asked for."""


class _Rate:
    """The control law: requests a second, raised by acceptances and lowered by refusals.

    Attributes:
        value: requests a second.
        run: requests accepted since the last refusal; below 0: refused since the last acceptance.
    """

    def __init__(self, accepted: int) -> None:
        """Begin a search, with as many requests as were accepted in the second before the first refusal."""
        self.value = max(0.9 * accepted, _FIRST_RATE)
        self.run = -1
        self._is_search = True

    @classmethod
    def known(cls, value: float) -> "_Rate":
        """Begin with a rate that needs no search."""
        rate = cls(0)
        rate.value = max(value, _LOWEST_RATE)
        rate._is_search = False
        return rate

    def search(self) -> None:
        """Rise fast until a request is refused: the limit may be far away."""
        self.value = max(self.value, _FIRST_RATE)
        self._is_search = True

    def accept(self, recent: int) -> None:
        """A request was accepted, as so many were in the last second."""
        if self.run <= -_REFUSALS_OF_AN_OUTAGE:
            # These refusals said that nothing is taken, and nothing about a rate that is.
            self.search()
        self.run = max(self.run, 0) + 1
        if recent < self.value / 2:
            # The lanes send less than they may, so their success says nothing about the limit.
            return
        if self._is_search:
            rise = min(_SEARCH_A_SECOND / self.value, _LARGEST_RISE_IN_SEARCH)
        else:
            rise = _rise_a_second(self.value) / self.value
            if self.value > _FAST_RATE:
                # A run that makes up for three refusals shows that the limit has moved away. For a slow instance it is chance.
                rise *= 1 + (self.run * rise / (3 * _FALL)) ** 2
        self.value *= math.exp(rise)

    def refuse(self, pause: float) -> None:
        """A request was refused, before a pause of so many seconds."""
        # A limiter may count by the second: after another refusal only the pause shows whether the rate was at fault.
        if self.run >= 0 or pause >= _WINDOW_S or self.value < 1:
            # Where nothing was accepted since the first refusal, there are many instances.
            fall = 2 * _FALL if self._is_search and self.run < 0 else _FALL
            self.value = max(self.value * math.exp(-fall), _LOWEST_RATE)
            self._is_search = False
        self.run = min(self.run, 0) - 1


def _rise_a_second(rate: float) -> float:
    """How far acceptances raise a rate in a second; between the two rates as a power of the rate."""
    share = math.log(rate / _SLOW_RATE) / math.log(_FAST_RATE / _SLOW_RATE)
    return _SLOW_RISE * math.pow(_FAST_RISE / _SLOW_RISE, min(max(share, 0.0), 1.0))


class Pacer:
    """A ``Pace`` for one instance that knows of no other.

    Args:
        machine: its chance keeps instances out of step.
        max_rate: requests a second, at most; None: no such limit.

    Attributes:
        accepted: how many requests the destination has taken.
        is_probing: the next request shows whether the destination takes requests; until its reply is there no
            other request may be sent.
    """

    def __init__(self, machine: Machine, max_rate: float | None = None) -> None:
        self._clock = machine.clock
        self._jitter = machine.chance.below
        self._lock = machine.tasks.lock()
        self._max_rate = max_rate
        # None until the first refusal, and again when nothing was sent for long.
        self._learned: _Rate | None = None
        self._next = 0.0
        self._paused_until = 0.0
        self._asked_at = 0.0
        self._asked_until = 0.0
        self._recent: deque[float] = deque()
        self.is_probing = True
        self.accepted = 0

    @property
    def rate(self) -> float | None:
        """Requests a second in force; None: as fast as they go."""
        if self._learned is None:
            return self._max_rate
        return min(self._learned.value, self._max_rate or math.inf)

    def begin(self, within_s: float) -> None:
        """Start an event, which has so many seconds: draw its first moment, out of step with other instances.

        A pause that was asked for long ago is probed instead of kept.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._doubt(now)
            if self._learned and now - self._next >= _PROBE_AFTER_S:
                # It has sent nothing for long, and a slow pace would let a short event do nothing each time.
                self._learned = None
                self.is_probing = True
            if self._asked_until > now and now - self._asked_at >= _PROBE_AFTER_S:
                self._asked_until = now
                self.is_probing = True
            if self._next <= now:
                self._next = now + self._jitter(min(self._gap(), within_s / 2))

    def reserve(self, within_s: float) -> Turn | None:
        """Take the next free moment if it is near; None if it is not within ``within_s``."""
        with self._lock:
            now = self._clock.monotonic()
            self._doubt(now)
            start = max(now, self._next, self._asked_until)
            if start - now > within_s:
                return None
            is_near = start - now <= _AHEAD_S
            if is_near:
                self._next = start + self._gap()
            return Turn(start - now, is_near)

    def accept(self) -> None:
        """The destination took a request."""
        with self._lock:
            self.accepted += 1
            now = self._clock.monotonic()
            self._recent.append(now)
            # Also while no rate is known: it lets go of the older ones.
            lately = self._accepted_lately(now)
            if self._learned:
                self._learned.accept(lately)

    def refuse(self) -> bool:
        """The destination said that requests come too fast; False if it refused a request sent before the current pause."""
        with self._lock:
            now = self._clock.monotonic()
            if now < self._paused_until:
                return False
            if self._learned is None:
                self._learned, pause = _Rate(self._accepted_lately(now)), _PAUSE_BEFORE_SEARCH_S
            else:
                pause = _FIRST_PAUSE_S * 2 ** min(max(-self._learned.run, 0), _MAX_DOUBLINGS)
                self._learned.refuse(pause)
            pause = max(pause, self._gap())
            self._paused_until = self._next = now + 0.4 * pause + self._jitter(pause)
            return True

    def assume(self, rate: float | None) -> None:
        """Go on at a rate that was learned elsewhere, from a moment that is drawn; None: as if no limit was ever met."""
        with self._lock:
            self._learned = None if rate is None else _Rate.known(rate)
            self._paused_until = self._clock.monotonic()
            self._next = self._paused_until + self._jitter(self._gap())

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

    def _doubt(self, now: float) -> None:
        """Search until the next refusal if the limit was not met for long; to forget it would flood the other instances."""
        if self._learned is None:
            return
        after_s = max(_DOUBT_AFTER_S, _DOUBT_AFTER_REQUESTS / self._learned.value)
        if now - self._paused_until > min(after_s, _DOUBT_AT_LAST_S):
            self._learned.search()

    def _gap(self) -> float:
        return 1 / self.rate if self.rate else 0.0

    def _accepted_lately(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - _WINDOW_S:
            self._recent.popleft()
        return len(self._recent)


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

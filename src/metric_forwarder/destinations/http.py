"""What the destinations over HTTP share: a batch is one request, and one reply judges all of it."""

from abc import ABC, abstractmethod

from metric_forwarder.clients.http import (
    Failure,
    Fault,
    HttpReply,
    HttpRequest,
    Transport,
    retry_after_s,
    server_time,
)
from metric_forwarder.clock import Clock
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.server_clock import ServerClock
from metric_forwarder.model import Batch

# Statuses that call a request too large.
_TOO_LARGE = frozenset({413, 414, 431})
# Replies that say nothing about the request: too many requests, or no server behind the gateway.
PASSING = frozenset({408, 425, 429, 502, 503, 504})


class HttpDestination(Destination, ABC):
    """Sends a batch as one request; a subclass makes the request and judges the reply.

    Args:
        transport: carries the requests.
        clock: bounds what one attempt takes.
        server_clock: what is known of the destination's clock; each reply that is surely its own tells more.
    """

    def __init__(self, transport: Transport, clock: Clock, server_clock: ServerClock) -> None:
        self._transport = transport
        self._clock = clock
        self._server_clock = server_clock

    @property
    def clock_offset_s(self) -> float | None:
        return self._server_clock.offset_s

    def ask_time(self, timeout_s: float) -> Verdict:
        reply = self._transport.send(self.smallest_request(), timeout_s)
        verdict = self._learn_from(reply)
        self._server_clock.agree(verdict.server_time, self._clock.time())
        return verdict

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        until = self._clock.monotonic() + timeout_s
        verdict = self._learn_from(self._transport.send(self.request(batch), timeout_s))
        if len(batch) == 1 and verdict.action is Action.SHRINK and verdict.code in _TOO_LARGE:
            return self._check_size(verdict, min(timeout_s, until - self._clock.monotonic()))
        return verdict

    def _check_size(self, verdict: Verdict, timeout_s: float) -> Verdict:
        """Before a point is rejected for its size, find out whether the server calls every request too large."""
        reply = self._transport.send(self.smallest_request(), timeout_s) if timeout_s > 0 else None
        if not isinstance(reply, HttpReply) or reply.status in PASSING:
            asked_s = self.judge(reply).retry_after_s if reply is not None else None
            return verdict._replace(action=Action.RETRY, reason=_UNSURE, retry_after_s=asked_s)
        if reply.status == verdict.code:
            reason = (
                f"the server there calls even the smallest request too large (HTTP {reply.status}): {_PATH}"
            )
            return verdict._replace(action=Action.STOP, reason=reason)
        return verdict

    def _learn_from(self, reply: HttpReply | Failure) -> Verdict:
        """Judge a reply, and learn from it what time it is at the destination."""
        verdict = self.judge(reply)
        if self.is_its_own(verdict):
            self._server_clock.learn(verdict.server_time, self._clock.time())
        return verdict

    @abstractmethod
    def is_its_own(self, verdict: Verdict) -> bool:
        """Whether the reply with this verdict came from the destination itself, and not from a proxy in front of it."""

    @abstractmethod
    def smallest_request(self) -> HttpRequest:
        """Make a request without points, which stores nothing."""

    @abstractmethod
    def request(self, batch: Batch) -> HttpRequest:
        """Join the points, stamp and sign them; called for every attempt."""

    @abstractmethod
    def judge(self, reply: HttpReply | Failure) -> Verdict:
        """What a reply, or its absence, means."""


def with_head(verdict: Verdict, reply: HttpReply, now: float) -> Verdict:
    """Add what the head of a reply says: the server's time, and for how long it asks for no request; a success asks for no pause."""
    asked_s = None if verdict.action is Action.ACCEPT else retry_after_s(reply, now=now)
    return verdict._replace(server_time=server_time(reply), retry_after_s=asked_s)


def judge_failure(failure: Failure, who: str, unencrypted: str, unreachable: str) -> Verdict:
    """The verdict if no reply came from ``who``: what to do if a connection was not encrypted, or not made."""
    fault, detail = failure.fault, failure.detail
    if failure.is_tls:
        reason = f"no encrypted connection to {who} ({detail}): {unencrypted}"
        return Verdict(Action.HOLD_OFF, fault.value, reason)
    if fault is Fault.UNREACHABLE:
        return Verdict(Action.HOLD_OFF, fault.value, f"no connection to {who} ({detail}): {unreachable}")
    action = Action.RECONNECT if fault is Fault.STALE else Action.RESEND
    return Verdict(action, fault.value, f"the request was sent, and no reply came ({detail})")


_PATH = "check the destination's URL, and the limits of the proxy before it"
_UNSURE = "the destination called the point too large, and it is unknown whether it accepts a smaller request: check the destination's health"

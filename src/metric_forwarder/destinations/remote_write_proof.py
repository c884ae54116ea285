"""Proves that what answers at a URL takes remote write: a server that answers success to everything proves nothing.

VictoriaMetrics answers 204 to any body at several of its paths, and a sign-in page answers 200. So before the first
points a request is sent that only remote write can refuse: its body is no snappy block. Every implementation decodes the
body before anything else, so the request stores nothing; whatever answers it with success is something else.

Other paths refuse everything with 400, and would make every point rejected. So before the first point is rejected at an endpoint that
has taken none, an empty request is sent, which remote write accepts.
"""

from collections.abc import Callable
from enum import Enum, auto

from metric_forwarder.clients.http import Failure, HttpReply
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.machine import Machine

# A length that never ends. One byte, so that nothing that stores text finds a line in it.
UNREADABLE_BODY = b"\xff"
# A snappy block of nothing: a request without series.
EMPTY_BODY = b"\0"
# Answers that say nothing about the request: too many requests, or no server behind the gateway.
_PASSING = frozenset({408, 425, 429, 502, 503, 504})
# Time below which asking is no use.
_SHORTEST_S = 0.05

NOT_REMOTE_WRITE = "not remote write"
_OTHERWISE = "; if it is right, set MF_REMOTE_WRITE_CHECK=off"
_REASON = (
    "what answers at MF_REMOTE_WRITE_URL calls a request a success that no remote write can read, so its success means "
    f"nothing: correct the URL, its path above all{_OTHERWISE}"
)
_REFUSES_ALL = (
    "what answers at MF_REMOTE_WRITE_URL refuses an empty request just as it refuses points, so the points may be good: correct the "
    f"URL, its path above all{_OTHERWISE}"
)
_UNSURE = (
    "the destination refused the point and has taken none so far, and it did not answer whether it takes an empty request: look at "
    "its health"
)
_UNPROVEN = (
    "the destination answered success, but there was no time to find out whether it takes remote write"
)


class _Standing(Enum):
    UNKNOWN = auto()
    PROVEN = auto()
    REFUTED = auto()


class EndpointProof:
    """What is known about an endpoint while the instance is warm; safe to use from several threads.

    Args:
        ask: sends a body within so many seconds.
        is_off: nothing is asked, and every reply is believed.
        machine: its clock says how much time is left.
    """

    def __init__(
        self,
        ask: Callable[[bytes, float], HttpReply | Failure],
        machine: Machine,
        *,
        is_off: bool = False,
    ) -> None:
        self._ask = ask
        self._monotonic = machine.clock.monotonic
        self._lock = machine.tasks.lock()
        self._was_asked = False
        self._standing = _Standing.PROVEN if is_off else _Standing.UNKNOWN
        self._has_taken = is_off

    @property
    def is_proven(self) -> bool:
        return self._standing is _Standing.PROVEN

    def before_points(self, timeout_s: float) -> Verdict | None:
        """Ask, unless it is known or was asked in vain; a verdict if no point may be sent.

        Half of the time is left for the points: an endpoint that does not answer this may answer them.
        """
        with self._lock:
            if self._standing is _Standing.UNKNOWN and self._was_asked:
                return None
            return None if self.is_proven else self._examine(timeout_s / 2)

    def after_success(self, until: float) -> Verdict | None:
        """Ask again after points were answered with success; a verdict if that success is not to be believed.

        An endpoint that twice fails to answer this, and takes points in between, tells the one from the other: proven.
        """
        self._has_taken = True
        if self.is_proven:
            return None
        with self._lock:
            if self.is_proven:
                return None
            left_s = until - self._monotonic()
            if left_s < _SHORTEST_S:
                return Verdict(Action.RESEND, NOT_REMOTE_WRITE, _UNPROVEN)
            verdict = self._examine(left_s)
            if verdict is None:
                self._standing = _Standing.PROVEN
            return verdict

    def after_refusal(self, until: float) -> Verdict | None:
        """Ask whether it takes an empty request, before a point is rejected; a verdict if that refusal tells nothing.

        Only as long as it has taken nothing: what has taken points refuses a point for a fault of the point.
        """
        with self._lock:
            left_s = until - self._monotonic()
            if self._has_taken:
                return None
            reply = self._ask(EMPTY_BODY, left_s) if left_s >= _SHORTEST_S else None
            if not isinstance(reply, HttpReply) or reply.status in _PASSING:
                return Verdict(Action.RETRY, "unsure", _UNSURE)
            if not _is_success(reply):
                return Verdict(Action.STOP, NOT_REMOTE_WRITE, _REFUSES_ALL, reply.status)
            self._has_taken = True
            return None

    def _examine(self, timeout_s: float) -> Verdict | None:
        self._was_asked = True
        reply = self._ask(UNREADABLE_BODY, timeout_s)
        if isinstance(reply, HttpReply):
            if _is_success(reply):
                # Asked again with the next event: somebody may have corrected the endpoint rather than the URL.
                self._standing = _Standing.REFUTED
                return Verdict(Action.STOP, NOT_REMOTE_WRITE, _REASON, reply.status)
            if reply.status not in _PASSING:
                self._standing = _Standing.PROVEN
        return None


def _is_success(reply: HttpReply) -> bool:
    return 200 <= reply.status < 300  # noqa: PLR2004 - the class of successes

"""Proves that the server at a URL accepts remote write, since some servers reply to everything with success.

VictoriaMetrics answers 204 to any body at several of its paths, and a sign-in page answers 200. So before the first
points a request is sent that remote write must refuse: its body is not a snappy block. Every implementation decodes the
body first, so the request stores nothing. A server that replies with success does not accept remote write.

Other paths refuse everything with 400, and would make every point rejected. So before the first point is rejected at an endpoint that
has taken none, an empty request is sent, which remote write accepts.
"""

from collections.abc import Callable
from enum import Enum, auto

from metric_forwarder.clients.http import Failure, HttpReply
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.http import PASSING
from metric_forwarder.machine import Machine

# A length that never ends; a single byte, so that a server for text does not find a line in it.
UNREADABLE_BODY = b"\xff"
# An empty snappy block: a request without series.
EMPTY_BODY = b"\0"
# With less time, it is not asked.
_SHORTEST_S = 0.05
# An endpoint that is believed without a proof is asked again this often, and has this long to reply.
_ASKED_AGAIN_S = 60.0
_BRIEF_S = 0.5

NOT_REMOTE_WRITE = "not remote write"
_OTHERWISE = "; if it is right, set MF_REMOTE_WRITE_CHECK=off"
_REASON = (
    "the server at MF_REMOTE_WRITE_URL replies with success to a request that remote write cannot read, so its success means "
    f"nothing: correct the URL, its path above all{_OTHERWISE}"
)
_REFUSES_ALL = (
    "the server at MF_REMOTE_WRITE_URL refuses an empty request just as it refuses points, so the points may be good: correct the "
    f"URL, its path above all{_OTHERWISE}"
)
_UNSURE = (
    "the destination refused the point, has accepted none so far, and did not reply to an empty request: check "
    "its health"
)
_UNPROVEN = (
    "the destination replied with success, but there was no time to find out whether it accepts remote write"
)


class _Standing(Enum):
    UNKNOWN = auto()
    BELIEVED = auto()  # it has accepted points, and has never replied to the proof
    PROVEN = auto()
    REFUTED = auto()


class EndpointProof:
    """What is known about an endpoint while the instance is warm; safe to use from several threads.

    Args:
        ask: sends a body, within a number of seconds.
        judge: judges a reply as one to points; it says for how long the endpoint asks not to be sent anything.
        is_off: nothing is checked, and every reply is believed.
        machine: its clock says how much time is left.
    """

    def __init__(
        self,
        ask: Callable[[bytes, float], HttpReply | Failure],
        judge: Callable[[HttpReply], Verdict],
        machine: Machine,
        *,
        is_off: bool = False,
    ) -> None:
        self._ask = ask
        self._judge = judge
        self._monotonic = machine.clock.monotonic
        self._lock = machine.tasks.lock()
        self._was_asked = False
        self._asked_at = 0.0
        self._standing = _Standing.PROVEN if is_off else _Standing.UNKNOWN
        self._has_taken = is_off

    @property
    def is_proven(self) -> bool:
        return self._standing is _Standing.PROVEN

    def before_points(self, timeout_s: float) -> Verdict | None:
        """Ask, unless the answer is known or did not come before; return a verdict if no point may be sent.

        Half of the time is kept for the points: an endpoint that does not reply to this may reply to them.
        """
        # It may be held by a thread that hangs, for instance with a name server that never answers.
        if self.is_proven or not self._lock.acquire(timeout=timeout_s / 2):
            return None
        try:
            is_in_vain = self._standing is _Standing.UNKNOWN and self._was_asked
            is_known = self._standing in (_Standing.PROVEN, _Standing.BELIEVED)
            return None if is_known or is_in_vain else self._examine(timeout_s / 2)
        finally:
            self._lock.release()

    def after_success(self, until: float) -> Verdict | None:
        """Ask again after a success for points; return a verdict if that success must not be believed, or a pause is asked for.

        With a pause (``retry_after_s``) the success is believed. An endpoint that twice does not reply to this, but accepts points
        in between, seems to distinguish the two: it is believed, but asked again from time to time.
        """
        self._has_taken = True
        if self.is_proven:
            return None
        left_s = until - self._monotonic()
        if self._standing is _Standing.BELIEVED:
            return self._ask_again(left_s)
        if left_s < _SHORTEST_S or not self._lock.acquire(timeout=left_s):
            return Verdict(Action.RESEND, NOT_REMOTE_WRITE, _UNPROVEN)
        try:
            if self.is_proven:
                return None
            verdict = self._examine(until - self._monotonic())
            if self._standing is not _Standing.REFUTED and not self.is_proven:
                self._standing = _Standing.BELIEVED
            return verdict
        finally:
            self._lock.release()

    def _ask_again(self, left_s: float) -> Verdict | None:
        """Ask an endpoint that is believed: it may have been too busy to reply, and accept anything."""
        is_due = self._monotonic() - self._asked_at >= _ASKED_AGAIN_S
        if not is_due or left_s < _SHORTEST_S or not self._lock.acquire(timeout=0):
            return None
        try:
            return self._examine(min(left_s, _BRIEF_S))
        finally:
            self._lock.release()

    def after_refusal(self, until: float) -> Verdict | None:
        """Before a point is rejected, ask whether an empty request is accepted; return a verdict if the refusal means nothing.

        Only until it has accepted points: after that, a refused point is at fault itself.
        """
        if self._has_taken:
            return None
        if not self._lock.acquire(timeout=max(until - self._monotonic(), 0)):
            return Verdict(Action.RETRY, "unsure", _UNSURE)
        try:
            if self._has_taken:
                return None
            left_s = until - self._monotonic()
            reply = self._ask(EMPTY_BODY, left_s) if left_s >= _SHORTEST_S else None
            if not isinstance(reply, HttpReply) or reply.status in PASSING:
                asked_s = self._judge(reply).retry_after_s if isinstance(reply, HttpReply) else None
                return Verdict(Action.RETRY, "unsure", _UNSURE, retry_after_s=asked_s)
            if not _is_success(reply):
                return Verdict(Action.STOP, NOT_REMOTE_WRITE, _REFUSES_ALL, reply.status)
            self._has_taken = True
            return None
        finally:
            self._lock.release()

    def _examine(self, timeout_s: float) -> Verdict | None:
        self._was_asked, self._asked_at = True, self._monotonic()
        reply = self._ask(UNREADABLE_BODY, timeout_s)
        if isinstance(reply, HttpReply):
            if _is_success(reply):
                # Asked again with the next event, since the endpoint may have been corrected instead of the URL.
                self._standing = _Standing.REFUTED
                return Verdict(Action.STOP, NOT_REMOTE_WRITE, _REASON, reply.status)
            if reply.status not in PASSING:
                self._standing = _Standing.PROVEN
            elif (verdict := self._judge(reply)).retry_after_s:
                return verdict
        return None


def _is_success(reply: HttpReply) -> bool:
    return 200 <= reply.status < 300  # noqa: PLR2004 - the class of successes

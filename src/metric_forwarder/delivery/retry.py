"""The retry policy: what a verdict on a batch means for its next attempt. It sends nothing and waits for nothing."""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from metric_forwarder.delivery.pacing import Pace
from metric_forwarder.delivery.verdicts import Action, Effect, Verdict

_BACKOFF_BASE_S = 0.2
_BACKOFF_CAP_S = 10.0


class Policy(NamedTuple):
    """How hard to try."""

    max_attempts: int
    request_timeout_s: float
    concurrency: int
    hold_uncertain: bool = False


class BatchState:
    """The attempts of one batch so far.

    Attributes:
        points: how many it holds.
        accepted_before: requests that the destination had taken when ``failed`` was last set to zero.
        sent: attempts so far.
        waited_s: how long it has waited for the attempt that comes next.
        failed: attempts that count towards ``max_attempts``.
        signing: the generation of key and clock that its last attempt was signed with.
        reconnected: whether it was sent again on a new connection.
    """

    def __init__(self, points: int, accepted_before: int) -> None:
        self.points = points
        self.accepted_before = accepted_before
        self.sent = 0
        self.waited_s = 0.0
        self.failed = 0
        self.signing = 0
        self.reconnected = False


class Final(Enum):
    """Why there is no next attempt."""

    BATCH = "the verdict is final for the batch"
    EVENT = "nothing more is sent for this event"
    UNLESS_FIXED = "nothing more is sent for this event, unless the destination can correct the cause"


class RetryPolicy:
    """Decides how long a batch waits for its next attempt, or that it has none.

    Args:
        pacer: learns of acceptances, refusals and pauses, which concern all batches.
        jitter: draws from 0 to its argument.
    """

    def __init__(self, policy: Policy, pacer: Pace, jitter: Callable[[float], float]) -> None:
        self._policy = policy
        self._pacer = pacer
        self._jitter = jitter

    def next_delay(self, verdict: Verdict, state: BatchState) -> float | Final:
        """Seconds to wait before the next attempt, or why there is none."""
        match verdict.action:
            case Action.ACCEPT:
                self._pacer.accept()
                self._pacer.pause(verdict.retry_after_s or 0.0)
                return Final.BATCH
            case Action.SPLIT | Action.SHRINK | Action.REJECT_GROUP:
                return Final.BATCH
            case Action.THIN_OUT | Action.SLOW_DOWN:
                return self._after_throttling(verdict, state)
            case Action.RETRY:
                return self._backoff(verdict, state)
            case Action.HOLD_OFF:
                delay = self._backoff(verdict, state)
                return Final.EVENT if delay is Final.BATCH else delay
            case Action.RESEND | Action.RECONNECT:
                return self._after_silence(verdict, state)
            case Action.REAUTHENTICATE | Action.SET_CLOCK:
                return Final.UNLESS_FIXED
            case Action.STOP:
                return Final.EVENT

    def _backoff(self, verdict: Verdict, state: BatchState) -> float | Final:
        """Exponential with full jitter, never shorter than what the destination asked for."""
        asked = verdict.retry_after_s or 0.0
        self._pacer.pause(asked)
        state.failed += 1
        if state.failed >= self._policy.max_attempts:
            return Final.BATCH
        ceiling = min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** (state.failed - 1))
        return max(self._jitter(ceiling), asked)

    def _after_throttling(self, verdict: Verdict, state: BatchState) -> float | Final:
        """A request to slow down is not a failure while the destination takes other requests."""
        self._pacer.pause(verdict.retry_after_s or 0.0)
        if verdict.action.has(Effect.HALVES) and state.points > 1:
            # The number of points is the first suspect, not the pace.
            return Final.BATCH
        is_news = self._pacer.refuse()
        if self._pacer.accepted > state.accepted_before:
            state.accepted_before = self._pacer.accepted
            state.failed = 0
        state.failed += is_news
        # The pacer says how long to wait, for all lanes alike.
        return Final.BATCH if state.failed >= self._policy.max_attempts else 0.0

    def _after_silence(self, verdict: Verdict, state: BatchState) -> float | Final:
        if self._policy.hold_uncertain:
            return Final.BATCH
        if verdict.action is Action.RECONNECT and not state.reconnected:
            state.reconnected = True
            return 0.0
        return self._backoff(verdict, state)

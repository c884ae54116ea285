"""Sends a batch until its verdict is final, within the limits of pace, attempts and time."""

from metric_forwarder.clock import Deadline
from metric_forwarder.delivery.batching import BatchLimits
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.pacing import CoolDown, Pace
from metric_forwarder.delivery.retry import BatchState, Final, Policy, RetryPolicy
from metric_forwarder.delivery.settling import EventRecord
from metric_forwarder.delivery.verdicts import (
    OUT_OF_TIME,
    Action,
    Effect,
    Verdict,
    asked_to_wait,
    too_slow_a_pace,
)
from metric_forwarder.machine import Machine
from metric_forwarder.model import Batch

# Requests end this long before the deadline, so that their outcome can still be written.
_WRITING_S = 0.05
# A request that has less time than this was cut off by the end of its event.
_LEAST_S = 0.05


class Exchange:
    """One event's exchange with the destination, shared by all lanes.

    Attributes:
        halted: why nothing more is sent for this event; None as long as something may be.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        policy: Policy,
        retry: RetryPolicy,
        pacer: Pace,
        cool_down: CoolDown,
        limits: BatchLimits,
        machine: Machine,
        deadline: Deadline,
        record: EventRecord,
    ) -> None:
        self._destination = destination
        self._policy = policy
        self._retry = retry
        self._pacer = pacer
        self._cool_down = cool_down
        self._limits = limits
        self._clock = machine.clock
        self._deadline = deadline
        self._record = record
        self.halted: Verdict | None = None
        self._halt_lock = machine.tasks.lock()
        # A lock of its own, since getting a key takes time, and the end of the event must not wait for it.
        self._key_lock = machine.tasks.lock()
        self._is_prepared = False
        # Requests signed before the last change of key or clock deserve one more try.
        self._signing = 0
        self._fixed: set[Action] = set()

    def begin(self) -> None:
        """Apply the pauses of earlier events: keep them, or let one request test whether they are over."""
        self._pacer.begin(self._time_left())
        self._limits.begin(self._clock.monotonic())
        self.halted = self._cool_down.verdict()
        self._pacer.is_probing |= self._cool_down.is_unproven

    @property
    def accepted(self) -> int:
        """How many requests the destination has taken so far."""
        return self._pacer.accepted

    @property
    def is_time_up(self) -> bool:
        """Whether no other request can be sent for this event."""
        return self._time_left() < _LEAST_S

    def prepare(self) -> None:
        """Let the destination get what its requests need: the first lane does it, the others wait."""
        with self._key_lock:
            if not self._is_prepared:
                self._is_prepared = True
                asked_s = self._pacer.asked_s()
                if asked_s > max(0.0, self._time_left()):
                    self.halt(asked_to_wait(asked_s))
                    return
                self._sleep(asked_s)
                verdict = self._try_to_prepare()
                if verdict is OUT_OF_TIME:
                    self.halt(verdict)
                elif verdict is not None:
                    # The next event would fail for the same reason, so it does not try at once.
                    self.halt(verdict._replace(action=Action.STOP))

    def send(self, batch: Batch) -> Verdict:
        """Send a batch until its verdict is final: another attempt would not change it, or is not allowed."""
        state = BatchState(len(batch), self._pacer.accepted)
        verdict: Verdict | None = None
        while self.halted is None:
            turn = self._pacer.reserve(self._time_left())
            if turn is None:
                return verdict or self._why_not_now()
            self._sleep(turn.wait_s)
            state.waited_s += turn.wait_s
            if not turn.is_taken:
                continue
            reply = self._attempt(batch, state)
            if reply is None:
                return verdict or OUT_OF_TIME
            verdict = reply
            delay = self._next_delay(verdict, state)
            self._pacer.is_probing = False
            if delay is None or delay > self._time_left():
                return verdict
            self._sleep(delay)
            state.waited_s = delay
        return self.halted

    def halt(self, verdict: Verdict) -> None:
        """Send nothing more for this event; the first reason is kept, unless a later one concerns other events too."""
        stops = verdict.action.has(Effect.STOPS)
        with self._halt_lock:
            if self.halted is None or (stops and not self.halted.action.has(Effect.STOPS)):
                self.halted = verdict
                if stops:
                    self._cool_down.start(verdict)

    def _try_to_prepare(self) -> Verdict | None:
        state = BatchState(0, self._pacer.accepted)
        while (timeout := self._time_for_one()) > 0:
            started = self._clock.monotonic()
            verdict = self._destination.prepare(timeout)
            if self._record.trace:
                self._record.trace.prepared(verdict, self._ms_since(started))
            if verdict is None:
                return None
            delay = self._retry.next_delay(verdict, state)
            if isinstance(delay, Final) or delay > self._time_left():
                return verdict
            self._sleep(delay)
        return OUT_OF_TIME

    def _attempt(self, batch: Batch, state: BatchState) -> Verdict | None:
        """Send once; None if there is no time left for it."""
        timeout = self._time_for_one()
        state.signing = self._signing
        if timeout <= 0 or not self._record.start_attempt(batch, is_retry=state.sent > 0):
            return None
        state.sent += 1
        started = self._clock.monotonic()
        verdict = self._destination.send(batch, timeout)
        if self._record.trace:
            self._record.trace.sent(
                points=state.points,
                attempt=state.sent,
                waited_ms=round(state.waited_s * 1000),
                verdict=verdict,
                took_ms=self._ms_since(started),
            )
        self._record.end_attempt(batch, verdict)
        if verdict.action is Action.ACCEPT:
            self._cool_down.end()
            self._limits.accept(state.points)
        elif verdict.action.has(Effect.LEARNS_POINTS):
            self._limits.refuse(state.points)
        return verdict

    def _next_delay(self, verdict: Verdict, state: BatchState) -> float | None:
        """Seconds to wait before the next attempt; None if the verdict is final."""
        delay = self._retry.next_delay(verdict, state)
        if delay is Final.UNLESS_FIXED:
            delay = 0.0 if self._fix(verdict, state) else Final.EVENT
        if delay is Final.EVENT:
            self.halt(verdict)
        return None if isinstance(delay, Final) else delay

    def _fix(self, verdict: Verdict, state: BatchState) -> bool:
        """Return whether to send the batch again, because the cause of its refusal was corrected."""
        with self._key_lock:
            if state.signing < self._signing:
                return True
            if verdict.action in self._fixed:
                return False
            self._fixed.add(verdict.action)
            is_fixed = self._destination.fix(verdict, self._time_for_one())
            self._signing += is_fixed
            return is_fixed

    def _time_left(self) -> float:
        """Seconds left in which a request must end."""
        return self._deadline.remaining() - _WRITING_S

    def _time_for_one(self) -> float:
        """Seconds that one more request may take."""
        return min(self._policy.request_timeout_s, self._time_left())

    def _why_not_now(self) -> Verdict:
        """Why the next request cannot start in time."""
        left = max(0.0, self._time_left())
        asked_s = self._pacer.asked_s()
        if asked_s > left:
            return asked_to_wait(asked_s)
        wait_s = self._pacer.wait_s()
        return too_slow_a_pace(wait_s) if 0 < left < wait_s else OUT_OF_TIME

    def _ms_since(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._clock.sleep(seconds)

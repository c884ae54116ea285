"""Records what was sent for an event, and settles each point once, also after time is up."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from metric_forwarder.delivery.verdicts import OUT_OF_TIME, Action, Effect, Verdict, blocked_by_earlier
from metric_forwarder.machine import Lock
from metric_forwarder.model import Batch, Outcome, Point


class Settle(Protocol):
    """Writes the outcome of points; called from one thread at a time."""

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None: ...


class RequestTrace(Protocol):
    """Called after each exchange with a destination, once it has a verdict; from several threads."""

    def prepared(self, verdict: Verdict | None, took_ms: int) -> None:
        """The destination got what sending needs, or did not."""

    def sent(self, *, points: int, attempt: int, waited_ms: int, verdict: Verdict, took_ms: int) -> None:
        """A batch was sent once."""


class BothTraces:
    """Passes each call on to two traces."""

    def __init__(self, first: RequestTrace, second: RequestTrace) -> None:
        self._traces = (first, second)

    def prepared(self, verdict: Verdict | None, took_ms: int) -> None:
        for trace in self._traces:
            trace.prepared(verdict, took_ms)

    def sent(self, *, points: int, attempt: int, waited_ms: int, verdict: Verdict, took_ms: int) -> None:
        for trace in self._traces:
            trace.sent(points=points, attempt=attempt, waited_ms=waited_ms, verdict=verdict, took_ms=took_ms)


class RequestCounts:
    """What was sent for an event: requests, those of them that repeated an earlier one, and replies by label."""

    def __init__(self) -> None:
        self.sent = 0
        self.retried = 0
        self.answers: Counter[str] = Counter()

    def add(self, other: "RequestCounts") -> None:
        self.sent += other.sent
        self.retried += other.retried
        self.answers.update(other.answers)


class BlockedSeries:
    """The series of which an event sends no more points, since an earlier one is undelivered and none may pass it.

    Lanes share it without a lock: each change is a single write, which a lane may see a little late.

    Attributes:
        all: why nothing more is sent of any series: a row for each would take more memory than the points of a large event.
    """

    def __init__(self) -> None:
        self.all: Verdict | None = None
        self._verdicts: dict[bytes, Verdict] = {}

    def __bool__(self) -> bool:
        return bool(self._verdicts)

    def block(self, undelivered: Batch, verdict: Verdict) -> None:
        """Block the series of points that are undelivered for this reason."""
        for_later_points = blocked_by_earlier(verdict)
        for point in undelivered:
            self._verdicts.setdefault(point.series.digest, for_later_points)

    def verdict(self, point: Point) -> Verdict | None:
        """Why the point is not sent; None if its series is not blocked."""
        return self._verdicts.get(point.series.digest)


class EventRecord:
    """Settles every point of an event once; after it is closed, late threads can write nothing.

    Args:
        settle: called with the outcomes.
        unanswered: the outcome of points that were sent without a reply.
        lock: lets one thread at a time write.
        trace: called with each request, if given.
    """

    def __init__(
        self, settle: Settle, unanswered: Outcome, lock: Lock, trace: RequestTrace | None = None
    ) -> None:
        self._settle_points = settle
        self._unanswered = unanswered
        self.trace = trace
        self._lock = lock
        self._closed = False
        # Batches that were sent and not refused, until their outcome is written.
        self._in_flight: dict[int, Batch] = {}
        self._settled: list[Batch] = []
        self.counts = RequestCounts()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def start_attempt(self, batch: Batch, *, is_retry: bool) -> bool:
        """Count a request that is about to be sent; False if the event is over."""
        with self._lock:
            if self._closed:
                return False
            self._in_flight[id(batch)] = batch
            self.counts.sent += 1
            self.counts.retried += is_retry
        return True

    def end_attempt(self, batch: Batch, verdict: Verdict) -> None:
        """Count a reply."""
        with self._lock:
            if self._closed:
                return
            self.counts.answers[verdict.label] += 1
            # An accepted batch stays in flight until its outcome is written: the event may end in between.
            if verdict.action is not Action.ACCEPT and not verdict.action.has(Effect.MAY_HAVE_ARRIVED):
                del self._in_flight[id(batch)]

    def settle(self, points: Batch, verdict: Verdict) -> Outcome:
        """Write what a final verdict makes of points."""
        outcome = self._outcome(verdict.action)
        with self._lock:
            if not self._closed:
                self._in_flight.pop(id(points), None)
                self._settled.append(points)
                self._settle_points(points, outcome, verdict)
        return outcome

    def close(self) -> None:
        """Write nothing from now on."""
        with self._lock:
            self._closed = True

    def settle_rest(self, points: Sequence[Point], unsent: Verdict) -> list[Point]:
        """Close, settle the remaining points and return them; ``unsent`` says why they were not sent."""
        with self._lock:
            self._closed = True
            if sum(map(len, self._settled)) == len(points):
                return []
            in_flight = {point.number for batch in self._in_flight.values() for point in batch}
            settled = {point.number for batch in self._settled for point in batch}
            left = [point for point in points if point.number not in settled]
            sent = [point for point in left if point.number in in_flight]
            waiting = [point for point in left if point.number not in in_flight]
            self._settle_points(sent, self._unanswered, OUT_OF_TIME)
            self._settle_points(waiting, Outcome.UNDELIVERED, unsent)
            return left

    def _outcome(self, action: Action) -> Outcome:
        if action is Action.ACCEPT:
            return Outcome.DELIVERED
        if action.has(Effect.REJECTS):
            return Outcome.REJECTED
        return self._unanswered if action.has(Effect.MAY_HAVE_ARRIVED) else Outcome.UNDELIVERED

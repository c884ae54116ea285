"""The sender: delivers the points of one event, in lanes, until each has a true outcome or time is up.

One loop sends a batch until its answer is final (``_exchange``), one function halves (``_halve``), one deadline bounds
both. Worker threads send; the thread that called only waits, so that not even a name server that never answers holds it past
the deadline.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol

from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.delivery.batching import Limits, in_layers, pack, plan_lanes, size_of
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.pacing import Pacer
from metric_forwarder.delivery.verdicts import NO_THREAD, OUT_OF_TIME, Action, Verdict, left_alone
from metric_forwarder.model import Batch, Outcome, Point

_BACKOFF_BASE_S = 0.2
_BACKOFF_CAP_S = 10.0
# Requests end this long before the deadline, so that their outcome is still theirs to write.
_LANDING_S = 0.05
# Workers are watched for so long; others join them only if they computed for less than this share of it.
_WATCH_S = 0.005
_BUSY = 0.6

# The keys of the series of which a point is undelivered, and why it is.
Behind = dict[bytes, Verdict]


class Policy(NamedTuple):
    """How hard to try."""

    max_attempts: int
    request_timeout_s: float
    concurrency: int
    hold_uncertain: bool = False


class Settle(Protocol):
    """Writes the outcome of points; called from one thread at a time."""

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None: ...


class RequestCounts:
    """What was sent for an event: requests, those of them that repeated an earlier one, and answers by label."""

    def __init__(self) -> None:
        self.sent = 0
        self.retried = 0
        self.answers: Counter[str] = Counter()

    def add(self, other: "RequestCounts") -> None:
        self.sent += other.sent
        self.retried += other.retried
        self.answers.update(other.answers)


class Sender:
    """What lasts while an instance is warm: connections, learned sizes and pace."""

    def __init__(
        self,
        destination: Destination,
        *,
        policy: Policy,
        limits: Limits,
        pacer: Pacer,
        clock: Clock,
        jitter: Callable[[float], float],
    ) -> None:
        self.destination = destination
        self.policy = policy
        self.limits = limits
        self.clock = clock
        self.jitter = jitter
        self.pacer = pacer

    def deliver(
        self,
        points: Sequence[Point],
        deadline: Deadline,
        settle: Settle,
        behind: Behind,
    ) -> RequestCounts:
        """Send the points; when it returns, ``settle`` was told one outcome for every one of them.

        To an ordered destination no point of a series in ``behind`` is sent; those that must not be passed are added.
        """
        return _Delivery(self, deadline, settle, behind).run(points)


class _Delivery:
    """One event's delivery: what its lanes share.

    ``_lock`` guards what is counted, settled and under way, and whether the event is over; ``_key_lock`` what concerns key and
    clock. A refused group, a series held back and a crash are single writes that a lane may see a little late.
    """

    def __init__(self, sender: Sender, deadline: Deadline, settle: Settle, behind: Behind) -> None:
        self._sender = sender
        self._destination = sender.destination
        self._policy = sender.policy
        self._deadline = deadline
        self._settle_points = settle
        self._behind = behind
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._lanes: deque[list[Point]] = deque()
        self._workers = 0
        self._closed = False
        self._crash: BaseException | None = None
        # Sent, and not known to be refused, until what became of it is written.
        self._in_flight: dict[int, Batch] = {}
        self._settled: list[Batch] = []
        self._counts = RequestCounts()
        # What was refused as too much is no large request: then sizes say nothing.
        self._is_period_full = False
        # Why nothing more is sent for this event, or to this group.
        self._halted: Verdict | None = None
        self._refused_groups: dict[Hashable, Verdict] = {}
        # Requests signed before the last change of key or clock deserve one more try.
        self._signing = 0
        # Getting a key takes time: apart from ``_lock``, which the end of the event takes.
        self._key_lock = threading.Lock()
        self._prepared = False
        self._fixed: set[Action] = set()

    def run(self, points: Sequence[Point]) -> RequestCounts:
        concurrency = self._policy.concurrency
        self._sender.pacer.begin()
        self._sender.limits.grow(self._sender.clock.monotonic())
        self._lanes.extend(
            plan_lanes(points, self._destination.group, self._sender.limits.max_points, concurrency)
        )
        if points:
            self._see_to_workers(min(concurrency, len(self._lanes)))
        self._close(points)
        return self._counts

    def _see_to_workers(self, most: int) -> None:
        """Let one begin, and others while the processor is idle; return when all is done, or time is up.

        Workers that never wait for an answer only get in each other's way.
        """
        if not self._start(1):
            self._halt(NO_THREAD)
            return
        started = 1
        while started < most and not self._finished.is_set() and self._deadline.remaining() > 0:
            if self._is_processor_idle() and not self._sender.pacer.is_testing:
                more = min(started, most - started)
                if not self._start(more):
                    break
                started += more
        self._finished.wait(self._deadline.remaining())

    def _is_processor_idle(self) -> bool:
        """Watch the workers for a moment."""
        clock = self._sender.clock
        began, busy = clock.monotonic(), clock.process_time()
        self._finished.wait(min(_WATCH_S, self._deadline.remaining()))
        return clock.process_time() - busy <= _BUSY * (clock.monotonic() - began)

    def _start(self, workers: int) -> bool:
        """Start so many more; False if there is no thread to be had."""
        for _ in range(workers):
            with self._lock:
                self._workers += 1
            try:
                threading.Thread(target=self._work, name="lane", daemon=True).start()
            except RuntimeError:
                self._leave()
                return False
        return True

    def _leave(self) -> None:
        """One worker less; the last one ends the event."""
        with self._lock:
            self._workers -= 1
            if self._workers == 0 or self._crash is not None:
                self._finished.set()

    def _close(self, points: Sequence[Point]) -> None:
        """Settle what is left: a thread that is still stuck somewhere has no say any more."""
        with self._lock:
            self._closed = True
            if self._crash is not None:
                raise self._crash
            if sum(map(len, self._settled)) == len(points):
                return
            in_flight = {point.number for batch in self._in_flight.values() for point in batch}
            settled = {point.number for batch in self._settled for point in batch}
            left = [point for point in points if point.number not in settled]
            sent = [point for point in left if point.number in in_flight]
            unsent = [point for point in left if point.number not in in_flight]
            self._settle_points(sent, self._unanswered, OUT_OF_TIME)
            self._settle_points(unsent, Outcome.UNDELIVERED, self._halted or OUT_OF_TIME)
            self._hold_back(left, self._halted or OUT_OF_TIME)

    @property
    def _unanswered(self) -> Outcome:
        return Outcome.UNCERTAIN if self._policy.hold_uncertain else Outcome.UNDELIVERED

    def _work(self) -> None:
        """Send one lane after the other."""
        try:
            self._prepare()
            while (lane := self._next_lane()) is not None:
                for batch in self._batches(lane):
                    self._deliver(batch)
        except BaseException as error:  # noqa: BLE001 - a defect here is raised in the thread that called
            self._crash = error
        finally:
            self._leave()

    def _batches(self, lane: Sequence[Point]) -> Iterator[Batch]:
        ordered = self._destination.ordered
        points = in_layers(lane) if ordered else lane
        return pack(points, self._sender.limits, once=ordered)

    def _prepare(self) -> None:
        """Let the destination get what its requests need: the first lane sees to it, the others wait."""
        with self._key_lock:
            if not self._prepared:
                self._prepared = True
                verdict = self._try_to_prepare()
                if verdict is not None:
                    self._halt(verdict)

    def _try_to_prepare(self) -> Verdict | None:
        tries = _Tries(self._sender.pacer.accepted, 0)
        while (timeout := self._time_for_one()) > 0:
            verdict = self._destination.prepare(timeout)
            if verdict is None:
                return None
            delay = self._again(verdict, tries)
            if delay is None or delay > self._time_left():
                return verdict
            self._sleep(delay)
        return OUT_OF_TIME

    def _time_left(self) -> float:
        """Seconds within which a request must have ended."""
        return self._deadline.remaining() - _LANDING_S

    def _time_for_one(self) -> float:
        """Seconds that one more request may take."""
        return min(self._policy.request_timeout_s, self._time_left())

    def _next_lane(self) -> list[Point] | None:
        with self._lock:
            return self._lanes.popleft() if self._lanes and not self._closed else None

    def _deliver(self, batch: Batch) -> bool:
        """Settle every point of a batch, in order; say whether the destination took them all."""
        if self._behind and self._destination.ordered:
            batch = self._leave_behind(batch)
            if not batch:
                return False
        group = self._destination.group(batch[0].series)
        verdict = self._halted or self._refused_groups.get(group) or self._exchange(batch)
        action = verdict.action
        if action is Action.ACCEPT:
            self._settle(batch, Outcome.DELIVERED, verdict)
            return True
        if action in _HALVING and len(batch) > 1:
            return self._halve(batch, verdict)
        if action is Action.REJECT_GROUP:
            self._refused_groups[group] = verdict
        outcome = self._outcome(verdict)
        self._settle(batch, outcome, verdict)
        if outcome is Outcome.UNDELIVERED:
            self._hold_back(batch, verdict)
        return False

    def _hold_back(self, points: Batch, verdict: Verdict) -> None:
        """What comes after these in their series must not pass them: they will be sent again."""
        if self._destination.ordered:
            for point in points:
                self._behind.setdefault(point.series.digest, verdict)

    def _leave_behind(self, batch: Batch) -> Batch:
        """Settle the points that would pass an earlier one of their series; the others remain."""
        free = []
        for point in batch:
            verdict = self._behind.get(point.series.digest)
            if verdict is None:
                free.append(point)
            else:
                self._settle([point], Outcome.UNDELIVERED, verdict._replace(reason=_BEHIND + verdict.reason))
        return free

    def _outcome(self, verdict: Verdict) -> Outcome:
        if verdict.action in _REFUSING:
            return Outcome.REJECTED
        if verdict.action in _UNANSWERED:
            return self._unanswered
        return Outcome.UNDELIVERED

    def _halve(self, batch: Batch, verdict: Verdict) -> bool:
        """Deliver the halves of a refused batch, the earlier first, down to the points at fault."""
        middle = len(batch) // 2
        left, right = batch[:middle], batch[middle:]
        took_left = self._deliver(left)
        if took_left and verdict.action is Action.SPLIT and len(right) > 1 and not self._halted:
            # What is at fault must be in here: refused already, no need to ask.
            self._halve(right, verdict)
            return False
        took_right = self._deliver(right)
        if took_left and took_right:
            self._learn(left, right, verdict)
        return took_left and took_right

    def _learn(self, left: Batch, right: Batch, verdict: Verdict) -> None:
        """Both halves went through, so it was the size: remember what worked."""
        limits, now = self._sender.limits, self._sender.clock.monotonic()
        with self._lock:
            if verdict.action is Action.SHRINK:
                limits.learn_bytes(max(size_of(left), size_of(right)), now)
            elif verdict.action is Action.THIN_OUT and not self._is_period_full:
                limits.learn_points(len(right), now)

    def _exchange(self, batch: Batch) -> Verdict:
        """Try a batch until its verdict is final: an answer that trying again cannot change, or no more tries."""
        pacer = self._sender.pacer
        tries = _Tries(pacer.accepted, len(batch))
        verdict: Verdict | None = None
        while True:
            if self._halted is not None:
                return self._halted
            wait = pacer.reserve(self._time_left())
            if wait is None:
                return verdict or self._why_not()
            self._sleep(wait)
            answer = self._attempt(batch, tries)
            if answer is None:
                return verdict or OUT_OF_TIME
            verdict = answer
            delay = self._again(verdict, tries)
            pacer.is_testing = False
            if delay is None or delay > self._time_left():
                return verdict
            self._sleep(delay)

    def _why_not(self) -> Verdict:
        """Why there is no time to send: it is short, or the destination wants to be left alone for longer."""
        asked_s = self._sender.pacer.asked_s()
        return left_alone(asked_s) if asked_s > self._time_left() else OUT_OF_TIME

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._sender.clock.sleep(seconds)

    def _attempt(self, batch: Batch, tries: "_Tries") -> Verdict | None:
        """Sign and send once; None if there is no time left for it."""
        timeout = self._time_for_one()
        with self._lock:
            if self._closed or timeout <= 0:
                return None
            tries.signing = self._signing
            self._in_flight[id(batch)] = batch
            self._counts.sent += 1
            self._counts.retried += tries.sent > 0
        tries.sent += 1
        verdict = self._destination.send(batch, timeout)
        with self._lock:
            # After the end everything is settled and counted.
            if not self._closed:
                self._counts.answers[verdict.label] += 1
                if verdict.action not in _IN_DOUBT:
                    del self._in_flight[id(batch)]
        return verdict

    def _again(self, verdict: Verdict, tries: "_Tries") -> float | None:
        """How long to wait before the next attempt; None if the verdict is final."""
        match verdict.action:
            case Action.ACCEPT:
                self._sender.pacer.accept()
                self._sender.limits.take(tries.points)
                return None
            case Action.SPLIT | Action.SHRINK | Action.REJECT_GROUP:
                return None
            case Action.THIN_OUT | Action.SLOW_DOWN:
                return self._after_throttling(verdict, tries)
            case Action.RETRY:
                return self._backoff(verdict, tries)
            case Action.HOLD_OFF:
                delay = self._backoff(verdict, tries)
                if delay is None:
                    self._halt(verdict)
                return delay
            case Action.RESEND | Action.RECONNECT:
                return self._after_silence(verdict, tries)
            case Action.REAUTHENTICATE | Action.SET_CLOCK:
                return self._after_fixing(verdict, tries)
            case Action.BLOCKED | Action.STOP:
                self._halt(verdict)
                return None

    def _halt(self, verdict: Verdict) -> None:
        """Send nothing more for this event."""
        with self._lock:
            self._halted = self._halted or verdict

    def _backoff(self, verdict: Verdict, tries: "_Tries") -> float | None:
        """Exponential with full jitter, never shorter than what the destination asked for."""
        asked = verdict.retry_after_s or 0.0
        self._sender.pacer.pause(asked)
        tries.failed += 1
        if tries.failed >= self._policy.max_attempts:
            return None
        ceiling = min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** (tries.failed - 1))
        return max(self._sender.jitter(ceiling), asked)

    def _after_throttling(self, verdict: Verdict, tries: "_Tries") -> float | None:
        """To be told to slow down is no failure as long as the destination takes other requests meanwhile."""
        pacer = self._sender.pacer
        is_news = pacer.refuse()
        pacer.pause(verdict.retry_after_s or 0.0)
        if verdict.action is Action.THIN_OUT:
            self._is_period_full |= self._sender.limits.are_usual(tries.points)
            if tries.points > 1:
                return None
        if pacer.accepted > tries.accepted_before:
            tries.accepted_before = pacer.accepted
            tries.failed = 0
        tries.failed += is_news
        # How long to wait is the pacer's to say, for all lanes alike.
        return None if tries.failed >= self._policy.max_attempts else 0.0

    def _after_silence(self, verdict: Verdict, tries: "_Tries") -> float | None:
        if self._policy.hold_uncertain:
            return None
        if verdict.action is Action.RECONNECT and not tries.reconnected:
            tries.reconnected = True
            return 0.0
        return self._backoff(verdict, tries)

    def _after_fixing(self, verdict: Verdict, tries: "_Tries") -> float | None:
        with self._key_lock:
            if tries.signing < self._signing:
                return 0.0
            if verdict.action not in self._fixed:
                self._fixed.add(verdict.action)
                if self._destination.fix(verdict, self._time_for_one()):
                    self._signing += 1
                    return 0.0
        self._halt(verdict)
        return None

    def _settle(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        with self._lock:
            if not self._closed:
                self._in_flight.pop(id(points), None)
                self._settled.append(points)
                self._settle_points(points, outcome, verdict)


class _Tries:
    """What one batch has been through."""

    def __init__(self, accepted_before: int, points: int) -> None:
        self.accepted_before = accepted_before
        self.points = points
        self.sent = 0
        self.failed = 0
        self.signing = 0
        self.reconnected = False


_BEHIND = "an earlier point of its series is undelivered, and this one must not pass it; "
_HALVING = frozenset({Action.SPLIT, Action.SHRINK, Action.THIN_OUT})
_REFUSING = frozenset({Action.SPLIT, Action.SHRINK, Action.REJECT_GROUP})
_UNANSWERED = frozenset({Action.RESEND, Action.RECONNECT})
# Whoever is interrupted after such an answer may have delivered.
_IN_DOUBT = _UNANSWERED | {Action.ACCEPT}

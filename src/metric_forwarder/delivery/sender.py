"""The sender: delivers the points of one event, in lanes, until each has an outcome or time is up.

``exchange`` sends a batch until its verdict is final, ``_Delivery`` divides what was refused, and one deadline bounds both.
Worker threads send; the calling thread only waits. So even a name server that never answers cannot delay it past the
deadline.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence

from metric_forwarder.clock import Deadline
from metric_forwarder.delivery.batching import BatchLimits, pack, plan_lanes, round_robin, size_of
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.exchange import Exchange
from metric_forwarder.delivery.guesses import FailedBatches, Guesses
from metric_forwarder.delivery.pacing import CoolDown, Pace
from metric_forwarder.delivery.retry import Policy, RetryPolicy
from metric_forwarder.delivery.settling import BlockedSeries, EventRecord, RequestCounts, RequestTrace, Settle
from metric_forwarder.delivery.suspects import Suspects
from metric_forwarder.delivery.verdicts import (
    NO_THREAD,
    OUT_OF_TIME,
    Action,
    Effect,
    Verdict,
    asked_to_wait,
)
from metric_forwarder.delivery.workers import Workers
from metric_forwarder.machine import Machine
from metric_forwarder.model import Batch, Outcome, Point

_NO_REPLY = Verdict(Action.RETRY, "no answer", "the destination was asked for the time, and no reply came")
# If more than this share of a refused batch was bad, sending single points takes fewer requests than halving.
_MOSTLY_BAD = 1 / 3


class Sender:
    """Delivers events; keeps connections, learned sizes and the pace while the instance is warm."""

    def __init__(
        self,
        destination: Destination,
        *,
        policy: Policy,
        limits: BatchLimits,
        pacer: Pace,
        cool_down: CoolDown,
        machine: Machine,
    ) -> None:
        self.destination = destination
        self.policy = policy
        self.limits = limits
        self.machine = machine
        self.pacer = pacer
        self.retry = RetryPolicy(policy, pacer, machine.chance.below)
        self.cool_down = cool_down
        self.failed_batches = FailedBatches(machine.clock, machine.tasks.lock())

    def learn_clock(self, deadline: Deadline) -> Verdict | None:
        """Ask the destination for its time, with one request; return why that is still unknown, or None."""
        self.pacer.begin(deadline.remaining())
        asked_s, refused = self.pacer.asked_s(), self.cool_down.verdict()
        if refused is not None:
            return refused
        if asked_s > 0:
            # The event may have the time to wait, but its other points should not wait for this question.
            reason = f"the destination asked for a pause of another {asked_s:.0f} s (Retry-After)"
            return asked_to_wait(asked_s)._replace(reason=reason)
        until = deadline.within(min(self.policy.request_timeout_s, deadline.remaining() / 2))
        verdict = _NO_REPLY

        def ask() -> None:
            nonlocal verdict
            verdict = self.destination.ask_time(until.remaining())
            self.pacer.pause(verdict.retry_after_s or 0.0)

        workers = Workers(ask, self.machine, until)
        if not workers.run(1, may_join=lambda: False):
            verdict = NO_THREAD
        if workers.crash is not None:
            raise workers.crash
        return verdict if self.destination.clock_offset_s is None else None

    def deliver(
        self,
        points: Sequence[Point],
        deadline: Deadline,
        settle: Settle,
        blocked_series: BlockedSeries,
        trace: RequestTrace | None = None,
    ) -> RequestCounts:
        """Send the points; when it returns, ``settle`` has been called with one outcome for every one of them.

        Points of a series in ``blocked_series`` are not sent; series with an undelivered point are added to it.
        ``trace`` is called with each request.
        """
        unanswered = Outcome.UNCERTAIN if self.policy.hold_uncertain else Outcome.UNDELIVERED
        record = EventRecord(settle, unanswered, self.machine.tasks.lock(), trace)
        exchange = Exchange(
            self.destination,
            policy=self.policy,
            retry=self.retry,
            pacer=self.pacer,
            cool_down=self.cool_down,
            limits=self.limits,
            machine=self.machine,
            deadline=deadline,
            record=record,
        )
        exchange.begin()
        exchange.halted = exchange.halted or blocked_series.all
        delivery = _Delivery(self, points, exchange, record, blocked_series)
        workers = Workers(delivery.work, self.machine, deadline)
        if points and exchange.halted is None:
            lanes = delivery.plan()
            is_started = workers.run(
                min(self.policy.concurrency, lanes), may_join=lambda: not self.pacer.is_probing
            )
            if not is_started:
                exchange.halt(NO_THREAD)
        if workers.crash is not None:
            record.close()
            raise workers.crash
        delivery.close()
        return record.counts


class _Lane:
    """Points to be sent in order, and what was learned while sending them.

    Attributes:
        set_aside: suspects, to be sent when all lanes are done; None in a lane of suspects.
        guess: a point that is sent alone before the others; None in most lanes.
        refused: points of the batch under way that were refused alone.
        accepted_before: how many requests the destination had taken before the batch under way.
        is_mostly_bad: whether much of the last batch that was divided was at fault.
    """

    def __init__(self, points: Sequence[Point], set_aside: list[Point] | None) -> None:
        self.points = points
        self.set_aside = set_aside
        self.guess: Point | None = None
        self.refused = 0
        self.accepted_before = 0
        self.is_mostly_bad = False

    def end_batch(self, points: int) -> None:
        """Learn from a batch of this many points how to divide the next one."""
        if self.refused:
            self.is_mostly_bad = self.refused > _MOSTLY_BAD * points
            self.refused = 0


class _Delivery:
    """One event's delivery: lanes, the division of refused batches, and what must wait.

    Lanes share refused groups without a lock: each is a single write, which a lane may see a little late.
    """

    def __init__(
        self,
        sender: Sender,
        points: Sequence[Point],
        exchange: Exchange,
        record: EventRecord,
        blocked_series: BlockedSeries,
    ) -> None:
        self._sender = sender
        self._points = points
        self._destination = sender.destination
        self._exchange = exchange
        self._record = record
        self._blocked_series = blocked_series
        self._lock = sender.machine.tasks.lock()
        self._lanes: deque[_Lane] = deque()
        self._refused_groups: dict[Hashable, Verdict] = {}
        self._has_divided = False
        self._failed = sender.failed_batches
        self._guesses = Guesses(self._failed, sender.pacer, points)
        self._suspects = Suspects(sender.machine.tasks.lock())

    def plan(self) -> int:
        """Make the lanes; return how many there are."""
        limits, concurrency = self._sender.limits, self._sender.policy.concurrency
        planned = plan_lanes(
            self._points,
            self._destination.group,
            limits.max_points,
            concurrency,
            one_per_series=self._destination.ordered,
        )
        self._lanes.extend(_Lane(lane, []) for lane in planned)
        if self._guesses.come_first:
            self._begin_with_guess()
        return len(planned)

    def _begin_with_guess(self) -> None:
        """Choose a point of any lane to be sent alone, and let its lane be the first."""
        guesses = []
        for lane in self._lanes:
            free = [point for point in self._in_order(lane.points) if not self._blocked_series.verdict(point)]
            if free:
                guesses.append((self._guesses.choose(free), lane))
        if guesses:
            guess, first = min(guesses, key=lambda each: self._failed.turn(each[0]))
            first.guess = guess
            self._lanes.remove(first)
            self._lanes.appendleft(first)

    def work(self) -> None:
        """Send one lane after the other; run by each worker."""
        self._exchange.prepare()
        while (lane := self._next_lane()) is not None:
            points = self._ask_about_metrics(lane) if lane.set_aside is None else lane.points
            if lane.guess:
                self._guess(lane.guess, lane)
                points = [point for point in points if point is not lane.guess]
            for batch in self._batches(points):
                lane.accepted_before = self._exchange.accepted
                self._deliver(batch, lane)
                lane.end_batch(len(batch))
            if lane.set_aside:
                self._lanes.append(_Lane(lane.set_aside, None))

    def close(self) -> None:
        """Settle the remaining points; a thread that is still running can change nothing after this."""
        halted = self._exchange.halted
        unsent = self._record.settle_rest(self._points, halted or OUT_OF_TIME)
        if halted is None:
            self._blocked_series.block(unsent, OUT_OF_TIME)
        else:
            self._blocked_series.all = halted
        if unsent:
            self._note_if_cut_short(unsent[0])
        self._guesses.close()

    def _note_if_cut_short(self, undelivered: Point) -> None:
        """After a batch was divided: the same requests would take all the time of the next delivery, too."""
        if self._has_divided and not self._exchange.halted:
            self._guesses.remember(undelivered)

    def _next_lane(self) -> _Lane | None:
        with self._lock:
            return self._lanes.popleft() if self._lanes and not self._record.is_closed else None

    def _in_order(self, points: Sequence[Point]) -> Sequence[Point]:
        """The points of a lane as they are sent."""
        return round_robin(points) if self._destination.ordered else points

    def _batches(self, points: Sequence[Point]) -> Iterator[Batch]:
        ordered = self._destination.ordered
        return pack(self._in_order(points), self._sender.limits, one_per_series=ordered)

    def _deliver(self, batch: Batch, lane: _Lane) -> bool:
        """Send a batch, and settle each of its points or set it aside; return whether the destination took all."""
        sent = self._skip_blocked(batch) if self._blocked_series else batch
        sent = self._set_suspects_aside(sent, lane) if self._suspects.exist else sent
        return bool(sent) and self._send(sent, lane) and len(sent) == len(batch)

    def _send(self, batch: Batch, lane: _Lane) -> bool:
        group = self._destination.group(batch[0].series)
        verdict = self._exchange.halted or self._refused_groups.get(group) or self._exchange.send(batch)
        action = verdict.action
        if action is Action.ACCEPT:
            self._suspects.note_taken(batch)
            self._record.settle(batch, verdict)
            return True
        if len(batch) > 1 and action.has(Effect.HALVES):
            return self._divide(batch, verdict, lane)
        if self._has_failed(verdict):
            self._guesses.note_failure(batch[0])
            if self._exchange.halted is None:
                if len(batch) == 1:
                    self._failed.add_turn(batch[0])
                elif self._exchange.accepted > lane.accepted_before:
                    return self._halve(batch, verdict, lane)
                elif self._guesses.may_follow:
                    return self._guess_and_deliver(batch, lane)
        if action is Action.REJECT_GROUP:
            self._refused_groups[group] = verdict
        outcome = self._record.settle(batch, verdict)
        if outcome is Outcome.UNDELIVERED:
            self._blocked_series.block(batch, verdict)
            self._note_if_cut_short(batch[0])
        elif action is Action.SPLIT:
            lane.refused += 1
            self._suspects.note_refused(batch[0], verdict)
        return False

    def _guess_and_deliver(self, batch: Batch, lane: _Lane) -> bool:
        """Deliver one point of a batch alone, then the others."""
        guess = self._guesses.choose(batch)
        took = self._guess(guess, lane)
        return self._deliver([point for point in batch if point is not guess], lane) and took

    def _guess(self, guess: Point, lane: _Lane) -> bool:
        """Deliver one point alone."""
        sent_before = self._record.counts.sent
        self._guesses.begin()
        took = self._deliver([guess], lane)
        if self._record.counts.sent > sent_before:
            self._failed.add_turn(guess)
        # Where it failed, its series is blocked. A refusal is an answer, too.
        self._guesses.end(answered=self._blocked_series.verdict(guess) is None)
        return took

    def _has_failed(self, verdict: Verdict) -> bool:
        """Whether a batch failed, for which its points may be the reason: see ``guesses``."""
        # A point at which a server crashes, and a size that is lost on the way, leave a request without a reply.
        is_silence = verdict.action.has(Effect.MAY_HAVE_ARRIVED) and not self._sender.policy.hold_uncertain
        if is_silence and self._exchange.is_time_up and self._guesses.is_up:
            # The destination may only be slow: the event got on, and does so again.
            return False
        may_be_their_fault = verdict.action in (Action.RETRY, Action.HOLD_OFF) or is_silence
        return may_be_their_fault and verdict is not OUT_OF_TIME

    def _divide(self, batch: Batch, verdict: Verdict, lane: _Lane) -> bool:
        """Deliver a refused batch in parts, down to the bad points."""
        self._has_divided = True
        if lane.is_mostly_bad and verdict.action is Action.SPLIT:
            took = [self._deliver([point], lane) for point in batch]
            return all(took)
        return self._halve(batch, verdict, lane)

    def _halve(self, batch: Batch, verdict: Verdict, lane: _Lane) -> bool:
        """Deliver the halves of a refused batch, the earlier first."""
        middle = len(batch) // 2
        left, right = batch[:middle], batch[middle:]
        took_left = self._deliver(left, lane)
        if took_left and verdict.action is Action.SPLIT and len(right) > 1 and not self._exchange.halted:
            # The bad point must be in this half, so it would be refused as a whole: divide it at once.
            self._halve(right, verdict, lane)
            return False
        took_right = self._deliver(right, lane)
        if took_left and took_right:
            self._learn(left, right, verdict)
        return took_left and took_right

    def _learn(self, left: Batch, right: Batch, verdict: Verdict) -> None:
        """Both halves were taken, so it was the size: remember what worked."""
        limits, now = self._sender.limits, self._sender.machine.clock.monotonic()
        with self._lock:
            if verdict.action.has(Effect.LEARNS_BYTES):
                limits.learn_bytes(max(size_of(left), size_of(right)), now)
            elif verdict.action.has(Effect.LEARNS_POINTS):
                limits.learn_points(len(right), now)

    def _skip_blocked(self, batch: Batch) -> Batch:
        """Settle points of blocked series as undelivered; return the others."""
        free = []
        for point in batch:
            verdict = self._blocked_series.verdict(point)
            if verdict is None:
                free.append(point)
            else:
                self._record.settle([point], verdict)
        return free

    def _set_suspects_aside(self, batch: Batch, lane: _Lane) -> Batch:
        """Keep suspects for the end; return the others."""
        if lane.set_aside is None:
            return batch
        free: list[Point] = []
        for point in batch:
            (lane.set_aside if self._suspects.is_suspect(point) else free).append(point)
        return free

    def _ask_about_metrics(self, lane: _Lane) -> Sequence[Point]:
        """Find out which metrics are refused as a whole; return the points that must still be sent."""
        suspects, others = self._suspects.by_metric(lane.points)
        for points in suspects:
            for place, point in enumerate(points):
                verdict = self._suspects.presumed(point)
                if verdict is not None:
                    self._record.settle(points[place:], verdict)
                    break
                if self._exchange.halted or self._suspects.is_cleared(point):
                    others += points[place:]
                    break
                self._deliver([point], lane)
        return others

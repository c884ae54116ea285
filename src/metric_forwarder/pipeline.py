"""The line every decoded event goes down: validate → dedupe → batch → send → settle → report."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.core.delivery import RequestCounts, Sender
from metric_forwarder.core.verdicts import Verdict
from metric_forwarder.dedupe import Claim, DedupeStore, Identifier
from metric_forwarder.errors import ConfigError
from metric_forwarder.intake import Intake
from metric_forwarder.jobs import read_job
from metric_forwarder.ledger import Ledger
from metric_forwarder.logs import JsonLog
from metric_forwarder.model import Batch, Message, Outcome, Point, Problem
from metric_forwarder.report import Report, loss_level, make_report
from metric_forwarder.spool import (
    DeadLetter,
    Keeper,
    NoKeeper,
    ReplayingKeeper,
    Spool,
    SpoolError,
    SpoolingKeeper,
    point_payload,
)
from metric_forwarder.triggers import Decoded
from metric_forwarder.validation import Contract


class Rules(NamedTuple):
    """What is asked of a point before it is sent."""

    default_namespace: str
    max_age_s: float
    max_point_bytes: int


class Pipeline:
    """Handles trigger events; kept while the instance is warm.

    Everything it works with is handed in: see ``bootstrap``.
    """

    def __init__(
        self,
        *,
        contract: Contract,
        identifier: Identifier,
        rules: Rules,
        store: DedupeStore,
        sender: Sender,
        spool: Spool | None,
        clock: Clock,
        log: JsonLog,
    ) -> None:
        self._contract = contract
        self._identifier = identifier
        self._rules = rules
        self._store = store
        self._sender = sender
        self._spool = spool
        self._clock = clock
        self._log = log

    def handle(self, decoded: Decoded, *, request_id: str, deadline: Deadline) -> Report:
        """Deliver an event's points before the deadline, and account for every one.

        Raises:
            ConfigError: it asks for a job that the settings do not provide for.
        """
        started = self._clock.monotonic()
        ledger = Ledger()
        counts = RequestCounts()
        for messages, keeper in self._chunks(decoded, self._complaint(ledger)):
            self._forward(messages, keeper, ledger, counts, deadline)
        forgotten = ledger.close()
        if forgotten:
            self._log.write(
                "ERROR", "defect", message=f"{forgotten} points had no outcome; please report this"
            )
        report = make_report(
            trigger=decoded.trigger,
            request_id=request_id,
            ledger=ledger,
            requests=counts,
            dedupe=self._store.status,
            duration_ms=round((self._clock.monotonic() - started) * 1000),
        )
        self._log.write(loss_level(report, is_spooling=self._spool is not None), "report", **report)
        return report

    def _chunks(
        self, decoded: Decoded, complain: Callable[[str], None]
    ) -> Iterator[tuple[Iterable[Message], Keeper]]:
        """The event's messages and who keeps what is left of them; for a replay, the spool chunk by chunk."""
        messages = list(decoded.messages)
        job = read_job(messages[0].body) if decoded.trigger == "timer" and messages else None
        if job is None:
            yield messages, SpoolingKeeper(self._spool, complain) if self._spool else NoKeeper()
            return
        if self._spool is None:
            raise ConfigError(
                ["MF_SPOOL is empty, and a timer asks for a replay: set it, or remove the timer"]
            )
        try:
            for chunk in self._spool.replay(dead_letters=job.dead_letters):
                yield chunk.messages, ReplayingKeeper(chunk, self._spool, complain)
        except SpoolError as error:
            complain(str(error))

    def _forward(
        self,
        messages: Iterable[Message],
        keeper: Keeper,
        ledger: Ledger,
        counts: RequestCounts,
        deadline: Deadline,
    ) -> None:
        """Deliver what can be delivered, keep what cannot, settle all of it."""
        intake = self._take_in(messages, ledger)
        fresh = self._claim(intake.points, ledger)
        settlement = _Settlement(ledger, self._store, keeper)
        if fresh:
            reserve_s = self._spool.reserve_s(len(fresh)) if self._spool else 0.0
            sending = deadline.earlier(min(reserve_s, deadline.remaining() / 2))
            counts.add(self._sender.deliver(fresh, sending, settlement, settlement.is_open))
        settlement.close(intake.dead_letters)

    def _take_in(self, messages: Iterable[Message], ledger: Ledger) -> Intake:
        destination = self._sender.destination
        oldest_ms = None
        if self._rules.max_age_s and not destination.carries_timestamps:
            oldest_ms = round((self._clock.time() - self._rules.max_age_s) * 1000)
        intake = Intake(
            self._contract,
            self._identifier,
            ledger,
            measure=destination.measure,
            max_bytes=self._rules.max_point_bytes,
            default_namespace=self._rules.default_namespace,
            oldest_ms=oldest_ms,
        )
        for message in messages:
            intake.take(message)
        return intake

    def _claim(self, points: Sequence[Point], ledger: Ledger) -> list[Point]:
        """Leave out what was delivered before, and all but the last of what is repeated within the event."""
        last = {point.identity: point for point in points if point.identity is not None}
        answers = self._store.claim(list(last))
        if len(last) == len(points) == answers.count(Claim.OURS):
            return list(points)
        claims = dict(zip(last, answers, strict=True))
        fresh = []
        for point in points:
            identity = point.identity
            if identity is None or (last[identity] is point and claims[identity] is Claim.OURS):
                fresh.append(point)
            else:
                ledger.settle(point.number, Outcome.DUPLICATE)
        return fresh

    def _complaint(self, ledger: Ledger) -> Callable[[str], None]:
        """What to do when the spool fails: say it in the log and in the report."""

        def complain(message: str) -> None:
            self._log.write("ERROR", "spool", message=message)
            ledger.note(Problem(Outcome.UNDELIVERED, "spool", "", "spool", None, message))

        return complain


class _Settlement:
    """Writes what became of points: into the ledger, and what was delivered into the store.

    What is undelivered waits until the end: the keeper decides whether it is safe.
    """

    def __init__(self, ledger: Ledger, store: DedupeStore, keeper: Keeper) -> None:
        self._ledger = ledger
        self._store = store
        self._keeper = keeper
        self._undelivered: list[tuple[Point, Verdict]] = []
        self._settled: set[int] = set()
        self._failed: list[bytes] = []
        self._refused: list[DeadLetter] = []

    def is_open(self, point: Point) -> bool:
        return point.number not in self._settled

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        self._settled.update(point.number for point in points)
        identities = [point.identity for point in points if point.identity is not None]
        if outcome is Outcome.DELIVERED:
            self._ledger.settle_all(points, outcome)
            self._store.confirm(identities)
            self._keeper.delivered(points)
            return
        self._failed += identities
        if outcome is Outcome.UNDELIVERED:
            self._undelivered += [(point, verdict) for point in points]
            return
        self._ledger.settle_all(points, outcome, lambda point: _problem(point, outcome, verdict))
        if outcome is Outcome.REJECTED:
            self._refused += [_dead_letter(point, verdict) for point in points]

    def close(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep what is left, and say what became of it."""
        self._store.release(self._failed)
        left = [point for point, _ in self._undelivered]
        outcome = self._keeper.keep(left, [*dead_letters, *self._refused])
        for point, verdict in self._undelivered:
            self._ledger.settle_all([point], outcome, lambda point: _problem(point, outcome, verdict))  # noqa: B023 - called at once


def _problem(point: Point, outcome: Outcome, verdict: Verdict) -> Problem:
    return Problem(outcome, point.message.source, point.pointer, verdict.label, verdict.code, verdict.reason)


def _dead_letter(point: Point, verdict: Verdict) -> DeadLetter:
    problem = _problem(point, Outcome.REJECTED, verdict)
    return DeadLetter(point.message, point_payload(point), point.pointer, problem)

"""The line every trigger event goes down: decode → validate → dedupe → batch → send → settle → report."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.core.delivery import RequestCounts, Sender
from metric_forwarder.core.verdicts import Verdict
from metric_forwarder.dedupe import Claim, DedupeStore, Identifier
from metric_forwarder.intake import Intake
from metric_forwarder.ledger import Ledger
from metric_forwarder.logs import JsonLog
from metric_forwarder.model import Batch, Outcome, Point, Problem
from metric_forwarder.report import Report, loss_level, make_report
from metric_forwarder.triggers import decode
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
        clock: Clock,
        log: JsonLog,
    ) -> None:
        self._contract = contract
        self._identifier = identifier
        self._rules = rules
        self._store = store
        self._sender = sender
        self._clock = clock
        self._log = log

    def handle(self, event: Any, *, request_id: str, deadline: Deadline) -> Report:
        """Deliver a trigger event's points before the deadline, and account for every one.

        Raises:
            UnknownTrigger: the event is of no known kind.
        """
        started = self._clock.monotonic()
        decoded = decode(event)
        ledger = Ledger()
        points = self._take_in(decoded.messages, ledger)
        fresh = self._claim(points, ledger)
        settlement = _Settlement(ledger, self._store)
        counts = (
            self._sender.deliver(fresh, deadline, settlement, ledger.is_open) if fresh else RequestCounts()
        )
        self._store.release(settlement.failed)
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
        self._log.write(loss_level(report), "report", **report)
        return report

    def _take_in(self, messages: Any, ledger: Ledger) -> list[Point]:
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
        return intake.points

    def _claim(self, points: Sequence[Point], ledger: Ledger) -> list[Point]:
        """Leave out what was delivered before, and all but the last of what is repeated within the event."""
        last = {point.identity: point for point in points if point.identity is not None}
        claims = dict(zip(last, self._store.claim(list(last)), strict=True))
        fresh = []
        for point in points:
            identity = point.identity
            if identity is None or (last[identity] is point and claims[identity] is Claim.OURS):
                fresh.append(point)
            else:
                ledger.settle(point.number, Outcome.DUPLICATE)
        return fresh


class _Settlement:
    """Writes what became of points: into the ledger, and what was delivered into the store."""

    def __init__(self, ledger: Ledger, store: DedupeStore) -> None:
        self._ledger = ledger
        self._store = store
        self.failed: list[bytes] = []

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        identities = [point.identity for point in points if point.identity is not None]
        if outcome is Outcome.DELIVERED:
            self._ledger.settle_all(points, outcome)
            self._store.confirm(identities)
            return
        self.failed += identities
        self._ledger.settle_all(points, outcome, lambda point: _problem(point, outcome, verdict))


def _problem(point: Point, outcome: Outcome, verdict: Verdict) -> Problem:
    return Problem(outcome, point.message.source, point.pointer, verdict.label, verdict.code, verdict.reason)

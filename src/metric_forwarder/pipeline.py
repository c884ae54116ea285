"""The line every trigger event goes down: decode → validate → dedupe → batch → send → settle → report."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.core.delivery import RequestCounts, Sender
from metric_forwarder.core.verdicts import Verdict
from metric_forwarder.dedupe import Claim, Claims, DedupeStore, Identifier
from metric_forwarder.intake import Intake
from metric_forwarder.ledger import Ledger
from metric_forwarder.logs import JsonLog
from metric_forwarder.model import Batch, Outcome, Point, Problem
from metric_forwarder.report import Report, loss_level, make_report
from metric_forwarder.triggers import decode
from metric_forwarder.validation import Contract

# Waiting for what another instance is sending: a batch takes some 10 ms, a killed instance's lease much longer.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# Kept back, so that what is released at last can still be sent.
_LAST_SEND_S = 0.25


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
        claims = self._store.begin(deadline)
        try:
            counts = self._deliver(points, claims, deadline, ledger)
        finally:
            claims.close()
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
            dedupe=claims.status,
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

    def _deliver(
        self, points: Sequence[Point], claims: Claims, deadline: Deadline, ledger: Ledger
    ) -> RequestCounts:
        """Send what is free, and only then wait for what other instances hold.

        By then nothing of this event is held any more: each point was confirmed or released. So two instances that
        wait for one another both go on, and as each sends a point once for an event, they cannot pass it to and fro.
        """
        counts = RequestCounts()
        settlement = _Settlement(ledger, claims)
        held = _settle_repeated(points, ledger)
        pause = _FIRST_PAUSE_S
        while held:
            free, still_held = _sort(held, claims, ledger)
            if free:
                counts.add(self._sender.deliver(free, deadline, settlement, ledger.is_open))
                claims.release(settlement.take_failed())
            if still_held and deadline.remaining() <= pause + _LAST_SEND_S:
                ledger.settle_all(still_held, Outcome.UNDELIVERED, _held)
                break
            if still_held:
                pause = _FIRST_PAUSE_S if len(still_held) < len(held) else min(2 * pause, _LONGEST_PAUSE_S)
                self._clock.sleep(pause)
            held = still_held
        return counts


def _settle_repeated(points: Sequence[Point], ledger: Ledger) -> list[Point]:
    """Leave out all but the last of what is repeated within the event."""
    last = {point.identity: point for point in points}
    rest = [point for point in points if point.identity is None or last[point.identity] is point]
    if len(rest) < len(points):
        kept = {point.number for point in rest}
        ledger.settle_all([point for point in points if point.number not in kept], Outcome.DUPLICATE)
    return rest


def _sort(points: Sequence[Point], claims: Claims, ledger: Ledger) -> tuple[list[Point], list[Point]]:
    """Claim points: return those to send and those that another instance holds; the rest is settled."""
    identities = [point.identity for point in points if point.identity is not None]
    answers = dict(zip(identities, claims.claim(identities), strict=True))
    sorted_points: dict[Claim, list[Point]] = {claim: [] for claim in Claim}
    for point in points:
        claim = Claim.OURS if point.identity is None else answers[point.identity]
        sorted_points[claim].append(point)
    ledger.settle_all(sorted_points[Claim.DELIVERED], Outcome.DUPLICATE)
    return sorted_points[Claim.OURS], sorted_points[Claim.HELD]


class _Settlement:
    """Writes what became of points: into the ledger, and what was delivered into the store."""

    def __init__(self, ledger: Ledger, claims: Claims) -> None:
        self._ledger = ledger
        self._claims = claims
        self._failed: list[bytes] = []

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        identities = [point.identity for point in points if point.identity is not None]
        if outcome is Outcome.DELIVERED:
            self._ledger.settle_all(points, outcome)
            self._claims.confirm(identities)
            return
        self._failed += identities
        self._ledger.settle_all(points, outcome, lambda point: _problem(point, outcome, verdict))

    def take_failed(self) -> list[bytes]:
        """The identities of what was not delivered since this was last asked."""
        failed, self._failed = self._failed, []
        return failed


def _held(point: Point) -> Problem:
    text = (
        "another instance was sending it and had not delivered it when the time was up: it comes again with the event; "
        "if it lasts, raise the function's timeout"
    )
    return Problem(Outcome.UNDELIVERED, point.message.source, point.pointer, "held", None, text)


def _problem(point: Point, outcome: Outcome, verdict: Verdict) -> Problem:
    return Problem(outcome, point.message.source, point.pointer, verdict.label, verdict.code, verdict.reason)

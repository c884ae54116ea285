"""Write what became of points into the ledger, the dedupe store and the spool."""

from collections.abc import Mapping, Sequence

from metric_forwarder.dedupe.store import Claim, Claims
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.model import Batch, Outcome, Point, Problem
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.reporting.report import ARRIVED
from metric_forwarder.spool.keepers import (
    DeadLetter,
    Keeper,
    point_payload,
)

_NOT_AGAIN = Verdict(
    Action.RESEND,
    "sent before",
    "it was sent before and not answered, and is not sent again (MF_UNCERTAIN=hold): look at the destination whether "
    "it arrived",
)


class Settlement:
    """Writes what became of points: into the ledger, and what was delivered, or may have been, into the store.

    What is undelivered waits until the end: the keeper decides whether it is safe.
    """

    def __init__(self, ledger: Ledger, claims: Claims, keeper: Keeper) -> None:
        self._ledger = ledger
        self._claims = claims
        self._keeper = keeper
        self._undelivered: list[tuple[Point, Verdict]] = []
        self._failed: list[bytes] = []
        self._refused: list[DeadLetter] = []
        self._repeated: list[tuple[Point, Point]] = []

    def set_repeated_aside(self, points: Sequence[Point]) -> list[Point]:
        """Leave out all but the last of what is repeated within the event: what becomes of that becomes of them."""
        last = {point.identity: point for point in points}
        if len(last) == len(points):
            return list(points)
        rest = []
        for point in points:
            if point.identity is None or last[point.identity] is point:
                rest.append(point)
            else:
                self._repeated.append((point, last[point.identity]))
        return rest

    def claim(self, points: Sequence[Point]) -> tuple[Sequence[Point], list[Point]]:
        """Claim points: return those to send and those that another instance holds; the rest is settled."""
        identities = [point.identity for point in points if point.identity is not None]
        claimed = self._claims.claim(identities)
        if len(points) == len(claimed) == claimed.count(Claim.OURS):
            return points, []
        answers = dict(zip(identities, claimed, strict=True))
        by_claim: dict[Claim, list[Point]] = {claim: [] for claim in Claim}
        for point in points:
            claim = Claim.OURS if point.identity is None else answers[point.identity]
            by_claim[claim].append(point)
        self._ledger.settle_all(by_claim[Claim.DELIVERED], Outcome.DUPLICATE)
        self._settle_for_good(by_claim[Claim.UNCERTAIN], Outcome.UNCERTAIN, _NOT_AGAIN)
        return by_claim[Claim.OURS], by_claim[Claim.HELD]

    def settle_stale(self, points: Sequence[Point], stale: Mapping[int, Problem]) -> Sequence[Point]:
        """Leave out what is too old; only after claiming, since it may have been delivered while it was young."""
        late = [point for point in points if point.number in stale] if stale else ()
        if not late:
            return points
        self._ledger.settle_all(late, Outcome.STALE, lambda point: stale[point.number])
        self._failed += [point.identity for point in late if point.identity is not None]
        self._refused += [_dead_letter(point, stale[point.number]) for point in late]
        return [point for point in points if point.number not in stale]

    def take_failed(self) -> list[bytes]:
        """The identities of what was not delivered since this was last asked."""
        failed, self._failed = self._failed, []
        return failed

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        identities = [point.identity for point in points if point.identity is not None]
        if outcome is Outcome.DELIVERED:
            self._ledger.settle_all(points, outcome)
            self._claims.confirm(identities)
            self._keeper.delivered(points)
            return
        if outcome is Outcome.UNCERTAIN:
            self._claims.doubt(identities)
        else:
            self._failed += identities
        if outcome is Outcome.UNDELIVERED:
            self._undelivered += [(point, verdict) for point in points]
            return
        self._settle_for_good(points, outcome, verdict)
        if outcome is Outcome.REJECTED:
            self._refused += [_dead_letter(point, _problem(point, outcome, verdict)) for point in points]

    def _settle_for_good(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        self._ledger.settle_all(points, outcome, lambda point: _problem(point, outcome, verdict))

    def close(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep what is left, and say what became of it."""
        left = [point for point, _ in self._undelivered]
        outcome = self._keeper.keep(left, [*dead_letters, *self._refused])
        for point, verdict in self._undelivered:
            self._ledger.settle_all([point], outcome, lambda point: _problem(point, outcome, verdict))  # noqa: B023 - called at once
        for point, last in self._repeated:
            self._settle_like(point, last)

    def _settle_like(self, point: Point, last: Point) -> None:
        outcome = self._ledger.outcome(last.number) or Outcome.UNDELIVERED
        if outcome in ARRIVED:
            self._ledger.settle(point.number, Outcome.DUPLICATE)
            return
        reason = (
            f"comes again in this event as {last.message.source}{last.pointer}, which counts in its place"
        )
        problem = Problem(outcome, point.message.source, point.pointer, "repeated", None, reason)
        self._ledger.settle(point.number, outcome, [problem])


def _problem(point: Point, outcome: Outcome, verdict: Verdict) -> Problem:
    return Problem(outcome, point.message.source, point.pointer, verdict.label, verdict.code, verdict.reason)


def _dead_letter(point: Point, problem: Problem) -> DeadLetter:
    message = point.message._replace(time_ms=point.time_ms)
    return DeadLetter(message, point_payload(point), point.pointer, problem)

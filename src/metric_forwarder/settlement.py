"""Write what became of points into the ledger, the dedupe store and the spool."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from metric_forwarder.dedupe.store import Claim, Claims
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.model import Batch, DeadLetter, Message, Outcome, Point, Problem
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.reporting.report import ARRIVED

_NOT_AGAIN = Verdict(
    Action.RESEND,
    "sent before",
    "it was sent before and not answered, and is not sent again (MF_UNCERTAIN=hold): look at the destination whether "
    "it arrived",
)


class UndeliveredPolicy(Protocol):
    """Decides what becomes of the points of some messages that are not delivered."""

    @property
    def has_room(self) -> bool:
        """Whether another dead letter may be kept."""

    def add(self, letter: DeadLetter) -> None:
        """Keep a dead letter at the end, or count it as not kept."""

    def skip(self, message: Message) -> None:
        """Count a dead letter of this message as not kept: there is no room for it."""

    def reserve_s(self, points: int) -> float:
        """How long it takes to keep so many undelivered points and the dead letters, seconds."""

    def delivered(self, points: Batch) -> None:
        """Take note that these arrived just now."""

    def keep(self, undelivered: Sequence[Point]) -> Outcome:
        """Keep what is left, when everything else has been tried: the outcome of the undelivered points.

        It is ``spooled`` if they are safe, otherwise ``undelivered``.
        """


class PlatformRedelivers:
    """Keeps nothing: the platform must redeliver what is undelivered."""

    has_room = False

    def add(self, letter: DeadLetter) -> None:
        """Keep none."""

    def skip(self, message: Message) -> None:
        """Keep none."""

    def reserve_s(self, points: int) -> float:  # noqa: ARG002 - the port's
        return 0.0

    def delivered(self, points: Batch) -> None:
        """Nothing was kept."""

    def keep(self, undelivered: Sequence[Point]) -> Outcome:  # noqa: ARG002 - the port's
        return Outcome.UNDELIVERED


class Settlement:
    """Writes what became of points: into the ledger, and what was delivered, or may have been, into the store.

    What is undelivered waits until the end: the policy decides whether it is safe.
    """

    def __init__(self, ledger: Ledger, claims: Claims, policy: UndeliveredPolicy) -> None:
        self._ledger = ledger
        self._claims = claims
        self._policy = policy
        self._undelivered: list[tuple[Point, Verdict]] = []
        self._failed: list[bytes] = []
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
        for point in late:
            self._policy.add(_dead_letter(point, stale[point.number]))
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
            self._policy.delivered(points)
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
            for point in points:
                self._policy.add(_dead_letter(point, _problem(point, outcome, verdict)))

    def _settle_for_good(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        self._ledger.settle_all(points, outcome, lambda point: _problem(point, outcome, verdict))

    def close(self) -> None:
        """Keep what is left, and say what became of it."""
        left = [point for point, _ in self._undelivered]
        outcome = self._policy.keep(left)
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
    return DeadLetter(point.message, point, point.pointer, problem)

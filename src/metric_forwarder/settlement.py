"""Writes the outcomes of points into the ledger, the dedupe store and the spool."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from metric_forwarder.dedupe.store import Claim, Claims, KnownRejection
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.intake.exclusions import DeadLetters
from metric_forwarder.model import Batch, DeadLetter, Message, Outcome, Point, Problem
from metric_forwarder.reporting.ledger import Ledger

_NOT_AGAIN = Verdict(
    Action.RESEND,
    "sent before",
    "it was sent before without a reply under MF_UNCERTAIN=hold, and is not sent again: check at the destination whether it "
    "arrived",
)


class UndeliveredPolicy(DeadLetters, Protocol):
    """Decides the outcome of undelivered points."""

    @property
    def takes_parts(self) -> bool:
        """Whether the messages may be delivered in parts, with one call of ``keep`` for each part."""

    def reserve_s(self, points: int) -> float:
        """Seconds needed to keep this many undelivered points, and the dead letters."""

    def delivered(self, points: Batch) -> None:
        """Note that these were delivered just now."""

    def keep(self, undelivered: Sequence[Point]) -> Outcome:
        """Keep the undelivered points at the end, and return their outcome.

        It is ``spooled`` if they are safe, otherwise ``undelivered``.
        """


class PlatformRedelivers:
    """Keeps nothing: the platform must redeliver undelivered points."""

    takes_parts = True
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
    """Settles the points of one chunk of messages: each gets its outcome once, and the store remembers what it must.

    Undelivered points wait until the end, when the policy says whether they are safe.

    Attributes:
        forsaken: how many points of the spool may have arrived; no record of them is kept.
    """

    def __init__(self, ledger: Ledger, claims: Claims, policy: UndeliveredPolicy) -> None:
        self._ledger = ledger
        self._claims = claims
        self._policy = policy
        self._undelivered: list[tuple[Point, Verdict]] = []
        self._unsent: list[bytes] = []
        self._rejected: dict[KnownRejection, list[bytes]] = {}
        self._got_further = False
        self.forsaken = 0

    def settle_repeated(self, points: Sequence[Point]) -> Sequence[Point]:
        """Settle points that come again later in the event as duplicates; return the last one of each identity.

        Points of one identity are equal, so the earlier ones add nothing, even if the last is not delivered.
        """
        if len({point.identity for point in points}) == len(points):
            return points
        last = {point.identity: point for point in points}
        kept: list[Point] = []
        repeated: list[Point] = []
        for point in points:
            is_last = point.identity is None or last[point.identity] is point
            (kept if is_last else repeated).append(point)
        self._ledger.settle_all(repeated, Outcome.DUPLICATE)
        return kept

    def claim(self, points: Sequence[Point]) -> tuple[Sequence[Point], list[Point]]:
        """Claim points: return those to send and those that another instance holds; the rest is settled."""
        identities = _identities(points)
        claimed = self._claims.claim(identities)
        if len(points) == len(claimed) == claimed.count(Claim.OURS):
            return points, []
        claim_of = dict(zip(identities, claimed, strict=True))
        by_claim: dict[Claim, list[Point]] = {claim: [] for claim in Claim}
        for point in points:
            claim = Claim.OURS if point.identity is None else claim_of[point.identity]
            if claim is Claim.REJECTED and point.message.receipt is not None:
                # A person has asked for the replay, and may have corrected the cause.
                claim = Claim.OURS
            by_claim[claim].append(point)
        self._ledger.settle_all(by_claim[Claim.DELIVERED], Outcome.DUPLICATE)
        self._leave_uncertain(by_claim[Claim.UNCERTAIN], _NOT_AGAIN)
        for point in by_claim[Claim.REJECTED]:
            rejection = self._claims.rejection(point.identity or b"")
            self._rejected.setdefault(rejection, []).extend(_identities([point]))
            self._reject([point], _rejected_before(rejection))
        return by_claim[Claim.OURS], by_claim[Claim.HELD]

    def settle_stale(self, points: Sequence[Point], stale: Mapping[int, Problem]) -> Sequence[Point]:
        """Settle points that are too old, and return the others.

        Called only after claiming, because a point may have been delivered while it was young.
        """
        late = [point for point in points if point.number in stale] if stale else ()
        if not late:
            return points
        self._ledger.settle_all(late, Outcome.STALE, lambda point: stale[point.number])
        self._unsent += _identities(late)
        for point in late:
            self._policy.add(_dead_letter(point, stale[point.number]))
        return [point for point in points if point.number not in stale]

    def take_unsent(self) -> list[bytes]:
        """Return the identities of points that were claimed and not delivered since the last call."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def __call__(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        """Settle points by the sender's verdict, sent or not."""
        identities = _identities(points)
        match outcome:
            case Outcome.DELIVERED:
                self._got_further = True
                self._ledger.settle_all(points, outcome)
                self._claims.confirm(identities)
                self._policy.delivered(points)
            case Outcome.UNCERTAIN:
                self._claims.mark_uncertain(identities)
                self._leave_uncertain(points, verdict)
            case Outcome.REJECTED:
                rejection = KnownRejection(verdict.label, verdict.code, verdict.reason)
                self._got_further = True
                self._claims.mark_rejected(identities, rejection)
                self._rejected.setdefault(rejection, []).extend(identities)
                self._reject(points, verdict)
            case _:
                self._unsent += identities
                self._undelivered += [(point, verdict) for point in points]

    def close(self) -> None:
        """Keep the undelivered points, and settle them.

        If the event made progress and is still redelivered, its rejections are remembered for another window. Otherwise an
        event whose bad points take longer than a window would ask about the first of them again and again.
        """
        outcome = self._policy.keep([point for point, _ in self._undelivered])
        if self._undelivered and outcome is Outcome.UNDELIVERED and self._got_further:
            for rejection, identities in self._rejected.items():
                self._claims.mark_rejected(identities, rejection)
        for point, verdict in self._undelivered:
            self._write([point], outcome, verdict)

    def _leave_uncertain(self, points: Batch, verdict: Verdict) -> None:
        self._write(points, Outcome.UNCERTAIN, verdict)
        self.forsaken += sum(point.message.receipt is not None for point in points)

    def _reject(self, points: Batch, verdict: Verdict) -> None:
        self._write(points, Outcome.REJECTED, verdict)
        for point in points:
            self._policy.add(_dead_letter(point, _problem(point, Outcome.REJECTED, verdict)))

    def _write(self, points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        self._ledger.settle_all(points, outcome, lambda point: _problem(point, outcome, verdict))


def _rejected_before(rejection: KnownRejection) -> Verdict:
    reason = "the destination rejected it when it came before; it is sent again once MF_DEDUPE_WINDOW_S has passed since"
    if rejection.reason:
        reason = f"{rejection.reason}; {reason}"
    return Verdict(Action.SPLIT, rejection.label, reason, rejection.code)


def _identities(points: Batch) -> list[bytes]:
    return [identity for point in points if (identity := point.identity) is not None]


def _problem(point: Point, outcome: Outcome, verdict: Verdict) -> Problem:
    return Problem(outcome, point.message.source, point.pointer, verdict.label, verdict.code, verdict.reason)


def _dead_letter(point: Point, problem: Problem) -> DeadLetter:
    return DeadLetter(point.message, point, point.pointer, problem)

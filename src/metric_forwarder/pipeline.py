"""The line every decoded event goes down: validate → dedupe → batch → send → settle → report."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.core.delivery import Behind, RequestCounts, Sender
from metric_forwarder.core.verdicts import Action, Verdict
from metric_forwarder.dedupe import Claim, Claims, DedupeStore, Identifier
from metric_forwarder.errors import ConfigError
from metric_forwarder.intake import MAX_DEAD_LETTERS, Intake, SeriesBook, Terms
from metric_forwarder.jobs import BadJob, Replay, Scrape, read_job
from metric_forwarder.ledger import Ledger
from metric_forwarder.logs import JsonLog
from metric_forwarder.model import Batch, Message, Outcome, Point, Problem, Series
from metric_forwarder.report import ARRIVED, Report, loss_level, make_report
from metric_forwarder.scrape import Scraper
from metric_forwarder.spool import (
    DeadLetter,
    Keeper,
    KeepUndelivered,
    NoKeeper,
    ReplayingKeeper,
    Spool,
    SpoolError,
    SpoolingKeeper,
    SpoolVisit,
    point_payload,
)
from metric_forwarder.triggers import Decoded
from metric_forwarder.validation import Contract

# Waiting for what another instance is sending: a batch takes some 10 ms, a killed instance's lease much longer.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# Kept back, so that what is released at last can still be sent.
_LAST_SEND_S = 0.25


# Of the time an invocation has, what scraping may take: the rest is for delivering what was scraped.
_FETCHING_SHARE = 0.5


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
        scraper: Scraper,
        clock: Clock,
        log: JsonLog,
    ) -> None:
        self._contract = contract
        self._identifier = identifier
        self._rules = rules
        self._store = store
        self._sender = sender
        self._spool = spool
        self._scraper = scraper
        self._clock = clock
        self._log = log
        self._book = SeriesBook(sender.destination.admit)

    def handle(self, decoded: Decoded, *, request_id: str, deadline: Deadline) -> Report:
        """Deliver an event's points before the deadline, and account for every one.

        Raises:
            ConfigError: it asks for a job that the settings do not provide for.
        """
        started = self._clock.monotonic()
        self._book.make_room()
        ledger = Ledger()
        counts = RequestCounts()
        # Of one event, however many chunks of the spool it replays.
        behind: Behind = {}
        claims = self._store.begin(deadline)
        spool = self._spool.begin(deadline) if self._spool else None
        complain = self._complaint(ledger)
        try:
            for messages, keeper in self._chunks(decoded, deadline, spool, complain):
                intake = self._take_in(messages, ledger)
                if spool and intake.unkept:
                    complain(
                        f"{intake.unkept} invalid points are kept nowhere: of an event, {MAX_DEAD_LETTERS} are"
                    )
                settlement = _Settlement(ledger, claims, keeper)
                counts.add(self._deliver(intake, claims, deadline, settlement, behind))
                settlement.close(intake.dead_letters)
        finally:
            claims.close()
            for failure in spool.close() if spool else ():
                complain(failure)
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
        self._log.write(loss_level(report, is_spooling=self._spool is not None), "report", **report)
        return report

    def _chunks(
        self,
        decoded: Decoded,
        deadline: Deadline,
        spool: SpoolVisit | None,
        complain: Callable[[str], None],
    ) -> Iterator[tuple[Iterable[Message], Keeper]]:
        """The event's messages and who keeps what is left of them; for a replay, the spool chunk by chunk."""
        keeper = SpoolingKeeper(spool, complain, self._now_ms()) if spool else NoKeeper()
        if decoded.trigger != "timer":
            yield decoded.messages, keeper
            return
        for firing in decoded.messages:
            match read_job(firing.body):
                case None:
                    yield [firing], keeper
                case BadJob(reason):
                    yield [firing._replace(broken=reason)], keeper
                case Scrape() as job:
                    fetching = deadline.earlier(deadline.remaining() * (1 - _FETCHING_SHARE))
                    yield self._scraper.messages(job, firing, fetching), KeepUndelivered(keeper)
                case Replay() as job:
                    yield from self._replayed(job, spool, complain)

    def _replayed(
        self, job: Replay, spool: SpoolVisit | None, complain: Callable[[str], None]
    ) -> Iterator[tuple[Iterable[Message], Keeper]]:
        if spool is None:
            raise ConfigError(
                ["MF_SPOOL is empty, and a timer asks for a replay: set it, or remove the timer"]
            )
        try:
            for chunk in spool.replay(dead_letters=job.dead_letters):
                yield chunk.messages, ReplayingKeeper(chunk, spool, complain, self._now_ms())
        except SpoolError as error:
            complain(str(error))

    def _take_in(self, messages: Iterable[Message], ledger: Ledger) -> Intake:
        destination = self._sender.destination
        oldest_ms = None
        now_ms = self._now_ms()
        if self._rules.max_age_s and not destination.carries_timestamps:
            oldest_ms = now_ms - round(self._rules.max_age_s * 1000)
        intake = Intake(
            self._contract,
            self._identifier,
            ledger,
            destination=destination,
            book=self._book,
            terms=Terms(now_ms, self._rules.max_point_bytes, self._rules.default_namespace, oldest_ms),
            keeps_dead_letters=self._spool is not None,
        )
        for message in messages:
            intake.take(message)
        return intake

    def _deliver(
        self,
        intake: Intake,
        claims: Claims,
        deadline: Deadline,
        settlement: "_Settlement",
        behind: Behind,
    ) -> RequestCounts:
        """Send what is free, and only then wait for what other instances hold.

        By then nothing of this event is held any more: each point was confirmed or released. So two instances that
        wait for one another both go on, and as each sends a point once for an event, they cannot pass it to and fro.
        """
        counts = RequestCounts()
        held = settlement.set_repeated_aside(intake.points)
        # One write keeps both, or neither.
        kept = len(held) + len(intake.dead_letters)
        reserve_s = self._spool.reserve_s(kept) if self._spool else 0.0
        sending = deadline.earlier(min(reserve_s, deadline.remaining() / 2))
        pause = _FIRST_PAUSE_S
        while held:
            free, still_held = settlement.claim(held)
            free = settlement.settle_stale(free, intake.stale)
            if still_held and self._sender.destination.ordered:
                free, waiting = _in_order(free, still_held)
                claims.release([point.identity for point in waiting if point.identity is not None])
                still_held += waiting
            if free:
                counts.add(self._sender.deliver(free, sending, settlement, behind))
            claims.release(settlement.take_failed())
            if still_held and sending.remaining() <= pause + _LAST_SEND_S:
                settlement(still_held, Outcome.UNDELIVERED, _HELD)
                behind.update({point.series.key: _HELD for point in still_held})
                break
            if still_held:
                pause = _FIRST_PAUSE_S if len(still_held) < len(held) else min(2 * pause, _LONGEST_PAUSE_S)
                self._clock.sleep(pause)
            held = still_held
        return counts

    def _complaint(self, ledger: Ledger) -> Callable[[str], None]:
        """What to do when the spool fails: say it in the log and in the report, once."""
        told: set[str] = set()

        def complain(message: str) -> None:
            if message in told:
                return
            told.add(message)
            self._log.write("ERROR", "spool", message=message)
            ledger.note(Problem(Outcome.UNDELIVERED, "spool", "", "spool", None, message))

        return complain

    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)


def _in_order(free: Sequence[Point], held: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Of the points that are free: those to send, and those that would pass a held one of their series."""
    oldest: dict[Series, int] = {}
    for point in held:
        oldest[point.series] = min(point.time_ms, oldest.get(point.series, point.time_ms))
    ours: list[Point] = []
    waiting: list[Point] = []
    for point in free:
        is_later = point.time_ms > oldest.get(point.series, point.time_ms)
        (waiting if is_later else ours).append(point)
    return ours, waiting


_HELD = Verdict(
    Action.RETRY,
    "held",
    "another instance was sending it and had not delivered it when the time was up: it comes again with the event; "
    "if it lasts, raise the function's timeout",
)

_NOT_AGAIN = Verdict(
    Action.RESEND,
    "sent before",
    "it was sent before and not answered, and is not sent again (MF_UNCERTAIN=hold): look at the destination whether "
    "it arrived",
)


class _Settlement:
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

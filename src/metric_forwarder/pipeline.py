"""Every decoded event passes these steps: validate → dedupe → batch → send → settle → report."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.dedupe.store import Claims, DedupeStore
from metric_forwarder.delivery.sender import Sender
from metric_forwarder.delivery.settling import BlockedSeries, BothTraces, RequestCounts, RequestTrace
from metric_forwarder.delivery.verdicts import Action, Verdict, blocked_by_earlier
from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.points import IntakeParts
from metric_forwarder.intake.progress import EventProgress, Progress
from metric_forwarder.jobs import BadJob, Replay, Scrape, read_job
from metric_forwarder.model import Message, Outcome, Point, Problem
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.reporting.log import JsonLog
from metric_forwarder.reporting.report import MAX_LINE_BYTES, Report, bounded, loss_level, make_report
from metric_forwarder.reporting.request_log import RequestLog
from metric_forwarder.settlement import PlatformRedelivers, Settlement, UndeliveredPolicy
from metric_forwarder.triggers import Decoded

if TYPE_CHECKING:
    from metric_forwarder.reporting.self_metrics import SelfMetrics
    from metric_forwarder.spool.store import SpoolLevel

# Pauses while another instance sends the same points: a batch takes about 10 ms, the lease of a killed instance much longer.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# Time kept back, so that points which are released late can still be sent.
_LAST_SEND_S = 0.25

# The longest time to find out how full the spool is.
_LONGEST_MEASURE_S = 1.0

# The share of the time left that fetching (objects or scraped targets) may take; the rest is for delivery.
FETCHING_SHARE = 0.5
# The share that reading and validating may take, fetching included; the rest is for delivery.
_INTAKE_SHARE = 0.75


class SpoolVisit(Protocol):
    """One event's use of the spool; nothing here waits past the event's deadline.

    Every failure of the spool is passed to the event's ``complain``.
    """

    def policy(self, *, keeps_dead_letters: bool = True) -> UndeliveredPolicy:
        """Make the policy that spools the undelivered points of the event's messages."""

    def replay(self, *, dead_letters: bool) -> Iterator[tuple[Sequence[Message], UndeliveredPolicy]]:
        """Read the spool, the oldest first, while there is time for more: messages, and the policy for them."""

    def close(self) -> None:
        """End the visit."""


class Spool(Protocol):
    """Where undelivered points and dead letters are kept."""

    def begin(self, deadline: Deadline, now_ms: int, complain: Callable[[str], None]) -> SpoolVisit:
        """Start an event that was received at that time, Unix milliseconds."""

    def measure(self, deadline: Deadline) -> "SpoolLevel | None":
        """Find out how full it is; None if that is not known in time."""


class ScrapeSource(Protocol):
    """Fetches the targets of a timer's scrape job."""

    def messages(self, job: Scrape, firing: Message, deadline: Deadline) -> Iterator[Message]:
        """Yield one message for each sample; raises ``ConfigError`` if the settings do not allow the job."""


class Metrics(Protocol):
    """The forwarder's own metrics: see ``reporting.self_metrics_writer``."""

    @property
    def counters(self) -> "SelfMetrics":
        """The counters so far."""

    @property
    def trace(self) -> RequestTrace:
        """The callback for each request."""

    def settled(self, points: Sequence[Point], ledger: Ledger) -> None:
        """Called with points of an event that have their outcomes."""

    def end(
        self,
        report: Report,
        ledger: Ledger,
        deadline: Deadline,
        measure_spool: "Callable[[], SpoolLevel | None]",
    ) -> None:
        """Count a finished event; raises nothing, and does not wait past the deadline."""


# Called with points of an event that have their outcomes.
OnSettled = Callable[[Sequence[Point], Ledger], None]


class Pipeline:
    """Handles trigger events; kept while the instance is warm.

    Its parts are passed in: see ``bootstrap``.
    """

    def __init__(
        self,
        *,
        intake_parts: IntakeParts,
        store: DedupeStore,
        sender: Sender,
        spool: Spool | None,
        make_scraper: Callable[[], ScrapeSource],
        clock: Clock,
        log: JsonLog,
        on_settled: OnSettled | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._on_settled = on_settled
        self.metrics = metrics
        self._progress = Progress(clock)
        self._intake_parts = intake_parts
        self._store = store
        self._sender = sender
        self._spool = spool
        self._make_scraper = make_scraper
        self._clock = clock
        self._log = log

    def handle(self, decoded: Decoded, *, request_id: str, deadline: Deadline) -> Report:
        """Deliver an event's points before the deadline, and account for every one.

        Raises:
            ConfigError: it asks for a job that the settings do not provide for.
        """
        started = self._clock.monotonic()
        ledger = Ledger()
        event = _Event(
            request_id,
            deadline,
            ledger,
            RequestCounts(),
            self._store.begin(deadline),
            BlockedSeries(),
            _ClockCheck(self._sender),
            self._trace(request_id),
        )
        complain = self._complaint(ledger)
        spool = self._spool.begin(deadline, self._now_ms(), complain) if self._spool else None
        progress = self._progress.begin(ledger)
        try:
            for messages, policy in self._chunks(decoded, deadline, spool, progress):
                intake = self._make_intake(event, policy)
                for _ in _take_in(intake, messages, in_parts=policy.takes_parts):
                    self._handle_part(event, intake, policy)
                progress.close(intake.stopped_at, is_whole=not intake.is_late)
        finally:
            event.claims.close()
            if spool:
                spool.close()
        report = self._report(event, decoded, round((self._clock.monotonic() - started) * 1000))
        if self.metrics:
            self.metrics.end(report, ledger, deadline, lambda: self._measure_spool(deadline))
        return report

    def _handle_part(self, event: "_Event", intake: Intake, policy: UndeliveredPolicy) -> None:
        """Deliver and settle the points that were taken in, and tell those who learn from their outcomes."""
        points, ledger = intake.points, event.ledger
        settlement = Settlement(ledger, event.claims, policy)
        self._deliver(event, intake, _keep_back(event.deadline, policy.reserve_s(len(points))), settlement)
        self._warn_of_forsaken(settlement.forsaken, event.request_id)
        settlement.close()
        if self._on_settled:
            self._on_settled(points, ledger)
        if self.metrics:
            self.metrics.settled(points, ledger)
        if self._sender.destination.carries_timestamps:
            self._intake_parts.given_times.remember(_with_fixed_times(points, ledger))

    def _report(self, event: "_Event", decoded: Decoded, duration_ms: int) -> Report:
        """Make the report of an event, and log it."""
        forgotten = event.ledger.close()
        if forgotten:
            self._log.write(
                "ERROR", "defect", message=f"points without an outcome: {forgotten}; please report this"
            )
        report = make_report(
            trigger=decoded.traits.name,
            request_id=event.request_id,
            ledger=event.ledger,
            requests=event.counts,
            dedupe=event.claims.status,
            duration_ms=duration_ms,
        )
        level = loss_level(
            report,
            is_spooling=self._spool is not None,
            is_redelivered=decoded.traits.is_redelivered_until_handled,
        )
        self._log.write(level, "report", **bounded(report, MAX_LINE_BYTES))
        return report

    def _trace(self, request_id: str) -> RequestTrace | None:
        log = RequestLog(self._log, request_id) if self._log.writes("DEBUG") else None
        if log and self.metrics:
            return BothTraces(log, self.metrics.trace)
        return self.metrics.trace if self.metrics else log

    def _measure_spool(self, deadline: Deadline) -> "SpoolLevel | None":
        """Ask how full the spool is, within half of the time that is left and within a second."""
        if self._spool is None:
            return None
        return self._spool.measure(deadline.within(min(_LONGEST_MEASURE_S, deadline.remaining() / 2)))

    def _chunks(
        self,
        decoded: Decoded,
        deadline: Deadline,
        spool: SpoolVisit | None,
        progress: EventProgress,
    ) -> Iterator[tuple[Iterable[Message], UndeliveredPolicy]]:
        """Yield messages, and the policy for their undelivered points; for a replay, yield the spool chunk by chunk."""

        def policy(*, keeps_dead_letters: bool = True) -> UndeliveredPolicy:
            return spool.policy(keeps_dead_letters=keeps_dead_letters) if spool else PlatformRedelivers()

        if not decoded.traits.may_hold_jobs:
            yield progress.rest(decoded.messages), policy()
            return
        for firing in decoded.messages:
            match read_job(firing.body):
                case None:
                    yield [firing], policy()
                case BadJob(reason):
                    yield [firing._replace(broken=reason)], policy()
                case Scrape() as job:
                    fetching = deadline.earlier(deadline.remaining() * (1 - FETCHING_SHARE))
                    # The next scrape would find the same dead letters, which would only fill the spool.
                    messages = self._make_scraper().messages(job, firing, fetching)
                    yield messages, policy(keeps_dead_letters=False)
                case Replay() as job:
                    yield from _replayed(job, spool)

    def _make_intake(self, event: "_Event", policy: UndeliveredPolicy) -> Intake:
        until = _keep_back(event.deadline, event.deadline.remaining() * (1 - _INTAKE_SHARE))
        clock_check = event.clock_check
        return Intake(
            self._intake_parts,
            event.ledger,
            self._now_ms(),
            # The age of a point is judged by the destination's clock, if it is known.
            find_offset_s=lambda may_ask: clock_check.find_s(until) if may_ask else clock_check.known_s(),
            dead_letters=policy,
            deadline=until,
        )

    def _deliver(self, event: "_Event", intake: Intake, sending: Deadline, settlement: Settlement) -> None:
        """Send the free points first, then wait for the points that other instances hold.

        While it waits, this event holds no points: each was confirmed or released. So two instances never block each
        other, and because each sends a point only once in an event, a point cannot go back and forth forever.
        """
        claims, blocked_series = event.claims, event.blocked_series
        held = settlement.settle_repeated(intake.points)
        by_time = self._sender.destination.ordered
        left: list[Point] = []
        pause = _FIRST_PAUSE_S
        while held:
            free, still_held = settlement.claim(held)
            free = settlement.settle_stale(free, intake.stale)
            if intake.unsure:
                left += [point for point in free if point.number in intake.unsure]
                free = _leave_unsure(free, left, event.clock_check.doubt, settlement, by_time=by_time)
            if still_held:
                free, waiting = _split_free(free, still_held, by_time=by_time)
                claims.release([point.identity for point in waiting if point.identity is not None])
                # They come between those that are held, in the order of their numbers.
                still_held = sorted([*still_held, *waiting], key=lambda point: point.number)
            if free:
                event.counts.add(self._sender.deliver(free, sending, settlement, blocked_series, event.trace))
            claims.release(settlement.take_unsent())
            if still_held and sending.remaining() <= pause + _LAST_SEND_S:
                settlement(still_held, Outcome.UNDELIVERED, _HELD)
                blocked_series.block(still_held, _HELD)
                break
            if still_held:
                pause = _FIRST_PAUSE_S if len(still_held) < len(held) else min(2 * pause, _LONGEST_PAUSE_S)
                self._clock.sleep(pause)
            held = still_held
        blocked_series.block(left, event.clock_check.doubt)

    def _warn_of_forsaken(self, points: int, request_id: str) -> None:
        """Say it before their records are removed: if the instance is killed afterwards, there is no report."""
        if points:
            message = (
                f"points of the spool that may have arrived, and are not sent again (MF_UNCERTAIN=hold): {points}; the report "
                "names them. If there is no report, look for them at the destination"
            )
            self._log.write("ERROR", "uncertain", requestId=request_id, message=message)

    def _complaint(self, ledger: Ledger) -> Callable[[str], None]:
        """Return a function that reports a failure of the spool in the log and in the report, each message once."""
        logged: set[str] = set()

        def complain(message: str) -> None:
            if message in logged:
                return
            logged.add(message)
            self._log.write("ERROR", "spool", message=message)
            ledger.note(Problem(Outcome.UNDELIVERED, "spool", "", "spool", None, message))

        return complain

    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)


def _leave_unsure(
    free: Sequence[Point], left: Sequence[Point], doubt: Verdict, settlement: Settlement, *, by_time: bool
) -> Sequence[Point]:
    """Leave points for later whose time may be right, and let no later point pass them; return the others."""
    numbers = {point.number for point in left}
    settlement([point for point in free if point.number in numbers], Outcome.UNDELIVERED, doubt)
    others, behind = _split_free(
        [point for point in free if point.number not in numbers], left, by_time=by_time
    )
    settlement(behind, Outcome.UNDELIVERED, blocked_by_earlier(doubt))
    return others


class _ClockCheck:
    """Asks the destination for its time before a point of an event is called wrong by a clock that no reply has confirmed.

    It asks once in an event: an instance that has just started may have a wrong clock, and would lose good points.

    Attributes:
        doubt: why the points that look wrong are left for later.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._was_asked = False
        self.doubt = Verdict(Action.RETRY, "no answer", _UNSURE)

    def known_s(self) -> float | None:
        """By how many seconds the clock by which times are judged is ahead of ours; None if that is unknown."""
        destination = self._sender.destination
        offset_s = destination.clock_offset_s
        if offset_s is not None and destination.carries_timestamps:
            # The times that we give are those of our own clock, and are not too far ahead.
            return max(offset_s, 0.0)
        return offset_s

    def find_s(self, deadline: Deadline) -> float | None:
        """The same, but ask if it is unknown."""
        if self.known_s() is None and not self._was_asked:
            self._was_asked = True
            verdict = self._sender.learn_clock(deadline)
            if verdict is not None:
                self.doubt = verdict._replace(action=Action.RETRY, reason=f"{_UNSURE}: {verdict.reason}")
        return self.known_s()


_UNSURE = (
    "its time looks wrong, but that may be this instance's clock, which the destination has not confirmed yet"
)


class _Event(NamedTuple):
    """What all parts of an event share."""

    request_id: str
    deadline: Deadline
    ledger: Ledger
    counts: RequestCounts
    claims: Claims
    blocked_series: BlockedSeries
    clock_check: _ClockCheck
    trace: RequestTrace | None


def _take_in(intake: Intake, messages: Iterable[Message], *, in_parts: bool) -> Iterator[None]:
    """Take messages in, and yield whenever there are points to deliver before the next ones are taken in."""
    if in_parts:
        yield from intake.take_parts(messages)
    else:
        intake.take_all(messages)
        yield


def _replayed(job: Replay, spool: SpoolVisit | None) -> Iterator[tuple[Sequence[Message], UndeliveredPolicy]]:
    if spool is None:
        raise ConfigError([NO_SPOOL])
    yield from spool.replay(dead_letters=job.dead_letters)


def _with_fixed_times(points: Iterable[Point], ledger: Ledger) -> Iterator[Point]:
    """Yield the points that keep the time that the forwarder gave them."""
    for point in points:
        if point.timestamp_ns is None and ledger.outcome(point.number) in _FIXED:
            yield point


# An uncertain point may have arrived, and is not sent again. The spool keeps a point together with its time.
_FIXED = (Outcome.DELIVERED, Outcome.UNCERTAIN, Outcome.SPOOLED)


def _keep_back(deadline: Deadline, reserve_s: float) -> Deadline:
    """Return the deadline for sending; the time after it is for keeping what could not be sent."""
    return deadline.earlier(min(reserve_s, deadline.remaining() / 2))


def _split_free(
    free: Sequence[Point], held: Sequence[Point], *, by_time: bool
) -> tuple[list[Point], list[Point]]:
    """Split free points: those to send, and those that must wait for an earlier held point of their series."""
    # Points without a timestamp have the time of their event, so they are ordered by arrival.
    places = {point.number: point.time_ms if by_time else point.number for point in (*free, *held)}
    first_held: dict[bytes, int] = {}
    for point in held:
        place = places[point.number]
        series = point.series.digest
        first_held[series] = min(place, first_held.get(series, place))
    ours: list[Point] = []
    waiting: list[Point] = []
    for point in free:
        place = places[point.number]
        (waiting if place > first_held.get(point.series.digest, place) else ours).append(point)
    return ours, waiting


NO_SPOOL = "MF_SPOOL is empty, but a replay is asked for: set it, or remove the timer that asks"
_HELD = Verdict(
    Action.RETRY,
    "held",
    "another instance was sending it and had not delivered it when the time was up; it can still be delivered; "
    "if it lasts, raise the function's timeout",
)

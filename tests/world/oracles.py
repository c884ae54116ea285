"""The laws of the world: each function names one, and raises ``Violation`` with the facts if it is broken."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from metric_forwarder.model import Outcome
from world.book import Arrival, Attempt, Book, Event, Made, Request
from world.scheduler import Violation

BALANCE = "received is the sum of the outcomes"
DELIVERED = "what is delivered is at the receiver"
ACCOUNTED = "every point ends somewhere, and a loss is said"
TWICE = "a second arrival has a cause"
ORDER = "order within a series"
IN_TIME = "an invocation returns before its limit"
REST = "it comes to rest"
SECRETS = "no secret leaves"
BOUNDED = "requests stay within a bound"
THREADS = "no thread outlives its event by long"
REPEATABLE = "the same seed gives the same trace"
SOUND = "no thread ends with an error"
CAUSED = "what is complained of has happened"
LAWS = (
    BALANCE,
    DELIVERED,
    ACCOUNTED,
    TWICE,
    ORDER,
    IN_TIME,
    REST,
    SECRETS,
    BOUNDED,
    THREADS,
    REPEATABLE,
    SOUND,
    CAUSED,
)

_FINAL = (Outcome.INVALID, Outcome.STALE, Outcome.REJECTED, Outcome.UNCERTAIN)


def check_attempt(attempt: Attempt) -> None:
    """The laws that hold whenever an invocation has ended."""
    check_balance(attempt)
    check_bound(attempt)


def check_settled(book: Book, attempt: Attempt, settled: Iterable[tuple[int, Outcome]]) -> None:
    """What is delivered is at the receiver, at the moment at which it is called delivered."""
    for number, outcome in settled:
        is_there = outcome is not Outcome.DELIVERED or book.arrivals.get(number)
        if not is_there and not _is_believed(book, attempt):
            raise Violation(DELIVERED, point=number, attempt=attempt.number)


def _is_believed(book: Book, attempt: Attempt) -> bool:
    """Whether an instance takes what is no endpoint for one: it took points, and twice did not answer the question."""
    return any(is_unproven(each) for each in book.attempts if each.instance == attempt.instance)


def check_balance(attempt: Attempt) -> None:
    """Received is the sum of the outcomes, and no point of the event is missing."""
    report = attempt.report
    if report is None:
        return
    total = sum(report["outcomes"].values())
    if report["received"] != total:
        raise Violation(BALANCE, attempt=attempt.number, received=report["received"], outcomes=total)
    expected = len(attempt.event.points)
    # A message that was not taken in counts as one.
    is_late = any(each["rule"] == "out of time" for each in report["errors"]) or report["errorsOmitted"]
    is_short = total < expected and bool(is_late)
    if attempt.event.source != "replay" and total != expected and not is_short:
        raise Violation(BALANCE, attempt=attempt.number, received=total, made=expected)
    for line in attempt.log:
        if line.get("event") == "defect":
            raise Violation(BALANCE, attempt=attempt.number, defect=line["message"])


def check_bound(attempt: Attempt) -> None:
    """Requests stay within a bound of points, attempts and faults."""
    tries = int(attempt.settings.get("MF_MAX_ATTEMPTS", "4"))
    # The event of a replay names no point, and one that was cut off has no report.
    taken = (
        {number for request in attempt.requests for number in request.held} if attempt.report is None else ()
    )
    reported = sum((attempt.report or {"outcomes": {}})["outcomes"].values())
    points = max(len(attempt.event.points), reported, len(taken))
    bound = 4 + 2 * points * (tries + 2) + 2 * attempt.faults
    if len(attempt.requests) > bound:
        raise Violation(BOUNDED, attempt=attempt.number, requests=len(attempt.requests), bound=bound)


def check_secrets(text: str, secrets: Sequence[str], where: str) -> None:
    """No secret is in a log line, a report, an exception or a file."""
    for secret in secrets:
        if secret in text:
            raise Violation(SECRETS, where=where)


def check_at_rest(book: Book) -> None:
    """The laws that hold when the faults are healed and the platform has nothing more to do."""
    for event in book.events:
        for made in event.points:
            if made.kind != "invalid":
                _check_accounted(book, event, made)
    for number, arrivals in book.arrivals.items():
        for earlier, later in pairwise(arrivals):
            _check_second(book, number, earlier, later)
    _check_order(book)


def _check_accounted(book: Book, event: Event, made: Made) -> None:
    number = made.number
    if book.arrivals.get(number) or number in book.dead_letters or event.state == "given up":
        return
    attempts = book.attempts_with(number)
    if any(attempt.outcomes.get(number) is Outcome.SPOOLED for attempt in attempts) and book.store_losses:
        # A spool in a Redis that forgets is no better than that Redis.
        return
    delivered = [each for each in attempts if each.outcomes.get(number) is Outcome.DELIVERED]
    if any(_is_believed(book, attempt) for attempt in delivered):
        return
    if any(_gave_up(attempt, number) for attempt in book.attempts):
        return
    said = [attempt for attempt in attempts if is_final(attempt, made)]
    if not said:
        ends = [f"{attempt.end} {attempt.outcomes.get(number)}" for attempt in attempts]
        raise Violation(ACCOUNTED, point=number, source=event.source, state=event.state, attempts=ends)
    if not any(_is_said(book, attempt, number) for attempt in said):
        raise Violation(ACCOUNTED, point=number, said=[sorted(attempt.levels()) for attempt in said])
    is_rejected = all(attempt.outcomes.get(number) is Outcome.REJECTED for attempt in said)
    if is_rejected and not book.refusals.get(number) and not _met_odd_answers(attempts):
        raise Violation(ACCOUNTED, point=number, rejected="and never refused")


def _gave_up(attempt: Attempt, number: int) -> bool:
    """Whether a replay that was killed before its report had said that it gives up points that may have arrived."""
    if not (attempt.was_cut_off and attempt.event.source == "replay" and attempt.has_logged("uncertain")):
        return False
    outcome = attempt.outcomes.get(number)
    # It may have been killed after the record was gone, and before it could say what became of the point.
    return outcome is Outcome.UNCERTAIN or (outcome is None and _may_have_arrived(attempt, number))


def is_final(attempt: Attempt, made: Made) -> bool:
    """Whether an invocation reported an outcome of the point that leaves it to people."""
    if attempt.was_cut_off:
        return False
    outcome = attempt.outcomes.get(made.number)
    # By the clock of this instance its time may be too far ahead; it is no ``Point`` then.
    has_time = made.has_time or attempt.event.is_dated
    is_ahead = outcome is None and has_time and attempt.skew_s and _count(attempt, Outcome.INVALID)
    return bool(is_ahead) or outcome in _FINAL


def _is_said(book: Book, attempt: Attempt, number: int) -> bool:
    """Whether an ERROR line speaks of it; a spool that was in trouble may have kept a dead letter and lost it."""
    is_troubled = bool(attempt.settings.get("MF_SPOOL") and (book.spool_troubles or book.store_losses))
    is_kept = is_troubled and attempt.outcomes.get(number) is not Outcome.UNCERTAIN
    return is_kept or "ERROR" in attempt.levels()


def _count(attempt: Attempt, outcome: Outcome) -> int:
    return 0 if attempt.report is None else int(attempt.report["outcomes"][outcome.value])


def _met_odd_answers(attempts: Sequence[Attempt]) -> bool:
    return any(request.refused for attempt in attempts for request in attempt.requests)


def _check_second(book: Book, number: int, earlier: Arrival, later: Arrival) -> None:
    cause = cause_of_second(book, number, earlier, later)
    if not cause:
        first, second = earlier.request.attempt, later.request.attempt
        raise Violation(
            TWICE,
            point=number,
            first=f"request {earlier.request.number} at {earlier.at:.3f}, attempt {first and first.number}, {first and first.end}",
            second=f"request {later.request.number} at {later.at:.3f}, attempt {second and second.number}",
        )


class _Pair(NamedTuple):
    """Two arrivals of one point, one after the other, and the invocations that sent them."""

    number: int
    earlier: Arrival
    later: Arrival
    first: Attempt
    second: Attempt

    @property
    def requests(self) -> tuple[Request, Request]:
        return self.earlier.request, self.later.request

    @property
    def kept(self) -> str:
        """The store of the second invocation."""
        return self.second.settings.get("MF_DEDUPE", "memory:")

    @property
    def is_shared(self) -> bool:
        """Whether both asked a store that all instances share."""
        is_redis = self.kept.startswith("redis")
        return is_redis and not self.first.degraded and not self.second.degraded


def cause_of_second(book: Book, number: int, earlier: Arrival, later: Arrival) -> str:
    """Why a point arrived once more; empty if nothing that happened explains it."""
    first, second = earlier.request.attempt, later.request.attempt
    if first is None or second is None:
        return "no invocation"
    pair = _Pair(number, earlier, later, first, second)
    return next((cause for cause, holds in _CAUSES.items() if holds(book, pair)), "")


def _is_nothing_known(book: Book, pair: _Pair) -> bool:
    made = book.points[pair.number]
    is_same = pair.second.event is pair.first.event or "replay" in (
        pair.first.event.source,
        pair.second.event.source,
    )
    # A replay is recognised by the place that the message had when it came first.
    has_place = is_same and pair.number not in book.twins
    has_place = has_place and all(
        event.has_coordinates
        for event in book.events
        if any(each.number == pair.number for each in event.points)
    )
    return not (made.has_id or made.has_time or has_place)


def _is_late(pair: _Pair) -> bool:
    """Whether the event ended before the thread that read the answer could settle its points."""
    is_settled = pair.first.outcomes.get(pair.number) is Outcome.DELIVERED
    ended = pair.first.ended
    # Half of the time may be kept for a spool.
    moments_s = _LAST_MOMENTS_S + (pair.first.limit_s / 2 if pair.first.settings.get("MF_SPOOL") else 0.0)
    return not is_settled and ended is not None and ended - pair.earlier.request.answered_at < moments_s


def is_unproven(attempt: Attempt) -> bool:
    """Whether what answers success could not be believed: the question that proves it was not answered."""
    codes = (attempt.report or _NO_REPORT)["requests"]["returnCodes"]
    is_asked = attempt.settings.get("MF_REMOTE_WRITE_CHECK") == "on"
    lost = [
        request for request in attempt.requests if not request.points and request.answer in ("none", "failed")
    ]
    return "not remote write" in codes or (is_asked and bool(lost))


_NO_REPORT: dict[str, Any] = {"requests": {"returnCodes": {}}}
# A thread may stand still between an answer and what it makes of it; then a spool is written, or a store is closed.
_LAST_MOMENTS_S = 2.5


# One invocation never sends a point twice, unless an answer was lost.
_CAUSES: dict[str, Callable[[Book, _Pair], bool]] = {
    "an answer was lost": lambda _, pair: any(each.answer in ("none", "failed") for each in pair.requests),
    "an answer came too late for its event": lambda _, pair: (
        not all(each.was_awaited for each in pair.requests) or _is_late(pair)
    ),
    "the endpoint did not prove to be one": lambda _, pair: (
        is_unproven(pair.first) or is_unproven(pair.second)
    ),
    "an instance was cut off before it could write down what it had done": lambda _, pair: (
        pair.first.was_cut_off or pair.second.was_cut_off
    ),
    "nothing recognises the point": _is_nothing_known,
    "nothing is remembered": lambda _, pair: pair.first is not pair.second and pair.kept == "off",
    "a part of a refused request was stored": lambda _, pair: bool(pair.earlier.request.refused),
    "another instance's memory": lambda _, pair: (
        not pair.is_shared and pair.first.instance != pair.second.instance
    ),
    "two replays without a lock asked about a rejected point": lambda book, pair: (
        _are_replays_without_lock(book, pair) and _was_rejected(book, pair)
    ),
    "the window passed": lambda book, pair: pair.first is not pair.second and _window_passed(book, pair),
    "the store lost what it had been told": lambda book, pair: (
        # It may have lost the lease under which a slow first one was still to send.
        pair.is_shared
        and any(min(pair.first.began, pair.second.began) <= at <= pair.later.at for at in book.store_losses)
    ),
    "a lease ran out while its instance stood still": lambda _, pair: (
        pair.is_shared and bool(pair.first.pauses_s or pair.second.pauses_s)
    ),
}


def _are_replays_without_lock(book: Book, pair: _Pair) -> bool:
    """Whether the two were replays at the same time, on a file system that accepts locks and keeps nobody out."""
    first, second = pair.first, pair.second
    are_replays = first.event.source == second.event.source == "replay" and first is not second
    return book.has_no_locks and are_replays and second.began <= pair.earlier.at


def _was_rejected(book: Book, pair: _Pair) -> bool:
    """Whether the point was rejected before either was sent: a replay asks about it again, and nothing marks that."""
    return any(
        each.outcomes.get(pair.number) is Outcome.REJECTED
        for each in book.attempts
        if each.ended is not None and each.ended <= min(pair.first.began, pair.second.began)
    )


def _window_passed(book: Book, pair: _Pair) -> bool:
    """Whether the store did not see the point for longer than a window: the shared one, or that of the instance."""
    window_s = float(pair.second.settings.get("MF_DEDUPE_WINDOW_S", "600"))
    last = pair.earlier.at
    for attempt in book.attempts:
        began, ended = attempt.began, attempt.ended or pair.later.at
        if attempt is pair.second or not pair.earlier.at <= ended <= pair.later.at:
            continue
        if _renews(book, pair, attempt):
            if ended - last > window_s:
                return True
            last = began
    return pair.later.at - last > window_s


def _renews(book: Book, pair: _Pair, attempt: Attempt) -> bool:
    """Whether an invocation met the point, and must have let its window begin again."""
    if pair.number not in attempt.outcomes:
        return False
    if not pair.is_shared:
        return attempt.instance == pair.second.instance
    # One that knew the point from its own memory may have been cut off before it told Redis.
    is_told = any(
        attempt.began <= at <= (attempt.ended or at)
        for identity in book.identities[pair.number]
        for at in book.renewals[identity]
    )
    return not attempt.degraded and (is_told or not attempt.was_cut_off)


def _check_order(book: Book) -> None:
    """The first arrivals of a series are in the order in which its producer made the points."""
    for event_series in _ordered_series(book).values():
        newest: tuple[int, Arrival] | None = None
        for number in event_series:
            arrivals = book.arrivals.get(number)
            if not arrivals:
                continue
            first = arrivals[0]
            if newest is not None and first.at < newest[1].at and not _may_pass(book, newest, first):
                raise Violation(
                    ORDER,
                    earlier=newest[0],
                    arrived=f"{newest[1].at:.3f}",
                    later=number,
                    passed=f"{first.at:.3f}",
                )
            if newest is None or first.at > newest[1].at:
                newest = (number, first)


def _ordered_series(book: Book) -> dict[str, list[int]]:
    """Series whose order can be kept: those of a partition of CKafka, without a spool."""
    series: dict[str, list[int]] = {}
    for event in book.events:
        settings = event.attempts[0].settings if event.attempts else {}
        is_kept = not settings.get("MF_SPOOL") and settings.get("MF_DESTINATION") != "remote-write"
        if event.source == "ckafka" and is_kept:
            for made in event.points:
                if made.kind == "good" and made.number not in book.twins:
                    series.setdefault(made.series, []).append(made.number)
    return series


def _may_pass(book: Book, earlier: tuple[int, Arrival], later: Arrival) -> bool:
    """Whether something that happened lets a later point arrive before an earlier one."""
    number, arrival = earlier
    request = arrival.request
    if request.sent_at < later.request.sent_at and request.answer != "taken":
        return True  # it was late in the network, and nobody knew
    if _was_uncertain(later.request, number) or _was_refused_for_good(later.request, number):
        return True
    attempts = [
        attempt for attempt in book.attempts if number in (made.number for made in attempt.event.points)
    ]
    event = attempts[0].event if attempts else None
    if event is not None and event.state == "given up" and (event.handled_at or 0.0) <= later.at:
        return True
    settled = [attempt.outcomes.get(number) for attempt in attempts if attempt.began <= later.at]
    return any(outcome in _FINAL for outcome in settled)


def _was_uncertain(later: Request, number: int) -> bool:
    """Whether an invocation that was cut off had sent a point and could not say any more that it held it as uncertain."""
    attempt = later.attempt
    return attempt is not None and attempt.was_cut_off and _may_have_arrived(attempt, number, later.sent_at)


def _may_have_arrived(attempt: Attempt, number: int, before: float = math.inf) -> bool:
    """Whether an invocation had sent a point before then, got no answer, and was to hold such points."""
    return attempt.settings["MF_UNCERTAIN"] == "hold" and any(
        number in request.held and request.left and request.answer in ("failed", "none")
        for request in attempt.requests
        if request.sent_at < before
    )


def _was_refused_for_good(later: Request, number: int) -> bool:
    """Whether an invocation that was cut off had been told that a point is bad, and could not say any more that it is rejected."""
    attempt = later.attempt
    if attempt is None or not attempt.was_cut_off:
        return False
    return any(
        number in request.held and _rejects(request) and 0 < request.answered_at <= later.sent_at
        for request in attempt.requests
    )


def _rejects(request: Request) -> bool:
    """Whether an answer rejects each point of the request."""
    if request.refused == _ILLEGAL_NAMESPACE:
        return request.answer == "refused"
    is_bad = request.refused in _BAD_POINT or request.status in _TOO_LARGE
    return is_bad and request.answer in ("refused", "failed") and len(request.held) == 1


# Codes that say that a point itself is bad, statuses that say that it is too large, and the code that refuses a whole namespace.
_BAD_POINT = frozenset({"1005", "1009", "1010", "1013", "1015", "1017", "1019", "1020"})
_TOO_LARGE = frozenset({413, 414, 431})
_ILLEGAL_NAMESPACE = "1016"

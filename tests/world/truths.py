"""More laws: what an invocation says of its points is true, and an instance keeps to what it has learned.

They are checked when an invocation has ended. A point is judged only where nothing that the world did can excuse it.
"""

import math
from collections import Counter
from collections.abc import Iterator

from metric_forwarder.model import Outcome
from world.book import Arrival, Attempt, Book, Event, Made, Request
from world.oracles import ACCOUNTED, BOUNDED, CAUSED, DELIVERED, ORDER, THREADS, TWICE, is_final, is_unproven
from world.scheduler import START, Process, Violation

# Return codes after which nothing can be delivered until a person has done something.
STOPPING = frozenset({"1000", "1001", "1004", "1008", "1012"})
# After these, too, if what they complain of cannot be corrected: the key, and the clock.
_UNCORRECTED = frozenset({"1011", "1021"})
# Statuses of HTTP that may pass, and say nothing against any other request.
_PASSING_STATUSES = frozenset({0, 200, 408, 425, 429})
_SERVER_ERRORS = range(500, 600)
# The return code for a request without content.
_EMPTY = "1004"
# After such a refusal a warm instance sends nothing for this long.
COOL_DOWN_S = 2.0
# A pause that was asked for is kept by later events for less than this.
LONGEST_ASKED_S = 50.0
_ROUNDING_S = 1e-6
# A thread may stand still for so long between an answer and what it makes of it.
_LAST_MOMENTS_S = 1.0
# Of the youngest point that is too old for the receiver, by the default settings.
_MAX_AGE_S = 300.0
_SAME_CLOCK_S = 10.0
_MOST_STUCK = {"redis": 1, "secret": 1, "spool": 2}


def check_truths(book: Book, attempt: Attempt, process: Process, server_skew_s: float) -> None:
    """Judge an invocation that has ended."""
    _check_undelivered_is_said(attempt)
    _check_threads(attempt, process)
    if attempt.report is None:
        return
    earlier = [each for each in book.attempts if each.instance == attempt.instance and each is not attempt]
    is_shared = attempt.settings["MF_DEDUPE"].startswith("redis")
    before = [
        each for each in attempt.event.attempts if each.ended is not None and each.ended <= attempt.began
    ]
    before = before if is_shared else [each for each in before if each.instance == attempt.instance]
    for number, outcome in attempt.outcomes.items():
        if outcome is Outcome.UNCERTAIN:
            _check_uncertain(book, attempt, number)
        if outcome is Outcome.STALE:
            _check_stale(book, attempt, earlier, number, process, server_skew_s)
        if outcome is Outcome.REJECTED:
            _check_refused(book, attempt, number)
            _check_refused_for_order(book, attempt, number)
            _check_not_stored(book, attempt, number)
    _check_none_passes(book, attempt)
    for request in attempt.requests:
        _check_held(attempt, request)
        _check_settled_stays(attempt, before, request, book)
        _check_pauses(attempt, earlier, request)


def _check_undelivered_is_said(attempt: Attempt) -> None:
    """Where nobody is sure to bring points again, an ERROR line speaks of those that are undelivered."""
    report = attempt.report
    if report is None or attempt.event.source not in ("async", "http", "letter"):
        return
    if report["outcomes"][Outcome.UNDELIVERED.value] and "ERROR" not in attempt.levels():
        raise Violation(
            ACCOUNTED, attempt=attempt.number, source=attempt.event.source, undelivered="in silence"
        )


def _check_threads(attempt: Attempt, process: Process) -> None:
    """Of what hangs an instance keeps one thread for Redis, one for a secret and two for a spool."""
    stuck = Counter(task.name.rpartition("/")[2] for task in process.tasks if task.is_stuck)
    if any(stuck[name] > most for name, most in _MOST_STUCK.items()):
        raise Violation(THREADS, attempt=attempt.number, stuck=sorted(stuck.elements()))


def check_degraded(book: Book, attempt: Attempt, process: Process) -> None:
    """While all is well with Redis, a connection that breaks is replaced, and costs no event its shared memory."""
    is_well = attempt.broken_connections <= 1 and not process.out_of_threads and not attempt.pauses_s
    has_time = attempt.ended is not None and attempt.ended - attempt.began < attempt.limit_s / 4
    # After a failure Redis is left alone for a while.
    alike = [each for each in book.attempts if each.instance == attempt.instance and each.degraded]
    if is_well and has_time and alike == [attempt]:
        raise Violation(CAUSED, attempt=attempt.number, degraded="by one broken connection, or by none")


def _check_uncertain(book: Book, attempt: Attempt, number: int) -> None:
    """Only a point that was sent may have arrived; a request that was about to leave counts as sent."""
    # Of any invocation, since another one may have written down what this one reads.
    if any(_was_about_to_send(each) for each in book.attempts_with(number)):
        return
    # Also by a replay that was cut off, which has no outcomes.
    for each in book.attempts:
        for request in each.requests:
            if number in request.held and _may_have_left(request):
                return
    raise Violation(ACCOUNTED, attempt=attempt.number, point=number, uncertain="and never sent")


def _was_about_to_send(attempt: Attempt) -> bool:
    """Whether a request was counted as sent that did not leave in time."""
    # The report does not count the questions that prove an endpoint, which hold no points.
    left = sum(bool(request.held) for request in attempt.requests)
    return attempt.report is not None and attempt.report["requests"]["sent"] > left


def _may_have_left(request: Request) -> bool:
    """Whether a request left, or its event was settled before it could know that it had not."""
    report = None if request.attempt is None else request.attempt.report
    if request.left or report is None:
        return True
    replies = sum(report["requests"]["returnCodes"].values())
    return bool(report["requests"]["sent"] > replies)


def _check_held(attempt: Attempt, request: Request) -> None:
    """With ``hold``, what was sent and not refused is never called unsent: it would be sent again."""
    if attempt.settings["MF_UNCERTAIN"] != "hold" or not request.acted or is_unproven(attempt):
        return
    unsent = [
        number
        for number in request.points
        if attempt.outcomes.get(number) in _UNSENT and number not in attempt.in_two_records
    ]
    if unsent and request.answer in ("taken", "none"):
        raise Violation(
            TWICE, attempt=attempt.number, request=request.number, arrived=unsent, called="unsent"
        )


_UNSENT = (Outcome.UNDELIVERED, Outcome.SPOOLED)


def _check_none_passes(book: Book, attempt: Attempt) -> None:
    """No point is sent past an earlier one of its series in the same event that is not settled."""
    if attempt.was_cut_off:
        return
    series: dict[str, list[int]] = {}
    for made in attempt.event.points:
        # Where the destination's clock is ahead, it takes a point from far ahead, by its time: after those that follow it.
        is_from_ahead = made.kind == "invalid" and made.has_time
        if made.number in attempt.outcomes and not is_from_ahead:
            series.setdefault(made.series, []).append(made.number)
    for request in attempt.requests:
        for numbers in series.values():
            sent = [place for place, number in enumerate(numbers) if number in request.points]
            before = numbers[: sent[-1]] if sent else ()
            passed = [
                number
                for number in before
                if number not in request.points and _waits(book, attempt, request, number)
            ]
            if passed:
                raise Violation(ORDER, attempt=attempt.number, request=request.number, passed=passed)


def _waits(book: Book, attempt: Attempt, request: Request, number: int) -> bool:
    """Whether a point had neither arrived when a request was sent nor got an outcome that lets later ones pass."""
    arrivals, outcome = book.arrivals.get(number), attempt.outcomes[number]
    if arrivals:
        return arrivals[0].at > request.sent_at and outcome in (*_UNSENT, *_THERE)
    return outcome in _UNSENT


_THERE = (Outcome.DELIVERED, Outcome.DUPLICATE)


def _check_refused(book: Book, attempt: Attempt, number: int) -> None:
    """A point is called rejected only where a destination has refused something: another server's reply says nothing of it."""
    if not any(request.refused for request in book.requests):
        raise Violation(
            ACCOUNTED, attempt=attempt.number, point=number, rejected="and nothing was ever refused"
        )


def _check_stale(
    book: Book, attempt: Attempt, earlier: list[Attempt], number: int, process: Process, server_skew_s: float
) -> None:
    """A point that is called too old is too old by the receiver's clock, and was not delivered while it was young."""
    if server_skew_s:
        return
    window_s = float(attempt.settings["MF_DEDUPE_WINDOW_S"])
    for each in earlier:
        is_known = (
            each.outcomes.get(number) in (Outcome.DELIVERED, Outcome.DUPLICATE) and not each.was_cut_off
        )
        if is_known and attempt.began - each.began < window_s and _remember_alike(attempt, each):
            raise Violation(ACCOUNTED, attempt=attempt.number, point=number, stale="and delivered before")
    made_s = float(book.points[number].body["timestamp"]) - START
    is_young = (attempt.ended or 0.0) - made_s < _MAX_AGE_S - _SAME_CLOCK_S
    if is_young and not process.skew_changed:
        raise Violation(ACCOUNTED, attempt=attempt.number, point=number, stale="by a wrong clock")


def _check_refused_for_order(book: Book, attempt: Attempt, number: int) -> None:
    """With right clocks and in order no good point is refused for its time, if it has not been stored."""
    made = book.points[number]
    told = book.refusals.get(number, set())
    if made.kind != "good" or book.arrivals.get(number) or not told & _OF_ORDER:
        return
    if attempt.event.source == "replay":
        # A later event of its series may have come before the replay.
        return
    ahead = [each for each in book.points.values() if each.series == made.series and each.kind == "invalid"]
    if made.has_time and not any(book.arrivals.get(each.number) for each in ahead):
        return
    if any(each.request.attempt and each.request.attempt.skew_s for each in _stored(book)):
        # Prometheus counts its window back from the newest sample of all.
        return
    if not made.has_time and any(
        each.request.attempt and each.request.attempt.instance != attempt.instance
        for other in book.points.values()
        if other.series == made.series
        for each in book.arrivals.get(other.number, ())
    ):
        # Another instance, perhaps in a replay, has given one of the series the same time: each knows only what it gave itself.
        return
    if (
        not made.has_time
        and attempt.event.is_dated
        and any(
            each.request.attempt and not each.request.attempt.event.is_dated
            for other in book.points.values()
            if other.series == made.series
            for each in book.arrivals.get(other.number, ())
        )
    ):
        # One of the series came in a message without a time, and got that of its delivery; this one has the earlier time of a log.
        return
    alike = [each for each in book.events if any(other.series == made.series for other in each.points)]
    attempts = [each for event in alike for each in event.attempts]
    if "too old sample" in told and any(each.skew_s for each in book.attempts):
        # A clock that is ahead makes the samples of every series too old.
        return
    is_plain = all(
        not each.skew_s and not each.was_cut_off and not each.pauses_s and each.instance == attempt.instance
        for each in attempts
    )
    if is_plain and all(
        request.answer in ("taken", "refused") for each in attempts for request in each.requests
    ):
        raise Violation(ORDER, attempt=attempt.number, point=number, refused=sorted(told))


def _stored(book: Book) -> Iterator[Arrival]:
    return (arrival for arrivals in book.arrivals.values() for arrival in arrivals)


def _check_not_stored(book: Book, attempt: Attempt, number: int) -> None:
    """What is called rejected is not at the destination: a reply to a request that is repeated is true for each point."""
    if number in attempt.in_two_records:
        return
    refused = [each for each in attempt.requests if number in each.held and each.refused]
    # An earlier request may be so late in the network that it arrives after the repeated one was refused.
    until = max((each.answered_at for each in refused), default=math.inf)
    stored = [
        each for each in book.arrivals.get(number, ()) if each.request.attempt is attempt and each.at <= until
    ]
    told = book.refusals.get(number, set())
    if not stored or not told & _OF_ORDER or any(each.request.refused for each in stored):
        return
    since = [
        (book.points[other].series, each.request)
        for other, arrivals in book.arrivals.items()
        for each in arrivals
        if each.at >= stored[0].at and (other != number or each.request.attempt is not attempt)
    ]
    if "too old sample" in told:
        # Any sample may have moved the window of a Prometheus on before the request was repeated, even one of the same request.
        is_passed = bool(since)
    else:
        # Another invocation may have stored a later sample of the series by then.
        own_series = book.points[number].series
        is_passed = any(series == own_series and request.attempt is not attempt for series, request in since)
    if not is_passed:
        raise Violation(DELIVERED, attempt=attempt.number, point=number, rejected="and stored")


_OF_ORDER = frozenset({"out of order sample", "too old sample", "duplicate sample for timestamp"})


def _remember_alike(attempt: Attempt, earlier: Attempt) -> bool:
    """Whether an instance still has, in its own memory, what it remembered then."""
    names = ("MF_DEDUPE", "MF_DEDUPE_WINDOW_S")
    return attempt.settings["MF_DEDUPE"] != "off" and all(
        attempt.settings[name] == earlier.settings[name] for name in names
    )


def _is_excused(book: Book, attempt: Attempt) -> bool:
    """Whether an invocation could not write down, or read, what became of points."""
    is_shared = attempt.settings["MF_DEDUPE"].startswith("redis")
    return attempt.was_cut_off or (
        is_shared and bool(attempt.degraded or attempt.pauses_s or book.store_losses)
    )


def _check_settled_stays(attempt: Attempt, earlier: list[Attempt], request: Request, book: Book) -> None:
    """What was rejected, or is held as uncertain, is not sent again while it is remembered: by the store of both."""
    if (
        attempt.event.source == "replay"
        or attempt.settings["MF_DEDUPE"] == "off"
        or _is_excused(book, attempt)
    ):
        return
    window_s = float(attempt.settings["MF_DEDUPE_WINDOW_S"])
    for number in request.points:
        made = book.points[number]
        # Of a point in two events, the other one may have begun its window.
        if number in book.twins or not (made.has_id or made.has_time or attempt.event.has_coordinates):
            continue
        told = [
            each
            for each in earlier
            if number in each.outcomes
            and each.event is attempt.event
            and not _is_excused(book, each)
            and _remember_alike(attempt, each)
        ]
        rejected = [each for each in told if each.outcomes[number] is Outcome.REJECTED]
        if any(request.sent_at - _window_began(book, earlier, each, number) < window_s for each in rejected):
            raise Violation(BOUNDED, attempt=attempt.number, point=number, rejected="and asked about again")
        is_held = told and told[-1].outcomes[number] is Outcome.UNCERTAIN
        if is_held and request.sent_at - told[-1].began < window_s:
            raise Violation(TWICE, attempt=attempt.number, point=number, held="and sent again")


def _window_began(book: Book, earlier: list[Attempt], attempt: Attempt, number: int) -> float:
    """When the window of a rejection may have begun, at the earliest: a reply begins it, and no repetition prolongs it."""
    began: float | None = None
    for each in earlier:
        is_asked = any(number in request.held for request in each.requests)
        if each.began <= attempt.began and is_asked:
            is_sure = each.outcomes.get(number) is Outcome.REJECTED and not _is_excused(book, each)
            began = each.began if is_sure or began is None else began
    if began is None:
        # It was never sent: its whole namespace was refused, for the first time when it was first called rejected.
        told = [each.began for each in earlier if each.outcomes.get(number) is Outcome.REJECTED]
        return min([*told, attempt.began])
    return began


def _check_pauses(attempt: Attempt, earlier: list[Attempt], request: Request) -> None:
    """An instance keeps to what a destination asked for, and asks nothing right after a refusal of everything."""
    for known in _answers_in_time(earlier, attempt):
        since_s = request.sent_at - known.answered_at
        if since_s < min(known.asked_s, LONGEST_ASKED_S) - _ROUNDING_S:
            raise Violation(BOUNDED, attempt=attempt.number, request=request.number, asked_s=known.asked_s)
        # A question for the time is refused because it is empty, which says nothing of requests with points.
        is_empty = not known.held and known.refused == _EMPTY
        is_stop = known.answer == "refused" and known.refused in STOPPING and not is_empty
        # Another key or address begins anew. Of several refusals in one event, the first begins the pause.
        is_stop = is_stop and is_same_place(known.attempt, attempt)
        is_stop = is_stop and not any(
            is_refusal_of_all(other) and other.answered_at < known.answered_at
            for other in (known.attempt.requests if known.attempt else ())
        )
        if is_stop and since_s < COOL_DOWN_S and not _was_taken(earlier, known):
            raise Violation(BOUNDED, attempt=attempt.number, request=request.number, stopped=known.refused)


def is_refusal_of_all(request: Request) -> bool:
    """Whether an instance heard an answer that may begin its pause after a refusal of everything."""
    if not request.answered_at:
        return False
    if request.answer == "refused":
        return request.refused in STOPPING | _UNCORRECTED
    status = request.status
    return request.answer == "failed" and status not in _PASSING_STATUSES and status not in _SERVER_ERRORS


def is_same_place(one: Attempt | None, other: Attempt) -> bool:
    """Whether two invocations had the same key and address of the destination."""
    return one is not None and all(one.settings.get(name) == other.settings.get(name) for name in _PLACE)


_PLACE = (
    "MF_RECEIVER_URL",
    "MF_SECRET_KEY",
    "MF_SECRET_NAME",
    "MF_REMOTE_WRITE_URL",
    "MF_REMOTE_WRITE_PASSWORD",
)


def _answers_in_time(earlier: list[Attempt], attempt: Attempt) -> Iterator[Request]:
    """Answers that an earlier invocation of this instance had time to look at."""
    for each in earlier:
        if each.end in ("returned", "raised") and not each.pauses_s and each.ended is not None:
            if attempt.began - each.ended > LONGEST_ASKED_S + _LAST_MOMENTS_S:
                continue
            # Where an event ended long before its time was up, its threads have ended, too.
            is_whole = each.ended - each.began < each.limit_s / 4
            until = min(each.ended if is_whole else each.ended - _LAST_MOMENTS_S, attempt.began)
            for request in each.requests:
                if request.was_awaited and 0 < request.answered_at <= until:
                    yield request


def _was_taken(earlier: list[Attempt], known: Request) -> bool:
    """Whether another request was taken at that time or later, which ends the pause."""
    return any(
        request.answer != "refused" and request.answered_at >= known.answered_at - _LAST_MOMENTS_S
        for each in earlier
        for request in each.requests
        if request is not known
    )


def check_poison(book: Book) -> None:
    """A point at which the destination always fails keeps no other point back, except later ones of its series."""
    for event in book.events:
        poisoned = {made.series for made in event.points if made.number in book.poison}
        if poisoned and event.state == "given up" and _had_time(book, event, len(poisoned)):
            for made in event.points:
                if made.kind == "good" and made.series not in poisoned and not _is_settled(book, event, made):
                    raise Violation(ACCOUNTED, event=event.number, point=made.number, kept_by="another point")


# After so many deliveries, and one more for each series with such a point, their batches must have been divided.
_ENOUGH_DELIVERIES = 4
# So long an instance may keep to a pace of one request in each delivery: see ``delivery.pacing``.
_LONGEST_PACE_S = 660.0
_LONG_S = 10.0


def _had_time(book: Book, event: Event, failing: int) -> bool:
    """Whether an event with so many failing series was delivered often enough to one instance while nothing else failed."""
    well = [
        each
        for each in event.attempts
        if book.healed_at is not None
        and each.began > book.healed_at + LONGEST_ASKED_S
        and each.end == "raised"
        and not _was_slowed_down(book, each)
    ]
    is_long = all(each.limit_s >= _LONG_S for each in well)
    return (
        is_long and len(well) >= _ENOUGH_DELIVERIES + failing and len({each.instance for each in well}) == 1
    )


def _was_slowed_down(book: Book, attempt: Attempt) -> bool:
    """Whether the instance was told not long ago that it sends too much."""
    return any(
        request.refused in ("1018", "status") and 0 <= attempt.began - request.sent_at <= _LONGEST_PACE_S
        for each in book.attempts
        if each.instance == attempt.instance
        for request in each.requests
    )


def _is_settled(book: Book, event: Event, made: Made) -> bool:
    if book.arrivals.get(made.number):
        return True
    outcomes = [each.outcomes.get(made.number) for each in event.attempts]
    is_told = any(is_final(each, made) for each in event.attempts)
    return is_told or any(outcome not in (None, Outcome.UNDELIVERED) for outcome in outcomes)

"""Laws of how an instance treats a destination: it keeps to a pace, tries again, and is not silent for longer than it must be.

They are checked when an invocation has ended. Where the world may have stopped a thread in the middle, nothing is judged.
"""

from collections.abc import Iterator, Sequence

from metric_forwarder.model import Outcome
from world.book import Attempt, Book, Request
from world.oracles import ACCOUNTED, BALANCE, BOUNDED, REST
from world.scheduler import Violation
from world.truths import COOL_DOWN_S, LONGEST_ASKED_S, STOPPING, is_refusal_of_all, is_same_place

# How long a thread may stand still between an answer and what it makes of it.
_MOMENTS_S = 1.0
# A moment this far away may have been taken before a pause was asked for.
_AHEAD_S = 0.25
# So many points of a metric are refused alone before others are presumed to be refused, too.
_ENOUGH = 32
# Codes that say nothing about the points: an internal failure, no limiter, no routing.
_PASSING = ("1003", "1007", "1014")
# What says that requests come too fast.
_TOO_FAST = ("1006", "1018")
_TOO_FAST_STATUS, _NOT_READY_STATUS = 429, 503
# This refuses every point of a namespace.
_ILLEGAL_NAMESPACE = "1016"


def check_manners(book: Book, attempt: Attempt) -> None:
    """Judge an invocation that has ended."""
    if attempt.report is None or attempt.was_cut_off or attempt.pauses_s:
        return
    others = [each for each in book.attempts if each.instance == attempt.instance and each is not attempt]
    if any(each.ended is None or each.ended > attempt.began or each.pauses_s for each in others):
        return
    _check_tried_again(book, attempt, others)
    _check_silence(attempt, others)
    _check_probe(attempt, others)
    _check_pace(attempt)
    _check_pause_of_all(attempt)
    _check_counts(attempt)
    _check_presumed(book, attempt)


def _check_tried_again(book: Book, attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """A point is not given up before all attempts, while there is time and its requests fail for a reason that may pass."""
    assert attempt.ended is not None
    requests = [request for each in (*earlier, attempt) for request in each.requests]
    # Half of the time may be kept for a spool.
    is_early = attempt.ended - attempt.began < attempt.limit_s / 4 and not attempt.settings["MF_SPOOL"]
    # Where instances share a pace, what one of them was told slows the others down.
    is_shared = attempt.settings["MF_DEDUPE"].startswith("redis")
    is_slow = is_shared and any(map(_is_too_fast, book.requests))
    if not is_early or is_slow or any(map(_may_halt, requests)):
        return
    tries = int(attempt.settings["MF_MAX_ATTEMPTS"])
    for number in attempt.outcomes:
        sent = [request for request in attempt.requests if number in request.held]
        if 0 < len(sent) < tries and all(request.answer == "refused" for request in sent):
            raise Violation(REST, attempt=attempt.number, point=number, tried=len(sent), of=tries)


def _may_halt(request: Request) -> bool:
    """Whether nothing more may be sent after a request: after another refusal than a passing one, or without a connection."""
    is_refused = request.refused not in ("", *_PASSING) or request.status == _NOT_READY_STATUS
    return is_refused or _is_too_fast(request) or not request.left or bool(request.asked_s)


def _is_too_fast(request: Request) -> bool:
    return request.refused in _TOO_FAST or request.status == _TOO_FAST_STATUS


def _check_silence(attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """An event that sends nothing because of a refusal, or of a pause that was asked for, does so for less than a minute."""
    assert attempt.report is not None
    if attempt.requests:
        return
    rules = _rules(attempt)
    if "retry-after" in rules:
        asked = [
            _heard_at(request, each, earlier, attempt)
            for each in earlier
            for request in each.requests
            if request.asked_s and request.answered_at
        ]
        if attempt.began - max(asked, default=0.0) > LONGEST_ASKED_S + _MOMENTS_S:
            raise Violation(REST, attempt=attempt.number, silent="since a pause was asked for long ago")
    if rules & STOPPING:
        _check_cool_down(attempt, earlier)


def _rules(attempt: Attempt) -> set[str]:
    return set() if attempt.report is None else {error["rule"] for error in attempt.report["errors"]}


def _heard_at(request: Request, sender: Attempt, earlier: Sequence[Attempt], attempt: Attempt) -> float:
    """When an instance acted on an answer, at the latest: a thread that stood still when its event ended goes on at the next."""
    assert sender.ended is not None
    if request.answered_at < sender.ended - _MOMENTS_S:
        return request.answered_at
    return min(each.began for each in (*earlier, attempt) if each.began >= sender.ended)


def _check_cool_down(attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """The pause after a refusal of everything doubles with each one until a request is taken."""
    row, last = 0, 0.0
    for each in earlier:
        # Some statuses of HTTP refuse everything, too.
        refusals = [request for request in each.requests if request.held and is_refusal_of_all(request)]
        stops = [_heard_at(request, each, earlier, attempt) for request in refusals]
        taken = [request.answered_at for request in each.requests if request.answer == "taken"]
        assert each.ended is not None
        if taken and max([0.0, *stops]) + _MOMENTS_S < max(taken) < each.ended - _MOMENTS_S:
            row = 0
        elif stops or "secret" in _rules(each):
            # Where there is no key, nothing can be sent, too.
            row, last = row + 1, max([last, *stops])
    pause_s = min(COOL_DOWN_S * 2 ** (row - 1), LONGEST_ASKED_S)
    if row and attempt.began - last > pause_s + _MOMENTS_S:
        raise Violation(REST, attempt=attempt.number, silent_s=attempt.began - last, after=row)


def _check_probe(attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """A new instance, and one that everything was refused to, waits for one answer before it sends side by side."""
    # A refusal of a request without points says nothing of those with points.
    known = [request for each in earlier for request in each.requests if request.held]
    if known:
        last = max(known, key=lambda request: request.answered_at)
        is_stop = last.was_awaited and last.answer == "refused" and last.refused in STOPPING
        # A request that was taken a moment before may be looked at after the refusal.
        taken = [request.answered_at for request in known if request.answer == "taken"]
        if not is_stop or max(taken, default=0.0) > last.answered_at - _MOMENTS_S:
            return
        # Another key, or another address, begins anew.
        if not is_same_place(last.attempt, attempt) or _is_followed(earlier, attempt):
            return
    sent = [request for request in attempt.requests if request.held]
    if len(sent) > 1 and sent[1].sent_at < sent[0].answered_at:
        raise Violation(BOUNDED, attempt=attempt.number, requests=2, instead_of="one that is awaited")


def _is_followed(earlier: Sequence[Attempt], attempt: Attempt) -> bool:
    """Whether threads of the events before may act on an answer, or on its absence, while this event is under way."""
    return any(
        request.over_at > (each.ended or 0.0) - _MOMENTS_S
        and (each is earlier[-1] or request.over_at > attempt.began - _MOMENTS_S)
        for each in earlier
        for request in each.requests
    )


def _check_pace(attempt: Attempt) -> None:
    """No more requests are sent than people allow in a second."""
    rate = float(attempt.settings.get("MF_MAX_RPS", "0"))
    sent = [request.sent_at for request in attempt.requests if request.held]
    if not rate or len(sent) < _FEW:
        return
    allowed = (sent[-1] - sent[0] + _MOMENTS_S) * rate + 1
    if len(sent) > allowed:
        raise Violation(BOUNDED, attempt=attempt.number, requests=len(sent), allowed=round(allowed, 1))


_FEW = 3


def _check_pause_of_all(attempt: Attempt) -> None:
    """What a destination asks of one request holds for all requests of the event."""
    for known in _asked(attempt):
        for request in attempt.requests:
            since_s = request.sent_at - known.answered_at
            if _asks_about_reply(attempt, request):
                continue
            if _AHEAD_S + _MOMENTS_S < since_s < known.asked_s - _AHEAD_S:
                raise Violation(
                    BOUNDED, attempt=attempt.number, request=request.number, asked_s=known.asked_s
                )


def _asks_about_reply(attempt: Attempt, request: Request) -> bool:
    """Whether this is the question by which an instance finds out what a reply that has just come is worth."""
    return not request.held and any(
        other.held and 0 <= request.sent_at - other.answered_at < _MOMENTS_S for other in attempt.requests
    )


def _asked(attempt: Attempt) -> Iterator[Request]:
    return (request for request in attempt.requests if request.asked_s and request.was_awaited)


def _check_counts(attempt: Attempt) -> None:
    """The report counts each request with points, and each reply that came well before an event ended in time."""
    assert attempt.report is not None
    assert attempt.ended is not None
    sent = [request for request in attempt.requests if request.held]
    is_early = attempt.ended - attempt.began < attempt.limit_s / 4
    replies = [
        request for request in sent if is_early and 0 < request.answered_at < attempt.ended - _MOMENTS_S
    ]
    told = attempt.report["requests"]
    counted = sum(told["returnCodes"].values())
    if told["sent"] < len(sent) or not len(replies) <= counted <= told["sent"]:
        raise Violation(BALANCE, attempt=attempt.number, sent=told["sent"], replies=counted, of=len(sent))
    again = len(sent) - len({request.held for request in sent})
    if told["sent"] == len(sent) and told["retried"] != again and attempt.event.source != "replay":
        raise Violation(BALANCE, attempt=attempt.number, retried=told["retried"], instead_of=again)


def _check_presumed(book: Book, attempt: Attempt) -> None:
    """A point is rejected without being sent only if many of its metric were refused alone, and none was taken."""
    # Another invocation may have been killed before it reported what was refused, and remembered; or a replay was told so.
    others = [
        each
        for each in book.attempts
        if each is not attempt and (each.event is attempt.event or each.event.source == "replay")
    ]
    known = {number for each in others for number in each.outcomes}
    sent = {number for each in (*others, attempt) for request in each.requests for number in request.held}
    presumed = [
        number
        for number, outcome in attempt.outcomes.items()
        if outcome is Outcome.REJECTED and number not in sent | known and number not in book.twins
    ]
    # What one that was cut off has found out is remembered, too.
    sources = [attempt, *(each for each in others if each.was_cut_off)]
    is_group = any(request.refused == _ILLEGAL_NAMESPACE for each in sources for request in each.requests)
    if not presumed or is_group or attempt.event.source == "replay":
        return
    for metric in {_metric(book, number) for number in presumed}:
        if not any(_is_refused_as_a_whole(book, each, metric) for each in sources):
            raise Violation(ACCOUNTED, attempt=attempt.number, metric=metric, rejected="and never sent")


def _is_refused_as_a_whole(book: Book, attempt: Attempt, metric: str) -> bool:
    """Whether an invocation sent enough points of a metric alone, and the destination took none."""
    refused = 0
    for request in attempt.requests:
        is_alike = any(_metric(book, number) == metric for number in request.held)
        if is_alike and request.acted:
            return False
        refused += is_alike and len(request.held) == 1 and bool(request.refused)
    return refused >= _ENOUGH


def _metric(book: Book, number: int) -> str:
    return book.points[number].series.partition("/")[0]

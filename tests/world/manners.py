"""Laws of how an instance treats a destination: it keeps to a pace, tries again, and is not silent for longer than it must be.

They are checked when an invocation has ended. Where the world may have stopped a thread in the middle, nothing is judged.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from metric_forwarder.model import Outcome
from world.book import Attempt, Book, Request
from world.oracles import ACCOUNTED, BALANCE, BOUNDED, REST
from world.scheduler import Violation
from world.truths import COOL_DOWN_S, LONGEST_ASKED_S, STOPPING, is_same_place

# How long a thread may stand still between an answer and what it makes of it.
_MOMENTS_S = 1.0
# A moment this far away may have been taken before a pause was asked for.
_AHEAD_S = 0.25
# So many points of a metric are refused alone before others are presumed to be refused, too.
_ENOUGH = 32
# Codes that say nothing about the points: an internal failure, no limiter, no routing.
_PASSING = ("1003", "1007", "1014")
# This refuses every point of a namespace.
_ILLEGAL_NAMESPACE = "1016"


def check_manners(book: Book, attempt: Attempt) -> None:
    """Judge an invocation that has ended."""
    if attempt.report is None or attempt.was_cut_off or attempt.pauses_s:
        return
    others = [each for each in book.attempts if each.instance == attempt.instance and each is not attempt]
    if any(each.ended is None or each.ended > attempt.began or each.pauses_s for each in others):
        return
    _check_tried_again(attempt, others)
    _check_silence(attempt, others)
    _check_probe(attempt, others)
    _check_pace(attempt)
    _check_pause_of_all(attempt)
    _check_counts(attempt)
    _check_presumed(book, attempt)


def _check_tried_again(attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """A point is not given up before all attempts, while there is time and its requests fail for a reason that may pass."""
    assert attempt.ended is not None
    requests = [request for each in (*earlier, attempt) for request in each.requests]
    # After another refusal, or without a connection, nothing more may be sent. Half of the time may be kept for a spool.
    is_halted = any(
        request.asked_s or not request.left or request.refused not in ("", *_PASSING) for request in requests
    )
    is_early = attempt.ended - attempt.began < attempt.limit_s / 4 and not attempt.settings["MF_SPOOL"]
    if is_halted or not is_early:
        return
    tries = int(attempt.settings["MF_MAX_ATTEMPTS"])
    for number in attempt.outcomes:
        sent = [request for request in attempt.requests if number in request.held]
        if 0 < len(sent) < tries and all(request.answer == "refused" for request in sent):
            raise Violation(REST, attempt=attempt.number, point=number, tried=len(sent), of=tries)


def _check_silence(attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """An event that sends nothing because of a refusal, or of a pause that was asked for, does so for less than a minute."""
    assert attempt.report is not None
    if attempt.requests:
        return
    rules = {error["rule"] for error in attempt.report["errors"]}
    known = [request for each in earlier for request in each.requests]
    if "retry-after" in rules:
        asked = [request.answered_at for request in known if request.asked_s]
        if attempt.began - max(asked, default=0.0) > LONGEST_ASKED_S + _MOMENTS_S:
            raise Violation(REST, attempt=attempt.number, silent="since a pause was asked for long ago")
    if rules & STOPPING:
        _check_cool_down(attempt, earlier)


def _check_cool_down(attempt: Attempt, earlier: Sequence[Attempt]) -> None:
    """The pause after a refusal of everything doubles with each one until a request is taken."""
    row, last = 0, 0.0
    for each in earlier:
        # Some statuses of HTTP refuse everything, too.
        stops = [
            request.answered_at
            for request in each.requests
            if request.held and (request.refused in STOPPING or request.answer == "failed")
        ]
        taken = [request.answered_at for request in each.requests if request.answer == "taken"]
        assert each.ended is not None
        if taken and not stops and max(taken) < each.ended - _MOMENTS_S:
            row = 0
        if stops:
            row, last = row + 1, max(last, *stops)
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
        if not is_same_place(last.attempt, attempt):
            return
    sent = [request for request in attempt.requests if request.held]
    if len(sent) > 1 and sent[1].sent_at < sent[0].answered_at:
        raise Violation(BOUNDED, attempt=attempt.number, requests=2, instead_of="one that is awaited")


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
            if _AHEAD_S + _MOMENTS_S < since_s < known.asked_s - _AHEAD_S:
                raise Violation(
                    BOUNDED, attempt=attempt.number, request=request.number, asked_s=known.asked_s
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
    is_group = any(request.refused == _ILLEGAL_NAMESPACE for request in attempt.requests)
    if not presumed or is_group or attempt.event.source == "replay":
        return
    alone = [request for request in attempt.requests if len(request.held) == 1]
    refused = Counter(_metric(book, request.held[0]) for request in alone if request.refused)
    taken = {
        _metric(book, number) for request in attempt.requests if request.acted for number in request.held
    }
    for metric in {_metric(book, number) for number in presumed}:
        if refused[metric] < _ENOUGH or metric in taken:
            raise Violation(ACCOUNTED, attempt=attempt.number, metric=metric, rejected="and never sent")


def _metric(book: Book, number: int) -> str:
    return book.points[number].series.partition("/")[0]

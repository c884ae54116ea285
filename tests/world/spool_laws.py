"""Laws of the spool: a complaint has a cause, a replay ends what it has replayed, and what hangs is bounded.

They are checked when an invocation has ended, from what the world did to the spool and what the invocation said of it.
"""

from collections.abc import Callable, Mapping

from metric_forwarder.model import Outcome
from world.book import Attempt, Book, Event
from world.oracles import ACCOUNTED, CAUSED, TWICE
from world.scheduler import Process, Violation

# These keep nobody from acknowledging.
_HARMLESS = ("a file stays", "no room")
_DONE = (Outcome.DELIVERED, Outcome.DUPLICATE)
# How long an instance that stands still may keep others from a replay: by a lock file; a lease in Redis ends earlier.
_LEASE_S = 915.0
# A thread that hangs goes on after this.
_STUCK_S = 310.0


def check_spool(book: Book, attempt: Attempt, process: Process) -> None:
    """Judge what an invocation that has ended did with the spool."""
    if not attempt.settings["MF_SPOOL"] or attempt.was_cut_off:
        return
    _check_complaints(book, attempt, process)
    if attempt.event.source == "replay" and attempt.report is not None:
        _check_unread_is_said(attempt)
        _check_replayed_once(book, attempt)


def _complaints(attempt: Attempt) -> list[str]:
    return [line["message"] for line in attempt.log if line.get("event") == "spool"]


def _check_complaints(book: Book, attempt: Attempt, process: Process) -> None:
    """Whatever is said to have failed with the spool did fail."""
    if attempt.pauses_s or process.out_of_threads:
        return
    for text in _complaints(attempt):
        causes = (holds for words, holds in _CAUSES.items() if words in text)
        if not any(holds(book, attempt, process) for holds in causes):
            raise Violation(CAUSED, attempt=attempt.number, complaint=text)


def _was_troubled(book: Book, attempt: Attempt, _: Process) -> bool:
    return any(
        each.since <= (attempt.ended or each.since) and each.until >= attempt.began
        for each in book.spool_troubles
    )


def _was_ever_troubled(book: Book, attempt: Attempt, _: Process) -> bool:
    del attempt
    return bool(book.spool_troubles)


def _is_another_at_work(book: Book, attempt: Attempt, process: Process) -> bool:
    """Whether the instance of another replay may still hold the lock or the lease."""
    return bool(process.skew_s) or any(
        _last_sign_of(book, each) + _LEASE_S > attempt.began
        for each in book.attempts
        if each.event.source == "replay"
        and each is not attempt
        and each.began <= (attempt.ended or each.began)
    )


def _last_sign_of(book: Book, replay: Attempt) -> float:
    """When a thread of the replay's instance can have moved last."""
    ends = [each.ended for each in book.attempts if each.instance == replay.instance]
    return max(float("inf") if end is None else end for end in ends) + (0.0 if book.freezes else _STUCK_S)


_CAUSES: Mapping[str, Callable[[Book, Attempt, Process], bool]] = {
    "another replay": _is_another_at_work,
    # Threads stand still for moments, and some functions have little time.
    "in time": lambda *_: True,
    "earlier events": _was_ever_troubled,
    "": _was_troubled,
}


def _check_unread_is_said(attempt: Attempt) -> None:
    """The report of a replay that could not read the spool is an error, and no success with nothing to do."""
    assert attempt.report is not None
    is_unread = _complaints(attempt) and not attempt.report["received"]
    levels = {line["level"] for line in attempt.log if line.get("event") == "report"}
    if is_unread and levels and "ERROR" not in levels:
        raise Violation(ACCOUNTED, attempt=attempt.number, unread="and reported as a success")


def _check_replayed_once(book: Book, attempt: Attempt) -> None:
    """What a replay has delivered and acknowledged no later replay brings again; and it is acknowledged, unless that failed."""
    # A crash of the disk may bring a removed file back.
    has_crashed = any(each.kind == "crash" for each in book.spool_troubles)
    if book.has_no_locks or book.store_losses or has_crashed:
        return
    for earlier in book.attempts:
        is_over = earlier.ended is not None and earlier.ended <= attempt.began
        if earlier.event.source == "replay" and is_over and not earlier.was_cut_off:
            is_sound = _is_sound(book, earlier)
            for number in attempt.outcomes:
                is_done = earlier.outcomes.get(number) in _DONE
                is_acknowledged = is_sound or number not in earlier.left_in_spool
                if is_done and is_acknowledged and number not in book.twins and _records_of(book, number) < 2:
                    raise Violation(TWICE, attempt=attempt.number, point=number, replayed_by=earlier.number)


def check_acknowledged(
    book: Book, attempt: Attempt, synced_at: float, left: list[int], between_s: float
) -> None:
    """Whatever rows a replay can write, those that it could not write before are among them.

    Args:
        book: what happened.
        attempt: an invocation that has ended.
        synced_at: when the rows of a file were written for the last time.
        left: the points of the other records of the file.
        between_s: how long a thread may stand still between an answer and the row that it leads to.
    """
    is_alone = not any(
        each.event.source == "replay"
        and each is not attempt
        and (each.ended is None or each.ended >= attempt.began)
        for each in book.attempts
    )
    is_sound = is_alone and not attempt.was_cut_off and not attempt.pauses_s and not book.has_no_locks
    if attempt.event.source != "replay" or not is_sound or synced_at < attempt.began:
        return
    if any(each.kind in ("hangs", "crash", "odd entries") for each in book.spool_troubles):
        return
    for request in attempt.requests:
        is_before = 0 < request.answered_at < synced_at - between_s
        for number in request.points if request.acted and request.answer == "taken" and is_before else ():
            is_done = attempt.outcomes.get(number) is Outcome.DELIVERED
            if number in left and is_done and number not in book.twins and _records_of(book, number) < 2:
                raise Violation(
                    TWICE, attempt=attempt.number, point=number, acknowledged="never, though others were"
                )


def _is_sound(book: Book, replay: Attempt) -> bool:
    """Whether nothing kept a replay from acknowledging."""
    ended = replay.ended or 0.0
    return not (
        replay.pauses_s
        or any("in time" in text for text in _complaints(replay))
        or any(
            each.kind not in _HARMLESS and each.since <= ended and each.until >= replay.began
            for each in book.spool_troubles
        )
    )


def _records_of(book: Book, number: int) -> int:
    """How many records of a point there may be: an invocation that was cut off may have written one."""
    return sum(_may_have_written(each, number) for each in book.attempts)


def _may_have_written(attempt: Attempt, number: int) -> bool:
    event: Event = attempt.event
    if event.source == "replay" or all(made.number != number for made in event.points):
        return False
    return (
        attempt.was_cut_off
        or attempt.outcomes.get(number) is Outcome.SPOOLED
        or bool(_complaints(attempt))
        or attempt.end == "running"
    )

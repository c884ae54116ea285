"""Decide what is stored in the spool, and when a stored record may go."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.model import Batch, Message, Outcome, Point, Problem
from metric_forwarder.spool.store import Chunk, Record, SpoolError, SpoolVisit
from metric_forwarder.times import MILLISECONDS_FROM, NS_PER_MS, NUMBERS_BELOW, rfc3339


class DeadLetter(NamedTuple):
    """A point, or what should have been one, that no redelivery can help."""

    message: Message
    payload: Any
    pointer: str
    problem: Problem


class Keeper(Protocol):
    """Decides what becomes of the points of one chunk of messages."""

    def delivered(self, points: Batch) -> None:
        """These arrived just now."""

    def keep(self, undelivered: Sequence[Point], dead_letters: Sequence[DeadLetter]) -> Outcome:
        """Everything else has been tried: the outcome of the undelivered, ``spooled`` if they are safe."""


class NoKeeper:
    """No spool: what is undelivered the platform must redeliver."""

    def delivered(self, points: Batch) -> None:
        """Nothing was kept."""

    def keep(self, undelivered: Sequence[Point], dead_letters: Sequence[DeadLetter]) -> Outcome:  # noqa: ARG002 - the port's
        return Outcome.UNDELIVERED


class SpoolingKeeper:
    """Writes what a trigger event leaves behind into the spool.

    Args:
        now_ms: when the event was received, Unix milliseconds: dead letters whose message brings no time are of then.
    """

    def __init__(self, spool: SpoolVisit, complain: Callable[[str], None], now_ms: int) -> None:
        self._spool = spool
        self._complain = complain
        self._now_ms = now_ms

    def delivered(self, points: Batch) -> None:
        """Nothing was kept."""

    def keep(self, undelivered: Sequence[Point], dead_letters: Sequence[DeadLetter]) -> Outcome:
        if undelivered or dead_letters:
            try:
                self._spool.write(
                    list(map(_point_record, undelivered)), _dead_records(dead_letters, self._now_ms)
                )
            except SpoolError as error:
                self._complain(str(error))
                return Outcome.UNDELIVERED
        return Outcome.SPOOLED


class KeepUndelivered:
    """Leaves dead letters out, for what comes again by itself: the next scrape has the same to say."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def delivered(self, points: Batch) -> None:
        self._keeper.delivered(points)

    def keep(self, undelivered: Sequence[Point], dead_letters: Sequence[DeadLetter]) -> Outcome:  # noqa: ARG002 - the port's
        return self._keeper.keep(undelivered, ())


class ReplayingKeeper:
    """Acknowledges the records of a chunk: each delivered one at once, the rest when their fate is known."""

    def __init__(self, chunk: Chunk, spool: SpoolVisit, complain: Callable[[str], None], now_ms: int) -> None:
        self._chunk = chunk
        self._spool = spool
        self._complain = complain
        self._now_ms = now_ms

    def delivered(self, points: Batch) -> None:
        # A record that holds more than one point waits until all of them are settled.
        self._acknowledge([point.message.receipt for point in points if point.pointer == ""])

    def keep(self, undelivered: Sequence[Point], dead_letters: Sequence[DeadLetter]) -> Outcome:
        kept = {point.message.receipt for point in undelivered}
        if dead_letters and (self._chunk.dead or not self._bury(dead_letters)):
            kept |= {letter.message.receipt for letter in dead_letters}
        receipts = [message.receipt for message in self._chunk.messages]
        self._acknowledge([receipt for receipt in receipts if receipt not in kept])
        self._chunk.close()
        return Outcome.SPOOLED

    def _bury(self, dead_letters: Sequence[DeadLetter]) -> bool:
        try:
            self._spool.write((), _dead_records(dead_letters, self._now_ms))
        except SpoolError as error:
            self._complain(str(error))
            return False
        return True

    def _acknowledge(self, receipts: Sequence[int | None]) -> None:
        self._chunk.acknowledge([receipt for receipt in receipts if receipt is not None])


def point_payload(point: Point) -> dict[str, Any]:
    """Write a point as a payload that says the same."""
    series = point.series
    payload: dict[str, Any] = {"namespace": series.namespace} if series.namespace else {}
    payload |= {"metricName": series.metric, "dimensions": dict(series.dimensions), "value": point.value}
    if point.timestamp_ns is not None:
        payload["timestamp"] = _timestamp(point.timestamp_ns)
    if point.id is not None:
        payload["id"] = point.id
    return payload


def _timestamp(time_ns: int) -> float | str:
    """A time as a payload may hold it: as a number wherever it would be read as the same nanosecond."""
    milliseconds, rest = divmod(time_ns, NS_PER_MS)
    if rest or not 0 <= milliseconds < NUMBERS_BELOW:
        return rfc3339(time_ns)
    return milliseconds if milliseconds >= MILLISECONDS_FROM else milliseconds / 1000


def _point_record(point: Point) -> Record:
    message = point.message
    coordinates = message.place(point.pointer)
    return Record(
        point_payload(point), message.source, coordinates, point.time_ms, Outcome.UNDELIVERED.value, ""
    )


def _dead_records(letters: Sequence[DeadLetter], now_ms: int) -> list[Record]:
    return [_dead_record(letter, now_ms) for letter in letters]


def _dead_record(letter: DeadLetter, now_ms: int) -> Record:
    message = letter.message
    coordinates = message.place(letter.pointer)
    outcome, reason = letter.problem.outcome.value, letter.problem.message
    time_ms = now_ms if message.time_ms is None else message.time_ms
    return Record(letter.payload, message.source, coordinates, time_ms, outcome, reason)

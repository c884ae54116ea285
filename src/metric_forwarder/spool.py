"""What is kept for later: points that could not be delivered now, and dead letters that never will be as they are.

A ``Spool`` stores records; the keepers decide what is stored, and when a stored record may go.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.model import Batch, Message, Outcome, Point, Problem
from metric_forwarder.times import MILLISECONDS_FROM


class SpoolError(Exception):
    """The spool could not be written or read; the text says why and what to do."""


class Record(NamedTuple):
    """One kept payload: JSON in, JSON out.

    Attributes:
        payload: a point, or what a message held where no point could be made of it.
        source: the message it came from, as a report names it.
        coordinates: the identity of its place: the same when it is replayed as when it is redelivered.
        time_ms: when it was measured as far as that is known: a replay must not make it younger.
        outcome: why it is here: ``undelivered``, or the outcome that made it a dead letter.
        reason: what was said about it.
    """

    payload: Any
    source: str
    coordinates: str | None
    time_ms: int | None
    outcome: str
    reason: str


def encode_record(record: Record) -> str:
    """Write a record as one line of ASCII."""
    try:
        return json.dumps(record._asdict(), default=repr, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        # Only a payload that no JSON text held: a direct invocation's, or one nested too deeply.
        reason = record.reason + " (its payload cannot be written down)"
        return encode_record(record._replace(payload=None, reason=reason))


def decode_record(line: bytes) -> Record:
    """Read such a line; raises ``ValueError`` if it is none."""
    try:
        return Record(**json.loads(line))
    except (TypeError, RecursionError):
        raise ValueError("no record") from None


class Chunk(Protocol):
    """A part of the spool, small enough for memory, being replayed."""

    @property
    def dead(self) -> bool:
        """Whether its records are dead letters."""

    @property
    def messages(self) -> Sequence[Message]:
        """Its records that are still to be replayed; ``receipt`` is what ``acknowledge`` takes."""

    def acknowledge(self, receipts: Sequence[int]) -> None:
        """Never replay these records again; written down at once.

        Raises:
            SpoolError: it could not be written; the records may be replayed again.
        """

    def close(self) -> None:
        """Delete the chunk if every record in it is acknowledged."""


class Spool(Protocol):
    """Keeps records until they are acknowledged."""

    def write(self, points: Sequence[Record], dead_letters: Sequence[Record]) -> None:
        """Keep all of them or none.

        Raises:
            SpoolError: none is kept.
        """

    def reserve_s(self, points: int) -> float:
        """How long writing so many points takes, measured, seconds."""

    def waiting(self, *, dead_letters: bool) -> int:
        """How many records a replay would meet.

        Raises:
            SpoolError: it cannot be read.
        """

    def replay(self, *, dead_letters: bool) -> Iterator[Chunk]:
        """The oldest first; while it is being iterated no other replay of this spool runs.

        Raises:
            SpoolError: it cannot be read, or another replay is running.
        """


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
    """Writes what a trigger event leaves behind into the spool."""

    def __init__(self, spool: Spool, complain: Callable[[str], None]) -> None:
        self._spool = spool
        self._complain = complain

    def delivered(self, points: Batch) -> None:
        """Nothing was kept."""

    def keep(self, undelivered: Sequence[Point], dead_letters: Sequence[DeadLetter]) -> Outcome:
        if undelivered or dead_letters:
            try:
                self._spool.write(
                    list(map(_point_record, undelivered)), list(map(_dead_record, dead_letters))
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

    def __init__(self, chunk: Chunk, spool: Spool, complain: Callable[[str], None]) -> None:
        self._chunk = chunk
        self._spool = spool
        self._complain = complain

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
            self._spool.write((), list(map(_dead_record, dead_letters)))
        except SpoolError as error:
            self._complain(str(error))
            return False
        return True

    def _acknowledge(self, receipts: Sequence[int | None]) -> None:
        try:
            self._chunk.acknowledge([receipt for receipt in receipts if receipt is not None])
        except SpoolError as error:
            self._complain(str(error))


def point_payload(point: Point) -> dict[str, Any]:
    """Write a point as a payload that says the same."""
    series = point.series
    payload: dict[str, Any] = {"namespace": series.namespace} if series.namespace else {}
    payload |= {"metricName": series.metric, "dimensions": dict(series.dimensions), "value": point.value}
    if point.timestamp_ms is not None:
        late = point.timestamp_ms >= MILLISECONDS_FROM
        payload["timestamp"] = point.timestamp_ms if late else point.timestamp_ms / 1000
    if point.id is not None:
        payload["id"] = point.id
    return payload


def _point_record(point: Point) -> Record:
    message = point.message
    coordinates = message.place(point.pointer)
    return Record(point_payload(point), message.source, coordinates, point.time_ms, "undelivered", "")


def _dead_record(letter: DeadLetter) -> Record:
    message = letter.message
    coordinates = message.place(letter.pointer)
    outcome, reason = letter.problem.outcome.value, letter.problem.message
    return Record(letter.payload, message.source, coordinates, message.time_ms, outcome, reason)

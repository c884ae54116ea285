"""What is kept for later: points that could not be delivered now, and dead letters that never will be as they are.

A ``SpoolStore`` stores records, however long that takes; a ``Spool`` sees to it that nobody waits for that past a
deadline; the keepers decide what is stored, and when a stored record may go.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.clock import Deadline
from metric_forwarder.model import Batch, Message, Outcome, Point, Problem
from metric_forwarder.payload import NotJson
from metric_forwarder.times import MILLISECONDS_FROM, NUMBERS_BELOW, rfc3339


class SpoolError(Exception):
    """The spool could not be written or read; the text says why and what to do."""


class Record(NamedTuple):
    """One kept payload: JSON in, JSON out.

    Attributes:
        payload: a point, or what a message held where no point could be made of it.
        source: the message it came from, as a report names it.
        coordinates: the identity of its place: the same when it is replayed as when it is redelivered.
        time_ms: when it was measured as far as that is known: a replay must not make it younger.
        outcome: why it is here: ``undelivered``, or the outcome that made it a dead letter. Unless that is ``invalid``, the
            payload is a valid point, written anew.
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
        return _dump(record)
    except (TypeError, ValueError, RecursionError):
        return _dump(_as_text(record))


def _dump(record: Record) -> str:
    return json.dumps(record._asdict(), separators=(",", ":"))


def _as_text(record: Record) -> Record:
    """Keep as text, as the producer wrote it, a payload that is no JSON; a replay reads it as it was read at first."""
    payload = record.payload
    if isinstance(payload, bytes):
        try:
            return record._replace(payload=payload.decode())
        except UnicodeDecodeError:
            kept = b64encode(payload).decode("ascii")
            return record._replace(payload=kept, reason=f"{record.reason} (kept as the base64 of its bytes)")
    try:
        return record._replace(payload=_written(payload))
    except (TypeError, ValueError, RecursionError):
        # Only a payload that no JSON text held: a direct invocation's, or one nested too deeply.
        return record._replace(payload=None, reason=f"{record.reason} (its payload cannot be written down)")


def _written(value: Any) -> str:
    """Decoded JSON as text; what JSON does not allow as it stood there."""
    if isinstance(value, NotJson):
        return value.raw if isinstance(value.raw, str) else _written_members(value.raw)
    if isinstance(value, dict):
        return _written_members(value.items())
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return json.dumps(value)


def _written_members(pairs: Iterable[tuple[str, Any]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{_written(value)}" for name, value in pairs) + "}"


def decode_record(line: bytes) -> Record:
    """Read such a line; raises ``ValueError`` if it is none."""
    try:
        return Record(**json.loads(line))
    except (TypeError, RecursionError):
        raise ValueError("no record") from None


def message_of(record: Record, receipt: int | None = None) -> Message:
    """What a replay hands in: see ``Message``."""
    # What was invalid is kept as its producer wrote it, and nothing else is.
    judged = record.outcome != Outcome.INVALID.value
    return Message(
        record.source, record.payload, record.coordinates, record.time_ms, receipt=receipt, judged=judged
    )


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


class SpoolStore(Protocol):
    """Keeps records until they are acknowledged; used by one thread at a time, which it may keep waiting.

    Attributes:
        fixed_s: how long a write takes at first sight, whatever it writes, seconds.
        per_record_s: and for each record besides.
    """

    fixed_s: float
    per_record_s: float

    def write(self, points: Sequence[Record], dead_letters: Sequence[Record]) -> None:
        """Keep all of them, or say that they are not kept.

        Raises:
            SpoolError: none is kept, or the store failed before it could take back what it had written.
        """

    def waiting(self, *, dead_letters: bool) -> int:
        """How many records a replay would meet.

        Raises:
            SpoolError: it cannot be read.
        """

    def others(self) -> Sequence[str]:
        """Other functions whose records are in the same place, as far as that can be seen.

        Raises:
            SpoolError: it cannot be read.
        """

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator[Chunk, None, None]:
        """The oldest first; while it is being iterated no other replay of this spool runs.

        Args:
            dead_letters: whether they are replayed after the points.
            lease_s: how long the replay takes at most, seconds: if it dies, another may begin after that.

        Raises:
            SpoolError: it cannot be read, or another replay is running.
        """


class SpoolVisit(Protocol):
    """One event's dealings with the spool; nothing here waits past the event's deadline."""

    def write(self, points: Sequence[Record], dead_letters: Sequence[Record]) -> None:
        """Keep all of them or none.

        Raises:
            SpoolError: none is kept, or nobody knows yet: what is kept after all is recognised when it is replayed.
        """

    def replay(self, *, dead_letters: bool) -> Iterator[Chunk]:
        """The oldest first, while there is time for another chunk; acknowledging one waits for nothing.

        Raises:
            SpoolError: it cannot be read, or not in time, or another replay is running.
        """

    def close(self) -> Sequence[str]:
        """End the visit and, in words, what could not be acknowledged."""


class Spool(Protocol):
    """A spool as the pipeline knows it."""

    def reserve_s(self, records: int) -> float:
        """How long writing so many records takes, learned from earlier writes, seconds."""

    def begin(self, deadline: Deadline) -> SpoolVisit:
        """Start an event."""


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
    if point.timestamp_ms is not None:
        payload["timestamp"] = _timestamp(point.timestamp_ms)
    if point.id is not None:
        payload["id"] = point.id
    return payload


def _timestamp(milliseconds: int) -> float | str:
    """A time as a payload may hold it: as a number wherever it would be read as the same time."""
    if not 0 <= milliseconds < NUMBERS_BELOW:
        return rfc3339(milliseconds)
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

"""What is kept for later: points that could not be delivered now, and dead letters that never will be as they are.

A ``SpoolStore`` stores records, however long that takes; a ``Spool`` sees to it that nobody waits for that past a
deadline; the keepers decide what is stored, and when a stored record may go.
"""

import json
from base64 import b64encode
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.clock import Deadline
from metric_forwarder.formats.payload import NotJson
from metric_forwarder.model import Message, Outcome


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

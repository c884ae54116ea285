"""What is kept for later: points that could not be delivered now, and dead letters that cannot be delivered as they are.

A ``SpoolStore`` stores records, however long that takes. ``bounded`` makes sure that no event waits for it past its deadline;
``policies`` decides what is stored, and when a stored record may be deleted.
"""

import contextlib
import json
import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.formats.payload import NotJson, holds_too_much
from metric_forwarder.model import FormatHint, Message, Outcome

# Milliseconds of any year that a calendar knows; more is no time.
_MAX_TIME_MS = 10**15


class SpoolError(Exception):
    """The spool could not be written or read; the text says why and what to do."""


class SpoolRecord(NamedTuple):
    """One kept payload: JSON in, JSON out.

    Attributes:
        payload: a point; or JSON text, as a producer wrote it, where no point could be made of it.
        source: the message it came from, as a report names it.
        coordinates: the identity of its place: the same when it is replayed as when it is redelivered.
        time_ms: when it was measured as far as that is known: a replay must not make it younger.
        outcome: why it is here: ``undelivered``, or the outcome that made it a dead letter. Unless that is ``invalid``, the
            payload is a valid point, written again.
        reason: what was said about it.
        places: see ``Message``.
        format: see ``Message``; of an invalid payload.
        hint: the members of a ``FormatHint`` that is not the usual one, likewise.
        is_base64: whether an invalid payload is the base64 of bytes that are not text.
    """

    payload: Any
    source: str
    coordinates: str | None
    time_ms: int | None
    outcome: str
    reason: str
    places: Sequence[str] = ()
    format: str | None = None
    hint: Mapping[str, Any] | None = None
    is_base64: bool = False


# A payload's value that JSON does not have, by its 64 bits.
_SPECIAL = re.compile("0x[0-9a-f]{16}")


def encode_record(record: SpoolRecord) -> str:
    """Write a record as one line of ASCII."""
    members = record._asdict()
    for name, usual in SpoolRecord._field_defaults.items():
        if members[name] == usual or not members[name]:
            # The first version can read a record that has no such member.
            del members[name]
    return json.dumps(members, separators=(",", ":"))


def encode_value(value: float) -> float | str:
    """Write a point's value so that JSON keeps it, down to the kind of a NaN: one of them ends a series in Prometheus."""
    return value if value - value == 0 else f"0x{struct.pack('>d', value).hex()}"


def _decode_value(value: Any) -> Any:
    is_special = isinstance(value, str) and _SPECIAL.fullmatch(value)
    return struct.unpack(">d", bytes.fromhex(value[2:]))[0] if is_special else value


def encode_in_batches(
    records: Iterable[SpoolRecord], max_records: int, max_bytes: int
) -> Iterator[list[bytes]]:
    """Write records as lines, so many records and, unless one alone is longer, so many bytes at a time."""
    size = 0
    lines: list[bytes] = []
    for record in records:
        line = encode_record(record).encode("ascii") + b"\n"
        if lines and (len(lines) == max_records or size + len(line) > max_bytes):
            yield lines
            size, lines = 0, []
        lines.append(line)
        size += len(line)
    if lines:
        yield lines


def decode_record(line: bytes) -> SpoolRecord:
    """Read such a line; raises ``ValueError`` if it is not a record.

    Members that a later version added are ignored.
    """
    if holds_too_much(line):
        raise ValueError("holds too many values")
    try:
        members = json.loads(line)
        record = SpoolRecord(**{name: members[name] for name in SpoolRecord._fields if name in members})
    except (TypeError, RecursionError):
        raise ValueError("not a record") from None
    if not _has_types(record):
        raise ValueError("not a record")
    return record


def _has_types(record: SpoolRecord) -> bool:
    texts = (record.source, record.outcome, record.reason)
    return (
        all(isinstance(text, str) for text in texts)
        and (record.coordinates is None or isinstance(record.coordinates, str))
        and (record.time_ms is None or _is_time(record.time_ms))
        and isinstance(record.places, (list, tuple))
        and all(isinstance(place, str) for place in record.places)
        and (record.format is None or isinstance(record.format, str))
        and (record.hint is None or _is_hint(record.hint))
    )


def _is_hint(hint: Any) -> bool:
    if not isinstance(hint, dict):
        return False
    labels = hint.get("labels", {})
    return isinstance(labels, dict) and all(
        isinstance(text, str)
        for name, member in hint.items()
        for text in (member.values() if name == "labels" else (member,))
    )


def _is_time(value: Any) -> bool:
    return type(value) is int and abs(value) < _MAX_TIME_MS


BASE64_REMARK = " (kept as the base64 of its bytes)"


def payload_text(payload: Any) -> tuple[str, str]:
    """Write a payload that is not valid as JSON text, as its producer wrote it; and a remark if that is impossible."""
    if isinstance(payload, bytes):
        try:
            return payload.decode(), ""
        except UnicodeDecodeError:
            return b64encode(payload).decode("ascii"), BASE64_REMARK
    try:
        return json_text(payload), ""
    except (TypeError, ValueError, RecursionError):
        # Only a payload that no JSON text held: a direct invocation's, or one nested too deeply.
        return "null", " (its payload cannot be written down)"


def json_text(value: Any) -> str:
    """Write decoded JSON as text; what JSON does not allow is written as it stood there."""
    try:
        return _dump(value)
    except TypeError:
        return _written(value)


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _written(value: Any) -> str:
    if isinstance(value, NotJson):
        return value.raw if isinstance(value.raw, str) else _written_members(value.raw)
    if isinstance(value, dict):
        return _written_members(value.items())
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return _dump(value)


def _written_members(pairs: Iterable[tuple[str, Any]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{_written(value)}" for name, value in pairs) + "}"


def message_of(record: SpoolRecord, receipt: int | None = None) -> Message:
    """Make the message that a replay hands in: see ``Message``."""
    # What was invalid is kept as its producer wrote it, and nothing else is.
    is_valid = record.outcome != Outcome.INVALID.value
    return Message(
        record.source,
        _valid_body(record.payload) if is_valid else _invalid_body(record),
        record.coordinates,
        record.time_ms,
        receipt=receipt,
        already_validated=is_valid,
        places=tuple(record.places),
        format=record.format,
        hint=_hint(record.hint or {}),
    )


def _valid_body(payload: Any) -> Any:
    if isinstance(payload, dict) and "value" in payload:
        payload["value"] = _decode_value(payload["value"])
    return payload


def _invalid_body(record: SpoolRecord) -> str | bytes:
    payload = record.payload
    if not isinstance(payload, str):
        # As text it takes a small part of the memory, until its turn comes.
        return _dump(payload)
    if record.is_base64:
        with contextlib.suppress(ValueError):
            return b64decode(payload)
    return payload


def _hint(members: Mapping[str, Any]) -> FormatHint:
    known = {name: members[name] for name in FormatHint._fields if name in members}
    return FormatHint(**known)


class Chunk(Protocol):
    """A part of the spool, small enough for memory, being replayed."""

    @property
    def dead(self) -> bool:
        """Whether its records are dead letters."""

    @property
    def messages(self) -> Sequence[Message]:
        """Its records that are still to be replayed, by their time; ``receipt`` is what ``acknowledge`` takes.

        What is no record is a broken message without a receipt.
        """

    def acknowledge(self, receipts: Sequence[int]) -> None:
        """Never replay these records again; written down at once.

        Raises:
            SpoolError: it could not be written; the records may be replayed again.
        """

    def close(self) -> None:
        """Delete what is acknowledged, as far as that has not been done."""


def by_time(messages: Iterable[Message]) -> list[Message]:
    """Put messages into the order of their time; those of the same time stay in their order."""
    return sorted(messages, key=lambda message: message.time_ms or 0)


class SpoolLevel(NamedTuple):
    """How full a spool is.

    Attributes:
        used_bytes: of points and dead letters, as they are stored.
        oldest_ms: when the oldest points that wait were written, Unix milliseconds; None if none wait.
        dead_letters: how many there are.
    """

    used_bytes: int
    oldest_ms: int | None
    dead_letters: int


class SpoolStore(Protocol):
    """Keeps records until they are acknowledged; used by one thread at a time, which it may keep waiting.

    Attributes:
        fixed_s: how long a write takes at first sight, whatever it writes, seconds.
        per_record_s: and for each record besides.
    """

    fixed_s: float
    per_record_s: float

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        """Keep all of them, or say that they are not kept; no more than a few megabytes of them are in memory at once.

        Raises:
            SpoolError: none is kept, or the store failed before it could take back what it had written.
        """

    def waiting(self, *, dead_letters: bool) -> int:
        """How many records a replay would meet.

        Raises:
            SpoolError: it cannot be read.
        """

    def measure(self) -> SpoolLevel:
        """How full it is; reads no record.

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

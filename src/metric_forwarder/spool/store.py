"""The records of the spool: points that could not be delivered now, and dead letters.

A ``SpoolStore`` stores records without a time limit. ``bounded`` ensures that no event waits for it past its deadline;
``policies`` decides what is stored, and when a stored record may be deleted.
"""

import contextlib
import json
import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.formats import Format
from metric_forwarder.formats.json_text import NotJson, holds_too_much
from metric_forwarder.formats.samples import Sample
from metric_forwarder.model import FormatHint, Message, Outcome

# The largest time, in milliseconds.
_MAX_TIME_MS = 10**15


class SpoolError(Exception):
    """The spool could not be written or read; the text says why and what to do."""


class SpoolRecord(NamedTuple):
    """One kept payload: JSON in, JSON out.

    Attributes:
        payload: a point; or JSON text, as a producer wrote it, if no point could be made of it.
        source: the message that it came from, by its name in a report.
        coordinates: the identity of its place, the same for a replay and for a redelivery.
        time_ms: when it was measured as far as that is known: a replay must not make it younger.
        outcome: why it is here: ``undelivered``, or the outcome that made it a dead letter. Unless that is ``invalid``, the
            payload is a valid point, written again.
        is_written_again: whether the payload is a point that was valid before; rules have been applied to it.
        reason: the text of its problem.
        places: see ``Message``.
        format: see ``Message``; of an invalid payload. ``sample``: its members are those of a ``Sample``, except its place.
        hint: the members of a ``FormatHint`` that differ from the default; of an invalid payload.
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
    is_written_again: bool = False


# The prefix of a value that JSON does not have, written as its 64 bits.
_SPECIAL = re.compile("0x[0-9a-f]{16}")


def encode_record(record: SpoolRecord) -> str:
    """Write a record as one line of ASCII."""
    members = record._asdict()
    for name, usual in SpoolRecord._field_defaults.items():
        if members[name] == usual or not members[name]:
            # Left out, so that earlier versions can read the record.
            del members[name]
    return json.dumps(members, separators=(",", ":"))


def encode_value(value: float) -> float | str:
    """Write a point's value so that JSON keeps it, even the bits of a NaN: one NaN ends a series in Prometheus."""
    return value if value - value == 0 else f"0x{struct.pack('>d', value).hex()}"


def _decode_value(value: Any) -> Any:
    is_special = isinstance(value, str) and _SPECIAL.fullmatch(value)
    return struct.unpack(">d", bytes.fromhex(value[2:]))[0] if is_special else value


# In place of a format, since only the spool writes it.
SAMPLE = "sample"
_MEMBERS = frozenset(Sample._fields) - {"where"}


def encode_sample(sample: Sample) -> dict[str, Any]:
    """Write a sample of another format, so that a replay does not need the rest of its message."""
    usual = Sample._field_defaults
    members = {
        name: value
        for name, value in sample._asdict().items()
        if name in _MEMBERS and (name not in usual or value != usual[name])
    }
    return {**members, "dimensions": dict(sample.dimensions), "value": encode_value(sample.value)}


def _sample_of(members: Mapping[str, Any]) -> Sample:
    return Sample("", **{**members, "value": _decode_value(members["value"])})


def encode_in_batches(
    records: Iterable[SpoolRecord], max_records: int, max_bytes: int
) -> Iterator[list[bytes]]:
    """Write records as lines, in groups of at most this many records and bytes; a longer record is a group of its own."""
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


# In a tuple, since what is looked for may be anything that JSON can say.
_FORMATS = (*(each.value for each in Format), SAMPLE)


def _has_types(record: SpoolRecord) -> bool:
    texts = (record.source, record.outcome, record.reason)
    return (
        all(isinstance(text, str) for text in texts)
        and (record.coordinates is None or isinstance(record.coordinates, str))
        and (record.time_ms is None or _is_time(record.time_ms))
        and isinstance(record.places, (list, tuple))
        and all(isinstance(place, str) for place in record.places)
        and (record.format is None or record.format in _FORMATS)
        and (record.hint is None or _is_hint(record.hint))
        and (record.format != SAMPLE or _are_members(record.payload))
    )


def _are_members(payload: Any) -> bool:
    """Whether these are the members of a sample, as ``encode_sample`` writes them."""
    if not isinstance(payload, dict) or not {"metric", "dimensions", "value"} <= payload.keys() <= _MEMBERS:
        return False
    labels, time_ns = payload["dimensions"], payload.get("time_ns")
    texts = [payload.get(name, "") for name in ("metric", "namespace", "apart")]
    return (
        isinstance(labels, dict)
        and all(isinstance(text, str) for text in (*texts, *labels.values()))
        and type(_decode_value(payload["value"])) in (int, float)
        and (time_ns is None or type(time_ns) is int)
        and type(payload.get("is_delta", False)) is bool
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
    """Write an invalid payload as JSON text, as its producer wrote it, and a remark if that is impossible."""
    if isinstance(payload, bytes):
        try:
            return payload.decode(), ""
        except UnicodeDecodeError:
            return b64encode(payload).decode("ascii"), BASE64_REMARK
    try:
        return json_text(payload), ""
    except (TypeError, ValueError, RecursionError):
        # Only a payload that did not come as JSON text, from a direct invocation, or one that is nested too deeply.
        return "null", " (its payload cannot be written down)"


def json_text(value: Any) -> str:
    """Write decoded JSON as text; values that JSON does not allow are written as in the original."""
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
    """Make the message for a replay: see ``Message``."""
    # Only an invalid payload is kept as its producer wrote it.
    is_valid = record.outcome != Outcome.INVALID.value or record.is_written_again
    is_sample = record.format == SAMPLE
    if is_sample:
        body: Any = _sample_of(record.payload)
    else:
        body = _valid_body(record.payload) if is_valid else _invalid_body(record)
    return Message(
        record.source,
        body,
        record.coordinates,
        record.time_ms,
        receipt=receipt,
        already_validated=is_valid,
        places=tuple(record.places),
        format=None if is_sample else record.format,
        hint=_hint(record.hint or {}),
    )


def _valid_body(payload: Any) -> Any:
    if isinstance(payload, dict) and "value" in payload:
        payload["value"] = _decode_value(payload["value"])
    return payload


def _invalid_body(record: SpoolRecord) -> str | bytes:
    payload = record.payload
    if not isinstance(payload, str):
        # As text it takes much less memory until it is read.
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

        An entry that is not a record is a broken message without a receipt.
        """

    def acknowledge(self, receipts: Sequence[int]) -> None:
        """Never replay these records again; written down at once.

        Raises:
            SpoolError: it could not be written; the records may be replayed again.
        """

    def close(self) -> None:
        """Delete acknowledged records that have not been deleted yet."""


def by_time(messages: Iterable[Message]) -> list[Message]:
    """Sort messages by their time; messages with the same time keep their order."""
    return sorted(messages, key=lambda message: message.time_ms or 0)


class SpoolLevel(NamedTuple):
    """How full a spool is.

    Attributes:
        used_bytes: of points and dead letters, as they are stored.
        oldest_ms: when the oldest waiting points were written, Unix milliseconds; None if no points wait.
        dead_letters: how many there are.
    """

    used_bytes: int
    oldest_ms: int | None
    dead_letters: int


class SpoolStore(Protocol):
    """Keeps records until they are acknowledged; used by one thread at a time, and may block it.

    Attributes:
        fixed_s: the assumed time of a write, without its records, seconds.
        per_record_s: the assumed time for each record, seconds.
    """

    fixed_s: float
    per_record_s: float

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        """Keep all of them or none; at most a few megabytes of them are in memory at once.

        Raises:
            SpoolError: none is kept, or the store failed before it could remove those that it had written.
        """

    def waiting(self, *, dead_letters: bool) -> int:
        """The number of records that a replay would read.

        Raises:
            SpoolError: it cannot be read.
        """

    def measure(self) -> SpoolLevel:
        """How full it is; reads no record.

        Raises:
            SpoolError: it cannot be read.
        """

    def others(self) -> Sequence[str]:
        """Other functions with records in the same place, as far as that is visible.

        Raises:
            SpoolError: it cannot be read.
        """

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator[Chunk, None, None]:
        """Yield the oldest first; during the iteration no other replay of this spool runs.

        Args:
            dead_letters: whether they are replayed after the points.
            lease_s: the longest time of the replay, seconds; if it dies, another may begin after this time.

        Raises:
            SpoolError: it cannot be read, or another replay is running.
        """

"""Decides what is stored in the spool, and when a stored record may be deleted."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, Protocol

from metric_forwarder.formats.samples import Sample
from metric_forwarder.model import Batch, DeadLetter, FormatHint, Message, Outcome, Point
from metric_forwarder.spool.store import (
    BASE64_REMARK,
    SAMPLE,
    Chunk,
    SpoolError,
    SpoolRecord,
    encode_sample,
    encode_value,
    json_text,
    payload_text,
)
from metric_forwarder.times import MILLISECONDS_FROM, NS_PER_MS, NUMBERS_BELOW, rfc3339

# The most invalid points of an event that are kept: their number takes time to write, their bytes take memory and space.
MAX_DEAD_LETTERS = 20_000
MAX_DEAD_LETTER_BYTES = 12 * 2**20
# If a dead letter smaller than this does not fit, the box counts as full.
_USUAL_BYTES = 65_536
# The same after so many bytes of larger ones: one alone may be a whole message.
_MAX_BYTES_IN_VAIN = 4 * MAX_DEAD_LETTER_BYTES
# The bytes of a record besides its texts.
_RECORD_BYTES = 300
# The most points of an envelope in one dead letter: delivered ones are kept until all of them are settled.
_MAX_GROUP = 500
_MAX_GROUP_BYTES = 2**18
_USUAL = FormatHint()


class RecordWriter(Protocol):
    """Writes records within the time of an event."""

    def reserve_s(self, records: int) -> float:
        """The time to write a number of records, learned from earlier writes, seconds."""

    def write(self, count: int, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        """Keep all of them or none; ``count`` says how many there are.

        Raises:
            SpoolError: none is kept, or it is unknown; records that were kept after all are recognised when they are replayed.
        """


class SpoolingPolicy:
    """Writes the undelivered points and the dead letters of an event into the spool.

    Args:
        complain: called with an error if something could not be kept.
        now_ms: when the event was received, Unix milliseconds; the time of dead letters whose message has none.
        keeps_dead_letters: False for events that the platform redelivers.
    """

    def __init__(
        self,
        writer: RecordWriter,
        complain: Callable[[str], None],
        now_ms: int,
        *,
        keeps_dead_letters: bool = True,
    ) -> None:
        self._writer = writer
        self._complain = complain
        self._letters = DeadLetterBox(now_ms)
        self._keeps_dead_letters = keeps_dead_letters

    takes_parts = True

    @property
    def has_room(self) -> bool:
        return self._keeps_dead_letters and self._letters.has_room

    def add(self, letter: DeadLetter) -> None:
        if self._keeps_dead_letters and not self._letters.add(letter):
            self._letters.left_out += 1

    def skip(self, message: Message) -> None:  # noqa: ARG002 - the port's
        if self._keeps_dead_letters:
            self._letters.left_out += 1

    def reserve_s(self, points: int) -> float:
        return self._writer.reserve_s(points + self._letters.count)

    def delivered(self, points: Batch) -> None:
        """Nothing was kept."""

    def keep(self, undelivered: Sequence[Point]) -> Outcome:
        left_out = self._letters.left_out
        if left_out:
            what = "1 invalid point is not kept as a dead letter"
            if left_out > 1:
                what = f"{left_out} invalid points are not kept as dead letters"
            megabytes = MAX_DEAD_LETTER_BYTES // 2**20
            self._complain(f"{what}: of one event, at most {MAX_DEAD_LETTERS} or {megabytes} MB are")
        count = len(undelivered) + self._letters.count
        if count:
            try:
                self._writer.write(count, map(_point_record, undelivered), self._letters.records())
            except SpoolError as error:
                self._complain(str(error))
                return Outcome.UNDELIVERED
            finally:
                self._letters.clear()
        return Outcome.SPOOLED


class ReplayPolicy:
    """Acknowledges the records of a chunk: each delivered one at once, the others when their fate is known.

    A point that the destination now refuses becomes a dead letter; a dead letter that is still refused stays.
    """

    def __init__(
        self, chunk: Chunk, writer: RecordWriter, complain: Callable[[str], None], now_ms: int
    ) -> None:
        self._chunk = chunk
        self._writer = writer
        self._complain = complain
        self._letters = DeadLetterBox(now_ms)
        # Receipts: of records that stay, of those with dead letters, and of lists of which some points were delivered.
        self._staying: set[int | None] = set()
        self._refused: set[int | None] = set()
        self._begun: set[int | None] = set()

    # A record is acknowledged once all of it is settled.
    takes_parts = False

    @property
    def has_room(self) -> bool:
        return self._letters.has_room

    def add(self, letter: DeadLetter) -> None:
        receipt = letter.message.receipt
        if receipt is None:
            # It was set aside by the spool itself.
            return
        self._refused.add(receipt)
        is_part = letter.pointer != ""
        if (is_part or not self._chunk.dead) and not self._letters.add(letter):
            self._staying.add(receipt)

    def skip(self, message: Message) -> None:
        self._staying.add(message.receipt)

    def reserve_s(self, points: int) -> float:
        return self._writer.reserve_s(points + self._letters.count)

    def delivered(self, points: Batch) -> None:
        # A record of several points waits until all of them are settled.
        self._acknowledge([point.message.receipt for point in points if not point.pointer])
        self._begun.update(point.message.receipt for point in points if point.pointer)

    def keep(self, undelivered: Sequence[Point]) -> Outcome:
        left = {point.message.receipt for point in undelivered}
        rewritten = self._rewritten(left) - self._staying
        if not self._write(rewritten, undelivered):
            rewritten = set()
        staying = (left | self._refused | self._staying) - rewritten
        receipts = [message.receipt for message in self._chunk.messages]
        self._acknowledge([receipt for receipt in receipts if receipt not in staying])
        self._chunk.close()
        return Outcome.SPOOLED

    def _rewritten(self, left: set[int | None]) -> set[int | None]:
        """The records that are replaced by others: the rest of a list, and the first dead letters of a point."""
        lists = self._begun & (left | self._refused)
        return lists if self._chunk.dead else lists | (self._refused - left)

    def _write(self, receipts: set[int | None], undelivered: Sequence[Point]) -> bool:
        points = [point for point in undelivered if point.message.receipt in receipts]
        letters = list(self._letters.records(receipts))
        if not points and not letters:
            return True
        try:
            self._writer.write(len(points) + len(letters), map(_point_record, points), letters)
        except SpoolError as error:
            self._complain(str(error))
            return False
        return True

    def _acknowledge(self, receipts: Sequence[int | None]) -> None:
        self._chunk.acknowledge([receipt for receipt in receipts if receipt is not None])


class DeadLetterBox:
    """The dead letters of an event until they are written, within bounds.

    Points of one envelope with the same error are one dead letter, so that the parts that they share are kept once.

    Attributes:
        count: how many records they are.
        left_out: how many did not fit; the caller counts them.
    """

    def __init__(self, now_ms: int) -> None:
        self.count = 0
        self.left_out = 0
        self._now_ms = now_ms
        self._points = 0
        self._bytes = self._bytes_in_vain = 0
        self._is_full = False
        self._letters: list[_Letter] = []
        # Only of the last message, so that the box does not keep finished messages in memory.
        self._message: Message | None = None
        self._groups: dict[str, _Group] = {}

    @property
    def has_room(self) -> bool:
        return not self._is_full and self._points < MAX_DEAD_LETTERS and self._bytes < MAX_DEAD_LETTER_BYTES

    def clear(self) -> None:
        """Drop the written records; their size still counts towards the limits."""
        self._letters, self._groups, self._message = [], {}, None
        self.count = self.left_out = 0

    def add(self, letter: DeadLetter) -> bool:
        """Keep a dead letter; return whether there was room for it."""
        if isinstance(letter.payload, Point):
            # It is in memory anyway, and a producer cannot make it large.
            self._append(_RejectedPoint(letter, letter.payload))
            return True
        if not self.has_room:
            return False
        text, remark = _letter_text(letter)
        size = _written_size(text)
        if self._bytes + size > MAX_DEAD_LETTER_BYTES:
            # So that those that follow are not encoded, only to find that they do not fit either.
            self._bytes_in_vain += size
            self._is_full = size < _USUAL_BYTES or self._bytes_in_vain > _MAX_BYTES_IN_VAIN
            return False
        self._points += 1
        self._bytes += size
        if letter.envelope is None:
            record = self._record(letter, text, letter.problem.message + remark)
            record = record._replace(is_base64=remark == BASE64_REMARK)
            self._append(_Invalid(record, letter.message.receipt))
        else:
            self._group(letter, letter.envelope).add(letter.pointer, text)
        return True

    def records(self, receipts: "set[int | None] | None" = None) -> Iterator[SpoolRecord]:
        """The records to write; in a replay, only those that replace the records with these receipts."""
        for letter in self._letters:
            if receipts is None or letter.receipt in receipts:
                yield letter.record()

    def _append(self, letter: "_Letter") -> None:
        self._letters.append(letter)
        self.count += 1

    def _record(self, letter: DeadLetter, text: str, reason: str) -> SpoolRecord:
        message = letter.message
        is_sample = isinstance(letter.payload, Sample)
        self._bytes += _RECORD_BYTES + len(reason) + len(message.source) + len(message.coordinates or "")
        time_ms = self._now_ms if message.time_ms is None else message.time_ms
        return SpoolRecord(
            text,
            message.source,
            message.place(letter.pointer),
            time_ms,
            letter.problem.outcome.value,
            reason,
            format=SAMPLE if is_sample else message.format,
            hint=None if is_sample else _unusual(message.hint) or None,
            is_written_again=_is_written_again(letter),
        )

    def _group(self, letter: DeadLetter, envelope: Mapping[str, Any]) -> "_Group":
        """The group of points of this message with the same error."""
        if letter.message is not self._message:
            self._message, self._groups = letter.message, {}
        group = self._groups.get(letter.problem.message)
        if group is None or group.is_full:
            around, remark = payload_text(envelope)
            if remark:
                around = "{}"
            record = self._record(letter, around, letter.problem.message + remark)
            self._bytes += _written_size(around)
            group = _Group(record._replace(coordinates=letter.message.coordinates), letter.message)
            self._groups[letter.problem.message] = group
            self._append(group)
        return group


class _Letter(Protocol):
    """A dead letter in the box."""

    @property
    def receipt(self) -> int | None: ...

    def record(self) -> SpoolRecord: ...


class _Invalid:
    def __init__(self, record: SpoolRecord, receipt: int | None) -> None:
        self._record = record
        self.receipt = receipt

    def record(self) -> SpoolRecord:
        record = self._record
        if record.format == SAMPLE or record.is_written_again:
            # Its members were kept as text until now, which takes a tenth of the memory.
            return record._replace(payload=json.loads(record.payload))
        return record


class _RejectedPoint:
    """A valid point that the destination refused, or that is too old."""

    def __init__(self, letter: DeadLetter, point: Point) -> None:
        self._point = point
        self._problem = letter.problem
        self.receipt = point.message.receipt

    def record(self) -> SpoolRecord:
        outcome, reason = self._problem.outcome.value, self._problem.message
        return _point_record(self._point)._replace(outcome=outcome, reason=reason)


class _Group:
    """Points of one envelope with the same error; the payload of their record is an envelope of their own."""

    def __init__(self, around: SpoolRecord, message: Message) -> None:
        self._around = around
        self.receipt = message.receipt
        self._message = message
        self._texts: list[str] = []
        self._places: list[str] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self._texts) >= _MAX_GROUP or self._bytes >= _MAX_GROUP_BYTES

    def add(self, pointer: str, text: str) -> None:
        self._texts.append(text)
        self._places.append(self._message.origin(pointer))
        self._bytes += len(text) + len(pointer)

    def record(self) -> SpoolRecord:
        head = self._around.payload.removesuffix("}")
        comma = "," if head != "{" else ""
        payload = f'{head}{comma}"points":[{",".join(self._texts)}]}}'
        return self._around._replace(payload=payload, places=self._places)


def point_payload(point: Point) -> dict[str, Any]:
    """Write a point as an equivalent payload."""
    series = point.series
    payload: dict[str, Any] = {"namespace": series.namespace} if series.namespace else {}
    payload |= {
        "metricName": series.metric,
        "dimensions": dict(series.dimensions),
        "value": encode_value(point.value),
    }
    if point.timestamp_ns is not None:
        payload["timestamp"] = _timestamp(point.timestamp_ns)
    if point.id is not None:
        payload["id"] = point.id
    return payload


def _timestamp(time_ns: int) -> float | str:
    """A time in the form of a payload: a number, if it would be read as the same nanosecond."""
    milliseconds, rest = divmod(time_ns, NS_PER_MS)
    if rest or not 0 <= milliseconds < NUMBERS_BELOW:
        return rfc3339(time_ns)
    return milliseconds if milliseconds >= MILLISECONDS_FROM else milliseconds / 1000


def _point_record(point: Point) -> SpoolRecord:
    message = point.message
    return SpoolRecord(
        point_payload(point),
        message.source,
        message.place(point.pointer),
        point.time_ms,
        Outcome.UNDELIVERED.value,
        "",
    )


def _unusual(hint: FormatHint) -> dict[str, Any]:
    """The members of a hint that differ from the default."""
    return {name: member for name, member in hint._asdict().items() if member != getattr(_USUAL, name)}


def _is_written_again(letter: DeadLetter) -> bool:
    """Whether it is a point that the spool has written before."""
    payload = letter.payload
    is_point = isinstance(payload, dict) and type(payload.get("value")) in (int, float)
    return letter.message.already_validated and is_point


def _letter_text(letter: DeadLetter) -> tuple[str, str]:
    """What a record keeps of a dead letter, as text: usually the producer's; and a remark if that is impossible."""
    payload = letter.payload
    if isinstance(payload, Sample):
        return json_text(encode_sample(payload)), ""
    if _is_written_again(letter):
        return json_text({**payload, "value": encode_value(payload["value"])}), ""
    is_member = "/" in letter.pointer
    if isinstance(payload, str) and not is_member:
        # A whole message, or a line of one.
        return payload, ""
    return payload_text(payload)


def _written_size(text: str) -> int:
    """The bytes of a text in a record: six for a character that is not ASCII, for example."""
    # The text of a message may be large, so it is not encoded if there is no room for it anyway.
    return len(text) if len(text) > MAX_DEAD_LETTER_BYTES else len(encode_basestring_ascii(text))

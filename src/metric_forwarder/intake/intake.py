"""Messages → points: decode, validate, give an identity. What cannot become a point is settled at once.

There are two paths. JSON text takes the fast path: many messages are decoded together, and points of known series are made
without validation. Everything unusual takes the careful path, which can say what is wrong with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from metric_forwarder import formats
from metric_forwarder.clock import Deadline
from metric_forwarder.formats import Format
from metric_forwarder.formats.json_text import Violation, has_bracket_line
from metric_forwarder.formats.payload import (
    Payload,
    decode_together,
    find_points,
    is_lone_point,
    is_our_own,
    read_payloads,
)
from metric_forwarder.formats.samples import (
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    as_point,
)
from metric_forwarder.intake.exclusions import DeadLetters, Exclusions, Origin
from metric_forwarder.intake.given_times import EventTimes, FindOffset
from metric_forwarder.intake.points import Candidates, IntakeParts, PointMaker
from metric_forwarder.intake.samples import why_not_carried
from metric_forwarder.model import Message, Outcome, Point, Problem
from metric_forwarder.reporting.ledger import Ledger

# Bytes of points held in memory at once, their series included; a larger event is delivered in parts.
MAX_PART_BYTES = 6 * 2**20
# Points that are made together, before the intake checks whether the part is full.
_TAKEN_TOGETHER = 256
# In place of a format: the trigger has read the samples itself.
_SAMPLE = "sample"
# The formats whose dead letters are single lines.
_OF_LINES = (Format.INFLUX, Format.PROMETHEUS_TEXT)
# How JSON of other formats usually begins: comparing this is cheaper than decoding twice.
_OTHER_FORMATS_BEGIN = ('{"resourceMetrics"', '{"fields"', '{"metrics"')
# Characters of the messages that are decoded by one call: enough to make its cost disappear.
_DECODED_TOGETHER = 32_768


class Intake:
    """Takes the messages of one event in.

    Args:
        parts: what lasts from one event to the next.
        ledger: gets a row for every point received, and the outcome of those that go no further.
        now_ms: when the event was received, Unix milliseconds; the time of points if neither they nor their message have one.
        find_offset_s: see ``FindOffset``; it may ask before a time is called wrong.
        dead_letters: keeps points that are neither delivered nor redelivered, with the reason; None: they are not kept.
        deadline: points are taken in until then; None: there is no limit.

    Attributes:
        is_late: whether something was not taken in because time was up.
    """

    def __init__(
        self,
        parts: IntakeParts,
        ledger: Ledger,
        now_ms: int,
        *,
        find_offset_s: FindOffset = lambda _: 0.0,
        dead_letters: DeadLetters | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self._rules = rules = parts.rules
        self._max_part_bytes: float = float("inf")
        self._ledger = ledger
        self._destination = parts.destination
        self._relabel = rules.relabel
        self._deadline = deadline
        self.is_late = False
        # Of the message on the careful path: the row of its first point.
        self._first_row = 0
        self._pending = Candidates()
        self._exclusions = Exclusions(ledger, dead_letters, rules.max_explained)
        # A destination that carries times takes old ones too.
        max_age_s = 0 if parts.destination.carries_timestamps else rules.max_age_s
        times = EventTimes(parts.given_times, now_ms, max_age_s, rules.max_ahead_s, find_offset_s)
        self._maker = PointMaker(parts, times, ledger, self._exclusions)

    @property
    def points(self) -> list[Point]:
        """The points to deliver, in the order in which they came."""
        return self._maker.points

    @property
    def stale(self) -> Mapping[int, Problem]:
        """Points that are too old, by number, with the reason; those that were delivered before are duplicates."""
        return self._maker.stale

    @property
    def unsure(self) -> AbstractSet[int]:
        """The numbers of points whose time looks wrong by a clock that nobody could confirm."""
        return self._maker.unsure

    @property
    def stopped_at(self) -> tuple[Message, int] | None:
        """The first message that was not taken in whole because time was up, and the number of points received before it."""
        return self._exclusions.stopped_at

    def take_all(self, messages: Iterable[Message]) -> None:
        """Receive the messages of an event, in their order: every point is counted, none is lost, nothing raises."""
        for _ in self._take_all(messages):
            pass

    def take_parts(self, messages: Iterable[Message]) -> Iterator[None]:
        """Receive the messages of an event in parts of bounded memory; yields after each part.

        At each yield ``points``, ``stale`` and ``unsure`` are those of one part; they are dropped when the next one begins.
        """
        self._max_part_bytes = MAX_PART_BYTES
        for _ in self._take_all(messages):
            yield
            self._maker.begin_part()
        yield

    # Every method that takes points in is a generator that yields whenever a part is full.

    def _take_all(self, messages: Iterable[Message]) -> Iterator[None]:
        together: list[Message] = []
        texts: list[str] = []
        size = 0
        for message in messages:
            text = self._json_text(message)
            if text is not None:
                together.append(message)
                texts.append(text)
                size += len(text)
            if text is None or size > _DECODED_TOGETHER:
                yield from self._take_together(together, texts)
                together, texts, size = [], [], 0
                if self._maker.size > self._max_part_bytes:
                    yield
            if text is None:
                yield from self._take_carefully(message)
        yield from self._take_together(together, texts)

    # --- the fast path -----------------------------------------------------------------------------------------

    def _json_text(self, message: Message) -> str | None:
        """A message's body, if it is text that may be decoded together with others."""
        body = message.body
        if message.broken is not None or message.left_out is not None:
            return None
        if message.format is not None or self._rules.format_of is not None:
            chosen = self._chosen_format(message)
            if chosen is not None and chosen is not Format.JSON:
                return None
        if type(body) is bytes:
            try:
                return body.decode()
            except UnicodeDecodeError:
                return None
        return body if type(body) is str else None

    def _take_together(self, messages: Sequence[Message], texts: Sequence[str]) -> Iterator[None]:
        """Take texts in together; if one is unusual, take each alone, and the unusual one carefully."""
        bodies = decode_together(texts) if messages and not self._must_leave(messages[0]) else None
        if bodies is not None:
            yield from self._take_bodies(messages, bodies)
        elif len(messages) == 1 or self.is_late:
            for message in messages:
                yield from self._take_carefully(message)
        else:
            for message, text in zip(messages, texts, strict=True):
                if text.startswith(_OTHER_FORMATS_BEGIN):
                    yield from self._take_carefully(message)
                else:
                    yield from self._take_together([message], [text])

    def _take_bodies(self, messages: Sequence[Message], bodies: Sequence[Any]) -> Iterator[None]:
        """Take decoded bodies in; usually each is a point."""
        if self._relabel is None:
            candidates = Candidates(messages, bodies)
            unusual = range(len(candidates)) if self.is_late else self._maker.take_together(candidates)
            if unusual is None:
                return
            if all(map(is_lone_point, bodies)):
                self._take_around(candidates, unusual)
                return
        for message, body in zip(messages, bodies, strict=True):
            if is_our_own(body):
                yield from self._take_payload(message, find_points(body))
            else:
                yield from self._take_carefully(message)
        self._take_pending()

    def _take_payload(self, message: Message, payload: Payload) -> Iterator[None]:
        """Take the points of our own JSON in, together with those of the messages around it."""
        if self._must_leave(message):
            first_row = self._ledger.received if payload.is_first else self._first_row
            self._exclusions.leave(message, payload.place, first_row)
            return
        if payload.violations:
            self._take_pending()
            self._exclusions.add_invalid_payload(message, payload)
            return
        relabel = None if message.already_validated else self._relabel
        for start in range(0, len(payload.points), _TAKEN_TOGETHER):
            raws = payload.merged(start, start + _TAKEN_TOGETHER)
            pending, points = self._pending, len(raws)
            pending.messages += [message] * points
            pending.pointers += payload.pointers(start, points)
            if relabel is None:
                pending.raws += raws
                pending.apart += [""] * points
            else:
                for raw in raws:
                    relabelled, was = relabel(raw)
                    pending.raws.append(relabelled)
                    pending.apart.append(was)
            pending.times_ns += [None] * points
            pending.payloads += [payload] * points
            pending.places += range(start, start + points)
            if len(pending) >= _TAKEN_TOGETHER:
                self._take_pending()
                if self._maker.size > self._max_part_bytes:
                    yield

    def _take_pending(self) -> None:
        """Make points of what was read so far."""
        pending, self._pending = self._pending, Candidates()
        if pending.raws:
            self._take_candidates(pending)

    def _take_candidates(self, candidates: Candidates) -> None:
        """Make points of candidates together; take unusual ones one by one, and the others between them together."""
        unusual = range(len(candidates)) if self.is_late else self._maker.take_together(candidates)
        if unusual is not None:
            self._take_around(candidates, unusual)

    def _take_around(self, candidates: Candidates, unusual: Sequence[int]) -> None:
        """Make points of candidates of which some are unusual; if no places are given, try each half."""
        last = len(candidates)
        if last == 1:
            self._take_one(candidates, 0)
        elif unusual:
            start = 0
            for place in (*unusual, last):
                if start < place:
                    self._take_candidates(candidates.part(start, place))
                if place < last:
                    self._take_one(candidates, place)
                start = place + 1
        else:
            self._take_candidates(candidates.part(0, last // 2))
            self._take_candidates(candidates.part(last // 2, last))

    def _take_one(self, candidates: Candidates, nth: int) -> None:
        message = candidates.messages[nth]
        # A rule leaves None in place of a point; a producer's own null is invalid.
        is_dropped = candidates.raws[nth] is None and candidates.origin(nth).raw is not None
        if is_dropped:
            self._exclusions.filter(message, candidates.pointers[nth], "relabel", _BY_RULE)
        elif self._must_leave(message):
            origin = candidates.origin(nth)
            is_ours = origin.payload.is_first and not isinstance(origin.raw, Sample)
            first_row = self._ledger.received - origin.nth if is_ours else self._first_row
            self._exclusions.leave(message, origin.pointer, first_row)
        else:
            self._maker.take(candidates, nth)

    # --- the careful path --------------------------------------------------------------------------------------

    def _take_carefully(self, message: Message) -> Iterator[None]:
        """Take a message of any kind in, by itself."""
        if self._must_leave(message):
            self._exclusions.leave(message, "", self._ledger.received)
            return
        self._take_pending()
        self._first_row = self._ledger.received
        if message.left_out is not None:
            self._exclusions.filter(message, "", "own-log", message.left_out)
        elif message.broken is not None:
            outcome = Outcome.UNDELIVERED if message.retriable else Outcome.INVALID
            problem = Problem(outcome, message.source, "", "record", None, message.broken)
            self._exclusions.settle(Origin.alone(message, "", message.body), [problem])
        elif isinstance(message.body, (Sample, InvalidSample, FilteredSample)):
            yield from self._take_readings(message, [message.body], _SAMPLE)
        else:
            found, body = self._detect(message)
            if isinstance(found, InvalidSample):
                self._take_reading(message, found)
            elif found is Format.JSON:
                for payload in read_payloads(message.body):
                    yield from self._take_payload(message, payload)
                self._take_pending()
            else:
                if found in _OF_LINES and self._chosen_format(message) is None:
                    # A line by itself may look like another format, so its dead letter says which one it is.
                    message = message._replace(format=found.value)
                readings = formats.read(found, body, self._hint_of(message), self._rules.mapping)
                yield from self._take_readings(message, readings, found.value)

    def _take_readings(self, message: Message, readings: Iterable[Reading], name: str) -> Iterator[None]:
        """Take in what the reader of another format found."""
        first = self._ledger.received
        for reading in readings:
            self._take_reading(message, reading)
            if len(self._pending) >= _TAKEN_TOGETHER:
                self._take_pending()
                if self._maker.size > self._max_part_bytes:
                    yield
        self._take_pending()
        self._ledger.note_format(name, first)

    def _take_reading(self, message: Message, reading: Reading) -> None:
        where = reading.where
        if self._must_leave(message):
            self._exclusions.leave(message, where, self._first_row)
        elif isinstance(reading, Sample):
            self._take_sample(message, reading)
        elif isinstance(reading, InvalidSample):
            self._take_pending()
            violation = Violation(where, reading.rule, reading.message)
            if reading.format is not None:
                message = message._replace(format=reading.format)
            self._exclusions.add_invalid(Origin.alone(message, where, reading.raw), [violation])
        else:
            self._take_pending()
            self._exclusions.filter(message, where, reading.rule, reading.message)

    def _take_sample(self, message: Message, sample: Sample) -> None:
        raw, apart = as_point(sample), sample.apart
        if self._relabel is not None:
            raw, was = self._relabel(raw)
            apart += was
        exclusion = why_not_carried(sample, self._destination) if raw is not None else None
        if exclusion is not None:
            self._take_reading(message, exclusion)
            return
        pending = self._pending
        pending.messages.append(message)
        pending.pointers.append(sample.where)
        pending.raws.append(raw)
        pending.times_ns.append(sample.time_ns)
        pending.payloads.append(sample)
        pending.places.append(0)
        pending.apart.append(apart)

    # --- what a message is -------------------------------------------------------------------------------------

    def format_of(self, message: Message) -> Format | InvalidSample:
        """The format of a message: from its trigger or a setting, otherwise detected by its shape."""
        return self._detect(message)[0]

    def _detect(self, message: Message) -> tuple[Format | InvalidSample, Any]:
        """Return the format of a message, and its body, decoded if detection needed that."""
        if message.already_validated:
            return Format.JSON, message.body
        chosen = self._chosen_format(message)
        if chosen is not None:
            return chosen, message.body
        # Most messages are our own JSON, and never need this.
        from metric_forwarder.formats.detect import detect_decoding  # noqa: PLC0415

        has_mapping = self._rules.mapping is not None
        found, body = detect_decoding(message.body, message.hint, has_mapping=has_mapping)
        # If the beginning fits no format, our own reader continues with the next value, and says what is wrong.
        is_lost = isinstance(found, InvalidSample) and has_bracket_line(message.body)
        return Format.JSON if is_lost else found, body

    def _chosen_format(self, message: Message) -> Format | None:
        if message.format is not None:
            return Format(message.format)
        return self._rules.format_of(message.source) if self._rules.format_of is not None else None

    def _hint_of(self, message: Message) -> FormatHint:
        """Return the hint of a message, completed by the settings."""
        usual = self._rules.hint
        precision = message.hint.precision or usual.precision
        return message.hint._replace(precision=precision, resource_attributes=usual.resource_attributes)

    def _must_leave(self, message: Message) -> bool:
        """Whether time is up. Messages replayed from the spool are always taken in: a chunk of them is small."""
        if self._deadline is not None and not self.is_late and self._deadline.remaining() <= 0:
            # Points that were read while there was time are made.
            self._take_pending()
            self.is_late = True
        return self.is_late and message.receipt is None


_BY_RULE = "is dropped by a rule of MF_RELABEL"

"""Messages → points: decode, validate, give an identity. What cannot become a point is settled here and now."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder import formats
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.formats import Format
from metric_forwarder.formats.payload import (
    Payload,
    Violation,
    decode_together,
    find_points,
    has_bracket_line,
    is_our_own,
    read_payloads,
)
from metric_forwarder.formats.samples import (
    Decoder,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    is_stale_marker,
)
from metric_forwarder.intake.given_times import EventTimes, GivenTimes
from metric_forwarder.intake.schema import MAX_FLOAT, PointSchema, is_finite
from metric_forwarder.intake.series import KnownSeries, as_text
from metric_forwarder.model import DeadLetter, Message, Outcome, Point, Problem, Series
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.times import (
    MAX_NS,
    MIN_NS,
    NS_PER_MS,
    NS_PER_S,
    NUMBERS_BELOW,
    nanoseconds,
    to_milliseconds,
)

_REQUIRED_MEMBERS = 3  # metricName, dimensions, value
_NO_HINT = FormatHint()
# Characters of the messages that are decoded by one call: enough to make its cost disappear.
_DECODED_TOGETHER = 32_768


class Relabelled(Protocol):
    """A point's namespace, metric and labels behind the last rule; see ``intake.relabel``."""

    @property
    def namespace(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


class IntakeRules(NamedTuple):
    """What an event's points must be like.

    Attributes:
        now_ms: when the event was received, Unix milliseconds: the time of points whose message brought none either.
        max_bytes: a larger point is invalid: it fits into no request.
        default_namespace: for points that name none.
        max_age_s: a point with an older timestamp is stale; 0: none is.
        max_ahead_s: a point whose time is further ahead of the clock is invalid; 0: none is.
        format_of: the format of a message by its source; None, or if it says None: its shape tells it.
        hint: what a setting says of messages whose way says nothing.
        relabel: what rules make of a point's namespace, metric and labels, None if they drop it; None: there are none.
        mapping: reads JSON of no known format; None: there is no mapping.
        max_explained: of so many invalid points it is said what is wrong: that costs much more than finding them.
    """

    now_ms: int
    max_bytes: int
    default_namespace: str = ""
    max_age_s: float = 0
    max_ahead_s: float = 0
    max_explained: int = 100
    format_of: Callable[[str], Format | None] | None = None
    hint: FormatHint = FormatHint()
    relabel: Callable[[str, str, Mapping[str, str]], Relabelled | None] | None = None
    mapping: Decoder | None = None


class DeadLetters(Protocol):
    """Collects the dead letters of an event, as far as there is a place and room for them."""

    @property
    def has_room(self) -> bool:
        """Whether another one may be kept."""

    def add(self, letter: DeadLetter) -> None:
        """Keep one, or count it as not kept."""

    def skip(self, message: Message) -> None:
        """Count one of this message as not kept: there is no room for it."""


class Intake:
    """Takes the messages of one event in.

    Args:
        ledger: gets a row for every point received, and the outcome of those that go no further.
        destination: writes a point as a request holds it, and says what it carries.
        known: the series met so far; those of this event are added.
        given_times: what was given to points without a time before this event; None: nothing.
        dead_letters: gets everything that is neither delivered nor redelivered, with the reason; None: it is not kept.
        deadline: until when points are taken in; None: however long it takes.

    Attributes:
        points: the points to deliver, in the order in which they came.
        stale: why some of them, by their numbers, are too old to be delivered, unless they have been already.
    """

    def __init__(
        self,
        schema: PointSchema,
        identifier: Identifier,
        ledger: Ledger,
        *,
        destination: Destination,
        known: KnownSeries,
        rules: IntakeRules,
        given_times: GivenTimes | None = None,
        dead_letters: DeadLetters | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self._schema = schema
        self._identity = identifier.identity
        self._ledger = ledger
        self._destination = destination
        self._encode = destination.encode
        self._carries_timestamps = destination.carries_timestamps
        self._known = known
        self._recognise = known.by_point.get
        self._rules = rules
        self._relabel = rules.relabel
        now_ns = rules.now_ms * NS_PER_MS
        self._oldest_ns = now_ns - round(rules.max_age_s * NS_PER_S) if rules.max_age_s else float("-inf")
        self._latest_ns = now_ns + round(rules.max_ahead_s * NS_PER_S) if rules.max_ahead_s else float("inf")
        self._now_ms = rules.now_ms
        self._max_bytes = rules.max_bytes
        self._latest_ms = rules.now_ms + rules.max_ahead_s * 1000 if rules.max_ahead_s else float("inf")
        self._next_ms = EventTimes(given_times or GivenTimes(), rules.now_ms).next_ms
        self._explanations_left = rules.max_explained
        self._dead_letters = dead_letters
        self._deadline = deadline
        self._is_late = self._has_left = False
        self.points: list[Point] = []
        self.stale: dict[int, Problem] = {}

    # --- messages ----------------------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """Receive a message: every point in it is counted, none is lost, nothing raises."""
        self.take_all((message,))

    def take_all(self, messages: Iterable[Message]) -> None:
        """Receive the messages of an event, in their order; texts of JSON are decoded together."""
        together: list[Message] = []
        texts: list[str] = []
        size = 0
        is_usual = self._rules.format_of is None
        for message in messages:
            text = message.body
            if (
                type(text) is not str
                or not is_usual
                or message.broken is not None
                or message.left_out is not None
                or message.format is not None
            ):
                text = self._json_text(message)
            if text is not None:
                together.append(message)
                texts.append(text)
                size += len(text)
            if text is None or size > _DECODED_TOGETHER:
                self._take_together(together, texts)
                together, texts, size = [], [], 0
            if text is None:
                self._take_carefully(message)
        self._take_together(together, texts)

    def _json_text(self, message: Message) -> str | None:
        """A message's body, if it is text that may be decoded together with others."""
        body: Any = message.body
        is_readable = message.broken is None and message.left_out is None
        if not is_readable or (type(body) is not str and type(body) is not bytes):
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
        return str(body)

    def _take_together(self, messages: Sequence[Message], texts: Sequence[str]) -> None:
        """The fast road; messages among which one is unusual take it one by one, and that one the careful road."""
        if not messages:
            return
        if self._must_leave(messages[0]):
            for message in messages:
                self._leave(message, "")
            return
        bodies = decode_together(texts)
        if bodies is not None:
            for message, body in zip(messages, bodies, strict=True):
                if (
                    type(body) is dict
                    and "metricName" in body
                    and "points" not in body
                    and "Data" not in body
                ):
                    self._take_point(message, None, 0, body)
                elif is_our_own(body):
                    self._take_payload(message, find_points(body))
                else:
                    self._take_carefully(message)
        elif len(messages) == 1:
            self._take_carefully(messages[0])
        else:
            for message, text in zip(messages, texts, strict=True):
                self._take_together([message], [text])

    def _take_carefully(self, message: Message) -> None:
        """The careful road: a message by itself, of any kind."""
        if self._must_leave(message):
            self._leave(message, "")
        elif message.left_out is not None:
            self._ledger.receive_filtered(message.source, "", "own-log", message.left_out)
        elif message.broken is not None:
            outcome = Outcome.UNDELIVERED if message.retriable else Outcome.INVALID
            problem = Problem(outcome, message.source, "", "record", None, message.broken)
            self._settle(message, None, "", [problem])
        elif isinstance(message.body, (Sample, InvalidSample, FilteredSample)):
            self._take_reading(message, message.body)
        else:
            found = self._format_of(message)
            if isinstance(found, InvalidSample):
                self._take_reading(message, found)
            elif found is Format.JSON:
                for payload in read_payloads(message.body):
                    self._take_payload(message, payload)
            else:
                hint = self._hint_of(message)
                for reading in formats.read(found, message.body, hint, self._rules.mapping):
                    self._take_reading(message, reading)

    def _format_of(self, message: Message) -> Format | InvalidSample:
        """How a message is read: as its way or a setting says, else as its shape does."""
        if message.already_validated:
            return Format.JSON
        chosen = self._chosen_format(message)
        if chosen is not None:
            return chosen
        # Most messages are our own JSON, and never need this.
        from metric_forwarder.formats.detect import detect  # noqa: PLC0415

        found = detect(message.body, message.hint, has_mapping=self._rules.mapping is not None)
        # After a beginning that fits nothing our own reader goes on with the next value, and says what is wrong.
        return Format.JSON if isinstance(found, InvalidSample) and has_bracket_line(message.body) else found

    def _hint_of(self, message: Message) -> FormatHint:
        """What is known of a message, by its way where that says something, else by the settings."""
        if message.hint == _NO_HINT:
            return self._rules.hint
        return message.hint._replace(resource_attributes=self._rules.hint.resource_attributes)

    def _chosen_format(self, message: Message) -> Format | None:
        if message.format is not None:
            return Format(message.format)
        return self._rules.format_of(message.source) if self._rules.format_of is not None else None

    def _take_payload(self, message: Message, payload: Payload) -> None:
        if self._must_leave(message):
            self._leave(message, payload.place)
        elif payload.violations:
            self._refuse_whole(message, payload)
        else:
            for index, raw in enumerate(payload.points):
                self._take_point(message, payload, index, raw)

    # --- points of our own JSON --------------------------------------------------------------------------------

    def _take_point(self, message: Message, payload: Payload | None, index: int, raw: Any) -> None:
        """Receive a point; without a payload it is the whole message."""
        if self._relabel is not None and not message.already_validated:
            raw = self._relabelled(raw)
            if raw is None:
                self._filter_by_rule(message, payload.pointer(index) if payload else "")
                return
        time_ns = key = None
        try:
            dimensions, value = raw["dimensions"], raw["value"]
            series = self._recognise(
                (raw.get("namespace"), raw["metricName"], *dimensions, *dimensions.values())
            )
        except (KeyError, AttributeError, TypeError):
            # A member is missing, is no object, or holds one: the schema says so.
            value = series = None
        # A chained comparison is false for NaN, and for what is beyond a float's range.
        if series is not None and not (
            (type(value) is float or type(value) is int) and -MAX_FLOAT <= value <= MAX_FLOAT
        ):
            series = None
        if series is not None and len(raw) > _REQUIRED_MEMBERS:
            optional = self._read_optional(raw)
            series, time_ns, key = (series, *optional) if optional else (None, None, None)
        if series is None or self._is_late:
            if self._must_leave(message):
                self._leave(message, payload.pointer(index) if payload else "")
                return
            if not self._accepts(message, raw):
                self._refuse_point(message, payload or Payload((raw,)), index, raw)
                return
            found = self._find_series(raw)
            if isinstance(found, Violation):
                self._refuse_series(message, payload or Payload((raw,)), index, found)
                return
            series = found
            time_ns = nanoseconds(raw["timestamp"]) if "timestamp" in raw else None
            key = as_text(raw["id"]) if "id" in raw else None
            value = raw["value"]
        if payload is None:
            self._add(message, "", series, value, time_ns, key, raw=raw)
        else:
            pointer = payload.pointer(index)
            self._add(message, pointer, series, value, time_ns, key, raw=raw, payload=payload, index=index)

    def _accepts(self, message: Message, raw: Any) -> bool:
        if not message.already_validated:
            return self._schema.accepts(raw)
        value = raw.get("value") if type(raw) is dict else None
        if type(value) is float and not is_finite(value) and self._destination.carries_non_finite:
            # It comes from the spool, which takes from a sample what no JSON text can hold.
            raw = {**raw, "value": 0}
        return self._schema.accepts_replayed(raw)

    def _read_optional(self, raw: Mapping[str, Any]) -> tuple[int | None, str | None] | None:
        """Time and key of a point of a known series; None unless all of its optional members are valid."""
        time_ns = key = None
        expected = _REQUIRED_MEMBERS + ("namespace" in raw and raw["namespace"] is not None)
        if "timestamp" in raw:
            timestamp = raw["timestamp"]
            if type(timestamp) is str or (
                (type(timestamp) is int or type(timestamp) is float) and 0 <= timestamp < NUMBERS_BELOW
            ):
                time_ns = nanoseconds(timestamp)
            expected += time_ns is not None
        if "id" in raw:
            if self._schema.accepts_id(raw["id"]):
                key = as_text(raw["id"])
            expected += key is not None
        return (time_ns, key) if len(raw) == expected else None

    def _find_series(self, raw: Mapping[str, Any]) -> Series | Violation:
        """The series of a valid point, which is recognised from now on if no finite value can be wrong in it."""
        namespace, metric, dimensions = raw.get("namespace"), raw["metricName"], raw["dimensions"]
        found = self._known.find(namespace or self._rules.default_namespace, metric, dimensions)
        if (
            isinstance(found, Series)
            and self._schema.takes_any_number
            and all(type(value) is str for value in dimensions.values())
        ):
            self._known.remember((namespace, metric, *dimensions, *dimensions.values()), found)
        return found

    # --- rules -------------------------------------------------------------------------------------------------

    def _relabelled(self, raw: Any) -> Any:
        """A point as the rules make it; None if they drop it. What is no point is left as it is: it is invalid."""
        if self._relabel is None or type(raw) is not dict:
            return raw
        metric, dimensions, namespace = raw.get("metricName"), raw.get("dimensions"), raw.get("namespace", "")
        if type(metric) is not str or type(dimensions) is not dict or type(namespace) is not str:
            return raw
        labels = {name: as_text(value) if type(value) is int else value for name, value in dimensions.items()}
        if not all(type(value) is str for value in labels.values()):
            return raw
        result = self._relabel(namespace or self._rules.default_namespace, metric, labels)
        if result is None:
            return None
        changed = {**raw, "metricName": result.metric, "dimensions": dict(result.labels)}
        return {**changed, "namespace": result.namespace} if result.namespace else changed

    def _filter_by_rule(self, message: Message, pointer: str) -> None:
        self._ledger.receive_filtered(message.source, pointer, "relabel", _BY_RULE)

    # --- samples of other formats ------------------------------------------------------------------------------

    def _take_reading(self, message: Message, reading: Reading) -> None:
        if self._must_leave(message):
            self._leave(message, reading.where)
        elif isinstance(reading, Sample):
            self._take_sample(message, reading)
        elif isinstance(reading, InvalidSample):
            problem = Problem(
                Outcome.INVALID, message.source, reading.where, reading.rule, None, reading.message
            )
            self._settle(message, reading.raw, reading.where, [problem])
        else:
            self._ledger.receive_filtered(message.source, reading.where, reading.rule, reading.message)

    def _take_sample(self, message: Message, sample: Sample) -> None:
        """Receive a sample, which is held to the same rules as a point."""
        raw: dict[str, Any] = {
            "metricName": sample.metric,
            "dimensions": dict(sample.dimensions),
            "value": sample.value,
        }
        if sample.namespace:
            raw["namespace"] = sample.namespace
        if self._relabel is not None:
            raw = self._relabelled(raw)
            if raw is None:
                self._filter_by_rule(message, sample.where)
                return
        if is_stale_marker(sample.value) and not self._destination.carries_non_finite:
            self._take_reading(message, FilteredSample(sample.where, "stale-marker", _SERIES_ENDED))
            return
        problem = self._why_not_carried(sample)
        if problem is not None:
            self._settle(message, sample, sample.where, _problems(message, [problem]))
            return
        # Whether the destination carries NaN and the infinities is known by now; a schema knows numbers alone.
        is_special = type(sample.value) is float and not is_finite(sample.value)
        judged = {**raw, "value": 0} if is_special else raw
        key = (None, sample.metric, *sample.dimensions, *sample.dimensions.values())
        series: Series | Violation | None = self._recognise(key)
        if series is None or type(judged["value"]) is not float:
            if not self._schema.accepts(judged):
                found = self._violations(judged)
                self._settle(
                    message, sample, sample.where, _problems(message, _of_sample(sample.where, found))
                )
                return
            series = self._find_series(judged)
        if isinstance(series, Violation):
            self._settle(
                message, sample, sample.where, _problems(message, [series._replace(pointer=sample.where)])
            )
            return
        self._add(message, sample.where, series, sample.value, sample.time_ns, None, raw=sample)

    def _why_not_carried(self, sample: Sample) -> Violation | None:
        """What no schema can say of a sample."""
        value, time_ns = sample.value, sample.time_ns
        if type(value) is float and not is_finite(value) and not self._destination.carries_non_finite:
            return Violation(
                sample.where, "not-finite", f"is {value}, which this destination cannot carry: {_LEAVE}"
            )
        if sample.is_delta and self._carries_timestamps:
            return Violation(sample.where, "delta", _DELTA)
        if time_ns is not None and not MIN_NS <= time_ns <= MAX_NS:
            return Violation(
                sample.where, "timestamp", "has a time outside the years 1 to 9999: correct its unit"
            )
        return None

    # --- what becomes of them ----------------------------------------------------------------------------------

    def _add(
        self,
        message: Message,
        pointer: str,
        series: Series,
        value: float,
        time_ns: int | None,
        key: str | None,
        *,
        raw: Any,
        payload: Payload | None = None,
        index: int = 0,
    ) -> None:
        """Make the point, unless its time or its size is wrong; the payload, if any, says what to keep of it then."""
        problem = None
        wire = b""
        time_ms = self._now_ms if message.time_ms is None else message.time_ms
        if time_ns is not None:
            time_ms = to_milliseconds(time_ns)
            if time_ns > self._latest_ns:
                problem = self._ahead(message, f"{pointer}/timestamp", time_ns)
        elif self._carries_timestamps:
            if time_ms > self._latest_ms:
                problem = self._ahead(message, pointer, time_ms * NS_PER_MS)
            elif not message.already_validated:
                # What comes from the spool was given its time before.
                time_ms = self._next_ms(series, time_ms)
        if problem is None:
            wire = self._encode(series, value, time_ms)
            if len(wire) > self._max_bytes:
                problem = _oversized(message, pointer, len(wire))
        if problem is not None:
            own, envelope = (payload.own(index), payload.envelope) if payload else (raw, None)
            self._settle(message, own, pointer, [problem], envelope)
            return
        identity = self._identity(series, value, time_ns, key, message, pointer)
        number = self._ledger.open()
        # Half the time of ``Point(…)``, of which there is one for each point.
        point = _new_tuple(
            Point, (number, series, value, time_ns, key, message, pointer, identity, time_ms, wire)
        )
        self.points.append(point)
        if time_ns is not None and time_ns < self._oldest_ns:
            self.stale[number] = _stale(point, (self._oldest_ns - time_ns) / NS_PER_S)

    def _refuse_whole(self, message: Message, payload: Payload) -> None:
        """Keep a payload whole, once: without what stands around them its points would say something else."""
        violations = [
            violation._replace(pointer=payload.place + violation.pointer) for violation in payload.violations
        ]
        raw = message.body if payload.text is None else payload.text
        self._settle(message, raw, payload.place, _problems(message, violations))
        for _ in range(1, len(payload.points)):
            self._ledger.settle(self._ledger.open(), Outcome.INVALID)

    def _refuse_point(self, message: Message, payload: Payload, index: int, raw: Any) -> None:
        """Say what is wrong with a point; of many, the first are explained and the others refused as quickly as taken."""
        if not (self._explanations_left or (self._dead_letters and self._dead_letters.has_room)):
            # An event may hold a million of them, and what takes too long is redelivered forever.
            self._ledger.settle_untold(Outcome.INVALID)
            if self._dead_letters:
                self._dead_letters.skip(message)
            return
        found = self._violations(raw)
        violations = [violation._replace(pointer=payload.locate(index, path)) for path, violation in found]
        pointer, envelope = payload.pointer(index), payload.envelope
        self._settle(message, payload.own(index), pointer, _problems(message, violations), envelope)

    def _refuse_series(self, message: Message, payload: Payload, index: int, refusal: Violation) -> None:
        pointer = payload.pointer(index)
        violation = refusal._replace(pointer=pointer + refusal.pointer)
        self._settle(message, payload.own(index), pointer, _problems(message, [violation]), payload.envelope)

    def _violations(self, raw: Any) -> Sequence[tuple[tuple[Any, ...], Violation]]:
        """Everything that is wrong with a point, and where in it; of the later ones only that something is."""
        if self._explanations_left == 0:
            return [((), _UNEXPLAINED)]
        self._explanations_left -= 1
        return self._schema.violations(raw)

    def _ahead(self, message: Message, pointer: str, time_ns: int) -> Problem:
        """Prometheus would store it, and then refuse the readings of every series that are more than an hour older."""
        ahead_s = (time_ns - self._rules.now_ms * NS_PER_MS) / NS_PER_S
        text = (
            f"has a time {ahead_s:.0f} s ahead of the forwarder's clock, more than MF_MAX_AHEAD_S allows: correct the "
            "producer's clock, or the unit of its time (seconds, or milliseconds from 1e11 on)"
        )
        return Problem(Outcome.INVALID, message.source, pointer, "maxAhead", None, text)

    def _must_leave(self, message: Message) -> bool:
        """Whether the time is up. What is replayed from the spool is taken in nonetheless: a chunk of it is small."""
        if self._deadline is not None and not self._is_late:
            self._is_late = self._deadline.remaining() <= 0
        return self._is_late and message.receipt is None

    def _leave(self, message: Message, pointer: str) -> None:
        """Leave a point to the platform, which redelivers the event."""
        if self._has_left:
            self._ledger.settle_untold(Outcome.UNDELIVERED)
            return
        self._has_left = True
        problem = Problem(Outcome.UNDELIVERED, message.source, pointer, "out of time", None, _NOT_TAKEN_IN)
        self._ledger.settle(self._ledger.open(), Outcome.UNDELIVERED, [problem])

    def _settle(
        self,
        message: Message,
        raw: Any,
        pointer: str,
        problems: Sequence[Problem],
        envelope: Mapping[str, Any] | None = None,
    ) -> None:
        outcome = problems[0].outcome
        self._ledger.settle(self._ledger.open(), outcome, problems)
        # What could not be read this time comes again with the event: there is nothing to keep.
        if outcome is not Outcome.UNDELIVERED and self._dead_letters:
            self._dead_letters.add(DeadLetter(message, raw, pointer, problems[0], envelope))


_new_tuple = tuple.__new__
_UNEXPLAINED = Violation(
    "",
    "schema",
    "breaks the schema, as many points of this event do: what is wrong is told of the first ones; metric-forwarder check "
    "tells it of all",
)
_BY_RULE = "is dropped by a rule of MF_RELABEL"
_SERIES_ENDED = "is Prometheus's mark that a series has ended, which means nothing to this destination"
_LEAVE = "leave it out at its producer"
_DELTA = (
    "is a sum since the producer's last report, and the destination takes sums since its start: let it report cumulative "
    "sums, in OpenTelemetry with OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative"
)
_NOT_TAKEN_IN = (
    "was not taken in, as all points after it, since the time was up: they come again with the event; raise the function's "
    "timeout, or send fewer points in one message"
)


def _problems(message: Message, violations: Sequence[Violation]) -> list[Problem]:
    return [
        Problem(Outcome.INVALID, message.source, where, rule, None, text) for where, rule, text in violations
    ]


def _of_sample(where: str, found: Sequence[tuple[tuple[Any, ...], Violation]]) -> list[Violation]:
    """What is wrong with a sample, in its own terms: it has a name and labels, no members."""
    return [
        violation._replace(pointer=where, message=f"{_part_of_sample(path)}{violation.message}")
        for path, violation in found
    ]


def _part_of_sample(path: tuple[Any, ...]) -> str:
    match path:
        case ("metricName",):
            return "its name "
        case ("dimensions",):
            return "its set of labels "
        case ("dimensions", label):
            return f'its label "{str(label)[:60]}" '
        case _:
            return ""


def _stale(point: Point, late_s: float) -> Problem:
    text = (
        f"is {late_s:.0f} s older than MF_MAX_AGE_S allows: this destination stamps points on arrival, "
        "so it would land in a wrong period; send sooner, or raise MF_MAX_AGE_S"
    )
    return Problem(Outcome.STALE, point.message.source, f"{point.pointer}/timestamp", "maxAge", None, text)


def _oversized(message: Message, pointer: str, size: int) -> Problem:
    text = f"takes {size} bytes, more than a request holds: shorten its texts, or raise MF_BATCH_MAX_BYTES"
    return Problem(Outcome.INVALID, message.source, pointer, "maxBytes", None, text)

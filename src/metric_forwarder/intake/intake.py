"""Messages → points: decode, validate, give an identity. What cannot become a point is settled here and now."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.formats.payload import Payload, Violation, read_payload, split_at_value
from metric_forwarder.intake.schema import Contract, is_finite
from metric_forwarder.model import DeadLetter, Message, Outcome, Point, Problem, Series
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.times import NS_PER_MS, NS_PER_S, nanoseconds, to_milliseconds

_REQUIRED_MEMBERS = 3  # metricName, dimensions, value
# A value, and a time, take no more bytes than this in a request: 309 digits and some more.
_LONGEST_VALUE = 400


class IntakeRules(NamedTuple):
    """What an event's points must be like.

    Attributes:
        now_ms: when the event was received, Unix milliseconds: the time of points whose message brought none either.
        max_bytes: a larger point is invalid: it fits into no request.
        default_namespace: for points that name none.
        max_age_s: a point with an older timestamp is stale; 0: none is.
        max_ahead_s: a point whose time is further ahead of the clock is invalid; 0: none is.
    """

    now_ms: int
    max_bytes: int
    default_namespace: str = ""
    max_age_s: float = 0
    max_ahead_s: float = 0


class SeriesBook:
    """The series that an instance has seen: in the next event they are known already.

    Args:
        admit: says what is wrong with a series, whatever the value of its point.
        most: so many are kept from one event to the next, each way of writing one counted; one takes about 1.5 KB.

    Attributes:
        series: by namespace, metric and dimensions as they stood in a point.
        refused: those that were not admitted, and why.
        sound: those whose points are valid with every finite value, by metric name and dimensions as a point has them.
        texts: the same, by the text around the value of a message that was such a point.
        free_from: the first millisecond after the points that were stamped on arrival, Unix milliseconds.
    """

    def __init__(self, admit: Callable[[Series], Violation | None], most: int = 4_000) -> None:
        self._admit = admit
        self._most = most
        self.series: dict[tuple[Any, ...], Series] = {}
        self.refused: dict[Series, Violation] = {}
        self.sound: dict[tuple[Any, ...], Series] = {}
        self.texts: dict[tuple[str, str], Series] = {}
        self.free_from: dict[Series, int] = {}

    def make_room(self) -> None:
        """Forget all of them if they have become too many; not while an event is handled, whose points share them."""
        if len(self.series) > self._most:
            self.series.clear()
            self.refused.clear()
            self.sound.clear()
            self.texts.clear()
            self.free_from.clear()

    def find(self, namespace: str, metric: str, dimensions: dict[str, str | int]) -> Series:
        # To a dict 1 and 1.0 are one key; they are one text as well.
        key = (namespace, metric, *dimensions.items())
        series = self.series.get(key)
        if series is None:
            ordered = tuple(sorted((name, _text(value)) for name, value in dimensions.items()))
            series = self.series[key] = self._intern(namespace, metric, ordered)
        return series

    def _intern(self, namespace: str, metric: str, ordered: tuple[tuple[str, str], ...]) -> Series:
        canonical = (namespace, metric, *ordered)
        series = self.series.get(canonical)
        if series is None:
            series = self.series[canonical] = Series(namespace, metric, ordered)
            refusal = self._admit(series)
            if refusal is not None:
                self.refused[series] = refusal
        return series


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
        book: the series seen so far; those of this event are added.
        ledger: gets a row for every point received, and the outcome of those that go no further.
        destination: writes a point as a request holds it, and says whether it arrives with a time.
        max_explained: how many invalid points are told what is wrong with them: that costs much more than finding them.
        dead_letters: gets everything that is neither delivered nor redelivered, with the reason; None: it is not kept.

    Attributes:
        points: the points to deliver, in the order in which they came.
        stale: why some of them, by their numbers, are too old to be delivered, unless they have been already.
    """

    def __init__(
        self,
        contract: Contract,
        identifier: Identifier,
        ledger: Ledger,
        *,
        destination: Destination,
        book: SeriesBook,
        rules: IntakeRules,
        max_explained: int = 100,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self._contract = contract
        self._identity = identifier.identity
        self._ledger = ledger
        self._encode = destination.encode
        self._carries_timestamps = destination.carries_timestamps
        self._rules = rules
        now_ns = rules.now_ms * NS_PER_MS
        self._oldest_ns = now_ns - round(rules.max_age_s * NS_PER_S) if rules.max_age_s else None
        self._latest_ns = now_ns + round(rules.max_ahead_s * NS_PER_S) if rules.max_ahead_s else None
        self._explanations_left = max_explained
        self._dead_letters = dead_letters
        self._book = book
        self._sound = book.sound
        self._texts = book.texts
        self._free_from = book.free_from
        # The times given to points that brought none, each with where to look for the next free one.
        self._stamps: dict[Series, dict[int, int]] = {}
        self.points: list[Point] = []
        self.stale: dict[int, Problem] = {}

    def take(self, message: Message) -> None:
        """Receive a message: every point in it is counted, none is lost, nothing raises."""
        if message.left_out is not None:
            self._ledger.receive_filtered(message.source, "", "own-log", message.left_out)
            return
        if message.broken is not None:
            outcome = Outcome.UNDELIVERED if message.retriable else Outcome.INVALID
            problem = Problem(outcome, message.source, "", "record", None, message.broken)
            self._settle(message, None, "", [problem])
            return
        is_ahead = self._comes_from_ahead(message)
        split = split_at_value(message.body)
        if split is not None and not is_ahead:
            around, value = split
            series = self._texts.get(around)
            if series is not None and is_finite(value):
                self._repeat(message, "", value, series)
                return
        payload = read_payload(message.body)
        accepts = self._contract.accepts_again if message.judged else self._contract.accepts
        if payload.violations:
            self._refuse_whole(message, payload)
            return
        for index, raw in enumerate(payload.points):
            series = None if is_ahead else self._seen(raw)
            if series is not None:
                self._repeat(message, payload.pointer(index), raw["value"], series)
            elif accepts(raw):
                self._receive(message, payload, index, raw)
            elif self._explanations_left or (self._dead_letters and self._dead_letters.has_room):
                violations = self._explain(payload, index, raw)
                pointer = payload.pointer(index)
                self._refuse(message, payload.own(index), pointer, violations, payload.envelope)
            else:
                # An event may hold a million of them, and what takes too long is redelivered for ever.
                self._ledger.settle_untold(Outcome.INVALID)
                if self._dead_letters:
                    self._dead_letters.skip(message)

    def _seen(self, raw: Any) -> Series | None:
        """The series of a point that differs from a valid one in its value alone, as most points of a stream do."""
        try:
            if type(raw) is dict and len(raw) == _REQUIRED_MEMBERS and is_finite(raw["value"]):
                dimensions = raw["dimensions"]
                # Text throughout, which is equal to nothing but the same text.
                return self._sound.get((raw["metricName"], *dimensions, *dimensions.values()))
        except (KeyError, AttributeError, TypeError):
            # A member is missing, is no object, or holds one: the contract says so.
            pass
        return None

    def _refuse_whole(self, message: Message, payload: Payload) -> None:
        """Keep a message whole, once: without what stands around them its points would say something else."""
        self._refuse(message, message.body, "", payload.violations)
        for _ in range(1, len(payload.points)):
            self._ledger.settle(self._ledger.open(), Outcome.INVALID)

    def _explain(self, payload: Payload, index: int, raw: Any) -> Sequence[Violation]:
        """What is wrong with a point; of many, the first are told apart and the rest is refused as quickly as taken."""
        if self._explanations_left == 0:
            return [_UNEXPLAINED._replace(pointer=payload.pointer(index))]
        self._explanations_left -= 1
        found = self._contract.violations(raw)
        return [violation._replace(pointer=payload.locate(index, path)) for path, violation in found]

    def _repeat(self, message: Message, pointer: str, value: float, series: Series) -> None:
        identity = self._identity(series, value, None, None, message.place(pointer))
        time_ms = self._time(series, message)
        wire = self._encode(series, value, time_ms)
        self.points.append(
            Point(self._ledger.open(), series, value, None, None, message, pointer, identity, time_ms, wire)
        )

    def _receive(self, message: Message, payload: Payload, index: int, raw: dict[str, Any]) -> None:
        pointer = payload.pointer(index)
        namespace = raw.get("namespace") or self._rules.default_namespace
        timestamp = raw.get("timestamp")
        time_ns = None if timestamp is None else nanoseconds(timestamp)
        if time_ns is not None and self._is_ahead(time_ns):
            self._refuse_ahead(message, payload, index, time_ns)
            return
        if time_ns is None and self._comes_from_ahead(message):
            self._refuse_ahead(message, payload, index, None)
            return
        series = self._book.find(namespace, raw["metricName"], raw["dimensions"])
        refusal = self._book.refused.get(series)
        if refusal is not None:
            violation = refusal._replace(pointer=pointer + refusal.pointer)
            self._refuse(message, payload.own(index), pointer, [violation], payload.envelope)
            return
        key = raw.get("id")
        if key is not None:
            key = _text(key)
        value = raw["value"]
        identity = self._identity(series, value, time_ns, key, message.place(pointer))
        time_ms = self._time(series, message) if time_ns is None else to_milliseconds(time_ns)
        wire = self._encode(series, value, time_ms)
        if len(wire) > self._rules.max_bytes:
            problems = [_oversized(message, pointer, len(wire))]
            self._settle(message, payload.own(index), pointer, problems, payload.envelope)
            return
        number = self._ledger.open()
        point = Point(number, series, value, time_ns, key, message, pointer, identity, time_ms, wire)
        self.points.append(point)
        if time_ns is not None and self._oldest_ns is not None and time_ns < self._oldest_ns:
            self.stale[number] = _stale(point, (self._oldest_ns - time_ns) / NS_PER_S)
        self._remember(message, pointer, raw, series, len(wire))

    def _is_ahead(self, time_ns: int) -> bool:
        """Whether a time is so far ahead of the clock that it can only be wrong."""
        return self._latest_ns is not None and time_ns > self._latest_ns

    def _comes_from_ahead(self, message: Message) -> bool:
        """Whether the message's time is such; only where it goes to the destination."""
        return (
            self._carries_timestamps
            and message.time_ms is not None
            and self._is_ahead(message.time_ms * NS_PER_MS)
        )

    def _refuse_ahead(self, message: Message, payload: Payload, index: int, time_ns: int | None) -> None:
        """Refuse a point whose own time, or that of its message, is too far ahead.

        Prometheus would store it, and then refuse every reading of every series that is older than some minutes less.
        """
        pointer = payload.pointer(index)
        pointer_of_time = pointer if time_ns is None else f"{pointer}/timestamp"
        if time_ns is None:
            time_ns = (message.time_ms or 0) * NS_PER_MS
        ahead_s = (time_ns - self._rules.now_ms * NS_PER_MS) / NS_PER_S
        problems = [_ahead(message, pointer_of_time, ahead_s)]
        self._settle(message, payload.own(index), pointer, problems, payload.envelope)

    def _remember(
        self, message: Message, pointer: str, raw: dict[str, Any], series: Series, size: int
    ) -> None:
        """Know a point again that differs from this one in its value alone, if no finite value can be wrong in it."""
        is_any_value_right = len(raw) == _REQUIRED_MEMBERS and self._contract.takes_any_number
        if not is_any_value_right or size + _LONGEST_VALUE > self._rules.max_bytes:
            return
        dimensions = raw["dimensions"]
        if all(type(value) is str for value in dimensions.values()):
            seen = (raw["metricName"], *dimensions, *dimensions.values())
            self._sound[seen] = series
            split = None if pointer else split_at_value(message.body)
            # There is but one number in it, so this is its value.
            if split is not None and is_finite(split[1]):
                self._texts[split[0]] = series

    def _time(self, series: Series, message: Message) -> int:
        """The time of a point that brought none.

        Where points arrive with their time, a series has no two of them at one moment, so that both are kept; and none
        that is stamped now is older than the last that was: a burst of them lies ahead of the clock.
        """
        wanted = self._rules.now_ms if message.time_ms is None else message.time_ms
        if not self._carries_timestamps:
            return wanted
        if message.time_ms is None:
            wanted = max(wanted, self._free_from.get(series, wanted))
        stamps, time_ms = self._stamps.setdefault(series, {}), wanted
        while time_ms in stamps:
            time_ms = stamps[time_ms]
        stamps[wanted] = stamps[time_ms] = time_ms + 1
        if message.time_ms is None:
            self._free_from[series] = time_ms + 1
        return time_ms

    def _refuse(
        self,
        message: Message,
        raw: Any,
        pointer: str,
        violations: Sequence[Violation],
        envelope: Mapping[str, Any] | None = None,
    ) -> None:
        self._settle(message, raw, pointer, _problems(message, violations), envelope)

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


_UNEXPLAINED = Violation(
    "",
    "schema",
    "breaks the schema, as many points of this event do: what is wrong is told of the first ones; metric-forwarder check "
    "tells it of all",
)


def _problems(message: Message, violations: Sequence[Violation]) -> list[Problem]:
    return [
        Problem(Outcome.INVALID, message.source, where, rule, None, text) for where, rule, text in violations
    ]


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else str(int(value))


def _stale(point: Point, late_s: float) -> Problem:
    text = (
        f"is {late_s:.0f} s older than MF_MAX_AGE_S allows: this destination stamps points on arrival, "
        "so it would land in a wrong period; send sooner, or raise MF_MAX_AGE_S"
    )
    return Problem(Outcome.STALE, point.message.source, f"{point.pointer}/timestamp", "maxAge", None, text)


def _ahead(message: Message, pointer: str, ahead_s: float) -> Problem:
    text = (
        f"has a time {ahead_s:.0f} s ahead of the forwarder's clock, more than MF_MAX_AHEAD_S allows: correct the "
        "producer's clock, or the unit of its time (seconds, or milliseconds from 1e11 on)"
    )
    return Problem(Outcome.INVALID, message.source, pointer, "maxAhead", None, text)


def _oversized(message: Message, pointer: str, size: int) -> Problem:
    text = f"takes {size} bytes, more than a request holds: shorten its texts, or raise MF_BATCH_MAX_BYTES"
    return Problem(Outcome.INVALID, message.source, pointer, "maxBytes", None, text)

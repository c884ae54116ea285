"""Messages → points: decode, validate, give an identity. What cannot become a point is settled here and now."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.formats.payload import Payload, Violation, read_payload, split_at_value
from metric_forwarder.intake.schema import Contract, is_finite
from metric_forwarder.model import Message, Outcome, Point, Problem, Series
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.spool.keepers import DeadLetter
from metric_forwarder.times import milliseconds

# Of an event; each takes half a kilobyte until they are written.
MAX_DEAD_LETTERS = 20_000
_REQUIRED_MEMBERS = 3  # metricName, dimensions, value
# A value, and a time, take no more bytes than this in a request: 309 digits and some more.
_LONGEST_VALUE = 400


class Terms(NamedTuple):
    """What is asked of the points of an event.

    Attributes:
        now_ms: when it was received, Unix milliseconds: the time of points whose message brought none either.
        max_bytes: a point of more is invalid: it fits into no request.
        default_namespace: for points that name none.
        oldest_ms: a point with an earlier timestamp is stale; None: none is.
    """

    now_ms: int
    max_bytes: int
    default_namespace: str = ""
    oldest_ms: int | None = None


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


class Intake:
    """Takes the messages of one event in.

    Args:
        book: the series seen so far; those of this event are added.
        ledger: gets a row for every point received, and the outcome of those that go no further.
        destination: writes a point as a request holds it, and says whether it arrives with a time.
        max_explained: how many invalid points are told what is wrong with them: that costs much more than finding them.
        keeps_dead_letters: whether there is a place for them.

    Attributes:
        points: the points to deliver, in the order in which they came.
        stale: why some of them, by their numbers, are too old to be delivered, unless they have been already.
        dead_letters: everything else, with the reason, if it is kept.
        unkept: how many invalid points are in none of these.
    """

    def __init__(
        self,
        contract: Contract,
        identifier: Identifier,
        ledger: Ledger,
        *,
        destination: Destination,
        book: SeriesBook,
        terms: Terms,
        max_explained: int = 100,
        keeps_dead_letters: bool = False,
    ) -> None:
        self._contract = contract
        self._identity = identifier.identity
        self._ledger = ledger
        self._encode = destination.encode
        self._carries_timestamps = destination.carries_timestamps
        self._terms = terms
        self._explanations_left = max_explained
        self._keeps_dead_letters = keeps_dead_letters
        self._book = book
        self._sound = book.sound
        self._texts = book.texts
        self._free_from = book.free_from
        # The times given to points that brought none, each with where to look for the next free one.
        self._stamps: dict[Series, dict[int, int]] = {}
        self.points: list[Point] = []
        self.stale: dict[int, Problem] = {}
        self.dead_letters: list[DeadLetter] = []
        self.unkept = 0

    def take(self, message: Message) -> None:
        """Receive a message: every point in it is counted, none is lost, nothing raises."""
        if message.broken is not None:
            outcome = Outcome.UNDELIVERED if message.retriable else Outcome.INVALID
            problem = Problem(outcome, message.source, "", "record", None, message.broken)
            self._settle(message, None, "", [problem])
            return
        split = split_at_value(message.body)
        if split is not None:
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
            series = self._seen(raw)
            if series is not None:
                self._repeat(message, payload.pointer(index), raw["value"], series)
            elif accepts(raw):
                self._receive(message, payload.pointer(index), raw)
            elif self._explanations_left or self._has_room:
                self._refuse(message, raw, payload.pointer(index), self._explain(payload, index, raw))
            else:
                # An event may hold a million of them, and what takes too long is redelivered for ever.
                self._ledger.settle_untold(Outcome.INVALID)
                self.unkept += 1

    @property
    def _has_room(self) -> bool:
        return self._keeps_dead_letters and len(self.dead_letters) < MAX_DEAD_LETTERS

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
        identity = self._identity(series, value, None, None, message, pointer)
        time_ms = self._time(series, message)
        wire = self._encode(series, value, time_ms)
        self.points.append(
            Point(self._ledger.open(), series, value, None, None, message, pointer, identity, time_ms, wire)
        )

    def _receive(self, message: Message, pointer: str, raw: dict[str, Any]) -> None:
        namespace = raw.get("namespace") or self._terms.default_namespace
        timestamp = raw.get("timestamp")
        timestamp_ms = None if timestamp is None else milliseconds(timestamp)
        series = self._book.find(namespace, raw["metricName"], raw["dimensions"])
        refusal = self._book.refused.get(series)
        if refusal is not None:
            self._refuse(message, raw, pointer, [refusal._replace(pointer=pointer + refusal.pointer)])
            return
        key = raw.get("id")
        if key is not None:
            key = _text(key)
        value = raw["value"]
        identity = self._identity(series, value, timestamp_ms, key, message, pointer)
        time_ms = self._time(series, message) if timestamp_ms is None else timestamp_ms
        wire = self._encode(series, value, time_ms)
        if len(wire) > self._terms.max_bytes:
            self._settle(message, raw, pointer, [_oversized(message, pointer, len(wire))])
            return
        number = self._ledger.open()
        point = Point(number, series, value, timestamp_ms, key, message, pointer, identity, time_ms, wire)
        self.points.append(point)
        oldest_ms = self._terms.oldest_ms
        if timestamp_ms is not None and oldest_ms is not None and timestamp_ms < oldest_ms:
            self.stale[number] = _stale(point, (oldest_ms - timestamp_ms) / 1000)
        self._remember(message, pointer, raw, series, len(wire))

    def _remember(
        self, message: Message, pointer: str, raw: dict[str, Any], series: Series, size: int
    ) -> None:
        """Know a point again that differs from this one in its value alone, if no finite value can be wrong in it."""
        is_any_value_right = len(raw) == _REQUIRED_MEMBERS and self._contract.takes_any_number
        if not is_any_value_right or size + _LONGEST_VALUE > self._terms.max_bytes:
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
        wanted = self._terms.now_ms if message.time_ms is None else message.time_ms
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

    def _refuse(self, message: Message, raw: Any, pointer: str, violations: Sequence[Violation]) -> None:
        self._settle(message, raw, pointer, _problems(message, violations))

    def _settle(self, message: Message, raw: Any, pointer: str, problems: Sequence[Problem]) -> None:
        outcome = problems[0].outcome
        self._ledger.settle(self._ledger.open(), outcome, problems)
        if outcome is Outcome.UNDELIVERED:
            # What could not be read this time comes again with the event: there is nothing to keep.
            return
        if self._has_room:
            self.dead_letters.append(DeadLetter(message, raw, pointer, problems[0]))
        else:
            self.unkept += 1


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


def _oversized(message: Message, pointer: str, size: int) -> Problem:
    text = f"takes {size} bytes, more than a request holds: shorten its texts, or raise MF_BATCH_MAX_BYTES"
    return Problem(Outcome.INVALID, message.source, pointer, "maxBytes", None, text)

"""Messages → points: decode, validate, give an identity. What cannot become a point is settled here and now."""

from collections.abc import Sequence
from typing import Any

from metric_forwarder.dedupe import Identifier
from metric_forwarder.destinations.port import Destination
from metric_forwarder.ledger import Ledger
from metric_forwarder.model import Message, Outcome, Point, Problem, Series
from metric_forwarder.payload import Violation, read_payload
from metric_forwarder.spool import DeadLetter
from metric_forwarder.times import milliseconds
from metric_forwarder.validation import Contract, is_finite

_REQUIRED_MEMBERS = 3  # metricName, dimensions, value
# A value, and a time, take no more bytes than this in a request: 309 digits and some more.
_LONGEST_VALUE = 400


class Intake:
    """Takes the messages of one event in.

    Args:
        ledger: gets a row for every point received, and the outcome of those that go no further.
        destination: says what is wrong with a series, and how many bytes a point adds to a request.
        default_namespace: for points that name none.
        max_bytes: a point of more is invalid: it fits into no request.
        oldest_ms: a point with an earlier timestamp is stale; None: none is.
        now_ms: the time of points whose message brought none either.

    Attributes:
        points: the points to deliver, in the order in which they came.
        dead_letters: everything else, with the reason.
    """

    def __init__(
        self,
        contract: Contract,
        identifier: Identifier,
        ledger: Ledger,
        *,
        destination: Destination,
        max_bytes: int,
        now_ms: int,
        default_namespace: str = "",
        oldest_ms: int | None = None,
    ) -> None:
        self._contract = contract
        self._identity = identifier.identity
        self._ledger = ledger
        self._admit = destination.admit
        self._measure = destination.measure
        self._carries_timestamps = destination.carries_timestamps
        self._max_bytes = max_bytes
        self._default_namespace = default_namespace
        self._oldest_ms = oldest_ms
        self._now_ms = now_ms
        self._series: dict[tuple[Any, ...], Series] = {}
        self._refused: dict[Series, Violation] = {}
        # Of which every value is valid, and fits into a request: what ``_seen`` looks up.
        self._sound: dict[tuple[Any, ...], Series] = {}
        self.points: list[Point] = []
        self.dead_letters: list[DeadLetter] = []

    def take(self, message: Message) -> None:
        """Receive a message: every point in it is counted, none is lost, nothing raises."""
        if message.broken is not None:
            outcome = Outcome.UNDELIVERED if message.retriable else Outcome.INVALID
            problem = Problem(outcome, message.source, "", "record", None, message.broken)
            self._settle(message, None, "", [problem])
            return
        payload = read_payload(message.body)
        if payload.violations:
            # Kept whole, once: without what stands around them its points would say something else.
            self._refuse(message, message.body, "", payload.violations)
            for _ in payload.points[1:]:
                self._ledger.settle(
                    self._ledger.open(), Outcome.INVALID, _problems(message, payload.violations)
                )
            return
        accepts = self._contract.accepts
        for index, raw in enumerate(payload.points):
            series = self._seen(raw)
            if series is not None:
                self._repeat(message, payload.pointer(index), raw["value"], series)
                continue
            is_quick = accepts(raw)
            found = () if is_quick else self._contract.violations(raw)
            if found:
                located = [v._replace(pointer=payload.locate(index, path)) for path, v in found]
                self._refuse(message, raw, payload.pointer(index), located)
            else:
                self._receive(message, payload.pointer(index), raw, is_quick=is_quick)

    def _seen(self, raw: Any) -> Series | None:
        """The series of a point that differs from a valid one in its value alone, as most points of a stream do."""
        try:
            if type(raw) is dict and len(raw) == _REQUIRED_MEMBERS and is_finite(raw["value"]):
                # What took the quick road is text throughout, and equal to nothing but the same text.
                return self._sound.get((raw["metricName"], *raw["dimensions"].items()))
        except (KeyError, AttributeError, TypeError):
            # A member is missing, is no object, or holds one: the contract says so.
            pass
        return None

    def _repeat(self, message: Message, pointer: str, value: float, series: Series) -> None:
        identity = self._identity(series, value, None, None, message, pointer)
        time_ms = self._time(series, message)
        self.points.append(
            Point(self._ledger.open(), series, value, None, None, message, pointer, identity, time_ms)
        )

    def _receive(self, message: Message, pointer: str, raw: dict[str, Any], *, is_quick: bool) -> None:
        namespace = raw.get("namespace") or self._default_namespace
        timestamp = raw.get("timestamp")
        timestamp_ms = None if timestamp is None else milliseconds(timestamp)
        if timestamp_ms is not None and self._oldest_ms is not None and timestamp_ms < self._oldest_ms:
            late_s = (self._oldest_ms - timestamp_ms) / 1000
            self._settle(message, raw, pointer, [_stale(message, f"{pointer}/timestamp", late_s)])
            return
        series = self._intern(namespace, raw["metricName"], raw["dimensions"])
        refusal = self._refused.get(series)
        if refusal is not None:
            self._refuse(message, raw, pointer, [refusal._replace(pointer=pointer + refusal.pointer)])
            return
        key = raw.get("id")
        if key is not None:
            key = _text(key)
        value = raw["value"]
        identity = self._identity(series, value, timestamp_ms, key, message, pointer)
        time_ms = self._time(series, message) if timestamp_ms is None else timestamp_ms
        point = Point(
            self._ledger.received, series, value, timestamp_ms, key, message, pointer, identity, time_ms
        )
        size = self._measure(point)
        if size > self._max_bytes:
            self._settle(message, raw, pointer, [_oversized(point, size)])
            return
        self._ledger.open()
        self.points.append(point)
        if is_quick and len(raw) == _REQUIRED_MEMBERS and size + _LONGEST_VALUE <= self._max_bytes:
            seen = (raw["metricName"], *raw["dimensions"].items())
            self._sound[seen] = series

    def _time(self, series: Series, message: Message) -> int:
        """The time of a point that brought none.

        Where points arrive with their time, a series has no two of them at one moment, so that both are kept.
        """
        wanted = self._now_ms if message.time_ms is None else message.time_ms
        if not self._carries_timestamps:
            return wanted
        stamps, time_ms = series.stamps, wanted
        while time_ms in stamps:
            time_ms = stamps[time_ms]
        stamps[wanted] = stamps[time_ms] = time_ms + 1
        return time_ms

    def _intern(self, namespace: str, metric: str, dimensions: dict[str, str | int]) -> Series:
        # To a dict 1 and 1.0 are one key; they are one text as well.
        key = (namespace, metric, *dimensions.items())
        series = self._series.get(key)
        if series is None:
            ordered = tuple(sorted((name, _text(value)) for name, value in dimensions.items()))
            canonical = (namespace, metric, ordered)
            series = self._series.get(canonical)
            if series is None:
                series = Series(namespace, metric, ordered)
                self._series[canonical] = series
                refusal = self._admit(series)
                if refusal is not None:
                    self._refused[series] = refusal
            self._series[key] = series
        return series

    def _refuse(self, message: Message, raw: Any, pointer: str, violations: Sequence[Violation]) -> None:
        self._settle(message, raw, pointer, _problems(message, violations))

    def _settle(self, message: Message, raw: Any, pointer: str, problems: Sequence[Problem]) -> None:
        outcome = problems[0].outcome
        self._ledger.settle(self._ledger.open(), outcome, problems)
        # What could not be read this time comes again with the event: there is nothing to keep.
        if outcome is not Outcome.UNDELIVERED:
            self.dead_letters.append(DeadLetter(message, raw, pointer, problems[0]))


def _problems(message: Message, violations: Sequence[Violation]) -> list[Problem]:
    return [
        Problem(Outcome.INVALID, message.source, where, rule, None, text) for where, rule, text in violations
    ]


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else str(int(value))


def _stale(message: Message, pointer: str, late_s: float) -> Problem:
    text = (
        f"is {late_s:.0f} s older than MF_MAX_AGE_S allows: this destination stamps points on arrival, "
        "so it would land in a wrong period; send sooner, or raise MF_MAX_AGE_S"
    )
    return Problem(Outcome.STALE, message.source, pointer, "maxAge", None, text)


def _oversized(point: Point, size: int) -> Problem:
    text = f"takes {size} bytes, more than a request holds: shorten its texts, or raise MF_BATCH_MAX_BYTES"
    return Problem(Outcome.INVALID, point.message.source, point.pointer, "maxBytes", None, text)

"""Decoded point → ``Point``: its series, time, identity, and bytes for the destination.

There are two paths with the same result. ``take_known`` is the fast path, for points of a known series: only the value, time
and id need a check. ``take`` validates the whole point, and says what is wrong.
"""

from collections.abc import Sequence
from typing import Any

from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.formats.payload import Violation
from metric_forwarder.formats.samples import Sample
from metric_forwarder.intake.exclusions import Exclusions, Origin
from metric_forwarder.intake.given_times import EventTimes
from metric_forwarder.intake.schema import MAX_FLOAT, PointSchema, is_finite
from metric_forwarder.intake.series import KnownSeries, are_texts, as_text
from metric_forwarder.model import Message, Outcome, Point, Problem, Series
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.times import NS_PER_MS, NUMBERS_BELOW, in_words, nanoseconds, to_milliseconds

# Memory of a point, its row and its identity; measured.
_POINT_BYTES = 450
_REQUIRED_MEMBERS = 3  # metricName, dimensions, value


class PointMaker:
    """Makes the points of one event; what cannot become a point goes to ``exclusions``.

    Args:
        known: the series met so far; those of this event are added.
        ledger: gets a row for every point.
        default_namespace: for points that name none.
        max_bytes: a larger point is invalid: it fits into no request.

    Attributes:
        points: in the order in which they came.
        stale: the points that are too old, by number, with the reason.
    """

    def __init__(
        self,
        schema: PointSchema,
        identifier: Identifier,
        destination: Destination,
        *,
        known: KnownSeries,
        times: EventTimes,
        ledger: Ledger,
        exclusions: Exclusions,
        default_namespace: str,
        max_bytes: int,
    ) -> None:
        self._schema = schema
        self._identity = identifier.identity
        self._destination = destination
        self._times = times
        self._open_row = ledger.open
        self._exclusions = exclusions
        self._default_namespace = default_namespace
        self._max_bytes = max_bytes
        self.begin_part(known)

    def begin_part(self, known: KnownSeries) -> None:
        """Start an empty part: the points made so far are delivered."""
        self.points: list[Point] = []
        self.stale: dict[int, Problem] = {}
        self._known = known
        self._size_before = known.size
        self._wire_bytes = 0

    @property
    def size(self) -> int:
        """Bytes that the points of this part take, about, with their series."""
        return self._wire_bytes + len(self.points) * _POINT_BYTES + self._known.size - self._size_before

    def take_known(self, message: Message, pointer: str, raw: Any, time_ns: int | None = None) -> bool:
        """Make a point of a known series; return False, and do nothing, if anything about it is unusual.

        ``raw`` may be any decoded value. ``time_ns`` is the time of a sample.
        """
        try:
            dimensions, value = raw["dimensions"], raw["value"]
            members = (raw.get("namespace"), raw["metricName"], *dimensions, *dimensions.values())
            series = self._known.by_point[members]
        except (KeyError, AttributeError, TypeError):
            return False
        # A chained comparison is false for NaN, and for what is beyond a float's range.
        if not ((type(value) is float or type(value) is int) and -MAX_FLOAT <= value <= MAX_FLOAT):
            return False
        key = None
        unread = len(raw) - _REQUIRED_MEMBERS
        if unread:
            timestamp, key = raw.get("timestamp"), raw.get("id")
            unread -= raw.get("namespace") is not None
            if timestamp is not None:
                time_ns = _time_ns(timestamp)
                unread -= time_ns is not None
            if key is not None and self._schema.accepts_id(key):
                key = as_text(key)
                unread -= 1
            if unread:
                return False
        return self._make(message, pointer, series, value, time_ns, key) is None

    def take(self, origin: Origin, raw: Any, sample: Sample | None = None) -> None:
        """Make a point, or settle it with its problems.

        Args:
            origin: where it came from.
            raw: the point as decoded JSON, which rules may have changed.
            sample: the sample of another format that the point was made of; ``why_not_carried`` has checked its value.
        """
        message, payload, index = origin
        is_replayed = message.already_validated
        # A schema accepts finite numbers only. A point from the spool may have been a sample with NaN or an infinity.
        checked = (
            _with_number(raw) if sample or (is_replayed and self._destination.carries_non_finite) else raw
        )
        if not (self._schema.accepts_replayed if is_replayed else self._schema.accepts)(checked):
            if not self._exclusions.count_invalid(message):
                self._add_invalid(
                    origin,
                    self._schema.violations(checked) if self._exclusions.may_explain() else _UNEXPLAINED,
                )
            return
        series = self._find_series(checked)
        if isinstance(series, Violation):
            self._add_invalid(origin, [((), series)])
            return
        time_ns = sample.time_ns if sample else None
        if "timestamp" in raw:
            time_ns = nanoseconds(raw["timestamp"])
        key = as_text(raw["id"]) if "id" in raw else None
        problem = self._make(message, payload.pointer(index), series, raw["value"], time_ns, key)
        if problem is not None:
            self._exclusions.settle(origin, [problem])

    def _add_invalid(self, origin: Origin, found: Sequence[tuple[tuple[Any, ...], Violation]]) -> None:
        self._exclusions.add_invalid(origin, [origin.located(path, violation) for path, violation in found])

    def _find_series(self, raw: dict[str, Any]) -> Series | Violation:
        """Find the series of a valid point; it becomes known if every finite value is valid in it."""
        namespace, metric, dimensions = raw.get("namespace"), raw["metricName"], raw["dimensions"]
        found = self._known.find(namespace or self._default_namespace, metric, dimensions)
        if isinstance(found, Series) and self._schema.takes_any_number and are_texts(dimensions):
            self._known.remember((namespace, metric, *dimensions, *dimensions.values()), found)
        return found

    def _make(
        self,
        message: Message,
        pointer: str,
        series: Series,
        value: float,
        time_ns: int | None,
        key: str | None,
    ) -> Problem | None:
        """Make the point of a valid reading, unless its time or its size is wrong."""
        times = self._times
        if time_ns is not None:
            time_ms = to_milliseconds(time_ns)
            if time_ns > times.latest_ns:
                return self._ahead(message, f"{pointer}/timestamp", time_ns)
        else:
            time_ms = times.now_ms if message.time_ms is None else message.time_ms
            if self._destination.carries_timestamps:
                if time_ms > times.latest_ms:
                    return self._ahead(message, pointer, time_ms * NS_PER_MS)
                if not message.already_validated:
                    # A point from the spool got its time before.
                    time_ms = times.next_ms(series, time_ms)
        wire = self._destination.encode(series, value, time_ms)
        if len(wire) > self._max_bytes:
            return _oversized(message, pointer, len(wire))
        self._wire_bytes += len(wire)
        identity = self._identity(series, value, time_ns, key, message, pointer)
        number = self._open_row()
        # Half the time of ``Point(…)``, of which there is one for each point.
        point = _new_tuple(
            Point, (number, series, value, time_ns, key, message, pointer, identity, time_ms, wire)
        )
        self.points.append(point)
        if time_ns is not None and time_ns < times.oldest_ns:
            self.stale[number] = _stale(point, times.age_s(time_ns))
        return None

    def _ahead(self, message: Message, pointer: str, time_ns: int) -> Problem:
        """Why a time ahead of the clock is invalid: Prometheus would store it, then refuse readings more than an hour older."""
        text = (
            f"has a time {in_words(self._times.ahead_s(time_ns))} ahead of the forwarder's clock, more than MF_MAX_AHEAD_S allows: "
            "correct the producer's clock, or the unit of its time (seconds, or milliseconds from 1e11 on)"
        )
        return Problem(Outcome.INVALID, message.source, pointer, "maxAhead", None, text)


def _time_ns(timestamp: Any) -> int | None:
    """The time of a valid timestamp; None if it is not valid."""
    kind = type(timestamp)
    if kind is str or ((kind is int or kind is float) and 0 <= timestamp < NUMBERS_BELOW):
        return nanoseconds(timestamp)
    return None


def _with_number(raw: Any) -> Any:
    """Replace NaN or an infinity by a number, because a schema does not accept them."""
    value = raw.get("value") if type(raw) is dict else None
    return {**raw, "value": 0} if type(value) is float and not is_finite(value) else raw


_new_tuple = tuple.__new__
_UNEXPLAINED = [
    (
        (),
        Violation(
            "",
            "schema",
            "breaks the schema, as many points of this event do: only the first ones are explained; metric-forwarder "
            "check explains all",
        ),
    )
]


def _stale(point: Point, age_s: float) -> Problem:
    text = (
        f"is {in_words(age_s)} old, more than MF_MAX_AGE_S allows: this destination stamps points on arrival, "
        "so it would land in a wrong period; send sooner, or raise MF_MAX_AGE_S"
    )
    return Problem(Outcome.STALE, point.message.source, f"{point.pointer}/timestamp", "maxAge", None, text)


def _oversized(message: Message, pointer: str, size: int) -> Problem:
    text = f"takes {size} bytes, more than a request holds: shorten its texts, or raise MF_BATCH_MAX_BYTES"
    return Problem(Outcome.INVALID, message.source, pointer, "maxBytes", None, text)

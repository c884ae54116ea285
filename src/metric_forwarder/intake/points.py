"""Candidates → ``Point``: their series, times, identities, and bytes for the destination.

There are two paths with the same result. ``take_together`` is the fast path: it looks at many candidates at once, column by
column, and makes all of their points or none. ``take`` validates a single one, and says what is wrong with it.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count, repeat
from typing import Any, NamedTuple

from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.formats import Format
from metric_forwarder.formats.json_text import Violation
from metric_forwarder.formats.payload import Payload
from metric_forwarder.formats.samples import Decoder, FormatHint, Sample
from metric_forwarder.intake.exclusions import Exclusions, Origin
from metric_forwarder.intake.given_times import EventTimes, GivenTimes
from metric_forwarder.intake.schema import MAX_FLOAT, PointSchema, is_finite
from metric_forwarder.intake.series import SeriesCache, as_text
from metric_forwarder.model import Message, Outcome, Point, Problem, Series
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.times import (
    NS_PER_MS,
    all_milliseconds,
    all_nanoseconds,
    nanoseconds,
    to_milliseconds,
)

# Memory of a point, its row and its identity; measured.
_POINT_BYTES = 450
_REQUIRED_MEMBERS = 3  # metricName, dimensions, value
_OPTIONAL_MEMBERS = ("timestamp", "id", "namespace")
_NUMBERS = {float, int}
# The most bytes of a point in a request besides those of its series: a whole number may have 309 digits.
_LONGEST_VALUE = 400


class Candidates:
    """Values that may become points, in columns: the nth item of each list belongs to the nth candidate.

    Attributes:
        pointers: their places in their messages.
        raws: the points as decoded JSON, which rules may have changed.
        times_ns: the times of samples; None for a point, whose time is one of its members.
        payloads: the payload that holds each, or the sample that it was made of; None: it is a payload itself.
        places: their places in the payload.
        apart: what tells each apart from others of its series; usually empty.
    """

    __slots__ = ("apart", "messages", "payloads", "places", "pointers", "raws", "times_ns")

    def __init__(self, messages: Sequence[Message] = (), bodies: Sequence[Any] = ()) -> None:
        """Begin with messages of which each is a candidate itself, or without any."""
        points = len(bodies)
        self.messages = list(messages)
        self.pointers = [""] * points
        self.raws = list(bodies)
        self.times_ns: list[int | None] = [None] * points
        self.payloads: list[Payload | Sample | None] = [None] * points
        self.places = [0] * points
        self.apart = [""] * points

    def __len__(self) -> int:
        return len(self.raws)

    def origin(self, nth: int) -> Origin:
        """Where a candidate came from."""
        message, payload = self.messages[nth], self.payloads[nth]
        if isinstance(payload, Sample):
            return Origin.alone(message, payload.where, payload)
        return Origin(message, payload or Payload((self.raws[nth],)), self.places[nth])

    def part(self, start: int, stop: int) -> "Candidates":
        """Some of them."""
        part = Candidates()
        for name in self.__slots__:
            setattr(part, name, getattr(self, name)[start:stop])
        return part


Relabel = Callable[[Any], tuple[Any, str]]
"""Applies the relabel rules to a point: returns what it is then, None if they drop it, and what it was, if they changed it."""


class IntakeRules(NamedTuple):
    """The rules that a point must meet before it is sent.

    Attributes:
        max_bytes: a larger point is invalid: it fits into no request.
        default_namespace: for points without one.
        max_age_s: a point with an older timestamp is stale, if the destination stamps points on arrival; 0: none is.
        max_ahead_s: a point whose time is further ahead of the clock is invalid; 0: none is.
        max_explained: how many invalid points are explained; explaining costs much more than finding them.
        format_of: returns the format of a message by its source; without it, or if it returns None, detect it by shape.
        hint: from the settings, for messages whose trigger gives none.
        relabel: applies the relabel rules; None: there are none.
        mapping: reads JSON of an unknown format; None: there is no mapping.
    """

    max_bytes: int
    default_namespace: str = ""
    max_age_s: float = 0
    max_ahead_s: float = 0
    max_explained: int = 100
    format_of: Callable[[str], Format | None] | None = None
    hint: FormatHint = FormatHint()
    relabel: Relabel | None = None
    mapping: Decoder | None = None


class IntakeParts(NamedTuple):
    """What an intake needs and keeps from one event to the next."""

    point_schema: PointSchema
    identifier: Identifier
    destination: Destination
    rules: IntakeRules
    series: SeriesCache
    given_times: GivenTimes


class PointMaker:
    """Makes the points of one event; what cannot become a point goes to ``exclusions``.

    Args:
        parts: what lasts from one event to the next; the series of this event are added.
        ledger: gets a row for every point.

    Attributes:
        points: in the order in which they came.
        stale: the points that are too old, by number, with the reason.
        unsure: the numbers of points that are too old or too far ahead, unless the clock is wrong.
    """

    def __init__(self, parts: IntakeParts, times: EventTimes, ledger: Ledger, exclusions: Exclusions) -> None:
        self._schema = parts.point_schema
        self._identifier = parts.identifier
        self._destination = parts.destination
        self._series = parts.series
        self._default_namespace, self._max_bytes = parts.rules.default_namespace, parts.rules.max_bytes
        self._times = times
        self._ledger = ledger
        self._exclusions = exclusions
        self.begin_part()

    def begin_part(self) -> None:
        """Start an empty part: the points made so far are delivered."""
        self.points: list[Point] = []
        self.stale: dict[int, Problem] = {}
        self.unsure: set[int] = set()
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes that the points of this part take, about, with their series."""
        return self._bytes + len(self.points) * _POINT_BYTES

    def take_together(self, candidates: Candidates) -> Sequence[int] | None:
        """Make the points of all candidates, and return None; if one of them is unusual, make none.

        Returns:
            the places of unusual ones; empty if they are unknown.
        """
        raws = candidates.raws
        if not self._schema.takes_any_number:
            return range(len(raws))
        find, default_namespace = self._series.known.get, self._default_namespace
        found: list[Any] = []
        for raw in raws:
            try:
                dimensions = raw["dimensions"]
                namespace = raw.get("namespace", default_namespace)
                series = find((namespace, raw["metricName"], *dimensions, *dimensions.values()))
            except (KeyError, AttributeError, TypeError):
                series = None
            found.append(series)
        if not all(found):
            found = self._meet(raws, found)
            unusual = [place for place, series in enumerate(found) if series is None]
            if unusual:
                return unusual
        longest = self._max_bytes - _LONGEST_VALUE
        if max([len(series.encoded_prefix) for series in found]) > longest:
            return [place for place, series in enumerate(found) if len(series.encoded_prefix) > longest]
        try:
            values = [raw["value"] for raw in raws]
        except KeyError:
            return self._invalid(raws)
        # NaN, which this may overlook, is only in samples, and only where the destination carries it.
        if not ({*map(type, values)} <= _NUMBERS and min(values) >= -MAX_FLOAT and max(values) <= MAX_FLOAT):
            return [place for place, value in enumerate(values) if not is_finite(value)]
        times_ns: Sequence[int | None] = candidates.times_ns
        keys: Iterable[str | None] = _NONE
        members = sum(map(len, raws))
        if members > _REQUIRED_MEMBERS * len(raws):
            optional = self._optional(raws, times_ns, members)
            if optional is None:
                return self._invalid(raws)
            times_ns, keys = optional
        times_ms = self._times_ms(candidates.messages, found, times_ns)
        if times_ms is None:
            return ()
        self._append(candidates, found, values, times_ns, keys, times_ms)
        return None

    def _invalid(self, raws: Sequence[Any]) -> Sequence[int]:
        return [place for place, raw in enumerate(raws) if not self._schema.accepts(raw)]

    def _meet(self, raws: Sequence[Any], found: Sequence[Series | None]) -> list[Any]:
        """Complete ``found`` with the series of valid points that are new; None for an unusual point."""
        accepts = self._schema.accepts
        met: list[Any] = []
        for raw, series in zip(raws, found, strict=True):
            if series is None and accepts(raw):
                made = self._find_series(raw)
                met.append(made if isinstance(made, Series) else None)
            else:
                met.append(series)
        return met

    def _optional(
        self, raws: Sequence[Any], times_ns: Sequence[int | None], members: int
    ) -> tuple[Sequence[int | None], Iterable[str | None]] | None:
        """The times and the ids of points that have more than the required members; None if anything is unusual."""
        columns: dict[str, Sequence[Any]] = dict.fromkeys(_OPTIONAL_MEMBERS, ())
        unread = members - _REQUIRED_MEMBERS * len(raws)
        # Usually all points have the members that the first one has.
        for name in sorted(_OPTIONAL_MEMBERS, key=raws[0].__contains__, reverse=True):
            columns[name] = column = [raw.get(name) for raw in raws]
            unread -= len(raws) - column.count(None)
            if unread == 0:
                break
        # An empty namespace is invalid, but looks like none.
        if unread or "" in columns["namespace"]:
            return None
        timestamps, ids = columns["timestamp"], columns["id"]
        if timestamps.count(None) < len(timestamps):
            found = all_nanoseconds(timestamps)
            if found is None:
                return None
            times_ns = found
        if not ids:
            return times_ns, _NONE
        if not self._schema.accepts_ids(ids):
            return None
        return times_ns, [key if key is None or type(key) is str else as_text(key) for key in ids]

    def _times_ms(
        self, messages: Sequence[Message], series: Sequence[Series], times_ns: Sequence[Any]
    ) -> Sequence[int] | None:
        """When points were measured, Unix milliseconds; None if a time is unusual, or only some have one of their own."""
        without = times_ns.count(None)
        if without == len(times_ns):
            return self._given_ms(messages, series)
        times = self._times
        if without or not times.oldest_ns <= min(times_ns) <= max(times_ns) <= times.latest_ns:
            return None
        return all_milliseconds(times_ns)

    def _given_ms(self, messages: Sequence[Message], series: Sequence[Series]) -> Sequence[int] | None:
        """The times of points that have none of their own; None if one is too far ahead, or only some come from the spool."""
        now_ms = self._times.now_ms
        wanted = [now_ms if message.time_ms is None else message.time_ms for message in messages]
        if not self._destination.carries_timestamps:
            return wanted
        are_replayed = {message.already_validated for message in messages}
        if len(are_replayed) > 1 or max(wanted) > self._times.latest_ms:
            return None
        # A point from the spool got its time before.
        return wanted if True in are_replayed else self._times.next_ms(series, wanted)

    def _append(
        self,
        candidates: Candidates,
        series: Sequence[Series],
        values: Sequence[float],
        times_ns: Sequence[int | None],
        keys: Iterable[str | None],
        times_ms: Sequence[int],
    ) -> None:
        messages, pointers = candidates.messages, candidates.pointers
        wires = self._destination.encode(series, values, times_ms)
        if any(candidates.apart):
            keys = self._identifier.keys(candidates.apart, times_ns, keys)
        identities = self._identifier.identities(series, values, times_ns, keys, messages, pointers)
        numbers = count(self._ledger.open(len(wires)))
        columns = (numbers, series, values, times_ns, keys, messages, pointers, identities, times_ms, wires)
        # Half the time of ``Point(…)``, of which there is one for each point.
        self.points += map(_new_tuple, repeat(Point), zip(*columns, strict=False))
        self._bytes += sum(map(len, wires))

    def take(self, candidates: Candidates, nth: int) -> None:
        """Make the point of a single candidate, or settle it with its problems."""
        message, raw = candidates.messages[nth], candidates.raws[nth]
        is_sample = isinstance(candidates.payloads[nth], Sample)
        is_replayed = message.already_validated
        # A schema accepts finite numbers only. A point from the spool may have been a sample with NaN or an infinity; whether
        # the destination takes that from a sample was checked before.
        is_any = is_sample or (is_replayed and self._destination.carries_non_finite)
        checked = _with_number(raw) if is_any else raw
        if not (self._schema.accepts_replayed if is_replayed else self._schema.accepts)(checked):
            if not self._exclusions.count_invalid(message):
                is_explained = self._exclusions.may_explain()
                found = self._schema.violations(checked) if is_explained else [((), _UNEXPLAINED)]
                self._add_invalid(candidates.origin(nth), found)
            return
        series = self._find_series(checked)
        if isinstance(series, Violation):
            self._add_invalid(candidates.origin(nth), [((), series)])
            return
        time_ns = nanoseconds(raw["timestamp"]) if "timestamp" in raw else candidates.times_ns[nth]
        key = as_text(raw["id"]) if "id" in raw else None
        problem = self._make(candidates.part(nth, nth + 1), series, raw["value"], time_ns, key)
        if problem is not None:
            self._exclusions.settle(candidates.origin(nth), [problem])

    def _add_invalid(self, origin: Origin, found: Sequence[tuple[tuple[Any, ...], Violation]]) -> None:
        self._exclusions.add_invalid(origin, [origin.located(path, violation) for path, violation in found])

    def _find_series(self, raw: dict[str, Any]) -> Series | Violation:
        """Find the series of a valid point, or make it and remember it; return why the destination takes none of its points."""
        namespace, metric = raw.get("namespace", self._default_namespace), raw["metricName"]
        dimensions = {
            name: value if type(value) is str else as_text(value) for name, value in raw["dimensions"].items()
        }
        found = self._series.known.get((namespace, metric, *dimensions, *dimensions.values()))
        if found is not None:
            return found
        series = Series(namespace, metric, dimensions)
        violation = self._destination.prepare_series(series, dimensions)
        if violation is not None:
            return violation
        self._bytes += self._series.add(series)
        return series

    def _make(
        self, candidate: Candidates, series: Series, value: float, time_ns: int | None, key: str | None
    ) -> Problem | None:
        """Make the point of a valid candidate, unless its time or its size is wrong."""
        (message,), (pointer,) = candidate.messages, candidate.pointers
        times, judged_ns = self._times, self._judged_ns(message, time_ns)
        is_unsure = judged_ns is not None and not times.has(judged_ns) and not times.make_sure()
        if judged_ns is not None and judged_ns > times.latest_ns and not is_unsure:
            return self._ahead(message, pointer if time_ns is None else _time_in(candidate), judged_ns)
        times_ms = self._given_ms([message], [series]) if time_ns is None else None
        if times_ms is None:
            # It has a time of its own, or the message has one that may be too far ahead.
            times_ms = [to_milliseconds(judged_ns or 0)]
        (wire,) = self._destination.encode([series], [value], times_ms)
        if len(wire) > self._max_bytes:
            return _oversized(message, pointer, len(wire))
        self._append(candidate, [series], [value], [time_ns], [key], times_ms)
        point = self.points[-1]
        if is_unsure:
            self.unsure.add(point.number)
        elif time_ns is not None and time_ns < times.oldest_ns:
            self.stale[point.number] = _stale(point, _time_in(candidate), times, time_ns)
        return None

    def _judged_ns(self, message: Message, time_ns: int | None) -> int | None:
        """The time that must not be wrong: the point's, or the message's if the point arrives with it; None: there is none."""
        if time_ns is None and message.time_ms is not None and self._destination.carries_timestamps:
            return message.time_ms * NS_PER_MS
        return time_ns

    def _ahead(self, message: Message, pointer: str, time_ns: int) -> Problem:
        """Why a time ahead of the clock is invalid: Prometheus would store it, then refuse readings more than an hour older."""
        text = (
            f"has a time {self._times.from_now(time_ns)} ahead of {self._times.clock_in_words}, more than "
            "MF_MAX_AHEAD_S allows: correct the producer's clock, or the unit of its time (seconds, or milliseconds from 1e11 on)"
        )
        return Problem(Outcome.INVALID, message.source, pointer, "maxAhead", None, text)


def _with_number(raw: Any) -> Any:
    """Replace NaN or an infinity by a number, because a schema does not accept them."""
    value = raw.get("value") if type(raw) is dict else None
    return {**raw, "value": 0} if type(value) is float and not is_finite(value) else raw


_new_tuple = tuple.__new__
_NONE = repeat(None)
_UNEXPLAINED = Violation(
    "",
    "schema",
    "breaks the schema, as many points of this event do: only the first ones are explained; metric-forwarder check explains all",
)


def _time_in(candidate: Candidates) -> str:
    """Where the time of a single candidate stands; of a sample only its own place is known."""
    is_sample = isinstance(candidate.payloads[0], Sample)
    return candidate.pointers[0] if is_sample else f"{candidate.pointers[0]}/timestamp"


def _stale(point: Point, pointer: str, times: EventTimes, time_ns: int) -> Problem:
    is_ancient = times.oldest_ns - time_ns > _ANCIENT_NS
    text = (
        f"is {times.from_now(time_ns)} old, more than MF_MAX_AGE_S allows, by {times.clock_in_words}: this destination "
        f"stamps points on arrival, so it would land in a wrong period; {_CORRECT if is_ancient else _SOONER}"
    )
    return Problem(Outcome.STALE, point.message.source, pointer, "maxAge", None, text)


# No producer holds points back for so long: a year.
_ANCIENT_NS = 365 * 86_400 * 10**9
_SOONER = "send sooner, or raise MF_MAX_AGE_S"
_CORRECT = "correct the producer's clock, or the unit of its time"


def _oversized(message: Message, pointer: str, size: int) -> Problem:
    text = f"takes {size} bytes, more than a request holds: shorten its texts, or raise MF_BATCH_MAX_BYTES"
    return Problem(Outcome.INVALID, message.source, pointer, "maxBytes", None, text)

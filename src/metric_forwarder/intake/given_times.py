"""Checks the times of points, and gives a time to points that have none.

A destination that carries times takes one value of a series for each time, and none older than the newest. Several
readings of the same second would lose all but one, so a given time is moved later if its series has that time already.
"""

from collections.abc import Callable, Iterable

from metric_forwarder.model import Point, Series
from metric_forwarder.times import NS_PER_MS, NS_PER_S, in_words

# The most that a time may be moved, and lie ahead of the clock: more than a burst needs, less than Prometheus refuses.
MAX_MOVED_MS = 600_000
# How many series have their last given time remembered; one takes about 170 bytes.
MAX_REMEMBERED = 50_000
# Finds out by how many seconds the clock by which times are judged is ahead of this machine's, also by asking if it may;
# None: that is unknown.
FindOffset = Callable[[bool], float | None]


class GivenTimes:
    """Remembers the last given time of each series that arrived or is in the spool, while the instance is warm."""

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        # By the digest of the series; the one given longest ago comes first.
        self._last_ms: dict[bytes, int] = {}

    def last_ms(self, series: Series) -> int | None:
        """The last time that was given to a point of this series, and stays, Unix milliseconds."""
        return self._last_ms.get(series.digest)

    def remember(self, points: Iterable[Point]) -> None:
        """Remember the times that points were given and keep; the points come in the order of their times."""
        last_ms = self._last_ms
        for point in points:
            digest, time_ms = point.series.digest, point.time_ms
            before_ms = last_ms.pop(digest, time_ms)
            # A replay brings older times. A remembered time that is much later came from a wrong clock.
            last_ms[digest] = before_ms if time_ms < before_ms < time_ms + MAX_MOVED_MS else time_ms
        while len(last_ms) > self._max_remembered:
            del last_ms[next(iter(last_ms))]


class EventTimes:
    """Judges the times of the points of one event, and gives times to those that have none.

    Args:
        now_ms: when the event was received by this machine's clock, Unix milliseconds; points without a time get it.
        max_age_s: a point with an older time is stale; 0: none is.
        max_ahead_s: a time that is further ahead of the clock is invalid; 0: none is.
        find_offset_s: see ``FindOffset``.

    Attributes:
        oldest_ns: an older time is stale.
        latest_ns: a later time is invalid; the same in milliseconds: ``latest_ms``.
    """

    def __init__(
        self,
        given: GivenTimes,
        now_ms: int,
        max_age_s: float = 0,
        max_ahead_s: float = 0,
        find_offset_s: FindOffset = lambda _: 0.0,
    ) -> None:
        self._given = given
        self._latest_given_ms = now_ms + MAX_MOVED_MS
        # By digest: the series themselves need not stay in memory until the event ends.
        self._in_event_ms: dict[bytes, int] = {}
        self._find_offset_s = find_offset_s
        self._max_age_s, self._max_ahead_s = max_age_s, max_ahead_s
        self.now_ms = now_ms
        self._is_sure = self._judge_by(find_offset_s(False))

    def _judge_by(self, offset_s: float | None) -> bool:
        """Judge times by a clock that is so far ahead of this machine's, or by this machine's; return whether it is known."""
        self._offset_s = offset_s or 0.0
        self._now_ns = self.now_ms * NS_PER_MS + round(self._offset_s * NS_PER_S)
        max_age_s, max_ahead_s = self._max_age_s, self._max_ahead_s
        self.oldest_ns = self._now_ns - round(max_age_s * NS_PER_S) if max_age_s else float("-inf")
        self.latest_ns = self._now_ns + round(max_ahead_s * NS_PER_S) if max_ahead_s else float("inf")
        self.latest_ms = self.latest_ns / NS_PER_MS
        return offset_s is not None

    def make_sure(self) -> bool:
        """Before a time is called wrong, find out whether it is the clock that is; False if that remains unknown."""
        self._is_sure = self._is_sure or self._judge_by(self._find_offset_s(True))
        return self._is_sure

    def has(self, time_ns: int) -> bool:
        """Whether a time is neither too old nor too far ahead."""
        return self.oldest_ns <= time_ns <= self.latest_ns

    def from_now(self, time_ns: int) -> str:
        """How far a time is from that of the clock, in words."""
        return in_words(abs(time_ns - self._now_ns) / NS_PER_S)

    @property
    def clock_in_words(self) -> str:
        """The clock by which times are judged."""
        if self._offset_s == 0:
            return "the forwarder's clock"
        side = "ahead of" if self._offset_s > 0 else "behind"
        return f"the destination's clock, which is {in_words(abs(self._offset_s))} {side} the forwarder's (one of the two is wrong)"

    def next_ms(self, series: Iterable[Series], wanted_ms: Iterable[int]) -> list[int]:
        """Return the times for points: the wanted one, or one millisecond after the last given time if that is later.

        If a time would be moved too far, or too far ahead of the clock, it stays as it is: the last time came from a wrong
        clock, or this reading is old. The destination may then refuse it.
        """
        in_event_ms, times_ms = self._in_event_ms, []
        for each, time_ms in zip(series, wanted_ms, strict=True):
            last_ms = in_event_ms.get(each.digest)
            if last_ms is None:
                last_ms = self._given.last_ms(each)
            if last_ms is not None and time_ms <= last_ms:
                is_far = last_ms >= time_ms + MAX_MOVED_MS or last_ms >= self._latest_given_ms
                time_ms = time_ms if is_far else last_ms + 1  # noqa: PLW2901 - moved
            in_event_ms[each.digest] = time_ms
            times_ms.append(time_ms)
        return times_ms

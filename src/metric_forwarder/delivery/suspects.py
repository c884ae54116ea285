"""Predicts which points a destination will refuse, from its refusals of single points; for one event, for all lanes.

Finding the points at fault takes a request for each of them, so an event full of them would never end. Points of a metric or
a series are set aside once several of them were refused one by one, until all others are sent. Then, if the reason
concerns names, more of them are sent alone, from series far apart. If none is taken, the rest of that metric is rejected
without being sent. A reason that concerns one point says nothing about others: those are all sent.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from metric_forwarder.delivery.verdicts import Concern, Verdict, like_the_others
from metric_forwarder.machine import Lock
from metric_forwarder.model import Batch, Point, Series

# Points refused one by one after which the others of their metric, or of their series, are sent last.
_SUSPECT_AFTER = 4
# After this many, if none was taken, the other points of their metric are rejected without being sent.
ENOUGH = 32

# A metric with the names of its dimensions.
_Metric = tuple[str, str, tuple[str, ...]]


class Suspects:
    """Counts refusals of single points by what they concern; costs nothing as long as there are none."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._metrics: dict[bytes, _Metric] = {}
        self._refused_series: Counter[bytes] = Counter()
        self._refused_metrics: Counter[tuple[_Metric, str]] = Counter()
        self._suspect_series: set[bytes] = set()
        # With the verdict on the point that was refused last.
        self._suspect_metrics: dict[_Metric, Verdict] = {}
        # Batches that were taken but not looked through yet, and the metrics of those that were.
        self._taken: list[Batch] = []
        self._taken_metrics: set[_Metric] = set()
        self.exist = False

    def note_taken(self, batch: Batch) -> None:
        """The destination took a batch: no metric in it is refused as a whole."""
        self._taken.append(batch)

    def note_refused(self, point: Point, verdict: Verdict) -> None:
        """The destination refused a point that it was sent alone."""
        series = point.series
        with self._lock:
            self._refused_series[series.digest] += 1
            if self._refused_series[series.digest] >= _SUSPECT_AFTER:
                self._suspect_series.add(series.digest)
                self.exist = True
            if verdict.concern is Concern.NAMES:
                metric = self._metric(series)
                self._refused_metrics[metric, verdict.label] += 1
                if self._refused_metrics[metric, verdict.label] >= _SUSPECT_AFTER:
                    self._suspect_metrics[metric] = verdict
                    self.exist = True

    def is_suspect(self, point: Point) -> bool:
        """Whether the point is sent after all points that are not suspects."""
        series = point.series
        return series.digest in self._suspect_series or self._metric(series) in self._suspect_metrics

    def presumed(self, point: Point) -> Verdict | None:
        """Why the point is rejected without being sent; None if it must be sent."""
        with self._lock:
            metric = self._metric(point.series)
            verdict = self._suspect_metrics.get(metric)
            if verdict is None or metric in self._taken_so_far():
                return None
            refused = self._refused_metrics[metric, verdict.label]
            return like_the_others(verdict, refused) if refused >= ENOUGH else None

    def by_metric(self, points: Sequence[Point]) -> tuple[list[list[Point]], list[Point]]:
        """Return the points of each suspect metric, in the order to send them, and all other points."""
        suspect: dict[_Metric, list[Point]] = {}
        others: list[Point] = []
        with self._lock:
            taken = self._taken_so_far()
            for point in points:
                metric = self._metric(point.series)
                is_open = metric in self._suspect_metrics and metric not in taken
                (suspect.setdefault(metric, []) if is_open else others).append(point)
        return [list(_spread(members)) for members in suspect.values()], others

    def is_cleared(self, point: Point) -> bool:
        """Whether a point of the same metric was taken."""
        with self._lock:
            return self._metric(point.series) in self._taken_so_far()

    def _metric(self, series: Series) -> _Metric:
        metric = self._metrics.get(series.digest)
        if metric is None:
            names = tuple(name for name, _ in series.dimensions)
            metric = self._metrics[series.digest] = (series.namespace, series.metric, names)
        return metric

    def _taken_so_far(self) -> set[_Metric]:
        while self._taken:
            self._taken_metrics.update(self._metric(point.series) for point in self._taken.pop())
        return self._taken_metrics


def _spread(points: Sequence[Point]) -> Iterator[Point]:
    """The first point of each series, then the second of each, …; series that are far apart in the event come first."""
    by_series: dict[bytes, list[Point]] = {}
    for point in points:
        by_series.setdefault(point.series.digest, []).append(point)
    queues = list(by_series.values())
    step = max(1, len(queues) // ENOUGH)
    queues = [queue for start in range(step) for queue in queues[start::step]]
    depth = 0
    while queues:
        yield from (queue[depth] for queue in queues)
        depth += 1
        queues = [queue for queue in queues if len(queue) > depth]

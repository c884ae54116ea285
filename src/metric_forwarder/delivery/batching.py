"""Points → lanes → batches. A lane is sent in order, lanes in parallel; all points of a series are in one lane.

If a destination takes a series only in order, its lanes are sent round-robin: the oldest point of each series, then the
second of each, and so on. A batch then holds at most one point of a series.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter

from metric_forwarder.model import Batch, Point, Series

# The limits are doubled after this time without a refusal.
_GROW_AFTER_S = 60.0


class BatchLimits:
    """How large a request may be: lowered by refusals, and doubled after each minute without one.

    "Too many points" may mean too many in a period (code 1018), not in one request. If a request of this size was taken
    before, the period is full, and no limit is learned. If that is wrong, it costs one refused request a minute.

    Attributes:
        max_points: points in a request.
        max_bytes: bytes of points in a request.
    """

    def __init__(self, max_points: int, max_bytes: int) -> None:
        self._most_points = self.max_points = max_points
        self._most_bytes = self.max_bytes = max_bytes
        # The largest request that was taken since the limits last grew.
        self._taken = 0
        self._is_period_full = False
        self._changed_at = 0.0
        # Half the size of a refused request, until a request is taken: the event may end before the halves are sent.
        self._untried = 0

    def accept(self, points: int) -> None:
        """Note that a request of this many points was taken."""
        self._taken = max(self._taken, points)
        self._untried = 0

    def refuse(self, points: int) -> None:
        """Note that a request had too many points; if a request of its size was taken before, the period is full."""
        self._is_period_full |= points <= max(1, self._taken)
        self._untried = points // 2

    def learn_points(self, worked: int, now: float) -> None:
        """Lower the limit to a size that was taken after a larger one was refused; ``now``: monotonic seconds."""
        if not self._is_period_full:
            self.max_points = min(self.max_points, worked)
            self._changed_at = now

    def learn_bytes(self, worked: int, now: float) -> None:
        """Lower the limit to a size that was taken after a larger one was refused; ``now``: monotonic seconds."""
        self.max_bytes = min(self.max_bytes, worked)
        self._changed_at = now

    def begin(self, now: float) -> None:
        """Start an event: allow more if the last refusal is long ago; begin with half of a refused size if it was not sent yet."""
        self._is_period_full = False
        minutes = int((now - self._changed_at) / _GROW_AFTER_S)
        if minutes > 0:
            self._changed_at = now
            self._taken = 0
            factor = 2 ** min(minutes, 30)
            self.max_points = min(self._most_points, self.max_points * factor)
            self.max_bytes = min(self._most_bytes, self.max_bytes * factor)
        if self._untried:
            self.max_points = min(self.max_points, self._untried)


def plan_lanes(
    points: Sequence[Point],
    group: Callable[[Series], Hashable],
    max_points: int,
    concurrency: int,
    *,
    one_per_series: bool = False,
) -> list[list[Point]]:
    """Split points so that each lane holds one group, and each series is in one lane, in its order.

    A group gets only as many lanes as it can fill with whole batches, so that concurrency does not cost requests. If a batch
    holds a series once, more lanes would only make each of its batches smaller: they take as many turns, with more requests.
    The longest lane comes first.
    """
    group_of = {series: group(series) for series in dict.fromkeys([point.series for point in points])}
    groups: dict[Hashable, list[Point]] = {name: [] for name in group_of.values()}
    if len(groups) > 1:
        for point in points:
            groups[group_of[point.series]].append(point)
    elif points:
        groups[group_of[points[0].series]] = list(points)
    lanes = [
        lane
        for members in groups.values()
        for lane in _split(members, max_points, concurrency, one_per_series=one_per_series)
    ]
    return sorted(lanes, key=len, reverse=True)


def _split(
    points: list[Point], max_points: int, concurrency: int, *, one_per_series: bool
) -> list[list[Point]]:
    if concurrency == 1 or len(points) <= max_points:
        return [points]
    digests = [point.series.digest for point in points]
    lengths = Counter(digests)
    count = min(concurrency, -(-(len(lengths) if one_per_series else len(points)) // max_points))
    if count == 1:
        return [points]
    lanes: list[list[Point]] = [[] for _ in range(count)]
    loads = [0] * count
    lane_of: dict[bytes, list[Point]] = {}
    # The longest series first, each to the emptiest lane, so that the lanes are about equally long.
    for series, length in lengths.most_common():
        emptiest = loads.index(min(loads))
        loads[emptiest] += length
        lane_of[series] = lanes[emptiest]
    for point, series in zip(points, digests, strict=True):
        lane_of[series].append(point)
    return [lane for lane in lanes if lane]


def round_robin(points: Sequence[Point]) -> list[Point]:
    """The oldest point of each series, then the second of each, …; points of one time keep their order."""
    depths: dict[bytes, int] = {}
    layers: list[list[Point]] = []
    for point in sorted(points, key=attrgetter("time_ms")):
        series = point.series.digest
        depth = depths.get(series, 0)
        depths[series] = depth + 1
        if depth == len(layers):
            layers.append([])
        layers[depth].append(point)
    return [point for layer in layers for point in layer]


def size_of(points: Sequence[Point]) -> int:
    """Bytes of points in a request."""
    return sum([len(point.wire) for point in points])


def pack(points: Sequence[Point], limits: BatchLimits, *, one_per_series: bool = False) -> Iterator[Batch]:
    """Cut a lane into batches within the present limits; a larger point is a batch of its own."""
    start = 0
    while start < len(points):
        batch: Batch = points[start : start + limits.max_points]
        if one_per_series:
            batch = _before_a_series_returns(batch)
        if size_of(batch) > limits.max_bytes:
            sizes = accumulate([len(point.wire) for point in batch])
            batch = batch[: max(1, sum(size <= limits.max_bytes for size in sizes))]
        yield batch
        start += len(batch)


def _before_a_series_returns(points: Batch) -> Batch:
    present: set[bytes] = set()
    for place, point in enumerate(points):
        series = point.series.digest
        if series in present:
            return points[:place]
        present.add(series)
    return points

"""What the forwarder counts of itself, for ``MF_SELF_METRICS``: cumulative for one warm instance, as Prometheus expects it.

``FAMILIES`` declares every metric once; the dashboards, the alert rules and docs/operate.md follow from it. What is counted
is derived from the report, the ledger and the requests of an event, when the event is over.
"""

import platform
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from metric_forwarder import __version__
from metric_forwarder.clock import Clock
from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.model import Outcome, Point
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.reporting.report import Report

if TYPE_CHECKING:
    from metric_forwarder.spool.store import SpoolLevel

PREFIX = "metric_forwarder_"
# A ledger has no span for our own JSON.
_USUAL_FORMAT = "json"

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """One metric: its name, its type in Prometheus, and its help text."""

    name: str
    kind: str
    help: str


POINTS = Family(f"{PREFIX}points_total", "counter", "Points received, by outcome.")
REQUESTS = Family(f"{PREFIX}requests_total", "counter", "Requests sent to the destination, by reply.")
REQUEST_SECONDS = Family(
    f"{PREFIX}request_seconds", "histogram", "How long a request to the destination took."
)
EVENT_SECONDS = Family(f"{PREFIX}event_seconds", "histogram", "How long it took to handle a trigger event.")
POINT_AGE = Family(
    f"{PREFIX}point_age_seconds", "histogram", "End-to-end lag: the age of a point when it was delivered."
)
SPOOL_BYTES = Family(f"{PREFIX}spool_bytes", "gauge", "Bytes in the spool, dead letters included.")
SPOOL_OLDEST = Family(
    f"{PREFIX}spool_oldest_seconds", "gauge", "Age of the oldest point that waits in the spool."
)
DEAD_LETTERS = Family(f"{PREFIX}dead_letters", "gauge", "Dead letters in the spool.")
DEGRADED = Family(f"{PREFIX}dedupe_degraded", "gauge", "1 if the last event was deduplicated without Redis.")
COLD_STARTS = Family(f"{PREFIX}cold_starts_total", "counter", "Instances that started: 1 for each.")
BUILD_INFO = Family(f"{PREFIX}build_info", "gauge", "Always 1; the labels name the version and its Python.")
FAMILIES = (
    POINTS,
    REQUESTS,
    REQUEST_SECONDS,
    EVENT_SECONDS,
    POINT_AGE,
    SPOOL_BYTES,
    SPOOL_OLDEST,
    DEAD_LETTERS,
    DEGRADED,
    COLD_STARTS,
    BUILD_INFO,
)

REQUEST_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
EVENT_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
AGE_BOUNDS_S = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 86400)


class Value(NamedTuple):
    """One series with its present value.

    Attributes:
        family: the metric that it belongs to.
        suffix: what the series has after the name of the metric, such as ``_bucket``.
        labels: its own labels, in the order in which they are declared.
    """

    family: Family
    suffix: str
    labels: Labels
    value: float


class Histogram:
    """Counts observations by upper bounds."""

    def __init__(self, family: Family, bounds: Sequence[float]) -> None:
        self._family = family
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_ages(self, now_ms: float, times_ms: Sequence[float]) -> None:
        """Count the ages of sorted times, without computing anything for each of them."""
        after = len(times_ms)
        for index, bound in enumerate(self._bounds):
            # An age equal to the bound belongs to the bound.
            first = bisect_left(times_ms, now_ms - bound * 1000, 0, after)
            self._counts[index] += after - first
            after = first
        self._counts[-1] += after
        self._sum += (len(times_ms) * now_ms - sum(times_ms)) / 1000

    def values(self) -> Iterator[Value]:
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            upper = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield Value(self._family, "_bucket", (("le", upper),), total)
        yield Value(self._family, "_sum", (), self._sum)
        yield Value(self._family, "_count", (), total)


class SelfMetrics:
    """The counters of one warm instance.

    It is also the ``RequestTrace`` and the ``OnSettled`` of an event, since a report does not hold all it counts.

    Args:
        clock: its wall clock gives the age of points.
        function: namespace and name of the function, as ``namespace/name``.
        instance: tells this instance from every other.
    """

    def __init__(self, clock: Clock, function: str, instance: str) -> None:
        self._clock = clock
        namespace, _, name = function.rpartition("/")
        both = (("function", name), ("namespace", namespace))
        # Remote write has no labels without a value, and some runtimes do not provide these.
        self.function_labels: Labels = tuple(label for label in both if label[1])
        self.instance = instance
        self.started_s = clock.time()
        self._points: Counter[tuple[str, str, str]] = Counter()
        self._requests: Counter[str] = Counter()
        self._request_ms: list[int] = []
        self._request_seconds = Histogram(REQUEST_SECONDS, REQUEST_BOUNDS_S)
        self._event_seconds = Histogram(EVENT_SECONDS, EVENT_BOUNDS_S)
        self._point_age = Histogram(POINT_AGE, AGE_BOUNDS_S)
        self._spool: SpoolLevel | None = None
        self._spool_until = 0.0
        self._is_degraded = False

    def prepared(self, verdict: Verdict | None, took_ms: int) -> None:
        """Not counted: the exchange carries no points."""

    def sent(self, *, points: int, attempt: int, waited_ms: int, verdict: Verdict, took_ms: int) -> None:  # noqa: ARG002 - the port's
        self._request_ms.append(took_ms)

    def settled(self, points: Sequence[Point], ledger: Ledger) -> None:
        """Count the ages of the points that have just been delivered."""
        now_ms = self._clock.time() * 1000
        times_ms: list[float] = sorted(
            [point.time_ms for point in ledger.with_outcome(points, Outcome.DELIVERED)]
        )
        # A producer's clock may be ahead of ours, but an age is never below 0.
        past = bisect_right(times_ms, now_ms)
        times_ms[past:] = [now_ms] * (len(times_ms) - past)
        self._point_age.observe_ages(now_ms, times_ms)

    def count(self, report: Report, ledger: Ledger) -> None:
        """Count a finished event."""
        trigger = report["trigger"]
        for name, outcomes in _outcomes_by_format(report["outcomes"], ledger):
            for outcome, points in outcomes.items():
                if points:
                    self._points[trigger, name, outcome] += points
        requests = report["requests"]
        self._requests.update(requests["returnCodes"])
        unanswered = requests["sent"] - sum(requests["returnCodes"].values())
        if unanswered > 0:
            self._requests["unanswered"] += unanswered
        request_ms, self._request_ms = self._request_ms, []
        for took_ms in request_ms:
            self._request_seconds.observe(took_ms / 1000)
        self._event_seconds.observe(report["durationMs"] / 1000)
        self._is_degraded = report["dedupe"] == "degraded"

    def set_spool(self, level: "SpoolLevel | None", for_s: float) -> None:
        """Note for so long how full the spool is; None: there is none, or it cannot be measured."""
        self._spool = level
        self._spool_until = self._clock.monotonic() + for_s

    def values(self) -> Iterator[Value]:
        """Every series, with its present value."""
        for (trigger, name, outcome), count in list(self._points.items()):
            labels = (("format", name), ("outcome", outcome), ("trigger", trigger))
            yield Value(POINTS, "", labels, count)
        for answer, count in list(self._requests.items()):
            yield Value(REQUESTS, "", (("answer", answer),), count)
        for histogram in (self._request_seconds, self._event_seconds, self._point_age):
            yield from histogram.values()
        if self._spool is not None and self._clock.monotonic() < self._spool_until:
            oldest_ms = self._spool.oldest_ms
            age_s = 0.0 if oldest_ms is None else max(0.0, self._clock.time() - oldest_ms / 1000)
            yield Value(SPOOL_BYTES, "", (), self._spool.used_bytes)
            yield Value(SPOOL_OLDEST, "", (), age_s)
            yield Value(DEAD_LETTERS, "", (), self._spool.dead_letters)
        yield Value(DEGRADED, "", (), int(self._is_degraded))
        yield Value(COLD_STARTS, "", (), 1)
        yield Value(BUILD_INFO, "", (("python", platform.python_version()), ("version", __version__)), 1)


def _outcomes_by_format(
    outcomes: Mapping[str, int], ledger: Ledger
) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Divide the outcomes of an event by the formats of its messages."""
    left = Counter(outcomes)
    for name, first, last in ledger.spans:
        if last - first == ledger.received:
            yield name, outcomes
            return
        counts = {outcome.value: count for outcome, count in ledger.outcomes(first, last).items()}
        left.subtract(counts)
        yield name, counts
    yield _USUAL_FORMAT, left


MeasureSpool = Callable[[], "SpoolLevel | None"]

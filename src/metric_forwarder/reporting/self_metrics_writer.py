"""Writes the forwarder's own metrics by remote write, after an event, in a request of their own that delays no point.

Each series begins with a 0 at the time of the previous write: without it, Prometheus's ``increase`` would not see
what an instance counted before its first write.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from metric_forwarder.clients.background import SerialWorker
from metric_forwarder.clock import Deadline
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.settling import RequestTrace
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.parts import Parts
from metric_forwarder.destinations.remote_write import RemoteWrite
from metric_forwarder.destinations.remote_write import make as make_endpoint
from metric_forwarder.destinations.remote_write_wire import encode_labels, encode_samples
from metric_forwarder.machine import Machine
from metric_forwarder.model import Point
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.reporting.log import JsonLog
from metric_forwarder.reporting.report import Report
from metric_forwarder.reporting.self_metrics import Labels, MeasureSpool, SelfMetrics, Value
from metric_forwarder.settings.kept import Kept
from metric_forwarder.settings.settings import Settings

# The longest time for a write, in seconds, and as a share of the event's remaining time.
_LONGEST_S = 1.0
_SHARE = 0.5
# With less time left, the next event writes.
_LEAST_S = 0.2
# Without another measurement a spool's level is shown for so long, or for two intervals: others may replay the spool.
_LEVEL_HOLDS_S = 300.0


class SeriesEndpoint(Protocol):
    """Where series are written; an expected failure is a verdict, not an exception."""

    def write(self, series: Sequence[bytes], timeout_s: float) -> Verdict: ...


class WrittenSeries:
    """Which series an endpoint has, and what is known of the last write; kept when other settings change.

    Args:
        started_s: when the instance began to count, Unix seconds.

    Attributes:
        last_ms: the time of the last samples.
        next_at: when the next write is due.
        worker: the thread of the last write, which may hang.
    """

    def __init__(self, started_s: float) -> None:
        self.last_ms = round(started_s * 1000) - 1
        self.next_at = -math.inf
        self.worker: SerialWorker | None = None
        self._begun: set[tuple[str, Labels]] = set()

    def has(self, value: Value) -> bool:
        return _key(value) in self._begun

    def add(self, values: Sequence[Value]) -> None:
        self._begun.update(map(_key, values))


class EventMetrics:
    """Counts each event of a warm instance, and writes the counters now and then.

    Args:
        metrics: the counters, which are its attribute ``counters``.
        endpoint: where they are written; None: they are only counted.
        written: the series that were written there.
        interval_s: the shortest time between two writes.
        log: gets a line for a write that failed.
    """

    def __init__(
        self,
        metrics: SelfMetrics,
        endpoint: SeriesEndpoint | None,
        written: WrittenSeries,
        interval_s: float,
        machine: Machine,
        log: JsonLog,
    ) -> None:
        self.counters = metrics
        self._endpoint = endpoint
        self._written = written
        self._interval_s = interval_s
        self._clock, self._tasks = machine.clock, machine.tasks
        self._log = log

    @property
    def trace(self) -> RequestTrace:
        """The callback for each request with points."""
        return self.counters

    def settled(self, points: Sequence[Point], ledger: Ledger) -> None:
        self.counters.settled(points, ledger)

    def end(self, report: Report, ledger: Ledger, deadline: Deadline, measure_spool: MeasureSpool) -> None:
        """Count a finished event, then write if a write is due and there is time for it."""
        self.counters.count(report, ledger)
        now, written = self._clock.monotonic(), self._written
        is_under_way = written.worker is not None and written.worker.is_busy
        if now < written.next_at or deadline.remaining() < _LEAST_S or is_under_way:
            return
        written.next_at = now + self._interval_s
        self.counters.set_spool(measure_spool(), max(_LEVEL_HOLDS_S, 2 * self._interval_s))
        if self._endpoint is not None:
            self._write(self._endpoint, min(_LONGEST_S, _SHARE * deadline.remaining()))

    def _write(self, endpoint: SeriesEndpoint, timeout_s: float) -> None:
        # If the clock was set back, the times of a series must still increase.
        now_ms = max(self._written.last_ms + 1, round(self._clock.time() * 1000))
        values = list(self.counters.values())
        series = list(self._encode(values, now_ms))
        try:
            worker = self._written.worker = SerialWorker("self-metrics", self._tasks)
        except RuntimeError:
            self._log.write("WARN", "self-metrics", message="not written: no thread could be started")
            return
        verdict = self._send(worker, lambda: endpoint.write(series, timeout_s), timeout_s)
        if verdict is not None and verdict.action is not Action.ACCEPT:
            self._log.write("WARN", "self-metrics", message=f"not written: {verdict.reason}")
        if verdict is None or not _is_surely_absent(verdict):
            self._written.add(values)
        self._written.last_ms = now_ms

    def _send(self, worker: SerialWorker, write: Callable[[], Verdict], timeout_s: float) -> Verdict | None:
        """Send in a thread of its own, since no timeout covers a name server; None if it did not end in time."""
        future = worker.submit(write)
        worker.dismiss()
        try:
            return future.result(timeout_s + _LEAST_S / 2)
        except TimeoutError:
            self._log.write(
                "WARN", "self-metrics", message="not written: the destination did not answer in time"
            )
            return None

    def _encode(self, values: Sequence[Value], now_ms: int) -> Iterator[bytes]:
        common = (*self.counters.function_labels, ("instance", self.counters.instance))
        for value in values:
            name, own_labels = _key(value)
            labels = encode_labels(sorted((("__name__", name), *own_labels, *common)))
            is_new = value.family.kind != "gauge" and not self._written.has(value)
            samples = [(0.0, self._written.last_ms)] if is_new else []
            yield encode_samples(labels, [*samples, (float(value.value), now_ms)])


def _key(value: Value) -> tuple[str, Labels]:
    return value.family.name + value.suffix, value.labels


def _is_surely_absent(verdict: Verdict) -> bool:
    """Whether nothing of a write was stored, so that the next write may repeat it.

    A repeated 0 would be out of order, so it is not repeated after a write whose fate is unknown.
    """
    return verdict.action in {Action.HOLD_OFF, Action.STOP, Action.SLOW_DOWN}


def make_metrics(
    settings: Settings, parts: Parts, destination: Destination, function: str, kept: Kept, log: JsonLog
) -> EventMetrics:
    """Make what counts the forwarder's own metrics and, if there is an endpoint, writes them."""
    endpoint = None
    if isinstance(destination, RemoteWrite):
        endpoint = destination
    elif settings.remote_write_url:
        endpoint = make_endpoint(settings, parts)
    # What was counted is kept as long as the instance is.
    counters = kept.make(
        "own metrics",
        lambda _: SelfMetrics(parts.machine.clock, function, parts.machine.chance.token(6).hex()),
        settings,
        parts.machine,
        function,
    )
    written = kept.make(
        "written series",
        lambda _: WrittenSeries(counters.started_s),
        settings,
        counters,
        endpoint.scope if endpoint else "",
    )
    return EventMetrics(counters, endpoint, written, settings.self_metrics_interval_s, parts.machine, log)

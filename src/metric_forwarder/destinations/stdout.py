"""Standard output: each point is one line of JSON, for debugging and for pipes.

A line is a payload of docs/payload.md, so what is printed can be sent again. It begins with ``POINT_LINE``, which
distinguishes it from the lines of the function's log on the same stream.
"""

import json
from collections.abc import Iterable, Mapping

from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.parts import Parts
from metric_forwarder.formats.json_text import Violation
from metric_forwarder.machine import Machine
from metric_forwarder.model import Batch, Series
from metric_forwarder.settings.settings import Settings

POINT_LINE = '{"metricName":'


class StandardOutput(Destination):
    """Prints points; needs no key, no region and no network."""

    scope = "stdout"
    carries_timestamps = True
    ordered = False
    clock_offset_s = 0.0
    carries_non_finite = False

    def __init__(self, machine: Machine) -> None:
        self._lock = machine.tasks.lock()
        self._stdout = machine.stdout

    def prepare_series(self, series: Series, dimensions: Mapping[str, str]) -> Violation | None:
        """Every valid series can be printed."""
        names = {"metricName": series.metric, "dimensions": dict(sorted(dimensions.items()))}
        if series.namespace:
            names["namespace"] = series.namespace
        series.encoded_prefix = json.dumps(names, separators=(",", ":"))[:-1].encode("ascii")
        return None

    def encode(
        self, series: Iterable[Series], values: Iterable[float], times_ms: Iterable[int]
    ) -> list[bytes]:
        return [
            b'%b,"value":%a,"timestamp":%d}\n' % (each.encoded_prefix, value, time_ms)
            for each, value, time_ms in zip(series, values, times_ms, strict=True)
        ]

    def send(self, batch: Batch, timeout_s: float) -> Verdict:  # noqa: ARG002 - a stream has no time limit
        text = b"".join([point.wire for point in batch]).decode("ascii")
        try:
            with self._lock:
                stream = self._stdout()
                stream.write(text)
                stream.flush()
        except (OSError, ValueError) as error:
            reason = f"standard output cannot be written ({type(error).__name__}): send it elsewhere"
            return Verdict(Action.STOP, "not written", reason)
        return Verdict(Action.ACCEPT, "written", "written to standard output")


def make(settings: Settings, parts: Parts) -> Destination:  # noqa: ARG001 - nothing is set
    return StandardOutput(parts.machine)

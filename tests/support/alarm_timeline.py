"""Functions on one simulated clock, each of which meets its own fault for a while, and what their alarms make of it.

Real are the function, the requests over sockets to the emulated receiver, its faults, Redis, the spool's files, the metrics that
the function writes, and the Prometheus that holds them and evaluates the rules. Simulated is the time: one clock for all,
which moves on from step to step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest, HttpTransport
from receiver_emulator import Emulator
from receiver_emulator.faults import FaultKind
from support.fakes import FakeClock
from support.harness import CONTEXT, ckafka, environ, report_of

STEP_S = 120


class SlowTransport:
    """Real connections to a receiver that takes its time, on the simulated clock.

    Attributes:
        latency_s: what each request to the receiver takes.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._transport = HttpTransport()
        self.latency_s = 0.0

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure:
        if not request.url.endswith("/write"):
            self._clock.sleep(self.latency_s)
        return self._transport.send(request, timeout_s)


class Function:
    """A deployed function with one warm instance.

    Args:
        name: of the function, and the namespace of its points.

    Attributes:
        settings: those of the function; a change counts from the next event.
        reports: of all its events.
        transport: carries its requests.
    """

    def __init__(
        self, name: str, clock: FakeClock, emulator: Emulator, remote_write: str, **settings: str
    ) -> None:
        self.name = name
        self._clock = clock
        self._emulator = emulator
        self.settings = environ(
            RECEIVER_URL=emulator.url,
            REMOTE_WRITE_URL=remote_write,
            NAMESPACE=name,
            MAX_AGE_S="0",
            SELF_METRICS="on",
            **{"SELF_METRICS_INTERVAL_S": "60", **settings},
        )
        self.reports: list[dict[str, Any]] = []
        self.transport = SlowTransport(clock)
        self._offset = 0
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start a new instance in the place of the present one."""
        self.starts += 1
        self._application = Application(self.settings, self._clock, lambda: self.transport)

    def handle(self, *points: Mapping[str, Any]) -> dict[str, Any]:
        """Handle a CKafka event with these points."""
        event = ckafka(*points, first_offset=self._offset)
        self._offset += len(points)
        return self.invoke(event)

    def invoke(self, event: Any) -> dict[str, Any]:
        context = {**CONTEXT, "namespace": "prod", "function_name": self.name}
        report = report_of(self._application, event, context=context)
        self.reports.append(report)
        return report

    def point(self, age_s: float = 0) -> dict[str, Any]:
        """A point that is so old."""
        return {"metricName": "m", "dimensions": {}, "value": self._offset, "timestamp": self._clock.time() - age_s}  # fmt: skip

    def refuse(self, kind: FaultKind, value: int, times: int | None = None) -> None:
        """Let the receiver refuse the requests of this function from now on."""
        self._emulator.fault(kind, value, times=times, match={"namespace": self.name})


def fired(
    times: Mapping[str, Sequence[float]], lasts_s: float, step_s: float
) -> dict[str, tuple[float, float]]:
    """Functions for which a rule fires: from when until when, by the times at which its expression was true."""
    found: dict[str, tuple[float, float]] = {}
    for function, moments in times.items():
        since = previous = moments[0]
        for moment in moments:
            if moment - previous > step_s:
                since = moment
            previous = moment
            if moment - since >= lasts_s:
                found[function] = (found.get(function, (moment, moment))[0], moment)
    return found

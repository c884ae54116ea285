"""What tests are built from: settings, trigger events, and an application whose receiver is in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import DeliveryIncomplete
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY
from support.fakes import FakeClock, InProcessPrometheus, InProcessReceiver, machine_of, seeded_draw

ROOT = Path(__file__).parents[2]
CONTEXT = {
    "request_id": "test-request",
    "time_limit_in_ms": 60_000,
    "memory_limit_in_mb": 128,
    "tencentcloud_appid": "1250000000",
}


def environ(**settings: str) -> dict[str, str]:
    """Settings that work, with those given over them; names without their ``MF_``."""
    base = {
        "RECEIVER_URL": "http://receiver.test:8080/v2/index.php",
        "SECRET_ID": EXAMPLE_SECRET_ID,
        "SECRET_KEY": EXAMPLE_SECRET_KEY,
        "REGION": "gz",
        "NAMESPACE": "pc",
    }
    return {f"MF_{name}": value for name, value in {**base, **settings}.items()}


def point(value: Any = 1, metric: str = "diskusage", **members: Any) -> dict[str, Any]:
    """A valid point unless told otherwise."""
    return {"metricName": metric, "dimensions": {"ip": "10.0.0.1"}, "value": value} | members


def ckafka(*bodies: Any, topic: str = "metrics", partition: Any = 0, first_offset: int = 0) -> dict[str, Any]:
    """A CKafka event of one record for each body; what is no text is encoded as JSON."""
    return {
        "Records": [
            {
                "Ckafka": {
                    "topic": topic,
                    "partition": partition,
                    "offset": offset,
                    "msgKey": "None",
                    "msgBody": body if isinstance(body, str) else json.dumps(body),
                }
            }
            for offset, body in enumerate(bodies, first_offset)
        ]
    }


class Harness(NamedTuple):
    """An application and the receiver it sends to."""

    application: Application
    receiver: InProcessReceiver
    clock: FakeClock

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        """The report of an event, whether it was returned or raised."""
        return report_of(self.application, event, time_limit_ms)


def report_of(
    application: Application,
    event: Any,
    time_limit_ms: int = 60_000,
    *,
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of an event, whether it was returned or raised."""
    try:
        report: dict[str, Any] = application.handle(
            event, context or {**CONTEXT, "time_limit_in_ms": time_limit_ms}
        )
    except DeliveryIncomplete as incomplete:
        report = incomplete.report
    assert report["received"] == sum(report["outcomes"].values())
    return report


def make_harness(**settings: str) -> Harness:
    """An application on a fake clock whose receiver is in this process."""
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    machine = machine_of(clock, seeded_draw())
    return Harness(
        Application(environ(**settings), clock, lambda: receiver, machine=machine), receiver, clock
    )


class RemoteWriteHarness(NamedTuple):
    """An application and the Prometheus it writes to."""

    application: Application
    prometheus: InProcessPrometheus
    clock: FakeClock

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        """The report of an event, whether it was returned or raised."""
        return report_of(self.application, event, time_limit_ms)


def remote_write_environ(**settings: str) -> dict[str, str]:
    """Settings that work for remote write, with those given over them; names without their ``MF_``."""
    base = {
        "DESTINATION": "remote-write",
        "REMOTE_WRITE_URL": "http://prometheus.test:9090/api/v1/write",
        "NAMESPACE": "pc",
    }
    return {f"MF_{name}": value for name, value in {**base, **settings}.items()}


def make_remote_write_harness(*, is_partial: bool = False, **settings: str) -> RemoteWriteHarness:
    """An application on a fake clock whose Prometheus is in this process."""
    clock = FakeClock()
    prometheus = InProcessPrometheus(clock, is_partial=is_partial)
    machine = machine_of(clock, seeded_draw())
    application = Application(remote_write_environ(**settings), clock, lambda: prometheus, machine=machine)
    return RemoteWriteHarness(application, prometheus, clock)


def outcomes(report: dict[str, Any]) -> dict[str, int]:
    """The outcomes that occurred."""
    return {name: count for name, count in report["outcomes"].items() if count}


def values(stored: Sequence[tuple[str, Any]]) -> list[Any]:
    """The values an in-process receiver holds, oldest first."""
    return [stored_point["value"] for _, stored_point in stored]

"""The composition root: the one place that reads the environment and decides who works with whom."""

import os
import random
from collections.abc import Callable, Mapping
from typing import Any

from metric_forwarder.clock import Clock, Deadline, SystemClock
from metric_forwarder.core.batching import Limits
from metric_forwarder.core.delivery import Policy, Sender
from metric_forwarder.core.pacing import Pacer
from metric_forwarder.core.transport import RequestsTransport, Transport
from metric_forwarder.dedupe import DedupeStore, Identifier, MemoryStore, NoStore
from metric_forwarder.destinations.port import Destination
from metric_forwarder.destinations.receiver import Credentials, Receiver
from metric_forwarder.intake import Intake
from metric_forwarder.ledger import Ledger
from metric_forwarder.logs import JsonLog
from metric_forwarder.pipeline import Pipeline, Rules
from metric_forwarder.replies import reply
from metric_forwarder.settings import Settings
from metric_forwarder.validation import Contract

# The platform's longest and shortest time limits: 900 s and 1 s.
_LONGEST_S = 900
_UNKNOWN_TIME_LIMIT_MS = 60_000


class Application:
    """One warm instance of the function.

    Settings are read at every invocation; what is costly to make is kept until they change.

    Args:
        environ: the environment; None: the process's, as it is at each invocation.
        clock: time; None: the machine's.
        transport: makes what carries requests, from how many it carries at once; None: real connections.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        transport: Callable[[int], Transport] | None = None,
    ) -> None:
        self._environ = environ
        self._clock = clock or SystemClock()
        self._transport = transport or RequestsTransport
        self._settings: Settings | None = None
        self._pipeline: Pipeline | None = None

    def handle(self, event: Any, context: Any) -> Any:
        """Handle an invocation: see ``index.main_handler``."""
        started = self._clock.monotonic()
        context = context if isinstance(context, dict) else {}
        settings = self.read_settings(context)
        if self._pipeline is None or settings != self._settings:
            self._pipeline = build(settings, self._clock, self._transport(settings.concurrency))
            self._settings = settings
        limit_s = time_limit_s(context)
        margin_s = min(settings.deadline_margin_ms / 1000, limit_s / 2)
        deadline = Deadline(self._clock, started + limit_s - margin_s)
        request_id = str(context.get("request_id", ""))[:100]
        return reply(self._pipeline.handle(event, request_id=request_id, deadline=deadline))

    def read_settings(self, context: Mapping[str, Any]) -> Settings:
        """Read the settings in force for an invocation.

        Raises:
            ConfigError: with everything that is wrong.
        """
        environ = os.environ if self._environ is None else self._environ
        region = environ.get("TENCENTCLOUD_REGION") or context.get("tencentcloud_region") or ""
        return Settings.read(environ, platform_region=str(region))


def time_limit_s(context: Mapping[str, Any]) -> float:
    """Seconds the platform gives this invocation.

    ``time_limit_in_ms`` may be a text; Tencent's local runner puts seconds there, which are told apart by their size:
    the platform's limits are 1 s to 900 s.
    """
    try:
        limit = float(context.get("time_limit_in_ms", _UNKNOWN_TIME_LIMIT_MS))
    except (TypeError, ValueError):
        limit = _UNKNOWN_TIME_LIMIT_MS
    if not 0 < limit < float("inf"):
        limit = _UNKNOWN_TIME_LIMIT_MS
    return limit if limit <= _LONGEST_S else limit / 1000


def build(settings: Settings, clock: Clock, transport: Transport) -> Pipeline:
    """Make a pipeline and everything it works with."""
    destination = make_destination(settings, clock)
    return Pipeline(
        contract=Contract(settings.destination, settings.schema),
        identifier=Identifier(destination.scope, settings.dedupe_by),
        rules=Rules(settings.namespace, settings.max_age_s, settings.batch_max_bytes),
        store=make_store(settings, clock),
        sender=Sender(
            destination,
            transport,
            policy=Policy(settings.max_attempts, settings.request_timeout_s, settings.concurrency),
            limits=Limits(settings.batch_max_points, settings.batch_max_bytes),
            pacer=Pacer(clock),
            clock=clock,
            jitter=lambda ceiling: random.uniform(0, ceiling),
        ),
        clock=clock,
        log=JsonLog(settings.log_level),
    )


def make_intake(settings: Settings, clock: Clock, ledger: Ledger) -> Intake:
    """Make what the pipeline takes messages in with, for looking at them without sending any.

    No key and no region is needed. The age of points is not judged: it depends on when they are sent.
    """
    destination = make_destination(settings, clock)
    return Intake(
        Contract(settings.destination, settings.schema),
        Identifier(destination.scope, settings.dedupe_by),
        ledger,
        measure=destination.measure,
        max_bytes=settings.batch_max_bytes,
        default_namespace=settings.namespace,
    )


def make_destination(settings: Settings, clock: Clock) -> Destination:
    return Receiver(
        url=settings.receiver_url,
        method=settings.receiver_method,
        region=settings.region,
        credentials=Credentials(settings.secret_id, settings.secret_key),
        time=clock.time,
    )


def make_store(settings: Settings, clock: Clock) -> DedupeStore:
    if settings.dedupe == "off":
        return NoStore()
    return MemoryStore(settings.dedupe_window_s, clock.monotonic)

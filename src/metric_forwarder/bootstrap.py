"""The composition root: the one place that reads the environment and connects the parts."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from metric_forwarder.clients.http import HttpTransport, Streaming, Transport
from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.credentials import make_credentials
from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.dedupe.making import make_store, share_pace
from metric_forwarder.dedupe.store import DedupeStore, MemoryStore
from metric_forwarder.delivery.batching import BatchLimits
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.pacing import CoolDown, Pacer
from metric_forwarder.delivery.retry import Policy
from metric_forwarder.delivery.sender import Sender
from metric_forwarder.destinations.parts import Parts, make_destination
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.errors import ConfigError, InstanceBusy, ProblemCollector, UnknownTrigger
from metric_forwarder.intake.given_times import GivenTimes
from metric_forwarder.intake.making import intake_rules, make_mapping, make_relabel
from metric_forwarder.intake.points import IntakeParts, IntakeRules
from metric_forwarder.intake.schema import PointSchema
from metric_forwarder.intake.series import SeriesCache
from metric_forwarder.jobs import asks_for_doctor
from metric_forwarder.machine import Machine, system_machine
from metric_forwarder.pipeline import FETCHING_SHARE, Metrics, OnSettled, Pipeline, ScrapeSource, Spool
from metric_forwarder.reporting.log import JsonLog
from metric_forwarder.reporting.replies import refuse, reply
from metric_forwarder.settings.context import function_name, time_limit_s
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.settings.kept import Kept
from metric_forwarder.settings.settings import PREFIX, Settings
from metric_forwarder.triggers import DecodeContext, HttpRefusal, decode
from metric_forwarder.triggers.decoding import (
    AllowedBuckets,
    Bridge,
    HttpAccess,
    ObjectName,
    ObjectSource,
    StoredObject,
)

if TYPE_CHECKING:
    from metric_forwarder.clients.redis import Connect
    from metric_forwarder.clients.secrets_manager import ReadSecret
    from metric_forwarder.reporting.self_metrics import SelfMetrics
    from metric_forwarder.spool.file_system import Files

_T = TypeVar("_T")


class Outside(NamedTuple):
    """The outside systems of an instance, besides its destination and COS.

    Attributes:
        redis: makes a connection to Redis; None: a real one.
        files: where a spool in files is; None: on this machine.
        read_secret: reads a secret of Secrets Manager; None: with the SDK.
        scraped: makes the transport for one target.
    """

    redis: "Connect | None" = None
    files: "Files | None" = None
    read_secret: "ReadSecret | None" = None
    scraped: Callable[[], Streaming] = HttpTransport


class Application:
    """One warm instance of the function.

    Settings are read at every invocation; what is costly to make is kept until they change.

    Args:
        environ: the environment; None: the process's, as it is at each invocation.
        clock: time; None: that of ``machine``.
        transport: makes a transport for HTTP requests; None: real connections.
        objects: fetches the objects that events name; None: from COS, with the function's role.
        on_settled: called with the valid points of each event and their outcomes.
        machine: threads, time, chance and standard output; None: those of this machine.
        outside: other systems that are reached; None: the real ones.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        transport: Callable[[], Transport] | None = None,
        objects: ObjectSource | None = None,
        on_settled: OnSettled | None = None,
        *,
        machine: Machine | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._on_settled = on_settled
        self._environ = environ
        self._machine = machine or system_machine(clock)
        self._clock = self._machine.clock
        self._log = JsonLog(stdout=self._machine.stdout)
        self._transport = transport
        self._outside = outside or Outside()
        self._objects = objects or _LazyObjects(self._cos_objects)
        self._given_before: tuple[dict[str, str], str] | None = None
        self._settings: Settings | None = None
        self._pipeline: Pipeline | None = None
        self._bridge: Bridge | None = None
        self._lock = self._machine.tasks.lock()
        self._kept = Kept()
        self._clocks = make_server_clocks()

    def handle(self, event: Any, context: Any) -> Any:
        """Handle an invocation: see ``index.main_handler``."""
        context = context if isinstance(context, dict) else {}
        request_id = str(context.get("request_id", ""))[:100]
        started = self._clock.monotonic()
        try:
            with self._one_at_a_time(time_limit_s(context)):
                return self._handle(event, context, request_id, started)
        except (ConfigError, InstanceBusy, UnknownTrigger) as error:
            # This was raised before there were points, so no report will mention it.
            self._log.write(
                "ERROR", "refused", requestId=request_id, error=type(error).__name__, message=str(error)
            )
            raise

    def check_settings(self, context: Mapping[str, Any]) -> None:
        """Make what every event needs, so that a server can refuse its settings before it listens; nothing is connected.

        Raises:
            ConfigError: with everything that is wrong, as an event would raise it.
        """
        self._prepare(context)

    @property
    def self_metrics(self) -> "SelfMetrics | None":
        """What was counted for ``MF_SELF_METRICS``; None before the first event, and where it is off."""
        metrics = self._pipeline.metrics if self._pipeline else None
        return metrics.counters if metrics else None

    @contextmanager
    def _one_at_a_time(self, limit_s: float) -> Iterator[None]:
        """Handle one event at a time: the state that an instance keeps is not shared between events.

        Raises:
            InstanceBusy: another event takes more than half of this one's time.
        """
        if not self._lock.acquire(timeout=limit_s / 2):
            raise InstanceBusy
        try:
            yield
        finally:
            self._lock.release()

    def _handle(self, event: Any, context: Mapping[str, Any], request_id: str, started: float) -> Any:
        settings, pipeline = self._prepare(context)
        limit_s = time_limit_s(context)
        margin_s = min(settings.deadline_margin_ms / 1000, limit_s / 2)
        deadline = Deadline(self._clock, started + limit_s - margin_s)
        if asks_for_doctor(event):
            return self._examine(settings, function_name(context), deadline)
        decoded = decode(event, self._access(settings, context, deadline))
        if isinstance(decoded, HttpRefusal):
            self._log.write(
                "WARN",
                "refused",
                requestId=request_id,
                statusCode=decoded.status,
                returnCode=decoded.code,
                message=decoded.reason,
            )
            return refuse(decoded)
        report = pipeline.handle(decoded, request_id=request_id, deadline=deadline)
        return reply(decoded.traits.reply_to, report)

    def _prepare(self, context: Mapping[str, Any]) -> tuple[Settings, Pipeline]:
        """Read the settings and make the pipeline, if they have changed since the last event; raises ``ConfigError``."""
        given = self._given(context)
        if self._pipeline is None or self._settings is None or given != self._given_before:
            self._pipeline = None
            environ, region = given
            self._settings, problems = Settings.collect(environ, platform_region=region)
            self._pipeline = self._compose(self._settings, problems, function_name(context))
            self._log.set_level(self._settings.log_level)
            self._given_before = given
        return self._settings, self._pipeline

    def _examine(self, settings: Settings, function: str, deadline: Deadline) -> dict[str, Any]:
        """Answer ``{"doctor": true}``: run the doctor's checks."""
        # Not needed for delivery.
        from metric_forwarder.doctor import DoctorContext, examine  # noqa: PLC0415

        parts = self._kept.make("parts", self._make_parts, settings)
        found = examine(DoctorContext(settings, parts, function), deadline)
        failed = [check["name"] for check in found["checks"] if not check["ok"]]
        self._log.write("WARN" if failed else "INFO", "doctor", failed=failed)
        return found

    def _compose(self, settings: Settings, problems: Sequence[str], function: str) -> Pipeline:
        """Make everything that the changed settings affect, and keep the rest.

        Raises:
            ConfigError: with everything that is wrong.
        """
        parts = self._kept.make("parts", self._make_parts, settings)
        pipeline = build(
            settings,
            parts,
            self._outside,
            function=function,
            log=self._log,
            problems=problems,
            kept=self._kept,
            on_settled=self._on_settled,
        )
        self._bridge = self._kept.make("bridge", lambda read: _make_bridge(read, parts), settings, parts)
        return pipeline

    def _make_parts(self, settings: Settings) -> Parts:
        return Parts(
            make_credentials(settings, self._environment, self._machine, self._outside.read_secret),
            connect=self._transport or (lambda: HttpTransport(settings.ca_file)),
            machine=self._machine,
            clocks=self._clocks,
        )

    def _access(self, settings: Settings, context: Mapping[str, Any], deadline: Deadline) -> DecodeContext:
        """What decoding may use during this invocation."""
        return DecodeContext(
            HttpAccess(settings.http_token, settings.http_auth == "cam", self._bridge),
            self._objects,
            AllowedBuckets(str(context.get("tencentcloud_appid", "")), settings.cos_buckets),
            deadline.within(deadline.remaining() * FETCHING_SHARE),
        )

    def _cos_objects(self) -> ObjectSource:
        # Imported when an event names an object.
        from metric_forwarder.clients.cos import CosObjects, RoleCredentials  # noqa: PLC0415

        return CosObjects(
            role=lambda: RoleCredentials.read(self._environment),
            connect=HttpTransport,
            time=self._clock.time,
        )

    @property
    def _environment(self) -> Mapping[str, str]:
        return os.environ if self._environ is None else self._environ

    def _given(self, context: Mapping[str, Any]) -> tuple[dict[str, str], str]:
        """Return the raw settings and the platform's region: comparing them is cheaper than reading them again."""
        environ = self._environment
        region = environ.get("TENCENTCLOUD_REGION") or context.get("tencentcloud_region") or ""
        return {name: environ[name] for name in environ if name.startswith(PREFIX)}, str(region)


class _LazyObjects:
    """An ``ObjectSource`` that is made when the first object is asked for."""

    def __init__(self, make: Callable[[], ObjectSource]) -> None:
        self._make = make
        self._objects: ObjectSource | None = None

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        if self._objects is None:
            self._objects = self._make()
        return self._objects.open(name, deadline)


def build(
    settings: Settings,
    parts: Parts,
    outside: Outside,
    *,
    function: str,
    log: JsonLog,
    problems: Sequence[str],
    kept: Kept,
    on_settled: OnSettled | None = None,
) -> Pipeline:
    """Make a pipeline and everything it works with.

    Args:
        settings: those in force.
        parts: what a destination is made with.
        outside: what the other parts reach.
        function: namespace and name of the function.
        log: that of the instance.
        problems: problems of the settings that are known already.
        kept: parts made from earlier settings; a part whose settings did not change is used again.
        on_settled: called with the points of each event and their outcomes.

    Raises:
        ConfigError: with everything that is wrong, the known problems first.
    """
    machine = parts.machine
    found = ProblemCollector(problems)

    def keep(name: str, maker: Callable[[Settings], _T], *others: object) -> _T:
        return found.collect(lambda: kept.make(name, maker, settings, *others))

    destination = keep("destination", lambda read: make_destination(read, parts), parts)
    point_schema = keep("point_schema", lambda read: PointSchema(read.kind.schema, read.schema))
    relabel = keep("relabel", make_relabel)
    mapping = keep("mapping", make_mapping)
    memory = keep("memory", lambda read: MemoryStore(read.dedupe_window_s, machine.clock.monotonic))
    store = keep(
        "store",
        lambda read: make_store(read, machine, outside.redis, function, memory, log),
        memory,
        function,
    )
    spool = keep("spool", lambda read: _make_spool(read, function, machine, outside), function)
    measured = (parts, destination, function)
    metrics = keep("metrics", lambda read: _make_metrics(read, *measured, kept, log), *measured)
    found.check()
    rules = intake_rules(settings, relabel, mapping)
    return Pipeline(
        intake_parts=_keep_intake_parts(keep, settings, destination, point_schema, rules),
        store=store,
        sender=_keep_sender(keep, destination, store, machine),
        spool=spool,
        make_scraper=keep("scraper", lambda read: _scraper(read, machine, outside, destination), destination),
        clock=machine.clock,
        log=log,
        on_settled=on_settled,
        metrics=metrics,
    )


class _Keep(Protocol):
    """Makes a part under a name, or returns it as it was made before: see ``Kept``."""

    def __call__(self, name: str, maker: Callable[[Settings], _T], *others: object) -> _T: ...


def _keep_intake_parts(
    keep: _Keep, settings: Settings, destination: Destination, point_schema: PointSchema, rules: IntakeRules
) -> IntakeParts:
    scope = destination.scope
    prepared = (destination, point_schema, settings.namespace, settings.batch_max_bytes)
    return IntakeParts(
        point_schema,
        Identifier(scope, settings.dedupe_by),
        destination,
        rules,
        keep("series", lambda _: SeriesCache(), *prepared),
        keep("given times", lambda _: GivenTimes(), scope),
    )


def _keep_sender(keep: _Keep, destination: Destination, store: DedupeStore, machine: Machine) -> Sender:
    """Make the sender; while the destination stays the same, what was learned about it is kept."""
    scope = destination.scope
    limits = keep("limits", lambda read: BatchLimits(read.batch_max_points, read.batch_max_bytes), scope)
    own = keep("pacer", lambda read: Pacer(machine, read.max_rps), scope)
    pacer = keep("shared pacer", lambda read: share_pace(read, own, store, scope, machine), own, store, scope)
    cool_down = keep("cool down", lambda _: CoolDown(machine.clock), destination)
    return keep(
        "sender",
        lambda read: Sender(
            destination,
            policy=Policy(
                read.max_attempts,
                read.request_timeout_s,
                read.concurrency,
                hold_uncertain=read.uncertain == "hold",
            ),
            limits=limits,
            pacer=pacer,
            cool_down=cool_down,
            machine=machine,
        ),
        destination,
        limits,
        pacer,
        cool_down,
        machine,
    )


def _scraper(
    settings: Settings, machine: Machine, outside: Outside, destination: Destination
) -> Callable[[], ScrapeSource]:
    """Return a function that returns the scraper, and imports its module when it is first called."""
    hosts = settings.scrape_hosts

    @cache
    def scraper() -> ScrapeSource:
        from metric_forwarder.scrape.scraper import Scraper  # noqa: PLC0415

        return Scraper(hosts, outside.scraped, machine, carries_non_finite=destination.carries_non_finite)

    return scraper


def _make_metrics(
    settings: Settings, parts: Parts, destination: Destination, function: str, kept: Kept, log: JsonLog
) -> Metrics | None:
    if settings.self_metrics == "off":
        return None
    with imports_of("remote-write", "MF_SELF_METRICS"):
        from metric_forwarder.reporting.self_metrics_writer import make_metrics  # noqa: PLC0415
    return make_metrics(settings, parts, destination, function, kept, log)


def _make_bridge(settings: Settings, parts: Parts) -> Bridge | None:
    """Make the bridge for clients of the receiver; None if it is closed."""
    if not settings.bridge_accounts:
        return None
    # Not needed by an instance without a bridge.
    from metric_forwarder.bridge.accounts import Accounts, OwnKey  # noqa: PLC0415
    from metric_forwarder.bridge.requests import ReceiverBridge  # noqa: PLC0415

    listed, time = settings.bridge_accounts, parts.machine.clock.time
    accounts = OwnKey(parts.credentials, time) if listed == "own" else Accounts(dict(listed), time)
    return ReceiverBridge(accounts, time, any_region=not settings.kind.uses_account)


def _make_spool(settings: Settings, function: str, machine: Machine, outside: Outside) -> Spool | None:
    if not settings.spool:
        return None
    # Not needed by an instance without a spool.
    from metric_forwarder.spool.bounded import BoundedSpool  # noqa: PLC0415
    from metric_forwarder.spool.making import make_spool  # noqa: PLC0415

    return BoundedSpool(
        lambda: make_spool(settings, function, machine, outside.redis, outside.files), machine
    )

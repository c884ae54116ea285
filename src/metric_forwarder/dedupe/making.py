"""Makes the store that the settings name, and with a Redis the pace that instances share there."""

from typing import TYPE_CHECKING, cast

from metric_forwarder.dedupe.store import DedupeStore, MemoryStore, NoStore
from metric_forwarder.delivery.pacing import Pace, Pacer
from metric_forwarder.machine import Machine
from metric_forwarder.reporting.log import JsonLog
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings

if TYPE_CHECKING:
    from metric_forwarder.clients.redis import Connect
    from metric_forwarder.dedupe.redis import RedisStore


def make_store(
    settings: Settings,
    machine: Machine,
    connect: "Connect | None",
    function: str,
    memory: MemoryStore,
    log: JsonLog,
) -> DedupeStore:
    """Make the store for deduplication.

    Args:
        settings: those in force.
        machine: what the store runs on.
        connect: makes a connection to Redis; None: a real one.
        function: namespace and name of the function.
        memory: remembers what this instance delivered.
        log: gets a line where Redis fails.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    if settings.dedupe == "off":
        return NoStore()
    if not isinstance(settings.dedupe, RedisAddress):
        return memory
    with imports_of("redis", "MF_DEDUPE"):
        from metric_forwarder.clients.redis import RedisConnection  # noqa: PLC0415
        from metric_forwarder.dedupe.redis import RedisStore  # noqa: PLC0415
    return RedisStore(
        settings.dedupe,
        function=function,
        window_s=settings.dedupe_window_s,
        memory=memory,
        machine=machine,
        connect=connect or RedisConnection,
        warn=lambda message: log.write("WARN", "dedupe", message=message),
    )


def share_pace(settings: Settings, own: Pacer, store: DedupeStore, scope: str, machine: Machine) -> Pace:
    """Make the pace that all instances share if they share a store, and return their own one otherwise.

    Args:
        settings: those in force; ``store`` was made from them.
        own: the pace of this instance alone.
        store: the store for deduplication.
        scope: identifies the destination.
        machine: what the pace runs on.
    """
    if not isinstance(settings.dedupe, RedisAddress):
        return own
    # Not needed by an instance without a Redis.
    from metric_forwarder.dedupe.shared_pace import SharedPacer  # noqa: PLC0415

    return SharedPacer(own, cast("RedisStore", store), scope, machine)

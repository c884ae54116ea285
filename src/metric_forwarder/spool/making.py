"""Makes the spool that the settings name."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from metric_forwarder.machine import Machine
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings
from metric_forwarder.spool.store import SpoolStore

if TYPE_CHECKING:
    from metric_forwarder.clients.redis import Connect
    from metric_forwarder.spool.file_system import Files


def make_spool(
    settings: Settings,
    function: str,
    machine: Machine,
    connect: "Connect | None" = None,
    files: "Files | None" = None,
) -> SpoolStore:
    """Make the store of the spool.

    Args:
        settings: those in force.
        function: namespace and name of the function.
        machine: what the store runs on.
        connect: makes a connection to Redis; None: a real one.
        files: where a spool in files is; None: on this machine.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    if isinstance(settings.spool, RedisAddress):
        return _redis_spool(settings.spool, function, machine, connect)
    # Not needed by a spool in Redis.
    from metric_forwarder.spool.files import DEFAULT_MAX_BYTES, FileSpool  # noqa: PLC0415

    parts = urlsplit(settings.spool)
    megabytes = parse_qs(parts.query).get("max_mb")
    max_bytes = int(megabytes[-1]) * 2**20 if megabytes else DEFAULT_MAX_BYTES
    return FileSpool(Path(unquote(parts.path)), function, max_bytes, machine, files)


def _redis_spool(
    address: RedisAddress, function: str, machine: Machine, connect: "Connect | None"
) -> SpoolStore:
    with imports_of("redis", "MF_SPOOL"):
        from metric_forwarder.clients.redis import RedisConnection  # noqa: PLC0415
        from metric_forwarder.dedupe.redis import key_prefix  # noqa: PLC0415
        from metric_forwarder.spool.redis import RedisSpool  # noqa: PLC0415
    return RedisSpool(
        address, key_prefix(f"{function} spool"), machine=machine, connect=connect or RedisConnection
    )

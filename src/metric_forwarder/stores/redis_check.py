"""What a person is told who asks whether the Redis of the settings will do; nothing of it is needed to deliver."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.redis_address import RedisAddress
from metric_forwarder.stores.redis import CLAIM, RELEASE, REMEMBER, key_prefix
from metric_forwarder.stores.redis_connection import RedisConnection, RedisUnavailable

_OLDEST = (4, 0)
_SLOW_MS = 20.0
_EXPIRES_MS = 1000


class Finding(NamedTuple):
    """One thing that was looked at: whether it will do, what was seen, and what to do if it will not."""

    ok: bool
    seen: str
    remedy: str = ""


def check_redis(address: RedisAddress, *, timeout_s: float = 2.0) -> list[Finding]:
    """Connect, claim, confirm and release an identity nobody has, and read what the server says of itself.

    Never raises, shows no secret, and leaves nothing behind for longer than a second.
    """
    connection = RedisConnection(address, timeout_s)
    try:
        connection.ping()
        started = time.perf_counter()
        _rehearse(connection)
        took_ms = (time.perf_counter() - started) * 1000 / 3
        findings = [Finding(True, f"{address} lets the forwarder claim, confirm and release")]
        if took_ms > _SLOW_MS:
            remedy = "place Redis in the function's region and VPC"
            findings.append(Finding(False, f"a round trip takes {took_ms:.0f} ms", remedy))
        told = {**connection.info("server"), **connection.info("replication"), **connection.info("memory")}
        return findings + list(_judge(told))
    except RedisUnavailable as unavailable:
        seen, _, remedy = unavailable.reason.partition(": ")
        return [Finding(False, f"{address}: {seen}", remedy)]
    finally:
        connection.close()


def _rehearse(connection: RedisConnection) -> None:
    key = key_prefix("check") + os.urandom(16)
    token = os.urandom(8)
    connection.run(CLAIM, [key], token, _EXPIRES_MS, _EXPIRES_MS)
    connection.run(RELEASE, [key], token)
    connection.run(REMEMBER, [key], _EXPIRES_MS, b"1")


def _judge(told: Mapping[str, Any]) -> Iterator[Finding]:
    """A managed server may keep any of this to itself."""
    version = str(told.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers:
        is_new = numbers >= _OLDEST
        yield Finding(is_new, f"Redis {version}", "" if is_new else "use Redis 4.0 or newer")
    if told.get("role") == "slave":
        yield Finding(False, "it is a replica", "use the address of the master")
    policy = told.get("maxmemory_policy")
    if policy is not None and told.get("maxmemory") and policy not in ("noeviction", "volatile-ttl"):
        yield Finding(
            False,
            f"when full it evicts by {policy}, which forgets leases and delivered points early",
            "set maxmemory-policy to noeviction, and give it memory as docs/dedupe.md says",
        )

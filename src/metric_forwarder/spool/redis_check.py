"""Checks for ``doctor`` whether the Redis of the settings can be used; delivery does not need this."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.clients.redis import RedisConnection, RedisUnavailable, Script
from metric_forwarder.clock import Clock
from metric_forwarder.dedupe.redis import key_prefix
from metric_forwarder.dedupe.redis_deliveries import Deliveries
from metric_forwarder.dedupe.redis_scripts import CLAIM, CONFIRM, LEASE, RELEASE
from metric_forwarder.dedupe.shared_pace import FORBIDDEN, PACE
from metric_forwarder.machine import Machine
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.spool.redis import RedisSpool
from metric_forwarder.spool.store import SpoolError, SpoolRecord

_SLOW_MS = 20.0
# The quickest counts: a busy machine only ever adds to one.
_ROUND_TRIPS = 5
_EXPIRES_MS = 1000


class RedisFinding(NamedTuple):
    """The result of one check: whether it is fine, what was seen, and what to do otherwise."""

    ok: bool
    seen: str
    remedy: str = ""


class _Use(NamedTuple):
    """A use of Redis: the test of it, in words and as a function, the oldest version, and the cost of an eviction."""

    what: str
    rehearse: Callable[[RedisAddress, RedisConnection, Machine], Iterator[RedisFinding]]
    oldest: tuple[int, int]
    evicting: str


def check_redis(
    address: RedisAddress, machine: Machine, *, for_spool: bool = False, timeout_s: float = 2.0
) -> list[RedisFinding]:
    """Connect, do once what deduplication or a spool does, and read the server's INFO.

    Never raises and shows no secret. Its keys are its own, and expire within a minute.
    """
    use = _SPOOL if for_spool else _DEDUPE
    connection = RedisConnection(address, timeout_s)
    try:
        connection.ping()
        took_ms = min(_round_trip_ms(connection, machine.clock) for _ in range(_ROUND_TRIPS))
        further = list(use.rehearse(address, connection, machine))
        findings = [RedisFinding(True, f"{address} lets the forwarder {use.what}"), *further]
        if took_ms > _SLOW_MS:
            remedy = "place Redis in the function's region and VPC"
            findings.append(RedisFinding(False, f"a round trip takes {took_ms:.0f} ms", remedy))
        info = {**connection.info("server"), **connection.info("replication"), **connection.info("memory")}
        return findings + list(_judge(info, use))
    except (RedisUnavailable, SpoolError) as failure:
        seen, _, remedy = str(failure).partition(": ")
        return [RedisFinding(False, f"{address}: {seen}", remedy)]
    finally:
        connection.close()


def _round_trip_ms(connection: RedisConnection, clock: Clock) -> float:
    started = clock.monotonic()
    connection.ping()
    return (clock.monotonic() - started) * 1000


def _rehearse_dedupe(
    _address: RedisAddress, connection: RedisConnection, machine: Machine
) -> Iterator[RedisFinding]:
    prefix, token = key_prefix("check"), machine.chance.token(8)
    key = prefix + machine.chance.token(16)
    keys, (lease,) = [prefix + token, key], Deliveries(token).leases([key])
    connection.run(LEASE, keys, _EXPIRES_MS, _EXPIRES_MS, b"1", lease)
    connection.run(CLAIM, keys, _EXPIRES_MS, _EXPIRES_MS, _EXPIRES_MS, lease)
    connection.run(RELEASE, keys)
    connection.run(CONFIRM, [key], _EXPIRES_MS, _EXPIRES_MS, b"1")
    if connection.run(PACE, [key + b":pace"], 1, 0, 0, 0, 0) == FORBIDDEN:
        remedy = "allow it TIME; until then each instance learns by itself how fast it may send"
        yield RedisFinding(False, "the Redis user may not ask for the time", remedy)


def _rehearse_spool(
    address: RedisAddress, connection: RedisConnection, machine: Machine
) -> Iterator[RedisFinding]:
    prefix = key_prefix(f"check {machine.chance.token(8).hex()}")
    spool = RedisSpool(address, prefix, machine=machine)
    try:
        spool.write([SpoolRecord(None, "", None, None, "undelivered", "")], ())
        spool.waiting(dead_letters=True)
        for chunk in spool.replay(dead_letters=True, lease_s=_EXPIRES_MS / 1000):
            chunk.acknowledge([0])
    finally:
        # An empty stream would stay, and so would entries of a failed test.
        connection.run(_REMOVE, [prefix + b"points", prefix + b"reserve"])
    yield from ()


_REMOVE = Script("return redis.call('DEL', KEYS[1], KEYS[2])")
_DEDUPE = _Use(
    "claim, confirm and release", _rehearse_dedupe, (4, 0), "which forgets leases and delivered points early"
)
_SPOOL = _Use("write, read and delete spooled points", _rehearse_spool, (5, 0), "which may be spooled points")


def _judge(info: Mapping[str, Any], use: _Use) -> Iterator[RedisFinding]:
    """A managed server may hide any of this."""
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers:
        is_new = numbers >= use.oldest
        remedy = f"use Redis {use.oldest[0]}.{use.oldest[1]} or newer"
        yield RedisFinding(is_new, f"Redis {version}", "" if is_new else remedy)
    if info.get("role") == "slave":
        yield RedisFinding(False, "it is a replica", "use the address of the master")
    policy = info.get("maxmemory_policy")
    if policy is not None and info.get("maxmemory") and policy not in ("noeviction", "volatile-ttl"):
        yield RedisFinding(
            False,
            f"when full it evicts by {policy}, {use.evicting}",
            "set maxmemory-policy to noeviction, and give it memory as docs/dedupe.md says",
        )

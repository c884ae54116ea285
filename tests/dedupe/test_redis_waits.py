"""How long an event waits for a Redis that is slow or silent, in virtual time."""

from collections.abc import Callable, Sequence

import pytest

from metric_forwarder.clients.redis import Script
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.redis import (
    CHUNK,
    LINGER_S,
    RedisClaims,
    RedisStore,
)
from metric_forwarder.dedupe.redis_deliveries import PART
from metric_forwarder.dedupe.redis_scripts import CONFIRM, LEASE
from metric_forwarder.dedupe.store import MemoryStore
from metric_forwarder.settings.redis_address import RedisAddress, parse_redis_url
from world.redis_model import RedisModel
from world.scheduler import Process, World, machine_of

SILENT_S = 1000.0


class SlowRedis:
    """A connection to a server that takes its time for each reply.

    Attributes:
        runs: each script that was run, with the number of its keys.
    """

    def __init__(self, world: World, reply_s: float) -> None:
        self._sleep = world.sleep
        self._model = RedisModel(lambda: world.now * 1000)
        self.reply_s = reply_s
        self.runs: list[tuple[Script, int]] = []

    def connect(self, _address: RedisAddress, timeout_s: float, _max_reply_bytes: int) -> "SlowRedis":
        self.timeout_s = timeout_s
        return self

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> bytes | None:
        self.runs.append((script, len(keys)))
        if self.reply_s:
            self._sleep(self.reply_s)
        answer: bytes | None = self._model.run(script, keys, *arguments)
        return answer

    def close(self) -> None:
        """Nothing is held."""


def in_an_event(act: Callable[[World, SlowRedis, RedisClaims], None], event_s: float = 60.0) -> SlowRedis:
    """Run an event in a world of its own, with a Redis that answers at once unless told otherwise."""
    world = World()
    redis = SlowRedis(world, 0.0)

    def run() -> None:
        machine = machine_of(world, Process("instance"))
        store = RedisStore(
            parse_redis_url("redis://redis.test:6379/0"),
            function="default/forwarder",
            window_s=600,
            memory=MemoryStore(600, machine.clock.monotonic),
            machine=machine,
            connect=redis.connect,
            warn=lambda _: None,
        )
        act(world, redis, store.begin(Deadline(machine.clock, event_s)))

    world.run(run)
    return redis


def identities(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(count)]


@pytest.mark.parametrize(
    ("count", "reply_s", "event_s", "waited_s"),
    [
        (1, SILENT_S, 60, 1.0),
        (3 * CHUNK, SILENT_S, 60, 1.0),
        # All replies together may take a second, and 0.05 seconds more for each chunk.
        (3 * CHUNK, 0.9, 60, 1.15),
        (1, SILENT_S, 0.3, 0.3),
        (1, SILENT_S, 0.01, 0.1),
    ],
)
def test_a_claim_waits_for_a_slow_redis_a_second_and_no_longer_than_its_event(
    count: int, reply_s: float, event_s: float, waited_s: float
) -> None:
    def act(world: World, redis: SlowRedis, claims: RedisClaims) -> None:
        redis.reply_s = reply_s
        assert len(claims.claim(identities(count))) == count
        assert world.now == pytest.approx(waited_s, abs=0.001)
        assert claims.status == "degraded"

    in_an_event(act, event_s)


def test_the_end_of_an_event_waits_a_second_for_writes_that_are_under_way() -> None:
    def act(world: World, redis: SlowRedis, claims: RedisClaims) -> None:
        redis.reply_s = SILENT_S
        claims.confirm(identities(1))
        claims.release(identities(1))
        claims.close()
        assert world.now == pytest.approx(1.0, abs=0.001)
        assert claims.status == "degraded"

    in_an_event(act)


def test_writes_that_come_within_ten_milliseconds_share_a_round_trip() -> None:
    def act(world: World, _: SlowRedis, claims: RedisClaims) -> None:
        for identity in identities(3):
            claims.confirm([identity])
            world.sleep(LINGER_S / 4)
        world.sleep(2 * LINGER_S)
        claims.confirm(identities(1))
        world.sleep(2 * LINGER_S)
        claims.close()

    assert in_an_event(act).runs == [(CONFIRM, 3), (CONFIRM, 1)]


@pytest.mark.parametrize("since_s", [0.0, LINGER_S / 4])
def test_an_event_that_ends_does_not_wait_for_more_to_write(since_s: float) -> None:
    def act(world: World, _: SlowRedis, claims: RedisClaims) -> None:
        for identity in identities(100):
            claims.confirm([identity])
        world.sleep(since_s)
        claims.close()
        assert world.now < LINGER_S / 2
        assert claims.status == "redis"

    assert in_an_event(act).runs == [(CONFIRM, 100)]


def test_many_writes_at_once_wait_once() -> None:
    def act(world: World, _: SlowRedis, claims: RedisClaims) -> None:
        for identity in identities(100):
            claims.confirm([identity])
        claims.claim(identities(200)[100:])
        assert world.now < 2 * LINGER_S

    assert in_an_event(act).runs == [(CONFIRM, 100), (LEASE, 101)]


def test_a_write_says_of_a_thousand_leased_points_that_they_were_delivered() -> None:
    def act(world: World, _: SlowRedis, claims: RedisClaims) -> None:
        points = identities(2 * PART + 1)
        claims.claim(points)
        for start in range(0, len(points), 100):
            claims.confirm(points[start : start + 100])
        world.sleep(2 * LINGER_S)
        claims.confirm(points[:1])
        claims.close()

    runs = in_an_event(act).runs
    assert [run for run in runs if run[0] is not LEASE] == [(CONFIRM, 3), (CONFIRM, 1)]


def test_what_is_written_after_the_deadline_is_written_to_each_key_since_the_leases_may_have_run_out() -> (
    None
):
    def act(world: World, redis: SlowRedis, claims: RedisClaims) -> None:
        points = identities(20)
        claims.claim(points)
        world.sleep(0.5)
        redis.reply_s = 0.6
        claims.confirm(points)
        world.sleep(2)

    runs = in_an_event(act, event_s=1.0).runs
    assert runs == [(LEASE, 21), (CONFIRM, 1), (CONFIRM, 20)]


def test_who_delivers_never_waits_for_a_redis_that_is_silent() -> None:
    def act(world: World, redis: SlowRedis, claims: RedisClaims) -> None:
        points = identities(3 * PART)
        claims.claim(points)
        redis.reply_s = SILENT_S
        for start in range(0, len(points), 100):
            claims.confirm(points[start : start + 100])
        assert world.now == 0

    in_an_event(act)

"""One odd thing in the Redis of a spool stops no replay: it is set aside and named, and the rest goes on; on a real server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.settings.redis_address import parse_redis_url
from metric_forwarder.spool.redis import RedisSpool
from metric_forwarder.spool.store import SpoolRecord, encode_record
from support.harness import Harness, make_harness, outcomes, point
from support.redis_server import RedisServer

REPLAY_ALL = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true, "deadLetters": true}',
}
PREFIX = b"mf:d{x}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis_server(server: RedisServer) -> RedisServer:
    server.command("FLUSHALL")
    return server


def make_spool(server: RedisServer) -> RedisSpool:
    return RedisSpool(parse_redis_url(server.url()), PREFIX)


def record(value: int = 1, **members: Any) -> SpoolRecord:
    return SpoolRecord(point(value), "s", None, None, "undelivered", "")._replace(**members)


def replayed(spool: RedisSpool) -> tuple[list[int], list[str]]:
    """The values of records, acknowledged, and where odd things were found."""
    found, odd = [], []
    for chunk in spool.replay(dead_letters=True):
        for message in chunk.messages:
            if message.broken is None:
                found.append(message.body["value"])
                chunk.acknowledge([message.receipt or 0])
            else:
                assert message.receipt is None
                odd.append(message.source)
    return found, odd


OTHER_TYPES: dict[str, tuple[Any, ...]] = {
    "text": ("SET", b"hello"),
    "a list": ("RPUSH", b"a", b"b"),
    "a hash": ("HSET", b"r", b"{}"),
    "a set": ("SADD", b"a"),
    "a sorted set": ("ZADD", 1, b"a"),
}


@pytest.mark.parametrize("other", OTHER_TYPES)
@pytest.mark.parametrize("key", [b"points", b"dead"])
def test_a_key_of_another_type_is_renamed_and_named_once_and_the_rest_is_replayed(
    redis_server: RedisServer, key: bytes, other: str
) -> None:
    spool = make_spool(redis_server)
    points, letters = ([], [record()]) if key == b"points" else ([record()], [])
    spool.write(points, letters)
    command, *arguments = OTHER_TYPES[other]
    redis_server.command(command, PREFIX + key, *arguments)
    assert spool.waiting(dead_letters=True) == 2
    found, (named,) = replayed(spool)
    assert found == [1]
    assert named.startswith(f"spool/{(PREFIX + key).decode()}:set-aside:")
    assert redis_server.command("EXISTS", named.removeprefix("spool/"))
    assert replayed(spool) == ([], [])


def test_a_write_beside_a_key_of_another_type_says_so(redis_server: RedisServer) -> None:
    harness = make_harness(SPOOL=redis_server.url(), MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    assert outcomes(harness.handle(point(1))) == {"spooled": 1}
    with redis_server.client() as client:
        (points,) = client.scan_iter("*points")
        client.delete(points)
        client.set(points, "hello")
    report = harness.handle(point(2))
    assert outcomes(report) == {"undelivered": 1}
    assert "another type: replay the spool, which sets that aside" in report["errors"][0]["message"]
    assert outcomes(harness.handle(REPLAY_ALL)) == {"invalid": 1}
    assert outcomes(harness.handle(point(3))) == {"spooled": 1}


@pytest.mark.parametrize("other", list(OTHER_TYPES)[1:])
def test_a_lease_of_another_type_stops_no_replay(redis_server: RedisServer, other: str) -> None:
    spool = make_spool(redis_server)
    spool.write([record()], [])
    command, *arguments = OTHER_TYPES[other]
    redis_server.command(command, PREFIX + b"replay", *arguments)
    found, odd = replayed(spool)
    assert (found, len(odd)) == ([1], 1)


def test_a_lease_without_an_end_stops_no_replay(redis_server: RedisServer) -> None:
    spool = make_spool(redis_server)
    spool.write([record()], [])
    redis_server.command("SET", PREFIX + b"replay", b"whose?")
    assert replayed(spool) == ([1], [])


@pytest.mark.parametrize("other", OTHER_TYPES)
def test_odd_entries_are_set_aside_even_where_their_stream_is_of_another_type(
    redis_server: RedisServer, other: str
) -> None:
    spool = make_spool(redis_server)
    spool.write([record()], [])
    redis_server.command("XADD", PREFIX + b"points", "*", "r", b"odd")
    command, *arguments = OTHER_TYPES[other]
    redis_server.command(command, PREFIX + b"aside", *arguments)
    found, odd = replayed(spool)
    assert (found, len(odd)) == ([1], 1)
    assert redis_server.command("XLEN", PREFIX + b"aside") == 1
    assert replayed(spool) == ([], [])


def test_where_nothing_may_be_renamed_the_key_is_named_and_the_rest_is_replayed(
    redis_server: RedisServer,
) -> None:
    make_spool(redis_server).write([], [record()])
    redis_server.command("SET", PREFIX + b"points", b"hello")
    rights = (
        "+auth +select +ping +eval +evalsha +get +set +del +xadd +xdel +xlen +xrange +xrevrange +memory|usage"
    )
    redis_server.command("ACL", "SETUSER", "old", "reset", "on", ">s3cret", "~mf:*", "-@all", *rights.split())
    url = f"redis://old:s3cret@127.0.0.1:{redis_server.port}"
    assert replayed(RedisSpool(parse_redis_url(url), PREFIX)) == ([1], [f"spool/{PREFIX.decode()}points"])


def test_ids_at_the_end_of_what_a_stream_can_count_stop_no_replay(redis_server: RedisServer) -> None:
    spool = make_spool(redis_server)
    line = encode_record(record())
    for entry_id in ("1-18446744073709551615", "18446744073709551614-18446744073709551615"):
        redis_server.command("XADD", PREFIX + b"points", entry_id, "r", line)
    assert replayed(spool) == ([1, 1], [])


def test_entries_are_read_a_megabyte_at_a_time_and_none_is_left_out(redis_server: RedisServer) -> None:
    spool = make_spool(redis_server)
    spool.write([record(n, reason="x" * 200_000) for n in range(30)], [])
    chunks = list(spool.replay(dead_letters=False))
    assert [m.body["value"] for chunk in chunks for m in chunk.messages] == list(range(30))
    assert max(len(chunk.messages) for chunk in chunks) <= 5


ENTRIES = st.lists(
    st.dictionaries(
        st.sampled_from(["r", "x", ""]), st.binary(max_size=40) | st.just(b"[" * 50_000), min_size=1
    )
    | st.dictionaries(
        st.sampled_from(SpoolRecord._fields),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none()),
    )
    # An empty list holds no point of which a report could speak.
    .filter(lambda members: members.get("payload") != [])
    .map(lambda members: {"r": json.dumps({**record()._asdict(), **members}).encode()}),
    max_size=5,
)


@pytest.fixture
def harness(redis_server: RedisServer) -> Harness:
    return make_harness(SPOOL=redis_server.url(), DEDUPE="off", MAX_ATTEMPTS="1")


@pytest.mark.slow
@given(entries=ENTRIES, dead=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_entry_is_the_others_are_replayed(
    redis_server: RedisServer, harness: Harness, entries: list[dict[str, bytes]], *, dead: bool
) -> None:
    redis_server.command("FLUSHALL")
    harness.receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    assert outcomes(harness.handle(point(77))) == {"spooled": 1}
    harness.receiver.refuse_if = lambda _: None
    with redis_server.client() as client:
        (points,) = client.scan_iter("*points")
        for entry in entries:
            client.xadd(points.replace(b"points", b"dead") if dead else points, entry)
    report = harness.handle(REPLAY_ALL)
    assert report["received"] >= 1 + len(entries)
    assert 77 in [stored["value"] for _, stored in harness.receiver.points[-1 - len(entries) :]]
    with redis_server.client() as client:
        assert client.xlen(points) == 0

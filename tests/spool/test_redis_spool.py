"""The spool in Redis keeps the promises of the spool in files; on a real server."""

import json
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.formats import Format
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.settings.redis_address import parse_redis_url
from metric_forwarder.spool.redis import RedisSpool
from metric_forwarder.spool.store import SpoolError, SpoolRecord
from receiver_emulator import Emulator, EmulatorOptions
from support.harness import ROOT, Harness, ckafka, environ, make_harness, outcomes, point, values
from support.killable import Nursery
from support.patience import ends_within
from support.proxy import Proxy
from support.redis_server import PASSWORD, PASSWORD_IN_URL, RedisServer

REPLAY = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true}',
}
REPLAY_ALL = {**REPLAY, "Message": '{"replay": true, "deadLetters": true}'}


def spooling(server: RedisServer, **settings: str) -> Harness:
    return make_harness(**{"SPOOL": server.url(), "MAX_ATTEMPTS": "1", "BATCH_MAX_POINTS": "10", **settings})


def down(harness: Harness) -> None:
    harness.receiver.refuse_if = lambda _: ReturnCode.NOT_READY


def up(harness: Harness) -> None:
    harness.receiver.refuse_if = lambda _: None


def keys(server: RedisServer) -> set[bytes]:
    with server.client() as client:
        return {
            key
            for key in client.scan_iter()
            # What tells a write that is repeated runs out by itself, and the next replay gives the reserve up.
            if b"written:" not in key
            and b"reserve" not in key
            and (client.type(key) != b"stream" or client.xlen(key))
        }


@pytest.mark.slow
def test_undeliverable_points_are_spooled_and_replayed_in_order(redis_server: RedisServer) -> None:
    harness = spooling(redis_server, CONCURRENCY="1")
    down(harness)
    assert outcomes(harness.handle(ckafka(*(point(value) for value in range(1200))))) == {"spooled": 1200}
    assert outcomes(harness.handle(REPLAY)) == {"spooled": 1200}
    up(harness)
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 1200}
    assert values(harness.receiver.points) == list(range(1200))
    assert harness.handle(REPLAY)["status"] == "empty"
    assert keys(redis_server) == set()


def test_dead_letters_are_skipped_unless_asked(redis_server: RedisServer) -> None:
    harness = spooling(redis_server)
    harness.receiver.refuse_if = lambda _: ReturnCode.NAMESPACE_ILLEGAL
    assert outcomes(harness.handle(ckafka(point("1"), point(2)))) == {"invalid": 1, "rejected": 1}
    up(harness)
    assert harness.handle(REPLAY)["received"] == 0
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1, "invalid": 1}
    assert outcomes(harness.handle(REPLAY_ALL)) == {"invalid": 1}


def test_a_redis_that_is_gone_leaves_points_undelivered_and_says_so_without_the_password(
    redis_server: RedisServer,
) -> None:
    harness = spooling(redis_server)
    down(harness)
    redis_server.stop()
    report = harness.handle(ckafka(point()))
    assert outcomes(report) == {"undelivered": 1}
    assert "the spool in Redis failed" in report["errors"][0]["message"]
    assert PASSWORD not in json.dumps(report)
    assert PASSWORD_IN_URL not in json.dumps(report)
    redis_server.start()
    assert outcomes(harness.handle(ckafka(point()))) == {"spooled": 1}


def user(server: RedisServer, *rights: str) -> str:
    """Make a user with these rights on the forwarder's keys; the URL it signs in with."""
    server.command("ACL", "SETUSER", "forwarder", "on", ">s3cret", "~mf:*", "-@all", *rights)
    return f"redis://forwarder:s3cret@127.0.0.1:{server.port}"


def test_an_acl_user_needs_only_what_the_documentation_names(redis_server: RedisServer) -> None:
    named = re.search(
        r"An ACL\s+user needs `~mf:\* -@all ([^`]+)`", (ROOT / "docs" / "spool.md").read_text("utf-8")
    )
    assert named is not None
    url = user(redis_server, *named[1].split())
    harness = spooling(redis_server, SPOOL=url, DEDUPE=url)
    down(harness)
    event = ckafka(point(1), point("no number"))
    assert outcomes(harness.handle(event)) == {"spooled": 1, "invalid": 1}
    up(harness)
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1, "invalid": 1}
    with redis_server.client() as client:
        (points,) = client.scan_iter("*points")
        client.xadd(points, {"r": b"no record"})
    report = harness.handle(REPLAY)
    assert (outcomes(report), report["dedupe"]) == ({"invalid": 1}, "redis")


def test_the_error_for_an_acl_user_names_the_rights_that_it_lacks(redis_server: RedisServer) -> None:
    url = user(redis_server, "+auth", "+select", "+ping", "+eval", "+evalsha", "+get", "+set", "+del")
    harness = spooling(redis_server, SPOOL=url)
    down(harness)
    report = harness.handle(ckafka(point(1)))
    assert outcomes(report) == {"undelivered": 1}
    assert any("XADD" in error["message"] for error in report["errors"])


def test_a_full_spool_takes_all_or_nothing(redis_server: RedisServer) -> None:
    spool = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}", max_bytes=400_000)
    records = [SpoolRecord(point(value), "s", None, None, "undelivered", "x" * 300) for value in range(600)]
    spool.write(records, [])
    with pytest.raises(SpoolError, match="full"):
        spool.write(records, records)
    (first, second) = spool.replay(dead_letters=True)
    assert [message.body["value"] for chunk in (first, second) for message in chunk.messages] == list(
        range(600)
    )


@pytest.mark.slow
def test_a_redis_that_the_spool_has_filled_can_be_emptied_by_a_replay(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--maxmemory", "5mb", "--maxmemory-policy", "noeviction") as server:
        harness = spooling(server, BATCH_MAX_POINTS="10000")
        down(harness)
        spooled, report = 0, harness.handle(ckafka())
        while "Redis is full" not in json.dumps(report["errors"]):
            report = harness.handle(ckafka(*map(point, range(500)), first_offset=spooled))
            spooled += report["outcomes"]["spooled"]
        for _ in range(10):
            harness.handle(REPLAY)
            spooled += harness.handle(ckafka(*map(point, range(40)), first_offset=spooled))["outcomes"][
                "spooled"
            ]
        up(harness)
        assert outcomes(harness.handle(REPLAY)) == {"delivered": spooled}
    assert len(harness.receiver.points) == spooled


def test_an_entry_that_is_not_a_record_is_set_aside_and_reported(redis_server: RedisServer) -> None:
    harness = spooling(redis_server)
    down(harness)
    harness.handle(point(1))
    up(harness)
    with redis_server.client() as client:
        (stream,) = client.scan_iter(b"*points")
        client.xadd(stream, {"r": "hello"})
        client.xadd(stream, {"other": "[]"})
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 1, "invalid": 2}
    assert harness.handle(REPLAY)["status"] == "empty"
    with redis_server.client() as client:
        (aside,) = client.scan_iter(b"*aside")
        assert client.xlen(aside) == 2


def test_only_one_replay_runs_at_a_time_and_ends_its_lease(redis_server: RedisServer) -> None:
    spool = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")
    spool.write([SpoolRecord(point(), "s", None, None, "undelivered", "")], [])
    chunks = spool.replay(dead_letters=False)
    next(chunks)
    other = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")
    with pytest.raises(SpoolError, match="another replay"):
        next(other.replay(dead_letters=False))
    chunks.close()
    assert len(next(other.replay(dead_letters=False)).messages) == 1


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            SpoolRecord,
            st.text() | st.integers() | st.lists(st.text()),
            st.text(),
            st.none() | st.text(),
            st.none() | st.integers(0, 10**14),
            st.text(),
            st.text(),
            format=st.none() | st.sampled_from([each.value for each in Format]),
            hint=st.none(),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_are_read_as_they_were_written(redis_server: RedisServer, records: list[SpoolRecord]) -> None:
    spool = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")
    spool.write(records, [])
    for chunk in spool.replay(dead_letters=False):
        assert [(m.body, m.source, m.coordinates, m.time_ms) for m in chunk.messages] == [
            tuple(r)[:4] for r in sorted(records, key=lambda r: r.time_ms or 0)
        ]
        chunk.acknowledge(range(len(records)))


def records(*values: int) -> list[SpoolRecord]:
    return [SpoolRecord(point(value), "s", None, None, "undelivered", "") for value in values]


def replayed(spool: RedisSpool) -> list[int]:
    return [m.body["value"] for chunk in spool.replay(dead_letters=False) for m in chunk.messages]


def test_a_write_whose_answer_is_lost_is_written_once(redis_server: RedisServer) -> None:
    with Proxy(redis_server.port) as proxy:
        spool = RedisSpool(
            parse_redis_url(redis_server.url().replace(str(redis_server.port), str(proxy.port))), b"mf:d{x}"
        )
        spool.write(records(1), [])
        proxy.cut_answer = True
        spool.write(records(2, 3), [])
        assert proxy.accepted == 2
        spool.write(records(2), [])
        assert replayed(spool) == [1, 2, 3, 2]


def test_the_key_that_recognises_a_repeated_write_expires(redis_server: RedisServer) -> None:
    spool = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")
    spool.write(records(1), [])
    with redis_server.client() as client:
        (key,) = client.scan_iter(b"*written:*")
        assert 0 < client.pttl(key) <= 60_000


def test_a_lease_lasts_as_long_as_the_replay_may(redis_server: RedisServer) -> None:
    harness = spooling(redis_server)
    down(harness)
    harness.handle(point(1))
    left_ms: list[int] = []

    def look(_: object) -> None:
        with redis_server.client() as client:
            (key,) = client.scan_iter(b"*replay")
            left_ms.append(client.pttl(key))

    harness.receiver.refuse_if = look
    assert outcomes(harness.handle(REPLAY, time_limit_ms=800_000)) == {"delivered": 1}
    assert 800_000 <= left_ms[0] < 820_000
    assert keys(redis_server) == set()


def test_the_lease_of_a_replay_that_died_runs_out(redis_server: RedisServer) -> None:
    spool = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")
    spool.write(records(1), [])
    died = spool.replay(dead_letters=False, lease_s=0.1)
    next(died)
    time.sleep(0.15)
    assert replayed(RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")) == [1]
    died.close()


@pytest.mark.slow
def test_a_redis_that_hangs_holds_no_replay_past_its_deadline(redis_server: RedisServer) -> None:
    harness = spooling(redis_server, CONCURRENCY="1")
    down(harness)
    assert outcomes(harness.handle(ckafka(*(point(value) for value in range(600))))) == {"spooled": 600}

    def hang(_: object) -> None:
        redis_server.freeze()

    harness.receiver.refuse_if = hang
    with ends_within(5):
        report = harness.handle(REPLAY, time_limit_ms=3000)
    redis_server.thaw()
    assert outcomes(report) == {"delivered": 500}
    assert [error["message"] for error in report["errors"] if "in time" in error["message"]] == [
        error["message"] for error in report["errors"]
    ]
    assert report["errors"]


@pytest.mark.slow
def test_a_redis_that_hangs_keeps_nothing_and_holds_no_event_past_its_deadline(
    redis_server: RedisServer,
) -> None:
    harness = spooling(redis_server)
    down(harness)
    redis_server.freeze()
    with ends_within(3):
        report = harness.handle(ckafka(point()), time_limit_ms=2000)
    redis_server.thaw()
    assert outcomes(report) == {"undelivered": 1}
    assert outcomes(harness.handle(ckafka(point()))) == {"spooled": 1}


@pytest.mark.slow
def test_killed_at_any_moment_of_delivery_or_replay_nothing_is_lost(redis_server: RedisServer) -> None:
    chosen = random.Random(4)
    with Emulator(EmulatorOptions(latency_s=0.003)) as emulator, Nursery() as nursery:
        told = environ(
            RECEIVER_URL=emulator.url, SPOOL=redis_server.url(), BATCH_MAX_POINTS="5", MAX_ATTEMPTS="1"
        )
        for round_ in range(8):
            event = ckafka(*(point(value, f"round{round_}") for value in range(60)), topic=f"t{round_}")
            emulator.fault("code", 1003, times=None, rate=chosen.choice([0.1, 0.5]))
            longest_s = 0.1
            while not nursery.run(told, event, chosen.uniform(0, longest_s)):
                # As fast or slow as the machine is.
                longest_s *= 1.5
            emulator.clear_faults()
            nursery.run(told, REPLAY, chosen.uniform(0, 0.1))
            with redis_server.client() as client:
                client.delete(
                    *client.scan_iter(b"*replay"), b"none"
                )  # the lease of the killed would last as long as it might have
            assert nursery.run(told, REPLAY, 60)
        arrived = {(stored["metricName"], stored["value"]) for stored in emulator.points()}
    assert arrived == {(f"round{round_}", value) for round_ in range(8) for value in range(60)}


def test_its_level_is_what_waits_the_time_of_the_oldest_and_the_dead_letters(
    redis_server: RedisServer,
) -> None:
    spool = RedisSpool(parse_redis_url(redis_server.url()), b"mf:d{x}")
    assert spool.measure() == (0, None, 0)
    with redis_server.client() as client:
        seconds, microseconds = client.time()
    spool.write([SpoolRecord(point(), "s", None, None, "undelivered", "x" * 5000)] * 3, [])
    spool.write([], [SpoolRecord(point(), "s", None, None, "invalid", "x")] * 2)
    level = spool.measure()
    assert 15_000 < level.used_bytes < 40_000
    assert level.dead_letters == 2
    # By the server's clock, which writes the ids.
    assert level.oldest_ms is not None
    assert 0 <= level.oldest_ms - (seconds * 1000 + microseconds // 1000) < 60_000

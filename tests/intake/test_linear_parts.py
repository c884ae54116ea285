"""Every part that an option opens takes time and memory in proportion to what it is given, for points as for texts."""

import gzip
import json
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.put_monitor_data.server import PATHS
from metric_forwarder.put_monitor_data.signing import sign, string_to_sign
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY
from support.harness import Harness, ckafka, make_harness, point
from support.redis_server import RedisServer
from support.scrape_targets import serving_targets

SMALL, TIMES = 500, 16
# A quadratic part would take 256 times as much.
MOST = TIMES**1.2
MB = 2**20
REPLAY = {"Type": "Timer", "TriggerName": "r", "Time": "2026-01-01T00:00:00Z", "Message": '{"replay": true}'}
RULES = json.dumps(
    [
        {"source_labels": ["a", "b"], "regex": "(x*)*;(.*)", "target_label": "c", "replacement": "$2"},
        {"action": "hashmod", "source_labels": ["a"], "modulus": 8, "target_label": "shard"},
        {"action": "labeldrop", "regex": "b|tmp_.*"},
        {"action": "drop", "source_labels": ["c"], "regex": "(a|aa)*z"},
    ]
)
MAPPING = '{"each": "/m", "name": "/n", "value": "/v/*", "labels": ["/l", {"i": "*"}], "time": "/t"}'

# What is measured, once everything that it needs is prepared.
Action = Callable[[], Any]


def quiet(**settings: str) -> Harness:
    harness = make_harness(BATCH_MAX_POINTS="500", NAMESPACE="pc", MAX_ATTEMPTS="1", **settings)
    harness.receiver.keep_nothing()
    harness.handle(ckafka(point(1), point("bad")))
    return harness


def series(count: int) -> list[dict[str, Any]]:
    return [point(number, dimensions={"a": f"x{number}", "b": "y" * 20}) for number in range(count)]


def relabel_points(size: int) -> Action:
    harness, event = quiet(RELABEL=RULES), ckafka(*series(size))
    return lambda: harness.handle(event)


def relabel_text(size: int) -> Action:
    harness = quiet(RELABEL=RULES)
    event = ckafka(point(1, dimensions={"a": "x" * size, "b": "a" * size}))
    return lambda: harness.handle(event)


def map_values(size: int) -> Action:
    harness = quiet(MAPPING=MAPPING)
    event = ckafka(json.dumps({"m": [{"n": "m", "v": [1] * size, "l": {"a": "b"}, "t": 1_767_225_600}]}))
    return lambda: harness.handle(event)


def map_items(size: int) -> Action:
    harness = quiet(MAPPING=MAPPING)
    item = {"n": "m", "v": [1], "l": {"a": "b"}, "t": 1_767_225_600}
    event = ckafka(json.dumps({"m": [item] * size}))
    return lambda: harness.handle(event)


def map_bad_items(size: int) -> Action:
    harness = quiet(MAPPING=MAPPING)
    event = ckafka(json.dumps({"m": [{"n": "m", "v": ["x"], "l": 5}] * size}))
    return lambda: harness.handle(event)


def down(harness: Harness) -> Harness:
    harness.receiver.script.extend([HttpReply(503, {}, b"")] * 1_000)
    return harness


def spool_points(size: int, url: str) -> Action:
    harness, event = down(quiet(SPOOL=url)), ckafka(*series(size))
    return lambda: harness.handle(event)


def replay_points(size: int, url: str) -> Action:
    harness = down(quiet(SPOOL=url))
    harness.handle(ckafka(*series(size)))
    harness.receiver.script.clear()
    harness.clock.sleep(3600)
    return lambda: harness.handle(REPLAY)


def spool_dead_letters(size: int, url: str) -> Action:
    harness, event = quiet(SPOOL=url), ckafka([point("bad")] * size)
    return lambda: harness.handle(event)


def spool_bad_values(size: int, url: str) -> Action:
    harness = quiet(SPOOL=url, MAPPING=MAPPING)
    values = ",".join(["1e400"] * size)
    event = ckafka(f'{{"m": [{{"n": "m", "v": [{values}], "l": {{}}, "t": 1767225600}}]}}')
    return lambda: harness.handle(event)


def request(harness: Harness, data: list[dict[str, Any]], secret_key: str, *, is_gzip: bool) -> Any:
    signed: dict[str, Any] = {
        "secret_id": EXAMPLE_SECRET_ID,
        "region": "gz",
        "timestamp": int(harness.clock.time()),
        "nonce": 5,
    }
    body = {
        "SecretId": EXAMPLE_SECRET_ID,
        "Region": "gz",
        "Timestamp": signed["timestamp"],
        "Nonce": 5,
        "Signature": sign(string_to_sign("POST", PATHS[0], **signed), secret_key),
        "Namespace": "pc",
        "Data": data,
    }
    text = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if is_gzip else {})
    packed = b64encode(gzip.compress(text) if is_gzip else text).decode()
    return {
        "httpMethod": "POST",
        "path": PATHS[0],
        "headers": headers,
        "body": packed,
        "isBase64Encoded": True,
    }


def bridge(size: int, *, is_known: bool, is_gzip: bool) -> Action:
    harness = quiet(BRIDGE_ACCOUNTS="own")
    key = EXAMPLE_SECRET_KEY if is_known else "x" * 32
    event = request(harness, series(size), key, is_gzip=is_gzip)
    reply = harness.application.handle(request(harness, series(1), key, is_gzip=is_gzip), {})
    assert (json.loads(reply["body"])["code"] == 0) == is_known
    return lambda: harness.application.handle(event, {"time_limit_in_ms": 60_000})


PARTS: dict[str, Callable[[int], Action]] = {
    "relabel, many points": relabel_points,
    "relabel, long texts": relabel_text,
    "mapping, many values": map_values,
    "mapping, many items": map_items,
    "mapping, many bad items": map_bad_items,
    "bridge, before authentication": lambda size: bridge(size, is_known=False, is_gzip=False),
    "bridge, before authentication, gzip": lambda size: bridge(size, is_known=False, is_gzip=True),
    "bridge, after authentication": lambda size: bridge(size, is_known=True, is_gzip=False),
    "bridge, after authentication, gzip": lambda size: bridge(size, is_known=True, is_gzip=True),
}
SPOOLED: dict[str, Callable[[int, str], Action]] = {
    "points": spool_points,
    "a replay": replay_points,
    "dead letters": spool_dead_letters,
    "bad values of one item": spool_bad_values,
}


# Takes a size, and returns what is measured.
Make = Callable[[int], Action]


def check_time(make: Make) -> None:
    small = min(seconds(make(SMALL)) for _ in range(3))
    large = min(seconds(make(SMALL * TIMES)) for _ in range(2))
    assert large < MOST * small + 0.05


def check_memory(make: Make) -> None:
    assert peak(make(SMALL * TIMES)) < MOST * peak(make(SMALL)) + 2 * MB


def seconds(action: Action) -> float:
    """Processor time, which a busy machine hardly changes."""
    began = time.process_time()
    action()
    return time.process_time() - began


def peak(action: Action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


pytestmark = pytest.mark.slow
Check = Callable[[Make], None]
of_time_and_memory = pytest.mark.parametrize(
    "check",
    [pytest.param(check_time, id="time", marks=pytest.mark.alone), pytest.param(check_memory, id="memory")],
)


@of_time_and_memory
@pytest.mark.parametrize("part", PARTS)
def test_sixteen_times_as_much_takes_hardly_more_than_sixteen_times_the_time_and_memory(
    part: str, check: Check
) -> None:
    check(PARTS[part])


@of_time_and_memory
@pytest.mark.parametrize("what", SPOOLED)
def test_a_spool_in_files_takes_time_and_memory_in_proportion(
    what: str, check: Check, tmp_path: Path
) -> None:
    folders = iter(range(100))
    check(lambda size: SPOOLED[what](size, (tmp_path / str(next(folders))).as_uri()))


@of_time_and_memory
@pytest.mark.parametrize("what", SPOOLED)
def test_a_spool_in_redis_takes_time_and_memory_in_proportion(
    what: str, check: Check, redis_server: RedisServer
) -> None:
    def make(size: int) -> Action:
        redis_server.command("FLUSHALL")
        return SPOOLED[what](size, redis_server.url())

    check(make)


@of_time_and_memory
def test_a_scrape_takes_time_and_memory_in_proportion(check: Check) -> None:
    with serving_targets() as targets:
        job = json.dumps({"scrape": [targets.url()], "keep": ["m"]})

        def make(size: int) -> Action:
            targets.text = "".join(f'm{{a="{n}"}} 1\nother{{a="{n}"}} 2\n' for n in range(size))
            harness = quiet(SCRAPE_HOSTS="127.0.0.1")
            return lambda: harness.handle({**REPLAY, "Message": job})

        check(make)

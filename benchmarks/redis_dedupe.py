"""Wall time of an event whose points are remembered in Redis, compared with the memory store.

Redis runs on this machine, with a password; the receiver is the emulated one, in its own process. The stores take turns,
event by event, so that other load on the machine affects both.
"""

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.rows import Pair, Row, compare, points_a_second
from metric_forwarder.bootstrap import Application
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, EmulatorOptions, serve
from support.redis_server import RedisServer

TURNS = 5
SERIES = 200
_POINTS = 10_000
CONTEXT = {
    "request_id": "benchmark",
    "time_limit_in_ms": 120_000,
    "namespace": "benchmark",
    "function_name": "dedupe",
}


def rows() -> list[Row]:
    what = "wall time, 10,000 points remembered in Redis, against in memory"
    with TemporaryDirectory() as folder, RedisServer(Path(folder)) as redis, _receiver() as url:
        with_redis, in_memory = _application(url, redis.url()), _application(url, "memory:")
        numbers = count()
        pair = Pair(
            what,
            1 / 0.7,
            lambda: _wall_s(with_redis, _event(next(numbers))),
            lambda: _wall_s(in_memory, _event(next(numbers))),
            lambda redis_s, memory_s: points_a_second(_POINTS, redis_s, memory_s),
        )
        return compare([pair], TURNS)


@contextmanager
def _receiver() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"{ours.recv()}/v2/index.php"
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection) -> None:
    serve(EmulatorOptions(), connection.send)


def _application(receiver_url: str, store: str) -> Application:
    return Application(
        {
            "MF_RECEIVER_URL": receiver_url,
            "MF_SECRET_ID": EXAMPLE_SECRET_ID,
            "MF_SECRET_KEY": EXAMPLE_SECRET_KEY,
            "MF_REGION": "gz",
            "MF_NAMESPACE": "benchmark",
            "MF_BATCH_MAX_POINTS": "30",
            "MF_DEDUPE": store,
            "MF_LOG_LEVEL": "ERROR",
        }
    )


def _event(number: int) -> dict[str, Any]:
    """Make a CKafka event of records of 100 points each, at new offsets."""
    body = [
        {"metricName": "diskusage", "dimensions": {"host": f"host-{number % SERIES}"}, "value": number / 7}
        for number in range(_POINTS)
    ]
    start = time.time_ns() + number
    records = [
        {"topic": "t", "partition": 0, "offset": start + index, "msgKey": "None", "msgBody": json.dumps(body[index : index + 100])}
        for index in range(0, _POINTS, 100)
    ]  # fmt: skip
    return {"Records": [{"Ckafka": record} for record in records]}


def _wall_s(application: Application, event: dict[str, Any]) -> float:
    started = time.perf_counter()
    report = application.handle(event, CONTEXT)
    took = time.perf_counter() - started
    assert (report["status"], report["dedupe"] != "degraded") == ("ok", True), report["outcomes"]
    return took

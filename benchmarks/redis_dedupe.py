"""What remembering in Redis costs: one event against the memory store and against Redis, side by side.

Run it with a Redis on this machine that may be written to::

    python benchmarks/redis_dedupe.py redis://:password@127.0.0.1:6379/0

The receiver is the emulated one, in a process of its own. The stores take turns, event by event, so that whatever
else the machine does meets both. Printed are the medians and their ratio.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from metric_forwarder.bootstrap import Application
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, EmulatorOptions, serve

SERIES = 200
CONTEXT = {
    "request_id": "benchmark",
    "time_limit_in_ms": 120_000,
    "namespace": "benchmark",
    "function_name": "dedupe",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Redis against memory as the store for deduplication.")
    parser.add_argument(
        "url", help="redis://… or rediss://…; keys of a function named benchmark/dedupe are written"
    )
    parser.add_argument("--points", type=int, default=10_000, help="in one event")
    parser.add_argument("--repeat", type=int, default=9, help="events for each store")
    parser.add_argument("--batch", type=int, default=30, help="points in a request")
    arguments = parser.parse_args()
    with _receiver() as url:
        stores = {
            name: _application(url, store, arguments.batch) for name, store in _stores(arguments.url).items()
        }
        rates: dict[str, list[float]] = {name: [] for name in stores}
        for turn in range(arguments.repeat + 1):
            for name, application in stores.items():
                rate = _rate(application, _event(arguments.points, turn))
                if turn:  # the first warms up
                    rates[name].append(rate)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    for name, median in medians.items():
        print(f"{name:8} {median:8.0f} points/s   (from {min(rates[name]):.0f} to {max(rates[name]):.0f})")
    print(f"redis / memory: {medians['redis'] / medians['memory']:.0%}")


def _stores(url: str) -> dict[str, str]:
    return {"memory": "memory:", "redis": url}


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


def _application(receiver_url: str, store: str, batch: int) -> Application:
    return Application(
        {
            "MF_RECEIVER_URL": receiver_url,
            "MF_SECRET_ID": EXAMPLE_SECRET_ID,
            "MF_SECRET_KEY": EXAMPLE_SECRET_KEY,
            "MF_REGION": "gz",
            "MF_NAMESPACE": "benchmark",
            "MF_BATCH_MAX_POINTS": str(batch),
            "MF_DEDUPE": store,
            "MF_LOG_LEVEL": "ERROR",
        }
    )


def _event(points: int, turn: int) -> dict[str, Any]:
    """One CKafka event of records of 100 points, at offsets nobody has seen."""
    body = [
        {"metricName": "diskusage", "dimensions": {"host": f"host-{number % SERIES}"}, "value": number / 7}
        for number in range(points)
    ]
    start = time.time_ns() + turn
    records = [
        {"topic": "t", "partition": 0, "offset": start + index, "msgKey": "None", "msgBody": json.dumps(body[index : index + 100])}
        for index in range(0, points, 100)
    ]  # fmt: skip
    return {"Records": [{"Ckafka": record} for record in records]}


def _rate(application: Application, event: dict[str, Any]) -> float:
    started = time.perf_counter()
    report = application.handle(event, CONTEXT)
    took = time.perf_counter() - started
    if report["status"] != "ok" or report["dedupe"] == "degraded":
        sys.exit(f"the event did not go through: {report['outcomes']}, dedupe {report['dedupe']}")
    return float(report["received"] / took)


if __name__ == "__main__":
    main()

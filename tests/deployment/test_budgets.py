"""Budgets that no noise touches: modules, requests, bytes and allocations. Those of time are in ``make bench``."""

import gc
import importlib.util
import json
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from receiver_emulator import Emulator
from support.harness import CONTEXT, ROOT, ckafka, environ, make_harness, point

POINTS = 10_000
SERIES = 1000


def large_event(points: int = POINTS, first_offset: int = 0) -> dict[str, Any]:
    """One point in each message, of a thousand series."""
    bodies = (
        point(number / 7, metric=f"metric_{number % SERIES}", dimensions={"ip": f"10.0.{number % SERIES}.1"})
        for number in range(points)
    )
    return ckafka(*bodies, first_offset=first_offset)


DELIVER = """
import json, sys
import requests
before = set(sys.modules)
import index
report = index.main_handler(json.load(sys.stdin), %r)
json.dump({"status": report["status"], "modules": sorted(set(sys.modules) - before)}, sys.stderr)
"""


def test_jsonschema_loads_no_more_here_than_in_the_function() -> None:
    """With this package it reads a grammar, which takes ten times as long as all else that it loads."""
    assert importlib.util.find_spec("rfc3987_syntax") is None, (
        "left by an older version of .[dev]: remove .venv"
    )


def test_delivering_loads_nothing_heavy_and_few_modules(emulator: Emulator) -> None:
    result = subprocess.run(
        [sys.executable, "-c", DELIVER % CONTEXT],
        input=json.dumps(ckafka(*[point(value) for value in range(30)])),
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), **environ(RECEIVER_URL=emulator.url)},
    )
    told = json.loads(result.stderr)
    assert told["status"] == "ok"
    heavy = (
        "jsonschema",
        "referencing",
        "rpds",
        "attr",
        "tencentcloud",
        "redis",
        "importlib.metadata",
        "pydantic",
    )
    assert [name for name in told["modules"] if name.startswith(heavy)] == []
    ours = [name for name in told["modules"] if name.startswith(("metric_forwarder", "index"))]
    assert len(told["modules"]) - len(ours) <= 10, sorted(set(told["modules"]) - set(ours))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [30, 500])
def test_ten_thousand_points_take_as_few_requests_as_their_number_allows(batch: int) -> None:
    harness = make_harness(BATCH_MAX_POINTS=str(batch))
    report = harness.handle(large_event())
    assert report["outcomes"]["delivered"] == POINTS
    # Each of the four lanes may end in a batch that is not full.
    assert -(-POINTS // batch) <= report["requests"]["sent"] <= -(-POINTS // batch) + 3


def test_no_batch_has_more_bytes_of_points_than_it_may() -> None:
    harness = make_harness(BATCH_MAX_POINTS="10000", BATCH_MAX_BYTES="20000")
    harness.handle(large_event())
    sizes = [len(request.body or b"") for request in harness.receiver.requests]
    head = 300
    assert max(sizes) <= 20_000 + head
    assert sum(sizes) / len(sizes) > 19_000, "batches are filled"


def test_a_point_in_a_request_takes_no_byte_that_json_does_not_need() -> None:
    harness = make_harness()
    harness.handle(ckafka(point(1.5), point(2.5)))
    (request,) = harness.receiver.requests
    wire = b'{"dimensions":{"ip":"10.0.0.1"},"metricName":"diskusage","value":1.5}'
    assert request.body is not None
    assert wire in request.body
    assert len(request.body) - 2 * len(wire) <= 300


@pytest.mark.slow
def test_a_point_takes_few_bytes_of_memory_while_it_is_under_way() -> None:
    harness = make_harness(DEDUPE="off")
    harness.handle(large_event())
    event = large_event(first_offset=POINTS)
    # What the receiver of the tests keeps is not the forwarder's.
    harness.receiver.keep_nothing()
    gc.collect()
    tracemalloc.start()
    try:
        harness.handle(event)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / POINTS <= 900


@pytest.mark.slow
def test_a_warm_instance_keeps_no_more_of_a_point_than_its_identity() -> None:
    harness = make_harness()
    harness.receiver.keep_nothing()
    harness.handle(large_event())
    # A set takes room for many more identities at once, so a single event says little of it.
    events = [large_event(first_offset=turn * POINTS) for turn in range(1, 6)]
    gc.collect()
    tracemalloc.start()
    try:
        for event in events:
            harness.handle(event)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / (len(events) * POINTS) <= 150


COLLECTING = """
import gc, sys
usual = gc.get_threshold()
import index
assert gc.get_threshold() == usual, "an import changes nothing"
index.main_handler({"Type": "Timer", "Message": ""}, {})
print(gc.get_threshold()[0], file=sys.stderr)
"""


def test_the_function_looks_for_cycles_less_often_once_it_is_invoked() -> None:
    result = subprocess.run(
        [sys.executable, "-c", COLLECTING],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), **environ()},
    )
    assert int(result.stderr) >= 10_000

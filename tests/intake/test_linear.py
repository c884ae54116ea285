"""No text costs more than linear time, nor more than a stated multiple of its bytes, whatever it says."""

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.formats.json_text import holds_too_much
from metric_forwarder.formats.payload import MAX_SHARED_BYTES, decode_together, read_payloads
from support.harness import Harness, ckafka, make_harness, outcomes, point
from support.peak_memory import RECEIVER, handle_alone

MB = 2**20
POINT = json.dumps(point())
# How many characters it has is about the argument.
TEXTS: dict[str, Callable[[int], str]] = {
    "a quote that never closes": lambda size: '["' + ",[" * (size // 2),
    "quotes that never close": lambda size: '["' + '\\",' * (size // 3),
    "quotes alone": lambda size: '"' * size,
    "backslashes": lambda size: '"' + "\\" * size,
    "escaped pairs": lambda size: '["' + '\\\\",[[[["' * (size // 10),
    "lists that never close, a line each": lambda size: "[1,\n" * (size // 4),
    "objects that never close, a line each": lambda size: '{"a":1,\n' * (size // 8),
    "numbers one after the other": lambda size: "1 " * (size // 2),
    "objects one after the other": lambda size: "{}" * (size // 2),
    "points one after the other": lambda size: POINT * (size // len(POINT)),
    "points a line each, all broken": lambda size: (POINT[:-1] + "\n") * (size // len(POINT)),
    "points a line each, every other broken": lambda size: (
        f"{POINT}\n{POINT[:-1]}\n" * (size // len(POINT) // 2)
    ),
    "line breaks": lambda size: "[\n" + "\n" * size,
    "spaces": lambda size: "[" + " " * size,
    "brackets on lines": lambda size: "x" + "\n{" * (size // 2),
    "a string of strings": lambda size: json.dumps('["' + '\\",' * (size // 6)),
}


def seconds(action: Callable[[], Any]) -> float:
    """The processor time of the fastest of some runs."""
    found = []
    for _ in range(3):
        began = time.process_time()
        action()
        found.append(time.process_time() - began)
    return min(found)


def read(text: str) -> None:
    decode_together([text])
    for payload in read_payloads(text):
        assert payload.points


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("reader", [holds_too_much, read], ids=["counting", "reading"])
def test_twice_the_text_takes_twice_the_time(name: str, reader: Callable[[str], Any]) -> None:
    small, large = TEXTS[name](100_000), TEXTS[name](400_000)
    # Four times as much; a quadratic reader would take sixteen times as long.
    assert seconds(lambda: reader(large)) < 7 * seconds(lambda: reader(small)) + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_no_text_takes_more_memory_than_a_multiple_of_its_bytes(name: str, tmp_path: Path) -> None:
    text = TEXTS[name](MB)
    taken = handle_alone(ckafka(text), b"", tmp_path, RECEIVER, "up", explains=True)
    assert taken.outcomes
    assert taken.more < 12 * len(text)


def quiet_harness() -> Harness:
    harness = make_harness()
    harness.receiver.keep_nothing()
    return harness


# --- what an envelope shares -----------------------------------------------------------------------------------


def shared(value: str, points: int) -> dict[str, Any]:
    bare = {"metricName": "m", "value": 1}
    return {"namespace": "pc", "dimensions": {"a": value}, "points": [bare] * points}


@pytest.mark.parametrize(("size", "points"), [(30_000, 1200), (400_000, 12_000), (60_000, 20_000)])
def test_an_envelope_that_shares_more_than_fits_into_memory_is_invalid_before_it_takes_it(
    size: int, points: int
) -> None:
    harness = quiet_harness()
    body = json.dumps(shared("x" * size, points), separators=(",", ":"))
    harness.handle(ckafka("x"))
    tracemalloc.start()
    try:
        report = harness.handle(ckafka(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcomes(report) == {"invalid": points}
    assert report["errors"][0]["rule"] == "size"
    assert "split the points" in report["errors"][0]["message"]
    assert peak < 30 * MB + 12 * len(body)


def test_an_envelope_may_share_as_much_as_its_bound() -> None:
    points = 1000
    value = "x" * (MAX_SHARED_BYTES // points - 10)
    assert outcomes(quiet_harness().handle(ckafka(shared(value, points)))) == {"delivered": points}


@pytest.mark.slow
def test_series_of_large_dimensions_do_not_stay_in_memory_after_their_event() -> None:
    harness = quiet_harness()
    harness.handle(ckafka(point()))
    tracemalloc.start()
    try:
        for turn in range(15):
            bodies = [point(dimensions={"a": f"{turn} {number}" + "x" * 30_000}) for number in range(100)]
            assert outcomes(harness.handle(ckafka(*bodies, first_offset=turn * 100))) == {"delivered": 100}
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 1,500 such series would keep 130 MB if they were counted and not measured.
    assert kept < 20 * MB

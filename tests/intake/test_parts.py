"""An event whose points take much memory is delivered part by part, and is still one event."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest
from support.harness import ROOT, ckafka, make_harness, outcomes


def influx(count: int, tag_bytes: int) -> str:
    """One line of many fields that share a long tag: each point is as long as the tag."""
    return f"m,a={'x' * tag_bytes} " + ",".join(f"f{number}=1" for number in range(count))


@pytest.mark.slow
def test_a_message_of_more_than_a_part_is_delivered_whole() -> None:
    harness = make_harness(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000")
    report = harness.handle(ckafka(influx(6_000, 4_000)))
    assert outcomes(report) == {"delivered": 6_000}
    assert len({wire["metricName"] for _, wire in harness.receiver.points}) == 6_000


@pytest.mark.slow
def test_messages_of_more_than_a_part_keep_their_order_and_their_numbers() -> None:
    harness = make_harness(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000")
    event = ckafka(*(influx(1_500, 4_000).replace("=1", f"={message}") for message in range(8)), "bad")
    report = harness.handle(event)
    assert outcomes(report) == {"delivered": 12_000, "invalid": 1}
    arrived: dict[str, list[float]] = {}
    for _, wire in harness.receiver.points:
        arrived.setdefault(wire["metricName"], []).append(float(wire["value"]))
    assert len(arrived) == 1_500
    assert all(values == list(map(float, range(8))) for values in arrived.values())
    assert outcomes(harness.handle(event)) == {"duplicate": 12_000, "invalid": 1}


@pytest.mark.slow
def test_nothing_passes_an_undelivered_point_of_an_earlier_part() -> None:
    harness = make_harness(
        BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", CONCURRENCY="1", MAX_ATTEMPTS="1"
    )
    event = ckafka(*(influx(1_500, 4_000).replace("=1", f"={message}") for message in range(8)))
    first: list[bool] = []

    def fail_once(_: Any) -> ReturnCode | None:
        first.append(True)
        return ReturnCode.TOO_MANY_REQUESTS if len(first) == 1 else None

    harness.receiver.refuse_if = fail_once
    # After a refused first request an instance is slow for some minutes.
    report = harness.handle(event, time_limit_ms=900_000)
    left = report["outcomes"]["undelivered"]
    assert left == 8 * (left // 8) > 0, "all later points of these series wait"
    assert report["outcomes"]["delivered"] == 12_000 - left
    assert outcomes(harness.handle(event)) == {"duplicate": 12_000 - left, "delivered": left}


@pytest.mark.slow
def test_after_a_part_was_halted_the_later_parts_of_the_event_are_not_tried() -> None:
    harness = make_harness(
        BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", MAX_ATTEMPTS="1", CONCURRENCY="1"
    )
    harness.receiver.script.extend([HttpReply(503, {}, b"")] * 100)
    event = ckafka(*(influx(1_500, 4_000).replace("=1", f"={message}") for message in range(8)))
    report = harness.handle(event)
    assert outcomes(report) == {"undelivered": 12_000}
    assert report["requests"]["sent"] == 1


@pytest.mark.slow
def test_what_was_rejected_in_one_part_is_not_sent_again_after_a_later_part_was_undelivered() -> None:
    def message(namespace: str) -> dict[str, Any]:
        points = [{"metricName": f"m{number}", "value": 1} for number in range(1_500)]
        return {"namespace": namespace, "dimensions": {"a": "x" * 4_000}, "points": points}

    harness = make_harness(BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", MAX_ATTEMPTS="1")
    namespaces: list[str] = []

    def refuse(request: PutRequest) -> ReturnCode | None:
        namespaces.append(request.namespace)
        return ReturnCode.NAMESPACE_ILLEGAL if request.namespace == "gone" else ReturnCode.NOT_READY

    harness.receiver.refuse_if = refuse
    event = ckafka(*[message("gone")] * 4, *[message("pc")] * 4)
    assert outcomes(harness.handle(event)) == {"rejected": 6_000, "undelivered": 6_000}
    namespaces.clear()
    assert outcomes(harness.handle(event)) == {"rejected": 6_000, "undelivered": 6_000}
    assert set(namespaces) == {"pc"}


@pytest.mark.slow
def test_undelivered_points_of_each_part_are_spooled_with_its_dead_letters(tmp_path: Path) -> None:
    harness = make_harness(
        BATCH_MAX_POINTS="500", BATCH_MAX_BYTES="1000000", SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1"
    )
    harness.receiver.script.extend([HttpReply(503, {}, b"")] * 100)
    bodies = [influx(1_500, 4_000).replace("=1", f"={message}") + "\nbad" for message in range(8)]
    assert outcomes(harness.handle(ckafka(*bodies))) == {"spooled": 12_000, "invalid": 8}
    lines = [
        json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()[1:]
    ]
    assert len([line for line in lines if line["outcome"] == "invalid"]) == 8
    assert len(lines) == 12_008


MEASURE = """
import contextlib, io, re, sys
from pathlib import Path
from metric_forwarder.clients.http import Failure, Fault
from support.harness import ckafka, make_harness, make_remote_write_harness, point

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

SHAPES = {
    "fields that share a tag": lambda size: "m,a=" + "x" * 2_000 + " " + ",".join(f"f{n}=1" for n in range(size // 9)),
    "short lines": lambda size: "m 1\\n" * (size // 4),
    "short series": lambda size: "".join(f'm{{a="{n}"}} 1\\n' for n in range(size // 16)),
}
shape, destination, spool, size = sys.argv[1:]
settings = {"MAX_ATTEMPTS": "1", "BATCH_MAX_POINTS": "500"} | ({"SPOOL": Path(spool).as_uri()} if spool else {})
harness = (make_harness if destination == "receiver" else make_remote_write_harness)(**settings)
(harness.receiver if destination == "receiver" else harness.prometheus).send = lambda request, timeout_s: Failure(Fault.UNREACHABLE, "down")
with contextlib.redirect_stdout(io.StringIO()):
    # What is loaded with the first event is there.
    harness.handle(ckafka(point(1), point("bad")))
before = peak_kb()
event = ckafka(*[SHAPES[shape](int(size) // 4)] * 4)
with contextlib.redirect_stdout(io.StringIO()):
    harness.handle(event)
print((peak_kb() - before) / 1024)
"""
MB = 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured as Linux tells it")
@pytest.mark.parametrize(
    ("shape", "destination", "is_spooling"),
    [
        ("fields that share a tag", "remote write", False),
        ("short series", "remote write", True),
        ("short lines", "receiver", True),
    ],
)
def test_the_peak_is_at_most_80_mb_and_12_times_the_event_while_nothing_can_be_delivered(
    tmp_path: Path,
    shape: str,
    destination: str,
    is_spooling: bool,  # noqa: FBT001 - a parameter
    record_property: Callable[[str, object], None],
) -> None:
    spool = str(tmp_path / "spool") if is_spooling else ""
    program = [sys.executable, "-c", MEASURE, shape, destination, spool, str(MB // 4)]
    path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
    done = subprocess.run(program, capture_output=True, text=True, env={"PYTHONPATH": path}, check=True)
    grown_mb = float(done.stdout)
    record_property("MB", round(grown_mb))
    # A function with its packages takes 28 MB before its first event.
    assert grown_mb <= 80 - 28 + 12 / 4

"""What a spool costs in memory, measured as the platform measures it: the most that a process of its own ever held."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.spool.spool_file import FORMAT
from support.harness import ROOT

MEASURE = """
import contextlib, hashlib, io, json, os, re, sys
from collections.abc import Callable
from pathlib import Path
from metric_forwarder.clients.http import Failure, Fault
from support.harness import ckafka, make_harness, outcomes, point

REPLAY = {"Type": "Timer", "TriggerName": "r", "Time": "2026-01-31T08:00:00Z", "Message": '{"replay": true}'}

def peak_kb():
    # What getrusage tells includes the process that this one was forked from.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def lists():
    return ckafka(*[[point(value + n) for n in range(8)] for value in range(6_000)])

def envelope():
    shared = {f"d{n}": "x" * 30 for n in range(90)}
    return ckafka({"dimensions": shared, "points": [{"metricName": "m", "value": "bad"}] * 4_000})

def replay():
    # As older versions wrote it: 5,000 records in a file, however large they are.
    line = json.dumps({"payload": point(1), "source": "s", "coordinates": None, "time_ms": 1, "outcome": "undelivered", "reason": "x" * 13_000}).encode() + b"\\n"
    header = {"format": FORMAT, "count": 5_000, "sha256": hashlib.sha256(line * 5_000).hexdigest()}
    folder.mkdir(exist_ok=True)
    with (folder / "points-000000000000001-old.jsonl").open("wb") as file:
        file.write(json.dumps(header).encode() + b"\\n")
        for _ in range(5_000):
            file.write(line)
    return REPLAY

name, FORMAT, spool, made = sys.argv[1:]
folder = Path(spool)
harness = make_harness(**({"SPOOL": folder.as_uri()} if spool else {}), MAX_ATTEMPTS="1")
harness.receiver.send = lambda request, timeout_s: Failure(Fault.UNREACHABLE, "down")
with contextlib.redirect_stdout(io.StringIO()):
    # What is loaded with the first event is there.
    harness.handle(ckafka(point(1), point("bad")))
made = Path(made)
child = os.fork()
if child == 0:
    # What it takes to make the event is not counted: all that it takes to handle it might fit in there.
    made.write_text(json.dumps({"lists": lists, "envelope": envelope, "replay": replay}[name]()))
    os._exit(0)
os.waitpid(child, 0)
event = json.loads(made.read_text())
before = peak_kb()
with contextlib.redirect_stdout(io.StringIO()):
    report = harness.handle(event)
after = peak_kb()
print(json.dumps([(after - before) / 1024, outcomes(report)]))
"""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured as Linux tells it")


def measure(name: str, folder: Path, *, spools: bool = True) -> tuple[float, dict[str, Any]]:
    """By how many MB an event raises the peak of a warm instance whose receiver is down, and its outcomes."""
    path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
    spool = str(folder / "spool") if spools else ""
    program = [sys.executable, "-c", MEASURE, name, FORMAT, spool, str(folder / "event.json")]
    done = subprocess.run(program, capture_output=True, text=True, env={"PYTHONPATH": path}, check=True)
    grown_mb, outcomes = json.loads(done.stdout.splitlines()[-1])
    return grown_mb, outcomes


@pytest.mark.slow
def test_spooling_the_largest_event_takes_hardly_more_memory_than_redelivering_it(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    without, undelivered = measure("lists", tmp_path, spools=False)
    spooling, spooled = measure("lists", tmp_path)
    assert (undelivered, spooled) == ({"undelivered": 48_000}, {"spooled": 48_000})
    record_property("MB without a spool", round(without))
    record_property("MB with a spool", round(spooling))
    assert spooling < without + 12


@pytest.mark.slow
def test_an_envelope_of_bad_points_takes_no_more_memory_than_its_message_several_times(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    grown_mb, outcomes = measure("envelope", tmp_path)
    record_property("MB", round(grown_mb))
    assert outcomes == {"invalid": 4_000}
    assert grown_mb < 16


@pytest.mark.slow
def test_a_replay_takes_the_memory_of_a_chunk_however_large_a_file_is(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    grown_mb, outcomes = measure("replay", tmp_path)
    record_property("MB", round(grown_mb))
    assert outcomes["spooled"] >= 5_000
    assert grown_mb < 24

"""A replay brings points in the order in which they were written, whatever the clocks of their writers did."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.clock import SystemClock
from metric_forwarder.machine import system_machine
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.store import SpoolRecord
from support.harness import make_remote_write_harness, outcomes, point

REPLAY = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true}',
}


class WrongClock(SystemClock):
    """A wall clock that anybody may set."""

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


def spool_by(clock: WrongClock, folder: Path) -> FileSpool:
    return FileSpool(folder, machine=system_machine(clock))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def record(number: int, time_ms: int | None = None) -> SpoolRecord:
    return SpoolRecord(point(number), "s", f"place{number}", time_ms, "undelivered", "")


def replayed(folder: Path) -> list[int]:
    chunks = FileSpool(folder).replay(dead_letters=False)
    return [message.body["value"] for chunk in chunks for message in chunk.messages]


@pytest.mark.slow
@given(
    steps=st.lists(st.floats(-(10**7), 10**7), min_size=2, max_size=12), restarts=st.sets(st.integers(0, 11))
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_are_replayed_as_they_were_written_however_the_clock_is_set(
    folder: Path, steps: list[float], restarts: set[int]
) -> None:
    clock = WrongClock()
    spool = spool_by(clock, folder)
    for number, step in enumerate(steps):
        clock.now = max(0.0, clock.now + step)
        if number in restarts:
            spool = spool_by(clock, folder)
        spool.write([record(number)], [])
    assert replayed(folder) == list(range(len(steps)))
    for path in folder.iterdir():
        path.unlink()


def test_an_instance_keeps_its_order_though_what_it_wrote_was_replayed_meanwhile(folder: Path) -> None:
    clock = WrongClock()
    spool = spool_by(clock, folder)
    spool.write([record(1)], [])
    for path in folder.iterdir():
        path.unlink()
    clock.now -= 3600
    spool.write([record(2)], [])
    clock.now -= 3600
    spool.write([record(3)], [])
    assert replayed(folder) == [2, 3]


def test_instances_with_different_clocks_take_turns_in_the_order_of_their_writes(folder: Path) -> None:
    behind, ahead = (spool_by(WrongClock(1_767_225_600.0 + skew), folder) for skew in (-900, 900))
    for number in range(6):
        (ahead if number % 2 == 0 else behind).write([record(number)], [])
    assert replayed(folder) == list(range(6))


def test_points_are_replayed_by_their_own_time_and_those_of_the_same_time_as_they_were_written(
    folder: Path,
) -> None:
    chosen = random.Random(1)
    times = [chosen.randrange(20) for _ in range(200)]
    spool = FileSpool(folder)
    for start in range(0, 200, 40):
        spool.write([record(n, times[n]) for n in range(start, start + 40)], [])
    assert replayed(folder) == sorted(range(200), key=lambda n: times[n])


def test_files_that_an_older_version_wrote_keep_their_place(folder: Path) -> None:
    spool = spool_by(WrongClock(1_767_225_600.0), folder)
    spool.write([record(2)], [])
    (new,) = folder.glob("points-*")
    # Milliseconds and something random, which is all that names were made of.
    old = spool_by(WrongClock(1_767_225_500.0), folder.parent / "old")
    old.write([record(1)], [])
    (file,) = (folder.parent / "old").glob("points-*")
    file.rename(folder / "points-001767225500000-0123456789ab-0000000.jsonl")
    spool.write([record(3)], [])
    assert replayed(folder) == [1, 2, 3]
    assert new.name.startswith("points-001767225600000-")


@pytest.mark.parametrize("number", ["999999999999999", "999999999999999999", "9" * 100])
def test_a_number_that_no_write_can_have_spoils_no_order(folder: Path, number: str) -> None:
    spool = FileSpool(folder)
    spool.write([record(1)], [])
    (file,) = folder.glob("points-*")
    file.rename(folder / f"points-{number}-odd.jsonl")
    for value in (2, 3, 4):
        FileSpool(folder).write([record(value)], [])
    assert replayed(folder) == [1, 2, 3, 4]


def test_a_second_instance_whose_clock_is_behind_makes_no_earlier_point_refused(folder: Path) -> None:
    harness = make_remote_write_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    now_ms = round(harness.clock.time() * 1000)
    harness.prometheus.script.extend([HttpReply(503, {}, b"")] * 2)
    assert outcomes(harness.handle(point(1, timestamp=now_ms - 2000))) == {"spooled": 1}
    # A later reading, spooled by another instance, into a file whose name comes first.
    assert outcomes(harness.handle(point(2, timestamp=now_ms - 1000))) == {"spooled": 1}
    first, second = sorted(folder.glob("points-*.jsonl"))
    second.rename(folder / first.name.replace("points-0017", "points-0016"))
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 2}

"""Random faults between the forwarder and the receiver: outcomes add up, what is called delivered is there."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver_emulator import Emulator, EmulatorOptions
from receiver_emulator.faults import FAULT_KINDS
from support.chaos import AMBIGUOUS, Arrival, Fault, run_schedules
from support.harness import environ

SCHEDULES = 2000
GROUPS = 8


class ReceiverGround:
    """An emulated receiver."""

    kinds = FAULT_KINDS
    # 502 and 504 answer nothing about the request, but here nothing was stored.
    statuses = (204, 302, 400, 404, 408, 413, 429, 500, 502, 503, 504)
    two_sided = AMBIGUOUS
    repeats = True

    def __init__(self, receiver: Emulator) -> None:
        self._receiver = receiver

    def environ(self, **settings: str) -> dict[str, str]:
        return environ(RECEIVER_URL=self._receiver.url, **settings)

    def time_ms(self, schedule: int, number: int) -> None:
        """It stamps points on arrival."""

    def begin(self, faults: Iterable[Fault]) -> None:
        self._receiver.clear()
        for fault in faults:
            self._receiver.fault(**fault)

    def heal(self) -> None:
        self._receiver.clear_faults()

    def arrived(self, schedule: int) -> Counter[Arrival]:
        """What is stored of a schedule; a request that an earlier one gave up may still come in."""
        return Counter(
            Arrival(stored["metricName"], stored["value"], None)
            for stored in self._receiver.points()
            if stored["dimensions"]["schedule"] == str(schedule)
        )


@contextmanager
def receiver_ground(group: int) -> Iterator[ReceiverGround]:
    with Emulator(EmulatorOptions(seed=group)) as receiver:
        yield ReceiverGround(receiver)


@pytest.mark.slow
def test_no_schedule_of_faults_loses_a_point_or_lies_about_one(tmp_path: Path) -> None:
    assert run_schedules(SCHEDULES, GROUPS, receiver_ground, tmp_path) >= SCHEDULES

"""When more threads start to send, in virtual time."""

import pytest

from metric_forwarder.clock import Deadline
from metric_forwarder.delivery.workers import Workers
from world.scheduler import Process, SimulatedClock, World, machine_of


class UsedClock(SimulatedClock):
    """The clock of an instance that has computed for some seconds already."""

    def process_time(self) -> float:
        return 5 + super().process_time()


class Lanes:
    """The threads of an event, each of which works for a second.

    Attributes:
        started: when each of them began.
        ended: when the event went on.
    """

    def __init__(self, process: Process, *, within_s: float = 60, may_join: bool = True) -> None:
        self.world = World()
        self.started: list[float] = []
        self.ended = 0.0
        self.has_run = False
        self._process = process
        self._within_s = within_s
        self._may_join = may_join
        self.world.run(self._run_event)

    def _run_event(self) -> None:
        # No clock begins at zero.
        self.world.sleep(100)
        machine = machine_of(self.world, self._process)._replace(clock=UsedClock(self.world, self._process))
        workers = Workers(self._work, machine, Deadline(machine.clock, 100 + self._within_s))
        self.has_run = workers.run(7, may_join=lambda: self._may_join)
        self.ended = self.world.now - 100

    def _work(self) -> None:
        self.started.append(self.world.now - 100)
        self.world.sleep(1)


def test_while_the_processor_is_idle_the_lanes_double_every_five_milliseconds_up_to_the_most() -> None:
    lanes = Lanes(Process("instance"))
    assert lanes.started == pytest.approx([0, *[0.005] * 1, *[0.01] * 2, *[0.015] * 3], abs=0.001)
    assert lanes.has_run
    assert lanes.ended == pytest.approx(1.015, abs=0.001)


def test_no_other_lane_starts_while_the_processor_is_busy_or_a_request_is_a_probe() -> None:
    busy = Process("instance")
    busy.busy = True
    for lanes in (Lanes(busy), Lanes(Process("instance"), may_join=False)):
        assert lanes.started == pytest.approx([0], abs=0.001)
        assert lanes.ended == pytest.approx(1, abs=0.01)


def test_no_lane_is_waited_for_past_the_deadline() -> None:
    lanes = Lanes(Process("instance"), within_s=0.5)
    assert len(lanes.started) == 7
    assert lanes.ended == pytest.approx(0.5, abs=0.001)


def test_without_a_thread_the_event_is_told_so() -> None:
    starved = Process("instance")
    starved.out_of_threads = True
    lanes = Lanes(starved)
    assert (lanes.has_run, lanes.started) == (False, [])

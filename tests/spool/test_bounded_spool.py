"""No event waits for the spool past its deadline, whatever the spool does; real threads, and stores that really hang."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import pytest

from metric_forwarder.clock import Clock, Deadline, SystemClock
from metric_forwarder.model import Message
from metric_forwarder.spool.bounded import BoundedSpool, BoundedVisit
from metric_forwarder.spool.store import Chunk, SpoolError, SpoolLevel, SpoolRecord
from support.fakes import FakeClock, machine_of
from support.patience import ends_within
from world.scheduler import Process, World
from world.scheduler import machine_of as machine_of_world

RECORD = SpoolRecord({}, "s", None, None, "undelivered", "")
LATE = "the spool did not answer in time"


class Shelf:
    """A store in memory, whose work a test can hold up.

    Attributes:
        work: called before anything is done.
    """

    fixed_s = 0.5
    per_record_s = 0.001

    def __init__(self, work: Callable[[], None] = lambda: None, chunks: int = 3) -> None:
        self.work = work
        self.written: list[SpoolRecord] = []
        self.acknowledged: list[int] = []
        self.began = self.ended = False
        self.lease_s = 0.0
        self._chunks = chunks

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        self.work()
        self.written += [*points, *dead_letters]

    def waiting(self, *, dead_letters: bool) -> int:  # noqa: ARG002 - the port's
        return self._chunks

    def measure(self) -> SpoolLevel:
        return SpoolLevel(0, None, 0)

    def others(self) -> Sequence[str]:
        return ()

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator[Chunk, None, None]:  # noqa: ARG002 - the port's
        self.began, self.lease_s = True, lease_s
        try:
            for _ in range(self._chunks):
                self.work()
                yield ShelfChunk(self)
        finally:
            self.ended = True


class SlowToMeasure(Shelf):
    def measure(self) -> SpoolLevel:
        self.work()
        return super().measure()

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        self.written += [*points, *dead_letters]


class ShelfChunk:
    dead = False
    messages = (Message("s", {}, receipt=0), Message("s", {}, receipt=1))

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def acknowledge(self, receipts: Sequence[int]) -> None:
        self._shelf.work()
        self._shelf.acknowledged += receipts

    def close(self) -> None:
        self._shelf.work()


class Hanging:
    """Work that does not end until a test lets it go."""

    def __init__(self) -> None:
        self._let_go = threading.Event()
        self.hangs = False

    def __call__(self) -> None:
        if self.hangs:
            self._let_go.wait(60)

    def let_go(self) -> None:
        self.hangs = False
        self._let_go.set()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    work = Hanging()
    yield work
    work.let_go()


def soon(clock: Clock, seconds: float = 0.3) -> Deadline:
    return Deadline(clock, clock.monotonic() + seconds)


def spool_of(*shelves: Shelf, clock: Clock | None = None) -> BoundedSpool:
    remaining = iter(shelves)
    return BoundedSpool(lambda: next(remaining), machine_of(clock or SystemClock()))


def begin(spool: BoundedSpool, deadline: Deadline) -> BoundedVisit:
    """Begin an event."""
    return spool.begin(deadline, 0, lambda _: None)


def begin_with_complaints(spool: BoundedSpool, deadline: Deadline) -> tuple[BoundedVisit, list[str]]:
    """Begin an event; what it complains of is in the list."""
    complaints: list[str] = []
    return spool.begin(deadline, 0, complaints.append), complaints


def write(spool: BoundedSpool, seconds: float = 0.3, points: int = 1, dead_letters: int = 0) -> None:
    """Write so many records in an event of their own."""
    visit = begin(spool, soon(spool.machine.clock, seconds))
    try:
        visit.write(points + dead_letters, [RECORD] * points, [RECORD] * dead_letters)
    finally:
        visit.close()


@pytest.mark.slow
def test_a_write_that_hangs_is_waited_for_until_the_deadline_and_the_next_event_has_a_store_of_its_own(
    hanging: Hanging,
) -> None:
    stuck, fresh = Shelf(hanging), Shelf()
    spool = spool_of(stuck, fresh)
    hanging.hangs = True
    visit, complaints = begin_with_complaints(spool, soon(spool.machine.clock))
    with ends_within(2):
        with pytest.raises(SpoolError, match=LATE):
            visit.write(1, [RECORD], [])
        with pytest.raises(SpoolError, match=LATE):
            visit.write(1, [RECORD], [])
        visit.close()
        assert LATE in complaints[0]
    write(spool, dead_letters=1)
    assert (stuck.written, len(fresh.written)) == ([], 2)


def test_a_spool_that_hangs_for_many_events_keeps_no_more_than_two_threads_and_works_again_afterwards(
    hanging: Hanging,
) -> None:
    shelves = [Shelf(hanging) for _ in range(4)]
    spool = spool_of(*shelves)
    before = set(threading.enumerate())
    hanging.hangs = True
    reasons = []
    for _ in range(5):
        with pytest.raises(SpoolError) as failure:
            write(spool, 0.01)
        reasons.append(str(failure.value))
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    assert [LATE in reason for reason in reasons] == [True, True, False, False, False]
    assert "earlier events" in reasons[-1]
    hanging.let_go()
    for thread in started:
        thread.join(30)
    write(spool, 5)
    assert sum(len(shelf.written) for shelf in shelves) == 3


def test_a_spool_that_hung_gets_a_moment_to_end_its_work_before_it_is_refused() -> None:
    """Between events the instance stands still: without this, a thread would never end if each event is refused at once."""
    world = World()
    shelves = [Shelf(lambda: world.sleep(0.7)), Shelf(lambda: world.sleep(0.7)), Shelf()]
    process = Process("instance")

    def three_events() -> None:
        remaining = iter(shelves)
        spool = BoundedSpool(lambda: next(remaining), machine_of_world(world, process))
        for _ in range(2):
            with pytest.raises(SpoolError, match=LATE):
                write(spool, 0.3)
        write(spool, 0.3)

    def run() -> None:
        world.spawn("events", three_events, process)
        world.sleep(10)

    world.run(run)
    assert [len(shelf.written) for shelf in shelves] == [1, 1, 1]


def test_a_spool_that_takes_long_to_measure_is_measured_once_at_a_time_and_keeps_taking_points(
    hanging: Hanging,
) -> None:
    slow, fresh = SlowToMeasure(hanging), Shelf()
    spool = spool_of(slow, fresh)
    hanging.hangs = True
    with ends_within(2):
        for _ in range(4):
            assert spool.measure(soon(spool.machine.clock, 0.01)) is None
            write(spool)
    assert len(fresh.written) == 4
    (measuring,) = [thread for thread in threading.enumerate() if thread.name == "spool-level"]
    hanging.let_go()
    measuring.join(10)
    assert spool.measure(soon(spool.machine.clock)) == SpoolLevel(0, None, 0)


def test_a_store_that_fails_says_so_and_is_kept(hanging: Hanging) -> None:
    def fail() -> None:
        raise SpoolError("the disk is on fire")

    shelf = Shelf(fail)
    spool = spool_of(shelf)
    with pytest.raises(SpoolError, match="on fire"):
        write(spool)
    shelf.work = hanging
    write(spool)
    assert len(shelf.written) == 1


def test_an_acknowledgement_is_not_waited_for_before_the_end_and_what_came_together_is_written_together(
    hanging: Hanging,
) -> None:
    shelf = Shelf(hanging)
    spool = spool_of(shelf)
    visit, complaints = begin_with_complaints(spool, soon(spool.machine.clock, 30))
    chunk = next(visit.chunks(dead_letters=False))
    hanging.hangs = True
    with ends_within(1):
        for receipt in range(100):
            chunk.acknowledge([receipt])
        chunk.close()
    hanging.let_go()
    visit.close()
    assert complaints == []
    assert shelf.acknowledged == list(range(100))
    assert shelf.ended


@pytest.mark.slow
def test_acknowledgements_that_were_not_written_in_time_are_reported(hanging: Hanging) -> None:
    shelf = Shelf(hanging)
    spool = spool_of(shelf, Shelf())
    visit, complaints = begin_with_complaints(spool, soon(spool.machine.clock))
    chunk = next(visit.chunks(dead_letters=False))
    hanging.hangs = True
    for receipt in range(20):
        chunk.acknowledge([receipt])
    with ends_within(2):
        visit.close()
        (failure,) = complaints
        assert LATE in failure


def test_acknowledgements_that_cannot_be_written_are_reported_once() -> None:
    shelf = Shelf()
    spool = spool_of(shelf)
    visit, complaints = begin_with_complaints(spool, soon(spool.machine.clock, 5))
    chunk = next(visit.chunks(dead_letters=False))

    def fail() -> None:
        raise SpoolError("the disk is full")

    shelf.work = fail
    for receipt in range(20):
        chunk.acknowledge([receipt])
    visit.close()
    assert complaints == ["the disk is full"]


def test_a_defect_in_a_store_is_raised_and_not_reported_as_a_failing_spool() -> None:
    shelf = Shelf()
    spool = spool_of(shelf)
    visit = begin(spool, soon(spool.machine.clock, 5))
    chunk = next(visit.chunks(dead_letters=False))

    def fail() -> None:
        raise ZeroDivisionError

    shelf.work = fail
    chunk.acknowledge([0])
    with pytest.raises(ZeroDivisionError):
        visit.close()


def test_a_replay_does_not_begin_a_chunk_without_time_for_it() -> None:
    clock = FakeClock()
    shelf = Shelf()
    visit, complaints = begin_with_complaints(spool_of(shelf, clock=clock), soon(clock, 3))
    seen = 0
    for _ in visit.chunks(dead_letters=False):
        seen += 1
        clock.sleep(1.2)
    visit.close()
    assert complaints == []
    assert (seen, shelf.ended) == (2, True)


def test_a_long_event_keeps_no_more_than_a_second_for_a_last_chunk() -> None:
    clock = FakeClock()
    visit = begin(spool_of(Shelf(), clock=clock), soon(clock, 100))
    chunks = visit.chunks(dead_letters=False)
    next(chunks)
    clock.sleep(98.9)
    next(chunks)
    clock.sleep(0.2)
    assert list(chunks) == []
    visit.close()


def test_a_replay_expects_of_a_chunk_what_the_last_one_took() -> None:
    clock = FakeClock()
    shelf = Shelf(lambda: clock.sleep(2))
    visit = begin(spool_of(shelf, clock=clock), soon(clock, 12))
    assert sum(1 for _ in visit.chunks(dead_letters=False)) == 2
    visit.close()


def test_a_lease_outlives_the_deadline() -> None:
    clock = FakeClock()
    shelf = Shelf()
    visit = begin(spool_of(shelf, clock=clock), soon(clock, 500))
    next(visit.chunks(dead_letters=False))
    visit.close()
    assert 501 < shelf.lease_s < 600


def test_a_visit_that_did_nothing_ends_at_once_and_starts_no_thread() -> None:
    spool = spool_of(Shelf())
    threads = threading.active_count()
    visit, complaints = begin_with_complaints(spool, soon(spool.machine.clock))
    visit.close()
    assert complaints == []
    assert threading.active_count() == threads


def test_the_time_of_a_small_write_is_not_taken_for_that_of_each_record() -> None:
    clock = FakeClock()
    shelf = Shelf(lambda: clock.sleep(0.6))
    spool = spool_of(shelf, clock=clock)
    assert spool.reserve_s(1000) == pytest.approx(1.5)
    write(spool, 5)
    assert 1.5 < spool.reserve_s(1000) < 2


def test_a_slow_store_is_believed_at_once_and_a_fast_one_bit_by_bit() -> None:
    clock = FakeClock()
    shelf = Shelf(lambda: clock.sleep(3))
    spool = spool_of(shelf, clock=clock)
    write(spool, 50, points=1000)
    assert spool.reserve_s(1000) == pytest.approx(3)
    shelf.work = lambda: None
    write(spool, 50, points=1000)
    assert 2.5 < spool.reserve_s(1000) < 3
    for _ in range(50):
        write(spool, 50)
    assert spool.reserve_s(1000) == pytest.approx(1.5, abs=0.01)


@pytest.mark.slow
def test_a_write_that_was_not_waited_for_is_taken_to_be_slower_still(hanging: Hanging) -> None:
    clock = SystemClock()
    spool = spool_of(Shelf(hanging), Shelf(), clock=clock)
    hanging.hangs = True
    with pytest.raises(SpoolError, match=LATE):
        write(spool, 0.6)
    assert spool.reserve_s(1) > 1.1


def test_without_a_thread_the_spool_says_so_and_nothing_raises(starve: Callable[[], None]) -> None:
    clock = SystemClock()
    shelf = Shelf()
    spool = BoundedSpool(lambda: shelf, machine_of(clock))
    visit, complaints = begin_with_complaints(spool, Deadline(clock, clock.monotonic() + 1))
    starve()
    with pytest.raises(SpoolError, match="more memory"):
        visit.write(1, [RECORD], [])
    visit.close()
    assert complaints == []
    assert shelf.written == []

"""A spool that no event waits for past its deadline: a background worker uses the store.

No timeout covers a network file system that hangs, a name server that never answers, or a reply that comes byte by
byte. A worker that hangs is given up, with its store; records that it writes later are recognised by their coordinates.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from metric_forwarder.clients.background import SerialWorker
from metric_forwarder.clock import Deadline
from metric_forwarder.machine import Future, Machine
from metric_forwarder.model import Message
from metric_forwarder.spool.policies import ReplayPolicy, SpoolingPolicy
from metric_forwarder.spool.store import Chunk, SpoolError, SpoolLevel, SpoolRecord, SpoolStore

_T = TypeVar("_T")

# When the time is up, the running job gets this much longer.
_GRACE_S = 0.2
# Read another chunk only if this much time is left (or this share of the event's time, if that is less), and this many times
# as much as the last one took to read: enough to read it, and to send a part of it.
_LEAST_FOR_A_CHUNK_S = 1.0
_LEAST_SHARE = 0.25
_READINGS_FOR_A_CHUNK = 4
# Threads that hang in stores which were given up; each holds what it was to write. With so many, no other is started.
_MOST_STUCK = 2
# A replay's lease lasts this much longer than its deadline, for the rest of the invocation and for another clock.
_LEASE_SLACK_S = 10.0
# The weight of each faster write: a store that has become faster is trusted gradually.
_FORGETTING = 0.2


class BoundedSpool:
    """Lasts while an instance is warm.

    Args:
        make: makes the store; called again when one has been given up.
    """

    def __init__(self, make: Callable[[], SpoolStore], machine: Machine) -> None:
        self._make = make
        self.machine = machine
        self._store: SpoolStore | None = make()
        self._fixed_s, self._per_record_s = self._store.fixed_s, self._store.per_record_s
        self._slowness = 1.0
        self._stuck: list[SerialWorker] = []
        self._measuring: SerialWorker | None = None

    def reserve_s(self, records: int) -> float:
        return self._slowness * self._expected_s(records)

    def begin(self, deadline: Deadline, now_ms: int, complain: Callable[[str], None]) -> "BoundedVisit":
        return BoundedVisit(self, self._current(), deadline, now_ms, complain)

    def _current(self) -> SpoolStore:
        """The store, or another one if it has been given up."""
        if self._store is None:
            self._store = self._make()
        return self._store

    def start_worker(self, deadline: Deadline) -> SerialWorker:
        """Start the thread that works with the store for an event.

        Raises:
            SpoolError: no thread could be started, or earlier ones still hang.
        """
        if len(self._stuck) == _MOST_STUCK:
            # Between events an instance stands still, and no thread goes on.
            self._stuck[0].wait(min(_GRACE_S, max(0.0, deadline.remaining())))
        self._stuck = [worker for worker in self._stuck if worker.is_busy]
        if len(self._stuck) == _MOST_STUCK:
            raise SpoolError(
                "the spool has not answered earlier events yet: look at its file system or its Redis"
            )
        try:
            return SerialWorker("spool", self.machine.tasks)
        except RuntimeError:
            raise SpoolError(
                "no thread could be started to work with the spool: give the function more memory"
            ) from None

    def give_up(self, worker: SerialWorker) -> None:
        """Give up the worker that hangs, with its store."""
        self._store = None
        self._stuck.append(worker)

    def measure(self, deadline: Deadline) -> SpoolLevel | None:
        """How full the spool is; None if the store does not answer in time, or still measures for an earlier event.

        Nothing depends on it: a store that takes long to measure is not one that hangs.
        """
        if self._measuring is not None and self._measuring.is_busy:
            return None
        try:
            worker = self._measuring = SerialWorker("spool-level", self.machine.tasks)
        except RuntimeError:
            return None
        level = worker.submit(self._current().measure)
        worker.dismiss()
        try:
            return level.result(max(_GRACE_S, deadline.remaining()))
        except SpoolError:
            return None
        except TimeoutError:
            # Only the measurement may use it any more.
            self._store = None
            return None

    def learn(self, records: int, took_s: float) -> None:
        """Record how long a write took: a slower store is trusted at once, a faster one gradually."""
        slowness = max(1.0, took_s / self._expected_s(records))
        self._slowness = max(slowness, self._slowness + _FORGETTING * (slowness - self._slowness))

    def _expected_s(self, records: int) -> float:
        return self._fixed_s + records * self._per_record_s


class BoundedVisit:
    """One event's use of the spool.

    Args:
        now_ms: when the event was received, Unix milliseconds.
        complain: called with each error.
    """

    def __init__(
        self,
        spool: BoundedSpool,
        store: SpoolStore,
        deadline: Deadline,
        now_ms: int,
        complain: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._store = store
        self._deadline = deadline
        self._now_ms = now_ms
        self._complain = complain
        self._worker: SerialWorker | None = None
        self._replay: Generator[Chunk, None, None] | None = None
        self._posted: list[Future[None]] = []
        self._given_up = False

    def policy(self, *, keeps_dead_letters: bool = True) -> SpoolingPolicy:
        return SpoolingPolicy(self, self._complain, self._now_ms, keeps_dead_letters=keeps_dead_letters)

    def reserve_s(self, records: int) -> float:
        return self._spool.reserve_s(records)

    def write(self, count: int, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        clock = self._spool.machine.clock
        began = clock.monotonic()
        written = self._submit(partial(self._store.write, points, dead_letters))
        try:
            self._wait(written)
        finally:
            took_s = clock.monotonic() - began
            # A write that was given up takes longer than the wait; how much longer is unknown.
            self._spool.learn(count, 2 * took_s if self._given_up else took_s)

    def replay(self, *, dead_letters: bool) -> Iterator[tuple[Sequence[Message], ReplayPolicy]]:
        try:
            for chunk in self.chunks(dead_letters=dead_letters):
                yield chunk.messages, ReplayPolicy(chunk, self, self._complain, self._now_ms)
        except SpoolError as error:
            self._complain(str(error))

    def chunks(self, *, dead_letters: bool) -> Iterator["BoundedChunk"]:
        """Read the spool chunk by chunk, while there is time for another one; acknowledging does not wait.

        Raises:
            SpoolError: it cannot be read, or not in time, or another replay is running.
        """
        clock = self._spool.machine.clock
        lease_s = self._deadline.remaining() + _LEASE_SLACK_S
        self._replay = self._store.replay(dead_letters=dead_letters, lease_s=lease_s)
        least_s = min(_LEAST_FOR_A_CHUNK_S, self._deadline.remaining() * _LEAST_SHARE)
        needed_s = 0.0
        while self._deadline.remaining() > needed_s:
            began = clock.monotonic()
            chunk = self._wait(self._submit(partial(next, self._replay, None)))
            if chunk is None:
                return
            needed_s = max(least_s, _READINGS_FOR_A_CHUNK * (clock.monotonic() - began))
            yield BoundedChunk(chunk, self.post)

    def post(self, job: Callable[[], None]) -> None:
        """Submit a job; only the end of the visit waits for it."""
        self._posted.append(self._submit(job))

    def close(self) -> None:
        """End the visit; report records that could not be acknowledged."""
        if self._worker is None:
            return
        last = self._submit(self._replay.close if self._replay else _nothing)
        self._worker.dismiss()
        failures = [self._failure(last), *(job.error() for job in self._posted if job.done())]
        for failure in failures:
            if failure is not None and not isinstance(failure, SpoolError):
                raise failure
        for text in dict.fromkeys(str(failure) for failure in failures if failure is not None):
            self._complain(text)

    def _failure(self, last: Future[None]) -> BaseException | None:
        """Wait for the last job; the worker has run the others before it."""
        try:
            self._wait(last)
        except SpoolError as error:
            return error
        return None

    def _submit(self, job: Callable[[], _T]) -> Future[_T]:
        if self._worker is None:
            self._worker = self._spool.start_worker(self._deadline)
        return self._worker.submit(job)

    def _wait(self, future: Future[_T]) -> _T:
        wait_s = 0.0 if self._given_up else max(_GRACE_S, self._deadline.remaining())
        try:
            return future.result(wait_s)
        except TimeoutError:
            if not self._given_up and self._worker is not None:
                self._given_up = True
                self._spool.give_up(self._worker)
            raise SpoolError(
                "the spool did not answer in time: check its file system or its Redis, or raise the function's timeout"
            ) from None


def _nothing() -> None:
    """End a visit that replayed nothing."""


class BoundedChunk:
    """A chunk whose acknowledgements the worker writes; while it is busy, they are collected and written together."""

    def __init__(self, chunk: Chunk, post: Callable[[Callable[[], None]], None]) -> None:
        self._chunk = chunk
        self._post = post
        self._unwritten: deque[Sequence[int]] = deque()

    @property
    def dead(self) -> bool:
        return self._chunk.dead

    @property
    def messages(self) -> Sequence[Message]:
        return self._chunk.messages

    def acknowledge(self, receipts: Sequence[int]) -> None:
        self._unwritten.append(receipts)
        self._post(self._write)

    def close(self) -> None:
        self._post(self._chunk.close)

    def _write(self) -> None:
        receipts: list[int] = []
        while self._unwritten:
            receipts += self._unwritten.popleft()
        if receipts:
            self._chunk.acknowledge(receipts)

"""Threads, locks, queues and chance, which are passed in to the code that needs them, like the clock.

``tests/world`` hands in a machine on which all of these are simulated, so that any schedule can be repeated from a seed.
"""

import os
import queue
import random
import sys
import threading
from collections.abc import Callable
from queue import Empty
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TextIO, TypeVar

from metric_forwarder.clock import Clock, SystemClock

_T = TypeVar("_T")


class Lock(Protocol):
    """A ``threading.Lock``."""

    def acquire(self, *, timeout: float) -> bool: ...

    def release(self) -> None: ...

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Event(Protocol):
    """A flag that threads wait for."""

    def set(self) -> None: ...

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool:
        """Wait for at most this time; return whether it is set."""


class Queue(Protocol):
    """First in, first out, without a bound."""

    def put(self, item: Any) -> None: ...

    def get(self, *, timeout: float | None) -> Any:
        """Return the next item; raises ``Empty`` if none comes within ``timeout`` seconds (None: wait forever)."""


class Tasks(Protocol):
    """Starts threads and makes what they wait for."""

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Run a function in a thread of its own, which never keeps the process alive.

        Raises:
            RuntimeError: no thread could be started.
        """

    def lock(self) -> Lock: ...

    def event(self) -> Event: ...

    def queue(self) -> Queue: ...


class Chance(Protocol):
    """The source of random values."""

    def token(self, size: int) -> bytes:
        """Random bytes that no other instance draws."""

    def below(self, ceiling: float) -> float:
        """A number from 0 to ``ceiling``, uniformly distributed."""


class _Mailbox:
    """Where a thread waits for its next job.

    The timed wait of a ``queue.SimpleQueue`` may never end: where what is left of the time has become negative, CPython 3.10
    to 3.13 waits forever (``Modules/_queuemodule.c``). That of a lock, or of a ``queue.Queue``, ends.
    """

    def __init__(self) -> None:
        self._full = threading.Lock()
        self._full.acquire()
        self._job: tuple[str, Callable[[], None]] | None = None

    def put(self, name: str, run: Callable[[], None]) -> None:
        self._job = name, run
        self._full.release()

    def take(self, timeout_s: float) -> tuple[str, Callable[[], None]] | None:
        """Wait for a job, at most so long (-1: as long as it takes)."""
        if not self._full.acquire(timeout=timeout_s):
            return None
        job, self._job = self._job, None
        return job


class Threads:
    """The tasks of this machine.

    Starting a thread takes three times the processor time of handing a job to a thread that waits, so a thread that has ended
    its job waits for another one. A thread that hangs is not waiting, so it holds up no other job.

    Args:
        kept_s: how long a thread waits; by default longer than a busy instance is idle between two events.
    """

    def __init__(self, kept_s: float = 0.2) -> None:
        self._kept_s = kept_s
        self._lock = threading.Lock()
        # Those of the threads that wait and have no job on its way to them.
        self._idle: list[_Mailbox] = []

    def start(self, name: str, run: Callable[[], None]) -> None:
        with self._lock:
            mailbox = self._idle.pop() if self._idle else None
        if mailbox is None:
            mailbox = _Mailbox()
            threading.Thread(target=self._work, args=(mailbox,), name=name, daemon=True).start()
        mailbox.put(name, run)

    def _work(self, mailbox: _Mailbox) -> None:
        while (job := self._next_job(mailbox)) is not None:
            threading.current_thread().name, run = job
            run()
            # It may hold the points of an event.
            del job, run
            threading.current_thread().name = "waiting"
            with self._lock:
                self._idle.append(mailbox)

    def _next_job(self, mailbox: _Mailbox) -> tuple[str, Callable[[], None]] | None:
        """Wait for a job; None if none came in time."""
        job = mailbox.take(self._kept_s)
        if job is None:
            with self._lock:
                if mailbox in self._idle:
                    self._idle.remove(mailbox)
                    return None
            # One is on its way.
            job = mailbox.take(-1)
        return job

    def lock(self) -> Lock:
        return threading.Lock()

    def event(self) -> Event:
        return threading.Event()

    def queue(self) -> Queue:
        return queue.Queue[Any]()


class SystemChance:
    """The chance of this machine.

    Instances may start from one frozen image, so a token comes from the system, never from a generator seeded there.
    """

    def __init__(self) -> None:
        self._draw = random.Random().random

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def below(self, ceiling: float) -> float:
        return self._draw() * ceiling


def standard_output() -> TextIO:
    """The present stream of this process; runtimes and tests replace it."""
    return sys.stdout


class Machine(NamedTuple):
    """What the parts of an instance need from the machine that it runs on.

    Attributes:
        stdout: gives the stream for log lines; asked for at each line.
    """

    clock: Clock
    tasks: Tasks
    chance: Chance
    stdout: Callable[[], TextIO] = standard_output


def system_machine(clock: Clock | None = None) -> Machine:
    """This machine; another clock may be handed in."""
    return Machine(clock or SystemClock(), Threads(), SystemChance())


class Future(Generic[_T]):
    """The result of a job in another thread: what it will return or raise."""

    def __init__(self, tasks: Tasks) -> None:
        self._finished = tasks.event()
        self._result: _T
        self._error: BaseException | None = None

    def run(self, job: Callable[[], _T]) -> None:
        """Run the job here; ``result`` raises again what it raises."""
        try:
            self._result = job()
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self._error = error
        self._finished.set()
        # What an error was raised through holds its frames: without this, future and error would hold each other.
        del self, job

    def done(self) -> bool:
        return self._finished.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the job has ended, or this time is up; return whether the job has ended."""
        return self._finished.wait(timeout_s)

    def error(self) -> BaseException | None:
        """What the job raised, if it has ended."""
        return self._error

    def result(self, timeout_s: float) -> _T:
        """Return what the job returned, or raise what it raised.

        Raises:
            TimeoutError: it has not ended within ``timeout_s``.
        """
        if not self.wait(timeout_s):
            raise TimeoutError
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            del self


__all__ = [
    "Chance",
    "Empty",
    "Event",
    "Future",
    "Lock",
    "Machine",
    "Queue",
    "SystemChance",
    "Tasks",
    "Threads",
    "standard_output",
    "system_machine",
]

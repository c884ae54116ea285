"""The background worker: a thread that runs jobs one after the other, while callers wait as long as they choose."""

from collections.abc import Callable
from typing import Any, TypeVar

from metric_forwarder.machine import Future, Tasks

_T = TypeVar("_T")


class SerialWorker:
    """Runs jobs in the order in which they were submitted, until it is dismissed.

    A socket's timeout does not cover a name server that never answers. So a caller waits for the future of its job, and only
    as long as it chooses. The thread never keeps the process alive.

    Raises:
        RuntimeError: no thread could be started.
    """

    def __init__(self, name: str, tasks: Tasks) -> None:
        self._tasks = tasks
        self._jobs = tasks.queue()
        self._last: Future[Any] | None = None
        tasks.start(name, self._run)

    @property
    def is_busy(self) -> bool:
        """Whether a job is still running: a job that hangs keeps its thread."""
        return self._last is not None and not self._last.done()

    def wait(self, timeout_s: float) -> None:
        """Wait until its jobs have ended, at most so long."""
        if self._last is not None:
            self._last.wait(timeout_s)

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future(self._tasks)
        self._last = future
        self._jobs.put((future, job))
        return future

    def dismiss(self) -> None:
        """End the thread after the jobs that it has."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (entry := self._jobs.get(timeout=None)) is not None:
            future, job = entry
            future.run(job)

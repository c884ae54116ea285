"""The one background worker: a thread that runs jobs one after the other, each waited for only as long as one chooses."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class SerialWorker:
    """Runs jobs in the order in which they were submitted, until it is dismissed.

    A socket's timeout does not bound a name server that never answers, so the waiting is done here: a caller waits for
    the future of its job as long as it likes. The thread never keeps the process alive.

    Raises:
        RuntimeError: no thread could be started.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._last: Future[Any] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_busy(self) -> bool:
        """Whether a job has not ended yet: one that hangs keeps its thread."""
        return self._last is not None and not self._last.done()

    def submit(self, job: Callable[[], _T]) -> "Future[_T]":
        future: Future[_T] = Future()
        self._last = future
        self._jobs.put((future, job))
        return future

    def dismiss(self) -> None:
        """End the thread after the jobs that it has."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            future, job = entry
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
                future.set_exception(error)

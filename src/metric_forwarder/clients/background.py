"""A thread that runs jobs one after the other, so that nobody waits for one longer than they choose to."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class Courier:
    """Runs jobs in the order in which they came, until it is dismissed.

    A socket's timeout does not bound a name server that never answers, so waiting is done here: whoever submits a
    job waits for its future as long as they like. The thread never keeps the process alive.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, job: Callable[[], _T]) -> "Future[_T]":
        future: Future[_T] = Future()
        self._jobs.put((future, job))
        return future

    def dismiss(self) -> None:
        """End the thread after the jobs it has."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            future, job = entry
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
                future.set_exception(error)

"""The threads that send: one begins, others join while the processor is idle, and none is waited for past the deadline."""

from collections.abc import Callable

from metric_forwarder.clock import Deadline
from metric_forwarder.machine import Machine

# CPU use is sampled over this interval; more workers start only while it is below this share.
_WATCH_S = 0.005
_BUSY = 0.6


class Workers:
    """Runs one function in several threads, until all have returned, one has crashed, or time is up.

    Args:
        work: what each thread does.

    Attributes:
        crash: what one of them raised; a defect, to be raised where they were started.
    """

    def __init__(self, work: Callable[[], None], machine: Machine, deadline: Deadline) -> None:
        self._work = work
        self._clock = machine.clock
        self._tasks = machine.tasks
        self._deadline = deadline
        self._lock = machine.tasks.lock()
        self._running = 0
        self._finished = machine.tasks.event()
        self.crash: BaseException | None = None

    def run(self, most: int, may_join: Callable[[], bool]) -> bool:
        """Start one, and more while ``may_join`` and the processor is idle; False if not even one could start.

        Workers that never wait for a reply would only compete for the processor.
        """
        if not self._start(1):
            return False
        started = 1
        while started < most and not self._finished.is_set() and self._deadline.remaining() > 0:
            if self._is_processor_idle() and may_join():
                more = min(started, most - started)
                if not self._start(more):
                    break
                started += more
        # The deadline's clock decides, which need not be the one by which a wait is measured.
        while not self._finished.wait(self._deadline.remaining()) and self._deadline.remaining() > 0:
            pass
        return True

    def _is_processor_idle(self) -> bool:
        """Watch the workers for a moment."""
        began, busy = self._clock.monotonic(), self._clock.process_time()
        self._finished.wait(min(_WATCH_S, self._deadline.remaining()))
        return self._clock.process_time() - busy <= _BUSY * (self._clock.monotonic() - began)

    def _start(self, count: int) -> bool:
        """Start this many more; False if the instance has no thread left."""
        for _ in range(count):
            with self._lock:
                self._running += 1
            try:
                self._tasks.start("lane", self._run)
            except RuntimeError:
                self._leave()
                return False
        return True

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised where the workers were started
            self.crash = error
        finally:
            self._leave()

    def _leave(self) -> None:
        """The last one that leaves ends the run, and so does one that crashed."""
        with self._lock:
            self._running -= 1
            if self._running == 0 or self.crash is not None:
                self._finished.set()

"""One clock, one heap of (time, sequence) and one running task: a world in which every choice can be repeated.

A thread of an instance is a greenlet. It runs until it waits (for a lock, an event, a queue, a time, a reply), or until the
seed says that another one runs first. Each choice is recorded, so a run can be repeated from the list of its choices, the tape.
A choice of 0 is always the plain one: nothing fails, nothing is delayed. So a tape is made smaller by writing zeros into it.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from queue import Empty
from types import TracebackType
from typing import Any

from greenlet import getcurrent, greenlet

from metric_forwarder.machine import Machine

# Unix seconds at which every world begins.
START = 1_767_225_600.0
# The shortest wait: a clock that stands still would let a loop that waits for it run for ever.
TICK = 1e-6
# A schedule with more switches than this does not come to an end.
MAX_STEPS = 400_000
# How long a task stands still when another one is let in before it.
_PAUSES = (TICK, 0.0005, 0.02, 0.3)


class Killed(GeneratorExit):
    """The process of this task is dead: raised at each switch point, so that its thread ends and does nothing more.

    A generator that is closed on the way out may raise it.
    """


class Violation(Exception):
    """A law of the world was broken.

    Attributes:
        law: its name, see ``oracles``.
        facts: what was seen, for people.
    """

    def __init__(self, law: str, **facts: object) -> None:
        self.law = law
        self.facts = facts
        super().__init__(f"{law}: " + ", ".join(f"{name}={value}" for name, value in facts.items()))


class Process:
    """What can be frozen and killed as one: an instance of the function. Its threads are tasks.

    Attributes:
        skew_s: how far its wall clock is ahead.
        busy: whether its threads compute all the time, so that no more of them are started.
        out_of_threads: whether no thread can be started.
        skew_changed: whether its wall clock has jumped while it ran.
        stood_still: when a thread of it let another one in, and for how long.
        end: what kills it, while it is at work.
        resumed_at: when it was thawed, or a thread of it that hung went on, the last time.
        look_s: how long it computes from one look at the clock to the next, where computing takes time at all.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.skew_s = 0.0
        self.busy = False
        self.out_of_threads = False
        self.skew_changed = False
        self.resumed_at = 0.0
        self.look_s = 0.0
        self.tasks: dict[Task, None] = {}
        self.at_death: list[Callable[[], None]] = []
        self.missed: list[tuple[Task, int]] = []
        self.stood_still: list[tuple[float, float]] = []
        self.end: Callable[[], None] = lambda: None


class Task:
    """One thread; ``is_stuck`` while it hangs in something that has no timeout; ``owner`` is what it was started for."""

    __slots__ = ("greenlet", "is_stuck", "name", "owner", "process", "token", "woken")

    def __init__(self, name: str, process: Process | None) -> None:
        self.name = name
        self.process = process
        self.greenlet: Any = None
        self.token = 0
        self.woken = False
        self.is_stuck = False
        self.owner: Any = None


_Entry = tuple[float, int, "Task | None", Any]


class World:
    """The clock, the tasks and the choices of one run.

    Args:
        seed: where the choices come from.
        tape: choices to repeat; after its end every choice is 0. Without one the seed decides.

    Attributes:
        now: seconds since the world began.
        tape: the choices made so far.
        trace: what happened, a line each; the same seed gives the same lines.
        situations: how often each named situation has occurred.
        switch_one_in: at a switch point another task is let in once in so many times; 0: never.
    """

    def __init__(self, seed: int = 0, tape: Sequence[int] | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        self.tape: list[int] = []
        self.trace: list[str] = []
        self.situations: Counter[str] = Counter()
        self.switch_one_in = 0
        self.steps = 0
        self.most_steps = MAX_STEPS
        self.current: Task | None = None
        self._random = random.Random(seed).random
        self._given = None if tape is None else deque(tape)
        self._heap: list[_Entry] = []
        self._sequence = 0
        self._tokens = 0
        self._hub: Any = None
        self._tasks: dict[Task, None] = {}
        self._failure: BaseException | None = None
        self._stopped = False

    # --- choices -----------------------------------------------------------------------------------------------

    def choose(self, count: int) -> int:
        """A whole number from 0 to below ``count``."""
        given = self._given
        if given is None:
            choice = int(self._random() * count)
        elif given:
            choice = given.popleft() % count
        else:
            choice = 0
        self.tape.append(choice)
        return choice

    def one_in(self, count: int) -> bool:
        """Whether something happens that happens once in so many times."""
        return self.choose(count) == count - 1 if count > 1 else count == 1

    def pick(self, options: Sequence[Any]) -> Any:
        """One of these; the first one is the plain one."""
        return options[self.choose(len(options))]

    def weighted(self, options: Sequence[tuple[Any, int]]) -> Any:
        """One of these, each as likely as its weight says; the first one is the plain one."""
        choice = self.choose(sum(weight for _, weight in options))
        for option, weight in options:
            if choice < weight:
                return option
            choice -= weight
        return options[0][0]

    def token(self, size: int) -> bytes:
        """Bytes that are drawn only once in this world."""
        self._tokens += 1
        return blake2b(b"%d/%d" % (self.seed, self._tokens), digest_size=size).digest()

    # --- what happened -----------------------------------------------------------------------------------------

    def note(self, line: str) -> None:
        """Write a line into the trace."""
        self.trace.append(f"{self.now:.6f} {line}")

    def met(self, situation: str) -> None:
        """Count a situation."""
        self.situations[situation] += 1

    def trace_hash(self) -> str:
        return blake2b("\n".join(self.trace).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

    # --- tasks -------------------------------------------------------------------------------------------------

    def spawn(
        self, name: str, run: Callable[[], None], process: Process | None = None, owner: Any = None
    ) -> Task:
        """Start a task, which belongs to a process or to the world itself; its owner is that of the task that starts it."""
        task = Task(name, process)
        task.owner = owner if owner is not None or self.current is None else self.current.owner
        task.greenlet = greenlet(lambda: self._run_task(task, run), self._hub)
        self._tasks[task] = None
        if process is not None:
            process.tasks[task] = None
        self._push(self.now, task, task.token)
        return task

    def at(self, time: float, job: Callable[[], None]) -> None:
        """Do a job at a time; it must not wait."""
        self._push(max(time, self.now), None, job)

    def after(self, seconds: float, job: Callable[[], None]) -> None:
        """Do a job after so many seconds; it must not wait."""
        self._push(self.now + seconds, None, job)

    def sleep(self, seconds: float) -> None:
        """Let time pass for the task that runs."""
        task = self._entered()
        task.token += 1
        self._push(self.now + max(seconds, TICK), task, task.token)
        self._hub.switch()
        self._entered()

    def hang(self, seconds: float) -> None:
        """Let the task that runs hang for so long in something that has no timeout."""
        task = self._entered()
        task.is_stuck = True
        self.sleep(seconds)
        task.is_stuck = False
        if task.process is not None:
            task.process.resumed_at = self.now

    def park(self, timeout_s: float | None = None) -> bool:
        """Wait until another task wakes this one, or for so many seconds; return whether it was woken."""
        task = self._entered()
        task.token += 1
        task.woken = False
        if timeout_s is not None:
            self._push(self.now + max(timeout_s, TICK), task, task.token)
        self._hub.switch()
        self._entered()
        return task.woken

    def wake(self, task: Task) -> None:
        """Let a parked task go on."""
        task.woken = True
        task.token += 1
        self._push(self.now, task, task.token)

    def point(self) -> None:
        """A place where another task may be let in."""
        task = self._entered()
        if self.switch_one_in and self.one_in(self.switch_one_in):
            pause_s = self.pick(_PAUSES)
            if task.process is not None:
                task.process.stood_still.append((self.now, pause_s))
            self.sleep(pause_s)

    def _entered(self) -> Task:
        """Return the task that runs; its process must be alive."""
        task = self.current
        if task is None or self._stopped or (task.process is not None and task.process.dead):
            raise Killed
        return task

    # --- processes ---------------------------------------------------------------------------------------------

    def freeze(self, process: Process) -> None:
        """Let none of its threads run until it is thawed; time goes on."""
        process.frozen = True

    def thaw(self, process: Process) -> None:
        if process.frozen:
            process.resumed_at = self.now
        process.frozen = False
        missed, process.missed = process.missed, []
        for task, token in missed:
            self._push(self.now, task, token)

    def kill(self, process: Process) -> None:
        """End all its threads where they are; nothing that they do on the way out has an effect."""
        process.dead = True
        self._end(list(process.tasks))
        for job in process.at_death:
            job()

    def die_here(self) -> None:
        """Let the process of the task that runs be killed, if it is at work, before the task goes on."""
        task = self._entered()
        if task.process is not None:
            self.after(0.0, task.process.end)
        self.sleep(0.0)

    def _end(self, tasks: Sequence[Task]) -> None:
        caller = self.current
        for task in tasks:
            task.token += 1
            thread = task.greenlet
            # One that has not begun would raise it here.
            if thread:
                thread.parent = getcurrent()
                self.current = task
                thread.throw(Killed)
            elif task.process is not None:
                task.process.tasks.pop(task, None)
            self._tasks.pop(task, None)
        self.current = caller

    # --- the loop ----------------------------------------------------------------------------------------------

    def run(self, main: Callable[[], None]) -> None:
        """Run a task of the world, and all that come from it, until it returns; then end the others."""
        self._hub = getcurrent()
        ended: list[bool] = []

        def run_main() -> None:
            main()
            ended.append(True)

        self.spawn("main", run_main)
        try:
            while not ended and self._failure is None:
                self._step()
        finally:
            self._stopped = True
            self._end(list(self._tasks))
            self._heap.clear()
        if self._failure is not None:
            raise self._failure

    def _step(self) -> None:
        if not self._heap:
            raise Violation("it comes to rest", stuck=[task.name for task in self._tasks])
        at, _, task, what = heapq.heappop(self._heap)
        if task is None:
            self.now = max(self.now, at)
            what()
            return
        if task.token != what:
            return
        process = task.process
        if process is not None and process.frozen:
            process.missed.append((task, what))
            return
        self.now = max(self.now, at)
        self.steps += 1
        if self.steps > self.most_steps:
            raise Violation("it comes to rest", steps=self.steps, task=task.name)
        self.current = task
        task.greenlet.switch()
        self.current = None

    def _push(self, at: float, task: Task | None, what: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, task, what))

    def _run_task(self, task: Task, run: Callable[[], None]) -> None:
        try:
            if not self._stopped:
                run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the world was started
            if self._failure is None and not self._stopped:
                self._failure = error
        finally:
            task.token += 1
            self._tasks.pop(task, None)
            if task.process is not None:
                task.process.tasks.pop(task, None)


class SimulatedClock:
    """The clocks of a process: one monotonic clock for all, a wall clock of its own."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def monotonic(self) -> float:
        if self._process.look_s:
            self._world.sleep(self._process.look_s)
        return self._world.now

    def time(self) -> float:
        return START + self._world.now + self._process.skew_s

    def process_time(self) -> float:
        return self._world.now if self._process.busy else 0.0

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class SimulatedLock:
    """As ``threading.Lock``; who waits longest is woken first, and anybody may come before."""

    __slots__ = ("_held", "_waiting", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._held = False
        self._waiting: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as in threading
        world = self._world
        world.point()
        until = world.now + timeout if timeout >= 0 else None
        while self._held:
            if not blocking or (until is not None and world.now >= until):
                return False
            task = world.current
            assert task is not None
            self._waiting.append(task)
            world.met("a thread waits for a lock")
            if not world.park(None if until is None else until - world.now) and task in self._waiting:
                self._waiting.remove(task)
        self._held = True
        # Another thread may come while this one holds it.
        world.point()
        return True

    def release(self) -> None:
        self._held = False
        while self._waiting:
            task = self._waiting.popleft()
            if task.process is None or not task.process.dead:
                self._world.wake(task)
                return

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class SimulatedEvent:
    """As ``threading.Event``."""

    __slots__ = ("_is_set", "_waiting", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._waiting: list[Task] = []

    def set(self) -> None:
        self._world.point()
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._world.wake(task)

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        world = self._world
        world.point()
        if self._is_set or (timeout is not None and timeout <= 0):
            return self._is_set
        task = world.current
        assert task is not None
        self._waiting.append(task)
        if not world.park(timeout) and task in self._waiting:
            self._waiting.remove(task)
        return self._is_set


class SimulatedQueue:
    """As ``queue.Queue``."""

    __slots__ = ("_items", "_waiting", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._items: deque[Any] = deque()
        self._waiting: deque[Task] = deque()

    def put(self, item: Any) -> None:
        self._world.point()
        self._items.append(item)
        if self._waiting:
            self._world.wake(self._waiting.popleft())

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - as in queue
        world = self._world
        world.point()
        until = None if timeout is None else world.now + timeout
        while not self._items:
            if not block or (until is not None and world.now >= until):
                raise Empty
            task = world.current
            assert task is not None
            self._waiting.append(task)
            if not world.park(None if until is None else until - world.now) and task in self._waiting:
                self._waiting.remove(task)
        return self._items.popleft()


class SimulatedTasks:
    """The threads of a process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def start(self, name: str, run: Callable[[], None]) -> None:
        self._world.point()
        if self._process.out_of_threads:
            self._world.met("no thread could be started")
            raise RuntimeError("can't start new thread")
        self._world.spawn(f"{self._process.name}/{name}", run, self._process)

    def lock(self) -> SimulatedLock:
        return SimulatedLock(self._world)

    def event(self) -> SimulatedEvent:
        return SimulatedEvent(self._world)

    def queue(self) -> SimulatedQueue:
        return SimulatedQueue(self._world)


class SimulatedChance:
    """Random values of a process: tokens that differ, and choices of the world."""

    _STEPS = 64

    def __init__(self, world: World) -> None:
        self._world = world

    def token(self, size: int) -> bytes:
        return self._world.token(size)

    def below(self, ceiling: float) -> float:
        return ceiling * self._world.choose(self._STEPS) / (self._STEPS - 1)


def machine_of(world: World, process: Process) -> Machine:
    """The machine that a process of this world runs on."""
    return Machine(SimulatedClock(world, process), SimulatedTasks(world, process), SimulatedChance(world))

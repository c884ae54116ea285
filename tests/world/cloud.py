"""The platform: instances that are started, frozen, killed and recycled, and the triggers that bring them events."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from metric_forwarder.errors import ConfigError, DeliveryIncomplete, InstanceBusy, UnknownTrigger
from world.book import Attempt, Book, Event
from world.faults import Faults
from world.scheduler import Process, Violation, World

_REDELIVERY_S = 60.0
# Deliveries after which an event is given up, besides one for each series that fails: each delivery tries one of them alone.
_TRIES_BESIDE_POISON = 6
_KILL_AFTER_S = (0.002, 0.0001, 0.01, 0.05, 0.3, 1.0, 3.0)
_PAUSES_S = (2.0, 0.5, 20.0, 100.0)
# The platform gives an idle instance up after a while.
_MOST_IDLE = 6
# How long a thread may go on after its event has ended, beyond a request's timeout, while its instance is not frozen.
_LINGER_S = 3.0
# How often such a thread may look at the clock, which takes time on a slow processor.
_LOOKS = 300
# What the settings keep back of an invocation's time for the reply.
_KEPT_BACK_S = 1.0


class Handler(Protocol):
    """The function in one instance."""

    def handle(self, event: Any, context: Any) -> Any: ...


class Instance:
    """One instance of the function: a process, and what it runs.

    Attributes:
        running: the invocations that it is at work on, each with what ends it.
    """

    def __init__(self, process: Process, settings: dict[str, str]) -> None:
        self.process = process
        self.settings = settings
        self.handler: Handler | None = None
        self.running: dict[Attempt, Callable[[str], None]] = {}


class Platform:
    """Runs invocations.

    Args:
        make: puts the function into an instance.
        settings: the environment of new and warm instances, at this moment.
        watch: called when an invocation has ended.

    Attributes:
        freezes: whether an instance stands still between invocations.
        shares_instances: whether an instance may get an event while it is at work on another one.
        look_s: see ``Process.look_s``; of all instances.
    """

    def __init__(
        self,
        world: World,
        book: Book,
        faults: Faults,
        *,
        make: Callable[[Instance], Handler],
        settings: Callable[[], dict[str, str]],
        limit_s: float,
        watch: Callable[[Instance, Attempt], None],
    ) -> None:
        self._world = world
        self._book = book
        self._faults = faults
        self._make = make
        self._settings = settings
        self._limit_s = limit_s
        self._watch = watch
        self._idle: list[Instance] = []
        self.instances: list[Instance] = []
        self.freezes = True
        self.shares_instances = False
        self.look_s = 0.0
        self.most_idle = _MOST_IDLE

    def invoke(self, event: Event) -> Attempt:
        """Run one invocation to its end, whatever that is; called by a task of the world."""
        world = self._world
        instance = self._instance()
        process = instance.process
        if not instance.running:
            instance.settings.clear()
            instance.settings.update(self._settings())
            process.busy = self._faults.strikes("busy")
            process.out_of_threads = self._faults.strikes("no threads")
            world.thaw(process)
        settings = dict(instance.settings)
        attempt = Attempt(
            len(self._book.attempts) + 1, event, process.name, self._limit_s, settings, world.now
        )
        self._book.attempts.append(attempt)
        event.attempts.append(attempt)
        attempt.skew_s = process.skew_s
        world.note(f"{process.name} begins {attempt.number} with event {event.number}")
        invoker = world.current
        assert invoker is not None

        def end(how: str) -> None:
            if instance.running.pop(attempt, None):
                attempt.end = how
                attempt.ended = world.now
                world.wake(invoker)

        def run() -> None:
            how = self._handle(instance, attempt)
            end(how)

        def kill() -> None:
            if attempt in instance.running:
                world.met("an instance was killed while it worked")
                world.note(f"{process.name} is killed")
                world.kill(process)
                _end_all(instance)

        process.end = kill
        instance.running[attempt] = end
        world.spawn(f"{process.name}/main", run, process, attempt)
        if self._faults.strikes("kill"):
            world.after(world.pick(_KILL_AFTER_S), kill)
        if self._faults.strikes("pause"):
            self._pause_later(instance, attempt)
        world.park(self._limit_s)
        if attempt in instance.running:
            self._end_at_limit(instance, attempt)
        world.note(f"{process.name} ended {attempt.number}: {attempt.end}")
        self._watch(instance, attempt)
        self._put_away(instance, attempt)
        return attempt

    def _handle(self, instance: Instance, attempt: Attempt) -> str:
        context = {
            "request_id": f"request-{attempt.number}",
            "time_limit_in_ms": round(self._limit_s * 1000),
            "memory_limit_in_mb": 128,
            "tencentcloud_appid": "1250000000",
            "namespace": "default",
            "function_name": "forwarder",
        }
        assert instance.handler is not None
        try:
            attempt.reply = instance.handler.handle(attempt.event.body, context)
        except DeliveryIncomplete as incomplete:
            attempt.report = incomplete.report
            return "raised"
        except (ConfigError, InstanceBusy, UnknownTrigger) as error:
            self._world.met(f"refused: {type(error).__name__}")
            return "refused"
        attempt.report = _report_of(attempt.reply)
        return "returned"

    def _end_at_limit(self, instance: Instance, attempt: Attempt) -> None:
        world = self._world
        instance.running.pop(attempt)
        attempt.end = "time limit"
        attempt.ended = world.now
        names = [task.name for task in instance.process.tasks]
        world.kill(instance.process)
        _end_all(instance)
        world.met("the platform ended an invocation at its limit")
        if not attempt.pauses_s and not _stood_still_at_last(instance.process, attempt):
            raise Violation(
                "an invocation returns before its limit",
                attempt=attempt.number,
                limit_s=self._limit_s,
                threads=names,
            )

    def _pause_later(self, instance: Instance, attempt: Attempt) -> None:
        world = self._world
        pause_s = world.pick(_PAUSES_S)

        def freeze() -> None:
            if attempt.end == "running" and not instance.process.dead:
                for each in instance.running:
                    each.pauses_s += pause_s
                world.met("an instance stood still in the middle of its work")
                world.freeze(instance.process)
                world.after(pause_s, thaw)

        def thaw() -> None:
            if instance.running:
                world.thaw(instance.process)

        world.after(world.pick(_KILL_AFTER_S), freeze)

    def _instance(self) -> Instance:
        """A warm instance, or a new one; where instances are shared, perhaps one that is at work."""
        world = self._world
        at_work = [
            instance for instance in self.instances if instance.running and not instance.process.frozen
        ]
        if self.shares_instances and at_work and world.one_in(2):
            world.met("an instance got two events at once")
            return at_work[-1]
        self._idle = [instance for instance in self._idle if not instance.process.dead]
        if self._idle and not self._faults.strikes("cold start"):
            # The platform takes the one that was used last.
            instance = self._idle.pop()
            world.met("a warm instance")
            return instance
        world.met("a cold start")
        process = Process(f"i{len(self.instances) + 1}")
        process.look_s = self.look_s
        instance = Instance(process, {})
        self.instances.append(instance)
        if self._faults.strikes("clock jump"):
            process.skew_s = world.pick((120.0, -120.0, 4000.0, -4000.0, 30000.0, -30000.0))
        instance.handler = self._make(instance)
        return instance

    def kill_idle(self) -> bool:
        """Kill all instances, if none is at work; return whether they are dead."""
        if any(attempt.end == "running" for attempt in self._book.attempts):
            return False
        for instance in self._idle:
            if not instance.process.dead:
                self._world.kill(instance.process)
        return True

    def _put_away(self, instance: Instance, attempt: Attempt) -> None:
        world, process = self._world, instance.process
        if process.dead or instance.running:
            return
        if self._faults.strikes("recycle"):
            world.met("an idle instance was given up")
            world.kill(process)
            return
        self._idle.append(instance)
        if len(self._idle) > self.most_idle:
            world.kill(self._idle.pop(0).process)
        if self.freezes:
            if process.tasks:
                world.met("an instance was frozen with threads at work")
            world.freeze(process)
        else:
            self._expect_threads_to_end(instance, attempt)

    def _expect_threads_to_end(self, instance: Instance, attempt: Attempt) -> None:
        process = instance.process
        left = list(process.tasks)
        timeout_s = float(attempt.settings.get("MF_REQUEST_TIMEOUT_S", "3"))
        within_s = timeout_s + _LINGER_S + _LOOKS * process.look_s

        def check() -> None:
            alive = [task.name for task in left if task in process.tasks]
            # One that hangs where there is no timeout may keep others, which wait for what it holds.
            is_stuck = any(task.is_stuck for task in process.tasks)
            # Whoever has just gone on needs as much time as after an event.
            goes_on = process.frozen or self._world.now < process.resumed_at + within_s
            if alive and goes_on:
                self._world.after(within_s, check)
            elif alive and not is_stuck and not process.dead:
                raise Violation("no thread outlives its event by long", attempt=attempt.number, threads=alive)

        if left:
            self._world.after(within_s, check)


def _stood_still_at_last(process: Process, attempt: Attempt) -> bool:
    """Whether threads stood still for more than half of the time that is kept back for the reply."""
    limit = attempt.began + attempt.limit_s
    lost_s = sum(
        max(0.0, min(at + pause_s, limit) - max(at, limit - _KEPT_BACK_S))
        for at, pause_s in process.stood_still
    )
    return lost_s > _KEPT_BACK_S / 2


def _end_all(instance: Instance) -> None:
    """End what a killed instance was at work on."""
    for end in list(instance.running.values()):
        end("killed")


def _report_of(reply: Any) -> dict[str, Any] | None:
    if not isinstance(reply, Mapping):
        return None
    if "outcomes" in reply:
        return dict(reply)
    body = reply.get("body")
    if isinstance(body, str) and body.startswith("{"):
        read = json.loads(body)
        return read if "outcomes" in read else None
    return None


def _answer_challenge(event: Event, reply: Any) -> bool:
    """Send the password from now on, if the reply asks for it; some clients do so only then."""
    if "Basic" not in reply["headers"].get("WWW-Authenticate", ""):
        return False
    event.body["headers"]["authorization"] = event.password
    return True


class Triggers:
    """What brings events to the function.

    Attributes:
        retries: how often the platform redelivers an event of CKafka before it gives it up.
    """

    def __init__(self, world: World, platform: Platform, faults: Faults, retries: int) -> None:
        self._world = world
        self._platform = platform
        self._faults = faults
        self._retries = retries
        self._firing = 0
        self.open = 0

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Run a trigger in a task of its own; ``open`` says how many are still at work."""
        self.open += 1

        def run_and_count() -> None:
            run()
            self.open -= 1

        self._world.spawn(name, run_and_count)

    def partition(self, events: list[Event], gap_s: float) -> None:
        """CKafka: one batch after the other; a batch that fails comes again each minute, and blocks the next ones."""
        for event in events:
            self._world.sleep(gap_s)
            self.deliver_in_order(event)

    def deliver_in_order(self, event: Event) -> None:
        tries = 0
        self._perhaps_twice(event)
        while True:
            attempt = self._platform.invoke(event)
            if attempt.end == "returned":
                self._handled(event)
                return
            # While something is broken the tries count; a healed world must get the event through, unless a point in it
            # makes the destination fail.
            fails = event.poisoned_series
            tries += bool(fails) == self._faults.healed
            if tries > (_TRIES_BESIDE_POISON + fails if fails else self._retries):
                self._given_up(event)
                return
            self._world.met("an event of CKafka comes again")
            self._world.sleep(_REDELIVERY_S)

    def _perhaps_twice(self, event: Event) -> None:
        """Deliver an event to a second instance while the first one is at work, as "at least once" allows."""
        if self._faults.strikes("delivered twice"):
            self._world.met("an event was delivered to two instances at once")
            delay_s = self._world.pick((0.001, 0.05, 0.4))

            def deliver() -> None:
                self._world.sleep(delay_s)
                self._platform.invoke(event)

            self.start(f"again {event.number}", deliver)

    def asynchronous(self, event: Event, delay_s: float) -> None:
        """A queued event: two more attempts, a minute apart."""
        self._world.sleep(delay_s)
        self._perhaps_twice(event)
        for attempt_number in range(3):
            if self._platform.invoke(event).end == "returned":
                self._handled(event)
                return
            if attempt_number < 2:
                self._world.met("an asynchronous event comes again")
                self._world.sleep(_REDELIVERY_S)
        self._given_up(event)

    def http(self, event: Event, delay_s: float, retries: int) -> None:
        """An HTTP client: sends the request again after 503, or if it gets no answer."""
        self._world.sleep(delay_s)
        for attempt_number in range(retries + 1):
            attempt = self._platform.invoke(event)
            status = attempt.reply.get("statusCode") if isinstance(attempt.reply, dict) else None
            if attempt.end == "returned" and status == 401:
                if not _answer_challenge(event, attempt.reply):
                    return
                continue
            if attempt.end == "returned" and status != 503:
                self._handled(event)
                return
            if attempt_number < retries:
                self._world.met("an HTTP client sends its request again")
                self._world.sleep(10.0)
        self._given_up(event)

    def timer(self, event: Event) -> Attempt:
        """One firing."""
        self._firing += 1
        if self._firing > 1:
            self._world.met("two replays of a spool side by side")
        attempt = self._platform.invoke(event)
        self._firing -= 1
        if attempt.end == "returned":
            self._handled(event)
        return attempt

    def _handled(self, event: Event) -> None:
        event.state = "handled"
        event.handled_at = self._world.now

    def _given_up(self, event: Event) -> None:
        event.state = "given up"
        event.handled_at = self._world.now
        self._world.met(f"the platform gave an event up: {event.source}")
        self._world.note(f"event {event.number} is given up")

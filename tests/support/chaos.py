"""Random schedules of faults on real sockets, at whatever destination: what a schedule is, and what must hold in each.

Sleeps are shortened, since the order of things matters here and not their length.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from metric_forwarder.bootstrap import Application
from metric_forwarder.clock import SystemClock
from receiver_emulator.faults import FaultKind
from support.harness import ckafka, point, report_of

REDELIVERIES = 20
REDELIVERED_AFTER_S = 60
REPLAY = {"Type": "Timer", "TriggerName": "replay", "Time": "now", "Message": '{"replay": true}'}
# Faults after which nobody can know whether the request was taken.
AMBIGUOUS: frozenset[FaultKind] = frozenset({"reset", "hang", "truncate", "garbage"})
# As many as a report names one by one.
MOST_POINTS = 20

Fault = dict[str, Any]


class HastyClock(SystemClock):
    """The machine's clock; of a sleep only a fiftieth is waited for, and the rest is skipped."""

    def __init__(self) -> None:
        self._skipped_s = 0.0
        self._lock = threading.Lock()

    def skip(self, seconds: float) -> None:
        self._skipped_s += seconds

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        super().sleep(seconds / 50)
        with self._lock:
            # Threads that sleep side by side skip the same time, once.
            self._skipped_s += max(0.0, until - self.monotonic())


class Arrival(NamedTuple):
    """A point as the destination holds it; ``time_ms`` is None where that carries no times."""

    metric: str
    value: float
    time_ms: int | None


class Ground(Protocol):
    """A destination, what can go wrong on the way there, and what it holds."""

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        """The faults it knows."""

    @property
    def statuses(self) -> tuple[int, ...]:
        """HTTP statuses that may come instead of its answer."""

    @property
    def two_sided(self) -> frozenset[FaultKind]:
        """The faults that may befall a request after it was processed."""

    @property
    def repeats(self) -> bool:
        """Whether a point that is sent twice is there twice."""

    def environ(self, **settings: str) -> dict[str, str]:
        """The settings that lead there, and those given."""

    def time_ms(self, schedule: int, number: int) -> int | None:
        """The time of a schedule's point, of which the numbers are the order; None: it has none."""

    def begin(self, faults: Iterable[Fault]) -> None:
        """What the next requests meet."""

    def heal(self) -> None:
        """Nothing goes wrong any more."""

    def arrived(self, schedule: int) -> Counter[Arrival]:
        """What it holds of a schedule, by now."""


class Told(NamedTuple):
    """What a report says about a point that is neither delivered nor a duplicate."""

    outcome: str
    rule: str

    @property
    def is_loss(self) -> bool:
        """Whether the point may be missing for good.

        Refused for good, or held by wish. But refused as ``out of order`` a point is there: as long as it is not told
        to be lost, none of its series is sent past it.
        """
        return self.outcome == "uncertain" or (self.outcome == "rejected" and self.rule != "out of order")


def run_schedules(
    count: int, groups: int, make_ground: Callable[[int], AbstractContextManager[Ground]], folder: Path
) -> int:
    """Run the schedules, in groups side by side, since most of the time is spent waiting for answers that do not come."""
    each = -(-count // groups)

    def run_group(group: int) -> int:
        chosen = random.Random(group)
        with make_ground(group) as ground:
            for number in range(group * each, (group + 1) * each):
                Schedule(ground, chosen, number, folder / str(number)).run()
        return each

    with ThreadPoolExecutor(groups) as pool:
        return sum(pool.map(run_group, range(groups)))


class Schedule:
    """One event on its way through faults, and then without any until nothing of it waits."""

    def __init__(self, ground: Ground, chosen: random.Random, number: int, folder: Path) -> None:
        ambiguous = chosen.random() < 0.5
        self._ground = ground
        self._number = number
        self._faults = random_faults(ground, chosen, ambiguous=ambiguous)
        self._spooling = chosen.random() < 0.5
        # The platform may redeliver to another instance, which remembers nothing.
        self._forgets = chosen.random() < 0.2
        self._settings = {
            # Without ambiguous faults a timeout would be one: on a busy machine a short one would strike by itself.
            "REQUEST_TIMEOUT_S": "0.1" if ambiguous else "5",
            "BATCH_MAX_POINTS": str(chosen.choice([1, 3, 30])),
            "CONCURRENCY": str(chosen.choice([1, 4])),
            "MAX_ATTEMPTS": str(chosen.choice([1, 3])),
            "UNCERTAIN": chosen.choice(["resend", "hold"]),
            **({"SPOOL": folder.as_uri()} if self._spooling else {}),
        }
        self._event, self._expected = random_event(ground, chosen, number)
        self._clock = HastyClock()
        self._application = self._make_application()
        self._reports: list[dict[str, Any]] = []

    def run(self) -> None:
        self._ground.begin(self._faults)
        self._deliver(self._event)
        self._check_what_was_told()
        self._ground.heal()
        self._deliver_what_is_left()
        self._check_what_is_there()

    def __str__(self) -> str:
        """How to see it again."""
        faults = json.dumps(self._faults)
        return f"schedule {self._number}: {faults} {self._settings}, forgets: {self._forgets}"

    def _make_application(self) -> Application:
        return Application(self._ground.environ(**self._settings), self._clock)

    def _deliver(self, event: dict[str, Any]) -> None:
        assert len(self._reports) < REDELIVERIES, self
        if self._forgets:
            self._application = self._make_application()
        if self._reports:
            self._clock.skip(REDELIVERED_AFTER_S)
        self._reports.append(report_of(self._application, event))

    def _deliver_what_is_left(self) -> None:
        """The platform redelivers until nothing is undelivered, and a timer replays until nothing waits.

        On a busy machine even a healthy destination may miss the short time-out of these schedules.
        """
        while self._last["undelivered"]:
            self._deliver(self._event)
        if self._spooling:
            self._deliver(REPLAY)
            while self._last["spooled"]:
                self._deliver(REPLAY)

    @property
    def _last(self) -> dict[str, int]:
        outcomes: dict[str, int] = self._reports[-1]["outcomes"]
        return outcomes

    def _check_what_was_told(self) -> None:
        """What the first report calls delivered is there, and with a spool nothing is undelivered."""
        held = self._ground.arrived(self._number)
        delivered = self._expected.keys() - named(self._reports[0])
        assert len(delivered) == self._last["delivered"], self
        assert {self._expected[source] for source in delivered} <= held.keys(), self
        assert not self._spooling or self._last["undelivered"] == 0, self

    def _check_what_is_there(self) -> None:
        """Nothing is lost but what a report gave up, point by point, and nothing is there besides."""
        held = self._ground.arrived(self._number)
        given_up = {
            source for report in self._reports for source, told in named(report).items() if told.is_loss
        }
        lost = {source for source, arrival in self._expected.items() if arrival not in held}
        assert lost <= given_up, self
        assert held.keys() <= set(self._expected.values()), self
        if not (self._ground.repeats and self._may_have_repeated):
            assert set(held.values()) <= {1}, self

    @property
    def _may_have_repeated(self) -> bool:
        """Whether a point may honestly have been sent again that was there.

        Where time-outs are short, a busy machine makes a request unanswered that met no fault.
        """
        kinds = {fault["kind"] for fault in self._faults}
        unanswered = any("no answer" in report["requests"]["returnCodes"] for report in self._reports)
        return self._forgets or unanswered or bool(kinds & (AMBIGUOUS | {"delay"}))


def named(report: dict[str, Any]) -> dict[str, Told]:
    """What a report says about each of its points that is neither delivered nor a duplicate."""
    assert report["errorsOmitted"] == 0
    return {error["source"]: Told(error["outcome"], error["rule"]) for error in report["errors"]}


def random_event(
    ground: Ground, chosen: random.Random, schedule: int
) -> tuple[dict[str, Any], dict[str, Arrival]]:
    """An event of valid and invalid points in any order, and what must arrive of it: source → arrival."""
    topic = f"chaos{schedule}"
    bodies: list[Any] = []
    expected = {}
    numbers = list(range(chosen.randint(1, MOST_POINTS)))
    chosen.shuffle(numbers)
    for number in numbers:
        metric = f"m{chosen.randint(0, 4)}"
        if chosen.random() < 0.1:
            bodies.append(chosen.choice(["{", point("1"), {"metricName": metric, "dimensions": {}}]))
            continue
        time_ms = ground.time_ms(schedule, number)
        expected[f"{topic}/0@{len(bodies)}"] = Arrival(metric, number, time_ms)
        members = {} if time_ms is None else {"timestamp": time_ms}
        bodies.append(point(number, metric, dimensions={"schedule": str(schedule)}, **members))
    return ckafka(*bodies, topic=topic), expected


def random_faults(ground: Ground, chosen: random.Random, *, ambiguous: bool) -> list[Fault]:
    kinds = [kind for kind in ground.kinds if ambiguous or kind not in AMBIGUOUS]
    return [random_fault(ground, chosen, chosen.choice(kinds)) for _ in range(chosen.randint(1, 5))]


def random_fault(ground: Ground, chosen: random.Random, kind: FaultKind) -> Fault:
    fault: Fault = {"kind": kind, "times": chosen.choice([1, 1, 2, 5]), "rate": chosen.choice([1.0, 0.5])}
    if kind == "code":
        fault["value"] = chosen.randint(1000, 1021)
    elif kind == "status":
        fault["value"] = chosen.choice(ground.statuses)
        fault["headers"] = chosen.choice(
            [{}, {"Retry-After": "1"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}]
        )
    elif kind in {"delay", "hang"}:
        fault["value"] = chosen.choice([0.01, 0.03]) if kind == "delay" else 0.2
    if kind in ground.two_sided:
        fault["when"] = chosen.choice(["before", "after"])
    return fault

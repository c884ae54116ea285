"""What the world knows of a run: what was made, what was tried, what arrived. The laws are judged from this alone."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from metric_forwarder.clients.http import HttpRequest
from metric_forwarder.model import Outcome
from support.remote_write_decoder import decode

_NOTHING = HttpRequest("GET", "", {}, None)
_values = re.compile(r'"value":(\d+)').findall


@dataclass(frozen=True)
class Made:
    """A point that a producer made; its value is its number, so it can be found wherever it arrives.

    Attributes:
        kind: ``good``, ``invalid`` (breaks the schema), ``unknown`` (the receiver knows no such metric) or ``old``.
        series: what its series is called; all points of a series come from one producer, in the order of their numbers.
        has_id: whether it brings an idempotency key.
        has_time: whether it brings a timestamp.
    """

    number: int
    kind: str
    series: str
    has_id: bool
    has_time: bool
    body: dict[str, Any]


@dataclass(eq=False, repr=False)
class Event:
    """A trigger event and all its deliveries.

    Attributes:
        source: ``ckafka``, ``connector``, ``async``, ``http`` or ``replay``.
        has_coordinates: whether its messages have a place that is the same at each delivery.
        state: ``open``, ``handled`` or ``given up``.
        poisoned_series: how many of its series have a point at which the destination always fails.
        is_dated: whether its messages have a time, which a point without one gets.
        password: the header that its client sends once it is asked for it.
    """

    number: int
    source: str
    body: Any
    points: list[Made]
    has_coordinates: bool = True
    state: str = "open"
    attempts: list["Attempt"] = field(default_factory=list)
    handled_at: float | None = None
    poisoned_series: int = 0
    is_dated: bool = False
    password: str = ""


@dataclass(eq=False, repr=False)
class Attempt:
    """One invocation.

    Attributes:
        end: ``running``, ``returned``, ``raised``, ``refused``, ``killed`` or ``time limit``.
        outcomes: of its points, as soon as they are settled.
        pauses_s: how long it was frozen while it ran.
        skew_s: how far the clock of its instance was ahead.
        broken_connections: how often its connection to Redis broke.
        left_in_spool: of a replay, the points whose records were not acknowledged when it had ended.
        in_two_records: points that a replay found in two records, whose outcomes differ if nothing says that they are one.
    """

    number: int
    event: Event
    instance: str
    limit_s: float
    settings: dict[str, str]
    began: float
    ended: float | None = None
    end: str = "running"
    reply: Any = None
    report: dict[str, Any] | None = None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    requests: list["Request"] = field(default_factory=list)
    faults: int = 0
    broken_connections: int = 0
    pauses_s: float = 0.0
    left_in_spool: set[int] = field(default_factory=set)
    skew_s: float = 0.0
    in_two_records: set[int] = field(default_factory=set)

    def settle(self, settled: Iterable[tuple[int, Outcome]]) -> None:
        """Note the outcomes of some of its points."""
        for number, outcome in settled:
            if number in self.outcomes:
                self.in_two_records.add(number)
            self.outcomes[number] = outcome

    @property
    def was_cut_off(self) -> bool:
        """Whether it ended before it could write down what it had done."""
        return self.end in ("running", "killed", "time limit")

    @property
    def degraded(self) -> bool:
        return self.report is not None and self.report["dedupe"] == "degraded"

    def levels(self) -> set[str]:
        return {line["level"] for line in self.log}

    def has_logged(self, event: str) -> bool:
        return any(line["event"] == event for line in self.log)


@dataclass(eq=False, repr=False)
class Request:
    """One request to a destination.

    Attributes:
        answer: ``none`` (no reply was read), ``taken``, ``refused`` or ``failed``.
        acted: whether the destination stored its points.
        refused: why the destination refused it, if it did.
        was_awaited: whether its event was still under way when the answer came.
        answered_at: when the answer came.
        sent: what was sent.
        left: whether it left the instance.
        asked_s: for how long the answer asked for no other request.
        status: the HTTP status of the answer; 0: there was none.
        over_at: when its thread went on, whatever came.
    """

    number: int
    attempt: Attempt | None
    instance: str
    sent_at: float
    points: tuple[int, ...] = ()
    acted: bool = False
    answer: str = "none"
    refused: str = ""
    was_awaited: bool = False
    answered_at: float = 0.0
    sent: HttpRequest = _NOTHING
    left: bool = True
    asked_s: float = 0.0
    status: int = 0
    over_at: float = math.inf

    @property
    def held(self) -> tuple[int, ...]:
        """The points that were sent, wherever the request ended."""
        return self.points or points_of(self.sent)


@dataclass(frozen=True)
class Arrival:
    """A point that the destination stored."""

    number: int
    at: float
    request: Request


class Trouble(NamedTuple):
    """What befell the spool, and so may be the cause of what is said of it."""

    kind: str
    since: float
    until: float


class Book:
    """Everything that happened; it only grows."""

    def __init__(self) -> None:
        self.points: dict[int, Made] = {}
        self.events: list[Event] = []
        self.attempts: list[Attempt] = []
        self.requests: list[Request] = []
        self.arrivals: dict[int, list[Arrival]] = defaultdict(list)
        # Points that the destination refused, each with the reasons.
        self.refusals: dict[int, set[str]] = defaultdict(set)
        # Points at which the destination fails, whenever a request holds one.
        self.poison: set[int] = set()
        # Times at which a store lost what it had been told, or could not be reached.
        self.store_losses: list[float] = []
        # By identity: when the shared store was asked about it, or told of it.
        self.renewals: dict[bytes, list[float]] = defaultdict(list)
        # The identities of each point: two, if it is in two events and nothing says that they are one.
        self.identities: dict[int, set[bytes]] = defaultdict(set)
        self.spool_troubles: list[Trouble] = []
        # Whether two replays of a spool may run at once, and whether idle instances stand still.
        self.has_no_locks = False
        self.freezes = False
        self.healed_at: float | None = None
        # Points that are in two events.
        self.twins: set[int] = set()
        # Numbers of points that are dead letters or wait in the spool when all is at rest.
        self.spooled: set[int] = set()
        self.dead_letters: set[int] = set()

    def open_request(self, attempt: Attempt | None, instance: str, now: float) -> Request:
        request = Request(len(self.requests) + 1, attempt, instance, now)
        self.requests.append(request)
        if attempt is not None:
            attempt.requests.append(request)
        return request

    def trouble_spool(self, kind: str, since: float, lasts_s: float = 0.0) -> None:
        self.spool_troubles.append(Trouble(kind, since, since + lasts_s))

    def attempts_with(self, number: int) -> "list[Attempt]":
        """The invocations that settled a point, or that were to."""
        return [
            attempt
            for attempt in self.attempts
            if number in attempt.outcomes or any(made.number == number for made in attempt.event.points)
        ]

    def arrive(self, number: int, request: Request, now: float) -> Arrival:
        arrival = Arrival(number, now, request)
        self.arrivals[number].append(arrival)
        return arrival


def points_of(request: HttpRequest) -> tuple[int, ...]:
    """The points that a request holds, wherever it ended."""
    if request.body is None:
        return tuple(map(int, _values(unquote_plus(request.url))))
    if request.body.startswith(b"{"):
        return tuple(map(int, _values(request.body.decode())))
    try:
        return tuple(int(value) for each in decode(request.body) for _, value in each.samples)
    except Exception:  # noqa: BLE001 - a request that proves something, and holds no points
        return ()

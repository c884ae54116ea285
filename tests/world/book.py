"""What the world knows of a run: what was made, what was tried, what arrived. The laws are judged from this alone."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from metric_forwarder.model import Outcome


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


@dataclass(eq=False)
class Event:
    """A trigger event and all its deliveries.

    Attributes:
        source: ``ckafka``, ``connector``, ``async``, ``http`` or ``replay``.
        has_coordinates: whether its messages have a place that is the same at each delivery.
        state: ``open``, ``handled`` or ``given up``.
    """

    number: int
    source: str
    body: Any
    points: list[Made]
    has_coordinates: bool = True
    state: str = "open"
    attempts: list["Attempt"] = field(default_factory=list)
    handled_at: float | None = None


@dataclass(eq=False)
class Attempt:
    """One invocation.

    Attributes:
        end: ``running``, ``returned``, ``raised``, ``refused``, ``killed`` or ``time limit``.
        outcomes: of its points, as soon as they are settled.
        pauses_s: how long it was frozen while it ran.
        skew_s: how far the clock of its instance was ahead.
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
    pauses_s: float = 0.0
    skew_s: float = 0.0

    @property
    def was_cut_off(self) -> bool:
        """Whether it ended before it could write down what it had done."""
        return self.end in ("running", "killed", "time limit")

    @property
    def degraded(self) -> bool:
        return self.report is not None and self.report["dedupe"] == "degraded"

    def levels(self) -> set[str]:
        return {line["level"] for line in self.log}


@dataclass(eq=False)
class Request:
    """One request to a destination.

    Attributes:
        answer: ``none`` (no reply was read), ``taken``, ``refused`` or ``failed``.
        acted: whether the destination stored its points.
        refused: why the destination refused it, if it did.
        was_awaited: whether its event was still under way when the answer came.
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


@dataclass(frozen=True)
class Arrival:
    """A point that the destination stored."""

    number: int
    at: float
    request: Request


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
        # Times at which a store lost what it had been told, or could not be reached.
        self.store_losses: list[float] = []
        self.healed_at: float | None = None
        # Numbers of points that are dead letters or wait in the spool when all is at rest.
        self.spooled: set[int] = set()
        self.dead_letters: set[int] = set()

    def open_request(self, attempt: Attempt | None, instance: str, now: float) -> Request:
        request = Request(len(self.requests) + 1, attempt, instance, now)
        self.requests.append(request)
        if attempt is not None:
            attempt.requests.append(request)
        return request

    def arrive(self, number: int, request: Request, now: float) -> Arrival:
        arrival = Arrival(number, now, request)
        self.arrivals[number].append(arrival)
        return arrival
